"""Two whole servers that replicate, on real sockets in one event loop: what the drivers add.

What the core promises is tested without sockets, in `tests/replication`. Time stands still here
unless a test moves it: no lease ends, no peer is late.
"""

from __future__ import annotations

import os
import select
import socket
import struct
import sys
from contextlib import asynccontextmanager, contextmanager, suppress
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest
import trio
import trio.testing

from pymcd import limits
from pymcd.config import Settings
from pymcd.exits import ConfigError
from pymcd.readiness import Readiness, State
from pymcd.server.listening import Endpoint, open_internet_endpoints
from tests.protocol import binary_client as binary

from ..clocks import ManualClock
from .authority import HOST, shared_authority
from .helpers import Running, ask, one_loopback, read_all, read_until, serving

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator
    from pathlib import Path

    from pymcd.replication.link import Link

HAS_EPOLL = sys.platform == "linux"
DRIVERS = [
    pytest.param(True, marks=pytest.mark.skipif(not HAS_EPOLL, reason="needs epoll"), id="hub"),
    pytest.param(False, id="streams"),
]
both_drivers = pytest.mark.parametrize("use_hub", DRIVERS)
PATIENCE_S = 60
STEP_S = 0.01
#: For a value that is far larger than what sockets hold.
LARGE = bytes(range(256)) * 3600


async def until(condition: Callable[[], object]) -> None:
    """Wait, without a clock, until `condition()` holds."""
    while not condition():
        await trio.lowlevel.checkpoint()


def open_endpoints(**settings: Any) -> tuple[list[Endpoint], str]:
    """Return the sockets of a node, and where its peers find it."""
    values = {"port": -1, "listen": ("127.0.0.1",), **settings}
    values["replication_listen"] = ("127.0.0.1:0",)
    endpoints = open_internet_endpoints(Settings(**values))
    return endpoints, "{}:{}".format(*endpoints[-1].sock.getsockname())


@asynccontextmanager
async def pair(
    *, clock: ManualClock | None = None, node_ids: tuple[str, str] = ("a", "b"), **settings: Any
) -> AsyncIterator[tuple[Running, Running]]:
    """Run two servers that are each other's peers; they need not be in sync yet."""
    clock = clock or ManualClock()
    # Who only listens has no peers, so no witness either.
    beside = ("use_hub", "witness")
    listening = {name: value for name, value in settings.items() if name not in beside}
    a_endpoints, a_address = open_endpoints(**listening)
    b_endpoints, b_address = open_endpoints(**listening)
    common: dict[str, Any] = {"clock": clock, "replication_listen": ("127.0.0.1:0",), **settings}
    a_id, b_id = node_ids
    with trio.fail_after(PATIENCE_S):
        async with (
            serving(endpoints=a_endpoints, peers=(b_address,), node_id=a_id, **common) as a,
            serving(endpoints=b_endpoints, peers=(a_address,), node_id=b_id, **common) as b,
        ):
            yield a, b


@asynccontextmanager
async def synced_pair(**settings: Any) -> AsyncIterator[tuple[Running, Running]]:
    """Run two servers that are in sync; the first coordinates."""
    async with pair(**settings) as (a, b):
        await until(lambda: role(a) == "coordinator" and role(b) == "follower")
        await until(lambda: a.reception.listening and len(b.reception.listening) == 2)
        yield a, b
        for server in (a, b):
            assert not server.memory.failures


def role(server: Running) -> str:
    return "" if server.peering is None else server.peering.node.role


@contextmanager
def silenced(server: Running) -> Iterator[None]:
    """Have a node hear, and answer, nothing for a while; then all of it."""
    assert server.peering is not None
    heard: list[bytes] = []
    (wire,) = server.peering._wires
    link = wire.link
    link.receive = heard.append  # type: ignore[assignment, method-assign]
    yield
    del link.receive
    for data in heard:
        link.receive(data)
    server.peering.send_turn()


async def pass_time(clock: ManualClock, seconds: float, *servers: Running) -> None:
    """Let time pass in small steps, in each of which the nodes see what is due."""
    for _ in range(round(seconds / STEP_S)):
        clock.advance(STEP_S)
        for server in servers:
            assert server.peering is not None
            stepping = server.peering.stepping
            turns = stepping.turns
            stepping.wake()
            while stepping.turns == turns:
                await trio.lowlevel.checkpoint()


