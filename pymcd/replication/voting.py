"""How a node comes by the consent of others to a new view: whom it asks, and how often.

The rules are in `ballot`. Here is who voters are for a node: the peers that it is linked to, and a
*register*, which holds the one roll that it backs, compares and sets. The witness of the group is
one kind, `etcd` another. Whatever the kind, a node tells it the same: may this follow that? And it
is told: yes; no, but I back this; or nothing, for as long as it may take.

A node that has lost somebody of its view, or begins, *seeks* a view that is itself and those who
are still with it. Until that has come about its role is what it was; its lease has ended, so it
serves nobody meanwhile. A coordinator also seeks one for each that it takes in; then nobody waits.

Votes are asked for where a register is configured, and where there are three data nodes or more.
Two nodes without a register need none, as none of the two could have it. Nor do three while one of
them has none (it is of a release that knew no votes, or was told of one other only): see R10.

Three nodes. Each hears only of the coordinator, so one may miss it while another one, whom nobody
asks anything, does not know yet. Who begins to doubt the coordinator says so to the others, by a
VOTE for the view that there is: they ask it, too, and have their own word of it when they are asked
for their votes.
"""

from __future__ import annotations

from dataclasses import replace
from math import inf
from typing import TYPE_CHECKING, Final, Protocol

from .ballot import AGAIN, DISK, NO, OVER, YES, Ballot, is_majority, life_of_coordinator
from .etcd import EtcdRegister
from .frames import HEAD_BYTES, Kind, decode_head, encode_message
from .lease import HEARTBEAT_S, SILENCE_S, Lease
from .likeness import has_witness
from .messages import Grant, Roll, Vote
from .roles import COORDINATOR, FOLLOWER, STARTING

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..config import Settings
    from .gate import Rows
    from .link import Link
    from .messages import Hello
    from .node import Node
    from .peer import Peer

#: A question that was not answered is put again.
ASK_EVERY_S: Final = 0.05
#: What a register did not learn is told again; a view for its sake is sought no more often.
TELL_EVERY_S: Final = 0.5
#: What a witness says of itself that could not keep a promise.
NO_ROOM: Final = "its disk takes nothing"
#: What is said of a witness that was met, in words; of refusals others speak.
_TROUBLES: Final = {
    NO_ROOM: "its disk takes nothing, so it could not keep a promise",
    "silent": "it does not answer",
    "handshake": "it does not answer",
}


class Register(Protocol):
    """What compares and sets: the vote of no data node."""

    node_id: str  #: by which it stands in views; empty: it was never reached
    life: str  #: which it loses with its memory
    backs: Roll | None  #: as far as is known

    def ask(self, vote: Vote) -> None:
        """Have it answer, by and by, or never."""

    def step(self, now: float) -> None:
        """See whether it is still there."""

    @property
    def step_every_s(self) -> float:
        """How often that is to be done at least."""
        ...

    @property
    def linked(self) -> bool:
        """Whether it may be asked now."""
        ...

    @property
    def trouble(self) -> str:
        """What is wrong with it, or with a part of it; empty: nothing."""
        ...


