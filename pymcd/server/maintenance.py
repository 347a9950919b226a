"""What a server does on its own: chores on a timer, and Python's garbage collector kept small.

A chore is a function that does one bounded slice of work and returns in how many seconds it wants
to be called again; infinity means not before it is woken. Each runs in a task of its own, and
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
from math import inf
from typing import TYPE_CHECKING, Final

import trio

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..service import Service


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
    """Exempt what has survived from any later collection."""
    gc.freeze()
    return FREEZE_EVERY_S


class Chore:
    """One thing that is done again and again."""

    def __init__(self, step: Callable[[], float]) -> None:
        self._step = step
        self._woken = trio.Event()
        self.turns = 0  #: calls of `step`: what an idle server does not make

    def wake(self) -> None:
        """Have the next slice done at once. From any code of this event loop."""
        self._woken.set()

    async def run(self, on_error: Callable[[Exception], None]) -> None:
        """Do the chore until cancelled."""
        while True:
            self._woken = trio.Event()
            self.turns += 1
            try:
                delay_s = self._step()
            except Exception as error:
                on_error(error)
                delay_s = RETRY_AFTER_S
            with trio.move_on_after(delay_s):
                await self._woken.wait()
            # Even a chore that wakes itself lets others have a turn.
            await trio.lowlevel.checkpoint()


class IdleKicker:
    """Closes TCP clients that have been silent for too long (`-o idle_timeout`).

    Clients that are sending a value, or to whom an answer is being sent, are left alone, as are
    watchers and clients of a Unix socket. # memcached: conn_timeout_thread
    """

    def __init__(self, service: Service, idle_timeout_s: int) -> None:
        self._service = service
        self._idle_timeout_s = idle_timeout_s
        self.asleep = False  #: there is nobody to watch, until a client connects

    def step(self) -> float:
        """Kick who is due; return when the next one can be."""
        service = self._service
        service.tick()
        now = service.cache.now
        oldest: int | None = None
        for connection in list(service.connections.values()):
            if connection.transport != "tcp" or connection.watching or connection.closing:
                continue
            silent_since = connection.last_command_at
            is_due = now - silent_since > self._idle_timeout_s
            if is_due and connection.awaited is None and not connection.pieces:
                if service.verbosity > 1:
                    service.host.log_line(f"Closing idle fd {connection.id}")
                service.host.reception.idle_kicks += 1
                connection.close("idle")
                connection.wake()
            else:
                oldest = silent_since if oldest is None else min(oldest, silent_since)
        self.asleep = oldest is None
        if oldest is None:
            return inf
        return max(self._idle_timeout_s - (now - oldest) + 1.0, 1.0)


class LoginKicker:
    """Closes clients that have not logged in for too long, on servers that ask for it."""

    def __init__(self, service: Service, timeout_s: float) -> None:
        self._service = service
        self._timeout_s = timeout_s
        self.asleep = False  #: there is nobody to watch, until a client connects

    def step(self) -> float:
        """Close who is due; return when the next one can be."""
        service = self._service
        service.tick()
        now = service.cache.now
        delay_s = self._timeout_s  # a client that logged in may have to do so again
        for connection in list(service.connections.values()):
            since = connection.stranger_since
            if since is None or connection.closing:
                continue
            left_s = since + self._timeout_s - now
            if left_s > 0:
                delay_s = min(delay_s, left_s)
                continue
            if service.verbosity > 1:
                service.host.log_line(f"Closing fd {connection.id}, which has not logged in")
            connection.close("login")
            connection.wake()
        self.asleep = not service.connections
        return inf if self.asleep else max(delay_s, 1.0)
