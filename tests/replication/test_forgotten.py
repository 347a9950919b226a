"""Deletions that there is no room to remember, and that nobody's items are dropped for that."""

from __future__ import annotations

import pytest

from pymcd.replication.peer import Phase
from pymcd.replication.roles import ALONE, COORDINATOR, FOLLOWER, JOINING, STARTING
from pymcd.replication.versions import TOMBSTONE_BYTES
from tests.replication.helpers import Group, Guest, Host, Wire, make_group
from tests.replication.world import constants

#: Of tombstones there is room for one.
ROOM = 4 * (TOMBSTONE_BYTES + 1)
ITEMS = [b"%c" % letter for letter in b"abcdefghij"]


def deleting(*, votes: bool = False) -> Group:
    """Return three that are in sync; each key is one letter."""
    return make_group("abc", votes=votes, replication_backlog_bytes=ROOM)


def store(group: Group, *keys: bytes, value: bytes = b"1") -> None:
    guest = Guest(group["a"])
    for key in keys:
        assert guest.ask(b"set %b 0 0 %d\r\n%b\r\n" % (key, len(value), value)) == b"STORED\r\n"


def delete(group: Group, *keys: bytes) -> None:
    for key in keys:
        Guest(group["a"]).feed(b"delete %b\r\n" % key)
        group.settle()


def evict(host: Host, key: bytes) -> None:
    item = host.cache.linked(key)
    assert item is not None
    host.cache.unlink(item)


def cut_off(group: Group, name: str) -> None:
    for other in "abc".replace(name, ""):
        group.wire(other, name).cut()
    group.advance(1.0)


def copy_a_part(group: Group) -> None:
    """Have a bring c in sync, and stop when c has something, but not all."""
    a, c = group["a"], group["c"]
    group.link("b", "c")
    wire = Wire(a, c)
    had = len(c.values())
    for silent in (a, c) * 20:  # one speaks, then the other one
        wire.resume()
        wire.stall(silent)
        group.settle()
        if silent is c and len(c.values()) > had:
            break
    assert a.peer("c").phase is Phase.HOSTING
    assert had < len(c.values()) < len(a.values())
    wire.stall(c)


@pytest.mark.parametrize("anew", [True, False])
def test_who_was_told_a_part_has_others_drop_nothing(anew):
    """It lacks what it was not told of yet: that need not have been deleted."""
    group = deleting()
    b, c = group["b"], group["c"]
    store(group, b"x", b"y", b"z")
    if anew:
        c.stop()
        group.advance(1.0)
    else:
        cut_off(group, "c")
        c.node.deposed(c.peer("a"), c.peer("a").status, sent_at=0.0)  # type: ignore[arg-type]
    store(group, *ITEMS)
    if anew:
        c.start()
    with constants({"SLICE_ITEMS": 1, "SLICES_MAX": 1}):
        copy_a_part(group)
    delete(group, b"x", b"y", b"z")
    assert c.changes.tombstones.floor_for("b") > 0
    assert c.node.role is (STARTING if anew else JOINING)
    group["a"].stop()
    group.advance(3.0)
    assert c.node.role is FOLLOWER
    assert sorted(b.values()) == sorted(c.values()) == ITEMS
    group.check_equal()


def test_who_was_told_all_knows_for_others_what_it_had_to_forget():
    group = deleting()
    store(group, b"x", b"y", b"z")
    cut_off(group, "b")
    group["c"].stop()
    group.advance(1.0)
    delete(group, b"x", b"y", b"z")
    group["c"].start()
    group.link("a", "c")
    group.advance(1.0)
    assert group["c"].node.role is FOLLOWER
    group["a"].stop()
    group.advance(1.0)
    group.link("b", "c")
    group.advance(3.0)
    assert group["b"].values() == group["c"].values() == {}


@pytest.mark.parametrize("votes", [True, False])
def test_who_followed_the_same_one_drops_nothing_for_what_had_to_be_forgotten(votes):
    """Both had all that there was; what one has evicted since lives on with the other."""
    group = deleting(votes=votes)
    b, c = group["b"], group["c"]
    store(group, *ITEMS, b"x", b"y", b"z")
    cut_off(group, "b")
    delete(group, b"x", b"y", b"z")
    for other in "ac":
        group.link(other, "b")
    group.advance(3.0)
    assert c.changes.tombstones.floor > 0
    evict(c, b"e")
    group["a"].stop()
    group.advance(5.0)
    assert c.node.role is FOLLOWER
    assert sorted(b.values()) == ITEMS


