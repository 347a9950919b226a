"""The sockets of a group: dials the peers for ever, accepts those who dial, and runs the node.

The core (`replication.node.Node`) decides everything: who is a peer, which of two links to the same
one stays, when to give a stranger up. Here are the sockets, the timers and the log. The sockets
live in the hub's epoll object beside those of the clients, so that what a turn's commands changed
leaves at the end of that turn, and what the peer answers is met by the same wake-up; where there
is no hub each has a task.

Dialling. A peer who cannot be had is tried again after a delay that doubles from
`BACKOFF_MIN_S` to `BACKOFF_MAX_S`, less a random part of up to half, so that two nodes do not
keep meeting each other's refusals. A link that worked and is lost is dialled again at once; one on
which the witness does not answer is left alone, and another one dialled beside it.
What cannot be reached is said once a minute.
"""

from __future__ import annotations

import os
import random
import socket
from dataclasses import KW_ONLY, InitVar, dataclass, field
from functools import partial
from math import inf
from typing import TYPE_CHECKING, Any, Final

import trio

from ..addresses import join_address, split_address
from .accepting import Acceptor
from .maintenance import Chore
from .memory import keep_on
from .wire import Network, Wire, WireTls
from .wiretasks import WireTasks

if TYPE_CHECKING:
    import ssl
    from collections.abc import Awaitable, Callable, Sequence

    from ..replication.node import Node
    from .hub import Hub
    from .listening import Endpoint

BACKOFF_MIN_S: Final = 0.05
BACKOFF_MAX_S: Final = 1.0
#: A link to a proven peer that lived longer was not refused.
PROVEN_AFTER_S: Final = 0.25
#: For a peer's host to acknowledge what we send. The system would repeat a lost packet ever more
#: rarely: after a pause of the network a new connection is faster.
UNACKED_TIMEOUT_S: Final = 2.0
#: For a peer to answer a dial.
DIAL_TIMEOUT_S: Final = 2.0
#: A step of the node that went wrong is tried again so soon.
STEP_AGAIN_S: Final = 0.02
#: The same complaint is made once in so many seconds ...
_COMPLAIN_EVERY_S: Final = 60.0
#: ... and so many different ones are remembered.
_COMPLAINTS_MAX: Final = 100
#: For so many turns of the hub, or until there are so many, changes gather.
TURNS_MAX: Final = 4
ENOUGH_CHANGES: Final = 8


