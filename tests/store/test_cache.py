"""What the commands mean, whatever the protocol; and that the fast ways agree with the others."""

from __future__ import annotations

import sys
from io import BytesIO
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from pymcd import limits
from pymcd.config import Settings
from pymcd.store import Cache, Item, Status, StoreMode
from pymcd.store import cache as cache_module
from pymcd.store.cache import FLAT_BUMP_INTERVAL_S, RESIDENT_OVERHEAD_BYTES, TABLES
from pymcd.store.item import (
    MARK_BITS,
    STALE,
    UNSPEAKABLE,
    WIN_SENT,
    FlaggedItem,
    StatePool,
    key_marks,
)
from pymcd.store.rebalancer import Rebalancer
from pymcd.store.status import Lookup
from tests.clocks import ManualClock
from tests.interpreters import of_cpython
from tests.store.helpers import MEBIBYTE, TimedCache, make_cache, photograph

SET, ADD, REPLACE, APPEND, PREPEND, CAS = StoreMode
STORED, NOT_STORED, EXISTS, NOT_FOUND = (
    Status.STORED,
    Status.NOT_STORED,
    Status.EXISTS,
    Status.NOT_FOUND,
)
#: Two values of this length fill a page, in class 39.
HALF_PAGE = b"x" * 500_000


def value_of(cache: Cache, key: bytes) -> bytes | None:
    item = cache.inspect(key)
    return None if item is None else item.value


def cache_with(value: bytes = b"old", client_flags: int = 0, **settings: Any) -> Cache:
    """Return a cache that holds `k`, with cas unique 1."""
    cache = make_cache(**settings)
    assert cache.store(SET, b"k", value, client_flags) is STORED
    return cache


class TestStore:
    @pytest.mark.parametrize(
        ("mode", "cas_compare", "on_missing", "on_existing"),
        [
            (SET, 0, STORED, STORED),
            (ADD, 0, STORED, NOT_STORED),
            (REPLACE, 0, NOT_STORED, STORED),
            (APPEND, 0, NOT_STORED, STORED),
            (PREPEND, 0, NOT_STORED, STORED),
            (APPEND, 1, NOT_STORED, STORED),
            (APPEND, 9, NOT_STORED, EXISTS),
            (PREPEND, 9, NOT_STORED, EXISTS),
            (CAS, 1, NOT_FOUND, STORED),
            (CAS, 9, NOT_FOUND, EXISTS),
            (CAS, 0, NOT_FOUND, EXISTS),
        ],
    )
    def test_status(self, mode, cas_compare, on_missing, on_existing):
        assert make_cache().store(mode, b"k", b"new", 0, 0, cas_compare) is on_missing
        cache = cache_with()
        assert cache.store(mode, b"k", b"new", 0, 0, cas_compare) is on_existing
        stored = {APPEND: b"oldnew", PREPEND: b"newold"}.get(mode, b"new")
        assert value_of(cache, b"k") == (stored if on_existing is STORED else b"old")
        assert cache.cas_unique == 2  # also what is not stored takes one
        cache.check()

    def test_set_replaces_everything(self):
        cache = cache_with(client_flags=7)
        cache.store(SET, b"k", b"v", 0, cache.expiry.expires_at(100))
        item = cache.inspect(b"k")
        assert item is not None
        assert (item.value, item.client_flags, item.expires_at, item.cas_unique) == (
            b"v", 0, 102, 2,
        )  # fmt: skip
        assert cache.item_count == 1
        assert cache.total_items == 2
        cache.check()

    @pytest.mark.parametrize("mode", [APPEND, PREPEND])
    def test_append_keeps_flags_and_end(self, mode):
        cache = make_cache()
        cache.store(SET, b"k", b"v", 5, 50)
        assert cache.store(mode, b"k", b"w", 9, 90) is STORED
        item = cache.inspect(b"k")
        assert item is not None
        assert (item.client_flags, item.expires_at) == (5, 50)
        cache.check()

    def test_append_beyond_the_item_limit(self):
        cache = cache_with(b"x" * 700_000)
        assert cache.store(APPEND, b"k", b"x" * 700_000) is NOT_STORED
        assert len(value_of(cache, b"k") or b"") == 700_000
        cache.check()

    def test_counters(self):
        cache = cache_with()
        cache.store(CAS, b"k", b"v", 0, 0, 1)
        cache.store(CAS, b"k", b"v", 0, 0, 1)
        cache.store(CAS, b"missing", b"v", 0, 0, 1)
        first = cache.slabs.classes[0]
        assert (first.cas_hits, first.cas_badval, cache.counters.cas_misses) == (1, 1, 1)
        assert first.set_cmds == 4

    @pytest.mark.parametrize("mode", list(StoreMode))
    def test_too_large(self, mode):
        cache = cache_with()
        assert cache.store(mode, b"k", b"x" * MEBIBYTE, 0, 0, 1) is Status.TOO_LARGE
        assert value_of(cache, b"k") == (None if mode is SET else b"old")
        assert cache.counters.store_too_large == 1
        cache.check()

    def test_the_largest_item_that_fits(self):
        cache = make_cache()
        largest = MEBIBYTE - (48 + 8 + 1 + 1 + 2)
        assert cache.fits(b"k", largest, 0)
        assert not cache.fits(b"k", largest + 1, 0)
        assert not cache.fits(b"k", largest, 1), "client flags take 4 bytes"
        assert cache.store(SET, b"k", b"x" * largest) is STORED
        assert cache.item_bytes == MEBIBYTE
        assert cache.store(SET, b"k", b"x" * (largest + 1)) is Status.TOO_LARGE
        cache.check()

    @pytest.mark.parametrize("mode", list(StoreMode))
    def test_no_memory(self, mode):
        cache = make_cache(disable_evictions=True, limit_pages=1)
        assert cache.store(SET, b"a", HALF_PAGE) is STORED
        assert cache.store(SET, b"k", HALF_PAGE) is STORED
        assert cache.store(mode, b"k", HALF_PAGE, 0, 0, 2) is Status.NO_MEMORY
        assert cache.counters.store_no_memory == 1
        assert cache.slabs.classes[-1].outofmemory == 1
        assert (value_of(cache, b"k") is None) == (mode is SET), "its sender believes it replaced"
        cache.check()

    @pytest.mark.parametrize("mode", list(StoreMode))
    def test_no_memory_in_a_flat_lru(self, mode):
        cache = make_cache(disable_evictions=True, limit_pages=1, lru_segmented=False)
        assert cache.store(SET, b"a", HALF_PAGE) is STORED
        assert cache.store(SET, b"k", HALF_PAGE) is STORED
        assert cache.store(mode, b"k", HALF_PAGE, 0, 0, 2) is Status.NO_MEMORY
        cache.check()

    def test_a_value_with_a_wrong_end_counts_as_a_set_of_its_class(self):
        cache = cache_with()
        cache.refuse_block(b"k", 3)
        cache.refuse_block(b"k", MEBIBYTE)
        assert cache.slabs.classes[0].set_cmds == 2
        assert value_of(cache, b"k") == b"old"

    def test_append_without_memory_for_the_sum(self):
        cache = cache_with(disable_evictions=True, limit_pages=1)
        cache.store(SET, b"a", HALF_PAGE)
        cache.store(SET, b"b", HALF_PAGE)
        small = b"x" * 70_000  # class 31
        cache.store(SET, b"k", small)
        for number in range(11):
            cache.store(SET, b"%d" % number, small)
        # The piece itself fits in class 1, what comes of it in no class.
        assert cache.store(APPEND, b"k", b"y") is NOT_STORED
        assert value_of(cache, b"k") == small
        cache.check()

    def test_making_room_may_evict_what_is_replaced(self):
        cache = make_cache(limit_pages=1)
        cache.store(SET, b"k", HALF_PAGE)
        cache.store(SET, b"a", HALF_PAGE)
        assert cache.store(APPEND, b"k", b"y") is STORED
        assert value_of(cache, b"k") == HALF_PAGE + b"y"
        assert value_of(cache, b"a") is not None
        assert cache.slabs.classes[-1].evicted == 1
        cache.check()


