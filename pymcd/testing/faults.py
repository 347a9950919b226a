"""Faults: what shall go wrong, for which calls, and for how long.

`FaultBuilder` is how a test says it, `FaultTable` where the server looks it up for each call, and
keeps account of what became of it. What may be said is in `actions`; what that does to a connection
is in `scripted`.
"""

from __future__ import annotations

import inspect
import random
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final, NamedTuple, NoReturn, ParamSpec, Self

from . import actions
from .actions import GARBAGE_BYTES, Action, Seconds, Step
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
    skip: int = 0
    after_s: float = 0.0

    def __post_init__(self) -> None:
        times, probability, connection = self.times, self.probability, self.connection
        if not is_whole(self.skip) or self.skip < 0:
            raise ValueError(f"skip={self.skip!r}: it is how many calls go well before, 0 or more")
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
        #: A sequence is done once.
        self.times = criteria.times or len(action.steps) or None
        self.random = random.Random(criteria.seed)
        self.starts_at: float | None = None  #: on the server's clock
        self.met = 0  #: how many calls it was done to
        self.asked = criteria.key is None  #: a command was about its key
        self.told = False  #: what is wrong with it
        self._skipped = 0
        self._seeded: dict[int, random.Random] = {}
        self._lock = threading.Lock()

    def begin(self, now: float) -> None:
        """Have it happen from now on, or from when it shall."""
        if self.starts_at is None:
            self.starts_at = now + self.criteria.after_s

    def take(self, call: Call, now: float) -> Action | None:
        """Return what happens to that call, if it does; each question uses up its chance."""
        criteria = self.criteria
        self.look(call)
        with self._lock:
            if (
                (self.times is not None and self.met >= self.times)
                or (criteria.connection is not None and call.connection != criteria.connection)
                or not criteria.fits(call)
                or now < (self.starts_at or 0.0)
            ):
                return None
            if self._skipped < criteria.skip:
                self._skipped += 1
                return None
            if criteria.probability < 1 and self.random.random() >= criteria.probability:
                return None
            steps = self.action.steps
            action = steps[self.met % len(steps)] if steps else self.action
            self.met += 1
        return self.choose(action)

    def choose(self, action: Action) -> Action:
        """Return an action with the seconds that chance has chosen."""
        seconds = action.seconds
        if not callable(seconds):
            return action
        source = self.random
        if action.seed is not None:
            source = self._seeded.setdefault(id(action), random.Random(action.seed))
        chosen = seconds(source)
        actions.check_seconds("delay", chosen)
        return replace(action, seconds=chosen)

    def look(self, call: Call) -> None:
        """Take note whether a call is about the key, whatever becomes of it."""
        self.asked = self.asked or self.criteria.is_about(call)

    def judge(self, calls: Sequence[Call], forgotten: int) -> Finding | None:
        """Return what is wrong with a fault that is over, if something is; once."""
        times = self.times
        unused = times is not None and self.met < times and self.criteria.required
        if self.told or (self.asked and not unused):
            return None
        self.told = True
        try:
            near = Expected(self.criteria).nearest(calls, forgotten)
        except BaseException as error:  # out of a function of the key; pytest's are no exceptions
            if _interrupted(error):
                raise
            near = f"there were: {describe(calls)}"
        if not self.asked:
            text = f"{self.origin}: no command asked for that key; {near}"
            return Finding(text, self.origin.place, harmless=not unused)
        happened = f"happened {self.met} of {times} times" if self.met else "never happened"
        return Finding(
            f"{self.origin} {happened}; write required=False if that is all right; {near}",
            self.origin.place,
        )


@dataclass(slots=True)
class Failure:
    """What went wrong in a function of the test, as it does for one call after the other."""

    origin: Origin
    call: Call  #: the first one
    error: BaseException
    words: str
    more_calls: int = 0

    def as_finding(self) -> Finding:
        """Return it as it is told."""
        calls = str(self.call)
        if self.more_calls:
            calls += f", and for {self.more_calls} more"
        text = f"{self.origin}: the function failed for {calls}: {self.words}"
        return Finding(text, self.origin.place, self.error)


class Picked(NamedTuple):
    """What happens to one call, and by which fault."""

    rule: Rule
    action: Action
    keys: tuple[bytes, ...]  #: of the call, which the fault is about


def _interrupted(error: BaseException) -> bool:
    """Return whether somebody wants the program to end: only the main thread is told."""
    return (
        isinstance(error, KeyboardInterrupt)
        and threading.current_thread() is threading.main_thread()
    )


#: Of faults that ended: how many calls they were done to.
_METS_MAX: Final = 10_000


