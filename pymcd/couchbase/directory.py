"""What one node knows of the others, as the map of a bucket.

Owns the answer to "who serves the bucket now?", which follows from the node's role. Nobody is in
the map who is not in sync, or has not said that clients may come (`Node.announce_welcome`).

While a follower has lost its link to the coordinator, and neither has been given up nor come back,
it names itself: if the other has died, clients that ask here meanwhile wait for a moment, instead
of talking to the dead; if it has not, they are forwarded. So it does when the coordinator says that
clients may come no more, which is a moment before it leaves.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..replication.roles import ALONE, COORDINATOR, FOLLOWER, JOINING
from .documents import Site, View

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from ..replication.node import Node
    from ..replication.peer import Peer


class Directory:
    """Where this node and its peers are, and what that makes of the node's role."""

    def __init__(self, here: Site, peers: Mapping[str, Site], node: Node | None = None) -> None:
        """`peers`: by the address that the node dials. `node`: None where there is no group."""
        self.here = here
        self._peers = dict(peers)
        self._node = node
        # The same order on every node, so that no map differs by that alone.
        self._sites = tuple(sorted({here, *peers.values()}))

    def view(self) -> View | None:
        """Return what clients are to know; None: not to be served here."""
        here, node = self.here, self._node
        if node is None or node.role == ALONE:
            return self._view(here)
        if node.role == COORDINATOR:
            return self._view(here, *self._followers(node.followers))
        if node.role not in (FOLLOWER, JOINING):
            return None
        leader = node.leader
        master = None if leader is None else self._site(leader)
        if leader is None or master is None:
            return self._view(here)
        if node.role == JOINING:
            return self._view(master)
        others = [peer for peer in node.peers.values() if peer.node_id in node.members]
        followers = sorted([here, *self._followers(peer for peer in others if peer is not leader)])
        if leader.link is None or not leader.status.get("welcoming"):
            followers.remove(here)
            return self._view(here, *followers, master)._replace(herald=here)
        return self._view(master, *followers)

    def _view(self, master: Site, *replicas: Site) -> View:
        return View(master, replicas, (*replicas, master)[0], self._sites)

    def _followers(self, peers: Iterable[Peer]) -> list[Site]:
        """Return where those are that are in sync, and have said that clients may come.

        Who has lost the link is perhaps dead, and clients must not be sent there to hear of it.
        """
        return sorted(
            site
            for peer in peers
            if peer.status.get("role") == FOLLOWER
            and peer.status.get("welcoming")
            and peer.link is not None
            and (site := self._site(peer)) is not None
        )

    def _site(self, peer: Peer) -> Site | None:
        """Return where clients reach a peer; None: nobody has said."""
        assert self._node is not None
        for address, node_id in self._node.who.items():
            if node_id == peer.node_id and address in self._peers:
                return self._peers[address]
        # Of two nodes it is clear who is meant, though only the other one may have dialled.
        return next(iter(self._peers.values())) if len(self._peers) == 1 else None
