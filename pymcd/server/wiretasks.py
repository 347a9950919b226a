"""Wires where there is no hub: a task serves each, and another one while it waits for room."""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio

if TYPE_CHECKING:
    from collections.abc import Callable

    from .wire import Wire


class WireTasks:
    """Does the hub's part for wires: tells when a socket can be read, and when it has room."""

    def __init__(self, nursery: trio.Nursery, ready: Callable[[Wire], None]) -> None:
        """`ready` is called with a wire whose socket is, and does all that comes of it."""
        self._nursery = nursery
        self._ready = ready
        self._waiting: set[Wire] = set()  #: for room in their sockets

    def watch(self, wire: Wire) -> None:
        """Begin to serve a wire."""
        self._nursery.start_soon(self._serve, wire)

    def watch_writable(self, wire: Wire, blocked: bool) -> None:
        """Serve it also when there is room; until it is `blocked` no more."""
        if blocked and wire not in self._waiting:
            self._waiting.add(wire)
            self._nursery.start_soon(self._wait_for_room, wire)

    def unwatch(self, wire: Wire) -> None:
        """Stop: its socket is about to be closed."""
        trio.lowlevel.notify_closing(wire.sock)

    async def _serve(self, wire: Wire) -> None:
        try:
            while not wire.closed:
                await trio.lowlevel.wait_readable(wire.sock)
                self._ready(wire)
        except trio.ClosedResourceError:
            pass

    async def _wait_for_room(self, wire: Wire) -> None:
        try:
            while wire.blocked:
                await trio.lowlevel.wait_writable(wire.sock)
                self._ready(wire)
        except trio.ClosedResourceError:
            pass
        finally:
            self._waiting.discard(wire)
