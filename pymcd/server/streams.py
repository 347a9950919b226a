"""The general driver: one Connection over any `trio.abc.Stream`, one task for each.

Serves what the hub cannot: memory streams in tests, and everything, TLS too, on a system without
epoll. What was received is executed and answered before more is read; a client that does not
read its answers thereby stops its own commands. Those who have more to do after a run, or whose
last one was full, go on one after the other, in a *lane* as the hub has them: so everybody else
waits for one of them at most. A watcher's lines, which no command of its own brings about, are sent
by a second task that lives only as long as there are any.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio

from .. import limits
from ..protocol.connection import no_wake
from ..protocol.underway import Holder

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..protocol import Connection


class _Unread(Holder):
    """What a client has yet to take."""

    def __init__(self, end: Callable[[], None]) -> None:
        super().__init__()
        self._end = end

    def give_up(self) -> None:
        """Serve this client no more: others need the memory."""
        self._end()


async def serve_connection(
    stream: trio.abc.Stream,
    connection: Connection,
    send_turn: Callable[[], None],
    lane: trio.Lock,
) -> None:
    """Serve until the client is gone, the connection closes, or a handler raises.

    `send_turn` is called after commands were executed, so that the peers hear of it. The `lane` is
    the same for all clients of a server. The stream is closed in every case. A broken stream is an
    ordinary end; any other exception is a bug of ours and is raised, in an exception group, for the
    caller to log.
    """
    sending = trio.Lock()
    under_way = connection.service.under_way
    async with stream, trio.open_nursery() as nursery:

        def end() -> None:
            connection.close("error")
            nursery.cancel_scope.cancel()

        unread = _Unread(end)

        def count(chunk: bytes | memoryview) -> bool:
            """Count what is to be sent, if it is much; False: there is no room for it."""
            held_bytes = len(chunk) + sum(map(len, connection.pieces))
            if held_bytes <= limits.REPLY_CHUNK_BYTES:
                under_way.release(unread)
                return True
            return under_way.charge(unread, held_bytes)

        called = False  #: by `wake`, since commands were last executed

        async def answer() -> None:
            """Execute what has come and send what there is to say, until neither is left."""
            nonlocal called
            try:
                async with sending:
                    while True:
                        called = False
                        # When a source has ended, commands behind it may be waiting.
                        more = connection.run() or connection.source is not None
                        # So they may behind what had to wait, and may be answered by now.
                        more = more or connection.waiting
                        send_turn()
                        while (chunk := connection.next_chunk()) is not None:
                            if not count(chunk):
                                end()
                            await stream.send_all(chunk)
                            connection.service.counters.bytes_written += len(chunk)
                            if connection.source is not None:
                                async with lane:
                                    await trio.lowlevel.checkpoint()
                        # Whoever woke us while we sent finds nobody else to go on.
                        more = more or bool(connection.pieces)
                        if not called and (connection.waiting or not more):
                            break
                        async with lane:
                            await trio.lowlevel.checkpoint()
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                connection.close("error")
            if connection.closing and not connection.waiting:
                nursery.cancel_scope.cancel()

        woken = trio.Event()

        def wake() -> None:
            nonlocal called
            called = True
            woken.set()
            if not sending.locked():
                nursery.start_soon(answer)

        connection.wake = wake
        try:
            while not connection.closing:
                data = await stream.receive_some(limits.RECEIVE_BYTES)
                if not data:
                    break
                connection.service.tick()
                connection.service.counters.bytes_read += len(data)
                connection.last_command_at = connection.cache.now
                connection.receive_data(bytes(data))
                await answer()
                while connection.waiting or (connection.aside and not connection.closing):
                    # For other servers, or for what is done aside: what this client
                    # sends meanwhile stays in its socket.
                    woken = trio.Event()
                    await woken.wait()
                    await answer()
                if connection.weight >= limits.RUN_REPLY_BYTES:
                    async with lane:
                        await trio.lowlevel.checkpoint()
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            connection.close("error")
        finally:
            connection.closing = True
            connection.wake = no_wake
            under_way.release(unread)
        nursery.cancel_scope.cancel()
