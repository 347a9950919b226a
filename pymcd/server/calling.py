"""A connection to another server, as its client, that gives way only where it must.

trio's streams let others run at each call, be there something to wait for or not. Each time they
do costs as much as several items of a fill. So what can be done at once is done at once here, and
whoever holds a `Call` waits for it in his own way, and rests when he wants to.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Self

import trio

if TYPE_CHECKING:
    import types


class Call:
    """One connection. A context manager, which closes it."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self._stream = stream
        self._fd = stream.socket.fileno()
        self._unsent = b""
        self.heard = False  #: anything at all

    @classmethod
    async def open(cls, host: str, port: int) -> Self:
        """Connect; may raise `OSError`."""
        return cls(await trio.open_tcp_stream(host, port))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: types.TracebackType | None,
    ) -> None:
        self._stream.socket.close()

    def send(self, data: bytes) -> bool:
        """Send that behind what was not sent yet; False: something is left, for `writable`."""
        unsent = self._unsent + data
        try:
            sent = os.write(self._fd, unsent)
        except BlockingIOError:
            sent = 0
        except ConnectionError:
            sent = len(unsent)  # which is met again by who reads
        self._unsent = unsent[sent:]
        return not self._unsent

    def receive(self, most_bytes: int) -> bytes | None:
        """Return what has come, of that at most; empty: nothing more will; None: nothing yet."""
        try:
            data = os.read(self._fd, most_bytes)
        except BlockingIOError:
            return None
        except ConnectionError:
            return b""
        self.heard = self.heard or bool(data)
        return data

    async def readable(self) -> None:
        """Wait until there is something to receive."""
        await trio.lowlevel.wait_readable(self._fd)

    async def writable(self) -> None:
        """Wait until there is room for what was not sent."""
        await trio.lowlevel.wait_writable(self._fd)
