"""Three nodes: two of them go on when one is gone, and who is left alone waits."""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations
from typing import Any

import pytest

from pymcd.replication.ballot import YES
from pymcd.replication.frames import Kind
from pymcd.replication.node import NO_ANSWER
from pymcd.replication.peer import Phase
from pymcd.replication.records import encode_gone
from pymcd.replication.roles import ALONE, COORDINATOR, FOLLOWER, JOINING, STARTING, WAITING
from pymcd.replication.versions import CLOCK_SKEW_MAX_S, version_at

from .helpers import ACK_TIMEOUT_S, Group, Guest, Host, Wire, address_of, make_group
from .test_voting import ADD, NO_QUORUM, meet, part, roles, until_answered
from .world import constants

#: Nobody waits longer for another node.
BOUND_S = 2 * ACK_TIMEOUT_S + 0.1
GET = b"get lock\r\n"


def three() -> Group:
    group = make_group("abc")
    group.warm()
    group.advance(0.005)
    return group


def serving(group: Group) -> str:
    """Return who answers a client that comes now, or is led elsewhere and then answered."""
    found = ""
    for name, host in group.hosts.items():
        if host.alive and not host.frozen and host.node.ready:
            guest = Guest(host)
            guest.feed(b"touch nothing 0\r\n")
            group.advance(BOUND_S)
            found += name if guest.take() == b"NOT_FOUND\r\n" else ""
            group.hosts[name].guests.remove(guest)
    return found


def gone(host: Host, how: str) -> None:
    """Have a server be no more, or not be heard."""
    if how == "dies":
        host.stop()
        return
    for wire in host.group.wires:
        if host in wire.hosts:
            wire.stall()
    host.frozen = how == "freezes"


def back(host: Host) -> None:
    """Have it be there again."""
    host.frozen = False
    if not host.alive:
        host.start()
    for other in host.group.hosts:
        if other != host.name and host.group[other].alive:
            meet(host.group, "".join(sorted(host.name + other)))
    go_on(host.group)


def go_on(group: Group, seconds: float = 4.0) -> None:
    """Let time pass; whoever has no link is dialled."""
    for _ in range(round(10 * seconds)):
        for one, other in combinations([host for host in group.hosts.values() if host.alive], 2):
            if not any({one, other} == {*wire.hosts} for wire in group.wires):
                group.link(one.name, other.name)
        group.advance(0.1)


class TestInSync:
    def test_all_back_the_same_view(self):
        group = three()
        (backs,) = {repr(host.node.voting.ballot.backs) for host in group.hosts.values()}
        assert all(host.node.voting.ballot.came_about for host in group.hosts.values())
        assert "coordinator='a'" in backs

    def test_it_is_shown(self):
        group = three()
        for host in group.hosts.values():
            assert "witness" not in host.rows
            assert (host.rows["voters"], host.rows["may_fail"]) == ("a,b,c", "a,b,c")

    def test_the_coordinator_must_not_fail_where_its_followers_do_not_see_each_other(self):
        group = three()
        group.wire("b", "c").cut()
        group.advance(0.1)
        assert group["a"].rows["may_fail"] == "a,b,c"  # it does not know
        assert group["b"].rows["may_fail"] == group["c"].rows["may_fail"] == "b,c"

    def test_no_write_asks_anybody(self):
        group = three()
        wire = group.wire("b", "c")
        said = len(wire.sent[0])
        for number in range(20):
            assert Guest(group["b"]).ask(b"set k%d 0 0 1\r\nx\r\n" % number) == b"STORED\r\n"
        assert len(wire.sent[0]) == said


