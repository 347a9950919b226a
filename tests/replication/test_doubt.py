"""What a coordinator executed, and nobody acknowledged, when another one has gone on without it.

Nothing of that is undone before the one who decides now has told what it has instead. If that one
is lost before, what was executed stands: what was acknowledged earlier is never dropped for a word
that does not come.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

from pymcd.protocol.paired import NOT_REPLICATED
from pymcd.replication import frames
from pymcd.replication.frames import Kind
from pymcd.replication.peer import Phase
from pymcd.replication.roles import ALONE, JOINING
from tests.replication.helpers import Group, Guest, Host, Wire, make_group
from tests.replication.test_telling import heal

if TYPE_CHECKING:
    from collections.abc import Callable

LOCK = b"add lock 0 0 2\r\nc2\r\n"
#: Before: lock = c1, n = 5, s = v. What is executed unheard -> its answer, and what stands then.
UNHEARD: dict[bytes, tuple[bytes, dict[bytes, bytes | None]]] = {
    b"touch lock 100\r\n": (b"TOUCHED\r\n", {}),
    b"gat 100 lock\r\n": (b"VALUE lock 0 2\r\nc1\r\nEND\r\n", {}),
    b"mg lock T100\r\n": (b"HD\r\n", {}),
    b"incr n 1\r\n": (b"6\r\n", {b"n": b"6"}),
    b"set lock 0 0 2\r\nc3\r\n": (b"STORED\r\n", {b"lock": b"c3"}),
    b"append lock 0 0 1\r\n+\r\n": (b"STORED\r\n", {b"lock": b"c1+"}),
    b"ms lock 2 E5\r\nc3\r\n": (b"HD\r\n", {b"lock": b"c3"}),
    b"md lock I\r\n": (b"HD\r\n", {}),
    b"delete lock\r\n": (b"DELETED\r\n", {b"lock": None}),
    b"add other 0 0 1\r\n1\r\n": (b"STORED\r\n", {b"other": b"1"}),
    b"set lock 0 0 2\r\nc3\r\nincr n 1\r\ntouch s 100\r\n":
        (b"STORED\r\n6\r\nTOUCHED\r\n", {b"lock": b"c3", b"n": b"6"}),
    b"flush_all\r\n": (b"OK\r\n", {b"lock": None, b"n": None, b"s": None}),
    b"flush_all\r\nset lock 0 0 2\r\nc3\r\n":
        (b"OK\r\nSTORED\r\n", {b"lock": b"c3", b"n": None, b"s": None}),
}  # fmt: skip
BEFORE = {b"lock": b"c1", b"n": b"5", b"s": b"v"}


def fill(host: Host) -> None:
    assert Guest(host).ask(
        b"add lock 0 0 2\r\nc1\r\nset n 0 0 1\r\n5\r\nset s 0 0 1\r\nv\r\n"
    ) == (b"STORED\r\n" * 3)  # fmt: skip
    host.group.warm()


def depose(
    commands: bytes, *, sent: bool, frozen_s: float = 0.2, before: bytes = b"", **settings
) -> tuple[Group, Guest]:
    """Return a pair whose first node executed something unheard, and learns that it is deposed.

    `sent`: it is on its way; else it was just executed.
    """
    group = make_group("ab", **settings)
    a, b = group["a"], group["b"]
    Guest(a).ask(before)
    fill(a)
    group.wire("a", "b").stall(a)
    guest = Guest(a)
    guest.feed(commands)
    if sent:
        group.settle()
    a.frozen = True
    Guest(b).feed(b"get z\r\nincr z 1\r\n")
    group.advance(frozen_s)
    assert b.node.role == "alone"
    a.frozen = False
    deliver_status(group.wire("a", "b"), a)
    assert a.node.role == "joining"
    return group, guest


def deliver_status(wire: Wire, host: Host) -> None:
    """Have a server hear what the other said, up to the word by which it is deposed."""
    mine = wire.hosts.index(host)
    queue, link = wire.queues[1 - mine], wire.links[mine]
    queue.extend(bytes(piece) for piece in wire.links[1 - mine].take_output())
    said = b"".join(queue)
    queue.clear()
    while said and host.node.role == "coordinator":
        size = frames.frame_bytes(said)
        link.receive(said[:size])
        said = said[size:]
    if said:
        queue.append(said)


def hear(wire: Wire, host: Host, last: Kind) -> None:
    """Have two servers talk, and one of them hear nothing behind a message of that kind."""
    mine = wire.hosts.index(host)
    for _ in range(100):
        for each in (mine, 1 - mine):
            wire.hosts[each].turn()
            wire.queues[each].extend(bytes(piece) for piece in wire.links[each].take_output())
            said = b"".join(wire.queues[each])
            wire.queues[each].clear()
            while (frame := frames.split_frame(said, 0, 1 << 30)) is not None:
                body, size = frame
                wire.links[1 - each].receive(said[:size])
                said = said[size:]
                if each != mine and body[0] == last:
                    return
    raise AssertionError("never said")


def close(group: Group) -> None:
    """Have the second node return, without data, and all be well."""
    group["b"].start()
    group.link("a", "b")
    group.advance(5)
    assert [host.node.role for host in group.hosts.values()] == ["coordinator", "follower"]
    group.check_equal()


@pytest.mark.parametrize("ack_mode", ["semi", "strict"])
@pytest.mark.parametrize("sent", [True, False], ids=["sent", "not sent"])
@pytest.mark.parametrize("commands", UNHEARD, ids=repr)
class TestTheOtherDies:
    def after(self, commands: bytes) -> dict[bytes, bytes]:
        stands = {**BEFORE, **UNHEARD[commands][1]}
        return {key: value for key, value in stands.items() if value is not None}

    def is_answered(self, guest: Guest, commands: bytes, ack_mode: str) -> None:
        answer = guest.take()
        if ack_mode == "strict":
            assert answer.startswith(NOT_REPLICATED)
        else:
            assert answer == UNHEARD[commands][0]

    def test_before_it_has_said_anything(self, commands, sent, ack_mode):
        group, guest = depose(commands, sent=sent, replication_ack=ack_mode)
        a = group["a"]
        assert a.values() == self.after(commands)
        group["b"].stop()
        group.advance(1.5)
        assert a.node.role == "alone"
        assert a.values() == self.after(commands)
        assert guest.connection.closing  # nobody waits for so long
        close(group)
        assert a.values() == self.after(commands)
        if b"lock" in a.values():
            assert Guest(a).ask(LOCK) == b"NOT_STORED\r\n"

    def test_and_has_begun_anew_when_it_is_met_again(self, commands, sent, ack_mode):
        """It decides, and knows nothing of what its former life had instead."""
        group, guest = depose(commands, sent=sent, replication_ack=ack_mode, sync_timeout_s=2.0)
        a, b = group["a"], group["b"]
        b.stop()
        b.start()
        a.frozen = True
        group.advance(4.0)
        assert b.node.role == "alone"
        a.frozen = False
        group.link("a", "b")
        group.advance(1.0)
        assert sorted(each.node.role for each in (a, b)) == ["coordinator", "follower"]
        assert a.values() == b.values() == self.after(commands)
        assert guest.connection.closing
        group.check_equal()

    def test_and_begins_anew_before_this_one_has_learnt_that(self, commands, sent, ack_mode):
        """This one stood still as what it was, and comes to doubt when it meets the other one."""
        group = make_group("ab", replication_ack=ack_mode, sync_timeout_s=2.0)
        a, b = group["a"], group["b"]
        fill(a)
        group.wire("a", "b").stall(a)
        guest = Guest(a)
        guest.feed(commands)
        if sent:
            group.settle()
        a.frozen = True
        b.stop()
        b.start()
        group.advance(4.0)
        assert b.node.role == "alone"
        a.frozen = False
        group.link("a", "b")
        group.advance(1.0)
        assert sorted(each.node.role for each in (a, b)) == ["coordinator", "follower"]
        assert a.values() == b.values() == self.after(commands)
        group.check_equal()

    @pytest.mark.parametrize("last", [Kind.WELCOME, Kind.CHANGES], ids=["welcome", "changes"])
    def test_before_it_has_said_all(self, commands, sent, ack_mode, last):
        if b"flush" in commands:
            return  # see below
        if b"other" in commands:
            last = Kind.WELCOME  # of that the other one has nothing to say
        group, guest = depose(commands, sent=sent, replication_ack=ack_mode)
        a, b = group["a"], group["b"]
        wire = group.wire("a", "b")
        wire.resume()
        hear(wire, a, last)
        assert a.node.role == "joining"
        assert a.values() == self.after(commands)
        b.stop()
        group.advance(1.5)
        assert a.node.role == "alone"
        assert a.values() == self.after(commands)
        assert guest.connection.closing  # nobody waits for so long
        close(group)
        assert a.values() == self.after(commands)

    def test_when_it_has_said_all(self, commands, sent, ack_mode):
        group, _ = depose(commands, sent=sent, replication_ack=ack_mode)
        a, b = group["a"], group["b"]
        wire = group.wire("a", "b")
        wire.resume()
        hear(wire, a, Kind.SYNCED)
        told = a.values()
        told.pop(b"z", None)
        assert told == BEFORE
        b.stop()
        group.advance(1.5)
        assert a.node.role == "alone"
        close(group)

    def test_or_it_lives_and_what_it_has_stays(self, commands, sent, ack_mode):
        group, guest = depose(commands, sent=sent, replication_ack=ack_mode)
        group.wire("a", "b").resume()
        group.advance(3)
        assert {host.node.role for host in group.hosts.values()} == {"coordinator", "follower"}
        group.check_equal()
        self.is_answered(guest, commands, ack_mode)
        values = group["a"].values()
        values.pop(b"z", None)
        assert values == (BEFORE if ack_mode == "strict" else self.after(commands))


class TestFlush:
    """It cannot be taken back by itself: who has flushed begins anew when it is taken in."""

    @pytest.mark.parametrize("ack_mode", ["semi", "strict"])
    def test_the_other_dies_before_it_has_said_all(self, ack_mode):
        group, guest = depose(b"flush_all\r\n", sent=True, replication_ack=ack_mode)
        a, b = group["a"], group["b"]
        wire = group.wire("a", "b")
        wire.resume()
        hear(wire, a, Kind.WELCOME)
        assert a.values() == {}
        b.stop()
        group.advance(1.5)
        assert a.node.role == "alone"
        assert guest.connection.closing
        close(group)


class TestThree:
    @pytest.mark.parametrize("ack_mode", ["semi", "strict"])
    @pytest.mark.parametrize("last", [None, Kind.WELCOME, Kind.SYNCED])
    def test_a_follower_drops_nothing_before_who_goes_on_has_told(self, ack_mode, last):
        group = make_group("abc", votes=False, replication_ack=ack_mode)
        a, b, c = group.hosts.values()
        fill(a)
        # c has heard of a last change, b has not; then a is gone, and b goes on.
        group.wire("a", "b").stall(a)
        guest = Guest(c)
        guest.feed(b"incr n 1\r\n")
        group.settle()
        assert (b.values()[b"n"], c.values()[b"n"]) == (b"5", b"6")
        wire = group.wire("b", "c")
        wire.stall(b)
        a.stop()
        group.advance(0.1)
        assert c.node.role == "joining"
        wire.resume()
        if last is not None:
            hear(wire, c, last)
        assert c.values()[b"n"] == (b"5" if last is Kind.SYNCED else b"6")
        b.stop()
        group.advance(2.5)
        assert c.node.role == "alone"
        assert (c.values()[b"lock"], c.values()[b"s"]) == (b"c1", b"v")
        assert guest.connection.closing
        if last is not Kind.SYNCED:
            assert c.values()[b"n"] == b"6"
        group.check()


class Shortage:
    """There is no memory for one of the records that a server takes from others."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, host: Host, number: int) -> None:
        host.group.closes_on_error = True
        self.left = number
        for name in ("apply_state", "apply_gone"):
            apply = getattr(host.changes, name)
            monkeypatch.setattr(host.changes, name, partial(self._apply, apply))

    def _apply(self, apply: Callable[..., bool], *record: Any, **how: Any) -> bool:
        self.left -= 1
        if self.left == -1:
            raise MemoryError("no room")
        return apply(*record, **how)


