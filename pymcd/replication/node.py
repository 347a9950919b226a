"""This server as a member of a group: who decides, who is in sync, when to wait and when not.

Roles. A node is *starting* until it is in sync with somebody or knows that there is nobody;
*alone* when it serves by itself; in a view it is *coordinator* or *follower*. A node that was
ready and learns that the others went on without it is *joining*: it forwards everything, reads
too, until it is in sync again.

Deciding. The coordinator executes every change, its clients' and those that followers forward
(as the client sent them: raw commands, of which this module knows nothing). At the end of a turn
of the event loop `flush` makes one message of all changes, as resulting state, and the replies
wait (`hold`) until every follower has acknowledged. A follower gets state and reply in the same
message: seen, it happened; not seen, it did not. Commands that read what is not acknowledged yet
wait, too: nobody sees what could still be lost.

Leases. Whoever is in a view answers only while something that it sent less than a lease ago has
been seen by the other side; else its clients wait for one round trip. Nobody acts alone before
the acknowledgement time-out has passed, and the lease of the other side, too. Thus a node that
was frozen finds out, before it answers, that others went on without it.

Deposed. What a coordinator executed and nobody acknowledged is taken back: the keys are
forgotten and asked of the new coordinator, and the commands are executed again, there.

Joining. Whoever joins and whoever leads send each other what the other may lack, from their logs
or everything, in slices, changes of the moment in between; versions make the order irrelevant.
When both have all, the leader proposes, the other one stops deciding and accepts, and the view
begins. A node that was in a partition merges like that; for each key the later write wins.

Three nodes. The coordinator waits for all followers. When it dies, the follower with the smallest
id that the others can see goes on, and they join it. The same mechanism, no vote.

Compared with the recommended design: forwarded is the command, not the store operation, since a
meta command is several of those; and there is no journal.
"""

from __future__ import annotations

from collections import deque
from math import inf
from typing import TYPE_CHECKING, Any, Final, Protocol

from ..store.cache import TABLES
from . import frames
from .changes import Changes
from .frames import HEAD_BYTES, FrameError, Kind, Record
from .link import ADVICE, CLOCK_SKEW_MAX_S, Link
from .peer import Channel, Peer, Unacked
from .report import Rows, node_rows
from .versions import FOREVER, TAG_BITS, tag_of, version_at

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from ..clock import Clock
    from ..config import Settings
    from ..store import Cache

STARTING: Final = "starting"
ALONE: Final = "alone"
COORDINATOR: Final = "coordinator"
FOLLOWER: Final = "follower"
JOINING: Final = "joining"

#: The lease, of the acknowledgement time-out.
LEASE_SHARE: Final = 0.75
#: A peer that says nothing for so long is gone, though nobody waits for it.
SILENCE_S: Final = 3.0
HEARTBEAT_S: Final = 1.0
#: While clients are served, leases are kept warm: how often we look.
ACTIVE_STEP_S: Final = 0.02
#: How long after the last command a node counts as active.
ACTIVE_S: Final = 1.0
HANDSHAKE_S: Final = 2.0
#: Connections that have not proven themselves.
STRANGERS_MAX: Final = 16
PEERS_MAX: Final = 16
#: How long a node that lost the one it was joining waits for it, before it serves what it has.
JOIN_GRACE_S: Final = 1.0
#: A peer that was lost again and again is taken back later each time.
READMIT_MIN_S: Final = 0.25
READMIT_MAX_S: Final = 10.0
#: Of a resync: keys in one message, its bytes, and bytes on their way.
SLICE_ITEMS: Final = 200
SLICE_BYTES: Final = 128 << 10
WINDOW_BYTES: Final = 1 << 20
#: Changes gathered at most while a message is on its way.
BATCH_MAX: Final = 64
#: On their way to a peer that nobody waits for; what changes beyond that is sent later.
QUEUE_BYTES: Final = 4 << 20
#: Lines in the log about the same trouble.
COMPLAIN_EVERY_S: Final = 60.0
TOMBSTONES_EXPIRE_EVERY_S: Final = 1.0


class Waiter(Protocol):
    """A connection whose commands wait. Called from within the core: it must not call back."""

    @property
    def held_request(self) -> bytes:
        """The commands, whole; empty: they cannot be executed again."""
        ...

    @property
    def held_protocol(self) -> str:
        """Of the commands: "text" or "binary"."""
        ...

    def released(self) -> None:
        """What was executed may be answered."""

    def answered(self, reply: bytes) -> None:
        """This is the reply to what was forwarded, or executed again."""

    def resumed(self) -> None:
        """Try again what could not be executed yet."""


class _Nobody:
    """Stands for who does not wait for the reply."""

    held_request = b""
    held_protocol = ""

    def released(self) -> None:
        """Nobody asked."""

    def answered(self, reply: bytes) -> None:
        """Nobody asked."""

    def resumed(self) -> None:
        """Nobody asked."""


class _Result(_Nobody):
    """The reply to a forwarded request, waiting for the other followers."""

    __slots__ = ("number", "peer", "reply")

    def __init__(self, peer: Peer, number: int, reply: bytes) -> None:
        self.peer = peer
        self.number = number
        self.reply = reply

    def released(self) -> None:
        self.peer.executing.discard(self.number)
        self.peer.results.append((self.number, self.reply))


class _Answer(_Nobody):
    """The reply to commands that were executed again, waiting for the followers."""

    __slots__ = ("reply", "waiter")

    def __init__(self, waiter: Waiter, reply: bytes, protocol: str, commands: bytes) -> None:
        self.waiter = waiter
        self.reply = reply
        self.held_protocol = protocol
        self.held_request = commands

    def released(self) -> None:
        self.waiter.answered(self.reply)

    def answered(self, reply: bytes) -> None:
        self.waiter.answered(reply)


