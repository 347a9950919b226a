"""get, gets, gat, gats, bget, touch."""

from . import Pieces, table

STORE = b"set a 1 0 1\r\n1\r\nset b 2 0 2\r\n22\r\n"

CASES = table(
    "retrieval",
    [
        ("a miss", b"get a\r\n"),
        ("several keys, some missing", STORE + b"get a x b y a\r\n"),
        ("the same key twice", STORE + b"get a a a\r\n"),
        ("gets", STORE + b"gets a\r\ngets b a x\r\n"),
        ("uniques grow", b"set a 0 0 1\r\n1\r\ngets a\r\nset a 0 0 1\r\n1\r\ngets a\r\n"),
        (
            "touch keeps the unique",
            b"set a 0 0 1\r\n1\r\ngets a\r\ntouch a 0\r\ngat 0 a\r\ngats 0 a\r\n",
        ),
        ("no key", b"get\r\nget \r\ngets\r\nget  \r\n"),
        ("more keys than words in one go", STORE + b"get" + b" a b x" * 30 + b"\r\n"),
        (
            "just as many keys as words",
            STORE + b"get" + b" a" * 22 + b"\r\nget" + b" a" * 23 + b"\r\n"
            b"get" + b" a" * 24 + b"\r\nget" + b" a" * 46 + b"\r\n",
        ),
        (
            "more keys and a trailing blank",
            STORE + b"get" + b" a" * 23 + b" \r\nget" + b" a" * 22 + b"  \r\n",
        ),
        ("a long line of keys", STORE + b"get" + b" a b missing" * 300 + b"\r\n"),
        (
            "a long line of keys in pieces",
            Pieces((STORE, b"get" + b" a b missing" * 300, b" b\r\n")),
        ),
        (
            "a key of 250 bytes",
            b"set " + b"k" * 250 + b" 0 0 1\r\na\r\nget " + b"k" * 250 + b"\r\n",
        ),
        ("a key of 251 bytes", b"get " + b"k" * 251 + b"\r\n"),
        (
            "a key of 251 bytes after a hit",
            b"set a 0 0 1\r\na\r\n",
            b"get a " + b"k" * 251 + b" a\r\n",
        ),
        (
            "gets with a key of 251 bytes",
            b"gets " + b"k" * 251 + b"\r\n",
            b"gat 0 " + b"k" * 251 + b"\r\n",
        ),
        ("gat", STORE + b"gat 100000 a\r\ngat 0 a b x\r\ngats 100000 a b\r\n"),
        ("gat without keys", b"gat\r\n", b"gat 10\r\n", b"gats 10\r\n", b"gats\r\n"),
        (
            "gat with a bad exptime",
            STORE + b"gat abc a\r\ngat 1x a\r\ngat 99999999999999999999 a\r\n",
        ),
        ("gat into the past", STORE + b"gat -1 a\r\nget a\r\nget b\r\n"),
        ("gat of many keys", STORE + b"gat 0" + b" a b" * 30 + b"\r\n"),
        ("bget", STORE + b"bget a b\r\nbget\r\n"),
        ("touch", STORE + b"touch a 100000\r\ntouch x 0\r\ntouch a -1\r\nget a b\r\n"),
        (
            "touch and bad words",
            b"touch\r\ntouch a\r\ntouch a abc\r\ntouch a 1 2 3\r\ntouch a 1x\r\n",
        ),
        (
            "touch with another last word",
            STORE + b"touch a 0 x\r\ntouch a 0 noreply\r\ntouch x 0 noreply\r\nget a\r\n",
        ),
        ("touch and a key of 251 bytes", b"touch " + b"k" * 251 + b" 0\r\n"),
        ("words like commands", b"getx a\r\nge a\r\ng a\r\nGET a\r\nGets a\r\ngatx 0 a\r\n"),
        ("carriage return inside", STORE + b"get a\r b\r\nget a\r\r\nget \ra\r\n"),
        ("tabs do not part words", b"set a\tb 0 0 1\r\na\r\nget a\tb\r\nget\ta\r\n"),
    ],
)
