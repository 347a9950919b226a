"""Who waits, and for what: a request that is forwarded is executed once, whatever is lost."""

from __future__ import annotations

from collections import Counter, deque
from typing import TYPE_CHECKING, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pymcd.replication import records
from pymcd.replication.frames import Kind
from pymcd.replication.gate import UNMET_MAX, Unstable
from pymcd.replication.lease import SILENCE_S
from pymcd.replication.peer import Peer
from pymcd.replication.waiting import (
    REMEMBERED_BYTES,
    REMEMBERED_EACH_BYTES,
    REMEMBERED_MIN,
    Executed,
    Nobody,
    Result,
)
from tests.replication.helpers import Group, Guest, Wire, make_group

if TYPE_CHECKING:
    import random

    from pymcd.replication.waiting import Reply

STORED = b"STORED\r\n"


class TestExecuted:
    def test_a_result_is_sent_once(self):
        executed = Executed()
        executed.begin()
        executed.executing.add(1)
        executed.finish(1, b"one")
        assert not executed.executing
        assert executed.take_results() == [(1, b"one")]
        assert executed.take_results() == []

    def test_and_remembered_while_it_may_be_lost(self):
        executed = Executed()
        executed.begin()
        executed.results += [(2, b"two"), (3, b"three")]
        sent: list[list[tuple[int, Reply]] | None] = [[(1, b"one")], None, executed.take_results()]
        executed.results.append((4, b"four"))
        executed.end(sent)
        assert executed.replies == {1: b"one", 2: b"two", 3: b"three", 4: b"four"}
        assert executed.results == []

    def test_what_the_peer_has_is_forgotten_unless_it_repeats_that(self):
        executed = Executed()
        executed.begin()
        for number in range(1, 6):
            executed.finish(number, b"one")
        executed.repeats_up_to = 2
        executed.heard([(1, b"one"), (2, b"one"), (4, b"one")])
        assert list(executed.replies) == [1, 2, 3, 5]

    def test_one_that_comes_when_the_peer_has_left_is_remembered_only(self):
        executed = Executed()
        executed.begin()
        executed.executing.add(1)
        executed.end([])
        executed.finish(1, b"one")
        executed.begin()
        assert executed.replies == {1: b"one"}
        assert executed.take_results() == []

    @pytest.mark.parametrize(
        ("reply", "remembered"),
        [
            (b"12345678", REMEMBERED_BYTES // (REMEMBERED_EACH_BYTES + 8)),
            (b"v" * 50_000, REMEMBERED_MIN),
        ],
    )
    def test_of_what_others_executed_only_so_much(self, reply, remembered):
        executed = Executed()
        for number in range(remembered + 2):
            executed.remember(number, reply)
        assert len(executed.replies) == remembered
        assert min(executed.replies) == 2
        # What was given up otherwise has no part in it.
        executed.replies.clear()
        for number in range(remembered):
            executed.remember(remembered + 2 + number, reply)
        assert len(executed.replies) == remembered

    def test_a_result_waits_like_a_client(self):
        """What was executed must not be executed once more, even if it is not to be answered."""
        for end in (Result.released, Result.abandoned):
            executed = Executed()
            executed.begin()
            executed.executing.add(1)
            end(Result(executed, 1, b"one"))
            assert executed.replies == {1: b"one"}
            assert executed.take_results() == [(1, b"one")]
        assert not Result(executed, 1, b"one").held_request  # it cannot be executed again

    def test_nobody_is_content_with_anything(self):
        nobody = Nobody()
        nobody.released()
        nobody.answered(b"anything")
        nobody.resumed()
        nobody.abandoned()
        assert not nobody.held_request

    @given(st.randoms(use_true_random=False))
    def test_once_whatever_is_lost(self, random_: random.Random):
        """One asks again for what it knows no reply to, as the channel breaks at any moment."""
        executed = Executed()
        counts: Counter[int] = Counter()
        waiting: deque[Result] = deque()  #: for others
        way: deque[list[tuple[int, Reply]]] = deque()  #: results that are under way
        asked = random_.randrange(1, 6)
        answers: dict[int, Reply] = {}
        executed.begin()
        while len(answers) < asked:
            for number in set(range(asked)) - set(answers):
                if number in executed.replies or number in executed.executing:
                    continue
                assert not counts[number]
                counts[number] += 1
                executed.executing.add(number)
                waiting.append(Result(executed, number, b"reply %d" % number))
            while waiting and random_.random() < 0.7:
                waiting.popleft().released()
            way.append(executed.take_results())
            while way and random_.random() < 0.7:
                answers.update(way.popleft())
            if random_.random() < 0.4:  # the channel breaks; with JOIN and WELCOME comes the next
                executed.end(way)
                way.clear()
                executed.begin()
                answers.update(executed.replies)
        assert counts == dict.fromkeys(range(asked), 1)
        assert answers == {number: b"reply %d" % number for number in range(asked)}


class TestExecutedOnce:
    def test_requests_of_another_life_are_other_requests(self):
        # What a follower asked, and what is still to be acknowledged by another one, ends when it
        # has started again and asks something else.
        group = make_group("abc", votes=False, replication_ack_timeout_s=5.0)
        group.warm()
        group.wire("a", "c").stall(group["c"])
        assert Guest(group["b"]).ask(b"set k 0 0 1\r\n1\r\n") == b""
        group["b"].stop()
        group["b"].start()
        group.link("a", "b")
        group.advance(0.1)
        guest = Guest(group["b"])
        assert guest.ask(b"incr n 1\r\n") == b""
        group.wire("a", "c").resume()
        group.advance(0.1)
        assert guest.take() == b"NOT_FOUND\r\n"

    def test_what_is_refused_to_its_own_clients_is_not_executed_twice_for_others(self):
        # With --replication-ack strict a, left alone, refuses what nobody else has. But who asked
        # it by way of c gets the reply when c is back, and has it, too.
        group = make_group("abc", votes=False, replication_ack="strict")
        group.warm()
        guest = Guest(group["c"])
        group.wire("a", "b").stall()
        guest.feed(b"incr n 1\r\nset k 0 0 1\r\n1\r\n")
        group["c"].turn()
        group.wire("a", "c").carry()
        group.wire("a", "c").stall()
        group.advance(0.09)
        assert roles(group) == ["alone", "follower", "joining"]
        group.wire("a", "c").resume()
        group.advance(1.0)
        assert guest.take() == b"NOT_FOUND\r\nSTORED\r\n"
        assert group["a"].values() == group["c"].values() == {b"k": b"1"}

    def test_what_is_answered_before_it_is_sent_again_is_not_sent(self):
        # c loses a, which is still waiting for b, and asks it to take it back. When that is done a
        # has the result, too, and tells it at once.
        group = make_group("abc", votes=False)
        Guest(group["a"]).ask(b"set n 0 0 1\r\n0\r\n")
        group.warm()
        guest = Guest(group["c"])
        near, far = group.wire("a", "b"), group.wire("a", "c")
        far.stall(group["a"])
        group.advance(0.01)
        group["c"].node.look_after_leader(0.005)
        group.advance(0.04)
        near.stall(group["b"])
        guest.feed(b"incr n 1\r\n")
        group.settle()
        assert group["a"].values() == {b"n": b"1"}
        group.advance(0.045)
        assert roles(group) == ["coordinator", "follower", "joining"]
        far.resume()
        while group["a"].peer("c").channel is None:
            far.carry()
        near.resume()
        near.carry()
        group["a"].turn()
        far.carry()
        assert group["c"].node.gate.forwards == {}
        assert guest.ask() == b"1\r\n"
        assert group["a"].values() == {b"n": b"1"}
        group.check_equal()

    @pytest.mark.parametrize("senders", ["ab", "a", "b"])
    @pytest.mark.parametrize("steps", range(12))
    @pytest.mark.parametrize("asks", ["before", "meanwhile"])
    def test_wherever_the_link_is_lost_while_who_asked_joins_anew(self, asks, steps, senders):
        group = make_group()
        a, b = group["a"], group["b"]
        Guest(a).ask(b"set n 0 0 1\r\n0\r\n")
        group.warm()
        guest = Guest(b)
        wire = group.wire("a", "b")
        wire.stall(a)
        if asks == "before":
            guest.feed(b"incr n 1\r\n")
            group.settle()
            assert a.values() == {b"n": b"1"}
        b.frozen = True
        wire.cut()
        group.advance(0.1)
        assert a.node.role == "alone"
        b.frozen = False
        if asks == "meanwhile":
            guest.feed(b"incr n 1\r\n")
        for _ in range(2):
            wire = Wire(b, a)
            for step in range(steps):
                if step == steps - 1 and senders != "ab":
                    wire.stall(group["b" if senders == "a" else "a"])  # what that one says is lost
                a.turn()
                b.turn()
                wire.carry()
            wire.cut()
        group.link("b", "a")
        group.advance(0.1)
        assert guest.take() == b"1\r\n"
        group.check_equal()
        assert a.values() == {b"n": b"1"}

    def test_who_is_left_of_three_knows_what_was_executed_for_the_one_that_is_gone(self):
        # a executes for c, which it then loses, and b follows a alone. When a is gone, too, c asks
        # b for the same.
        group = make_group("abc", votes=False)
        Guest(group["a"]).ask(b"set n 0 0 1\r\n0\r\n")
        group.warm()
        guest = Guest(group["c"])
        group.wire("a", "c").stall(group["a"])
        guest.feed(b"incr n 1\r\n")
        group.advance(0.1)
        assert group["a"].node.view.members == group["b"].node.view.members == ["a", "b"]
        assert group["b"].values() == {b"n": b"1"}
        group["a"].stop()
        group.advance(0.2)
        assert roles(group) == ["coordinator", "follower"]
        assert guest.take() == b"1\r\n"
        assert group["c"].values() == {b"n": b"1"}

    def test_however_many_clients_wait(self):
        group = make_group("abc")
        Guest(group["a"]).ask(b"set n 0 0 1\r\n0\r\n")
        group.warm()
        guests = [Guest(group["c"]) for _ in range(REMEMBERED_MIN + 50)]
        group.wire("a", "c").stall(group["a"])
        for guest in guests:
            guest.feed(b"incr n 1\r\n")
        group.advance(0.1)
        group["a"].stop()
        group.advance(0.2)
        assert roles(group) == ["coordinator", "follower"]
        assert [guest.take() for guest in guests] == [
            b"%d\r\n" % number for number in range(1, len(guests) + 1)
        ]
        assert group["c"].values() == {b"n": b"%d" % len(guests)}

    def test_nor_is_it_executed_twice_for_one_that_was_just_being_brought_in_sync(self):
        group = make_group("abc", votes=False)
        a, b, c = group.hosts.values()
        Guest(a).ask(b"set n 0 0 1\r\n0\r\n")
        group.warm()
        guest = Guest(c)
        c.frozen = True
        group.wire("a", "c").cut()
        group.wire("b", "c").cut()
        Guest(a).feed(b"set x 0 0 1\r\n0\r\n")
        group.advance(0.15)
        assert a.node.view.members == ["a", "b"]
        c.frozen = False
        wire = Wire(c, a)
        while c.node.role != "joining" or c.peer("a").channel is None:
            c.turn()
            a.turn()
            wire.carry()
        wire.stall(a)
        guest.feed(b"incr n 1\r\n")
        group.settle()
        assert b.values()[b"n"] == b"1"
        assert c.values()[b"n"] == b"0"
        # c turns to b at once: it does not go on by itself, with what it has.
        a.stop()
        group.link("b", "c")
        group.advance(0.5)
        assert Guest(b).ask(b"incr n 1\r\n") == b"2\r\n"
        assert roles(group) == ["coordinator", "follower"]
        assert guest.take() == b"1\r\n"
        assert c.values()[b"n"] == b"2"
        group.check_equal()

    def test_nor_when_a_third_is_there_in_the_place_of_who_asked_and_goes_on(self):
        # a executes for c, the only one with it, which never hears of that. Then b is back, and c
        # asks b when a is gone.
        group = make_group("abc", witness=True)
        a, b, c = group.hosts.values()
        Guest(a).ask(b"set n 0 0 1\r\n5\r\n")
        group.warm()
        for name in "ac":
            group.wire(name, "b").cut()
        Guest(a).feed(b"touch nothing 0\r\n")
        group.advance(0.15)
        assert a.node.view.members == c.node.view.members == ["a", "c"]
        group.warm()
        guest = Guest(c)
        group.wire("a", "c").stall(a)
        guest.feed(b"incr n 1\r\n")
        group.settle()
        assert a.values() == {b"n": b"6"}
        group.advance(0.1)
        group.link("a", "b")
        group.advance(0.1)
        assert a.node.view.members == b.node.view.members == ["a", "b"]
        a.stop()
        group.link("b", "c")
        group.advance(0.1)
        assert roles(group) == ["coordinator", "follower"]
        assert guest.take() == b"6\r\n"
        assert c.values() == {b"n": b"6"}
        group.check_equal()

    def test_nor_when_who_executes_it_joins_another_one(self):
        # a is bringing c in sync, and executes what it asks. Before c hears of that, a finds b,
        # which went on as well, and c turns to that one.
        group = make_group("abc", votes=False)
        a, b, c = group.hosts.values()
        Guest(a).ask(b"set n 0 0 1\r\n5\r\n")
        for name in "ac":
            group.wire(name, "b").cut()
        group.advance(0.5)
        group.warm()
        c.frozen = True
        group.wire("a", "c").cut()
        Guest(a).feed(b"touch nothing 0\r\n")
        group.advance(0.15)
        assert [host.node.role for host in (a, b)] == ["alone", "alone"]
        view = b.node.view
        while view.epoch < a.node.view.epoch:  # so a joins b
            view.epoch = view.highest_epoch = view.next_epoch(0)
        c.frozen = False
        wire = Wire(c, a)
        while c.node.role != "joining" or c.peer("a").channel is None:
            c.turn()
            a.turn()
            wire.carry()
        wire.stall(a)
        guest = Guest(c)
        guest.feed(b"incr n 1\r\n")
        group.settle()
        assert a.values() == {b"n": b"6"}
        group.link("a", "b")
        assert b.node.view.members == ["b", "a"]
        wire.cut()
        group.link("b", "c")
        group.advance(0.1)
        assert roles(group) == ["follower", "coordinator", "follower"]
        assert guest.take() == b"6\r\n"
        assert c.values() == {b"n": b"6"}
        group.check_equal()

    def test_so_does_who_knows_that_all_have_it(self):
        # c has what a executed for it, as b has, but not the reply, when a is gone.
        group = make_group("abc")
        Guest(group["a"]).ask(b"set n 0 0 1\r\n0\r\n")
        group.warm()
        guest = Guest(group["c"])
        group.wire("a", "b").stall(group["b"])
        guest.feed(b"incr n 1\r\n")
        group.settle()
        assert group["c"].values() == {b"n": b"1"}
        group.wire("a", "c").stall(group["a"])
        group.wire("a", "b").resume()
        group.settle()
        Guest(group["a"]).feed(b"set k 0 0 1\r\n1\r\n")
        group.settle()
        assert group["b"].node.gate.unstable_keys() == ([b"k"], False)
        group["a"].stop()
        group.advance(0.2)
        assert roles(group) == ["coordinator", "follower"]
        assert guest.take() == b"1\r\n"
        assert group["b"].values()[b"n"] == b"1"

    def test_so_does_who_was_never_linked_to_who_asked(self):
        group = Group("abc")
        for other in "bc":
            group.link("a", other)
        group.advance(0.5)
        Guest(group["a"]).ask(b"set n 0 0 1\r\n0\r\n")
        group.warm()
        guest = Guest(group["c"])
        group.wire("a", "b").stall(group["b"])
        guest.feed(b"incr n 1\r\n")
        group.settle()
        group.wire("a", "c").stall(group["a"])
        group.wire("a", "b").resume()
        group.settle()
        Guest(group["a"]).feed(b"set k 0 0 1\r\n1\r\n")
        group.settle()
        assert group["b"].node.gate.unstable_keys() == ([b"k"], False)
        group.link("b", "c")
        group["a"].stop()
        group.advance(0.2)
        assert roles(group) == ["coordinator", "follower"]
        assert guest.take() == b"1\r\n"
        assert group["b"].values()[b"n"] == b"1"
        group.check_equal()

    def test_of_nodes_that_are_not_known_a_bounded_number_is_remembered(self):
        gate = make_group("abc")["b"].node.gate
        for number in range(2 * UNMET_MAX):
            gate.unstable.append(Unstable(Peer("a"), 1, {}, [(f"x{number}", 7, STORED)]))
        gate.take_over()
        known = [gate.executed_for_unmet(f"x{number}").replies for number in range(2 * UNMET_MAX)]
        assert known == [{7: STORED}] * UNMET_MAX + [{}] * UNMET_MAX
        assert gate.executed_for_unmet("x0").replies == {}

    @pytest.mark.parametrize("gone", [True, False])
    def test_of_three_it_waits_for_word_from_the_others_as_a_client_does(self, gone):
        # b goes on without a, which has nothing to ask and has not noticed. c asks a.
        group = make_group("abc", votes=False)
        a, b, c = group.hosts.values()
        Guest(a).ask(b"set k 0 0 1\r\n1\r\n")
        group.warm()
        group.wire("a", "b").stall()
        group.wire("b", "c").stall()
        guest = Guest(c)
        if gone:
            Guest(b).feed(b"set k 0 0 1\r\n2\r\n")
        group.advance(0.12)
        if gone:
            assert (b.node.role, b.values()) == ("alone", {b"k": b"2"})
        assert a.node.role == "coordinator"
        guest.feed(b"touch nothing 0\r\nget k\r\n")  # there is nothing to be acknowledged
        group.settle()
        answer = b"NOT_FOUND\r\nVALUE k 0 1\r\n1\r\nEND\r\n"
        assert guest.take() == b""
        assert a.peer("c").executed.executing
        group.advance(0.1)
        assert guest.take() == answer  # both serve, as in any partition
        assert not a.peer("c").executed.executing
        group.check()

    def test_what_is_heard_is_forgotten_though_there_is_always_more_under_way(self):
        group = make_group("abc")
        a, b, c = group.hosts.values()
        Guest(a).ask(b"set n 0 0 1\r\n5\r\n")
        group.warm()
        guest = Guest(c)
        wire = group.wire("a", "c")
        group.wire("a", "b").stall(b)
        guest.feed(b"incr n 1\r\n")
        group.settle()
        wire.stall(c)
        group.wire("a", "b").resume()
        group.settle()
        assert guest.take() == b"6\r\n"
        executed = a.peer("c").executed
        assert list(executed.replies.values()) == [b"6\r\n"]
        wire.stall()
        Guest(a).feed(b"set k 0 0 1\r\n1\r\n")
        group.settle()
        wire.stall(a)
        group.settle()
        assert a.peer("c").channel.unacked  # type: ignore[union-attr]
        assert executed.replies == {}

    def test_an_acknowledgement_overtakes_what_is_asked_again(self):
        # The result of what b asked before comes while the question, on the new channel, still
        # waits behind something large. That b has the result is no reason to forget it.
        group = make_group()
        a, b = group["a"], group["b"]
        peer, gate = a.peer("b"), a.node.gate
        assert peer.channel is not None
        peer.executed.repeats_up_to = 7
        peer.executed.finish(7, b"6\r\n")
        gate.send_batch()
        group.settle()
        assert not peer.channel.unacked
        forward = records.encode_forward(7, "text", b"incr n 1\r\n")
        b.peer("a").send(group.clock.monotonic(), Kind.FORWARD, forward)
        group.settle()
        assert gate.forwards_executed == 0
        assert peer.executed.replies == {7: b"6\r\n"}
        Guest(b).ask(b"set n 0 0 1\r\n5\r\n")
        group.warm()
        assert not peer.executed.repeats_up_to
        assert peer.executed.replies == {}

    @pytest.mark.parametrize("how", ["joins anew", "restarts", "abandoned"])
    def test_and_may_be_gone_when_that_comes(self, how):
        group = make_group("abc", votes=False)
        a, _, c = group.hosts.values()
        group.warm()
        Guest(a).ask(b"set n 0 0 1\r\n5\r\n")
        group.wire("a", "b").stall()
        group.wire("b", "c").stall()
        group.advance(0.1)
        Guest(c).feed(b"incr n 1\r\n")
        group.settle()
        assert a.peer("c").executed.executing
        if how == "joins anew":
            group.wire("a", "c").cut()
            group.link("a", "c")
        elif how == "restarts":
            c.stop()
            c.start()
            group.link("a", "c")
        else:
            a.node.gate.abandon()
        group.advance(2)
        assert a.values()[b"n"] == b"6"
        group.check()

    def test_what_the_new_coordinator_has_seen_was_executed_though_a_third_has_not(self):
        group = make_group("abc")
        a, b, c = group.hosts.values()
        Guest(a).ask(b"set n 0 0 1\r\n5\r\n")
        group.warm()
        group.wire("a", "b").stall(b)
        group.wire("a", "c").stall()
        guest = Guest(a)
        guest.feed(b"incr n 1\r\n")
        group.settle()
        assert (b.values()[b"n"], c.values()[b"n"]) == (b"6", b"5")
        a.frozen = True
        for host in (b, c):
            Guest(host).feed(b"touch nothing 0\r\n")
        group.advance(0.2)
        assert roles(group) == ["coordinator", "coordinator", "follower"]
        a.frozen = False
        for name in "bc":
            group.wire("a", name).resume()
        group.advance(3)
        assert guest.take() == b"6\r\n"
        assert a.values()[b"n"] == b"6"
        group.check_equal()

    def test_what_stands_at_a_deposed_node_is_not_executed_when_it_is_asked_again(self):
        group = make_group("abc", votes=False)
        Guest(group["a"]).ask(b"set n 0 0 1\r\n5\r\n")
        group.warm()
        guest = Guest(group["c"])
        group.wire("a", "b").stall(group["a"])
        guest.feed(b"incr n 1\r\n")
        group.settle()
        assert group["a"].values()[b"n"] == b"6"
        # b goes on without a, and c cannot ask it.
        group["a"].frozen = True
        group.wire("b", "c").stall()
        Guest(group["b"]).feed(b"set x 0 0 1\r\n1\r\n")
        group.advance(0.09)
        assert roles(group) == ["coordinator", "alone", "joining"]
        group["a"].frozen = False
        group.wire("a", "b").resume()
        while group["a"].node.role == "coordinator":
            group["a"].turn()
            group.wire("a", "b").carry()
        # Then b is gone, and a is the first who dares to go on.
        group.wire("a", "b").cut()
        group["c"].frozen = True
        group.advance(0.6)
        group["c"].frozen = False
        group["b"].stop()
        group.advance(1.1)
        assert roles(group) == ["coordinator", "follower"]
        assert guest.connection.closing  # nobody waits for so long
        assert group["a"].values() == {b"n": b"6"}
        group.check_equal()


def roles(group: Group) -> list[str]:
    return [host.node.role for host in group.hosts.values() if host.alive]


class TestTooMuchToDo:
    """Whose steps come a little late, again and again: he knows all the same who is gone."""

    LATE_S: Final = 0.05

    def go_on(self, group: Group, seconds: float) -> None:
        """Let time pass; all servers are late with whatever is due."""
        group.settle()
        end = group.clock.monotonic() + seconds
        while group.clock.monotonic() < end:
            due = min(host.step_at for host in group.hosts.values())
            group.clock.advance(max(0.0, due - group.clock.monotonic()) + self.LATE_S)
            for host in group.hosts.values():
                host.step()
            group.settle()
        group.check()

    def test_nobody_waits_for_votes_for_ever(self):
        group = make_group(witness=True)
        group["a"].stop()
        assert group.witness is not None
        group.witness.stop()
        guest = Guest(group["b"])
        guest.feed(b"get k\r\n")
        del group.hosts["a"]
        self.go_on(group, SILENCE_S + 1.5)
        assert group["b"].node.role == "waiting"
        assert guest.take().startswith(b"SERVER_ERROR no quorum")

    @pytest.mark.parametrize("asked", [True, False])
    def test_nor_for_who_says_nothing(self, asked):
        group = make_group()
        group.wire("a", "b").stall()
        if asked:
            Guest(group["b"]).feed(b"set k 0 0 1\r\n1\r\n")
        self.go_on(group, SILENCE_S + 1.0)
        assert roles(group) == ["alone", "alone"]
        # A link on which nothing comes is given up.
        self.go_on(group, SILENCE_S + 1.0)
        assert not any(host.node.membership.links for host in group.hosts.values())

    def test_who_does_answer_is_not_lost(self):
        group = make_group()
        guest = Guest(group["b"])
        for _ in range(20):
            guest.feed(b"set k 0 0 1\r\n1\r\n")
            self.go_on(group, 0.3)
            assert guest.take() == STORED
        assert roles(group) == ["coordinator", "follower"]
        assert group["a"].rows["degraded_count"] == 0


@pytest.mark.parametrize("fast", [True, False])
def test_what_a_refused_value_takes_away_is_read_when_others_know_it(fast):
    # It takes the old one away with its first line; nobody waits for that yet, as it has to arrive.
    group = make_group("ab")
    writer, reader = Guest(group["a"], fast=fast), Guest(group["a"], fast=fast)
    writer.ask(b"set k 0 0 1\r\n1\r\n")
    group.warm()
    group.wire("a", "b").stall()
    writer.feed(b"set k 0 0 2000000\r\n" + bytes(100))
    group.check()
    reader.feed(b"get k\r\n")
    assert reader.take() == b""
    group.settle()
    assert reader.take() == b""
    group.wire("a", "b").resume()
    group.settle()
    assert reader.take() == b"END\r\n"
    assert group["b"].values() == {}
