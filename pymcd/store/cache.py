"""The store: what `add`, `cas` and `incr` mean.

`Cache` ties the parts together: 256 hash tables of items, slab accounting, the segmented LRU
and expiry. Every method is one synchronous step and thereby a transaction. All three protocols
speak to it in the words of `Status` and `StoreMode`; it knows none of them.

Why 256 tables: one dict that grows stops the world to resize, 133 ms at 2.8 million keys;
spread over 256 no resize takes 2 ms. Each table is also one slice of work for the crawler.

As in memcached, dead items (expired, flushed) stay until somebody meets them: a command, the
tail of the LRU, or the crawler.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import partial
from io import SEEK_END, BytesIO
from sys import getsizeof
from typing import TYPE_CHECKING, Final, Protocol

from .. import limits
from .expiry import CLOCK_START_S, Expiry, FlushHorizon
from .item import (
    ACTIVE,
    COLD,
    FETCHED,
    HOT,
    MARK_BITS,
    MARKS_MASK,
    SHARED_MARKS,
    STALE,
    UNSPEAKABLE,
    WIN_SENT,
    ChunkedItem,
    FlaggedItem,
    Item,
    Segment,
    SlabClass,
    State,
    StatePool,
)
from .lru import Lru
from .slabs import Slabs
from .status import Lookup, Status, StoreMode

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from ..clock import Clock
    from ..config import Settings


class Listener(Protocol):
    """Hears what single commands look up, store and delete: for those who watch.

    There is one only while somebody does. It hears nothing of what no command asks for: of items
    from another server, or dead ones that the crawler met. # memcached: LOGGER_LOG in items.c
    """

    def looked_up(self, key: bytes, lookup: Lookup, item: Item | None) -> None:
        """A command looked for an item; this is what it found, if anything."""

    def storing(self, key: bytes) -> None:
        """A value is about to come, or to be refused for its size."""

    def stored(
        self,
        mode: StoreMode,
        key: bytes,
        status: Status,
        value_bytes: int,
        expires_at: int,
        slab_class: SlabClass | None,
    ) -> None:
        """A value was stored, or not: see `status`."""

    def deleted(self, item: Item) -> None:
        """A command deletes an item, or what is in it."""


class Observer(Protocol):
    """Hears of every change of the items, from whichever protocol it came: replication.

    Called within the step that makes the change. What merely ends is told apart from what was
    deleted: expiry and eviction are no news for another server.
    """

    def changed(self, item: Item) -> None:
        """An item was stored or got a new value, and with it a new cas unique."""

    def expect_large(self) -> None:
        """What is about to be told of has a value of several chunks."""

    def expect_altered(self, item: Item) -> None:
        """An item of several chunks is about to change; it keeps its value, or that grows."""

    def grown(self, old: Item, item: Item, mode: StoreMode, value: bytes) -> None:
        """An item with more around that value has taken the place of one of several chunks."""

    def altered(self, item: Item) -> None:
        """An item changed in another way: its end or its marks."""

    def recast(self, item: Item, before: int) -> None:
        """An item got a cas unique of a client's choice in the place of the one before."""

    def deleted(self, key: bytes) -> None:
        """A key was deleted; its item is unlinked, if there was one here."""

    def unlinked(self, item: Item) -> None:
        """An item is gone for any reason: replaced, deleted, expired, evicted."""

    def flushed(self, cas_unique: int) -> None:
        """All items with a smaller version are dead."""

    def flush_due(self, expires_at: int) -> None:
        """A flush is to happen in the future; the observer will call `flush_at` then."""


TABLES: Final = 256
#: Cleared away, and disposed of in one step: about half a millisecond.
DISPOSED_ITEMS: Final = 1000
_TABLE_MASK: Final = TABLES - 1

#: What an item costs in CPython beyond its key and value, in bytes, for
#: `-o memory_accounting=resident`: item 80, cas unique 32, its share of a hash table 27-54,
#: headers and rounding of the two bytes objects 2 * (33 + 8), allocator 8. Measured in bench/.
RESIDENT_OVERHEAD_BYTES: Final = 248
#: ... and for client flags: a larger item 16, the number 32. For an end, see `expiry`.
RESIDENT_CLIENT_FLAGS_BYTES: Final = 48

#: What an entry of a hash table takes, about: for PyPy, which does not tell.
TABLE_ENTRY_BYTES: Final = 48

#: An unflat LRU moves an item to the head at most this often. # memcached: ITEM_UPDATE_INTERVAL
FLAT_BUMP_INTERVAL_S: Final = 60
#: Of states that items are fetched in, so many are known to lead to others.
BUMPED_MAX: Final = 4096
#: Evictions tried before an allocation fails. # memcached: do_item_alloc_pull
ALLOCATION_TRIES: Final = 10
#: What `stats settings` shows as temporary_ttl until one is set. # memcached: settings_init
TEMPORARY_TTL_DEFAULT_S: Final = 61

#: A smaller value is copied when something is appended: that is faster.
_GROWN_MIN_BYTES: Final = 64 << 10

_INT64_MAX: Final = (1 << 63) - 1
#: What C reads as a number of 64 bits: it ends with the value, a NUL or white space.
_C_NUMBER: Final = re.compile(
    rb"[ \t\n\v\f\r]*+([+-]?+)(?=\d)0*+(\d{0,20}+)(?=[\0 \t\n\v\f\r]|\Z)"
).match

_ACTIVE_OR_UNSPEAKABLE: Final = ACTIVE | UNSPEAKABLE

# Members bound to plain names: looking one up on an Enum costs as much as a dict lookup.
_STORED = Status.STORED
_FOUND, _NOT_FOUND = Lookup.FOUND, Lookup.NOT_FOUND
_EXPIRED, _FLUSHED = Lookup.EXPIRED, Lookup.FLUSHED
_SET, _ADD, _CAS = StoreMode.SET, StoreMode.ADD, StoreMode.CAS
_APPEND, _PREPEND = StoreMode.APPEND, StoreMode.PREPEND


def table_of(key: bytes) -> int:
    """Return in which of the tables a key is."""
    return hash(key) & _TABLE_MASK


@dataclass(slots=True)
class Counters:
    """What is counted beside the slab classes; `stats reset` replaces the whole object."""

    cas_misses: int = 0
    decr_misses: int = 0
    delete_misses: int = 0
    flush_cmds: int = 0
    get_expired: int = 0
    get_flushed: int = 0
    get_misses: int = 0
    incr_misses: int = 0
    store_no_memory: int = 0
    store_too_large: int = 0
    touch_cmds: int = 0
    touch_misses: int = 0


