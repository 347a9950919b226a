"""What cannot be sent, for want of memory, is acknowledged by nobody: who lacks it gets it anew."""

from __future__ import annotations

from contextlib import suppress
from itertools import combinations
from typing import TYPE_CHECKING, Any

import pytest

from pymcd.replication import frames, membership
from pymcd.replication.gate import Gate
from pymcd.replication.messages import Status, Vote
from pymcd.replication.node import READMIT_MIN_S
from pymcd.replication.peer import Peer
from pymcd.replication.resync import Resync
from pymcd.replication.versions import TOMBSTONE_BYTES
from tests.replication.helpers import ACK_TIMEOUT_S, Group, Guest, Host, make_group
from tests.replication.shortage import shortage

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from pymcd.replication.changes import Changes

STORED = b"STORED\r\n"
SET = b"set k 0 0 1\r\n1\r\n"
LARGE = b"set k 0 0 600000\r\n" + bytes(600_000) + b"\r\n"


def roles(group: Group) -> list[str]:
    return [str(host.node.role) for host in group.hosts.values()]


def heal(group: Group, seconds: float = 3.0) -> None:
    """Have all nodes linked again and again, whoever closes the link."""
    group.closes_on_error = True
    for _ in range(round(seconds / 0.1)):
        linked = [{host.name for host in wire.hosts} for wire in group.wires]
        for pair in combinations(group.hosts, 2):
            if {*pair} not in linked:
                group.link(*pair)
        group.advance(0.1)


def none_left(*_: Any) -> bytes:
    raise MemoryError("no room")


def no_memory(lines: int) -> AbstractContextManager[list[str]]:
    """Fail before one of the next lines that send."""
    return shortage(lines, MemoryError("no room"))


def break_once(group: Group, host: Host, lines: int, data: bytes) -> tuple[Guest, list[str]]:
    """Ask a host for something that it cannot tell; return who asked, and where it failed."""
    group.warm()
    guest = Guest(host)
    guest.feed(data)
    group.closes_on_error = True
    with no_memory(lines) as failed:
        host.turn()
    return guest, failed


def break_off(group: Group, host: Host, data: bytes) -> Guest:
    """Ask a host for something, and let it not be able to tell that."""
    peers: Any = [Gate.send_changes.__code__]
    group.warm()
    guest = Guest(host)
    guest.feed(data)
    group.closes_on_error = True
    with shortage(0, MemoryError("no room"), peers) as failed:
        host.turn()
    assert failed
    return guest


def let_rest(group: Group, host: Host) -> None:
    """Let time pass until a host has a lease, and is about to do nothing for long."""
    clock, gate = group.clock, host.node.gate
    for _ in range(1000):
        group.advance(0.01)
        now = clock.monotonic()
        if host.step_at > now + 0.5 and gate.open_until > now + 0.01 and now > gate.active_until:
            return
    raise AssertionError("a node that never rests")


#: What is there before, and what is then asked for; each is another way of being sent.
ASKED = {
    "a set": (b"", b"set k 0 0 3\r\nnew\r\n", STORED),
    "another value": (b"set k 0 0 3\r\nold\r\n", b"set k 0 0 3\r\nnew\r\n", STORED),
    "a deletion": (b"set k 0 0 3\r\nold\r\n", b"delete k\r\n", b"DELETED\r\n"),
    "a flush": (b"set k 0 0 3\r\nold\r\n", b"flush_all\r\n", b"OK\r\n"),
    "a flush to come": (b"set k 0 0 3\r\nold\r\n", b"flush_all 100\r\n", b"OK\r\n"),
    "many": (
        b"set k 0 0 3\r\nold\r\n",
        b"".join(b"set k%d 0 0 1\r\n1\r\n" % number for number in range(5)),
        5 * STORED,
    ),
    "its own cas unique": (b"", b"ms k 3 E5 c\r\nnew\r\n", b"HD c5\r\n"),
    "a large value": (b"", b"set k 0 0 600000\r\n" + bytes(600_000) + b"\r\n", STORED),
}


