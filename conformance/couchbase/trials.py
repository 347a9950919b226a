"""What a client sees of a bucket while its nodes die, stand still, stop and come back."""

from __future__ import annotations

import os
import signal
import tempfile
import time
from functools import partial
from typing import TYPE_CHECKING

from conformance.pair.ways import TEXT
from conformance.trial import TrialError, until

from .bucket import BucketPair
from .install import VERSIONS
from .worker import USUAL, Outcome, Worker

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from conformance.pair.nodes import Node
    from conformance.trial import Run

    from .worker import Request

    Fault = Callable[["BucketPair", int, "Worker"], None]

#: Before and after what happens: streams follow the herald, which takes a second.
CALM_S = 2.0
FROZEN_S = 8.0


def _value(node: Node, key: str) -> int:
    """Return the number that a node has; -1: none."""
    lines = node.ask(b"get %b\r\n" % key.encode(), b"END\r\n").split(b"\r\n")
    return int(lines[1]) if len(lines) > 2 else -1


def _lost(pair: BucketPair, outcome: Outcome) -> list[str]:
    """Return what a node lacks of what was acknowledged."""
    return [
        f"node{index} has {found} of {key}, not {number}"
        for index, node in enumerate(pair.nodes)
        for key, number in outcome.acknowledged().items()
        if (found := _value(node, key)) < number
    ]


def _dies(pair: BucketPair, victim: int, worker: Worker) -> None:
    pair.nodes[victim].kill()
    worker.go_on()
    pair.restart(victim)


def _stops(pair: BucketPair, victim: int, worker: Worker) -> None:
    pair.nodes[victim].signal(signal.SIGTERM)
    pair.nodes[victim].wait()
    worker.go_on()
    pair.restart(victim)


def _stands_still(pair: BucketPair, victim: int, worker: Worker, seconds: float) -> None:
    ends_s = time.monotonic() + seconds
    pair.nodes[victim].signal(signal.SIGSTOP)
    try:
        worker.go_on()
        time.sleep(max(0.0, ends_s - time.monotonic()))
    finally:
        pair.nodes[victim].signal(signal.SIGCONT)


def _faults(
    run: Run,
    what: str,
    times: int,
    fault: Fault,
    *,
    noticed: bool,
    version: str = VERSIONS[0],
) -> None:
    """Do something to the master, and to the other node, again and again; clients at work.

    While a node is away clients go on. No request may fail where it is the other node that
    something happens to; `noticed`: where it is the master, some may.
    """
    judged = version == VERSIONS[0]
    with BucketPair() as pair:
        pair.wait_in_map()
        bucket, password = pair.login
        with Worker(pair.addresses, version, bucket=bucket, password=password) as worker:
            time.sleep(CALM_S)
            spans: dict[str, list[tuple[float, float]]] = {"master": [], "other": []}
            for role in ("master", "other") * times:
                other = pair.herald()
                victim = 1 - other if role == "master" else other
                began_s = time.monotonic()
                fault(pair, victim, worker)
                pair.wait_in_map()
                time.sleep(CALM_S)
                spans[role].append((began_s, time.monotonic()))
                run.say(f"{version}: the {role}, node{victim}, {what}")
            outcome = Outcome(worker.finish())
            run.say(worker.log())
        lost = [*outcome.stale(), *_lost(pair, outcome)]
    of = f"{len(outcome.requests):,} requests"
    run.figure(f"{version}: acknowledged lost or stale", len(lost), 0 if judged else None, of=of)
    run.problem(*lost)
    for role, times_of in spans.items():
        inside = [_within(outcome.requests, *span) for span in times_of]
        failed = sum(len(each.failed) for each in inside)
        bar = None if not judged or (noticed and role == "master") else 0
        run.figure(f"{version}, {role} {what}: requests that failed", failed, bar)
        outages = [each.longest_outage_s() for each in inside]
        run.spread(f"{version}, {role} {what}: wait", outages, "s", 1)
        for each in inside:
            run.say(f"{dict(each.errors)}")


def _within(requests: Sequence[Request], began_s: float, ended_s: float) -> Outcome:
    return Outcome(
        [each for each in requests if began_s <= each.ended_s and each.began_s <= ended_s]
    )


def kill(run: Run) -> None:
    """kill -9 of the master, then of the other node, which return empty."""
    _faults(run, "killed", run.times(3), _dies, noticed=True)


def restart(run: Run) -> None:
    """SIGTERM to the master, then to the other node, which return empty."""
    _faults(run, "stopped", run.times(3), _stops, noticed=False)


def freeze(run: Run) -> None:
    """SIGSTOP of the master for 8 s, then of the other node."""
    seconds = max(2.0, FROZEN_S * min(run.scale, 1.0))
    _faults(run, "frozen", run.times(2), partial(_stands_still, seconds=seconds), noticed=True)


def old(run: Run) -> None:
    """kill -9 as above, with 1.4.0, which has faults of its own: figures, and no bars.

    A request under way may come back as a miss, though the item is there: by the sources of its
    spymemcached it is queued twice, and the end of the one may be taken for the other's answer.
    """
    _faults(run, "killed", run.times(3), _dies, noticed=True, version=VERSIONS[1])


def single(run: Run) -> None:
    """One node: how long the client takes to start, and who is let in."""
    for version in VERSIONS:
        for what, properties in (("as it comes", {}), ("with the property", USUAL)):
            # Empty: a worker must find nothing but its own.
            with BucketPair(count=1, way=TEXT) as node:
                node.wait_in_map()
                began = Worker(node.addresses, version, properties=properties)
                run.figure(f"{version}: requests that failed, {what}", _work(began), 0)
                run.figure(f"{version}: start {what}", began.ready_s, unit="s")
        with BucketPair(count=1, way=TEXT) as node:
            node.wait_in_map()
            strangers = _let_in(Worker(node.addresses, version, bucket="sessions"))
            run.figure(f"{version}: clients of a bucket that is not there", strangers, 0)
        with tempfile.NamedTemporaryFile("w") as users:
            users.write("sessions:secret\n")
            users.flush()
            os.chmod(users.name, 0o644)
            environment = {"MEMCACHED_SASL_PWDB": users.name}
            with BucketPair(("-S",), count=1, environments={0: environment}, way=TEXT) as node:
                until("it listens", lambda: node.nodes[0].accepts())
                login = partial(Worker, node.addresses, version)
                right = login(bucket="sessions", password="secret")
                run.figure(f"{version}: requests that failed, with a login", _work(right), 0)
                strangers = sum(
                    _let_in(login(bucket=bucket, password=password))
                    for bucket, password in (("sessions", "wrong"), ("default", ""))
                )
                run.figure(f"{version}: clients with a wrong login", strangers, 0)


def _work(worker: Worker) -> int:
    """Have a hundred requests made; return how many failed, or found what is not so."""
    with worker:
        until("requests", lambda: len(worker.requests()) >= 100)
        outcome = Outcome(worker.finish())
    return len(outcome.failed) + len(outcome.stale())


def _let_in(worker: Worker) -> int:
    try:
        with worker:
            return 1
    except TrialError:
        return 0


TRIALS: dict[str, Callable[[Run], None]] = {
    "single": single,
    "kill": kill,
    "restart": restart,
    "freeze": freeze,
    "old": old,
}
