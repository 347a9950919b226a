"""A group of nodes: who decides, who waits for whom, and what is left when one is gone.

Two nodes (or three) tied back to back, with a clock that is moved by hand. What can go wrong at any
moment whatever is for the simulation; here each promise is looked at by itself.
"""

from __future__ import annotations

from dataclasses import replace

import pytest

from pymcd.replication.lease import HEARTBEAT_S, SILENCE_S, STALE_S
from pymcd.replication.membership import PEERS_MAX
from pymcd.replication.messages import Join
from pymcd.replication.node import COMPLAIN_EVERY_S, JOIN_GRACE_S, READMIT_MAX_S
from pymcd.replication.peer import Phase
from pymcd.replication.versions import tag_of
from tests.protocol import binary_client as binary
from tests.replication.helpers import (
    ACK_TIMEOUT_S,
    Group,
    Guest,
    Host,
    Wire,
    address_of,
    make_group,
    without_ends,
)

#: In which a node must have noticed that time is up.
SLACK_S = 0.02
#: How long any client may have to wait, once.
PATIENCE_S = ACK_TIMEOUT_S + SLACK_S
SET = b"set k 0 0 1\r\n1\r\n"
GET = b"get k\r\n"
HIT = b"VALUE k 0 1\r\n1\r\nEND\r\n"
MISS = b"END\r\n"
STORED = b"STORED\r\n"


def roles(group: Group) -> list[str]:
    return [host.node.role for host in group.hosts.values() if host.alive]


def fill(host: Host, count: int, prefix: bytes = b"k") -> None:
    """Store items of all kinds."""
    guest = Guest(host)
    for number in range(count):
        how = b"F%d T%d" % (number % 3, number % 4 * 100)
        assert guest.ask(b"ms %s%d 3 %s\r\n%03d\r\n" % (prefix, number, how, number)) == b"HD\r\n"


def wait_for(guest: Guest, limit_s: float) -> tuple[bytes, float]:
    """Return what a client is answered, and after how long; not longer than `limit_s`."""
    group = guest.host.group
    waited_s = 0.0
    while not (answer := guest.take()) and waited_s < limit_s:
        group.advance(0.005)
        waited_s += 0.005
    return answer, waited_s


# -- the beginning -----------------------------------------------------------------------------


class TestBeginning:
    def test_two_that_are_new_serve_at_once(self):
        group = Group()
        group.link("a", "b")
        assert roles(group) == ["coordinator", "follower"]
        for host in group.hosts.values():
            assert host.node.ready
            assert host.ready_calls == 1
            assert host.rows["state"] == "in_sync"
            assert host.rows["coordinator"] == "a"
            assert host.rows["degraded"] == "no"
        assert group["a"].lines == [
            "replication: serving alone: there is no other node with data",
            "replication: in sync with b; this node coordinates",
        ]
        assert group["b"].lines == ["replication: in sync; a coordinates"]

    def test_one_that_finds_nobody_waits_for_a_while(self):
        group = Group(sync_timeout_s=10.0)
        host = group["a"]
        group.advance(9.8)
        assert host.node.role == "starting"
        assert not host.node.ready
        group.advance(0.4)
        assert host.node.role == "alone"
        assert host.node.ready
        assert host.rows["degraded"] == "yes"

    def test_meanwhile_clients_wait(self):
        group = Group(sync_timeout_s=1.0)
        guest = Guest(group["a"])
        assert guest.ask(SET + GET) == b""
        group.advance(1.2)
        assert guest.take() == STORED + HIT

    def test_one_that_has_no_peers_serves_at_once(self):
        group = Group("a")
        group.advance(0.1)
        assert group["a"].node.ready
        assert group["a"].rows["degraded"] == "no"
        assert Guest(group["a"]).ask(SET) == STORED
        assert group["a"].rows["unprotected_writes"] == 0
        assert group["a"].node.step() == float("inf")

    def test_three_that_are_new_wait_for_all_of_them(self):
        group = Group("abc")
        group.link("a", "b")
        assert roles(group) == ["starting"] * 3
        group.link("a", "c")
        group.link("b", "c")
        group.advance(0.5)
        assert roles(group) == ["coordinator", "follower", "follower"]

    def test_a_returning_one_is_not_ready_before_it_has_everything(self):
        group = make_group()
        fill(group["a"], 50)
        group["b"].stop()
        group.advance(1)
        group["b"].start()
        wire = group.link("a", "b")
        assert group["b"].node.ready  # it does not take long
        wire.cut()
        group["b"].stop()
        group.advance(1)
        group["b"].start()
        wire = Wire(group["b"], group["a"])
        readiness = []
        for _ in range(40):
            wire.carry()
            for host in group.hosts.values():
                host.turn()
            readiness.append((group["b"].node.ready, len(group["b"].values())))
        assert (False, 50) in readiness
        assert {count for ready, count in readiness if ready} == {50}
        group.check_equal()


class TestReturning:
    @pytest.mark.parametrize(("goes", "stays"), ["ab", "ba"])
    @pytest.mark.parametrize("away_s", [0.0, 0.05, 1.0, 100.0])
    def test_whoever_returns_empty_gets_everything(self, goes, stays, away_s):
        """Emptiness never wins, however quickly it comes back."""
        group = make_group()
        fill(group["a"], 300)
        Guest(group["b"]).ask(b"md k5\r\nmd k6 I\r\nms k7 1 E77\r\n7\r\ntouch k8 500\r\n")
        before = group[stays].state()
        assert len(before) == 299
        group[goes].stop()
        group.advance(away_s)
        group[goes].start()
        group.link(stays, goes)
        group.advance(12)
        assert group[stays].node.role == "coordinator"
        assert group[goes].node.role == "follower"
        group.check_equal()
        expected = {key: state for key, state in before.items() if away_s < 99 or state[2] == 0}
        got = {key: group[goes].state()[key] for key in expected}
        assert without_ends(got) == without_ends(expected)
        assert group[stays].rows["full_resyncs"] >= 1

    @pytest.mark.parametrize("names", ["ab", "abc"])
    def test_so_does_who_has_served_alone_meanwhile(self, names):
        """It has something, but nothing of what it had before it was started anew.

        For a third one that is away what changes is remembered, whoever else comes and goes.
        """
        group = make_group(names, votes=False, sync_timeout_s=1.0)
        fill(group["a"], 10)
        for name in reversed(names[1:]):
            group[name].stop()
            group.advance(1)
        fill(group["a"], 10, b"new")
        group["b"].start()
        group.advance(2)
        assert roles(group) == ["alone", "alone"]
        Guest(group["b"]).ask(SET)
        group.link("a", "b")
        group.advance(12)
        assert sorted(roles(group)) == ["coordinator", "follower"]
        group.check_equal()
        assert len(group["b"].values()) == 21

    def test_what_is_written_meanwhile_comes_along(self):
        group = make_group()
        fill(group["a"], 1000)
        group["b"].stop()
        group.advance(1)
        group["b"].start()
        wire = Wire(group["b"], group["a"])
        guest = Guest(group["a"])
        for number in range(60):
            wire.carry()
            group["b"].turn()
            guest.feed(b"set k%d 0 0 3\r\nnew\r\ndelete k%d\r\n" % (number * 7, number * 11 + 3))
            group["a"].turn()
        group.advance(1)
        assert group["b"].node.role.in_sync
        group.check_equal()
        assert b"k80" not in group["b"].values()

    def test_a_short_absence_costs_only_what_changed(self):
        group = make_group()
        fill(group["a"], 500)
        group.wire("a", "b").cut()
        group.advance(1)
        assert roles(group) == ["alone", "alone"]
        Guest(group["a"]).ask(b"set k1 0 0 3\r\nnew\r\ndelete k2\r\ntouch k3 1000\r\n")
        full = group["a"].rows["full_resyncs"] + group["b"].rows["full_resyncs"]
        wire = group.link("a", "b")
        group.advance(1)
        assert sorted(roles(group)) == ["coordinator", "follower"]
        group.check_equal()
        assert group["a"].values()[b"k1"] == b"new"
        assert b"k2" not in group["b"].values()
        rows = [host.rows for host in group.hosts.values()]
        assert sum(each["full_resyncs"] for each in rows) == full
        assert sum(each["partial_resyncs"] for each in rows) >= 2
        assert sum(map(len, wire.sent[0])) + sum(map(len, wire.sent[1])) < 8000

    def test_if_too_much_changed_for_the_backlog_everything_is_sent(self):
        group = make_group(replication_backlog_bytes=8000)
        fill(group["a"], 100)
        group.wire("a", "b").cut()
        group.advance(1)
        fill(group["a"], 60, b"new")
        group.link("a", "b")
        group.advance(1)
        group.check_equal()
        assert len(group["b"].values()) == 160
        assert group["a"].rows["full_resyncs"] == 2

    def test_what_is_written_while_the_peer_is_gone_costs_no_more_than_the_backlog(self):
        group = make_group(replication_backlog_bytes=100_000)
        group["b"].stop()
        group.advance(1)
        guest = Guest(group["a"])
        for number in range(3000):
            guest.ask(b"set key%d 0 0 1\r\n1\r\ndelete gone%d\r\n" % (number, number))
        rows = group["a"].rows
        assert rows["backlog_bytes"] <= 100_000
        assert rows["backlog_items"] < 400
        assert rows["queue_items"] == rows["queue_bytes"] == 0
        assert group["a"].peer("b").channel is None

    def test_deletions_that_had_to_be_forgotten_are_not_undone(self):
        group = make_group(replication_backlog_bytes=8000)
        fill(group["a"], 100)
        group.wire("a", "b").cut()
        group.advance(1)
        guest = Guest(group["a"])
        for number in range(50):
            guest.ask(b"delete k%d\r\n" % number)
        assert group["a"].rows["tombstones"] < 10
        group.advance(0.1)
        Guest(group["b"]).ask(b"set fresh 0 0 1\r\n1\r\n")
        group.link("a", "b")
        group.advance(2)
        group.check_equal()
        assert set(group["b"].values()) == {b"k%d" % number for number in range(50, 100)} | {
            b"fresh"
        }
        lines = group["a"].lines + group["b"].lines
        assert any("there was no room to remember all deletions" in line for line in lines)

    def test_nor_are_those_that_it_was_not_told_before_it_left(self):
        """However few: of all that came later there is still room for."""
        group = make_group(replication_backlog_bytes=8000)
        fill(group["a"], 100)
        group.warm()
        wire = group.wire("a", "b")
        wire.stall(group["a"])
        guest = Guest(group["a"])
        guest.feed(b"".join(b"delete k%d\r\n" % number for number in range(5)))
        group.advance(1)
        assert guest.take() == b"DELETED\r\n" * 5
        assert group["a"].node.role == "alone"
        wire.cut()
        tombstones = group["a"].changes.tombstones
        count = 0
        while any(tombstones.get(b"k%d" % number) for number in range(5)):
            guest.ask(b"delete x%d\r\n" % count)
            count += 1
        assert len(tombstones) == count
        group.link("a", "b")
        group.advance(5)
        assert sorted(roles(group)) == ["coordinator", "follower"]
        group.check_equal()
        assert set(group["b"].values()) == {b"k%d" % number for number in range(5, 100)}

    @pytest.mark.parametrize("leads", [True, False])
    def test_what_may_have_been_deleted_is_dropped_in_slices_before_they_are_one(
        self, leads, monkeypatch
    ):
        monkeypatch.setattr("pymcd.replication.changes.DROP_ITEMS", 2)
        group = make_group(replication_backlog_bytes=8000)
        fill(group["a"], 300)
        group.wire("a", "b").cut()
        group.advance(1)
        drops = "b"
        if leads:  # the smaller view, or the larger id, joins: so "a" is taken in by "b"
            view = group["b"].node.view
            view.epoch = view.next_epoch(0)
            drops = "a"
        keeps = "a" if drops == "b" else "b"
        guest = Guest(group[keeps])
        for number in range(250):
            guest.ask(b"delete k%d\r\n" % number)
        group.advance(0.1)
        Guest(group[drops]).ask(b"set fresh 0 0 1\r\n1\r\n")
        wire = Wire(group["a"], group["b"])
        host = group[drops]
        counts, items = [], len(host.values())
        for _ in range(20_000):
            for act in (*[each.turn for each in group.hosts.values()], wire.carry):
                act()
                counts.append(items - len(host.values()))
                items -= counts[-1]
                if host.node.role.in_sync:
                    assert items == 51
                group.check()
            if items == 51:
                break
        assert 0 < max(counts) <= 2 * 8  # some messages, each with a slice, may arrive at once
        group.advance(1)
        group.check_equal()
        assert len(host.values()) == 51

    def test_what_may_have_been_deleted_is_dropped_by_all_who_are_in_sync(self):
        group = make_group("abc", replication_backlog_bytes=8000)
        fill(group["a"], 100)
        group["a"].frozen = True
        group.wire("a", "b").cut()
        group.wire("a", "c").cut()
        group.advance(1)
        group["a"].frozen = False
        group["a"].node.go_alone()
        guest = Guest(group["a"])
        for number in range(50):
            guest.ask(b"delete k%d\r\n" % number)
        group.link("a", "b")
        group.advance(3)
        assert group["b"].node.view.members == ["b", "c", "a"]
        group.check_equal()
        assert len(group["c"].values()) == 50

    @pytest.mark.parametrize("again", [False, True])
    def test_deletions_may_have_to_be_forgotten_between_question_and_answer(self, again):
        """`again`: it has asked once more meanwhile, and is answered what it asked first."""
        group = make_group(replication_backlog_bytes=8000)
        fill(group["a"], 100)
        group.wire("a", "b").cut()
        group.advance(1)
        view = group["a"].node.view
        view.epoch = view.next_epoch(0)  # so it is "b" that joins
        guest = Guest(group["b"])
        guest.ask(b"delete k0\r\n")
        wire = Wire(group["a"], group["b"])
        while group["b"].node.view.peers["a"].phase is not Phase.ASKING:
            for act in (*[each.turn for each in group.hosts.values()], wire.carry):
                act()
        wire.stall(group["a"])
        for number in range(1, 50):
            guest.ask(b"delete k%d\r\n" % number)
        assert group["b"].rows["tombstones"] < 10
        if again:
            group["b"].peer("a").stop_asking()
            group["b"].node.membership.consider(group["b"].peer("a"))
            assert group["b"].peer("a").asked_to_replace
        wire.resume()
        group.advance(2)
        group.check_equal()
        assert len(group["a"].values()) == 50

    def test_who_wants_all_holds_nothing_that_may_have_been_deleted_either(self):
        """It may be another one's fault that it wants all."""
        group = make_group(replication_backlog_bytes=8000)
        fill(group["a"], 100)
        group.wire("a", "b").cut()
        group.advance(1)
        group["b"].peer("a").overrates_us = True
        view = group["a"].node.view
        view.epoch = view.next_epoch(0)  # so it is "b" that joins
        guest = Guest(group["a"])
        for number in range(50):
            guest.ask(b"delete k%d\r\n" % number)
        group.link("a", "b")
        group.advance(2)
        group.check_equal()
        assert len(group["b"].values()) == 50


