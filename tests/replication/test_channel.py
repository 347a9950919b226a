"""A channel: what is sent arrives once and in order, over however many links."""

from __future__ import annotations

from itertools import count
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pymcd.replication import frames, records
from pymcd.replication.channel import Channel, Unacked
from pymcd.replication.frames import HEAD_BYTES, PART_BYTES, FrameError, Kind
from tests.replication.helpers import Guest, decode_sent, make_group

if TYPE_CHECKING:
    import random


def unacked(
    number: int, size: int = 1, *, ticket: int = 0, sequence: int = 0, version: int = 0
) -> Unacked:
    return Unacked(
        number, [b"x", b"x" * (size - 1)], size, 0.0,
        keys=None, has_flush=False, results=None, ticket=ticket, sequence=sequence, version=version,
    )  # fmt: skip


class TestChannel:
    def test_what_is_sent_is_kept_until_it_is_acknowledged(self):
        channel = Channel(7)
        for number in (1, 2, 3):
            channel.take(unacked(number, size=number))
        assert channel.unacked_bytes == 6
        last = channel.acknowledge(2)
        assert last is not None
        assert last.number == 2
        assert [message.number for message in channel.unacked] == [3]
        assert channel.unacked_bytes == 3

    def test_an_old_acknowledgement_says_nothing(self):
        channel = Channel(7)
        channel.take(unacked(1))
        assert channel.acknowledge(0) is None
        assert channel.acknowledge(1) is not None
        assert channel.acknowledge(1) is None
        assert channel.unacked_bytes == 0

    def test_the_last_that_is_acknowledged_stands_for_all(self):
        channel = Channel(7)
        said = [(3, 0, 30), (4, 9, 40), (0, 0, 0), (0, 8, 0), (5, 10, 50)]
        for number, (ticket, sequence, version) in enumerate(said, 1):
            message = unacked(number, ticket=ticket, sequence=sequence, version=version)
            message.results = [(number, b"reply")] if number % 3 else None
            channel.take(message)
        last = channel.acknowledge(4)
        assert last is not None
        assert (last.number, last.ticket, last.sequence, last.version) == (4, 4, 9, 40)
        assert last.results == [(1, b"reply"), (2, b"reply"), (4, b"reply")]
        last = channel.acknowledge(5)
        assert last is not None
        assert (last.ticket, last.sequence, last.version) == (5, 10, 50)

    @given(st.lists(st.integers(1, 9), max_size=9), st.lists(st.integers(0, 12), max_size=6))
    def test_what_is_kept_is_what_nobody_acknowledged(self, sizes: list[int], acks: list[int]):
        channel = Channel(7)
        for number, size in enumerate(sizes, 1):
            channel.sent = number
            channel.take(unacked(number, size))
        done = 0
        for ack in acks:
            last = channel.acknowledge(ack)
            news = min(ack, len(sizes)) > done
            done = max(done, min(ack, len(sizes)))
            assert (last.number if last else None) == (done if news else None)
            assert [each.number for each in channel.unacked] == list(
                range(done + 1, len(sizes) + 1)
            )
            assert channel.unacked_bytes == sum(sizes[done:])
            channel.check()


