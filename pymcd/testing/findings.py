"""What makes a test worthless though it passes: how it is noted, and told when the test is over.

A server gathers such things while a test runs, in its own thread or process, and they are told
together when the test is over: what happens inside the server cannot fail a test by itself.
"""

from __future__ import annotations

import os
import pickle
import sys
import traceback
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable

_PACKAGE = str(Path(__file__).parent) + os.sep


class VerifyError(AssertionError):
    """Raised by `verify()`: the test has not tested what it says, though nothing else failed.

    An exception that a function given to `.reply()` has raised is its `__cause__`.

    >>> from pymcd.testing import MemcachedServer, VerifyError
    >>> try:
    ...     with MemcachedServer() as server:
    ...         fault = server.fault(command="get", times=1).drop()
    ... except VerifyError as error:
    ...     print(str(error).partition(" at ")[0])
    fault(command='get', times=1).drop()
    """


class FaultWarning(UserWarning):
    """Warned of by `verify()`: a fault that looks as if it was not what was meant.

    >>> import warnings
    >>> from pymcd.testing import FaultWarning, MemcachedServer
    >>> with warnings.catch_warnings(record=True) as caught:
    ...     warnings.simplefilter("always")
    ...     with MemcachedServer() as server:
    ...         builder = server.fault(command="get")
    >>> caught[0].category is FaultWarning
    True
    """


class ClockWarning(UserWarning):
    """Warned of by `verify()`: an item does not end when its program has meant, by its own clock.

    >>> import time, warnings
    >>> from pymcd.testing import ClockWarning, MemcachedServer
    >>> from pymemcache import Client
    >>> day = 24 * 60 * 60
    >>> with warnings.catch_warnings(record=True) as caught:
    ...     warnings.simplefilter("always")
    ...     with MemcachedServer() as server:
    ...         server.advance(40 * day)
    ...         client = Client(server.address)
    ...         client.set("a", "1", expire=int(time.time()) + 31 * day, noreply=False)
    ...         client.get("a") is None
    ...         client.close()
    True
    True
    >>> caught[0].category is ClockWarning
    True
    """


class Place(NamedTuple):
    """A line of a test."""

    path: str
    line: int

    def __str__(self) -> str:
        return f"{os.path.relpath(self.path)}:{self.line}"


def caller() -> Place:
    """Return the line of the test that has called this package."""
    frame = sys._getframe(1)
    while frame.f_back is not None and frame.f_code.co_filename.startswith(_PACKAGE):
        frame = frame.f_back
    return Place(frame.f_code.co_filename, frame.f_lineno)


@dataclass(slots=True)
class Finding:
    """One thing that is wrong with a test."""

    text: str
    place: Place | None  #: None: where the test asks for findings
    error: BaseException | None = None  #: what was raised
    #: Only warned of, in this category.
    harmless: bool = False
    category: type[UserWarning] = FaultWarning

    def __reduce__(self) -> tuple[type[Finding], tuple[object, ...]]:
        # On its way out of another process.
        error = _portable(self.error)
        return Finding, (self.text, self.place, error, self.harmless, self.category)


def sendable(error: BaseException) -> BaseException:
    """Return an exception as another process has it, or one that says the same."""
    try:
        copied: BaseException = pickle.loads(pickle.dumps(error))
    except Exception:  # of whoever made that class
        copied = RuntimeError(in_a_line(error))
    return copied


def _portable(error: BaseException | None) -> BaseException | None:
    """Return an exception that another process can have; its traceback becomes a note."""
    if error is None:
        return None
    story = "".join(traceback.format_exception(error)).rstrip()
    copied = sendable(error)
    copied.add_note(f"in the server's process:\n{story}")
    return copied


def in_a_line(error: BaseException) -> str:
    """Return kind and words of an exception."""
    words = " ".join(str(error).split())
    return f"{type(error).__name__}: {words}" if words else type(error).__name__


def tell(findings: Iterable[Finding]) -> None:
    """Raise all that is wrong together; warn if it is harmless."""
    __tracebackhide__ = True
    found = list(findings)
    grave = [finding for finding in found if not finding.harmless]
    if not grave:
        _warn(found)
        return
    errors = [finding.error for finding in grave if finding.error is not None]
    cause = errors[0] if len(errors) == 1 else None
    if len(errors) > 1:
        cause = BaseExceptionGroup("raised by functions given to faults", errors)
    raise VerifyError(describe([*grave, *(each for each in found if each.harmless)])) from cause


def describe(findings: list[Finding]) -> str:
    """Return the texts of findings; of several, one below the other."""
    if len(findings) == 1:
        return findings[0].text
    return "\n".join(f"{number}. {each.text}" for number, each in enumerate(findings, 1))


def _warn(findings: list[Finding]) -> None:
    raised: list[UserWarning] = []
    for finding in findings:
        path, line = finding.place or caller()
        try:
            # There, where the test says what was not meant.
            warnings.warn_explicit(finding.text, finding.category, path, line)
        except UserWarning as warning:  # by the test's filters
            raised.append(warning)
    if raised:
        raise raised[0] if len(raised) == 1 else type(raised[0])("\n".join(map(str, raised)))
