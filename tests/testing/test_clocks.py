"""The fake beside freezegun and time-machine: nothing hangs, and each clock is what it says."""

from __future__ import annotations

import datetime as dt
import socket
import ssl
import struct
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest import mock

import pytest

from pymcd.testing import ClockWarning, MemcachedPair, MemcachedServer, serve
from pymcd.testing.childhost import ChildHost
from pymcd.testing.clocks import FakeClock, monotonic, realtime
from pymcd.testing.plan import Plan

from ..interpreters import needs, needs_certificates, of_cpython
from .helpers import raw

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

freezegun = pytest.importorskip("freezegun")
try:
    import time_machine
except ImportError:
    time_machine = None  # type: ignore[assignment]

ROOT = Path(__file__).parents[2]
THEN = dt.datetime(2020, 2, 29, 12, 0, 0, tzinfo=dt.UTC)
HOUR = dt.timedelta(hours=1)
LIFE = 60


class Freezegun:
    """Time stands where freezegun puts it."""

    @staticmethod
    @contextmanager
    def at(moment: dt.datetime) -> Iterator[Callable[[dt.datetime], Any]]:
        with freezegun.freeze_time(moment) as frozen:
            yield frozen.move_to


class FreezegunTicking:
    """Time goes on from where freezegun puts it."""

    @staticmethod
    @contextmanager
    def at(moment: dt.datetime) -> Iterator[Callable[[dt.datetime], Any]]:
        with freezegun.freeze_time(moment, tick=True) as frozen:
            yield frozen.move_to


class TimeMachine:
    """Time goes on from where time-machine puts it."""

    @staticmethod
    @contextmanager
    def at(moment: dt.datetime) -> Iterator[Callable[[dt.datetime], Any]]:
        with time_machine.travel(moment) as traveller:
            yield traveller.move_to


class TimeMachineFrozen:
    """Time stands where time-machine puts it."""

    @staticmethod
    @contextmanager
    def at(moment: dt.datetime) -> Iterator[Callable[[dt.datetime], Any]]:
        with time_machine.travel(moment, tick=False) as traveller:
            yield traveller.move_to


needs_time_machine = pytest.mark.skipif(time_machine is None, reason=needs("time_machine"))
LIBRARIES: list[Any] = [
    Freezegun,
    pytest.param(FreezegunTicking, marks=of_cpython("freezegun's tick=True")),
    pytest.param(TimeMachine, marks=needs_time_machine),
    pytest.param(TimeMachineFrozen, marks=needs_time_machine),
]
every_library = pytest.mark.parametrize("library", LIBRARIES, ids=lambda each: each.__name__)
every_clock = pytest.mark.parametrize("clock", ["real", "frozen", "host"])


def set_text(key: bytes, exptime: int) -> bytes:
    return b"set %b 0 %d 1\r\nx\r\n" % (key, exptime)


# -- what must not hang ------------------------------------------------------------------------


@every_library
@every_clock
def test_whatever_waits_goes_on(library: Any, clock: Any) -> None:
    with library.at(THEN), MemcachedServer(clock=clock) as server, raw(server) as client:
        with pytest.raises(TimeoutError):
            server.wait_for("get", timeout=0.01)
        worker = threading.Thread(target=client.ask, args=(b"get a\r\n",))
        worker.start()
        assert [str(call) for call in server.wait_for("get")] == ["get a"]
        worker.join()
        with server.fault(command="get").delay(0.01) as fault:
            client.send(b"get a\r\n")
            if clock == "frozen":
                server.wait_for("get", count=2)
                server.advance(1)
            assert client.read() == b"END\r\n"
            assert fault.met == 1
        server.restart(keep_items=True)


@every_library
@pytest.mark.parametrize("clock", ["real", "host"])
def test_a_delay_that_began_before_ends(library: Any, clock: Any) -> None:
    with MemcachedServer(clock=clock) as server, raw(server) as client:
        server.fault(command="get").delay(0.2)
        client.send(b"get a\r\n")
        server.wait_for("get")
        with library.at(THEN):
            assert client.read() == b"END\r\n"


