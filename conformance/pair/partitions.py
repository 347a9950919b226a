"""Partitions, and nodes or links that stand still: what differs afterwards, and who has to wait."""

from __future__ import annotations

import random
import signal
import time
from typing import TYPE_CHECKING

from conformance.clock import now_s
from conformance.trial import TrialError, quantile, until

from .load import (
    Ledger,
    Load,
    Pause,
    Request,
    differing,
    read,
    read_items,
    store,
    writer,
)
from .locks import Blocking
from .nodes import Pair

if TYPE_CHECKING:
    from collections.abc import Sequence

    from conformance.trial import Run

    from .load import Client
    from .nodes import Node

CLIENTS_PER_NODE = 8
HEALED_S = 2.0
ACK_TIMEOUT_S = 0.08


def settled(pair: Pair, keys: Sequence[bytes], within_s: float) -> tuple[float, list[bytes]]:
    """Wait until all nodes hold the same; return how long it took and which keys differ then."""
    started_s = now_s()
    while True:
        asked_s = now_s() - started_s
        held = [read_items(node, keys) for node in pair.nodes if node.accepts()]
        differ = sorted({key for other in held[1:] for key in differing(held[0], other)})
        if not differ or asked_s > within_s:
            return asked_s, differ


def _both_alone(pair: Pair) -> None:
    until("both serve alone", lambda: pair.states().count("alone") == pair.count)


def partition(run: Run) -> None:
    """Conflicting writes on both sides of a partition, then healed: keys that differ 2 s later."""
    differ = 0
    wrong = 0
    keys = [b"conflict:%d" % n for n in range(run.count(500))]
    took: list[float] = []
    in_sync: list[float] = []
    trials = run.times(8)
    with Pair() as pair:
        for number in range(trials):
            rng = run.rng(number)
            how, lose = ("silent", "reset")[number % 2], number // 2 % 2 == 0
            pair.wait_in_sync()
            for key in keys:
                if rng.random() < 0.5:
                    store(pair.nodes[0], [b"set %b 1 0 6\r\nbefore\r\n" % key])
            pair.part(how=how)
            _both_alone(pair)
            last = _conflicts(pair, rng, keys)
            pair.heal(lose=lose)
            healed_s = now_s()
            passed_s, found = settled(pair, keys, 20.0)
            took.append(passed_s)
            pair.wait_in_sync()
            in_sync.append(now_s() - healed_s)
            differ += len(found)
            held = read(pair.nodes[0], keys)
            lost = [key for key, value in last.items() if held.get(key) != value]
            wrong += len(lost)
            run.problem(*(f"{key.decode()}: {held.get(key)!r}, not {last[key]!r}" for key in lost))
            run.say(
                f"partition {number} ({how}): the same after {passed_s:.2f} s, in sync after"
                f" {in_sync[-1]:.2f} s, {len(lost)} wrong"
            )
    run.figure("keys that differ after healing", differ, 0, of=f"{len(keys) * trials:,}")
    run.figure("keys that do not hold the later write", wrong, 0)
    run.figure("the same on both nodes after, longest", max(took), HEALED_S, "s", timed=True)
    # A peer that is lost again and again is taken back later each time.
    run.spread("in sync after", in_sync, "s", 1)


def _conflicts(pair: Pair, rng: random.Random, keys: Sequence[bytes]) -> dict[bytes, bytes | None]:
    """Write to both sides in turn; return what the later of the writes to each key left."""
    last: dict[bytes, bytes | None] = {}
    connections = [Blocking(node) for node in pair.nodes]
    try:
        for turn in range(2):
            for key in keys:
                side = rng.randrange(pair.count)
                if rng.random() < 0.2:
                    # A deletion counts as well where there was nothing to delete.
                    connections[side].send(b"delete %b\r\n" % key)
                    connections[side].line()
                    last[key] = None
                else:
                    value = b"side %d, turn %d, %d" % (side, turn, rng.randrange(1000))
                    connections[side].send(
                        b"set %b %d 0 %d\r\n%b\r\n" % (key, side, len(value), value)
                    )
                    connections[side].line()
                    last[key] = value
            # Versions are of milliseconds: in the next one, the other side's write is later.
            time.sleep(0.003)
    finally:
        for connection in connections:
            connection.close()
    return last


