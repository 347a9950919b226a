"""The gate: by what a node is, commands are executed here, sent elsewhere, refused, or wait.

What a client of a pair sees is in test_node; here is what the gate does about it, one thing at a
time, with clients that only note what they are told.
"""

from __future__ import annotations

from contextlib import suppress
from math import inf
from typing import TYPE_CHECKING, Any

import pytest

from pymcd.protocol.paired import NOT_REPLICATED
from pymcd.replication import frames, records
from pymcd.replication.frames import Kind
from pymcd.replication.gate import ACTIVE_S, BATCH_MAX, FORWARDS_MAX, TURN_S, Gate
from pymcd.replication.roles import Role, Stance
from pymcd.store import StoreMode
from tests.protocol import binary_client as binary
from tests.replication.helpers import (
    ACK_TIMEOUT_S,
    Group,
    Guest,
    Host,
    Wire,
    decode_sent,
    make_group,
)
from tests.replication.shortage import shortage

if TYPE_CHECKING:
    from pymcd.replication.waiting import Reply

SET = b"set k 0 0 1\r\n1\r\n"
GET = b"get k\r\n"
STORED = b"STORED\r\n"
HIT = b"VALUE k 0 1\r\n1\r\nEND\r\n"
LEASE_S = 0.75 * ACK_TIMEOUT_S


class Client:
    """Who waits, and notes what it is told."""

    def __init__(self, request: bytes = b"") -> None:
        self.held_request = request
        self.held_protocol = "text"
        self.told: list[Any] = []

    def released(self) -> None:
        self.told.append("released")

    def answered(self, reply: Reply) -> None:
        self.told.append(reply)

    def resumed(self) -> None:
        self.told.append("resumed")

    def abandoned(self) -> None:
        self.told.append("abandoned")

    def staged(self) -> None:
        self.told.append("staged")


def gate_of(host: Host) -> Gate:
    return host.node.gate


def kinds_sent(group: Group, name: str, since: int = 0) -> list[int]:
    """Return the kinds of what a server of a pair has sent to the other."""
    wire = group.wire("a", "b")
    sent = wire.sent[[host.name for host in wire.hosts].index(name)]
    return [kind for kind, _ in decode_sent(sent[since:])]


def lost(names: str = "abc", **settings: Any) -> Group:
    """Return a group of which the last one is joining: it lost a, and does not hear b."""
    group = make_group(names, votes=False, **settings)
    group.wire("b", "c").stall()
    group["a"].stop()
    group.advance(ACK_TIMEOUT_S + 0.02)
    assert group["c"].node.role == "joining"
    return group


# -- what each stance means --------------------------------------------------------------------


class TestStance:
    """What becomes of a write, and of a read, before anything else happens."""

    HERE, HELD, ELSEWHERE, REFUSED, WAITS = "here", "held", "elsewhere", "refused", "waits"
    #: What a node is, and the ack mode -> what becomes of a write, and of a read.
    FATES = [
        ("starting", "semi", WAITS, WAITS),
        ("alone", "semi", HERE, HERE),
        ("alone", "async", HERE, HERE),
        ("alone", "strict", REFUSED, HERE),
        ("coordinator", "semi", HELD, HERE),
        ("coordinator", "async", HERE, HERE),
        ("coordinator", "strict", HELD, HERE),
        ("follower", "semi", ELSEWHERE, HERE),
        ("follower", "async", ELSEWHERE, HERE),
        ("follower", "strict", ELSEWHERE, HERE),
        ("joining", "semi", ELSEWHERE, ELSEWHERE),
        ("joining", "strict", ELSEWHERE, ELSEWHERE),
    ]

    def host(self, role: str, ack_mode: str) -> Host:
        if role == "starting":
            return Group(replication_ack=ack_mode)["a"]
        if role == "joining":
            return lost(replication_ack=ack_mode)["c"]
        group = make_group(replication_ack=ack_mode)
        Guest(group["a"]).ask(SET)
        if role == "alone":
            group["b"].stop()
            group.advance(1)
            return group["a"]
        group.warm()
        group.wire("a", "b").stall()
        return group["b" if role == "follower" else "a"]

    def fate(self, host: Host, request: bytes, reply: bytes, *, fast: bool) -> str:
        guest = Guest(host, fast=fast)
        guest.feed(b"verbosity 0\r\n")  # which protocol this is, is known then
        guest.take()
        guest.feed(request)
        gate = gate_of(host)
        said = guest.take()
        if said:
            assert said in (reply, NOT_REPLICATED)
            return self.HERE if said == reply else self.REFUSED
        if gate.forwards:
            ((_, forward),) = gate.forwards.items()
            assert forward.commands == request
            return self.ELSEWHERE
        if gate.waiting:
            return self.WAITS
        assert gate.commits.holding
        return self.HELD

    @pytest.mark.parametrize("fast", [True, False])
    @pytest.mark.parametrize(("role", "ack_mode", "write", "read"), FATES)
    def test_of_a_node_that_is(self, role, ack_mode, write, read, fast):
        host = self.host(role, ack_mode)
        assert host.node.role == role
        assert self.fate(host, GET, HIT, fast=fast) == read
        host = self.host(role, ack_mode)
        assert self.fate(host, SET, STORED, fast=fast) == write

    @pytest.mark.parametrize(("role", "ack_mode"), [case[:2] for case in FATES])
    def test_it_follows_the_role(self, role, ack_mode):
        host = self.host(role, ack_mode)
        assert gate_of(host).stance == Stance().follow(Role(role), ack_mode)
        assert gate_of(host).stance is host.node.view.stance


