"""Who has nothing but the source follows README.md and docs/install.md, as they are printed;
and installs the server for tests as docs/testing.md says.

What pip wants is fetched once, from the internet; the hosts on which commands are typed have none.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest

from conformance.servers import ROOT
from tests.papers.blocks import DOCS, HERE, README, Block, Command, blocks
from tests.papers.stage import Stage, why_not

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

#: Five minutes are allowed for; a machine may be as slow again.
PATIENCE_S = 600.0

pytestmark = [pytest.mark.slow, pytest.mark.timeout(2 * PATIENCE_S)]

#: What a newcomer types, at most, before a session has survived.
COMMANDS_MAX = 8
INSTALL = [
    block
    for page in ("install.md", "testing.md")
    for block in blocks(DOCS / page)
    if block.is_typed and re.search(r"\bpipx? install\b", block.text)
]
#: Those of README that say how to use it; the last one runs all tests, as .ci/run does.
SECTIONS = ("Install", "One server", "A pair", "In tests")


@pytest.fixture(scope="module")
def packages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with all that pip would fetch."""
    if why := why_not():
        pytest.skip(why)
    folder = tmp_path_factory.mktemp("packages")
    fetch = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "-q",
        "-w",
        str(folder),
        *("hatchling", "editables"),
        *("pip", "setuptools", "wheel"),  # as pipx wants them of the latest
    ]
    done = subprocess.run(
        [*fetch, f"{ROOT}[all,test]"], capture_output=True, text=True, check=False
    )
    if done.returncode:
        pytest.skip(f"needs the internet: {done.stderr.splitlines()[-1:]}")
    return folder


@pytest.fixture(params=[True, False], ids=["root", "user"])
def stage(request: pytest.FixtureRequest, packages: Path, tmp_path: Path) -> Iterator[Stage]:
    if request.param and os.geteuid() != 0:
        pytest.skip("not root")
    variables = {"PIP_FIND_LINKS": str(packages), "PIP_NO_INDEX": "1"}
    with Stage(tmp_path, request.param, variables, PATIENCE_S) as stage:
        source = tmp_path / HERE / "home" / "pymcd"
        shutil.copytree(
            ROOT, source, ignore=shutil.ignore_patterns(".*", "__pycache__", "*.egg-info")
        )
        stage.type(Command((HERE,), f"cd {shlex.quote(str(source))}"))
        # Nobody has installed anything yet.
        stage.type(Command((HERE,), f'PATH="${{PATH//"{sys.prefix}"/"{sys.base_prefix}"}}"'))
        yield stage


def test_a_newcomer_follows_readme(stage: Stage) -> None:
    todo = [block for block in blocks(README) if block.section in SECTIONS]
    began_s = time.monotonic()
    typed = 0
    printed: dict[str, str] = {}
    for block in todo:
        printed[block.section] = "".join(stage.play(block))
        if block.section != "In tests":
            typed += len(block.commands())
            taken_s = time.monotonic() - began_s
    assert "VERSION 1.6" in printed["One server"]
    assert "STORED\nVALUE session 0 3\nada\nEND\n" in printed["A pair"]
    assert "1 passed" in printed["In tests"]
    assert typed <= COMMANDS_MAX
    print(f"{typed} commands, {taken_s:.0f} s until a session had survived")


@pytest.mark.parametrize("block", INSTALL, ids=lambda block: f"{block.paper}: {block.section}")
def test_install(stage: Stage, block: Block) -> None:
    if block.is_for_root and not stage.as_root:
        pytest.skip("is for root")
    if block.section == "With pipx" and shutil.which("pipx") is None:
        pytest.skip("needs pipx")
    if block.paper == "docs/testing.md":
        # Into the environment that somebody's tests run in.
        stage.type(Command((HERE,), "python3 -m venv ~/tests && PATH=~/tests/bin:$PATH"))
    stage.play(block)
