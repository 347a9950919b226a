"""A node of one pair dies or freezes under load: what is lost, who notices; what moves keys."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from conformance.clock import now_s
from conformance.trial import quantile

from .clients import through_twemproxy, with_pylibmc, with_pymemcache, with_spymemcached
from .load import Load, errors
from .topology import Shards

if TYPE_CHECKING:
    from conformance.trial import Run

    from .clients import Make, Maker

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

    def tell(self, run: Run, what: str, *, may_miss: bool = False) -> None:
        """Give the figures, for what should lose nothing.

        Args:
            may_miss: the client takes a lost connection for a miss.
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
        run.figure("requests to other shards that failed", self.errors_elsewhere.total(), 0)
        run.problem(*self.errors_elsewhere)
        run.spread("longest request to another shard", self.longest_elsewhere_s, "ms")
        for when, taken_s in (("before", self.before_s), ("in the second after", self.after_s)):
            run.figure(f"p99 of other shards, {when}", quantile(taken_s, 0.99) * 1e3, unit="ms")


def _round(run: Run, shards: Shards, make: Make, outcome: Outcome, number: int) -> None:
    """Kill a node under load and let it come back; count the round, unless it is void."""
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
        killed_s = now_s()
        shard.lose(victim)
        void = shard.nodes[victim].times_alone() != alone_before
        load.wait_answered(struck, now_s())
        shard.bring_back(victim)
        shards.wait_ready()
        time.sleep(AFTER_S * min(run.scale, 1.0))
    if void:
        # A node that got no CPU served alone, and said so: that is another promise.
        outcome.void += 1
        return
    outcome.take(load, shards, struck, killed_s)
    run.say(
        f"round {number}: shard {struck} lost node {victim}, "
        f"a client was without it for {outcome.outages_s[-1]:.2f} s, "
        f"{load.writes:,} acknowledged, {len(outcome.lost)} lost so far"
    )


def _kills(run: Run, maker: Maker) -> Outcome:
    outcome = Outcome()
    with Shards() as shards, maker(shards.addresses) as make:
        for number in range(run.times(6)):
            _round(run, shards, make, outcome, number)
    return outcome


def ketama(run: Run) -> None:
    """pylibmc spreads keys over pairs behind HAProxy; a node of one is killed under load."""
    _kills(run, with_pylibmc()).tell(run, "pylibmc", may_miss=True)


def pymemcache(run: Run) -> None:
    """The same with pymemcache's HashClient."""
    _kills(run, with_pymemcache()).tell(run, "pymemcache")


def spymemcached(run: Run) -> None:
    """The same with spymemcached, ketama."""
    _kills(run, with_spymemcached()).tell(run, "spymemcached")


def twemproxy(run: Run) -> None:
    """The same through twemproxy, asked with plain text commands."""
    _kills(run, through_twemproxy()).tell(run, "twemproxy")
