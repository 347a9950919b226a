"""`stats replication`: which rows there are, in which order, and what they tell."""

from __future__ import annotations

import pytest

from pymcd.replication.peer import Phase
from pymcd.replication.report import Degradation
from pymcd.replication.roles import ALONE, COORDINATOR, FOLLOWER, STARTING
from tests.replication.helpers import ACK_TIMEOUT_S, Group, Guest, Host, Wire, make_group

from ..clocks import ManualClock

SET = b"set k 0 0 1\r\n1\r\n"

ROWS = [
    "state",
    "role",
    "node_id",
    "pymcd_version",
    "epoch",
    "coordinator",
    "ready",
    "draining",
    "ack_mode",
    "ack_timeout_ms",
    "degraded",
    "degraded_count",
    "degraded_seconds",
    "unprotected_writes",
    "degraded_now_seconds",
    "unprotected_now",
    "memory_limit",
    "evictions",
    "sequence",
    "queue_items",
    "queue_bytes",
    "backlog_items",
    "backlog_bytes",
    "tombstones",
    "conflicts",
    "clock_steps",
    "stale_frames",
    "forwards_sent",
    "forwards_executed",
    "full_resyncs",
    "partial_resyncs",
    "reconnects",
    "authentication_failures",
    "handshake_failures",
    "last_refusal",
]
ROWS_OF_A_PEER = [
    "node_id",
    "pymcd_version",
    "protocol_version",
    "differs",
    "address",
    "link",
    "in_sync",
    "state",
    "copied_items",
    "copied_of",
    "copies_broken",
    "answer_ms",
    "memory_limit",
    "acked_sequence",
    "lag_items",
    "lag_ms",
    "unacked_bytes",
    "clock_skew_ms",
    "last_heard_ms",
    "last_error",
]


class TestRows:
    @pytest.mark.parametrize("names", ["a", "ab", "abc"])
    def test_their_names_and_their_order(self, names):
        group = make_group(names)
        of_peers = [
            f"peer_{number}:{name}" for number in range(len(names) - 1) for name in ROWS_OF_A_PEER
        ]
        for host in group.hosts.values():
            of_votes = ["voters", "may_fail"] if len(names) > 2 else []
            assert [name for name, _ in host.node.rows()] == ROWS + of_votes + of_peers

    def test_peers_come_by_their_ids_however_they_were_met(self):
        group = Group("abc")
        group.link("c", "b")
        group.link("b", "a")
        rows = group["b"].rows
        assert (rows["peer_0:node_id"], rows["peer_1:node_id"]) == ("a", "c")

    def test_values_are_words(self):
        group = make_group()
        for _ in range(2):
            for host in group.hosts.values():
                for _, value in host.node.rows():
                    assert str(value)
                    assert " " not in str(value)
            group.wire("a", "b").cut()
            group.advance(1)
            group.link("a", "b")
            group.wire("a", "b").stall()


def tell_a_part(one: Host, other: Host, key: bytes) -> Wire:
    """Have one tell another what it has of a key, and no more, over a new link."""
    wire = Wire(one, other)
    said = one.values()[key]
    for silent in (one, other) * 20:  # one speaks, then the other one
        wire.resume()
        wire.stall(silent)
        one.group.settle()
        if other.values().get(key) == said:
            break
    assert other.values()[key] == said
    assert not other.node.role.in_sync
    return wire


