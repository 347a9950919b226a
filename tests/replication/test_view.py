"""The view: what follows when a role changes, whom we may not answer without, and epochs.

Which roles may follow which is in test_roles; what must fit together in test_check.
"""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pymcd.replication.peer import Peer
from pymcd.replication.roles import ALONE, COORDINATOR, FOLLOWER, JOINING, STARTING, Role
from pymcd.replication.versions import TAG_BITS
from pymcd.replication.view import View

TAGS = st.integers(0, (1 << TAG_BITS) - 1)


def view_of(role: Role, *, leader: str = "", followers: str = "") -> View:
    """Return the view of "m"."""
    view = View("m", "semi")
    view.peers = {node_id: Peer(node_id) for node_id in "abc"}
    view.role = role
    view.leader = view.peers.get(leader)
    view.followers = [view.peers[node_id] for node_id in followers]
    return view


class TestBecome:
    #: Role before and after, leader, followers -> leader, coordinator and members afterwards.
    CASES = [
        (STARTING, ALONE, "", "", None, "m", ["m"]),
        (ALONE, COORDINATOR, "", "b", None, "m", ["m", "b"]),
        (COORDINATOR, COORDINATOR, "", "bc", None, "m", ["m", "b", "c"]),
        (COORDINATOR, ALONE, "", "", None, "m", ["m"]),
        (FOLLOWER, ALONE, "a", "", None, "m", ["m"]),
        (JOINING, ALONE, "a", "", None, "m", ["m"]),
        (FOLLOWER, JOINING, "b", "", "b", "b", ["m"]),
        (ALONE, JOINING, "a", "", "a", "a", ["m"]),
        (JOINING, FOLLOWER, "a", "", "a", "-", ["m"]),  # what the leader said is known already
    ]

    @pytest.mark.parametrize(
        ("before", "after", "leader", "followers", "leads", "coordinator", "members"), CASES
    )
    def test_who_decides_and_who_is_with_us(
        self, before, after, leader, followers, leads, coordinator, members
    ):
        view = view_of(before, leader=leader, followers=followers)
        view.become(after)
        assert (view.leader and view.leader.node_id) == leads
        assert view.coordinator == coordinator
        assert view.members == members

    def test_who_leaves_keeps_what_it_knew(self):
        view = view_of(COORDINATOR, followers="b")
        view.members = ["m", "b"]
        view.become(STARTING)
        assert view.members == ["m", "b"]


class TestPartners:
    """Those without whom we may not answer."""

    CASES = [
        (STARTING, "", "", ""),
        (STARTING, "a", "", ""),  # it accepted, and has not heard of the view
        (ALONE, "", "", ""),
        (COORDINATOR, "", "bc", "bc"),
        (FOLLOWER, "a", "", "a"),
        (JOINING, "a", "", "a"),
    ]

    @pytest.mark.parametrize(("role", "leader", "followers", "partners"), CASES)
    def test_by_what_we_are(self, role, leader, followers, partners):
        view = view_of(role, leader=leader, followers=followers)
        assert "".join(peer.node_id for peer in view.partners()) == partners


class TestEpochs:
    @given(st.integers(0, 1 << 50), TAGS, TAGS)
    def test_a_new_one_is_later_than_all_that_were_heard_of(self, heard, tag, other_tag):
        view = View("m", "semi")
        view.highest_epoch = heard
        first = view.next_epoch(tag)
        second = view.next_epoch(other_tag)
        assert heard < first < second == view.highest_epoch

    @given(st.integers(0, 1 << 50), TAGS, TAGS)
    def test_two_nodes_never_give_out_the_same(self, heard, tag, other_tag):
        one, other = View("m", "semi"), View("n", "semi")
        one.highest_epoch = other.highest_epoch = heard
        assert (one.next_epoch(tag) == other.next_epoch(other_tag)) == (tag == other_tag)


class TestAreAll:
    #: Which node each configured peer turned out to be, which are there, whether that may be all.
    CASES = [
        ({}, "", True),
        ({"x": None}, "", False),
        ({"x": ""}, "", True),  # ourselves
        ({"x": "b"}, "", False),
        ({"x": "b"}, "b", True),
        ({"x": "b"}, "c", False),
        ({"x": "b", "y": "c"}, "b", False),
        ({"x": "b", "y": "c"}, "bc", True),
        ({"x": None}, "b", True),  # it may have dialled us
        ({"x": "b", "y": None}, "b", False),
        ({"x": "b", "y": None}, "bc", True),
        ({"x": "b", "y": "b"}, "b", True),  # two addresses of one
    ]

    @pytest.mark.parametrize(("who", "there", "are_all"), CASES)
    def test_by_whom_the_configured_turned_out_to_be(self, who, there, are_all):
        view = View("a", "semi")
        view.who = {address: node_id for address, node_id in who.items() if node_id is not None}
        assert view.are_all(who, set(there)) == are_all
