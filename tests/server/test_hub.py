"""The hub by itself: its turns, one at a time, over pairs of sockets; and how it rests."""

from __future__ import annotations

import os
import select
import socket
import struct
import threading
import time
from contextlib import contextmanager
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import pytest
import trio
import trio.testing

from pymcd import limits
from pymcd.auth import Authenticator, Users, encode_hashed
from pymcd.config import Settings
from pymcd.protocol import Connection, PairedConnection
from pymcd.service import Service
from pymcd.store import Status, StoreMode

from ..hosts import lend, make_host
from .helpers import one_loopback

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pymcd.replication.gate import Gate

if not hasattr(select, "epoll"):
    pytest.skip("needs epoll", allow_module_level=True)

from pymcd.server.hub import (
    _CHUNKS_PER_TURN,
    BRISK_LINGER_S,
    LINGER_S,
    LOOK_AT_CLOCK_EVERY_BYTES,
    Hub,
    _alarm,
)

from ..clocks import ManualClock

VERSION = b"VERSION 1.6.45\r\n"
BIG = b"v" * 500_000
BIG_REPLY = b"VALUE big 0 %d\r\n%b\r\nEND\r\n" % (len(BIG), BIG)


class Host:
    """A hub, and the other ends of its sockets."""

    def __init__(self, **settings: Any) -> None:
        self.service = Service(Settings(**settings), ManualClock(), make_host())
        self.closed: list[Connection] = []
        self.errors: list[Exception] = []
        self.hub = Hub(
            self.service,
            on_close=self.closed.append,
            on_error=lambda connection, error: self.errors.append(error),
            # A turn ends when all is done, however busy the machine is.
            monotonic=lambda: 0.0,
        )
        self.callers: list[socket.socket] = []
        self.service.tick()

    def connect(self, connection: Connection | None = None) -> tuple[socket.socket, Connection]:
        """Let a client come; return its socket, and what serves it."""
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        theirs.setblocking(False)
        self.callers.append(theirs)
        connection = connection or Connection(self.service, connection_id=ours.fileno())
        self.hub.adopt(ours, connection)
        return theirs, connection

    def turn(self, number: int = 1) -> None:
        self.hub.serve_ready(number)

    def store_big(self) -> None:
        status = self.service.cache.store(StoreMode.SET, b"big", BIG, 0, 0)
        assert status is Status.STORED


@contextmanager
def hosting(**settings: Any) -> Iterator[Host]:
    host = Host(**settings)
    try:
        yield host
    finally:
        host.hub.close_all()
        for caller in host.callers:
            caller.close()


@pytest.fixture
def host() -> Iterator[Host]:
    with hosting() as host:
        yield host


@pytest.fixture
def running_host(host: Host) -> Host:
    """A host for the event loop, in which time passes."""
    host.hub._monotonic = time.monotonic
    return host


def heard(caller: socket.socket) -> bytes:
    """Return all that has arrived; the end of a connection says so by itself."""
    parts: list[bytes] = []
    while True:
        try:
            part = caller.recv(1 << 20)
        except BlockingIOError:
            return b"".join(parts)
        except ConnectionResetError:
            part = b""
        if not part:
            return b"".join([*parts, b"<end>"])
        parts.append(part)


def heard_in_time(host: Host, caller: socket.socket, length: int) -> bytes:
    """Return what arrives while the hub goes on, until there is so much of it."""
    said = b""
    for _ in range(10_000):
        said += heard(caller)
        if len(said) >= length:
            return said
        host.turn()
    raise AssertionError(f"{len(said)} of {length} bytes")


# -- turns ---------------------------------------------------------------------------------------


def test_a_turn_answers_everybody_who_has_asked(host: Host) -> None:
    first, second, silent = (host.connect()[0] for _ in range(3))
    first.send(b"set a 0 0 1\r\nx\r\n")
    second.send(b"version\r\n")
    host.turn()
    assert [heard(caller) for caller in (first, second, silent)] == [b"STORED\r\n", VERSION, b""]
    counters = host.service.counters
    assert (counters.bytes_read, counters.bytes_written) == (25, 24)
    assert len(host.hub._sessions) == 3


def test_r_commands_a_turn_and_then_the_others() -> None:
    with hosting(reqs_per_event=2) as host:
        greedy, modest = host.connect()[0], host.connect()[0]
        greedy.send(b"version\r\n" * 7)
        modest.send(b"version\r\n")
        answered = []
        for _ in range(4):
            host.turn()
            answered.append(heard(greedy).count(VERSION))
            assert heard(modest) == VERSION
            modest.send(b"version\r\n")
        assert answered == [2, 2, 2, 1]


