"""The other nodes: links that come and go, what they say of themselves, and becoming one.

Joining. Whoever joins and whoever leads send each other what the other may lack, from their logs
or everything, in slices, changes of the moment in between; versions make the order irrelevant.
When both have all, the leader proposes, the other one stops deciding and accepts, and the view
begins. A node that was in a partition merges like that; for each key the later write wins. What
is empty never wins: absence is nothing that could be sent.

Who joins whom: who has no data or was deposed, whoever leads; of two that lead, the one of the
smaller view, of the older epoch, of the larger id.
"""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING, Any, Final

from ..store.cache import TABLES
from . import frames, records
from .frames import HEAD_BYTES, FrameError, Kind
from .link import ADVICE, CLOCK_SKEW_MAX_S
from .peer import Peer
from .roles import ALONE, COORDINATOR, FOLLOWER, JOINING, STARTING
from .versions import FOREVER, version_at

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from .link import Link
    from .node import Node

PEERS_MAX: Final = 16
#: Of a resync: keys in one message, its bytes, and bytes on their way.
SLICE_ITEMS: Final = 200
SLICE_BYTES: Final = 128 << 10
WINDOW_BYTES: Final = 1 << 20

#: Two links that were opened within this time are two attempts to be linked once.
CROSSING_S: Final = 1.0


