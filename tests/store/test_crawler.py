"""The crawler, by itself and paced by the maintainer."""

from __future__ import annotations

from math import inf
from typing import Any

import pytest

from pymcd.config import Settings
from pymcd.store import Cache
from pymcd.store.cache import DISPOSED_ITEMS
from pymcd.store.crawler import SLICE_ITEMS, Crawler
from pymcd.store.maintainer import JUGGLE_DELAY_MIN_S, JUGGLE_PULLS, Maintainer
from pymcd.store.rebalancer import Rebalancer
from pymcd.store.status import Status, StoreMode

from ..clocks import ManualClock


class Store:
    """A cache with all that maintains it."""

    def __init__(self, **settings: Any) -> None:
        self.clock = ManualClock()
        chosen = Settings(**settings)
        self.cache = Cache(chosen, self.clock)
        self.crawler = Crawler(self.cache, chosen)
        self.rebalancer = Rebalancer(self.cache, chosen)
        self.maintainer = Maintainer(
            self.cache,
            self.crawler,
            self.rebalancer,
            chosen,
            wake=lambda: self.woken.append(True),
        )
        self.woken: list[bool] = []
        self.steps = 0

    def fill(self, count: int, *, ttl_s: int = 0, prefix: str = "k", size_bytes: int = 1) -> None:
        self.cache.tick()
        expires_at = self.cache.expiry.expires_at(ttl_s)
        for number in range(count):
            key = f"{prefix}{number}".encode()
            status = self.cache.store(StoreMode.SET, key, b"x" * size_bytes, 0, expires_at)
            assert status == Status.STORED

    def crawl(self) -> int:
        """Finish the crawl that was started; return the number of steps it took."""
        steps = 1
        while self.crawler.step():
            steps += 1
        return steps

    def pass_time(self, seconds: float) -> None:
        """Let the maintainer do its work while time passes."""
        end = self.clock.monotonic() + seconds
        while True:
            delay_s = self.maintainer.step()
            self.steps += 1
            left = end - self.clock.monotonic()
            if delay_s >= left:
                self.clock.advance(max(0.0, left))
                return
            self.clock.advance(delay_s)

    def settle(self) -> None:
        """Let it work until it wants to be woken only."""
        for _ in range(10_000):
            delay_s = self.maintainer.step()
            if delay_s == inf:
                return
            self.clock.advance(delay_s)
        raise AssertionError("the maintainer never rests")


# -- the crawler by itself -----------------------------------------------------------------------


def test_reclaims_what_is_dead():
    store = Store()
    store.fill(10, prefix="live")
    store.fill(7, ttl_s=5, prefix="dead")
    store.clock.advance(5)
    store.cache.tick()
    store.crawler.start()
    store.crawl()
    assert store.cache.item_count == 10
    slab_class = store.cache.slabs.classes[0]
    assert slab_class.crawler_items_checked == 17
    assert slab_class.crawler_reclaimed == 7
    store.cache.check()


def test_work_is_sliced():
    store = Store()
    store.fill(10 * SLICE_ITEMS)
    store.crawler.start()
    assert 10 <= store.crawl() <= 12
    assert store.cache.slabs.classes[0].crawler_items_checked == 10 * SLICE_ITEMS


def test_crawls_only_the_classes_asked_for():
    store = Store()
    store.fill(5, ttl_s=-1, prefix="small")
    store.fill(5, ttl_s=-1, prefix="large", size_bytes=1000)
    store.crawler.start({1})
    store.crawl()
    assert store.cache.item_count == 5


def test_limit():
    store = Store()
    store.fill(100, ttl_s=-1)
    store.crawler.start(limit=30)
    store.crawl()
    assert store.cache.item_count == 70


def test_items_unlinked_between_slices_are_passed_over():
    store = Store()
    store.fill(3 * SLICE_ITEMS)
    store.crawler.start()
    assert store.crawler.step()
    for item in list(store.cache.items()):
        store.cache.unlink(item)
    store.crawl()
    assert store.cache.slabs.classes[0].crawler_items_checked <= SLICE_ITEMS
    store.cache.check()


