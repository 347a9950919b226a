"""How the store tests build caches, and what they ask of them in one word."""

from __future__ import annotations

from operator import attrgetter
from typing import TYPE_CHECKING, Any

from pymcd.config import Settings
from pymcd.store import Cache, StoreMode
from pymcd.store.item import ClassCounters

from ..clocks import ManualClock

if TYPE_CHECKING:
    from pymcd.store.item import Segment

MEBIBYTE = 1 << 20

#: Names of the counters that a slab class keeps.
CLASS_COUNTERS = ("get_hits", *ClassCounters.__slots__)
_class_counters = attrgetter(*CLASS_COUNTERS)


def make_cache(
    clock: ManualClock | None = None, *, limit_pages: int | None = None, **settings: Any
) -> Cache:
    """Build a cache whose clock stands still; `settings` are fields of `Settings`.

    `limit_pages` is a memory limit in slab pages, lower than a server could be started with.
    """
    cache = Cache(Settings(**settings), clock or ManualClock())
    if limit_pages is not None:
        cache.slabs.limit_bytes = limit_pages * MEBIBYTE
    return cache


class TimedCache:
    """A cache together with its clock."""

    def __init__(self, **settings: Any) -> None:
        self.clock = ManualClock()
        self.cache = make_cache(self.clock, **settings)

    def advance(self, seconds: float) -> None:
        """Let time pass, and let the cache know."""
        self.clock.advance(seconds)
        self.cache.tick()

    def set(self, key: bytes, value: bytes = b"v", exptime: int = 0, client_flags: int = 0) -> None:
        """Store by the general path, which must succeed."""
        expires_at = self.cache.expiry.expires_at(exptime)
        assert not self.cache.store(StoreMode.SET, key, value, client_flags, expires_at)


def keys(segment: Segment) -> list[bytes]:
    """Return the keys of a segment, newest first."""
    return [item.key for item in segment]


def photograph(cache: Cache) -> dict[str, Any]:
    """Return everything that two caches must have in common to be in the same state."""
    return {
        "items": {
            item.key: (
                item.value,
                item.client_flags,
                item.expires_at,
                item.cas_unique,
                item.access,
                tuple(each.id for each in item.chunk_classes),
            )
            for item in cache.items()
        },
        "segments": [
            [
                (segment.kind, segment.head and keys(segment), segment.bytes, segment.hits)
                for segment in each.segments
            ]
            for each in cache.slabs
        ],
        "classes": [
            (each.id, each.pages, each.free_chunks, *_class_counters(each)) for each in cache.slabs
        ],
        "counters": {name: getattr(cache.counters, name) for name in cache.counters.__slots__},
        "cache": (
            cache.now,
            cache.item_count,
            cache.item_bytes,
            cache.total_items,
            cache.cas_unique,
            cache.expiry.due(),
            cache.expiry.next_due(),
            cache.slabs.malloced_bytes,
            cache.slabs.free_pages,
        ),
    }
