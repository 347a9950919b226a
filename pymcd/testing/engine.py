"""One fake, inside its event loop: the server of `server/`, on the fake's clock, with its script.

Everything here runs in the event loop that serves; the classes that tests use (`controls`) call it
from wherever they are, by the names of its methods and of what it has.
"""

from __future__ import annotations

import errno
import secrets
import socket
import weakref
from collections import deque
from contextlib import contextmanager
from functools import partial
from math import ceil
from typing import TYPE_CHECKING, Any, Final

import trio

from .. import limits
from ..arguments import split_arguments
from ..auth import Authenticator, Users
from ..draft import Draft
from ..exits import EXIT_OS_ERROR, ConfigError
from ..protocol import Connection, PairedConnection
from ..server.hub import HUB_AVAILABLE
from ..server.listening import Endpoint, open_internet_endpoints, open_unix_endpoint
from ..server.log import Log
from ..server.maintenance import Chore
from ..server.serving import Server
from ..store.expiry import FlushHorizon
from ..store.item import MARK_BITS, MARKS_MASK, SHARED_MARKS
from .clocks import FakeClock, monotonic
from .controls import Item, Snapshot, too_large
from .freeing import take_apart
from .intake import Intake
from .links import Links
from .scripted import Script, ScriptedPairedConnection

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from ..clock import Clock
    from ..config import Settings, Tls
    from ..replication.node import Node
    from ..server.hub import Hub
    from ..server.peering import Peering
    from ..store import Cache
    from ..store.item import Item as StoredItem
    from .findings import Finding, Place
    from .plan import Plan
    from .ports import Port
    from .record import CallRecord

_LOG_LINES_MAX: Final = 1000
#: Turns of the event loop for those who were told to close.
_TURNS_TO_CLOSE: Final = 100
#: For clients of one node to hear from the other, and how often to look.
_SETTLE_S: Final = 2.0
_LOOK_EVERY_S: Final = 0.0005
#: Turns of the hub for what clients have sent.
_TURNS_TO_TAKE_IN: Final = 1000
#: So far back before 1970 a clock may go that is somebody else's: to where `datetime` begins.
_BACK_S: Final = 1970 * 366 * 86_400

#: Options that start the process of a server, which this is not; what to write instead.
_INSTEAD: Final = {
    "port": "port=",
    "listen": "host=",
    "unix-socket": "unix_socket=",
    "enable-ssl": "tls=",
    "enable-sasl": "users=",
    "peer": "MemcachedPair",
    "replication-listen": "MemcachedPair",
    "replication-port": "MemcachedPair",
    "udp-port": "",
    "daemon": "",
    "user": "",
    "pidfile": "",
    "config": "",
    "help": "",
    "license": "",
    "version": "",
}


def make_settings(plan: Plan, port: int, **more: Any) -> Settings:
    """Return the settings of a server; raise `ValueError` for what it cannot be."""
    draft = Draft()
    try:
        draft.set("listen", (plan.host,))
        draft.set("port", port)
        draft.set("unix_socket", plan.socket_path)
        draft.set("memory_limit_bytes", plan.memory_limit << 20)
        draft.set("item_size_max_bytes", plan.item_size_bytes)
        if plan.item_size_bytes % draft.get("slab_chunk_max_bytes"):
            # Which must divide both it and a page.
            draft.set("slab_chunk_max_bytes", plan.item_size_bytes & -plan.item_size_bytes)
        if plan.protocol != "auto":
            draft.set("protocol", plan.protocol)
        if plan.users is not None and plan.protocol != "ascii":
            draft.set("enable_sasl", value=True)
        if isinstance(plan.tls, tuple):
            draft.set("enable_ssl", value=True)
            draft.set("ssl_chain_cert", str(plan.tls[0]))
            draft.set("ssl_key", str(plan.tls[1]))
        for option, word, _ in split_arguments(plan.options):
            if option.name in _INSTEAD:
                instead = _INSTEAD[option.name]
                say = f"; write {instead}" if instead else ""
                raise ValueError(
                    f"options={list(plan.options)!r}: --{option.name} is not for a server of"
                    f" tests{say}"
                )
            option.apply(draft, word or "")
        for name, value in more.items():
            draft.set(name, value)
        return draft.build()
    except ConfigError as error:
        raise ValueError(f"options={list(plan.options)!r}: {error.message}") from None