class TestOneIsGone:
    @pytest.mark.parametrize("how", ["dies", "freezes", "is cut off"])
    @pytest.mark.parametrize("lost", "abc")
    def test_the_others_go_on(self, lost, how):
        group = three()
        guests = {name: Guest(group[name]) for name in "abc"}
        guests["a"].ask(b"set k 0 0 1\r\nx\r\n")
        gone(group[lost], how)
        others = "abc".replace(lost, "")
        for name in others:
            guests[name].feed(b"add k%b 0 0 1\r\nx\r\n" % name.encode())
        group.advance(BOUND_S)
        assert [guests[name].take() for name in others] == [b"STORED\r\n"] * 2
        group.advance(1.0)
        assert sorted(group[name].node.role for name in others) == [COORDINATOR, FOLLOWER]
        for name in others:
            assert group[name].rows["voters"] == ",".join(others)
            assert group[name].rows["may_fail"] == "-"
        if how == "is cut off":
            guests[lost].feed(ADD % b"x")
            group.advance(2.0)
            assert guests[lost].take() == NO_QUORUM
            assert group[lost].node.role is WAITING
        group.check()
        back(group[lost])
        assert sorted(roles(group)) == [COORDINATOR, FOLLOWER, FOLLOWER]
        assert Guest(group[lost]).ask(b"get k\r\n") == b"VALUE k 0 1\r\nx\r\nEND\r\n"
        assert group[lost].rows["may_fail"] == "a,b,c"
        group.check_equal()

    @pytest.mark.parametrize("asked", "bc")
    def test_who_has_nothing_to_do_is_told_that_another_one_misses_the_coordinator(self, asked):
        """It asks then, as well; else the one that misses it waits for the votes of who sleeps."""
        group = make_group("abc")
        group.advance(5.0)
        gone(group["a"], "freezes")
        guest = Guest(group[asked])
        guest.feed(ADD % b"x")
        until_answered(group, guest, BOUND_S)
        group.check()

    def test_who_has_heard_it_a_moment_ago_asks_as_well(self):
        """Its lease lets it answer clients; it is not that it was asked for."""
        group = three()
        gone(group["a"], "freezes")
        guest = Guest(group["b"])
        guest.feed(ADD % b"x")
        for _ in range(10):
            group.advance(0.005)
            for one, other in ("cb", "bc"):  # these two go on to hear each other
                host = group[one]
                host.peer(other).ping(group.clock.monotonic(), host.changes.times())
        group.advance(ACK_TIMEOUT_S)
        assert guest.take() == b"STORED\r\n"
        assert group["b"].node.role in (ALONE, COORDINATOR)

    def test_who_misses_it_alone_goes_nowhere(self):
        group = three()
        group.wire("a", "b").stall()
        guest = Guest(group["b"])
        guest.feed(ADD % b"b")
        other = Guest(group["c"])
        other.feed(ADD % b"c")
        assert until_answered(group, other, BOUND_S) == b"STORED\r\n"
        group.advance(0.2)
        assert roles(group) == [COORDINATOR, FOLLOWER, FOLLOWER]
        assert group["a"].node.view.members == ["a", "c"]
        assert until_answered(group, guest, 1.5) == NO_QUORUM
        meet(group, "ab")
        group.advance(2.0)
        assert guest.ask(GET) == b"VALUE lock 0 1\r\nc\r\nEND\r\n"
        group.check_equal()

    @pytest.mark.parametrize("misses", ["nobody", "the third"])
    def test_who_misses_it_is_refused_by_who_does_not(self, misses):
        """Though nobody goes on without it, as there is nothing to be written elsewhere."""
        group = three()
        group.wire("a", "b").stall()
        if misses == "the third":
            group.wire("a", "c").stall()
        guest = Guest(group["b"])
        guest.feed(ADD % b"b")
        if misses == "the third":
            assert until_answered(group, guest, BOUND_S) == b"STORED\r\n"
            return
        group.advance(BOUND_S)
        assert not guest.take()
        assert group["a"].node.view.members == ["a", "b", "c"]
        assert until_answered(group, guest, 1.5) == NO_QUORUM
        meet(group, "ab")
        group.advance(2.0)
        assert serving(group) == "abc"
        group.check_equal()

    def test_who_can_be_heard_and_does_not_hear_is_missed_like_any_other(self):
        """First b is not heard, and doubts a, which then does not reach it any more."""
        group = three()
        wire = group.wire("a", "b")
        wire.stall(group["b"])
        Guest(group["b"]).feed(ADD % b"b")
        group.advance(0.07)
        guest = Guest(group["a"])
        guest.feed(GET)
        group.advance(0.05)
        wire.stall(group["a"])
        group.advance(0.001)
        lease = group["a"].peer("b").lease
        assert lease.echoed < lease.answered
        assert until_answered(group, guest, BOUND_S).endswith(b"END\r\n")
        group.advance(0.2)
        assert group["a"].node.view.members == ["a", "c"]
        group.check()

    def test_who_leaves_in_order(self):
        group = three()
        assert not group["a"].node.leave()
        group.settle()
        assert group["a"].node.leave()
        group["a"].stop()
        group.advance(0.1)
        assert roles(group)[1:] == [COORDINATOR, FOLLOWER]
        assert not group["b"].node.leave()
        group.settle()
        assert group["b"].node.leave()
        group["b"].stop()
        assert group["c"].node.role is ALONE  # it was left the vote
        assert Guest(group["c"]).ask(ADD % b"x") == b"STORED\r\n"
        group.check()

    def test_who_leaves_does_not_wait_for_one_that_is_lost_meanwhile(self):
        """It executes nothing for others any more, and these wait for it."""
        group = three()
        a, c = group["a"], group["c"]
        group.wire("a", "b").stall()
        Guest(a).feed(b"set x 0 0 1\r\n1\r\n")
        group.settle()
        assert not a.node.awaited
        assert not a.node.leave()  # b has not acknowledged that
        group.advance(0.3)
        assert a.node.view.members == ["a", "c"]
        guest = Guest(c)
        guest.feed(b"set y 0 0 1\r\n1\r\n")
        group.settle()
        assert not a.node.awaited
        a.node.leave()
        assert until_answered(group, guest, BOUND_S) == b"STORED\r\n"
        assert {b"x", b"y"} <= c.values().keys()
        group.check()

    @pytest.mark.parametrize("how", ["leaves", "waits"])
    def test_what_who_decides_no_more_says_lets_nobody_answer(self, how):
        """One goes on with its consent: the other one must not read what is out of date."""
        group = three()
        a, lease_s = group["a"].node, group["a"].node.patience.lease_s
        epoch = a.view.epoch
        part(group, "bc")
        if how == "waits":
            a.wait()
        else:
            a.leave()
            group.settle()
            assert not a.leave()
        stopped_at = a.clock.monotonic()
        while not any(group[name].node.role.leads for name in "abc"):
            assert a.clock.monotonic() < stopped_at + 2 * lease_s
            for peer in a.view.peers.values():
                peer.ping(a.clock.monotonic(), a.changes.times())
            group.advance(0.002)
        for node in (group[name].node for name in "bc"):
            if node.role is FOLLOWER and node.view.epoch == epoch:
                assert node.gate.open_until <= node.clock.monotonic()
        group.check()

    @pytest.mark.parametrize("asked", [False, True])
    def test_who_waits_asks_when_nobody_answers_by_its_word(self, asked):
        group = three()
        a, c = group["a"].node, group["c"].node
        epoch = a.view.epoch
        group.wire("a", "c").stall(group["a"])  # which does not learn that it waits
        part(group, "bc")
        if asked:
            a.voting.seek(a.go_alone)
        a.wait()
        for _ in range(100):
            group.advance(0.002)
            if group["a"].node.role.leads or group["b"].node.role.leads:
                break
        assert c.role is FOLLOWER
        assert c.view.epoch == epoch
        assert c.gate.open_until <= c.clock.monotonic()
        group.wire("a", "c").resume()
        meet(group, "bc")
        go_on(group)
        assert sorted(roles(group)) == [COORDINATOR, FOLLOWER, FOLLOWER]
        group.check()

    def test_who_would_go_on_with_one_consents_not_to_another(self):
        """That one answers by his word, while who has his consent goes on."""
        group = three()
        a, b, c = (group[name].node for name in "abc")
        group["a"].stop()
        group.advance(0.5)
        back(group["a"])
        a = group["a"].node
        assert b.role is COORDINATOR
        group.warm()
        group.advance(0.005)
        group.wire("b", "c").stall(group["c"])
        b.lose([b.view.peers["a"]], NO_ANSWER)
        a.lose([a.view.peers["b"]], NO_ANSWER)
        for _ in range(100):
            group.advance(0.002)
            if a.role.leads:
                led_by_b = c.role is FOLLOWER and c.view.coordinator == "b"
                assert not led_by_b or c.gate.open_until <= c.clock.monotonic()
        group.wire("b", "c").resume()
        go_on(group)
        assert sorted(roles(group)) == [COORDINATOR, FOLLOWER, FOLLOWER]
        group.check()

    @pytest.mark.parametrize("late", ["", "b", "c"])
    def test_who_leaves_consents_when_nobody_answers_by_its_word(self, late):
        """One of its followers may not have heard yet that it has left."""
        group = three()
        lease_s = group["a"].node.patience.lease_s
        if late:
            group.wire("a", late).stall(group["a"])
        group["a"].node.leave()
        group.settle()
        group["a"].node.leave()
        group.settle()
        group.advance(lease_s / 2)
        leading = [name for name in "bc" if group[name].node.role.leads]
        assert len(leading) == (not late)
        group.advance(lease_s / 2 + 0.1)
        assert sum(group[name].node.role.leads for name in "bc") == 1
        group.check()