def test_nor_for_what_it_takes_back():
    """c has what a did last, and b has not: what b has instead is no older than all they had."""
    group = deleting()
    a, b, c = group.hosts.values()
    store(group, b"x", b"y", b"z")
    store(group, b"n", value=b"5")
    cut_off(group, "b")
    delete(group, b"x", b"y", b"z")
    for other in "ac":
        group.link(other, "b")
    group.advance(3.0)
    assert c.changes.tombstones.floor > 0
    group.warm()
    group.wire("a", "b").stall(a)
    Guest(a).feed(b"incr n 1\r\n")
    group.settle()
    assert (b.values(), c.values()) == ({b"n": b"5"}, {b"n": b"6"})
    a.stop()
    group.advance(5.0)
    assert c.node.role is FOLLOWER
    assert b.values() == c.values() == {b"n": b"5"}


@pytest.mark.parametrize("votes", [True, False])
@pytest.mark.parametrize("what", ["deleted", "evicted"])
def test_nor_for_what_is_to_be_in_doubt(what, votes):
    """c forgets what a did last, and b never heard of it: b, which decides, need not drop a thing.

    What c has evicted before lives on with it.
    """
    group = deleting(votes=votes)
    a, b, c = group.hosts.values()
    store(group, *ITEMS, b"x", b"y", b"z")
    cut_off(group, "b")
    for other in "ac":
        group.link(other, "b")
    group.advance(3.0)
    group.warm()
    evict(c, b"e")
    group.wire("a", "b").stall(a)
    words = b"delete %b\r\n" if what == "deleted" else b"append %b 0 0 1\r\n+\r\n"
    for key in (b"x", b"y", b"z"):
        Guest(a).feed(words % key)
        group.settle()
        if what == "evicted":
            evict(c, key)
    assert sorted(c.values()) == sorted({*ITEMS} - {b"e"})
    assert c.changes.tombstones.floor_for("b") > c.node.gate.common_version
    a.stop()
    group.advance(5.0)
    assert (b.node.role, c.node.role) == (COORDINATOR, FOLLOWER)
    assert sorted(b.values()) == [*ITEMS, b"x", b"y", b"z"]
    group.check()


@pytest.mark.parametrize("outrun", ["a follower", "who joins", "who is joined"])
def test_who_is_outrun_by_deletions_keeps_nothing_of_them(outrun):
    """More has changed than may wait for it, so it is sent all that there is: not what is gone."""
    group = Group(
        "ab", replication_backlog_bytes=ROOM, replication_queue=2, replication_ack="async"
    )
    in_view = outrun == "a follower"
    # Of two that lead, b joins a.
    teller, other = group.hosts.values() if outrun != "who is joined" else (group["b"], group["a"])
    teller.node.go_alone()
    if outrun == "who is joined":
        other.node.go_alone()
    guest = Guest(teller)
    for key in ITEMS:
        guest.ask(b"set %b 0 0 1\r\n1\r\n" % key)
    wire = group.link("a", "b") if in_view else Wire(group["a"], group["b"])
    while other.values() != teller.values():
        for silent in (other, teller):  # one speaks, then the other one
            wire.resume()
            wire.stall(silent)
            group.settle()
    if in_view:
        group.advance(0.1)
    assert teller.peer(other.name).in_view is in_view
    wire.stall(other)
    with constants({"QUEUE_BYTES": 0, "BATCH_MAX": 1}):
        for key in ITEMS[:7]:
            guest.ask(b"delete %b\r\n" % key)
        guest.ask(b"set x 0 0 1\r\n1\r\n")
        wire.resume()
        group.advance(2.0)
    group.advance(20.0)
    assert {host.node.role for host in group.hosts.values()} == {COORDINATOR, FOLLOWER}
    assert sorted(teller.values()) == sorted(other.values()) == [*ITEMS[7:], b"x"]


def test_nor_if_the_log_falls_short_of_what_it_is_to_be_told():
    """What was deleted while it was away is told to it from the log, until that is too short."""
    group = make_group("ab", replication_backlog_bytes=ROOM)
    a, b = group["a"], group["b"]
    store(group, *ITEMS)
    b.frozen = True  # it is a that goes on
    group.wire("a", "b").cut()
    group.advance(1.0)
    b.frozen = False
    delete(group, ITEMS[0])
    assert a.changes.tombstones.get(ITEMS[0])
    guest = Guest(a)
    with constants({"WINDOW_BYTES": 1}):  # nothing follows the welcome before that is acknowledged
        wire = Wire(a, b)
        for silent in (b, a) * 20:  # one speaks, then the other one
            if a.peer("b").resync.mode != "idle":
                break
            wire.resume()
            wire.stall(silent)
            group.settle()
        assert a.peer("b").resync.mode == "sending_partial"
        assert a.peer("b").resync.todo is not None
        wire.stall(b)
        delete(group, ITEMS[1])
        for number in range(40):
            guest.ask(b"set k%d 0 0 1\r\n1\r\n" % number)
        assert not a.changes.tombstones.get(ITEMS[0])
        wire.resume()
        group.advance(2.0)
    group.advance(5.0)
    assert {a.node.role, b.node.role} == {COORDINATOR, FOLLOWER}
    group.check_equal()
    assert ITEMS[0] not in b.values()


