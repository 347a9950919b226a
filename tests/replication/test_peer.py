"""A peer: how far we are with it, what it is told, and what is remembered when it is gone."""

from __future__ import annotations

from itertools import product

import pytest

from pymcd.replication import frames
from pymcd.replication.frames import Kind
from pymcd.replication.messages import Received
from pymcd.replication.peer import HOSTED, IN_VIEW, NEXT_PHASES, WITHOUT_CHANNEL, Peer, Phase
from pymcd.replication.resync import SLICE_BYTES, SLICE_ITEMS, SLICES_MAX, WINDOW_BYTES
from tests.replication.helpers import Guest, decode_sent, make_group

#: Phase -> which may be next, besides APART: a channel may be given up at any time.
NEXT = {
    Phase.APART: {Phase.ASKING, Phase.HOSTING, Phase.JOINING},
    Phase.ASKING: {Phase.HOSTING, Phase.JOINING},
    Phase.HOSTING: {Phase.HOSTING, Phase.PROPOSED, Phase.JOINING},
    Phase.PROPOSED: {Phase.HOSTING, Phase.FOLLOWER, Phase.JOINING},
    Phase.JOINING: {Phase.JOINING, Phase.ACCEPTED, Phase.HOSTING},
    Phase.ACCEPTED: {Phase.ACCEPTED, Phase.LEADER, Phase.JOINING, Phase.HOSTING},
    Phase.FOLLOWER: set(),
    Phase.LEADER: {Phase.LEADER},
}
PAIRS = list(product(Phase, Phase))


class TestPhases:
    def test_these_and_no_others_may_follow(self):
        assert {phase: set(after) for phase, after in NEXT_PHASES.items()} == NEXT

    @pytest.mark.parametrize(("before", "after"), PAIRS)
    def test_whoever_tries_another_one_is_told(self, before, after):
        peer = Peer("b")
        peer.phase = before
        if after in NEXT[before] or after is Phase.APART:
            peer.become(after)
            assert peer.phase is after
            assert peer.in_view == (after in (Phase.FOLLOWER, Phase.LEADER))
        else:
            with pytest.raises(AssertionError):
                peer.become(after)
            assert peer.phase is before

    def test_each_has_its_meaning(self):
        assert len({phase.value for phase in Phase}) == len(Phase) == 8
        assert set(HOSTED) == {Phase.HOSTING, Phase.PROPOSED, Phase.FOLLOWER}
        assert set(IN_VIEW) == {Phase.FOLLOWER, Phase.LEADER}
        assert set(WITHOUT_CHANNEL) == {Phase.APART, Phase.ASKING}

    @pytest.mark.parametrize("phase", Phase)
    def test_only_who_was_asked_is_not_asked_any_more(self, phase):
        peer = Peer("b")
        peer.phase = phase
        peer.stop_asking()
        assert peer.phase is (Phase.APART if phase is Phase.ASKING else phase)


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


