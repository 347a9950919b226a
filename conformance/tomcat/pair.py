"""Two Tomcats, HAProxy, a pair: what users notice, and what must not be lost, when a node dies.

HAProxy has the configuration of docs/front.md: one node is used, the other waits. Two things
are told apart. Faults of the node in use cost its users a moment, which is a figure. Faults of the
other one are behind the back of the session manager, whose backups must not even be late.
"""

from __future__ import annotations

import contextlib
import functools
import signal
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from conformance.front.haproxy import HAProxy, active_active, checked, documented, led_back
from conformance.pair.load import store
from conformance.pair.nodes import Pair
from conformance.servers import PYMCD, Server
from conformance.sessions.users import Crowd, make_users
from conformance.trial import free_port, until

from .managers import access, non_sticky, sticky
from .people import busy, keep_on
from .process import KRYO, started, two_tomcats
from .together import count_together

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from conformance.trial import Run

    from .process import Tomcat

    Manager = Callable[[str], Mapping[str, object]]

USERS = 12
BYSTANDERS = 30
PEOPLE = 40
PAUSE_S = 0.05
FROZEN_S = 8.0
#: After so long all Tomcats have found the other node.
OUTAGE_S = 6.0
#: Beside sessions, so that the copy to a node that comes back takes a while.
FILL_ITEMS = 20_000
FILL_BYTES = 1024

#: When the session manager gives a backup up by default, and how long a fault may make them late.
LATE_S = 0.1
GRACE_S = 1.0
#: Answers without a backup that are further apart have different reasons.
APART_S = 1.0
BACKUPS = ("MEMCACHED_UPDATE", "NON_STICKY_AFTER_BACKUP")

#: What is tried, for the address of HAProxy.
STICKY = functools.partial(sticky, transcoderFactoryClass=KRYO)
NON_STICKY = functools.partial(
    non_sticky, locking="all", operationTimeout=5000, transcoderFactoryClass=KRYO
)
#: Connect again at once, where a connection was lost, and not after 2 s.
AT_ONCE = {"msm.maxReconnectDelay": 0}


@dataclass(slots=True)
class Stage:
    """What is on it, and when something happened to the node that is not in use."""

    pair: Pair
    proxy: HAProxy
    tomcats: Sequence[Tomcat]
    #: Times (time.monotonic) from which backups must not be late, and until when.
    quiet: list[tuple[float, float]] = field(default_factory=list)
    #: The first moments after a fault, when they may be.
    grace: list[tuple[float, float]] = field(default_factory=list)

    @contextlib.contextmanager
    def nobody_waits(self, grace_s: float = 0.0) -> Iterator[None]:
        """Do something after which, but for so long, backups must not be late."""
        fault_s = time.monotonic()
        yield
        self.grace.append((fault_s, fault_s + grace_s))
        self.quiet.append((fault_s + grace_s, time.monotonic()))

    def late(self, times: Sequence[tuple[float, float]]) -> tuple[list[str], int]:
        """Return the backups that were late, and the number of all, that began at these times."""
        lines, total = [], 0
        for tomcat in self.tomcats:
            for event in tomcat.statistics().events:
                began_s = event.at_s - event.taken_s
                if event.what not in BACKUPS or not any(a <= began_s < b for a, b in times):
                    continue
                total += 1
                if event.taken_s > LATE_S:
                    lines.append(f"{event.what} took {event.taken_s:.3f} s at {began_s:.3f}")
        return lines, total

    def unstored_s(self) -> float:
        """Return for how long at most a Tomcat answered, and stored nothing of it."""
        longest_s = 0.0
        for tomcat in self.tomcats:
            began_s = last_s = 0.0
            for event in tomcat.statistics().events:
                if event.what == "NOT_STORED":
                    if event.at_s - last_s > APART_S:
                        began_s = event.at_s
                    last_s = event.at_s
                    longest_s = max(longest_s, last_s - began_s)
        return longest_s

    def back(self, index: int) -> None:
        """Let a killed node come back, empty, until both it and HAProxy are well again."""
        self.pair.restart(index)
        self.pair.wait_in_sync()
        self.proxy.wait_up()


@contextlib.contextmanager
def stage(
    manager: Manager, *, both: bool = False, properties: Mapping[str, object] | None = None
) -> Iterator[Stage]:
    """Set up; `both`: HAProxy uses both nodes at a time; `properties` are java's."""
    with Pair(("-m", "256"), wired=False, settled=True) as pair:
        pair.wait_in_sync()
        text = checked(active_active(documented()) if both else led_back(documented()), pair.way)
        with HAProxy([node.port for node in pair.nodes], text) as proxy:
            attributes = {**manager(proxy.address), **access(pair.way)}
            tomcats = two_tomcats(attributes, properties=properties)
            with started(*tomcats):
                yield Stage(pair, proxy, tomcats)