def test_stop():
    store = Store()
    store.fill(3 * SLICE_ITEMS)
    store.crawler.start()
    store.crawler.step()
    store.crawler.stop()
    assert not store.crawler.running
    assert not store.crawler.step()


# -- flush_all -----------------------------------------------------------------------------------


def test_a_crawl_settles_a_flush():
    store = Store()
    store.fill(10)
    store.cache.flush()
    store.clock.advance(1)
    store.cache.tick()
    store.crawler.start()
    store.crawl()
    assert store.cache.item_count == 0
    assert not store.cache.horizon.active(store.cache.now)
    assert store.cache.horizon.oldest_live  # still reported


def test_a_flush_during_the_crawl_is_not_settled():
    store = Store()
    store.fill(3 * SLICE_ITEMS)
    store.cache.flush()
    store.clock.advance(1)
    store.cache.tick()
    store.crawler.start()
    store.crawler.step()
    store.fill(10, prefix="new")
    store.cache.flush()
    store.crawl()
    assert store.cache.horizon.active(store.cache.now)


@pytest.mark.parametrize("kind", [{"limit": 5}, {"class_ids": {1}}])
def test_part_of_a_crawl_settles_nothing(kind):
    store = Store()
    store.fill(10)
    store.cache.flush()
    store.clock.advance(1)
    store.cache.tick()
    store.crawler.start(**kind)
    store.crawl()
    assert store.cache.horizon.active(store.cache.now)


@pytest.mark.parametrize("disable_cas", [False, True])
def test_a_flush_of_this_second_is_settled_after_it(disable_cas):
    store = Store(disable_cas=disable_cas)
    store.fill(10)
    store.cache.flush(1)
    store.crawler.start()
    store.crawl()
    assert store.cache.horizon.active(store.cache.now)
    store.settle()
    assert not store.cache.horizon.active(store.cache.now)


def test_the_maintainer_cleans_up_after_a_flush():
    store = Store()
    store.fill(10)
    store.cache.flush(exptime=60)
    store.fill(5, prefix="more")
    store.pass_time(62)
    assert store.cache.item_count == 0
    assert not store.cache.horizon.active(store.cache.now)
    store.cache.check()


# -- the maintainer ------------------------------------------------------------------------------


def test_expired_items_go_unprompted_within_three_seconds():
    store = Store()
    store.fill(1000, ttl_s=10)
    store.fill(1000, prefix="live")
    store.pass_time(9)
    assert store.cache.item_count == 2000
    store.pass_time(4)
    assert store.cache.item_count == 1000


def test_a_large_cache_is_crawled_when_it_is_worth_while():
    store = Store()
    store.fill(6_000)
    store.fill(50, ttl_s=20, prefix="few")
    store.fill(500, ttl_s=40, prefix="many")
    store.fill(6_000, prefix="more")
    store.pass_time(30)
    assert store.crawler.starts == 0
    assert store.cache.item_count == 12_550
    for _ in range(15):  # as when activity wakes the maintainer once a second
        store.pass_time(1)
    assert store.crawler.starts == 1
    assert store.cache.item_count == 12_000


def test_a_large_cache_is_crawled_once_a_minute_for_little():
    store = Store()
    store.fill(6_000)
    store.fill(50, ttl_s=20, prefix="few")
    store.fill(6_000, prefix="more")
    store.pass_time(70)
    assert store.crawler.starts == 1
    assert store.cache.item_count == 12_000


def test_an_idle_cache_is_left_alone():
    store = Store()
    store.fill(100)
    store.settle()
    assert store.maintainer.step() == inf


def test_an_idle_cache_is_looked_at_when_the_next_item_ends():
    store = Store()
    store.fill(100, ttl_s=1000)
    store.pass_time(100)
    store.steps = 0
    store.pass_time(800)
    assert store.steps == 1


def test_activity_wakes_the_maintainer():
    store = Store()
    store.settle()
    store.woken.clear()
    store.clock.advance(10)
    store.cache.tick()
    store.cache.tick()
    assert store.woken == [True]
    store.clock.advance(1)
    store.maintainer.step()
    assert store.woken == [True], "its own tick wakes nobody"


