"""Run trials and print their figures: `python -m conformance.front NAME ... [--trials N]`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from conformance.pair.command import main

from . import addresses, failover, moving, restarts

if TYPE_CHECKING:
    import argparse

TRIALS = {
    "kill": failover.kill,
    "freeze": failover.freeze,
    "both": failover.both,
    "stay": failover.stay,
    "proxy": failover.proxy,
    "vanish": failover.vanish,
    "keepalived": moving.keepalived,
    "addresses": addresses.addresses,
    "restarts": restarts.restarts,
}


def _add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--haproxy",
        type=Path,
        metavar="FILE",
        help="another configuration, with the addresses of the documented one: what is it worth?",
    )


def _take_options(options: argparse.Namespace) -> None:
    failover.configuration_file = options.haproxy


if __name__ == "__main__":
    sys.exit(
        main(
            "conformance.front",
            "Try what stands in front of a pair: HAProxy, a moving address, clients themselves.",
            TRIALS,
            _add_options,
            _take_options,
            ways=failover.WAYS,
        )
    )