def _check_nobody_listens(path: str) -> None:
    """Raise `ConfigError` where a server is: ours would take its place, as memcached's does."""
    with socket.socket(socket.AF_UNIX) as probe:
        probe.setblocking(False)
        if probe.connect_ex(path) in (0, errno.EAGAIN):
            raise ConfigError("a server listens there already; write another path", EXIT_OS_ERROR)


@contextmanager
def _uncounted(cache: Cache) -> Iterator[None]:
    """Have nobody see in the statistics what a test stores past all protocols."""
    total_items = cache.total_items
    set_cmds = [each.set_cmds for each in cache.slabs]
    try:
        yield
    finally:
        cache.total_items = total_items
        for slab_class, count in zip(cache.slabs, set_cmds, strict=True):
            slab_class.set_cmds = count


class _LinkClock:
    """What replication goes by: its leases are real, its versions and the items share a time."""

    def __init__(self, items: Clock) -> None:
        self.monotonic = monotonic
        self.realtime = items.realtime


class _MemoryLog(Log):
    """A log that is kept; faults of the server itself are written to stderr as ever."""

    def __init__(self, *, realtime: Callable[[], float]) -> None:
        super().__init__(realtime=realtime)
        self.lines: deque[str] = deque(maxlen=_LOG_LINES_MAX)

    def line(self, message: str) -> None:
        self.lines.append(message)

    def warning(self, message: str) -> None:
        self.lines.append(message)

    def failure(self, message: str, error: BaseException) -> None:
        self.lines.append(f"{message}: {error!r}")
        super().failure(message, error)


class _Door:
    """A listening socket that can be shut, so that the system refuses connections."""

    def __init__(self, endpoint: Endpoint) -> None:
        self.first = endpoint
        self.endpoint = endpoint
        self.scope = trio.CancelScope()  #: of listening there
        self.is_shut = False
        self.met = False  #: clients were let in, once at least

    def shut(self, hub: Hub | None, settings: Settings) -> None:
        """Listen no more; the address stays ours. Doing so twice is harmless."""
        self.scope.cancel()
        if self.is_shut:
            return
        self.is_shut = True
        sock = self.endpoint.sock
        if hub is not None:
            hub.unwatch(sock.fileno())
        else:
            trio.lowlevel.notify_closing(sock)
        self.endpoint = self.endpoint.reopen(settings)

    def open(self, settings: Settings) -> None:
        """Listen again."""
        self.is_shut = False
        self.scope = trio.CancelScope()
        self.endpoint.listen(settings)