class TestACoordinator:
    def at_each_point(self, what: str, names: str = "ab", *, witness: bool = False) -> int:
        """Fail once at each point of sending; return how many there are."""
        before, data, reply = ASKED[what]
        for lines in range(1000):
            group = make_group(names, witness=witness)
            if before:
                Guest(group["a"]).ask(before)
            guest, failed = break_once(group, group["a"], lines, data)
            if not failed:
                return lines
            assert guest.take() == b""
            heal(group, 1.0)
            assert guest.take() == reply, failed
            assert sorted(roles(group)) == sorted(["coordinator", *["follower"] * (len(names) - 1)])
            group.check_equal()
            # What was answered is there when it dies.
            expected = group["a"].values()
            group["a"].stop()
            group.advance(0.3)
            assert group["b"].values() == expected
        raise AssertionError("sending without end")

    @pytest.mark.parametrize("what", ASKED)
    def test_is_not_answered_for_what_it_could_not_send(self, what):
        assert self.at_each_point(what) > 5

    @pytest.mark.parametrize("what", ["a set", "many"])
    def test_is_not_among_three_either(self, what):
        assert self.at_each_point(what, "abc") > 5

    @pytest.mark.parametrize("what", ["a set", "a deletion"])
    def test_nor_with_a_witness(self, what):
        assert self.at_each_point(what, witness=True) > 5

    def test_tells_readers_nothing_of_it(self):
        group = make_group()
        a = group["a"]
        assert Guest(a).ask(b"set k 0 0 3\r\nold\r\n") == STORED
        break_off(group, a, b"set k 0 0 3 noreply\r\nnew\r\n")
        reader = Guest(a)
        reader.feed(b"get k\r\n")
        assert reader.take() == b""

    def test_acts_alone_when_the_lease_of_the_other_has_ended_and_not_before(self):
        group = make_group()
        a, b = group["a"], group["b"]
        group.warm()
        assert Guest(a).ask(b"set k 0 0 3\r\nold\r\n") == STORED
        wire = group.wires[0]
        guest = break_off(group, a, b"set k 0 0 3\r\nnew\r\n")
        wire.stall(a)  # what it says meanwhile comes late
        reader = Guest(b)
        old = b"VALUE k 0 3\r\nold\r\nEND\r\n"
        answers = 0
        while not (written := guest.take()):
            reader.feed(b"get k\r\n")
            answers += reader.take() == old
            group.advance(ACK_TIMEOUT_S / 100)
        assert written == STORED
        assert answers > 10
        reader.feed(b"get k\r\n")
        assert reader.take() == b""
        assert a.node.role == "alone"

    def test_serves_clients_of_the_other_one_again_as_soon_as_it_may(self):
        """Which has asked to join it too early, and is told when to ask again."""
        group = make_group()
        a, b = group["a"], group["b"]
        guest = break_off(group, a, b"set k 0 0 3\r\nnew\r\n")
        group.advance(ACK_TIMEOUT_S)
        assert (guest.take(), a.node.role, b.node.role) == (STORED, "alone", "joining")
        reader = Guest(b)
        group.advance(READMIT_MIN_S - ACK_TIMEOUT_S - 0.01)
        reader.feed(b"get k\r\n")
        assert reader.take() == b""
        group.advance(0.04)
        assert reader.take() == b"VALUE k 0 3\r\nnew\r\nEND\r\n"

    def test_says_so(self):
        group = make_group()
        break_off(group, group["a"], b"set k 0 0 3\r\nnew\r\n")
        heal(group, 1.0)
        (line,) = [line for line in group["a"].lines if "cannot tell" in line]
        assert line == (
            "replication: cannot tell b what it is to know (MemoryError); parting from it"
        )

    def test_that_never_has_memory_goes_on_alone(self, monkeypatch):
        group = make_group()
        a = group["a"]
        group.closes_on_error = True
        peer = a.peer("b")
        send: Any = peer.send

        def failing(now: float, kind: Any, *arguments: Any, **more: Any) -> None:
            if more.get("keys"):
                peer.break_off(MemoryError())
                raise MemoryError("no room")
            send(now, kind, *arguments, **more)

        monkeypatch.setattr(peer, "send", failing)
        guest = Guest(a)
        guest.feed(b"set k 0 0 3\r\nnew\r\n")
        group.advance(3 * ACK_TIMEOUT_S)
        assert guest.take() == STORED
        assert a.node.role == "alone"


class TestAFollower:
    def test_forwards_again_what_it_could_not_forward(self):
        tried = 0
        for lines in range(1000):
            group = make_group()
            assert Guest(group["a"]).ask(b"set n 0 0 1\r\n1\r\n") == STORED
            guest, failed = break_once(group, group["b"], lines, b"incr n 1\r\n")
            if not failed:
                break
            assert guest.take() == b""
            heal(group, 1.0)
            # It is executed then, once; or its client was parted from, and does not know.
            assert guest.take() == (b"" if guest.connection.closing else b"2\r\n"), failed
            assert group["a"].values()[b"n"] in (b"1", b"2")
            assert sorted(roles(group)) == ["coordinator", "follower"]
            group.check_equal()
            tried += 1
        assert tried > 3

    def test_has_it_executed_once_though_the_reply_could_not_be_sent(self):
        tried = 0
        for lines in range(1000):
            group = make_group()
            a, b = group["a"], group["b"]
            assert Guest(a).ask(b"set n 0 0 1\r\n1\r\n") == STORED
            guest = Guest(b)
            guest.feed(b"incr n 1\r\n")
            b.turn()
            group.closes_on_error = True
            group.wires[0].carry()
            with no_memory(lines) as failed:
                a.turn()
            if not failed:
                break
            heal(group, 1.0)
            assert guest.take() == (b"" if guest.connection.closing else b"2\r\n"), failed
            assert a.values() == {b"n": b"2"}
            group.check_equal()
            tried += 1
        assert tried > 3


