"""The other nodes: links that come and go, what they say of themselves, and becoming one.

Joining. Whoever joins and whoever leads send each other what the other may lack, see `resync`.
When both have all, the leader proposes, the other one stops deciding and accepts, and the view
begins. A node that was in a partition merges like that; for each key the later write wins. What
is empty never wins: absence is nothing that could be sent.

Who joins whom: who has no data or was deposed, whoever leads; of two that lead, the one of the
smaller view, of the older epoch, of the larger id.
"""

from __future__ import annotations

from collections import deque
from contextlib import ExitStack
from functools import partial
from math import inf
from typing import TYPE_CHECKING, Final

from .. import __version__
from . import records
from .beginning import FRESH_S, Hearsay
from .clocks import VERSIONS_END_S, decode_times
from .frames import FRAME_MAX_BYTES, HEAD_BYTES, FrameError, Kind, decode_head
from .likeness import CONSEQUENCES, ELSE, ITEM_SIZE_MAX_LOWEST_BYTES, differences, manners_of
from .link import ADVICE, NONCE_BYTES, Link
from .messages import Grant, Hello, Join, Received, Status, View, Vote, Welcome
from .peer import HOSTED, Peer, Phase
from .report import Counts
from .resync import WINDOW_BYTES
from .roles import ALONE, COORDINATOR, FOLLOWER, JOINING, STARTING, WAITING, Data
from .versions import CLOCK_SKEW_MAX_S, FOREVER, TAG_MASK, FutureError, epoch_limit, seconds_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from ..config import Settings
    from .channel import Channel
    from .messages import Roll
    from .node import Node

PEERS_MAX: Final = 16
#: Connections that have not proven themselves.
STRANGERS_MAX: Final = 16
#: Two links that were opened within this time are two attempts to be linked once.
CROSSING_S: Final = 1.0
#: Keys that may be asked for by name: a JOIN is one message.
WANTS_MAX: Final = 2000
#: Replies in a WELCOME, which is one as well.
DONE_MAX_BYTES: Final = 128 << 10


