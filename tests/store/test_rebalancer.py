"""Pages on the move: reassign, automove, and a limit that was lowered."""

from __future__ import annotations

import pytest

from pymcd.store import StoreMode
from pymcd.store.rebalancer import _SEARCH_ITEMS as SEARCH_ITEMS
from pymcd.store.rebalancer import ANY, POOL, SLICE_ITEMS, Reassign
from tests.store.test_crawler import Store

MEGABYTE = 1 << 20
#: Class of the items that `fill` makes of 1000 bytes, and how many fit a page.
CLASS_1K = 12
PER_PAGE_1K = 885


def filled(pages: int, **settings) -> Store:
    store = Store(**settings)
    store.fill(pages * PER_PAGE_1K, size_bytes=1000)
    assert store.cache.slabs.classes[CLASS_1K - 1].pages == pages
    return store


def finish(store: Store) -> int:
    steps = 0
    while store.rebalancer.step():
        steps += 1
    store.cache.check()
    return steps


def test_reassign_a_full_page():
    store = filled(3)
    source, destination = store.cache.slabs.by_id(CLASS_1K), store.cache.slabs.by_id(1)
    assert source is not None
    assert destination is not None
    assert store.rebalancer.reassign(CLASS_1K, 1) is Reassign.OK
    assert store.rebalancer.running
    assert store.rebalancer.reassign(CLASS_1K, 1) is Reassign.RUNNING
    assert finish(store) >= PER_PAGE_1K // SLICE_ITEMS
    assert (source.pages, destination.pages) == (2, 1)
    assert destination.free_chunks == destination.chunks_per_page
    assert store.cache.item_count == 2 * PER_PAGE_1K
    assert store.rebalancer.busy_nomem == source.evicted == PER_PAGE_1K
    assert store.rebalancer.last_busy_status == "from_lru"
    assert store.rebalancer.rescues == 0
    assert store.cache.slabs.moved_pages == 1


def test_reassign_where_there_is_room_rescues():
    store = filled(3)
    for number in range(2 * PER_PAGE_1K):
        store.cache.delete(b"k%d" % number)
    assert store.rebalancer.reassign(CLASS_1K, POOL) is Reassign.OK
    finish(store)
    assert store.cache.item_count == PER_PAGE_1K
    assert store.rebalancer.rescues == PER_PAGE_1K
    assert store.rebalancer.busy_nomem == 0
    assert store.cache.slabs.free_pages == 1


def test_reassign_removes_the_dead_first_of_all_tails():
    store = Store()
    store.fill(PER_PAGE_1K, ttl_s=-1, prefix="dead", size_bytes=1000)
    store.fill(PER_PAGE_1K, size_bytes=1000)
    assert store.rebalancer.reassign(CLASS_1K, 1) is Reassign.OK
    finish(store)
    assert store.rebalancer.inline_reclaim == PER_PAGE_1K
    assert store.rebalancer.busy_nomem == 0


@pytest.mark.parametrize(
    ("source", "destination", "result"),
    [
        (CLASS_1K, CLASS_1K, Reassign.SAME),
        (CLASS_1K, 99, Reassign.BADCLASS),
        (-2, 1, Reassign.BADCLASS),
        (1, 2, Reassign.NOSPARE),
        (POOL, 2, Reassign.NOSPARE),
        (ANY, CLASS_1K, Reassign.BADCLASS),
        (ANY, 1, Reassign.OK),
    ],
)
def test_what_reassign_refuses(source, destination, result):
    assert filled(2).rebalancer.reassign(source, destination) is result


def test_pages_leave_the_pool_again():
    store = filled(5)
    for number in range(5 * PER_PAGE_1K):
        store.cache.delete(b"k%d" % number)
    for _ in range(3):
        assert store.rebalancer.reassign(CLASS_1K, POOL) is Reassign.OK
        finish(store)
    assert store.rebalancer.reassign(POOL, 7) is Reassign.OK
    finish(store)
    assert store.cache.slabs.free_pages == 2
    assert store.cache.slabs.classes[6].pages == 1


def test_automove_gives_one_page_after_the_other_back():
    store = filled(9, slab_automove_window_s=3)
    for number in range(9 * PER_PAGE_1K):
        store.cache.delete(b"k%d" % number)
    for _ in range(4):  # the first second, in which it grew, has to leave the window
        assert store.cache.slabs.free_pages == 0
        store.clock.advance(1)
        store.cache.tick()
        assert store.rebalancer.observe()
        finish(store)
    # More than two and a half stay.
    assert store.cache.slabs.classes[CLASS_1K - 1].pages == 2
    assert store.cache.slabs.free_pages == 7


