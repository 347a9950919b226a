"""Which write is the later one: versions, tombstones, and the barrier that a flush leaves.

A version is a hybrid logical clock in 63 bits: milliseconds since 2020, a counter, and a tag of
the node that wrote. It serves as the item's cas unique, too, so that items need no further room:
it is the same on all nodes, never given out twice, and only grows. Where the two must differ
(a touch leaves the cas unique alone, a client chose its own) `Changes` has the version aside.

Two nodes that write in the same millisecond with the same count are told apart by their tags.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING, Final
from zlib import crc32

from ..store.cache import TABLES, table_of
from ..store.expiry import FlushHorizon

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ..store import Item

TAG_BITS: Final = 12
COUNTER_BITS: Final = 11
TAG_MASK: Final = (1 << TAG_BITS) - 1
#: From one version of a node to its next.
STEP: Final = 1 << TAG_BITS
_TIME_SHIFT: Final = TAG_BITS + COUNTER_BITS
#: 2020-01-01, in Unix milliseconds. 40 bits of them last until 2054.
_ORIGIN_MS: Final = 1_577_836_800_000
#: How far clocks may be apart: the order of writes on two sides of a partition rests on them.
CLOCK_SKEW_MAX_S: Final = 60.0
#: Later than every version.
FOREVER: Final = 1 << 64

#: What a tombstone costs beside its key, in bytes: a place in an ordered dict, the key's header,
#: and the number.
TOMBSTONE_BYTES: Final = 280
#: Forgotten in one step: two milliseconds at most.
EXPIRED_MAX: Final = 2000
#: Freed in one step, of what was given up: one.
DISPOSED_MAX: Final = 2000


def version_at(realtime_s: float, tag: int) -> int:
    """Return the first version of a moment, in Unix seconds, for a node's tag."""
    return max(0, int(realtime_s * 1000) - _ORIGIN_MS) << _TIME_SHIFT | tag


def epoch_limit(realtime_s: float) -> int:
    """Return an epoch that no group can have passed by a moment: one for each millisecond.

    Where the clock was never set, some billions.
    """
    return max(version_at(realtime_s, 0) >> COUNTER_BITS, 1 << 32 + TAG_BITS) | TAG_MASK


def seconds_of(version: int) -> float:
    """Return the moment of a version, in Unix seconds."""
    return ((version >> _TIME_SHIFT) + _ORIGIN_MS) / 1000


def with_tag(version: int, tag: int) -> int:
    """Return a version's time and count as another node would write it."""
    return version & ~TAG_MASK | tag


def tag_of(node_id: str) -> int:
    """Return the tag that a node begins with; `Node` sees to it that peers differ."""
    return crc32(node_id.encode()) & TAG_MASK


class FutureError(Exception):
    """A version that is too far ahead to be believed: what comes later would seem older."""

    def __str__(self) -> str:
        return "a version from the future"