def _join(mode: StoreMode, old: Item, value: bytes) -> bytes:
    """Return what append or prepend makes of an unlinked item, which may lose its own value."""
    if len(old.value) < _GROWN_MIN_BYTES:
        return old.value + value if mode is _APPEND else value + old.value
    return take_grown(old, [value], []) if mode is _APPEND else take_grown(old, [], [value])


def take_grown(item: Item, appended: Sequence[bytes], prepended: Sequence[bytes]) -> bytes:
    """Return what becomes of a large value, each in the order in which it came.

    A copy of 100 MB takes a tenth of a second. So the value is taken from its item, which is
    unlinked, and grows where it lies; if somebody else still looks at it, the buffer makes a copy
    after all. The item has its value still if there is no memory to grow.
    """
    old_bytes = len(item.value)
    buffer = BytesIO(item.value)
    item.value = b""
    buffer.seek(0, SEEK_END)
    try:
        buffer.writelines(appended)
        length = buffer.tell()
        buffer.writelines(prepended)
    except BaseException:
        item.value = buffer.getvalue()[:old_bytes]
        raise
    if prepended:
        with buffer.getbuffer() as view:
            at = len(view) - length
            view[at:] = view[:length]
            for piece in prepended:
                at -= len(piece)
                view[at : at + len(piece)] = piece
    return buffer.getvalue()