class _Forward:
    """Commands that another node is to execute for a client of ours."""

    __slots__ = ("commands", "number", "protocol", "since", "waiter")

    def __init__(
        self, number: int, protocol: str, commands: bytes, waiter: Waiter, since: float
    ) -> None:
        self.number = number
        self.protocol = protocol
        self.commands = commands
        self.waiter = waiter
        self.since = since


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
        self._execute = execute
        self._log = log
        self.wake: Callable[[], None] = _ignore
        self.on_ready: Callable[[], None] = _ignore
        self.frame_max_bytes = max(
            frames.FRAME_MAX_BYTES, 2 * settings.item_size_max_bytes + (1 << 20)
        )

        self.ack_mode = settings.replication_ack
        self.ack_timeout_s = settings.replication_ack_timeout_s
        self.lease_s = settings.replication_ack_timeout_s * LEASE_SHARE
        self._sync_timeout_s = settings.sync_timeout_s
        self._tombstone_ttl_s = settings.tombstone_ttl_s
        self._queue_max = settings.replication_queue
        self._settings_peers = tuple(settings.peers)
        self._backlog_bytes = settings.replication_backlog_bytes

        self.changes = Changes(
            cache,
            clock,
            tag=tag_of(node_id),
            backlog_bytes=settings.replication_backlog_bytes,
        )
        self.links: list[Link] = []
        self.peers: dict[str, Peer] = {}
        #: Which node a configured peer turned out to be; "": ourselves.
        self._who: dict[str, str] = {}

        self.role = STARTING
        self.ready = False
        self.epoch = 0
        self._highest_epoch = 0
        self.leader: Peer | None = None
        self.followers: list[Peer] = []
        self.members: list[str] = [node_id]
        self.coordinator = "-"

        # For the connections. `open_until`: commands may be executed until then.
        self.open_until = -inf
        self.leading = False
        self.remote = False  #: forward everything, reads too
        self.protecting = False  #: replies wait for acknowledgement
        self.refusing = False  #: strict, and nobody else would have what is written
        self.settled = FOREVER  #: items with a later version are not acknowledged yet
        self._watermark = 0
        self._ticket = 1  #: of the batch that is being gathered
        self._settled_ticket = 0
        self._held: deque[tuple[int, Waiter]] = deque()
        self._waiting: list[Waiter] = []
        self._waiting_since = inf
        self._forwards: dict[int, _Forward] = {}
        self._unsent_forwards: list[_Forward] = []
        self._last_forward = 0
        #: Commands to be executed again, once it is clear where.
        self._redo: list[Waiter] = []

        self._started_at = clock.monotonic()
        self._leader_lost_at = -inf
        self._next_step_at = inf
        self._awake_since = -inf
        self._active_until = -inf
        self._tombstones_expired_at = -inf
        self._complaints: dict[str, float] = {}

        self.degraded_since: float | None = None
        self.unprotected_now = 0
        self.degraded_count = 0
        self._degraded_s = 0.0
        self.unprotected_writes = 0
        self.stale_frames = 0
        self.forwards_sent = 0
        self.forwards_executed = 0
        self.full_resyncs = 0
        self.partial_resyncs = 0
        self.reconnects = 0
        self.authentication_failures = 0
        self.handshake_failures = 0
        self.last_refusal = "-"
        self._set_role(STARTING)

    # -- for the host --------------------------------------------------------------------------

    def start(self) -> None:
        """Begin to count `--sync-timeout`, and to look for the others."""
        self._started_at = self.clock.monotonic()
        self._consider_all()

    def tick(self) -> None:
        """Begin a turn: versions given out from now on are not older than this moment."""
        self.changes.tick()

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
        node_id = self._who.get(peer)
        if node_id is None:
            return True
        return bool(node_id) and self.peers[node_id].link is None

    def is_myself(self, dialled: str) -> None:
        """Take note that a configured peer is this node."""
        self._who[dialled] = ""
        self._consider_all()

    # -- for the connections -------------------------------------------------------------------

    def hold(self, waiter: Waiter) -> None:
        """Have a waiter released when what has been executed so far is acknowledged."""
        # Hot path: bench/ "pair16".
        if self.settled is FOREVER:
            self.settled = self._watermark
        changes = self.changes
        fresh = changes.fresh or changes.pending
        self._held.append((self._ticket if fresh else self._ticket - 1, waiter))

    @property
    def unsettled(self) -> bool:
        """Whether anything that was executed is not acknowledged yet."""
        return self.settled is not FOREVER or (self.protecting and self.changes.pending)

    def forward(self, waiter: Waiter, protocol: str, commands: bytes) -> None:
        """Have commands executed where that is to be done, and the waiter answered."""
        now = self.clock.monotonic()
        self._last_forward += 1
        forward = _Forward(self._last_forward, protocol, commands, waiter, now)
        self._forwards[forward.number] = forward
        self._unsent_forwards.append(forward)
        self._expect_step(now + self.ack_timeout_s)

    def wait_open(self, waiter: Waiter) -> None:
        """Have a waiter resumed when commands may be executed again."""
        now = self.clock.monotonic()
        if not self._waiting:
            self._waiting_since = now
            for peer in self._partners():
                peer.pinged_at = now
                peer.signal(now, Kind.PING)
        self._waiting.append(waiter)
        self._active_until = now + ACTIVE_S
        self._expect_step(now + self.ack_timeout_s)

    def _expect_step(self, deadline: float) -> None:
        if self._next_step_at > deadline:
            self._next_step_at = deadline
            self.wake()

    # -- the end of a turn ---------------------------------------------------------------------

    def flush(self) -> None:
        """Make messages of what has changed and what is to be forwarded; acknowledge."""
        # Hot path: bench/ "pair16".
        changes = self.changes
        if (changes.fresh or changes.pending) and not self._batch_under_way():
            self._flush_changes(self.clock.monotonic())
        if changes.strays:
            self._forward_strays()
        if self._unsent_forwards and not self._forwards_under_way():
            self._flush_forwards(self.clock.monotonic())
        for peer in self.peers.values():
            if peer.results and peer.channel is not None and not changes.pending:
                self._flush_results(peer, self.clock.monotonic())
            if peer.answer_due:
                peer.signal(self.clock.monotonic(), Kind.ACK)

    def _batch_under_way(self) -> bool:
        """Return whether to gather more, as what was sent before is not acknowledged yet.

        Replies wait for that anyway, and one message of many changes costs less than many.
        """
        return (
            bool(self.followers)
            and min([peer.acked_ticket for peer in self.followers]) < self._ticket - 1
            and len(self.changes.fresh) < BATCH_MAX
        )

    def _forwards_under_way(self) -> bool:
        """Return whether to gather more, for the same reason."""
        waiting = len(self._unsent_forwards)
        return not self.leading and len(self._forwards) > waiting and waiting < BATCH_MAX

    def _flush_changes(self, now: float) -> None:
        # Hot path: bench/ "pair16".
        changes = self.changes
        records, keys, ordinary = changes.take_fresh()
        has_flush = changes.flush_sequence > 0 and not ordinary
        ticket = self._ticket
        self._ticket = ticket + 1
        self._active_until = now + ACTIVE_S
        payload: bytes | None = None
        version = self.cache.cas_unique
        for peer in self.peers.values():
            if peer.channel is None:
                continue
            if peer.behind or (
                peer.channel.unacked_bytes > QUEUE_BYTES
                and (not peer.in_view or self.ack_mode == "async")
            ):
                self._fall_behind(peer, keys)
                continue
            results = None
            if payload is None:
                payload = b"".join(records)
            whole = payload
            if peer.results:
                results, peer.results = peer.results, []
                whole += b"".join([frames.encode_result(*result) for result in results])
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
        if self.protecting:
            if self.settled is FOREVER:
                self.settled = self._watermark
            if not ordinary:
                self.settled = -1
            self._expect_step(now + self.ack_timeout_s)
        else:
            self._watermark = version
            if self.role == ALONE and self._settings_peers:
                self.unprotected_writes += len(keys)
                self.unprotected_now += len(keys)
            self._settle()

    def _fall_behind(self, peer: Peer, keys: Iterable[bytes]) -> None:
        """Remember what a slow peer is to get later."""
        peer.behind.update(dict.fromkeys(keys))
        if len(peer.behind) > self._queue_max:
            # It is resynchronised from the log, or in full; the link stays.
            peer.behind.clear()
            self._begin_todo(peer)

    def _forward_strays(self) -> None:
        """Have what was dropped here, though others decide, deleted there, too."""
        strays, self.changes.strays = self.changes.strays, []
        for key in strays:
            # protocol-binary.txt: DELETEQ, which can name any key.
            request = b"\x80\x14" + len(key).to_bytes(2, "big") + bytes(4)
            request += len(key).to_bytes(4, "big") + bytes(12) + key
            self.forward(_Nobody(), "binary", request)

    def _flush_forwards(self, now: float) -> None:
        leader = self.leader
        if self.leading:
            forwards, self._unsent_forwards = self._unsent_forwards, []
            for forward in forwards:
                self._execute_here(forward)
            if self.changes.pending:
                self._flush_changes(now)
        elif leader is not None and leader.channel is not None:
            forwards, self._unsent_forwards = self._unsent_forwards, []
            self._active_until = now + ACTIVE_S
            self.forwards_sent += len(forwards)
            leader.send(
                now,
                Kind.FORWARD,
                b"".join(
                    [
                        frames.encode_forward(forward.number, forward.protocol, forward.commands)
                        for forward in forwards
                    ]
                ),
            )

    def _execute_here(self, forward: _Forward) -> None:
        """Execute what was to be forwarded, since nobody else decides any more."""
        self._forwards.pop(forward.number, None)
        if self.refusing:
            forward.waiter.answered(self.refusal(forward.protocol))
            return
        reply = self._execute(forward.protocol, forward.commands)
        waiter = forward.waiter
        if self.protecting:
            self.hold(_Answer(waiter, reply, forward.protocol, forward.commands))
        else:
            waiter.answered(reply)

    def _flush_results(self, peer: Peer, now: float) -> None:
        results, peer.results = peer.results, []
        payload = b"".join([frames.encode_result(*result) for result in results])
        peer.send(now, Kind.CHANGES, payload, results=results)

    def refusal(self, protocol: str) -> bytes:
        """Return what a client hears whose command cannot be executed."""
        if protocol == "binary":
            text = b"Not replicated: no peer"
            return b"\x81\x01\0\0\0\0\0\x86" + len(text).to_bytes(4, "big") + bytes(12) + text
        return b"SERVER_ERROR not replicated: no peer acknowledges (--replication-ack strict)\r\n"

    # -- what arrives --------------------------------------------------------------------------

    def receive(self, peer: Peer, body: bytes) -> None:
        """Do what a peer's message says."""
        # Hot path: bench/ "pair16".
        kind, time, echo, epoch, number, ack = frames.decode_head(body)
        now = self.clock.monotonic()
        peer.heard_at = now
        if time > peer.their_time:
            peer.their_time = time
        renewed = echo > peer.echoed
        if renewed:
            peer.echoed = echo
        channel = peer.channel
        if channel is not None and epoch == channel.epoch:
            if ack:
                self._acknowledged(peer, channel, ack)
            if number:
                if number != channel.received + 1:
                    if number <= channel.received:  # sent again though we have it
                        peer.answer_due = True
                        return
                    raise FrameError("a message is missing")
                channel.received = number
                peer.answer_due = True
                if kind == Kind.CHANGES:
                    self._changes_arrived(peer, body)
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
        if renewed and (peer.in_view or self._waiting):
            self._refresh_lease(now)

    def _message_arrived(self, peer: Peer, kind: int, payload: bytes, now: float) -> None:
        if kind == Kind.FORWARD:
            for request, protocol, commands in frames.decode_forwards(payload, 0):
                self._execute_for(peer, request, protocol, commands)
        elif kind == Kind.SYNCED:
            self._synced_arrived(peer, now)
        elif kind == Kind.PROPOSE:
            self._propose_arrived(peer, now)
        elif kind == Kind.ACCEPT:
            self._accept_arrived(peer, now)
        elif kind == Kind.VIEW:
            self._view_arrived(peer, frames.decode_json(payload), now)

    def _changes_arrived(self, peer: Peer, body: bytes) -> None:
        """Apply records, then answer the clients whose requests they result from."""
        # Hot path: bench/ "pair16".
        changes = self.changes
        relay = self.leading and len(self.followers) > (1 if peer.in_view else 0)
        newest = 0
        merging = not peer.in_view
        limit = version_at(self.clock.realtime() + 2 * CLOCK_SKEW_MAX_S, 0)
        confirmed = peer.confirmed
        origin_s = changes.origin_s(peer.clock_skew_s)
        position = HEAD_BYTES
        if not merging and not relay:
            position, newest = changes.apply_states(body, position, origin_s)
            if newest > limit:
                raise FrameError("a version from the future")
        for record in frames.decode_records(body, position):
            kind = record[0]
            if kind == Record.STATE:
                version = record[6]
                if version > newest:
                    if version > limit:
                        raise FrameError("a version from the future")
                    newest = version
                if merging:
                    if confirmed is not None:
                        confirmed.add(record[1])
                    self._note_conflict(peer, record[1], version)
                changes.apply_state(record, origin_s, relay=relay)
            elif kind == Record.RESULT:
                forward = self._forwards.pop(record[1], None)
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
            else:
                changes.flush_due_at = record[1] and record[1] - peer.skew_s
        if newest:
            changes.observe(newest)
        if peer is self.leader and peer.in_view:
            peer.acked_sequence = changes.sequence

    def _note_conflict(self, peer: Peer, key: bytes, version: int) -> None:
        """Count a key that was changed on both sides of a partition."""
        if not self.leading or self.role == STARTING:
            return
        item = self.cache.linked(key)
        known = self.changes.version_of(item) if item else self.changes.tombstones.get(key)
        if known > peer.departed_version and known != version and version > peer.departed_version:
            self.changes.conflicts += 1

    def _execute_for(self, peer: Peer, request: int, protocol: str, commands: bytes) -> None:
        """Execute what a peer forwarded; the reply travels with what it changes."""
        if request in peer.executed or request in peer.executing:
            return
        if self.refusing:
            peer.results.append((request, self.refusal(protocol)))
            return
        if not self.leading:
            return  # it will learn so, and come again
        self.forwards_executed += 1
        reply = self._execute(protocol, commands)
        others = [follower for follower in self.followers if follower is not peer]
        if others and self.protecting:
            peer.executing.add(request)
            self.hold(_Result(peer, request, reply))
        else:
            peer.results.append((request, reply))

    # -- acknowledgement -----------------------------------------------------------------------

    def _acknowledged(self, peer: Peer, channel: Channel, number: int) -> None:
        # Hot path: bench/ "pair16".
        last = channel.acknowledge(number)
        if last is None:
            return
        if last.sequence > peer.acked_sequence:
            peer.acked_sequence = last.sequence
        if last.ticket > peer.acked_ticket:
            peer.acked_ticket = last.ticket
            peer.acked_version = last.version
        if peer.executed and not channel.unacked:
            peer.executed.clear()
        if peer.in_view and self.role == COORDINATOR:
            if not channel.unacked:
                peer.acked_ticket = self._ticket - 1
            self._settle(last.version)
        if peer.behind or peer.todo is not None:
            self._pump(peer, self.clock.monotonic())

    def _settle(self, version: int = 0) -> None:
        """Release who waits for nothing more."""
        # Hot path: bench/ "pair16".
        if self.protecting:
            ticket = min([follower.acked_ticket for follower in self.followers])
        else:
            ticket = self._ticket
        held = self._held
        while held and held[0][0] <= ticket:
            held.popleft()[1].released()
        if ticket >= self._ticket - 1 and not self.changes.pending:
            self._watermark = self.cache.cas_unique
            self.settled = FOREVER
        elif self.settled >= 0 and version > self.settled and len(self.followers) == 1:
            self.settled = version

    # -- leases --------------------------------------------------------------------------------

    def _partners(self) -> list[Peer]:
        """Return those without whom we may not answer."""
        if self.role == COORDINATOR:
            return self.followers
        if self.leader is not None and self.role in (FOLLOWER, JOINING):
            return [self.leader]
        return []

    def _refresh_lease(self, now: float) -> None:
        # Hot path: bench/ "pair16".
        if self.role == COORDINATOR:
            self.open_until = min([peer.echoed for peer in self.followers]) + self.lease_s
        elif self.role == FOLLOWER:
            assert self.leader is not None
            self.open_until = self.leader.echoed + self.lease_s
        if self._waiting and now < self.open_until:
            self._resume_waiting()

    def _resume_waiting(self) -> None:
        waiting, self._waiting = self._waiting, []
        self._waiting_since = inf
        for waiter in waiting:
            waiter.resumed()

    # -- roles ---------------------------------------------------------------------------------

    def _set_role(self, role: str) -> None:
        """Become something else; what follows from that for the connections."""
        before, self.role = self.role, role
        self.leading = role in (ALONE, COORDINATOR)
        self.changes.leading = self.leading
        self.protecting = role == COORDINATOR and self.ack_mode != "async"
        self.refusing = role == ALONE and self.ack_mode == "strict"
        self.remote = role == JOINING
        if role == ALONE:
            self.coordinator = self.node_id
            self.members = [self.node_id]
            self.leader = None
            self.open_until = inf
        elif role == COORDINATOR:
            self.coordinator = self.node_id
            self.members = [self.node_id, *(peer.node_id for peer in self.followers)]
        elif role == STARTING:
            self.open_until = -inf
        elif role == JOINING:
            # Nothing is executed here: everything is forwarded, which decides for itself.
            self.open_until = inf
            self.coordinator = "-" if self.leader is None else self.leader.node_id
        self._note_departures()
        self._count_degradation()
        if not self.ready and role in (ALONE, COORDINATOR, FOLLOWER):
            self.ready = True
            self.on_ready()
        if before != role:
            self._tell_role(before)

    def _tell_role(self, before: str) -> None:
        others = ", ".join(member for member in self.members if member != self.node_id)
        if self.role == ALONE:
            if before == STARTING:
                self._log("replication: serving alone: there is no other node with data")
            elif before != COORDINATOR or self._settings_peers:
                self._log("replication: serving alone, unprotected, until a peer is in sync")
        elif self.role == COORDINATOR:
            self._log(f"replication: in sync with {others}; this node coordinates")
        elif self.role == FOLLOWER:
            self._log(f"replication: in sync; {self.coordinator} coordinates")
        elif self.role == JOINING:
            self._log("replication: others went on without this node; it joins them again")

    def _note_departures(self) -> None:
        """See who may lack what: deletions must be kept for them."""
        away = [peer for peer in self.peers.values() if peer.known and not peer.in_view]
        self.changes.tombstones.shared = not away
        self.changes.departed_version = (
            min([peer.departed_version for peer in away]) if away else FOREVER
        )
        if not away:
            self.changes.end_log()

    def _count_degradation(self) -> None:
        wanted = max(len([peer for peer in self._settings_peers if self._who.get(peer) != ""]), 0)
        degraded = self.ready and wanted > 0 and self.role in (ALONE, JOINING)
        now = self.clock.monotonic()
        if degraded and self.degraded_since is None:
            self.degraded_since = now
            self.unprotected_now = 0
        elif not degraded and self.degraded_since is not None:
            self._degraded_s += now - self.degraded_since
            self.degraded_since = None
            self.unprotected_now = 0

    def _next_epoch(self) -> int:
        """Return an epoch later than any known, which no other node gives out."""
        count = (self._highest_epoch >> TAG_BITS) + 1
        self._highest_epoch = count << TAG_BITS | self.changes.tag
        return self._highest_epoch

    def _lose(self, lost: list[Peer], reason: str) -> None:
        """Go on without these peers of our view."""
        for peer in lost:
            peer.last_error = reason
            self._complain(
                f"lost {peer.node_id}",
                f"replication: {peer.node_id} does not answer ({reason}); going on without it",
            )
            peer.lapses += 1
            delay_s = min(READMIT_MAX_S, READMIT_MIN_S * 2 ** (peer.lapses - 1))
            peer.not_before = self.clock.monotonic() + delay_s
        self.degraded_count += 1
        if self.role == COORDINATOR:
            for peer in lost:
                self._drop(peer)
            if self.followers:
                self.epoch = self._next_epoch()
                self._set_role(COORDINATOR)
                self._announce_view(self.clock.monotonic())
                self._refresh_lease(self.clock.monotonic())
                self._settle()
            else:
                self._go_alone()
        else:
            assert self.leader is not None
            leader = self.leader
            self._drop(leader)
            successor = self._successor(leader)
            if successor is None:
                self._go_alone()
            else:
                self._rejoin(successor)

    def _drop(self, peer: Peer) -> list[Unacked]:
        """Take a peer out of our view, or give up its resync."""
        in_view, behind = peer.in_view, list(peer.behind)
        unacked = peer.leave_channel()
        if in_view:
            lacking = [key for message in unacked for key in message.keys or ()] + behind
            peer.departed_version = peer.acked_version if lacking else self.cache.cas_unique
            self.changes.begin_log(lacking, max(peer.acked_sequence, 0))
            if peer in self.followers:
                self.followers.remove(peer)
        self._note_departures()
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

    def _go_alone(self) -> None:
        """Decide by ourselves from now on."""
        self.epoch = self._next_epoch()
        for peer in self.peers.values():
            if peer.channel is not None and not (self.leading and not peer.in_view):
                self._drop(peer)
        self._set_role(ALONE)
        self._settle()
        self._decide_open_questions()
        self._announce_status()

    def _decide_open_questions(self) -> None:
        """Execute or answer, now that we decide, what waits for a decision."""
        redo, self._redo = self._redo, []
        forwards, self._forwards = self._forwards, {}
        self._unsent_forwards = []
        if self.refusing:
            for _, waiter in self._held:
                waiter.answered(self.refusal(waiter.held_protocol))
            self._held.clear()
        for forward in forwards.values():
            self._execute_here(forward)
        for waiter in redo:
            self.forward(waiter, waiter.held_protocol, waiter.held_request)
        self._resume_waiting()

    def _deposed(self, peer: Peer, received: int) -> None:
        """Learn that a peer went on without us, having received so much of what we sent."""
        self._complain(
            "deposed", f"replication: {peer.node_id} went on without this node for a while"
        )
        self.degraded_count += 1
        was_coordinator = self.role == COORDINATOR
        if was_coordinator and peer.channel is not None:
            self._acknowledged(peer, peer.channel, received)
        void: set[bytes] = set(self.changes.fresh)
        flushed = self.changes.fresh_flush
        for other in list(self.peers.values()):
            if other.channel is None:
                continue
            for message in self._drop(other):
                if other is peer and was_coordinator:
                    void.update(message.keys or ())
                    flushed = flushed or message.has_flush
        self.followers.clear()
        if was_coordinator:
            if flushed:
                # A flush cannot be taken back: begin with nothing.
                self.changes.forget_all()
                peer.wants_all = True
            else:
                self.changes.forget(void)
                peer.wants = list(void)
            self._redo += [waiter for _, waiter in self._held if waiter.held_request]
            self._held.clear()
            self.settled = FOREVER
        self._rejoin(peer)

    def _rejoin(self, peer: Peer) -> None:
        """Come in sync again with a peer that decides, or soon will."""
        self.leader = peer
        self._leader_lost_at = self.clock.monotonic()
        self._set_role(JOINING)
        self._resume_waiting()
        self._announce_status()
        self._consider(peer)

    # -- links ---------------------------------------------------------------------------------

    def link_up(self, link: Link, hello: dict[str, Any]) -> None:
        """Meet a peer that has proven itself."""
        node_id = hello["node"]
        peer = self.peers.get(node_id)
        if peer is None:
            self._make_room_for_peer()
            peer = self.peers[node_id] = Peer(node_id)
        if link.dialled is not None:
            self._who[link.dialled] = node_id
        renewed = peer.incarnation != hello["incarnation"]
        old = peer.link
        if old is not None:
            mine, was_mine = link.dialled is not None, old.dialled is not None
            if not renewed and mine != was_mine and mine != (self.node_id < node_id):
                # Of two links the one stays that the smaller id dialled.
                link.close("busy")
                return
            peer.link = None
            old.close("busy")
        if renewed:
            self._meet_anew(peer, hello["incarnation"])
        if hello["tag"] == self.changes.tag and self.node_id > node_id:
            self.changes.tag = (self.changes.tag + 1) % 4096
        peer.link = link
        link.peer = peer
        peer.address = link.address
        peer.flowing = False
        peer.joining = False
        peer.heard_at = self.clock.monotonic()
        peer.clock_skew_s = -inf
        self._note_clock(peer, hello["clock"])
        peer.connects += 1
        if peer.connects > 1:
            self.reconnects += 1
        self._send_status(peer)

    def _meet_anew(self, peer: Peer, incarnation: str) -> None:
        """Take note that a peer has started without what it had."""
        peer.incarnation = incarnation
        peer.their_time = 0.0
        peer.echoed = -inf
        peer.executed.clear()
        if peer.in_view:
            self._lose([peer], "restarted")
        elif peer.channel is not None:
            self._drop(peer)
        peer.status = {}
        peer.acked_sequence = -1
        peer.known = False
        peer.lapses = 0
        peer.not_before = 0.0
        peer.left = {"epoch": 0, "received": 0}
        self._note_departures()
        if self.role == JOINING and peer is self.leader and len(self.peers) == 1:
            self._go_alone()  # what it had is gone: we know best

    def _make_room_for_peer(self) -> None:
        """Forget one that has not been there for long, if there are too many."""
        if len(self.peers) >= PEERS_MAX:
            gone = [peer for peer in self.peers.values() if peer.link is None and not peer.in_view]
            if gone:
                oldest = min(gone, key=lambda peer: peer.heard_at)
                del self.peers[oldest.node_id]
                self._who = {
                    address: node_id
                    for address, node_id in self._who.items()
                    if node_id != oldest.node_id
                }

    def link_down(self, link: Link, reason: str = "") -> None:
        """Take note that a link is gone."""
        if link not in self.links:
            return
        self.links.remove(link)
        peer = link.peer
        if peer is None:
            if reason not in ("busy", "self"):
                self.handshake_failures += 1
        elif peer.link is link:
            peer.link = None
            peer.flowing = False
            peer.joining = False
            peer.link_lost_at = self.clock.monotonic()
            peer.last_error = reason or "disconnected"
            if peer is self.leader:
                self._leader_lost_at = peer.link_lost_at
            self._expect_step(peer.link_lost_at + self.ack_timeout_s)

    def note_bad_frame(self, link: Link, what: str) -> None:
        """Count and log what cannot be understood."""
        self._complain("frame", f"replication: {link.address} sent {what}; the link is closed")

    def note_refusal(self, link: Link, reason: str) -> None:
        """Count and log that one side did not want the other."""
        if reason in ("self", "busy"):
            return
        self.last_refusal = reason
        self._complain(reason, f"replication with {link.address} refused: {ADVICE[reason]}")

    def _complain(self, about: str, line: str) -> None:
        """Log, but once a minute about the same."""
        now = self.clock.monotonic()
        if now - self._complaints.get(about, -inf) >= COMPLAIN_EVERY_S:
            if len(self._complaints) > 100:
                self._complaints.clear()
            self._complaints[about] = now
            self._log(line)

    def _note_clock(self, peer: Peer, their_clock: float) -> None:
        """Learn how far a peer's wall clock is ahead: of several messages the fastest tells."""
        peer.clock_skew_s = max(peer.clock_skew_s, their_clock - self.clock.realtime())
        peer.skew_s = round(peer.clock_skew_s)

    # -- status --------------------------------------------------------------------------------

    def _announce_status(self) -> None:
        for peer in self.peers.values():
            self._send_status(peer)

    def _send_status(self, peer: Peer) -> None:
        channel = peer.channel
        fields = {
            "role": self.role,
            "epoch": self.epoch,
            "members": self.members,
            "coordinator": self.coordinator,
            "channel": channel and {"epoch": channel.epoch, "received": channel.received},
            "left": peer.left,
            "clock": self.clock.realtime(),
        }
        peer.signal(self.clock.monotonic(), Kind.STATUS, frames.encode_json(fields))

    def _status_arrived(self, peer: Peer, status: dict[str, Any]) -> None:
        now = self.clock.monotonic()
        try:
            theirs, left = status["channel"], status["left"]
            left_epoch, left_received = int(left["epoch"]), int(left["received"])
            epoch = int(status["epoch"])
            received = -1
            if theirs and peer.channel is not None and theirs["epoch"] == peer.channel.epoch:
                received = int(theirs["received"])
            leads = status["role"] in (ALONE, COORDINATOR)
            len(status["members"])
            self._note_clock(peer, float(status["clock"]))
        except (KeyError, TypeError, ValueError):
            raise FrameError("a STATUS without what belongs into it") from None
        peer.status = status
        if not leads:
            peer.joining = False  # it takes nobody in, and may want to join us
        self._highest_epoch = max(self._highest_epoch, epoch, left_epoch)
        channel = peer.channel
        if channel is not None and received >= 0 and not peer.flowing:
            peer.flowing = True
            self._acknowledged(peer, channel, received)
            peer.resend(now, received)
        elif channel is not None and left_epoch == channel.epoch:
            if not peer.in_view:
                self._drop(peer)
            elif leads and epoch > self.epoch:
                self._deposed(peer, left_received)
                return
            else:
                self._lose([peer], "left")
        elif channel is not None and not peer.flowing:
            # On a new link it does not know of the channel: our WELCOME was lost with the old one.
            if peer.in_view:
                self._lose([peer], "left")
            else:
                self._drop(peer)
        self._consider(peer)

    def _consider_all(self) -> None:
        for peer in list(self.peers.values()):
            self._consider(peer)
        if self.role == STARTING:
            self._begin_if_nobody_has_data()

    def _consider(self, peer: Peer) -> None:
        """See whether we should join a peer."""
        status = peer.status
        if peer.link is None or not status or peer.channel is not None or peer.joining:
            return
        if status["role"] not in (ALONE, COORDINATOR):
            if self.role == STARTING:
                self._begin_if_nobody_has_data()
            return
        if self.role == STARTING or self.role == JOINING:
            if not any(other.channel is not None for other in self.peers.values()):
                self._join(peer)  # else another one is taking us in
        elif self.leading:
            mine = (len(self.members), self.epoch)
            theirs = (len(status["members"]), int(status["epoch"]))
            if mine < theirs or (mine == theirs and peer.node_id < self.node_id):
                self._join(peer)

    def _begin_if_nobody_has_data(self) -> None:
        """Serve at once when all configured peers are just starting, too."""
        others = [self._who.get(address) for address in self._settings_peers]
        if any(node_id is None for node_id in others):
            return
        for node_id in others:
            if node_id:
                peer = self.peers[node_id]
                if peer.link is None or peer.status.get("role") != STARTING:
                    return
                if peer.node_id < self.node_id:
                    return
        self._go_alone()

    # -- joining -------------------------------------------------------------------------------

    def _join(self, peer: Peer) -> None:
        """Ask a peer that decides to bring us in sync with it."""
        peer.joining = True
        peer.asked_at = self.clock.monotonic()
        if self.role == JOINING:
            self.leader = peer
        floor = self.changes.tombstones.floor
        fields = {
            "wants": [frames.encode_text(key) for key in peer.wants],
            "all": peer.wants_all or self.role == STARTING,
            "leads": self.leading,
            "pending": list(self._forwards),
            "replace": floor if floor > peer.departed_version else 0,
        }
        peer.signal(self.clock.monotonic(), Kind.JOIN, frames.encode_json(fields))

    def _join_arrived(self, peer: Peer, fields: dict[str, Any], now: float) -> None:
        try:
            wants = [frames.decode_text(key) for key in fields["wants"]]
            pending = [int(number) for number in fields["pending"]]
            replace, wants_all = int(fields["replace"]), bool(fields["all"])
            leads = bool(fields["leads"])
        except (KeyError, TypeError, ValueError, AttributeError):
            raise FrameError("a JOIN without what belongs into it") from None
        if not self.leading:
            self._send_status(peer)  # it asks again when somebody leads
            return
        if leads and peer.joining and self.node_id > peer.node_id:
            return  # both lead, and ask each other
        peer.joining = False
        if peer.in_view:
            self._lose([peer], "joins anew")
        self.flush()
        peer.open_channel(self._next_epoch())
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
        welcome = {"replace": floor if replaces else 0, "done": done, "all": bool(replace)}
        peer.send(now, Kind.WELCOME, frames.encode_json(welcome))
        self._begin_todo(peer, wants, whole=wants_all or replaces)

    def _welcome_arrived(self, peer: Peer, fields: dict[str, Any], epoch: int) -> None:
        if self.role == FOLLOWER or (peer.channel is not None and peer.channel.epoch >= epoch):
            self.stale_frames += 1
            return
        try:
            replace, whole = int(fields["replace"]), bool(fields["all"])
            done = {int(n): frames.decode_text(reply) for n, reply in fields["done"].items()}
        except (KeyError, TypeError, ValueError, AttributeError):
            raise FrameError("a WELCOME without what belongs into it") from None
        self.flush()
        peer.joining = False
        peer.wants, peer.wants_all = [], False
        peer.open_channel(epoch)
        peer.flowing = True
        assert peer.channel is not None
        peer.channel.received = 1
        peer.answer_due = True
        self._highest_epoch = max(self._highest_epoch, epoch)
        if replace:
            peer.replace_up_to, peer.confirmed = replace, set()
        for number, reply in done.items():
            forward = self._forwards.pop(number, None)
            if forward is not None:
                forward.waiter.answered(reply)
        if self.role == JOINING:
            self.leader = peer
            self._unsent_forwards = list(self._forwards.values())
            redo, self._redo = self._redo, []
            for waiter in redo:
                self.forward(waiter, waiter.held_protocol, waiter.held_request)
        # Whoever just starts has nothing. Else there may be something here that the other has lost,
        # if it is not the one that we were in sync with.
        self._begin_todo(peer, whole=whole)

    # -- resync --------------------------------------------------------------------------------

    def _begin_todo(self, peer: Peer, wants: Iterable[bytes] = (), *, whole: bool = False) -> None:
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
        records = []
        if changes.barrier:
            records.append(frames.encode_flush(changes.barrier))
        if changes.flush_due_at:
            records.append(frames.encode_flush_due(changes.flush_due_at))
        if records:
            peer.send(now, Kind.CHANGES, b"".join(records))
        self._pump(peer, now)

    def _keys_to_send(self, wants: list[bytes], missed: list[bytes] | None) -> Iterator[bytes]:
        yield from wants
        if missed is not None:
            yield from missed
            return
        yield from [key for key, _ in self.changes.tombstones.items()]
        for number in range(TABLES):
            for item in self.cache.table_items(number):
                yield item.key

    def _pump(self, peer: Peer, now: float, *, whole: bool = False) -> None:
        """Send more of a resync, as much as may be on its way."""
        channel = peer.channel
        assert channel is not None
        while peer.todo is not None or peer.behind:
            if channel.unacked_bytes >= WINDOW_BYTES and not whole:
                return
            records: list[bytes] = []
            size = 0
            while len(records) < SLICE_ITEMS and size < SLICE_BYTES:
                key = self._next_key(peer)
                if key is None:
                    break
                record = self.changes.record_of(key)
                if record is not None:
                    records.append(record)
                    size += len(record)
            caught_up = peer.todo is None and not peer.behind
            if records:
                peer.send(
                    now,
                    Kind.CHANGES,
                    b"".join(records),
                    sequence=self.changes.sequence if caught_up and peer.in_view else 0,
                )
        if not peer.in_view and not peer.sent_all:
            peer.sent_all = True
            peer.send(now, Kind.SYNCED, sequence=self.changes.sequence)
            self._propose(peer, now)
        elif peer.in_view:
            peer.mode = "in_sync"

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
            self._log(
                f"replication: dropped {dropped} items that {peer.node_id} may have deleted: "
                "there was no room to remember all deletions"
            )
        self._propose(peer, now)

    # -- views ---------------------------------------------------------------------------------

    def _propose(self, peer: Peer, now: float) -> None:
        """Propose to be one, when each has all that the other had."""
        if (
            self.leading
            and peer.hosted
            and not peer.in_view
            and peer.sent_all
            and peer.got_all
            and not peer.proposed
            and not peer.behind
            and now >= peer.not_before
        ):
            peer.proposed = True
            peer.send(now, Kind.PROPOSE)

    def _propose_arrived(self, peer: Peer, now: float) -> None:
        """Stop deciding: from now on the other one does."""
        if self.role == FOLLOWER:
            return
        if self.changes.pending:
            self._flush_changes(now)
        self._pump(peer, now, whole=True)
        if self.leading:
            for other in list(self.followers):
                self._drop(other)
            self.leader = peer
            self._leader_lost_at = now
            self._set_role(JOINING)
            self._settle()
            self._announce_status()
        self.leader = peer
        peer.send(now, Kind.ACCEPT, sequence=self.changes.sequence)

    def _accept_arrived(self, peer: Peer, now: float) -> None:
        """Decide for both from now on."""
        if not self.leading or not peer.proposed or peer.in_view:
            return
        if self.changes.pending:
            self._flush_changes(now)
        assert peer.channel is not None
        peer.in_view = peer.known = True
        peer.mode = "in_sync"
        self.followers.append(peer)
        self.epoch = self._next_epoch()
        peer.acked_ticket = self._ticket - 1
        peer.acked_version = self.cache.cas_unique
        if self.settled is FOREVER:
            self._watermark = self.cache.cas_unique
        self._set_role(COORDINATOR)
        self._announce_view(now)
        self._refresh_lease(now)

    def _announce_view(self, now: float) -> None:
        view = {"epoch": self.epoch, "members": self.members}
        for peer in self.followers:
            peer.send(now, Kind.VIEW, frames.encode_json(view))
        self._announce_status()

    def _view_arrived(self, peer: Peer, fields: dict[str, Any], now: float) -> None:
        """Be in sync; or learn who else is."""
        try:
            epoch, members = int(fields["epoch"]), [str(member) for member in fields["members"]]
        except (KeyError, TypeError, ValueError):
            raise FrameError("a VIEW without what belongs into it") from None
        if self.role not in (STARTING, JOINING, FOLLOWER) or peer is not self.leader:
            return
        self.epoch = epoch
        self._highest_epoch = max(self._highest_epoch, epoch)
        self.coordinator = peer.node_id
        self.members = members
        peer.in_view = peer.known = True
        peer.mode = "in_sync"
        peer.acked_sequence = self.changes.sequence
        if self.role != FOLLOWER:
            self._set_role(FOLLOWER)
            self._refresh_lease(now)
            self._announce_status()

    # -- time ----------------------------------------------------------------------------------

    def step(self) -> float:
        """Do what is due; return in how many seconds to call again."""
        now = self.clock.monotonic()
        if now > self._next_step_at + self.ack_timeout_s / 4:
            # We were late, perhaps frozen. What others said meanwhile has not been read yet: be
            # as patient as if everything had been asked just now.
            self._awake_since = now
        self._close_slow_links(now)
        lost = [peer for peer in self._partners() if self._is_lost(peer, now)]
        if lost and self.role in (COORDINATOR, FOLLOWER):
            self._lose(lost, "no answer in time" if lost[0].link else "the link is down")
        self._see_to_joining(now)
        self._keep_in_touch(now)
        self._flush_when_due()
        if now - self._tombstones_expired_at >= TOMBSTONES_EXPIRE_EVERY_S:
            self._tombstones_expired_at = now
            self.changes.tombstones.expire(
                version_at(self.clock.realtime() - self._tombstone_ttl_s, 0)
            )
        self.flush()
        delay = self._delay(now)
        self._next_step_at = now + delay
        return delay

    def _delay(self, now: float) -> float:
        if not self.peers and not self.links and self.role == ALONE:
            delay = HEARTBEAT_S if self.changes.flush_due_at else inf
        elif now < self._active_until or self._waiting or self._forwards or self._held:
            delay = min(ACTIVE_STEP_S, self.ack_timeout_s / 4)
            oldest = min((self._since(peer) for peer in self._partners()), default=inf)
            deadline = max(oldest, self._awake_since) + self.ack_timeout_s
            if deadline > now:
                delay = min(delay, deadline - now)
        else:
            delay = HEARTBEAT_S
            if self.role in (STARTING, JOINING):
                delay = ACTIVE_STEP_S * 5
            for peer in self._partners():
                if peer.link is None:
                    delay = min(delay, max(0.0, peer.link_lost_at + self.ack_timeout_s - now))
            for peer in self.peers.values():
                if peer.channel is not None and now < peer.not_before:
                    delay = min(delay, peer.not_before - now)
        if self.changes.flush_due_at:
            delay = min(delay, max(0.0, self.changes.flush_due_at - self.clock.realtime()))
        return delay

    def _since(self, peer: Peer) -> float:
        """Return since when somebody has been waiting for a peer."""
        oldest = inf
        channel = peer.channel
        if self.role == COORDINATOR:
            if channel is not None and channel.unacked and self.protecting:
                oldest = channel.unacked[0].sent_at
        elif self._forwards:
            oldest = next(iter(self._forwards.values())).since
        if self._waiting and peer.echoed + self.lease_s < self.clock.monotonic():
            oldest = min(oldest, self._waiting_since)
        if peer.link is None:
            oldest = min(oldest, peer.link_lost_at)
        return oldest

    def _is_lost(self, peer: Peer, now: float) -> bool:
        """Return whether a peer of our view is to be given up."""
        silent_since = max(peer.heard_at, self._awake_since)
        if now - silent_since >= SILENCE_S:
            return True
        return (
            now - max(self._since(peer), self._awake_since) >= self.ack_timeout_s
            and now - silent_since >= self.lease_s
        )

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
            # A peer that has data but does not lead will, soon.
            busy = busy or any(
                peer.link is not None and peer.status.get("role", STARTING) != STARTING
                for peer in self.peers.values()
            )
            overdue = now - self._started_at >= self._sync_timeout_s and not busy
            if overdue or not self._settings_peers:
                self._go_alone()
        elif self.role == JOINING:
            leader = self.leader
            assert leader is not None
            if leader.link is not None and leader.channel is not None:
                self._leader_lost_at = now
            elif now - max(self._leader_lost_at, self._awake_since) >= JOIN_GRACE_S:
                self._go_alone()
        for peer in list(self.peers.values()):
            if peer.channel is None:
                if peer.joining and now - peer.asked_at >= JOIN_GRACE_S / 2:
                    peer.joining = False  # our question crossed with something; ask again
                self._consider(peer)
                continue
            if not peer.in_view and now - max(peer.heard_at, self._awake_since) >= SILENCE_S:
                self._drop(peer)
            elif self.leading and peer.flowing:
                self._propose(peer, now)
            if peer.in_view and peer.lapses and now - peer.not_before >= 6 * READMIT_MAX_S:
                peer.lapses = 0

    def _keep_in_touch(self, now: float) -> None:
        """Ping who has not heard of us, and keep leases while there is something to do."""
        active = now < self._active_until
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
        if self.leading and 0 < changes.flush_due_at <= self.clock.realtime():
            self.cache.flush()
            self.cache.counters.flush_cmds -= 1  # it was counted when it was asked for

    def drained(self) -> bool:
        """Return whether everything has been acknowledged: this node may go."""
        return all(
            peer.channel is None or peer.link is None or not peer.channel.unacked
            for peer in self.peers.values()
        )

    # -- statistics ----------------------------------------------------------------------------

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

    @property
    def queue_free(self) -> int:
        """Return how many more changed keys may wait for a slow peer."""
        return self._queue_max - max((len(p.behind) for p in self.peers.values()), default=0)
