"""`python -m tests.fuzz TARGET [libFuzzer's options and folders]`: search with coverage feedback.

Needs the extra `fuzz`. What is found to be new is kept in a folder that is named, or among the
temporary files; an input that breaks a promise is written there, too, and is replayed by naming it.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import atheris

TARGETS = ("text", "meta", "binary", "mixed", "authentication")
HERE = Path(__file__).parent
INPUT_MAX_BYTES = 512
#: An input that takes longer hangs.
TIMEOUT_S = 10


def main() -> None:
    if len(sys.argv) < 2 or sys.argv[1] not in TARGETS:
        sys.exit(f"{__doc__}\nTARGET is one of: {' '.join(TARGETS)}")
    name = sys.argv.pop(1)
    with atheris.instrument_imports(include=["pymcd"]):
        from tests.fuzz import targets
    options = [
        f"-max_len={INPUT_MAX_BYTES}",
        f"-timeout={TIMEOUT_S}",
        f"-dict={HERE / 'words.dict'}",
    ]
    if all(argument.startswith("-") for argument in sys.argv[1:]):
        folder = Path(tempfile.gettempdir()) / "pymcd-fuzz" / name
        folder.mkdir(parents=True, exist_ok=True)
        options += [f"-artifact_prefix={folder}-"]
        sys.argv += [str(folder), str(HERE / "corpus" / name)]
    atheris.Setup([sys.argv[0], *options, *sys.argv[1:]], getattr(targets, name))
    atheris.Fuzz()


main()
