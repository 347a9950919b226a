"""`python -m pymcd`, and the command `pymcd`."""

from __future__ import annotations

import sys

from .startup import Signals, open_standard_descriptors


def main() -> int:
    """Run the command line of this process; return the exit code."""
    open_standard_descriptors()
    signals = Signals()
    signals.hear()
    from .cli import main  # which takes a while to load

    exit_code = main(signals=signals)
    signals.ignore()
    return exit_code


if __name__ == "__main__":
    sys.exit(main())
