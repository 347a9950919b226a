"""The replication core, broken on purpose: each of these must be caught by the simulation.

A mutant replaces a few methods of the core while it is applied. What it breaks is one promise; if
the simulation runs on as if nothing were wrong, the checkers are worth nothing. Or it is something
that always holds within a node, and is to be noticed by `Node.check` before any promise is broken.

A change of the core makes all worlds others. So no mutant is tied to a seed: it names the troubles
of the worlds in which it shows again and again, and is hunted through these from the first on.
"""

from __future__ import annotations

from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from functools import cache, partial
from math import inf
from typing import TYPE_CHECKING, Any, Final

import pytest

from pymcd.protocol import text
from pymcd.protocol.connection import Connection
from pymcd.protocol.paired import PairedConnection
from pymcd.replication import frames, records, resync
from pymcd.replication.ballot import Ballot, Poll
from pymcd.replication.beginning import Beginning
from pymcd.replication.changes import Changes
from pymcd.replication.channel import Channel, Unacked
from pymcd.replication.clocks import VersionClock
from pymcd.replication.commits import Commits
from pymcd.replication.etcd import EtcdRegister
from pymcd.replication.frames import FrameError, Kind
from pymcd.replication.gate import Gate
from pymcd.replication.lease import SILENCE_S, Lease, Wakefulness
from pymcd.replication.link import Link
from pymcd.replication.membership import Membership
from pymcd.replication.node import Node
from pymcd.replication.peer import Peer
from pymcd.replication.resync import Resync
from pymcd.replication.roles import FOLLOWER, Role
from pymcd.replication.versions import FOREVER, TAG_MASK, Discarded, Tombstones
from pymcd.replication.view import View
from pymcd.replication.waiting import UNKNOWN, Executed, Nobody
from pymcd.service import Service

from . import (
    test_beginning,
    test_changes,
    test_clocks,
    test_doubt,
    test_evictions,
    test_flushes,
    test_forgotten,
    test_gate,
    test_mad_peers,
    test_membership,
    test_node,
    test_patience,
    test_report,
    test_telling,
    test_three,
    test_voting,
    test_waiting,
)
from .simulation import Report, run

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import ModuleType

    from pymcd.replication.etcd import Entry
    from pymcd.replication.lease import Patience
    from pymcd.replication.messages import Join, Vote
    from pymcd.replication.waiting import Waiter
    from pymcd.store import Item