class Watch:
    """Users at work, and others who look after their sessions when all is over."""

    def __init__(self, run: Run, on: Stage) -> None:
        self._run, self._on = run, on
        is_sticky = bool(on.tomcats[0].manager["sticky"])
        urls = [each.url for each in on.tomcats]
        count = USERS + BYSTANDERS
        everybody = make_users(urls, count, sticky=is_sticky, seed=run.seed)
        self.crowd = Crowd(everybody[:USERS], pause_s=PAUSE_S, each=busy)
        self.bystanders = everybody[USERS:]
        for number, user in enumerate(self.bystanders):
            user.count()
            if number % 3 == 0:
                user.logout()

    def work(self, counts: int) -> None:
        """Wait until the crowd has counted so much further, and the counts were stored."""
        reached = self._stored() + self._run.count(counts)
        until("users go on", lambda: self._stored() >= reached)

    def _stored(self) -> int:
        return self.crowd.counts - self.crowd.unstored

    def tell(self, what: str) -> None:
        """End it: a Tomcat dies, the other has all sessions from the pair. Give the figures."""
        run, tomcats = self._run, self._on.tomcats
        everybody = [*self.crowd.users, *self.bystanders]
        late, backups = self._on.late(self._on.quiet)
        excused, _ = self._on.late(self._on.grace)
        unstored_s = self._on.unstored_s()
        counters = [each.statistics().counters for each in tomcats]
        failures = sum(each["NumBackupFailures"] for each in counters)
        stored = sum(each["BackupCount"] for each in counters)
        tomcats[0].kill()
        keep_on(everybody, 1)
        for user in everybody:
            user.look_back()
        lost = [line for user in everybody for line in user.lost]
        kept = sum(not user.lost for user in everybody)
        crowd = self.crowd
        of = f"{crowd.counts:,} counts, {len(everybody)} users"
        run.figure(f"{what}: acknowledged lost or stale, ended ones back", len(lost), 0, of=of)
        run.problem(*lost)
        people = len(everybody)
        run.figure(f"{what}: users who keep all of it", kept, people, at_least=True, of=f"{people}")
        if self._on.quiet:
            run.figure(
                f"{what}: backups later than 100 ms, from {GRACE_S:g} s after a fault elsewhere",
                len(late),
                0,
                of=f"{backups:,}",
                timed=True,
            )
            run.problem(*late)
            run.figure(f"{what}: and within that second", len(excused))
        run.figure(f"{what}: backups that failed", failures, of=f"{int(stored + failures):,}")
        run.figure(f"{what}: answers without a backup", crowd.unstored, of=f"{crowd.requests:,}")
        run.figure(f"{what}: nothing stored, at most for", unstored_s, unit="s")
        run.figure(f"{what}: errors seen", crowd.errors.total(), of=f"{crowd.requests:,}")
        for error, count in crowd.errors.most_common(3):
            run.say(f"{count} times {error}")
        run.figure(f"{what}: longest wait of a user", crowd.longest_outage_s(), unit="s")


# -- trials ----------------------------------------------------------------------------------------


def _fill(run: Run, pair: Pair) -> None:
    value = b"x" * FILL_BYTES
    requests = (
        b"set fill:%d 0 0 %d\r\n%b\r\n" % (number, len(value), value)
        for number in range(run.count(FILL_ITEMS))
    )
    store(pair.nodes[0], list(requests))


def kills(run: Run, manager: Manager, what: str) -> None:
    """kill -9 of the node in use and of the other, their empty return; users at work."""
    with stage(manager) as on:
        _fill(run, on.pair)
        watch = Watch(run, on)
        with watch.crowd:
            watch.work(60)
            for number in range(run.times(2)):
                run.say(f"{what} {number}: the other node dies")
                with on.nobody_waits(GRACE_S):
                    on.pair.nodes[1].kill()
                    watch.work(200)
                with on.nobody_waits():
                    on.back(1)
                    watch.work(60)
                run.say(f"{what} {number}: the node in use dies")
                on.pair.nodes[0].kill()
                watch.work(200)
                # Now its clients are led back, which costs them their connections once more.
                on.back(0)
                watch.work(200)
        watch.tell(what)


