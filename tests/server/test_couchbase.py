"""The port of a bucket: who is served, who is told of changes, and how many there can be."""

from __future__ import annotations

import json
import socket
import sys
from base64 import b64encode
from collections import Counter
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Any

import h11
import pytest
import trio
import trio.testing

from pymcd.auth import Authenticator, Users
from pymcd.config import Settings
from pymcd.couchbase.conversation import Conversation
from pymcd.couchbase.directory import Directory
from pymcd.couchbase.documents import Site, View
from pymcd.exits import EXIT_USAGE, ConfigError
from pymcd.server import couchbase as module
from pymcd.server import process
from pymcd.server.couchbase import MOVE_AFTER_S, BucketServer
from pymcd.server.guests import REQUEST_TIMEOUT_S, SEND_TIMEOUT_S, host_of
from pymcd.server.listening import open_internet_endpoints

from ..clocks import ManualClock
from .helpers import Running, ask, serving
from .test_pair import pass_time, role, until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

HAS_EPOLL = sys.platform == "linux"
HERE = Site("here", 1, 2)
THERE = Site("there", 3, 4)
SITES = (HERE, THERE)
ALONE = View(HERE, (), HERE, SITES)
TOGETHER = View(HERE, (THERE,), THERE, SITES)
FOLLOWING = View(THERE, (HERE,), HERE, SITES)
STREAM = "/pools/default/bucketsStreaming/default"


class Told(Directory):
    """A directory that says what it is told to."""

    def __init__(self) -> None:
        super().__init__(HERE, {"peer": THERE})
        self.told: View | None = ALONE

    def view(self) -> View | None:
        return self.told


class Client:
    """A client of a bucket, by h11."""

    def __init__(self, stream: trio.abc.Stream) -> None:
        self.stream = stream
        self.http = h11.Connection(h11.CLIENT)

    async def ask(self, path: str, *headers: tuple[str, str]) -> int:
        """Make a request; return the status of the answer."""
        request = h11.Request(method="GET", target=path, headers=[("Host", "here"), *headers])
        data = self.http.send(request)
        assert data is not None
        await self.stream.send_all(data + (self.http.send(h11.EndOfMessage()) or b""))
        response = await self._event()
        assert isinstance(response, h11.Response)
        return response.status_code

    async def _event(self) -> Any:
        while (event := self.http.next_event()) is h11.NEED_DATA:
            self.http.receive_data(bytes(await self.stream.receive_some(65536)))
        return event

    async def body(self) -> bytes:
        body = b""
        while isinstance(event := await self._event(), h11.Data):
            body += bytes(event.data)
        assert isinstance(event, h11.EndOfMessage)
        self.http.start_next_cycle()
        return body

    async def document(self, path: str) -> Any:
        assert await self.ask(path) == 200
        return json.loads(await self.body())

    async def servers(self) -> list[str] | None:
        """Return the servers of the next map in the stream; None: it has ended."""
        body = b""
        while not body.endswith(b"\n\n\n\n"):
            event = await self._event()
            if not isinstance(event, h11.Data):
                return None
            body += bytes(event.data)
        servers: list[str] = json.loads(body)["vBucketServerMap"]["serverList"]
        return servers


class Bucket:
    """A bucket server without sockets."""

    def __init__(self, nursery: trio.Nursery) -> None:
        self.directory = Told()
        self.errors: list[Exception] = []
        self.server = BucketServer(self.directory, on_error=self.errors.append)
        self._nursery = nursery

    def connect(self) -> Client:
        ours, theirs = trio.testing.memory_stream_pair()
        self._nursery.start_soon(self.server.guests.serve_stream, ours)
        return Client(theirs)

    def become(self, view: View | None) -> None:
        self.directory.told = view
        self.server.look()


@asynccontextmanager
async def bucket() -> AsyncIterator[Bucket]:
    async with trio.open_nursery() as nursery:
        it = Bucket(nursery)
        yield it
        nursery.cancel_scope.cancel()
    assert not it.errors
    assert it.server.guests.number == 0


async def test_a_client_asks_and_streams():
    async with bucket() as it:
        client = it.connect()
        assert (await client.document("/pools"))["pools"]
        assert await client.ask(STREAM) == 200
        assert await client.servers() == ["here:1"]


