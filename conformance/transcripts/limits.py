"""Values near the item limit, and servers with little memory."""

from . import Case, table

DEFAULT_ITEM_BYTES = 1 << 20


def _stored(length: int, verb: bytes = b"set", key: bytes = b"k") -> bytes:
    return b"%s %s 0 0 %d\r\n%s\r\n" % (verb, key, length, b"x" * length)


def _edge(limit: int, key_bytes: int) -> list[tuple[str, bytes]]:
    """Values around the place where an item of `limit` bytes is full."""
    key = b"k" * key_bytes
    return [
        (
            f"a value of {length} bytes and a key of {key_bytes}",
            _stored(length, key=key) + b"delete %s\r\n" % key,
        )
        for length in range(limit - key_bytes - 70, limit - key_bytes - 44, 2)
    ]


CASES: list[Case] = [
    *table("limits", _edge(DEFAULT_ITEM_BYTES, 1)),
    *table("limits", _edge(DEFAULT_ITEM_BYTES, 200)[:3] + _edge(DEFAULT_ITEM_BYTES, 200)[-3:]),
    # Without uniques, flush_all takes what is stored in the same second, too: no shared server.
    *table("limits", _edge(DEFAULT_ITEM_BYTES, 1)[-7:-3], switches="-C", fresh=True),
    *table("limits", _edge(2 << 20, 1), switches="-I 2m"),
    *table("limits", _edge(8 << 20, 1)[::4], switches="-I 8m -m 64"),
    *table("limits", _edge(DEFAULT_ITEM_BYTES, 1), switches="-o no_modern"),
    *table(
        "limits",
        [
            (f"{size} bytes there and back", _stored(size) + b"get k\r\ndelete k\r\n")
            for size in (8000, 16384, 100_000, 400_000, 524_288, 600_000, 1_000_000)
        ],
    ),
    *table(
        "limits",
        [
            (
                "too large removes the old value",
                b"set k 0 0 1\r\na\r\n" + _stored(1 << 20) + b"get k\r\n",
            ),
            (
                "too large by add keeps it",
                b"set k 0 0 1\r\na\r\n" + _stored(1 << 20, b"add") + b"get k\r\n",
            ),
            (
                "too large by replace keeps it",
                b"set k 0 0 1\r\na\r\n" + _stored(1 << 20, b"replace") + b"get k\r\n",
            ),
            (
                "too large by append keeps it",
                b"set k 0 0 1\r\na\r\n" + _stored(1 << 20, b"append") + b"get k\r\n",
            ),
            (
                "too large by cas keeps it",
                b"set k 0 0 1\r\na\r\ncas k 0 0 1048576 1\r\n" + b"x" * 1048576 + b"\r\nget k\r\n",
            ),
            (
                "grown too large by append",
                _stored(600_000) + _stored(600_000, b"append") + b"gat 0 k\r\n",
            ),
            (
                "grown too large by prepend",
                _stored(600_000) + _stored(600_000, b"prepend") + b"gat 0 k\r\n",
            ),
            (
                "a far too large block is swallowed",
                b"set k 0 0 5000000\r\n" + b"version\r\n" * 555_556 + b"version\r\n",
            ),
            ("a long number is no number", _stored(10_000) + b"incr k 1\r\n"),
        ],
    ),
    *table(
        "limits",
        [
            (
                "-M refuses when full",
                b"".join(_stored(500_000, key=b"k%d" % i) for i in range(30))
                + b"add x 0 0 500000\r\n"
                + b"x" * 500_000
                + b"\r\nget x\r\n",
            ),
            (
                "-M removes the old value, too",
                b"".join(_stored(900_000, key=b"k%d" % i) for i in range(20))
                + _stored(900_000, key=b"k1")
                + b"gat 0 k1\r\n",
            ),
        ],
        switches="-M -m 8",
        fresh=True,
    ),
]
