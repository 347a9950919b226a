"""What a server does on its own: chores on a timer, and Python's garbage collector kept small.

A chore is a function that does one bounded slice of work and returns in how many seconds it wants
to be called again; None means not before a client connects. Each runs in a task of its own, and
between two slices everybody else has a turn. A chore that raises is reported and tried again
later: a bug in housekeeping must not end the server.

The collector. Items die by reference count, the collector is only for cycles. Left to itself it
would regularly walk through all objects of a server, 67 ms for a million items, and let every
client wait. So: what exists at the start is frozen; young objects are examined whenever
`YOUNG_OBJECTS` more have been made than were freed, which takes about half a millisecond; older
generations are never examined, and what survived is frozen now and then, which costs nothing and
keeps even an explicit collection short. The price: a cycle that outlives its youth is never freed.
So drivers take care to leave none: a closed connection must vanish by reference count, and a
test holds them to it.
"""

from __future__ import annotations

import gc
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

import trio

if TYPE_CHECKING:
    from ..protocol import Service

Chore = Callable[[], float | None]

#: Net new objects after which the youngest generation is examined: about 0.5 ms.
YOUNG_OBJECTS: Final = 5_000
_NEVER: Final = 0x7FFFFFFF
FREEZE_EVERY_S: Final = 60.0
#: Wait before a chore that raised is tried again.
RETRY_AFTER_S: Final = 10.0


def tame_collector() -> None:
    """Arrange for collections that are always short; for the whole process."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(YOUNG_OBJECTS, _NEVER, _NEVER)


def freeze_survivors() -> float:
    """Exempt what has survived from any later collection: a chore."""
    gc.freeze()
    return FREEZE_EVERY_S


class IdleKicker:
    """Closes TCP clients that have been silent for too long (`-o idle_timeout`): a chore.

    Clients that are sending a value, or to whom an answer is being sent, are left alone, as are
    watchers and clients of a Unix socket. # memcached: conn_timeout_thread
    """

    def __init__(self, service: Service, idle_timeout_s: int) -> None:
        self._service = service
        self._idle_timeout_s = idle_timeout_s
        self.kicks = 0

    def __call__(self) -> float | None:
        """Kick who is due; return when the next one can be."""
        service = self._service
        service.tick()
        now = service.cache.now
        oldest: int | None = None
        for connection in list(service.connections.values()):
            if connection.transport != "tcp" or connection.watching or connection.closing:
                continue
            silent_since = connection.last_command_at
            if now - silent_since <= self._idle_timeout_s:
                oldest = silent_since if oldest is None else min(oldest, silent_since)
            elif connection.awaited is None and not connection.pieces:
                if service.verbosity > 1:
                    service.log_line(f"Closing idle fd {connection.id}")
                self.kicks += 1
                connection.close("idle")
                connection.wake()
        if oldest is None:
            return None if not service.connections else self._idle_timeout_s + 1.0
        return max(self._idle_timeout_s - (now - oldest) + 1.0, 1.0)


async def run_chore(
    chore: Chore, connected: Callable[[], trio.Event], on_error: Callable[[Exception], None]
) -> None:
    """Do a chore until cancelled; `connected` gives the event that the next client will set."""
    while True:
        event = connected()
        try:
            delay_s = chore()
        except Exception as error:
            on_error(error)
            delay_s = RETRY_AFTER_S
        if delay_s is None:
            await event.wait()
        else:
            await trio.sleep(delay_s)
