"""The sockets of a group: who is dialled and when, what a wire keeps, and whom it serves."""

from __future__ import annotations

import socket
import ssl
import sys
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest
import trio
import trio.testing

from pymcd.config import Settings
from pymcd.replication.roles import STARTING, Data
from pymcd.server import peering as peering_module
from pymcd.server.certificates import Certificates
from pymcd.server.hub import Hub
from pymcd.server.listening import Endpoint, close_all, open_internet_endpoints
from pymcd.server.peering import BACKOFF_MAX_S, Peering
from pymcd.server.wire import WireTls
from pymcd.service import Service

from ..clocks import ManualClock
from ..hosts import make_host
from .authority import Authority, new_authority, shared_authority

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

HAS_EPOLL = sys.platform == "linux"
DRIVERS = [
    pytest.param(True, marks=pytest.mark.skipif(not HAS_EPOLL, reason="needs epoll"), id="hub"),
    pytest.param(False, id="tasks"),
]
both_drivers = pytest.mark.parametrize("use_hub", DRIVERS)
PATIENCE_S = 60


class FakeLink:
    """What a peering does with a link, as the link sees it; it says what it is told to."""

    def __init__(self, dialled: str | None, address: str) -> None:
        self.dialled = dialled
        self.address = address
        self.received = b""
        self.output: list[bytes] = []
        self.closed = False
        self.gone = False
        self.proven = False
        self.echo = False

    def receive(self, data: bytes) -> None:
        self.received += data
        if self.echo:
            self.output.append(data)
        if data.endswith(b"raise"):
            raise ZeroDivisionError("a bug")

    def take_output(self) -> list[bytes]:
        output, self.output = self.output, []
        return output

    def tls_failed(self, data: bytes, said: str | None) -> bytes:
        return b""

    def disconnected(self) -> None:
        self.closed = self.gone = True


class FakeNode:
    """A core without one."""

    def __init__(self) -> None:
        self.links: list[FakeLink] = []
        self.room = 16  #: for strangers
        self.linked = False
        self.doubted = ""
        self.steps = 0
        self.flushes = 0
        self.started = False
        self.gate = self.changes = self.membership = self.view = self
        self.data = Data.NOTHING
        self.fresh: dict[bytes, bytes] = {}
        self.has_news = True
        self.role = STARTING

    def start(self) -> None:
        self.started = True

    def may_accept(self) -> bool:
        return sum(not link.proven and not link.gone for link in self.links) < self.room

    def should_dial(self, peer: str) -> bool:
        return not self.linked

    def open_link(self, *, dialled: str | None, address: str = "") -> FakeLink:
        link = FakeLink(dialled, address)
        self.links.append(link)
        return link

    def step(self) -> float:
        self.steps += 1
        return float("inf")

    def send_batch(self) -> None:
        self.flushes += 1


class Member:
    """A peering with all that a server lends it."""

    def __init__(self, *peers: str, use_hub: bool, authority: Authority | None = None) -> None:
        self.node = FakeNode()
        self.lines: list[str] = []
        self.errors: list[Exception] = []
        self.settings = Settings(
            port=0, replication_listen=("127.0.0.1",), replication_port=-1, **tls(authority)
        )
        self.hub = Hub(Service(self.settings, ManualClock(), make_host())) if use_hub else None
        self.peering = Peering(
            lambda wake: self.node,  # type: ignore[arg-type,return-value]
            peers,
            hub=self.hub,
            log=self.lines.append,
            on_error=self.errors.append,
            context=None if authority is None else Certificates(self.settings).context,
            chance=lambda: 0.0,
        )
        self.endpoints: list[Endpoint] = open_internet_endpoints(self.settings)

    @property
    def address(self) -> str:
        return "{}:{}".format(*self.endpoints[0].sock.getsockname())

    async def link(self, number: int = 0) -> FakeLink:
        """Return the link of that number, as soon as there is one."""
        await until(lambda: len(self.node.links) > number)
        return self.node.links[number]

    def say(self, link: FakeLink, *pieces: bytes) -> None:
        link.output += pieces
        self.peering.send_turn()

    async def run(self) -> None:
        try:
            async with trio.open_nursery() as nursery:
                if self.hub is not None:
                    nursery.start_soon(self.hub.run, self.peering.end_turn)
                await self.peering.run(self.endpoints)
        finally:
            close_all(self.endpoints)
            if self.hub is not None:
                self.hub.close_all()


