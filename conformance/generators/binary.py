"""Random requests of the binary protocol: valid, slightly wrong, and wrong on purpose.

What is said in `text` about time, memory behind a value and answers on their way holds here, too.
Besides:

- **A wrong magic** makes memcached close at once and drop the answers it has not sent yet. Requests
  that lead to one are alone in their batch, and so are keys that fit in none of its buffers.
- **Requests that are longer than they should be** leave bytes behind, which are read as the next
  request: what they leave is a request. An unknown opcode swallows as many bytes as its body has,
  though extras and key have been taken already: as many follow it.
- **Statistics** differ in their values, not in their names.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

from . import Batch, Memory
from .text import SEGMENT_MAX_BYTES

if TYPE_CHECKING:
    import random
    from collections.abc import Callable

HEADER = struct.Struct(">BBHBBHI4sQ")
HEADER_BYTES = 24
RESPONSE_MAGIC = 0x81
STAT = 0x10

# Stands for "the n-th unique seen, counted from the last", in the eight bytes of the cas.
UNIQUE_MARK = b"~unique"

KEYS = (
    b"k", b"key", b"alpha", b"beta", b"counter", b"n", b"prefix:one", b"prefix:two", b"k" * 100,
    b"L" * 250, b"\xc3\xa9t\xc3\xa9", b"sp ace", b"new\r\nline", b"nul\x00", b"\x00",
    b"\xff\x80\x81", b"tab\t", b" ",
)  # fmt: skip
BAD_KEYS = (b"", b"L" * 251, b"M" * 300, b"N" * 2000)
#: With header and extras more than memcached reads at once.
ENDLESS_KEYS = (b"O" * 16361, b"P" * 20000, b"Q" * 65535)
#: A request with a longer body is refused, whatever it is.
BODY_MAX_BYTES = 1 << 30
NUMBERS = (
    b"0", b"1", b"5", b"9", b"10", b"99", b"100", b"1000000000000", b"4611686018427387904",
    b"18446744073709551616", b"00012", b"5 ", b" 5", b"+5", b"5abc", b"abc", b"0x10", b"\t7",
    b"7\n", b"1\x002", b"99999999999999999999999", b"", b"",
)  # fmt: skip
FLAGS = (0, 0, 0, 1, 77, 0x7FFFFFFF, 0xFFFFFFFF)
EXPTIMES = (
    0, 0, 0, 0, 0, 0, 100000, 2592000, 2592001, 1000000000, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF,
)  # fmt: skip
DELTAS = (0, 1, 1, 2, 5, 10, 99999)
DECREMENTS = (*DELTAS, 1 << 63, (1 << 64) - 1)
INITIALS = (0, 1, 10, 99, 1 << 40, 1 << 61)
STATS = (
    b"", b"settings", b"settingsx", b"items", b"slabs", b"sizes", b"reset", b"resetx", b"detail",
    b"detail on", b"detail off", b"detail dump", b"detail bogus", b"detail onx", b"bogus", b"conns",
    b"itemsx", b"item", b"SETTINGS", b"cachedump 1 1", b"sizes_disable",
)  # fmt: skip

GET, SET, ADD, REPLACE, DELETE, INCREMENT, DECREMENT, QUIT = range(8)
FLUSH, GETQ, NOOP, VERSION, GETK, GETKQ, APPEND, PREPEND = range(8, 16)
SETQ, ADDQ, REPLACEQ, DELETEQ, INCREMENTQ, DECREMENTQ, QUITQ, FLUSHQ = range(0x11, 0x19)
APPENDQ, PREPENDQ, VERBOSITY, TOUCH, GAT, GATQ = range(0x19, 0x1F)
SASL_LIST_MECHS, SASL_AUTH, SASL_STEP, GATK, GATKQ = range(0x20, 0x25)

RETRIEVALS = (GET, GET, GETQ, GETK, GETKQ)
TOUCHES = (TOUCH, GAT, GATQ, GATK, GATKQ)
STORES = (SET, SET, SET, ADD, REPLACE, SETQ, ADDQ, REPLACEQ)
JOINS = (APPEND, PREPEND, APPENDQ, PREPENDQ)
KNOWN = frozenset((*range(0x1B), *range(0x1C, 0x1F), *range(0x20, 0x25)))
UNKNOWN = tuple(opcode for opcode in range(256) if opcode not in KNOWN)


def request(
    opcode: int,
    key: bytes = b"",
    extras: bytes = b"",
    value: bytes = b"",
    *,
    opaque: bytes = b"opaq",
    cas: bytes = bytes(8),
    magic: int = 0x80,
    body_bytes: int | None = None,
    data_type: int = 0,
    vbucket: int = 0,
) -> bytes:
    """Return one request; `body_bytes` may tell a lie, and nobody reads the last two."""
    if body_bytes is None:
        body_bytes = len(key) + len(extras) + len(value)
    lengths = len(key), len(extras)
    head = HEADER.pack(magic, opcode, *lengths, data_type, vbucket, body_bytes, opaque, 0)
    return head[:16] + cas + extras + key + value


class BinaryProtocol:
    """Generator of binary requests; see `Protocol` for its duties."""

    name = "binary"
    login: tuple[bytes, ...] = ()

    def __init__(self, *, flushing: bool = True) -> None:
        self.flushing = flushing
        self._kinds: list[Callable[[random.Random], bytes]] = [
            *[self._retrieval] * 5,
            *[self._touch] * 3,
            *[self._storage] * 8,
            *[self._join] * 2,
            *[self._arithmetic] * 4,
            *[self._number] * 2,
            *[self._delete] * 2,
            self._admin,
            self._stat,
            self._unknown,
            self._too_long,
        ]
        if flushing:
            self._kinds.append(self._flush)

    # What the runner calls.

    def is_answer(self, reply: bytes) -> bool:
        return (
            len(reply) >= HEADER_BYTES and len(reply) >= HEADER_BYTES + HEADER.unpack_from(reply)[6]
        )

    def opening(self) -> bytes:
        deletes = b"".join(request(DELETE, key) for key in KEYS)
        return (request(FLUSH) if self.flushing else b"") + deletes + request(STAT, b"detail off")

    def reference_opening(self) -> bytes:
        return b"lru mode flat\r\n"

    def sentinel(self, number: int) -> tuple[bytes, bytes]:
        opaque = struct.pack(">I", 0x5E000000 + number)
        answer = HEADER.pack(RESPONSE_MAGIC, NOOP, 0, 0, 0, 0, 0, opaque, 0)
        return request(NOOP, opaque=opaque), answer

    def substitute(self, request: bytes, memory: Memory) -> bytes:
        start = 0
        while (at := request.find(UNIQUE_MARK, start)) >= 0:
            seen = memory.uniques
            back = request[at + len(UNIQUE_MARK)]
            unique = seen[-1 - back % len(seen)] if seen else struct.pack(">Q", 1)
            request = request[:at] + unique + request[at + 8 :]
            start = at + 8
        return request

    def normalise(self, reply: bytes, memory: Memory) -> bytes:
        """Number the uniques in the order seen, and leave out what statistics say."""
        pieces: list[bytes] = []
        position = 0
        while position + HEADER_BYTES <= len(reply):
            header = reply[position : position + HEADER_BYTES]
            magic, opcode, key_bytes, _, _, _, body_bytes, _, cas = HEADER.unpack(header)
            end = position + HEADER_BYTES + body_bytes
            if magic != RESPONSE_MAGIC or end > len(reply):
                break
            if cas:
                header = header[:16] + b"unique-%d" % memory.see(header[16:])
            body = reply[position + HEADER_BYTES : end]
            if opcode == STAT and key_bytes:
                name = body[:key_bytes]
                # When dead items vanish from a class, a thread decides.
                header, body = (b"", b"") if b":" in name else (b"stat ", name)
            pieces += (header, body)
            position = end
        return b"".join(pieces) + reply[position:]

    def batch(self, rng: random.Random) -> Batch:
        kind = rng.random()
        if kind < 0.9:
            return self._smooth(rng)
        if kind < 0.96:
            commands = [self._storage(rng) for _ in range(rng.randrange(4))]
            last = rng.choice((self._malformed, self._malformed, self._too_much, self._quit))
            return Batch([*commands, last(rng), request(VERSION)], closes=True)
        if kind < 0.98:
            alone = rng.choice((self._wrong_magic, self._wrong_magic, self._endless))
            return Batch([alone(rng)], closes=True)
        return Batch([self._large(rng), *(self._retrieval(rng) for _ in range(2))])

    # Batches.

    def _smooth(self, rng: random.Random) -> Batch:
        commands: list[bytes] = []
        size_bytes = 0
        retrieved = False
        for _ in range(rng.choice((1, 3, 10, 30, 80))):
            make = rng.choice(self._kinds)
            if retrieved and make == self._arithmetic:
                continue
            command = make(rng)
            size_bytes += len(command)
            if size_bytes > SEGMENT_MAX_BYTES:
                break
            retrieved = retrieved or make in (self._retrieval, self._touch, self._too_long)
            commands.append(command)
        cuts = tuple(sorted(rng.random() for _ in range(rng.choice((0, 0, 0, 1, 2, 5)))))
        return Batch(commands or [request(VERSION)], cuts=cuts)

    # Requests.

    def _opaque(self, rng: random.Random) -> bytes:
        return rng.randbytes(4)

    def _key(self, rng: random.Random) -> bytes:
        return rng.choice(KEYS)

    def _cas(self, rng: random.Random) -> bytes:
        kind = rng.random()
        if kind < 0.75:
            return bytes(8)
        if kind < 0.95:
            return UNIQUE_MARK + bytes((rng.choice((0, 0, 0, 1, 2, 3, 7)),))
        return struct.pack(">Q", rng.choice((1, 99999999, (1 << 64) - 1)))

    def _unread(self, rng: random.Random) -> tuple[int, int]:
        """Return what nobody reads, data type and virtual bucket: mostly nothing."""
        return (rng.randrange(256), rng.randrange(65536)) if rng.random() < 0.1 else (0, 0)

    def _retrieval(self, rng: random.Random) -> bytes:
        opcode, key = rng.choice(RETRIEVALS), self._key(rng)
        data_type, vbucket = self._unread(rng)
        return request(
            opcode,
            key,
            opaque=self._opaque(rng),
            cas=self._cas(rng),
            data_type=data_type,
            vbucket=vbucket,
        )

    def _touch(self, rng: random.Random) -> bytes:
        extras = struct.pack(">I", rng.choice(EXPTIMES))
        opcode, key = rng.choice(TOUCHES), self._key(rng)
        return request(opcode, key, extras, opaque=self._opaque(rng), cas=self._cas(rng))

    def _value(self, rng: random.Random) -> bytes:
        value = self._any_value(rng)
        # Behind a blank value, memcached reads on for a number.
        return value if value.strip() else b""

    def _any_value(self, rng: random.Random) -> bytes:
        kind = rng.random()
        if kind < 0.4:
            return rng.choice(NUMBERS)
        if kind < 0.9:
            return rng.randbytes(rng.choice((1, 2, 10, 50, 200))).replace(b"-", b"x")
        return bytes((rng.randrange(65, 91),)) * rng.choice((500, 1000, 3000))

    def _storage(self, rng: random.Random) -> bytes:
        extras = struct.pack(">II", rng.choice(FLAGS), rng.choice(EXPTIMES))
        data_type, vbucket = self._unread(rng)
        return request(
            rng.choice(STORES),
            self._key(rng),
            extras,
            self._value(rng),
            opaque=self._opaque(rng),
            cas=self._cas(rng),
            data_type=data_type,
            vbucket=vbucket,
        )

    def _number(self, rng: random.Random) -> bytes:
        extras = struct.pack(">II", rng.choice(FLAGS), 0)
        return request(SET, rng.choice((b"n", b"counter")), extras, rng.choice(NUMBERS[:9]))

    def _join(self, rng: random.Random) -> bytes:
        key = self._key(rng)
        value = self._value(rng)
        if value.isdigit() or rng.random() < 0.5:
            # No number grows beyond 2**63.
            value = b"x" + value[:100]
        opcode = rng.choice(JOINS)
        return request(opcode, key, b"", value, opaque=self._opaque(rng), cas=self._cas(rng))

    def _arithmetic(self, rng: random.Random) -> bytes:
        increment = rng.random() < 0.5
        opcode = rng.choice((INCREMENT, INCREMENTQ) if increment else (DECREMENT, DECREMENTQ))
        delta = rng.choice(DELTAS if increment else DECREMENTS)
        exptime = rng.choice((0, 0, 100000, 0xFFFFFFFF, 0xFFFFFFFF, 1000000000))
        extras = struct.pack(">QQI", delta, rng.choice(INITIALS), exptime)
        key = rng.choice((b"n", b"counter", self._key(rng)))
        return request(opcode, key, extras, opaque=self._opaque(rng), cas=self._cas(rng))

    def _delete(self, rng: random.Random) -> bytes:
        opcode = rng.choice((DELETE, DELETE, DELETEQ))
        return request(opcode, self._key(rng), opaque=self._opaque(rng), cas=self._cas(rng))

    def _flush(self, rng: random.Random) -> bytes:
        extras = rng.choice((b"", bytes(4)))
        opcode, cas = rng.choice((FLUSH, FLUSHQ)), self._cas(rng)
        return request(opcode, b"", extras, opaque=self._opaque(rng), cas=cas)

    def _admin(self, rng: random.Random) -> bytes:
        kind = rng.random()
        if kind < 0.6:
            opcode = rng.choice((VERSION, NOOP, NOOP, SASL_LIST_MECHS))
            return request(opcode, opaque=self._opaque(rng), cas=self._cas(rng))
        value = rng.randbytes(rng.choice((0, 1, 30, 500)))
        mechanism = rng.choice((b"PLAIN", b"CRAM-MD5", b"x", b"L" * 250))
        return request(rng.choice((SASL_AUTH, SASL_STEP)), mechanism, b"", value)

    def _stat(self, rng: random.Random) -> bytes:
        return request(STAT, rng.choice(STATS), opaque=self._opaque(rng), cas=self._cas(rng))

    def _unknown(self, rng: random.Random) -> bytes:
        key = rng.choice((b"", b"", b"k", b"L" * 250))
        extras = bytes(rng.choice((0, 0, 4, 255)))
        value = rng.randbytes(rng.choice((0, 0, 1, 20, 300)))
        taken_twice = rng.randbytes(len(key) + len(extras))
        opcode = rng.choice(UNKNOWN)
        return request(opcode, key, extras, value, opaque=self._opaque(rng)) + taken_twice

    def _too_long(self, rng: random.Random) -> bytes:
        """A request whose body goes on, and what it leaves is a request."""
        left = request(rng.choice((NOOP, VERSION, GET)), opaque=self._opaque(rng))
        if left[1] == GET:
            left = request(GET, b"k")
        if rng.random() < 0.5:
            return request(STAT, rng.choice((b"bogus", b"detail off", b"reset")), b"", left)
        return request(rng.choice(TOUCHES), self._key(rng), bytes(4), left)

    def _quit(self, rng: random.Random) -> bytes:
        return request(rng.choice((QUIT, QUITQ)), opaque=self._opaque(rng))

    def _malformed(self, rng: random.Random) -> bytes:
        """A request after which the server closes, and no other byte is looked at."""
        opcode = rng.choice((*KNOWN, *KNOWN, *UNKNOWN))
        key = rng.choice((*BAD_KEYS, b"k"))
        extras = bytes(rng.choice((0, 1, 3, 4, 5, 7, 8, 9, 19, 20, 21, 100, 255)))
        value = rng.randbytes(rng.choice((0, 0, 0, 1, 30)))
        body_bytes: int | None = None
        if rng.random() < 0.4:
            size = len(key) + len(extras)
            body_bytes = max(0, size - rng.choice((1, 2, 4, size)))
        made = request(opcode, key, extras, value, opaque=self._opaque(rng), body_bytes=body_bytes)
        return made if _closes(opcode, key, extras, value, body_bytes) else self._malformed(rng)

    def _too_much(self, rng: random.Random) -> bytes:
        """A request that announces more than any may have; its form does not matter."""
        extras = bytes(rng.choice((0, 0, 4, 8, 20, 255)))
        body_bytes = rng.choice((BODY_MAX_BYTES + 1, 1 << 31, (1 << 32) - 1))
        key, value = (
            rng.choice((b"", b"k", b"L" * 250, b"L" * 251)),
            rng.randbytes(rng.choice((0, 9))),
        )
        opcode = rng.randrange(256)
        return request(opcode, key, extras, value, opaque=self._opaque(rng), body_bytes=body_bytes)

    def _endless(self, rng: random.Random) -> bytes:
        """A key that memcached cannot hold, so that it hears nothing of it, nor we of it."""
        return request(rng.randrange(256), rng.choice(ENDLESS_KEYS), opaque=self._opaque(rng))

    def _wrong_magic(self, rng: random.Random) -> bytes:
        magic = rng.choice([each for each in range(256) if each != 0x80])
        # The first byte of a connection chooses the protocol; and a NOOP is answered at once.
        if rng.random() < 0.5:
            return request(NOOP) + request(NOOP, magic=magic)
        return request(NOOP) + bytes((magic,)) + rng.randbytes(rng.choice((23, 24, 40, 200)))

    def _large(self, rng: random.Random) -> bytes:
        """A value near a limit; see `text`."""
        near = rng.choice((8 << 10, 16 << 10, 600 << 10, 1 << 20, 1 << 20, 2 << 20))
        around = rng.choice((0, 1, 2, 47, 48, 50, 56, 57, 58, 60, 64, 100, 300, -1, -2))
        value = bytes((rng.randrange(65, 91),)) * max(0, near - around)
        opcode = rng.choice((*STORES, *JOINS))
        extras = struct.pack(">II", rng.choice(FLAGS), 0) if opcode in STORES else b""
        return request(opcode, rng.choice((b"k", b"beta")), extras, value)


def _closes(opcode: int, key: bytes, extras: bytes, value: bytes, body_bytes: int | None) -> bool:
    """Say whether memcached closes after this request. # memcached: dispatch_bin_command"""
    if body_bytes is not None:
        return body_bytes < len(key) + len(extras)
    if len(key) > 250:
        return True
    if opcode in UNKNOWN:
        return False
    if opcode in (VERSION, NOOP, SASL_LIST_MECHS, QUIT, QUITQ):
        return bool(key or extras or value) or opcode in (QUIT, QUITQ)
    if opcode in (FLUSH, FLUSHQ):
        return bool(key or value) or len(extras) not in (0, 4)
    if opcode == STAT:
        return bool(extras)
    lengths = {8: (SET, ADD, REPLACE, SETQ, ADDQ, REPLACEQ), 4: TOUCHES,
               20: (INCREMENT, DECREMENT, INCREMENTQ, DECREMENTQ)}  # fmt: skip
    wanted = next((length for length, opcodes in lengths.items() if opcode in opcodes), 0)
    if not key or len(extras) != wanted:
        return True
    valueless = (GET, GETQ, GETK, GETKQ, DELETE, DELETEQ, *lengths[20])
    return bool(value) and opcode in valueless
