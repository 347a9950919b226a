"""A whole server on real sockets: who is let in, what one client costs another, how it ends."""

from __future__ import annotations

import errno
import gc
import os
import socket
import sys
from typing import TYPE_CHECKING

import pytest
import trio
import trio.testing

from pymcd.config import Settings
from pymcd.protocol.text import VERBS
from pymcd.protocol.verbs import LOCAL, Verb, no_keys
from pymcd.server.listening import open_unix_endpoint

from ..clocks import ManualClock
from ..interpreters import of_cpython
from .helpers import ask, read_all, read_until, serving

if TYPE_CHECKING:
    from pathlib import Path

    from pymcd.protocol import Connection

HAS_EPOLL = sys.platform == "linux"
DRIVERS = [
    pytest.param(True, marks=pytest.mark.skipif(not HAS_EPOLL, reason="needs epoll"), id="hub"),
    pytest.param(False, id="streams"),
]
VERSION = b"VERSION 1.6.45\r\n"

pytestmark = pytest.mark.parametrize("use_hub", DRIVERS)


async def until(condition: object) -> None:
    """Wait, without a clock, until `condition()` holds."""
    while not condition():  # type: ignore[operator]
        await trio.lowlevel.checkpoint()


async def test_serves_several_clients(use_hub: bool) -> None:
    async with serving(use_hub=use_hub) as server:
        first, second = await server.connect(), await server.connect()
        assert await ask(first, b"set a 0 0 1\r\nx\r\n") == b"STORED\r\n"
        assert await ask(second, b"get a\r\n", end=b"END\r\n") == b"VALUE a 0 1\r\nx\r\nEND\r\n"
        assert len(server.service.connections) == 2
        (one, two) = server.service.connections.values()
        assert one.listen_address == f"tcp:127.0.0.1:{server.port}"
        assert one.address.startswith("tcp:127.0.0.1:")
        assert one.address != two.address
        assert list(server.reception.listening.values()) == [one.listen_address]
        await first.aclose()
        await until(lambda: len(server.service.connections) == 1)
    assert server.service.counters.total_connections == 2
    assert not server.service.connections


async def test_no_client_is_forgotten_while_others_come_and_go(use_hub: bool) -> None:
    # Descriptors are used again at once, while the connection that had one is still ending: by
    # those who are accepted then, as clients have theirs already.
    socks = [trio.socket.socket() for _ in range(200)]
    async with serving(use_hub=use_hub) as server:

        async def connect(sock: trio.socket.SocketType) -> None:
            await sock.connect(("127.0.0.1", server.port))
            stream = trio.SocketStream(sock)
            assert await ask(stream, b"mn\r\n") == b"MN\r\n"

        for number, sock in enumerate(socks):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(connect, sock)
                if number >= 5:
                    socks[number - 5].close()
        connections = server.service.connections
        await until(lambda: len(connections) <= 5)
        assert len(connections) == 5
        assert [each.id for each in connections.values()] == list(connections)
        assert server.service.counters.total_connections == len(socks)
        for sock in socks:
            sock.close()


async def test_a_large_value_passes_both_ways(use_hub: bool) -> None:
    value = os.urandom(1 << 19)
    async with serving(use_hub=use_hub) as server:
        stream = await server.connect()
        assert await ask(stream, b"set a 0 0 %d\r\n%b\r\n" % (len(value), value)) == b"STORED\r\n"
        reply = b"VALUE a 0 %d\r\n%b\r\n" % (len(value), value) * 20 + b"END\r\n"
        got = await ask(stream, b"get" + b" a" * 20 + b"\r\n", end=b"\r\nEND\r\n")
        assert got == reply


async def test_a_client_that_never_reads_is_not_in_the_way(use_hub: bool) -> None:
    async with serving(use_hub=use_hub) as server:
        greedy, other = await server.connect(), await server.connect()
        greedy.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        assert await ask(greedy, b"set a 0 0 500000\r\n%b\r\n" % bytes(500_000)) == b"STORED\r\n"
        (connection, _) = server.service.connections.values()
        # Far more than the sockets hold.
        await greedy.send_all(b"get a\r\n" * 100)
        await trio.testing.wait_all_tasks_blocked()
        for _ in range(50):
            assert await ask(other, b"version\r\n") == VERSION
        # What is kept for it is bounded: the rest of one turn's replies, which refer to the value.
        assert len(connection.pieces) <= 3 * server.settings.reqs_per_event
        assert server.service.counters.bytes_written < 50_000_000


