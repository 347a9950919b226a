"""A WSGI server with threads that stay: `python -m conformance.sessions.wsgi MODULE:NAME PORT`.

As in the servers that are used in production, a thread goes on from request to request, and with
it the connection of its cache client. A server that begins a thread for each request, as those for
development do, would hide what a client makes of a connection that was lost.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer

from conformance.clients.catalog import sasl_plugins
from conformance.pair.ways import TEXT, Way

from .app import Kind, Setting

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Sequence

THREADS = 8


#: How long a node that is back may be unused: HAProxy looks every second; clients with two
#: addresses come back after `clients.DEAD_S`, HashClient after up to twice that.
SETTLES_S, SETTLES_TWO_S = 1.5, 11.0


def kind_maker(
    name: str, application: str, variable: str, modules: Sequence[str]
) -> Callable[..., Kind]:
    """Return what makes the kinds of a WSGI application.

    Args:
        name: of the application, for figures.
        application: MODULE:NAME.
        variable: of the environment, which tells the application its configuration.
        modules: that must be installed.
    """

    def why_not() -> str:
        missing = [each for each in modules if importlib.util.find_spec(each) is None]
        return f"no {', '.join(missing)} (pip install -e '.[conformance]')" if missing else ""

    def command(setting: Setting) -> list[str]:
        return [sys.executable, "-m", "conformance.sessions.wsgi", application, str(setting.port)]

    def make(
        configuration: str,
        *,
        recommended: bool = True,
        two_addresses: bool = False,
        way: Way = TEXT,
    ) -> Kind:
        return Kind(
            f"{name} {configuration}",
            command,
            why_not,
            {variable: configuration, **(sasl_plugins() if way.login else {})},
            recommended=recommended,
            silent=recommended,
            durable=configuration.endswith("_db"),
            two_addresses=two_addresses,
            way=way,
            settles_s=SETTLES_TWO_S if two_addresses else SETTLES_S,
        )

    return make


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
