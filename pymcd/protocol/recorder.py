"""What is told about single commands: statistics by key prefix, and the lines of `watch`.

The recorder is the cache's listener while prefix statistics are on or somebody watches, and then
hears what commands look up, store and delete; otherwise it is not called at all. Whose command
that is, and which, the command loops say (`begin`), since the cache does not know. Of connections,
evictions and slab pages the service tells.

A watcher is a connection that became a stream of lines. It never slows anybody down: what it does
not read is kept up to a bound, beyond it lines are dropped, and `skipped=N` says so when there is
room again.

Lines are those of memcached 1.6.45.
# protocol.txt, "Watchers"; memcached: logger.c, stats_prefix.c; conformance: watching
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final
from urllib.parse import quote_from_bytes

from ..addresses import split_address
from ..store.status import Status, StoreMode

if TYPE_CHECKING:
    from ..service import Service
    from ..store import Item
    from ..store.item import SlabClass
    from ..store.status import Lookup
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
    **dict.fromkeys((b"rawcmds", b"proxyreqs", b"proxyevents", b"proxyuser"), 0),
}

# Commands that are counted by prefix: text ones as bytes, binary ones by name. Meta ones are not.
_GETTING: Final = (b"get", b"gets", b"gat", b"gats", "get", "gat", "touch")
_MODES: Final = tuple(mode.name.lower() for mode in StoreMode)
_STORING: Final = (*_MODES, *(mode.encode() for mode in _MODES))
_DELETING: Final = (b"delete", "delete")


def uri_encode(key: bytes) -> str:
    """Return a key as metadump and watch show it."""
    return quote_from_bytes(key, safe="")


class Prefix:
    """What was done with the keys of one prefix."""

    __slots__ = ("deletes", "gets", "hits", "sets")

    def __init__(self) -> None:
        self.gets = self.hits = self.sets = self.deletes = 0


_NOWHERE: Final = Prefix()


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
        self.detail = False  #: prefixes are counted; see `set_detail`
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
        self._actor_id = 0  #: the connection whose command it is; `cfd`
        self._command: bytes | str = b""

    def set_detail(self, detail: bool) -> None:
        """Have prefixes counted, or no more; the counts stay."""
        self.detail = detail
        self._listen()

    def _listen(self) -> None:
        """Hear what commands do while there is anything to record."""
        self._cache.listen(self if self.detail or self.watchers else None)
        self._service.plain = False  # for the rest of this turn; `tick` looks again

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
        self._listen()
        return True

    def remove_watcher(self, connection: Connection) -> None:
        """Forget a watcher whose socket is gone."""
        self.watchers = [each for each in self.watchers if each.connection is not connection]
        self._events = 0
        for watcher in self.watchers:
            self._events |= watcher.events
        self._listen()

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

    # -- what commands do ------------------------------------------------------------------

    def begin(self, connection: Connection, command: bytes | str) -> None:
        """Take note of whose command is executed now, and which: a word of text, or a name."""
        self._actor_id = connection.id
        self._command = command

    def looked_up(self, key: bytes, lookup: Lookup, item: Item | None) -> None:
        """A command looked for an item; this is what it found."""
        if self.detail:
            command = self._command
            if command in _GETTING:
                prefix = self._prefix(key)
                prefix.gets += 1
                prefix.hits += item is not None
            elif command in _DELETING:
                self._prefix(key).deletes += 1
        if self._events & FETCHERS:
            class_id, size = (0, 0) if item is None else (_class_id(item), len(item.value))
            self._log(
                FETCHERS,
                f"type=item_get key={uri_encode(key)} status={lookup.name.lower()} "
                f"clsid={class_id} cfd={self._actor_id} size={size}",
            )

    def storing(self, key: bytes) -> None:
        """A value is about to come, or to be refused for its size."""
        if self.detail and self._command in _STORING:
            self._prefix(key).sets += 1

    def stored(
        self,
        mode: StoreMode,
        key: bytes,
        status: Status,
        value_bytes: int,
        expires_at: int,
        slab_class: SlabClass | None,
    ) -> None:
        """A value was stored, or not: see `status`."""
        if self._events & MUTATIONS and not self._is_untold(mode, status):
            # Unsigned 32 bits, also for a time that is over.
            ttl = (expires_at - self._cache.now) & 0xFFFFFFFF if expires_at else 0
            self._log(
                MUTATIONS,
                f"type=item_store key={uri_encode(key)} status={status.name.lower()} "
                f"cmd={mode.name.lower()} ttl={ttl} "
                f"clsid={0 if slab_class is None else slab_class.id} cfd={self._actor_id} "
                f"size={value_bytes}",
            )

    def _is_untold(self, mode: StoreMode, status: Status) -> bool:
        # memcached: process_bin_append_prepend. Of other values refused for their size it tells.
        joins = mode is StoreMode.APPEND or mode is StoreMode.PREPEND
        return joins and status is Status.TOO_LARGE and isinstance(self._command, str)

    def deleted(self, item: Item) -> None:
        """A command deletes an item, or what is in it. Binary ones memcached does not log."""
        command = self._command
        if self._events & DELETIONS and isinstance(command, bytes):
            self._log(
                DELETIONS,
                f"type=deleted key={uri_encode(item.key)} cmd={command.decode()} "
                f"clsid={_class_id(item)} size={len(item.value)}",
            )

    # -- what else happens -----------------------------------------------------------------

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

    def tls_failed(self, connection: Connection, message: str) -> None:
        """A client was cut off, or did not say what TLS is."""
        if self._events & CONNEVENTS:
            self._log(CONNEVENTS, f"type=conntlserr fd={connection.id} msg={message}")

    def page_moved(self, source: int, destination: int) -> None:
        """The automover decided to move a slab page."""
        if self._events & SYSEVENTS:
            self._log(SYSEVENTS, f"type=slab_move src={source} dst={destination}")

    def _prefix(self, key: bytes) -> Prefix:
        """Return where to count: nowhere, for a key without a prefix or with one too many.

        A NUL ends a key, as in C.
        """
        name, delimiter, _ = key.partition(b"\0")[0].partition(self._delimiter)
        prefix = self.prefixes.get(name, _NOWHERE) if delimiter else _NOWHERE
        if prefix is _NOWHERE and delimiter and len(self.prefixes) < PREFIXES_MAX:
            prefix = self.prefixes[name] = Prefix()
        return prefix


def _class_id(item: Item) -> int:
    return 0 if item.segment is None else item.segment.slab_class.id


def _peer(connection: Connection) -> str:
    """Return the peer's address as watchers see it."""
    host, port = "unix", None
    if connection.transport != "local":
        host, port = split_address(connection.address.partition(":")[2])
    return f"rip={host} rport={port or 0} transport={connection.transport}"
