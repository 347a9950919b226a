"""What `search` tries: servers as their driver has them, each call of which is timed.

A subject is told one input after the other. It keeps what inputs before have left, as a server
does, until it is made anew. Limits are those of a usual server, so that what is long may be long.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, Protocol, TypeVar

from pymcd import limits
from pymcd.auth import Authenticator, decode_sasl_users, encode_hashed
from pymcd.clock import OffsetClock
from pymcd.config import Settings
from pymcd.protocol import Connection
from pymcd.readiness import readiness_of
from pymcd.replication import frames
from pymcd.replication.frames import FrameError
from pymcd.service import Service

from ..clocks import ManualClock
from ..hosts import lend, make_host
from ..replication.helpers import Guest, make_group
from .targets import check_binary, check_text

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

R = TypeVar("R")

MEBIBYTE: Final = 1 << 20
#: A client that is told more than so many chunks has seen enough, and leaves.
CHUNKS_MAX: Final = 300
#: Longer replies take longer to check than to make.
CHECKED_MAX_BYTES: Final = 20_000
#: No connection needs so many steps for an input.
STEPS_MAX: Final = 300_000


class Watch:
    """Times calls; with the clock of a thread, by the CPU that they take."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self.longest_s = 0.0
        self.calls = 0

    def __call__(self, act: Callable[..., R], *words: Any) -> R:
        self.calls += 1
        began_s = self._clock()
        try:
            return act(*words)
        finally:
            taken_s = self._clock() - began_s
            self.longest_s = max(self.longest_s, taken_s)


class Subject(Protocol):
    """What is tried."""

    def renew(self) -> None:
        """Begin with one in which nothing is."""

    def hear(self, pieces: Sequence[bytes], watch: Watch) -> bytes:
        """Take an input, piece by piece, with all calls by `watch`; return what is told."""


class Clients:
    """Clients of a server, one an input."""

    #: How often an input's replies are checked, and how often all there is.
    CHECK_EVERY: Final = 8
    CHECK_ALL_EVERY: Final = 500

    def __init__(self, protocol: str, **settings: Any) -> None:
        self._protocol = protocol
        self._settings = {"memory_limit_bytes": 16 * MEBIBYTE, **settings}
        self._number = 0
        self._make()

    def _make(self) -> None:
        self._clock = ManualClock()
        settings = Settings(protocol=self._protocol, **self._settings)  # type: ignore[arg-type]
        clock = OffsetClock(self._clock) if settings.debug_commands else self._clock
        self.service = Service(settings, clock, make_host())

    def renew(self) -> None:
        """Begin with a server in which nothing is."""
        self.service.cache.check()
        self._make()

    def hear(self, pieces: Sequence[bytes], watch: Watch) -> bytes:
        """Have a client say that, piece by piece; return the beginning of what it is told."""
        self._number += 1
        connection = self._connect()
        told: list[bytes] = []
        size = 0
        try:
            for piece in pieces:
                if connection.closing:
                    break
                self.service.tick()
                reply = watch(connection.responder, piece)
                if reply is None:
                    reply = self._drain(connection, watch)
                    if reply is None:
                        return b""
                if size < CHECKED_MAX_BYTES:
                    told.append(reply)
                size += len(reply)
            kept = len(connection.buffer) - connection.position
            assert kept <= limits.GET_LINE_MAX_BYTES + limits.RECEIVE_BYTES
        finally:
            self.service.disconnected(connection)
        answer = b"".join(told)
        if self._number % self.CHECK_EVERY == 0 and size < CHECKED_MAX_BYTES:
            self._check(answer, pieces)
        if self._number % self.CHECK_ALL_EVERY == 0:
            self.service.cache.check()
            self._clock.advance(self._number % 7)
            for _ in range(3):
                self.service.maintainer.step()
        return answer

    def _connect(self) -> Connection:
        connection = Connection(
            self.service,
            connection_id=30,
            address="tcp:127.0.0.1:40000",
            listen_address="tcp:127.0.0.1:11211",
        )
        self.service.connected(connection)
        return connection

    def _drain(self, connection: Connection, watch: Watch) -> bytes | None:
        """Take all replies as a driver does; None: that is more than anybody takes."""
        told: list[bytes] = []
        chunks = 0
        for _ in range(STEPS_MAX):
            chunk = watch(connection.next_chunk)
            if chunk is not None:
                chunks += 1
                if chunks > CHUNKS_MAX:
                    return None
                if chunks < 3:
                    told.append(bytes(chunk))
            elif not watch(connection.run) and not connection.pieces and connection.source is None:
                return b"".join(told)
        raise AssertionError("there seems to be no end")

    def _check(self, answer: bytes, pieces: Sequence[bytes]) -> None:
        binary = self._protocol == "binary"
        if self._protocol == "auto":
            binary = bytes(pieces[0][:1]) == b"\x80"
        (check_binary if binary else check_text)(answer)


class Strangers(Clients):
    """Clients that have to log in first."""

    def _make(self) -> None:
        super()._make()
        hashed = encode_hashed(b"sesame", b"salt", 1)
        users = decode_sasl_users(b"ann:open\nbob:%b\n" % hashed)
        authenticator = Authenticator(lambda: users, make_nonce=lambda: "nonce", secret=b"secret")
        lend(self.service, authenticator=authenticator)