def test_new_items_are_juggled():
    store = Store()
    store.fill(2000)
    slab_class = store.cache.slabs.classes[0]
    assert slab_class.hot.count == 2000
    store.pass_time(0.5)
    assert slab_class.hot.bytes <= store.cache.item_bytes * 20 // 100  # hot_lru_pct
    assert slab_class.hot.count == pytest.approx(400, abs=5)
    assert slab_class.hot.count + slab_class.cold.count == 2000
    store.pass_time(5)
    assert slab_class.hot.count == 0, "too old in comparison with what is cold"
    store.cache.check()


def test_items_are_juggled_as_fast_as_new_ones_come():
    store = Store()
    cache = store.cache
    store.fill(5000)
    pace = [store.maintainer.step() for _ in range(8)]
    assert pace == [0.005, 0.01, 0.02, 0.04, 0.08, 0.08, 0.08, 0.08]
    store.fill(JUGGLE_PULLS // 2, prefix="new")
    assert store.maintainer.step() == JUGGLE_DELAY_MIN_S
    for number in range(JUGGLE_PULLS):
        assert cache.set(b"k%d" % number, b"y", 0)  # in the place of one like it
    assert store.maintainer.step() == 2 * JUGGLE_DELAY_MIN_S


def test_without_maintainer_nothing_moves_unprompted():
    store = Store(lru_maintainer=False)
    store.fill(100, ttl_s=1)
    assert store.maintainer.step() == inf
    store.clock.advance(10)
    assert store.maintainer.step() == inf
    assert store.cache.item_count == 100
    store.crawler.start()
    store.settle()
    assert store.cache.item_count == 0


def test_without_crawler_nothing_is_reclaimed_unprompted():
    store = Store(lru_crawler=False)
    store.fill(100, ttl_s=1, prefix="a")
    store.pass_time(10)
    assert store.crawler.starts == 0


def test_the_operators_sleep_is_kept():
    store = Store(lru_crawler_sleep_us=500_000)
    store.fill(2 * SLICE_ITEMS)
    store.settle()
    store.crawler.start()
    assert store.maintainer.step() == 0.5


class TestCleared:
    """All items are cleared away at once; their memory is given back in slices."""

    def test_no_step_is_one_of_all_items(self):
        store = Store()
        store.fill(3 * DISPOSED_ITEMS)
        items = list(store.cache.items())
        store.woken.clear()
        store.cache.clear()
        assert store.woken
        store.cache.check()
        assert not store.cache.item_count
        linked = [sum(item.linked for item in items)]
        while linked[-1]:
            assert store.maintainer.step() < inf
            linked.append(sum(item.linked for item in items))
        assert linked == [2 * DISPOSED_ITEMS, DISPOSED_ITEMS, 0]
        assert all(item.prev is item.next is None for item in items)
        assert not store.cache.dispose()

    def test_few_are_gone_at_once(self):
        store = Store()
        store.fill(DISPOSED_ITEMS - 1, ttl_s=9)
        store.woken.clear()
        store.cache.clear()
        assert not store.woken
        assert not store.cache.dispose()
        store.cache.check()

    def test_what_comes_after_is_another_item_of_that_key(self):
        store = Store(item_size_max_bytes=8 << 20)
        store.fill(9, size_bytes=2_000_000)
        store.fill(2 * DISPOSED_ITEMS, ttl_s=1, prefix="t")
        store.cache.clear()
        store.fill(2 * DISPOSED_ITEMS, prefix="t")
        store.clock.advance(5.0)
        while store.cache.dispose():
            store.cache.check()
        assert store.cache.item_count == 2 * DISPOSED_ITEMS
        assert store.cache.get(b"t0") is not None
        store.cache.check()

    def test_a_crawl_goes_on_with_what_there_is_then(self):
        store = Store()
        store.fill(3 * SLICE_ITEMS, ttl_s=1)
        store.clock.advance(5.0)
        store.cache.tick()
        store.crawler.start()
        assert store.crawler.step()
        store.cache.clear()
        store.fill(SLICE_ITEMS, prefix="new")
        store.crawl()
        assert store.cache.item_count == SLICE_ITEMS
        store.cache.check()
