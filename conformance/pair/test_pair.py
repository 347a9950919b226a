"""The trials, shortened: what is right must hold here as well; how long it took is not judged."""

from __future__ import annotations

import random
import socket
import threading
from typing import TYPE_CHECKING

import pytest

from conformance.servers import PYMCD, Server
from conformance.trial import Figure, Run, TrialError, check, quantile

from . import etcds
from .__main__ import TRIALS
from .load import Item, Ledger, Load, Pause, Request, differing, read, store, writer
from .namespaces import why_not
from .nodes import Node, Pair
from .tongues import Binary
from .ways import PASSWORD, USER, WAYS, Address, Talk, Way
from .wire import Wires

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .load import Client
    from .ways import Login

#: Name, how often, the part of it that is done, seconds are many.
QUICK = [
    ("kill", 2, 1.0),
    ("cutkill", 2, 1.0),
    ("refill", 1, 0.02),
    ("locks", 60, 1.0),
    ("linear", 4, 0.3),
    ("partition", 2, 0.1),
    ("deletes", 4, 0.1),
    ("strangers", 1, 0.1),
    ("rotation", 1, 1.0),
    ("upgrade", 1, 1.0),
]
SLOW = [
    ("kill", 10, 1.0),
    ("cutkill", 10, 1.0),
    ("refill", 2, 0.2),
    ("linear", 8, 1.0),
    ("partition", 4, 1.0),
    ("deletes", 8, 0.3),
    ("freeze", 1, 0.5),
    ("lag", 50, 0.2),
    ("strangers", 1, 0.5),
    ("tls", 1, 1.0),
    ("badinput", 1, 0.5),
    ("refused", 4, 1.0),
    ("sizes", 5, 1.0),
    ("upgrade-three", 1, 1.0),
    ("members", 1, 1.0),
    ("large", 1, 0.3),
    ("evictions", 2, 1.0),
    ("memory", 1, 0.3),
    ("three", 1, 0.3),
    ("clocks", 6, 1.0),
    ("namespaces", 1, 0.5),
    ("witness-cuts", 17, 1.0),
    ("witness-failures", 6, 1.0),
    ("witness-care", 16, 1.0),
    ("etcd-cuts", 6, 1.0),
    ("etcd-failures", 6, 1.0),
]


#: Those above are in text; each other way sees one command win, and something else now and then.
OTHER_WAYS = [name for name in WAYS if name != "text"]
QUICK_IN_WAYS = [
    *((way, "locks", 12, 1.0) for way in OTHER_WAYS),
    ("sasl", "kill", 1, 1.0),
    ("tls-sasl", "cutkill", 1, 1.0),
    ("bucket", "kill", 1, 1.0),
    ("unix-sasl", "refill", 1, 0.02),
    ("scram", "linear", 2, 0.3),
    ("meta-login", "linear", 2, 0.3),
    ("tls-login", "partition", 1, 0.1),
    ("login", "deletes", 1, 0.1),
]
SLOW_IN_WAYS = [
    ("kill", 5, 1.0),
    ("cutkill", 5, 1.0),
    ("refill", 1, 0.2),
    ("locks", 100, 1.0),
    ("linear", 5, 1.0),
    ("partition", 2, 0.3),
    ("deletes", 4, 0.3),
    ("freeze", 1, 0.3),
    ("evictions", 1, 1.0),
    ("three", 1, 0.3),
]


@pytest.mark.parametrize(("name", "trials", "scale"), QUICK, ids=[row[0] for row in QUICK])
def test_trial(name: str, trials: int, scale: float) -> None:
    check(TRIALS[name], trials, scale)


@pytest.mark.parametrize(("way", "name", "trials", "scale"), QUICK_IN_WAYS)
def test_trial_in_other_ways(
    monkeypatch: pytest.MonkeyPatch, way: str, name: str, trials: int, scale: float
) -> None:
    monkeypatch.setattr(Pair, "usual_way", WAYS[way])
    check(TRIALS[name], trials, scale)


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize(("name", "trials", "scale"), SLOW, ids=[row[0] for row in SLOW])
def test_long_trial(name: str, trials: int, scale: float) -> None:
    if name.startswith(("namespaces", "witness")) and (reason := why_not()):
        pytest.skip(f"no network namespaces: {reason}")
    if name.startswith("etcd") and (reason := etcds.why_not()):
        pytest.skip(reason)
    check(TRIALS[name], trials, scale)


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("way", OTHER_WAYS)
@pytest.mark.parametrize(("name", "trials", "scale"), SLOW_IN_WAYS)
def test_long_trial_in_other_ways(
    monkeypatch: pytest.MonkeyPatch, way: str, name: str, trials: int, scale: float
) -> None:
    monkeypatch.setattr(Pair, "usual_way", WAYS[way])
    check(TRIALS[name], trials, scale)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_loss_would_be_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    # Who does not wait for the peer loses what the link had no time for.
    monkeypatch.setattr(Pair, "experiment", ("--replication-ack", "async"))
    for seed in range(40):
        run = Run(trials=1, seed=seed)
        TRIALS["cutkill"](run)
        if not run.passes:
            return
    pytest.fail("nothing is ever lost without acknowledgement: the trial sees nothing")


