"""Whether the machine stood still for a process that wanted to run.

A wait has two causes: the servers, or a machine on which others have the CPUs. A process that does
nothing but wake is late by as much as a server's would be at that moment; what it tells of a wait
is the part that no server is to blame for.
"""

from __future__ import annotations

import contextlib
import subprocess
import sys
import threading
from typing import Self

#: How late is late: less is what any waking takes.
LATE_S = 0.004
_WAKE = """
import sys, time
slept = float(sys.argv[1])
while True:
    began = time.monotonic()
    time.sleep(0.002)
    woke = time.monotonic()
    if woke - began - 0.002 > slept:
        print(began + 0.002, woke, flush=True)
"""


class Probe:
    """A process that wakes all the time. A context manager."""

    def __init__(self) -> None:
        self._late: list[tuple[float, float]] = []

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(
            [sys.executable, "-S", "-c", _WAKE, str(LATE_S)], stdout=subprocess.PIPE, text=True
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._process.kill()
        self._process.wait()
        self._reader.join()

    def _read(self) -> None:
        assert self._process.stdout is not None
        with self._process.stdout as lines, contextlib.suppress(ValueError):
            for line in lines:
                began, woke = line.split()
                self._late.append((float(began), float(woke)))

    def late_s(self, since_s: float, till_s: float) -> float:
        """Return for how long of a time of the monotonic clock it could not run."""
        return sum(
            max(0.0, min(till_s, woke) - max(since_s, began)) for began, woke in list(self._late)
        )
