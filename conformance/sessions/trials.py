"""What is done to applications and their servers, and what their users must not lose.

A trial takes a `Run`, a `Kind` and, where it does not start a pair itself, the address of a
server. All figures bear the kind's name. A kind that is not recommended is there to show what it
loses: its figures have no bar.
"""

from __future__ import annotations

import contextlib
import itertools
import signal
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from conformance.clock import now_s
from conformance.front.haproxy import HAProxy, active_active, checked, documented, led_back
from conformance.pair.nodes import Pair
from conformance.servers import PYMCD, Server, find_memcached
from conformance.trial import TrialError, free_port, until

from .app import App
from .users import Crowd, User, make_users

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from conformance.trial import Run

    from .app import Kind

USERS = 12
BYSTANDERS = 30
#: Long enough that the request right after the first one comes before the end.
SHORT_LIFETIME_S = 4
FROZEN_S = 8.0
#: Longer than the ten seconds for which the applications repeat what failed.
OUTAGE_S = 13.0
AT_ONCE = 8


def _bar(kind: Kind, most: float = 0) -> float | None:
    return most if kind.recommended else None


def _loses(run: Run, kind: Kind, what: str, lost: Sequence[str], of: str = "") -> None:
    run.figure(f"{kind.name}: {what}", len(lost), _bar(kind), of=of)
    if kind.recommended:
        run.problem(*lost)
    else:
        for line in lost[:3]:
            run.say(line)


# -- one application, one server -----------------------------------------------------------------


def servers() -> Iterator[tuple[str, tuple[str, ...]]]:
    """Name the servers that stand alone, and their commands; memcached where there is one."""
    if command := find_memcached():
        yield "memcached", command
    yield "pymcd", PYMCD


def _servers(kind: Kind) -> Iterator[tuple[str, Server]]:
    """Yield servers for clients of that kind. memcached has its users elsewhere: it knows none."""
    for name, command in servers():
        if kind.way.login is None or name == "pymcd":
            yield name, Server(command, kind.way.switches(), kind.way.environment())


def alone(run: Run, kind: Kind) -> None:
    """All that sessions do, on one server: memcached, then pymcd."""
    if kind.two_addresses:
        return
    for name, server in _servers(kind):
        with server, App(kind, [server.address]) as app:
            everyday(run, kind, app, name)


def paired(run: Run, kind: Kind) -> None:
    """All that sessions do, on a pair that nothing happens to."""
    with Servers(kind) as servers_, App(kind, servers_.addresses) as app:
        everyday(run, kind, app, "pair")


def everyday(run: Run, kind: Kind, app: App, server: str) -> None:
    """Users at work, big sessions, and one session at several workers at once."""
    crowd = Crowd(make_users(app.urls, USERS, seed=run.seed), reads=20, rotations=10, logouts=10)
    with crowd:
        until("counts", lambda: crowd.counts >= run.count(300))
    crowd.settle()
    _loses(run, kind, f"{server}: lost", crowd.lost, f"{crowd.counts:,} counts")
    errors = [f"{count} times {error}" for error, count in crowd.errors.items()]
    _loses(run, kind, f"{server}: errors", errors, f"{crowd.requests:,} requests")
    _loses(run, kind, f"{server}: big sessions that went wrong", _big(app))
    _at_once(run, kind, app, server)


def _big(app: App) -> list[str]:
    (user,) = make_users(app.urls, 1)
    user.count()
    for size in (100, 10_000, 500_000, 100):
        user.ask(f"/put?bytes={size}")
        user.count()
    return user.lost


def _tabs(run: Run, app: App) -> tuple[User, list[User]]:
    """Return a user with a session in which 1 is counted, and others with the same session."""
    (first,) = make_users(app.urls, 1)
    first.count()
    return first, [
        User(app.urls, name=f"tab{number}", rng=run.rng(number), cookies=dict(first.cookies))
        for number in range(AT_ONCE)
    ]


