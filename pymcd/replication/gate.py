"""What stands before the cache in a group: execute a command here, send it elsewhere, or wait.

The coordinator executes every change, its clients' and those that followers forward (as the
client sent them: raw commands, of which nothing is known here). At the end of a turn of the event
loop `flush` makes one message of all changes, as resulting state, and the replies wait (`hold`)
until every follower has acknowledged. While a message is on its way, changes gather for the next.
Commands that read what is not acknowledged yet wait, too (`settled`): nobody sees what could
still be lost.

A follower gets state and reply of a forwarded command in one message: seen, it happened; not
seen, it did not. Then whoever decides next executes it, once: requests are numbered, and what was
executed is remembered until the other side has the result.

Nothing is executed or answered later than `open_until`: then the lease has ended, and one round
trip must show that the others did not go on without this node.
"""

from __future__ import annotations

from collections import deque
from math import inf
from typing import TYPE_CHECKING, Final

from . import records
from .frames import HEAD_BYTES, FrameError, Kind
from .link import CLOCK_SKEW_MAX_S
from .records import Record
from .report import Rows, node_rows
from .roles import ALONE, COORDINATOR, FOLLOWER, STARTING
from .versions import FOREVER, version_at
from .waiting import Answer, Forward, Nobody, Result, Waiter

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from ..config import Settings
    from .node import Node
    from .peer import Channel, Peer

#: How long after the last command a node counts as active.
ACTIVE_S: Final = 1.0
#: Changes or commands gathered at most while others are on their way.
BATCH_MAX: Final = 64
#: On their way to a peer that nobody waits for; what changes beyond that is sent later.
QUEUE_BYTES: Final = 4 << 20