@pytest.mark.parametrize("number", range(4))
class TestNoMemory:
    #: With what the other node has instead: of the last one that it was deleted.
    COMMANDS = b"set lock 0 0 2\r\nc3\r\nincr n 1\r\ntouch s 100\r\nset d 0 0 1\r\n2\r\n"

    def depose(self, monkeypatch: pytest.MonkeyPatch, number: int) -> Group:
        group, _ = depose(self.COMMANDS, sent=True, before=b"set d 0 0 1\r\n1\r\ndelete d\r\n")
        shortage = Shortage(monkeypatch, group["a"], number)
        group.wire("a", "b").resume()
        group.advance(0.1)
        assert shortage.left < 0
        return group

    def test_what_cannot_be_taken_in_its_place_is_wanted_still(self, monkeypatch, number):
        """If nobody sent it again, there would be one copy less."""
        group = self.depose(monkeypatch, number)
        heal(group)
        assert group["a"].node.role == "follower"
        assert group["a"].values() == BEFORE
        group.check_equal()

    def test_and_what_is_here_stands_if_the_other_dies(self, monkeypatch, number):
        group = self.depose(monkeypatch, number)
        group["b"].stop()
        group.advance(1.5)
        a = group["a"]
        assert a.node.role == "alone"
        undone = [b"lock", b"n", b"s", b"d"][:number]
        stands = {b"lock": b"c3", b"n": b"6", b"d": b"2"}
        assert a.values() == {
            **BEFORE, **{key: value for key, value in stands.items() if key not in undone}
        }  # fmt: skip
        close(group)


