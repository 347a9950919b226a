"""How servers of all ages are asked for what they have."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pymcd.moving.plan import Listed, Plan
from pymcd.moving.source import NEVER, Fetched, Listing, can_be_fetched, fetch, list_keys
from pymcd.moving.talk import BusyError, TalkError, is_speakable
from pymcd.store import StoreMode

from ..clocks import ManualClock
from ..protocol.helpers import Client, make_service
from .helpers import hold, talk_with

NOW = 1_700_000_000.0
META = Listing(meta=True)


def keys_of(plan: Plan) -> dict[bytes, Listed]:
    return {each.key: each for each in plan.take(1000, 1 << 40)}


def new_plan() -> Plan:
    return Plan(1 << 20, newest_first=True)


def listing_of(
    *answers: bytes, version: bytes = b"VERSION 1.6.45\r\n", step: int = 0
) -> tuple[Listing, Plan, list[bytes]]:
    """Have the keys listed by who has those answers; what it is asked first is its version."""
    plan = new_plan()
    listing, asked = hold(list_keys(plan, lambda: NOW), version, *answers, step=step)
    assert asked[0] == b"version\r\n"
    return listing, plan, asked[1:]


@pytest.mark.parametrize("step", [0, 1, 10])
def test_everything_comes_over_as_it_is(step):
    clock = ManualClock()
    service = make_service(clock)
    client = Client(service)
    client.send(b"set plain 5 100 3\r\nfoo\r\nset never 0 0 0\r\n\r\n")
    client.send(b"ms AAECIA== 5 b T90 F7\r\nb\r\nar\r\nms over 1 T-1\r\nx\r\n")
    client.send(b"set k\xc3\xa9y%20 1 2592000 1\r\nx\r\n")
    clock.advance(10)
    service.cache.tick()
    client.send(b"md missing I\r\nms stale 1\r\nx\r\nmd stale I T30\r\n")
    plan = new_plan()
    listing = talk_with(Client(service), list_keys(plan, clock.realtime), step=step)
    assert listing.meta
    wanted = list(keys_of(plan).values())
    plain = service.cache.linked(b"plain")
    assert plain is not None
    before = plain.access
    items = talk_with(Client(service), fetch(wanted, listing, clock.realtime), step=step)
    assert {item.key: item for item in items} == {
        b"plain": Fetched(b"plain", b"foo", 5, 90, 1_700_000_100),
        b"never": Fetched(b"never", b"", 0, NEVER),
        b"\0\1\2 ": Fetched(b"\0\1\2 ", b"b\r\nar", 7, 80, 1_700_000_090),
        b"k\xc3\xa9y%20": Fetched(b"k\xc3\xa9y%20", b"x", 1, 2592000 - 10, 1_702_592_000),
    }
    assert plain.access == before, "to be fetched is no use"
    # Where clocks do not agree, what is left is all that counts.
    later = talk_with(Client(service), fetch(wanted, listing, lambda: clock.realtime() + 5))
    assert {item.unix_end for item in later} == {0}
    assert {item.ttl for item in later} == {item.ttl for item in items}


@given(st.lists(st.tuples(st.binary(min_size=1, max_size=250), st.binary(max_size=50)), max_size=8))
def test_any_key_that_can_be_said_comes_over(pairs):
    service = make_service()
    for key, value in pairs:
        service.cache.store(StoreMode.SET, key, value)
    plan = new_plan()
    talk_with(Client(service), list_keys(plan, lambda: NOW))
    wanted = list(keys_of(plan).values())
    assert {each.key for each in wanted} == {key for key, _ in pairs}
    items = talk_with(Client(service), fetch(wanted, META, lambda: NOW))
    expected = {key: value for key, value in pairs if is_speakable(key)}
    assert {item.key: item.value for item in items} == expected


@pytest.mark.parametrize("step", [0, 1])
@pytest.mark.parametrize("ok", [b"", b"OK\r\n"])
def test_both_forms_of_a_metadump(ok, step):
    _, plan, asked = listing_of(
        ok + b"key=a%20b exp=1700000100 la=1699999990 cas=2 fetch=no cls=1 size=67\n"
        b"key=c exp=-1 la=1699999999 cas=3 fetch=no cls=1 size=70 flags=7 \nEND\r\n",
        step=step,
    )
    assert asked == [b"lru_crawler metadump hash\r\n"]
    assert plan.take(5, 1000) == [Listed(b"c", 70, 0), Listed(b"a b", 67, 1700000100)]


@pytest.mark.parametrize("refused", [b"ERROR\r\n", b"BADCLASS invalid class id\r\n"])
def test_a_server_that_cannot_walk_its_hash_table_is_asked_by_class(refused):
    listing, plan, asked = listing_of(refused, b"END\r\n")
    assert asked[1] == b"lru_crawler metadump all\r\n"
    assert listing.meta
    assert plan.count == 0


def test_nothing_to_crawl_is_nothing():
    assert listing_of(b"NOTSTARTED no items to crawl\r\n")[1].count == 0


# memcached 1.4, repcached: no metadump, no meta commands.
OLD = (
    b"ERROR\r\n",
    b"ERROR\r\n",
    b"STAT pid 1\r\nSTAT uptime 1000\r\nSTAT time 1699999990\r\nSTAT curr_items 5\r\nEND\r\n",
    b"STAT items:1:number 3\r\nSTAT items:1:age 5\r\nSTAT items:2:number 1\r\nEND\r\n",
    b"ITEM a [3 b; 1700000090 s]\r\nITEM b [4 b; 1699998990 s]\r\nEND\r\n",
    b"ITEM c [5 b; 1699999991 s]\r\nEND\r\n",
)


CLOCK = b"STAT pid 1\r\nSTAT uptime 1000\r\nSTAT time 1699999990\r\nSTAT curr_items 2\r\nEND\r\n"


@pytest.mark.parametrize("version", [b"1.4.31", b"1.5.6 Ubuntu", b"1.5.22"])
@pytest.mark.parametrize("step", [0, 1])
def test_a_server_with_a_metadump_and_without_meta_commands(version, step):
    listing, plan, asked = listing_of(
        CLOCK,
        b"ERROR\r\n",
        b"key=a%20b exp=-1 la=1699999980 cas=2 fetch=no cls=1 size=67\n"
        b"key=c exp=1700000090 la=1699999989 cas=3 fetch=no cls=1 size=70\n"
        b"key=d exp=-1 la=1699999985 cas=4 fetch=no cls=1 size=70\nEND\r\n",
        version=b"VERSION %b\r\n" % version,
        step=step,
    )
    assert asked == [
        b"stats\r\n",
        b"lru_crawler metadump hash\r\n",
        b"lru_crawler metadump all\r\n",
    ]
    assert listing == Listing(meta=False, behind_s=10.0, started=1699998990)
    wanted = plan.take(5, 1000)
    items, asked = hold(
        fetch(wanted, listing, lambda: NOW),
        b"VALUE c 5 3\r\nfoo\r\nVALUE d 0 1\r\nx\r\nEND\r\n",
        step=step,
    )
    assert asked == [b"get c d\r\n"], "what one command cannot say must not become others"
    assert items == [Fetched(b"c", b"foo", 5, 100), Fetched(b"d", b"x", 0, NEVER)]
    assert [can_be_fetched(each.key, listing) for each in wanted] == [True, True, False]
    assert can_be_fetched(b"a b", META)


def test_a_server_that_hides_its_version_is_taken_for_a_new_one():
    for version in (b"VERSION unknown\r\n", b"ERROR\r\n"):
        assert listing_of(b"END\r\n", version=version)[0].meta


@pytest.mark.parametrize("step", [0, 1])
def test_old_servers_list_some_of_their_keys(step):
    listing, plan, asked = listing_of(*OLD, step=step)
    assert asked[2:] == [
        b"stats\r\n",
        b"stats items\r\n",
        b"stats cachedump 1 0\r\n",
        b"stats cachedump 2 0\r\n",
    ]
    assert listing == Listing(meta=False, has=5, behind_s=10.0, started=1699998990)
    wanted = plan.take(5, 1000)
    assert {each.key for each in wanted} == {b"a", b"b", b"c"}
    items, asked = hold(
        fetch(wanted, listing, lambda: NOW),
        b"VALUE a 5 3\r\nfoo\r\nVALUE b 0 4\r\n\r\n\r\n\r\nVALUE c 0 1\r\nx\r\nEND\r\n",
        step=step,
    )
    assert sorted(asked[0].split()) == [b"a", b"b", b"c", b"get"]
    assert items == [
        Fetched(b"a", b"foo", 5, 100),  # by its clock, which is ten seconds late
        Fetched(b"b", b"\r\n\r\n", 0, NEVER),  # it seems to end when the server began
        Fetched(b"c", b"x", 0, 1),
    ]
    later = hold(fetch(wanted, listing, lambda: NOW + 30), b"VALUE c 0 1\r\nx\r\nEND\r\n")
    assert later[0] == [], "it ends before it would be here"


@pytest.mark.parametrize(
    ("answers", "message"),
    [
        ([], "closed the connection"),
        ([b"key=a exp=-1 la=1 cas=1 fetch=no cls=1 size=70\n"], "closed the connection"),
        ([b"ERROR metadump not allowed\r\n"], "does not list its keys (it runs with -X or"),
        ([b"CLIENT_ERROR lru crawler disabled\r\n"], "does not list its keys (it runs with -X or"),
        ([b"CLIENT_ERROR unauthenticated\r\n"], "wants a login"),
        ([b"\x15\x03\x01\x00\x02\x02\x0a\n"], "wants TLS"),
        ([b"HTTP/1.1 400 Bad Request\r\n"], "refuses: HTTP/1.1 400 Bad Request"),
        ([b"\x81\0\0\n"], "is no memcached"),
        ([b"x" * 10_000], "answers something that cannot be understood"),
        ([b"OK\r\nkey=\xff\r\n"], "refuses: key="),
        ([*OLD[:2], b"NO\r\n"], "refuses: NO"),
        ([*OLD[:3], b"NO\r\n"], "refuses: NO"),
        ([*OLD[:4], b"ITEM\r\n"], "refuses: ITEM"),
    ],
)
def test_a_server_that_does_not_tell(answers, message):
    with pytest.raises(TalkError) as caught:
        listing_of(*answers)
    assert str(caught.value).startswith(message)


def test_a_server_that_is_busy_may_be_asked_again():
    with pytest.raises(BusyError):
        listing_of(b"BUSY currently processing crawler request\r\n")


@pytest.mark.parametrize(
    ("listing", "answer", "message"),
    [
        (META, b"VA 3 f0 t-1\r\nfooXX", "answers something that cannot be understood"),
        (META, b"VA 3 f0 t-1\r\nfo", "closed the connection"),
        (META, b"SERVER_ERROR out of memory writing get response\r\n", "refuses: SERVER_ERROR out"),
        (META._replace(meta=False), b"ERROR\r\n", "refuses: ERROR"),
    ],
)
def test_items_that_do_not_come(listing: Any, answer, message):
    with pytest.raises(TalkError) as caught:
        hold(fetch([Listed(b"k", 3, 0)], listing, lambda: NOW), answer)
    assert str(caught.value).startswith(message)


@pytest.mark.parametrize("meta", [True, False])
def test_nothing_is_asked_for_nothing(meta):
    talk = fetch([], Listing(meta=meta), lambda: NOW)
    with pytest.raises(StopIteration) as end:
        next(talk)
    assert end.value.value == []