# -- the lease ---------------------------------------------------------------------------------


class TestLease:
    @pytest.mark.parametrize("name", "ab")
    def test_it_is_open_for_as_long_as_others_have_heard_us(self, name):
        group = make_group()
        group.warm()
        gate = gate_of(group[name])
        now = group.clock.monotonic()
        assert gate.open_until == now + LEASE_S
        group.wire("a", "b").stall()
        group.advance(0.02)
        assert gate.open_until == now + LEASE_S

    @pytest.mark.parametrize(("name", "until"), [("a", inf), ("b", -inf)])
    def test_who_is_alone_needs_none_and_who_is_not_ready_has_none(self, name, until):
        group = Group("a") if name == "a" else Group("ab")
        group.advance(0.1)
        assert gate_of(group[name]).open_until == until

    def test_of_several_the_first_that_ends_counts(self):
        group = make_group("abc")
        group.warm()
        gate = gate_of(group["a"])
        group.wire("a", "c").stall()
        before = gate.open_until
        group.advance(0.02)
        group["a"].peer("b").ping(group.clock.monotonic(), b"")
        group.settle()
        assert group["a"].peer("b").lease.echoed == group.clock.monotonic()
        assert gate.open_until == before

    @pytest.mark.parametrize("name", "ab")
    def test_when_it_has_ended_who_asks_waits_for_one_round_trip(self, name):
        group = make_group()
        Guest(group["a"]).ask(SET)
        group.advance(5.2)
        host = group[name]
        gate = gate_of(host)
        assert gate.open_until <= group.clock.monotonic()
        group.wire("a", "b").stall()
        guest = Guest(host)
        assert guest.ask(GET) == b""
        assert list(gate.waiting) == [(group.clock.monotonic(), guest.connection)]
        assert gate.waiting_since == group.clock.monotonic()
        group.wire("a", "b").resume()
        assert guest.ask() == HIT
        assert not gate.waiting
        assert gate.waiting_since == inf

    @pytest.mark.parametrize("name", ["a", "b"])
    def test_nobody_is_let_in_by_the_answer_to_a_question_before_his(self, name):
        group = make_group()
        group.advance(5)
        host = group[name]
        gate = gate_of(host)
        wire = group.wire("a", "b")
        mine = wire.hosts.index(host)
        wire.stall(wire.hosts[1 - mine])
        clients = [Client(), Client()]
        for client in clients:
            gate.wait_open(client)
            group.advance(0.01)
        # The answers come so late that they lend no lease any more.
        group.clock.advance(LEASE_S)
        said = b"".join(wire.queues[1 - mine])
        wire.queues[1 - mine].clear()
        for told in ([["resumed"], []], [["resumed"], ["resumed"]]):
            answer = frames.frame_bytes(said)
            wire.links[mine].receive(said[:answer])
            said = said[answer:]
            assert [client.told for client in clients] == told
            assert gate.open_until < group.clock.monotonic()

    def test_all_who_come_to_wait_in_one_turn_ask_once(self):
        group = make_group()
        group.advance(5)
        gate = gate_of(group["a"])
        wire = group.wire("a", "b")
        said = len(wire.sent[0])
        for _ in range(3):
            gate.wait_open(Client())
        gate.send_batch()
        group.settle()
        assert kinds_sent(group, "a", said) == [Kind.PING]
        assert not gate.waiting

    def test_whoever_waits_may_go_on_though_the_word_was_long_on_its_way(self):
        group = make_group()
        group.advance(5)
        gate = gate_of(group["a"])
        client = Client()
        gate.wait_open(client)
        wire = group.wire("a", "b")
        group["a"].turn()
        wire.carry()
        group["b"].turn()
        wire.stall()
        wire.carry()  # the answer is under way
        group.clock.advance(LEASE_S + 0.01)
        wire.resume()
        wire.carry()
        assert gate.open_until < group.clock.monotonic()
        assert client.told == ["resumed"]

    def test_who_alone_is_in_charge_lets_go_on_who_waited(self):
        group = make_group()
        group.advance(5)
        client = Client()
        gate_of(group["a"]).wait_open(client)
        group["b"].stop()
        group.advance(1)
        assert client.told == ["resumed"]

    def test_while_it_is_used_it_is_kept_warm(self):
        group = make_group()
        group.warm()
        gate = gate_of(group["a"])
        for _ in range(5):
            group.advance(0.02)
            assert gate.open_until > group.clock.monotonic()
        group.advance(ACTIVE_S + 1)
        assert gate.open_until <= group.clock.monotonic()


# -- holding, forwarding, doing it again -------------------------------------------------------


