"""What is known of another node, across the links to it; and the channel that spans links.

A channel delivers messages to the other side once and in order. Each has a number; they are kept
until the other side has acknowledged, which it does when it has them: they are applied before any
client of its is answered. When a link breaks and the next comes up in time, the channel goes on:
each side says what it has received, and the rest is sent again. So "acknowledged" on the channel
is "held by both".

A channel is made when a node joins another, and given up by whoever decides to act alone. Its
epoch is its name: a message of another epoch is stale and means nothing.
"""

from __future__ import annotations

from collections import deque
from math import inf
from typing import TYPE_CHECKING, Any, Final

from .frames import (
    HEAD_BYTES,
    PART_BYTES,
    PARTS_MAX_BYTES,
    FrameError,
    Kind,
    encode_message,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ..store import Item
    from .link import Link

_NOT_YET: Final = -inf


class Unacked:
    """A message that the other side has not acknowledged."""

    __slots__ = ("frame", "has_flush", "keys", "number", "results", "sent_at", "sequence", "size",
                 "ticket", "version")  # fmt: skip

    def __init__(
        self,
        number: int,
        frame: list[bytes],
        sent_at: float,
        keys: dict[bytes, Item | None] | None,
        has_flush: bool,
        results: list[tuple[int, bytes]] | None,
        ticket: int,
        sequence: int,
        version: int,
    ) -> None:
        self.number = number
        self.frame = frame
        self.size = len(frame[0]) + len(frame[1])
        self.sent_at = sent_at
        self.keys = keys  #: changed by it; None: it is part of a resync
        self.has_flush = has_flush
        self.results = results  #: of forwarded requests: number and reply
        self.ticket = ticket  #: of the batch; 0: nobody waits for it
        self.sequence = sequence  #: the log up to there is known once this is; 0: says nothing
        self.version = version  #: the last one given out before it was sent


class Channel:
    """Messages to and from one peer, each delivered once, in order."""

    def __init__(self, epoch: int) -> None:
        self.epoch = epoch
        self.sent = 0
        self.received = 0
        self.unacked: deque[Unacked] = deque()
        self.unacked_bytes = 0
        self._parts: list[bytes] = []

    def take(self, message: Unacked) -> None:
        """Keep a message until it is acknowledged."""
        self.unacked.append(message)
        self.unacked_bytes += message.size

    def acknowledge(self, number: int) -> Unacked | None:
        """Forget messages up to a number; return the last of them, if any were."""
        unacked = self.unacked
        last = None
        while unacked and unacked[0].number <= number:
            last = unacked.popleft()
            self.unacked_bytes -= last.size
        return last

    def assemble(self, body: bytes) -> bytes:
        """Return a message that came in parts, once it is whole; until then its last part."""
        if body[0] == Kind.PART:
            self._parts.append(body[HEAD_BYTES:])
            if len(self._parts) > PARTS_MAX_BYTES // PART_BYTES:
                raise FrameError("a message without end")
        elif self._parts:
            body = b"".join((body[:HEAD_BYTES], *self._parts, body[HEAD_BYTES:]))
            self._parts.clear()
        return body


class Peer:
    """Another node."""

    def __init__(self, node_id: str) -> None:
        self.node_id = node_id
        self.address = "-"
        self.link: Link | None = None
        self.link_lost_at = _NOT_YET
        #: Changes when the node starts again without its data.
        self.incarnation = ""
        self.status: dict[str, Any] = {}  #: what it said last of itself
        self.channel: Channel | None = None
        #: The channel that we gave up last, and how much of it we had received.
        self.left: dict[str, int] = {"epoch": 0, "received": 0}
        self.in_view = False
        self.joined_at = _NOT_YET  #: the view
        #: The link carries the channel: what was lost with the one before is sent again.
        self.flowing = False
        self.joining = False  #: we asked to join it, and it has not answered

        # Leases. Times are on our monotonic clock, except `their_time`.
        self.heard_at = _NOT_YET  #: when anything came last
        self.echoed = _NOT_YET  #: when we sent the last thing that the other side has seen
        self.their_time = 0.0
        #: Since when we say no more that we hear it, so that its lease ends; 0: we do.
        self.muted_at = 0.0
        self.last_sent_at = _NOT_YET
        self.answer_due = False
        self.pinged_at = _NOT_YET

        # What it has of ours.
        self.acked_sequence = -1  #: of our log; -1: nothing is known, it needs a full copy
        self.acked_ticket = 0
        self.acked_version = 0  #: it has what is not newer, while it is in the view
        self.departed_version = 0  #: what is newer it may not have, since it left
        self.known = False  #: it has been in sync with us since we started

        # A resync, under way.
        self.todo: Iterator[bytes] | None = None  #: keys still to be sent
        self.todo_sequence = 0
        self.behind: dict[bytes, None] = {}  #: changed meanwhile, not sent yet
        self.mode = "idle"
        self.sent_all = False  #: it was told that it has everything
        self.got_all = False  #: it told us so
        self.hosted = False  #: it joins us; not we it
        self.accepted = False  #: its proposal, while the channel lasts
        self.asked_at = _NOT_YET  #: when we asked to join it last
        self.proposed = False
        self.replace_up_to = 0  #: what it does not confirm, up to that version, is to be dropped
        self.confirmed: set[bytes] | None = None

        # Forwarded requests that we executed for it, until it knows the result.
        self.results: list[tuple[int, bytes]] = []
        self.executed: dict[int, bytes] = {}
        self.executing: set[int] = set()

        self.clock_skew_s = 0.0
        self.skew_s = 0  #: the same in whole seconds, as times of expiry are corrected
        self.connects = 0
        self.moved_at = _NOT_YET  #: when it last acknowledged anything, or its link came up
        self.not_before = 0.0  #: when it may be taken into a view again
        self.lapses = 0  #: times that it was lost of late
        self.last_error = "-"

    @property
    def linked(self) -> bool:
        """Whether messages reach it, as far as we know."""
        return self.link is not None

    def open_channel(self, epoch: int) -> None:
        """Begin anew."""
        self.channel = Channel(epoch)
        self.muted_at = 0.0
        self.acked_ticket = 0
        self.todo = None
        self.behind.clear()
        self.sent_all = self.got_all = self.proposed = self.hosted = False
        self.accepted = False
        self.results.clear()
        self.confirmed = None

    def leave_channel(self) -> list[Unacked]:
        """Give up the channel; return what was not acknowledged."""
        channel, self.channel = self.channel, None
        self.in_view = False
        self.todo = None
        self.mode = "idle"
        self.behind.clear()
        self.confirmed = None
        self.sent_all = self.got_all = self.proposed = self.hosted = False
        self.accepted = False
        if channel is None:
            return []
        self.left = {"epoch": channel.epoch, "received": channel.received}
        for message in channel.unacked:
            self.executed.update(message.results or ())
        self.executed.update(self.results)
        self.results.clear()
        return list(channel.unacked)

    def send(
        self,
        now: float,
        kind: Kind,
        payload: bytes = b"",
        *,
        keys: dict[bytes, Item | None] | None = None,
        has_flush: bool = False,
        results: list[tuple[int, bytes]] | None = None,
        ticket: int = 0,
        sequence: int = 0,
        version: int = 0,
    ) -> None:
        """Send a message on the channel; while there is no link it waits for the next."""
        # Hot path: bench/ "pair16".
        while len(payload) > PART_BYTES and kind not in (Kind.PART, Kind.WELCOME):
            self.send(now, Kind.PART, payload[:PART_BYTES])
            payload = payload[PART_BYTES:]
        channel = self.channel
        assert channel is not None
        channel.sent = number = channel.sent + 1
        frame = encode_message(
            kind, now, self.their_time, channel.epoch, number, channel.received, payload
        )
        channel.take(
            Unacked(number, frame, now, keys, has_flush, results, ticket, sequence, version)
        )
        if self.flowing:
            assert self.link is not None
            self.link.output += frame
            self.last_sent_at = now
            self.answer_due = False

    def signal(self, now: float, kind: Kind, payload: bytes = b"") -> None:
        """Send a message outside the channel; it is lost with the link."""
        if self.link is None:
            return
        channel = self.channel
        epoch, received = (0, 0) if channel is None else (channel.epoch, channel.received)
        self.link.output += encode_message(kind, now, self.their_time, epoch, 0, received, payload)
        self.last_sent_at = now
        self.answer_due = False

    def acknowledge(self, now: float) -> None:
        """Say at once what was received: on the other side, clients wait for that."""
        # Hot path: bench/ "pair16".
        if self.link is not None:
            self.signal(now, Kind.ACK)
            self.link.push()

    def resend(self, now: float, received: int) -> None:
        """Go on with the channel over a new link."""
        channel = self.channel
        assert channel is not None
        assert self.link is not None
        for message in channel.unacked:
            if message.number > received:
                self.link.output += message.frame
        self.last_sent_at = now
