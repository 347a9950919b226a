"""Sockets that listen: TCP, UDP and Unix, opened before anything is served.

Owns addresses, socket options and the words for what cannot be bound. Plain synchronous calls:
ports below 1024 need root, so all this happens before privileges drop and before the event loop
(a Unix socket after the drop, so that it belongs to the new user).

A server that replicates takes the ports of its clients at the start, and listens there only when it
is in sync (`Endpoint.listen`): until then the system refuses connections. It listens for its peers,
and for who asks how it does, at once. Of two such servers the system would let both take the same
port, as neither listens; so each first tries to, for a moment.

Where memcached, asked for all interfaces, finds the port taken in one address family, it serves
the other and says nothing. Here that is an error: half a server is what nobody wants. A family
which the machine does not have is passed over, as there.
"""

from __future__ import annotations

import errno
import os
import socket
import stat
import struct
import threading
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple

from ..addresses import join_address
from ..config import ANY_PORT, Listener, Protocol, Settings, Tls
from ..exits import EXIT_OS_ERROR, ConfigError

if TYPE_CHECKING:
    from collections.abc import Sequence

Transport = Literal["tcp", "udp", "local", "replication", "couchbase", "http"]

#: Linux takes no more for a backlog than this, and fails for a negative one elsewhere.
_BACKLOG_MAX: Final = 65535
#: memcached asks for a send buffer up to this size for UDP, and takes what it gets.
UDP_SEND_BUFFER_BYTES: Final = 256 << 20
#: How often who waits for a server of names looks whether a signal has come.
_LOOK_S: Final = 0.1
_NO_LINGER: Final = struct.pack("ii", 0, 0)
#: More do not fit into the buffer of a socket.
_FORGOTTEN_DATAGRAMS_MAX: Final = 100_000
#: What a machine without IPv6 (or without IPv4) answers.
_NO_SUCH_FAMILY: Final = (errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL, errno.EPROTONOSUPPORT)


class Endpoint(NamedTuple):
    """One listening socket, bound and non-blocking."""

    sock: socket.socket
    transport: Transport
    address: str  #: as `stats conns` shows it
    protocol: Protocol
    tls: Tls | None = None
    path: str | None = None  #: of a Unix socket
    inode: int = 0  #: of its file, which another server may since have replaced

    def listen(self, settings: Settings) -> None:
        """Have the system accept connections, if it does not yet; raise `ConfigError`."""
        if self.transport == "udp":
            self._forget_datagrams()
            return
        try:
            self.sock.listen(_backlog(settings))
        except OSError as error:
            raise ConfigError(
                f"failed to listen on {self.address}: {error.strerror}", EXIT_OS_ERROR
            ) from None

    def reopen(self, settings: Settings) -> Endpoint:
        """Close, and return one for the same address where nobody listens.

        So the system refuses who comes. To shut a listening socket down does so on Linux alone.
        """
        family, address = self.sock.family, self.sock.getsockname()
        self.close()
        if self.path is None:
            sock = _bind(settings, family, socket.SOCK_STREAM, 0, address, listens=False)
            return self._replace(sock=sock)
        sock = socket.socket(family, socket.SOCK_STREAM)
        sock.setblocking(False)
        sock.bind(self.path)
        return self._replace(sock=sock, inode=os.lstat(self.path).st_ino)

    def _forget_datagrams(self) -> None:
        """Throw away what came before anybody would have answered it."""
        for _ in range(_FORGOTTEN_DATAGRAMS_MAX):
            try:
                self.sock.recv(1)
            except OSError:
                return

    def close(self) -> None:
        """Close the socket, and remove its file if that is still ours. Once."""
        if self.sock.fileno() < 0:
            return
        self.sock.close()
        if self.path is not None:
            try:
                if os.lstat(self.path).st_ino == self.inode:
                    os.unlink(self.path)
            except OSError:
                pass


def open_internet_endpoints(
    settings: Settings, handed_over: Sequence[Endpoint] = ()
) -> list[Endpoint]:
    """Listen on TCP and UDP as the settings say; raise `ConfigError` when one cannot be had.

    The ports for clients come first. Those of a server that replicates do not listen yet. What
    was `handed_over` takes their place.
    """
    endpoints = list(handed_over)
    opens = not handed_over and settings.unix_socket is None
    try:
        if settings.port and opens:
            for listener in settings.listeners(settings.port):
                endpoints += _open(settings, listener, "tcp")
        if settings.udp_port and opens:
            for listener in settings.listeners(settings.udp_port):
                endpoints += _open(settings, listener, "udp")
        if settings.replicated:
            for host, port in settings.replication_listeners():
                listener = Listener(host, port, None, settings.protocol)
                endpoints += _open(settings, listener, "replication")
        bucket = settings.couchbase_listener()
        if bucket is not None:
            listener = Listener(bucket.host, bucket.port, None, settings.protocol)
            endpoints += _open(settings, listener, "couchbase")
        pages = settings.http_listener()
        if pages is not None:
            listener = Listener(pages.host, pages.port, None, settings.protocol)
            endpoints += _open(settings, listener, "http")
    except BaseException:
        close_all(endpoints)
        raise
    return endpoints


def close_all(endpoints: Sequence[Endpoint]) -> None:
    """Close every one of them."""
    for endpoint in endpoints:
        endpoint.close()


