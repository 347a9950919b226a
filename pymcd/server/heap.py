"""What clients leave behind in the heap of the C library, and how the system gets it back.

Items, buffers and all that OpenSSL takes come from that heap. Of what is freed there, only the end
goes back to the system, and hardly ever does nothing that lives on stand at the very end. So a
server would keep for ever what its clients took when they were most: each one with TLS 50 KB.

`malloc_trim` gives back all that is free, in one call, for which a large heap with many holes is
locked for most of a second. So this takes the holes itself, a few at a time: blocks that nobody
uses, until the heap would have to grow for another one. The system is told that their pages are
not needed, and at last the blocks are freed again. So with large blocks, then with smaller ones; a
hole that is smaller still is left alone.

When: a while after clients have left, if the process has much more than it once had. That may be
items, in which case the first block ends it; where there are many holes, it is done less often.
"""

from __future__ import annotations

import os
import sys
from math import inf
from typing import TYPE_CHECKING, Any, Final, Protocol

from ..protocol.connection import no_wake

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

#: Of blocks, those that are taken first first. Larger ones would not come from the heap (glibc:
#: M_MMAP_THRESHOLD, 128 KB at first); of smaller ones too much would stay: a page at their edge.
BLOCK_SIZES: Final = (120_000, 30_000)
#: Together about half a millisecond.
BLOCKS_PER_STEP: Final = 40
#: How long after somebody left: others may leave, too.
SETTLE_S: Final = 1.0
#: Who had many holes to look at rests for so long, for each: little of the time is for this.
REST_PER_BLOCK_S: Final = 0.004
#: What is worth it: so much more, and of what there was, one part of so many.
MORE_BYTES: Final = 2 << 20
MORE_PART: Final = 16
_DONT_NEED: Final = 4  # MADV_DONTNEED, where there is glibc
_PAGE_BYTES: Final = 4096
_STATM: Final = "/proc/self/statm"


class Library(Protocol):
    """Of the C library, what is needed."""

    def malloc(self, size: int, /) -> int | None: ...
    def free(self, block: int, /) -> None: ...
    def sbrk(self, more: int, /) -> int: ...
    def madvise(self, start: int, size: int, advice: int, /) -> int: ...


def glibc() -> Library | None:
    """Return the C library, if its heap is known here, and how much memory the process has."""
    if sys.platform != "linux" or not os.path.exists(_STATM):
        return None
    try:
        import ctypes

        library: Any = ctypes.CDLL(None)
        library.gnu_get_libc_version  # noqa: B018 - which no other has
    except (ImportError, OSError, AttributeError):
        return None
    address, size, number = ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int
    library.malloc.restype, library.malloc.argtypes = address, [size]
    library.free.restype, library.free.argtypes = None, [address]
    library.sbrk.restype, library.sbrk.argtypes = address, [ctypes.c_ssize_t]
    library.madvise.restype, library.madvise.argtypes = number, [address, size, number]
    return library  # type: ignore[no-any-return]


def resident_bytes() -> int:
    """Return how much memory this process has."""
    with open(_STATM, "rb", buffering=0) as file:
        return int(file.read(200).split()[1]) * _PAGE_BYTES


class Heap:
    """The heap of the thread that serves, and who has left it."""

    def __init__(self, library: Library, resident: Callable[[], int] = resident_bytes) -> None:
        self._library = library
        self._resident = resident
        self._least_bytes = resident()
        self._has_left = False  #: somebody, and that is not dealt with
        self._blocks: list[int] = []  #: taken, and not freed yet
        self._steps = self._work()
        self.wake: Callable[[], None] = no_wake  #: has `step` called

    def left(self) -> None:
        """Take note that a client has left."""
        if not self._has_left:
            self._has_left = True
            self.wake()

    def step(self) -> float:
        """Do a small part of what is to be done; return in how many seconds to go on."""
        try:
            return next(self._steps)
        except Exception:
            self._steps = self._work()
            raise

    def _work(self) -> Iterator[float]:
        while True:
            yield from self._free()  # what is left if this was broken off
            if not self._has_left:
                yield inf
            yield SETTLE_S
            self._has_left = False
            resident_bytes = self._resident()
            self._least_bytes = min(self._least_bytes, resident_bytes)
            more_bytes = resident_bytes - self._least_bytes
            if more_bytes > max(MORE_BYTES, self._least_bytes // MORE_PART):
                for block_bytes in BLOCK_SIZES:
                    yield from self._take(block_bytes, resident_bytes // block_bytes)
                rest_s = len(self._blocks) * REST_PER_BLOCK_S
                yield from self._free()
                yield rest_s

    def _take(self, block_bytes: int, most: int) -> Iterator[float]:
        """Take holes until there are none, and give their pages back; so many at most."""
        library = self._library
        end = library.sbrk(0)
        for _ in range(most):
            block = library.malloc(block_bytes)
            if not block:
                return
            self._blocks.append(block)
            if library.sbrk(0) != end:
                return
            start = -(-block // _PAGE_BYTES) * _PAGE_BYTES
            whole_bytes = (block + block_bytes - start) // _PAGE_BYTES * _PAGE_BYTES
            library.madvise(start, whole_bytes, _DONT_NEED)
            if len(self._blocks) % BLOCKS_PER_STEP == 0:
                yield 0.0
                end = library.sbrk(0)  # others may have had it grow meanwhile

    def _free(self) -> Iterator[float]:
        while self._blocks:
            self._library.free(self._blocks.pop())
            if len(self._blocks) % BLOCKS_PER_STEP == 0:
                yield 0.0
