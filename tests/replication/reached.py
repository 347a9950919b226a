"""Which statements of the core the simulation reaches, and why it does not reach the others.

    python3.12 -m tests.replication.reached --seeds 0:2000
    python3.12 -m tests.replication.reached --seeds 0:500 --with witness --into FILE

It prints the share, and each statement that was not reached, but for those in functions that
`UNREACHED` names, and refusals. With `--into` what was reached before is read from that file, and
all is written there. It looks at each line once, as `sys.monitoring` can since Python 3.12.
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

_NO_TLS: Final = "there is no TLS in the simulation"
_SAME_IDS: Final = "node ids stay the same, and nobody has one forgotten; test_three has"
_OTHERS: Final = "all are of this release; test_upgrade has others"
_KIND_ETCD: Final = "its etcd wants no login, and answers as one that is well; test_etcd has others"
_ALL_VOTE: Final = "how many vote does not change; test_three and test_upgrade have others"
_WHOLE_DISK: Final = "the disk of its witness is never full nor damaged; test_voting has another"
_CALLED: Final = "nobody is dialled by a witness"

#: By module: functions that no world reaches, or not all of, and why. Unit tests do.
UNREACHED: Final[dict[str, dict[str, str]]] = {
    "ballot.py": {"give_up": _SAME_IDS},
    "etcd.py": dict.fromkeys(
        (
            "__init__",
            "answered",
            "_decode",
            "_entry_of",
            "_is_same_etcd",
            "_learn",
            "_log_in",
            "_logged_in",
            "_number",
            "_refuse",
            "_shown",
            "_state_of",
            "_was_refused",
        ),
        _KIND_ETCD,
    ),
    "link.py": {"tls_failed": _NO_TLS, "_overhear": _NO_TLS},
    "membership.py": {
        "is_mine": "nobody has himself among his peers",
        "is_myself": "nobody has himself among his peers",
        "_make_room_for_peer": "there are three nodes at most",
        "_forget": _SAME_IDS,
        "_forget_unused": _SAME_IDS,
        "forget": _SAME_IDS,
        "forget_replaced": _SAME_IDS,
        "_tell_writers_apart": "two tags are rarely the same; test_evictions has such",
    },
    "messages.py": {
        "foreign": "only nodes call; test_link has others",
        "shared_version": _OTHERS,
    },
    "node.py": {
        "announce_welcome": "its hosts let clients in whenever they may, and have no more to say",
        "look_after_leader": "no client of Couchbase is there",
    },
    "peer.py": {
        "_say_result": _OTHERS,
        "encode_executed": _OTHERS,
        "encode_forward": _OTHERS,
        "join_records": _OTHERS,
    },
    "records.py": {"for_first_version": _OTHERS},
    "voting.py": {
        "_begin_to_vote": _ALL_VOTE,
        "_found": _ALL_VOTE,
        "count_nodes": _ALL_VOTE,
        "suspend": _ALL_VOTE,
        "counts_on": _SAME_IDS,
        "forget": _SAME_IDS,
        "given_up": _SAME_IDS,
    },
    "witness.py": {
        "_note_trouble": _WHOLE_DISK,
        "_remember": _WHOLE_DISK,
        "decode": _WHOLE_DISK,
        "clocks_agree": _CALLED,
        "is_mine": _CALLED,
        "use_secrets": "it has the same secret for ever",
    },
}
#: Beside these: what refuses the words of a peer that has gone mad, as test_mad_peers has them. A
#: stranger has no secret, and comes no further than the handshake.
_REFUSALS: Final = ("raise FrameError(", "raise ValueError", "raise TypeError")


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


def is_named(statement: Statement) -> bool:
    """Return whether it is known why no world reaches a statement."""
    named = statement.function in UNREACHED.get(statement.module, {})
    return named or statement.text.startswith(_REFUSALS)


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
    unnamed = sum(not is_named(each) for each in missing)
    for each in missing:
        if not is_named(each):
            sys.stdout.write(f"{each.module}:{each.first}: {each.text}\n")
    sys.stdout.write(
        f"{100 * (1 - len(missing) / count):.2f} % of {count} statements;"
        f" {len(missing) - unnamed} others are named, {unnamed} are not\n"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
