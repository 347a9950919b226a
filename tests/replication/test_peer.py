"""A peer: how far we are with it, what it is told, and what is remembered when it is gone."""

from __future__ import annotations

from pymcd.replication import frames
from pymcd.replication.frames import Kind
from pymcd.replication.messages import Received
from pymcd.replication.peer import Peer, Phase


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