class WitnessLink:
    """A `pymcd witness`, as a node sees it, across the links to it."""

    step_every_s = HEARTBEAT_S

    def __init__(self, address: str, node: Node, answered: Callable[[Grant], None]) -> None:
        self.address = address  #: as configured
        self.node_id = self.life = ""
        self.backs: Roll | None = None
        self.trouble = "not linked yet"
        self.link: Link | None = None
        self.lease = Lease()
        self._node = node
        self._answered = answered
        self._asked_at = inf  #: since when it has been silent, though it was asked

    @property
    def is_doubted(self) -> bool:
        """Whether it does not answer: perhaps only this link is dead, and nobody told us.

        Then another one is dialled beside it. The one that there is stays until that has come
        about: it may just be far away.
        """
        if self.link is None:
            return False
        since = max(self._asked_at, self._node.awake.since)
        return self._node.clock.monotonic() >= since + self._node.patience.mute_s

    @property
    def linked(self) -> bool:
        """Whether it may be asked now."""
        return self.link is not None and not self.trouble

    def link_up(self, link: Link, hello: Hello) -> None:
        """Meet it: it has proven itself."""
        old = self.link
        if (self.node_id, self.life) != (hello.node, hello.incarnation):
            self.backs = None
            self.lease.forget()
        self.node_id, self.life, self.link, self.trouble = hello.node, hello.incarnation, link, ""
        if old is not None:
            old.close("busy")
        self.lease.heard_at = self._node.clock.monotonic()
        self._asked_at = inf
        link.admit(self._receive)

    def link_down(self, link: Link, reason: str) -> None:
        """Take note that a link to it is gone, or came to nothing."""
        if self.link is link:
            self.link = None
        if self.link is None and reason not in ("busy", "self"):
            self.trouble = reason or "disconnected"

    def ask(self, vote: Vote) -> None:
        """Have it answer, if it is there."""
        self._asked_at = min(self._asked_at, self._node.clock.monotonic())
        self._say(Kind.VOTE, vote.encode())

    def step(self, now: float) -> None:
        """Give up a link on which nothing comes; say why it has no vote, if nobody else does."""
        if self.node_id and self.trouble in _TROUBLES:
            what = _TROUBLES[self.trouble]
            self._node.complain(what, f"replication: {self.node_id} has no vote: {what}")
        if self.link is None:
            return
        if self.lease.silent_s(now, self._node.awake.woke_at) >= 2 * SILENCE_S:
            self.link.close("silent")
        elif self.lease.is_ping_due(now, None):
            self.lease.pinged_at = now
            self._say(Kind.PING)

    def _say(self, kind: Kind, payload: bytes = b"") -> None:
        if self.link is not None:
            now, lease = self._node.clock.monotonic(), self.lease
            self.link.output += encode_message(kind, now, lease.their_time, 0, 0, 0, payload)

    def _receive(self, body: bytes) -> None:
        kind, time, echo, *_ = decode_head(body)
        self.lease.heard(self._node.clock.monotonic(), time, echo)
        self._asked_at = inf
        if kind == Kind.GRANT:
            grant = Grant.decode(body[HEAD_BYTES:])
            self.backs = grant.backs
            if not grant.epoch:
                self.trouble = NO_ROOM if grant.word == DISK else ""
            if not self.trouble:
                self._answered(grant)


