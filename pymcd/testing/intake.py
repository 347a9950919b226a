"""Whether all that clients have sent is done, where each client has a task of its own.

The hub can be asked to serve who is ready. Where there is none, one can only wait until every task
waits for its client, and no client has sent anything. So each stream notes what its task waits for.
"""

from __future__ import annotations

import select
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

import trio

if TYPE_CHECKING:
    import socket
    from collections.abc import Iterator

    from ..protocol import Connection

#: Turns of the event loop: who is not done by then waits for something that is not seen here.
_TURNS: Final = 1000
#: Who has just received something still looks as if it waited, until its next turn; which may be
#: behind ours.
_QUIET_TURNS: Final = 2


class NotedStream(trio.abc.Stream):
    """The socket of one client, and what is waited for there."""

    def __init__(self, stream: trio.SocketStream, connection: Connection) -> None:
        self._stream = stream
        self.connection = connection
        self.reads = self.writes = False

    def fileno(self) -> int:
        return self._stream.socket.fileno()

    @property
    def events(self) -> int:
        """What its tasks wait for, as `poll` has it; 0: nothing that comes from the socket."""
        return select.POLLIN * self.reads | select.POLLOUT * self.writes

    @property
    def works(self) -> bool:
        """Whether its task is about to do something by itself."""
        connection = self.connection
        return not (self.reads or self.writes or connection.waiting or connection.aside)

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        self.reads = True
        try:
            return await self._stream.receive_some(max_bytes)
        finally:
            self.reads = False

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        self.writes = True
        try:
            await self._stream.send_all(data)
        finally:
            self.writes = False

    async def wait_send_all_might_not_block(self) -> None:
        await self._stream.wait_send_all_might_not_block()

    async def aclose(self) -> None:
        await self._stream.aclose()


class Intake:
    """The clients of one server that have tasks of their own."""

    def __init__(self) -> None:
        self._streams: set[NotedStream] = set()
        self._expected: dict[int, socket.socket] = {}

    def expect(self, sock: socket.socket) -> None:
        """Take note of one who was let in, and whose task is about to begin."""
        self._expected[sock.fileno()] = sock

    @contextmanager
    def note(self, stream: trio.SocketStream, connection: Connection) -> Iterator[NotedStream]:
        """Have a task that begins use a stream of which is known what it waits for."""
        self._expected.pop(stream.socket.fileno(), None)
        noted = NotedStream(stream, connection)
        self._streams.add(noted)
        try:
            yield noted
        finally:
            self._streams.discard(noted)

    async def settle(self) -> None:
        """Wait until nobody has anything to do but to wait for clients, or for other servers."""
        quiet = 0
        for _ in range(_TURNS):
            quiet = 0 if self._busy() else quiet + 1
            if quiet > _QUIET_TURNS:
                return
            await trio.lowlevel.checkpoint()

    def _busy(self) -> bool:
        if any(sock.fileno() >= 0 for sock in self._expected.values()):
            return True  # else it was turned away
        self._expected.clear()
        sockets = select.poll()
        for stream in self._streams:
            if stream.works:
                return True
            if stream.fileno() >= 0 and stream.events:
                sockets.register(stream, stream.events)
        return bool(sockets.poll(0))
