"""When a node that has nothing may begin to serve: not while others have what it lacks.

It serves when it is in sync with somebody who has data, at once when all configured peers are just
starting, too, and have said so within `FRESH_S`, and after `--sync-timeout` when nobody was found.
While it stands still itself it finds nobody, so that time does not count; nor does what was before,
if it stood still for so long that others have given it up. Whoever was *heard* to have data,
in this life of ours, is found: without it the node does not serve before a person decides, by
`--force-empty`, however long that peer is silent, and whatever has been copied of it. Else clients
would be led to an empty node while all that they seek is there: the peer refuses us, or its link
broke in the middle of a copy. It does not hold us back any more when it comes again with nothing.

Hearsay. A peer that refuses us, or that we refuse, has not proven who it is: what it says of its
data may be a lie, as may be its silence. It counts if it answered where a configured peer is to be
found, as nobody else can have us wait: a stranger who calls says what he likes. Who can answer in
the place of a peer could as well swallow what we say to it; what he wins by his lie is that a
node which is empty stays closed, and says why each minute. A lie that there is no data wins as much
as silence does: we serve after `--sync-timeout`. What a peer said that has proven itself stands
above both, be it in its HELLO alone.

Two that both began with nothing, and refuse each other, both serve after `--sync-timeout`. The one
whose time is up first has no more than what clients gave it while the other one waited: `NEW` data
of a peer that was heard to have nothing does not count.
"""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING, Final, NamedTuple

from .lease import SILENCE_S
from .roles import JOINING, STARTING, WAITING, Data

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .peer import Peer
    from .view import View

#: Who stood still has not heard yet what others had to say meanwhile; nor has who lost a link.
LISTEN_S: Final = 1.0
#: Who just starts, or so he said, has perhaps begun since.
FRESH_S: Final = 0.5


class Hearsay(NamedTuple):
    """What somebody said who answered for a configured peer, and has not proven to be one."""

    data: Data
    incarnation: str
    why: str  #: there is no link


class Beginning:
    """What keeps a node that has nothing from serving."""

    def __init__(
        self,
        view: View,
        configured: Sequence[str],
        *,
        sync_timeout_s: float,
        force_empty: bool,
    ) -> None:
        self._view = view
        self._configured = configured
        self._sync_timeout_s = sync_timeout_s
        self._force_empty = force_empty
        self._hearsay: dict[str, Hearsay] = {}  #: by address
        self.started_at = -inf

    def stood_still(self, now: float, late_s: float) -> None:
        """Take note that this node was not there for so long, until now."""
        if late_s >= SILENCE_S:
            self.started_at = now
        else:
            self.started_at = min(self.started_at + late_s, now)

    def heard(self, address: str, hearsay: Hearsay) -> None:
        """Take note of what was said by who answered for a configured peer, but did not link.

        A witness has no data, whatever it says.
        """
        if address not in self._configured:
            return
        before = self._hearsay.get(address)
        if (
            hearsay.data is Data.NEW
            and before is not None
            and before.data is Data.NOTHING
            and before.incarnation == hearsay.incarnation
        ):
            hearsay = hearsay._replace(data=Data.NOTHING)
        self._hearsay[address] = hearsay

    def linked(self, address: str) -> None:
        """Take note that a configured peer has proven itself: it speaks for itself."""
        self._hearsay.pop(address, None)

    def all_begin(self) -> bool:
        """Return whether all configured peers are just starting, and we are the one to lead."""
        view = self._view
        for address in self._configured:
            node_id = view.who.get(address)
            if node_id is None:
                return False
            if node_id:
                peer = view.peers[node_id]
                if peer.link is None or peer.status is None or peer.status.role is not STARTING:
                    return False
                if peer.node_id < view.node_id:
                    return False
        return True

    def is_overdue(self, now: float, since: float, woke_at: float) -> bool:
        """Return whether nobody who has more was there for `--sync-timeout`, nor since then."""
        peers = self._view.peers.values()
        # A peer that has more but does not lead will, soon; one just linked will tell.
        busy = any(
            peer.link is not None
            and (peer.channel is not None or peer.status is None or self._has_more(peer))
            for peer in peers
        )
        # Who was there a moment ago, with more, is likely to come again.
        alone_since = max([since, *(peer.lease.heard_at for peer in peers if self._has_more(peer))])
        overdue = now - alone_since >= self._sync_timeout_s and not busy
        starts_alone = self._view.role is STARTING and not self._configured
        return (overdue and now - woke_at >= LISTEN_S) or starts_alone

    def somebody_has_more(self) -> bool:
        """Return whether a peer that is linked has data that we lack."""
        return any(peer.link and self._has_more(peer) for peer in self._view.peers.values())

    def _has_more(self, peer: Peer) -> bool:
        """Return whether a peer has data, and is not left behind like us."""
        status, mine = peer.status, self._view.role
        if status is None:
            # So far it has said what it has, and not what it is: perhaps it was left behind.
            hello = peer.hello
            return mine is STARTING and hello is not None and hello.data is not Data.NOTHING
        if status.role is STARTING:
            return False
        # Of one that waits and one that joins it is the one that waits that goes on.
        return not (
            mine is status.role is JOINING
            or (mine is WAITING and status.role in (JOINING, WAITING))
        )

    def whose_data(self) -> str:
        """Return in words who has the data without which we do not serve; "": nobody."""
        if self._force_empty or not self._configured:
            return ""
        # Who was left behind has a little less than the others had: of those that it only lost, it
        # is as good as any.
        lost = self._view.peers.values() if self._view.role is STARTING else ()
        for peer in lost:
            if self._has_more(peer) and self._may_be_configured(peer):
                return f"{peer.node_id} has data, and there is no link to it"
        for address, hearsay in self._hearsay.items():
            if hearsay.data is not Data.NOTHING:
                return f"{address} has data, and there is no link to it: {hearsay.why}"
        return ""

    def _may_be_configured(self, peer: Peer) -> bool:
        """Return whether that is the node at a configured address; not so if another one is now."""
        who = self._view.who
        return peer.node_id in who.values() or any(each not in who for each in self._configured)
