"""How far a tool has come: a bar on a terminal, else nothing."""

from __future__ import annotations

import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@contextmanager
def progress(label: str, length: int, *, counted: bool) -> Iterator[Callable[[int], None]]:
    """Show how much of so much is done; what is yielded is told of more.

    `counted`: as numbers, else as a share: those of bytes do not fit into 80 columns.
    """
    if not sys.stderr.isatty():
        yield lambda step: None
        return
    with click.progressbar(
        length=length,
        label=label,
        file=sys.stderr,
        show_pos=counted,
        show_percent=not counted,
        update_min_steps=max(1, length // 200),
    ) as bar:
        yield bar.update