def test_what_was_undone_is_asked_of_who_gave_it_though_not_all_could_be(monkeypatch):
    """c gives up what b, which goes on, has not got; then b is gone. That a has it a does not know
    to be news.
    """
    group = make_group("abc", votes=False)
    a, b, c = group.hosts.values()
    Guest(a).ask(b"set m 0 0 1\r\n1\r\n")
    fill(a)
    group.wire("a", "b").stall(a)
    Guest(a).feed(b"set k 0 0 1\r\n1\r\nincr m 1\r\n")
    group.settle()
    assert c.values() == {**BEFORE, b"k": b"1", b"m": b"2"}
    shortage = Shortage(monkeypatch, c, len(BEFORE))
    for other in "bc":
        group.wire("a", other).cut()
    group.advance(0.1)
    assert (c.node.role, c.values(), shortage.left) == ("joining", {**BEFORE, b"m": b"2"}, -1)
    b.stop()
    group.advance(2.5)
    assert c.node.role == "alone"
    group.link("a", "c")
    group.advance(2.0)
    assert a.values() == c.values() == {**BEFORE, b"k": b"1", b"m": b"2"}
    group.check_equal()


@pytest.mark.parametrize("acknowledged", [True, False])
def test_what_a_coordinator_has_undone_is_asked_of_who_had_it_from_it(acknowledged):
    """a gives up what b, which goes on, has not got; then b is gone. That c has it c does not know
    to be news: a told it.
    """
    group = make_group("abc", votes=False)
    a, b, c = group.hosts.values()
    fill(a)
    group.wire("a", "b").stall(a)
    group.wire("b", "c").cut()
    if not acknowledged:
        group.wire("a", "c").stall(c)
    Guest(a).feed(b"set k 0 0 1\r\n1\r\n")
    group.settle()
    group.wire("a", "c").cut()
    a.frozen = True
    Guest(b).feed(b"incr n 1\r\n")
    group.advance(0.5)  # for so long that nothing of that is executed again
    assert (b.node.role, c.node.role) == ("alone", "alone")
    a.frozen = False
    group.wire("a", "b").resume()
    group.advance(0.1)
    assert a.values() == {**BEFORE, b"n": b"6"}
    b.stop()
    group.advance(2.0)
    assert a.node.role == "alone"
    group.link("a", "c")
    group.advance(2.0)
    assert a.values() == c.values() == {**BEFORE, b"k": b"1", b"n": b"6"}
    group.check_equal()


