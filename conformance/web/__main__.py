"""Run trials and print their figures: `python -m conformance.web NAME ... [--scale X]`."""

from __future__ import annotations

import sys

from conformance.trial import main

from . import scrapes

TRIALS = {"scrape": scrapes.scrape}

if __name__ == "__main__":
    sys.exit(main("conformance.web", "Ask a server by HTTP how it does.", TRIALS))
