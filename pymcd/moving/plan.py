"""`Plan`: the keys that are still to be fetched, by when they were last used.

There may be many millions of them, so they lie in one row of bytes for each second in which any
was used last. What does not fit the memory is left out, the longest unused first.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator

_HEAD: Final = struct.Struct(">BII")  # length of the key, size of the item, Unix second of its end
_UINT32_MAX: Final = 0xFFFFFFFF


class Listed(NamedTuple):
    """What a server says of an item when it lists its keys."""

    key: bytes
    size_bytes: int
    unix_end: int  #: 0: never


class Plan:
    """Keys, to be taken in the order of their use."""

    def __init__(self, most_bytes: int, *, newest_first: bool) -> None:
        self._most_bytes = most_bytes
        self._newest_first = newest_first
        self._bytes = 0
        self._ages: dict[int, bytearray] = {}
        self._order: list[int] | None = None  #: once keys are taken; the next at the end
        self._row = bytearray()
        self._at = 0
        self.count = 0  #: keys that are to be fetched, or were
        self.left_out = 0  #: keys for which there was no memory

    def add(self, listed: Listed, last_access: int) -> None:
        """Note a key. `last_access` in seconds, since whenever."""
        assert self._order is None, "keys are taken already"
        key, size, end = listed
        row = self._ages.setdefault(last_access, bytearray())
        row += _HEAD.pack(len(key), min(size, _UINT32_MAX), min(end, _UINT32_MAX)) + key
        self._bytes += _HEAD.size + len(key)
        self.count += 1
        if self._bytes > self._most_bytes:
            self._make_room()

    def _make_room(self) -> None:
        """Leave out some of what was not used for longest."""
        excess = self._bytes - (self._most_bytes - self._most_bytes // 8)
        for age in sorted(self._ages):
            row = self._ages[age]
            kept_from = len(row)
            for at in _entries(row):
                if at >= excess:
                    kept_from = at
                    break
                self.count -= 1
                self.left_out += 1
            del row[:kept_from]
            self._bytes -= kept_from
            excess -= kept_from
            if row:
                break
            del self._ages[age]

    def take(self, most: int, most_bytes: int) -> list[Listed]:
        """Take the next keys, as many as that at most; of one item at least. Empty: that was all.

        `most_bytes` is how large their items may be together.
        """
        if self._order is None:
            self._order = sorted(self._ages, reverse=not self._newest_first)
        taken: list[Listed] = []
        while len(taken) < most and most_bytes > 0:
            if self._at >= len(self._row):
                if not self._order:
                    break
                self._row = self._ages.pop(self._order.pop())
                self._at = 0
            key_bytes, size, end = _HEAD.unpack_from(self._row, self._at)
            begin = self._at + _HEAD.size
            if taken and size > most_bytes:
                break
            self._at = begin + key_bytes
            most_bytes -= size
            taken.append(Listed(bytes(self._row[begin : self._at]), size, end))
        return taken


def _entries(row: bytearray) -> Iterator[int]:
    """Yield where each entry of a row begins."""
    at = 0
    while at < len(row):
        yield at
        at += _HEAD.size + row[at]