def tls(authority: Authority | None) -> dict[str, Any]:
    if authority is None:
        return {}
    return {
        "replication_tls": True,
        "ssl_chain_cert": authority.chain_file,
        "ssl_key": authority.key_file,
        "ssl_ca_cert": authority.ca_file,
    }


async def until(condition: Callable[[], object]) -> None:
    """Wait, without a clock, until `condition()` holds."""
    while not condition():
        await trio.lowlevel.checkpoint()


@asynccontextmanager
async def running(*members: Member) -> AsyncIterator[None]:
    with trio.fail_after(PATIENCE_S):
        async with trio.open_nursery() as nursery:
            for member in members:
                nursery.start_soon(member.run)
            yield
            nursery.cancel_scope.cancel()
    for member in members:
        assert all(link.gone for link in member.node.links)
        assert member.peering._wires == ()


def pair(use_hub: bool, authority: Authority | None = None) -> tuple[Member, Member]:
    """Return a member that is dialled, and one that dials it."""
    called = Member(use_hub=use_hub, authority=authority)
    return called, Member(called.address, use_hub=use_hub, authority=authority)


@both_drivers
@pytest.mark.parametrize("with_tls", [False, True], ids=["plain", "tls"])
async def test_bytes_pass_both_ways(use_hub: bool, with_tls: bool) -> None:
    called, caller = pair(use_hub, shared_authority() if with_tls else None)
    async with running(called, caller):
        ours, theirs = await called.link(), await caller.link()
        assert (ours.dialled, theirs.dialled) == (None, called.address)
        assert theirs.address == called.address
        assert ours.address.startswith("127.0.0.1:")
        caller.say(theirs, b"hel", b"lo")
        await until(lambda: ours.received == b"hello")
        called.say(ours, b"well", b"come")
        await until(lambda: theirs.received == b"wellcome")
        assert caller.node.started
        assert [called.errors, caller.errors, called.lines, caller.lines] == [[], [], [], []]


