"""Attack servers and print how the others fare: `python -m conformance.hostile [ROW ...]`."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from conformance import trial
from conformance.servers import reference_command

from . import invented, known  # noqa: F401 - which fill the table
from .measure import Circumstances, trials
from .rows import ROWS

if TYPE_CHECKING:
    import argparse

CIRCUMSTANCES = Circumstances()
TRIALS = trials(ROWS, CIRCUMSTANCES)


def _add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--reference", help="another memcached, or a debootstrap folder with one")
    parser.add_argument("--alone", action="store_true", help="one server, no pairs")
    parser.add_argument("--pair", action="store_true", help="pairs alone")


def _take_options(options: argparse.Namespace) -> None:
    if options.reference:
        CIRCUMSTANCES.reference = reference_command(options.reference)
    if options.alone:
        CIRCUMSTANCES.pair = False
    if options.pair:
        CIRCUMSTANCES.alone = False
        CIRCUMSTANCES.reference = None


if __name__ == "__main__":
    sys.exit(
        trial.main(
            "conformance.hostile",
            "What a hostile client does to the others, beside memcached with one thread.",
            TRIALS,
            _add_options,
            _take_options,
        )
    )
