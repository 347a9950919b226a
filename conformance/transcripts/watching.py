"""What watchers are told of single commands, and what is counted by prefix: one row a command."""

from __future__ import annotations

import struct

from . import Step, Watched, table

#: Times, numbers of events and descriptors belong to the server.
NUMBERS = (rb"(?<=ts=)[\d.]+", rb"(?<=gid=)\d+", rb"(?<=cfd=)-?\d+", rb"(?<=ttl=)4294967\d+")
#: There memcached says what was in memory.
OF_NOTHING = (*NUMBERS, rb"(?<=status=too_large )[^\n]*")

#: What other cases left; flushed items are still there until somebody meets them.
CLEAR = b"".join(b"delete %s\r\n" % key for key in b"k n h new none a foo last".split())
ITEM = b"set k 7 0 3\r\nabc\r\n"
NUMBER = b"set n 0 0 1\r\n9\r\n"
BIG = 2_000_000
BLOCK = b"x" * BIG + b"\r\n"
JOINED = 700_000
HALF = b"set h 0 0 %d\r\n" % JOINED + b"x" * JOINED + b"\r\n"

GET, SET, ADD, REPLACE, DELETE, INCREMENT, DECREMENT = range(7)
FLUSH, GETQ, NOOP, VERSION, GETK, GETKQ, APPEND, PREPEND = range(8, 16)
SETQ, ADDQ, REPLACEQ, DELETEQ, INCREMENTQ, DECREMENTQ = range(0x11, 0x17)
FLUSHQ, APPENDQ, PREPENDQ = 0x18, 0x19, 0x1A
TOUCH, GAT, GATQ, GATK, GATKQ = 0x1C, 0x1D, 0x1E, 0x23, 0x24


def binary(opcode: int, key: bytes, extras: bytes = b"", value: bytes = b"", cas: int = 0) -> bytes:
    """Return a request of the binary protocol."""
    length = len(extras) + len(key) + len(value)
    head = struct.pack(">BBHBxxxI4xQ", 0x80, opcode, len(key), len(extras), length, cas)
    return head + extras + key + value


def store(opcode: int, key: bytes, value: bytes, exptime: int = 0, cas: int = 0) -> bytes:
    return binary(opcode, key, struct.pack(">II", 5, exptime), value, cas)


def touch(opcode: int, key: bytes, exptime: int = 0) -> bytes:
    return binary(opcode, key, struct.pack(">I", exptime))


def count(opcode: int, key: bytes, delta: int, initial: int = 0, exptime: int = 0) -> bytes:
    return binary(opcode, key, struct.pack(">QQI", delta, initial, exptime))


NO_CREATION = 0xFFFFFFFF

