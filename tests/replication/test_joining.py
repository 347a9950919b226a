"""Nodes that find each other again: who joins whom, and that nothing is forgotten on the way."""

from __future__ import annotations

import pytest

from pymcd.replication.peer import Phase
from tests.replication.helpers import Group, Guest, Wire, make_group
from tests.replication.world import constants


def test_follower_went_on_and_both_want_to_join_each_other():
    # The coordinator had nothing to do and noticed nothing. When the link is there again, it
    # still calls itself coordinator, and the follower asks it, as it belongs to the larger view;
    # then it learns that it was deposed, and asks the follower.
    group = make_group("ab")
    group["a"].frozen = True
    group.wire("a", "b").cut()
    Guest(group["b"]).ask(b"get k\r\n")
    group.advance(0.5)
    assert (group["a"].node.role, group["b"].node.role) == ("coordinator", "alone")
    group["a"].frozen = False
    group.link("a", "b")
    group.advance(5.0)
    assert sorted(host.node.role for host in group.hosts.values()) == ["coordinator", "follower"]


def test_what_was_given_up_for_one_successor_is_asked_of_another():
    # c has what a decided last, and does not know whether b has it. It loses both, expects b to go
    # on, and alone stands by what it has; but it is a who goes on, and believes c has it all.
    group = make_group("abc", votes=False)
    assert Guest(group["a"]).ask(b"set k 0 0 1\r\nx\r\n") == b"STORED\r\n"
    for other in "ab":
        group.wire(other, "c").stall()
    group.advance(0.07)
    Guest(group["c"]).ask(b"get k\r\n")
    group.advance(2.0)
    assert (group["c"].node.role, group["c"].values()) == ("alone", {b"k": b"x"})
    for other in "ab":
        group.wire(other, "c").resume()
    group.advance(5.0)
    assert [host.values() for host in group.hosts.values()] == [{b"k": b"x"}] * 3
    group.check_equal()


def test_what_was_executed_stands_if_nobody_could_tell_otherwise():
    # a executed something that nobody has seen, and is deposed. Before b could tell what it has
    # instead, a goes on alone, and so that stands; it is b who joins a.
    group = make_group("ab")
    wire = group.wire("a", "b")
    assert Guest(group["a"]).ask(b"set k 0 0 3\r\nold\r\n") == b"STORED\r\n"
    wire.stall(group["a"])
    Guest(group["a"]).ask(b"set k 0 0 3\r\nnew\r\n")
    group["a"].frozen = True
    Guest(group["b"]).ask(b"incr n 1\r\n")
    group.advance(0.5)
    assert group["b"].node.role == "alone"
    group["a"].frozen = False
    group.settle()
    assert (group["a"].node.role, group["a"].values()) == ("joining", {b"k": b"new"})
    wire.cut()
    group.advance(2.0)
    assert group["a"].node.role == "alone"
    group.link("a", "b")
    group.advance(20.0)
    assert sorted(host.node.role for host in group.hosts.values()) == ["coordinator", "follower"]
    group.check_equal()
    assert group["a"].values()[b"k"] == b"new"


def test_what_two_held_is_not_given_up_when_a_third_is_joined():
    # a and b are left of three, and hold what is acknowledged. Then a goes on without b, which
    # stood still, and is gone, too: c, which was cut off before, is all that b can join.
    group = make_group("abc", votes=False)
    guest = Guest(group["a"])
    for number in range(5):
        guest.ask(b"set k%d 0 0 1\r\n1\r\n" % number)
    for other in "ab":
        group.wire(other, "c").cut()
    group.advance(1.0)
    assert guest.ask(b"flush_all\r\nset x 0 0 1\r\n1\r\n") == b"OK\r\nSTORED\r\n"
    group["b"].frozen = True
    guest.feed(b"set y 0 0 1\r\n1\r\n")
    group.advance(0.5)
    assert group["a"].node.role == "alone"
    group["b"].frozen = False
    while group["b"].node.role != "joining":
        group["b"].turn()
        group.wire("a", "b").carry()
    group["a"].stop()
    group.link("b", "c")
    group.advance(1.0)
    assert group["b"].values() == group["c"].values() == {b"x": b"1", b"y": b"1"}


