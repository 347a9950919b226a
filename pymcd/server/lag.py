"""How late the event loop is: looked at while somebody asks for metrics, else never.

A look is due every `LOOK_EVERY_S`; how much later it comes is what a client may have waited beside
the work for its own command. When nobody has asked for `ASKED_S`, looks end.
"""

from __future__ import annotations

from bisect import bisect_left
from math import inf
from typing import TYPE_CHECKING, Any, Final

from ..web.metrics import LAG_BOUNDS_S
from .maintenance import Chore

if TYPE_CHECKING:
    from ..clock import Clock

LOOK_EVERY_S: Final = 0.25
#: Longer than between two questions of whoever asks for metrics.
ASKED_S: Final = 300.0
#: As late as a node of a pair counts as standing still.
STALL_S: Final = 0.25


class Lag:
    """What is known of the event loop of one server."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._asked_at = -inf
        self._due_at = inf
        self._counts = [0] * (len(LAG_BOUNDS_S) + 1)  #: by the least bound that is not exceeded
        self._sum_s = 0.0
        self._stalls = 0
        self._stalled_s = 0.0
        self.looking = Chore(self._look)

    def asked(self) -> None:
        """Look for a while: somebody asks."""
        self._asked_at = self._clock.monotonic()
        self.looking.rouse()

    def _look(self) -> float:
        now = self._clock.monotonic()
        if self._due_at < inf:
            late_s = max(0.0, now - self._due_at)
            self._counts[bisect_left(LAG_BOUNDS_S, late_s)] += 1
            self._sum_s += late_s
            if late_s >= STALL_S:
                self._stalls += 1
                self._stalled_s += late_s
        if now - self._asked_at > ASKED_S:
            self._due_at = inf
            return inf
        self._due_at = now + LOOK_EVERY_S
        return LOOK_EVERY_S

    def rows(self) -> dict[str, Any]:
        """Return what `web.metrics` reads."""
        rows: dict[str, Any] = {}
        total = 0
        for bound, count in zip((*LAG_BOUNDS_S, "+Inf"), self._counts, strict=True):
            total += count
            rows[f"loop_lag_le_{bound}"] = total
        rows["loop_lag_sum"] = round(self._sum_s, 6)
        rows["loop_stalls"] = self._stalls
        rows["loop_stalled_s"] = round(self._stalled_s, 6)
        return rows
