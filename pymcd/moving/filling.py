"""`Fill`: which items of another server become ours, while clients are served.

Clients come first. What they stored stays, whatever the other server has under that key; and what
they have deleted, or stored and let end, must not come back as it was before. So from before the
first client until the fill is over, each key is noted that has no item any more, and each that was
deleted though it had none yet. The keys that have an item need no note.

A fill is over when clients flush everything, as that is older than what they flushed; when memory
is full, as what comes then is longer unused than what it would displace; and when there are more
keys to be noted than there is room for.

Each step is synchronous, and so a transaction: nobody deletes between the look and the storing. To
the cache it is one more client, and an observer hears of it: that is how a pair's other nodes get
what is filled here. Only the node that decides may fill; it alone sees what all clients delete.
"""

from __future__ import annotations

from collections import Counter
from enum import StrEnum
from typing import TYPE_CHECKING, Final

from .. import limits
from ..store import Status, StoreMode
from ..store.item import key_marks
from .source import NEVER

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..store import Cache
    from .source import Fetched

#: Keys noted at most, which takes about 100 MB.
GONE_MAX: Final = 1_000_000
_FULL: Final = "memory is full"


class Outcome(StrEnum):
    """What became of an item."""

    FILLED = "filled"
    THERE = "stored by clients"
    GONE = "deleted by clients"
    OVER = "ended"
    TOO_LARGE = "too large (-I)"
    NO_ROOM = "without room"


class Stage(StrEnum):
    """How far a fill has come."""

    LISTING = "listing"
    FILLING = "filling"
    DONE = "done"
    STOPPED = "stopped"  #: what was still to come may not be filled any more
    SHORT = "short"  #: it did not come to its end: perhaps not everything is here
    LEFT = "left"  #: to the node that coordinates

    @property
    def under_way(self) -> bool:
        """Whether there is more to come."""
        return self in (Stage.LISTING, Stage.FILLING)


class Fill:
    """Takes in items of another server. `end` it: until then, keys are noted."""

    def __init__(
        self, cache: Cache, *, was_deleted: Callable[[bytes], bool], gone_max: int = GONE_MAX
    ) -> None:
        """`was_deleted` tells what is known of keys deleted on other nodes."""
        self._cache = cache
        self._was_deleted = was_deleted
        self._gone_max = gone_max
        self._gone: set[bytes] = set()
        self._flushes = cache.horizon.number
        self._clears = cache.clears
        self._evicted = self._evictions()
        self._why_over = ""
        self.outcomes: Counter[Outcome] = Counter()
        cache.on_gone = self._note_gone

    def _evictions(self) -> int:
        return sum([slab_class.evicted for slab_class in self._cache.slabs])

    def _note_gone(self, key: bytes) -> None:
        gone = self._gone
        gone.add(key)
        if len(gone) > self._gone_max:
            linked = self._cache.linked
            self._gone = {key for key in gone if linked(key) is None}
            if len(self._gone) > self._gone_max // 2:
                self._stop("clients delete too many keys")

    def _stop(self, why: str) -> None:
        self._why_over = self._why_over or why
        self.end()

    @property
    def why_over(self) -> str:
        """Why nothing more may be filled, in words; empty: it may."""
        cache = self._cache
        if not self._why_over:
            if cache.horizon.number != self._flushes or cache.clears != self._clears:
                self._stop("clients flushed everything")
            elif self._evictions() > self._evicted:
                self._stop(_FULL)
        return self._why_over

    @property
    def ended(self) -> bool:
        """Whether it is known already that nothing more may be filled."""
        return bool(self._why_over)

    def end(self) -> None:
        """Note no more keys."""
        self._cache.on_gone = None
        self._gone = set()
        self._why_over = self._why_over or "it has ended"

    def take(self, item: Fetched) -> Outcome:
        """Store an item, if that is right; the next one is to be one that was used before it."""
        outcome = self._take(item)
        self.outcomes[outcome] += 1
        return outcome

    def _take(self, item: Fetched) -> Outcome:
        cache = self._cache
        key, value, client_flags, ttl, unix_end = item
        assert not self._why_over, "keys were not noted"
        if cache.linked(key) is not None:  # be it dead: that is how a client let it end
            return Outcome.THERE
        if key in self._gone or self._was_deleted(key):
            return Outcome.GONE
        if ttl != NEVER and ttl <= 0:
            return Outcome.OVER
        if not cache.fits(key, len(value), client_flags):
            return Outcome.TOO_LARGE
        expires_at = 0 if ttl == NEVER else cache.now + min(ttl, limits.UINT32_MAX)
        if unix_end:
            expires_at = cache.expiry.expires_at(unix_end)
        status = cache.store(StoreMode.ADD, key, value, client_flags, expires_at)
        stored = cache.linked(key)
        if status is not Status.STORED or stored is None:
            self._stop(_FULL)
            return Outcome.NO_ROOM
        marks = key_marks(key)
        if marks:
            cache.mark(stored, marks)
        cache.demote(stored)
        return Outcome.FILLED
