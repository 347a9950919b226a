"""Requests of the binary protocol: of the right form, and of every wrong one."""

from __future__ import annotations

import struct
from itertools import product

from . import Closes, Pieces, Step, table

GET, SET, ADD, REPLACE, DELETE, INCREMENT, DECREMENT, QUIT = range(8)
FLUSH, GETQ, NOOP, VERSION, GETK, GETKQ, APPEND, PREPEND = range(8, 16)
STAT, SETQ, QUITQ, FLUSHQ, APPENDQ = 0x10, 0x11, 0x17, 0x18, 0x19
TOUCH, GAT, GATQ = 0x1C, 0x1D, 0x1E
SASL_LIST, SASL_AUTH, SASL_STEP, GATK = 0x20, 0x21, 0x22, 0x23
UNKNOWN = 0x1B, 0x1F, 0x25, 0x40, 0x99, 0xFF
KNOWN = (*range(0x1B), *range(0x1C, 0x1F), *range(0x20, 0x25))
#: What extras a request must have; none, if it is not named here.
EXTRAS = {
    **dict.fromkeys((SET, ADD, REPLACE, SETQ, 0x12, 0x13), 8),
    **dict.fromkeys((INCREMENT, DECREMENT, 0x15, 0x16), 20),
    **dict.fromkeys((TOUCH, GAT, GATQ, GATK, 0x24), 4),
}
BIG = 2_000_000
#: A request whose body is longer is malformed.
BODY_MAX = 1 << 30
#: The longest key that a buffer of memcached's holds, with its header.
LONGEST = 16 * 1024 - 24


def request(
    opcode: int,
    key: bytes = b"",
    extras: bytes = b"",
    value: bytes = b"",
    *,
    cas: int = 0,
    magic: int = 0x80,
    body: int | None = None,
    unread: tuple[int, int] = (0, 0),
) -> bytes:
    """Return a request; `body` may be a lie, and `unread` is data type and virtual bucket."""
    if body is None:
        body = len(extras) + len(key) + len(value)
    head = struct.pack(
        ">BBHBBHI4sQ", magic, opcode, len(key), len(extras), *unread, body, b"opaq", cas
    )
    return head + extras + key + value


def store(
    opcode: int, value: bytes, key: bytes = b"k", *, unread: tuple[int, int] = (0, 0)
) -> bytes:
    return request(opcode, key, bytes(8), value, unread=unread)


def count(opcode: int, delta: int, initial: int, exptime: int) -> bytes:
    return request(opcode, b"n", struct.pack(">QQI", delta, initial, exptime))


END = request(NOOP)
NO_CREATION = 0xFFFFFFFF
ASKED = request(GET, b"k") + request(GET, b"n")


def _forms(opcode: int) -> tuple[Step, ...]:
    """Return one opcode in every wrong form; each closes the connection, or is answered."""
    sizes = (0, 1, 4, 8, 20)
    steps: list[Step] = []
    for size, key, value in product(sizes, (b"", b"k", b"L" * 251), (b"", b"1")):
        wrong = request(opcode, key, bytes(size), value)
        if len(key) < 251:
            # An unknown one swallows as much as its body has, but from behind extras and key.
            taken_twice = bytes(size + len(key)) if opcode in UNKNOWN else b""
            wrong += taken_twice + END
        steps.append(wrong)
    for size in (1, 20):
        key, extras = b"k" * size, bytes(EXTRAS.get(opcode, 0))
        steps += [
            request(opcode, key, extras, body=0),
            request(opcode, key, extras, body=size - 1),
        ]
    return tuple(steps)


#: What leaves requests behind, as nobody looks at the rest of a body.
_LEAVING = (STAT, TOUCH, GAT, GATQ, GATK, 0x24)
FORMS = [
    (f"forms of {opcode:#04x}", *_forms(opcode))
    for opcode in (*KNOWN, *UNKNOWN)
    if opcode not in _LEAVING
]
#: Each answer has a unique behind the opaque; most have none to show.
UNIQUES = (rb"(?s)(?<=opaq).{8}",)