@pytest.mark.slow
@every_library
@every_clock
def test_a_pair(library: Any, clock: Any) -> None:
    with library.at(THEN) as move_to, MemcachedPair(clock=clock) as pair:
        pair.a.put("a", b"1", ttl=LIFE)
        assert pair.b.get("a") is not None
        with pair.partition():
            pair.a.put("b", b"1")
            assert pair.b.get("b") is None
        pair.wait_in_sync()
        pair.restart("b")
        pair.wait_in_sync()
        assert pair.b.get("b") is not None
        if clock == "host":
            move_to(THEN + HOUR)
            assert pair.b.get("a") is None
            with raw(pair.a) as client:
                assert client.ask(set_text(b"c", LIFE)) == b"STORED\r\n"
            move_to(THEN)
        else:
            pair.advance(LIFE + 1)
            with raw(pair.a) as client:
                assert client.ask(set_text(b"c", LIFE)) == b"STORED\r\n"
        assert pair.a.get("a") is pair.b.get("a") is None
        assert pair.b.get("c") is not None
        pair.wait_in_sync()


@every_library
async def test_in_the_event_loop(library: Any) -> None:
    async with serve(clock="host") as server, server.connect() as stream:
        with library.at(THEN) as move_to:
            await stream.send_all(set_text(b"a", LIFE))
            assert await stream.receive_some() == b"STORED\r\n"
            move_to(THEN + dt.timedelta(seconds=LIFE - 1))
            assert server.get("a") is not None
            move_to(THEN + dt.timedelta(seconds=LIFE + 1))
            await stream.send_all(b"get a\r\n")
            assert await stream.receive_some() == b"END\r\n"


IMPORTED_WHILE_FROZEN = """
import freezegun
with freezegun.freeze_time("2020-02-29") as frozen:
    import sys
    assert "trio" not in sys.modules
    from pymcd.testing import MemcachedPair, MemcachedServer
    with MemcachedServer() as server:
        try:
            server.wait_for("get", timeout=0.01)
        except TimeoutError:
            pass
        assert server.now > 1_700_000_000
    with MemcachedServer(clock="host") as server:
        assert server.now == 1582934400.0
    with MemcachedPair() as pair:
        pass
print("good")
"""


NOT_IMPORTED = """
import sys
import pymcd.testing.plugin
import freezegun
with freezegun.freeze_time("2020-02-29"):
    pass
assert "trio" not in sys.modules, "what freezegun looks at is imported"
print("good")
"""


@pytest.mark.slow
@pytest.mark.parametrize("program", [IMPORTED_WHILE_FROZEN, NOT_IMPORTED])
def test_imported_while_time_stands_still(program: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
        timeout=60,
    )
    assert (done.stdout, done.returncode) == ("good\n", 0), done.stderr


# -- clocks that nobody moves ------------------------------------------------------------------


@every_library
def test_real_and_frozen_clocks_are_left_alone(library: Any) -> None:
    began = time.time()
    with (
        MemcachedServer() as real,
        MemcachedServer(clock="frozen") as frozen,
        raw(real) as client,
    ):
        client.ask(set_text(b"a", LIFE))
        frozen.put("a", b"1", ttl=LIFE)
        then = frozen.now
        for moment in (THEN, THEN + 100 * 365 * 24 * HOUR):
            with (
                library.at(moment),
                MemcachedServer() as late,
                MemcachedServer(clock="frozen") as late_frozen,
            ):
                for server in (real, frozen, late, late_frozen):
                    assert began - 1 <= server.now < began + 600
                assert frozen.now == then
                assert client.ask(b"get a\r\n", b"END\r\n") != b"END\r\n"
                assert frozen.get("a") is not None
                assert abs(int(real.stats()["time"]) - began) < 600
                assert int(real.stats()["uptime"]) < 600
                real.advance(1)
        assert 1 <= real.now - time.time() < 600


@every_library
def test_what_deadlines_go_by_is_left_alone(library: Any) -> None:
    clock = FakeClock("real")
    before = monotonic(), realtime(), clock.monotonic(), clock.realtime(), clock.waited()
    with library.at(THEN):
        between = monotonic(), realtime(), clock.monotonic(), clock.realtime(), clock.waited()
    after = monotonic(), realtime(), clock.monotonic(), clock.realtime(), clock.waited()
    assert all(a <= b <= c for a, b, c in zip(before, between, after, strict=True))


