"""A connection to another server that gives way only where it must."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import trio

from pymcd.server.calling import Call

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


@asynccontextmanager
async def called() -> AsyncIterator[tuple[Call, trio.SocketStream]]:
    """Yield a call, and what it reaches."""
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    async with listener:
        with await Call.open(*listener.socket.getsockname()) as call:
            async with await listener.accept() as other:
                yield call, other


async def test_what_is_there_is_had_at_once():
    async with called() as (call, other):
        assert call.receive(10) is None
        await other.send_all(b"hello")
        await call.readable()
        assert call.receive(3) == b"hel"
        assert call.receive(3) == b"lo"
        assert call.receive(3) is None
        assert call.send(b"and you")
        assert await other.receive_some() == b"and you"


async def test_what_finds_no_room_is_sent_later():
    async with called() as (call, other):
        data = bytes(range(256)) * 40_000
        assert not call.send(data)
        assert not call.send(b"behind")
        received = bytearray()
        while len(received) < len(data) + 6:
            received += await other.receive_some(1 << 20)
            await call.writable()
            call.send(b"")
        assert received == data + b"behind"
        assert call.send(b"")


async def test_an_end_is_told_to_who_reads():
    async with called() as (call, other):
        await other.aclose()
        await call.readable()
        assert call.receive(10) == b""
        for _ in range(3):
            assert call.send(b"x" * 10), "it is met by who reads"
            assert call.receive(10) == b""
