"""A node of one pair dies or freezes under load: what is lost, who notices; what moves keys."""

from __future__ import annotations

import signal
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from conformance.clock import now_s
from conformance.trial import quantile

from . import page
from .clients import (
    through_twemproxy,
    why_no_java,
    with_pylibmc,
    with_pymemcache,
    with_spymemcached,
)
from .load import Load, errors
from .topology import Shards
from .twemproxy import documented, why_not

if TYPE_CHECKING:
    from collections.abc import Callable

    from conformance.trial import Run

    from .clients import Make, Maker
    from .topology import Shard

#: Load before the fault, and after the killed node is in sync again: HAProxy has to notice.
BEFORE_S = 1.0
AFTER_S = 2.5
FROZEN_S = 6.0
#: How long after the fault the other shards are looked at.
NEAR_S = 1.0


@dataclass(slots=True)
class Outcome:
    """What the rounds of a trial gave."""

    rounds: int = 0
    void: int = 0
    writes: int = 0
    false_misses: int = 0
    lost: list[str] = field(default_factory=list)
    moved: list[str] = field(default_factory=list)
    errors: Counter[str] = field(default_factory=Counter)
    errors_elsewhere: Counter[str] = field(default_factory=Counter)
    outages_s: list[float] = field(default_factory=list)
    # Of other shards than the one that was struck.
    longest_elsewhere_s: list[float] = field(default_factory=list)
    before_s: list[float] = field(default_factory=list)
    after_s: list[float] = field(default_factory=list)

    def take(self, load: Load, shards: Shards, struck: int, at_s: float) -> None:
        """Add what one round gave: a fault of the shard `struck` at a moment."""
        self.rounds += 1
        self.writes += load.writes
        self.lost += load.wrong
        self.false_misses += load.false_misses
        homes = load.homes
        for shard, nodes in enumerate(shards.held(load.keys)):
            for node, held in enumerate(nodes):
                self.lost += [
                    f"shard {shard} node {node}: {line}" for line in load.missing(shard, held)
                ]
            self.moved += [
                f"{key.decode()} of shard {homes[key]} is on shard {shard}"
                for key in nodes[0]
                if homes[key] != shard
            ]
        near = load.timings({struck})
        others = load.timings(set(range(shards.count)) - {struck})
        self.errors += errors(near)
        self.errors_elsewhere += errors(others)
        self.outages_s.append(load.outage_s(struck))
        self.longest_elsewhere_s.append(max(each.taken_s for each in others))
        self.before_s += [each.taken_s for each in others if each.at_s < at_s]
        self.after_s += [each.taken_s for each in others if at_s <= each.at_s < at_s + NEAR_S]

    def tell(
        self, run: Run, what: str, *, may_miss: bool = False, one_connection: bool = False
    ) -> None:
        """Give the figures, for what should lose nothing.

        Args:
            may_miss: the client takes a lost connection for a miss.
            one_connection: the client has but one, for all shards.
        """
        run.figure("rounds that count", self.rounds, 1, at_least=True)
        if self.void:
            run.figure("rounds in which a node served alone before: do not count", self.void)
        run.figure(f"{what}: acknowledged writes lost", len(self.lost), 0, of=f"{self.writes:,}")
        run.figure(
            "reads that found nothing though it was there",
            self.false_misses,
            None if may_miss else 0,
        )
        run.figure("keys on another shard than before", len(self.moved), 0)
        run.problem(*self.lost)
        run.problem(*self.moved)
        run.figure("requests to the struck shard that failed", self.errors.total())
        for error, count in self.errors.most_common(3):
            run.figure(f"  {error[:90]}", count)
        run.spread("longest that one client was without the struck shard", self.outages_s, "s", 1)
        bar = None if one_connection else 0
        run.figure("requests to other shards that failed", self.errors_elsewhere.total(), bar)
        run.problem(*self.errors_elsewhere)
        run.spread("longest request to another shard", self.longest_elsewhere_s, "ms")
        for when, taken_s in (("before", self.before_s), ("in the second after", self.after_s)):
            run.figure(f"p99 of other shards, {when}", quantile(taken_s, 0.99) * 1e3, unit="ms")


@dataclass(slots=True, frozen=True)
class Fault:
    """What is done to a node, and how it is ended when its shard answers everybody again."""

    begin: Callable[[Shard, int], None]
    end: Callable[[Shard, int], None]
    what: str


def _freeze(shard: Shard, node: int) -> None:
    shard.nodes[node].signal(signal.SIGSTOP)


def _thaw(shard: Shard, node: int) -> None:
    time.sleep(FROZEN_S)
    shard.nodes[node].signal(signal.SIGCONT)


KILL = Fault(
    lambda shard, node: shard.lose(node), lambda shard, node: shard.bring_back(node), "lost"
)
FREEZE = Fault(_freeze, _thaw, "froze")