# -- one server --------------------------------------------------------------------------------


class TestTogether:
    def test_whoever_is_asked_it_is_one_server(self):
        group = make_group()
        first, second = Guest(group["a"]), Guest(group["b"])
        assert second.ask(b"add k 5 100 1\r\n1\r\n") == STORED
        assert first.ask(b"add k 0 0 1\r\n2\r\n") == b"NOT_STORED\r\n"
        assert second.ask(b"incr k 4\r\n") == b"5\r\n"
        assert first.ask(b"incr k 4\r\n") == b"9\r\n"
        cas = first.ask(b"gets k\r\n").split()[4]
        assert cas == second.ask(b"gets k\r\n").split()[4]
        assert second.ask(b"cas k 0 0 1 %s\r\n3\r\n" % cas) == STORED
        assert first.ask(b"cas k 0 0 1 %s\r\n4\r\n" % cas) == b"EXISTS\r\n"
        assert second.ask(b"append k 0 0 1\r\n3\r\n") == STORED
        assert first.ask(GET) == b"VALUE k 0 2\r\n33\r\nEND\r\n"
        assert second.ask(b"delete k\r\n") == b"DELETED\r\n"
        assert first.ask(GET) == MISS
        group.check_equal()

    def test_of_two_that_add_at_once_one_wins(self):
        group = make_group()
        group.warm()
        first, second = Guest(group["a"]), Guest(group["b"])
        first.feed(b"add k 0 0 1\r\n1\r\n")
        second.feed(b"add k 0 0 1\r\n2\r\n")
        group.settle()
        assert sorted([first.take(), second.take()]) == [b"NOT_STORED\r\n", STORED]

    def test_a_stale_item_is_won_once(self):
        group = make_group()
        first, second = Guest(group["a"]), Guest(group["b"])
        first.ask(SET + b"md k I\r\n")
        answers = [second.ask(b"mg k v\r\n"), first.ask(b"mg k v\r\n"), second.ask(b"mg k v\r\n")]
        assert [b" W" in answer for answer in answers] == [True, False, False]

    def test_a_reply_waits_until_both_have_it(self):
        group = make_group()
        group.warm()
        guest = Guest(group["a"])
        wire = group.wire("a", "b")
        wire.stall(group["b"])  # what is sent arrives, the answer does not
        assert guest.ask(SET) == b""
        assert group["b"].values() == {b"k": b"1"}
        wire.resume()
        assert guest.ask() == STORED

    def test_so_does_who_reads_what_is_not_safe_yet(self):
        group = make_group()
        group.warm()
        writer, reader, other = (Guest(group["a"]) for _ in range(3))
        writer.ask(b"set old 0 0 1\r\n1\r\n")
        other.ask(b"get old\r\n")
        wire = group.wire("a", "b")
        wire.stall(group["b"])
        writer.feed(SET)
        assert reader.ask(GET) == b""
        assert other.ask(b"get old\r\n") == b"VALUE old 0 1\r\n1\r\nEND\r\n"
        wire.resume()
        assert reader.ask() == HIT

    def test_though_what_was_said_before_is_safe(self):
        """Each waits for the latest that he may have seen, and not for any other."""
        group = make_group()
        group.warm()
        first, second, reader = (Guest(group["a"]) for _ in range(3))
        wire = group.wire("a", "b")
        wire.stall(group["b"])
        assert first.ask(b"set old 0 0 1\r\n1\r\n") == b""
        acknowledged = b"".join(wire.queues[1])
        wire.queues[1].clear()
        assert second.ask(SET) == b""
        assert reader.ask(GET) == b""
        wire.links[0].receive(acknowledged)
        assert first.ask() == STORED
        assert second.take() == reader.take() == b""
        wire.resume()
        assert second.ask() == STORED
        assert reader.take() == HIT

    @pytest.mark.parametrize("fast", [True, False])
    @pytest.mark.parametrize("names", ["ab", "abc"])
    def test_and_who_reads_what_was_just_executed_for_another_node(self, names, fast):
        """Else it is seen here first, and then what was before it there."""
        group = make_group(names)
        writer, reader = Guest(group["b"]), Guest(group["a"], fast=fast)
        writer.ask(SET)
        reader.ask(GET)
        group.warm()
        writer.feed(b"set k 0 0 1\r\n2\r\n")
        group["b"].turn()
        group.wire("a", "b").carry()
        assert group["a"].values() == {b"k": b"2"}
        reader.feed(GET)  # before that turn of the coordinator ends
        assert reader.take() == b""
        assert reader.ask() == b"VALUE k 0 1\r\n2\r\nEND\r\n"
        assert group["b"].values() == {b"k": b"2"}

    @pytest.mark.parametrize("writer", "ab")
    def test_and_who_reads_an_item_with_a_cas_unique_that_says_nothing(self, writer):
        """A client chose it: it may be that of long ago."""
        group = make_group()
        guest, reader = Guest(group[writer]), Guest(group["a"])
        reader.ask(SET + GET)
        group.warm()
        guest.feed(b"ms k 1 E5\r\n2\r\n")
        if writer == "b":
            group["b"].turn()
            group.wire("a", "b").carry()
        assert group["a"].values() == {b"k": b"2"}
        reader.feed(GET)
        assert reader.take() == b""
        assert reader.ask() == b"VALUE k 0 1\r\n2\r\nEND\r\n"
        assert group["b"].values() == {b"k": b"2"}

    def test_and_who_reads_what_one_tells_that_is_being_brought_in_sync(self):
        group = make_group("abc", votes=False)
        reader = Guest(group["a"])
        reader.ask(SET + GET)
        for other in "ab":
            group.wire(other, "c").cut()
        group.advance(1)
        assert roles(group) == ["coordinator", "follower", "alone"]
        Guest(group["c"]).ask(b"set k 0 0 1\r\n2\r\n")
        group.advance(10)
        group.warm()
        wire = Wire(group["a"], group["c"])
        while group["a"].values() == {b"k": b"1"}:
            group["a"].turn()
            group["c"].turn()
            wire.carry()
        assert group["a"].node.role == "coordinator"
        reader.feed(GET)
        assert reader.take() == b""
        assert reader.ask() == b"VALUE k 0 1\r\n2\r\nEND\r\n"
        assert group["b"].values() == {b"k": b"2"}

    def test_async_waits_for_nobody(self):
        group = make_group(replication_ack="async")
        group.warm()
        wire = group.wire("a", "b")
        wire.stall()
        guest = Guest(group["a"])
        assert guest.ask(SET + GET) == STORED + HIT
        wire.resume()
        group.settle()
        group.check_equal()

    def test_a_flush_reaches_all(self):
        group = make_group()
        fill(group["a"], 20)
        guest = Guest(group["b"])
        assert guest.ask(b"flush_all\r\nset k 0 0 1\r\n1\r\n") == b"OK\r\n" + STORED
        for host in group.hosts.values():
            assert host.values() == {b"k": b"1"}
        group.advance(2)
        assert Guest(group["a"]).ask(GET) == HIT  # that was stored in the second of the flush
        group.check_equal()

    @pytest.mark.parametrize("node", "ab")
    def test_a_flush_to_come_comes_for_all(self, node):
        group = make_group()
        guest = Guest(group[node])
        assert guest.ask(SET + b"flush_all 10\r\n") == STORED + b"OK\r\n"
        before = group["a"].cache.counters.flush_cmds
        group.advance(8)
        assert [len(host.values()) for host in group.hosts.values()] == [1, 1]
        group.advance(3)
        assert [len(host.values()) for host in group.hosts.values()] == [0, 0]
        assert guest.ask(b"set k 0 0 1\r\n1\r\n" + GET) == STORED + HIT
        group.advance(20)
        assert guest.ask(GET) == HIT
        assert group["a"].cache.counters.flush_cmds == before

    def test_even_if_the_one_that_was_to_do_it_is_gone(self):
        group = make_group()
        Guest(group["a"]).ask(SET + b"flush_all 10\r\n")
        group["a"].stop()
        group.advance(11)
        assert group["b"].node.role == "alone"
        assert group["b"].values() == {}

    def test_and_to_who_joins_later(self):
        group = make_group()
        group["b"].stop()
        group.advance(1)
        Guest(group["a"]).ask(SET + b"flush_all 10\r\n")
        group["b"].start()
        group.link("a", "b")
        group.advance(1)
        due_at = [host.changes.flush_due_at for host in group.hosts.values()]
        begun = [host.cache.seconds_of(0.0) for host in group.hosts.values()]
        assert due_at[0] > 0 < due_at[1]
        assert abs(due_at[1] - begun[1] - (due_at[0] - begun[0])) <= 0.5
        group.advance(10)
        assert group["b"].values() == {}

    def test_what_is_evicted_here_stays_there(self):
        group = Group("a", peers=(address_of("b"),), item_size_max_bytes=1 << 19)
        group["a"].cache.slabs.limit_bytes = 1 << 20
        group.add("b", peers=(address_of("a"),), item_size_max_bytes=1 << 19)
        group.link_all()
        guest = Guest(group["a"])
        for number in range(30):
            data = b"set k%d 0 0 100000\r\n" % number + bytes(100_000) + b"\r\n"
            assert guest.ask(data) == STORED
        assert len(group["a"].values()) < 12
        assert len(group["b"].values()) == 30
        group.check()

    def test_times_to_live_survive_clocks_that_differ(self):
        group = Group("a", peers=(address_of("b"),))
        group.add("b", peers=(address_of("a"),), skew_s=30.0)
        group.link_all()
        Guest(group["a"]).ask(b"set k 0 20 1\r\n1\r\n")
        group.advance(18)
        assert [len(host.values()) for host in group.hosts.values()] == [1, 1]
        group.advance(4)
        for host in group.hosts.values():
            host.service.tick()
            assert host.values() == {}

    def test_large_values_pass(self):
        group = make_group()
        guest = Guest(group["b"])
        for number in range(5):
            data = b"set k%d 0 0 1000000\r\n" % number + bytes(1_000_000) + b"\r\n"
            assert guest.ask(data) == STORED
        group.check_equal()
        group["a"].stop()
        group.advance(1)
        group["a"].start()
        group.link("a", "b")
        group.advance(1)
        group.check_equal()


