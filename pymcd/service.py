"""What all connections of one server share: the cache, the settings, and the way to the host.

A `Service` is the whole server below sockets. The host (the event loop in `server/`, a test,
the fake) creates one, gives each client a `Connection` to it, and says in a `Host` what it alone
knows or can do. One thing comes later: the gate of a server that replicates, which needs the cache.
What can be changed while the server runs begins as a setting and then lives in the object that
uses it: here, in the cache, its crawler or its rebalancer.

It stands above the protocols, as it builds the recorder and the rest of what they work with. They
name it only to say of what type it is.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from .protocol.arrival import Segments
from .protocol.recorder import Recorder
from .protocol.reports import ServiceCounters
from .protocol.trace import follow
from .protocol.underway import UnderWay
from .store import Cache
from .store.crawler import Crawler
from .store.maintainer import Maintainer
from .store.rebalancer import Rebalancer

if TYPE_CHECKING:
    from collections.abc import Callable

    from .auth import Authenticator
    from .clock import Clock
    from .config import Settings
    from .protocol.connection import Connection
    from .replication.gate import Gate
    from .store import Item


class Reception:
    """How clients are let in."""

    def __init__(self) -> None:
        #: Addresses listened on, as `stats conns` shows them, by descriptor.
        self.listening: dict[int, str] = {}
        self.accepting = True


class Tls(Protocol):
    """What a host says of TLS, if it speaks that."""

    def rows(self) -> list[tuple[str, int]]:
        """Return what it adds to `stats`."""

    def refresh(self) -> str:
        """Load the certificates again; return what is wrong with them, or nothing.

        May be called in a thread.
        """

    def reset_counters(self) -> None:
        """Begin to count anew."""


class Filling(Protocol):
    """What a host says of the items that it takes over from another server."""

    def rows(self) -> list[tuple[str, Any]]:
        """Return the rows of `stats fill`, values without blanks."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Host:
    """What only the host of a service knows or can do."""

    #: Named in the place of the original's event library.
    event_loop: str
    pid: int
    #: Seconds of CPU that the process has taken, for itself and in the system.
    cpu_s: Callable[[], tuple[float, float]]
    #: Takes one line of the log that `-v` asks for.
    log_line: Callable[[str], None]
    #: Ends the server; the argument tells whether gracefully (SIGUSR1) or not (SIGINT).
    shutdown: Callable[[bool], None]
    #: Calls a function after so many seconds.
    call_later: Callable[[float, Callable[[], None]], None]
    #: Has work done that takes long and touches nothing else, while everybody is served; then calls
    #: a function with what came of it, or with None if it failed.
    do_aside: Callable[[Callable[[], Any], Callable[[Any], None]], None]
    #: Has `maintainer.step` called at once, or soon.
    wake_maintainer: Callable[[], None]
    #: Knows the users, if there must be a login.
    authenticator: Authenticator | None
    tls: Tls | None
    reception: Reception


class Service:
    """One memcached, as its connections see it."""

    def __init__(self, settings: Settings, clock: Clock, host: Host) -> None:
        """`clock` is the items'; where there are debug commands, an `OffsetClock`."""
        self.settings = settings
        self.host = host
        self.clock = clock
        self.cache = Cache(settings, clock)
        self.crawler = Crawler(self.cache, settings)
        self.rebalancer = Rebalancer(self.cache, settings)
        #: What the cache does on its own. The host calls its `step`.
        self.maintainer = Maintainer(
            self.cache, self.crawler, self.rebalancer, settings, wake=host.wake_maintainer
        )
        self.counters = ServiceCounters()
        resident = settings.memory_accounting == "resident"
        self.under_way = UnderWay(self.cache, self._lend if resident else None)
        self.segments = Segments()
        self.verbosity = settings.verbose
        self.reqs_per_event = settings.reqs_per_event
        #: Every open connection, by the number that logs and `stats conns` use.
        self.connections: dict[int, Connection] = {}
        self.connections_peak = 0
        #: This server as one of several that replicate; None: it stands alone.
        self.gate: Gate | None = None
        #: What another server has becomes ours, or did; None: nothing of that kind.
        self.filling: Filling | None = None

        #: Prefix statistics and watchers, in use or not; the cache's listener while they are.
        self.recorder = Recorder(self)
        #: Nobody follows single commands: they may take the fast path. Set by `tick`.
        self.plain = False
        self.cache.on_evict = self._on_evict
        self.rebalancer.on_automove = self.recorder.page_moved
        if settings.detail_enabled:
            self.recorder.set_detail(True)

    def tick(self) -> None:
        """Begin a turn of the event loop: read the clock once for all its commands."""
        self.cache.tick()
        if self.gate is not None:
            self.gate.tick()
        self.plain = self.cache.listener is None and self.verbosity < 2

    def set_verbosity(self, level: int) -> None:
        """Log that much from now on, also of the clients that are there."""
        self.verbosity = level
        self.plain = False  # for the rest of this turn; `tick` looks again
        for connection in self.connections.values():
            follow(connection)

    def _lend(self, lent_bytes: int) -> None:
        self.rebalancer.lend(lent_bytes)
        self.maintainer.wake()

    def _on_evict(self, item: Item) -> None:
        self.recorder.evicted(item)
        self.rebalancer.evicted(item)

    def connected(self, connection: Connection) -> None:
        """Take note of a new client; the driver calls this before its first `receive_data`."""
        assert connection.id not in self.connections
        self.connections[connection.id] = connection
        self.counters.total_connections += 1
        self.connections_peak = max(self.connections_peak, len(self.connections))
        self.recorder.connected(connection)
        follow(connection)

    def disconnected(self, connection: Connection) -> None:
        """Forget a client; the driver calls this once, when its socket is gone."""
        self.connections.pop(connection.id, None)  # those of UDP were never there
        connection.forget_input()
        if connection.watching:
            self.recorder.remove_watcher(connection)
            connection.close_reason = "error"  # however it ends
        self.recorder.disconnected(connection)

    def reset_counters(self) -> None:
        """Do what `stats reset` does: zero what was counted, keep what is."""
        self.cache.reset_counters()
        self.rebalancer.reset_counters()
        self.recorder.reset_counters()
        self.crawler.starts = 0
        self.maintainer.juggles = 0
        self.counters = ServiceCounters()
        if self.host.tls is not None:
            self.host.tls.reset_counters()
