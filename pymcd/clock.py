"""Time as an interface, so that tests, the fake and `debugtime` can move it.

Nothing below `server/` reads a clock of the system: it is given one of these. `monotonic`
drives expiry, ages and time-outs; `realtime` is needed only for absolute expiry times and
for the timestamps that users see.
"""

from __future__ import annotations

import time
from typing import Protocol


class Clock(Protocol):
    """What the store and the server ask of time."""

    def monotonic(self) -> float:
        """Return seconds that never step back, from an arbitrary origin."""

    def realtime(self) -> float:
        """Return seconds of Unix time."""


class SystemClock:
    """The operating system's clocks."""

    def __init__(self) -> None:
        # Bound once: the hub asks for the time in every turn.
        self.monotonic = time.monotonic
        self.realtime = time.time


def suspended_s() -> float:
    """Return for how long this machine has been suspended so far, as far as its system tells.

    Meanwhile `monotonic` stood still.
    """
    boottime = getattr(time, "CLOCK_BOOTTIME", None)  # of Linux
    if boottime is None:
        return 0.0
    return time.clock_gettime(boottime) - time.clock_gettime(time.CLOCK_MONOTONIC)


class OffsetClock:
    """Another clock plus an offset that `debugtime` and `advance()` move, or pause."""

    def __init__(self, base: Clock) -> None:
        self._base = base
        self._offset_s = 0.0
        self._paused_at: tuple[float, float] | None = None

    def monotonic(self) -> float:
        base = self._base.monotonic() if self._paused_at is None else self._paused_at[0]
        return base + self._offset_s

    def realtime(self) -> float:
        base = self._base.realtime() if self._paused_at is None else self._paused_at[1]
        return base + self._offset_s

    def advance(self, seconds: float) -> None:
        """Move time by `seconds`; a negative number moves it back, as `debugtime` may."""
        self._offset_s += seconds

    def pause(self) -> None:
        """Let time stand still. Doing so twice is harmless."""
        if self._paused_at is None:
            self._paused_at = (self._base.monotonic(), self._base.realtime())

    def resume(self) -> None:
        """Let time go on from where it was paused."""
        if self._paused_at is not None:
            self._offset_s += self._paused_at[0] - self._base.monotonic()
            self._paused_at = None
