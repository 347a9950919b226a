"""Try Tomcat's sessions on memcached, pymcd and pairs: `python -m conformance.tomcat [NAME ...]`."""

from __future__ import annotations

import subprocess
import sys

from conformance.trial import main

from . import single
from .install import install

TRIALS = {**single.TRIALS}

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
        )
    )
