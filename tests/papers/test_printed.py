"""Every command and every file of README.md and docs/ is tried as it is printed.

The blocks of a section are done in their order, on hosts of their own: as root, and as a user if no
paragraph before one says "as root". What needs a program that is not here is skipped, and says so;
what is tried elsewhere is named in `rules`, with a reason, block by block.
"""

from __future__ import annotations

import ast
import importlib.util
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.recipes.document import recipes

from .blocks import HERE, NODES, PAPERS, README, ROOT, Block, blocks
from .rules import ELSEWHERE, GIVEN, READ_BY, RECIPES, STARTED
from .stage import PATH, Stage, goes_on, serves, why_not

BLOCKS = [block for paper in PAPERS for block in blocks(paper)]

#: How a shell's own words begin a command.
_BEGINS = re.compile(r"[;|&({]+|\n|\b(?:do|then|else|until|while|if|exec|!) ")
_WORDS_OF_A_SHELL = ("#", "do", "done", "fi", "}", ")", "for", "[[")


def is_elsewhere(block: Block) -> bool:
    """Return whether somebody else tries it."""
    if block.paper in RECIPES and block.language == "python":
        return True
    return (block.paper, block.section, block.language) in ELSEWHERE


def sections() -> dict[str, list[Block]]:
    """Return what is tried here, by section."""
    found: dict[str, list[Block]] = {}
    for block in BLOCKS:
        if not is_elsewhere(block) and (block.file or block.is_typed):
            found.setdefault(f"{block.paper}: {block.section}", []).append(block)
    return found


SECTIONS = sections()


def programs(block: Block) -> set[str]:
    """Return the programs that the commands of a block begin with."""
    found = set()
    for command in block.commands() if block.is_typed else []:
        text = re.sub(r"\\\n|(^|\s)#.*", " ", command.text)
        for part in _BEGINS.split(re.sub(r"'[^']*'|\"[^\"]*\"|\$\([^)]*\)|\d?[<>]&\d?", "x", text)):
            words = [word for word in part.split() if not re.match(r"\w+=", word)]
            if (
                words
                and re.match(r"[\w./~-]", words[0])
                and not re.match(r"\d?[<>]", words[0])
                and words[0] not in _WORDS_OF_A_SHELL
                and not words[0].endswith("()")
            ):
                found.add(words[0].rpartition("/")[2] if "/bin/" in words[0] else words[0])
    return found


def functions(block: Block) -> set[str]:
    return set(re.findall(r"^(\w+)\(\)", block.text, re.MULTILINE))


# -- files -------------------------------------------------------------------------------------


def imported(text: str) -> set[str]:
    """Return the packages that a file needs."""
    names = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            names |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names.add(node.module.partition(".")[0])
    return names - sys.stdlib_module_names


def missing(block: Block) -> str:
    """Return what a block needs that is not here."""
    if block.file:
        program = READ_BY[block.language].removeprefix("! ").partition(" ")[0]
        if block.language == "python":
            for name in sorted(imported(block.text)):
                if importlib.util.find_spec(name) is None and not there(block, name):
                    return name
        return "" if program == "python" or shutil.which(program, path=PATH) else program
    for name in sorted(programs(block)):
        if (
            name not in functions_before(block)
            and subprocess.run(
                ["bash", "-c", f"type {name}"], env={"PATH": PATH}, capture_output=True, check=False
            ).returncode
        ):
            return name
    return ""


def there(block: Block, name: str) -> bool:
    """Return whether a module is a file of the same section."""
    section = SECTIONS[f"{block.paper}: {block.section}"]
    return any(Path(each.file).stem == name for each in section)


def functions_before(block: Block) -> set[str]:
    return set().union(*(functions(each) for each in BLOCKS if each.paper == block.paper))


# -- the trials --------------------------------------------------------------------------------


def alike(printed: str, shown: str) -> bool:
    """Return whether something was printed as it is shown, but for numbers."""

    def plain(text: str) -> list[str]:
        return [re.sub(r"\d[\d,.]*", "N", line).rstrip() for line in text.strip().splitlines()]

    return plain(printed) == plain(shown)


def shown(block: Block) -> list[str]:
    """Return what each command of a block is shown to print."""
    return re.split(r"^\$ .*\n", block.text, flags=re.MULTILINE)[1:]


def before(paper: str, section: str) -> list[Block]:
    """Return what was done before a section."""
    given = GIVEN.get((paper, section)) or GIVEN.get((paper, ""))
    if given is None:
        return []
    *place, count = given
    return [*before(*place), *SECTIONS[": ".join(place)][:count]]


def place(section: str) -> tuple[str, str]:
    """Return the paper and the title of a section."""
    first = SECTIONS[section][0]
    return first.paper, first.section


def prepared(section: str) -> list[Block]:
    """Return what was typed before a section begins."""
    paper, title = place(section)
    started = STARTED.get((paper, title))
    given = before(paper, title)
    return given if started is None else [*given, Block(paper, title, "sh", started, "")]


