"""Run trials and print their figures: `python -m conformance.deploy NAME ... [--trials N]`."""

from __future__ import annotations

import sys

from conformance.pair.command import main

from . import restarts

TRIALS = {
    "tcp-check": restarts.tcp_check,
    "readyz": restarts.readyz,
    "statefulset": restarts.statefulset,
}


if __name__ == "__main__":
    about = "Start a pair anew, one node after the other, as docs/deploy has it."
    sys.exit(main("conformance.deploy", about, TRIALS))
