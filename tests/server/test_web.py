"""The port where a server is asked how it does: who is answered, and what strangers get."""

from __future__ import annotations

import socket
import sys
from contextlib import suppress
from math import inf
from typing import TYPE_CHECKING, Any

import h11
import pytest
import trio
import trio.testing

from pymcd.config import Settings
from pymcd.exits import EXIT_USAGE, ConfigError
from pymcd.readiness import Readiness, State
from pymcd.server import process
from pymcd.server import web as module
from pymcd.server.accepting import Acceptor
from pymcd.server.guests import REQUEST_TIMEOUT_S, SEND_TIMEOUT_S, WELCOMES_PER_TURN, Guests
from pymcd.server.lag import ASKED_S
from pymcd.server.memory import Memory
from pymcd.server.web import CLIENTS_MAX, IDLE_TIMEOUT_S, SHARE, WebServer
from pymcd.service import Service
from pymcd.web.asking import PageConversation
from pymcd.web.conversation import REQUEST_MAX_BYTES
from pymcd.web.pages import PAGES

from ..clocks import ManualClock
from ..hosts import make_host
from .helpers import Running, TrioClock, ask, read_all, serving
from .test_couchbase import DRIVERS, Client
from .test_pair import pair, role, until

if TYPE_CHECKING:
    from collections.abc import Callable

HTTP = "127.0.0.1:0"


def ask_for(path: str) -> bytes:
    return f"GET {path} HTTP/1.1\r\nHost: a\r\n\r\n".encode()


def http_port(server: Running) -> int:
    (endpoint,) = (each for each in server.endpoints if each.transport == "http")
    port: int = endpoint.sock.getsockname()[1]
    return port


async def connect(server: Running) -> Client:
    stream = await trio.open_tcp_stream("127.0.0.1", http_port(server))
    server.streams.append(stream)
    return Client(stream)


async def get(server: Running, path: str) -> tuple[int, bytes]:
    client = await connect(server)
    return await client.ask(path), await client.body()


class Pages:
    """What serves pages, without sockets."""

    def __init__(self, nursery: trio.Nursery) -> None:
        self.errors: list[Exception] = []
        self.clock = TrioClock()
        self.server = WebServer(
            Service(Settings(), ManualClock(), make_host()),
            lambda: Readiness(True, State.SINGLE, "so it is"),
            clock=self.clock,
            memory=Memory(lambda: None),
            on_error=self.errors.append,
        )
        self._nursery = nursery

    def connect(self) -> Client:
        ours, theirs = trio.testing.memory_stream_pair()
        self._nursery.start_soon(self.server.guests.serve_stream, ours)
        return Client(theirs)


@pytest.fixture
async def pages(nursery: trio.Nursery) -> Pages:
    return Pages(nursery)


# -- time --------------------------------------------------------------------------------------


async def test_a_connection_serves_for_many_questions(pages, autojump_clock):
    client = pages.connect()
    for _ in range(5):
        for path in PAGES:
            assert await client.ask(path) == 200
            assert await client.body()
        await trio.sleep(IDLE_TIMEOUT_S - 1)


async def test_who_asks_nothing_is_left(pages, autojump_clock):
    silent, asked = pages.connect(), pages.connect()
    await asked.ask("/healthz")
    assert await asked.body() == b"ok\n"
    for client in (silent, asked):
        assert await client.stream.receive_some() == b""
    assert trio.current_time() == pytest.approx(IDLE_TIMEOUT_S)


async def test_who_has_begun_to_ask_has_less_time(pages, autojump_clock):
    client = pages.connect()
    await trio.sleep(5)
    with suppress(trio.BrokenResourceError):
        for piece in b"GET /healthz HTTP/1.1\r\nX: aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa":
            await client.stream.send_all(bytes([piece]))
            await trio.sleep(1)
    assert trio.current_time() == pytest.approx(5 + REQUEST_TIMEOUT_S, abs=1.1)


async def test_who_does_not_read_is_left(pages, nursery, autojump_clock):
    ours, theirs = trio.testing.lockstep_stream_pair()
    nursery.start_soon(pages.server.guests.serve_stream, ours)
    await theirs.send_all(ask_for("/metrics"))
    await trio.sleep(2 * SEND_TIMEOUT_S)
    assert pages.server.guests.number == 0


