"""What trials say in text, said in the binary protocol or in meta commands.

A tongue turns the commands of the text protocol into those of its own and the answers back, so
that a trial is written once. It knows what trials say, no more: one line or one block a command.
"""

from __future__ import annotations

import struct
from collections import deque
from typing import TYPE_CHECKING, NamedTuple, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterator

HEADER = struct.Struct(">BBHBBHIIQ")
STORING = frozenset((b"set", b"add", b"replace", b"append", b"prepend", b"cas"))
READING = frozenset((b"get", b"gets"))
FAILURES = (b"ERROR", b"CLIENT_ERROR", b"SERVER_ERROR")
NON_NUMERIC = b"CLIENT_ERROR cannot increment or decrement non-numeric value"


class Tongue(Protocol):
    """One connection's."""

    def encode(self, text: bytes) -> bytes:
        """Return what to send."""

    def decode(self, data: bytes) -> bytes:
        """Take what came; return what of the answers can be told by now, as text."""

    @staticmethod
    def whole(data: bytes) -> int:
        """Return how long the first answer is; 0: it is not all there."""


class Words(NamedTuple):
    """One command in text."""

    words: list[bytes]
    block: bytes = b""

    @property
    def verb(self) -> bytes:
        return self.words[0]

    @property
    def quiet(self) -> bool:
        return self.words[-1] == b"noreply"


def commands(text: bytes) -> Iterator[Words]:
    position = 0
    while position < len(text):
        end = text.index(b"\r\n", position)
        words = text[position:end].split()
        position = end + 2
        block = b""
        if words[0] in STORING:
            block = text[position : position + int(words[4])]
            position += len(block) + 2
        yield Words(words, block)


def value_of(wanted: Words, flags: int, cas: int, value: bytes) -> bytes:
    """Return a hit as text has it: of get, gets, or mg with the flags that it named."""
    verb, key = wanted.words[:2]
    if verb == b"mg":
        told = {b"f": flags, b"c": cas, b"t": -1}
        marks = b"".join(b" %b%d" % (each, told[each]) for each in wanted.words[2:] if each in told)
        return b"VA %d%b\r\n%b\r\n" % (len(value), marks, value)
    unique = b" %d" % cas if verb == b"gets" else b""
    return b"VALUE %b %d %d%b\r\n%b\r\n" % (key, flags, len(value), unique, value)


class Text:
    """As it is."""

    def encode(self, text: bytes) -> bytes:
        return text

    def decode(self, data: bytes) -> bytes:
        return data

    @staticmethod
    def whole(data: bytes) -> int:
        return data.find(b"\n") + 1


# -- binary --------------------------------------------------------------------------------------

#: Verb -> opcode, and the quiet one. # protocol-binary.txt, 3.3
OPCODES = {
    b"get": (0x00, 0x00),
    b"gets": (0x00, 0x00),
    b"mg": (0x00, 0x00),
    b"set": (0x01, 0x11),
    b"cas": (0x01, 0x11),
    b"add": (0x02, 0x12),
    b"replace": (0x03, 0x13),
    b"delete": (0x04, 0x14),
    b"incr": (0x05, 0x15),
    b"decr": (0x06, 0x16),
    b"flush_all": (0x08, 0x18),
    b"mn": (0x0A, 0x0A),
    b"version": (0x0B, 0x0B),
    b"append": (0x0E, 0x19),
    b"prepend": (0x0F, 0x1A),
    b"stats": (0x10, 0x10),
    b"touch": (0x1C, 0x1C),
}
QUIET_OPCODES = frozenset(quiet for loud, quiet in OPCODES.values() if loud != quiet)
DONE = {b"delete": b"DELETED", b"flush_all": b"OK", b"mn": b"MN", b"touch": b"TOUCHED"}
KEY_NOT_FOUND, KEY_EXISTS, NOT_STORED, NOT_A_NUMBER = 1, 2, 5, 6
NO_EXPIRY_NO_CREATION = 0xFFFFFFFF