class TestWhatIsTold:
    #: How a node comes to be so -> state, role, coordinator, ready, degraded.
    STATES = {
        "new": ("starting", "none", "-", "no", "no"),
        "first": ("in_sync", "coordinator", "a", "yes", "no"),
        "second": ("in_sync", "follower", "a", "yes", "no"),
        "left over": ("alone", "alone", "b", "yes", "yes"),
        "lost": ("joining", "none", "b", "yes", "yes"),
        "single": ("alone", "alone", "a", "yes", "no"),
    }

    def host(self, how: str) -> Host:
        if how == "new":
            return Group()["a"]
        if how == "single":
            return make_group("a")["a"]
        group = make_group("abc" if how == "lost" else "ab", votes=False)
        if how in ("first", "second"):
            return group["a" if how == "first" else "b"]
        if how == "lost":
            group.wire("b", "c").stall()
        group["a"].stop()
        group.advance(0.1)
        return group["c" if how == "lost" else "b"]

    @pytest.mark.parametrize("how", STATES)
    def test_what_it_is(self, how):
        rows = self.host(how).rows
        names = ("state", "role", "coordinator", "ready", "degraded")
        assert tuple(rows[name] for name in names) == self.STATES[how]

    def test_what_was_said_on_the_command_line(self):
        rows = make_group(replication_ack="strict", replication_ack_timeout_s=0.25)["a"].rows
        assert (rows["ack_mode"], rows["ack_timeout_ms"]) == ("strict", 250)

    def test_a_peer_that_is_there_and_one_that_is_not(self):
        group = make_group()
        names = ("link", "in_sync", "state", "last_error")
        rows = group["a"].rows
        assert [rows[f"peer_0:{name}"] for name in names] == ["up", "yes", "in_sync", "-"]
        group["b"].stop()
        group.advance(1)
        rows = group["a"].rows
        assert [rows[f"peer_0:{name}"] for name in names] == [
            "down", "no", "down", "the_link_is_down",
        ]  # fmt: skip
        assert rows["peer_0:last_heard_ms"] >= 1000

    def test_what_is_behind_shows(self):
        group = make_group()
        group.warm()
        Guest(group["a"]).ask(SET)
        group.wire("a", "b").stall()
        Guest(group["a"]).ask(SET)
        group.clock.advance(0.01)
        rows = group["a"].rows
        assert rows["peer_0:lag_items"] == 1
        assert rows["peer_0:lag_ms"] == 10.0
        assert rows["peer_0:unacked_bytes"] == rows["queue_bytes"] > 0
        assert not group["a"].node.drained()
        group.wire("a", "b").resume()
        group.settle()
        assert group["a"].rows["peer_0:lag_items"] == 0

    @pytest.mark.parametrize("name", "bc")
    def test_of_two_who_followed_a_third_what_one_alone_changed_is_no_conflict(self, name):
        group = make_group("abc", votes=False)
        Guest(group["a"]).ask(SET)
        Guest(group["a"]).ask(b"set later 0 0 1\r\n1\r\n")  # then b and c know that both have k
        group.wire("b", "c").cut()
        group["a"].stop()
        group.advance(1)
        assert [group[each].node.role for each in "bc"] == ["alone", "alone"]
        assert Guest(group[name]).ask(b"set k 0 0 1\r\n2\r\n") == b"STORED\r\n"
        group.link("b", "c")
        group.advance(2)
        assert group["b"].values()[b"k"] == group["c"].values()[b"k"] == b"2"
        assert [group[each].rows["conflicts"] for each in "bc"] == [0, 0]

    @pytest.mark.parametrize("others", [False, True])
    def test_what_one_of_three_was_told_by_another_one_that_we_followed_is_no_conflict(
        self, others
    ):
        """a told c a part, and b has changed that since, which had it; l they did change apart."""
        group = make_group("abc", votes=False)
        a, b, c = group.hosts.values()
        assert Guest(a).ask(SET) == b"STORED\r\n"
        for other in (a, b):
            group.wire(other.name, "c").cut()
        group.advance(1)
        assert c.node.role is ALONE
        assert Guest(a).ask(b"set k 0 0 1\r\n2\r\n") == b"STORED\r\n"
        if others:
            assert Guest(c).ask(b"set l 0 0 1\r\n2\r\n") == b"STORED\r\n"
        tell_a_part(a, c, b"k")
        a.stop()
        group.advance(1)
        assert [each.node.role for each in (b, c)] == [ALONE, ALONE]
        assert Guest(b).ask(b"set k 0 0 1\r\n3\r\n") == b"STORED\r\n"
        if others:
            assert Guest(b).ask(b"set l 0 0 1\r\n3\r\n") == b"STORED\r\n"
        group.link("b", "c")
        group.advance(5)
        assert {each.node.role.in_sync for each in (b, c)} == {True}
        assert b.values()[b"k"] == c.values()[b"k"] == b"3"
        assert [each.rows["conflicts"] for each in (b, c)] == [others, others]

    def test_what_one_of_three_is_given_back_of_its_own_is_no_conflict(self):
        """a told c a part; then it followed b, which has changed that, and decides again."""
        group = make_group("abc", votes=False)
        a, b, c = group.hosts.values()
        for other in (a, b):
            group.wire(other.name, "c").cut()
        group.advance(1)
        assert Guest(a).ask(SET) == b"STORED\r\n"
        tell_a_part(a, c, b"k")
        a.frozen = True
        group.wire("a", "b").cut()
        group.advance(1)
        assert Guest(b).ask(b"set k 0 0 1\r\n2\r\n") == b"STORED\r\n"
        a.frozen = False
        group.link("a", "b")
        group.advance(1)
        assert [each.node.role for each in (a, b, c)] == [FOLLOWER, COORDINATOR, ALONE]
        b.stop()
        group.advance(1)
        group.link("a", "c")
        group.advance(5)
        assert {each.node.role.in_sync for each in (a, c)} == {True}
        assert a.values()[b"k"] == c.values()[b"k"] == b"2"
        assert [each.rows["conflicts"] for each in (a, c)] == [0, 0]

    @pytest.mark.parametrize(
        ("here", "there", "conflicts"), [(-1, 0, 0), (0, -1, 0), (0, 99, 1), (-1, 99, 1)]
    )
    def test_what_has_ended_on_one_side_is_no_conflict(self, here, there, conflicts):
        group = make_group()
        group["b"].stop()
        group.advance(1)
        changes, gate = group["a"].changes, group["a"].node.gate
        version = changes.latest()
        changes.tombstones.add(b"k", version + here)
        gate._note_conflict(group["a"].peer("b"), b"k", version + there)
        assert group["a"].rows["conflicts"] == conflicts

    def test_of_three_who_follows_does_not_say_what_another_one_lacks(self):
        group = make_group("abc")
        for name in "abc":
            assert Guest(group[name]).ask(SET) == b"STORED\r\n"
        for host in group.hosts.values():
            assert [host.rows[f"peer_{number}:lag_items"] for number in (0, 1)] == [0, 0]
        assert group["a"].node.drained()

    def test_what_was_written_unprotected(self):
        group = make_group()
        guest = Guest(group["a"])
        assert guest.ask(SET) == b"STORED\r\n"
        assert group["a"].rows["unprotected_writes"] == 0
        group["b"].stop()
        group.advance(ACK_TIMEOUT_S + 0.02)
        guest.ask(SET + SET)
        rows = group["a"].rows
        assert rows["unprotected_writes"] == rows["unprotected_now"] == 1  # of one key, in one turn
        group["b"].start()
        group.link("a", "b")
        group.advance(10)
        rows = group["a"].rows
        assert (rows["unprotected_writes"], rows["unprotected_now"]) == (1, 0)