@dataclass(eq=False)
class Peering:
    """The sockets of one node.

    `node_for` returns the node, given what is to be called when it wants to be stepped. `context`
    returns that of a new link which this side "accepts" or "dials", where links use TLS. `also`
    is run beside the links.
    """

    node_for: InitVar[Callable[[Callable[[], None]], Node]]
    peers: Sequence[str]
    _: KW_ONLY
    hub: Hub | None
    log: Callable[[str], None]
    on_error: Callable[[Exception], None]
    context: Callable[[str], ssl.SSLContext] | None = None
    network: Network = field(default_factory=Network)
    chance: Callable[[], float] = random.random
    also: Sequence[Callable[[], Awaitable[None]]] = ()

    def __post_init__(self, node_for: Callable[[Callable[[], None]], Node]) -> None:
        self.stepping = Chore(self._step)
        self.node = node = node_for(self.stepping.wake)
        self._membership = node.membership
        self._gate = node.gate
        self._changes = node.changes
        self._heard = False  #: something came from a peer
        self._turns = 0  #: of the hub, since what they brought about was sent
        self._wires: tuple[Wire, ...] = ()
        self._lost = trio.Event()  #: a link has gone
        self._complaints: dict[str, float] = {}
        self._tasks: WireTasks | None = None  #: where there is no hub

    async def run(self, endpoints: Sequence[Endpoint]) -> None:
        """Serve the node until cancelled; the endpoints are closed by their owner."""
        try:
            async with trio.open_nursery() as nursery:
                if self.hub is None:
                    self._tasks = WireTasks(nursery, self._ready_at_once)
                self.node.start()
                serving: list[Callable[[], Awaitable[None]]] = [
                    partial(self.stepping.run, self.on_error),
                    *(Acceptor(each, self._welcome, self.on_error).run for each in endpoints),
                    *(partial(self._dial_for_ever, peer) for peer in self.peers),
                    *self.also,
                ]
                for run in serving:
                    nursery.start_soon(keep_on, run, self.on_error)
        finally:
            self.close_all()

    def close_all(self) -> None:
        """Close every link."""
        for wire in self._wires:
            wire.close()

    def leave(self) -> bool:
        """Part from the peers, when they have all that we have; False: call again a little later.

        So they need not miss us first. Whoever cannot wait calls `close_all`.
        """
        if self.node.awaited:
            return False
        left = self.node.leave()
        self.send_turn()
        return left

    def end_turn(self, idle: bool) -> None:
        """Send what the hub's turns have brought about, if it was anything.

        While clients wait to be served changes gather: one message costs less than many.
        """
        # Hot path: bench/ "pairread16".
        if not idle and self._turns < TURNS_MAX and len(self._changes.fresh) < ENOUGH_CHANGES:
            self._turns += 1
            return
        self._turns = 0
        if self._heard or self._gate.has_news:
            self._heard = False
            self.send_turn()

    def send_turn(self) -> None:
        """Send what the commands since the last call have brought about."""
        # Hot path: bench/ "pair16".
        try:
            self._gate.send_batch()
            for wire in self._wires:
                wire.send()
        except Exception as error:
            self.on_error(error)

    def _step(self) -> float:
        if self.network.paused:
            return inf
        try:
            return self.node.step()
        except Exception as error:
            self.on_error(error)
            return STEP_AGAIN_S  # others would miss us long before a chore is tried again
        finally:
            self.send_turn()
            if self._membership.doubted:
                self.look_again()
            if self.hub is not None:
                self.hub.eager = self.node.role.in_sync

    def deliver(self, tell: Callable[[], None]) -> None:
        """Have the node learn something that did not come over a link."""
        try:
            tell()
        except Exception as error:
            self.on_error(error)
        self.send_turn()
        self.stepping.wake()

    # -- links ---------------------------------------------------------------------------------

    def _open(self, sock: socket.socket, *, dialled: str | None, address: str) -> Wire:
        """Begin a link over a connected socket."""
        sock.setblocking(False)
        for level, option in (
            (socket.IPPROTO_TCP, socket.TCP_NODELAY),
            (socket.SOL_SOCKET, socket.SO_KEEPALIVE),
        ):
            sock.setsockopt(level, option, 1)
        if hasattr(socket, "TCP_USER_TIMEOUT"):
            milliseconds = round(UNACKED_TIMEOUT_S * 1000)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, milliseconds)
        tls = None
        if self.context is not None:
            side = "accepts" if dialled is None else "dials"
            data = self.node.view.data
            tls = WireTls(self.context(side), server_side=dialled is None, data=data)
        wire = Wire(
            sock,
            self._membership.open_link(dialled=dialled, address=address),
            name=dialled or split_address(address)[0],
            tls=tls,
            network=self.network,
            on_blocked=self._blocked,
            on_closed=self._closed,
            complain=self._complain,
        )
        self._wires += (wire,)
        if self.hub is not None:
            self.hub.watch(wire.fd, lambda: self._ready(wire))
        else:
            assert self._tasks is not None
            self._tasks.watch(wire)
        self.send_turn()
        return wire

    def _ready(self, wire: Wire) -> None:
        """Let a wire do what its socket is ready for; the turn's end sends what comes of it."""
        self._heard = True
        try:
            wire.ready()
        except Exception as error:
            self.on_error(error)
            wire.close()

    def _ready_at_once(self, wire: Wire) -> None:
        """Do the same, and end the turn."""
        self._ready(wire)
        self.send_turn()

    def _blocked(self, wire: Wire, blocked: bool) -> None:
        if self.hub is not None:
            self.hub.watch_writable(wire.fd, blocked)
        elif self._tasks is not None:
            self._tasks.watch_writable(wire, blocked)

    def look_again(self) -> None:
        """Have whoever waits for a reason to dial look whether there is one."""
        self._lost.set()
        self._lost = trio.Event()

    def _closed(self, wire: Wire) -> None:
        self._wires = tuple(other for other in self._wires if other is not wire)
        if self.hub is not None:
            self.hub.unwatch(wire.fd)
        elif self._tasks is not None:
            self._tasks.unwatch(wire)
        self.look_again()
        # What the core makes of it is sent, and its timers are set, without delay.
        self.stepping.wake()

    # -- those who dial us ---------------------------------------------------------------------

    def _welcome(self, sock: socket.socket, address: tuple[Any, ...]) -> None:
        """Begin a link with who has dialled."""
        if self.network.cut:
            sock.close()
            return
        if not self._membership.may_accept():
            self._make_room()
        if self._membership.may_accept():
            self._open(sock, dialled=None, address=join_address(*address[:2]))
        else:
            sock.close()

    def _make_room(self) -> None:
        """Close the connection of whoever has had most time to prove itself.

        So those who hold the places of strangers cannot keep a peer out, which needs but a moment.
        """
        for wire in self._wires:
            if wire.link.dialled is None and not wire.link.proven:
                wire.close()
                return

    # -- those whom we dial --------------------------------------------------------------------

    async def _dial_for_ever(self, peer: str) -> None:
        delay_s = BACKOFF_MIN_S
        while True:
            lost = self._lost
            if self.network.cut or not self._membership.should_dial(peer):
                # We are linked to it, or are it. Links are lost with an event.
                with trio.move_on_after(BACKOFF_MAX_S):
                    await lost.wait()
                    delay_s = BACKOFF_MIN_S
                continue
            begin = trio.current_time()
            wire = await self._dial(peer)
            if wire is not None:
                while not wire.closed and not (
                    wire.link.proven and self._membership.doubted == peer
                ):
                    await self._lost.wait()
                lived_s = trio.current_time() - begin
                if wire.link.proven and lived_s > PROVEN_AFTER_S:
                    delay_s = BACKOFF_MIN_S
                    continue
            await trio.sleep(delay_s * (1 - self.chance() / 2))
            delay_s = min(2 * delay_s, BACKOFF_MAX_S)

    async def _dial(self, peer: str) -> Wire | None:
        """Dial a peer; None: it does not answer."""
        host, port = split_address(peer)
        assert port is not None  # `Settings` adds it
        try:
            with trio.fail_after(DIAL_TIMEOUT_S):
                stream = await trio.open_tcp_stream(host, port)
        except trio.TooSlowError:
            self._complain(f"{peer} does not answer")
            return None
        except (OSError, UnicodeError) as error:
            self._complain(f"cannot reach {peer}: {why_unreachable(error)}")
            return None
        except Exception as error:
            self.on_error(error)
            return None
        sock = socket.socket(fileno=stream.socket.detach())
        try:
            return self._open(sock, dialled=peer, address=join_address(*sock.getpeername()[:2]))
        except OSError:
            sock.close()  # it has gone again
            return None

    def _complain(self, message: str) -> None:
        """Say what is wrong with the peers, but not again and again."""
        now = trio.current_time()
        if now < self._complaints.get(message, now):
            return
        if len(self._complaints) >= _COMPLAINTS_MAX:
            self._complaints.clear()
        self._complaints[message] = now + _COMPLAIN_EVERY_S
        self.log(f"replication: {message}")


def why_unreachable(error: OSError | UnicodeError) -> str:
    """Return in a few words why a dial failed; trio tells of all addresses that it tried."""
    if isinstance(error, UnicodeError):
        return "no host has such a name"
    if isinstance(error.__cause__, OSError):
        error = error.__cause__
    elif isinstance(error.__cause__, ExceptionGroup):
        first = error.__cause__.exceptions[0]
        error = first if isinstance(first, OSError) else error
    if error.errno is not None and error.errno > 0:
        return os.strerror(error.errno)
    return error.strerror or str(error)
