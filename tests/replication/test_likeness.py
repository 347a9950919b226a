"""Nodes that are set up differently: they are as the weakest one, and say so."""

from __future__ import annotations

from typing import Any

import pytest

from pymcd.config import Settings
from pymcd.replication.likeness import CONSEQUENCES, ELSE, manners_of
from pymcd.store.slabs import Slabs
from tests.replication.helpers import Group, Guest, Wire, address_of

LARGE = b"x" * 1_500_000
TOO_LARGE = b"SERVER_ERROR object too large for cache\r\n"


def make_pair(first: dict[str, Any], second: dict[str, Any]) -> Group:
    """Return two servers in sync, the first coordinates, with settings of their own."""
    group = Group("")
    group.add("a", peers=(address_of("b"),), **first)
    group.add("b", peers=(address_of("a"),), **second)
    group.link("a", "b")
    group.advance(0.5)
    assert [host.node.role for host in group.hosts.values()] == ["coordinator", "follower"]
    return group


SMALL: dict[str, Any] = {"item_size_max_bytes": 1 << 20}
BIG: dict[str, Any] = {"item_size_max_bytes": 4 << 20}
either_coordinates = pytest.mark.parametrize(("first", "second"), [(SMALL, BIG), (BIG, SMALL)])


class TestItemSizes:
    @either_coordinates
    @pytest.mark.parametrize("name", "ab")
    def test_both_answer_as_the_smaller_one_would(self, first, second, name):
        group = make_pair(first, second)
        guest = Guest(group[name])
        assert guest.ask(b"set k 0 0 3\r\nold\r\n") == b"STORED\r\n"
        size = len(LARGE)
        assert guest.ask(b"set k 0 0 %d\r\n" % size, LARGE, b"\r\n") == TOO_LARGE
        # A set deletes what it could not replace.
        for each in group.hosts.values():
            assert Guest(each).ask(b"get k\r\n") == b"END\r\n"
        assert guest.ask(b"ms k %d\r\n" % size, LARGE, b"\r\n") == TOO_LARGE
        assert guest.ask(b"set k 0 0 600000\r\n", LARGE[:600_000], b"\r\n") == b"STORED\r\n"
        grown = guest.ask(b"append k 0 0 600000\r\n", LARGE[:600_000], b"\r\n")
        assert grown == make_alone(SMALL)
        group.check_equal()

    @either_coordinates
    def test_each_says_so(self, first, second):
        group = make_pair(first, second)
        for host, other in ((group["a"], "b"), (group["b"], "a")):
            (line,) = [line for line in host.lines if "-I is" in line]
            assert f"at {other}: bytes of key and value are the largest item" in line
            assert host.rows["peer_0:differs"] == "-I"

    def test_the_largest_of_the_smaller_one_is_the_largest_of_both(self):
        group = make_pair({**SMALL, "memory_accounting": "resident"}, BIG)
        a, b = group.hosts.values()
        low, high = 1 << 19, 1 << 21
        while high - low > 1:
            middle = (low + high) // 2
            fits = a.cache.fits(b"k", middle, 0)
            assert b.cache.fits(b"k", middle, 0) == fits
            low, high = (middle, high) if fits else (low, middle)
        guest = Guest(b)
        assert guest.ask(b"set k 0 0 %d\r\n" % low, bytes(low), b"\r\n") == b"STORED\r\n"
        group.check_equal()

    def test_it_stays_so_while_the_smaller_one_is_away(self):
        """It could not take in afterwards what the other stored meanwhile."""
        group = make_pair(BIG, SMALL)
        group["b"].stop()
        group.advance(1)
        a = group["a"]
        assert a.node.role == "alone"
        ask = (b"set k 0 0 %d\r\n" % len(LARGE), LARGE, b"\r\n")
        assert Guest(a).ask(*ask) == TOO_LARGE
        group["b"].settings = Settings(
            replication_listen=("127.0.0.1",), peers=(address_of("a"),), **BIG
        )
        group["b"].start()
        group.link("a", "b")
        group.advance(1)
        assert Guest(a).ask(*ask) == b"STORED\r\n"
        assert a.rows["peer_0:differs"] == "-"
        group.check_equal()

    def test_who_says_nothing_of_it_is_as_we_are(self):
        group = make_pair(BIG, BIG)
        peer = group["a"].peer("b")
        assert peer.hello is not None
        object.__setattr__(peer.hello, "item_size_max", 0)
        group["a"].node.membership.be_alike()
        assert group["a"].cache.slabs.item_size_max_bytes == 4 << 20


