"""An item and what it costs, the segment that it is in, and the slab class of that.

Millions of these exist, so their shape is chosen for size. On CPython an object with six slots
takes 80 bytes, with eight 96, and a number that no other item shares takes 32 more. Hence:

* what many items have in common is one shared tuple, `state`: the segment that they are in, when
  they end, and when they were last accessed with which marks. A `StatePool` interns these;
* client flags that are zero take no room, as in memcached: `FlaggedItem` has the slot. The
  same holds for what only a value larger than a slab chunk needs: `ChunkedItem`.

`prev` and `next` belong to `Segment`, whose `unlink` clears them, so that an item dies by its
reference count alone and the garbage collector never has to look for it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from .. import limits

if TYPE_CHECKING:
    from collections.abc import Iterator

HOT: Final = 0
WARM: Final = 1
COLD: Final = 2
TEMP: Final = 3
SEGMENT_NAMES: Final = ("hot", "warm", "cold", "temp")

#: Marks in the low bits of `Item.access`, beside the time.
FETCHED: Final = 1  #: was read at least once
ACTIVE: Final = 2  #: was read again since it was last moved: deserves to stay
STALE: Final = 4  #: invalidated by meta delete; still served, marked so
WIN_SENT: Final = 8  #: one client has been told to recache it
KEY_BINARY: Final = 16  #: the key came as base64 and is not printable
UNSPEAKABLE: Final = 32  #: the key holds bytes that no text command can say
MARK_BITS: Final = 6
MARKS_MASK: Final = (1 << MARK_BITS) - 1
#: Marks that an item has on every server that holds it; the others tell of its use here.
SHARED_MARKS: Final = STALE | WIN_SENT | KEY_BINARY | UNSPEAKABLE

#: What ends a word or a line of the text protocols.
_BLANK, _NEWLINE = b" \n"


def key_marks(key: bytes) -> int:
    """Return the marks for a key that came by another way than a word of a text command."""
    # Hot path: bench/ "binary16". A fifth of what a pattern takes.
    return UNSPEAKABLE if _BLANK in key or _NEWLINE in key else 0


#: Segment (None: unlinked), `expires_at`, and last access << MARK_BITS | marks.
State = tuple["Segment | None", int, int]


class StatePool:
    """Interns `Item.state`, so that items with the same one share it."""

    __slots__ = ("_pool",)
    _SIZE_MAX: Final = 4096

    def __init__(self) -> None:
        self._pool: dict[State, State] = {}

    def of(self, segment: Segment | None, expires_at: int, access: int) -> State:
        """Return the one tuple of these three."""
        # Hot path: bench/ "get16", "set16".
        pool = self._pool
        state = (segment, expires_at, access)
        known = pool.get(state)
        if known is None:
            if len(pool) > self._SIZE_MAX:
                pool.clear()
            known = pool[state] = state
        return known


class Item:
    """A key and its value. All times are seconds on the cache's clock (`Cache.now`)."""

    __slots__ = ("cas_unique", "key", "next", "prev", "state", "value")

    #: What the client stored beside the value, 32 bits.
    client_flags: int = 0
    #: The slab classes of the further chunks of a large value.
    chunk_classes: tuple[SlabClass, ...] = ()

    def __init__(self, key: bytes, value: bytes, cas_unique: int) -> None:
        self.key: bytes = key
        self.value: bytes = value
        self.cas_unique: int = cas_unique  #: 0: the server runs without cas
        # Set by `Segment.link`, which follows at once: a new item is never seen without.
        self.prev: Item | None  #: towards the head of its segment
        self.next: Item | None
        self.state: State

    def mark(self, marks: int, pool: StatePool) -> None:
        """Set marks; the time of access stays."""
        segment, expires_at, access = self.state
        self.state = pool.of(segment, expires_at, access | marks)

    def unmark(self, marks: int, pool: StatePool) -> None:
        """Clear marks; the time of access stays."""
        segment, expires_at, access = self.state
        self.state = pool.of(segment, expires_at, access & ~marks)

    @property
    def segment(self) -> Segment | None:
        return self.state[0]

    @property
    def expires_at(self) -> int:
        """When it ends; 0: never."""
        return self.state[1]

    @property
    def access(self) -> int:
        """The last access << MARK_BITS | marks."""
        return self.state[2]

    @property
    def last_access(self) -> int:
        return self.state[2] >> MARK_BITS

    @property
    def fetched(self) -> bool:
        return bool(self.access & FETCHED)

    @property
    def stale(self) -> bool:
        return bool(self.access & STALE)

    @property
    def linked(self) -> bool:
        return self.state[0] is not None

    def __repr__(self) -> str:
        return (
            f"<{type(self).__name__} {self.key!r} {len(self.value)} B "
            f"cas {self.cas_unique} expires {self.expires_at}>"
        )


class FlaggedItem(Item):
    """An item with client flags other than zero."""

    __slots__ = ("client_flags",)

    def __init__(self, key: bytes, value: bytes, cas_unique: int, client_flags: int) -> None:
        super().__init__(key, value, cas_unique)
        self.client_flags: int = client_flags


class ChunkedItem(FlaggedItem):
    """An item larger than a slab chunk: memcached chains chunks for it, we count them."""

    __slots__ = ("chunk_classes",)

    def __init__(
        self,
        key: bytes,
        value: bytes,
        cas_unique: int,
        client_flags: int,
        chunk_classes: tuple[SlabClass, ...],
    ) -> None:
        super().__init__(key, value, cas_unique, client_flags)
        self.chunk_classes: tuple[SlabClass, ...] = chunk_classes


