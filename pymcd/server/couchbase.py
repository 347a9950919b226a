"""The port of a bucket: HTTP for clients of Couchbase, and the streams that tell them of changes.

What is said is `conversation.Conversation`'s; here are sockets, time-outs and bounds. When the view
of the group changes, every stream gets the new map at once. A stream that began here because this
node was to be its herald ends when another one has been that for `MOVE_AFTER_S`: the client then
asks again, and streams from there. Not at once, so that a node which has just come back is found
listening.

Clients use the coordinator, and nothing makes its follower miss it soon if it hangs. So a follower
that has streams asks it now and then.

There is a bound of clients. Who comes then takes the place of one that has yet to ask for
something, or of one whose host has so many that it still has as many after that: no host can keep
all others out. What takes a while, requests and maps, is done for a few clients in each round of
the event loop, so that memcached's clients need not wait for all of them.
"""

from __future__ import annotations

import socket
from collections import Counter
from dataclasses import KW_ONLY, dataclass, field
from functools import partial
from ipaddress import ip_address, ip_network
from math import inf
from typing import TYPE_CHECKING, Final

import trio

from ..couchbase.conversation import REQUEST_MAX_BYTES, Conversation
from ..couchbase.directory import Directory
from ..couchbase.documents import Site
from .accepting import Acceptor
from .maintenance import Chore

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..auth import Exchange
    from ..config import Settings
    from ..replication.node import Node
    from .listening import Endpoint

#: Streams, one for each pool of connections of a client, and those who ask.
CLIENTS_MAX: Final = 256
#: Requests answered, or maps told, in one round of the event loop.
STEPS_PER_ROUND: Final = 2
#: For a client to ask for something, however it drips in, and to take an answer.
REQUEST_TIMEOUT_S: Final = 10.0
SEND_TIMEOUT_S: Final = 10.0
#: How long another node must have been the herald before streams go there.
MOVE_AFTER_S: Final = 1.0
#: How often a coordinator is asked for those who stream, and how long it may be silent. With the
#: acknowledgement time-out that is less than the second that session managers wait for an answer.
LOOK_EVERY_S: Final = 0.1
SILENCE_S: Final = 0.4
#: From the request of a stream to its first map. couchbase-client makes what it waits with in two
#: threads without a lock: an answer in that very moment leaves it waiting for ever.
FIRST_MAP_AFTER_S: Final = 0.05
RECEIVE_BYTES: Final = REQUEST_MAX_BYTES
#: Of an IPv6 address, what a host does not choose itself.
_HOST_PREFIX_BITS: Final = 64
#: A client that vanished is noticed after about two minutes, though nothing is sent to it.
_KEEPALIVE: Final = {"TCP_KEEPIDLE": 60, "TCP_KEEPINTVL": 15, "TCP_KEEPCNT": 4}


def new_bucket_server(
    settings: Settings,
    port: int,
    http_port: int,
    node: Node | None,
    *,
    begin_check: Callable[[bytes, bytes], Exchange] | None,
    aside: trio.CapacityLimiter,
    on_error: Callable[[Exception], None],
) -> BucketServer:
    """Return the bucket of this server, whose clients come to `port` and ask at `http_port`."""
    here = Site(settings.couchbase_host() or socket.gethostname(), port, http_port)
    peers = settings.couchbase_sites(port, http_port)
    sites = {peer: Site(*site) for peer, site in peers.items()}
    directory = Directory(here, sites, None if node is None else node.view)
    return BucketServer(
        directory,
        begin_check=begin_check,
        aside=aside,
        on_error=on_error,
        login_failure_delay_s=settings.login_failure_delay_s,
        look_after_master=partial(node.look_after_leader, SILENCE_S) if node else None,
    )


@dataclass(eq=False)
class Guest:
    """One client."""

    host: str
    waiting: bool = True  #: has yet to ask for something

    def __post_init__(self) -> None:
        self.scope = trio.CancelScope()


