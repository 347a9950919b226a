"""What this node is, and who is in sync with it: written by `Node` and `Membership` alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .roles import ALONE, COORDINATOR, FOLLOWER, JOINING, STARTING, TRANSITIONS, Role, Stance
from .versions import TAG_BITS

if TYPE_CHECKING:
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
        self.role = role
        self.stance.follow(role, self.ack_mode)
        if role in (ALONE, COORDINATOR):
            self.leader = None
            self.coordinator = self.node_id
            self.members = [self.node_id, *(peer.node_id for peer in self.followers)]
        elif role is JOINING:
            self.coordinator = "-" if self.leader is None else self.leader.node_id

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

    def check(self) -> None:
        """Raise AssertionError unless role and view fit together. For tests."""
        role, leader, followers = self.role, self.leader, self.followers
        in_view = [peer for peer in self.peers.values() if peer.in_view]
        assert self.stance == Stance().follow(role, self.ack_mode)
        assert (role is COORDINATOR) == bool(followers), (role, followers)
        assert role is not FOLLOWER or (leader is not None and leader.in_view)
        assert role is not ALONE or (leader is None and not in_view)
        assert role is not COORDINATOR or leader is None
        assert role is not JOINING or leader is not None
        assert role is COORDINATOR or len(in_view) <= 1, in_view
        assert set(followers) <= set(in_view)
        if role is COORDINATOR:
            assert len(followers) == len(in_view)
            assert self.members == [self.node_id, *(peer.node_id for peer in followers)]
        assert role is not FOLLOWER or self.node_id in self.members
        assert self.epoch <= self.highest_epoch
        assert all(peer.node_id == node_id for node_id, peer in self.peers.items())
        for peer in self.peers.values():
            peer.check()
