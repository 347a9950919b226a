"""What must be stopped, and what becomes of it if nobody does that.

It ends with the object that stands for it, or else with the process, and says so by a
`ResourceWarning`, as a file does that nobody has closed.
"""

from __future__ import annotations

import atexit
import os
import sys
import warnings
import weakref
from typing import NoReturn

from .findings import Place, caller

#: Those that run, in this process or in the one that it was forked from.
_living: weakref.WeakSet[Life] = weakref.WeakSet()


class Life:
    """Base of what is started and stopped."""

    _begun: tuple[int, Place] | None = None

    def stop(self) -> None:
        """End it. Doing so twice is harmless."""
        raise NotImplementedError

    def _begin(self) -> None:
        """Take note that it is to be stopped from now on."""
        self._begun = os.getpid(), caller()
        _living.add(self)

    def _over(self) -> None:
        """Take note that it is stopped."""
        self._begun = None
        _living.discard(self)

    def __reduce__(self) -> NoReturn:
        kind = type(self).__name__
        raise TypeError(
            f"a {kind} cannot be copied, or sent to another process: it is this one that stops it;"
            " hand on the address, which is all that a client needs"
        )

    def __del__(self) -> None:
        if self._begun is not None and not sys.is_finalizing():
            self._end_unasked()

    def _end_unasked(self) -> None:
        if self._begun is None:
            return
        process, place = self._begun
        self._begun = None
        if process != os.getpid():
            return  # a forked child's copy
        try:
            self.stop()
        finally:
            kind = type(self).__name__
            warnings.warn(
                f"the {kind} that was started at {place} was never stopped;"
                f" write `with {kind}() as ...:`, or stop() it",
                ResourceWarning,
                source=self,
                stacklevel=3,
            )


def _end_all() -> None:
    for life in list(_living):
        life._end_unasked()


# While their threads still run: what ends later finds them stopped in their tracks.
atexit.register(_end_all)
