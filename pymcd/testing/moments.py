"""Moments: when items shall end, in Unix time by a client's clock, where a server has another.

# protocol.txt, "Expiration times": what is beyond 30 days is a moment, of 32 bits.

An item may so end at once, or earlier or later than its program has meant. The first is seen when
the moment comes; the others only by who asks for the item in between.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from ..limits import EXPTIME_RELATIVE_MAX_S
from .clocks import shown_time

if TYPE_CHECKING:
    from .calls import Call
    from .clocks import FakeClock

#: What is to be done.
_FOLLOW: Final = 'have both follow one clock, by clock="host" and freezegun or time-machine'
_FOLLOW_TOO: Final = (
    "move both by freezegun or time-machine, as advance() moves nothing but the server"
)
#: Clocks that differ by less are one that goes on meanwhile.
_APART_S: Final = 60.0
_KEYS_MAX: Final = 1000


class Moments:
    """What clients of one server have said of them."""

    def __init__(self, clock: FakeClock) -> None:
        self._clock = clock
        #: By key: when the item ends here, and when its program has meant it to.
        self._ends: dict[bytes, tuple[int, float]] = {}

    def see(self, call: Call) -> str | None:
        """Return what is wrong with the moment of a command, or with that of what it asks for."""
        ends_at = call.ttl or 0
        is_moment = abs(ends_at) > EXPTIME_RELATIVE_MAX_S
        if not is_moment and not self._ends:
            return None  # as nearly all are
        now = self._clock.realtime()
        text = self._look_back(call, now)
        if not is_moment:
            return text
        shown_s = shown_time()
        if shown_s is None:
            return text
        if ends_at < 0:
            ends_at += 1 << 32  # as it was sent
            if shown_s < ends_at:
                text = (
                    f"{call} ends at once: a moment beyond 19 January 2038 ({ends_at}) is a"
                    " negative number to memcached; have the program's time be an earlier one"
                )
        elif shown_s < ends_at <= now:
            text = (
                f"{call} ends at once: more than 30 days are sent as a moment ({ends_at}), which is"
                f" past by this server's clock, and not by the program's; {self._instead}"
            )
        elif now < ends_at and abs(now - shown_s) > _APART_S:
            for key in call.keys:
                self._ends[key] = ends_at, ends_at + now - shown_s
            while len(self._ends) > _KEYS_MAX:
                del self._ends[next(iter(self._ends))]
        return text

    def _look_back(self, call: Call, now: float) -> str | None:
        """Return what is wrong with an item that a command asks for."""
        text = None
        for key in call.keys:
            ends_at, meant_at = self._ends.get(key, (0, 0.0))
            if "reads" in call.names and min(ends_at, meant_at) <= now < max(ends_at, meant_at):
                text = (
                    f"{call}: the item {'has ended' if ends_at < meant_at else 'ends'}"
                    f" {abs(meant_at - ends_at):.0f} s"
                    f" {'earlier' if ends_at < meant_at else 'later'} than its program has meant:"
                    f" more than 30 days are sent as a moment ({ends_at}), and the program had"
                    f" another time than this server; {self._instead}"
                )
            if "writes" in call.names:
                self._ends.pop(key, None)
        return text

    @property
    def _instead(self) -> str:
        return _FOLLOW_TOO if self._clock.follows else _FOLLOW