async def test_the_first_map_comes_when_the_client_is_ready_for_it(autojump_clock):
    async with bucket() as it:
        client = it.connect()
        began_s = trio.current_time()
        await client.ask(STREAM)
        assert trio.current_time() == began_s
        assert await client.servers() == ["here:1"]
        assert trio.current_time() - began_s == pytest.approx(module.FIRST_MAP_AFTER_S)


async def test_streams_hear_of_a_change_at_once_and_of_nothing_else(autojump_clock):
    async with bucket() as it:
        clients = [it.connect() for _ in range(3)]
        for client in clients:
            await client.ask(STREAM)
            assert await client.servers() == ["here:1"]
        it.become(ALONE)
        it.become(FOLLOWING)
        began_s = trio.current_time()
        for client in clients:
            assert await client.servers() == ["there:3", "here:1"]
        assert trio.current_time() == began_s
        with trio.move_on_after(3600) as patience:
            await clients[0].servers()
        assert patience.cancelled_caught


async def test_only_the_last_of_several_changes_is_told():
    async with bucket() as it:
        client = it.connect()
        await client.ask(STREAM)
        assert await client.servers() == ["here:1"]
        it.become(FOLLOWING)
        it.become(TOGETHER)
        assert await client.servers() == ["here:1", "there:3"]


async def test_streams_go_to_the_herald_when_it_has_been_that_for_a_while(autojump_clock):
    async with bucket() as it:
        client = it.connect()
        await client.ask(STREAM)
        assert await client.servers() == ["here:1"]
        it.become(TOGETHER)
        began_s = trio.current_time()
        assert await client.servers() == ["here:1", "there:3"]
        assert await client.servers() is None
        assert trio.current_time() - began_s == pytest.approx(MOVE_AFTER_S)


async def test_a_herald_for_a_moment_gets_no_streams(autojump_clock):
    async with bucket() as it:
        client = it.connect()
        await client.ask(STREAM)
        assert await client.servers() == ["here:1"]
        it.become(TOGETHER)
        assert await client.servers() == ["here:1", "there:3"]
        await trio.sleep(MOVE_AFTER_S * 0.9)
        it.become(ALONE)
        assert await client.servers() == ["here:1"]
        with trio.move_on_after(3600) as patience:
            await client.servers()
        assert patience.cancelled_caught


async def test_who_streams_from_another_node_than_the_herald_may(autojump_clock):
    async with bucket() as it:
        it.become(TOGETHER)
        client = it.connect()
        await client.ask(STREAM)
        assert await client.servers() == ["here:1", "there:3"]
        with trio.move_on_after(3600) as patience:
            await client.servers()
        assert patience.cancelled_caught


async def test_streams_end_where_nobody_is_served_any_more():
    async with bucket() as it:
        client = it.connect()
        await client.ask(STREAM)
        assert await client.servers() == ["here:1"]
        it.become(None)
        assert await client.servers() is None


async def test_who_does_not_ask_is_left(autojump_clock):
    async with bucket() as it:
        silent, halting = it.connect(), it.connect()
        began_s = trio.current_time()
        await halting.stream.send_all(b"GET /pools HTT")
        assert await silent.stream.receive_some() == b""
        assert await halting.stream.receive_some() == b""
        assert trio.current_time() - began_s == pytest.approx(REQUEST_TIMEOUT_S)


async def test_a_request_that_drips_in_is_not_waited_for(autojump_clock):
    async with bucket() as it:
        dripping = it.connect()
        began_s = trio.current_time()
        with suppress(trio.BrokenResourceError):
            for _ in range(100):
                await dripping.stream.send_all(b"x")
                await trio.sleep(1)
        assert trio.current_time() - began_s == pytest.approx(REQUEST_TIMEOUT_S, abs=1.1)


async def test_few_requests_are_answered_in_one_round():
    # However many ask for however much: what else runs in this loop has its turn.
    steps = [0]
    most = 0
    async with bucket() as it:
        in_turn = it.server.guests.in_turn

        async def count(do: Callable[[], bytes]) -> bytes:
            def counted() -> bytes:
                steps[0] += 1
                return do()

            return await in_turn(counted)

        it.server.guests.in_turn = count  # type: ignore[method-assign, assignment]
        clients = [it.connect() for _ in range(20)]
        for client in clients:
            await client.stream.send_all(b"GET /pools HTTP/1.1\r\nHost: a\r\n\r\n" * 30)
        while sum(guest.waiting for guest in it.server.guests) < 20 or steps[0] < 600:
            steps_before = steps[0]
            await trio.lowlevel.checkpoint()
            most = max(most, steps[0] - steps_before)
    assert most == module.STEPS_PER_ROUND