def make_alone(settings: dict[str, Any]) -> bytes:
    """Return what one server answers whose item grows too large."""
    guest = Guest(Group("a", **settings)["a"])
    guest.host.group.advance(0.1)
    guest.ask(b"set k 0 0 600000\r\n", LARGE[:600_000], b"\r\n")
    return guest.ask(b"append k 0 0 600000\r\n", LARGE[:600_000], b"\r\n")


class TestPatience:
    @pytest.mark.parametrize(("first", "second"), [(0.08, 1.0), (1.0, 0.08)])
    def test_both_wait_as_long_as_the_other_ones_lease(self, first, second):
        """Else one goes on alone, and the other still answers by what it had."""
        group = make_pair(
            {"replication_ack_timeout_s": first}, {"replication_ack_timeout_s": second}
        )
        for host in group.hosts.values():
            assert host.rows["ack_timeout_ms"] == 1000
            assert host.rows["peer_0:differs"] == "--replication-ack-timeout"
        group.warm()
        group["b"].frozen = True
        guest = Guest(group["a"])
        guest.feed(b"set k 0 0 1\r\n1\r\n")
        for _ in range(19):
            group.advance(0.05)
            assert group["a"].node.role == "coordinator"
        for _ in range(3):
            group.advance(0.05)
        assert guest.take() == b"STORED\r\n"

    def test_nobody_answers_by_a_longer_one_that_only_some_know(self):
        """b does not know that a is linked to c, which is more patient: it waits for a no longer
        than both know, so a may not answer for longer either.
        """
        group = Group("")
        for name, other, timeout_s in (("a", "b", 0.08), ("b", "c", 0.08), ("c", "a", 1.0)):
            peers = (address_of(other),)
            group.add(name, peers=peers, replication_ack_timeout_s=timeout_s)
        group.link_all()
        group.advance(0.5)
        a, b, c = group.hosts.values()
        assert Guest(a).ask(b"set k 0 0 1\r\n1\r\n") == b"STORED\r\n"
        for name in "ab":
            group.wire(name, "c").cut()
        group.advance(2.0)
        wire = Wire(a, c)
        for silent in (a, c) * 9:  # one speaks, then the other one
            wire.resume()
            wire.stall(silent)
            group.settle()
            if a.peer("c").link is not None:
                break
        wire.stall()
        assert [host.node.role for host in (a, b)] == ["coordinator", "follower"]
        assert [host.rows["ack_timeout_ms"] for host in (a, b)] == [1000, 80]
        group.advance(0.3)
        group.warm()
        group.wire("a", "b").stall()
        guest = Guest(b)
        guest.feed(b"set k 0 0 1\r\n2\r\n")
        for _ in range(20):
            group.advance(0.01)
            if replied := guest.take():
                break
        assert replied == b"STORED\r\n"
        assert a.node.role == "coordinator"
        assert Guest(a).ask(b"get k\r\n") == b""
        group.check()


#: Settings of one -> as what they are said to differ.
MANNERS: list[tuple[dict[str, Any], str]] = [
    ({"replication_ack": "strict"}, "--replication-ack"),
    ({"disable_evictions": True}, "-M"),
    ({"disable_flush_all": True}, "-F"),
    ({"protocol": "ascii"}, "-B"),
    ({"protocol": "ascii", "auth_file": "users"}, "-B,-S/-Y"),
]


class TestManners:
    @pytest.mark.parametrize(("settings", "differs"), MANNERS)
    def test_what_clients_would_notice_is_said(self, settings, differs):
        group = make_pair({}, settings)
        for host in group.hosts.values():
            assert host.rows["peer_0:differs"] == differs
            lines = [line for line in host.lines if ELSE in line]
            assert len(lines) == differs.count(",") + 1

    def test_who_are_alike_say_nothing(self):
        group = make_pair({}, {})
        for host in group.hosts.values():
            assert host.rows["peer_0:differs"] == "-"
            assert not [line for line in host.lines if "here and" in line]

    def test_all_of_them_are_words(self):
        manners = manners_of(Settings())
        assert all(" " not in word and len(word) <= 64 for pair in manners.items() for word in pair)
        assert not set(manners) & set(CONSEQUENCES)


def test_a_limit_decides_what_fits_and_nothing_else():
    slabs = Slabs(Settings(item_size_max_bytes=4 << 20))
    sizes = list(slabs.sizes)
    slabs.item_size_max_bytes = 1 << 20
    assert slabs.class_for((1 << 20) + 1) is None
    assert slabs.class_for(1 << 20) is not None
    assert slabs.sizes == sizes