def _round(
    run: Run, shards: Shards, make: Make, outcome: Outcome, number: int, fault: Fault
) -> None:
    """Do something to a node under load and end it; count the round, unless it is void."""
    struck = number % shards.count
    # HAProxy leads to the first node; the second one's death nobody may notice.
    victim = 1 if number % 3 == 2 else 0
    shard = shards.shards[struck]
    load = Load(make, run.rng(number), f"r{number}w")
    load.fill(shards.homes)
    shards.wait_ready()
    alone_before = shard.nodes[victim].times_alone()
    with load:
        time.sleep(BEFORE_S * min(run.scale, 1.0))
        struck_s = now_s()
        fault.begin(shard, victim)
        void = shard.nodes[victim].times_alone() != alone_before
        load.wait_answered(struck, now_s())
        fault.end(shard, victim)
        shards.wait_ready()
        time.sleep(AFTER_S * min(run.scale, 1.0))
    if void:
        # A node that got no CPU served alone, and said so: that is another promise.
        outcome.void += 1
        return
    outcome.take(load, shards, struck, struck_s)
    run.say(
        f"round {number}: shard {struck} {fault.what} node {victim}, "
        f"a client was without it for {outcome.outages_s[-1]:.2f} s, "
        f"{load.writes:,} acknowledged, {len(outcome.lost)} lost so far"
    )


def _rounds(run: Run, maker: Maker, usual: int = 6, fault: Fault = KILL) -> Outcome:
    outcome = Outcome()
    with Shards() as shards, maker(shards.addresses) as make:
        for number in range(run.times(usual)):
            _round(run, shards, make, outcome, number, fault)
    return outcome


def ketama(run: Run) -> None:
    """pylibmc spreads keys over pairs behind HAProxy; a node of one is killed under load."""
    _rounds(run, with_pylibmc()).tell(run, "pylibmc", may_miss=True)


def pymemcache(run: Run) -> None:
    """The same with pymemcache's HashClient."""
    _rounds(run, with_pymemcache()).tell(run, "pymemcache")


def spymemcached(run: Run) -> None:
    """The same with spymemcached, ketama."""
    _rounds(run, with_spymemcached()).tell(run, "spymemcached")


def twemproxy(run: Run) -> None:
    """The same through twemproxy, asked with plain text commands."""
    _rounds(run, through_twemproxy()).tell(run, "twemproxy")


def proxied(run: Run) -> None:
    """The same through twemproxy, asked by spymemcached."""
    outcome = _rounds(run, with_spymemcached(proxied=True))
    outcome.tell(run, "spymemcached, twemproxy", one_connection=True)


def freeze(run: Run) -> None:
    """A node is stopped for seconds and goes on, through pymemcache and twemproxy."""
    for what, maker in (("pymemcache", with_pymemcache()), ("twemproxy", through_twemproxy())):
        _rounds(run, maker, 2, FREEZE).tell(run, f"{what}, frozen")


def eject(run: Run) -> None:
    """Why no address may be dropped: clients and a twemproxy that do, and what they lose."""
    ejecting = page.changed(
        documented(),
        ("auto_eject_hosts: false", "auto_eject_hosts: true"),
        ("timeout: 400", "timeout: 400\n  server_failure_limit: 1\n  server_retry_timeout: 2000"),
    )
    remove = ('"ketama": True', '"ketama": True, "remove_failed": 1')
    # A connection that is closed does not count for pymemcache, but silence does.
    silence = ("timeout=1", "timeout=0.2")
    ways: list[tuple[str, Maker, Fault]] = [
        ("pylibmc, remove_failed", with_pylibmc(remove), KILL),
        ("pymemcache, retry_attempts=0", with_pymemcache(silence, ("10**9", "0")), FREEZE),
        (
            "pymemcache, retry_timeout=1",
            with_pymemcache(silence, ("retry_timeout=0", "retry_timeout=1")),
            FREEZE,
        ),
    ]
    if not why_not():
        ways.append(("twemproxy, auto_eject_hosts", through_twemproxy(ejecting), KILL))
    if not why_no_java():
        redistribute = ("FailureMode.Retry", "FailureMode.Redistribute")
        ways.append(("spymemcached, Redistribute", with_spymemcached(redistribute), KILL))
    with Shards() as shards:
        for index, (name, maker, fault) in enumerate(ways):
            outcome = Outcome()
            with maker(shards.addresses) as make:
                # The victim of these rounds is the node that HAProxy leads to.
                _round(run, shards, make, outcome, 3 * index, fault)
            wrong = len(outcome.lost) + outcome.false_misses
            of = f"{outcome.writes:,} writes"
            run.figure(f"{name}: gone, stale, not found", wrong, 1, at_least=True, of=of)
            run.figure(f"{name}: keys on another shard than before", len(outcome.moved))
