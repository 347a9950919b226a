"""Leases: by which times a peer is lost, and whether this node itself was there."""

from __future__ import annotations

from math import inf

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pymcd.replication.frames import FrameError
from pymcd.replication.lease import (
    HEARTBEAT_S,
    LEASE_SHARE,
    SILENCE_S,
    STALE_S,
    Lease,
    Patience,
    Wakefulness,
)

#: Sums of these are exact.
PATIENCE = Patience(0.5)
NOW = 100.0
NEVER = inf
TICK = 1 / 64
AWAKE = Wakefulness()


def lease_of(*, heard: float = NEVER, echoed: float = NEVER, answered: float = NEVER) -> Lease:
    """Return a lease; when things happened is told as seconds ago."""
    lease = Lease()
    lease.heard_at = NOW - heard
    lease.echoed = NOW - echoed
    lease.answered = NOW - answered
    return lease


def awake_since(time: float) -> Wakefulness:
    """Return how awake a node is that stood still up to that time."""
    awake = Wakefulness()
    awake.since = awake.woke_at = time
    return awake


LOST, MUTED, THERE = "lost", "muted", "there"
#: What happened how many seconds ago -> verdict. `asked`: since when somebody waits for an answer;
#: `awake`: since when we do not stand still ourselves; `late`: since when we are not late;
#: `pinged`: for the first time, and once more just now; `moved`: when anything large last did.
VERDICTS = [
    ("it was just heard, nobody asks", {"heard": 0}, THERE),
    ("it has long said nothing, nobody asks", {"heard": SILENCE_S - TICK}, THERE),
    ("it has said nothing for too long", {"heard": SILENCE_S}, LOST),
    ("it was never heard", {"heard": NEVER}, LOST),
    ("asked just now, and silent", {"heard": 2, "asked": 0}, THERE),
    ("asked a moment ago", {"heard": 2, "asked": 0.125 - TICK}, THERE),
    ("asked as long ago as is left without a lease", {"heard": 2, "asked": 0.125}, MUTED),
    ("asked almost too long ago", {"heard": 2, "asked": 0.5 - TICK}, MUTED),
    ("asked too long ago, and silent", {"heard": 2, "asked": 0.5}, LOST),
    ("silent for just a lease", {"heard": 0.375, "asked": 0.5}, LOST),
    ("heard within the lease: it does not hear us", {"heard": 0.375 - TICK, "asked": 0.5}, MUTED),
    ("heard just now, not answering for long", {"heard": 0, "asked": 60}, MUTED),
    ("it has heard the question", {"heard": 0, "echoed": 0.5, "asked": 0.5}, THERE),
    ("it has heard of us, but not the question",
     {"heard": 0, "echoed": 0.5 + TICK, "asked": 0.5}, MUTED),
    ("it has heard it, and muted us", {"heard": 0, "answered": 0.5 - TICK, "asked": 9}, THERE),
    ("and has not heard us since", {"heard": 0, "answered": 0.5 + TICK, "asked": 9}, MUTED),
    ("but has not muted us for long",
     {"heard": 0, "answered": 0.5 + TICK, "echoed": 9, "asked": 9}, THERE),
    ("it has heard it, and hears us no more", {"heard": 0, "echoed": 1, "asked": 9, "pinged": 0.5},
     MUTED),
    ("but has not been asked again for long",
     {"heard": 0, "echoed": 1, "asked": 9, "pinged": 0.5 - TICK}, THERE),
    ("it has heard what it was asked again",
     {"heard": 0, "echoed": 0.5, "asked": 9, "pinged": 0.5}, THERE),
    ("the same, and it has muted us meanwhile",
     {"heard": 0, "echoed": 1, "answered": 0.5, "asked": 9, "pinged": 0.5}, THERE),
    ("the ping is behind what is large",
     {"heard": 0, "echoed": 1, "asked": 9, "pinged": 0.5, "moved": 0.25}, THERE),
    ("which does not move any more",
     {"heard": 0, "echoed": 1, "asked": 9, "pinged": 0.75, "moved": 0.5}, MUTED),
    ("we were not there ourselves", {"heard": 60, "awake": 0}, THERE),
    ("nor when it was asked", {"heard": 60, "asked": 60, "awake": 0.5 - TICK}, MUTED),
    ("but we are for long enough", {"heard": 60, "asked": 60, "awake": 0.5}, LOST),
    ("we were late; since then it was heard", {"heard": 0.25, "asked": 60, "awake": 0.5}, MUTED),
    ("we are late: perhaps it has answered", {"heard": 2, "asked": 0.5, "late": 0}, THERE),
    ("that explains no long silence", {"heard": SILENCE_S, "asked": 0.5, "late": 0}, LOST),
]  # fmt: skip


