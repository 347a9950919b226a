"""TLS between a client and its connection: first without sockets, then a whole server."""

from __future__ import annotations

import gc
import os
import signal
import socket
import ssl
import struct
import subprocess
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import trio
import trio.testing
from hypothesis import given, settings
from hypothesis import strategies as st

from pymcd import limits
from pymcd.config import Settings
from pymcd.protocol import Connection
from pymcd.protocol.recorder import CONNEVENTS
from pymcd.server import files
from pymcd.server import tls as tls_module
from pymcd.server.certificates import Certificates
from pymcd.server.tls import FEED_BYTES, FEED_RECORDS, TlsServer, TlsSession, Turn
from pymcd.service import Service

from ..clocks import ManualClock
from ..hosts import make_host
from ..interpreters import of_cpython
from .authority import HOST, Authority, Wire, new_authority, shared_authority
from .helpers import Running, TrioClock, ask, read_all, read_until, serving

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

HAS_EPOLL = sys.platform == "linux"
DRIVERS = [
    pytest.param(True, marks=pytest.mark.skipif(not HAS_EPOLL, reason="needs epoll"), id="hub"),
    pytest.param(False, id="streams"),
]
both_drivers = pytest.mark.parametrize("use_hub", DRIVERS)
VERSION = b"VERSION 1.6.45\r\n"
TLS_1_2, TLS_1_3 = ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3
PATIENCE_S = 60
RELOADING = "Could not reload TLS certificates on SIGHUP"


@pytest.fixture
def authority() -> Authority:
    return shared_authority()


# -- without sockets ---------------------------------------------------------------------------


class Host:
    """What the hub does for TLS sessions, as far as they can tell."""

    def __init__(self, clock: ManualClock | None = None, **others: Any) -> None:
        authority = shared_authority()
        config = Settings(**authority.settings(**others))
        self.clock = clock or ManualClock()
        self.lines: list[str] = []
        self.turn = Turn()
        self.server = TlsServer(
            Certificates(config), config, self.clock, self.turn, self.lines.append
        )
        self.service = Service(config, self.clock, make_host(tls=self.server))
        self.woken: list[Connection] = []

    def session(self) -> TlsSession:
        connection = Connection(self.service, address="tcp:192.0.2.1:5")
        connection.wake = lambda: self.woken.append(connection)
        self.connection = connection
        return self.server.session("tls", connection)

    def feed(self, session: TlsSession, sealed: bytes, *, step: int = 0) -> list[bytes]:
        """Have the session answer, each step in a turn of its own; return what would be sent."""
        sent: list[bytes] = []
        for start in range(0, len(sealed), step or len(sealed) or 1):
            self.service.tick()
            reply = session.respond(sealed[start : start + step] if step else sealed)
            self.turn.begin()
            sent.append(session.drain() if reply is None else reply)
            if reply is None:
                self._run(session, sent)
            while session._unfed:
                session.advance()
                self._run(session, sent)
        return sent

    def _run(self, session: TlsSession, sent: list[bytes]) -> None:
        more = True
        while more:
            more = self.connection.run()
            while (chunk := self.connection.next_chunk()) is not None:
                sent.append(session.seal(chunk))

    def introduce(self, session: TlsSession, wire: Wire) -> None:
        """Shake hands to the end."""
        while not wire.shake_hands():
            for part in self.feed(session, wire.outgoing.read()):
                wire.incoming.write(part)
        assert wire.open(self.feed(session, wire.outgoing.read())) == b""
        assert session.established

    def counted(self) -> tuple[int, int]:
        """Return how many failed at the first words, and how many later."""
        return self.row("ssl_handshake_errors"), self.row("ssl_proto_errors")

    def row(self, name: str) -> int:
        return dict(self.server.rows())[name]


def client(**options: Any) -> Wire:
    return Wire(shared_authority().client(**options))


CONVERSATIONS = [
    (b"version\r\n", VERSION),
    (b"set a 0 0 3\r\nabc\r\nget a\r\n", b"STORED\r\nVALUE a 0 3\r\nabc\r\nEND\r\n"),
    (b"set n 0 0 1 noreply\r\n5\r\nincr n 6\r\n", b"11\r\n"),
    (b"ms m 2\r\nhi\r\nmg m v\r\nmn\r\n", b"HD\r\nVA 2\r\nhi\r\nMN\r\n"),
    (b"bogus\r\n" * 100, b"ERROR\r\n" * 100),
    (
        struct.pack("!BBHBBHLLQ", 0x80, 0x0A, 0, 0, 0, 0, 0, 7, 0),
        struct.pack("!BBHBBHLLQ", 0x81, 0x0A, 0, 0, 0, 0, 0, 7, 0),
    ),
]


