"""flush_all, now and later, in a group: no order of words, cuts and returns loses or swaps one."""

from __future__ import annotations

from itertools import product

import pytest

from pymcd.replication.gate import QUEUE_BYTES
from pymcd.replication.peer import Phase
from pymcd.replication.versions import version_at
from tests.replication.helpers import Group, Guest, Wire, make_group

SET = b"set k 0 0 1\r\n1\r\n"
LATER_S = 100


def flush_later(group: Group, name: str, seconds: int) -> None:
    assert Guest(group[name]).ask(b"flush_all %d\r\n" % seconds) == b"OK\r\n"


def dues(group: Group) -> list[int]:
    return [host.changes.flush_due_at for host in group.hosts.values()]


def part(group: Group) -> None:
    group.wire("a", "b").cut()
    group.advance(0.5)
    assert group["a"].node.role == group["b"].node.role == "alone"


def join(group: Group) -> None:
    group.link("a", "b")
    group.advance(1.0)
    assert group["a"].node.role.in_sync
    assert group["b"].node.role.in_sync
    group.check_equal()


class TestBehind:
    """Who joins, with more on its way to it than may be."""

    @pytest.mark.parametrize("command", [b"flush_all\r\n", b"flush_all 100\r\n"])
    @pytest.mark.parametrize("last", [SET, b""])
    def test_a_flush_reaches_who_is_behind(self, command, last):
        group = Group("ab", memory_limit_bytes=1 << 28)
        group["a"].node.go_alone()
        guest = Guest(group["a"])
        large = b"set %b%d 0 0 200000\r\n" + bytes(200_000) + b"\r\n"
        for number in range(60):
            guest.ask(large % (b"k", number))
        wire = Wire(group["a"], group["b"])
        peer = None
        while peer is None or peer.phase is not Phase.HOSTING:
            for act in (group["a"].turn, group["b"].turn, wire.carry):
                act()
            peer = group["a"].node.view.peers.get("b")
        wire.stall(group["b"])  # what it acknowledges does not come
        for number in range(30):
            guest.ask(large % (b"n", number))
        assert peer.resync.behind
        assert guest.ask(command) == b"OK\r\n"
        if last:
            assert guest.ask(last) == b"STORED\r\n"
        wire.resume()
        group.advance(1.0)
        assert group["b"].node.role == "follower"
        assert dues(group)[0] == dues(group)[1]
        assert bool(dues(group)[0]) is (command != b"flush_all\r\n")
        group.check_equal()

    def test_so_does_one_behind_which_nothing_comes(self):
        """Nothing but the flush is owed."""
        group = make_group(replication_ack="async")
        group.warm()
        wire = group.wire("a", "b")
        guest = Guest(group["a"])
        wire.stall(group["b"])
        channel = group["a"].peer("b").channel
        assert channel is not None
        number = 0
        while channel.unacked_bytes <= QUEUE_BYTES:
            number += 1
            guest.ask(b"set n%d 0 0 200000\r\n%b\r\n" % (number, bytes(200_000)))
        assert not group["a"].peer("b").resync.behind
        assert guest.ask(b"flush_all\r\n") == b"OK\r\n"
        wire.resume()
        group.settle()
        group.check_equal()
        assert group["b"].values() == {}