class TestIsLost:
    @pytest.mark.parametrize(
        ("ago", "verdict"), [row[1:] for row in VERDICTS], ids=[row[0] for row in VERDICTS]
    )
    def test_by_the_times(self, ago, verdict):
        lease = lease_of(
            heard=ago["heard"],
            echoed=ago.get("echoed", NEVER),
            answered=ago.get("answered", NEVER),
        )
        if "pinged" in ago:
            lease.pinged(NOW - ago["pinged"])
            lease.pinged(NOW)
        asked_at = NOW - ago["asked"] if "asked" in ago else inf
        awake = awake_since(NOW - ago.get("awake", NEVER))
        awake.since = max(awake.since, NOW - ago.get("late", NEVER))
        moved_at = NOW - ago.get("moved", NEVER)
        lost = lease.is_lost(NOW, asked_at, awake, PATIENCE, moved_at=moved_at)
        assert lost == (verdict == LOST)
        assert lease.muted_at == (NOW if verdict == MUTED else 0.0)

    def test_whoever_is_muted_is_lost_when_its_lease_has_ended(self):
        lease = lease_of(heard=0)
        asked_at = NOW - 0.5
        for late_s, lost in ((0, False), (0.25, False), (0.375 - TICK, False), (0.375, True)):
            lease.heard(NOW + late_s, NOW + late_s, -inf)
            assert lease.is_lost(NOW + late_s, asked_at, AWAKE, PATIENCE) == lost
            assert lease.muted_at == NOW

    def test_meanwhile_nothing_that_we_say_prolongs_its_lease(self):
        lease = lease_of(heard=0)
        lease.heard(NOW, 7.0, -inf)
        lease.is_lost(NOW, NOW - 0.5, AWAKE, PATIENCE)
        assert lease.their_time == -7.0
        lease.heard(NOW + 0.25, 8.0, -inf)
        assert lease.their_time == -8.0
        lease.heard(NOW + 0.25, 7.5, -inf)
        assert lease.their_time == -8.0
        assert lease.is_late(7.5)
        assert not lease.answer_due
        lease.heard(NOW + 0.25, 9.0, NOW)  # it has heard the question
        assert not lease.muted_at
        assert lease.their_time == 9.0
        assert lease.answer_due  # it may have asked meanwhile
        assert not lease.is_lost(NOW + 0.25, NOW - 0.5, AWAKE, PATIENCE)
        lease.heard(NOW + 0.25, 10.0, NOW)
        assert lease.their_time == 10.0

    def test_it_is_heard_though_it_has_muted_us(self):
        """Two that wait for one another both hear that they are heard, and both go on."""
        lease = lease_of(heard=0)
        asked_at = NOW - 0.25
        assert not lease.is_lost(NOW, asked_at, AWAKE, PATIENCE)
        assert lease.muted_at
        assert not lease.heard(NOW + TICK, 1.0, -(asked_at - TICK))  # an earlier question
        assert lease.muted_at
        assert not lease.heard(NOW + 2 * TICK, 2.0, -asked_at)
        assert not lease.muted_at
        assert lease.echoed == -inf  # our own lease is not longer for that

    def test_whoever_has_muted_us_and_does_not_hear_us_any_more_is_lost(self):
        """A muted word that is repeated is no news; one of later is."""
        for later_s, lost in ((0.0, True), (TICK, False)):
            lease = lease_of(heard=0)
            asked_at = NOW - 0.5
            lease.heard(NOW, NOW, -asked_at)
            assert not lease.is_lost(NOW + TICK - 0.5, asked_at, AWAKE, PATIENCE)
            assert not lease.is_lost(NOW + TICK, asked_at, AWAKE, PATIENCE)
            assert lease.muted_at
            lease.heard(NOW + 2 * TICK, NOW + 2 * TICK, -(asked_at + later_s))
            lease.heard(NOW + 0.375, NOW + 0.375, -asked_at)
            assert lease.is_lost(NOW + TICK + 0.375, asked_at, AWAKE, PATIENCE) == lost

    def test_nobody_has_answered_what_is_still_to_be_asked(self):
        lease = lease_of(heard=0)
        for echo in (-inf, -1e308, -(NOW + 1), float("nan")):
            lease.heard(NOW, 1.0, echo)
            assert lease.answered == -inf

    def test_nor_when_nobody_waits_any_more(self):
        lease = lease_of(heard=0)
        lease.is_lost(NOW, NOW - 0.5, AWAKE, PATIENCE)
        assert not lease.is_lost(NOW + 1, inf, AWAKE, PATIENCE)
        assert not lease.muted_at

    def test_while_we_stood_still_its_lease_did_not_end_for_us(self):
        lease = lease_of(heard=0)
        lease.is_lost(NOW, NOW - 0.5, AWAKE, PATIENCE)
        awake = awake_since(NOW + 60)
        lease.heard(NOW + 60.5, NOW + 60.5, -inf)
        assert not lease.is_lost(NOW + 60.25, NOW, awake, PATIENCE)
        lease.is_lost(NOW + 60.5, NOW, awake, PATIENCE)
        assert lease.is_lost(NOW + 60.875, NOW, awake, PATIENCE)

    @given(
        st.sampled_from([0.08, 0.5, 2.0, 4.5, 10.0, 60.0]),
        st.lists(
            st.tuples(
                st.sampled_from(
                    ["heard", "look", "ask", "answer", "doubt", "stop asking", "wake up", "be late"]
                ),
                st.sampled_from([0.0, 0.01, 0.1, 0.5, 1.0, 2.9, 4.0, 7.0, 30.0]),
            ),
            max_size=40,
        ),
    )
    def test_nobody_is_lost_before_its_lease_has_ended(self, ack_timeout_s, events):
        """Whatever we told it last: it answers for that long, and we must not go on before."""
        patience = Patience(ack_timeout_s)
        lease = Lease()
        now, asked_at, awake = NOW, inf, Wakefulness()
        lease.heard(now, now, -inf)
        told = lease.their_time  #: what it knows of being heard, at the latest
        for what, later_s in events:
            now += later_s
            if what == "heard":
                lease.heard(now, now, -inf)
            elif what == "answer":
                lease.heard(now, now, now)
            elif what == "doubt":
                lease.heard(now, now, -now)
            elif what == "ask":
                asked_at = min(asked_at, now)
            elif what == "stop asking":
                asked_at = inf
            elif what == "wake up":
                awake = awake_since(now)
            elif what == "be late":
                awake.since = now
            if lease.is_lost(now, asked_at, awake, patience):
                assert told + patience.lease_s <= now
                return
            told = max(told, lease.their_time)


