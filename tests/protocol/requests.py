"""What clients may send: strategies for hypothesis, and ways to cut a stream into pieces."""

from __future__ import annotations

import struct
from itertools import pairwise
from typing import Any

from hypothesis import strategies as st

#: Settings by which some of the values are too large, and some are stored in chunks.
SMALL_ITEMS: dict[str, Any] = {"item_size_max_bytes": 1024, "slab_chunk_max_bytes": 512}

KEYS = st.sampled_from(
    [b"a", b"a", b"b", b"b", b"c", b"d:e", b"\xff\x7f", b"t\tb", b"k" * 250, b"k" * 251]
)
NUMBERS = st.sampled_from(
    [b"0", b"0", b"0", b"1", b"5", b"05", b"100", b"-1", b"+1", b"x", b"4294967296", b"9" * 20]
)
#: Together with a command line behind it, a value must not be an endless line, should it be read
#: as one: such a line is fine if it comes at once, and closes the connection if it does not.
VALUES = st.one_of(
    st.sampled_from([b"", b"1", b"9", b"\r\n", b"a\r\nget b\r\n", b"18446744073709551615"]),
    st.integers(1, 900).map(lambda length: b"x" * length),
)
MAYBE_NOREPLY = st.sampled_from([b"", b"", b"", b" noreply", b" extra"])
LINE_ENDS = st.sampled_from([b"\r\n", b"\r\n", b"\r\n", b"\n"])


STORAGE_VERBS = st.sampled_from(
    [b"set", b"set", b"set", b"add", b"replace", b"append", b"prepend", b"cas"]
)
META_FLAGS = st.sampled_from(
    [b"v", b"f", b"c", b"t", b"k", b"q", b"s", b"h", b"l", b"Oxy", b"T30", b"N9", b"I", b"x"]
)


@st.composite
def storage(draw: st.DrawFn) -> bytes:
    """A storage command with its block; now and then one of them is wrong."""
    value = draw(VALUES)
    length = b"%d" % len(value) if draw(st.integers(0, 9)) else draw(NUMBERS)
    verb = draw(
        st.sampled_from([b"set", b"set", b"add", b"replace", b"append", b"prepend", b"cas"])
    )
    line = b" ".join([verb, draw(KEYS), draw(NUMBERS), draw(NUMBERS), length])
    if verb == b"cas":
        line += b" " + draw(NUMBERS)
    end = draw(st.sampled_from([b"\r\n"] * 6 + [b"\n", b"", b"xx"]))
    return line + draw(MAYBE_NOREPLY) + draw(LINE_ENDS) + value + end


@st.composite
def retrieval(draw: st.DrawFn) -> bytes:
    verb = draw(st.sampled_from([b"get", b"get", b"gets", b"gat 0", b"gats 100", b"gat x"]))
    keys = draw(st.lists(KEYS, max_size=3))
    return b" ".join([verb, *keys]) + draw(LINE_ENDS)


@st.composite
def other(draw: st.DrawFn) -> bytes:
    verb = draw(st.sampled_from([b"delete", b"incr", b"decr", b"touch"]))
    line = b" ".join([verb, draw(KEYS), *draw(st.lists(NUMBERS, max_size=2))])
    return line + draw(MAYBE_NOREPLY) + draw(LINE_ENDS)


@st.composite
def meta(draw: st.DrawFn) -> bytes:
    flags = draw(st.lists(META_FLAGS, max_size=4))
    verb = draw(st.sampled_from([b"mg", b"md", b"ma", b"mn", b"me"]))
    if draw(st.booleans()):
        value = draw(VALUES)
        return (
            b" ".join([b"ms", draw(KEYS), b"%d" % len(value), *flags]) + b"\r\n" + value + b"\r\n"
        )
    return b" ".join([verb, draw(KEYS), *flags]) + draw(LINE_ENDS)


FIXED = st.sampled_from(
    [
        b"\r\n",
        b"\n",
        b"  \r\n",
        b"version\r\n",
        b"verbosity 1\r\n",
        b"flush_all\r\n",
        b"flush_all 2 noreply\r\n",
        b"nonsense\r\n",
        b"GET a\r\n",
        b" get  a \r\n",
        b"get a\0b\r\n",
        b"get a\r\r\n",
        b"set\r\n",
        b"mn\r\n",
        b"stats reset\r\n",
        b"lru mode segmented\r\n",
        b"quit\r\n",
        b"GET / HTTP/1.1\r\n",
    ]
)
COMMANDS = st.one_of(storage(), storage(), retrieval(), retrieval(), other(), meta(), FIXED)
#: A stream of text commands.
TEXT = st.lists(COMMANDS, max_size=12)


@st.composite
def binary_request(draw: st.DrawFn) -> bytes:
    """A binary request whose lengths mostly agree with each other."""
    opcode = draw(st.one_of(st.sampled_from([0x00, 0x01, 0x01, 0x0C, 0x0E]), st.integers(0, 0x25)))
    key = draw(KEYS)
    sizes = {0x01: 8, 0x02: 8, 0x03: 8, 0x11: 8, 0x05: 20, 0x06: 20, 0x1C: 4, 0x1D: 4}
    extras = bytes(sizes.get(opcode, draw(st.sampled_from([0, 0, 0, 4]))))
    value = b"v" * 10 if opcode in (0x01, 0x02, 0x03, 0x11, 0x0E, 0x0F, 0x19) else b""
    body = extras + key + value
    return (
        struct.pack(
            "!BBHBBHIIQ", 0x80, opcode, len(key), len(extras), 0, 0, len(body), 7,
            draw(st.sampled_from([0, 0, 1, 5])),
        )
        + body
    )  # fmt: skip


BINARY = st.lists(binary_request(), max_size=10)

#: Anything at all, with enough of the protocols' words in it to get somewhere.
GARBAGE = st.lists(
    st.one_of(
        st.binary(max_size=60),
        st.sampled_from([b"get ", b"gets ", b"set a 0 0 ", b"mg a v", b"ms a 5 ", b"incr a "]),
        st.sampled_from([b"\r\n", b"\n", b" ", b"\0", b"a", b"5", b"-1", b"noreply"]),
        st.sampled_from([b"x" * 3000, b" " * 200, b"9" * 30]),
        st.sampled_from([b"set a 0 0 2000000000\r\n", b"set a 0 0 100000\r\n", b"ms a 999999\r\n"]),
        st.sampled_from([b"\x80", b"\x80\x01\0\x01\x08\0\0\0", b"\x80\0\0\xff\xff"]),
    ),
    max_size=20,
).map(b"".join)
#: Where to cut: anywhere, or near the end of a line.
CUTS = st.lists(
    st.tuples(st.booleans(), st.integers(0, 5000), st.sampled_from([-1, 0, 1])), max_size=12
)


def cut(stream: bytes, cuts: list[tuple[bool, int, int]]) -> list[bytes]:
    """Cut a stream into pieces, where `cuts` (of CUTS) says."""
    places = {0, len(stream)}
    for near_line_end, number, shift in cuts:
        place = number % (len(stream) + 1)
        if near_line_end:
            place = stream.find(b"\n", place) + shift
        places.add(max(0, place))
    return [stream[start:end] for start, end in pairwise(sorted(places))]
