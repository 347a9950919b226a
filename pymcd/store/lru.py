"""The segmented LRU: which item is the next to go.  # memcached: doc/new_lru.txt

Each slab class has four segments, each a doubly linked list with the newest item at its head:

* HOT: where new items start. A probation queue: an item that reaches its tail goes to WARM if
  it was read twice meanwhile (ACTIVE), to COLD otherwise.
* WARM: items that proved themselves. Tail items that are ACTIVE go round once more, the others
  to COLD.
* COLD: what is evicted from its tail when memory is needed. An item read here while ACTIVE
  goes to WARM.
* TEMP: items that live so shortly that they need not be juggled, with `temporary_ttl`.

A flat LRU has COLD for all but those: new items start there, and one that is read goes to the head.

Otherwise a read only marks an item, so that `get` stays cheap; items move when a tail is pulled: by
the maintainer in small slices (`juggle`), or in a request that finds no memory.

The list is intrusive (`Item.prev`, `Item.next`): OrderedDict costs 90 bytes more per item and
a hash per move, and a plain dict degrades when popped from its front.
"""

from __future__ import annotations

from dataclasses import KW_ONLY, InitVar, dataclass
from typing import TYPE_CHECKING, Final

from .item import ACTIVE, COLD, FETCHED, HOT, MARK_BITS, TEMP, Segment

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..config import Settings
    from .item import Item, SlabClass, State, StatePool

#: How many items one pull looks at before it gives up. # memcached: lru_pull_tail
PULL_TRIES: Final = 5


