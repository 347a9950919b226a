"""Faults: what shall go wrong, for which calls, and for how long.

`FaultBuilder` is how a test says it, `Action` what it said, `FaultTable` where the server looks it
up for each call. What an action does to a connection is in `scripted`.
"""

from __future__ import annotations

import itertools
import random
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal, Self

from .calls import Wanted

if TYPE_CHECKING:
    from collections.abc import Callable

    from .calls import Call

Kind = Literal["delay", "stall", "drop", "reset", "reply", "truncate", "garbage", "out_of_memory"]

GARBAGE_BYTES: Final = 64


@dataclass(frozen=True, slots=True)
class Criteria(Wanted):
    """Which calls a fault is for; raises `ValueError` with what to write instead."""

    connection: int | None = None
    times: int | None = None
    probability: float = 1.0
    seed: int = 0

    def __post_init__(self) -> None:
        times, probability, connection = self.times, self.probability, self.connection
        if times is not None and (not isinstance(times, int) or times < 1):
            raise ValueError(
                f"times={times!r}: a fault happens once or more often;"
                " leave times out for one that happens until it is removed"
            )
        if not 0 < probability <= 1:
            raise ValueError(
                f"probability={probability!r}: it is above 0 and at most 1, as in probability=0.25"
            )
        if connection is not None and (not isinstance(connection, int) or connection < 1):
            raise ValueError(
                f"connection={connection!r}: clients are counted from 1;"
                " take the number from `server.calls[-1].connection`"
            )


@dataclass(frozen=True, slots=True)
class Action:
    """What a fault does."""

    kind: Kind
    seconds: float = 0.0
    reply: Any = b""
    size: int = 0
    executed: bool = False


class Rule:
    """One fault, as the server has it."""

    def __init__(self, number: int, criteria: Criteria, action: Action) -> None:
        self.number = number
        self.criteria = criteria
        self.action = action
        self.random = random.Random(criteria.seed)
        self.met = 0  #: how many calls it was done to

    def wants(self, call: Call) -> bool:
        """Return whether it is for that call; each question uses up its chance."""
        criteria = self.criteria
        return (
            (criteria.times is None or self.met < criteria.times)
            and (criteria.connection is None or call.connection == criteria.connection)
            and criteria.fits(call)
            and (criteria.probability >= 1 or self.random.random() < criteria.probability)
        )


class FaultTable:
    """The faults of one server."""

    def __init__(self) -> None:
        self._rules: dict[int, Rule] = {}
        self._numbers = itertools.count(1)

    def add(self, criteria: Criteria, action: Action) -> int:
        """Have a fault happen from now on; return its number."""
        number = next(self._numbers)
        self._rules[number] = Rule(number, criteria, action)
        return number

    def remove(self, number: int) -> int:
        """End a fault, if it is there; return how many calls it was done to."""
        met = self.met(number)
        self._rules.pop(number, None)
        return met

    def clear(self) -> None:
        """End all faults."""
        self._rules.clear()

    def met(self, number: int) -> int:
        """Return how many calls a fault was done to."""
        rule = self._rules.get(number)
        return 0 if rule is None else rule.met

    def pick(self, call: Call) -> Rule | None:
        """Return the fault for a call: of several, the one that was added last."""
        for rule in reversed(self._rules.values()):
            if rule.wants(call):
                rule.met += 1
                return rule
        return None


class Fault:
    """A fault that happens from now on, until `remove()` or the end of a `with` block.

    >>> from pymcd.testing import MemcachedServer
    >>> from pymemcache import Client
    >>> with MemcachedServer() as server:
    ...     client = Client(server.address)
    ...     with server.fault(command="get").reply(b"VALUE a 0 1\\r\\n7\\r\\nEND\\r\\n") as fault:
    ...         client.get("a")
    ...         fault.active
    ...     fault.active, fault.met
    ...     client.get("a")
    ...     client.close()
    b'7'
    True
    (False, 1)
    """

    def __init__(self, remove: Callable[[], int], met: Callable[[], int]) -> None:
        self._remove = remove
        self._count = met
        self._met: int | None = None

    @property
    def active(self) -> bool:
        """Whether it was not removed yet."""
        return self._met is None

    @property
    def met(self) -> int:
        """How many calls it was done to."""
        return self._count() if self._met is None else self._met

    def remove(self) -> None:
        """End it; clients that it holds go on. Doing so twice is harmless.

        >>> with MemcachedServer() as server:
        ...     client = Client(server.address, default_noreply=False)
        ...     fault = server.fault(command="get").reply(b"SERVER_ERROR busy\\r\\n")
        ...     fault.remove()
        ...     client.get("a") is None
        ...     client.close()
        True
        """
        if self._met is None:
            self._met = 0
            self._met = self._remove()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *failure: object) -> None:
        self.remove()

    def __repr__(self) -> str:
        return f"<Fault: {'active' if self.active else 'removed'}>"