# -- loss --------------------------------------------------------------------------------------


class TestLoss:
    @pytest.mark.parametrize("how", ["stalled", "cut", "stopped", "frozen"])
    @pytest.mark.parametrize(("dies", "stays"), ["ab", "ba"])
    def test_a_client_waits_no_longer_than_the_time_out_and_once(self, dies, stays, how):
        group = make_group()
        group.warm()
        guest = Guest(group[stays])
        guest.ask(b"set old 0 0 1\r\n1\r\n")
        if how == "stalled":
            group.wire("a", "b").stall()
        elif how == "cut":
            group.wire("a", "b").cut()
        elif how == "stopped":
            group[dies].stop()
        else:
            group[dies].frozen = True
        guest.feed(SET)
        answer, waited_s = wait_for(guest, 1)
        assert answer == STORED
        assert waited_s <= PATIENCE_S
        assert group[stays].node.role == "alone"
        assert guest.ask(b"incr k 1\r\nget old k\r\n") == (
            b"2\r\nVALUE old 0 1\r\n1\r\nVALUE k 0 1\r\n2\r\nEND\r\n"
        )
        rows = group[stays].rows
        assert rows["degraded"] == "yes"
        assert rows["degraded_count"] == 1
        assert rows["unprotected_now"] >= 1
        assert rows["state"] == rows["role"] == "alone"
        group.advance(10)
        assert group[stays].rows["degraded_seconds"] >= 10

    def test_not_before_the_time_out_is_an_unprotected_write_acknowledged(self):
        """A host that is dying often loses its link first."""
        group = make_group()
        group.warm()
        guest = Guest(group["a"])
        group.wire("a", "b").cut()
        guest.feed(SET)
        group.advance(ACK_TIMEOUT_S - 0.01)
        assert guest.take() == b""

    @pytest.mark.parametrize("node", "ab")
    def test_who_is_idle_notices_by_the_silence(self, node):
        group = make_group()
        group.wire("a", "b").stall()
        group.advance(SILENCE_S - HEARTBEAT_S - 0.1)
        assert group[node].node.role.in_sync
        group.advance(2 * HEARTBEAT_S + 0.2)
        assert group[node].node.role == "alone"
        group.advance(2 * SILENCE_S)
        assert group[node].node.membership.links == []

    def test_what_was_acknowledged_is_there(self):
        group = make_group()
        first, second = Guest(group["a"]), Guest(group["b"])
        for number in range(20):
            guest = first if number % 2 else second
            assert guest.ask(b"set k%d 0 0 1\r\n1\r\n" % number) == STORED
        group["a"].stop()
        group.advance(1)
        assert len(group["b"].values()) == 20

    def test_a_forward_that_was_answered_in_vain_is_not_executed_twice(self):
        """The coordinator executes it, and dies before anybody hears of it."""
        group = make_group()
        guest = Guest(group["b"])
        guest.ask(b"set n 0 0 1\r\n0\r\n")
        group.wire("a", "b").stall(group["a"])
        guest.feed(b"incr n 1\r\n")
        group.settle()
        assert group["a"].values() == {b"n": b"1"}
        group["a"].stop()
        assert wait_for(guest, 1)[0] == b"1\r\n"
        assert group["b"].values() == {b"n": b"1"}

    def test_one_whose_result_arrived_is_not_executed_at_all(self):
        group = make_group()
        guest = Guest(group["b"])
        guest.ask(b"set n 0 0 1\r\n0\r\n")
        group.wire("a", "b").stall(group["b"])
        guest.feed(b"incr n 1\r\n")
        group.settle()
        group.wire("a", "b").resume()
        group.settle()
        group["a"].stop()
        assert guest.take() == b"1\r\n"
        group.advance(1)
        assert group["b"].values() == {b"n": b"1"}

    def test_strict_refuses_what_nobody_else_would_have(self):
        group = make_group(replication_ack="strict")
        group.warm()
        guest, other = Guest(group["a"]), Guest(group["a"], fast=False)
        assert guest.ask(SET) == guest.ask(b"set m 0 0 1\r\n1\r\n") == STORED
        group.wire("a", "b").cut()
        guest.feed(b"set k 0 0 1\r\n2\r\n")
        answer, _ = wait_for(guest, 1)
        refusal = (
            b"SERVER_ERROR not replicated: no peer acknowledges (--replication-ack strict)\r\n"
        )
        assert answer == refusal
        for command in (SET, b"delete k\r\n", b"incr k 1\r\n", b"touch k 0\r\n", b"flush_all\r\n"):
            assert guest.ask(command) == refusal
            assert other.ask(command) == refusal
        assert guest.ask(b"set k 0 0 1 noreply\r\n5\r\ndelete k noreply\r\nversion\r\n") == (
            b"VERSION 1.6.45\r\n"
        )
        assert guest.ask(b"get m\r\n") == b"VALUE m 0 1\r\n1\r\nEND\r\n"
        (reply,) = binary.decode(Guest(group["a"]).ask(binary.store(binary.SET, b"k", b"3")))
        assert reply.status == 0x86
        assert reply.value == b"Not replicated: no peer"
        group.link("a", "b")
        group.advance(2)
        assert guest.ask(b"set k 0 0 1\r\n4\r\n") == STORED
        group.check_equal()

    @pytest.mark.parametrize("change", [b"set k 0 0 1\r\n2\r\n", b"delete k\r\n", b"flush_all\r\n"])
    @pytest.mark.parametrize("fast", [True, False])
    def test_nor_does_strict_show_it_to_others(self, change, fast):
        """If this node dies as well, the other one goes on without that."""
        group = make_group(replication_ack="strict")
        group.warm()
        guest, reader = Guest(group["a"]), Guest(group["a"], fast=fast)
        for key in (b"k", b"m", b"n"):
            assert guest.ask(b"set %b 0 0 1\r\n1\r\n" % key) == STORED
        group.wire("a", "b").stall()
        guest.feed(change)
        waits = Guest(group["a"])
        waits.feed(b"get k\r\n")
        refusal, _ = wait_for(guest, 1)
        assert refusal.startswith(b"SERVER_ERROR not replicated")
        assert waits.take() == refusal
        for get in (b"get k\r\n", b"get m k\r\n", b"mg k v\r\n", b"gat 0 k\r\n"):
            assert reader.ask(get) == refusal
        (reply,) = binary.decode(Guest(group["a"]).ask(binary.request(binary.GET, b"k")))
        assert reply.status == 0x86
        flushed = change.startswith(b"flush_all")
        shown = b"VALUE m 0 1\r\n1\r\nEND\r\n"
        assert reader.ask(b"get m\r\n") == (refusal if flushed else shown)
        group.check()
        group.wire("a", "b").cut()
        group.link("a", "b")
        group.advance(1.0)
        assert roles(group) == ["coordinator", "follower"]
        assert b"VALUE k 0 1\r\n1\r\n" not in reader.ask(b"get k m n\r\n")
        group.check_equal()

    def test_strict_refuses_nothing_where_another_follower_is_left(self):
        """Nor is it shown before that one has it."""
        group = make_group("abc", votes=False, replication_ack="strict")
        group.warm()
        group.wire("a", "b").stall(group["b"])
        group.wire("a", "c").stall(group["c"])
        guest, reader = Guest(group["a"]), Guest(group["a"])
        guest.feed(SET)
        group.settle()
        group["c"].stop()
        group["c"].start()
        group.link("c", "a")
        assert group["a"].node.role == "coordinator"
        group.check()
        reader.feed(b"get k\r\n")
        group.settle()
        assert guest.take() == reader.take() == b""
        group.wire("a", "b").resume()
        group.settle()
        assert guest.take() == STORED
        assert reader.take() == b"VALUE k 0 1\r\n1\r\nEND\r\n"

    def test_strict_refuses_followers_clients_as_well(self):
        group = make_group(replication_ack="strict")
        guest = Guest(group["b"])
        group["a"].stop()
        guest.feed(SET)
        assert wait_for(guest, 1)[0].startswith(b"SERVER_ERROR not replicated")
        assert group["b"].values() == {}

    def test_who_was_lost_again_and_again_is_taken_back_later(self):
        group = make_group()
        guest = Guest(group["a"])
        gaps = []
        for _ in range(3):
            wire = group.wire("a", "b")
            wire.stall()
            guest.feed(SET)
            wait_for(guest, 1)
            wire.cut()
            group.link("a", "b")
            gap_s = 0.0
            while not group["a"].node.role.in_sync:
                group.advance(0.05)
                gap_s += 0.05
            gaps.append(gap_s)
        assert gaps == sorted(gaps)
        assert gaps[-1] > 2 * gaps[0]
        assert gaps[-1] <= READMIT_MAX_S + 1
        group.advance(7 * READMIT_MAX_S)
        assert group["a"].peer("b").lapses == 0

    def test_a_line_a_minute(self):
        group = make_group()
        for _ in range(4):
            group.wire("a", "b").cut()
            group.advance(0.5)
            group.link("a", "b")
            group.advance(READMIT_MAX_S)
        lines = [line for line in group["a"].lines if "does not answer" in line]
        assert lines == ["replication: b does not answer (the link is down); going on without it"]
        group.advance(COMPLAIN_EVERY_S)
        group.wire("a", "b").cut()
        group.advance(1)
        lines = [line for line in group["a"].lines if "does not answer" in line]
        assert len(lines) == 2


