"""Deletions that there is no room to remember, and that nobody's items are dropped for that."""

from __future__ import annotations

import pytest

from pymcd.replication.peer import Phase
from pymcd.replication.roles import FOLLOWER, JOINING, STARTING
from pymcd.replication.versions import TOMBSTONE_BYTES
from tests.replication.helpers import Group, Guest, Wire, make_group
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
    item = c.cache.linked(b"e")
    assert item is not None
    c.cache.unlink(item)
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