class Tombstones:
    """Keys that were deleted, and the versions of their deletion; bounded in memory.

    `floor` is the latest version that had to be forgotten while a peer did not know it yet.
    Whoever was away since before that must replace what it holds, not merge.
    """

    def __init__(self, limit_bytes: int) -> None:
        self.limit_bytes = limit_bytes
        #: By key, oldest deletion first.
        self.versions: OrderedDict[bytes, int] = OrderedDict()
        self.size_bytes = 0
        self.floor = 0
        self.forgotten = 0  #: the latest version of all that were forgotten
        #: By who wrote what was evicted here: the latest version of that, where there was no room
        #: for its trace.
        self._written: dict[str, int] = {}
        #: By who is telling us of those of before: the latest version of those for which there was
        #: no room. Who has told a part is no measure: what else it has we lack.
        self._told: dict[str, int] = {}
        self._flushed = 0  #: what is older says nothing any more
        self._floor_in_doubt = 0  #: what the floor was when it came to be in doubt
        self._written_in_doubt: dict[str, int] = {}
        #: Whether all that is known here is known by every peer. Set by the node.
        self.shared = True

    def __len__(self) -> int:
        return len(self.versions)

    def get(self, key: bytes) -> int:
        """Return the version at which a key was deleted; 0: it was not."""
        return self.versions.get(key, 0)

    def add(self, key: bytes, version: int, *, told_by: str = "", written_by: str = "") -> None:
        """Note a deletion; an older one of the same key gives way.

        A peer that tells of one remembers it, too: if there is no room that is forgotten for which
        only others need us. Were the floor to rise by all that a peer tells of when it comes back,
        it would have to replace what it holds. So it is with the trace of what a peer has written.
        """
        known_to = told_by or written_by
        before = self.versions.pop(key, None)
        if before is None:
            size_bytes = self.size_bytes + len(key) + TOMBSTONE_BYTES
            if known_to and size_bytes > self.limit_bytes and self._oldest >= self._flushed:
                if not self.shared:
                    forgotten = self._told if told_by else self._written
                    forgotten[known_to] = max(version, forgotten.get(known_to, 0))
                return
            self.size_bytes = size_bytes
        elif before > version:
            version = before
        self.versions[key] = version
        while self.size_bytes > self.limit_bytes:
            self._forget_oldest()

    def discard(self, key: bytes) -> None:
        """Forget a deletion, as something later was stored."""
        if self.versions.pop(key, None) is not None:
            self.size_bytes -= len(key) + TOMBSTONE_BYTES

    def clear(self) -> dict[bytes, int]:
        """Forget all deletions, and that any was forgotten before; return what held them."""
        before, self.versions = self.versions, OrderedDict()
        self._written.clear()
        self._written_in_doubt.clear()
        self._told.clear()
        self.size_bytes = self.floor = self.forgotten = self._flushed = self._floor_in_doubt = 0
        return before

    def expire(self, before_version: int) -> bool:
        """Forget what was deleted before a version, if every peer knows it, and what was flushed.

        A bounded part of it; return whether there is more.
        """
        for _ in range(EXPIRED_MAX):
            if self._oldest >= max(before_version if self.shared else 0, self._flushed):
                return False
            self._forget_oldest()
        return True

    @property
    def _oldest(self) -> int:
        """The version that is forgotten next."""
        return next(iter(self.versions.values()), FOREVER)

    def drop_before(self, version: int) -> None:
        """Forget, by and by, what a flush with that version covers."""
        self._flushed = max(self._flushed, version)

    def _forget_oldest(self) -> None:
        key, version = self.versions.popitem(last=False)
        self.size_bytes -= len(key) + TOMBSTONE_BYTES
        if version >= self._flushed:
            self.forgotten = max(self.forgotten, version)
            if not self.shared:
                self.floor = max(self.floor, version)

    def note_unacknowledged(self, version: int) -> None:
        """Take note that what is later than a version did not reach a peer that is lost."""
        if self.forgotten > version:
            self.floor = max(self.floor, self.forgotten)

    def told_all(self, peer: str, forgotten_there: int) -> None:
        """Count as forgotten here what a peer told of, and had to forget: we have all it has."""
        self.floor = max(self.floor, self._told.pop(peer, 0), forgotten_there)

    def told_a_part(self, peer: str) -> None:
        """Take note that a peer tells no more, and perhaps has not told all.

        Others, who have what we lack, need not drop that.
        """
        self._told.pop(peer, None)

    def doubt(self, version: int) -> None:
        """Take note that what was deleted, or written, after a version perhaps comes to nothing.

        What of that had to be forgotten is no reason to take for deleted what others have. Below
        zero: it is not known what others have.
        """
        if 0 <= version < self.floor:
            self._floor_in_doubt = max(self._floor_in_doubt, self.floor)
            self.floor = version
        for writer, written in self._written.items():
            if 0 <= version < written:
                before = self._written_in_doubt.get(writer, 0)
                self._written_in_doubt[writer] = max(before, written)
                self._written[writer] = version

    def end_doubt(self, *, stands: bool) -> None:
        """Take note whether that stands, or came to nothing."""
        if stands:
            self.floor = max(self.floor, self._floor_in_doubt)
            for writer, written in self._written_in_doubt.items():
                self._written[writer] = max(written, self._written[writer])
        self._floor_in_doubt = 0
        self._written_in_doubt.clear()

    def floor_for(self, peer: str) -> int:
        """Return the latest version that had to be forgotten though this peer may not know it."""
        forgotten = [*self._written.items(), *self._told.items()]
        return max([self.floor, *(version for known_to, version in forgotten if known_to != peer)])

    def items(self) -> Iterator[tuple[bytes, int]]:
        """Yield keys and versions. Nothing may change meanwhile."""
        yield from self.versions.items()

    def check(self) -> None:
        """Raise AssertionError unless the sum is right. For tests."""
        assert self.size_bytes == sum(len(key) + TOMBSTONE_BYTES for key in self.versions)
        assert self.size_bytes <= self.limit_bytes or len(self.versions) <= 1


class Exceptions:
    """Versions of the items whose cas unique is not their version.

    One dict for each table of the cache: a single one would hold everybody up when it grows.
    """

    __slots__ = ("_tables", "count")

    def __init__(self) -> None:
        self.count = 0
        self._tables: list[dict[bytes, int]] = [{} for _ in range(TABLES)]

    def get(self, key: bytes, default: int) -> int:
        """Return the version of an item, or what it is if this is no exception."""
        return self._tables[table_of(key)].get(key, default)

    def set(self, key: bytes, version: int) -> None:
        """Note the version of an item."""
        table = self._tables[table_of(key)]
        if key not in table:
            self.count += 1
        table[key] = version

    def pop(self, key: bytes) -> int:
        """Return the version of an item, and forget it; 0: it was no exception."""
        version = self._tables[table_of(key)].pop(key, None)
        if version is None:
            return 0
        self.count -= 1
        return version

    def clear(self) -> list[dict[bytes, int]]:
        """Forget all; return what held it."""
        before, self._tables = self._tables, [{} for _ in range(TABLES)]
        self.count = 0
        return before

    def __iter__(self) -> Iterator[bytes]:
        """Yield the keys. Nothing may change meanwhile."""
        for table in self._tables:
            yield from table

    def check(self) -> None:
        """Raise AssertionError unless they are counted. For tests."""
        assert self.count == sum(map(len, self._tables))


class Discarded:
    """What was given up, and is freed a part at a time: all at once would hold everybody up."""

    def __init__(self) -> None:
        self._dicts: list[dict[bytes, int]] = []

    def add(self, *dicts: dict[bytes, int]) -> None:
        """Take what nobody needs any more."""
        self._dicts += filter(None, dicts)

    def dispose(self) -> bool:
        """Free some of it; return whether there is more."""
        for _ in range(DISPOSED_MAX):
            while self._dicts and not self._dicts[-1]:
                self._dicts.pop()
            if not self._dicts:
                return False
            self._dicts[-1].popitem()
        return True


class FlushBarrier(FlushHorizon):
    """A flush among several servers: what is older than its version is dead, and nothing else.

    memcached goes by the second of the last access as well. That differs from server to server,
    and would kill what another one stored after the flush.
    """

    def __init__(self, version_of: Callable[[Item], int]) -> None:
        super().__init__()
        self._version_of = version_of

    def covers(self, item: Item) -> bool:
        """Return whether an active barrier has made this item dead."""
        return self._version_of(item) < self.oldest_cas

    def spare(self, item: Item) -> None:
        """Do nothing: versions tell."""