class TestGivingWayToEachOther:
    """Two consented to each other's wish, as one had stopped asking, and the third is gone."""

    @pytest.mark.parametrize("lost", [False, True])
    def test_they_go_on(self, lost):
        group = three()
        b, c = group["b"].node, group["c"].node
        group["a"].stop()
        part(group, "bc")
        group.advance(0.5)
        polls = [node.voting.ballot.poll for node in (b, c)]
        assert polls[0] is not None
        assert polls[1] is not None
        for node, other, wish in ((b, c, polls[1].vote), (c, b, polls[0].vote)):
            ballot = node.voting.ballot
            node.voting.drop()
            token = ballot.answer(wish).token
            assert ballot.answer(replace(wish, token=token)).word == YES
            node.gave_way(node.view.peers[other.view.node_id], with_us=False)
            assert node.voting.promised
        if lost:
            group.wire("b", "c").cut()
        meet(group, "bc")
        go_on(group)
        assert sorted(roles(group)[1:]) == [COORDINATOR, FOLLOWER]
        back(group["a"])
        assert sorted(roles(group)) == [COORDINATOR, FOLLOWER, FOLLOWER]
        group.check()


@pytest.mark.parametrize("asks", ["b", "c"])
def test_what_was_executed_is_answered_by_who_waited_for_votes_meanwhile(asks):
    """It was to be refused in its next step; the votes were there before."""
    group = three()
    a, here = group["a"], group[asks]
    other = group["c" if asks == "b" else "b"]
    assert Guest(a).ask(b"set n 0 0 1\r\n1\r\n") == b"STORED\r\n"
    group.advance(0.3)
    guest = Guest(here)
    to_a, to_other = group.wire("a", asks), group.wire("a", other.name)
    to_other.stall(other)  # so nobody is answered
    guest.feed(b"incr n 1\r\n")
    while not (here.node.gate.unstable and here.node.gate.unstable[-1].executed):
        for what in (here.turn, to_a.carry, a.turn, to_other.carry, other.turn):
            what()
    assert guest.take() == b""
    part(group, "bc")
    a.stop()
    while not (here.node.voting.seeking and other.node.voting.seeking):
        group.advance(0.005)
    here.node.wait()
    assert here.node.role is WAITING
    assert len(here.node.gate.deferred) == 1
    between = group.wire("b", "c")
    between.resume()
    while here.node.role is WAITING:
        between.carry()
        other.turn()
    go_on(group)
    assert guest.take() == b"2\r\n"
    assert here.values() == other.values() == {b"n": b"2"}
    group.check()


class TestPartition:
    def test_each_for_itself(self):
        group = three()
        guests = [Guest(host) for host in group.hosts.values()]
        guests[0].ask(b"set k 0 0 1\r\nx\r\n")
        part(group, "ab", "ac", "bc")
        for guest in guests:
            guest.feed(ADD % b"x")
        group.advance(2.5)
        assert [guest.take() for guest in guests] == [NO_QUORUM] * 3
        assert roles(group) == [WAITING] * 3
        meet(group, "bc")
        group.advance(3.0)
        assert sorted(roles(group)) == [COORDINATOR, FOLLOWER, WAITING]
        assert guests[1].ask(b"get k\r\n") == b"VALUE k 0 1\r\nx\r\nEND\r\n"
        meet(group, "ab", "ac")
        group.advance(3.0)
        assert sorted(roles(group)) == [COORDINATOR, FOLLOWER, FOLLOWER]
        group.check_equal()

    @pytest.mark.parametrize("cut", ["ab", "ac", "bc"])
    @pytest.mark.parametrize("coordinator", "ab")
    def test_two_that_do_not_see_each_other(self, coordinator, cut):
        """Who sees both is asked by both; it stays with its coordinator."""
        group = three()
        if coordinator == "b":
            group["a"].stop()
            group.advance(0.5)
            back(group["a"])
            assert group["b"].rows["coordinator"] == "b"
        part(group, cut)
        guests = [Guest(host) for host in group.hosts.values()]
        for guest, name in zip(guests, b"abc", strict=True):
            guest.feed(ADD % bytes([name]))
        group.advance(0.5)
        granted = [guest.take() for guest in guests].count(b"STORED\r\n")
        assert granted == 1
        group.advance(2.0)
        lonely = cut.replace(coordinator, "") if coordinator in cut else ""
        assert serving(group) == "".join(name for name in "abc" if name != lonely)
        meet(group, cut)
        group.advance(3.0)
        assert sorted(roles(group)) == [COORDINATOR, FOLLOWER, FOLLOWER]
        group.check_equal()

    @pytest.mark.parametrize("lonely", "abc")
    @pytest.mark.parametrize("deaf", [False, True])
    def test_in_one_direction(self, lonely, deaf):
        group = three()
        guests = {name: Guest(group[name]) for name in "abc"}
        for other in "abc".replace(lonely, ""):
            group.wire(lonely, other).stall(group[other if deaf else lonely])
        for name, guest in guests.items():
            guest.feed(ADD % name.encode())
        group.advance(1.0)
        replies = {name: guest.take() for name, guest in guests.items()}
        assert replies.pop(lonely) == b""
        # What the lonely one executed the others may have, and who goes on stands by it.
        took = b"NOT_STORED\r\n" if deaf and lonely == "a" else b"STORED\r\n"
        assert sorted(replies.values()) == [b"NOT_STORED\r\n", took]
        group.check()

    def test_what_only_one_had_is_taken_back(self):
        group = three()
        guest = Guest(group["a"])
        part(group, "ab", "ac")
        guest.feed(b"set k 0 0 4\r\nlost\r\n")
        group.advance(2.0)
        assert guest.take() == NO_QUORUM
        other = Guest(group["b"])
        other.feed(b"set other 0 0 1\r\nx\r\n")
        assert until_answered(group, other, BOUND_S) == b"STORED\r\n"
        meet(group, "ab", "ac")
        group.advance(2.0)
        assert guest.ask(b"get k\r\n") == b"END\r\n"
        group.check_equal()


