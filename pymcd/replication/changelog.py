"""The keys that change while a peer is away, each once, with the number of its last change.

What falls out, as memory is bounded, is what changed least recently: `enter` returns its number.
There is one table for each of the cache: a single one would hold everybody up when it grows, and
all that is known of a long one would have to be looked at for what few changes have left in it.
"""

from __future__ import annotations

from collections import OrderedDict
from heapq import heappop, heappush, heapreplace
from typing import TYPE_CHECKING, Final

from ..store.cache import TABLES, table_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

#: What an entry costs beside its key, in bytes: a place in an ordered dict, the key's header where
#: the item is gone, and the number.
LOG_ENTRY_BYTES: Final = 280


class ChangeLog:
    """Keys by the number of their last change, bounded in memory."""

    def __init__(self, limit_bytes: int) -> None:
        self.limit_bytes = limit_bytes
        self.size_bytes = 0
        #: By key, the latest change last.
        self.tables: list[OrderedDict[bytes, int]] = [OrderedDict() for _ in range(TABLES)]
        #: A heap of those that are not empty: a number that the first key of a table had once, at
        #: least, and which table that is.
        self._oldest: list[tuple[int, int]] = []
        #: Keys that changed before all others, with one number.
        self.early: dict[bytes, int] = {}

    def __len__(self) -> int:
        return len(self.early) + sum(map(len, self.tables))

    def __iter__(self) -> Iterator[bytes]:
        """Yield the keys. Nothing may change meanwhile."""
        yield from self.early
        for table in self.tables:
            yield from table

    def begin(self, keys: Iterable[bytes], number: int) -> int:
        """Begin with keys that changed before; return as `enter` does. It may be a long queue."""
        assert not self.size_bytes, "begun before"
        self.early = dict.fromkeys(keys, number)
        self.size_bytes = sum(map(len, self.early)) + LOG_ENTRY_BYTES * len(self.early)
        return self._bound()

    def enter(self, keys: Iterable[bytes], number: int) -> int:
        """Take note of the latest change of keys; return the number of one that fell out, or 0."""
        for key in keys:
            at = table_of(key)
            table = self.tables[at]
            if key in table:
                table.move_to_end(key)
            else:
                if not table:
                    heappush(self._oldest, (number, at))
                if self.early.pop(key, None) is None:
                    self.size_bytes += len(key) + LOG_ENTRY_BYTES
            table[key] = number
        return self._bound() if self.size_bytes > self.limit_bytes else 0

    def _bound(self) -> int:
        fallen = 0
        while self.size_bytes > self.limit_bytes:
            key, fallen = self._take_oldest()
            self.size_bytes -= len(key) + LOG_ENTRY_BYTES
        return fallen

    def _take_oldest(self) -> tuple[bytes, int]:
        if self.early:
            return self.early.popitem()
        while True:
            noted, at = self._oldest[0]
            table = self.tables[at]
            key, number = next(iter(table.items()))
            if number == noted:
                break
            heapreplace(self._oldest, (number, at))  # that key has changed again
        del table[key]
        if table:
            heapreplace(self._oldest, (next(iter(table.values())), at))
        else:
            heappop(self._oldest)
        return key, number

    def since(self, number: int) -> Iterator[list[bytes]]:
        """Yield the keys that changed after a number, in any order, of one table after the other.

        Of each, be there any or not. Not all is looked at for what few changes have left in it.
        Anything may change meanwhile.
        """
        yield list(self.early) if next(iter(self.early.values()), 0) > number else []
        for table in self.tables:
            found = []
            for key, changed in reversed(table.items()):
                if changed <= number:
                    break
                found.append(key)
            yield found

    def check(self) -> None:
        """Raise AssertionError unless the parts agree with each other. For tests."""
        assert self.size_bytes == sum(len(key) + LOG_ENTRY_BYTES for key in self)
        assert self.size_bytes <= self.limit_bytes
        assert len({*self}) == len(self), "a key is in the log twice"
        early = {*self.early.values()}
        assert len(early) <= 1, "an early key has a number of its own"
        for table in self.tables:
            numbers = [*early, *table.values()]
            assert numbers == sorted(numbers), "not in the order of the changes"
        assert sorted(at for _, at in self._oldest) == [
            at for at, table in enumerate(self.tables) if table
        ], "a table is not in the heap, or one that is empty is"
        for noted, at in self._oldest:
            assert noted <= next(iter(self.tables[at].values())), "an older key than was noted"
