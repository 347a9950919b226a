"""Faults: what shall go wrong, for which calls, and for how long.

`FaultBuilder` is how a test says it, `FaultTable` where the server looks it up for each call, and
keeps account of what became of it. What may be said is in `actions`; what that does to a connection
is in `scripted`.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple, ParamSpec, Self

from . import actions
from .actions import GARBAGE_BYTES, Action
from .calls import Call
from .checks import flag, is_number, is_whole
from .findings import Finding, Place, in_a_line
from .record import describe
from .wanted import Expected, Wanted

Arguments = ParamSpec("Arguments")


@dataclass(frozen=True, slots=True)
class Criteria(Wanted):
    """Which calls a fault is for; raises `ValueError` with what to write instead."""

    connection: int | None = None
    times: int | None = None
    probability: float = 1.0
    seed: int = 0
    required: bool = True

    def __post_init__(self) -> None:
        times, probability, connection = self.times, self.probability, self.connection
        if times is not None and (not is_whole(times) or times < 1):
            raise ValueError(
                f"times={times!r}: a fault happens once or more often;"
                " leave times out for one that happens until it is removed"
            )
        if not is_number(probability) or not 0 < probability <= 1:
            raise ValueError(
                f"probability={probability!r}: it is above 0 and at most 1, as in probability=0.25"
            )
        if not is_whole(self.seed):
            raise TypeError(f"seed={self.seed!r}: write a whole number, as in seed=7")
        flag("required", self.required)
        if connection is not None and (not is_whole(connection) or connection < 1):
            raise ValueError(
                f"connection={connection!r}: clients are counted from 1;"
                " take the number from `server.calls[-1].connection`"
            )


class Origin(NamedTuple):
    """How a test has written a fault, and where."""

    text: str
    place: Place

    def __str__(self) -> str:
        return f"{self.text} at {self.place}"


class Rule:
    """One fault, as the server has it. Two servers may share one."""

    def __init__(self, number: int, criteria: Criteria, action: Action, origin: Origin) -> None:
        self.number = number
        self.criteria = criteria
        self.action = action
        self.origin = origin
        self.random = random.Random(criteria.seed)
        self.met = 0  #: how many calls it was done to
        self.asked = criteria.key is None  #: a command was about its key
        self.told = False  #: what is wrong with it
        self._lock = threading.Lock()

    def take(self, call: Call) -> bool:
        """Return whether it happens to that call; each question uses up its chance."""
        criteria = self.criteria
        self.look(call)
        with self._lock:
            if (
                (criteria.times is None or self.met < criteria.times)
                and (criteria.connection is None or call.connection == criteria.connection)
                and criteria.fits(call)
                and (criteria.probability >= 1 or self.random.random() < criteria.probability)
            ):
                self.met += 1
                return True
        return False

    def look(self, call: Call) -> None:
        """Take note whether a call is about the key, whatever becomes of it."""
        self.asked = self.asked or self.criteria.is_about(call)

    def judge(self, calls: Sequence[Call], forgotten: int) -> Finding | None:
        """Return what is wrong with a fault that is over, if something is; once."""
        times = self.criteria.times
        unused = times is not None and self.met < times and self.criteria.required
        if self.told or (self.asked and not unused):
            return None
        self.told = True
        try:
            near = Expected(self.criteria).nearest(calls, forgotten)
        except Exception:  # out of a function of the key, and told already
            near = f"there were: {describe(calls)}"
        if not self.asked:
            text = f"{self.origin}: no command asked for that key; {near}"
            return Finding(text, self.origin.place, harmless=not unused)
        happened = f"happened {self.met} of {times} times" if self.met else "never happened"
        return Finding(
            f"{self.origin} {happened}; write required=False if that is all right; {near}",
            self.origin.place,
        )


#: Of faults that ended: how many calls they were done to.
_METS_MAX: Final = 10_000


class FaultTable:
    """The faults of one server, and what went wrong with them."""

    def __init__(self) -> None:
        self._rules: dict[int, Rule] = {}
        self._mets: dict[int, int] = {}
        self._ended: list[Rule] = []  #: those about which something may have to be told
        self._failures: list[Finding] = []

    def add(self, number: int, criteria: Criteria, action: Action, origin: Origin) -> None:
        """Have a fault of that number happen from now on."""
        self.install(Rule(number, criteria, action, origin))

    def install(self, rule: Rule) -> None:
        """Have a fault happen from now on."""
        self._rules[rule.number] = rule

    def remove(self, number: int) -> int:
        """End a fault, if it is there; return how many calls it was done to."""
        rule = self._rules.pop(number, None)
        if rule is not None:
            self._mets[number] = rule.met
            if len(self._mets) > _METS_MAX:
                del self._mets[next(iter(self._mets))]
            if not rule.told:
                self._ended.append(rule)
        return self.met(number)

    def clear(self) -> None:
        """End all faults."""
        for number in list(self._rules):
            self.remove(number)

    def met(self, number: int) -> int:
        """Return how many calls a fault was done to, also when it has ended."""
        rule = self._rules.get(number)
        return self._mets.get(number, 0) if rule is None else rule.met

    def mets(self) -> dict[int, int]:
        """Return how many calls each fault was done to."""
        return self._mets | {number: rule.met for number, rule in self._rules.items()}

    def armed(self) -> list[str]:
        """Return the faults that may happen, one line each."""
        return [f"{rule.origin}, happened {rule.met} times" for rule in self._rules.values()]

    def pick(self, call: Call) -> Rule | None:
        """Return the fault for a call: of several, the one that was added last."""
        picked: Rule | None = None
        for rule in reversed(self._rules.values()):
            try:
                if picked is None:
                    picked = rule if rule.take(call) else None
                else:
                    rule.look(call)
            except Exception as error:  # out of a function of the key
                self.fail(rule, call, error)
        return picked

    def fail(self, rule: Rule, call: Call, error: BaseException) -> None:
        """Take note of what a function of the test raised, or should not have returned."""
        text = f"{rule.origin}: the function failed for {call}: {in_a_line(error)}"
        if len(self._failures) < _FAILURES_MAX:
            self._failures.append(Finding(text, rule.origin.place, error))

    def take_findings(self, calls: Sequence[Call], forgotten: int) -> list[Finding]:
        """Return what is wrong so far, and was not told yet."""
        found, self._failures = self._failures, []
        rules = [*self._ended, *self._rules.values()]
        self._ended = []
        return found + [
            each for rule in rules if (each := rule.judge(calls, forgotten)) is not None
        ]


#: More of the same help nobody.
_FAILURES_MAX: Final = 100


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

    def __init__(self, remove: Callable[[], int], met: Callable[[], int], text: str) -> None:
        """`text`: how it was written, and where."""
        self._remove = remove
        self._count = met
        self._text = text
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
        return f"<Fault {self._text}{'' if self.active else ', removed'}>"


class FaultBuilder:
    """Says what shall happen to the calls that `fault()` chose; each method returns the `Fault`.

    Of several faults that fit a call, the one that was added last happens. None answers a client
    that asked for no answer (`noreply`).

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

    def __init__(
        self,
        origin: Origin,
        add: Callable[[Action, Origin], Fault],
        told: Callable[[FaultBuilder], None],
    ) -> None:
        """`told` is called when this has been told what to do."""
        self.origin = origin
        self._add = add
        self._told = told

    def _install(
        self, make: Callable[Arguments, Action], *wanted: Arguments.args, **more: Arguments.kwargs
    ) -> Fault:
        self._told(self)
        action = make(*wanted, **more)
        return self._add(action, self.origin._replace(text=f"{self.origin.text}.{action.text}"))

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
        return self._install(actions.delay, seconds)

    def stall(self) -> Fault:
        """Do not answer, as long as the fault is there; then execute and answer.

        >>> with MemcachedServer() as server, closing(Client(server.url, timeout=0.01)) as client:
        ...     with server.fault(command="get").stall():
        ...         client.get("a")
        Traceback (most recent call last):
        TimeoutError
        """
        return self._install(actions.stall)

    def drop(self, *, executed: bool = False) -> Fault:
        """Close the connection instead of an answer; with `executed` the command was done.

        >>> with MemcachedServer() as server, closing(Client(server.address)) as client:
        ...     with server.fault(command="set").drop(executed=True):
        ...         client.set("a", "1", noreply=False)
        Traceback (most recent call last):
        MemcacheUnexpectedCloseError
        """
        return self._install(actions.drop, executed=executed)

    def reset(self, *, executed: bool = False) -> Fault:
        """Reset the connection instead of an answer: the client sees `ConnectionResetError`.

        >>> with MemcachedServer() as server, closing(Client(server.address)) as client:
        ...     with server.fault(command="get").reset():
        ...         client.get("a")
        Traceback (most recent call last):
        ConnectionResetError
        """
        return self._install(actions.reset, executed=executed)

    def reply(self, reply: bytes | Callable[[Call], bytes]) -> Fault:
        """Answer this instead of executing: bytes, or what a function makes of the `Call`.

        >>> with MemcachedServer() as server:
        ...     client = Client(server.address, default_noreply=False)
        ...     with server.fault(command="incr").reply(lambda call: b"%d\\r\\n" % len(call.key)):
        ...         client.incr("abc", 1)
        ...     client.close()
        3
        """
        return self._install(actions.reply, reply)

    def truncate(self, size: int) -> Fault:
        """Execute, send only the first bytes of the answer, and close.

        >>> with MemcachedServer() as server, closing(Client(server.address)) as client:
        ...     with server.fault(command="get").truncate(2):
        ...         client.get("a")
        Traceback (most recent call last):
        MemcacheUnexpectedCloseError
        """
        return self._install(actions.truncate, size)

    def garbage(self, size: int = GARBAGE_BYTES) -> Fault:
        """Execute, and send random bytes (by the fault's `seed`) and a line end for an answer.

        >>> with MemcachedServer() as server, closing(Client(server.address)) as client:
        ...     with server.fault(command="get").garbage():
        ...         client.get("a")
        Traceback (most recent call last):
        MemcacheUnknownError
        """
        return self._install(actions.garbage, size)

    def out_of_memory(self) -> Fault:
        """Have the server find no memory for what is stored; other commands fail for it, too.

        >>> with MemcachedServer() as server, closing(Client(server.address)) as client:
        ...     with server.fault().out_of_memory():
        ...         client.set("a", "1", noreply=False)
        Traceback (most recent call last):
        MemcacheServerError
        """
        return self._install(actions.out_of_memory)
