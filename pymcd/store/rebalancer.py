"""The rebalancer: moves slab pages between classes, and back to the system.

There are no real pages, so a page can leave its class as soon as a page's worth of chunks is
free there; where the items sat does not matter. If too few chunks are free, items are removed
from the tails of the class, a bounded number at each `step`. Pages move because somebody asked
(`slabs reassign`), because `slabs automove` thinks it wise, or because the memory limit was
lowered.

memcached never evicts in order to obey a lowered limit: pages that are in use stay. Here the
limit is obeyed, since who lowers it wants the memory. # memcached: slab_rebalance_move,
slab_automove_run
"""

from __future__ import annotations

from collections import deque
from enum import IntEnum
from typing import TYPE_CHECKING, Final, NamedTuple

from .item import COLD, HOT, TEMP, WARM

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..config import Settings
    from .cache import Cache
    from .item import Item, SlabClass

#: Items removed in one step: about half a millisecond.
SLICE_ITEMS: Final = 200
#: How far a search for an item that holds a chunk of some class goes.
_SEARCH_ITEMS: Final = 50
#: The id that stands for the pool of free pages.
POOL: Final = 0
#: `slabs reassign -1 N`: choose the source.
ANY: Final = -1

#: A class with more free chunks than this many pages hold gives one back ...
_RECLAIM_PAGES: Final = 2.5
#: ... and one with at most this many pages never gives one to another class.
_SOURCE_PAGES_MIN: Final = 2
#: A class that caused more than this share of all evictions in the window may get a page.
_EVICTED_SHARE: Final = 0.25


class Reassign(IntEnum):
    """What became of a wish to move a page."""

    OK = 0
    RUNNING = 1
    BADCLASS = 2
    NOSPARE = 3
    SAME = 4


class _Sample(NamedTuple):
    """What one class did in one second."""

    age_s: int
    evicted_share: float  #: of all that was evicted then
    dirty: bool  #: its free chunks may be needed: it evicted, ran dry or took a page


class _History:
    """The recent seconds of one class, and its counters as last seen."""

    def __init__(self, slab_class: SlabClass, window_s: int) -> None:
        self.samples: deque[_Sample] = deque(maxlen=window_s)
        self.evicted = slab_class.evicted
        self.outofmemory = slab_class.outofmemory
        self.pages = slab_class.pages

    def sample(self, slab_class: SlabClass, now: int, evicted_total: int) -> None:
        # After `stats reset` the counters are below what was seen.
        evicted = max(0, slab_class.evicted - self.evicted)
        tail = slab_class.cold.tail
        age_s = now - tail.last_access if tail is not None else 0
        share = evicted / evicted_total if evicted else 0.0
        wanted = slab_class.outofmemory > self.outofmemory or slab_class.pages > self.pages
        self.samples.append(_Sample(age_s, share, evicted > 0 or wanted))
        self.evicted = slab_class.evicted
        self.outofmemory = slab_class.outofmemory
        self.pages = slab_class.pages


