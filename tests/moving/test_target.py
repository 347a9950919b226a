"""How a server is asked to store items, and what becomes of each."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pymcd.moving.dumpfile import Record
from pymcd.moving.talk import TalkError, is_speakable
from pymcd.moving.target import Outcome, exptime_of, store

from ..clocks import ManualClock
from ..protocol.helpers import Client, make_service
from .helpers import hold, talk_with

NOW = 1_700_000_000.0


def outcomes_of(client: Client, records: list[Record], now: float, **how: bool) -> list[Outcome]:
    outcomes: list[Outcome] = []
    talk = store(records, now, outcomes, overwrite=how.get("overwrite", False))
    talk_with(client, talk)
    return outcomes


def test_what_becomes_of_each():
    clock = ManualClock()
    service = make_service(clock, item_size_max_bytes=1 << 20)
    client = Client(service)
    now = clock.realtime()
    client.send(b"set there 0 0 3\r\nold\r\n")
    records = [
        Record(b"a", b"b\r\nc", 7, int(now) + 100),
        Record(b"there", b"new", 0, 0),
        Record(b"\0 \1", b"", 0, 0),
        Record(b"over", b"x", 0, int(now) - 1),
        Record(b"large", b"x" * (1 << 20), 0, 0),
        Record(b" " * 200, b"x", 0, 0),
        Record(b"last", b"x", 2**32 - 1, int(now) + 86400 * 60),
    ]
    assert outcomes_of(client, records, now) == [
        Outcome.STORED,
        Outcome.THERE,
        Outcome.STORED,
        Outcome.OVER,
        Outcome.TOO_LARGE,
        Outcome.UNSPEAKABLE,
        Outcome.STORED,
    ]
    assert client.send(b"mg a f t v\r\n") == b"VA 4 f7 t100\r\nb\r\nc\r\n"
    assert client.send(b"mg AAAg b v\r\nmg ACAB b v\r\n") == b"EN\r\nVA 0\r\n\r\n"
    assert client.send(b"mg last f t\r\n") == b"HD f4294967295 t5184000\r\n"
    assert client.send(b"get there\r\n") == b"VALUE there 0 3\r\nold\r\nEND\r\n"
    assert outcomes_of(client, records[1:2], now, overwrite=True) == [Outcome.STORED]
    assert client.send(b"get there\r\n") == b"VALUE there 0 3\r\nnew\r\nEND\r\n"
    assert outcomes_of(client, records[3:4], now) == [Outcome.OVER]


@given(st.lists(st.tuples(st.binary(min_size=1, max_size=250), st.binary(max_size=50)), max_size=8))
def test_any_key_that_can_be_said_is_stored(pairs):
    service = make_service()
    records = [Record(key, value, 0, 0) for key, value in pairs]
    outcomes_of(Client(service), records, NOW, overwrite=True)
    expected = {key: value for key, value in pairs if is_speakable(key)}
    assert {item.key: item.value for item in service.cache.items()} == expected


@pytest.mark.parametrize(
    ("unix_end", "now", "exptime"),
    [
        (0, NOW, 0),
        (1_700_000_010, NOW, 10),
        (1_700_000_010, NOW + 9.9, 1),
        (1_700_000_000 + 2592000, NOW, 2592000),
        (1_700_000_001 + 2592000, NOW, 1_700_000_001 + 2592000),
        (4_000_000_000, NOW, 2**31 - 1),  # more cannot be said
    ],
)
def test_an_end_is_told_by_what_is_left(unix_end, now, exptime):
    assert exptime_of(unix_end, now) == exptime


def test_a_server_that_stops_leaves_what_it_has_done():
    records = [Record(b"%d" % number, b"x", 0, 0) for number in range(4)]
    for end, message in (
        (b"", "closed the connection"),
        (b"SERVER_ERROR out of memory storing object\r\n", "refuses: SERVER_ERROR out of memory"),
        (b"ERROR\r\n", "refuses: ERROR"),
    ):
        outcomes: list[Outcome] = []
        with pytest.raises(TalkError) as caught:
            hold(store(records, NOW, outcomes, overwrite=False), b"HD\r\nNS\r\n" + end)
        assert str(caught.value).startswith(message)
        assert outcomes == [Outcome.STORED, Outcome.THERE]
