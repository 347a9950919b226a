"""What is known of another node, across the links to it."""

from __future__ import annotations

from contextlib import contextmanager
from enum import Enum
from math import inf
from typing import TYPE_CHECKING, Final

from . import records
from .channel import Channel, Unacked
from .clocks import PeerClocks
from .frames import FRAME_BYTES, PART_BYTES, Kind, encode_message
from .lease import Lease
from .messages import Received
from .records import encode_result
from .resync import SLICES_MAX, WINDOW_BYTES, Resync
from .roles import JOINING, WAITING
from .values import pieces_of
from .versions import FOREVER
from .waiting import Executed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from ..clock import Clock
    from ..store import Item
    from .changes import Alteration, Changes
    from .link import Link
    from .messages import Hello, Status
    from .roles import Role
    from .waiting import Forward, Reply


#: Of the protocol: who speaks it knows of values that travel by themselves.
VALUES_VERSION: Final = 2
_NO_ALTERATIONS: Final[Mapping[bytes, Alteration]] = {}


def _nobody_looks() -> None:
    """Leave it as it is."""


class Phase(Enum):
    """How far we are with a peer in becoming one."""

    APART = "no channel"
    ASKING = "no channel; we asked to join it"
    HOSTING = "a channel: it joins us"
    PROPOSED = "a channel: it joins us, and we proposed to be one"
    JOINING = "a channel: we join it"
    ACCEPTED = "a channel: we join it, and accepted its proposal"
    FOLLOWER = "in our view: it follows us"
    LEADER = "in its view: we follow it"


WITHOUT_CHANNEL: Final = (Phase.APART, Phase.ASKING)
HOSTED: Final = (Phase.HOSTING, Phase.PROPOSED, Phase.FOLLOWER)
IN_VIEW: Final = (Phase.FOLLOWER, Phase.LEADER)

#: Before -> what may come next. A channel may be given up at any time.
NEXT_PHASES: Final[dict[Phase, tuple[Phase, ...]]] = {
    Phase.APART: (Phase.ASKING, Phase.HOSTING, Phase.JOINING),
    Phase.ASKING: (Phase.HOSTING, Phase.JOINING),
    Phase.HOSTING: (Phase.HOSTING, Phase.JOINING, Phase.PROPOSED),
    Phase.PROPOSED: (Phase.HOSTING, Phase.JOINING, Phase.FOLLOWER),
    Phase.JOINING: (Phase.HOSTING, Phase.JOINING, Phase.ACCEPTED),
    Phase.ACCEPTED: (Phase.HOSTING, Phase.JOINING, Phase.ACCEPTED, Phase.LEADER),
    Phase.FOLLOWER: (),
    Phase.LEADER: (Phase.LEADER,),
}


