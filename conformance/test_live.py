"""What takes more than one connection, or the passing of time: sockets, limits, signals.

Nothing here sleeps. Where time must pass, the test waits for the server to do what it has to do,
and only a server that is wrong makes it wait in vain.
"""

from __future__ import annotations

import signal
import stat
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from .servers import Server

if TYPE_CHECKING:
    import socket

    from .conftest import Servers

ANSWER_TIMEOUT_S = 20.0
ASKED_MAX = 200_000


def _read_until(stream: socket.socket, ending: bytes) -> bytes:
    answer = bytearray()
    while not answer.endswith(ending):
        chunk = stream.recv(65536)
        if not chunk:
            return bytes(answer) + b"<closed>"
        answer += chunk
    return bytes(answer)


def _ask(server: Server, request: bytes, ending: bytes) -> bytes:
    with server.connect(ANSWER_TIMEOUT_S) as stream:
        stream.sendall(request)
        return _read_until(stream, ending)


@pytest.mark.parametrize("verb", [b"set", b"touch", b"gat"])
@pytest.mark.slow
def test_an_item_expires(servers: Servers, subject: tuple[str, ...], verb: bytes) -> None:
    server = servers.get(subject, (), fresh=False)
    stores = {
        b"set": b"set k 0 1 1\r\na\r\n",
        b"touch": b"set k 0 0 1\r\na\r\ntouch k 1\r\n",
        b"gat": b"set k 0 0 1\r\na\r\ngat 1 k\r\n",
    }
    endings = {b"set": b"STORED\r\n", b"touch": b"TOUCHED\r\n", b"gat": b"END\r\n"}
    with server.connect(ANSWER_TIMEOUT_S) as stream:
        stream.sendall(stores[verb])
        _read_until(stream, endings[verb])
        for _ in range(ASKED_MAX):
            stream.sendall(b"get k\r\n")
            if _read_until(stream, b"END\r\n") == b"END\r\n":
                return
    pytest.fail("the item is still there")


@pytest.mark.slow
def test_a_delayed_flush_comes(servers: Servers, subject: tuple[str, ...]) -> None:
    server = servers.get(subject, (), fresh=True)
    with server.connect(ANSWER_TIMEOUT_S) as stream:
        stream.sendall(b"set k 0 0 1\r\na\r\nflush_all 2\r\n")
        _read_until(stream, b"OK\r\n")
        for _ in range(ASKED_MAX):
            stream.sendall(b"get k\r\n")
            if _read_until(stream, b"END\r\n") == b"END\r\n":
                return
    pytest.fail("the item is still there")


@pytest.mark.slow
def test_an_idle_connection_is_closed(servers: Servers, subject: tuple[str, ...]) -> None:
    server = servers.get(subject, ("-o", "idle_timeout=1"), fresh=True)
    with server.connect(ANSWER_TIMEOUT_S) as stream:
        stream.sendall(b"version\r\n")
        _read_until(stream, b"\r\n")
        assert stream.recv(1) == b""
    assert b"STAT idle_kicks 1\r\n" in _ask(server, b"stats\r\n", b"END\r\n")


def test_unix_socket(reference: tuple[str, ...], subject: tuple[str, ...]) -> None:
    seen = []
    for command in (reference, subject):
        with Server(command, ("-s", "{folder}/socket", "-a", "720")) as server:
            answer = _ask(server, b"set k 0 0 1\r\na\r\nget k\r\nquit\r\n", b"<closed>")
            mode = stat.S_IMODE(Path(server.unix_socket).stat().st_mode)
            seen.append((answer, oct(mode)))
    assert seen[1] == seen[0]


