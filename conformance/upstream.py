"""memcached's own tests: `python -m conformance.upstream [NAME ...]`.

Its source package, fetched from where the tree of the reference came from and kept beside that tree
(never in the project), has a folder of Perl scripts that start a server and talk to it. They run
here with pymcd in the place where they look for theirs, and with the real one, for comparison: a
file counts as passed if it did all of what it had planned. Those about what pymcd has not (items on
disk, the proxy, warm restarts) ask the program's -h first and leave themselves out.
"""

from __future__ import annotations

import argparse
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from .clients.catalog import home
from .servers import FOLLOWED, PYMCD, ROOT, find_memcached, followed_folder, version_of

if TYPE_CHECKING:
    from collections.abc import Sequence

PACKAGE = "memcached"
FILE_TIMEOUT_S = 180.0
SHOWN_FAILURES = 12
#: They tell every server not to give up all that the kernel lets it give up, which is an option of
#: some builds only. `modern` is of all, and has no effect.
WITHOUT_PRIVILEGES = """
for each; do
    shift
    [ "$each" != relaxed_privileges ] || each=modern
    set -- "$@" "$each"
done
"""

#: What pymcd has not: these have nothing to say about it.
ABSENT = (
    (re.compile(r".*extstore.*"), "items on disk are not offered"),
    (re.compile(r"proxy.*"), "the proxy is not offered"),
    (re.compile(r"restart"), "memory that outlives the process is not offered"),
    (re.compile(r"64bit"), "T_MEMD_INITIAL_MALLOC, by which memcached thinks that it has 4 GB"),
    (re.compile(r"conn-limits"), "buffers of memcached's threads are limited"),
)


@dataclass(frozen=True, slots=True)
class Outcome:
    """How one file went."""

    passed: int
    failed: tuple[str, ...]
    skipped: str = ""
    ended: str = ""

    @property
    def good(self) -> bool:
        return not self.failed and not self.ended

    def __str__(self) -> str:
        if self.skipped:
            return f"skipped: {self.skipped}"
        if self.good:
            return f"all {self.passed}"
        return f"{len(self.failed)} failed, {self.passed} passed{self.ended and f', {self.ended}'}"


def _run(*command: str | Path, folder: Path) -> None:
    subprocess.run([str(each) for each in command], cwd=folder, check=True, stdout=sys.stderr)


def source() -> Path:
    """Return the folder of memcached's source, fetched if it is not there.

    Raises:
        OSError, subprocess.SubprocessError: it cannot be had.
    """
    folder = home() / f"memcached-{FOLLOWED}-source"
    if (folder / "t").is_dir():
        return folder
    draft = folder.with_name(folder.name + ".draft")
    shutil.rmtree(draft, ignore_errors=True)
    (draft / "lists" / "partial").mkdir(parents=True)
    mirror = (followed_folder() / "etc" / "apt" / "sources.list").read_text()
    (draft / "sources.list").write_text(re.sub(r"(?m)^deb ", "deb-src ", mirror))
    apt = [
        "apt-get",
        "-qq",
        *("-o", f"Dir::Etc::SourceList={draft / 'sources.list'}"),
        *("-o", "Dir::Etc::SourceParts=/dev/null"),
        *("-o", f"Dir::State::Lists={draft / 'lists'}"),
        *("-o", f"Dir::Cache={draft / 'cache'}"),
        *("-o", "APT::Sandbox::User=root"),
    ]
    _run(*apt, "update", folder=draft)
    _run(*apt, "source", "--download-only", "--tar-only", PACKAGE, folder=draft)
    archive = next(iter(draft.glob(f"{PACKAGE}_{FOLLOWED}*.orig.tar.*")), None)
    if archive is None:
        raise FileNotFoundError(f"no source of {FOLLOWED} among {os.listdir(draft)}")
    _run("tar", "xf", archive, folder=draft)
    (draft / f"{PACKAGE}-{FOLLOWED}").rename(folder)
    shutil.rmtree(draft)
    return folder


