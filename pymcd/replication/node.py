"""This server as a member of a group: who decides, who is in sync, when to wait and when not.

`Gate` is the side of the node that connections see, `Membership` what it has to do with the others;
here are its roles, and time.

Roles. A node is *starting* until it is in sync with somebody or knows that there is nobody;
*alone* when it serves by itself; in a view it is *coordinator* or *follower*. A node that was
ready and learns that the others went on without it is *joining*: it forwards everything, reads
too, until it is in sync again.

Leases. Whoever is in a view answers only while something that it sent less than a lease ago has
been seen by the other side; else its clients wait for one round trip. Nobody acts alone before
the acknowledgement time-out has passed, and the lease of the other side, too. Thus a node that
was frozen finds out, before it answers, that others went on without it.

Deposed. What a coordinator executed and nobody acknowledged is taken back: the keys are
forgotten and asked of the new coordinator, and the commands are executed again, there.

Stood still. Who was frozen for longer than `STALE_S`, and then finds that the others went on, may
have requests before it whose clients have long turned to another node. What that one has
acknowledged since must not be undone: connections with anything unexecuted are closed.

Three nodes. The coordinator waits for all followers. When it dies, the follower with the smallest
id that the others can see goes on, and they join it. The same mechanism, no vote.

Compared with the recommended design: forwarded is the command, not the store operation, since a
meta command is several of those; and there is no journal.
"""

from __future__ import annotations

from collections import deque
from math import inf
from typing import TYPE_CHECKING, Final

from . import frames
from .changes import Changes
from .frames import Kind
from .gate import Gate
from .link import Link
from .membership import Membership
from .report import Rows, node_rows
from .roles import ALONE, COORDINATOR, FOLLOWER, JOINING, STARTING
from .versions import FOREVER, TAG_BITS, tag_of, version_at
from .waiting import Nobody

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..clock import Clock
    from ..config import Settings
    from ..store import Cache
    from .peer import Peer, Unacked

#: The lease, of the acknowledgement time-out.
LEASE_SHARE: Final = 0.75
#: A peer that says nothing for so long is gone, though nobody waits for it.
SILENCE_S: Final = 3.0
HEARTBEAT_S: Final = 1.0
#: Whatever is due: nobody is woken all the time.
SHORTEST_STEP_S: Final = 0.0005
#: While clients are served, leases are kept warm: how often we look.
ACTIVE_STEP_S: Final = 0.02
HANDSHAKE_S: Final = 2.0
#: Connections that have not proven themselves.
STRANGERS_MAX: Final = 16
#: How long a node that lost the one it was joining waits for it, before it serves what it has.
JOIN_GRACE_S: Final = 1.0
#: A peer that was lost again and again is taken back later each time.
READMIT_MIN_S: Final = 0.25
READMIT_MAX_S: Final = 10.0
#: Clients that were left waiting for longer may have turned to another node: a load balancer set up
#: as docs/replication.md tells gives a node up after 0.3 s at the earliest.
STALE_S: Final = 0.25
#: Lines in the log about the same trouble.
COMPLAIN_EVERY_S: Final = 60.0
TOMBSTONES_EXPIRE_EVERY_S: Final = 1.0


def _ignore() -> None:
    """Stand in until the host says what to do."""


