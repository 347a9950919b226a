"""What counts the work of a step refuses no step that does what it must."""

from __future__ import annotations

import pytest

from tests.replication.helpers import Guest, Host, make_group
from tests.replication.work import Work
from tests.replication.world import constants

KEYS = 40
SETS = b"".join(b"ms %d 1 q\r\nx\r\n" % number for number in range(KEYS))


def counted() -> tuple[Host, Host, list[str]]:
    """Return a, which decides, and has keys that b has not acknowledged; b; what is complained of.

    Nobody waits for b to have them.
    """
    group = make_group(replication_ack="async")
    a, b = group["a"], group["b"]
    complaints: list[str] = []
    Work(a.node, complaints.append, 0)
    group.warm()
    b.frozen = True
    assert Guest(a).ask(SETS + b"mn\r\n") == b"MN\r\n"
    return a, b, complaints


@pytest.fixture(autouse=True)
def _small_bounds():
    with constants({"SLICE_ITEMS": 2, "SLICES_MAX": 2, "DROP_ITEMS": 2}):
        yield


def test_who_loses_a_peer_goes_through_all_that_it_has_not_acknowledged():
    a, _, complaints = counted()
    a.group.advance(10)
    assert a.node.role == "alone"
    assert complaints == []


def test_but_through_no_more_than_that():
    a, b, complaints = counted()
    b.frozen = False
    a.group.advance(1)
    (unacked,) = [len(peer.channel.unacked) for peer in a.node.view.peers.values() if peer.channel]
    assert not unacked
    assert complaints == []

    def look_at_all(now: float) -> None:
        for number in range(KEYS):
            a.cache.linked(b"%d" % number)

    a.node.voting.step = look_at_all  # type: ignore[method-assign]
    a.step()
    assert complaints == [f"a step that is too long: what was due: {KEYS} keys of 16"]
