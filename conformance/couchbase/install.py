"""Fetch couchbase-client: `python -m conformance.couchbase.install`."""

from __future__ import annotations

import sys
from pathlib import Path

from conformance import maven

#: The one that memcached-session-manager 2.3.2 asks for, and the one that its guide names.
VERSIONS = ("1.4.11", "1.4.0")
CLIENTS = {
    version: maven.Project(Path(__file__).resolve().parent, "Worker", version)
    for version in VERSIONS
}


if __name__ == "__main__":
    sys.exit(maven.install(list(CLIENTS.values())))
