"""Long reports: made in parts, between which others change what is reported on."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import pytest

from pymcd import limits
from pymcd.protocol import reports

from ..interpreters import of_cpython
from .helpers import Client, make_service

if TYPE_CHECKING:
    from collections.abc import Iterator

ITEMS = 3000


def filled(number: int = ITEMS, **settings) -> Client:
    """Return a client of a server with so many items of one class, all in COLD."""
    client = Client(lru_segmented=False, **settings)
    for start in range(0, number, 100):
        client.send(b"".join(b"set k%06d 0 0 1\r\nv\r\n" % (start + index) for index in range(100)))
    return client


def parts_of(client: Client, request: bytes) -> Iterator[bytes]:
    """Ask, and yield part by part what is answered."""
    client.connection.receive_data(request)
    client.connection.run()
    source = client.connection.source
    assert source is not None
    yield from source
    client.connection.source = None


LONG = [
    b"stats cachedump 1 0\r\n",
    b"stats sizes\r\n",
    b"stats detail dump\r\n",
    b"lru_crawler metadump all\r\n",
    b"stats conns\r\n",
    b"\x80\x10\x00\x05\x00\x00\x00\x00\x00\x00\x00\x05" + bytes(12) + b"sizes",
    b"\x80\x10\x00\x0b\x00\x00\x00\x00\x00\x00\x00\x0b" + bytes(12) + b"detail dump",
]


@pytest.mark.parametrize("request_of_much", LONG)
def test_no_part_is_large_and_no_step_looks_at_much(
    request_of_much: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = filled(track_sizes=True, detail_enabled=True)
    for index in range(ITEMS):
        client.send(b"get p%d:k\r\n" % index)
    for _ in range(300):
        Client(client.service)
    if request_of_much[:1] == b"\x80":
        client = Client(client.service)
    cache = client.service.cache
    really_linked = cache.linked
    looked_at = 0

    def linked(key: bytes):
        nonlocal looked_at
        looked_at += 1
        return really_linked(key)

    monkeypatch.setattr(cache, "linked", linked)
    before = 0
    number = 0
    for part in parts_of(client, request_of_much):
        assert len(part) <= limits.REPLY_CHUNK_BYTES
        assert looked_at - before <= 250
        before = looked_at
        number += 1
    assert number >= 5


@pytest.mark.parametrize("limit", [0, 1, 199, 200, 201, 1000, ITEMS, ITEMS + 1])
def test_a_cachedump_shows_the_newest(limit: int) -> None:
    client = filled()
    lines = client.send(b"stats cachedump 1 %d\r\n" % limit).split(b"\r\n")
    assert lines[-2:] == [b"END", b""]
    shown = [line.split()[1] for line in lines[:-2]]
    newest = [b"k%06d" % index for index in reversed(range(ITEMS))]
    assert shown == newest[: limit or ITEMS]


def test_a_cachedump_has_its_bound() -> None:
    client = filled(20_000, memory_limit_bytes=256 << 20)
    for index in range(10_000):
        key = b"%0249d" % index
        client.send(b"set %b 0 0 0\r\n\r\n" % key)
    item = client.service.cache.inspect(key)
    assert item is not None
    assert item.segment is not None
    number = item.segment.slab_class.id
    answer = client.send(b"stats cachedump %d 0\r\n" % number)
    line_bytes = len(b"ITEM %b [0 b; 0 s]\r\n" % key)
    assert answer.count(b"ITEM") == (limits.CACHEDUMP_MAX_BYTES - 6) // line_bytes


@pytest.mark.parametrize("gone", [1, 150, 199, 200])
def test_a_cachedump_goes_on_where_it_was(gone: int) -> None:
    """Unless all that it has passed in the last part is gone."""
    client = filled()
    other = Client(client.service)
    parts = parts_of(client, b"stats cachedump 1 0\r\n")
    first = next(parts)
    keys = [line.split()[1] for line in first.splitlines()]
    assert len(keys) == 200
    for key in keys[-gone:]:
        other.send(b"delete %b\r\n" % key)
    other.send(b"set new 0 0 1\r\nv\r\n")
    rest = b"".join(parts)
    expected = [b"k%06d" % index for index in reversed(range(ITEMS - 200))] if gone < 200 else []
    assert [line.split()[1] for line in rest.splitlines()[:-1]] == expected
    assert rest.endswith(b"END\r\n")


@of_cpython("objects are counted by who refers to them")
@pytest.mark.parametrize(
    "request_of_much",
    [b"stats cachedump 1 0\r\n", b"stats sizes\r\n", b"lru_crawler metadump all\r\n"],
)
def test_who_does_not_take_a_report_holds_no_value(request_of_much: bytes) -> None:
    client = filled(track_sizes=True)
    cache = client.service.cache
    parts = parts_of(client, request_of_much)
    next(parts)
    next(parts)
    held = [item.key for item in cache.items() if sys.getrefcount(item) > _references(cache)]
    assert held == []


def _references(cache) -> int:
    """Return how often an item is referred to that nobody holds but its neighbours."""
    item = cache.inspect(b"k%06d" % (ITEMS // 2))
    return sys.getrefcount(item)


def test_conns_shows_who_is_still_there() -> None:
    service = make_service()
    clients = [Client(service) for _ in range(120)]
    parts = parts_of(clients[0], b"stats conns\r\n")
    first = next(parts)
    assert first.count(b":listen_addr") == 50
    for client in clients[60:]:
        service.disconnected(client.connection)
    assert b"".join(parts).count(b":listen_addr") == 10


def test_a_reset_between_two_parts_of_a_detail_dump() -> None:
    client = Client(detail_enabled=True)
    for index in range(1000):
        client.send(b"get p%d:k\r\n" % index)
    parts = reports.prefixes(client.service)
    assert next(parts).count(b"PREFIX") == 200
    client.service.reset_counters()
    assert b"".join(parts) == b"END\r\n"