def _open(settings: Settings, listener: Listener, transport: Transport) -> list[Endpoint]:
    """Open one socket for each address that the listener's host has."""
    endpoints: list[Endpoint] = []
    kind = socket.SOCK_DGRAM if transport == "udp" else socket.SOCK_STREAM
    port = 0 if listener.port == ANY_PORT else listener.port
    listens_later = settings.replicated and transport in ("tcp", "couchbase")
    # As bytes: for a str the host would pass through the IDNA codec, slow to import.
    host = None if listener.host is None else os.fsencode(listener.host)
    skipped: OSError | None = None
    try:
        for family, _, number, _, address in _look_up(host, port, kind):
            try:
                if listens_later and port:
                    _bind(settings, family, kind, number, address, listens=True).close()
                sock = _bind(settings, family, kind, number, address, listens=not listens_later)
            except OSError as error:
                if error.errno in _NO_SUCH_FAMILY and listener.host is None:
                    skipped = error
                    continue
                raise
            name = describe(sock.getsockname(), sock.family, transport)
            tls = listener.tls if transport == "tcp" else None
            endpoints.append(Endpoint(sock, transport, name, listener.protocol, tls))
        if not endpoints:
            raise skipped or OSError(errno.EADDRNOTAVAIL, os.strerror(errno.EADDRNOTAVAIL))
    except (OSError, UnicodeError) as error:
        close_all(endpoints)
        raise _refusal(settings, transport, listener, error) from None
    return endpoints


def _look_up(host: bytes | None, port: int, kind: int) -> list[Any]:
    """Return what `getaddrinfo` finds; signals are obeyed meanwhile."""
    look_up = partial(socket.getaddrinfo, host, port, type=kind)
    try:
        return look_up(flags=socket.AI_PASSIVE | socket.AI_NUMERICHOST)
    except OSError:
        pass  # a name, which may take as long as a server of names that does not answer
    found: list[Any] = []
    errors: list[Exception] = []

    def ask() -> None:
        try:
            found.extend(look_up(flags=socket.AI_PASSIVE))
        except Exception as error:
            errors.append(error)

    asking = threading.Thread(target=ask, daemon=True)
    asking.start()
    while asking.is_alive():
        asking.join(_LOOK_S)
    if errors:
        raise errors[0]
    return found


def _bind(
    settings: Settings,
    family: int,
    kind: int,
    number: int,
    address: tuple[object, ...],
    *,
    listens: bool,
) -> socket.socket:
    # memcached: server_socket
    sock = socket.socket(family, kind, number)
    try:
        sock.setblocking(False)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        tune(sock)
        sock.bind(address)
        if kind == socket.SOCK_STREAM and listens:
            sock.listen(_backlog(settings))
    except BaseException:
        sock.close()
        raise
    return sock


def tune(sock: socket.socket) -> None:
    """Set what memcached sets for the sockets of its clients, TCP or UDP."""
    if sock.type == socket.SOCK_STREAM:
        # The sockets that it accepts inherit these.
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGER)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return
    try:
        # The system cuts the wish down to what it allows.
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, UDP_SEND_BUFFER_BYTES)
    except OSError:
        pass  # some refuse instead of cutting; theirs is then large enough


def _backlog(settings: Settings) -> int:
    # A negative number means the most that the system allows, as in C.
    wanted = settings.listen_backlog
    return wanted if 0 <= wanted <= _BACKLOG_MAX else _BACKLOG_MAX


def _refusal(
    settings: Settings, transport: Transport, listener: Listener, error: Exception
) -> ConfigError:
    # memcached: main
    reason = getattr(error, "strerror", None) or "Name or service not known"
    if transport in ("replication", "couchbase", "http"):
        where = f"{transport} port {listener.port} of {listener.host or 'any interface'}"
    elif settings.inter is None:
        port = settings.port if transport == "tcp" else settings.udp_port
        where = f"{transport.upper()} port {port}"
    else:
        where = f"one of interface(s) {settings.inter}"
    return ConfigError(f"failed to listen on {where}: {reason}", EXIT_OS_ERROR)


def open_unix_endpoint(settings: Settings, path: str) -> Endpoint:
    """Listen at `path`, replacing a socket file left behind; raise `ConfigError`."""
    # memcached: server_socket_unix
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
        try:
            if stat.S_ISSOCK(os.lstat(path).st_mode):
                os.unlink(path)
        except FileNotFoundError:
            pass
        old_mask = os.umask(~settings.unix_mask & 0o777)
        try:
            sock.bind(path)
        finally:
            os.umask(old_mask)
        if not settings.replicated:
            sock.listen(_backlog(settings))
        inode = os.lstat(path).st_ino
    except OSError as error:
        sock.close()
        # A path which is too long has no error number.
        reason = error.strerror or str(error)
        raise ConfigError(
            f"failed to listen on UNIX socket: {path}: {reason}", EXIT_OS_ERROR
        ) from None
    address = describe(path, socket.AF_UNIX, "local")
    return Endpoint(sock, "local", address, settings.protocol, path=path, inode=inode)


def describe(address: object, family: int, transport: Transport) -> str:
    """Return a socket's address as `stats conns` shows it."""
    # memcached: get_conn_text
    if family == socket.AF_INET and isinstance(address, tuple):
        return f"{transport}:{join_address(*address[:2])}"
    if family == socket.AF_INET6 and isinstance(address, tuple):
        return f"{transport}6:{join_address(*address[:2])}"
    if isinstance(address, bytes):
        address = os.fsdecode(address)
    return f"unix:{address}" if address else f"unix:<AF {family}>"
