"""Try couchbase-client on a bucket: `python -m conformance.couchbase [NAME ...]`."""

from __future__ import annotations

import shlex
import subprocess
import sys
from typing import TYPE_CHECKING

from conformance.pair.nodes import Pair
from conformance.trial import main

from .install import install
from .trials import TRIALS

if TYPE_CHECKING:
    import argparse


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
    try:
        install()
    except (OSError, subprocess.SubprocessError) as error:
        sys.exit(f"couchbase-client cannot be fetched: {error}")
    sys.exit(
        main(
            "conformance.couchbase",
            "Try the real couchbase-client on a pair's bucket.",
            TRIALS,
            _add_options,
            _take_options,
        )
    )