TRIALS = [
    pytest.param(section, as_root, id=f"{section}-{'root' if as_root else 'user'}")
    for section, todo in SECTIONS.items()
    for as_root in (True, False)
    if as_root or not any(block.is_for_root for block in [*prepared(section), *todo])
]


def examples(section: str) -> dict[str, str]:
    """Return the files that who reads a page of recipes has when the section is reached."""
    paper, title = place(section)
    if paper not in RECIPES:
        return {}
    first, *rest = recipes((ROOT / paper).read_text("utf-8"))
    return next((each for each in rest if each.title == title), first).files


@pytest.mark.slow
@pytest.mark.parametrize(("section", "as_root"), TRIALS)
def test_as_printed(section, as_root, tmp_path):
    todo, given = SECTIONS[section], prepared(section)
    if why := why_not():
        pytest.skip(why)
    if as_root and os.geteuid() != 0:
        pytest.skip("not root")
    hosts = {
        name
        for block in [*given, *todo]
        if block.is_typed
        for each in block.commands()
        for name in each.hosts
    }
    if os.geteuid() != 0 and hosts - {HERE}:
        pytest.skip("several hosts: not root")
    for block in [*given, *todo]:
        if what := missing(block):
            pytest.skip(f"needs {what}")
    with Stage(tmp_path, as_root) as stage:
        for block in given:
            stage.play(block)
        stage.forget()
        for name, text in examples(section).items():
            stage.host(HERE).write(name, text)
        for block in todo:
            printed = stage.play(block)
            if block.language == "console":
                for said, expected in zip(printed, shown(block), strict=True):
                    assert alike(said, expected), said
            if block.file:
                for name in block.hosts:
                    stage.host(name).type(READ_BY[block.language].replace("{}", block.file))
        stage.check()


# -- that nothing is left out ------------------------------------------------------------------


def test_every_block_is_something():
    """What is no command, names no file and is no picture is nobody's to copy."""
    unknown = [
        f"{block.paper}, {block.section}: {block.language or 'no language'}"
        for block in BLOCKS
        if not block.file
        and not block.is_typed
        and block.language != "text"
        and not is_elsewhere(block)
    ]
    assert unknown == []


@pytest.mark.parametrize("paper", PAPERS, ids=lambda paper: paper.name)
def test_a_block_begins_its_line(paper):
    """On a web page an indented one is none."""
    assert not re.search(r"^ +```", paper.read_text("utf-8"), re.MULTILINE)


def test_readme_is_for_everybody():
    assert not any(block.is_for_root for block in blocks(README))


@pytest.mark.parametrize("where", ELSEWHERE, ids=" ".join)
def test_what_is_tried_elsewhere_is_there(where):
    """Block by block: what is added to a section is to be tried as well."""
    count, by, reason = ELSEWHERE[where]
    places = [(block.paper, block.section, block.language) for block in BLOCKS]
    assert places.count(where) == count
    assert reason
    assert re.search(rf"\b{Path(where[0]).stem}(?:\b|_)", (ROOT / by).read_text("utf-8")), by


def test_what_is_before_a_section_is_there():
    assert {f"{paper}: {section}" for paper, section in STARTED} <= set(SECTIONS)
    for paper, section, count in GIVEN.values():
        assert len(SECTIONS[f"{paper}: {section}"]) >= count
    for paper, section in GIVEN:
        assert not section or f"{paper}: {section}" in SECTIONS


SMALL_PAPER = """\
# One

Text. As root, on both nodes, `/etc/a.conf`:

```toml
a = 1
```

```sh
echo here
# nothing
for n in 1 2; do
    echo $n
done                     # on cache-1
echo \\
    both                 # on both
```

    picture

## Two

```console
$ echo 12
13
```

```text
$ echo
```
"""


def test_a_paper_in_blocks():
    file, typed, console, picture = blocks(README, SMALL_PAPER)
    assert (file.file, file.hosts, file.is_typed) == ("/etc/a.conf", NODES, False)
    assert [(command.hosts, command.text.split()[0]) for command in typed.commands()] == [
        ((HERE,), "echo"),
        (("cache-1",), "for"),
        (NODES, "echo"),
    ]
    assert (typed.section, console.section) == ("One", "Two")
    assert programs(typed) == {"echo"}
    assert [command.text for command in console.commands()] == ["echo 12"]
    assert alike("12\n", *shown(console))
    assert (picture.file, picture.is_typed) == ("", False)


@pytest.mark.parametrize(
    ("text", "is_one", "keeps"),
    [
        ("pymcd -u nobody   # here", True, True),
        ("pymcd -u nobody &", True, False),
        ("pymcd -d -u nobody", True, False),
        ("pymcd witness --listen '*'", True, True),
        ("pymcd replication cache-1", False, False),
        ("pymcd -V; pymcd -h", False, False),
        ("docker run --rm -p 127.0.0.1:11211:11211 pymcd -m 512", True, True),
        ("docker run --rm pymcd pymcd --help", False, False),
    ],
)
def test_what_keeps_its_terminal(text, is_one, keeps):
    assert (serves(text), goes_on(text)) == (is_one, keeps)
