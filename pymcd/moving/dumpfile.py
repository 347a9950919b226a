"""The form of items in a file: lines that say what follows, and bytes.

A file reads so, with one LF at the end of each line and behind each value:

    pymcd-dump 1
    item KEY-BYTES VALUE-BYTES CLIENT-FLAGS END CHECKSUM
    <key><value>
    ...
    end ITEMS

The first line names the form and its version. Lengths are in bytes, so that keys and values may be
anything. END is when the item ends, in Unix seconds; 0: never. CHECKSUM is the CRC-32, in eight
hexadecimal digits, of the line before it, up to and with the blank, and of key and value. The last
line has the number of items: a file without it was cut off, and everything before it is whole.

Why not memcached-tool's form, `add` commands: it has no checksum, no end, and no room for keys
that are no words.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final, NamedTuple
from zlib import crc32

from .. import limits
from .counting import items_in_words

if TYPE_CHECKING:
    from collections.abc import Iterator

NAME: Final = b"pymcd-dump"
VERSION: Final = 1
HEAD: Final = b"%b %d\n" % (NAME, VERSION)
#: No line of a dump is longer.
LINE_MAX_BYTES: Final = 100
#: No value is longer. # memcached: -I
VALUE_MAX_BYTES: Final = 1 << 30

_HEAD: Final = re.compile(rb"pymcd-dump (\d++)").fullmatch
_ITEM: Final = re.compile(rb"(item (\d++) (\d++) (\d++) (\d++) )([0-9a-f]++)").fullmatch
_END: Final = re.compile(rb"end (\d++)").fullmatch


class Record(NamedTuple):
    """An item on its way."""

    key: bytes
    value: bytes
    client_flags: int
    unix_end: int  #: when it ends, in Unix seconds; 0: never


class DumpError(Exception):
    """A file that is no dump, or not whole, and why, in a few words."""


def encode_record(record: Record) -> bytes:
    """Return an item as it stands in a file."""
    key, value, client_flags, unix_end = record
    line = b"item %d %d %d %d " % (len(key), len(value), client_flags, unix_end)
    checksum = crc32(value, crc32(key, crc32(line)))
    return b"%b%08x\n%b%b\n" % (line, checksum, key, value)


def encode_end(items: int) -> bytes:
    """Return what a file with so many items ends in."""
    return b"end %d\n" % items


class DumpReader:
    """Reads a dump as it comes, in pieces of any length."""

    def __init__(self) -> None:
        self.items = 0  #: that were whole so far
        self.complete = False  #: the end was there
        self._buffer = bytearray()
        self._headed = False
        self._item: re.Match[bytes] | None = None

    def receive(self, data: bytes) -> Iterator[Record]:
        """Yield the items that have become whole; raise `DumpError` at what is none."""
        buffer = self._buffer
        buffer += data
        at = 0
        try:
            while True:
                if self._item is None:
                    end = buffer.find(b"\n", at, at + LINE_MAX_BYTES)
                    if end < 0:
                        if len(buffer) - at >= LINE_MAX_BYTES:
                            self._read_line(bytes(buffer[at : at + LINE_MAX_BYTES]))
                        return
                    line = bytes(buffer[at:end])
                    at = end + 1
                    self._read_line(line)
                    continue
                key_bytes, value_bytes = int(self._item[2]), int(self._item[3])
                size = key_bytes + value_bytes + 1
                if len(buffer) - at < size:
                    return
                body = bytes(buffer[at : at + size])
                at += size
                yield self._record(self._item, body, key_bytes)
                self._item = None
        finally:
            del buffer[:at]

    def finish(self) -> None:
        """Take note that nothing more comes; raise `DumpError` if that is too early."""
        if not self._headed:
            raise DumpError("it is no dump: it is empty" if not self._buffer else _NO_DUMP)
        if self.complete and self._buffer:
            raise self._damage(_MORE)
        if not self.complete:
            raise DumpError(f"it was cut off after {items_in_words(self.items)}")

    def _read_line(self, line: bytes) -> None:
        if not self._headed:
            head = _HEAD(line)
            if head is None:
                raise DumpError(_NO_DUMP)
            if int(head[1]) != VERSION:
                raise DumpError(
                    f"it is a dump of version {int(head[1])}, and this pymcd reads {VERSION}"
                )
            self._headed = True
            return
        if self.complete:
            raise self._damage(_MORE)
        end = _END(line)
        if end is not None:
            if int(end[1]) != self.items:
                raise self._damage(f"it should have {int(end[1]):,} of them")
            self.complete = True
            return
        self._item = _ITEM(line)
        if self._item is None:
            raise self._damage("no item begins there")
        key_bytes, value_bytes, client_flags, unix_end = map(int, self._item.groups()[1:5])
        if (
            not 0 < key_bytes <= limits.KEY_MAX_BYTES
            or value_bytes > VALUE_MAX_BYTES
            or client_flags > limits.UINT32_MAX
            or unix_end > limits.UINT32_MAX
        ):
            raise self._damage("the next one cannot be")

    def _record(self, line: re.Match[bytes], body: bytes, key_bytes: int) -> Record:
        checksum = crc32(memoryview(body)[:-1], crc32(line[1]))
        if body[-1:] != b"\n" or checksum != int(line[6], 16):
            raise self._damage("the next one is not what was written")
        self.items += 1
        return Record(body[:key_bytes], body[key_bytes:-1], int(line[4]), int(line[5]))

    def _damage(self, what: str) -> DumpError:
        return DumpError(f"it is damaged after {items_in_words(self.items)}: {what}")


_NO_DUMP: Final = "it is no dump of pymcd"
_MORE: Final = "there is more behind its end"
