"""What stands before the cache in a group: execute a command here, send it elsewhere, or wait.

The coordinator executes every change, its clients' and those that followers forward (as the
client sent them: raw commands, of which nothing is known here). At the end of a turn of the event
loop `send_batch` makes one message of all changes, as resulting state, and the replies are held
until every follower has acknowledged. While a message is on its way, changes gather for the next.
Commands that read what is not acknowledged yet wait, too.

A follower gets state and reply of a forwarded command in one message: seen, it happened; not
seen, it did not. Then whoever decides next executes it, once: requests are numbered, and what was
executed is remembered until the other side has the result.

Nothing is executed or answered later than `open_until`: then the lease has ended, and one round
trip must show that the others did not go on without this node.
"""

from __future__ import annotations

from collections import deque
from functools import partial
from math import inf
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol

from . import records
from .commits import Commits
from .frames import HEAD_BYTES, FrameError, Kind
from .records import Record
from .roles import ALONE, COORDINATOR, FOLLOWER, JOINING, STARTING, WAITING
from .versions import FOREVER, TAG_MASK, FutureError, version_at
from .waiting import UNKNOWN, Executed, Forward, Postponed, Result

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from ..clock import Clock
    from ..store import Item
    from .changes import Changes
    from .channel import Channel
    from .lease import Patience
    from .peer import Peer
    from .view import View
    from .waiting import Commands, Reply, Waiter

#: Names and values.
Rows = list[tuple[str, str | int | float]]

#: How long after the last command a node counts as active.
ACTIVE_S: Final = 1.0
#: Changes or commands gathered at most while others are on their way.
BATCH_MAX: Final = 64
#: Commands in one message at most, which are executed in one step; when it becomes clear who
#: decides there may be as many as clients.
FORWARDS_MAX: Final = 256
#: What is executed in one step ends after so long.
TURN_S: Final = 0.002
#: Where the version stands in a decoded record.
_VERSION_AT: Final = {
    Record.STATE: 6,
    Record.GONE: 2,
    Record.FLUSH: 1,
    Record.FLUSH_AT: 1,
    Record.ALTERED: 6,
}
#: On their way to a peer that nobody waits for; what changes beyond that is sent later.
QUEUE_BYTES: Final = 4 << 20
#: No batch has that ticket.
NOT_CLOSED: Final = -1
#: Nodes that our coordinator knows and we do not, of which anything is remembered.
UNMET_MAX: Final = 16


class Executor(Protocol):
    """Executes whole commands, which nobody here understands."""

    def __call__(self, protocol: str, commands: Commands) -> Reply:
        """Return the reply to commands in a protocol, "text" or "binary"."""


class Staging(NamedTuple):
    """Commands that wait for their large value to be with the others."""

    waiter: Waiter
    value: bytes
    since: float
    peers: list[Peer]  #: who has not got it yet


class Unstable(NamedTuple):
    """Of three nodes and more: a batch that we have, and another follower perhaps has not."""

    leader: Peer
    ticket: int
    keys: dict[bytes | None, int]  #: None: a flush; and the versions of these changes
    executed: list[tuple[str, int, Reply]]  #: for which node, request and reply


