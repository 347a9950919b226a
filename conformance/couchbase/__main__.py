"""Try couchbase-client on a bucket: `python -m conformance.couchbase [NAME ...]`."""

from __future__ import annotations

import subprocess
import sys

from conformance.pair.command import main

from .install import CLIENTS
from .trials import TRIALS

if __name__ == "__main__":
    try:
        for client in CLIENTS.values():
            client.install()
    except (OSError, subprocess.SubprocessError) as error:
        sys.exit(f"couchbase-client cannot be fetched: {error}")
    sys.exit(
        main(
            "conformance.couchbase",
            "Try the real couchbase-client on a pair's bucket.",
            TRIALS,
            ways=("text", "sasl"),
        )
    )
