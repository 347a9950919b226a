"""Whether clients may come to this server, and why: asked by load balancers and service managers.

One table of states, from which follow the answers of `/readyz`, and what a service manager or a
person at a terminal is told. A state says what the server is to somebody who has clients to send,
not what it is to its peers (`replication.roles` has that). What `stats replication` calls ready is
another question: whether clients were ever let in.
"""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Final, NamedTuple

from .replication.reasons import reason_of
from .replication.roles import ALONE, COORDINATOR, FOLLOWER, JOINING, STARTING, WAITING, Role

if TYPE_CHECKING:
    from .replication.node import Node


class State(StrEnum):
    """What a server is to who sends it clients."""

    SINGLE = "single"
    ALONE = "alone"
    READ_ONLY = "read_only"
    IN_SYNC = "in_sync"
    STARTING = "starting"
    JOINING = "joining"
    REFUSED = "refused"
    NO_MAJORITY = "no_majority"
    DRAINING = "draining"


#: State -> whether clients may come, and when a server is in it.
STATES: Final[dict[State, tuple[bool, str]]] = {
    State.SINGLE: (True, "it has no peers"),
    State.ALONE: (True, "no peer is in sync, and it serves what it has"),
    State.READ_ONLY: (True, "no peer is in sync, and all writes are refused, as it is `strict`"),
    State.IN_SYNC: (True, "a peer has all that it has"),
    State.STARTING: (False, "it has nothing yet: it looks for its peers, or copies from one"),
    State.JOINING: (False, "others went on without it, and it has yet to catch up"),
    State.REFUSED: (False, "a peer has data, and there is no link to it: one refuses the other"),
    State.NO_MAJORITY: (False, "it has not the votes to go on"),
    State.DRAINING: (False, "it was told to stop"),
}
assert STATES.keys() == set(State), "a state without a meaning"

_OF_ROLE: Final[dict[Role, State]] = {
    STARTING: State.STARTING,
    ALONE: State.ALONE,
    COORDINATOR: State.IN_SYNC,
    FOLLOWER: State.IN_SYNC,
    JOINING: State.JOINING,
    WAITING: State.NO_MAJORITY,
}
assert _OF_ROLE.keys() == set(Role), "a role without a state"


class Readiness(NamedTuple):
    """Whether clients may come, and why in one line."""

    ready: bool
    state: State
    reason: str


def readiness_of(node: Node | None, *, draining: bool) -> Readiness:
    """Return whether clients may come to a server; `node`: None without peers."""
    if draining:
        return _readiness(State.DRAINING, "it is about to stop")
    if node is None:
        return _readiness(State.SINGLE, "there are no peers")
    state = _OF_ROLE[node.standing]
    if node.withheld:
        state = State.REFUSED
    elif state is State.ALONE and node.view.stance.refusing:
        state = State.READ_ONLY
    return _readiness(state, reason_of(node))


def _readiness(state: State, reason: str) -> Readiness:
    return Readiness(STATES[state][0], state, reason)
