"""Conversations in tables, one module per topic of memcached's own tests.

A `Case` is a name and what clients send. What servers answer is not written here: a real memcached
was asked, and its answers lie in `recorded/`, so that the cases run where there is none.
Cases see an empty server. A step is one connection, unless it says otherwise:

- `bytes`: send it, say that nothing more will come, read until the server closes;
- `Pieces`: the same, with each piece sent by itself;
- `Closes`: send it and leave the connection open: the server must close it;
- `Packets`: UDP datagrams, and how many come back for each;
- `Watched`: the same as `bytes`, and the answer is what a watcher is told meanwhile.

`<unique>` in a request stands for the cas unique seen last, `<unique:0>` for the first seen in this
case, and so on; answers show them as `<unique:N>`, since servers may count in their own way.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable


@dataclass(frozen=True, slots=True)
class Pieces:
    """One connection, several sends."""

    pieces: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class Closes:
    """One connection, which the server must end by itself."""

    request: bytes


@dataclass(frozen=True, slots=True)
class Packets:
    """Datagrams from one UDP socket: each with the number of datagrams it is answered by."""

    packets: tuple[tuple[bytes, int], ...]


@dataclass(frozen=True, slots=True)
class Watched:
    """One connection, while another one watches `kinds`."""

    kinds: bytes
    request: bytes


Step = bytes | Pieces | Closes | Packets | Watched


@dataclass(frozen=True, slots=True)
class Case:
    """What clients send to a server that was started with these switches.

    `fresh` asks for a server of its own, where a case changes what no command can change back.
    `hide` lists patterns of what may differ from run to run; each match becomes `~`. `unordered`
    says that the lines of an answer, but the last, may come in any order.
    """

    topic: str
    name: str
    steps: tuple[Step, ...]
    switches: tuple[str, ...] = ()
    fresh: bool = False
    hide: tuple[bytes, ...] = ()
    unordered: bool = False

    def __str__(self) -> str:
        return f"{self.topic}: {self.name}"


def table(
    topic: str,
    rows: Iterable[tuple[str | Step, ...]],
    *,
    switches: str = "",
    fresh: bool = False,
    hide: tuple[bytes, ...] = (),
    unordered: bool = False,
) -> list[Case]:
    """Return cases from rows of a name and steps."""
    cases = []
    for name, *steps in rows:
        assert isinstance(name, str)
        sent = tuple(step for step in steps if not isinstance(step, str))
        cases.append(Case(topic, name, sent, tuple(switches.split()), fresh, hide, unordered))
    return cases


UNIQUE_IN_ANSWER = re.compile(
    rb"(VALUE [^ \r\n]+ \d+ \d+ |^(?:HD|VA \d+)[^\r\n]*? c(?!0[ \r])|^ME [^\r\n]* cas=)"
    rb"(\d+)(?=[ \r])",
    re.MULTILINE,
)
UNIQUE_IN_REQUEST = re.compile(rb"<unique(?::(\d+))?>")


@dataclass(slots=True)
class Uniques:
    """The cas uniques which one server gave in one case."""

    seen: list[bytes] = field(default_factory=list)

    def fill_in(self, request: bytes) -> bytes:
        """Replace the places that stand for uniques."""

        def unique(found: re.Match[bytes]) -> bytes:
            return self.seen[int(found.group(1))] if found.group(1) else self.seen[-1]

        return UNIQUE_IN_REQUEST.sub(unique, request)

    def hide(self, answer: bytes) -> bytes:
        """Replace uniques by the order in which they were first seen."""

        def place(found: re.Match[bytes]) -> bytes:
            if found.group(2) not in self.seen:
                self.seen.append(found.group(2))
            return b"%s<unique:%d>" % (found.group(1), self.seen.index(found.group(2)))

        return UNIQUE_IN_ANSWER.sub(place, answer)
