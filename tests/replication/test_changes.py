"""What changed: reported once whichever way it came about, and taken in alike in any order."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pymcd.config import Settings
from pymcd.replication import records, versions
from pymcd.replication.changelog import LOG_ENTRY_BYTES
from pymcd.replication.changes import Changes, Confirmed
from pymcd.replication.frames import HEAD_BYTES, FrameError
from pymcd.replication.records import Record
from pymcd.replication.versions import FOREVER, STEP, TOMBSTONE_BYTES, version_at
from pymcd.service import Service
from pymcd.store.item import KEY_BINARY, STALE, UNSPEAKABLE, WIN_SENT
from tests.protocol import binary_client as binary
from tests.protocol.helpers import Client
from tests.replication.helpers import encode_state

from ..clocks import ManualClock
from ..hosts import make_host

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

SMALL: dict[str, Any] = {"item_size_max_bytes": 1024, "slab_chunk_max_bytes": 512}


class Server:
    """A service whose changes are watched, and one client."""

    def __init__(self, *, backlog_bytes: int = 1 << 20, tag: int = 5, **settings: Any) -> None:
        self.clock = ManualClock()
        self.service = Service(Settings(**settings), self.clock, make_host())
        self.cache = self.service.cache
        self.leads = True
        self.changes = Changes(
            self.cache,
            self.clock,
            tag=tag,
            backlog_bytes=backlog_bytes,
            leads=lambda: self.leads,
        )
        self.client = Client(self.service)

    def do(self, *requests: bytes) -> bytes:
        return self.client.send(b"".join(requests))

    def take(self) -> list[tuple[Any, ...]]:
        """Return what changed since, as a peer would read it."""
        pieces, _, _ = self.changes.take_fresh()
        self.changes.check()
        return list(records.decode_records(b"".join(pieces), 0))

    def evict(self, key: bytes) -> None:
        item = self.cache.linked(key)
        assert item is not None
        self.cache.unlink(item)

    def version(self, key: bytes) -> int:
        item = self.cache.linked(key)
        assert item is not None
        return self.changes.version_of(item)

    def state(self) -> dict[bytes, tuple[Any, ...]]:
        """Return what must be the same on all servers."""
        origin_s = self.changes.origin_s
        return {
            item.key: (
                item.value,
                item.client_flags,
                item.expires_at and item.expires_at + origin_s,
                item.cas_unique,
                self.changes.version_of(item),
                item.stale,
                bool(item.access & WIN_SENT),
            )
            for item in self.cache.items()
            if not self.cache.is_dead(item)
        }


# -- what is reported --------------------------------------------------------------------------

NEW, KEPT = "a new cas unique", "the cas unique that it had"


def state(
    key: bytes,
    value: bytes,
    cas: str | int = NEW,
    *,
    flags: int = 0,
    life_s: int = 0,
    marks: int = 0,
) -> tuple[Any, ...]:
    return ("state", key, value, flags, life_s, cas, marks)


def gone(key: bytes) -> tuple[Any, ...]:
    return ("gone", key)


#: Whatever was to come is not to come any more.
FLUSH = [("flush",), ("flush due", 0)]
NOTHING: list[tuple[Any, ...]] = []


def flush_due(seconds: int) -> tuple[Any, ...]:
    return ("flush due", seconds)


#: With "a" (7 B, a cas unique), "n" (a number) and "s" (stale) there.
BEFORE = b"set a 3 0 7\r\nbefore!\r\nset n 0 0 2\r\n10\r\nms s 1 T90\r\ns\r\nmd s I\r\n"

TEXT_CASES = [
    (b"set b 1 50 2\r\nhi\r\n", [state(b"b", b"hi", flags=1, life_s=50)]),
    (b"set a 0 0 2\r\nhi\r\n", [state(b"a", b"hi")]),
    (b"set a 0 0 7 noreply\r\nanother\r\n", [state(b"a", b"another")]),
    (b"add b 0 0 2\r\nhi\r\n", [state(b"b", b"hi")]),
    (b"add a 0 0 2\r\nhi\r\n", NOTHING),
    (b"replace a 0 0 2\r\nhi\r\n", [state(b"a", b"hi")]),
    (b"replace b 0 0 2\r\nhi\r\n", NOTHING),
    (b"append a 0 0 1\r\n!\r\n", [state(b"a", b"before!!", flags=3)]),
    (b"prepend a 0 0 1\r\n!\r\n", [state(b"a", b"!before!", flags=3)]),
    (b"append b 0 0 1\r\n!\r\n", NOTHING),
    (b"cas a 0 0 2 1\r\nhi\r\n", NOTHING),
    (b"cas b 0 0 2 1\r\nhi\r\n", NOTHING),
    (b"incr n 5\r\n", [state(b"n", b"15")]),
    (b"incr n 990\r\n", [state(b"n", b"1000")]),
    (b"decr n 5\r\n", [state(b"n", b"5 ")]),
    (b"incr a 5\r\n", NOTHING),
    (b"incr b 5\r\n", NOTHING),
    (b"touch a 60\r\n", [state(b"a", b"before!", KEPT, flags=3, life_s=60)]),
    (b"touch b 60\r\n", NOTHING),
    (b"gat 60 a b\r\n", [state(b"a", b"before!", KEPT, flags=3, life_s=60)]),
    (b"gats 60 a n\r\n", [state(b"a", b"before!", KEPT, flags=3, life_s=60),
                          state(b"n", b"10", KEPT, life_s=60)]),
    (b"delete a\r\n", [gone(b"a")]),
    # Another node may hold what was evicted here.
    (b"delete b\r\n", [gone(b"b")]),
    (b"set a 0 0 2000\r\n" + bytes(2000) + b"\r\n", [gone(b"a")]),
    (b"set b 0 0 2000\r\n" + bytes(2000) + b"\r\n", [gone(b"b")]),
    (b"add a 0 0 2000\r\n" + bytes(2000) + b"\r\n", NOTHING),
    (b"flush_all\r\n", FLUSH),
    (b"flush_all 100\r\n", [flush_due(100)]),
    (b"get a b\r\nget a\r\ngets a\r\n", NOTHING),
    (b"version\r\nstats\r\nnonsense\r\nverbosity 1\r\n", NOTHING),
    # Of one batch only what remains.
    (b"set a 0 0 1\r\n1\r\nset a 0 0 1\r\n2\r\nincr a 1\r\n", [state(b"a", b"3")]),
    (b"set a 0 0 1\r\n1\r\ntouch a 60\r\n", [state(b"a", b"1", life_s=60)]),
    (b"touch a 60\r\nset a 0 0 1\r\n1\r\n", [state(b"a", b"1")]),
    (b"touch a 60\r\ntouch a 70\r\n", [state(b"a", b"before!", KEPT, flags=3, life_s=70)]),
    (b"set b 0 0 1\r\n1\r\ndelete b\r\n", [gone(b"b")]),
    (b"delete a\r\nset a 0 0 1\r\n1\r\n", [state(b"a", b"1")]),
    (b"touch a 60\r\ndelete a\r\n", [gone(b"a")]),
    (b"set b 0 0 1\r\n1\r\ndelete a\r\nflush_all\r\n", FLUSH),
    (b"flush_all\r\nset b 0 0 1\r\n1\r\n", [*FLUSH, state(b"b", b"1")]),
    (b"flush_all 100\r\nflush_all\r\n", FLUSH),
    (b"flush_all 100\r\nflush_all 50\r\n", [flush_due(50)]),
]  # fmt: skip

META_CASES = [
    (b"ms b 2 T60 F4\r\nhi\r\n", [state(b"b", b"hi", flags=4, life_s=60)]),
    (b"ms a 2 ME\r\nhi\r\n", NOTHING),
    (b"ms b 2 ME\r\nhi\r\n", [state(b"b", b"hi")]),
    (b"ms a 1 MA\r\n!\r\n", [state(b"a", b"before!!", flags=3)]),
    (b"ms b 1 MA\r\n!\r\n", NOTHING),
    (b"ms a 1 MP\r\n!\r\n", [state(b"a", b"!before!", flags=3)]),
    (b"ms a 2 MR\r\nhi\r\n", [state(b"a", b"hi")]),
    (b"ms a 2 C5\r\nhi\r\n", NOTHING),
    (b"ms a 2 C5 I\r\nhi\r\n", [state(b"a", b"hi", marks=STALE)]),
    (b"ms a 2 E77\r\nhi\r\n", [state(b"a", b"hi", 77)]),
    (b"ms b 2 E77\r\nhi\r\n", [state(b"b", b"hi", 77)]),
    (b"ms YQ== 2 b\r\nhi\r\n", [state(b"a", b"hi", marks=KEY_BINARY)]),
    (b"ms YSA= 2 b\r\nhi\r\n", [state(b"a ", b"hi", marks=KEY_BINARY | UNSPEAKABLE)]),
    (b"mg a v t c\r\n", NOTHING),
    (b"mg b v\r\n", NOTHING),
    (b"mg a v T60\r\n", [state(b"a", b"before!", KEPT, flags=3, life_s=60)]),
    (b"mg b N60 v\r\n", [state(b"b", b"", life_s=60, marks=WIN_SENT)]),
    (b"mg b N60 E77 v\r\n", [state(b"b", b"", 77, life_s=60, marks=WIN_SENT)]),
    (b"mg s R60 v\r\n", [state(b"s", b"s", KEPT, life_s=90, marks=STALE | WIN_SENT)]),
    (b"mg s v\r\n", [state(b"s", b"s", KEPT, life_s=90, marks=STALE | WIN_SENT)]),
    (b"mg s v\r\nmg s v\r\n", [state(b"s", b"s", KEPT, life_s=90, marks=STALE | WIN_SENT)]),
    (b"ma n\r\n", [state(b"n", b"11")]),
    (b"ma n D20 MI\r\n", [state(b"n", b"30")]),
    (b"ma n MD\r\n", [state(b"n", b"9 ")]),
    (b"ma n E77\r\n", [state(b"n", b"11", 77)]),
    (b"ma n T60\r\n", [state(b"n", b"11", life_s=60)]),
    (b"ma b N60 J7\r\n", [state(b"b", b"7", life_s=60)]),
    (b"ma b\r\n", NOTHING),
    (b"md a\r\n", [gone(b"a")]),
    (b"md a q\r\n", [gone(b"a")]),
    (b"md b\r\n", [gone(b"b")]),
    (b"md a C5\r\n", NOTHING),
    (b"md a I\r\n", [state(b"a", b"before!", flags=3, marks=STALE)]),
    (b"md a I T60\r\n", [state(b"a", b"before!", flags=3, life_s=60, marks=STALE)]),
    (b"md a I E77\r\n", [state(b"a", b"before!", 77, flags=3, marks=STALE)]),
    (b"md a x\r\n", [state(b"a", b"", KEPT)]),
    (b"me a\r\nmn\r\n", NOTHING),
]  # fmt: skip

BINARY_CASES = [
    (binary.store(binary.SET, b"b", b"hi", flags=1, exptime=50),
     [state(b"b", b"hi", flags=1, life_s=50)]),
    (binary.store(binary.SETQ, b"a", b"hi"), [state(b"a", b"hi")]),
    (binary.store(binary.ADD, b"a", b"hi"), NOTHING),
    (binary.store(binary.ADDQ, b"b", b"hi"), [state(b"b", b"hi")]),
    (binary.store(binary.REPLACE, b"a", b"hi"), [state(b"a", b"hi")]),
    (binary.store(binary.SET, b"a", b"hi", cas=1), NOTHING),
    (binary.request(binary.APPEND, b"a", value=b"!"), [state(b"a", b"before!!", flags=3)]),
    (binary.request(binary.PREPENDQ, b"a", value=b"!"), [state(b"a", b"!before!", flags=3)]),
    (binary.count(binary.INCREMENT, b"n", 5), [state(b"n", b"15")]),
    (binary.count(binary.DECREMENTQ, b"n", 1), [state(b"n", b"9 ")]),
    (binary.count(binary.INCREMENT, b"b", 5, 7, 60), [state(b"b", b"7", life_s=60)]),
    (binary.count(binary.INCREMENT, b"b", 5, 7, 0xFFFFFFFF), NOTHING),
    (binary.touch(binary.TOUCH, b"a", 60), [state(b"a", b"before!", KEPT, flags=3, life_s=60)]),
    (binary.touch(binary.GAT, b"a", 60), [state(b"a", b"before!", KEPT, flags=3, life_s=60)]),
    (binary.touch(binary.GATKQ, b"a", 60), [state(b"a", b"before!", KEPT, flags=3, life_s=60)]),
    (binary.request(binary.DELETE, b"a"), [gone(b"a")]),
    (binary.request(binary.DELETEQ, b"b"), [gone(b"b")]),
    (binary.request(binary.DELETE, b"a", cas=5), NOTHING),
    (binary.store(binary.SET, b"a", bytes(2000)), [gone(b"a")]),
    (binary.request(binary.FLUSH), FLUSH),
    (binary.request(binary.FLUSHQ, extras=bytes((0, 0, 0, 100))), [flush_due(100)]),
    (binary.store(binary.SET, b"a b", b"hi"), [state(b"a b", b"hi", marks=UNSPEAKABLE)]),
    (binary.request(binary.GET, b"a") + binary.request(binary.NOOP), NOTHING),
]  # fmt: skip


@pytest.mark.parametrize(("request_", "wanted"), TEXT_CASES + META_CASES + BINARY_CASES)
def test_each_change_is_reported_once(request_, wanted):
    server = Server(**SMALL)
    server.do(BEFORE)
    cas_uniques = {item.key: item.cas_unique for item in server.cache.items()}
    server.take()
    before = server.cache.cas_unique
    Client(server.service).send(request_)
    now_s = int(server.clock.realtime())
    got: list[tuple[Any, ...]] = []
    for kind, *record in server.take():
        if kind == Record.STATE:
            key, value, client_flags, unix_end, cas_unique, version, marks = record
            assert before < version <= server.cache.cas_unique
            assert version % STEP == 5
            cas = KEPT if cas_unique == cas_uniques.get(key) else cas_unique
            if cas_unique == version:
                cas = NEW
            else:
                assert server.version(key) == version
            life_s = unix_end and unix_end - now_s
            got.append(("state", key, value, client_flags, life_s, cas, marks))
        elif kind == Record.GONE:
            assert before < record[1] <= server.cache.cas_unique
            assert server.changes.tombstones.get(record[0]) == record[1]
            got.append(gone(record[0]))
        elif kind == Record.FLUSH:
            assert before < record[0] == server.changes.barrier
            got.append(FLUSH[0])
        else:
            assert kind == Record.FLUSH_AT
            due_at = server.changes.flush_due_at
            wanted_at = due_at and due_at + server.changes.origin_s
            assert record == [server.changes.flush_due_version, wanted_at]
            assert before < record[0]
            got.append(flush_due(record[1] and record[1] - now_s))
    assert got == wanted
    assert not server.changes.pending
    assert server.take() == []
    server.cache.check()


class TestWhatIsNoNews:
    def test_what_expires(self):
        server = Server()
        server.do(b"set a 0 10 1\r\n1\r\nset b 0 10 1\r\n1\r\n")
        server.take()
        server.clock.advance(11)
        assert server.do(b"get a\r\n") == b"END\r\n"
        assert server.service.maintainer.step() is not None
        server.service.crawler.step()
        assert server.take() == []

    def test_what_is_evicted(self):
        server = Server(memory_limit_bytes=1 << 20, item_size_max_bytes=1 << 19)
        server.cache.slabs.limit_bytes = 1 << 20
        for number in range(40):
            server.do(b"set k%d 0 0 100000\r\n" % number + bytes(100_000) + b"\r\n")
        assert server.cache.item_count < 40
        records = server.take()
        # What was stored is sent though it was evicted meanwhile: the others may have room.
        assert [record[0] for record in records] == [Record.STATE] * 40
        assert {len(record[2]) for record in records} == {100_000}

    def test_what_is_taken_in(self):
        server, other = Server(), Server(tag=6)
        server.do(BEFORE, b"touch n 60\r\n")
        for record in server.take():
            assert other.changes.apply_state(record, other.changes.origin_s, relay=False)
        assert not other.changes.pending
        assert other.changes.apply_gone(b"a", server.cache.take_cas_unique(), relay=False)
        assert other.changes.apply_flush(server.cache.take_cas_unique(), relay=False)
        assert not other.changes.pending

    def test_unless_it_is_to_be_passed_on(self):
        server, other = Server(), Server(tag=6)
        server.do(b"set a 0 0 1\r\n1\r\n")
        (record,) = server.take()
        assert other.changes.apply_state(record, other.changes.origin_s, relay=True)
        assert other.take() == [record]
        version = server.cache.take_cas_unique()
        assert other.changes.apply_gone(b"a", version, relay=True)
        assert other.take() == [(Record.GONE, b"a", version)]
        version = server.cache.take_cas_unique()
        assert other.changes.apply_flush(version, relay=True)
        assert other.take() == [(Record.FLUSH, version)]

    @pytest.mark.parametrize("relay", [False, True])
    def test_a_deletion_of_before_makes_no_room(self, relay):
        """It is known where it comes from, and our floor must not rise by it."""
        other = Server(tag=6, backlog_bytes=4 * 3 * (TOMBSTONE_BYTES + 1))
        other.changes.tombstones.shared = False
        versions = [other.cache.take_cas_unique() for _ in range(5)]
        for key, version in zip([b"a", b"b", b"c", b"d", b"e"], versions, strict=True):
            assert other.changes.apply_gone(key, version, relay=relay, told_by="p")
        assert [key for key, _ in other.changes.tombstones.items()] == [b"a", b"b", b"c"]
        assert other.changes.tombstones.floor_for("p") == 0
        assert other.changes.tombstones.floor_for("q") == versions[-1]
        # One that is known is renewed, and what is to be passed on is so as it was.
        later = other.cache.take_cas_unique()
        assert other.changes.apply_gone(b"a", later, relay=relay, told_by="p")
        assert other.changes.tombstones.get(b"a") == later
        gone = dict(zip([b"a", b"b", b"c", b"d", b"e"], [later, *versions[1:]], strict=True))
        assert other.take() == [(Record.GONE, *each) for each in gone.items()] * relay
        assert not other.changes.exceptions.count
        other.changes.check()


class TestBatch:
    def test_it_is_ordinary_if_cas_uniques_tell_all(self):
        server = Server()
        server.do(b"set a 0 0 1\r\n1\r\ndelete b\r\n")
        assert server.changes.take_fresh()[2] is True
        server.do(b"touch a 60\r\n")
        assert server.changes.take_fresh()[2] is False
        server.do(b"set a 0 0 1\r\n1\r\nflush_all\r\n")
        assert server.changes.take_fresh()[2] is False
        server.do(b"set a 0 0 1\r\n1\r\n")
        assert server.changes.take_fresh()[2] is True

    def test_an_item_with_a_version_of_its_own_may_go_before_it_is_sent(self):
        server = Server()
        server.do(b"ms a 1 E77\r\n1\r\n")
        version = server.version(b"a")
        server.evict(b"a")
        server.changes.check()
        assert server.take() == [(Record.STATE, b"a", b"1", 0, 0, 77, version, 0)]
        assert not server.changes.exceptions.count

    @pytest.mark.parametrize("dropped", [False, True])
    def test_nor_is_anything_left_of_that_if_a_flush_comes_first(self, dropped):
        server = Server(backlog_bytes=0)
        server.do(b"ms a 1 E77\r\n1\r\nset b 0 0 1\r\n1\r\n")
        if dropped:
            server.take()
            confirmed = Confirmed()
            for gone in server.changes.drop_unconfirmed(confirmed, server.version(b"a")):
                server.changes.tell_dropped(gone, relay=True)
        else:
            server.evict(b"a")
        assert server.changes.exceptions.count == 1
        server.do(b"flush_all\r\n")
        server.changes.check()
        server.evict(b"b")
        assert not server.changes.exceptions.count

    @pytest.mark.parametrize("backlog_bytes", [0, 4 * (TOMBSTONE_BYTES + 1)])
    def test_a_deletion_is_sent_though_there_is_no_room_to_remember_it(self, backlog_bytes):
        server, other = Server(backlog_bytes=backlog_bytes), Server(tag=6)
        keys = [b"a", b"b", b"c"]
        for key in keys:
            server.do(b"set %s 0 0 1\r\n1\r\n" % key)
        for record in server.take():
            other.changes.apply_state(record, other.changes.origin_s, relay=False)
        for key in keys:
            server.do(b"delete %s\r\n" % key)
        for kind, key, version in server.take():
            assert kind == Record.GONE
            assert other.changes.apply_gone(key, version, relay=False)
        assert other.state() == {}

    def test_a_record_tells_how_things_are_now(self):
        server = Server()
        server.do(b"set a 1 60 2\r\nhi\r\n")
        (record,) = server.take()
        wire = b"".join(server.changes.record_of(b"a"))
        assert wire is not None
        assert list(records.decode_records(wire, 0)) == [record]
        server.do(b"touch a 70\r\n")
        (record,) = server.take()
        wire = b"".join(server.changes.record_of(b"a"))
        assert wire is not None
        assert list(records.decode_records(wire, 0)) == [record]
        server.do(b"delete a\r\n")
        assert b"".join(server.changes.record_of(b"a")) == records.encode_gone(
            b"a", server.changes.tombstones.get(b"a")
        )
        assert not server.changes.record_of(b"never")
        server.do(b"set a 1 60 2\r\nhi\r\n")
        (record,) = server.take()
        server.clock.advance(61)
        server.cache.tick()
        assert server.changes.record_of(b"a") == (records.encode_gone(b"a", record[6]),)

    def test_a_cas_unique_of_ones_own_is_a_change_like_others(self):
        server = Server()
        server.do(b"set a 0 0 1\r\n1\r\n")
        server.take()
        item = server.cache.linked(b"a")
        assert item is not None
        before = server.cache.cas_unique
        server.cache.set_cas_unique(item, 77)
        ((kind, _, _, _, _, cas_unique, version, _),) = server.take()
        assert (kind, cas_unique) == (Record.STATE, 77)
        assert before < version == server.version(b"a")


class TestWhoDoesNotLead:
    def test_a_deletion_is_for_another_node_to_do(self):
        server = Server()
        server.leads = False
        with pytest.raises(AssertionError, match="another one decides"):
            server.cache.drop(b"a")


# -- what is taken in --------------------------------------------------------------------------

KEYS = st.sampled_from([b"a", b"b", b"c"])
NOW_S = int(ManualClock().realtime())
BASE = version_at(NOW_S - 100, 0)


@st.composite
def histories(draw: st.DrawFn) -> list[tuple[Any, ...]]:
    """Records of one history: a version of its own for each."""
    entries: list[tuple[Any, ...]] = []
    for number in range(draw(st.integers(0, 14))):
        version = BASE + number * STEP + draw(st.integers(0, 4095))
        key = draw(KEYS)
        kind = draw(st.sampled_from([*"ssss", *"gg", "f"]))
        if kind == "g":
            entries.append((Record.GONE, key, version))
        elif kind == "f":
            entries.append((Record.FLUSH, version))
        else:
            end = draw(st.sampled_from([0, 0, NOW_S + 50, NOW_S + 60]))
            cas = draw(st.sampled_from([version, version, 77, version - STEP, FOREVER - 1]))
            flags = draw(st.sampled_from([0, 0, 9]))
            marks = draw(st.sampled_from([0, 0, STALE, STALE | WIN_SENT, KEY_BINARY]))
            value = draw(st.sampled_from([b"", b"1", b"x" * 700]))
            entries.append((Record.STATE, key, value, flags, end, cas, version, marks))
    return entries


def take_in(server: Server, entries: Iterable[tuple[Any, ...]]) -> None:
    for record in entries:
        apply(server, record)
        server.changes.check()
        server.cache.check()


def apply(server: Server, record: tuple[Any, ...]) -> bool:
    changes = server.changes
    if record[0] == Record.STATE:
        return changes.apply_state(record, changes.origin_s, relay=False)
    if record[0] == Record.GONE:
        return changes.apply_gone(record[1], record[2], relay=False)
    return changes.apply_flush(record[1], relay=False)


def encode(record: tuple[Any, ...]) -> bytes:
    if record[0] == Record.STATE:
        return encode_state(*record[1:])
    if record[0] == Record.GONE:
        return records.encode_gone(*record[1:])
    return records.encode_flush(record[1])


def all_of(server: Server) -> tuple[Any, ...]:
    changes = server.changes
    # What a flush covers says nothing any more, and is forgotten by and by.
    barrier = changes.barrier
    deleted = {key: version for key, version in changes.tombstones.items() if version >= barrier}
    return server.state(), deleted, barrier


class TestTakingIn:
    @given(histories(), st.randoms(use_true_random=False))
    def test_the_order_does_not_matter(self, entries, random):
        first, second = Server(**SMALL), Server(**SMALL)
        take_in(first, entries)
        random.shuffle(entries)
        take_in(second, entries)
        assert all_of(first) == all_of(second)

    @given(histories(), st.randoms(use_true_random=False))
    def test_nor_does_it_matter_how_often(self, entries, random):
        first, second = Server(**SMALL), Server(**SMALL)
        take_in(first, entries)
        again = [record for record in entries for _ in range(random.randrange(1, 4))]
        random.shuffle(again)
        take_in(second, again)
        assert all_of(first) == all_of(second)
        assert not any(apply(second, record) for record in entries)
        assert all_of(first) == all_of(second)

    @given(histories(), st.booleans(), st.randoms(use_true_random=False))
    def test_many_states_at_once_are_as_one_by_one(self, entries, logging, random):
        """What a follower does with a batch, and who merges with each record, is the same."""
        random.shuffle(entries)
        first, second = Server(**SMALL), Server(**SMALL)
        for server in (first, second):
            server.changes.logging = logging
        take_in(first, entries)
        payload = b"".join(map(encode, entries))
        position = 0
        while position < len(payload):
            position = second.changes.apply_states(
                payload, position, second.changes.origin_s, FOREVER
            )
            for rest in records.decode_records(payload, position)[:1]:
                apply(second, rest)
                position += len(encode(rest))
        assert all_of(first) == all_of(second)
        assert first.changes.sequence == second.changes.sequence
        assert list(first.changes.log) == list(second.changes.log)
        assert first.cache.cas_unique >= second.cache.cas_unique
        second.changes.check()
        second.cache.check()

    @given(histories())
    def test_the_latest_of_each_key_remains(self, entries):
        server = Server(**SMALL)
        take_in(server, entries)
        barrier = max([each[1] for each in entries if each[0] == Record.FLUSH], default=0)
        wanted = {}
        for record in entries:  # in the order of their versions
            if record[0] == Record.STATE and record[6] > barrier:
                wanted[record[1]] = record
            elif record[0] == Record.GONE:
                wanted.pop(record[1], None)
        assert {key: (each[0], each[4]) for key, each in server.state().items()} == {
            key: (record[2], record[6]) for key, record in wanted.items()
        }

    def test_marks_end_and_flags_come_over(self):
        server, other = Server(), Server(tag=6)
        server.do(b"ms a 2 T60 F9\r\nhi\r\nmd a I T50\r\nmg a v\r\nms YSA= 1 b E77\r\n1\r\n")
        for record in server.take():
            other.changes.apply_state(record, other.changes.origin_s, relay=False)
        assert other.state() == server.state()
        assert len(other.state()) == 2
        for each in (server, other):
            assert b" W" not in each.do(b"mg a s v c\r\n")  # the first client has won

    def test_our_own_cas_uniques_go_on(self):
        server = Server()
        before = server.cache.cas_unique
        record = (Record.STATE, b"a", b"1", 0, 0, FOREVER - 1, before + 9 * STEP, 0)
        assert apply(server, record)
        assert server.cache.cas_unique == before
        item = server.cache.linked(b"a")
        assert item is not None
        assert item.cas_unique == FOREVER - 1

    @pytest.mark.parametrize("skew_s", [-5000.0, -0.4, 0.0, 0.4, 5000.0])
    def test_clocks_that_differ_do_not_change_how_long_an_item_lives(self, skew_s):
        """Wall clocks are set as we go on; and each has started at another time."""
        server, other = Server(), Server(tag=6)
        server.clock.advance(7.3)
        server.clock._realtime_s += skew_s
        other.clock._realtime_s -= skew_s
        server.service.tick()
        other.service.tick()
        server.do(b"set a 0 60 1\r\n1\r\nset b 0 0 1\r\n1\r\n")
        for record in server.take():
            apply_from(other, record, server)
        first, second = server.cache.linked(b"a"), other.cache.linked(b"a")
        assert first is not None
        assert second is not None
        left_s = [each.expires_at - where.cache.now for each, where in
                  ((first, server), (second, other))]  # fmt: skip
        assert abs(left_s[0] - left_s[1]) <= 1
        unending = other.cache.linked(b"b")
        assert unending is not None
        assert unending.expires_at == 0

    def test_what_has_ended_by_our_clock_is_dead_on_arrival(self):
        server = Server()
        assert apply(server, (Record.STATE, b"a", b"1", 0, 5, BASE, BASE, 0))
        assert server.state() == {}
        assert not apply(server, (Record.STATE, b"a", b"0", 0, 0, BASE - 1, BASE - 1, 0))

    def test_what_finds_no_room_is_not_here_nor_is_what_it_replaced(self):
        server = Server(disable_evictions=True, **SMALL)
        assert apply(server, (Record.STATE, b"a", b"1", 0, 0, BASE, BASE, 0))
        version = BASE + STEP
        assert apply(server, (Record.STATE, b"a", bytes(2000), 0, 0, version + 1, version, 0))
        assert server.state() == {}
        server.changes.check()
        again = encode_state(b"b", bytes(2000), 0, 0, version + 1, version)
        assert server.changes.apply_states(again, 0, 0, FOREVER) == len(again)
        assert server.state() == {}
        server.changes.check()

    @pytest.mark.parametrize("cut", [1, 20, 40, 50])
    def test_a_state_that_is_cut_off_is_refused(self, cut):
        server = Server()
        payload = bytes(HEAD_BYTES) + encode_state(b"key", b"value " * 5, version=BASE)
        before = server.cache.cas_unique
        with pytest.raises(FrameError, match="cut off"):
            server.changes.apply_states(payload[: HEAD_BYTES + cut], HEAD_BYTES, 0, FOREVER)
        assert server.cache.cas_unique == before
        server.do(b"set a 0 0 1\r\n1\r\n")
        assert len(server.take()) == 1  # what happens here is noticed again


def apply_from(server: Server, record: tuple[Any, ...], sender: Server) -> None:
    """Take in what another server sends, whose monotonic clock is another one."""
    ours, theirs = server.clock.monotonic(), sender.clock.monotonic()
    origin_s = server.changes.origin_by(sender.changes.item_time(theirs) - ours)
    assert server.changes.apply_state(record, origin_s, relay=False)


# -- what others may lack ----------------------------------------------------------------------


class TestLog:
    def server(self, entries: int = 3) -> Server:
        """A server whose log has room for so many keys of one byte."""
        room = entries * (LOG_ENTRY_BYTES + 1)
        return Server(backlog_bytes=(room * 4 + 2) // 3)

    def write(self, server: Server, *keys: bytes) -> None:
        for key in keys:
            server.do(b"set %s 0 0 1\r\n1\r\n" % key)
            server.take()

    def missed(self, server: Server, sequence: int) -> list[bytes]:
        keys = server.changes.since(sequence)
        assert keys is not None
        return sorted(keys)

    def test_while_all_are_there_nothing_is_kept(self):
        server = self.server()
        self.write(server, b"a", b"b")
        assert server.changes.sequence == 2
        assert not server.changes.log
        assert self.missed(server, 2) == []
        assert server.changes.since(1) is None

    def test_it_tells_what_changed_since(self):
        server = self.server()
        self.write(server, b"x")
        server.changes.begin_log([], 1)
        self.write(server, b"a", b"b", b"c")
        assert self.missed(server, 1) == [b"a", b"b", b"c"]
        assert self.missed(server, 3) == [b"c"]
        assert self.missed(server, 4) == []
        assert server.changes.since(0) is None

    def test_what_was_on_its_way_counts(self):
        server = self.server()
        self.write(server, b"x", b"y")
        server.changes.begin_log([b"y"], 1)
        self.write(server, b"a")
        assert self.missed(server, 1) == [b"a", b"y"]
        assert self.missed(server, 2) == [b"a"]

    def test_a_key_that_changed_again_is_told_once(self):
        server = self.server()
        server.changes.begin_log([], 0)
        self.write(server, b"a", b"b", b"a")
        assert self.missed(server, 0) == [b"a", b"b"]
        assert self.missed(server, 2) == [b"a"]

    def test_it_is_bounded(self):
        server = self.server(entries=3)
        server.changes.begin_log([], 0)
        self.write(server, b"a", b"b", b"c", b"d")
        assert server.changes.since(0) is None
        assert server.changes.floor == 1
        assert self.missed(server, 1) == [b"b", b"c", b"d"]
        server.changes.check()

    @pytest.mark.parametrize("how", ["falls out", "ends"])
    def test_if_what_is_still_to_come_is_gone_all_is_told(self, how):
        server = self.server(entries=4)
        server.changes.begin_log([], 0)
        self.write(server, b"a", b"b", b"c", b"d")
        keys = server.changes.since(0)
        assert keys is not None
        told = [next(keys)]
        if how == "ends":
            server.changes.end_log()
        else:
            self.write(server, b"e")
        assert {*told, *keys} >= {b"a", b"b", b"c", b"d"}

    def test_it_knows_what_came_from_elsewhere(self):
        server = self.server()
        server.changes.begin_log([], 0)
        version = server.cache.cas_unique + STEP
        apply(server, (Record.STATE, b"a", b"1", 0, 0, version, version, 0))
        apply(server, (Record.GONE, b"b", version))
        payload = encode_state(b"c", b"1", 0, 0, version, version)
        server.changes.apply_states(payload, 0, 0, FOREVER)
        assert self.missed(server, 0) == [b"a", b"b", b"c"]

    def test_it_ends_when_all_are_back(self):
        server = self.server()
        server.changes.begin_log([], 0)
        self.write(server, b"a")
        server.changes.end_log()
        assert not server.changes.log
        assert server.changes.since(0) is None
        self.write(server, b"b")
        server.changes.check()

    def test_a_second_absence_does_not_begin_it_anew(self):
        server = self.server()
        server.changes.begin_log([], 0)
        self.write(server, b"a")
        server.changes.begin_log([b"x"], 1)
        assert self.missed(server, 0) == [b"a"]


class TestTraces:
    """A peer that is away may hold an older value, which must not come back."""

    def server(self) -> Server:
        server = Server()
        server.do(b"set old 0 0 1\r\n1\r\n")
        server.changes.departed_version = server.cache.cas_unique
        server.do(b"set new 0 10 1\r\n1\r\n")
        server.take()
        return server

    def test_what_changed_meanwhile_leaves_one_however_it_ends(self):
        server = self.server()
        version = server.version(b"new")
        server.clock.advance(11)
        server.do(b"get new\r\n")
        assert server.changes.tombstones.get(b"new") == version - 1
        assert not apply(server, (Record.STATE, b"new", b"0", 0, 0, BASE, BASE, 0))

    def test_the_same_value_may_come_back(self):
        server = self.server()
        version = server.version(b"new")
        server.evict(b"new")
        # Nor does an eviction travel: what is told of it makes nobody drop the same item.
        assert server.changes.record_of(b"new") == (records.encode_gone(b"new", version - 1),)
        assert apply(server, (Record.STATE, b"new", b"1", 0, 0, version, version, 0))
        assert server.changes.tombstones.get(b"new") == 0

    def test_what_the_peer_knows_leaves_none(self):
        server = self.server()
        server.evict(b"old")
        assert len(server.changes.tombstones) == 0

    def test_nor_does_anything_while_all_are_there(self):
        server = self.server()
        server.changes.departed_version = FOREVER
        server.evict(b"new")
        assert len(server.changes.tombstones) == 0

    def test_what_makes_room_for_what_comes_from_elsewhere_leaves_one_too(self):
        server = Server(memory_limit_bytes=1 << 20, item_size_max_bytes=1 << 19)
        server.cache.slabs.limit_bytes = 1 << 20
        server.changes.departed_version = server.cache.cas_unique
        for number in range(8):
            server.do(b"set k%d 0 0 100000\r\n" % number + bytes(100_000) + b"\r\n")
        server.take()
        kept = set(server.state())
        for number in range(8):
            version = server.cache.cas_unique + (1 + number) * STEP
            apply(
                server, (Record.STATE, b"x%d" % number, bytes(100_000), 0, 0, version, version, 0)
            )
        evicted = kept - set(server.state())
        assert evicted
        for key in evicted:
            assert not apply(server, (Record.STATE, key, b"0", 0, 0, BASE, BASE, 0))


def drop(server: Server, confirmed: Confirmed, version: int) -> Iterator[dict[bytes, int]]:
    return server.changes.drop_unconfirmed(confirmed, version)


class TestTakingBack:
    def test_what_came_to_nothing_leaves_no_trace(self):
        server = Server()
        server.do(BEFORE, b"touch a 60\r\ndelete n\r\n")
        server.changes.forget([b"a", b"n", b"s", b"never"])
        assert all_of(server) == ({}, {}, 0)
        assert server.take() == []
        # So what another node has counts, though it is older.
        assert apply(server, (Record.STATE, b"a", b"1", 0, 0, BASE, BASE, 0))

    def test_what_goes_for_the_word_of_another_makes_no_room(self):
        """Who is away lacks nothing by that: were the floor to rise, it would lose items."""
        server = Server(backlog_bytes=4 * 3 * (TOMBSTONE_BYTES + 1))
        tombstones = server.changes.tombstones
        tombstones.shared = False
        server.changes.departed_version = server.cache.cas_unique
        server.do(b"set a 0 0 1\r\n1\r\nset b 0 0 1\r\n1\r\nset c 0 0 1\r\n1\r\n")
        version = server.cache.take_cas_unique()
        server.take()
        for key in (b"p", b"q", b"r"):
            server.changes.apply_gone(key, server.cache.take_cas_unique(), relay=False, told_by="p")
        server.changes.forget([b"a"])
        server.changes.apply_gone(b"b", version, relay=False, told_by="p")
        assert server.state().keys() == {b"c"}
        assert [key for key, _ in tombstones.items()] == [b"p", b"q", b"r"]
        assert tombstones.floor_for("p") == 0
        server.changes.check()
        # Nor does what is replaced for it.
        later = server.cache.take_cas_unique()
        apply(server, (Record.STATE, b"c", b"2", 0, 0, later, later, 0))
        payload = encode_state(b"c", b"3", cas_unique=later + STEP, version=later + STEP)
        server.changes.apply_states(payload, 0, 0, FOREVER)
        assert server.state()[b"c"][0] == b"3"
        assert [key for key, _ in tombstones.items()] == [b"p", b"q", b"r"]
        assert tombstones.floor_for("p") == 0
        server.changes.check()
        server.evict(b"c")  # nobody has said that
        assert tombstones.get(b"c")

    def test_all_may_be_forgotten(self):
        server = Server()
        server.do(BEFORE, b"touch a 60\r\n")
        server.take()
        server.changes.begin_log([b"a"], 0)
        server.do(b"delete n\r\nset b 0 0 1\r\n1\r\nflush_all 100\r\nms a 1 E77\r\n1\r\n")
        server.changes.tombstones.shared = False
        server.changes.forget_all()
        assert all_of(server)[:2] == ({}, {})
        assert not server.changes.tombstones.shared  # who is away is so still
        assert not server.changes.pending
        assert not server.changes.log
        assert not server.changes.exceptions.count
        server.changes.check()

    @pytest.mark.parametrize("how", ["end_log", "forget_all"])
    def test_what_is_given_up_is_freed_by_and_by(self, how, monkeypatch):
        monkeypatch.setattr(versions, "DISPOSED_MAX", 10)
        server = Server()
        server.changes.tombstones.shared = False
        server.changes.begin_log([], 0)
        for request in (b"set a%d 0 0 0\r\n\r\n", b"touch a%d 9\r\n", b"delete b%d\r\n"):
            server.do(*[request % number for number in range(100)])
            server.take()
        log, tombstones = server.changes.log, server.changes.tombstones.versions
        getattr(server.changes, how)()
        assert (len(log), len(tombstones)) == (200, 100)
        times = 1
        while server.changes.discarded.dispose():
            times += 1
        # Of the keys, of those in the log, and the deletions: ten at a time.
        assert times == (21 if how == "end_log" else 41)
        assert not log
        assert len(tombstones) == (100 if how == "end_log" else 0)

    def test_what_a_full_copy_did_not_name_is_dropped(self):
        server = Server()
        server.do(b"set a 0 0 1\r\n1\r\nset b 0 0 1\r\n1\r\n")
        version = server.cache.cas_unique
        server.do(b"set c 0 0 1\r\n1\r\n")
        server.take()
        confirmed = Confirmed()
        confirmed.add(b"a")
        dropped = {
            key: known for each in drop(server, confirmed, version) for key, known in each.items()
        }
        assert dropped == {b"b": version}
        assert set(server.state()) == {b"a", b"c"}
        assert server.take() == []
        said = server.changes.tell_dropped(dropped, relay=False)
        assert list(records.decode_records(said, 0)) == [(Record.GONE, b"b", version)]
        assert server.take() == []

    @pytest.mark.parametrize("backlog_bytes", [1 << 20, 4 * (TOMBSTONE_BYTES + 1)])
    def test_who_holds_it_still_is_told_with_all_others(self, backlog_bytes):
        server, other = Server(backlog_bytes=backlog_bytes), Server(tag=6)
        server.do(b"set a 0 0 1\r\n1\r\nset b 0 0 1\r\n1\r\nset c 0 0 1\r\n1\r\n")
        for record in server.take():
            apply(other, record)
        for each in drop(server, Confirmed(), server.cache.cas_unique):
            assert server.changes.tell_dropped(each, relay=True) == b""
        for record in server.take():
            assert record[0] == Record.GONE
            apply(other, record)
        assert other.state() == {}
        server.changes.check()

    def test_a_bounded_part_of_it_at_a_time_and_what_changes_meanwhile_stays(self, monkeypatch):
        monkeypatch.setattr("pymcd.replication.changes.DROP_ITEMS", 3)
        server = Server()
        for number in range(1000):
            server.do(b"set k%d 0 0 1\r\n1\r\n" % number)
        server.take()
        version = server.cache.cas_unique
        dropping = drop(server, Confirmed(), version)
        sizes, changed = [], set()
        for pieces in dropping:
            sizes.append(len(pieces))
            for key in list(server.state())[-2:]:
                server.do(b"set %b 0 0 1\r\n2\r\n" % key if len(sizes) % 2 else
                          b"delete %b\r\nset %b 0 0 2\r\n22\r\n" % (key, key))  # fmt: skip
                changed.add(key)
            server.changes.check()
        assert max(sizes) == 3
        assert 0 < len(changed) == 1000 - sum(sizes)
        assert set(server.state()) == changed


# -- in doubt --------------------------------------------------------------------------------


@pytest.mark.parametrize("logging", [False, True])
@pytest.mark.parametrize(
    "requests",
    [
        b"set k 0 0 1\r\n1\r\nset j 0 0 1\r\n1\r\ndelete k\r\n",
        b"set k 0 0 1\r\n1\r\nappend k 0 0 1\r\n2\r\nms m 1 E77\r\n1\r\nmd m I E78\r\n",
        b"set k 0 0 1\r\n1\r\nflush_all\r\nset j 0 0 1\r\n1\r\nflush_all 100\r\n",
    ],
)
def test_what_is_in_doubt_is_told_to_nobody_and_needs_no_memory(monkeypatch, requests, logging):
    def no_memory(*arguments: Any) -> bytes:
        raise MemoryError

    told, doubted = Server(backlog_bytes=1 << 20), Server(backlog_bytes=1 << 20)
    for server in told, doubted:
        server.changes.logging = logging
        server.do(requests)
    told.changes.take_fresh()
    told.changes.take_alterations({})
    with monkeypatch.context() as patch:
        for name in ("encode_gone", "encode_flush"):
            patch.setattr(records, name, no_memory)
        patch.setattr("pymcd.replication.changes.pack_state", no_memory)
        doubted.changes.doubt([b"k"], FOREVER)
    assert not doubted.changes.pending
    assert list(doubted.changes.in_doubt) == [b"k"]
    for name in ("sequence", "flush_sequence", "fresh_flush", "fresh_flush_due", "fresh"):
        assert getattr(doubted.changes, name) == getattr(told.changes, name), name
    assert doubted.changes.exceptions.count == told.changes.exceptions.count
    assert doubted.changes._alterations == told.changes._alterations == {}
    doubted.changes.check()
