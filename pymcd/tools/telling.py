"""How tools print: the answer to standard output, what is wrong to standard error."""

from __future__ import annotations

import os
import sys

from ..exits import EXIT_FAILURE


def tell(text: str) -> None:
    """Print lines, unless who reads has seen enough; end the program where they find no room."""
    try:
        print(text, flush=True)  # noqa: T201 - commands print
    except OSError as error:
        # Python must not try again at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if not isinstance(error, BrokenPipeError):
            complain(f"pymcd: standard output: {error.strerror}")
            sys.exit(EXIT_FAILURE)


def complain(text: str) -> None:
    """Write to standard error, if that can be written to."""
    try:
        print(text, file=sys.stderr, flush=True)  # noqa: T201
    except OSError:
        pass
