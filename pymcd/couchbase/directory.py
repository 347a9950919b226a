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

    from ..replication.peer import Peer
    from ..replication.view import View as GroupView


class Directory:
    """Where this node and its peers are, and what that makes of the node's role."""

    def __init__(
        self, here: Site, peers: Mapping[str, Site], group: GroupView | None = None
    ) -> None:
        """`peers`: by the address that the node dials. `group`: None where there is none."""
        self.here = here
        self._peers = dict(peers)
        self._group = group
        # The same order on every node, so that no map differs by that alone.
        self._sites = tuple(sorted({here, *peers.values()}))

    def view(self) -> View | None:
        """Return what clients are to know; None: not to be served here."""
        here, group = self.here, self._group
        if group is None or group.role is ALONE:
            return self._view(here)
        if group.role is COORDINATOR:
            return self._view(here, *self._followers(group.followers))
        if group.role not in (FOLLOWER, JOINING):
            return None
        leader = group.leader
        master = None if leader is None else self._site(leader)
        if leader is None or master is None:
            return self._view(here)
        if group.role is JOINING:
            return self._view(master)
        others = [peer for peer in group.peers.values() if peer.node_id in group.members]
        followers = sorted([here, *self._followers(peer for peer in others if peer is not leader)])
        if leader.link is None or leader.status is None or not leader.status.welcoming:
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
            if peer.status is not None
            and peer.status.role is FOLLOWER
            and peer.status.welcoming
            and peer.link is not None
            and (site := self._site(peer)) is not None
        )

    def _site(self, peer: Peer) -> Site | None:
        """Return where clients reach a peer; None: nobody has said."""
        assert self._group is not None
        for address, node_id in self._group.who.items():
            if node_id == peer.node_id and address in self._peers:
                return self._peers[address]
        # Of two nodes it is clear who is meant, though only the other one may have dialled.
        return next(iter(self._peers.values())) if len(self._peers) == 1 else None
