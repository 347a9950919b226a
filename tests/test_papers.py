"""What docs/ says of the code is so: tables, names, links, commands."""

from __future__ import annotations

import ast
import importlib
import re
import tomllib
from functools import cache
from pathlib import Path
from typing import get_args

import pytest

from pymcd.config import ReplicationAck
from pymcd.protocol.text import VERBS
from pymcd.readiness import STATES
from pymcd.replication.frames import Kind
from pymcd.replication.peer import NEXT_PHASES, Phase
from pymcd.replication.records import Record
from pymcd.replication.roles import TRANSITIONS, Role, Stance
from pymcd.web.metrics import METRICS, Report
from pymcd.web.pages import PAGES

from .test_layering import BELOW_SERVER, MAY_IMPORT, MAY_NAME

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
DESIGN = DOCS / "design.md"
MONITORING = ROOT / "docs" / "monitoring.md"
#: Those that name modules, classes and functions.
OF_THE_CODE = [DESIGN, ROOT / "docs" / "contributing.md"]
PAPERS = [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("conformance/*.md")]


def names(paths: list[Path]) -> list[str]:
    return [str(path.relative_to(ROOT)) for path in paths]


def text_of(paper: Path) -> str:
    """Return a paper without what is shown as it is."""
    return re.sub(r"^```.*?^```$", "", paper.read_text("utf-8"), flags=re.DOTALL | re.MULTILINE)


def table(*header: str, paper: Path = DESIGN) -> list[list[str]]:
    """Return the rows of the table in a paper that begins so."""
    lines = paper.read_text("utf-8").splitlines()
    (begin,) = (n for n, line in enumerate(lines) if cells(line)[: len(header)] == list(header))
    rows = []
    for line in lines[begin + 2 :]:
        if not line.startswith("|"):
            break
        rows.append(cells(line))
    return rows


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip("|").split("|")] if line.startswith("|") else []


# -- tables ------------------------------------------------------------------------------------


def test_transitions_of_roles():
    told = {}
    for before, after, why in table("from", "to"):
        for role in Role if before == "every role" else (Role(before),):
            told[role, Role(after)] = why
    assert told == TRANSITIONS


def test_what_roles_mean():
    modes = get_args(ReplicationAck)
    rows = {role: means for role, *means in table("role")}
    assert list(rows) == list(Role)
    for role, means in rows.items():
        for number, name in enumerate(Stance.__slots__):
            under = [mode for mode in modes if getattr(Stance().follow(Role(role), mode), name)]
            assert means[number].split() == under, (role, name)


def test_phases_of_a_peer():
    rows = table("phase")
    assert {name: what for name, what, _ in rows} == {each.name: each.value for each in Phase}
    assert {name: tuple(after.split()) for name, _, after in rows} == {
        before.name: tuple(each.name for each in after) for before, after in NEXT_PHASES.items()
    }


def test_states_of_a_server():
    told = {
        name.strip("`"): (ready == "yes", when)
        for name, ready, when in table("state", "ready", paper=MONITORING)
    }
    assert told == STATES


def test_metrics():
    told = table("metric", paper=MONITORING)
    rows = {metric.name: ", ".join(f"`{row}`" for row in metric.rows) for metric in METRICS}
    assert told == [
        [
            f"`{metric.name}`",
            metric.kind,
            metric.report + ("" if metric.report is Report.SERVER else f": {rows[metric.name]}"),
            metric.help,
        ]
        for metric in METRICS
    ]


def test_pages():
    assert [path.strip("`") for path, _ in table("path", paper=MONITORING)] == list(PAGES)


@pytest.mark.parametrize(("header", "members"), [("kind", Kind), ("record", Record)])
def test_what_is_said(header, members):
    told = [(int(number), name) for number, name, *_ in table("", header)]
    assert told == [(member.value, member.name) for member in members]