class FaultTable:
    """The faults of one server, and what went wrong with them."""

    def __init__(self, now: Callable[[], float] = lambda: 0.0) -> None:
        """`now`: the server's clock, for those that wait."""
        self._now = now
        self._rules: dict[int, Rule] = {}
        self._mets: dict[int, int] = {}
        self._ended: list[Rule] = []  #: those about which something may have to be told
        #: By fault and words.
        self._failures: dict[tuple[int, str], Failure] = {}
        self._doubts: dict[int, Finding] = {}  #: of each fault
        self.asking: Origin | None = None  #: the fault whose functions may be at work
        #: Writes a line of the server's log.
        self.log_line: Callable[[str], None] = lambda line: None

    def add(self, number: int, criteria: Criteria, action: Action, origin: Origin) -> None:
        """Have a fault of that number happen from now on."""
        self.install(Rule(number, criteria, action, origin))

    def install(self, rule: Rule) -> None:
        """Have a fault happen from now on."""
        rule.begin(self._now())
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
        return [f"{rule.origin}, happened {_often(rule.met)}" for rule in self._rules.values()]

    def pick(self, call: Call) -> Picked | None:
        """Return the fault for a call: of several, the one that was there first.

        Whoever only looks has then looked.
        """
        picked: Picked | None = None
        now = self._now()
        for rule in list(self._rules.values()):
            self.asking = rule.origin
            try:
                if rule.action.kind == "look":
                    if rule.take(call, now) is not None:
                        _look(rule.action, call)
                elif picked is None:
                    action = rule.take(call, now)
                    if action is not None:
                        keys = rule.criteria.meant_by(call)
                        picked = Picked(rule, self._resolve(rule, call, action), keys)
                else:
                    rule.look(call)
            except BaseException as error:  # pytest's own are no exceptions
                if _interrupted(error):
                    raise
                self._fail(rule, call, error)
        self.asking = None
        return picked

    def _resolve(self, rule: Rule, call: Call, action: Action) -> Action:
        """Return what is to be done where a function says it, and have it look, too."""
        try:
            while action.kind == "look" or (
                action.kind == "reply" and not isinstance(action.reply, bytes)
            ):
                if action.kind == "look":
                    _look(action, call)
                    action = actions.ok()
                else:
                    action = rule.choose(_said(action.reply(call)))
            return action
        except BaseException as error:
            if _interrupted(error):
                raise
            words = self._fail(rule, call, error)
            told = f"{words} in {rule.origin.text}".encode(errors="replace")
            return Action("server_error", "", reply=told)

    def _fail(self, rule: Rule, call: Call, error: BaseException) -> str:
        """Take note of what a function of the test raised, or should not have returned."""
        words = in_a_line(error)
        rule.asked = True  # it may be a function of the key that failed: then nobody knows
        self.log_line(f"{rule.origin}: the function failed for {call}: {words}")
        failure = self._failures.get((rule.number, words))
        if failure is not None:
            failure.more_calls += 1
        elif len(self._failures) < _FAILURES_MAX:
            self._failures[rule.number, words] = Failure(rule.origin, call, error, words)
        return words

    def doubt(self, rule: Rule, words: str) -> None:
        """Take note of what looks as if it was not meant; of a fault, once."""
        if rule.number not in self._doubts:
            text = f"{rule.origin}: {words}"
            self.log_line(text)
            self._doubts[rule.number] = Finding(text, rule.origin.place, harmless=True)

    def take_findings(self, calls: Sequence[Call], forgotten: int) -> list[Finding]:
        """Return what is wrong so far, and was not told yet."""
        found = [failure.as_finding() for failure in self._failures.values()]
        self._failures = {}
        found += self._doubts.values()
        self._doubts = {}
        rules = [*self._ended, *self._rules.values()]
        self._ended = []
        return found + [
            each for rule in rules if (each := rule.judge(calls, forgotten)) is not None
        ]


def _often(times: int) -> str:
    return "once" if times == 1 else f"{times} times"


def _look(action: Action, call: Call) -> None:
    """Have a function see a call."""
    seen = action.reply(call)
    if inspect.iscoroutine(seen):
        seen.close()
        raise TypeError("it returned a coroutine, for which nobody waits; write def")


def _said(said: object) -> Action:
    """Return what a function wants to have done, or say what is wrong with it."""
    if isinstance(said, bytes):
        return actions.reply(said)
    if inspect.iscoroutine(said):
        said.close()
    if not isinstance(said, Action) and not callable(said):
        raise TypeError(
            f"it returned {said!r}; return bytes, such as b'END\\r\\n', or `ok` of"
            " pymcd.testing.actions to let the call through"
        )
    action = actions.as_action(said)
    if action.kind == "sequence":
        raise TypeError(f"it returned {action.text}; return what is to be done to this call")
    return action