class TestParts:
    """What is too large for a frame travels in parts, the last of which says what it is."""

    @staticmethod
    def body(kind: Kind, payload: bytes) -> bytes:
        return bytes([kind]) + bytes(HEAD_BYTES - 1) + payload

    def test_what_is_whole_is_taken_as_it_is(self):
        channel = Channel(7)
        body = self.body(Kind.CHANGES, b"abc")
        assert channel.assemble(body) is body

    @given(st.lists(st.lists(st.binary(max_size=9), min_size=1, max_size=5), max_size=4))
    def test_parts_are_put_together_before_the_next_message(self, messages: list[list[bytes]]):
        channel = Channel(7)
        for *parts, rest in messages:
            for part in parts:
                body = channel.assemble(self.body(Kind.PART, part))
                assert body[0] == Kind.PART  # nobody does anything about that
            body = channel.assemble(self.body(Kind.CHANGES, rest))
            assert body == self.body(Kind.CHANGES, b"".join([*parts, rest]))

    def test_they_come_to_an_end(self, monkeypatch):
        monkeypatch.setattr("pymcd.replication.channel.PARTS_MAX_BYTES", 3 * PART_BYTES)
        channel = Channel(7)
        for _ in range(2):  # a message later it is counted anew
            for size in (2 * PART_BYTES, PART_BYTES):
                channel.assemble(self.body(Kind.PART, bytes(size)))
                channel.check()
            with pytest.raises(FrameError, match="a message without end"):
                channel.assemble(self.body(Kind.PART, b"x"))
            channel.assemble(self.body(Kind.CHANGES, b""))
            channel.check()


