"""The benchmark's own arithmetic, words and tables. No figure is measured and no time decides."""

from __future__ import annotations

import json
import os
import platform
import random
import socket
import subprocess
import sys
import venv
from collections import Counter
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from bench import __main__ as command_line
from bench import compare, contenders, interpreters, page, peers, runs
from bench.clients import APPLICATION, META, REDIS, TEXT, WIDE_META, Clients, Dialect, Member
from bench.contenders import BenchError, Contender, Cpu, cpu_of
from bench.loads import KEY, Load, Window, broken_promises, quantile, requests
from bench.paced import VALUE_BYTES, Shopper, zipf_keys
from bench.pair import PAIR_SCENARIOS
from bench.report import Bars, Progress, Row, number, table
from bench.results import ALL, SYSTEM, USER, Results
from bench.scenarios import OTHER_SCENARIOS, SCENARIOS, Scenario

from .protocol.helpers import Client

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bench.clients import Exchange

CHECKOUT = Path(__file__).resolve().parent.parent
LINUX = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="reads Linux's /proc")


def row(*pairs: tuple[float, float], **others: object) -> Row:
    made = Row("get16", "CPU per request", "us", **others)  # type: ignore[arg-type]
    for subject, reference in pairs:
        made.add(subject, reference)
    return made


# -- ratios and bars -----------------------------------------------------------------------------


def test_ratio_is_the_median_of_pairs():
    # The ratio of the medians would be 1.5.
    assert row((2, 1), (3, 3), (8, 2)).value == 2


def test_bar_of_its_own_is_held_against_the_subject_alone():
    assert row((30, 1), (10, 1), (20, 1), compare="own", bar=20).value == 20


@pytest.mark.parametrize(
    ("bar", "at_least", "passes"),
    [
        (None, False, None),
        (1.5, False, True),
        (1.49, False, False),
        (1.5, True, True),
        (1.51, True, False),
    ],
)
def test_bar(bar: float | None, at_least: bool, passes: bool | None):
    assert row((3, 2), bar=bar, at_least=at_least).passes == passes


def test_figures_as_json_have_what_is_derived():
    got = row((3, 2), bar=1.6).as_dict()
    assert (got["value"], got["ratios"], got["passes"]) == (1.5, [1.5], True)
    assert (got["subject"], got["reference"], got["unit"]) == ([3], [2], "us")


def test_cost_and_throughput_of_a_window():
    window = Window(2.0, 100_000, (Cpu(user_s=0.3, system_s=0.2),))
    assert window.cpu_per_operation_us == pytest.approx(5.0)
    assert window.user_per_operation_us == pytest.approx(3.0)
    assert window.system_per_operation_us == pytest.approx(2.0)
    assert window.operations_per_s == 50_000


def test_windows_add_up_by_process():
    window = Window(1.0, 10, (Cpu(0.3, 0.2), Cpu(0.1, 0.0)))
    window += Window(0.5, 5, (Cpu(0.1, 0.1), Cpu(0.2, 0.1)))
    assert (window.seconds, window.operations) == (1.5, 15)
    assert window.cpus[0] == pytest.approx((0.4, 0.3))
    assert window.cpus[1] == pytest.approx((0.3, 0.1))
    assert window.cpu.together_s == pytest.approx(1.1)


@pytest.mark.parametrize(
    ("runtime", "bar"),
    [
        ("", 1.4),
        ("CPython 3.11", 1.4),
        ("CPython 3.13", 1.4),
        ("CPython 3.14", 1.25),
        ("CPython 3.15", 1.25),
        ("PyPy 8.0", 1.2),
    ],
)
def test_bar_by_python(runtime: str, bar: float):
    assert Bars(1.4, 1.25, pypy=1.2).of(runtime) == bar


@pytest.mark.parametrize(
    ("share", "value"), [(0.0, 1.0), (0.5, 3.0), (0.99, 5.0), (0.999, 5.0), (1.0, 5.0)]
)
def test_quantile(share: float, value: float):
    assert quantile([1.0, 2.0, 3.0, 4.0, 5.0], share) == value


# -- the table -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (0.1234, "0.123"),
        (1.5, "1.50"),
        (12.34, "12.3"),
        (123.4, "123"),
        (1_234_567.0, "1,234,567"),
    ],
)
def test_number(value: float, text: str):
    assert number(value) == text