class Voting:
    """The votes of one data node: those it gives, and those it seeks."""

    def __init__(
        self, node: Node, life: str, settings: Settings, entropy: Callable[[int], bytes]
    ) -> None:
        self._node = node
        self._view = node.view
        self.ballot = Ballot(node.view.node_id, life)
        self.witness: WitnessLink | None = None
        self.register: Register | None = None
        etcd = settings.etcd
        if etcd is not None:
            assert node.host.etcd is not None, "nobody carries anything to the etcd"
            self.register = EtcdRegister(
                etcd.endpoints,
                etcd.key_of(settings.cluster_id),
                settings.cluster_id,
                clock=node.clock,
                courier=node.host.etcd,
                entropy=entropy,
                node_id=node.view.node_id,
                everybody=self._everybody,
                is_wanted=self._is_open,
                answered=self._register_says,
                complain=node.complain,
            )
        elif settings.witness is not None:
            self.register = self.witness = WitnessLink(settings.witness, node, self._register_says)
        #: There are more data nodes than two, for all that is known.
        self._of_many = len(node.configured) > 1
        self._all_vote = True  #: that are known of those
        self._suspended = False  #: we go on without votes (R10)
        self.suspended_at = -inf
        self._founds = 0  #: the epoch of our view, when we asked all to vote from now on
        self._then: Callable[[], None] | None = None  #: what comes about with what we seek
        self._planned = False  #: we may do without it
        self.sought_since = inf  #: since when we have been without a view that we may go on with
        self._asked_at = -inf
        self._answered_at = -inf  #: when one last consented, or said how to ask it again
        self._told_at = -inf
        self._promise_told_at = -inf

    @property
    def takes_part(self) -> bool:
        """Whether nobody goes on without votes once all have one."""
        return self.register is not None or self._of_many

    @property
    def required(self) -> bool:
        """Whether nobody goes on without votes."""
        return self.register is not None or (self._of_many and not self._suspended)

    def count_nodes(self) -> None:
        """See how many data nodes there are, now that more is known of who is configured.

        A group may be told to have three nodes, of which one turns out to be named twice, or to be
        this node: then it has two.
        """
        if not self._of_many:
            return
        self._see_who_votes()
        ids = [self._view.who.get(address) for address in self._node.configured]
        others = len({node_id for node_id in ids if node_id}) + ids.count(None)
        self._of_many = others > 1
        if not self.takes_part and self._then is not None:
            then = self._then
            self.drop()
            then()

    def met(self, peer: Peer, hello: Hello) -> None:
        """Learn whether a peer votes; and that it is there, if it was given up."""
        self.ballot.met(peer.node_id, hello.incarnation)
        peer.votes = hello.votes
        self._see_who_votes()
        if not (hello.votes and self._all_vote):
            self.suspend(f"{peer.node_id} has no vote")

    def _see_who_votes(self) -> None:
        ids = [self._view.who.get(address) for address in self._node.configured]
        self._all_vote = all(
            peer.votes
            for peer in self._view.peers.values()
            if peer.link is not None or peer.in_view or peer.node_id in ids or None in ids
        )

    def suspend(self, why: str) -> None:
        """Go on without votes, until all have one and are in sync (R10)."""
        if self.register is not None or not self._of_many or self._suspended:
            return
        node, view, then = self._node, self._view, self._then
        self._suspended = True
        self.suspended_at = node.clock.monotonic()
        self.ballot.came_about = False
        self.drop()
        node.complain(
            "suspended",
            f"replication: {why}: until all nodes vote, and are in sync, who loses the others goes"
            " on by itself",
        )
        if then is not None and (view.role.leads or view.role.in_sync):
            then()
        if view.role is COORDINATOR:
            node.membership.announce_view(node.clock.monotonic())

    def _found(self, now: float) -> None:
        """Have all vote from now on, if all can, and are in sync with us (R10)."""
        view = self._view
        everybody = self._everybody()
        if (
            not self._suspended
            or not self._all_vote
            or view.role is not COORDINATOR
            or now - self._told_at < TELL_EVERY_S
            or everybody != frozenset(view.members)
        ):
            return
        data = {view.node_id: self.ballot.life}
        data.update((peer.node_id, peer.incarnation) for peer in view.followers)
        roll = Roll(view.next_epoch(self._node.changes.tag), view.node_id, data, {})
        self.ballot.ask(roll, everybody, anew=True)
        self._then = self._begin_to_vote
        self._planned = True
        self._founds = view.epoch
        self._asked_at = self._told_at = now
        self._ask_all()

    def _begin_to_vote(self) -> None:
        self._node.host.log("replication: all nodes vote from now on")
        self._node.membership.announce_roll()

    @property
    def seeking(self) -> bool:
        """Whether there is a view that we cannot do without, and it has not come about."""
        return self.sought_since < inf

    # -- what we seek --------------------------------------------------------------------------

    def seek(
        self,
        then: Callable[[], None],
        *others: Peer,
        planned: bool = False,
        forced: bool = False,
    ) -> None:
        """Do something as soon as we and these others may be the next view; perhaps now."""
        if not self.required:
            then()
            return
        view, register = self._view, self.register
        now = self._node.clock.monotonic()
        if self.promised and not forced:
            self.sought_since = min(self.sought_since, now)
            return
        data = {view.node_id: self.ballot.life}
        data.update((peer.node_id, peer.incarnation) for peer in others)
        backs = self.ballot.backs
        witness = {} if backs is None else backs.witness
        if register is not None and register.node_id and (register.linked or not witness):
            witness = {register.node_id: register.life}
        epoch = view.next_epoch(self._node.changes.tag)
        self.ballot.ask(Roll(epoch, view.node_id, data, witness), self._everybody())
        self._then = then
        self._planned = planned
        if not planned:
            self.sought_since = min(self.sought_since, now)
        self._asked_at = now
        self._ask_all()
        self._conclude(forced=forced)

    @property
    def promised(self) -> bool:
        """Whether we back what another one wants, and may still get.

        Then it is he who asks on. Whatever we asked for would need his consent; and who gives us
        his, could not give it to him any more.
        """
        ballot = self.ballot
        backs = ballot.backs
        if (
            not self.required
            or backs is None
            or ballot.came_about
            or backs.coordinator == self._view.node_id
        ):
            return False
        peer = self._view.peers.get(backs.coordinator)
        return peer is not None and peer.incarnation == backs.data[backs.coordinator]

    def _ask_anew(self, roll: Roll) -> None:
        """Ask for the same by a later epoch: there is somebody who heard of a later one before."""
        epoch = self._view.next_epoch(self._node.changes.tag)
        roll = replace(roll, epoch=epoch)
        self.ballot.ask(roll, self._everybody(), anew=self._founds > 0)

    def drop(self) -> None:
        """Seek nothing any more: others decide."""
        self.ballot.stop()
        self._then = None
        self.sought_since = inf
        self._founds = 0

    def leave(self) -> None:
        """Seek nothing any more, as this node ends: nobody is to wait for what it sought (R12)."""
        poll = self.ballot.poll
        if poll is None:
            return
        self.drop()
        for peer in self._view.peers.values():
            self._say_over(peer, poll.vote.roll.epoch)

    def _say_over(self, peer: Peer, epoch: int) -> None:
        now = self._node.clock.monotonic()
        peer.signal(now, Kind.GRANT, Grant(epoch, OVER, None).encode())

    def _everybody(self) -> frozenset[str]:
        """Return all data nodes that there are; empty: not all of them are known."""
        view, gone = self._view, self.ballot.gone
        ids = [view.who.get(address) for address in self._node.configured]
        nodes = {node_id for node_id in ids if node_id}
        if None in ids:
            # One that we cannot dial may be one that has dialled us, or that was given up.
            nodes.update(view.peers, gone)
            if not view.are_all(self._node.configured, nodes):
                return frozenset()
        return frozenset([view.node_id, *nodes]) - gone

    def _ask_all(self) -> None:
        """Put our question to all who have not said yes."""
        poll = self.ballot.poll
        assert poll is not None
        for peer in self._view.peers.values():
            if peer.link is not None and poll.lacks(peer.node_id):
                self._ask_peer(peer)
        register = self.register
        if register is not None and register.linked and poll.lacks(register.node_id):
            register.ask(poll.vote_for(register.node_id))

    def linked(self, peer: Peer) -> None:
        """Put our question to a peer, if there is one, now that it can be asked."""
        if self.ballot.poll is not None:
            self._ask_peer(peer)

    def _ask_peer(self, peer: Peer) -> None:
        poll = self.ballot.poll
        assert poll is not None
        now = self._node.clock.monotonic()
        peer.signal(now, Kind.VOTE, poll.vote_for(peer.node_id).encode())

    def _conclude(self, *, forced: bool = False) -> None:
        """Go on, if that may be."""
        if self._founds and self._founds != self._view.epoch:
            self.drop()  # some are in sync no more, or were not meanwhile
        if self.ballot.conclude(forced=forced) is None:
            return
        then, self._then = self._then, None
        assert then is not None
        if not self._planned:
            self.sought_since = inf
        self._told_at = -inf
        self._founds = 0
        self._suspended = False
        then()
        self._tell_register(self._node.clock.monotonic())

    def _is_open(self, vote: Vote) -> bool:
        """Return whether a question, or what we told as one, is still of use."""
        if vote.base == vote.roll:
            return vote.roll == self.ballot.backs
        poll = self.ballot.poll
        return poll is not None and poll.vote.roll == vote.roll

    def _note_answer(self, voter: str, life: str, grant: Grant, heard: float = -inf) -> bool:
        """Take note of an answer; return whether it says to ask again.

        `heard`: when we had said the last thing that the voter had heard by then.
        """
        poll = self.ballot.poll
        if grant.backs is not None:
            self._node.membership.hear_epoch(grant.backs.epoch)
        if poll is None or grant.epoch != poll.vote.roll.epoch:
            return False
        now = self._node.clock.monotonic()
        if grant.word != NO:
            self._answered_at = now
        poll.answered(voter, life, grant, now=now, heard=heard)
        self._conclude()
        if self.ballot.poll is not poll:
            return False
        if grant.word == NO and grant.backs is not None and grant.backs.epoch >= grant.epoch:
            self._ask_anew(poll.vote.roll)
        return grant.word == AGAIN

    def grant_arrived(self, peer: Peer, grant: Grant, *, late: bool) -> None:
        """Take note of what a peer answers; `late`: it has said something else since."""
        if not self.required and not self._founds:
            return
        if grant.word == OVER:
            if self.ballot.is_over(peer.node_id, peer.incarnation, grant.epoch):
                self._node.is_promised_no_more()
            return
        if grant.word == YES and self.ballot.asks_no_more(grant.epoch):
            self._say_over(peer, grant.epoch)
            return
        if self.ballot.is_as_before(grant) and not self._planned and self._node.stay_with(peer):
            return
        heard = -inf if late else peer.lease.heard_us_at
        if self._note_answer(peer.node_id, peer.incarnation, grant, heard):
            self._ask_peer(peer)
        elif not grant.epoch and peer in self._view.followers and self.ballot.poll is None:
            # What it was told of our view came too late: only a later one can be told.
            self.seek(self._node.membership.announce_roll, *self._view.followers, planned=True)

    def _register_says(self, grant: Grant) -> None:
        register = self.register
        assert register is not None
        if self._note_answer(register.node_id, register.life, grant):
            assert self.ballot.poll is not None
            register.ask(self.ballot.poll.vote_for(register.node_id))
        elif not grant.epoch and self.ballot.poll is not None:
            register.ask(self.ballot.poll.vote_for(register.node_id))  # it has just come

    # -- what others seek ----------------------------------------------------------------------

    def vote_arrived(self, peer: Peer, vote: Vote) -> None:
        """Answer a peer's question.

        Who goes on without votes himself has one while he has nothing, as before he leaves: so
        those that are to have a witness can be started anew one after the other.
        """
        view = self._view
        begins = self._suspended and view.role is FOLLOWER and view.leader is peer
        now = self._node.clock.monotonic()
        if not (self.required or begins or view.role is STARTING) or now < self._node.consents_from:
            return  # if it is too early, it asks again
        roll, ballot = vote.roll, self.ballot
        self._node.membership.hear_epoch(roll.epoch)
        before = ballot.backs
        if vote.base == roll:
            self._doubted(roll)
            return
        if (roll.coordinator, roll.data.get(peer.node_id)) != (peer.node_id, peer.incarnation):
            grant = Grant(roll.epoch, NO, before)
        elif view.role is not STARTING and (peer.status is None or peer.status.role is STARTING):
            grant = Grant(roll.epoch, NO, before)  # what is empty never wins
        elif roll == before and view.role is FOLLOWER and view.leader is not peer:
            grant = Grant(roll.epoch, NO, before)  # it was taken in by another since (R13)
        else:
            empty = view.role is STARTING or begins
            grant = ballot.answer(vote, bound=self._bound(), empty=empty)
        try:
            peer.signal(now, Kind.GRANT, grant.encode())
        finally:  # without memory to say so, too: it asks again
            if grant.word == YES and roll != before:
                self._then = None
                with_us = roll.data.get(view.node_id) == ballot.life
                if begins:
                    self._suspended = not self._all_vote
                    ballot.came_about = vote.base is None and not self._suspended
                self._node.gave_way(peer, with_us=with_us)
        if grant.word == NO and ballot.poll is not None and view.node_id < peer.node_id:
            self._ask_peer(peer)  # it lets its coordinator go, now that it asks
        elif grant.word != YES and vote.base == before and view.leader is not peer:
            self._node.look_after_leader(0.0)  # which another one of our view has lost

    def outlived(self, node_id: str, life: str) -> None:
        """Take note that a node was met that has started anew: so long we have known it."""
        backs = self.ballot.backs
        self.ballot.over[node_id] = life
        if backs is not None and life_of_coordinator(backs) == (node_id, life):
            self._node.is_promised_no_more()
        self._conclude()

    def forget(self, node_id: str) -> None:
        """Know no more of a node."""
        self.ballot.over.pop(node_id, None)
        self._see_who_votes()

    def counts_on(self, node_id: str) -> bool:
        """Return whether the consent of another node may be needed."""
        backs = self.ballot.backs
        return backs is not None and node_id != self._view.node_id and node_id in backs.data

    def given_up(self, node_id: str) -> None:
        """Take note that a person says of a node that nothing of it will come back (R11)."""
        if not self.counts_on(node_id):
            return
        self.ballot.give_up(node_id)
        poll = self.ballot.poll
        if poll is not None:
            poll.need(self._everybody())
            self._conclude()

    def doubt_leader(self) -> None:
        """Tell the others that our coordinator does not answer: see whether it answers them."""
        backs, leader = self.ballot.backs, self._view.leader
        if not self.required or backs is None or leader is None:
            return
        now = self._node.clock.monotonic()
        for peer in self._view.peers.values():
            if peer is not leader and peer.node_id in self._view.members:
                peer.signal(now, Kind.VOTE, Vote(backs, backs).encode())

    def _doubted(self, roll: Roll) -> None:
        """Take note that another one does not hear the coordinator of a view."""
        leader = self._view.leader
        if leader is not None and leader.node_id == roll.coordinator:
            self._node.look_after_leader(0.0)

    def _bound(self) -> str:
        """Return who decides, as far as we let it, or ourselves."""
        view = self._view
        if self.seeking and not self._node.is_followed:
            return ""
        if view.role.leads:
            return view.node_id
        if view.role is FOLLOWER and view.leader is not None:
            return view.leader.node_id
        return ""

    def is_needed(self, peer: Peer) -> bool:
        """Return whether we cannot go on without a peer's consent, with those who are there."""
        ballot, now = self.ballot, self._node.clock.monotonic()
        if ballot.backs is None or not ballot.came_about:
            return True
        since = max(self.sought_since, self._answered_at)
        if now - since >= self._node.patience.ack_timeout_s:
            return True  # others could have answered
        there = [(each, life) for each, life in self._present() if each != peer.node_id]
        return not is_majority(ballot.backs, there)

    def is_needed_by(self, peer: Peer) -> bool:
        """Return whether a peer needs consent to go on, and perhaps ours."""
        return self.required or (peer.hello is not None and has_witness(peer.hello))

    def learn(self, peer: Peer, roll: Roll) -> bool:
        """Take note of the view that we are in, as its coordinator says."""
        self._node.membership.hear_epoch(roll.epoch)
        learnt = self.ballot.learn(roll)
        if learnt and self.register is None:
            self._suspended = not self._all_vote
            self.ballot.came_about = not self._suspended
        if self._then is not None and self.ballot.poll is None:
            # We would have gone on without that one, and have its word now that it went on with us.
            self._then = None
            self._node.gave_way(peer, with_us=roll.data.get(self._view.node_id) == self.ballot.life)
        return learnt

    # -- what the register should know ---------------------------------------------------------

    def _tell_register(self, now: float) -> None:
        """See to it that the register knows our view, and is in it."""
        register, ballot, backs = self.register, self.ballot, self.ballot.backs
        if (
            register is None
            or not register.linked
            or backs is None
            or not ballot.came_about
            or not self._view.role.leads
            or self.seeking
            or now - self._told_at < TELL_EVERY_S
        ):
            return
        known = register.backs
        if backs.witness == {register.node_id: register.life} and known == backs:
            return
        self._told_at = now
        if backs.witness != {register.node_id: register.life} or (
            known is not None and known.epoch >= backs.epoch
        ):
            # It is new here, or backs what never came about: only a later view can be told.
            self.seek(self._node.membership.announce_roll, *self._view.followers, planned=True)
        else:
            register.ask(Vote(backs, backs))

    def _tell_of_wish(self, now: float) -> None:
        """Have our coordinator tell the register of a later view, if it backs what we gave up (R9).

        Else it had no vote in what follows the view that there is.
        """
        register, ballot, leader = self.register, self.ballot, self._view.leader
        known = None if register is None else register.backs
        if (
            known is None
            or leader is None
            or self._view.role is not FOLLOWER
            or self.seeking
            or known.epoch <= ballot.epoch
            or life_of_coordinator(known) != (ballot.node_id, ballot.life)
            or now - self._told_at < TELL_EVERY_S
        ):
            return
        self._told_at = now
        leader.signal(now, Kind.GRANT, Grant(0, NO, known).encode())

    def _tell_of_promise(self, now: float) -> None:
        """Say again that we consent: perhaps that was lost, or is over, and that was lost (R12)."""
        backs = self.ballot.backs
        if self.promised and now - self._promise_told_at >= TELL_EVERY_S:
            assert backs is not None
            self._promise_told_at = now
            self._view.peers[backs.coordinator].signal(
                now, Kind.GRANT, Grant(backs.epoch, YES, backs).encode()
            )

    # -- time ----------------------------------------------------------------------------------

    def step(self, now: float) -> None:
        """Put open questions again."""
        if self._suspended and self.ballot.poll is None:
            self._found(now)
        if not self.required and not self._founds:
            return
        if self.register is not None:
            self.register.step(now)
        poll = self.ballot.poll
        if poll is not None:
            if now - self._asked_at >= ASK_EVERY_S:
                self._asked_at = now
                poll.need(self._everybody())  # others may have come to be known
                self._ask_all()
                self._conclude()
        else:
            self._tell_register(now)
            self._tell_of_wish(now)
            self._tell_of_promise(now)

    @property
    def next_step_s(self) -> float:
        """In how many seconds to call `step` again."""
        if self.ballot.poll is not None:
            return min(ASK_EVERY_S, self._node.patience.mute_s)
        if not self.required:
            return inf
        return HEARTBEAT_S if self.register is None else self.register.step_every_s

    # -- what is to be seen --------------------------------------------------------------------

    def rows(self) -> Rows:
        """Return what `stats replication` says of votes."""
        if not self.required:
            return []
        register, backs = self.register, self.ballot.backs
        rows: Rows = []
        if register is not None:
            rows += [
                ("witness", register.node_id or "-"),
                ("witness_link", "up" if register.linked else "down"),
                ("witness_error", register.trouble.replace(" ", "_") or "-"),
            ]
        voters = [] if backs is None else [*sorted(backs.data), *backs.witness]
        return [
            *rows,
            ("voters", ",".join(voters) or "-"),
            ("may_fail", ",".join(self.dispensable()) or "-"),
        ]

    def dispensable(self) -> list[str]:
        """Return of whom any one may fail now, and the rest go on."""
        backs, view, register = self.ballot.backs, self._view, self.register
        if backs is None or not self.ballot.came_about:
            return []
        present = {view.node_id: self.ballot.life}
        for peer in view.peers.values():
            if peer.in_view:
                present[peer.node_id] = peer.incarnation
        if view.role is FOLLOWER:  # of other followers the coordinator knows
            present.update((each, backs.data[each]) for each in view.members if each in backs.data)
        if register is not None and register.linked:
            present[register.node_id] = register.life
        result = []
        for name in [*sorted(backs.data), *backs.witness]:
            rest = [(each, life) for each, life in present.items() if each != name]
            if view.leader is not None and name == view.leader.node_id:
                rest = [(each, life) for each, life in rest if self._may_be_asked(each)]
            if is_majority(backs, rest) and any(each in backs.data for each, _ in rest):
                result.append(name)
        return result

    def _present(self) -> list[tuple[str, str]]:
        """Return all voters that we could ask now, and ourselves, each in its life."""
        register = self.register
        present = [(self._view.node_id, self.ballot.life)]
        present += [
            (peer.node_id, peer.incarnation)
            for peer in self._view.peers.values()
            if peer.link is not None
        ]
        if register is not None and register.linked:
            present.append((register.node_id, register.life))
        return present

    def _may_be_asked(self, voter: str) -> bool:
        """Return whether a voter could answer us, without the coordinator between."""
        peer = self._view.peers.get(voter)
        return peer is None or peer.link is not None  # it is ourselves, or the register

    def check(self) -> None:
        """Raise AssertionError unless what is sought fits what we are. For tests."""
        self.ballot.check()
        if isinstance(self.register, EtcdRegister):
            self.register.check()
        role, poll = self._view.role, self.ballot.poll
        assert (self._then is not None) == (poll is not None), "seeks, and does not ask"
        assert not self._founds or (poll is not None and self._suspended), "all vote already"
        assert not (self._suspended and self.ballot.came_about), "backs a view that has no roll"
        if self.required and role.leads and not self.seeking:
            backs = self.ballot.backs
            assert backs is not None, "decides without a view"
            assert backs.coordinator == self._view.node_id, "decides, and backs another"
        if role is STARTING:
            assert poll is None or poll.vote.base is None or self.seeking, "a beginner with plans"