# -- a clock that follows ----------------------------------------------------------------------


@every_library
def test_a_server_follows_in_both_directions(library: Any) -> None:
    with MemcachedServer(clock="host") as server, raw(server) as client:
        assert abs(server.now - time.time()) < 60
        with library.at(THEN) as move_to:
            assert 0 <= server.now - THEN.timestamp() < 60
            client.ask(set_text(b"relative", LIFE))
            client.ask(set_text(b"absolute", int(THEN.timestamp()) + LIFE))
            client.ask(set_text(b"forever", 0))
            client.ask(b"touch forever 0\r\n")
            for second in (LIFE - 5, -7200, -100 * 365 * 86400, 0):
                move_to(THEN + dt.timedelta(seconds=second))
                for key in (b"relative", b"absolute", b"forever"):
                    assert client.ask(b"get %b\r\n" % key, b"END\r\n") != b"END\r\n"
                assert len(server.items()) == 3
                rows = server.stats()
                assert int(rows["time"]) - THEN.timestamp() - second in range(5)
                assert int(rows["uptime"]) >= 0
            move_to(THEN + dt.timedelta(seconds=LIFE + 1))
            for key in (b"relative", b"absolute"):
                assert client.ask(b"get %b\r\n" % key) == b"END\r\n"
            assert list(server.items()) == [b"forever"]
            client.ask(set_text(b"later", LIFE))
        # Long ago by now.
        assert client.ask(b"get later\r\n") == b"END\r\n"
        assert list(server.items()) == [b"forever"]
        assert abs(server.now - time.time()) < 60


@every_library
def test_what_has_ended_does_not_live_again(library: Any) -> None:
    with (
        library.at(THEN) as move_to,
        MemcachedServer(clock="host") as server,
        raw(server) as client,
    ):
        client.ask(set_text(b"a", LIFE))
        client.ask(set_text(b"b", 0))
        move_to(THEN + HOUR)
        assert client.ask(b"get b\r\n", b"END\r\n") != b"END\r\n"  # nobody looks at a
        client.ask(set_text(b"c", int(THEN.timestamp()) + 100))  # and this is over at once
        move_to(THEN)
        assert list(server.items()) == [b"b"]
        client.ask(set_text(b"a", LIFE))
        move_to(THEN + dt.timedelta(seconds=LIFE - 1))
        assert server.get("a") is not None


@every_library
def test_flushes_in_both_directions(library: Any) -> None:
    with (
        library.at(THEN) as move_to,
        MemcachedServer(clock="host") as server,
        raw(server) as client,
    ):
        client.ask(set_text(b"a", 0))
        move_to(THEN - HOUR)
        client.ask(set_text(b"b", 0))
        assert len(server.items()) == 2
        assert client.ask(b"flush_all\r\n") == b"OK\r\n"
        assert server.items() == {}  # and not only what is of the same time
        client.ask(set_text(b"a", 0))
        move_to(THEN + HOUR)
        assert list(server.items()) == [b"a"]
        client.ask(b"flush_all\r\n")
        move_to(THEN)
        assert server.items() == {}
        client.ask(set_text(b"a", 0))
        move_to(THEN + 2 * HOUR)
        assert list(server.items()) == [b"a"]
        client.ask(b"flush_all 100\r\n")
        move_to(THEN + HOUR)
        client.ask(set_text(b"b", 0))
        move_to(THEN + 2 * HOUR + dt.timedelta(seconds=50))
        assert set(server.items()) == {b"a", b"b"}
        move_to(THEN + 2 * HOUR + dt.timedelta(seconds=102))
        assert server.items() == {}


@every_library
def test_the_first_second_of_all(library: Any) -> None:
    beginning = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
    with (
        library.at(beginning) as move_to,
        MemcachedServer(clock="host") as server,
        raw(server) as client,
    ):
        assert client.ask(set_text(b"a", LIFE)) == b"STORED\r\n"
        assert client.ask(set_text(b"b", 0)) == b"STORED\r\n"
        item = server.get("a")
        assert item is not None
        assert LIFE <= item.expires < LIFE + 5
        move_to(beginning + dt.timedelta(seconds=LIFE + 1))
        assert list(server.items()) == [b"b"]
        move_to(beginning)
        client.ask(b"flush_all\r\n")
        assert server.items() == {}