class TestOneAfterTheOther:
    @pytest.mark.parametrize("second", "bc")
    def test_one_of_two_waits_for_the_other(self, second):
        group = three()
        Guest(group["b"]).ask(b"set k 0 0 1\r\nx\r\n")
        group["a"].stop()
        group.advance(1.0)
        left = "bc".replace(second, "")
        guest = Guest(group[left])
        group[second].stop()
        guest.feed(ADD % b"x")
        group.advance(3.0)
        assert guest.take() == NO_QUORUM
        assert group[left].node.role is WAITING
        back(group[second])  # with nothing: what it could have promised it has not
        assert sorted(group[name].node.role for name in "bc") == [COORDINATOR, FOLLOWER]
        assert Guest(group[second]).ask(b"get k\r\n") == b"VALUE k 0 1\r\nx\r\nEND\r\n"
        back(group["a"])
        assert sorted(roles(group)) == [COORDINATOR, FOLLOWER, FOLLOWER]
        group.check_equal()

    def test_who_was_left_before_is_no_help(self):
        """It may have been left for long: what the two others did without it it has not seen."""
        group = three()
        gone(group["c"], "is cut off")
        group.advance(4.0)
        assert Guest(group["a"]).ask(ADD % b"x") == b"STORED\r\n"
        group["a"].stop()
        group.advance(2.0)
        meet(group, "bc")
        group.advance(4.0)
        assert roles(group)[1:] == [WAITING, WAITING]
        back(group["a"])
        assert sorted(roles(group)) == [COORDINATOR, FOLLOWER, FOLLOWER]
        for host in group.hosts.values():
            assert Guest(host).ask(GET) == b"VALUE lock 0 1\r\nx\r\nEND\r\n"
        group.check_equal()

    def test_two_start_anew_at_once(self):
        group = three()
        Guest(group["c"]).ask(b"set k 0 0 1\r\nx\r\n")
        group["a"].stop()
        group["b"].stop()
        group.advance(3.0)
        assert group["c"].node.role is WAITING
        group["a"].start()
        group.link("a", "c")
        group.advance(3.0)
        assert group["c"].node.role is WAITING
        assert group["a"].node.role is STARTING
        back(group["b"])
        assert sorted(roles(group)) == [COORDINATOR, FOLLOWER, FOLLOWER]
        assert Guest(group["a"]).ask(b"get k\r\n") == b"VALUE k 0 1\r\nx\r\nEND\r\n"
        group.check_equal()

    def test_who_restarts_at_once(self):
        group = three()
        Guest(group["a"]).ask(b"set k 0 0 1\r\nx\r\n")
        group["a"].stop()
        back(group["a"])
        assert sorted(roles(group)) == [COORDINATOR, FOLLOWER, FOLLOWER]
        assert Guest(group["a"]).ask(b"get k\r\n") == b"VALUE k 0 1\r\nx\r\nEND\r\n"
        group.check_equal()

    def test_two_come_back_at_the_same_time(self):
        group = three()
        for name in "bc":
            gone(group[name], "is cut off")
        group.advance(5.0)
        assert roles(group) == [WAITING] * 3
        meet(group, "ab", "ac", "bc")
        go_on(group)
        assert sorted(roles(group)) == [COORDINATOR, FOLLOWER, FOLLOWER]
        group.check_equal()


class TestTakenInSince:
    """One consented to what another one wants, and then was taken in by the third."""

    @pytest.mark.parametrize("met", [["ac"], ["ac", "ab"], ["ab", "ac"]])
    @pytest.mark.parametrize("asked_s", [0.1, 2.0])
    def test_what_it_was_told_there_is_kept(self, asked_s, met):
        group = three()
        guest, lonely = Guest(group["a"]), Guest(group["c"])
        part(group, "ac", "bc")
        guest.feed(b"set k 0 0 1\r\nx\r\n")
        lonely.feed(b"set other 0 0 1\r\nx\r\n")
        group.advance(4.0)
        assert (guest.take(), lonely.take()) == (b"STORED\r\n", NO_QUORUM)
        group["b"].stop()
        group.advance(2.0)
        group["b"].start()
        group.link("b", "c")
        group.advance(asked_s)
        poll = group["c"].node.voting.ballot.poll
        assert poll is not None
        assert [*poll.yes] == ["b"]
        group.link("a", "b")
        group.advance(3.0)
        assert roles(group) == [COORDINATOR, FOLLOWER, WAITING]
        assert guest.ask(ADD % b"x") == b"STORED\r\n"
        group["a"].stop()
        group["a"].start()
        for one, other in met:
            group.link(one, other)
            group.advance(0.3)
        late = Guest(group["c"])
        late.feed(ADD % b"y")
        group.advance(1.0)
        assert late.take() == (NO_QUORUM if met == ["ac"] else b"NOT_STORED\r\n")
        go_on(group)
        assert sorted(roles(group)) == [COORDINATOR, FOLLOWER, FOLLOWER]
        assert late.ask(b"get lock\r\n") == b"VALUE lock 0 1\r\nx\r\nEND\r\n"
        group.check_equal()


