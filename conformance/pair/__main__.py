"""Run trials and print their figures: `python -m conformance.pair NAME ... [--trials N]`."""

from __future__ import annotations

import shlex
import sys
from typing import TYPE_CHECKING

from conformance.trial import main

from . import histories, lags, locks, losses, namespaces, partitions, resources, strangers
from .nodes import Pair

if TYPE_CHECKING:
    import argparse

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


def _add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--experiment",
        default="",
        metavar="OPTIONS",
        help="more options for all nodes: with '--replication-ack async', what is lost?",
    )


def _take_options(options: argparse.Namespace) -> None:
    Pair.experiment = shlex.split(options.experiment)


if __name__ == "__main__":
    sys.exit(
        main(
            "conformance.pair",
            "Try real pairs: processes, sockets, kills, a bad network between them.",
            TRIALS,
            _add_options,
            _take_options,
        )
    )
