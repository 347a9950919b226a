"""The command of every suite of trials with pairs: all take `--experiment`."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

from conformance import trial

from .nodes import Pair

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Mapping


def main(
    prog: str,
    description: str,
    trials: Mapping[str, Callable[[trial.Run], None]],
    add_options: Callable[[argparse.ArgumentParser], None] = lambda _: None,
    take_options: Callable[[argparse.Namespace], None] = lambda _: None,
) -> int:
    """Do what `conformance.trial.main` does, with further options for the nodes of all pairs."""

    def add(parser: argparse.ArgumentParser) -> None:
        parser.add_argument(
            "--experiment",
            default="",
            metavar="OPTIONS",
            help="more options for all nodes: with '--replication-ack async', what is lost?",
        )
        add_options(parser)

    def take(options: argparse.Namespace) -> None:
        Pair.experiment = shlex.split(options.experiment)
        take_options(options)

    return trial.main(prog, description, trials, add, take)