def kills_both(run: Run, manager: Manager, what: str) -> None:
    """The same while each Tomcat writes to a node of its own."""
    with stage(manager, both=True) as on:
        watch = Watch(run, on)
        with watch.crowd:
            watch.work(60)
            for victim in (0, 1) * run.times(2):
                on.pair.nodes[victim].kill()
                watch.work(200)
                on.back(victim)
                watch.work(100)
        watch.tell(what)


def freeze(run: Run, manager: Manager, what: str) -> None:
    """Each node stands still for 8 s and goes on, first the one that is not in use."""
    with stage(manager) as on:
        watch = Watch(run, on)
        with watch.crowd:
            watch.work(60)
            with on.nobody_waits(GRACE_S), frozen(run, on.pair, 1):
                watch.work(60)
            with on.nobody_waits():
                on.pair.wait_in_sync()
                on.proxy.wait_up()
                watch.work(60)
            with frozen(run, on.pair, 0):
                watch.work(60)
            on.pair.wait_in_sync()
            on.proxy.wait_up()
            watch.work(120)
        watch.tell(what)


@contextlib.contextmanager
def frozen(run: Run, pair: Pair, index: int) -> Iterator[None]:
    """Stop a node's process for FROZEN_S, or until the body has ended."""
    ends_s = time.monotonic() + max(FROZEN_S * min(run.scale, 1.0), 2.0)
    pair.nodes[index].signal(signal.SIGSTOP)
    try:
        yield
        time.sleep(max(0.0, ends_s - time.monotonic()))
    finally:
        pair.nodes[index].signal(signal.SIGCONT)


def host(run: Run) -> None:
    """A host dies with the node in use and a Tomcat on it; users go on at the other Tomcat."""
    for what, manager, keeps in (
        ("sticky, operationTimeout 5000", _patient, True),
        ("sticky, operationTimeout 1000", STICKY, False),
        ("non-sticky, operationTimeout 5000", NON_STICKY, True),
    ):
        with stage(manager) as on:
            watch = Watch(run, on)
            with watch.crowd:
                watch.work(60)
                on.pair.nodes[0].kill()
                on.tomcats[0].kill()
                for user in watch.crowd.users:
                    user.home = 1
                watch.work(100)
            everybody = [*watch.crowd.users, *watch.bystanders]
            keep_on(everybody, 1)
            for user in everybody:
                user.look_back()
        losers = sum(bool(user.lost) for user in everybody)
        of = f"{len(everybody)}"
        run.figure(
            f"{what}: users who lose anything acknowledged", losers, 0 if keeps else None, of=of
        )
        if keeps:
            run.problem(*(line for user in everybody for line in user.lost))
        run.figure(f"{what}: longest wait of a user", watch.crowd.longest_outage_s(), unit="s")
        run.figure(f"{what}: errors seen", watch.crowd.errors.total())


def _patient(address: str) -> Mapping[str, object]:
    return {**STICKY(address), "operationTimeout": 5000}


def counter(run: Run) -> None:
    """One session at both Tomcats at once, lockingMode=all, through kills of either node."""
    for what, both, victims in (
        ("the other node dies", False, (1, 1)),
        ("the node in use dies", False, (0, 0)),
        ("either of both in use", True, (0, 1)),
    ):
        with stage(NON_STICKY, both=both) as on:

            def kill_each(on: Stage = on, victims: Sequence[int] = victims) -> None:
                time.sleep(1.0)
                for victim in victims[: run.times(len(victims))]:
                    on.pair.nodes[victim].kill()
                    time.sleep(4.0)
                    on.back(victim)
                    time.sleep(3.0)

            outcome = count_together(on.tomcats, seconds=0.0, meanwhile=kill_each)
        of = f"{len(outcome.stored):,} acknowledged"
        run.figure(f"{what}: counts wrong", len(outcome.wrong()), 0, of=of)
        run.problem(*(f"{what}: {line}" for line in outcome.wrong()))
        run.figure(f"{what}: counts for which the manager got no lock", len(outcome.unlocked))
        missing = max(0, len(outcome.stored) + len(outcome.unlocked) - outcome.grown)
        run.figure(f"{what}: counts missing because of that", missing)
        run.figure(f"{what}: answers without a backup", outcome.unstored)
        run.figure(f"{what}: errors seen", outcome.failed)


