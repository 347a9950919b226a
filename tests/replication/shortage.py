"""No memory, just when something is sent: one of the lines that make a message raises.

Any of them may, as each makes something. They are found by the functions that they are in; in those
that deal with such an error themselves it is the lines for which they do.
"""

from __future__ import annotations

import inspect
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

from pymcd.replication import frames, records
from pymcd.replication.changes import Changes
from pymcd.replication.gate import Gate
from pymcd.replication.membership import Membership
from pymcd.replication.peer import Peer
from pymcd.replication.resync import Resync

if TYPE_CHECKING:
    from collections.abc import Container, Iterator
    from types import CodeType, FrameType, FunctionType

_FUNCTIONS: Final[list[Any]] = [
    Changes.take_fresh,
    Changes.record_of,
    Changes.flush_records,
    Changes.tell_dropped,
    Gate.execute_for,
    Gate.send_changes,
    Gate._encode_batch,
    Gate._encode_executed,
    Gate._send_forwards,
    Gate._send_results,
    Membership._tell_dropped,
    Peer.send,
    Peer._send_parts,
    Peer._queue_part,
    Peer._send_value,
    Peer._send_waiting,
    Peer._send_slice,
    Peer.encode_executed,
    Peer.join_records,
    Peer.join_results,
    Peer.encode_forward,
    Resync.next_slice,
    frames.encode_message,
    records.encode_batch,
    records.encode_executed,
    records.encode_flush,
    records.encode_forward,
    records.encode_gone,
    records.encode_result,
]


def _lines_of(function: FunctionType) -> range:
    """Return the lines of a function in which it may fail."""
    lines, first = inspect.getsourcelines(function)
    stripped = [line.strip() for line in lines]
    start, end = 0, len(lines)
    if "except Exception as error:" in stripped:
        start, end = stripped.index("try:"), stripped.index("except Exception as error:")
    return range(first + start + 1, first + end)


_LINES: Final[dict[CodeType, range]] = {each.__code__: _lines_of(each) for each in _FUNCTIONS}
# What comes before that must not go wrong, else: only here it may.
_CAUGHT: Final = _LINES[Gate.execute_for.__code__]
_LINES[Gate.execute_for.__code__] = range(
    Gate.execute_for.__code__.co_firstlineno + 1, _CAUGHT.stop
)


@contextmanager
def shortage(
    lines: int, error: Exception, codes: Container[CodeType] = _LINES.keys()
) -> Iterator[list[str]]:
    """Raise an error before one of the next lines that send; yields where it was, if it was.

    `codes`: of the functions in which it may be.
    """
    left = lines
    happened: list[str] = []

    def line(frame: FrameType, event: str, _: Any) -> Any:
        nonlocal left
        if event == "line" and left >= 0 and frame.f_lineno in _LINES[frame.f_code]:
            left -= 1
            if left < 0:
                happened.append(f"{frame.f_code.co_qualname}:{frame.f_lineno}")
                raise error  # which ends the tracing, too
        return line

    def call(frame: FrameType, *_: Any) -> Any:
        return line if frame.f_code in codes and left >= 0 else None

    before = sys.gettrace()
    sys.settrace(call)
    try:
        yield happened
    finally:
        sys.settrace(before)
