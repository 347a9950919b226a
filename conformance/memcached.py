"""Fetch the memcached that is followed: `python -m conformance.memcached [FOLDER]`.

Debian's unstable suite has it. debootstrap makes a root folder with that program and the libraries
it was built for; nothing of it is installed, and `servers.reference_command` starts it from there.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
from pathlib import Path

from .servers import FOLLOWED, followed_folder, reference_command, version_of

SUITE = "sid"
DEBOOTSTRAP = ("debootstrap", "--variant=minbase", "--include=memcached", SUITE)
SHOWN_LINES = 5


class FetchError(Exception):
    """It is not to be had here, for the reason given."""


def version_in(folder: Path) -> str:
    """Return the version of the memcached in a root folder; nothing if there is none."""
    try:
        return version_of(reference_command(str(folder)))
    except (OSError, subprocess.SubprocessError):
        return ""


def fetch(folder: Path) -> None:
    """Make the root folder, unless it is there.

    Raises:
        FetchError: it cannot be made, or what the suite has today is another version.
    """
    if version_in(folder) == FOLLOWED:
        return
    path = os.environ.get("PATH", os.defpath) + ":/usr/sbin:/sbin"
    program = shutil.which(DEBOOTSTRAP[0], path=path)
    if program is None:
        raise FetchError("no debootstrap installed (Debian: apt-get install debootstrap)")
    if os.geteuid() != 0:
        raise FetchError("debootstrap must be run as root")
    # A folder that is half made is not gone on with.
    draft = folder.with_name(folder.name + ".draft")
    shutil.rmtree(draft, ignore_errors=True)
    draft.parent.mkdir(parents=True, exist_ok=True)
    done = subprocess.run(
        [program, *DEBOOTSTRAP[1:], str(draft)],
        env=os.environ | {"PATH": path},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    if done.returncode:
        last = "\n".join(done.stdout.splitlines()[-SHOWN_LINES:])
        shutil.rmtree(draft, ignore_errors=True)
        raise FetchError(f"debootstrap failed:\n{last}")
    shutil.rmtree(folder, ignore_errors=True)
    draft.rename(folder)
    if (found := version_in(folder)) != FOLLOWED:
        raise FetchError(
            f"{SUITE} has {found or 'none'} now: --reference {folder} compares with it"
        )


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m conformance.memcached", description=__doc__)
    parser.add_argument("folder", nargs="?", type=Path, default=followed_folder())
    folder = parser.parse_args().folder.resolve()
    try:
        fetch(folder)
    except (FetchError, OSError) as error:
        print(f"memcached {FOLLOWED} cannot be fetched: {error}", file=sys.stderr)
        return 1
    print(folder)
    return 0


if __name__ == "__main__":
    sys.exit(main())
