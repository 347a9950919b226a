"""Run pytest on a folder of test files, in a process of its own."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

#: So slow may a machine be; also the marker of the tests that run pytest.
RUN_TIMEOUT_S = 600
#: As from a shell, but for what this project alone has there: that takes a second to import, or
#: imports ssl before gevent does.
_UNUSED = ("cacheprovider", "trio", "hypothesispytest", "anyio")
OPTIONS = ("-q", *(word for name in _UNUSED for word in ("-p", f"no:{name}")))
#: What this run of pytest tells its own children, and what makes hypothesis another one.
_PRIVATE = ("PYTEST_", "COV_", "HYPOTHESIS_")


def run_pytest(folder: Path, *arguments: str) -> str:
    """Run pytest in `folder` as from a shell; return what it printed. All tests must pass."""
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith(_PRIVATE)
    }
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *OPTIONS, "--strict-markers", *arguments],
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=RUN_TIMEOUT_S,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


def run_django(folder: Path) -> str:
    """Run Django's tests in `folder`, as from a shell; return what it printed."""
    done = subprocess.run(
        [sys.executable, "-m", "django", "test", "--settings=settings"],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=RUN_TIMEOUT_S,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


def counts(said: str) -> dict[str, int]:
    """Return the numbers of pytest's last line: {"passed": 3, "skipped": 1}."""
    return {
        word: int(count) for count, word in re.findall(r"(\d+) ([a-z]+)", said.splitlines()[-1])
    }
