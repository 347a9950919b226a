"""The files of docs/sessions.md, so that what users copy is what is tried."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType
from typing import Any

from conformance.trial import TrialError
from tests.papers.blocks import DOCS, block

PAGE = DOCS / "sessions.md"
ADDRESS = "10.0.0.4:11211"
ADDRESSES = ("10.0.0.5:11211", "10.0.0.6:11211")


def text(section: str, file: str) -> str:
    """Return a file as the page has it."""
    return block(PAGE, section, file)


def install(section: str, file: str) -> None:
    """Make a module of a file, which can be imported by its name from now on."""
    module = ModuleType(Path(file).stem)
    exec(compile(text(section, file), file, "exec"), module.__dict__)
    sys.modules[module.__name__] = module


def executed(section: str, file: str, addresses: list[str]) -> dict[str, Any]:
    """Return the names of a file, with these addresses in the place of its own."""
    lines = text(section, file)
    for documented, address in zip(
        ADDRESSES if len(addresses) > 1 else (ADDRESS,), addresses, strict=True
    ):
        if documented not in lines:
            raise TrialError(f"{file} no longer speaks of {documented}")
        lines = lines.replace(documented, address)
    names: dict[str, Any] = {"__name__": Path(file).stem}
    exec(compile(lines, file, "exec"), names)
    return names
