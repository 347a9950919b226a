"""One item, and what it costs.

Millions of these exist, so their shape is chosen for size. On CPython an object with eight
slots takes 96 bytes, with nine or ten 112, and a number that no other item shares takes 32
more. Hence:

* `access` holds the time of the last access and the marks in one number, and the numbers are
  interned by the cache, so that items touched in one second share them;
* client flags that are zero take no room, as in memcached: `FlaggedItem` has the slot. The
  same holds for what only a value larger than a slab chunk needs: `ChunkedItem`;
* `expires_at` is interned by the cache as well.

`prev` and `next` belong to lru.py. `unlink` there clears them, so that an item dies by its
reference count alone and the garbage collector never has to look for it.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from .lru import Segment
    from .slabs import SlabClass

#: Marks in the low bits of `Item.access`.
FETCHED: Final = 1  #: was read at least once
ACTIVE: Final = 2  #: was read again since it was last moved: deserves to stay
STALE: Final = 4  #: invalidated by meta delete; still served, marked so
WIN_SENT: Final = 8  #: one client has been told to recache it
KEY_BINARY: Final = 16  #: the key came as base64 and is not printable
UNSPEAKABLE: Final = 32  #: the key holds bytes that no text command can say (blank, control)
MARK_BITS: Final = 6
MARKS_MASK: Final = (1 << MARK_BITS) - 1

#: What ends a word or a line of the text protocols.
_find_unspeakable: Final = re.compile(rb"[\0\r\n ]").search


def key_marks(key: bytes) -> int:
    """Return the marks for a key that came by another way than a word of a text command."""
    return UNSPEAKABLE if _find_unspeakable(key) else 0


class AccessPool:
    """Interns `Item.access`, so that items accessed in the same second share one number."""

    __slots__ = ("_pool",)
    _SIZE_MAX: Final = 4096

    def __init__(self) -> None:
        self._pool: dict[int, int] = {}

    def of(self, last_access: int, marks: int) -> int:
        """Return the number that stands for a time (seconds) and marks."""
        access = last_access << MARK_BITS | marks
        pool = self._pool
        if len(pool) > self._SIZE_MAX:
            pool.clear()
        return pool.setdefault(access, access)


class Item:
    """A key and its value. All times are seconds on the cache's clock (`Cache.now`)."""

    __slots__ = ("access", "cas_unique", "expires_at", "key", "next", "prev", "segment", "value")

    #: What the client stored beside the value, 32 bits.
    client_flags: int = 0
    #: The slab classes of the further chunks of a large value.
    chunk_classes: tuple[SlabClass, ...] = ()

    def __init__(
        self, key: bytes, value: bytes, expires_at: int, cas_unique: int, access: int
    ) -> None:
        self.key: bytes = key
        self.value: bytes = value
        self.expires_at: int = expires_at  #: 0: never
        self.cas_unique: int = cas_unique  #: 0: the server runs without cas
        self.access: int = access  #: last access << MARK_BITS | marks
        # Set by `Segment.link`, which follows at once: a new item is never seen without.
        self.prev: Item | None  #: towards the head of its segment
        self.next: Item | None
        self.segment: Segment | None

    def mark(self, marks: int, pool: AccessPool) -> None:
        """Set marks; the time of access stays."""
        access = self.access
        self.access = pool.of(access >> MARK_BITS, (access & MARKS_MASK) | marks)

    def unmark(self, marks: int, pool: AccessPool) -> None:
        """Clear marks; the time of access stays."""
        access = self.access
        self.access = pool.of(access >> MARK_BITS, access & MARKS_MASK & ~marks)

    @property
    def last_access(self) -> int:
        return self.access >> MARK_BITS

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
    def key_is_binary(self) -> bool:
        return bool(self.access & KEY_BINARY)

    @property
    def linked(self) -> bool:
        return self.segment is not None

    def __repr__(self) -> str:
        return (
            f"<{type(self).__name__} {self.key!r} {len(self.value)} B "
            f"cas {self.cas_unique} expires {self.expires_at}>"
        )


class FlaggedItem(Item):
    """An item with client flags other than zero."""

    __slots__ = ("client_flags",)

    def __init__(
        self,
        key: bytes,
        value: bytes,
        expires_at: int,
        cas_unique: int,
        access: int,
        client_flags: int,
    ) -> None:
        super().__init__(key, value, expires_at, cas_unique, access)
        self.client_flags: int = client_flags


class ChunkedItem(FlaggedItem):
    """An item larger than a slab chunk: memcached chains chunks for it, we count them."""

    __slots__ = ("chunk_classes",)

    def __init__(
        self,
        key: bytes,
        value: bytes,
        expires_at: int,
        cas_unique: int,
        access: int,
        client_flags: int,
        chunk_classes: tuple[SlabClass, ...],
    ) -> None:
        super().__init__(key, value, expires_at, cas_unique, access, client_flags)
        self.chunk_classes: tuple[SlabClass, ...] = chunk_classes
