"""Where a value, or a long line, gathers that arrives in pieces.

Not in the heap as these pieces: whoever leaves them behind by the thousand leaves holes in it when
he is gone, between what others have stored meanwhile, and the system gets nothing of that back (of
a gigabyte of such values, 700 MB stayed). So they are copied to segments outside of it, which cost
nothing before they are written to, and which the system has back at once; but for a few, which are
there for the next value and make that as fast as can be. In the end there is one copy more, to
where the value shall stay.

Of a large value that copy would take too long at once. It gathers in a buffer that grows and then
becomes the value, without a copy; what is so large is mostly no part of the heap.
"""

from __future__ import annotations

from io import BytesIO
from mmap import mmap
from typing import Final

SEGMENT_BYTES: Final = 128 << 10
#: What larger values gather in grows and becomes the value: no copy takes longer than for this.
SEGMENTED_MAX_BYTES: Final = 1 << 20
#: As many are enough for several values of that size.
_KEPT_MAX: Final = 16


class Segments:
    """Memory outside of the heap, and a few pieces of it that are free and warm."""

    def __init__(self) -> None:
        self._free: list[mmap] = []

    def room(self) -> Segmented:
        """Return where something may gather."""
        return Segmented(self)

    def room_for(self, length: int) -> Segmented | BytesIO:
        """Return where a value of that length may gather: `write`, `getvalue`, `close`."""
        return self.room() if length <= SEGMENTED_MAX_BYTES else BytesIO()

    def take(self) -> mmap:
        """Return a segment, whatever is in it; may raise `MemoryError`."""
        if self._free:
            return self._free.pop()
        try:
            return mmap(-1, SEGMENT_BYTES)
        except OSError as error:  # of any kind: the system has none, or not for us
            raise MemoryError from error

    def give_back(self, segments: list[mmap]) -> None:
        """Take back what nobody looks at any more."""
        kept = max(0, _KEPT_MAX - len(self._free))
        self._free += segments[:kept]
        for segment in segments[kept:]:
            segment.close()


class Segmented:
    """What has arrived of a value, as a `BytesIO` would hold it."""

    __slots__ = ("_filled_bytes", "_home", "_segments")

    def __init__(self, home: Segments) -> None:
        self._home = home
        self._segments: list[mmap] = []
        self._filled_bytes = SEGMENT_BYTES  #: of the last one

    def write(self, data: bytes) -> int:
        """Add to it; may raise `MemoryError`, and then only a part has been added."""
        rest = memoryview(data)
        while rest:
            begin = self._filled_bytes
            if begin == SEGMENT_BYTES:
                self._segments.append(self._home.take())
                begin = 0
            piece = rest[: SEGMENT_BYTES - begin]
            self._filled_bytes = begin + len(piece)
            self._segments[-1][begin : self._filled_bytes] = piece
            rest = rest[len(piece) :]
        return len(data)

    def tell(self) -> int:
        """Return how much there is."""
        return len(self._segments) * SEGMENT_BYTES - (SEGMENT_BYTES - self._filled_bytes)

    def getvalue(self) -> bytes:
        """Return all of it."""
        if not self._segments:
            return b""
        last = self._segments[-1][: self._filled_bytes]
        return b"".join([*self._segments[:-1], last]) if len(self._segments) > 1 else last

    def close(self) -> None:
        """Give the memory back."""
        self._home.give_back(self._segments)
        self._segments = []
        self._filled_bytes = SEGMENT_BYTES
