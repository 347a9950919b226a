"""Values on their way in, through each driver: what is refused is answered when it is all there."""

from __future__ import annotations

import select
from typing import TYPE_CHECKING, Any

import pytest
import trio
import trio.testing

from tests.protocol.refused import REFUSED_ITEM_MAX, SOME_REFUSED

from .authority import HOST, shared_authority
from .helpers import TrioClock, ask, read_until, serving

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.protocol.refused import Refused

    from .helpers import Running

SIZES: dict[str, Any] = {"item_size_max_bytes": REFUSED_ITEM_MAX, "slab_chunk_max_bytes": 1 << 13}
DRIVERS = [
    pytest.param(
        use_hub,
        tls,
        id=("hub" if use_hub else "streams") + (", TLS" if tls else ""),
        marks=pytest.mark.skipif(use_hub and not hasattr(select, "epoll"), reason="needs epoll"),
    )
    for use_hub in (True, False)
    for tls in (False, True)
]


async def until(condition: Callable[[], bool]) -> None:
    """Wait, without a clock, until a condition holds."""
    while not condition():
        await trio.lowlevel.checkpoint()


async def connect(server: Running, *, tls: bool) -> trio.abc.Stream:
    stream = await server.connect()
    if not tls:
        return stream
    secured: trio.SSLStream = trio.SSLStream(
        stream, shared_authority().client(), server_hostname=HOST
    )
    await secured.do_handshake()
    return secured


@pytest.mark.parametrize(("use_hub", "tls"), DRIVERS)
@pytest.mark.parametrize("case", SOME_REFUSED, ids=[each.name for each in SOME_REFUSED])
async def test_nothing_is_said_before_the_last_byte(
    case: Refused, *, use_hub: bool, tls: bool
) -> None:
    whole = case.head + case.rest
    settings = shared_authority().settings() if tls else {}
    async with serving(use_hub=use_hub, **SIZES, **settings) as server:
        stream = await connect(server, tls=tls)
        counters = server.service.counters
        sent = 0
        for cut_at in case.cuts:
            await stream.send_all(whole[sent:cut_at])
            sent = cut_at
            await until(lambda: counters.bytes_read == sent)  # noqa: B023  # at once
            [connection] = server.service.connections.values()
            assert not connection.pieces
            assert counters.bytes_written == 0
        request, answer = case.behind
        await stream.send_all(whole[sent:] + request)
        assert await read_until(stream, answer) == case.reply + answer


@pytest.mark.parametrize("refused", [False, True])
async def test_who_is_sending_a_value_is_not_idle(
    autojump_clock: trio.testing.MockClock, refused: bool
) -> None:
    # memcached: conn_timeout_thread
    size = 20_000 if refused else 10_000
    async with (
        serving(
            endpoints=[], clock=TrioClock(), use_hub=False, idle_timeout_s=5, **SIZES
        ) as server,
        trio.open_nursery() as nursery,
    ):
        ours, theirs = trio.testing.memory_stream_pair()
        nursery.start_soon(server.serve_stream, theirs)
        await ours.send_all(b"set a 0 0 %d\r\n" % size)
        await trio.sleep(100)
        await ours.send_all(bytes(size))
        await trio.sleep(100)
        answer = await ask(ours, b"\r\n")
        assert answer.startswith(b"SERVER_ERROR object too large" if refused else b"STORED")
        await trio.sleep(100)
        assert await ours.receive_some() == b""
        assert server.service.counters.idle_kicks == 1
