"""What all connections of one server share: the cache, the settings, and the way to the host.

A `Service` is the whole server below sockets. The host (the event loop in `server/`, a test,
the fake) creates one, gives each client a `Connection` to it, and lends it the few things that
only a host can do (`shutdown`, `log_line`).
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import TYPE_CHECKING

from ..store import Cache

if TYPE_CHECKING:
    from ..clock import Clock
    from ..config import Settings
    from .connection import Connection
    from .recorder import Recorder


def _write_stderr(line: str) -> None:
    sys.stderr.write(line + "\n")


class Service:
    """One memcached, as its connections see it."""

    def __init__(self, settings: Settings, clock: Clock) -> None:
        self.settings = settings
        self.clock = clock
        self.cache = Cache(settings, clock)
        self.verbosity = settings.verbose
        self.reqs_per_event = settings.reqs_per_event
        #: Every open connection, by the number that logs and `stats conns` use.
        self.connections: dict[int, Connection] = {}
        self.total_connections = 0
        self.rejected_connections = 0
        self.listen_disabled = 0
        #: Prefix statistics and watchers, while there are any. None keeps the commands fast.
        self.recorder: Recorder | None = None
        #: Ends the server; the argument tells whether gracefully (SIGUSR1) or not (SIGINT).
        self.shutdown: Callable[[bool], None] = lambda graceful: None
        #: Takes one line of the log that `-v` asks for.
        self.log_line: Callable[[str], None] = _write_stderr

    def connected(self, connection: Connection) -> None:
        """Take note of a new client; the driver calls this before its first `receive_data`."""
        self.connections[connection.id] = connection
        self.total_connections += 1

    def disconnected(self, connection: Connection) -> None:
        """Forget a client; the driver calls this once, when its socket is gone."""
        self.connections.pop(connection.id, None)