def advice(run: Run) -> None:
    """One kill of the node in use with other attributes: what they cost, for users to choose."""
    set_ups: tuple[tuple[str, Manager, bool | None], ...] = (
        ("sticky", STICKY, True),
        ("sticky, at once", STICKY, True),
        ("sticky, with a node id", lambda address: STICKY(f"n1:{address}"), True),
        ("sticky, sessionBackupAsync", _asynchronous, True),
        ("non-sticky, operationTimeout 5000", NON_STICKY, True),
        ("non-sticky, operationTimeout 5000, at once", NON_STICKY, True),
        ("non-sticky, operationTimeout 5000, at once, lockExpiration 2", _hasty, True),
        ("non-sticky, operationTimeout 1000", _impatient, None),
        ("non-sticky, with a node id", lambda address: NON_STICKY(f"n1:{address}"), False),
    )
    for what, manager, keeps in set_ups:
        crowd = _through_a_kill(run, manager, AT_ONCE if "at once" in what else {})
        losers = sum(bool(user.lost) for user in crowd.users)
        run.figure(
            f"{what}: users who lose their session, or a part of it",
            losers,
            None if keeps is None else 0 if keeps else 1,
            at_least=keeps is False,
            of=f"{PEOPLE}",
        )
        if keeps:
            run.problem(*(f"{what}: {line}" for line in crowd.lost))
        run.figure(f"{what}: longest wait of a user", crowd.longest_outage_s(), unit="s")
        requests = f"{crowd.requests:,}"
        run.figure(f"{what}: errors seen", crowd.errors.total(), of=requests)
        run.figure(f"{what}: answers without a backup", crowd.unstored, of=requests)


def _through_a_kill(run: Run, manager: Manager, properties: Mapping[str, object]) -> Crowd:
    """Lead many users through the death of the node in use, and some through a Tomcat's."""
    with stage(manager, properties=properties) as on:
        is_sticky = bool(on.tomcats[0].manager["sticky"])
        urls = [each.url for each in on.tomcats]
        users = make_users(urls, PEOPLE, sticky=is_sticky, seed=run.seed)
        crowd = Crowd(users, pause_s=PAUSE_S, reads=0, rotations=0, logouts=0)
        with crowd:
            until("users at work", lambda: crowd.counts > 2 * PEOPLE)
            on.pair.nodes[0].kill()
            time.sleep(OUTAGE_S)
        if is_sticky:
            on.tomcats[0].kill()
        keep_on(users, 1)
        return crowd


def _asynchronous(address: str) -> Mapping[str, object]:
    return {**STICKY(address), "sessionBackupAsync": True}


def _hasty(address: str) -> Mapping[str, object]:
    # A lock outlives the request that took it, where the answer to that was lost with the node.
    return {**NON_STICKY(address), "lockExpiration": 2}


def _impatient(address: str) -> Mapping[str, object]:
    return {**NON_STICKY(address), "operationTimeout": 1000}


def _auto(address: str) -> Mapping[str, object]:
    return {**NON_STICKY(address), "lockingMode": "auto"}


def _binary(address: str) -> Mapping[str, object]:
    return {**NON_STICKY(address), "memcachedProtocol": "binary"}


def lone(run: Run) -> None:
    """What the same users lose where there is one server, which dies and comes back empty."""
    switches = ("-p", str(free_port()))
    with (
        Server(PYMCD, switches) as server,
        started(*two_tomcats(STICKY(server.address))) as tomcats,
    ):
        users = make_users([each.url for each in tomcats], USERS, sticky=True, seed=run.seed)
        for user in users:
            user.count()
        server.stop()
        server.start()
        tomcats[0].kill()
        kept = keep_on(users, 1)
    run.figure("one server, killed: users who lose their session", USERS - kept, 1, at_least=True)


def as_trial(
    act: Callable[[Run, Manager, str], None], manager: Manager, what: str
) -> Callable[[Run], None]:
    """Return what is done to a set-up as a trial of its own, which `--help` tells of."""

    def trial(run: Run) -> None:
        act(run, manager, what)

    trial.__doc__ = f"{(act.__doc__ or '').strip().splitlines()[0]} {what.capitalize()}."
    return trial


TRIALS: dict[str, Callable[[Run], None]] = {
    "kills-sticky": as_trial(kills, STICKY, "sticky"),
    "kills": as_trial(kills, NON_STICKY, "non-sticky"),
    "both-sticky": as_trial(kills_both, STICKY, "sticky"),
    "both": as_trial(kills_both, NON_STICKY, "non-sticky"),
    "kills-auto": as_trial(kills, _auto, "non-sticky, lockingMode=auto"),
    "kills-binary": as_trial(kills, _binary, "non-sticky, binary protocol"),
    "freeze-sticky": as_trial(freeze, STICKY, "sticky"),
    "freeze": as_trial(freeze, NON_STICKY, "non-sticky"),
    "host": host,
    "counter": counter,
    "advice": advice,
    "lone": lone,
}
