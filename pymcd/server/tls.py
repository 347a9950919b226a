"""TLS: its handshakes, its sessions in the hub, and what it counts.

A `TlsSession` stands between the hub and a `Connection`, without a socket: sealed bytes in, sealed
bytes out, over `ssl.MemoryBIO`. The hub calls its `respond` where it would call the connection's,
and seals what it sends in other ways. What it has in common with the TLS of a link to a peer
(`wire`) and of a call (`calling`) is `TlsEnd`; what those two have in common is `TlsPipe`. Where
there is no hub, `open_stream` puts trio's `SSLStream` below the stream driver. That would serve
everybody, but at five times the cost. CPU per request, 16 clients over TLS 1.3 with one request at
a time each, 1 KB values, 90 % gets, on an otherwise quiet machine with two CPUs:

    memcached -t 1                       6.5 us     153,000 requests a second
    this, bench/ "tls16"                11.2 us      89,000
    `SSLStream`, a task per client        54 us      17,000
    `SSLSocket.recv` and `send`         as `MemoryBIO`, with one more system call for each record

Opening a request and sealing its reply take 2 us of that, nearly all of it in OpenSSL.

Handshakes. One costs as much as fifty requests, and whoever knocks may ask for one. So a turn of
the hub makes `HANDSHAKE_STEPS_PER_TURN` at most, the rest in the turns that follow; a client that
has not finished after `limits.TLS_HANDSHAKE_TIMEOUT_S` is closed; and it counts as a connection
from the start, so that `-c` bounds how many there are. Renegotiation is refused.

Buffers. OpenSSL's memory buffers grow to what was ever written to them and never shrink. So bytes
pass through in slices: `ssl_wbuf_size` outwards, as in memcached, and a record's size inwards,
with a bounded number of records, since those that only change keys cost much and carry nothing. A
client costs 16 KB at first, and up to 63 KB once it has sent or fetched large values (memcached,
which can ask OpenSSL to let go of idle buffers: 15 and 16 KB).

`ssl_kernel_tls` has no effect: the kernel can take over only a socket that OpenSSL itself writes
to. `ssl_wbuf_size` is bounded from below and above, where memcached takes anything.
"""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from math import inf
from typing import TYPE_CHECKING, Final

import trio

from .. import limits
from ..protocol.connection import no_wake
from .certificates import error_string, reason_of
from .maintenance import Chore

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from ..clock import Clock
    from ..config import Settings, Tls
    from ..protocol import Connection
    from .certificates import Certificates

#: Handshake steps in one turn of the hub.
HANDSHAKE_STEPS_PER_TURN: Final = 4
#: The most that a TLS record carries.
RECORD_MAX_BYTES: Final = 16 << 10
#: Fed to OpenSSL at once: its buffers keep the size of the largest piece they were ever given.
FEED_BYTES: Final = 16 << 10
#: And the most records: 600 that only change keys fit into as much, and take 20 ms.
FEED_RECORDS: Final = 64
#: In so little there are not many more.
_FEW_BYTES: Final = 2 << 10
_HEADER_BYTES: Final = 5
#: How long a client without the hub may take to take in why it is not served.
_ALERT_PATIENCE_S: Final = 1.0
_SEAL_MIN_BYTES: Final = 1 << 10
_SEAL_MAX_BYTES: Final = 1 << 20
_PIPE_SEAL_BYTES: Final = 64 << 10


class Turn:
    """What TLS did in one turn of the hub, which looks at it at the end of the turn."""

    __slots__ = ("active", "handshake_steps", "surplus_read", "surplus_written")

    def __init__(self) -> None:
        self.begin()

    def begin(self) -> None:
        """Forget the last turn."""
        self.active = False
        self.handshake_steps = 0
        #: Bytes of the socket less those of the protocols: `stats` counts the latter.
        self.surplus_read = 0
        self.surplus_written = 0