TEXT: list[tuple[str, bytes, bytes]] = [
    ("get, hit", ITEM, b"get k\r\n"),
    ("get, miss", b"", b"get none\r\n"),
    ("get, several", ITEM, b"get k none k\r\n"),
    ("get, expired", b"set k 0 -1 1\r\na\r\n", b"get k\r\nget k\r\n"),
    ("get, flushed", ITEM + b"flush_all\r\n", b"get k\r\nget k\r\n"),
    ("get, key too long", b"", b"get " + b"k" * 251 + b"\r\n"),
    ("get, an odd key", b"", b"get odd%\t\xff\r\n"),
    ("gets", ITEM, b"gets k none\r\n"),
    ("gat", ITEM, b"gat 0 k none\r\n"),
    ("gats", ITEM, b"gats 0 k none\r\n"),
    ("touch", ITEM, b"touch k 0\r\ntouch none 0\r\ntouch k 0 noreply\r\n"),
    ("set, new", b"", b"set new 3 0 5\r\nhello\r\n"),
    ("set, over another", ITEM, b"set k 3 0 5\r\nhello\r\n"),
    ("set, noreply", ITEM, b"set k 3 0 5 noreply\r\nhello\r\n"),
    ("set, with an end", b"", b"set k 0 1000 5\r\nhello\r\n"),
    ("set, over from the start", ITEM, b"set k 0 -1 1\r\na\r\n"),
    ("set, over an expired one", NUMBER + b"set k 0 -1 1\r\na\r\n", b"set k 0 0 1\r\na\r\n"),
    ("set, empty", b"", b"set k 0 0 0\r\n\r\n"),
    ("set, bad block", ITEM, b"set k 0 0 1\r\nabc\r\n"),
    ("set, an odd key", b"", b"set odd%\t\xff 0 0 1\r\na\r\n"),
    ("add", ITEM, b"add new 0 0 1\r\na\r\nadd k 0 0 1\r\na\r\n"),
    ("replace", ITEM, b"replace new 0 0 1\r\na\r\nreplace k 0 0 1\r\na\r\n"),
    ("append", ITEM, b"append new 0 0 1\r\na\r\nappend k 0 9 1\r\na\r\n"),
    ("append, to what ends", b"set k 0 1000 1\r\na\r\n", b"append k 0 0 1\r\na\r\n"),
    ("append, into a larger class", ITEM, b"append k 0 0 100\r\n" + b"x" * 100 + b"\r\n"),
    ("append, too large when joined", HALF, HALF.replace(b"set", b"append")),
    ("prepend", ITEM, b"prepend new 0 0 1\r\na\r\nprepend k 0 9 1\r\na\r\n"),
    ("cas", ITEM, b"cas none 0 0 1 1\r\na\r\ncas k 0 0 1 999999999\r\na\r\n"),
    ("delete", ITEM, b"delete k\r\ndelete k\r\n"),
    ("delete, noreply", ITEM, b"delete k noreply\r\n"),
    ("delete, expired", b"set k 0 -1 1\r\na\r\n", b"delete k\r\n"),
    ("incr", NUMBER, b"incr n 0\r\nincr n 1\r\nincr none 1\r\nincr n 1 noreply\r\n"),
    ("incr, not a number", ITEM, b"incr k 1\r\nincr k x\r\n"),
    ("decr", NUMBER, b"decr n 0\r\ndecr n 1\r\ndecr none 1\r\ndecr n 1 noreply\r\n"),
    ("flush_all", ITEM, b"flush_all\r\n"),
    ("stats, version", ITEM, b"version\r\n"),
    ("a storm", b"", b"set a 0 0 1\r\na\r\nget a\r\nincr a 1\r\ndelete a\r\nget a\r\n"),
]

META: list[tuple[str, bytes, bytes]] = [
    ("mn", b"", b"mn\r\n"),
    ("me", ITEM, b"me k\r\nme none\r\n"),
    ("mg", ITEM, b"mg k\r\nmg k v\r\nmg none\r\nmg none v\r\n"),
    ("mg, quiet", ITEM, b"mg k q v\r\nmg none q v\r\nmn\r\n"),
    ("mg, flags of all kinds", ITEM, b"mg k s t f c k O1\r\nmg k h l t v\r\nmg none h l t v\r\n"),
    ("mg, base64", ITEM, b"mg aw== b v\r\nmg bm9uZQ== b v\r\n"),
    ("mg, touch", ITEM, b"mg k T100 v\r\nmg none T100 v\r\n"),
    ("mg, vivify", ITEM, b"mg k N100 v\r\nmg new N100 v\r\nmg new v\r\n"),
    ("mg, recache", b"set k 0 100 1\r\na\r\n", b"mg k R1000 v\r\nmg k R1000 v\r\n"),
    ("mg, stale", ITEM + b"md k I T100\r\n", b"mg k v\r\nmg k v\r\n"),
    ("mg, expired", b"set k 0 -1 1\r\na\r\n", b"mg k v\r\n"),
    ("mg, bad flags", ITEM, b"mg k !\r\nmg k v v\r\n"),
    ("ms, new", b"", b"ms new 5\r\nhello\r\n"),
    ("ms, over another", ITEM, b"ms k 5 F9 T100 k O1 c\r\nhello\r\n"),
    ("ms, quiet", ITEM, b"ms k 5 q\r\nhello\r\nmn\r\n"),
    ("ms, base64", ITEM, b"ms aw== 1 b\r\na\r\nms Zm9v 1 b\r\na\r\n"),
    ("ms, bad block", ITEM, b"ms k 1\r\nabc\r\n"),
    ("ms, add", ITEM, b"ms new 1 ME\r\na\r\nms k 1 ME\r\na\r\n"),
    ("ms, append", ITEM, b"ms new 1 MA\r\na\r\nms k 1 MA\r\na\r\n"),
    ("ms, prepend", ITEM, b"ms new 1 MP\r\na\r\nms k 1 MP\r\na\r\n"),
    ("ms, replace", ITEM, b"ms new 1 MR\r\na\r\nms k 1 MR\r\na\r\n"),
    ("ms, cas", ITEM, b"ms none 1 C1\r\na\r\nms k 1 C999999999\r\na\r\n"),
    ("md", ITEM, b"md k\r\nmd k\r\n"),
    ("md, quiet", ITEM, b"md k q\r\nmd k q\r\nmn\r\n"),
    ("md, cas", ITEM, b"md k C999999999\r\n"),
    ("md, stale", ITEM, b"md k I T100\r\nmd none I\r\n"),
    ("md, base64", ITEM, b"md aw== b\r\n"),
    ("md, no value", ITEM, b"md k x\r\n"),
    ("ma", NUMBER, b"ma n\r\nma none\r\nma n q\r\nma n MD v\r\nma none MD\r\n"),
    ("ma, not a number", ITEM, b"ma k\r\n"),
    ("ma, cas", NUMBER, b"ma n C999999999\r\n"),
    ("ma, vivify", NUMBER, b"ma n N100\r\nma new N100 J13 v\r\nma new N100 J13 v\r\n"),
]

