"""The blocks of README.md and docs/: what of them is a command, what a file, what is only shown.

A block says what it is by its language and by the paragraph before it, as a reader sees it:

- `sh` is typed into a shell, `console` is that with what it prints (`$ ` before what is typed);
- a paragraph that ends in "`PATH`:" says that the block is that file;
- `text` is a picture, or what somebody prints: nothing to copy.

A command that ends in a comment `# on cache-1` (or `# on both`, `# on each`) is for that host.
"""

from __future__ import annotations

import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]
README = ROOT / "README.md"
DOCS = ROOT / "docs"
PAPERS = [README, *sorted(DOCS.rglob("*.md"))]

#: Where what names no host is typed.
HERE = "web-1"
NODES = ("cache-1", "cache-2")

# A heading, or a block: what looks like a heading in a block is a comment.
_PART = re.compile(
    r"^#+ (?P<title>.*)$|^ *```(?P<language>[^\n]*)\n(?P<text>(?s:.*?))^ *```$", re.MULTILINE
)
_FILE = re.compile(r"`([^`\s]+)`:$")
_HOSTS = re.compile(r"#.*\bon (both|each|[a-z]+-\d[^#\n]*)$")


class Command(NamedTuple):
    """What is typed, and where."""

    hosts: tuple[str, ...]
    text: str


@dataclass(frozen=True, slots=True)
class Block:
    """One block of a paper."""

    paper: str
    section: str
    language: str
    text: str
    #: The paragraph before it, on one line.
    lead: str

    @property
    def file(self) -> str:
        """Return the path of the file that it is; nothing if it is none."""
        found = _FILE.search(self.lead)
        return found.group(1) if found and self.language not in ("console", "text") else ""

    @property
    def is_typed(self) -> bool:
        return self.language in ("sh", "console") and not self.file

    @property
    def is_for_root(self) -> bool:
        return "as root" in self.lead.lower()

    @property
    def hosts(self) -> tuple[str, ...]:
        """Return where the file is to be."""
        both = re.search(r"\bon both (nodes|hosts)\b", self.lead, re.IGNORECASE)
        return NODES if both else (HERE,)

    def commands(self) -> list[Command]:
        """Return what is typed, in order."""
        if self.language == "console":
            typed = re.findall(r"^\$ (.*)$", self.text, re.MULTILINE)
            return [Command(_hosts(line), line) for line in typed]
        found, lines = [], []
        for line in self.text.splitlines():
            lines.append(line)
            whole = "\n".join(lines)
            if is_whole(whole):
                if whole.strip() and not whole.lstrip().startswith("#"):
                    found.append(Command(_hosts(line), whole))
                lines = []
        assert not lines, f"{self.paper}, {self.section}: {whole}"
        return found


def _hosts(line: str) -> tuple[str, ...]:
    found = _HOSTS.search(line)
    if not found:
        return (HERE,)
    named = tuple(re.findall(r"[a-z]+-\d", found.group(1)))
    return named or NODES


def is_whole(text: str) -> bool:
    """Return whether a shell would not wait for more."""
    if text.endswith("\\"):
        return False
    done = subprocess.run(["bash", "-n"], input=text, text=True, capture_output=True, check=False)
    return not done.returncode and not done.stderr


def blocks(paper: Path, text: str | None = None) -> list[Block]:
    """Return the blocks of a paper, in its order."""
    text = paper.read_text("utf-8") if text is None else text
    name = str(paper.relative_to(ROOT))
    found, section, end = [], "", 0
    for part in _PART.finditer(text):
        if part["title"] is not None:
            section = part["title"]
        else:
            paragraphs = text[end : part.start()].strip().split("\n\n")
            lead = " ".join(paragraphs[-1].split())
            found.append(Block(name, section, part["language"].strip(), part["text"], lead))
        end = part.end()
    return found


def headings(paper: Path) -> list[str]:
    """Return the headings of a paper, in its order."""
    parts = _PART.finditer(paper.read_text("utf-8"))
    return [part["title"] for part in parts if part["title"] is not None]


def block(paper: Path, section: str, file: str = "", language: str = "") -> str:
    """Return the text of the one block of a section that is this file, or has this language."""
    (found,) = (
        each.text
        for each in blocks(paper)
        if each.section == section
        and (not file or each.file == file)
        and (not language or each.language == language)
    )
    return found


def main(paper: str, section: str) -> None:
    """Print what a section tells to type: `python -m tests.papers.blocks README.md Install`."""
    found = [each for each in blocks(ROOT / paper) if each.section == section and each.is_typed]
    assert found, f"{paper} has nothing to type in {section!r}"
    sys.stdout.writelines(each.text for each in found)


if __name__ == "__main__":
    main(*sys.argv[1:])