@pytest.mark.parametrize("command", [b"set k 0 0 1\r\n2\r\n", b"delete k\r\n", b"flush_all\r\n"])
def test_what_followers_have_not_got_does_not_live_on_with_who_joins(command):
    """A follower has gone on, and never had it; who was told of it, joining, gives it up."""
    group = make_group("abc", witness=True)
    a, b, c = (group[name] for name in "abc")
    c.stop()
    group.advance(1.0)
    for key in (b"k", b"m"):
        Guest(a).ask(b"set %b 0 0 1\r\n1\r\n" % key)
    before = a.values()
    for other in "aw":
        group.wire("b", other).cut()
    Guest(b).feed(b"touch nothing 0\r\n")
    group.advance(2.0)
    c.start()
    group.link_witness("c")
    group.link("a", "c")
    group.advance(2.0)
    assert a.node.view.members == ["a", "c"]
    wire = Wire(a, b)
    while a.peer("b").phase is not Phase.HOSTING:
        for act in (a.turn, b.turn, wire.carry):
            act()
    wire.stall(b)
    group.settle()
    group.warm()
    for other in "cw":
        group.wire("a", other).stall()
    Guest(a).feed(command)
    Guest(c).feed(b"touch nothing 0\r\n")
    group.settle()
    assert b.node.role is JOINING
    assert b.values() == a.values() != before
    group.advance(0.5)
    assert c.node.role is ALONE
    wire.cut()
    group.link("b", "c")
    group.advance(2.0)
    assert c.node.view.members == ["c", "b"]
    assert b.values() == c.values() == before
    group.check()


@pytest.mark.parametrize("flushed", [False, True])
def test_who_asks_for_what_is_in_doubt_has_not_deleted_it(flushed):
    """It has no room to remember all deletions: what it does not name is dropped elsewhere."""
    group = make_group("ab", replication_backlog_bytes=1200)
    a, b = group["a"], group["b"]
    before = {b"k%d" % number: b"old" for number in range(60)}
    for key in before:
        assert Guest(a).ask(b"set %b 0 0 3\r\nold\r\n" % key) == b"STORED\r\n"
    group.warm()
    group.wire("a", "b").stall(a)
    Guest(a).feed(b"set k0 0 0 3\r\nnew\r\n")
    for key in list(before)[10:]:
        Guest(a).feed(b"delete %b\r\n" % key)
    if flushed:
        Guest(a).feed(b"flush_all\r\n")
    group.settle()
    a.frozen = True
    Guest(b).feed(b"incr n 1\r\n")
    group.advance(0.5)  # for so long that nothing of that is executed again
    assert b.node.role == "alone"
    a.frozen = False
    group.wire("a", "b").resume()
    group.advance(3.0)
    assert sorted(host.node.role for host in group.hosts.values()) == ["coordinator", "follower"]
    group.check_equal()
    assert b.values() == before
