"""Slab classes, pages and chunks: memcached's arithmetic."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pymcd import limits
from pymcd.config import Settings
from pymcd.store.item import SlabClass
from pymcd.store.slabs import Slabs, chunk_sizes
from tests.store.helpers import MEBIBYTE, make_cache

#: What memcached 1.6.18 prints with -vv: options, number of classes, some of them by number.
GEOMETRIES: list[tuple[str, dict[str, Any], int, dict[int, int]]] = [
    (
        "defaults",
        {},
        39,
        {
            1: 96, 2: 120, 3: 152, 4: 192, 5: 240, 6: 304, 7: 384, 8: 480,
            25: 21696, 30: 66232, 31: 82792, 36: 252696, 37: 315872, 38: 394840, 39: 524288,
        },
    ),
    (
        "no_modern: chunks of a page",
        {"slab_chunk_max_bytes": MEBIBYTE},
        42,
        {1: 96, 38: 394840, 39: 493552, 40: 616944, 41: 771184, 42: 1048576},
    ),
    (
        "-f 2",
        {"slab_growth_factor": 2.0},
        13,
        {1: 96, 2: 192, 3: 384, 8: 12288, 12: 196608, 13: 524288},
    ),
    (
        "-f 1.05 runs out of numbers",
        {"slab_growth_factor": 1.05},
        63,
        {1: 96, 2: 104, 62: 2824, 63: 524288},
    ),
    ("-n 100", {"slab_min_size_bytes": 100}, 37, {1: 152, 2: 192, 8: 752, 37: 524288}),
    ("-n 5", {"slab_min_size_bytes": 5}, 41, {1: 56, 2: 72, 3: 96, 8: 304, 41: 524288}),
    (
        "-f 1.08 -n 300",
        {"slab_growth_factor": 1.08, "slab_min_size_bytes": 300},
        63,
        {1: 352, 2: 384, 5: 496, 62: 42304, 63: 524288},
    ),
    (
        "-o slab_chunk_max=1024",
        {"slab_chunk_max_bytes": 1024},
        11,
        {1: 96, 8: 480, 9: 600, 10: 752, 11: 1024},
    ),
    (
        "-o slab_sizes=100-200-300",
        {"slab_sizes": (100, 200, 300)},
        4,
        {1: 104, 2: 200, 3: 304, 4: 524288},
    ),
]  # fmt: skip


@pytest.mark.parametrize(
    ("options", "count", "sizes"), [row[1:] for row in GEOMETRIES], ids=[g[0] for g in GEOMETRIES]
)
def test_the_table_of_classes(options, count, sizes):
    table = chunk_sizes(Settings(**options))
    assert len(table) == count
    assert {number: table[number - 1] for number in sizes} == sizes


def make_slabs(*, limit_bytes: int = 64 * MEBIBYTE, item_size_max_bytes: int = MEBIBYTE) -> Slabs:
    slabs = Slabs(Settings(item_size_max_bytes=item_size_max_bytes))
    slabs.limit_bytes = limit_bytes  # which may be lower than a server could be started with
    return slabs


def class_id(slabs: Slabs, size_bytes: int) -> int | None:
    slab_class = slabs.class_for(size_bytes)
    return None if slab_class is None else slab_class.id


@pytest.mark.parametrize(
    ("size_bytes", "number"),
    [
        (1, 1),
        (96, 1),
        (97, 2),
        (120, 2),
        (121, 3),
        (394840, 38),
        (394841, 39),
        (524288, 39),
        (524289, 39),  # larger than any chunk: chained in chunks, counted in the last class
        (1048576, 39),
        (1048577, None),  # over -I
    ],
)
def test_an_item_goes_to_the_smallest_class_it_fits(size_bytes, number):
    assert class_id(make_slabs(), size_bytes) == number


def test_classes_are_numbered_from_one():
    slabs = make_slabs()
    assert slabs.by_id(0) is None
    first, last = slabs.by_id(1), slabs.by_id(39)
    assert first is not None
    assert last is not None
    assert (first.chunk_size_bytes, first.smallest_bytes) == (96, 1)
    assert (last.chunk_size_bytes, last.smallest_bytes) == (524288, 394841)
    assert slabs.by_id(40) is None
    assert repr(last) == "<SlabClass 39: 524288 B, 0 pages>"


@pytest.mark.parametrize(
    ("size_bytes", "per_page"), [(96, 10922), (120, 8738), (394840, 2), (524288, 2), (600, 1747)]
)
def test_chunks_in_a_page(size_bytes, per_page):
    assert SlabClass(1, 1, size_bytes).chunks_per_page == per_page


def test_a_page_is_taken_with_the_first_chunk_and_again_when_it_is_full():
    slabs = make_slabs()
    slab_class = slabs.classes[37]  # two chunks a page
    taken = []
    for _ in range(3):
        assert slabs.take_chunk(slab_class)
        taken.append((slab_class.pages, slab_class.used_chunks, slab_class.free_chunks))
    assert taken == [(1, 1, 1), (1, 2, 0), (2, 3, 1)]
    slab_class.free_chunks += 1
    assert (slab_class.total_chunks, slab_class.used_chunks) == (4, 2)
    assert slabs.malloced_bytes == 2 * MEBIBYTE
    slabs.check()


def test_the_limit_stops_the_second_page_of_a_class_not_its_first():
    slabs = make_slabs(limit_bytes=2 * MEBIBYTE)
    first, second, third = slabs.classes[36:39]
    assert [slabs.take_chunk(first) for _ in range(7)] == [True] * 6 + [False]
    # memcached: do_slabs_newslab. Each class may have one page, or it could never store anything.
    assert [slabs.take_chunk(second) for _ in range(3)] == [True] * 2 + [False]
    assert slabs.take_chunk(third)
    assert slabs.malloced_pages == 4
    slabs.check()


def test_no_limit():
    slabs = make_slabs(limit_bytes=0)
    assert all(slabs.take_chunk(slabs.classes[38]) for _ in range(200))
    assert slabs.malloced_bytes == 100 * MEBIBYTE
    slabs.shrink_pool()
    assert slabs.malloced_bytes == 100 * MEBIBYTE


def test_a_page_goes_through_the_pool_to_another_class():
    slabs = make_slabs(limit_bytes=2 * MEBIBYTE)
    giver, taker = slabs.classes[37:39]
    for _ in range(4):
        assert slabs.take_chunk(giver)
    assert slabs.take_chunk(taker)
    for _ in range(3):
        giver.free_chunks += 1
    slabs.release_page(giver)
    assert (giver.pages, giver.free_chunks, slabs.free_pages, slabs.malloced_pages) == (1, 1, 1, 3)
    assert slabs.take_chunk(taker)
    # The limit forbids new pages, but not those that the pool has.
    assert slabs.take_chunk(taker)
    assert (taker.pages, slabs.free_pages, slabs.malloced_pages) == (2, 0, 3)
    slabs.check()


def test_a_page_can_be_given_to_a_class_that_did_not_ask():
    slabs = make_slabs()
    giver, taker = slabs.classes[:2]
    assert slabs.take_chunk(giver)
    giver.free_chunks += 1
    slabs.release_page(giver)
    slabs.give_page(taker)
    assert (taker.pages, taker.free_chunks, slabs.free_pages) == (1, 8738, 0)
    slabs.check()


def test_the_pool_shrinks_only_while_over_the_limit():
    slabs = make_slabs()
    for slab_class in slabs.classes[:3]:
        assert slabs.take_chunk(slab_class)
        slab_class.free_chunks += 1
    for slab_class in slabs.classes[:3]:
        slabs.release_page(slab_class)
    slabs.shrink_pool()
    assert (slabs.free_pages, slabs.malloced_pages) == (3, 3)
    slabs.limit_bytes = MEBIBYTE
    slabs.shrink_pool()
    assert (slabs.free_pages, slabs.malloced_pages) == (1, 1)
    slabs.check()


@pytest.mark.parametrize(
    ("data_bytes", "classes"),
    [
        # The header of a key of 3 bytes needs 108 bytes: class 2. Chunks have headers of 48.
        (524288 - 48, [2, 39]),
        (524288 - 47, [2, 39, 1]),
        (524288, [2, 39, 1]),
        (700_000, [2, 39, 35]),
        (2 * (524288 - 48), [2, 39, 39]),
    ],
)
def test_a_large_item_is_a_header_full_chunks_and_a_rest(data_bytes, classes):
    chunks = make_slabs().chunk_classes(60, data_bytes)
    assert [chunk.id for chunk in chunks] == classes


@given(data_bytes=st.integers(1, 5 * MEBIBYTE), header_bytes=st.integers(52, 320))
def test_the_chunks_of_a_large_item_hold_it_and_no_more(data_bytes, header_bytes):
    header, *chunks = make_slabs().chunk_classes(header_bytes, data_bytes)
    room = sum(chunk.chunk_size_bytes - limits.ITEM_CHUNK_HEADER_BYTES for chunk in chunks)
    assert header.smallest_bytes <= header_bytes + 48 <= header.chunk_size_bytes
    assert room >= data_bytes
    assert room - chunks[-1].chunk_size_bytes + 48 < data_bytes
    assert [chunk.id for chunk in chunks[:-1]] == [39] * (len(chunks) - 1)


@given(
    factor=st.floats(1.01, 4),
    slab_min_size_bytes=st.integers(1, 2000),
    chunk_max_shift=st.integers(0, 10),
)
def test_any_geometry_is_ordered_aligned_and_bounded(factor, slab_min_size_bytes, chunk_max_shift):
    largest = 1024 << chunk_max_shift
    table = chunk_sizes(
        Settings(
            slab_growth_factor=factor,
            slab_min_size_bytes=slab_min_size_bytes,
            slab_chunk_max_bytes=largest,
        )
    )
    # A factor so small that it does not outgrow the rounding repeats a size, as in memcached.
    assert table == sorted(table)
    assert table[-1] == largest
    assert all(size % limits.SLAB_CHUNK_ALIGN_BYTES == 0 for size in table)
    assert len(table) <= limits.SLAB_CLASSES_MAX


@given(size_bytes=st.integers(1, MEBIBYTE + 10))
def test_the_bounds_of_a_class_are_those_of_the_choice(size_bytes):
    slabs = make_slabs()
    chosen = slabs.class_for(size_bytes)
    fitting = [c for c in slabs if c.smallest_bytes <= size_bytes <= c.chunk_size_bytes]
    if size_bytes > MEBIBYTE:
        assert chosen is None
    elif size_bytes > 524288:
        assert chosen is slabs.classes[-1]
    else:
        assert [chosen] == fitting


@pytest.mark.parametrize("reassign", [True, False])
def test_pages_that_stay_end_with_their_last_chunk(reassign):
    """`-o no_modern`, as memcached 1.6.18 counts it with -m 8 and values from 300 to 900 KB."""
    cache = make_cache(slab_reassign=reassign, slab_chunk_max_bytes=MEBIBYTE)
    slabs = cache.slabs
    slab_class = slabs.classes[39]
    assert slab_class.chunk_size_bytes == 616944
    while slabs.malloced_bytes < 8 * MEBIBYTE and slabs.take_chunk(slab_class):
        pass
    assert slabs.malloced_bytes == (8 * MEBIBYTE if reassign else 14 * 616944)
    for _ in range(2):
        slab_class.free_chunks += 1
        slabs.release_page(slab_class)
        slabs.check()
    slabs.give_page(slabs.classes[41])
    assert slabs.take_chunk(slab_class)
    slabs.check()
    assert slabs.free_pages == 0


def test_the_settings_reach_the_table():
    assert len(make_cache(slab_growth_factor=2.0).slabs.classes) == 13
    assert len(make_cache(slab_sizes=(100, 200)).slabs.classes) == 3
    assert len(make_cache(slab_chunk_max_bytes=MEBIBYTE).slabs.classes) == 42


@pytest.mark.parametrize("damage", ["pages", "free_chunks", "pool", "count", "segment"])
def test_check_notices(damage):
    cache = make_cache()
    assert cache.set(b"k", b"v", 0) is False  # no page yet
    slabs = cache.slabs
    slab_class = slabs.classes[0]
    assert slabs.take_chunk(slab_class)
    slabs.check()
    if damage == "pages":
        slab_class.pages += 1
    elif damage == "free_chunks":
        slab_class.free_chunks = slab_class.chunks_per_page + 1
    elif damage == "pool":
        slabs.free_pages = -1
    elif damage == "count":
        slab_class.hot.count += 1
    else:
        slab_class.hot.tail = object()  # type: ignore[assignment]
    with pytest.raises(AssertionError):
        slabs.check()
