"""The trials of a bucket, shortened: what is right must hold; how long it took is not judged."""

from __future__ import annotations

import pytest

from conformance.pair.nodes import Pair
from conformance.pair.ways import WAYS
from conformance.trial import check, until

from .bucket import BucketPair
from .install import CLIENTS, VERSIONS
from .trials import TRIALS
from .worker import Outcome, Request, Worker

#: Name, how often, the part of it that is done.
QUICK = [("kill", 1, 1.0)]
SLOW = [("single", 1, 1.0), ("kill", 2, 1.0), ("restart", 1, 1.0), ("freeze", 1, 0.5)]

REASON = next((reason for client in CLIENTS.values() if (reason := client.why_not())), "")
needs_client = pytest.mark.skipif(bool(REASON), reason=REASON)


def _try(name: str, trials: int, scale: float) -> None:
    check(TRIALS[name], trials, scale)


@needs_client
@pytest.mark.parametrize(("name", "trials", "scale"), QUICK, ids=[row[0] for row in QUICK])
def test_trial(name: str, trials: int, scale: float) -> None:
    _try(name, trials, scale)


@needs_client
@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize(("name", "trials", "scale"), SLOW, ids=[row[0] for row in SLOW])
def test_long_trial(name: str, trials: int, scale: float) -> None:
    _try(name, trials, scale)


@needs_client
@pytest.mark.slow
def test_trial_with_a_login(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Pair, "usual_way", WAYS["sasl"])
    check(TRIALS["kill"], 2, 1.0)


def _requests(*told: tuple[str, int, str]) -> list[Request]:
    return [
        Request(what, "k-1", number, outcome, float(at), at + 0.5)
        for at, (what, number, outcome) in enumerate(told)
    ]


#: What a client did, and how much of it is wrong.
LEDGERS = [
    ([("set", 1, "ok"), ("get", 1, "ok")], 0),
    ([("set", 1, "ok"), ("get", -1, "ok")], 1),  # lost
    ([("set", 1, "ok"), ("set", 2, "ok"), ("get", 1, "ok")], 1),  # stale
    ([("set", 1, "ok"), ("set", 2, "Timeout"), ("get", 1, "ok"), ("get", 2, "ok")], 0),
    ([("set", 1, "Timeout"), ("get", -1, "ok")], 0),
    ([("set", 1, "ok"), ("get", 2, "ok")], 1),  # from nowhere
    ([("set", 1, "ok"), ("get", -1, "Timeout")], 0),
]


@pytest.mark.parametrize(("told", "wrong"), LEDGERS)
def test_what_is_lost_or_stale_is_noticed(told, wrong):
    assert len(Outcome(_requests(*told)).stale()) == wrong


@needs_client
@pytest.mark.slow
def test_a_loss_would_be_noticed():
    """One node, which comes back empty: the same clients, the same ledger."""
    with BucketPair(count=1) as node:
        node.wait_in_map()
        with Worker(node.addresses, VERSIONS[0]) as worker:
            until("requests", lambda: len(worker.requests()) >= 200)
            node.nodes[0].kill()
            node.restart(0)
            before = len(worker.requests())
            until("more", lambda: len(Outcome(worker.requests()[before:]).acknowledged()) > 8)
            assert Outcome(worker.finish()).stale()


def test_what_clients_notice_is_told():
    outcome = Outcome(_requests(("set", 1, "ok"), ("set", 2, "Timeout"), ("set", 3, "ok")))
    assert outcome.acknowledged() == {"k-1": 3}
    assert outcome.errors == {"set Timeout": 1}
    assert outcome.longest_outage_s() == 1.5
