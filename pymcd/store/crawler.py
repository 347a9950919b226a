"""The crawler: finds dead items that nobody asks for, and gives their memory back.

A crawl walks the cache's hash tables, a bounded slice at each `step`, so that the one event loop
is never held up. memcached walks the LRU lists instead; a cursor in our lists would have to
survive every unlink, and a table can simply be copied. Knows nothing of timers: who calls `step`
decides how fast it goes (maintainer.py).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from .cache import TABLES

if TYPE_CHECKING:
    from collections.abc import Collection

    from ..config import Settings
    from .cache import Cache
    from .item import Item

#: Items looked at in one step, less if there is much to reclaim: about half a millisecond.
SLICE_ITEMS: Final = 500
#: Items looked at before the budget is asked again.
_BATCH_ITEMS: Final = 100
#: What opening one table costs, in items looked at; and what reclaiming an item costs beyond.
_TABLE_COST_ITEMS: Final = 1
_RECLAIM_COST_ITEMS: Final = 4


class Crawler:
    """One crawl at a time over all items of a cache."""

    def __init__(self, cache: Cache, settings: Settings) -> None:
        self.enabled = settings.lru_crawler
        #: Items of each class that a crawl checks at most; 0: all.
        self.tocrawl = settings.lru_crawler_tocrawl
        #: What the operator wants to pass between two steps.
        self.sleep_us = settings.lru_crawler_sleep_us
        self.starts = 0  #: `lru_crawler_starts`
        self.running = False
        self.finished_at = 0  #: second in which the last crawl ended, 0: none did
        self._reclaimed = 0  #: dead items found in this crawl
        self._cache = cache
        self._class_ids: Collection[int] | None = None
        self._limit = 0
        self._per_class: dict[int, int] = {}
        self._table = 0
        self._items: list[Item] = []
        self._clears = cache.clears  #: when they were taken
        #: The flush that this crawl will have cleaned up after, if it is not cut short.
        self._flush: int | None = None

    def switch(self, on: bool) -> None:
        """Allow crawls, or forbid them and give up the one that is running."""
        self.enabled = on
        if not on:
            self.stop()

    def start(self, class_ids: Collection[int] | None = None, *, limit: int = 0) -> None:
        """Begin to crawl some slab classes (None: all), `limit` items of each (0: all)."""
        assert not self.running
        self.running = True
        self.starts += 1
        self._reclaimed = 0
        self._class_ids = class_ids
        self._limit = limit
        self._per_class.clear()
        self._table = 0
        horizon = self._cache.horizon
        whole = class_ids is None and not limit
        # Only from the next second on is nothing new linked that the horizon covers.
        if whole and horizon.active(self._cache.now) and self._cache.now > horizon.oldest_live:
            self._flush = horizon.number
        else:
            self._flush = None

    def stop(self) -> None:
        """Give up the crawl that is running, if any."""
        self.running = False
        self._items.clear()

    def step(self) -> bool:
        """Look at the next SLICE_ITEMS items; True: the crawl goes on."""
        if not self.running:
            return False
        if self._clears != self._cache.clears:
            self._clears = self._cache.clears
            self._items.clear()  # they are none any more
        budget = SLICE_ITEMS
        while budget > 0:
            if not self._items:
                if self._table == TABLES:
                    self._finish()
                    return False
                self._items = self._cache.table_items(self._table)
                self._table += 1
                budget -= _TABLE_COST_ITEMS
                continue
            size = min(budget, _BATCH_ITEMS)
            batch = self._items[-size:]
            del self._items[-size:]
            reclaimed = self._reclaimed
            self._look_at(batch)
            budget -= len(batch) + (self._reclaimed - reclaimed) * _RECLAIM_COST_ITEMS
        return True

    def _look_at(self, items: list[Item]) -> None:
        cache = self._cache
        for item in items:
            segment = item.segment
            if segment is None:  # unlinked since the table was copied
                continue
            slab_class = segment.slab_class
            if self._class_ids is not None and slab_class.id not in self._class_ids:
                continue
            if self._limit:
                seen = self._per_class.get(slab_class.id, 0)
                if seen >= self._limit:
                    continue
                self._per_class[slab_class.id] = seen + 1
            slab_class.crawler_items_checked += 1
            if cache.is_dead(item):
                self._reclaimed += 1
                cache.reclaim(item)

    def _finish(self) -> None:
        self.running = False
        self.finished_at = self._cache.now
        horizon = self._cache.horizon
        if self._flush == horizon.number:
            self._cache.settle_flush()