async def test_who_does_not_read_is_left(autojump_clock):
    async with bucket() as it:
        ours, theirs = trio.testing.lockstep_stream_pair()
        it._nursery.start_soon(it.server.guests.serve_stream, ours)
        await theirs.send_all(b"GET /pools HTTP/1.1\r\nHost: here\r\n\r\n")
        await trio.sleep(2 * SEND_TIMEOUT_S)
        assert it.server.guests.number == 0


async def test_the_master_is_looked_after_while_somebody_streams(autojump_clock):
    looks: list[float] = []
    server = BucketServer(
        Told(),
        on_error=print,
        look_after_master=lambda: looks.append(trio.current_time()),
    )
    async with trio.open_nursery() as nursery:
        nursery.start_soon(server.looking.run, print)
        await trio.sleep(10)
        assert looks == []
        for _ in range(2):
            ours, theirs = trio.testing.memory_stream_pair()
            nursery.start_soon(server.guests.serve_stream, ours)
            client = Client(theirs)
            await client.ask(STREAM)
            looks.clear()
            await trio.sleep(1.05)
            assert 9 <= len(looks) <= 11
            await theirs.aclose()
            await trio.sleep(1)
            looks.clear()
            await trio.sleep(10)
            assert looks == []
        nursery.cancel_scope.cancel()


async def test_a_failed_login_is_answered_late(autojump_clock):
    users = Users([(b"a", b"b")])
    server = BucketServer(
        Told(),
        begin_check=Authenticator(lambda: users, make_nonce=str, secret=b"s").begin_check,
        on_error=print,
        login_failure_delay_s=7.0,
    )
    ours, theirs = trio.testing.memory_stream_pair()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(server.guests.serve_stream, ours)
        began_s = trio.current_time()
        assert await Client(theirs).ask("/pools") == 401
        assert trio.current_time() - began_s == pytest.approx(7.0)


async def test_who_goes_is_forgotten():
    async with bucket() as it:
        asking, streaming = it.connect(), it.connect()
        await asking.document("/pools")
        await streaming.ask(STREAM)
        for client in (asking, streaming):
            await client.stream.aclose()
        await until(lambda: it.server.guests.number == 0)
        it.become(FOLLOWING)


async def test_a_bug_costs_one_client(monkeypatch):
    async with bucket() as it:
        other = it.connect()
        await other.ask(STREAM)
        assert await other.servers() == ["here:1"]

        def broken(*arguments: object) -> bytes:
            raise ZeroDivisionError("a bug")

        monkeypatch.setattr(Conversation, "receive", broken)
        client = it.connect()
        await client.stream.send_all(b"x")
        assert await client.stream.receive_some() == b""
        await until(lambda: it.errors)
        (error,) = it.errors
        assert isinstance(error, ExceptionGroup)
        it.errors.clear()
        it.become(FOLLOWING)
        assert await other.servers() == ["there:3", "here:1"]


# -- a whole server ----------------------------------------------------------------------------


def http_port(server: Running) -> int:
    (endpoint,) = (each for each in server.endpoints if each.transport == "couchbase")
    port: int = endpoint.sock.getsockname()[1]
    return port


async def connect(server: Running) -> Client:
    stream = await trio.open_tcp_stream("127.0.0.1", http_port(server))
    server.streams.append(stream)
    return Client(stream)


DRIVERS = [
    pytest.param(True, marks=pytest.mark.skipif(not HAS_EPOLL, reason="needs epoll"), id="hub"),
    pytest.param(False, id="streams"),
]


@pytest.mark.parametrize("use_hub", DRIVERS)
async def test_a_server_names_its_own_ports(use_hub):
    async with serving(couchbase="127.0.0.1:0", use_hub=use_hub) as server:
        client = await connect(server)
        (found,) = await client.document("/pools/default/buckets")
        assert found["vBucketServerMap"]["serverList"] == [f"127.0.0.1:{server.port}"]
        where = f"http://127.0.0.1:{http_port(server)}/"
        assert found["streamingUri"].startswith(where)
        assert server.service.connections == {}


async def test_the_port_for_clients_is_one_without_tls_for_the_binary_protocol():
    listen = ("proto[ascii]:127.0.0.1", "127.0.0.1")
    async with serving(couchbase="127.0.0.1:0", couchbase_name="me", listen=listen) as server:
        (found,) = await (await connect(server)).document("/pools/default/buckets")
        port = server.endpoints[1].sock.getsockname()[1]
        assert found["vBucketServerMap"]["serverList"] == [f"me:{port}"]