@both_drivers
async def test_what_is_written_on_one_is_read_on_the_other(use_hub: bool) -> None:
    async with synced_pair(use_hub=use_hub) as (a, b):
        to_a, to_b = await a.connect(), await b.connect()
        for number in range(20):
            writer, reader = (to_a, to_b) if number % 2 else (to_b, to_a)
            assert await ask(writer, b"set k%d 5 0 1\r\nx\r\n" % number) == b"STORED\r\n"
            reply = b"VALUE k%d 5 1\r\nx\r\nEND\r\n" % number
            assert await ask(reader, b"get k%d\r\n" % number, end=b"END\r\n") == reply
        assert await ask(to_a, b"add k1 0 0 1\r\ny\r\n") == b"NOT_STORED\r\n"
        assert await ask(to_b, b"add k1 0 0 1\r\ny\r\n") == b"NOT_STORED\r\n"


@both_drivers
@pytest.mark.parametrize("writer", [0, 1], ids=["coordinator", "follower"])
async def test_a_burst_is_answered_in_order(use_hub: bool, writer: int) -> None:
    async with synced_pair(use_hub=use_hub, reqs_per_event=3) as servers:
        client = await servers[writer].connect()
        request = reply = b""
        for number in range(40):
            request += b"get k%d\r\nset k%d 0 0 2\r\nxy\r\nversion\r\nincr k%d 1\r\n" % (
                (number,) * 3
            )
            reply += (
                b"END\r\nSTORED\r\nVERSION 1.6.45\r\n"
                b"CLIENT_ERROR cannot increment or decrement non-numeric value\r\n"
            )
        await client.send_all(request + b"verbosity 0\r\n")
        assert await read_until(client, b"OK\r\n") == reply + b"OK\r\n"


@both_drivers
@pytest.mark.parametrize("writer", [0, 1], ids=["coordinator", "follower"])
async def test_large_values(use_hub: bool, writer: int) -> None:
    async with synced_pair(use_hub=use_hub) as servers:
        client, other = await servers[writer].connect(), await servers[1 - writer].connect()
        request = b"set large 0 0 %d\r\n%b\r\n" % (len(LARGE), LARGE)
        assert await ask(client, request) == b"STORED\r\n"
        for stream in (client, other):
            got = await ask(stream, b"get large\r\n", end=b"END\r\n")
            assert got == b"VALUE large 0 %d\r\n%b\r\nEND\r\n" % (len(LARGE), LARGE)


@both_drivers
async def test_a_client_that_waits_is_not_read_from(use_hub: bool) -> None:
    async with synced_pair(use_hub=use_hub) as (a, b):
        client = await a.connect()
        assert await ask(client, b"set first 0 0 1\r\nx\r\n") == b"STORED\r\n"
        value = b"VALUE first 0 1\r\nx\r\nEND\r\n"
        with silenced(b):
            await client.send_all(b"set k 0 0 1\r\nx\r\n")
            await until(lambda: any(c.waiting for c in a.service.connections.values()))
            (connection,) = a.service.connections.values()
            await client.send_all(b"get first\r\n" * 10_000)
            await trio.testing.wait_all_tasks_blocked()
            assert len(connection.buffer) - connection.position <= limits.RECEIVE_BYTES
        got = b""
        while len(got) < 8 + 10_000 * len(value):
            got += await client.receive_some()
        assert got == b"STORED\r\n" + value * 10_000


