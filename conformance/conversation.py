"""Hold the conversations of `transcripts` with one server, and keep answers in files.

An answer is what one step got back: bytes, with the uniques and what a case hides replaced, and
`<closed>` behind it where the server closed a connection that we had left open. In the files it is
text, one character per byte; a long one is kept as its length, beginning and SHA-256.
"""

from __future__ import annotations

import hashlib
import json
import re
import socket
from pathlib import Path
from typing import TYPE_CHECKING

from .transcripts import Closes, Packets, Pieces, Uniques, Watched

if TYPE_CHECKING:
    from .servers import Server
    from .transcripts import Case, Step

RECORDED = Path(__file__).parent / "recorded"
RECEIVE_BYTES = 1 << 20
WHOLE_MAX_BYTES = 4000
BEGINNING_BYTES = 200
# Long enough for a loaded machine: only a server that is wrong makes anybody wait for it.
ANSWER_TIMEOUT_S = 15.0
# What a thread of memcached's has not finished yet is asked again.
BUSY = b"BUSY currently processing"
RETRIES_MAX = 10_000
#: Commands of which every kind of watcher is told, and how it is told.
LAST = b"set last 0 0 1\r\na\r\nget last\r\ndelete last\r\n"
LAST_LINE = re.compile(rb"[^\n]*key=last[^\n]*\n")


def hold(server: Server, case: Case) -> list[bytes]:
    """Take the steps of a case and return the answers."""
    uniques = Uniques()
    answers = []
    for step in case.steps:
        answer = _take(server, step, uniques)
        for _ in range(RETRIES_MAX):
            if not answer.startswith(BUSY):
                break
            answer = _take(server, step, uniques)
        answer = uniques.hide(answer)
        for pattern in case.hide:
            answer = re.sub(pattern, b"~", answer)
        if case.unordered:
            *lines, last = answer.splitlines(keepends=True) or [b""]
            answer = b"".join(sorted(lines)) + last
        answers.append(answer)
    return answers


def _take(server: Server, step: Step, uniques: Uniques) -> bytes:
    if isinstance(step, Packets):
        return _exchange_packets(server, step)
    if isinstance(step, Watched):
        return _watch(server, step, uniques)
    with server.connect(ANSWER_TIMEOUT_S) as stream:
        if isinstance(step, Closes):
            stream.sendall(uniques.fill_in(step.request))
            return _read(stream) + b"<closed>"
        pieces = step.pieces if isinstance(step, Pieces) else (step,)
        try:
            for piece in pieces:
                stream.sendall(uniques.fill_in(piece))
            stream.shutdown(socket.SHUT_WR)
        except OSError:
            pass  # The server was quicker to close, and what it said before can still be read.
        return _read(stream)


def _watch(server: Server, step: Watched, uniques: Uniques) -> bytes:
    with server.connect(ANSWER_TIMEOUT_S) as watcher:
        watcher.sendall(b"watch %s\r\n" % step.kinds)
        answer = watcher.recv(RECEIVE_BYTES)
        if answer != b"OK\r\n":
            return answer
        for request in (step.request, LAST):
            _take(server, request, uniques)
        told = b""
        while (last := LAST_LINE.search(told)) is None:
            chunk = watcher.recv(RECEIVE_BYTES)
            if not chunk:
                return told + b"<closed>"
            told += chunk
        return told[: last.start()]


def _read(stream: socket.socket) -> bytes:
    answer = bytearray()
    try:
        while chunk := stream.recv(RECEIVE_BYTES):
            answer += chunk
    except ConnectionResetError:
        pass
    except TimeoutError:
        return bytes(answer) + b"<still open>"
    return bytes(answer)


def _exchange_packets(server: Server, step: Packets) -> bytes:
    answer = b""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as channel:
        channel.settimeout(ANSWER_TIMEOUT_S)
        channel.connect(("127.0.0.1", server.udp_port))
        for packet, count in step.packets:
            channel.send(packet)
            # Datagrams of one answer may be overtaken; their own numbers put them in order.
            try:
                parts = sorted(channel.recv(65536) for _ in range(count))
            except TimeoutError:
                return answer + b"<no more answer>"
            answer += b"".join(b"[%s]" % part for part in parts)
    return answer


def encode(answer: bytes) -> str | dict[str, str | int]:
    """Return an answer as it is kept in a file."""
    if len(answer) <= WHOLE_MAX_BYTES:
        return answer.decode("latin-1")
    return {
        "bytes": len(answer),
        "begins": answer[:BEGINNING_BYTES].decode("latin-1"),
        "sha256": hashlib.sha256(answer).hexdigest(),
    }


def recorded(topic: str) -> dict[str, object]:
    """Return what is kept of a topic: `memcached`, the version, and `answers` by case."""
    path = RECORDED / f"{topic}.json"
    if not path.exists():
        return {"memcached": "", "answers": {}}
    loaded: dict[str, object] = json.loads(path.read_text())
    return loaded


def record(topic: str, version: str, answers: dict[str, list[object]]) -> None:
    """Write the answers of a topic, given by that version of memcached."""
    RECORDED.mkdir(exist_ok=True)
    text = json.dumps({"memcached": version, "answers": answers}, indent=1, sort_keys=True)
    (RECORDED / f"{topic}.json").write_text(text + "\n")