class Peer:
    """Another node."""

    def __init__(self, node_id: str, on_broken: Callable[[], None] = _nobody_looks) -> None:
        """`on_broken` is called when something could not be sent: that is to be seen to at once."""
        self.node_id = node_id
        self._on_broken = on_broken
        self.address = "-"
        self.link: Link | None = None
        self.linked_at = -inf  #: when the last of its links came up
        self.linked_before_at = -inf  #: and the one before
        self.link_lost_at = -inf
        #: Changes when the node starts again without its data.
        self.incarnation = ""
        self.version = 0  #: of the protocol, on the link that is or was in use
        self.hello: Hello | None = None  #: what it said when that link came up
        self.differs: list[str] = []  #: options that are not the same there
        self.votes = True  #: it goes on with votes only, for all that we know
        self.met_at = -inf  #: when that one has proven itself
        self.status: Status | None = None  #: what it said last of itself
        self.said_after = -inf  #: when its link was opened, and it said that later
        self.followed = ""  #: whom it said last that it follows, since it started
        self.status_due: str | None = None  #: what we are is to be said to it, with that word
        self.connects = 0
        self.last_error = "-"
        self.has_left = False  #: our view, in order

        self.phase = Phase.APART
        self.in_view = False
        self.channel: Channel | None = None
        self.left = Received(0, 0)  #: of the channel that we gave up last
        self.left_why = ""  #: that was: what we could not take, or tell; else ""
        self.not_again_before = -inf  #: because of that
        self.put_off = False  #: it asked to join us before that
        self.asked_at = -inf  #: when we asked to join it last
        self.asked_to_replace = False  #: then: what it holds and we do not
        self.joined_at = -inf  #: when it came into the view
        self.lease = Lease()
        self.resync = Resync()
        self.executed = Executed()

        # What it has of ours.
        self.acked_sequence = -1  #: of our log; -1: nothing is known, it needs a full copy
        self.acked_ticket = 0
        self.acked_version = 0  #: it has what is not newer, while it is in the view
        self.departed_version = 0  #: what is newer it may not have, since it left
        #: The same, of one that was not in sync with us since we started: when its first copy
        #: began, if it had no item then; 0: it had. FOREVER: none began.
        self.copied_version = FOREVER
        #: Of one that followed another as we did, or was in sync with us in a former life: what is
        #: not newer it had, when that ended.
        self.common_version = 0
        self.told_version = 0  #: the latest that it told us while it was not in sync, in this life
        self.proposed = 0  #: the number of the message that proposed to be one, the last time
        self.known = False  #: it has been in sync with us since we started
        self.overrates_us = False  #: it believes that we have what we gave up
        self.has_doubted = False  #: it has of what is in doubt here, and knows that we had it
        self.moved_at = -inf  #: when it last acknowledged anything, or its link came up

        self.clocks = PeerClocks()
        self.not_before = 0.0  #: when it may be taken into a view again
        self.lapses = 0  #: times that it was lost of late
        self.copies_broken = 0  #: since it was in sync last
        self.broke_at = ""  #: how far the last of them had come
        self.answer_s = 0.0  #: how long an acknowledgement took of late, at most

    # -- its phase -----------------------------------------------------------------------------

    def become(self, phase: Phase) -> None:
        """Enter another phase."""
        assert phase is Phase.APART or phase in NEXT_PHASES[self.phase], (self.phase, phase)
        self.phase = phase
        self.in_view = phase in IN_VIEW

    def was_in_sync(self, coordinator: str, version: int) -> None:
        """Take note that it followed another as we did, and had all up to that version."""
        self.known = True
        self.common_version = version
        if self.followed == coordinator:  # else it may have started anew since
            self.departed_version = max(self.departed_version, version)

    def stop_asking(self) -> None:
        """Expect no answer to what we asked, if we did."""
        if self.phase is Phase.ASKING:
            self.become(Phase.APART)

    def open_channel(self, epoch: int, phase: Phase, *, received: int = 0) -> None:
        """Begin anew, as the one who joins or the one who is joined."""
        self.become(phase)
        self.put_off = False
        self._forget_channel()
        self.channel = Channel(epoch, received=received)
        self.lease.unmute()
        self.acked_ticket = 0
        self.resync = Resync()
        self.executed.begin()

    def leave_channel(self) -> list[Unacked]:
        """Give up the channel; return what was not acknowledged."""
        channel = self.channel
        if channel is None:
            return []
        self._forget_channel()
        self.become(Phase.APART)
        resync = self.resync
        if resync.under_way and resync.keys_sent:
            self.copies_broken += 1
            self.broke_at = f"{resync.keys_sent:,} of {resync.keys_total:,}"
        self.resync = Resync()
        self.left, self.left_why = Received(channel.name, channel.received), channel.broken
        return list(channel.unacked)

    def _forget_channel(self) -> None:
        """Have none, and what it asked executed once, though the reply may be lost with it."""
        if self.channel is not None:
            self.executed.end(message.results for message in self.channel.unacked)
            self.channel = None

    @property
    def unheard_results(self) -> dict[int, Reply]:
        """Replies to what it asked that it perhaps has not got."""
        results = dict(self.executed.replies)
        for message in self.channel.unacked if self.channel is not None else ():
            results.update(message.results or ())
        results.update(self.executed.results)
        return results

    @property
    def lacks_after(self) -> int:
        """The version after which it may lack what became of items that it has; FOREVER: none."""
        if self.in_view:
            return self.acked_version if self.resync.under_way else FOREVER
        return self.departed_version if self.known else self.copied_version

    @property
    def is_met(self) -> bool:
        """Whether we know what it may lack: it was in sync with us since we started, or copied."""
        return self.known or self.copied_version is not FOREVER

    @property
    def status_stood_at(self) -> float:
        """When it was certainly what it said last: it tells when that changes."""
        return max(self.said_after, self.lease.echoed)

    @property
    def item_s(self) -> float:
        """What the clock of its items shows when our monotonic clock shows 0."""
        return self.clocks.item_s - self.lease.offset_s

    def clock_skew_s(self, clock: Clock) -> float:
        """Return how far its wall clock is ahead of ours."""
        if self.lease.offset_s == inf:
            return 0.0
        return self.clocks.wall_s - self.lease.offset_s + clock.monotonic() - clock.realtime()

    # -- what it is told -----------------------------------------------------------------------

    def break_off(self, error: Exception) -> None:
        """Take note that something could not be sent: what comes behind it must not count."""
        channel = self.channel
        if channel is not None:
            channel.untold = True
            if not channel.broken:
                channel.break_off(type(error).__name__)
                self._on_broken()

    @contextmanager
    def breaking(self) -> Iterator[None]:
        """Do what is to be told to it as a whole; if that goes wrong, nothing counts."""
        try:
            yield
        except Exception as error:
            self.break_off(error)
            raise

    def send(
        self,
        now: float,
        kind: Kind,
        payload: bytes = b"",
        *,
        keys: dict[bytes, Item | None] | None = None,
        has_flush: bool = False,
        results: list[tuple[int, Reply]] | None = None,
        ticket: int = 0,
        sequence: int = 0,
        version: int = 0,
    ) -> None:
        """Send a message on the channel; while there is no link it waits for the next."""
        # Hot path: bench/ "pair16".
        channel = self.channel
        assert channel is not None
        try:
            rest: bytes | memoryview = payload
            if len(payload) > PART_BYTES and kind is not Kind.WELCOME:
                rest = self._send_parts(now, channel, memoryview(payload))
            lease = self.lease
            number = channel.sent + 1
            if channel.waiting:
                about = (keys, has_flush, results, ticket, sequence, version)
                size = FRAME_BYTES + len(rest)
                message = Unacked(number, [], size, now, *about, kind=kind, payload=rest)
                channel.take(message)
                channel.wait([message])
                return
            frame = encode_message(
                kind, now, lease.their_time, channel.epoch, number, channel.received, rest
            )
            size = FRAME_BYTES + len(rest)
            channel.take(
                Unacked(
                    number, frame, size, now, keys, has_flush, results, ticket, sequence, version
                )
            )
            if channel.flowing:
                assert self.link is not None
                self.link.output += frame
                lease.answer_due = False
        except Exception as error:
            self.break_off(error)
            raise

    def _send_parts(self, now: float, channel: Channel, payload: memoryview) -> memoryview:
        """Send all of a payload but its last part, and return that."""
        start = 0
        while len(payload) - start > PART_BYTES:
            self._queue_part(now, channel, Kind.PART, payload[start : start + PART_BYTES])
            start += PART_BYTES
        self.go_on(now)
        return payload[start:]

    def _queue_part(
        self, now: float, channel: Channel, kind: Kind, part: memoryview, lead: bytes = b""
    ) -> None:
        message = Unacked(
            channel.sent + 1, [], FRAME_BYTES + len(lead) + len(part), now,
            keys=None, has_flush=False, results=None, ticket=0, sequence=0, version=0,
            kind=kind, payload=part, lead=lead,
        )  # fmt: skip
        channel.take(message)
        channel.wait([message])

    def _send_value(self, now: float, channel: Channel, value: bytes) -> int:
        """Send a value ahead of who speaks of it; return its number."""
        number = channel.values.speak_of(value)
        if not number:
            number = channel.values.next_number()
            lead = records.encode_number(number)
            for piece in pieces_of(value):
                self._queue_part(now, channel, Kind.VALUE, piece, lead)
            self.go_on(now)
        return number

    def stage(self, now: float, value: bytes) -> None:
        """Send a value; what is said meanwhile overtakes it."""
        assert self.channel is not None
        with self.breaking():
            self.channel.values.stage(value)
        self.go_on(now)

    def unstage(self, now: float, value: bytes) -> None:
        """Take note that nobody will speak of a staged value, if nobody has."""
        channel = self.channel
        if channel is not None and (number := channel.values.unstage(value)):
            lead = records.encode_number(number)
            self._queue_part(now, channel, Kind.VALUE, memoryview(b""), lead)
            self.go_on(now)

    def _send_ahead(self, now: float, channel: Channel) -> None:
        """Have one more piece of what is staged be the next to go."""
        staged, piece, is_last = channel.values.ahead.popleft()
        self._queue_part(now, channel, Kind.VALUE, piece, records.encode_number(staged.number))
        if is_last:
            staged.last = channel.sent

    @property
    def takes_values(self) -> bool:
        """Whether it knows of values that travel by themselves."""
        return self.version >= VALUES_VERSION

    def said_of(self, role: Role) -> Role:
        """Return by which word to tell it of a role: the first version knows no `WAITING`."""
        return JOINING if role is WAITING and self.version < VALUES_VERSION else role

    def join_records(
        self,
        now: float,
        pieces: list[bytes],
        alterations: Mapping[bytes, Alteration] = _NO_ALTERATIONS,
    ) -> bytes:
        """Return the payload of these records; what of it is large is sent ahead.

        Who is in sync is told of `alterations` instead.
        """
        channel = self.channel
        assert channel is not None
        if not self.takes_values:
            return b"".join(records.for_first_version(pieces))
        said: list[bytes] = []
        for piece in pieces:
            if len(piece) < PART_BYTES:
                said.append(piece)
                continue
            # It is a value: before it are the head of a state and the key.
            alteration = alterations.get(said[-1]) if self.in_view else None
            if alteration is not None:
                key, state = said.pop(), said.pop()
                said.append(self._say_altered(now, channel, state, key, alteration))
                continue
            number = channel.values.number_of(piece) or self._send_value(now, channel, piece)
            said[-2] = records.encode_large(said[-2])
            said.append(records.encode_number(number))
        channel.values.settle()
        return b"".join(said)

    def _say_altered(
        self, now: float, channel: Channel, state: bytes, key: bytes, alteration: Alteration
    ) -> bytes:
        appended = self._say_pieces(now, channel, alteration.appended)
        prepended = self._say_pieces(now, channel, alteration.prepended)
        return records.encode_altered(state, key, alteration.before, appended, prepended)

    def _say_pieces(self, now: float, channel: Channel, pieces: Iterable[bytes]) -> list[bytes]:
        """Return what is said of pieces; those that are large are sent ahead."""
        said = []
        for piece in pieces:
            if len(piece) < PART_BYTES:
                said.append(records.encode_piece(piece))
            else:
                number = channel.values.number_of(piece) or self._send_value(now, channel, piece)
                said.append(records.encode_piece(piece, number))
        return said

    def join_results(self, now: float, results: list[tuple[int, Reply]]) -> bytes:
        """Return the records of replies for it; what is large is sent ahead."""
        # Hot path: bench/ "pair16".
        return b"".join(
            [
                encode_result(number, reply)
                if isinstance(reply, bytes)
                else self._say_result(now, number, reply)
                for number, reply in results
            ]
        )

    def _say_result(self, now: float, request: int, reply: tuple[bytes, ...]) -> bytes:
        if not self.takes_values:
            return encode_result(request, b"".join(reply))
        assert self.channel is not None
        pieces = b"".join(self._say_pieces(now, self.channel, reply))
        return records.encode_result_pieces(request, pieces)

    def encode_executed(self, now: float, node_id: str, request: int, reply: Reply) -> bytes:
        """Return the record of a reply for another one; what is large is sent ahead."""
        if isinstance(reply, bytes):
            return records.encode_executed(node_id, request, reply)
        if not self.takes_values:
            return records.encode_executed(node_id, request, b"".join(reply))
        assert self.channel is not None
        pieces = b"".join(self._say_pieces(now, self.channel, reply))
        return records.encode_executed_pieces(node_id, request, pieces)

    def encode_forward(self, now: float, forward: Forward) -> bytes:
        """Return what is said of commands that it is to execute; what is large is sent ahead."""
        number, protocol, commands = forward.number, forward.protocol, forward.commands
        if isinstance(commands, bytes):
            return records.encode_forward(number, protocol, commands)
        channel = self.channel
        assert channel is not None
        if not self.takes_values:
            return records.encode_forward(number, protocol, b"".join(commands))
        said = []
        for piece in commands:
            if len(piece) < PART_BYTES:
                said.append(records.encode_piece(piece))
                continue
            value = self._send_value(now, channel, piece)
            channel.values.keep(number, value, piece)
            said.append(records.encode_piece(piece, value))
        return records.encode_forward_pieces(number, protocol, b"".join(said))

    def go_on(self, now: float) -> None:
        """Send what need not wait any more."""
        channel = self.channel
        assert channel is not None
        if channel.flowing:
            self._send_waiting(now, channel)

    def _send_waiting(self, now: float, channel: Channel) -> None:
        link, lease = self.link, self.lease
        assert link is not None
        try:
            while True:
                if not channel.waiting and channel.values.ahead and channel.has_room:
                    self._send_ahead(now, channel)
                message = channel.next_to_go()
                if message is None:
                    break
                message.sent_at = now
                link.output += message.frame or encode_message(
                    message.kind,
                    now,
                    lease.their_time,
                    channel.epoch,
                    message.number,
                    channel.received,
                    message.payload,
                    message.lead,
                )
                lease.answer_due = False
        except Exception as error:
            self.break_off(error)
            raise

    def signal(self, now: float, kind: Kind, payload: bytes = b"") -> None:
        """Send a message outside the channel; it is lost with the link."""
        if self.link is None:
            return
        channel, lease = self.channel, self.lease
        epoch, received = (0, 0) if channel is None else (channel.epoch, channel.received)
        self.link.output += encode_message(kind, now, lease.their_time, epoch, 0, received, payload)
        lease.answer_due = False

    def ping(self, now: float, times: bytes) -> None:
        """Ask for a sign of life, and tell what our clocks show."""
        self.lease.pinged(now)
        self.signal(now, Kind.PING, times)

    def acknowledge(self, now: float) -> None:
        """Say at once what was received: on the other side, clients wait for that."""
        # Hot path: bench/ "pair16".
        if self.link is not None:
            self.signal(now, Kind.ACK)
            self.link.push()

    def resend(self, now: float, received: int) -> None:
        """Go on with the channel over a new link."""
        channel = self.channel
        assert channel is not None
        assert self.link is not None
        channel.wait_anew(received)
        self._send_waiting(now, channel)

    def pump(
        self, now: float, changes: Changes, *, whole: bool = False, doubt: bytes = b""
    ) -> bool:
        """Send more of a resync, as much as may be on its way; return whether that was all.

        `doubt`: the record that says so, if others perhaps have not yet what is sent.
        """
        channel, resync = self.channel, self.resync
        assert channel is not None
        slices = 0
        while resync.under_way:
            slices += 1
            if (channel.unacked_bytes >= WINDOW_BYTES or slices > SLICES_MAX) and not whole:
                return False
            with self.breaking():
                self._send_slice(now, changes, doubt)
        if self.in_view:
            resync.mode = "in_sync"
        elif not resync.sent_all:
            resync.sent_all = True
            self.send(now, Kind.SYNCED, sequence=changes.sequence)
        return True

    def _send_slice(self, now: float, changes: Changes, doubt: bytes) -> None:
        resync = self.resync
        pieces = resync.next_slice(changes)
        caught_up = self.in_view and not resync.under_way
        if pieces or caught_up:  # that it has all it is to acknowledge, if nothing else
            sequence = changes.sequence if caught_up else 0
            payload = doubt + self.join_records(now, pieces) if pieces else b""
            # Who was in sync lacks that if it is lost before it has this; so does who was taken in
            # while this was on its way, and what it has accepted is all that was before PROPOSE.
            noted = self.in_view or self.phase is Phase.PROPOSED
            keys = dict.fromkeys(resync.told) if noted else None
            self.send(now, Kind.CHANGES, payload, keys=keys, sequence=sequence)

    def check(self) -> None:
        """Raise AssertionError unless phase, channel, link and resync fit together. For tests."""
        phase, channel, resync, executed = self.phase, self.channel, self.resync, self.executed
        in_view = self.in_view
        assert in_view == (phase in IN_VIEW), "in the view by its phase or not"
        assert executed.sending == (channel is not None), "results go where no channel is"
        if channel is None:
            assert phase in WITHOUT_CHANNEL, "a phase with a channel, without one"
            assert phase is Phase.APART or self.link is not None, "asked without a link"
            assert resync.mode == "idle", "a resync without a channel"
            assert not executed.results, "results without a channel"
            return
        channel.check()
        assert phase not in WITHOUT_CHANNEL, "a phase without a channel, with one"
        assert not channel.flowing or self.link is not None, "a channel flows over no link"
        assert resync.mode != "idle" or channel.broken, "a channel without a resync"
        if phase in (Phase.PROPOSED, Phase.FOLLOWER):
            assert resync.sent_all, "to be one with who has not got all"
            assert resync.got_all, "to be one with who has not told all"
        assert resync.confirmed is None or not resync.got_all, "it still confirms what it told"
        if in_view:
            assert self.known, "in the view, but never in sync"
            assert resync.under_way or resync.mode == "in_sync", "in sync, and said to be not"
        else:
            assert resync.mode != "in_sync", "not in sync, and said to be"
