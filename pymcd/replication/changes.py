"""What changed here, and how what changed elsewhere is taken in.

`Changes` is the one observer of the cache, and so below all protocols. It gathers what changed
since the last batch (`fresh`: a key that changed ten times is sent once), knows the version of
every item, keeps tombstones of what was deleted, and while a peer is away a log of the keys that
change: when it comes back it gets what it missed, not everything. The log holds keys; values are
read when they are sent. It is bounded: what falls out raises `floor`, and a peer that had not got
so far receives a full copy. While all are in sync nothing is logged, only counted.

`fresh` holds the items themselves, which are complete even when they were evicted meanwhile. An
item's version is its cas unique, except for those in `exceptions`.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from ..store import StoreMode
from ..store.cache import TABLES, table_of, take_grown
from ..store.item import SHARED_MARKS
from . import records
from .changelog import ChangeLog
from .clocks import VersionClock, encode_times
from .frames import FrameError
from .records import STATE, STATE_BYTES, pack_state, unpack_state
from .versions import (
    CLOCK_SKEW_MAX_S,
    FOREVER,
    STEP,
    TAG_MASK,
    Discarded,
    Exceptions,
    FlushBarrier,
    FutureError,
    Tombstones,
    seconds_of,
    version_at,
    with_tag,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from typing import Any

    from ..clock import Clock
    from ..store import Cache, Item

#: Looked at in one step, of all items: two milliseconds at most.
DROP_ITEMS: Final = 300
#: An item that ends later could not be passed on where clocks differ.
UNIX_END_MAX: Final = 1 << 62
_NO_END: Final = "an item that ends later than any"
#: The part of the memory for the backlog that tombstones may take.
_TOMBSTONES_SHARE: Final = 4


class Confirmed:
    """The keys of all items that a peer holds. One set for each table of the cache.

    A single one would hold everybody up when it grows, and when it goes.
    """

    def __init__(self) -> None:
        self._keys: list[set[bytes]] = [set() for _ in range(TABLES)]

    def add(self, key: bytes) -> None:
        """The peer holds an item."""
        self._keys[table_of(key)].add(key)

    def take(self, number: int) -> set[bytes]:
        """Return, for good, what the peer holds of one table."""
        keys, self._keys[number] = self._keys[number], set()
        return keys


@dataclass(slots=True)
class Alteration:
    """What became of a large item that others have, told in place of its value."""

    item: Item  #: as it is now
    before: int  #: the version that others have
    appended: list[bytes] = field(default_factory=list)
    prepended: list[bytes] = field(default_factory=list)


class Changes:
    """The changes of one node's items, its own and those it took over."""

    def __init__(
        self,
        cache: Cache,
        clock: Clock,
        *,
        tag: int,
        backlog_bytes: int,
        leads: Callable[[], bool],
    ) -> None:
        """`leads` tells whether changes are made here."""
        self.cache = cache
        self.clock = clock
        self._monotonic = clock.monotonic
        self.version_clock = VersionClock(clock)
        #: Unix time at which the cache's clock showed 0. It stays, though the wall clock is set:
        #: items end by it, wherever they are copied to.
        self.origin_s = round(clock.realtime() - cache.seconds_of(clock.monotonic()))
        self.tag = tag
        self.writers: dict[int, str] = {}  #: which peers have given out versions with a tag
        #: Changed since the last batch; None: deleted.
        self.fresh: dict[bytes, Item | None] = {}
        self.fresh_flush = False
        self.fresh_flush_due = False
        #: Among that is what not every peer is told in the same way, as large values.
        self.fresh_by_peer = False
        #: Of large items; those mean nothing any more of which the item is not in `fresh`.
        self._alterations: dict[bytes, Alteration] = {}
        self.discarded = Discarded()
        #: Versions of the items whose cas unique is not their version.
        self.exceptions = Exceptions()
        self.tombstones = Tombstones(backlog_bytes // _TOMBSTONES_SHARE)
        self.barrier = 0  #: version of the last flush: everything older is dead
        self.flush_due_at = 0  #: when a flush is to come, on the cache's clock; 0: none
        #: Of the last word on that, be it that none is to come. Of one that has come its own.
        self.flush_due_version = 0
        #: While our word on that is in doubt, the version and time of what is to take its place.
        self._flush_due_told: tuple[int, int] | None = None
        self._leads = leads
        #: What is older is known to every peer; what ends after that must leave a trace.
        self.departed_version = FOREVER
        self.sequence = 0  #: of the last entry of the log
        self.flush_sequence = 0  #: of the last flush
        self.logging = False
        self.floor = 0  #: of the last change that is not in the log
        self.log = ChangeLog(backlog_bytes - backlog_bytes // _TOMBSTONES_SHARE)
        self._applying = False
        #: Keys that were changed here, and nobody knows yet whether that is to stand; with what who
        #: decides now has instead, as soon as it has told: a record, and our origin by its clock.
        self.in_doubt: dict[bytes, tuple[tuple[Any, ...], int] | None] = {}
        self.conflicts = 0
        self.horizon = FlushBarrier(self.version_of)
        cache.replicate(self, self.horizon, cas_step=STEP)
        self.tick()

    # -- versions ----------------------------------------------------------------------------

    def tick(self) -> None:
        """Let the next version be one of this moment, at least."""
        now_s = self._monotonic() + self.version_clock.origin_s
        self.cache.raise_cas_unique(version_at(now_s, self.tag))

    def latest(self) -> int:
        """Return a version of this moment, or the latest that is known: who hears it keeps up."""
        self.tick()
        return self.cache.cas_unique

    def limit(self) -> int:
        """Return the version from which on others are not believed."""
        return version_at(self.version_clock.now() + 2 * CLOCK_SKEW_MAX_S, 0)

    def keep_up(self, version: int, most_s: float) -> bool:
        """Be no earlier than who says that this is its latest version, or return that it is too far
        ahead.
        """
        unix_s = seconds_of(version)
        if unix_s - self.version_clock.now() > most_s:
            return True
        self.version_clock.keep_up(unix_s)
        self.observe(version)
        return False

    def take_over_time(self, version: int) -> None:
        """Begin to give out versions of the time of who says that this is its latest."""
        self.version_clock.take_over(seconds_of(version))
        if not (self.cache.item_count or len(self.tombstones) or self.barrier):
            self.cache.cas_unique = with_tag(version, self.tag)
        self.observe(version)

    def begin_at(self, unix_s: float) -> None:
        """Take over the time of who is to give us all that it has.

        What was copied before of one that went by a much later time it would not take, ever.
        """
        version = version_at(unix_s, self.tag)
        self.take_over_time(version)
        if self.cache.cas_unique > self.limit():
            self.forget_all()
            self.take_over_time(version)

    def observe(self, version: int) -> None:
        """Let the next version be later than one of another node."""
        if version >= self.cache.cas_unique:
            self.cache.raise_cas_unique(with_tag(version, self.tag))

    def version_of(self, item: Item) -> int:
        """Return the version of an item."""
        exceptions = self.exceptions
        return exceptions.get(item.key, item.cas_unique) if exceptions.count else item.cas_unique

    def item_time(self, monotonic_s: float) -> float:
        """Return the Unix time by which our items end."""
        return self.cache.seconds_of(monotonic_s) + self.origin_s

    def origin_by(self, item_s: float) -> int:
        """Return the Unix time at which our cache's clock showed 0, by the clock of other items.

        That shows `item_s` when our monotonic clock shows 0. Rounded, not cut off: there and back,
        an end must not move by more than a second.
        """
        return round(item_s - self.cache.seconds_of(0.0))

    def times(self) -> bytes:
        """Return what a PING says of our clocks."""
        return encode_times(self.clock.realtime(), self.latest())

    # -- what the cache reports --------------------------------------------------------------

    def changed(self, item: Item) -> None:
        # Hot path: bench/ "pair16".
        if self._applying:
            return
        key = item.key
        if self.exceptions.count:
            self.exceptions.pop(key)
        if self.tombstones.versions:
            self.tombstones.discard(key)
        self.fresh[key] = item

    def expect_large(self) -> None:
        self.fresh_by_peer = True

    def expect_altered(self, item: Item) -> None:
        if self._applying:
            return
        self.fresh_by_peer = True
        if self.fresh.get(item.key) is not item:  # else nobody has it as it is now
            self._alterations[item.key] = Alteration(item, self.version_of(item))

    def grown(self, old: Item, item: Item, mode: StoreMode, value: bytes) -> None:
        alteration = self._alterations.get(item.key)
        if alteration is not None and alteration.item is old:
            alteration.item = item
            appends = mode is StoreMode.APPEND
            (alteration.appended if appends else alteration.prepended).append(value)

    def altered(self, item: Item) -> None:
        if self._applying:
            return
        if item.chunk_classes:
            self.expect_altered(item)
        key = item.key
        if self.fresh.get(key) is not item:  # else it has a version that nobody knows yet
            self.exceptions.set(key, self.cache.take_cas_unique())
            self.fresh[key] = item

    def recast(self, item: Item, before: int) -> None:
        key = item.key
        if item.chunk_classes:
            self.fresh_by_peer = True
            if self.fresh.get(key) is not item:
                version = self.exceptions.get(key, before)
                self._alterations[key] = Alteration(item, version)
        if self.fresh.get(key) is not item:
            before = self.cache.take_cas_unique()
            self.fresh[key] = item
            self.exceptions.set(key, before)
        else:
            self.exceptions.set(key, self.exceptions.get(key, before))

    def deleted(self, key: bytes) -> None:
        if self._applying:
            return
        assert self._leads(), "deleted, though another one decides"
        self.exceptions.pop(key)
        self.tombstones.add(key, self.cache.take_cas_unique())
        self.fresh[key] = None

    def unlinked(self, item: Item) -> None:
        if self.departed_version is not FOREVER:
            # A peer that is away may hold an older value, which must not come back; this very one
            # may. What is replaced or deleted just now leaves a trace as well, but not for long.
            # Who wrote it needs no trace: it knows what it wrote.
            version = self.version_of(item)
            if version > self.departed_version:
                writer = self.writers.get(version & TAG_MASK, "")
                self.tombstones.add(item.key, version - 1, written_by=writer)
        if self.exceptions.count:
            before = self.exceptions.pop(item.key)
            if before and self.fresh.get(item.key) is item:
                # It goes before it was sent: what is sent needs its version still.
                self.exceptions.set(item.key, before)

    def leave_traces(self, keys: dict[bytes, Item | None], version: int) -> None:
        """Have what has changed since that version, and is gone by now, leave a trace as well."""
        for key, item in keys.items():
            if item is not None:
                self.leave_trace(key, version)

    def leave_trace(self, key: bytes, version: int) -> None:
        """Have others keep nothing as old as that of an item that is gone."""
        if self.cache.linked(key) is None and not self.tombstones.get(key):
            self.tombstones.add(key, version)

    def _drop_fresh(self) -> None:
        """Have nobody be told of what has changed. What of that is gone has no version any more."""
        for key, item in self.fresh.items():
            forgotten = not self.tombstones.get(key) if item is None else item.segment is None
            if forgotten:
                self.exceptions.pop(key)
        self.fresh = {}

    def flushed(self, cas_unique: int) -> None:
        self.barrier = cas_unique
        self._drop_fresh()
        self.tombstones.drop_before(cas_unique)
        self.fresh_flush = True
        self._set_flush_due(cas_unique, 0)

    def flush_due(self, expires_at: int) -> None:
        self._set_flush_due(self.cache.take_cas_unique(), expires_at)

    def _set_flush_due(self, version: int, at: int) -> None:
        self.flush_due_version, self.flush_due_at = version, at
        self.fresh_flush_due = self.fresh_by_peer = True

    def flush_if_due(self) -> None:
        """Let the flush come that was to come, if it is time."""
        if 0 < self.flush_due_at <= self.cache.seconds_of(self.clock.monotonic()):
            version = self.flush_due_version
            self.cache.flush_at(self.cache.now)
            # Another one that was asked for since, elsewhere, is still to come.
            self._set_flush_due(version, 0)

    @property
    def pending(self) -> bool:
        """Whether anything has changed since the last batch."""
        return bool(self.fresh or self.fresh_flush or self.fresh_flush_due)

    # -- what is sent ------------------------------------------------------------------------

    def take_fresh(self) -> tuple[list[bytes], dict[bytes, Item | None], bool]:
        """Take what has changed: its records, in pieces, its keys, and whether it is ordinary.

        Not ordinary is one after which a cas unique does not tell whether an item is newer. If this
        raises, nothing was taken.
        """
        # Hot path: bench/ "pair16".
        pieces: list[bytes] = []
        ordinary = not self.exceptions.count
        if self.fresh_flush:
            pieces.append(records.encode_flush(self.barrier))
            self.sequence += 1
            self.flush_sequence = self.sequence
            ordinary = self.fresh_flush = False
        if self.fresh_flush_due:
            pieces.append(self._flush_due_record())
            self.fresh_flush_due = False
        fresh = self.fresh
        self.sequence += len(fresh)
        if self.logging:
            self._log(fresh)
        origin_s = self.origin_s
        exceptions = self.exceptions
        excepted = exceptions.count > 0
        for key, item in fresh.items():
            if item is None:
                version = self.tombstones.get(key) or exceptions.pop(key)
                # Where there is no room to remember deletions it has no version any more.
                version = version or self.cache.take_cas_unique()
                pieces.append(records.encode_gone(key, version))
                continue
            segment, expires_at, access = item.state
            cas_unique = item.cas_unique
            value = item.value
            pieces += (
                pack_state(
                    STATE,
                    access & SHARED_MARKS,
                    len(key),
                    item.client_flags,
                    cas_unique,
                    exceptions.get(key, cas_unique) if excepted else cas_unique,
                    expires_at + origin_s if expires_at else 0,
                    len(value),
                ),
                key,
                value,
            )
            if excepted and segment is None:
                exceptions.pop(key)
        self.fresh = {}
        return pieces, fresh, ordinary

    def _take_untold(self) -> None:
        """Take what has changed, as `take_fresh` does, and have nobody be told of it.

        No records are made of it, for which there may be no memory.
        """
        if self.fresh_flush:
            self.sequence += 1
            self.flush_sequence = self.sequence
            self.fresh_flush = False
        self.fresh_flush_due = False
        self.sequence += len(self.fresh)
        if self.logging:
            self._log(self.fresh)
        self._drop_fresh()
        self._alterations.clear()

    def put_back(self, fresh: dict[bytes, Item | None]) -> None:
        """Have what was taken, and could not be sent, be so with the next batch, and whole."""
        self.fresh = fresh
        # Nobody minds being told once more.
        self.fresh_flush = bool(self.barrier)
        self.fresh_flush_due = bool(self.flush_due_version)
        self.fresh_by_peer = True

    def take_alterations(self, fresh: dict[bytes, Item | None]) -> dict[bytes, Alteration]:
        """Take what need not be told whole of what was taken."""
        alterations, self._alterations = self._alterations, {}
        return {
            key: alteration
            for key, alteration in alterations.items()
            if fresh.get(key) is alteration.item
        }

    def tell_anew(self, key: bytes) -> None:
        """Have everybody be told of an item, whole, though nothing has changed."""
        item = self.cache.linked(key)
        if item is not None and key not in self.in_doubt:
            self._alterations.pop(key, None)
            self.fresh[key] = item
            self.fresh_by_peer = True

    def record_of(self, key: bytes) -> Sequence[bytes]:
        """Return the record of a key as it now is, in pieces; none: nothing is known of it, or it
        is in doubt.
        """
        if key in self.in_doubt:
            return ()
        item = self.cache.linked(key)
        if item is not None and self.cache.is_dead(item):
            # Nobody has asked for it since it ended: elsewhere an older one may live still.
            return (records.encode_gone(key, self.version_of(item)),)
        if item is not None:
            _, expires_at, access = item.state
            head = pack_state(
                STATE,
                access & SHARED_MARKS,
                len(key),
                item.client_flags,
                item.cas_unique,
                self.version_of(item),
                expires_at + self.origin_s if expires_at else 0,
                len(item.value),
            )
            return head, key, item.value
        version = self.tombstones.get(key)
        return (records.encode_gone(key, version),) if version else ()

    def flush_records(self) -> list[bytes]:
        """Return the records of the last flush, and of the last word on one that is to come."""
        pieces = []
        if self.barrier:
            pieces.append(records.encode_flush(self.barrier))
        if self.flush_due_version and self._flush_due_told is None:
            pieces.append(self._flush_due_record())
        return pieces

    def _flush_due_record(self) -> bytes:
        at = self.flush_due_at
        return records.encode_flush_due(self.flush_due_version, at + self.origin_s if at else 0)

    def begin_log(self, keys: Iterable[bytes], known_up_to: int) -> None:
        """Keep what changes from now on, for a peer that left: it has all up to a sequence number.

        `keys` changed after that.
        """
        if not self.logging:
            self.logging = True
            self.floor = self.log.begin(keys, self.sequence) or known_up_to

    def end_log(self) -> None:
        """Keep nothing any more: every peer has everything, or acknowledges it."""
        self.logging = False
        if self.log.size_bytes:
            log, self.log = self.log, ChangeLog(self.log.limit_bytes)
            self.discarded.add(log.early, *log.tables)

    def _log(self, keys: Iterable[bytes]) -> None:
        """Enter keys with the sequence number of this moment."""
        self.floor = self.log.enter(keys, self.sequence) or self.floor

    def since(self, sequence: int) -> Iterator[bytes] | None:
        """Return the keys that changed after a sequence number; None: it is too old.

        Meanwhile anything may change. If what is still to come falls out, all keys are.
        """
        if sequence < (self.floor if self.logging else self.sequence):
            return None
        return self._missed(self.log, sequence)

    def _missed(self, log: ChangeLog, sequence: int) -> Iterator[bytes]:
        for keys in log.since(sequence):
            if self.log is not log or self.floor > sequence:
                yield from self.keys()
                return
            yield from keys

    def keys(self) -> Iterator[bytes]:
        """Yield the keys of all of which anything is known, a table at a time."""
        yield from list(self.tombstones.versions)
        for number in range(TABLES):
            for item in self.cache.table_items(number):
                yield item.key

    def _count(self, key: bytes) -> None:
        """Take note of one change that came from elsewhere."""
        self.sequence += 1
        if self.logging:
            self._log((key,))

    # -- what others send --------------------------------------------------------------------

    def apply_states(self, payload: bytes, position: int, origin_s: int, limit: int) -> int:
        """Take in states until something else comes; return where that is.

        For a peer in sync, whose word is final. `origin_s` is our origin by its clock, `limit` the
        version from which on it is not believed. Raises FrameError and FutureError; what came
        before that is applied.
        """
        # Hot path: bench/ "pair16": decoding and `apply_state` in one.
        cache = self.cache
        linked, overwrite = cache.linked, cache.overwrite
        exceptions, tombstones, barrier = self.exceptions, self.tombstones, self.barrier
        deleted = tombstones.versions
        end = len(payload)
        newest = applied = 0
        leaves_traces = self.departed_version is not FOREVER
        self._applying = True
        try:
            while position < end and payload[position] == STATE:
                _, marks, key_bytes, client_flags, cas_unique, version, unix_end, value_bytes = (
                    unpack_state(payload, position)
                )
                key_at = position + STATE_BYTES
                value_at = key_at + key_bytes
                position = value_at + value_bytes
                if position > end:
                    raise FrameError("a record that is cut off")
                key = payload[key_at:value_at]
                if version > newest:
                    if version > limit:
                        raise FutureError
                    newest = version
                if version < barrier or (deleted and deleted.get(key, 0) >= version):
                    continue
                old = linked(key)
                if old is not None:
                    known = old.cas_unique
                    if exceptions.count:
                        known = exceptions.get(key, known)
                    if known >= version:
                        continue
                if unix_end > UNIX_END_MAX:
                    raise FrameError(_NO_END)
                expires_at = max(1, unix_end - origin_s) if unix_end else 0
                value = payload[value_at:position]
                if leaves_traces and old is not None:
                    stored = self._replace(old, value, client_flags, expires_at, cas_unique, marks)
                else:
                    stored = (
                        old is not None
                        and not (marks or client_flags)
                        and overwrite(old, value, expires_at, cas_unique)
                    ) or cache.install(key, value, client_flags, expires_at, cas_unique, marks)
                if deleted:
                    tombstones.discard(key)
                if version != cas_unique and stored:
                    exceptions.set(key, version)
                elif exceptions.count:
                    exceptions.pop(key)
                applied += 1
                if self.logging:
                    self.sequence += 1
                    applied -= 1
                    self._log((key,))
        except struct.error:
            raise FrameError("a record that is cut off") from None
        finally:
            self._applying = False
            self.sequence += applied
            if newest:
                self.observe(newest)
        return position

    def apply_state(
        self, record: tuple[Any, ...], origin_s: int, *, relay: bool, instead: bool = False
    ) -> bool:
        """Take in the state of an item; False: what is here is as new or newer.

        `origin_s` is our origin by the sender's clock. With `relay` the change is also sent on,
        to others. `instead`: of what is here, whatever its version.
        """
        _, key, value, client_flags, unix_end, cas_unique, version, marks = record
        cache = self.cache
        old = cache.linked(key)
        if not instead:
            if version < self.barrier or self.tombstones.get(key) >= version:
                return False
            if old is not None and self.version_of(old) >= version:
                return False
        expires_at = 0
        if unix_end:
            if unix_end > UNIX_END_MAX:
                raise FrameError(_NO_END)
            expires_at = max(1, unix_end - origin_s)
        self._applying = True
        try:
            if old is not None and self.departed_version is not FOREVER:
                stored = self._replace(old, value, client_flags, expires_at, cas_unique, marks)
            else:
                stored = cache.install(key, value, client_flags, expires_at, cas_unique, marks)
        finally:
            self._applying = False
        self.tombstones.discard(key)
        self.exceptions.pop(key)
        if stored and version != cas_unique:
            self.exceptions.set(key, version)
        if relay and stored:
            self.fresh[key] = cache.linked(key)
        else:
            self._count(key)
        return True

    def apply_altered(self, record: tuple[Any, ...], origin_s: int) -> bool:
        """Take in what became of a large item; False: the version before that is not here.

        Evicted, say: that is local, and others do not know. Then nothing is left of it here either,
        and it is to be asked for.
        """
        _, key, value_bytes, *about, version, marks, before, appended, prepended = record
        if version < self.barrier or self.tombstones.get(key) >= version:
            return True
        item = self.cache.linked(key)
        if item is None:
            return False
        known = self.version_of(item)
        if known >= version:
            return True
        if known != before:
            self._unlink(item)
            return False
        if len(item.value) + sum(map(len, [*appended, *prepended])) != value_bytes:
            raise FrameError("an item of another length")
        at, length = sum(map(len, prepended)), len(item.value)
        value = b""
        self._unlink(item)
        try:
            value = take_grown(item, appended, prepended)
            self.apply_state((STATE, key, value, *about, version, marks), origin_s, relay=False)
        except BaseException:
            item.value = item.value or value[at : at + length]
            self._put_back(item, known)
            raise
        return True

    def apply_gone(
        self, key: bytes, version: int, *, relay: bool, told_by: str = "", instead: bool = False
    ) -> bool:
        """Take in a deletion; False: what is here is newer.

        `told_by`: a peer that is not one with us yet, and tells of before. `instead`: of what is
        here, whatever its version.
        """
        if instead:
            self.forget((key,))
        if version < self.barrier or self.tombstones.get(key) >= version:
            return False
        item = self.cache.linked(key)
        if item is not None:
            if self.version_of(item) > version:
                return False
            self._unlink(item)
        self.tombstones.add(key, version, told_by=told_by)
        if relay:
            self.fresh[key] = None
            if not self.tombstones.get(key):
                self.exceptions.set(key, version)
        else:
            self._count(key)
        return True

    def apply_flush(self, version: int, *, relay: bool) -> bool:
        """Take in a flush; False: a later one is known."""
        if version <= self.barrier:
            return False
        self.cache.flush_before(version)
        self.tombstones.drop_before(version)
        self.barrier = version
        if relay:
            self.fresh_flush = True
        else:
            self.sequence += 1
            self.flush_sequence = self.sequence
        return True

    def apply_flush_due(self, version: int, at: int, *, relay: bool) -> bool:
        """Take in a word on a flush that is to come; False: a later one is known.

        Two of the same version are of the same flush: it has come where it is no more to come.
        """
        told = self._flush_due_told
        known, known_at = told or (self.flush_due_version, self.flush_due_at)
        if version < known or (version == known and (at or not known_at)):
            return False
        if told is not None:
            self._flush_due_told = version, at
            return True
        self.flush_due_version, self.flush_due_at = version, at
        if relay:
            self.fresh_flush_due = self.fresh_by_peer = True
        return True

    def _unlink(self, item: Item) -> None:
        """Let an item go for the word of another; the caller says what is known of it since.

        By itself it leaves no trace, not even for a moment: that would make room for it, and a
        deletion forgotten for that would raise the floor.
        """
        departed_version, self.departed_version = self.departed_version, FOREVER
        applying, self._applying = self._applying, True
        try:
            self.cache.unlink(item)
        finally:
            self._applying = applying
            self.departed_version = departed_version
        self.exceptions.pop(item.key)

    def _replace(self, old: Item, *state: Any) -> bool:
        """Install an item in the place of one that is to leave no trace; False: there is no room.

        `state`: what `Cache.install` takes behind the key. If that cannot be done, for lack of
        memory, say, the old one is there as before.
        """
        version = self.version_of(old)
        self._unlink(old)
        try:
            return self.cache.install(old.key, *state)
        except BaseException:
            self._put_back(old, version)
            raise

    def _put_back(self, item: Item, version: int) -> None:
        """Have an item again that was let go: this node may be the only one that has it."""
        _, expires_at, access = item.state
        applying, self._applying = self._applying, True
        try:
            self.cache.install(
                item.key,
                item.value,
                item.client_flags,
                expires_at,
                item.cas_unique,
                access & SHARED_MARKS,
            )
        finally:
            self._applying = applying
        if version != item.cas_unique:
            self.exceptions.set(item.key, version)

    def doubt(self, keys: Iterable[bytes], known_up_to: int) -> None:
        """Have others not be told of changes that perhaps come to nothing.

        Up to that version others have all.
        """
        if self.pending:
            self._take_untold()
        self.in_doubt.update(dict.fromkeys(keys))
        self.tombstones.doubt(known_up_to)

    def doubt_flush_due(self, known_up_to: int) -> None:
        """Have our word on a flush to come be in doubt, if it is later than that version."""
        if self.flush_due_version > known_up_to:
            self._flush_due_told = 0, 0

    def doubt_anew(self) -> None:
        """Take note that what was told in place of what is in doubt means nothing now."""
        self.in_doubt = dict.fromkeys(self.in_doubt)
        if self._flush_due_told is not None:
            self._flush_due_told = 0, 0

    def end_doubt(self) -> None:
        """Stand by what is in doubt."""
        self.in_doubt.clear()
        self._flush_due_told = None
        self.tombstones.end_doubt(stands=True)

    @property
    def doubts(self) -> bool:
        """Whether anything is in doubt."""
        return bool(self.in_doubt) or self._flush_due_told is not None

    def undo_doubted(self) -> Iterator[tuple[tuple[Any, ...], int]]:
        """Undo what is in doubt, but for that in whose place something is to be taken: yield that.

        A key is in doubt until the next one is asked for: what cannot be taken is wanted still, and
        what is here of it stays, lest there be nothing.
        """
        if self._flush_due_told is not None:
            self.flush_due_version, self.flush_due_at = self._flush_due_told
            self._flush_due_told = None
        for key, told in list(self.in_doubt.items()):
            if told is None:
                self.forget((key,))
            else:
                yield told
            del self.in_doubt[key]
        self.tombstones.end_doubt(stands=False)

    def forget(self, keys: Iterable[bytes]) -> None:
        """Undo changes that came to nothing: drop what is here, without a trace."""
        for key in keys:
            item = self.cache.linked(key)
            if item is not None:
                self._unlink(item)
            self.tombstones.discard(key)
            self.exceptions.pop(key)
            self.fresh.pop(key, None)

    def forget_all(self) -> None:
        """Drop all items and everything known of them, flushes too."""
        self._applying = True
        try:
            self.cache.clear()
        finally:
            self._applying = False
        self.barrier = self.flush_sequence = 0
        self.cache.settle_flush()
        self.discarded.add(*self.exceptions.clear(), self.tombstones.clear())
        self.fresh.clear()
        self._alterations.clear()
        self.fresh_flush = self.fresh_flush_due = False
        self.flush_due_version = self.flush_due_at = 0
        self.end_doubt()
        self.end_log()

    def may_be_deleted(self, key: bytes, version: int, peer: str, departed_version: int) -> bool:
        """Return whether an item may have been deleted here, of which we would not know any more.

        `departed_version` is what the peer who has it still knew when it left.
        """
        return (
            self.is_forgotten(version, peer, departed_version)
            and self.cache.linked(key) is None
            and not self.tombstones.get(key)
        )

    def is_forgotten(self, version: int, peer: str, departed_version: int) -> bool:
        """Return whether we would not know any more that what a peer has was deleted."""
        return max(departed_version + 1, version) <= self.tombstones.floor_for(peer)

    def drop_unconfirmed(self, confirmed: Confirmed, version: int) -> Iterator[dict[bytes, int]]:
        """Drop, in slices, what a full copy did not name and is no newer than a version.

        Yields the versions of that, for `tell_dropped`. Between slices anything may change.
        """
        for number in range(TABLES):
            keys = confirmed.take(number)
            items = self.cache.table_items(number)
            for start in range(0, len(items), DROP_ITEMS):
                dropped = {}
                for item in items[start : start + DROP_ITEMS]:
                    known = self.version_of(item)
                    if item.key in keys or known > version or not item.linked:
                        continue
                    self._unlink(item)
                    self.fresh.pop(item.key, None)
                    self.tombstones.add(item.key, known)
                    dropped[item.key] = known
                yield dropped

    def tell_dropped(self, dropped: dict[bytes, int], *, relay: bool) -> bytes:
        """Return records of what was dropped: the other side may have been told of it meanwhile.

        With `relay` there are others who hold it still: then all are told in the next batch.
        """
        if not relay:
            for key in dropped:
                self._count(key)
            return b"".join([records.encode_gone(*each) for each in dropped.items()])
        for key, version in dropped.items():
            self.fresh[key] = None
            if not self.tombstones.get(key):
                self.exceptions.set(key, version)
        return b""

    def check(self) -> None:
        """Raise AssertionError unless the parts agree with each other. For tests."""
        self.tombstones.check()
        self.exceptions.check()
        self.log.check()
        assert self.logging or not self.log.size_bytes
        for key in self.exceptions:
            assert self.cache.linked(key) is not None or key in self.fresh, key
        for key, version in self.tombstones.items():
            item = self.cache.linked(key)
            assert item is None or self.version_of(item) > version, key
