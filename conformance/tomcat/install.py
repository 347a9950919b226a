"""Fetch Tomcat and its session manager: `python -m conformance.tomcat.install`."""

from __future__ import annotations

import sys
from pathlib import Path

from conformance import maven

TOMCAT = maven.Project(Path(__file__).resolve().parent, "Main")


if __name__ == "__main__":
    sys.exit(maven.install([TOMCAT]))
