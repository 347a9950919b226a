"""Who may import whom: the layers of pymcd, read from its sources."""

from __future__ import annotations

import ast
import functools
from pathlib import Path
from typing import TYPE_CHECKING

import pymcd

if TYPE_CHECKING:
    from collections.abc import Iterator

PACKAGE = Path(pymcd.__file__).parent

#: Layer -> the layers that it may import besides itself. Tables of names count as `config`.
CONFIGURATION = {
    "addresses", "etcdurl", "exits", "config", "draft", "options", "arguments", "sources",
    "spelling",
}  # fmt: skip
CORE = {
    "limits",
    "clock",
    "auth",
    "store",
    "protocol",
    "service",
    "replication",
    "readiness",
    "web",
    "couchbase",
    "moving",
    *CONFIGURATION,
}
BELOW_SERVER = {"", "startup", *CORE}
MAY_IMPORT: dict[str, set[str]] = {
    "": set(),  # pymcd/__init__.py: the version
    "limits": set(),
    "addresses": set(),
    "etcdurl": {"addresses"},
    "spelling": set(),
    "startup": set(),
    "clock": set(),
    "exits": set(),
    "config": {"limits", "addresses", "etcdurl", "exits"},
    "draft": {"limits", "config", "exits"},
    "options": {"limits", "config", "exits", "spelling"},
    "arguments": {"exits", "options", "spelling"},
    "sources": {"arguments", "draft", "exits", "options", "spelling"},
    "auth": {"limits"},
    # Types only: a cache is built from its settings.
    "store": {"limits", "clock"},
    "protocol": {"", "store", "auth", "limits", "clock", "config", "addresses"},
    "service": {"protocol", "store", "clock"},
    "replication": {"", "store", "limits", "clock"},
    "readiness": {"replication"},
    "web": {"", "limits", "protocol", "readiness"},
    "couchbase": {"replication", "web"},
    "moving": {"limits", "store"},
    "server": BELOW_SERVER,
    "testing": {*BELOW_SERVER, "server"},
    "cli": {*BELOW_SERVER, "server", "tools"},
    "tools": {*BELOW_SERVER, "server"},
    "__main__": {"cli", "startup"},
}
#: What is imported for annotations alone. `store` and `protocol` meet in these. A connection is
#: handed the service which knows all connections: neither can do without the other's name.
MAY_NAME: dict[str, set[str]] = {
    # What a word of an option is noted in.
    "options": {"draft"},
    "store": {"config"},
    # A command is handed the gate, if there is one; what that is, is none of its business.
    "protocol": {"service", "replication"},
    "service": {"auth", "config", "replication"},
    "replication": {"config"},
    "web": {"service"},
    # A client of a bucket is looked at like any other.
    "couchbase": {"auth"},
}

#: Third-party and other far-reaching modules -> the layers that may use them.
USERS = {
    "click": {"tools"},
    "trio": {"server", "testing", "tools"},
    "ssl": {"server", "testing", "tools"},
    "asyncio": set(),
    "socket": {"server", "testing", "tools"},
    "threading": {"server", "testing"},
    "sortedcontainers": {"store"},
    "h11": {"couchbase", "server", "web"},
    "random": {"server", "testing", "cli", "tools"},
    "time": {"clock", "server", "testing", "cli", "tools"},
    # The process and its machine are asked by whoever runs it; `sources` reads files.
    "os": {"sources", "startup", "server", "testing", "cli", "tools"},
    "resource": {"server"},
    "signal": {"startup", "server", "testing"},
    "pwd": {"server"},
    "select": {"server", "testing"},
    "subprocess": {"testing"},
    "gc": {"server"},
}
#: Who may speak to the terminal.
SPEAKERS = {"startup", "server", "testing", "cli", "tools", "__main__"}
STREAMS = {"sys.stdin", "sys.stdout", "sys.stderr", "print", "input"}

#: Modules that may need each other, annotations included; no others may.
CIRCLES: list[set[str]] = [
    # A command is handed the connection, which chooses among all commands.
    {
        "service",
        "protocol.admin",
        "protocol.binary",
        "protocol.connection",
        "protocol.framing",
        "protocol.login",
        "protocol.meta",
        "protocol.recorder",
        "protocol.reports",
        "protocol.retrieval",
        "protocol.text",
        "protocol.trace",
    },
    # Who is met makes a node what it is, and it decides what becomes of them.
    {"replication.membership", "replication.node", "replication.voting"},
]
SYNCHRONOUS = CORE


@functools.cache
def sources() -> dict[str, tuple[str, ast.Module]]:
    """Return dotted package and syntax tree of each module, by its name; all read at once."""
    found = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
        package = ".".join(parts[:-1])
        name = package if path.stem == "__init__" else ".".join(parts)
        found[name] = package, ast.parse(path.read_text(encoding="utf-8"), str(path))
    return found


def modules() -> Iterator[tuple[str, str, ast.Module]]:
    """Yield layer, dotted package and syntax tree of each module."""
    for name, (package, tree) in sources().items():
        yield name.partition(".")[2].partition(".")[0], package, tree