class TestHearing:
    @pytest.mark.parametrize(
        ("echo", "news"), [(5.0, True), (4.0 + TICK, True), (4.0, False), (-inf, False)]
    )
    def test_what_it_has_seen_of_us_prolongs_our_lease_if_that_is_news(self, echo, news):
        lease = Lease()
        lease.heard(6.0, 0.0, 4.0)
        assert lease.heard(7.0, 0.0, echo) == news
        assert lease.echoed == max(4.0, echo)
        assert lease.heard_at == 7.0

    @pytest.mark.parametrize("echo", [7.0 + TICK, 1e308, float("inf")])
    def test_nobody_has_seen_what_we_have_not_said_yet(self, echo):
        lease = Lease()
        lease.heard(6.0, 0.0, 4.0)
        with pytest.raises(FrameError, match=r"not said yet|no clock shows"):
            lease.heard(7.0, 0.0, echo)
        assert lease.echoed == 4.0

    def test_what_is_no_number_is_no_news(self):
        lease = Lease()
        lease.heard(5.0, 3.0, 4.0)
        assert not lease.heard(6.0, float("nan"), float("nan"))
        assert (lease.their_time, lease.echoed) == (3.0, 4.0)

    def test_its_time_only_grows(self):
        lease = Lease()
        for time, latest in ((3.0, 3.0), (2.0, 3.0), (4.0, 4.0)):
            lease.heard(1.0, time, -inf)
            assert lease.their_time == latest

    @pytest.mark.parametrize("muted", [False, True])
    def test_what_was_said_before_is_late_whether_we_say_that_we_heard_the_rest_or_not(self, muted):
        lease = Lease()
        lease.heard(NOW, 7.0, 0.0)
        lease.muted_at = NOW if muted else 0.0
        for time in (8.0, 7.5):
            lease.heard(NOW, time, 0.0)
        assert [lease.is_late(time) for time in (7.75, 8.0, 8.25)] == [True, False, False]
        lease.forget()
        assert not lease.is_late(0.0)

    def test_who_has_started_anew_has_another_clock(self):
        lease = Lease()
        lease.heard(1.0, 500.0, 0.5)
        lease.forget()
        assert lease.heard(2.0, 3.0, 1.5)
        assert (lease.their_time, lease.echoed) == (3.0, 1.5)

    @pytest.mark.parametrize(
        ("messages", "ahead_s"),
        [
            ([], inf),
            ([(10.0, 4.0, -inf)], 6.0),
            ([(10.0, 4.0, -inf), (11.0, 5.5, -inf)], 5.5),  # it was faster under way
            ([(10.0, 4.0, -inf), (13.0, 5.0, -inf)], 6.0),  # a slow one tells nothing
            ([(10.0, 4.0, -inf), (13.0, 5.0, 12.5)], 7.5),  # it is slow by itself: it stood still
            ([(10.0, 4.0, -inf), (13.0, 5.0, 9.0)], 6.0),
            ([(10.0, 4.0, -inf), (11.0, float("nan"), 11.0)], 6.0),
            ([(10.0, 4.0, 9.0), (11.0, 905.0, 10.9)], -894.0),
        ],
    )
    def test_how_far_our_clock_is_ahead_lies_between_what_it_had_heard_and_when_it_came(
        self, messages, ahead_s
    ):
        lease = Lease()
        for now, time, echo in messages:
            lease.heard(now, time, echo)
        assert lease.offset_s == ahead_s

    @pytest.mark.parametrize(
        ("heard", "awake", "silent_s"), [(2, 5, 2), (5, 2, 2), (5, NEVER, 5), (NEVER, NEVER, inf)]
    )
    def test_for_how_long_it_is_silent(self, heard, awake, silent_s):
        assert lease_of(heard=heard).silent_s(NOW, NOW - awake) == silent_s


