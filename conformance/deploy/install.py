"""Fetch what reads our files and our statistics: `python -m conformance.deploy.install`.

Prometheus' promtool and collectd, from Debian. They are unpacked beside what other `install`
commands fetch, and nothing of the system is changed.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from conformance.clients.catalog import home

PACKAGES = ("prometheus", "collectd-core")


def root() -> Path:
    """Return the folder that the packages are unpacked in."""
    return home() / "debian"


def program(name: str) -> Path | None:
    """Return a program that was fetched, or that is installed."""
    for folder in ("usr/bin", "usr/sbin"):
        if (path := root() / folder / name).exists():
            return path
    found = shutil.which(name, path="/usr/bin:/usr/sbin")
    return Path(found) if found else None


def fetch() -> str:
    """Fetch what is missing; return why it cannot be had, or nothing."""
    if program("promtool") and program("collectd"):
        return ""
    if shutil.which("apt-get") is None or shutil.which("dpkg") is None:
        return "no apt-get, no dpkg"
    root().mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="conformance-") as folder:
        commands = [
            ["apt-get", "download", "-q", *PACKAGES],
            ["sh", "-c", 'for each in *.deb; do dpkg -x "$each" "$0" || exit 1; done', str(root())],
        ]
        for command in commands:
            done = subprocess.run(
                command,
                cwd=folder,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                check=False,
            )
            if done.returncode:
                return f"{command[0]} failed: {done.stdout.strip()}"
    return ""


if __name__ == "__main__":
    reason = fetch()
    print(f"cannot be fetched: {reason}" if reason else root())
    sys.exit(1 if reason else 0)
