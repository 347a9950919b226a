"""Lines that are no command, limits of lines and keys, and what closes a connection."""

from . import Closes, Pieces, table

WORDS_24 = b" ".join([b"x"] * 24)

CASES = table(
    "errors",
    [
        (
            "unknown words",
            b"bogus\r\n",
            b"bogus a b c\r\n",
            b"SET k 0 0 1\r\n",
            b"getk\r\n",
            b"s\r\n",
            b"se\r\n",
            b"x\r\n",
        ),
        ("one letter", b"g\r\na\r\nm\r\n\xff\r\n"),
        ("empty lines", b"\r\n\n \r\n\t\r\n  \n\r\r\n"),
        ("control characters", b"\x01\x02\x03\r\n\x00\r\nge\x00t a\r\n\x7f\xff\xfe\r\n"),
        ("a tab before the command", b"\tget a\r\nget\ta b\r\n"),
        (
            "more words than one goes through",
            WORDS_24 + b"\r\n",
            b"set " + WORDS_24 + b"\r\n",
            b"incr " + WORDS_24 + b"\r\n",
            b"version " + WORDS_24 + b"\r\n",
        ),
        ("version", b"version\r\nversion x y z\r\nversions\r\nVERSION\r\n"),
        ("verbs that need a switch", b"shutdown\r\nshutdown graceful\r\nshutdown x y\r\n"),
        ("commands of the debug build", b"debugtime 1\r\ndebugtime\r\nmisbehave\r\n"),
        ("refresh_certs", b"refresh_certs\r\n"),
        ("extstore", b"extstore\r\nextstore free_memchunks 1 1\r\nextstore bogus 1\r\n"),
        ("a line of 2048 bytes", b"x" * 2046 + b"\r\nversion\r\n"),
        ("a line of 8000 bytes at once", b"x" * 8000 + b"\r\n"),
        (
            "a key at its limit",
            b"set " + b"k" * 250 + b" 0 0 1\r\na\r\ndelete " + b"k" * 250 + b"\r\n",
        ),
        (
            "a key over its limit",
            b"set " + b"k" * 251 + b" 0 0 1\r\nversion\r\n",
            b"add " + b"k" * 300 + b" 0 0 1\r\nversion\r\n",
            b"cas " + b"k" * 251 + b" 0 0 1 1\r\nversion\r\n",
        ),
        ("the block of a refused header is read as commands", b"set k abc 0 7\r\nversion\r\n"),
        ("shorter than any command", b"mn\n\nx\n\r\nx\r\nmg\nversion\r\n"),
        (
            "blanks before a command",
            b" get k\r\n  version\r\n mn\r\n stats\r\n watch\r\n quit\r\n",
            b" verbosity 0\r\n  flush_all\r\n lru x\r\n slabs x\r\n cache_memlimit 64\r\n",
        ),
        (
            "silence of what is no command",
            b"bogus noreply\r\nbogus a b noreply\r\nnoreply\r\nbogus noreply a\r\nversion\r\n",
            b"bogus" + b" x" * 21 + b" noreply\r\nbogus" + b" x" * 22 + b" noreply\r\n",
        ),
        (
            "silence of words that are wrong",
            b"verbosity x noreply\r\nflush_all x noreply\r\nslabs reassign a noreply\r\n"
            b"cache_memlimit x noreply\r\nlru noreply\r\nlru_crawler x noreply\r\n"
            b"shutdown noreply\r\nrefresh_certs noreply\r\nstats noreply\r\nwatch noreply\r\n",
            b"delete noreply\r\nincr noreply\r\nincr k x noreply\r\ntouch k x noreply\r\n",
        ),
        (
            "a NUL is part of a word",
            b"set k\0x 0 0 1\r\n1\r\nget k\r\nget k\0x\r\nmg k\0x k v\r\ndelete k\0x\r\n",
        ),
    ],
) + table(
    "closing",
    [
        (
            "quit",
            Closes(b"quit\r\n"),
            Closes(b"version\r\nquit\r\nversion\r\n"),
            Closes(b"quit x\r\n"),
            Closes(b"quit noreply\r\n"),
        ),
        ("quit as part of a word", b"quitx\r\nversion\r\nQUIT\r\nquit", b"qui\r\nversion\r\n"),
        (
            "a browser",
            Closes(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"),
            Closes(b"POST /x HTTP/1.0\r\n\r\n"),
            Closes(b"PUT / HTTP/1.1\r\n"),
            Closes(b"DELETE / HTTP/1.1\r\n"),
            Closes(b"OPTIONS * HTTP/1.1\r\n"),
        ),
        (
            "not quite a browser",
            b"GET /\r\nversion\r\n",
            b"get / HTTP/1.1\r\nversion\r\n",
            b"GET / HTTP/1.1 x\r\nversion\r\n",
            b"GET / HTTP\r\nversion\r\n",
        ),
        (
            "an endless line",
            Closes(b"x" * 2049),
            Closes(b"y" * 10000),
            Closes(b"set " + b"k" * 3000),
        ),
        ("a line that is not endless yet", b"x" * 2048),
        (
            "an endless get is waited for",
            Pieces((b"get " + b"k " * 1500, b"k " * 1500, b"\r\nversion\r\n")),
        ),
        (
            "an endless gets is waited for",
            Pieces((b"gets " + b"k " * 5000, b"k " * 5000, b"\r\nversion\r\n")),
        ),
        ("blanks before an endless get", Closes(b" " * 101 + b"get " + b"k " * 1500)),
        ("an endless gat", Closes(b"gat 0 " + b"k " * 1500)),
    ],
)