class Node:
    """This server, as a member of a group. See the module."""

    def __init__(
        self,
        cache: Cache,
        settings: Settings,
        clock: Clock,
        *,
        node_id: str,
        secret: bytes | None,
        entropy: Callable[[int], bytes],
        execute: Callable[[str, bytes], bytes],
        log: Callable[[str], None],
    ) -> None:
        self.cache = cache
        self.clock = clock
        self.node_id = node_id
        self.cluster_id = settings.cluster_id
        self.secret = secret
        self.entropy = entropy
        self.incarnation = entropy(16).hex()
        self.log = log
        #: Called when everything that clients have sent so far is out of date.
        self.on_stale: Callable[[], None] = _ignore
        self.wake: Callable[[], None] = _ignore
        self.on_ready: Callable[[], None] = _ignore
        #: Called when it may have changed who serves: our role, who is in sync, whom we reach.
        self.on_view: Callable[[], None] = _ignore
        self.frame_max_bytes = max(
            frames.FRAME_MAX_BYTES, 2 * settings.item_size_max_bytes + (1 << 20)
        )

        self.ack_mode = settings.replication_ack
        self.ack_timeout_s = settings.replication_ack_timeout_s
        self.lease_s = settings.replication_ack_timeout_s * LEASE_SHARE
        self._sync_timeout_s = settings.sync_timeout_s
        self._tombstone_ttl_s = settings.tombstone_ttl_s
        self.settings_peers = tuple(settings.peers)
        self._backlog_bytes = settings.replication_backlog_bytes

        self.changes = Changes(
            cache,
            clock,
            tag=tag_of(node_id),
            backlog_bytes=settings.replication_backlog_bytes,
        )
        self.links: list[Link] = []
        #: What we said last to those who called. Who calls, and hears that, has called itself.
        self.greetings: deque[str] = deque(maxlen=4 * STRANGERS_MAX)
        self.peers: dict[str, Peer] = {}
        #: Which node a configured peer turned out to be; "": ourselves.
        self.who: dict[str, str] = {}

        self.role = STARTING
        self.ready = False
        #: Clients that are told of this node by others may come to it.
        self.welcoming = False
        self.epoch = 0
        self.highest_epoch = 0
        self.leader: Peer | None = None
        self.followers: list[Peer] = []
        self.members: list[str] = [node_id]
        self.coordinator = "-"
        #: Keys that were given up here, and are asked of whoever is next in sync with us.
        self.wants: dict[bytes, None] = {}
        self.wants_all = False

        self.went_on_at = clock.monotonic()  #: when we last decided to go on without somebody

        self._started_at = clock.monotonic()
        self.leader_lost_at = -inf
        self._next_step_at = inf
        self._awake_since = -inf
        self._overslept = False  #: for longer than STALE_S, and nobody has heard us since
        self._tombstones_expired_at = -inf
        self._complaints: dict[str, float] = {}

        self.degraded_since: float | None = None
        self.degraded_count = 0
        self._degraded_s = 0.0
        self.gate = Gate(self, settings, execute)
        self.membership = Membership(self)
        self.set_role(STARTING)

    def flush(self) -> None:
        """End a turn: make messages of what has changed. See `Gate`."""
        self.gate.flush()

    def start(self) -> None:
        """Begin to count `--sync-timeout`, and to look for the others."""
        self._started_at = self.clock.monotonic()
        self.membership.consider_all()

    def open_link(self, *, dialled: str | None, address: str = "") -> Link:
        """Return the core of a new connection."""
        link = Link(self, dialled, address or dialled or "-", self.clock.monotonic())
        self.links.append(link)
        self.wake()
        return link

    def may_accept(self) -> bool:
        """Return whether there is room for one more stranger."""
        return sum(link.peer is None for link in self.links) < STRANGERS_MAX

    def should_dial(self, peer: str) -> bool:
        """Return whether a configured peer is to be called now."""
        node_id = self.who.get(peer)
        if node_id is None:
            return True
        return bool(node_id) and self.peers[node_id].link is None

    def is_myself(self, dialled: str) -> None:
        """Take note that a configured peer is this node."""
        self.who[dialled] = ""
        self.membership.consider_all()

    def expect_step(self, deadline: float) -> None:
        """Have `step` called at that time, unless it will be before."""
        if self._next_step_at > deadline:
            self._next_step_at = deadline
            self.wake()

    def partners(self) -> list[Peer]:
        """Return those without whom we may not answer."""
        if self.role == COORDINATOR:
            return self.followers
        if self.leader is not None and self.role in (FOLLOWER, JOINING):
            return [self.leader]
        return []

    def set_role(self, role: str) -> None:
        """Become something else; what follows from that for the connections."""
        before, self.role = self.role, role
        self.gate.leading = role in (ALONE, COORDINATOR)
        self.changes.leading = self.gate.leading
        self.gate.protecting = role == COORDINATOR and self.ack_mode != "async"
        self.gate.refusing = role == ALONE and self.ack_mode == "strict"
        self.gate.remote = role == JOINING
        if role == ALONE:
            self.coordinator = self.node_id
            self.members = [self.node_id]
            self.leader = None
            self.gate.open_until = inf
        elif role == COORDINATOR:
            self.coordinator = self.node_id
            self.members = [self.node_id, *(peer.node_id for peer in self.followers)]
        elif role == STARTING:
            self.gate.open_until = -inf
        elif role == JOINING:
            # Nothing is executed here: everything is forwarded, which decides for itself.
            self.gate.open_until = inf
            self.coordinator = "-" if self.leader is None else self.leader.node_id
        self.note_departures()
        if not self.ready and role in (ALONE, COORDINATOR, FOLLOWER):
            self.ready = True
            self.on_ready()
        self._count_degradation()
        if before != role:
            self._tell_role(before)
        self.on_view()

    def _tell_role(self, before: str) -> None:
        others = ", ".join(member for member in self.members if member != self.node_id)
        if self.role == ALONE:
            if before == STARTING:
                self.log("replication: serving alone: there is no other node with data")
            elif before != COORDINATOR or self.settings_peers:
                self.log("replication: serving alone, unprotected, until a peer is in sync")
        elif self.role == COORDINATOR:
            self.log(f"replication: in sync with {others}; this node coordinates")
        elif self.role == FOLLOWER:
            self.log(f"replication: in sync; {self.coordinator} coordinates")
        elif self.role == JOINING:
            self.log("replication: others went on without this node; it joins them again")

    def note_departures(self) -> None:
        """See who may lack what: deletions must be kept for them."""
        away = [peer for peer in self.peers.values() if peer.known and not peer.in_view]
        self.changes.tombstones.shared = not away
        self.changes.departed_version = (
            min([peer.departed_version for peer in away]) if away else FOREVER
        )
        if not away:
            self.changes.end_log()

    def _count_degradation(self) -> None:
        wanted = max(len([peer for peer in self.settings_peers if self.who.get(peer) != ""]), 0)
        degraded = self.ready and wanted > 0 and self.role in (ALONE, JOINING)
        now = self.clock.monotonic()
        if degraded and self.degraded_since is None:
            self.degraded_since = now
            self.gate.unprotected_now = 0
        elif not degraded and self.degraded_since is not None:
            self._degraded_s += now - self.degraded_since
            self.degraded_since = None
            self.gate.unprotected_now = 0

    def next_epoch(self) -> int:
        """Return an epoch later than any known, which no other node gives out."""
        count = (self.highest_epoch >> TAG_BITS) + 1
        self.highest_epoch = count << TAG_BITS | self.changes.tag
        return self.highest_epoch

    def lose(self, lost: list[Peer], reason: str) -> None:
        """Go on without these peers of our view."""
        for peer in lost:
            peer.last_error = reason
            how = "left" if reason == "left" else f"does not answer ({reason})"
            self.complain(
                f"lost {peer.node_id}",
                f"replication: {peer.node_id} {how}; going on without it",
            )
            if peer.link is None:
                continue  # the link's fault: nobody is slow
            peer.lapses += 1
            delay_s = min(READMIT_MAX_S, READMIT_MIN_S * 2 ** (peer.lapses - 1))
            peer.not_before = self.clock.monotonic() + delay_s
        self.degraded_count += 1
        if self.role == COORDINATOR:
            for peer in lost:
                self.drop(peer)
            if self.followers:
                self.epoch = self.next_epoch()
                self.went_on_at = self.clock.monotonic()
                self.set_role(COORDINATOR)
                self.membership.announce_view(self.clock.monotonic())
                self.gate.refresh_lease(self.clock.monotonic())
                self.gate.settle()
            else:
                self.go_alone()
        else:
            assert self.leader is not None
            leader = self.leader
            self.drop(leader)
            successor = self._successor(leader)
            if successor is None:
                self.go_alone()
            else:
                self._rejoin(successor)

    def drop(self, peer: Peer) -> list[Unacked]:
        """Take a peer out of our view, or give up its resync."""
        in_view, behind = peer.in_view, list(peer.behind)
        unacked = peer.leave_channel()
        if in_view:
            lacking = [key for message in unacked for key in message.keys or ()] + behind
            peer.departed_version = peer.acked_version if lacking else self.cache.cas_unique
            self.changes.begin_log(lacking, max(peer.acked_sequence, 0))
            if peer in self.followers:
                self.followers.remove(peer)
        self.note_departures()
        self.on_view()
        return unacked

    def _successor(self, leader: Peer) -> Peer | None:
        """Return who is to go on when the coordinator of several is gone; None: we are."""
        reachable = [
            peer
            for peer in self.peers.values()
            if peer is not leader and peer.link is not None and peer.node_id in self.members
        ]
        first = min(reachable, key=lambda peer: peer.node_id, default=None)
        return None if first is None or first.node_id > self.node_id else first

    def go_alone(self) -> None:
        """Decide by ourselves from now on."""
        self._drop_stale()
        self.epoch = self.next_epoch()
        self.went_on_at = self.clock.monotonic()
        for peer in self.peers.values():
            if peer.channel is not None and not (self.gate.leading and not peer.in_view):
                self.drop(peer)
        self.set_role(ALONE)
        self.gate.take_over()
        self.gate.refuse_held()
        self.gate.settle()
        self.gate.decide_open_questions()
        self.membership.announce_status()

    def deposed(self, peer: Peer, received: int) -> None:
        """Learn that a peer went on without us, having received so much of what we sent."""
        self.complain(
            "deposed", f"replication: {peer.node_id} went on without this node for a while"
        )
        self.degraded_count += 1
        self._note_lateness(self.clock.monotonic())
        # While nothing is due, a pause seems shorter than it is: when did the other one go on? What
        # it said of that may have been waiting for us ever since.
        status_age_s = self.clock.realtime() + peer.clock_skew_s - peer.status["clock"]
        alone_s = peer.status["alone_s"] + status_age_s
        self._overslept = self._overslept or alone_s >= STALE_S
        was_coordinator = self.role == COORDINATOR
        if was_coordinator and peer.channel is not None:
            self.gate.acknowledged(peer, peer.channel, received)
        void: dict[bytes, None] = dict.fromkeys(self.changes.fresh)
        flushed = self.changes.fresh_flush
        for other in list(self.peers.values()):
            if other.channel is None:
                continue
            for message in self.drop(other):
                if other is peer and was_coordinator:
                    void.update(dict.fromkeys(message.keys or ()))
                    flushed = flushed or message.has_flush
        self.followers.clear()
        if was_coordinator:
            # What the new coordinator has seen did happen, whatever others have seen.
            self.gate.release(peer.acked_ticket)
            self.gate.give_up(void, flushed=flushed)
            held = self.gate.take_held()
            self.gate.redo += [waiter for waiter in held if waiter.held_request]
            self.gate.settled = FOREVER
        self._rejoin(peer)

    def _rejoin(self, peer: Peer) -> None:
        """Come in sync again with a peer that decides, or soon will."""
        self._drop_stale()
        self.leader = peer
        self.leader_lost_at = self.clock.monotonic()
        self.set_role(JOINING)
        self.gate.resume_waiting()
        self.membership.announce_status()
        self.membership.consider(peer)

    def _drop_stale(self) -> None:
        """Part from the clients that asked before or while this node stood still, if it did."""
        if self._overslept:
            self._overslept = False
            self.complain(
                "stale",
                "replication: this node stood still; clients that asked meanwhile are disconnected",
            )
            self.gate.abandon()
            self.on_stale()

    def complain(self, about: str, line: str) -> None:
        """Log, but once a minute about the same."""
        now = self.clock.monotonic()
        if now - self._complaints.get(about, -inf) >= COMPLAIN_EVERY_S:
            if len(self._complaints) > 100:
                self._complaints.clear()
            self._complaints[about] = now
            self.log(line)

    def step(self) -> float:
        """Do what is due; return in how many seconds to call again."""
        now = self.clock.monotonic()
        self._note_lateness(now)
        if self._overslept and all(peer.echoed >= self._awake_since for peer in self.partners()):
            self._overslept = False  # and the others have not gone on without us
        self._close_slow_links(now)
        lost = [peer for peer in self.partners() if self._is_lost(peer, now)]
        if lost and self.role in (COORDINATOR, FOLLOWER):
            self.lose(lost, "no answer in time" if lost[0].link else "the link is down")
        self._see_to_joining(now)
        self._keep_in_touch(now)
        self._flush_when_due()
        if now - self._tombstones_expired_at >= TOMBSTONES_EXPIRE_EVERY_S:
            self._tombstones_expired_at = now
            self.changes.tombstones.expire(
                version_at(self.clock.realtime() - self._tombstone_ttl_s, 0)
            )
        self.gate.flush()
        delay = self._delay(now)
        self._next_step_at = now + delay
        return delay

    def _note_lateness(self, now: float) -> None:
        """See whether a step comes later than was asked for: perhaps we were frozen."""
        late_s = now - self._next_step_at
        if late_s > self.ack_timeout_s / 4:
            # What others said meanwhile has not been read yet: be as patient as if everything had
            # been asked just now.
            self._awake_since = now
            self._overslept = self._overslept or late_s >= STALE_S

    def _delay(self, now: float) -> float:
        if not self.peers and not self.links and self.role == ALONE:
            delay = HEARTBEAT_S if self.changes.flush_due_at else inf
        elif now < self.gate.active_until or self.gate.somebody_waits:
            delay = min(ACTIVE_STEP_S, self.ack_timeout_s / 4)
            oldest = min((self._since(peer) for peer in self.partners()), default=inf)
            deadline = max(oldest, self._awake_since) + self.ack_timeout_s
            if deadline > now:
                delay = min(delay, deadline - now)
        else:
            delay = HEARTBEAT_S
            if self.role in (STARTING, JOINING):
                delay = ACTIVE_STEP_S * 5
            for peer in self.partners():
                if peer.link is None and self.role != JOINING:
                    patient_since = max(peer.link_lost_at, self._awake_since)
                    delay = min(delay, patient_since + self.ack_timeout_s - now)
            for peer in self.peers.values():
                if peer.channel is not None and now < peer.not_before:
                    delay = min(delay, peer.not_before - now)
        if self.changes.flush_due_at and self.gate.leading:
            delay = min(delay, self.changes.flush_due_at - self.clock.realtime())
        return max(delay, SHORTEST_STEP_S)

    def _since(self, peer: Peer) -> float:
        """Return since when somebody has been waiting for a peer."""
        oldest = inf
        channel = peer.channel
        if self.role == COORDINATOR:
            if channel is not None and channel.unacked and self.gate.protecting:
                oldest = max(channel.unacked[0].sent_at, peer.joined_at)
        elif self.gate.forwards:
            oldest = max(next(iter(self.gate.forwards.values())).since, peer.joined_at)
        if self.gate.waiting and peer.echoed + self.lease_s < self.clock.monotonic():
            oldest = min(oldest, self.gate.waiting_since)
        if peer.link is None:
            oldest = min(oldest, peer.link_lost_at)
        return oldest

    def _is_lost(self, peer: Peer, now: float) -> bool:
        """Return whether a peer of our view is to be given up."""
        silent_since = max(peer.heard_at, self._awake_since)
        if now - silent_since >= SILENCE_S:
            return True
        asked_at = max(self._since(peer), self._awake_since)
        if now - asked_at >= self.ack_timeout_s and now - silent_since >= self.lease_s:
            return True
        if now - asked_at < self.ack_timeout_s or peer.echoed >= asked_at:
            peer.muted_at = 0.0  # if it has heard the question, it is others who do not answer
            return False
        # We hear it, but it does not answer: perhaps it does not hear us. Before we may go on
        # without it its lease must end, which what we say might prolong.
        if not peer.muted_at:
            peer.muted_at = now
        return now - max(peer.muted_at, self._awake_since) >= self.lease_s

    def _close_slow_links(self, now: float) -> None:
        for link in list(self.links):
            peer = link.peer
            if peer is None:
                if now - link.opened_at >= HANDSHAKE_S:
                    link.close("handshake")
            elif now - max(peer.heard_at, self._awake_since) >= 2 * SILENCE_S:
                link.close("silent")

    def _see_to_joining(self, now: float) -> None:
        if self.role == STARTING:
            busy = any(peer.channel is not None and peer.link for peer in self.peers.values())
            # A peer that has data but does not lead will, soon; one just linked will tell.
            busy = busy or any(
                peer.link is not None and peer.status.get("role") != STARTING
                for peer in self.peers.values()
            )
            # Who was there a moment ago, with data, is likely to come again.
            heard_at = max(
                (
                    peer.heard_at
                    for peer in self.peers.values()
                    if peer.status and peer.status["role"] != STARTING
                ),
                default=-inf,
            )
            alone_since = max(self._started_at, heard_at)
            overdue = now - alone_since >= self._sync_timeout_s and not busy
            # Who stood still has not heard yet what others had to say meanwhile.
            overdue = overdue and now - self._awake_since >= JOIN_GRACE_S
            if overdue or not self.settings_peers:
                self.go_alone()
        elif self.role == JOINING:
            leader = self.leader
            assert leader is not None
            if leader.link is not None and leader.channel is not None:
                self.leader_lost_at = now
            elif now - max(self.leader_lost_at, self._awake_since) >= JOIN_GRACE_S:
                self.go_alone()
        for peer in list(self.peers.values()):
            if peer.channel is None:
                if peer.joining and now - peer.asked_at >= JOIN_GRACE_S / 2:
                    peer.joining = False  # our question crossed with something; ask again
                self.membership.consider(peer)
                continue
            if not peer.in_view and (
                now - max(peer.heard_at, self._awake_since) >= SILENCE_S
                or self._is_stuck(peer, now)
            ):
                self.drop(peer)
                self.membership.announce_status()
            elif self.gate.leading and peer.flowing:
                self.membership.propose(peer, now)
            if peer.in_view and peer.lapses and now - peer.not_before >= 6 * READMIT_MAX_S:
                peer.lapses = 0

    def _is_stuck(self, peer: Peer, now: float) -> bool:
        """Return whether a resync makes no progress though the peer is there: begin it anew."""
        channel = peer.channel
        assert channel is not None
        if not channel.unacked or not peer.flowing:
            return False
        moved_at = max(channel.unacked[0].sent_at, peer.moved_at, self._awake_since)
        return now - moved_at >= 2 * SILENCE_S

    def _keep_in_touch(self, now: float) -> None:
        """Ping who has not heard of us, and keep leases while there is something to do."""
        active = now < self.gate.active_until
        for peer in self.peers.values():
            if peer.link is None:
                continue
            if active and peer.in_view:
                due = now - max(peer.echoed, peer.pinged_at) >= self.lease_s / 2
            else:
                due = now - max(peer.last_sent_at, peer.pinged_at) >= HEARTBEAT_S
            if due:
                peer.pinged_at = now
                peer.signal(now, Kind.PING)

    def _flush_when_due(self) -> None:
        changes = self.changes
        if self.gate.leading and 0 < changes.flush_due_at <= self.clock.realtime():
            self.cache.flush()
            self.cache.counters.flush_cmds -= 1  # it was counted when it was asked for

    def drained(self) -> bool:
        """Return whether every node that we are linked to has acknowledged what we sent."""
        return all(
            peer.channel is None or peer.link is None or not peer.channel.unacked
            for peer in self.peers.values()
        )

    def look_after_leader(self, patience_s: float) -> None:
        """Have the coordinator show that it is there, for those who wait at it instead of here.

        To be called again and again. A coordinator that has said nothing for so long is asked as if
        a client waited for it here.
        """
        leader = self.leader
        if self.role != FOLLOWER or leader is None or leader.link is None:
            return
        now = self.clock.monotonic()
        if now - max(leader.heard_at, self._awake_since) < patience_s:
            leader.pinged_at = now
            leader.signal(now, Kind.PING)
        elif not self.gate.waiting:
            self.gate.wait_open(Nobody())
        self.wake()

    def announce_welcome(self, welcoming: bool) -> None:
        """Tell the others whether they may send their clients here: not yet, now, no more."""
        self.welcoming = welcoming
        self.membership.announce_status()

    def leave(self) -> bool:
        """Let the others go on at once, without this node; False: call again a little later.

        From the first call on nothing is executed for others: they come again when they learn that
        this node has left, which it does when everything is acknowledged. The host then closes.
        """
        self.gate.retired = True
        self.gate.flush()
        if not self.drained():
            return False
        for peer in self.peers.values():
            if peer.channel is not None:
                self.drop(peer)
        self.followers.clear()
        self.leader = None
        self.set_role(STARTING)
        self.membership.announce_status()
        return True

    @property
    def awaited(self) -> bool:
        """Whether a node that we are linked to is still to be brought in sync by this one."""
        return self.gate.leading and any(
            peer.link is not None and not peer.in_view for peer in self.peers.values()
        )

    def rows(self) -> Rows:
        """Return the rows of `stats replication`."""
        return node_rows(self)

    @property
    def in_sync(self) -> bool:
        """Whether some other node holds everything that we do."""
        return self.role in (COORDINATOR, FOLLOWER)

    @property
    def degraded_now_s(self) -> float:
        """Return for how long now clients have been served unprotected; 0: they are not."""
        since = self.degraded_since
        return 0.0 if since is None else self.clock.monotonic() - since

    @property
    def degraded_s(self) -> float:
        """Return how long clients were served unprotected, in all."""
        return self._degraded_s + self.degraded_now_s
