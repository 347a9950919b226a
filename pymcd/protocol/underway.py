"""Memory under way: what clients send and take, as long as it is in no item.

A value that arrives in pieces, a line that does, a reply that its client does not read: each is a
`Holder`, and one `UnderWay` for the whole server counts their bytes against a bound that follows
`-m`. Only what spans more than one read or write is counted, so that the many small commands pay
nothing. How to count:

* `charge(holder, n)` says how much a holder holds now, more or less than before. False: there is no
  room, and nothing has changed. Whoever asked gives way: its value is refused and the rest of it
  thrown away, its line or connection is closed, its next piece is not made.
* `release(holder)` when it holds nothing any more, be it done or gone; it need not hold anything.
* `give_up()` of a holder is called when others need the room. It is released by then, and drops
  what it holds before it returns; it must not charge.

Of a reply count what a short write left, together with what a source or the list of pieces has
ready behind it and with received commands that therefore stay in the buffer: charge when the
socket does not take it all, again with what remains whenever it takes some, release when all is
taken. A value counts in full, though it may still be an item: it is not for long. If there is no
room, or when one gives up, close the connection: a client that neither reads nor leaves is no loss.
It takes a holder of its own: a `Connection` is the holder of the value or the line that arrives.

Who gives way. Those who do not get on, longest first: who in `STALLED_S` has neither brought nor
taken a quarter of what it holds. So an attacker must go on sending what he wants to occupy. Only if
there are none, or not enough, does whoever asks: a newcomer among many that get on is refused, as
memcached refuses when all memory is busy. A value alone can always arrive: no item may be larger
than half of `-m`, and that much there is. (Where the memory was made less since, there may be more
under way than the bound until that is gone.)

Where items are charged what they really cost (`memory_accounting=resident`), `-m` is for all there
is: what is under way borrows its memory from the items, which are evicted for it if need be.

Rejected: to give the room of the whole value at its first byte (forty headers would be enough to
shut out everybody); to have the oldest give way at once (a thousand who send at the same time would
chase each other out, and none would finish).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from .. import limits

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..store import Cache

#: Of `-m`, for all that is under way: one part of so many.
_PART_OF_MEMORY: Final = 2
#: Of that, for a single holder, unless an item may be larger.
_PART_OF_ONE: Final = 4
#: Of `-m`, before anything is borrowed from the items: a value now and then moves no pages.
_PART_FOR_NOTHING: Final = 16
#: By the clock of whole seconds, so a little more than one at least.
STALLED_S: Final = 2


class Holder:
    """Something that takes memory while it is under way. Its numbers are `UnderWay`'s."""

    __slots__ = ("held_bytes", "noted_at", "noted_bytes")

    def __init__(self) -> None:
        self.held_bytes = 0
        #: When it last got on, and how much it held then.
        self.noted_at = 0
        self.noted_bytes = 0

    def give_up(self) -> None:
        """Drop what is held: others need the room."""
        raise NotImplementedError


class UnderWay:
    """Who holds how much, and who has to give way."""

    def __init__(self, cache: Cache, borrow: Callable[[int], None] | None = None) -> None:
        """`borrow` is told how much of the items' memory is to be ours, each time it changes."""
        self._cache = cache
        self._borrow = borrow
        self.borrowed_bytes = 0
        #: Those who have stood still longest come first.
        self._holders: dict[Holder, None] = {}
        self.held_bytes = 0
        self.given_up = 0  #: how many had to, since the start

    @property
    def limit_bytes(self) -> int:
        """The most that may be held in all."""
        slabs = self._cache.slabs
        return max(slabs.limit_bytes // _PART_OF_MEMORY, slabs.item_size_max_bytes)

    @property
    def holder_max_bytes(self) -> int:
        """The most that one holder may hold."""
        slabs = self._cache.slabs
        return max(self.limit_bytes // _PART_OF_ONE, slabs.item_size_max_bytes)

    def charge(self, holder: Holder, held_bytes: int) -> bool:
        """Count what a holder holds now; False: there is no room, and all is as it was."""
        more_bytes = held_bytes - holder.held_bytes
        if more_bytes > 0:
            if held_bytes > self.holder_max_bytes:
                return False
            limit_bytes = self.limit_bytes
            if self.held_bytes + more_bytes > limit_bytes:
                self._make_room(limit_bytes - more_bytes, holder)
                if self.held_bytes + more_bytes > limit_bytes:
                    return False
        holder.held_bytes = held_bytes
        self.held_bytes += more_bytes
        if self._borrow is not None:
            self._settle(self._borrow)
        # A holder that is new has noted nothing, and so is noted now.
        if abs(held_bytes - holder.noted_bytes) * 4 >= holder.noted_bytes:
            holder.noted_bytes = held_bytes
            holder.noted_at = self._cache.now
            self._holders.pop(holder, None)
            self._holders[holder] = None
        return True

    def release(self, holder: Holder) -> None:
        """Forget a holder, if it is known."""
        if holder in self._holders:
            del self._holders[holder]
            self.held_bytes -= holder.held_bytes
            holder.held_bytes = holder.noted_bytes = 0
            if self._borrow is not None:
                self._settle(self._borrow)

    def _settle(self, borrow: Callable[[int], None]) -> None:
        """Borrow what is needed in whole pages, beyond what a quiet server holds anyway."""
        beyond_bytes = self.held_bytes - self._cache.slabs.limit_bytes // _PART_FOR_NOTHING
        pages = max(0, -(-beyond_bytes // limits.SLAB_PAGE_BYTES))
        if pages * limits.SLAB_PAGE_BYTES != self.borrowed_bytes:
            self.borrowed_bytes = pages * limits.SLAB_PAGE_BYTES
            borrow(self.borrowed_bytes)

    def _make_room(self, wanted_bytes: int, asking: Holder) -> None:
        """Have those give up who stand still, until no more than so much is held."""
        stalled_since = self._cache.now - STALLED_S
        for holder in list(self._holders):
            if holder.noted_at > stalled_since or self.held_bytes <= wanted_bytes:
                break
            if holder is not asking:
                self.release(holder)
                self.given_up += 1
                holder.give_up()

    def check(self) -> None:
        """Verify what must be true; for tests."""
        assert self.held_bytes == sum(holder.held_bytes for holder in self._holders)
        assert self._cache.slabs.lent_bytes == self.borrowed_bytes
        times = [holder.noted_at for holder in self._holders]
        assert times == sorted(times), "those who stood still longest come first"
