"""What a node does in one step, counted: keys looked at and bytes made, never time.

A step is what nothing interrupts: to take one message, to do what is due, to make a batch. However
much there is to be done, one step does a bounded part of it; else clients wait for the rest. In
worlds with many keys the bounds are so small that who does all at once is seen.
"""

from __future__ import annotations

from itertools import chain
from typing import TYPE_CHECKING, Any, Final

from pymcd.replication import changes, frames, gate, resync, versions

if TYPE_CHECKING:
    from collections.abc import Callable

    from pymcd.replication.node import Node

#: Of what a message says of one key, in bytes, as few as there can be.
_BYTES_PER_KEY: Final = 3
#: Looked at beside the slices of a copy: what has changed just now, say.
_BESIDE: Final = 6
#: Keys that one client can ask for at once.
_KEYS_PER_CLIENT: Final = 21
#: Made beside what is sent on a channel: statuses, votes and pings.
_SIGNALS_BYTES: Final = 10_000


def _bytes_about_keys(body: bytes) -> int:
    """Return how much of a message tells of keys, or has something done to them at once."""
    about_keys = frames.decode_head(body)[0] in (frames.Kind.CHANGES, frames.Kind.FORWARD)
    return len(body) - frames.HEAD_BYTES if about_keys else 0


class Work:
    """Counts the work of one life of a node."""

    def __init__(self, node: Node, complain: Callable[[str], None], most_at_once: int) -> None:
        """`most_at_once`: bytes of changes that all clients together can ask for at once."""
        self._node = node
        self._complain = complain
        self._most_at_once = most_at_once
        self._keys = 0
        self._within = False
        self._count(node.cache, "linked")
        self._count(node.changes, "_unlink")
        self._measure(node.membership, "receive", "a message")
        self._measure(node, "step", "what was due")
        self._measure(node.gate, "send_batch", "a batch")

    def _count(self, owner: object, name: str) -> None:
        """Count the calls that are about one key each."""
        call = getattr(owner, name)

        def counted(*arguments: Any) -> Any:
            self._keys += 1
            return call(*arguments)

        owner.__dict__[name] = counted

    def _measure(self, owner: object, name: str, what: str) -> None:
        """See how much is done in each of these calls."""
        call = getattr(owner, name)

        def measured(*arguments: Any) -> Any:
            if self._within:
                return call(*arguments)
            said_bytes = _bytes_about_keys(arguments[-1]) if name == "receive" else 0
            most_keys = said_bytes // _BYTES_PER_KEY + self._most_keys()
            most_bytes = self._most_bytes() + said_bytes
            freed = self._freed()
            made_bytes = self._made_bytes()
            self._within, self._keys = True, 0
            try:
                return call(*arguments)
            finally:
                self._within = False
                counts = {
                    "keys": (self._keys, most_keys),
                    "bytes": (self._made_bytes() - made_bytes, most_bytes),
                    "freed": (freed - self._freed(), versions.DISPOSED_MAX + _BESIDE),
                }
                for unit, (done, most) in counts.items():
                    if done > most:
                        self._complain(f"a step that is too long: {what}: {done} {unit} of {most}")

        owner.__dict__[name] = measured

    def _most_keys(self) -> int:
        """Return how many keys the next step may be about, beside what a message says."""
        node, commits = self._node, self._node.gate.commits
        peers = len(node.view.peers)
        waiting = len(node.gate.forwards) + len(node.gate.redo) + len(commits.holding)
        waiting += sum(len(waiters) for _, waiters in commits.held)
        asked = len(node.changes.fresh) + 2 * len(node.changes.in_doubt)
        # What was told while nobody waited for it: who loses a peer goes through that.
        channels = [peer.channel for peer in node.view.peers.values() if peer.channel is not None]
        unacked = chain.from_iterable(channel.unacked for channel in channels)
        told = sum(len(message.keys or ()) for message in unacked)
        # And who loses the one that told it, through what others perhaps have not.
        told += sum(len(batch.keys) for batch in node.gate.unstable)
        of_copies = (resync.SLICES_MAX + 2) * resync.SLICE_ITEMS + changes.DROP_ITEMS
        return peers * of_copies + 2 * asked + told + waiting * _KEYS_PER_CLIENT + _BESIDE

    def _most_bytes(self) -> int:
        """Return how many bytes the next step may make."""
        under_way = gate.QUEUE_BYTES + resync.WINDOW_BYTES + 2 * self._most_at_once
        return len(self._node.view.peers) * (
            under_way + frames.PARTS_WINDOW_BYTES + resync.SLICES_MAX * resync.SLICE_BYTES
        ) + 2 * self._most_at_once + _SIGNALS_BYTES  # fmt: skip

    def _freed(self) -> int:
        """Return how much is still to be freed of what was given up."""
        return sum(map(len, self._node.changes.discarded._dicts))

    def _made_bytes(self) -> int:
        return sum(sum(map(len, link.output)) for link in self._node.membership.links)