class _FakeServer(Server):
    """The server, with connections that follow a script."""

    def __init__(
        self,
        settings: Settings,
        *,
        clock: FakeClock,
        script: Script,
        users: Mapping[str, str] | None,
        use_hub: bool,
    ) -> None:
        self.memory_log = _MemoryLog(realtime=clock.realtime)
        self._users = users
        self._script = script
        self.refusals: set[int] = set()
        self._accepting_again = trio.Event()
        self.doors: list[_Door] = []
        self.accepted: weakref.WeakSet[socket.socket] = weakref.WeakSet()
        self.intake = Intake()
        self.links = Links()
        super().__init__(
            settings,
            clock=clock,
            real_clock=_LinkClock(clock),
            log=self.memory_log,
            use_hub=use_hub,
            network=self.links,
        )
        if self.hub is not None:
            self.hub.brisk_linger_s = 0.0  # a test that calls would wait for that
        self.releasing = Chore(script.release_due)
        self.chores.append(self.releasing)

    def _authenticator(self) -> Authenticator | None:
        if self._users is None:
            return super()._authenticator()
        users = Users((name.encode(), word.encode()) for name, word in self._users.items())
        return Authenticator(
            lambda: users, make_nonce=lambda: secrets.token_hex(16), secret=secrets.token_bytes(16)
        )

    def _join_group(self, endpoints: Sequence[Endpoint]) -> Peering:
        peering = super()._join_group(endpoints)
        self._new_connection = partial(ScriptedPairedConnection, self.service)
        assert self._clients is not None
        self.links.attach(peering, self._clients)
        return peering

    def _welcome(self, endpoint: Endpoint, sock: socket.socket, address: object) -> None:
        self.accepted.add(sock)
        if self.hub is None:
            self.intake.expect(sock)
        super()._welcome(endpoint, sock, address)

    async def _serve_stream(
        self, stream: trio.abc.Stream, connection: Connection, tls: Tls | None = None
    ) -> None:
        if not isinstance(stream, trio.SocketStream):
            await super()._serve_stream(stream, connection, tls)
            return
        with self.intake.note(stream, connection) as noted:
            await super()._serve_stream(noted, connection, tls)

    def _admit(self, connection: Connection, protocol: str) -> None:
        super()._admit(connection, protocol)
        self._script.take_on(connection)

    def _gone(self, connection: Connection) -> None:
        self._script.let_go(connection)
        super()._gone(connection)

    # -- refusing ------------------------------------------------------------------------------

    async def _listen(self, endpoint: Endpoint) -> None:
        door = next((door for door in self.doors if door.first is endpoint), None)
        if door is None:  # of UDP
            await super()._listen(endpoint)
            return
        if self.refusals:
            door.shut(self.hub, self.settings)
        door.met = True
        try:
            while True:
                with door.scope:
                    await super()._listen(door.endpoint)
                await self._accepting_again.wait()
        finally:
            if door.endpoint is not endpoint:
                door.endpoint.close()

    @property
    def lets_in(self) -> bool:
        """Whether clients may connect now."""
        return self.ready.is_set() and not self.refusals

    def refuse(self, number: int) -> None:
        """Have the system refuse new clients, until the refusal of that number ends."""
        self.refusals.add(number)
        if len(self.refusals) == 1:
            self._accepting_again = trio.Event()
            for door in self.doors:
                # Who is connected, for all that they know.
                self.acceptor(door.endpoint).accept_some()
                door.shut(self.hub, self.settings)

    def accept_again(self, number: int) -> int:
        """End one refusal, if it is there; the last one lets clients in again."""
        if self.refusals == {number}:
            for door in self.doors if self.ready.is_set() else ():
                door.open(self.settings)
            self._accepting_again.set()
        self.refusals.discard(number)
        return 0  # calls, as of other faults


