"""The process of a witness: its sockets, its file, its log.

The core (`replication.witness`) decides everything. It is asked a few times a year, so there is no
hub: each connection has a task.

The file is replaced as a whole, and is on the disk before anybody hears of a promise: so fsync(2)
blocks the event loop, and nobody minds. One process has it at a time: of two, each would have what
the other one promised for its own. The lock is on a file beside it, as that is never replaced.
"""

from __future__ import annotations

import errno
import fcntl
import os
import signal
import socket
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

import trio

from ..addresses import join_address
from ..clock import SystemClock
from ..exits import EXIT_FAILURE, ConfigError
from ..replication.roles import Data
from ..replication.witness import Memory, Witness
from . import daemon
from .accepting import Acceptor
from .certificates import Certificates
from .credentials import PeerSecrets
from .listening import close_all, open_internet_endpoints
from .log import Log
from .maintenance import Chore
from .memory import keep_on
from .wire import Network, Wire, WireTls
from .wiretasks import WireTasks

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Sequence

    from ..config import Settings
    from ..startup import Signals
    from .listening import Endpoint


def lock_memory(path: str) -> int:
    """Keep other witnesses from a file until the descriptor is closed. Raises `ConfigError`."""
    try:
        fd = os.open(f"{path}.lock", os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise _not_written(path, error) from None
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(fd)
        if not isinstance(error, BlockingIOError):
            raise _not_written(path, error) from None
        raise ConfigError(
            f"State file [{path}] is in use by another witness: give each its own"
        ) from None
    return fd


def _not_written(path: str | None, error: OSError) -> ConfigError:
    return ConfigError(f"Could not write state file [{path}]: {error.strerror}")


def read_memory(path: str, cluster_id: str) -> Memory | None:
    """Return what a witness left there; None: it was never there. Raises `ConfigError`."""
    try:
        with open(path, "rb") as file:
            memory = Memory.decode(file.read())
    except FileNotFoundError:
        return None
    except OSError as error:
        raise ConfigError(f"Could not read state file [{path}]: {error.strerror}") from None
    except ValueError as error:
        raise ConfigError(
            f"State file [{path}] is not what a witness writes ({error}). Without it the witness"
            " has no vote until the nodes take it in: remove it to begin so."
        ) from None
    if memory.cluster not in ("", cluster_id):
        raise ConfigError(
            f"State file [{path}] is of the witness of another cluster [{memory.cluster}]:"
            " give each its own"
        )
    return memory


def write_memory(path: str, memory: Memory) -> None:
    """Have it on the disk when this returns; raise OSError."""
    beside = f"{path}.new"
    fd = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        data = memory.encode()
        if os.write(fd, data) < len(data):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        os.fsync(fd)
    finally:
        os.close(fd)
    os.replace(beside, path)
    folder = os.open(os.path.dirname(path) or ".", os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


@dataclass(eq=False)
class Desk:
    """The sockets of one witness."""

    witness: Witness
    log: Callable[[str], None]
    on_error: Callable[[Exception], None]
    context: Callable[[str], ssl.SSLContext] | None = None
    _wires: set[Wire] = field(default_factory=set)
    _tasks: WireTasks | None = None

    async def run(self, endpoints: Sequence[Endpoint]) -> None:
        """Answer those who call until cancelled."""
        try:
            async with trio.open_nursery() as nursery:
                self._tasks = WireTasks(nursery, self._ready)
                chore = Chore(self._step)
                nursery.start_soon(keep_on, partial(chore.run, self.on_error), self.on_error)
                for endpoint in endpoints:
                    acceptor = Acceptor(endpoint, self._welcome, self.on_error)
                    nursery.start_soon(keep_on, acceptor.run, self.on_error)
        finally:
            for wire in list(self._wires):
                wire.close()

    def _step(self) -> float:
        delay_s = self.witness.step()
        self._send()
        return delay_s

    def _send(self) -> None:
        for wire in list(self._wires):
            wire.send()

    def _welcome(self, sock: socket.socket, address: tuple[Any, ...]) -> None:
        if not self.witness.may_accept():
            # Of the strangers the one that had most time to prove itself goes.
            oldest = min(
                (wire for wire in self._wires if not wire.link.proven),
                key=lambda wire: wire.link.opened_at,
            )
            oldest.close()
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        assert self._tasks is not None
        link = self.witness.open_link(join_address(*address[:2]))
        tls = None
        if self.context is not None:
            tls = WireTls(self.context("accepts"), server_side=True, data=Data.NOTHING)
        wire = Wire(
            sock,
            link,
            name=str(address[0]),
            tls=tls,
            network=Network(),
            on_blocked=self._tasks.watch_writable,
            on_closed=self._note_closed,
            complain=self.log,
        )
        self._wires.add(wire)
        self._tasks.watch(wire)
        wire.send()

    def _ready(self, wire: Wire) -> None:
        try:
            wire.ready()
        except Exception as error:
            self.on_error(error)
            wire.close()
        self._send()

    def _note_closed(self, wire: Wire) -> None:
        self._wires.discard(wire)
        assert self._tasks is not None
        self._tasks.unwatch(wire)


def run(settings: Settings, signals: Signals, state: str | None) -> int:
    """Be a witness until a signal ends that; return the exit code. Raises `ConfigError`."""
    clock = SystemClock()
    log = Log(path=settings.log_file, line_format=settings.log_format, realtime=clock.realtime)
    certificates = Certificates(settings) if settings.replication_tls else None
    secrets = None
    if settings.replication_secret_file is not None:
        secrets = PeerSecrets(settings.replication_secret_file, log.warning)
    endpoints = open_internet_endpoints(settings)
    lock = None
    try:
        daemon.drop_privileges(settings.user, log)
        memory = None
        if state is not None:
            state = os.path.abspath(state)
            lock = lock_memory(state)
            memory = read_memory(state, settings.cluster_id)
        known = memory is not None
        if memory is None:
            memory = Memory(os.urandom(16).hex(), cluster=settings.cluster_id)

        def say(line: str) -> None:
            log.warning(f"witness: {line}")

        def keep(memory: Memory) -> None:
            if state is not None:
                write_memory(state, memory)

        try:
            keep(memory)
        except OSError as error:
            raise _not_written(state, error) from None
        port = endpoints[0].sock.getsockname()[1]
        witness = Witness(
            clock,
            node_id=settings.node_id or f"witness@{socket.gethostname()}:{port}",
            cluster_id=settings.cluster_id,
            secret=None,
            memory=memory,
            keep=keep,
            log=say,
            entropy=os.urandom,
        )
        if secrets is not None:
            witness.use_secrets(*secrets.secrets)
        for endpoint in endpoints:
            address = endpoint.address.partition(":")[2]
            say(f"nodes of {settings.cluster_id} are awaited at {address}")
        say(witness.standing if known else "it has no vote until the nodes have taken it in")
        if settings.pidfile is not None:
            daemon.write_pid_file(settings.pidfile, log)
        desk = Desk(
            witness,
            log=say,
            on_error=partial(log.failure, "witness: internal error"),
            context=None if certificates is None else certificates.context,
        )
        signals.keep()

        def reload() -> None:
            if secrets is not None:
                secrets.reload()
                witness.use_secrets(*secrets.secrets)
            if certificates is not None and (wrong := certificates.refresh()):
                say(wrong)

        trio.run(_until_signal, desk, endpoints, signals, reload)
        return 0
    except OSError as error:
        raise ConfigError(f"witness: {error}", EXIT_FAILURE) from None
    finally:
        close_all(endpoints)
        if lock is not None:
            os.close(lock)
        if settings.pidfile is not None:
            daemon.remove_pid_file(settings.pidfile)
        log.close()


async def _until_signal(
    desk: Desk,
    endpoints: Sequence[Endpoint],
    signals: Signals,
    reload: Callable[[], None],
) -> None:
    token = trio.lowlevel.current_trio_token()
    with trio.CancelScope() as life:

        def obey() -> None:
            for number in signals.take():
                if number == signal.SIGHUP:
                    reload()
                else:
                    life.cancel()

        def tell() -> None:
            try:
                token.run_sync_soon(obey)
            except trio.RunFinishedError:
                pass  # it ends already

        signals.attach(tell)
        await desk.run(endpoints)
