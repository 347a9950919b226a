"""A channel delivers messages to the other side once and in order.

Each has a number; they are kept until the other side has acknowledged, which it does when it has
them: they are applied before any client of its is answered. When a link breaks and the next comes
up in time, the channel goes on: each side says what it has received, and the rest is sent again. So
"acknowledged" on the channel is "held by both".

What is large is sent in parts, values by themselves (see `values`). Few of them are on their way
at a time, and what comes behind waits: so the other side has something to acknowledge again and
again, and is not missed meanwhile.

A channel is made when a node joins another, and given up by whoever decides to act alone. Its
epoch is its name: a message of another epoch is stale and means nothing.

Where something could not be sent, for want of memory say, the channel is *broken off* at once:
nothing that comes behind it may arrive, nor be acknowledged. It is given up as soon as that may be.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from math import inf
from typing import TYPE_CHECKING, Final

from .frames import HEAD_BYTES, PARTS_MAX_BYTES, PARTS_WINDOW_BYTES, FrameError, Kind
from .values import Values

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ..store import Item
    from .waiting import Reply


#: The epoch of what is broken off: no message has it.
_NOBODYS: Final = (1 << 64) - 1


@dataclass(slots=True)
class Unacked:
    """A message that the other side has not acknowledged."""

    number: int
    frame: list[bytes | memoryview]  #: empty: see `payload`
    size: int  #: of the frame, in bytes
    sent_at: float
    keys: dict[bytes, Item | None] | None  #: changed by it; None: it is part of a resync
    has_flush: bool
    results: list[tuple[int, Reply]] | None  #: of forwarded requests: number and reply
    ticket: int  #: of the batch; 0: nobody waits for it
    sequence: int  #: the log up to there is known once this is; 0: says nothing
    version: int  #: the last one given out before it was sent
    #: A part, or what comes behind parts, is put in a frame when it goes.
    kind: int = 0
    payload: bytes | memoryview = b""
    lead: bytes = b""  #: before the payload

    def cover(self, before: Unacked) -> None:
        """Stand for a message before it as well: who has this one has both."""
        self.ticket = max(self.ticket, before.ticket)
        self.sequence = max(self.sequence, before.sequence)
        self.version = max(self.version, before.version)
        if before.results:
            self.results = [*before.results, *(self.results or ())]


class Channel:
    """Messages to and from one peer, each delivered once, in order."""

    def __init__(self, epoch: int, *, received: int = 0) -> None:
        self.name = epoch  #: as the other side knows it
        self.epoch = epoch  #: of the messages that belong to it
        self.broken = ""  #: why nothing passes any more; empty: it does
        self.broken_at = inf  #: when the other side was given up for that
        self.untold = False  #: there is something that could not be sent
        #: The link carries it: what was lost with the one before is sent again.
        self.flowing = True
        self.sent = 0
        self.received = received
        self.unacked: deque[Unacked] = deque()
        self.unacked_bytes = 0
        #: When those were sent first that were sent again, by number.
        self._first_sent_at: dict[int, float] = {}
        #: The last of them, if there are parts before them on their way: those go first.
        self.waiting: deque[Unacked] = deque()
        self.waiting_bytes = 0
        self.values = Values()
        self._parts: list[bytes] = []
        self._parts_bytes = 0
        #: When a part arrived last, and when one was acknowledged: what is large is on its way.
        self.part_arrived_at = -inf
        self.part_acked_at = -inf
        self.part_acked = False  #: by the acknowledgement that is being looked at

    def take(self, message: Unacked) -> None:
        """Keep a message until it is acknowledged."""
        self.sent = message.number
        self.unacked.append(message)
        self.unacked_bytes += message.size

    def break_off(self, why: str) -> None:
        """Have nothing pass any more, in either direction."""
        self.flowing = False
        self.epoch = _NOBODYS
        self.broken = self.broken or why

    def acknowledge(self, number: int) -> Unacked | None:
        """Forget messages up to a number; return the last of them, if any were, for all."""
        # Hot path: bench/ "pair16".
        unacked = self.unacked
        last = None
        while unacked and unacked[0].number <= number:
            message = unacked.popleft()
            self.unacked_bytes -= message.size
            if message.kind:
                self.part_acked = True
            if last is not None:
                message.cover(last)
            last = message
        return last

    def wait(self, messages: Iterable[Unacked]) -> None:
        """Have messages wait that others are acknowledged."""
        for message in messages:
            self.waiting.append(message)
            self.waiting_bytes += message.size

    @property
    def has_room(self) -> bool:
        """Whether more parts may be on their way."""
        return self.unacked_bytes - self.waiting_bytes < PARTS_WINDOW_BYTES

    def next_to_go(self) -> Unacked | None:
        """Return a message that need not wait any more; None: there is none."""
        if not self.waiting or not self.has_room:
            return None
        message = self.waiting.popleft()
        self.waiting_bytes -= message.size
        return message

    @property
    def first_sent_at(self) -> float:
        """When the first message that is not acknowledged was sent, be it over other links."""
        first = self.unacked[0]
        return self._first_sent_at.get(first.number, first.sent_at)

    def wait_anew(self, received: int) -> None:
        """Have all messages wait that the other side has not received."""
        before, never = self._first_sent_at, {message.number for message in self.waiting}
        self._first_sent_at = {
            number: before.get(number, sent_at)
            for number, sent_at in ((each.number, each.sent_at) for each in self.unacked)
            if number in before or number not in never
        }
        self.waiting.clear()
        self.waiting_bytes = 0
        self.wait(message for message in self.unacked if message.number > received)

    def assemble(self, body: bytes) -> bytes:
        """Return a message that came in parts, once it is whole; until then its last part."""
        if body[0] == Kind.PART:
            self._parts.append(body[HEAD_BYTES:])
            self._parts_bytes += len(body) - HEAD_BYTES
            if self._parts_bytes > PARTS_MAX_BYTES:
                raise FrameError("a message without end")
        elif self._parts and body[0] != Kind.VALUE:
            body = b"".join((body[:HEAD_BYTES], *self._parts, body[HEAD_BYTES:]))
            self._parts.clear()
            self._parts_bytes = 0
        return body

    def check(self) -> None:
        """Raise AssertionError unless all that is not acknowledged is there. For tests."""
        unacked = self.unacked
        if unacked:
            first = unacked[0]
            assert unacked[-1].number == self.sent, "the last message is not kept"
            assert first.number == self.sent - len(unacked) + 1, "a message is missing"
            assert self.unacked_bytes >= first.size, "a message is not counted"
        else:
            assert not self.unacked_bytes, "a message is counted that is not there"
        assert self._parts_bytes == sum(map(len, self._parts)), "a part is not counted"
        assert not (self.broken and self.flowing), "a channel flows that is broken off"
        self.values.check()
