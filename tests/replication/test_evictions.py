"""What makes room for something else is gone here, and nowhere else; and nothing older returns."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from pymcd.replication import gate, peer, resync
from pymcd.replication.peer import Phase
from pymcd.replication.versions import FOREVER, TAG_MASK, TOMBSTONE_BYTES

from .helpers import Group, Guest, Wire, address_of, make_group

if TYPE_CHECKING:
    from .helpers import Host

STORED = b"STORED\r\n"
VALUE = bytes(100)
LARGE = bytes(100_000)


def store(guest: Guest, key: bytes, value: bytes) -> None:
    assert guest.ask(b"set %b 0 0 %d\r\n%b\r\n" % (key, len(value), value)) == STORED


def evict(host: Host, key: bytes) -> None:
    item = host.cache.linked(key)
    assert item is not None
    host.cache.unlink(item)


class TestToldLater:
    """What was evicted before it was told takes what it replaced with it."""

    @pytest.fixture(autouse=True)
    def tiny_queues(self, monkeypatch: pytest.MonkeyPatch) -> None:
        for module in (gate, resync, peer):
            for name in ("QUEUE_BYTES", "WINDOW_BYTES"):
                if hasattr(module, name):
                    monkeypatch.setattr(module, name, 500)
        monkeypatch.setattr(gate, "BATCH_MAX", 1)

    def test_to_who_is_brought_in_sync_for_the_first_time(self):
        group, guest, wire = first_copy()
        a, b = group["a"], group["b"]
        wire.stall(b)
        for number in range(30):
            store(guest, b"n%d" % number, VALUE)
        store(guest, b"k", b"2")
        assert b"k" in a.peer("b").resync.behind
        evict(a, b"k")
        wire.resume()
        group.advance(2.0)
        assert b.node.role == "follower"
        assert b"k" not in b.values()
        group.check_equal()

    @pytest.mark.parametrize("gone_at_once", [False, True])
    def test_to_who_follows_and_is_not_waited_for(self, gone_at_once):
        group = make_group(replication_ack="async")
        a, b = group["a"], group["b"]
        group.warm()
        guest = Guest(a)
        store(guest, b"k", b"1")
        wire = group.wire("a", "b")
        wire.stall(b)
        number = 0
        channel = a.peer("b").channel
        assert channel is not None
        while channel.unacked_bytes <= gate.QUEUE_BYTES:
            number += 1
            store(guest, b"n%d" % number, VALUE)
        assert not a.peer("b").resync.behind
        guest.feed(b"set k 0 0 1\r\n2\r\n")
        if gone_at_once:
            evict(a, b"k")
        group.settle()
        assert guest.take() == STORED
        assert b"k" in a.peer("b").resync.behind
        if not gone_at_once:
            evict(a, b"k")
        group.check()
        wire.resume()
        group.settle()
        assert b.node.role == "follower"
        assert b"k" not in b.values()
        group.check_equal()
        # As soon as it knows all, what goes leaves no trace any more.
        assert a.changes.departed_version == FOREVER
        store(guest, b"k", b"3")
        evict(a, b"k")
        assert not a.changes.tombstones.get(b"k")
        group.settle()
        assert b.values()[b"k"] == b"3"


@pytest.mark.parametrize("cut", ["before", "after"])
def test_what_is_evicted_does_not_return_with_who_got_it_in_a_copy_that_broke_off(cut):
    group, guest, wire = first_copy()
    a, b = group["a"], group["b"]
    assert 0 < a.changes.departed_version < FOREVER  # what was there before needs no trace
    wire.stall(a)
    if cut == "before":
        wire.cut()
        group.advance(4.0)
    store(guest, b"k", b"2")
    evict(a, b"k")
    if cut == "after":
        wire.cut()
        group.advance(4.0)
    group.check()
    group.link("a", "b")
    group.advance(2.0)
    assert b.node.role == "follower"
    assert b"k" not in b.values()
    assert a.changes.departed_version == FOREVER


@pytest.mark.parametrize("restarted", "ab")
def test_nor_does_what_it_replaced_with_who_had_that_before_such_a_copy(restarted):
    group = make_group(sync_timeout_s=1)
    store(Guest(group["a"]), b"k", b"old")
    group.warm()
    group.wire("a", "b").cut()
    group.advance(1.0)
    group[restarted].stop()
    group[restarted].start()
    group.advance(2.0)
    assert [host.node.role for host in group.hosts.values()] == ["alone", "alone"]
    store(Guest(group[restarted]), b"k", b"new")
    wire = Wire(group["a"], group["b"])
    peers = [host.node.view.peers for host in group.hosts.values()]
    while Phase.HOSTING not in {peer.phase for each in peers for peer in each.values()}:
        for act in (group["a"].turn, group["b"].turn, wire.carry):
            act()
    wire.cut()
    group.advance(4.0)
    evict(group[restarted], b"k")
    group.check()
    group.link("a", "b")
    group.advance(4.0)
    assert {host.node.role for host in group.hosts.values()} == {"coordinator", "follower"}
    assert [host.values() for host in group.hosts.values()] == [{}, {}]
    group.check_equal()


def first_copy() -> tuple[Group, Guest, Wire]:
    """Return two servers of which one has got `k` from the other, in a copy that goes on."""
    group = Group("ab")
    a, b = group["a"], group["b"]
    a.node.go_alone()
    guest = Guest(a)
    store(guest, b"k", b"1")
    wire = Wire(a, b)
    while not b.values():
        for act in (a.turn, b.turn, wire.carry):
            act()
    assert not a.peer("b").in_view
    assert b.values() == {b"k": b"1"}
    return group, guest, wire


def unequal_pair(small: str, leader: str) -> Group:
    """Return two servers in sync, of which one has little room."""
    group = Group("")
    for name, other in ("ab", "ba"):
        memory_bytes = 1 << 20 if name == small else 1 << 26
        group.add(
            name,
            peers=(address_of(other),),
            memory_limit_bytes=memory_bytes,
            item_size_max_bytes=1 << 19,
            replication_backlog_bytes=4 * 3 * (TOMBSTONE_BYTES + 3),
        )
        group[name].cache.slabs.limit_bytes = memory_bytes
    group[leader].node.go_alone()
    group.link("a", "b")
    group.advance(1.0)
    assert group[leader].node.role == "coordinator"
    return group


@pytest.mark.parametrize("leader", "ab")
def test_who_has_no_room_for_what_it_is_told_deletes_nothing_of_that_elsewhere(leader):
    """It evicts one thing it is told of for the next, more than it has room for traces of."""
    group = unequal_pair("b", leader)
    a, b = group["a"], group["b"]
    group.wire("a", "b").cut()
    group.advance(4.0)
    guest = Guest(a)
    for number in range(40):
        store(guest, b"k%d" % number, LARGE)
    group.link("a", "b")
    group.advance(4.0)
    assert {a.node.role, b.node.role} == {"coordinator", "follower"}
    assert len(a.values()) == 40
    assert 5 < len(b.values()) < 15


def test_nor_does_the_trace_of_what_another_one_wrote_make_room_among_ours():
    group = unequal_pair("b", "a")
    b = group["b"]
    changes = b.changes
    group.wire("a", "b").cut()
    group.advance(4.0)
    assert changes.departed_version < FOREVER
    assert changes.writers[group["a"].changes.tag] == "a"
    for number in range(10):
        version = changes.cache.take_cas_unique() & ~TAG_MASK | group["a"].changes.tag
        changes.apply_state((0, b"k%d" % number, b"1", 0, 0, version, version, 0), 0, relay=False)
        evict(b, b"k%d" % number)
    assert changes.tombstones.floor_for("a") == 0
    assert changes.tombstones.floor_for("c") > 0
    store(Guest(b), b"k", b"2")  # but it cannot know what we write
    evict(b, b"k")
    assert changes.tombstones.get(b"k")


def test_two_with_one_tag_know_who_writes_what():
    group = Group("ab")
    for host in group.hosts.values():
        host.changes.tag = 7
    group.link_all()
    tags = {name: host.changes.tag for name, host in group.hosts.items()}
    assert tags == {"a": 7, "b": 8}
    assert group["a"].changes.writers == {8: "b"}
    assert group["b"].changes.writers == {7: "a"}


def test_what_was_under_way_to_who_was_taken_in_is_not_taken_for_known():
    # b accepts, and what a deletes then does not arrive; of a's tombstones there is room for few.
    group = make_group("ab", replication_backlog_bytes=4 * 3 * (TOMBSTONE_BYTES + 3))
    a, b = group["a"], group["b"]
    guest = Guest(a)
    assert guest.ask(b"set k 0 0 1\r\n1\r\n") == b"STORED\r\n"
    group.wire("a", "b").cut()
    group.advance(1.0)
    assert (a.node.role, b.node.role) == ("alone", "alone")
    b.stop()
    b.start()
    wire = Wire(a, b)
    for silent in (a, b) * 20:  # one speaks, then the other one
        wire.resume()
        wire.stall(silent)
        group.settle()
        if silent is b and a.peer("b").phase is Phase.PROPOSED:
            break
    assert (b.peer("a").phase, b.values()) == (Phase.ACCEPTED, {b"k": b"1"})
    wire.stall()
    assert guest.ask(b"delete k\r\n") == b"DELETED\r\n"
    wire.stall(a)
    group.settle()
    assert a.node.role == "coordinator"
    wire.cut()
    group.advance(1.0)
    number = 0
    while a.changes.tombstones.get(b"k"):
        guest.ask(b"set x%02d 0 0 1\r\n1\r\ndelete x%02d\r\n" % (number, number))
        number += 1
    group.link("a", "b")
    group.advance(5.0)
    group.check_equal()
    assert a.values() == {}


class TestNotAcknowledged:
    """What was told to one that is lost, and is gone by then, takes what it replaced with it."""

    @pytest.mark.parametrize("words", [b"set k 0 0 1\r\n2\r\n", b"touch k 99\r\n"])
    @pytest.mark.parametrize("sent", [True, False])
    def test_to_who_follows(self, sent, words):
        group = make_group()
        a, b = group.hosts.values()
        store(Guest(a), b"k", b"1")
        group.warm()
        group.advance(0.002)
        group.wire("a", "b").stall()
        guest = Guest(a)
        guest.feed(words)
        if sent:
            group.settle()
        evict(a, b"k")
        group.advance(0.5)
        assert a.node.role == "alone"
        assert guest.take()
        group.wire("a", "b").cut()
        group.link("a", "b")
        group.advance(3.0)
        assert b.node.role == "follower"
        assert a.values() == b.values() == {}
        group.check_equal()

    def test_but_not_what_took_its_place(self):
        """It has received that: only that it did is not known."""
        group = make_group()
        a, b = group.hosts.values()
        store(Guest(a), b"k", b"1")
        group.warm()
        group.advance(0.002)
        group.wire("a", "b").stall(b)
        guest = Guest(a)
        guest.feed(b"set k 0 0 1\r\n2\r\n")
        group.settle()
        assert b.values() == {b"k": b"2"}
        evict(a, b"k")
        group.advance(0.5)
        assert a.node.role == "alone"
        assert guest.take() == STORED
        group.wire("a", "b").cut()
        group.link("a", "b")
        group.advance(3.0)
        assert b.node.role == "follower"
        assert b.values() == {b"k": b"2"}
        group.check()

    @pytest.mark.parametrize("votes", [True, False])
    def test_by_one_that_goes_on_in_its_place(self, votes):
        """Of two followers the one had it, and no room; the other one has the older one."""
        group = make_group("abc", votes=votes)
        a, b, c = group.hosts.values()
        for key in (b"k", b"x", b"y"):
            store(Guest(a), key, b"1")
        group.warm()
        group.advance(0.002)
        group.wire("a", "c").stall(a)
        guest = Guest(a)
        guest.feed(b"set k 0 0 1\r\n2\r\n")
        group.settle()
        assert not guest.take()
        evict(b, b"k")
        a.stop()
        group.advance(3.0)
        assert (b.node.role, c.node.role) == ("coordinator", "follower")
        assert b.values() == c.values() == {b"x": b"1", b"y": b"1"}
        group.check_equal()


def test_with_votes_too_who_has_no_room_for_traces_has_the_other_one_drop_what_it_evicted():
    """It might have been deleted here. The simulation expects no more of such a pair."""
    group = make_group(witness=True, replication_backlog_bytes=0)
    a, b = group["a"], group["b"]
    Guest(a).ask(b"set k 0 0 1\r\n1\r\nset l 0 0 1\r\n1\r\n")
    b.frozen = True
    group.wire("a", "b").cut()
    Guest(a).feed(b"set x 0 0 1\r\n1\r\n")
    group.advance(0.5)
    assert a.node.role == "alone"
    evict(a, b"k")
    evict(a, b"x")
    b.frozen = False
    group.link("a", "b")
    group.advance(3.0)
    assert b.node.role == "follower"
    assert a.values() == b.values() == {b"l": b"1"}