BINARY: list[tuple[str, bytes, bytes]] = [
    ("Get", ITEM, binary(GET, b"k") + binary(GET, b"none")),
    ("GetQ", ITEM, binary(GETQ, b"k") + binary(GETQ, b"none")),
    ("GetK", ITEM, binary(GETK, b"k") + binary(GETK, b"none")),
    ("GetKQ", ITEM, binary(GETKQ, b"k") + binary(GETKQ, b"none")),
    ("Touch", ITEM, touch(TOUCH, b"k") + touch(TOUCH, b"none")),
    ("GAT", ITEM, touch(GAT, b"k") + touch(GAT, b"none")),
    ("GATQ", ITEM, touch(GATQ, b"k") + touch(GATQ, b"none")),
    ("GATK", ITEM, touch(GATK, b"k") + touch(GATK, b"none")),
    ("GATKQ", ITEM, touch(GATKQ, b"k") + touch(GATKQ, b"none")),
    ("Set", ITEM, store(SET, b"k", b"a") + store(SET, b"new", b"a", 100)),
    ("SetQ", ITEM, store(SETQ, b"k", b"a") + store(SETQ, b"new", b"a", 100)),
    ("Set, cas", ITEM, store(SET, b"k", b"a", cas=999) + store(SET, b"none", b"a", cas=999)),
    ("Add", ITEM, store(ADD, b"k", b"a") + store(ADD, b"new", b"a")),
    ("AddQ", ITEM, store(ADDQ, b"k", b"a") + store(ADDQ, b"new", b"a")),
    ("Replace", ITEM, store(REPLACE, b"k", b"a") + store(REPLACE, b"none", b"a")),
    ("ReplaceQ", ITEM, store(REPLACEQ, b"k", b"a") + store(REPLACEQ, b"none", b"a")),
    ("Append", ITEM, binary(APPEND, b"k", b"", b"a") + binary(APPEND, b"none", b"", b"a")),
    ("AppendQ", ITEM, binary(APPENDQ, b"k", b"", b"a") + binary(APPENDQ, b"none", b"", b"a")),
    ("Append, cas", ITEM, binary(APPEND, b"k", b"", b"a", 999)),
    ("Append, too large", ITEM, binary(APPEND, b"k", b"", b"x" * BIG)),
    ("Prepend", ITEM, binary(PREPEND, b"k", b"", b"a") + binary(PREPEND, b"none", b"", b"a")),
    ("PrependQ", ITEM, binary(PREPENDQ, b"k", b"", b"a") + binary(PREPENDQ, b"none", b"", b"a")),
    ("Delete", ITEM, binary(DELETE, b"k") + binary(DELETE, b"k")),
    ("DeleteQ", ITEM, binary(DELETEQ, b"k") + binary(DELETEQ, b"k")),
    ("Delete, cas", ITEM, binary(DELETE, b"k", cas=999)),
    ("Increment", NUMBER, count(INCREMENT, b"n", 0) + count(INCREMENT, b"n", 1)),
    ("Increment, no item", b"", count(INCREMENT, b"none", 1, 1, NO_CREATION)),
    ("Increment, create", b"", count(INCREMENT, b"new", 1, 13) + count(INCREMENT, b"new", 1, 13)),
    ("Increment, create with an end", b"", count(INCREMENT, b"new", 1, 13, 100)),
    ("Increment, not a number", ITEM, count(INCREMENT, b"k", 1)),
    ("IncrementQ", NUMBER, count(INCREMENTQ, b"n", 1) + count(INCREMENTQ, b"new", 1, 13)),
    ("Decrement", NUMBER, count(DECREMENT, b"n", 0) + count(DECREMENT, b"n", 1)),
    ("Decrement, no item", b"", count(DECREMENT, b"none", 1, 1, NO_CREATION)),
    ("Decrement, create", b"", count(DECREMENT, b"new", 1, 13)),
    ("DecrementQ", NUMBER, count(DECREMENTQ, b"n", 1) + count(DECREMENTQ, b"new", 1, 13)),
    ("Flush, Noop, Version", ITEM, binary(FLUSH, b"") + binary(NOOP, b"") + binary(VERSION, b"")),
]