class Engine:
    """One fake. Create it anywhere, and run it in one event loop."""

    def __init__(
        self,
        plan: Plan,
        *,
        clock: FakeClock | None = None,
        port: Port | None = None,
        script: Script | None = None,
        sockets: bool = True,
        **settings: Any,
    ) -> None:
        """`port` is that of clients; `settings` are further ones, such as a pair's.

        With a `script` this goes on where another engine, which is no more, has ended.
        """
        self.clock = clock or FakeClock(plan.clock)
        self._port = port
        self.settings = make_settings(plan, 0 if port is None else port.number, **settings)
        self.script = script or Script(self.clock)
        try:
            self.server = _FakeServer(
                self.settings,
                clock=self.clock,
                script=self.script,
                users=plan.users,
                use_hub=sockets and HUB_AVAILABLE,
            )
        except ConfigError as error:
            raise ValueError(f"options={list(plan.options)!r}: {error.message}") from None
        if self.clock.follows:
            self.server.service.cache.count_from(-_BACK_S)
        self.script.attach(self.server.memory_log.line, self.server.releasing.wake, self.look)
        self.endpoints: list[Endpoint] = []
        if sockets:
            try:
                if plan.socket_path is not None:
                    _check_nobody_listens(plan.socket_path)
                    self.endpoints = [open_unix_endpoint(self.settings, plan.socket_path)]
                else:
                    self.endpoints = open_internet_endpoints(self.settings)
            except ConfigError as error:
                self.close()
                place = "" if plan.unix_socket is None else f"unix_socket={plan.unix_socket!r}: "
                raise OSError(place + error.message) from None
        # Known from the start: a client may be refused before the server has listened once.
        self.server.doors = [
            _Door(endpoint) for endpoint in self.endpoints if endpoint.transport != "replication"
        ]
        self._scope = trio.CancelScope()

    async def run(self, started: Callable[[], None]) -> None:
        """Serve until `stop`; `started` is called when a client, or a peer, would be answered."""
        try:
            with self._scope:
                await self.server.serve(self.endpoints, started=started)
        except ConfigError as error:  # about a place that an option names
            raise ValueError(error.message) from None

    def stop(self) -> None:
        """Have `run` return: all connections are closed at once, as if the process was killed."""
        self._scope.cancel()

    def fall_apart(self) -> None:
        """Have the server be freed at once, after `run`; script and clock stay."""
        self.script.detach()
        take_apart(self.server.service)
        vars(self.server).clear()

    async def serve_stream(self, stream: trio.abc.Stream) -> None:
        """Serve one client over a stream."""
        await self.server.serve_stream(stream, address="memory")

    def close_copies(self) -> None:
        """Close, in a forked child, the copies of all sockets; nothing happens to the server."""
        server = self.server
        if self._port is not None:
            self._port.close()
        for endpoint in self.endpoints:
            endpoint.sock.close()
        for door in server.doors:
            door.endpoint.sock.close()
        # As objects: descriptors that were closed by number would be closed again later.
        for sock in list(server.accepted):
            sock.close()
        if server.peering is not None:
            for wire in server.peering._wires:
                wire.sock.close()

    def close(self) -> None:
        """Close what was opened by an engine that never ran."""
        for endpoint in self.endpoints:
            endpoint.close()
        if self.server.hub is not None:
            self.server.hub.close_all()

    @property
    def _node(self) -> Node | None:
        peering = self.server.peering
        return None if peering is None else peering.node

    def take_in(self) -> None:
        """Do what clients have sent so far, as far as that takes nobody else.

        Called before anything is asked of this engine: a client that was not waiting for a reply,
        as after `noreply`, may have sent it in this very moment, and a test counts on it. Where
        clients have tasks, `settle` waits for these.
        """
        self.look()
        server = self.server
        if self.script.executing:
            return
        if server.lets_in:
            for door in server.doors:
                server.acceptor(door.endpoint).accept_some()
        if server.hub is not None:
            # It waits meanwhile, between two of its turns.
            server.hub.serve_ready(_TURNS_TO_TAKE_IN)

    @property
    def has_tasks(self) -> bool:
        """Whether each client has a task of its own, as where there is no hub."""
        return self.server.hub is None

    async def settle(self) -> None:
        """Wait until clients' tasks have done what clients have sent."""
        if self.has_tasks:
            await self.server.intake.settle()
            await self._let_go_of_closing()

    async def settle_clients(self) -> None:
        """Wait until no client of this node waits for the other one."""
        connections = self.server.service.connections

        def is_waiting() -> bool:
            return not self.script.paused and any(each.waiting for each in connections.values())

        with trio.move_on_after(_SETTLE_S):
            while is_waiting():  # noqa: ASYNC110 - nobody tells
                await trio.sleep(_LOOK_EVERY_S)

    # -- time ----------------------------------------------------------------------------------

    def now(self) -> float:
        """Return the Unix time of this server."""
        return self.clock.realtime()

    def look(self) -> None:
        """See what time it is by a clock that others move, and have happen what is due by then.

        What has ended is removed at once: it shall not live again when the clock goes back, and
        not live or die by when the crawler comes round.
        """
        clock = self.clock
        if not clock.follows:
            return
        service = self.server.service
        cache = service.cache
        before = cache.now
        clock.look()
        if cache.seconds_of(clock.monotonic()) < before:
            self._bury()
        service.tick()
        if cache.now == before:
            return
        if cache.now < before:
            self._go_back(before)
        self._bury()
        for kicker in self.server.kickers:
            kicker.step()

    def _bury(self) -> None:
        """Remove all items that are dead by now."""
        cache = self.server.service.cache
        if cache.expiry.due() or cache.horizon.active(cache.now):
            for item in list(cache.items()):
                if cache.is_dead(item):
                    cache.reclaim(item)

    def _go_back(self, before: int) -> None:
        """Have nothing stand in the future that has happened."""
        service = self.server.service
        cache = service.cache
        if 0 < cache.horizon.oldest_live <= before:
            cache.settle_flush()
        for item in cache.items():
            segment, expires_at, access = item.state
            if access >> MARK_BITS > cache.now:
                item.state = segment, expires_at, cache.now << MARK_BITS | access & MARKS_MASK
        for connection in service.connections.values():
            connection.last_command_at = min(connection.last_command_at, cache.now)
            if connection.stranger_since is not None:
                connection.stranger_since = min(connection.stranger_since, cache.now)

    async def advance(self, seconds: float, place: Place) -> None:
        """Let time pass, and what is due with it happen; a line of the test asks for it."""
        self.clock.advance(seconds)
        self.script.advanced_at = place
        await self.catch_up()

    async def catch_up(self) -> None:
        """See what is due, after the clock was moved."""
        service = self.server.service
        service.tick()
        self.script.release_due()
        for kicker in self.server.kickers:
            kicker.step()
        for chore in self.server.chores:
            chore.wake()
        if self.server.peering is not None:
            self.server.peering.stepping.wake()
        await self._let_go_of_closing()

    async def _let_go_of_closing(self) -> None:
        """Wait until those who were told to close are gone; not for those who do not read."""
        connections = self.server.service.connections
        for _ in range(_TURNS_TO_CLOSE):
            await trio.lowlevel.checkpoint()
            if not any(each.closing for each in connections.values()):
                break

    # -- items ---------------------------------------------------------------------------------

    def _cache_now(self) -> Cache:
        """Return the cache after it was told the time."""
        self.server.service.tick()
        return self.server.service.cache

    def _living(self) -> list[StoredItem]:
        cache = self._cache_now()
        return [item for item in list(cache.items()) if not cache.is_dead(item)]

    def items(self) -> dict[bytes, Item]:
        """Return all living items by key."""
        return {item.key: self._shown(item) for item in self._living()}

    def get(self, key: bytes) -> Item | None:
        """Return one living item; nothing changes by that."""
        item = self._cache_now().inspect(key)
        return None if item is None else self._shown(item)

    def _shown(self, item: StoredItem) -> Item:
        unix_time = self.server.service.cache.expiry.unix_time
        return Item(
            key=item.key,
            value=item.value,
            flags=item.client_flags,
            expires=unix_time(item.expires_at) if item.expires_at else 0,
            cas=item.cas_unique,
            last_access=unix_time(item.last_access),
        )

    async def put(self, key: bytes, value: bytes, flags: int, ttl: int) -> None:
        """Store an item, on all nodes of a pair."""
        if ttl > limits.EXPTIME_RELATIVE_MAX_S:
            ttl += int(self.clock.realtime())
        await self._store(key, value, flags, exptime=ttl)

    async def load(self, items: Sequence[Item]) -> None:
        """Store items, all of them or none; `expires` of each is Unix time."""
        cache = self._cache_now()
        for item in items:
            self._check_size(cache, item.key, item.value, item.flags)
        for item in items:
            exptime = item.expires
            if 0 < exptime <= limits.EXPTIME_RELATIVE_MAX_S:
                exptime = -1  # it ended in 1970, and this would mean that it has just begun
            await self._store(item.key, item.value, item.flags, exptime)

    @staticmethod
    def _check_size(cache: Cache, key: bytes, value: bytes, flags: int) -> None:
        if not cache.fits(key, len(value), flags):
            raise ValueError(too_large(key, value))

    async def _store(self, key: bytes, value: bytes, flags: int, exptime: int) -> None:
        cache = self._cache_now()
        if self._node is not None:
            command = b"ms %b %d F%d T%d\r\n%b\r\n" % (key, len(value), flags, exptime, value)
            reply = await self._say(command)
            if not reply.startswith(b"HD"):
                raise RuntimeError(f"the item {key!r} was not stored: {reply.decode().rstrip()}")
            return
        before = cache.inspect(key)
        expires_at = cache.expiry.expires_at(exptime)
        self._check_size(cache, key, value, flags)
        with _uncounted(cache):
            stored = cache.create(key, value, flags, expires_at)
        if stored is None:
            state = "is gone" if before else "was not stored"
            raise RuntimeError(f"there is no memory for the item, {key!r} {state}")

    async def _say(self, command: bytes) -> bytes:
        """Have a connection of our own, without log and faults, execute a text command."""
        service = self.server.service
        connection: Connection
        if self._node is None:
            connection = Connection(service, address="test", protocol="ascii", trusted=True)
        else:
            connection = PairedConnection(service, address="test", protocol="ascii", trusted=True)
        woken = trio.Event()
        connection.wake = lambda: woken.set()
        connection.receive_data(command)
        reply: list[bytes | memoryview] = []
        while True:
            connection.run()
            if self.server.peering is not None:
                self.server.peering.send_turn()
            while connection.waiting:
                await woken.wait()
                woken = trio.Event()
            chunk = connection.next_chunk()
            while chunk is not None:
                reply.append(chunk)
                chunk = connection.next_chunk()
            if reply or connection.position == len(connection.buffer):
                return b"".join(reply)

    def evict(self, key: bytes) -> bool:
        """Evict one item as if its memory were needed; False: it is not there."""
        cache = self._cache_now()
        item = cache.inspect(key)
        if item is None:
            return False
        if not cache.lru.evictions:
            raise RuntimeError("this server never evicts: it was started with -M")
        assert item.segment is not None
        cache.lru.evict(item, item.segment.slab_class)
        return True

    def kept_items(self) -> list[tuple[Item, int]]:
        """Return all living items as another engine can install them, each with its marks."""
        return [(self._shown(item), item.access & SHARED_MARKS) for item in self._living()]

    def snapshot(self) -> Snapshot:
        """Return what `restore` takes."""
        return Snapshot(tuple(self.kept_items()), self.clock.advanced_s)

    async def restore(self, snapshot: Snapshot) -> None:
        """Have the items of a snapshot and no others, and the clock as it was."""
        cache = self.server.service.cache
        items = [item for item, _ in snapshot.kept]
        for item in items:
            self._check_size(cache, item.key, item.value, item.flags)
        refused_before = self._refused()
        if self._node is None:
            self._begin_anew(snapshot.advanced_s)
            with _uncounted(cache):
                self._install(snapshot.kept)
        else:
            await self.flush()
            await self.load(items)
        if self._refused() != refused_before:
            raise RuntimeError(
                f"there is no memory for all {len(items)} items of the snapshot;"
                " start the server with a larger memory_limit="
            )

    def _refused(self) -> int:
        """Return how often there was no memory for an item, or another one went for it."""
        return sum(each.evicted + each.outofmemory for each in self.server.service.cache.slabs)

    def install(self, items: Iterable[tuple[Item, int]]) -> None:
        """Begin with items of another engine, before the first client comes."""
        self._install(items)
        self.server.service.cache.reset_counters()

    def _install(self, items: Iterable[tuple[Item, int]]) -> None:
        cache = self.server.service.cache
        origin_s = cache.expiry.unix_time(0)
        for item, marks in items:
            expires_at = max(1, item.expires - origin_s) if item.expires else 0
            cache.install(item.key, item.value, item.flags, expires_at, item.cas, marks)
            cache.raise_cas_unique(item.cas)

    async def reset(self) -> None:
        """Be as after the start: no items, statistics, faults or calls; the clock is set back."""
        await self.calm()
        self._begin_anew(0.0)
        self.forget()

    async def calm(self) -> None:
        """End all that goes wrong, and let happen what was held."""
        for number in list(self.server.refusals):
            self.server.accept_again(number)
        self.links.clear()
        self.script.clear_faults()
        self.script.resume()
        # What was held is executed now, and not after this.
        for _ in range(_TURNS_TO_CLOSE):
            await trio.lowlevel.checkpoint()
            if not self.script.busy:
                break

    async def flush(self) -> None:
        """Have no items, on all nodes of a pair."""
        await self._say(b"flush_all\r\n")

    def forget(self) -> None:
        """Have no statistics, calls, and lines of the log."""
        self.server.service.reset_counters()
        self.script.record.clear()
        self.server.memory_log.lines.clear()

    def _begin_anew(self, advanced_s: float) -> None:
        """Have no items, on a clock that was advanced by so much in all."""
        cache = self.server.service.cache
        cache.clear()
        cache.horizon = FlushHorizon()
        self.set_clock(advanced_s)

    def set_clock(self, advanced_s: float) -> None:
        """Have a clock that was advanced by so much in all; it may go back."""
        service = self.server.service
        cache = service.cache
        self.clock.advance(advanced_s - self.clock.advanced_s)
        # It may have started in what is the future now.
        late_s = max(0, ceil(cache._started_at - self.clock.monotonic()))
        cache._started_at -= late_s
        if self._node is not None:
            self._node.changes.origin_s -= late_s  # the Unix time of its second 0
        cache.now = 0  # no second that the clock shows: what is Unix time is to be seen anew
        service.tick()
        for connection in service.connections.values():
            connection.last_command_at = cache.now

    # -- what is going on ----------------------------------------------------------------------

    async def stats(self, name: str) -> dict[str, str]:
        """Return the rows of one report."""
        self.server.service.tick()
        reply = await self._say(f"stats {name}".rstrip().encode() + b"\r\n")
        rows: dict[str, str] = {}
        for line in reply.decode().split("\r\n"):
            if line.startswith(("STAT ", "ITEM ", "PREFIX ")):
                _, row, value = line.split(" ", 2)
                rows[row] = value
            elif "ERROR" in line:
                raise ValueError(f"stats({name!r}): {line}")
        return rows

    def connections(self) -> int:
        """Return how many clients are connected."""
        return len(self.server.service.connections)

    def log(self) -> list[str]:
        """Return the last lines of the log."""
        return list(self.server.memory_log.lines)

    def close_books(self) -> tuple[CallRecord, dict[int, int], list[Finding], list[str]]:
        """Return what is to be known when this is no more.

        Calls, how often each fault happened, what is wrong with the test, and the log.
        """
        script = self.script
        findings = script.take_findings()  # which may be logged
        return script.record, script.faults.mets(), findings, self.log()

    # -- what goes wrong -----------------------------------------------------------------------

    async def drop_connections(self) -> int:
        """Close all clients; return how many there were."""
        connections = list(self.server.service.connections.values())
        for connection in connections:
            if self.server.hub is not None:
                self.server.hub.shut(connection)
            connection.close()
            connection.wake()
        await self._let_go_of_closing()
        return len(connections)

    def pause(self) -> None:
        """Answer nobody from now on, clients or peers."""
        self.script.pause()
        self.links.pause()

    def resume(self) -> None:
        """Answer again."""
        self.links.resume()
        self.script.resume()

    # -- of a pair -----------------------------------------------------------------------------

    @property
    def links(self) -> Links:
        return self.server.links

    def role(self) -> str:
        """Return what this node is to the other."""
        node = self._node
        return "single" if node is None else node.role

    def accepting(self) -> bool:
        """Return whether clients are let in."""
        return self.server.ready.is_set() and all(door.met for door in self.server.doors)

    def settled(self) -> bool:
        """Return whether the other node holds everything that this one does."""
        node = self._node
        return (
            node is not None
            and self.accepting()
            and node.role.in_sync
            and not node.changes.pending
            and node.drained()
        )
