"""The command of every suite of trials with pairs: all take `--experiment`, some `--way`."""

from __future__ import annotations

import shlex
from functools import wraps
from typing import TYPE_CHECKING

from conformance import trial

from .nodes import Pair
from .ways import TEXT, WAYS

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Mapping, Sequence

    from conformance.trial import Run


def _in_ways(trial: Callable[[Run], None], chosen: Sequence[str]) -> Callable[[Run], None]:
    """Return a trial that is done in each of the ways that are chosen by then."""

    @wraps(trial)
    def act(run: Run) -> None:
        for name in chosen:
            Pair.usual_way = WAYS[name]
            run.where = f"{name}: " if len(chosen) > 1 else ""
            trial(run)

    return act


def main(
    prog: str,
    description: str,
    trials: Mapping[str, Callable[[trial.Run], None]],
    add_options: Callable[[argparse.ArgumentParser], None] = lambda _: None,
    take_options: Callable[[argparse.Namespace], None] = lambda _: None,
    ways: Sequence[str] = (),
) -> int:
    """Do what `conformance.trial.main` does, with further options for the nodes of all pairs.

    `ways`: those in which the clients of these trials can come in, if there is a choice.
    """
    chosen: list[str] = []

    def add(parser: argparse.ArgumentParser) -> None:
        parser.add_argument(
            "--experiment",
            default="",
            metavar="OPTIONS",
            help="more options for all nodes: with '--replication-ack async', what is lost?",
        )
        if ways:
            parser.add_argument(
                "--way",
                default=TEXT.name,
                choices=[*ways, "all"],
                help="how clients come in: protocol, login, TLS, socket",
            )
        add_options(parser)

    def take(options: argparse.Namespace) -> None:
        Pair.experiment = shlex.split(options.experiment)
        if ways:
            chosen.extend(ways if options.way == "all" else [options.way])
        take_options(options)

    if ways:
        trials = {name: _in_ways(act, chosen) for name, act in trials.items()}
    return trial.main(prog, description, trials, add, take)
