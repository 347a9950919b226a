"""Try Tomcat's sessions on servers and pairs: `python -m conformance.tomcat [NAME ...]`."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

from conformance.pair.command import main

from . import bucket, pair, single
from .install import TOMCAT

if TYPE_CHECKING:
    from collections.abc import Callable

    from conformance.trial import Run

TRIALS: dict[str, Callable[[Run], None]] = {
    **single.TRIALS,
    **pair.TRIALS,
    **bucket.TRIALS,
}


if __name__ == "__main__":
    try:
        TOMCAT.install()
    except (OSError, subprocess.SubprocessError) as error:
        sys.exit(f"Tomcat cannot be fetched: {error}")
    sys.exit(
        main(
            "conformance.tomcat",
            "Try real Tomcats with memcached-session-manager.",
            TRIALS,
            ways=("text", "sasl"),
        )
    )
