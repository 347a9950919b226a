"""Make what our container files begin with: `python -m conformance.deploy.images`.

python:3.13-slim and haproxy:3.2 are images of Docker's registry. Where that cannot be reached, a
root folder of Debian 13 does for both: it has Python 3.13, with pip, and HAProxy. debootstrap makes
it, and it is kept beside what other `install` commands fetch.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING, Final

from conformance.clients.catalog import home

if TYPE_CHECKING:
    from pathlib import Path

SUITE: Final = "trixie"
PACKAGES: Final = ("python3", "python3-pip", "python-is-python3", "haproxy")
#: Image -> what it runs if nothing is said.
IMAGES: Final = {
    "docker.io/library/python:3.13-slim": '["python3"]',
    "docker.io/library/haproxy:3.2": (
        '["haproxy", "-W", "-db", "-f", "/usr/local/etc/haproxy/haproxy.cfg"]'
    ),
}


def root() -> Path:
    """Return the root folder, as an archive."""
    return home() / "images" / "root.tar"


def fetch() -> str:
    """Make the root folder, if it is not there; return why it cannot be had, or nothing."""
    if root().exists():
        return ""
    path = os.environ.get("PATH", os.defpath) + ":/usr/sbin:/sbin"
    program = shutil.which("debootstrap", path=path)
    if program is None or os.geteuid() != 0:
        return "it takes debootstrap, and root"
    draft = root().with_suffix(".draft")
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir(parents=True)
    folder = str(draft)
    include = f"--include={','.join(PACKAGES)}"
    for command in (
        [program, "--variant=minbase", include, SUITE, folder],
        # pip would rather that Debian's packages were used.
        ["sh", "-c", "rm -r $0/usr/lib/python3*/EXTERNALLY-MANAGED $0/var/lib/apt/lists", folder],
        ["tar", "-C", folder, "-cf", str(root().with_suffix(".part")), "."],
    ):
        done = subprocess.run(
            command,
            env={**os.environ, "PATH": path},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        if done.returncode:
            return f"{command[0]} failed: {done.stdout.strip()[-500:]}"
    shutil.rmtree(draft)
    root().with_suffix(".part").rename(root())
    return ""


if __name__ == "__main__":
    reason = fetch()
    print(f"cannot be made: {reason}" if reason else root())
    sys.exit(1 if reason else 0)
