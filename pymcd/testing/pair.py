"""`MemcachedPair`: two servers that replicate, on one clock, over real sockets."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from datetime import timedelta
from operator import attrgetter
from typing import TYPE_CHECKING, Any, Literal, Self

from ..replication.roles import ALONE
from .actions import Action
from .calls import Call
from .checks import duration, is_number
from .clocks import FakeClock, monotonic
from .controls import FaultOwner, good_seconds
from .faults import Criteria, Fault, Origin, Rule
from .findings import caller, tell
from .lives import Life
from .plan import PairPlan, method_taking
from .record import CallLog
from .server import MemcachedServer
from .skipping import is_cut_short
from .surroundings import check_system, why_no_thread

if TYPE_CHECKING:
    from .childhost import ChildHost
    from .findings import Finding
    from .ports import Port

Which = Literal["a", "b"]

_HOST = "127.0.0.1"
_LOOK_EVERY_S = 0.001
#: A machine that runs tests stands still at times, and that shall not look like the end of a node.
_PATIENT = ("--replication-ack-timeout", "0.25")


class MemcachedPair(FaultOwner, Life):
    """Two servers that behave as one: each is the other's peer, over sockets of loopback.

    A context manager; on entry they are in sync. `a` and `b` are each a `MemcachedServer`.

    >>> from pymcd.testing import MemcachedPair
    >>> with MemcachedPair() as pair:
    ...     pair.a.put("session", b"alice")
    ...     pair.kill("a")
    ...     pair.b.get("session").value
    b'alice'

    Args:
        memory_limit: Of each server, in megabytes.
        max_item_size: In bytes, or "2m".
        protocol: "auto", "ascii" or "binary", of both.
        users: Names and passwords for both, as of a `MemcachedServer`.
        tls: True for a certificate made for this test (`tls_ca_file` is its authority), or the
            paths of a certificate chain and its key. The servers talk to each other without.
        clock: "real", "frozen" or "host"; both servers share it. Replication itself goes by real
            time.
        process: Run both in one process of its own, as they do by themselves where gevent or
            eventlet have replaced threads, and in a subinterpreter.
        options: Further options of both, such as `["--replication-ack", "strict"]`. The
            acknowledgement time-out is 0.25 s here, so that a slow machine is no failure; a node
            that is killed is replaced after that time.
    """

    @method_taking(PairPlan)
    def __init__(self, plan: PairPlan) -> None:
        arguments = {**vars(plan), "host": _HOST, "options": [*_PATIENT, *plan.options]}
        arguments["process"] = False  # each: it is the pair that runs in one
        self.a, self.b = MemcachedServer(**arguments), MemcachedServer(**arguments)
        self.a._partner, self.b._partner = self.b, self.a
        super().__init__()
        #: Faults of both, which are also those of a server that is restarted.
        self._rules: dict[int, Rule] = {}
        self._plan = plan
        self._child: ChildHost | None = None
        self._link_ports: list[Port] = []

    # -- life ----------------------------------------------------------------------------------

    def start(self) -> Self:
        """Start both; return when they are in sync.

        >>> pair = MemcachedPair().start()
        >>> pair.stop()
        """
        if self._link_ports or self._child is not None:
            raise RuntimeError("the pair runs already; stop() it first, or start another one")
        check_system()
        self._begin()
        try:
            plan = self._plan
            if plan.tls is True:
                from .certificates import Certificates

                self.a._certificates = self.b._certificates = Certificates(_HOST)
                plan = self.a._certificates.add_to(plan)
            if plan.process or why_no_thread() is not None:
                self._start_child(plan)
            else:
                self._start_threads()
        except BaseException:
            self.stop()
            raise
        return self

    def _start_child(self, plan: PairPlan) -> None:
        from .childhost import ChildHost

        self._child = ChildHost(plan)
        for which, server in (("a", self.a), ("b", self.b)):
            server._in_child = True
            server._port_number = self._child.port[which]
            self._attach(which)

    def _attach(self, which: str) -> None:
        """Have a server be one in the child."""
        from .childhost import ChildOfPair

        assert self._child is not None
        self._server(which)._host = ChildOfPair(self._child, which)

    def _start_threads(self) -> None:
        from .ports import Port

        clock = FakeClock(self._plan.clock)
        self._link_ports = [Port(_HOST), Port(_HOST)]
        own, other = (f"{_HOST}:{port.number}" for port in self._link_ports)
        for server, name, mine, theirs in (
            (self.a, "a", own, other),
            (self.b, "b", other, own),
        ):
            server._clock = clock
            server._settings = {
                "node_id": name,
                "replication_listen": (mine,),
                "peers": (theirs,),
            }
            server.start()
        self.wait_in_sync()

    def stop(self) -> None:
        """Stop both; nothing is left behind. Doing so twice is harmless.

        >>> pair = MemcachedPair().start()
        >>> pair.stop()
        """
        self._over()
        self._clearings += 1
        self._rules.clear()
        ports, self._link_ports = self._link_ports, []
        child, self._child = self._child, None
        with ExitStack() as stopping:
            if child is not None:
                stopping.callback(child.stop)
            for port in ports:
                stopping.callback(port.close)
            stopping.callback(self.b.stop)
            stopping.callback(self.a.stop)

    def __enter__(self) -> Self:
        """Start on entry and stop on exit."""
        return self.start()

    def __exit__(self, *failure: object) -> None:
        __tracebackhide__ = True
        self.stop()
        if not any(failure) and not is_cut_short(self.a):
            tell(self._take_findings())

    async def __aenter__(self) -> Self:
        """Start on entry and stop on exit, as without `async`."""
        return self.__enter__()

    async def __aexit__(self, *failure: object) -> None:
        self.__exit__(*failure)

    def __repr__(self) -> str:
        return f"<MemcachedPair {self.a!r} {self.b!r}>"

    def verify(self) -> None:
        """Raise `VerifyError` if the test has not tested what it says; as with one server.

        >>> with MemcachedPair() as pair:
        ...     pair.verify()
        """
        __tracebackhide__ = True
        found = self._take_findings()
        if not is_cut_short():
            tell(found)

    def _take_findings(self) -> list[Finding]:
        untold = self._take_untold()
        return [*untold, *self.a._take_findings(), *self.b._take_findings()]

    # -- what happens to it --------------------------------------------------------------------

    def wait_in_sync(self, timeout: float = 5.0) -> None:
        """Return when each server holds everything that the other does; else `TimeoutError`.

        >>> with MemcachedPair() as pair:
        ...     pair.kill("b")
        ...     pair.a.put("a", b"1")
        ...     pair.restart("b")
        ...     pair.wait_in_sync()
        ...     pair.b.get("a").value
        b'1'
        """
        duration("timeout", timeout)
        self._both("wait_in_sync()")
        if not self._within(timeout, lambda: self.a._ask("settled") and self.b._ask("settled")):
            roles = f"a is {self.a._ask('role')}, b is {self.b._ask('role')}"
            raise TimeoutError(
                f"the pair was not in sync within {timeout:g} s: {roles};"
                " a partition must be removed before"
            )

    def partition(self) -> Fault:
        """Cut the link, so that each server serves by itself until the `Fault` is removed.

        >>> with MemcachedPair() as pair:
        ...     with pair.partition():
        ...         pair.a.put("a", b"1")
        ...         pair.b.get("a") is None
        ...     pair.wait_in_sync()
        ...     pair.b.get("a").value
        True
        b'1'
        """
        servers = self._both("partition()")
        for server in servers:
            server._ask("links.cut_all")
        # Each first waits whether the other comes back at once.
        self._within(5.0, lambda: all(server._ask("role") == ALONE for server in servers))
        return _link_fault("partition()", servers, "links.mend")

    def delay_link(self, seconds: float) -> Fault:
        """Have everything between the servers arrive so much later, in real time.

        Later than the acknowledgement time-out, and they go on alone, as they do in production.

        >>> with MemcachedPair() as pair, pair.delay_link(0.01):
        ...     pair.a.put("a", b"1")
        ...     pair.b.get("a").value
        b'1'
        """
        if not is_number(seconds):
            raise TypeError(
                f"delay_link({seconds!r}): write a number of seconds, as in delay_link(0.05)"
            )
        if not 0 <= seconds < float("inf"):
            raise ValueError(
                f"delay_link({seconds!r}): that takes seconds, 0 or more;"
                " for a link that is dead there is partition()"
            )
        servers = self._both("delay_link()")
        for server in servers:
            server._ask("links.delay", seconds)
        return _link_fault(f"delay_link({seconds:g})", servers, "links.delay", 0.0)

    def kill(self, which: Which | str) -> None:
        """Kill one server, "a" or "b", as `kill -9` does; its address stays reserved.

        >>> with MemcachedPair() as pair:
        ...     pair.kill("a")
        ...     pair.b.stats("replication")["role"] != ""
        True
        """
        server = self._server(which)
        server._running()
        server._end()

    def restart(self, which: Which | str) -> None:
        """Start a server that was killed, empty and at the same address; or kill it before.

        Returns when it lets clients in, which is when it is in sync with the other. If that one is
        dead, too, it returns at once: clients are let in when both are back.

        >>> with MemcachedPair() as pair:
        ...     pair.restart("a")
        ...     pair.wait_in_sync()
        """
        server = self._server(which)
        self._check_running()
        server._end()
        if self._child is not None:
            self._child.ask("pair:restart", which)
            self._attach(which)
            return
        server._start()
        for rule in self._rules.values():
            server._ask("script.faults.install", rule)
        other = self.b if server is self.a else self.a
        if not other._is_running:
            return
        if not self._within(10.0, lambda: server._ask("accepting")):
            raise TimeoutError(
                f"{which} found no peer in sync within 10 s, and lets no client in;"
                " a partition must be removed before"
            )

    def reset(self) -> None:
        """Be as after the start: both run, in sync and on a clock that is set back.

        No items, statistics, faults or calls. Clients stay connected, but to one that was killed.

        >>> with MemcachedPair() as pair:
        ...     pair.a.put("a", b"1")
        ...     pair.kill("b")
        ...     pair.reset()
        ...     pair.b.items()
        {}
        """
        self._check_running()
        for owner in (self, self.a, self.b):
            owner._clearings += 1
        if self._child is not None:
            self._child.ask("pair:reset")
            self._builders.clear()
            for which in ("a", "b"):
                self._attach(which)
            return
        for rule in list(self._rules.values()):
            self._end_fault(rule)
        self._builders.clear()
        running = [server for server in (self.a, self.b) if server._host is not None]
        for server in running:
            server._ask("calm")
        for name, server in zip("ab", (self.a, self.b), strict=True):
            if server not in running:
                self.restart(name)
        self.wait_in_sync()
        self.a._set_clocks(0.0)
        self.a._ask("flush")
        self.wait_in_sync()
        for server in (self.a, self.b):
            server._ask("forget")

    @property
    def calls(self) -> CallLog:
        """What clients said to either, in the order in which it was heard.

        >>> with MemcachedPair() as pair:
        ...     for server in (pair.b, pair.a):
        ...         client = Client(server.address, default_noreply=False)
        ...         value = client.get("a")
        ...         client.close()
        ...     len(pair.calls.of("get", "a"))
        2
        """
        return CallLog(_CallsOfBoth([self.a.calls, self.b.calls]))

    def _add_fault(self, rule: Rule) -> Fault:
        """Have one fault happen at both: `times` is of all calls."""
        self._check_running()
        number, child = rule.number, self._child
        if child is not None:
            child.ask("pair:_install_fault", number, rule.criteria, rule.action, rule.origin)
            return Fault(
                lambda: int(child.ask("pair:_remove_fault", number)),
                lambda: int(child.ask("pair:_met", number)),
                str(rule.origin),
                self._until_cleared(),
            )
        self._rules[number] = rule
        for server in (self.a, self.b):
            if server._host is not None:
                server._ask("script.faults.install", rule)
        return Fault(
            lambda: self._end_fault(rule),
            lambda: rule.met,
            str(rule.origin),
            self._until_cleared(),
        )

    # Asked for by name from another process, which cannot send a rule.

    def _install_fault(
        self, number: int, criteria: Criteria, action: Action, origin: Origin
    ) -> None:
        self._add_fault(Rule(number, criteria, action, origin))

    def _remove_fault(self, number: int) -> int:
        rule = self._rules.get(number)
        return 0 if rule is None else self._end_fault(rule)

    def _met(self, number: int) -> int:
        rule = self._rules.get(number)
        return 0 if rule is None else rule.met

    def _end_fault(self, rule: Rule) -> int:
        self._rules.pop(rule.number, None)
        for server in (self.a, self.b):
            if server._host is not None:
                server._ask("script.remove_fault", rule.number)
        return rule.met

    def advance(self, seconds: float | timedelta) -> None:
        """Let time pass for the items of both.

        >>> with MemcachedPair() as pair:
        ...     pair.a.put("a", b"1", ttl=60)
        ...     pair.advance(61)
        ...     pair.a.get("a"), pair.b.get("a")
        (None, None)
        """
        seconds = good_seconds(seconds)
        running = [server for server in (self.a, self.b) if server._host is not None]
        if not running:
            raise RuntimeError("the pair is not running; write `with MemcachedPair() as pair:`")
        # One clock: the second server has only to see what is due by now.
        running[0]._ask("advance", seconds, caller())
        for server in running[1:]:
            server._ask("catch_up")

    @property
    def now(self) -> float:
        """The time of both, in seconds of Unix time.

        >>> with MemcachedPair(clock="frozen") as pair:
        ...     pair.now == pair.a.now == pair.b.now
        True
        """
        return (self.a if self.a._host is not None else self.b).now

    @property
    def tls_ca_file(self) -> str:
        """With `tls=True`: the file with the authority of both, that clients must trust.

        >>> with MemcachedPair(tls=True) as pair:
        ...     pair.tls_ca_file == pair.a.tls_ca_file == pair.b.tls_ca_file
        True
        """
        return self.a.tls_ca_file

    # -- helpers -------------------------------------------------------------------------------

    def _server(self, which: str) -> MemcachedServer:
        if which not in ("a", "b"):
            raise ValueError(f'there is no server {which!r}; write "a" or "b"')
        return self.a if which == "a" else self.b

    def _check_running(self) -> None:
        if not self._link_ports and self._child is None:
            raise RuntimeError("the pair is not running; write `with MemcachedPair() as pair:`")

    def _both(self, what: str) -> list[MemcachedServer]:
        servers = [self.a, self.b]
        for name, server in zip("ab", servers, strict=True):
            if server._host is None:
                raise RuntimeError(
                    f"{what} is about two servers, and {name} does not run;"
                    f' write restart("{name}") first'
                )
        return servers

    @staticmethod
    def _within(timeout_s: float, condition: Callable[[], Any]) -> bool:
        until = monotonic() + timeout_s
        while not condition():
            if monotonic() > until:
                return False
            time.sleep(_LOOK_EVERY_S)
        return True


class _CallsOfBoth:
    """The calls of several servers, as the source of one log."""

    def __init__(self, logs: Sequence[CallLog]) -> None:
        self._logs = logs

    def snapshot(self) -> list[Call]:
        return sorted((call for log in self._logs for call in log), key=attrgetter("order"))

    def at(self, index: Any) -> Any:
        return self.snapshot()[index]

    def count(self) -> int:
        return sum(map(len, self._logs))

    def forgotten(self) -> int:
        return sum(log.forgotten for log in self._logs)

    def clear(self) -> None:
        for log in self._logs:
            log.clear()


def _link_fault(text: str, servers: list[MemcachedServer], undo: str, *arguments: Any) -> Fault:
    """Return the fault that is undone by a call of each server's engine."""

    def remove() -> int:
        for server in servers:
            if server._host is not None:  # a new one knows nothing of it
                server._ask(undo, *arguments)
        return 0

    return Fault(remove, lambda: 0, text)
