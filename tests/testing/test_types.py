"""Type checkers find nothing to say about what users write."""

from __future__ import annotations

import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
USES = "tests/testing/uses.py"


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    ("module", "options"),
    [("mypy", ["--strict", "--config-file=", "--follow-imports=silent"]), ("basedpyright", [])],
)
def test_a_file_of_uses_is_clean(tmp_path: Path, module: str, options: list[str]) -> None:
    if find_spec(module) is None:
        pytest.skip(f"{module} is not installed")
    project = tmp_path / "pyrightconfig.json"
    project.write_text('{"typeCheckingMode": "strict", "reportPrivateImportUsage": true}')
    if module == "basedpyright":
        options = ["--pythonpath", sys.executable, "--level", "error"]
    done = subprocess.run(
        [sys.executable, "-m", module, *options, USES],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
