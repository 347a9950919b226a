"""Roles: which may follow which, and what each means to the connections of clients."""

from __future__ import annotations

from itertools import product
from typing import get_args

import pytest

from pymcd.config import ReplicationAck
from pymcd.replication.roles import (
    ALONE,
    COORDINATOR,
    FOLLOWER,
    JOINING,
    STARTING,
    TRANSITIONS,
    WAITING,
    Role,
    Stance,
)
from pymcd.replication.view import View

#: Role -> which may be next, besides STARTING: anybody may leave.
NEXT = {
    STARTING: {ALONE, FOLLOWER},
    ALONE: {COORDINATOR, JOINING},
    COORDINATOR: {COORDINATOR, ALONE, JOINING, WAITING},
    FOLLOWER: {ALONE, JOINING, WAITING},
    JOINING: {FOLLOWER, ALONE, WAITING},
    WAITING: {ALONE, JOINING},
}
PAIRS = list(product(Role, Role))

ACK_MODES = ["semi", "async", "strict"]
#: Role -> what it means, by word; by ack mode, where that makes a difference.
MEANING = {
    STARTING: dict.fromkeys(ACK_MODES, ""),
    ALONE: {"semi": "leading", "async": "leading", "strict": "leading refusing"},
    COORDINATOR: {"semi": "leading protecting", "async": "leading", "strict": "leading protecting"},
    FOLLOWER: dict.fromkeys(ACK_MODES, ""),
    JOINING: dict.fromkeys(ACK_MODES, "remote"),
    WAITING: dict.fromkeys(ACK_MODES, "remote refusing"),
}


class TestTransitions:
    def test_these_and_no_others_are_allowed(self):
        allowed = {(before, after) for before in NEXT for after in NEXT[before] | {STARTING}}
        assert set(TRANSITIONS) == allowed

    def test_each_has_its_reason(self):
        assert all(reason.strip() for reason in TRANSITIONS.values())

    @pytest.mark.parametrize(("before", "after"), [pair for pair in PAIRS if pair in TRANSITIONS])
    def test_what_is_allowed_is_done(self, before, after):
        view = View("a", "semi")
        view.role = before
        view.become(after)
        assert view.role is after

    @pytest.mark.parametrize(
        ("before", "after"), [pair for pair in PAIRS if pair not in TRANSITIONS]
    )
    def test_whoever_tries_another_one_is_told(self, before, after):
        view = View("a", "semi")
        view.role = before
        stance = Stance().follow(before, "semi")
        view.stance.follow(before, "semi")
        with pytest.raises(AssertionError, match=f"{before} -> {after}"):
            view.become(after)
        assert (view.role, view.stance) == (before, stance)


class TestMeaning:
    @pytest.mark.parametrize("ack_mode", ACK_MODES)
    @pytest.mark.parametrize("role", Role)
    def test_what_a_role_means_to_connections(self, role, ack_mode):
        words = MEANING[role][ack_mode].split()
        stance = Stance().follow(role, ack_mode)
        assert stance == Stance(**dict.fromkeys(words, True))

    @pytest.mark.parametrize("ack_mode", ACK_MODES)
    @pytest.mark.parametrize(("before", "after"), PAIRS)
    def test_nothing_remains_of_the_role_before(self, before, after, ack_mode):
        stance = Stance()
        assert stance.follow(before, ack_mode).follow(after, ack_mode) is stance
        assert stance == Stance().follow(after, ack_mode)

    def test_these_are_all_the_modes_that_there_are(self):
        assert sorted(ACK_MODES) == sorted(get_args(ReplicationAck))

    @pytest.mark.parametrize("role", Role)
    def test_who_leads_and_who_is_in_sync(self, role):
        assert role.leads == (role in (ALONE, COORDINATOR))
        assert role.in_sync == (role in (COORDINATOR, FOLLOWER))

    def test_their_names_travel_and_are_shown(self):
        assert list(Role) == [
            "starting", "alone", "coordinator", "follower", "joining", "waiting",
        ]  # fmt: skip
