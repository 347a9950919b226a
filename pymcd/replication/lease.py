"""Times in, verdicts out: who was heard when, who hears us, and whether this node was there.

Every message carries its sender's time and the last time of the receiver that the sender has
seen. So each side knows when it sent the latest thing that the other one has certainly heard, and
no clocks need agree. Whoever is in a view answers only while that is less than a lease ago; else
its clients wait for one round trip. Nobody acts alone before the acknowledgement time-out has
passed, and the lease of the other side, too. Thus a node that was frozen finds out, before it
answers, that others went on without it.

How long clients wait. When another node is lost, frozen, slow, or heard in one direction only,
nobody waits for it longer than the acknowledgement time-out, whatever his node is, and once: then
the node goes on without the other one, or parts from him, if it is not one that may. So that the
lease of who does not hear us has ended by then, who has not answered for what the lease leaves of
the time-out is *muted*: it is told that it is heard, but not so that its lease grows. A new link
has a time-out of its own, as what was lost is sent again; but where links do not last, nobody waits
longer than two.

Where nodes have different time-outs, each waits as long as the most patient of those that are
there. It answers by itself for the lease that follows from the time-out of who decides, and no
longer: that one all know who are in the view, and none of them waits for less.

All times are on our monotonic clock, except `their_time`.
"""

from __future__ import annotations

from math import inf, nextafter
from typing import Final

from .frames import FrameError

#: The lease, of the acknowledgement time-out.
LEASE_SHARE: Final = 0.75
#: A peer that says nothing for so long, or for a lease, is gone, though nobody waits for it.
SILENCE_S: Final = 3.0
HEARTBEAT_S: Final = 1.0
#: Clients that were left waiting for longer may have turned to another node: a load balancer set up
#: as docs/front.md tells gives a node up after 0.3 s at the earliest.
STALE_S: Final = 0.25


#: No monotonic clock shows more.
TIME_MAX_S: Final = 1e12


class Patience:
    """How long to wait for others: as long as the most patient one of them does."""

    __slots__ = ("ack_timeout_s", "lease_s", "mute_s", "word_s")

    def __init__(self, ack_timeout_s: float) -> None:
        self.be(ack_timeout_s)
        self.decided_by(ack_timeout_s)

    def be(self, ack_timeout_s: float) -> None:
        """Do what follows from `--replication-ack-timeout`."""
        self.ack_timeout_s = ack_timeout_s
        self.lease_s = ack_timeout_s * LEASE_SHARE
        #: How long who does not answer is told as ever that it is heard.
        self.mute_s = ack_timeout_s - self.lease_s

    def decided_by(self, ack_timeout_s: float) -> None:
        """Take note of the time-out of who decides in our view."""
        #: Our lease: how long the word of others is good for.
        self.word_s = ack_timeout_s * LEASE_SHARE


class Wakefulness:
    """Whether this node itself was there, or stood still."""

    def __init__(self) -> None:
        self.next_step_at = inf
        #: What others said just before has perhaps not been read yet. A node that has much to do
        #: is a little late again and again: that explains no silence of seconds.
        self.since = -inf
        self.overslept = False  #: for longer than STALE_S, and nobody has heard us since
        #: When it last had stood still for longer than that: what was before is no silence either.
        self.woke_at = -inf

    def note(self, now: float, tolerance_s: float, suspended_s: float = 0.0) -> float:
        """See whether a step comes later than was asked for: perhaps we were frozen; for how long.

        0: for so short that nobody can have noticed. `suspended_s`: the clock stood still, too.
        """
        late_s = suspended_s + max(0.0, now - self.next_step_at)
        if late_s > tolerance_s:
            # Be as patient as if everything had been asked just now.
            self.since = now
        if late_s < STALE_S:
            return 0.0
        self.overslept = True
        self.woke_at = now
        return late_s