def test_table():
    throughput = Row("get16", "requests per second", "/s", bar=0.75, at_least=True)
    throughput.add(60_000, 120_000)
    disturbed = Row("startup", "listening", "ms", compare="own", others_share=0.3)
    disturbed.add(170, 5)
    rows = [row((3, 2), (4, 2), bar=1.8, others_share=0.04), throughput, disturbed]
    head, rule, *lines = table(rows, "pymcd").splitlines()
    assert " ".join(head.split()) == "what pymcd memcached unit ratio spread bar"
    assert set(rule) == {"-"}
    assert [" ".join(line.split()) for line in lines] == [
        "get16 CPU per request 3.50 2.00 us 1.75 1.50-2.00 <= 1.8x pass",
        "requests per second 60,000 120,000 /s 0.50 >= 0.75x FALLS SHORT",
        "startup listening 170 5.00 ms 34.00 (others: 30% of the CPUs)",
    ]
    # Columns line up: the unit begins below its heading.
    assert {line[head.index("unit") :].split()[0] for line in lines} == {"us", "/s", "ms"}


def test_table_calls_memcached_against_memcached_itself():
    assert "itself" in table([row((1, 1))], "memcached").splitlines()[0]


# -- servers -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "name", "command"),
    [
        ("pymcd", "pymcd", (sys.executable, "-m", "pymcd")),
        ("memcached", "memcached", ("memcached",)),
        ("/opt/other/memcached -R 5", "memcached", ("/opt/other/memcached", "-R", "5")),
        ("python3.13 -m pymcd", "pymcd", ("python3.13", "-m", "pymcd")),
    ],
)
def test_contender(text: str, name: str, command: tuple[str, ...]):
    contender = Contender.parse(text)
    assert (contender.name, contender.command) == (name, command)
    assert contender.is_pymcd == (name == "pymcd")


def test_contender_without_a_command():
    with pytest.raises(BenchError, match="empty command"):
        Contender.parse("  ")


def test_contender_that_cannot_be_run():
    with pytest.raises(BenchError, match="cannot run /nonexistent/server"):
        Contender.parse("/nonexistent/server").version()


@LINUX
def test_cpu_time_of_a_process():
    assert 0 <= cpu_of(os.getpid()).together_s <= sum(os.times()[:2]) + 1


@LINUX
def test_generator_that_runs_is_no_stranger(monkeypatch: pytest.MonkeyPatch):
    before_s = contenders.cpu_of_others()
    times = {7: Cpu(3.0, 2.0)}
    monkeypatch.setattr(contenders, "cpu_of", times.__getitem__)
    monkeypatch.setattr(contenders, "generators", {7})
    assert contenders.cpu_of_others() < before_s


# -- loads ---------------------------------------------------------------------------------------


def test_memcaslap_is_told_the_mix():
    load = Load(16, 0.25, 1024, generator_options=("-B",))
    assert load.config() == "key\n24 24 1\nvalue\n1024 1024 1\ncmd\n0 0.25\n1 0.75\n"
    command = load.command(11211, "mix")
    assert command[command.index("-s") + 1] == "127.0.0.1:11211"
    assert command[command.index("-c") + 1] == "16"
    assert command[-1] == "-B"
    assert "-d" not in command


def test_memcaslap_is_told_of_multigets():
    command = Load(16, 0.1, 1024, keys_per_get=20).command(11211, "mix")
    assert command[command.index("-d") + 1] == "20"


HONEST = {
    "cmd_get": 900,
    "cmd_set": 100,
    "get_hits": 900,
    "evictions": 0,
    "bytes_read": 100 * 1024,
    "bytes_written": 900 * 1024,
}


@pytest.mark.parametrize(
    ("changed", "broken"),
    [
        ({}, []),
        ({"get_hits": 800, "bytes_written": 800 * 1024}, ["gets are hits"]),
        ({"evictions": 1}, ["nothing is evicted"]),
        ({"bytes_written": 900 * 100}, ["answers carry the values"]),
        ({"bytes_read": 100 * 100}, ["requests carry the values"]),
        ({"cmd_set": 50}, ["sets have their share"]),
        (
            {"cmd_get": 0, "cmd_set": 0, "get_hits": 0},
            ["gets and sets are counted", "sets have their share"],
        ),
    ],
)
def test_window_that_was_no_such_load_is_refused(changed: dict[str, int], broken: list[str]):
    assert broken_promises(HONEST | changed, 0.1, 1024) == broken