class TestHolding:
    def test_a_reply_is_released_when_all_have_what_was_changed(self):
        group = make_group("abc")
        group.warm()
        guest = Guest(group["a"])
        group.wire("a", "c").stall(group["c"])
        guest.feed(SET)
        gate = gate_of(group["a"])
        group.settle()
        assert gate.unacked
        assert gate.somebody_waits
        assert guest.take() == b""
        group.wire("a", "c").resume()
        assert guest.ask() == STORED
        assert not gate.unacked
        assert not gate.somebody_waits

    def test_since_when_somebody_waits_for_a_peer(self):
        group = make_group()
        group.warm()
        now = group.clock.monotonic()
        first, second = gate_of(group["a"]), gate_of(group["b"])
        assert first.waits_since(group["a"].peer("b")) == inf
        assert second.waits_since(group["b"].peer("a")) == inf
        group.wire("a", "b").stall()
        Guest(group["a"]).feed(SET)
        Guest(group["b"]).feed(SET)
        group.settle()
        group.clock.advance(0.01)
        assert first.waits_since(group["a"].peer("b")) == now
        assert second.waits_since(group["b"].peer("a")) == now

    def test_a_link_that_is_gone_is_waited_for_though_nobody_asks(self):
        group = make_group()
        group.wire("a", "b").cut()
        now = group.clock.monotonic()
        assert gate_of(group["a"]).waits_since(group["a"].peer("b")) == now


def fail_once(host: Host) -> None:
    """Have the next commands of others be executed, and nobody know what came of it."""
    gate = gate_of(host)
    execute = gate._execute

    def failing(protocol: str, commands: Any) -> Reply:
        gate._execute = execute
        execute(protocol, commands)
        raise MemoryError

    gate._execute = failing


class TestExecutedOnceWhateverGoesWrong:
    """An error after commands were executed, and before it is known what to answer."""

    @pytest.mark.parametrize("names", ["ab", "abc"])
    @pytest.mark.parametrize("dies", [False, True])
    def test_the_client_is_parted_from_and_nothing_happens_twice(self, names, dies):
        group = make_group(names)
        group.closes_on_error = True
        Guest(group["a"]).ask(b"set n 0 0 1\r\n0\r\n")
        guest, other = Guest(group["b"]), Guest(group["b"])
        group.warm()
        fail_once(group["a"])
        guest.feed(b"incr n 1\r\nincr n 1\r\n")
        other.feed(b"incr n 1\r\n")
        group.settle()
        if dies:
            group["a"].stop()
            group.advance(3)
        assert guest.take() == b""
        assert guest.connection.closing
        assert other.take() == b"3\r\n"
        for host in group.hosts.values():
            if host.alive:
                assert host.values() == {b"n": b"3"}
        group.check_equal()

    @pytest.mark.parametrize("names", ["ab", "abc"])
    def test_it_is_told_what_went_wrong(self, names):
        group = make_group(names)
        fail_once(group["a"])
        gate_of(group["a"]).execute_for(group["a"].peer("b"), 1, "text", SET, admitted=True)
        with pytest.raises(MemoryError):
            group["a"].node.step()
        group["a"].node.step()

    @pytest.mark.parametrize("names", ["ab", "abc"])
    def test_nor_does_one_that_has_waited_for_a_lease(self, names):
        group = make_group(names)
        group.closes_on_error = True
        Guest(group["a"]).ask(b"set n 0 0 1\r\n0\r\n")
        peer, gate = group["a"].peer("b"), gate_of(group["a"])
        fail_once(group["a"])
        for _ in range(2):
            gate.execute_for(peer, 99, "text", b"incr n 1\r\n", admitted=True)
        assert group["a"].values() == {b"n": b"1"}
        group.settle()
        group.check_equal()

    @pytest.mark.parametrize("at", range(12))
    @pytest.mark.parametrize("names", ["ab", "abc"])
    @pytest.mark.parametrize("admitted", [False, True])
    def test_at_whatever_line_it_goes_wrong(self, names, at, admitted):
        group = make_group(names)
        Guest(group["a"]).ask(b"set n 0 0 1\r\n0\r\n")
        peer, gate = group["a"].peer("b"), gate_of(group["a"])
        executed = []
        execute = gate._execute

        def counting(protocol: str, commands: Any) -> Reply:
            executed.append(commands)
            return execute(protocol, commands)

        gate._execute = counting
        with suppress(MemoryError), shortage(at, MemoryError(), {Gate.execute_for.__code__}):
            gate.execute_for(peer, 99, "text", b"incr n 1\r\n", admitted=admitted)
        peer.executed.end(())  # it is asked for once more on another channel
        peer.executed.begin()
        gate.execute_for(peer, 99, "text", b"incr n 1\r\n", admitted=admitted)
        assert len(executed) <= 1
        gate.mishap = None
        group.settle()
        group.check_equal()

    @pytest.mark.parametrize("at", range(12))
    def test_nor_does_it_wait_for_a_lease_that_it_was_not_noted_for(self, at):
        group = make_group("abc")
        a, b = group["a"], group["b"]
        Guest(a).ask(b"set n 0 0 1\r\n0\r\n")
        peer, gate = a.peer("b"), gate_of(a)
        group.clock.advance(0.5)
        assert group.clock.monotonic() > gate.open_until
        with suppress(MemoryError), shortage(at, MemoryError(), {Gate.execute_for.__code__}):
            gate.execute_for(peer, 99, "text", b"incr n 1\r\n")
        gate.check()
        gate.execute_for(peer, 99, "text", b"incr n 1\r\n")
        assert peer.executed.executing == {99}
        group.advance(0.1)
        assert a.values() == b.values() == {b"n": b"1"}

    def test_what_is_executed_once_nobody_else_decides(self):
        group = make_group()
        group.closes_on_error = True
        Guest(group["a"]).ask(b"set n 0 0 1\r\n0\r\n")
        group.wire("a", "b").stall()
        guests = [Guest(group["b"]) for _ in range(3)]
        for guest in guests:
            guest.feed(b"incr n 1\r\n")
        group.settle()
        fail_once(group["b"])
        group["a"].stop()
        group.advance(1)
        assert group["b"].values() == {b"n": b"3"}
        assert [guest.take() for guest in guests] == [b"", b"2\r\n", b"3\r\n"]
        assert [guest.connection.closing for guest in guests] == [True, False, False]
        group.check()

    def test_others_are_answered_though_one_cannot_be(self):
        group = make_group()
        group.warm()
        group.wire("a", "b").stall()
        gate, clients = gate_of(group["a"]), [Client() for _ in range(3)]
        for client in clients:
            gate.hold(client)
        group["a"].changes.fresh[b"k"] = None

        def fail() -> None:
            raise MemoryError

        clients[1].released = fail  # type: ignore[method-assign]
        group.closes_on_error = True
        with pytest.raises(MemoryError):
            gate.commits.release(gate.commits.ticket)
        assert [client.told for client in clients] == [["released"], ["abandoned"], ["released"]]


