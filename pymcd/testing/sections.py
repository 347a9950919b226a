"""What the report of a failing test says of its servers: calls, faults, and what is wrong besides.

The plugin for pytest asks for it, if this module was loaded at all: only servers load it.
"""

from __future__ import annotations

import weakref
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from . import skipping
from .findings import describe

if TYPE_CHECKING:
    from .controls import Controls

#: The last ones of each server.
_CALLS_SHOWN: Final = 30
#: Started since this test began, or running; a failing test holds them by its frames.
_servers: weakref.WeakSet[Controls] = weakref.WeakSet()


def register(server: Controls) -> None:
    """Have a server that starts told of, as long as somebody holds it."""
    _servers.add(server)
    skipping.register(server)


def begin_test() -> None:
    """Tell no more of servers that have stopped before."""
    skipping.begin_test()
    for server in list(_servers):
        if not server._is_running:
            _servers.discard(server)


def make_sections() -> list[tuple[str, str]]:
    """Return titles and texts; what is wrong is told by that, and by nothing else."""
    sections: list[tuple[str, str]] = []
    # In the order of their making, as far as that is known.
    for server in sorted(_servers, key=repr):
        with suppress(RuntimeError):  # a process that has ended, or that was forked
            sections += _sections_of(server)
    return sections


def _sections_of(server: Controls) -> list[tuple[str, str]]:
    name = repr(server).strip("<>")
    calls = list(server.calls)
    lines = [f"connection {call.connection}: {call.brief()}" for call in calls[-_CALLS_SHOWN:]]
    before = len(calls) - len(lines) + server.calls.forgotten
    if before:
        lines.insert(0, f"({before} calls before)")
    armed = server._armed()
    findings = server._take_findings()
    texts = {
        "calls": "\n".join(lines),
        "faults": "\n".join(armed),
        "findings": describe(findings) if findings else "",
    }
    return [(f"memcached {kind}", f"{name}\n{text}") for kind, text in texts.items() if text]