@both_drivers
@pytest.mark.parametrize("with_tls", [False, True], ids=["plain", "tls"])
async def test_a_peer_that_does_not_read_costs_no_memory(use_hub: bool, with_tls: bool) -> None:
    called, caller = pair(use_hub, shared_authority() if with_tls else None)
    async with running(called, caller):
        ours, theirs = await called.link(), await caller.link()
        called.say(ours, b"x")
        await until(lambda: theirs.received)
        (theirs_wire,) = caller.peering._wires
        theirs_wire._read = lambda: None  # type: ignore[method-assign]
        chunk = bytes(range(256)) * 4096
        sent = 0
        while not called.peering._wires[0].blocked:
            called.say(ours, chunk)
            sent += len(chunk)
        # What the link has to say from now on, it keeps.
        called.say(ours, b"more")
        assert ours.output == [b"more"]
        del theirs_wire._read
        await until(lambda: len(theirs.received) == 1 + sent + 4)
        assert theirs.received == b"x" + chunk * (sent // len(chunk)) + b"more"
        assert not called.peering._wires[0].blocked


@both_drivers
async def test_a_link_that_closes_says_its_last_words(use_hub: bool) -> None:
    called, caller = pair(use_hub)
    async with running(called, caller):
        ours, theirs = await called.link(), await caller.link()
        ours.closed = True
        called.say(ours, b"bye")
        await until(lambda: theirs.gone)
        assert theirs.received == b"bye"
        assert ours.gone


@both_drivers
async def test_a_fault_of_ours_costs_one_link(use_hub: bool) -> None:
    called, caller = pair(use_hub)
    async with running(called, caller):
        first = await called.link()
        caller.say(await caller.link(), b"raise")
        await until(lambda: first.gone)
        assert [type(error) for error in called.errors] == [ZeroDivisionError]
        caller.say(await caller.link(1), b"again")
        second = await called.link(1)
        await until(lambda: second.received == b"again")


@both_drivers
async def test_a_stranger_makes_room_for_the_next(use_hub: bool) -> None:
    called = Member(use_hub=use_hub)
    called.node.room = 2
    async with running(called):
        host, _, port = called.address.rpartition(":")
        streams = []
        for number in range(4):
            streams.append(await trio.open_tcp_stream(host, int(port)))
            (await called.link(number)).proven = not number
        # The first has proven itself, the second has had its time.
        assert [link.gone for link in called.node.links] == [False, True, False, False]
        assert await streams[1].receive_some() == b""
        called.node.room = 0
        called.node.links[2].proven = called.node.links[3].proven = True
        late = await trio.open_tcp_stream(host, int(port))
        assert await late.receive_some() == b""
        assert len(called.node.links) == 4
        for stream in (*streams, late):
            await stream.aclose()


@both_drivers
async def test_a_reset_link_tells_its_core(use_hub: bool) -> None:
    called = Member(use_hub=use_hub)
    async with running(called):
        host, _, port = called.address.rpartition(":")
        stream = await trio.open_tcp_stream(host, int(port))
        link = await called.link()
        before = called.node.steps
        stream.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        stream.socket.close()
        await until(lambda: link.gone)
        # And the node may think about it at once.
        await until(lambda: called.node.steps > before)


# -- dialling ----------------------------------------------------------------------------------


class Sleeper:
    """Stands in for waiting: tells how long, and ends it at once."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.delays_s: list[float] = []
        monkeypatch.setattr(trio, "sleep", self.sleep)

    async def sleep(self, delay_s: float) -> None:
        self.delays_s.append(delay_s)
        await trio.lowlevel.checkpoint()


@both_drivers
async def test_beside_a_link_that_is_doubted_another_one_is_dialled(
    use_hub: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    Sleeper(monkeypatch)
    called, caller = pair(use_hub)
    async with running(called, caller):
        first = await caller.link()
        caller.peering.stepping.wake()
        await until(lambda: caller.node.steps > 1)
        first.proven = True
        caller.node.doubted = called.address
        caller.peering.stepping.wake()
        second = await caller.link(1)
        assert not first.gone
        # One at a time, and none when it has come about.
        for _ in range(3):
            steps = caller.node.steps
            caller.peering.stepping.wake()
            await until(lambda: caller.node.steps > steps)  # noqa: B023
        assert len(caller.node.links) == 2
        second.proven, caller.node.doubted = True, ""
        first.closed = True
        caller.peering.send_turn()
        await until(lambda: first.gone)
        assert len(caller.node.links) == 2


async def test_the_delay_between_dials_doubles(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{nobody.getsockname()[1]}"
        sleeper = Sleeper(monkeypatch)
        caller = Member(address, use_hub=False)
        async with running(caller):
            await until(lambda: len(sleeper.delays_s) >= 7)
        assert sleeper.delays_s[:7] == [0.05, 0.1, 0.2, 0.4, 0.8, BACKOFF_MAX_S, BACKOFF_MAX_S]
        # Said once, not each time.
        assert caller.lines == [f"replication: cannot reach {address}: Connection refused"]


@both_drivers
async def test_who_is_refused_waits_longer_each_time(
    use_hub: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    sleeper = Sleeper(monkeypatch)
    called, caller = pair(use_hub)
    async with running(called, caller):
        for number in range(4):
            link = await called.link(number)
            link.closed = True
            called.peering.send_turn()
        await until(lambda: len(sleeper.delays_s) >= 4)
        assert sleeper.delays_s[:4] == [0.05, 0.1, 0.2, 0.4]


@both_drivers
async def test_a_link_that_worked_is_dialled_again_at_once(
    use_hub: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(peering_module, "PROVEN_AFTER_S", 0.0)
    sleeper = Sleeper(monkeypatch)
    called, caller = pair(use_hub)
    async with running(called, caller):
        for number in range(3):
            ours, theirs = await called.link(number), await caller.link(number)
            theirs.proven = True
            ours.closed = True
            called.peering.send_turn()
        await called.link(3)
        assert sleeper.delays_s == []


@both_drivers
async def test_a_peer_that_dialled_us_is_dialled_when_it_is_lost(use_hub: bool) -> None:
    nowhere = Member(use_hub=use_hub)
    caller = Member(nowhere.address, use_hub=use_hub)
    caller.node.linked = True
    async with running(nowhere, caller):
        host, _, port = caller.address.rpartition(":")
        stream = await trio.open_tcp_stream(host, int(port))
        await caller.link()
        await trio.testing.wait_all_tasks_blocked()
        assert len(caller.node.links) == 1
        caller.node.linked = False
        await stream.aclose()
        assert (await caller.link(1)).dialled == nowhere.address


# -- TLS ---------------------------------------------------------------------------------------


@both_drivers
async def test_a_stranger_to_our_authority_is_refused(use_hub: bool) -> None:
    called = Member(use_hub=use_hub, authority=shared_authority())
    caller = Member(called.address, use_hub=use_hub, authority=new_authority())
    async with running(called, caller):
        link = await caller.link()
        caller.say(link, b"let me in")
        await until(lambda: caller.lines)
        (line,) = caller.lines
        assert "TLS handshake with 127.0.0.1:" in line
        assert "certificate verify failed" in line
        await until(lambda: called.lines)
        assert "unknown ca" in called.lines[0]
        assert all(each.received == b"" for each in called.node.links)


@both_drivers
async def test_without_a_certificate_nobody_comes_in(use_hub: bool) -> None:
    authority = shared_authority()
    called = Member(use_hub=use_hub, authority=authority)
    async with running(called):
        host, _, port = called.address.rpartition(":")
        context = authority.client()
        context.check_hostname = False
        stream = trio.SSLStream(await trio.open_tcp_stream(host, int(port)), context)
        # TLS 1.3: the client is told after it has finished.
        await stream.do_handshake()
        with pytest.raises(trio.BrokenResourceError):
            await stream.receive_some()
        link = await called.link()
        await until(lambda: link.gone)
        assert link.received == b""
        assert "peer did not return a certificate" in called.lines[0]
        await trio.aclose_forcefully(stream)


@both_drivers
async def test_who_does_not_speak_tls_is_refused(use_hub: bool) -> None:
    called = Member(use_hub=use_hub, authority=shared_authority())
    async with running(called):
        host, _, port = called.address.rpartition(":")
        for _ in range(2):
            stream = await trio.open_tcp_stream(host, int(port))
            await stream.send_all(b"GET / HTTP/1.0\r\n\r\n")
            while await stream.receive_some():
                pass  # why, in TLS
            await stream.aclose()
        await until(lambda: all(link.gone for link in called.node.links))
        # One complaint a minute about one host, whatever its ports.
        (line,) = called.lines
        assert line == "replication: TLS handshake with 127.0.0.1 failed: http request"


def test_tls_takes_what_is_said_before_its_handshake() -> None:
    authority = shared_authority()
    certificates = Certificates(Settings(port=0, **tls(authority)))
    caller = WireTls(certificates.context("dials"), server_side=False, data=Data.KEPT)
    called = WireTls(certificates.context("accepts"), server_side=True, data=Data.NEW)
    to_called, to_caller = caller.seal([b"early"]), called.seal([b"bird"])
    heard = {"caller": b"", "called": b""}
    for _ in range(5):
        heard["called"] += called.open(to_called)
        to_caller += called.seal([])
        heard["caller"] += caller.open(to_caller)
        to_caller = b""
        to_called = caller.seal([])
    assert heard == {"caller": b"bird", "called": b"early"}
    value = bytes(300_000)
    assert called.open(caller.seal([b"a", value])) == b"a" + value
    with pytest.raises(ssl.SSLError):
        called.open(b"no record at all")
