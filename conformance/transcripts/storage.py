"""set, add, replace, append, prepend; what is stored, and what a refused block becomes."""

from . import Pieces, table

BIG = b"x" * 1000

CASES = table(
    "storage",
    [
        ("set and get", b"set k 5 0 3\r\nabc\r\nget k\r\n"),
        ("an empty value", b"set k 0 0 0\r\n\r\nget k\r\n"),
        ("set replaces", b"set k 0 0 1\r\na\r\nset k 1 0 2\r\nbb\r\nget k\r\n"),
        ("add twice", b"add k 0 0 1\r\na\r\nadd k 0 0 1\r\nb\r\nget k\r\n"),
        (
            "replace",
            b"replace k 0 0 1\r\na\r\nset k 0 0 1\r\nb\r\nreplace k 7 0 1\r\nc\r\nget k\r\n",
        ),
        (
            "append and prepend keep the flags",
            b"set k 9 0 1\r\nb\r\nappend k 5 100000 1\r\nc\r\nprepend k 6 0 1\r\na\r\nget k\r\n",
        ),
        ("append to nothing", b"append k 0 0 1\r\na\r\nprepend k 0 0 1\r\na\r\nget k\r\n"),
        (
            "append nothing",
            b"set k 0 0 1\r\na\r\nappend k 0 0 0\r\n\r\nprepend k 0 0 0\r\n\r\nget k\r\n",
        ),
        ("binary values", b"set k 0 0 6\r\n\x00\r\n\xff\n\x80\r\nget k\r\n"),
        ("a value that looks like commands", b"set k 0 0 13\r\nget x\r\nversio\r\nget k\r\n"),
        ("keys of any byte", b"set \x01\x7f\xff\t 0 0 1\r\na\r\nget \x01\x7f\xff\t\r\n"),
        ("a value in pieces", Pieces((b"set k 0 0 5\r\nab", b"cde", b"\r", b"\nget k\r\n"))),
        (
            "a header in pieces",
            Pieces((b"se", b"t k 0", b" 0 2", b"\r", b"\nab\r\nget", b" k\r\n")),
        ),
        ("bare line feeds", b"set k 0 0 3\nabc\r\nget k\n"),
        ("the block must end in CRLF", b"set k 0 0 3\r\nabc\nget k\r\n\r\nget k\r\n"),
        ("block too long", b"set k 0 0 3\r\nabcd\r\nget k\r\n"),
        ("block too short", b"set k 0 0 5\r\nabc\r\nget k\r\nget k\r\n"),
        ("bad block keeps the old value", b"set k 0 0 1\r\na\r\nset k 0 0 1\r\nbcd\r\nget k\r\n"),
        ("CRLF inside, length one short", b"set k 0 0 2\r\n\r\n\r\nget k\r\n"),
        ("extra blanks", b"set   k  0   0  1  \r\na\r\n   get    k   \r\n"),
        (
            "a trailing word is not noreply",
            b"set k 0 0 1 reply\r\na\r\nset k 0 0 1 NOREPLY\r\nb\r\n",
        ),
        ("too few words", b"set k 0 0\r\nset k 0\r\nset k\r\nset\r\nadd\r\ncas k 0 0 1\r\nx\r\n"),
        ("too many words", b"set k 0 0 1 noreply x\r\na\r\nadd k 0 0 1 2 3\r\na\r\n"),
        ("negative length", b"set k 0 0 -1\r\nabc\r\nget k\r\n"),
        ("negative length with noreply", b"set k 0 0 -1 noreply\r\nversion\r\n"),
        (
            "lengths that are no numbers",
            b"set k 0 0 abc\r\nset k 0 0 1x\r\nset k 0 0 0x1\r\nset k 0 0 \r\n",
        ),
        (
            "lengths over 32 bits",
            b"set k 0 0 4294967297\r\na\r\nget k\r\nset k 0 0 4294967296\r\n\r\nget k\r\n",
        ),
        ("lengths at 2**31", b"set k 0 0 2147483648\r\nset k 0 0 2147483647\r\nversion\r\n"),
        (
            "a length over 64 bits",
            b"set k 0 0 18446744073709551616\r\nset k 0 0 9223372036854775808\r\n",
        ),
        ("a length with a sign or zeros", b"set k 0 0 +1\r\na\r\nset k 0 0 0001\r\nb\r\nget k\r\n"),
        ("a tab ends a number", b"set k 0 0 1\tx\r\na\r\nget k\r\nset k 0\t 0 1\r\nb\r\nget k\r\n"),
        (
            "flags at their limits",
            b"set a 4294967295 0 1\r\na\r\nset b 4294967296 0 1\r\nb\r\n"
            b"set c 4294967297 0 1\r\nc\r\nget a b c\r\n",
        ),
        (
            "bad flags",
            b"set k -1 0 1\r\na\r\nset k abc 0 1\r\na\r\nset k 1.5 0 1\r\na\r\nget k\r\n",
        ),
        (
            "flags over 64 bits",
            b"set k 18446744073709551615 0 1\r\na\r\nset k 18446744073709551616 0 1\r\na\r\n"
            b"get k\r\n",
        ),
        (
            "bad exptime",
            b"set k 0 abc 1\r\na\r\nset k 0 1.5 1\r\na\r\nset k 0  1\r\na\r\nget k\r\n",
        ),
        (
            "exptime over its limits",
            b"set a 0 2147483648 1\r\na\r\nset b 0 4294967296 1\r\nb\r\n"
            b"set c 0 9223372036854775808 1\r\nget a b c\r\n",
        ),
        ("negative exptime", b"set k 0 -1 1\r\na\r\nget k\r\nadd k 0 0 1\r\nb\r\nget k\r\n"),
        ("the largest relative exptime", b"set k 0 2592000 1\r\na\r\nget k\r\n"),
        ("an absolute exptime that is past", b"set k 0 2592001 1\r\na\r\nget k\r\n"),
        ("an absolute exptime that is far", b"set k 0 2147483647 1\r\na\r\nget k\r\n"),
        (
            "an expired item is gone for every verb",
            b"set k 0 -1 1\r\n1\r\nreplace k 0 0 1\r\na\r\nappend k 0 0 1\r\na\r\nincr k 1\r\n"
            b"touch k 0\r\ndelete k\r\ncas k 0 0 1 1\r\na\r\n",
        ),
        ("a NUL ends the line", b"set k 0 0 1\x00 noreply\r\na\r\nget k\x00 x y\r\n"),
        ("noreply is the last word only", b"set noreply 0 0 1\r\na\r\nget noreply\r\n"),
        (
            "a thousand bytes",
            b"set k 0 0 1000\r\n" + BIG + b"\r\nappend k 0 0 1000\r\n" + BIG + b"\r\nget k\r\n",
        ),
    ],
)