class TestSlices:
    """Thousands may wait when it becomes clear that they are to be served here."""

    COUNT = 2 * FORWARDS_MAX + 3

    def alone(self, count: int = COUNT) -> tuple[Group, list[Client]]:
        """Return a group whose follower has just gone on alone, and those who waited there."""
        group = make_group()
        group.warm()
        group.wire("a", "b").stall()
        gate, clients = gate_of(group["b"]), [Client() for _ in range(count)]
        for number, client in enumerate(clients):
            gate.forward(client, "text", b"append n 0 0 4\r\n%04d\r\n" % number)
        group["b"].cache.store(StoreMode.SET, b"n", b"")
        group["b"].changes.fresh.clear()
        group["a"].stop()
        group["b"].node.go_alone()
        return group, clients

    def test_a_step_serves_some_of_them_in_the_order_in_which_they_asked(self):
        group, clients = self.alone()
        node, gate = group["b"].node, gate_of(group["b"])
        served = []
        while gate.deferred:
            served.append(sum(bool(client.told) for client in clients))
            node.check()
            assert group["b"].woken
            group["b"].step()
        assert served == [FORWARDS_MAX, 2 * FORWARDS_MAX]
        assert all(client.told == [STORED] for client in clients)
        wanted = b"".join(b"%04d" % number for number in range(self.COUNT))
        assert group["b"].values() == {b"n": wanted}
        assert not gate.somebody_waits

    def test_a_step_ends_when_its_time_is_over(self):
        group, _ = self.alone(3 * FORWARDS_MAX)
        gate, clock = gate_of(group["b"]), group.clock
        execute = gate._execute

        def slow(protocol: str, commands: Any) -> Reply:
            clock.advance(TURN_S / 10)
            return execute(protocol, commands)

        gate._execute = slow
        before = len(gate.deferred)
        gate.execute_deferred()
        assert 9 <= before - len(gate.deferred) <= 11

    def test_nobody_joins_before_all_are_served(self):
        group, clients = self.alone()
        group["a"].start()
        group.link("b", "a")
        group.advance(2)
        assert all(client.told == [STORED] for client in clients)
        assert {host.node.role for host in group.hosts.values()} == {"coordinator", "follower"}
        group.check_equal()

    def test_who_joins_another_one_leaves_it_to_that(self):
        group, clients = self.alone()
        node, gate = group["b"].node, gate_of(group["b"])
        left = len(gate.deferred)
        gate.deferred[-1].in_doubt = True
        node._rejoin(group["b"].peer("a"))
        assert not gate.deferred
        assert len(gate.forwards) == len(gate.unsent_forwards) == left - 1
        assert clients[-1].told == ["abandoned"]
        node.check()

    def test_who_leaves_serves_them_first(self):
        group, clients = self.alone()
        node = group["b"].node
        assert not node.leave()
        while not node.leave():
            node.step()
        assert all(client.told == [STORED] for client in clients)

    def test_or_parts_from_them(self):
        group, clients = self.alone()
        gate_of(group["b"]).abandon()
        assert {client.told[-1] for client in clients} == {STORED, "abandoned"}
        assert not gate_of(group["b"]).deferred

    def test_they_are_refused_in_slices_too(self):
        group = make_group(replication_ack="strict")
        group.warm()
        group.wire("a", "b").stall()
        gate, clients = gate_of(group["a"]), [Client(SET) for _ in range(self.COUNT)]
        group["a"].changes.fresh[b"k"] = None
        for client in clients:
            gate.hold(client)
        group["b"].stop()
        group["a"].node.go_alone()
        assert sum(bool(client.told) for client in clients) == FORWARDS_MAX
        group.settle()
        assert {*map(str, [client.told for client in clients])} == {str([NOT_REPLICATED])}

    def test_who_gets_the_votes_stands_by_what_was_to_be_refused(self):
        group = make_group("abc")
        gate = gate_of(group["a"])
        group["b"].stop()
        group["c"].stop()
        group.advance(3)
        assert group["a"].node.role == "waiting"
        client = Client(SET)
        gate._defer(client)
        group["a"].node.go_alone()
        assert client.told == ["released"]