class TestFrozen:
    def test_who_wakes_up_asks_before_it_answers(self):
        group = make_group()
        Guest(group["a"]).ask(SET)
        guest = Guest(group["a"])
        group["a"].frozen = True
        group.advance(ACK_TIMEOUT_S)  # the lease of b ends
        other = Guest(group["b"])
        other.feed(GET)
        assert wait_for(other, 1)[0] == HIT
        assert group["b"].node.role == "alone"
        assert other.ask(b"set k 0 0 1\r\n2\r\n") == STORED
        group["a"].frozen = False
        guest.feed(GET)  # before it hears anything
        group["a"].turn()
        assert guest.take() == b""
        wire = group.wires[0] if group.wires else group.link("a", "b")
        assert wire
        answer, waited_s = wait_for(guest, 3)
        assert answer == b"VALUE k 0 1\r\n2\r\nEND\r\n"
        assert waited_s <= 1

    @pytest.mark.parametrize("ack_timeout_s", [ACK_TIMEOUT_S, 2.0, 10.0, 60.0])
    @pytest.mark.parametrize("frozen", "ab")
    def test_however_patient_they_are(self, frozen, ack_timeout_s):
        """For a lease it answers without asking: so long nobody goes on without it."""
        group = make_group(replication_ack_timeout_s=ack_timeout_s)
        Guest(group["a"]).ask(SET)
        group.warm()
        sleeper, awake = group[frozen], group["b" if frozen == "a" else "a"]
        sleeper.frozen = True
        other = Guest(awake)
        for _ in range(100):
            group.advance(ack_timeout_s / 50)
            other.feed(b"set k 0 0 1\r\n2\r\n")
            group.settle()
            if other.take():
                break
        assert awake.node.role == "alone"
        guest = Guest(sleeper)
        sleeper.frozen = False
        guest.feed(GET)
        sleeper.turn()
        assert guest.take() == b""

    @pytest.mark.parametrize("frozen", ["a", "b"])
    @pytest.mark.parametrize("frozen_s", [STALE_S + 0.1, 8])
    def test_what_was_asked_of_who_stood_still_is_out_of_date(self, frozen, frozen_s):
        group = make_group()
        group.warm()
        sleeper, awake = group[frozen], group["b" if frozen == "a" else "a"]
        sent, executed, silent = Guest(sleeper), Guest(sleeper), Guest(sleeper)
        silent.ask(SET)
        executed.feed(b"set k 0 0 8\r\nexecuted\r\n")
        sleeper.frozen = True
        group.advance(frozen_s)
        other = Guest(awake)
        other.feed(b"set k 0 0 5\r\nlater\r\n")
        assert wait_for(other, 1)[0] == STORED
        sleeper.frozen = False
        sent.feed(b"set k 0 0 5\r\nstale\r\n")
        group.settle()
        if not group.wires:  # it was silent for too long
            group.link("a", "b")
        group.advance(3)
        assert sleeper.node.role.in_sync
        assert sent.connection.closing
        assert executed.connection.closing
        assert sent.take() + executed.take() == b""
        assert silent.ask(GET) == b"VALUE k 0 5\r\nlater\r\nEND\r\n"
        group.check_equal()
        assert any("stood still" in line for line in sleeper.lines)

    def test_a_client_of_a_quiet_pair_is_not_cut_off_when_the_other_node_dies(self):
        group = make_group()
        group.advance(20)
        group["b"].frozen = True
        guest = Guest(group["a"])
        guest.feed(SET)
        assert wait_for(guest, 1)[0] == STORED
        assert not guest.connection.closing

    def test_who_was_late_but_not_missed_answers_everybody(self):
        group = make_group()
        group.warm()
        guest = Guest(group["a"])
        group["a"].frozen = group["b"].frozen = True
        group.advance(8)
        group["a"].frozen = group["b"].frozen = False
        guest.feed(SET)
        assert wait_for(guest, 3)[0] == STORED
        assert not guest.connection.closing
        # That it was late once is forgotten.
        group.advance(0.5)
        group["b"].frozen = True
        guest.feed(SET)
        assert wait_for(guest, 1)[0] == STORED

    def test_what_it_executed_alone_is_executed_again_elsewhere(self):
        group = make_group()
        group.warm()
        first, second = Guest(group["a"]), Guest(group["b"])
        first.ask(b"set n 0 0 2\r\n10\r\n")
        first.feed(b"incr n 1\r\n")  # executed, but nobody has heard of it
        group["a"].frozen = True
        second.feed(b"incr n 1\r\n")
        assert wait_for(second, 1)[0] == b"11\r\n"
        group["a"].frozen = False
        answer, _ = wait_for(first, 3)
        assert answer == b"12\r\n"
        group.advance(2)
        assert group["a"].values() == {b"n": b"12"}
        group.check_equal()
        assert group["b"].node.role == "coordinator"
        assert any("went on without this node" in line for line in group["a"].lines)

    def test_what_the_other_one_has_is_not_though_an_answer_came_behind_it(self):
        """That arrived before the link was lost, and is acknowledged with it."""
        group = make_group()
        a, b = group["a"], group["b"]
        heard, unheard, other = Guest(a), Guest(a), Guest(b)
        heard.ask(b"set n 0 0 2\r\n10\r\n")
        group.warm()
        wire = group.wire("a", "b")
        wire.stall()
        heard.feed(b"incr n 1\r\n")
        other.feed(b"incr none 1\r\n")
        group.settle()
        for silent in "ab":  # what b asks arrives; then the change, and the answer behind it
            wire.stall(group[silent])
            group.settle()
        assert other.take() == b"NOT_FOUND\r\n"
        wire.stall()
        unheard.feed(b"incr n 1\r\n")
        group.settle()
        a.frozen = True
        wire.cut()
        other.feed(b"incr n 1\r\n")
        assert wait_for(other, 1)[0] == b"12\r\n"
        a.frozen = False
        group.link("a", "b")
        group.advance(2)
        assert b.node.role == "coordinator"
        assert (heard.take(), unheard.take()) == (b"11\r\n", b"13\r\n")
        assert a.values() == {b"n": b"13"}
        group.check_equal()

    @pytest.mark.parametrize("fast", [True, False])
    def test_a_pipeline_is_executed_again_as_a_whole(self, fast):
        group = make_group()
        group.warm()
        first, second = Guest(group["a"], fast=fast), Guest(group["b"])
        first.ask(b"set n 0 0 2\r\n10\r\n")
        first.feed(b"version\r\nincr n 1\r\nnonsense\r\nget n\r\nset m 0 0 1\r\n1\r\n")
        group["a"].frozen = True
        second.feed(b"incr n 1\r\n")
        assert wait_for(second, 1)[0] == b"11\r\n"
        group["a"].frozen = False
        group.advance(2)
        assert first.take() == (
            b"VERSION 1.6.45\r\n12\r\nERROR\r\nVALUE n 0 2\r\n12\r\nEND\r\nSTORED\r\n"
        )
        group.check_equal()

    def test_a_flush_that_nobody_heard_of_is_taken_back(self):
        group = make_group()
        group.warm()
        first, second = Guest(group["a"]), Guest(group["b"])
        fill(group["a"], 10)
        first.feed(b"flush_all\r\n")
        group["a"].frozen = True
        second.feed(SET)
        assert wait_for(second, 1)[0] == STORED
        group["a"].frozen = False
        answer, _ = wait_for(first, 3)
        assert answer == b"OK\r\n"
        group.advance(2)
        group.check_equal()
        assert group["a"].values() == {}

    def test_who_slept_a_little_goes_on(self):
        group = make_group()
        guest = Guest(group["a"])
        group["a"].frozen = True
        group.advance(0.5)
        group["a"].frozen = False
        group.advance(0.1)
        assert guest.ask(SET) == STORED
        assert roles(group) == ["coordinator", "follower"]
        assert group["a"].rows["degraded_count"] == 0

    def test_nobody_is_blamed_for_ones_own_sleep(self):
        """What came meanwhile has not been read yet: whoever is late must not give up others."""
        group = make_group()
        guest = Guest(group["b"])
        guest.ask(SET)
        for name in "ab":
            group[name].frozen = True
        group.advance(10)
        for name in "ab":
            group[name].frozen = False
        group.advance(0.05)
        assert roles(group) == ["coordinator", "follower"]
        assert guest.ask(GET) == HIT