def test_sets_alone_are_a_load_as_well():
    done = HONEST | {"cmd_get": 0, "cmd_set": 1000, "get_hits": 0, "bytes_read": 1000 * 1024}
    assert broken_promises(done, 1.0, 1024) == []


def test_lengths_of_the_blocking_clients_answers():
    server = Client()
    value = b"v" * 30
    for key_number in range(5):
        server.send(b"set %b 0 0 30\r\n%b\r\n" % (KEY % key_number, value))
    mix = requests(5, 30, 0.5, random.Random(1))
    for _ in range(20):
        request, answer_bytes = next(mix)
        assert len(server.send(request)) == answer_bytes


# -- clients in Python ---------------------------------------------------------------------------


@pytest.mark.parametrize("dialect", [TEXT, APPLICATION, META, WIDE_META])
def test_dialect_knows_the_right_answers(dialect: Dialect):
    server = Client()
    for value in (b"first", b"second one"):
        for way in (dialect.store, dialect.fetch):
            request, answer = way(b"key", value)
            assert server.send(request) == answer


def test_words_of_redis():
    request, answer = REDIS.store(b"key", b"value")
    assert request == b"*3\r\n$3\r\nSET\r\n$3\r\nkey\r\n$5\r\nvalue\r\n"
    assert answer == b"+OK\r\n"
    request, answer = REDIS.fetch(b"key", b"value")
    assert request == b"*2\r\n$3\r\nGET\r\n$3\r\nkey\r\n"
    assert answer == b"$5\r\nvalue\r\n"


def test_counters_of_redis():
    info = (
        "# Stats\r\nkeyspace_hits:90\r\nkeyspace_misses:10\r\nevicted_keys:1\r\n"
        "total_net_input_bytes:1000\r\ntotal_net_output_bytes:2000\r\n"
        "cmdstat_set:calls=7,usec=20,usec_per_call=2.8\r\n"
    )
    assert peers.counters_of(info) == {
        "cmd_get": 100,
        "cmd_set": 7,
        "get_hits": 90,
        "evictions": 1,
        "bytes_read": 1000,
        "bytes_written": 2000,
    }


def test_peer_that_is_not_installed():
    with pytest.raises(BenchError, match="nonesuch is not installed"):
        peers.start("nonesuch")


def test_script_has_each_key_once_and_sets_their_share():
    clients = Clients(META, keys=200, set_share=0.1)
    script = clients.script()
    assert script == clients.script()
    assert len({request.split()[1] for request, _ in script}) == 200
    assert sum(request.startswith(b"ms ") for request, _ in script) == 20


@pytest.fixture
def ends() -> Iterator[tuple[socket.socket, socket.socket]]:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.setblocking(False)
        theirs.settimeout(10)
        yield ours, theirs


EXCHANGES: list[Exchange] = [(b"mg a v\r\n", b"VA 1\r\n1\r\n"), (b"mg b v\r\n", b"EN\r\n")]


def test_member_waits_for_the_whole_answer(ends: tuple[socket.socket, socket.socket]):
    ours, theirs = ends
    member = Member(ours, cycle(EXCHANGES))
    member.ask()
    assert theirs.recv(100) == b"mg a v\r\n"
    theirs.send(b"VA 1\r\n")
    assert not member.receive()
    theirs.send(b"1\r\n")
    assert member.receive()
    member.ask()
    assert theirs.recv(100) == b"mg b v\r\n"
    theirs.send(b"EN\r\n")
    assert member.receive()
    member.ask()
    assert theirs.recv(100) == b"mg a v\r\n"


@pytest.mark.parametrize(
    "answer", [b"EN\r\n", b"VA 1\r\n2\r\n", b"VA 1\r\n1\r\nEN\r\n", b"VA 1\r\n1\r\n" * 2]
)
def test_member_refuses_a_wrong_answer(ends: tuple[socket.socket, socket.socket], answer: bytes):
    ours, theirs = ends
    member = Member(ours, cycle(EXCHANGES))
    member.ask()
    theirs.send(answer)
    with pytest.raises(BenchError, match="wrong answer"):
        member.receive()