def names_of(package: str, tree: ast.Module) -> Iterator[tuple[str, str]]:
    """Yield module and name of all that is imported from pymcd, annotations included."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            base = base_of(package, node)
            if base.split(".")[0] == PACKAGE.name:
                yield from ((base, alias.name) for alias in node.names)


def base_of(package: str, node: ast.ImportFrom) -> str:
    """Return the absolute name of what is imported from."""
    if not node.level:
        return node.module or ""
    above = package.split(".")[: len(package.split(".")) - node.level + 1]
    return ".".join([*above, node.module] if node.module else above)


def typing_only(tree: ast.Module) -> set[ast.AST]:
    """Return the nodes below `if TYPE_CHECKING:`."""
    return {
        node
        for branch in ast.walk(tree)
        if isinstance(branch, ast.If) and ast.unparse(branch.test) == "TYPE_CHECKING"
        for statement in branch.body
        for node in ast.walk(statement)
    }


def imports(package: str, tree: ast.Module) -> Iterator[tuple[str, bool]]:
    """Yield the absolute name of each import, and whether it serves annotations alone."""
    hidden = typing_only(tree)
    for node in ast.walk(tree):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = base_of(package, node)
            # `from .. import limits` and `from pymcd import limits` import a module of that name.
            names = [f"{base}.{a.name}" for a in node.names] if base == PACKAGE.name else [base]
        yield from ((name, node in hidden) for name in names)


def layer_of(name: str) -> str:
    """Return the layer of a dotted name below pymcd; that of pymcd itself is empty."""
    first = name.split(".")[1] if "." in name else ""
    return first if first in MAY_IMPORT else ""


def circles(sources: dict[str, tuple[str, ast.Module]]) -> list[set[str]]:
    """Return the groups of modules that need each other."""

    def home(base: str, name: str) -> str:
        """Return the module that a name comes from, where a package only passes it on."""
        if f"{base}.{name}" in sources:
            return f"{base}.{name}"
        if base in sources and sources[base][0] == base:
            for base_there, name_there in names_of(*sources[base]):
                if name_there == name:
                    return home(base_there, name)
        return base

    needs = {
        module: {home(base, name) for base, name in names_of(*source)} & sources.keys()
        for module, source in sources.items()
    }
    reached: dict[str, set[str]] = {}
    for module in needs:
        seen, todo = set[str](), list(needs[module])
        while todo:
            other = todo.pop()
            if other not in seen:
                seen.add(other)
                todo += needs[other]
        reached[module] = seen
    groups: list[set[str]] = []
    for module in sorted(needs):
        if module in reached[module] and not any(module in group for group in groups):
            groups.append({other for other in reached[module] if module in reached[other]})
    return groups


def test_each_layer_imports_only_what_is_below_it():
    wrong = []
    for layer, package, tree in modules():
        assert layer in MAY_IMPORT, f"say in this test what {layer!r} may import"
        for name, annotations_only in imports(package, tree):
            if name.split(".")[0] != PACKAGE.name:
                continue
            allowed = {layer, *MAY_IMPORT[layer]}
            if annotations_only:
                allowed |= MAY_NAME.get(layer, set())
            if layer_of(name) not in allowed:
                wrong.append(f"{layer} imports {name}")
    assert wrong == []


def test_libraries_are_used_where_they_belong():
    wrong = [
        f"{layer or 'pymcd'} imports {name}"
        for layer, package, tree in modules()
        for name, annotations_only in imports(package, tree)
        if not annotations_only and layer not in USERS.get(name.split(".")[0], {layer})
    ]
    assert wrong == []


def test_below_the_server_nothing_waits():
    asynchronous = (ast.AsyncFunctionDef, ast.Await, ast.AsyncFor, ast.AsyncWith)
    wrong = [
        f"{package}: line {node.lineno}"
        for layer, package, tree in modules()
        if layer in SYNCHRONOUS
        for node in ast.walk(tree)
        if isinstance(node, asynchronous)
    ]
    assert wrong == []


def test_below_the_server_nobody_speaks_to_the_terminal():
    wrong = [
        f"{package}: line {node.lineno}"
        for layer, package, tree in modules()
        if layer not in SPEAKERS
        for node in ast.walk(tree)
        if isinstance(node, (ast.Name, ast.Attribute)) and ast.unparse(node) in STREAMS
    ]
    assert wrong == []


def test_modules_do_not_need_each_other():
    allowed = [{f"{PACKAGE.name}.{name}" for name in group} for group in CIRCLES]
    assert [
        group for group in circles(sources()) if not any(group <= each for each in allowed)
    ] == []


def test_the_rules_can_fail():
    """The checks read what they claim to read."""
    tree = ast.parse(
        "from .. import limits\nfrom ..server.hub import Hub\nimport trio.lowlevel\n"
        "if TYPE_CHECKING:\n    from ..config import Settings\n"
    )
    assert list(imports("pymcd.store", tree)) == [
        ("pymcd.limits", False),
        ("pymcd.server.hub", False),
        ("trio.lowlevel", False),
        ("pymcd.config", True),
    ]
    assert [layer_of(name) for name in ("pymcd.server.hub", "pymcd.__version__", "pymcd")] == [
        "server",
        "",
        "",
    ]


def test_circles_are_found():
    written = {
        "pymcd": "",
        "pymcd.a": "from .b import B\n",
        "pymcd.b": "from . import c\n",
        "pymcd.c": "if TYPE_CHECKING:\n    from .d import A\n",
        "pymcd.d": "from ..a import A\n",  # a package that only passes on
        "pymcd.e": "from .d import E\n",
    }
    sources = {
        name: (name if name in ("pymcd", "pymcd.d") else "pymcd", ast.parse(text))
        for name, text in written.items()
    }
    assert circles(sources) == [{"pymcd.a", "pymcd.b", "pymcd.c"}]