@every_library
def test_no_command_is_executed_by_an_earlier_time(library: Any) -> None:
    """The event loop reads its clock less often than there are commands."""
    with (
        library.at(THEN) as move_to,
        MemcachedServer(clock="host") as server,
        raw(server) as client,
    ):
        for number in range(100):
            move_to(THEN + number * HOUR)
            client.ask(set_text(b"a", LIFE))
            move_to(THEN + number * HOUR + dt.timedelta(seconds=LIFE + 1))
            assert client.ask(b"get a\r\n") == b"END\r\n"
            assert server.calls[-1].at >= (THEN + number * HOUR).timestamp() + LIFE


@every_library
def test_idle_clients_are_closed_by_a_clock_that_follows(library: Any) -> None:
    options = ["-o", "idle_timeout=10"]
    with (
        library.at(THEN) as move_to,
        MemcachedServer(clock="host", options=options) as server,
        raw(server) as one,
        raw(server) as other,
    ):
        one.ask(b"version\r\n")
        other.ask(b"version\r\n")
        move_to(THEN + dt.timedelta(seconds=5))
        other.ask(b"version\r\n")
        move_to(THEN + dt.timedelta(seconds=14))
        assert server.connections == 1
        assert one.read() == b""
        move_to(THEN + dt.timedelta(seconds=30))
        # Whoever speaks after that time is too late, too.
        assert other.ask(b"version\r\n") == b""
        assert server.stats()["idle_kicks"] == "2"
        move_to(THEN - HOUR)
        with raw(server) as last:
            last.ask(b"version\r\n")
            move_to(THEN - 2 * HOUR)
            last.ask(b"version\r\n")
            move_to(THEN - 2 * HOUR + dt.timedelta(seconds=12))
            assert server.connections == 0


def test_advance_is_added_to_what_is_followed() -> None:
    with freezegun.freeze_time(THEN), MemcachedServer(clock="host") as server:
        server.put("a", b"1", ttl=LIFE)
        server.advance(LIFE + 1)
        assert server.now == THEN.timestamp() + LIFE + 1
        assert server.get("a") is None
        server.reset()
        assert server.now == THEN.timestamp()


