"""What a fault may do to a call: an `Action`, and the functions that make one.

Each says what is wrong with its arguments. `FaultBuilder` has a method for each of them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal

from .checks import flag, is_number, is_whole

if TYPE_CHECKING:
    from collections.abc import Callable

    from .calls import Call

Kind = Literal["delay", "stall", "drop", "reset", "reply", "truncate", "garbage", "out_of_memory"]

GARBAGE_BYTES: Final = 64
_SHOWN_BYTES: Final = 40


@dataclass(frozen=True, slots=True)
class Action:
    """What a fault does."""

    kind: Kind
    text: str  #: as a test writes it
    seconds: float = 0.0
    reply: Any = b""
    size: int = 0
    executed: bool = False


def delay(seconds: float) -> Action:
    """Execute and answer so many seconds later."""
    if not is_number(seconds):
        raise TypeError(f"delay({seconds!r}): write a number of seconds, as in delay(5)")
    if not 0 <= seconds < float("inf"):
        instead = "; for ever is `.stall()`" if seconds == float("inf") else ""
        raise ValueError(f"delay({seconds!r}): that takes seconds, 0 or more{instead}")
    return Action("delay", f"delay({seconds:g})", seconds=float(seconds))


def stall() -> Action:
    """Do not answer, as long as the fault is there."""
    return Action("stall", "stall()")


def drop(*, executed: bool = False) -> Action:
    """Close the connection instead of an answer."""
    return Action("drop", f"drop({_executed(executed)})", executed=executed)


def reset(*, executed: bool = False) -> Action:
    """Reset the connection instead of an answer."""
    return Action("reset", f"reset({_executed(executed)})", executed=executed)


def reply(reply: bytes | Callable[[Call], bytes]) -> Action:
    """Answer this instead of executing."""
    if not isinstance(reply, bytes) and not callable(reply):
        raise TypeError(
            f"reply() takes bytes or a function of the call, not {reply!r};"
            ' write b"SERVER_ERROR busy\\r\\n"'
        )
    return Action("reply", f"reply({_shown(reply)})", reply=reply)


def truncate(size: int) -> Action:
    """Execute, send only the first bytes of the answer, and close."""
    if not is_whole(size) or size < 0:
        raise ValueError(f"truncate() takes how many bytes to send, 0 or more, not {size!r}")
    return Action("truncate", f"truncate({size})", size=size)


def garbage(size: int = GARBAGE_BYTES) -> Action:
    """Execute, and send random bytes and a line end for an answer."""
    if not is_whole(size) or size < 1:
        raise ValueError(f"garbage() takes how many bytes to send, 1 or more, not {size!r}")
    return Action("garbage", f"garbage({size})", size=size)


def out_of_memory() -> Action:
    """Have the server find no memory."""
    return Action("out_of_memory", "out_of_memory()")


def _executed(executed: bool) -> str:
    flag("executed", executed)
    return "executed=True" if executed else ""


def _shown(reply: Any) -> str:
    if not isinstance(reply, bytes):
        return getattr(reply, "__name__", None) or repr(reply)
    return repr(reply) if len(reply) <= _SHOWN_BYTES else f"{reply[:_SHOWN_BYTES]!r}..."