def test_layers():
    def layers(cell: str) -> set[str]:
        words = set(re.findall(r"`(\w+)`", cell))
        found = {"" if word == "pymcd" else word for word in words}
        return found | BELOW_SERVER if "core" in cell.split() else found

    may_import, may_name = {}, {}
    for layer, imported, named in table("layer"):
        (name,) = layers(layer)
        may_import[name] = layers(imported)
        may_name[name] = layers(named)
    assert may_import == {layer: others - {layer} for layer, others in MAY_IMPORT.items()}
    assert {layer: others for layer, others in may_name.items() if others} == MAY_NAME


def test_rooms_of_the_core():
    modules = {path.stem for path in (ROOT / "pymcd" / "replication").glob("*.py")}
    assert {name.strip("`") for name, _ in table("module", "what it owns")} == modules - {
        "__init__"
    }


def test_times_and_bounds():
    for name, value, _ in table("name", "value"):
        module, _, constant = name.strip("`").rpartition(".")
        found = getattr(importlib.import_module(f"pymcd.replication.{module}"), constant)
        assert float(value) == found, name


def test_what_always_holds():
    """What `check` says when something does not is what is told here."""
    asserted = {}
    core = [tree for path, tree in trees().items() if path.startswith("pymcd/replication/")]
    for owner in (node for tree in core for node in tree.body if isinstance(node, ast.ClassDef)):
        for method in owner.body:
            if isinstance(method, ast.FunctionDef) and method.name == "check":
                found = [each for each in ast.walk(method) if isinstance(each, ast.Assert)]
                found.sort(key=lambda each: each.lineno)
                asserted[f"`{owner.name}.check`"] = [
                    each.msg.value for each in found if isinstance(each.msg, ast.Constant)
                ]
    for name, words in table("method", "what is never so"):
        assert words.split("; ") == asserted[name], name


# -- names -------------------------------------------------------------------------------------


@cache
def trees() -> dict[str, ast.Module]:
    """Return the syntax tree of each module that papers speak of, by its path."""
    patterns = ("pymcd/**/*.py", "tests/**/[!t]*.py", "conformance/clients/*.py")
    paths = [path for pattern in patterns for path in ROOT.glob(pattern)]
    return {str(path.relative_to(ROOT)): ast.parse(path.read_text("utf-8")) for path in paths}


def names_in(body: ast.AST) -> set[str]:
    """Return what is defined or assigned there, at any depth."""
    found = set()
    for node in ast.walk(body):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            found.add(node.name)
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            found.add(node.attr)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            found.add(node.id)
        elif isinstance(node, ast.arg):
            found.add(node.arg)
    return found


@cache
def classes() -> dict[str, set[str]]:
    """Return what each class has; those of one name and of their bases together."""
    own: dict[str, set[str]] = {}
    bases: dict[str, set[str]] = {}
    for tree in trees().values():
        for node in ast.walk(tree):
            if isinstance(node, ast.ClassDef):
                own.setdefault(node.name, set()).update(names_in(node))
                above = {base.id for base in node.bases if isinstance(base, ast.Name)}
                bases.setdefault(node.name, set()).update(above)
    return {
        name: has.union(*(own.get(base, set()) for base in bases[name]))
        for name, has in own.items()
    }


@cache
def everything() -> set[str]:
    modules = {Path(path).stem for path in trees()}
    return modules.union(*(names_in(tree) for tree in trees().values()))


def is_there(word: str) -> bool:
    """Return whether the code has what a word in code type names; what is no name is."""
    if re.fullmatch(r"[\w/.]+(/|\.py|\.md|\.toml)", word):
        return any((ROOT / folder / word).exists() for folder in ("", "pymcd"))
    if not re.fullmatch(r"[A-Za-z_]\w*(\.\w+)*", word) or word.encode() in VERBS:
        return True
    before, _, name = word.rpartition(".")
    owner = before.rpartition(".")[2]
    if owner in classes():
        return name in classes()[owner]
    if (ROOT / "pymcd" / owner / f"{name}.py").exists():
        return True
    modules = [tree for path, tree in trees().items() if Path(path).stem == owner]
    if modules:
        return any(name in names_in(tree) for tree in modules)
    if "_" in word or word != word.lower():
        return word in everything()
    return True