class TestForwarding:
    def test_the_commands_travel_and_the_reply_comes_back_with_what_they_changed(self):
        group = make_group()
        group.warm()
        gate = gate_of(group["b"])
        client = Client()
        before = [len(sent) for sent in group.wire("a", "b").sent]
        gate.forward(client, "text", SET)
        assert list(gate.forwards.values()) == gate.unsent_forwards
        group.settle()
        assert gate.forwards == {}
        assert client.told == [STORED]
        assert group["b"].values() == {b"k": b"1"}
        assert Kind.FORWARD in kinds_sent(group, "b", before[1])
        assert kinds_sent(group, "a", before[0]).count(Kind.CHANGES) == 1

    def test_a_new_one_has_a_new_number(self):
        gate = gate_of(make_group()["b"])
        for _ in range(3):
            gate.forward(Client(), "text", GET)
        first, *others = gate.forwards
        assert others == [first + 1, first + 2]

    def test_no_more_gather_than_a_batch_while_others_are_on_their_way(self):
        group = make_group()
        group.warm()
        group.wire("a", "b").stall()
        gate = gate_of(group["b"])
        for count in (1, BATCH_MAX - 1, 1):
            for _ in range(count):
                gate.forward(Client(), "text", SET)
            gate.send_batch()
            assert len(gate.unsent_forwards) == (count if count == BATCH_MAX - 1 else 0)
        assert gate.forwards_sent == BATCH_MAX + 1

    def test_one_that_comes_again_on_the_same_channel_does_no_harm(self):
        """Nobody does that: after a channel has ended, it is known what was executed."""
        group = make_group()
        guest = Guest(group["a"])
        guest.ask(b"set n 0 0 1\r\n0\r\n")
        peer = group["b"].peer("a")
        for _ in range(2):
            payload = records.encode_forward(99, "text", b"incr n 1\r\n")
            peer.send(group.clock.monotonic(), Kind.FORWARD, payload)
        group.settle()
        assert group["a"].values()[b"n"] in (b"1", b"2")
        assert group["b"].node.role.in_sync

    def test_what_was_forwarded_travels_as_it_came(self):
        group = make_group()
        group.warm()
        wire = group.wire("a", "b")
        sent = len(wire.sent[1])
        Guest(group["b"]).ask(b"set k 0 0 1\r\n1\r\nincr k 1\r\nget k\r\n")
        forwards = [
            commands
            for kind, payload in decode_sent(wire.sent[1][sent:])
            if kind == Kind.FORWARD
            for _, _, commands in records.decode_forwards(payload, 0)
        ]
        assert forwards == [b"set k 0 0 1\r\n1\r\nincr k 1\r\nget k\r\n"]
        assert group["b"].rows["forwards_sent"] == 1
        assert group["a"].rows["forwards_executed"] == 1

    def test_who_does_not_decide_any_more_executes_nothing_for_others(self):
        group = make_group()
        peer = group["b"].peer("a")
        gate_of(group["b"]).execute_for(peer, 1, "text", SET)
        assert group["b"].values() == {}
        assert peer.executed.results == []

    def test_nor_does_who_is_about_to_leave(self):
        group = make_group()
        group["a"].node.leave()
        gate_of(group["a"]).execute_for(group["a"].peer("b"), 1, "text", SET)
        assert group["a"].values() == {}


