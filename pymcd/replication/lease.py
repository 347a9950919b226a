"""Times in, verdicts out: who was heard when, who hears us, and whether this node was there.

Every message carries its sender's time and the last time of the receiver that the sender has
seen. So each side knows when it sent the latest thing that the other one has certainly heard, and
no clocks need agree. Whoever is in a view answers only while that is less than a lease ago; else
its clients wait for one round trip. Nobody acts alone before the acknowledgement time-out has
passed, and the lease of the other side, too. Thus a node that was frozen finds out, before it
answers, that others went on without it.

All times are on our monotonic clock, except `their_time`.
"""

from __future__ import annotations

from math import inf
from typing import Final, NamedTuple

#: The lease, of the acknowledgement time-out.
LEASE_SHARE: Final = 0.75
#: A peer that says nothing for so long, or for a lease, is gone, though nobody waits for it.
SILENCE_S: Final = 3.0
HEARTBEAT_S: Final = 1.0
#: Clients that were left waiting for longer may have turned to another node: a load balancer set up
#: as docs/replication.md tells gives a node up after 0.3 s at the earliest.
STALE_S: Final = 0.25


class Patience(NamedTuple):
    """How long to wait for others."""

    ack_timeout_s: float
    lease_s: float

    @classmethod
    def of(cls, ack_timeout_s: float) -> Patience:
        """Return what follows from `--replication-ack-timeout`."""
        return cls(ack_timeout_s, ack_timeout_s * LEASE_SHARE)


class Wakefulness:
    """Whether this node itself was there, or stood still."""

    def __init__(self) -> None:
        self.next_step_at = inf
        #: What others said before has perhaps not been read yet.
        self.since = -inf
        self.overslept = False  #: for longer than STALE_S, and nobody has heard us since
        self.woke_at = -inf  #: when it last had stood still for longer than that

    def note(self, now: float, tolerance_s: float) -> float:
        """See whether a step comes later than was asked for: perhaps we were frozen; for how long.

        0: for so short that nobody can have noticed.
        """
        late_s = now - self.next_step_at
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
        "answer_due",
        "echoed",
        "heard_at",
        "muted_at",
        "pinged_at",
        "sent_at",
        "their_time",
        "unsaid_time",
    )

    def __init__(self) -> None:
        self.heard_at = -inf  #: when anything came last
        self.echoed = -inf  #: when we sent the last thing that the other side has seen
        self.their_time = 0.0  #: the last one that we have seen, and say so
        self.unsaid_time = 0.0  #: ... that we have seen while muted
        #: Since when we say no more that we hear it, so that its lease ends; 0: we do.
        self.muted_at = 0.0
        self.sent_at = -inf  #: when it was told anything last
        self.pinged_at = -inf
        self.answer_due = False  #: it is to be told what we have received

    def heard(self, now: float, time: float, echo: float) -> bool:
        """Take note of a message's times; return whether they prolong our lease."""
        # Hot path: bench/ "pair16".
        self.heard_at = now
        if time > self.their_time:
            if not self.muted_at:
                self.their_time = time
            elif time > self.unsaid_time:
                self.unsaid_time = time
        if echo > self.echoed:
            self.echoed = echo
            return True
        return False

    def forget(self) -> None:
        """Begin anew with a peer that has started anew: its clock, too."""
        self.their_time = self.unsaid_time = 0.0
        self.echoed = -inf

    def is_late(self, time: float) -> bool:
        """Return whether something was said, at that time of theirs, before what we have heard."""
        return time < max(self.their_time, self.unsaid_time)

    def silent_s(self, now: float, awake_since: float) -> float:
        """Return for how long it has said nothing, or we could not hear."""
        return now - max(self.heard_at, awake_since)

    def is_lost(self, now: float, asked_at: float, awake_since: float, patience: Patience) -> bool:
        """Return whether a peer of our view is to be given up. It was asked something then."""
        silent_s = self.silent_s(now, awake_since)
        if silent_s >= max(SILENCE_S, patience.lease_s):
            return True
        asked_at = max(asked_at, awake_since)
        overdue = now - asked_at >= patience.ack_timeout_s
        if overdue and silent_s >= patience.lease_s:
            return True
        if not overdue or self.echoed >= asked_at:
            self.muted_at = 0.0  # if it has heard the question, it is others who do not answer
            return False
        # We hear it, but it does not answer: perhaps it does not hear us. Before we may go on
        # without it its lease must end, which what we say might prolong.
        if not self.muted_at:
            self.muted_at = now
        return now - max(self.muted_at, awake_since) >= patience.lease_s

    def is_ping_due(self, now: float, keep_warm_s: float | None) -> bool:
        """Return whether to say something; `keep_warm_s`: a lease that is to be kept."""
        if keep_warm_s is not None:
            return now - max(self.echoed, self.pinged_at) >= keep_warm_s / 2
        return now - max(self.sent_at, self.pinged_at) >= HEARTBEAT_S
