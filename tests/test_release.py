"""What is published: all that its tests need, and papers that speak of this very release."""

from __future__ import annotations

import re
import subprocess
import tomllib
from pathlib import Path

import pytest

from pymcd import __version__
from pymcd.replication import frames

ROOT = Path(__file__).parents[1]
SDIST = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"][
    "sdist"
]
#: In every sdist, whatever is asked for.
ALWAYS = {"pyproject.toml", ".gitignore"}
#: Of the repository alone.
NOT_PUBLISHED = {".gitattributes"}


def test_all_that_there_is_is_published():
    if not (ROOT / ".git").exists():
        pytest.skip("no repository: this is what was published")
    tracked = subprocess.run(
        ["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.splitlines()
    tops = {path.split("/")[0] for path in tracked if (ROOT / path).exists()}
    included = {path.strip("/") for path in SDIST["include"]}
    assert tops == included | ALWAYS | NOT_PUBLISHED


def test_the_changelog_has_this_release():
    headings = re.findall(r"^## \[(.*?)\]", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    released = [heading for heading in headings if heading != "Unreleased"]
    assert released[0] == __version__
    assert headings.index("Unreleased") == 0


def test_what_is_told_of_protocols_is_so():
    text = " ".join((ROOT / "docs" / "versions.md").read_text().split())
    (told,) = re.findall(r"This release speaks versions (\d+) and (\d+)\.", text)
    assert tuple(map(int, told)) == (frames.PROTOCOL_VERSION_MIN, frames.PROTOCOL_VERSION)
    # N and N-1, and no release more: that is what is promised.
    assert frames.PROTOCOL_VERSION - frames.PROTOCOL_VERSION_MIN <= 1