class TestAcrossLinks:
    def test_what_the_next_one_acknowledges_at_once_counts_as_it_would_one_by_one(self):
        """A change, and behind it what is none: the answer to somebody else."""
        group = make_group()
        group.warm()
        a, b = group["a"], group["b"]
        writer, other = Guest(a), Guest(b)
        wire = group.wire("a", "b")
        wire.stall()
        writer.feed(b"set k 0 0 1\r\n1\r\n")
        other.feed(b"incr none 1\r\n")
        group.settle()
        for silent in "ab":  # what b asks arrives; then both messages of a
            wire.stall(group[silent])
            group.settle()
        assert other.take() == b"NOT_FOUND\r\n"
        wire.cut()
        group.link("a", "b")
        assert writer.take() == b"STORED\r\n"
        peer = a.peer("b")
        assert peer.acked_sequence == a.changes.sequence
        assert peer.acked_version == a.cache.cas_unique
        assert a.rows["peer_0:lag_items"] == 0

    @pytest.mark.parametrize("node", "ab")
    def test_a_link_that_is_lost_delays_no_more_than_that(self, node):
        group = make_group()
        group.warm()
        guest = Guest(group[node])
        group.wire("a", "b").stall()
        guest.feed(b"set k 0 0 1\r\n1\r\n")
        group.settle()
        group.wire("a", "b").cut()
        assert guest.ask() == b""
        group.link("b", "a")
        assert guest.ask() == b"STORED\r\n"
        assert group["a"].node.role.in_sync
        assert group["a"].rows["degraded_count"] == 0
        group.check_equal()

    @given(st.randoms(use_true_random=False))
    def test_everything_arrives_once_and_in_order(self, random_: random.Random):
        """Links are cut at any moment, with part of a frame arrived."""
        group = make_group()
        group.warm()
        guests = [Guest(group[name]) for name in "ab"]
        asked = [0, 0]
        answers = [b"", b""]
        wire = group.wire("a", "b")
        for _ in range(random_.randrange(1, 12)):
            which = random_.randrange(2)
            guest = guests[which]
            if not guest.connection.waiting and not guest.unread:
                guest.feed(b"incr n 1\r\nappend log 0 0 1\r\n%d\r\n" % which)
                asked[which] += 1
            if random_.random() < 0.5:
                group.settle()
            else:
                group["a"].turn()
                group["b"].turn()
            if random_.random() < 0.6:
                for sender in (0, 1):
                    data = b"".join(wire.links[sender].take_output())
                    wire.links[1 - sender].receive(data[: random_.randrange(len(data) + 1)])
                wire.cut()
                wire = group.link(*random_.sample("ab", 2))
            for index in (0, 1):
                answers[index] += guests[index].take()
        group.settle()
        for index in (0, 1):
            answers[index] += guests[index].take()
            assert answers[index] == b"NOT_FOUND\r\nNOT_STORED\r\n" * asked[index]
        group.check_equal()

    @given(st.randoms(use_true_random=False))
    def test_counting_is_exact(self, random_: random.Random):
        group = make_group()
        guests = [Guest(group[name]) for name in "ab"]
        guests[0].ask(b"set n 0 0 1\r\n0\r\nset log 0 0 0\r\n\r\n")
        seen: list[int] = []
        numbers_ = count(1)
        for _ in range(random_.randrange(1, 12)):
            guest = random_.choice(guests)
            if not guest.connection.waiting and not guest.unread:
                guest.feed(b"incr n 1\r\n")
                next(numbers_)
            if random_.random() < 0.5:
                group.settle()
            if random_.random() < 0.6:
                wire = group.wire("a", "b")
                for sender in (0, 1):
                    data = b"".join(wire.links[sender].take_output())
                    wire.links[1 - sender].receive(data[: random_.randrange(len(data) + 1)])
                wire.cut()
                group.link(*random_.sample("ab", 2))
            for each in guests:
                seen += [int(line) for line in each.take().split()]
        group.settle()
        for each in guests:
            seen += [int(line) for line in each.take().split()]
        # Each number was given to one client, once.
        assert sorted(seen) == list(range(1, next(numbers_)))
        group.check_equal()

    def test_a_message_that_comes_again_is_only_acknowledged(self):
        group = make_group()
        Guest(group["a"]).ask(b"set k 0 0 1\r\n1\r\n")
        link = group.wire("a", "b").links[1]
        channel = group["b"].peer("a").channel
        assert channel is not None
        old = frames.encode_message(
            Kind.CHANGES, 0.0, 0.0, channel.epoch, channel.received, 0, records.encode_gone(b"k", 1)
        )
        before = channel.received
        link.receive(b"".join(old))
        assert group["b"].peer("a").lease.answer_due
        assert channel.received == before
        assert group["b"].values() == {b"k": b"1"}

    def test_one_that_leaves_a_gap_ends_the_link(self):
        group = make_group()
        link = group.wire("a", "b").links[1]
        channel = group["b"].peer("a").channel
        assert channel is not None
        gap = frames.encode_message(Kind.CHANGES, 0.0, 0.0, channel.epoch, channel.received + 2, 0)
        link.receive(b"".join(gap))
        assert link.closed
        assert "sent a message is missing" in group["b"].lines[-1]

    def test_one_of_another_epoch_means_nothing(self):
        group = make_group()
        link = group.wire("a", "b").links[1]
        stale = frames.encode_message(Kind.CHANGES, 0.0, 0.0, 5, 1, 0, records.encode_gone(b"k", 1))
        link.receive(b"".join(stale))
        assert not link.closed
        assert group["b"].rows["stale_frames"] == 1

    @pytest.mark.parametrize(("node", "kind"), [("a", Kind.CHANGES), ("b", Kind.FORWARD)])
    def test_what_a_turn_has_to_say_is_one_message(self, node, kind):
        group = make_group()
        group.warm()
        wire = group.wire("a", "b")
        guests = [Guest(group[node]) for _ in range(10)]
        said = wire.sent["ab".index(node)]
        before = len(said)
        for number, guest in enumerate(guests):
            guest.feed(b"set k%d 0 0 1\r\n1\r\n" % number)
        group.settle()
        assert [guest.take() for guest in guests] == [b"STORED\r\n"] * 10
        assert [each for each, _ in decode_sent(said[before:])].count(kind) == 1

    def test_forwards_gather_while_others_are_on_their_way(self):
        group = make_group()
        group.warm()
        wire = group.wire("a", "b")
        guests = [Guest(group["b"]) for _ in range(10)]
        before = len(wire.sent[1])
        wire.stall()
        for guest in guests:
            guest.feed(b"set k 0 0 1\r\n1\r\n")
            group.settle()
        wire.resume()
        group.settle()
        assert [guest.take() for guest in guests] == [b"STORED\r\n"] * 10
        assert [each for each, _ in decode_sent(wire.sent[1][before:])].count(Kind.FORWARD) == 2