class TestNotMet:
    """A peer that was not met since this node started may have lived on: it is away."""

    def apart(self, group: Group, restarted: str | None) -> Host:
        """Have two that are in sync go on alone; return the one that is to change something."""
        assert Guest(group["a"]).ask(b"set session 0 0 3\r\nold\r\n") == STORED
        group.warm()
        group.wire("a", "b").cut()
        for host in group.hosts.values():
            Guest(host).feed(GET)
        group.advance(0.5)
        where = group[restarted or "a"]
        if restarted:
            where.stop()
            where.start()
        group.advance(2)
        assert roles(group) == ["alone", "alone"]
        return where

    @pytest.mark.parametrize("restarted", [None, "a", "b"])
    @pytest.mark.parametrize("dialled_by", "ab")
    @pytest.mark.parametrize(
        ("later_s", "others"), [(0, 0), (70, 0), (0, 30)], ids=["soon", "late", "no room"]
    )
    def test_no_deletion_is_undone_when_it_is_back(self, restarted, dialled_by, later_s, others):
        group = make_group(tombstone_ttl_s=60, sync_timeout_s=1, replication_backlog_bytes=20_000)
        where = self.apart(group, restarted)
        guest = Guest(where)
        answer = b"NOT_FOUND\r\n" if restarted else b"DELETED\r\n"
        assert guest.ask(b"delete session\r\n") == answer
        for number in range(others):
            assert guest.ask(b"delete other%d\r\n" % number) == b"NOT_FOUND\r\n"
        group.check()
        group.advance(later_s)
        group.link(dialled_by, "b" if dialled_by == "a" else "a")
        group.advance(READMIT_MAX_S + 2)
        assert [host.values() for host in group.hosts.values()] == [{}, {}]
        group.check_equal()
        group.advance(62)
        assert [host.rows["tombstones"] for host in group.hosts.values()] == [0, 0]

    @pytest.mark.parametrize("restarted", [None, "a", "b"])
    @pytest.mark.parametrize("dialled_by", "ab")
    @pytest.mark.parametrize("gone", ["ended", "evicted"])
    def test_nor_does_what_was_replaced_return(self, restarted, dialled_by, gone):
        """Though what took its place is gone by then."""
        group = make_group(sync_timeout_s=1)
        where = self.apart(group, restarted)
        assert Guest(where).ask(b"set session 0 1 3\r\nnew\r\n") == STORED
        item = where.cache.linked(b"session")
        if gone == "ended":
            group.advance(3)
            where.cache.reclaim(item)
        else:
            where.cache.unlink(item)
        group.check()
        group.link(dialled_by, "b" if dialled_by == "a" else "a")
        group.advance(READMIT_MAX_S + 2)
        assert [host.values() for host in group.hosts.values()] == [{}, {}]
        group.check_equal()

    @pytest.mark.parametrize("restarted", "ab")
    @pytest.mark.parametrize("apart", [True, False])
    def test_nor_is_an_item_taken_for_deleted_as_many_others_were(self, restarted, apart):
        """Who has just started learns of more deletions than it has room for."""
        group = make_group(sync_timeout_s=1, replication_backlog_bytes=20_000)
        guest = Guest(group["a"])
        for number in range(30):
            assert guest.ask(b"set k%d 0 0 1\r\n1\r\n" % number) == STORED
        group.warm()
        group.wire("a", "b").cut()
        for host in group.hosts.values():
            Guest(host).feed(GET)
        group.advance(0.5)
        where, other = group[restarted], group["b" if restarted == "a" else "a"]
        where.stop()
        guest = Guest(other)
        for number in range(16):
            guest.ask(b"delete other%d\r\n" % number)
        where.start()
        where.changes.tombstones.limit_bytes = 1_000
        if apart:
            group.advance(2)
            assert where.node.role == "alone"
            Guest(where).ask(b"delete x\r\n")
        kept = other.values()
        assert len(kept) == 30
        group.link("a", "b")
        group.advance(READMIT_MAX_S + 2)
        assert sorted(roles(group)) == ["coordinator", "follower"]
        assert [host.values() for host in group.hosts.values()] == [kept, kept]

    def test_nor_when_one_of_three_returns_to_who_has_only_heard_of_it(self):
        group = make_group("abc", votes=False, tombstone_ttl_s=60)
        assert Guest(group["a"]).ask(b"set session 0 0 3\r\nold\r\n") == STORED
        group.warm()
        away = group["c"]
        for wire in list(group.wires):
            if away in wire.hosts:
                wire.cut()
        for host in group.hosts.values():
            Guest(host).feed(GET)
        group.advance(1)
        assert roles(group) == ["coordinator", "follower", "alone"]
        assert Guest(group["b"]).ask(b"delete session\r\n") == b"DELETED\r\n"
        group.advance(100)
        group["a"].stop()
        Guest(group["b"]).feed(GET)
        group.advance(1)
        group.link("b", "c")
        group.advance(READMIT_MAX_S + 2)
        assert [group[name].values() for name in "bc"] == [{}, {}]

    def test_for_one_that_never_comes_a_bounded_number_is_kept(self):
        group = Group("a", peers=(address_of("b"),), sync_timeout_s=1)
        group.advance(1.5)
        host = group["a"]
        host.changes.tombstones.limit_bytes = 10_000
        guest = Guest(host)
        for number in range(1000):
            guest.ask(b"set k%d 0 0 1\r\n1\r\n" % number)
            guest.ask(b"delete k%d\r\n" % number)
        assert 20 < host.rows["tombstones"] < 40
        group.advance(7 * 86400)
        assert 20 < host.rows["tombstones"] < 40
        for number in range(1000):
            guest.ask(b"set k%d 0 0 1\r\n1\r\n" % number)
        assert host.rows["tombstones"] == 0
        assert host.rows["backlog_items"] == 0
        # When it comes at last it has nothing, and gets everything.
        group.add("b", peers=(address_of("a"),))
        group.link("b", "a")
        group.advance(1)
        assert len(group["b"].values()) == 1000
        assert roles(group) == ["coordinator", "follower"]

    def test_oneself_is_nobody_to_wait_for(self):
        group = Group("a", peers=(address_of("a"),), tombstone_ttl_s=60)
        group.link("a", "a")
        group.advance(1)
        Guest(group["a"]).ask(b"delete k\r\n")
        assert group["a"].rows["tombstones"] == 1
        group.advance(62)
        group["a"].step()
        assert group["a"].rows["tombstones"] == 0


def put_to_sleep(group: Group, name: str, slept_s: float, *naps_s: float) -> tuple[Host, Host]:
    """Have a server, and its network, stand still while the other one goes on; return both.

    `naps_s`: after that it is awake for a moment again and again.
    """
    sleeper, other = group[name], group["b" if name == "a" else "a"]
    Guest(sleeper).ask(b"set k 0 0 3\r\nold\r\nset session 0 0 1\r\n1\r\n")
    group.warm()
    (wire,) = group.wires
    wire.stall()
    sleeper.frozen = True
    guest = Guest(other)
    guest.feed(b"set k 0 0 3\r\nnew\r\ndelete session\r\n")
    assert wait_for(guest, 5)[0] == b"STORED\r\nDELETED\r\n"
    group.advance(slept_s)
    for nap_s in naps_s:
        sleeper.frozen = False
        group.advance(ACK_TIMEOUT_S / 4)
        sleeper.frozen = True
        group.advance(nap_s)
    sleeper.frozen = False
    return sleeper, other


def ask_each_moment(host: Host, seconds: float) -> set[bytes]:
    """Have a new client every now and then; return what they hear, but for silence."""
    heard = set()
    for _ in range(round(seconds / 0.05)):
        guest = Guest(host)
        guest.feed(b"get k session\r\n")
        host.group.advance(0.05)
        heard.add(guest.take())
        host.service.disconnected(guest.connection)
        host.guests.remove(guest)
    return heard - {b""}


def part(group: Group) -> None:
    """Have everybody see that the links are gone."""
    for wire in list(group.wires):
        wire.cut()


NEW = b"VALUE k 0 3\r\nnew\r\nEND\r\n"
OLD = b"VALUE k 0 3\r\nold\r\nVALUE session 0 1\r\n1\r\nEND\r\n"