class FaultBuilder:
    """Says what shall happen to the calls that `fault()` chose; each method returns the `Fault`.

    Of several faults that fit a call, the one that was added last happens.

    >>> from contextlib import closing
    >>> from pymcd.testing import MemcachedServer
    >>> from pymemcache import Client
    >>> with MemcachedServer() as server, closing(Client(server.address)) as client:
    ...     fault = server.fault(command="set", times=1).out_of_memory()
    ...     try:
    ...         client.set("a", "1", noreply=False)
    ...     except Exception as error:
    ...         print(error)
    ...     client.set("a", "1", noreply=False)
    b'out of memory storing object'
    True
    """

    def __init__(self, install: Callable[[Action], Fault]) -> None:
        self._install = install

    def delay(self, seconds: float) -> Fault:
        """Execute and answer so many seconds later, on the server's clock.

        `advance` ends the wait as time does; with a frozen clock nothing else does. A client that
        leaves before takes its command with it.

        >>> import threading
        >>> with MemcachedServer(clock="frozen") as server:
        ...     client = Client(server.address)
        ...     with server.fault(command="get").delay(10):
        ...         worker = threading.Thread(target=client.get, args=("a",))
        ...         worker.start()
        ...         (call,) = server.wait_for("get")
        ...         call.reply is None
        ...         server.advance(10)
        ...         worker.join()
        ...         call.reply
        ...     client.close()
        True
        b'END\\r\\n'
        """
        if not 0 <= seconds < float("inf"):
            instead = "; for ever is `.stall()`" if seconds == float("inf") else ""
            raise ValueError(f"delay({seconds!r}): that takes seconds, 0 or more{instead}")
        return self._install(Action("delay", seconds=float(seconds)))

    def stall(self) -> Fault:
        """Do not answer, as long as the fault is there; then execute and answer.

        >>> with MemcachedServer() as server, closing(Client(server.url, timeout=0.01)) as client:
        ...     with server.fault(command="get").stall():
        ...         client.get("a")
        Traceback (most recent call last):
        TimeoutError
        """
        return self._install(Action("stall"))

    def drop(self, *, executed: bool = False) -> Fault:
        """Close the connection instead of an answer; with `executed` the command was done.

        >>> with MemcachedServer() as server, closing(Client(server.address)) as client:
        ...     with server.fault(command="set").drop(executed=True):
        ...         client.set("a", "1", noreply=False)
        Traceback (most recent call last):
        MemcacheUnexpectedCloseError
        """
        return self._install(Action("drop", executed=executed))

    def reset(self, *, executed: bool = False) -> Fault:
        """Reset the connection instead of an answer: the client sees `ConnectionResetError`.

        >>> with MemcachedServer() as server, closing(Client(server.address)) as client:
        ...     with server.fault(command="get").reset():
        ...         client.get("a")
        Traceback (most recent call last):
        ConnectionResetError
        """
        return self._install(Action("reset", executed=executed))

    def reply(self, reply: bytes | Callable[[Call], bytes]) -> Fault:
        """Answer this instead of executing: bytes, or what a function makes of the `Call`.

        >>> with MemcachedServer() as server:
        ...     client = Client(server.address, default_noreply=False)
        ...     with server.fault(command="incr").reply(lambda call: b"%d\\r\\n" % len(call.key)):
        ...         client.incr("abc", 1)
        ...     client.close()
        3
        """
        if not isinstance(reply, bytes) and not callable(reply):
            raise TypeError(
                f"reply() takes bytes or a function of the call, not {reply!r};"
                ' write b"SERVER_ERROR busy\\r\\n"'
            )
        return self._install(Action("reply", reply=reply))

    def truncate(self, size: int) -> Fault:
        """Execute, send only the first bytes of the answer, and close.

        >>> with MemcachedServer() as server, closing(Client(server.address)) as client:
        ...     with server.fault(command="get").truncate(2):
        ...         client.get("a")
        Traceback (most recent call last):
        MemcacheUnexpectedCloseError
        """
        if not isinstance(size, int) or size < 0:
            raise ValueError(f"truncate() takes how many bytes to send, 0 or more, not {size!r}")
        return self._install(Action("truncate", size=size))

    def garbage(self, size: int = GARBAGE_BYTES) -> Fault:
        """Execute, and send random bytes (by the fault's `seed`) and a line end for an answer.

        >>> with MemcachedServer() as server, closing(Client(server.address)) as client:
        ...     with server.fault(command="get").garbage():
        ...         client.get("a")
        Traceback (most recent call last):
        MemcacheUnknownError
        """
        if not isinstance(size, int) or size < 1:
            raise ValueError(f"garbage() takes how many bytes to send, 1 or more, not {size!r}")
        return self._install(Action("garbage", size=size))

    def out_of_memory(self) -> Fault:
        """Have the server find no memory for what is stored; other commands fail for it, too.

        >>> with MemcachedServer() as server, closing(Client(server.address)) as client:
        ...     with server.fault().out_of_memory():
        ...         client.set("a", "1", noreply=False)
        Traceback (most recent call last):
        MemcacheServerError
        """
        return self._install(Action("out_of_memory"))