async def test_with_logins_the_bucket_is_the_users(tmp_path, monkeypatch):
    users = tmp_path / "users"
    users.write_text("sessions:secret\n")
    monkeypatch.setenv("MEMCACHED_SASL_PWDB", str(users))
    async with serving(couchbase="127.0.0.1:0", enable_sasl=True, protocol="binary") as server:
        assert await (await connect(server)).ask("/pools") == 401
        client = await connect(server)
        token = b64encode(b"sessions:secret").decode()
        authorization = ("Authorization", f"Basic {token}")
        assert await client.ask("/pools/default/buckets", authorization) == 200
        assert json.loads(await client.body())[0]["name"] == "sessions"


async def test_there_is_room_for_so_many(monkeypatch):
    monkeypatch.setattr(module, "CLIENTS_MAX", 3)
    async with serving(couchbase="127.0.0.1:0") as server:
        streaming = [await connect(server) for _ in range(2)]
        for client in streaming:
            assert await client.ask(STREAM) == 200
        first = await connect(server)
        assert await first.document("/pools")
        # Who has had most time to ask makes room.
        second = await connect(server)
        assert await first.stream.receive_some() == b""
        assert await second.ask(STREAM) == 200
        # Streams do not.
        third = await connect(server)
        assert await third.stream.receive_some() == b""
        for client in (*streaming, second):
            assert await client.servers() == [f"127.0.0.1:{server.port}"]


async def test_so_there_is_for_many_who_come_at_once(monkeypatch):
    monkeypatch.setattr(module, "CLIENTS_MAX", 3)
    async with serving(couchbase="127.0.0.1:0") as server:
        assert server._buckets is not None
        address = ("127.0.0.1", http_port(server))
        callers = [socket.create_connection(address) for _ in range(20)]
        most = 0
        for _ in range(100):
            await trio.lowlevel.checkpoint()
            most = max(most, len(list(server._buckets.guests)))
        assert most == 3
        for caller in callers:
            caller.close()


@pytest.mark.skipif(not HAS_EPOLL, reason="needs a loopback of many addresses")
async def test_no_host_keeps_all_others_out(monkeypatch):
    monkeypatch.setattr(module, "CLIENTS_MAX", 5)
    async with serving(couchbase="0.0.0.0:0", couchbase_name="here") as server:

        async def streaming(host: str) -> Client | None:
            address = ("127.0.0.1", http_port(server))
            stream = await trio.open_tcp_stream(*address, local_address=host)
            server.streams.append(stream)
            client = Client(stream)
            with suppress(trio.BrokenResourceError, h11.RemoteProtocolError):
                if await client.ask(STREAM) == 200 and await client.servers():
                    return client
            return None

        greedy = [await streaming("127.0.0.1") for _ in range(7)]
        assert [client is not None for client in greedy] == [True] * 5 + [False] * 2
        others = [await streaming("127.0.0.2") for _ in range(4)]
        assert [client is not None for client in others] == [True, True, False, False]
        for client in greedy[3:5]:
            assert client is not None
            assert await client.stream.receive_some() == b""
        assert await streaming("127.0.0.3")
        assert await streaming("127.0.0.4") is not None
        assert server._buckets is not None
        assert sorted(Counter(guest.host for guest in server._buckets.guests).values()) == [
            1,
            1,
            1,
            2,
        ]
        assert await streaming("127.0.0.1") is None


@pytest.mark.parametrize(
    ("address", "host"),
    [
        (("127.0.0.1", 5), "127.0.0.1"),
        (("2001:db8::1:2:3:4", 5, 0, 0), "2001:db8::/64"),
        (("2001:db8:0:0:9::1", 5, 0, 0), "2001:db8::/64"),
        (("fe80::1%eth0", 5, 0, 2), "fe80::/64"),
        (("::ffff:192.0.2.1", 5, 0, 0), "::ffff:192.0.2.1"),
        ("", ""),
    ],
)
def test_what_counts_as_one_host(address, host):
    assert host_of(address) == host


async def test_streams_end_when_the_server_stops():
    async with serving(couchbase="127.0.0.1:0") as server:
        client = await connect(server)
        await client.ask(STREAM)
        assert await client.servers()
        server.stop()
        assert await client.stream.receive_some() == b""