class Rebalancer:
    """At most one page is on its way at a time."""

    def __init__(self, cache: Cache, settings: Settings) -> None:
        self.enabled = settings.slab_reassign  #: whether `slabs reassign` is allowed
        self.automove = settings.slab_automove  #: 0 off, 1 careful, 2 at each eviction
        #: Called with source and destination when automove decided on a move.
        self.on_automove: Callable[[int, int], None] = lambda source, destination: None
        self.rescues = 0
        self.chunk_rescues = 0  #: of chunks of items larger than one: the largest class has most
        self.busy_nomem = 0
        self.inline_reclaim = 0
        self.busy_items = 0
        self.last_busy_status = "none"
        self._cache = cache
        self._slabs = cache.slabs
        self.automove_window_s = settings.slab_automove_window_s
        #: What is to be held free of all memory. Only told: here nothing keeps a reserve.
        self.automove_freeratio = settings.slab_automove_freeratio
        self._evictions = not settings.disable_evictions
        self._move: tuple[int, int] | None = None
        self._decided = False  #: it was automove's decision
        self._removed = 0  #: items removed for the move on its way
        self._next_any = 0
        self._shrinking = False
        self._sampled_at = 0
        self._sampled_s = 0  #: for how many seconds in all
        self._watching = False
        self._histories: list[_History] = []
        self.set_automove_ratio(settings.slab_automove_ratio)

    def set_automove_ratio(self, ratio: float) -> None:
        """Set how much younger a class must be to get a page. Begins the observations anew."""
        self.automove_ratio = ratio
        self._begin_observing()

    def set_automove_window(self, window_s: int) -> None:
        """Set how many seconds are looked at. Begins the observations anew."""
        self.automove_window_s = window_s
        self._begin_observing()

    def _begin_observing(self) -> None:
        self._histories = [_History(each, self.automove_window_s) for each in self._slabs]
        self._sampled_s = 0

    def reset_counters(self) -> None:
        """Zero what `stats reset` zeroes."""
        self.rescues = self.chunk_rescues = self.busy_nomem = self.inline_reclaim = (
            self.busy_items
        ) = 0
        self.last_busy_status = "none"
        self._slabs.moved_pages = 0

    @property
    def running(self) -> bool:
        return self._move is not None

    @property
    def busy(self) -> bool:
        """Whether `step` has something to do."""
        return self._move is not None or self._shrinking

    def reassign(self, source: int, destination: int) -> Reassign:
        """Have a page moved between two class ids; POOL and, as source, ANY are allowed."""
        # memcached: do_slabs_reassign
        if self._move is not None:
            return Reassign.RUNNING
        if source == destination:
            return Reassign.SAME
        if source == ANY:
            source = self._pick_any(destination)
        largest = len(self._slabs.classes)
        if not (POOL <= source <= largest and POOL <= destination <= largest):
            return Reassign.BADCLASS
        giver = self._slabs.by_id(source)
        if (self._slabs.free_pages if giver is None else giver.pages) < 2:
            return Reassign.NOSPARE
        self._move = (source, destination)
        self._decided = False
        self._removed = 0
        return Reassign.OK

    def _pick_any(self, destination: int) -> int:
        """Return the next class in turn that can spare a page, or ANY."""
        classes = self._slabs.classes
        for _ in classes:
            candidate = classes[self._next_any % len(classes)]
            self._next_any += 1
            if candidate.id != destination and candidate.pages > 1:
                return candidate.id
        return ANY

    def set_limit(self, limit_bytes: int) -> None:
        """Change the memory limit. What is over it goes back in the steps to come."""
        self._slabs.limit_bytes = limit_bytes
        self._shrinking = True

    def lend(self, lent_bytes: int) -> None:
        """Have so much of the limit be for others. What is over it goes back likewise."""
        self._slabs.lent_bytes = lent_bytes
        self._shrinking = self._shrinking or self._slabs.is_over_limit

    def evicted(self, item: Item) -> None:
        """Take note of an eviction: `slabs automove 2` moves a page at each."""
        if self.automove == 2 and self.enabled and item.segment is not None:
            self.reassign(ANY, item.segment.slab_class.id)

    def step(self) -> bool:
        """Work on the move on its way; True: call again."""
        if self._move is None:
            if self._slabs.beside_bytes() and self._slabs.is_over_limit:
                self._shrinking = True  # what items take beside their chunks has grown
            if not self._shrinking:
                return False
            if not self._shrink():
                self._shrinking = False
                return False
        self._advance()
        return self.busy

    def _shrink(self) -> bool:
        """Return pooled pages while over the limit, else begin to free one; False: that is all."""
        self._slabs.shrink_pool()
        if not self._slabs.is_over_limit:
            return False
        spare = [each for each in self._slabs if each.pages > 1]
        if not self._evictions:
            spare = [each for each in spare if each.free_chunks >= each.chunks_per_page]
        if not spare:
            return False
        # Who has most to spare: whole free pages count before used ones.
        best = max(spare, key=lambda each: (each.free_chunks // each.chunks_per_page, each.pages))
        self._move = (best.id, POOL)
        self._decided = False
        self._removed = 0
        return True

    def _advance(self) -> None:
        """Make room in the source, a bounded number of items, and move the page if there is."""
        assert self._move is not None
        source = self._slabs.by_id(self._move[0])
        destination = self._slabs.by_id(self._move[1])
        if source is not None:
            used = source.used_chunks + self._removed
            budget = SLICE_ITEMS
            while source.free_chunks < source.chunks_per_page:
                if not budget:
                    return
                budget -= 1
                if not self._remove_one(source):
                    self._busy("busy_floating")
                    self._move = None
                    self._shrinking = False
                    return
            if source.pages > 1:
                # What lay on the page and was not removed now lies elsewhere in the class.
                rescued = max(0, min(source.chunks_per_page, used) - self._removed)
                if source is self._slabs.classes[-1]:
                    self.chunk_rescues += rescued
                else:
                    self.rescues += rescued
                self._slabs.release_page(source)
                self._slabs.moved_pages += 1
        else:
            self._slabs.moved_pages += 1
        if destination is not None and self._slabs.free_pages:
            self._slabs.give_page(destination)
        self._move = None
        if destination is None:
            self._slabs.shrink_pool()
            # As long as pages are just lying about, one follows the other.
            decision = self._decide() if self._decided else None
            if decision is not None and decision[1] == POOL:
                self._begin(decision)

    def _remove_one(self, source: SlabClass) -> bool:
        """Remove an item which uses a chunk of the class, the one missed least; False: none."""
        item = self._victim(source)
        if item is None:
            return False
        self._removed += 1
        if self._cache.is_dead(item):
            self.inline_reclaim += 1
            self._cache.unlink(item)
        else:
            # memcached finds the page busy for want of memory, and evicts to get some.
            self.busy_nomem += 1
            self._busy("from_lru")
            assert item.segment is not None
            self._cache.lru.evict(item, item.segment.slab_class)
        return True

    def _busy(self, status: str) -> None:
        self.busy_items += 1
        self.last_busy_status = status

    def _victim(self, source: SlabClass) -> Item | None:
        for kind in (COLD, WARM, HOT, TEMP):
            tail = source.segments[kind].tail
            if tail is not None and (not tail.chunk_classes or source in tail.chunk_classes):
                return tail
        # The chunks may belong to items larger than a chunk, which the largest class links.
        largest = self._slabs.classes[-1]
        for kind in (COLD, WARM, HOT, TEMP):
            item = largest.segments[kind].tail
            for _ in range(_SEARCH_ITEMS):
                if item is None:
                    break
                if source in item.chunk_classes:
                    return item
                item = item.prev
        return None

    def observe(self) -> bool:
        """Let `slabs automove 1` look at the last second, once a second; True: look again.

        A class with pages to spare which stayed calm all through the window returns one to the
        pool. Else, if the class that evicts has much younger items than another with pages to
        spare, it gets one of those. Before the first page there is nothing to look at.
        # memcached: slab_automove_run
        """
        if self.automove != 1 or not self.enabled or not self._slabs.malloced_pages:
            return False
        now = self._cache.now
        if now == self._sampled_at:
            return self._watching
        self._sampled_at = now
        self._sampled_s += 1
        classes = self._slabs.classes
        evicted_total = sum(
            max(0, each.evicted - history.evicted)
            for each, history in zip(classes, self._histories, strict=True)
        )
        for slab_class, history in zip(classes, self._histories, strict=True):
            history.sample(slab_class, now, evicted_total)
        decision = self._decide()
        if decision is not None:
            self._begin(decision)
        # The seconds to come may bring a decision though nothing else happens.
        self._watching = any(
            self._has_spare(slab_class) or any(sample.evicted_share for sample in history.samples)
            for slab_class, history in zip(classes, self._histories, strict=True)
        )
        return self._watching

    def _begin(self, decision: tuple[int, int]) -> None:
        if self.reassign(*decision) is Reassign.OK:
            self._decided = True
            self.on_automove(*decision)

    def _decide(self) -> tuple[int, int] | None:
        oldest = youngest = None
        oldest_age_s = 0.0
        youngest_age_s = float("inf")
        for slab_class, history in zip(self._slabs.classes, self._histories, strict=True):
            samples = history.samples
            if self._has_spare(slab_class) and not any(sample.dirty for sample in samples):
                return slab_class.id, POOL
            age_s = sum(sample.age_s for sample in samples) / self.automove_window_s
            if age_s > oldest_age_s and slab_class.pages > _SOURCE_PAGES_MIN:
                oldest, oldest_age_s = slab_class, age_s
            evicting = (
                sum(sample.evicted_share > 0 for sample in samples) > self.automove_window_s / 2
            )
            share = sum(sample.evicted_share for sample in samples) / self.automove_window_s
            if age_s < youngest_age_s and (evicting or share > _EVICTED_SHARE):
                youngest, youngest_age_s = slab_class, age_s
        if (
            oldest is not None
            and youngest is not None
            and self._sampled_s > self.automove_window_s
            and youngest_age_s < oldest_age_s * self.automove_ratio
            and self._histories[youngest.id - 1].samples[-1].evicted_share
        ):
            return oldest.id, youngest.id
        return None

    def _has_spare(self, slab_class: SlabClass) -> bool:
        return slab_class.free_chunks > slab_class.chunks_per_page * _RECLAIM_PAGES