def test_who_has_more_to_do_is_not_read_from() -> None:
    with hosting(reqs_per_event=1) as host:
        caller, connection = host.connect()
        caller.send(b"version\r\n" * 3)
        host.turn()
        caller.send(b"version\r\n" * 3)
        host.turn()
        assert len(connection.buffer) - connection.position == 9, "of the first three"
        host.turn(10)
        assert heard(caller) == VERSION * 6


def test_a_long_answer_takes_several_turns(host: Host) -> None:
    caller, connection = host.connect()
    other, _ = host.connect()
    connection.source = iter([b"%03d\n" % number for number in range(3 * _CHUNKS_PER_TURN)])
    connection.wake()
    for number in range(3):
        other.send(b"version\r\n")
        host.turn()
        lines = heard(caller).split()
        assert lines[0] == b"%03d" % (number * _CHUNKS_PER_TURN)
        assert len(lines) == _CHUNKS_PER_TURN
        assert heard(other) == VERSION
    caller.send(b"version\r\n")
    host.turn(3)
    assert heard(caller) == VERSION, "when the source has ended, commands go on"


# -- back-pressure -------------------------------------------------------------------------------


def test_who_does_not_read_stops_its_own_commands(host: Host) -> None:
    host.store_big()
    caller, connection = host.connect()
    other, _ = host.connect()
    caller.send(b"get big\r\n")
    host.turn(5)
    caller.send(b"incr big 1\r\nset a 0 0 1\r\nx\r\n")
    other.send(b"version\r\n")
    host.turn(5)
    assert heard(other) == VERSION
    assert not connection.buffer, "nothing more is read"
    assert host.service.cache.inspect(b"a") is None
    rest = b"CLIENT_ERROR cannot increment or decrement non-numeric value\r\nSTORED\r\n"
    got = heard_in_time(host, caller, len(BIG_REPLY) + len(rest))
    assert got == BIG_REPLY + rest


def test_who_is_blocked_costs_nothing(host: Host) -> None:
    host.store_big()
    caller, _ = host.connect()
    caller.send(b"get big\r\nversion\r\n")
    host.turn(5)
    assert host.hub._epoll.poll(0) == [], "neither what it sends nor what it does not read wakes us"