@dataclass(eq=False)
class TlsServer:
    """What the TLS clients of one server share."""

    certificates: Certificates
    settings: Settings
    clock: Clock
    turn: Turn
    say: Callable[[str], None]  #: is told of what a client did wrong

    def __post_init__(self) -> None:
        self._refreshed_at = self.clock.monotonic()
        wanted_bytes = self.settings.ssl_wbuf_size_bytes
        self.seal_bytes = min(max(wanted_bytes, _SEAL_MIN_BYTES), _SEAL_MAX_BYTES)
        self.reset_counters()
        #: Those who have not finished their handshake, oldest first, and when they must have.
        self.handshaking: dict[Connection, float] = {}
        #: Sees to it that none of them takes too long.
        self.chore = Chore(self.step)

    def session(self, kind: Tls, connection: Connection) -> TlsSession:
        """Return the state of TLS for a new client of the hub."""
        self._begin_handshake(connection)
        return TlsSession(self, self.certificates.context(kind), connection)

    async def open_stream(
        self, kind: Tls, stream: trio.abc.Stream, connection: Connection
    ) -> trio.abc.Stream | None:
        """Return a stream for the stream driver; None: there was no handshake, and it is closed."""
        self._begin_handshake(connection)
        tls = trio.SSLStream(stream, self.certificates.context(kind), server_side=True)
        secured: trio.abc.Stream | None = None
        try:
            with trio.CancelScope() as scope:
                connection.wake = scope.cancel
                await tls.do_handshake()
                self.established(connection, tls)
                secured = tls
        except trio.BrokenResourceError as error:
            cause = error.__cause__
            if isinstance(cause, ssl.SSLError) and not isinstance(cause, ssl.SSLEOFError):
                self.failed(connection, cause)
                await _tell_why(tls, stream)
        finally:
            connection.wake = no_wake
            if secured is None:
                self.gone(connection)
                await trio.aclose_forcefully(stream)
        return secured

    def refresh(self) -> str:
        """Load the certificates again; return what is wrong with them, or nothing.

        May be called in a thread.
        """
        problem = self.certificates.refresh()
        if not problem:
            self._refreshed_at = self.clock.monotonic()
        return problem

    # -- handshakes ----------------------------------------------------------------------------

    def _begin_handshake(self, connection: Connection) -> None:
        """Give a client time to finish its handshake."""
        self.handshaking[connection] = self.clock.monotonic() + limits.TLS_HANDSHAKE_TIMEOUT_S
        self.chore.rouse()

    def gone(self, connection: Connection) -> None:
        """Take note that a client is gone, be it in the middle of its handshake.

        As in memcached, one that was cut off counts nowhere, and one that left in the middle broke
        the protocol.
        """
        in_the_middle = self.handshaking.pop(connection, None) is not None
        message = ""
        if connection.close_reason == "error" and not connection.closing:
            message = "Connection reset by peer"
        elif in_the_middle and not connection.closing:
            message = "error:0A000126:SSL routines::unexpected eof while reading"
            self.proto_errors += 1
            connection.close_reason = "error"
        if message:
            connection.service.recorder.tls_failed(connection, message)
        if in_the_middle:
            self._say_of(connection, "the client is gone")

    def established(
        self, connection: Connection, tls: ssl.SSLObject | trio.SSLStream[trio.abc.Stream]
    ) -> None:
        """Take note of a successful handshake."""
        del self.handshaking[connection]
        # With TLS 1.3 as memcached counts: each ticket, of which a resumed session gets one. Before
        # that each session; memcached leaves out those that a ticket stands for.
        if tls.version() == "TLSv1.3":
            self.new_sessions += 1 if tls.session_reused else tls.context.num_tickets
        elif not tls.session_reused:
            self.new_sessions += 1

    def failed(
        self, connection: Connection, error: ssl.SSLError, *, welcomed: bool = False
    ) -> None:
        """Take note of what a client did wrong; `welcomed`: its first words were right."""
        # memcached: ssl_accept, ssl_read. There the first words are read when the client comes.
        self.handshaking.pop(connection, None)
        if welcomed:
            self.proto_errors += 1
        else:
            self.handshake_errors += 1
        connection.service.recorder.tls_failed(connection, error_string(error))
        self._say_of(connection, reason_of(error))

    def _say_of(self, connection: Connection, reason: str) -> None:
        self.say(f"SSL connection failed: {connection.address}: {reason}")

    def step(self) -> float:
        """Close whose handshake takes too long; return when to look again."""
        now = self.clock.monotonic()
        for connection, due in list(self.handshaking.items()):
            if due > now:
                return due - now
            del self.handshaking[connection]
            self.handshake_errors += 1
            self._say_of(connection, "the handshake takes too long")
            connection.close("error")
            connection.wake()
        return inf

    # -- statistics ----------------------------------------------------------------------------

    def rows(self) -> list[tuple[str, int]]:
        """Return what TLS adds to `stats`."""
        # memcached: server_stats
        rows = [
            ("ssl_handshake_errors", self.handshake_errors),
            ("ssl_proto_errors", self.proto_errors),
            ("time_since_server_cert_refresh", int(self.clock.monotonic() - self._refreshed_at)),
        ]
        if self.settings.ssl_session_cache:
            rows.insert(0, ("ssl_new_sessions", self.new_sessions))
        return rows

    def reset_counters(self) -> None:
        """Begin to count anew."""
        self.handshake_errors = self.proto_errors = self.new_sessions = 0


