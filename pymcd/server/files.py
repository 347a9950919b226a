"""Files that are read again when they have changed, and only then."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

#: A file system's clock ticks at least as often: the kernel's own, of 1 to 10 ms.
FILE_CLOCK_NS: Final = 20_000_000

State = tuple[tuple[int, ...] | None, ...]


def state_of(*paths: str, realtime_ns: Callable[[], int] = time.time_ns) -> State | None:
    """Return what differs when one of these files has changed; None: that cannot be told.

    To be taken before they are read. Of two changes within a tick of the file system's clock the
    second does not show, so that of what has just changed nothing can be said.
    """
    states: list[tuple[int, ...] | None] = []
    now_ns = realtime_ns()
    for path in paths:
        try:
            status = os.stat(path)
        except OSError:
            states.append(None)
            continue
        changed_ns = max(status.st_mtime_ns, status.st_ctime_ns)
        if abs(now_ns - changed_ns) < FILE_CLOCK_NS:
            return None
        names = (status.st_dev, status.st_ino)
        states.append((*names, status.st_size, status.st_mtime_ns, status.st_ctime_ns))
    return tuple(states)
