"""Ports that stay ours: a free one is taken when a server starts and kept until it stops.

While a server refuses connections, or is dead for a while, nobody listens at its port. A second
socket that is bound to it, and never listens, keeps the system from giving it to anybody else.
Where the system does not allow two sockets there, the port is only looked up.
"""

from __future__ import annotations

import socket
import sys
from typing import Final

from ..addresses import join_address

#: Two sockets may be bound to a port as long as neither listens, or only the later one does.
_MAY_SHARE: Final = sys.platform == "linux"


class Port:
    """A TCP port of one address, reserved until `close`."""

    def __init__(self, host: str, port: int = 0) -> None:
        """Take that port, or any free one; raise `OSError` with what to write instead."""
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self._sock: socket.socket | None = socket.socket(family, socket.SOCK_STREAM)
        try:
            self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            self._sock.bind((host, port))
            self.number: int = self._sock.getsockname()[1]
        except OSError as error:
            self._sock.close()
            instead = "; leave `port` out, and the system chooses a free one"
            if not port:
                instead = f'; host={host!r} is no address of this machine: write host="127.0.0.1"'
            raise OSError(
                error.errno,
                f"cannot listen on {join_address(host, port)}: {error.strerror}{instead}",
            ) from None
        if not _MAY_SHARE:
            self.close()

    def close(self) -> None:
        """Keep it no longer. Doing so twice is harmless."""
        if self._sock is not None:
            self._sock.close()
            self._sock = None