#: Different ones; more help nobody.
_FAILURES_MAX: Final = 20


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

    def __init__(
        self,
        remove: Callable[[], int],
        met: Callable[[], int],
        text: str,
        is_over: Callable[[], bool] = lambda: False,
    ) -> None:
        """`text`: how it was written, and where; `is_over`: it was ended with all others."""
        self._remove = remove
        self._count = met
        self._text = text
        self._is_over = is_over
        self._met: int | None = None

    @property
    def active(self) -> bool:
        """Whether it was not removed yet, by `reset()` or `stop()` either."""
        return self._met is None and not self._is_over()

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

    Of several faults that fit a call, the one that was made first happens; those that are used up
    are none. None answers a client that asked for no answer (`noreply`).

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

    def __repr__(self) -> str:
        return f"<FaultBuilder {self.origin}: not told what to do>"

    if not TYPE_CHECKING:  # there it is known that a block is none of a builder's

        def __enter__(self) -> NoReturn:
            self._told(self)  # in what is raised here
            with_action = f"with server.{self.origin.text}.drop():"
            raise TypeError(f"{self.origin.text} was not told what to do: write `{with_action}`")

        def __exit__(self, *failure: object) -> None:
            pass  # asked for before

    def _install(
        self, make: Callable[Arguments, Action], *wanted: Arguments.args, **more: Arguments.kwargs
    ) -> Fault:
        self._told(self)
        action = make(*wanted, **more)
        return self._add(action, self.origin._replace(text=f"{self.origin.text}.{action.text}"))

    def delay(self, seconds: Seconds, *, seed: int | None = None) -> Fault:
        """Execute and answer so many seconds later, on the server's clock.

        A function of a `random.Random`, such as `uniform(0.01, 0.2)` of `pymcd.testing.actions`,
        chooses them anew for each call: the same ones with the same `seed`.
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
        return self._install(actions.delay, seconds, seed=seed)

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

    def reply(self, reply: bytes | Callable[[Call], bytes | Step]) -> Fault:
        """Answer this instead of executing: bytes, or what a function makes of the `Call`.

        It may also return what shall be done, of `pymcd.testing.actions`: `ok` lets it through.

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

    def server_error(self, words: str = "busy") -> Fault:
        """Answer with an error of the server, in the words of the client's protocol.

        >>> with MemcachedServer() as server, closing(Client(server.address)) as client:
        ...     with server.fault().server_error("busy"):
        ...         client.get("a")
        Traceback (most recent call last):
        MemcacheServerError: b'busy'
        """
        return self._install(actions.server_error, words)

    def miss(self) -> Fault:
        """Execute and answer as if no item was there; if nothing is stored by that, it still is.

        With `key=`, a get of several keys finds the other ones.

        >>> with MemcachedServer() as server, closing(Client(server.address)) as client:
        ...     server.put("a", b"1")
        ...     with server.fault(command="get").miss():
        ...         client.get("a") is None
        ...     client.get("a")
        True
        b'1'
        """
        return self._install(actions.miss)

    def chunks(self, size: int) -> Fault:
        """Execute, and send the answer in parts of so many bytes, each by itself.

        >>> with MemcachedServer() as server, closing(Client(server.address)) as client:
        ...     with server.fault(command="get").chunks(1):
        ...         client.get("a") is None
        True
        """
        return self._install(actions.chunks, size)

    def bandwidth(self, bytes_s: int) -> Fault:
        """Execute, and send no more than so many bytes a second, on the server's clock.

        >>> import socket
        >>> with MemcachedServer(clock="frozen") as server:
        ...     fault = server.fault().bandwidth(8)
        ...     with socket.create_connection(server.address) as client:
        ...         client.sendall(b"version\\r\\n")
        ...         call = server.wait_for("version")
        ...         server.advance(1)
        ...         client.recv(100)
        b'VERSION '
        """
        return self._install(actions.bandwidth, bytes_s)

    def sequence(self, *steps: Step) -> Fault:
        """Do one after the other, each to one call; then the fault is over.

        With `times` it goes round until there were so many calls.

        >>> from pymcd.testing.actions import ok, server_error
        >>> with MemcachedServer() as server, closing(Client(server.address)) as client:
        ...     fault = server.fault(command="get").sequence(ok, server_error("busy"), ok)
        ...     for attempt in range(3):
        ...         try:
        ...             print(client.get("a"))
        ...         except Exception as error:
        ...             print(error)
        None
        b'busy'
        None
        """
        return self._install(actions.sequence, *steps)

    def look(self, function: Callable[[Call], object]) -> Fault:
        """Have a function see each call before it is executed; what it returns changes nothing.

        All functions that look see a call, whatever else happens to that.

        >>> with MemcachedServer() as server, closing(Client(server.address)) as client:
        ...     seen = []
        ...     with server.fault(command="get").look(seen.append):
        ...         value = client.get("a")
        >>> [str(call) for call in seen]
        ['get a']
        """
        return self._install(actions.look, function)
