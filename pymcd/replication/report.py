"""The rows of `stats replication`: what a node knows of itself and of its peers."""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING

from .versions import TAG_BITS

if TYPE_CHECKING:
    from .node import Node
    from .peer import Peer

Rows = list[tuple[str, "str | int | float"]]


def _yes(value: bool) -> str:
    return "yes" if value else "no"


def node_rows(node: Node) -> Rows:
    """Return what there is to say of a node, names and values without blanks."""
    changes = node.changes
    peers = node.peers.values()
    channels = [peer.channel for peer in peers if peer.channel is not None]
    rows: Rows = [
        ("state", "in_sync" if node.in_sync else node.role),
        ("role", node.role if node.in_sync else "alone" if node.role == "alone" else "none"),
        ("node_id", node.node_id),
        ("epoch", node.epoch >> TAG_BITS),
        ("coordinator", node.coordinator),
        ("ready", _yes(node.ready)),
        ("ack_mode", node.ack_mode),
        ("ack_timeout_ms", round(node.ack_timeout_s * 1000)),
        ("degraded", _yes(node.degraded_since is not None)),
        ("degraded_count", node.degraded_count),
        ("degraded_seconds", round(node.degraded_s, 3)),
        ("unprotected_writes", node.gate.unprotected_writes),
        ("degraded_now_seconds", round(node.degraded_now_s, 3)),
        ("unprotected_now", node.gate.unprotected_now),
        ("sequence", changes.sequence),
        ("queue_items", sum(len(peer.behind) for peer in peers)),
        ("queue_bytes", sum(channel.unacked_bytes for channel in channels)),
        ("backlog_items", len(changes.log)),
        ("backlog_bytes", changes.log_bytes + changes.tombstones.size_bytes),
        ("tombstones", len(changes.tombstones)),
        ("conflicts", changes.conflicts),
        ("stale_frames", node.membership.stale_frames),
        ("forwards_sent", node.gate.forwards_sent),
        ("forwards_executed", node.gate.forwards_executed),
        ("full_resyncs", node.membership.full_resyncs),
        ("partial_resyncs", node.membership.partial_resyncs),
        ("reconnects", node.membership.reconnects),
        ("authentication_failures", node.membership.authentication_failures),
        ("handshake_failures", node.membership.handshake_failures),
        ("last_refusal", node.membership.last_refusal),
    ]
    for number, peer in enumerate(sorted(peers, key=lambda peer: peer.node_id)):
        rows += [(f"peer_{number}:{name}", value) for name, value in _peer_rows(node, peer)]
    return rows


def _peer_rows(node: Node, peer: Peer) -> Rows:
    now = node.clock.monotonic()
    channel = peer.channel
    unacked = channel.unacked if channel is not None else ()
    lag_s = now - unacked[0].sent_at if unacked else 0.0
    if peer.in_view and node.role == "follower":
        lag_items = 0
    else:
        lag_items = node.changes.sequence - max(peer.acked_sequence, 0)
    return [
        ("node_id", peer.node_id),
        ("address", peer.address),
        ("link", "up" if peer.link is not None else "down"),
        ("in_sync", _yes(peer.in_view)),
        ("state", "down" if peer.link is None else peer.mode),
        ("acked_sequence", max(peer.acked_sequence, 0)),
        ("lag_items", lag_items),
        ("lag_ms", round(lag_s * 1000, 3)),
        ("unacked_bytes", 0 if channel is None else channel.unacked_bytes),
        ("clock_skew_ms", 0 if peer.clock_skew_s == -inf else round(peer.clock_skew_s * 1000)),
        ("last_heard_ms", round((now - peer.heard_at) * 1000)),
        ("last_error", peer.last_error.replace(" ", "_")),
    ]