class Membership:
    """What one node has to do with the others."""

    def __init__(
        self,
        node: Node,
        *,
        settings: Settings,
        secret: bytes | None,
        entropy: Callable[[int], bytes],
    ) -> None:
        self._node = node
        self._view = node.view
        self.cache = node.cache
        self.changes = node.changes
        self.clock = node.clock
        self._cluster_id = settings.cluster_id
        self._item_size_max_bytes = settings.item_size_max_bytes
        self._ack_timeout_s = settings.replication_ack_timeout_s
        self._manners = manners_of(settings)
        #: What this node proves itself by, and what others may prove themselves by as well.
        self.secret = secret
        self.other_secrets: tuple[bytes, ...] = ()
        self._entropy = entropy
        self.frame_max_bytes = max(FRAME_MAX_BYTES, 2 * settings.item_size_max_bytes + (1 << 20))
        self.incarnation = entropy(16).hex()
        self.links: list[Link] = []
        #: What we said last to those who called. Who calls, and hears that, has called itself.
        self._greetings: deque[str] = deque(maxlen=4 * STRANGERS_MAX)
        #: Clients that are told of this node by others may come to it.
        self.welcoming = False
        #: Everything was given up here, and is asked of whoever is next in sync with us.
        self.wants_all = False
        self.flush_in_doubt = False
        self._doubted_at = -inf  #: when changes of ours came to be in doubt
        self.counts = Counts()

    # -- links ---------------------------------------------------------------------------------

    def open_link(self, *, dialled: str | None, address: str = "") -> Link:
        """Return the core of a new connection."""
        nonce = self._entropy(NONCE_BYTES).hex()
        witness = self._node.voting.witness
        if dialled is None:
            self._greetings.append(nonce)
        hello = Hello(
            cluster=self._cluster_id,
            node=self._view.node_id,
            incarnation=self.incarnation,
            nonce=nonce,
            clock=self.changes.item_time(self.clock.monotonic()),
            tag=self.changes.tag,
            dialled=dialled is not None,
            release=__version__,
            seeks="witness" if witness is not None and witness.address == dialled else "data",
            item_size_max=self._item_size_max_bytes - self.cache.overhead_bytes,
            memory_limit=self.cache.slabs.limit_bytes,
            data=self._view.data,
            time=self.clock.monotonic(),
            wall=self.clock.realtime(),
            latest=self.changes.latest(),
            ack_timeout_ms=round(self._ack_timeout_s * 1000),
            manners=self._manners,
            votes=self._node.voting.takes_part,
        )
        link = Link(
            self,
            hello,
            dialled=dialled,
            address=address or dialled or "-",
            opened_at=self.clock.monotonic(),
        )
        self.links.append(link)
        self._node.host.wake()
        return link

    def may_accept(self) -> bool:
        """Return whether there is room for one more stranger."""
        return sum(not link.proven for link in self.links) < STRANGERS_MAX

    def should_dial(self, peer: str) -> bool:
        """Return whether a configured peer is to be called now."""
        witness = self._node.voting.witness
        if witness is not None and peer == witness.address:
            return witness.link is None or witness.is_doubted
        node_id = self._view.who.get(peer)
        if node_id is None:
            return True
        return bool(node_id) and self._view.peers[node_id].link is None

    @property
    def doubted(self) -> str:
        """Who is to be called now, though we are linked: that link may be dead; "": nobody."""
        witness = self._node.voting.witness
        return witness.address if witness is not None and witness.is_doubted else ""

    def peer_of(self, link: Link) -> Peer | None:
        """Return to whom a link leads, if it is the one in use."""
        return next((peer for peer in self._view.peers.values() if peer.link is link), None)

    def is_mine(self, nonce: str) -> bool:
        """Return whether we said that nonce to somebody who called us."""
        return nonce in self._greetings

    def is_myself(self, dialled: str) -> None:
        """Take note that a configured peer is this node."""
        self._view.who[dialled] = ""
        self._node.voting.count_nodes()
        self._node.note_departures()
        self.consider_all()

    def clocks_agree(self, hello: Hello) -> bool:
        """Return whether what we and a peer write may be put in order by our clocks."""
        latest_s = seconds_of(hello.latest) if hello.latest else hello.clock
        if latest_s >= VERSIONS_END_S:
            return False
        if hello.latest and (hello.data is Data.NOTHING or not self._node.ready):
            return True  # who has nothing takes over the time of who has
        # Else either clocks may have been set since. What NaN is compared with is always false.
        return (
            abs((hello.wall or hello.clock) - self.clock.realtime()) <= CLOCK_SKEW_MAX_S
            or abs(latest_s - self.changes.version_clock.now()) <= CLOCK_SKEW_MAX_S
        )

    def link_up(self, link: Link, hello: Hello) -> None:
        """Meet a peer that has proven itself."""
        view = self._view
        node_id = hello.node
        if hello.member != "data":
            witness = self._node.voting.witness
            if witness is None or link.dialled != witness.address:
                self.note_refusal(link, "member")
                link.close("member")
            else:
                witness.link_up(link, hello)
            return
        peer = view.peers.get(node_id)
        if peer is None:
            if not self._make_room_for_peer():
                link.close("busy")
                return
            peer = view.peers[node_id] = Peer(node_id, self._node.step_soon)
            peer.executed = self._node.gate.executed_for_unmet(node_id)
        if link.dialled is not None:
            view.who[link.dialled] = node_id
            self._node.voting.count_nodes()
            self._node.beginning.linked(link.dialled)
        renewed = peer.incarnation != hello.incarnation
        if renewed and link.opened_at < peer.met_at:
            # Whoever answers what we said when we opened a link was alive then: a former life, as
            # we have met another one since. No two clocks need agree on that.
            link.close("busy")
            return
        if renewed and peer.incarnation:
            self._node.voting.outlived(node_id, peer.incarnation)
        self._node.voting.met(peer, hello)
        if renewed and peer.in_view and self._node.voting.required:
            self._node.lose([peer], "restarted")
            if peer.in_view and not self._node.voting.is_needed(peer):
                link.close("busy")  # not before we have gone on without its former life
                return
            if peer.in_view:
                self._node.begin_again_with(peer)
        old = peer.link
        if old is not None:
            if not renewed and not self._comes_later(peer.node_id, link, old):
                link.close("busy")
                return
            self._unlink(peer)
            old.close("busy")
        if renewed:
            self._meet_anew(peer, hello.incarnation)
        self._tell_writers_apart(hello)
        link.admit(partial(self.receive, peer))
        peer.link = link
        peer.address = link.address
        peer.version = link.version
        peer.hello = hello
        if (
            peer.status is not None
            and peer.status.role is STARTING
            and hello.data is not Data.NOTHING
            and not peer.lease.is_late(hello.time)
        ):
            peer.status = None  # it has begun since
        self._compare(peer, link.hello, hello)
        peer.linked_before_at = peer.linked_at
        peer.lease.heard_at = peer.moved_at = peer.linked_at = self.clock.monotonic()
        # What we knew of its clock is perhaps wrong since: a host that is suspended, its clock is.
        peer.lease.offset_s = link.greeted_at - hello.time if hello.time else inf
        peer.connects += 1
        if peer.connects > 1:
            self.counts.reconnects += 1
        self._node.note_departures()
        self._note_time(peer, hello.latest, has_data=hello.data is not Data.NOTHING, most_s=inf)
        self._node.host.view_changed()
        self._send_status(peer)
        peer.ping(self.clock.monotonic(), self.changes.times())
        self._node.voting.linked(peer)

    def _tell_writers_apart(self, hello: Hello) -> None:
        """Know which versions a peer gives out; of two with one tag the larger id has the next."""
        changes, tag = self.changes, hello.tag
        if tag == changes.tag:
            after = (tag + 1) & TAG_MASK
            if self._view.node_id > hello.node:
                changes.tag = after
            else:
                tag = after
        changes.writers[tag] = hello.node

    def _note_time(
        self, peer: Peer, version: int, *, has_data: bool, most_s: float = CLOCK_SKEW_MAX_S
    ) -> bool:
        """Learn what time it is for a peer, of which that is a version of now.

        Return whether it is further ahead than `most_s`: then it is not believed.
        """
        if not has_data:
            return False
        if version:
            peer.clocks.note_version(self.clock.monotonic(), seconds_of(version))
        if self._node.ready:
            return self.changes.keep_up(version, most_s)
        if version and not self._is_taken_in_by_another(peer):
            self.changes.take_over_time(version)
        return False

    def _comes_later(self, node_id: str, link: Link, old: Link) -> bool:
        """Return whether a link to a node takes the place of the one that was in use."""
        mine, was_mine = link.dialled is not None, old.dialled is not None
        # Of two that cross the one stays that the smaller id dialled. Else it is the later one:
        # who dials although it is linked has lost that link, and only we did not learn it.
        if mine != was_mine and abs(link.opened_at - old.opened_at) < CROSSING_S:
            return mine == (self._view.node_id < node_id)
        return link.opened_at >= old.opened_at

    def _compare(self, peer: Peer, mine: Hello, theirs: Hello) -> None:
        """Be as the weakest of those that were met, and say where a peer is unlike us."""
        self.be_alike()
        found = list(differences(mine, theirs))
        peer.differs = [option for option, _, _ in found]
        for option, here, there in found:
            so = CONSEQUENCES.get(option, ELSE)
            self._node.complain(
                f"{option} of {peer.node_id}",
                f"replication: {option} is {here} here and {there} at {peer.node_id}: {so}",
            )

    def be_alike(self) -> None:
        """Store what all can store that were met, and wait as long as any that is there."""
        peers = self._view.peers.values()
        met = [peer.hello for peer in peers if peer.hello is not None]
        overhead_bytes = self.cache.overhead_bytes
        sizes = [hello.item_size_max + overhead_bytes for hello in met if hello.item_size_max]
        smallest = max(min([self._item_size_max_bytes, *sizes]), ITEM_SIZE_MAX_LOWEST_BYTES)
        self.cache.slabs.item_size_max_bytes = smallest
        there = [peer for peer in peers if peer.link is not None or peer.in_view]
        timeouts_s = [peer.hello.ack_timeout_ms / 1000 for peer in there if peer.hello is not None]
        self._node.patience.be(max([self._ack_timeout_s, *timeouts_s]))

    def _unlink(self, peer: Peer) -> None:
        """Take note that a peer's link is gone, or given up for another."""
        peer.link = None
        peer.stop_asking()
        if peer.channel is not None:
            peer.channel.flowing = False

    def _meet_anew(self, peer: Peer, incarnation: str) -> None:
        """Take note that a peer has started without what it had."""
        if peer.incarnation:
            peer.executed.replies.clear()
        peer.incarnation = incarnation
        peer.met_at = self.clock.monotonic()
        peer.lease.forget()
        if peer.in_view:
            self._node.lose([peer], "restarted")
        elif peer.channel is not None:
            self._node.drop(peer)
        peer.status, peer.followed = None, ""
        peer.acked_sequence = -1
        # Both knew then what it gives us back of that, whoever it has it from now.
        had = peer.common_version, peer.departed_version, peer.told_version
        peer.common_version = max(had)
        peer.departed_version = peer.told_version = 0
        peer.known = peer.overrates_us = peer.has_doubted = False
        peer.copied_version = FOREVER
        peer.lapses = 0
        peer.not_before = 0.0
        peer.not_again_before = -inf
        peer.left, peer.left_why = Received(0, 0), ""  # nor does it have what we could not take
        self._node.note_departures()

    def _make_room_for_peer(self) -> bool:
        """Forget one that has not been there for long, if there are too many; False: all are."""
        view = self._view
        if len(view.peers) < PEERS_MAX:
            return True
        gone = [peer for peer in view.peers.values() if peer.link is None and not peer.in_view]
        if not gone:
            return False
        # Of one that was in sync it is better known what it lacks.
        oldest = min(gone, key=lambda peer: (peer.known, peer.lease.heard_at))
        self._forget(oldest)
        return True

    def _forget(self, peer: Peer) -> None:
        """Know no more of a peer that is not there; if it comes, it is a new one."""
        who = self._view.who
        del self._view.peers[peer.node_id]
        for address in [each for each, node_id in who.items() if node_id == peer.node_id]:
            del who[address]
        self._node.voting.forget(peer.node_id)
        self.be_alike()
        self._node.note_departures()

    def forget(self, node_id: str) -> str:
        """Forget a node that will not return, as a person says; return why not, or nothing."""
        peer, voting = self._view.peers.get(node_id), self._node.voting
        if peer is None and not voting.counts_on(node_id):
            return "there is no such node"
        if peer is not None and not self._forget_unused(peer):
            return "it is in use"
        voting.given_up(node_id)
        return ""

    def _forget_unused(self, peer: Peer) -> bool:
        """Forget a peer, if it is not in use."""
        if peer.link is not None or peer.channel is not None or peer is self._view.leader:
            return False
        self._forget(peer)
        self._node.host.log(f"replication: {peer.node_id} is forgotten")
        return True

    def forget_replaced(self, now: float, after_s: float) -> None:
        """Forget those that were not heard for so long, and whose place other nodes have taken.

        As containers do, whose names are new each time.
        """
        view = self._view
        if any(address not in view.who for address in self._node.configured):
            return  # it may be one of those that we cannot dial
        for peer in list(view.peers.values()):
            replaced = peer.node_id not in view.who.values()
            if replaced and now - peer.lease.heard_at >= after_s:
                self._forget_unused(peer)

    def link_down(self, link: Link, reason: str = "") -> None:
        """Take note that a link is gone."""
        if link not in self.links:
            return
        self.links.remove(link)
        witness = self._node.voting.witness
        if witness is not None and link.dialled == witness.address:
            witness.link_down(link, reason)
        peer = self.peer_of(link)
        if not link.proven:
            if reason not in ("busy", "self"):
                self.counts.handshake_failures += 1
                if link.dialled is not None and link.their_data is not None:
                    why = ADVICE.get(reason, "the handshake was cut short")
                    hearsay = Hearsay(link.their_data, link.their_incarnation, why)
                    self._node.beginning.heard(link.dialled, hearsay)
            # Where a node has answered before, it may just be frozen.
            known = self._view.who.get(link.dialled or "") or (
                witness is not None and link.dialled == witness.address and witness.node_id
            )
            if link.called_a_stranger and not known and reason in ("handshake", "frame"):
                self.note_refusal(link, "magic")
        elif peer is not None:
            self._unlink(peer)
            peer.link_lost_at = self.clock.monotonic()
            peer.last_error = reason or "disconnected"
            self.be_alike()
            self._node.link_lost(peer)

    def use_secrets(self, first: bytes, *others: bytes) -> None:
        """Have links be opened with the first, and by who knows any of them; what is open stays."""
        self.secret = first
        self.other_secrets = others

    def note_wrong_proof(self) -> None:
        """Count who does not know the secret."""
        self.counts.authentication_failures += 1

    def note_bad_frame(self, link: Link, what: str) -> None:
        """Log what cannot be understood."""
        if not link.called_a_stranger:
            line = f"replication: {link.address} sent {what}; the link is closed"
            self._node.complain("frame", line)

    def note_refusal(self, link: Link, reason: str) -> None:
        """Count and log that one side did not want the other."""
        if reason in ("self", "busy"):
            return
        self.counts.last_refusal = reason
        self._node.complain(reason, f"replication with {link.address} refused: {ADVICE[reason]}")

    # -- what others say -----------------------------------------------------------------------

    def receive(self, peer: Peer, body: bytes) -> None:
        """Do what a peer's message says."""
        # Hot path: bench/ "pair16".
        kind, time, echo, epoch, number, ack = decode_head(body)
        now = self.clock.monotonic()
        renewed = peer.lease.heard(now, time, echo)
        channel = peer.channel
        if channel is not None and epoch == channel.epoch:
            if ack:
                self.acknowledged(peer, channel, ack, now)
            if number:
                if number != channel.received + 1:
                    if number <= channel.received:  # sent again though we have it
                        peer.lease.answer_due = True
                        return
                    raise FrameError("a message is missing")
                try:
                    self._take(peer, channel, kind, number, body, now)
                except Exception as error:
                    self._give_up_channel(peer, channel, number, error)
                    if not isinstance(error, FutureError):
                        raise
            else:
                self._signal_arrived(peer, kind, body, time, now)
        elif not number:
            self._signal_arrived(peer, kind, body, time, now)
        elif kind == Kind.WELCOME:
            welcome = Welcome.decode(body[HEAD_BYTES:])
            with peer.breaking():
                self._welcome_arrived(peer, welcome, epoch, now)
        else:
            self.counts.stale_frames += 1
        if renewed and (peer.in_view or self._node.gate.waiting):
            self._node.gate.refresh_lease(now)

    def _take(
        self, peer: Peer, channel: Channel, kind: int, number: int, body: bytes, now: float
    ) -> None:
        """Do what a message of a channel says. Raises whatever goes wrong."""
        # Hot path: bench/ "pair16".
        channel.received = number
        peer.lease.answer_due = True
        body = channel.assemble(body)
        if kind == Kind.CHANGES:
            self._node.gate.changes_arrived(peer, body)
            if peer.in_view:
                # On the other side clients wait for that. Not before: what is acknowledged is held.
                peer.acknowledge(now)
        elif kind == Kind.PART or kind == Kind.VALUE:
            channel.part_arrived_at = now
            if kind == Kind.VALUE:
                channel.values.gather(body)
        else:
            self._message_arrived(peer, kind, body[HEAD_BYTES:], now)

    def _give_up_channel(self, peer: Peer, channel: Channel, number: int, error: Exception) -> None:
        """Part from a peer that said what we cannot take: it is not to count us as a holder."""
        if peer.channel is channel:
            channel.received = min(channel.received, number - 1)
            known = isinstance(error, (FrameError, FutureError))
            why = str(error) if known else f"{type(error).__name__}: {error}"
            self._node.part(peer, f"{why:.200}".encode("ascii", "replace").decode())

    def acknowledged(self, peer: Peer, channel: Channel, number: int, now: float) -> None:
        """Take note that a peer has our messages up to a number; go on with its resync."""
        # Hot path: bench/ "pair16".
        if self._node.gate.acknowledged(peer, channel, number) and peer.resync.under_way:
            self.pump(peer, now)
        if channel.part_acked:
            channel.part_acked = False
            channel.part_acked_at = now
            self._node.gate.values_arrived(peer, channel, number)
        if channel.waiting or channel.values.ahead:
            peer.go_on(now)

    def _signal_arrived(self, peer: Peer, kind: int, body: bytes, time: float, now: float) -> None:
        if kind == Kind.ACK:
            return
        if kind == Kind.PING:
            peer.lease.answer_due = True
            times = decode_times(body[HEAD_BYTES:])
            if times is not None:
                peer.clocks.note_wall(time, times[0])
                has_data = peer.status is not None and peer.status.role is not STARTING
                self._note_time(peer, times[1], has_data=has_data)
                self._node.compare_clocks(peer)
        elif kind in (Kind.STATUS, Kind.JOIN) and peer.lease.is_late(time):
            # It has said something later on another link: this one it has given up long ago, and
            # what it was and wanted then it is no more.
            self.counts.stale_frames += 1
            assert peer.link is not None
            peer.link.close("busy")
        elif kind == Kind.STATUS:
            self._status_arrived(peer, Status.decode(body[HEAD_BYTES:]), time, now)
        elif kind == Kind.JOIN:
            join = Join.decode(body[HEAD_BYTES:])
            with peer.breaking():
                self._join_arrived(peer, join, now)
        elif kind == Kind.VOTE:
            self._node.voting.vote_arrived(peer, Vote.decode(body[HEAD_BYTES:]))
        elif kind == Kind.GRANT:
            late = peer.lease.is_late(time)
            self._node.voting.grant_arrived(peer, Grant.decode(body[HEAD_BYTES:]), late=late)

    def _message_arrived(self, peer: Peer, kind: int, payload: bytes, now: float) -> None:
        if kind == Kind.FORWARD:
            assert peer.channel is not None
            values = peer.channel.values
            for request, protocol, commands in records.decode_forwards(payload, 0, values.lend):
                if request > peer.executed.repeats_up_to:
                    peer.executed.repeats_up_to = 0  # what it repeats comes first
                self._node.gate.execute_for(peer, request, protocol, commands)
            if values.lent and not self.changes.fresh_by_peer:
                values.settle()
        elif kind == Kind.SYNCED:
            self._synced_arrived(peer, now)
        elif kind == Kind.PROPOSE:
            self._propose_arrived(peer, now)
        elif kind == Kind.ACCEPT:
            self._accept_arrived(peer, now)
        elif kind == Kind.VIEW:
            self._view_arrived(peer, View.decode(payload), now)
        elif kind == Kind.VOTE:
            self._roll_arrived(peer, Vote.decode(payload).roll, now)

    def hear_epoch(self, epoch: int) -> None:
        """Take note of an epoch that was given out: those that follow are later.

        Raises FrameError for one that nobody can have reached yet. After it there would be no later
        one that others take; as it is, whatever a peer gone mad says, time goes past it.
        """
        view = self._view
        if epoch > view.highest_epoch:
            if epoch > epoch_limit(self.clock.realtime() + 2 * CLOCK_SKEW_MAX_S):
                raise FrameError("an epoch from the future")
            view.highest_epoch = epoch

    def announce_status(self) -> None:
        """Tell everybody what we are."""
        for peer in self._view.peers.values():
            peer.status_due = ""
        self._send_statuses_soon()

    def invite(self, peer: Peer) -> None:
        """Have a peer ask once more whether it may join us: it did so too early."""
        peer.put_off = False
        peer.status_due = "again"

    def ask_status(self) -> None:
        """Have everybody say anew what he is; what was said before may be long past."""
        for peer in self._view.peers.values():
            peer.status = None
            peer.status_due = "ask"
        self._send_statuses_soon()

    def _send_statuses_soon(self) -> None:
        """Say it now, or in the next step: who becomes something has more to do than to say so."""
        try:
            self.send_statuses()
        except MemoryError:
            self._node.host.wake()

    def send_statuses(self) -> None:
        """Say what we are to whom it is due; what cannot be made now is so in the next step."""
        for peer in self._view.peers.values():
            if peer.status_due is not None:
                self._send_status(peer, peer.status_due)

    def _send_status(self, peer: Peer, word: str = "") -> None:
        """Say what we are. The word "ask" demands an answer, with the word "answer"; "again" that
        who asked to join us asks once more.
        """
        view, channel = self._view, peer.channel
        now = self.clock.monotonic()
        peer.status_due = word
        status = Status(
            word=word,
            role=peer.said_of(view.role),
            epoch=view.epoch,
            members=view.members,
            coordinator=view.coordinator,
            welcoming=self.welcoming,
            channel=Received(channel.name, channel.received) if channel is not None else None,
            left=peer.left,
            clock=self.changes.item_time(now),
            version=self.changes.latest(),
            alone_s=now - self._node.went_on_at,
            why=peer.left_why,
        )
        peer.signal(now, Kind.STATUS, status.encode())
        peer.status_due = None

    def _status_arrived(self, peer: Peer, status: Status, time: float, now: float) -> None:
        view, channel = self._view, peer.channel
        self.hear_epoch(max(status.epoch, status.left.epoch))
        peer.clocks.note_items(time, status.clock)
        # What we gave out in a former life, by the time of others, is not to be given out again.
        has_data = status.role is not STARTING
        is_far_ahead = self._note_time(peer, status.version, has_data=has_data)
        if is_far_ahead and not peer.in_view and peer.link is not None:
            # When the link came up one of us had no data; since then we have begun by different
            # times. Whether these can be put in order the next HELLO tells.
            peer.link.close("clock")
            return
        peer.status = status
        if status.role is FOLLOWER:
            peer.followed = status.coordinator
        assert peer.link is not None
        peer.said_after = peer.link.opened_at
        self._node.host.view_changed()
        if not status.role.leads:
            peer.stop_asking()  # it takes nobody in, and may want to join us
        if status.role is JOINING and peer is not view.leader and peer.node_id in view.members:
            self._node.look_after_leader(0.0)  # which it has lost; perhaps we are to go on
        if status.word == "ask":
            self._send_status(peer, "answer")
        elif status.word == "again":
            peer.stop_asking()
        theirs = status.channel
        if channel is None:
            pass
        elif theirs is not None and theirs.epoch == channel.epoch and not channel.flowing:
            # First: until it flows, what there is room for now stays behind what was lost.
            self.acknowledged(peer, channel, theirs.received, now)
            if peer.channel is channel and not channel.broken:
                channel.flowing = True
                peer.resend(now, theirs.received)
        elif status.left.epoch == channel.name:
            if status.why:
                self._node.told_to_part(peer, status.why)
            if not peer.in_view:
                self._node.drop(peer)
            elif status.role.leads and status.epoch > view.epoch:
                self._node.deposed(peer, status, sent_at=time + peer.lease.offset_s)
                return
            else:
                self._node.lose([peer], "left")
        elif not channel.flowing and not channel.broken:
            # On a new link it does not know of the channel: our WELCOME was lost with the old one,
            # unless this was said before, and overtaken by what came over the old one.
            if status.word != "answer":
                self._send_status(peer, "ask")
            elif peer.in_view:
                self._node.lose([peer], "left")
            else:
                self._node.drop(peer)
        self.consider(peer)

    # -- who joins whom ------------------------------------------------------------------------

    def consider_all(self) -> None:
        """See whether there is anybody to join."""
        for peer in list(self._view.peers.values()):
            self.consider(peer)
        self._begin_if_nobody_has_data()

    def consider(self, peer: Peer) -> None:
        """See whether we should join a peer."""
        view, status = self._view, peer.status
        if peer.link is None or status is None or peer.phase is not Phase.APART:
            return
        if self._node.gate.retired or self.clock.monotonic() < peer.not_again_before:
            return
        if not status.role.leads:
            self._begin_if_nobody_has_data()
            if view.role is JOINING and status.role is STARTING:
                starting = {
                    other.node_id
                    for other in view.peers.values()
                    if other.link and other.status and other.status.role is STARTING
                }
                if view.are_all(self._node.configured, starting) and self._still_are(starting):
                    self._node.begin()  # what they had is gone: we know best
        elif view.role is WAITING:
            self._node.join_again(peer)  # which considers it once more
        elif view.role in (STARTING, JOINING):
            hosts = [other for other in view.peers.values() if other.channel is not None]
            if all(other.link is None for other in hosts):  # else another one is taking us in
                for other in hosts:
                    self._node.drop(other)  # it was, and is gone
                self._join(peer)
        elif view.role.leads:
            mine = (len(view.members), view.epoch)
            theirs = (len(status.members), status.epoch)
            if mine < theirs or (mine == theirs and peer.node_id < view.node_id):
                self._join(peer)

    def _begin_if_nobody_has_data(self) -> None:
        """Serve at once when all configured peers are just starting, too."""
        if self._view.role is STARTING and self._node.beginning.all_begin():
            others = {self._view.who[address] for address in self._node.configured} - {""}
            if self._still_are(others):
                self._node.begin()

    def _still_are(self, nodes: set[str]) -> bool:
        """Return whether these are now what they said; who said so long ago is asked."""
        now = self.clock.monotonic()
        since = max(now - FRESH_S, self._node.awake.woke_at)
        late = [
            peer
            for peer in map(self._view.peers.__getitem__, nodes)
            if peer.status_stood_at < since
        ]
        for peer in late:
            if peer.lease.is_ping_due(now, FRESH_S):
                peer.ping(now, self.changes.times())
        return not late

    def doubt(self, keys: Iterable[bytes], *, flushed: bool, known_up_to: int) -> None:
        """Leave open whether changes come to nothing: who is next in sync with us will tell.

        Until it has told all, nothing is undone: if it is lost before, what is here stands.
        """
        self._doubted_at = self.clock.monotonic()
        self.changes.doubt(keys, known_up_to)
        too_many = len(self.changes.in_doubt) > WANTS_MAX  # to be named, so they are like a flush
        self.flush_in_doubt = self.flush_in_doubt or flushed or too_many

    def stand_by(self) -> None:
        """Count what is in doubt as done: nobody is left who can tell what came in its place."""
        gate = self._node.gate
        if self._view.role is ALONE:
            gate.note_unheld(self.changes.in_doubt, flushed=self.flush_in_doubt)
        self.flush_in_doubt = False
        gate.stand_by()

    def _begin_with_nothing(self) -> None:
        """Undo a flush, which cannot be taken back by itself: who takes us in sends all it has."""
        self.flush_in_doubt = False
        self.wants_all = True
        self.changes.forget_all()

    def _join(self, peer: Peer) -> None:
        """Ask a peer that decides to bring us in sync with it."""
        view = self._view
        peer.become(Phase.ASKING)
        peer.asked_at = self.clock.monotonic()
        if view.role is JOINING:
            view.leader = peer
            if peer.met_at >= self._doubted_at and view.are_all(
                self._node.configured, {peer.node_id}
            ):
                self.stand_by()  # nobody has what the former life of that one had instead
        unstable, flushed = self._node.gate.unstable_keys()
        wants = list(dict.fromkeys([*self.changes.in_doubt, *unstable]))
        too_many = len(wants) > WANTS_MAX
        join = Join(
            wants=[] if too_many else wants,
            all=self.wants_all
            or self.flush_in_doubt
            or flushed
            or too_many
            or peer.overrates_us
            or view.role is STARTING,
            leads=view.role.leads,
            left=peer.left.epoch,
            pending=list(self._node.gate.forwards),
            replace=self._to_be_replaced(peer),
            empty=not self.cache.item_count,
        )
        peer.asked_to_replace = join.replace > 0
        peer.signal(self.clock.monotonic(), Kind.JOIN, join.encode())

    def _to_be_replaced(self, peer: Peer) -> int:
        """Return up to which version a peer is to replace what it holds; 0: it need not.

        What is in doubt as soon as it takes us in is no reason for that.
        """
        floor = self.changes.tombstones.floor_for(peer.node_id)
        floor = min(floor, self._node.gate.common_version)
        return floor if floor > peer.departed_version else 0

    def _join_arrived(self, peer: Peer, join: Join, now: float) -> None:
        view, gate = self._view, self._node.gate
        if not view.role.leads:
            self._send_status(peer)  # it asks again when somebody leads
            return
        if now < peer.not_again_before:
            peer.put_off = True  # it is told when it may ask again
            return
        if join.leads and peer.phase is Phase.ASKING and view.node_id > peer.node_id:
            return  # both lead, and ask each other
        channel = peer.channel
        if channel is not None and channel.flowing and channel.epoch != join.left:
            return  # asked again, while our answer was on its way
        peer.stop_asking()
        if peer.in_view:
            self._node.lose([peer], "went on" if join.leads else "joins anew")
            if peer.in_view or not view.role.leads:
                return  # it asks again, when we have gone on without it; or we join it
        gate.send_batch()
        peer.open_channel(view.next_epoch(self.changes.tag), Phase.HOSTING)
        peer.resync.both_led = join.leads
        to_be_replaced = self._to_be_replaced(peer)
        if join.replace:
            peer.resync.expect_all(join.replace, join.wants)
        replies = peer.executed.replies
        known = {number: replies[number] for number in join.pending if number in replies}
        done = {
            number: reply
            for number, reply in known.items()
            if isinstance(reply, bytes) and len(reply) <= DONE_MAX_BYTES // len(known)
        }
        welcome = Welcome(
            wants=[],
            all=bool(join.replace) or self.wants_all or peer.overrates_us,
            done=done,
            replace=to_be_replaced,
        )
        replies.clear()
        for number in known.keys() - done.keys():
            peer.executed.finish(number, known[number])  # which is told behind this
        peer.executed.repeats_up_to = max(join.pending, default=0)
        # If the welcome is lost, they are asked for once more.
        peer.send(now, Kind.WELCOME, welcome.encode(), results=list(done.items()))
        self.begin_resync(peer, join.wants, whole=join.all or to_be_replaced > 0, empty=join.empty)

    def _welcome_arrived(self, peer: Peer, welcome: Welcome, epoch: int, now: float) -> None:
        self.hear_epoch(epoch)
        view, gate = self._view, self._node.gate
        channel = peer.channel
        if (
            view.role in (FOLLOWER, WAITING)
            or self._is_taken_in_by_another(peer)
            or (channel is not None and channel.epoch >= epoch)
        ):
            self.counts.stale_frames += 1
            if channel is None:
                peer.left = Received(epoch, 0)
                self._send_status(peer)  # it need not go on with that
            return
        if peer.in_view:
            raise FrameError("a welcome, though we decide for it")
        gate.send_batch()
        if self._to_be_replaced(peer) and not (peer.asked_to_replace and welcome.all):
            # Since we asked that which is answered here, deletions had to be forgotten that it was
            # to hear of: ask once more. Who is to replace what it holds wants all.
            self._node.drop(peer)
            peer.left = Received(epoch, 0)
            peer.stop_asking()
            self.consider(peer)
            return
        if view.role is JOINING:
            # Only now that somebody takes us in: else we are perhaps the one who is to stand by
            # what the coordinator executed last.
            keys, flushed = gate.unstable_keys()
            self.doubt(keys, flushed=flushed, known_up_to=gate.common_version)
            gate.doubt_unstable()
            self.changes.doubt_anew()
        peer.open_channel(epoch, Phase.JOINING, received=1)
        peer.lease.answer_due = True
        for number, reply in welcome.done.items():
            gate.answer_forward(number, reply)
        if view.role is JOINING:
            view.leader = peer
            self._node.settle()
            gate.forward_again()
            if self.flush_in_doubt:
                self._begin_with_nothing()
                gate.undo(peer)
        if view.role is STARTING and peer.clocks.version_s:
            self.changes.begin_at(now + peer.clocks.version_s)
        peer.resync.replace_up_to = welcome.replace
        if welcome.replace and self.cache.item_count:  # else there is nothing to replace
            peer.resync.expect_all(welcome.replace)
        # There may be something here that the other has lost, if it is not the one that we were in
        # sync with, or that this was copied from.
        self.begin_resync(peer, welcome.wants, whole=welcome.all)

    # -- bringing each other in sync -----------------------------------------------------------

    def begin_resync(
        self,
        peer: Peer,
        wants: list[bytes] | None = None,
        *,
        whole: bool = False,
        empty: bool = False,
    ) -> None:
        """Begin to send a peer what it may lack. `empty`: it has no item of before."""
        changes = self.changes
        acked_version = peer.acked_version if peer.in_view else 0
        if peer.resync.begin(
            changes, peer.acked_sequence, wants or [], whole=whole, acked_version=acked_version
        ):
            self.counts.full_resyncs += 1
        else:
            self.counts.partial_resyncs += 1
        now = self.clock.monotonic()
        if not peer.is_met and self._view.role.leads:
            peer.copied_version = self.cache.cas_unique if empty else 0
        self._node.note_departures()
        if peer.copies_broken:
            self._node.complain(
                f"copy for {peer.node_id}",
                f"replication: the copy for {peer.node_id} starts over, after {peer.copies_broken}"
                f" that broke off, the last one at {peer.broke_at} items"
                f" ({peer.last_error}): is the link too slow for it?",
            )
        flushes = changes.flush_records()
        if flushes:
            peer.send(now, Kind.CHANGES, peer.join_records(now, flushes))
        self.pump(peer, now)

    def pump(self, peer: Peer, now: float) -> None:
        """Send more of a resync; propose to be one when that was all, or accept that."""
        sent_all = peer.pump(now, self.changes, doubt=self._node.gate.encode_doubt(peer))
        assert peer.channel is not None
        if not sent_all and not peer.channel.unacked:
            self._node.host.wake()  # all that was looked at is gone, and no answer is to come
        if peer.resync.proposed:
            self._propose_arrived(peer, now)
        elif sent_all and peer.in_view:
            self._node.note_departures()
        elif sent_all:
            self.propose(peer, now)

    def _synced_arrived(self, peer: Peer, now: float) -> None:
        resync = peer.resync
        if peer.phase is Phase.JOINING:
            self._node.gate.undo(peer)
        if resync.confirmed is not None and resync.dropping is None:
            resync.dropping = self.changes.drop_unconfirmed(resync.confirmed, resync.replace_up_to)
            self.drop_more(peer, now)
        elif resync.dropping is None:
            self._got_all(peer, now)

    def drop_more(self, peer: Peer, now: float) -> None:
        """Drop the next of the items that a peer has not confirmed; go on when that was all."""
        resync = peer.resync
        assert resync.dropping is not None
        for told in (peer, *self._view.followers):
            assert told.channel is not None
            if told.channel.unacked_bytes >= WINDOW_BYTES:
                return
        with peer.breaking():
            dropped = next(resync.dropping, None)
        if dropped is not None:
            resync.dropped += len(dropped)
            if dropped:
                self._tell_dropped(peer, dropped, now)
            self._node.host.wake()
            return
        resync.dropping = resync.confirmed = None
        self._node.host.log(
            f"replication: dropped {resync.dropped} items that {peer.node_id} may have deleted: "
            "there was no room to remember all deletions"
        )
        self._got_all(peer, now)

    def _tell_dropped(self, peer: Peer, dropped: dict[bytes, int], now: float) -> None:
        """Tell of what we dropped: who is in sync with us must not keep it."""
        view = self._view
        relay = view.role.leads and any(
            other is not peer and other.channel is not None for other in view.peers.values()
        )
        with ExitStack() as stack:
            for told in (peer, *view.followers):
                stack.enter_context(told.breaking())
            said = self.changes.tell_dropped(dropped, relay=relay)
        if relay:
            self._node.gate.send_changes(now)
        else:
            peer.send(now, Kind.CHANGES, said)

    def _got_all(self, peer: Peer, now: float) -> None:
        peer.resync.got_all = True
        if peer.resync.proposed:
            self._propose_arrived(peer, now)
        else:
            self.propose(peer, now)

    def propose(self, peer: Peer, now: float) -> None:
        """Propose to be one, when each has all that the other had."""
        resync = peer.resync
        if (
            self._view.role.leads
            and peer.phase is Phase.HOSTING
            and resync.sent_all
            and resync.got_all
            and not resync.under_way
            and not resync.is_outrun
            and not self._node.gate.deferred
            and now >= peer.not_before
        ):
            if self.changes.pending:
                self._node.gate.send_changes(now)
                if resync.under_way:
                    return
            peer.become(Phase.PROPOSED)
            peer.acked_version = self.cache.cas_unique  # once it accepts
            peer.send(now, Kind.PROPOSE)
            assert peer.channel is not None
            peer.proposed = peer.channel.sent

    def _propose_arrived(self, peer: Peer, now: float) -> None:
        """Stop deciding: from now on the other one does."""
        view, gate = self._view, self._node.gate
        if peer.phase in HOSTED:
            raise FrameError("a proposal, though we decide for it")
        if view.role is FOLLOWER:
            return
        resync = peer.resync
        if resync.dropping is not None or not resync.is_almost_sent or resync.is_outrun:
            # Once we hold nothing any more that it does not, and can tell it the rest at once.
            resync.proposed = True
            return
        resync.proposed = False
        peer.become(Phase.ACCEPTED)
        if self.changes.pending:
            gate.send_changes(now)
        peer.pump(now, self.changes, whole=True)
        if view.role.leads:
            # Nor can we bring others in sync: they are to turn to who decides now.
            for other in list(view.peers.values()):
                if other is not peer and other.channel is not None:
                    self._node.drop(other)
            view.leader = peer
            self._node.leader_lost_at = now
            self._node.become(JOINING)
            gate.advance()
            self.announce_status()
            gate.tell_executed(peer)
        view.leader = peer
        peer.send(now, Kind.ACCEPT, sequence=self.changes.sequence)

    def _is_taken_in_by_another(self, peer: Peer) -> bool:
        """Return whether we, who do not lead, are just being brought in sync by another peer.

        Who does not lead passes nothing on: what the second told would never reach the first.
        """
        return not self._view.role.leads and any(
            other.channel is not None and other is not peer for other in self._view.peers.values()
        )

    def _accept_arrived(self, peer: Peer, now: float) -> None:
        """Decide for both from now on."""
        view, gate = self._view, self._node.gate
        if not view.role.leads or peer.phase is not Phase.PROPOSED or self._is_stale(peer):
            return
        if self.changes.pending:
            gate.send_changes(now)
        if self._fell_behind(peer) or self._was_apart(peer, now):
            return
        voting = self._node.voting
        if self._node.is_losing or voting.ballot.poll is not None:
            peer.become(Phase.HOSTING)  # one after the other
            return
        assert peer.channel is not None
        take_in = partial(self._take_in, peer, peer.channel)
        voting.seek(take_in, *view.followers, peer, planned=True)

    @staticmethod
    def _is_stale(peer: Peer) -> bool:
        """Return whether a peer has accepted what we proposed before, and proposed again since.

        It has not heard of all that was to be told it between the two.
        """
        assert peer.channel is not None
        unacked = peer.channel.unacked
        return bool(unacked) and unacked[0].number <= peer.proposed

    @staticmethod
    def _fell_behind(peer: Peer) -> bool:
        """Return whether more has changed since we proposed than may be on its way to a peer.

        Once that is sent we propose again.
        """
        if not peer.resync.under_way:
            return False
        peer.become(Phase.HOSTING)
        return True

    def _was_apart(self, peer: Peer, now: float) -> bool:
        """Return whether what has changed since we proposed may have to give way still.

        A peer that decided as well may hold some of it for deleted, by what it had to forget, and
        says so behind its word. So we propose again: what changes here from now on is later than
        all that it did, of which we have heard.
        """
        assert peer.channel is not None
        if not (peer.resync.both_led and peer.channel.unacked):
            return False
        peer.resync.both_led = peer.status is None or peer.status.role.leads
        peer.become(Phase.HOSTING)
        self.propose(peer, now)
        return True

    def _take_in(self, peer: Peer, channel: Channel) -> None:
        """Begin a view with a peer that has accepted."""
        view, gate = self._view, self._node.gate
        now = self.clock.monotonic()
        if not view.role.leads:
            return
        if self.changes.pending:
            gate.send_changes(now)
        is_there = peer.channel is channel and peer.phase is Phase.PROPOSED
        if not is_there or self._fell_behind(peer):
            # It has gone meanwhile, or comes later, and is in what was voted for.
            self._node.voting.seek(self.announce_roll, *view.followers, planned=True)
            return
        self._enter_view(peer, Phase.FOLLOWER, now)
        view.followers.append(peer)
        view.epoch = view.next_epoch(self.changes.tag)
        peer.acked_ticket = gate.commits.ticket - 1
        if not channel.unacked:
            # Else what has changed since we proposed is on its way still, and may never arrive.
            peer.acked_version = self.cache.cas_unique
        gate.commits.catch_up(self.cache.cas_unique)
        self._node.become(COORDINATOR)
        gate.refresh_lease(now)  # before that which there may be no memory for
        gate.tell_executed(peer)
        self.announce_view(now)

    def _enter_view(self, peer: Peer, phase: Phase, now: float) -> None:
        peer.become(phase)
        peer.known = True
        peer.overrates_us = False
        peer.copies_broken = 0
        peer.joined_at = now
        peer.resync.mode = "in_sync"
        self.changes.tombstones.told_all(peer.node_id, peer.resync.replace_up_to)
        self.wants_all = False

    def announce_roll(self) -> None:
        """Tell the followers which view it is that others would have to consent to the next of."""
        roll = self._node.voting.ballot.backs
        if roll is not None and self._node.voting.required:
            payload = Vote(roll, roll).encode()
            for peer in self._view.followers:
                peer.send(self.clock.monotonic(), Kind.VOTE, payload)

    def _roll_arrived(self, peer: Peer, roll: Roll, now: float) -> None:
        voting = self._node.voting
        if voting.takes_part and not voting.learn(peer, roll):
            peer.signal(now, Kind.GRANT, Grant(0, "no", voting.ballot.backs).encode())

    def announce_view(self, now: float) -> None:
        """Tell the followers who is in the view, and everybody what we are."""
        self.announce_roll()
        view = View(self._view.epoch, self._view.members, self._node.voting.required)
        payload = view.encode()
        for peer in self._view.followers:
            # What it told us itself it has, as well as what it was told.
            behind = peer.resync.under_way or self.changes.pending
            sequence = 0 if behind else self.changes.sequence
            peer.send(now, Kind.VIEW, payload, sequence=sequence)
        self.announce_status()

    def _view_arrived(self, peer: Peer, said: View, now: float) -> None:
        """Be in sync; or learn who else is."""
        view = self._view
        if peer is not view.leader or peer.phase not in (Phase.ACCEPTED, Phase.LEADER):
            return
        if view.node_id not in said.members:
            raise FrameError("a VIEW without this node")
        self.hear_epoch(said.epoch)
        gone = {*view.members}.difference(said.members) & view.peers.keys()
        common_version = self._node.gate.common_version
        for node_id in gone:
            # It was in sync with us, though we never told it.
            view.peers[node_id].was_in_sync(peer.node_id, common_version)
        view.epoch = said.epoch
        view.coordinator = peer.node_id
        view.members = said.members
        if len(said.members) == 2:
            self._node.gate.take_over()  # of what came so far, nobody else can lack anything
        if gone:
            self.changes.tombstones.note_unacknowledged(common_version)
        self._enter_view(peer, Phase.LEADER, now)
        peer.acked_sequence = self.changes.sequence
        if view.role is not FOLLOWER:
            self._node.become(FOLLOWER)
            self._node.gate.refresh_lease(now)
            self.announce_status()
        self._node.note_departures()
        if not said.voted:
            self._node.voting.suspend(f"{peer.node_id} goes on without votes")