# -- deletes -------------------------------------------------------------------------------------


def deletes(run: Run) -> None:
    """Deletes and flushes that one node missed must not be undone by any way to resync."""
    undone = lost = resyncs = 0
    keys = [b"item:%d" % n for n in range(run.count(2000))]
    ways = ("partition", "frozen", "overflow", "crowded")
    for number in range(run.times(8)):
        way, flush = ways[number % len(ways)], number // len(ways) % 2 == 1
        # So small that what was missed is no longer known in detail.
        small = way in ("overflow", "crowded")
        with Pair(("--replication-backlog", "64k") if small else ()) as pair:
            pair.wait_in_sync()
            acts, misses = (0, 1) if run.rng(number).random() < 0.5 else (1, 0)
            store(pair.nodes[acts], [b"set %b 0 0 3\r\nold\r\n" % key for key in keys])
            if way == "frozen":
                pair.nodes[misses].signal(signal.SIGSTOP)
            else:
                pair.part()
            node = pair.nodes[acts]
            pair.wait_alone(acts)
            gone, there = _delete(node, keys, flush=flush, all_of_them=way == "crowded")
            if way == "overflow":
                store(node, [b"set more:%d 0 0 1\r\nx\r\n" % n for n in range(5000)])
            if way == "frozen":
                pair.nodes[misses].signal(signal.SIGCONT)
            else:
                pair.heal()
            pair.wait_in_sync()
            for index, each in enumerate(pair.nodes):
                held = read(each, keys)
                back = [key for key in gone if key in held]
                missing = [key for key in there if held.get(key) != b"new"]
                undone += len(back)
                lost += len(missing)
                run.problem(*(f"{way}: {key.decode()} is back at node{index}" for key in back))
                run.problem(*(f"{way}: {key.decode()} lost at node{index}" for key in missing))
            rows = [each.rows() for each in pair.nodes]
            full = sum(int(row.get("full_resyncs", 0)) for row in rows)
            resyncs += full
            run.say(f"{way}, {'flush_all' if flush else 'delete'}: {full} full resyncs")
    run.figure("deletes and flushes undone", undone, 0)
    run.figure("later writes lost", lost, 0)
    run.figure("full resyncs in all of that", resyncs)


def _delete(
    node: Node, keys: Sequence[bytes], *, flush: bool, all_of_them: bool
) -> tuple[list[bytes], list[bytes]]:
    """Delete or flush, store some anew; return what must be gone and what must be there."""
    connection = Blocking(node)
    if flush:
        connection.send(b"flush_all\r\n")
        connection.line()
        gone = list(keys)
    else:
        gone = list(keys if all_of_them else keys[::2])
        for key in gone:
            connection.send(b"delete %b\r\n" % key)
            connection.line()
    there = gone[::5]
    for key in there:
        connection.send(b"set %b 0 0 3\r\nnew\r\n" % key)
        connection.line()
    connection.close()
    kept = set(there)
    return [key for key in gone if key not in kept], there


# -- standing still ------------------------------------------------------------------------------


def freeze(run: Run) -> None:
    """The peer stands still for 6 s, or the link for 3 s, under load: who waits, what is stale."""
    for number in range(run.times(2)):
        for what, seconds in (("peer frozen", 6.0), ("link stalled", 3.0), ("one way", 3.0)):
            with Pair() as pair:
                pair.wait_in_sync()
                coordinator = pair.coordinator()
                stands = coordinator if number % 2 == 0 else 1 - coordinator
                _stand_still(run, pair, what, seconds * min(run.scale, 1.0), stands)