async def _tell_why(tls: trio.SSLStream[trio.abc.Stream], stream: trio.abc.Stream) -> None:
    """Send the alert about a handshake that failed, which trio keeps to itself."""
    alert = tls._outgoing.read()
    with trio.move_on_after(_ALERT_PATIENCE_S):
        try:
            await stream.send_all(alert)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass  # it is gone already


class TlsEnd:
    """One end of a connection with TLS, without its socket."""

    def __init__(
        self,
        context: ssl.SSLContext,
        *,
        server_side: bool,
        seal_bytes: int,
        server_hostname: str | None = None,
    ) -> None:
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self._tls = context.wrap_bio(
            self._incoming, self._outgoing, server_side, server_hostname=server_hostname
        )
        self.seal_bytes = seal_bytes
        self._unfed = b""  #: received, and OpenSSL has not seen it yet
        self._to_come = 0  #: bytes of the record of which OpenSSL has seen the beginning
        self._header = b""  #: what it has seen of a header
        self.established = False
        self.failed = False
        self.ended = False  #: the other end said that it will send no more

    def _open(self, feeds: int) -> bytes:
        """Return what can be opened of what has been received, fed in so many pieces at most."""
        pieces: list[bytes] = []
        incoming = self._incoming
        while not (self.ended or self.failed):
            if not incoming.pending:
                if not self._unfed or not feeds:
                    break
                feeds -= 1
                piece = self._follow(self._unfed[:FEED_BYTES])
                incoming.write(self._unfed[:piece])
                self._unfed = self._unfed[piece:]
            try:
                if self.established:
                    plain = self._tls.read(RECORD_MAX_BYTES)
                    pieces.append(plain)
                    self.ended = not plain
                elif not self._shake_hands():
                    break
            except ssl.SSLWantReadError:
                continue
            except ssl.SSLError as error:
                self._fail(error)
        return b"".join(pieces)

    def _follow(self, data: bytes) -> int:
        """Return how much of this to feed: not too many records. Their lengths are not sealed."""
        header, end = self._header, self._to_come
        records = 0
        while end < len(data) and records < FEED_RECORDS:
            missing = _HEADER_BYTES - len(header)
            header += data[end : end + missing]
            end += missing
            if len(header) < _HEADER_BYTES:
                break
            end += int.from_bytes(header[3:])
            header = b""
            records += 1
        piece = min(end, len(data))
        self._header = header
        self._to_come = 0 if header else end - piece
        return piece

    def _shake_hands(self) -> bool:
        """Take the next step of the handshake; False: not now."""
        self._tls.do_handshake()
        self.established = True
        return True

    def _fail(self, error: ssl.SSLError) -> None:
        raise error

    def _seal(self, data: bytes | memoryview) -> bytes:
        """Return what to send for `data`, behind whatever OpenSSL itself has to say."""
        parts = []
        for start in range(0, len(data), self.seal_bytes):
            self._tls.write(data[start : start + self.seal_bytes])
            parts.append(self._outgoing.read())
        return b"".join(parts)


class TlsPipe(TlsEnd):
    """TLS with another server. What is said before the handshake is done is sent then."""

    def __init__(
        self, context: ssl.SSLContext, *, server_side: bool, server_hostname: str | None = None
    ) -> None:
        super().__init__(
            context,
            server_side=server_side,
            seal_bytes=_PIPE_SEAL_BYTES,
            server_hostname=server_hostname,
        )
        self._early = b""  #: what was said before the handshake was done
        if not server_side:
            try:
                self._shake_hands()
            except ssl.SSLWantReadError:
                pass

    def open(self, data: bytes) -> bytes:
        """Return what can be read of all that has come; raise `ssl.SSLError`."""
        self._unfed = data
        return self._open(len(data))

    def seal(self, pieces: Iterable[bytes | memoryview]) -> bytes:
        """Return what to send for these pieces, and for what OpenSSL has to say itself."""
        sealed = self._outgoing.read()
        self._early += b"".join(pieces)
        if self.established:
            sealed += self._seal(self._early)
            self._early = b""
        return sealed