class Segment:
    """One queue of one slab class."""

    __slots__ = ("bytes", "count", "fresh", "head", "hits", "kind", "slab_class", "tail")

    def __init__(self, slab_class: SlabClass, kind: int) -> None:
        self.slab_class = slab_class
        self.kind = kind  #: HOT, WARM, COLD or TEMP
        self.head: Item | None = None
        self.tail: Item | None = None
        self.count = 0
        self.bytes = 0  #: of its items, as memcached counts them
        self.hits = 0  #: gets answered from here
        #: `Item.state` of what was linked last without an end, kept for the next.
        self.fresh: State = (self, 0, 0)

    def link(self, item: Item, state: State) -> None:
        """Put an unlinked item at the head; `state` names us. The caller accounts for `bytes`."""
        head = self.head
        item.state = state
        item.prev = None
        item.next = head
        if head is None:
            self.tail = item
        else:
            head.prev = item
        self.head = item
        self.count += 1

    def link_last(self, item: Item, state: State) -> None:
        """Put an unlinked item at the tail; else as `link`."""
        tail = self.tail
        item.state = state
        item.prev = tail
        item.next = None
        if tail is None:
            self.head = item
        else:
            tail.next = item
        self.tail = item
        self.count += 1

    def unlink(self, item: Item) -> None:
        """Take an item out and clear its links, so that nothing but the table holds it.

        Its `state` is the caller's to change.
        """
        before = item.prev
        after = item.next
        if before is None:
            self.head = after
        else:
            before.next = after
        if after is None:
            self.tail = before
        else:
            after.prev = before
        item.prev = item.next = None
        self.count -= 1

    def to_head(self, item: Item) -> None:
        """Make an item of this segment its newest."""
        head = self.head
        if head is item:
            return
        # Hot path: bench/ "set16". `unlink` and `link` in one.
        before = item.prev
        after = item.next
        before.next = after  # type: ignore[union-attr]  # it is not the head
        if after is None:
            self.tail = before
        else:
            after.prev = before
        item.prev = None
        item.next = head
        head.prev = item  # type: ignore[union-attr]  # there is one
        self.head = item

    def pass_on(self, item: Item, segment: Segment, state: State) -> None:
        """Put an item of this segment at the head of another one; `state` names that."""
        # Hot path: bench/ "get16", "set16". `unlink` and `link` in one.
        before = item.prev
        after = item.next
        if before is None:
            self.head = after
        else:
            before.next = after
        if after is None:
            self.tail = before
        else:
            after.prev = before
        self.count -= 1
        head = segment.head
        item.state = state
        item.prev = None
        item.next = head
        if head is None:
            segment.tail = item
        else:
            head.prev = item
        segment.head = item
        segment.count += 1

    def __iter__(self) -> Iterator[Item]:
        """Yield the items, newest first. Nothing may be unlinked meanwhile."""
        item = self.head
        while item is not None:
            yield item
            item = item.next

    def check(self) -> None:
        """Raise AssertionError unless the list is well formed. For tests."""
        count = 0
        before: Item | None = None
        for item in self:
            assert item.segment is self, item
            assert item.prev is before, item
            before = item
            count += 1
        assert self.tail is before
        assert self.count == count, (self, self.count, count)

    def __repr__(self) -> str:
        return f"<Segment {SEGMENT_NAMES[self.kind]} of class {self.slab_class.id}: {self.count}>"


@dataclass(slots=True, eq=False, repr=False)
class ClassCounters:
    """What each slab class counts: memcached's `itemstats` and `slab_stats`.

    What memcached counts per segment (`hits_to_hot`, `number_hot` ...) lives in the segments.
    """

    cas_badval: int = 0
    cas_hits: int = 0
    crawler_items_checked: int = 0
    crawler_reclaimed: int = 0
    decr_hits: int = 0
    delete_hits: int = 0
    direct_reclaims: int = 0
    evicted: int = 0
    evicted_active: int = 0
    evicted_nonzero: int = 0
    evicted_time_s: int = 0
    evicted_unfetched: int = 0
    expired_unfetched: int = 0
    incr_hits: int = 0
    moves_to_cold: int = 0
    moves_to_warm: int = 0
    moves_within_lru: int = 0
    outofmemory: int = 0
    reclaimed: int = 0
    set_cmds: int = 0
    touch_hits: int = 0


class SlabClass(ClassCounters):
    """One chunk size: its pages, its four LRU segments, and its counters."""

    def __init__(self, class_id: int, smallest_bytes: int, chunk_size_bytes: int) -> None:
        self.id = class_id
        self.smallest_bytes = smallest_bytes  #: items below fit the class before
        self.chunk_size_bytes = chunk_size_bytes
        self.chunks_per_page = limits.SLAB_PAGE_BYTES // chunk_size_bytes
        self.page_bytes = limits.SLAB_PAGE_BYTES  #: what a page of this class is charged
        self.pages = 0
        self.free_chunks = 0
        self.hot = Segment(self, HOT)
        self.warm = Segment(self, WARM)
        self.cold = Segment(self, COLD)
        self.temp = Segment(self, TEMP)
        self.segments: tuple[Segment, ...] = (self.hot, self.warm, self.cold, self.temp)
        self.reset_counters()

    def reset_counters(self) -> None:
        """Zero what `stats reset` zeroes."""
        super().__init__()
        for segment in self.segments:
            segment.hits = 0

    @property
    def total_chunks(self) -> int:
        return self.pages * self.chunks_per_page

    @property
    def used_chunks(self) -> int:
        return self.total_chunks - self.free_chunks

    @property
    def get_hits(self) -> int:
        return sum(segment.hits for segment in self.segments)

    @property
    def item_count(self) -> int:
        return sum(segment.count for segment in self.segments)

    def __repr__(self) -> str:
        return f"<SlabClass {self.id}: {self.chunk_size_bytes} B, {self.pages} pages>"