async def test_all_of_them_take_a_part_of_the_time(pages, monkeypatch, autojump_clock):
    """However many ask without end."""
    worked_s = [0.0]

    class Slow(PageConversation):
        def receive(self, data: bytes) -> bytes:
            return self._late(super().receive(data))

        def go_on(self) -> bytes:
            return self._late(super().go_on())

        def _late(self, answer: bytes) -> bytes:
            autojump_clock.jump(0.001)
            worked_s[0] += 0.001
            return answer

    monkeypatch.setattr(module, "PageConversation", Slow)
    clients = [pages.connect() for _ in range(20)]
    for client in clients:
        await client.stream.send_all(ask_for("/metrics") * 50)
    await trio.sleep(5)
    assert worked_s[0] == pytest.approx(5 * SHARE, rel=0.1)


async def test_who_asks_without_end_does_not_keep_a_load_balancer(
    pages, monkeypatch, autojump_clock
):
    """HAProxy waits 0.2 s for an answer, or holds that the node is down."""

    class Slow(PageConversation):
        def receive(self, data: bytes) -> bytes:
            autojump_clock.jump(0.0004)
            return super().receive(data)

        def go_on(self) -> bytes:
            autojump_clock.jump(0.0004)
            return super().go_on()

    monkeypatch.setattr(module, "PageConversation", Slow)
    for _ in range(CLIENTS_MAX - 1):
        await pages.connect().stream.send_all(ask_for("/metrics") * 500)
    await trio.sleep(1)
    for _ in range(10):
        began_s = trio.current_time()
        assert await pages.connect().ask("/readyz") == 200
        assert trio.current_time() - began_s < 0.2


async def test_one_part_is_made_in_a_round_of_the_loop(pages, monkeypatch):
    steps = [0]

    def counted(step: Callable[..., bytes]) -> Callable[..., bytes]:
        def count(*arguments: object) -> bytes:
            steps[0] += 1
            return step(*arguments)

        return count

    monkeypatch.setattr(PageConversation, "go_on", counted(PageConversation.go_on))
    monkeypatch.setattr(module, "TURN_S", 0.0)
    clients = [pages.connect() for _ in range(10)]
    for client in clients:
        await client.stream.send_all(ask_for("/metrics"))
    most = 0
    while steps[0] < 40:
        before = steps[0]
        await trio.lowlevel.checkpoint()
        most = max(most, steps[0] - before)
    # To hear what is asked is a step, and goes on at once.
    assert most <= 2


# -- nobody asks, nothing is done ---------------------------------------------------------------


async def test_the_loop_is_looked_at_while_somebody_asks(pages, nursery, autojump_clock):
    looking = pages.server.lag.looking
    nursery.start_soon(looking.run, pages.errors.append)
    await trio.sleep(100)
    assert looking.turns == 1
    client = pages.connect()
    for path in ("/healthz", "/readyz", "/replication"):
        assert await client.ask(path) == 200
        await client.body()
    await trio.sleep(60)
    assert looking.turns == 1
    await client.ask("/metrics")
    await client.body()
    await trio.sleep(60)
    assert looking.turns > 200
    await trio.sleep(ASKED_S)
    turns = looking.turns
    await trio.sleep(1000)
    assert looking.turns == turns


# -- a whole server ----------------------------------------------------------------------------


@pytest.mark.parametrize("use_hub", DRIVERS)
async def test_a_server_is_asked(use_hub):
    async with serving(http=HTTP, use_hub=use_hub) as server:
        client = await server.connect()
        assert await ask(client, b"set k 0 0 1\r\nx\r\n") == b"STORED\r\n"
        assert await get(server, "/healthz") == (200, b"ok\n")
        assert await get(server, "/readyz") == (200, b"single: there are no peers\n")
        status, body = await get(server, "/metrics")
        assert status == 200
        for line in (
            b"memcached_current_items 1\n",
            b"memcached_current_connections 1\n",  # who asks is none
            b'memcached_commands_total{command="set",status="hit"} 1\n',
        ):
            assert b"\n" + line in body
        if sys.platform == "linux":
            assert b"\npymcd_resident_memory_bytes " in body


async def test_a_node_is_asked_before_it_serves():
    async with serving(
        http=HTTP, peers=("127.0.0.1:1",), replication_listen=("127.0.0.1:0",)
    ) as server:
        assert role(server) == "starting"
        with pytest.raises(OSError, match=r".*"):
            await server.connect()
        assert await get(server, "/readyz") == (503, b"starting: waiting for 127.0.0.1:1\n")
        assert await get(server, "/healthz") == (200, b"ok\n")


