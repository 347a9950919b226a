"""Membership: which link stays, who joins whom, and what is done about what others say."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import product
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pymcd.protocol import Executor
from pymcd.replication import frames, records
from pymcd.replication.frames import Kind
from pymcd.replication.membership import CROSSING_S, WANTS_MAX
from pymcd.replication.messages import Join, Message, Received, Status, View, Welcome
from pymcd.replication.peer import Peer, Phase
from pymcd.replication.resync import SLICE_ITEMS, SLICES_MAX
from pymcd.replication.roles import (
    ALONE,
    COORDINATOR,
    FOLLOWER,
    JOINING,
    STARTING,
    WAITING,
    Role,
)
from pymcd.replication.versions import version_at
from tests.protocol import binary_client as binary
from tests.replication.helpers import (
    Group,
    Guest,
    Host,
    Wire,
    address_of,
    decode_sent,
    encode_state,
    make_group,
)
from tests.replication.world import constants

if TYPE_CHECKING:
    from pymcd.replication.link import Link

SET = b"set k 0 0 1\r\n1\r\n"


def shake_hands(group: Group, caller: str, late: str) -> tuple[Link, bytes]:
    """Return the other end of a link on which the last that one says of a handshake is late."""
    ends = Wire(group[caller], group["a" if caller == "b" else "b"])
    group.wires.remove(ends)
    theirs, mine = ends.links if caller == late else reversed(ends.links)
    said = b""
    while b"proof" not in said:
        mine.receive(said)
        theirs.receive(b"".join(mine.take_output()))
        said = b"".join(theirs.take_output())
    return mine, said


class TestTwoLinks:
    @pytest.mark.parametrize("first", "ab")
    def test_of_two_the_one_stays_that_the_smaller_id_dialled(self, first):
        group = Group("ab")
        for caller in [first, "b" if first == "a" else "a"]:
            Wire(group[caller], group["a" if caller == "b" else "b"])
        group.settle()
        (wire,) = group.wires
        assert wire.hosts[0].name == "a"
        assert group["a"].node.membership.links == [wire.links[0]]
        assert group["b"].node.membership.links == [wire.links[1]]
        assert group["a"].rows["handshake_failures"] == 0
        assert group["a"].rows["last_refusal"] == "-"
        group.advance(0.5)
        assert group["a"].node.role.in_sync

    def test_a_new_one_in_the_same_direction_replaces_the_old(self):
        group = make_group()
        old = group.wire("a", "b")
        new = Wire(*old.hosts)
        group.settle()
        assert group.wires == [new]
        assert Guest(group["b"]).ask(b"set a 0 0 1\r\n1\r\n") == b"STORED\r\n"
        assert group["a"].node.role.in_sync
        assert group["a"].rows["reconnects"] == 1

    def test_while_linked_nobody_dials(self):
        group = Group("ab")
        assert group["a"].node.membership.should_dial("127.0.0.1:20098")
        wire = group.link("a", "b")
        assert not group["a"].node.membership.should_dial("127.0.0.1:20098")
        wire.cut()
        assert group["a"].node.membership.should_dial("127.0.0.1:20098")

    #: Who dialled first, who then, how much later, and which of the two links stays.
    CROSSINGS = [
        ("a", "b", 0.0, 0),
        ("b", "a", 0.0, 1),
        ("a", "b", CROSSING_S / 2, 0),
        ("b", "a", CROSSING_S / 2, 1),
        ("a", "b", CROSSING_S, 1),  # whoever dials after so long has lost the first one
        ("b", "a", CROSSING_S, 1),
        ("a", "a", 0.0, 1),
        ("b", "b", 0.0, 1),
    ]

    @pytest.mark.parametrize(("first", "second", "later_s", "stays"), CROSSINGS)
    def test_by_who_dialled_when(self, first, second, later_s, stays):
        group = Group("ab")
        other = {"a": "b", "b": "a"}
        wires = [group.link(first, other[first])]
        group.clock.advance(later_s)
        wires.append(Wire(group[second], group[other[second]]))
        group.settle()
        assert group.wires == [wires[stays]]
        for host in group.hosts.values():
            links = wires[stays].links
            assert host.node.membership.links == [links[wires[stays].hosts.index(host)]]

    def test_who_has_started_anew_has_no_old_link(self):
        """What it dialled counts, whoever dialled before, and however short a time ago."""
        group = Group("ab")
        group.link("a", "b")
        group["b"].alive = False  # and nobody is told
        group["b"].start()
        wire = Wire(group["b"], group["a"])
        group.settle()
        assert wire in group.wires
        assert group["a"].peer("b").link is wire.links[1]
        assert group["a"].rows["reconnects"] == 1

    @pytest.mark.parametrize("second", "ab")
    @pytest.mark.parametrize("first", "ab")
    def test_one_that_is_late_does_not_replace_a_later_one(self, first, second):
        """What comes over it was said before."""
        group = Group("ab")
        other = {"a": "b", "b": "a"}
        late = Wire(group[first], group[other[first]])
        group.wires.clear()
        group.clock.advance(CROSSING_S)
        wire = group.link(second, other[second])
        group.wires.append(late)
        group.settle()
        assert group.wires == [wire]
        assert group["a"].rows["reconnects"] == group["b"].rows["reconnects"] == 0

    @pytest.mark.parametrize("calls", "ab")
    @pytest.mark.parametrize("met", [True, False], ids=["met", "never met"])
    @pytest.mark.parametrize("linked", [True, False], ids=["linked", "its link just lost"])
    @pytest.mark.parametrize("skew_s", [0.0, -50.0, 50.0])
    def test_what_its_former_life_said_may_arrive_late(self, calls, met, linked, skew_s):
        """Then it is not that one that has started anew, whatever its clock shows meanwhile."""
        group = make_group() if met else Group("ab")
        mine, said = shake_hands(group, calls, "a")
        for each in list(group.wires):
            each.cut()
        group["a"].start()
        group["a"].clock.skew_s = skew_s
        group.clock.advance(0.1)
        wire = group.link("a", "b")
        group.advance(1.5)
        assert {host.node.role for host in group.hosts.values()} == {"coordinator", "follower"}
        reconnects = group["b"].rows["reconnects"]
        roles = [host.node.role for host in group.hosts.values()]
        if not linked:
            wire.cut()
        mine.receive(said)
        assert mine.closed
        assert group["b"].peer("a").link is (wire.links[1] if linked else None)
        assert group["b"].peer("a").incarnation == group["a"].node.membership.incarnation
        if not linked:
            wire = group.link("a", "b")
            reconnects += 1
        group.settle()
        assert [host.node.role for host in group.hosts.values()] == roles
        assert group["b"].rows["reconnects"] == reconnects
        assert group["b"].rows["degraded_count"] == met
        group.check()

    @pytest.mark.parametrize("late", "ab")
    @pytest.mark.parametrize("linked", [True, False], ids=["linked", "just lost"])
    def test_what_was_said_on_a_former_link_may_arrive_late(self, late, linked):
        """What it was and wanted then it is no more."""
        group = make_group()
        group.wire("a", "b").cut()
        for host in group.hosts.values():
            Guest(host).ask(b"set %s 0 0 1\r\n1\r\n" % host.name.encode())
        group.advance(0.5)
        caller = "a" if late == "b" else "b"
        mine, said = shake_hands(group, caller, late)
        group[late].step()
        for link in list(group[late].node.membership.links):
            said += b"".join(link.take_output())
            link.disconnected()
        group.clock.advance(0.1)
        wire = group.link(late, caller)
        group.advance(1.5)
        roles = [host.node.role for host in group.hosts.values()]
        assert {*roles} == {"coordinator", "follower"}
        group.warm()
        if not linked:
            wire.cut()
        mine.receive(said)
        assert mine.closed
        for each in list(group.wires):
            each.cut()
        group.link("a", "b")
        group.settle()
        assert [host.node.role for host in group.hosts.values()] == roles
        assert [host.rows["degraded_count"] for host in group.hosts.values()] == [1, 1]
        group.check()


# -- who joins whom ----------------------------------------------------------------------------


def met(host: Host, node_id: str, role: Role, *, epoch: int = 0, members: int = 1) -> Peer:
    """Have a node that was linked to just now, and says what it is."""
    peer = Peer(node_id)
    peer.link = host.node.membership.open_link(dialled=None)
    peer.status = Status(
        word="",
        role=role,
        epoch=epoch,
        members=[node_id, *(f"other{number}" for number in range(1, members))],
        coordinator="-",
        welcoming=False,
        channel=None,
        left=Received(0, 0),
        clock=0.0,
        version=0,
        alone_s=0.0,
    )
    host.node.view.peers[node_id] = peer
    return peer


class TestWhoJoinsWhom:
    #: Our role, theirs -> whether we join; of two that lead it depends.
    BY_ROLE = {
        (mine, theirs): mine in (STARTING, JOINING, WAITING) and theirs in (ALONE, COORDINATOR)
        for mine, theirs in product(Role, Role)
        if not (mine.leads and theirs.leads)
    }
    #: Members and epoch of our view, and of theirs; whether their id is smaller -> do we join?
    OF_TWO_THAT_LEAD = [
        ((1, 5), (2, 3), False, True),  # who is in the smaller view
        ((2, 3), (1, 5), True, False),
        ((1, 3), (1, 5), False, True),  # or in the older one
        ((1, 5), (1, 3), True, False),
        ((2, 3), (2, 5), False, True),
        ((2, 5), (2, 3), True, False),
        ((1, 5), (1, 5), True, True),  # or has the larger id
        ((1, 5), (1, 5), False, False),
    ]

    @pytest.mark.parametrize(("mine", "theirs"), BY_ROLE)
    def test_by_what_they_are(self, mine, theirs):
        host = Group("m")["m"]
        host.node.view.role = mine
        peer = met(host, "x", theirs)
        host.node.membership.consider(peer)
        assert (peer.phase is Phase.ASKING) == self.BY_ROLE[mine, theirs]

    @pytest.mark.parametrize(("mine", "theirs", "smaller", "joins"), OF_TWO_THAT_LEAD)
    def test_of_two_that_lead_one(self, mine, theirs, smaller, joins):
        host = Group("m")["m"]
        view = host.node.view
        view.role = COORDINATOR if mine[0] > 1 else ALONE
        view.members = ["m", "n"][: mine[0]]
        view.epoch = mine[1]
        role = COORDINATOR if theirs[0] > 1 else ALONE
        peer = met(host, "a" if smaller else "x", role, epoch=theirs[1], members=theirs[0])
        host.node.membership.consider(peer)
        assert (peer.phase is Phase.ASKING) == joins

    @pytest.mark.parametrize("role", [STARTING, JOINING])
    def test_nobody_else_is_asked_while_one_takes_us_in(self, role):
        host = Group("m")["m"]
        host.node.view.role = role
        met(host, "x", ALONE).open_channel(1, Phase.JOINING)
        other = met(host, "y", COORDINATOR)
        host.node.membership.consider(other)
        assert other.phase is Phase.APART

    def test_who_is_not_there_or_has_said_nothing_is_not_asked(self):
        host = Group("m")["m"]
        mute, gone = met(host, "x", ALONE), met(host, "y", ALONE)
        mute.status = None
        gone.link = None
        host.node.membership.consider_all()
        assert [mute.phase, gone.phase] == [Phase.APART] * 2

    def test_who_joins_follows_whom_it_asked_last(self):
        host = Group("m")["m"]
        view = host.node.view
        first, second = met(host, "x", ALONE), met(host, "y", ALONE)
        view.role, view.leader = JOINING, first
        host.node.membership.consider(second)
        assert view.leader is second

    def test_who_is_taken_in_by_one_is_not_by_another(self):
        # c has started again, and asks both a and b, which have lost each other. What b told it
        # would be known to c alone when it follows a.
        group = make_group("abc", votes=False)
        group["c"].stop()
        group.wire("a", "b").cut()
        group.advance(1)
        for name in "ab":
            Guest(group[name]).ask(b"set %s 0 0 1\r\n1\r\n" % name.encode())
        group["c"].start()
        wires = [Wire(group["c"], group[name]) for name in "ab"]
        asking = group["c"].node.view.peers
        while len(asking) < 2 or {peer.phase for peer in asking.values()} != {Phase.ASKING}:
            for wire in wires:
                name = wire.hosts[1].name
                if name not in asking or asking[name].phase is Phase.APART:
                    wire.carry()
            for host in group.hosts.values():
                host.turn()
        group.settle()
        Guest(group["b"]).ask(b"set c 0 0 1\r\n1\r\n")
        group.advance(2)
        assert group["c"].node.role == "follower"
        leader = group["c"].rows["coordinator"]
        assert group["c"].values() == group[leader].values()
        group.check()

    def test_who_has_given_its_word_does_not_turn_to_another(self):
        # c lost a, which stood still, and b goes on by itself; c asks both, and b answers first.
        group = make_group("abc", votes=False)
        group.warm()
        group.wire("a", "b").cut()
        near, far = group.wire("b", "c"), group.wire("a", "c")
        group["a"].frozen = True
        near.stall()
        for name in "bc":
            Guest(group[name]).feed(SET)
        group.advance(0.09)
        group["a"].frozen = False
        asking = group["c"]
        assert asking.peer("a").phase is Phase.ASKING
        far.stall(group["a"])
        far.carry()
        near.resume()
        while asking.peer("b").phase is not Phase.ACCEPTED:
            near.carry()
            asking.turn()
            group["b"].turn()
        far.resume()
        far.carry()  # a takes it in, too
        assert asking.node.view.leader is asking.peer("b")
        group.settle()
        assert asking.node.role == "follower"
        assert asking.rows["coordinator"] == "b"
        group.check()


# -- what others say ---------------------------------------------------------------------------


class Voice:
    """A node of which only the words are there: "s", linked to the server "a"."""

    def __init__(self, *, in_sync: bool = False, **settings: Any) -> None:
        self.group = group = make_group("as", **settings) if in_sync else Group("as", **settings)
        wire = group.wire("a", "s") if in_sync else Wire(group["s"], group["a"])
        while "s" not in group["a"].node.view.peers:
            wire.carry()
        group["s"].frozen = True
        self.host = group["a"]
        self.node = self.host.node
        self.peer = self.host.peer("s")
        link = self.peer.link
        assert link is not None
        self.link = link
        self.heard()

    def say(self, said: Message, *, epoch: int = 0, number: int = 0) -> None:
        self.say_raw(said.kind, said.encode(), epoch=epoch, number=number)

    def say_raw(
        self, kind: Kind, payload: bytes = b"", *, epoch: int = 0, number: int = 0, ack: int = 0
    ) -> None:
        now = self.group.clock.monotonic()
        frame = frames.encode_message(kind, now, -1.0, epoch, number, ack, payload)
        self.link.receive(b"".join(frame))

    def go_on(self, kind: Kind, payload: bytes = b"") -> None:
        """Say the next thing in the channel."""
        channel = self.peer.channel
        assert channel is not None
        ack = channel.sent if kind == Kind.ACCEPT else 0  # which follows what was proposed
        number = channel.received + 1
        self.say_raw(kind, payload, epoch=channel.epoch, number=number, ack=ack)

    def heard(self) -> list[tuple[int, bytes]]:
        """Return kinds and payloads of what was answered since."""
        self.host.turn()
        return decode_sent(self.link.take_output())

    def statuses(self) -> list[Status]:
        """Return those among the answers."""
        return [Status.decode(payload) for kind, payload in self.heard() if kind == Kind.STATUS]

    def join(self, **changes: Any) -> Welcome:
        """Ask to be taken in."""
        join = Join(wants=[], all=True, leads=False, left=0, pending=[], replace=0)
        self.say(replace(join, **changes))
        ((kind, payload),) = [each for each in self.heard() if each[0] == Kind.WELCOME]
        assert kind == Kind.WELCOME
        return Welcome.decode(payload)


def status(role: Role = ALONE, **changes: Any) -> Status:
    """Return what a node says of itself that knows of no channel."""
    said = Status(
        word="",
        role=role,
        epoch=0,
        members=["s"],
        coordinator="s",
        welcoming=False,
        channel=None,
        left=Received(0, 0),
        clock=1_700_000_000.0,
        version=0,
        alone_s=0.0,
    )
    return replace(said, **changes)


WELCOME = Welcome(wants=[], all=False, done={}, replace=0)


class TestStatus:
    """What a STATUS says of the channel decides whether it goes on."""

    def test_who_asks_is_answered(self):
        voice = Voice()
        voice.say(status())
        assert voice.statuses() == []
        voice.say(status(word="ask"))
        assert [each.word for each in voice.statuses()] == ["answer"]

    def test_a_channel_goes_on_over_a_new_link_from_where_it_was(self):
        voice = Voice(in_sync=True)
        channel = voice.peer.channel
        assert channel is not None
        voice.host.node.gate.send_batch()
        for _ in range(2):
            voice.peer.send(0.0, Kind.CHANGES)
        channel.flowing = False
        voice.heard()
        voice.say(status(FOLLOWER, channel=Received(channel.epoch, channel.sent - 1)))
        assert channel.flowing
        assert [each.number for each in channel.unacked] == [channel.sent]
        assert [kind for kind, _ in voice.heard()] == [Kind.CHANGES]

    #: Words, and whether what they say of the channel, though it is known here, is its end. Said
    #: once it may have been overtaken, by what is still to come over the old link.
    UNKNOWN = [("", False), ("ask", False), ("answer", True)]

    @pytest.mark.parametrize(("word", "ends"), UNKNOWN)
    @pytest.mark.parametrize("in_sync", [True, False])
    def test_one_that_the_other_side_does_not_know(self, word, ends, in_sync):
        voice = Voice(in_sync=in_sync)
        if not in_sync:
            voice.node.go_alone()
            voice.join()
        channel = voice.peer.channel
        assert channel is not None
        channel.flowing = False
        voice.heard()
        voice.say(status(STARTING, word=word))
        assert (voice.peer.channel is None) == ends
        assert voice.node.role == (COORDINATOR if in_sync and not ends else ALONE)
        if not ends:
            assert "ask" in [each.word for each in voice.statuses()]

    @pytest.mark.parametrize("in_sync", [True, False])
    def test_one_that_the_other_side_has_given_up(self, in_sync):
        voice = Voice(in_sync=in_sync)
        if not in_sync:
            voice.node.go_alone()
            voice.join()
        assert voice.peer.channel is not None
        voice.say(status(STARTING, left=Received(voice.peer.channel.epoch, 0)))
        assert voice.peer.channel is None
        assert voice.node.role is ALONE

    def test_and_who_goes_on_without_us_is_joined(self):
        voice = Voice(in_sync=True)
        assert voice.peer.channel is not None
        epoch = voice.node.view.epoch
        voice.say(status(epoch=epoch + 1, left=Received(voice.peer.channel.epoch, 0)))
        assert voice.node.role is JOINING
        assert voice.peer.phase is Phase.ASKING
        assert Kind.JOIN in [kind for kind, _ in voice.heard()]

    def test_whoever_does_not_lead_any_more_is_asked_in_vain(self):
        voice = Voice()
        phases = []
        for role in (ALONE, FOLLOWER):
            voice.say(status(role))
            phases.append(voice.peer.phase)
        assert phases == [Phase.ASKING, Phase.APART]

    def test_epochs_that_were_given_out_are_not_given_out_again(self):
        voice = Voice()
        voice.say(status(STARTING, epoch=5 << 12, left=Received(9 << 12, 0)))
        assert voice.node.view.highest_epoch == 9 << 12
        assert voice.node.view.next_epoch(3) == 10 << 12 | 3


class TestJoin:
    def test_who_leads_takes_in(self):
        voice = Voice()
        voice.node.go_alone()
        Guest(voice.host).ask(SET)
        voice.heard()
        assert voice.join() == WELCOME
        assert voice.peer.phase is Phase.HOSTING
        assert voice.peer.channel is not None
        assert voice.peer.channel.epoch == voice.node.view.highest_epoch

    def test_who_does_not_says_what_it_is(self):
        voice = Voice()
        voice.say(Join(wants=[], all=True, leads=False, left=0, pending=[], replace=0))
        assert [each.role for each in voice.statuses()] == [STARTING]
        assert voice.peer.phase is Phase.APART

    @pytest.mark.parametrize(("left", "anew"), [(0, False), ("ours", True)])
    def test_who_asks_again_begins_anew_if_it_left(self, left, anew):
        """Else it asked before it heard our answer."""
        voice = Voice()
        voice.node.go_alone()
        voice.join()
        before = voice.peer.channel
        assert before is not None
        join = Join(wants=[], all=True, leads=False, left=0, pending=[], replace=0)
        voice.say(replace(join, left=before.epoch if left else 0))
        assert (voice.peer.channel is not before) == anew

    @pytest.mark.parametrize(("node", "other", "takes_in"), [("a", "s", True), ("t", "s", False)])
    def test_of_two_that_lead_and_ask_each_other_the_smaller_id_takes_in(
        self, node, other, takes_in
    ):
        host = Group([node])[node]
        assert host.node.role is ALONE
        peer = met(host, other, ALONE)
        peer.become(Phase.ASKING)
        join = Join(wants=[], all=True, leads=True, left=0, pending=[], replace=0)
        host.node.membership._join_arrived(peer, join, 0.0)
        assert (peer.phase is Phase.HOSTING) == takes_in

    def test_what_was_executed_for_it_before_is_told(self):
        voice = Voice()
        voice.node.go_alone()
        voice.peer.executed.replies.update({7: b"STORED\r\n", 8: b"OK\r\n"})
        assert voice.join(pending=[7, 9]).done == {7: b"STORED\r\n"}
        assert voice.peer.executed.repeats_up_to == 9

    def test_what_was_given_up_is_asked_for(self):
        voice = Voice()
        voice.node.go_alone()
        voice.node.membership.wants_all = True
        assert voice.join().all

    def test_what_is_too_much_to_be_named_is_in_doubt_like_a_flush(self):
        voice = Voice()
        voice.node.go_alone()
        membership = voice.node.membership
        for _ in range(2):
            membership.doubt(
                [b"%d" % number for number in range(WANTS_MAX)], flushed=False, known_up_to=0
            )
            assert not membership.flush_in_doubt
        membership.doubt([b"one more"], flushed=False, known_up_to=0)
        assert membership.flush_in_doubt


class TestWelcome:
    def asking(self, role: Role = STARTING) -> Voice:
        voice = Voice()
        if role is JOINING:
            voice.node.view.role = role
        voice.say(status())
        assert voice.peer.phase is Phase.ASKING
        voice.heard()
        return voice

    def test_a_channel_begins_with_it(self):
        voice = self.asking()
        voice.say(WELCOME, epoch=5 << 12, number=1)
        assert voice.peer.phase is Phase.JOINING
        assert voice.peer.channel is not None
        assert (voice.peer.channel.epoch, voice.peer.channel.received) == (5 << 12, 1)
        assert voice.node.view.highest_epoch == 5 << 12
        assert voice.heard()[0][0] == Kind.SYNCED

    @pytest.mark.parametrize(("epoch", "anew"), [(4, False), (6, True)])
    def test_only_a_later_one_begins_another(self, epoch, anew):
        voice = self.asking()
        voice.say(WELCOME, epoch=5, number=1)
        channel = voice.peer.channel
        voice.say(WELCOME, epoch=epoch, number=1)
        assert (voice.peer.channel is not channel) == anew

    def test_who_is_in_sync_with_another_declines(self):
        voice = Voice()
        voice.node.view.role = FOLLOWER
        voice.say(WELCOME, epoch=5, number=1)
        assert voice.peer.channel is None
        assert [each.left for each in voice.statuses()] == [Received(5, 0)]
        assert voice.host.rows["stale_frames"] == 1

    def test_what_was_executed_for_us_before_is_answered(self):
        voice = self.asking()
        guest = Guest(voice.host)
        gate = voice.node.gate
        gate.forward(guest.connection, "text", SET)
        ((number, _),) = gate.forwards.items()
        voice.say(
            replace(WELCOME, done={number: b"STORED\r\n", 5: b"ERROR\r\n"}), epoch=5, number=1
        )
        guest.pump()
        assert guest.take() == b"STORED\r\n"
        assert gate.forwards == {}

    def test_what_it_wants_is_sent(self):
        voice = self.asking()
        Executor(voice.host.service)("text", SET)
        voice.say(replace(WELCOME, wants=[b"k"]), epoch=5, number=1)
        kind, payload = voice.heard()[0]
        assert kind == Kind.CHANGES
        assert payload.endswith(b"k1")


class TestBecomingOne:
    def proposed(self) -> Voice:
        """Return a node that leads, and has brought another in sync."""
        voice = Voice()
        voice.node.go_alone()
        voice.join()
        voice.go_on(Kind.SYNCED)
        assert voice.peer.phase is Phase.PROPOSED
        return voice

    def accepted(self) -> Voice:
        """Return a node that is about to follow another."""
        voice = Voice()
        voice.say(status())
        voice.say(WELCOME, epoch=5, number=1)
        voice.go_on(Kind.SYNCED)
        voice.go_on(Kind.PROPOSE)
        assert voice.peer.phase is Phase.ACCEPTED
        return voice

    def test_who_leads_proposes_when_each_has_all(self):
        voice = self.proposed()
        assert Kind.PROPOSE in [kind for kind, _ in voice.heard()]

    def test_and_decides_when_that_is_accepted(self):
        voice = self.proposed()
        voice.heard()
        voice.go_on(Kind.ACCEPT)
        assert voice.node.role is COORDINATOR
        views = [View.decode(payload) for kind, payload in voice.heard() if kind == Kind.VIEW]
        assert views == [View(voice.node.view.epoch, ["a", "s"])]

    def test_not_while_there_is_more_than_may_be_on_its_way(self):
        voice = self.proposed()
        voice.peer.resync.behind[b"k"] = None
        with constants({"WINDOW_BYTES": 0}):
            voice.go_on(Kind.ACCEPT)
        assert voice.node.role is ALONE
        assert voice.peer.phase is Phase.HOSTING

    def test_who_was_lost_of_late_is_taken_in_later(self):
        voice = Voice()
        voice.node.go_alone()
        voice.peer.not_before = voice.group.clock.monotonic() + 1
        voice.join()
        voice.go_on(Kind.SYNCED)
        phases = [voice.peer.phase]
        voice.peer.not_before = 0.0
        voice.host.step()
        phases.append(voice.peer.phase)
        assert phases == [Phase.HOSTING, Phase.PROPOSED]

    def test_nobody_accepts_unless_it_was_proposed(self):
        voice = Voice()
        voice.node.go_alone()
        voice.join()
        voice.go_on(Kind.ACCEPT)
        assert voice.node.role is ALONE

    def test_who_decides_for_another_is_not_proposed_to(self):
        voice = self.proposed()
        voice.go_on(Kind.PROPOSE)
        assert "sent a proposal, though we decide for it" in voice.host.lines[-1]

    def test_who_accepts_says_so_last(self):
        voice = self.accepted()
        assert [kind for kind, _ in voice.heard()][-1] == Kind.ACCEPT
        assert voice.node.view.leader is voice.peer

    @pytest.mark.parametrize("behind", [0, SLICE_ITEMS, SLICE_ITEMS + 1, 20 * SLICE_ITEMS])
    def test_but_not_before_the_rest_is_no_more_than_one_slice(self, behind):
        """However much has changed since it had told all: never all of it in one step."""
        voice = Voice()
        voice.node.go_alone()
        voice.say(status(epoch=voice.node.view.epoch + 1))
        voice.say(WELCOME, epoch=voice.node.view.epoch + 2, number=1)
        voice.go_on(Kind.SYNCED)
        channel = voice.peer.channel
        assert channel is not None

        def acknowledge() -> None:
            voice.say_raw(Kind.ACK, epoch=channel.epoch, ack=channel.sent)

        keys = [b"k%d" % number for number in range(behind)]
        for key in keys:
            Executor(voice.host.service)("text", b"set %b 0 0 1\r\nx\r\n" % key)
        voice.heard()
        acknowledge()
        voice.peer.resync.behind.update(dict.fromkeys(keys))
        assert voice.peer.phase is Phase.JOINING
        voice.go_on(Kind.PROPOSE)
        peer = voice.peer
        assert (peer.phase.name == "ACCEPTED") == (behind <= SLICE_ITEMS)
        while peer.phase.name == "JOINING":
            for act in (voice.host.step, acknowledge):
                sent_before = voice.peer.resync.keys_sent
                act()
                assert voice.peer.resync.keys_sent - sent_before <= (SLICES_MAX + 1) * SLICE_ITEMS
        kinds = [kind for kind, _ in voice.heard()]
        assert kinds.index(Kind.ACCEPT) > max(
            [number for number, kind in enumerate(kinds) if kind == Kind.CHANGES], default=-1
        )
        assert not voice.peer.resync.under_way

    def test_with_the_view_it_follows(self):
        voice = self.accepted()
        voice.go_on(Kind.VIEW, View(9, ["s", "a", "x"]).encode())
        view = voice.node.view
        assert (view.role, view.epoch, view.coordinator) == (FOLLOWER, 9, "s")
        assert view.members == ["s", "a", "x"]
        voice.node.check()

    def test_of_others_it_learns_so_too(self):
        voice = self.accepted()
        for epoch, members in ((9, ["s", "a"]), (10, ["s", "a", "x"]), (11, ["s", "a"])):
            voice.go_on(Kind.VIEW, View(epoch, members).encode())
            assert (voice.node.view.epoch, voice.node.view.members) == (epoch, members)

    def test_not_of_one_that_it_is_not_in(self):
        voice = self.accepted()
        voice.go_on(Kind.VIEW, View(9, ["s", "x"]).encode())
        assert voice.node.role is STARTING
        assert "sent a VIEW without this node" in voice.host.lines[-1]

    def test_nor_of_one_that_is_not_its_leader(self):
        voice = Voice()
        voice.say(status())
        voice.say(WELCOME, epoch=5, number=1)
        voice.go_on(Kind.VIEW, View(9, ["s", "a"]).encode())
        assert voice.node.role is STARTING
        assert voice.node.view.epoch == 0


class TestNonsense:
    """What a peer would never say ends its link."""

    def send(self, group: Group, payload: bytes, kind: Kind = Kind.CHANGES) -> None:
        """Have the coordinator say something to the follower that it would never say."""
        peer = group["a"].peer("b")
        peer.send(group.clock.monotonic(), kind, payload)
        group.settle()

    @pytest.mark.parametrize("node", "ab")
    def test_what_is_no_record_ends_the_link(self, node):
        group = make_group()
        self.send(group, b"\x77")
        assert "sent a record of unknown kind 119" in group["b"].lines[-1]

    @pytest.mark.parametrize(
        ("kind", "epoch", "what"),
        [(Kind.STATUS, 0, "STATUS"), (Kind.JOIN, 0, "JOIN"), (Kind.WELCOME, 5, "WELCOME")],
    )
    @pytest.mark.parametrize("payload", [b"{}", b'{"epoch":[]}'])
    def test_what_lacks_something_ends_the_link(self, kind, epoch, what, payload):
        group = Group()
        wire = Wire(group["a"], group["b"])
        for _ in range(2):  # the handshake
            wire.carry()
        link = group["b"].peer("a").link
        assert link is wire.links[1]
        number = 1 if epoch else 0
        link.receive(b"".join(frames.encode_message(kind, 0.0, 0.0, epoch, number, 0, payload)))
        assert link.closed
        assert f"sent a {what} without what belongs into it" in group["b"].lines[-1]

    def test_so_does_a_view_without_members(self):
        group = make_group()
        self.send(group, b'{"epoch":1}', Kind.VIEW)
        assert "sent a VIEW without what belongs into it" in group["b"].lines[-1]

    def test_so_does_a_view_that_leaves_the_receiver_out(self):
        group = make_group()
        self.send(group, View(1 << 40, ["a"]).encode(), Kind.VIEW)
        assert "sent a VIEW without this node" in group["b"].lines[-1]
        group.check()

    def test_so_does_a_follower_that_welcomes_its_coordinator(self):
        group = make_group()
        (wire,) = group.wires
        link = wire.links[0]
        payload = Welcome(wants=[], all=False, done={}, replace=0).encode()
        link.receive(
            b"".join(frames.encode_message(Kind.WELCOME, 0.0, 0.0, 1 << 40, 1, 0, payload))
        )
        assert link.closed
        assert "sent a welcome, though we decide for it" in group["a"].lines[-1]
        group["a"].node.check()

    def test_so_do_parts_without_end(self, monkeypatch):
        monkeypatch.setattr("pymcd.replication.channel.PARTS_MAX_BYTES", 2)
        group = make_group()
        for _ in range(3):
            self.send(group, b"x", Kind.PART)
        assert "sent a message without end" in group["b"].lines[-1]


NUMBERS = st.one_of(
    st.integers(0, 5),
    st.sampled_from([-1, 1.5, 2**63, 2**64, 10**400, float("inf"), float("nan"), "1", None, True]),
)
FIELDS: dict[str, st.SearchStrategy[Any]] = {
    "role": st.sampled_from(["alone", "coordinator", "follower", "joining", "starting", 5, []]),
    "epoch": NUMBERS,
    "members": st.one_of(st.lists(st.sampled_from("as")), NUMBERS),
    "coordinator": st.one_of(st.sampled_from("as-"), NUMBERS),
    "channel": st.one_of(
        st.none(), st.fixed_dictionaries({"epoch": NUMBERS, "received": NUMBERS}), NUMBERS
    ),
    "left": st.one_of(st.fixed_dictionaries({"epoch": NUMBERS, "received": NUMBERS}), NUMBERS),
    "clock": st.one_of(st.just(1_700_000_000.0), st.just("1700000000.0"), NUMBERS),
    "alone_s": st.one_of(st.just(0.0), st.just("1"), NUMBERS),
    "version": st.one_of(st.just(1), NUMBERS),
    "wants": st.one_of(st.lists(st.one_of(st.text(), NUMBERS), max_size=3), NUMBERS),
    "all": st.booleans(),
    "leads": st.booleans(),
    "pending": st.one_of(st.lists(NUMBERS, max_size=3), NUMBERS),
    "replace": NUMBERS,
    "done": st.one_of(
        st.dictionaries(st.sampled_from(["1", "x", "9" * 5000]), NUMBERS), NUMBERS
    ),
}  # fmt: skip
PAYLOADS = st.one_of(
    st.fixed_dictionaries(FIELDS).map(lambda fields: json.dumps(fields).encode()),
    st.fixed_dictionaries({}, optional=FIELDS).map(lambda fields: json.dumps(fields).encode()),
    st.binary(max_size=60),
    st.just(b""),
)
HEADS = st.tuples(
    st.one_of(st.sampled_from(Kind), st.integers(0, 255)),
    st.one_of(st.floats(), st.just(1.0)),
    st.one_of(st.floats(), st.just(1.0)),
    st.sampled_from([0, 1, 2**64 - 1, "channel"]),
    st.sampled_from([0, 1, 2**64 - 1, "next"]),
    st.sampled_from([0, 1, 2, 3, 2**64 - 1]),
)


class TestPeerGoneMad:
    @given(st.lists(st.tuples(HEADS, PAYLOADS), max_size=8), st.booleans())
    def test_its_link_ends_and_nothing_else(self, messages, in_sync):
        """It has proven itself, but what it says may still be wrong."""
        voice = Voice(in_sync=in_sync)
        host = voice.host
        for (kind, time, echo, epoch, number, ack), payload in messages:
            channel = voice.peer.channel
            if epoch == "channel":
                epoch = 0 if channel is None else channel.epoch
            if number == "next":
                number = 1 if channel is None else channel.received + 1
            frame = frames.encode_message(kind, time, echo, epoch, number, ack, payload)
            voice.link.receive(b"".join(frame))
            host.turn()
            host.node.check()
        voice.group.clock.advance(1)
        host.turn()
        host.step()
        voice.group.check()

    #: What a peer may say, at some time.
    SAYINGS = st.one_of(
        st.tuples(
            st.just("status"),
            st.sampled_from(Role),
            st.sampled_from(["", "ask", "answer"]),
            st.sampled_from([None, "ours", "other"]),
            st.sampled_from([None, "ours", "other"]),
            st.sampled_from([0, 1 << 40]),
        ),
        st.tuples(st.just("join"), st.booleans(), st.booleans(), st.sampled_from([None, "ours"])),
        st.tuples(st.just("welcome"), st.booleans(), st.sampled_from([1, 5 << 12, 1 << 41])),
        st.tuples(
            st.just("go on"),
            st.sampled_from([Kind.SYNCED, Kind.PROPOSE, Kind.ACCEPT, Kind.VIEW, Kind.CHANGES]),
        ),
        st.tuples(st.just("forward"), st.integers(1, 3)),
        st.tuples(st.just("acknowledge")),
        st.tuples(st.just("client"), st.sampled_from([SET, b"get k\r\n", b"flush_all\r\n"])),
        st.tuples(st.just("wait"), st.sampled_from([0.01, 0.1, 1.0, 4.0])),
    )

    @given(st.lists(SAYINGS, max_size=25), st.booleans(), st.sampled_from(["semi", "async"]))
    def test_nor_does_it_matter_when_it_says_what_may_be_said(self, sayings, in_sync, ack_mode):
        voice = Voice(in_sync=in_sync, replication_ack=ack_mode)
        host, peer = voice.host, voice.peer
        guest = Guest(host)
        for what, *more in sayings:
            channel = peer.channel
            received = {None: None, "other": Received(7, 7)}
            if channel is not None:
                received["ours"] = Received(channel.epoch, channel.sent)
            if what == "wait":
                voice.group.advance(more[0])
            elif what == "client":
                guest.feed(more[0])
                host.turn()
            elif voice.link.closed:
                break
            elif what == "status":
                role, word, known, left, epoch = more
                left = received.get(left) or Received(0, 0)
                known = received.get(known)
                voice.say(status(role, word=word, epoch=epoch, left=left, channel=known))
            elif what == "join":
                whole, leads, left = more
                left = 0 if left is None or channel is None else channel.epoch
                voice.say(Join([b"k"], whole, leads, left, pending=[1, 2], replace=0))
            elif what == "welcome":
                voice.say(replace(WELCOME, all=more[0]), epoch=more[1], number=1)
            elif channel is None:
                continue
            elif what == "acknowledge":
                voice.say_raw(Kind.ACK, epoch=channel.epoch, ack=channel.sent)
            elif what == "forward":
                voice.go_on(Kind.FORWARD, records.encode_forward(more[0], "text", SET))
            elif more[0] == Kind.VIEW:
                voice.go_on(Kind.VIEW, View(9 << 12, ["s", "a"]).encode())
            else:
                version = version_at(host.clock.realtime(), 7)
                state = encode_state(b"x", b"1", 0, 0, version, version)
                voice.go_on(more[0], state if more[0] == Kind.CHANGES else b"")
            host.node.check()
            host.turn()
            host.node.check()
        voice.group.advance(1)
        voice.group.check()


class TestForgetting:
    """A node that will not return."""

    def group(self) -> Group:
        group = make_group("abc", tombstone_ttl_s=60.0)
        group["c"].stop()
        group.advance(1)
        return group

    def test_who_is_gone_is_missed_no_more(self):
        group = self.group()
        for host in (group["a"], group["b"]):
            assert Guest(host).ask(b"stats replication\r\n").count(b":node_id") == 2
            answer = Guest(host).ask(b"stats replication forget c\r\n")
            assert answer == b"STAT forgotten c\r\nEND\r\n"
            assert Guest(host).ask(b"stats replication\r\n").count(b":node_id") == 1
            assert "replication: c is forgotten" in host.lines
        group.check()

    def test_if_it_comes_after_all_it_is_a_new_one(self):
        group = self.group()
        for host in (group["a"], group["b"]):
            host.node.gate.forget("c")
        assert Guest(group["a"]).ask(b"set k 0 0 1\r\n1\r\n") == b"STORED\r\n"
        group["c"].start()
        group.link("a", "c")
        group.link("b", "c")
        group.advance(2)
        assert group["c"].node.role == "follower"
        group.check_equal()

    def test_not_who_is_there_nor_who_was_never(self):
        group = self.group()
        for node_id, why in ((b"b", b"it_is_in_use"), (b"x", b"there_is_no_such_node")):
            answer = Guest(group["a"]).ask(b"stats replication forget %s\r\n" % node_id)
            assert answer == b"STAT not_forgotten %s\r\nEND\r\n" % why
        assert group["a"].node.role == "coordinator"

    def test_binary_clients_can_say_so_too(self):
        group = self.group()
        guest = Guest(group["a"])
        first, last = binary.decode(guest.ask(binary.request(binary.STAT, b"replication forget c")))
        assert (first.key, first.value, last.key) == (b"forgotten", b"c", b"")
        assert "c" not in group["a"].node.view.peers

    @pytest.mark.parametrize("replaced", [False, True])
    def test_whose_place_another_has_taken_is_forgotten_by_itself(self, replaced):
        group = self.group()
        a = group["a"]
        a.node.view.who = dict.fromkeys(a.node.configured, "b")
        if not replaced:
            a.node.view.who[address_of("c")] = "c"
        group.advance(50)
        assert "c" in a.node.view.peers
        group.advance(15)
        assert ("c" in a.node.view.peers) is not replaced


class TestCopies:
    def test_one_that_starts_over_says_so(self):
        group = make_group()
        guest = Guest(group["a"])
        for number in range(400):
            assert guest.ask(b"set %d 0 0 9999\r\n%s\r\n" % (number, b"x" * 9999)) == b"STORED\r\n"
        group["b"].stop()
        group.advance(1)
        group["b"].start()
        for broken in range(3):
            wire = Wire(group["a"], group["b"])
            while group["a"].rows.get("peer_0:copied_items", 0) < 20:
                wire.carry()
                for host in group.hosts.values():
                    host.turn()
            rows = group["a"].rows
            assert rows["peer_0:copied_of"] == 400
            assert 20 <= rows["peer_0:copied_items"] < 400
            assert rows["peer_0:copies_broken"] == broken
            if broken < 2:
                wire.cut()
                group.advance(4)
        (line,) = [line for line in group["a"].lines if "starts over" in line]
        assert "replication: the copy for b starts over, after 1 that broke off" in line
        assert "of 400 items" in line
        group.advance(5)
        assert group["b"].node.role == "follower"
        assert group["a"].rows["peer_0:copies_broken"] == group["a"].rows["peer_0:copied_of"] == 0


class TestSlowLinks:
    @pytest.mark.parametrize("slow", [False, True])
    def test_a_lapse_because_of_one_says_so(self, slow):
        group = make_group()
        peer = group["a"].peer("b")
        group.warm()
        peer.answer_s = 0.05 if slow else 0.001
        group.wire("a", "b").stall()
        Guest(group["a"]).feed(b"set k 0 0 1\r\n1\r\n")
        group.advance(0.2)
        hint = ": answers took up to 50 ms, and --replication-ack-timeout is 80 ms"
        (line,) = [line for line in group["a"].lines if "b does not answer" in line]
        assert (hint in line) == slow

    def test_how_long_an_answer_took_is_told(self):
        group = make_group()
        group.warm()
        wire = group.wire("a", "b")
        wire.stall()
        Guest(group["a"]).feed(b"set k 0 0 1\r\n1\r\n")
        group.advance(0.05)
        wire.resume()
        group.settle()
        assert 40 <= group["a"].rows["peer_0:answer_ms"] < 60