class TestBehind:
    """Who stood still for long, or joined for long, and then finds nobody: at first."""

    @pytest.mark.parametrize("name", "ab")
    @pytest.mark.parametrize("times_s", [(600,), (SILENCE_S + 0.1,), (2, 2), (2, 1.5, 1.5)])
    @pytest.mark.parametrize("network_s", [0.05, 0.3, 1.0, 5.0, 25.0])
    def test_waits_for_a_late_network(self, name, times_s, network_s):
        group = make_group()
        sleeper, other = put_to_sleep(group, name, *times_s)
        assert ask_each_moment(sleeper, network_s) == set()
        if network_s >= 0.3:
            assert sleeper.rows["state"] == "joining"
            assert sleeper.rows["peer_0:in_sync"] == "no"
            assert [line for line in sleeper.lines if "--sync-timeout" in line]
        part(group)
        group.link("a", "b")
        assert ask_each_moment(sleeper, 1.0) == {NEW}
        group.advance(10)
        assert other.node.role == "coordinator"
        group.check_equal()

    @pytest.mark.parametrize("name", "ab")
    @pytest.mark.parametrize("told", [True, False], ids=["link lost", "silent"])
    def test_begins_as_a_new_one_does_if_there_is_really_nobody(self, name, told):
        group = make_group(sync_timeout_s=10)
        sleeper, other = put_to_sleep(group, name, 600)
        if told:
            other.stop()
        other.alive = False
        assert ask_each_moment(sleeper, 9.9) == set()
        assert ask_each_moment(sleeper, 1.0) == {OLD}
        assert sleeper.node.role == "alone"
        group.check()

    @pytest.mark.parametrize("name", "ab")
    def test_goes_on_at_once_if_the_other_has_started_anew_and_has_nothing(self, name):
        group = make_group()
        sleeper, other = put_to_sleep(group, name, 600)
        other.stop()
        other.start()
        group.link("a", "b")
        assert ask_each_moment(sleeper, 0.2) == {OLD}
        group.advance(1)
        assert sleeper.node.role == "coordinator"
        group.check_equal()

    @pytest.mark.parametrize("name", "ab")
    def test_joins_the_other_if_that_has_started_anew_and_served_meanwhile(self, name):
        group = make_group(sync_timeout_s=5)
        sleeper, other = put_to_sleep(group, name, 600)
        sleeper.frozen = True
        other.stop()
        other.start()
        group.advance(6)
        assert Guest(other).ask(b"set k 0 0 3\r\nnew\r\nset session 0 0 1\r\n2\r\n") == STORED * 2
        sleeper.frozen = False
        group.link("a", "b")
        newest = NEW.replace(b"END", b"VALUE session 0 1\r\n2\r\nEND")
        assert ask_each_moment(sleeper, 1.0) == {newest}
        group.advance(1)
        group.check_equal()

    @pytest.mark.parametrize("name", "ab")
    def test_goes_on_at_once_without_who_is_lost_when_it_has_caught_up(self, name):
        """So does any node whose peer simply dies."""
        group = make_group()
        sleeper, other = put_to_sleep(group, name, 600)
        part(group)
        group.link("a", "b")
        group.advance(1)
        assert sleeper.node.role == "follower"
        group.warm()
        other.alive = False
        guest = Guest(sleeper)
        guest.feed(GET)
        answer, waited_s = wait_for(guest, 1)
        assert answer == NEW
        assert waited_s <= 2 * ACK_TIMEOUT_S

    def test_joins_who_has_gone_on_though_that_one_wants_to_join_it(self):
        """What that one did meanwhile has not been heard: it leads, and takes this one for two."""
        group = make_group()
        group.warm()
        a, b = group["a"], group["b"]
        wire = group.wires[0]
        a.frozen = True
        wire.stall(b)  # what b says is late: nothing of it reaches a before its JOIN
        guest = Guest(b)
        guest.feed(b"set k 0 0 3\r\nnew\r\n")
        group.advance(SILENCE_S + 0.5)
        assert b.node.role == "alone"
        assert guest.take() == STORED
        peer, now = a.peer("b"), group.clock.monotonic()
        assert peer.channel is not None
        left = peer.channel.epoch
        join = Join(wants=[], all=False, leads=True, left=left, pending=[], replace=0)
        a.frozen = False
        a.node.membership._join_arrived(peer, join, now)  # before it knows that it stood still
        assert a.node.role == "joining"
        wire.resume()
        assert ask_each_moment(a, 1.0) <= {b"VALUE k 0 3\r\nnew\r\nEND\r\n"}
        group.advance(5)
        group.check_equal()
        assert a.values() == {b"k": b"new"}

    def test_waits_if_it_loses_the_one_that_it_is_joining(self):
        group = make_group(sync_timeout_s=10)
        sleeper, other = put_to_sleep(group, "b", 600)
        part(group)
        wire = Wire(other, sleeper)
        while sleeper.node.role != "joining":
            wire.carry()
            for host in group.hosts.values():
                host.turn()
        wire.cut()
        assert ask_each_moment(sleeper, 9.5) == set()
        other.alive = False
        assert ask_each_moment(sleeper, 2.0) == {OLD}

    def test_goes_on_soon_without_the_one_that_it_is_joining_if_it_was_away_for_a_moment_only(self):
        group = make_group()
        sleeper, other = put_to_sleep(group, "b", 0.4)
        part(group)
        wire = Wire(other, sleeper)
        while sleeper.node.role != "joining":
            wire.carry()
            for host in group.hosts.values():
                host.turn()
        wire.cut()
        other.alive = False
        guest = Guest(sleeper)
        guest.feed(b"get k session\r\n")
        group.advance(ACK_TIMEOUT_S + 0.02)
        assert guest.connection.closing
        assert ask_each_moment(sleeper, 0.85) == set()
        assert ask_each_moment(sleeper, 0.2) == {OLD}

    @pytest.mark.parametrize("name", "ab")
    def test_waits_though_its_clock_stood_still_as_well(self, name):
        """So it does while a machine is suspended."""
        group = make_group()
        sleeper, _ = put_to_sleep(group, name, 0)
        sleeper.node.host = replace(sleeper.node.host, suspended_s=lambda: 600.0)
        group.advance(0.1)
        assert ask_each_moment(sleeper, 1.0) == set()
        part(group)
        group.link("a", "b")
        assert ask_each_moment(sleeper, 1.0) == {NEW}

    @pytest.mark.parametrize("awake_s", [0.3, 0.9])
    def test_waits_though_nothing_was_due_at_first(self, awake_s):
        """So it seems to have slept for a shorter time."""
        group = make_group()
        Guest(group["b"]).ask(b"set k 0 0 3\r\nold\r\nset session 0 0 1\r\n1\r\n")
        group.advance(5 * HEARTBEAT_S + awake_s)
        (wire,) = group.wires
        wire.stall()
        group["b"].frozen = True
        guest = Guest(group["a"])
        guest.feed(b"set k 0 0 3\r\nnew\r\ndelete session\r\n")
        assert wait_for(guest, 5)[0] == b"STORED\r\nDELETED\r\n"
        group.advance(SILENCE_S)
        group["b"].frozen = False
        assert ask_each_moment(group["b"], 2.0) == set()
        part(group)
        group.link("a", "b")
        assert ask_each_moment(group["b"], 1.0) == {NEW}

    def test_takes_nobody_in_any_more_who_is_told_that_he_was_left_behind(self):
        group = make_group("abc", votes=False)
        group["c"].stop()
        group.advance(0.5)
        group["c"].start()
        wire = Wire(group["c"], group["a"])
        while group["a"].peer("c").phase is not Phase.HOSTING:
            wire.carry()
            group["c"].turn()
        group["a"].turn()
        for each in group.wires:
            each.stall()
        group["a"].frozen = group["c"].frozen = True
        group.advance(60)
        group["a"].frozen = False
        group["a"].step()
        group["a"].node.lose([group["a"].peer("b")], "restarted")
        group.check()
        assert group["a"].node.role == "joining"

    def test_two_that_stood_still_together_have_missed_nothing(self):
        group = make_group()
        Guest(group["a"]).ask(SET)
        for host in group.hosts.values():
            host.frozen = True
        group.advance(600)
        for host in group.hosts.values():
            host.frozen = False
        guest = Guest(group["b"])
        guest.feed(GET)
        answer, waited_s = wait_for(guest, 1)
        assert answer == HIT
        assert waited_s <= ACK_TIMEOUT_S
        group.advance(0.1)
        assert roles(group) == ["coordinator", "follower"]
        assert group["b"].rows["state"] == "in_sync"

    @pytest.mark.parametrize("name", "abc")
    def test_of_three_one_that_stood_still_joins_the_others(self, name):
        group = make_group("abc", votes=False)
        sleeper = group[name]
        Guest(sleeper).ask(b"set k 0 0 3\r\nold\r\n")
        group.warm()
        for wire in group.wires:
            if sleeper in wire.hosts:
                wire.stall()
        sleeper.frozen = True
        guest = Guest(group["a" if name == "c" else "c"])
        guest.feed(b"set k 0 0 3\r\nnew\r\n")
        assert wait_for(guest, 5)[0] == STORED
        group.advance(600)
        sleeper.frozen = False
        assert ask_each_moment(sleeper, 5.0) == set()
        for wire in list(group.wires):
            if sleeper in wire.hosts:
                wire.cut()
        for other in "abc":
            if other != name:
                group.link(name, other)
        assert ask_each_moment(sleeper, 1.0) == {NEW}
        group.advance(10)
        assert sorted(roles(group)) == ["coordinator", "follower", "follower"]
        group.check_equal()


