"""A whole server: listeners, clients, and an orderly end.

`Server` is one memcached on any sockets, inside any trio program: it accepts clients, hands each
to a driver (the hub for all sockets where there is epoll, else `streams`), runs the chores, and
drains when told to stop. The process around one is in `process`.

Stopping. The first `stop` tells whoever asks that no client is to come any more, and goes on for
`drain_s`. Then it closes the listeners and every client that has nothing under way; what
was received is executed, its replies are sent, and a value that is arriving may arrive, for
`shutdown_timeout_s` at most. A second one ends all that at once.

A server that replicates is a member of a group: it listens for its peers at once, and for clients
when its node says that it is ready, so that who looks for a server finds none before. When it
stops, it waits within the same time until the peers have acknowledged what changed here.

The single `except Exception` for client code of the stream driver is here (the hub, UDP and the
accept loop have theirs): a bug in a handler is logged with its traceback, costs one connection, and
nobody else notices. `Cancelled` is no `Exception` and passes.
"""

from __future__ import annotations

import itertools
import os
import resource
import socket
import sys
from functools import partial
from math import inf
from typing import TYPE_CHECKING, Any, Final

import trio

from ..clock import OffsetClock, SystemClock, suspended_s
from ..config import PROTOCOL_NAMES
from ..exits import EXIT_USAGE, ConfigError
from ..protocol import Connection, Executor, PairedConnection
from ..protocol.binary import holds_request, run_binary
from ..readiness import Readiness, State, readiness_of
from ..replication.roles import ALONE, COORDINATOR
from ..service import Host, Reception, Service
from .accepting import Acceptor
from .certificates import Certificates
from .credentials import PeerSecrets, TextUsers, authenticator_for, sasl_authenticator
from .hub import HUB_AVAILABLE, LINGER_S, Hub
from .listening import close_all, describe
from .log import Log
from .maintenance import Chore, IdleKicker, Kicker, LoginKicker, run_chores
from .memory import Memory, address_space_left, is_shortage, keep_on
from .streams import serve_connection
from .tls import TlsServer, Turn
from .udp import drop_datagrams, serve_datagrams
from .wire import Network

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ..auth import Authenticator
    from ..clock import Clock
    from ..config import Settings, Tls
    from .couchbase import BucketServer
    from .etcd import Access
    from .filling import Filling
    from .heap import Heap
    from .listening import Endpoint
    from .notify import Notifier
    from .peering import Peering
    from .web import WebServer

TOO_MANY_CONNECTIONS: Final = b"ERROR Too many open connections\r\n"

_SAY_SHORTAGE_EVERY_S: Final = 10.0
#: How often a draining server looks whether the last client is done.
_DRAIN_LOOK_S: Final = 0.02

#: How often to try again where nobody reads the log.
_LOG_RETRY_S: Final = 0.1

#: How long a server that stops goes on while another one tells clients of its bucket to go there.
_BUCKET_HAND_OVER_S: Final = 0.5

_GREETINGS: Final = {
    "auto": "<%d new auto-negotiating client connection",
    "ascii": "<%d new ascii client connection.",
    "binary": "<%d new binary client connection.",
}


