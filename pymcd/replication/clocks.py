"""Clocks of a group: none is trusted to be right, and no wall clock to go on as it did.

A wall clock steps: by hand, by NTP, when a virtual machine wakes up. What the core needs of time
therefore rests on monotonic clocks, which only run.

*Versions* are given out by `VersionClock`: Unix time as it was at the start, carried on by the
monotonic clock. It follows the wall clock no faster than clocks drift, so that a step moves
nothing, though hosts that are set right now and then do not run apart over the months. Who is
linked keeps up with the one that is ahead: the order of writes on two sides of a partition rests
on that. Who has nothing yet takes over the time of who has.

*Ends* of items, and of flushes that are to come, travel as Unix time by the sender's *item clock*:
that of its cache, whose seconds are counted from a Unix time that never changes. The receiver knows
what that clock shows: each message tells its sender's monotonic time, see `Lease.offset_s`.
"""

from __future__ import annotations

import struct
from math import isfinite
from typing import TYPE_CHECKING, Final

from .frames import FrameError

if TYPE_CHECKING:
    from ..clock import Clock

#: How fast the time of versions follows the wall clock: as the kernel slews its own, and several
#: times what a clock drifts.
SLEW_RATE: Final = 0.0005
#: Between two looks at the wall clock at most so much counts.
LOOK_MAX_S: Final = 60.0
#: The wall clock has stepped if it moved by more than this against the monotonic one.
STEP_MIN_S: Final = 0.1
#: Wall clock in Unix seconds, latest version.
_TIMES: Final = struct.Struct("!dQ")
#: Versions last until 2054. Who begins with a clock beyond 2050 begins there.
_BEGIN_MAX_S: Final = 2_524_608_000.0
VERSIONS_END_S: Final = _BEGIN_MAX_S + 1e8
#: No wall clock shows more.
_UNIX_MAX_S: Final = 1e11


class VersionClock:
    """Unix time for versions: it only runs."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._looked_at = clock.monotonic()
        self._wall_s = clock.realtime() - self._looked_at
        #: What it showed when the monotonic clock showed 0.
        self.origin_s = min(clock.realtime(), _BEGIN_MAX_S) - self._looked_at
        self.steps = 0  #: of the wall clock

    def now(self) -> float:
        """Return Unix seconds."""
        return self._clock.monotonic() + self.origin_s

    def look(self) -> float:
        """Follow the wall clock a little; return by how much that has stepped, or 0."""
        clock = self._clock
        now = clock.monotonic()
        wall_s = clock.realtime() - now
        if clock.monotonic() - now >= STEP_MIN_S / 2:
            return 0.0  # we stood still between: that tells nothing
        step_s = wall_s - self._wall_s
        self._wall_s = wall_s
        most_s = min(now - self._looked_at, LOOK_MAX_S) * SLEW_RATE
        self._looked_at = now
        self.origin_s += max(-most_s, min(most_s, wall_s - self.origin_s))
        if abs(step_s) < STEP_MIN_S:
            return 0.0
        self.steps += 1
        return step_s

    def keep_up(self, unix_s: float) -> None:
        """Show that time at least."""
        self.origin_s = max(self.origin_s, unix_s - self._clock.monotonic())

    def take_over(self, unix_s: float) -> None:
        """Show that time."""
        self.origin_s = unix_s - self._clock.monotonic()


class PeerClocks:
    """What a peer's clocks show, for what its monotonic one shows."""

    def __init__(self) -> None:
        self.wall_s = 0.0  #: its wall clock, when its monotonic one showed 0, in Unix time
        self.item_s = 0.0  #: ... the clock of its items
        self.says_wall = False  #: else we go by its items'
        #: The time of its versions, when *our* monotonic clock showed 0; 0: it has told of none.
        self.version_s = 0.0

    def note_items(self, time: float, unix_s: float) -> None:
        """Learn what the clock of its items showed at a time of its monotonic one."""
        self.item_s = unix_s - time
        if not self.says_wall:
            self.wall_s = self.item_s

    def note_wall(self, time: float, unix_s: float) -> None:
        """Learn what its wall clock showed at a time of its monotonic one."""
        self.wall_s = unix_s - time
        self.says_wall = True

    def note_version(self, now: float, unix_s: float) -> None:
        """Learn of which time its latest version is, now that our monotonic clock shows that."""
        self.version_s = unix_s - now


def encode_times(wall_s: float, version: int) -> bytes:
    """Return the payload of a PING."""
    return _TIMES.pack(wall_s, version)


def decode_times(payload: bytes) -> tuple[float, int] | None:
    """Return wall clock and latest version; None: the sender does not say them yet."""
    if len(payload) < _TIMES.size:
        return None
    wall_s, version = _TIMES.unpack_from(payload)
    if not (isfinite(wall_s) and abs(wall_s) < _UNIX_MAX_S):
        raise FrameError("a time that no clock shows")
    return wall_s, version