class TestCasUnique:
    def test_grows_with_each_store(self):
        cache = cache_with()
        for _ in range(3):
            cache.store(SET, b"a", b"v")
        item = cache.inspect(b"a")
        assert item is not None
        assert item.cas_unique == cache.cas_unique == 4
        assert cache.take_cas_unique() == 5

    def test_without_cas(self):
        cache = cache_with(disable_cas=True)
        item = cache.inspect(b"k")
        assert item is not None
        assert item.cas_unique == cache.cas_unique == cache.take_cas_unique() == 0
        assert cache.item_bytes == 48 + 1 + 1 + 3 + 2
        assert cache.store(CAS, b"k", b"v", 0, 0, 1) is EXISTS
        cache.set_cas_unique(item, 77)
        assert item.cas_unique == 0
        cache.check()

    def test_a_client_may_choose_it(self):
        cache = cache_with()
        item = cache.inspect(b"k")
        assert item is not None
        cache.set_cas_unique(item, 0)
        assert item.cas_unique == 0
        cache.set_cas_unique(item, 77)
        assert cache.store(CAS, b"k", b"v", 0, 0, 77) is STORED


NUMBERS: list[tuple[bytes, int | None]] = [
    # As memcached 1.6.18 answers `incr k 1`, less the 1; None: non-numeric.
    (b"5", 5),
    (b"+5", 5),
    (b"-5", None),
    (b"-0", 0),
    (b"-18446744073709551615", 1),
    (b"000000000000000000000000005", 5),
    (b"00018446744073709551615", limits.UINT64_MAX),
    (b"18446744073709551615", limits.UINT64_MAX),
    (b"18446744073709551616", None),
    (b"1" * 21, None),
    (b" 7", 7),
    (b"\t7", 7),
    (b"\v7", 7),
    (b"7\f", 7),
    (b"7\n", 7),
    (b"7 x", 7),
    (b"7\0x", 7),
    (b"7x", None),
    (b"0x10", None),
    (b"\0", None),
    (b"+", None),
    (b"- 5", None),
    (b"+-5", None),
    (b"", None),
]


