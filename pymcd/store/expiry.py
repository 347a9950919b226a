"""When things end: from the client's exptime to the cache's clock, and what is due.

`Expiry` translates an exptime, and counts how many items end in each second, so that the
crawler runs when there is something to reclaim and an idle server sleeps. `FlushHorizon` is
`flush_all`: one point in time before which everything is dead. Neither touches an item.
"""

from __future__ import annotations

from collections import Counter
from math import floor
from typing import TYPE_CHECKING, Final

from sortedcontainers import SortedList

from .. import limits
from .item import MARK_BITS

if TYPE_CHECKING:
    from .item import Item

#: The first second of a cache's clock. Not 0, which means "never", nor 1, which means "over".
CLOCK_START_S = 2
#: An item with this `expires_at` is dead from the start.
EXPIRED = 1
#: What CPython takes for the end of an item, in bytes, for `-o memory_accounting=resident`: a tuple
#: of its own 80 (many share one, but need not), the number 32.
RESIDENT_STATE_BYTES: Final = 112
#: ... and for each second in which any ends: its share of a hash table and of a sorted list.
RESIDENT_SECOND_BYTES: Final = 60
#: Seconds are in so many tables by their last bits: a single one would be copied in one step
#: whenever it is full.
TABLES: Final = 64
_TABLE_MASK: Final = TABLES - 1


class Expiry:
    """Exptime in, `expires_at` out; and how many items end when."""

    def __init__(self) -> None:
        self.now = CLOCK_START_S
        #: Unix time at which the cache's clock would have shown 0.
        self.realtime_origin_s = 0.0
        #: Linked items by the second in which they end; and those seconds in order.
        self._tables: list[dict[int, int]] = [{} for _ in range(TABLES)]
        self._items = 0  #: linked, with an end
        self._seconds: SortedList[int] = SortedList()
        #: Interned results of this second: the same exptime gives the same object.
        self._known: dict[int, int] = {}

    def tick(self, now: int, realtime_origin_s: float) -> None:
        """Take note of a new second."""
        self.now = now
        self.realtime_origin_s = realtime_origin_s
        self._known.clear()

    def expires_at(self, exptime: int) -> int:
        """Return when an exptime ends, in seconds on the cache's clock; 0: never.

        # protocol.txt, "Expiration times"; memcached: realtime. Negative: at once. Up to 30
        days: from now. Above: absolute Unix time.
        """
        if exptime == 0:
            return 0
        known = self._known.get(exptime)
        if known is not None:
            return known
        if exptime < 0:
            result = EXPIRED
        elif exptime <= limits.EXPTIME_RELATIVE_MAX_S:
            result = self.now + exptime
        else:
            result = max(EXPIRED, exptime - floor(self.realtime_origin_s))
        if len(self._known) < 1024:
            self._known[exptime] = result
        return result

    def unix_time(self, expires_at: int) -> int:
        """Return Unix seconds for seconds on the cache's clock."""
        return expires_at + floor(self.realtime_origin_s)

    def add(self, expires_at: int) -> None:
        """An item that ends then was linked."""
        self._items += 1
        counts = self._tables[expires_at & _TABLE_MASK]
        if expires_at in counts:
            counts[expires_at] += 1
        else:
            counts[expires_at] = 1
            self._seconds.add(expires_at)

    def discard(self, expires_at: int) -> None:
        """An item that would have ended then was unlinked."""
        self._items -= 1
        counts = self._tables[expires_at & _TABLE_MASK]
        if counts[expires_at] > 1:
            counts[expires_at] -= 1
        else:
            del counts[expires_at]
            self._seconds.remove(expires_at)

    def clear(self) -> None:
        """No items are linked any more."""
        self._items = 0
        self._tables = [{} for _ in range(TABLES)]
        self._seconds = SortedList()

    def due(self) -> int:
        """Return how many linked items are past their time. O(seconds that are due)."""
        seconds = self._seconds.irange(maximum=self.now)
        return sum(self._tables[at & _TABLE_MASK][at] for at in seconds)

    def next_due(self) -> int | None:
        """Return the earliest `expires_at` of all items, or None."""
        return self._seconds[0] if self._seconds else None

    def resident_bytes(self) -> int:
        """Return what the ends of items may take, where each item has a state of its own."""
        return self._items * RESIDENT_STATE_BYTES + len(self._seconds) * RESIDENT_SECOND_BYTES

    def check(self, items: list[Item]) -> None:
        """Raise AssertionError unless the counts are those of `items`. For tests."""
        expected = Counter(item.expires_at for item in items if item.expires_at)
        assert {at: count for table in self._tables for at, count in table.items()} == expected
        assert all(at & _TABLE_MASK == n for n, table in enumerate(self._tables) for at in table)
        assert self._items == sum(expected.values())
        assert list(self._seconds) == sorted(expected)


class FlushHorizon:
    """The latest `flush_all`, perhaps still to come.  # memcached: item_is_flushed"""

    def __init__(self) -> None:
        self.oldest_live = 0  #: items not accessed after this second are dead; 0: no flush yet
        self.oldest_cas = 0  #: the cas unique of the flush
        self.number = 0  #: of this flush
        self.settled = False  #: nothing that the horizon covers is left
        self._gone_from = limits.UINT32_MAX
        self._second = 0  #: in which the flush happens; 0: what is stored in that one dies as well
        #: Ids of the items stored in that second behind the flush: cas uniques do not tell, as
        #: clients may choose them. An id that is given again is that of a newer item.
        self._spared: set[int] = set()

    def set(self, at: int, *, now: int, cas_unique: int) -> None:
        """Flush what exists at second `at`."""
        self.number += 1
        self.settled = False
        self._spared.clear()
        self.oldest_live = at - 1
        self._second = at if at == now else 0
        self._gone_from = at - 1 if at - 1 <= now else limits.UINT32_MAX
        if self.oldest_live <= now:
            self.oldest_cas = cas_unique

    def settle(self) -> None:
        """Take note that nothing is left that the horizon covers."""
        self.settled = True
        self._spared.clear()

    def active(self, now: int) -> bool:
        """Return whether the horizon has been reached."""
        return 0 < self.oldest_live <= now and not self.settled

    def covers(self, item: Item) -> bool:
        """Return whether an active horizon has made this item dead."""
        second = item.access >> MARK_BITS
        return second <= self.oldest_live or (
            second == self._second and id(item) not in self._spared
        )

    def spare(self, item: Item) -> None:
        """Take note of an item that is linked while the horizon is active."""
        if item.access >> MARK_BITS == self._second:
            self._spared.add(id(item))

    def removed(self, item: Item) -> bool:
        """Return whether memcached would have removed this item, which is covered, at once.

        It walks down each segment at a flush until it meets an item of an earlier second. Here
        the item is still there, but nobody is told that it was flushed.
        """
        # memcached: item_flush_expired
        return item.access >> MARK_BITS >= self._gone_from
