"""What a node can be in its group, what follows from that, and how one role becomes another.

`TRANSITIONS` has all changes that there are, with their reasons; whoever tries another one has a
bug. A *stance* is what a role means to the connections of clients.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final


class Role(StrEnum):
    """What a node is; the values travel in STATUS and are shown by `stats replication`."""

    STARTING = "starting"  #: not ready: it may be that others have data
    ALONE = "alone"  #: serves by itself
    COORDINATOR = "coordinator"  #: of a view: decides
    FOLLOWER = "follower"  #: of a view: forwards
    JOINING = "joining"  #: was ready, and is to be brought in sync: forwards everything
    WAITING = "waiting"  #: was ready, and has not the votes to go on: answers with errors

    @property
    def leads(self) -> bool:
        """Whether changes are made here."""
        return self in _LEADING

    @property
    def in_sync(self) -> bool:
        """Whether some other node holds everything that we do."""
        return self in (Role.COORDINATOR, Role.FOLLOWER)


STARTING, ALONE, COORDINATOR, FOLLOWER, JOINING, WAITING = Role
_LEADING: Final = (ALONE, COORDINATOR)

#: (before, after) -> why. Also `leave`, which makes anything STARTING.
TRANSITIONS: Final[dict[tuple[Role, Role], str]] = {
    (STARTING, ALONE): "there is no other node with data",
    (STARTING, FOLLOWER): "brought in sync by a node that leads",
    (ALONE, COORDINATOR): "a peer is in sync",
    (ALONE, JOINING): "accepted what another node that leads proposed",
    (COORDINATOR, COORDINATOR): "a follower came, or one of several is lost",
    (COORDINATOR, ALONE): "the last follower is lost",
    (COORDINATOR, JOINING): "deposed, or accepted what the leader of a larger view proposed",
    (FOLLOWER, ALONE): "the coordinator is lost, and nobody is to go on in its place",
    (FOLLOWER, JOINING): "the coordinator is lost or went on without us; another one leads",
    (JOINING, FOLLOWER): "in sync again",
    (JOINING, ALONE): "nobody is left to join",
    (COORDINATOR, WAITING): "a follower is lost, and the votes do not suffice",
    (FOLLOWER, WAITING): "the coordinator is lost, and the votes do not suffice",
    (JOINING, WAITING): "nobody is left to join, and the votes do not suffice",
    (WAITING, ALONE): "the votes suffice",
    (WAITING, JOINING): "another one leads",
    **{(role, STARTING): "leaves" for role in Role},
}


class Data(StrEnum):
    """What a node has, in the eyes of one that has nothing. The values travel in HELLO."""

    NOTHING = "nothing"  #: it is starting
    NEW = "new"  #: what was written since it began, alone, with nothing
    KEPT = "kept"  #: it was in sync with another node, and has what both had

    @classmethod
    def read(cls, said: object) -> Data:
        """Return what somebody says; who does not say that he has nothing may have it all."""
        return next((each for each in cls if each == said), cls.KEPT)


@dataclass(slots=True)
class Stance:
    """What a role means to connections. One object for each node, which follows its role."""

    leading: bool = False  #: changes are made here
    remote: bool = False  #: nothing is answered from here: all is forwarded, or refused
    protecting: bool = False  #: replies wait for acknowledgement
    refusing: bool = False  #: nothing may be changed at all: nobody else would have it

    def follow(self, role: Role, ack_mode: str) -> Stance:
        """Be what a role means under `--replication-ack`."""
        self.leading = role.leads
        self.remote = role is JOINING or role is WAITING
        self.protecting = role is COORDINATOR and ack_mode != "async"
        self.refusing = role is WAITING or (role is ALONE and ack_mode == "strict")
        return self
