"""A pair with a third vote: who serves in each partition and after each failure, and how soon.

Clients on both nodes take locks, count and write all the while. Nothing may be given to two or be
lost, and whoever is to go on must do so within BAR_MS. What each may do stands in
docs/pair.md, in its table of who serves.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final, NamedTuple

from conformance.trial import quantile

from .load import differing, read_items
from .namespaces import Network, why_not
from .nodes import Pair
from .probe import Probe
from .takers import Takers, Wait, longest, unexplained_s
from .thirds import NODES, THIRD, Group, Third, Witness

if TYPE_CHECKING:
    import random
    from collections.abc import Callable, Iterator, Sequence

    from conformance.trial import Run

    Way = tuple[int, int]
    Kind = Callable[[Network, str], Third]

#: Whoever is to go on answers within this.
BAR_MS: Final = 200
WARM_S: Final = 0.2
RENEW_EVERY: Final = 4
#: Of another one to lead in a third of several.
ELECTION_S: Final = 3.0
#: Whoever is to serve nobody has answered by then what it was asked before.
LAST_WORDS_S: Final = 0.1


class Judge:
    """What all trials of one kind came to."""

    def __init__(self, run: Run, group: Group, probe: Probe) -> None:
        self.run = run
        self.group = group
        self.probe = probe
        self.done = self.acknowledged = self.twice = self.lost = self.differ = self.forbidden = 0
        self.waits: dict[str, list[Wait]] = {}
        self.slow: dict[str, list[float]] = {}
        self._bad: list[str] = []  #: of the trial that is being judged
        self._worst_s = 0.0

    def waited(self, what: str, wait: Wait, *, soon: bool = True) -> None:
        """Take note of the longest wait of a trial at one node; `soon`: there is a bar."""
        if not soon:
            self.slow.setdefault(what, []).append(wait.took_s)
            return
        self.waits.setdefault(what, []).append(wait)
        self._worst_s = max(self._worst_s, wait.took_s)
        if not wait.served:
            self.bad(f"{what}: not answered at all for {wait.took_s:.3f} s")
        elif unexplained_s(wait, self.probe) * 1e3 > BAR_MS:
            busy_s = self.probe.late_s(wait.since_s, wait.till_s)
            self.bad(
                f"{what}: waited {wait.took_s:.3f} s, of which the machine was busy {busy_s:.3f} s"
            )

    def bad(self, *lines: str) -> None:
        """Take note of what went wrong in the trial that is being judged."""
        self._bad += lines

    def compare(self, takers: Takers, *, kept: bool = True) -> None:
        """Look for what was given to two, or lost; `kept`: nothing may be lost."""
        self.done += 1
        books = takers.books
        self.acknowledged += books.acknowledged
        if not kept:
            return
        twice = books.twice()
        self.twice += len(twice)
        self.bad(*twice)
        for node in self.group.nodes:
            lost = books.lost(node)
            self.lost += len(lost)
            self.bad(*lost)
        one, other = (read_items(node, books.keys) for node in self.group.nodes)
        differ = differing(one, other)
        self.differ += len(differ)
        self.bad(*(f"{key.decode()} is not the same on both" for key in differ))

    def end_trial(self, name: str, evidence: Sequence[str]) -> None:
        """Tell of a trial; keep what explains it if it went wrong."""
        self.run.say(f"{name}: {'BAD ' if self._bad else ''}{self._worst_s:.3f} s")
        if self._bad:
            self.run.problem(f"{name}:", *self._bad)
            self.run.problem(*evidence, most=60)
        self._bad = []
        self._worst_s = 0.0

    def figures(self) -> None:
        """Give the figures beside their bars."""
        run = self.run
        run.figure("trials", self.done)
        run.figure("locks granted, counts given twice", self.twice, 0, of=f"{self.acknowledged:,}")
        run.figure("acknowledged and lost", self.lost, 0, of=f"{self.acknowledged:,}")
        run.figure("keys that differ in the end", self.differ, 0)
        run.figure("answers of who is to serve nobody", self.forbidden, 0)
        for what, waits in sorted(self.waits.items()):
            each = sorted(unexplained_s(wait, self.probe) * 1e3 for wait in waits)
            wait = longest(waits)
            busy_ms = self.probe.late_s(wait.since_s, wait.till_s) * 1e3
            run.figure(
                f"{what}: longest wait, median {quantile(each, 0.5):.0f}, the machine's part"
                f" ({busy_ms:.0f} ms) included",
                wait.took_s * 1e3,
                unit="ms",
                of=f"{len(waits)} trials",
            )
            run.figure(f"{what}: the same without it", each[-1], BAR_MS, "ms", timed=True)
        for what, taken_s in sorted(self.slow.items()):
            run.spread(f"{what}: longest waits", taken_s, "ms")


def _skipped(run: Run) -> bool:
    reason = why_not()
    if not reason and (Pair.usual_way.unix or Pair.usual_way.bucket):
        reason = f"{Pair.usual_way.name} does not lead to another host"
    if reason:
        run.problem(f"skipped: {reason}")
    return bool(reason)


# -- partitions ----------------------------------------------------------------------------------


class Shape(NamedTuple):
    """A partition of C, which coordinates, F, which follows, and W, the third."""

    name: str
    lost: str  #: ways on which all is lost, e.g. "CF" from C to F
    serve: str  #: who must; "?": any of the two


#: Who sees whom; `>`: only that way is cut.
SHAPES: Final = (
    Shape("C | F W", "CF FC CW WC", "F"),
    Shape("F | C W", "CF FC FW WF", "C"),
    Shape("C F | W", "CW WC FW WF", "CF"),
    Shape("C | F | W", "CF FC CW WC FW WF", ""),
    Shape("C | F, both see W", "CF FC", "?"),
    Shape("C > F", "CF", "?"),
    Shape("F > C", "FC", "?"),
    Shape("C | W, both see F", "CW WC", "CF"),
    Shape("F | W, both see C", "FW WF", "CF"),
    Shape("C > W", "CW", "CF"),
    Shape("W > C", "WC", "CF"),
    Shape("F > W", "FW", "CF"),
    Shape("W > F", "WF", "CF"),
    Shape("C is mute", "CF CW", "F"),
    Shape("C is deaf", "FC WC", "F"),
    Shape("F is mute", "FC FW", "C"),
    Shape("F is deaf", "CF WF", "C"),
)
#: Whom to pull the cable of instead.
PULLED: Final = {"C | F W": "C", "F | C W": "F", "C F | W": "W"}


def witness_cuts(run: Run) -> None:
    """Partitions of two nodes and a witness in every shape, locks being taken on both sides."""
    partitions(run, Witness, Witness.HOSTS)


def partitions(run: Run, kind: Kind, hosts: int, *, beheads: bool = False) -> None:
    """Part two nodes and a third of some kind, which stands on so many hosts.

    `beheads`: half of the times what leads there is killed, shortly before or after.
    """
    if _skipped(run):
        return
    with Group(kind, hosts) as group, Probe(group.pids) as probe:
        judge = Judge(run, group, probe)
        for number in run.numbers(2 * len(SHAPES)):
            rng = run.rng(number)
            if number % RENEW_EVERY == 0:
                # Who is lost again and again is taken back ever later, unless it starts anew.
                place = rng.randrange(NODES)
                group.ready()
                group.kill(place)
                group.restart(place)
            _part(judge, number, rng, beheads=beheads and rng.random() < 0.5)
        judge.figures()


def _part(judge: Judge, number: int, rng: random.Random, *, beheads: bool) -> None:
    group, network = judge.group, judge.group.network
    group.ready()
    first = group.coordinator()
    places = {"C": [first], "F": [1 - first], "W": list(group.third_places)}
    shape = SHAPES[number % len(SHAPES)]
    pulled = PULLED.get(shape.name) if rng.random() < 0.4 else None
    then = rng.choice(SHAPES) if rng.random() < 0.3 else None
    lost = list(_ways(shape, places))
    lasts_s = ELECTION_S if beheads else rng.uniform(0.3, 1.3)
    later_s = rng.uniform(-0.15, 0.15) if beheads else 0.0
    with Takers(group.nodes, f"part{number}", rng) as takers:
        time.sleep(WARM_S)
        if later_s < 0.0:
            group.third.kill()
            time.sleep(-later_s)
        cut_s = time.monotonic()
        if pulled:
            for place in places[pulled]:
                network.pull(place)
        else:
            network.lose(*lost)
        if later_s > 0.0:
            time.sleep(later_s)
            group.third.kill()
        time.sleep(lasts_s)
        changed_s = time.monotonic()
        if pulled:
            for place in places[pulled]:
                network.plug(place)
        if then is not None:
            # No time to come in sync between the two: who serves then depends.
            other = list(_ways(then, places))
            network.find(*(way for way in lost if way not in other))
            network.lose(*other)
            time.sleep(rng.uniform(0.1, 0.8))
            lost = other
        if not pulled or then is not None:
            network.find(*lost)
        time.sleep(0.5)
        end_s = time.monotonic()
        if beheads:
            group.third.start()
    evidence = [] if then is None else [f"then {then.name}"]
    name = f"partition {number}, {shape.name}{', cable pulled' if pulled else ''}"
    name += ", the third beheaded" if beheads else ""
    _judge_waits(judge, takers, shape, places, cut_s, changed_s, soon=not beheads)
    if then is None and not beheads:
        for who in shape.serve.replace("?", ""):
            what = "those return"
            judge.waited(what, longest(takers.waits(places[who][0], changed_s, end_s)))
    group.ready()
    judge.compare(takers)
    judge.end_trial(name, [*evidence, f"C is host{first}", *group.report()])


def _ways(shape: Shape, places: dict[str, list[int]]) -> Iterator[Way]:
    """Return from where to where all is lost."""
    for way in shape.lost.split():
        for one in places[way[0]]:
            for other in places[way[1]]:
                yield one, other


def _judge_waits(
    judge: Judge,
    takers: Takers,
    shape: Shape,
    places: dict[str, list[int]],
    cut_s: float,
    changed_s: float,
    *,
    soon: bool,
) -> None:
    """See who has answered in a partition, and how soon."""
    nodes = {who: places[who][0] for who in ("C", "F")}
    waits = {who: takers.waits(place, cut_s, changed_s) for who, place in nodes.items()}
    must = shape.serve
    if must == "?":
        must = min(waits, key=lambda who: longest(waits[who]).took_s)
        # Of two that do not see each other one serves.
        other = "F" if must == "C" else "C"
        _none_served(judge, waits[other], cut_s, changed_s, other)
    for who in must:
        what = "partition" if soon else "partition, the third beheaded"
        judge.waited(what, longest(waits[who]), soon=soon)
    for who in nodes.keys() - set(must) if shape.serve != "?" else ():
        _none_served(judge, waits[who], cut_s, changed_s, who)


def _none_served(judge: Judge, waits: list[Wait], since_s: float, till_s: float, who: str) -> None:
    """See that nobody was answered by who may not."""
    for wait in waits:
        # A thread that got no CPU notes late what came in time.
        answered_s = wait.till_s - judge.probe.late_s(since_s, wait.till_s)
        if wait.served and since_s + LAST_WORDS_S < answered_s and wait.till_s < till_s:
            judge.forbidden += 1
            judge.bad(f"{who} answered {answered_s - since_s:.3f} s after it was cut off")


# -- failures ------------------------------------------------------------------------------------


def witness_failures(run: Run) -> None:
    """Each of two nodes and a witness killed and frozen, then another one of them."""
    failures(run, Witness, Witness.HOSTS)


def failures(run: Run, kind: Kind, hosts: int) -> None:
    """Kill or freeze each of two nodes and a third of some kind; then one of those left."""
    if _skipped(run):
        return
    with Group(kind, hosts) as group, Probe(group.pids) as probe:
        judge = Judge(run, group, probe)
        for number in run.numbers(12):
            _fail_twice(judge, number, run.rng(number))
        judge.figures()


class Failure(NamedTuple):
    """What becomes of one of the three."""

    place: int
    freezes: bool

    def __str__(self) -> str:
        who = "third" if self.place == THIRD else f"host{self.place}"
        return f"{who} {'frozen' if self.freezes else 'killed'}"

    def happen(self, group: Group) -> None:
        if self.freezes:
            group.freeze(self.place)
        else:
            group.kill(self.place)

    def pass_by(self, group: Group) -> None:
        if self.freezes:
            group.thaw(self.place)
        else:
            group.restart(self.place)


def _fail_twice(judge: Judge, number: int, rng: random.Random) -> None:
    group = judge.group
    group.ready()
    first = Failure(number % 3, number // 3 % 2 == 1)
    left = [place for place in range(3) if place != first.place]
    second = Failure(rng.choice(left), rng.random() < 0.5)
    coordinator = group.coordinator()
    with Takers(group.nodes, f"fail{number}", rng) as takers:
        time.sleep(WARM_S)
        first_s = time.monotonic()
        first.happen(group)
        time.sleep(rng.uniform(0.4, 1.0))
        second_s = time.monotonic()
        second.happen(group)
        time.sleep(rng.uniform(0.5, 1.5))
        end_s = time.monotonic()
        # Whoever was frozen and goes on has the memory that a killed one has not.
        for failure in rng.sample((first, second), 2):
            failure.pass_by(group)
            time.sleep(rng.uniform(0.0, 0.3))
        if first.place == THIRD or second.place == THIRD:
            group.ready()  # there are clients meanwhile
        over_s = time.monotonic()
    nodes = [place for place in range(NODES) if place != first.place]
    who = "third" if first.place == THIRD else "node"
    how = "frozen" if first.freezes else "killed"
    for place in nodes:
        judge.waited(f"{who} {how}", longest(takers.waits(place, first_s, second_s)))
    # The second of the two that made up the last view: with a node's weight the other goes on.
    nodes = [place for place in nodes if place != second.place]
    for place in nodes:
        waits = takers.waits(place, second_s, end_s)
        if second.place == THIRD:
            judge.waited("node, then third", longest(waits))
            judge.waited("those return", longest(takers.waits(place, end_s, over_s)))
        elif not group.third.outlives:
            _none_served(judge, waits, second_s, end_s, f"host{place}")
    # What a node acknowledged alone exists once.
    kept = first.place == THIRD or second.place == THIRD or second.freezes
    group.ready()
    judge.compare(takers, kept=kept)
    judge.end_trial(
        f"failure {number}, {first}, then {second}",
        [f"host{coordinator} coordinated", *group.report()],
    )