def take(link: FakeLink) -> list[bytes]:
    output, link.output = link.output, []
    return output


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

    @pytest.mark.parametrize("phase", [Phase.HOSTING, Phase.JOINING])
    def test_nor_does_anything_else_remain_of_the_one_before(self, phase):
        peer, _ = linked_peer()
        peer.lease.muted_at = 5.0
        peer.acked_ticket = 7
        peer.resync.sent_all = peer.resync.got_all = True
        peer.executed.results.append((5, b"OK\r\n"))
        peer.open_channel(8, phase, received=1)
        assert peer.phase is phase
        assert peer.lease.muted_at == 0.0
        assert peer.acked_ticket == 0
        assert not peer.resync.sent_all
        assert not peer.resync.got_all
        assert peer.executed.results == []
        assert peer.channel is not None
        assert peer.channel.received == 1

    def test_what_is_large_is_sent_in_parts(self, monkeypatch):
        monkeypatch.setattr("pymcd.replication.peer.PART_BYTES", 4)
        peer, link = linked_peer()
        peer.send(1.0, Kind.CHANGES, b"0123456789")
        peer.send(1.0, Kind.WELCOME, b"0123456789")  # whoever hears that has no channel yet
        assert decode_sent(link.output) == [
            (Kind.PART, b"0123"),
            (Kind.PART, b"4567"),
            (Kind.CHANGES, b"89"),
            (Kind.WELCOME, b"0123456789"),
        ]

    def test_few_parts_are_on_their_way_and_what_comes_behind_them_waits(self, monkeypatch):
        monkeypatch.setattr("pymcd.replication.peer.PART_BYTES", 100)
        monkeypatch.setattr("pymcd.replication.channel.PARTS_WINDOW_BYTES", 500)
        peer, link = linked_peer()
        channel = peer.channel
        assert channel is not None
        payload = bytes(range(256)) * 10
        peer.send(1.0, Kind.CHANGES, payload)
        peer.send(1.0, Kind.CHANGES, b"behind", ticket=5)
        sent: list[tuple[int, bytes]] = []
        now = 1.0
        while channel.unacked:
            peer.signal(now, Kind.PING)  # that does not wait
            *messages, ping = decode_sent(take(link))
            assert ping[0] == Kind.PING
            sent += messages
            assert 0 < len(messages) <= 5
            on_its_way = channel.unacked_bytes - channel.waiting_bytes
            assert on_its_way <= 500 + 100 + 100
            assert channel.unacked[0].sent_at == now
            channel.check()
            # The other side has all of it.
            now += 1.0
            channel.acknowledge(len(sent))
            assert channel.part_acked
            peer.go_on(now)
        *parts, last, behind = sent
        assert [kind for kind, _ in parts] == [Kind.PART] * 25
        assert b"".join(part for _, part in parts) + last[1] == payload
        assert (last[0], behind) == (Kind.CHANGES, (Kind.CHANGES, b"behind"))

    def test_over_a_new_link_parts_go_on_where_they_stopped(self, monkeypatch):
        monkeypatch.setattr("pymcd.replication.peer.PART_BYTES", 100)
        monkeypatch.setattr("pymcd.replication.channel.PARTS_WINDOW_BYTES", 500)
        peer, link = linked_peer()
        channel = peer.channel
        assert channel is not None
        payload = bytes(range(256)) * 10
        peer.send(1.0, Kind.CHANGES, payload)
        first = decode_sent(take(link))
        channel.flowing = False
        channel.acknowledge(2)
        peer.go_on(2.0)
        peer.send(2.0, Kind.CHANGES, b"behind")
        assert not link.output
        channel.flowing = True
        peer.resend(3.0, 2)
        sent = first[:2]
        while channel.unacked:
            sent += decode_sent(take(link))
            channel.acknowledge(len(sent))
            peer.go_on(4.0)
        assert b"".join(body for _, body in sent) == payload + b"behind"


class TestPump:
    def test_no_more_is_on_its_way_than_may_be(self):
        host = make_group("a")["a"]
        guest = Guest(host)
        for number in range(30):
            data = b"set k%d 0 0 100000\r\n" % number + bytes(100_000) + b"\r\n"
            assert guest.ask(data) == b"STORED\r\n"
        peer, link = linked_peer()
        peer.resync.begin(host.changes, -1, [], whole=True)
        for _ in range(3):
            assert not peer.pump(1.0, host.changes)
        channel = peer.channel
        assert channel is not None
        assert WINDOW_BYTES <= channel.unacked_bytes < WINDOW_BYTES + 2 * SLICE_BYTES
        while not peer.resync.sent_all:
            channel.acknowledge(channel.unacked[0].number)
            peer.pump(1.0, host.changes)
        kinds = [kind for kind, _ in decode_sent(link.output)]
        assert kinds == [Kind.CHANGES] * (len(kinds) - 1) + [Kind.SYNCED]

    def test_nor_are_more_looked_at_in_one_step(self):
        host = make_group("a")["a"]
        guest = Guest(host)
        number = 3 * SLICES_MAX * SLICE_ITEMS
        guest.ask(*[b"set k%d 0 0 0 noreply\r\n\r\n" % each for each in range(number)])
        peer, _ = linked_peer()
        peer.resync.begin(host.changes, -1, [], whole=True)
        steps = [peer.resync.keys_sent]
        while not peer.pump(1.0, host.changes):
            steps.append(peer.resync.keys_sent)
        assert steps == [each * number // 3 for each in range(4)]

    def test_unless_it_must_be_whole(self):
        host = make_group("a")["a"]
        Guest(host).ask(b"set k 0 0 1\r\n1\r\n")
        peer, _ = linked_peer()
        assert peer.channel is not None
        peer.channel.unacked_bytes = WINDOW_BYTES
        peer.resync.begin(host.changes, -1, [], whole=True)
        assert not peer.pump(1.0, host.changes)
        assert peer.pump(1.0, host.changes, whole=True)
        assert peer.resync.sent_all