def test_connection_limit(
    servers: Servers, reference: tuple[str, ...], subject: tuple[str, ...]
) -> None:
    """One too many is told so. memcached refuses earlier than -c says, by descriptors it keeps."""
    seen = []
    for command in (reference, subject):
        server = servers.get(command, ("-c", "20", "-t", "1"), fresh=True)
        streams = []
        answer = b"VERSION 1.6.45\r\n"
        try:
            while answer.startswith(b"VERSION"):
                stream = server.connect(ANSWER_TIMEOUT_S)
                streams.append(stream)
                try:
                    stream.sendall(b"version\r\n")
                    answer = _read_until(stream, b"\r\n")
                except ConnectionResetError:
                    answer = b"ERROR Too many open connections\r\n"
        finally:
            for stream in streams:
                stream.close()
        assert len(streams) <= 21
        seen.append(answer)
    assert seen[1] == seen[0]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGUSR1])
def test_signals_end_the_server(
    reference: tuple[str, ...], subject: tuple[str, ...], number: signal.Signals
) -> None:
    codes = []
    for command in (reference, subject):
        with Server(command) as server:
            _ask(server, b"version\r\n", b"\r\n")
            server.signal(number)
            codes.append(server.wait())
    assert codes[1] == codes[0] == 0


def test_a_client_that_does_not_read(servers: Servers, subject: tuple[str, ...]) -> None:
    """It asks for far more than buffers hold; others are served, and it gets everything."""
    server = servers.get(subject, (), fresh=True)
    size, count = 500_000, 100
    _ask(server, b"set big 0 0 %d\r\n%s\r\n" % (size, b"x" * size), b"STORED\r\n")
    with server.connect(ANSWER_TIMEOUT_S) as lazy:
        lazy.sendall(b"get big\r\n" * count + b"version\r\n")
        for _ in range(50):
            assert _ask(server, b"get none\r\n", b"END\r\n") == b"END\r\n"
        got = _read_until(lazy, b"VERSION 1.6.45\r\n")
    one = b"VALUE big 0 %d\r\n%s\r\nEND\r\n" % (size, b"x" * size)
    assert got == one * count + b"VERSION 1.6.45\r\n"


def test_many_connections(servers: Servers, subject: tuple[str, ...]) -> None:
    server = servers.get(subject, (), fresh=True)
    streams = [server.connect(ANSWER_TIMEOUT_S) for _ in range(300)]
    try:
        for number, stream in enumerate(streams):
            stream.sendall(b"set k%d 0 0 3\r\n%03d\r\nget k%d\r\n" % (number, number, number))
        for number, stream in enumerate(streams):
            expected = b"STORED\r\nVALUE k%d 0 3\r\n%03d\r\nEND\r\n" % (number, number)
            assert _read_until(stream, b"END\r\n") == expected
    finally:
        for stream in streams:
            stream.close()


def test_garbage_harms_nobody(servers: Servers, subject: tuple[str, ...]) -> None:
    """Random bytes, endless lines, huge lengths, and connections that never finish a line."""
    server = servers.get(subject, ("-m", "64"), fresh=True)
    half_open = [server.connect(ANSWER_TIMEOUT_S) for _ in range(200)]
    try:
        for number, stream in enumerate(half_open):
            stream.sendall(
                (b"set k 0 0 1000000\r\nabc", b"ge", b"\x80\x01", b"set k 0 0 ")[number % 4]
            )
        for junk in (
            b"\xff" * 100_000,
            b"x" * 1_000_000,
            bytes(range(256)) * 100,
            b"\x80" * 24,
            b"set k 0 0 2147483640\r\n" + b"y" * 1_000_000,
        ):
            with server.connect(ANSWER_TIMEOUT_S) as stream:
                try:
                    stream.sendall(junk)
                except (BrokenPipeError, ConnectionResetError):
                    pass
        answer = b"STORED\r\nVALUE ok 0 1\r\na\r\nEND\r\n"
        assert _ask(server, b"set ok 0 0 1\r\na\r\nget ok\r\n", b"END\r\n") == answer
    finally:
        for stream in half_open:
            stream.close()
    assert server.running