def _at_once(run: Run, kind: Kind, app: App, server: str) -> None:
    """Requests of one session at once; who locks counts all of them."""
    first, same = _tabs(run, app)
    threads = [
        threading.Thread(target=lambda tab=tab: [tab.count("/count?wait_ms=20") for _ in range(3)])
        for tab in same
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    counted = sum(tab.counts for tab in same)
    left = first.ask("/read").n - 1
    what = f"{kind.name}: {server}: counts at once that are missing"
    run.figure(what, counted - left, 0 if kind.locking else None, of=f"{counted}")


def expiry(run: Run, kind: Kind) -> None:
    """Idle sessions end in time; on a pair also if the node that was told of it has died."""
    if not kind.two_addresses:
        for name, server in _servers(kind):
            with server:
                _expiry(run, kind, [server.address], name)
    with Servers(kind) as servers_:
        pair = servers_.pair
        assert pair is not None
        _expiry(run, kind, servers_.addresses, "pair", pair.nodes[0].kill)


def _expiry(
    run: Run,
    kind: Kind,
    addresses: Sequence[str],
    server: str,
    meanwhile: Callable[[], None] = lambda: None,
) -> None:
    with App(kind, addresses, lifetime_s=SHORT_LIFETIME_S) as app:
        (user,) = make_users(app.urls, 1)
        user.count()
        meanwhile()
        user.read()
        time.sleep(SHORT_LIFETIME_S + 2)
        answer = user.ask("/read")
    wrong = user.lost + [f"there after its end: {answer}"] * bool(answer.n)
    _loses(run, kind, f"{server}: ends of lifetimes that went wrong", wrong)


# -- a pair ---------------------------------------------------------------------------------------


@dataclass(slots=True)
class Servers:
    """A pair, and HAProxy in front of it unless the kind knows both nodes. A context manager.

    Args:
        both: whether HAProxy uses both nodes at a time.
    """

    kind: Kind
    both: bool = False
    pair: Pair | None = None
    proxy: HAProxy | None = None
    _stack: contextlib.ExitStack | None = None

    def __enter__(self) -> Self:
        with contextlib.ExitStack() as stack:
            way = self.kind.way
            self.pair = stack.enter_context(Pair(wired=False, settled=True, way=way))
            self.pair.wait_in_sync()
            if not self.kind.two_addresses:
                text = checked(documented(), way)
                ports = [node.port for node in self.pair.nodes]
                self.proxy = HAProxy(ports, active_active(text) if self.both else led_back(text))
                stack.enter_context(self.proxy)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *exc: object) -> None:
        assert self._stack is not None
        self._stack.close()

    @property
    def addresses(self) -> list[str]:
        """What the application is told."""
        assert self.pair is not None
        if self.proxy is not None:
            return [self.proxy.address]
        return [node.address for node in self.pair.nodes]


class Watch:
    """Users of an application on a pair while something happens: who works, and who only waits.

    Bystanders have a session, some of them one that they ended, and look at it once, when all is
    over: what nobody has written since must be there as well.
    """

    def __init__(self, run: Run, kind: Kind, app: App) -> None:
        self._run, self._kind, self._app = run, kind, app
        everybody = make_users(app.urls, USERS + BYSTANDERS, seed=run.seed)
        self.crowd = Crowd(everybody[:USERS])
        self._bystanders = everybody[USERS:]
        for number, user in enumerate(self._bystanders):
            user.count()
            if number % 3 == 0:
                user.logout()
        self._reached = 0

    def work(self, counts: int) -> None:
        """Wait until the crowd has counted so much further."""
        self._reached = self.crowd.counts + counts
        until("users go on", lambda: self.crowd.counts >= self._reached)

    def look(self) -> list[str]:
        """Everybody looks a last time; return what was lost."""
        self.crowd.settle()
        lost = list(self.crowd.lost)
        for user in self._bystanders:
            user.read()
            user.look_back()
            lost += user.lost
        return lost

    def tell(self, what: str, *, silent: bool = True) -> None:
        """Everybody looks a last time; give the figures. `silent`: there need be no error."""
        lost = self.look()
        of = f"{self.crowd.counts:,} counts and {BYSTANDERS} sessions at rest"
        _loses(self._run, self._kind, f"{what}: lost", lost, of)
        errors = self.crowd.errors
        for error, count in errors.most_common(3) + self._app.exceptions().most_common(5):
            self._run.say(f"{count} times {error[:200]}")
        name = f"{self._kind.name}: {what}"
        requests = f"{self.crowd.requests:,} requests"
        most = 0 if self._kind.silent and silent else None
        self._run.figure(f"{name}: errors seen", errors.total(), most, of=requests)
        self._run.figure(f"{name}: longest outage", self.crowd.longest_outage_s(), unit="s")


