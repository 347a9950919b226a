"""When things end: exptimes, what is due, and the flush horizon."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pymcd import limits
from pymcd.store import StoreMode
from pymcd.store.expiry import CLOCK_START_S, EXPIRED, Expiry
from tests.store.helpers import TimedCache, make_cache

UNIX_NOW = 1_700_000_000
MONTH_S = limits.EXPTIME_RELATIVE_MAX_S


def expiry_at(now: int) -> Expiry:
    expiry = Expiry()
    expiry.tick(now, UNIX_NOW - now)
    return expiry


@pytest.mark.parametrize(
    ("name", "exptime", "expires_at"),
    [
        ("never", 0, 0),
        ("relative", 1, 1001),
        ("the largest relative one", MONTH_S, 1000 + MONTH_S),
        ("absolute, long past", MONTH_S + 1, EXPIRED),
        ("absolute, in the past", UNIX_NOW - 1, 999),
        ("absolute, now", UNIX_NOW, 1000),
        ("absolute, to come", UNIX_NOW + 50, 1050),
        ("negative: at once", -1, EXPIRED),
    ],
)
def test_exptime(name, exptime, expires_at):
    expiry = expiry_at(1000)
    assert expiry.expires_at(exptime) == expires_at
    assert expiry.expires_at(exptime) == expires_at, "the second time it is known"


def test_a_relative_exptime_counts_from_the_current_second():
    expiry = expiry_at(1000)
    assert expiry.expires_at(10) == 1010
    expiry.tick(1001, UNIX_NOW - 1000)
    assert expiry.expires_at(10) == 1011


def test_unix_time_is_the_way_back():
    expiry = expiry_at(1000)
    assert expiry.unix_time(expiry.expires_at(UNIX_NOW + 50)) == UNIX_NOW + 50


def test_equal_exptimes_share_one_number():
    expiry = expiry_at(1000)
    assert expiry.expires_at(100_000) is expiry.expires_at(100_000)


@pytest.mark.parametrize("fraction", [0.0, 0.25, 0.75])
def test_a_clock_that_counts_from_before_1970(fraction):
    expiry = Expiry()
    expiry.tick(5000, 2000 + fraction - 5000)
    in_50_s = MONTH_S + 50
    expiry.tick(5000 + MONTH_S, 2000 + fraction - 5000)
    assert expiry.expires_at(in_50_s) == 5000 - 2000 + in_50_s
    assert expiry.unix_time(5000) == 2000


def test_what_is_remembered_of_one_second_is_bounded():
    expiry = expiry_at(1000)
    for exptime in range(1, 5000):
        assert expiry.expires_at(exptime) == 1000 + exptime
    assert len(expiry._known) <= 1024


def test_due():
    expiry = expiry_at(1000)
    assert (expiry.due(), expiry.next_due()) == (0, None)
    for expires_at in (1010, 1010, 1005, EXPIRED):
        expiry.add(expires_at)
    assert (expiry.due(), expiry.next_due()) == (1, EXPIRED)
    expiry.discard(EXPIRED)
    assert (expiry.due(), expiry.next_due()) == (0, 1005)
    expiry.tick(1009, UNIX_NOW - 1009)
    assert expiry.due() == 1
    expiry.tick(1010, UNIX_NOW - 1010)
    assert expiry.due() == 3
    expiry.discard(1010)
    assert expiry.due() == 2


def test_no_table_holds_more_than_its_share():
    # One of all seconds would be copied as a whole when it is full, while everybody waits.
    expiry = expiry_at(1000)
    for number in range(6400):
        expiry.add(2000 + number)
    assert max(map(len, expiry._tables)) == 6400 // len(expiry._tables) == 100


@given(st.lists(st.tuples(st.integers(1, 30), st.booleans()), max_size=60), st.integers(1, 35))
def test_due_counts_what_was_added_and_not_discarded(steps, now):
    expiry = expiry_at(now)
    linked: list[int] = []
    for expires_at, add in steps:
        if add:
            expiry.add(expires_at)
            linked.append(expires_at)
        elif linked:
            expiry.discard(linked.pop(expires_at % len(linked)))
    assert expiry.due() == sum(expires_at <= now for expires_at in linked)
    assert expiry.next_due() == min(linked, default=None)


class TestItemsExpire:
    def test_at_the_second_itself(self):
        timed = TimedCache()
        timed.set(b"k", exptime=10)
        timed.advance(9.9)
        assert timed.cache.get(b"k") is not None
        timed.advance(0.1)
        assert timed.cache.get(b"k") is None
        assert timed.cache.counters.get_expired == 1
        timed.cache.check()

    def test_but_stay_until_somebody_meets_them(self):
        timed = TimedCache()
        timed.set(b"k", exptime=1)
        timed.advance(60)
        assert timed.cache.item_count == 1
        assert timed.cache.inspect(b"k") is None
        assert timed.cache.item_count == 1, "inspect changes nothing"
        assert timed.cache.peek(b"k") is None
        assert timed.cache.item_count == 0

    @pytest.mark.parametrize("exptime", [-1, MONTH_S + 1, UNIX_NOW - 5])
    def test_before_they_are_born(self, exptime):
        timed = TimedCache()
        timed.set(b"k", exptime=exptime)
        assert (timed.cache.item_count, timed.cache.get(b"k")) == (1, None)

    def test_in_their_own_second_of_a_fresh_server(self):
        """The clock begins where no time to live can look like "never"."""
        timed = TimedCache()
        assert timed.cache.now == CLOCK_START_S
        timed.set(b"k", exptime=1)
        assert timed.cache.get(b"k") is not None
        timed.advance(1)
        assert timed.cache.get(b"k") is None

    @pytest.mark.parametrize("mode", list(StoreMode))
    def test_and_are_missing_for_every_storage_command(self, mode):
        timed = TimedCache()
        timed.set(b"k", exptime=1)
        cas_unique = timed.cache.cas_unique
        timed.advance(1)
        missing = make_cache()
        assert timed.cache.store(mode, b"k", b"n", 0, 0, cas_unique) == missing.store(
            mode, b"k", b"n", 0, 0, cas_unique
        )
        timed.cache.check()

    def test_touch_gives_a_new_end(self):
        timed = TimedCache()
        timed.set(b"k", exptime=1)
        assert timed.cache.touch(b"k", timed.cache.expiry.expires_at(100)) is not None
        timed.advance(99)
        assert timed.cache.get(b"k") is not None
        assert timed.cache.touch(b"k", 0) is not None
        timed.advance(10 * MONTH_S)
        assert timed.cache.get(b"k") is not None
        timed.cache.check()


class TestFlush:
    @pytest.mark.parametrize("settings", [{}, {"disable_cas": True}])
    def test_everything_stored_so_far_is_dead(self, settings):
        timed = TimedCache(**settings)
        timed.set(b"a")
        timed.set(b"b", exptime=1000)
        timed.advance(2)
        timed.cache.flush()
        assert (timed.cache.get(b"a"), timed.cache.get(b"b")) == (None, None)
        assert timed.cache.counters.get_flushed == 2
        assert timed.cache.counters.flush_cmds == 1
        timed.cache.check()

    @pytest.mark.parametrize("segmented", [False, True])
    @pytest.mark.parametrize("fast", [False, True])
    def test_without_segments_a_new_item_reclaims_first(self, fast, segmented):
        """memcached's t/issue_183.t"""
        timed = TimedCache(lru_segmented=segmented, lru_maintainer=False)
        timed.set(b"a")
        timed.advance(2)
        timed.cache.flush()
        if not (fast and timed.cache.set(b"b", b"1", 0)):
            timed.set(b"b")
        reclaimed = sum(each.reclaimed for each in timed.cache.slabs.classes)
        assert reclaimed == (not segmented)

    @pytest.mark.parametrize("age_s", [0, 1, 2])
    def test_what_was_stored_in_this_second_or_the_last_one_is_not_counted(self, age_s):
        timed = TimedCache()
        timed.set(b"a")
        timed.advance(age_s)
        timed.cache.flush()
        assert timed.cache.get(b"a") is None
        assert timed.cache.counters.get_flushed == (age_s == 2)
        assert timed.cache.counters.get_misses == 1

    @pytest.mark.parametrize("disable_cas", [False, True])
    def test_what_is_stored_in_the_same_second_lives(self, disable_cas):
        timed = TimedCache(disable_cas=disable_cas)
        timed.set(b"a")
        timed.cache.flush()
        timed.set(b"a", b"new")
        assert timed.cache.hit(b"a") is None, "the fast path looks away while flushing"
        item = timed.cache.get(b"a")
        assert item is not None
        assert item.value == b"new"
        timed.advance(5)
        assert timed.cache.get(b"a") is item
        timed.cache.flush()
        assert timed.cache.get(b"a") is None

    def test_of_two_flushes_in_one_second_each_counts(self):
        timed = TimedCache(disable_cas=True)
        for _ in range(3):
            timed.set(b"a")
            assert timed.cache.get(b"a") is not None
            timed.cache.flush()
            assert timed.cache.get(b"a") is None
        timed.cache.check()

    @pytest.mark.parametrize("later_s", [0, 1, 2, 100])
    def test_a_cas_unique_that_a_client_chose_does_not_tell_what_is_older(self, later_s):
        timed = TimedCache()
        timed.set(b"old")
        timed.cache.flush()
        timed.advance(later_s)
        timed.set(b"new")
        item = timed.cache.peek(b"new")
        assert item is not None
        timed.cache.set_cas_unique(item, 1)
        assert timed.cache.peek(b"new") is item
        assert timed.cache.peek(b"old") is None
        timed.cache.set_cas_unique(item, 1 << 62)
        timed.cache.flush()
        assert timed.cache.peek(b"new") is None

    @pytest.mark.parametrize("disable_cas", [False, True])
    def test_after_a_flush_in_one_second_this_one_is_dead_as_well(self, disable_cas):
        timed = TimedCache(disable_cas=disable_cas)
        timed.cache.flush(1)
        timed.set(b"a")
        assert timed.cache.get(b"a") is None
        timed.advance(1)
        timed.set(b"a")
        assert timed.cache.get(b"a") is not None

    def test_a_read_item_is_flushed_too(self):
        """A read renews the time of access; the cas unique tells when it was stored."""
        timed = TimedCache()
        timed.set(b"a")
        timed.advance(100)
        assert timed.cache.get(b"a") is not None
        assert timed.cache.get(b"a") is not None
        timed.cache.flush()
        assert timed.cache.get(b"a") is None

    def test_delayed(self):
        timed = TimedCache()
        timed.set(b"a")
        timed.cache.flush(10)
        timed.advance(8)
        timed.set(b"b")
        assert timed.cache.get(b"a") is not None
        timed.advance(1)
        # memcached: oldest_live is one second before the time that was asked for.
        assert (timed.cache.get(b"a"), timed.cache.get(b"b")) == (None, None)
        timed.set(b"c")
        timed.advance(1)
        assert timed.cache.get(b"c") is None
        timed.set(b"c")
        assert timed.cache.get(b"c") is not None
        timed.cache.check()

    def test_a_later_flush_replaces_a_delayed_one(self):
        timed = TimedCache()
        timed.cache.flush(100)
        timed.cache.flush()
        timed.advance(1)
        timed.set(b"a")
        timed.advance(200)
        assert timed.cache.get(b"a") is not None

    def test_a_flush_to_come_brings_back_what_an_earlier_one_left_lying(self):
        """There is one horizon. memcached 1.6.18 answers the same."""
        timed = TimedCache()
        timed.set(b"met")
        timed.set(b"unmet")
        timed.advance(2)
        timed.cache.flush()
        assert timed.cache.get(b"met") is None
        timed.cache.flush(100)
        assert timed.cache.get(b"met") is None
        assert timed.cache.get(b"unmet") is not None

    def test_at_an_absolute_time(self):
        timed = TimedCache()
        timed.set(b"a")
        timed.cache.flush(UNIX_NOW + 10)
        timed.advance(8)
        assert timed.cache.get(b"a") is not None
        timed.advance(2)
        assert timed.cache.get(b"a") is None

    @pytest.mark.parametrize("exptime", [0, -1, -1000])
    def test_at_once(self, exptime):
        timed = TimedCache()
        timed.set(b"a")
        timed.cache.flush(exptime)
        assert timed.cache.get(b"a") is None

    def test_settled(self):
        """When no victim is left, items need no longer be compared."""
        timed = TimedCache()
        timed.set(b"a")
        timed.cache.flush()
        timed.advance(1)
        assert timed.cache.get(b"a") is None
        timed.cache.settle_flush()
        timed.set(b"b")
        assert timed.cache.hit(b"b") is not None
        timed.advance(1)
        assert timed.cache.hit(b"b") is not None
        timed.cache.flush()
        assert timed.cache.get(b"b") is None


def test_check_notices_a_wrong_count():
    timed = TimedCache()
    timed.set(b"a", exptime=10)
    timed.cache.expiry.add(500)
    with pytest.raises(AssertionError):
        timed.cache.check()