class Gate:
    """What the connections of one node ask."""

    def __init__(
        self,
        view: View,
        changes: Changes,
        clock: Clock,
        patience: Patience,
        execute: Executor,
        *,
        queue_max: int,
        has_peers: bool,
        expect_step: Callable[[float], None],
        resynchronise: Callable[[Peer], None],
        rows: Callable[[], Rows],
        forget: Callable[[str], str],
    ) -> None:
        """`queue_max` keys may wait for a slow peer; then `resynchronise` begins anew with it.

        `expect_step` has the node look again at that time. `has_peers`: some are configured, and
        what is written while we are alone lacks protection.
        """
        self._view = view
        self.stance = view.stance
        self.cache = changes.cache
        self.changes = changes
        self.clock = clock
        self._patience = patience
        self._execute = execute
        self._queue_max = queue_max
        self._has_peers = has_peers
        self._expect_step = expect_step
        self._resynchronise = resynchronise
        self.rows = rows  #: of `stats replication`
        #: Forget a node that will not return; return why not, in words, or "".
        self.forget = forget
        self.commits = Commits()
        self.open_until = -inf  #: nothing may be executed later, on the monotonic clock
        self.retired = (
            False  #: nothing is executed for others any more: this node is about to leave
        )
        #: For the lease, and since when, oldest first.
        self.waiting: deque[tuple[float, Waiter]] = deque()
        #: Since when nobody who decides hears what clients ask here, while we join; then nothing
        #: is executed, or even forwarded. Infinity: somebody has.
        self.unheard_since = inf
        self.joining_since = -inf  #: when we last began to
        self._to_be_asked = False  #: the others, for those who have come to wait in this turn
        #: When our coordinator was asked for the sake of others; it has not answered, perhaps.
        self._leader_asked_at = -inf
        self.forwards: dict[int, Forward] = {}  #: without a result yet
        self.unsent_forwards: list[Forward] = []
        #: To be executed here, and answered, a part in each step: many may have waited for that.
        self.deferred: deque[Forward] = deque()
        self.mishap: Exception | None = None  #: went wrong, to be raised where it harms nobody
        self.staging: list[Staging] = []
        self._unstaged: list[bytes] = []  #: of which nobody speaks any more, after this batch
        #: Begins elsewhere in each life: what another one asked must not be taken for its requests.
        self._last_forward = version_at(clock.realtime(), 0)
        #: Commands to be executed again, once it is clear where, and in which batch they were. They
        #: are in doubt until that is done: if nobody can tell us otherwise, what was executed here
        #: stands.
        self.redo: list[tuple[int, Waiter]] = []
        self._redo_since = inf
        self._results_in_doubt: list[Waiter] = []
        #: In `strict`, of a node alone: what was changed and refused, as no other one is known to
        #: have it. None: everything, by a flush. Who reads that is refused as well.
        self.unheld: dict[bytes | None, None] = {}
        self.unstable: deque[Unstable] = deque()
        self.unstable_in_doubt: deque[Unstable] = deque()  #: of a coordinator before
        self._executed: list[tuple[Peer, int, Reply]] = []  #: in the batch that is gathered
        #: What the coordinator executed for nodes that we do not know yet.
        self._of_unmet: dict[str, Executed] = {}
        self.active_until = -inf
        self.forwards_sent = 0
        self.forwards_executed = 0
        self.unprotected_writes = 0
        self.unprotected_now = 0

    def tick(self) -> None:
        """Begin a turn: versions given out from now on are not older than this moment."""
        self.changes.tick()

    # -- who has to wait -----------------------------------------------------------------------

    @property
    def unacked(self) -> bool:
        """Whether anything that was executed is not acknowledged yet."""
        return not self.commits.all_acked or (self.stance.protecting and self.changes.pending)

    @property
    def somebody_waits(self) -> bool:
        """Whether any client waits for other nodes."""
        commits = self.commits
        return bool(
            self.waiting
            or self.forwards
            or self.redo
            or self.deferred
            or commits.held
            or commits.holding
            or self.staging
        )

    def hold(self, waiter: Waiter) -> None:
        """Have a waiter released when what has been executed so far is acknowledged."""
        self.commits.hold(waiter, changed=self.changes.pending)
        self.note_pending()

    def note_pending(self) -> None:
        """Have who reads what has changed wait, whether anybody else does or not."""
        if self.stance.protecting and self.changes.pending:
            self.commits.begin_batch(ordinary=not self.changes.exceptions.count)

    def forward(
        self, waiter: Waiter, protocol: str, commands: Commands, *, in_doubt: bool = False
    ) -> None:
        """Have commands executed where that is to be done, and the waiter answered."""
        now = self.clock.monotonic()
        self._last_forward += 1
        forward = Forward(self._last_forward, protocol, commands, waiter, now, in_doubt)
        self.forwards[forward.number] = forward
        self.unsent_forwards.append(forward)
        self._expect_step(now + self._patience.mute_s)

    def stage(self, waiter: Waiter, value: bytes) -> bool:
        """Have a waiter go on when the others have a large value that it is about to speak of.

        False: it need not wait, be it that they have. Whoever has waited says `unstage` in the end.
        """
        if self.stance.leading and not self.stance.protecting:
            return False
        missing = [
            peer
            for peer in self._view.partners()
            if peer.in_view
            and peer.takes_values
            and peer.channel is not None
            and not peer.channel.values.is_staged(value)
        ]
        if not missing:
            return False
        now = self.clock.monotonic()
        self.staging.append(Staging(waiter, value, now, missing))
        self.active_until = now + ACTIVE_S
        for peer in missing:
            peer.stage(now, value)
        self._expect_step(now + self._patience.mute_s)
        return True

    def values_arrived(self, peer: Peer, channel: Channel, received: int) -> None:
        """Let go on whose values a peer has, now that it has received so many messages."""
        for staging in list(self.staging):
            if peer in staging.peers:
                if not channel.values.has_arrived(staging.value, received):
                    break  # nor has it the later ones
                self._staged(staging, peer)

    def stop_staging(self, peer: Peer) -> None:
        """Wait no more for a peer to have values."""
        for staging in list(self.staging):
            if peer in staging.peers:
                self._staged(staging, peer)

    def _staged(self, staging: Staging, peer: Peer) -> None:
        staging.peers.remove(peer)
        if not staging.peers:
            self.staging.remove(staging)
            staging.waiter.staged()

    def unstage(self, value: bytes) -> None:
        """Take note that whoever staged a value has spoken of it, or never will."""
        self.staging = [staging for staging in self.staging if staging.value is not value]
        self._unstaged.append(value)

    def _forget_unstaged(self, now: float) -> None:
        values, self._unstaged = self._unstaged, []
        for value in values:
            for peer in self._view.peers.values():
                peer.unstage(now, value)

    def wait_open(self, waiter: Waiter) -> None:
        """Have a waiter resumed when commands may be executed again."""
        now = self.clock.monotonic()
        self.waiting.append((now, waiter))
        self._to_be_asked = True
        self.active_until = now + ACTIVE_S
        self._expect_step(now + self._patience.mute_s)

    def ask_leader(self) -> None:
        """Wait for word of our coordinator though no client does, and whatever lease there is."""
        leader = self._view.leader
        assert leader is not None
        now = self.clock.monotonic()
        if leader.lease.echoed >= self._leader_asked_at:
            self._leader_asked_at = now
            self._to_be_asked = True
        self.active_until = now + ACTIVE_S
        self._expect_step(now + self._patience.mute_s)

    @property
    def waiting_since(self) -> float:
        """Since when somebody has been waiting for the lease; infinity: nobody."""
        return self.waiting[0][0] if self.waiting else inf

    def waits_since(self, peer: Peer, *, at_all: bool = False) -> float:
        """Return since when somebody has been waiting for a peer of our view; infinity: nobody.

        What was sent again over a new link has been waited for since then; `at_all`: since before.
        """
        oldest = inf
        channel = peer.channel
        if self._view.role is COORDINATOR:
            if channel is not None and channel.unacked and self.stance.protecting:
                sent_at = channel.first_sent_at if at_all else channel.unacked[0].sent_at
                # Of what is large a part is acknowledged now and then: it is on its way.
                oldest = max(sent_at, channel.part_acked_at, peer.joined_at)
        elif self.forwards or self.staging:
            first = next(iter(self.forwards.values()), None) or self.staging[0]
            oldest = max(first.since, peer.joined_at, self.joining_since)
            if channel is not None:
                oldest = max(oldest, channel.part_arrived_at, channel.part_acked_at)
        if self._view.role is FOLLOWER and peer.lease.echoed < self._leader_asked_at:
            oldest = min(oldest, max(self._leader_asked_at, peer.joined_at))
        if self.waiting and peer.lease.echoed + self._patience.word_s < self.clock.monotonic():
            oldest = min(oldest, self.waiting_since)
        if self.redo:
            oldest = min(oldest, self._redo_since)
        if peer.link is None:
            oldest = min(oldest, peer.link_lost_at)
        return min(oldest, self.unheard_since)

    def refresh_lease(self, now: float) -> None:
        """See until when commands may be executed, and who has waited for that."""
        # Hot path: bench/ "pair16".
        if self._view.role is COORDINATOR:
            echoed = min([peer.lease.echoed for peer in self._view.followers])
        elif self._view.role is FOLLOWER:
            assert self._view.leader is not None
            echoed = self._view.leader.lease.echoed
        else:
            echoed = self.open_until  # for ever, or not at all
        self.open_until = echoed + self._patience.word_s
        if self.waiting:
            # Who waits is content with any word that is later than his own question.
            self.resume_waiting(now if now < self.open_until else echoed)

    def resume_waiting(self, up_to: float = inf) -> None:
        """Let go on who has waited for the lease, since some time or longer."""
        waiting = self.waiting
        while waiting and waiting[0][0] <= up_to:
            waiting.popleft()[1].resumed()

    def part(self, since: float) -> None:
        """Part from all who wait: others do not hear us, and we may not answer by ourselves."""
        if self._view.role is JOINING:
            self.unheard_since = min(self.unheard_since, since)
            self.open_until = -inf
        self.abandon()

    def reopen(self) -> None:
        """Forward again what clients ask: who decides hears us."""
        self.unheard_since = self.open_until = inf
        self.resume_waiting()

    def abandon(self) -> None:
        """End whoever waits for anything: what they asked is out of date and not to be executed.

        What others forwarded is theirs to give up.
        """
        waiters = [*self.commits.take_held(), *(waiter for _, waiter in self.redo)]
        postponed = [each for each in self.waiting if isinstance(each[1], Postponed)]
        waiters += [each[1] for each in self.waiting if each not in postponed]
        waiters += [forward.waiter for forward in (*self.forwards.values(), *self.deferred)]
        waiters += [staging.waiter for staging in self.staging]
        self.redo, self.unsent_forwards, self.staging = [], [], []
        self.waiting = deque(postponed)
        self.forwards.clear()
        self.deferred.clear()
        for waiter in waiters:
            waiter.abandoned()

    # -- what is sent at the end of a turn -----------------------------------------------------

    @property
    def has_news(self) -> bool:
        """Whether commands have brought about anything that `send_batch` would act on."""
        changes = self.changes
        return bool(
            changes.fresh
            or self.unsent_forwards
            or self.commits.holding
            or self.waiting
            or changes.pending
            or self._unstaged
        )

    def send_batch(self) -> None:
        """Make messages of what has changed and what is to be forwarded; acknowledge."""
        # Hot path: bench/ "pair16".
        changes = self.changes
        if changes.pending:
            if self.stance.protecting or not self._batch_under_way():
                self.send_changes(self.clock.monotonic())
        elif self.commits.holding:  # what they changed was undone by a flush, say
            self.commits.hold_for_the_last()
            self.advance()
        if self.unsent_forwards and not self._forwards_under_way():
            self._send_forwards(self.clock.monotonic())
        if self._to_be_asked:
            self._to_be_asked = False
            for peer in self._view.partners():
                peer.ping(self.clock.monotonic(), changes.times())
        if self._unstaged and not changes.pending and not self.unsent_forwards:
            self._forget_unstaged(self.clock.monotonic())
        for peer in self._view.peers.values():
            if peer.executed.results and peer.channel is not None and not changes.pending:
                self._send_results(peer, self.clock.monotonic())
            if peer.lease.answer_due:
                peer.signal(self.clock.monotonic(), Kind.ACK)

    def _batch_under_way(self) -> bool:
        """Return whether to gather more, where nobody waits: one message costs less than many."""
        ticket = self.commits.ticket - 1
        return len(self.changes.fresh) < BATCH_MAX and any(
            peer.acked_ticket < ticket for peer in self._view.followers
        )

    def _forwards_under_way(self) -> bool:
        """Return whether to gather more, as what was sent before is not answered yet."""
        waiting = len(self.unsent_forwards)
        return not self.stance.leading and len(self.forwards) > waiting and waiting < BATCH_MAX

    def send_changes(self, now: float) -> None:
        """Make a message of what has changed, for every peer that is to hear of it."""
        # Hot path: bench/ "pair16".
        view = self._view
        changes = self.changes
        keys, ticket = changes.fresh, NOT_CLOSED
        try:
            pieces, keys, ordinary = changes.take_fresh()
            has_flush = changes.flush_sequence > 0 and not ordinary
            ticket = self.commits.close_batch()
            self.active_until = now + ACTIVE_S
            payload: bytes | None = None
            version = self.cache.cas_unique
            by_peer, changes.fresh_by_peer = changes.fresh_by_peer, False
            alterations = changes.take_alterations(keys) if by_peer else {}
            for peer in view.peers.values():
                if peer.channel is None:
                    continue
                resync = peer.resync
                if resync.behind or (
                    peer.channel.unacked_bytes > QUEUE_BYTES
                    and (not peer.in_view or view.ack_mode == "async")
                ):
                    self._fall_behind(peer, keys)
                    continue
                results = None
                if by_peer:
                    whole = peer.join_records(now, pieces, alterations)
                else:
                    if payload is None:
                        payload = b"".join(pieces)
                    whole = payload
                if len(view.followers) > 1 or (not peer.in_view and self._is_to_doubt(peer)):
                    whole = self._encode_batch(peer, now, ticket) + whole
                elif self._executed and peer.in_view:
                    whole = self._encode_executed(peer, now) + whole
                if peer.executed.results:
                    results = peer.executed.results
                    whole += peer.join_results(now, results)
                peer.send(
                    now,
                    Kind.CHANGES,
                    whole,
                    keys=keys,
                    has_flush=has_flush,
                    results=results,
                    ticket=ticket,
                    sequence=0 if resync.todo is not None else changes.sequence,
                    version=version,
                )
                if results is not None:
                    peer.executed.take_results()
        except Exception as error:
            self._cannot_send(error, keys, ticket)
            raise
        self._executed.clear()
        if self.stance.protecting:
            self.commits.begin_batch(ordinary=ordinary)
            self._expect_step(now + self._patience.mute_s)
        else:
            if view.role is ALONE and self._has_peers:
                self.unprotected_writes += len(keys)
                self.unprotected_now += len(keys)
            self.advance()

    def _fall_behind(self, peer: Peer, keys: dict[bytes, Item | None]) -> None:
        """Have a slow peer be told later what has changed."""
        changes, resync = self.changes, peer.resync
        resync.owes_flushes = True  # if there was one, it is in no list of keys
        if not resync.fall_behind(keys, self._queue_max):
            # It is resynchronised from the log, or in full; the link stays.
            self._resynchronise(peer)
        # What goes before it is told leaves a trace, so that the peer does not keep the older one.
        changes.departed_version = min(changes.departed_version, peer.lacks_after)
        if peer.in_view:
            changes.leave_traces(keys, self.cache.cas_unique)

    def _cannot_send(self, error: Exception, keys: dict[bytes, Item | None], ticket: int) -> None:
        """Have what has changed be sent with the next batch, but not to whom it did not reach now.

        They lack it, and what is said to them later would be taken for all that there is.
        """
        self.changes.put_back(keys)
        if self.stance.protecting:
            self.commits.begin_batch(ordinary=False)
        for peer in self._view.peers.values():
            channel = peer.channel
            if channel is None or channel.broken:
                continue
            if ticket == NOT_CLOSED or not channel.unacked or channel.unacked[-1].ticket != ticket:
                peer.break_off(error)

    def _is_to_doubt(self, peer: Peer) -> bool:
        """Return whether a peer that is brought in sync is told what followers perhaps have not.

        They may have gone on without us, and never have it. Who leads merges what each has.
        """
        leads = peer.status is None or peer.status.role.leads
        return bool(self._view.followers) and not leads

    def encode_doubt(self, peer: Peer) -> bytes:
        """Return what says that followers perhaps have not yet what a peer is told; or nothing."""
        ticket = self.commits.ticket - (not self.changes.pending)
        others = [each.acked_ticket for each in self._view.followers if each is not peer]
        if min(others, default=ticket) >= ticket or not self._is_to_doubt(peer):
            return b""
        return records.encode_batch(ticket, min(others))

    def _encode_batch(self, peer: Peer, now: float, ticket: int) -> bytes:
        """Return what a follower must know of a batch in case that it is to go on alone."""
        stable = min([follower.acked_ticket for follower in self._view.followers])
        return records.encode_batch(ticket, stable) + self._encode_executed(peer, now)

    def _encode_executed(self, peer: Peer, now: float) -> bytes:
        """Return what was executed for others: who asked may turn to that follower instead."""
        return b"".join(
            [
                peer.encode_executed(now, origin.node_id, request, reply)
                for origin, request, reply in self._executed
            ]
        )

    def tell_executed(self, peer: Peer) -> None:
        """Tell a peer that is one with us now what was executed here for others, and they perhaps
        do not know: they may turn to it instead.
        """
        now = self.clock.monotonic()
        with peer.breaking():
            said = [
                peer.encode_executed(now, origin.node_id, request, reply)
                for origin in self._view.peers.values()
                if origin is not peer
                for request, reply in origin.unheard_results.items()
            ]
            if said:
                peer.send(now, Kind.CHANGES, b"".join(said))

    def _send_forwards(self, now: float) -> None:
        leader = self._view.leader
        if leader is None or leader.channel is None:
            return
        unsent = self.unsent_forwards
        for start in range(0, len(unsent), FORWARDS_MAX):
            payload = []
            try:
                for forward in unsent[start : start + FORWARDS_MAX]:
                    if forward.number not in self.forwards:
                        continue  # it was answered meanwhile
                    if not forward.sent:
                        forward.sent, forward.since = True, now
                    payload.append(
                        records.encode_forward(forward.number, forward.protocol, forward.commands)
                        if type(forward.commands) is bytes
                        else leader.encode_forward(now, forward)
                    )
                if payload:
                    leader.send(now, Kind.FORWARD, b"".join(payload))
            except Exception as error:
                leader.break_off(error)
                raise
            self.forwards_sent += len(payload)
        self.unsent_forwards = []
        self.active_until = now + ACTIVE_S

    def _send_results(self, peer: Peer, now: float) -> None:
        results = peer.executed.results
        try:
            payload = peer.join_results(now, results)
            peer.send(now, Kind.CHANGES, payload, results=results)
        except Exception as error:
            peer.break_off(error)
            raise
        peer.executed.take_results()

    # -- what comes from others ----------------------------------------------------------------

    def changes_arrived(self, peer: Peer, body: bytes) -> None:
        """Apply records, then answer the clients whose requests they result from.

        Raises FrameError, FutureError, and what goes wrong here: then the rest is not applied. Of
        what is not understood whole at most the states that it begins with are: each is what there
        was at one time, and no client is answered by them.
        """
        # Hot path: bench/ "pair16".
        changes = self.changes
        peers = self._view.peers
        # Others are in sync with us, or are just being brought in sync.
        relay = (
            self.stance.leading
            and len(peers) > 1
            and any(other is not peer and other.channel is not None for other in peers.values())
        )
        newest = 0
        merging = not peer.in_view
        limit = changes.limit()
        confirmed = peer.resync.confirmed
        origin_s = changes.origin_by(peer.item_s)
        said: list[bytes] = []  #: in return
        position = HEAD_BYTES
        if not merging and not relay:
            position = changes.apply_states(body, position, origin_s, limit)
        assert peer.channel is not None
        values = peer.channel.values
        try:
            for record in records.decode_records(body, position, values.take):
                kind = record[0]
                place = _VERSION_AT.get(kind)
                if place is not None:
                    version = record[place]
                    if version > newest:
                        if version > limit:
                            raise FutureError
                        newest = version
                    if self.unstable and kind != Record.FLUSH_AT:
                        key = None if kind == Record.FLUSH else record[1]
                        self.unstable[-1].keys.setdefault(key, version)
                        # By its cas unique a reader sees whether to look closer.
                        of_item = kind in (Record.STATE, Record.ALTERED)
                        self.commits.hide_from(record[5] if of_item else version)
                if kind == Record.STATE:
                    if merging:
                        if confirmed is not None:
                            confirmed.add(record[1])
                        if record[1] in changes.in_doubt:
                            changes.in_doubt[record[1]] = record, origin_s
                            continue
                        if self._may_be_deleted(peer, record[1], version):
                            said.append(records.encode_gone(record[1], version))
                            continue
                        self._note_conflict(peer, record[1], version)
                    changes.apply_state(record, origin_s, relay=relay)
                elif kind == Record.RESULT:
                    forward = self.forwards.pop(record[1], None)
                    if forward is None or type(forward.commands) is not bytes:
                        values.answered(record[1])
                    if forward is not None:
                        forward.waiter.answered(record[2])
                elif kind == Record.GONE:
                    if merging:
                        if record[1] in changes.in_doubt:
                            changes.in_doubt[record[1]] = record, origin_s
                            continue
                        self._note_conflict(peer, record[1], version)
                    told_by = peer.node_id if merging else ""
                    changes.apply_gone(record[1], version, relay=relay, told_by=told_by)
                elif kind == Record.FLUSH:
                    changes.apply_flush(version, relay=relay)
                elif kind == Record.FLUSH_AT:
                    at = record[2] and max(1, record[2] - origin_s)
                    changes.apply_flush_due(version, at, relay=relay)
                elif kind == Record.ALTERED:
                    if merging or self.stance.leading:
                        raise FrameError("an alteration, though we do not follow")
                    if not changes.apply_altered(record, origin_s):
                        said.append(records.encode_wanted(record[1]))
                elif kind == Record.WANTED:
                    if peer in self._view.followers:
                        changes.tell_anew(record[1])
                        self.note_pending()
                elif kind == Record.BATCH:
                    if self.stance.leading:
                        raise FrameError("a batch, though we decide")
                    while self.unstable and self.unstable[0].ticket <= record[2]:
                        self._conclude_first(self.unstable)
                    if not self.unstable:
                        self.commits.give_up()  # all that is here may be read
                    self.unstable.append(Unstable(peer, record[1], {}, []))
                elif kind == Record.EXECUTED:
                    if self.unstable:
                        self.unstable[-1].executed.append(record[1:])
                    else:  # all that it comes of is here, or comes with it
                        self._conclude(Unstable(peer, 0, {}, [record[1:]]))
                else:  # of one who speaks the first version, which knows no more than this
                    at = record[1] and max(1, record[1] - origin_s)
                    changes.apply_flush_due(self.cache.take_cas_unique(), at, relay=relay)
        finally:
            if newest:
                changes.observe(newest)
                if merging:
                    peer.told_version = max(peer.told_version, newest)
            if relay:
                self.note_pending()
        if said:
            peer.send(self.clock.monotonic(), Kind.CHANGES, b"".join(said))
        if peer is self._view.leader and peer.in_view:
            peer.acked_sequence = changes.sequence

    def _may_be_deleted(self, peer: Peer, key: bytes, version: int) -> bool:
        return self.changes.may_be_deleted(key, version, peer.node_id, peer.departed_version)

    def _note_conflict(self, peer: Peer, key: bytes, version: int) -> None:
        """Count a key that was changed on both sides of a partition."""
        if not self.stance.leading or self._view.role is STARTING:
            return
        item = self.cache.linked(key)
        known = self.changes.version_of(item) if item else self.changes.tombstones.get(key)
        if min(known, version) <= max(peer.departed_version, peer.common_version):
            return
        # What one node wrote twice is no conflict: the second came while the two caught up. Nor is
        # what has ended, which leaves a version behind that is one less than its own.
        pairs = ((known, version), (known + 1, version), (known, version + 1))
        if all((one ^ other) & TAG_MASK for one, other in pairs):
            # Of three and more it may be of a third one: told to us, or to the peer, in between.
            # Or the peer gives back what we wrote ourselves, and knew when we took in the other.
            mine, theirs = self._was_in_sync_here(known), self._was_in_sync_here(version)
            self.changes.conflicts += mine is not False and theirs is not True

    def _was_in_sync_here(self, version: int) -> bool | None:
        """Return whether we or a peer in sync with us gave out a version; None: it is nobody's."""
        changes = self.changes
        for each in (version, version + 1):  # of what has ended it is one less
            tag = each & TAG_MASK
            if tag == changes.tag:
                return True
            writer = self._view.peers.get(changes.writers.get(tag, ""))
            if writer is not None:
                had_up_to = max(writer.departed_version, writer.common_version)
                return writer.in_view or version <= had_up_to
        return None

    def answer_forward(self, number: int, reply: Reply) -> None:
        """Answer whoever waits for what we forwarded under a number, if anybody does still."""
        forward = self.forwards.pop(number, None)
        if forward is not None:
            forward.waiter.answered(reply)

    def execute_for(
        self, peer: Peer, request: int, protocol: str, commands: Commands, *, admitted: bool = False
    ) -> None:
        """Execute what a peer forwarded; the reply travels with what it changes.

        `admitted`: it has waited for word from others.
        """
        # Hot path: bench/ "pair16".
        executed = peer.executed
        if request in executed.replies or request in executed.executing:
            return
        if not self.stance.leading or self.retired:
            return  # it will learn so, and come again
        with_others = self.stance.protecting and self._view.followers != [peer]
        if with_others and not admitted and self.clock.monotonic() >= self.open_until:
            # That it asks says nothing of the others: they may have gone on without us.
            again = partial(self.execute_for, peer, request, protocol, commands, admitted=True)
            failed = partial(self._cannot_execute, peer)
            try:
                executed.executing.add(request)
                self.wait_open(Postponed(executed, request, again, failed))
            except Exception:
                executed.executing.discard(request)  # it asks again
                raise
            return
        self.forwards_executed += 1
        # It is remembered before it is executed. Whatever goes wrong then, it was.
        if with_others:
            result = Result(executed, request)
            self._executed.append((peer, request, UNKNOWN))
            self.commits.hold(result, changed=True)
            executed.executing.add(request)
        elif admitted:
            executed.finish(request, UNKNOWN)  # the peer may have left meanwhile
        else:
            executed.results.append((request, UNKNOWN))
        try:
            reply = self._execute(protocol, commands)
            if with_others:
                result.reply = reply
                self._executed[-1] = peer, request, reply
            elif admitted:
                executed.amend(request, reply)
            else:
                executed.results[-1] = request, reply
        except Exception as error:
            self._note_mishap(error)  # only who asked is parted from
        finally:
            self.note_pending()  # nobody of ours may wait, and so tell readers to

    def _cannot_execute(self, peer: Peer, error: Exception) -> None:
        """Part from a peer of whose request nothing is left here: it has it, and asks again."""
        peer.break_off(error)
        self._note_mishap(error)

    def acknowledged(self, peer: Peer, channel: Channel, number: int) -> bool:
        """Take note that a peer has our messages up to a number; return whether that is news."""
        # Hot path: bench/ "pair16".
        last = channel.acknowledge(number)
        if last is None:
            return False
        peer.moved_at = peer.lease.heard_at
        peer.answer_s = max(peer.moved_at - last.sent_at, peer.answer_s * 0.9)
        if last.sequence > peer.acked_sequence:
            peer.acked_sequence = last.sequence
        if last.ticket > peer.acked_ticket:
            peer.acked_ticket = last.ticket
            peer.acked_version = last.version
        executed = peer.executed
        if executed.replies:
            if not (channel.unacked or executed.results or executed.repeats_up_to):
                executed.replies.clear()
            elif last.results:
                executed.heard(last.results)
        if peer.in_view and self._view.role is COORDINATOR:
            if not channel.unacked:
                peer.acked_ticket = self.commits.ticket - 1
            self.advance(last.version)
        return True

    def advance(self, version: int = 0) -> None:
        """Release who waits for nothing more: all may have acknowledged up to that version."""
        # Hot path: bench/ "pair16".
        self.commits.advance(
            self._view.followers if self.stance.protecting else (),
            version=version,
            latest=None if self.changes.pending else self.cache.cas_unique,
        )
        self._hide_unheld()

    # -- who decides has changed ---------------------------------------------------------------

    def take_back(self) -> None:
        """Have what was executed, but is not acknowledged, executed again by who decides then."""
        self._redo_since = self.clock.monotonic()
        for ticket, waiter in self.commits.take_tickets():
            if waiter.held_request:
                self.redo.append((ticket, waiter))
            else:
                self._results_in_doubt.append(waiter)  # who forwarded a command to us asks again
        self.commits.give_up()
        self._executed.clear()
        for peer in self._view.peers.values():
            peer.executed.executing.clear()  # it will ask again

    @property
    def common_version(self) -> int:
        """Up to which version all who follow the same coordinator have everything."""
        unstable = [version - 1 for batch in self.unstable for version in batch.keys.values()]
        return min([self.cache.cas_unique, *unstable])

    def take_over(self) -> None:
        """Stand by what the coordinator executed last, though others may not have seen it."""
        for batch in self.unstable:
            for key, version in batch.keys.items():
                if key is not None:
                    self.changes.leave_trace(key, version - 1)
        self._answer_deferred(self.unstable)
        while self.unstable:
            self._conclude_first(self.unstable)
            self.commits.give_up()

    def is_unstable(self, keys: list[bytes]) -> bool:
        """Return whether any of these may be as others do not know it yet, and could even be lost.

        Who reads that asks the coordinator, and waits there until all followers have it.
        """
        return any(
            None in batch.keys or any(key in batch.keys for key in keys) for batch in self.unstable
        )

    def note_unheld(self, keys: Iterable[bytes], *, flushed: bool) -> None:
        """Have nobody read what was changed here, and perhaps by no other node, if this one is to
        be alone, and that is refused.
        """
        if self._view.ack_mode == "strict":
            self.unheld.update(dict.fromkeys(keys))
            if flushed:
                self.unheld[None] = None
            self._hide_unheld()

    def _hide_unheld(self) -> None:
        """Have nothing be read without a closer look."""
        if self.unheld:
            self.commits.begin_batch(ordinary=False)

    def forget_unheld(self) -> None:
        """Have all be read again: others hold it, or decide."""
        if self.unheld:
            self.unheld.clear()
            self.commits.give_up()

    def is_unheld(self, keys: list[bytes]) -> bool:
        """Return whether any of these is as no other node is known to have it."""
        return bool(keys) and (None in self.unheld or any(key in self.unheld for key in keys))

    def doubt_unstable(self) -> None:
        """Leave open whether what the coordinator executed last stands: another one decides now."""
        if self.unstable:
            for batch in self.unstable:
                batch.leader.has_doubted = True
            self.unstable_in_doubt += self.unstable
            self.unstable.clear()
            self.commits.give_up()

    def stand_by(self) -> None:
        """Count what is in doubt as done: nobody is left who can tell what came in its place.

        It is answered as it was then. To execute it again would be to do it twice.
        """
        self.changes.end_doubt()
        self._forget_who_has_doubted()
        self._answer_deferred(self.unstable_in_doubt)
        while self.unstable_in_doubt:
            self._conclude_first(self.unstable_in_doubt)
        waiters = [*(waiter for _, waiter in self.redo), *self._results_in_doubt]
        forwards = (*self.deferred, *self.forwards.values())
        waiters += [forward.waiter for forward in forwards if forward.in_doubt]
        self.deferred = deque(forward for forward in self.deferred if not forward.in_doubt)
        self.forwards = {
            number: forward for number, forward in self.forwards.items() if not forward.in_doubt
        }
        self.redo, self._results_in_doubt = [], []
        for waiter in waiters:
            if not self.stance.leading:
                waiter.abandoned()  # another one decides, and knows nothing of that
            elif self.stance.refusing and waiter.held_request:
                self._defer(waiter)
            else:
                waiter.released()

    def undo(self, peer: Peer) -> None:
        """Take back what is in doubt: a peer that decides has told all that it has in its place."""
        changes = self.changes
        for each in self._view.peers.values():
            if each.has_doubted:  # be it that not all of it can be undone
                each.overrates_us = True
        for record, origin_s in changes.undo_doubted():
            key, version = record[1], record[_VERSION_AT[record[0]]]
            if record[0] == Record.GONE:
                changes.apply_gone(key, version, relay=False, told_by=peer.node_id, instead=True)
            elif version < changes.barrier:
                changes.forget((key,))
            elif changes.is_forgotten(version, peer.node_id, peer.departed_version):
                gone = records.encode_gone(key, version)
                peer.send(self.clock.monotonic(), Kind.CHANGES, gone)
                changes.forget((key,))
            else:
                changes.apply_state(record, origin_s, relay=False, instead=True)
        self._forget_who_has_doubted()
        self._results_in_doubt.clear()
        self.unstable_in_doubt.clear()
        for forward in self.forwards.values():
            forward.in_doubt = False

    def _forget_who_has_doubted(self) -> None:
        for peer in self._view.peers.values():
            peer.has_doubted = False

    def _conclude_first(self, batches: deque[Unstable]) -> None:
        """Do so for the oldest of these; it is forgotten when that is done."""
        self._conclude(batches[0])
        batches.popleft()

    def _conclude(self, batch: Unstable) -> None:
        """Count what was executed in a batch as done, whoever asks."""
        for node_id, request, reply in batch.executed:
            peer = self._view.peers.get(node_id)
            if peer is not None:
                peer.executed.remember(request, reply)
            elif node_id == self._view.node_id:
                self.answer_forward(request, reply)
            elif node_id in self._of_unmet or len(self._of_unmet) < UNMET_MAX:
                self._of_unmet.setdefault(node_id, Executed()).remember(request, reply)

    def _answer_deferred(self, batches: Iterable[Unstable]) -> None:
        """Answer what is to be executed here, or refused, and was executed in one of these.

        It was forwarded, and we were to wait for votes since; now there are, and the batch stands.
        """
        if not self.deferred:
            return
        own = self._view.node_id
        executed = [each for batch in batches for each in batch.executed]
        replies = {request: reply for node_id, request, reply in executed if node_id == own}
        for _ in range(len(self.deferred)):
            forward = self.deferred.popleft()
            if forward.number in replies:
                forward.waiter.answered(replies[forward.number])
            else:
                self.deferred.append(forward)

    def executed_for_unmet(self, node_id: str) -> Executed:
        """Return what is remembered for a node that was never linked to us until now."""
        return self._of_unmet.pop(node_id, None) or Executed()

    def unstable_keys(self) -> tuple[list[bytes], bool]:
        """Return what we have and others perhaps have not; and whether there was a flush."""
        keys = [key for batch in self.unstable for key in batch.keys]
        return [key for key in keys if key is not None], None in keys

    def refuse_held(self) -> None:
        """Refuse what was executed and is acknowledged by nobody, if that is what is wanted."""
        if self.stance.refusing:
            for waiter in self.commits.take_held():
                if waiter.held_request:
                    self._defer(waiter)
                else:
                    waiter.abandoned()  # who forwarded that asks again, and is not to have it twice

    def decide_open_questions(self) -> None:
        """Execute and answer, now that we decide, what waits for a decision."""
        self._defer_forwards()
        self.resume_waiting()
        self.execute_deferred()

    def refuse_all(self) -> None:
        """Answer with errors who waits for others, whatever for: nobody knows for how long."""
        self.refuse_held()
        self.commits.give_up()
        self._executed.clear()
        self._defer_forwards()
        redo, self.redo = self.redo, []
        for _, waiter in redo:
            self._defer(waiter)
        for peer in self._view.peers.values():
            peer.executed.executing.clear()
        self.resume_waiting()
        if self.deferred:
            self._expect_step(self.clock.monotonic())

    def _defer_forwards(self) -> None:
        """Have what was forwarded be executed here."""
        self.deferred += self.forwards.values()
        self.forwards = {}
        self.unsent_forwards = []

    def _defer(self, waiter: Waiter) -> None:
        """Have what was executed before be refused."""
        self._last_forward += 1
        number, protocol, commands = self._last_forward, waiter.held_protocol, waiter.held_request
        now = self.clock.monotonic()
        self.deferred.append(Forward(number, protocol, commands, waiter, now, in_doubt=True))

    def execute_deferred(self) -> None:
        """Execute some of what is to be executed here, and answer it; the rest in later steps."""
        deferred, now = self.deferred, self.clock.monotonic
        ends_at = now() + TURN_S
        for _ in range(FORWARDS_MAX):
            if not deferred:
                return
            forward = deferred.popleft()
            try:
                reply = self._execute(forward.protocol, forward.commands)
            except Exception as error:
                self._note_mishap(error)
                reply = UNKNOWN
            forward.waiter.answered(reply)
            if now() >= ends_at:
                break
        self._expect_step(now())

    def _note_mishap(self, error: Exception) -> None:
        self.mishap = self.mishap or error
        self._expect_step(self.clock.monotonic())

    def hand_on(self) -> None:
        """Leave to another one, who decides now, what was still to be executed here."""
        deferred, self.deferred = self.deferred, deque()
        for forward in deferred:
            if forward.in_doubt:
                forward.waiter.abandoned()  # it is done: it was only to be refused
            else:
                self.forwards[forward.number] = forward
                self.unsent_forwards.append(forward)

    def forward_again(self) -> None:
        """Have whoever decides now execute what waits for a decision."""
        self.unsent_forwards = list(self.forwards.values())
        redo, self.redo = self.redo, []
        for _, waiter in redo:
            self.forward(waiter, waiter.held_protocol, waiter.held_request, in_doubt=True)

    def has_happened(self, ticket: int) -> None:
        """Answer as it was then what was executed up to that batch: who decides now has it."""
        redo, self.redo = self.redo, []
        for entry in redo:
            if entry[0] <= ticket:
                entry[1].released()
            else:
                self.redo.append(entry)

    def check(self) -> None:
        """Raise AssertionError unless everybody waits where he should. For tests."""
        commits, changes, view = self.commits, self.changes, self._view
        commits.check()
        role, stance = view.role, self.stance
        watermark = commits.watermark
        waits = bool(commits.held or commits.holding)
        if stance.protecting:
            assert watermark is not FOREVER or not changes.pending, "unsent changes may be read"
            assert watermark is FOREVER or watermark <= self.cache.cas_unique, (
                "what is still to be written may be read"
            )
            acked = commits.ticket
            for peer in view.followers:
                acked = min(acked, peer.acked_ticket)
                assert not peer.resync.under_way, "behind, though replies wait for it"
            assert acked < commits.ticket, "acknowledged before it was sent"
            assert not commits.held or acked < commits.held[0][0], "waits for what all have"
        else:
            assert not waits, "waits for acknowledgement without need"
            assert watermark is FOREVER or changes.pending or self.unstable or self.unheld, (
                "readers are stopped without need"
            )
        assert not self.unheld or (role is ALONE and stance.refusing), "refused without need"
        assert not self.unheld or watermark is not FOREVER, "what nobody else holds may be read"
        if stance.leading:
            assert not self.forwards, "forwarded, though we decide"
            assert not self.unsent_forwards, "to be forwarded, though we decide"
            assert not self.unstable, "led by another still, though we decide"
        assert not self.deferred or stance.leading or stance.refusing, (
            "to be executed here, though another one decides"
        )
        assert not self.deferred or not stance.protecting, "in sync before all was executed"
        if role is FOLLOWER and any(batch.keys for batch in self.unstable):
            assert watermark is not FOREVER, "what others have not got may be read"
        assert not self.redo or role is JOINING, "to be executed again, though it is clear where"
        assert role in (JOINING, STARTING, WAITING) or not (
            changes.doubts or self.unstable_in_doubt or self._results_in_doubt
        ), "in doubt, though it is clear who decides"
        times = [since for since, _ in self.waiting]
        assert times == sorted(times), "waits since when"
        for staging in self.staging:
            assert staging.peers, "waits, though all have the value"
            for peer in staging.peers:
                assert peer.channel is not None, "a value goes to who is not there"
                assert peer.channel.values.is_staged(staging.value), "waits for what does not go"
        for peer in view.peers.values():
            assert waits or self.waiting or not peer.executed.executing, (
                "executing, and nobody waits"
            )
            if peer.in_view:
                until = peer.lease.echoed + self._patience.word_s
                assert self.open_until <= until, "open longer than others know"
        if role is STARTING:
            assert self.open_until == -inf, "open before it is ready"
        elif role in (ALONE, JOINING, WAITING):
            assert self.open_until == inf or self.unheard_since < inf, "closed without a lease"
        assert role is JOINING or self.unheard_since == inf, "unheard, and yet in sync or alone"