class TestBeginning:
    def test_it_takes_all(self):
        group = Group("abc")
        group.link("a", "b")
        group.advance(100.0)
        assert roles(group) == [STARTING] * 3
        assert any("serving nobody" in line for line in group["a"].lines)
        meet(group, "ac", "bc")
        group.advance(2.0)
        assert sorted(roles(group)) == [COORDINATOR, FOLLOWER, FOLLOWER]

    @pytest.mark.parametrize("first", ["ab", "ac", "bc"])
    def test_whoever_was_asked_first(self, first):
        """Two that wait for the third have asked each other, and it is asked by both."""
        group = Group("abc", sync_timeout_s=3.0)
        group.link(*first)
        group.advance(10.0)
        last = "abc".replace(first[0], "").replace(first[1], "")
        meet(group, first[1] + last)
        group.advance(10.0)
        go_on(group)
        assert sorted(roles(group)) == [COORDINATOR, FOLLOWER, FOLLOWER]

    def test_or_a_person(self):
        group = Group("")
        for name in "abc":
            peers = tuple(address_of(other) for other in "abc" if other != name)
            group.add(name, peers=peers, force_empty=name == "a", sync_timeout_s=3.0)
        group.link("a", "b")
        group.advance(5.0)
        assert roles(group) == [COORDINATOR, FOLLOWER, STARTING]

    def test_one_that_names_itself_is_not_counted(self):
        """Two nodes are a pair, however they are named."""
        group = Group("")
        for name in "ab":
            group.add(name, peers=(address_of("a"), address_of("b")), sync_timeout_s=3.0)
        for name in "ab":
            group[name].node.membership.is_myself(address_of(name))
        group.link("a", "b")
        group.advance(1.0)
        assert roles(group) == [COORDINATOR, FOLLOWER]
        assert "voters" not in group["a"].rows
        group["a"].stop()
        group.advance(1.0)
        assert group["b"].node.role is ALONE

    def test_that_it_is_a_pair_may_turn_out_when_it_has_begun(self):
        group = Group("")
        for name in "ab":
            group.add(name, peers=(address_of("a"), address_of("b")), sync_timeout_s=3.0)
        group.link("a", "b")
        group.advance(10.0)
        assert roles(group) == [STARTING, STARTING]
        for name in "ab":
            group[name].node.membership.is_myself(address_of(name))
        group.advance(1.0)
        assert sorted(roles(group)) == [COORDINATOR, FOLLOWER]

    def test_a_pair_becomes_three(self):
        group = make_group("ab")
        Guest(group["a"]).ask(b"set k 0 0 1\r\nx\r\n")
        group.add("c", peers=(address_of("a"), address_of("b")))
        back(group["c"])
        assert roles(group) == [COORDINATOR, FOLLOWER, FOLLOWER]
        for name in "ab":
            group[name].stop()
            group.advance(3.0)
            group.hosts[name] = Host(
                group, name, peers=tuple(address_of(each) for each in "abc" if each != name)
            )
            others = [host for host in group.hosts.values() if host.name != name]
            assert sorted(host.node.role for host in others) == [COORDINATOR, FOLLOWER]
            back(group[name])
            assert sorted(roles(group)) == [COORDINATOR, FOLLOWER, FOLLOWER]
            assert Guest(group[name]).ask(b"get k\r\n") == b"VALUE k 0 1\r\nx\r\nEND\r\n"
        assert group["c"].rows["may_fail"] == "a,b,c"
        group.check_equal()


class TestForgotten:
    """A person says that nothing of a node will come back."""

    def forget(self, host: Host, name: str) -> bytes:
        return Guest(host).ask(b"stats replication forget %b\r\n" % name.encode())

    def test_the_last_of_two_goes_on(self):
        group = three()
        Guest(group["b"]).ask(b"set k 0 0 1\r\nx\r\n")
        for name in "cb":
            group[name].stop()
            group.advance(2.0)
        assert group["a"].node.role is WAITING
        assert b"not_forgotten" not in self.forget(group["a"], "c")
        group.advance(2.0)
        assert group["a"].node.role is WAITING  # it was left before
        assert b"not_forgotten" not in self.forget(group["a"], "b")
        group.advance(0.1)
        assert group["a"].node.role is ALONE
        assert Guest(group["a"]).ask(b"get k\r\n") == b"VALUE k 0 1\r\nx\r\nEND\r\n"
        for name in "bc":  # and yet
            back(group[name])
        assert roles(group) == [COORDINATOR, FOLLOWER, FOLLOWER]
        assert group["a"].rows["may_fail"] == "a,b,c"
        group.check_equal()

    def test_others_have_come_in_the_place_of_two(self):
        group = three()
        Guest(group["b"]).ask(b"set k 0 0 1\r\nx\r\n")
        group["b"].stop()
        group["c"].stop()
        group.advance(2.0)
        for name, peers in (("d", "ae"), ("e", "ad")):
            group.add(name, peers=tuple(map(address_of, peers)), sync_timeout_s=3.0)
            del group.hosts["bc"["de".index(name)]]
            back(group[name])
        assert roles(group) == [WAITING, STARTING, STARTING]
        self.forget(group["a"], "b")
        go_on(group)
        assert roles(group) == [WAITING, STARTING, STARTING]
        self.forget(group["a"], "c")
        go_on(group)
        assert roles(group) == [COORDINATOR, FOLLOWER, FOLLOWER]
        assert Guest(group["e"]).ask(b"get k\r\n") == b"VALUE k 0 1\r\nx\r\nEND\r\n"
        assert group["a"].rows["may_fail"] == "a,d,e"
        group.check_equal()

    def test_all_who_are_there_must_still_consent(self):
        """One of them may have gone on with who is gone."""
        group = three()
        gone(group["a"], "is cut off")
        group.advance(4.0)
        group["b"].stop()
        Guest(group["c"]).feed(GET)
        group.advance(2.0)
        assert [group[name].node.role for name in "ac"] == [WAITING, WAITING]
        self.forget(group["a"], "b")
        group.advance(2.0)
        assert group["a"].node.role is WAITING
        meet(group, "ac")
        go_on(group)
        assert [group[name].node.role for name in "ac"] == [WAITING, WAITING]
        self.forget(group["c"], "b")
        go_on(group)
        assert [group[name].node.role for name in "ac"] == [FOLLOWER, COORDINATOR]
        group.check()

    def test_it_is_one_as_any_other_when_it_is_there(self):
        group = three()
        gone(group["a"], "is cut off")
        group.advance(8.0)
        self.forget(group["a"], "b")
        assert group["a"].node.voting.ballot.gone == {"b"}
        meet(group, "ab", "ac")
        go_on(group)
        ballot = group["a"].node.voting.ballot
        assert not ballot.gone
        assert "b" not in ballot.over
        assert sorted(roles(group)) == [COORDINATOR, FOLLOWER, FOLLOWER]

    def test_not_itself_nor_who_is_there(self):
        group = three()
        assert b"it_is_in_use" in self.forget(group["a"], "b")
        assert b"there_is_no_such_node" in self.forget(group["a"], "a")

    def test_that_one_was_not_heard_for_long_says_nothing(self):
        group = make_group("abc", tombstone_ttl_s=10.0)
        for name in "bc":
            group[name].stop()
        group.advance(60.0)
        assert group["a"].node.role is WAITING
        assert not group["a"].node.voting.ballot.gone


