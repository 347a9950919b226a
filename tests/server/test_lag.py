"""How late the event loop is, and that nobody looks when nobody asks."""

from __future__ import annotations

from math import inf

from pymcd.server.lag import ASKED_S, LOOK_EVERY_S, STALL_S, Lag

from ..clocks import ManualClock


def look(lag: Lag, clock: ManualClock, late_s: float) -> None:
    clock.advance(LOOK_EVERY_S + late_s)
    assert lag._look() == LOOK_EVERY_S


def test_nobody_asks_nobody_looks():
    lag = Lag(ManualClock())
    assert lag._look() == inf
    assert lag.rows()["loop_lag_le_+Inf"] == 0


def test_looks_are_counted_by_how_late_they_are():
    clock = ManualClock()
    lag = Lag(clock)
    lag.asked()
    assert lag._look() == LOOK_EVERY_S
    for late_s in (0.0, 0.002, 0.002, 0.3, 9.0):
        look(lag, clock, late_s)
    rows = lag.rows()
    assert [rows[f"loop_lag_le_{bound}"] for bound in (0.001, 0.005, 0.1, 0.5, 2.5, "+Inf")] == [
        1, 3, 3, 4, 4, 5,
    ]  # fmt: skip
    assert rows["loop_lag_sum"] == 9.304
    assert (rows["loop_stalls"], rows["loop_stalled_s"]) == (2, 9.3)


def test_what_is_a_little_early_is_not_late():
    clock = ManualClock()
    lag = Lag(clock)
    lag.asked()
    lag._look()
    look(lag, clock, -0.001)
    assert lag.rows()["loop_lag_le_0.001"] == 1
    assert lag.rows()["loop_lag_sum"] == 0


def test_looks_end_when_nobody_asks_any_more():
    clock = ManualClock()
    lag = Lag(clock)
    lag.asked()
    lag._look()
    clock.advance(ASKED_S + 1)
    assert lag._look() == inf
    counted = lag.rows()["loop_lag_le_+Inf"]
    clock.advance(1000)  # which is no lag
    lag.asked()
    assert lag._look() == LOOK_EVERY_S
    assert lag.rows()["loop_lag_le_+Inf"] == counted
    look(lag, clock, STALL_S)
    assert lag.rows()["loop_lag_le_+Inf"] == counted + 1
