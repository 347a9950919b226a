"""Run trials and print their figures: `python -m conformance.moving NAME ... [--scale X]`."""

from __future__ import annotations

import sys

from conformance.trial import main

from . import fills

TRIALS = {"fill": fills.fill}

if __name__ == "__main__":
    sys.exit(main("conformance.moving", "A server fills itself from another one.", TRIALS))