@asynccontextmanager
async def bucket_pair(clock: ManualClock) -> AsyncIterator[tuple[Running, Running]]:
    """Run two servers that replicate, and know each other's buckets."""
    common: dict[str, Any] = {
        "port": -1,
        "listen": ("127.0.0.1",),
        "replication_listen": ("127.0.0.1:0",),
        "couchbase": "127.0.0.1:0",
    }
    endpoints = [open_internet_endpoints(Settings(**common)) for _ in "ab"]
    ports = [
        {each.transport: each.sock.getsockname()[1] for each in of_one} for of_one in endpoints
    ]
    own = [
        {
            "node_id": "ab"[index],
            "peers": (f"127.0.0.1:{other['replication']}",),
            "couchbase_peers": (f"127.0.0.1:{other['tcp']}:{other['couchbase']}",),
        }
        for index, other in enumerate(reversed(ports))
    ]
    async with (
        serving(endpoints=endpoints[0], clock=clock, **{**common, **own[0]}) as a,
        serving(endpoints=endpoints[1], clock=clock, **{**common, **own[1]}) as b,
    ):
        await until(lambda: role(a) == "coordinator" and role(b) == "follower")
        await until(lambda: a.reception.listening and b.reception.listening)
        yield a, b
        for server in (a, b):
            assert not server.memory.failures


async def test_a_pair_is_a_bucket_with_a_replica():
    async with bucket_pair(ManualClock()) as (a, b):
        both = [f"127.0.0.1:{a.port}", f"127.0.0.1:{b.port}"]
        for server in (a, b):
            client = await connect(server)
            (found,) = await client.document("/pools/default/buckets")
            assert found["vBucketServerMap"]["serverList"] == both
            assert found["vBucketServerMap"]["vBucketMap"] == [[0, 1]]
            assert found["streamingUri"].startswith(f"http://127.0.0.1:{http_port(b)}/")


async def test_the_follower_tells_its_streams_when_the_coordinator_is_gone():
    clock = ManualClock()
    async with bucket_pair(clock) as (a, b):
        client = await connect(b)
        assert await client.ask(STREAM) == 200
        to_a, to_b = f"127.0.0.1:{a.port}", f"127.0.0.1:{b.port}"
        assert await client.servers() == [to_a, to_b]
        assert a.peering is not None
        a.peering.peers = ()
        a.stop()
        a.stop()
        # At once, before it is known whether the other one will come back ...
        assert await client.servers() == [to_b, to_a]
        # ... and when it is given up.
        await pass_time(clock, 0.2, b)
        assert role(b) == "alone"
        assert await client.servers() == [to_b]


async def test_a_coordinator_that_stops_waits_until_clients_know(autojump_clock):
    async with bucket_pair(ManualClock()) as (a, b):
        to_a, to_b = f"127.0.0.1:{a.port}", f"127.0.0.1:{b.port}"
        streaming, working = await connect(b), await a.connect()
        assert await streaming.ask(STREAM) == 200
        assert await streaming.servers() == [to_a, to_b]
        assert await ask(working, b"version\r\n") == b"VERSION 1.6.45\r\n"
        a.stop()
        assert await streaming.servers() == [to_b, to_a]
        # Who has not heard of it is still served.
        assert await ask(working, b"set k 0 0 1\r\nx\r\n") == b"STORED\r\n"
        assert await streaming.servers() == [to_b]
        assert await working.receive_some() == b""
        await a.finished.wait()


async def test_a_node_that_is_not_ready_refuses():
    async with serving(
        couchbase="127.0.0.1:0", peers=("127.0.0.1:1",), replication_listen=("127.0.0.1:0",)
    ) as server:
        with pytest.raises(OSError, match=r".*"):
            await connect(server)
        assert role(server) == "starting"


# -- the process -------------------------------------------------------------------------------


def test_h11_is_an_extra(monkeypatch):
    for name in ("pymcd.server.couchbase", "pymcd.couchbase.conversation"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.setitem(sys.modules, "h11", None)
    with pytest.raises(ConfigError) as caught:
        process._import_with_h11(".couchbase", "--couchbase", "couchbase")
    assert caught.value.exit_code == EXIT_USAGE
    assert "--couchbase needs h11" in caught.value.message
    assert "pymcd[couchbase]" in caught.value.message


def test_it_counts_as_descriptors():
    found = process._import_with_h11(".couchbase", "--couchbase", "couchbase")
    assert found.CLIENTS_MAX == module.CLIENTS_MAX