class TestPing:
    """Whoever is to keep a lease asks when half of it is over; else once in a while."""

    #: Seconds ago: pinged, they heard us; the lease; is a ping due?
    CASES = [
        (HEARTBEAT_S, NEVER, None, True),
        (HEARTBEAT_S - TICK, NEVER, None, False),
        (NEVER, 0, None, True),  # it tells what our clocks show, whatever else is said
        (NEVER, 0, 0.5, True),
        (0.3, 0.25, 0.5, True),
        (0.3, 0.25 - TICK, 0.5, False),
        (0.25 - TICK, NEVER, 0.5, False),
        (0.25, NEVER, 0.5, True),
    ]

    @pytest.mark.parametrize(("pinged", "echoed", "keep_warm_s", "due"), CASES)
    def test_when_it_is_due(self, pinged, echoed, keep_warm_s, due):
        lease = lease_of(echoed=echoed)
        lease.pinged_at = NOW - pinged
        assert lease.is_ping_due(NOW, keep_warm_s) == due


class TestPatience:
    @pytest.mark.parametrize("ack_timeout_s", [0.001, 0.08, 60.0])
    def test_the_lease_ends_before_we_give_up(self, ack_timeout_s):
        patience = Patience(ack_timeout_s)
        assert patience.ack_timeout_s == ack_timeout_s
        assert 0 < patience.lease_s == ack_timeout_s * LEASE_SHARE < ack_timeout_s
        assert patience.mute_s + patience.lease_s == ack_timeout_s


class TestWakefulness:
    #: How late a step comes; whether others are given more time, whether clients are out of date.
    CASES = [
        (-1.0, False, False),
        (0.0, False, False),
        (0.125, False, False),
        (0.125 + TICK, True, False),
        (STALE_S - TICK, True, False),
        (STALE_S, True, True),
        (60.0, True, True),
    ]

    @pytest.mark.parametrize(("late_s", "patient", "overslept"), CASES)
    def test_by_how_late_a_step_comes(self, late_s, patient, overslept):
        awake = Wakefulness()
        awake.next_step_at = NOW
        awake.note(NOW + late_s, 0.125)
        assert awake.since == (NOW + late_s if patient else -inf)
        assert awake.overslept == overslept

    @pytest.mark.parametrize("next_step_in_s", [-1.0, 0.0, 1.0, inf])
    def test_who_was_suspended_is_late_though_its_clock_stood_still(self, next_step_in_s):
        awake = Wakefulness()
        awake.next_step_at = NOW + next_step_in_s
        assert awake.note(NOW, 0.125, 600.0) == 600.0 + max(0.0, -next_step_in_s)
        assert (awake.since, awake.woke_at, awake.overslept) == (NOW, NOW, True)

    def test_who_asked_for_no_step_is_not_late(self):
        awake = Wakefulness()
        awake.note(NOW, 0.125)
        assert (awake.since, awake.overslept) == (-inf, False)

    def test_that_one_overslept_is_not_forgotten_by_being_late_again(self):
        awake = Wakefulness()
        awake.next_step_at = NOW
        awake.note(NOW + 60, 0.125)
        awake.next_step_at = NOW + 61
        awake.note(NOW + 61.2, 0.125)
        assert awake.overslept
        assert awake.since == NOW + 61.2