@dataclass
class Mutant:
    """One way to break the core."""

    name: str
    #: (class or module, attribute, function of the original that returns what takes its place).
    changes: list[tuple[type | ModuleType, str, Callable[[Any], Any]]]
    #: What each world has in any case, of `simulation.NAMES`: so that it shows in one of a few.
    more: frozenset[str] = frozenset()
    #: How many nodes there are; None: as the seed says.
    nodes: int | None = None
    #: In how many worlds it must be caught. Most are in one of the first five.
    within: int = 100
    #: A world built by hand where chance makes one too rarely: what is promised is asserted there.
    by_hand: Callable[[], None] | None = None
    #: What `Node.check` says of it; None: a promise is broken, and that must be noticed without it.
    says: str | None = None

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Break the core, for a while."""
        changes = list(self.changes)
        if self.says is None:
            # It is the promises that are to be missed, by who knows nothing of the core's insides.
            changes.append((Node, "check", _nothing))
        before = [(owner, name, owner.__dict__.get(name)) for owner, name, _ in changes]
        for owner, name, change in changes:
            setattr(owner, name, change(owner.__dict__.get(name)))
        try:
            yield
        finally:
            for owner, name, original in reversed(before):
                if original is None:
                    delattr(owner, name)
                else:
                    setattr(owner, name, original)

    def hunt(self) -> Report | None:
        """Return the first report in which something is found; None: it gets away."""
        if self.by_hand is not None:
            return self._try_by_hand(self.by_hand)
        for seed in range(self.within):
            report = self.try_on(seed)
            if report is not None:
                return report
        return None

    def _try_by_hand(self, world: Callable[[], None]) -> Report | None:
        world()
        with self.applied():
            try:
                world()
            except AssertionError as error:
                return Report(0, [repr(error)])
        return None

    def try_on(self, seed: int) -> Report | None:
        """Return the report of one world, if something is found there that is not without it."""
        with self.applied():
            report = run(seed, more=self.more, nodes=self.nodes)
        caught = report.found and (self.says or "") in report.found[0]
        return report if caught and is_well(seed, self.more, self.nodes) else None


@cache
def is_well(seed: int, more: frozenset[str], nodes: int | None) -> bool:
    """Return whether nothing is found in a world as long as nothing is broken on purpose."""
    return not run(seed, more=more, nodes=nodes).found


def _nothing(original: Any) -> Any:
    return lambda self, *arguments, **more: None


def _has_what_is_under_way(original: Any) -> Any:
    def take_in(self: Membership, peer: Peer, channel: Any) -> None:
        original(self, peer, channel)
        if peer.in_view:
            peer.acked_version = self.cache.cas_unique

    return take_in


def _never(original: Any) -> Any:
    return lambda self, *arguments, **more: False


def _always(original: Any) -> Any:
    return property(lambda self: True)


def _lives_do_not_matter(original: Any) -> Any:
    def answered(self: Poll, node_id: str, life: str, grant: Any, **times: float) -> None:
        base = self.vote.base
        original(self, node_id, base.data.get(node_id, life) if base else life, grant, **times)

    return answered


def _whatever_is_later(original: Any) -> Any:
    return lambda self, vote: vote.roll.epoch > self.epoch


def _all_lives_are_over(original: Any) -> Any:
    def ask(self: Ballot, roll: Any, everybody: frozenset[str], *, anew: bool = False) -> Poll:
        if self.backs is not None:
            self.over.update(self.backs.data)
        poll: Poll = original(self, roll, everybody, anew=anew)
        return poll

    return ask


def _not_grown(original: Any) -> Any:
    def apply_altered(self: Changes, record: tuple[Any, ...], origin_s: int) -> bool:
        *about, appended, prepended = record
        about[2] -= sum(map(len, [*appended, *prepended]))
        done: bool = original(self, (*about, [], []), origin_s)
        return done

    return apply_altered


def _release_at_once(original: Any) -> Any:
    return lambda self, waiter: waiter.released()


def _acknowledge_all(original: Any) -> Any:
    return lambda self, number: original(self, self.sent)


def _apply_stale(original: Any) -> Any:
    def receive(self: Membership, peer: Peer, body: bytes) -> None:
        kind, _, _, epoch, number, _ = frames.decode_head(body)
        stale = peer.channel is None or peer.channel.epoch != epoch
        if kind == Kind.CHANGES and number and stale:
            self._node.gate.changes_arrived(peer, body)
        original(self, peer, body)

    return receive


def _forget_requests(original: Any) -> Any:
    def leave_channel(self: Peer) -> Any:
        unacked = original(self)
        self.executed.replies.clear()
        return unacked

    return leave_channel


def _execute_again(original: Any) -> Any:
    def execute_for(self: Gate, peer: Peer, *request: Any, **more: Any) -> None:
        peer.executed.replies.clear()
        peer.executed.executing.clear()
        original(self, peer, *request, **more)

    return execute_for


def _apply_older(original: Any) -> Any:
    def apply_state(self: Changes, record: Any, origin_s: int, *, relay: bool) -> bool:
        if self.cache.linked(record[1]) is not None:
            self.forget([record[1]])
        return bool(original(self, record, origin_s, relay=relay))

    return apply_state


def _no_lease(original: Any) -> Any:
    def refresh_lease(self: Gate, now: float) -> None:
        self.open_until = inf
        self.resume_waiting()

    return refresh_lease


def _emptiness_wins(original: Any) -> Any:
    def join_arrived(self: Membership, peer: Peer, join: Join, now: float) -> None:
        original(self, peer, replace(join, replace=1 << 62), now)

    return join_arrived


def _alone_at_once(original: Any) -> Any:
    def link_down(self: Membership, link: Any, reason: str = "") -> None:
        peer = self.peer_of(link)
        original(self, link, reason)
        if peer is not None and peer.in_view:
            self._node.lose([peer], "cut")

    return link_down


def _nobodys(original: Any) -> Any:
    return lambda beginning: ""


def _status_alone_tells(original: Any) -> Any:
    return lambda self, peer: peer.status is not None and original(self, peer)


def _believe_for_ever(original: Any) -> Any:
    return lambda self, nodes: True


def _begin_at_once(original: Any) -> Any:
    def start(self: Node) -> None:
        original(self)
        if self.role == "starting":
            self.go_alone()

    return start


def _ignore_skew(original: Any) -> Any:
    return lambda self, item_s: self.origin_s


def _evictions_travel(original: Any) -> Any:
    def on_evict(self: Service, item: Any) -> None:
        original(self, item)
        self.gate.changes.deleted(item.key)  # type: ignore[union-attr]

    return on_evict


def _followers_decide(original: Any) -> Any:
    def become(self: Node, role: Role) -> None:
        original(self, role)
        if role is FOLLOWER:
            self.view.stance.leading = True

    return become


def _all_is_settled(original: Any) -> Any:
    return property(lambda self: FOREVER, lambda self, version: None)


def _no_live_changes(original: Any) -> Any:
    def send(self: Peer, now: float, kind: Kind, *payload: bytes, **more: Any) -> None:
        if kind != Kind.CHANGES or more.get("keys") is None or self.in_view:
            original(self, now, kind, *payload, **more)

    return send


def _nothing_missed(original: Any) -> Any:
    return lambda self, sequence: []


def _ignore_flush(original: Any) -> Any:
    return lambda self, version, *, relay: False


def _members_are_nobodys(original: Any) -> Any:
    def become_member(self: Connection) -> None:
        original(self)
        self.commands = Connection.tables.members

    return become_member


def _only_what_is_gathered(original: Any) -> Any:
    return property(lambda self: bool(self.stance.protecting and self.changes.pending))


def _departed_with_all(original: Any) -> Any:
    def begin_log(self: Changes, keys: Any, known_up_to: int) -> None:
        original(self, (), known_up_to)

    return begin_log


def _no_marks(original: Any) -> Any:
    return lambda self, item, before: None


def _stay_here(original: Any) -> Any:
    return lambda self, item: None


def _not_called_off(original: Any) -> Any:
    def flushed(self: Changes, cas_unique: int) -> None:
        due_at = self.flush_due_at
        original(self, cas_unique)
        self.flush_due_at = due_at

    return flushed


def _wait_for_all(original: Any) -> Any:
    return lambda self, keys, most: original(self, keys, 1 << 30)


def _log_all(original: Any) -> Any:
    def log(self: Changes, keys: Any) -> None:
        limit_bytes, self.log.limit_bytes = self.log.limit_bytes, 1 << 60
        original(self, keys)
        self.log.limit_bytes = limit_bytes

    return log


def _take_away_at_once(original: Any) -> Any:
    return Connection.drop


def _leave_alone(original: Any) -> Any:
    def deleted(self: Changes, key: bytes) -> None:
        if self._leads():
            original(self, key)

    return deleted


def _forget_what_failed(original: Any) -> Any:
    def execute_for(self: Gate, peer: Peer, request: int, *asked: Any, **how: Any) -> None:
        original(self, peer, request, *asked, **how)
        results = peer.executed.results
        if results and results[-1] == (request, UNKNOWN):
            results.pop()

    return execute_for


def _remember_all(original: Any) -> Any:
    def add(self: Tombstones, key: bytes, version: int) -> None:
        limit_bytes, self.limit_bytes = self.limit_bytes, 1 << 60
        original(self, key, version)
        self.limit_bytes = limit_bytes

    return add


def _heard_once(original: Any) -> Any:
    def is_lost(
        self: Lease,
        now: float,
        asked_at: float,
        awake: Wakefulness,
        patience: Patience,
        **more: float,
    ) -> bool:
        echoed, self.echoed = self.echoed, max(self.echoed, self.answered)
        try:
            return bool(original(self, now, asked_at, awake, patience, **more))
        finally:
            self.echoed = echoed

    return is_lost


def _wait_for_ever(original: Any) -> Any:
    return lambda self, now, *asked, **more: self.silent_s(now, asked[1].woke_at) >= SILENCE_S


def _for_ever(original: Any) -> Any:
    return property(lambda self: inf)


def _late_is_asleep(original: Any) -> Any:
    def is_lost(
        self: Lease,
        now: float,
        asked_at: float,
        awake: Wakefulness,
        patience: Patience,
        **more: float,
    ) -> bool:
        awake.woke_at = max(awake.woke_at, awake.since)
        return bool(original(self, now, asked_at, awake, patience, **more))

    return is_lost


def _later_always(original: Any) -> Any:
    return lambda self, node_id, link, old: True


def _parts_lost(original: Any) -> Any:
    def assemble(self: Channel, body: bytes) -> Any:
        self._parts[1:] = []
        return original(self, body)

    return assemble


def _forget_flushed(original: Any) -> Any:
    return lambda self: b""


def _any_word(original: Any) -> Any:
    return lambda self, up_to=inf: original(self)


def _all_is_ordinary(original: Any) -> Any:
    return lambda self, *, ordinary=True: original(self)


def _has_the_whole_log(original: Any) -> Any:
    def send_changes(self: Gate, now: float) -> None:
        original(self, now)
        for peer in self._view.peers.values():
            if peer.channel is not None and peer.channel.unacked:
                last = peer.channel.unacked[-1]
                if last.keys is not None:
                    last.sequence = self.changes.sequence

    return send_changes


def _never_retired(original: Any) -> Any:
    return property(lambda self: False, lambda self, retired: None)


def _let_go_aloud(original: Any) -> Any:
    return lambda self, followers, *, one_answers: original(self, [], one_answers=one_answers)


def _muted_aloud(original: Any) -> Any:
    def heard(self: Lease, now: float, time: float, echo: float) -> Any:
        renews = original(self, now, time, echo)
        self.their_time = abs(self.their_time)
        return renews

    return heard


def _knew_all_when_it_left(original: Any) -> Any:
    def drop(self: Node, peer: Peer) -> Any:
        in_view = peer.in_view
        unacked = original(self, peer)
        if in_view:
            peer.departed_version = self.cache.cas_unique
            self.note_departures()
        return unacked

    return drop


def _flush_anywhere(original: Any) -> Any:
    return lambda self: self.changes.flush_if_due()


def _left_at_once(original: Any) -> Any:
    def is_lost(self: Node, peer: Peer, now: float) -> Any:
        broken = peer.channel is not None and peer.channel.broken
        return bool(broken) or original(self, peer, now)

    return is_lost


def _forget_what_is_in_doubt(original: Any) -> Any:
    def doubt(self: Changes, *what: Any) -> None:
        original(self, *what)
        self.forget(list(self.in_doubt))

    return doubt


def _forget_before_it_is_taken(original: Any) -> Any:
    def undo_doubted(self: Changes) -> Iterator[Any]:
        for told in original(self):
            self.forget((told[0][1],))
            yield told

    return undo_doubted


def _run_short(number: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        test_doubt.TestNoMemory().test_and_what_is_here_stands_if_the_other_dies(patch, number)


def _never_so(_: Any) -> property:
    return property(lambda self: False, lambda self, value: None)


def _tell_one_alone(original: Any) -> Any:
    def tell(self: Membership, peer: Peer, dropped: dict[bytes, int], now: float) -> None:
        peer.send(now, Kind.CHANGES, self.changes.tell_dropped(dropped, relay=False))

    return tell


def _executed_again(original: Any) -> Any:
    def deposed(self: Node, *arguments: Any, **more: Any) -> None:
        commits, membership = self.gate.commits, self.membership
        acknowledged = membership.acknowledged

        def and_release_nothing(*about: Any) -> None:
            acknowledged(*about)
            vars(commits)["release"] = lambda ticket: None

        vars(membership)["acknowledged"] = and_release_nothing
        try:
            original(self, *arguments, **more)
        finally:
            del vars(membership)["acknowledged"]
            vars(commits).pop("release", None)

    return deposed


def _nothing_is_replaced(original: Any) -> Any:
    def join_arrived(self: Membership, *arguments: Any) -> None:
        tombstones = vars(self.changes.tombstones)
        tombstones["floor_for"] = lambda peer: 0
        try:
            original(self, *arguments)
        finally:
            del tombstones["floor_for"]

    return join_arrived


def _has_what_its_former_life_had(original: Any) -> Any:
    def meet_anew(self: Membership, peer: Peer, incarnation: str) -> None:
        original(self, peer, incarnation)
        known = self.__dict__.setdefault("known", {})
        peer.acked_sequence = known.get(peer.node_id, -1)

    return meet_anew


def _believe_what_came_before(original: Any) -> Any:
    def decode_records(payload: bytes, *where: Any) -> Iterator[Any]:
        for end in range(len(payload), 0, -1):
            with suppress(FrameError):
                yield from original(payload[:end], *where)
                break
        if end < len(payload):
            raise FrameError("a record that is cut off")

    return decode_records


def _whoever_that_is_now(original: Any) -> Any:
    def join(self: Membership, peer: Peer) -> None:
        peer.met_at = -inf
        original(self, peer)

    return join


def _content_with_a_lease(original: Any) -> Any:
    def ask_leader(self: Gate) -> None:
        if not self.waiting:
            self.wait_open(Nobody())

    return ask_leader


def _has_what_could_not_be_taken(original: Any) -> Any:
    def meet_anew(self: Membership, peer: Peer, incarnation: str) -> None:
        why = peer.left_why
        original(self, peer, incarnation)
        peer.left_why = why

    return meet_anew


def _has_nothing_in_common(original: Any) -> Any:
    def meet_anew(self: Membership, peer: Peer, incarnation: str) -> None:
        original(self, peer, incarnation)
        peer.common_version = 0

    return meet_anew


def _has_told_nothing(original: Any) -> Any:
    def meet_anew(self: Membership, peer: Peer, incarnation: str) -> None:
        peer.told_version = 0
        original(self, peer, incarnation)

    return meet_anew


def _ours_is_nobodys(original: Any) -> Any:
    def was_in_sync_here(self: Gate, version: int) -> Any:
        is_ours = not (version ^ self.changes.tag) & TAG_MASK
        return None if is_ours else original(self, version)

    return was_in_sync_here


def _remember_what_it_had(original: Any) -> Any:
    def link_down(self: Membership, link: Any, reason: str = "") -> None:
        peer = self.peer_of(link)
        if peer is not None:
            self.__dict__.setdefault("known", {})[peer.node_id] = peer.acked_sequence
        original(self, link, reason)

    return link_down


def _owed_nothing(original: Any) -> Any:
    def next_slice(self: Resync, changes: Changes) -> Any:
        self.owes_flushes = False
        return original(self, changes)

    return next_slice


def _asked_for_and_missed(original: Any) -> Any:
    def keys_to_send(changes: Changes, wants: list[bytes], missed: Any) -> Iterator[bytes]:
        yield from wants
        yield from original(changes, [], missed)

    return keys_to_send


def _all_at_once(original: Any) -> Any:
    return lambda self, now, changes, *, whole=False: original(self, now, changes, whole=True)


def _dropped_at_once(original: Any) -> Any:
    def drop(self: Changes, confirmed: Any, version: int) -> Iterator[dict[bytes, int]]:
        every: dict[bytes, int] = {}
        for dropped in original(self, confirmed, version):
            every.update(dropped)
        yield every

    return drop


def _drop_in_slices() -> None:
    with pytest.MonkeyPatch.context() as patch:
        returning = test_node.TestReturning()
        returning.test_what_may_have_been_deleted_is_dropped_in_slices_before_they_are_one(
            leads=False, monkeypatch=patch
        )


def _first_secret_alone(original: Any) -> Any:
    def is_right(self: Link, proof: bytes) -> Any:
        owner = self._owner
        others, owner.other_secrets = owner.other_secrets, ()
        try:
            return original(self, proof)
        finally:
            owner.other_secrets = others

    return is_right


def _freed_at_once(original: Any) -> Any:
    def dispose(self: Discarded) -> bool:
        self._dicts.clear()
        return False

    return dispose


# -- what only `Node.check` sees at once -------------------------------------------------------


def _role_without_stance(original: Any) -> Any:
    def become(self: View, role: Role) -> None:
        stance = replace(self.stance)
        original(self, role)
        for name in ("leading", "remote", "protecting", "refusing"):
            setattr(self.stance, name, getattr(stance, name))

    return become


def _keep_members(original: Any) -> Any:
    def become(self: View, role: Role) -> None:
        members = self.members
        original(self, role)
        self.members = members

    return become


def _keep_phase(original: Any) -> Any:
    def leave_channel(self: Peer) -> Any:
        phase = self.phase
        unacked = original(self)
        self.phase = phase
        return unacked

    return leave_channel


def _keep_resync(original: Any) -> Any:
    def leave_channel(self: Peer) -> Any:
        resync = self.resync
        unacked = original(self)
        self.resync = resync
        return unacked

    return leave_channel


def _latest_first(original: Any) -> Any:
    def close_batch(self: Commits) -> Any:
        ticket = original(self)
        if len(self.held) > 1 and self.held[-1][0] == ticket:
            self.held.appendleft(self.held.pop())
        return ticket

    return close_batch


def _wait_first(original: Any) -> Any:
    def wait_open(self: Gate, waiter: Any) -> None:
        original(self, waiter)
        self.waiting.rotate()

    return wait_open


def _count_no_bytes(original: Any) -> Any:
    def take(self: Channel, message: Unacked) -> None:
        original(self, message)
        self.unacked_bytes -= message.size

    return take


def _skip_a_number(original: Any) -> Any:
    def acknowledge(self: Channel, number: int) -> Any:
        last = original(self, number)
        if len(self.unacked) > 2:
            del self.unacked[1]
        return last

    return acknowledge


def _open_for_ever(original: Any) -> Any:
    def refresh_lease(self: Gate, now: float) -> None:
        original(self, now)
        self.open_until += 1.0

    return refresh_lease


def _as_if_alone(original: Any) -> Any:
    def answer_several(connection: Connection, words: bytes, gate: Gate | None) -> Any:
        return original(connection, words, None)

    return answer_several


def _never_mind_what_is_forgotten(original: Any) -> Any:
    def replacement(self: Node | Membership, *arguments: Any) -> None:
        tombstones = vars(self.changes.tombstones)
        tombstones["note_unacknowledged"] = lambda version: None
        try:
            original(self, *arguments)
        finally:
            del tombstones["note_unacknowledged"]

    return replacement


def _all_that_was_forgotten(original: Any) -> Any:
    def to_be_replaced(self: Membership, peer: Peer) -> int:
        floor = self.changes.tombstones.floor_for(peer.node_id)
        return floor if floor > peer.departed_version else 0

    return to_be_replaced


def _only_deletions(original: Any) -> Any:
    def doubt(self: Tombstones, version: int) -> None:
        written, self._written = self._written, {}
        original(self, version)
        self._written = written

    return doubt


def _keep_unstable(original: Any) -> Any:
    def take_over(self: Gate) -> None:
        unstable = list(self.unstable)
        original(self)
        self.unstable.extend(unstable)

    return take_over


def _met_just_now(original: Any) -> Any:
    def meet_anew(self: Membership, peer: Peer, incarnation: str) -> None:
        original(self, peer, incarnation)
        peer.met_at = -inf

    return meet_anew


def _told_by_nobody(original: Any) -> Any:
    def apply_gone(self: Changes, key: bytes, version: int, **more: Any) -> bool:
        return bool(original(self, key, version, **{**more, "told_by": ""}))

    return apply_gone


def _leave_traces(original: Any) -> Any:
    def unlink(self: Changes, item: Item) -> None:
        if item.cas_unique > self.departed_version:
            self.tombstones.add(item.key, item.cas_unique - 1)
        original(self, item)

    return unlink


def _asked_before_sent(original: Any) -> Any:
    def send_forwards(self: Gate, now: float) -> None:
        before = [(forward, forward.since) for forward in self.unsent_forwards]
        original(self, now)
        for forward, since in before:
            forward.since = since

    return send_forwards


def _not_far_ahead(original: Any) -> Any:
    def keep_up(self: Changes, version: int, most_s: float) -> bool:
        original(self, version, most_s)
        return False

    return keep_up


def _follow_the_wall_clock(original: Any) -> Any:
    def look(self: VersionClock) -> float:
        step_s = float(original(self))
        self.origin_s = self._wall_s
        return step_s

    return look


def _hold_with_the_first(original: Any) -> Any:
    def hold(self: Commits, waiter: Waiter, *, changed: bool) -> None:
        if changed or not self.held:
            original(self, waiter, changed=changed)
        else:
            self.held[0][1].append(waiter)

    return hold


def _any_word_on_flushes(original: Any) -> Any:
    def apply_flush_due(self: Changes, version: int, at: int, *, relay: bool) -> Any:
        if self._flush_due_told is None:
            self.flush_due_version = 0
        return original(self, version, at, relay=relay)

    return apply_flush_due


def _only_configured(original: Any) -> Any:
    def note_departures(self: Node) -> None:
        original(self)
        self.changes.tombstones.shared = self.view.are_all(self.configured, self._with_us())

    return note_departures


def _only_who_was_met(original: Any) -> Any:
    def note_departures(self: Node) -> None:
        original(self)
        lacks_after = [peer.lacks_after for peer in self.view.peers.values()]
        self.changes.departed_version = min(lacks_after, default=FOREVER)

    return note_departures


def _as_if_empty(original: Any) -> Any:
    def begin_resync(self: Membership, peer: Peer, *args: Any, **kwargs: Any) -> None:
        original(self, peer, *args, **kwargs | {"empty": True})

    return begin_resync


HOT: Final = frozenset({"hot_keys"})
LATE: Final = frozenset({"late_handshake"})
#: Both sides of a partition delete more than they remember.
DELETIONS: Final = frozenset({"deletions", "tiny_log", "partition"})
QUEUES: Final = frozenset({"tiny_queues", "many_keys"})


def _only_who_was_in_sync(original: Any) -> Any:
    return property(
        lambda self: self.departed_version if self.known and not self.in_view else FOREVER
    )


def _always_consent(original: Any) -> Any:
    def decide(self: Any, request: Any, state: Any, entry: Entry, vote: Vote) -> None:
        if entry.memory.backs == vote.roll:
            original(self, request, state, entry, vote)
        else:
            memory = replace(entry.memory, backs=vote.roll)
            self._set(request, state.revision, replace(entry, memory=memory))

    return decide


_TWO_LINKS: Final = test_membership.TestTwoLinks()
_STANDING: Final = test_beginning.TestStandingStill()
_ALL_BEGIN: Final = test_beginning.TestAllBegin()
_FLUSHES: Final = test_flushes.TestLater()
_TELLING: Final = test_telling.TestACoordinator()
_THE_OTHER_DIES: Final = test_doubt.TestTheOtherDies()
_GONE: Final = test_three.TestOneIsGone()
_GONE_MAD: Final = test_mad_peers.TestAMessageIsTakenWholeOrNotAtAll()
_TOLD: Final = test_report.TestWhatIsTold()
_PARTED: Final = test_report.TestAfterAPartition()
_ANEW: Final = test_three.TestOneAfterTheOther()
_TOGETHER: Final = test_node.TestTogether()
_RETURNING: Final = test_node.TestReturning()
_NOT_ACKED: Final = test_evictions.TestNotAcknowledged()
_ONCE: Final = test_waiting.TestExecutedOnce()

MUTANTS = [
    Mutant(
        "who leaves says as ever that it hears those who followed it",
        [(Node, "_let_go", _let_go_aloud)],
        nodes=3,
        more=frozenset({"leave"}),
    ),
    Mutant(
        "an etcd consents to whoever asks",
        [(EtcdRegister, "_decide", _always_consent)],
        nodes=2,
        more=frozenset({"witness", "etcd", "votes"}),
    ),
    Mutant(
        "who asks for votes asks on when the one that it missed is there again",
        [(Node, "stay_with", _never)],
        by_hand=partial(
            test_voting.TestHiccup().test_nobody_waits_longer_than_that_lasts,
            "witness",
            "b",
            "",
            0.1,
        ),
    ),
    Mutant(
        "replies go out before anybody else has the write",
        [(Gate, "hold", _release_at_once)],
        more=HOT,
    ),
    Mutant(
        "one acknowledgement counts for all that was sent",
        [(Channel, "acknowledge", _acknowledge_all)],
    ),
    Mutant(
        "what is too large takes the old value away where it was said",
        [(PairedConnection, "drop", _take_away_at_once), (Changes, "deleted", _leave_alone)],
        more=frozenset({"item_sizes"}),
    ),
    Mutant(
        "what goes wrong while it is executed for another one is not remembered",
        [(Gate, "execute_for", _forget_what_failed)],
        more=frozenset({"cannot_answer"}),
    ),
    Mutant("deletions leave no tombstone", [(Tombstones, "add", _nothing)]),
    Mutant(
        "messages of older epochs are applied",
        [(Membership, "receive", _apply_stale)],
    ),
    Mutant(
        "what was executed for others is forgotten with the link, and executed again",
        [(Peer, "leave_channel", _forget_requests), (Gate, "execute_for", _execute_again)],
        by_hand=partial(
            _ONCE.test_wherever_the_link_is_lost_while_who_asked_joins_anew, "before", 2, "ab"
        ),
    ),
    Mutant(
        "of what is acknowledged at once the last message counts alone",
        [(Unacked, "cover", _nothing)],
        by_hand=test_node.TestFrozen().test_what_the_other_one_has_is_not_though_an_answer_came_behind_it,
    ),
    Mutant(
        "who is taken in is not told what was executed for one that is gone",
        [(Gate, "tell_executed", _nothing)],
        by_hand=_ONCE.test_nor_when_a_third_is_there_in_the_place_of_who_asked_and_goes_on,
    ),
    Mutant(
        "what others have heard is kept for as long as there is more to be heard",
        [(Executed, "heard", _nothing)],
        by_hand=_ONCE.test_what_is_heard_is_forgotten_though_there_is_always_more_under_way,
    ),
    Mutant("older versions are applied", [(Changes, "apply_state", _apply_older)]),
    Mutant(
        "of several keys some are read that not all hold",
        [(text, "_answer_several", _as_if_alone)],
        more=frozenset({"several", "hot_keys"}),
    ),
    Mutant("nobody needs a lease", [(Gate, "refresh_lease", _no_lease)]),
    Mutant("an empty node's emptiness wins", [(Membership, "_join_arrived", _emptiness_wins)]),
    Mutant("a lost link is a lost peer", [(Membership, "link_down", _alone_at_once)]),
    Mutant(
        "who is deposed takes nothing back",
        [(Membership, "doubt", _nothing)],
        more=frozenset({"second_failure", "busy"}),
    ),
    Mutant("an empty node serves at once", [(Node, "start", _begin_at_once)]),
    Mutant(
        "nobody's data keeps an empty node from serving",
        [(Beginning, "whose_data", _nobodys)],
        by_hand=partial(
            test_beginning.TestRefused().test_who_is_refused_by_a_peer_with_data_does_not_serve,
            "secret",
        ),
    ),
    Mutant(
        "what a HELLO says of data is forgotten with its link",
        [(Beginning, "_has_more", _status_alone_tells)],
        by_hand=partial(
            test_beginning.TestFirstWords().test_who_has_data_holds_us_though_its_link_is_lost,
            "cut",
        ),
    ),
    Mutant(
        "who just started is believed to do so for ever",
        [(Membership, "_still_are", _believe_for_ever)],
        by_hand=_ALL_BEGIN.test_who_is_out_of_date_asks_as_well,
    ),
    Mutant(
        "who stands still looks for others meanwhile",
        [(Beginning, "stood_still", _nothing)],
        by_hand=lambda: _STANDING.test_that_time_does_not_count(0.5, 4.0, suspended=False),
    ),
    Mutant(
        "who stood still for long goes on at once",
        [(Node, "_fall_behind", _nothing)],
        by_hand=partial(test_node.TestBehind().test_waits_for_a_late_network, "a", (600,), 0.3),
    ),
    Mutant(
        "what a former life of a node says is taken for a new one's",
        [(Membership, "_meet_anew", _met_just_now)],
        more=frozenset({"late_handshake"}),
    ),
    Mutant(
        "all that a peer has deleted makes room among our deletions",
        [(Changes, "apply_gone", _told_by_nobody)],
        by_hand=partial(
            test_changes.TestWhatIsNoNews().test_a_deletion_of_before_makes_no_room, relay=False
        ),
    ),
    Mutant(
        "who was told a part has others drop what it lacks",
        [(Tombstones, "told_a_part", _nothing)],
        by_hand=partial(test_forgotten.test_who_was_told_a_part_has_others_drop_nothing, anew=True),
    ),
    Mutant(
        "who was told all knows nothing of what others had to forget",
        [(Tombstones, "told_all", _nothing)],
        by_hand=test_forgotten.test_who_was_told_all_knows_for_others_what_it_had_to_forget,
    ),
    Mutant(
        "who follows another as we do lacks what we had to forget",
        [(Peer, "was_in_sync", _nothing)],
        by_hand=partial(
            test_forgotten.test_who_followed_the_same_one_drops_nothing_for_what_had_to_be_forgotten,
            votes=True,
        ),
    ),
    Mutant(
        "what a follower had to forget, and another one never heard of, may be undone",
        [(Membership, "_view_arrived", _never_mind_what_is_forgotten)],
        by_hand=partial(
            test_forgotten.test_what_another_follower_never_heard_of_is_not_undone, "deleted"
        ),
    ),
    Mutant(
        "so may what was in doubt for a while, and stands",
        [(Node, "_note_followers", _never_mind_what_is_forgotten)],
        by_hand=test_forgotten.test_nor_if_it_was_in_doubt_for_a_while,
    ),
    Mutant(
        "who is told all once more keeps what was deleted and forgotten meanwhile",
        [(Resync, "_note_forgotten", _nothing)],
        by_hand=test_forgotten.test_nor_if_the_log_falls_short_of_what_it_is_to_be_told,
    ),
    Mutant(
        "what is taken back makes room among our deletions",
        [(Changes, "_unlink", _leave_traces)],
        by_hand=test_changes.TestTakingBack().test_what_goes_for_the_word_of_another_makes_no_room,
    ),
    Mutant(
        "what a peer has that refuses is not heard",
        [(Beginning, "heard", _nothing)],
        more=frozenset({"estrange"}),
    ),
    Mutant(
        "what is evicted during a first copy leaves no trace",
        [(Peer, "lacks_after", _only_who_was_in_sync)],
        by_hand=partial(
            test_evictions.test_what_is_evicted_does_not_return_with_who_got_it_in_a_copy_that_broke_off,
            "after",
        ),
    ),
    Mutant(
        "who could not take all of one waits for it, though that waits as well",
        [(Node, "_waits_too", _never)],
        by_hand=test_three.test_who_could_not_take_all_of_one_that_waits_for_its_vote_asks_for_votes_as_well,
    ),
    Mutant(
        "what ends or is evicted leaves no trace for who was not met",
        [(Node, "note_departures", _only_who_was_met)],
        by_hand=partial(
            test_node.TestNotMet().test_nor_does_what_was_replaced_return, "a", "b", "ended"
        ),
    ),
    Mutant(
        "who has items is told all as if it had none",
        [(Membership, "begin_resync", _as_if_empty)],
        by_hand=partial(
            test_evictions.test_nor_does_what_it_replaced_with_who_had_that_before_such_a_copy, "a"
        ),
    ),
    Mutant(
        "what is evicted, and was not acknowledged by one that is lost, leaves no trace",
        [(Node, "_leave_traces", _nothing)],
        by_hand=partial(_NOT_ACKED.test_to_who_follows, True, b"set k 0 0 1\r\n2\r\n"),
    ),
    Mutant(
        "what a follower has evicted, and another one perhaps lacks, leaves no trace",
        [(Changes, "leave_trace", _nothing)],
        by_hand=lambda: _NOT_ACKED.test_by_one_that_goes_on_in_its_place(True),
    ),
    Mutant("differences between clocks move expiry", [(Changes, "origin_by", _ignore_skew)]),
    Mutant(
        "what cannot be taken counts as received",
        [(Membership, "_give_up_channel", _nothing)],
        more=frozenset({"out_of_memory"}),
    ),
    Mutant(
        "the time of versions follows the wall clock",
        [(VersionClock, "look", _follow_the_wall_clock)],
        more=frozenset({"clock_step"}),
    ),
    Mutant(
        "who starts goes by its own time",
        [(Changes, "take_over_time", _nothing)],
        more=frozenset({"clock_step"}),
    ),
    Mutant(
        "who starts keeps a part of a copy that nobody takes",
        [(Changes, "begin_at", _nothing)],
        by_hand=partial(
            test_beginning.TestBrokenCopies().test_but_no_part_is_left_of_a_time_that_is_far_ahead,
            -5e3,
        ),
    ),
    Mutant(
        "two that were linked before they began by different times stay so",
        [(Changes, "keep_up", _not_far_ahead)],
        by_hand=partial(
            test_clocks.TestStepsOfTheWallClock().test_so_do_two_that_were_linked_before_they_began,
            65.0,
            b"a",
        ),
    ),
    Mutant(
        "nobody keeps up with the time of others",
        [(Changes, "keep_up", _nothing)],
        by_hand=partial(
            test_clocks.TestStepsOfTheWallClock().test_so_do_two_that_were_linked_before_they_began,
            65.0,
            b"a",
        ),
    ),
    Mutant(
        "an eviction travels as a deletion",
        [(Service, "_on_evict", _evictions_travel)],
        by_hand=_TOGETHER.test_what_is_evicted_here_stays_there,
    ),
    Mutant("followers decide by themselves", [(Node, "become", _followers_decide)]),
    Mutant(
        "what is not acknowledged may be read",
        [(Commits, "watermark", _all_is_settled)],
        more=frozenset({"hot_keys", "mute_death", "busy"}),
    ),
    Mutant("changes during a resync are lost", [(Peer, "send", _no_live_changes)]),
    Mutant("a partial resync sends nothing", [(Changes, "since", _nothing_missed)]),
    Mutant("a flush stays where it was said", [(Changes, "apply_flush", _ignore_flush)]),
    Mutant(
        "versions do not follow the clock, nor each other",
        [(Changes, "tick", _nothing), (Changes, "observe", _nothing)],
    ),
    Mutant(
        "what is not acknowledged is shown until somebody waits for it",
        [(Gate, "unacked", _only_what_is_gathered)],
        more=frozenset({"hot_keys", "mute_death", "busy"}),
    ),
    Mutant(
        "who departs has got what it was behind with",
        [(Changes, "begin_log", _departed_with_all)],
    ),
    Mutant("what is stale is so on one node", [(Changes, "recast", _no_marks)]),
    Mutant("a touch stays where it was said", [(Changes, "altered", _stay_here)]),
    Mutant(
        "what grows does so on one node",
        [(Changes, "apply_altered", _not_grown)],
        more=frozenset({"tiny_chunks"}),
    ),
    Mutant(
        "a flush that was called off comes all the same",
        [(Changes, "flushed", _not_called_off)],
        by_hand=partial(
            test_flushes.TestLater().test_one_that_was_called_off_does_not_come_back, "b"
        ),
    ),
    Mutant(
        "what waits for a slow peer has no bound",
        [(Resync, "fall_behind", _wait_for_all)],
        more=QUEUES,
    ),
    Mutant("the log has no bound", [(Changes, "_log", _log_all)], more=frozenset({"tiny_log"})),
    Mutant(
        "tombstones have no bound",
        [(Tombstones, "add", _remember_all)],
        more=frozenset({"tiny_log"}),
    ),
    Mutant(
        "what is still to be sent counts as asked",
        [(Gate, "_send_forwards", _asked_before_sent)],
        by_hand=partial(test_patience.test_what_is_sent_late_is_asked_then, "b is not heard", 0.06),
    ),
    Mutant("who does not answer is waited for", [(Lease, "is_lost", _wait_for_ever)]),
    Mutant(
        "what strict refuses is shown to others",
        [(Gate, "note_unheld", _nothing)],
        by_hand=partial(
            test_node.TestLoss().test_nor_does_strict_show_it_to_others,
            b"set k 0 0 1\r\n2\r\n",
            fast=True,
        ),
    ),
    Mutant(
        "who has heard a question may hear nothing any more",
        [(Lease, "unheard_at", _for_ever)],
        by_hand=test_three.test_who_hears_nobody_any_more_is_lost_though_it_has_heard_a_question,
    ),
    Mutant(
        "who is a little late again and again forgives any silence",
        [(Lease, "is_lost", _late_is_asleep)],
        by_hand=partial(test_waiting.TestTooMuchToDo().test_nor_for_who_says_nothing, asked=True),
    ),
    Mutant(
        "who is heard, and has once heard us, is waited for",
        [(Lease, "is_lost", _heard_once), (Lease, "unheard_at", _for_ever)],
        by_hand=(lambda: _GONE.test_who_can_be_heard_and_does_not_hear_is_missed_like_any_other()),
    ),
    Mutant(
        "what was deleted in doubt, and had to be forgotten, is taken for deleted",
        [(Tombstones, "doubt", _nothing)],
        by_hand=lambda: test_doubt.test_who_asks_for_what_is_in_doubt_has_not_deleted_it(False),
    ),
    Mutant(
        "what will be in doubt, and had to be forgotten, is taken for deleted",
        [(Membership, "_to_be_replaced", _all_that_was_forgotten)],
        by_hand=partial(test_forgotten.test_nor_for_what_is_to_be_in_doubt, "deleted", votes=False),
    ),
    Mutant(
        "what was written in doubt, and evicted, takes others' items with it",
        [(Tombstones, "doubt", _only_deletions)],
        by_hand=partial(test_forgotten.test_nor_for_what_is_to_be_in_doubt, "evicted", votes=True),
    ),
    Mutant(
        "who parts from the former life of one executes again what others have",
        [(Node, "settle", _nothing)],
        by_hand=lambda: test_three.test_what_is_left_of_the_view_has_is_not_executed_again(
            acknowledged=True
        ),
    ),
    Mutant(
        "who is told that another one misses the coordinator goes by its lease",
        [(Gate, "ask_leader", _content_with_a_lease)],
        by_hand=lambda: _GONE.test_who_has_heard_it_a_moment_ago_asks_as_well(),
    ),
    Mutant(
        "an older link takes the place of a later one",
        [(Membership, "_comes_later", _later_always)],
        by_hand=partial(_TWO_LINKS.test_one_that_is_late_does_not_replace_a_later_one, "a", "b"),
    ),
    Mutant(
        "of what comes in parts some are lost",
        [(Channel, "assemble", _parts_lost)],
        more=frozenset({"tiny_parts"}),
    ),
    Mutant(
        "who joins does not hear of the last flush",
        [(Changes, "flush_records", _forget_flushed)],
    ),
    Mutant(
        "a read waits for the first batch",
        [(Commits, "hold", _hold_with_the_first)],
        by_hand=_TOGETHER.test_though_what_was_said_before_is_safe,
    ),
    Mutant(
        "any word on a flush to come is the last one",
        [(Changes, "apply_flush_due", _any_word_on_flushes)],
        by_hand=lambda: _FLUSHES.test_the_later_word_wins_after_a_partition(),
    ),
    Mutant(
        "what could not be sent counts as sent",
        [(Peer, "break_off", _nothing), (Changes, "put_back", _nothing)],
        more=frozenset({"cannot_send"}),
    ),
    Mutant(
        "whoever logs in is no client of a pair",
        [(Connection, "become_member", _members_are_nobodys)],
        more=frozenset({"sasl"}),
    ),
    Mutant(
        "what may have been deleted is dropped, and who is in sync is not told",
        [(Membership, "_tell_dropped", _tell_one_alone)],
        by_hand=_RETURNING.test_what_may_have_been_deleted_is_dropped_by_all_who_are_in_sync,
    ),
    Mutant(
        "any word lets in whoever waits",
        [(Gate, "resume_waiting", _any_word)],
        more=frozenset({"doze"}),
    ),
    Mutant(
        "late words of another link are listened to",
        [(Lease, "is_late", _never)],
        by_hand=lambda: _TWO_LINKS.test_what_was_said_on_a_former_link_may_arrive_late(
            "b", linked=True
        ),
    ),
    Mutant(
        "after a change of versions alone all may be read",
        [(Commits, "begin_batch", _all_is_ordinary)],
        by_hand=partial(
            _TOGETHER.test_and_who_reads_an_item_with_a_cas_unique_that_says_nothing, "a"
        ),
    ),
    Mutant(
        "who is brought in sync has all that it was told meanwhile, and all before",
        [(Gate, "send_changes", _has_the_whole_log)],
        by_hand=partial(
            test_gate.test_what_changes_during_a_resync_does_not_count_as_all_that_changed_before,
            False,
        ),
    ),
    Mutant(
        "who leaves executes for others",
        [(Gate, "retired", _never_retired)],
        by_hand=test_node.TestAwkwardMoments().test_nor_later_though_others_ask_on,
    ),
    Mutant(
        "who is muted is told that it is heard",
        [(Lease, "heard", _muted_aloud)],
        more=frozenset({"see_saw", "busy"}),
        nodes=2,
    ),
    Mutant(
        "who departs knew all that there was",
        [(Node, "drop", _knew_all_when_it_left)],
        by_hand=_RETURNING.test_nor_are_those_that_it_was_not_told_before_it_left,
    ),
    Mutant(
        "followers flush when it is time",
        [(Node, "_flush_when_due", _flush_anywhere)],
        more=frozenset({"delayed_flushes"}),
    ),
    Mutant(
        "nothing may have been deleted here that is not known",
        [(Changes, "may_be_deleted", _never)],
        more=DELETIONS,
    ),
    Mutant(
        "what had to be forgotten is not replaced",
        [(Membership, "_join_arrived", _nothing_is_replaced)],
        more=DELETIONS,
    ),
    Mutant(
        "a new life has what the former one had",
        [
            (Membership, "_meet_anew", _has_what_its_former_life_had),
            (Membership, "link_down", _remember_what_it_had),
        ],
        by_hand=partial(_RETURNING.test_so_does_who_has_served_alone_meanwhile, "abc"),
    ),
    Mutant(
        "what comes before something that is not understood is believed",
        [(records, "decode_records", _believe_what_came_before)],
        by_hand=lambda: _GONE_MAD.test_no_client_is_answered_in_part(0, b"\xff", executed=False),
    ),
    Mutant(
        "what a new life gives back counts as changed by it",
        [(Membership, "_meet_anew", _has_nothing_in_common)],
        by_hand=_PARTED.test_what_who_has_begun_anew_gives_back_is_none,
    ),
    Mutant(
        "what a former life had told counts as changed by the new one that gives it back",
        [(Membership, "_meet_anew", _has_told_nothing)],
        by_hand=_PARTED.test_nor_is_what_it_had_written_itself_and_we_knew,
    ),
    Mutant(
        "what a peer asks for is sent once more with what it missed",
        [(resync, "_keys_to_send", _asked_for_and_missed)],
        by_hand=_PARTED.test_what_comes_late_of_what_was_in_doubt_is_counted_once,
    ),
    Mutant(
        "what we are given back of our own counts as changed by another one",
        [(Gate, "_was_in_sync_here", _ours_is_nobodys)],
        by_hand=_TOLD.test_what_one_of_three_is_given_back_of_its_own_is_no_conflict,
    ),
    Mutant(
        "who starts anew has what others could not take of its former life",
        [(Membership, "_meet_anew", _has_what_could_not_be_taken)],
        by_hand=test_three.test_who_starts_anew_has_nothing_that_others_could_not_take,
    ),
    Mutant(
        "who asked to join too early is not told when it may",
        [(Membership, "invite", _nothing)],
        by_hand=lambda: _TELLING.test_serves_clients_of_the_other_one_again_as_soon_as_it_may(),
    ),
    Mutant(
        "who cannot be told something is left at once",
        [(Node, "_is_lost", _left_at_once)],
        more=frozenset({"cannot_send"}),
    ),
    Mutant(
        "what is in doubt is forgotten before anybody has told what is in its place",
        [(Changes, "doubt", _forget_what_is_in_doubt)],
        by_hand=partial(
            _THE_OTHER_DIES.test_before_it_has_said_anything, b"incr n 1\r\n", True, "semi"
        ),
    ),
    Mutant(
        "what is in doubt goes before there is memory for what is in its place",
        [(Changes, "undo_doubted", _forget_before_it_is_taken)],
        by_hand=partial(_run_short, 0),
    ),
    Mutant(
        "who has what was undone is not asked for it",
        [(Peer, "has_doubted", _never_so)],
        by_hand=partial(
            test_doubt.test_what_a_coordinator_has_undone_is_asked_of_who_had_it_from_it,
            acknowledged=False,
        ),
    ),
    Mutant(
        "what is in doubt is dropped for the word of one that has begun anew",
        [(Membership, "_join", _whoever_that_is_now)],
        by_hand=lambda: _THE_OTHER_DIES.test_and_has_begun_anew_when_it_is_met_again(
            b"incr n 1\r\n", sent=True, ack_mode="semi"
        ),
    ),
    Mutant(
        "who is deposed executes again what the other one has seen",
        [(Node, "deposed", _executed_again)],
        by_hand=_ONCE.test_what_the_new_coordinator_has_seen_was_executed_though_a_third_has_not,
    ),
    Mutant(
        "who is taken in has what was under way to it",
        [(Membership, "_take_in", _has_what_is_under_way)],
        by_hand=(test_evictions.test_what_was_under_way_to_who_was_taken_in_is_not_taken_for_known),
    ),
    Mutant(
        "two at once bring in sync who follows neither",
        [(Membership, "_is_taken_in_by_another", _never)],
        by_hand=test_membership.TestWhoJoinsWhom().test_who_has_given_its_word_does_not_turn_to_another,
    ),
    Mutant(
        "who is behind is not owed flushes",
        [(Resync, "next_slice", _owed_nothing)],
        by_hand=partial(
            test_flushes.TestBehind().test_a_flush_reaches_who_is_behind,
            b"flush_all\r\n",
            b"",
        ),
    ),
    Mutant(
        "a copy is made in one step",
        [(Peer, "pump", _all_at_once)],
        more=frozenset({"many_keys"}),
    ),
    Mutant(
        "what may have been deleted is dropped in one step",
        [(Changes, "drop_unconfirmed", _dropped_at_once)],
        by_hand=_drop_in_slices,
    ),
    Mutant(
        "what is given up is freed in one step",
        [(Discarded, "dispose", _freed_at_once)],
        more=frozenset({"many_keys", "partition"}),
    ),
    Mutant(
        "of the secrets that are accepted only the first one is",
        [(Link, "_is_right", _first_secret_alone)],
        more=frozenset({"rotation"}),
    ),
    Mutant("of three a minority goes on", [(Poll, "carried", _always)], nodes=3),
    Mutant(
        "who starts anew votes as if it were the same",
        [(Poll, "answered", _lives_do_not_matter)],
        by_hand=_ANEW.test_two_start_anew_at_once,
    ),
    Mutant(
        "one voter consents to two views that follow the same",
        [(Ballot, "_may_back", _whatever_is_later)],
        nodes=2,
        more=frozenset({"witness", "see_saw"}),
    ),
    Mutant(
        "half of a view goes on, whether the other half is over or not",
        [(Ballot, "ask", _all_lives_are_over)],
        nodes=3,
    ),
]

#: Noticed by `Node.check`, by these words.
CHECKED = [
    Mutant(
        "a role changes, and what it means does not",
        [(View, "become", _role_without_stance)],
        says="without the role",
    ),
    Mutant(
        "who is gone remains a member",
        [(View, "become", _keep_members)],
        says="members",
    ),
    Mutant(
        "who has no channel any more is where it was",
        [(Peer, "leave_channel", _keep_phase)],
        says="a phase with a channel, without one",
    ),
    Mutant(
        "what was to be sent on a channel outlives it",
        [(Peer, "leave_channel", _keep_resync)],
        says="a resync without a channel",
    ),
    Mutant(
        "the latest batch is waited for first",
        [(Commits, "close_batch", _latest_first)],
        says="tickets out of order",
    ),
    Mutant(
        "who comes last has waited longest",
        [(Gate, "wait_open", _wait_first)],
        says="waits since when",
    ),
    Mutant(
        "what is on its way has no size",
        [(Channel, "take", _count_no_bytes)],
        says="a message is not counted",
    ),
    Mutant(
        "a message is forgotten before it is acknowledged",
        [(Channel, "acknowledge", _skip_a_number)],
        says="a message is missing",
    ),
    Mutant(
        "a lease lasts longer than others know",
        [(Gate, "refresh_lease", _open_for_ever)],
        says="open longer than others know",
    ),
    Mutant(
        "what is not sent yet may be read",
        [(Commits, "begin_batch", _nothing)],
        says="may be read",
    ),
    Mutant(
        "a channel begins, and results are not sent on it",
        [(Executed, "begin", _nothing)],
        says="results go where no channel is",
    ),
    Mutant(
        "who decides still has something of who did before",
        [(Gate, "take_over", _keep_unstable)],
        says="led by another still, though we decide",
        nodes=3,
    ),
    Mutant(
        "deletions are not kept for who is away",
        [(Node, "note_departures", _only_configured)],
        says="deletions are not kept for who left",
        nodes=3,
    ),
    Mutant(
        "deletions are not kept for who is configured and was not met",
        [(Node, "note_departures", _nothing)],
        says="deletions are not kept for who may come",
    ),
    Mutant(
        "who falls behind while others vote on it is taken in",
        [(Membership, "_fell_behind", _never)],
        says="behind, though replies wait for it",
        by_hand=test_three.test_who_falls_behind_while_others_vote_on_it_comes_later,
    ),
]
