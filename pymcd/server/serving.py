"""A whole server: listeners, connections, signals and shutdown."""

from __future__ import annotations

import os
import signal
import sys
import traceback

import trio

from ..clock import SystemClock
from ..config import Settings
from ..protocol import Connection, Service
from .hub import Hub


def run(settings: Settings) -> int:
    """Serve until stopped; return the exit code."""
    trio.run(_main, settings)
    return 0


async def _main(settings: Settings) -> None:
    service = Service(settings, SystemClock())

    def on_error(connection: Connection, error: Exception) -> None:
        traceback.print_exception(error)

    hub = Hub(service, on_error=on_error)
    listeners = await trio.open_tcp_listeners(max(settings.port, 0), host="127.0.0.1")
    port = listeners[0].socket.getsockname()[1]
    filename = os.environ.get("MEMCACHED_PORT_FILENAME")
    if filename:
        with open(filename + ".lck", "w") as file:  # noqa: ASYNC230
            file.write(f"TCP INET: {port}\n")
        os.rename(filename + ".lck", filename)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(hub.run)
        for listener in listeners:
            nursery.start_soon(_accept, listener, hub, service)
        with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
            async for _ in signals:
                break
        nursery.cancel_scope.cancel()
    hub.close_all()


async def _accept(listener: trio.SocketListener, hub: Hub, service: Service) -> None:
    while True:
        sock, address = await listener.socket.accept()
        plain = sock._sock.dup() if hasattr(sock, "_sock") else None
        sock.close()
        if plain is None:
            sys.exit(70)
        plain.setblocking(False)
        service.total_connections += 1
        hub.adopt(plain, Connection(service, connection_id=plain.fileno()))
