"""A process that is one server: in which order it starts, which signals it obeys, how it ends.

`run` takes what `daemon` can do and what `listening` opens in memcached's order: whatever needs
root first, whatever belongs to the user last. Then the event loop runs the `Server`. TERM and INT
stop it, and once more at once; USR1 likewise, with other last words; HUP reloads. All of them are
heard before anything is opened (see `startup`), and none is lost until the last file is gone.
A file with the ports or the pid says that the server answers.
"""

from __future__ import annotations

import codecs
import os
import signal
from importlib import import_module
from typing import TYPE_CHECKING, Final

import trio

from ..auth import preload
from ..clock import SystemClock
from ..exits import EXIT_USAGE, ConfigError
from ..sources import read_login
from . import daemon
from .certificates import Certificates
from .credentials import PeerSecrets
from .heap import Heap, glibc
from .introduction import introduction
from .listening import close_all, open_internet_endpoints, open_unix_endpoint
from .log import Log
from .maintenance import Chore, freeze_survivors, tame_collector
from .serving import Server

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from types import ModuleType

    from ..config import Settings
    from ..startup import Signals
    from .listening import Endpoint
    from .notify import Notifier

PORT_FILE_VARIABLE: Final = "MEMCACHED_PORT_FILENAME"


def run(settings: Settings, signals: Signals) -> int:
    """Serve until stopped by a signal; return the exit code. Raises `ConfigError`.

    `signals` are heard already.

    With `-d` this returns, or raises, in the child; the process that called it has exited.
    """
    clock = SystemClock()
    log = Log(path=settings.log_file, line_format=settings.log_format, realtime=clock.realtime)
    # memcached's order: whatever needs root first, whatever belongs to the user last.
    certificates = None
    if settings.needs_certificates:
        certificates = Certificates(settings)
    secrets = None
    if settings.replicated and settings.replication_secret_file is not None:
        secrets = PeerSecrets(settings.replication_secret_file, log.warning)
    fill_login = b""
    if settings.fill_from is not None and settings.fill_from_login_file is not None:
        fill_login, _ = read_login(settings.fill_from_login_file)
    if settings.ssl_kernel_tls:
        log.warning("warning: ssl_kernel_tls has no effect here.  proceeding without.")
    if settings.enable_coredumps:
        daemon.allow_core_dumps()
    others = 0
    if settings.couchbase is not None:
        others += int(_import_with_h11(".couchbase", "--couchbase", "couchbase").CLIENTS_MAX)
    if settings.http is not None:
        others += int(_import_with_h11(".web", "--http", "http").CLIENTS_MAX)
    etcd = None
    if settings.replicated and settings.etcd is not None:
        etcd = _import_with_h11(".etcd", "--witness etcd://", "etcd").Access(settings.etcd)
        others += etcd.connections_max
    daemon.raise_descriptor_limit(settings.conn_limit, others)
    handed_over = _handed_over(settings, log)
    endpoints = open_internet_endpoints(settings, handed_over)
    if settings.enable_sasl or settings.auth_file is not None:
        preload()
    if settings.replicated:
        # Whoever takes over from root may not be able to read our modules.
        import_module(".peering", __package__)
        import_module("..replication.node", __package__)
    if settings.fill_from is not None:
        import_module(".filling", __package__)
    if settings.replicated or settings.fill_from is not None:
        codecs.lookup("idna")  # which looking up another server's address asks for
    library = glibc()
    heap = None if library is None else Heap(library)
    notifier = _notifier(settings, log)
    daemon.drop_privileges(settings.user, log)
    if settings.lock_memory:
        log.warning(
            "warning: -k invalid, mlockall() not supported on this platform.  proceeding without."
        )
    # A daemon changes its directory.
    unix_socket = None if handed_over else settings.unix_socket
    pid_file, port_file = settings.pidfile, None
    if unix_socket is None:
        port_file = os.environ.get(PORT_FILE_VARIABLE)
    announce: Callable[[int], None] | None = None
    if settings.daemon:
        unix_socket, pid_file, port_file = (
            None if path is None else os.path.abspath(path)
            for path in (unix_socket, pid_file, port_file)
        )
        announce = daemon.detach(
            keep_directory=settings.enable_coredumps,
            keep_output=settings.verbose > 0 and settings.log_file is None,
        )
    try:
        server = Server(
            settings,
            clock=clock,
            log=log,
            certificates=certificates,
            secrets=secrets,
            etcd=etcd,
            fill_login=fill_login,
            heap=heap,
            notifier=notifier,
        )
        if settings.replicated:
            server.connections_max = daemon.connections_beside_links(settings.conn_limit, others)
        # From here on there are files of ours.
        signals.keep()
        if unix_socket is not None:
            endpoints.append(open_unix_endpoint(settings, unix_socket))
    except ConfigError as error:
        if announce is not None:
            log.warning(error.message)
            log.close()
            announce(error.exit_code)
            os._exit(error.exit_code)
        raise

    def started() -> None:
        if port_file:
            daemon.write_port_file(port_file, endpoints, log)
        if pid_file is not None:
            daemon.write_pid_file(pid_file, log)
        if settings.verbose or settings.http is not None or log.is_terminal:
            log.line(introduction(settings, endpoints, server.readiness()))
        if announce is not None:
            announce(0)
            log.follow_stderr()

    if settings.verbose > 1:
        for slab_class in server.service.cache.slabs.classes:
            log.line(
                f"slab class {slab_class.id:3d}: chunk size {slab_class.chunk_size_bytes:9d}"
                f" perslab {slab_class.chunks_per_page:7d}"
            )
    server.chores.append(Chore(freeze_survivors))
    tame_collector()
    refusal = None
    try:
        refusal = trio.run(_serve_until_signal, server, endpoints, started, signals)
        if refusal is None and server.graceful:
            log.warning("Gracefully stopping")
        elif refusal is None and server.service.verbosity:
            log.line("Exiting normally")
    finally:
        close_all(endpoints)  # if it came not even to serving
        if pid_file is not None:
            daemon.remove_pid_file(pid_file)
        if notifier is not None:
            notifier.close()
        log.close()
    return 0 if refusal is None else refusal.exit_code


