"""The tool `pymcd replication HOST[:PORT]...`: how a group of servers is doing, for a person."""

from __future__ import annotations

import sys

from ..config import EXIT_USAGE


def replication(words: list[str]) -> int:
    """Print the state of the servers at these addresses; return the exit code."""
    print("pymcd replication: not there yet", file=sys.stderr)  # noqa: T201
    return EXIT_USAGE
