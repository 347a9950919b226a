"""Who cannot take what a peer says does not acknowledge it, and leaves: it is no holder of that."""

from __future__ import annotations

from io import BytesIO
from math import inf
from typing import TYPE_CHECKING, Any

import pytest

from pymcd.replication import records
from pymcd.replication.frames import Kind
from pymcd.replication.node import READMIT_MAX_S, READMIT_MIN_S
from pymcd.replication.versions import CLOCK_SKEW_MAX_S, version_at
from pymcd.store.item import SHARED_MARKS
from tests.replication.helpers import Group, Guest, Host, Wire, encode_state, make_group

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from pymcd.replication.peer import Peer
    from pymcd.store.item import Item

SET = b"set k 0 0 3\r\nnew\r\n"
STORED = b"STORED\r\n"
IN_SYNC = ["coordinator", "follower"]
WHY = "MemoryError: no room"


def fail(host: Host, what: str, *, times: float = 1, after: int = 0) -> Callable[[], None]:
    """Have something of a cache fail so often, after it has worked; return what ends that."""
    cache: Any = host.cache
    original = getattr(cache, what)
    calls = 0

    def failing(*arguments: Any) -> Any:
        nonlocal calls
        calls += 1
        if after < calls <= after + times:
            raise MemoryError("no room")
        return original(*arguments)

    failing_ways = {what: failing}
    if what == "install":  # which nothing is spared then
        failing_ways["overwrite"] = lambda *_: False
    for name, way in failing_ways.items():
        setattr(cache, name, way)

    def mend() -> None:
        for name in failing_ways:
            delattr(cache, name)

    return mend


class Cramped(BytesIO):
    """A buffer for which there is no memory to grow."""

    def writelines(self, pieces: Iterable[Any]) -> None:
        for piece in pieces:
            self.write(piece[:1])
            raise MemoryError("no room")


def has_marks(item: Item) -> int:
    return item.state[2] & SHARED_MARKS


def roles(group: Group) -> list[str]:
    return [str(host.node.role) for host in group.hosts.values()]


def heal(group: Group, seconds: float = 3.0) -> None:
    """Have two nodes linked again and again, whoever closes the link."""
    group.closes_on_error = True
    for _ in range(round(seconds / 0.1)):
        if not group.wires:
            group.link("a", "b")
        group.advance(0.1)


