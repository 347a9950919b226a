"""A connection to another server that gives way only where it must."""

from __future__ import annotations

import ssl
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest
import trio

from pymcd.server.calling import Call

from .authority import HOST, new_authority, shared_authority

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


@asynccontextmanager
async def called_by_tls(client: ssl.SSLContext) -> AsyncIterator[tuple[Call, trio.SSLStream]]:
    """Yield a call by TLS, and what it reaches."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority = shared_authority()
    context.load_cert_chain(authority.chain_file, authority.key_file)
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    async with listener:
        port = listener.socket.getsockname()[1]
        with await Call.open(HOST, port, client) as call:
            other = trio.SSLStream(
                await listener.accept(), context, server_side=True, https_compatible=True
            )
            yield call, other
            await trio.aclose_forcefully(other)


async def received(call: Call, count: int) -> bytes:
    """Return so many bytes of what comes, and no more."""
    data = b""
    while len(data) < count:
        piece = call.receive(count - len(data))
        if piece is None:
            await call.readable()
        elif not piece:
            break
        else:
            data += piece
    return data


async def test_tls_is_spoken_without_a_wait_of_its_own():
    async with called_by_tls(shared_authority().client()) as (call, other):
        async with trio.open_nursery() as nursery:

            async def answer() -> None:
                assert await other.receive_some() == b"and you"
                await other.send_all(b"hello" * 10_000)

            nursery.start_soon(answer)
            assert call.send(b"and you"), "it is kept until the handshake is done"
            assert not call.heard
            assert await received(call, 7) == b"hellohe"
            assert call.heard
            # The rest of a record waits here, and nothing in the socket tells of it.
            assert call.receive(3) == b"llo"
            assert await received(call, 49_990) == b"hello" * 9_998
        assert call.receive(100) is None
        await other.aclose()
        await call.readable()
        assert call.receive(100) == b""


async def test_a_stranger_is_told_by_his_certificate():
    async with called_by_tls(new_authority().client()) as (call, other):
        call.send(b"secret")
        async with trio.open_nursery() as nursery:

            async def be_refused() -> None:
                with pytest.raises(trio.BrokenResourceError) as refused:
                    await other.receive_some()
                assert "alert unknown ca" in str(refused.value.__cause__)

            nursery.start_soon(be_refused)
            with pytest.raises(ssl.SSLCertVerificationError):
                await received(call, 1)


async def test_who_ends_the_handshake_ends_the_call():
    async with called_by_tls(shared_authority().client()) as (call, other):
        await trio.aclose_forcefully(other)
        assert await received(call, 1) == b""


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