@dataclass(eq=False)
class BucketServer:
    """Serves a bucket's documents and streams, to any number of endpoints.

    `begin_check`: see `Conversation`. `aside` bounds the work for logins that is done in threads.
    `on_error` is told of a bug, which costs one client.
    """

    directory: Directory
    _: KW_ONLY
    begin_check: Callable[[bytes, bytes], Exchange] | None = None
    aside: trio.CapacityLimiter = field(default_factory=lambda: trio.CapacityLimiter(1))
    on_error: Callable[[Exception], None]
    login_failure_delay_s: float = 0.0
    look_after_master: Callable[[], None] | None = None

    def __post_init__(self) -> None:
        self.here = self.directory.here
        self.view = self.directory.view()
        self._changed = trio.Event()
        #: The oldest first, but for those who are being given up.
        self._guests: dict[Guest, None] = {}
        self._round = trio.CapacityLimiter(STEPS_PER_ROUND)
        self.clients = 0
        self._streams = 0
        #: Looks after the master while there are streams.
        self.looking = Chore(self._look_after)

    def look(self) -> None:
        """See whether the view has changed, and tell the streams. From any synchronous code."""
        view = self.directory.view()
        if view != self.view:
            self.view = view
            changed, self._changed = self._changed, trio.Event()
            changed.set()

    def _look_after(self) -> float:
        if self.look_after_master is None or not self._streams:
            return inf
        self.look_after_master()
        return LOOK_EVERY_S

    async def listen(self, endpoint: Endpoint) -> None:
        """Serve one endpoint until cancelled; it is closed by its owner."""
        async with trio.open_nursery() as nursery:
            await Acceptor(endpoint, partial(self._welcome, nursery), self.on_error).run()

    def _welcome(self, nursery: trio.Nursery, sock: socket.socket, address: object) -> None:
        """Serve a new client, or turn it away."""
        host = host_of(address)
        if self.clients >= CLIENTS_MAX and not self._make_room(host):
            sock.close()
            return
        for name, value in _KEEPALIVE.items():
            if hasattr(socket, name):
                sock.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
        stream = trio.SocketStream(trio.socket.from_stdlib_socket(sock))
        nursery.start_soon(self.serve_stream, stream, host)

    def _make_room(self, host: str) -> bool:
        """Give a client up for one of that host; False: it must go itself."""
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
        """Serve one client, until it has gone or has heard enough."""
        self.clients += 1
        guest = Guest(host)
        self._guests[guest] = None
        try:
            with guest.scope:
                await self._serve(stream, guest)
        finally:
            self._guests.pop(guest, None)
            self.clients -= 1

    async def _serve(self, stream: trio.abc.Stream, guest: Guest) -> None:
        try:
            async with stream:
                conversation = Conversation(lambda: self.view, self.begin_check)
                await self._answer(stream, conversation, guest)
                if conversation.streaming is not None:
                    self._streams += 1
                    self.looking.rouse()
                    try:
                        await self._tell(stream, conversation)
                    finally:
                        self._streams -= 1
        except* (trio.BrokenResourceError, trio.ClosedResourceError, trio.TooSlowError):
            pass
        except* Exception as errors:
            self.on_error(errors)

    async def _answer(
        self, stream: trio.abc.Stream, conversation: Conversation, guest: Guest
    ) -> None:
        """Answer requests until there is a stream, or no more to say."""
        answer = b""
        while conversation.waiting:
            guest.waiting = True
            with trio.move_on_after(REQUEST_TIMEOUT_S) as patience:
                while not answer and conversation.work is None and conversation.waiting:
                    data = bytes(await stream.receive_some(RECEIVE_BYTES))
                    answer = await self._in_turn(partial(conversation.receive, data))
            if patience.cancelled_caught:
                return
            guest.waiting = False
            while conversation.work is not None:
                result = await trio.to_thread.run_sync(conversation.work, limiter=self.aside)
                answer = await self._in_turn(partial(conversation.resume, result))
            if conversation.refused:
                await trio.sleep(self.login_failure_delay_s)
            await self._send(stream, answer)
            answer = b""
            if conversation.more:
                answer = await self._in_turn(conversation.go_on)

    async def _in_turn(self, step: Callable[[], bytes]) -> bytes:
        """Do what takes a while, of a few clients in each round of the event loop."""
        async with self._round:
            result = step()
            await trio.lowlevel.checkpoint()
        return result

    async def _tell(self, stream: trio.abc.Stream, conversation: Conversation) -> None:
        """Tell a client of all changes, until it goes or has to go elsewhere."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._notice_end, stream, conversation, nursery.cancel_scope)
            was_herald = False
            await trio.sleep(FIRST_MAP_AFTER_S)
            while not conversation.closing:
                if conversation.told != self.view:
                    await self._send(stream, await self._in_turn(conversation.publish))
                    continue
                is_herald = self.view is not None and self.view.herald == self.here
                was_herald = was_herald or is_herald
                changed = self._changed
                with trio.move_on_after(MOVE_AFTER_S if was_herald and not is_herald else inf):
                    await changed.wait()
                if not changed.is_set():
                    await self._send(stream, conversation.end())
            nursery.cancel_scope.cancel()

    async def _notice_end(
        self, stream: trio.abc.Stream, conversation: Conversation, scope: trio.CancelScope
    ) -> None:
        while not conversation.closing:
            conversation.receive(bytes(await stream.receive_some(RECEIVE_BYTES)))
        scope.cancel()

    async def _send(self, stream: trio.abc.Stream, data: bytes) -> None:
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
