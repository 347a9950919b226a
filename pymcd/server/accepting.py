"""Accepting: how whoever listens meets those who come.

One loop for clients, peers and all others: wait until the socket is readable, accept a bounded
number, hand each to its owner's `welcome`. The loop knows nothing of what they want. One turn
accepts `per_turn` at most, so that a rush of new ones starves nobody who is here.

What `accept` may say. Nobody is left: wait again. The system has no descriptor or memory: leave
them in the backlog, and try again after `RETRY_S`, or sooner if one of ours goes. Anything else is
about the one who came, and has gone again. # accept(2), "Error handling"

The hub waits for clients, so that a new one is met at once even while the hub lingers; trio waits
where nobody hurries.
"""

from __future__ import annotations

import errno
from dataclasses import KW_ONLY, dataclass
from math import inf
from typing import TYPE_CHECKING, Any, Final

import trio

if TYPE_CHECKING:
    import socket
    from collections.abc import Awaitable, Callable

    from .hub import Hub
    from .listening import Endpoint

#: Accepted before others have their turn.
ACCEPTS_PER_TURN: Final = 32
#: How soon to try again when the system has no descriptor for who comes.
RETRY_S: Final = 0.1
_OUT_OF_RESOURCES: Final = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)


@dataclass(eq=False)
class Acceptor:
    """Accepts those who come to one endpoint, which its owner closes.

    `welcome` takes a socket that does not block, and the address as `accept` gives it. If it
    raises, the socket is closed, and `on_error` is told unless the network was at fault.
    While `is_full` nobody is accepted; `wait_for_room` returns when somebody has gone.
    """

    endpoint: Endpoint
    welcome: Callable[[socket.socket, Any], None]
    on_error: Callable[[Exception], None]
    _: KW_ONLY
    hub: Hub | None = None
    is_full: Callable[[], bool] = lambda: False
    wait_for_room: Callable[[], Awaitable[object]] = trio.sleep_forever
    per_turn: int = ACCEPTS_PER_TURN

    async def run(self) -> None:
        """Accept until cancelled."""
        while True:
            if self.hub is not None:
                await self._watch(self.hub)
            else:
                while self.accept_some():
                    await trio.lowlevel.wait_readable(self.endpoint.sock)
            # Descriptors may be wanting though those who came here are few.
            with trio.move_on_after(inf if self.is_full() else RETRY_S):
                await self.wait_for_room()

    async def _watch(self, hub: Hub) -> None:
        """Let the hub wait for those who come, until there is no room for one."""
        stalled = trio.Event()

        def accept() -> None:
            if not self.accept_some():
                hub.unwatch(fd)
                stalled.set()

        fd = self.endpoint.sock.fileno()
        hub.watch(fd, accept)
        try:
            await stalled.wait()
        finally:
            hub.unwatch(fd)

    def accept_some(self) -> bool:
        """Welcome some who wait to be let in; False: there is no room for one."""
        if self.is_full():
            return False
        for _ in range(self.per_turn):
            try:
                sock, address = self.endpoint.sock.accept()
            except BlockingIOError:
                break
            except OSError as error:
                if error.errno in _OUT_OF_RESOURCES:
                    return False
                continue  # who came has gone again
            except MemoryError as error:
                self.on_error(error)
                return False
            try:
                sock.setblocking(False)
                self.welcome(sock, address)
            except OSError:
                sock.close()  # likewise
            except Exception as error:
                sock.close()
                self.on_error(error)
            if self.is_full():
                break
        return True
