"""A WSGI server with threads that stay: `python -m conformance.sessions.wsgi MODULE:NAME PORT`.

As in the servers that are used in production, a thread goes on from request to request, and with
it the connection of its cache client. A server that begins a thread for each request, as those for
development do, would hide what a client makes of a connection that was lost.
"""

from __future__ import annotations

import importlib
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer

if TYPE_CHECKING:
    import socket

THREADS = 8


class _QuietHandler(WSGIRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  # the base class's name
        """Leave requests that went well out of the log."""


class PoolServer(WSGIServer):
    """Serves each connection in one of a fixed number of threads."""

    request_queue_size = 128

    def __init__(self, address: tuple[str, int]) -> None:
        super().__init__(address, _QuietHandler)
        self._pool = ThreadPoolExecutor(THREADS)

    def process_request(self, request: Any, client_address: Any) -> None:
        self._pool.submit(self._serve, request, client_address)

    def _serve(self, request: socket.socket, client_address: Any) -> None:
        try:
            self.finish_request(request, client_address)
        except Exception:
            self.handle_error(request, client_address)
        finally:
            self.shutdown_request(request)


def main() -> None:
    module, name = sys.argv[1].split(":")
    server = PoolServer(("127.0.0.1", int(sys.argv[2])))
    server.set_app(getattr(importlib.import_module(module), name))
    server.serve_forever()


if __name__ == "__main__":
    main()
