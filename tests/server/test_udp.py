"""UDP: one datagram asks, numbered datagrams answer."""

from __future__ import annotations

import socket
import struct
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING

import pytest
import trio
import trio.testing

from pymcd import limits
from pymcd.config import Settings
from pymcd.protocol import Connection
from pymcd.server.listening import Endpoint
from pymcd.server.serving import Server
from pymcd.server.udp import frame_reply, read_datagram
from pymcd.service import Service
from pymcd.store import Status, StoreMode

from ..clocks import ManualClock
from ..hosts import make_host
from .helpers import serving

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from .helpers import Running

HEADER = struct.Struct("!HHHH")


def request(data: bytes, *, number: int = 7, sequence: int = 0, count: int = 1) -> bytes:
    return HEADER.pack(number, sequence, count, 0) + data


@asynccontextmanager
async def udp_client() -> AsyncIterator[tuple[Running, trio.socket.SocketType]]:
    async with serving(udp_port=-1, port=0) as server:
        with trio.socket.socket(type=socket.SOCK_DGRAM) as client:
            await client.connect(server.endpoints[0].sock.getsockname())
            yield server, client


async def ask(client: trio.socket.SocketType, data: bytes) -> bytes:
    """Send one request and return the reply, put together from its datagrams."""
    await client.send(request(data))
    parts: dict[int, bytes] = {}
    while True:
        datagram = await client.recv(65536)
        assert len(datagram) <= 1400
        number, sequence, count, reserved = HEADER.unpack_from(datagram)
        assert (number, reserved) == (7, 0)
        parts[sequence] = datagram[8:]
        if len(parts) == count:
            return b"".join(parts[sequence] for sequence in range(count))


BAD_MODE = b"CLIENT_ERROR invalid mode for ms M token\r\n"

# Name, request, reply.
CASES = [
    ("set", b"set a 0 0 1\r\nx\r\n", b"STORED\r\n"),
    ("miss", b"get a\r\n", b"END\r\n"),
    ("unknown", b"bogus\r\n", b"ERROR\r\n"),
    ("two commands", b"incr a 1\r\nversion\r\n", b"NOT_FOUND\r\nVERSION 1.6.45\r\n"),
    (
        "many commands",
        b"incr a 1\r\n" * 90,
        b"NOT_FOUND\r\n" * 90,
    ),
    (
        "a reply of several datagrams",
        b"set a 0 0 5000\r\n%b\r\nget a\r\n" % (b"v" * 5000),
        b"STORED\r\nVALUE a 0 5000\r\n%b\r\nEND\r\n" % (b"v" * 5000),
    ),
    ("a refused value", b"ms a 3 MZ\r\nabc\r\nmn\r\n", BAD_MODE + b"MN\r\n"),
]


@pytest.mark.parametrize(("data", "reply"), [case[1:] for case in CASES], ids=[c[0] for c in CASES])
async def test_answers(data: bytes, reply: bytes) -> None:
    async with udp_client() as (_, client):
        assert await ask(client, data) == reply


# Name, datagram. None is answered, none harms the next one.
IGNORED = [
    ("empty", b""),
    ("short", b"1234567"),
    ("only a header", request(b"")),
    ("one of two", request(b"get a\r\n", count=2)),
    ("of none", request(b"get a\r\n", count=0)),
    ("without line end", request(b"get a")),
    ("half a value", request(b"set a 0 0 5\r\nab")),
    ("half a value, refused", request(b"ms a 3 MZ\r\na")),
    ("noreply", request(b"set z 0 0 1 noreply\r\nz\r\n")),
    ("quit", request(b"quit\r\nversion\r\n")),
    ("watch", request(b"watch fetchers\r\n")),
    ("metadump", request(b"lru_crawler metadump all\r\n")),
]


@pytest.mark.parametrize("datagram", [case[1] for case in IGNORED], ids=[c[0] for c in IGNORED])
async def test_ignores(datagram: bytes) -> None:
    async with udp_client() as (server, client):
        await client.send(datagram)
        assert await ask(client, b"version\r\n") == b"VERSION 1.6.45\r\n"
        # No watcher was left behind either.
        assert server.service.cache.listener is None
        assert server.service.connections == {}


async def test_a_fault_costs_one_request(monkeypatch: pytest.MonkeyPatch) -> None:
    async with udp_client() as (server, client):

        def broken() -> None:
            monkeypatch.undo()
            raise ZeroDivisionError("a bug")

        monkeypatch.setattr(server.service, "tick", broken)
        await client.send(request(b"version\r\n"))
        assert await ask(client, b"version\r\n") == b"VERSION 1.6.45\r\n"
        assert len(server.memory.failures) == 1


async def test_what_took_long_leaves_memory_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    left: list[bool] = []
    monkeypatch.setattr(Server, "_left", lambda server: left.append(True))
    async with udp_client() as (_, client):
        await ask(client, b"version\r\n")
        assert not left
        await ask(client, b"incr a 1\r\n" * 90)
        assert left