class Bucket:
    """Clients of Couchbase, one an input."""

    def __init__(self) -> None:
        # Of an extra, and only here.
        from pymcd.couchbase.conversation import Conversation
        from pymcd.couchbase.documents import Site, View

        here, there = Site("a", 11211, 8091), Site("b", 11221, 8092)
        view = View(here, (there,), there, (here, there))
        self._begin = lambda: Conversation(lambda: view)

    def renew(self) -> None:
        """There is nothing that stays."""

    def hear(self, pieces: Sequence[bytes], watch: Watch) -> bytes:
        conversation = self._begin()
        told = [watch(conversation.receive, piece[: 16 << 10]) for piece in pieces]
        if conversation.streaming is not None:
            told.append(watch(conversation.publish))
        return b"".join(told)[:CHECKED_MAX_BYTES]


class Askers:
    """Who asks by HTTP how a server does, one an input."""

    def __init__(self) -> None:
        # Of an extra, and only here.
        from pymcd.web.asking import PageConversation
        from pymcd.web.pages import Pages

        group = make_group()
        node, service = group["a"].node, group["a"].service
        pages = Pages(service, lambda: readiness_of(node, draining=False))
        self._begin = lambda: PageConversation(pages)

    def renew(self) -> None:
        """There is nothing that stays."""

    def hear(self, pieces: Sequence[bytes], watch: Watch) -> bytes:
        conversation = self._begin()
        told = []
        for piece in pieces:
            told.append(watch(conversation.receive, piece[: 16 << 10]))
            while conversation.asked or conversation.more:
                told.append(watch(conversation.go_on))
        return b"".join(told)[:CHECKED_MAX_BYTES]


class Callers:
    """Who calls at the port of the peers, and does not know the secret: one an input."""

    def __init__(self) -> None:
        self.renew()

    def renew(self) -> None:
        self._host = make_group()["a"]

    def hear(self, pieces: Sequence[bytes], watch: Watch) -> bytes:
        """Say pieces as they are; those that begin with 0xff, in a frame."""
        membership = self._host.node.membership
        link = membership.open_link(dialled=None, address="192.0.2.1:7")
        link.take_output()
        for piece in pieces:
            framed = frames.encode_frame(piece[1:] or b"x") if piece[:1] == b"\xff" else piece
            watch(link.receive, framed)
        assert not link.proven
        told = b"".join(link.take_output())
        if not link.closed:
            link.disconnected()
        self._host.node.check()
        return told


class Peers:
    """A peer that says something wrong: pieces are bodies of messages."""

    def __init__(self) -> None:
        self.renew()
        self.bodies = self._record()

    def renew(self) -> None:
        self._group = make_group()

    def _record(self) -> list[bytes]:
        """Return what peers say to each other when all is well."""
        group = make_group()
        for name in "ab":
            guest = Guest(group[name])
            guest.ask(b"set k 1 100 3\r\nabc\r\nget k\r\nincr n 1\r\nflush_all\r\n")
            guest.ask(b"ms m 2 T30 I\r\nhi\r\ndelete k\r\nappend m 0 0 1\r\nx\r\n")
            group.advance(1.0)
        bodies = []
        for sent in group.wire("a", "b").sent:
            data, position = b"".join(sent), 0
            while (frame := frames.split_frame(data, position, MEBIBYTE)) is not None:
                body, position = frame
                bodies.append(body)
        return [body for body in bodies if len(body) >= frames.HEAD_BYTES]

    def hear(self, pieces: Sequence[bytes], watch: Watch) -> bytes:
        link = self._group.wire("a", "b").links[1]
        for piece in pieces:
            if len(piece) >= frames.HEAD_BYTES:
                watch(link.receive, frames.encode_frame(piece))
        told = b"".join(link.take_output())
        if link.closed or told:
            self.renew()
        return told


class Decoders:
    """What takes messages of peers apart."""

    def renew(self) -> None:
        """There is nothing that stays."""

    def hear(self, pieces: Sequence[bytes], watch: Watch) -> bytes:
        from pymcd.replication import records

        told = b""
        for piece in pieces:
            for decode in (records.decode_records, records.decode_forwards):
                try:
                    told += b"%d." % watch(
                        lambda decode=decode, piece=piece: len(list(decode(piece, 0)))
                    )
                except FrameError as error:
                    told += str(error).encode()
            try:
                watch(frames.decode_json, piece)
            except FrameError as error:
                told += str(error).encode()
        return told


SUBJECTS: Final[dict[str, Callable[[], Subject]]] = {
    "text": lambda: Clients("auto", debug_commands=True),
    "text-small": lambda: Clients(
        "ascii", reqs_per_event=1, item_size_max_bytes=1024, slab_chunk_max_bytes=512
    ),
    "binary": lambda: Clients("auto", detail_enabled=True),
    "login": lambda: Strangers("ascii", auth_file="users"),
    "sasl": lambda: Strangers("binary", enable_sasl=True),
    "bucket": Bucket,
    "http": Askers,
    "callers": Callers,
    "peers": Peers,
    "decoders": Decoders,
}
