"""What commands about the server change, as `stats` and other commands show it: not only `OK`."""

from __future__ import annotations

import struct

from . import Pieces, Step, table

SETS = [b"set k%02d 0 0 1\r\na\r\n" % number for number in range(20)]
#: In the order in which `stats items` shows them.
SEGMENTS = rb"items:1:number(?:_hot|_warm|_cold|_temp)?"


def only(names: bytes) -> tuple[bytes]:
    """Return what hides all rows of a report but these."""
    return (rb"(?:STAT (?!(?:%b) )[^\r\n]*\r\n)+" % names,)


def binary(opcode: int, key: bytes = b"", extras: bytes = b"") -> bytes:
    """Return a request of the binary protocol without a value."""
    length = len(extras) + len(key)
    head = struct.pack(">BBHBxxxI12x", 0x80, opcode, len(key), len(extras), length)
    return head + extras + key


FLUSH, STAT, FLUSHQ = 0x08, 0x10, 0x18

ITEMS = b"stats items\r\n"
FLAT = b"lru mode flat\r\n"
TEMPORARY = b"lru temp_ttl 60\r\n"

# What is HOT a thread soon moves to COLD; from there, and from TEMP, nothing goes by itself.
LRU: list[tuple[str | Step, ...]] = [
    ("flat", FLAT, Pieces((*SETS, ITEMS))),
    ("flat, in one go", FLAT + b"".join(SETS) + ITEMS),
    (
        "flat, ms",
        FLAT,
        b"ms k 1\r\na\r\nms l 1 ME\r\na\r\nms l 99 MA\r\n" + b"x" * 99 + b"\r\n" + ITEMS,
    ),
    ("flat, created", FLAT, b"mg k N0\r\nma n N0\r\nset m 0 0 1\r\n9\r\nincr m 1\r\n" + ITEMS),
]
TEMP: list[tuple[str | Step, ...]] = [
    ("temp_ttl", TEMPORARY, b"set k 0 30 1\r\na\r\nset l 0 90 1\r\na\r\n" + ITEMS),
    (
        "temp_ttl, no end, over from the start",
        TEMPORARY,
        b"set k 0 0 1\r\na\r\n" + ITEMS,
        b"set l 0 -1 1\r\na\r\n" + ITEMS,
    ),
    ("temp_ttl, flat", FLAT + TEMPORARY, b"set k 0 30 1\r\na\r\nset l 0 90 1\r\na\r\n" + ITEMS),
    ("temp_ttl, of what is there", b"set k 0 30 1\r\na\r\n", TEMPORARY + b"touch k 40\r\n" + ITEMS),
    ("temp_ttl, ms", TEMPORARY, b"ms k 1 T30\r\na\r\nms l 1\r\na\r\n" + ITEMS),
    ("temp_ttl, mg and ma", TEMPORARY, b"mg k N30\r\nma l N30\r\n" + ITEMS),
    ("temp_ttl, Increment", TEMPORARY, binary(5, b"k", struct.pack(">QQI", 1, 1, 30)), ITEMS),
    ("temp_ttl, off again", TEMPORARY + b"lru temp_ttl -1\r\n", b"set k 0 30 1\r\na\r\n" + ITEMS),
    ("temp_ttl 0", b"lru temp_ttl 0\r\n", b"set k 0 30 1\r\na\r\nset l 0 -1 1\r\na\r\n" + ITEMS),
]
SETTINGS: list[tuple[str | Step, ...]] = [
    (
        "shown",
        b"verbosity 1\r\ncache_memlimit 128\r\nlru tune 10 25 0.5 3\r\nlru mode flat\r\n"
        b"lru temp_ttl 9\r\nlru_crawler sleep 7\r\nlru_crawler tocrawl 8\r\n"
        b"slabs automove 2\r\nslabs automove ratio 0.5\r\nstats detail on\r\n"
        b"lru_crawler disable\r\n",
        b"stats settings\r\n",
    ),
    (
        "shown, back again",
        b"verbosity 1\r\nverbosity 0\r\nlru mode flat\r\nlru mode segmented\r\n"
        b"lru temp_ttl 9\r\nlru temp_ttl -1\r\nslabs automove 2\r\nslabs automove 0\r\n"
        b"stats detail on\r\nstats detail off\r\n",
        b"stats settings\r\n",
    ),
    ("shown, verbosity", b"verbosity 7\r\n", b"stats settings\r\n"),
    (
        "shown, noreply",
        b"verbosity 2 noreply\r\ncache_memlimit 99 noreply\r\nlru tune 5 5 1 1 noreply\r\n",
        b"stats settings\r\n",
    ),
]
FLUSHING: list[tuple[str | Step, ...]] = [
    (name, b"set k 0 0 1\r\na\r\n", command, b"get k\r\nset l 0 0 1\r\na\r\n")
    for name, command in (
        ("flush_all", b"flush_all\r\n"),
        ("flush_all 0", b"flush_all 0\r\n"),
        ("flush_all -1", b"flush_all -1\r\n"),
        ("flush_all 100", b"flush_all 100\r\n"),
        ("flush_all noreply", b"flush_all noreply\r\n"),
        ("flush_all 0 noreply", b"flush_all 0 noreply\r\n"),
        ("flush_all 100 noreply", b"flush_all 100 noreply\r\n"),
        ("flush_all abc", b"flush_all abc\r\n"),
        ("flush_all noreply noreply", b"flush_all noreply noreply\r\n"),
        ("Flush", binary(FLUSH)),
        ("Flush, 0", binary(FLUSH, b"", bytes(4))),
        ("Flush, 100", binary(FLUSH, b"", struct.pack(">I", 100))),
        ("FlushQ", binary(FLUSHQ)),
        ("FlushQ, 100", binary(FLUSHQ, b"", struct.pack(">I", 100))),
    )
]
DETAIL: list[tuple[str | Step, ...]] = [
    ("detail, on", b"stats detail on\r\n", b"get a:b\r\n", b"stats detail dump\r\n"),
    (
        "detail, off",
        b"stats detail on\r\n",
        b"stats detail off\r\nget a:b\r\n",
        b"stats detail dump\r\n",
    ),
    ("Stat detail, on", binary(STAT, b"detail on"), b"get a:b\r\n", b"stats detail dump\r\n"),
    (
        "Stat detail, off",
        b"stats detail on\r\n",
        binary(STAT, b"detail off"),
        b"get a:b\r\n",
        b"stats detail dump\r\n",
    ),
    (
        "reset",
        b"stats detail on\r\nget a:b\r\nset k 0 0 1\r\na\r\n",
        b"stats reset\r\n",
        b"stats detail dump\r\n",
    ),
    (
        "Stat reset",
        b"stats detail on\r\nget a:b\r\nset k 0 0 1\r\na\r\n",
        binary(STAT, b"reset"),
        b"stats detail dump\r\n",
    ),
    (
        "Stat sizes",
        b"stats sizes\r\n",
        binary(STAT, b"sizes_enable"),
        b"set k 0 0 1\r\na\r\n",
        b"stats sizes\r\n",
        binary(STAT, b"sizes_disable"),
        b"stats sizes\r\n",
    ),
]
#: What commands change of `stats settings`.
SWITCHED = (
    rb"maxbytes|verbosity|detail_enabled|slab_automove|slab_automove_ratio|lru_\w+"
    rb"|(?:hot|warm)_\w+|temp_lru|temporary_ttl|track_sizes"
)
CRAWLER: list[tuple[str | Step, ...]] = [
    (
        "lru_crawler crawl",
        b"set l 0 0 1\r\na\r\nset k 0 -1 1\r\na\r\nset m 0 -1 100\r\n" + b"x" * 100 + b"\r\n",
        b"lru_crawler crawl 1\r\n",
        b"lru_crawler crawl 63\r\n",
        b"stats items\r\n",
    ),
    (
        "lru_crawler crawl all",
        b"set l 0 0 1\r\na\r\nset k 0 -1 1\r\na\r\nset m 0 -1 100\r\n" + b"x" * 100 + b"\r\n",
        b"lru_crawler crawl all\r\n",
        b"lru_crawler crawl 63\r\n",
        b"stats items\r\n",
    ),
    (
        "lru_crawler tocrawl",
        b"".join(SETS),
        b"lru_crawler tocrawl 5\r\nlru_crawler crawl 1\r\n",
        b"lru_crawler crawl 63\r\n",
        b"stats items\r\n",
    ),
    (
        "lru_crawler disable",
        b"lru_crawler disable\r\n",
        b"lru_crawler crawl 1\r\n",
        b"lru_crawler metadump all\r\n",
    ),
    (
        "lru_crawler enable",
        b"lru_crawler disable\r\n",
        b"lru_crawler enable\r\n",
        b"lru_crawler crawl 1\r\n",
        b"lru_crawler metadump all\r\n",
    ),
    ("lru_crawler disable, twice", b"lru_crawler disable\r\nlru_crawler disable\r\n"),
]

CASES = [
    *table("effects", LRU, switches="-t 1", fresh=True, hide=only(SEGMENTS)),
    *table("effects", TEMP, switches="-t 1", fresh=True, hide=only(rb"items:1:number_temp")),
    *table("effects", SETTINGS, switches="-t 1", fresh=True, hide=only(SWITCHED)),
    *table("effects", FLUSHING),
    *table("effects", DETAIL, fresh=True),
    *table(
        "effects",
        CRAWLER,
        switches="-t 1 -o no_lru_maintainer",
        fresh=True,
        hide=only(rb"items:\d+:(?:number|crawler_\w+)"),
    ),
]
