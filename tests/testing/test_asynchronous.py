"""`serve`: a server in the event loop of the test itself, with trio's clocks and streams."""

from __future__ import annotations

import os
import ssl
from typing import TYPE_CHECKING

import pytest
import trio
import trio.testing

from pymcd.testing import serve

from ..interpreters import needs_certificates
from .helpers import nothing_left

if TYPE_CHECKING:
    from pathlib import Path


async def ask(stream: trio.abc.Stream, request: bytes, end: bytes = b"\r\n") -> bytes:
    await stream.send_all(request)
    answer = b""
    while not answer.endswith(end):
        data = await stream.receive_some()
        if not data:
            break
        answer += data
    return answer


async def test_streams_in_memory() -> None:
    with nothing_left():
        async with serve() as server, server.connect() as one, server.connect() as two:
            assert await ask(one, b"set a 5 0 1\r\nx\r\n") == b"STORED\r\n"
            assert await ask(two, b"get a\r\n", b"END\r\n") == b"VALUE a 5 1\r\nx\r\nEND\r\n"
            item = server.get("a")
            assert item is not None
            assert (item.value, item.flags) == (b"x", 5)
            assert [str(call) for call in server.calls] == ["set a", "get a"]
            assert server.connections == 2
            with pytest.raises(RuntimeError, match="sockets=True"):
                _ = server.address


async def test_sockets() -> None:
    async with serve(sockets=True) as server:
        async with await trio.open_tcp_stream(*server.address) as stream:
            assert await ask(stream, b"version\r\n") == b"VERSION 1.6.45\r\n"
            with server.refuse_connections():
                with pytest.raises(OSError, match="connect"):
                    await trio.open_tcp_stream(*server.address)
                assert await ask(stream, b"version\r\n") == b"VERSION 1.6.45\r\n"
        async with server.connect() as stream:
            assert await ask(stream, b"version\r\n") == b"VERSION 1.6.45\r\n"
        async with await trio.open_tcp_stream(*server.address) as stream:
            assert await ask(stream, b"version\r\n") == b"VERSION 1.6.45\r\n"


async def test_a_unix_socket(tmp_path: Path) -> None:
    path = str(tmp_path / "socket")
    async with serve(unix_socket=path), await trio.open_unix_socket(path) as stream:
        assert await ask(stream, b"version\r\n") == b"VERSION 1.6.45\r\n"
    assert not os.path.exists(path)  # noqa: ASYNC240 - a moment


async def test_its_own_clock() -> None:
    for clock in ("real", "frozen"):
        async with serve(clock=clock) as server, server.connect() as stream:
            await server.put("a", b"1", ttl=60)
            await server.advance(58)
            assert await ask(stream, b"get a\r\n", b"END\r\n") == b"VALUE a 0 1\r\n1\r\nEND\r\n"
            await server.advance(3)
            assert await ask(stream, b"get a\r\n") == b"END\r\n"
            await server.reset()
            assert list(server.calls) == []
            with pytest.raises(ValueError, match="forward"):
                await server.advance(-1)


async def test_the_clock_of_trio_moves_it(autojump_clock: trio.testing.MockClock) -> None:
    async with serve() as server, server.connect() as stream:
        assert await ask(stream, b"set a 0 60 1\r\n1\r\n") == b"STORED\r\n"
        then = server.now
        await trio.sleep(61)
        assert 61 <= server.now - then < 62
        assert await ask(stream, b"get a\r\n") == b"END\r\n"
        with server.fault(command="get").delay(100):
            then = trio.current_time()
            assert await ask(stream, b"get a\r\n") == b"END\r\n"
            assert 100 <= trio.current_time() - then < 102


async def test_faults() -> None:
    async with serve() as server, server.connect() as stream, server.connect() as other:
        with server.fault(command="get", times=1).reply(b"SERVER_ERROR busy\r\n"):
            assert await ask(stream, b"get a\r\n") == b"SERVER_ERROR busy\r\n"
        with server.fault(command="get", times=1).stall():
            await stream.send_all(b"get a\r\n")
            assert len(await server.wait_for("get", count=2)) == 2
            assert await ask(other, b"version\r\n") == b"VERSION 1.6.45\r\n"
        assert await ask(stream, b"") == b"END\r\n"
        with server.fault(command="get", times=1).truncate(2):
            assert await ask(stream, b"get a\r\n") == b"EN"
        server.pause()
        await other.send_all(b"get a\r\n")
        await trio.testing.wait_all_tasks_blocked()
        assert len(server.calls.of("get")) == 3
        server.resume()
        assert await ask(other, b"") == b"END\r\n"
        assert await server.drop_connections() == 1
        assert await ask(other, b"") == b""
        assert server.connections == 0


async def test_reset_of_a_stream_just_ends_it() -> None:
    async with serve() as server, server.connect() as stream:
        server.fault().reset()
        assert await ask(stream, b"get a\r\n") == b""


async def test_waiting_for_calls(autojump_clock: trio.testing.MockClock) -> None:
    async with serve() as server, server.connect() as stream, trio.open_nursery() as nursery:
        nursery.start_soon(stream.send_all, b"get a\r\nget b\r\n")
        calls = await server.wait_for("get", "b")
        assert [str(call) for call in calls] == ["get b"]
        with pytest.raises(
            TimeoutError, match=r"3 of get, .* were 2; there were:\n  get b .*\n  get a "
        ):
            await server.wait_for("get", count=3)


async def test_stats_and_users() -> None:
    async with (
        serve(users={"alice": "secret"}, protocol="ascii") as server,
        server.connect() as stream,
    ):
        assert await ask(stream, b"get a\r\n") == b"CLIENT_ERROR unauthenticated\r\n"
        assert await ask(stream, b"set x 0 0 12\r\nalice secret\r\n") == b"STORED\r\n"
        assert (await server.stats())["auth_cmds"] == "1"


@needs_certificates
async def test_tls() -> None:
    async with serve(sockets=True, tls=True) as server:
        context = ssl.create_default_context(cafile=server.tls_ca_file)
        async with await trio.open_ssl_over_tcp_stream(
            *server.address, ssl_context=context
        ) as stream:
            assert await ask(stream, b"version\r\n") == b"VERSION 1.6.45\r\n"
    async with serve() as server:
        with pytest.raises(RuntimeError, match="tls=True"):
            _ = server.tls_ca_file


async def test_a_test_that_fails_leaves_nothing_behind() -> None:
    # What the test raised, and no group of exceptions around it.
    with nothing_left(), pytest.raises(ZeroDivisionError):
        await fail()


async def fail() -> None:
    async with serve(sockets=True) as server:
        stream = server.connect()
        server.fault().stall()
        await stream.send_all(b"get a\r\n")
        raise ZeroDivisionError
