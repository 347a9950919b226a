"""Looks at the hosts while a run goes on: what must hold at every moment, not only at its end.

It looks from outside at all hosts at once, as none of them can. What holds within one node alone
is an assertion of its `check`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from pymcd.replication import gate, resync
from pymcd.replication.lease import SILENCE_S, STALE_S
from pymcd.replication.reasons import reason_of
from pymcd.replication.roles import FOLLOWER
from pymcd.replication.versions import TAG_MASK
from pymcd.store.item import STALE, WIN_SENT

from .checkers import END_TOLERANCE_S, differ, photograph
from .releases import TODAY

if TYPE_CHECKING:
    from pymcd.replication.peer import Peer

    from .world import Host, World

#: How often each host is looked at.
LOOK_S: Final = 0.01
#: How long one may say that it is in sync with another that is not, beside a silence and the time
#: that it then waits for votes.
MISTAKEN_S: Final = 1.0
#: Complaints of one kind in one run.
_ENOUGH: Final = 3


class Reach:
    """Who can say something to whom, and hear it in time, as time goes."""

    def __init__(
        self, world: World, hosts: list[Host], in_time_s: float, witness: Host | None = None
    ) -> None:
        """Who answers later than that is as if he were not there."""
        self._world = world
        self._hosts = hosts
        self._witness = witness
        self._others = hosts if witness is None else [*hosts, witness]
        self._in_time_s = in_time_s
        self.moments: list[float] = []
        #: By host, which others it reaches from that moment on.
        self.states: list[dict[str, frozenset[str]]] = []

    def look(self) -> None:
        """Begin to look again and again."""
        links = {
            frozenset(end.host.name for end in wire.ends)
            for wire in self._world.wires
            if not wire.dead
            and wire.late_s < self._in_time_s
            and all(not end.gone and end.link and end.link.proven for end in wire.ends)
        }
        state = {
            host.name: frozenset(
                other.name for other in self._others if self._is_reached(host, other, links)
            )
            for host in self._hosts
        }
        if not self.states or state != self.states[-1]:
            self.moments.append(self._world.now)
            self.states.append(state)
        self._world.after(LOOK_S / 2, self.look)

    def _is_reached(self, host: Host, other: Host, links: set[frozenset[str]]) -> bool:
        names = host.name, other.name
        return (
            frozenset(names) in links
            and host is not other
            and not any(each.frozen or not each.alive for each in (host, other))
            and not self._world.blocked(*names)
            and not self._world.blocked(*names[::-1])
            and self._has_vote(other)
        )

    def _has_vote(self, other: Host) -> bool:
        if other is self._witness or other.node.role != "starting":
            return True
        # Who starts is another than the one that had a vote; who leaves is the same.
        return self._witness is not None and any(
            each.life == other.life and each.role not in ("starting", "dead")
            for each in other.history
        )


class Watch:
    """What is seen of the hosts of one run."""

    def __init__(
        self, world: World, hosts: list[Host], checks: set[str], most_at_once_bytes: int
    ) -> None:
        self._world = world
        self._hosts = hosts
        self._checks = checks
        self._most_at_once_bytes = most_at_once_bytes
        self._looked_at: dict[Host, float] = {}
        #: By host, its life when it was looked at last, when it had last stood still by then, and
        #: since when it was mistaken about whom.
        self._mistaken: dict[Host, tuple[int, float, dict[str, float]]] = {}
        #: Life, role and epoch when a host was looked at, and its last flush.
        self._flushed: dict[Host, tuple[tuple[int, str, int], int]] = {}
        self._flushes: set[int] = set()  #: by version, all that any host was seen with
        self._complaints: dict[str, int] = {}

    def look(self, host: Host, found: list[str]) -> None:
        """Look at a host, after a turn of it."""
        now = self._world.now
        if now - self._looked_at.get(host, -1.0) < LOOK_S:
            return
        self._looked_at[host] = now
        said = []
        if "bounds" in self._checks:
            said += self._bounds(host)
        for other in self._hosts:
            if other is host or not other.alive or other.service is None:
                continue
            if "equality" in self._checks or "statistics" in self._checks:
                said += self._together(host, other)
        if "followers" in self._checks:
            said += self._follows(host)
        if "statistics" in self._checks:
            said += self._statistics(host)
        if "reasons" in self._checks and host.release is TODAY:
            said += self._reasons(host)
        for kind, line in said:
            self._complaints[kind] = self._complaints.get(kind, 0) + 1
            if self._complaints[kind] <= _ENOUGH:
                found.append(f"{now:.6f}: {host.name}: {kind}: {line}")

    def _follows(self, host: Host) -> list[tuple[str, str]]:
        """See whether a follower has flushed by itself: by a version that it gave out.

        Its former life may have, and another one has heard of that, and tells it.
        """
        view, changes = host.node.view, host.node.changes
        now = host.life, view.role.name, view.epoch
        before, barrier = self._flushed.get(host, (now, changes.barrier))
        self._flushed[host] = now, changes.barrier
        is_known = changes.barrier in self._flushes
        self._flushes.add(changes.barrier)
        if (
            now != before
            or view.role is not FOLLOWER
            or is_known
            or changes.barrier == barrier
            or changes.barrier & TAG_MASK != changes.tag
        ):
            return []
        return [("flushes, though another one decides", f"{changes.barrier}")]

    def _together(self, host: Host, other: Host) -> list[tuple[str, str]]:
        """See whether two that have no more to say to each other hold the same."""
        mine_of, theirs_of = (
            host.node.view.peers.get(other.name),
            other.node.view.peers.get(host.name),
        )
        if (
            not _one(mine_of, theirs_of)
            or host.node.gate.changes.pending
            or other.node.gate.changes.pending
        ):
            return []
        said = []
        if "equality" in self._checks and (keys := _unlike(host, other)):
            mine, theirs = photograph(host, mortal=True), photograph(other, mortal=True)
            evicted = host.evicted | other.evicted
            for key in sorted(keys):
                here, there = mine.get(key), theirs.get(key)
                if here is None or there is None:
                    ends_in_s = (here or there or (0, 0, 0))[2]
                    assert isinstance(ends_in_s, (int, float))
                    if (ends_in_s and ends_in_s <= END_TOLERANCE_S) or key in evicted:
                        continue
                if differ(here, there, END_TOLERANCE_S):
                    line = f"{key.decode()}: {host.name} has {here}, {other.name} has {there}"
                    said.append(("in sync, nothing unacknowledged, not the same", line))
        if "statistics" in self._checks:
            for each, its_peer in ((host, other), (other, host)):
                peer = each.node.view.peers[its_peer.name]
                if peer.acked_sequence == each.node.changes.sequence:
                    continue  # the row says 0: it takes time to make them all
                rows = dict(each.node.rows())
                number = sorted(each.node.view.peers).index(its_peer.name)
                if lag := rows[f"peer_{number}:lag_items"]:
                    said.append(("behind, though nothing is unacknowledged", f"{each.name}: {lag}"))
        return said

    def _reasons(self, host: Host) -> list[tuple[str, str]]:
        """See whether a node in sync says that it is, and no other, in one line."""
        reason = reason_of(host.node)
        says_so = reason.startswith("in sync")
        if says_so == host.node.standing.in_sync and len(reason.splitlines()) == 1:
            return []
        return [("the wrong reason", f"{reason!r} as {host.node.standing}")]

    def _bounds(self, host: Host) -> list[tuple[str, str]]:
        """See whether what a node keeps is as much as it may be."""
        node = host.node
        changes, settings = node.changes, host.settings
        sizes = {
            "log": (changes.log.size_bytes, changes.log.limit_bytes),
            "tombstones": (
                changes.tombstones.size_bytes,
                changes.tombstones.limit_bytes if len(changes.tombstones) > 1 else 1e9,
            ),
        }
        under_way = gate.QUEUE_BYTES + resync.WINDOW_BYTES + 2 * self._most_at_once_bytes
        for name, peer in node.view.peers.items():
            sizes[f"behind of {name}"] = len(peer.resync.behind), settings.replication_queue
            if peer.channel is not None:
                sizes[f"under way to {name}"] = peer.channel.unacked_bytes, under_way
        return [
            ("beyond its bound", f"{name}: {size} of {most}")
            for name, (size, most) in sizes.items()
            if size > most
        ]

    def _statistics(self, host: Host) -> list[tuple[str, str]]:
        """See whether a node is in sync with those of which it says so."""
        node = host.node
        said = []
        degraded = node.ready and node.role in ("alone", "joining", "waiting")
        if not host.settings.peers:
            degraded = False  # it is meant to be alone, for all that it was told
        if (node.degradation.since is not None) != degraded:
            said.append(("degraded", f"{dict(node.rows())['degraded']} as {node.role}"))
        life, thawed_at, before = self._mistaken.get(host, (host.life, host.thawed_at, {}))
        stood_still = host.thawed_at != thawed_at and host.thawed_at - host.froze_at >= STALE_S
        if life != host.life or stood_still:
            before = {}  # what was silent until then may just not have been heard
        mistaken: dict[str, float] = {}
        patience_s = max(each.settings.replication_ack_timeout_s for each in self._hosts)
        silence_s = max(SILENCE_S, patience_s)
        # Nodes of the last release do not know that they were left behind.
        standing = getattr(node, "standing", node.role)
        for name, peer in node.view.peers.items() if standing.in_sync else ():
            other = self._world.hosts[name]
            is_so = (
                other.alive
                and (back := other.node.view.peers.get(host.name)) is not None
                and back.in_view
            )
            if not peer.in_view or is_so or other.frozen:
                continue
            now = host.waking_s
            mistaken[name] = before.get(name, now)
            if now - mistaken[name] > silence_s + host.settings.quorum_timeout_s + MISTAKEN_S:
                said.append(("in sync by its own account alone", f"with {name}"))
        self._mistaken[host] = host.life, host.thawed_at, mistaken
        return said


def _unlike(host: Host, other: Host) -> list[bytes]:
    """Return the keys that are worth a closer look: most of the time there are none.

    What two hosts hold is compared again and again, so this is to take little time.
    """
    assert host.service is not None
    assert other.service is not None
    mine, theirs = host.service.cache, other.service.cache
    is_mine_dead, is_theirs_dead = mine.is_dead, theirs.is_dead
    later_s = host.seconds_left(0) - other.seconds_left(0)  # an end that is written the same
    mine_of = {item.key: item for item in mine.items()}
    keys = []
    for there in theirs.items():
        key = there.key
        here = mine_of.pop(key, None)
        if here is not None:
            ends, there_ends = here.expires_at, there.expires_at
            if (
                here.value == there.value
                and here.client_flags == there.client_flags
                and here.cas_unique == there.cas_unique
                and not (here.access ^ there.access) & (STALE | WIN_SENT)
                and (
                    abs(ends - there_ends + later_s) < END_TOLERANCE_S / 2
                    if ends and there_ends
                    else ends == there_ends
                )
                and is_mine_dead(here) == is_theirs_dead(there)
            ):
                continue
        keys.append(key)
    return [*keys, *mine_of]


def _one(mine: Peer | None, theirs: Peer | None) -> bool:
    """Return whether two peers of each other are in sync, with nothing under way between them."""
    if mine is None or theirs is None or mine.channel is None or theirs.channel is None:
        return False
    return (
        mine.in_view
        and theirs.in_view
        and mine.channel.epoch == theirs.channel.epoch
        and not any(
            peer.channel.unacked or peer.resync.under_way or peer.link is None
            for peer in (mine, theirs)
            if peer.channel is not None
        )
    )