STATS = (
    b"reset", b"resetx", b"rese", b"settin", b"detail", b"detailx", b"items", b"itemsx", b"item",
    b"ITEMS", b"slabs", b"slabsx", b"sizes", b"sizesx", b"sizes_enable", b"sizes_disable",
    b"conns", b"cachedump", b"extstore", b"threads", b"proxy", b"bogus",
)  # fmt: skip

CASES = [
    *table("binary", FORMS, hide=UNIQUES),
    *table(
        "binary",
        [
            (
                "what nobody reads",
                store(SET, b"v", unread=(255, 65535)) + request(GET, b"k", unread=(1, 1)) + END,
                request(NOOP, cas=7) + request(VERSION, cas=7) + request(DELETE, b"x", cas=7),
            ),
            (
                "more than a gibibyte",
                *(
                    request(opcode, b"k", bytes(EXTRAS.get(opcode, 0)), body=body)
                    for opcode in (GET, SET, SETQ, APPEND, STAT, TOUCH, SASL_AUTH, 0x99)
                    for body in (BODY_MAX + 1, 1 << 31, (1 << 32) - 1)
                ),
            ),
            (
                "quiet ones",
                store(SETQ, b"5") + store(0x12, b"6") + store(0x13, b"7") + ASKED,
                request(GETQ, b"none") + request(GETKQ, b"none") + request(GETK, b"none") + END,
                request(APPENDQ, b"none", b"", b"v") + request(0x1A, b"none", b"", b"v") + END,
                request(0x14, b"k") + request(0x14, b"k") + END,
                request(GATQ, b"k", bytes(4)) + request(0x24, b"k", bytes(4)) + END,
                request(FLUSHQ) + request(FLUSHQ, b"", bytes(4)) + END,
                request(QUITQ) + END,
            ),
            (
                "counting",
                *(
                    count(opcode, 3, initial, exptime) + ASKED + request(DELETE, b"n")
                    for opcode in (INCREMENT, DECREMENT)
                    for initial in (0, 7, (1 << 64) - 1)
                    for exptime in (0, 1, NO_CREATION, 100)
                ),
                store(SET, b"9", b"n") + count(INCREMENT, 3, 0, NO_CREATION) + ASKED,
                store(SET, b"x", b"n") + count(INCREMENT, 3, 0, 0) + count(DECREMENT, 3, 0, 0),
            ),
            (
                "stats",
                *(request(STAT, word) + END for word in STATS),
                *(
                    request(STAT, b"detail " + word) + END
                    for word in (b"", b"on", b"onx", b"off", b"offx", b"bogus", b" on")
                ),
                request(STAT, b"bogus", b"", END) + END,
                request(STAT, b"items", b"extra") + END,
                request(STAT, b"items\0") + request(STAT, b"\0") + request(STAT, b"L" * 250) + END,
            ),
            (
                "no login",
                *(request(code, b"PLAIN", b"", b"v") + END for code in (0x21, 0x22)),
                request(SASL_LIST) + END,
            ),
            (
                "quits",
                Closes(request(QUIT) + END),
                Closes(request(QUITQ) + END),
                Closes(request(GET)),
            ),
            (
                "a key is waited for",
                Pieces((request(GET, b"k" * 251)[:100], request(GET, b"k" * 251)[100:])),
                Pieces((request(GET, b"k" * 300, b"extr")[:24], b"")),
                Closes(request(GET, b"k" * LONGEST)),
                Closes(request(GET, b"k" * (LONGEST + 1))),
            ),
            (
                "a value is waited for, also one that is too large",
                Pieces((store(SET, b"x" * BIG)[:1000],)),
                Pieces((request(APPEND, b"k", b"", b"x" * BIG)[:1000],)),
                store(SET, b"x" * BIG) + END,
                request(PREPEND, b"k", b"", b"x" * BIG) + END,
                request(0x99, b"", b"", b"v" * 5000) + END,
            ),
        ],
        hide=UNIQUES,
        fresh=True,
    ),
]