def test_who_was_joining_waits_when_the_others_are_gone():
    group = three()
    gone(group["c"], "is cut off")
    group.advance(2.5)
    meet(group, "ac", "bc")
    group.advance(0.005)
    group["a"].stop()
    group["b"].stop()
    Guest(group["c"]).feed(GET)
    group.advance(3.0)
    assert group["c"].node.role in (WAITING, JOINING)
    group.check()


def test_who_follows_keeps_traces_of_what_ends_for_the_one_that_the_coordinator_lost():
    """It may hold an older value, which would live longer, and come back to us instead."""
    group = three()
    a, b, c = group.hosts.values()
    assert Guest(a).ask(b"set k 0 100 3\r\nold\r\n") == b"STORED\r\n"
    gone(c, "is cut off")
    guest = Guest(a)
    guest.feed(b"set k 0 2 3\r\nnew\r\n")
    assert until_answered(group, guest, BOUND_S) == b"STORED\r\n"
    group.advance(0.1)
    assert b.node.role is FOLLOWER
    item = b.service.cache.linked(b"k")
    assert item is not None
    b.service.cache.unlink(item)  # as it is done with what is dead
    assert b.changes.tombstones.get(b"k") == item.cas_unique - 1


def test_who_falls_behind_while_others_vote_on_it_comes_later():
    group = three()
    group["c"].stop()
    group.advance(1.0)
    group["c"].start()
    group.wire("a", "b").stall(group["b"])
    wire = group.link("a", "c")
    peer = group["a"].peer("c")
    assert peer.phase is Phase.PROPOSED  # it has accepted, and b is asked for its vote
    assert group["a"].node.voting.ballot.poll is not None
    wire.stall(group["c"])
    with constants({"QUEUE_BYTES": 200}):
        for _ in range(3):
            Guest(group["a"]).feed(b"set k 0 0 300\r\n" + bytes(300) + b"\r\n")
            group.settle()
        assert peer.resync.behind
        group.wire("a", "b").resume()
        group.settle()
        group.check()
        assert roles(group) == [COORDINATOR, FOLLOWER, STARTING]
        wire.resume()
        group.advance(1.0)
    assert roles(group) == [COORDINATOR, FOLLOWER, FOLLOWER]
    group.check_equal()


def test_who_starts_anew_has_nothing_that_others_could_not_take():
    """They go on without it: they need not wait for what it had."""
    group = three()
    for name in "bc":
        group[name].peer("a").break_off(MemoryError("no room"))
    group.advance(0.03)
    assert roles(group)[1:] == [JOINING, JOINING]
    group["a"].stop()
    group["a"].start()
    go_on(group)
    group.check()
    assert sorted(roles(group)) == [COORDINATOR, FOLLOWER, FOLLOWER]
    assert group["a"].node.role is FOLLOWER


@pytest.mark.parametrize("acknowledged", [True, False])
def test_what_is_left_of_the_view_has_is_not_executed_again(acknowledged):
    """a waits for c, which starts anew, and for b, which has it all, and goes on."""
    group = three()
    a, b, c = group.hosts.values()
    assert Guest(a).ask(b"set n 0 0 1\r\n1\r\n") == b"STORED\r\n"
    group.wire("a", "c").stall(c)
    if not acknowledged:
        group.wire("a", "b").stall(b)
    guest = Guest(a)
    guest.feed(b"incr n 1\r\n")
    group.settle()
    assert (guest.take(), b.values()) == (b"", {b"n": b"2"})
    group.wire("a", "b").stall()
    group.advance(0.2)
    c.stop()
    c.start()
    group.link("a", "c")
    assert a.node.role is JOINING
    group.link("b", "c")
    Guest(b).feed(GET)
    meet(group, "ab")
    go_on(group)
    assert [host.values() for host in group.hosts.values()] == [{b"n": b"2"}] * 3
    assert guest.take() == b"2\r\n"


