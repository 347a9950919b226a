"""Which write is the later one, and how long it is remembered what was deleted."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pymcd.config import Settings
from pymcd.replication.changes import Changes
from pymcd.replication.versions import (
    DISPOSED_MAX,
    EXPIRED_MAX,
    FOREVER,
    STEP,
    TOMBSTONE_BYTES,
    Discarded,
    Exceptions,
    FlushBarrier,
    Tombstones,
    seconds_of,
    tag_of,
    version_at,
    with_tag,
)
from pymcd.store import Cache
from pymcd.store.item import Item

from ..clocks import ManualClock

TAGS = st.integers(0, 4095)
NOW_S = 1_800_000_000.0
MOMENTS = st.integers(1_577_836_800_000, 2_600_000_000_000).map(lambda ms: ms / 1000)
VERSIONS = st.integers(1, FOREVER - 1)


class TestVersion:
    @given(MOMENTS, st.floats(0.002, 1e8), TAGS, TAGS)
    def test_the_later_moment_wins_whoever_it_was(self, moment, later_by, tag, other_tag):
        assert version_at(moment, tag) < version_at(moment + later_by, other_tag)

    @given(MOMENTS, TAGS, TAGS)
    def test_in_the_same_moment_the_tag_decides(self, moment, tag, other_tag):
        version, other = version_at(moment, tag), version_at(moment, other_tag)
        assert (version < other) == (tag < other_tag)
        assert (version == other) == (tag == other_tag)

    @given(MOMENTS, TAGS, TAGS)
    def test_more_of_the_same_moment_is_later_whatever_the_tag(self, moment, tag, other_tag):
        assert version_at(moment, tag) + STEP > version_at(moment, other_tag)

    @given(MOMENTS, TAGS)
    def test_a_version_tells_its_moment(self, moment, tag):
        assert abs(seconds_of(version_at(moment, tag)) - moment) <= 0.0011

    @given(VERSIONS, TAGS)
    def test_another_node_may_go_on_from_a_version(self, version, tag):
        assert abs(with_tag(version, tag) - version) < STEP
        assert with_tag(version, tag) + STEP > version
        assert with_tag(version, tag) % STEP == tag

    def test_a_clock_before_all_time_does_no_harm(self):
        assert version_at(0.0, 7) == 7

    def test_they_last_and_fit_into_a_cas_unique(self):
        in_2054 = 2_650_000_000.0
        assert version_at(in_2054, 4095) < 2**63
        assert FOREVER > 2**64 - 1

    @given(st.text())
    def test_every_name_has_a_tag(self, node_id):
        assert 0 <= tag_of(node_id) < STEP


class TestClock:
    """Versions as a node gives them out: they only grow, and later than all that it has seen."""

    def make(self, realtime_s: float = NOW_S, tag: int = 5) -> tuple[Changes, SteppingClock]:
        clock = SteppingClock(realtime_s)
        return Changes(
            Cache(Settings(), clock), clock, tag=tag, backlog_bytes=1 << 20, leads=lambda: True
        ), clock

    def test_the_first_is_of_this_moment(self):
        changes, _ = self.make()
        assert changes.cache.take_cas_unique() == version_at(NOW_S, 5) + STEP

    def test_after_a_while_the_clock_leads(self):
        changes, clock = self.make()
        clock.advance(1.0)
        changes.tick()
        assert changes.cache.take_cas_unique() == version_at(NOW_S + 1, 5) + STEP

    @given(st.lists(st.one_of(st.floats(-90, 90), VERSIONS.map(lambda v: v >> 2)), max_size=20))
    def test_they_only_grow_though_the_clock_steps_back(self, events):
        changes, clock = self.make()
        last = 0
        for event in events:
            if isinstance(event, float):
                clock.step(event)
                changes.tick()
            else:
                changes.observe(event)
                last = max(last, event)
            version = changes.cache.take_cas_unique()
            assert version > last
            assert version % STEP == 5
            last = version

    def test_what_others_say_moves_it_on(self):
        changes, _ = self.make()
        ahead = version_at(NOW_S + 30, 9)
        changes.observe(ahead)
        assert ahead < changes.cache.take_cas_unique() < ahead + 2 * STEP

    def test_what_is_older_does_not_move_it(self):
        changes, _ = self.make()
        before = changes.cache.cas_unique
        changes.observe(before - 1)
        assert changes.cache.cas_unique == before


class SteppingClock(ManualClock):
    """A wall clock that can be set."""

    def step(self, seconds: float) -> None:
        self._realtime_s += seconds


class TestTombstones:
    def test_forgetting_all_changes_nothing_for_who_is_away(self):
        tombstones = Tombstones(1 << 20)
        tombstones.add(b"k", 7)
        tombstones.shared = False
        tombstones.clear()
        assert (len(tombstones), tombstones.size_bytes, tombstones.floor) == (0, 0, 0)
        assert not tombstones.shared
        tombstones.check()

    def test_what_was_not_deleted_has_none(self):
        assert Tombstones(1 << 20).get(b"a") == 0

    @given(st.lists(st.tuples(st.sampled_from([b"a", b"b", b"c"]), VERSIONS)))
    def test_the_latest_deletion_counts_in_any_order(self, deletions):
        tombstones = Tombstones(1 << 20)
        latest: dict[bytes, int] = {}
        for key, version in deletions:
            tombstones.add(key, version)
            latest[key] = max(version, latest.get(key, 0))
            tombstones.check()
        assert dict(tombstones.items()) == latest
        assert len(tombstones) == len(latest)

    def test_a_later_store_discards_one(self):
        tombstones = Tombstones(1 << 20)
        tombstones.add(b"a", 7)
        tombstones.discard(b"a")
        tombstones.discard(b"never")
        assert tombstones.get(b"a") == 0
        assert tombstones.size_bytes == 0

    @given(st.lists(st.binary(min_size=1, max_size=250), unique=True), st.integers(0, 3000))
    def test_they_are_bounded(self, keys, limit_bytes):
        tombstones = Tombstones(limit_bytes)
        for number, key in enumerate(keys):
            tombstones.add(key, number + 1)
            assert tombstones.size_bytes <= limit_bytes
            tombstones.check()

    def test_the_oldest_goes_first(self):
        tombstones = Tombstones(2 * (TOMBSTONE_BYTES + 1))
        for version, key in enumerate([b"a", b"b", b"c"], start=1):
            tombstones.add(key, version)
        assert dict(tombstones.items()) == {b"b": 2, b"c": 3}

    def test_a_deletion_that_all_know_may_be_forgotten(self):
        tombstones = Tombstones(TOMBSTONE_BYTES + 1)
        tombstones.add(b"a", 1)
        tombstones.add(b"b", 2)
        assert tombstones.floor == 0

    @pytest.mark.parametrize(
        ("known_up_to", "doubted", "stands", "floor"),
        [(1, 1, True, 3), (1, 1, False, 1), (3, 3, True, 3), (3, 3, False, 3), (-1, 3, False, 3)],
    )
    def test_the_floor_is_in_doubt_as_what_it_tells_of(self, known_up_to, doubted, stands, floor):
        tombstones = Tombstones(TOMBSTONE_BYTES + 2)
        tombstones.shared = False
        for version in (1, 2, 3, 4):
            tombstones.add(b"k%d" % version, version)
        assert tombstones.floor == 3
        tombstones.doubt(known_up_to)
        assert tombstones.floor == doubted
        tombstones.end_doubt(stands=stands)
        assert tombstones.floor == floor
        tombstones.end_doubt(stands=True)
        assert tombstones.floor == floor

    @pytest.mark.parametrize(
        ("known_up_to", "doubted", "stands", "after"),
        [(1, 1, True, 4), (1, 1, False, 1), (4, 4, True, 4), (4, 4, False, 4), (-1, 4, False, 4)],
    )
    def test_so_is_what_others_wrote_and_was_evicted(self, known_up_to, doubted, stands, after):
        tombstones = Tombstones(0)
        tombstones.shared = False
        for version, writer in enumerate("pqrp", 1):
            tombstones.add(b"k%d" % version, version, written_by=writer)

        def floors():
            assert tombstones.floor_for("p") == min(3, tombstones.floor_for("q"))
            return tombstones.floor_for("q")

        assert floors() == 4
        tombstones.doubt(known_up_to)
        tombstones.doubt(known_up_to)
        assert floors() == doubted
        tombstones.end_doubt(stands=stands)
        assert floors() == after
        tombstones.end_doubt(stands=True)
        assert floors() == after
        tombstones.clear()
        tombstones.end_doubt(stands=True)
        assert floors() == 0

    def test_the_floor_tells_of_one_that_a_peer_may_not_know(self):
        tombstones = Tombstones(TOMBSTONE_BYTES + 1)
        tombstones.shared = False
        for version, key in enumerate([b"a", b"b", b"c"], start=1):
            tombstones.add(key, version)
        assert tombstones.floor == 2

    @pytest.mark.parametrize(
        ("forgotten_there", "had_told", "floor"), [(0, True, 3), (9, True, 9), (0, False, 1)]
    )
    def test_who_has_told_a_part_is_no_measure(self, forgotten_there, had_told, floor):
        tombstones = Tombstones(TOMBSTONE_BYTES + 1)
        tombstones.shared = False
        for version, key in enumerate([b"a", b"b"], 1):
            tombstones.add(key, version)
        tombstones.add(b"c", 3, told_by="p")
        assert (tombstones.floor_for("p"), tombstones.floor_for("q")) == (1, 3)
        if had_told:
            tombstones.told_all("p", forgotten_there)
        else:
            tombstones.told_a_part("p")
        assert (tombstones.floor_for("p"), tombstones.floor_for("q")) == (floor, floor)

    def test_what_a_peer_wrote_needs_no_trace_for_it(self):
        tombstones = Tombstones(TOMBSTONE_BYTES + 1)
        tombstones.shared = False
        for version, key in enumerate([b"a", b"b"], 1):
            tombstones.add(key, version, written_by="p")
        for _ in range(2):
            assert (tombstones.floor_for("p"), tombstones.floor_for("q")) == (0, 2)
            tombstones.told_a_part("p")

    @pytest.mark.parametrize("shared", [True, False])
    def test_one_that_a_peer_tells_of_makes_no_room_but_others_may_not_know_it(self, shared):
        tombstones = Tombstones(2 * (TOMBSTONE_BYTES + 1))
        tombstones.shared = shared
        for version, key in enumerate([b"a", b"b", b"c", b"d", b"c"], 1):
            tombstones.add(key, version, told_by="p")
        assert list(tombstones.items()) == [(b"a", 1), (b"b", 2)]
        assert tombstones.floor_for("p") == 0
        assert tombstones.floor_for("q") == (0 if shared else 5)
        tombstones.add(b"e", 6)
        assert list(tombstones.items()) == [(b"b", 2), (b"e", 6)]
        assert [tombstones.floor_for(peer) for peer in "pq"] == ([0, 0] if shared else [1, 5])
        tombstones.check()
        tombstones.clear()
        assert tombstones.floor_for("q") == 0

    def test_nor_may_who_is_lost_know_what_was_forgotten_before_it_had_it(self):
        tombstones = Tombstones(0)
        for version in (1, 2, 3):
            tombstones.add(b"a" * version, version)
        assert tombstones.floor == 0
        tombstones.note_unacknowledged(3)
        assert tombstones.floor == 0
        tombstones.note_unacknowledged(2)
        assert tombstones.floor == 3

    def test_in_time_they_expire(self):
        tombstones = Tombstones(1 << 20)
        for version, key in enumerate([b"a", b"b", b"c"], start=1):
            tombstones.add(key, version)
        tombstones.expire(3)
        assert dict(tombstones.items()) == {b"c": 3}
        tombstones.expire(4)
        assert len(tombstones) == 0
        tombstones.expire(5)

    def test_but_not_while_a_peer_may_not_know_them(self):
        tombstones = Tombstones(1 << 20)
        tombstones.shared = False
        tombstones.add(b"a", 1)
        tombstones.expire(2)
        assert tombstones.get(b"a") == 1

    def test_a_flush_covers_what_is_older(self):
        tombstones = Tombstones(1 << 20)
        for version, key in enumerate([b"a", b"b", b"c"], start=1):
            tombstones.add(key, version)
        tombstones.shared = False
        tombstones.drop_before(3)
        tombstones.drop_before(2)
        assert not tombstones.expire(9)
        assert dict(tombstones.items()) == {b"c": 3}
        assert tombstones.floor == 0  # nobody who comes back can bring what the flush has ended
        tombstones.check()

    def test_what_was_flushed_makes_room_for_what_a_peer_tells_of(self):
        tombstones = Tombstones(2 * (TOMBSTONE_BYTES + 1))
        tombstones.shared = False
        tombstones.add(b"a", 1)
        tombstones.add(b"b", 2)
        tombstones.drop_before(3)
        for version, key in enumerate([b"c", b"d", b"e"], start=3):
            tombstones.add(key, version, told_by="peer")
        assert dict(tombstones.items()) == {b"c": 3, b"d": 4}
        assert tombstones.floor == 0
        assert tombstones.floor_for("another") == 5

    @pytest.mark.parametrize("shared", [True, False])
    def test_a_bounded_number_is_forgotten_at_a_time(self, shared):
        tombstones = Tombstones(1 << 30)
        for number in range(2 * EXPIRED_MAX + 1):
            tombstones.add(b"%d" % number, 1)
        tombstones.shared = shared
        if not shared:
            tombstones.drop_before(2)
        left = []
        while tombstones.expire(2):
            left.append(len(tombstones))
        assert left == [EXPIRED_MAX + 1, 1]
        assert not len(tombstones)
        tombstones.check()


class TestExceptions:
    def test_they_are_counted(self):
        exceptions = Exceptions()
        exceptions.set(b"a", 1)
        exceptions.set(b"a", 2)
        exceptions.set(b"b", 3)
        exceptions.check()
        assert exceptions.count == 2
        assert (exceptions.get(b"a", 9), exceptions.get(b"c", 9)) == (2, 9)
        assert (exceptions.pop(b"a"), exceptions.pop(b"a")) == (2, 0)
        assert sorted(exceptions) == [b"b"]
        assert sum(map(len, exceptions.clear())) == 1
        assert (exceptions.count, exceptions.pop(b"b")) == (0, 0)
        exceptions.check()

    def test_none_of_their_tables_is_large(self):
        exceptions = Exceptions()
        for number in range(20_000):
            exceptions.set(b"key:%d" % number, number)
        exceptions.check()
        assert max(map(len, exceptions.clear())) < 200


class TestDiscarded:
    def test_it_is_freed_a_part_at_a_time(self):
        discarded = Discarded()
        large = dict.fromkeys((b"%d" % number for number in range(2 * DISPOSED_MAX + 5)), 1)
        small = {b"a": 1, b"b": 2}
        discarded.add(large, {}, small)
        assert discarded.dispose()
        assert (len(small), len(large)) == (0, DISPOSED_MAX + 7)
        assert discarded.dispose()
        assert len(large) == 7
        assert not discarded.dispose()
        assert not large
        assert not discarded.dispose()


class TestFlushBarrier:
    @pytest.mark.parametrize(("version", "dead"), [(6, True), (7, False), (8, False)])
    def test_what_is_older_is_dead_and_nothing_else(self, version, dead):
        barrier = FlushBarrier(lambda item: item.cas_unique)
        barrier.set(10, now=10, cas_unique=7)
        assert barrier.active(10)
        item = Item(b"a", b"", version)
        assert barrier.covers(item) is dead

    def test_the_version_counts_not_the_cas_unique(self):
        barrier = FlushBarrier(lambda item: 9)
        barrier.set(10, now=10, cas_unique=7)
        assert not barrier.covers(Item(b"a", b"", 1))
