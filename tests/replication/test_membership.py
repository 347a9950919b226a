"""Membership: which link stays, who joins whom, and what is done about what others say."""

from __future__ import annotations

from itertools import product

import pytest

from pymcd.replication.membership import CROSSING_S
from pymcd.replication.messages import Received, Status
from pymcd.replication.peer import Peer, Phase
from pymcd.replication.roles import ALONE, COORDINATOR, JOINING, STARTING, Role
from tests.replication.helpers import Group, Guest, Host, Wire, make_group

SET = b"set k 0 0 1\r\n1\r\n"


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
        (mine, theirs): mine in (STARTING, JOINING) and theirs in (ALONE, COORDINATOR)
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

    def test_who_has_given_its_word_does_not_turn_to_another(self):
        # c lost a, which stood still, and b goes on by itself; c asks both, and b answers first.
        group = make_group("abc")
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
