"""The Pythons that the server is measured on, and where to get those that people run.

`python -m bench.interpreters [FOLDER]` makes root folders with Debian's interpreters; a program in
one of them is a PATH for `python -m bench --python`. How an interpreter was built decides as much
as its version does: without profile-guided optimisation 3.11 takes 1.2 times as long.

An interpreter without trio and the other packages is lent ours; they are pure Python.
"""

from __future__ import annotations

import argparse
import atexit
import os
import subprocess
import sys
import sysconfig
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

from conformance.clients.catalog import home
from conformance.trees import FetchError, command_of, make_tree, tree_of
from pymcd.startup import PYPY_COLLECTOR

from .contenders import CHECKOUT, BenchError, Contender

#: What people run where they choose nothing else: Debian's, optimised.
USUAL = Path("/usr/bin/python3")
NEEDED = (3, 11)
#: What the server imports that is not of the standard library, in pure Python.
LENT = ("attr", "attrs", "click", "idna", "outcome", "sniffio", "sortedcontainers", "trio")
START_TIMEOUT_S = 20.0
#: Suite, what is installed from it, and the programs that are of interest.
TREES = {
    "trixie": (("python3",), ("python3.13",)),
    "sid": (("python3", "pypy3"), ("python3.14", "pypy3.11")),
}

_ABOUT = """
import platform, sys
print(platform.python_implementation())
print(".".join(map(str, getattr(sys, "pypy_version_info", sys.version_info)[:3])))
print(*sys.version_info[:2])
try:
    import click, sortedcontainers, trio
except ImportError as error:
    print(error.name)
"""


@dataclass(frozen=True, slots=True)
class Interpreter:
    """One Python that can run the server."""

    name: str  #: as "CPython 3.13.5"
    command: tuple[str, ...]
    environment: tuple[tuple[str, str], ...]  #: what it needs beside that of this process

    def contender(self) -> Contender:
        """Return this checkout's server on this Python."""
        command = (*self.command, "-m", "pymcd")
        label = f"pymcd on {self.name}"
        runtime = self.name.rpartition(".")[0]
        return Contender("pymcd", command, self.environment, label=label, runtime=runtime)


def find(path: str) -> Interpreter:
    """Return the interpreter at a path.

    Raises:
        BenchError: it cannot be run, or is too old.
    """
    program = Path(path).absolute()
    tree = tree_of(program)
    command = command_of(program)
    # Told where its library is, as it looks for it beside the loader that starts it.
    environment = {"PYTHONHOME": str(tree / "usr")} if tree and "pypy" not in program.name else {}
    # What a server on PyPy would start itself again for, which it cannot do without that loader.
    environment |= PYPY_COLLECTOR if tree and "pypy" in program.name else {}
    try:
        done = subprocess.run(
            [*command, "-c", _ABOUT],
            capture_output=True,
            text=True,
            timeout=START_TIMEOUT_S,
            cwd="/",
            env=os.environ | environment,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise BenchError(f"--python {path}: {error}") from None
    words = done.stdout.splitlines()
    if done.returncode or len(words) < 3:
        said = done.stderr.strip().splitlines()
        raise BenchError(f"--python {path}: no Python: {said[-1] if said else 'it says nothing'}")
    implementation, version, language, *missing = words
    if tuple(map(int, language.split())) < NEEDED:
        raise BenchError(f"--python {path}: {implementation} {version} is older than 3.11")
    folders = [str(CHECKOUT), *([_lent()] if missing else [])]
    environment["PYTHONPATH"] = os.pathsep.join(folders)
    return Interpreter(f"{implementation} {version}", command, tuple(environment.items()))


@cache
def _lent() -> str:
    """Return a folder with nothing but the packages that the server needs."""
    folder = TemporaryDirectory(prefix="bench-packages-")
    atexit.register(folder.cleanup)
    os.chmod(folder.name, 0o755)  # for a server that has given up root
    for package in LENT:
        os.symlink(Path(sysconfig.get_path("purelib"), package), Path(folder.name, package))
    return folder.name


def usual() -> Interpreter:
    """Return the Python that people run, or the one that runs this where there is none."""
    try:
        return find(str(USUAL))
    except BenchError:
        return find(sys.executable)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.interpreters", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("folder", nargs="?", type=Path, default=home() / "interpreters")
    folder = parser.parse_args().folder.resolve()
    failed = False
    for suite, (packages, programs) in TREES.items():
        tree = folder / suite
        try:
            if not all((tree / "usr" / "bin" / program).exists() for program in programs):
                make_tree(tree, suite, packages)
        except FetchError as error:
            print(f"{suite}: {error}", file=sys.stderr)
            failed = True
            continue
        for program in programs:
            path = tree / "usr" / "bin" / program
            try:
                print(f"{path}  # {find(str(path)).name}")
            except BenchError as error:
                print(error, file=sys.stderr)
                failed = True
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
