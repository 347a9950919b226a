"""The channel to a peer: what is sent arrives once and in order, over however many links."""

from __future__ import annotations

from itertools import count
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pymcd.replication import frames, records
from pymcd.replication.channel import Channel, Unacked
from pymcd.replication.frames import Kind
from pymcd.replication.messages import Received
from pymcd.replication.peer import Peer, Phase
from tests.replication.helpers import Guest, decode_sent, make_group

if TYPE_CHECKING:
    import random


def unacked(number: int, size: int = 1) -> Unacked:
    return Unacked(
        number, [b"x", b"x" * (size - 1)], size, 0.0,
        keys=None, has_flush=False, results=None, ticket=0, sequence=0, version=0,
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


class FakeLink:
    """Where a peer's messages go."""

    def __init__(self) -> None:
        self.output: list[bytes] = []


def linked_peer() -> tuple[Peer, FakeLink]:
    peer = Peer("b")
    link = FakeLink()
    peer.link = link  # type: ignore[assignment]
    peer.open_channel(7, Phase.HOSTING)
    return peer, link


def numbers(output: list[bytes]) -> list[int]:
    """Return the numbers of the messages in the channel."""
    data = b"".join(output)
    position = 0
    found = []
    while (frame := frames.split_frame(data, position, 1 << 20)) is not None:
        body, position = frame
        found.append(frames.decode_head(body)[4])
    return found


class TestPeer:
    def test_messages_are_numbered_signals_are_not(self):
        peer, link = linked_peer()
        peer.send(1.0, Kind.CHANGES, b"one")
        peer.signal(1.0, Kind.PING)
        peer.send(1.0, Kind.CHANGES, b"two")
        assert numbers(link.output) == [1, 0, 2]

    def test_without_a_link_messages_wait_and_signals_are_lost(self):
        peer, _ = linked_peer()
        assert peer.channel is not None
        peer.link, peer.channel.flowing = None, False
        peer.send(1.0, Kind.CHANGES, b"one")
        peer.signal(1.0, Kind.PING)
        peer.link = link = FakeLink()  # type: ignore[assignment]
        peer.send(1.0, Kind.CHANGES, b"two")  # the other side has not said yet what it has
        assert link.output == []
        peer.resend(2.0, 0)
        assert numbers(link.output) == [1, 2]

    def test_only_what_the_other_side_has_not_is_sent_again(self):
        peer, link = linked_peer()
        for payload in (b"one", b"two", b"three"):
            peer.send(1.0, Kind.CHANGES, payload)
        link.output.clear()
        peer.resend(2.0, 2)
        assert numbers(link.output) == [3]

    def test_a_message_tells_what_arrived_here(self):
        peer, link = linked_peer()
        peer.lease.answer_due = True
        assert peer.channel is not None
        peer.channel.received = 5
        peer.lease.their_time = 3.5
        peer.send(9.0, Kind.CHANGES, b"one")
        body, _ = frames.split_frame(b"".join(link.output), 0, 1 << 20) or (b"", 0)
        assert frames.decode_head(body) == (Kind.CHANGES, 9.0, 3.5, 7, 1, 5)
        assert not peer.lease.answer_due  # that was the answer

    def test_giving_up_the_channel_keeps_what_may_be_asked_for(self):
        peer, _ = linked_peer()
        peer.send(1.0, Kind.CHANGES, b"", results=[(4, b"STORED\r\n")])
        peer.executed.results.append((5, b"ERROR\r\n"))
        peer.resync.behind[b"key"] = None
        peer.become(Phase.PROPOSED)
        peer.become(Phase.FOLLOWER)
        assert peer.channel is not None
        peer.channel.received = 9
        (message,) = peer.leave_channel()
        assert message.results == [(4, b"STORED\r\n")]
        assert peer.executed.replies == {4: b"STORED\r\n", 5: b"ERROR\r\n"}
        assert peer.left == Received(7, 9)
        assert not peer.in_view
        assert not peer.resync.behind
        assert peer.resync.mode == "idle"
        assert peer.leave_channel() == []

    def test_a_new_channel_begins_anew(self):
        peer, _ = linked_peer()
        peer.send(1.0, Kind.CHANGES, b"one")
        peer.leave_channel()
        peer.open_channel(8, Phase.JOINING)
        assert peer.channel is not None
        assert (peer.channel.epoch, peer.channel.sent, peer.channel.unacked_bytes) == (8, 0, 0)


class TestAcrossLinks:
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