@pytest.mark.parametrize("what", ["deleted", "evicted"])
def test_what_another_follower_never_heard_of_is_not_undone(what):
    """c had no room for it, and so far everybody was there: b lacks it as soon as b is gone."""
    group = deleting()
    a, b, c = group.hosts.values()
    store(group, *ITEMS, b"x", b"y", b"z")
    group.warm()
    group.wire("a", "b").stall(a)
    delete(group, b"x")
    for key in (b"y", b"z"):
        if what == "deleted":
            delete(group, key)
        else:
            Guest(a).feed(b"append %b 0 0 1\r\n+\r\n" % key)
            group.settle()
            evict(c, key)
    assert c.changes.tombstones.shared
    cut_off(group, "b")
    a.stop()
    group.advance(1.0)
    assert c.node.role is ALONE
    group.link("b", "c")
    group.advance(5.0)
    assert {b.node.role, c.node.role} == {COORDINATOR, FOLLOWER}
    group.check_equal()
    assert b"x" not in b.values()


def test_nor_if_it_was_in_doubt_for_a_while():
    """c is about to join b, which never heard of it, and loses it: what c has stands."""
    group = deleting()
    a, b, c = group.hosts.values()
    store(group, *ITEMS, b"x", b"y", b"z")
    group.warm()
    group.wire("a", "b").stall(a)
    delete(group, b"x", b"y", b"z")
    assert c.changes.tombstones.shared
    a.stop()
    wire = group.wire("b", "c")
    with constants({"SLICE_ITEMS": 1, "SLICES_MAX": 1, "WINDOW_BYTES": 1}):
        for silent in (c, b) * 20:  # one speaks, then the other one
            wire.resume()
            wire.stall(silent)
            group.settle() if c.node.role is JOINING else group.advance(0.01)
            if c.changes.in_doubt:
                break
    assert b"x" in c.changes.in_doubt
    wire.cut()
    group.advance(5.0)
    assert c.node.role is ALONE
    group.link("b", "c")
    group.advance(5.0)
    assert {b.node.role, c.node.role} == {COORDINATOR, FOLLOWER}
    group.check_equal()
    assert b"x" not in b.values()


def proposing() -> tuple[Group, Wire]:
    """Return two that were apart, and what links them: the second one is about to propose."""
    group = make_group("ab", replication_backlog_bytes=ROOM)
    a, b = group["a"], group["b"]
    store(group, b"x", b"y", b"z")
    group.wire("a", "b").cut()
    for host in (a, b):
        Guest(host).feed(b"mn\r\n")
    group.advance(1.0)
    assert (a.node.role, b.node.role) == (ALONE, ALONE)
    wire = Wire(a, b)
    for silent in (a, b) * 20:  # one speaks, then the other one
        wire.resume()
        wire.stall(silent)
        group.settle()
        if silent is b and b.peer("a").phase is Phase.PROPOSED:
            break
    assert b.peer("a").phase is Phase.PROPOSED
    return group, wire


def test_what_is_forgotten_by_who_joins_is_dropped_before_both_are_one():
    """Else clients would see it, and then see it no more, though nobody deletes it."""
    group, wire = proposing()
    a, b = group["a"], group["b"]
    wire.stall()
    assert Guest(b).ask(b"set k 0 0 1\r\n1\r\n") == b"STORED\r\n"
    group.advance(0.1)
    delete(group, b"x", b"y", b"z")
    item = b.cache.linked(b"k")
    assert item is not None
    assert a.changes.tombstones.floor > b.changes.version_of(item)
    seen: list[tuple[str, dict[bytes, bytes]]] = []
    b.view_changed = lambda: seen.append((b.node.role, b.values()))
    wire.resume()
    group.advance(1.0)
    assert (a.node.role, b.node.role) == (FOLLOWER, COORDINATOR)
    assert a.values() == b.values() == {}
    assert {role: values for role, values in seen if values} == {ALONE: {b"k": b"1"}}
    assert b.rows["peer_0:lag_items"] == 0


def test_who_joins_is_not_kept_waiting_by_what_changes_since():
    group, wire = proposing()
    a, b = group["a"], group["b"]
    guest = Guest(b)
    for silent in (a, b) * 3:
        guest.feed(b"set k 0 0 1\r\n1\r\n")
        wire.resume()
        wire.stall(silent)
        group.settle()
    assert b.node.role is COORDINATOR
    wire.resume()
    group.advance(1.0)
    group.check_equal()
    assert a.values()[b"k"] == b"1"
