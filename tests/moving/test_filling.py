"""A fill takes in what clients have not touched, and nothing that they have."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pymcd.moving.filling import Fill, Outcome
from pymcd.moving.source import NEVER, Fetched
from pymcd.store import Cache, StoreMode
from pymcd.store.item import UNSPEAKABLE

from ..protocol.helpers import Client, make_service
from ..store.helpers import TimedCache, keys


def fetched(key: bytes, value: bytes = b"old", client_flags: int = 0, ttl: int = NEVER) -> Fetched:
    return Fetched(key, value, client_flags, ttl)


def fill_of(cache: Cache, **known: Any) -> Fill:
    return Fill(cache, **{"was_deleted": lambda key: False, **known})


def test_an_item_comes_with_all_that_it_has():
    timed = TimedCache()
    cache = timed.cache
    fill = fill_of(cache)
    assert fill.take(fetched(b"a", b"b", 5, 100)) is Outcome.FILLED
    assert fill.take(fetched(b"never")) is Outcome.FILLED
    assert fill.take(fetched(b"over", ttl=0)) is Outcome.OVER
    assert fill.take(fetched(b"large", bytes(2 << 20))) is Outcome.TOO_LARGE
    assert fill.take(fetched(b"chained", bytes(900_000))) is Outcome.FILLED
    assert fill.take(fetched(b"odd key")) is Outcome.FILLED
    a, odd = cache.linked(b"a"), cache.linked(b"odd key")
    assert a is not None
    assert (a.value, a.client_flags, a.expires_at) == (b"b", 5, cache.now + 100)
    assert odd is not None
    assert odd.access & UNSPEAKABLE
    assert not a.access & UNSPEAKABLE
    end = cache.expiry.unix_time(cache.now + 50)
    fill.take(Fetched(b"told", b"", 0, 49, end))
    told = cache.linked(b"told")
    assert told is not None
    assert told.expires_at == cache.now + 50, "the end itself says more than what is left"
    timed.advance(99)
    assert cache.get(b"a")
    timed.advance(1)
    assert not cache.get(b"a")
    assert cache.get(b"never")
    assert fill.outcomes[Outcome.FILLED] == 5
    assert fill.why_over == ""
    cache.check()


def test_what_comes_later_was_used_longer_ago_and_goes_first():
    cache = TimedCache().cache
    cache.store(StoreMode.SET, b"client1", b"new")
    fill = fill_of(cache)
    fill.take(fetched(b"a"))
    cache.store(StoreMode.SET, b"client2", b"new")
    fill.take(fetched(b"b"))
    fill.take(fetched(b"c"))
    cache.check()
    slab_class = next(each for each in cache.slabs if each.item_count)
    assert keys(slab_class.hot) == [b"client2", b"client1"]
    assert keys(slab_class.cold) == [b"a", b"b", b"c"]


#: What a client does about the key `k`, and what is there then, if anything.
DOINGS: list[tuple[str, bytes, bytes | None]] = [
    ("set", b"set k 0 0 3\r\nnew\r\n", b"new"),
    ("delete", b"delete k\r\n", None),
    ("delete what was set", b"set k 0 0 3\r\nnew\r\ndelete k\r\n", None),
    ("delete quietly", b"delete k noreply\r\n", None),
    ("meta delete", b"md k q\r\n", None),
    ("meta delete of what was set", b"ms k 3\r\nnew\r\nmd k\r\n", None),
    ("delete in binary", b"\x80\x04\0\1\0\0\0\0\0\0\0\1" + bytes(12) + b"k", None),
    ("let end", b"set k 0 -1 3\r\nnew\r\n", None),
    ("end by touch", b"set k 0 0 3\r\nnew\r\ntouch k -1\r\nget k\r\n", None),
    ("set what is too large", b"set k 0 0 2000000\r\n" + bytes(2000000) + b"\r\n", None),
    ("add", b"add k 0 0 3\r\nnew\r\n", b"new"),
    ("vivify", b"mg k N30\r\n", b""),
    ("count", b"ma k N0 J5\r\n", b"5"),
    # What comes to nothing changes nothing.
    ("read", b"get k\r\n", b"old"),
    ("replace", b"replace k 0 0 3\r\nnew\r\n", b"old"),
    ("append", b"append k 0 0 3\r\nnew\r\n", b"old"),
    ("cas", b"cas k 0 0 3 7\r\nnew\r\n", b"old"),
    ("incr", b"incr k 1\r\n", b"old"),
    ("touch", b"touch k 100\r\n", b"old"),
]


@pytest.mark.parametrize(
    ("doing", "there"), [case[1:] for case in DOINGS], ids=[case[0] for case in DOINGS]
)
def test_what_clients_do_stands(doing, there):
    service = make_service()
    fill = fill_of(service.cache)
    client = Client(service)
    client.send(doing)
    before = service.cache.inspect(b"k")
    outcome = fill.take(fetched(b"k"))
    after = service.cache.inspect(b"k")
    assert (after.value if after else None) == there
    assert (outcome is Outcome.FILLED) is (there == b"old")
    if there != b"old":
        assert after is before
    service.cache.check()


def test_what_ended_meanwhile_does_not_come_back():
    timed = TimedCache()
    fill = fill_of(timed.cache)
    timed.set(b"linked", exptime=10)
    timed.set(b"crawled", exptime=10)
    timed.advance(20)
    item = timed.cache.linked(b"crawled")
    assert item is not None
    timed.cache.reclaim(item)
    assert fill.take(fetched(b"linked")) is Outcome.THERE
    assert fill.take(fetched(b"crawled")) is Outcome.GONE
    assert timed.cache.get(b"linked") is None


def test_what_other_nodes_know_to_be_deleted_stays_so():
    fill = fill_of(TimedCache().cache, was_deleted=lambda key: key == b"b")
    assert fill.take(fetched(b"a")) is Outcome.FILLED
    assert fill.take(fetched(b"b")) is Outcome.GONE


@pytest.mark.parametrize("when", [0, 100])
def test_it_is_over_when_clients_flush(when):
    cache = TimedCache().cache
    fill = fill_of(cache)
    fill.take(fetched(b"a"))
    cache.flush(when)
    assert fill.why_over == "clients flushed everything"
    assert cache.on_gone is None


def test_it_is_over_when_all_is_cleared():
    cache = TimedCache().cache
    fill = fill_of(cache)
    cache.clear()
    assert fill.why_over == "clients flushed everything"


def test_it_is_over_when_memory_is_full():
    cache = TimedCache(memory_limit_bytes=2 << 20).cache
    fill = fill_of(cache)
    number = 0
    while not fill.why_over:
        fill.take(fetched(b"%d" % number, bytes(1000)))
        number += 1
    assert fill.why_over == "memory is full"
    assert sum(each.evicted for each in cache.slabs) == 1
    assert cache.linked(b"0")
    cache.check()


def test_it_is_over_when_memory_is_full_and_nothing_may_be_evicted():
    cache = TimedCache(memory_limit_bytes=2 << 20, disable_evictions=True).cache
    fill = fill_of(cache)
    outcomes: list[Outcome] = []
    while not fill.why_over:
        outcomes.append(fill.take(fetched(b"%d" % len(outcomes), bytes(1000))))
    assert outcomes.pop() is Outcome.NO_ROOM
    assert set(outcomes) == {Outcome.FILLED}
    assert fill.why_over == "memory is full"


def test_what_is_noted_is_bounded():
    cache = TimedCache().cache
    fill = fill_of(cache, gone_max=10)
    for number in range(100):  # of what is there again nothing need be noted
        cache.delete(b"%d" % (number % 8))
        cache.store(StoreMode.SET, b"%d" % (number % 8), b"new")
    assert fill.why_over == ""
    for number in range(11):
        cache.delete(b"x%d" % number)
    assert fill.why_over == "clients delete too many keys"
    assert cache.on_gone is None


def test_after_its_end_nothing_is_noted():
    cache = TimedCache().cache
    fill = fill_of(cache)
    fill.end()
    cache.delete(b"a")
    assert cache.on_gone is None
    with pytest.raises(AssertionError, match="keys were not noted"):
        fill.take(fetched(b"a"))


KEYS = st.sampled_from([b"a", b"b", b"c", b"d"])
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("set"), KEYS, st.sampled_from([0, 1, 3])),
        st.tuples(st.just("delete"), KEYS, st.just(0)),
        st.tuples(st.just("get"), KEYS, st.just(0)),
        st.tuples(st.just("wait"), st.just(b""), st.sampled_from([1, 2])),
        st.tuples(st.just("crawl"), st.just(b""), st.just(0)),
        st.tuples(st.just("fill"), KEYS, st.just(0)),
    ),
    max_size=30,
)


@given(STEPS)
def test_clients_never_see_what_they_have_changed_as_it_was_before(steps):
    """Beside a dict that holds what clients wrote: of those keys nothing older is ever read."""
    timed = TimedCache()
    cache, fill = timed.cache, fill_of(timed.cache)
    written: dict[bytes, tuple[bytes, int] | None] = {}  # value and end; None: deleted
    filled: set[bytes] = set()
    for number, (what, key, argument) in enumerate(steps):
        if what == "set":
            written[key] = (b"new%d" % number, cache.now + argument if argument else 0)
            timed.set(key, b"new%d" % number, argument)
        elif what == "delete":
            written[key] = None
            cache.delete(key)
        elif what == "wait":
            timed.advance(argument)
        elif what == "crawl":
            for item in [item for item in cache.items() if cache.is_dead(item)]:
                cache.reclaim(item)
        elif what == "fill":
            fill.take(fetched(key))
            filled.add(key)
        else:
            cache.get(key)
        for each in (b"a", b"b", b"c", b"d"):
            found = cache.inspect(each)
            value = found.value if found else None
            if each in written:
                state = written[each]
                lives = state is not None and (not state[1] or state[1] > cache.now)
                assert value == (state[0] if state is not None and lives else None)
            else:
                assert value == (b"old" if each in filled else None)
        cache.check()
