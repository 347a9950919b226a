"""What this node is, and who is in sync with it: written by `Node` and `Membership` alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .peer import HOSTED, Phase
from .roles import (
    ALONE,
    COORDINATOR,
    FOLLOWER,
    JOINING,
    STARTING,
    TRANSITIONS,
    WAITING,
    Data,
    Role,
    Stance,
)
from .versions import TAG_BITS

if TYPE_CHECKING:
    from collections.abc import Iterable

    from .peer import Peer


class View:
    """The group, as one node sees it."""

    def __init__(self, node_id: str, ack_mode: str) -> None:
        self.node_id = node_id
        self.ack_mode = ack_mode
        self.peers: dict[str, Peer] = {}  #: all that were met, in the view or not
        #: Which node a configured peer turned out to be; "": ourselves.
        self.who: dict[str, str] = {}
        self.role = STARTING
        self.data = Data.NOTHING
        self.stance = Stance().follow(STARTING, ack_mode)
        self.epoch = 0  #: of the view
        self.highest_epoch = 0  #: that was ever heard of
        self.leader: Peer | None = None
        self.followers: list[Peer] = []
        self.members: list[str] = [node_id]
        self.coordinator = "-"

    def become(self, role: Role) -> None:
        """Enter another role, if that may follow this one."""
        assert (self.role, role) in TRANSITIONS, f"{self.role} -> {role}"
        if role is STARTING:
            self.data = Data.NOTHING
        elif role.in_sync:
            self.data = Data.KEPT
        elif self.role is STARTING:
            self.data = Data.NEW
        self.role = role
        self.stance.follow(role, self.ack_mode)
        if role in (ALONE, COORDINATOR):
            self.leader = None
            self.coordinator = self.node_id
            self.members = [self.node_id, *(peer.node_id for peer in self.followers)]
        elif role is JOINING:
            self.coordinator = "-" if self.leader is None else self.leader.node_id
        elif role is WAITING:
            self.leader = None
            self.coordinator = "-"
            self.members = [self.node_id]

    def next_epoch(self, tag: int) -> int:
        """Return an epoch later than any known, which no other node gives out."""
        count = (self.highest_epoch >> TAG_BITS) + 1
        self.highest_epoch = count << TAG_BITS | tag
        return self.highest_epoch

    def partners(self) -> list[Peer]:
        """Return those without whom we may not answer."""
        if self.role is COORDINATOR:
            return self.followers
        if self.leader is not None and self.role in (FOLLOWER, JOINING):
            return [self.leader]
        return []

    def are_all(self, configured: Iterable[str], nodes: set[str]) -> bool:
        """Return whether each configured peer is one of these nodes, as far as can be known.

        One that we cannot dial may be one that has dialled us.
        """
        ids = [self.who.get(address) for address in configured]
        named = {node_id for node_id in ids if node_id}
        return named <= nodes and ids.count(None) <= len(nodes - named)

    def check(self) -> None:
        """Raise AssertionError unless role and view fit together. For tests."""
        role, leader, followers, stance = self.role, self.leader, self.followers, self.stance
        node_id = self.node_id
        leads = role is ALONE or role is COORDINATOR
        assert (self.data is Data.NOTHING) is (role is STARTING), "a node that starts has data"
        assert stance.leading is leads, "leading without the role"
        assert stance.remote is (role is JOINING or role is WAITING), "remote without the role"
        assert stance.protecting is (role is COORDINATOR and self.ack_mode != "async"), (
            "protecting without the role"
        )
        refusing = role is WAITING or (role is ALONE and self.ack_mode == "strict")
        assert stance.refusing is refusing, "refusing without the role"
        assert self.epoch <= self.highest_epoch, "an epoch that was never heard of"
        expected = 0
        if role is COORDINATOR:
            expected = len(followers)
            assert followers, "a coordinator without followers"
            assert self.members == [node_id, *[peer.node_id for peer in followers]], (
                "members are others than the coordinator and its followers"
            )
        else:
            assert not followers, "followers of no coordinator"
        if leads:
            assert leader is None, "a leader of who leads"
            assert self.coordinator == node_id, "coordinated by another, though we lead"
        elif role is FOLLOWER:
            expected = 1
            assert leader is not None, "a follower of nobody"
            assert leader.phase is Phase.LEADER, "a follower of who does not lead it"
            assert self.coordinator == leader.node_id, "coordinated by another than the leader"
            assert node_id in self.members, "a follower in no view"
        elif role is JOINING:
            assert leader is not None, "joining nobody"
        if role is ALONE or role is WAITING:
            assert self.members == [node_id], "alone with others"
        joined = False
        for peer in self.peers.values():
            peer.check()
            phase = peer.phase
            if not leads and peer.channel is not None:
                assert not joined, "in touch with two, though neither hears of the other"
                joined = True
            if peer.in_view:
                expected -= 1
                if phase is Phase.FOLLOWER:
                    assert peer in followers, "a follower that was not counted"
                else:
                    assert peer is leader, "led by another than the leader"
            elif phase is Phase.ACCEPTED:
                assert peer is leader, "another than the leader has our word"
            assert leads or phase not in HOSTED, "hosted by who does not lead"
        assert not expected, "others are in the view than should be"