class TestLater:
    def test_the_later_word_wins_after_a_partition(self):
        for first, second in ("ab", "ba"):
            group = make_group()
            part(group)
            flush_later(group, first, LATER_S)
            group.advance(0.1)
            flush_later(group, second, 2 * LATER_S)
            due = group[second].changes.flush_due_at
            join(group)
            assert dues(group) == [due, due]

    @pytest.mark.parametrize("cancels", "ab")
    def test_one_that_was_called_off_does_not_come_back(self, cancels):
        group = make_group()
        flush_later(group, "a", LATER_S)
        part(group)
        group.advance(0.1)
        Guest(group[cancels]).ask(b"flush_all\r\n")
        join(group)
        assert dues(group) == [0, 0]
        Guest(group["a"]).ask(SET)
        group.advance(LATER_S + 1)
        assert group["a"].values() == group["b"].values() == {b"k": b"1"}

    @pytest.mark.parametrize("other", "ab")
    def test_one_that_came_calls_off_no_other(self, other):
        """It came while they were apart; another one was asked for before that."""
        group = make_group()
        first = "b" if other == "a" else "a"
        part(group)
        flush_later(group, first, 5)
        group.advance(0.1)
        flush_later(group, other, LATER_S)
        group.advance(6)
        assert group[first].changes.barrier
        due = group[other].changes.flush_due_at
        join(group)
        assert dues(group) == [due, due]
        Guest(group["a"]).ask(SET)
        group.advance(LATER_S)
        assert group["a"].values() == group["b"].values() == {}

    def test_one_that_came_does_not_come_again(self):
        """The other node, which heard of it, was frozen when it came."""
        group = make_group()
        flush_later(group, "a", 5)
        assert dues(group)[0] == dues(group)[1]
        part(group)
        group["b"].frozen = True
        group.advance(6)
        Guest(group["a"]).ask(SET)
        assert group["a"].changes.flush_due_at == 0
        group["b"].stop()
        group["b"].frozen = False
        group["b"].start()
        join(group)
        assert dues(group) == [0, 0]
        assert group["b"].values() == {b"k": b"1"}

    @pytest.mark.parametrize("command", [b"flush_all 100\r\n", b"flush_all\r\n", b""])
    def test_what_was_never_acknowledged_is_taken_back(self, command):
        group = make_group()
        flush_later(group, "a", LATER_S)
        group.warm()
        group.wire("a", "b").stall()
        # Whatever its versions are: here later than those of the other one.
        group["a"].cache.raise_cas_unique(version_at(group.clock.realtime() + 50, 0))
        Guest(group["a"]).feed(b"flush_all 50\r\n")
        group.settle()
        group["a"].frozen = True
        group.advance(4.0)
        assert group["b"].node.role == "alone"
        if command:
            assert Guest(group["b"]).ask(command) == b"OK\r\n"
        known = group["b"].changes.flush_due_at
        group["a"].frozen = False
        group.wire("a", "b").resume()
        group.advance(1.0)
        assert group["a"].node.role == "follower"
        assert dues(group) == [known, known]

    def test_a_node_of_the_first_version_hears_of_it_as_ever(self):
        group = make_group()
        for name, other in ("ab", "ba"):
            group[name].peer(other).version = 1
        flush_later(group, "b", LATER_S)
        assert dues(group)[0] == dues(group)[1] > 0
        Guest(group["b"]).ask(b"flush_all\r\n")
        assert dues(group) == [0, 0]

    def test_who_joins_several_passes_it_on(self):
        group = make_group("abc")
        for name in "abc":
            flush_later(group, name, LATER_S + ord(name))
            assert len(set(dues(group))) == 1
        Guest(group["c"]).ask(b"flush_all\r\n")
        assert dues(group) == [0, 0, 0]


#: Who does what, one after the other, while they are apart.
WORDS = [
    ("a", b"flush_all\r\n"),
    ("b", b"flush_all\r\n"),
    ("a", b"flush_all 100\r\n"),
    ("b", b"flush_all 200\r\n"),
    ("a", b"set k 0 0 1\r\na\r\n"),
    ("b", b"set k 0 0 1\r\nb\r\n"),
]


@pytest.mark.parametrize("words", list(product(WORDS, repeat=3)))
def test_all_orders(words):
    """As if there had been one server, which heard all of it in this order."""
    group = make_group()
    Guest(group["a"]).ask(b"set k 0 0 1\r\n0\r\n")
    part(group)
    value: bytes | None = b"0"
    due = 0
    for name, command in words:
        group.advance(0.01)
        assert Guest(group[name]).ask(command) in (b"OK\r\n", b"STORED\r\n")
        if command.startswith(b"set"):
            value = name.encode()
        elif command == b"flush_all\r\n":
            value, due = None, 0
        else:
            due = group[name].changes.flush_due_at
    join(group)
    assert dues(group) == [due, due]
    for host in group.hosts.values():
        assert host.values() == ({} if value is None else {b"k": value})
