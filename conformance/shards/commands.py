"""What twemproxy understands, command by command, beside the table of docs/capacity.md."""

from __future__ import annotations

import re
import socket
from typing import TYPE_CHECKING

from conformance.servers import PYMCD, Server
from conformance.trial import TrialError

from . import page
from .twemproxy import Twemproxy

if TYPE_CHECKING:
    from conformance.trial import Run

ANSWER_TIMEOUT_S = 10.0

#: What the page calls it, what is asked, how the answer begins where it works. `k` holds 5.
COMMANDS = (
    ("get", b"get k\r\n", b"VALUE k 0 1\r\n5\r\nEND\r\n"),
    ("get", b"get k none k\r\n", b"VALUE k 0 1\r\n5\r\nVALUE k 0 1\r\n5\r\nEND\r\n"),
    ("gets", b"gets k\r\n", b"VALUE k 0 1 "),
    ("set", b"set k 0 0 1\r\n5\r\n", b"STORED\r\n"),
    ("add", b"add k 0 0 1\r\n5\r\n", b"NOT_STORED\r\n"),
    ("replace", b"replace k 0 0 1\r\n5\r\n", b"STORED\r\n"),
    ("append", b"append k 0 0 1\r\n6\r\n", b"STORED\r\n"),
    ("prepend", b"prepend k 0 0 1\r\n6\r\n", b"STORED\r\n"),
    ("cas", b"cas k 0 0 1 1\r\n5\r\n", b"EXISTS\r\n"),
    ("incr", b"incr k 2\r\n", b"7\r\n"),
    ("decr", b"decr k 2\r\n", b"3\r\n"),
    ("touch", b"touch k 100\r\n", b"TOUCHED\r\n"),
    ("delete", b"delete k\r\n", b"DELETED\r\n"),
    ("noreply", b"set k 0 0 1 noreply\r\n6\r\nget k\r\n", b"VALUE k 0 1\r\n6\r\nEND\r\n"),
    ("version", b"version\r\n", b"VERSION "),
    ("gat", b"gat 100 k\r\n", b"VALUE k 0 1\r\n5\r\nEND\r\n"),
    ("gats", b"gats 100 k\r\n", b"VALUE k 0 1 "),
    ("flush_all", b"flush_all\r\n", b"OK\r\n"),
    ("stats", b"stats\r\n", b"STAT "),
    ("verbosity", b"verbosity 1\r\n", b"OK\r\n"),
    ("mg", b"mg k v\r\n", b"VA 1\r\n"),
    ("ms", b"ms k 1\r\n5\r\n", b"HD\r\n"),
    ("md", b"md k\r\n", b"HD\r\n"),
    ("ma", b"ma k\r\n", b"HD\r\n"),
    ("mn", b"mn\r\n", b"MN\r\n"),
    ("me", b"me k\r\n", b"ME k "),
    ("lru_crawler", b"lru_crawler metadump all\r\n", b"OK\r\nkey=k "),
    ("the binary protocol", b"\x80\x0b".ljust(24, b"\0"), b"\x81\x0b"),
    ("an exptime below zero", b"set k 0 -1 1\r\n5\r\n", b"STORED\r\n"),
    ("a key of 250 bytes", b"get %b\r\n" % (b"k" * 250), b"END\r\n"),
    (
        "a value of 1,000,000 bytes",
        b"set k 0 0 1000000\r\n%b\r\n" % bytes(1_000_000),
        b"STORED\r\n",
    ),
)
WORKS, CLOSES = "works", "closes the connection"


def commands(run: Run) -> None:
    """Each command through twemproxy: does it work, as docs/capacity.md says?"""
    promised = _promised()
    wrong = []
    with Server(PYMCD) as server, Twemproxy([server.address]) as proxy:
        for name, request, answer in COMMANDS:
            # All of them are right, or the question is wrong.
            if not _ask(server.port, request, answer).startswith(answer):
                raise TrialError(f"{name}: {answer!r} is not what pymcd answers")
            found = _found(_ask(proxy.port, request, answer), answer)
            run.say(f"{name}: {found}")
            if promised.get(name) != found:
                wrong.append(f"{name}: {found}; the page says: {promised.get(name)}")
        if unknown := promised.keys() - {name for name, _, _ in COMMANDS}:
            wrong.append(f"on the page, and not asked: {unknown}")
    run.figure("commands that do not what the page says", len(wrong), 0, of=str(len(COMMANDS)))
    run.problem(*wrong)


def _promised() -> dict[str, str]:
    """Return the page's table: what works, and what does not."""
    found = re.findall(r"^\| (.*) \| (works|closes.*) \|$", page.PAGE.read_text(), re.MULTILINE)
    return {name.strip("`"): verdict for names, verdict in found for name in names.split(", ")}


def _found(got: bytes, answer: bytes) -> str:
    if got.startswith(answer):
        return WORKS
    return CLOSES if not got else f"answers {got[:60]!r}"


def _ask(port: int, request: bytes, answer: bytes) -> bytes:
    """Ask for `k`, which holds 5; return what comes, until it is as long as the answer."""
    # On a connection of its own: the first byte of one decides for text or binary.
    if _talk(port, b"set k 0 0 1\r\n5\r\n", len(b"STORED\r\n")) != b"STORED\r\n":
        raise TrialError("k cannot be set")
    return _talk(port, request, len(answer))


def _talk(port: int, request: bytes, answer_bytes: int) -> bytes:
    with socket.create_connection(("127.0.0.1", port), timeout=ANSWER_TIMEOUT_S) as stream:
        stream.sendall(request)
        got = b""
        try:
            while len(got) < answer_bytes:
                data = stream.recv(1 << 16)
                if not data:
                    break
                got += data
        except ConnectionResetError:
            pass  # closed with something unread
        return got