def kills(run: Run, kind: Kind) -> None:
    """kill -9 of one node, its empty return, kill -9 of the other, and so on; users at work."""
    _kills(run, kind, both=False, what="kill -9")


def kills_both(run: Run, kind: Kind) -> None:
    """The same with HAProxy using both nodes at a time."""
    if not kind.two_addresses:
        _kills(run, kind, both=True, what="kill -9, both nodes used")


def _kills(run: Run, kind: Kind, *, both: bool, what: str) -> None:
    with Servers(kind, both=both) as servers_, App(kind, servers_.addresses) as app:
        pair = servers_.pair
        assert pair is not None
        watch = Watch(run, kind, app)
        with watch.crowd:
            watch.work(run.count(60))
            for victim in itertools.islice(itertools.cycle((0, 1)), run.times(4)):
                pair.nodes[victim].kill()
                watch.work(run.count(120))
                pair.restart(victim)
                pair.wait_in_sync()
                # Who is in front of it finds out. To kill the other one before is another trial:
                # clients have nobody then, whoever lives.
                time.sleep(kind.settles_s)
                watch.work(run.count(60))
        watch.tell(what)


def tabs(run: Run, kind: Kind) -> None:
    """Requests of one session at once through two kills: who locks counts each of them once."""
    if not kind.locking:
        return
    with Servers(kind) as servers_, App(kind, servers_.addresses) as app:
        pair = servers_.pair
        assert pair is not None
        first, same = _tabs(run, app)

        def count(tab: User) -> None:
            tab.count("/count?wait_ms=20")

        crowd = Crowd(same, each=count)

        def work() -> None:
            reached = crowd.counts + run.count(30)
            until("tabs go on", lambda: crowd.counts >= reached)

        with crowd:
            work()
            for victim in (0, 1):
                pair.nodes[victim].kill()
                work()
                pair.restart(victim)
                pair.wait_in_sync()
                time.sleep(kind.settles_s)
                work()
        # Not all of the requests that were answered with an error did nothing.
        unknown = crowd.errors.total()
        until("the session can be read", lambda: first.read() is not None)
        more = first.ask("/read").n - 1 - crowd.counts
        name = f"{kind.name}: kill -9, one session"
        run.figure(f"{name}: counts missing", max(0, -more), _bar(kind), of=f"{crowd.counts}")
        run.figure(
            f"{name}: counts twice", max(0, more - unknown), _bar(kind), of=f"{crowd.counts}"
        )
        run.figure(f"{name}: errors seen", unknown, of=f"{crowd.requests:,} requests")
        run.figure(f"{name}: longest outage", crowd.longest_outage_s(), unit="s")


def restart(run: Run, kind: Kind) -> None:
    """One node after the other is told to stop, and started again: an upgrade."""
    with Servers(kind) as servers_, App(kind, servers_.addresses) as app:
        pair = servers_.pair
        assert pair is not None
        watch = Watch(run, kind, app)
        with watch.crowd:
            watch.work(run.count(60))
            for number in (0, 1):
                pair.nodes[number].signal(signal.SIGTERM)
                pair.nodes[number].wait()
                watch.work(run.count(120))
                pair.restart(number)
                pair.wait_in_sync()
                time.sleep(kind.settles_s)
                watch.work(run.count(60))
        watch.tell("both restarted")


def workers(run: Run, kind: Kind) -> None:
    """kill -9 of one worker of the application after the other; its users go on at both."""
    with Servers(kind) as servers_, App(kind, servers_.addresses) as app:
        watch = Watch(run, kind, app)
        with watch.crowd:
            watch.work(run.count(60))
            for number in range(app.workers):
                app.kill(number)
                watch.work(run.count(60))
                app.restart(number)
                watch.work(run.count(60))
        # Nothing in front of the workers leads users away from a dead one.
        watch.tell("kill -9 of a worker", silent=False)
        if kind.locking:
            _left_lock(run, kind, app)


