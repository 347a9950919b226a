"""Time in tests."""

from __future__ import annotations


class ManualClock:
    """A clock that stands still until it is moved."""

    def __init__(self, realtime_s: float = 1_700_000_000.0) -> None:
        self._monotonic_s = 1_000.0
        self._realtime_s = realtime_s

    def monotonic(self) -> float:
        return self._monotonic_s

    def realtime(self) -> float:
        return self._realtime_s

    def advance(self, seconds: float) -> None:
        """Move both clocks forward by `seconds`; negative values raise ValueError."""
        if seconds < 0:
            raise ValueError(f"a clock cannot go back: advance({seconds!r})")
        self._monotonic_s += seconds
        self._realtime_s += seconds
