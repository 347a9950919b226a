"""What survives when a node dies: kill -9 under load, after a cut of the link, an empty return."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

from conformance.clock import now_s
from conformance.trial import TrialError

from .load import Ledger, Load, Request, differing, read, read_items, store, writer
from .nodes import Pair

if TYPE_CHECKING:
    import random

    from conformance.trial import Run

    from .load import Client

CLIENTS_PER_NODE = 8
ACK_TIMEOUT_S = 0.08


def _load(pair: Pair, ledger: Ledger, rng: random.Random, *, roams: bool = True) -> Load:
    load = Load(lambda: pair.nodes)
    for index in range(pair.count):
        for number in range(CLIENTS_PER_NODE):
            name = f"n{index}c{number}"
            load.add(writer(ledger, name, rng), index, roams=roams)
    return load


def _lost_by_kill(
    run: Run, pair: Pair, number: int, victim: int, *, cut_first: bool
) -> tuple[int, int] | None:
    """Kill a node under load; return writes acknowledged and lost, None if the trial is void."""
    rng = run.rng(number)
    rng.random()
    ledger = Ledger()
    load = _load(pair, ledger, rng)
    role = pair.nodes[victim].rows().get("role", "-")
    alone_before = pair.nodes[victim].times_alone()

    def cut() -> None:
        if rng.random() < 0.5:
            pair.part(how="silent")
        else:
            pair.part(how="reset")

    at_s = rng.uniform(0.2, 0.6)
    if cut_first:
        load.at(at_s, cut)
        load.at(at_s + rng.uniform(0.0, 0.6) * ACK_TIMEOUT_S, pair.nodes[victim].kill)
    else:
        load.at(at_s, pair.nodes[victim].kill)
    load.run(at_s + rng.uniform(0.3, 0.6))
    if pair.nodes[victim].times_alone() != alone_before:
        # It got no CPU for so long that it served alone, and said so: that is another promise.
        return None
    survivor = pair.nodes[1 - victim]
    lines = ledger.wrong(read(survivor, list(ledger.acknowledged)))
    run.say(
        f"trial {number}: the {role} killed, {ledger.writes:,} acknowledged, {len(lines)} lost"
        f"{f', errors {load.errors}' if load.errors else ''}"
    )
    run.problem(*(f"trial {number}, the {role} killed: {line}" for line in lines))
    return ledger.writes, len(lines)


def _kills(run: Run, *, cut_first: bool) -> None:
    trials = run.times(50)
    writes = lost = void = done = 0
    returns: list[float] = []
    with Pair() as pair:
        pair.wait_in_sync()
        for number in itertools.count():
            if done == trials or void > trials + 10:
                break
            # Not in turn: who comes back is the follower, and it would always be the coordinator.
            victim = run.rng(number).randrange(pair.count)
            outcome = _lost_by_kill(run, pair, number, victim, cut_first=cut_first)
            if outcome is None:
                void += 1
            else:
                done += 1
                writes += outcome[0]
                lost += outcome[1]
            started_s = now_s()
            if cut_first:
                pair.heal()
            pair.restart(victim)
            pair.wait_in_sync()
            returns.append(now_s() - started_s)
            pair.nodes[0].ask(b"flush_all\r\n")
    what = "link cut, then kill -9" if cut_first else "kill -9 under load"
    run.figure(f"{what}: acknowledged writes lost", lost, 0, of=f"{writes:,} in {done} trials")
    run.figure("trials that count", done, 1, at_least=True)
    if void:
        run.figure("trials in which a node served alone before: do not count", void)
    run.spread("the killed node, from its start to in sync", returns, "s", 1)


def kill(run: Run) -> None:
    """kill -9 of either node under load, in turn: acknowledged writes lost."""
    _kills(run, cut_first=False)


def cutkill(run: Run) -> None:
    """The link is cut, silently or by reset, and less than the time-out later a node is killed."""
    _kills(run, cut_first=True)


def refill(run: Run) -> None:
    """An empty node comes back while the other is written to; then the other is killed."""
    items, item_bytes = run.count(20_000), 1024
    for number in range(run.times(2)):
        rng = run.rng(number)
        with Pair(("-m", "256")) as pair:
            pair.wait_in_sync()
            stays, returns = (0, 1) if number % 2 == 0 else (1, 0)
            requests, expected = _fixed_items(items, item_bytes)
            store(pair.nodes[stays], requests)
            pair.nodes[returns].kill()
            pair.wait_alone(stays)
            _refill_once(run, pair, rng, stays, returns, expected)


def _fixed_items(items: int, item_bytes: int) -> tuple[list[bytes], dict[bytes, bytes]]:
    requests, expected = [], {}
    for n in range(items):
        key = b"fixed:%d" % n
        value = (b"value/%d/" % n).ljust(item_bytes, b"x")
        exptime = 0 if n % 2 else 600 + n % 1000
        expected[key] = value
        requests.append(b"set %b %d %d %d\r\n%b\r\n" % (key, n, exptime, len(value), value))
    return requests, expected


def _refill_once(
    run: Run,
    pair: Pair,
    rng: random.Random,
    stays: int,
    returns: int,
    expected: dict[bytes, bytes],
) -> None:
    ledger = Ledger()
    load = Load(lambda: pair.nodes)
    for client in range(CLIENTS_PER_NODE):
        load.add(writer(ledger, f"w{client}", rng, value_bytes=1024, pause_s=0.002), stays)
    early: list[bytes] = []
    times: dict[str, float] = {}
    keys = list(expected)

    def early_bird() -> Client:
        # Refused until the node is ready, and from then on it must know everything.
        while True:
            key = rng.choice(keys)
            answer = yield Request(b"get %b\r\n" % key, b"END\r\n")
            times.setdefault("answered", now_s())
            if answer is not None and expected[key] not in answer:
                early.append(key)
            if now_s() > times["answered"] + 0.5:
                load.stop()
                return

    def come_back() -> None:
        times["started"] = now_s()
        pair.restart(returns)
        times["process"] = now_s()
        for _ in range(2):
            load.add(early_bird(), returns)

    load.at(0.2, come_back)
    load.run(30.0)
    if "answered" not in times:
        raise TrialError(f"the node that came back answers nobody\n{pair.report()}")
    run.figure("ready again after", times["answered"] - times["started"], 5.0, "s", timed=True)
    run.figure("early misses answered", len(early), 0)
    pair.wait_in_sync()
    everything = [*expected, *ledger.acknowledged]
    one, other = (read_items(pair.nodes[index], everything) for index in (stays, returns))
    wrong = differing(one, other)
    wrong += [key for key in expected if key not in other or other[key].value != expected[key]]
    run.figure("items that differ", len(wrong), 0, of=f"{len(one):,}")
    run.problem(*(f"{key.decode()}: {one.get(key)} / {other.get(key)}"[:200] for key in wrong))
    pair.nodes[stays].kill()
    survivor = pair.nodes[returns]
    held = read(survivor, everything)
    lost = ledger.wrong(held) + [
        f"{key.decode()} is gone" for key in expected if held.get(key) != expected[key]
    ]
    run.figure("lost when the other is killed then", len(lost), 0, of=f"{len(everything):,}")
    run.problem(*lost)