class TlsSession(TlsEnd):
    """One client's TLS."""

    def __init__(self, server: TlsServer, context: ssl.SSLContext, connection: Connection) -> None:
        super().__init__(context, server_side=True, seal_bytes=server.seal_bytes)
        self._server = server
        self._turn = server.turn
        self._connection = connection
        self._read = self._tls.read
        self._write = self._tls.write
        self._welcomed = False  #: what the client said first was answered

    def respond(self, data: bytes) -> bytes | None:
        """Do what `Connection.respond` does, with sealed bytes."""
        # Hot path: bench/ "tls16".
        turn = self._turn
        turn.active = True
        turn.surplus_read += len(data)
        if len(data) > _FEW_BYTES or self._unfed or not self.established:
            self._unfed += data
            return self._answer(self._open_some())
        incoming = self._incoming
        incoming.write(data)
        try:
            plain = self._read(RECORD_MAX_BYTES)
        except ssl.SSLWantReadError:
            self._follow_all(data)
            return self.drain()
        except ssl.SSLError as error:
            self._fail(error)
            return None
        if incoming.pending or not plain:
            self._follow_all(data)
            self.ended = not plain
            return self._answer(plain + self._open_some())
        self._to_come = 0
        self._header = b""
        turn.surplus_read -= len(plain)
        reply = self._connection.respond(plain)
        if not reply:
            return reply
        if len(reply) > self.seal_bytes:
            return self.seal(reply)
        self._write(reply)
        sealed = self._outgoing.read()
        turn.surplus_written += len(sealed) - len(reply)
        return sealed

    def _follow_all(self, data: bytes) -> None:
        """Take note of records that OpenSSL was given, although they may have been many."""
        while data:
            data = data[self._follow(data) :]

    def _open_some(self) -> bytes:
        """Open a part of what has been received, and come again in another turn for more.

        64 KB may be thousands of records.
        """
        plain = self._open(1)
        if self._unfed and not (self.ended or self.failed):
            self._connection.wake()
        return plain

    def advance(self) -> None:
        """Go on with that, or with a handshake for which there was no time.

        What comes of it is in the connection's buffer.
        """
        if self._unfed or (not self.established and self._incoming.pending):
            self._turn.active = True
            plain = self._open_some()
            if plain:
                self._turn.surplus_read -= len(plain)
                self._connection.receive_data(plain)

    def seal(self, data: bytes | memoryview) -> bytes:
        """Return what to send for `data`, behind whatever OpenSSL itself has to say."""
        if self.failed:
            return b""
        sealed = self._seal(data)
        self._turn.surplus_written += len(sealed) - len(data)
        return sealed

    def drain(self) -> bytes:
        """Return what OpenSSL has to say of its own."""
        self._turn.active = True
        sealed = self._outgoing.read()
        self._turn.surplus_written += len(sealed)
        return sealed

    def farewell(self) -> bytes:
        """Return the last bytes for a client whose socket will now be closed."""
        self._server.gone(self._connection)
        if self.established and not self.failed:
            try:
                self._tls.unwrap()
            except ssl.SSLError:
                pass  # the client's own farewell is not awaited
        return self._outgoing.read()

    def _answer(self, plain: bytes) -> bytes | None:
        """Execute what has been opened, and return as `respond` does."""
        reply: bytes | None = b""
        if plain:
            self._turn.surplus_read -= len(plain)
            reply = self._connection.respond(plain)
        if self.failed or self.ended or reply is None:
            if reply:
                self._connection.pieces.append(reply)
            return None
        sealed = self.seal(reply) if reply else self.drain()
        self._welcomed = self._welcomed or bool(sealed)
        return sealed

    def _shake_hands(self) -> bool:
        """Take one of the handshake steps of this turn, or come again in the next."""
        if self._turn.handshake_steps >= HANDSHAKE_STEPS_PER_TURN:
            self._connection.wake()
            return False
        self._turn.active = True
        self._turn.handshake_steps += 1
        super()._shake_hands()
        self._server.established(self._connection, self._tls)
        return True

    def _fail(self, error: ssl.SSLError) -> None:
        """Give up a client that does not speak TLS, or not ours."""
        self.failed = True
        self._server.failed(self._connection, error, welcomed=self._welcomed)
        self._connection.close("error")
