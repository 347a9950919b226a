"""The port of a bucket: HTTP for clients of Couchbase, and the streams that tell them of changes.

What is said is `conversation.Conversation`'s, and who may ask is for `guests` to say. When the view
of the group changes, every stream gets the new map at once. A stream that began here because this
node was to be its herald ends when another one has been that for `MOVE_AFTER_S`: the client then
asks again, and streams from there. Not at once, so that a node which has just come back is found
listening.

Clients use the coordinator, and nothing makes its follower miss it soon if it hangs. So a follower
that has streams asks it now and then.
"""

from __future__ import annotations

import socket
from dataclasses import KW_ONLY, dataclass, field
from functools import partial
from math import inf
from typing import TYPE_CHECKING, Final

import trio

from ..couchbase.conversation import Conversation
from ..couchbase.directory import Directory
from ..couchbase.documents import Site
from .guests import RECEIVE_BYTES, Guest, Guests
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
#: How long another node must have been the herald before streams go there.
MOVE_AFTER_S: Final = 1.0
#: How often a coordinator is asked for those who stream, and how long it may be silent. With the
#: acknowledgement time-out that is less than the second that session managers wait for an answer.
LOOK_EVERY_S: Final = 0.1
SILENCE_S: Final = 0.4
#: From the request of a stream to its first map. couchbase-client makes what it waits with in two
#: threads without a lock: an answer in that very moment leaves it waiting for ever.
FIRST_MAP_AFTER_S: Final = 0.05


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
        self.guests = Guests(
            self._serve, self.on_error, most=CLIENTS_MAX, steps_per_round=STEPS_PER_ROUND
        )
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
        await self.guests.listen(endpoint)

    async def _serve(self, stream: trio.abc.Stream, guest: Guest) -> None:
        conversation = Conversation(lambda: self.view, self.begin_check)
        await self.guests.answer(stream, guest, conversation, self._conclude)
        if conversation.streaming is not None:
            self._streams += 1
            self.looking.rouse()
            try:
                await self._tell(stream, conversation)
            finally:
                self._streams -= 1

    async def _conclude(self, conversation: Conversation, answer: bytes) -> bytes:
        """Look at a login, if there is one to be looked at."""
        while conversation.work is not None:
            result = await trio.to_thread.run_sync(conversation.work, limiter=self.aside)
            answer = await self.guests.in_turn(partial(conversation.resume, result))
        if conversation.refused:
            await trio.sleep(self.login_failure_delay_s)
        return answer

    async def _tell(self, stream: trio.abc.Stream, conversation: Conversation) -> None:
        """Tell a client of all changes, until it goes or has to go elsewhere."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._notice_end, stream, conversation, nursery.cancel_scope)
            was_herald = False
            await trio.sleep(FIRST_MAP_AFTER_S)
            while not conversation.closing:
                if conversation.told != self.view:
                    publish = self.guests.in_turn(conversation.publish)
                    await self.guests.send(stream, await publish)
                    continue
                is_herald = self.view is not None and self.view.herald == self.here
                was_herald = was_herald or is_herald
                changed = self._changed
                with trio.move_on_after(MOVE_AFTER_S if was_herald and not is_herald else inf):
                    await changed.wait()
                if not changed.is_set():
                    await self.guests.send(stream, conversation.end())
            nursery.cancel_scope.cancel()

    async def _notice_end(
        self, stream: trio.abc.Stream, conversation: Conversation, scope: trio.CancelScope
    ) -> None:
        while not conversation.closing:
            conversation.receive(bytes(await stream.receive_some(RECEIVE_BYTES)))
        scope.cancel()