def _left_lock(run: Run, kind: Kind, app: App) -> None:
    """A worker dies while a request has the session's lock: for how long do others wait?"""
    (user,) = make_users(app.urls, 1)
    user.count()
    first, other = (User(app.urls, home, cookies=dict(user.cookies)) for home in (0, 1))
    thread = threading.Thread(target=lambda: first.count("/count?wait_ms=3000"))
    thread.start()
    time.sleep(1.0)
    app.kill(0)
    thread.join()
    other.acknowledged = user.acknowledged
    waited_s = until("the session is free", lambda: other.count() is not None)
    _loses(run, kind, "lock of a dead worker: lost", other.lost)
    run.figure(f"{kind.name}: lock of a dead worker: others wait for", waited_s, unit="s")


def freeze(run: Run, kind: Kind) -> None:
    """The node that clients talk to stands still for 8 s, and goes on."""
    with Servers(kind) as servers_, App(kind, servers_.addresses) as app:
        pair = servers_.pair
        assert pair is not None
        watch = Watch(run, kind, app)
        with watch.crowd:
            watch.work(run.count(60))
            pair.nodes[0].signal(signal.SIGSTOP)
            began_s = now_s()
            try:
                watch.work(run.count(60))
                time.sleep(max(0.0, began_s + FROZEN_S - now_s()))
            finally:
                pair.nodes[0].signal(signal.SIGCONT)
            pair.wait_in_sync()
            watch.work(run.count(120))
        watch.tell("a node frozen for 8 s")


def outage(run: Run, kind: Kind) -> None:
    """Both nodes stand still for longer than anybody waits: errors, but everybody keeps all."""
    with Servers(kind) as servers_, App(kind, servers_.addresses) as app:
        pair = servers_.pair
        assert pair is not None
        watch = Watch(run, kind, app)
        with watch.crowd:
            watch.work(run.count(60))
            try:
                for node in pair.nodes:
                    node.signal(signal.SIGSTOP)
                time.sleep(OUTAGE_S)
            finally:
                for node in pair.nodes:
                    node.signal(signal.SIGCONT)
            pair.wait_in_sync()
            watch.work(run.count(120))
        watch.tell(f"no node for {OUTAGE_S:g} s", silent=False)


def lone(run: Run, kind: Kind) -> None:
    """One server, which dies and comes back: the same users must notice that."""
    if kind.two_addresses:
        return
    switches = ["-p", str(free_port()), *kind.way.switches()]
    with (
        Server(PYMCD, switches, kind.way.environment()) as server,
        App(kind, [server.address]) as app,
    ):
        watch = Watch(run, kind, app)
        with watch.crowd:
            watch.work(run.count(60))
            server.stop()
            server.start()
            watch.work(run.count(60))
        lost = len(watch.look())
    least = None if kind.durable else 1
    run.figure(f"{kind.name}: one server, killed: lost", lost, least, at_least=True)


TRIALS = {
    "alone": alone,
    "paired": paired,
    "expiry": expiry,
    "kills": kills,
    "both": kills_both,
    "tabs": tabs,
    "restart": restart,
    "workers": workers,
    "freeze": freeze,
    "outage": outage,
    "lone": lone,
}


def run_all(run: Run, kinds: Sequence[Kind], names: Sequence[str]) -> None:
    """Run trials with all kinds of an application that can be had here.

    Raises:
        TrialError: none can be had.
    """
    missing = {kind.name: kind.why_not() for kind in kinds}
    there = [kind for kind in kinds if not missing[kind.name]]
    if not there:
        raise TrialError("; ".join(sorted(set(missing.values()))))
    for kind in there:
        for name in names:
            try:
                TRIALS[name](run, kind)
            except TrialError as error:
                if kind.recommended:
                    raise
                # That its users do not get on is what it is there to show.
                run.problem(f"{kind.name}: {name}: gave up: {str(error).splitlines()[0]}")