@pytest.mark.parametrize("reqs_per_event", [1, 3, 20])
@pytest.mark.timeout(20)
async def test_a_slow_reader_gets_all_its_answers(use_hub: bool, reqs_per_event: int) -> None:
    async with serving(use_hub=use_hub, reqs_per_event=reqs_per_event) as server:
        slow, other = await server.connect(), await server.connect()
        value = b"%b\r\n" % (b"v" * 500_000)
        assert await ask(slow, b"set a 0 0 500000\r\n" + value) == b"STORED\r\n"
        # One burst, nothing after it: the server must go on by itself as room is made.
        await slow.send_all(b"get a\r\n" * 20 + b"version\r\n")
        await trio.testing.wait_all_tasks_blocked()
        assert await ask(other, b"version\r\n") == VERSION
        got = await read_until(slow, VERSION)
        assert got == (b"VALUE a 0 500000\r\n" + value + b"END\r\n") * 20 + VERSION


def _dump(connection: Connection, tokens: list[bytes]) -> None:
    connection.source = iter([b"one\r\n", b"two\r\n"])


async def test_commands_behind_a_long_answer_are_not_forgotten(use_hub: bool) -> None:
    async with serving(use_hub=use_hub, reqs_per_event=1) as server:
        client = await server.connect()
        assert await ask(client, b"version\r\n") == VERSION
        (connection,) = server.service.connections.values()
        connection.verbs = {**VERBS, b"dump": Verb(LOCAL, no_keys, _dump)}
        await client.send_all(b"version\r\ndump\r\nincr b 1\r\n")
        got = await read_until(client, b"NOT_FOUND\r\n")
        assert got == VERSION + b"one\r\ntwo\r\nNOT_FOUND\r\n"


async def test_too_many_connections_are_told_so(use_hub: bool) -> None:
    async with serving(use_hub=use_hub, conn_limit=3) as server:
        streams = [await server.connect() for _ in range(3)]
        for stream in streams:
            assert await ask(stream, b"version\r\n") == VERSION
        for _ in range(2):
            rejected = await server.connect()
            assert await read_all(rejected) == b"ERROR Too many open connections\r\n"
        assert server.service.counters.rejected_connections == 2
        await streams.pop().aclose()
        await until(lambda: len(server.service.connections) == 2)
        assert await ask(await server.connect(), b"version\r\n") == VERSION


async def test_without_maxconns_fast_new_clients_wait(use_hub: bool) -> None:
    async with serving(use_hub=use_hub, conn_limit=2, maxconns_fast=False) as server:
        streams = [await server.connect() for _ in range(2)]
        for stream in streams:
            assert await ask(stream, b"version\r\n") == VERSION
        assert server.reception.accepting
        patient = await server.connect()
        await patient.send_all(b"version\r\n")
        await until(lambda: not server.reception.accepting)
        assert server.service.counters.listen_disabled == 1
        await streams[0].aclose()
        assert await read_until(patient, b"\r\n") == VERSION
        assert server.reception.accepting
        assert server.service.counters.listen_disabled_us > 0
        assert server.service.counters.rejected_connections == 0