def test_what_was_given_up_is_asked_of_who_gave_it():
    # c has what a decided last, and gives it up to follow b, which has not. Then b is gone, and a,
    # which went on with it, comes back: it believes that c has it all.
    group = make_group("abc", votes=False)
    group.warm()
    group.wire("a", "b").stall()
    client = Guest(group["a"])
    client.feed(b"set k 0 0 1\r\n1\r\n")
    group.settle()
    assert group["c"].values() == {b"k": b"1"}
    group.wire("a", "c").cut()
    for other in "bc":
        Guest(group[other]).feed(b"set x 0 0 1\r\n1\r\n")
    group.advance(0.3)
    assert [host.node.role for host in group.hosts.values()] == ["alone", "coordinator", "follower"]
    assert group["c"].values() == {b"x": b"1"}
    assert client.take() == b"STORED\r\n"
    group["b"].stop()
    group.advance(0.3)
    group.link("a", "c")
    group.advance(3.0)
    group.check_equal()
    assert group["c"].values() == {b"x": b"1", b"k": b"1"}


def take_in_who_is_told_no_more(group: Group, asked: bytes) -> None:
    """Have b stand still, come back, and accept what a proposes; it hears nothing of what is asked.

    It is behind with that, and told of it when it has accepted, just before it is in the view.
    """
    a, b = group["a"], group["b"]
    Guest(a).ask(b"set k 0 0 3\r\nold\r\n")
    b.frozen = True
    group.wire("a", "b").cut()
    Guest(a).ask(b"set l 0 0 3\r\nnew\r\n")
    group.advance(0.5)
    b.frozen = False
    wire = Wire(a, b)
    while a.peer("b").phase is not Phase.PROPOSED:
        assert any([a.turn(), b.turn(), wire.carry()])
    wire.stall(b)
    group.settle()
    with constants({"QUEUE_BYTES": 0}):
        Guest(a).feed(asked)
        group.settle()
        assert a.peer("b").resync.under_way
        wire.stall(a)
        group.settle()
    assert (a.node.role, b.node.role) == ("coordinator", "joining")
    wire.cut()


@pytest.mark.parametrize("asked", [b"set k 0 0 3\r\nnew\r\n", b"delete k\r\n"])
def test_what_was_told_as_one_was_taken_in_is_told_again_if_it_never_arrived(asked):
    group = make_group("ab", sync_timeout_s=30.0)
    a, b = group["a"], group["b"]
    take_in_who_is_told_no_more(group, asked)
    group.advance(0.2)
    assert (a.node.role, b.node.role) == ("alone", "joining")
    group.link("a", "b")
    group.advance(3.0)
    assert (a.node.role, b.node.role) == ("coordinator", "follower")
    group.check_equal()


@pytest.mark.parametrize("asked", [b"set k 0 0 3\r\nnew\r\n", b"flush_all\r\n"])
def test_it_comes_to_nothing_if_the_other_one_went_on_without(asked):
    group = make_group("ab")
    a, b = group["a"], group["b"]
    take_in_who_is_told_no_more(group, asked)
    a.frozen = True
    group.advance(3.0)
    assert (a.node.role, b.node.role) == ("coordinator", "alone")
    a.frozen = False
    group.link("a", "b")
    group.advance(15.0)
    assert sorted(host.node.role for host in group.hosts.values()) == ["coordinator", "follower"]
    group.check_equal()


@pytest.mark.parametrize("asked", [b"set k 0 0 3\r\nnew\r\n", b"delete k\r\n"])
def test_an_acceptance_that_is_late_is_not_one_of_what_is_proposed_again(asked):
    """b is silent for a while when c has accepted, and nobody goes on without it."""
    group = make_group("abc", votes=True)
    a, b, c = (group[name] for name in "abc")
    Guest(a).ask(b"set k 0 0 3\r\nold\r\n")
    c.frozen = True
    for name in "ab":
        group.wire(name, "c").cut()
    Guest(a).feed(b"set l 0 0 3\r\nnew\r\n")
    group.advance(0.5)
    assert a.node.role == "coordinator"
    c.frozen = False
    wire = Wire(a, c)
    while a.peer("c").phase is not Phase.PROPOSED:
        assert any([a.turn(), b.turn(), c.turn(), *[each.carry() for each in group.wires]])
    wire.stall(c)
    group.settle()
    group.wire("a", "b").stall(b)
    with constants({"QUEUE_BYTES": 0}):
        Guest(a).feed(asked)
        group.settle()
    assert a.peer("c").resync.under_way
    while not a.node.is_losing:
        group.advance(0.001)
    assert a.peer("c").phase is Phase.HOSTING
    group.wire("a", "b").resume()
    group.settle()
    assert a.node.voting.ballot.poll is None
    wire.resume()
    wire.stall(a)
    group.settle()
    assert c.peer("a").phase is Phase.ACCEPTED
    assert a.peer("c").phase is Phase.PROPOSED  # it has not heard of what was asked
    wire.cut()
    group.advance(1.0)
    group.link("a", "c")
    group.advance(5.0)
    assert sorted(host.node.role for host in group.hosts.values()) == [
        "coordinator",
        "follower",
        "follower",
    ]
    group.check_equal()
