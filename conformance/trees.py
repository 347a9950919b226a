"""Root folders with programs of another Debian release, made by debootstrap and run in their place.

Nothing of them is installed. A program there must not load this system's libraries, so it is
started by the tree's own dynamic loader with the tree's library folders.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

SHOWN_LINES = 5


class FetchError(Exception):
    """It is not to be had here, for the reason given."""


def make_tree(folder: Path, suite: str, packages: Iterable[str]) -> None:
    """Make a root folder of a suite with these packages, in the place of what was there.

    Raises:
        FetchError: with the last lines of debootstrap, or what is missing.
    """
    path = os.environ.get("PATH", os.defpath) + ":/usr/sbin:/sbin"
    program = shutil.which("debootstrap", path=path)
    if program is None:
        raise FetchError("no debootstrap installed (Debian: apt-get install debootstrap)")
    if os.geteuid() != 0:
        raise FetchError("debootstrap must be run as root")
    # A folder that is half made is not gone on with.
    draft = folder.with_name(folder.name + ".draft")
    shutil.rmtree(draft, ignore_errors=True)
    draft.parent.mkdir(parents=True, exist_ok=True)
    done = subprocess.run(
        [program, "--variant=minbase", f"--include={','.join(packages)}", suite, str(draft)],
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


def tree_of(program: Path) -> Path | None:
    """Return the root folder that a program lies in; None: it is one of this system."""
    tree = program.parent
    if tree.name == "bin":
        tree = tree.parent.parent if tree.parent.name == "usr" else tree.parent
    return None if tree == Path("/") or not _loaders(tree) else tree


def command_of(program: Path) -> tuple[str, ...]:
    """Return the command that runs a program, wherever it lies."""
    tree = tree_of(program)
    if tree is None:
        return (str(program),)
    folders = (*tree.glob("lib/*-linux-gnu*"), *tree.glob("usr/lib/*-linux-gnu*"))
    return (str(_loaders(tree)[0]), "--library-path", ":".join(map(str, folders)), str(program))


def _loaders(tree: Path) -> list[Path]:
    return sorted(tree.glob("lib*/ld-linux*.so*")) + sorted(tree.glob("usr/lib*/ld-*.so*"))
