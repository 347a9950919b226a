"""What a server does on its own: chores on a timer, and Python's garbage collector kept small.

A chore is a function that does one bounded slice of work and returns in how many seconds it wants
to be called again; infinity means not before it is woken. One task does all those of a server, and
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
    from collections.abc import Callable, Sequence

    from ..protocol import Connection
    from ..service import Service


#: Net new objects after which the youngest generation is examined: about 0.5 ms.
YOUNG_OBJECTS: Final = 5_000
_NEVER: Final = 0x7FFFFFFF
FREEZE_EVERY_S: Final = 60.0
#: Wait before a chore that raised is tried again.
RETRY_AFTER_S: Final = 10.0


def tame_collector() -> None:
    """Arrange for collections that are always short; for the whole process.

    Of PyPy's there is nothing to arrange any more (see `startup`).
    """
    if not hasattr(gc, "freeze"):
        return
    gc.collect()
    gc.freeze()
    gc.set_threshold(YOUNG_OBJECTS, _NEVER, _NEVER)


def freeze_survivors() -> float:
    """Exempt what has survived from any later collection."""
    if not hasattr(gc, "freeze"):
        return inf
    gc.freeze()
    return FREEZE_EVERY_S


class Chore:
    """One thing that is done again and again."""

    def __init__(self, step: Callable[[], float]) -> None:
        self._step = step
        self.due_at = -inf  #: by the clock of the event loop
        self.bell = trio.Event()  #: wakes the task that does it
        self.turns = 0  #: calls of `step`: what an idle server does not make

    def wake(self) -> None:
        """Have the next slice done at once. From any code of this event loop."""
        self.due_at = -inf
        self.bell.set()

    def rouse(self) -> None:
        """Likewise, if the chore waits for just that."""
        if self.due_at == inf:
            self.wake()

    def do(self, on_error: Callable[[Exception], None]) -> None:
        """Do a slice."""
        self.turns += 1
        self.due_at = inf  # or earlier, if it is woken meanwhile
        delay_s = 0.0  # where even the error cannot be told
        try:
            delay_s = self._step()
        except Exception as error:
            on_error(error)
            delay_s = RETRY_AFTER_S
        finally:
            self.due_at = min(self.due_at, trio.current_time() + delay_s)

    async def run(self, on_error: Callable[[Exception], None]) -> None:
        """Do the chore until cancelled."""
        await run_chores([self], on_error)


async def run_chores(chores: Sequence[Chore], on_error: Callable[[Exception], None]) -> None:
    """Do chores until cancelled, each when it is due."""
    while True:
        bell = trio.Event()
        for chore in chores:
            chore.bell = bell
        for chore in chores:
            if chore.due_at <= trio.current_time():
                chore.do(on_error)
                # Even a chore that wakes itself lets others have a turn.
                await trio.lowlevel.checkpoint()
        if not bell.is_set():
            with trio.move_on_at(min(chore.due_at for chore in chores)):
                await bell.wait()


class Kicker:
    """Closes clients who are due for it; asleep while there is nobody to watch."""

    def __init__(self, service: Service, timeout_s: float) -> None:
        self._service = service
        self._timeout_s = timeout_s
        self.chore = Chore(self.step)

    def step(self) -> float:
        """Close who is due; return when the next one can be."""
        self._service.tick()
        return max(self._look(self._service.cache.now), 1.0)

    def _look(self, now: int) -> float:
        """Close who is due, and return when the next one can be, infinity if nobody is there."""
        raise NotImplementedError

    def _kick(self, connection: Connection, why: str, words: str) -> None:
        if self._service.verbosity > 1:
            self._service.host.log_line(words)
        connection.close(why)
        connection.wake()


class IdleKicker(Kicker):
    """Closes TCP clients that have been silent for too long (`-o idle_timeout`).

    Clients that are sending a value, be it refused, or to whom an answer is being sent, are left
    alone, as are watchers and clients of a Unix socket. # memcached: conn_timeout_thread
    """

    def _look(self, now: int) -> float:
        oldest: int | None = None
        for connection in list(self._service.connections.values()):
            if connection.transport != "tcp" or connection.watching or connection.closing:
                continue
            silent_since = connection.last_command_at
            is_due = now - silent_since > self._timeout_s
            at_rest = connection.awaited is None and not connection.swallow_bytes
            if is_due and at_rest and not connection.pieces:
                self._service.counters.idle_kicks += 1
                self._kick(connection, "idle_timeout", f"Closing idle fd {connection.id}")
            else:
                oldest = silent_since if oldest is None else min(oldest, silent_since)
        return inf if oldest is None else self._timeout_s - (now - oldest) + 1.0


class LoginKicker(Kicker):
    """Closes clients that have not logged in for too long, on servers that ask for it."""

    def _look(self, now: int) -> float:
        connections = self._service.connections
        delay_s = self._timeout_s  # a client that logged in may have to do so again
        for connection in list(connections.values()):
            since = connection.stranger_since
            if since is None or connection.closing:
                continue
            left_s = since + self._timeout_s - now
            if left_s > 0:
                delay_s = min(delay_s, left_s)
            else:
                words = f"Closing fd {connection.id}, which has not logged in"
                self._kick(connection, "login", words)
        return delay_s if connections else inf
