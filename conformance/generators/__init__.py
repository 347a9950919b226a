"""Random commands, one module per protocol, each with one class that follows `Protocol`.

The runner in `differential.py` knows no command: it sends batches, waits for the answer to a
sentinel, and compares what came back. A generator decides what a batch contains, how to tell that
its last answer arrived, and what in an answer may differ between two servers that are both right.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from typing import Protocol as Interface

if TYPE_CHECKING:
    import random


@dataclass(slots=True)
class Batch:
    """Commands that are sent in one go, or in pieces, before any answer is read.

    The pieces of `commands` are kept apart so that a failing batch can be made smaller. `cuts` says
    after which share (0 to 1) of the bytes the sender pauses; empty means one piece. With `closes`
    the server must end the connection by itself; otherwise a sentinel follows. `greetings` open a
    new connection: each is answered before more is sent. `fresh` demands one.
    """

    commands: list[bytes] = field(default_factory=list)
    closes: bool = False
    greetings: list[bytes] = field(default_factory=list)
    fresh: bool = False
    padding: bytes = b""
    cuts: tuple[float, ...] = ()


@dataclass(slots=True)
class Memory:
    """What one server has told us so far: its cas uniques in the order in which we saw them."""

    uniques: list[bytes] = field(default_factory=list)
    order: dict[bytes, int] = field(default_factory=dict)

    def see(self, unique: bytes) -> int:
        """Return the place of this unique among those seen, counted from zero."""
        place = self.order.get(unique)
        if place is None:
            place = self.order[unique] = len(self.uniques)
            self.uniques.append(unique)
        return place


class Protocol(Interface):
    """What the runner needs to know of a protocol."""

    name: str
    #: Greetings of a connection that is to be let in, where there are logins.
    login: tuple[bytes, ...]

    def is_answer(self, reply: bytes) -> bool:
        """Return whether that is a whole answer to a greeting."""
        ...

    def opening(self) -> bytes:
        """Return what puts a server into a known state, ended like a batch by the sentinel."""
        ...

    def reference_opening(self) -> bytes:
        """Return text commands that take chance out of the reference; sent to it alone."""
        ...

    def batch(self, rng: random.Random) -> Batch:
        """Return the next commands."""
        ...

    def sentinel(self, number: int) -> tuple[bytes, bytes]:
        """Return a request, and the bytes with which its answer, and nothing else, ends."""
        ...

    def substitute(self, request: bytes, memory: Memory) -> bytes:
        """Return the request with what only this server can know filled in."""
        ...

    def normalise(self, reply: bytes, memory: Memory) -> bytes:
        """Return the reply with what may differ between servers replaced by what may not."""
        ...