@dataclass(eq=False)
class Lru:
    """The policy over all segments. The cache lends it the means to remove and to move."""

    settings: InitVar[Settings]
    _: KW_ONLY
    is_dead: Callable[[Item], bool]
    is_flushing: Callable[[], bool]  #: else only an item with an end can be dead
    remove: Callable[[Item], None]
    move: Callable[[Item, Segment, State], None]
    now: Callable[[], int]
    on_evict: Callable[[Item], None]
    states: StatePool

    def __post_init__(self, settings: Settings) -> None:
        self.segmented = True  #: set by `Cache.set_segmented`
        self.tune(
            settings.hot_lru_pct,
            settings.warm_lru_pct,
            settings.hot_max_factor,
            settings.warm_max_factor,
        )
        self.evictions = not settings.disable_evictions

    def tune(
        self, hot_pct: int, warm_pct: int, hot_max_factor: float, warm_max_factor: float
    ) -> None:
        """Set what share of a class HOT and WARM may have, and how much older they may be."""
        self.hot_pct = hot_pct
        self.warm_pct = warm_pct
        self.hot_max_factor = hot_max_factor
        self.warm_max_factor = warm_max_factor

    def pull_tail(
        self, segment: Segment, *, total_bytes: int = 0, max_age_s: float = 0, evict: bool = False
    ) -> int:
        """Work on the tail of one segment; return how many items were removed or moved.

        Dead items (expired or flushed) are reclaimed. A tail of HOT or WARM moves on if it is
        ACTIVE, or if its segment is over its share of `total_bytes` or it older than
        `max_age_s`. A tail of COLD is evicted if asked, else rescued if ACTIVE.
        """
        slab_class = segment.slab_class
        done = 0
        for _ in range(PULL_TRIES):
            item = segment.tail
            if item is None:
                break
            if self.is_dead(item):
                slab_class.reclaimed += 1
                if not item.access & FETCHED:
                    slab_class.expired_unfetched += 1
                self.remove(item)
                done += 1
                continue
            if segment.kind == COLD:
                if evict and self.evictions:
                    self.evict(item, slab_class)
                    done += 1
                elif not evict and item.access & ACTIVE and self.segmented:
                    slab_class.moves_to_warm += 1
                    self._move(item, slab_class.warm, item.access & ~ACTIVE)
                    done += 1
                break
            if segment.kind == TEMP:
                break
            if item.access & ACTIVE:
                done += 1
                if segment.kind == HOT:
                    slab_class.moves_to_warm += 1
                    self._move(item, slab_class.warm, item.access & ~ACTIVE)
                    break
                slab_class.moves_within_lru += 1
                item.unmark(ACTIVE, self.states)
                segment.to_head(item)
                continue
            share_pct = self.hot_pct if segment.kind == HOT else self.warm_pct
            if (
                segment.bytes > total_bytes * share_pct // 100
                or self.now() - item.last_access > max_age_s
            ):
                slab_class.moves_to_cold += 1
                self._move(item, slab_class.cold, item.access)
                done += 1
            break
        return done

    def _shift(self, segment: Segment, *, share_bytes: int, max_age_s: float, most: int) -> int:
        """Do what `pull_tail` does to HOT or WARM, up to the first tail that is dead."""
        # Hot path: bench/ "get16", "set16". As many items come through here as are asked for.
        slab_class = segment.slab_class
        warm, cold = slab_class.warm, slab_class.cold
        is_dead, flushing = self.is_dead, self.is_flushing()
        move, state_of = self.move, self.states.of
        oldest = self.now() - max_age_s
        moved = to_cold = 0
        # Neighbours often have one state: what comes of it is kept.
        before: State | None = None
        after = segment.fresh
        while moved < most:
            item = segment.tail
            if item is None:
                break
            state = item.state
            _, expires_at, access = state
            if (expires_at or flushing) and is_dead(item):
                break
            if access & ACTIVE:
                if state is not before:
                    before, after = state, state_of(warm, expires_at, access & ~ACTIVE)
                if segment is warm:
                    item.state = after
                    segment.to_head(item)
                else:
                    move(item, warm, after)
            elif segment.bytes > share_bytes or access >> MARK_BITS < oldest:
                if state is not before:
                    before, after = state, state_of(cold, expires_at, access)
                move(item, cold, after)
                to_cold += 1
            else:
                break
            moved += 1
        slab_class.moves_to_cold += to_cold
        if segment is warm:
            slab_class.moves_within_lru += moved - to_cold
        else:
            slab_class.moves_to_warm += moved - to_cold
        return moved

    def _move(self, item: Item, segment: Segment, access: int) -> None:
        self.move(item, segment, self.states.of(segment, item.expires_at, access))

    def evict(self, item: Item, slab_class: SlabClass) -> None:
        """Remove a living item for the sake of others, and count that."""
        slab_class.evicted += 1
        slab_class.evicted_time_s = self.now() - item.last_access
        if item.expires_at:
            slab_class.evicted_nonzero += 1
        if not item.access & FETCHED:
            slab_class.evicted_unfetched += 1
        if item.access & ACTIVE:
            slab_class.evicted_active += 1
        self.on_evict(item)
        self.remove(item)

    def juggle(self, slab_class: SlabClass, *, temporary: bool, most: int) -> int:
        """Bring one class into balance, by at most `most` pulls; return how many moved."""
        # memcached: lru_maintainer_juggle
        moves = 0
        if temporary:
            for _ in range(most):
                if not self.pull_tail(slab_class.temp):
                    break
                moves += 1
        total_bytes = 0
        hot_age_s = warm_age_s = 0.0
        if self.segmented:
            tail = slab_class.cold.tail
            cold_age_s = self.now() - tail.last_access if tail is not None else 0
            total_bytes = sum(segment.bytes for segment in slab_class.segments[:TEMP])
            hot_age_s = cold_age_s * self.hot_max_factor
            warm_age_s = cold_age_s * self.warm_max_factor
            for segment, share_pct, max_age_s in (
                (slab_class.hot, self.hot_pct, hot_age_s),
                (slab_class.warm, self.warm_pct, warm_age_s),
            ):
                share_bytes = total_bytes * share_pct // 100
                moves += self._shift(
                    segment, share_bytes=share_bytes, max_age_s=max_age_s, most=most - moves
                )
        for _ in range(most - moves):
            moved = self.pull_tail(
                slab_class.hot, total_bytes=total_bytes, max_age_s=hot_age_s
            ) or self.pull_tail(slab_class.warm, total_bytes=total_bytes, max_age_s=warm_age_s)
            if self.segmented:
                moved += self.pull_tail(slab_class.cold, total_bytes=total_bytes)
            if not moved:
                break
            moves += 1
        return moves