#: A cas unique that fits, and values refused for their size: what else needs more to say.
SPECIAL: list[tuple[str, bytes, bytes]] = [
    ("cas that fits", ITEM + b"gets k\r\n", b"cas k 0 0 1 <unique>\r\na\r\n"),
    ("ms, cas that fits", ITEM + b"gets k\r\n", b"ms k 1 C<unique>\r\na\r\n"),
    (
        "ms, an older cas, stale",
        ITEM + b"gets k\r\nms k 1\r\na\r\n",
        b"ms k 1 C<unique> I\r\na\r\nmg k v\r\n",
    ),
    ("md, cas that fits", ITEM + b"gets k\r\n", b"md k C<unique>\r\n"),
    ("ma, cas that fits", NUMBER + b"gets n\r\n", b"ma n C<unique>\r\n"),
]
FRESH: list[tuple[str, bytes, bytes]] = [
    # The first cas unique that a server gives out is 1.
    ("Set, cas that fits", ITEM, store(SET, b"k", b"a", cas=2)),
    ("Replace, cas that fits", ITEM, store(REPLACE, b"k", b"a", cas=2)),
    ("Delete, cas that fits", ITEM, binary(DELETE, b"k", cas=2)),
]
TOO_LARGE: list[tuple[str, bytes, bytes]] = [
    ("set, too large", ITEM, b"set k 0 0 %d\r\n" % BIG + BLOCK),
    ("set, too large, nothing there", b"", b"set k 0 0 %d\r\n" % BIG + BLOCK),
    ("add, too large", ITEM, b"add k 0 0 %d\r\n" % BIG + BLOCK),
    ("append, too large", ITEM, b"append k 0 0 %d\r\n" % BIG + BLOCK),
    ("ms, too large", ITEM, b"ms k %d\r\n" % BIG + BLOCK),
    ("ms, too large, add", ITEM, b"ms k %d ME\r\n" % BIG + BLOCK),
    ("ms, too large, nothing there", b"", b"ms k %d\r\n" % BIG + BLOCK),
]


def _by_prefix(requests: list[bytes]) -> tuple[bytes, ...]:
    return (b"stats detail on\r\n", *requests, b"stats detail dump\r\n")