class TestOneThatRests:
    """Nothing else would have it look for up to a second, and its clients wait for that."""

    @pytest.mark.parametrize(
        ("name", "where", "data"),
        [
            ("a", Gate.send_changes, SET),
            ("a", Peer.send, SET),
            ("a", Peer._send_value, LARGE),
            ("b", Gate._send_forwards, SET),
            ("b", Peer.send, SET),
            ("b", Peer._send_waiting, LARGE),
        ],
    )
    def test_sees_at_once_to_whom_it_cannot_tell_something(self, name, where, data):
        group = make_group()
        host = group[name]
        let_rest(group, host)
        group.closes_on_error = True
        guest = Guest(host)
        codes: Any = [where.__code__]
        with shortage(0, MemoryError("no room"), codes) as failed:
            with suppress(MemoryError):
                guest.feed(data)
            host.turn()
        assert failed
        group.settle()
        assert any("cannot tell" in line for line in host.lines)
        if name == "a":
            group.advance(group[name].node.patience.lease_s)
            assert guest.take() == STORED

    def test_sees_at_once_to_whom_it_cannot_tell_a_reply(self):
        group = make_group()
        a, b = group["a"], group["b"]
        let_rest(group, b)
        Guest(b).feed(b"delete k\r\n")
        b.turn()
        group.closes_on_error = True
        group.wires[0].carry()
        assert a.step_at > group.clock.monotonic() + 0.1
        codes: Any = [Peer.join_results.__code__]
        with shortage(0, MemoryError("no room"), codes) as failed:
            a.turn()
        assert failed
        group.settle()
        assert any("cannot tell" in line for line in a.lines)


class TestWhoIsBroughtInSync:
    @pytest.mark.parametrize("who", "ab")
    def test_gets_all_though_a_part_of_it_could_not_be_sent(self, who):
        tried = 0
        for lines in range(0, 1000, 7):
            group = make_group()
            group.wires[0].cut()
            group.advance(1.0)
            for host in group.hosts.values():
                for number in range(4):
                    data = b"set %b%d 0 0 1\r\n1\r\n" % (host.name.encode(), number)
                    assert Guest(host).ask(data) == STORED
            Guest(group["a"]).ask(b"delete a0\r\n")
            group.closes_on_error = True
            with no_memory(lines) as failed:
                group.link("a", "b")
            if not failed:
                break
            heal(group, 2.0)
            assert sorted(roles(group)) == ["coordinator", "follower"], failed
            group.check_equal()
            assert len(group[who].values()) == 7
            tried += 1
        assert tried > 5


class TestWhatItIs:
    @pytest.mark.parametrize("ask", [False, True])
    def test_is_said_in_the_next_step_if_it_could_not_be(self, monkeypatch, ask):
        # Two that were apart learn from nothing else that one of them is to join.
        group = make_group("abc", votes=False)
        a = group["a"]
        others = [group[name].node.view.peers["a"] for name in "bc"]
        for peer in others:
            peer.status = None
        with monkeypatch.context() as patch:
            patch.setattr(Status, "encode", none_left)
            a.woken = False
            (a.node.membership.ask_status if ask else a.node.membership.announce_status)()
            assert a.woken
            with pytest.raises(MemoryError):
                a.node.step()
        group.settle()
        assert None not in [peer.status for peer in others]
        assert not ask or None not in [peer.status for peer in a.node.view.peers.values()]

    def test_keeps_nobody_from_being_answered_if_it_could_not_be_said(self, monkeypatch):
        group = make_group(witness=True)
        a, b = group["a"], group["b"]
        group.warm()
        a.frozen = True
        guest = Guest(b)
        guest.feed(b"set k 0 0 1\r\n1\r\n")
        group.closes_on_error = True
        monkeypatch.setattr(Status, "encode", none_left)
        group.advance(0.2)
        assert b.node.role == "alone"
        assert guest.take() == STORED
        monkeypatch.undo()
        b.node.check()


