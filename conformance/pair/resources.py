"""What a pair costs when things go badly: a small peer, an absent peer. And three nodes."""

from __future__ import annotations

import itertools
import signal
from contextlib import ExitStack
from typing import TYPE_CHECKING

from conformance.servers import PYMCD, Server
from conformance.trial import TrialError

from .load import Ledger, Load, read, read_items, store, writer
from .locks import contend
from .nodes import Pair, resident_bytes
from .partitions import settled

if TYPE_CHECKING:
    from collections.abc import Iterator

    from conformance.trial import Run

MIB = 1 << 20
ITEM_BYTES = 1024


def evictions(run: Run) -> None:
    """A peer with little memory evicts; the other node keeps all."""
    count = run.count(20_000)
    for small in range(run.times(2)):
        with Pair(own={small: ("-m", "8"), 1 - small: ("-m", "256")}) as pair:
            pair.wait_in_sync()
            big = 1 - small
            for index, node in enumerate(pair.nodes):
                value = b"%d" % index * ITEM_BYTES
                keys = [b"n%d:%d" % (index, n) for n in range(count // 2)]
                store(node, [b"set %b 0 0 %d\r\n%b\r\n" % (key, len(value), value) for key in keys])
            # Some more of everything, and reads on the small one.
            every = [b"n%d:%d" % (index, n) for index in range(2) for n in range(count // 2)]
            read(pair.nodes[small], every)
            role = pair.nodes[small].rows().get("role")
            evicted = int(pair.nodes[small].rows(b"").get("evictions", 0))
            held = read(pair.nodes[big], every)
            missing = [key for key in every if key not in held]
            run.figure(f"the {role} is small: it evicted", evicted, 1, at_least=True)
            run.figure(f"the {role} is small: items gone from the big node", len(missing), 0)
            run.figure(
                f"the {role} is small: evictions of the big node",
                int(pair.nodes[big].rows(b"").get("evictions", 0)),
                0,
            )
            few = read_items(pair.nodes[small], every)
            many = read_items(pair.nodes[big], every)
            wrong = [key for key, item in few.items() if many.get(key, item)[:3] != item[:3]]
            run.figure(f"the {role} is small: items that differ", len(wrong), 0)


# -- memory --------------------------------------------------------------------------------------

BACKLOG_BYTES = 8 * MIB
QUEUE_ITEMS = 4096
#: What the allocator of an interpreter may keep beyond what is in use.
SLACK_BYTES = 8 * MIB


def _churn(seed: int, writes: int) -> Iterator[bytes]:
    """Overwrites of a fixed set, and items that are stored once and deleted."""
    value = b"v" * ITEM_BYTES
    for number in range(writes):
        if number % 3:
            key = b"fixed:%d" % (number * 7919 % 5000)
            yield b"set %b 0 0 %d noreply\r\n%b\r\n" % (key, len(value), value)
        else:
            key = b"passing:%d:%d" % (seed, number)
            yield b"set %b 0 0 10 noreply\r\n0123456789\r\ndelete %b noreply\r\n" % (key, key)


def _write_all(node: Server, requests: Iterator[bytes]) -> None:
    with node.connect(60.0) as stream:
        while batch := b"".join(itertools.islice(requests, 500)):
            stream.sendall(batch + b"version\r\n")
            if not stream.recv(4096).startswith(b"VERSION"):
                raise TrialError("an answer to quiet commands")


def memory(run: Run) -> None:
    """The peer is gone and writes go on: resident memory beyond what one server alone takes."""
    writes = run.count(400_000)
    options: tuple[str, ...] = ("--replication-backlog", f"{BACKLOG_BYTES >> 20}m")
    options += ("--replication-queue", str(QUEUE_ITEMS), "-m", "64")
    bound_bytes = BACKLOG_BYTES + QUEUE_ITEMS * ITEM_BYTES + SLACK_BYTES
    grown: dict[str, list[int]] = {}
    for how in ("alone", "killed", "frozen", "parted"):
        with ExitStack() as running:
            node: Server
            if how == "alone":
                node = running.enter_context(Server(PYMCD, ("-m", "64")))
            else:
                pair = running.enter_context(Pair(options))
                pair.wait_in_sync()
                node = pair.nodes[0]
            _write_all(node, _churn(0, 30_000))  # the items are there, and Python is warm
            if how == "killed":
                pair.nodes[1].kill()
            elif how == "frozen":
                pair.nodes[1].signal(signal.SIGSTOP)
            elif how == "parted":
                pair.part()
            if how != "alone":
                pair.wait_alone(0)
            before = resident_bytes(node.pid)
            steps = grown.setdefault(how, [])
            for part in range(4):
                _write_all(node, _churn(1 + part, writes // 4))
                steps.append(resident_bytes(node.pid) - before)
            run.say(f"{how}: grown by {[f'{step / MIB:.1f} MiB' for step in steps]}")
    alone = grown.pop("alone")
    for how, steps in grown.items():
        run.figure(
            f"peer {how}: memory beyond the items after {writes:,} writes",
            (max(steps) - max(alone)) / MIB,
            bound_bytes / MIB,
            "MiB",
        )
        # What is bounded does not grow on.
        run.figure(
            f"peer {how}: of that in the last quarter", (steps[-1] - steps[-2]) / MIB, 4, "MiB"
        )


# -- three nodes ---------------------------------------------------------------------------------


def three(run: Run) -> None:
    """A mesh of three: locks, a node killed under load, its return, one cut off and back."""
    with Pair(count=3) as pair:
        contend(run, pair, pair.nodes, run.count(300), "three nodes")
        total = wrong = judged = 0
        for number in range(run.times(3)):
            victim = number % 3
            pair.wait_in_sync()
            alone_before = pair.nodes[victim].times_alone()
            ledger = Ledger()
            load = Load(lambda: pair.nodes)
            rng = run.rng(number)
            for index in range(3):
                for client in range(4):
                    load.add(writer(ledger, f"t{index}{client}", rng), index, roams=True)
            load.at(0.4, pair.nodes[victim].kill)
            load.run(1.0)
            if pair.nodes[victim].times_alone() == alone_before:
                judged += 1
                total += ledger.writes
                pair.wait_in_sync(without=victim)
                for index in range(3):
                    if index != victim:
                        lines = ledger.wrong(read(pair.nodes[index], list(ledger.acknowledged)))
                        wrong += len(lines)
                        run.problem(*lines)
            pair.restart(victim)
            run.say(f"three nodes in sync again after {pair.wait_in_sync():.2f} s")
        run.figure(
            "three nodes: acknowledged writes lost", wrong, 0, of=f"{total:,} in {judged} trials"
        )
        _one_cut_off(run, pair)


def _one_cut_off(run: Run, pair: Pair) -> None:
    ledger = Ledger()
    load = Load(pair.nodes)
    rng = run.rng(99)
    for index in range(3):
        for client in range(4):
            load.add(writer(ledger, f"p{index}{client}", rng), index)
    load.at(0.3, lambda: pair.part(node=2))
    load.at(1.3, lambda: pair.heal(lose=False))
    load.run(1.6)
    run.figure("three nodes, one cut off: in sync again after", pair.wait_in_sync(), unit="s")
    keys = list(ledger.acknowledged)
    passed_s, differ = settled(pair, keys, 5.0)
    run.figure("three nodes, one cut off: keys that differ", len(differ), 0, of=f"{len(keys):,}")
    run.figure("three nodes, one cut off: all the same after", passed_s, unit="s")
    held = [read_items(node, keys) for node in pair.nodes]
    for key in differ:
        items = [each.get(key) for each in held]
        run.problem(f"{key.decode()}: {[item and (item.value[:10], *item[1:]) for item in items]}")
    wrong = ledger.wrong({key: item.value for key, item in held[0].items()})
    run.figure("three nodes, one cut off: acknowledged writes lost", len(wrong), 0)
    run.problem(*wrong)
