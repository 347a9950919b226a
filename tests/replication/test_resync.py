"""Resync: what is still to be sent to a peer, in which slices, and what it is to confirm."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pymcd.replication import gate, peer, records, resync
from pymcd.replication.records import Record, decode_records
from pymcd.replication.resync import SLICE_BYTES, SLICE_ITEMS, Resync
from pymcd.store.cache import TABLES
from tests.replication.helpers import Guest, Host, make_group

#: What a peer acknowledged of our log, what it asks for, whether it needs everything.
Begin = tuple[int, list[bytes], bool]
BEGINS: st.SearchStrategy[Begin] = st.tuples(
    st.integers(-1, 9), st.lists(st.sampled_from([b"a", b"b", b"x"])), st.booleans()
)


def host_with(keys: list[bytes], size: int = 1) -> Host:
    """Return a server that holds some items."""
    host = make_group("a")["a"]
    guest = Guest(host)
    for key in keys:
        assert (
            guest.ask(b"set %s 0 0 %d\r\n" % (key, size) + bytes(size) + b"\r\n") == b"STORED\r\n"
        )
    return host


def logged(host: Host, *commands: bytes) -> None:
    """Have things change while somebody is away who knew all there was so far."""
    changes = host.changes
    changes.begin_log([], changes.sequence)
    changes.departed_version = host.cache.cas_unique
    for command in commands:
        Guest(host).ask(command)


def sent(resync: Resync, host: Host) -> list[bytes]:
    """Send all that is to be sent; return the keys."""
    keys = []
    while resync.under_way:
        payload = b"".join(resync.next_slice(host.changes))
        keys += [record[1] for record in records.decode_records(payload, 0)]
    return keys


class TestWhatIsSent:
    def test_all_to_who_knows_nothing(self):
        host = host_with([b"a", b"b", b"c"])
        Guest(host).ask(b"delete b\r\n")
        resync = Resync()
        assert resync.begin(host.changes, -1, [], whole=False)
        assert resync.mode == "sending_full"
        assert sorted(sent(resync, host)) == [b"a", b"b", b"c"]  # that b is gone, too

    def test_all_to_who_asks_for_it(self):
        host = host_with([b"a", b"b"])
        resync = Resync()
        assert resync.begin(host.changes, host.changes.sequence, [], whole=True)
        assert sorted(sent(resync, host)) == [b"a", b"b"]

    def test_what_it_missed_to_who_was_away(self):
        host = host_with([b"a", b"b", b"c"])
        known = host.changes.sequence
        logged(host, b"set b 0 0 1\r\n2\r\n", b"delete c\r\n", b"set d 0 0 1\r\n1\r\n")
        resync = Resync()
        assert not resync.begin(host.changes, known, [], whole=False)
        assert resync.mode == "sending_partial"
        assert sorted(sent(resync, host)) == [b"b", b"c", b"d"]

    def test_all_to_who_was_away_for_too_long(self):
        host = host_with([b"a", b"b"])
        logged(host, b"set b 0 0 1\r\n2\r\n")
        host.changes.floor = host.changes.sequence
        resync = Resync()
        assert resync.begin(host.changes, host.changes.sequence - 1, [], whole=False)
        assert sorted(sent(resync, host)) == [b"a", b"b"]

    def test_what_it_wants_comes_first(self):
        host = host_with([b"a", b"b", b"c"])
        resync = Resync()
        resync.begin(host.changes, host.changes.sequence, [b"c", b"nothing", b"a"], whole=False)
        assert sent(resync, host) == [b"c", b"a"]

    @pytest.mark.parametrize("whole", [True, False])
    def test_what_it_wants_is_sent_once(self, whole):
        host = host_with([b"a", b"b", b"c"])
        known = host.changes.sequence
        logged(host, b"set b 0 0 1\r\n2\r\n", b"set c 0 0 1\r\n2\r\n")
        resync = Resync()
        resync.begin(host.changes, known, [b"c", b"a"], whole=whole)
        assert sent(resync, host) == [b"c", b"a", b"b"]

    @pytest.mark.parametrize("whole", [True, False])
    def test_as_it_is_when_it_is_sent(self, whole):
        host = host_with([b"a"])
        resync = Resync()
        resync.begin(host.changes, host.changes.sequence, [b"a"], whole=whole)
        Guest(host).ask(b"set a 0 0 1\r\n2\r\n")
        (_, *record) = resync.next_slice(host.changes)
        assert record[:2] == [b"a", b"2"]

    def test_what_ended_meanwhile_is_not(self):
        host = host_with([b"a", b"b"])
        resync = Resync()
        resync.begin(host.changes, host.changes.sequence, [b"a", b"b"], whole=False)
        host.changes.forget([b"a"])
        assert sent(resync, host) == [b"b"]


class TestSlices:
    def slices(self, host: Host) -> list[list[bytes]]:
        resync = Resync()
        resync.begin(host.changes, -1, [], whole=True)
        found = []
        while resync.under_way:
            pieces = resync.next_slice(host.changes)
            found.append([record[1] for record in decode_records(b"".join(pieces), 0)])
        return [each for each in found if each]

    def test_of_so_many_items(self):
        host = host_with([b"k%d" % number for number in range(SLICE_ITEMS + 1)])
        assert [len(each) for each in self.slices(host)] == [SLICE_ITEMS, 1]

    def test_of_so_many_bytes(self):
        host = host_with([b"k%d" % number for number in range(7)], SLICE_BYTES // 3)
        sizes = [len(each) for each in self.slices(host)]
        assert sizes == [3, 3, 1]

    def test_one_item_may_be_larger(self):
        host = host_with([b"a", b"b"], SLICE_BYTES * 2)
        assert [len(each) for each in self.slices(host)] == [1, 1]


class TestBehind:
    def test_what_changes_while_it_is_slow_is_sent_later_and_once(self):
        host = host_with([b"a", b"b", b"c"])
        resync = Resync()
        assert resync.fall_behind([b"a", b"b"], 10)
        assert resync.fall_behind([b"b", b"c"], 10)
        assert resync.under_way
        assert sorted(sent(resync, host)) == [b"a", b"b", b"c"]

    def test_too_much_of_it_is_forgotten_and_all_begins_anew(self):
        resync = Resync()
        assert resync.fall_behind([b"a", b"b"], 2)
        assert not resync.fall_behind([b"c"], 2)
        assert not resync.behind

    @given(BEGINS, st.lists(st.sampled_from(["slice", *"abcdef"]), max_size=12))
    def test_nothing_is_missing_in_the_end(self, begin: Begin, events: list[str]):
        """Whatever is set while it is sent: the peer has the latest of each key."""
        acked, wants, whole = begin
        host = host_with([b"a", b"b", b"c"])
        logged(host)
        start = host.changes.sequence
        resync = Resync()
        resync.begin(host.changes, min(acked, start), wants, whole=whole)
        latest: dict[bytes, bytes] = {}
        peer: dict[bytes, bytes] = {}
        number = 0

        def take(pieces: list[bytes]) -> None:
            for record in records.decode_records(b"".join(pieces), 0):
                assert record[0] == Record.STATE
                peer[record[1]] = record[2]

        for event in events:
            if event == "slice":
                take(resync.next_slice(host.changes))
                continue
            number += 1
            key = event.encode()
            latest[key] = b"%02d" % number
            Guest(host).ask(b"set %s 0 0 2\r\n%s\r\n" % (key, latest[key]))
            assert resync.fall_behind([key], 10)
        while resync.under_way:
            take(resync.next_slice(host.changes))
        assert {key: peer[key] for key in latest} == latest
        if whole or acked < 0:
            assert set(peer) >= {b"a", b"b", b"c"}


class TestConfirming:
    def test_who_must_not_merge_is_to_confirm_everything(self):
        resync = Resync()
        resync.expect_all(17)
        assert resync.replace_up_to == 17
        assert resync.confirmed is not None
        keys = {b"k%d" % number for number in range(1000)}
        for key in keys:
            resync.confirmed.add(key)
        for _ in range(2):
            of_tables = [resync.confirmed.take(number) for number in range(TABLES)]
            assert sum(map(len, of_tables)) == len(keys)
            assert set().union(*of_tables) == keys
            keys = set()  # they were taken for good


def test_what_a_peer_asks_for_it_says_nothing_of():
    """It is in doubt there, which is no reason to drop it here."""
    resync = Resync()
    resync.expect_all(17, [b"k", b"l"])
    assert resync.confirmed is not None
    taken = [resync.confirmed.take(number) for number in range(TABLES)]
    assert set().union(*taken) == {b"k", b"l"}


def test_who_is_lost_while_it_gets_all_is_not_taken_for_one_that_had_it(monkeypatch):
    """What it was behind with was too much, so it is to get everything; then it is lost."""
    for module in (gate, resync, peer):
        for name in ("QUEUE_BYTES", "WINDOW_BYTES"):
            if hasattr(module, name):
                monkeypatch.setattr(module, name, 500)
    monkeypatch.setattr(gate, "BATCH_MAX", 1)
    group = make_group(replication_ack="async", replication_queue=8)
    a, b = group["a"], group["b"]
    wire = group.wires[0]
    group.warm()
    wire.stall(b)
    guest = Guest(a)
    for number in range(60):
        guest.feed(b"set k%d 0 0 3\r\nnew\r\n" % number)
        group.settle()
    assert a.peer("b").in_view
    assert a.peer("b").resync.todo is not None
    wire.cut()
    group.advance(1.0)
    assert a.node.role == "alone"
    assert len(b.values()) < 60
    group.link("a", "b")
    group.advance(3.0)
    group.check_equal()
    assert len(b.values()) == 60


@pytest.mark.parametrize("count", [45, 60], ids=["some are left", "none is left"])
def test_who_is_behind_in_sync_has_all_when_the_last_slice_is_acknowledged(count, monkeypatch):
    """Be it that nothing was left for that one: the one before was full."""
    for module in (gate, resync, peer):
        for name in ("QUEUE_BYTES", "WINDOW_BYTES"):
            if hasattr(module, name):
                monkeypatch.setattr(module, name, 500)
    monkeypatch.setattr(gate, "BATCH_MAX", 1)
    monkeypatch.setattr(resync, "SLICE_ITEMS", 10)
    group = make_group(replication_ack="async", replication_queue=8)
    a, b = group["a"], group["b"]
    wire = group.wires[0]
    group.warm()
    wire.stall(b)
    guest = Guest(a)
    for number in range(count):
        guest.feed(b"set k%d 0 0 3\r\nnew\r\n" % number)
        group.settle()
    assert a.peer("b").resync.todo is not None
    wire.resume()
    group.advance(1.0)
    assert a.peer("b").resync.mode == "in_sync"
    assert a.peer("b").acked_sequence == a.changes.sequence
    assert a.rows["peer_0:lag_items"] == 0
    assert len(b.values()) == count
    group.check_equal()


def test_who_was_behind_in_sync_and_is_lost_lacks_what_the_last_slices_were_about(monkeypatch):
    for module in (gate, resync, peer):
        if hasattr(module, "QUEUE_BYTES"):
            monkeypatch.setattr(module, "QUEUE_BYTES", 500)
    monkeypatch.setattr(gate, "BATCH_MAX", 1)
    group = make_group(replication_ack="async")
    a, b = group["a"], group["b"]
    wire = group.wires[0]
    group.warm()
    wire.stall(b)
    guest = Guest(a)
    for number in range(45):
        guest.feed(b"set k%d 0 0 3\r\nnew\r\n" % number)
        group.settle()
    assert a.peer("b").resync.behind
    assert a.peer("b").resync.todo is None
    wire.stall(a)
    group.settle()
    assert not a.peer("b").resync.under_way
    wire.cut()
    group.advance(1.0)
    group.link("a", "b")
    group.advance(1.0)
    assert len(b.values()) == 45
    group.check_equal()
