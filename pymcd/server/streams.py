"""The general driver: one Connection over any `trio.abc.Stream`, one task for each.

Serves what the hub cannot: memory streams in tests, and everything, TLS too, on a system without
epoll. What was received is executed and answered before more is read; a client that does not
read its answers thereby stops its own commands. A watcher's lines, which no command of its own
brings about, are sent by a second task that lives only as long as there are any.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio

from .. import limits
from ..protocol.connection import no_wake

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..protocol import Connection


async def serve_connection(
    stream: trio.abc.Stream, connection: Connection, send_turn: Callable[[], None]
) -> None:
    """Serve until the client is gone, the connection closes, or a handler raises.

    `send_turn` is called after commands were executed, so that the peers hear of it. The stream is
    closed in every case. A broken stream is an ordinary end; any other exception is a bug of ours
    and is raised, in an exception group, for the caller to log.
    """
    sending = trio.Lock()
    async with stream, trio.open_nursery() as nursery:

        async def answer() -> None:
            """Execute what has come and send what there is to say, until neither is left."""
            try:
                async with sending:
                    while True:
                        # When a source has ended, commands behind it may be waiting.
                        more = connection.run() or connection.source is not None
                        # So they may behind what had to wait, and may be answered by now.
                        more = more or connection.waiting
                        send_turn()
                        while (chunk := connection.next_chunk()) is not None:
                            await stream.send_all(chunk)
                            connection.service.counters.bytes_written += len(chunk)
                        if connection.waiting or not (more or connection.pieces):
                            break
                        # Others have their turn between two slices of a long pipeline.
                        await trio.lowlevel.checkpoint()
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                connection.close("error")
            if connection.closing and not connection.waiting:
                nursery.cancel_scope.cancel()

        woken = trio.Event()

        def wake() -> None:
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
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            connection.close("error")
        finally:
            connection.closing = True
            connection.wake = no_wake
        nursery.cancel_scope.cancel()
