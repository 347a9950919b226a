"""Wall clocks that jump under load: what is missing then, and when things end.

libfaketime shows a running process another time whenever the content of a file changes. Only its
wall clock: what happens to the monotonic one thereby happens on no machine.
"""

from __future__ import annotations

import itertools
import tempfile
import time
from contextlib import contextmanager
from math import inf
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from conformance.clock import now_s
from conformance.trial import until

from .load import Ledger, Load, Request, differing, read, read_items, writer
from .nodes import Pair

if TYPE_CHECKING:
    import random
    from collections.abc import Iterator

    from conformance.trial import Run

    from .load import Client
    from .nodes import Node

LIBRARIES = ("/usr/lib/*/faketime/libfaketimeMT.so.1", "/usr/lib*/faketime/libfaketimeMT.so.1")
STEPS_S = (2.0, 20.0, 300.0, 3600.0)
#: How long a clock is wrong; infinite: for good.
FOR_S = (0.2, 2.0, inf)
CLIENTS_PER_NODE = 6
LOCK_S = 10
#: A time to live is right if it is so to the second, and to be so this long after a step.
TTL_TOLERANCE_S = 1.0
SOON_S = 2.0
SKEW_TOLERANCE_MS = 100


class Step(NamedTuple):
    """One clock goes wrong."""

    node: int
    by_s: float
    for_s: float

    def __str__(self) -> str:
        how_long = "for good" if self.for_s == inf else f"for {self.for_s:g} s"
        return f"node{self.node} {self.by_s:+g} s {how_long}"


def library() -> str | None:
    """Return where libfaketime is; None: it is not here."""
    found = (str(path) for place in LIBRARIES for path in Path("/").glob(place[1:]))
    return next(found, None)


class Clocks:
    """The wall clocks of the nodes."""

    def __init__(self, folder: str, count: int) -> None:
        Path(folder).chmod(0o755)  # nodes that root starts do not stay root
        self._files = [Path(folder, f"clock{index}") for index in range(count)]
        self.ahead_s = [0.0] * count
        for index in range(count):
            self.set(index, 0.0)

    def set(self, index: int, ahead_s: float) -> None:
        """Let a clock show so much more than the right time."""
        self.ahead_s[index] = ahead_s
        new = self._files[index].with_suffix(".new")
        new.write_text(f"{ahead_s:+.3f}\n")
        new.replace(self._files[index])

    def environment(self, index: int, library: str) -> dict[str, str]:
        """Return what a process needs to go by that clock."""
        return {
            "LD_PRELOAD": library,
            "FAKETIME_TIMESTAMP_FILE": str(self._files[index]),
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            "DONT_FAKE_MONOTONIC": "1",
        }


@contextmanager
def pair_by_clocks(library: str) -> Iterator[tuple[Pair, Clocks]]:
    """Start a pair, each node by a clock of its own."""
    with tempfile.TemporaryDirectory() as folder:
        clocks = Clocks(folder, 2)
        environments = {index: clocks.environment(index, library) for index in range(2)}
        with Pair(environments=environments) as pair:
            pair.wait_in_sync()
            yield pair, clocks


class Lock(NamedTuple):
    """A key that is stored for LOCK_S."""

    key: bytes
    by: int  #: at which node
    since_s: float
    till_s: float  #: it was stored between the two


def _locker(locks: list[Lock], name: str, node: int) -> Client:
    """Take locks with other names, for ever."""
    for number in itertools.count():
        key = b"%b:lock:%d" % (name.encode(), number)
        asked_s = now_s()
        answer = yield Request(b"add %b 0 %d 1\r\n1\r\n" % (key, LOCK_S))
        if answer == b"STORED\r\n":
            locks.append(Lock(key, node, asked_s, now_s()))


def _wrong_ends(nodes: list[Node], locks: list[Lock]) -> list[str]:
    """Return what ends too early or too late on a node, or is gone from it already."""
    wrong: list[str] = []
    for index, node in enumerate(nodes):
        before_s = now_s()
        items = read_items(node, [lock.key for lock in locks])
        after_s = now_s()
        shows_ends = any(item.ttl >= 0 for item in items.values())  # the binary protocol does not
        for lock in locks:
            if after_s - lock.since_s > LOCK_S - TTL_TOLERANCE_S:
                continue  # it may be gone by now
            # memcached's clock has whole seconds: up to one less is what it promises, and what is
            # left is shown without the part that has passed of the second.
            least_s = LOCK_S - (after_s - lock.since_s) - 1.0 - TTL_TOLERANCE_S
            most_s = LOCK_S - (before_s - lock.till_s) + 1.0 + TTL_TOLERANCE_S
            left_s = items[lock.key].ttl if lock.key in items else 0
            if left_s < 0 and not shows_ends:
                continue  # it is there, at least
            if not least_s <= left_s <= most_s:
                wrong.append(
                    f"node{index}: {lock.key.decode()} of node{lock.by}: {left_s} s left,"
                    f" not {least_s:.1f} to {most_s:.1f}"
                )
    return wrong


