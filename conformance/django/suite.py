"""Fetch Django's tests, run those of its memcached caches, and say what became of each.

The tests run as Django's own `runtests.py` runs them, in a process of their own. `settings` is the
settings module of that process and `recording` its runner.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

from ..clients.catalog import home

#: Test cases of `tests/cache/tests.py`, one for each cache that speaks to a memcached.
CASES = ("cache.tests.PyMemcacheCacheTests", "cache.tests.PyLibMCCacheTests")
#: What must be installed for them.
MODULES = ("django", "pymemcache", "pylibmc")
#: How the process of the tests learns which server to use, and where to write what became of them.
ADDRESS_VARIABLE = "CONFORMANCE_DJANGO_SERVER"
OUTCOMES_VARIABLE = "CONFORMANCE_DJANGO_OUTCOMES"

ROOT = Path(__file__).resolve().parent.parent.parent
RUN_TIMEOUT_S = 300
FETCH_TIMEOUT_S = 300


class SuiteError(Exception):
    """Django's tests did not run; the message is what was printed."""


def tests_folder() -> Path:
    """Return where the tests of the installed Django are, or will be once they are fetched."""
    return home() / f"django-{importlib.metadata.version('django')}" / "tests"


def fetch() -> Path:
    """Fetch the source archive of the installed Django, unless it is there; return its tests."""
    folder = tests_folder()
    if not (folder / "runtests.py").exists():
        folder.parent.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory() as download:
            pip = [sys.executable, "-m", "pip", "download", "-q", "--disable-pip-version-check"]
            name = f"django=={importlib.metadata.version('django')}"
            subprocess.run(
                [*pip, "--no-deps", "--no-binary", "django", "-d", download, name],
                check=True,
                timeout=FETCH_TIMEOUT_S,
            )
            (archive,) = Path(download).iterdir()
            with tarfile.open(archive) as opened:
                # See `pair.renewals`.
                opened.extraction_filter = getattr(tarfile, "data_filter", None)
                opened.extractall(folder.parent.parent)
    return folder


def run(address: str | None = None, cases: tuple[str, ...] = CASES) -> dict[str, str]:
    """Run Django's tests; return by test what became of it: ok, skipped, failed or error.

    `address` is a server's HOST:PORT, of which every item is deleted; without one the tests run on
    a server of `pymcd.testing`, whose clock is moved where they would sleep.
    """
    with tempfile.TemporaryDirectory() as folder:
        outcomes = Path(folder) / "outcomes"
        environment = os.environ | {OUTCOMES_VARIABLE: str(outcomes), "PYTHONPATH": str(ROOT)}
        environment.pop(ADDRESS_VARIABLE, None)
        if address is not None:
            environment[ADDRESS_VARIABLE] = address
        command = [sys.executable, "runtests.py", "--settings=conformance.django.settings"]
        done = subprocess.run(
            [*command, "--parallel=1", "--noinput", *cases],
            cwd=tests_folder(),
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=RUN_TIMEOUT_S,
            check=False,
        )
        if not outcomes.exists():
            raise SuiteError(done.stdout)
        found: dict[str, str] = json.loads(outcomes.read_text())
        return found