class Place:
    """A folder as the tests expect it: they are run in it, and it holds the program they start."""

    def __init__(self, folder: Path, command: Sequence[str]) -> None:
        self.folder = folder
        for part in ("t", "doc"):
            shutil.copytree(source() / part, folder / part)
        self._script("memcached-debug", WITHOUT_PRIVILEGES + f'exec {shlex.join(command)} "$@"')
        # Theirs bounds the time that a server lives; here the whole file's is bounded.
        self._script("timedrun", 'shift; exec "$@"')

    def _script(self, name: str, text: str) -> None:
        path = self.folder / name
        path.write_text(f"#!/bin/sh\nexport PYTHONPATH={shlex.quote(str(ROOT))}\n{text}\n")
        path.chmod(0o755)

    def run(self, name: str) -> Outcome:
        """Run one file."""
        environment = dict(os.environ)
        if name.startswith("ssl_"):
            environment["SSL_TEST"] = "1"
        process = subprocess.Popen(
            ["perl", f"t/{name}.t"],
            cwd=self.folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            start_new_session=True,
        )
        ended = ""
        try:
            output, _ = process.communicate(timeout=FILE_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            ended = f"not done in {FILE_TIMEOUT_S:.0f} s"
        finally:
            # The servers that it started and left.
            try:
                os.killpg(process.pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        if ended:
            output, _ = process.communicate()
        elif process.returncode:
            ended = f"exit {process.returncode}"
        return outcome(output, ended)


def outcome(output: str, ended: str) -> Outcome:
    """Read what a file printed: the lines of the Test Anything Protocol."""
    if skipped := re.search(r"^1\.\.0 # SKIP (.*)", output, re.MULTILINE):
        return Outcome(0, (), skipped=skipped.group(1))
    passed = len(re.findall(r"^ok ", output, re.MULTILINE))
    failed = tuple(re.findall(r"^not ok (?!.*# TODO)(.*)", output, re.MULTILINE))
    if ended and not failed:
        ended += ": " + " / ".join(output.splitlines()[-3:])
    return Outcome(passed, failed, ended=ended)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m conformance.upstream", description=__doc__)
    parser.add_argument("name", nargs="*", help="files, without .t; default: all")
    parser.add_argument("--alone", action="store_true", help="pymcd only")
    options = parser.parse_args()
    reference = find_memcached()
    if reference is None or version_of(reference) != FOLLOWED:
        print(f"python -m conformance.memcached fetches {FOLLOWED}, it has to be first")
        return 2
    names = options.name or sorted(path.stem for path in (source() / "t").glob("*.t"))
    worse = counted = 0
    print(f"| file | {'' if options.alone else f'memcached {FOLLOWED} | '}pymcd |")
    print(f"|---|{'' if options.alone else '---|'}---|")
    with tempfile.TemporaryDirectory() as one, tempfile.TemporaryDirectory() as other:
        # Theirs is a build with commands for tests, as far as pymcd has them.
        ours = Place(Path(other), (*PYMCD, "-o", "debug_commands"))
        theirs = Place(Path(one), reference)
        for name in names:
            if why := next((why for what, why in ABSENT if what.fullmatch(name)), ""):
                print(f"| {name} | {'' if options.alone else '| '}{why} |", flush=True)
                continue
            real = None if options.alone else theirs.run(name)
            got = ours.run(name)
            counted += 1
            worse += not got.good and (real is None or real.good)
            print(f"| {name} | {'' if real is None else f'{real} | '}{got} |", flush=True)
            for line in got.failed[:SHOWN_FAILURES]:
                print(f"  {name}: {line}", file=sys.stderr, flush=True)
    print(f"{counted} files, {worse} fail on pymcd" + ("" if options.alone else " alone"))
    return 1 if worse else 0


if __name__ == "__main__":
    sys.exit(main())
