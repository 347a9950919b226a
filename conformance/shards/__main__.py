"""Run trials and print their figures: `python -m conformance.shards NAME ... [--trials N]`."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from conformance.pair.command import main

from . import commands, growth, losses
from .topology import Shards

if TYPE_CHECKING:
    import argparse

TRIALS = {
    "ketama": losses.ketama,
    "pymemcache": losses.pymemcache,
    "spymemcached": losses.spymemcached,
    "twemproxy": losses.twemproxy,
    "proxied": losses.proxied,
    "freeze": losses.freeze,
    "eject": losses.eject,
    "commands": commands.commands,
    "growth": growth.growth,
}


def _add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--single",
        default="",
        choices=("pymcd", "memcached"),
        help="instead of pairs, servers alone: what is lost then?",
    )


def _take_options(options: argparse.Namespace) -> None:
    Shards.single = options.single


if __name__ == "__main__":
    sys.exit(
        main(
            "conformance.shards",
            "Try pairs that share the keys: ketama in clients, twemproxy, a node of one killed.",
            TRIALS,
            _add_options,
            _take_options,
        )
    )