def test_nobody_waits_for_a_request_that_waited_for_word_and_cannot_be_executed(monkeypatch):
    """It failed when another one was heard, who has nothing to do with it."""
    group = three()
    group.advance(5.5)  # nobody has a lease: it is a while since the last sign of life
    group.wire("a", "b").stall(group["b"])
    group.closes_on_error = True
    gate = group["a"].node.gate
    execute_for = gate.execute_for
    failed = False

    def failing(*of: Any, admitted: bool = False) -> None:
        nonlocal failed
        if admitted and not failed:
            failed = True
            raise MemoryError("no room")
        execute_for(*of, admitted=admitted)

    monkeypatch.setattr(gate, "execute_for", failing)
    guest = Guest(group["c"])
    guest.feed(ADD % b"x")
    group.advance(0.02)
    group.wire("a", "b").resume()
    group.advance(BOUND_S)
    assert failed
    assert guest.take() or guest.connection.closing  # nobody waits for what is lost
    assert group.wire("a", "b")
    go_on(group, 2.0)
    assert sorted(roles(group)) == [COORDINATOR, FOLLOWER, FOLLOWER]
    group.check_equal()


def test_who_cannot_say_that_it_waits_does_not_go_on_as_what_it_was(monkeypatch):
    """The vote that it asked for before may still come."""
    group = three()
    host = group["a"]
    group.closes_on_error = True
    for other in "bc":
        group.wire("a", other).stall()
    Guest(host).feed(ADD % b"x")
    with monkeypatch.context() as patch:

        def failing() -> None:
            raise MemoryError("no room")

        patch.setattr(host.node.membership, "ask_status", failing)
        group.advance(1.5)
    assert host.node.role is WAITING
    host.node.check()
    meet(group, "ab", "ac", "bc")
    go_on(group)
    assert sorted(roles(group)) == [COORDINATOR, FOLLOWER, FOLLOWER]
    group.check_equal()


def test_who_hears_nobody_any_more_is_lost_though_it_has_heard_a_question():
    """A coordinator that waits for a third node, and then does not hear the one that asked."""
    group = three()
    group.wire("a", "c").stall(group["c"])
    guest = Guest(group["b"])
    guest.feed(b"set k 0 0 1\r\n1\r\n")
    group.settle()
    assert group["a"].values() == {b"k": b"1"}
    group.wire("a", "b").stall(group["b"])
    assert until_answered(group, guest, BOUND_S) == b"STORED\r\n"
    group.advance(0.1)
    assert group["b"].node.role in (COORDINATOR, FOLLOWER)
    assert group["c"].node.role in (COORDINATOR, FOLLOWER)


@pytest.mark.parametrize("late_s", [0.0, 0.06, 0.07, 0.08], ids=str)
def test_who_waits_for_one_that_waits_for_another_is_not_waited_for_twice(late_s):
    """The coordinator has heard what is asked, and waits for b; then it fails, too.

    The one that it was waiting for is asked for its vote, and is not to miss it only then.
    """
    group = three()
    group.wire("a", "b").stall()
    guest = Guest(group["c"])
    guest.feed(ADD % b"c")
    group.advance(late_s)
    assert not guest.take()
    began_at = group.clock.monotonic() - late_s
    gone(group["a"], "freezes")
    assert until_answered(group, guest, BOUND_S) == b"STORED\r\n"
    assert group.clock.monotonic() - began_at <= 2 * ACK_TIMEOUT_S + 0.015
    group.check()


def test_who_is_asked_for_its_vote_looks_after_the_coordinator_at_once():
    """Not only when it is asked once more, though only then it answers."""
    group = three()
    group.wire("a", "b").stall()
    guest = Guest(group["c"])
    guest.feed(ADD % b"c")
    group.settle()
    gone(group["a"], "freezes")
    began_at = group.clock.monotonic()
    group.advance(ACK_TIMEOUT_S - 0.005)
    wire = group.wire("b", "c")
    wire.stall(group["b"])  # says late how to ask it
    group.advance(0.04)
    assert group["c"].node.voting.seeking
    wire.resume()
    assert until_answered(group, guest, BOUND_S) == b"STORED\r\n"
    assert group.clock.monotonic() - began_at <= 2 * ACK_TIMEOUT_S + 0.015
    group.check()


def test_nor_do_clients_of_one_that_joins_wait_for_it():
    group = three()
    a, b, c = group.hosts.values()
    part(group, "ab", "bc")
    assert Guest(a).ask(b"get k\r\n") == b"END\r\n"
    Guest(a).feed(b"delete k\r\n")
    group.advance(0.3)
    # It is taken in as soon as c has consented, which is not heard.
    group.wire("a", "c").stall(c)
    meet(group, "ab")
    group.advance(0.02)
    assert roles(group) == [COORDINATOR, JOINING, FOLLOWER]
    guest = Guest(b)
    guest.feed(b"set k 0 0 1\r\n1\r\n")
    group.settle()
    assert a.values() == {b"k": b"1"}
    group.wire("a", "b").stall(b)
    group.advance(0.01)
    late = Guest(b)
    late.feed(b"set l 0 0 1\r\n1\r\n")
    group.advance(BOUND_S)
    assert guest.connection.closing
    assert late.connection.closing
    group.check()


@pytest.mark.parametrize("fast", [True, False])
def test_what_the_coordinator_has_answered_waits_for_no_lease(fast):
    group = three()
    group.wire("a", "c").stall(group["c"])
    guest = Guest(group["b"], fast=fast)
    guest.feed(b"set k 0 0 1\r\n1\r\n")
    group.settle()
    group.wire("a", "b").stall(group["b"])
    group.advance(0.07)
    assert group.clock.monotonic() > group["b"].node.gate.open_until
    group.wire("a", "c").resume()
    assert guest.ask() == b"STORED\r\n"
    assert not group["b"].node.gate.somebody_waits  # there is nothing to be executed, either
    # What the same client asks next waits for one word, not for two.
    guest.feed(b"set k 0 0 1\r\n2\r\n")
    group.advance(0.07)
    assert guest.take() == b""
    group.wire("a", "b").resume()
    assert guest.ask() == b"STORED\r\n"
    group.check()


