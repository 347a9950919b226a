"""How tools print: the answer to standard output, what is wrong to standard error."""

from __future__ import annotations

import os
import sys


def tell(text: str) -> None:
    """Print lines, unless who reads has seen enough."""
    try:
        print(text, flush=True)  # noqa: T201 - commands print
    except BrokenPipeError:
        # Python must not try again at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def complain(text: str) -> None:
    """Write to standard error, if that can be written to."""
    try:
        print(text, file=sys.stderr, flush=True)  # noqa: T201
    except OSError:
        pass
