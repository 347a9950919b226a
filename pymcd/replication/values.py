"""Large values of one channel: they travel by themselves, in pieces, ahead of who speaks of them.

Nothing ever takes all bytes of a large value in its hands: what does so takes longer than others
can wait. Its sender cuts it in views, of which a few are on their way at a time. Here they gather
in a buffer that becomes the value; the record that speaks of it has its number. So each step, on
either side, is one of a piece.

A value that is about to be stored is *staged*: it goes to the others before the command is
executed, and whatever is said meanwhile overtakes it. So nobody waits for somebody else's value.

Who forwards a value to be stored gets back what became of it: that this is what is stored now. So
it keeps the value until its request is answered, and the other one does not send it again.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from io import BytesIO
from typing import TYPE_CHECKING, Final

from .frames import HEAD_BYTES, PART_BYTES, PARTS_MAX_BYTES, FrameError
from .records import decode_number

if TYPE_CHECKING:
    from collections.abc import Iterator

_PIECE_AT: Final = HEAD_BYTES + 8
#: Added to the number of a value that who hears it has sent itself.
YOURS: Final = 1 << 63


def pieces_of(value: bytes) -> Iterator[memoryview]:
    """Yield a value in pieces."""
    view = memoryview(value)
    for start in range(0, len(view), PART_BYTES):
        yield view[start : start + PART_BYTES]


@dataclass(slots=True)
class Staged:
    """A value of ours that goes ahead."""

    number: int
    value: bytes
    last: int = 0  #: the message with its last piece; 0: that has not gone yet


class Values:
    """What is on its way in one channel, and what may be spoken of again."""

    def __init__(self) -> None:
        self._sent = 0  #: number of the last one that we sent
        self._arriving: dict[int, BytesIO] = {}
        self._arrived_bytes = 0
        #: What we forwarded, by number; and the numbers by request.
        self._kept: dict[int, bytes] = {}
        self._requests: dict[int, list[int]] = {}
        #: By id. And the pieces that have not gone yet, each with whether it is the last one.
        self._staged: dict[int, Staged] = {}
        self.ahead: deque[tuple[Staged, memoryview, bool]] = deque()
        #: What was forwarded to us and is not stored yet, by id: its number, and the value itself.
        self.lent: dict[int, tuple[int, bytes]] = {}

    # -- of ours -------------------------------------------------------------------------------

    def next_number(self) -> int:
        """Return the number of the next value that we send."""
        self._sent += 1
        return self._sent

    def keep(self, request: int, number: int, value: bytes) -> None:
        """Keep what was sent for a request, until that is answered."""
        self._kept[number] = value
        self._requests.setdefault(request, []).append(number)

    def answered(self, request: int) -> None:
        """Keep no more what was sent for a request."""
        for number in self._requests.pop(request, ()):
            del self._kept[number]

    def stage(self, value: bytes) -> None:
        """Have a value go ahead."""
        staged = self._staged[id(value)] = Staged(self.next_number(), value)
        pieces = list(pieces_of(value))
        self.ahead += [(staged, piece, False) for piece in pieces[:-1]]
        self.ahead.append((staged, pieces[-1], True))

    def is_staged(self, value: bytes) -> bool:
        """Return whether a value goes ahead, or has gone."""
        return id(value) in self._staged

    def has_arrived(self, value: bytes, received: int) -> bool:
        """Return whether the other side, which has received so many messages, has the value."""
        staged = self._staged.get(id(value))
        return staged is not None and 0 < staged.last <= received

    def speak_of(self, value: bytes) -> int:
        """Return the number of a value that has gone ahead, for who speaks of it; 0: it has not."""
        staged = self._staged.get(id(value))
        if staged is None or not staged.last:
            return 0
        del self._staged[id(value)]
        return staged.number

    def unstage(self, value: bytes) -> int:
        """Forget a value of which nobody spoke; return its number if some of it has gone, or 0."""
        staged = self._staged.pop(id(value), None)
        if staged is None:
            return 0
        waiting = [each for each in self.ahead if each[0] is staged]
        if waiting:
            self.ahead = deque(each for each in self.ahead if each[0] is not staged)
        gone = sum(len(piece) for _, piece, _ in waiting) < len(value)
        return staged.number if gone else 0

    # -- of the other side ---------------------------------------------------------------------

    def gather(self, body: bytes) -> None:
        """Take a piece, or forget a value if it is empty; raises FrameError."""
        number = decode_number(body, HEAD_BYTES)
        if len(body) == _PIECE_AT:  # nobody will speak of it
            buffer = self._arriving.pop(number, None)
            self._arrived_bytes -= 0 if buffer is None else buffer.tell()
            return
        self._arrived_bytes += len(body) - _PIECE_AT
        if self._arrived_bytes > PARTS_MAX_BYTES:
            raise FrameError("values without end")
        buffer = self._arriving.get(number)
        if buffer is None:
            buffer = self._arriving[number] = BytesIO()
        buffer.write(memoryview(body)[_PIECE_AT:])

    def take(self, number: int, length: int) -> bytes:
        """Return a value of which a record speaks; raises FrameError if it is not there."""
        if number & YOURS:
            value = self._kept.get(number ^ YOURS)
        else:
            buffer = self._arriving.pop(number, None)
            value = None if buffer is None else buffer.getvalue()
            self._arrived_bytes -= len(value or b"")
        if value is None or len(value) != length:
            raise FrameError("a value that never came")
        return value

    def lend(self, number: int, length: int) -> bytes:
        """Like `take`, for what its sender keeps until it is answered."""
        value = self.take(number, length)
        self.lent[id(value)] = number | YOURS, value
        return value

    def number_of(self, value: bytes) -> int:
        """Return under which number the other side knows a value; 0: it does not."""
        return self.lent.get(id(value), (0, b""))[0]

    def settle(self) -> None:
        """Take note that what was forwarded is stored, and that was said, or is not stored."""
        self.lent.clear()

    def check(self) -> None:
        """Raise AssertionError unless all is counted. For tests."""
        arriving = self._arriving.values()
        assert self._arrived_bytes == sum(buffer.tell() for buffer in arriving), (
            "a piece is not counted"
        )
        kept = sorted(number for numbers in self._requests.values() for number in numbers)
        assert kept == sorted(self._kept), "a value is kept for no request"
        assert all(staged is self._staged.get(id(staged.value)) for staged, *_ in self.ahead), (
            "a piece of no value goes ahead"
        )
