"""Nodes with a witness: who goes on when somebody is gone, and who waits."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from pymcd.replication.ballot import AGAIN, NO, YES
from pymcd.replication.link import ADVICE
from pymcd.replication.messages import Grant, Roll, Vote
from pymcd.replication.roles import ALONE, COORDINATOR, FOLLOWER, JOINING, STARTING, WAITING
from pymcd.replication.witness import STRANGERS_MAX, TRY_DISK_EVERY_S, Memory

from .etcds import EtcdHost
from .helpers import ACK_TIMEOUT_S, Group, Guest, Wire, WitnessHost, address_of, make_group

NO_QUORUM = b"SERVER_ERROR no quorum: too few of the nodes and the witness are there\r\n"
ADD = b"add lock 0 0 1\r\n%b\r\n"


#: What passes the same trials.
KINDS = pytest.mark.parametrize("kind", ["witness", "etcd"])


def third(kind: str) -> dict[str, Any]:
    """Return the arguments of a group with such a register."""
    return {"witness": True} if kind == "witness" else {"etcd": EtcdHost()}


def pair(kind: str) -> tuple[Group, Any]:
    """Return two nodes in sync, and their register; the first one coordinates."""
    group = make_group(**third(kind))
    group.advance(1.0)
    check(group)
    return group, group.witness or group.etcd


def pair_and_witness() -> tuple[Group, WitnessHost]:
    """Return two nodes in sync, and their witness; the first one coordinates."""
    return pair("witness")


def check(group: Group) -> None:
    group.check()
    if group.witness is not None:
        group.witness.witness.check()


def roles(group: Group) -> list[str]:
    return [host.node.role for host in group.hosts.values()]


def part(group: Group, *pairs: str) -> None:
    """Let nothing pass between these; w is the register."""
    for one, other in map(tuple, pairs):
        if other == "w" and group.etcd is not None:
            group.etcd.part(one)
        else:
            group.wire(one, other).stall()


def meet(group: Group, *pairs: str) -> None:
    """Have these linked, by what is there or anew."""
    for one, other in map(tuple, pairs):
        if other == "w" and group.etcd is not None:
            group.etcd.meet(one)
            continue
        wires = [each for each in group.wires if {h.name for h in each.hosts} == {one, other}]
        for wire in wires:
            wire.resume()
        if not wires:
            group.link_witness(one) if other == "w" else group.link(one, other)


def until_answered(group: Group, guest: Guest, within_s: float) -> bytes:
    """Return what a guest hears, soon enough."""
    waited_s = 0.0
    while not (reply := guest.take()):
        assert waited_s < within_s, "not answered"
        group.advance(0.01)
        waited_s += 0.01
    return reply


class TestInSync:
    def test_the_witness_knows_the_view(self):
        group, witness = pair_and_witness()
        backs = group["a"].node.voting.ballot.backs
        assert backs == group["b"].node.voting.ballot.backs == witness.witness.ballot.backs
        assert backs is not None
        assert (backs.coordinator, sorted(backs.data), list(backs.witness)) == (
            "a",
            ["a", "b"],
            ["w"],
        )
        assert witness.witness.standing.startswith("a decides, with b (epoch ")

    def test_it_is_shown(self):
        group, _ = pair_and_witness()
        for host in group.hosts.values():
            rows = host.rows
            assert rows["witness"] == "w"
            assert (rows["witness_link"], rows["witness_error"]) == ("up", "-")
            assert (rows["voters"], rows["may_fail"]) == ("a,b,w", "a,b,w")

    def test_without_one_there_is_nothing_to_show(self):
        assert "witness" not in make_group()["a"].rows

    def test_no_write_asks_it(self):
        group, _ = pair_and_witness()
        wire = group.wire("a", "w")
        said = len(wire.sent[0])
        for number in range(20):
            assert Guest(group["b"]).ask(b"set k%d 0 0 1\r\nx\r\n" % number) == b"STORED\r\n"
        assert len(wire.sent[0]) == said


@KINDS
class TestSomebodyIsGone:
    @pytest.mark.parametrize("gone", "ab")
    def test_a_node(self, kind, gone):
        group, third = pair(kind)
        other = "ab".replace(gone, "")
        group[gone].stop()
        guest = Guest(group[other])
        guest.feed(ADD % b"x")
        assert until_answered(group, guest, ACK_TIMEOUT_S + 0.05) == b"STORED\r\n"
        assert group[other].node.role is ALONE
        assert group[other].rows["voters"] == f"{other},{third.name}"
        assert group[other].rows["may_fail"] == third.name
        check(group)
        group[gone].start()
        meet(group, "ab", f"{gone}w")
        group.advance(1.0)
        assert group[gone].node.role is FOLLOWER
        assert Guest(group[gone]).ask(ADD % b"y") == b"NOT_STORED\r\n"
        check(group)

    @pytest.mark.parametrize("how", ["dies", "freezes", "cut off"])
    def test_the_witness(self, kind, how):
        group, witness = pair(kind)
        if how == "dies":
            witness.stop()
        elif how == "freezes":
            witness.freeze()
        else:
            part(group, "aw", "bw")
        for _ in range(20):
            group.advance(0.5)
            assert Guest(group["b"]).ask(b"set k 0 0 1\r\nx\r\n") == b"STORED\r\n"
        assert roles(group) == [COORDINATOR, FOLLOWER]
        assert group["a"].rows["witness_link"] == "down"
        assert group["a"].rows["may_fail"] == witness.name
        check(group)

    @pytest.mark.parametrize("remembers", [False, True])
    def test_the_witness_comes_back_and_then_a_node_goes(self, kind, remembers):
        group, witness = pair(kind)
        witness.stop()
        group.advance(1.0)
        witness.start(remembers=remembers)
        meet(group, "aw", "bw")
        group.advance(1.0)
        assert group["a"].rows["may_fail"] == f"a,b,{witness.name}"
        group["a"].stop()
        guest = Guest(group["b"])
        guest.feed(ADD % b"x")
        assert until_answered(group, guest, ACK_TIMEOUT_S + 0.05) == b"STORED\r\n"
        check(group)

    def test_who_has_forgotten_has_no_vote(self, kind):
        group, witness = pair(kind)
        part(group, "aw", "ab")
        group.advance(3.5)  # b goes on, with the witness
        assert group["b"].node.role is ALONE
        witness.stop()
        witness.start()
        group["b"].stop()
        part_of_a = Guest(group["a"])
        meet(group, "aw")
        group.advance(2.0)
        assert group["a"].node.role is WAITING
        assert part_of_a.ask(b"get lock\r\n") == NO_QUORUM
        check(group)

    def test_one_after_the_other(self, kind):
        group, witness = pair(kind)
        group["b"].stop()
        group.advance(0.5)
        witness.stop()
        for _ in range(10):
            group.advance(0.5)
            assert Guest(group["a"]).ask(b"set k 0 0 1\r\nx\r\n") == b"STORED\r\n"
        check(group)

    def test_the_witness_then_a_node(self, kind):
        group, witness = pair(kind)
        witness.stop()
        group.advance(1.0)
        group["b"].stop()
        guest = Guest(group["a"])
        guest.feed(b"get k\r\n", b"set k 0 0 1\r\nx\r\n")
        group.advance(0.5)
        assert guest.take() == b""
        assert until_answered(group, guest, 1.0).startswith(NO_QUORUM)
        assert group["a"].node.role is WAITING
        check(group)
        group["b"].start()  # with nothing: now all nodes that could have data consent
        meet(group, "ab")
        group.advance(3.0)
        assert roles(group) == [COORDINATOR, FOLLOWER]
        check(group)

    def test_who_restarts_at_once(self, kind):
        group, _ = pair(kind)
        Guest(group["a"]).ask(b"set k 0 0 1\r\nx\r\n")
        group["a"].stop()
        group["a"].start()
        meet(group, "ab", "aw")
        for _ in range(20):
            group.advance(0.1)
            if not any({host.name for host in wire.hosts} == {"a", "b"} for wire in group.wires):
                group.link("a", "b")
        assert roles(group) == [FOLLOWER, COORDINATOR]
        assert Guest(group["a"]).ask(b"get k\r\n") == b"VALUE k 0 1\r\nx\r\nEND\r\n"
        check(group)

    def test_who_leaves_in_order(self, kind):
        group, _ = pair(kind)
        assert not group["a"].node.leave()
        group.settle()
        assert group["b"].node.role is ALONE
        assert group["a"].node.leave()
        check(group)

    def test_who_leaves_consents_where_the_witness_cannot(self, kind):
        group, witness = pair(kind)
        witness.stop()
        group.advance(1.0)
        assert not group["a"].node.leave()
        group.settle()
        assert group["b"].node.role is ALONE
        assert group["a"].node.leave()
        group["a"].stop()
        assert Guest(group["b"]).ask(ADD % b"x") == b"STORED\r\n"
        check(group)

    @pytest.mark.parametrize("when", ["before", "after"])
    def test_who_leaves_asks_no_more(self, kind, when):
        """Its question was answered meanwhile, or is when it has left: so nothing comes of that."""
        group, _ = pair(kind)
        a, b = group["a"].node, group["b"].node
        part(group, "ab", "aw", "bw")
        while a.voting.ballot.poll is None:
            group.advance(0.01)
        vote = a.voting.ballot.poll.vote
        token = b.voting.ballot.answer(vote).token

        def consent() -> None:
            b.voting.vote_arrived(b.view.peers["a"], replace(vote, token=token))
            assert b.voting.promised

        if when == "before":
            consent()
        assert not a.leave()
        group.advance(0.01)
        if when == "after":
            consent()
        meet(group, "ab")
        for _ in range(3):
            group.advance(0.05)
            assert not a.leave() or b.role is ALONE
        assert b.role is ALONE
        assert a.leave()
        group["a"].stop()
        assert Guest(group["b"]).ask(ADD % b"x") == b"STORED\r\n"
        check(group)

    def test_nobody_waits_for_ever_to_leave(self, kind):
        group, _ = pair(kind)
        part(group, "ab")
        group["b"].frozen = True
        assert not group["a"].node.leave()
        group.advance(0.3)
        assert group["a"].node.leave()

    def test_who_has_no_witness_yet_leaves_with_its_consent(self, kind):
        # As the second node does when a witness is added, one node after the other.
        group, _ = pair(kind)
        group["b"].stop()
        group.add("b", peers=(address_of("a"),))
        meet(group, "ab")
        group.advance(1.0)
        group["a"].stop()
        group["a"].start()
        meet(group, "ab", "aw")
        group.advance(1.0)
        assert roles(group) == [FOLLOWER, COORDINATOR]
        assert not group["b"].node.leave()
        group.settle()
        assert group["a"].node.role is ALONE
        assert group["b"].node.leave()
        group["b"].stop()
        assert Guest(group["a"]).ask(ADD % b"x") == b"STORED\r\n"
        check(group)

    def test_who_has_no_witness_has_no_vote_while_it_serves(self, kind):
        group = Group("a", **third(kind), peers=(address_of("b"),))
        group.add("b", peers=(address_of("a"),))
        group["b"].node.go_alone()
        group["a"].node.voting.seek(group["a"].node.go_alone)
        group.link("a", "b")
        poll = group["a"].node.voting.ballot.poll
        assert poll is None or "b" not in poll.yes

    def test_nodes_that_do_not_agree_on_a_witness_say_so(self, kind):
        group = Group("ab", **third(kind))
        group.add("b", peers=(address_of("a"),))
        group.link("a", "b")
        for host in group.hosts.values():
            assert sum("--witness" in line for line in host.lines) == 1


@KINDS
class TestPartition:
    @pytest.mark.parametrize("lonely", "ab")
    def test_the_side_of_the_witness_goes_on(self, kind, lonely):
        group, _ = pair(kind)
        other = "ab".replace(lonely, "")
        guests = {name: Guest(group[name]) for name in "ab"}
        part(group, "ab", f"{lonely}w")
        for name, guest in guests.items():
            guest.feed(ADD % name.encode())
        assert until_answered(group, guests[other], ACK_TIMEOUT_S + 0.05) == b"STORED\r\n"
        group.advance(0.5)
        assert guests[lonely].take() == b""
        assert until_answered(group, guests[lonely], 1.0) == NO_QUORUM
        assert group[lonely].node.role is WAITING
        assert guests[lonely].ask(b"get lock\r\n", b"mg lock v\r\n") == 2 * NO_QUORUM
        # A load balancer is to see it, who operates it may look at it.
        assert guests[lonely].ask(b"version\r\n") == NO_QUORUM
        assert b"STAT state waiting\r\n" in guests[lonely].ask(b"stats replication\r\n")
        check(group)
        meet(group, "ab", f"{lonely}w")
        group.advance(2.0)
        assert group[lonely].node.role is FOLLOWER
        assert (
            guests[lonely].ask(b"get lock\r\n")
            == b"VALUE lock 0 1\r\n%b\r\nEND\r\n" % other.encode()
        )
        group.check_equal()
        check(group)

    def test_both_reach_the_witness(self, kind):
        group, _ = pair(kind)
        guests = [Guest(group[name]) for name in "ab"]
        part(group, "ab")
        for guest in guests:
            guest.feed(ADD % b"x")
        group.advance(0.5)
        assert sorted(guest.take() for guest in guests) == [b"", b"STORED\r\n"]
        group.advance(1.0)
        assert sorted(roles(group)) == [ALONE, WAITING]
        check(group)
        meet(group, "ab")
        group.advance(2.0)
        assert sorted(roles(group)) == [COORDINATOR, FOLLOWER]
        group.check_equal()
        check(group)

    def test_none_reaches_anybody(self, kind):
        group, _ = pair(kind)
        guests = [Guest(group[name]) for name in "ab"]
        assert guests[0].ask(b"set k 0 0 1\r\nx\r\n") == b"STORED\r\n"
        part(group, "ab", "aw", "bw")
        for guest in guests:
            guest.feed(ADD % b"x")
        group.advance(2.5)
        assert [guest.take() for guest in guests] == [NO_QUORUM, NO_QUORUM]
        assert roles(group) == [WAITING, WAITING]
        check(group)
        meet(group, "ab")  # two nodes are enough
        group.advance(3.0)
        assert sorted(roles(group)) == [COORDINATOR, FOLLOWER]
        assert guests[1].ask(b"get k\r\n") == b"VALUE k 0 1\r\nx\r\nEND\r\n"
        group.check_equal()
        check(group)

    def test_a_short_one_changes_nothing(self, kind):
        group, _ = pair(kind)
        part(group, "ab", "aw")
        group.advance(0.05)
        meet(group, "ab", "aw")
        group.advance(0.5)
        assert roles(group) == [COORDINATOR, FOLLOWER]
        assert Guest(group["b"]).ask(ADD % b"x") == b"STORED\r\n"

    def test_who_can_speak_and_not_hear_gets_no_vote(self, kind):
        group, witness = pair(kind)
        if group.etcd is not None:
            group.etcd.part("a", deaf=True)
        for other in "b" if group.etcd is not None else "bw":
            wire = group.wire("a", other)
            wire.stall(next(host for host in wire.hosts if host.name == other))
        guests = {name: Guest(group[name]) for name in "ab"}
        for name, guest in guests.items():
            guest.feed(ADD % name.encode())
        assert until_answered(group, guests["b"], 3 * ACK_TIMEOUT_S) == b"STORED\r\n"
        assert guests["a"].take() == b""
        backs = group["b"].node.voting.ballot.backs
        assert backs is not None
        assert (backs.coordinator, list(backs.witness)) == ("b", [witness.name])
        check(group)

    def test_what_only_one_had_is_taken_back(self, kind):
        group, _ = pair(kind)
        guest = Guest(group["a"])
        part(group, "ab", "aw")
        guest.feed(b"set k 0 0 4\r\nlost\r\n")
        group.advance(2.0)
        assert guest.take() == NO_QUORUM
        other = Guest(group["b"])
        other.feed(b"set other 0 0 1\r\nx\r\n")
        assert until_answered(group, other, 0.2) == b"STORED\r\n"
        meet(group, "ab", "aw")
        group.advance(2.0)
        assert guest.ask(b"get k\r\n") == b"END\r\n"
        group.check_equal()

    def test_binary_clients_are_told_as_well(self, kind):
        group, _ = pair(kind)
        part(group, "ab", "aw", "bw")
        Guest(group["a"]).feed(b"get k\r\n")
        group.advance(2.5)
        request = bytes([0x80, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 1]) + bytes(12) + b"k"
        reply = Guest(group["a"]).ask(request)
        assert reply[6:8] == b"\0\x86"
        assert reply.endswith(b"No quorum")

    def test_what_ends_a_series_is_answered_all_the_same(self, kind):
        """Who waits for it takes an error in its place for the answer to what was before it."""
        group, _ = pair(kind)
        part(group, "ab", "aw", "bw")
        Guest(group["a"]).feed(b"get k\r\n")
        group.advance(2.5)
        assert group["a"].node.role is WAITING
        assert Guest(group["a"]).ask(b"mg k v q\r\nmn\r\n") == NO_QUORUM + b"MN\r\n"
        getq, noop = ([0x80, opcode, 0, size, *[0] * 7, size] for opcode, size in ((9, 1), (10, 0)))
        reply = Guest(group["a"]).ask(bytes([*getq, *[0] * 12]) + b"k" + bytes([*noop, *[0] * 12]))
        assert reply[:8] == bytes([0x81, 9, 0, 0, 0, 0, 0, 0x86])
        assert reply[-24:] == bytes([0x81, 10, *[0] * 22])


HICCUPS = pytest.mark.parametrize("lasts_s", [0.085, 0.1, 0.2, 0.5, 0.9])


@KINDS
class TestHiccup:
    """The other node does not answer for a moment, and the register is not there to decide."""

    def pair(self, kind: str) -> tuple[Group, Any]:
        group, register = pair(kind)
        register.stop()
        group.advance(1.0)
        group.warm()
        return group, register

    @HICCUPS
    @pytest.mark.parametrize("deaf", ["", "a", "b"])
    @pytest.mark.parametrize("asked", ["a", "b", "ab"])
    def test_nobody_waits_longer_than_that_lasts(self, kind, asked, deaf, lasts_s):
        group, _ = self.pair(kind)
        guests = [Guest(group[name]) for name in asked]
        wire = group.wire("a", "b")
        wire.stall(*(host for host in group.hosts.values() if host.name != deaf))
        for number, guest in enumerate(guests):
            guest.feed(b"set k%d 0 0 1\r\nx\r\n" % number)
        group.advance(lasts_s)
        wire.resume()
        group.advance(0.03)
        assert [guest.take() for guest in guests] == [b"STORED\r\n"] * len(guests)
        group.advance(1.0)
        assert roles(group) == [COORDINATOR, FOLLOWER]
        group.check_equal()
        check(group)

    @pytest.mark.parametrize("asked", "ab")
    def test_over_a_new_link(self, kind, asked):
        group, _ = self.pair(kind)
        guest = Guest(group[asked])
        group.wire("a", "b").stall()
        guest.feed(ADD % b"x")
        group.advance(0.12)
        group.wire("a", "b").cut()
        group.link("b", "a")
        group.advance(0.001)
        assert guest.take() == b"STORED\r\n"
        assert roles(group) == [COORDINATOR, FOLLOWER]
        check(group)

    @pytest.mark.parametrize("asked", "ab")
    def test_then_each_may_fail_again(self, kind, asked):
        """Though the register has consented to what nobody goes on with: its answer is late."""
        group, _ = pair(kind)
        group.warm()
        part(group, "ab")
        register: Any = group[asked].node.voting.register
        answered, register._answered = (
            register._answered,
            lambda grant: None if grant.word == YES else answered(grant),
        )
        Guest(group[asked]).feed(ADD % b"x")
        group.advance(0.1)
        assert register.backs.coordinator == asked
        assert register.backs.epoch > group[asked].node.voting.ballot.epoch
        meet(group, "ab")
        group.advance(0.001)
        assert roles(group) == [COORDINATOR, FOLLOWER]
        register._answered = answered
        group.advance(2.0)
        other = "ab".replace(asked, "")
        group[asked].stop()
        guest = Guest(group[other])
        guest.feed(b"get lock\r\n")
        assert until_answered(group, guest, ACK_TIMEOUT_S + 0.05).endswith(b"x\r\nEND\r\n")
        check(group)

    def test_who_lapses_again_and_again_is_not_taken_back_at_once(self, kind):
        """Its coordinator goes on alone, with its consent, and waits for it no more."""
        group, _ = self.pair(kind)
        wire = group.wire("a", "b")
        guest = Guest(group["a"])
        waited = 0
        for _ in range(20):
            wire.stall(group["b"])
            guest.feed(b"set k 0 0 1\r\nx\r\n")
            group.advance(0.1)
            wire.resume()
            waited += not guest.replies
            group.advance(0.01)
            assert guest.take() == b"STORED\r\n"
        assert 2 <= waited <= 6
        group.advance(10.0)
        assert roles(group) == [COORDINATOR, FOLLOWER]
        check(group)

    def test_it_is_said(self, kind):
        group, _ = self.pair(kind)
        wire = group.wire("a", "b")
        wire.stall()
        Guest(group["b"]).feed(ADD % b"x")
        group.advance(0.1)
        wire.resume()
        group.advance(0.1)
        (line,) = [each for each in group["b"].lines if "nobody has gone on" in each]
        assert line == (
            "replication: a did not answer in time: answers took up to 100 ms, and"
            " --replication-ack-timeout is 80 ms; it does now, and nobody has gone on"
        )


@KINDS
class TestStartedAnew:
    """A node starts anew while the register is away: the other one needs its consent."""

    @pytest.mark.parametrize("promised", [False, True])
    @pytest.mark.parametrize("gone", "ab")
    def test_it_is_asked_at_once(self, kind, gone, promised):
        group, register = pair(kind)
        other = "ab".replace(gone, "")
        assert Guest(group[gone]).ask(b"set k 0 0 1\r\nx\r\n") == b"STORED\r\n"
        register.stop()
        group.advance(1.0)
        group.warm()
        guest = Guest(group[other])
        if promised:  # it would have gone on, and dies when it has the consent of the other
            wire = group.wire("a", "b")
            wire.stall()
            Guest(group[gone]).feed(b"get k\r\n", b"set other 0 0 1\r\nx\r\n")
            guest.feed(b"get k\r\n", b"set third 0 0 1\r\nx\r\n")
            group.advance(0.1)
            nodes: list[Any] = [group[gone].node, group[other].node]
            for node in nodes:
                node.stay_with = lambda peer: False
            nodes[0].voting._conclude = lambda **more: None
            wire.resume()
            group.settle()
        else:
            guest.feed(b"get k\r\n", b"set third 0 0 1\r\nx\r\n")
        group[gone].stop()
        group[gone].start()

        def go_on(seconds: float) -> None:
            if not any({host.name for host in each.hosts} == {"a", "b"} for each in group.wires):
                group.link("a", "b")
            group.advance(seconds)

        waited_s = 0.0
        while not guest.replies.endswith(b"STORED\r\n"):
            go_on(0.02)
            waited_s += 0.02
            assert waited_s < ACK_TIMEOUT_S + 0.1
        assert guest.take().startswith(b"VALUE k 0 1\r\nx\r\n")
        for _ in range(10):
            go_on(0.1)
        assert sorted(roles(group)) == [COORDINATOR, FOLLOWER]
        assert Guest(group[gone]).ask(b"get k\r\n") == b"VALUE k 0 1\r\nx\r\nEND\r\n"
        group.check_equal()
        check(group)


class TestSilentLink:
    """The link to the witness is dead, and nobody is told."""

    @pytest.mark.parametrize("gone", "ab")
    def test_it_is_asked_over_another_one(self, gone):
        group, witness = pair_and_witness()
        other = "ab".replace(gone, "")
        membership = group[other].node.membership
        group.wire(other, "w").stall()
        assert not membership.should_dial(address_of("w"))
        group[gone].stop()
        guest = Guest(group[other])
        guest.feed(ADD % b"x")
        waited_s = 0.0
        while not membership.should_dial(address_of("w")):
            assert membership.doubted == ""
            group.advance(0.005)
            waited_s += 0.005
            assert waited_s < 1.25 * ACK_TIMEOUT_S + 0.01
        assert membership.doubted == address_of("w")
        Wire(group[other], witness)
        group.settle()
        assert guest.take() == b"STORED\r\n"
        assert membership.doubted == ""
        assert not membership.should_dial(address_of("w"))
        check(group)

    def test_one_that_is_only_late_stays(self):
        group, _ = pair_and_witness()
        wire = group.wire("b", "w")
        wire.stall()
        group["a"].stop()
        guest = Guest(group["b"])
        guest.feed(ADD % b"x")
        group.advance(ACK_TIMEOUT_S + 0.05)
        assert group["b"].node.membership.doubted
        wire.resume()
        group.advance(0.001)
        assert guest.take() == b"STORED\r\n"
        assert group.wire("b", "w") is wire
        assert not group["b"].node.membership.doubted
        check(group)


class TestBeforeOthersAnswer:
    """Three nodes: the one that was silent is there again before the third is asked twice."""

    @pytest.mark.parametrize("lost", "abc")
    def test_nothing_has_happened(self, lost):
        group = make_group("abc")
        group.warm()
        others = "abc".replace(lost, "")
        for other in others:
            group.wire(lost, other).stall()
        group.wire(*others).stall()
        guests = [Guest(host) for host in group.hosts.values()]
        for number, guest in enumerate(guests):
            guest.feed(b"set k%d 0 0 1\r\nx\r\n" % number)
        group.advance(0.12)
        meet(group, "ab", "ac", "bc")
        group.advance(0.06)
        assert [guest.take() for guest in guests] == [b"STORED\r\n"] * 3
        group.advance(2.0)
        assert sorted(roles(group)) == [COORDINATOR, FOLLOWER, FOLLOWER]
        for name in "abc":
            assert group[name].rows["may_fail"] == "a,b,c"
        group.check_equal()


@KINDS
class TestBeginning:
    def test_two_who_find_each_other_need_no_witness(self, kind):
        group = Group(**third(kind))
        group.link("a", "b")
        group.advance(0.5)
        assert sorted(roles(group)) == [COORDINATOR, FOLLOWER]
        meet(group, "aw", "bw")
        group.advance(1.0)
        assert group["b"].rows["may_fail"] == f"a,b,{group['b'].rows['witness']}"
        check(group)

    @pytest.mark.parametrize("quorum_timeout_s", [1.0, 0.1, 0.0])
    def test_one_alone_does_not_begin(self, kind, quorum_timeout_s):
        """However soon clients are to hear that there are no votes: nobody has any yet."""
        group = Group(**third(kind), quorum_timeout_s=quorum_timeout_s)
        meet(group, "aw")
        group.advance(40.0)
        assert group["a"].node.role is STARTING
        assert not group["a"].node.ready
        assert any("serving nobody" in line for line in group["a"].lines)
        group.link("a", "b")
        group.advance(1.0)
        assert sorted(roles(group)) == [COORDINATOR, FOLLOWER]
        check(group)

    def test_what_is_empty_never_wins(self, kind):
        """Who has data and waits is not asked to follow one who has none."""
        group, witness = pair(kind)
        Guest(group["b"]).ask(b"set k 0 0 1\r\nx\r\n")
        witness.stop()
        group["a"].stop()
        Guest(group["b"]).feed(b"get k\r\n")
        group.advance(2.5)
        assert group["b"].node.role is WAITING
        group["a"].start()
        group.advance(100.0)
        meet(group, "ab")
        group.advance(3.0)
        assert Guest(group["a"]).ask(b"get k\r\n") == b"VALUE k 0 1\r\nx\r\nEND\r\n"
        check(group)


class TestWrongOnes:
    """What answers where the witness should be, and is none of ours."""

    def call(self, group: Group, **difference: str | bytes) -> str:
        witness = WitnessHost(group)
        for name, value in difference.items():
            setattr(witness.witness, name, value)
        Wire(group["a"], witness)
        group.settle()
        group.advance(0.1)
        assert not witness.witness.callers
        return str(group["a"].rows["witness_error"])

    @pytest.mark.parametrize(
        ("reason", "difference"),
        [("cluster", {"_cluster_id": "other"}), ("secret", {"secret": b"another"}),
         ("node_id", {"node_id": "a"})],
    )  # fmt: skip
    def test_it_is_said_and_shown(self, reason, difference):
        group = make_group(witness=True)
        witness = group.witness
        assert witness is not None
        witness.stop()
        group.advance(0.5)
        assert self.call(group, **difference) == reason
        assert any(line.endswith(ADVICE[reason]) for line in group["a"].lines)
        assert roles(group) == [COORDINATOR, FOLLOWER]
        assert Guest(group["b"]).ask(b"set k 0 0 1\r\nx\r\n") == b"STORED\r\n"
        assert group["a"].rows["may_fail"] == "w"

    def test_nobody_waits_for_its_data(self):
        """It refuses us: it has none that we could miss."""
        group = Group("ab", witness=True, sync_timeout_s=3.0)
        assert group.witness is not None
        group.witness.witness.secret = b"another"
        for name in "ab":
            Wire(group[name], group.witness)
        group.settle()
        assert group["a"].rows["witness_error"] == "secret"
        for host in group.hosts.values():
            assert host.node.beginning.whose_data() == ""
        group.advance(10.0)
        assert not any("has data" in line for host in group.hosts.values() for line in host.lines)

    def test_a_data_node_is_none(self):
        group = make_group(witness=True)
        assert group.witness is not None
        group.witness.stop()
        before = group.wire("a", "b")
        for host in group.hosts.values():
            link = group["a"].node.membership.open_link(dialled=address_of("w"))
            other = group["b"].node.membership.open_link(dialled=None, address="a:5")
            for _ in range(4):
                for one, two in ((link, other), (other, link)):
                    for piece in one.take_output():
                        two.receive(bytes(piece))
            assert link.closed, host
        assert group["a"].rows["witness_error"] == "member"
        assert group.wire("a", "b") is before
        assert roles(group) == [COORDINATOR, FOLLOWER]

    def test_a_witness_is_no_peer(self):
        group = Group("a", peers=(address_of("x"),))
        witness = WitnessHost(group, "x")
        Wire(group["a"], witness)
        group.settle()
        assert group["a"].node.view.peers == {}
        assert any(line.endswith(ADVICE["member"]) for line in group["a"].lines)


class TestWitness:
    def test_it_says_no_to_who_asks_for_another(self):
        _, witness = pair_and_witness()
        core = witness.witness
        before = core.ballot.backs
        assert before is not None
        caller = core.callers["b"]
        wanted = replace(before, epoch=before.epoch + 4096)
        assert core._vote(caller, Vote(before, wanted)).word == NO
        wanted = Roll(before.epoch + 4096, "b", {"b": "a former life"}, before.witness)
        assert core._vote(caller, Vote(before, wanted)).word == NO
        wanted = Roll(before.epoch + 4096, "b", {"b": caller.life}, before.witness)
        again = core._vote(caller, Vote(before, wanted))
        assert again == Grant(wanted.epoch, AGAIN, before, again.token)
        assert core._vote(caller, Vote(before, wanted, again.token)).word == YES

    def test_its_memory_comes_back(self):
        _, witness = pair_and_witness()
        memory = witness.disk
        assert memory is not None
        assert Memory.decode(memory.encode()) == memory
        assert memory.backs == witness.witness.ballot.backs
        empty = Memory("life")
        assert Memory.decode(empty.encode()) == empty

    @pytest.mark.parametrize(
        "data", [b"", b"{", b"[]", b"{}", b'{"life":""}', b'{"life":5}', b'{"life":"x","backs":{}}']
    )
    def test_what_is_no_memory(self, data):
        with pytest.raises(ValueError, match=r"."):
            Memory.decode(data)

    def test_a_full_disk_makes_no_promise(self):
        group, witness = pair_and_witness()
        witness.is_full = True
        group["a"].stop()
        Guest(group["b"]).feed(b"get k\r\n")
        group.advance(2.5)
        assert group["b"].node.role is WAITING
        assert sum("cannot keep a promise" in line for line in witness.lines) == 1
        witness.is_full = False
        group.advance(1.0)
        assert group["b"].node.role is ALONE
        check(group)

    def test_one_that_stands_still_is_no_stranger(self):
        group, witness = pair_and_witness()
        witness.freeze()
        for _ in range(8):
            group.advance(10.0)
            Wire(group["a"], witness).stall(witness)
        lines = group["a"].lines
        assert lines.count("replication: w has no vote: it does not answer") == 2
        assert not any("refused" in line for line in lines)
        assert group["a"].rows["witness_error"] == "handshake"

    def test_a_full_disk_is_known_before_a_promise_is_needed(self):
        group, witness = pair_and_witness()
        assert group["a"].rows["may_fail"] == "a,b,w"
        witness.is_full = True
        group.advance(TRY_DISK_EVERY_S + 1.0)
        for host in group.hosts.values():
            assert host.rows["may_fail"] == "w"
            assert host.rows["witness_link"] == "down"
            assert host.rows["witness_error"] == "its_disk_takes_nothing"
        # Who comes meanwhile is told as well, and it is said once a minute.
        group.wire("a", "w").cut()
        group.link_witness("a")
        group.advance(30.0)
        assert group["a"].rows["may_fail"] == "w"
        for host in group.hosts.values():
            assert sum("w has no vote: its disk takes nothing" in line for line in host.lines) == 1
        assert roles(group) == [COORDINATOR, FOLLOWER]
        witness.is_full = False
        group.advance(1.0)
        assert group["b"].rows["may_fail"] == "a,b,w"
        assert group["b"].rows["witness_error"] == "-"
        assert "it keeps what it promises again" in witness.lines
        group["a"].stop()
        guest = Guest(group["b"])
        guest.feed(ADD % b"x")
        assert until_answered(group, guest, 2 * ACK_TIMEOUT_S) == b"STORED\r\n"
        check(group)

    def test_strangers_are_bounded_and_do_not_stay(self):
        group, witness = pair_and_witness()
        links = [witness.witness.open_link(f"x:{number}") for number in range(STRANGERS_MAX)]
        assert not witness.witness.may_accept()
        group.advance(3.0)
        assert all(link.closed for link in links)
        assert witness.witness.may_accept()

    def test_garbage_is_refused(self):
        _, witness = pair_and_witness()
        link = witness.witness.open_link("x:1")
        link.receive(b"get k\r\n" * 100)
        assert link.closed
        assert len(witness.witness.callers) == 2

    def test_who_calls_again_has_lost_the_link_before(self):
        group, witness = pair_and_witness()
        old = group.wire("a", "w")
        Wire(group["a"], witness)
        group.settle()
        assert old not in group.wires
        assert len(witness.witness.callers) == 2


@KINDS
def test_a_node_of_the_group_that_is_joining_and_loses_its_leader_waits(kind):
    group, witness = pair(kind)
    part(group, "ab", "aw")
    group.advance(2.5)
    meet(group, "ab", "aw")
    group.advance(0.01)
    witness.stop()
    group["b"].stop()
    Guest(group["a"]).feed(b"get k\r\n")
    group.advance(3.0)
    assert group["a"].node.role in (WAITING, JOINING)
    check(group)


@KINDS
def test_a_welcome_that_comes_when_we_have_begun_to_wait_is_too_late(kind):
    group, _ = pair(kind)
    part(group, "ab", "aw")
    Guest(group["a"]).feed(ADD % b"x")
    Guest(group["b"]).feed(ADD % b"x")
    group.advance(2.5)
    node = group["a"].node
    assert node.role is WAITING
    node.join_again(node.view.peers["b"])
    node.wait()
    meet(group, "ab")
    group.advance(2.0)
    assert roles(group) == [FOLLOWER, COORDINATOR]
    check(group)
