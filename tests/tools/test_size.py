"""`pymcd size`: not less than what evicts nobody, and hardly more."""

from __future__ import annotations

import random

import pytest

from pymcd import cli
from pymcd.config import Settings
from pymcd.limits import MEBIBYTE
from pymcd.store import Cache, StoreMode
from pymcd.store.slabs import Slabs
from pymcd.tools.size import KEY_BYTES, need_of

from ..clocks import ManualClock

#: Of an item with client flags, beside its value.
HEAD_BYTES = 48 + KEY_BYTES + 1 + 8 + 4 + 2


def first_refused(limit_mb: int, lowest: int, highest: int, seed: int) -> int:
    """Return how many items of such sizes find a chunk."""
    slabs = Slabs(Settings(memory_limit_bytes=limit_mb * MEBIBYTE))
    choose = random.Random(seed).randint
    number = 0
    while True:
        slab_class = slabs.class_for(HEAD_BYTES + choose(lowest, highest))
        assert slab_class is not None
        if not slabs.take_chunk(slab_class):
            return number
        number += 1


@pytest.mark.slow
@pytest.mark.parametrize("value_bytes", [300, 1000, 2000, 5000])
@pytest.mark.parametrize("limit_mb", [64, 200])
def test_what_is_alike_needs_just_that(limit_mb, value_bytes):
    number = first_refused(limit_mb, value_bytes, value_bytes, 0)
    # One chunk is for a session that is written again.
    assert need_of(number - 1, value_bytes, value_bytes).limit_mb == limit_mb
    assert need_of(number, value_bytes, value_bytes).limit_mb == limit_mb + 1


@pytest.mark.slow
@pytest.mark.parametrize("value_bytes", [300, 1000, 2000, 5000])
@pytest.mark.parametrize("seed", range(2))
def test_what_is_spread_needs_hardly_more(value_bytes, seed):
    limit_mb = 128
    number = first_refused(limit_mb, value_bytes // 2, value_bytes * 2, seed)
    need = need_of(number - 1, value_bytes // 2, value_bytes * 2)
    assert limit_mb <= need.limit_mb <= limit_mb * 1.03


@pytest.mark.slow
@pytest.mark.parametrize("value_bytes", [1000, 2000, 5000])
@pytest.mark.parametrize(("limit_mb", "more_mb"), [(32, 3), (64, 4)])
def test_less_memory_leaves_more_to_chance(value_bytes, limit_mb, more_mb):
    for seed in range(2):
        number = first_refused(limit_mb, value_bytes // 2, value_bytes * 2, seed)
        need = need_of(number - 1, value_bytes // 2, value_bytes * 2)
        assert limit_mb <= need.limit_mb <= limit_mb + more_mb


@pytest.mark.parametrize("seed", range(40))
def test_small_servers_are_never_told_too_little(seed):
    choose = random.Random(seed)
    lowest = choose.randint(1, 20_000)
    highest = choose.randint(lowest, 8 * lowest)
    number = first_refused(16, lowest, highest, seed)
    need = need_of(number - 1, lowest, highest)
    assert 16 <= need.limit_mb <= 16 + 4


@pytest.mark.slow
def test_a_cache_evicts_nobody_that_large_and_somebody_that_is_smaller():
    need = need_of(20_000, 1000, 4000)
    evicted = {}
    for limit_mb in (need.limit_mb, need.limit_mb * 9 // 10):
        settings = Settings(memory_limit_bytes=limit_mb * MEBIBYTE)
        cache = Cache(settings, ManualClock())
        choose = random.Random(1)
        for number in range(20_000):
            key = b"%0*d" % (KEY_BYTES, number)
            cache.store(StoreMode.SET, key, bytes(choose.randint(1000, 4000)), 1)
        for number in range(100):  # written again, as it was
            item = cache.linked(b"%0*d" % (KEY_BYTES, number))
            if item is not None:
                cache.store(StoreMode.SET, item.key, item.value, 1)
        evicted[limit_mb] = sum(each.evicted for each in cache.slabs)
    assert list(map(bool, evicted.values())) == [False, True]


def test_values_larger_than_a_chunk():
    assert need_of(10, 900_000, 900_000).limit_mb == 13
    assert need_of(10, 4 << 20, 4 << 20).limit_mb >= 40
    assert need_of(10, 300_000, 3_000_000).limit_mb >= 17


def test_what_it_prints(capsys):
    assert cli.main(["size", "100000", "2k"]) == 0
    assert capsys.readouterr() == (
        "100,000 sessions of 2,048 bytes, with keys of 32\n"
        "                                    -m     process\n"
        "  all alike                        222      290 MB\n"
        "  spread from 1,024 to 4,096       291      341 MB\n"
        "Each node of a pair needs all of that, and 64 MB more.\n",
        "",
    )
    assert cli.main(["size", "--key", "20", "1000", "100-200"]) == 0
    first, _, spread, _ = capsys.readouterr().out.splitlines()
    assert first == "1,000 sessions of 100 to 200 bytes, with keys of 20"
    assert spread.startswith("  spread from 100 to 200 ")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "how many sessions, and of what size?"),
        (["1000"], "how many sessions, and of what size?"),
        (["x", "1000"], "x: a number from 1 to 10,000,000,000 is needed"),
        (["0", "1000"], "0: a number from 1 to 10,000,000,000 is needed"),
        (["10", "1g"], "1g: a number from 1 to 1,073,741,824 is needed"),
        (["10", "2000m"], "2000m: a number from 1 to 1,073,741,824 is needed"),
        (["10", "300-200"], "300-200: the smaller one comes first"),
        (["--key", "251", "10", "10"], "251: a number from 1 to 250 is needed"),
        (["--bogus", "10", "10"], "option --bogus not recognized"),
    ],
)
def test_wrong_words(words, message, capsys):
    assert cli.main(["size", *words]) == 64
    assert capsys.readouterr().err == (
        f"pymcd size: {message}\nusage: pymcd size [--key BYTES] SESSIONS BYTES|LOW-HIGH\n"
    )
