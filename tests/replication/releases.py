"""Of which release a server of a test is: what is here, or the one before, in `previous.zip`.

The one before is needed because nodes are upgraded one after the other. It is whole as far as a
node needs it, below sockets, and without comments and docstrings. When a release is out, make it
anew from what was released:

    git checkout TAG && python -m tests.replication.releases && git checkout main
"""

from __future__ import annotations

import ast
import sys
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any, Final, NamedTuple
from zipfile import ZIP_DEFLATED, ZipFile, ZipInfo
from zlib import crc32

import pymcd
from pymcd.protocol import Executor, PairedConnection
from pymcd.replication.node import Node
from pymcd.service import Service

PREVIOUS: Final = Path(__file__).with_name("previous.zip")
#: What a node needs.
_PARTS: Final = ("*.py", "store/*.py", "protocol/*.py", "replication/*.py")
_SPARED: Final = ("__main__", "arguments", "cli", "options", "sources", "startup")


class Release(NamedTuple):
    """What a server is made of."""

    node: Any
    service: Any
    executor: Any
    connection: Any


TODAY: Final = Release(Node, Service, Executor, PairedConnection)


@cache
def previous() -> Release:
    """Return the release before."""
    sys.path.append(str(PREVIOUS))

    def module(name: str) -> Any:
        return import_module(f"previous.pymcd{name}")

    module(".store.cache").hash = crc32  # see world.independent_of_hash_seed
    protocol = module(".protocol")
    return Release(
        module(".replication.node").Node,
        module(".service").Service,
        protocol.Executor,
        protocol.PairedConnection,
    )


def _bare(source: str) -> str:
    """Return a module without what is only said to readers."""
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(
            node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef
        ) and ast.get_docstring(node, clean=False):
            node.body[0] = ast.copy_location(ast.Expr(ast.Constant(...)), node.body[0])
            if isinstance(node, ast.Module):
                del node.body[0]
    return ast.unparse(tree)


def main() -> None:
    """Write down what is here as the release before."""
    package = Path(pymcd.__file__).parent
    with ZipFile(PREVIOUS, "w", ZIP_DEFLATED, compresslevel=9) as archive:
        archive.writestr(ZipInfo("previous/__init__.py"), "")
        for path in sorted(path for part in _PARTS for path in package.glob(part)):
            if path.stem not in _SPARED:
                name = f"previous/pymcd/{path.relative_to(package).as_posix()}"
                # The same sources are the same bytes.
                archive.writestr(ZipInfo(name), _bare(path.read_text()), ZIP_DEFLATED, 9)


if __name__ == "__main__":
    main()