def test_rescued_chunks_of_large_items_are_counted_apart():
    store = Store(slab_chunk_max_bytes=4096)
    store.fill(300, size_bytes=11_000)
    largest = store.cache.slabs.classes[-1]
    assert largest.pages > 1
    assert store.rebalancer.reassign(largest.id, POOL) is Reassign.OK
    finish(store)
    assert store.rebalancer.rescues == 0
    assert store.rebalancer.chunk_rescues > 0


def test_chunks_of_large_items_can_be_freed():
    store = Store()
    # Each needs a header chunk, full chunks of 512 KB and one for the rest.
    for number in range(8):
        store.fill(1, prefix=f"large{number}", size_bytes=700_000)
    rest = max(store.cache.slabs.classes[:-1], key=lambda each: each.pages)
    assert rest.pages > 1
    assert rest.item_count == 0
    while rest.free_chunks:  # fill the class with more of the same
        store.fill(1, prefix=f"more{rest.free_chunks}.", size_bytes=700_000)
    store.fill(5, prefix="newest", size_bytes=600_000)
    before = store.cache.item_count
    assert store.rebalancer.reassign(rest.id, 1) is Reassign.OK
    finish(store)
    assert store.cache.slabs.classes[0].pages == 1
    assert store.cache.item_count == before - rest.chunks_per_page


def test_a_move_is_given_up_where_nothing_can_be_freed():
    store = filled(2)
    source = store.cache.slabs.by_id(CLASS_1K)
    assert source is not None
    for number in range(PER_PAGE_1K * 2):
        store.cache.delete(b"k%d" % number)
    held = [source] * (source.total_chunks - 10)  # as if requests in progress held them
    source.free_chunks -= len(held)
    assert store.rebalancer.reassign(CLASS_1K, 1) is Reassign.OK
    assert not store.rebalancer.step()
    assert not store.rebalancer.running
    assert store.rebalancer.busy_items == 1
    assert store.rebalancer.last_busy_status == "busy_floating"
    assert source.pages == 2


def test_stats_reset_may_come_between_two_samples():
    store = filled(2)
    store.cache.slabs.classes[0].evicted = 5
    store.settle()
    store.cache.reset_counters()
    store.rebalancer.reset_counters()
    store.pass_time(5)
    store.rebalancer.set_automove_ratio(store.rebalancer.automove_ratio)
    store.pass_time(5)
    assert store.cache.slabs.moved_pages == 0


# -- the limit -----------------------------------------------------------------------------------


def test_a_lowered_limit_is_obeyed():
    store = filled(20)
    store.rebalancer.set_limit(8 * MEGABYTE)
    assert store.rebalancer.busy
    assert finish(store) > 12
    assert store.cache.slabs.malloced_bytes == 8 * MEGABYTE
    assert store.cache.item_count == 8 * PER_PAGE_1K
    assert store.cache.inspect(b"k%d" % (20 * PER_PAGE_1K - 1)) is not None, "the newest stays"
    assert not store.rebalancer.busy


def test_a_lowered_limit_takes_what_lies_in_the_pool_first():
    store = filled(10)
    for number in range(3 * PER_PAGE_1K):
        store.cache.delete(b"k%d" % number)
    for _ in range(2):
        assert store.rebalancer.reassign(CLASS_1K, POOL) is Reassign.OK
        finish(store)
    assert store.cache.slabs.free_pages == 2
    store.rebalancer.set_limit(8 * MEGABYTE)
    finish(store)
    assert store.cache.slabs.malloced_bytes == 8 * MEGABYTE
    assert store.cache.slabs.free_pages == 0
    assert store.rebalancer.busy_nomem == 0


def test_a_class_keeps_its_last_page_whatever_happened_meanwhile():
    store = Store()
    store.fill(2, size_bytes=500_000)
    source = store.cache.slabs.classes[-1]
    store.fill(1, prefix="more", size_bytes=500_000)
    assert source.pages == 2
    assert store.rebalancer.reassign(source.id, 1) is Reassign.OK
    for number in range(2):
        store.cache.delete(b"k%d" % number)
    store.cache.slabs.release_page(source)
    finish(store)
    assert (source.pages, store.cache.slabs.moved_pages) == (1, 0)


