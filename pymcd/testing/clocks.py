"""The clocks of fakes, and what goes by a clock that no test can replace.

Tests move time for their program: freezegun puts functions of its own wherever a module holds one
of `time`, time-machine changes these functions themselves. Both leave CLOCK_MONOTONIC alone, and
time-machine says what it replaced. Deadlines, event loops and servers with the clock "real" or
"frozen" go by that.

A server with the clock "host" has the Unix time that its process shows, replaced or not, and it may
go back. It is looked at before each command and before a test asks for anything, never in between:
so whatever happens to an item does not depend on how fast anything was.
"""

from __future__ import annotations

import sys
import time
from math import isfinite
from typing import TYPE_CHECKING, Any

from ..clock import OffsetClock
from .checks import is_number

if TYPE_CHECKING:
    from ..clock import Clock

if hasattr(time, "clock_gettime"):

    def monotonic() -> float:
        """Return seconds that pass as they do for everybody."""
        return time.clock_gettime(time.CLOCK_MONOTONIC)

    def realtime() -> float:
        """Return the Unix time that it is outside of any test."""
        escape: Any = getattr(sys.modules.get("time_machine"), "escape_hatch", None)
        now = time.clock_gettime(time.CLOCK_REALTIME)
        if escape is not None:
            # Asked afterwards: another thread may just have begun to travel.
            try:
                now = escape.time.clock_gettime(time.CLOCK_REALTIME)
            except ValueError:
                pass  # nobody travels
        return now

else:  # Windows, where no server runs, but `plan` and `server` can be imported
    from time import monotonic
    from time import time as realtime


def shown_time() -> float | None:
    """Return the Unix time that this process shows its program; None: that is no time.

    A test may have put anything in its place: a mock that was not told what to return, or that has
    returned all that it had.
    """
    try:
        shown: object = time.time()  # found by its name, each time: that is how it is replaced
    except Exception:
        return None
    return float(shown) if is_number(shown) and isfinite(shown) else None  # type: ignore[arg-type]


class RealClock:
    """What `SystemClock` shows while nobody has replaced it."""

    def __init__(self) -> None:
        self.monotonic = monotonic
        self.realtime = realtime


class _HostClock:
    """The Unix time of this process, as it was when it was last looked at."""

    def __init__(self) -> None:
        self._seen_s = realtime()
        self.stood_still = False  #: as no time was shown
        self.look()

    def look(self) -> None:
        shown_s = shown_time()
        if shown_s is None:
            self.stood_still = True
        else:
            self._seen_s = shown_s

    def monotonic(self) -> float:
        return self._seen_s

    def realtime(self) -> float:
        return self._seen_s


class FakeClock(OffsetClock):
    """The clock of one fake, or of both of a pair: "real", "frozen" or "host"."""

    def __init__(self, kind: str, base: Clock | None = None) -> None:
        """`base` is what a real clock goes by."""
        base = base or RealClock()
        self._host = _HostClock() if kind == "host" else None
        super().__init__(self._host or base)
        self.frozen = kind == "frozen"
        if self.frozen:
            self.pause()
        self.advanced_s = 0.0  #: by tests, in all
        self._waiting: OffsetClock = self if self._host is None else OffsetClock(base)

    @property
    def follows(self) -> bool:
        """Whether it shows what the process shows, and may go back."""
        return self._host is not None

    def look(self) -> None:
        """See what time it is by now."""
        if self._host is not None:
            self._host.look()

    def take_stood_still(self) -> bool:
        """Return whether there was nothing to follow since this was asked last."""
        host = self._host
        stood_still = host is not None and host.stood_still
        if host is not None:
            host.stood_still = False
        return stood_still

    def waited(self) -> float:
        """Return seconds by which delays end: with a clock that somebody stops, they must, too."""
        return self._waiting.monotonic()

    def advance(self, seconds: float) -> None:
        """Move time by `seconds`, also for who waits."""
        super().advance(seconds)
        self.advanced_s += seconds
        if self._waiting is not self:
            self._waiting.advance(seconds)