def encode_request(
    opcode: int, key: bytes = b"", extras: bytes = b"", value: bytes = b"", cas: int = 0
) -> bytes:
    size = len(extras) + len(key) + len(value)
    head = HEADER.pack(0x80, opcode, len(key), len(extras), 0, 0, size, 0, cas)
    return b"".join((head, extras, key, value))


class Binary:
    """The binary protocol. What remains of an item's time it does not tell: -1, as of none."""

    def __init__(self) -> None:
        self._buffer = b""
        #: What was asked, key by key, and whether the answer ends with it.
        self._asked: deque[tuple[Words, bool]] = deque()

    @staticmethod
    def whole(data: bytes) -> int:
        if len(data) < HEADER.size:
            return 0
        used = HEADER.size + int.from_bytes(data[8:12], "big")
        return used if len(data) >= used else 0

    def encode(self, text: bytes) -> bytes:
        return b"".join(request for each in commands(text) for request in self._requests(each))

    def _requests(self, asked: Words) -> Iterator[bytes]:
        verb, words = asked.verb, asked.words
        opcode = OPCODES[verb][asked.quiet]
        if verb in READING:
            for key in words[1:]:
                self._asked.append((Words([verb, key]), key is words[-1]))
                yield encode_request(opcode, key)
            return
        if not asked.quiet:
            self._asked.append((asked, True))
        if verb == b"stats":
            yield encode_request(opcode, b" ".join(words[1:]))
        elif verb in STORING:
            joins = verb in (b"append", b"prepend")
            extras = b"" if joins else struct.pack(">II", int(words[2]), int(words[3]))
            cas = int(words[5]) if verb == b"cas" else 0
            yield encode_request(opcode, words[1], extras, asked.block, cas)
        elif verb in (b"incr", b"decr"):
            extras = struct.pack(">QQI", int(words[2]), 0, NO_EXPIRY_NO_CREATION)
            yield encode_request(opcode, words[1], extras)
        elif verb == b"touch":
            yield encode_request(opcode, words[1], struct.pack(">I", int(words[2])))
        elif verb == b"flush_all" and words[1:]:
            yield encode_request(opcode, extras=struct.pack(">I", int(words[1])))
        else:
            yield encode_request(opcode, words[1] if verb in (b"delete", b"mg") else b"")

    def decode(self, data: bytes) -> bytes:
        self._buffer += data
        told = []
        while used := self.whole(self._buffer):
            told.append(self._answer(self._buffer[:used]))
            self._buffer = self._buffer[used:]
        return b"".join(told)

    def _answer(self, data: bytes) -> bytes:
        _, opcode, key_bytes, extras_bytes, _, status, _, _, cas = HEADER.unpack_from(data)
        key_at = HEADER.size + extras_bytes
        key, value = data[key_at : key_at + key_bytes], data[key_at + key_bytes :]
        if opcode in QUIET_OPCODES:
            return b"SERVER_ERROR %b\r\n" % value  # nobody asked, as of text with noreply
        asked, ends = self._asked[0]
        verb = asked.verb
        if verb == b"stats" and key and not status:
            return b"STAT %b %b\r\n" % (key, value)
        self._asked.popleft()
        if verb in READING and status in (0, KEY_NOT_FOUND):
            end = b"END\r\n" if ends else b""
            if status:
                return end
            return value_of(asked, int.from_bytes(data[24:key_at], "big"), cas, value) + end
        if status:
            return self._failure(verb, status, value) + b"\r\n"
        if verb == b"mg":
            return value_of(asked, int.from_bytes(data[24:key_at], "big"), cas, value)
        if verb in (b"incr", b"decr"):
            return b"%d\r\n" % int.from_bytes(value, "big")
        if verb == b"version":
            return b"VERSION %b\r\n" % value
        if verb == b"stats":
            return b"END\r\n"
        return DONE.get(verb, b"STORED") + b"\r\n"

    def _failure(self, verb: bytes, status: int, value: bytes) -> bytes:
        if verb == b"mg" and status == KEY_NOT_FOUND:
            return b"EN"
        if status == NOT_STORED or (verb, status) in (
            (b"add", KEY_EXISTS),
            (b"replace", KEY_NOT_FOUND),
        ):
            return b"NOT_STORED"
        told = {KEY_NOT_FOUND: b"NOT_FOUND", KEY_EXISTS: b"EXISTS", NOT_A_NUMBER: NON_NUMERIC}
        return told.get(status) or b"SERVER_ERROR %d %b" % (status, value)