class TestAFollower:
    @pytest.mark.parametrize("times", [1, 3])
    @pytest.mark.parametrize("after", [0, 1])
    def test_does_not_acknowledge_what_it_could_not_store(self, times, after):
        group = make_group()
        a, b = group["a"], group["b"]
        first, second = Guest(a), Guest(a)
        assert first.ask(b"set k 0 0 3\r\nold\r\nset l 0 0 3\r\nold\r\n") == 2 * STORED
        fail(b, "install", times=times, after=after)
        first.feed(b"set l 0 0 3\r\nnew\r\n")
        second.feed(SET)
        wire = group.wires[0]
        with pytest.raises(MemoryError):
            group.settle()
        peer = a.peer("b")
        assert peer.channel is not None
        assert peer.channel.unacked  # it was not acknowledged
        assert first.take() == second.take() == b""
        wire.cut()
        assert b.node.role == "joining"
        assert b.changes._applying is False
        heal(group)
        assert roles(group) == IN_SYNC
        assert (first.take(), second.take()) == (STORED, STORED)
        group.check_equal()
        assert b.values() == {b"k": b"new", b"l": b"new"}
        # What happens there later is noticed as ever.
        a.stop()
        group.advance(1.0)
        assert Guest(b).ask(b"set m 0 0 1\r\n1\r\n") == STORED
        a.start()
        group.link("a", "b")
        group.advance(1.0)
        assert group["a"].values()[b"m"] == b"1"

    @pytest.mark.parametrize("flags", [0, 7])
    @pytest.mark.parametrize("away", [False, True])
    def test_keeps_what_was_to_be_replaced(self, away, flags):
        """It may be the only one that is left with that. Ends leave traces while one is away."""
        group = make_group("abc" if away else "ab")
        a, b = group["a"], group["b"]
        old = b"set k %d 100 3\r\nold\r\nmg k t v f\r\ntouch k 200\r\n" % flags
        assert Guest(a).ask(old).endswith(b"TOUCHED\r\n")
        group.settle()
        if away:
            group["c"].stop()
            group.advance(0.5)
        item = b.cache.linked(b"k")
        assert item is not None
        version = b.changes.version_of(item)
        about = item.value, item.client_flags, item.cas_unique, item.state[1], has_marks(item)
        fail(b, "install")
        Guest(a).feed(SET)
        with pytest.raises(MemoryError):
            group.settle()
        item = b.cache.linked(b"k")
        assert item is not None
        assert about[:2] == (b"old", flags)
        now = item.value, item.client_flags, item.cas_unique, item.state[1], has_marks(item)
        assert now == about
        assert b.changes.version_of(item) == version
        assert b.changes.tombstones.get(b"k") < version
        b.cache.check()

    @pytest.mark.parametrize("away", [False, True])
    @pytest.mark.parametrize("mode", ["append", "prepend"])
    @pytest.mark.parametrize("what", ["install", "grow"])
    def test_keeps_a_large_value_that_was_to_grow(self, what, mode, away, monkeypatch):
        """Only what was added is sent, and the value grows where it lies."""
        group = make_group("abc" if away else "ab")
        a, b = group["a"], group["b"]
        old = bytes(range(256)) * 3_000
        assert Guest(a).ask(b"set k 7 0 %d\r\n%b\r\n" % (len(old), old)) == STORED
        group.settle()
        if away:
            group["c"].stop()
            group.advance(0.5)
        item = b.cache.linked(b"k")
        assert item is not None
        assert item.chunk_classes
        version, cas_unique = b.changes.version_of(item), item.cas_unique
        Guest(a).feed(b"%b k 0 0 3\r\nnew\r\n" % mode.encode())
        if what == "install":
            fail(b, "install")
        else:
            monkeypatch.setattr("pymcd.store.cache.BytesIO", Cramped)
        with pytest.raises(MemoryError):
            group.settle()
        item = b.cache.linked(b"k")
        assert item is not None
        assert (item.value, item.client_flags, item.cas_unique) == (old, 7, cas_unique)
        assert b.changes.version_of(item) == version
        b.cache.check()

    def test_serves_nothing_while_it_lacks_something(self):
        group = make_group()
        a, b = group["a"], group["b"]
        assert Guest(a).ask(b"set k 0 0 3\r\nold\r\n") == STORED
        mend = fail(b, "install", times=inf)
        guest, reader = Guest(a), Guest(b)
        guest.feed(SET)
        group.closes_on_error = True
        group.settle()
        reader.feed(b"get k\r\n")
        heal(group, 10.0)
        assert guest.take() == STORED
        assert reader.take() == b""
        assert reader.connection.closing  # it may turn to the other node
        assert roles(group) == ["alone", "joining"]
        mend()
        heal(group, READMIT_MAX_S + 1.0)
        assert roles(group) == IN_SYNC
        assert Guest(b).ask(b"get k\r\n") == b"VALUE k 0 3\r\nnew\r\nEND\r\n"

    def test_and_both_say_why(self):
        group = make_group()
        a, b = group["a"], group["b"]
        fail(b, "install")
        Guest(a).feed(SET)
        group.closes_on_error = True
        group.settle()
        heal(group, 1.0)
        (line,) = [line for line in b.lines if "cannot take" in line]
        assert line == f"replication: cannot take what a sends ({WHY}); parting from it"
        (line,) = [line for line in a.lines if "cannot take" in line]
        assert line == (f"replication: b cannot take what this node sends ({WHY}); it has parted")

    def test_a_deletion_is_no_other(self):
        group = make_group()
        a, b = group["a"], group["b"]
        assert Guest(a).ask(SET) == STORED
        fail(b, "unlink")
        guest = Guest(a)
        guest.feed(b"delete k\r\n")
        group.closes_on_error = True
        group.settle()
        assert guest.take() == b""
        assert b.changes._applying is False
        heal(group)
        assert guest.take() == b"DELETED\r\n"
        assert roles(group) == IN_SYNC
        assert b.values() == {}

    def test_nor_a_flush(self):
        group = make_group()
        a, b = group["a"], group["b"]
        assert Guest(a).ask(SET) == STORED
        fail(b, "flush_before")
        guest = Guest(a)
        guest.feed(b"flush_all\r\n")
        group.closes_on_error = True
        group.settle()
        assert guest.take() == b""
        heal(group)
        assert guest.take() == b"OK\r\n"
        assert roles(group) == IN_SYNC
        assert b.values() == {}


class TestWhoIsBroughtInSync:
    @pytest.mark.parametrize("name", "ab")
    @pytest.mark.parametrize("after", [0, 7, 19])
    def test_begins_anew_and_gets_all(self, name, after):
        """Two that were apart; one of them cannot take something of what the other has."""
        group = make_group()
        group.wires[0].cut()
        group.advance(1.0)
        for host in group.hosts.values():
            for number in range(20):
                data = b"set %b%d 0 0 1\r\n1\r\n" % (host.name.encode(), number)
                assert Guest(host).ask(data) == STORED
        fail(group[name], "install", after=after)
        heal(group, 5.0)
        assert sorted(roles(group)) == IN_SYNC
        group.check_equal()
        assert len(group["a"].values()) == 40

    def test_is_not_asked_again_and_again(self):
        group = make_group()
        group.wires[0].cut()
        group.advance(1.0)
        Guest(group["a"]).ask(SET)
        Guest(group["b"]).ask(b"set other 0 0 1\r\n1\r\n")
        mend = fail(group["a"], "install", times=inf)
        before = group["a"].rows["partial_resyncs"]
        heal(group, 10.0)
        # It is tried after 0.25, 0.5, 1, 2, 4 ... seconds.
        assert READMIT_MIN_S == 0.25
        assert 3 <= group["a"].rows["partial_resyncs"] - before <= 8
        mend()
        heal(group, READMIT_MAX_S + 1.0)
        assert sorted(roles(group)) == IN_SYNC
        group.check_equal()

    def test_who_cannot_tell_it_all_answers_by_its_lease_from_then_on(self):
        """Alone it needed none. There is no memory to tell what was executed here for others."""
        group = make_group()
        a, b = group["a"], group["b"]
        b.stop()
        Guest(a).feed(SET)
        group.advance(1.0)
        b.start()
        gate: Any = a.node.gate

        def fail(peer: Peer) -> None:
            del gate.tell_executed
            with peer.breaking():
                raise MemoryError(WHY)

        gate.tell_executed = fail
        group.closes_on_error = True
        wire = Wire(a, b)
        while "tell_executed" in vars(gate):
            for act in (a.turn, b.turn, wire.carry):
                act()
                a.node.check()
        heal(group)
        assert roles(group) == IN_SYNC
        group.check_equal()

    def test_one_that_starts_does_not_open_with_half(self):
        group = make_group(sync_timeout_s=2.0)
        for number in range(500):
            Guest(group["a"]).ask(b"set k%d 0 0 1\r\n1\r\n" % number)
        group["b"].stop()
        group.advance(1.0)
        group["b"].start()
        fail(group["b"], "install", times=inf, after=250)
        heal(group, 10.0)
        assert roles(group) == ["alone", "starting"]
        assert not group["b"].ready_calls


