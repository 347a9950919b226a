"""Large values: cut in pieces, sent ahead of who speaks of them, never in anybody's hands whole."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from pymcd.replication import frames, records
from pymcd.replication.frames import (
    HEAD_BYTES,
    PART_BYTES,
    PARTS_WINDOW_BYTES,
    FrameError,
    Kind,
)
from pymcd.replication.values import YOURS, Values
from pymcd.replication.waiting import Nobody
from tests.replication.helpers import ACK_TIMEOUT_S, Group, Guest, Wire, decode_sent, make_group

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

    from pymcd.replication.channel import Channel
    from pymcd.replication.waiting import Reply

MIB = 1 << 20
#: Of several chunks, and several windows.
VALUE = bytes(range(256)) * (3 * MIB // 256)
BINARY_SET = (
    b"\x80\x01\x00\x01\x08\x00\x00\x00"
    + (9 + len(VALUE)).to_bytes(4, "big")
    + bytes(12)
    + bytes(8)
    + b"k"
    + VALUE
)


def piece_of(number: int, piece: bytes) -> bytes:
    return bytes(HEAD_BYTES) + records.encode_number(number) + piece


def large_group(names: str = "ab") -> Group:
    return make_group(names, item_size_max_bytes=64 * MIB, memory_limit_bytes=1024 * MIB)


def in_reads(command: bytes) -> Iterator[bytes]:
    """Yield a command as it comes to a driver."""
    for start in range(0, len(command), 64 << 10):
        yield command[start : start + (64 << 10)]


def set_of(value: bytes, key: bytes = b"k") -> bytes:
    return b"set %b 0 0 %d\r\n%b\r\n" % (key, len(value), value)


def channel_of(group: Group, name: str, other: str) -> Channel:
    channel = group[name].peer(other).channel
    assert channel is not None
    return channel


class TestValues:
    def test_pieces_gather_and_several_values_at_a_time(self):
        values = Values()
        for number, piece in [(1, b"ab"), (2, b"x"), (1, b"c"), (2, b"y")]:
            values.gather(piece_of(number, piece))
            values.check()
        assert values.take(2, 2) == b"xy"
        assert values.take(1, 3) == b"abc"
        values.check()

    @pytest.mark.parametrize(("number", "length"), [(1, 2), (1, 4), (2, 3), (1 | YOURS, 3), (0, 0)])
    def test_what_is_not_there_is_not_taken(self, number, length):
        values = Values()
        values.gather(piece_of(1, b"abc"))
        with pytest.raises(FrameError, match="a value that never came"):
            values.take(number, length)

    def test_it_is_taken_once(self):
        values = Values()
        values.gather(piece_of(1, b"abc"))
        values.take(1, 3)
        with pytest.raises(FrameError, match="a value that never came"):
            values.take(1, 3)

    def test_they_come_to_an_end(self, monkeypatch):
        monkeypatch.setattr("pymcd.replication.values.PARTS_MAX_BYTES", 5)
        values = Values()
        values.gather(piece_of(1, b"abc"))
        values.take(1, 3)
        values.gather(piece_of(2, b"abc"))
        with pytest.raises(FrameError, match="values without end"):
            values.gather(piece_of(3, b"abc"))

    def test_a_piece_has_a_number(self):
        with pytest.raises(FrameError, match="a value without a number"):
            Values().gather(bytes(HEAD_BYTES) + b"x")

    def test_what_is_forwarded_is_kept_until_it_is_answered(self):
        asking, deciding = Values(), Values()
        number = asking.next_number()
        asking.keep(7, number, b"abc")
        deciding.gather(piece_of(number, b"abc"))
        value = deciding.lend(number, 3)
        assert asking.take(deciding.number_of(value), 3) == b"abc"
        asking.check()
        asking.answered(7)
        asking.answered(7)
        asking.check()
        with pytest.raises(FrameError):
            asking.take(number | YOURS, 3)
        deciding.settle()
        assert not deciding.number_of(value)


@pytest.mark.parametrize("asked", "ab")
class TestOfClients:
    def test_each_step_is_one_of_a_piece(self, asked):
        """In one step nobody has more bytes in hands than a window of them."""
        group = large_group()
        guest = Guest(group[asked])
        other = "b" if asked == "a" else "a"
        value = VALUE * 4
        read = [*in_reads(set_of(value))]
        guest.feed(*read[:-1])
        group.warm()
        greatest = 0
        tracemalloc = pytest.importorskip("tracemalloc", reason="PyPy has none")
        tracemalloc.start()
        try:
            guest.unread.append(read[-1])
            guest.woken = True
            busy = True
            while busy:
                busy = False
                for act in (
                    *[host.turn for host in group.hosts.values()],
                    *[wire.carry for wire in group.wires],
                ):
                    before, _ = tracemalloc.get_traced_memory()
                    tracemalloc.reset_peak()
                    busy = act() or busy
                    after, peak = tracemalloc.get_traced_memory()
                    greatest = max(greatest, peak - max(before, after))
        finally:
            tracemalloc.stop()
        assert guest.take() == b"STORED\r\n"
        assert greatest < 3 * PARTS_WINDOW_BYTES < len(value) // 2
        assert group[other].values() == {b"k": value}
        group.check_equal()

    @pytest.mark.parametrize("protocol", ["text", "binary"])
    def test_it_travels_once_and_no_message_is_large(self, asked, protocol):
        group = large_group()
        wire = group.wire("a", "b")
        before = [len(sent) for sent in wire.sent]
        guest = Guest(group[asked])
        reply = guest.ask(*in_reads(set_of(VALUE) if protocol == "text" else BINARY_SET))
        assert reply[:2] in (b"ST", b"\x81\x01")
        sent = [pieces[start:] for pieces, start in zip(wire.sent, before, strict=True)]
        messages = [message for pieces in sent for message in decode_sent(pieces)]
        assert max(len(payload) for _, payload in messages) <= PART_BYTES + 8
        carried = sum(len(payload) for kind, payload in messages if kind == Kind.VALUE)
        assert carried == len(VALUE) + 8 * len(VALUE) // PART_BYTES
        for name, other in ("ab", "ba"):
            values = channel_of(group, name, other).values
            values.check()
            assert not values._kept
            assert not values.lent
            assert not values._arriving
        group.check_equal()

    def test_what_grows_and_what_is_altered(self, asked):
        group = large_group()
        guest = Guest(group[asked])
        guest.ask(*in_reads(set_of(VALUE)))
        for command, reply in [
            (b"append k 0 0 1\r\nx\r\n", b"STORED\r\n"),
            (b"prepend k 0 0 1\r\ny\r\n", b"STORED\r\n"),
            (b"touch k 100\r\n", b"TOUCHED\r\n"),
            (b"md k I\r\n", b"HD\r\n"),
            (b"ms k 1 MA E77\r\nz\r\n", b"HD\r\n"),
        ]:
            assert guest.ask(command) == reply
            group.check_equal()
            wire = group.wire("a", "b")
            sent = [message for pieces in wire.sent for message in decode_sent(pieces)]
            assert max(len(payload) for _, payload in sent) <= PART_BYTES + 8
        assert group["b"].values() == {b"k": b"y" + VALUE + b"xz"}

    @pytest.mark.parametrize(
        ("command", "reply"),
        [
            (b"replace k 0 0 %d\r\n%b\r\n", b"NOT_STORED\r\n"),
            (b"set k 0 0 %d noreply\r\n%b\r\n", b""),
            (b"set k 0 0 %d\r\n%bxx", b"CLIENT_ERROR bad data chunk\r\n"),
        ],
    )
    def test_what_is_not_stored_or_not_answered(self, asked, command, reply):
        group = large_group()
        guest = Guest(group[asked])
        assert guest.ask(*in_reads(command % (len(VALUE), VALUE))) == reply
        group.check_equal()
        assert Guest(group[asked]).ask(*in_reads(set_of(VALUE[1:]))) == b"STORED\r\n"
        group.check_equal()
        for name, other in ("ab", "ba"):
            assert not channel_of(group, name, other).values.lent

    def test_a_node_of_the_first_version_gets_it_in_parts(self, asked):
        group = large_group()
        for name, other in ("ab", "ba"):
            group[name].peer(other).version = 1
        assert Guest(group[asked]).ask(*in_reads(set_of(VALUE))) == b"STORED\r\n"
        sent = [message for pieces in group.wire("a", "b").sent for message in decode_sent(pieces)]
        assert Kind.VALUE not in {kind for kind, _ in sent}
        group.check_equal()

    def test_over_a_link_that_is_lost_on_the_way(self, asked):
        group = large_group()
        guest = Guest(group[asked])
        *most, last = in_reads(set_of(VALUE))
        guest.feed(*most)
        group.warm()
        guest.unread.append(last)
        guest.woken = True
        for _ in range(5):
            for host in group.hosts.values():
                host.turn()
            group.wire("a", "b").carry()
        group.wire("a", "b").cut()
        group.link("a", "b")
        group.settle()
        assert guest.take() == b"STORED\r\n"
        assert group[asked].node.role.in_sync
        group.check_equal()


def rounds(group: Group, limit: int = 1000) -> Iterator[int]:
    """Let happen what can at once, a little each time."""
    for number in range(limit):
        for host in group.hosts.values():
            host.turn()
        for wire in list(group.wires):
            wire.carry()
        group.check()
        yield number


class TestCopied:
    @pytest.mark.parametrize("sixteenths", range(17))
    def test_over_another_link(self, sixteenths):
        """What was lost with the link goes before what waited for it: no message is missing."""
        group = large_group()
        for key in b"hijk":
            assert Guest(group["a"]).ask(set_of(VALUE, bytes([key]))) == b"STORED\r\n"
        group["b"].stop()
        group.advance(1.0)
        group["b"].start()
        wire = Wire(group["a"], group["b"])
        for _ in rounds(group):
            channel = group["a"].peer("b").channel
            if channel is not None and channel.waiting:
                break
        wire.stall()
        wire.carry()
        under_way = b"".join(wire.queues[0])
        assert len(under_way) > PARTS_WINDOW_BYTES // 2
        wire.links[1].receive(under_way[: len(under_way) * sixteenths // 16])
        wire.cut()
        group.link("a", "b")
        group.advance(1.0)
        assert group["b"].node.role.in_sync
        assert group["b"].peer("a").connects == 2
        assert not [line for line in group["b"].lines if "missing" in line]
        group.check_equal()


class TestAltered:
    """What becomes of a large item is told, not the item."""

    ALTERATIONS = [
        (b"append k 0 0 2\r\nxy\r\n", b"STORED\r\n"),
        (b"prepend k 0 0 2\r\nab\r\n", b"STORED\r\n"),
        (b"touch k 100\r\n", b"TOUCHED\r\n"),
        (b"gat 200 k\r\n", b"VALUE k 0 %d\r\n"),
        (b"md k I T300\r\n", b"HD\r\n"),
        (b"ms k 1 MA E77\r\nz\r\n", b"HD\r\n"),
        (b"mg k t\r\n", b"HD"),
        (b"append k 0 0 %d\r\n%b\r\n" % (len(VALUE), VALUE), b"STORED\r\n"),
        (b"ms k 600000 MP\r\n%b\r\n" % VALUE[:600_000], b"HD\r\n"),
    ]

    def begin(self, names: str = "ab", **settings: Any) -> Group:
        group = make_group(
            names, item_size_max_bytes=64 * MIB, memory_limit_bytes=1024 * MIB, **settings
        )
        assert Guest(group["a"]).ask(*in_reads(set_of(VALUE * 4))) == b"STORED\r\n"
        return group

    def carried(self, group: Group) -> Callable[[], int]:
        """Return what tells how many bytes have been sent since."""
        wires = list(group.wires)
        before = [[len(pieces) for pieces in wire.sent] for wire in wires]

        def count() -> int:
            return sum(
                len(piece)
                for wire, starts in zip(wires, before, strict=True)
                for pieces, start in zip(wire.sent, starts, strict=True)
                for piece in pieces[start:]
            )

        return count

    @pytest.mark.parametrize("names", ["ab", "abc"])
    @pytest.mark.parametrize("ack", ["semi", "async", "strict"])
    @pytest.mark.parametrize("asked", "ab")
    def test_each_by_itself(self, asked, ack, names):
        group = self.begin(names, replication_ack=ack)
        guest = Guest(group[asked])
        for command, reply in self.ALTERATIONS:
            carried = self.carried(group)
            said = guest.ask(*in_reads(command))
            assert said.startswith(reply.split(b"%")[0])
            group.check_equal()
            # Once to the node that decides, if it is not this one, and to each that follows.
            limit = len(names) * (len(command) + 20_000)
            if reply.startswith(b"VALUE") and asked == "b":
                limit += len(names) * (len(said) + 20_000)  # that reply travels, too
            assert carried() < limit
        assert len(group["b"].values()[b"k"]) == 5 * len(VALUE) + 5 + 600_000

    @pytest.mark.parametrize("asked", "ab")
    def test_many_at_once(self, asked):
        group = self.begin()
        carried = self.carried(group)
        Guest(group[asked]).ask(
            b"touch k 100\r\n"
            b"append k 0 0 2\r\nxy\r\n"
            b"prepend k 0 0 2\r\nab\r\n"
            b"append k 0 0 1\r\nz\r\n"
            b"ms k 1 MP E5\r\n0\r\n"
            b"prepend k 0 0 2\r\n<<\r\n"
            b"touch k 200\r\n"
        )
        group.check_equal()
        assert group["b"].values() == {b"k": b"<<0ab" + VALUE * 4 + b"xyz"}
        assert carried() < 20_000

    @pytest.mark.parametrize("asked", "ab")
    @pytest.mark.parametrize(
        ("before", "after"),
        [
            (b"delete k\r\n", b"znew"),
            (b"flush_all\r\n", b"znew"),
            (set_of(VALUE), b"z" + VALUE + b"y"),
            (set_of(b"small"), b"zsmally"),
        ],
        ids=["delete", "flush", "large", "small"],
    )
    def test_what_nobody_has_is_told_whole(self, asked, before, after):
        group = self.begin()
        guest = Guest(group[asked])
        guest.ask(
            b"append k 0 0 1\r\nx\r\n"
            + before
            + b"append k 0 0 1\r\ny\r\nadd k 0 0 3\r\nnew\r\nprepend k 0 0 1\r\nz\r\n"
        )
        group.check_equal()
        assert group["b"].values() == {b"k": after}

    @pytest.mark.parametrize("names", ["ab", "abc"])
    @pytest.mark.parametrize(("command", "reply"), ALTERATIONS)
    def test_who_has_evicted_it_asks_for_it(self, command, reply, names):
        group = self.begin(names)
        item = group["b"].cache.linked(b"k")
        assert item is not None
        group["b"].cache.unlink(item)
        said = Guest(group["a"]).ask(*in_reads(command))
        assert said.startswith(reply.split(b"%")[0])
        group.settle()
        group.check_equal() if command[:2] != b"mg" else None
        assert (b"k" in group["b"].values()) == (command[:2] != b"mg")

    def test_of_who_has_another_version_nothing_is_left_but_what_it_asks_for(self):
        group = self.begin()
        changes = group["b"].changes
        item = group["b"].cache.linked(b"k")
        assert item is not None
        changes.exceptions.set(b"k", changes.version_of(item) - 1)
        guest = Guest(group["a"])
        guest.feed(b"append k 0 0 1\r\nx\r\n")
        for _ in rounds(group):
            assert group["b"].values().get(b"k") in (None, VALUE * 4, VALUE * 4 + b"x")
            if guest.replies:
                assert group["b"].values().get(b"k") != VALUE * 4
                break
        group.settle()
        group.check_equal()

    def test_it_is_gone_here_before_that_is_told(self):
        group = self.begin()
        for name in "ba":
            item = group[name].cache.linked(b"k")
            assert item is not None
            group[name].cache.unlink(item)
        group["a"].node.gate.changes_arrived(
            group["a"].peer("b"), bytes(HEAD_BYTES) + records.encode_wanted(b"k")
        )
        group.settle()
        assert group["b"].values() == {}

    @pytest.mark.parametrize("steps", range(0, 60, 4))
    @pytest.mark.parametrize("lost", "ab")
    def test_who_comes_again_meanwhile(self, steps, lost):
        """Who is not in sync is told all of it."""
        group = self.begin()
        stays = "b" if lost == "a" else "a"
        group[lost].stop()
        group.advance(1.0)
        group[lost].start()
        group.link(stays, lost)
        guest = Guest(group[stays])
        for number in rounds(group, 120):
            if number % 10 == steps % 10:
                guest.feed(b"append k 0 0 1\r\n%d\r\n" % (number % 10))
            if number == steps:
                guest.feed(b"touch k 500\r\nmd k I\r\n")
        group.advance(1.0)
        assert group[lost].node.role.in_sync
        group.check_equal()

    def test_an_item_of_another_length_ends_the_link(self):
        group = self.begin()
        channel = channel_of(group, "a", "b")
        item = group["b"].cache.linked(b"k")
        assert item is not None
        version = group["b"].changes.version_of(item)
        state = records.pack_state(records.STATE, 0, 1, 0, version + 1, version + 1, 0, 9)
        payload = records.encode_altered(state, b"k", version, [records.encode_piece(b"x")], [])
        message = frames.encode_message(
            Kind.CHANGES, 1.0, 0.0, channel.epoch, channel.sent + 1, 0, payload
        )
        group.wire("a", "b").links[1].receive(b"".join(message))
        assert "sent an item of another length" in group["b"].lines[-1]
        assert group["b"].values() == {b"k": VALUE * 4}

    def test_who_decides_is_told_of_no_alteration(self):
        group = self.begin()
        state = records.pack_state(records.STATE, 0, 1, 0, 5, 5, 0, 9)
        body = bytes(HEAD_BYTES) + records.encode_altered(state, b"k", 4, [], [])
        with pytest.raises(FrameError, match="we do not follow"):
            group["a"].node.gate.changes_arrived(group["a"].peer("b"), body)


class Asker(Nobody):
    """Waits for a reply."""

    reply: Reply | None = None

    def answered(self, reply: Reply) -> None:
        self.reply = reply

    def take(self) -> bytes:
        reply, self.reply = self.reply, None
        assert reply is not None
        return reply if isinstance(reply, bytes) else b"".join(reply)


def value_line(value: bytes) -> bytes:
    return b"VALUE k 0 %d\r\n%b\r\n" % (len(value), value)


class TestReplies:
    """Of what is forwarded, reads too while a node joins, the replies may be large."""

    GET = b"get k\r\n"

    def begin(self, names: str = "ab") -> Group:
        group = large_group(names)
        assert Guest(group["a"]).ask(*in_reads(set_of(VALUE * 4))) == b"STORED\r\n"
        group.warm()
        return group

    def forward(self, group: Group, *commands: bytes) -> list[Asker]:
        askers = [Asker() for _ in commands]
        for asker, command in zip(askers, commands, strict=True):
            group["b"].node.gate.forward(asker, "text", command)
        return askers

    def test_each_step_is_one_of_a_piece(self):
        group = self.begin()
        (asker,) = self.forward(group, self.GET)
        greatest, busy = 0, True
        tracemalloc = pytest.importorskip("tracemalloc", reason="PyPy has none")
        tracemalloc.start()
        try:
            while busy:
                busy = False
                for act in (
                    *[host.turn for host in group.hosts.values()],
                    *[wire.carry for wire in group.wires],
                ):
                    before, _ = tracemalloc.get_traced_memory()
                    tracemalloc.reset_peak()
                    busy = act() or busy
                    after, peak = tracemalloc.get_traced_memory()
                    greatest = max(greatest, peak - max(before, after))
        finally:
            tracemalloc.stop()
        assert asker.take() == value_line(VALUE * 4) + b"END\r\n"
        assert greatest < 3 * PARTS_WINDOW_BYTES < len(VALUE) * 2

    @pytest.mark.parametrize("names", ["ab", "abc"])
    @pytest.mark.parametrize("version", [1, 2])
    def test_several_in_one_message(self, names, version):
        group = self.begin(names)
        wire = group.wire("a", "b")
        if version == 1:
            for name, other in ("ab", "ba"):
                group[name].peer(other).version = 1
        before = [len(pieces) for pieces in wire.sent]
        small = b"".join(b"set s%d 0 0 900 noreply\r\n%0900d\r\n" % (n, n) for n in range(900))
        askers = self.forward(
            group,
            self.GET,
            b"set c 0 0 1\r\n5\r\nincr c 1\r\nget k c k\r\n",
            small + b"".join(b"get s%d\r\n" % number for number in range(900)),
            b"set k 0 0 2\r\nxy\r\nget k\r\n",
            self.GET,
        )
        group.settle()
        replies = [asker.take() for asker in askers]
        large = value_line(VALUE * 4)
        assert replies[0] == large + b"END\r\n"
        assert (
            replies[1] == b"STORED\r\n6\r\n" + large + b"VALUE c 0 1\r\n6\r\n" + large + b"END\r\n"
        )
        assert replies[2] == b"".join(
            b"VALUE s%d 0 900\r\n%0900d\r\nEND\r\n" % (n, n) for n in range(900)
        )
        assert replies[3:] == [
            b"STORED\r\n" + value_line(b"xy") + b"END\r\n",
            value_line(b"xy") + b"END\r\n",
        ]
        if version == 2:
            sent = [
                message
                for pieces, start in zip(wire.sent, before, strict=True)
                for message in decode_sent(pieces[start:])
            ]
            assert max(len(payload) for _, payload in sent) <= PART_BYTES + 8
        group.check_equal()
        for name in names:
            for peer in group[name].node.view.peers.values():
                assert not peer.executed.replies
                assert peer.channel is None or not peer.channel.values._arriving

    @pytest.mark.parametrize("steps", range(0, 40, 3))
    def test_over_another_link_and_another_channel(self, steps):
        """It is executed once, whatever becomes of the reply."""
        group = self.begin()
        asker, other = self.forward(
            group, b"get k\r\nappend k 0 0 1\r\nx\r\n", b"append k 0 0 1\r\ny\r\n"
        )
        for number in rounds(group):
            if number == steps:
                break
        group.wire("a", "b").cut()
        if steps % 2:
            group["b"].node.drop(group["b"].peer("a"))
            group["b"].node._rejoin(group["b"].peer("a"))
        group.link("a", "b")
        group.advance(1.0)
        assert group["b"].node.role.in_sync
        assert asker.take() == value_line(VALUE * 4) + b"END\r\nSTORED\r\n"
        assert other.take() == b"STORED\r\n"
        assert group["b"].values() == {b"k": VALUE * 4 + b"xy"}
        group.check_equal()

    def test_a_client_of_a_node_that_joins(self):
        group = self.begin()
        assert Guest(group["a"]).ask(b"set s 0 0 1\r\n0\r\n") == b"STORED\r\n"
        wire = group.wire("a", "b")
        group["b"].node.drop(group["b"].peer("a"))
        group["b"].node._rejoin(group["b"].peer("a"))
        guest, meta = Guest(group["b"]), Guest(group["b"])
        guest.feed(b"get k s missing\r\n")
        meta.feed(b"mg k v\r\n")
        before = group["b"].node.gate.forwards_sent
        group.advance(1.0)
        assert group["b"].node.gate.forwards_sent > before
        assert guest.take() == value_line(VALUE * 4) + b"VALUE s 0 1\r\n0\r\nEND\r\n"
        assert meta.take() == b"VA %d\r\n%b\r\n" % (4 * len(VALUE), VALUE * 4)
        messages = [each for pieces in wire.sent for each in decode_sent(pieces)]
        assert max(len(payload) for _, payload in messages) <= PART_BYTES + 8


@pytest.mark.parametrize("asked", "ab")
class TestStaging:
    """A value goes ahead of the command that stores it; what is said meanwhile overtakes it."""

    def begin(self, group: Group, asked: str, command: bytes) -> Guest:
        guest = Guest(group[asked])
        *most, last = in_reads(command)
        guest.feed(*most)
        group.warm()
        guest.unread.append(last)
        guest.woken = True
        return guest

    @pytest.mark.parametrize("by", "ab")
    def test_nobody_waits_for_somebody_elses_value(self, asked, by, monkeypatch):
        monkeypatch.setattr("pymcd.replication.values.PART_BYTES", 16 << 10)
        monkeypatch.setattr("pymcd.replication.channel.PARTS_WINDOW_BYTES", 64 << 10)
        group = large_group()
        other = Guest(group[by])
        assert other.ask(b"set s 0 0 1\r\n0\r\n") == b"STORED\r\n"
        guest = self.begin(group, asked, set_of(VALUE))
        waited, asked_at, answers = [], None, 0
        for number in rounds(group):
            if asked_at is None:
                other.feed(b"set s 0 0 1\r\n1\r\n", b"get s\r\n", b"get k\r\n", b"mn\r\n")
                asked_at = number
            if other.replies.endswith(b"MN\r\n"):
                assert other.take().startswith(b"STORED\r\nVALUE s 0 1\r\n1\r\nEND\r\n")
                waited.append(number - asked_at)
                asked_at = None
                answers += not guest.replies
            if guest.replies:
                break
        assert guest.take() == b"STORED\r\n"
        assert answers > 3
        # Each answer takes a few ways there and back; the value takes many.
        assert max(waited) <= 10 < number / 2
        group.settle()
        group.check_equal()

    @pytest.mark.parametrize("command", [b"replace k 0 0 %d\r\n%b\r\n", b"set k 0 0 %d\r\n%bxx"])
    def test_what_nobody_speaks_of_is_forgotten(self, asked, command):
        group = large_group()
        guest = self.begin(group, asked, command % (len(VALUE), VALUE))
        group.settle()
        assert guest.take()
        self.check_nothing_left(group)
        group.check_equal()

    def check_nothing_left(self, group: Group) -> None:
        for name, other in ("ab", "ba"):
            gate, values = group[name].node.gate, channel_of(group, name, other).values
            values.check()
            assert not gate.staging
            assert not gate._unstaged
            assert not values._staged
            assert not values.ahead
            assert not values._arriving

    @pytest.mark.parametrize("when", [1, 2, 3, 5, 8])
    @pytest.mark.parametrize("how", ["leaves", "gives up"])
    def test_a_client_that_is_gone_meanwhile(self, asked, when, how):
        group = large_group()
        guest = self.begin(group, asked, set_of(VALUE * 4))
        for number in rounds(group):
            if number == when:
                break
        assert group[asked].node.gate.staging
        if how == "leaves":
            guest.connection.closing = True
            group[asked].service.disconnected(guest.connection)
            group[asked].guests.remove(guest)
        else:  # others need the memory
            guest.host.service.under_way.release(guest.connection)
            guest.connection.give_up()
        group.settle()
        if how == "gives up":
            assert guest.take().startswith(b"SERVER_ERROR")
            assert guest.ask(b"mn\r\n") == b"MN\r\n"
        self.check_nothing_left(group)
        assert group["a"].values() == group["b"].values() == {}

    @pytest.mark.parametrize("when", [1, 3, 6])
    def test_over_another_link(self, asked, when):
        group = large_group()
        guest = self.begin(group, asked, set_of(VALUE * 4))
        for number in rounds(group):
            if number == when:
                break
        group.wire("a", "b").cut()
        group.link("b", "a")
        group.settle()
        assert guest.take() == b"STORED\r\n"
        self.check_nothing_left(group)
        group.check_equal()

    @pytest.mark.parametrize("how", ["frozen", "stopped"])
    @pytest.mark.parametrize("when", [1, 3, 6])
    def test_who_is_to_have_it_is_gone(self, asked, how, when):
        """Its client waits no longer than for any other acknowledgement."""
        group = large_group()
        other = "b" if asked == "a" else "a"
        guest = self.begin(group, asked, set_of(VALUE * 4))
        for number in rounds(group):
            if number == when:
                break
        assert group[asked].node.gate.staging
        if how == "stopped":
            group[other].stop()
        else:
            group[other].frozen = True
        group.advance(2 * ACK_TIMEOUT_S)
        assert guest.take() == b"STORED\r\n"
        assert group[asked].node.role == "alone"
        assert not group[asked].node.gate.staging

    def test_several_at_a_time(self, asked):
        group = large_group()
        guests = [
            self.begin(group, asked, set_of(VALUE + b"%d" % number, b"k%d" % (number % 3)))
            for number in range(6)
        ]
        group.settle()
        for guest in guests:
            assert guest.take() == b"STORED\r\n"
        self.check_nothing_left(group)
        group.check_equal()

    def test_where_nobody_waits_for_others_it_is_not_done(self, asked):
        group = make_group(
            item_size_max_bytes=64 * MIB, memory_limit_bytes=1 << 30, replication_ack="async"
        )
        guest = self.begin(group, asked, set_of(VALUE))
        group["a"].turn()
        assert not group["a"].node.gate.staging
        group.settle()
        assert guest.take() == b"STORED\r\n"
        group.check_equal()


class TestComingAndGoing:
    @pytest.mark.parametrize("steps", range(0, 40, 3))
    @pytest.mark.parametrize("lost", "ab")
    def test_who_stays_has_it_executed_once(self, steps, lost):
        """Wherever it was when the other node was gone."""
        group = large_group()
        stays = "b" if lost == "a" else "a"
        guest = Guest(group[stays])
        guest.ask(set_of(b"", b"k"))
        *most, last = in_reads(b"append k 0 0 %d\r\n%b\r\n" % (len(VALUE), VALUE))
        guest.feed(*most)
        group.warm()
        guest.unread.append(last)
        guest.woken = True
        for _ in range(steps):
            for host in group.hosts.values():
                host.turn()
            group.wire("a", "b").carry()
        group[lost].stop()
        group.advance(1.0)
        assert guest.take() == b"STORED\r\n"
        assert group[stays].values() == {b"k": VALUE}
        group[lost].start()
        group.link(stays, lost)
        group.advance(1.0)
        assert group[lost].node.role.in_sync
        group.check_equal()

    def test_who_stands_still_meanwhile_is_seen_in_time(self):
        group = large_group()
        guest = Guest(group["a"])
        *most, last = in_reads(set_of(VALUE))
        guest.feed(*most)
        group.warm()
        wire = group.wire("a", "b")
        guest.unread.append(last)
        guest.woken = True
        for _ in range(20):  # slowly: each turn a window, and that takes a while
            for host in group.hosts.values():
                host.turn()
            wire.carry()
            if guest.replies:
                break
            group.clock.advance(0.05)
            for host in group.hosts.values():
                host.step()
            assert group["a"].node.role == "coordinator"
        assert guest.take() == b"STORED\r\n"

        guest.feed(*most)
        group.warm()
        group["b"].frozen = True
        guest.feed(last)
        group.advance(0.1)
        assert guest.take() == b"STORED\r\n"
        assert group["a"].node.role == "alone"

    def test_who_joins_gets_it_so(self):
        group = large_group("a")
        assert Guest(group["a"]).ask(*in_reads(set_of(VALUE))) == b"STORED\r\n"
        group.add("b", peers=(), item_size_max_bytes=64 * MIB, memory_limit_bytes=1024 * MIB)
        group.link("b", "a")
        group.advance(1.0)
        sent = [message for pieces in group.wire("a", "b").sent for message in decode_sent(pieces)]
        assert max(len(payload) for _, payload in sent) <= PART_BYTES + 8
        group.check_equal()
        assert group["b"].values() == {b"k": VALUE}

    def test_three_nodes(self):
        group = large_group("abc")
        for name in "abc":
            guest = Guest(group[name])
            assert guest.ask(*in_reads(set_of(name.encode() + VALUE))) == b"STORED\r\n"
            group.check_equal()


def test_a_value_that_never_came_ends_the_link():
    group = large_group()
    wire = group.wire("a", "b")
    channel = channel_of(group, "a", "b")
    state = records.pack_state(records.STATE, 0, 1, 0, 5, 5, 0, 9)
    payload = records.encode_large(state) + b"k" + records.encode_number(1)
    wire.links[1].receive(
        b"".join(
            frames.encode_message(
                Kind.CHANGES, 1.0, 0.0, channel.epoch, channel.sent + 1, 0, payload
            )
        )
    )
    assert "sent a value that never came" in group["b"].lines[-1]
