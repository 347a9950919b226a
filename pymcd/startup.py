"""What a process does first of all: it hears signals, has descriptors 0 to 2, and waits for nobody.

Before anything else is loaded, which takes longer than some supervisors wait: process 1 of a
container is not even sent a signal that it does not hear, and whoever opens a file while standard
error is closed becomes standard error. So this imports next to nothing, not even `typing`.

Three stages. Until there is something to put away, a signal that ends a server ends it at once,
and with success: it was told to. From `keep` on they wait for who takes them. When all is put away,
none of them matters any more.
"""

from __future__ import annotations

import os
import signal
import stat
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any, Final

#: What a server obeys.
WANTED: Final = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGHUP)

_STDERR: Final = 2

#: How much PyPy's collector does at a time. What it reads of its environment at its start is all
#: that can be said to it: `gc.collect_step` makes just as large a step. By itself it marks twice as
#: much as there may be young objects, 8 MB and, where the processor has a large cache, far more:
#: that is 20 to 30 ms without an answer, and 5 to 6 ms with these.
PYPY_COLLECTOR: Final = {"PYPY_GC_NURSERY": "4MB", "PYPY_GC_INCREMENT_STEP": "1MB"}


class Signals:
    """The signals that this process was sent. From the main thread alone."""

    def __init__(self) -> None:
        self._old: dict[int, Any] = {}
        self._kept: list[int] | None = None
        self._tell: Callable[[], object] | None = None

    def hear(self) -> None:
        """Take charge of them; doing so twice is harmless."""
        for number in WANTED:
            self._old.setdefault(number, signal.signal(number, self._on_signal))

    def _on_signal(self, number: int, frame: object) -> None:
        if self._kept is not None:
            self._kept.append(number)
            if self._tell is not None:
                self._tell()
        elif number != signal.SIGHUP:  # nothing was read yet that could be read again
            os._exit(0)

    def keep(self) -> None:
        """Have them wait from now on: there is something to put away at the end."""
        if self._kept is None:
            self._kept = []

    def attach(self, tell: Callable[[], object]) -> None:
        """Call `tell`, which must be safe in a handler, when there is one to take; perhaps now."""
        self._tell = tell
        if self._kept:
            tell()

    def take(self) -> list[int]:
        """Return those that came since."""
        kept, self._kept = self._kept or [], []
        return kept

    def ignore(self) -> None:
        """Hear no more: the process is about to end by itself."""
        for number in WANTED:
            signal.signal(number, signal.SIG_IGN)

    def release(self) -> None:
        """Let them do what they did before."""
        for number, handler in self._old.items():
            signal.signal(number, handler)
        self._old.clear()


def open_standard_descriptors() -> None:
    """Open those of 0, 1 and 2 that whoever started us had closed.

    The next files and sockets would have these numbers: what is meant for standard error would go
    to a client, and a daemon, which gives its own up, would close its listener.
    """
    for fd in range(3):
        try:
            os.fstat(fd)
        except OSError:
            # The lowest number that is free, which is this one.
            try:
                os.open(os.devnull, os.O_RDWR)
            except OSError:
                os.open("/", os.O_RDONLY)  # of use to nobody, but open
            os.set_inheritable(fd, True)
    if sys.stdin is None:
        sys.stdin = os.fdopen(0, closefd=False)
    if sys.stdout is None:
        sys.stdout = os.fdopen(1, "w", closefd=False)
    if sys.stderr is None:
        sys.stderr = os.fdopen(2, "w", errors="backslashreplace", closefd=False)


def own_stderr() -> None:
    """Make standard error a descriptor that is ours alone and never blocks, where that is possible.

    For the process of a server, and all that it writes there. What it leads to stays the same, and
    so does that descriptor for others who have it: they may rely on its blocking.
    """
    flags = os.O_WRONLY | os.O_APPEND | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
    try:
        kind = os.fstat(_STDERR).st_mode
        if not (stat.S_ISFIFO(kind) or stat.S_ISCHR(kind)):
            return  # a file never blocks; a socket cannot be opened
        own = os.open(f"/proc/self/fd/{_STDERR}", flags)
    except OSError:
        return
    os.dup2(own, _STDERR)
    os.close(own)


def restart_with_short_collections(
    execute: Callable[[str, list[str], Mapping[str, str]], object] = os.execve,
) -> None:
    """On PyPy, become the same process anew, with a collector that works in short steps.

    Nothing may have been opened or said yet. Who has set one of them is left alone; so is a process
    that was restarted.
    """
    if sys.implementation.name != "pypy" or not os.environ.keys().isdisjoint(PYPY_COLLECTOR):
        return
    try:
        execute(sys.executable, sys.orig_argv, os.environ | PYPY_COLLECTOR)
    except OSError:
        pass  # slower answers are better than none