async def test_a_pair_is_asked():
    async with pair() as (a, b):
        await until(lambda: role(a) == "coordinator" and role(b) == "follower")
        assert a.readiness() == (True, State.IN_SYNC, "in sync with b; this node coordinates")


async def test_few_are_welcomed_in_one_turn_of_the_loop(monkeypatch):
    welcomed = 0
    in_turn: list[int] = []
    welcome, accept = Guests._welcome, Acceptor.accept_some

    def counted(self: Guests, *words: Any) -> None:
        nonlocal welcomed
        welcomed += 1
        welcome(self, *words)

    def turn(self: Acceptor) -> bool:
        before = welcomed
        goes_on = accept(self)
        in_turn.append(welcomed - before)
        return goes_on

    monkeypatch.setattr(Guests, "_welcome", counted)
    monkeypatch.setattr(Acceptor, "accept_some", turn)
    async with serving(http=HTTP) as server:
        address = ("127.0.0.1", http_port(server))
        rush = [socket.create_connection(address) for _ in range(20)]
        while welcomed < len(rush):
            await trio.lowlevel.checkpoint()
        for each in rush:
            each.close()
    assert max(in_turn) <= WELCOMES_PER_TURN


async def test_nobody_else_notices_strangers():
    """Garbage, huge headers, slow readers, more than there is room for: clients are served."""
    async with serving(http=HTTP) as server, trio.open_nursery() as nursery:
        client = await server.connect()
        assert await ask(client, b"set k 0 0 1\r\nx\r\n") == b"STORED\r\n"

        async def disturb(data: bytes) -> None:
            with suppress(OSError, trio.BrokenResourceError):
                stream = await trio.open_tcp_stream("127.0.0.1", http_port(server))
                server.streams.append(stream)
                await stream.send_all(data)
                if data.endswith(b"\r\n\r\n"):
                    await read_all(stream)

        for number in range(2 * CLIENTS_MAX):
            kinds = (
                bytes(range(256)) * 40,
                b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * REQUEST_MAX_BYTES,
                b"GET /metrics HT",
                ask_for("/metrics") * 20,
                ask_for("/nothing")[:-4] + b"\r\nConnection: close\r\n\r\n",
            )
            nursery.start_soon(disturb, kinds[number % len(kinds)])
        for _ in range(50):
            assert await ask(client, b"get k\r\n", end=b"END\r\n") == b"VALUE k 0 1\r\nx\r\nEND\r\n"
        assert server.web is not None
        assert server.web.guests.number <= CLIENTS_MAX
        nursery.cancel_scope.cancel()
    assert server.memory.failures == []


async def test_who_has_had_most_time_makes_room(monkeypatch):
    monkeypatch.setattr(module, "CLIENTS_MAX", 3)
    async with serving(http=HTTP) as server:
        clients = [await connect(server) for _ in range(3)]
        for client in clients:
            assert await client.ask("/healthz") == 200
            await client.body()
        assert await get(server, "/healthz") == (200, b"ok\n")
        assert await clients[0].stream.receive_some() == b""


# -- the end -----------------------------------------------------------------------------------


async def test_who_stops_says_so_first_and_serves(autojump_clock):
    async with serving(http=HTTP, clock=TrioClock()) as server:
        client = await server.connect()
        assert await ask(client, b"set k 0 0 1\r\nx\r\n") == b"STORED\r\n"
        began_s = trio.current_time()
        server.stop()
        assert await get(server, "/readyz") == (503, b"draining: it is about to stop\n")
        assert await get(server, "/healthz") == (200, b"ok\n")
        late = await server.connect()
        for each in (client, late):
            assert await ask(each, b"get k\r\n", end=b"END\r\n") == b"VALUE k 0 1\r\nx\r\nEND\r\n"
        for each in (client, late):
            assert await each.receive_some() == b""
        await server.finished.wait()
        assert 2.0 <= trio.current_time() - began_s < 2.1
        with pytest.raises(OSError, match=r".*"):
            await connect(server)


async def test_it_is_asked_until_the_last_request_is_done(autojump_clock):
    async with serving(http=HTTP, drain_delay_s=0.0, clock=TrioClock()) as server:
        client = await server.connect()
        await client.send_all(b"set k 0 0 100\r\nhalf")
        await until(lambda: any(each.awaited for each in server.service.connections.values()))
        server.stop()
        for _ in range(3):
            await trio.sleep(1)
            assert (await get(server, "/readyz"))[0] == 503
            with pytest.raises(OSError, match=r".*"):
                await server.connect()
        await client.send_all(b"x" * 96 + b"\r\n")
        assert await read_all(client) == b"STORED\r\n"
        await server.finished.wait()