class TestWhoDecidesHasChanged:
    def test_what_waits_for_a_decision_is_executed_by_who_decides_now(self):
        group = make_group()
        group.warm()
        gate = gate_of(group["b"])
        forwarded = Client()
        group.wire("a", "b").stall()
        gate.forward(forwarded, "text", SET)
        group.settle()
        group["b"].node.lose([group["b"].peer("a")], "as we say")
        assert (forwarded.told, gate.forwards, gate.unsent_forwards) == ([STORED], {}, [])
        assert group["b"].values() == {b"k": b"1"}

    @pytest.mark.parametrize("ack_mode", ["semi", "strict"])
    def test_what_was_executed_stands_if_nobody_decides_instead(self, ack_mode):
        group = lost(replication_ack=ack_mode)
        gate = gate_of(group["c"])
        again, sent, other = Client(SET), Client(SET), Client()
        gate.forward(sent, "text", SET, in_doubt=True)
        gate.redo.append((1, again))
        gate._results_in_doubt.append(other)
        group["c"].node.go_alone()
        told = [NOT_REPLICATED] if ack_mode == "strict" else ["released"]
        assert again.told == sent.told == told
        assert other.told == ["released"]
        assert (gate.redo, gate.forwards, group["c"].values()) == ([], {}, {})
        group["c"].node.check()

    @pytest.mark.parametrize("waiting", [1, FORWARDS_MAX, FORWARDS_MAX + 1, 5 * FORWARDS_MAX - 1])
    def test_or_forwarded_to_it_so_many_in_one_message(self, waiting):
        """And executed once each, though the channel was another one when they were asked."""
        group = make_group()
        group.warm()
        gate, wire = gate_of(group["b"]), group.wire("a", "b")
        Guest(group["a"]).ask(b"set n 0 0 1\r\n0\r\n")
        wire.stall(group["a"])  # what is done is not told
        clients = [Client() for _ in range(waiting)]
        for client in clients:
            gate.forward(client, "text", b"incr n 1\r\n")
        group.settle()
        assert group["a"].values() == {b"n": b"%d" % waiting}
        more = [Client() for _ in range(waiting)]
        for client in more:
            gate.forward(client, "text", b"incr n 1\r\n")
        group["b"].node.drop(group["b"].peer("a"))
        group["b"].node._rejoin(group["b"].peer("a"))
        before = len(wire.sent[1]), len(wire.sent[0])
        wire.resume()
        group.advance(1.0)
        assert group["b"].node.role.in_sync
        told = sorted(int(client.told[0]) for client in [*clients, *more])
        assert told == list(range(1, 2 * waiting + 1))
        sent = [*decode_sent(wire.sent[0][before[1] :]), *decode_sent(wire.sent[1][before[0] :])]
        counts = [
            len(list(records.decode_forwards(payload, 0)))
            for kind, payload in sent
            if kind == Kind.FORWARD
        ]
        assert max(counts) <= FORWARDS_MAX
        group.check_equal()

    def test_or_forwarded_to_it(self):
        group = lost()
        gate = gate_of(group["c"])
        first, second = Client(), Client(SET)
        gate.forward(first, "text", GET)
        gate.unsent_forwards.clear()  # it was sent, to who decided before
        gate.redo.append((1, second))
        gate.forward_again()
        assert [forward.commands for forward in gate.unsent_forwards] == [GET, SET]
        assert [forward.waiter for forward in gate.forwards.values()] == [first, second]
        assert gate.redo == []

    def test_what_was_executed_and_nobody_has_is_taken_back(self):
        group = make_group()
        gate = gate_of(group["a"])
        changed, nothing = Client(SET), Client()
        group.wire("a", "b").stall()
        for client in (changed, nothing):
            gate.commits.hold(client, changed=True)
        ticket = gate.commits.ticket
        gate.take_back()
        assert gate.redo == [(ticket, changed)]
        gate.has_happened(ticket - 1)
        assert gate.redo == [(ticket, changed)]
        gate.has_happened(ticket)
        assert (gate.redo, changed.told) == ([], ["released"])
        assert gate._results_in_doubt == [nothing]  # it cannot be executed again
        assert not gate.commits.holding
        assert not gate.unacked

    def test_strict_refuses_what_was_executed_and_nobody_has(self):
        group = make_group(replication_ack="strict")
        group.warm()
        guest = Guest(group["a"])
        group.wire("a", "b").stall()
        guest.feed(SET)
        group.advance(ACK_TIMEOUT_S + 0.02)
        assert guest.take() == NOT_REPLICATED
        assert not gate_of(group["a"]).commits.held

    def test_and_of_who_names_nothing_nothing_is_withheld(self):
        """After a flush that nobody has all that is read is refused."""
        group = make_group(replication_ack="strict")
        group.warm()
        group.wire("a", "b").stall()
        Guest(group["a"]).feed(b"flush_all\r\n")
        group.advance(ACK_TIMEOUT_S + 0.02)
        assert None in gate_of(group["a"]).unheld
        said = Guest(group["a"]).ask(b"mg k v q\r\nmn\r\n")
        assert said == NOT_REPLICATED + b"MN\r\n"
        noop = binary.request(0x0A)
        assert Guest(group["a"]).ask(noop)[:8] == bytes([0x81, 0x0A, *[0] * 6])

    def test_what_others_perhaps_lack_is_stood_by(self):
        """Whoever goes on has executed what the coordinator said last, for whomever that was."""
        group = make_group("abc")
        group.warm()
        group.wire("a", "c").stall()
        guest = Guest(group["c"])
        Guest(group["a"]).feed(SET)
        group.settle()
        (batch,) = gate_of(group["b"]).unstable
        assert [*batch.keys] == [b"k"]
        batch.executed.append(("c", 7, STORED))
        batch.executed.append(("x", 8, STORED))  # of whom nothing is known any more
        gate_of(group["b"]).take_over()
        assert group["b"].peer("c").executed.replies == {7: STORED}
        assert not gate_of(group["b"]).unstable
        assert guest.take() == b""

    #: A read at a follower, and what it is answered when all have what is new.
    READS = [
        (b"get k\r\n", b"VALUE k 0 3\r\nnew\r\nEND\r\n"),
        (b"get other k\r\n", b"VALUE other 0 1\r\n1\r\nVALUE k 0 3\r\nnew\r\nEND\r\n"),
        (b"mg k v\r\n", b"VA 3\r\nnew\r\n"),
        (b"mg aw== v b\r\n", b"VA 3\r\nnew\r\n"),
        (b"get gone\r\n", b"END\r\n"),
        (b"get gone other\r\n", b"VALUE other 0 1\r\n1\r\nEND\r\n"),
        (b"mg gone v\r\n", b"EN\r\n"),
    ]

    @pytest.mark.parametrize("fast", [True, False])
    @pytest.mark.parametrize(("request_", "answer"), READS)
    def test_what_others_perhaps_lack_is_shown_to_nobody(self, request_, answer, fast):
        """Else who reads it here, and then there, sees time go backwards."""
        group = make_group("abc")
        writer = Guest(group["a"])
        old = b"set %s 0 0 3\r\nold\r\n"
        for key in (b"k", b"gone"):
            assert writer.ask(old % key) == STORED
        assert writer.ask(b"set other 0 0 1\r\n1\r\n") == STORED
        group.warm()
        group.wire("a", "c").stall(group["a"])
        writer.feed(b"set k 0 0 3\r\nnew\r\ndelete gone\r\n")
        group.settle()
        assert group["b"].values() == {b"k": b"new", b"other": b"1"}
        reader = Guest(group["b"], fast=fast)
        assert reader.ask(request_) == b""
        assert Guest(group["b"], fast=fast).ask(b"get other\r\n") == (
            b"VALUE other 0 1\r\n1\r\nEND\r\n"
        )
        assert Guest(group["c"], fast=fast).ask(b"mg k v\r\n") == b"VA 3\r\nold\r\n"
        group.wire("a", "c").resume()
        group.settle()
        assert reader.take() == answer
        # That all have it a follower hears with the next batch; then it answers that itself.
        writer.ask(b"set z 0 0 1\r\n1\r\n")
        forwards = group["b"].rows["forwards_sent"]
        assert reader.ask(request_) == answer
        assert group["b"].rows["forwards_sent"] == forwards
        group.check()

    def test_nor_by_the_binary_protocol(self):
        group = make_group("abc")
        group.warm()
        group.wire("a", "c").stall(group["a"])
        Guest(group["a"]).feed(SET)
        group.settle()
        reader = Guest(group["b"])
        assert reader.ask(binary.request(0x00, b"k")) == b""
        group.wire("a", "c").resume()
        group.settle()
        assert reader.take()

    def test_nor_what_a_flush_has_left(self):
        group = make_group("abc")
        Guest(group["a"]).ask(SET)
        group.warm()
        group.wire("a", "c").stall(group["a"])
        Guest(group["a"]).feed(b"flush_all\r\n")
        group.settle()
        reader = Guest(group["b"])
        assert reader.ask(b"get k\r\n") == b""
        group.wire("a", "c").resume()
        group.settle()
        assert reader.take() == b"END\r\n"

    def test_who_goes_on_shows_it(self):
        group = make_group("abc")
        group.warm()
        group.wire("a", "c").stall(group["a"])
        Guest(group["a"]).feed(SET)
        group.settle()
        group["a"].stop()
        reader = Guest(group["b"])
        reader.feed(b"get k\r\n")
        group.advance(2 * ACK_TIMEOUT_S)
        assert reader.take() == b"VALUE k 0 1\r\n1\r\nEND\r\n"
        group.check()

    def test_it_is_known_of_what_that_is_so(self):
        group = make_group("abc")
        group.warm()
        assert gate_of(group["b"]).unstable_keys() == ([], False)
        group.wire("a", "c").stall()
        Guest(group["a"]).feed(SET + b"flush_all\r\n")
        group.settle()
        assert gate_of(group["b"]).unstable_keys() == ([], True)
        for _ in range(2):
            Guest(group["a"]).feed(SET)
            group.settle()
        assert gate_of(group["b"]).unstable_keys() == ([b"k", b"k"], True)
        group.wire("a", "c").resume()
        group.settle()
        Guest(group["a"]).ask(SET)
        assert gate_of(group["b"]).unstable_keys() == ([b"k"], False)  # it hears so with the next


