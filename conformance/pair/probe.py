"""What part of a wait was the machine's: how long servers could run, and had no CPU.

A wait has two causes: the servers, or a machine on which others have the CPUs. Linux counts for
each process how long it was runnable and did not run (`/proc/PID/schedstat`); a probe looks at that
many times a second. Of a time it tells what the worst of them had to wait; or for how long we, who
are the clients, could not look, if that is more. A request that goes from one to the other waits
for each: the machine's part may be more than that, and is never less. There is less of it as those
who are looked at, and we, get a CPU before others do, where that is allowed.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from bisect import bisect_left, bisect_right
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Self

from conformance.servers import favour

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

LOOK_S = 0.005
#: What any waking may take.
LATE_S = 0.005


class Probe:
    """Looks at some servers all the time. A context manager."""

    def __init__(self, pids: Callable[[], Iterable[int]]) -> None:
        """`pids`: those of the servers that run, now."""
        self._pids = pids
        self._favoured: set[int] = set()
        self._seen_s: list[float] = []
        self._waited_ns: list[dict[int, int]] = []  #: by each since it was started, then
        self._over = threading.Event()

    def __enter__(self) -> Self:
        self._before = os.getpriority(os.PRIO_PROCESS, 0)
        favour(os.getpid())
        self._look()
        self._looking = threading.Thread(target=self._run, daemon=True)
        self._looking.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._over.set()
        self._looking.join()
        favour(os.getpid(), self._before)

    def _run(self) -> None:
        while not self._over.wait(LOOK_S):
            self._look()

    def _look(self) -> None:
        now_s = time.monotonic()
        waited_ns: dict[int, int] = {}
        for pid in self._pids():
            if pid not in self._favoured:
                self._favoured.add(pid)
                favour(pid)
            # It may be gone, and not everywhere somebody counts.
            with contextlib.suppress(OSError, IndexError, ValueError):
                waited_ns[pid] = int(Path(f"/proc/{pid}/schedstat").read_text().split()[1])
        self._waited_ns.append(waited_ns)
        self._seen_s.append(now_s)

    def late_s(self, since_s: float, till_s: float) -> float:
        """Return for how long the machine was busy elsewhere, of a time of the monotonic clock."""
        seen_s = self._seen_s[:]
        first = max(bisect_right(seen_s, since_s) - 1, 0)
        last = min(bisect_left(seen_s, till_s), len(seen_s) - 1)
        before, after = self._waited_ns[first], self._waited_ns[last]
        late_s = [(after[pid] - before[pid]) / 1e9 for pid in before.keys() & after.keys()]
        ours_s = sum(
            min(end, till_s) - max(begin, since_s) - LOOK_S
            for begin, end in pairwise(seen_s[first : last + 1])
            if end - begin > LOOK_S + LATE_S
        )
        return max(0.0, min(till_s - since_s, max([ours_s, *late_s])))
