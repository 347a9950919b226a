"""noreply, and commands in a pipeline."""

from . import Pieces, table

CASES = table(
    "noreply",
    [
        (
            "all storage verbs",
            b"set a 0 0 1 noreply\r\n1\r\nadd b 0 0 1 noreply\r\n2\r\nadd a 0 0 1 noreply\r\nx\r\n"
            b"replace b 0 0 1 noreply\r\n3\r\nappend a 0 0 1 noreply\r\n4\r\n"
            b"prepend a 0 0 1 noreply\r\n5\r\nreplace x 0 0 1 noreply\r\n3\r\nget a b x\r\n",
        ),
        (
            "errors of the header are silent",
            b"set k abc 0 1 noreply\r\n",
            b"set k 0 0 abc noreply\r\n",
            b"set " + b"k" * 251 + b" 0 0 1 noreply\r\n",
            b"incr k abc noreply\r\n",
            b"touch k abc noreply\r\n",
        ),
        (
            "errors of the words are not",
            b"set k 0 0 noreply\r\n",
            b"incr noreply\r\n",
            b"get noreply\r\n",
            b"bogus noreply\r\n",
        ),
        ("a bad block is silent", b"set k 0 0 1 noreply\r\nabc\r\nget k\r\n"),
        ("the next command answers", b"set k 0 0 1 noreply\r\na\r\nset k 0 0 1\r\nb\r\nget k\r\n"),
        (
            "admin",
            b"verbosity 0 noreply\r\nflush_all noreply\r\ncache_memlimit 64 noreply\r\nversion\r\n",
        ),
        (
            "version and stats ignore it",
            b"version noreply\r\n",
            b"stats reset noreply\r\n",
            b"stats bogus noreply\r\n",
        ),
        (
            "too large is silent",
            b"set k 0 0 1048577 noreply\r\n" + b"x" * 1048577 + b"\r\nget k\r\n",
        ),
    ],
) + table(
    "pipelining",
    [
        (
            "a hundred sets and gets",
            b"".join(b"set k%d 0 0 3\r\n%03d\r\n" % (i, i) for i in range(100))
            + b"".join(b"get k%d\r\n" % i for i in range(100)),
        ),
        ("two hundred versions", b"version\r\n" * 200),
        (
            "byte by byte",
            Pieces(
                tuple(b"set k 1 0 2\r\nab\r\nget k x\r\nincr k 1\r\n"[i : i + 1] for i in range(39))
            ),
        ),
        ("errors between", b"bogus\r\nset k 0 0 1\r\na\r\nbogus\r\nget k\r\n\r\nget k\r\n"),
        ("many large values", b"set k 0 0 20000\r\n" + b"x" * 20000 + b"\r\n" + b"get k\r\n" * 20),
        ("an unfinished line is no command", b"get k\r\nset k 0 0 1\r\na\r\nget k"),
        ("an unfinished block is not stored", b"set k 0 0 10\r\nabc", b"get k\r\n"),
        ("an unfinished CRLF is not stored", b"set k 0 0 3\r\nabc\r", b"get k\r\n"),
    ],
)
