"""The maintainer: everything that a cache does on its own, in bounded slices.

memcached has three threads for this; here one `step` does a slice of each (juggle the LRU,
crawl, move pages), at most about two milliseconds in all, and says when it wants to be called
again. The host owns the timer:

    while True:
        delay_s = maintainer.step()
        wait until delay_s passed or `wake` was called, whichever comes first

A delay of infinity means: only when woken. An idle server therefore does nothing at all: the
cache calls `wake` in the first second in which somebody asks for something, and commands that
leave work to do call it, too.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import inf
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..config import Settings
    from .cache import Cache
    from .crawler import Crawler
    from .rebalancer import Rebalancer

#: Tails pulled in one step, over all classes: about half a millisecond.
JUGGLE_PULLS: Final = 250
#: Between two steps, as long as there are tails to pull: this while half as many items come, and
#: twice as long each time that fewer do, up to what makes no difference where few are evicted.
JUGGLE_DELAY_MIN_S: Final = 0.005
JUGGLE_DELAY_CALM_S: Final = 0.08
#: Twice as long, too, each time there are no tails to pull, up to this.
JUGGLE_DELAY_MAX_S: Final = 1.0
#: Between two slices of a crawl or of a page move: they take a tenth of one core.
SLICE_DELAY_S: Final = 0.003

#: A crawl is worth while when this share of all items is dead ...
WORTH_CRAWLING: Final = 0.01
#: ... or the cache so small that it costs nothing, or the last one so long ago.
SMALL_ITEMS: Final = 10_000
CRAWL_AT_LEAST_EVERY_S: Final = 60
#: After a crawl, a rest of a second for each so many items.
REST_ITEMS: Final = 100_000


@dataclass(eq=False)
class Maintainer:
    """Decides what is due."""

    cache: Cache
    crawler: Crawler
    rebalancer: Rebalancer
    settings: Settings
    wake: Callable[[], None]  #: has the host call `step` at once, or soon

    def __post_init__(self) -> None:
        self.juggles = 0  #: `lru_maintainer_juggles`
        self._juggle_delay_s = JUGGLE_DELAY_MIN_S
        self._next_class = 0
        self._seen_items = -1
        self._seen_links = 0
        self.cache.on_second = self.wake

    def step(self) -> float:
        """Do a slice of all that is due; return the seconds to wait, infinity: until woken."""
        cache = self.cache
        # Ticks are for activity; this one is our own and wakes nobody.
        cache.on_second = lambda: None
        try:
            cache.tick()
        finally:
            cache.on_second = self.wake
        delay_s = inf
        if cache.dispose():
            delay_s = SLICE_DELAY_S
        if self.crawler.step():
            delay_s = min(delay_s, max(SLICE_DELAY_S, self.crawler.sleep_us / 1e6))
        if self.rebalancer.step():
            delay_s = min(delay_s, SLICE_DELAY_S)
        if self.settings.lru_maintainer:
            delay_s = min(delay_s, self._juggle(), self._start_crawl())
            if self.rebalancer.observe():
                delay_s = min(delay_s, 1.0)
        return delay_s

    def _juggle(self) -> float:
        # memcached: lru_maintainer_thread
        self.juggles += 1
        cache = self.cache
        classes = cache.slabs.classes
        pulls = JUGGLE_PULLS
        # Each step begins where the one before ran out of pulls, so that no class starves.
        for _ in classes:
            slab_class = classes[self._next_class]
            if slab_class.pages:
                pulls -= cache.lru.juggle(slab_class, temporary=cache.temporary_lru, most=pulls)
                if pulls <= 0:
                    break
            self._next_class = (self._next_class + 1) % len(classes)
        quiet = cache.total_items == self._seen_items
        self._seen_items = cache.total_items
        links = cache.links - self._seen_links
        self._seen_links = cache.links
        if pulls <= 0:
            # Somebody always reads what was rescued a moment ago, and has it rescued again.
            if links >= JUGGLE_PULLS // 2:
                self._juggle_delay_s = JUGGLE_DELAY_MIN_S
            else:
                self._juggle_delay_s = min(JUGGLE_DELAY_CALM_S, self._juggle_delay_s * 2)
        elif pulls < JUGGLE_PULLS:
            self._juggle_delay_s = max(JUGGLE_DELAY_MIN_S, self._juggle_delay_s / 2)
        else:
            self._juggle_delay_s = min(JUGGLE_DELAY_MAX_S, self._juggle_delay_s * 2)
            if quiet and self._juggle_delay_s == JUGGLE_DELAY_MAX_S:
                return inf
        return self._juggle_delay_s

    def _start_crawl(self) -> float:
        """Start a crawl if there is enough to reclaim; return when to look again."""
        cache = self.cache
        crawler = self.crawler
        if not crawler.enabled or crawler.running:
            return inf
        rested_at = crawler.finished_at + max(1, cache.item_count // REST_ITEMS)
        flushed_at = max(self._flushed_at(), rested_at)
        expired_at = max(self._expired_at(), rested_at)
        if flushed_at <= cache.now:
            crawler.start()
        elif expired_at <= cache.now:
            crawler.start(limit=crawler.tocrawl)
        else:
            return min(flushed_at, expired_at) - cache.now
        return SLICE_DELAY_S

    def _flushed_at(self) -> float:
        """Return the second from which on a crawl can clean up after the last flush."""
        horizon = self.cache.horizon
        return inf if horizon.settled or not horizon.oldest_live else horizon.oldest_live + 1

    def _expired_at(self) -> float:
        """Return the second from which on a crawl finds enough that has expired."""
        cache = self.cache
        next_due = cache.expiry.next_due()
        if next_due is None:
            return inf
        if next_due > cache.now or cache.item_count <= SMALL_ITEMS:
            return next_due
        if cache.expiry.due() >= cache.item_count * WORTH_CRAWLING:
            return next_due
        return self.crawler.finished_at + CRAWL_AT_LEAST_EVERY_S
