"""A connection to another server, as its client, that gives way only where it must.

trio's streams let others run at each call, be there something to wait for or not. Each time they
do costs as much as several items of a fill. So what can be done at once is done at once here, and
whoever holds a `Call` waits for it in his own way, and rests when he wants to. TLS is no exception:
its handshake takes place while something is sent and received.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Self

import trio

from .tls import TlsPipe

if TYPE_CHECKING:
    import ssl
    import types


class Call:
    """One connection. A context manager, which closes it."""

    def __init__(self, stream: trio.SocketStream, tls: TlsPipe | None = None) -> None:
        self._stream = stream
        self._fd = stream.socket.fileno()
        self._tls = tls
        self._unsent = b""
        self._opened = b""  #: came by TLS, and was not received yet
        self.heard = False  #: anything at all

    @classmethod
    async def open(cls, host: str, port: int, context: ssl.SSLContext | None = None) -> Self:
        """Connect, with a context by TLS to who proves to be that host; may raise `OSError`."""
        stream = await trio.open_tcp_stream(host, port)
        if context is None:
            return cls(stream)
        return cls(stream, TlsPipe(context, server_side=False, server_hostname=host))

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
        if self._tls is not None:
            data = self._tls.seal([data])
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
        """Return what has come, of that at most; empty: nothing more will; None: nothing yet.

        With TLS it may raise `ssl.SSLError`.
        """
        data = self._receive_sealed(most_bytes) if self._tls is not None else self._read(most_bytes)
        self.heard = self.heard or bool(data)
        return data

    def _read(self, most_bytes: int) -> bytes | None:
        try:
            return os.read(self._fd, most_bytes)
        except BlockingIOError:
            return None
        except ConnectionError:
            return b""

    def _receive_sealed(self, most_bytes: int) -> bytes | None:
        # One record may hold more than is asked for.
        assert self._tls is not None
        if not self._opened:
            sealed = self._read(most_bytes)
            if not sealed:
                return sealed
            try:
                self._opened = self._tls.open(sealed)
            finally:
                self.send(b"")  # what TLS has to say: in the handshake, or of what is wrong
            if not self._opened:
                return b"" if self._tls.ended else None
        data, self._opened = self._opened[:most_bytes], self._opened[most_bytes:]
        return data

    async def readable(self) -> None:
        """Wait until there is something to receive."""
        await trio.lowlevel.wait_readable(self._fd)

    async def writable(self) -> None:
        """Wait until there is room for what was not sent."""
        await trio.lowlevel.wait_writable(self._fd)