def test_chunks_of_large_items_are_found_or_given_up():
    """A class may serve only the rests of items larger than a chunk, which another class links."""
    store = Store(slab_chunk_max_bytes=1024)
    cache = store.cache
    store.fill(SEARCH_ITEMS + 1, prefix="other", size_bytes=1500)
    for number in range(3000):  # a rest of about 400 bytes each: class 7
        cache.store(StoreMode.SET, b"large%d" % number, bytes(1274))
    rests = [each for each in cache.slabs if each.pages > 1 and not each.item_count]
    source = max(rests, key=lambda each: each.id)
    assert source.chunk_size_bytes < 1024
    assert store.rebalancer.reassign(source.id, POOL) is Reassign.OK
    finish(store)
    assert store.rebalancer.busy_items == 1, "the search is bounded"
    for number in range(SEARCH_ITEMS // 2):
        cache.delete(b"other%d" % number)
    assert store.rebalancer.reassign(source.id, POOL) is Reassign.OK
    finish(store)
    assert cache.slabs.free_pages == 1
    assert cache.inspect(b"large0") is None, "the oldest went"


def test_what_is_lent_is_not_for_items_until_it_is_given_back():
    store = filled(20, memory_limit_bytes=20 * MEGABYTE)
    slabs = store.cache.slabs
    store.rebalancer.lend(12 * MEGABYTE)
    assert store.rebalancer.busy
    finish(store)
    assert slabs.malloced_bytes == 8 * MEGABYTE
    assert store.cache.item_count == 8 * PER_PAGE_1K
    store.fill(20 * PER_PAGE_1K, prefix="more", size_bytes=1000)
    assert slabs.malloced_bytes == 8 * MEGABYTE, "new items make no pages of it"
    store.rebalancer.lend(0)
    assert not store.rebalancer.busy
    store.fill(20 * PER_PAGE_1K, prefix="even more", size_bytes=1000)
    assert slabs.malloced_bytes == 20 * MEGABYTE


def test_a_lowered_limit_without_evictions():
    store = filled(12, disable_evictions=True)
    store.rebalancer.set_limit(8 * MEGABYTE)
    finish(store)
    assert store.cache.item_count == 12 * PER_PAGE_1K
    for number in range(5 * PER_PAGE_1K):
        store.cache.delete(b"k%d" % number)
    store.rebalancer.set_limit(8 * MEGABYTE)
    finish(store)
    assert store.cache.slabs.malloced_bytes == 8 * MEGABYTE


def test_each_class_keeps_its_first_page():
    store = Store()
    for size_bytes in (1, 100, 200, 500, 1000, 2000, 4000, 8000, 16000, 32000):
        store.fill(1, prefix=f"s{size_bytes}", size_bytes=size_bytes)
    store.rebalancer.set_limit(8 * MEGABYTE)
    finish(store)
    assert store.cache.slabs.malloced_bytes == 10 * MEGABYTE
    assert store.cache.item_count == 10


def test_a_raised_limit_needs_nothing():
    store = filled(2)
    store.rebalancer.set_limit(128 * MEGABYTE)
    assert finish(store) == 0
    assert store.cache.item_count == 2 * PER_PAGE_1K


def test_the_maintainer_follows_a_lowered_limit_within_a_second():
    store = filled(16)
    store.settle()
    store.rebalancer.set_limit(8 * MEGABYTE)
    store.pass_time(1)
    assert store.cache.slabs.malloced_bytes == 8 * MEGABYTE


# -- automove ------------------------------------------------------------------------------------


def test_a_server_without_a_page_is_not_observed():
    store = Store()
    store.clock.advance(1)
    store.cache.tick()
    assert not store.rebalancer.observe()
    assert not any(history.samples for history in store.rebalancer._histories)


def test_spare_pages_return_to_the_pool_when_calm():
    store = filled(6)
    moves: list[tuple[int, int]] = []
    store.rebalancer.on_automove = lambda source, destination: moves.append((source, destination))
    for number in range(5 * PER_PAGE_1K):
        store.cache.delete(b"k%d" % number)
    store.settle()
    assert store.cache.slabs.free_pages == 3  # 2.5 pages of free chunks may stay
    assert moves == [(CLASS_1K, POOL)] * 3
    assert store.cache.item_count == PER_PAGE_1K


def test_automove_off():
    store = filled(6, slab_automove=0)
    for number in range(5 * PER_PAGE_1K):
        store.cache.delete(b"k%d" % number)
    store.settle()
    assert store.cache.slabs.free_pages == 0


@pytest.mark.slow
def test_pages_go_where_young_items_are_evicted():
    store = Store(memory_limit_bytes=8 * MEGABYTE, slab_automove_window_s=3, lru_segmented=False)
    store.fill(4 * PER_PAGE_1K, prefix="old", size_bytes=1000)
    small = store.cache.slabs.classes[3]
    for second in range(100):
        store.fill(25_000, prefix=f"young{second}.", size_bytes=100)
        store.pass_time(1)
        if store.cache.slabs.moved_pages:
            break
    assert store.cache.slabs.moved_pages == 1
    assert small.pages == 5
    assert store.cache.slabs.classes[CLASS_1K - 1].pages == 3
    store.cache.check()


def test_automove_at_each_eviction():
    store = Store(memory_limit_bytes=8 * MEGABYTE, slab_automove=2)
    store.cache.on_evict = store.rebalancer.evicted
    store.fill(7 * PER_PAGE_1K, prefix="old", size_bytes=1000)
    small = store.cache.slabs.classes[3]
    store.fill(2 * small.chunks_per_page, prefix="young", size_bytes=100)
    assert store.rebalancer.running
    finish(store)
    assert small.pages == 2
