"""Clocks: the system's, one that stands still, and one with an offset."""

from __future__ import annotations

import time

import pytest

from pymcd.clock import OffsetClock, SystemClock, suspended_s

from .clocks import ManualClock


def test_the_system_clock_is_the_systems():
    clock = SystemClock()
    before = time.monotonic(), time.time()
    between = clock.monotonic(), clock.realtime()
    after = time.monotonic(), time.time()
    assert before[0] <= between[0] <= after[0]
    assert before[1] <= between[1] <= after[1]


def test_a_manual_clock_stands_still_until_it_is_moved():
    clock = ManualClock(realtime_s=5000.0)
    start = clock.monotonic()
    assert (clock.monotonic(), clock.realtime()) == (start, 5000.0)
    clock.advance(2.5)
    assert (clock.monotonic(), clock.realtime()) == (start + 2.5, 5002.5)


def test_a_manual_clock_does_not_go_back():
    clock = ManualClock()
    with pytest.raises(ValueError, match="cannot go back"):
        clock.advance(-1)


def test_an_offset_moves_both_times():
    base = ManualClock(realtime_s=100.0)
    clock = OffsetClock(base)
    start = clock.monotonic()
    clock.advance(60)
    base.advance(1)
    assert (clock.monotonic() - start, clock.realtime()) == (61, 161)
    clock.advance(-10)
    assert (clock.monotonic() - start, clock.realtime()) == (51, 151)


def test_a_paused_clock_goes_on_from_where_it_stopped():
    base = ManualClock(realtime_s=100.0)
    clock = OffsetClock(base)
    start = clock.monotonic()
    base.advance(1)
    clock.pause()
    base.advance(10)
    clock.pause()
    assert (clock.monotonic() - start, clock.realtime()) == (1, 101)
    clock.advance(5)
    assert (clock.monotonic() - start, clock.realtime()) == (6, 106)
    clock.resume()
    clock.resume()
    assert (clock.monotonic() - start, clock.realtime()) == (6, 106)
    base.advance(2)
    assert (clock.monotonic() - start, clock.realtime()) == (8, 108)


def test_a_machine_that_runs_is_not_being_suspended():
    before_s = suspended_s()
    assert before_s > -0.1
    assert abs(suspended_s() - before_s) < 0.1
