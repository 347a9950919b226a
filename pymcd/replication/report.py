"""The rows of `stats replication`: what a node knows of itself and of its peers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from .. import __version__
from .roles import ALONE, FOLLOWER
from .versions import TAG_BITS

if TYPE_CHECKING:
    from ..clock import Clock
    from .changes import Changes
    from .gate import Gate, Rows
    from .lease import Patience
    from .peer import Peer
    from .roles import Role
    from .view import View


@dataclass
class Counts:
    """What is counted of links and messages; each is a row."""

    stale_frames: int = 0
    full_resyncs: int = 0
    partial_resyncs: int = 0
    reconnects: int = 0
    authentication_failures: int = 0
    handshake_failures: int = 0
    last_refusal: str = "-"


class Degradation:
    """How long, and how often, clients were served unprotected."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.since: float | None = None
        self.count = 0
        self._ended_s = 0.0

    def note(self, degraded: bool) -> bool:
        """Take note of how it is now; return whether that has changed."""
        if degraded == (self.since is not None):
            return False
        self._ended_s = self.total_s
        self.since = self._clock.monotonic() if degraded else None
        return True

    @property
    def now_s(self) -> float:
        """For how long now; 0: not now."""
        return 0.0 if self.since is None else self._clock.monotonic() - self.since

    @property
    def total_s(self) -> float:
        return self._ended_s + self.now_s


def group_rows(
    view: View,
    gate: Gate,
    changes: Changes,
    counts: Counts,
    degradation: Degradation,
    patience: Patience,
    *,
    ready: bool,
    draining: bool,
    votes: Rows,
    role: Role,
) -> Rows:
    """Return what there is to say of a node, names and values without blanks.

    `role`: what it is to others.
    """
    peers = view.peers.values()
    channels = [peer.channel for peer in peers if peer.channel is not None]
    rows: Rows = [
        ("state", "in_sync" if role.in_sync else role),
        ("role", role if role.in_sync or role is ALONE else "none"),
        ("node_id", view.node_id),
        ("pymcd_version", __version__),
        ("epoch", view.epoch >> TAG_BITS),
        ("coordinator", view.coordinator),
        ("ready", _yes(ready)),
        ("draining", _yes(draining)),
        ("ack_mode", view.ack_mode),
        ("ack_timeout_ms", round(patience.ack_timeout_s * 1000)),
        ("degraded", _yes(degradation.since is not None)),
        ("degraded_count", degradation.count),
        ("degraded_seconds", round(degradation.total_s, 3)),
        ("unprotected_writes", gate.unprotected_writes),
        ("degraded_now_seconds", round(degradation.now_s, 3)),
        ("unprotected_now", gate.unprotected_now),
        ("memory_limit", changes.cache.slabs.limit_bytes),
        ("evictions", sum(each.evicted for each in changes.cache.slabs)),
        ("sequence", changes.sequence),
        ("queue_items", sum(len(peer.resync.behind) for peer in peers)),
        ("queue_bytes", sum(channel.unacked_bytes for channel in channels)),
        ("backlog_items", len(changes.log)),
        ("backlog_bytes", changes.log.size_bytes + changes.tombstones.size_bytes),
        ("tombstones", len(changes.tombstones)),
        ("conflicts", changes.conflicts),
        ("clock_steps", changes.version_clock.steps),
        ("stale_frames", counts.stale_frames),
        ("forwards_sent", gate.forwards_sent),
        ("forwards_executed", gate.forwards_executed),
        ("full_resyncs", counts.full_resyncs),
        ("partial_resyncs", counts.partial_resyncs),
        ("reconnects", counts.reconnects),
        ("authentication_failures", counts.authentication_failures),
        ("handshake_failures", counts.handshake_failures),
        ("last_refusal", counts.last_refusal),
    ]
    rows += votes
    for number, peer in enumerate(sorted(peers, key=lambda peer: peer.node_id)):
        # Who follows is told of what others lack by nobody: it is for who decides to say.
        is_ahead = role is FOLLOWER and (peer.in_view or peer.node_id in view.members)
        # Nor is anybody in sync with one that others may have gone on without, for all it knows.
        in_sync = peer.in_view and role.in_sync
        peer_rows = _peer_rows(peer, changes, gate.clock, in_sync=in_sync, is_ahead=is_ahead)
        rows += [(f"peer_{number}:{name}", value) for name, value in peer_rows]
    return rows


def _peer_rows(
    peer: Peer, changes: Changes, clock: Clock, *, in_sync: bool, is_ahead: bool
) -> Rows:
    """`is_ahead`: it has what we have, or as much."""
    now = clock.monotonic()
    channel = peer.channel
    unacked = channel.unacked if channel is not None else ()
    lag_s = now - unacked[0].sent_at if unacked else 0.0
    acked_sequence = max(peer.acked_sequence, 0)
    return [
        ("node_id", peer.node_id),
        ("pymcd_version", "-" if peer.hello is None else peer.hello.release),
        ("protocol_version", peer.version),
        ("differs", ",".join(peer.differs) or "-"),
        ("address", peer.address),
        ("link", "up" if peer.link is not None else "down"),
        ("in_sync", _yes(in_sync)),
        ("state", "down" if peer.link is None else peer.resync.mode),
        ("copied_items", peer.resync.keys_sent if peer.resync.under_way else 0),
        ("copied_of", peer.resync.keys_total if peer.resync.under_way else 0),
        ("copies_broken", peer.copies_broken),
        ("answer_ms", round(peer.answer_s * 1000, 3)),
        ("memory_limit", 0 if peer.hello is None else peer.hello.memory_limit),
        ("acked_sequence", acked_sequence),
        ("lag_items", 0 if is_ahead else changes.sequence - acked_sequence),
        ("lag_ms", round(lag_s * 1000, 3)),
        ("unacked_bytes", 0 if channel is None else channel.unacked_bytes),
        ("clock_skew_ms", round(peer.clock_skew_s(clock) * 1000)),
        ("last_heard_ms", round((now - peer.lease.heard_at) * 1000)),
        ("last_error", peer.last_error.replace(" ", "_")),
    ]


def _yes(value: bool) -> str:
    return "yes" if value else "no"