class Gate:
    """What the connections of one node ask."""

    def __init__(
        self, node: Node, settings: Settings, execute: Callable[[str, bytes], bytes]
    ) -> None:
        self._node = node
        self.cache = node.cache
        self.changes = node.changes
        self.clock = node.clock
        self._execute = execute
        self._queue_max = settings.replication_queue
        self.open_until = -inf  #: nothing may be executed later, on the monotonic clock
        self.leading = False  #: changes are made here
        self.retired = False  #: but no more: this node is about to leave
        self.remote = False  #: everything is forwarded, reads too
        self.protecting = False  #: replies wait for acknowledgement
        self.refusing = False  #: strict, and nobody else would have what is written
        self.settled = FOREVER  #: items with a later version are not acknowledged yet
        self.watermark = 0  #: the latest version when nothing was unacknowledged
        self.ticket = 1  #: of the batch that is being gathered
        self.holding: list[Waiter] = []  #: for the batch that is being gathered
        self.held: deque[tuple[int, list[Waiter]]] = deque()  #: for those that were sent
        self.waiting: list[Waiter] = []  #: for the lease
        self.waiting_since = inf
        self.forwards: dict[int, Forward] = {}  #: without a result yet
        self.unsent_forwards: list[Forward] = []
        self._last_forward = 0
        #: Commands to be executed again, once it is clear where.
        self.redo: list[Waiter] = []
        #: Of three nodes and more: batches that we have and another follower perhaps has not: their
        #: keys (None: a flush), and what was executed in them for whom.
        self.unstable: deque[tuple[int, list[bytes | None], list[tuple[str, int, bytes]]]] = deque()
        self._executed: list[tuple[Peer, int, bytes]] = []  #: in the batch that is gathered
        self.active_until = -inf
        self.forwards_sent = 0
        self.forwards_executed = 0
        self.unprotected_writes = 0
        self.unprotected_now = 0

    def rows(self) -> Rows:
        """Return the rows of `stats replication`."""
        return node_rows(self._node)

    def tick(self) -> None:
        """Begin a turn: versions given out from now on are not older than this moment."""
        self.changes.tick()

    def hold(self, waiter: Waiter) -> None:
        """Have a waiter released when what has been executed so far is acknowledged."""
        if self.changes.pending or not self.held:
            if not self.holding:
                self.begin_batch()
            self.holding.append(waiter)
        else:
            self.held[-1][1].append(waiter)

    def begin_batch(self) -> None:
        """Take note that something was changed, which is to be put to `holding` now."""
        if self.settled is FOREVER:
            self.settled = self.watermark

    @property
    def somebody_waits(self) -> bool:
        """Whether any client waits for other nodes."""
        return bool(self.waiting or self.forwards or self.held or self.holding)

    def take_held(self) -> list[Waiter]:
        """Return all whose replies are held, and hold them no more."""
        waiters = [waiter for _, waiters in self.held for waiter in waiters] + self.holding
        self.held.clear()
        self.holding = []
        return waiters

    @property
    def unsettled(self) -> bool:
        """Whether anything that was executed is not acknowledged yet."""
        return self.settled is not FOREVER or (self.protecting and self.changes.pending)

    def forward(self, waiter: Waiter, protocol: str, commands: bytes) -> None:
        """Have commands executed where that is to be done, and the waiter answered."""
        now = self.clock.monotonic()
        self._last_forward += 1
        forward = Forward(self._last_forward, protocol, commands, waiter, now)
        self.forwards[forward.number] = forward
        self.unsent_forwards.append(forward)
        self._node.expect_step(now + self._node.ack_timeout_s)

    def wait_open(self, waiter: Waiter) -> None:
        """Have a waiter resumed when commands may be executed again."""
        now = self.clock.monotonic()
        if not self.waiting:
            self.waiting_since = now
            for peer in self._node.partners():
                peer.pinged_at = now
                peer.signal(now, Kind.PING)
        self.waiting.append(waiter)
        self.active_until = now + ACTIVE_S
        self._node.expect_step(now + self._node.ack_timeout_s)

    @property
    def has_news(self) -> bool:
        """Whether commands have brought about anything that `flush` would act on."""
        changes = self.changes
        return bool(
            changes.fresh
            or self.unsent_forwards
            or self.holding
            or self.waiting
            or changes.strays
            or changes.pending
        )

    def flush(self) -> None:
        """Make messages of what has changed and what is to be forwarded; acknowledge."""
        # Hot path: bench/ "pair16".
        changes = self.changes
        if changes.pending:
            if self.protecting or not self._batch_under_way():
                self.flush_changes(self.clock.monotonic())
        elif self.holding:  # what they changed was undone by a flush, say
            self.held.append((self.ticket - 1, self.holding))
            self.holding = []
            self.settle()
        if changes.strays:
            self._forward_strays()
        if self.unsent_forwards and not self._forwards_under_way():
            self._flush_forwards(self.clock.monotonic())
        for peer in self._node.peers.values():
            if peer.results and peer.channel is not None and not changes.pending:
                self._flush_results(peer, self.clock.monotonic())
            if peer.answer_due:
                peer.signal(self.clock.monotonic(), Kind.ACK)

    def _batch_under_way(self) -> bool:
        """Return whether to gather more, where nobody waits: one message costs less than many."""
        ticket = self.ticket - 1
        return len(self.changes.fresh) < BATCH_MAX and any(
            peer.acked_ticket < ticket for peer in self._node.followers
        )

    def _forwards_under_way(self) -> bool:
        """Return whether to gather more, as what was sent before is not answered yet."""
        waiting = len(self.unsent_forwards)
        return not self.leading and len(self.forwards) > waiting and waiting < BATCH_MAX

    def flush_changes(self, now: float) -> None:
        """Make a message of what has changed, for every peer that is to hear of it."""
        # Hot path: bench/ "pair16".
        changes = self.changes
        pieces, keys, ordinary = changes.take_fresh()
        has_flush = changes.flush_sequence > 0 and not ordinary
        ticket = self.ticket
        self.ticket = ticket + 1
        self.active_until = now + ACTIVE_S
        payload: bytes | None = None
        version = self.cache.cas_unique
        for peer in self._node.peers.values():
            if peer.channel is None:
                continue
            if peer.behind or (
                peer.channel.unacked_bytes > QUEUE_BYTES
                and (not peer.in_view or self._node.ack_mode == "async")
            ):
                self._fall_behind(peer, keys)
                continue
            results = None
            if payload is None:
                payload = b"".join(pieces)
            whole = payload
            if len(self._node.followers) > 1:
                whole = self._encode_batch(peer, ticket) + whole
            if peer.results:
                results, peer.results = peer.results, []
                whole += b"".join([records.encode_result(*result) for result in results])
            peer.send(
                now,
                Kind.CHANGES,
                whole,
                keys=keys,
                has_flush=has_flush,
                results=results,
                ticket=ticket,
                sequence=0 if peer.todo is not None else changes.sequence,
                version=version,
            )
        self._executed.clear()
        if self.holding:
            self.held.append((ticket, self.holding))
            self.holding = []
        if self.protecting:
            if self.settled is FOREVER:
                self.settled = self.watermark
            if not ordinary:
                self.settled = -1
            self._node.expect_step(now + self._node.ack_timeout_s)
        else:
            self.watermark = version
            if self._node.role == ALONE and self._node.settings_peers:
                self.unprotected_writes += len(keys)
                self.unprotected_now += len(keys)
            self.settle()

    def _encode_batch(self, peer: Peer, ticket: int) -> bytes:
        """Return what a follower must know of a batch in case that it is to go on alone."""
        settled = min([follower.acked_ticket for follower in self._node.followers])
        return records.encode_batch(ticket, settled) + b"".join(
            [
                records.encode_executed(origin.node_id, request, reply)
                for origin, request, reply in self._executed
            ]
        )

    def _fall_behind(self, peer: Peer, keys: Iterable[bytes]) -> None:
        """Remember what a slow peer is to get later."""
        peer.behind.update(dict.fromkeys(keys))
        if len(peer.behind) > self._queue_max:
            # It is resynchronised from the log, or in full; the link stays.
            peer.behind.clear()
            self._node.membership.begin_todo(peer)

    def _forward_strays(self) -> None:
        """Have what was dropped here, though others decide, deleted there, too."""
        strays, self.changes.strays = self.changes.strays, []
        for key in strays:
            # protocol-binary.txt: DELETEQ, which can name any key.
            request = b"\x80\x14" + len(key).to_bytes(2, "big") + bytes(4)
            request += len(key).to_bytes(4, "big") + bytes(12) + key
            self.forward(Nobody(), "binary", request)

    def _flush_forwards(self, now: float) -> None:
        leader = self._node.leader
        if self.leading:
            forwards, self.unsent_forwards = self.unsent_forwards, []
            for forward in forwards:
                self._execute_here(forward)
            if self.changes.pending:
                self.flush_changes(now)
        elif leader is not None and leader.channel is not None:
            forwards, self.unsent_forwards = self.unsent_forwards, []
            self.active_until = now + ACTIVE_S
            self.forwards_sent += len(forwards)
            leader.send(
                now,
                Kind.FORWARD,
                b"".join(
                    [
                        records.encode_forward(forward.number, forward.protocol, forward.commands)
                        for forward in forwards
                    ]
                ),
            )

    def _execute_here(self, forward: Forward) -> None:
        """Execute what was to be forwarded, since nobody else decides any more."""
        self.forwards.pop(forward.number, None)
        reply = self._execute(forward.protocol, forward.commands)
        waiter = forward.waiter
        if self.protecting:
            self.hold(Answer(waiter, reply, forward.protocol, forward.commands))
        else:
            waiter.answered(reply)

    def _flush_results(self, peer: Peer, now: float) -> None:
        results, peer.results = peer.results, []
        payload = b"".join([records.encode_result(*result) for result in results])
        peer.send(now, Kind.CHANGES, payload, results=results)

    def changes_arrived(self, peer: Peer, body: bytes) -> None:
        """Apply records, then answer the clients whose requests they result from."""
        # Hot path: bench/ "pair16".
        changes = self.changes
        peers = self._node.peers
        # Others are in sync with us, or are just being brought in sync.
        relay = (
            self.leading
            and len(peers) > 1
            and any(other is not peer and other.channel is not None for other in peers.values())
        )
        newest = 0
        merging = not peer.in_view
        limit = version_at(self.clock.realtime() + 2 * CLOCK_SKEW_MAX_S, 0)
        confirmed = peer.confirmed
        origin_s = changes.origin_s(peer.clock_skew_s)
        refused: list[bytes] = []
        position = HEAD_BYTES
        if not merging and not relay:
            position, newest = changes.apply_states(body, position, origin_s)
            if newest > limit:
                raise FrameError("a version from the future")
        for record in records.decode_records(body, position):
            kind = record[0]
            if self.unstable and kind <= Record.FLUSH:
                self.unstable[-1][1].append(None if kind == Record.FLUSH else record[1])
            if kind == Record.STATE:
                version = record[6]
                if version > newest:
                    if version > limit:
                        raise FrameError("a version from the future")
                    newest = version
                if merging:
                    if confirmed is not None:
                        confirmed.add(record[1])
                    if changes.may_be_deleted(record[1], version, peer.departed_version):
                        refused.append(records.encode_gone(record[1], version))
                        continue
                    self._note_conflict(peer, record[1], version)
                changes.apply_state(record, origin_s, relay=relay)
            elif kind == Record.RESULT:
                forward = self.forwards.pop(record[1], None)
                if forward is not None:
                    forward.waiter.answered(record[2])
            elif kind == Record.GONE:
                newest = max(newest, record[2])
                if record[2] > limit:
                    raise FrameError("a version from the future")
                if merging:
                    self._note_conflict(peer, record[1], record[2])
                changes.apply_gone(record[1], record[2], relay=relay)
            elif kind == Record.FLUSH:
                newest = max(newest, record[1])
                changes.apply_flush(record[1], relay=relay)
            elif kind == Record.BATCH:
                while self.unstable and self.unstable[0][0] <= record[2]:
                    self.unstable.popleft()
                self.unstable.append((record[1], [], []))
            elif kind == Record.EXECUTED:
                if self.unstable:
                    self.unstable[-1][2].append(record[1:])
            else:
                changes.flush_due_at = record[1] and record[1] - peer.skew_s
        if newest:
            changes.observe(newest)
        if refused:
            peer.send(self.clock.monotonic(), Kind.CHANGES, b"".join(refused))
        if peer is self._node.leader and peer.in_view:
            peer.acked_sequence = changes.sequence

    def _note_conflict(self, peer: Peer, key: bytes, version: int) -> None:
        """Count a key that was changed on both sides of a partition."""
        if not self.leading or self._node.role == STARTING:
            return
        item = self.cache.linked(key)
        known = self.changes.version_of(item) if item else self.changes.tombstones.get(key)
        if known > peer.departed_version and known != version and version > peer.departed_version:
            self.changes.conflicts += 1

    def execute_for(self, peer: Peer, request: int, protocol: str, commands: bytes) -> None:
        """Execute what a peer forwarded; the reply travels with what it changes."""
        if request in peer.executed or request in peer.executing:
            return
        if not self.leading or self.retired:
            return  # it will learn so, and come again
        self.forwards_executed += 1
        reply = self._execute(protocol, commands)
        others = [follower for follower in self._node.followers if follower is not peer]
        if others and self.protecting:
            peer.executing.add(request)
            self._executed.append((peer, request, reply))
            self.hold(Result(peer, request, reply))
        else:
            peer.results.append((request, reply))

    def acknowledged(self, peer: Peer, channel: Channel, number: int) -> None:
        """Take note that a peer has our messages up to a number."""
        # Hot path: bench/ "pair16".
        last = channel.acknowledge(number)
        if last is None:
            return
        peer.moved_at = peer.heard_at
        if last.sequence > peer.acked_sequence:
            peer.acked_sequence = last.sequence
        if last.ticket > peer.acked_ticket:
            peer.acked_ticket = last.ticket
            peer.acked_version = last.version
        if peer.executed and not channel.unacked and not peer.results:
            peer.executed.clear()
        if peer.in_view and self._node.role == COORDINATOR:
            if not channel.unacked:
                peer.acked_ticket = self.ticket - 1
            self.settle(last.version)
        if peer.behind or peer.todo is not None:
            self._node.membership.pump(peer, self.clock.monotonic())

    def settle(self, version: int = 0) -> None:
        """Release who waits for nothing more."""
        # Hot path: bench/ "pair16".
        if self.protecting:
            ticket = min([follower.acked_ticket for follower in self._node.followers])
        else:
            ticket = self.ticket
        self.release(ticket)
        if ticket >= self.ticket - 1 and not self.changes.pending:
            self.watermark = self.cache.cas_unique
            self.settled = FOREVER
        elif self.settled >= 0 and version > self.settled and len(self._node.followers) == 1:
            self.settled = version

    def release(self, ticket: int) -> None:
        """Release who waits for batches up to this one."""
        # Hot path: bench/ "pair16".
        held = self.held
        while held and held[0][0] <= ticket:
            for waiter in held.popleft()[1]:
                waiter.released()
        if ticket >= self.ticket and self.holding:
            holding, self.holding = self.holding, []
            for waiter in holding:
                waiter.released()

    def refresh_lease(self, now: float) -> None:
        """See until when commands may be executed, and who has waited for that."""
        # Hot path: bench/ "pair16".
        if self._node.role == COORDINATOR:
            self.open_until = (
                min([peer.echoed for peer in self._node.followers]) + self._node.lease_s
            )
        elif self._node.role == FOLLOWER:
            assert self._node.leader is not None
            self.open_until = self._node.leader.echoed + self._node.lease_s
        # Who waits is content with any word that is later than the question.
        since = self.open_until - self._node.lease_s
        if self.waiting and (now < self.open_until or since >= self.waiting_since):
            self.resume_waiting()

    def resume_waiting(self) -> None:
        """Let go on who waited for the lease."""
        waiting, self.waiting = self.waiting, []
        self.waiting_since = inf
        for waiter in waiting:
            waiter.resumed()

    def abandon(self) -> None:
        """End whoever waits for anything: what they asked is out of date and not to be executed."""
        waiters = [*self.take_held(), *self.redo, *self.waiting]
        waiters += [forward.waiter for forward in self.forwards.values()]
        self.redo, self.waiting, self.unsent_forwards = [], [], []
        self.waiting_since = inf
        self.forwards.clear()
        for waiter in waiters:
            waiter.abandoned()

    def take_over(self) -> None:
        """Stand by what the coordinator executed last, though others may not have seen it."""
        for _, _, executed in self.unstable:
            for node_id, request, reply in executed:
                peer = self._node.peers.get(node_id)
                if peer is not None:
                    peer.executed[request] = reply
                elif node_id == self._node.node_id:
                    forward = self.forwards.pop(request, None)
                    if forward is not None:
                        forward.waiter.answered(reply)
        self.unstable.clear()

    def give_up_unstable(self) -> None:
        """Undo what the coordinator executed last, as its successor may not have seen it.

        Only when the successor takes us in: else we are perhaps the one who is to stand by it.
        """
        keys, flushed = self.unstable_keys()
        self.unstable.clear()
        if keys or flushed:
            self.give_up(keys, flushed=flushed)

    def unstable_keys(self) -> tuple[list[bytes], bool]:
        """Return what we have and others perhaps have not; and whether there was a flush."""
        keys = [key for _, keys, _ in self.unstable for key in keys]
        return [key for key in keys if key is not None], None in keys

    def give_up(self, keys: Iterable[bytes], *, flushed: bool) -> None:
        """Undo changes that came to nothing; who is next in sync with us says what is there."""
        if flushed:
            # A flush cannot be taken back: begin with nothing.
            self.changes.forget_all()
            self._node.wants_all = True
        else:
            given_up = dict.fromkeys(keys)
            self._node.wants.update(given_up)
            self.changes.forget(given_up)

    def refuse_held(self) -> None:
        """Refuse what was executed and is acknowledged by nobody, if that is what is wanted."""
        if self.refusing:
            for waiter in self.take_held():
                waiter.answered(self._execute(waiter.held_protocol, waiter.held_request))

    def decide_open_questions(self) -> None:
        """Execute or answer, now that we decide, what waits for a decision."""
        redo, self.redo = self.redo, []
        forwards, self.forwards = self.forwards, {}
        self.unsent_forwards = []
        for forward in forwards.values():
            self._execute_here(forward)
        for waiter in redo:
            self.forward(waiter, waiter.held_protocol, waiter.held_request)
        self.resume_waiting()

    @property
    def queue_free(self) -> int:
        """Return how many more changed keys may wait for a slow peer."""
        return self._queue_max - max((len(p.behind) for p in self._node.peers.values()), default=0)
