"""delete and flush_all."""

from . import table

CASES = table(
    "deletion",
    [
        ("delete", b"set k 0 0 1\r\na\r\ndelete k\r\nget k\r\ndelete k\r\n"),
        ("delete with zero", b"set k 0 0 1\r\na\r\ndelete k 0\r\nget k\r\n"),
        ("delete with another time", b"set k 0 0 1\r\na\r\ndelete k 5\r\nget k\r\n"),
        ("delete with noreply", b"set k 0 0 1\r\na\r\ndelete k noreply\r\nget k\r\n"),
        ("delete with zero and noreply", b"set k 0 0 1\r\na\r\ndelete k 0 noreply\r\nget k\r\n"),
        ("delete with a time and noreply", b"set k 0 0 1\r\na\r\ndelete k 5 noreply\r\nget k\r\n"),
        (
            "delete with words",
            b"delete k x\r\ndelete k 0 x\r\ndelete k 0 0\r\ndelete k noreply 0\r\ndelete k 00\r\n",
        ),
        ("delete and word counts", b"delete\r\ndelete k 0 noreply x\r\ndelete  \r\n"),
        (
            "delete of 250 and 251 bytes",
            b"delete " + b"k" * 250 + b"\r\ndelete " + b"k" * 251 + b"\r\n",
        ),
        ("delete then add", b"set k 0 0 1\r\na\r\ndelete k\r\nadd k 0 0 1\r\nb\r\nget k\r\n"),
        ("flush_all", b"set k 0 0 1\r\na\r\nflush_all\r\nget k\r\nset k 0 0 1\r\nb\r\nget k\r\n"),
        (
            "flush_all 0",
            b"set k 0 0 1\r\na\r\nflush_all 0\r\nget k\r\nadd k 0 0 1\r\nb\r\nget k\r\n",
        ),
        ("flush_all in the past", b"set k 0 0 1\r\na\r\nflush_all -1\r\nget k\r\n"),
        ("flush_all noreply", b"set k 0 0 1\r\na\r\nflush_all noreply\r\nget k\r\n"),
        ("flush_all 0 noreply", b"set k 0 0 1\r\na\r\nflush_all 0 noreply\r\nget k\r\n"),
        (
            "flush_all and bad words",
            b"set k 0 0 1\r\na\r\nflush_all abc\r\nflush_all 1x\r\nflush_all 0 0 0\r\n"
            b"flush_all abc noreply\r\nflush_all 99999999999999999999\r\nget k\r\n",
        ),
        ("flush_all and another last word", b"set k 0 0 1\r\na\r\nflush_all 0 x\r\nget k\r\n"),
        (
            "flush_all in the future leaves items",
            b"set k 0 0 1\r\na\r\nflush_all 100000\r\nget k\r\nset k 0 0 1\r\nb\r\nget k\r\n",
        ),
        (
            "flushed items are gone for every verb",
            b"set k 0 0 1\r\n1\r\nflush_all\r\nreplace k 0 0 1\r\na\r\nappend k 0 0 1\r\na\r\n"
            b"incr k 1\r\n"
            b"touch k 0\r\ndelete k\r\ncas k 0 0 1 1\r\na\r\n",
        ),
    ],
) + table(
    "deletion",
    [
        (
            "switched off: flush_all",
            b"set k 0 0 1\r\na\r\nflush_all\r\nflush_all 0\r\nflush_all abc\r\nget k\r\n"
            b"delete k\r\n",
        ),
        (
            "switched off: flush_all noreply",
            b"set k 0 0 1\r\na\r\nflush_all noreply\r\nget k\r\ndelete k\r\n",
        ),
    ],
    switches="-F",
)