class Lease:
    """What we and one peer have heard of each other."""

    __slots__ = (
        "_unheard_at",
        "answer_due",
        "answered",
        "asked_at",
        "echoed",
        "heard_at",
        "muted_at",
        "offset_s",
        "pinged_at",
        "their_time",
    )

    def __init__(self) -> None:
        self.heard_at = -inf  #: when anything came last
        self.echoed = -inf  #: when we sent the last thing that the other side has seen
        self.answered = -inf  #: the same, where it has said so without prolonging our lease
        self.their_time = 0.0  #: the last one that we have seen, as we say it: muted, below zero
        self.muted_at = 0.0  #: since when it is muted, so that its lease ends; 0: it is not
        self.asked_at = inf  #: what it has not answered, then
        #: How far our clock is ahead of theirs; infinite: not known. A message was sent after what
        #: its sender had heard of us, and before it came: the difference lies between the two, and
        #: moves only where it must, and then at once.
        self.offset_s = inf
        self.pinged_at = -inf
        self._unheard_at = (
            -inf
        )  #: when the first ping was sent that it had not heard when we sent the last
        self.answer_due = False  #: it is to be told what we have received

    def heard(self, now: float, time: float, echo: float) -> bool:
        """Take note of a message's times; return whether they prolong our lease.

        Raises FrameError for a time that no clock shows, or that ours does not show yet.
        """
        # Hot path: bench/ "pair16".
        self.heard_at = now
        if now - time < self.offset_s or echo - time > self.offset_s:
            self._note_offset(now, time, echo)
        if time > self.their_time:
            if not self.muted_at:
                self.their_time = time
            elif time > -self.their_time:
                self.their_time = -time
        if echo > self.echoed and echo >= 0.0:
            if echo > now:
                raise FrameError("an answer to what was not said yet")
            self.echoed = echo
            if self.muted_at and echo >= self.asked_at:
                self.unmute()
            return True
        if -now <= echo < 0.0:  # it has muted us, and hears us
            self.answered = max(self.answered, -echo)
            if self.muted_at and self.answered >= self.asked_at:
                self.unmute()
        return False

    def _note_offset(self, now: float, time: float, echo: float) -> None:
        """Learn that their clock is further ahead, or behind, than we knew."""
        if not -TIME_MAX_S < time < TIME_MAX_S or echo > now:
            raise FrameError("a time that no clock shows")
        if now - time < self.offset_s:
            self.offset_s = now - time
        elif echo - time > self.offset_s:
            self.offset_s = echo - time

    def mute(self, now: float, asked_at: float) -> None:
        """Say no more that we hear it so that its lease grows."""
        self.muted_at = now
        self.asked_at = asked_at
        self.their_time = -abs(self.their_time)

    def unmute(self) -> None:
        """Say again that we hear it, and at once, as it may have asked meanwhile."""
        if self.muted_at:
            self.muted_at = 0.0
            self.their_time = abs(self.their_time)
            self.answer_due = True

    def forget(self) -> None:
        """Begin anew with a peer that has started anew: its clock, too."""
        self.their_time = self.muted_at = 0.0
        self.echoed = self.answered = self._unheard_at = -inf
        self.offset_s = inf

    def is_late(self, time: float) -> bool:
        """Return whether something was said, at that time of theirs, before what we have heard."""
        return time < abs(self.their_time)

    @property
    def heard_us_at(self) -> float:
        """When we sent the last thing that it has seen, be it that it has muted us."""
        return max(self.echoed, self.answered)

    @property
    def unheard_at(self) -> float:
        """When we sent the first ping that it has not heard, for all we know; infinity: none."""
        return self._unheard_at if self._unheard_at > self.heard_us_at else inf

    def silent_s(self, now: float, awake_since: float) -> float:
        """Return for how long it has said nothing, or we could not hear."""
        return now - max(self.heard_at, awake_since)

    def is_lost(
        self,
        now: float,
        asked_at: float,
        awake: Wakefulness,
        patience: Patience,
        *,
        moved_at: float = -inf,
    ) -> bool:
        """Return whether a peer of our view is to be given up. It was asked something then.

        `moved_at`: when anything last came through that pings, or answers, may have to wait behind.
        """
        if self.silent_s(now, awake.woke_at) >= max(SILENCE_S, patience.lease_s):
            return True
        silent_s = self.silent_s(now, awake.since)
        asked_at = max(asked_at, awake.since)
        overdue = now >= asked_at + patience.ack_timeout_s
        if overdue and silent_s >= patience.lease_s:
            return True
        if asked_at <= self.heard_us_at:
            # It has heard that: it is others who do not answer, or it has muted us, as it asks us,
            # too, and is to hear our answer. But who can be heard, and does not hear us any more,
            # is no help.
            if self.echoed < asked_at:
                asked_at = nextafter(self.answered, inf)
            else:
                asked_at = max(self.unheard_at, moved_at)
            asked_at = max(asked_at, awake.since)
            overdue = now >= asked_at + patience.ack_timeout_s
            answers = not overdue
        else:
            answers = now < asked_at + patience.mute_s
        if answers:
            self.unmute()
            return False
        # We hear it, but it does not answer: perhaps it does not hear us. Before we may go on
        # without it its lease must end, which what we say might prolong.
        if not self.muted_at:
            self.mute(now, asked_at)
        return overdue and now >= max(self.muted_at, awake.since) + patience.lease_s

    def pinged(self, now: float) -> None:
        """Take note that it is asked for a sign of life."""
        self.pinged_at = now
        if self._unheard_at <= self.heard_us_at:
            self._unheard_at = now

    def is_ping_due(self, now: float, keep_warm_s: float | None) -> bool:
        """Return whether to say something; `keep_warm_s`: a lease that is to be kept."""
        if keep_warm_s is not None and now - max(self.echoed, self.pinged_at) >= keep_warm_s / 2:
            return True
        return now - self.pinged_at >= HEARTBEAT_S
