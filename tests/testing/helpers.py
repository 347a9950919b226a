"""What the tests of the fake share: a client of bytes, and what a server may leave behind."""

from __future__ import annotations

import os
import socket
import struct
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pymcd.testing import MemcachedServer

PATIENCE_S = 30.0
HEADER = struct.Struct(">BBHBxHI4sQ")


class RawClient:
    """Bytes out, bytes in."""

    def __init__(self, address: tuple[str, int] | str) -> None:
        if isinstance(address, str):
            self.sock = socket.socket(socket.AF_UNIX)
            try:
                self.sock.connect(address)
            except OSError:
                self.sock.close()
                raise
        else:
            self.sock = socket.create_connection(address)
        self.sock.settimeout(PATIENCE_S)

    def send(self, data: bytes) -> None:
        self.sock.sendall(data)

    def read(self, end: bytes = b"\r\n") -> bytes:
        """Return what comes up to and with `end`, or until the server closes."""
        data = b""
        while not data.endswith(end):
            piece = self.sock.recv(65536)
            if not piece:
                break
            data += piece
        return data

    def ask(self, request: bytes, end: bytes = b"\r\n") -> bytes:
        self.send(request)
        return self.read(end)

    def ask_binary(
        self, opcode: int, key: bytes = b"", extras: bytes = b"", value: bytes = b""
    ) -> tuple[int, bytes]:
        """Return status and body of the answer."""
        body = extras + key + value
        head = (0x80, opcode, len(key), len(extras), 0, len(body), b"mine", 0)
        self.send(HEADER.pack(*head) + body)
        answer = self._exactly(HEADER.size)
        _, _, _, _, status, size, opaque, _ = HEADER.unpack(answer)
        assert opaque == b"mine"
        return status, self._exactly(size)

    def _exactly(self, size: int) -> bytes:
        data = b""
        while len(data) < size:
            piece = self.sock.recv(size - len(data))
            assert piece, "the server closed the connection"
            data += piece
        return data

    def close(self) -> None:
        self.sock.close()


@contextmanager
def raw(server: MemcachedServer) -> Iterator[RawClient]:
    """A client of a server, for a block."""
    client = RawClient(server.unix_socket or server.address)
    try:
        yield client
    finally:
        client.close()


@contextmanager
def nothing_left() -> Iterator[None]:
    """Whatever the block starts, it must end: threads and descriptors."""
    before = possessions()
    yield
    assert possessions() - before == set()


def possessions() -> set[str]:
    """Return what a process has that must be given back."""
    found = {thread.name + str(thread.ident) for thread in threading.enumerate()}
    folder = "/proc/self/fd"
    for fd in os.listdir(folder) if os.path.isdir(folder) else ():
        try:
            found.add(f"{fd} {os.readlink(os.path.join(folder, fd))}")
        except OSError:
            continue  # it was that of this listing
    return found