# -- what the trials are made of -----------------------------------------------------------------


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with Server(PYMCD) as running:
        yield running


@pytest.fixture
def wires() -> Iterator[Wires]:
    with Wires() as running:
        yield running


def _through(port: int) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), timeout=30.0)


def test_wire_passes_bytes_both_ways(server: Server, wires: Wires) -> None:
    wire, port = wires.open()
    wires.order("target", wire=wire, port=server.port)
    with _through(port) as stream:
        stream.sendall(b"set wired 0 0 2\r\nok\r\nget wired\r\n")
        with stream.makefile("rb") as source:
            assert source.readline() == b"STORED\r\n"
            assert source.readline() == b"VALUE wired 0 2\r\n"
    recorded = wires.order("recorded", wire=wire)
    assert bytes.fromhex(recorded["forth"]).startswith(b"set wired")
    assert bytes.fromhex(recorded["back"]).startswith(b"STORED")


@pytest.mark.parametrize("reset", [True, False])
def test_wire_cuts_what_is_there(server: Server, wires: Wires, reset: bool) -> None:
    wire, port = wires.open()
    wires.order("target", wire=wire, port=server.port)
    with _through(port) as stream:
        stream.sendall(b"mn\r\n")
        assert stream.recv(100) == b"MN\r\n"
        wires.order("cut", wire=wire, reset=reset)
        if reset:
            with pytest.raises(ConnectionResetError):
                stream.recv(100)
        else:
            assert stream.recv(100) == b""
    with _through(port) as stream:
        stream.sendall(b"mn\r\n")
        assert stream.recv(100) == b"MN\r\n"


def test_wire_holds_back_and_lets_go(server: Server, wires: Wires) -> None:
    wire, port = wires.open()
    wires.order("target", wire=wire, port=server.port)
    with _through(port) as stream:
        stream.sendall(b"mn\r\n")
        assert stream.recv(100) == b"MN\r\n"
        wires.order("stall", wire=wire, way="back")
        stream.sendall(b"set held 0 0 1\r\nx\r\n")
        # The request arrives all the same.
        while b"VALUE" not in _ask(server, b"get held\r\n", b"END\r\n"):
            pass
        stream.setblocking(False)
        with pytest.raises(BlockingIOError):
            stream.recv(100)
        wires.order("flow", wire=wire, way="back")
        stream.settimeout(30.0)
        assert stream.recv(100) == b"STORED\r\n"


def _ask(server: Server, request: bytes, ending: bytes) -> bytes:
    answer = b""
    with server.connect() as stream:
        stream.sendall(request)
        while not answer.endswith(ending):
            answer += stream.recv(4096)
    return answer


def test_wire_that_refuses(server: Server, wires: Wires) -> None:
    wire, port = wires.open()
    wires.order("target", wire=wire, port=server.port)
    wires.order("refuse", wire=wire)
    # Where the machine is slow it is the connecting that fails.
    with pytest.raises(ConnectionResetError), _through(port) as stream:
        stream.recv(100)


def test_wire_delivers_half_and_resets(server: Server, wires: Wires) -> None:
    wire, port = wires.open()
    wires.order("target", wire=wire, port=server.port)
    wires.order("halve", wire=wire, way="back")
    got = b""
    with _through(port) as stream:
        stream.sendall(b"version\r\n")
        try:
            while data := stream.recv(100):
                got += data
        except ConnectionResetError:
            pass
    assert b"VERSION 1.6.45\r\n".startswith(got)
    assert len(got) <= 8