def _handed_over(settings: Settings, log: Log) -> Sequence[Endpoint]:
    """Return what a service manager has opened for clients; mostly nothing."""
    if not os.environ.get(daemon.LISTEN_VARIABLE):
        return ()
    from .activation import adopt, handed_over  # which hardly anybody needs

    descriptors = handed_over(os.environ)
    return adopt(settings, descriptors, log.warning) if descriptors else ()


def _notifier(settings: Settings, log: Log) -> Notifier | None:
    """Return who tells a service manager how the server is, if one wants to know."""
    if not os.environ.get(daemon.NOTIFY_VARIABLE):
        return None
    from .notify import Notifier  # likewise

    if settings.daemon:
        log.warning(
            f"warning: {daemon.NOTIFY_VARIABLE} is set: who started this process waits for it in"
            " the foreground.  leave out -d."
        )
    return Notifier.from_environment(os.environ, log.warning)


def _import_with_h11(name: str, option: str, extra: str) -> ModuleType:
    """Load a module of ours that needs h11, while we can."""
    try:
        return import_module(name, __package__)
    except ModuleNotFoundError as error:
        if error.name != "h11":
            raise
        raise ConfigError(
            f"ERROR: {option} needs h11: install it, or pymcd with its extra (pymcd[{extra}]).",
            EXIT_USAGE,
        ) from None


async def _serve_until_signal(
    server: Server,
    endpoints: Sequence[Endpoint],
    started: Callable[[], None],
    signals: Signals,
) -> ConfigError | None:
    """Return why the server could not go on, which it has said; None: it was to end."""
    # Python itself ignores SIGPIPE.
    token = trio.lowlevel.current_trio_token()

    def obey() -> None:
        numbers = signals.take()
        if signal.SIGHUP in numbers:  # however often
            server.reload()
        for number in numbers:
            if number != signal.SIGHUP:
                server.shutdown(number == signal.SIGUSR1)

    def tell() -> None:
        try:
            token.run_sync_soon(obey)
        except trio.RunFinishedError:
            pass  # it ends already

    signals.attach(tell)
    try:
        await server.serve(endpoints, started=started)
    except ConfigError as error:
        return error
    return None