#: Settings, how long a server goes on before it turns clients away.
DELAYS: list[tuple[dict[str, object], float]] = [
    ({}, 0.0),
    ({"http": HTTP}, 2.0),
    ({"http": HTTP, "drain_delay_s": 0.0}, 0.0),
    ({"http": HTTP, "drain_delay_s": 5.5}, 5.5),
    ({"drain_delay_s": 5.5}, 5.5),
]


@pytest.mark.parametrize(("settings", "delay_s"), DELAYS)
async def test_how_long_a_server_goes_on(autojump_clock, settings, delay_s):
    async with serving(clock=TrioClock(), **settings) as server:
        client = await server.connect()
        assert await ask(client, b"get k\r\n") == b"END\r\n"
        began_s = trio.current_time()
        server.stop()
        assert await client.receive_some() == b""
        await server.finished.wait()
        assert delay_s <= trio.current_time() - began_s < delay_s + 0.1


async def test_the_second_time_it_stops_at_once(autojump_clock):
    async with serving(http=HTTP, drain_delay_s=100.0, clock=TrioClock()) as server:
        client = await server.connect()
        assert await ask(client, b"get k\r\n") == b"END\r\n"
        await client.send_all(b"set k 0 0 100\r\nhalf")
        await until(lambda: any(each.awaited for each in server.service.connections.values()))
        server.stop()
        await trio.sleep(1)
        began_s = trio.current_time()
        server.stop()
        await server.finished.wait()
        assert trio.current_time() == began_s


async def test_who_serves_nobody_yet_need_not_be_avoided(autojump_clock):
    async with serving(
        http=HTTP,
        drain_delay_s=100.0,
        clock=TrioClock(),
        peers=("127.0.0.1:1",),
        replication_listen=("127.0.0.1:0",),
    ) as server:
        began_s = trio.current_time()
        server.stop()
        await server.finished.wait()
        assert trio.current_time() - began_s < 1


async def test_a_bug_costs_one_guest(monkeypatch):
    def broken(*arguments: object) -> bytes:
        raise ZeroDivisionError("a bug")

    async with serving(http=HTTP) as server:
        other = await connect(server)
        assert await other.ask("/healthz") == 200
        await other.body()
        with monkeypatch.context() as patch:
            patch.setattr(PageConversation, "_take", broken)
            client = await connect(server)
            with pytest.raises((h11.RemoteProtocolError, trio.BrokenResourceError)):
                await client.ask("/metrics")
        assert await other.ask("/healthz") == 200
        assert len(server.memory.failures) == 1


# -- the process -------------------------------------------------------------------------------


def test_h11_is_an_extra(monkeypatch):
    for name in ("web", "guests"):
        monkeypatch.delitem(sys.modules, f"pymcd.server.{name}", raising=False)
    for name in ("asking", "conversation"):
        monkeypatch.delitem(sys.modules, f"pymcd.web.{name}", raising=False)
    monkeypatch.setitem(sys.modules, "h11", None)
    with pytest.raises(ConfigError) as caught:
        process._import_with_h11(".web", "--http", "http")
    assert caught.value.exit_code == EXIT_USAGE
    assert "--http needs h11" in caught.value.message
    assert "pymcd[http]" in caught.value.message


@pytest.mark.parametrize(
    ("word", "host", "port"),
    [
        ("*", None, 11222),
        ("*:5", None, 5),
        ("127.0.0.1", "127.0.0.1", 11222),
        ("[::1]:5", "::1", 5),
        ("::1", "::1", 11222),
        ("a:0", "a", -1),
    ],
)
def test_where_it_is_asked(word, host, port):
    assert Settings(http=word).http_listener() == (host, port)


@pytest.mark.parametrize("word", ["9150", ":9150", "", "a b", "a:b", "a:65536", "[::1]x", "a,b"])
def test_what_is_no_address(word):
    with pytest.raises(ConfigError) as caught:
        Settings(http=word)
    assert caught.value.exit_code == EXIT_USAGE
    assert "HOST:PORT" in caught.value.message


@pytest.mark.parametrize("seconds", [-1, inf])
def test_what_is_no_delay(seconds):
    with pytest.raises(ConfigError, match="drain"):
        Settings(drain_delay_s=seconds)
