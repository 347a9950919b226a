"""This server as a member of a group: who decides, who is in sync, when to wait and when not.

`Gate` is the side of the node that connections see, `Membership` what it has to do with the others,
`View` what it is and who is with it. Here its role changes (`roles` has the table), and time goes
on.

Roles. A node is *starting* until it is in sync with somebody or knows that there is nobody;
*alone* when it serves by itself; in a view it is *coordinator* or *follower*. A node that was
ready and learns that the others went on without it is *joining*: it forwards everything, reads
too, until it is in sync again.

Deposed. What a coordinator executed and nobody acknowledged is taken back: the keys are
forgotten and asked of the new coordinator, and the commands are executed again, there.

Stood still. Who was frozen for longer than `STALE_S`, and then finds that the others went on, may
have requests before it whose clients have long turned to another node. What that one has
acknowledged since must not be undone: connections with anything unexecuted are closed.

Behind. Who stood still for longer than a peer may be silent has certainly been left behind, and
what it holds is as old: it waits for the others as a node does that just starts. So does who was
joining another for that long and loses it.

Three nodes. The coordinator waits for all followers. When it dies, the follower goes on that has
the consent of another one, and they join it, see `voting`. Where no node was told of all the others
(each names one, say) there is no vote, and the follower with the smallest id that the others can
see goes on.

What is forwarded is the command, not the store operation: a meta command is several of those.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import inf
from typing import TYPE_CHECKING, Final

from .beginning import Beginning
from .changes import Changes
from .clocks import LOOK_MAX_S
from .gate import Gate
from .lease import HEARTBEAT_S, SILENCE_S, STALE_S, Patience, Wakefulness
from .membership import Membership
from .peer import Phase
from .report import Degradation, group_rows
from .roles import ALONE, COORDINATOR, FOLLOWER, JOINING, STARTING, WAITING, Role
from .versions import CLOCK_SKEW_MAX_S, FOREVER, tag_of, version_at
from .view import View
from .voting import Voting

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..clock import Clock
    from ..config import Settings
    from ..store import Cache
    from .channel import Unacked
    from .etcd import Courier
    from .gate import Executor, Rows
    from .messages import Status
    from .peer import Peer

#: Whatever is due: nobody is woken all the time.
SHORTEST_STEP_S: Final = 0.0005
#: While clients are served, leases are kept warm: how often we look.
ACTIVE_STEP_S: Final = 0.02
HANDSHAKE_S: Final = 2.0
#: How long a node that lost the one it was joining waits for it, before it serves what it has.
JOIN_GRACE_S: Final = 1.0
#: Who leaves waits for so long for one that it has just lost the link to.
REDIAL_S: Final = 1.0
#: Who leaves stays for so long, for those whom he leaves to go on with his consent.
CONSENT_S: Final = 0.25
#: A peer that was lost again and again is taken back later each time.
READMIT_MIN_S: Final = 0.25
READMIT_MAX_S: Final = 10.0
#: Lines in the log about the same trouble.
COMPLAIN_EVERY_S: Final = 60.0
TOMBSTONES_EXPIRE_EVERY_S: Final = 1.0
NO_ANSWER: Final = "no answer in time"


@dataclass(frozen=True, slots=True, kw_only=True)
class Host:
    """What a node asks of the server around it. Called from within the core: nothing calls back."""

    #: Has `step` called soon.
    wake: Callable[[], None]
    #: Lets clients in, from now on.
    ready: Callable[[], None]
    #: Parts from the clients: everything that they have sent so far is out of date.
    drop_stale: Callable[[], None]
    #: It may have changed who serves: our role, who is in sync, whom we reach.
    view_changed: Callable[[], None]
    log: Callable[[str], None]
    #: Return for how long the machine has been suspended so far, while the clock stood still.
    suspended_s: Callable[[], float]
    #: Carries what is asked of an etcd, where one is the witness.
    etcd: Courier | None = None


class Told:
    """What a follower had been told when we parted from it: it perhaps has more than we know."""

    def __init__(self, peer: Peer, unacked: list[Unacked]) -> None:
        self._channel = peer.left.epoch
        self._acked_ticket = peer.acked_ticket
        self._batches = [(each.number, each.ticket) for each in unacked if each.ticket]

    def ticket_at(self, peer: Peer) -> int:
        """Return up to which batch it has all, by what it has said since of that channel."""
        status = peer.status
        if status is None or status.left.epoch != self._channel:
            return self._acked_ticket
        received = status.left.received
        tickets = [ticket for number, ticket in self._batches if number <= received]
        return max(tickets, default=self._acked_ticket)


class Node:
    """This server, as a member of a group. See the module."""

    def __init__(
        self,
        cache: Cache,
        settings: Settings,
        clock: Clock,
        host: Host,
        *,
        node_id: str,
        secret: bytes | None,
        entropy: Callable[[int], bytes],
        execute: Executor,
    ) -> None:
        self.cache = cache
        self.clock = clock
        self.host = host
        self.configured = tuple(settings.peers)  #: addresses of the others
        self.patience = Patience(settings.replication_ack_timeout_s)
        self._ack_timeout_s = settings.replication_ack_timeout_s
        self._sync_timeout_s = settings.sync_timeout_s
        self._tombstone_ttl_s = settings.tombstone_ttl_s

        self.view = View(node_id, settings.replication_ack)
        self.changes = Changes(
            cache,
            clock,
            tag=tag_of(node_id),
            backlog_bytes=settings.replication_backlog_bytes,
            leads=lambda: self.view.role.leads,
        )
        self.ready = False
        self.draining = False  #: it was told to stop, and goes on for a while
        self.awake = Wakefulness()
        self._suspended_s = host.suspended_s()  #: so far, as we know
        self._stepped_at = clock.monotonic()
        self.degradation = Degradation(clock)
        self.beginning = Beginning(
            self.view,
            self.configured,
            sync_timeout_s=settings.sync_timeout_s,
            force_empty=settings.force_empty,
        )
        self.went_on_at = clock.monotonic()  #: when we last decided to go on without somebody
        self.leader_lost_at = -inf
        #: Since when the others may have gone on without us, and we lack that; infinity: they have
        #: not, or we are the one who decides.
        self.behind_since = inf
        self._tombstones_expired_at = -inf
        self._complaints: dict[str, float] = {}
        self.gate = Gate(
            self.view,
            self.changes,
            clock,
            self.patience,
            execute,
            queue_max=settings.replication_queue,
            has_peers=bool(self.configured),
            expect_step=self.expect_step,
            resynchronise=lambda peer: self.membership.begin_resync(peer),
            rows=self.rows,
            forget=lambda node_id: self.membership.forget(node_id),
        )
        self.membership = Membership(
            self,
            settings=settings,
            secret=secret,
            entropy=entropy,
        )

        self.voting = Voting(self, self.membership.incarnation, settings, entropy)
        self._force_empty = settings.force_empty
        self._quorum_timeout_s = settings.quorum_timeout_s
        self._losing: list[Peer] = []  #: of our view; to go on without them others must consent
        self._only_silent = False  #: that is all that is wrong with these
        self._left_at = inf  #: in order
        self.consents_from = -inf  #: until then somebody may answer by our word, who left
        self._gave_way_at = -inf  #: when another one that would decide had our consent
        #: Who was left of our view, as we parted from the former life of one of it, and what they
        #: had been told by then.
        self._left_with: dict[Peer, Told] = {}

    def start(self) -> None:
        """Begin to count `--sync-timeout`, and to look for the others."""
        self.beginning.started_at = self.clock.monotonic()
        self.note_departures()
        self.membership.consider_all()

    @property
    def is_losing(self) -> bool:
        """Whether we would go on without somebody of our view, and may not yet."""
        return bool(self._losing)

    @property
    def is_followed(self) -> bool:
        """Whether one that we do not lose may answer by our word."""
        return any(peer not in self._losing for peer in self.view.followers)

    @property
    def role(self) -> Role:
        """What this node is now."""
        return self.view.role

    def expect_step(self, deadline: float) -> None:
        """Have `step` called at that time, unless it will be before."""
        if self.awake.next_step_at > deadline:
            self.awake.next_step_at = deadline
            self.host.wake()

    def step_soon(self) -> None:
        """Have `step` called as soon as what is being done now has come to its end."""
        self.expect_step(self.clock.monotonic())

    # -- its role ------------------------------------------------------------------------------

    def become(self, role: Role) -> None:
        """Become something else; what follows from that for the connections."""
        before = self.role
        if before is FOLLOWER:
            self._note_followers()
        self.view.become(role)
        if role in (ALONE, STARTING):
            self.behind_since = inf
        self.gate.unheard_since = inf
        if role is not ALONE:
            self.gate.forget_unheld()
        if role is JOINING:
            self.gate.joining_since = self.clock.monotonic()
            self.gate.hand_on()
        if not role.leads and role is not WAITING:
            self.voting.drop()
        self._losing.clear()
        self._left_with = {}
        if role in (ALONE, JOINING, WAITING):
            # Nobody else decides; or nothing is executed here, but forwarded, which decides.
            self.gate.open_until = inf
        elif role is STARTING:
            self.gate.open_until = -inf
        self.note_departures()
        if role.in_sync:
            self.patience.decided_by(self._timeout_of_who_decides())
        if not self.ready and role in (ALONE, COORDINATOR, FOLLOWER):
            self.ready = True
            self.host.ready()
        wanted = any(self.view.who.get(peer) != "" for peer in self.configured)
        if self.degradation.note(self.ready and wanted and role in (ALONE, JOINING, WAITING)):
            self.gate.unprotected_now = 0
        if before is not role:
            self._tell_role(before)
        self.host.view_changed()

    def _timeout_of_who_decides(self) -> float:
        hello = None if self.view.leader is None else self.view.leader.hello
        theirs_ms = 0 if hello is None else hello.ack_timeout_ms
        return theirs_ms / 1000 or self._ack_timeout_s  # it is this node, or does not say

    def _tell_role(self, before: Role) -> None:
        others = ", ".join(each for each in self.view.members if each != self.view.node_id)
        if self.role is ALONE and before is STARTING:
            line = "serving alone: there is no other node with data"
        elif self.role is ALONE and (before is not COORDINATOR or self.configured):
            line = "serving alone, unprotected, until a peer is in sync"
        elif self.role is COORDINATOR:
            line = f"in sync with {others}; this node coordinates"
        elif self.role is FOLLOWER:
            line = f"in sync; {self.view.coordinator} coordinates"
        elif self.role is JOINING:
            line = "others went on without this node; it joins them again"
        elif self.role is WAITING:
            line = "serving nobody: most votes of the last view are not to be had"
        else:
            return
        self.host.log(f"replication: {line}")

    def note_departures(self) -> None:
        """See who may lack what: deletions must be kept for them."""
        view, peers = self.view, self.view.peers.values()
        away = {peer.node_id for peer in peers if peer.is_met and not peer.in_view}
        with_us = self._with_us()
        # So they are for who is configured and was not met since we started: it may have lived on.
        self.changes.tombstones.shared = not away and view.are_all(self.configured, with_us)
        lacks_after = [peer.lacks_after for peer in peers]
        if not view.are_all(self.configured, with_us | away):
            lacks_after.append(0)
        self.changes.departed_version = min(lacks_after, default=FOREVER)
        if not any(peer.known and not peer.in_view for peer in peers):
            self.changes.end_log()

    def _with_us(self) -> set[str]:
        """Return the peers that are in our view."""
        view = self.view
        with_us = {peer.node_id for peer in view.peers.values() if peer.in_view}
        if self.role is FOLLOWER:
            with_us.update(view.members)
            with_us.discard(view.node_id)
        return with_us

    def lose(self, lost: list[Peer], reason: str, *, only_silent: bool = False) -> None:
        """Go on without these peers of our view, when that may be.

        `only_silent`: for all that is known they are in it still.
        """
        if not self.voting.required:
            self._go_on_without(lost, reason)
            return
        self._only_silent = only_silent and (self._only_silent or not self._losing)
        if all(peer in self._losing for peer in lost):
            return
        self._losing += [peer for peer in lost if peer not in self._losing]
        now = self.clock.monotonic()
        for peer in lost:
            peer.lease.mute(now, inf)
        for peer in self.view.peers.values():
            if peer.phase is Phase.PROPOSED:
                peer.become(Phase.HOSTING)  # one after the other
        self._seek_without(reason)

    def _seek_without(self, reason: str) -> None:
        losing = list(self._losing)
        others = [peer for peer in self.view.followers if peer not in losing]
        self.voting.seek(lambda: self._go_on_without(losing, reason), *others)

    def stay_with(self, peer: Peer) -> bool:
        """Go on with a peer that we would have gone on without, as it answers; False: it is lost.

        A coordinator can go on with the consent of one that lapses again and again, or answers too
        late for any lease. A follower would not get that.
        """
        now, channel, lease = self.clock.monotonic(), peer.channel, peer.lease
        late = now - lease.heard_us_at >= self.patience.word_s
        if (
            peer not in self._losing
            or not self._only_silent
            or channel is None
            or channel.broken
            or not channel.flowing
            or self._is_flapping(peer, now)
            or (self.role is COORDINATOR and (late or now < peer.not_before))
        ):
            return False
        self.complain(
            f"silent {peer.node_id}",
            f"replication: {peer.node_id} did not answer in time{self._hint(peer)}; it does now,"
            " and nobody has gone on",
        )
        self._note_lapse(peer, now)
        self._losing.remove(peer)
        lease.unmute()
        self.voting.drop()
        if self._losing:
            self._seek_without(NO_ANSWER)
        elif self.role is COORDINATOR:
            # Who has consented to what we asked is to have a vote in what follows.
            self.voting.seek(self.membership.announce_roll, *self.view.followers, planned=True)
        return True

    def _go_on_without(self, lost: list[Peer], reason: str) -> None:
        view = self.view
        now = self.clock.monotonic()
        self._losing.clear()
        for peer in lost:
            peer.last_error = reason
            how = "left" if reason == "left" else f"does not answer ({reason}{self._hint(peer)})"
            self.complain(
                f"lost {peer.node_id}",
                f"replication: {peer.node_id} {how}; going on without it",
            )
            if peer.link is None:
                continue  # the link's fault: nobody is slow
            self._note_lapse(peer, now)
        self.degradation.count += 1
        if self.role is COORDINATOR:
            unacked = [message for peer in lost for message in self.drop(peer)]
            if not view.followers and self._is_told_late(reason):
                for peer in view.peers.values():
                    self.drop(peer)  # who does not lead brings nobody in sync
                self._doubt(unacked, *lost)
                self._rejoin(lost[0])
            else:
                if not view.followers:
                    keys, flushed = self._untold(unacked)
                    self.gate.note_unheld(keys, flushed=flushed)
                self._lead_on()
        else:
            leader = view.leader
            assert leader is not None
            self.drop(leader)
            successor = None if self.voting.required else self._successor(leader)
            if successor is None and self._is_told_late(reason):
                self._rejoin(leader)
            elif successor is None:
                self.go_alone()
            else:
                self._rejoin(successor)

    def _note_lapse(self, peer: Peer, now: float) -> None:
        peer.lapses += 1
        peer.not_before = now + min(READMIT_MAX_S, READMIT_MIN_S * 2 ** (peer.lapses - 1))

    def _is_told_late(self, reason: str) -> bool:
        """Return whether a peer that is lost, as it says itself, may have others with it by now."""
        if reason not in ("left", "restarted", "went on") or self.voting.required:
            return False
        self._note_lateness(self.clock.monotonic())  # it may be the first that we hear
        return self.is_behind

    def _hint(self, peer: Peer) -> str:
        """Return in words what a slow link has to do with the loss of a peer, if it has."""
        ack_timeout_s = self.patience.ack_timeout_s
        if peer.link is None or peer.answer_s < ack_timeout_s / 2:
            return ""
        return (
            f": answers took up to {peer.answer_s * 1000:.0f} ms, and --replication-ack-timeout"
            f" is {ack_timeout_s * 1000:.0f} ms"
        )

    def part(self, peer: Peer, why: str) -> None:
        """Give up the channel with a peer, of which we could not take something, for a while."""
        self.complain(
            f"part {peer.node_id}",
            f"replication: cannot take what {peer.node_id} sends ({why}); parting from it",
        )
        assert peer.channel is not None
        peer.channel.break_off(why)
        self._give_up(peer)

    def _give_up(self, peer: Peer) -> None:
        """Give up a channel that is broken off, and the peer for a while.

        Who follows us is to have heard of that, or to answer nobody any more: until its lease has
        ended we do nothing that it may not know.
        """
        now, channel = self.clock.monotonic(), peer.channel
        assert channel is not None
        first = channel.broken_at == inf
        if first:
            channel.broken_at = now
            peer.last_error = channel.broken
            peer.lapses += 1
            peer.not_again_before = now + min(READMIT_MAX_S, READMIT_MIN_S * 2 ** (peer.lapses - 1))
        if not peer.in_view:
            self.drop(peer)
            self.membership.announce_status()
        elif self.role is COORDINATOR:
            if first:
                peer.lease.mute(now, inf)
                self.expect_step(now + self.patience.lease_s)
        else:
            self.drop(peer)
            self.degradation.count += 1
            self._rejoin(peer)

    def _see_to_broken(self) -> None:
        """Give up the channels on which something could not be sent."""
        for peer in list(self.view.peers.values()):
            channel = peer.channel
            if channel is not None and peer.in_view and peer.resync.is_outrun:
                channel.untold = True
                channel.break_off("what was deleted meanwhile")
            if channel is not None and channel.broken:
                if channel.broken_at == inf:
                    self.complain(
                        f"part {peer.node_id}",
                        f"replication: cannot tell {peer.node_id} what it is to know"
                        f" ({channel.broken}); parting from it",
                    )
                self._give_up(peer)

    def told_to_part(self, peer: Peer, why: str) -> None:
        """Take note that a peer could not take something of what we sent."""
        peer.last_error = why
        self.complain(
            f"told to part {peer.node_id}",
            f"replication: {peer.node_id} cannot take what this node sends ({why}); it has parted",
        )

    def _lead_on(self) -> None:
        """Decide for who is left, now that followers are gone."""
        view = self.view
        if not view.followers:
            self.go_alone()
            return
        now = self.clock.monotonic()
        view.epoch = view.next_epoch(self.changes.tag)
        self.went_on_at = now
        self.become(COORDINATOR)
        self.gate.refresh_lease(now)
        self.gate.advance()
        self.membership.announce_view(now)

    def drop(self, peer: Peer) -> list[Unacked]:
        """Take a peer out of our view, or give up its resync."""
        in_view, resync, channel = peer.in_view, peer.resync, peer.channel
        peer.has_left = in_view and peer.status is not None and peer.status.role is STARTING
        unacked = peer.leave_channel()
        self.gate.stop_staging(peer)
        # What was still to be sent is in no list of keys, nor is what could not be.
        untold = channel is not None and channel.untold
        lacks_more = resync.todo is not None or untold
        if in_view:
            lacking = [key for message in unacked for key in message.keys or ()] + [*resync.behind]
            lacks = bool(lacking) or self.changes.pending or lacks_more
            peer.departed_version = peer.acked_version if lacks else self.cache.cas_unique
            self.changes.tombstones.note_unacknowledged(peer.departed_version)
            if lacks_more:
                self.changes.begin_log((), self.changes.sequence)
            else:
                self.changes.begin_log(lacking, max(peer.acked_sequence, 0))
            if peer in self.view.followers:
                self.view.followers.remove(peer)
            self.membership.be_alike()
        if untold or (in_view and lacks_more):
            peer.acked_sequence = -1
        self.changes.tombstones.told_a_part(peer.node_id)
        self.note_departures()
        if in_view:
            self._leave_traces(unacked, peer.acked_version)
        self.host.view_changed()
        return unacked

    def _leave_traces(self, unacked: list[Unacked], version: int) -> None:
        """Have items that have changed, and are gone by now, leave a trace for a peer that is lost.

        What is as old as that version it has, and may not keep. What it perhaps did receive, it
        may: that was evicted here.
        """
        for message in unacked:
            self.changes.leave_traces(message.keys or {}, version)
            version = message.version or version
        self.changes.leave_traces(self.changes.fresh, version)

    def _successor(self, leader: Peer) -> Peer | None:
        """Return who is to go on when the coordinator of several is gone; None: we are."""
        reachable = [
            peer
            for peer in self.view.peers.values()
            if peer is not leader and peer.link is not None and peer.node_id in self.view.members
        ]
        first = min(reachable, key=lambda peer: peer.node_id, default=None)
        return None if first is None or first.node_id > self.view.node_id else first

    def begin(self) -> None:
        """Decide by ourselves, when that may be; so far we decide nothing."""
        voting, starts = self.voting, self.role is STARTING
        forced = self._force_empty and starts
        if (
            self.clock.monotonic() - self._gave_way_at < JOIN_GRACE_S
            or voting.ballot.poll is not None
            or self._left_at < inf
        ):
            return
        if forced or not (starts and voting.promised):
            voting.seek(self.go_alone, forced=forced)

    def wait(self) -> None:
        """Serve nobody, keep what there is, and go on asking."""
        view = self.view
        unacked: list[Unacked] = []
        followers, followed = list(view.followers), self.is_followed
        for peer in view.peers.values():
            peer.stop_asking()
            if peer.channel is None:
                continue
            left = self.drop(peer)
            unacked += left if peer in followers else ()
        if self.role is COORDINATOR:
            self._doubt(unacked, *followers)
        self._let_go(followers, one_answers=followed)
        self._drop_stale()
        self.become(WAITING)
        asked = self.voting.ballot.poll is not None
        self.voting.drop()  # what was asked for was to follow from what we are no more
        self.gate.refuse_all()
        self.membership.ask_status()
        if asked and not followed:
            self.voting.seek(self.go_alone)

    def _let_go(self, followers: list[Peer], *, one_answers: bool) -> None:
        """Decide for these no more: they answer by our word no longer than they may as it is.

        `one_answers`: so one of them may, and another one hear of this before. Until that has
        ended we consent to nothing, nor ask.
        """
        now = self.clock.monotonic()
        for peer in followers:
            peer.lease.mute(now, inf)
        if one_answers:
            self.consents_from = now + self.patience.lease_s

    def join_again(self, peer: Peer) -> None:
        """Join who decides now, after we have waited."""
        self._rejoin(peer)

    def _note_followers(self) -> None:
        """Take note that who was in sync with our coordinator was so with us.

        We never told each other.
        """
        coordinator, common_version = self.view.coordinator, self.gate.common_version
        for node_id in self.view.members:
            if node_id in self.view.peers and node_id != coordinator:
                self.view.peers[node_id].was_in_sync(coordinator, common_version)
                self.changes.tombstones.note_unacknowledged(common_version)

    def begin_again_with(self, peer: Peer) -> None:
        """Part from the former life of a peer of our view: only its new one may let us go on."""
        followers = list(self.view.followers)
        unacked = {each: self.drop(each) for each in followers}
        for other in self.view.peers.values():
            self.drop(other)  # who does not lead brings nobody in sync
        left = [each for each in followers if each is not peer]
        if self.role is COORDINATOR:
            messages = [message for each in left or followers for message in unacked[each]]
            self._doubt(messages, *(left or followers))
        self._rejoin(peer)
        # Whoever goes on, if not we, has what those have who are left.
        self._left_with = {each: Told(each, unacked[each]) for each in left}

    def settle(self) -> None:
        """Answer what was executed here, and those have whom whoever takes us in has been with.

        It happened: it is not to be executed there again.
        """
        if self._left_with:
            ticket = min(told.ticket_at(peer) for peer, told in self._left_with.items())
            self._left_with = {}
            self.gate.has_happened(ticket)

    def is_promised_no_more(self) -> None:
        """Ask on for ourselves: the one who had our consent to decide needs it no more."""
        self._gave_way_at = -inf
        if self._losing and self.voting.ballot.poll is None:
            self._seek_without(NO_ANSWER)

    def gave_way(self, peer: Peer, *, with_us: bool) -> None:
        """Take note that a peer has our consent to decide; `with_us`: we are in its view."""
        now = self.clock.monotonic()
        self._gave_way_at = now
        if self.role is FOLLOWER and peer is not self.view.leader:
            assert self.view.leader is not None
            self.drop(self.view.leader)
            self._rejoin(peer)
        elif self.role is FOLLOWER and with_us:
            self._losing.clear()
            peer.lease.unmute()
            self.voting.drop()
        elif not self.role.in_sync and self.role is not WAITING:
            self.voting.drop()

    def go_alone(self) -> None:
        """Decide by ourselves from now on."""
        view = self.view
        self._drop_stale()
        view.epoch = view.next_epoch(self.changes.tag)
        self.went_on_at = self.clock.monotonic()
        for peer in view.peers.values():
            if peer.channel is not None and not (view.role.leads and not peer.in_view):
                self.drop(peer)
        # Had we begun to leave: who comes back is served until it is in sync, and we begin again.
        self.gate.retired = False
        self.become(ALONE)
        self.membership.stand_by()
        self.gate.take_over()
        self.gate.refuse_held()
        self.gate.advance()
        self.membership.announce_status()
        self.gate.decide_open_questions()

    def deposed(self, peer: Peer, status: Status, *, sent_at: float) -> None:
        """Learn that a peer went on without us, having received so much of what we sent."""
        view, gate = self.view, self.gate
        now = self.clock.monotonic()
        self.complain(
            "deposed", f"replication: {peer.node_id} went on without this node for a while"
        )
        self.degradation.count += 1
        self._note_lateness(now)
        # While nothing is due, a pause seems shorter than it is: when did the other one go on? What
        # it said of that may have been waiting for us ever since.
        missed_s = status.alone_s + now - sent_at
        self.awake.overslept = self.awake.overslept or missed_s >= STALE_S
        self._fall_behind(now - missed_s)
        was_coordinator = self.role is COORDINATOR
        waited_since = gate.waits_since(peer)
        if was_coordinator and peer.channel is not None:
            self.membership.acknowledged(peer, peer.channel, status.left.received, now)
        unacked = {
            other: self.drop(other)
            for other in list(view.peers.values())
            if other.channel is not None
        }
        if was_coordinator:
            # What the new coordinator has seen did happen, whatever others have seen.
            gate.commits.release(peer.acked_ticket)
            self.changes.doubt_flush_due(peer.acked_version)
            self._doubt(unacked.get(peer, []), peer)
        self._rejoin(peer, waited_since)

    def _doubt(self, unacked: list[Unacked], *others: Peer) -> None:
        """Leave open whether what was executed here, and these have not seen, is to stand."""
        keys, flushed = self._untold(unacked)
        known_up_to = min(each.acked_version for each in others)
        for peer in self.view.peers.values():
            if peer.node_id in self.view.members:  # acknowledged or not
                peer.has_doubted = True
        self.membership.doubt(keys, flushed=flushed, known_up_to=known_up_to)
        self.gate.take_back()

    def _untold(self, unacked: list[Unacked]) -> tuple[dict[bytes, None], bool]:
        """Return what has changed here and others have not seen; and whether there was a flush."""
        keys = dict.fromkeys(self.changes.fresh)
        flushed = self.changes.fresh_flush
        for message in unacked:
            keys.update(dict.fromkeys(message.keys or ()))
            flushed = flushed or message.has_flush
        return keys, flushed

    def _rejoin(self, peer: Peer, waited_since: float = inf) -> None:
        """Come in sync again with a peer that decides, or soon will.

        Clients have waited for its word since then: if it does not hear us, not once more.
        """
        self._drop_stale()
        self.view.leader = peer
        self.leader_lost_at = self.clock.monotonic()
        self.become(JOINING)
        self.gate.unheard_since = waited_since
        self._fall_behind(self.leader_lost_at)
        self.gate.resume_waiting()
        self.membership.announce_status()
        self.membership.consider(peer)

    def _drop_stale(self) -> None:
        """Part from the clients that asked before or while this node stood still, if it did."""
        if self.awake.overslept:
            self.awake.overslept = False
            self.complain(
                "stale",
                "replication: this node stood still; clients that asked meanwhile are disconnected",
            )
            self.gate.abandon()
            self.host.drop_stale()

    def complain(self, about: str, line: str) -> None:
        """Log, but once a minute about the same."""
        now = self.clock.monotonic()
        if now - self._complaints.get(about, -inf) >= COMPLAIN_EVERY_S:
            if len(self._complaints) > 100:
                self._complaints.clear()
            self._complaints[about] = now
            self.host.log(line)

    def link_lost(self, peer: Peer) -> None:
        """Take note that a peer's link is gone: it may come again, for as long as we can wait."""
        if peer is self.view.leader:
            self.leader_lost_at = peer.link_lost_at
        self.expect_step(peer.link_lost_at + self.patience.ack_timeout_s)
        self.host.view_changed()

    # -- what it has missed --------------------------------------------------------------------

    def _fall_behind(self, since: float) -> None:
        """Take note that others may have gone on without us at that time."""
        if self.role not in (ALONE, STARTING):
            self.behind_since = min(self.behind_since, since)

    @property
    def is_behind(self) -> bool:
        """Whether what is here was left behind for so long that it is not to be served."""
        last_missed_at = self.awake.woke_at
        if self.role is JOINING:
            last_missed_at = max(last_missed_at, self.leader_lost_at)
        return last_missed_at - self.behind_since >= SILENCE_S

    def _has_caught_up(self) -> bool:
        """Return whether we have what the others have, and they know that we are there."""
        return all(
            peer.lease.echoed >= self.awake.since and (peer.in_view or peer.resync.got_all)
            for peer in self.view.partners()
        )

    # -- time ----------------------------------------------------------------------------------

    def step(self) -> float:
        """Do what is due; return in how many seconds to call again."""
        now = self.clock.monotonic()
        self._note_lateness(now)
        try:
            self._do_what_is_due(now)
            self.gate.send_batch()
        finally:  # without memory for it, too: we have not stood still
            delay = self._delay(now)
            self.awake.next_step_at = now + delay
            self._stepped_at = now
        if self.gate.mishap is not None:
            mishap, self.gate.mishap = self.gate.mishap, None
            raise mishap
        return delay

    def _do_what_is_due(self, now: float) -> None:
        awake = self.awake
        if awake.overslept and all(
            peer.lease.echoed >= awake.since for peer in self.view.partners()
        ):
            awake.overslept = False  # and the others have not gone on without us
        if self.behind_since < inf and self._has_caught_up():
            self.behind_since = inf
        self._close_slow_links(now)
        self._see_to_broken()
        if self.gate.deferred:
            self.gate.execute_deferred()
            if self.gate.deferred:
                self.host.wake()
        heard = not self._leader_is_muted
        lost = [
            peer
            for peer in self.view.partners()
            if peer not in self._losing and self._is_lost(peer, now)
        ]
        if lost and self.role.in_sync:
            # Who has the votes knows that nobody went on.
            if (
                self.is_behind
                and not self.voting.required
                and now - awake.woke_at < self._sync_timeout_s
            ):
                self._say_behind()
                self.gate.part(now)
            else:
                broken = lost[0].channel.broken if lost[0].channel is not None else ""
                silent = NO_ANSWER if lost[0].link else "the link is down"
                self.lose(lost, broken or silent, only_silent=not broken)
        elif self.role is JOINING:
            self._see_to_clients(now, leader_lost=bool(lost))
        elif (heard and self._leader_is_muted) or self._is_leader_overdue(now):
            self.voting.doubt_leader()
        self._see_to_joining(now)
        self._see_to_votes(now)
        self._keep_in_touch(now)
        self._flush_when_due()
        self._look_at_wall_clock()
        if now - self._tombstones_expired_at >= TOMBSTONES_EXPIRE_EVERY_S:
            expired = version_at(self.changes.version_clock.now() - self._tombstone_ttl_s, 0)
            if self.changes.tombstones.expire(expired):
                self.host.wake()
            else:
                self._tombstones_expired_at = now
                self.membership.forget_replaced(now, self._tombstone_ttl_s)
        if self.changes.discarded.dispose():
            self.host.wake()

    def _is_lost(self, peer: Peer, now: float) -> bool:
        """Return whether a peer of our view is to be given up."""
        channel = peer.channel
        if channel is not None and channel.broken and self.role is COORDINATOR:
            return now >= channel.broken_at + self.patience.lease_s
        if self._is_flapping(peer, now):
            return now >= max(peer.lease.muted_at, self.awake.since) + self.patience.lease_s
        asked_at, moved_at = self.gate.waits_since(peer), peer.moved_at
        if channel is not None:
            moved_at = max(moved_at, channel.part_arrived_at)
        return peer.lease.is_lost(now, asked_at, self.awake, self.patience, moved_at=moved_at)

    def _is_flapping(self, peer: Peer, now: float) -> bool:
        """Return whether links to a peer come up, and none lasts until it has answered.

        Whatever it says over each, and whatever of us it has heard: who asked before the last two
        has waited long enough. As ever its lease must end before we go on.
        """
        asked_at = max(self.gate.waits_since(peer, at_all=True), self.awake.since)
        muted_from = asked_at + self.patience.ack_timeout_s + self.patience.mute_s
        if peer.linked_before_at <= asked_at or now < muted_from:
            return False
        if not peer.lease.muted_at:
            peer.lease.mute(now, inf)
        return True

    @property
    def _leader_is_muted(self) -> bool:
        """Whether the coordinator of our view has not answered for a while."""
        leader = self.view.leader
        return self.role is FOLLOWER and leader is not None and leader.lease.muted_at > 0.0

    def _is_leader_overdue(self, now: float) -> bool:
        """Return whether we have waited long enough for the coordinator, as of this step.

        It may have heard us, and wait for another one. If it fails as well before it has gone on
        without that one, others are not to begin only then to wait for it.
        """
        leader = self.view.leader
        if self.role is not FOLLOWER or leader is None:
            return False
        asked_at = max(self.gate.waits_since(leader), self.awake.since)
        return self._stepped_at < asked_at + self.patience.ack_timeout_s <= now

    def _see_to_clients(self, now: float, *, leader_lost: bool) -> None:
        """Part from clients of a node that joins whom nobody answers: they have waited once.

        What is here is out of date, and the one that we join may well go on: it needs no lease of
        ours. So we do not act without it as soon as one that is in sync.
        """
        gate, leader = self.gate, self.view.leader
        assert leader is not None
        if leader.lease.heard_us_at >= gate.unheard_since:
            gate.reopen()
        if not gate.somebody_waits:
            return
        since = max(gate.waits_since(leader), self.awake.since)
        taken_in = leader.channel is not None and leader.channel.flowing
        patience_s = self.patience.ack_timeout_s
        until = since + patience_s
        if any(peer is not leader and peer.link for peer in self.view.peers.values()):
            # Another one that is to go on waits first for the one that is lost, as we did. Where
            # there are votes it has done that, as it had ours; nor does one that leads, and has
            # heard that we would join it: it puts us off.
            until += patience_s
            leads = leader.status is not None and leader.status.role.leads
            heard = leader.lease.heard_us_at >= leader.asked_at
            if self.voting.required or (leads and heard):
                until = min(until, max(since, leader.asked_at) + patience_s)
        if (leader_lost or not taken_in) and now >= until:
            self.complain(
                "unanswered",
                f"replication: {leader.node_id} does not answer, and this node is not in sync; "
                "clients that wait are disconnected",
            )
            gate.part(since)

    def _note_lateness(self, now: float) -> None:
        before_s, self._suspended_s = self._suspended_s, self.host.suspended_s()
        suspended_s = max(0.0, self._suspended_s - before_s)
        late_s = self.awake.note(now, self.patience.ack_timeout_s / 4, suspended_s)
        if late_s:
            # While nothing was due it may have stood still as well.
            self._fall_behind(self._stepped_at - suspended_s)
            self.beginning.stood_still(now, late_s)

    def _say_behind(self) -> None:
        self.complain(
            "behind",
            "replication: others may have gone on without this node for longer than"
            f" {SILENCE_S:.0f} s: it answers nobody before it has found one of them, or none"
            f" for {self._sync_timeout_s:g} s (--sync-timeout)",
        )

    def _delay(self, now: float) -> float:
        view, gate, awake = self.view, self.gate, self.awake
        ack_timeout_s = self.patience.ack_timeout_s
        if not view.peers and not self.membership.links and self.role is ALONE:
            delay = HEARTBEAT_S if self.changes.flush_due_at else inf
            if self.configured:
                delay = min(delay, LOOK_MAX_S)
        elif now < gate.active_until or gate.somebody_waits or gate.retired:
            delay = min(ACTIVE_STEP_S, ack_timeout_s / 4)
            for peer in view.partners():
                asked_at = max(gate.waits_since(peer), awake.since)
                muted_at = max(peer.lease.muted_at, awake.since)
                for deadline in (
                    asked_at + self.patience.mute_s,
                    asked_at + ack_timeout_s,
                    muted_at + self.patience.lease_s,
                ):
                    if deadline > now:
                        delay = min(delay, deadline - now)
        else:
            delay = HEARTBEAT_S
            if self.role in (STARTING, JOINING, WAITING):
                delay = ACTIVE_STEP_S * 5
            for peer in view.partners():
                if peer in self._losing:
                    continue  # until others consent
                if peer.channel is not None and peer.channel.broken:
                    delay = min(delay, ACTIVE_STEP_S)
                deadline = max(peer.link_lost_at, awake.since) + ack_timeout_s
                if peer.link is None and self.role is not JOINING and not self.is_behind:
                    delay = min(delay, deadline - now)
            for peer in view.peers.values():
                if peer.channel is not None and now < peer.not_before:
                    delay = min(delay, peer.not_before - now)
                if peer.resync.dropping is not None:
                    delay = min(delay, ACTIVE_STEP_S)
                if peer.link is not None:
                    delay = min(delay, peer.lease.pinged_at + HEARTBEAT_S - now)
                    if now < peer.not_again_before:
                        delay = min(delay, peer.not_again_before - now)
        delay = min(delay, self.voting.next_step_s)
        if self.changes.flush_due_at and self.role.leads:
            delay = min(delay, self.changes.flush_due_at - self.cache.seconds_of(now))
        return max(delay, SHORTEST_STEP_S)

    def _close_slow_links(self, now: float) -> None:
        for link in list(self.membership.links):
            peer = self.membership.peer_of(link)
            if not link.proven:
                if now - link.opened_at >= HANDSHAKE_S:
                    link.close("handshake")
            elif peer is not None and peer.lease.silent_s(now, self.awake.woke_at) >= 2 * SILENCE_S:
                link.close("silent")

    def _waits_too(self, peer: Peer) -> bool:
        """Return whether a peer has not the votes to take us in: perhaps it is ours it lacks."""
        return peer.status is not None and peer.status.role is WAITING

    def _see_to_joining(self, now: float) -> None:
        view = self.view
        if self.role is STARTING:
            self._begin_when_overdue(now)
        elif self.role is JOINING:
            leader = view.leader
            assert leader is not None
            if leader.link is not None and (
                # Of what it has we could not take all: others have more than we do.
                leader.channel is not None or (leader.left_why and not self._waits_too(leader))
            ):
                self.leader_lost_at = now
            elif self.is_behind and not self.voting.required:
                self._say_behind()
                self._begin_when_overdue(now)
            elif now - max(self.leader_lost_at, self.awake.woke_at) >= JOIN_GRACE_S:
                self.begin()
        for peer in list(view.peers.values()):
            if peer.channel is None:
                if peer.put_off and now >= peer.not_again_before:
                    self.membership.invite(peer)
                if now - peer.asked_at >= JOIN_GRACE_S / 2:
                    peer.stop_asking()  # our question crossed with something; ask again
                self.membership.consider(peer)
                continue
            if not peer.in_view and (
                peer.lease.silent_s(now, self.awake.woke_at) >= SILENCE_S
                or self._is_stuck(peer, now)
            ):
                self.drop(peer)
                self.membership.announce_status()
            elif peer.channel.flowing:
                if peer.resync.under_way and not peer.channel.unacked:
                    self.membership.pump(peer, now)
                if peer.resync.dropping is not None:
                    self.membership.drop_more(peer, now)
                self.membership.propose(peer, now)
            if peer.in_view and peer.lapses and now - peer.not_before >= 6 * READMIT_MAX_S:
                peer.lapses = 0

    def _begin_when_overdue(self, now: float) -> None:
        """Serve what is here after `--sync-timeout`, unless somebody is known to have more."""
        since = self.beginning.started_at
        if self.role is JOINING:
            since = max(self.leader_lost_at, self.awake.woke_at)
        elif self.role is WAITING:
            since = max(self.voting.suspended_at, self.awake.woke_at)
        if not self.beginning.is_overdue(now, since, self.awake.woke_at):
            if self.beginning.somebody_has_more():
                self.voting.drop()
            return
        whose = self.beginning.whose_data()
        if not whose:
            self.begin()
            return
        what = "nothing" if self.role is STARTING else "what is out of date"
        self.complain(
            "held",
            f"replication: no client is served, as this node has {what}: {whose}. To have it begin"
            " with nothing all the same, start it with --force-empty",
        )

    def _see_to_votes(self, now: float) -> None:
        """Ask again, wait when there is no answer, ask anew while we wait."""
        voting = self.voting
        voting.step(now)
        if self.role is STARTING:  # and serves nobody yet, whatever it is that it waits for
            if now - voting.sought_since >= JOIN_GRACE_S:
                self.complain(
                    "no votes",
                    "replication: serving nobody: to begin with nothing, each node must consent"
                    " that could have data, and not all of them are there",
                )
        elif voting.seeking and self.role is not WAITING:
            sought_s = now - max(self._without_view_since(), self.awake.woke_at)
            if sought_s >= self._quorum_timeout_s or self.role is JOINING:
                self.wait()
        if self.role is WAITING and not voting.required:
            self._begin_when_overdue(now)
        elif (
            self.role is WAITING
            and voting.ballot.poll is None
            and not voting.promised
            and now - self._gave_way_at >= JOIN_GRACE_S
            and now >= self.consents_from
        ):
            voting.seek(self.go_alone)

    def _without_view_since(self) -> float:
        """Return since when we have been without a view, as our clients have.

        Who got our consent has sought for as long as it may, before it waits, and we can do nothing
        without it: clients are not to wait for both, one after the other.
        """
        since = self.voting.sought_since
        if self.voting.promised and self._gave_way_at > -inf:
            before = max(self._gave_way_at, since - self._quorum_timeout_s)
            since = min(since, before + self.patience.ack_timeout_s)
        return since

    def _is_stuck(self, peer: Peer, now: float) -> bool:
        """Return whether to begin a resync anew: it makes no progress, or was in vain."""
        channel = peer.channel
        assert channel is not None
        if peer.resync.is_outrun:
            return True
        if not channel.unacked or not channel.flowing:
            return False
        moved_at = max(channel.unacked[0].sent_at, peer.moved_at, self.awake.woke_at)
        return now - moved_at >= 2 * SILENCE_S

    def _keep_in_touch(self, now: float) -> None:
        """Ping who has not heard of us, and keep leases while there is something to do."""
        active = now < self.gate.active_until
        partners = self.view.partners()
        for peer in self.view.peers.values():
            keep_s = self.patience.word_s if active and peer in partners else None
            if peer.link is not None and peer.lease.is_ping_due(now, keep_s):
                peer.ping(now, self.changes.times())
        self.membership.send_statuses()

    def _look_at_wall_clock(self) -> None:
        step_s = self.changes.version_clock.look()
        if step_s:
            self.complain(
                "clock step",
                f"replication: the wall clock of this node was set by {step_s:+.1f} s; "
                "what is written goes by the time before",
            )

    def compare_clocks(self, peer: Peer) -> None:
        """Say so if a peer's wall clock is far from ours."""
        skew_s = peer.clock_skew_s(self.clock)
        if abs(skew_s) > CLOCK_SKEW_MAX_S:
            self.complain(
                f"clock {peer.node_id}",
                f"replication: the wall clock of {peer.node_id} is {skew_s:+.1f} s from that of "
                "this node: set them, e.g. by NTP",
            )

    def _flush_when_due(self) -> None:
        if self.role.leads:
            self.changes.flush_if_due()

    def look_after_leader(self, patience_s: float) -> None:
        """Have the coordinator show that it is there, for those who wait at it instead of here.

        To be called again and again. A coordinator that has said nothing for so long is asked as if
        a client waited for it here.
        """
        leader = self.view.leader
        if self.role is not FOLLOWER or leader is None or leader.link is None:
            return
        now = self.clock.monotonic()
        if leader.lease.silent_s(now, self.awake.since) < patience_s:
            leader.ping(now, self.changes.times())
        else:
            self.gate.ask_leader()
        self.host.wake()

    # -- coming and going in order -------------------------------------------------------------

    def announce_welcome(self, welcoming: bool) -> None:
        """Tell the others whether they may send their clients here: not yet, now, no more."""
        self.membership.welcoming = welcoming
        self.membership.announce_status()

    def drained(self) -> bool:
        """Return whether every node that we are linked to has acknowledged what we sent."""
        return all(
            peer.channel is None or peer.link is None or not peer.channel.unacked
            for peer in self.view.peers.values()
        )

    @property
    def awaited(self) -> bool:
        """Whether a node that is there is still to be brought in sync by this one.

        One whose link was just lost is there: it is dialled again. Not for one that is lost while
        we leave, if another one has all: we execute nothing for that one any more.
        """
        if not self.role.leads or (self.gate.retired and self.view.followers):
            return False
        since = self.clock.monotonic() - REDIAL_S
        return any(
            not peer.in_view
            and (peer.link is not None or (peer.link_lost_at > since and not peer.has_left))
            for peer in self.view.peers.values()
        )

    def leave(self) -> bool:
        """Let the others go on at once, without this node; False: call again a little later.

        From the first call on nothing is executed for others: they come again when they learn that
        this node has left, which it does when everything is acknowledged. The host then closes;
        with a witness not before another has gone on, which may need our consent.
        """
        if self._left_at < inf:
            return self._is_replaced()
        self.gate.retired = True
        self.gate.send_batch()
        if not self.drained() or self.gate.deferred:
            # Who does not answer is noticed in time, though no client waits for it.
            self.expect_step(self.clock.monotonic() + ACTIVE_STEP_S)
            return False
        now = self.clock.monotonic()
        followers = list(self.view.followers)
        for peer in self.view.peers.values():
            if peer.channel is not None:
                self.drop(peer)
        # One of them may hear late that we are gone, and not ask the other one before.
        self._let_go(followers, one_answers=len(followers) > 1)
        # Whoever still waits does so for one that is gone: what came of it he cannot be told.
        self.gate.abandon()
        self.gate.commits.give_up()
        self.view.leader = None
        self.voting.leave()
        self.become(STARTING)
        self.membership.announce_status()
        self._left_at = now
        return self._is_replaced()

    def _is_replaced(self) -> bool:
        """Return whether nobody needs our consent any more, or it takes too long."""
        waits = self.clock.monotonic() - max(self._left_at, self.consents_from) < CONSENT_S
        linked = [peer for peer in self.view.peers.values() if peer.link is not None]
        leads = any(peer.status is not None and peer.status.role.leads for peer in linked)
        return not (waits and any(map(self.voting.is_needed_by, linked))) or leads

    # -- what is to be seen --------------------------------------------------------------------

    @property
    def standing(self) -> Role:
        """What this node is to others: who stood still is in sync no more before it knows so."""
        return JOINING if self.role.in_sync and self.is_behind else self.role

    @property
    def withheld(self) -> str:
        """In words whose data is known of, and cannot be had, so that nobody is served; else ""."""
        standing = self.standing
        is_held = standing is STARTING or (standing is JOINING and self.is_behind)
        if not is_held or self.beginning.somebody_has_more():
            return ""
        return self.beginning.whose_data()

    def rows(self) -> Rows:
        """Return the rows of `stats replication`."""
        return group_rows(
            self.view,
            self.gate,
            self.changes,
            self.membership.counts,
            self.degradation,
            self.patience,
            ready=self.ready,
            draining=self.draining,
            votes=self.voting.rows(),
            role=self.standing,
        )

    def check(self) -> None:
        """Raise AssertionError unless all that is known here fits together. For tests."""
        view, changes, links = self.view, self.changes, self.membership.links
        role = view.role
        view.check()
        self.gate.check()
        self.voting.check()
        assert self.ready or role is STARTING or role is JOINING, "serving before it is ready"
        if role not in (ALONE, JOINING, WAITING):
            assert self.degradation.since is None, "degraded in sync"
        for node_id, peer in view.peers.items():
            assert peer.node_id == node_id, "a peer by another name"
            assert peer.link is None or peer.link in links, "a link that is closed"
            assert peer.acked_sequence <= changes.sequence, "a change that never was, acknowledged"
            if peer.is_met and not peer.in_view:
                assert not changes.tombstones.shared, "deletions are not kept for who left"
            assert changes.departed_version <= peer.lacks_after, "ends leave no trace"
        if not view.are_all(self.configured, self._with_us()):
            assert not changes.tombstones.shared, "deletions are not kept for who may come"
        met = {node_id for node_id, peer in view.peers.items() if peer.is_met}
        if not view.are_all(self.configured, self._with_us() | met):
            assert not changes.departed_version, "ends leave no trace for who may come"
        for node_id in view.who.values():
            assert not node_id or node_id in view.peers, "configured as a node that nobody knows"