class Cache:
    """All items of one server."""

    # Hot path: bench/ "get16", "set16". Of an object with more than 30 attributes in a dictionary
    # CPython finds each by its hash, and a method anew for each call.
    __slots__ = (
        "__dict__",  # so that tests can replace methods
        "_bumped",
        "_careful",
        "_cas_step",
        "_choosy",
        "_chunk_max_bytes",
        "_client_flags_bytes",
        "_discarded",
        "_first_segment",
        "_flushing",
        "_fresh_access",
        "_started_at",
        "_states",
        "_tables",
        "cas_unique",
        "clears",
        "clock",
        "counters",
        "expiry",
        "horizon",
        "item_bytes",
        "item_count",
        "links",
        "listener",
        "lru",
        "now",
        "observer",
        "on_evict",
        "on_gone",
        "on_second",
        "overhead_bytes",
        "slabs",
        "started",
        "temporary_lru",
        "temporary_ttl_s",
        "total_items",
        "use_cas",
    )

    def __init__(self, settings: Settings, clock: Clock) -> None:
        self.clock = clock
        self._started_at = clock.monotonic()
        self.now = CLOCK_START_S  #: seconds since the start, plus CLOCK_START_S
        self.started = CLOCK_START_S  #: the start itself, by `now`
        self.expiry = Expiry()
        self.horizon = FlushHorizon()
        self._flushing = False  #: the horizon is active: items met must be compared with it
        self.listener: Listener | None = None
        self._careful = False  #: every item met must be looked at closer, for one of these reasons
        self.counters = Counters()
        self.use_cas = not settings.disable_cas
        self.cas_unique = 0  #: the last one given out
        self._cas_step = 1 if self.use_cas else 0
        self.observer: Observer | None = None
        self.item_count = 0
        self.item_bytes = 0  #: as memcached counts them: `bytes`
        self.total_items = 0
        self.links = 0  #: items so far, but for those that `set` put in the place of their like
        self.temporary_ttl_s = TEMPORARY_TTL_DEFAULT_S
        self.overhead_bytes = (
            limits.ITEM_HEADER_BYTES
            + limits.ITEM_KEY_END_BYTES
            + limits.ITEM_VALUE_END_BYTES
            + (limits.ITEM_CAS_BYTES if self.use_cas else 0)
        )
        self._client_flags_bytes = limits.ITEM_CLIENT_FLAGS_BYTES
        if settings.memory_accounting == "resident":
            self.overhead_bytes = RESIDENT_OVERHEAD_BYTES
            self._client_flags_bytes = RESIDENT_CLIENT_FLAGS_BYTES
        self.slabs = Slabs(settings)
        if settings.memory_accounting == "resident":
            self.slabs.beside_bytes = self.expiry.resident_bytes
        self._chunk_max_bytes = self.slabs.chunk_max_bytes
        self._tables: list[dict[bytes, Item]] = [{} for _ in range(TABLES)]
        #: Of items that were cleared away, until they are disposed of; and how often that was.
        self._discarded: list[dict[bytes, Item]] = []
        self.clears = 0
        self._states = StatePool()
        #: What becomes of a state by a fetch in this second, as far as somebody asked.
        self._bumped: dict[State, State] = {}
        self._fresh_access = 0  #: `access` of an item linked now
        #: Called when a tick brings a new second: there is activity, so maintenance is due.
        self.on_second: Callable[[], None] = lambda: None
        #: Called with each item that is about to be evicted alive.
        self.on_evict: Callable[[Item], None] = lambda item: None
        #: Called with each key that has no item any more, for whatever reason, and with each that
        #: was deleted though it had none. None: nobody has to know.
        self.on_gone: Callable[[bytes], None] | None = None
        self.lru = Lru(
            settings,
            is_dead=self.is_dead,
            is_flushing=lambda: self._flushing,
            remove=self.unlink,
            move=self._move,
            now=lambda: self.now,
            on_evict=lambda item: self.on_evict(item),
            states=self._states,
        )
        self.temporary_lru = False
        self.set_segmented(settings.lru_segmented)
        self.set_temporary_ttl(settings.temporary_ttl_s)
        self._set_now(self.now)

    # -- what operators switch -------------------------------------------------------------

    def set_segmented(self, segmented: bool) -> None:
        """Have new items begin in HOT and work their way through the segments, or stay in COLD."""
        self.lru.segmented = segmented
        self._first_segment = HOT if segmented else COLD
        self._bumped.clear()
        self._set_choosy()

    def set_temporary_ttl(self, ttl_s: int | None) -> None:
        """Have new items that end within so many seconds begin in TEMP; None: none of them."""
        self.temporary_lru = ttl_s is not None
        if ttl_s is not None:
            self.temporary_ttl_s = ttl_s
        self._set_choosy()

    def _set_choosy(self) -> None:
        """Take note whether a new item needs more than the next chunk and its usual segment: it
        may begin in TEMP; without segments each allocation looks at the tail first.
        """
        self._choosy = self.temporary_lru or not self.lru.segmented

    # -- time ------------------------------------------------------------------------------

    def tick(self) -> None:
        """Read the clock. All that follows, until the next tick, happens in one second."""
        now = int(self.clock.monotonic() - self._started_at) + CLOCK_START_S
        if now != self.now:
            self._set_now(now)
            self.on_second()

    def count_from(self, monotonic_s: float) -> None:
        """Count seconds from that moment on, and not from the start: the clock may go back to it.

        Before anything is stored.
        """
        self._started_at = monotonic_s
        self._set_now(int(self.clock.monotonic() - monotonic_s) + CLOCK_START_S)
        self.started = self.now

    def seconds_of(self, monotonic_s: float) -> float:
        """Return what the cache's clock would show, were it not in whole seconds."""
        return monotonic_s - self._started_at + CLOCK_START_S

    def _set_now(self, now: int) -> None:
        self.now = now
        self._fresh_access = now << MARK_BITS
        self._bumped.clear()
        self.expiry.tick(now, self.clock.realtime() - now)
        self._set_careful()

    def _set_careful(self) -> None:
        """Take note whether items that are met may need more than to be handed out."""
        self._flushing = self.horizon.active(self.now)
        self._careful = self._flushing or self.listener is not None

    def listen(self, listener: Listener | None) -> None:
        """Tell a listener of what commands do from now on; None: nobody wants to know."""
        self.listener = listener
        self._set_careful()

    def is_dead(self, item: Item) -> bool:
        """Return whether an item is expired or flushed, though still linked."""
        expires_at = item.state[1]
        return (0 < expires_at <= self.now) or (self._flushing and self.horizon.covers(item))

    # -- reading ---------------------------------------------------------------------------

    def get(self, key: bytes) -> Item | None:
        """Fetch an item: counts a hit or a miss, and marks the item as read."""
        # Hot path: bench/ "get16".
        item = self._tables[hash(key) & _TABLE_MASK].get(key)
        if item is not None:
            segment, expires_at, access = item.state
            if (expires_at and expires_at <= self.now) or self._careful:
                item = self._look_closer(item)
            if item is not None:
                segment.hits += 1  # type: ignore[union-attr]  # it is linked
                if not access & ACTIVE:
                    self.bump(item)
                return item
        elif self.listener is not None:
            self.listener.looked_up(key, _NOT_FOUND, None)
        self.counters.get_misses += 1
        return None

    def hit(self, key: bytes) -> Item | None:
        """Like `get` for a key cut from a text command unchecked: None means "look closer".

        If an item with just these bytes is there, and no other protocol put it there with a key
        that text cannot say, then the command was well formed.
        """
        # Hot path: bench/ "get16".
        item = self._tables[hash(key) & _TABLE_MASK].get(key)
        if item is None or self._careful:
            return None
        segment, expires_at, access = item.state
        if expires_at and expires_at <= self.now:
            return None
        if access & _ACTIVE_OR_UNSPEAKABLE != ACTIVE:
            if access & UNSPEAKABLE:
                return None
            self.bump(item)
        # A hit counts for the segment in which the item was found.
        segment.hits += 1  # type: ignore[union-attr]  # it is linked
        return item

    def find_several(self, keys: list[bytes]) -> list[Item] | None:
        """Return the living ones of several items, and change nothing; None means "look closer".

        As with `hit`, nobody may be listening. `hit_several` is to follow.
        """
        # Hot path: bench/ "multiget".
        if self._careful:
            return None
        tables = self._tables
        now = self.now
        items: list[Item] = []
        for key in keys:
            item = tables[hash(key) & _TABLE_MASK].get(key)
            if item is not None:
                expires_at = item.state[1]
                if expires_at and expires_at <= now:
                    return None
                items.append(item)
        return items

    def hit_several(self, items: list[Item], misses: int) -> None:
        """Count hits of items that were just found, mark these as read, and count misses."""
        # Hot path: bench/ "multiget".
        for item in items:
            segment, _, access = item.state
            segment.hits += 1  # type: ignore[union-attr]  # it is linked
            if not access & ACTIVE:
                self.bump(item)
        self.counters.get_misses += misses

    def peek(self, key: bytes) -> Item | None:
        """Return a living item without marking it; a dead one is reclaimed and counted."""
        item = self._tables[hash(key) & _TABLE_MASK].get(key)
        if item is not None:
            return self._look_closer(item)
        if self.listener is not None:
            self.listener.looked_up(key, _NOT_FOUND, None)
        return None

    def inspect(self, key: bytes) -> Item | None:
        """Return a living item, and change nothing at all, nor tell anybody."""
        item = self._tables[hash(key) & _TABLE_MASK].get(key)
        return None if item is None or self.is_dead(item) else item

    def _look_closer(self, item: Item) -> Item | None:
        """Return an item that a command met, if it is alive; else it is reclaimed and counted."""
        # memcached: do_item_get
        if self._flushing and self.horizon.covers(item):
            if self.horizon.removed(item):
                lookup = _NOT_FOUND
            else:
                self.counters.get_flushed += 1
                lookup = _FLUSHED
        elif 0 < item.expires_at <= self.now:
            self.counters.get_expired += 1
            lookup = _EXPIRED
        else:
            lookup = _FOUND
        found = item if lookup is _FOUND else None
        if found is None:
            self.unlink(item)
        if self.listener is not None:
            self.listener.looked_up(item.key, lookup, found)
        return found

    def bump(self, item: Item) -> None:
        """Mark a fetch. # memcached: do_item_bump

        The first sets FETCHED, the second ACTIVE: only then does it count as used, and leaves
        COLD for WARM.
        """
        # Hot path: bench/ "get16". Twice for each item that was stored, and for each that is moved.
        state = item.state
        after = self._bumped.get(state)
        if after is None:
            if not self.lru.segmented:
                self._bump_flat(item)
                return
            after = self._after_bump(state)
        if after[0] is state[0]:
            item.state = after
        else:
            self._leave_cold(item, after)

    def _bump_flat(self, item: Item) -> None:
        item.mark(FETCHED, self._states)
        if item.last_access < self.now - FLAT_BUMP_INTERVAL_S:
            self._touch_access(item)
            item.segment.to_head(item)  # type: ignore[union-attr]

    def _after_bump(self, state: State) -> State:
        """Return the state of an item that was fetched in another one, and keep it for others."""
        segment, expires_at, access = state
        if access & FETCHED:
            after = self._after_access(state, ACTIVE)
        else:
            after = self._states.of(segment, expires_at, access | FETCHED)
        if len(self._bumped) >= BUMPED_MAX:
            self._bumped.clear()
        self._bumped[state] = after
        return after

    def _after_access(self, state: State, marks: int = 0) -> State:
        """Return the state of an item that was accessed in another one, and perhaps so marked.

        One that is ACTIVE leaves COLD.
        """
        # memcached: do_item_update. It queues this for the maintainer; a move costs us no lock.
        segment, expires_at, access = state
        assert segment is not None
        access = self._fresh_access | (access & MARKS_MASK) | marks
        if access & ACTIVE and segment.kind == COLD:
            return self._states.of(segment.slab_class.warm, expires_at, access & ~ACTIVE)
        return self._states.of(segment, expires_at, access)

    def _promote(self, item: Item) -> None:
        """Take note of an access, and have an item leave COLD that is ACTIVE."""
        after = self._after_access(item.state)
        if after[0] is item.segment:
            item.state = after
        else:
            self._leave_cold(item, after)

    def _leave_cold(self, item: Item, after: State) -> None:
        warm = after[0]
        assert warm is not None
        warm.slab_class.moves_to_warm += 1
        self._move(item, warm, after)

    def _touch_access(self, item: Item) -> None:
        segment, expires_at, access = item.state
        item.state = self._states.of(
            segment, expires_at, self.now << MARK_BITS | (access & MARKS_MASK)
        )

    def touch(self, key: bytes, expires_at: int) -> Item | None:
        """Set a new end for an item, and mark it as read; None: not found. Counts both ways."""
        item = self.peek(key)
        self.counters.touch_cmds += 1
        if item is None:
            self.counters.touch_misses += 1
            return None
        self.bump(item) if not item.access & ACTIVE else None
        item.segment.slab_class.touch_hits += 1  # type: ignore[union-attr]
        self.set_expires_at(item, expires_at)
        return item

    def set_expires_at(self, item: Item, expires_at: int) -> None:
        """Change the end of a linked item."""
        segment, before, access = item.state
        if before:
            self.expiry.discard(before)
        if expires_at:
            self.expiry.add(expires_at)
        item.state = self._states.of(segment, expires_at, access)
        if self.observer is not None:
            self.observer.altered(item)

    def _fresh_state(self, segment: Segment, expires_at: int) -> State:
        """Return the state of an item that is linked now."""
        # Hot path: bench/ "set16".
        if expires_at:
            return self._states.of(segment, expires_at, self._fresh_access)
        if segment.fresh[2] is not self._fresh_access:
            segment.fresh = (segment, 0, self._fresh_access)
        return segment.fresh

    # -- storing ---------------------------------------------------------------------------

    def fits(self, key: bytes, value_bytes: int, client_flags: int) -> bool:
        """Return whether `-I` allows an item with a value of that length."""
        return self._item_bytes(len(key), value_bytes, client_flags) <= (
            self.slabs.item_size_max_bytes
        )

    def admit(self, mode: StoreMode, key: bytes, value_bytes: int, client_flags: int) -> bool:
        """Return whether a value may come that `store` is to store; False: it is refused.

        Then a set takes the old value away all the same: that is the caller's to do, by `drop`.
        """
        # memcached: process_update_command
        if self.listener is not None:
            self.listener.storing(key)
        # Hot path: bench/ "set16". `fits`, without the call.
        size = self._item_bytes(len(key), value_bytes, client_flags)
        if size <= self.slabs.item_size_max_bytes:
            return True
        self._note_refusal(mode, key, Status.TOO_LARGE)
        return False

    def _refuse(self, mode: StoreMode, key: bytes, status: Status) -> Status:
        """Refuse a value for which there is no room, by `-I` or by `-m`.

        A set deletes the old value: its sender believes it replaced.
        """
        self._note_refusal(mode, key, status)
        if mode is _SET:
            self.drop(key)
        return status

    def _note_refusal(self, mode: StoreMode, key: bytes, status: Status) -> None:
        """Account for a value for which there is no room."""
        if status is Status.TOO_LARGE:
            self.counters.store_too_large += 1
        else:
            self.counters.store_no_memory += 1
        if self.listener is not None:
            self.listener.stored(mode, key, status, 0, 0, None)

    def drop(self, key: bytes) -> None:
        """Delete a key without counting that, here and wherever it may be."""
        item = self.peek(key)
        if item is not None:
            self.remove(item)
        else:
            self._deleted_nothing(key)

    def _deleted_nothing(self, key: bytes) -> None:
        """Tell of a deletion of what is not here. Elsewhere it may be: eviction is local."""
        if self.on_gone is not None:
            self.on_gone(key)
        if self.observer is not None:
            self.observer.deleted(key)

    def refuse_block(self, key: bytes, value_bytes: int) -> None:
        """Account for a value that was sent with a wrong end: a set that came to nothing."""
        slab_class = self.slabs.class_for(self._item_bytes(len(key), value_bytes, 0))
        if slab_class is not None:
            slab_class.set_cmds += 1

    def set(self, key: bytes, value: bytes, expires_at: int, client_flags: int = 0) -> bool:
        """Store a value whatever is there; False: nothing is done, and `store` must do it.

        Does what needs no decision: a new key, or an item of the same shape and slab class, while
        that class has chunks to spare.
        """
        # Hot path: bench/ "set16".
        if self._careful or self._choosy:
            return False
        table = self._tables[hash(key) & _TABLE_MASK]
        item = table.get(key)
        if item is None:
            size = self._item_bytes(len(key), len(value), client_flags)
            slab_class = self.slabs.class_for(size)
            if slab_class is None or not slab_class.free_chunks or size > self._chunk_max_bytes:
                return False
            slab_class.free_chunks -= 1
            self.cas_unique = cas_unique = self.cas_unique + self._cas_step
            if client_flags:
                item = FlaggedItem(key, value, cas_unique, client_flags)
            else:
                item = Item(key, value, cas_unique)
            segment = slab_class.segments[self._first_segment]
            segment.link(item, self._fresh_state(segment, expires_at))
            segment.bytes += size
            table[key] = item
            if expires_at:
                self.expiry.add(expires_at)
            self.item_count += 1
            self.links += 1
            self.item_bytes += size
        else:
            segment, ends_at, _ = item.state  # type: ignore[assignment]  # it is linked
            slab_class = segment.slab_class
            if (
                type(item) is not (FlaggedItem if client_flags else Item)
                or not slab_class.free_chunks
                or (ends_at and ends_at <= self.now)
            ):
                return False
            grown = len(value) - len(item.value)
            if grown:
                size = self._item_bytes(len(key), len(value), client_flags)
                if not slab_class.smallest_bytes <= size <= slab_class.chunk_size_bytes:
                    return False
                segment.bytes += grown
                self.item_bytes += grown
            if ends_at != expires_at:
                if ends_at:
                    self.expiry.discard(ends_at)
                if expires_at:
                    self.expiry.add(expires_at)
            item.value = value
            if client_flags:
                item.client_flags = client_flags  # type: ignore[misc]  # it is a FlaggedItem
            if segment.kind != self._first_segment:
                first = slab_class.segments[self._first_segment]
                segment.pass_on(item, first, self._fresh_state(first, expires_at))
                size = self.overhead_bytes + len(key) + len(value)
                if client_flags:
                    size += self._client_flags_bytes
                segment.bytes -= size
                first.bytes += size
            else:
                if segment.head is not item:
                    segment.to_head(item)
                state = segment.fresh
                if expires_at or state[2] is not self._fresh_access:
                    state = self._fresh_state(segment, expires_at)
                item.state = state
            self.cas_unique = item.cas_unique = self.cas_unique + self._cas_step
        slab_class.set_cmds += 1
        self.total_items += 1
        if self.observer is not None:
            self.observer.changed(item)
        return True

    def store(
        self,
        mode: StoreMode,
        key: bytes,
        value: bytes,
        client_flags: int = 0,
        expires_at: int = 0,
        cas_compare: int = 0,
        *,
        vivify: bool = False,
    ) -> Status:
        """Store a value. `cas_compare` other than 0 demands that cas unique of what is there;
        with SET, ADD and REPLACE it means nothing, as in memcached. With `vivify` what is to be
        appended or prepended is stored if nothing is there.

        STORED; NOT_STORED (add on an existing key, others on a missing one); EXISTS (cas
        unique differs); NOT_FOUND (cas on a missing key); TOO_LARGE; NO_MEMORY;
        NO_MEMORY_READING.
        """
        # Hot path: bench/ "set16".
        size = self.overhead_bytes + len(key) + len(value)
        if client_flags:
            size += self._client_flags_bytes
        slab_class = self.slabs.class_for(size)
        if slab_class is None:
            return self._refuse(mode, key, Status.TOO_LARGE)
        chunks = self._allocate(slab_class, size, len(value))
        if chunks == ():
            return Status.NO_MEMORY_READING
        if chunks is None:
            return self._refuse(mode, key, Status.NO_MEMORY)
        slab_class.set_cmds += 1
        old = self._tables[hash(key) & _TABLE_MASK].get(key)
        if old is not None:
            if old.expires_at or self._careful:
                old = self._look_closer(old)
        elif self.listener is not None:
            self.listener.looked_up(key, _NOT_FOUND, None)
        status = _STORED
        if mode is not _SET or cas_compare:
            status = self._precondition(mode, old, cas_compare)
            if vivify and old is None:
                status = _STORED
        if status is _STORED and (old is None or (mode is not _APPEND and mode is not _PREPEND)):
            if old is not None:
                self.unlink(old)
            self._link(key, value, client_flags, expires_at, chunks, size)
        else:
            self._free(chunks)
            if status is _STORED:
                assert old is not None
                length = len(old.value) + len(value)
                if self.observer is not None and old.chunk_classes:
                    self.observer.expect_altered(old)
                new = self._replace_value(old, length, partial(_join, mode, old, value))
                if new is None:
                    status = Status.NOT_STORED
                else:
                    if self.observer is not None and old.chunk_classes:
                        self.observer.grown(old, new, mode, value)
                    assert new.segment is not None
                    value, expires_at = new.value, new.expires_at
                    slab_class = new.segment.slab_class
        if status is not _STORED and self.observer is None:
            self.take_cas_unique()  # memcached gives one to whatever is tried
        if self.listener is not None:
            self.listener.stored(mode, key, status, len(value), expires_at, slab_class)
        return status

    def _precondition(self, mode: StoreMode, old: Item | None, cas_compare: int) -> Status:
        # memcached: do_store_item
        if old is None:
            if mode is _CAS:
                self.counters.cas_misses += 1
                return Status.NOT_FOUND
            return _STORED if mode is _SET or mode is _ADD else Status.NOT_STORED
        if mode is _ADD:
            self._promote(old)
            return Status.NOT_STORED
        if mode is _CAS:
            assert old.segment is not None
            if cas_compare == 0 or cas_compare != old.cas_unique:
                old.segment.slab_class.cas_badval += 1
                return Status.EXISTS
            old.segment.slab_class.cas_hits += 1
        elif (
            (mode is _APPEND or mode is _PREPEND) and cas_compare and cas_compare != old.cas_unique
        ):
            return Status.EXISTS
        return _STORED

    def _replace_value(
        self, old: Item, length: int, make_value: Callable[[], bytes]
    ) -> Item | None:
        """Give an item another value, of that length; None: there is no room for it.

        It is made when it is sure that the old one is not needed any more.
        """
        size = self._item_bytes(len(old.key), length, old.client_flags)
        slab_class = self.slabs.class_for(size)
        if slab_class is None:
            return None
        chunks = self._allocate(slab_class, size, length)
        if not chunks:
            return None
        unspeakable = old.access & UNSPEAKABLE
        if old.linked:  # making room may have evicted it
            self.unlink(old)
        try:
            value = make_value()
        except MemoryError:  # the system has none: the item is gone, and nothing is in its place
            self._free(chunks)
            if self.observer is not None:
                self.observer.deleted(old.key)
            return None
        new = self._link(old.key, value, old.client_flags, old.expires_at, chunks, size)
        if unspeakable:
            new.mark(UNSPEAKABLE, self._states)
        return new

    def increment(
        self, item: Item | None, delta: int, *, decrement: bool = False, cas_compare: int = 0
    ) -> tuple[Status, int]:
        """Add to a decimal value, wrapping at 2**64, or subtract from it, stopping at 0.

        The item is one just looked up; None: a miss, to be counted.

        STORED and the new value; NOT_FOUND; NON_NUMERIC; EXISTS; NO_MEMORY. A result that is
        shorter than what was there is padded with blanks. # protocol.txt, "Increment/Decrement"
        """
        if item is None:
            if decrement:
                self.counters.decr_misses += 1
            else:
                self.counters.incr_misses += 1
            return Status.NOT_FOUND, 0
        if item.chunk_classes or not item.value:
            return Status.NON_NUMERIC, 0
        if cas_compare and cas_compare != item.cas_unique:
            return Status.EXISTS, 0
        number = _number(item.value)
        if number is None:
            return Status.NON_NUMERIC, 0
        assert item.segment is not None
        if decrement:
            item.segment.slab_class.decr_hits += 1
            number = max(0, number - delta)
        else:
            item.segment.slab_class.incr_hits += 1
            number = (number + delta) & limits.UINT64_MAX
        text = b"%d" % number
        if len(text) <= len(item.value):
            item.value = text.ljust(len(item.value))
            item.cas_unique = self.take_cas_unique()
            self._promote(item)
            if self.observer is not None:
                self.observer.changed(item)
        elif self._replace_value(item, len(text), lambda: text) is None:
            return Status.NO_MEMORY, 0
        return _STORED, number

    def delete(self, key: bytes, cas_compare: int = 0) -> Status:
        """Remove an item: STORED if done, NOT_FOUND, or EXISTS if its cas unique differs."""
        item = self.peek(key)
        if item is None:
            self.miss_delete(key)
            return Status.NOT_FOUND
        if cas_compare and cas_compare != item.cas_unique:
            return Status.EXISTS
        self.hit_delete(item)
        self.remove(item)
        return _STORED

    def hit_delete(self, item: Item) -> None:
        """Count a deletion; the caller removes the item, unless it emptied it."""
        assert item.segment is not None
        item.segment.slab_class.delete_hits += 1
        if self.listener is not None:
            self.listener.deleted(item)

    def miss_delete(self, key: bytes) -> None:
        """Count a deletion of what is not here."""
        self.counters.delete_misses += 1
        self._deleted_nothing(key)

    def remove(self, item: Item) -> None:
        """Delete a linked item without counting that."""
        self.unlink(item)
        if self.observer is not None:
            self.observer.deleted(item.key)

    def flush(self, exptime: int = 0) -> None:
        """Make everything stored so far dead, now or at the time that `exptime` means."""
        self.counters.flush_cmds += 1
        at = self.expiry.expires_at(exptime) if exptime > 0 else self.now
        if self.observer is not None and at - 1 > self.now:
            self.observer.flush_due(at)
        else:
            self.flush_at(at)

    def flush_at(self, at: int) -> None:
        """Do what a flush asked for, when that is due; it was counted then."""
        cas_unique = self.cas_unique
        if at - 1 <= self.now:
            # What comes next is alive. Where there are others, the flush is itself a version.
            cas_unique += self._cas_step
            if self.observer is not None:
                self.cas_unique = cas_unique
        self.horizon.set(at, now=self.now, cas_unique=cas_unique)
        self._set_careful()
        if self.observer is not None:
            self.observer.flushed(cas_unique)

    def settle_flush(self) -> None:
        """Stop comparing items with a flush of which no victim is left. For the crawler."""
        self.horizon.settle()
        self._set_careful()

    def take_cas_unique(self) -> int:
        """Return the next cas unique. 0: there are none."""
        self.cas_unique += self._cas_step
        return self.cas_unique

    def untake_cas_uniques(self, latest: int) -> None:
        """Let the next cas unique follow that one: what came since has one of a client's choice.

        memcached takes none for that. Among several servers each change has a version.
        """
        if self.observer is None:
            self.cas_unique = latest

    def raise_cas_unique(self, cas_unique: int) -> None:
        """Let the next cas unique be later than this one."""
        if cas_unique > self.cas_unique:
            self.cas_unique = cas_unique

    def replicate(self, observer: Observer, horizon: FlushHorizon, *, cas_step: int) -> None:
        """Tell an observer of all changes from now on; cas uniques get gaps of that size.

        `horizon`: what a flush covers, where there are several servers.
        """
        self.observer = observer
        self.horizon = horizon
        self._cas_step = cas_step

    # -- what meta commands do beside ------------------------------------------------------

    def create(
        self,
        key: bytes,
        value: bytes,
        client_flags: int = 0,
        expires_at: int = 0,
        *,
        mode: StoreMode | None = None,
    ) -> Item | None:
        """Link a new item whatever is there, without counting a set; None: there is no memory.

        Meta commands set its end afterwards: so does memcached, whose choice of the segment
        this is. `mode` is as what a listener hears of it; None: not at all.
        # memcached: process_mget_command, vivify; complete_incr_bin
        """
        size = self._item_bytes(len(key), len(value), client_flags)
        slab_class = self.slabs.class_for(size)
        if slab_class is None:
            return None
        chunks = self._allocate(slab_class, size, len(value))
        if not chunks:
            return None
        old = self.linked(key) if mode is None else self.peek(key)
        if old is not None:
            self.remove(old)
        item = self._link(key, value, client_flags, expires_at, chunks, size)
        if self.listener is not None and mode is not None:
            self.listener.stored(mode, key, _STORED, len(value), expires_at, slab_class)
        return item

    def store_stale(
        self, key: bytes, value: bytes, client_flags: int, expires_at: int, cas_compare: int
    ) -> Status:
        """Store as with StoreMode.CAS, but let an older cas unique win as well.

        The item then keeps its end, becomes STALE, and WIN_SENT stays if it was set.
        # protocol.txt, "Meta Set", I; memcached: do_store_item, CAS_STALE
        """
        old = self.inspect(key)
        if old is None or not 0 < cas_compare < old.cas_unique:
            return self.store(_CAS, key, value, client_flags, expires_at, cas_compare)
        marks = STALE | (old.access & WIN_SENT)
        status = self.store(_CAS, key, value, client_flags, old.expires_at, old.cas_unique)
        if status is _STORED:
            self._tables[hash(key) & _TABLE_MASK][key].mark(marks, self._states)
        return status

    def invalidate(self, item: Item) -> None:
        """Make a linked item stale: it gets a new cas unique, and the next client may win."""
        if self.observer is not None and item.chunk_classes:
            self.observer.expect_altered(item)
        item.unmark(WIN_SENT, self._states)
        item.mark(STALE, self._states)
        item.cas_unique = self.take_cas_unique()
        if self.observer is not None:
            self.observer.changed(item)

    def mark(self, item: Item, marks: int) -> None:
        """Set marks of a linked item; its time of access stays."""
        item.mark(marks, self._states)
        if marks & SHARED_MARKS and self.observer is not None:
            self.observer.altered(item)

    def set_cas_unique(self, item: Item, cas_unique: int) -> None:
        """Give a linked item the cas unique that a client wants it to have."""
        if self.use_cas:
            before, item.cas_unique = item.cas_unique, cas_unique
            if self.observer is not None:
                self.observer.recast(item, before)
            elif before == self.cas_unique:
                self.untake_cas_uniques(before - self._cas_step)

    # -- what another server stored ----------------------------------------------------------

    def install(
        self,
        key: bytes,
        value: bytes,
        client_flags: int,
        expires_at: int,
        cas_unique: int,
        marks: int,
    ) -> bool:
        """Store an item as it is elsewhere, whatever is here; False: there is no room for it.

        In that case the older item is gone, too. Our own cas uniques go on as they were.
        """
        # Hot path: bench/ "pair16".
        own, listener = self.cas_unique, self.listener
        self.cas_unique = cas_unique - self._cas_step
        self.listener = None  # no client's doing
        try:
            stored = (
                self.set(key, value, expires_at, client_flags)
                or self.store(_SET, key, value, client_flags, expires_at) is _STORED
            )
        finally:
            self.cas_unique, self.listener = own, listener
        if marks and stored:
            self._tables[hash(key) & _TABLE_MASK][key].mark(marks, self._states)
        return stored

    def overwrite(self, item: Item, value: bytes, expires_at: int, cas_unique: int) -> bool:
        """Give an item the state that it has elsewhere; False: nothing is done, `install` must.

        Without marks or client flags. The observer is not told: it is its doing.
        """
        # Hot path: bench/ "pair16". As `set` does with what is there.
        segment: Segment
        segment, ends_at, _ = item.state  # type: ignore[assignment]  # it is linked
        slab_class = segment.slab_class
        grown = len(value) - len(item.value)
        if (
            self._careful
            or self._choosy
            or type(item) is not Item
            or not slab_class.free_chunks
            or (ends_at and ends_at <= self.now)
        ):
            return False
        if grown:
            size = self.overhead_bytes + len(item.key) + len(value)
            if not slab_class.smallest_bytes <= size <= slab_class.chunk_size_bytes:
                return False
            segment.bytes += grown
            self.item_bytes += grown
        if ends_at != expires_at:
            if ends_at:
                self.expiry.discard(ends_at)
            if expires_at:
                self.expiry.add(expires_at)
        item.value = value
        if segment.kind != self._first_segment:
            first = slab_class.segments[self._first_segment]
            segment.pass_on(item, first, self._fresh_state(first, expires_at))
            size = self.overhead_bytes + len(item.key) + len(value)
            segment.bytes -= size
            first.bytes += size
        else:
            if segment.head is not item:
                segment.to_head(item)
            state = segment.fresh
            if expires_at or state[2] is not self._fresh_access:
                state = self._fresh_state(segment, expires_at)
            item.state = state
        item.cas_unique = cas_unique
        slab_class.set_cmds += 1
        self.total_items += 1
        return True

    def linked(self, key: bytes) -> Item | None:
        """Return what is linked under a key, be it dead; nothing changes."""
        return self._tables[hash(key) & _TABLE_MASK].get(key)

    def flush_before(self, version: int) -> None:
        """Make every item dead whose version is smaller, as a flush elsewhere did."""
        self.horizon.set(self.now, now=self.now, cas_unique=version)
        self._set_careful()

    def clear(self) -> None:
        """Begin with no items. The observer is not told. O(tables): the rest is `dispose`'s."""
        self._discarded += [table for table in self._tables if table]
        self._tables[:] = [{} for _ in range(TABLES)]
        for slab_class in self.slabs:
            slab_class.free_chunks = slab_class.total_chunks
            for segment in slab_class.segments:
                segment.head = segment.tail = None
                segment.count = segment.bytes = 0
        self.expiry.clear()
        self.item_count = self.item_bytes = 0
        self.clears += 1
        if self.dispose():
            self.on_second()

    def dispose(self) -> bool:
        """Give back the memory of some items that were cleared away; True: there are more."""
        discarded = self._discarded
        for _ in range(DISPOSED_ITEMS):
            while discarded and not discarded[-1]:
                discarded.pop()
            if not discarded:
                return False
            _, item = discarded[-1].popitem()
            before, after = item.prev, item.next
            if before is not None:
                before.next = after
            if after is not None:
                after.prev = before
            item.prev = item.next = None
            item.state = (None, *item.state[1:])
        return True

    # -- linking ---------------------------------------------------------------------------

    def _item_bytes(self, key_bytes: int, value_bytes: int, client_flags: int) -> int:
        size = self.overhead_bytes + key_bytes + value_bytes
        return size + self._client_flags_bytes if client_flags else size

    def size_of(self, item: Item) -> int:
        """Return what an item is charged, in bytes: `size` in a metadump."""
        return self._item_bytes(len(item.key), len(item.value), item.client_flags)

    def _link(
        self,
        key: bytes,
        value: bytes,
        client_flags: int,
        expires_at: int,
        chunks: SlabClass | tuple[SlabClass, ...],
        size: int,
    ) -> Item:
        # Hot path: bench/ "set16".
        cas_unique = self.take_cas_unique()
        item: Item
        if type(chunks) is tuple:
            item = ChunkedItem(key, value, cas_unique, client_flags, chunks)
            slab_class = self.slabs.classes[-1]
            if self.observer is not None:
                self.observer.expect_large()
        else:
            slab_class = chunks  # type: ignore[assignment]
            if client_flags:
                item = FlaggedItem(key, value, cas_unique, client_flags)
            else:
                item = Item(key, value, cas_unique)
        if self.temporary_lru and 0 <= expires_at - self.now <= self.temporary_ttl_s:
            segment = slab_class.temp
        else:
            segment = slab_class.segments[self._first_segment]
        segment.link(item, self._fresh_state(segment, expires_at))
        segment.bytes += size
        if self._flushing:
            self.horizon.spare(item)
        self._tables[hash(key) & _TABLE_MASK][key] = item
        if expires_at:
            self.expiry.add(expires_at)
        self.item_count += 1
        self.links += 1
        self.item_bytes += size
        self.total_items += 1
        if self.observer is not None:
            self.observer.changed(item)
        return item

    def unlink(self, item: Item) -> None:
        """Remove a linked item, whatever the reason, and give its chunks back."""
        segment, expires_at, access = item.state
        assert segment is not None
        key = item.key
        size = self._item_bytes(len(key), len(item.value), item.client_flags)
        segment.bytes -= size
        segment.unlink(item)
        item.state = (None, expires_at, access)
        del self._tables[hash(key) & _TABLE_MASK][key]
        if expires_at:
            self.expiry.discard(expires_at)
        self.item_count -= 1
        self.item_bytes -= size
        if item.chunk_classes:
            self._free(item.chunk_classes)
        else:
            segment.slab_class.free_chunks += 1
        if self.on_gone is not None:
            self.on_gone(key)
        if self.observer is not None:
            self.observer.unlinked(item)

    def demote(self, item: Item) -> None:
        """Put a linked item behind all others of its class: it is the first to be evicted."""
        size = self.size_of(item)
        segment, expires_at, access = item.state
        assert segment is not None
        segment.bytes -= size
        segment.unlink(item)
        cold = segment.slab_class.cold
        cold.link_last(item, self._states.of(cold, expires_at, access))
        cold.bytes += size

    def _move(self, item: Item, segment: Segment, state: State) -> None:
        """Put a linked item at the head of another segment of its class; `state` names that."""
        # Hot path: bench/ "get16", "set16".
        before = item.state[0]
        assert before is not None
        size = self.overhead_bytes + len(item.key) + len(item.value)
        # One without client flags finds them in its class, which takes ten times as long.
        if type(item) is not Item and item.client_flags:
            size += self._client_flags_bytes
        before.pass_on(item, segment, state)
        before.bytes -= size
        segment.bytes += size

    # -- memory ----------------------------------------------------------------------------

    def _allocate(
        self, slab_class: SlabClass, size: int, value_bytes: int
    ) -> SlabClass | tuple[SlabClass, ...] | None:
        """Take the chunks for an item, evicting if need be; None: there is no memory."""
        if size > self.slabs.chunk_max_bytes:
            return self._allocate_chunks(slab_class, size, value_bytes)
        if slab_class.free_chunks and self.lru.segmented:
            slab_class.free_chunks -= 1
            return slab_class
        if self._take_chunk(slab_class):
            return slab_class
        slab_class.outofmemory += 1
        return None

    def _allocate_chunks(
        self, slab_class: SlabClass, size: int, value_bytes: int
    ) -> tuple[SlabClass, ...] | None:
        """None: not even the header finds memory; (): some chunk does not."""
        data_bytes = value_bytes + limits.ITEM_VALUE_END_BYTES
        wanted = self.slabs.chunk_classes(size - data_bytes, data_bytes)
        taken: list[SlabClass] = []
        for chunk_class in wanted:
            if not self._take_chunk(chunk_class):
                # memcached falls back to a full chunk where the last, smaller one is not to
                # be had. # memcached: do_item_alloc_chunk
                chunk_class = self.slabs.classes[-1]
                if not taken:
                    slab_class.outofmemory += 1
                    return None
                if not self._take_chunk(chunk_class):
                    self._free(tuple(taken))
                    return ()
            taken.append(chunk_class)
        return tuple(taken)

    def _take_chunk(self, slab_class: SlabClass) -> bool:
        # memcached: do_item_alloc_pull
        tries = 0
        taken = False
        while tries < ALLOCATION_TRIES:
            if not self.lru.segmented:
                self.lru.pull_tail(slab_class.cold)
            taken = self.slabs.take_chunk(slab_class)
            if taken:
                break
            if not self.lru.pull_tail(slab_class.cold, evict=True):
                if not self.lru.segmented:
                    break
                self.lru.pull_tail(slab_class.hot)
            tries += 1
        slab_class.direct_reclaims += tries
        return taken

    def _free(self, chunks: SlabClass | tuple[SlabClass, ...]) -> None:
        for chunk_class in chunks if isinstance(chunks, tuple) else (chunks,):
            chunk_class.free_chunks += 1

    # -- all items -------------------------------------------------------------------------

    @property
    def tables_bytes(self) -> int:
        """What the hash tables take, without the items in them. O(TABLES)."""
        return sum(getsizeof(table, len(table) * TABLE_ENTRY_BYTES) for table in self._tables)

    def items(self) -> Iterator[Item]:
        """Yield every linked item, dead ones too. Nothing may change meanwhile."""
        for table in self._tables:
            if table:  # most are empty in a small cache, and a view of each takes time
                yield from table.values()

    def table_items(self, number: int) -> list[Item]:
        """Return the items of one of the TABLES hash tables: a slice of work for the crawler."""
        return list(self._tables[number].values())

    def table_keys(self, number: int) -> list[bytes]:
        """Return the keys in one of them, for who takes long: to hold items would hold values."""
        return list(self._tables[number])

    def reclaim(self, item: Item) -> None:
        """Remove a dead item that the crawler met. # memcached: crawler_expired_eval"""
        assert item.segment is not None
        slab_class = item.segment.slab_class
        slab_class.crawler_reclaimed += 1
        if not item.access & FETCHED and not (self._flushing and self.horizon.covers(item)):
            slab_class.expired_unfetched += 1
        self.unlink(item)

    def reset_counters(self) -> None:
        """Zero what `stats reset` zeroes; what describes the present stays."""
        self.counters = Counters()
        self.total_items = 0
        for slab_class in self.slabs:
            slab_class.reset_counters()

    def check(self) -> None:
        """Raise AssertionError unless every structure agrees with every other. For tests."""
        self.slabs.check()
        assert self._first_segment == (HOT if self.lru.segmented else COLD)
        assert self._flushing == self.horizon.active(self.now)
        assert self._careful == (self._flushing or self.listener is not None)
        assert self.expiry.now == self.now
        items = list(self.items())
        assert self.item_count == len(items)
        assert self.item_bytes == sum(map(self.size_of, items))
        self.expiry.check(items)
        used: dict[int, int] = {}
        per_segment: dict[Segment, int] = {}
        for number, table in enumerate(self._tables):
            for key, item in table.items():
                assert key == item.key
                assert hash(key) & _TABLE_MASK == number
                assert item.segment is not None
                assert 0 <= item.cas_unique <= limits.UINT64_MAX
                if not item.chunk_classes:
                    fitting = self.slabs.class_for(self.size_of(item))
                    assert fitting is item.segment.slab_class, item
                per_segment[item.segment] = per_segment.get(item.segment, 0) + 1
                for chunk_class in item.chunk_classes or (item.segment.slab_class,):
                    used[chunk_class.id] = used.get(chunk_class.id, 0) + 1
        for slab_class in self.slabs:
            assert slab_class.used_chunks == used.get(slab_class.id, 0), slab_class
            for segment in slab_class.segments:
                assert segment.count == per_segment.get(segment, 0), segment
                assert segment.bytes == sum(map(self.size_of, segment)), segment


def _number(value: bytes) -> int | None:
    """Read a value as memcached's strtoull does; None: no number.

    Blanks may stand in front and something behind them, a sign is allowed, and a negative number
    that wraps to a small positive one is that one. # memcached: safe_strtoull
    """
    if len(value) < 20 and value.isdigit():
        return int(value)
    match = _C_NUMBER(value)
    if match is None:
        return None
    sign, digits = match.groups()
    number = int(digits or b"0")
    if number > limits.UINT64_MAX:
        return None
    if sign != b"-":
        return number
    number = -number & limits.UINT64_MAX
    return number if number <= _INT64_MAX else None
