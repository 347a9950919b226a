"""Why clients may come to a node, or may not: in words, for a person who asks.

One line for each role, without names of keys or secrets. It says for whom the node waits by the
address that was configured, as that is what a person can look after.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from .roles import ALONE, COORDINATOR, FOLLOWER, JOINING, STARTING, WAITING, Role

if TYPE_CHECKING:
    from collections.abc import Callable

    from .node import Node


def reason_of(node: Node) -> str:
    """Return why a node serves clients, or what it waits for."""
    return _REASONS[node.standing](node)


def _starting(node: Node) -> str:
    withheld = node.withheld
    if withheld:
        return withheld
    copying = next((peer for peer in node.view.peers.values() if peer.channel is not None), None)
    if copying is not None:
        return f"copying from {copying.node_id}: {node.cache.item_count} items so far"
    missing = _missing(node)
    if node.voting.seeking and missing:
        return f"each node must consent that could have data, and not all are there: {missing}"
    if missing:
        return f"waiting for {missing}"
    return "finding out who has data"


def _alone(node: Node) -> str:
    reason = "there is no other node with data"
    if node.configured:
        reason = f"no other node is in sync; waiting for {_missing(node) or 'it to catch up'}"
    return f"{reason}; nothing can be written" if node.view.stance.refusing else reason


def _coordinator(node: Node) -> str:
    others = ", ".join(peer.node_id for peer in node.view.followers)
    return f"in sync with {others}; this node coordinates"


def _follower(node: Node) -> str:
    return f"in sync; {node.view.coordinator} coordinates"


def _joining(node: Node) -> str:
    withheld, leader = node.withheld, node.view.leader
    if withheld:
        return withheld
    if leader is None or node.is_behind:
        return f"it was left behind; waiting for {_missing(node) or 'the others'}"
    if leader.channel is None:
        return f"others went on without it; waiting for {leader.node_id}"
    return f"others went on without it; catching up with {leader.node_id}"


def _waiting(node: Node) -> str:
    missing = _missing(node)
    votes = "most votes of the last view are not to be had"
    return f"{votes}; waiting for {missing}" if missing else votes


_REASONS: Final[dict[Role, Callable[[Node], str]]] = {
    STARTING: _starting,
    ALONE: _alone,
    COORDINATOR: _coordinator,
    FOLLOWER: _follower,
    JOINING: _joining,
    WAITING: _waiting,
}
assert _REASONS.keys() == set(Role), "a role without a reason"


def _missing(node: Node) -> str:
    """Return whom we are not linked to though we should be, as they were configured."""
    view, register = node.view, node.voting.register
    linked = {peer.node_id for peer in view.peers.values() if peer.link is not None}
    names = []
    if not view.are_all(node.configured, linked):
        names = [each for each in node.configured if view.who.get(each) not in ("", *linked)]
    if register is not None and not register.linked:
        names.append(f"the witness ({register.trouble})" if register.trouble else "the witness")
    return ", ".join(names)