class TestACoordinatorThatCannotTake:
    def test_acts_alone_when_the_lease_of_the_other_has_ended_and_not_before(self, monkeypatch):
        """It could not take what was forwarded; the follower does not know that it is left."""
        group = make_group()
        a, b = group["a"], group["b"]
        assert Guest(a).ask(b"set k 0 0 3\r\nold\r\n") == STORED
        group.warm()
        group.closes_on_error = True
        forwarder = Guest(b)
        forwarder.feed(b"touch k 100\r\n")
        b.turn()
        wire = group.wires[0]
        with monkeypatch.context() as patch:
            patch.setattr(a.node.gate, "execute_for", none_left)
            data = b"".join(bytes(piece) for piece in wire.links[1].take_output())
            with pytest.raises(MemoryError):
                wire.links[0].receive(data)
        wire.stall(a)
        a.turn()
        writer, reader = Guest(a), Guest(b)
        writer.feed(b"set k 0 0 3\r\nnew\r\n")
        answers = 0
        while not (written := writer.take()):
            reader.feed(b"get k\r\n")
            answers += reader.take() != b""
            group.advance(ACK_TIMEOUT_S / 100)
        assert written == STORED
        assert answers > 10
        reader.feed(b"get k\r\n")
        assert reader.take() == b""  # not the old value
        assert a.node.role == "alone"


class TestWhatIsForgottenMeanwhile:
    def test_a_deletion_that_is_forgotten_before_its_slice_is_told(self, monkeypatch):
        """The channel is open, what was deleted is still to be sent, and there is no room."""
        room = 4 * 4 * (TOMBSTONE_BYTES + 10)
        group = make_group(replication_backlog_bytes=room)
        a, b = group["a"], group["b"]
        assert Guest(a).ask(b"set k 0 0 3\r\nold\r\n") == STORED
        group.wires[0].cut()
        group.advance(1.0)
        assert Guest(a).ask(b"delete k\r\n") == b"DELETED\r\n"
        changes, original = a.changes, Resync.begin
        assert changes.tombstones.get(b"k")

        def begin(self: Resync, changes: Changes, *arguments: Any, **more: Any) -> bool:
            result = original(self, changes, *arguments, **more)
            if changes is a.changes:  # meanwhile others are deleted
                for number in range(8):
                    changes.tombstones.add(b"x%d" % number, changes.cache.take_cas_unique())
            return result

        with monkeypatch.context() as patch:
            patch.setattr(Resync, "begin", begin)
            group.link("a", "b")
            group.advance(2.0)
        assert not changes.tombstones.get(b"k")
        heal(group, 3.0)
        assert sorted(roles(group)) == ["coordinator", "follower"]
        assert b.values() == a.values() == {}


class TestAWelcome:
    def test_brings_no_more_replies_than_fit(self, monkeypatch):
        monkeypatch.setattr(membership, "DONE_MAX_BYTES", 10)
        group = make_group()
        a, b = group["a"], group["b"]
        assert Guest(a).ask(b"set n 0 0 1\r\n1\r\n") == STORED
        guests = [Guest(b) for _ in range(8)]
        for guest in guests:
            guest.feed(b"incr n 1\r\n")
        b.turn()
        wire = group.wires[0]
        wire.carry()
        wire.stall(a)
        a.turn()
        wire.carry()  # executed; the replies are lost with the link
        wire.cut()
        group.advance(3 * ACK_TIMEOUT_S)
        heal(group)
        assert sorted(guest.take() for guest in guests) == [b"%d\r\n" % n for n in range(2, 10)]
        assert a.values() == {b"n": b"9"}
        group.check_equal()


def test_who_cannot_say_that_he_consents_has_done_so_all_the_same(monkeypatch):
    """Both who are left ask; the one that gives way is asked again, and seeks no more meanwhile."""
    group = make_group("abc")
    b, c = group["b"], group["c"]
    voting = c.node.voting
    hear, codes = voting.vote_arrived, {frames.encode_message.__code__}
    failed: list[str] = []

    def hear_without_memory(peer: Peer, vote: Vote) -> None:
        if failed or not vote.token or not voting.seeking:
            hear(peer, vote)
            return
        with shortage(0, MemoryError("no room"), codes) as lines, suppress(MemoryError):
            hear(peer, vote)
        failed.extend(lines)
        assert voting.ballot.backs == vote.roll
        c.node.check()

    monkeypatch.setattr(voting, "vote_arrived", hear_without_memory)
    wire = group.wire("b", "c")
    wire.stall()
    group["a"].stop()
    for host in (b, c):
        Guest(host).feed(SET)
    group.advance(ACK_TIMEOUT_S + 0.02)
    wire.resume()
    group.advance(1.0)
    assert failed
    assert [str(host.node.role) for host in (b, c)] == ["coordinator", "follower"]
