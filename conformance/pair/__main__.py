"""Run trials and print their figures: `python -m conformance.pair NAME ... [--way WAY]`."""

from __future__ import annotations

import sys
from functools import wraps
from typing import TYPE_CHECKING

from . import histories, lags, locks, losses, namespaces, partitions, resources, strangers
from .command import main
from .nodes import Pair
from .ways import WAYS

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable

    from conformance.trial import Run

TRIALS = {
    "kill": losses.kill,
    "cutkill": losses.cutkill,
    "refill": losses.refill,
    "locks": locks.locks,
    "linear": histories.linear,
    "partition": partitions.partition,
    "deletes": partitions.deletes,
    "freeze": partitions.freeze,
    "lag": lags.lag,
    "strangers": strangers.strangers,
    "tls": strangers.tls,
    "badinput": strangers.badinput,
    "evictions": resources.evictions,
    "memory": resources.memory,
    "three": resources.three,
    "namespaces": namespaces.namespaces,
}


def _in_ways(trial: Callable[[Run], None], chosen: list[str]) -> Callable[[Run], None]:
    """Return a trial that is done in each of the ways that are chosen by then."""

    @wraps(trial)
    def act(run: Run) -> None:
        for name in chosen:
            Pair.way = WAYS[name]
            run.where = f"{name}: " if len(chosen) > 1 else ""
            trial(run)

    return act


def _main() -> int:
    chosen: list[str] = []

    def add(parser: argparse.ArgumentParser) -> None:
        parser.add_argument(
            "--way",
            default="text",
            choices=[*WAYS, "all"],
            help="how clients come in: protocol, login, TLS, socket",
        )

    def take(options: argparse.Namespace) -> None:
        chosen.extend(WAYS if options.way == "all" else [options.way])

    return main(
        "conformance.pair",
        "Try real pairs: processes, sockets, kills, a bad network between them.",
        {name: _in_ways(trial, chosen) for name, trial in TRIALS.items()},
        add,
        take,
    )


if __name__ == "__main__":
    sys.exit(_main())
