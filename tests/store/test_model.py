"""A cache beside a dict that knows nothing of slabs, segments and pages.

Whatever is done to both, each key that the cache has agrees with the dict, and what it lacks
expired, was flushed, deleted, or evicted, which is reported and counted.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from pymcd import limits
from pymcd.config import Settings
from pymcd.store import Item, Status, StoreMode
from pymcd.store.crawler import Crawler
from pymcd.store.maintainer import Maintainer
from pymcd.store.rebalancer import Rebalancer
from tests.store.helpers import MEBIBYTE, TimedCache

pytestmark = pytest.mark.slow

SET, ADD, REPLACE, APPEND, PREPEND, CAS = StoreMode

#: Small memory, so that little is needed for all that may happen.
CONFIGURATIONS: list[dict[str, Any]] = [
    {},
    {"limit_pages": 1},
    {"limit_pages": 3},
    {"limit_pages": 2, "slab_automove": 2},
    {"limit_pages": 2, "disable_evictions": True},
    {"limit_pages": 2, "temporary_ttl_s": 5},
    {"limit_pages": 2, "lru_segmented": False, "lru_maintainer": False},
    {"limit_pages": 2, "disable_cas": True},
    {"limit_pages": 2, "memory_accounting": "resident"},
    {"limit_pages": 2, "slab_chunk_max_bytes": MEBIBYTE, "slab_reassign": False},
    {"limit_pages": 2, "slab_chunk_max_bytes": 16 << 10},
    {"limit_pages": 2, "slab_sizes": (104, 4096, 300_000)},
    {"limit_pages": 2, "item_size_max_bytes": 5 * MEBIBYTE, "memory_limit_bytes": 64 * MEBIBYTE},
]

KEYS = st.sampled_from([b"a", b"b", b"c", b"d", b"e", b"f", b"k" * limits.KEY_MAX_BYTES, b"\xff\t"])
#: A few of the larger ones fill a page, or take chunks of several classes.
SMALL_LENGTHS = [0, 1, 20, 35, 36, 37, 500, 20_000]
LARGE_LENGTHS = [150_000, 261_000, 500_000, 524_200, 524_300, 700_000, MEBIBYTE - 400]
HUGE_LENGTHS = [MEBIBYTE - 60, MEBIBYTE, 3 * MEBIBYTE]
LENGTHS = st.sampled_from([*SMALL_LENGTHS, *LARGE_LENGTHS, *HUGE_LENGTHS])
EXPTIMES = st.sampled_from([0, 0, 0, 1, 2, 5, 60, -1, 2_000_000_000])
CLIENT_FLAGS = st.sampled_from([0, 0, 1, limits.UINT32_MAX])
NUMBERS = st.sampled_from([b"0", b"9", b"10", b"99", b"5  ", b"18446744073709551615", b"x"])
DELTAS = st.sampled_from([0, 1, 2, 90, limits.UINT64_MAX])


class Entry(NamedTuple):
    """What the model knows of an item."""

    value: bytes
    client_flags: int
    ends_at: float | None  #: Unix seconds


class CacheMachine(RuleBasedStateMachine):
    """Does to a dict what it does to a cache."""

    @initialize(configuration=st.sampled_from(CONFIGURATIONS))
    def start(self, configuration):
        self.timed = TimedCache(**configuration)
        self.cache = cache = self.timed.cache
        self.limited = "limit_pages" in configuration
        self.use_cas = cache.use_cas
        chosen = {"slab_automove_window_s": 3, "lru_crawler_sleep_us": 0, **configuration}
        chosen.pop("limit_pages", None)
        settings = Settings(**chosen)
        self.crawler = Crawler(cache, settings)
        self.rebalancer = Rebalancer(cache, settings)
        self.maintainer = Maintainer(
            cache, self.crawler, self.rebalancer, settings, wake=lambda: None
        )
        cache.on_evict = self._evicted
        self.model: dict[bytes, Entry] = {}
        self.flush_at: float | None = None  #: what exists then dies
        self.dead_until = 0.0  #: what is stored before this is flushed as soon as it is there
        self.evictions = 0
        self.evicted_now: set[bytes] = set()
        self.last_cas_unique = 0
        self.values = 0

    # -- the model -------------------------------------------------------------------------

    @property
    def unix_now(self) -> float:
        return self.timed.clock.realtime()

    def _evicted(self, item: Item) -> None:
        assert self.cache.lru.evictions
        assert item.key in self.model, "what is dead is reclaimed, not evicted"
        self.evictions += 1
        self.evicted_now.add(item.key)
        del self.model[item.key]
        self.rebalancer.evicted(item)

    def _value(self, length: int) -> bytes:
        self.values += 1
        return bytes([self.values % 256]) * length

    def _size(self, key: bytes, value: bytes, client_flags: int) -> int:
        return self.cache.overhead_bytes + len(key) + len(value) + (4 if client_flags else 0)

    def _too_large(self, key: bytes, value: bytes, client_flags: int) -> bool:
        return self._size(key, value, client_flags) > self.cache.slabs.item_size_max_bytes

    def _put(self, key: bytes, value: bytes, client_flags: int, ends_at: float | None) -> None:
        dead = self.unix_now < self.dead_until or (ends_at is not None and ends_at <= self.unix_now)
        if dead:
            self.model.pop(key, None)
        else:
            self.model[key] = Entry(value, client_flags, ends_at)
        if self.use_cas:
            assert self.cache.cas_unique > self.last_cas_unique, "a cas unique came twice"
        self.last_cas_unique = self.cache.cas_unique

    def _ends_at(self, exptime: int) -> float | None:
        if exptime == 0:
            return None
        if exptime > limits.EXPTIME_RELATIVE_MAX_S:
            return float(exptime)
        return self.unix_now + exptime

    # -- what clients do -------------------------------------------------------------------

    @rule(key=KEYS, length=LENGTHS, client_flags=CLIENT_FLAGS, exptime=EXPTIMES)
    def set(self, key, length, client_flags, exptime):
        """The usual set takes the fast path if it can."""
        value = self._value(length)
        self.evicted_now.clear()
        expires_at = self.cache.expiry.expires_at(exptime)
        if self.cache.set(key, value, expires_at, client_flags):
            assert not self.evicted_now
            assert not self._too_large(key, value, client_flags)
            self._put(key, value, client_flags, self._ends_at(exptime))
        else:
            self._store(SET, key, value, client_flags, exptime, 0)

    @rule(
        mode=st.sampled_from([SET, ADD, REPLACE, APPEND, PREPEND]),
        key=KEYS,
        length=LENGTHS,
        client_flags=CLIENT_FLAGS,
        exptime=EXPTIMES,
    )
    def store(self, mode, key, length, client_flags, exptime):
        self._store(mode, key, self._value(length), client_flags, exptime, 0)

    @rule(key=KEYS, length=LENGTHS, right=st.booleans(), mode=st.sampled_from([CAS, APPEND]))
    def compare_and_store(self, key, length, right, mode):
        item = self.cache.inspect(key)
        cas_compare = 1 << 60
        if right and self.use_cas and item is not None:
            cas_compare = item.cas_unique
        self._store(mode, key, self._value(length), 0, 0, cas_compare)

    def _store(
        self,
        mode: StoreMode,
        key: bytes,
        value: bytes,
        client_flags: int,
        exptime: int,
        cas_compare: int,
    ) -> None:
        cache = self.cache
        refused = cache.counters.store_no_memory
        old_item = cache.inspect(key)
        matches = not cas_compare or (old_item is not None and old_item.cas_unique == cas_compare)
        self.evicted_now.clear()
        before = self.model.get(key)
        status = cache.store(
            mode, key, value, client_flags, cache.expiry.expires_at(exptime), cas_compare
        )
        if status is Status.NO_MEMORY_READING:
            assert self.limited
            assert len(value) > cache.slabs.chunk_max_bytes // 2, "only what comes in chunks"
            return
        if status is Status.TOO_LARGE or status is Status.NO_MEMORY:
            if status is Status.TOO_LARGE:
                assert self._too_large(key, value, client_flags)
            else:
                assert self.limited
                assert cache.counters.store_no_memory == refused + 1
            if mode is SET:
                self.model.pop(key, None)
            return
        assert not self._too_large(key, value, client_flags)
        # Making room for the new value may have evicted the old one before it was looked at,
        # and only then: what follows is decided by what was there.
        old = self.model.get(key)
        if key in self.evicted_now and mode in (APPEND, PREPEND) and status is Status.STORED:
            old = before
        joined = old
        if mode is APPEND and old is not None:
            joined = old._replace(value=old.value + value)
        elif mode is PREPEND and old is not None:
            joined = old._replace(value=value + old.value)
        if old is None:
            expected = {
                SET: Status.STORED,
                ADD: Status.STORED,
                CAS: Status.NOT_FOUND,
            }.get(mode, Status.NOT_STORED)
        elif mode is ADD:
            expected = Status.NOT_STORED
        elif mode is CAS or mode in (APPEND, PREPEND):
            expected = Status.STORED if matches else Status.EXISTS
        else:
            expected = Status.STORED
        if expected is Status.STORED and mode in (APPEND, PREPEND) and status is Status.NOT_STORED:
            assert joined is not None
            assert self.limited or self._too_large(key, joined.value, joined.client_flags)
            return
        assert status is expected
        if status is Status.STORED:
            if mode in (APPEND, PREPEND):
                assert joined is not None
                self._put(key, joined.value, joined.client_flags, joined.ends_at)
            else:
                self._put(key, value, client_flags, self._ends_at(exptime))

    @rule(first=st.integers(0, 15), count=st.integers(1, 8), length=st.sampled_from(LARGE_LENGTHS))
    def fill(self, first, count, length):
        """Ask for more memory than there may be."""
        for number in range(first, first + count):
            self._store(SET, b"%d" % number, self._value(length), 0, 0, 0)

    @rule(fast=st.booleans(), times=st.integers(1, 3))
    def read_all(self, fast, times):
        for key in [item.key for item in self.cache.items()]:
            for _ in range(times):
                self._get(key, fast=fast)

    @rule(key=KEYS, fast=st.booleans())
    def get(self, key, fast):
        self._get(key, fast=fast)

    def _get(self, key: bytes, *, fast: bool) -> None:
        entry = self.model.get(key)
        item = self.cache.hit(key) if fast else self.cache.get(key)
        if not fast:
            assert (item is None) == (entry is None)
        if item is not None:
            assert entry is not None
            assert (item.value, item.client_flags) == (entry.value, entry.client_flags)

    @rule(key=KEYS, exptime=EXPTIMES)
    def touch(self, key, exptime):
        item = self.cache.touch(key, self.cache.expiry.expires_at(exptime))
        assert (item is None) == (key not in self.model)
        if item is not None:
            ends_at = self._ends_at(exptime)
            self.model[key] = self.model[key]._replace(ends_at=ends_at)
            if ends_at is not None and ends_at <= self.unix_now:
                del self.model[key]

    @rule(key=KEYS, number=NUMBERS)
    def set_number(self, key, number):
        self._store(SET, key, number, 0, 0, 0)

    @rule(key=KEYS, delta=DELTAS, decrement=st.booleans())
    def increment(self, key, delta, decrement):
        entry = self.model.get(key)
        self.evicted_now.clear()
        status, number = self.cache.increment(self.cache.peek(key), delta, decrement=decrement)
        if entry is None:
            assert status is Status.NOT_FOUND
            return
        text = entry.value.split(b" ")[0]  # a number ends with the first blank
        if not text.isdigit() or len(text) > 20:
            assert status is Status.NON_NUMERIC
            return
        if status is Status.NO_MEMORY:
            assert self.limited
            return
        assert status is Status.STORED
        expected = max(0, int(text) - delta) if decrement else (int(text) + delta) % (1 << 64)
        assert number == expected
        value = b"%d" % number
        value += b" " * (len(entry.value) - len(value))
        self._put(key, value, entry.client_flags, entry.ends_at)

    @rule(key=KEYS)
    def delete(self, key):
        status = self.cache.delete(key)
        assert (status is Status.STORED) == (key in self.model)
        self.model.pop(key, None)

    @rule()
    def flush(self):
        self.cache.flush()
        self.model.clear()
        self.flush_at = None
        self.dead_until = 0
        self.last_cas_unique = self.cache.cas_unique

    @rule(delay_s=st.sampled_from([1, 2, 5]))
    def flush_later(self, delay_s):
        # As in memcached, a flush to come replaces an earlier one, whose victims would be back
        # if nobody met them before.
        for item in list(self.cache.items()):
            self.cache.peek(item.key)
        self.cache.flush(delay_s)
        # memcached: it comes one second early.
        self.flush_at = self.unix_now + delay_s - 1
        self.dead_until = 0
        self.last_cas_unique = self.cache.cas_unique
        self._flush_if_due()

    # -- what time and the server do -------------------------------------------------------

    def _flush_if_due(self) -> None:
        if self.flush_at is not None and self.flush_at <= self.unix_now:
            self.model.clear()
            self.dead_until = self.flush_at + 1
            self.flush_at = None

    @rule(seconds=st.sampled_from([1, 1, 2, 4, 61, 5000]))
    def advance(self, seconds):
        self.timed.advance(seconds)
        self._flush_if_due()
        for key, entry in list(self.model.items()):
            if entry.ends_at is not None and entry.ends_at <= self.unix_now:
                del self.model[key]

    @rule()
    def maintain(self):
        self.maintainer.step()

    @rule()
    def crawl(self):
        if not self.crawler.running:
            self.crawler.start()
        while self.crawler.step():
            pass

    @rule(source=st.integers(-2, 9), destination=st.integers(0, 9))
    def reassign(self, source, destination):
        """Ask for a page of one of the classes that have some."""
        owners = [0, *(each.id for each in self.cache.slabs if each.pages)]
        self.rebalancer.reassign(
            owners[source % len(owners)] if source >= 0 else source,
            owners[destination % len(owners)],
        )

    @rule(most=st.sampled_from([1, 5, 100]))
    def juggle(self, most):
        temporary = self.cache.temporary_lru
        for slab_class in self.cache.slabs:
            self.cache.lru.juggle(slab_class, temporary=temporary, most=most)

    @precondition(lambda self: self.limited)
    @rule(pages=st.integers(1, 4))
    def limit(self, pages):
        self.rebalancer.set_limit(pages * MEBIBYTE)

    @rule()
    def reset_statistics(self):
        self.cache.reset_counters()
        self.rebalancer.reset_counters()
        self.evictions = 0

    # -- what always holds -----------------------------------------------------------------

    @invariant()
    def structures_agree(self):
        self.cache.check()

    @invariant()
    def the_cache_has_what_the_model_has(self):
        living = {
            item.key: Entry(item.value, item.client_flags, self._end_of(item))
            for item in self.cache.items()
            if not self.cache.is_dead(item)
        }
        assert living.keys() == self.model.keys()
        assert living == self.model

    def _end_of(self, item: Item) -> float | None:
        return self.cache.expiry.unix_time(item.expires_at) if item.expires_at else None

    @invariant()
    def evictions_are_counted(self):
        counted = sum(slab_class.evicted for slab_class in self.cache.slabs)
        assert counted == self.evictions

    @invariant()
    def memory_is_limited(self):
        slabs = self.cache.slabs
        if self.rebalancer.busy or not slabs.limit_bytes:
            return
        # Each class may have one page whatever the limit.
        classes = sum(slab_class.pages > 0 for slab_class in slabs)
        assert slabs.malloced_bytes <= slabs.limit_bytes + classes * MEBIBYTE


TestCache = CacheMachine.TestCase
TestCache.settings = settings(stateful_step_count=40, max_examples=100)