class TestAbandon:
    def test_whoever_waits_for_anything_is_sent_away(self):
        group = make_group()
        group.warm()
        gate = gate_of(group["a"])
        held, again, waiting, forwarded = (Client(SET) for _ in range(4))
        gate.commits.hold(held, changed=True)
        gate.redo.append((1, again))
        gate.wait_open(waiting)
        gate.forward(forwarded, "text", SET)
        gate.abandon()
        assert [client.told for client in (held, again, waiting, forwarded)] == [["abandoned"]] * 4
        assert not gate.somebody_waits
        assert (gate.redo, gate.unsent_forwards, gate.waiting_since) == ([], [], inf)
        gate.resume_waiting()
        gate.answer_forward(next(iter(gate.forwards), 1), STORED)
        assert waiting.told == forwarded.told == ["abandoned"]


# -- batches -----------------------------------------------------------------------------------


class TestBatch:
    def test_without_news_nothing_is_sent(self):
        group = make_group()
        before = len(group.wire("a", "b").sent[0])
        gate = gate_of(group["a"])
        assert not gate.has_news
        gate.send_batch()
        assert kinds_sent(group, "a", before) == []

    @pytest.mark.parametrize("what", ["change", "forward", "reader", "flush"])
    def test_what_is_news(self, what):
        group = make_group()
        group.warm()
        gate = gate_of(group["a"])
        group.wire("a", "b").stall()
        if what == "change":
            group["a"].changes.fresh[b"k"] = None
        elif what == "forward":
            gate.forward(Client(), "text", SET)
        elif what == "reader":
            gate.commits.holding.append(Client())
        else:
            group["a"].changes.fresh_flush = True
        assert gate.has_news

    def test_async_gathers_while_nobody_waits(self):
        group = make_group(replication_ack="async")
        group.warm()
        group.wire("a", "b").stall()
        guest = Guest(group["a"])
        before = len(group.wire("a", "b").sent[0])
        for number in range(BATCH_MAX + 1):
            assert guest.ask(b"set k%d 0 0 1\r\n1\r\n" % number) == STORED
        assert kinds_sent(group, "a", before).count(Kind.CHANGES) == 2  # the first, and the rest
        assert not group["a"].changes.pending

    def test_a_batch_of_three_nodes_tells_which_it_is(self):
        group = make_group("abc")
        group.warm()
        Guest(group["a"]).ask(SET)
        wire = group.wire("a", "b")
        payloads = [payload for kind, payload in decode_sent(wire.sent[0]) if kind == Kind.CHANGES]
        first, *_ = records.decode_records(payloads[-1], 0)
        assert first[0] == records.Record.BATCH
        assert first[1] == gate_of(group["a"]).commits.ticket - 1