@pytest.mark.parametrize("version", [TLS_1_2, TLS_1_3])
@pytest.mark.parametrize(("request_", "reply"), CONVERSATIONS)
@pytest.mark.parametrize("step", [0, 1, 7])
def test_conversations(version: ssl.TLSVersion, request_: bytes, reply: bytes, step: int) -> None:
    host = Host()
    session, wire = host.session(), client(version=version)
    host.introduce(session, wire)
    assert wire.open(host.feed(session, wire.seal(request_), step=step)) == reply
    assert wire.open(host.feed(session, wire.seal(request_), step=step)) == reply
    assert host.row("ssl_handshake_errors") == host.row("ssl_proto_errors") == 0


@given(st.lists(st.integers(1, 400), max_size=8), st.integers(0, 60))
@settings(max_examples=40)
def test_records_and_pieces_may_be_cut_anywhere(records: list[int], step: int) -> None:
    host = Host()
    session, wire = host.session(), client()
    host.introduce(session, wire)
    request = b"set a 0 0 900\r\n" + b"v" * 900 + b"\r\nget a\r\nget b\r\nversion\r\n"
    pieces, start = [], 0
    for length in records:
        pieces.append(request[start : start + length])
        start += length
    pieces.append(request[start:])
    sealed = wire.seal(*filter(None, pieces))
    got = wire.open(host.feed(session, sealed, step=step))
    value = b"VALUE a 0 900\r\n" + b"v" * 900 + b"\r\nEND\r\n"
    assert got == b"STORED\r\n" + value + b"END\r\n" + VERSION