def test_member_whose_server_goes_away(ends: tuple[socket.socket, socket.socket]):
    ours, theirs = ends
    member = Member(ours, cycle(EXCHANGES))
    member.ask()
    theirs.recv(100)
    theirs.close()
    with pytest.raises(ConnectionError):
        member.receive()


# -- requests at a pace --------------------------------------------------------------------------


def shopper(connection: socket.socket, *, sets: bool) -> Shopper:
    rng = random.Random(1)
    share = 0.0 if sets else 1.0
    rng.random = lambda: share  # type: ignore[method-assign]
    return Shopper(connection, cycle([b"a", b"b"]), rng)


def test_shopper_stores_what_was_not_there(ends: tuple[socket.socket, socket.socket]):
    ours, theirs = ends
    one = shopper(ours, sets=False)
    one._rng.random = iter([1.0, 0.0]).__next__  # type: ignore[method-assign]
    one.ask()
    assert theirs.recv(100) == b"get a\r\n"
    theirs.send(b"EN")
    assert not one.receive()
    theirs.send(b"D\r\n")
    assert not one.receive()
    least, _ = VALUE_BYTES
    request = theirs.recv(1000)
    assert request.startswith(b"set a 0 0 %d\r\n" % least)
    assert len(request) == len(b"set a 0 0 64\r\n") + least + 2
    theirs.send(b"STORED\r\n")
    assert one.receive()
    assert (one.hits, one.misses) == (0, 1)


def test_shopper_takes_a_value_of_any_size(ends: tuple[socket.socket, socket.socket]):
    ours, theirs = ends
    one = shopper(ours, sets=True)
    one.ask()
    value = theirs.recv(1000).partition(b"\r\n")[2]
    theirs.send(b"STORED\r\n")
    assert one.receive()
    one._rng.random = lambda: 1.0  # type: ignore[method-assign]
    one.ask()
    assert theirs.recv(100) == b"get b\r\n"
    theirs.send(b"VALUE b 0 64\r\n")
    assert not one.receive()
    theirs.send(value[:30])
    assert not one.receive()
    theirs.send(value[30:] + b"END\r\n")
    assert one.receive()
    assert (one.hits, one.misses) == (1, 0)


@pytest.mark.parametrize("answer", [b"VALUE a 0 3\r\nxyz\r\nEND\r\n", b"ERROR\r\n"])
def test_shopper_refuses_a_wrong_answer(ends: tuple[socket.socket, socket.socket], answer: bytes):
    ours, theirs = ends
    one = shopper(ours, sets=False)
    one.ask()
    theirs.send(answer)
    with pytest.raises(BenchError, match="wrong answer"):
        one.receive()


def test_keys_by_zipfs_law():
    keys = zipf_keys(random.Random(1))
    counts = Counter(next(keys) for _ in range(10_000))
    assert [key for key, _ in counts.most_common(2)] == [KEY % 0, KEY % 1]
    assert counts[KEY % 0] / counts[KEY % 1] == pytest.approx(2, rel=0.2)


# -- runs ----------------------------------------------------------------------------------------

SIDES = (Contender("pymcd", ("a",)), Contender("memcached", ("b",)))