#: What trials say, and what they hear, whatever is spoken on the way.
ASKED = [
    (b"set k 7 0 2\r\nok\r\n", b"STORED\r\n"),
    (b"get k\r\n", b"VALUE k 7 2\r\nok\r\nEND\r\n"),
    (b"get nothing k\r\n", b"VALUE k 7 2\r\nok\r\nEND\r\n"),
    (b"get nothing\r\n", b"END\r\n"),
    (b"mg k v f t\r\nmg nothing v\r\nmn\r\n", b"VA 2 f7 t-1\r\nok\r\nEN\r\nMN\r\n"),
    (b"add k 0 0 1\r\nx\r\n", b"NOT_STORED\r\n"),
    (b"replace nothing 0 0 1\r\nx\r\n", b"NOT_STORED\r\n"),
    (b"append nothing 0 0 1\r\nx\r\n", b"NOT_STORED\r\n"),
    (b"append k 0 0 1\r\nx\r\n", b"STORED\r\n"),
    (b"prepend k 0 0 1\r\nx\r\n", b"STORED\r\n"),
    (b"cas k 0 0 1 999\r\nx\r\n", b"EXISTS\r\n"),
    (b"cas nothing 0 0 1 999\r\nx\r\n", b"NOT_FOUND\r\n"),
    (b"incr k 1\r\n", b"CLIENT_ERROR cannot increment or decrement non-numeric value\r\n"),
    (b"incr nothing 1\r\n", b"NOT_FOUND\r\n"),
    (b"set n 0 0 2 noreply\r\n10\r\nincr n 5\r\ndecr n 3\r\n", b"15\r\n12\r\n"),
    (b"touch k 0\r\ntouch nothing 0\r\n", b"TOUCHED\r\nNOT_FOUND\r\n"),
    (b"delete k\r\ndelete k\r\n", b"DELETED\r\nNOT_FOUND\r\n"),
    (b"delete n noreply\r\nget n\r\n", b"END\r\n"),
    (b"flush_all\r\nversion\r\n", b"OK\r\nVERSION 1.6.45\r\n"),
]


def _hear(talk: Talk, size: int) -> bytes:
    heard = b""
    while len(heard) < size:
        more = talk.recv()
        assert more, "the connection was closed"
        heard += more
    return heard


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
def test_what_is_said_in_any_way(way: Way) -> None:
    with (
        Server(PYMCD, way.switches(), way.environment()) as server,
        Talk(server.connect(), way).enter(30.0) as talk,
    ):
        for request, answer in ASKED:
            talk.sendall(request)
            assert (request, _hear(talk, len(answer))) == (request, answer)
        talk.sendall(b"set k 0 0 1\r\nx\r\ngets k\r\n")
        assert talk.line() == b"STORED\r\n"
        unique = int(talk.line().split()[4])
        assert talk.read(8) == b"x\r\nEND\r\n"
        talk.sendall(b"cas k 0 0 1 %d\r\ny\r\nstats\r\n" % unique)
        assert talk.line() == b"STORED\r\n"
        names = set()
        while (line := talk.line()) != b"END\r\n":
            names.add(line.split()[1])
        assert b"curr_items" in names


@pytest.mark.parametrize("name", ["login", "scram", "tls-sasl"])
def test_connection_that_is_made_anew_logs_in_again(wires: Wires, name: str) -> None:
    way = WAYS[name]
    wire, port = wires.open()
    with Server(PYMCD, way.switches(), way.environment()) as server:
        wires.order("target", wire=wire, port=server.port)
        answers: list[bytes | None] = []

        def client() -> Client:
            for _ in range(3):
                answers.append((yield Request(b"mn\r\n")))
                wires.order("cut", wire=wire, reset=True)
                yield Pause(0.05)

        load = Load([Address(port, way=way)])
        load.add(client(), 0)
        load.run(30.0)
    assert (answers, load.lost) == ([b"MN\r\n"] * 3, 3)


def test_whoever_is_not_let_in_notices() -> None:
    def wrong() -> Login:
        answer = yield Binary().encode(b"mn\r\n")
        assert answer[7] == 0x20
        raise TrialError("as it should be")

    way = WAYS["sasl"]
    with Server(PYMCD, way.switches(), way.environment()) as server:
        with pytest.raises(TrialError, match="as it should be"):
            Talk(server.connect(), Way("wrong", Binary, wrong)).enter(30.0)
        with Talk(server.connect()).enter(30.0) as talk:
            talk.sendall(f"set x 0 0 20\r\n{USER} {PASSWORD}\r\n".encode())
            assert talk.recv() == b""


def test_clients_and_their_ledger(server: Server) -> None:
    ledger = Ledger()
    node = _as_node(server)
    load = Load([node])
    done = []

    def polite() -> Client:
        answer = yield Request(b"get nothing\r\n", b"END\r\n")
        yield Pause(0.0)
        wrong = yield Request(b"nonsense\r\n")
        done.append((answer, wrong))

    load.add(polite(), 0)
    for client in range(3):
        load.add(writer(ledger, f"w{client}", random.Random(client), keys=5), 0)
    load.at(0.05, load.stop)
    load.run()
    assert done == [(b"END\r\n", b"ERROR\r\n")]
    assert load.errors == {b"ERROR\r\n": 1}
    assert ledger.writes == len(load.timings) - 2
    held = read(node, list(ledger.acknowledged))
    assert ledger.wrong(held) == []
    held = dict.fromkeys(ledger.acknowledged, b"old")
    assert len(ledger.wrong(held)) == len(ledger.acknowledged)