#: What each command counts, under a prefix of its name.
DETAIL: list[tuple[str, tuple[bytes, ...]]] = [
    (
        "text",
        _by_prefix(
            [
                b"set got:k 0 0 1\r\n1\r\nget got:k got:none got\r\nget a:b:c\r\n",
                b"gets gets:k gets:none\r\n",
                b"set gat:k 0 0 1\r\n1\r\ngat 0 gat:k gat:none\r\ngats 0 gats:k\r\n",
                b"touch touch:k 0\r\n",
                b"set set:k 0 0 1\r\n1\r\nset set:k 0 0 1 noreply\r\n1\r\n",
                b"set bad:k 0 0 1\r\nabc\r\n",
                b"set big:k 0 0 %d\r\n" % BIG + BLOCK,
                b"add add:k 0 0 1\r\n1\r\nadd add:k 0 0 1\r\n1\r\n",
                b"replace replace:k 0 0 1\r\n1\r\nappend append:k 0 0 1\r\n1\r\n",
                b"prepend prepend:k 0 0 1\r\n1\r\ncas cas:k 0 0 1 1\r\n1\r\n",
                b"set del:k 0 0 1\r\n1\r\ndelete del:k\r\ndelete del:k\r\ndelete del:k 0\r\n",
                b"incr incr:k 1\r\ndecr decr:k 1\r\n",
            ]
        ),
    ),
    (
        "meta",
        _by_prefix(
            [
                b"ms set:k 1\r\n1\r\nms big:k %d\r\n" % BIG + BLOCK,
                b"mg get:k v\r\nmg set:k v\r\nmg viv:k N0 v\r\nmg touch:k T0\r\nme me:k\r\n",
                b"md del:k\r\nmd set:k\r\nma count:k\r\nma count:k N0\r\n",
            ]
        ),
    ),
    (
        "binary",
        _by_prefix(
            [
                binary(GET, b"get:k") + binary(GETQ, b"getq:k") + binary(GETK, b"getk:k"),
                binary(GETKQ, b"getkq:k") + touch(TOUCH, b"touch:k") + touch(GAT, b"gat:k"),
                touch(GATQ, b"gatq:k") + touch(GATK, b"gatk:k") + touch(GATKQ, b"gatkq:k"),
                store(SET, b"set:k", b"1") + binary(GET, b"set:k") + store(ADD, b"add:k", b"1"),
                store(REPLACE, b"replace:k", b"1") + store(SETQ, b"setq:k", b"1"),
                store(ADDQ, b"addq:k", b"1") + store(REPLACEQ, b"replaceq:k", b"1"),
                store(SET, b"big:k", b"x" * BIG),
                binary(APPEND, b"append:k", b"", b"1") + binary(PREPENDQ, b"prep:k", b"", b"1"),
                binary(DELETE, b"del:k") + binary(DELETEQ, b"delq:k") + binary(DELETE, b"set:k"),
                count(INCREMENT, b"incr:k", 1) + count(DECREMENTQ, b"decr:k", 1, 1, NO_CREATION),
            ]
        ),
    ),
]


def _watched(rows: list[tuple[str, bytes, bytes]], words: bytes) -> list[tuple[str | Step, ...]]:
    return [
        (f"{name} ({words.decode()})", CLEAR + before, Watched(words, request))
        for name, before, request in rows
    ]


#: One worker, and nothing that reclaims items before a command meets them.
ALONE = "-t 1 -o no_lru_crawler,no_lru_maintainer"
BOTH = b"fetchers mutations"
DELETIONS = b"deletions"
DELETING = [
    row
    for row in TEXT + META + BINARY
    if row[0].startswith(("delete", "Delete", "md")) or row[0] == "set, over another"
]

#: How clients go, and what is told of that; each is a connection of its own.
ENDS: list[tuple[str, bytes]] = [
    ("nothing said", b""),
    ("half a line", b"get k"),
    ("half a value", b"set k 0 0 100\r\nabc"),
    ("quit", b"quit\r\n"),
    ("a browser", b"GET / HTTP/1.1\r\n\r\n"),
    ("an endless line", b"x" * 2049),
    ("Quit", binary(0x07, b"")),
    ("QuitQ", binary(0x17, b"")),
    ("half a header", binary(NOOP, b"")[:10]),
    ("a wrong magic", binary(NOOP, b"") + b"x" * 24),
    ("a wrong form", binary(GET, b"")),
    ("a long key", binary(GET, b"k" * 251)),
    ("watch", b"watch fetchers\r\n"),
]
#: Ports are the system's.
ADDRESSES = (*NUMBERS, rb"(?<=rport=)\d+")

CASES = [
    *table(
        "watching",
        [(f"end: {name}", Watched(b"connevents mutations", said)) for name, said in ENDS],
        switches=ALONE,
        hide=ADDRESSES,
        fresh=True,  # an earlier watcher may end only now
    ),
    *table(
        "watching", _watched(TEXT + META + BINARY + SPECIAL, BOTH), switches=ALONE, hide=NUMBERS
    ),
    *table("watching", _watched(DELETING, DELETIONS), switches=ALONE, hide=NUMBERS),
    *table("watching", _watched(TOO_LARGE, BOTH), switches=ALONE, hide=OF_NOTHING),
    *table(
        "watching",
        [(f"by prefix, {name}", *steps) for name, steps in DETAIL],
        fresh=True,
        unordered=True,
    ),
    *table("watching", _watched(FRESH, BOTH), switches=ALONE, hide=NUMBERS, fresh=True),
]
