"""cas, and the unique that gets shows."""

from . import table

CASES = table(
    "cas",
    [
        ("on a missing key", b"cas k 0 0 1 1\r\na\r\nget k\r\n"),
        (
            "the right unique",
            b"set k 0 0 1\r\na\r\ngets k\r\n",
            b"cas k 5 0 1 <unique>\r\nb\r\ngets k\r\n",
        ),
        (
            "used twice",
            b"set k 0 0 1\r\na\r\ngets k\r\n",
            b"cas k 0 0 1 <unique>\r\nb\r\ncas k 0 0 1 <unique>\r\nc\r\ngets k\r\n",
        ),
        (
            "a wrong unique",
            b"set k 0 0 1\r\na\r\ncas k 0 0 1 18446744073709551615\r\nb\r\nget k\r\n",
        ),
        ("zero as unique", b"set k 0 0 1\r\na\r\ncas k 0 0 1 0\r\nb\r\nget k\r\n"),
        (
            "leading zeros",
            b"set k 0 0 1\r\na\r\ngets k\r\n",
            b"cas k 0 0 1 00000<unique>\r\nb\r\nget k\r\n",
        ),
        (
            "noreply",
            b"set k 0 0 1\r\na\r\ngets k\r\n",
            b"cas k 0 0 1 <unique> noreply\r\nb\r\ncas k 0 0 1 <unique> noreply\r\nc\r\nget k\r\n",
        ),
        (
            "bad uniques",
            b"cas k 0 0 1 abc\r\na\r\n",
            b"cas k 0 0 1 -1\r\na\r\n",
            b"cas k 0 0 1 1x\r\na\r\n",
            b"cas k 0 0 1 18446744073709551616\r\na\r\n",
            b"cas k 0 0 1 +1\r\na\r\n",
        ),
        (
            "word counts",
            b"cas\r\n",
            b"cas k 0 0 1\r\n",
            b"cas k 0 0 1 2 3 4\r\n",
            b"cas k 0 0 1 2 x\r\na\r\n",
        ),
        (
            "after append",
            b"set k 0 0 1\r\na\r\ngets k\r\n",
            b"append k 0 0 1\r\nb\r\ncas k 0 0 1 <unique>\r\nc\r\ngets k\r\n",
        ),
        (
            "after incr",
            b"set k 0 0 1\r\n1\r\ngets k\r\n",
            b"incr k 1\r\ncas k 0 0 1 <unique>\r\nc\r\ngets k\r\n",
        ),
        (
            "after touch",
            b"set k 0 0 1\r\n1\r\ngets k\r\n",
            b"touch k 0\r\ncas k 0 0 1 <unique>\r\nc\r\ngets k\r\n",
        ),
        (
            "after delete and set",
            b"set k 0 0 1\r\n1\r\ngets k\r\n",
            b"delete k\r\nset k 0 0 1\r\n2\r\ncas k 0 0 1 <unique>\r\nc\r\ngets k\r\n",
        ),
        (
            "after flush_all",
            b"set k 0 0 1\r\n1\r\ngets k\r\n",
            b"flush_all\r\ncas k 0 0 1 <unique>\r\nc\r\ngets k\r\n",
        ),
        (
            "a failed one keeps the unique",
            b"set k 0 0 1\r\n1\r\ngets k\r\n",
            b"cas k 0 0 1 1234567\r\nx\r\ngets k\r\n",
        ),
        (
            "a bad block",
            b"set k 0 0 1\r\n1\r\ngets k\r\n",
            b"cas k 0 0 1 <unique>\r\nabc\r\ngets k\r\n",
        ),
    ],
) + table(
    "cas",
    [
        (
            "switched off: gets",
            b"set k 0 0 1\r\na\r\ngets k\r\nset k 0 0 1\r\nb\r\ngets k\r\ndelete k\r\n",
        ),
        (
            "switched off: cas",
            b"set c 0 0 1\r\na\r\ncas c 0 0 1 0\r\nb\r\ncas c 0 0 1 5\r\nc\r\nget c\r\n"
            b"cas n 0 0 1 0\r\na\r\n",
        ),
    ],
    switches="-C",
    fresh=True,
)