def test_clients_of_one_that_is_put_off_do_not_wait_until_it_is_taken_in():
    """The coordinator could not take what a follower forwarded, and parts from it for a while."""
    group = three()
    group.closes_on_error = True
    a, b, _ = group.hosts.values()
    a.peer("b").lapses = 3

    def fail(*arguments: Any) -> None:
        del vars(a.node.gate)["execute_for"]
        raise MemoryError

    vars(a.node.gate)["execute_for"] = fail
    guest = Guest(b)
    guest.feed(b"set k 0 0 1\r\n1\r\n")
    group.settle()
    group.link("a", "b")
    group.advance(2 * ACK_TIMEOUT_S)
    assert b.node.role == JOINING
    assert guest.connection.closing
    group.advance(3.0)
    assert sorted(roles(group)) == [COORDINATOR, FOLLOWER, FOLLOWER]


def test_who_starts_anew_is_not_waited_for_while_another_one_is_about_to_consent():
    """Over a network so slow that this takes longer than a time-out, and than it took to start."""
    group = three()
    a, c = group["a"], group["c"]
    wire = group.wire("a", "b")

    def go_slowly(turns: int) -> None:
        for number in range(turns):
            group.advance(0.045)
            wire.stall(wire.hosts[number % 2])  # what the other one said arrives
            wire.carry()
            wire.stall()

    wire.stall()
    c.stop()
    guest = Guest(a)
    guest.feed(b"set k 0 0 1\r\nx\r\n")
    go_slowly(6)
    assert a.node.voting.ballot.poll is not None
    c.start()
    group.link("a", "c")
    assert a.node.role is COORDINATOR
    go_slowly(1)
    assert guest.take() == b"STORED\r\n"


def test_what_one_that_is_being_brought_in_sync_has_of_a_deposed_one_is_not_done_twice():
    """It had it in a slice of what it missed, and those who went on had not."""
    group = make_group("abc", witness=True)
    a, b, c = group.hosts.values()
    guest = Guest(a)
    unique = guest.ask(b"set k 0 0 1\r\nx\r\ngets k\r\n").split()[5]
    for other in (a, b):
        group.wire("c", other.name).cut()
    group.advance(0.2)
    assert guest.ask(b"set k2 0 0 1\r\nx\r\n") == b"STORED\r\n"
    assert a.node.view.members == ["a", "b"]
    for name in "bw":
        group.wire("a", name).stall(a)
    guest.feed(b"cas k 0 0 1 %b\r\ny\r\n" % unique)
    a.turn()
    wire = Wire(c, a)
    while c.values()[b"k"] != b"y":
        for host in (c, a):
            wire.carry()
            host.turn()
    a.frozen = True
    Guest(b).feed(b"touch nothing 0\r\n")
    group.advance(0.2)
    assert b.node.role is ALONE
    wire.cut()
    group.link("c", "b")
    a.frozen = False
    for name in "bw":
        group.wire("a", name).resume()
    group.advance(1.0)
    assert guest.take() == b"STORED\r\n"
    assert Guest(b).ask(b"get k\r\n") == b"VALUE k 0 1\r\ny\r\nEND\r\n"
    go_on(group)
    assert sorted(roles(group)) == [COORDINATOR, FOLLOWER, FOLLOWER]
    group.check_equal()


def test_who_could_not_take_all_of_one_that_waits_for_its_vote_asks_for_votes_as_well():
    """It consented to what a third one wanted, who is back without all that it had."""
    group = make_group("abc", votes=True)
    a, b, c = (group[name] for name in "abc")
    group.warm()
    group.wire("a", "c").stall(c)
    from_the_future = version_at(group.clock.realtime() + 3 * CLOCK_SKEW_MAX_S, 0)
    a.peer("c").send(group.clock.monotonic(), Kind.CHANGES, encode_gone(b"k", from_the_future))
    group.settle()
    assert c.node.role is JOINING
    a.frozen = True
    Guest(b).feed(b"touch k 0\r\n")
    wire = group.wire("b", "c")
    wire.stall(b)
    group.advance(ACK_TIMEOUT_S + 0.01)
    wire.resume()
    while b.node.role is not ALONE:
        for act in (wire.carry, c.turn, b.turn):
            act()
    for name in "ac":
        group.wire(name, "b").cut()
    b.stop()
    a.frozen = False
    group.wire("a", "c").resume()
    group.advance(2.0)
    assert (a.node.role, c.node.role) == (WAITING, JOINING)
    assert c.peer("a").left_why
    b.start()
    group.link("b", "a")
    group.link("b", "c")
    group.advance(10.0)
    go_on(group)
    assert sorted(host.node.role for host in group.hosts.values()) == [
        COORDINATOR,
        FOLLOWER,
        FOLLOWER,
    ]
    group.check_equal()


def test_who_consented_in_vain_keeps_nobody_waiting_for_as_long_again():
    """Whom it consented to does not hear of it, and has waited for the votes of others by then."""
    group = make_group("abc", votes=True)
    a, b, c = (group[name] for name in "abc")
    group.warm()
    wire = group.wire("a", "c")
    b.frozen = True
    Guest(a).feed(b"touch nothing 0\r\n")
    wire.stall(a)
    while a.node.voting.ballot.poll is None:
        group.advance(0.001)
    guest = Guest(c)
    guest.feed(b"touch nothing 0\r\n")
    for silent in (c, a) * 5:  # one speaks, then the other one
        wire.resume()
        wire.stall(silent)
        for act in (a.turn, c.turn, wire.carry):
            act()
        if c.node.voting.promised:
            break
    assert wire.stalled == {c}
    began = group.clock.monotonic()
    while not (said := guest.take()):
        group.advance(0.01)
    assert said == NO_QUORUM
    assert a.node.role is c.node.role is WAITING
    quorum_timeout_s = c.settings.quorum_timeout_s
    assert group.clock.monotonic() - began < quorum_timeout_s + 2 * ACK_TIMEOUT_S