def _step_once(
    run: Run, pair: Pair, clocks: Clocks, step: Step, rng: random.Random
) -> tuple[int, int, int] | None:
    """Let a clock jump under load, then kill a node.

    Returns writes acknowledged, missing, and ends that are wrong; None: a node went on by itself,
    having got no CPU.
    """
    ledger = Ledger()
    locks: list[Lock] = []
    load = Load(lambda: pair.nodes)
    for index in range(pair.count):
        for number in range(CLIENTS_PER_NODE):
            name = f"n{index}c{number}"
            load.add(writer(ledger, name, rng, deletes=0.3, pause_s=0.001), index, roams=True)
        load.add(_locker(locks, f"n{index}", index), index)
    alone_before = [node.times_alone() for node in pair.nodes]
    right_s = clocks.ahead_s[step.node]
    load.at(0.3, lambda: clocks.set(step.node, right_s + step.by_s))
    lasts_s = 0.3
    if step.for_s < inf:
        load.at(0.3 + step.for_s, lambda: clocks.set(step.node, right_s))
        lasts_s += step.for_s
    load.run(lasts_s + 0.3)
    wrong: list[str] = []
    if step.for_s > 1.0 and not int(pair.nodes[step.node].rows().get("clock_steps", 0)):
        wrong.append("the step was not noticed")
    if step.for_s == inf:
        time.sleep(SOON_S)
        skew_ms = [int(node.rows()["peer_0:clock_skew_ms"]) for node in pair.nodes]
        wanted_ms = (clocks.ahead_s[1] - clocks.ahead_s[0]) * 1000
        for shown_ms, sign in zip(skew_ms, (1, -1), strict=True):
            if abs(shown_ms - wanted_ms * sign) > SKEW_TOLERANCE_MS:
                wrong.append(f"clock_skew_ms says {skew_ms}, not {wanted_ms:+.0f}")
    wrong += _wrong_ends(pair.nodes, locks)
    everything = [*ledger.acknowledged, *(lock.key for lock in locks)]
    first, second = (read_items(node, everything) for node in pair.nodes)
    apart = differing(first, second)
    wrong += [f"{key.decode()} is not the same on both" for key in apart]
    run.problem(*(f"{step}: {line}" for line in wrong))
    if [node.times_alone() for node in pair.nodes] != alone_before:
        return None
    victim = rng.randrange(pair.count)
    pair.nodes[victim].kill()
    survivor = pair.nodes[1 - victim]
    until("the survivor serves alone", lambda: survivor.rows().get("state") == "alone")
    missing = ledger.wrong(read(survivor, list(ledger.acknowledged)))
    run.problem(*(f"{step}, node{victim} killed: {line}" for line in missing))
    pair.restart(victim)
    pair.wait_in_sync()
    run.say(f"{step}: {ledger.writes:,} acknowledged, {len(missing)} missing, {len(wrong)} wrong")
    return ledger.writes, len(missing), len(wrong)


def _late_flush(run: Run, pair: Pair, clocks: Clocks, step: Step) -> int:
    """Have all flushed in four seconds, and a clock jump meanwhile; return how often not then."""
    guest = pair.nodes[1 - step.node]
    guest.ask(b"set flushed 0 0 1\r\n1\r\n")
    asked_s = now_s()
    guest.ask(b"flush_all 4\r\n")
    clocks.set(step.node, clocks.ahead_s[step.node] + step.by_s)
    wrong = 0
    for at_s, there in ((2.5, True), (5.5, False)):
        time.sleep(max(0.0, asked_s + at_s - now_s()))
        for index, node in enumerate(pair.nodes):
            if (b"flushed" in read(node, [b"flushed"])) != there:
                wrong += 1
                run.problem(f"{step}: node{index}, {at_s} s after a flush in 4 s: not {there}")
    clocks.set(step.node, clocks.ahead_s[step.node] - step.by_s)
    return wrong


def clocks(run: Run) -> None:
    """A wall clock jumps, for a moment or for good, under load; then a node is killed."""
    place = library()
    if place is None:
        run.say("no libfaketime here: clocks are not tried")
        return
    steps = [
        Step(node, by_s * sign, for_s)
        for node in range(2)
        for by_s in STEPS_S
        for sign in (1, -1)
        for for_s in FOR_S
    ]
    rng = run.rng()
    rng.shuffle(steps)
    writes = missing = wrong = done = void = 0
    flushes = flushed_wrong = 0
    with pair_by_clocks(place) as (pair, shown):
        for number in run.numbers(len(steps)):
            step = steps[number % len(steps)]
            outcome = _step_once(run, pair, shown, step, run.rng(number))
            if outcome is None:
                void += 1
                pair.wait_in_sync()
                continue
            done += 1
            writes += outcome[0]
            missing += outcome[1]
            wrong += outcome[2]
            if number % 6 == 0:
                flushes += 1
                flushed_wrong += _late_flush(run, pair, shown, step)
            pair.nodes[0].ask(b"flush_all\r\n")
            for index in range(2):
                if abs(shown.ahead_s[index]) > max(STEPS_S):
                    shown.set(index, 0.0)
    run.figure("acknowledged changes missing", missing, 0, of=f"{writes:,} in {done} steps")
    run.figure("times to live and clock skews that are wrong, items that differ", wrong, 0)
    run.figure("delayed flushes too early or too late", flushed_wrong, 0, of=f"{flushes}")
    run.figure("steps that count", done, 1, at_least=True)
    if void:
        run.figure("steps in which a node served alone: do not count", void)