@pytest.mark.parametrize("paper", OF_THE_CODE, ids=names(OF_THE_CODE))
def test_what_is_named_is_there(paper):
    words = set(re.findall(r"`([^`\n]+)`", text_of(paper)))
    assert [word for word in sorted(words) if not is_there(word)] == []


def test_what_docstrings_name_is_there():
    """Of what is not ours, nothing is known here."""
    wrong = []
    for path, tree in trees().items():
        for node in ast.walk(tree) if path.startswith("pymcd") else ():
            if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
                for word in re.findall(r"`(\w+\.[\w.]+)`", ast.get_docstring(node) or ""):
                    owner = word.split(".")[-2]
                    ours = owner in classes() or any(Path(each).stem == owner for each in trees())
                    if ours and not is_there(word):
                        wrong.append(f"{path}: {word}")
    assert wrong == []


def test_examples_are_lines_of_the_code():
    """Whoever follows a recipe finds what it shows."""
    code = {
        line.strip() for path in trees() for line in (ROOT / path).read_text("utf-8").splitlines()
    }
    shown = re.findall(
        r"^```python\n(.*?)^```$", OF_THE_CODE[1].read_text(), re.DOTALL | re.MULTILINE
    )
    assert shown
    assert [line for part in shown for line in part.splitlines() if line.strip() not in code] == []


# -- links and commands ------------------------------------------------------------------------


def anchors(paper: Path) -> list[str]:
    """Return what a link to a heading says, where GitHub and mkdocs agree on it."""
    found = []
    for heading in re.findall(r"^#+ (.*)$", text_of(paper), re.MULTILINE):
        bare = re.sub(r"[^\w -]", "", heading.lower())
        if bare.isascii() and bare == bare.strip() and not re.search("[- ]{2}", bare):
            found.append(bare.replace(" ", "-"))
    return found


@pytest.mark.parametrize("paper", PAPERS, ids=names(PAPERS))
def test_links_lead_somewhere(paper):
    wrong = []
    for link in re.findall(r"\]\((?!https?:)([^)\s]+)\)", text_of(paper)):
        path, _, anchor = link.partition("#")
        target = (paper.parent / path).resolve() if path else paper
        if not target.exists() or (anchor and anchors(target).count(anchor) != 1):
            wrong.append(link)
        elif paper.is_relative_to(DOCS) and not target.is_relative_to(DOCS):
            wrong.append(f"{link}: is on no web page")
    assert wrong == []


def test_every_page_is_in_the_index():
    pages = {path.name for path in DOCS.glob("*.md")} - {"index.md"}
    assert set(re.findall(r"\]\(([\w-]+\.md)\)", (DOCS / "index.md").read_text("utf-8"))) == pages
    told = (ROOT / ".mkdocs.yml").read_text("utf-8")
    assert set(re.findall(r"- ([\w-]+\.md)$", told, re.MULTILINE)) == pages | {"index.md"}


def test_extras_that_are_named_exist():
    with (ROOT / "pyproject.toml").open("rb") as file:
        extras = set(tomllib.load(file)["project"]["optional-dependencies"])
    named = {
        extra
        for paper in PAPERS
        for group in re.findall(r"(?:\.|pymcd)\[([a-z,]+)\]", paper.read_text("utf-8"))
        for extra in group.split(",")
    }
    assert named <= extras


@pytest.mark.parametrize("paper", PAPERS, ids=names(PAPERS))
def test_commands_of_ours_exist(paper):
    """`python -m ...` names a package or a module that can be run."""
    wrong = []
    for module in re.findall(r"python -m ((?:tests|conformance|bench)[\w.]*)", paper.read_text()):
        path = ROOT / module.rstrip(".").replace(".", "/")
        if not (path / "__main__.py").exists() and not path.with_suffix(".py").exists():
            wrong.append(module)
    assert wrong == []