class Machine:
    """A machine on which a run takes 10 s, some beside others who take half of it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, busy_runs: set[int]) -> None:
        self.busy_runs = busy_runs
        self.order: list[str] = []
        self.at_s = self.others_s = 0.0
        monkeypatch.setattr(runs, "cpu_of_others", lambda: self.others_s)
        monkeypatch.setattr("bench.runs.time.perf_counter", lambda: self.at_s)
        monkeypatch.setattr(runs.Bench, "_wait_for_calm", lambda _bench, _what: None)

    def run(self, contender: Contender) -> str:
        self.at_s += 10
        if len(self.order) in self.busy_runs:
            self.others_s += 5 * runs.CPUS
        self.order.append(contender.name)
        return f"{contender.name} {len(self.order) - 1}"

    @contextmanager
    def press(self, contender: Contender) -> Iterator[Machine.Pressure]:
        yield Machine.Pressure(self, contender)

    @dataclass
    class Pressure:
        machine: Machine
        contender: Contender

        def measure(self, seconds: float) -> Window:
            number = len(self.machine.order)
            self.machine.run(self.contender)
            return Window(seconds, 10**number, (Cpu(1.0, 1.0),))


def bench_of(*, pairs: int = 3, window_s: float = 1.0, wait_s: float = 0.0) -> runs.Bench:
    return runs.Bench(*SIDES, pairs, True, Progress(1), window_s, wait_s)


def test_order_of_pairs_alternates(monkeypatch: pytest.MonkeyPatch):
    machine = Machine(monkeypatch, busy_runs={1})
    bench = bench_of()
    assert list(bench.paired(machine.run)) == [
        ("pymcd 0", "memcached 1"),
        ("pymcd 3", "memcached 2"),
        ("pymcd 4", "memcached 5"),
    ]
    assert [name[0] for name in machine.order] == ["p", "m", "m", "p", "p", "m"]
    assert bench.others_share() == pytest.approx(0.5 / 6)


def test_disturbed_pair_is_measured_again_by_who_waits_for_calm(monkeypatch: pytest.MonkeyPatch):
    machine = Machine(monkeypatch, busy_runs={3})
    bench = bench_of(wait_s=1)
    pairs = list(bench.paired(machine.run))
    assert len(machine.order) == 8
    assert pairs[1] == ("pymcd 5", "memcached 4")
    assert bench.others_share() == 0


def test_pairs_are_measured_again_only_so_often(monkeypatch: pytest.MonkeyPatch):
    machine = Machine(monkeypatch, busy_runs=set(range(100)))
    bench = bench_of(wait_s=1)
    assert len(list(bench.paired(machine.run))) == 3
    assert len(machine.order) == 12
    assert bench.others_share() == pytest.approx(0.5)


def test_steady_load_is_measured_in_slices_that_alternate(monkeypatch: pytest.MonkeyPatch):
    machine = Machine(monkeypatch, busy_runs=set())
    bench = bench_of(pairs=1, window_s=3 * runs.SLICE_S)
    [(subject, reference)] = bench.steady(machine.press)
    assert [name[0] for name in machine.order] == ["p", "m", "m", "p", "p", "m"]
    assert (subject.operations, reference.operations) == (11_001, 100_110)
    assert subject.seconds == pytest.approx(3 * runs.SLICE_S)
    assert subject.cpu.together_s == pytest.approx(6)


def test_round_that_others_disturb_is_refused(monkeypatch: pytest.MonkeyPatch):
    machine = Machine(monkeypatch, busy_runs={0, 3})
    bench = bench_of(pairs=1, window_s=2 * runs.SLICE_S)
    [(subject, _)] = bench.steady(machine.press)
    # The first two rounds, of four slices, do not count.
    assert subject.operations == 10**4 + 10**7
    assert bench.others_share() == 0


def test_where_others_are_always_busy_the_least_disturbed_rounds_count(
    monkeypatch: pytest.MonkeyPatch,
):
    machine = Machine(monkeypatch, busy_runs={0, 1, 2, 3, 4, 6, 7})
    bench = bench_of(pairs=1, window_s=2 * runs.SLICE_S)
    [(subject, _)] = bench.steady(machine.press)
    assert len(machine.order) == 8
    assert subject.operations == 10**4 + 10**0
    assert bench.others_share() == pytest.approx(0.375)


# -- the command line ----------------------------------------------------------------------------


def test_scenarios_have_names_of_their_own():
    names = [scenario.name for scenario in (*SCENARIOS, *OTHER_SCENARIOS, *PAIR_SCENARIOS)]
    assert len(set(names)) == len(names)


def test_help_names_all_scenarios():
    done = subprocess.run(
        [sys.executable, "-m", "bench", "--help"],
        capture_output=True,
        text=True,
        cwd=CHECKOUT,
        timeout=60,
    )
    assert done.returncode == 0
    assert done.stderr == ""
    for scenario in (*SCENARIOS, *OTHER_SCENARIOS, *PAIR_SCENARIOS):
        assert f"  {scenario.name} " in done.stdout


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["get16", "nonesuch"], "no scenario named nonesuch"),
        (["--pairs", "0", "get16"], "--pairs wants at least 1"),
    ],
)
def test_words_that_make_no_sense(
    words: list[str],
    says: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
):
    monkeypatch.setattr(sys, "argv", ["bench", *words])
    assert command_line.main() == 2
    assert says in capsys.readouterr().err


def test_server_that_does_not_exist(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setattr(sys, "argv", ["bench", "--subject", "/nonexistent/server", "get16"])
    assert command_line.main() == 1
    assert capsys.readouterr().err.startswith("bench: cannot run /nonexistent/server")


def test_python_is_for_our_own_server(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    words = ["bench", "--python", sys.executable, "--subject", "memcached", "get16"]
    monkeypatch.setattr(sys, "argv", words)
    assert command_line.main() == 1
    assert "--subject for another server" in capsys.readouterr().err


def test_each_subject_has_rows_and_failures_of_its_own():
    def give(bench: runs.Bench, name: str) -> list[Row]:
        if bench.subject.name == "memcached":
            raise BenchError("it is away")
        return [row((3, 2))]

    benches = [runs.Bench(each, SIDES[1], 1, True, Progress(2), window_s=1.0) for each in SIDES]
    rows, failures = command_line.measure([Scenario("get16", "", give)], benches)
    assert [each.subject_name for each in rows] == ["pymcd"]
    assert [(each.subject, each.scenario, each.why) for each in failures] == [
        ("memcached", "get16", "it is away")
    ]


# -- interpreters --------------------------------------------------------------------------------


def test_interpreter_is_asked_what_it_is():
    found = interpreters.find(sys.executable)
    assert found.name == f"{platform.python_implementation()} {platform.python_version()}"
    contender = found.contender()
    assert contender.command == (*found.command, "-m", "pymcd")
    assert str(contender) == f"pymcd on {found.name}"
    assert contender.is_pymcd
    assert contender.runtime == found.name.rpartition(".")[0]
    assert contender.version().startswith("pymcd ")


def test_interpreter_without_the_packages_is_lent_them_and_nothing_else(tmp_path: Path):
    venv.create(tmp_path / "bare", symlinks=True)
    found = interpreters.find(str(tmp_path / "bare" / "bin" / "python"))
    _, lent = dict(found.environment)["PYTHONPATH"].split(os.pathsep)
    assert sorted(os.listdir(lent)) == sorted(interpreters.LENT)
    assert found.contender().version().startswith("pymcd ")


@pytest.mark.parametrize(
    ("program", "says"),
    [("/nonexistent/python", "No such file"), ("/bin/false", "no Python: it says nothing")],
)
def test_interpreter_that_is_none(program: str, says: str):
    with pytest.raises(BenchError, match=f"--python {program}: .*{says}"):
        interpreters.find(program)


# -- the page ------------------------------------------------------------------------------------

RESULT = {
    "machine": {"machine": "2 x CPU", "reference": "memcached 1.6.45 -t 1", "date": "2026-01-01"},
    "pairs": 5,
}


def named_row(
    subject: str, scenario: str, what: str, ours: float, theirs: float
) -> dict[str, object]:
    made = Row(scenario, what, "us", subject_name=subject)
    made.add(ours, theirs)
    return made.as_dict()


def results(*rows: dict[str, object]) -> Results:
    return Results([RESULT | {"rows": list(rows)}])


def load_rows(subject: str, scenario: str, user: float, system: float) -> list[dict[str, object]]:
    figures = {ALL: user + system, USER: user, SYSTEM: system}
    return [named_row(subject, scenario, what, us, 2.0) for what, us in figures.items()]


PAGE = "text\n<!-- bench: {} -->\nold\n<!-- bench end -->\nmore\n"


@pytest.mark.parametrize(
    ("block", "lines"),
    [
        (
            "machine",
            [
                "Measured 2026-01-01 on 2 x CPU, beside memcached 1.6.45 -t 1; medians of 5 pairs"
                " of runs."
            ],
        ),
        (
            "parts",
            [
                "|  | server | kernel | together | of memcached's |",
                "| --- | --- | --- | --- | --- |",
                "| memcached | 2.00 | 2.00 | 2.00 | 1 |",
                "| pymcd on CPython 3.11.2 | 2.50 | 3.00 | 5.50 | 2.75x |",
                "| pymcd on CPython 3.14.0 | 1.50 | 3.00 | 4.50 | 2.25x |",
            ],
        ),
        (
            "loads",
            [
                "| CPU time of a request | memcached | CPython 3.11.2 | CPython 3.14.0 |",
                "| --- | --- | --- | --- |",
                "| 16 connections, 90 % gets, 1 KB | 2.00 us | 2.75x | 2.25x |",
                "| 16 connections, 90 % sets, 1 KB | 2.00 us | 3.50x |  |",
            ],
        ),
        (
            "pairs",
            [
                "| load | pair, per second | alone |  | CPU of the coordinator | of the follower |",
                "| --- | --- | --- | --- | --- | --- |",
                "| 16 connections, sets, CPython 3.11.2 | 60,000 | 100,000 | 0.60x"
                " | 1.40x | 0.80x |",
            ],
        ),
        (
            "soak",
            ["old"],
        ),
    ],
)
def test_page_is_filled_in(block: str, lines: list[str]):
    old, new = "pymcd on CPython 3.11.2", "pymcd on CPython 3.14.0"
    got, silent = page.fill(
        PAGE.format(block),
        results(
            *load_rows(old, "get16", 2.5, 3.0),
            *load_rows(new, "get16", 1.5, 3.0),
            *load_rows(old, "set16", 4.0, 3.0),
            named_row(old, "pair16", "requests per second, semi: pair, alone", 60_000, 100_000),
            named_row(old, "pair16", "CPU of the coordinator per request: pair, alone", 1.4, 1),
            named_row(old, "pair16", "CPU of the follower per request: pair, alone", 0.8, 1),
        ),
    )
    head, *table, end, more = got.splitlines()[1:]
    assert (head, end, more) == (f"<!-- bench: {block} -->", "<!-- bench end -->", "more")
    assert table == lines
    assert silent == (["soak"] if block == "soak" else [])


def test_page_that_wants_what_there_is_not():
    with pytest.raises(ValueError, match="no table is named nonesuch"):
        page.fill(PAGE.format("nonesuch"), results())


def test_page_of_this_project_has_all_tables():
    assert set(page.BLOCKS) == {found[1] for found in page.BLOCK.findall(page.PAGE.read_text())}


@pytest.mark.slow
def test_pictures(tmp_path: Path):
    pytest.importorskip("matplotlib", reason="the pictures want the extra `bench`")
    from bench.plot import draw_microseconds, draw_multiples

    got = results(
        *load_rows("pymcd on CPython 3.11.2", "get16", 2.5, 3.0),
        *load_rows("pymcd on CPython 3.14.0", "get16", 1.5, 3.0),
    )
    for draw in (draw_microseconds, draw_multiples):
        draw(got, tmp_path / "picture.png")
        assert (tmp_path / "picture.png").read_bytes().startswith(b"\x89PNG")
        (tmp_path / "picture.png").unlink()


# -- comparing -----------------------------------------------------------------------------------


def write_result(path: Path, **rows: Row) -> Path:
    for name, each in rows.items():
        each.scenario, each.subject_name = name, "pymcd"
    path.write_text(json.dumps({"rows": [each.as_dict() for each in rows.values()]}))
    return path


def test_what_changed_between_two_results(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    old = write_result(
        tmp_path / "old",
        get16=row((2, 1), (2.2, 1)),
        set16=row((2, 1), (2.2, 1)),
        many=row((2, 1), (2.2, 1), at_least=True),
        gone=row((1, 1)),
    )
    new = write_result(
        tmp_path / "new",
        many=row((1, 1), (1.1, 1), at_least=True),
        get16=row((1.1, 1), (1, 1)),
        set16=row((2.1, 1), (2.3, 1)),
    )
    assert compare.main([str(old), str(new)]) == 0
    lines = capsys.readouterr().out.splitlines()[2:]
    assert [line.split()[-1] for line in lines] == ["better", "+4.8%", "WORSE"]
    assert "-50.0%" in lines[0]


@pytest.mark.parametrize(
    ("content", "says"), [(None, "No such file"), ("[]", "not a result"), ("{", "not a result")]
)
def test_result_that_cannot_be_read(
    content: str | None, says: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    if content is not None:
        (tmp_path / "old").write_text(content)
    assert compare.main([str(tmp_path / "old"), str(tmp_path / "new")]) == 2
    assert says in capsys.readouterr().err