class Membership:
    """What one node has to do with the others."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self.cache = node.cache
        self.changes = node.changes
        self.clock = node.clock
        self.stale_frames = 0
        self.full_resyncs = 0
        self.partial_resyncs = 0
        self.reconnects = 0
        self.authentication_failures = 0
        self.handshake_failures = 0
        self.last_refusal = "-"

    def receive(self, peer: Peer, body: bytes) -> None:
        """Do what a peer's message says."""
        # Hot path: bench/ "pair16".
        kind, time, echo, epoch, number, ack = frames.decode_head(body)
        now = self.clock.monotonic()
        peer.heard_at = now
        if time > peer.their_time and not peer.muted_at:
            peer.their_time = time
        renewed = echo > peer.echoed
        if renewed:
            peer.echoed = echo
        channel = peer.channel
        if channel is not None and epoch == channel.epoch:
            if ack:
                self._node.gate.acknowledged(peer, channel, ack)
            if number:
                if number != channel.received + 1:
                    if number <= channel.received:  # sent again though we have it
                        peer.answer_due = True
                        return
                    raise FrameError("a message is missing")
                channel.received = number
                peer.answer_due = True
                body = channel.assemble(body)
                if kind == Kind.CHANGES:
                    if peer.in_view:
                        # It is here, and nobody is answered before it is applied: say so now.
                        peer.acknowledge(now)
                    self._node.gate.changes_arrived(peer, body)
                else:
                    self._message_arrived(peer, kind, body[HEAD_BYTES:], now)
            elif kind == Kind.PING:
                peer.answer_due = True
            elif kind == Kind.STATUS:
                self._status_arrived(peer, frames.decode_json(body[HEAD_BYTES:]))
            elif kind == Kind.JOIN:
                self._join_arrived(peer, frames.decode_json(body[HEAD_BYTES:]), now)
        elif number:
            if kind == Kind.WELCOME:
                self._welcome_arrived(peer, frames.decode_json(body[HEAD_BYTES:]), epoch)
            else:
                self.stale_frames += 1
        elif kind == Kind.PING:
            peer.answer_due = True
        elif kind == Kind.STATUS:
            self._status_arrived(peer, frames.decode_json(body[HEAD_BYTES:]))
        elif kind == Kind.JOIN:
            self._join_arrived(peer, frames.decode_json(body[HEAD_BYTES:]), now)
        if renewed and (peer.in_view or self._node.gate.waiting):
            self._node.gate.refresh_lease(now)

    def _message_arrived(self, peer: Peer, kind: int, payload: bytes, now: float) -> None:
        if kind == Kind.FORWARD:
            for request, protocol, commands in records.decode_forwards(payload, 0):
                self._node.gate.execute_for(peer, request, protocol, commands)
        elif kind == Kind.SYNCED:
            self._synced_arrived(peer, now)
        elif kind == Kind.PROPOSE:
            self._propose_arrived(peer, now)
        elif kind == Kind.ACCEPT:
            self._accept_arrived(peer, now)
        elif kind == Kind.VIEW:
            self._view_arrived(peer, frames.decode_json(payload), now)

    def link_up(self, link: Link, hello: dict[str, Any]) -> None:
        """Meet a peer that has proven itself."""
        node_id = hello["node"]
        peer = self._node.peers.get(node_id)
        if peer is None:
            if not self._make_room_for_peer():
                link.close("busy")
                return
            peer = self._node.peers[node_id] = Peer(node_id)
        if link.dialled is not None:
            self._node.who[link.dialled] = node_id
        renewed = peer.incarnation != hello["incarnation"]
        old = peer.link
        if old is not None:
            mine, was_mine = link.dialled is not None, old.dialled is not None
            crossed = abs(link.opened_at - old.opened_at) < CROSSING_S and mine != was_mine
            if not renewed and crossed and mine != (self._node.node_id < node_id):
                # Of two links the one stays that the smaller id dialled. But who dials although
                # it has been linked for long has lost that link: only we did not learn it.
                link.close("busy")
                return
            peer.link = None
            old.close("busy")
        if renewed:
            self._meet_anew(peer, hello["incarnation"])
        if hello["tag"] == self.changes.tag and self._node.node_id > node_id:
            self.changes.tag = (self.changes.tag + 1) % 4096
        peer.link = link
        link.peer = peer
        peer.address = link.address
        peer.flowing = False
        peer.joining = False
        peer.heard_at = self.clock.monotonic()
        peer.moved_at = peer.heard_at
        peer.clock_skew_s = -inf
        self._note_clock(peer, hello["clock"])
        peer.connects += 1
        if peer.connects > 1:
            self.reconnects += 1
        self._node.on_view()
        self._send_status(peer)

    def _meet_anew(self, peer: Peer, incarnation: str) -> None:
        """Take note that a peer has started without what it had."""
        peer.incarnation = incarnation
        peer.their_time = 0.0
        peer.echoed = -inf
        peer.executed.clear()
        if peer.in_view:
            self._node.lose([peer], "restarted")
        elif peer.channel is not None:
            self._node.drop(peer)
        peer.status = {}
        peer.acked_sequence = -1
        peer.known = False
        peer.lapses = 0
        peer.not_before = 0.0
        peer.left = {"epoch": 0, "received": 0}
        self._node.note_departures()
        if self._node.role == JOINING and peer is self._node.leader and len(self._node.peers) == 1:
            self._node.go_alone()  # what it had is gone: we know best

    def _make_room_for_peer(self) -> bool:
        """Forget one that has not been there for long, if there are too many; False: all are."""
        if len(self._node.peers) < PEERS_MAX:
            return True
        gone = [
            peer for peer in self._node.peers.values() if peer.link is None and not peer.in_view
        ]
        if not gone:
            return False
        # Of one that was in sync it is better known what it lacks.
        oldest = min(gone, key=lambda peer: (peer.known, peer.heard_at))
        del self._node.peers[oldest.node_id]
        self._node.who = {
            address: node_id
            for address, node_id in self._node.who.items()
            if node_id != oldest.node_id
        }
        return True

    def link_down(self, link: Link, reason: str = "") -> None:
        """Take note that a link is gone."""
        if link not in self._node.links:
            return
        self._node.links.remove(link)
        peer = link.peer
        if peer is None:
            if reason not in ("busy", "self"):
                self.handshake_failures += 1
            # Where a node has answered before, it may just be frozen.
            known = self._node.who.get(link.dialled or "")
            if link.called_a_stranger and not known and reason in ("handshake", "frame"):
                self.note_refusal(link, "magic")
        elif peer.link is link:
            peer.link = None
            peer.flowing = False
            peer.joining = False
            peer.link_lost_at = self.clock.monotonic()
            peer.last_error = reason or "disconnected"
            if peer is self._node.leader:
                self._node.leader_lost_at = peer.link_lost_at
            self._node.expect_step(peer.link_lost_at + self._node.ack_timeout_s)
            self._node.on_view()

    def note_bad_frame(self, link: Link, what: str) -> None:
        """Log what cannot be understood."""
        if not link.called_a_stranger:
            line = f"replication: {link.address} sent {what}; the link is closed"
            self._node.complain("frame", line)

    def note_refusal(self, link: Link, reason: str) -> None:
        """Count and log that one side did not want the other."""
        if reason in ("self", "busy"):
            return
        self.last_refusal = reason
        self._node.complain(reason, f"replication with {link.address} refused: {ADVICE[reason]}")

    def _note_clock(self, peer: Peer, their_clock: float) -> None:
        """Learn how far a peer's wall clock is ahead: of several messages the fastest tells."""
        peer.clock_skew_s = max(peer.clock_skew_s, their_clock - self.clock.realtime())
        peer.skew_s = round(peer.clock_skew_s)

    def announce_status(self) -> None:
        """Tell everybody what we are."""
        for peer in self._node.peers.values():
            self._send_status(peer)

    def _send_status(self, peer: Peer, word: str = "") -> None:
        """Say what we are. The word "ask" demands an answer, with the word "answer"."""
        channel = peer.channel
        fields = {
            "word": word,
            "role": self._node.role,
            "epoch": self._node.epoch,
            "members": self._node.members,
            "coordinator": self._node.coordinator,
            "welcoming": self._node.welcoming,
            "channel": channel and {"epoch": channel.epoch, "received": channel.received},
            "left": peer.left,
            "clock": self.clock.realtime(),
            "version": self.cache.cas_unique,
            "alone_s": self.clock.monotonic() - self._node.went_on_at,
        }
        peer.signal(self.clock.monotonic(), Kind.STATUS, frames.encode_json(fields))

    def _status_arrived(self, peer: Peer, status: dict[str, Any]) -> None:
        now = self.clock.monotonic()
        try:
            theirs, left = status["channel"], status["left"]
            left_epoch = frames.decode_number(left["epoch"])
            left_received = frames.decode_number(left["received"])
            epoch = frames.decode_number(status["epoch"])
            received = -1
            if theirs and peer.channel is not None and theirs["epoch"] == peer.channel.epoch:
                received = frames.decode_number(theirs["received"])
            leads = status["role"] in (ALONE, COORDINATOR)
            len(status["members"])
            version = frames.decode_number(status["version"])
            status["alone_s"] = float(status.get("alone_s", 0.0))
            status["clock"] = float(status["clock"])
            self._note_clock(peer, status["clock"])
        except (KeyError, TypeError, ValueError, OverflowError):
            raise FrameError("a STATUS without what belongs into it") from None
        # What we gave out in a former life, by the time of others, is not to be given out again.
        if version <= version_at(self.clock.realtime() + 2 * CLOCK_SKEW_MAX_S, 0):
            self.changes.observe(version)
        peer.status = status
        self._node.on_view()
        if not leads:
            peer.joining = False  # it takes nobody in, and may want to join us
        self._node.highest_epoch = max(self._node.highest_epoch, epoch, left_epoch)
        if status.get("word") == "ask":
            self._send_status(peer, "answer")
        channel = peer.channel
        if channel is not None and received >= 0 and not peer.flowing:
            peer.flowing = True
            self._node.gate.acknowledged(peer, channel, received)
            peer.resend(now, received)
        elif channel is not None and left_epoch == channel.epoch:
            if not peer.in_view:
                self._node.drop(peer)
            elif leads and epoch > self._node.epoch:
                self._node.deposed(peer, left_received)
                return
            else:
                self._node.lose([peer], "left")
        elif channel is not None and not peer.flowing:
            # On a new link it does not know of the channel: our WELCOME was lost with the old one,
            # unless this was said before, and overtaken by what came over the old one.
            if status.get("word") != "answer":
                self._send_status(peer, "ask")
            elif peer.in_view:
                self._node.lose([peer], "left")
            else:
                self._node.drop(peer)
        self.consider(peer)

    def consider_all(self) -> None:
        """See whether there is anybody to join."""
        for peer in list(self._node.peers.values()):
            self.consider(peer)
        if self._node.role == STARTING:
            self._begin_if_nobody_has_data()

    def consider(self, peer: Peer) -> None:
        """See whether we should join a peer."""
        status = peer.status
        if peer.link is None or not status or peer.channel is not None or peer.joining:
            return
        if status["role"] not in (ALONE, COORDINATOR):
            if self._node.role == STARTING:
                self._begin_if_nobody_has_data()
            return
        if self._node.role == STARTING or self._node.role == JOINING:
            if not any(other.channel is not None for other in self._node.peers.values()):
                self._join(peer)  # else another one is taking us in
        elif self._node.gate.leading:
            mine = (len(self._node.members), self._node.epoch)
            theirs = (len(status["members"]), int(status["epoch"]))
            if mine < theirs or (mine == theirs and peer.node_id < self._node.node_id):
                self._join(peer)

    def _begin_if_nobody_has_data(self) -> None:
        """Serve at once when all configured peers are just starting, too."""
        others = [self._node.who.get(address) for address in self._node.settings_peers]
        if any(node_id is None for node_id in others):
            return
        for node_id in others:
            if node_id:
                peer = self._node.peers[node_id]
                if peer.link is None or peer.status.get("role") != STARTING:
                    return
                if peer.node_id < self._node.node_id:
                    return
        self._node.go_alone()

    def _join(self, peer: Peer) -> None:
        """Ask a peer that decides to bring us in sync with it."""
        peer.joining = True
        peer.asked_at = self.clock.monotonic()
        if self._node.role == JOINING:
            self._node.leader = peer
        floor = self.changes.tombstones.floor
        unstable, flushed = self._node.gate.unstable_keys()
        fields = {
            "wants": [frames.encode_text(key) for key in (*self._node.wants, *unstable)],
            "all": self._node.wants_all or flushed or self._node.role == STARTING,
            "leads": self._node.gate.leading,
            "left": peer.left["epoch"],
            "pending": list(self._node.gate.forwards),
            "replace": floor if floor > peer.departed_version else 0,
        }
        peer.signal(self.clock.monotonic(), Kind.JOIN, frames.encode_json(fields))

    def _join_arrived(self, peer: Peer, fields: dict[str, Any], now: float) -> None:
        try:
            wants = [frames.decode_text(key) for key in fields["wants"]]
            pending = [frames.decode_number(number) for number in fields["pending"]]
            replace, wants_all = frames.decode_number(fields["replace"]), bool(fields["all"])
            leads, left = bool(fields["leads"]), frames.decode_number(fields["left"])
        except (KeyError, TypeError, ValueError, AttributeError):
            raise FrameError("a JOIN without what belongs into it") from None
        if not self._node.gate.leading:
            self._send_status(peer)  # it asks again when somebody leads
            return
        if leads and peer.joining and self._node.node_id > peer.node_id:
            return  # both lead, and ask each other
        if peer.channel is not None and peer.flowing and peer.channel.epoch != left:
            return  # asked again, while our answer was on its way
        peer.joining = False
        if peer.in_view:
            self._node.lose([peer], "joins anew")
        self._node.gate.flush()
        peer.open_channel(self._node.next_epoch())
        peer.hosted = True
        peer.flowing = True
        floor = self.changes.tombstones.floor
        replaces = bool(wants_all is False and floor > peer.departed_version)
        if replace:
            peer.replace_up_to, peer.confirmed = replace, set()
        done = {
            str(number): frames.encode_text(peer.executed[number])
            for number in pending
            if number in peer.executed
        }
        peer.executed.clear()
        welcome = {
            "replace": floor if replaces else 0,
            "done": done,
            "all": bool(replace) or self._node.wants_all,
            "wants": [frames.encode_text(key) for key in self._node.wants],
        }
        peer.send(now, Kind.WELCOME, frames.encode_json(welcome))
        self.begin_todo(peer, wants, whole=wants_all or replaces)

    def _welcome_arrived(self, peer: Peer, fields: dict[str, Any], epoch: int) -> None:
        if self._node.role == FOLLOWER or (
            peer.channel is not None and peer.channel.epoch >= epoch
        ):
            self.stale_frames += 1
            if peer.channel is None:
                peer.left = {"epoch": epoch, "received": 0}
                self._send_status(peer)  # it need not go on with that
            return
        try:
            replace, whole = frames.decode_number(fields["replace"]), bool(fields["all"])
            wants = [frames.decode_text(key) for key in fields["wants"]]
            done = {int(n): frames.decode_text(reply) for n, reply in fields["done"].items()}
        except (KeyError, TypeError, ValueError, AttributeError):
            raise FrameError("a WELCOME without what belongs into it") from None
        self._node.gate.flush()
        if self._node.role == JOINING:
            self._node.gate.give_up_unstable()
        peer.joining = False
        peer.open_channel(epoch)
        peer.flowing = True
        assert peer.channel is not None
        peer.channel.received = 1
        peer.answer_due = True
        self._node.highest_epoch = max(self._node.highest_epoch, epoch)
        if replace:
            peer.replace_up_to, peer.confirmed = replace, set()
        for number, reply in done.items():
            forward = self._node.gate.forwards.pop(number, None)
            if forward is not None:
                forward.waiter.answered(reply)
        if self._node.role == JOINING:
            self._node.leader = peer
            self._node.gate.unsent_forwards = list(self._node.gate.forwards.values())
            redo, self._node.gate.redo = self._node.gate.redo, []
            for waiter in redo:
                self._node.gate.forward(waiter, waiter.held_protocol, waiter.held_request)
        # Whoever just starts has nothing. Else there may be something here that the other has lost,
        # if it is not the one that we were in sync with.
        self.begin_todo(peer, wants, whole=whole)

    def begin_todo(self, peer: Peer, wants: Iterable[bytes] = (), *, whole: bool = False) -> None:
        """Begin to send a peer what it may lack."""
        changes = self.changes
        missed = None if whole or peer.acked_sequence < 0 else changes.since(peer.acked_sequence)
        if missed is None:
            self.full_resyncs += 1
            peer.mode = "sending_full"
        else:
            self.partial_resyncs += 1
            peer.mode = "sending_partial"
        peer.todo = self._keys_to_send(list(wants), missed)
        now = self.clock.monotonic()
        pieces = []
        if changes.barrier:
            pieces.append(records.encode_flush(changes.barrier))
        if changes.flush_due_at:
            pieces.append(records.encode_flush_due(changes.flush_due_at))
        if pieces:
            peer.send(now, Kind.CHANGES, b"".join(pieces))
        self.pump(peer, now)

    def _keys_to_send(self, wants: list[bytes], missed: list[bytes] | None) -> Iterator[bytes]:
        yield from wants
        if missed is not None:
            yield from missed
            return
        yield from [key for key, _ in self.changes.tombstones.items()]
        for number in range(TABLES):
            for item in self.cache.table_items(number):
                yield item.key

    def pump(self, peer: Peer, now: float, *, whole: bool = False) -> None:
        """Send more of a resync, as much as may be on its way."""
        channel = peer.channel
        assert channel is not None
        while peer.todo is not None or peer.behind:
            if channel.unacked_bytes >= WINDOW_BYTES and not whole:
                return
            pieces: list[bytes] = []
            size = 0
            while len(pieces) < SLICE_ITEMS and size < SLICE_BYTES:
                key = self._next_key(peer)
                if key is None:
                    break
                record = self.changes.record_of(key)
                if record is not None:
                    pieces.append(record)
                    size += len(record)
            caught_up = peer.todo is None and not peer.behind
            if pieces:
                peer.send(
                    now,
                    Kind.CHANGES,
                    b"".join(pieces),
                    sequence=self.changes.sequence if caught_up and peer.in_view else 0,
                )
        if not peer.in_view and not peer.sent_all:
            peer.sent_all = True
            peer.send(now, Kind.SYNCED, sequence=self.changes.sequence)
            self.propose(peer, now)
        elif peer.in_view:
            peer.mode = "in_sync"
        else:
            self.propose(peer, now)

    def _next_key(self, peer: Peer) -> bytes | None:
        if peer.todo is not None:
            key = next(peer.todo, None)
            if key is not None:
                return key
            peer.todo = None
        if peer.behind:
            return peer.behind.popitem()[0]
        return None

    def _synced_arrived(self, peer: Peer, now: float) -> None:
        peer.got_all = True
        if peer.confirmed is not None:
            dropped = self.changes.drop_unconfirmed(peer.confirmed, peer.replace_up_to)
            peer.confirmed = None
            if dropped:
                peer.send(now, Kind.CHANGES, b"".join(dropped))
            self._node.log(
                f"replication: dropped {len(dropped)} items that {peer.node_id} may have deleted: "
                "there was no room to remember all deletions"
            )
        self.propose(peer, now)

    def propose(self, peer: Peer, now: float) -> None:
        """Propose to be one, when each has all that the other had."""
        if (
            self._node.gate.leading
            and peer.hosted
            and not peer.in_view
            and peer.sent_all
            and peer.got_all
            and not peer.proposed
            and not peer.behind
            and peer.todo is None
            and now >= peer.not_before
        ):
            peer.proposed = True
            peer.send(now, Kind.PROPOSE)

    def _propose_arrived(self, peer: Peer, now: float) -> None:
        """Stop deciding: from now on the other one does."""
        if peer in self._node.followers:
            raise FrameError("a proposal, though we decide for it")
        if self._node.role == FOLLOWER:
            return
        if any(other.accepted and other is not peer for other in self._node.peers.values()):
            self._node.drop(peer)  # another one was faster, and has our word
            self._send_status(peer)
            return
        peer.accepted = True
        if self.changes.pending:
            self._node.gate.flush_changes(now)
        self.pump(peer, now, whole=True)
        if self._node.gate.leading:
            # Nor can we bring others in sync: they are to turn to who decides now.
            for other in list(self._node.peers.values()):
                if other is not peer and other.channel is not None:
                    self._node.drop(other)
            self._node.leader = peer
            self._node.leader_lost_at = now
            self._node.set_role(JOINING)
            self._node.gate.settle()
            self.announce_status()
        self._node.leader = peer
        peer.send(now, Kind.ACCEPT, sequence=self.changes.sequence)

    def _accept_arrived(self, peer: Peer, now: float) -> None:
        """Decide for both from now on."""
        if not self._node.gate.leading or not peer.proposed or peer.in_view:
            return
        if self.changes.pending:
            self._node.gate.flush_changes(now)
        if peer.behind or peer.todo is not None:
            # Since we asked more has changed than may be on its way: once that is sent, again.
            peer.proposed = False
            return
        assert peer.channel is not None
        peer.in_view = peer.known = True
        peer.joined_at = now
        self._node.wants, self._node.wants_all = {}, False
        peer.mode = "in_sync"
        self._node.followers.append(peer)
        self._node.epoch = self._node.next_epoch()
        peer.acked_ticket = self._node.gate.ticket - 1
        peer.acked_version = self.cache.cas_unique
        if self._node.gate.settled is FOREVER:
            self._node.gate.watermark = self.cache.cas_unique
        self._node.set_role(COORDINATOR)
        self.announce_view(now)
        self._node.gate.refresh_lease(now)

    def announce_view(self, now: float) -> None:
        """Tell the followers who is in the view, and everybody what we are."""
        view = {"epoch": self._node.epoch, "members": self._node.members}
        for peer in self._node.followers:
            peer.send(now, Kind.VIEW, frames.encode_json(view))
        self.announce_status()

    def _view_arrived(self, peer: Peer, fields: dict[str, Any], now: float) -> None:
        """Be in sync; or learn who else is."""
        try:
            epoch = frames.decode_number(fields["epoch"])
            members = [str(member) for member in fields["members"]]
        except (KeyError, TypeError, ValueError):
            raise FrameError("a VIEW without what belongs into it") from None
        if self._node.role not in (STARTING, JOINING, FOLLOWER) or peer is not self._node.leader:
            return
        self._node.epoch = epoch
        self._node.highest_epoch = max(self._node.highest_epoch, epoch)
        self._node.coordinator = peer.node_id
        self._node.members = members
        peer.in_view = peer.known = True
        peer.joined_at = now
        self._node.wants, self._node.wants_all = {}, False
        peer.mode = "in_sync"
        peer.acked_sequence = self.changes.sequence
        if self._node.role != FOLLOWER:
            self._node.set_role(FOLLOWER)
            self._node.gate.refresh_lease(now)
            self.announce_status()
