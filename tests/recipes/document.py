"""Cut the examples out of docs/testing.md and docs/testing-recipes.md.

A section of a page is one recipe: its Python blocks become one test file, but for a block whose
first line is a comment with a file's name, which becomes that file. So page and test cannot differ.
"""

from __future__ import annotations

import ast
import importlib.util
import re
import sys
from dataclasses import dataclass, field
from pathlib import Path

DOCS = Path(__file__).resolve().parent.parent.parent / "docs"
#: Where one begins, and all the rest.
PAGES = (DOCS / "testing.md", DOCS / "testing-recipes.md")
TEST_FILE = "test_recipe.py"

# A heading, or a block of any language: what looks like a heading in a block is a comment.
_PART = re.compile(
    r"^#+ (?P<title>.*)$|^```(?P<language>.*)\n(?P<block>(?s:.*?))^```$", re.MULTILINE
)
_FILE_NAME = re.compile(r"# (\w+\.py)\n")


@dataclass(slots=True)
class Recipe:
    """The examples of one section."""

    title: str
    #: By file name; several blocks for one file follow each other.
    files: dict[str, str] = field(default_factory=dict)

    def write(self, folder: Path) -> None:
        for name, text in self.files.items():
            (folder / name).write_text(text, encoding="utf-8")

    def missing(self) -> list[str]:
        """Return the modules that the recipe imports and that are not installed."""
        return sorted(
            {
                name
                for text in self.files.values()
                for name in _imported(text)
                if name not in sys.stdlib_module_names and importlib.util.find_spec(name) is None
            }
        )


#: What Django imports by itself, by the name of the backend that is asked for.
_BACKENDS = {"PyMemcacheCache": "pymemcache", "PyLibMCCache": "pylibmc"}


def _imported(text: str) -> set[str]:
    names = {module for backend, module in _BACKENDS.items() if backend in text}
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            names |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names.add(node.module.partition(".")[0])
    return names


def _parts(page: str | None) -> list[re.Match[str]]:
    if page is None:
        page = "".join(path.read_text(encoding="utf-8") for path in PAGES)
    return list(_PART.finditer(page))


def titles(page: str | None = None) -> list[str]:
    """Return the headings of a page, or of both, in their order."""
    return [part["title"] for part in _parts(page) if part["title"] is not None]


def recipes(page: str | None = None) -> list[Recipe]:
    """Return the recipes of a page, or of both, in their order."""
    found: list[Recipe] = []
    for part in _parts(page):
        if part["title"] is not None:
            found.append(Recipe(part["title"]))
        elif part["language"] == "python":
            named = _FILE_NAME.match(part["block"])
            name = named.group(1) if named else TEST_FILE
            files = found[-1].files
            files[name] = files.get(name, "") + part["block"]
    return [recipe for recipe in found if recipe.files]
