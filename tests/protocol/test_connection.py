"""What a Connection keeps of what it is sent, and for how long."""

from __future__ import annotations

from pymcd import limits

from .helpers import Client


def test_a_long_get_may_drip():
    # A get may name any number of keys; its line must not be copied whole for every piece.
    client = Client()
    client.send(b"set last 0 0 1\r\nx\r\n")
    client.send(b"get " + b"k" * 200 + b" " * (limits.LINE_MAX_BYTES))
    connection = client.connection
    for _ in range(1000):
        before = connection.buffer
        assert client.send(b"key ") == b""
        assert connection.buffer is before
    assert client.send(b"last\r\n") == b"VALUE last 0 1\r\nx\r\nEND\r\n"
    assert not connection.line_chunks
    assert client.send(b"get last\r\n") == b"VALUE last 0 1\r\nx\r\nEND\r\n"


def test_a_get_without_end_is_bounded():
    client = Client()
    piece = b"key " * 16_000
    client.send(b"get " + piece)
    for _ in range(limits.GET_LINE_MAX_BYTES // len(piece) + 1):
        assert not client.connection.closing
        client.send(piece)
    assert client.connection.closing