def test_one_clock_for_all_that_takes_what_is_patched_by_hand(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with MemcachedServer(clock="host") as server, MemcachedServer() as real:
        monkeypatch.setattr(time, "time", lambda: 1_000_000.0)
        assert server.now == 1_000_000.0
        assert real.now > 1_700_000_000


@every_library
def test_a_fault_that_waits_goes_by_what_is_followed(library: Any) -> None:
    with library.at(THEN) as move_to, MemcachedServer(clock="host") as server:
        server.put("a", b"1")
        fault = server.fault(command="get", after=HOUR).miss()
        with raw(server) as client:
            assert client.ask(b"get a\r\n", b"END\r\n") != b"END\r\n"
            move_to(THEN + 2 * HOUR)
            assert client.ask(b"get a\r\n", b"END\r\n") == b"END\r\n"
            move_to(THEN)
            assert client.ask(b"get a\r\n", b"END\r\n") != b"END\r\n"
        assert fault.met == 1


@pytest.mark.parametrize(
    "instead",
    [
        mock.MagicMock(),  # patch("time.time") alone
        mock.Mock(side_effect=[]),
        lambda: None,
        lambda: "noon",
        lambda: float("nan"),
        lambda: float("inf"),
    ],
    ids=["mock", "used up", "None", "text", "nan", "inf"],
)
def test_what_is_no_time_is_not_followed(instead: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    server = MemcachedServer(clock="host").start()
    with raw(server) as client:
        client.ask(set_text(b"a", LIFE))
        before = server.now
        with monkeypatch.context() as patching:
            patching.setattr(time, "time", instead)
            assert client.ask(b"get a\r\n", b"END\r\n") == b"VALUE a 0 1\r\nx\r\nEND\r\n"
            assert server.now == before
            client.ask(set_text(b"b", 1_000_000_000))  # by whose clock is that past?
        with pytest.warns(ClockWarning, match=r"time.time\(\) showed no number.*return_value"):
            server.verify()
        monkeypatch.setattr(time, "time", lambda: before + LIFE + 1)
        assert client.ask(b"get a\r\n", b"END\r\n") == b"END\r\n"
    server.verify()
    server.stop()
    with monkeypatch.context() as patching:
        patching.setattr(time, "time", instead)
        server.start()  # there is a time outside
        assert server.now > 1_700_000_000
        server.stop()
    server._take_findings()


@pytest.mark.parametrize("year", [1, 1900, 1969, 1970, 2037, 9999])
def test_any_year_can_be_followed(year: int) -> None:
    with (
        freezegun.freeze_time(dt.datetime(year, 12, 30)) as frozen,
        MemcachedServer(clock="host") as server,
    ):
        server.put("a", b"1", ttl=LIFE)
        frozen.tick(LIFE - 1)
        assert server.get("a") is not None
        frozen.tick(2)
        assert server.get("a") is None


def test_restart_goes_on_following() -> None:
    with freezegun.freeze_time(THEN) as frozen, MemcachedServer(clock="host") as server:
        server.put("a", b"1", ttl=LIFE)
        server.restart(keep_items=True)
        assert server.get("a") is not None
        frozen.tick(LIFE + 1)
        assert server.get("a") is None


def test_a_process_of_its_own_cannot_follow() -> None:
    with pytest.raises(ValueError, match=r'clock="host".*advance'):
        MemcachedServer(clock="host", process=True)
    with pytest.raises(ValueError, match=r'clock="host".*advance'):
        ChildHost(Plan(clock="host"))  # as where gevent has replaced threads


@every_library
@pytest.mark.slow
def test_a_process_of_its_own_goes_by_its_own_clock(library: Any) -> None:
    with library.at(THEN), MemcachedServer(process=True) as server:
        assert server.now > 1_700_000_000
        with pytest.raises(TimeoutError):
            server.wait_for("get", timeout=0.01)


@needs_certificates
@every_library
def test_certificates_made_at_another_time(library: Any) -> None:
    with library.at(THEN), MemcachedServer(tls=True) as server:
        context = ssl.create_default_context(cafile=server.tls_ca_file)
        with (
            socket.create_connection(server.address) as sock,
            context.wrap_socket(sock, server_hostname=server.host) as client,
        ):
            client.sendall(b"version\r\n")
            assert client.recv(100).startswith(b"VERSION")


# -- moments by two clocks ---------------------------------------------------------------------

DAY = 24 * 60 * 60


def ends_in(days: int) -> int:
    return int(time.time()) + days * DAY


@pytest.mark.parametrize("process", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_a_moment_that_is_past_only_here_is_warned_of(process: bool) -> None:
    server = MemcachedServer(process=process).start()
    with raw(server) as client:
        client.ask(set_text(b"before", ends_in(31)))
        server.advance(dt.timedelta(days=40))
        line = sys._getframe().f_lineno - 1
        client.ask(set_text(b"a", ends_in(31)))
        client.ask(set_text(b"b", ends_in(31)))
        assert server.items() == {}
        assert [line.partition(":")[0] for line in server.log] == [
            "set a ends at once",
            "set b ends at once",
        ]
    with pytest.warns(ClockWarning, match=r"set a ends at once: .*clock=\"host\"") as caught:
        server.verify()
    assert [(each.filename, each.lineno) for each in caught] == [(__file__, line)]
    server.stop()


@pytest.mark.parametrize(
    "request_",
    [
        b"touch k %d\r\n",
        b"gat %d k\r\n",
        b"mg k T%d\r\n",
        b"ms k 1 T%d\r\nx\r\n",
    ],
)
def test_each_command_with_such_a_moment_is_warned_of(request_: bytes) -> None:
    server = MemcachedServer().start()
    server.put("k", b"1")
    server.advance(40 * DAY)
    with raw(server) as client:
        client.ask(request_ % ends_in(31))
    with pytest.warns(ClockWarning, match="ends at once"):
        server.verify()
    server.stop()


@pytest.mark.parametrize(
    ("ahead_days", "later_days", "words"),
    [(10, 25, "has ended 864000 s earlier"), (-10, 35, "ends 864000 s later")],
)
@pytest.mark.parametrize("request_", [b"get k\r\n", b"mg k\r\n"])
def test_who_asks_for_what_ends_when_nobody_meant_is_warned(
    ahead_days: int, later_days: int, words: str, request_: bytes
) -> None:
    server = MemcachedServer(clock="frozen").start()
    here = dt.datetime.fromtimestamp(server.now, dt.UTC)
    with freezegun.freeze_time(here - dt.timedelta(days=ahead_days)):
        with raw(server) as client:
            client.ask(set_text(b"k", ends_in(31)))
            client.ask(set_text(b"other", LIFE))
            server.advance(1)
            client.ask(request_)
            assert server.log == []
            server.advance(dt.timedelta(days=later_days))
            client.ask(request_)
            assert len(server.log) == 1
            with pytest.warns(ClockWarning, match=words):
                server.verify()
            server.advance(dt.timedelta(days=20))  # it has ended for everybody
            client.ask(request_)
            assert len(server.log) == 1
            client.ask(set_text(b"k", LIFE))
            client.ask(request_)
        server.stop()


@pytest.mark.parametrize("clock", ["real", "host"])
def test_a_moment_beyond_what_memcached_can_count_is_warned_of(clock: Any) -> None:
    with freezegun.freeze_time("2040-02-29"):
        server = MemcachedServer(clock=clock).start()
        with raw(server) as client:
            assert client.ask(set_text(b"a", ends_in(31))) == b"STORED\r\n"
            assert client.ask(b"get a\r\n") == b"END\r\n"  # as in memcached
        with pytest.warns(ClockWarning, match="set a ends at once: a moment beyond .* 2038"):
            server.verify()
        server.stop()


def test_a_server_that_follows_and_was_advanced_is_told_why() -> None:
    with freezegun.freeze_time(THEN):
        server = MemcachedServer(clock="host").start()
        server.advance(40 * DAY)
        with raw(server) as client:
            client.ask(set_text(b"a", ends_in(31)))
        with pytest.warns(
            ClockWarning, match=r"advance\(\) moves nothing but the server"
        ) as caught:
            server.verify()
        assert 'clock="host"' not in str(caught[0].message)
        server.stop()


def test_so_is_one_of_a_binary_client_and_of_one_that_travels() -> None:
    server = MemcachedServer().start()
    with raw(server) as client, freezegun.freeze_time(THEN):
        client.ask_binary(0x01, b"a", struct.pack(">II", 0, ends_in(31)), b"x")
    with pytest.warns(ClockWarning, match="set a ends at once"):
        server.verify()
    server.stop()


def test_other_moments_are_not_warned_of() -> None:
    with MemcachedServer() as server, raw(server) as client:
        client.ask(set_text(b"a", ends_in(-1)))  # past for everybody
        server.advance(40 * DAY)
        client.ask(set_text(b"b", ends_in(-1)))
        client.ask(set_text(b"c", ends_in(41)))
        client.ask(set_text(b"d", 30 * DAY))
        client.ask(set_text(b"e", -1))
        client.ask(set_text(b"f", 0))
        client.ask(set_text(b"h", -30 * DAY))
        server.reset()
        client.ask(set_text(b"g", ends_in(31)))
        assert server.log == []
    with (
        MemcachedServer(clock="host") as server,
        raw(server) as client,
        freezegun.freeze_time(THEN) as frozen,
    ):
        frozen.tick(40 * DAY)
        client.ask(set_text(b"a", ends_in(31)))
        assert server.get("a") is not None


# -- advance -----------------------------------------------------------------------------------


def test_advance_takes_a_timedelta() -> None:
    with MemcachedServer(clock="frozen") as server:
        then = server.now
        server.advance(dt.timedelta(days=1, milliseconds=500))
        assert server.now - then == 86400.5
        with pytest.raises(ValueError, match="only goes forward"):
            server.advance(dt.timedelta(days=-1))
    with MemcachedPair(clock="frozen") as pair:
        then = pair.now
        pair.advance(dt.timedelta(days=1))
        assert pair.now - then == 86400
