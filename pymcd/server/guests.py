"""Those who speak HTTP with this server, at ports of their own: how many, how long, how much.

What is said is a `Conversation`'s; here are sockets, time-outs and bounds. Whoever comes beyond the
bound of guests takes the place of one that has yet to ask for something, or of one whose host has
so many that it still has as many after that: no host can keep all others out. What takes a while,
requests and answers, is done for a few guests in each round of the event loop, so that memcached's
clients need not wait for all of them; and if `share` says so, for no more than that part of the
time, however many guests ask for however much.
"""

from __future__ import annotations

import socket
from collections import Counter
from dataclasses import KW_ONLY, dataclass
from functools import partial
from ipaddress import ip_address, ip_network
from typing import TYPE_CHECKING, Final, TypeVar

import trio

from ..web.conversation import REQUEST_MAX_BYTES, Conversation
from .accepting import Acceptor

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

    from .listening import Endpoint

#: For a guest to ask for something, however it drips in, and to take an answer.
REQUEST_TIMEOUT_S: Final = 10.0
SEND_TIMEOUT_S: Final = 10.0
RECEIVE_BYTES: Final = REQUEST_MAX_BYTES
#: Each takes 0.3 ms, and the end of another one, before anything is asked.
WELCOMES_PER_TURN: Final = 2
#: To rest costs something, too: not for less.
REST_MIN_S: Final = 0.003
#: Of an IPv6 address, what a host does not choose itself.
_HOST_PREFIX_BITS: Final = 64
#: A guest that vanished is noticed after about two minutes, though nothing is sent to it.
_KEEPALIVE: Final = {"TCP_KEEPIDLE": 60, "TCP_KEEPINTVL": 15, "TCP_KEEPCNT": 4}

Talk = TypeVar("Talk", bound=Conversation)


@dataclass(eq=False)
class Guest:
    """One client."""

    host: str
    waiting: bool = True  #: has yet to ask for something

    def __post_init__(self) -> None:
        self.scope = trio.CancelScope()


@dataclass(eq=False)
class Guests:
    """Serves guests, of any number of endpoints.

    `serve` does so with one of them, until it has gone. `on_error` is told of a bug, which costs
    one guest. `steps_per_round` are done in one round of the event loop, and of all time they take
    `share` at most. `idle_timeout_s` is for a guest that has asked for nothing yet, or nothing new.
    """

    serve: Callable[[trio.abc.Stream, Guest], Awaitable[None]]
    on_error: Callable[[Exception], None]
    _: KW_ONLY
    most: int
    steps_per_round: int
    share: float = 1.0
    idle_timeout_s: float = REQUEST_TIMEOUT_S

    def __post_init__(self) -> None:
        #: The oldest first, but for those who are being given up.
        self._guests: dict[Guest, None] = {}
        self._round = trio.CapacityLimiter(self.steps_per_round)
        self.number = 0  #: also of those
        self._rest_s = 0.0  #: owed to everybody else, for what was done

    def __iter__(self) -> Iterator[Guest]:
        return iter(self._guests)

    async def listen(self, endpoint: Endpoint) -> None:
        """Serve one endpoint until cancelled; it is closed by its owner."""
        async with trio.open_nursery() as nursery:
            welcome = partial(self._welcome, nursery)
            await Acceptor(endpoint, welcome, self.on_error, per_turn=WELCOMES_PER_TURN).run()

    def _welcome(self, nursery: trio.Nursery, sock: socket.socket, address: object) -> None:
        """Serve a new guest, or turn it away."""
        host = host_of(address)
        if self.number >= self.most and not self._make_room(host):
            sock.close()
            return
        for name, value in _KEEPALIVE.items():
            if hasattr(socket, name):
                sock.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
        stream = trio.SocketStream(trio.socket.from_stdlib_socket(sock))
        # Counted from now on: many may come before the first of them has its turn.
        nursery.start_soon(self._host, stream, self._admit(host))

    def _make_room(self, host: str) -> bool:
        """Give a guest up for one of that host; False: it must go itself."""
        guests = self._guests
        counts = Counter(guest.host for guest in guests)
        most = max(counts.values(), default=0)
        idle = [guest for guest in guests if guest.waiting]
        candidates = [guest for guest in idle if counts[guest.host] > counts[host]]
        if counts[host] + 1 < most:
            candidates += [guest for guest in reversed(guests) if counts[guest.host] == most]
        candidates += [guest for guest in idle if guest.host == host]
        given_up = next(iter(candidates), None)
        if given_up is None:
            return False
        del guests[given_up]
        given_up.scope.cancel()
        return True

    async def serve_stream(self, stream: trio.abc.Stream, host: str = "") -> None:
        """Serve one guest, until it has gone or has heard enough."""
        await self._host(stream, self._admit(host))

    def _admit(self, host: str) -> Guest:
        guest = Guest(host)
        self._guests[guest] = None
        self.number += 1
        return guest

    async def _host(self, stream: trio.abc.Stream, guest: Guest) -> None:
        try:
            with guest.scope:
                async with stream:
                    await self.serve(stream, guest)
        except* (trio.BrokenResourceError, trio.ClosedResourceError, trio.TooSlowError):
            pass
        except* Exception as errors:
            self.on_error(errors)
        finally:
            self._guests.pop(guest, None)
            self.number -= 1

    async def answer(
        self,
        stream: trio.abc.Stream,
        guest: Guest,
        conversation: Talk,
        conclude: Callable[[Talk, bytes], Awaitable[bytes]],
    ) -> None:
        """Answer requests until the conversation waits for none.

        `conclude` is given what there is of an answer, and returns the whole, when it may be sent.
        """
        answer = b""
        while conversation.waiting:
            guest.waiting = True
            with trio.move_on_after(self.idle_timeout_s) as patience:
                while not answer and not conversation.asked and conversation.waiting:
                    if conversation.more:
                        answer = await self.in_turn(conversation.go_on)
                        continue
                    data = bytes(await stream.receive_some(RECEIVE_BYTES))
                    # What it has begun to ask it is to ask soon.
                    by = trio.current_time() + REQUEST_TIMEOUT_S
                    patience.deadline = min(patience.deadline, by)
                    answer = await self.in_turn(partial(conversation.receive, data))
            if patience.cancelled_caught:
                return
            guest.waiting = False
            await self.send(stream, await conclude(conversation, answer))
            answer = b""
            if conversation.more:
                answer = await self.in_turn(conversation.go_on)

    async def in_turn(self, step: Callable[[], bytes]) -> bytes:
        """Do what takes a while, of a few guests in each round of the event loop."""
        async with self._round:
            began_s = trio.current_time()
            result = step()
            self._rest_s += (trio.current_time() - began_s) * (1 / self.share - 1)
            if self._rest_s >= REST_MIN_S:
                rest_s, self._rest_s = self._rest_s, 0.0
                await trio.sleep(rest_s)
            else:
                await trio.lowlevel.checkpoint()
        return result

    async def send(self, stream: trio.abc.Stream, data: bytes) -> None:
        """Send what a guest is to take soon; raise `trio.TooSlowError` if it does not."""
        if data:
            with trio.fail_after(SEND_TIMEOUT_S):
                await stream.send_all(data)


def host_of(address: object) -> str:
    """Return what is counted as one host: with IPv6, all that it may call itself."""
    host = str(address[0]) if isinstance(address, tuple) else ""
    try:
        number = ip_address(host.partition("%")[0])
    except ValueError:
        return host
    if number.version == 6 and number.ipv4_mapped is None:
        return str(ip_network((number, _HOST_PREFIX_BITS), strict=False))
    return host
