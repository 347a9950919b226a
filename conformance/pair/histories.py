"""Histories of concurrent commands on both nodes, judged key by key: is there one server's order?

The judge is that of the simulation; here the processes, sockets, kills and clocks are real.
"""

from __future__ import annotations

import signal
import time
from typing import TYPE_CHECKING

from tests.replication.linearizability import Operation, Outcome, judge

from .load import Load, Request
from .nodes import Pair

if TYPE_CHECKING:
    import random

    from conformance.trial import Run

    from .load import Client

CLIENTS_PER_NODE = 3
KEYS = 24
FAULTS = ("nothing", "kill", "link reset", "freeze", "slow link")
STATUS = {
    b"STORED\r\n": "ok",
    b"DELETED\r\n": "ok",
    b"TOUCHED\r\n": "ok",
    b"NOT_STORED\r\n": "not_stored",
    b"EXISTS\r\n": "exists",
    b"NOT_FOUND\r\n": "not_found",
}
VERBS = ("get", "get", "set", "add", "cas", "cas", "delete", "append", "replace")
COUNTING_VERBS = ("incr", "incr", "decr", "get", "add", "delete")


def outcome_of(answer: bytes) -> Outcome | None:
    """Read an answer; None: it does not say what happened."""
    if answer.startswith(b"VALUE "):
        head, _, rest = answer.partition(b"\r\n")
        words = head.split()
        return Outcome("ok", rest[: int(words[3])], int(words[2]), int(words[4]))
    if answer == b"END\r\n":
        return Outcome("not_found")
    if answer in STATUS:
        return Outcome(STATUS[answer])
    if (number := answer.strip()).isdigit():
        return Outcome("ok", number)
    return None


def _request(operation: Operation) -> Request:
    key, verb, value = operation.key, operation.verb.encode(), operation.value
    if verb == b"get":
        return Request(b"gets %b\r\n" % key, b"END\r\n")
    if verb == b"delete":
        return Request(b"delete %b\r\n" % key)
    if verb in (b"incr", b"decr"):
        return Request(b"%b %b %d\r\n" % (verb, key, operation.delta))
    compare = b" %d" % operation.compare if verb == b"cas" else b""
    head = b"%b %b %d 0 %d%b\r\n" % (verb, key, operation.flags, len(value), compare)
    return Request(head + value + b"\r\n")


def _client(number: int, rng: random.Random, history: list[Operation]) -> Client:
    seen: dict[bytes, int] = {}
    count = 0
    while True:
        count += 1
        chosen = rng.randrange(KEYS)
        counts = chosen % 3 == 0
        key = b"%s%d" % (b"count" if counts else b"key", chosen)
        verb = rng.choice(COUNTING_VERBS if counts else VERBS)
        operation = Operation(key, verb, 0.0, node=f"client {number}")
        if verb in ("incr", "decr"):
            operation.delta = rng.randrange(1, 10)
        elif verb not in ("get", "delete"):
            operation.value = b"%d" % rng.randrange(100) if counts else b"%d.%d;" % (number, count)
            operation.flags = rng.randrange(4)
        if verb == "cas":
            operation.compare = seen.get(key, 1)
        history.append(operation)
        operation.invoked_at = time.monotonic()
        answer = yield _request(operation)
        if answer is None:
            continue
        operation.outcome = outcome_of(answer)
        if operation.outcome is not None:
            operation.returned_at = time.monotonic()
            if operation.outcome.cas is not None:
                seen[key] = operation.outcome.cas


def linear(run: Run) -> None:
    """Histories from clients on both nodes, some across a kill -9 or SIGSTOP: one server's?"""
    operations = bad = undecided = answered = judged = void = 0
    trials = run.times(25)
    for first in range(0, trials, len(FAULTS)):
        # New ones now and then: a node that was lost often is taken back later each time.
        with Pair() as pair:
            for number in range(first, min(first + len(FAULTS), trials)):
                pair.wait_in_sync()
                fault = FAULTS[number % len(FAULTS)]
                history, counts = _history(run, pair, number, fault)
                if not counts:
                    void += 1
                    run.say(f"history {number}, {fault}: degraded meanwhile, does not count")
                    continue
                judged += 1
                verdicts = judge(history)
                operations += len(history)
                answered += sum(each.outcome is not None for each in history)
                bad += sum(verdict.decided for verdict in verdicts.values())
                undecided += sum(not verdict.decided for verdict in verdicts.values())
                run.say(
                    f"history {number}, {fault}: {len(history):,} operations, {len(verdicts)} bad"
                )
                for key, verdict in verdicts.items():
                    run.problem(
                        f"history {number}, {fault}: {key!r}", *verdict.explain().splitlines()
                    )
    run.figure("keys whose history no single server explains", bad, 0, of=f"{operations:,} steps")
    run.figure("histories too entangled to decide", undecided, 0)
    run.figure("histories judged", judged, 1, at_least=True)
    run.figure("operations that were answered", answered)
    if void:
        run.figure("histories that were degraded meanwhile", void)


def _history(run: Run, pair: Pair, number: int, fault: str) -> tuple[list[Operation], bool]:
    rng = run.rng(number)
    history: list[Operation] = []
    pair.nodes[0].ask(b"flush_all\r\n")
    pair.delay(0.001 if fault == "slow link" else 0.0)
    load = Load(lambda: pair.nodes)
    for index in range(pair.count):
        for each in range(CLIENTS_PER_NODE):
            client = _client(index * CLIENTS_PER_NODE + each, rng, history)
            load.add(client, index, roams=fault == "kill")
    victim = number // len(FAULTS) % pair.count
    nodes = list(pair.nodes)
    before = [node.times_alone() for node in nodes]
    if fault == "kill":
        load.at(rng.uniform(0.2, 0.4), pair.nodes[victim].kill)
    elif fault == "link reset":
        for _ in range(3):
            load.at(rng.uniform(0.1, 0.5), rng.choice((pair.cut, pair.halve)))
    elif fault == "freeze":
        # Longer than the other one waits. Only one of the two serves at any time.
        node = nodes[victim]
        at_s = rng.uniform(0.1, 0.2)
        load.at(at_s, lambda: node.signal(signal.SIGSTOP))
        load.at(at_s + rng.uniform(0.15, 0.3), lambda: node.signal(signal.SIGCONT))
    load.run(run.count(6) / 10)
    alone = [after.times_alone() - count for after, count in zip(nodes, before, strict=True)]
    if fault in ("kill", "freeze"):
        alone[1 - victim] = 0
    if fault == "kill":
        pair.restart(victim)
    return history, alone == [0, 0]
