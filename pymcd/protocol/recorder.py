"""What is told about single commands: statistics by key prefix, and the lines of `watch`.

The commands call the recorder only while `Service.recorder` is not None, that is while prefix
statistics are on or somebody watches; otherwise they cost nothing. A watcher is a connection
that became a stream of lines. It never slows anybody down: what it does not read is kept up to
a bound, beyond it lines are dropped, and `skipped=N` says so when there is room again.

Lines are those of memcached 1.6.18, with the deletions of later versions. Left out is
`item_get` for lookups that no client asked for, such as the one before each set.
# protocol.txt, "Watchers"; memcached: logger.c, stats_prefix.c
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from ..store.status import Status, StoreMode

if TYPE_CHECKING:
    from ..service import Service
    from ..store import Item
    from .connection import Connection

WATCHERS_MAX: Final = 20
#: Prefixes counted; memcached has no bound, and clients choose the keys.
PREFIXES_MAX: Final = 65536
#: Room that a watcher's buffer must have beyond the line itself. # logger_thread_write_entry
_SPARE_BYTES: Final = 128

FETCHERS: Final = 1
MUTATIONS: Final = 2
EVICTIONS: Final = 4
CONNEVENTS: Final = 8
SYSEVENTS: Final = 16
DELETIONS: Final = 32
#: What may be watched. Some words are understood, though there is nothing to tell: the original
#: never logs raw commands, and the others belong to its proxy.
WATCHABLE: Final = {
    b"fetchers": FETCHERS,
    b"mutations": MUTATIONS,
    b"evictions": EVICTIONS,
    b"connevents": CONNEVENTS,
    b"sysevents": SYSEVENTS,
    b"deletions": DELETIONS,
    b"rawcmds": 0,
    b"proxyreqs": 0,
    b"proxyevents": 0,
    b"proxyuser": 0,
}

_STATUS_WORDS: Final = {
    Status.STORED: "stored",
    Status.NOT_STORED: "not_stored",
    Status.EXISTS: "exists",
    Status.NOT_FOUND: "not_found",
    Status.TOO_LARGE: "too_large",
    Status.NO_MEMORY: "no_memory",
    Status.NO_MEMORY_READING: "no_memory",
}
_MODE_WORDS: Final = {mode: mode.name.lower() for mode in StoreMode}

_UNRESERVED: Final = frozenset(
    b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~"
)
_URI: Final = [chr(code) if code in _UNRESERVED else f"%{code:02X}" for code in range(256)]


def uri_encode(key: bytes) -> str:
    """Return a key as metadump and watch show it."""
    if key.isalnum():
        return key.decode("ascii")
    return "".join([_URI[byte] for byte in key])


class Prefix:
    """What was done with the keys of one prefix."""

    __slots__ = ("deletes", "gets", "hits", "sets")

    def __init__(self) -> None:
        self.gets = self.hits = self.sets = self.deletes = 0


class Watcher:
    """A connection that reads log lines."""

    __slots__ = ("buffered_bytes", "connection", "events", "skipped")

    def __init__(self, connection: Connection, events: int) -> None:
        self.connection = connection
        self.events = events
        self.buffered_bytes = 0  #: at least what its driver has not yet taken
        self.skipped = 0

    def offer(self, line: bytes, room_bytes: int) -> bool:
        """Hand a line to the connection, or count it as skipped when there is no room."""
        connection = self.connection
        if not connection.pieces:
            self.buffered_bytes = 0
        if self.buffered_bytes + len(line) + _SPARE_BYTES > room_bytes:
            self.skipped += 1
            return False
        if self.skipped:
            line = b"skipped=%d\n" % self.skipped + line
            self.skipped = 0
        self.buffered_bytes += len(line)
        connection.pieces.append(line)
        connection.wake()
        return True


class Recorder:
    """Counts by prefix and writes to watchers."""

    def __init__(self, service: Service) -> None:
        self.detail = False  #: whether prefixes are counted
        self.prefixes: dict[bytes, Prefix] = {}
        self.watchers: list[Watcher] = []
        self.lines_written = 0  #: `log_worker_written`
        self.lines_skipped = 0  #: `log_watcher_skipped`
        self.lines_sent = 0  #: `log_watcher_sent`
        self._service = service
        self._cache = service.cache
        self._delimiter = service.settings.prefix_delimiter.encode()
        self._room_bytes = service.settings.watcher_logbuf_size_bytes
        self._events = 0  #: all that some watcher wants
        self._line_id = 0  #: `gid`

    @property
    def wanted(self) -> bool:
        return self.detail or bool(self.watchers)

    def reset_counters(self) -> None:
        """Zero what `stats reset` zeroes; the watchers stay."""
        self.prefixes.clear()
        self.lines_written = self.lines_skipped = self.lines_sent = 0

    # -- watchers --------------------------------------------------------------------------

    def add_watcher(self, connection: Connection, events: int) -> bool:
        """Turn a connection into a watcher; False: there are too many."""
        if len(self.watchers) >= WATCHERS_MAX:
            return False
        self._line_id += 1
        connection.watching = True
        self.watchers.append(Watcher(connection, events))
        self._events |= events
        return True

    def remove_watcher(self, connection: Connection) -> None:
        """Forget a watcher whose socket is gone."""
        self.watchers = [each for each in self.watchers if each.connection is not connection]
        self._events = 0
        for watcher in self.watchers:
            self._events |= watcher.events

    def _log(self, event: int, text: str) -> None:
        # Microseconds without leading zeros: so does the original.
        seconds = self._service.clock.realtime()
        whole = int(seconds)
        self._line_id += 1
        self.lines_written += 1
        stamp = f"ts={whole}.{int((seconds - whole) * 1e6)} gid={self._line_id} "
        line = (stamp + text + "\n").encode()
        for watcher in self.watchers:
            if watcher.events & event:
                if watcher.offer(line, self._room_bytes):
                    self.lines_sent += 1
                else:
                    self.lines_skipped += 1

    # -- what the commands report ----------------------------------------------------------

    def fetched(self, connection: Connection, key: bytes, item: Item | None) -> None:
        """A client asked for a key; `item` is what it got."""
        if self.detail:
            prefix = self._prefix(key)
            if prefix is not None:
                prefix.gets += 1
                prefix.hits += item is not None
        self.looked_up(connection, key, item)

    def looked_up(self, connection: Connection, key: bytes, item: Item | None) -> None:
        """A command of any kind looked for an item; this is what it found.

        # memcached: do_item_get, which storing, deleting, touching and counting pass through
        """
        if self._events & FETCHERS:
            if item is None:
                found, class_id, size = "not_found", 0, 0
            else:
                found, class_id, size = "found", _class_id(item), len(item.value)
            self._log(
                FETCHERS,
                f"type=item_get key={uri_encode(key)} status={found} clsid={class_id} "
                f"cfd={connection.id} size={size}",
            )

    def storing(self, key: bytes) -> None:
        """A client is about to store a value, or to find that it may not."""
        if self.detail:
            prefix = self._prefix(key)
            if prefix is not None:
                prefix.sets += 1

    def stored(
        self,
        connection: Connection,
        key: bytes,
        mode: StoreMode,
        status: Status,
        value_bytes: int,
        expires_at: int,
    ) -> None:
        """A value was stored, or found not to be wanted: see `status`."""
        if not self._events & MUTATIONS:
            return
        item = self._cache.inspect(key) if status is Status.STORED else None
        if item is not None:
            # What append and prepend made of it.
            class_id, value_bytes, expires_at = _class_id(item), len(item.value), item.expires_at
        elif status is Status.TOO_LARGE:
            class_id = value_bytes = 0
        else:
            # That of the item which was made for nothing, or is over already.
            slab_class = self._cache.class_for(len(key), value_bytes)
            class_id = slab_class.id if slab_class is not None else 0
        # Unsigned 32 bits, also for a time that is over.
        ttl = (expires_at - self._cache.now) & 0xFFFFFFFF if expires_at else 0
        self._log(
            MUTATIONS,
            f"type=item_store key={uri_encode(key)} status={_STATUS_WORDS[status]} "
            f"cmd={_MODE_WORDS[mode]} ttl={ttl} clsid={class_id} cfd={connection.id} "
            f"size={value_bytes}",
        )

    def refused(self, connection: Connection, key: bytes, mode: StoreMode, status: Status) -> None:
        """A value was refused before it arrived."""
        self.stored(connection, key, mode, status, 0, 0)

    def deleting(self, connection: Connection, key: bytes, command: str = "delete") -> None:
        """A client is about to delete a key, which may be there or not."""
        # memcached counts no meta command by prefix.
        if self.detail and command == "delete":
            prefix = self._prefix(key)
            if prefix is not None:
                prefix.deletes += 1
        if self._events & DELETIONS:
            item = self._cache.inspect(key)
            if item is not None:
                self._log(
                    DELETIONS,
                    f"type=deleted key={uri_encode(key)} cmd={command} "
                    f"clsid={_class_id(item)} cfd={connection.id} size={len(item.value)}",
                )

    def evicted(self, item: Item) -> None:
        """An item is about to be evicted alive."""
        if self._events & EVICTIONS:
            now = self._cache.now
            self._log(
                EVICTIONS,
                f"type=eviction key={uri_encode(item.key)} "
                f"fetch={'yes' if item.fetched else 'no'} "
                f"ttl={item.expires_at - now if item.expires_at else -1} "
                f"la={now - item.last_access} clsid={_class_id(item)} size={len(item.value)}",
            )

    def connected(self, connection: Connection) -> None:
        """A client came."""
        if self._events & CONNEVENTS:
            self._log(CONNEVENTS, f"type=conn_new {_peer(connection)} cfd={connection.id}")

    def disconnected(self, connection: Connection) -> None:
        """A client went; its `close_reason` says why."""
        if self._events & CONNEVENTS:
            self._log(
                CONNEVENTS,
                f"type=conn_close {_peer(connection)} "
                f"reason={connection.close_reason} cfd={connection.id}",
            )

    def page_moved(self, source: int, destination: int) -> None:
        """The automover decided to move a slab page."""
        if self._events & SYSEVENTS:
            self._log(SYSEVENTS, f"type=slab_move src={source} dst={destination}")

    def _prefix(self, key: bytes) -> Prefix | None:
        name, delimiter, _ = key.partition(self._delimiter)
        if not delimiter:
            return None
        prefix = self.prefixes.get(name)
        if prefix is None and len(self.prefixes) < PREFIXES_MAX:
            prefix = self.prefixes[name] = Prefix()
        return prefix


def _class_id(item: Item) -> int:
    return 0 if item.segment is None else item.segment.slab_class.id


def _peer(connection: Connection) -> str:
    """Return the peer's address as watchers see it."""
    if connection.transport == "local":
        host, port = "unix", "0"
    else:
        host, _, port = connection.address.partition(":")[2].rpartition(":")
        host = host.strip("[]")
    return f"rip={host} rport={port} transport={connection.transport}"
