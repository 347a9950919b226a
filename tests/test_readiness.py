"""Whether clients may come to a server: each state, how it comes about, and what is said of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from pymcd.readiness import STATES, Readiness, State, readiness_of
from pymcd.replication.link import ADVICE

from .replication.helpers import Group, Guest, Host, Wire, address_of, make_group

if TYPE_CHECKING:
    from collections.abc import Callable

A, B, W = map(address_of, "abw")


def of(host: Host) -> Readiness:
    return readiness_of(host.node, draining=False)


def _new() -> Host:
    return Group()["a"]


def _both_new() -> Host:
    group = Group()
    Wire(group["a"], group["b"])
    group["a"].turn()
    return group["b"]


def _just_met() -> Host:
    group = Group()
    wire = Wire(group["a"], group["b"])
    _step_until(group, wire, lambda: any(each.link for each in group["b"].node.view.peers.values()))
    return group["b"]


def _step_until(group: Group, wire: Wire, reached: Callable[[], object]) -> None:
    """Let happen a little after the other, until something is so."""
    for _ in range(100):
        if reached():
            return
        for host in group.hosts.values():
            host.turn()
        wire.carry()
    raise AssertionError("it never is")


def _copying() -> Host:
    group = make_group()
    Guest(group["a"]).ask(b"set k 0 0 1\r\nx\r\n")
    group["b"].stop()
    group.advance(1)
    group["b"].start()
    _step_until(group, Wire(group["a"], group["b"]), lambda: group["b"].cache.item_count)
    return group["b"]


def _without_consent() -> Host:
    group = Group(witness=True, sync_timeout_s=1)
    group.link_witness("a")
    group.advance(5)
    return group["a"]


def _refused() -> Host:
    group = Group("")
    a = group.add("a", peers=(B,), sync_timeout_s=1)
    group.advance(3)
    assert Guest(a).ask(b"set k 0 0 1\r\nx\r\n") == b"STORED\r\n"
    b = group.add("b", peers=(A,), secret=b"another")
    group.link("b", "a")
    return b


def _first() -> Host:
    return make_group()["a"]


def _second() -> Host:
    return make_group()["b"]


def _left(ack: str = "semi") -> Host:
    group = make_group(replication_ack=ack)
    group["b"].stop()
    group.advance(1)
    return group["a"]


def _strict() -> Host:
    return _left("strict")


def _no_other() -> Host:
    return make_group("a")["a"]


def _no_other_and_strict() -> Host:
    return make_group("a", replication_ack="strict")["a"]


def _catching_up() -> Host:
    group = make_group("abc", votes=False)
    group.wire("b", "c").stall()
    group["a"].stop()
    group.advance(0.1)
    return group["c"]


def _taken_in() -> Host:
    host = _catching_up()
    wire = host.group.wire("b", "c")
    wire.resume()
    _step_until(host.group, wire, lambda: host.peer("b").channel)
    return host


def _left_behind_and_refused() -> Host:
    host = _stood_still()
    host.group.wire("a", "b").cut()
    host.node.membership.secret = b"another"
    host.group.link("b", "a")
    return host


def _stood_still() -> Host:
    group = make_group()
    group["b"].frozen = True
    group.advance(10)
    group.wire("a", "b").stall()
    group["b"].frozen = False
    group["b"].step()
    return group["b"]


def _cut_off() -> Host:
    group = make_group(witness=True)
    group.advance(1)
    group.wire("a", "b").cut()
    group.wire("a", "w").cut()
    group.advance(3)
    return group["a"]


#: How a node comes to be so, its state, what is said of it.
CASES: list[tuple[Callable[[], Host], State, str]] = [
    (_new, State.STARTING, f"waiting for {B}"),
    (_both_new, State.STARTING, f"waiting for {A}"),
    (_just_met, State.STARTING, "finding out who has data"),
    (_copying, State.STARTING, "copying from a: 1 items so far"),
    (
        _without_consent,
        State.STARTING,
        f"each node must consent that could have data, and not all are there: {B}",
    ),
    (
        _refused,
        State.REFUSED,
        f"{A} has data, and there is no link to it: {ADVICE['secret']}",
    ),
    (_first, State.IN_SYNC, "in sync with b; this node coordinates"),
    (_second, State.IN_SYNC, "in sync; a coordinates"),
    (_left, State.ALONE, f"no other node is in sync; waiting for {B}"),
    (
        _strict,
        State.READ_ONLY,
        f"no other node is in sync; waiting for {B}; nothing can be written",
    ),
    (_no_other, State.ALONE, "there is no other node with data"),
    (
        _no_other_and_strict,
        State.READ_ONLY,
        "there is no other node with data; nothing can be written",
    ),
    (_catching_up, State.JOINING, "others went on without it; waiting for b"),
    (_taken_in, State.JOINING, "others went on without it; catching up with b"),
    (
        _left_behind_and_refused,
        State.REFUSED,
        f"{A} has data, and there is no link to it: {ADVICE['secret']}",
    ),
    (_stood_still, State.JOINING, "it was left behind; waiting for the others"),
    (
        _cut_off,
        State.NO_MAJORITY,
        "most votes of the last view are not to be had;"
        f" waiting for {B}, the witness (disconnected)",
    ),
]


@pytest.mark.parametrize(
    ("make", "state", "reason"), CASES, ids=[make.__name__[1:] for make, *_ in CASES]
)
def test_what_a_node_is(make: Callable[[], Host], state: State, reason: str) -> None:
    assert of(make()) == (STATES[state][0], state, reason)


def test_a_server_without_peers() -> None:
    assert readiness_of(None, draining=False) == (True, State.SINGLE, "there are no peers")


def test_who_stops_drains_whatever_it_is() -> None:
    for node in (None, _first().node, _new().node):
        assert readiness_of(node, draining=True) == (False, State.DRAINING, "it is about to stop")


def test_each_state_comes_about() -> None:
    assert {State.SINGLE, State.DRAINING, *(state for _, state, _ in CASES)} == set(State)


def test_who_stood_still_is_ready_again_when_it_has_caught_up() -> None:
    host = _stood_still()
    host.group.wire("a", "b").cut()
    host.group.link("a", "b")
    host.group.advance(5)
    assert of(host).state is State.IN_SYNC


def test_a_beginner_comes_to_be_ready() -> None:
    group = Group(sync_timeout_s=1)
    assert not of(group["a"]).ready
    group.advance(3)
    assert of(group["a"]) == (True, State.ALONE, f"no other node is in sync; waiting for {B}")
    group.link_all()
    group.advance(1)
    assert [of(host).state for host in group.hosts.values()] == [State.IN_SYNC] * 2