class TestPartition:
    def part(self, **settings) -> Group:
        group = make_group(**settings)
        fill(group["a"], 30)
        group.wire("a", "b").cut()
        group.advance(1)
        assert roles(group) == ["alone", "alone"]
        return group

    def heal(self, group: Group) -> None:
        group.link("a", "b")
        group.advance(2)
        assert sorted(roles(group)) == ["coordinator", "follower"]
        group.check_equal()

    def test_both_serve_and_the_later_write_wins(self):
        group = self.part()
        first, second = Guest(group["a"]), Guest(group["b"])
        first.ask(b"set x 0 0 1\r\na\r\nset onlya 0 0 1\r\n1\r\ndelete k3\r\n")
        group.advance(0.1)
        second.ask(b"set x 0 0 1\r\nb\r\nset onlyb 0 0 1\r\n1\r\nset y 0 0 1\r\nb\r\n"
                   b"set k3 0 0 1\r\nb\r\n")  # fmt: skip
        group.advance(0.1)
        first.ask(b"set y 0 0 1\r\na\r\ndelete k4\r\n")
        self.heal(group)
        values = group["a"].values()
        assert (values[b"x"], values[b"y"], values[b"k3"]) == (b"b", b"a", b"b")
        assert {b"onlya", b"onlyb"} <= set(values)
        assert b"k4" not in values
        assert sum(host.rows["conflicts"] for host in group.hosts.values()) >= 3

    def test_what_did_not_change_is_no_conflict(self):
        group = self.part()
        Guest(group["a"]).ask(b"set k1 0 0 1\r\na\r\n")
        Guest(group["b"]).ask(b"set k2 0 0 1\r\nb\r\n")
        self.heal(group)
        assert [host.rows["conflicts"] for host in group.hosts.values()] == [0, 0]

    def test_a_flush_counts_for_what_was_there_before(self):
        group = self.part()
        Guest(group["a"]).ask(b"flush_all\r\n")
        group.advance(0.1)
        Guest(group["b"]).ask(b"set later 0 0 1\r\n1\r\n")
        self.heal(group)
        assert group["a"].values() == {b"later": b"1"}

    @pytest.mark.parametrize("asked_for", [True, False])
    def test_what_expired_on_one_side_does_not_come_back_from_the_other(self, asked_for):
        group = self.part()
        Guest(group["a"]).ask(b"set k0 0 1 1\r\na\r\n")
        group.advance(3)
        if asked_for:
            assert Guest(group["a"]).ask(b"get k0\r\n") == MISS
        self.heal(group)
        assert b"k0" not in group["b"].values()

    def test_a_newer_write_is_safe_while_the_older_side_recovers(self):
        group = self.part()
        Guest(group["b"]).ask(b"set k0 0 0 1\r\nb\r\n")
        wire = Wire(group["a"], group["b"])
        guest = Guest(group["b"])
        for number in range(30):
            guest.feed(b"set k0 0 0 2\r\n%02d\r\n" % number)
            group["b"].turn()
            wire.carry()
            group["a"].turn()
        group.advance(2)
        group.check_equal()
        assert group["a"].values()[b"k0"] == b"29"

    def test_strict_nodes_let_nobody_write_in_it(self):
        group = self.part(replication_ack="strict")
        for name in "ab":
            assert b"SERVER_ERROR" in Guest(group[name]).ask(SET)
        self.heal(group)
        assert group["a"].rows["conflicts"] == 0


# -- slow peers --------------------------------------------------------------------------------


class TestSlow:
    def test_async_keeps_no_more_than_the_queue(self):
        group = make_group(replication_ack="async", replication_queue=20)
        group.warm()
        wire = group.wire("a", "b")
        guest = Guest(group["a"])
        wire.stall()
        for number in range(100):
            data = b"set k%d 0 0 100000\r\n" % number + bytes(100_000) + b"\r\n"
            assert guest.ask(data) == STORED
        rows = group["a"].rows
        assert rows["queue_bytes"] <= 12 << 20
        assert rows["queue_items"] <= 20
        wire.resume()
        group.advance(0.05)
        group.check_equal()
        assert len(group["b"].values()) == 100

    def test_what_changed_often_is_sent_once(self):
        group = make_group(replication_ack="async")
        group.warm()
        wire = group.wire("a", "b")
        guest = Guest(group["a"])
        wire.stall()
        value = bytes(500_000)
        for number in range(40):
            guest.ask(b"set k%d 0 0 500000\r\n" % (number % 4) + value + b"\r\n")
        sent = sum(map(len, wire.queues[0]))
        assert sent < 6 << 20
        wire.resume()
        group.advance(0.05)
        group.check_equal()

    @pytest.mark.parametrize("queue", [20, 65536])
    def test_nothing_is_acknowledged_that_waits_behind_others(self, queue):
        """A node accepts, and there is still more than may be on its way at once."""
        group = make_group(replication_queue=queue)
        group["b"].stop()
        group.advance(1)
        group["b"].start()
        first, second = group["a"], group["b"]
        caller, callee = Wire(second, first).links
        group.wires.clear()  # it is carried by hand
        while not ("b" in first.node.view.peers and first.peer("b").phase is Phase.PROPOSED):
            callee.receive(b"".join(caller.take_output()))
            first.turn()
            proposal = callee.take_output()
            if not first.node.view.peers or first.peer("b").phase is not Phase.PROPOSED:
                caller.receive(b"".join(proposal))
                second.turn()
        guest = Guest(first)
        for number in range(80):
            data = b"set k%d 0 0 100000\r\n" % number + bytes(100_000) + b"\r\n"
            assert guest.ask(data) == STORED  # nobody else is in the view yet
        rest = callee.take_output()
        assert first.peer("b").resync.under_way
        caller.receive(b"".join(proposal))
        second.turn()
        callee.receive(b"".join(caller.take_output()))
        guest.feed(SET)
        first.turn()
        rest += callee.take_output()
        caller.receive(b"".join(rest))
        second.turn()
        callee.receive(b"".join(caller.take_output()))
        first.turn()
        group.settle()
        if guest.take() == STORED and first.node.role == "coordinator":
            assert b"k" in second.values()
        # In the end they are in sync.
        for _ in range(300):
            caller.receive(b"".join(callee.take_output()))
            second.turn()
            callee.receive(b"".join(caller.take_output()))
            first.turn()
            group.advance(0.001)
        assert roles(group) == ["coordinator", "follower"]
        assert guest.ask() in (STORED, b"")
        assert len(second.values()) == 81
        group.check_equal()


class TestLarge:
    """However much there is to say at once, no frame is too large for the other side."""

    VALUE = bytes(1_000_000)
    COUNT = 40

    def fill(self, group: Group) -> None:
        guest = Guest(group["a"])
        for number in range(self.COUNT):
            assert guest.ask(self.request(number)) == STORED

    def request(self, number: int) -> bytes:
        return b"set k%d 0 0 1000000\r\n" % number + self.VALUE + b"\r\n"

    @pytest.mark.parametrize("node", "ab")
    def test_many_large_writes_in_one_turn(self, node):
        group = make_group(memory_limit_bytes=200 << 20)
        group.warm()
        guests = [Guest(group[node]) for _ in range(self.COUNT)]
        for number, guest in enumerate(guests):
            guest.feed(self.request(number))
        group.settle()
        assert [guest.take() for guest in guests] == [STORED] * self.COUNT
        assert len(group.wires) == 1
        assert group["a"].rows["reconnects"] == 0
        group.check_equal()

    def test_a_pipeline_that_writes_and_then_reads_a_lot(self):
        group = make_group(memory_limit_bytes=200 << 20)
        self.fill(group)
        guest = Guest(group["b"])
        keys = b" ".join([b"k%d" % number for number in range(self.COUNT)])
        answer = guest.ask(b"set x 0 0 1\r\n1\r\nget " + keys + b"\r\n")
        group.advance(0.5)
        answer += guest.take()
        assert answer.startswith(STORED)
        assert answer.count(b"VALUE") == self.COUNT
        assert group["a"].rows["reconnects"] == 0
        assert group["a"].node.role.in_sync
        group.check_equal()


# -- three -------------------------------------------------------------------------------------


class TestThree:
    def test_all_hold_everything(self):
        group = make_group("abc")
        for name in "abc":
            fill(group[name], 5, name.encode())
        group.check_equal()
        assert len(group["c"].values()) == 15
        assert group["b"].rows["coordinator"] == group["c"].rows["coordinator"] == "a"

    def test_a_reply_waits_for_all(self):
        group = make_group("abc")
        group.warm()
        for name in "abc":
            guest = Guest(group[name])
            group.wire("a", "c").stall()
            assert guest.ask(b"set k 0 0 1\r\n1\r\n") == b"", name
            group.wire("a", "c").resume()
            assert guest.ask() == STORED, name

    def test_when_one_is_gone_the_others_go_on(self):
        group = make_group("abc")
        group.warm()
        guest = Guest(group["b"])
        group["c"].stop()
        guest.feed(SET)
        answer, waited_s = wait_for(guest, 1)
        assert answer == STORED
        assert waited_s <= PATIENCE_S + SLACK_S
        assert roles(group) == ["coordinator", "follower"]
        assert group["a"].node.view.members == group["b"].node.view.members == ["a", "b"]
        group["c"].start()
        group.link("a", "c")
        group.link("b", "c")
        group.advance(2)
        assert roles(group) == ["coordinator", "follower", "follower"]
        group.check_equal()

    def test_when_the_coordinator_is_gone_the_smallest_goes_on(self):
        group = make_group("abc")
        fill(group["c"], 20)
        guests = [Guest(group[name]) for name in "bc"]
        group["a"].stop()
        for guest in guests:
            guest.feed(b"add k%s 0 0 1\r\n1\r\n" % guest.host.name.encode())
        group.advance(3)
        assert [guest.take() for guest in guests] == [STORED, STORED]
        assert roles(group) == ["coordinator", "follower"]
        assert group["b"].rows["coordinator"] == "b"
        group.check_equal()
        assert len(group["b"].values()) == 22
        group["a"].start()
        group.link("a", "b")
        group.link("a", "c")
        group.advance(2)
        assert group["b"].node.role == "coordinator"
        assert group["a"].node.role == "follower"
        group.check_equal()

    def test_two_that_are_cut_off_from_the_third(self):
        group = make_group("abc", votes=False)
        fill(group["a"], 5)
        group.wire("a", "c").cut()
        group.wire("b", "c").cut()
        group.advance(1)
        assert [group[name].node.role for name in "abc"] == ["coordinator", "follower", "alone"]
        Guest(group["b"]).ask(b"set x 0 0 1\r\nb\r\ndelete k1\r\n")
        group.advance(0.1)
        Guest(group["c"]).ask(b"set x 0 0 1\r\nc\r\nset y 0 0 1\r\nc\r\n")
        group.link("a", "c")
        group.link("b", "c")
        group.advance(3)
        group.check_equal()
        assert sorted(roles(group)) == ["coordinator", "follower", "follower"]
        values = group["a"].values()
        assert values[b"x"] == b"c"
        assert values[b"y"] == b"c"
        assert b"k1" not in values


