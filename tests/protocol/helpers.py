"""How the protocol tests talk: bytes to a `Connection` and back, without a socket.

`converse` is the usual way in: one request, sent whole, byte by byte and with a command behind it,
must be answered the same each time. `Client` is for conversations of several turns.
"""

from __future__ import annotations

from typing import Any

from pymcd.clock import OffsetClock
from pymcd.config import Settings
from pymcd.protocol import Connection
from pymcd.service import Service

from ..clocks import ManualClock
from ..hosts import make_host

TRAILING_REQUEST = b"version\r\n"
TRAILING_REPLY = b"VERSION 1.6.45\r\n"


def make_service(clock: ManualClock | None = None, **settings: Any) -> Service:
    """Build a server whose clock stands still, until `debugtime` moves it."""
    chosen = Settings(**settings)
    clock = clock or ManualClock()
    return Service(chosen, OffsetClock(clock) if chosen.debug_commands else clock, make_host())


class Client:
    """One client of a service; plays the driver for its connection."""

    def __init__(self, service: Service | None = None, **settings: Any) -> None:
        self.service = service or make_service(**settings)
        number = max(self.service.connections, default=9) + 1
        self.connection = Connection(
            self.service,
            connection_id=number,
            address=f"tcp:127.0.0.1:{40000 + number}",
            listen_address="tcp:127.0.0.1:11211",
        )
        self.service.connected(self.connection)

    def send(self, data: bytes, *, step: int = 0) -> bytes:
        """Feed `data`, `step` bytes at a time if given; return all that was answered."""
        answer = b""
        for start in range(0, len(data), step or len(data)):
            if self.connection.closing:
                break
            self.service.cache.tick()
            self.connection.receive_data(data[start : start + step] if step else data)
            answer += self.receive()
        return answer

    def receive(self) -> bytes:
        """Let the connection do what it can; return what it said."""
        connection = self.connection
        answer = b""
        while True:
            more = connection.run()
            answer += self.take()
            if connection.source is not None:
                for piece in connection.source:
                    answer += piece
                connection.source = None
                more = True
            if not more:
                return answer

    def take(self) -> bytes:
        """Return the pieces that lie ready, as a driver does that was woken."""
        answer = b"".join(self.connection.pieces)
        self.connection.pieces.clear()
        return answer


def converse(
    request: bytes, *, before: bytes = b"", clock: ManualClock | None = None, **settings: Any
) -> bytes:
    """Return the answer to `request`, sent after `before` (whose answer is dropped).

    It is sent whole, byte by byte, and with a command behind it, to a fresh server each: the
    answers must agree, but that a closed connection does not answer the command behind.
    """

    def fresh() -> Client:
        client = Client(make_service(clock, **settings))
        if before:
            client.send(before)
        return client

    client = fresh()
    whole = client.send(request)
    in_bytes = fresh().send(request, step=1)
    assert in_bytes == whole, "the answer differs when the request comes byte by byte"
    connection = client.connection
    if not (connection.closing or connection.watching or connection.awaited is not None):
        trailed = fresh().send(request + TRAILING_REQUEST)
        assert trailed == whole + TRAILING_REPLY, "a command behind the request changes the answer"
    return whole
