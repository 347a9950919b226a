"""Fetch the memcached that is followed: `python -m conformance.memcached [FOLDER]`.

Debian's unstable suite has it. debootstrap makes a root folder with that program and the libraries
it was built for; nothing of it is installed, and `servers.reference_command` starts it from there.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

from .servers import FOLLOWED, followed_folder, reference_command, version_of
from .trees import FetchError, make_tree

SUITE = "sid"


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
    make_tree(folder, SUITE, ["memcached"])
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
