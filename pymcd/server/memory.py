"""What a server does where the system gives it no more memory (`ulimit -v`).

Before it comes to that, items stop growing: while little is left, no class of items takes another
page, as if `-m` were reached, and items are evicted instead. What is under way may still meet a
`MemoryError`, anywhere, in trio's own code too. So there is a spare, which is given back at the
first one: whoever deals with it has some memory to do so, and what serves goes on (`keep_on`). It
is taken again as soon as that is possible.

Python's allocator takes a megabyte at a time, and objects of all sizes from it: a margin of many
of those is left for all that is not an item.
"""

from __future__ import annotations

import os
import resource
from mmap import MAP_ANONYMOUS, MAP_PRIVATE, mmap
from typing import TYPE_CHECKING, Final

import trio

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

#: Given back at the first `MemoryError`. It is never written to, and so not resident.
SPARE_BYTES: Final = 8 << 20
#: While less is left, no more is taken for items.
MARGIN_BYTES: Final = 32 << 20
#: How soon the spare is taken again, if that can be.
RECOVER_AFTER_S: Final = 1.0

_STATM: Final = "/proc/self/statm"


def address_space_left() -> Callable[[], int] | None:
    """Return what tells how many bytes the process may still get; None: nothing bounds it."""
    limits = [resource.getrlimit(which)[0] for which in (resource.RLIMIT_AS, resource.RLIMIT_DATA)]
    if all(limit == resource.RLIM_INFINITY for limit in limits) or not os.path.exists(_STATM):
        return None
    page_bytes = resource.getpagesize()

    def left() -> int:
        with open(_STATM, "rb", buffering=0) as file:
            words = file.read(200).split()
        used = (int(words[0]), int(words[5]))
        return min(
            limit - pages * page_bytes
            for limit, pages in zip(limits, used, strict=True)
            if limit != resource.RLIM_INFINITY
        )

    return left


class Memory:
    """The spare of one server, and whether there is room for more items."""

    def __init__(self, wake: Callable[[], None], left: Callable[[], int] | None = None) -> None:
        """`wake` has `recover` called; `left`: see `address_space_left`."""
        self._wake = wake
        self._left = left
        self._spare: mmap | None = _take(SPARE_BYTES)
        self.shortages = 0

    def has_room(self) -> bool:
        """Return whether another page of items may be taken."""
        try:
            return self._left is None or self._left() >= MARGIN_BYTES
        except (OSError, MemoryError):
            return False

    def meet_shortage(self) -> None:
        """Give the spare back: there was a `MemoryError`."""
        self.shortages += 1
        if self._spare is not None:
            self._spare.close()
            self._spare = None
            self._wake()

    def recover(self) -> float:
        """Take the spare again; return in how many seconds that is to be tried, if it failed."""
        if self._spare is None:
            try:
                self._spare = _take(SPARE_BYTES)
            except MemoryError:
                return RECOVER_AFTER_S
        return float("inf")


def _take(size: int) -> mmap:
    """Return memory straight from the system, which is not touched; or raise `MemoryError`.

    Python's own `bytes` are, as soon as the allocator has some of that size to give out again.
    """
    try:
        return mmap(-1, size, MAP_PRIVATE | MAP_ANONYMOUS)
    except (OSError, OverflowError):
        raise MemoryError from None


def is_shortage(error: Exception) -> bool:
    """Return whether an exception is nothing but the end of memory."""
    if isinstance(error, ExceptionGroup):
        return error.split(MemoryError)[1] is None
    return isinstance(error, MemoryError)


async def keep_on(
    run: Callable[[], Awaitable[None]], on_error: Callable[[Exception], None]
) -> None:
    """Run what serves until it is cancelled; again, if it met the end of memory."""
    while True:
        try:
            await run()
        except Exception as error:
            if not is_shortage(error):
                raise
            on_error(error)
        else:
            return
        await trio.lowlevel.checkpoint()
