"""A wire: one socket between two nodes of a group, and the `Link` of the core behind it.

Owns the socket, what it has not taken yet, and TLS where that is asked for. It knows nothing of
what is said: bytes go into the link, bytes come out of it. Nothing here waits. What the socket
does not take stays here and the link is asked for no more until it is gone, so that a peer who
does not read is the core's problem, where queues are bounded, and not one of memory here.

Both sides of TLS present the server's own certificate and demand one that `ssl_ca_cert` vouches
for. The name in it is not compared with the address: nodes are dialled by addresses that move,
both sides of a link may be the one who dials, and whoever holds a certificate of this authority
is a member of the group. So the authority should be the group's own. A certificate that says what
it is for must be for both, servers and clients.

A handshake tells one thing, even if it fails: by the protocol that who was called chooses (ALPN),
whether he has data. Without that a node whose certificate was refused could not know whether it
may serve, as `replication.beginning` has it.
"""

from __future__ import annotations

import ssl
from dataclasses import KW_ONLY, dataclass, field
from typing import TYPE_CHECKING, Final

from ..replication.roles import Data
from .certificates import reason_of
from .tls import TlsPipe

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable

    from ..replication.link import Link

#: Read from a peer at once.
RECEIVE_BYTES: Final = 64 << 10
#: More pieces are joined before they are sent. # POSIX: IOV_MAX is 16 at least
_PIECES_MAX: Final = 16
_NOTHING: Final = memoryview(b"")
#: In a handshake: followed by one of `Data`.
PROTOCOL: Final = "pymcd-replication/"


class WireTls(TlsPipe):
    """TLS of one wire."""

    def __init__(self, context: ssl.SSLContext, *, server_side: bool, data: Data) -> None:
        """`data` is what we have, for who calls us."""
        context.set_alpn_protocols(
            [PROTOCOL + data] if server_side else [PROTOCOL + each for each in Data]
        )
        super().__init__(context, server_side=server_side)

    @property
    def their_data(self) -> str | None:
        """What who was called has, as far as he said so."""
        said = self._tls.selected_alpn_protocol()
        return None if said is None else said.removeprefix(PROTOCOL)


class Network:
    """What lies between the sockets of a group and its node: nothing. The fake makes trouble."""

    cut = False  #: no link is opened, by either side
    paused = False  #: nothing is said, and no time passes for the node

    def deliver(self, link: Link, data: bytes) -> None:
        """Let a link take in what arrived."""
        link.receive(data)


@dataclass(eq=False)
class Wire:
    """One socket and its link. Whoever owns it calls `ready` when the socket is.

    `sock` is connected and does not block; `name` is who is at its other end. `on_blocked` is told
    when the wire begins and ceases to wait for room in its socket, `on_closed` when its socket is
    about to be closed.
    """

    sock: socket.socket
    link: Link
    _: KW_ONLY
    name: str
    tls: WireTls | None = None
    network: Network
    on_blocked: Callable[[Wire, bool], None]
    on_closed: Callable[[Wire], None]
    complain: Callable[[str], None]
    closed: bool = field(default=False, init=False)
    _unsent: memoryview = field(default=_NOTHING, init=False)

    def __post_init__(self) -> None:
        self.fd = self.sock.fileno()
        self.link.push = self.send

    @property
    def blocked(self) -> bool:
        """Whether it waits for room in its socket."""
        return bool(self._unsent)

    def ready(self) -> None:
        """Do what the socket is ready for: send what is left, take in what has come."""
        if self._unsent:
            self._write(self._unsent)
        if not self.closed:
            self._read()

    def send(self) -> None:
        """Send what the link has to say, as far as the socket takes it; close if the link is."""
        # Hot path: called at the end of each turn of the hub, mostly for nothing.
        link = self.link
        something = link.output or self.tls is not None
        if something and not self._unsent and not self.network.paused:
            self._say(link.take_output())
        if link.closed:
            self.close()

    def close(self) -> None:
        """Close the socket, and tell the link. Doing so twice is harmless."""
        if self.closed:
            return
        self.closed = True
        self._unsent = _NOTHING
        self.on_closed(self)
        self.sock.close()
        self.link.disconnected()

    def _say(self, pieces: list[bytes | memoryview]) -> None:
        if self.tls is not None:
            try:
                data = self.tls.seal(pieces)
            except ssl.SSLError as error:
                self._give_up(error, b"")
                return
        elif len(pieces) <= _PIECES_MAX:
            try:
                # An acknowledgement is one piece.
                sent = self.sock.send(pieces[0]) if len(pieces) == 1 else self.sock.sendmsg(pieces)
            except (BlockingIOError, InterruptedError):
                sent = 0
            except OSError:
                self.close()
                return
            if sent == sum(map(len, pieces)):
                return
            data = b"".join(pieces)[sent:]
        else:
            data = b"".join(pieces)
        if data:
            self._write(memoryview(data))

    def _write(self, data: memoryview) -> None:
        was_blocked = bool(self._unsent)
        try:
            while data:
                data = data[self.sock.send(data) :]
        except (BlockingIOError, InterruptedError):
            pass
        except OSError:
            self.close()
            return
        self._unsent = data
        if was_blocked != bool(data):
            self.on_blocked(self, bool(data))

    def _read(self) -> None:
        try:
            data = self.sock.recv(RECEIVE_BYTES)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            data = b""
        if not data:
            self.close()
            return
        if self.tls is not None:
            sealed = data
            try:
                data = self.tls.open(sealed)
            except ssl.SSLError as error:
                self._give_up(error, sealed)
                return
        if data:
            self.network.deliver(self.link, data)
        if self.tls is not None and self.tls.ended:
            self.close()

    def _give_up(self, error: ssl.SSLError, data: bytes) -> None:
        """Close a wire whose other end does not speak TLS, or whom nobody vouches for.

        `data` is what came last.
        """
        assert self.tls is not None
        when = "" if self.tls.established else " handshake"
        self.complain(f"TLS{when} with {self.name} failed: {reason_of(error)}")
        in_plain = self.link.tls_failed(data, self.tls.their_data)
        try:
            self.sock.send(in_plain or self.tls.seal([]))  # why, for the peer's log
        except OSError:
            pass
        self.close()