@pytest.mark.parametrize("knows_some", [False, True], ids=["full", "partial"])
def test_what_changes_during_a_resync_does_not_count_as_all_that_changed_before(knows_some):
    """Else who has acknowledged just that, and comes again, would get nothing else."""
    group = make_group()
    a, b = group["a"], group["b"]
    if knows_some:
        group.wire("a", "b").cut()
        group.advance(5)
    else:
        b.stop()
        group.advance(0.5)
        b.start()
    guest = Guest(a)
    for number in range(40):
        guest.ask(b"set k%d 0 0 50000\r\n" % number + b"x" * 50_000 + b"\r\n")
    wire = Wire(a, b)
    wire.stall(b)
    while a.peer("b").resync.todo is None:
        wire.resume()
        for host in (a, b):
            host.turn()
        wire.carry()
    wire.stall()
    peer = a.peer("b")
    guest.ask(b"set live 0 0 1\r\n1\r\n")
    assert peer.channel is not None
    live = [message for message in peer.channel.unacked if b"live" in (message.keys or ())]
    assert [message.sequence for message in live] == [0]
    wire.resume()
    group.advance(5)
    group.check_equal()


@pytest.mark.parametrize("read", [GET, b"get other k\r\n", b"mg k v\r\n"], ids=repr)
def test_nor_when_only_what_was_written_before_is_acknowledged(read):
    """What another node had executed last, nobody waits for here."""
    group = make_group()
    a, b = group["a"], group["b"]
    writer, reader, other = Guest(a), Guest(a), Guest(b)
    writer.ask(SET)
    group.warm()
    wire = group.wire("a", "b")
    wire.stall(a)
    writer.feed(b"set other 0 0 1\r\n1\r\n")
    group.settle()
    other.feed(b"incr k 1\r\n")
    group.settle()
    reader.feed(read)
    group.settle()
    under_way = wire.queues[wire.hosts.index(a)]
    first = 1 + next(index for index, piece in enumerate(under_way) if b"other" in piece)
    kept = under_way[first:]
    del under_way[first:]
    wire.resume()
    group.settle()
    assert writer.take() == STORED
    assert reader.take() == b""
    wire.links[1 - wire.hosts.index(a)].receive(b"".join(kept))
    group.settle()
    assert b"2" in reader.take()
    assert other.take() == b"2\r\n"
    group.check_equal()


READS = [GET, b"gets k\r\n", b"get k zz\r\n", b"mg k v\r\n", b"get zz\r\nget k\r\n", b"me k\r\n"]


@pytest.mark.parametrize("read", READS, ids=repr)
@pytest.mark.parametrize("sent", [False, True], ids=["not sent", "sent"])
@pytest.mark.parametrize(
    "write",
    [
        b"set k 0 0 1\r\n2\r\n",
        b"set k 0 0 1 noreply\r\n2\r\n",
        b"ms k 1 E5\r\n2\r\n",
        b"ms k 1 E5 q\r\n2\r\n",
        b"ms k 1 E99999999999999999\r\n2\r\n",
        b"append k 0 0 1\r\n2\r\n",
        b"incr k 1\r\n",
        b"ma k E7\r\n",
        b"delete k\r\n",
        b"md k I\r\n",
        b"md k x\r\n",
        b"md k I E3\r\n",
        b"flush_all\r\n",
        b"mg new v N30\r\nset k 0 0 1\r\n2\r\n",
    ],
    ids=repr,
)
@pytest.mark.parametrize("by", ["a client", "another node"])
def test_what_is_not_acknowledged_is_not_shown(write, read, sent, by):
    group = make_group()
    a, b = group["a"], group["b"]
    writer, reader = Guest(a), Guest(a)
    writer.ask(SET)
    reader.ask(b"get k\r\n")  # twice, so that it is marked as used
    reader.ask(b"get k\r\n")
    group.warm()
    group.wire("a", "b").stall(b)
    if by == "a client":
        writer.feed(write)
    else:
        a.node.gate.execute_for(a.peer("b"), 1, "text", write)
    if sent:
        group.settle()
    reader.feed(read)
    assert reader.take() == b""
    group.wire("a", "b").resume()
    group.settle()
    assert reader.take() != b""
    group.check_equal()
