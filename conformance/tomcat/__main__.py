"""Try Tomcat's sessions on servers and pairs: `python -m conformance.tomcat [NAME ...]`."""

from __future__ import annotations

import shlex
import subprocess
import sys
from typing import TYPE_CHECKING

from conformance.pair.nodes import Pair
from conformance.trial import main

from . import bucket, pair, single
from .install import install

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable

    from conformance.trial import Run

TRIALS: dict[str, Callable[[Run], None]] = {
    **single.TRIALS,
    **pair.TRIALS,
    **bucket.TRIALS,
}


def _add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--experiment",
        default="",
        metavar="OPTIONS",
        help="more options for all nodes of pairs",
    )


def _take_options(options: argparse.Namespace) -> None:
    Pair.experiment = shlex.split(options.experiment)


if __name__ == "__main__":
    try:
        install()
    except (OSError, subprocess.SubprocessError) as error:
        sys.exit(f"Tomcat cannot be fetched: {error}")
    sys.exit(
        main(
            "conformance.tomcat",
            "Try real Tomcats with memcached-session-manager.",
            TRIALS,
            _add_options,
            _take_options,
        )
    )