# -- meta ----------------------------------------------------------------------------------------

MODES = {b"set": b"S", b"add": b"E", b"replace": b"R", b"append": b"A", b"prepend": b"P"}
META_STATUS = {b"NS": b"NOT_STORED", b"EX": b"EXISTS", b"NF": b"NOT_FOUND"}
#: What is said as it is, and answered with one line; but for stats, with several.
PLAIN = frozenset((b"mn", b"version", b"flush_all", b"stats"))


class Meta:
    """Meta commands, where there is one for it."""

    def __init__(self) -> None:
        self._buffer = b""
        self._asked: deque[tuple[Words, bool]] = deque()

    @staticmethod
    def whole(data: bytes) -> int:
        end = data.find(b"\n") + 1
        if data[:3] == b"VA " and end:
            end += int(data.split(None, 2)[1]) + 2
        return end if len(data) >= end else 0

    def encode(self, text: bytes) -> bytes:
        return b"".join(request for each in commands(text) for request in self._requests(each))

    def _requests(self, asked: Words) -> Iterator[bytes]:
        verb, words = asked.verb, asked.words
        quiet = b" q" if asked.quiet else b""
        if verb in READING:
            for key in words[1:]:
                self._asked.append((Words([verb, key]), key is words[-1]))
                yield b"mg %b v f c\r\n" % key
            return
        if not asked.quiet:
            self._asked.append((asked, True))
        if verb in STORING:
            flags = b"" if verb in (b"append", b"prepend") else b" F%b T%b" % (words[2], words[3])
            flags += b" C%b" % words[5] if verb == b"cas" else b" M" + MODES[verb]
            head = b"ms %b %d%b%b\r\n" % (words[1], len(asked.block), flags, quiet)
            yield head + asked.block + b"\r\n"
        elif verb in (b"incr", b"decr"):
            yield b"ma %b v D%b M%b%b\r\n" % (words[1], words[2], verb[:1].upper(), quiet)
        elif verb == b"delete":
            yield b"md %b%b\r\n" % (words[1], quiet)
        elif verb == b"touch":
            yield b"mg %b T%b\r\n" % (words[1], words[2])
        else:
            yield b" ".join(words) + b"\r\n"

    def decode(self, data: bytes) -> bytes:
        self._buffer += data
        told = []
        while used := self.whole(self._buffer):
            told.append(self._answer(self._buffer[:used]))
            self._buffer = self._buffer[used:]
        return b"".join(told)

    def _answer(self, data: bytes) -> bytes:
        asked, ends = self._asked[0]
        verb = asked.verb
        if verb == b"stats" and data.startswith(b"STAT "):
            return data
        self._asked.popleft()
        line, _, rest = data.partition(b"\r\n")
        words = line.split()
        if verb in PLAIN or verb == b"mg" or line.startswith(FAILURES):
            return data
        if verb in READING:
            end = b"END\r\n" if ends else b""
            if words[0] == b"EN":
                return end
            marks = {word[:1]: int(word[1:]) for word in words[2:]}
            return value_of(asked, marks[b"f"], marks[b"c"], rest[:-2]) + end
        if words[0] == b"VA":
            return rest
        if words[0] == b"HD":
            return DONE.get(verb, b"STORED") + b"\r\n"
        return META_STATUS.get(words[0], b"NOT_FOUND") + b"\r\n"
