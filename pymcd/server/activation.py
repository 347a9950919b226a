"""Sockets that a service manager has opened for this process: sd_listen_fds(3).

`LISTEN_FDS` tells how many there are, from descriptor 3 on, and `LISTEN_PID` whom they are for.
They take the place of those that `-p`, `-U`, `-l` and `-s` name. Whoever opened them goes on
listening while no server runs, so clients wait for one that is just started instead of being
refused. That is why they are not for a node of a pair: it must refuse clients until it has what
its peer has.
"""

from __future__ import annotations

import os
import socket
from typing import TYPE_CHECKING, Final

from ..exits import EXIT_USAGE, ConfigError
from .daemon import LISTEN_PID_VARIABLE, LISTEN_VARIABLE
from .listening import Endpoint, Transport, close_all, describe, tune

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from ..config import Settings, Tls

#: The first of them. # sd_listen_fds(3)
FIRST_DESCRIPTOR: Final = 3

_TRANSPORTS: Final[dict[tuple[int, int], Transport]] = {
    (socket.AF_INET, socket.SOCK_STREAM): "tcp",
    (socket.AF_INET6, socket.SOCK_STREAM): "tcp",
    (socket.AF_UNIX, socket.SOCK_STREAM): "local",
    (socket.AF_INET, socket.SOCK_DGRAM): "udp",
    (socket.AF_INET6, socket.SOCK_DGRAM): "udp",
}
_WANTED: Final = "a listening TCP or Unix socket (Accept=no), or a UDP socket"


def handed_over(environment: Mapping[str, str]) -> range:
    """Return the descriptors that are meant for this process; mostly none."""
    count = environment.get(LISTEN_VARIABLE, "")
    if environment.get(LISTEN_PID_VARIABLE) != str(os.getpid()) or not count.isdecimal():
        return range(0)
    return range(FIRST_DESCRIPTOR, FIRST_DESCRIPTOR + int(count))


def adopt(settings: Settings, descriptors: range, warning: Callable[[str], None]) -> list[Endpoint]:
    """Make endpoints of them; raise `ConfigError` if they cannot be what clients come to."""
    if settings.replicated:
        raise _refusal(
            "a node of a pair must refuse clients until it is in sync, and a socket that is open"
            " already does not: disable the .socket unit, or leave out --peer"
        )
    for name, value in (("-l", settings.listen), ("-s", settings.unix_socket)):
        if value:
            warning(f"warning: {name} has no effect: {LISTEN_VARIABLE} brings the sockets")
    endpoints: list[Endpoint] = []
    try:
        endpoints.extend(_endpoint(settings, fd) for fd in descriptors)
        if settings.couchbase is not None and all(each.transport != "tcp" for each in endpoints):
            raise _refusal("--couchbase needs a TCP socket")
    except ConfigError:
        close_all(endpoints)
        raise
    return endpoints


def _endpoint(settings: Settings, fd: int) -> Endpoint:
    try:
        sock = socket.socket(fileno=fd)
    except OSError:
        raise _refusal(f"descriptor {fd} is no socket; wanted is {_WANTED}") from None
    transport = _TRANSPORTS.get((sock.family, sock.type))
    listens = sock.type != socket.SOCK_STREAM or sock.getsockopt(
        socket.SOL_SOCKET, socket.SO_ACCEPTCONN
    )
    if transport is None or not listens:
        sock.detach()
        raise _refusal(f"descriptor {fd} is not {_WANTED}")
    sock.set_inheritable(False)
    sock.setblocking(False)
    if sock.family != socket.AF_UNIX:
        tune(sock)
    address = describe(sock.getsockname(), sock.family, transport)
    tls: Tls | None = "tls" if settings.enable_ssl and transport == "tcp" else None
    # Without a path: the file of a Unix socket belongs to who opened it.
    return Endpoint(sock, transport, address, settings.protocol, tls)


def _refusal(reason: str) -> ConfigError:
    return ConfigError(f"ERROR: {LISTEN_VARIABLE}: {reason}.", EXIT_USAGE)