class Server:
    """One memcached, served by the trio program that calls `serve`."""

    def __init__(
        self,
        settings: Settings,
        *,
        clock: Clock | None = None,
        real_clock: Clock | None = None,
        log: Log | None = None,
        use_hub: bool = HUB_AVAILABLE,
        certificates: Certificates | None = None,
        secrets: PeerSecrets | None = None,
        etcd: Access | None = None,
        fill_login: bytes = b"",
        network: Network | None = None,
        heap: Heap | None = None,
        notifier: Notifier | None = None,
    ) -> None:
        """`clock` is the items'; `real_clock` what all else goes by, if that is another one.

        `heap`: of the thread that will serve, if nobody else uses it.
        """
        if settings.memory_accounting == "resident" and sys.implementation.name != "cpython":
            raise ConfigError(
                "memory_accounting=resident charges what items take in CPython, and this is"
                f" {sys.implementation.name}; leave it out",
                EXIT_USAGE,
            )
        clock = clock or SystemClock()
        self._clock = real_clock or clock  #: whatever `debugtime` does to that of the items
        if settings.debug_commands and not isinstance(clock, OffsetClock):
            clock = OffsetClock(clock)
        self.settings = settings
        self.log = log or Log(realtime=clock.realtime)
        #: What to do on SIGHUP; each keeps what it had if the new cannot be used.
        self.reload_hooks: list[Callable[[], None]] = []
        #: What to do when `readiness` may have changed. Called from within the core: nothing calls
        #: back.
        self.readiness_hooks: list[Callable[[], None]] = []
        maintaining = Chore(lambda: self.service.maintainer.step())
        logging = Chore(lambda: inf if self.log.flush() else _LOG_RETRY_S)
        self.log.on_kept = logging.rouse
        self.chores = [maintaining, logging]
        self._fill_login = fill_login
        self._notifier = notifier
        if notifier is not None:
            notifying = Chore(lambda: notifier.step(self.readiness()))
            self.readiness_hooks.append(notifying.wake)
            self.chores.append(notifying)
        self._rereading = 0  #: files that are being read again
        authenticator = self._authenticator()
        turn = Turn()
        self.tls: TlsServer | None = None
        self._certificates: Certificates | None = None
        if settings.needs_certificates:
            self._certificates = certificates or Certificates(settings)
            if settings.enable_ssl:
                self.tls = TlsServer(self._certificates, settings, clock, turn, self._say)
                self.chores.append(self.tls.chore)
            self.reload_hooks.append(self._reload_certificates)
        self.reception = Reception()
        host = Host(
            event_loop="python-" + ".".join(map(str, sys.version_info[:3])),
            pid=os.getpid(),
            cpu_s=lambda: resource.getrusage(resource.RUSAGE_SELF)[:2],
            log_line=self.log.line,
            shutdown=self.shutdown,
            call_later=self._call_later,
            do_aside=self._do_aside,
            wake_maintainer=maintaining.wake,
            authenticator=authenticator,
            tls=self.tls,
            reception=self.reception,
        )
        self.service = Service(settings, clock, host)
        self.service.cache.take_cas_unique()  # in memcached, too, nobody gets the first
        recovering = Chore(lambda: self._memory.recover())
        self.chores.append(recovering)
        self._memory = Memory(recovering.wake, address_space_left())
        self.service.cache.slabs.has_room = self._memory.has_room
        self._heap = heap
        if heap is not None:
            tidying = Chore(heap.step)
            heap.wake = tidying.wake
            self.chores.append(tidying)
        self._shortage_said_at = -inf
        self.hub: Hub | None = None
        if use_hub:
            self.hub = Hub(
                self.service,
                turn,
                on_close=self._gone,
                on_error=self._report,
                # A clock of the items alone may stand still; who waits for that would for ever.
                monotonic=(real_clock or SystemClock()).monotonic,
            )
        self.kickers: list[Kicker] = []
        if settings.idle_timeout_s:
            self.kickers.append(IdleKicker(self.service, settings.idle_timeout_s))
        if authenticator is not None and settings.login_timeout_s:
            self.kickers.append(LoginKicker(self.service, settings.login_timeout_s))
        self.chores += [kicker.chore for kicker in self.kickers]
        self._new_connection: Callable[..., Connection] = partial(Connection, self.service)
        #: The sockets of the group, if this is a member of one; while `serve` runs.
        self.peering: Peering | None = None
        self._network = network
        self._buckets: BucketServer | None = None
        self.web: WebServer | None = None
        if settings.http is not None:
            self.web = self._make_web()
        self._filling: Filling | None = None
        self._listening: list[Endpoint] = []  #: clients are let in there
        self._datagrams: list[Endpoint] = []  #: requests arrive there
        if secrets is None and settings.replication_secret_file is not None:
            secrets = PeerSecrets(settings.replication_secret_file, self.log.warning)
        self._secrets = secrets
        if secrets is not None:
            self.reload_hooks.append(self._reload_secrets)
        if etcd is None and settings.replicated and settings.etcd is not None:
            from .etcd import Access  # which needs h11

            etcd = Access(settings.etcd)
        self._etcd = etcd
        if etcd is not None:
            self.reload_hooks.append(self._reload_etcd)
        #: `-c`, or less where the system has not that many descriptors.
        self.connections_max = settings.conn_limit
        #: Clients may come in.
        self.ready = trio.Event()
        self._is_open = False  #: the ports listen
        self._refusal: ConfigError | None = None  #: why they cannot
        self._clients: trio.Nursery | None = None
        self._streams = 0  #: clients that the hub does not serve
        self._lane = trio.Lock()  #: of those among them who have much to do
        self._ids = itertools.count(1)
        #: Of what is done aside, one thing at a time: it must not take every processor.
        self._aside = trio.CapacityLimiter(1)
        self._room = trio.lowlevel.ParkingLot()
        self._stopping = trio.Event()
        self._at_once = trio.Event()
        self._disabled_at: float | None = None
        #: What the last words on stderr are to be.
        self.graceful = False

    def _authenticator(self) -> Authenticator | None:
        """Return who knows the users, if the settings demand logins; may raise `ConfigError`."""
        if self.settings.enable_sasl:
            return sasl_authenticator(self.log.warning)
        if self.settings.auth_file is None:
            return None
        users = TextUsers(self.settings.auth_file, self.log.warning)
        self.reload_hooks.append(users.reload)
        return authenticator_for(users.read)

    def _reload_certificates(self) -> None:
        def done(problem: str | None) -> None:
            if problem:
                self.log.warning(f"Could not reload TLS certificates on SIGHUP: {problem}")

        assert self._certificates is not None
        self._reread(self.tls.refresh if self.tls else self._certificates.refresh, done)

    def _reload_secrets(self) -> None:
        assert self._secrets is not None
        self._secrets.reload()
        self._use_secrets()

    def _use_secrets(self) -> None:
        """Have links that come be opened with them; those that there are stay."""
        if self._secrets is not None and self.peering is not None:
            self.peering.node.membership.use_secrets(*self._secrets.secrets)

    def _reload_etcd(self) -> None:
        def done(problem: str | None) -> None:
            if problem:
                self.log.warning(f"{problem}; what is in use stays")

        assert self._etcd is not None
        self._reread(self._etcd.refresh, done)

    def _reread(self, work: Callable[[], Any], done: Callable[[Any], None]) -> None:
        """Have something done aside that is part of a reload."""

        def end(result: Any) -> None:
            self._rereading -= 1
            try:
                done(result)
            finally:
                self._end_reload()

        self._rereading += 1
        self._do_aside(work, end)

    def _call_later(self, delay_s: float, call: Callable[[], None]) -> None:
        async def wait_and_call() -> None:
            await trio.sleep(delay_s)
            self._try(call)

        assert self._clients is not None
        self._clients.start_soon(wait_and_call)

    def _do_aside(self, work: Callable[[], Any], done: Callable[[Any], None]) -> None:
        async def work_and_tell() -> None:
            result = None
            try:
                result = await trio.to_thread.run_sync(work, limiter=self._aside)
            except Exception as error:
                self._mishap(error)
            self._try(partial(done, result))

        if self._clients is None:
            done(work())  # nobody is served yet
        else:
            self._clients.start_soon(work_and_tell)

    def _try(self, call: Callable[[], None]) -> None:
        """Call what a task of its own was made for; it must not end all others."""
        try:
            call()
        except Exception as error:
            self._mishap(error)

    # -- the life of a server ------------------------------------------------------------------

    async def serve(
        self, endpoints: Sequence[Endpoint], *, started: Callable[[], None] = lambda: None
    ) -> None:
        """Serve clients of `endpoints` until stopped, then close everything.

        `started` is called when a client would be answered, or, of a server that replicates, when
        its peers would be. Raises `ConfigError` when a port that was bound cannot be used.
        """
        for_peers = [each for each in endpoints if each.transport == "replication"]
        for_questions = [each for each in endpoints if each.transport == "http"]
        others = [each for each in endpoints if each.transport not in ("replication", "http")]
        try:
            async with trio.open_nursery() as nursery:
                self._clients = nursery
                if self.settings.replicated:
                    peering = self._join_group(for_peers)
                    nursery.start_soon(peering.run, for_peers)
                else:
                    self._begin_filling()
                    self.ready.set()
                if self.hub is not None:
                    end_turn = None if self.peering is None else self.peering.end_turn
                    nursery.start_soon(keep_on, partial(self.hub.run, end_turn), self._mishap)
                run = partial(run_chores, self.chores, self._mishap)
                nursery.start_soon(keep_on, run, self._mishap)
                for endpoint in for_questions:
                    assert self.web is not None
                    listen = partial(self.web.listen, endpoint)
                    nursery.start_soon(keep_on, listen, self._mishap)
                self._started_at = self._clock.monotonic()
                async with trio.open_nursery() as accepting:
                    for endpoint in for_peers:
                        self._announce(endpoint)
                        self._say(f"replication: peers are awaited at {endpoint.address}")
                    asked_at = next((at for at in others if at.transport == "couchbase"), None)
                    if asked_at is not None:
                        self._buckets = self._make_bucket(asked_at, others)
                        accepting.start_soon(self._buckets.looking.run, self._mishap)
                    if self.settings.replicated:
                        accepting.start_soon(self._open_when_ready, others, accepting)
                    else:
                        self._open(others, accepting)
                    if self.settings.fill_source() is not None:
                        accepting.start_soon(self._fill)
                    started()
                    await self._stopping.wait()
                    await self._be_avoided()
                    accepting.cancel_scope.cancel()
                self.reception.listening.clear()
                close_all([each for each in others if each.transport != "couchbase"])
                if self._buckets is not None:
                    await self._hand_over_bucket()
                await self._drain()
                nursery.cancel_scope.cancel()
        finally:
            close_all(endpoints)
            if self.peering is not None:
                self.peering.close_all()
            if self.hub is not None:
                self.hub.close_all()
        if self._refusal is not None:
            raise self._refusal

    def stop(self) -> None:
        """Begin to stop; called again, stop at once. `serve` then returns."""
        if self._stopping.is_set():
            self._at_once.set()
        self._stopping.set()
        if self.peering is not None:
            self.peering.node.draining = True
        self._readiness_changes()

    def readiness(self) -> Readiness:
        """Return whether clients may come, and why."""
        node = None if self.peering is None else self.peering.node
        found = readiness_of(node, draining=self._stopping.is_set())
        if found.ready and not self._is_open:
            return Readiness(False, State.STARTING, "the port is about to open")
        if self._filling is not None and self._filling.shortfall:
            return found._replace(reason=f"{found.reason}; {self._filling.shortfall}")
        return found

    def reload(self) -> None:
        """Read again what may be read again while serving (SIGHUP)."""
        if self._notifier is not None:
            self._notifier.reloading()
        self.log.reopen()
        for hook in self.reload_hooks:
            try:
                hook()
            except Exception as error:
                self._mishap(error)
        self._end_reload()

    def _end_reload(self) -> None:
        """Tell that all has been read again, if it has."""
        if self._notifier is not None and not self._rereading:
            self._notifier.reloaded()

    def shutdown(self, graceful: bool) -> None:
        self.graceful = self.graceful or graceful
        self.stop()

    async def _be_avoided(self) -> None:
        """Go on for a while: whoever sends clients here is to learn first that he should not."""
        if self._is_open and self._refusal is None:
            with trio.move_on_after(self.settings.drain_s):
                await self._at_once.wait()

    async def _drain(self) -> None:
        """Close whoever has nothing under way, until all are gone or time is up.

        Then wait, for what time is left, until the peers have what changed here.
        """
        # What lies in the sockets' buffers was sent before the end: take it in first. One round
        # of the event loop finds that out, the next lets the drivers read.
        for _ in range(2):
            await trio.lowlevel.checkpoint()
        with trio.move_on_after(self.settings.shutdown_timeout_s):
            while not self._at_once.is_set():
                for connection in list(self.service.connections.values()):
                    if not has_work(connection):
                        connection.close()
                        if not connection.waiting:
                            connection.wake()
                if not self.service.connections and (self.peering is None or self.peering.leave()):
                    return
                with trio.move_on_after(_DRAIN_LOOK_S):
                    await self._at_once.wait()

    # -- the group -----------------------------------------------------------------------------

    def _join_group(self, endpoints: Sequence[Endpoint]) -> Peering:
        """Become a member of the group that the settings name."""
        from ..replication import node  # which most servers need not load
        from .peering import Peering

        settings = self.settings
        port = endpoints[0].sock.getsockname()[1] if endpoints else settings.replication_port
        courier = None
        if self._etcd is not None:
            from .etcd import EtcdCourier  # which needs h11

            courier = EtcdCourier(self._etcd, deliver=self._deliver, on_error=self._mishap)
        # Leases and versions keep to real time, whatever `debugtime` does to that of items.

        def node_for(wake: Callable[[], None]) -> node.Node:
            host = node.Host(
                wake=wake,
                ready=self._get_ready,
                drop_stale=self._drop_stale,
                view_changed=self._look_at_view,
                log=self.log.warning,
                suspended_s=suspended_s,
                etcd=courier,
            )
            return node.Node(
                self.service.cache,
                settings,
                self._clock,
                host,
                node_id=settings.node_id or f"{socket.gethostname()}:{port}",
                secret=None,
                entropy=os.urandom,
                execute=Executor(self.service),
            )

        self._new_connection = partial(PairedConnection, self.service)
        context = None
        if settings.replication_tls:
            assert self._certificates is not None
            context = self._certificates.context
        witness = () if settings.witness is None or courier is not None else (settings.witness,)
        self.peering = Peering(
            node_for,
            (*settings.peers, *witness),
            hub=self.hub,
            log=self.log.warning,
            on_error=self._mishap,
            context=context,
            network=self._network or Network(),
            also=() if courier is None else (courier.run,),
        )
        self.service.gate = self.peering.node.gate
        self._use_secrets()
        return self.peering

    def _deliver(self, tell: Callable[[], None]) -> None:
        """Have the node learn what an etcd answers."""
        if self.peering is not None:
            self.peering.deliver(tell)

    def _look_at_view(self) -> None:
        if self._buckets is not None:
            self._buckets.look()
        self._readiness_changes()

    def _readiness_changes(self) -> None:
        for hook in self.readiness_hooks:
            hook()

    def _drop_stale(self) -> None:
        """Close whoever has sent anything, also who came while nobody was there to let him in.

        Where the stream driver serves clients, their unread requests cannot be told from new ones.
        """
        for endpoint in self._listening:
            acceptor = self.acceptor(endpoint)
            before = -1
            while before < len(self.service.connections) and not self._is_full():
                before = len(self.service.connections)
                acceptor.accept_some()
        for endpoint in self._datagrams:
            drop_datagrams(endpoint.sock)
        if self.hub is not None:
            self.hub.drop_unheard()

    def _get_ready(self) -> None:
        """Let clients in."""
        assert self.peering is not None
        why = "alone" if self.peering.node.role == ALONE else "in sync"
        waited_s = self._clock.monotonic() - self._started_at
        self.log.warning(
            f"replication: clients are let in, {why}, {waited_s:.1f} s after the start"
        )
        self._begin_filling()
        self.ready.set()

    async def _open_when_ready(self, endpoints: list[Endpoint], accepting: trio.Nursery) -> None:
        """Open the ports when clients may come in, and have the peers say so."""
        await self.ready.wait()
        try:
            for endpoint in endpoints:
                endpoint.listen(self.settings)
        except ConfigError as error:
            self._refusal = error
            self.log.warning(error.message)
            self.stop()
            return
        self._open(endpoints, accepting)
        self._readiness_changes()
        if self._buckets is not None and self.peering is not None:
            self.peering.node.announce_welcome(True)
            self.peering.send_turn()

    def _send_turn(self) -> None:
        """Send the peers what has changed. After commands that the hub did not run."""
        if self.peering is not None:
            self.peering.send_turn()

    def _serve_others(self) -> bool:
        """Serve clients who have asked, in the midst of something longer; return whether any had.

        Not from within a command.
        """
        if self.hub is None or not self.hub.serve_ready(1):
            return False
        self._send_turn()
        return True

    # -- the pages -----------------------------------------------------------------------------

    def _make_web(self) -> WebServer:
        """Return what answers by HTTP how this server does."""
        from .web import WebServer  # which needs h11

        web = WebServer(
            self.service,
            self.readiness,
            clock=self._clock,
            memory=self._memory,
            on_error=self._mishap,
        )
        self.chores.append(web.lag.looking)
        return web

    # -- what another server has ---------------------------------------------------------------

    def _begin_filling(self) -> None:
        """Get ready to take over what another server has, before the first client comes."""
        source = self.settings.fill_source()
        if source is None:
            return
        from .filling import Filling  # which most servers need not load

        context = None
        if self.settings.fills_by_tls:
            assert self._certificates is not None
            context = partial(self._certificates.context, "fills")
        self._filling = Filling(
            self.service,
            source,
            login=self._fill_login,
            context=context,
            say=self.log.warning,
            send_turn=self._send_turn,
            serve_others=self._serve_others,
        )
        self.service.filling = self._filling

    async def _fill(self) -> None:
        await self.ready.wait()
        assert self._filling is not None
        try:
            await self._filling.run()
        except Exception as error:
            self._mishap(error)

    # -- the bucket ----------------------------------------------------------------------------

    def _make_bucket(self, asked_at: Endpoint, endpoints: list[Endpoint]) -> BucketServer:
        """Return what serves clients of Couchbase."""
        from . import couchbase  # which most servers need not load

        port = next(
            endpoint.sock.getsockname()[1]
            for endpoint in endpoints
            if endpoint.transport == "tcp" and not endpoint.tls and endpoint.protocol != "ascii"
        )
        http_port = asked_at.sock.getsockname()[1]
        node = None if self.peering is None else self.peering.node
        authenticator = self.service.host.authenticator
        begin_check = None if authenticator is None else authenticator.begin_check
        buckets = couchbase.new_bucket_server(
            self.settings,
            port,
            http_port,
            node,
            begin_check=begin_check,
            aside=self._aside,
            on_error=self._mishap,
        )
        self._say(f"couchbase: clients are told to use {buckets.here.server}")
        return buckets

    async def _hand_over_bucket(self) -> None:
        """Give clients who use this node a moment to learn from the other that they should not."""
        if self.peering is None or self.peering.node.role != COORDINATOR:
            return
        self.peering.node.announce_welcome(False)
        self.peering.send_turn()
        with trio.move_on_after(_BUCKET_HAND_OVER_S):
            await self._at_once.wait()

    # -- clients -------------------------------------------------------------------------------

    def _open(self, endpoints: list[Endpoint], accepting: trio.Nursery) -> None:
        """Let clients in at ports that listen."""
        self._is_open = True
        for endpoint in endpoints:
            if endpoint.transport != "couchbase":
                self._announce(endpoint)
            accepting.start_soon(keep_on, partial(self._listen, endpoint), self._mishap)

    async def _listen(self, endpoint: Endpoint) -> None:
        """Serve one endpoint until cancelled."""
        if endpoint.transport == "udp":
            if endpoint not in self._datagrams:
                self._datagrams.append(endpoint)
            await serve_datagrams(
                self.service,
                endpoint,
                self._mishap,
                connect=self._new_connection,
                send_turn=self._send_turn,
                left=self._left,
            )
        elif endpoint.transport == "couchbase":
            assert self._buckets is not None
            await self._buckets.listen(endpoint)
        else:
            if endpoint not in self._listening:
                self._listening.append(endpoint)
            await self.acceptor(endpoint).run()

    def acceptor(self, endpoint: Endpoint) -> Acceptor:
        """Return what accepts clients there."""
        return Acceptor(
            endpoint,
            partial(self._welcome, endpoint),
            self._mishap,
            hub=self.hub,
            is_full=self._keeps_waiting,
            wait_for_room=self._wait_for_room,
        )

    def _is_full(self) -> bool:
        return len(self.service.connections) >= self.connections_max

    def _keeps_waiting(self) -> bool:
        """Whether those who come must wait, as there are too many and none is turned away."""
        return not self.settings.maxconns_fast and self._is_full()

    async def _wait_for_room(self) -> None:
        """Leave new clients in the backlog until one of ours is gone."""
        # memcached: accept_new_conns
        now = self.service.clock.monotonic
        reception = self.reception
        if not self._keeps_waiting():
            self._say("Too many open connections")  # for the system
        if self._disabled_at is None:
            self._disabled_at = now()
            self.service.counters.listen_disabled += 1
            reception.accepting = False
        try:
            await self._room.park()
        finally:
            if self._disabled_at is not None and not len(self._room):
                disabled_us = int((now() - self._disabled_at) * 1_000_000)
                self.service.counters.listen_disabled_us += disabled_us
                reception.accepting = True
                self._disabled_at = None

    def _welcome(self, endpoint: Endpoint, sock: socket.socket, address: object) -> None:
        """Serve a new client, or turn it away."""
        if self._is_full():
            self.service.counters.rejected_connections += 1
            try:
                sock.send(TOO_MANY_CONNECTIONS)
            except OSError:
                pass
            sock.close()
            return
        number = sock.fileno()
        if number in self.service.connections:
            # Of a stream that is ending: it has given up its descriptor, but is not forgotten yet.
            number = -next(self._ids)
        connection = self._new_connection(
            connection_id=number,
            address=describe(address, sock.family, endpoint.transport),
            listen_address=endpoint.address,
            transport=endpoint.transport,
            protocol=endpoint.protocol,
        )
        self._admit(connection, endpoint.protocol)
        if self.hub is not None:
            tls = None
            if endpoint.tls is not None:
                assert self.tls is not None
                tls = self.tls.session(endpoint.tls, connection)
            self.hub.adopt(sock, connection, tls)
        else:
            stream = trio.SocketStream(trio.socket.from_stdlib_socket(sock))
            assert self._clients is not None
            self._clients.start_soon(self._serve_stream, stream, connection, endpoint.tls)

    def _admit(self, connection: Connection, protocol: str) -> None:
        self.service.connected(connection)
        for kicker in self.kickers:
            kicker.chore.rouse()
        if self.service.verbosity > 1:
            self.log.line(_GREETINGS[protocol] % connection.id)

    async def serve_stream(
        self, stream: trio.abc.Stream, *, address: str = "", tls: Tls | None = None
    ) -> None:
        """Serve one client over a stream of any kind, until it has gone."""
        # Below all descriptors, so that numbers stay apart.
        connection = self._new_connection(connection_id=-next(self._ids), address=address)
        self._admit(connection, self.settings.protocol)
        await self._serve_stream(stream, connection, tls)

    async def _serve_stream(
        self, stream: trio.abc.Stream, connection: Connection, tls: Tls | None = None
    ) -> None:
        self._set_streams(self._streams + 1)
        try:
            if tls is not None:
                assert self.tls is not None
                secured = await self.tls.open_stream(tls, stream, connection)
                if secured is None:
                    connection.close_reason = "error"
                    return
                stream = secured
            await serve_connection(stream, connection, self._send_turn, self._lane)
        except Exception as error:
            connection.close_reason = "error"
            self._report(connection, error)
        finally:
            self._set_streams(self._streams - 1)
            self._gone(connection)

    def _set_streams(self, number: int) -> None:
        self._streams = number
        if self.hub is not None:
            # While the hub lingers, nobody else's client is served.
            self.hub.linger_s = 0.0 if number else LINGER_S

    def _left(self) -> None:
        """Take note that a client is gone, and what was taken for it is free."""
        if self._heap is not None:
            self._heap.left()

    def _gone(self, connection: Connection) -> None:
        self.service.disconnected(connection)
        self._room.unpark_all()
        self._left()
        if connection.last_words:
            self._say(connection.last_words)
        if self.service.verbosity > 1:
            if connection.watching:
                self.log.line(f"<{connection.id} connection closing from side thread.")
            self.log.line(f"<{connection.id} connection closed.")

    # -- what goes wrong, and what is said -----------------------------------------------------

    def _say(self, line: str) -> None:
        """Say what `-v` asks for."""
        if self.service.verbosity > 0:
            self.log.line(line)

    def _report(self, connection: Connection, error: Exception) -> None:
        self._complain(f"{connection.id}: closed because of a fault in this server", error)

    def _mishap(self, error: Exception) -> None:
        self._complain("a fault in this server, which goes on", error)

    def _complain(self, what: str, error: Exception) -> None:
        if not is_shortage(error):
            self.log.failure(what, error)
            return
        self._memory.meet_shortage()
        now = self._clock.monotonic()
        if now >= self._shortage_said_at + _SAY_SHORTAGE_EVERY_S:
            self._shortage_said_at = now
            try:
                self.log.warning("out of memory: clients are closed, the server goes on")
            except MemoryError:
                pass

    def _announce(self, endpoint: Endpoint) -> None:
        self.reception.listening[endpoint.sock.fileno()] = endpoint.address
        if self.service.verbosity > 1:
            name: str = endpoint.transport
            if name in ("tcp", "local"):
                name = PROTOCOL_NAMES[endpoint.protocol]
            self.log.line(f"<{endpoint.sock.fileno()} server listening ({name})")


def has_work(connection: Connection) -> bool:
    """Return whether commands that have arrived, or their replies, are still under way.

    Not so where all that is left is to wait for other servers: who is closed then, is closed when
    they have answered and the client knows.
    """
    if connection.closing:
        return False
    if connection.awaited is not None or connection.swallow_bytes or connection.source is not None:
        return True
    if connection.pieces and not connection.waiting:
        return True
    if connection.runner is run_binary:
        return holds_request(connection)
    return connection.buffer.find(b"\n", connection.position) >= 0
