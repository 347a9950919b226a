"""The stream driver: any trio stream, with the clock in hand."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import trio
import trio.testing

from pymcd.protocol.verbs import LOCAL, Verb, no_keys
from pymcd.store import Status, StoreMode

from .helpers import TrioClock, ask, read_all, read_until, serving

if TYPE_CHECKING:
    from pymcd.protocol import Connection

NO_ENDPOINTS: list = []


async def test_answers_in_order_and_closes_when_the_client_does() -> None:
    async with serving(endpoints=NO_ENDPOINTS) as server, trio.open_nursery() as nursery:
        ours, theirs = trio.testing.memory_stream_pair()
        nursery.start_soon(server.serve_stream, theirs)
        await ours.send_all(b"set a 0 0 1\r\nx\r\nget a\r\nver")
        await ours.send_all(b"sion\r\n")
        got = await read_until(ours, b"VERSION 1.6.45\r\n")
        assert got == b"STORED\r\nVALUE a 0 1\r\nx\r\nEND\r\nVERSION 1.6.45\r\n"
        assert len(server.service.connections) == 1
        await ours.aclose()
    assert not server.service.connections
    assert server.service.counters.bytes_read == 32
    assert server.service.counters.bytes_written == len(got)


async def test_quit_closes() -> None:
    async with serving(endpoints=NO_ENDPOINTS) as server, trio.open_nursery() as nursery:
        ours, theirs = trio.testing.memory_stream_pair()
        nursery.start_soon(server.serve_stream, theirs)
        await ours.send_all(b"version\r\nquit\r\nversion\r\n")
        assert await read_all(ours) == b"VERSION 1.6.45\r\n"


async def test_a_long_pipeline_is_served_in_slices() -> None:
    # -R commands at a time, the others in between; all are answered.
    async with (
        serving(endpoints=NO_ENDPOINTS, reqs_per_event=3) as server,
        trio.open_nursery() as nursery,
    ):
        ours, theirs = trio.testing.memory_stream_pair()
        nursery.start_soon(server.serve_stream, theirs)
        got = await ask(ours, b"incr n 1\r\n" * 100 + b"version\r\n", end=b"1.6.45\r\n")
        assert got == b"NOT_FOUND\r\n" * 100 + b"VERSION 1.6.45\r\n"
        assert server.service.counters.conn_yields == 33
        await ours.aclose()


async def test_a_client_that_does_not_read_stops_its_own_commands() -> None:
    async with serving(endpoints=NO_ENDPOINTS) as server, trio.open_nursery() as nursery:
        ours, theirs = trio.testing.lockstep_stream_pair()
        nursery.start_soon(server.serve_stream, theirs)
        # Sent whole only when the server has taken it all, and it takes no more than one `recv`
        # while an answer waits to be read.
        await ours.send_all(b"get a\r\nset b 0 0 1\r\nx\r\n")
        await trio.testing.wait_all_tasks_blocked()
        with trio.move_on_after(0):
            await ours.send_all(b"set c 0 0 1\r\nx\r\n")
        assert server.service.cache.peek(b"c") is None
        assert await ours.receive_some(100) == b"END\r\nSTORED\r\n"
        await ours.aclose()


async def test_what_a_watcher_is_told_is_sent_without_a_request() -> None:
    async with serving(endpoints=NO_ENDPOINTS) as server, trio.open_nursery() as nursery:
        ours, theirs = trio.testing.memory_stream_pair()
        nursery.start_soon(server.serve_stream, theirs)
        assert await ask(ours, b"version\r\n") == b"VERSION 1.6.45\r\n"
        (connection,) = server.service.connections.values()
        for number in range(3):
            connection.pieces.append(b"line %d\r\n" % number)
            connection.wake()
        assert await read_until(ours, b"2\r\n") == b"line 0\r\nline 1\r\nline 2\r\n"
        await ours.aclose()


async def test_who_is_woken_while_a_reply_is_sent_goes_on(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with serving(endpoints=NO_ENDPOINTS) as server, trio.open_nursery() as nursery:
        ours, theirs = trio.testing.memory_stream_pair()
        nursery.start_soon(server.serve_stream, theirs)
        assert await ask(ours, b"version\r\n") == b"VERSION 1.6.45\r\n"
        (connection,) = server.service.connections.values()
        execute, commands = connection.runner, [1]  # and the next one when it is woken

        def one_at_a_time(connection: Connection, budget: int) -> bool:
            if commands:
                execute(connection, commands.pop())
            return False

        carry = theirs.send_stream.send_all_hook
        assert carry is not None

        async def wake_meanwhile() -> None:
            theirs.send_stream.send_all_hook = carry
            await carry()  # what was sent, to its receiver
            commands.append(1)
            connection.wake()

        connection.runner = one_at_a_time
        connection.answer_plain = None
        theirs.send_stream.send_all_hook = wake_meanwhile
        with trio.fail_after(5):
            assert await ask(ours, b"version\r\nget a\r\n", end=b"END\r\n")
        await ours.aclose()


async def test_a_source_is_drained_piece_by_piece() -> None:
    def dump(connection: Connection, tokens: list[bytes]) -> None:
        connection.answer_from(iter([b"one\r\n", b"two\r\n", b"END\r\n"]))

    async with serving(endpoints=NO_ENDPOINTS) as server, trio.open_nursery() as nursery:
        ours, theirs = trio.testing.memory_stream_pair()
        nursery.start_soon(server.serve_stream, theirs)
        assert await ask(ours, b"version\r\n") == b"VERSION 1.6.45\r\n"
        (connection,) = server.service.connections.values()
        connection.verbs = {**connection.verbs, b"dump": Verb(LOCAL, no_keys, dump)}
        got = await ask(ours, b"dump\r\nversion\r\n", end=b"1.6.45\r\n")
        assert got == b"one\r\ntwo\r\nEND\r\nVERSION 1.6.45\r\n"
        await ours.aclose()


async def test_a_fault_in_a_handler_costs_one_connection() -> None:
    def broken(connection: Connection, tokens: list[bytes]) -> None:
        raise ZeroDivisionError("a bug")

    async with serving(endpoints=NO_ENDPOINTS) as server, trio.open_nursery() as nursery:
        pairs = [trio.testing.memory_stream_pair() for _ in range(2)]
        for _, theirs in pairs:
            nursery.start_soon(server.serve_stream, theirs)
        (victim, _), (other, _) = pairs
        await trio.testing.wait_all_tasks_blocked()
        for connection in server.service.connections.values():
            connection.verbs = {**connection.verbs, b"broken": Verb(LOCAL, no_keys, broken)}
        await victim.send_all(b"broken\r\n")
        assert await read_all(victim) == b""
        assert await ask(other, b"version\r\n") == b"VERSION 1.6.45\r\n"
        assert len(server.service.connections) == 1
        (failure,) = server.memory.failures
        assert isinstance(failure, ExceptionGroup)
        assert failure.subgroup(ZeroDivisionError) is not None
        await other.aclose()


async def test_a_broken_stream_is_no_fault() -> None:
    async with serving(endpoints=NO_ENDPOINTS) as server, trio.open_nursery() as nursery:
        ours, theirs = trio.testing.memory_stream_pair()

        async def snap() -> None:
            raise trio.BrokenResourceError

        theirs.receive_stream.receive_some_hook = snap
        nursery.start_soon(server.serve_stream, theirs)
        assert await read_all(ours) == b""
    assert not server.memory.failures


@pytest.mark.parametrize("idle_timeout_s", [3, 100])
async def test_a_silent_client_is_closed(
    autojump_clock: trio.testing.MockClock, idle_timeout_s: int
) -> None:
    async with (
        serving(
            endpoints=NO_ENDPOINTS, idle_timeout_s=idle_timeout_s, clock=TrioClock(), use_hub=False
        ) as server,
        trio.open_nursery() as nursery,
    ):
        ours, theirs = trio.testing.memory_stream_pair()
        nursery.start_soon(server.serve_stream, theirs)
        await trio.sleep(1)
        begin = trio.current_time()
        for _ in range(3):
            await trio.sleep(idle_timeout_s - 1)
            assert await ask(ours, b"version\r\n") == b"VERSION 1.6.45\r\n"
        assert server.service.counters.idle_kicks == 0
        assert await read_all(ours) == b""
        assert server.service.counters.idle_kicks == 1
        silent_s = trio.current_time() - begin - 3 * (idle_timeout_s - 1)
        assert idle_timeout_s < silent_s <= idle_timeout_s + 2


async def test_a_client_that_is_sending_a_value_is_not_silent(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with (
        serving(
            endpoints=NO_ENDPOINTS, idle_timeout_s=3, clock=TrioClock(), use_hub=False
        ) as server,
        trio.open_nursery() as nursery,
    ):
        ours, theirs = trio.testing.memory_stream_pair()
        nursery.start_soon(server.serve_stream, theirs)
        await ours.send_all(b"set a 0 0 5\r\nab")
        await trio.sleep(10)
        assert await ask(ours, b"cde\r\n") == b"STORED\r\n"
        assert await read_all(ours) == b""


@pytest.mark.parametrize(
    "request_of_much",
    [
        b"version\r\n" * 5000,
        b"stats\r\n" * 1000,
        b"get" + b" k" * 10_000 + b"\r\n",
    ],
)
async def test_who_asks_for_little_waits_for_one_of_the_others_at_most(
    request_of_much: bytes,
) -> None:
    """However many they are. Counted is what they do in each round of the event loop."""
    number = 30
    steps = 0

    class Counting(trio.abc.Instrument):
        most = rounds = before = 0

        def before_io_wait(self, timeout: float) -> None:
            self.most = max(self.most, steps - self.before)
            self.before = steps
            self.rounds += steps > 0

    def count(connection: Connection) -> None:
        really_run = connection.runner

        def runner(connection: Connection, budget: int, /) -> bool:
            nonlocal steps
            steps += 1
            connection.runner = really_run
            try:
                return really_run(connection, budget)
            finally:
                connection.runner = runner

        connection.runner = runner

    async with serving(endpoints=NO_ENDPOINTS) as server, trio.open_nursery() as nursery:
        crowd = []
        for _ in range(number):
            ours, theirs = trio.testing.memory_stream_pair()
            nursery.start_soon(server.serve_stream, theirs)
            assert await ask(ours, b"version\r\n") == b"VERSION 1.6.45\r\n"
            crowd.append(ours)
        for connection in server.service.connections.values():
            count(connection)
        for ours in crowd:
            await ours.send_all(request_of_much)
        # All have had their first run by then.
        for _ in range(10):
            await trio.lowlevel.checkpoint()
        counting = Counting()
        counting.before = steps
        trio.lowlevel.add_instrument(counting)
        for _ in range(60):
            await trio.lowlevel.checkpoint()
        trio.lowlevel.remove_instrument(counting)
        assert counting.most <= 1
        assert counting.rounds > 10, "they go on"
        nursery.cancel_scope.cancel()


async def test_what_is_not_taken_is_counted_and_bounded() -> None:
    async with (
        serving(endpoints=NO_ENDPOINTS, memory_limit_bytes=64 << 20) as server,
        trio.open_nursery() as nursery,
    ):
        status = server.service.cache.store(StoreMode.SET, b"k", bytes(1_000_000))
        assert status is Status.STORED
        under_way = server.service.under_way
        for _ in range(40):
            ours, theirs = trio.testing.lockstep_stream_pair()
            nursery.start_soon(server.serve_stream, theirs)
            await ours.send_all(b"get" + b" k" * 20 + b"\r\n")
        await trio.testing.wait_all_tasks_blocked()
        assert under_way.held_bytes <= under_way.limit_bytes
        assert 30 <= len(server.service.connections) < 40
        nursery.cancel_scope.cancel()
    assert under_way.held_bytes == 0