def test_a_reply_beyond_the_numbers_is_refused() -> None:
    # 16 bits number the datagrams: 91 MB. A small question must not cost more memory either.
    settings = Settings(memory_limit_bytes=1 << 30, item_size_max_bytes=256 << 20)
    service = Service(settings, ManualClock(), make_host())
    service.tick()
    assert service.cache.store(StoreMode.SET, b"k", bytes(50 << 20)) is Status.STORED
    with socket.socket(type=socket.SOCK_DGRAM) as sock:
        endpoint = Endpoint(sock, "udp", "udp:127.0.0.1:11211", "auto")

        def answer(data: bytes) -> list[bytes]:
            asked = read_datagram(service, endpoint, request(data), partial(Connection, service))
            assert asked is not None
            while not asked.advance():
                assert asked.woken.is_set()
            return list(asked.datagrams())

        (datagram,) = answer(b"get k k\r\n")
        assert datagram.startswith(HEADER.pack(7, 0, 1, 0) + b"SERVER_ERROR the reply is too large")
        assert len(answer(b"get k\r\n")) > 10_000


def test_no_reply_is_no_datagram() -> None:
    assert list(frame_reply(1, [])) == []
    assert list(frame_reply(1, [b"", b""])) == []


@pytest.mark.parametrize("size", [1, 1391, 1392, 1393, 100_000])
@pytest.mark.parametrize("number", [1, 3])
def test_pieces_are_framed_as_their_whole(size: int, number: int) -> None:
    pieces = [bytes([65 + index]) * size for index in range(number)]
    datagrams = list(frame_reply(9, pieces))
    assert b"".join(datagram[8:] for datagram in datagrams) == b"".join(pieces)
    assert [HEADER.unpack_from(datagram) for datagram in datagrams] == [
        (9, index, len(datagrams), 0) for index in range(len(datagrams))
    ]
    assert {len(datagram) for datagram in datagrams[:-1]} <= {1400}


def test_a_small_question_has_no_large_answer() -> None:
    """Whatever a datagram asks for, at most one large value is kept for its answer."""
    service = Service(Settings(), ManualClock(), make_host())
    service.tick()
    value = bytes(1_000_000)
    service.cache.store(StoreMode.SET, b"k", value)
    with socket.socket(type=socket.SOCK_DGRAM) as sock:
        endpoint = Endpoint(sock, "udp", "udp:127.0.0.1:11211", "auto")
        connect = partial(Connection, service)
        data = b"get k\r\n" * 80 + b"incr n 1\r\n" * 100 + b"set n 0 0 1\r\n5\r\n"
        asked = read_datagram(service, endpoint, request(data), connect)
        assert asked is not None
        steps = 1
        while not asked.advance():
            steps += 1
            assert sum(map(len, asked._reply)) <= len(value) + limits.RUN_REPLY_BYTES
        assert steps >= 80 + 5, "a run each"
        (datagram,) = asked.datagrams()
        assert datagram.startswith(HEADER.pack(7, 0, 1, 0) + b"SERVER_ERROR the reply is too large")
        assert service.cache.inspect(b"n") is not None, "all is executed all the same"


def test_many_questions_that_wait_hold_no_more_than_may_be_under_way() -> None:
    """What there is no room for is lost, as datagrams are; and all is given back."""
    service = Service(Settings(memory_limit_bytes=4 << 20), ManualClock(), make_host())
    service.tick()
    under_way = service.under_way
    with socket.socket(type=socket.SOCK_DGRAM) as sock:
        endpoint = Endpoint(sock, "udp", "udp:127.0.0.1:11211", "auto")
        waiting = []
        for _ in range(200):
            asked = read_datagram(
                service, endpoint, request(b"mn\r\n" * 15_000), partial(Connection, service)
            )
            assert asked is not None
            assert not asked.advance()
            asked.keep()
            waiting.append(asked)
        lost = 0
        while waiting:
            assert under_way.held_bytes <= under_way.limit_bytes
            kept = [
                sum(map(len, each._reply)) + len(each.connection.buffer)
                for each in waiting
                if not each.lost
            ]
            assert sum(kept) <= under_way.limit_bytes
            for asked in list(waiting):
                if asked.advance():
                    waiting.remove(asked)
                    lost += not list(asked.datagrams())
                    asked.end()
                else:
                    asked.keep()
        assert 0 < lost < 200
        assert under_way.held_bytes == 0
        under_way.check()


async def test_long_answers_leave_others_their_turn() -> None:
    async with udp_client() as (server, client):
        server.service.cache.store(StoreMode.SET, b"k", bytes(100_000))
        assert len(await ask(client, b"get k\r\n")) > 100_000
        assert (await ask(client, b"stats conns\r\n")).endswith(b"END\r\n")
        assert (await ask(client, b"stats cachedump 1 0\r\nversion\r\n")) == (
            b"END\r\nVERSION 1.6.45\r\n"
        )