def _stand_still(run: Run, pair: Pair, what: str, seconds: float, stands: int) -> None:
    """Load both nodes; let node `stands`, or what it says, stand still for a time."""
    role = pair.nodes[stands].rows().get("role")
    name = f"{what} {seconds:g} s ({'by' if what != 'peer frozen' else 'was'} the {role})"
    healthy = 1 - stands
    rng = random.Random(run.seed)
    ledger = Ledger()
    load = Load(pair.nodes)
    frozen_ledger = Ledger()
    for client in range(CLIENTS_PER_NODE):
        load.add(writer(ledger, f"h{client}", rng, pause_s=0.001), healthy)
        load.add(writer(frozen_ledger, f"f{client}", rng, pause_s=0.001), stands)
    versions = _Versions()
    load.add(versions.writer(), healthy)
    for _ in range(4):
        load.add(versions.reader(), stands)
    if what == "peer frozen":
        load.at(1.0, lambda: pair.nodes[stands].signal(signal.SIGSTOP))
        load.at(1.0 + seconds, lambda: pair.nodes[stands].signal(signal.SIGCONT))
        # A node that stood still serves no stale value; parted nodes may.
        load.at(1.0, versions.watch)
        for _ in range(8):
            # They ask while it cannot answer, and know what it has missed.
            load.at(1.0 + seconds * 0.9, lambda: load.add(versions.reader(), stands))
    elif what == "link stalled":
        load.at(1.0, pair.stall)
        load.at(1.0 + seconds, pair.flow)
    else:
        load.at(1.0, lambda: pair.stall(stands, healthy))
        load.at(1.0 + seconds, pair.flow)
    times: dict[str, float] = {}

    def look_for_sync() -> None:
        if pair.in_sync(timeout_s=0.5):
            times["recovered"] = now_s() - times["resumed"]
            load.at(0.5, load.stop)
        else:
            load.at(0.05, look_for_sync)

    def resumed() -> None:
        times["resumed"] = now_s()
        look_for_sync()

    load.at(1.0 + seconds + 0.02, resumed)
    load.run(1.0 + seconds + 20.0)
    if "recovered" not in times:
        raise TrialError(f"{name}: no recovery\n{pair.report()}")
    _judge_latencies(run, name, load, healthy)
    run.figure(f"{name}: in sync again after", times["recovered"], unit="s")
    if what == "peer frozen":
        run.figure(f"{name}: stale answers", versions.stale, 0, of=f"{versions.read:,}")
    keys = [*ledger.acknowledged, *frozen_ledger.acknowledged]
    _, differ = settled(pair, keys, 5.0)
    run.figure(f"{name}: keys that differ in the end", len(differ), 0, of=f"{len(keys):,}")
    held = read(pair.nodes[healthy], keys)
    wrong = ledger.wrong(held) + frozen_ledger.wrong(held)
    run.figure(f"{name}: acknowledged by either node and lost", len(wrong), 0)
    run.problem(*wrong)


def _judge_latencies(run: Run, name: str, load: Load, healthy: int) -> None:
    taken = [each for each in load.timings if each.server == healthy]
    slow: dict[int, int] = {}
    for each in taken:
        if each.taken_s > 0.1:
            slow[each.client] = slow.get(each.client, 0) + 1
    p99_ms = quantile([each.taken_s for each in taken], 0.99) * 1e3
    longest_ms = max(each.taken_s for each in taken) * 1e3
    run.figure(f"{name}: p99 on the healthy node", p99_ms, 100, "ms", timed=True)
    run.figure(f"{name}: longest on the healthy node", longest_ms, unit="ms")
    run.figure(
        f"{name}: waits over 100 ms of one client", max(slow.values(), default=0), 1, timed=True
    )


class _Versions:
    """One key that one client counts up, and others who read it elsewhere.

    A read that began after the answer to a write may not show an older value.
    """

    def __init__(self) -> None:
        self.acknowledged = 0
        self.watching = False
        self.read = 0
        self.stale = 0

    def watch(self) -> None:
        self.watching = True

    def writer(self) -> Client:
        number = 0
        while True:
            number += 1
            text = b"%d" % number
            answer = yield Request(b"set version 0 0 %d\r\n%b\r\n" % (len(text), text))
            if answer == b"STORED\r\n":
                self.acknowledged = number
            yield Pause(0.001)

    def reader(self) -> Client:
        while True:
            before = self.acknowledged
            answer = yield Request(b"get version\r\n", b"END\r\n")
            if answer is None:
                continue  # a node that stood still parts from who asked meanwhile
            if not answer.startswith(b"VALUE"):
                if self.watching and before:
                    self.stale += 1
                continue
            if self.watching:
                self.read += 1
                self.stale += int(answer.split(b"\r\n")[1]) < before
            yield Pause(0.0005)
