"""The files of docs/deploy, read, and the settings that a server has by them."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from pymcd.arguments import split_arguments
from pymcd.sources import from_environment, from_file, gather

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pymcd.config import Settings

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "docs" / "deploy"
#: What a test that runs a tool may take; only a tool that hangs gets there.
PATIENCE_S = 60

#: The ports that all files agree on: clients, peers and witness, --http.
CLIENTS, PEERS, HTTP = 11211, 11212, 11222
#: The user of memcached's own image.
UID = 11211


def settings_of(
    words: Sequence[str], environment: Mapping[str, str] | None = None, file: Path | None = None
) -> Settings:
    """Return what a server is told by its command line, its environment and a file."""
    in_file = [] if file is None else from_file(str(file), {})
    return gather([in_file, from_environment(environment or {}), split_arguments(words)]).build()


def stops_within_s(settings: Settings) -> float:
    """Return how long a server takes at most to end when it is told to stop."""
    return settings.drain_s + settings.shutdown_timeout_s


def documents(path: Path) -> list[Any]:
    """Return what a file of YAML holds."""
    yaml = pytest.importorskip("yaml")
    return list(yaml.safe_load_all(path.read_text()))


def tool(name: str) -> str:
    """Return a program of this environment or of the system; without it the test is skipped."""
    path = shutil.which(name, path=f"{Path(sys.executable).parent}:/usr/bin:/bin:/usr/sbin:/sbin")
    if path is None:
        pytest.skip(f"{name} is not installed")
    return path


def run(*words: str, **options: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        words,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=PATIENCE_S,
        check=False,
        **options,
    )