class TestAwkwardMoments:
    @pytest.mark.parametrize("turns", range(1, 12))
    @pytest.mark.parametrize(("returns", "stays"), ["ab", "ba"])
    def test_a_link_may_break_at_any_moment_of_joining(self, returns, stays, turns):
        group = make_group()
        fill(group["a"], 20)
        group[returns].stop()
        group.advance(1)
        group[returns].start()
        wire = Wire(group[returns], group[stays])
        for _ in range(turns):
            wire.carry()
            group[returns].turn()
            wire.carry()
            group[stays].turn()
        if wire in group.wires:
            wire.cut()
        group.link(stays, returns)
        group.advance(3)
        assert group[stays].node.role == "coordinator"
        assert group[returns].node.role == "follower"
        group.check_equal()
        assert len(group[returns].values()) == 20

    def test_who_leaves_lets_the_others_go_on_at_once(self):
        group = make_group()
        group.warm()
        guest = Guest(group["b"])
        guest.ask(SET)
        assert group["a"].node.leave()
        group.settle()
        assert group["b"].node.role == "alone"
        assert guest.ask(GET + b"incr k 1\r\n") == HIT + b"2\r\n"

    @pytest.mark.parametrize("when", ["alone", "starting"])
    def test_who_leaves_does_not_begin(self, when):
        """Its process may be there a little longer."""
        group = make_group() if when == "alone" else Group()
        group["b"].stop()
        group.advance(20.0)
        assert group["a"].node.role == when
        assert group["a"].node.leave()
        group.advance(60.0)
        assert group["a"].node.role == "starting"

    def test_but_not_before_everything_is_acknowledged(self):
        group = make_group()
        group.warm()
        guest = Guest(group["a"])
        group.wire("a", "b").stall()
        guest.feed(SET)
        group.settle()
        assert not group["a"].node.leave()
        group.wire("a", "b").resume()
        group.settle()
        assert guest.take() == STORED
        assert group["a"].node.leave()
        group.settle()
        assert group["b"].values() == {b"k": b"1"}

    def test_but_nobody_is_waited_for_that_is_silent(self):
        """It was just taken in, and no client waits for that: so nothing is due for a second."""
        group = make_group()
        group.warm()
        a, b = group["a"], group["b"]
        b.stop()
        group.advance(5.0)
        b.start()

        def fall_silent() -> None:
            if b.node.role == "follower":
                group.wire("a", "b").stall()

        b.view_changed = fall_silent
        group.link("a", "b")
        group.advance(0.02)
        assert (a.node.role, a.node.drained()) == ("coordinator", False)
        waited_s = 0.0
        while not a.node.leave():
            group.advance(0.01)
            waited_s += 0.01
        assert waited_s < 2 * ACK_TIMEOUT_S

    def test_nor_before_one_that_was_there_is_again(self):
        group = make_group()
        group.warm()
        a, b = group["a"], group["b"]
        group.wire("a", "b").cut()
        group.advance(0.2)
        assert Guest(a).ask(SET) == STORED
        assert a.node.role == "alone"
        assert a.node.awaited
        group.link("b", "a")
        assert not a.node.awaited
        assert a.node.leave()
        group.settle()
        assert b.values() == {b"k": b"1"}

    def test_and_that_one_is_served_meanwhile(self):
        """It may be put off for long, as it was lost: its clients do not wait for that."""
        group = make_group()
        group.warm()
        a, b = group["a"], group["b"]
        group.wire("a", "b").stall(b)
        Guest(a).feed(SET)
        group.settle()
        assert not a.node.leave()
        group.advance(0.2)
        assert a.node.role == "alone"
        group.wire("a", "b").resume()
        group.settle()
        assert (b.node.role, a.node.awaited) == ("joining", True)
        client = Guest(b)
        client.feed(b"get k\r\n")
        group.advance(0.01)
        assert b.node.role == "joining"
        assert client.take() == b"VALUE k 0 1\r\n1\r\nEND\r\n"
        group.advance(1.0)
        assert not a.node.awaited
        while not a.node.leave():
            group.advance(0.01)
        group.settle()
        assert b.node.role == "alone"

    @pytest.mark.parametrize("how", ["is gone", "has left"])
    def test_but_for_no_other(self, how):
        group = make_group()
        group.warm()
        a, b = group["a"], group["b"]
        if how == "has left":
            assert b.node.leave()
            group.settle()
        b.stop()
        group.advance(0.2)
        assert a.node.role == "alone"
        assert a.node.awaited is (how == "is gone")
        group.advance(1.0)
        assert not a.node.awaited

    def test_nor_later_though_others_ask_on(self):
        group = make_group()
        group.warm()
        a, b = group["a"], group["b"]
        wire = group.wire("a", "b")
        wire.stall(b)
        guest, other = Guest(a), Guest(b)
        guest.feed(SET)
        group.settle()
        assert not a.node.leave()
        other.feed(b"set other 0 0 1\r\n2\r\n")
        group.settle()
        wire.resume()
        wire.carry()  # what b asks comes behind what it acknowledges
        assert guest.take() == STORED
        assert a.node.leave()
        group.settle()
        assert other.take() == STORED
        assert a.values() == {b"k": b"1"}
        assert b.values() == {b"k": b"1", b"other": b"2"}

    @pytest.mark.parametrize("request_", [SET, GET, b"mg k v\r\nmn\r\n"])
    @pytest.mark.parametrize("name", "ab")
    def test_nobody_waits_any_more_for_one_that_is_gone(self, name, request_):
        group = make_group()
        group.advance(0.4)
        leaving, gone = group[name], group["b" if name == "a" else "a"]
        group.wire("a", "b").stall()
        guest = Guest(leaving)
        guest.feed(request_)
        group.settle()
        gone.stop()
        assert leaving.node.leave()
        group.settle()
        assert guest.take() == b""
        assert guest.connection.closing
        group.check()

    def test_who_was_joining_serves_what_it_executed_when_the_other_one_is_gone(self):
        group = make_group()
        group.warm()
        first, second = Guest(group["a"]), Guest(group["b"])
        first.ask(b"set n 0 0 2\r\n10\r\n")
        first.feed(b"incr n 1\r\n")
        group["a"].frozen = True
        second.feed(b"incr n 1\r\n")
        assert wait_for(second, 1)[0] == b"11\r\n"
        group["a"].frozen = False
        for _ in range(20):
            group["a"].turn()
            for wire in list(group.wires):
                wire.carry()
            if group["a"].node.role == "joining":
                break
        group["b"].stop()
        group.advance(ACK_TIMEOUT_S + 0.02)
        assert first.connection.closing
        group.advance(JOIN_GRACE_S)
        assert group["a"].node.role == "alone"
        assert Guest(group["a"]).ask(b"get n\r\n") == b"VALUE n 0 2\r\n12\r\nEND\r\n"

    def test_nodes_never_give_out_the_same_version(self):
        """Names that happen to have the same tag."""
        tags: dict[int, str] = {}
        for number in range(5000):
            name = f"n{number}"
            other = tags.setdefault(tag_of(name), name)
            if other != name:
                break
        group = Group([other, name])
        group.link_all()
        group.advance(1)
        assert group[other].changes.tag != group[name].changes.tag

    def test_what_is_complained_about_is_bounded(self):
        node = make_group()["a"].node
        for number in range(1000):
            node.complain(f"number {number}", "a line")
        assert len(node._complaints) <= 101


def test_a_peer_that_is_not_there_costs_nothing():
    group = make_group()
    group["b"].stop()
    group.advance(100)
    assert group["a"].node.membership.links == []
    assert len(group["a"].node.view.peers) == 1 < PEERS_MAX
    assert JOIN_GRACE_S < 100


def test_a_follower_misses_its_coordinator_soon_if_it_looks_after_it():
    for patience_s, missed_s in ((None, 3.0), (0.4, 0.5)):
        group = make_group("ab")
        group["a"].frozen = True
        waited_s = 0.0
        while group["b"].node.role == "follower":
            assert waited_s < 10
            if patience_s is not None:
                group["b"].node.look_after_leader(patience_s)
            group.advance(0.02)
            waited_s += 0.02
        assert missed_s - 0.5 <= waited_s < missed_s + 0.2


def test_looking_after_a_coordinator_that_has_nothing_to_say_does_no_harm():
    group = make_group("ab")
    for _ in range(500):
        for host in group.hosts.values():
            host.node.look_after_leader(0.4)
        group.advance(0.02)
        assert not group["b"].node.gate.waiting
    assert [host.node.role for host in group.hosts.values()] == ["coordinator", "follower"]
    assert group["b"].rows["degraded_count"] == 0
    group.wire("a", "b").cut()
    group["b"].node.look_after_leader(0.4)
    group.advance(0.2)
    group["b"].node.look_after_leader(0.4)
    assert group["b"].node.role == "alone"


def test_who_is_left_of_three_keeps_deletions_for_whom_it_never_told_anything():
    """Both were in sync with the coordinator, and so with each other."""
    group = make_group("abc", votes=False)
    left = group["b"]
    assert not left.peer("c").known
    group.wire("b", "c").cut()
    group["a"].stop()
    group.advance(3)
    assert left.node.role == "alone"
    group["a"].start()
    group.link("a", "b")
    group.advance(2)
    assert left.node.view.members == ["b", "a"]
    assert not left.node.changes.tombstones.shared
    Guest(left).ask(b"set k 0 0 1\r\n1\r\n")
    item = left.service.cache.linked(b"k")
    assert item is not None
    left.service.cache.unlink(item)  # as an eviction does
    assert left.node.changes.tombstones.get(b"k")


@pytest.mark.parametrize("due", ["_see_to_joining", "_see_to_votes", "_keep_in_touch"])
def test_who_cannot_do_all_that_is_due_has_not_stood_still(due, monkeypatch):
    """Else the others would be given time anew, each time, to say something."""
    group = make_group()
    group.closes_on_error = True
    node = group["a"].node
    since, left = node.awake.since, 3
    do_it = getattr(node, due)

    def fail(now: float) -> None:
        nonlocal left
        left -= 1
        if left >= 0:
            raise MemoryError
        do_it(now)

    monkeypatch.setattr(node, due, fail)
    group.advance(3.0)
    assert left < 0
    assert node.awake.since == since
    group.check()