@both_drivers
@pytest.mark.parametrize("writer", [0, 1], ids=["coordinator", "follower"])
async def test_whoever_logs_in_is_replicated(
    use_hub: bool, writer: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "users"
    path.write_bytes(b"ann:secret\n")
    monkeypatch.setenv("MEMCACHED_SASL_PWDB", str(path))
    login = binary.request(binary.SASL_AUTH, b"PLAIN", b"", b"\0ann\0secret")
    async with synced_pair(use_hub=use_hub, enable_sasl=True, protocol="binary") as servers:
        server, other = servers[writer], servers[1 - writer]
        client = await server.connect()
        assert (await ask(client, login, end=b"Authenticated"))[6:8] == b"\0\0"
        with silenced(other):
            await client.send_all(binary.store(binary.SET, b"k", b"x"))
            await until(lambda: any(c.waiting for c in server.service.connections.values()))
        assert (await client.receive_some())[:8] == b"\x81\x01" + bytes(6)
        for each in servers:
            item = each.service.cache.inspect(b"k")
            assert item is not None
            assert item.value == b"x"


@both_drivers
async def test_a_client_that_leaves_while_it_waits(use_hub: bool) -> None:
    async with synced_pair(use_hub=use_hub) as (a, b):
        client = await b.connect()
        with silenced(a):
            await client.send_all(b"set k 0 0 1\r\nx\r\n")
            await until(lambda: any(c.waiting for c in b.service.connections.values()))
            await client.aclose()
        assert await ask(await b.connect(), b"incr k 1\r\n") != b"NOT_FOUND\r\n"
        await until(lambda: len(b.service.connections) == 1)


@pytest.mark.skipif(not HAS_EPOLL, reason="needs epoll")
async def test_what_was_sent_to_a_server_that_stood_still_is_not_executed() -> None:
    async with synced_pair() as (a, _):
        silent = await a.connect()
        assert await ask(silent, b"mn\r\n") == b"MN\r\n"
        address = ("127.0.0.1", a.port)
        with socket.create_connection(address, timeout=5) as served:
            await until(lambda: len(a.service.connections) == 2)
            # What follows is not met by the event loop before it hears that it stood still.
            waiting = socket.create_connection(address, timeout=5)
            with waiting, socket.create_connection(address):
                for client in (served, waiting):
                    client.sendall(b"set k 0 0 5\r\nstale\r\n")
                assert a.peering is not None
                a.peering.node.host.drop_stale()
                assert len(a.service.connections) == 2
                for client in (served, waiting):
                    with suppress(ConnectionResetError):
                        assert client.recv(100) == b""
                assert await ask(silent, b"get k\r\n", end=b"END\r\n") == b"END\r\n"


async def test_nor_is_a_datagram() -> None:
    endpoints, address = open_endpoints(udp_port=-1)
    async with serving(
        endpoints=endpoints,
        udp_port=-1,
        peers=(),
        replication_listen=(address,),
        clock=ManualClock(),
    ) as server:
        client = await server.connect()
        udp = server.endpoints[1].sock.getsockname()
        head = struct.pack("!HHHH", 1, 0, 1, 0)
        with socket.socket(type=socket.SOCK_DGRAM) as sender, one_loopback() as loopback:
            sender.settimeout(5)
            sender.sendto(head + b"version\r\n", udp)
            await until(lambda: select.select([sender], [], [], 0)[0])
            assert sender.recv(100)[8:] == b"VERSION 1.6.45\r\n"
            for _ in range(50):  # more than are read in one turn
                sender.sendto(head + b"set k 0 0 5\r\nstale\r\n", udp)
            loopback.settle()
            assert server.peering is not None
            server.peering.node.host.drop_stale()
            for _ in range(10):
                assert await ask(client, b"get k\r\n", end=b"END\r\n") == b"END\r\n"
            sender.sendto(head + b"set k 0 0 3\r\nnew\r\n", udp)
            await until(lambda: select.select([sender], [], [], 0)[0])
            assert sender.recv(100)[8:] == b"STORED\r\n"


@both_drivers
async def test_a_killed_node_is_replaced_by_the_other(use_hub: bool) -> None:
    clock = ManualClock()
    async with synced_pair(use_hub=use_hub, clock=clock) as (a, b):
        to_a, to_b = await a.connect(), await b.connect()
        assert await ask(to_a, b"set k 0 0 1\r\nx\r\n") == b"STORED\r\n"
        assert a.peering is not None
        (wire,) = a.peering._wires
        # There is no way back.
        a.peering.network.cut = True
        wire.close()
        await to_b.send_all(b"set k 0 0 1\r\ny\r\n")
        await until(lambda: any(c.waiting for c in b.service.connections.values()))
        # Not before the time-out: what the other one did in its last moment might be lost.
        await pass_time(clock, 0.05, b)
        assert role(b) == "follower"
        await pass_time(clock, 0.15, b)
        assert await read_until(to_b, b"\r\n") == b"STORED\r\n"
        assert role(b) == "alone"
        assert await ask(to_b, b"get k\r\n", end=b"END\r\n") == b"VALUE k 0 1\r\ny\r\nEND\r\n"


@both_drivers
async def test_clients_are_let_in_when_the_node_is_ready(use_hub: bool) -> None:
    clock = ManualClock()
    (endpoints, _) = open_endpoints()
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        peer = f"127.0.0.1:{nobody.getsockname()[1]}"
        async with serving(
            endpoints=endpoints,
            peers=(peer,),
            replication_listen=("127.0.0.1:0",),
            clock=clock,
            use_hub=use_hub,
            verbose=1,
            sync_timeout_s=2.0,
        ) as server:
            await trio.testing.wait_all_tasks_blocked()
            with pytest.raises(OSError, match="connect"):
                await server.connect()
            assert role(server) == "starting"
            await pass_time(clock, 2.1, server)
            await until(server.ready.is_set)
            assert await ask(await server.connect(), b"version\r\n") == b"VERSION 1.6.45\r\n"
            assert "replication: clients are let in, alone, 2.0 s after the start" in (
                server.memory.lines
            )
            address = endpoints[-1].address
            assert f"replication: peers are awaited at {address}" in server.memory.lines
            assert server.peering is not None
            port = endpoints[-1].sock.getsockname()[1]
            assert server.peering.node.view.node_id == f"{socket.gethostname()}:{port}"


async def test_changes_of_readiness_are_told() -> None:
    told: list[State] = []
    async with pair() as (a, b):
        a.readiness_hooks.append(lambda: told.append(a.readiness().state))
        assert a.readiness().state is b.readiness().state is State.STARTING
        await until(lambda: a.readiness().ready and b.readiness().ready)
        assert a.peering is not None
        assert dict(a.peering.node.rows())["draining"] == "no"
        a.stop()
        assert not a.readiness().ready
        assert dict(a.peering.node.rows())["draining"] == "yes"
    assert told[-1] is State.DRAINING
    assert State.IN_SYNC in told


async def test_a_server_without_peers_is_ready_until_it_stops() -> None:
    async with serving() as server:
        told: list[Readiness] = []
        server.readiness_hooks.append(lambda: told.append(server.readiness()))
        assert server.readiness() == (True, State.SINGLE, "there are no peers")
        server.stop()
    assert [each.state for each in told] == [State.DRAINING] * 3


async def test_a_port_that_is_lost_meanwhile_ends_the_server() -> None:
    # Between two servers that both wait to listen at the same port, the first who may has it.
    (endpoints, _) = open_endpoints()
    settings: dict[str, Any] = {"replication_listen": ("127.0.0.1:0",), "clock": ManualClock()}
    with socket.socket() as faster:
        faster.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        faster.bind(endpoints[0].sock.getsockname())
        faster.listen()
        with pytest.raises(ExceptionGroup) as error:
            async with serving(endpoints=endpoints, **settings) as server:
                await server.finished.wait()
    assert error.group_contains(ConfigError, match="failed to listen")


@both_drivers
async def test_a_server_that_stops_waits_for_its_peer(use_hub: bool) -> None:
    async with synced_pair(use_hub=use_hub) as (a, b):
        client = await a.connect()
        assert await ask(client, b"version\r\n") == b"VERSION 1.6.45\r\n"
        with silenced(b):
            await client.send_all(b"set k 0 0 1\r\nx\r\n")
            await until(lambda: any(c.waiting for c in a.service.connections.values()))
            a.stop()
            await until(lambda: all(c.closing for c in a.service.connections.values()))
            assert not a.finished.is_set()
        assert await read_all(client) == b"STORED\r\n"
        await a.finished.wait()
        assert b.service.cache.peek(b"k") is not None


@both_drivers
@pytest.mark.parametrize("stops", [0, 1], ids=["coordinator", "follower"])
async def test_who_is_left_by_a_server_goes_on_at_once(use_hub: bool, stops: int) -> None:
    async with synced_pair(use_hub=use_hub) as servers:
        leaves, stays = servers[stops], servers[1 - stops]
        client = await stays.connect()
        assert await ask(client, b"set k 0 0 1\r\nx\r\n") == b"STORED\r\n"
        leaves.stop()
        await leaves.finished.wait()
        # Time stands still: nobody has been waited for.
        await until(lambda: role(stays) == "alone")
        assert await ask(client, b"incr k 1\r\n") != b"NOT_FOUND\r\n"


@both_drivers
async def test_what_others_forward_does_not_keep_a_server(use_hub: bool) -> None:
    async with synced_pair(use_hub=use_hub) as (a, b):
        written = 0

        async def write() -> None:
            nonlocal written
            client = await b.connect()
            while not (a.finished.is_set() and role(b) == "alone"):
                assert await ask(client, b"add k%d 0 0 1\r\nx\r\n" % written) == b"STORED\r\n"
                written += 1

        async with trio.open_nursery() as nursery:
            nursery.start_soon(write)
            await until(lambda: written > 10)
            a.stop()
        assert all(b.service.cache.peek(b"k%d" % key) for key in range(written))
        assert not a.service.cache.peek(b"k%d" % (written - 1))


@both_drivers
async def test_a_server_does_not_leave_before_its_peer_has_everything(use_hub: bool) -> None:
    (a_endpoints, a_address), (b_endpoints, _) = open_endpoints(), open_endpoints()
    common: dict[str, Any] = {"clock": ManualClock(), "replication_listen": ("127.0.0.1:0",)}
    number = 5000  # more than are sent at once
    with trio.fail_after(PATIENCE_S):
        async with serving(endpoints=a_endpoints, node_id="a", use_hub=use_hub, **common) as a:
            await until(lambda: role(a) == "alone")
            client = await a.connect()
            for start in range(0, number, 100):
                keys = range(start, start + 100)
                request = b"".join([b"set k%d 0 0 500\r\n%500d\r\n" % (key, key) for key in keys])
                reply = await ask(client, request, end=b"STORED\r\n" * 100)
                assert reply == b"STORED\r\n" * 100
            async with serving(
                endpoints=b_endpoints, node_id="b", peers=(a_address,), use_hub=use_hub, **common
            ) as b:
                await until(lambda: bool(a.peering and a.peering.node.view.peers))
                a.stop()
                await a.finished.wait()
                await until(lambda: role(b) == "alone")
                assert all(b.service.cache.peek(b"k%d" % key) for key in range(number))


@both_drivers
async def test_nobody_waits_for_a_peer_for_ever(use_hub: bool) -> None:
    async with synced_pair(use_hub=use_hub, shutdown_timeout_s=0) as (a, b):
        client = await a.connect()
        assert await ask(client, b"version\r\n") == b"VERSION 1.6.45\r\n"
        with silenced(b):
            await client.send_all(b"set k 0 0 1\r\nx\r\n")
            await until(lambda: any(c.waiting for c in a.service.connections.values()))
            a.stop()
            await a.finished.wait()
            assert await read_all(client) == b""


@both_drivers
async def test_datagrams_wait_for_the_other_node(use_hub: bool) -> None:
    (a_endpoints, a_address) = open_endpoints(udp_port=-1)
    (b_endpoints, b_address) = open_endpoints(udp_port=-1)
    common: dict[str, Any] = {
        "clock": ManualClock(),
        "replication_listen": ("127.0.0.1:0",),
        "udp_port": -1,
        "use_hub": use_hub,
    }
    header = struct.Struct("!HHHH")
    with trio.fail_after(PATIENCE_S), trio.socket.socket(type=socket.SOCK_DGRAM) as client:
        await client.bind(("127.0.0.1", 0))
        async with (
            serving(endpoints=a_endpoints, peers=(b_address,), node_id="a", **common) as a,
            serving(endpoints=b_endpoints, peers=(a_address,), node_id="b", **common) as b,
        ):
            await until(lambda: len(a.reception.listening) == 3)
            await until(lambda: len(b.reception.listening) == 3)
            for number, server in enumerate((a, b)):
                udp = server.endpoints[1].sock.getsockname()
                request = b"set u%d 0 0 1\r\nx\r\nget u%d\r\n" % (number, number)
                for request_id in range(5):
                    await client.sendto(header.pack(request_id, 0, 1, 0) + request, udp)
                got = {await client.recv(2000) for _ in range(5)}
                reply = b"STORED\r\nVALUE u%d 0 1\r\nx\r\nEND\r\n" % number
                assert got == {header.pack(each, 0, 1, 0) + reply for each in range(5)}
            for key in (b"u0", b"u1"):
                assert a.service.cache.peek(key) is not None
                assert b.service.cache.peek(key) is not None
            assert not a.memory.failures
            assert not b.memory.failures


def any_line_has(lines: list[str], words: str) -> bool:
    return any(words in line for line in lines)


# -- strangers ---------------------------------------------------------------------------------


async def test_the_same_secret_lets_them_meet(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("the word\n")
    async with synced_pair(replication_secret_file=str(secret)):
        pass


async def test_another_secret_keeps_them_apart(tmp_path: Path) -> None:
    (a_endpoints, a_address), (b_endpoints, b_address) = open_endpoints(), open_endpoints()
    for name in "ab":
        (tmp_path / name).write_text(f"the word of {name}")
    common: dict[str, Any] = {"clock": ManualClock(), "replication_listen": ("127.0.0.1:0",)}

    def own(name: str) -> dict[str, Any]:
        return {"node_id": name, "replication_secret_file": str(tmp_path / name)}

    with trio.fail_after(PATIENCE_S):
        async with (
            serving(endpoints=a_endpoints, peers=(b_address,), **own("a"), **common) as a,
            serving(endpoints=b_endpoints, peers=(a_address,), **own("b"), **common) as b,
        ):
            for server in (a, b):
                lines = server.memory.lines
                await until(partial(any_line_has, lines, "the secrets differ"))
                assert role(server) == "starting"


async def test_a_secret_is_replaced_while_they_serve(tmp_path: Path) -> None:
    path = tmp_path / "secret"
    old, new = "the old secret of both", "the new secret of both"
    path.write_text(old)

    def link_of(server: Running) -> Link | None:
        assert server.peering is not None
        (peer,) = server.peering.node.view.peers.values()
        return peer.link

    async with synced_pair(replication_secret_file=str(path)) as servers:
        for lines in (f"{old}\n{new}\n", f"{new}\n{old}\n", new):
            path.write_text(lines)
            for server in servers:
                link = link_of(server)
                assert link is not None
                server.reload()
                assert not link.closed
                link.close("disconnected")
                await until(lambda: None not in map(link_of, servers))
        for server in servers:
            assert not any_line_has(server.memory.lines, "refused")
            assert server.peering is not None
            membership = server.peering.node.membership
            assert (membership.secret, membership.other_secrets) == (new.encode(), ())
        path.unlink()
        servers[0].reload()
        await until(partial(any_line_has, servers[0].memory.lines, "the secrets in use stay"))


@both_drivers
async def test_links_and_clients_with_tls(use_hub: bool) -> None:
    authority = shared_authority()
    settings = authority.settings(ssl_ca_cert=authority.ca_file, replication_tls=True)
    async with synced_pair(use_hub=use_hub, **settings) as servers:
        for number, server in enumerate(servers):
            stream = trio.SSLStream(
                await server.connect(), authority.client(), server_hostname=HOST
            )
            request = b"set k%d 0 0 %d\r\n%b\r\n" % (number, len(LARGE), LARGE)
            assert await ask(stream, request) == b"STORED\r\n"
            for key in range(number + 1):
                got = await ask(stream, b"get k%d\r\n" % key, end=b"END\r\n")
                assert got == b"VALUE k%d 0 %d\r\n%b\r\nEND\r\n" % (key, len(LARGE), LARGE)


async def test_certificates_of_links_are_read_again() -> None:
    authority = shared_authority()
    settings = authority.settings(ssl_ca_cert=authority.ca_file, replication_tls=True)
    settings["enable_ssl"] = False
    async with synced_pair(**settings) as (a, _):
        assert a._certificates is not None
        context = a._certificates.context
        before = context("accepts")
        os.utime(authority.ca_file)
        a.reload()
        await until(lambda: context("accepts") is not before)
        assert a.memory.lines == [line for line in a.memory.lines if "certificate" not in line]