async def test_without_descriptors_the_server_waits(
    use_hub: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with serving(use_hub=use_hub, verbose=1) as server:
        first = await server.connect()
        assert await ask(first, b"version\r\n") == VERSION
        endpoint = server.endpoints[0]

        def accept(sock: socket.socket) -> None:
            monkeypatch.undo()
            raise OSError(errno.EMFILE, "Too many open files")

        monkeypatch.setattr(socket.socket, "accept", accept)
        second = await server.connect()
        await second.send_all(b"version\r\n")
        await until(lambda: server.service.counters.listen_disabled == 1)
        assert server.memory.lines == ["Too many open connections"]
        # A client that leaves makes room at once.
        await first.aclose()
        assert await read_until(second, b"\r\n") == VERSION
        assert endpoint.sock.fileno() >= 0


async def test_a_fault_in_a_handler_costs_one_connection(use_hub: bool) -> None:
    def broken(connection: Connection, tokens: list[bytes]) -> None:
        raise ZeroDivisionError("a bug")

    async with serving(use_hub=use_hub) as server:
        victim, other = await server.connect(), await server.connect()
        for stream in (victim, other):
            assert await ask(stream, b"version\r\n") == VERSION
        for connection in server.service.connections.values():
            connection.verbs = {**connection.verbs, b"broken": Verb(LOCAL, no_keys, broken)}
        await victim.send_all(b"broken\r\n")
        assert await read_all(victim) == b""
        assert await ask(other, b"version\r\n") == VERSION
        assert len(server.memory.failures) == 1
        assert len(server.service.connections) == 1


async def test_only_silent_clients_are_closed(use_hub: bool) -> None:
    clock = ManualClock()
    async with serving(use_hub=use_hub, idle_timeout_s=10, clock=clock) as server:
        silent, active = await server.connect(), await server.connect()
        for stream in (silent, active):
            assert await ask(stream, b"version\r\n") == VERSION
        for _ in range(2):
            clock.advance(6)
            assert await ask(active, b"version\r\n") == VERSION
            for chore in server.chores:
                chore.wake()
            await trio.testing.wait_all_tasks_blocked()
        assert await read_all(silent) == b""
        assert await ask(active, b"version\r\n") == VERSION
        assert server.service.counters.idle_kicks == 1


async def test_garbage_and_half_open_clients_disturb_nobody(use_hub: bool) -> None:
    async with serving(use_hub=use_hub) as server:
        good = await server.connect()
        others = [await server.connect() for _ in range(100)]
        for number, stream in enumerate(others):
            match number % 5:
                case 0:
                    pass  # says nothing
                case 1:
                    await stream.send_all(os.urandom(3000))
                case 2:
                    await stream.send_all(b"x" * 5000)  # a line without end
                case 3:
                    await stream.send_all(b"set a 0 0 1000000\r\nno")  # a value that never comes
                case 4:
                    await stream.send_all(b"get a\r\n" * 10)
                    stream.socket.setsockopt(
                        socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0"
                    )
                    await stream.aclose()  # with a reset
        for _ in range(20):
            assert await ask(good, b"version\r\n") == VERSION
        assert server.memory.failures == []


async def test_idle_costs_nothing(use_hub: bool) -> None:
    # The maintainer goes to rest step by step, over seconds: test_maintenance has that.
    async with serving(use_hub=use_hub, lru_maintainer=False) as server:
        stream = await server.connect()
        assert await ask(stream, b"version\r\n") == VERSION
        # Once all is quiet nobody is scheduled: a task that steps each time others run sees none.
        await trio.testing.wait_all_tasks_blocked()
        before = [chore.turns for chore in server.chores]
        ran: list[object] = []

        class Watch(trio.abc.Instrument):
            def task_scheduled(self, task: trio.lowlevel.Task) -> None:
                ran.append(task)

        watch = Watch()
        trio.lowlevel.add_instrument(watch)
        await trio.testing.wait_all_tasks_blocked()
        trio.lowlevel.remove_instrument(watch)
        assert set(ran) <= {trio.lowlevel.current_task()}
        assert [chore.turns for chore in server.chores] == before


async def test_stop_lets_what_is_under_way_finish(use_hub: bool) -> None:
    async with serving(use_hub=use_hub) as server:
        idle, sending = await server.connect(), await server.connect()
        assert await ask(idle, b"version\r\n") == VERSION
        await sending.send_all(b"set a 0 0 5\r\nab")
        await until(lambda: any(c.awaited for c in server.service.connections.values()))
        port = server.port
        server.stop()
        assert await read_all(idle) == b""
        with pytest.raises(OSError, match="connect"):
            await trio.open_tcp_stream("127.0.0.1", port)
        await sending.send_all(b"cde\r\n")
        assert await read_all(sending) == b"STORED\r\n"
        await server.finished.wait()


async def test_stop_does_not_wait_longer_than_it_may(use_hub: bool) -> None:
    async with serving(use_hub=use_hub, shutdown_timeout_s=0) as server:
        sending = await server.connect()
        await sending.send_all(b"set a 0 0 5\r\nab")
        await until(lambda: any(c.awaited for c in server.service.connections.values()))
        server.stop()
        await server.finished.wait()
        assert await read_all(sending) == b""


async def test_the_shutdown_hook_stops_the_server(use_hub: bool) -> None:
    async with serving(use_hub=use_hub) as server:
        server.service.host.shutdown(True)
        assert server.graceful
        await server.finished.wait()


async def test_a_unix_socket(use_hub: bool, tmp_path: Path) -> None:
    path = str(tmp_path / "socket")
    settings = Settings(unix_socket=path, unix_mask=0o750)
    for _ in range(2):
        # The second one replaces a file that nobody serves any more.
        endpoint = open_unix_endpoint(settings, path)
        assert os.stat(path).st_mode & 0o777 == 0o750
        async with serving(use_hub=use_hub, endpoints=[endpoint], unix_socket=path) as server:
            stream = await server.connect()
            assert await ask(stream, b"version\r\n") == VERSION
            (connection,) = server.service.connections.values()
            assert connection.transport == "local"
            assert connection.listen_address == f"unix:{path}"
        with pytest.raises(FileNotFoundError):
            os.lstat(path)
        stale = socket.socket(socket.AF_UNIX)
        stale.bind(path)
        stale.close()


async def test_nothing_is_left_behind(use_hub: bool) -> None:
    async def once() -> None:
        async with serving(use_hub=use_hub) as server:
            for _ in range(3):
                assert await ask(await server.connect(), b"version\r\n") == VERSION

    await once()
    gc.collect()
    before = len(os.listdir("/dev/fd"))
    await once()
    gc.collect()
    assert len(os.listdir("/dev/fd")) == before


@of_cpython("objects die by reference count")
@pytest.mark.skipif(not HAS_EPOLL, reason="needs epoll")
async def test_a_closed_connection_dies_by_reference_count(use_hub: bool) -> None:
    if not use_hub:
        pytest.skip("only the hub serves enough clients for it to matter")
    from pymcd.protocol import Connection

    def alive() -> int:
        return sum(type(thing) is Connection for thing in gc.get_objects())

    async with serving(use_hub=True) as server:
        gc.collect()
        gc.disable()
        try:
            before = alive()  # of other tests' servers
            stream = await server.connect()
            assert await ask(stream, b"version\r\n") == VERSION
            await stream.aclose()
            await until(lambda: not server.service.connections)
            assert alive() == before
        finally:
            gc.enable()


async def test_the_log_reads_like_memcacheds(use_hub: bool) -> None:
    async with serving(use_hub=use_hub, verbose=2) as server:
        stream = await server.connect()
        await stream.send_all(b"set a 0 0 1\r\n")
        await ask(stream, b"x\r\nget a b\r\nbogus\r\n", end=b"ERROR\r\n")
        (number,) = server.service.connections
        await stream.aclose()
        await until(lambda: not server.service.connections)
        listening = server.endpoints[0].sock.fileno()
    assert server.memory.lines == [
        f"<{listening} server listening (auto-negotiate)",
        f"<{number} new auto-negotiating client connection",
        f"{number}: Client using the ascii protocol",
        f"<{number} set a 0 0 1",
        f">{number} STORED",
        f"<{number} get a b",
        f">{number} sending key a",
        f">{number} END",
        f"<{number} bogus",
        f">{number} ERROR",
        f"<{number} connection closed.",
    ]


async def test_reload_calls_every_hook_whatever_one_does(use_hub: bool) -> None:
    called: list[int] = []

    def broken() -> None:
        raise ValueError("a bug")

    async with serving(use_hub=use_hub) as server:
        server.reload_hooks += [broken, lambda: called.append(1)]
        server.reload()
    assert called == [1]
    assert server.memory.reopened == 1
    assert len(server.memory.failures) == 1
