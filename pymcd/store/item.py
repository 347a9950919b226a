"""One item, and what it costs.

Millions of these exist, so their shape is chosen for size. On CPython an object with six slots
takes 80 bytes, with eight 96, and a number that no other item shares takes 32 more. Hence:

* what many items have in common is one shared tuple, `state`: the segment that they are in, when
  they end, and when they were last accessed with which marks. A `StatePool` interns these;
* client flags that are zero take no room, as in memcached: `FlaggedItem` has the slot. The
  same holds for what only a value larger than a slab chunk needs: `ChunkedItem`.

`prev` and `next` belong to lru.py. `unlink` there clears them, so that an item dies by its
reference count alone and the garbage collector never has to look for it.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from .lru import Segment
    from .slabs import SlabClass

#: Marks in the low bits of `Item.access`, beside the time.
FETCHED: Final = 1  #: was read at least once
ACTIVE: Final = 2  #: was read again since it was last moved: deserves to stay
STALE: Final = 4  #: invalidated by meta delete; still served, marked so
WIN_SENT: Final = 8  #: one client has been told to recache it
KEY_BINARY: Final = 16  #: the key came as base64 and is not printable
UNSPEAKABLE: Final = 32  #: the key holds bytes that no text command can say (blank, control)
MARK_BITS: Final = 6
MARKS_MASK: Final = (1 << MARK_BITS) - 1
#: Marks that an item has on every server that holds it; the others tell of its use here.
SHARED_MARKS: Final = STALE | WIN_SENT | KEY_BINARY | UNSPEAKABLE

#: What ends a word or a line of the text protocols.
_find_unspeakable: Final = re.compile(rb"[\0\r\n ]").search


def key_marks(key: bytes) -> int:
    """Return the marks for a key that came by another way than a word of a text command."""
    return UNSPEAKABLE if _find_unspeakable(key) else 0


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
        pool = self._pool
        if len(pool) > self._SIZE_MAX:
            pool.clear()
        state = (segment, expires_at, access)
        return pool.setdefault(state, state)


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
    def active(self) -> bool:
        return bool(self.access & ACTIVE)

    @property
    def stale(self) -> bool:
        return bool(self.access & STALE)

    @property
    def win_sent(self) -> bool:
        return bool(self.access & WIN_SENT)

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