@pytest.mark.parametrize("size", [20_000, 70_000, 1_000_000])
def test_large_values(size: int) -> None:
    host = Host()
    session, wire = host.session(), client()
    host.introduce(session, wire)
    value = bytes(range(250)) * (size // 250)
    sealed = wire.seal(b"set big 0 0 %d\r\n%b\r\nget big\r\n" % (size, value))
    got = wire.open(host.feed(session, sealed, step=limits.RECEIVE_BYTES))
    assert got == b"STORED\r\nVALUE big 0 %d\r\n%b\r\nEND\r\n" % (size, value)


def test_what_counts_is_what_is_inside() -> None:
    host = Host()
    session, wire = host.session(), client()
    host.introduce(session, wire)
    sealed = wire.seal(b"version\r\n")
    host.service.tick()
    reply = session.respond(sealed)
    assert reply is not None
    assert len(sealed) - host.turn.surplus_read == len(b"version\r\n")
    assert len(reply) - host.turn.surplus_written == len(VERSION)
    assert host.turn.active


def test_the_end_of_a_session_comes_behind_its_answers() -> None:
    host = Host()
    session, wire = host.session(), client()
    host.introduce(session, wire)
    sealed = wire.seal(b"version\r\n")
    with pytest.raises(ssl.SSLWantReadError):
        wire.tls.unwrap()
    sealed += wire.outgoing.read()
    answer = host.feed(session, sealed)
    assert session.ended
    assert not session.failed
    answer.append(session.farewell())
    assert wire.open(answer) == VERSION
    wire.tls.unwrap()
    assert session.farewell() == b""


def test_the_server_says_farewell() -> None:
    host = Host()
    session, wire = host.session(), client()
    host.introduce(session, wire)
    wire.incoming.write(session.farewell())
    # An orderly end, which a cut connection is not.
    assert wire.tls.read(100) == b""
    assert host.row("ssl_handshake_errors") == 0


@pytest.mark.parametrize(
    "first",
    [b"version\r\n", b"GET / HTTP/1.0\r\n\r\n", b"\x80" * 24, b"\x16\x03\x01\x00\x05\xff\0\0\1\0"],
)
def test_who_does_not_speak_tls_is_closed(first: bytes) -> None:
    host = Host()
    session = host.session()
    host.feed(session, first)
    assert session.failed
    assert host.connection.closing
    assert host.connection.close_reason == "error"
    assert host.row("ssl_handshake_errors") == 1
    session.farewell()
    assert host.row("ssl_handshake_errors") == 1
    (line,) = host.lines
    assert line.startswith("SSL connection failed: tcp:192.0.2.1:5: ")
    assert not host.server.handshaking


#: What OpenSSL says of a record that was changed on its way.
SPOILT_RECORD = (
    ("0A000139", "record layer failure")
    if ssl.OPENSSL_VERSION_INFO >= (3, 2)
    else ("0A000119", "decryption failed or bad record mac")
)


def test_who_breaks_the_protocol_later_is_closed() -> None:
    host = Host()
    session, wire = host.session(), client()
    host.introduce(session, wire)
    sealed = wire.seal(b"version\r\n")
    last_words = host.feed(session, sealed[:-1] + bytes([sealed[-1] ^ 1]))
    assert host.connection.closing
    with pytest.raises(ssl.SSLError, match="alert"):
        wire.open([*last_words, session.farewell()])
    assert host.counted() == (0, 1)
    assert host.lines == [f"SSL connection failed: tcp:192.0.2.1:5: {SPOILT_RECORD[1]}"]


@pytest.mark.parametrize("times", [1, 300])
def test_what_one_client_spoils_is_not_told_of_another(times: int) -> None:
    """OpenSSL's errors are in a queue that all those share whom a thread serves."""
    host = Host()
    good, good_wire = host.session(), client()
    connection = host.connection
    host.introduce(good, good_wire)
    bad, bad_wire = host.session(), client()
    host.introduce(bad, bad_wire)
    sealed = bad_wire.seal(b"version\r\n" * times)
    host.feed(bad, sealed[:-1] + bytes([sealed[-1] ^ 1]))
    assert bad.failed
    bad.farewell()
    host.connection = connection
    halves = good_wire.seal(b"version\r\n")
    assert host.feed(good, halves, step=len(halves) - 1)[:1] == [b""]
    assert not good.failed


@given(st.lists(st.binary(min_size=1, max_size=300), max_size=10), st.booleans())
@settings(max_examples=60)
def test_garbage_raises_nothing(pieces: list[bytes], introduced: bool) -> None:
    host = Host()
    session = host.session()
    if introduced:
        host.introduce(session, client())
    for piece in pieces:
        if not host.connection.closing:
            host.feed(session, piece)
    session.farewell()
    assert not host.server.handshaking


def test_who_leaves_during_the_handshake_is_counted() -> None:
    host = Host()
    wire = client()
    wire.shake_hands()
    session = host.session()
    host.feed(session, wire.outgoing.read())
    assert list(host.server.handshaking) == [host.connection]
    session.farewell()
    assert host.counted() == (0, 1)
    assert not host.server.handshaking


def test_who_is_cut_off_is_counted_nowhere() -> None:
    host = Host()
    session = host.session()
    host.connection.close_reason = "error"
    session.farewell()
    assert host.counted() == (0, 0)


#: What becomes of a client, and what watchers are told of it.
ENDS: list[tuple[str, bytes, bool, str, str]] = [
    ("no TLS", b"get k\r\n", False, "", "error:0A00010B:SSL routines::wrong version number"),
    ("gone", b"", False, "normal", "error:0A000126:SSL routines::unexpected eof while reading"),
    ("cut off", b"", False, "error", "Connection reset by peer"),
    ("cut off later", b"", True, "error", "Connection reset by peer"),
    ("gone later", b"", True, "normal", ""),
    (
        "garbage later",
        b"\x17\x03\x03\x00\x20" + b"x" * 32,
        True,
        "",
        "error:{}:SSL routines::{}".format(*SPOILT_RECORD),
    ),
]


@pytest.mark.parametrize(
    ("name", "said", "introduced", "reason", "message"), ENDS, ids=[each[0] for each in ENDS]
)
def test_watchers_are_told(
    name: str, said: bytes, introduced: bool, reason: str, message: str
) -> None:
    host = Host()
    watcher = Connection(host.service)
    host.service.recorder.add_watcher(watcher, CONNEVENTS)
    session = host.session()
    if introduced:
        host.introduce(session, client())
    if said:
        host.feed(session, said)
    else:
        host.connection.close_reason = reason
    session.farewell()
    host.service.disconnected(host.connection)
    *told, closed = b"".join(watcher.pieces).decode().splitlines()
    assert [line.partition(" type=")[2] for line in told] == (
        [f"conntlserr fd={host.connection.id} msg={message}"] if message else []
    )
    assert f"reason={'error' if message else 'normal'}" in closed


def test_handshakes_are_bounded_in_time() -> None:
    host = Host()
    slow = host.session(), host.connection
    host.clock.advance(limits.TLS_HANDSHAKE_TIMEOUT_S - 1)
    late = host.session(), host.connection
    done = host.session()
    host.introduce(done, client())
    assert host.server.step() == pytest.approx(1)
    assert host.woken == []
    host.clock.advance(1)
    assert host.server.step() == limits.TLS_HANDSHAKE_TIMEOUT_S - 1
    assert host.woken == [slow[1]]
    assert slow[1].closing
    assert not late[1].closing
    slow[0].farewell()
    host.clock.advance(limits.TLS_HANDSHAKE_TIMEOUT_S)
    assert host.server.step() == float("inf")
    assert host.row("ssl_handshake_errors") == 2
    assert not host.connection.closing


def test_a_turn_shakes_few_hands() -> None:
    host = Host()
    knocking = []
    for _ in range(tls_module.HANDSHAKE_STEPS_PER_TURN + 2):
        session, wire = host.session(), client()
        wire.shake_hands()
        knocking.append((session, wire, session.respond(wire.outgoing.read())))
    answered = [bool(reply) for _, _, reply in knocking]
    assert answered == [True] * tls_module.HANDSHAKE_STEPS_PER_TURN + [False] * 2
    assert len(host.woken) == 2
    # No time in this turn, nor in the one which others have used up ...
    knocking[-1][0].advance()
    assert knocking[-1][0].drain() == b""
    # ... but in the next, where the rest is the same.
    for session, wire, reply in knocking:
        host.turn.begin()
        session.advance()
        wire.incoming.write(reply or session.drain())
        assert wire.shake_hands()
        assert wire.open([session.respond(wire.outgoing.read()) or b""]) == b""
        assert session.established


def test_a_request_that_came_with_the_handshake_is_answered() -> None:
    host = Host()
    session, wire = host.session(), client()
    while not wire.shake_hands():
        for part in host.feed(session, wire.outgoing.read()):
            wire.incoming.write(part)
    finished = wire.outgoing.read() + wire.seal(b"version\r\n")
    host.turn.handshake_steps = tls_module.HANDSHAKE_STEPS_PER_TURN
    assert session.respond(finished) == b""
    host.turn.begin()
    session.advance()
    host.connection.run()
    sealed = [session.drain()]
    while (chunk := host.connection.next_chunk()) is not None:
        sealed.append(session.seal(chunk))
    assert wire.open(sealed) == VERSION


@pytest.mark.parametrize(("version", "counts"), [(TLS_1_2, [1, 1, 2]), (TLS_1_3, [2, 3, 5])])
def test_sessions_are_resumed_and_counted(version: ssl.TLSVersion, counts: list[int]) -> None:
    host = Host(ssl_session_cache=True)
    context = shared_authority().client(version=version)
    first = Wire(context)
    host.introduce(host.session(), first)
    assert host.row("ssl_new_sessions") == counts[0]
    again = Wire(context, first.tls.session)
    host.introduce(host.session(), again)
    assert again.tls.session_reused
    assert host.row("ssl_new_sessions") == counts[1]
    other = Wire(context)
    host.introduce(host.session(), other)
    assert not other.tls.session_reused
    assert host.row("ssl_new_sessions") == counts[2]
    host.service.reset_counters()
    assert host.row("ssl_new_sessions") == 0


def test_rows() -> None:
    host = Host()
    host.clock.advance(5)
    names = [name for name, _ in host.server.rows()]
    assert names == ["ssl_handshake_errors", "ssl_proto_errors", "time_since_server_cert_refresh"]
    assert host.row("time_since_server_cert_refresh") == 5
    assert not host.server.refresh()
    assert host.row("time_since_server_cert_refresh") == 0


@pytest.mark.parametrize(
    ("mode", "certificate", "welcome"),
    [
        (0, "none", True),
        (0, "foreign", True),
        (1, "none", True),
        (1, "ours", True),
        (1, "foreign", False),
        (2, "none", False),
        (2, "ours", True),
        (2, "foreign", False),
        (3, "none", False),
        (3, "ours", True),
    ],
)
@pytest.mark.parametrize("version", [TLS_1_2, TLS_1_3])
def test_client_certificates(
    mode: int, certificate: str, welcome: bool, version: ssl.TLSVersion
) -> None:
    authority = shared_authority()
    host = Host(ssl_verify_mode=mode, ssl_ca_cert=authority.ca_file)
    issuer = {"ours": authority, "foreign": new_authority()}.get(certificate)
    leaf = issuer.leaf("someone@example.org") if issuer else None
    session, wire = host.session(), client(certificate=leaf, version=version)
    if welcome:
        host.introduce(session, wire)
        assert wire.open(host.feed(session, wire.seal(b"version\r\n"))) == VERSION
        return
    for _ in range(2):
        wire.shake_hands()
        for part in host.feed(session, wire.outgoing.read()):
            wire.incoming.write(part)
    assert session.failed
    assert not session.established
    assert sum(host.counted()) == 1
    assert len(host.lines) == 1


def test_an_expired_client_certificate_is_named_as_the_reason() -> None:
    authority = shared_authority()
    host = Host(ssl_verify_mode=2, ssl_ca_cert=authority.ca_file)
    leaf = authority.leaf("old@example.org", expired=True)
    session, wire = host.session(), client(certificate=leaf)
    for _ in range(2):
        wire.shake_hands()
        for part in host.feed(session, wire.outgoing.read()):
            wire.incoming.write(part)
    assert session.failed
    assert host.lines == [
        "SSL connection failed: tcp:192.0.2.1:5: certificate verify failed: certificate has expired"
    ]


# -- whole servers -----------------------------------------------------------------------------


async def secured(server: Running, context: ssl.SSLContext, endpoint: int = 0) -> trio.SSLStream:
    """Connect with TLS to one of a server's endpoints."""
    port = server.endpoints[endpoint].sock.getsockname()[1]
    stream = await trio.open_tcp_stream("127.0.0.1", port)
    server.streams.append(stream)
    tls: trio.SSLStream = trio.SSLStream(stream, context, server_hostname=HOST)
    await tls.do_handshake()
    return tls


async def until(condition: Callable[[], bool]) -> None:
    """Wait, without a clock, until a condition holds."""
    while not condition():
        await trio.lowlevel.checkpoint()


def certificate_of(stream: trio.SSLStream) -> bytes:
    certificate: bytes = stream.getpeercert(binary_form=True)
    return certificate


@both_drivers
async def test_serves_clients(use_hub: bool, authority: Authority) -> None:
    async with serving(use_hub=use_hub, **authority.settings()) as server:
        context = authority.client()
        first, second = await secured(server, context), await secured(server, context)
        assert await ask(first, b"set a 0 0 1\r\nx\r\n") == b"STORED\r\n"
        assert await ask(second, b"get a\r\n", end=b"END\r\n") == b"VALUE a 0 1\r\nx\r\nEND\r\n"
        counters = server.service.counters
        await until(lambda: (counters.bytes_read, counters.bytes_written) == (23, 29))
        stats = await ask(first, b"stats\r\n", end=b"END\r\n")
        assert b"STAT ssl_handshake_errors 0\r\n" in stats
        report = await ask(first, b"stats settings\r\n", end=b"END\r\n")
        assert b"STAT ssl_enabled yes\r\n" in report
        await first.send_all(b"quit\r\n")
        assert await read_all(first) == b""
        await until(lambda: len(server.service.connections) == 1)
    assert not server.memory.failures


@both_drivers
async def test_a_client_that_does_not_read_gets_all_in_the_end(
    use_hub: bool, authority: Authority
) -> None:
    async with serving(use_hub=use_hub, **authority.settings()) as server:
        stream = await secured(server, authority.client())
        value = os.urandom(500_000)
        assert await ask(stream, b"set big 0 0 500000\r\n" + value + b"\r\n") == b"STORED\r\n"
        request, count = b"get big\r\n" * 40 + b"quit\r\n", 40
        async with trio.open_nursery() as nursery:
            nursery.start_soon(stream.send_all, request)
            parts = []
            while data := await stream.receive_some(1 << 20):
                parts.append(data)
        got = b"".join(parts)
        assert got == (b"VALUE big 0 500000\r\n" + value + b"\r\nEND\r\n") * count
        counters = server.service.counters
        await until(lambda: counters.bytes_written == len(got) + len(b"STORED\r\n"))


@both_drivers
async def test_dumps_and_watchers(use_hub: bool, authority: Authority) -> None:
    async with serving(use_hub=use_hub, **authority.settings()) as server:
        stream, watcher = [await secured(server, authority.client()) for _ in range(2)]
        assert await ask(watcher, b"watch mutations\r\n") == b"OK\r\n"
        sets = b"".join(b"set k%d 0 0 1 noreply\r\nx\r\n" % number for number in range(500))
        assert await ask(stream, sets + b"version\r\n") == VERSION
        seen = await read_until(watcher, b"\n")
        while seen.count(b"\n") < 500:
            seen += await read_until(watcher, b"\n")
        assert seen.count(b"type=item_store") == 500
        dump = await ask(stream, b"lru_crawler metadump all\r\n", end=b"END\r\n")
        assert dump.count(b"key=k") == 500


@both_drivers
@pytest.mark.parametrize("verbose", [0, 1])
async def test_a_plain_client_harms_nobody(
    use_hub: bool, verbose: int, authority: Authority
) -> None:
    async with serving(use_hub=use_hub, verbose=verbose, **authority.settings()) as server:
        good = await secured(server, authority.client())
        plain = await server.connect()
        await plain.send_all(b"version\r\n")
        assert b"VERSION" not in await read_all(plain)
        assert server.tls is not None
        await until(lambda: len(server.service.connections) == 1)
        assert dict(server.tls.rows())["ssl_handshake_errors"] == 1
        assert len(server.memory.lines) == verbose  # a quiet server says nothing
        for line in server.memory.lines:
            assert line.startswith("SSL connection failed: tcp:127.0.0.1:")
        assert await ask(good, b"version\r\n") == VERSION


@both_drivers
async def test_listeners_of_each_kind(use_hub: bool, authority: Authority) -> None:
    listen = ("notls:127.0.0.1:0", "127.0.0.1:0", "btls:127.0.0.1:0", "mtls:127.0.0.1:0")
    config = authority.settings(listen=listen, ssl_ca_cert=authority.ca_file, ssl_verify_mode=2)
    async with serving(use_hub=use_hub, **config) as server:
        assert await ask(await server.connect(), b"version\r\n") == VERSION
        anonymous = authority.client()
        known = authority.client(certificate=authority.leaf("someone@example.org"))
        for number, context, welcome in (
            (1, known, True),
            (1, anonymous, False),
            (2, known, True),
            (2, anonymous, True),
            (3, known, True),
            (3, anonymous, False),
        ):
            if welcome:
                stream = await secured(server, context, number)
                assert await ask(stream, b"version\r\n") == VERSION
            else:
                # With TLS 1.3 a client learns of it after its own part.
                with pytest.raises(trio.BrokenResourceError) as caught:
                    await ask(await secured(server, context, number), b"version\r\n")
                # It is told why, whatever serves it.
                assert "CERTIFICATE_REQUIRED" in str(caught.value.__cause__)


@both_drivers
async def test_certificates_are_renewed_while_serving(use_hub: bool) -> None:
    authority = new_authority()
    async with serving(use_hub=use_hub, **authority.settings()) as server:
        context = authority.client()
        old = await secured(server, context)
        before = certificate_of(old)
        authority.issue()
        assert await ask(old, b"refresh_certs\r\n") == b"OK\r\n"
        renewed = await secured(server, context)
        assert certificate_of(renewed) != before
        assert await ask(old, b"version\r\n") == VERSION
        assert certificate_of(old) == before

        authority.spoil_key()
        answer = await ask(old, b"refresh_certs\r\nversion\r\n", end=VERSION)
        problem = f"Error loading the key: {authority.key_file} : no PEM data of that kind"
        assert answer == f"{problem}\r\n".encode() + VERSION
        server.reload()
        await until(lambda: server.memory.lines == [f"{RELOADING}: {problem}"])
        assert certificate_of(await secured(server, context)) == certificate_of(renewed)

        authority.issue()
        loaded = server.tls.certificates.context("tls")  # type: ignore[union-attr]
        server.reload()
        await until(lambda: server.tls.certificates.context("tls") is not loaded)  # type: ignore[union-attr]
        assert certificate_of(await secured(server, context)) != certificate_of(renewed)
        assert len(server.memory.lines) == 1


@both_drivers
@pytest.mark.parametrize("spoilt", [False, True])
async def test_certificates_are_loaded_once_for_each_change(
    use_hub: bool, spoilt: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    authority = new_authority()
    threads: list[bool] = []
    load = Certificates._load

    def count(self: Certificates) -> dict[str, ssl.SSLContext]:
        threads.append(threading.current_thread() is threading.main_thread())
        return load(self)

    monkeypatch.setattr(Certificates, "_load", count)
    monkeypatch.setattr(files, "FILE_CLOCK_NS", 0)
    async with serving(use_hub=use_hub, **authority.settings()) as server:
        stream = await secured(server, authority.client())
        for number in range(2):
            if spoilt:
                authority.spoil_key()
            else:
                authority.issue()
            threads.clear()
            os.utime(authority.key_file, ns=(0, number))
            answer = await ask(stream, b"refresh_certs\r\n" * 20 + b"version\r\n", end=VERSION)
            assert answer.count(b"Error loading the key") == (20 if spoilt else 0)
            assert answer.count(b"OK\r\n") == (0 if spoilt else 20)
            server.reload()
            assert await ask(stream, b"refresh_certs\r\nversion\r\n", end=VERSION)
            assert threads == [False]


@both_drivers
async def test_who_says_farewell_is_answered_what_is_done_aside(
    use_hub: bool, authority: Authority
) -> None:
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = authority.client().wrap_bio(incoming, outgoing, server_hostname=HOST)
    async with serving(use_hub=use_hub, **authority.settings()) as server:
        stream = await server.connect()

        async def exchange() -> bytes:
            await stream.send_all(outgoing.read())
            data = await stream.receive_some(65536)
            incoming.write(data)
            return data

        while True:
            try:
                tls.do_handshake()
                break
            except ssl.SSLWantReadError:
                await exchange()
        tls.write(b"refresh_certs\r\nversion\r\n")
        with pytest.raises(ssl.SSLWantReadError):
            tls.unwrap()
        while await exchange():
            pass
        answer = tls.read(65536)
        if answer == b"OK\r\n":
            answer += tls.read(65536)
        assert answer == b"OK\r\n" + VERSION


@both_drivers
async def test_handshakes_count_as_connections(use_hub: bool, authority: Authority) -> None:
    async with serving(use_hub=use_hub, conn_limit=2, **authority.settings()) as server:
        for _ in range(2):
            await server.connect()
        await until(lambda: len(server.service.connections) == 2)
        assert await read_all(await server.connect()) == b"ERROR Too many open connections\r\n"


async def test_a_slow_handshake_is_ended(
    autojump_clock: trio.testing.MockClock, authority: Authority
) -> None:
    config = authority.settings(verbose=1)
    async with (
        serving(endpoints=[], use_hub=False, clock=TrioClock(), **config) as server,
        trio.open_nursery() as nursery,
    ):
        for _ in range(2):
            ours, theirs = trio.testing.memory_stream_pair()
            begin = trio.current_time()

            async def serve(stream: trio.abc.Stream = theirs) -> None:
                await server.serve_stream(stream, address="tcp:192.0.2.1:5", tls="tls")

            nursery.start_soon(serve)
            await ours.send_all(b"\x16\x03")
            assert await read_all(ours) == b""
            assert trio.current_time() - begin == pytest.approx(limits.TLS_HANDSHAKE_TIMEOUT_S)
        line = "SSL connection failed: tcp:192.0.2.1:5: the handshake takes too long"
        assert server.memory.lines == [line] * 2
    assert not server.memory.failures


@both_drivers
async def test_stopping_says_farewell(use_hub: bool, authority: Authority) -> None:
    async with serving(use_hub=use_hub, **authority.settings()) as server:
        stream = await secured(server, authority.client())
        assert await ask(stream, b"version\r\n") == VERSION
        unfinished = await server.connect()
        await unfinished.send_all(b"\x16")
        server.stop()
        # A cut connection would raise: trio insists on an orderly end.
        assert await read_all(stream) == b""
        await server.finished.wait()


@of_cpython("objects die by reference count")
@pytest.mark.skipif(not HAS_EPOLL, reason="needs epoll")
async def test_a_closed_session_dies_by_reference_count(authority: Authority) -> None:
    def alive() -> list[object]:
        return [thing for thing in gc.get_objects() if type(thing) in (Connection, TlsSession)]

    async with serving(**authority.settings()) as server:
        gc.collect()
        gc.disable()
        try:
            before = {id(thing) for thing in alive()}  # what other tests keep
            stream = await secured(server, authority.client())
            assert await ask(stream, b"version\r\n") == VERSION
            await stream.aclose()
            refused = await server.connect()
            await refused.send_all(b"version\r\n")
            await read_all(refused)
            await until(lambda: not server.service.connections)
            assert [thing for thing in alive() if id(thing) not in before] == []
        finally:
            gc.enable()


# -- the process -------------------------------------------------------------------------------


@pytest.fixture
def process(authority: Authority) -> Iterator[tuple[subprocess.Popen[str], int, Authority]]:
    """Run a server with files of its own, which only root may read if we are root."""
    authority = new_authority()
    is_root = os.geteuid() == 0
    command = [sys.executable, "-m", "pymcd", "-Z", "-vv", "-p", "-1", "-l", "127.0.0.1"]
    command += ["-o", f"ssl_chain_cert={authority.chain_file},ssl_key={authority.key_file}"]
    command += ["-u", "nobody"] if is_root else []
    os.chmod(authority.key_file, 0o600)
    ports = Path(authority.folder) / "ports"
    authority.folder.chmod(0o777)
    process = subprocess.Popen(
        command,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "MEMCACHED_PORT_FILENAME": str(ports)},
    )
    try:
        assert process.stderr is not None
        for line in process.stderr:
            if "server listening" in line:
                break
        while not ports.exists():
            assert process.poll() is None
        yield process, int(ports.read_text().rsplit(":", 1)[1]), authority
    finally:
        process.kill()
        process.communicate(timeout=PATIENCE_S)


def _certificate_at(port: int, authority: Authority) -> bytes:
    with (
        socket.create_connection(("127.0.0.1", port), timeout=PATIENCE_S) as sock,
        authority.client().wrap_socket(sock, server_hostname=HOST) as tls,
    ):
        tls.sendall(b"version\r\n")
        assert tls.recv(100) == VERSION
        certificate = tls.getpeercert(binary_form=True)
        assert certificate is not None
        return certificate


@pytest.mark.slow
def test_a_hangup_reads_the_certificates_again(
    process: tuple[subprocess.Popen[str], int, Authority],
) -> None:
    server, port, authority = process
    assert server.stderr is not None
    before = _certificate_at(port, authority)
    Path(authority.chain_file).unlink()
    server.send_signal(signal.SIGHUP)
    for line in server.stderr:
        if line.startswith(RELOADING):
            break
    assert line == (
        f"{RELOADING}: Error loading the certificate chain: {authority.chain_file} :"
        " No such file or directory\n"
    )
    assert _certificate_at(port, authority) == before
    authority.issue()
    os.chmod(authority.key_file, 0o644)
    server.send_signal(signal.SIGHUP)
    while _certificate_at(port, authority) == before:
        assert server.poll() is None


def test_many_small_records_are_opened_in_several_turns() -> None:
    """64 KB may be thousands of them."""
    host = Host()
    session, wire = host.session(), client()
    host.introduce(session, wire)
    requests = b"version\r\n" * 300
    sealed = wire.seal(*(requests[at : at + 1] for at in range(len(requests))))
    assert len(sealed) > 3 * FEED_BYTES
    connection = host.connection
    host.woken.clear()
    host.service.tick()
    said = []
    reply = session.respond(sealed)
    turns = 0
    while True:
        assert len(connection.buffer) < FEED_BYTES // 20
        said.append(session.drain() if reply is None else reply)
        more = True
        while more:
            more = connection.run()
            while (chunk := connection.next_chunk()) is not None:
                said.append(session.seal(chunk))
        host.turn.begin()
        turns += 1
        if not host.woken:
            break
        host.woken.clear()
        reply = b""
        session.advance()
    assert turns == -(-len(requests) // FEED_RECORDS)
    assert wire.open(said) == VERSION * 300


@pytest.mark.parametrize("step", [0, 1, 7, 700, 1500, 3000, FEED_BYTES])
def test_few_records_are_opened_at_once(step: int) -> None:
    """However they are cut, and whatever they carry: it may be nothing but new keys."""
    host = Host()
    session, wire = host.session(), client()
    host.introduce(session, wire)
    value = b"set k 0 0 40000\r\n" + b"x" * 40_000 + b"\r\n"
    small = b"version\r\n" * 30
    sealed = wire.seal(value, *(small[at : at + 1] for at in range(len(small))), value)
    ends = [0]
    while ends[-1] < len(sealed):
        ends.append(ends[-1] + 5 + int.from_bytes(sealed[ends[-1] + 3 : ends[-1] + 5]))
    fed = Fed(session._incoming)
    session._incoming = fed  # type: ignore[assignment]
    answers = wire.open(host.feed(session, sealed, step=step))
    assert answers == b"STORED\r\n" + VERSION * 30 + b"STORED\r\n"
    position = 0
    for piece in fed.pieces:
        records = sum(position < end <= position + piece for end in ends)
        assert records <= FEED_RECORDS + 30
        position += piece
    assert position == len(sealed)
    assert (session._to_come, session._header) == (0, b"")


class Fed:
    """OpenSSL's buffer, which notes what it is given."""

    def __init__(self, buffer: Any) -> None:
        self._buffer = buffer
        self.pieces: list[int] = []

    @property
    def pending(self) -> int:
        return int(self._buffer.pending)

    def write(self, data: bytes) -> int:
        self.pieces.append(len(data))
        return int(self._buffer.write(data))