#: What says a version that is too far ahead.
FUTURE: dict[str, Callable[[int], bytes]] = {
    "state": lambda version: encode_state(b"k", b"1", 0, 0, version, version),
    "of its own": lambda version: encode_state(b"k", b"1", 0, 0, 5, version),
    "gone": lambda version: records.encode_gone(b"k", version),
    "flush": records.encode_flush,
}


class TestTheFuture:
    @pytest.mark.parametrize("behind", [False, True])
    @pytest.mark.parametrize("kind", FUTURE)
    def test_what_comes_from_there_is_refused_whole(self, kind, behind):
        group = make_group()
        a, b = group["a"], group["b"]
        assert Guest(a).ask(b"set k 0 0 3\r\nold\r\n") == STORED
        now_s = group.clock.realtime()
        version = version_at(now_s + 2 * CLOCK_SKEW_MAX_S + 1, 0)
        good = version_at(now_s + 1, 0)
        record = FUTURE[kind](version)
        if behind:
            record = encode_state(b"good", b"1", 0, 0, good, good) + record
        number = a.peer("b").channel.sent  # type: ignore[union-attr]
        a.peer("b").send(group.clock.monotonic(), Kind.CHANGES, record, ticket=77)
        group.settle()
        assert b.changes.barrier < version
        assert b.cache.cas_unique < version
        assert b.values()[b"k"] == b"old"
        assert b.node.view.peers["a"].left.received == number
        assert a.peer("b").acked_ticket < 77
        assert a.node.role == "alone"
        assert b.rows["peer_0:last_error"] == "a_version_from_the_future"
        assert a.rows["peer_0:last_error"] == "left"
        for host in (a, b):
            assert any("(a version from the future)" in line for line in host.lines)
        group.advance(3.0)  # the link is still there
        assert roles(group) == IN_SYNC

    @pytest.mark.parametrize("kind", FUTURE)
    def test_what_is_nearer_is_taken(self, kind):
        group = make_group()
        version = version_at(group.clock.realtime() + 2 * CLOCK_SKEW_MAX_S - 1, 0)
        group["a"].peer("b").send(group.clock.monotonic(), Kind.CHANGES, FUTURE[kind](version))
        group.settle()
        assert roles(group) == IN_SYNC
        assert group["b"].cache.cas_unique >= version


class TestOtherMessages:
    #: What the coordinator says, and the follower; and what of the node does that.
    SAID = [("a", Kind.VIEW, "_view_arrived"), ("b", Kind.FORWARD, "execute_for")]

    @pytest.mark.parametrize(("who", "kind", "what"), SAID)
    def test_are_not_lost_either(self, who, kind, what):
        group = make_group()
        host = group["b" if who == "a" else "a"]
        place: Any = host.node.gate if kind == Kind.FORWARD else host.node.membership
        original = getattr(place, what)
        failed: list[int] = []

        def failing(*arguments: Any) -> None:
            if not failed:
                failed.append(1)
                raise MemoryError("no room")
            original(*arguments)

        setattr(place, what, failing)
        guest = Guest(group["b"])
        if kind == Kind.VIEW:
            group["a"].node.membership.announce_view(group.clock.monotonic())
        else:
            assert Guest(group["a"]).ask(b"set n 0 0 1\r\n1\r\n") == STORED
            guest.feed(b"incr n 1\r\n")
        group.closes_on_error = True
        group.settle()
        assert failed
        heal(group)
        assert sorted(roles(group)) == IN_SYNC
        if kind == Kind.FORWARD:
            # Executed again, once; or its client was parted from, and does not know.
            assert guest.take() == (b"" if guest.connection.closing else b"2\r\n")
            assert group["a"].values()[b"n"] in (b"1", b"2")
        group.check_equal()
