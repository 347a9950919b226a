"""How a server is asked to store items, and what it says to that: by meta commands."""

from __future__ import annotations

import math
from enum import StrEnum
from typing import TYPE_CHECKING, Final

from .. import limits
from .talk import Input, is_speakable, key_words, refusal

if TYPE_CHECKING:
    from .dumpfile import Record
    from .talk import Talk


class Outcome(StrEnum):
    """What became of an item."""

    STORED = "stored"
    THERE = "there already"
    OVER = "at their end already"
    TOO_LARGE = "too large for the target"
    UNSPEAKABLE = "with keys that text cannot say"


_OUTCOMES: Final = (
    (b"HD", Outcome.STORED),
    (b"NS", Outcome.THERE),
    (b"SERVER_ERROR object too large", Outcome.TOO_LARGE),
)


def exptime_of(unix_end: int, now: float) -> int:
    """Return how a client says when an item ends, by what is left: clocks need not agree."""
    # protocol.txt, "Expiration times"
    if not unix_end:
        return 0
    left = math.ceil(unix_end - now)
    return left if left <= limits.EXPTIME_RELATIVE_MAX_S else min(unix_end, limits.INT32_MAX)


def store(
    records: list[Record], now: float, outcomes: list[Outcome], *, overwrite: bool
) -> Talk[None]:
    """Have items stored; without `overwrite` only those that are not there.

    `outcomes` receives what became of each, in order, and may end early if the talk does.
    """
    pieces: list[bytes] = []
    known: list[Outcome | None] = []
    mode = b"" if overwrite else b" ME"  # protocol.txt, "Meta Set": E is add
    for key, value, client_flags, unix_end in records:
        if unix_end and unix_end <= now:
            known.append(Outcome.OVER)
        elif not is_speakable(key):
            known.append(Outcome.UNSPEAKABLE)
        else:
            known.append(None)
            word, flag = key_words(key)
            head = (word, len(value), flag, exptime_of(unix_end, now), client_flags, mode)
            pieces += (b"ms %b %d%b T%d F%d%b\r\n" % head, value, b"\r\n")
    came = Input()
    question = b"".join(pieces)
    for outcome in known:
        if outcome is None:
            line = yield from (came.ask(question) if question else came.line())
            question = b""
            outcome = next((each for word, each in _OUTCOMES if line.startswith(word)), None)
            if outcome is None:
                raise refusal(line)
        outcomes.append(outcome)