def test_connection_lost_in_a_pause_is_made_again() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        answers = []

        def slow() -> Client:
            for _ in range(2):
                answers.append((yield Request(b"mn\r\n")))
                yield Pause(0.2)

        def answer_and_close() -> None:
            for _ in range(2):
                stream, _ = listener.accept()
                with stream:
                    stream.recv(100)
                    stream.sendall(b"MN\r\n")

        threading.Thread(target=answer_and_close, daemon=True).start()
        load = Load([Node(PYMCD, port=listener.getsockname()[1])])
        load.add(slow(), 0)
        load.run(30.0)
    assert (answers, load.lost) == ([b"MN\r\n"] * 2, 2)
    first, second = load.timings
    assert second.sent_s - first.answered_s >= 0.2


def test_client_that_roams_goes_on_elsewhere(server: Server) -> None:
    with socket.create_server(("127.0.0.1", 0)) as gone:
        port = gone.getsockname()[1]
    elsewhere = _as_node(server)
    dead = Node(PYMCD, port=port)
    answers = []

    def client() -> Client:
        answers.append((yield Request(b"mn\r\n")))

    load = Load([dead, elsewhere])
    load.add(client(), 0, roams=True)
    load.run()
    assert answers == [b"MN\r\n"]


def _as_node(server: Server) -> Node:
    return Node(PYMCD, port=server.port)


def test_outcome_that_nobody_knows_is_no_loss() -> None:
    ledger = Ledger()
    ledger.sending(b"k", b"one")
    ledger.answered(b"k", b"one")
    ledger.sending(b"k", b"two")
    assert ledger.wrong({b"k": b"one"}) == []
    assert ledger.wrong({b"k": b"two"}) == []
    assert ledger.wrong({b"k": b"three"}) == ["k: three instead of one"]
    assert ledger.wrong({}) == ["k: nothing instead of one"]
    ledger.answered(b"k", b"two")
    assert ledger.wrong({b"k": b"one"}) == ["k: one instead of two"]


def test_differing() -> None:
    one = {b"a": Item(b"x", 1, 7, 10), b"b": Item(b"x", 1, 8, -1), b"c": Item(b"x", 1, 9, 5)}
    other = {b"a": Item(b"x", 1, 7, 11), b"b": Item(b"x", 2, 8, -1)}
    assert differing(one, other) == [b"b", b"c"]


def test_store_notices_a_refusal(server: Server) -> None:
    with pytest.raises(TrialError, match="ERROR"):
        store(_as_node(server), [b"set k 0 0 1\r\nx\r\n", b"set k 0 0 x\r\n"])


@pytest.mark.parametrize(
    ("figure", "passes", "text"),
    [
        (Figure("lost", 0, 0, of="1,000"), True, "lost: 0 of 1,000   [<= 0] pass"),
        (Figure("lost", 2, 0), False, "lost: 2   [<= 0] FALLS SHORT"),
        (Figure("p99", 4.5, 5, "ms"), True, "p99: 4.5 ms   [<= 5 ms] pass"),
        (Figure("seen", 3, 1, at_least=True), True, "seen: 3   [>= 1] pass"),
        (Figure("seen", 3), True, "seen: 3"),
    ],
)
def test_figures(figure: Figure, passes: bool, text: str) -> None:
    assert (figure.passes, str(figure)) == (passes, text)


def test_quantile() -> None:
    assert quantile([], 0.5) == 0.0
    assert quantile([3.0, 1.0, 2.0], 0.5) == 2.0
    assert quantile([3.0, 1.0, 2.0], 0.99) == 3.0


@pytest.mark.parametrize("how", ["silent", "reset"])
def test_pair_parts_and_heals(how: str) -> None:
    with Pair() as pair:
        pair.wait_in_sync()
        pair.nodes[0].ask(b"set before 0 0 1\r\nx\r\n")
        assert pair.nodes[1].ask(b"get before\r\n", b"END\r\n").startswith(b"VALUE")
        pair.part(how=how)
        for index in range(2):
            pair.wait_alone(index)
        pair.nodes[0].ask(b"set apart 0 0 1\r\nx\r\n")
        assert pair.nodes[1].ask(b"get apart\r\n", b"END\r\n") == b"END\r\n"
        pair.heal()
        pair.wait_in_sync()
        assert pair.nodes[1].ask(b"get apart\r\n", b"END\r\n").startswith(b"VALUE")
