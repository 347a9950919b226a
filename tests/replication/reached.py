"""Which statements of the core the simulation reaches, and why it does not reach the others.

    python3.12 -m tests.replication.reached --seeds 0:2000
    python3.12 -m tests.replication.reached --seeds 0:500 --with witness --into FILE

It prints the share, and each statement that was not reached, but for those in functions that
`UNREACHED` names. With `--into` what was reached before is read from that file, and all is written
there. It looks at each line once, as `sys.monitoring` can since Python 3.12.
"""

from __future__ import annotations

import argparse
import ast
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator

CORE: Final = Path(__file__).parents[2] / "pymcd" / "replication"

#: By module: functions that no world reaches, or not all of, and why. Unit tests do.
UNREACHED: Final[dict[str, dict[str, str]]] = {
    "link.py": {
        "tls_failed": "there is no TLS in the simulation",
        "_overhear": "there is no TLS in the simulation",
    },
    "membership.py": {
        "is_mine": "nobody has himself among his peers",
        "is_myself": "nobody has himself among his peers",
        "_make_room_for_peer": "there are three nodes at most",
        "_forget": "node ids stay the same, and nobody has one forgotten",
        "forget": "node ids stay the same, and nobody has one forgotten",
    },
    "records.py": {
        "for_first_version": "all are of this release; test_upgrade has others",
    },
}


class Statement(NamedTuple):
    """A statement of a module; of one with a body, what is before that."""

    module: str
    first: int
    last: int
    text: str  #: of its first line
    function: str  #: that it is in, or ""


def statements(path: Path) -> Iterator[Statement]:
    """Yield what can be reached in a module."""
    source = path.read_text()
    lines = source.splitlines()
    for node, function in _walk(ast.parse(source)):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            continue  # a docstring, or what has none
        body = getattr(node, "body", None)
        last = body[0].lineno - 1 if body else node.end_lineno or node.lineno
        first = node.lineno
        yield Statement(path.name, first, max(first, last), lines[first - 1].strip(), function)


def _walk(node: ast.AST, function: str = "") -> Iterator[tuple[ast.stmt, str]]:
    """Yield the statements of a module, each with the name of the function that it is in."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.dump(child.test):
            continue
        if isinstance(child, ast.stmt):
            if isinstance(child, (ast.Nonlocal, ast.Global, ast.AnnAssign)):
                continue  # it does nothing, or stands where names are told
            if isinstance(child, ast.Raise) and "AssertionError" in ast.dump(child):
                continue
            yield child, function
        within = child.name if isinstance(child, ast.FunctionDef) else function
        yield from _walk(child, within)


class Reach:
    """The lines that were reached, by module."""

    def __init__(self) -> None:
        self.lines: dict[str, set[int]] = {}

    def start(self) -> None:
        """Look at each line that is reached for the first time, from now on."""
        monitoring: Any = sys.monitoring  # type: ignore[attr-defined, unused-ignore]
        monitoring.use_tool_id(monitoring.COVERAGE_ID, "reached")
        core = str(CORE)

        def note(code: Any, line: int) -> Any:
            path = code.co_filename
            if path.startswith(core):
                self.lines.setdefault(path[len(core) + 1 :], set()).add(line)
            return monitoring.DISABLE

        monitoring.register_callback(monitoring.COVERAGE_ID, monitoring.events.LINE, note)
        monitoring.set_events(monitoring.COVERAGE_ID, monitoring.events.LINE)

    def missing(self) -> tuple[int, list[Statement]]:
        """Return how many statements there are, and those that were not reached."""
        every = [each for path in sorted(CORE.glob("*.py")) for each in statements(path)]
        return len(every), [
            each
            for each in every
            if self.lines.get(each.module, set()).isdisjoint(range(each.first, each.last + 1))
        ]


def main(arguments: list[str] | None = None) -> int:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", default="0:100")
    parser.add_argument("--with", dest="more", default="")
    parser.add_argument("--nodes", type=int)
    parser.add_argument("--into", type=Path, help="of earlier runs, and of this one")
    options = parser.parse_args(arguments)
    reach = Reach()
    if options.into is not None and options.into.exists():
        reach.lines = {
            name: set(lines) for name, lines in json.loads(options.into.read_text()).items()
        }
    reach.start()
    from .simulation import run

    first, _, last = options.seeds.partition(":")
    more = frozenset(filter(None, options.more.split(",")))
    for seed in range(int(first), int(last)):
        run(seed, more=more, nodes=options.nodes)
    if options.into is not None:
        lines = {name: sorted(each) for name, each in reach.lines.items()}
        options.into.write_text(json.dumps(lines))
    count, missing = reach.missing()
    for each in missing:
        if each.function not in UNREACHED.get(each.module, {}):
            sys.stdout.write(f"{each.module}:{each.first}: {each.text}\n")
    sys.stdout.write(f"{100 * (1 - len(missing) / count):.2f} % of {count} statements\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