@pytest.mark.parametrize("most", [1, 3, 7, 1000])
def test_short_writes(host: Host, most: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever a socket takes at once, all arrives, in order and once."""
    host.service.cache.store(StoreMode.SET, b"k", bytes(range(256)), 0, 0)
    caller, _ = host.connect()
    really_write = os.write
    calls = 0

    def write(fd: int, data: memoryview) -> int:
        nonlocal calls
        calls += 1
        if calls % 3 == 0:
            raise InterruptedError
        if calls % 5 == 0:
            raise BlockingIOError
        return really_write(fd, data[:most])

    monkeypatch.setattr(os, "write", write)
    caller.send(b"get k\r\nmg k v\r\nget k k\r\nversion\r\n")
    value = bytes(range(256)) + b"\r\n"
    line = b"VALUE k 0 256\r\n" + value
    reply = line + b"END\r\nVA 256\r\n" + value + line * 2 + b"END\r\n" + VERSION
    assert heard_in_time(host, caller, len(reply)) == reply
    assert host.service.counters.bytes_written == len(reply)
    caller.send(b"version\r\n")
    assert heard_in_time(host, caller, len(VERSION)) == VERSION


def test_not_ready_after_all(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    caller, _ = host.connect()
    caller.send(b"version\r\n")

    def read(fd: int, count: int) -> bytes:
        monkeypatch.undo()
        raise BlockingIOError

    monkeypatch.setattr(os, "read", read)
    host.turn()
    assert heard(caller) == b""
    host.turn()
    assert heard(caller) == VERSION


# -- ends ----------------------------------------------------------------------------------------


def test_who_leaves_is_closed_once(host: Host) -> None:
    caller, connection = host.connect()
    caller.close()
    host.turn(3)
    assert host.closed == [connection]
    assert (connection.closing, connection.close_reason) == (True, "normal")
    assert len(host.hub._sessions) == 0
    connection.wake()  # it may be called late
    host.turn(3)
    assert host.closed == [connection]


def test_who_resets_is_closed_with_an_error() -> None:
    with hosting() as host:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            caller = socket.create_connection(listener.getsockname())
            sock, _ = listener.accept()
        sock.setblocking(False)
        connection = Connection(host.service)
        host.hub.adopt(sock, connection)
        caller.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        caller.close()
        host.turn(3)
        assert host.closed == [connection]
        assert connection.close_reason == "error"


def test_quit_is_the_last_command(host: Host) -> None:
    caller, connection = host.connect()
    caller.send(b"version\r\nquit\r\nversion\r\n")
    host.turn(3)
    assert heard(caller) == VERSION + b"<end>"
    assert host.closed == [connection]


def test_who_is_out_of_reach_is_closed_with_an_error() -> None:
    with hosting() as host, one_loopback() as loopback:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            caller = socket.create_connection(listener.getsockname())
            sock, _ = listener.accept()
        sock.setblocking(False)
        connection = Connection(host.service)
        host.hub.adopt(sock, connection)
        host.store_big()
        caller.send(b"get big\r\n" * 100)
        loopback.settle()
        host.turn(5)
        caller.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        caller.close()
        loopback.settle()
        host.turn(5)
        assert host.closed == [connection]
        assert connection.close_reason == "error"
        assert host.errors == []


def _fails(*arguments: object) -> Any:
    raise ZeroDivisionError("a bug")


def _fails_later() -> Iterator[bytes]:
    yield b"one\n"
    raise ZeroDivisionError("a bug")


def break_handler(connection: Connection) -> None:
    connection.runner = _fails


def break_source(connection: Connection) -> None:
    connection.source = _fails_later()
    connection.wake()


def break_long_pipeline(connection: Connection) -> None:
    runner = connection.runner

    def fails_in_the_next_turn(connection: Connection, budget: int) -> bool:
        more = runner(connection, budget)
        connection.runner = _fails
        return more

    connection.service.reqs_per_event = 1
    connection.runner = fails_in_the_next_turn


@pytest.mark.parametrize("harm", [break_handler, break_source, break_long_pipeline])
def test_a_bug_costs_one_connection(host: Host, harm: Callable[[Connection], None]) -> None:
    victim, connection = host.connect()
    other, _ = host.connect()
    harm(connection)
    victim.send(b"version\r\nversion\r\n")
    other.send(b"version\r\n")
    host.turn(3)
    assert heard(victim).endswith(b"<end>")
    assert heard(other) == VERSION
    assert [type(error) for error in host.errors] == [ZeroDivisionError]
    assert host.closed == [connection]
    assert connection.close_reason == "error"


def test_one_is_shut(host: Host) -> None:
    caller, connection = host.connect()
    other, _ = host.connect()
    host.hub.shut(connection)
    host.hub.shut(connection)
    assert heard(caller) == b"<end>"
    other.send(b"version\r\n")
    host.turn()
    assert heard(other) == VERSION


def test_who_has_asked_and_was_not_heard_is_dropped() -> None:
    with hosting(reqs_per_event=1) as host:
        host.store_big()
        silent, asks, has_more, does_not_read = (host.connect()[0] for _ in range(4))
        has_more.send(b"version\r\n" * 2)
        does_not_read.send(b"get big\r\n")
        host.turn()
        asks.send(b"version\r\n")
        host.hub.drop_unheard()
        assert heard(silent) == b""
        assert heard(asks) == b"<end>"
        assert heard(has_more) == VERSION + b"<end>"
        assert heard(does_not_read).endswith(b"<end>")
        assert len(host.hub._sessions) == 1


@pytest.mark.parametrize("why", ["aside", "a delay"])
def test_so_is_who_has_asked_behind_a_login_that_goes_on(why: str) -> None:
    """It has been read, and there is nothing to be heard: it must not be executed later."""
    hashed = encode_hashed(b"secret", b"0123456789abcdef", 2)
    users = Authenticator(lambda: Users([(b"ann", hashed)]), make_nonce=str, secret=b"s")
    delay_s = 5 if why == "a delay" else 0
    with hosting(auth_file="users", protocol="ascii", login_failure_delay_s=delay_s) as host:
        under_way: list[Any] = []
        lend(
            host.service,
            authenticator=users,
            call_later=lambda _, call: under_way.append(call),
            do_aside=lambda work, done: (
                done(work()) if delay_s else under_way.append(lambda: done(work()))
            ),
        )
        caller, connection = host.connect()
        if delay_s:
            caller.send(b"set x 0 0 3\r\na b\r\n")
        caller.send(b"set x 0 0 10\r\nann secret\r\nset k 0 0 1\r\n1\r\n")
        host.turn(3)
        assert len(under_way) == 1
        host.hub.drop_unheard()
        assert host.closed == [connection]
        under_way.pop()()
        host.turn(3)
        assert heard(caller) == b"<end>"
        assert host.service.cache.inspect(b"k") is None


# -- other descriptors ---------------------------------------------------------------------------


def test_others_are_watched(host: Host) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        called: list[bytes] = []
        host.hub.watch(ours.fileno(), lambda: called.append(ours.recv(1)))
        host.turn()
        assert called == []
        theirs.send(b"ab")
        host.turn()
        assert called == [b"a"]
        host.turn()
        assert called == [b"a", b"b"], "as long as there is anything to read"
        host.hub.unwatch(ours.fileno())
        host.hub.unwatch(ours.fileno())
        theirs.send(b"c")
        host.turn()
        assert called == [b"a", b"b"]


def test_watched_for_writing_as_well(host: Host) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        called: list[bool] = []
        host.hub.watch(ours.fileno(), lambda: called.append(True))
        host.hub.watch_writable(ours.fileno(), True)
        host.turn()
        assert called == [True]
        host.hub.watch_writable(ours.fileno(), False)
        host.turn()
        assert called == [True]
        host.hub.unwatch(ours.fileno())


def test_unwatched_in_its_own_call_and_in_that_of_another(host: Host) -> None:
    pairs = [socket.socketpair() for _ in range(2)]
    called: list[int] = []

    def forget_all(number: int) -> None:
        called.append(number)
        for ours, _ in pairs:
            host.hub.unwatch(ours.fileno())

    for number, (ours, theirs) in enumerate(pairs):
        host.hub.watch(ours.fileno(), lambda number=number: forget_all(number))  # type: ignore[misc]
        theirs.send(b"x")
    host.turn(3)
    assert len(called) == 1
    for pair in pairs:
        for sock in pair:
            sock.close()


# -- those who wait for other servers ------------------------------------------------------------


class Waiting(PairedConnection):
    """A client whose commands all wait, until they are answered by hand."""

    __slots__ = ()

    def __init__(self, service: Service) -> None:
        service.gate = cast("Gate", SimpleNamespace(clock=service.clock))
        super().__init__(service)
        service.gate = None

    def respond(self, data: bytes) -> bytes | None:
        self.waiting = True
        self.suspend()
        return b""

    def run(self) -> bool:
        return False

    def answer(self, reply: bytes) -> None:
        assert self.deliver is not None
        self.waiting = False
        self.deliver(reply)


def test_who_waits_is_not_read_from_and_costs_nothing(host: Host) -> None:
    connection = Waiting(host.service)
    caller, _ = host.connect(connection)
    caller.send(b"version\r\n")
    host.turn()
    assert connection.waiting
    caller.send(b"version\r\n")
    host.turn(3)
    assert host.hub._epoll.poll(0) == [], "what it sends meanwhile does not wake us again"
    connection.answer(b"one\r\n")
    assert heard(caller) == b"one\r\n"
    host.turn()
    assert connection.waiting, "its next command was read"
    connection.answer(b"two\r\n")
    assert heard(caller) == b"two\r\n"


def test_who_leaves_while_it_waits_is_closed(host: Host) -> None:
    connection = Waiting(host.service)
    caller, _ = host.connect(connection)
    caller.send(b"version\r\n")
    host.turn()
    caller.close()
    host.turn(3)
    assert host.closed == [connection]


def test_an_awaited_reply_that_the_socket_does_not_take(host: Host) -> None:
    connection = Waiting(host.service)
    caller, _ = host.connect(connection)
    caller.send(b"get big\r\n")
    host.turn()
    connection.answer(BIG_REPLY)
    assert heard_in_time(host, caller, len(BIG_REPLY)) == BIG_REPLY
    caller.send(b"version\r\n")
    host.turn(2)
    assert connection.waiting


def test_of_many_who_are_answered_at_once_most_are_so_in_the_next_turns(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To write to them all would take as long as others may take a node for gone."""
    monkeypatch.setattr("pymcd.server.hub.DELIVERED_MAX", 3)
    connections = [Waiting(host.service) for _ in range(10)]
    callers = [host.connect(connection)[0] for connection in connections]
    for number in range(3):
        for caller in callers:
            caller.send(b"version\r\n")
        host.turn()
        assert all(connection.waiting for connection in connections)
        for connection in connections:
            connection.answer(b"%d\r\n" % number)
        said = [heard(caller) for caller in callers]
        assert said == 3 * [b"%d\r\n" % number] + 7 * [b""]
        host.turn()
        assert [heard(caller) for caller in callers[3:]] == 7 * [b"%d\r\n" % number]
    caller = callers[-1]
    caller.send(b"version\r\n")
    host.turn()
    caller.close()
    host.turn(2)
    assert host.closed == [connections[-1]]


# -- in the event loop ---------------------------------------------------------------------------


@contextmanager
def parks_counted(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """Count how often trio is asked to wait for a descriptor."""
    parked: list[int] = []
    really_wait = trio.lowlevel.wait_readable

    async def wait(fd: int) -> None:
        parked.append(fd)
        await really_wait(fd)

    with monkeypatch.context() as patch:
        patch.setattr(trio.lowlevel, "wait_readable", wait)
        yield parked


async def test_with_nothing_to_do_it_is_parked_and_can_be_woken(running_host: Host) -> None:
    host = running_host
    caller, connection = host.connect()
    host.hub.linger_s = 0.0
    async with trio.open_nursery() as nursery:
        nursery.start_soon(host.hub.run)
        await trio.testing.wait_all_tasks_blocked()
        connection.reply(b"a line that nobody asked for\r\n")
        connection.wake()
        connection.wake()
        await trio.testing.wait_all_tasks_blocked()
        assert heard(caller) == b"a line that nobody asked for\r\n"
        caller.send(b"version\r\n")
        await trio.testing.wait_all_tasks_blocked()
        assert heard(caller) == VERSION
        nursery.cancel_scope.cancel()


async def test_who_asks_again_at_once_finds_it_awake(
    running_host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    host = running_host
    caller, _ = host.connect()
    caller.setblocking(True)
    host.hub.linger_s = 0.0

    parked_by_then: list[int] = []

    def ask_often() -> None:
        for _ in range(20):
            caller.send(b"version\r\n")
            assert caller.recv(100) == VERSION
        parked_by_then.append(len(parked))
        host.hub.linger_s = 0.0
        caller.send(b"version\r\n")

    with parks_counted(monkeypatch) as parked:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(host.hub.run)
            await trio.testing.wait_all_tasks_blocked()
            assert len(parked) == 1
            host.hub.linger_s = 10.0  # as long as it takes on a busy machine
            asking = threading.Thread(target=ask_often)
            asking.start()
            while asking.is_alive():
                await trio.lowlevel.checkpoint()
            nursery.cancel_scope.cancel()
    assert parked_by_then == [1]


@pytest.mark.parametrize("linger_s", [LINGER_S, 0.0, 10.0])
@pytest.mark.parametrize("brisk", [False, True])
def test_who_asks_briskly_is_waited_for_longer(
    host: Host, brisk: bool, linger_s: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    host.hub._brisk = brisk
    host.hub.linger_s = linger_s
    with monkeypatch.context() as patch:
        # It waits for nobody, and tells how long it would.
        patch.setattr(host.hub, "_epoll", SimpleNamespace(poll=lambda wait_s: wait_s))
        waited_s: Any = host.hub._linger()
    assert waited_s == (BRISK_LINGER_S if brisk and linger_s == LINGER_S else linger_s)


async def test_timers_are_not_starved(running_host: Host) -> None:
    """A client who always has more to do leaves time for the rest of the program."""
    host = running_host
    caller, connection = host.connect()
    other, _ = host.connect()
    turns = 0

    def never_done(connection: Connection, budget: int) -> bool:
        nonlocal turns
        turns += 1
        return True

    connection.runner = never_done
    caller.send(b"version\r\n")
    with trio.fail_after(60):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(host.hub.run)
            for _ in range(3):
                before = turns
                other.send(b"version\r\n")
                await trio.lowlevel.wait_readable(other)
                assert heard(other) == VERSION
                assert turns > before
            nursery.cancel_scope.cancel()


async def test_the_end_of_a_turn_is_told(running_host: Host) -> None:
    host = running_host
    caller, _ = host.connect()
    told: list[bool] = []
    host.hub.linger_s = 0.0
    host.service.reqs_per_event = 1
    async with trio.open_nursery() as nursery:
        nursery.start_soon(host.hub.run, told.append)
        await trio.testing.wait_all_tasks_blocked()
        assert told == [True]
        caller.send(b"version\r\n" * 3)
        await trio.testing.wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    assert heard(caller) == VERSION * 3
    # Not idle after the first two commands, and idle when all is done.
    assert told[1:].count(False) >= 2
    assert told[-1]


def test_all_are_closed_with_the_hub() -> None:
    with hosting() as host:
        pairs = [host.connect() for _ in range(3)]
    assert host.closed == [connection for _, connection in pairs]
    assert len(host.hub._sessions) == 0


def test_reads_are_bounded(host: Host) -> None:
    caller, connection = host.connect()
    caller.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4 << 20)
    sent = caller.send(b"set a 0 0 1000000\r\n" + b"x" * (2 * limits.RECEIVE_BYTES))
    assert sent > limits.RECEIVE_BYTES
    host.turn()
    assert connection.awaited is not None
    assert host.service.counters.bytes_read == limits.RECEIVE_BYTES


# -- lanes ---------------------------------------------------------------------------------------


class Time:
    """A clock that goes on by so much with each run of those who are watched, and not else."""

    def __init__(self, run_s: float) -> None:
        self.now = 0.0
        self.runs = 0
        self._run_s = run_s

    def __call__(self) -> float:
        return self.now

    def spend(self) -> None:
        self.now += self._run_s
        self.runs += 1

    def watch(self, connection: Connection) -> None:
        """Have each run of this connection take time."""
        run = connection.runner

        def runner(connection: Connection, budget: int, /) -> bool:
            self.spend()
            connection.runner = run
            try:
                return run(connection, budget)
            finally:
                connection.runner = runner

        connection.runner = runner


#: Two runs fit into a share: so many lanes, ready sockets included, come before one client again.
RUNS_PER_TURN = 4 * 2


@contextmanager
def hosting_with_clock(run_s: float = 0.0006, **settings: Any) -> Iterator[tuple[Host, Time]]:
    with hosting(**settings) as host:
        clock = Time(run_s)
        host.hub._monotonic = clock
        yield host, clock


def runs_until_answered(host: Host, clock: Time, caller: socket.socket) -> int:
    """Ask, and return how many runs of others there were before the answer."""
    before = clock.runs
    caller.send(b"version\r\n")
    for _ in range(1000):
        host.turn()
        if heard(caller) == VERSION:
            return clock.runs - before
    raise AssertionError("no answer")


HEAVY = [
    pytest.param(b"version\r\n" * 5000, id="pipeline"),
    pytest.param(b"stats\r\n" * 5000, id="reports"),
    pytest.param(b"get" + b" big" * 1000 + b"\r\n", id="large values"),
    pytest.param(b"get" + b" k" * 15_000 + b"\r\n", id="many keys"),
    pytest.param(b"stats\r\n", id="one report after the other"),
]


@pytest.mark.parametrize("request_of_many", HEAVY)
@pytest.mark.parametrize("number", [2, 100])
def test_who_asks_for_little_waits_for_little(request_of_many: bytes, number: int) -> None:
    """Whatever others ask for, and however many they are."""
    with hosting_with_clock() as (host, clock):
        host.store_big()
        modest, _ = host.connect()
        assert runs_until_answered(host, clock, modest) == 0
        crowd = [host.connect() for _ in range(number)]
        for caller, connection in crowd:
            clock.watch(connection)
            caller.send(request_of_many)
        for _ in range(50):
            assert runs_until_answered(host, clock, modest) <= RUNS_PER_TURN
            for caller, _ in crowd:
                if b"END\r\n" in heard(caller) and len(request_of_many) < 10:
                    caller.send(request_of_many)
        assert clock.runs > 20, "they go on as well"


def test_newcomers_do_not_keep_others_waiting_nor_do_they_wait_for_the_heavy() -> None:
    with hosting_with_clock() as (host, clock):
        modest, _ = host.connect()
        assert runs_until_answered(host, clock, modest) == 0
        for _ in range(50):
            caller, connection = host.connect()
            clock.watch(connection)
            caller.send(b"version\r\n" * 5000)
        host.turn(50)
        for _ in range(20):
            late, connection = host.connect()
            clock.watch(connection)
            assert runs_until_answered(host, clock, modest) <= RUNS_PER_TURN
            assert runs_until_answered(host, clock, late) <= RUNS_PER_TURN


REQUEST_OF_LITTLE = b"get" + 5 * (b" " + b"x" * 250) + b"\r\n"
#: So many of them, each a run, are served before the hub looks at the clock.
RUNS_UNSEEN = LOOK_AT_CLOCK_EVERY_BYTES // len(REQUEST_OF_LITTLE) + 1


def test_all_who_are_ready_are_served_in_order() -> None:
    """One share is not enough for all of them, and nobody is forgotten or served twice."""
    with hosting_with_clock() as (host, clock):
        crowd = [host.connect() for _ in range(20)]
        order: list[int] = []
        for caller, connection in crowd:
            caller.send(b"version\r\n")
            host.turn(2)
            assert heard(caller) == VERSION
            clock.watch(connection)
        for index, (caller, connection) in enumerate(crowd):
            runner = connection.runner

            def noting(
                connection: Connection, budget: int, /, index: int = index, runner: Any = runner
            ) -> bool:
                order.append(index)
                more: bool = runner(connection, budget)
                connection.runner = noting
                return more

            connection.runner = noting
            connection.answer_plain = None
            caller.send(REQUEST_OF_LITTLE)
        for turn in range(20 // RUNS_UNSEEN):
            host.turn()
            assert len(order) == RUNS_UNSEEN * (turn + 1), "a share each turn, or little more"
        assert sorted(order) == order == list(range(20))
        assert [heard(caller) for caller, _ in crowd] == [b"END\r\n"] * 20


def test_who_was_not_served_may_leave_and_another_take_its_number() -> None:
    with hosting_with_clock(run_s=1.0) as (host, clock):
        crowd = [host.connect() for _ in range(RUNS_UNSEEN + 2)]
        for caller, connection in crowd:
            caller.send(b"version\r\n")
            host.turn(2)
            clock.watch(connection)
            connection.answer_plain = None
            heard(caller)
        for caller, _ in crowd:
            caller.send(REQUEST_OF_LITTLE)
        host.turn()
        assert len(host.hub._rest) == 2
        last = crowd[-1][1]
        host.hub.shut(last)
        host.hub.shut(crowd[-2][1])
        new, connection = host.connect()
        assert connection.id in (last.id, crowd[-2][1].id)
        assert all(fd != connection.id for fd, _ in host.hub._rest)
        new.send(b"version\r\n")
        host.turn(3)
        assert heard(new) == VERSION


def test_who_was_heavy_is_light_again_when_it_asks_for_little() -> None:
    with hosting_with_clock() as (host, _):
        caller, connection = host.connect()
        (session,) = host.hub._sessions.values()
        assert session.lane is host.hub._newcomers
        caller.send(b"version\r\n")
        host.turn(2)
        assert session.lane is host.hub._light
        caller.send(b"version\r\n" * 100)
        host.turn()
        assert session.lane is host.hub._heavy
        host.turn(10)
        assert session.lane is host.hub._light
        assert heard(caller) == VERSION * 101
        caller.send(b"stats\r\n")
        host.turn(3)
        assert session.lane is host.hub._heavy, "a report is much"
        assert heard(caller).endswith(b"END\r\n")
        caller.send(b"version\r\n")
        host.turn(3)
        assert heard(caller) == VERSION
        assert session.lane is host.hub._light
        assert connection.answer_plain is not None


# -- memory of replies that are not read ---------------------------------------------------------

MEMORY = 64 << 20
VALUE_BYTES = 1_000_000


def store_value(host: Host, number: int) -> None:
    status = host.service.cache.store(
        StoreMode.SET, b"k%d" % number, number.to_bytes(4, "big") * (VALUE_BYTES // 4)
    )
    assert status is Status.STORED


def look_at_lent(host: Host, clock: Time) -> None:
    clock.now += 1.0
    host.turn()
    knock, _ = host.connect()
    knock.send(b"version\r\n")
    host.turn(2)
    host.service.under_way.check()


@pytest.mark.parametrize(
    "request_of_much",
    [
        b"get %b\r\n",
        b"get" + b" %b" * 20 + b"\r\n",
        b"mg %b v\r\n" * 20,
        b"\x80\x00\x00\x02" + bytes(7) + b"\x02" + bytes(12) + b"%b",
    ],
)
def test_a_value_that_is_an_item_still_costs_nothing(request_of_much: bytes) -> None:
    with hosting_with_clock(memory_limit_bytes=MEMORY) as (host, clock):
        store_value(host, 1)
        number = request_of_much.count(b"%b")
        crowd = [host.connect() for _ in range(100)]
        for caller, _ in crowd:
            caller.send(request_of_much % ((b"k1",) * number))
        host.turn(300)
        under_way = host.service.under_way
        assert len(host.hub._lent_to) == 100
        assert under_way.held_bytes < 100 * 1000
        for _, connection in crowd:
            assert sum(map(len, connection.pieces)) <= VALUE_BYTES + 200, "one at a time"
        # But as soon as it is none, each client has one of its own, as far as we know.
        store_value(host, 1)
        look_at_lent(host, clock)
        assert under_way.limit_bytes - VALUE_BYTES <= under_way.held_bytes <= under_way.limit_bytes
        assert 66 <= len(host.closed) <= 70
        assert {connection.close_reason for connection in host.closed} == {"error"}
        assert len(host.hub._lent_to) == 100 - len(host.closed)
        host.hub.close_all()
        assert under_way.held_bytes == 0
        host.hub._epoll = select.epoll()
        host.hub._alarm, host.hub._bell = _alarm()


def test_who_reads_slowly_gets_its_answer_though_the_value_is_gone() -> None:
    with hosting_with_clock(memory_limit_bytes=MEMORY) as (host, clock):
        store_value(host, 7)
        expected = host.service.cache.inspect(b"k7").value  # type: ignore[union-attr]
        slow, _ = host.connect()
        slow.send(b"get k7\r\n")
        host.turn(10)
        # It goes on reading, a socket's buffer a second; others do not. All values are overwritten
        # all the time.
        said = b""
        crowd = []
        for _ in range(100):
            said += heard(slow) if len(said) < VALUE_BYTES else b""
            host.service.cache._set_now(host.service.cache.now + 1)
            for number in range(8):
                store_value(host, number)
                caller, connection = host.connect()
                crowd.append(connection)
                caller.send(b"get k%d\r\n" % number)
                host.turn(5)
            for number in range(8):
                store_value(host, number)
            clock.now += 1.0
            host.turn(2)
            assert host.service.under_way.held_bytes <= host.service.under_way.limit_bytes
        said += heard_in_time(host, slow, len(expected) + 27 - len(said))
        assert said == b"VALUE k7 0 1000000\r\n%b\r\nEND\r\n" % expected
        assert len(host.closed) > 500, "those who do not read"
        assert len(crowd) - len(host.closed) >= 20


def test_what_is_read_or_closed_is_no_longer_counted(host: Host) -> None:
    host.store_big()
    under_way = host.service.under_way
    caller, _ = host.connect()
    caller.send(b"get big big\r\n")
    host.turn(5)
    assert len(host.hub._lent_to) == 1
    host.service.cache.store(StoreMode.SET, b"big", BIG)
    host.hub._looked_at = -1.0
    host.turn()
    got = heard_in_time(host, caller, 2 * len(BIG_REPLY) - 5)
    assert len(got) == 2 * len(BIG_REPLY) - 5
    assert host.hub._lent_to == {}
    assert under_way.held_bytes == 0
    caller.send(b"get big\r\n")
    host.turn(5)
    assert len(host.hub._lent_to) == 1
    caller.close()
    host.turn(5)
    assert host.hub._lent_to == {}
    assert under_way.held_bytes == 0


@pytest.mark.parametrize(
    "behind", [b"", b"version\r\n" * 500, b"set a 0 0 90000\r\n" + bytes(40_000)]
)
def test_what_is_behind_an_unread_reply_is_counted_once(host: Host, behind: bytes) -> None:
    host.store_big()
    under_way = host.service.under_way
    caller, connection = host.connect()
    caller.send(b"set a 0 0 90000\r\n" + bytes(30_000))
    host.turn(5)
    caller.send(bytes(60_000) + b"\r\nget big\r\n" + behind)
    host.turn(20)
    (session,) = host.hub._sessions.values()
    assert session.unsent is not None
    assert 0 <= session.held_bytes <= len(behind) + limits.REPLY_CHUNK_BYTES
    assert under_way.held_bytes == session.held_bytes + connection.held_bytes
    under_way.check()
    caller.close()
    host.turn(3)
    assert under_way.held_bytes == 0


@pytest.mark.parametrize("where", ["text", "meta", "binary"])
@pytest.mark.parametrize("size", [1, 33_000, 65_000, 70_000, 131_072, 200_000])
def test_who_rests_has_no_value(host: Host, where: str, size: int) -> None:
    host.service.cache.store(StoreMode.SET, b"k", bytes(size))
    caller, connection = host.connect()
    request_of_it = {
        "text": b"get k\r\n",
        "meta": b"mg k v\r\n",
        "binary": b"\x80\x00\x00\x01" + bytes(7) + b"\x01" + bytes(12) + b"k",
    }[where]
    for _ in range(3):
        caller.send(request_of_it)
        assert len(heard_in_time(host, caller, size)) > size
        host.turn(3)
        assert connection.lent == []
        assert connection.pieces == []
