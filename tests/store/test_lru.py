"""The segmented LRU: where items start, how they move, which one goes first."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any

import pytest

from pymcd.store import Status, StoreMode
from pymcd.store.item import ACTIVE, COLD, FETCHED, HOT, TEMP, WARM
from pymcd.store.lru import PULL_TRIES
from tests.store.helpers import TimedCache, keys

if TYPE_CHECKING:
    from pymcd.store.item import SlabClass

#: Two items of this value fill a page: class 39.
HALF_PAGE = b"x" * 500_000


def class_of(timed: TimedCache, key: bytes) -> SlabClass:
    item = timed.cache.inspect(key)
    assert item is not None
    assert item.segment is not None
    return item.segment.slab_class


def where(timed: TimedCache, key: bytes) -> int | None:
    """Return the kind of segment a key is in; None: it is gone."""
    item = timed.cache.inspect(key)
    if item is None:
        return None
    assert item.segment is not None
    return item.segment.kind


def timed_with(*names: bytes, **settings: Any) -> TimedCache:
    timed = TimedCache(**settings)
    for name in names:
        timed.set(name)
    return timed


def juggle(timed: TimedCache, key: bytes) -> int:
    cache = timed.cache
    temporary = cache.temporary_lru
    return cache.lru.juggle(class_of(timed, key), temporary=temporary, most=500)


class TestSegment:
    def test_the_newest_is_the_head(self):
        timed = timed_with(b"a", b"b", b"c")
        hot = class_of(timed, b"a").hot
        assert (keys(hot), hot.count) == ([b"c", b"b", b"a"], 3)
        assert repr(hot) == "<Segment hot of class 1: 3>"

    @pytest.mark.parametrize("key", [b"a", b"b", b"c"])
    def test_any_can_be_taken_out(self, key):
        timed = timed_with(b"a", b"b", b"c")
        hot = class_of(timed, b"a").hot
        item = timed.cache.inspect(key)
        assert item is not None
        timed.cache.unlink(item)
        assert keys(hot) == [name for name in (b"c", b"b", b"a") if name != key]
        assert (item.prev, item.next, item.segment, item.linked) == (None, None, None, False)
        timed.cache.check()

    @pytest.mark.parametrize("key", [b"a", b"b", b"c"])
    def test_any_can_become_the_head(self, key):
        timed = timed_with(b"a", b"b", b"c")
        hot = class_of(timed, b"a").hot
        item = timed.cache.inspect(key)
        assert item is not None
        hot.to_head(item)
        assert keys(hot) == [key, *(name for name in (b"c", b"b", b"a") if name != key)]
        timed.cache.check()

    def test_the_bytes_are_those_of_its_items(self):
        timed = timed_with(b"a", b"bc")
        # 48 for the header, 8 for the cas unique, the key and a NUL, the value and CRLF.
        assert class_of(timed, b"a").hot.bytes == 61 + 62


class TestReading:
    def test_twice_makes_an_item_active(self):
        timed = timed_with(b"a")
        item = timed.cache.get(b"a")
        assert item is not None
        assert (item.fetched, bool(item.access & ACTIVE)) == (True, False)
        assert timed.cache.get(b"a") is item
        assert (item.fetched, bool(item.access & ACTIVE)) == (True, True)
        assert where(timed, b"a") == HOT, "a read moves nothing"

    def test_the_time_of_access_is_renewed_with_the_second_read(self):
        timed = timed_with(b"a")
        item = timed.cache.inspect(b"a")
        assert item is not None
        born = item.last_access
        timed.advance(10)
        timed.cache.get(b"a")
        assert item.last_access == born
        timed.cache.get(b"a")
        assert item.last_access == born + 10
        timed.advance(10)
        timed.cache.get(b"a")
        assert item.last_access == born + 10, "an active item is left alone until it is moved"

    def test_an_active_item_of_cold_goes_to_warm(self):
        timed = timed_with(b"a", b"b")
        timed.advance(1)
        juggle(timed, b"a")
        assert (where(timed, b"a"), where(timed, b"b")) == (COLD, COLD)
        timed.cache.get(b"a")
        assert where(timed, b"a") == COLD
        timed.cache.get(b"a")
        assert where(timed, b"a") == WARM
        item = timed.cache.inspect(b"a")
        assert item is not None
        assert not item.access & ACTIVE, "in WARM it has to prove itself anew"
        assert class_of(timed, b"a").moves_to_warm == 1
        timed.cache.check()

    def test_a_failed_add_counts_as_use(self):
        timed = timed_with(b"a")
        timed.advance(5)
        assert timed.cache.store(StoreMode.ADD, b"a", b"n") is Status.NOT_STORED
        item = timed.cache.inspect(b"a")
        assert item is not None
        assert item.last_access == timed.cache.now

    @pytest.mark.parametrize("fast", [False, True])
    def test_hits_count_for_the_segment_in_which_the_item_was_found(self, fast):
        timed = timed_with(b"a")
        fetch = timed.cache.hit if fast else timed.cache.get
        fetch(b"a")
        slab_class = class_of(timed, b"a")
        timed.advance(1)
        juggle(timed, b"a")
        for _ in range(3):
            fetch(b"a")  # the first of these moves it from COLD to WARM
        assert [segment.hits for segment in slab_class.segments] == [1, 2, 1, 0]
        assert slab_class.get_hits == 4


class TestPullTail:
    def test_hot_within_its_share_stays(self):
        timed = timed_with(b"a", b"b")
        hot = class_of(timed, b"a").hot
        assert timed.cache.lru.pull_tail(hot, total_bytes=100 * hot.bytes, max_age_s=10) == 0
        assert keys(hot) == [b"b", b"a"]

    def test_hot_over_its_share_goes_to_cold(self):
        timed = timed_with(b"a", b"b")
        slab_class = class_of(timed, b"a")
        assert timed.cache.lru.pull_tail(slab_class.hot, total_bytes=100, max_age_s=10) == 1
        assert (keys(slab_class.hot), keys(slab_class.cold)) == ([b"b"], [b"a"])
        assert slab_class.moves_to_cold == 1
        timed.cache.check()

    def test_hot_grown_old_goes_to_cold(self):
        timed = timed_with(b"a")
        slab_class = class_of(timed, b"a")
        timed.advance(11)
        assert timed.cache.lru.pull_tail(slab_class.hot, total_bytes=10_000, max_age_s=10) == 1
        assert keys(slab_class.cold) == [b"a"]

    def test_hot_that_is_active_goes_to_warm_even_if_within_its_share(self):
        timed = timed_with(b"a", b"b")
        slab_class = class_of(timed, b"a")
        timed.cache.get(b"a")
        timed.cache.get(b"a")
        assert timed.cache.lru.pull_tail(slab_class.hot, total_bytes=10_000, max_age_s=10) == 1
        assert (keys(slab_class.hot), keys(slab_class.warm)) == ([b"b"], [b"a"])
        assert slab_class.moves_to_warm == 1
        timed.cache.check()

    def test_warm_that_is_active_goes_round_again(self):
        timed = timed_with(b"a", b"b", b"c")
        cache, slab_class = timed.cache, class_of(timed, b"a")
        for name in (b"a", b"b", b"c"):
            item = cache.inspect(name)
            assert item is not None
            item.mark(FETCHED | ACTIVE, cache._states)
            assert cache.lru.pull_tail(slab_class.hot, total_bytes=10_000) == 1
        cache.get(b"a")  # active: goes round, and the pull looks at b, which stays
        assert keys(slab_class.warm) == [b"c", b"b", b"a"]
        assert cache.lru.pull_tail(slab_class.warm, total_bytes=10_000, max_age_s=9) == 1
        assert keys(slab_class.warm) == [b"a", b"c", b"b"]
        assert slab_class.moves_within_lru == 1
        assert cache.lru.pull_tail(slab_class.warm, total_bytes=100, max_age_s=9) == 1
        assert keys(slab_class.cold) == [b"b"]
        cache.check()

    def test_a_pull_looks_at_a_few_items_only(self):
        timed = timed_with(*(b"%d" % number for number in range(20)))
        cache, slab_class = timed.cache, class_of(timed, b"0")
        for item in list(slab_class.hot):
            item.mark(FETCHED | ACTIVE, cache._states)
            cache.lru._move(item, slab_class.warm, item.access)
        for item in slab_class.warm:
            item.mark(ACTIVE, cache._states)
        assert cache.lru.pull_tail(slab_class.warm, total_bytes=1) == PULL_TRIES

    def test_cold_that_is_active_is_rescued(self):
        timed = timed_with(b"a")
        cache, slab_class = timed.cache, class_of(timed, b"a")
        cache.lru.pull_tail(slab_class.hot)
        item = cache.inspect(b"a")
        assert item is not None
        assert cache.lru.pull_tail(slab_class.cold) == 0
        item.mark(ACTIVE, cache._states)
        assert cache.lru.pull_tail(slab_class.cold) == 1
        assert (where(timed, b"a"), bool(item.access & ACTIVE)) == (WARM, False)

    def test_cold_is_evicted_if_asked_though_active(self):
        timed = TimedCache()
        timed.set(b"a", exptime=100)
        cache, slab_class = timed.cache, class_of(timed, b"a")
        cache.lru.pull_tail(slab_class.hot)
        item = cache.inspect(b"a")
        assert item is not None
        item.mark(FETCHED | ACTIVE, cache._states)
        timed.advance(7)
        evicted: list[bytes] = []
        cache.on_evict = lambda item: evicted.append(item.key)
        assert cache.lru.pull_tail(slab_class.cold, evict=True) == 1
        assert evicted == [b"a"]
        assert (slab_class.evicted, slab_class.evicted_active, slab_class.evicted_nonzero) == (
            1, 1, 1,
        )  # fmt: skip
        assert (slab_class.evicted_unfetched, slab_class.evicted_time_s) == (0, 7)
        cache.check()

    def test_dead_tails_are_reclaimed_and_not_evicted(self):
        timed = TimedCache()
        for name in (b"a", b"b", b"c"):
            timed.set(name, exptime=1)
        timed.set(b"d")
        cache, slab_class = timed.cache, class_of(timed, b"d")
        cache.get(b"a")
        timed.advance(1)
        assert cache.lru.pull_tail(slab_class.hot, total_bytes=10_000, max_age_s=9) == 3
        assert keys(slab_class.hot) == [b"d"]
        assert (slab_class.reclaimed, slab_class.expired_unfetched, slab_class.evicted) == (3, 2, 0)
        cache.check()

    def test_nothing_to_pull(self):
        timed = timed_with(b"a")
        assert timed.cache.lru.pull_tail(class_of(timed, b"a").cold, evict=True) == 0

    def test_without_evictions_cold_stays(self):
        timed = timed_with(b"a", disable_evictions=True)
        slab_class = class_of(timed, b"a")
        timed.cache.lru.pull_tail(slab_class.hot)
        assert timed.cache.lru.pull_tail(slab_class.cold, evict=True) == 0
        assert (keys(slab_class.cold), slab_class.evicted) == ([b"a"], 0)


class TestJuggle:
    def fill(self, **settings: Any) -> TimedCache:
        timed = TimedCache(**settings)
        for number in range(100):
            timed.set(b"%02d" % number)
        return timed

    def test_hot_keeps_its_share(self):
        timed = self.fill()
        assert juggle(timed, b"00") == 80
        slab_class = class_of(timed, b"00")
        assert (slab_class.hot.count, slab_class.cold.count) == (20, 80)
        assert keys(slab_class.hot)[-1] == b"80", "the oldest went"
        assert keys(slab_class.cold)[0] == b"79", "the one that left last is the newest of COLD"
        assert juggle(timed, b"00") == 0
        timed.cache.check()

    def test_what_was_read_twice_ends_in_warm(self):
        timed = self.fill()
        for number in range(0, 100, 2):
            timed.cache.get(b"%02d" % number)
            timed.cache.get(b"%02d" % number)
        while juggle(timed, b"00"):
            pass
        slab_class = class_of(timed, b"00")
        assert slab_class.warm.count == 40
        assert {key for key in keys(slab_class.warm) if int(key) % 2} == set()
        assert slab_class.hot.count <= 20
        assert slab_class.warm.bytes <= slab_class.cold.bytes
        timed.cache.check()

    def test_is_bounded(self):
        timed = self.fill()
        lru = timed.cache.lru
        slab_class = class_of(timed, b"00")
        assert 0 < lru.juggle(slab_class, temporary=False, most=10) <= 20

    def test_dead_temporary_items_are_reclaimed_in_slices(self):
        timed = TimedCache(temporary_ttl_s=60)
        for number in range(20):
            timed.set(b"%d" % number, exptime=1)
        timed.advance(1)
        slab_class = timed.cache.slabs.classes[0]
        timed.cache.lru.juggle(slab_class, temporary=True, most=2)
        assert slab_class.temp.count == 20 - 2 * PULL_TRIES

    def test_warm_gets_old_in_relation_to_cold(self):
        timed = TimedCache(warm_max_factor=2.0)
        timed.set(b"a")
        timed.cache.get(b"a")
        timed.cache.get(b"a")
        timed.advance(1)
        slab_class = class_of(timed, b"a")
        timed.cache.lru.pull_tail(slab_class.hot)
        assert where(timed, b"a") == WARM
        timed.advance(30)
        timed.set(b"b")
        timed.cache.lru.pull_tail(slab_class.hot)
        timed.advance(10)  # COLD's tail is 10 s old, so WARM may hold what is younger than 20
        juggle(timed, b"a")
        assert where(timed, b"a") == COLD

    def test_temporary_items_are_left_alone_but_reclaimed(self):
        timed = TimedCache(temporary_ttl_s=60)
        timed.set(b"short", exptime=60)
        timed.set(b"long", exptime=61)
        timed.set(b"never")
        assert (where(timed, b"short"), where(timed, b"long"), where(timed, b"never")) == (
            TEMP, HOT, HOT,
        )  # fmt: skip
        slab_class = class_of(timed, b"short")
        timed.advance(59)
        juggle(timed, b"short")
        assert keys(slab_class.temp) == [b"short"]
        timed.advance(1)
        juggle(timed, b"never")
        assert slab_class.temp.count == 0
        assert slab_class.reclaimed == 1
        timed.cache.check()

    def test_a_flat_lru_only_reclaims_from_hot_and_warm(self):
        timed = TimedCache(lru_segmented=False)
        timed.set(b"a", exptime=1)
        timed.set(b"b")
        assert juggle(timed, b"a") == 0
        assert keys(class_of(timed, b"a").cold) == [b"b", b"a"]


class TestFlat:
    """`-o no_lru_segmented` (also part of `no_modern`): one queue, COLD."""

    def test_items_start_in_cold(self):
        assert where(timed_with(b"a", lru_segmented=False), b"a") == COLD

    def test_a_read_moves_to_the_head_once_a_minute(self):
        timed = timed_with(b"a", b"b", lru_segmented=False)
        cold = class_of(timed, b"a").cold
        timed.advance(60)
        timed.cache.get(b"a")
        assert keys(cold) == [b"b", b"a"]
        timed.advance(1)
        timed.cache.get(b"a")
        assert keys(cold) == [b"a", b"b"]
        item = timed.cache.inspect(b"a")
        assert item is not None
        assert (item.fetched, bool(item.access & ACTIVE), item.last_access) == (
            True,
            False,
            timed.cache.now,
        )
        timed.advance(30)
        timed.cache.get(b"b")  # 91 seconds old
        assert keys(cold) == [b"b", b"a"]
        timed.cache.check()

    def test_dead_tails_are_reclaimed_before_a_chunk_is_taken(self):
        timed = TimedCache(lru_segmented=False, limit_pages=1)
        timed.set(b"a", HALF_PAGE, exptime=1)
        timed.set(b"b", HALF_PAGE)
        timed.advance(1)
        timed.set(b"c", HALF_PAGE)
        slab_class = class_of(timed, b"b")
        assert (slab_class.reclaimed, slab_class.evicted) == (1, 0)

    def test_the_oldest_is_evicted(self):
        timed = TimedCache(lru_segmented=False, limit_pages=1)
        for name in (b"a", b"b", b"c"):
            timed.set(name, HALF_PAGE)
        slab_class = class_of(timed, b"c")
        assert (keys(slab_class.cold), slab_class.evicted) == ([b"c", b"b"], 1)
        assert slab_class.direct_reclaims == 1


class TestEviction:
    def test_the_oldest_goes(self):
        timed = TimedCache(limit_pages=1)
        for name in (b"a", b"b", b"c"):
            timed.set(name, HALF_PAGE)
        assert [timed.cache.inspect(name) is None for name in (b"a", b"b", b"c")] == [
            True, False, False,
        ]  # fmt: skip
        slab_class = class_of(timed, b"c")
        assert (slab_class.evicted, slab_class.evicted_unfetched, slab_class.outofmemory) == (
            1, 1, 0,
        )  # fmt: skip
        timed.cache.check()

    def test_what_was_read_twice_stays(self):
        timed = TimedCache(limit_pages=1)
        timed.set(b"a", HALF_PAGE)
        timed.set(b"b", HALF_PAGE)
        timed.cache.get(b"a")
        timed.cache.get(b"a")
        timed.set(b"c", HALF_PAGE)
        assert (where(timed, b"a"), where(timed, b"b")) == (WARM, None)

    def test_if_all_is_warm_there_is_no_memory_until_the_maintainer_comes(self):
        timed = TimedCache(limit_pages=1)
        for name in (b"a", b"b"):
            timed.set(name, HALF_PAGE)
            timed.cache.get(name)
            timed.cache.get(name)
        slab_class = class_of(timed, b"a")
        for _ in range(2):
            timed.cache.lru.pull_tail(slab_class.hot)
        assert slab_class.warm.count == 2
        assert timed.cache.store(StoreMode.SET, b"c", HALF_PAGE) is Status.NO_MEMORY
        assert slab_class.outofmemory == 1
        juggle(timed, b"a")
        assert timed.cache.store(StoreMode.SET, b"c", HALF_PAGE) is Status.STORED
        timed.cache.check()

    def test_items_of_another_class_stay(self):
        timed = TimedCache(limit_pages=1)
        timed.set(b"small")
        for number in range(10):
            timed.set(b"%d" % number, HALF_PAGE)
        assert timed.cache.inspect(b"small") is not None
        assert timed.cache.item_count == 3


@pytest.mark.parametrize("seed", range(5))
def test_the_short_way_moves_what_pulling_each_tail_does(seed: int):
    """What is not dead and needs no thought leaves HOT and WARM without a pull."""

    def play(*, short: bool) -> tuple[list[list[bytes]], list[int], list[tuple[int, int]]]:
        rng = random.Random(seed)
        timed = TimedCache()
        cache = timed.cache
        names = [b"%d" % number for number in range(60)]
        slab_class = cache.slabs.classes[0]
        if not short:
            cache.lru._shift = lambda segment, **bounds: 0  # type: ignore[method-assign]
        for _ in range(40):
            for name in rng.sample(names, 10):
                timed.set(name)
            for name in rng.choices(names, k=30):
                cache.get(name)
            cache.lru.juggle(slab_class, temporary=False, most=500)
            cache.check()
            timed.advance(rng.choice((0, 1)))
        moves = [slab_class.moves_to_cold, slab_class.moves_to_warm, slab_class.moves_within_lru]
        assert all(moves)
        ages = sorted((int(item.key), item.access) for item in cache.items())
        return [keys(segment) for segment in slab_class.segments], moves, ages

    assert play(short=True) == play(short=False)


def test_check_notices_a_broken_list():
    timed = timed_with(b"a", b"b", b"c")
    item = timed.cache.inspect(b"b")
    assert item is not None
    item.prev = None
    with pytest.raises(AssertionError):
        timed.cache.check()