class TestIncrement:
    @pytest.mark.parametrize(("value", "number"), NUMBERS)
    def test_what_is_a_number(self, value, number):
        cache = cache_with(value)
        if number is None:
            assert cache.increment(cache.peek(b"k"), 1) == (Status.NON_NUMERIC, 0)
            assert value_of(cache, b"k") == value
            return
        new = (number + 1) & limits.UINT64_MAX
        assert cache.increment(cache.peek(b"k"), 1) == (STORED, new)
        assert value_of(cache, b"k") == (b"%d" % new).ljust(len(value))
        cache.check()

    @pytest.mark.parametrize(
        ("value", "delta", "decrement", "new"),
        [
            (b"10", 5, True, b"5 "),
            (b"3", 5, True, b"0"),
            (b"9", 1, False, b"10"),
            (b"99", 1, False, b"100"),
            (b"18446744073709551615", 2, False, b"1                   "),
            (b"0", limits.UINT64_MAX, False, b"18446744073709551615"),
            (b"5", 0, False, b"5"),
        ],
    )
    def test_value(self, value, delta, decrement, new):
        cache = cache_with(value)
        assert cache.increment(cache.peek(b"k"), delta, decrement=decrement) == (STORED, int(new))
        assert value_of(cache, b"k") == new
        assert cache.cas_unique == 2
        cache.check()

    def test_keeps_flags_and_end_when_it_grows(self):
        cache = make_cache()
        cache.store(SET, b"k", b"9", 5, 50)
        cache.increment(cache.peek(b"k"), 1)
        item = cache.inspect(b"k")
        assert item is not None
        assert (item.value, item.client_flags, item.expires_at) == (b"10", 5, 50)

    def test_counters(self):
        cache = cache_with(b"5")
        assert cache.increment(cache.peek(b"missing"), 1) == (NOT_FOUND, 0)
        assert cache.increment(cache.peek(b"missing"), 1, decrement=True) == (NOT_FOUND, 0)
        cache.increment(cache.peek(b"k"), 1)
        cache.increment(cache.peek(b"k"), 1, decrement=True)
        first = cache.slabs.classes[0]
        assert (first.incr_hits, first.decr_hits) == (1, 1)
        assert (cache.counters.incr_misses, cache.counters.decr_misses) == (1, 1)

    def test_the_cas_unique_must_match_if_given(self):
        cache = cache_with(b"5")
        assert cache.increment(cache.peek(b"k"), 1, cas_compare=9) == (EXISTS, 0)
        assert cache.increment(cache.peek(b"k"), 1, cas_compare=1) == (STORED, 6)

    def test_a_value_in_chunks_is_no_number(self):
        cache = cache_with(b"5".ljust(600_000))
        assert cache.increment(cache.peek(b"k"), 1) == (Status.NON_NUMERIC, 0)

    def test_no_memory_for_a_longer_number(self):
        cache = make_cache(disable_evictions=True, limit_pages=1, slab_sizes=(MEBIBYTE // 4,))
        for name in (b"k", b"a", b"b", b"c"):
            assert cache.store(SET, name, b"9") is STORED
        assert cache.increment(cache.peek(b"k"), 1) == (Status.NO_MEMORY, 0)
        assert value_of(cache, b"k") == b"9"
        cache.check()


class TestDelete:
    def test_delete(self):
        cache = cache_with()
        assert cache.delete(b"k") is STORED
        assert cache.delete(b"k") is NOT_FOUND
        assert cache.slabs.classes[0].delete_hits == cache.counters.delete_misses == 1
        assert (cache.item_count, cache.item_bytes) == (0, 0)
        cache.check()

    def test_the_cas_unique_must_match_if_given(self):
        cache = cache_with()
        assert cache.delete(b"k", 9) is EXISTS
        assert cache.delete(b"k", 1) is STORED


class TestGetAndTouch:
    def test_counters(self):
        cache = cache_with()
        assert cache.get(b"missing") is None
        assert cache.get(b"k") is not None
        assert cache.touch(b"missing", 5) is None
        assert cache.touch(b"k", 50) is not None
        first = cache.slabs.classes[0]
        assert (first.get_hits, first.touch_hits) == (1, 1)
        assert (cache.counters.get_misses, cache.counters.touch_misses) == (1, 1)
        assert cache.counters.touch_cmds == 2

    def test_peek_and_inspect_leave_no_trace(self):
        cache = cache_with()
        before = photograph(cache)
        assert cache.peek(b"k") is cache.inspect(b"k") is not None
        assert cache.peek(b"missing") is cache.inspect(b"missing") is None
        assert photograph(cache) == before

    def test_hit_looks_away_from_keys_that_text_cannot_say(self):
        cache = make_cache()
        key = b"a b"
        cache.store(SET, key, b"1")
        item = cache.inspect(key)
        assert item is not None
        cache.mark(item, key_marks(key))
        assert cache.hit(key) is None
        assert cache.get(key) is item
        cache.store(APPEND, key, b"9")
        assert cache.hit(key) is None
        cache.increment(cache.peek(key), 999)
        assert cache.hit(key) is None

    @pytest.mark.parametrize(
        ("key", "marks"),
        [
            (b"plain", 0),
            (b"tab\t", 0),
            (b"\xff", 0),
            *((b"a%cb" % c, UNSPEAKABLE) for c in b"\n "),
            *((b"a%cb" % c, 0) for c in b"\0\r"),
        ],
    )
    def test_which_keys_text_cannot_say(self, key, marks):
        assert key_marks(key) == marks


class TestStale:
    """What meta commands add."""

    def test_an_invalidated_item_is_stale_and_new(self):
        cache = cache_with()
        item = cache.inspect(b"k")
        assert item is not None
        cache.invalidate(item)
        assert (item.stale, bool(item.access & WIN_SENT), item.cas_unique) == (True, False, 2)
        cache.check()

    def test_an_older_cas_unique_stores_stale_and_keeps_the_end(self):
        cache = make_cache()
        cache.store(SET, b"k", b"v", 0, 50)
        item = cache.inspect(b"k")
        assert item is not None
        cache.invalidate(item)
        assert cache.store_stale(b"k", b"new", 3, 90, 1) is STORED
        item = cache.inspect(b"k")
        assert item is not None
        assert (item.value, item.client_flags, item.expires_at) == (b"new", 3, 50)
        assert (item.stale, item.cas_unique) == (True, 3)
        cache.check()

    @pytest.mark.parametrize(("cas_compare", "status"), [(1, STORED), (2, EXISTS), (0, EXISTS)])
    def test_otherwise_it_is_a_cas(self, cas_compare, status):
        cache = cache_with()
        assert cache.store_stale(b"k", b"new", 0, 0, cas_compare) is status
        item = cache.inspect(b"k")
        assert item is not None
        assert not item.stale
        assert cache.store_stale(b"missing", b"new", 0, 0, 1) is NOT_FOUND

    def test_a_stale_store_may_fail(self):
        cache = cache_with()
        item = cache.inspect(b"k")
        assert item is not None
        cache.invalidate(item)
        assert cache.store_stale(b"k", b"x" * MEBIBYTE, 0, 0, 1) is Status.TOO_LARGE
        cache.check()

    def test_a_plain_set_makes_it_fresh(self):
        for fast in (False, True):
            cache = cache_with()
            item = cache.inspect(b"k")
            assert item is not None
            cache.mark(item, STALE)
            assert cache.set(b"k", b"v", 0) if fast else cache.store(SET, b"k", b"v") is STORED
            item = cache.inspect(b"k")
            assert item is not None
            assert not item.stale

    def test_create(self):
        cache = cache_with()
        item = cache.create(b"k", b"", 5)
        assert item is cache.inspect(b"k")
        assert item is not None
        assert (item.value, item.client_flags, cache.slabs.classes[0].set_cmds) == (b"", 5, 1)
        assert cache.create(b"k", b"x" * MEBIBYTE) is None
        cache.check()

    def test_create_without_memory(self):
        cache = make_cache(disable_evictions=True, limit_pages=1)
        assert cache.create(b"a", HALF_PAGE) is not None
        assert cache.create(b"b", HALF_PAGE) is not None
        assert cache.create(b"c", HALF_PAGE) is None
        cache.check()


class Told:
    """A listener that notes what it hears."""

    def __init__(self, cache: Cache) -> None:
        self.events: list[tuple[Any, ...]] = []
        cache.listen(self)

    def looked_up(self, key, lookup, item):
        self.events.append((lookup, key, item and item.value))

    def storing(self, key):
        self.events.append(("storing", key))

    def stored(self, mode, key, status, value_bytes, expires_at, slab_class):
        class_id = 0 if slab_class is None else slab_class.id
        self.events.append((status, mode, key, value_bytes, expires_at, class_id))

    def deleted(self, item):
        self.events.append(("deleted", item.key, item.value))


FOUND = (Lookup.FOUND, b"k", b"old")
MISSED = (Lookup.NOT_FOUND, b"none", None)
BIG = b"x" * MEBIBYTE


class TestListener:
    @pytest.mark.parametrize(
        ("commands", "events"),
        [
            (lambda cache: (cache.get(b"k"), cache.get(b"none")), [FOUND, MISSED]),
            (lambda cache: (cache.peek(b"k"), cache.peek(b"none")), [FOUND, MISSED]),
            (lambda cache: (cache.touch(b"k", 9), cache.touch(b"none", 9)), [FOUND, MISSED]),
            (lambda cache: cache.hit(b"k"), []),  # which means: ask again, by `get`
            (lambda cache: cache.set(b"k", b"v", 0), []),
            (
                lambda cache: cache.store(SET, b"k", b"x" * 99, 0, 9),
                [FOUND, (STORED, SET, b"k", 99, 9, 4)],
            ),
            (lambda cache: cache.store(ADD, b"k", b"v"), [FOUND, (NOT_STORED, ADD, b"k", 1, 0, 1)]),
            (
                lambda cache: cache.store(CAS, b"none", b"v", 0, 0, 1),
                [MISSED, (NOT_FOUND, CAS, b"none", 1, 0, 1)],
            ),
            (
                lambda cache: cache.store(APPEND, b"k", b"x" * 99),
                [FOUND, (STORED, APPEND, b"k", 102, 0, 4)],
            ),
            (
                lambda cache: cache.store_stale(b"k", b"v", 0, 0, 1),
                [FOUND, (STORED, CAS, b"k", 1, 0, 1)],
            ),
            (
                lambda cache: cache.store(SET, b"k", BIG),
                [(Status.TOO_LARGE, SET, b"k", 0, 0, 0), FOUND],
            ),
            (
                lambda cache: cache.admit(ADD, b"k", MEBIBYTE, 0),
                [("storing", b"k"), (Status.TOO_LARGE, ADD, b"k", 0, 0, 0)],
            ),
            (lambda cache: cache.admit(ADD, b"k", 1, 0), [("storing", b"k")]),
            (
                lambda cache: (cache.delete(b"k"), cache.delete(b"none")),
                [FOUND, ("deleted", b"k", b"old"), MISSED],
            ),
            (lambda cache: cache.increment(cache.peek(b"none"), 1), [MISSED]),
            (
                lambda cache: cache.create(b"none", b"7", mode=ADD),
                [MISSED, (STORED, ADD, b"none", 1, 0, 1)],
            ),
        ],
    )
    def test_what_it_hears(self, commands, events):
        cache = cache_with()
        told = Told(cache)
        commands(cache)
        assert told.events == events
        cache.check()

    def test_of_what_is_dead(self):
        timed = TimedCache()
        told = Told(timed.cache)
        timed.set(b"k", exptime=1)
        timed.advance(1)
        timed.cache.get(b"k")
        timed.set(b"k", exptime=-1)
        timed.set(b"k")
        timed.advance(2)
        timed.cache.flush()
        timed.cache.peek(b"k")
        assert [event[0] for event in told.events if type(event[0]) is Lookup] == [
            Lookup.NOT_FOUND,
            Lookup.EXPIRED,
            Lookup.NOT_FOUND,
            Lookup.EXPIRED,
            Lookup.FLUSHED,
        ]

    def test_nothing_of_what_no_command_asks_for(self):
        timed = TimedCache(memory_limit_bytes=2 * MEBIBYTE)
        cache = timed.cache
        told = Told(cache)
        assert cache.install(b"k", b"v", 0, 3, 77, 0)
        assert cache.install(b"k", b"w" * 100, 5, 3, 78, STALE)
        assert not cache.install(b"k", BIG, 0, 0, 79, 0)
        for number in range(3000):
            assert cache.install(b"%d" % number, b"x" * 1000, 0, 0, 80 + number, 0)
        assert sum(each.evicted for each in cache.slabs)
        cache.inspect(b"k")
        cache.linked(b"k")
        cache.create(b"new", b"")
        timed.advance(9)
        cache.flush_before(1000)
        for item in list(cache.items()):
            if cache.is_dead(item):
                cache.reclaim(item)
        for slab_class in cache.slabs:
            cache.lru.juggle(slab_class, temporary=True, most=9)
        cache.clear()
        assert told.events == []
        cache.check()

    def test_nothing_once_it_has_gone(self):
        cache = cache_with()
        told = Told(cache)
        cache.listen(None)
        cache.get(b"k")
        assert told.events == []
        assert cache.hit(b"k") is cache.inspect(b"k")
        cache.check()

    def test_it_changes_nothing(self):
        def play(cache: Cache) -> dict[str, Any]:
            for key in (b"a", b"b", b"a"):
                for mode in StoreMode:
                    cache.set(key, b"1", 0) or cache.store(SET, key, b"1")
                    cache.store(mode, key, b"2" * 200, 5, 90, cache.cas_unique)
                    cache.get(key)
                    cache.get(b"none")
                    cache.touch(key, 99)
                    cache.increment(cache.peek(key), 7)
                cache.store_stale(key, b"3", 0, 0, 1)
            cache.delete(b"b")
            cache.flush()
            cache.get(b"a")
            cache.check()
            return photograph(cache)

        followed = make_cache()
        assert Told(followed)
        assert play(followed) == play(make_cache())


class TestMemory:
    def test_size_as_memcached_counts_it(self):
        cache = cache_with(b"x" * 10)
        assert cache.item_bytes == 48 + 8 + 1 + 1 + 10 + 2
        cache.store(SET, b"k", b"x" * 10, 1)
        assert cache.item_bytes == 48 + 8 + 1 + 1 + 10 + 2 + 4

    def test_resident_accounting_with_small_chunks_takes_the_longest_key(self):
        cache = make_cache(
            memory_accounting="resident", slab_chunk_max_bytes=512, item_size_max_bytes=1024
        )
        assert cache.store(StoreMode.SET, b"k" * 250, b"x" * 20) is Status.STORED
        cache.check()

    def test_resident_accounting_charges_what_python_takes(self):
        cache = cache_with(b"x" * 10, memory_accounting="resident")
        assert cache.item_bytes == RESIDENT_OVERHEAD_BYTES + 1 + 10
        item = cache.inspect(b"k")
        assert item is not None
        assert cache.size_of(item) == cache.item_bytes
        cache.check()

    @of_cpython("an object tells its size")
    @pytest.mark.slow
    @pytest.mark.parametrize("flagged", [False, True])
    @pytest.mark.parametrize("ends", [0, 1, 5000, 1 << 30])
    def test_resident_accounting_holds_for_the_smallest_items(self, flagged, ends):
        limit_bytes = 8 << 20
        settings = Settings(memory_accounting="resident", memory_limit_bytes=limit_bytes)
        cache = Cache(settings, ManualClock())
        rebalancer = Rebalancer(cache, settings)
        for number in range(60_000):
            client_flags = 1000 + number if flagged else 0
            expires_at = 1000 + number * 7919 % ends if ends else 0
            cache.store(SET, b"%d" % number, b"x%d" % number, client_flags, expires_at)
            if number % 1000 == 0:
                while rebalancer.step():
                    pass
        # Objects, each once, with what the allocator adds, and the tables in which they are.
        objects: dict[int, object] = {}
        for item in cache.items():
            parts = (item, item.key, item.value, item.cas_unique, item.client_flags, item.state)
            for each in (*parts, *item.state[1:]):
                objects[id(each)] = each
        tables = [*cache._tables, *cache.expiry._tables]
        taken = sum(-(-sys.getsizeof(each) // 16) * 16 for each in objects.values())
        taken += sum(map(sys.getsizeof, tables))
        assert cache.item_count > 10_000
        # A page of each class may be taken over the limit, as ever; and hash tables grow by leaps.
        assert taken <= 1.1 * limit_bytes
        cache.check()

    def test_a_large_value_takes_chunks_of_several_classes(self):
        cache = cache_with(b"x" * 700_000)
        used = {each.id: each.used_chunks for each in cache.slabs if each.used_chunks}
        assert used == {2: 1, 35: 1, 39: 1}
        item = cache.inspect(b"k")
        assert item is not None
        assert item.segment is cache.slabs.classes[-1].hot
        cache.delete(b"k")
        assert not any(each.used_chunks for each in cache.slabs)
        cache.check()

    def test_client_flags_of_a_large_value(self):
        cache = cache_with(b"x" * 700_000, client_flags=7)
        item = cache.inspect(b"k")
        assert item is not None
        assert item.client_flags == 7
        cache.check()

    def test_a_full_chunk_takes_the_place_of_a_smaller_one_that_is_not_to_be_had(self):
        # memcached: do_item_alloc_chunk
        cache = make_cache(limit_pages=1)
        for number in range(5):  # class 35: five to a page
            cache.store(SET, b"%d" % number, b"x" * 200_000)
            for _ in range(2):
                cache.get(b"%d" % number)
        small = cache.slabs.classes[34]
        while small.hot.count:  # all WARM: nothing there can be evicted
            cache.lru.pull_tail(small.hot)
        assert cache.store(SET, b"k", b"x" * 700_000) is STORED
        item = cache.inspect(b"k")
        assert item is not None
        assert [each.id for each in item.chunk_classes] == [2, 39, 39]
        cache.check()

    def test_a_large_value_that_finds_no_memory_gives_back_what_it_took(self):
        cache = make_cache(disable_evictions=True, limit_pages=1)
        cache.store(SET, b"a", HALF_PAGE)
        cache.store(SET, b"b", HALF_PAGE)
        assert cache.store(SET, b"k", b"x" * 700_000) is Status.NO_MEMORY_READING
        # memcached counts only a header that found no place. # do_item_alloc_chunk
        assert cache.slabs.classes[-1].outofmemory == 0
        assert cache.item_count == 2
        cache.check()

    def test_no_room_even_for_the_header_of_a_large_value(self):
        cache = make_cache(
            disable_evictions=True, limit_pages=1, slab_sizes=(104, 200, MEBIBYTE // 2)
        )
        cache.slabs.limit_bytes = MEBIBYTE
        number = 0
        while cache.store(SET, b"%08d" % number, b"x" * 100) is STORED:
            number += 1
        assert number == MEBIBYTE // 200
        assert cache.store(SET, b"k" * 40, b"x" * 700_000) is Status.NO_MEMORY
        cache.check()

    def test_the_tables_share_the_items(self):
        cache = make_cache()
        for number in range(2000):
            cache.store(SET, b"%d" % number, b"v")
        tables = [cache.table_items(number) for number in range(TABLES)]
        assert sum(map(len, tables)) == 2000
        assert max(map(len, tables)) < 40
        assert {item.key for item in cache.items()} == {b"%d" % n for n in range(2000)}
        assert cache.tables_bytes > 2000 * 8

    def test_items_cost_what_was_designed(self):
        """Millions exist. A new slot must be worth its bytes."""
        assert len(Item.__slots__) == 6
        assert not hasattr(Item(b"k", b"v", 1), "__dict__")
        assert not hasattr(FlaggedItem(b"k", b"v", 1, 9), "__dict__")

    def test_items_of_one_second_share_their_state(self):
        cache = make_cache()
        for key in (b"a", b"b", b"c"):
            assert cache.set(key, b"v", 100) or cache.store(SET, key, b"v", 0, 100) is STORED
        assert len({id(item.state) for item in cache.items()}) == 1


class TestItem:
    def test_repr(self):
        cache = cache_with(client_flags=5)
        assert repr(cache.inspect(b"k")) == "<FlaggedItem b'k' 3 B cas 1 expires 0>"

    def test_marks_share_a_number_with_the_time(self):
        pool = StatePool()
        item = Item(b"k", b"v", 1)
        item.state = pool.of(None, 0, 1000 << MARK_BITS)
        item.mark(STALE, pool)
        item.mark(UNSPEAKABLE, pool)
        item.unmark(STALE, pool)
        assert (item.last_access, item.stale, item.access & UNSPEAKABLE) == (1000, False, 32)
        assert item.state is pool.of(None, 0, 1000 << MARK_BITS | UNSPEAKABLE)

    def test_the_pool_is_bounded(self):
        pool = StatePool()
        for second in range(10_000):
            pool.of(None, second, 0)
        assert len(pool._pool) <= 4097


class TestClockAndStatistics:
    def test_a_new_second_is_announced_once(self):
        timed = TimedCache()
        seconds: list[int] = []
        timed.cache.on_second = lambda: seconds.append(timed.cache.now)
        for _ in range(5):
            timed.advance(0.5)
        assert seconds == [3, 4]

    def test_a_clock_that_may_go_back_to_before_the_start(self):
        timed = TimedCache()
        cache, clock = timed.cache, timed.clock
        cache.count_from(clock.monotonic() - 1000)
        assert cache.now == cache.started == 1002
        timed.set(b"a", exptime=60)
        for seconds in (59, -1000, 941):
            clock._monotonic_s += seconds
            cache.tick()
            assert cache.get(b"a") is not None
            cache.check()
        timed.advance(60)
        assert cache.get(b"a") is None

    def test_reset_zeroes_what_was_counted_and_keeps_what_is(self):
        cache = cache_with()
        cache.get(b"k")
        cache.get(b"missing")
        cache.reset_counters()
        first = cache.slabs.classes[0]
        assert (cache.total_items, first.set_cmds, first.get_hits) == (0, 0, 0)
        assert cache.counters.get_misses == 0
        assert (cache.item_count, first.pages) == (1, 1)
        assert cache.cas_unique == 1
        cache.check()

    @pytest.mark.parametrize(
        "damage",
        [
            "item_count",
            "item_bytes",
            "key",
            "segment",
            "cas",
            "chunk",
            "bytes",
            "class",
            "now",
            "listener",
            "_careful",
            "_flushing",
            "_first_segment",
        ],
    )
    def test_check_notices(self, damage):
        cache = cache_with()
        item = cache.inspect(b"k")
        assert item is not None
        assert item.segment is not None
        cache.check()
        if damage == "key":
            item.key = b"other"
        elif damage == "segment":
            item.state = (None, 0, 0)
        elif damage == "cas":
            item.cas_unique = -1
        elif damage == "chunk":
            cache.slabs.classes[0].free_chunks -= 1
        elif damage == "bytes":
            item.segment.bytes += 1
        elif damage == "class":
            item.value += bytes(100)
            item.segment.bytes += 100
            cache.item_bytes += 100
        else:
            setattr(cache, damage, 9)
        with pytest.raises(AssertionError):
            cache.check()


# -- the fast paths ----------------------------------------------------------------------------

GEOMETRIES: list[dict[str, Any]] = [
    {},
    {"limit_pages": 1},
    {"limit_pages": 1, "disable_evictions": True},
    {"disable_cas": True},
    {"lru_segmented": False},
    {"temporary_ttl_s": 5},
    {"memory_accounting": "resident"},
    {"limit_pages": 2, "slab_sizes": (104, 304, 200_000)},
]
KEYS = st.sampled_from([b"a", b"b", b"c", b"d" * 50, b"e"])
#: Lengths around the bounds of classes, and such that a few of them fill a page.
LENGTHS = st.sampled_from([0, 1, 35, 36, 60, 100, 200_000, 460_000, 524_200, 524_300, MEBIBYTE])
STEPS = st.lists(
    st.one_of(
        st.tuples(
            st.just("set"),
            KEYS,
            LENGTHS,
            st.sampled_from([-1, 0, 1, 5, 100]),
            st.sampled_from([0, 0, 1, limits.UINT32_MAX]),
        ),
        st.tuples(
            st.just("install"), KEYS, LENGTHS, st.sampled_from([-1, 0, 1, 5, 100]), st.just(0)
        ),
        st.tuples(st.just("get"), KEYS),
        st.tuples(st.just("delete"), KEYS),
        st.tuples(st.just("flush"), st.sampled_from([0, 2])),
        st.tuples(st.just("advance"), st.sampled_from([1, 3, FLAT_BUMP_INTERVAL_S + 1])),
        st.tuples(st.just("juggle")),
    ),
    max_size=40,
)


def perform(timed: TimedCache, step: tuple[Any, ...], *, fast: bool) -> object:
    """Do one step, by the fast path where there is one, as a connection would."""
    cache = timed.cache
    name, *arguments = step
    if name == "set":
        key, length, exptime, client_flags = arguments
        value = bytes(length)
        expires_at = cache.expiry.expires_at(exptime)
        if fast and cache.set(key, value, expires_at, client_flags):
            return STORED
        return cache.store(SET, key, value, client_flags, expires_at)
    if name == "install":
        key, length, exptime, client_flags = arguments
        value, expires_at = bytes(length), cache.expiry.expires_at(exptime)
        old = cache.linked(key) if fast else None
        if old is not None and cache.overwrite(old, value, expires_at, 7):
            return True
        return cache.install(key, value, client_flags, expires_at, 7, 0)
    if name == "get":
        item = cache.hit(*arguments) if fast else None
        item = item or cache.get(*arguments)
        return None if item is None else (item.value, item.client_flags)
    if name == "delete":
        return cache.delete(*arguments)
    if name == "advance":
        timed.advance(*arguments)
        return None
    if name == "flush":
        cache.flush(*arguments)
        return None
    return [cache.lru.juggle(each, temporary=True, most=10) for each in cache.slabs]


_COLD: list[tuple[Any, ...]] = [("advance", 1), ("juggle",)]


@pytest.mark.slow
@pytest.mark.parametrize("geometry", GEOMETRIES, ids=str)
@given(steps=STEPS)
# An item in COLD, and one in WARM, is replaced: it starts anew in HOT.
@example(steps=[("set", b"a", 1, 0, 0), *_COLD, ("set", b"a", 2, 5, 0)])
@example(steps=[("set", b"a", 1, 0, 9), *_COLD, *[("get", b"a")] * 2, ("set", b"a", 2, 0, 8)])
@example(steps=[("set", b"a", 1, 0, 0), *_COLD, ("install", b"a", 2, 5, 0)])
@example(steps=[("set", b"a", 1, 5, 9), ("set", b"b", 1, 5, 0), ("install", b"a", 2, 0, 0)])
@example(steps=[*[("set", key, 1, 5, 0) for key in (b"a", b"b")], ("install", b"a", 1, 0, 0)])
@example(steps=[("set", b"a", 1, 1, 0), ("advance", 3), ("install", b"a", 100, 0, 0)])
@example(steps=[("set", b"a", 1, 0, 0), ("install", b"a", 1, 100, 0), ("get", b"a")])
def test_the_fast_paths_change_nothing_but_the_time_it_takes(geometry, steps):
    slow, fast = TimedCache(**geometry), TimedCache(**geometry)
    for step in steps:
        assert perform(fast, step, fast=True) == perform(slow, step, fast=False)
        assert photograph(fast.cache) == photograph(slow.cache), step
    fast.cache.check()


# -- large values grow where they lie --------------------------------------------------------------


@pytest.mark.parametrize("mode", [StoreMode.APPEND, StoreMode.PREPEND])
@pytest.mark.parametrize("size", [10, 65_535, 65_536, 300_000])
@pytest.mark.parametrize("more", [b"", b"y", b"yz" * 40_000])
def test_what_is_joined_is_one_value_and_others_keep_what_they_have(mode, size, more):
    cache = make_cache()
    value = bytes(range(256)) * (size // 256 + 1)
    cache.store(StoreMode.SET, b"k", value[:size], 7, 0)
    held = None
    wanted = value[:size]
    for number in range(4):
        item = cache.inspect(b"k")
        assert item is not None
        if number == 2:  # somebody sends it
            held = item.value
        assert cache.store(mode, b"k", more) is Status.STORED
        wanted = wanted + more if mode is StoreMode.APPEND else more + wanted
        item = cache.inspect(b"k")
        assert item is not None
        assert (item.value, item.client_flags) == (wanted, 7)
        cache.check()
    assert held == (wanted[: size + 2 * len(more)] if mode is StoreMode.APPEND
                    else wanted[2 * len(more):])  # fmt: skip


def test_a_value_stays_whole_where_there_is_no_room_for_more():
    cache = make_cache()
    value = bytes(range(250)) * 4000
    cache.store(StoreMode.SET, b"k", value)
    for mode in (StoreMode.APPEND, StoreMode.PREPEND):
        assert cache.store(mode, b"k", bytes(100_000)) is Status.NOT_STORED
    item = cache.inspect(b"k")
    assert item is not None
    assert item.value == value
    cache.check()


@pytest.mark.parametrize("mode", [StoreMode.APPEND, StoreMode.PREPEND])
def test_a_large_value_that_grows_is_not_copied(mode):
    cache = make_cache(memory_limit_bytes=1 << 30, item_size_max_bytes=256 << 20)
    tracemalloc = pytest.importorskip("tracemalloc", reason="PyPy has none")
    tracemalloc.start()
    try:
        cache.store(StoreMode.SET, b"k", bytes(50 << 20))
        tracemalloc.reset_peak()
        assert cache.store(mode, b"k", b"more") is Status.STORED
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak_bytes < 60 << 20


def test_where_the_system_has_no_memory_nothing_is_left_over(monkeypatch):
    cache = make_cache()
    cache.store(StoreMode.SET, b"k", bytes(100_000))

    class Full(BytesIO):
        def writelines(self, pieces):
            raise MemoryError

    monkeypatch.setattr(cache_module, "BytesIO", Full)
    assert cache.store(StoreMode.APPEND, b"k", b"more") is Status.NOT_STORED
    assert cache.inspect(b"k") is None
    cache.check()