class TestDegradation:
    def test_it_counts_how_long_it_was_and_is(self):
        clock = ManualClock()
        degradation = Degradation(clock)
        #: What is noted then; whether it is news; for how long now, and in all, one second later.
        for degraded, news, now_s, total_s in [
            (False, False, 0.0, 0.0),
            (True, True, 1.0, 1.0),
            (True, False, 2.0, 2.0),
            (False, True, 0.0, 2.0),
            (False, False, 0.0, 2.0),
            (True, True, 1.0, 3.0),
        ]:
            assert degradation.note(degraded) == news
            clock.advance(1)
            assert (degradation.now_s, degradation.total_s) == (now_s, total_s)


class TestAfterAPartition:
    def split(self) -> Group:
        group = make_group()
        group.wire("a", "b").cut()
        group.advance(1)
        return group

    def write(self, host: Host, keys: str, value: bytes) -> None:
        for key in keys:
            Guest(host).ask(b"set %s 0 0 1\r\n%s\r\n" % (key.encode(), value))

    def test_nobody_is_behind_when_all_is_told(self):
        group = self.split()
        self.write(group["a"], "klm", b"1")
        self.write(group["b"], "xyz", b"2")
        group.link("a", "b")
        group.advance(15)
        for host in group.hosts.values():
            assert host.node.role.in_sync
            assert host.rows["peer_0:lag_items"] == 0
        group.check_equal()

    def test_what_both_have_changed_is_counted(self):
        group = self.split()
        self.write(group["a"], "klm", b"1")
        self.write(group["b"], "lmn", b"2")
        group.link("a", "b")
        group.advance(15)
        assert sum(host.rows["conflicts"] for host in group.hosts.values()) >= 2
        assert max(host.rows["conflicts"] for host in group.hosts.values()) == 2

    def test_what_one_changes_again_while_both_catch_up_is_none(self):
        group = make_group()
        wire = group.wire("a", "b")
        wire.stall()
        self.write(group["a"], "klm", b"1")
        Guest(group["b"]).ask(b"get k\r\n")
        group.advance(0.2)
        assert [host.node.role for host in group.hosts.values()] == ["alone", "alone"]
        wire.resume()
        # Who lapsed is taken back after a while.
        for number in range(20):
            self.write(group["a"], "klm", b"%d" % (number % 10))
            group.advance(0.01)
        group.advance(15)
        assert all(host.node.role.in_sync for host in group.hosts.values())
        assert [host.rows["conflicts"] for host in group.hosts.values()] == [0, 0]

    def test_what_who_has_begun_anew_gives_back_is_none(self):
        """It has that of us, of a copy that broke off; and we have changed it since."""
        group = make_group()
        self.write(group["a"], "klm", b"1")
        back, stays = group["a"], group["b"]
        back.stop()
        group.advance(1)
        back.start()
        wire = Wire(back, stays)
        while not back.values():
            wire.carry()
            for host in group.hosts.values():
                host.turn()
        back.node.part(back.peer("b"), "a record that is cut off")
        wire.cut()
        group.advance(1)
        assert [back.node.role, stays.node.role] == ["starting", "alone"]
        given = [*back.values()]
        assert Guest(stays).ask(b"set %s 0 0 1\r\n2\r\n" % given[0]) == b"STORED\r\n"
        group.link("a", "b")
        group.advance(15)
        assert [host.node.role.in_sync for host in group.hosts.values()] == [True, True]
        assert back.values()[given[0]] == stays.values()[given[0]] == b"2"
        assert [host.rows["conflicts"] for host in group.hosts.values()] == [0, 0]

    def test_nor_is_what_it_had_written_itself_and_we_knew(self):
        """b wrote alone, told us, and has begun anew with a copy of that; we have changed it."""
        group = make_group()
        self.write(group["a"], "k", b"1")
        stays, back = group["a"], group["b"]
        wire = group.wire("a", "b")
        wire.stall(stays)
        Guest(stays).feed(b"delete l\r\n", SET)  # what it lacks is what came since
        stays.frozen = True
        wire.cut()
        group.advance(1)
        self.write(back, "k", b"2")
        stays.frozen = False
        tell_a_part(back, stays, b"k")
        back.stop()
        group.advance(3)
        assert (stays.node.role, stays.values()) == (ALONE, {b"k": b"2"})
        back.start()
        wire = tell_a_part(stays, back, b"k")
        back.node.part(back.peer("a"), "a record that is cut off")
        wire.cut()
        group.advance(1)
        assert [stays.node.role, back.node.role] == [ALONE, STARTING]
        self.write(stays, "k", b"3")
        group.link("a", "b")
        group.advance(15)
        assert [host.node.role.in_sync for host in group.hosts.values()] == [True, True]
        assert stays.values() == back.values() == {b"k": b"3"}
        assert [host.rows["conflicts"] for host in group.hosts.values()] == [0, 0]

    def test_what_comes_late_of_what_was_in_doubt_is_counted_once(self):
        """a had executed what b executed instead; it heard of that only when it had gone on."""
        group = make_group(sync_timeout_s=1)
        a, b = group.hosts.values()
        self.write(a, "k", b"1")
        wire = group.wire("a", "b")
        wire.stall(a)
        Guest(a).feed(b"set k 0 0 1\r\n2\r\n")
        a.frozen = True
        Guest(b).feed(b"incr l 1\r\n")  # so that it misses a
        group.advance(1)
        self.write(b, "k", b"3")
        assert (b.node.role, b.values()) == (ALONE, {b"k": b"3"})
        a.frozen = False
        for silent in (a, b):  # a hears that b went on, and asks; what b says to that comes late
            wire.stall(silent)
            group.settle()
        assert a.peer("b").phase is Phase.ASKING
        group.advance(3)
        assert (a.node.role, a.values()) == (ALONE, {b"k": b"2"})
        self.write(a, "k", b"4")
        b.frozen = True
        wire.resume()
        group.settle()
        assert a.values() == {b"k": b"4"}
        assert a.rows["conflicts"] == 1

    @pytest.mark.parametrize(("both", "conflicts"), [(False, 0), (True, 1)])
    def test_what_who_has_begun_anew_changes_is_one_if_we_have_done_so_since(self, both, conflicts):
        group = make_group(sync_timeout_s=1)
        self.write(group["a"], "k", b"1")
        group.wire("a", "b").cut()
        group["b"].stop()
        group["b"].start()
        group.advance(3)
        assert [host.node.role for host in group.hosts.values()] == ["alone", "alone"]
        if both:
            self.write(group["a"], "k", b"2")
        self.write(group["b"], "k", b"3")
        group.link("a", "b")
        group.advance(15)
        assert all(host.node.role.in_sync for host in group.hosts.values())
        assert group["a"].values() == group["b"].values() == {b"k": b"3"}
        assert group["a"].rows["conflicts"] == conflicts
