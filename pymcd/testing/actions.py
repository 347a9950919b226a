"""What a fault may do to a call: an `Action`, and the functions that make one.

`FaultBuilder` has a method for each. By themselves they are for the steps of a `sequence`, and for
what a function given to `.reply()` returns; there one that needs no argument need not be called:

    from pymcd.testing.actions import delay, ok, reset

    server.fault(command="get").sequence(reset, delay(1), ok)

Each says what is wrong with its arguments.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from random import Random
from typing import Any, Final, Literal

from .calls import Call
from .checks import flag, is_number, is_whole, not_asynchronous

Kind = Literal[
    "ok", "delay", "stall", "drop", "reset", "reply", "server_error", "miss", "truncate", "garbage",
    "out_of_memory", "chunks", "bandwidth", "sequence", "look",
]  # fmt: skip

GARBAGE_BYTES: Final = 64
_SHOWN_BYTES: Final = 40


@dataclass(frozen=True, slots=True)
class Action:
    """What a fault does."""

    kind: Kind
    text: str  #: as a test writes it
    seconds: float | Callable[[Random], float] = 0.0
    seed: int | None = None  #: of what chooses the seconds
    reply: Any = b""  #: or a function; the words of an error
    size: int = 0  #: in bytes; of a bandwidth in a second
    executed: bool = False
    steps: tuple[Action, ...] = ()


#: How long: in seconds, or what chooses them, as `uniform` does.
Seconds = float | timedelta | Callable[[Random], float]
#: An action, or what makes one without being told more.
Step = Action | Callable[[], Action]


@dataclass(frozen=True, slots=True)
class _Uniform:
    low: float
    high: float

    def __call__(self, random: Random) -> float:
        return random.uniform(self.low, self.high)


def uniform(low: float, high: float) -> Callable[[Random], float]:
    """Return what chooses between so many seconds, evenly: for `delay`."""
    if not (is_number(low) and is_number(high) and 0 <= low <= high < float("inf")):
        raise ValueError(
            f"uniform({low!r}, {high!r}): write two numbers of seconds, the lower first"
        )
    return _Uniform(low, high)


def ok() -> Action:
    """Execute and answer as ever."""
    return Action("ok", "ok()")


def delay(seconds: Seconds, *, seed: int | None = None) -> Action:
    """Execute and answer so many seconds later."""
    text = f"delay({_name(seconds)})"
    if isinstance(seconds, timedelta):
        seconds = seconds.total_seconds()
    if callable(seconds):
        not_asynchronous(text, seconds)
        return Action("delay", text, seconds=seconds, seed=seed)
    check_seconds("delay", seconds)
    return Action("delay", f"delay({seconds:g})", seconds=float(seconds))


def check_seconds(name: str, seconds: object) -> None:
    """Say what is wrong with a number of seconds."""
    if not is_number(seconds):
        raise TypeError(f"{name}({seconds!r}): write a number of seconds, as in {name}(5)")
    if not 0 <= seconds < float("inf"):  # type: ignore[operator]
        instead = "; for ever is `.stall()`" if seconds == float("inf") else ""
        raise ValueError(f"{name}({seconds!r}): that takes seconds, 0 or more{instead}")


def stall() -> Action:
    """Do not answer, as long as the fault is there."""
    return Action("stall", "stall()")


def drop(*, executed: bool = False) -> Action:
    """Close the connection instead of an answer."""
    return Action("drop", f"drop({_executed(executed)})", executed=executed)


def reset(*, executed: bool = False) -> Action:
    """Reset the connection instead of an answer."""
    return Action("reset", f"reset({_executed(executed)})", executed=executed)


def reply(reply: bytes | Callable[[Call], bytes | Step]) -> Action:
    """Answer this instead of executing; a function may return another action, too."""
    if not isinstance(reply, bytes) and not callable(reply):
        raise TypeError(
            f"reply() takes bytes or a function of the call, not {reply!r};"
            ' write b"SERVER_ERROR busy\\r\\n"'
        )
    text = f"reply({_name(reply)})"
    not_asynchronous(text, reply)
    return Action("reply", text, reply=reply)


def server_error(words: str = "busy") -> Action:
    """Answer with an error of the server, as the client's protocol has it."""
    if not isinstance(words, str) or not words.strip() or not words.isprintable():
        raise ValueError(f'server_error({words!r}): write a few words, as in server_error("busy")')
    return Action("server_error", f"server_error({words!r})", reply=words.encode())


def miss() -> Action:
    """Execute and answer as if there was no item."""
    return Action("miss", "miss()")


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


def chunks(size: int) -> Action:
    """Send the answer in parts of so many bytes."""
    if not is_whole(size) or size < 1:
        raise ValueError(
            f"chunks() takes how many bytes to send at a time, 1 or more, not {size!r}"
        )
    return Action("chunks", f"chunks({size})", size=size)


def bandwidth(bytes_s: int) -> Action:
    """Send no more than so many bytes of the answer in a second, on the server's clock."""
    if not is_whole(bytes_s) or bytes_s < 1:
        raise ValueError(f"bandwidth() takes bytes in a second, 1 or more, not {bytes_s!r}")
    return Action("bandwidth", f"bandwidth({bytes_s})", size=bytes_s)


def sequence(*steps: Step) -> Action:
    """Do one after the other, each to one call."""
    if not steps:
        raise ValueError("sequence(): write what shall happen, as in sequence(reset, delay(1), ok)")
    made = tuple(as_action(step) for step in steps)
    if any(step.kind == "sequence" for step in made):
        raise ValueError("sequence(): a step is no sequence; write all steps in one")
    return Action("sequence", f"sequence({', '.join(step.text for step in made)})", steps=made)


def look(function: Callable[[Call], object]) -> Action:
    """Have a function see each call, and change nothing."""
    if not callable(function):
        raise TypeError(f"look() takes a function of the call, not {function!r}")
    text = f"look({_name(function)})"
    not_asynchronous(text, function)
    return Action("look", text, reply=function)


def as_action(step: object) -> Action:
    """Return what a step is, or say what is wrong with it."""
    made = step() if callable(step) and not isinstance(step, Action) else step
    if not isinstance(made, Action):
        raise TypeError(
            f"{step!r} is nothing that a fault does; take it from pymcd.testing.actions:"
            " reset, delay(1), ok ..."
        )
    return made


def _executed(executed: bool) -> str:
    flag("executed", executed)
    return "executed=True" if executed else ""


def _name(value: object) -> str:
    if isinstance(value, bytes) and len(value) > _SHOWN_BYTES:
        return f"{value[:_SHOWN_BYTES]!r}..."
    if isinstance(value, _Uniform):
        return f"uniform({value.low:g}, {value.high:g})"
    return getattr(value, "__name__", None) or repr(value)
