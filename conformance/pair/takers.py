"""Clients that notice a fork: they take locks, count, and write, on both sides of a partition.

Of each two that do the same on two nodes one is granted a lock, no count is given twice, and what
is acknowledged stays. How long each of them was without an answer is kept: from the first time that
it asked for something, over lost connections and refusals, until it was answered.
"""

from __future__ import annotations

import itertools
import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple, Self

from conformance.trial import TrialError

from .load import ERRORS, Ledger, Pause, Request, read, writer

if TYPE_CHECKING:
    import random
    from collections.abc import Iterable, Sequence

    from .load import Client, Door
    from .nodes import Node
    from .probe import Probe
    from .ways import Talk

ANSWER_S = 5.0
AGAIN_S = 0.005
PAUSE_S = 0.002
KEYS = 20


class Wait(NamedTuple):
    """How long a client was without an answer, on the monotonic clock."""

    since_s: float
    till_s: float
    served: bool = True  #: or it gave up

    @property
    def took_s(self) -> float:
        return self.till_s - self.since_s


def longest(waits: Iterable[Wait]) -> Wait:
    """Return the longest of some waits; one of nothing if there are none."""
    return max(waits, key=lambda wait: wait.took_s, default=Wait(0.0, 0.0))


def unexplained_s(wait: Wait, probe: Probe) -> float:
    """Return how long a wait was without the time in which the machine was busy elsewhere."""
    return wait.took_s - probe.late_s(wait.since_s, wait.till_s)


def locker(name: bytes, granted: set[bytes]) -> Client:
    """Take locks that others ask for in the same order, for ever."""
    for number in itertools.count():
        key = b"%b:%d" % (name, number)
        if (yield Request(b"add %b 0 0 1\r\nx\r\n" % key)) == b"STORED\r\n":
            granted.add(key)


def counter(key: bytes, counts: list[int]) -> Client:
    """Count what others count as well, for ever."""
    while True:
        answer = yield Request(b"incr %b 1\r\n" % key)
        if answer is not None and answer[:1].isdigit():
            counts.append(int(answer))


@dataclass(slots=True)
class Book:
    """What one client was granted, counted and stored."""

    granted: set[bytes] = field(default_factory=set)
    counts: list[int] = field(default_factory=list)
    ledger: Ledger = field(default_factory=Ledger)


class Books:
    """Those of all clients that take part in a series, on whatever nodes."""

    def __init__(self, node: Node, series: str) -> None:
        self.counter = f"{series}:count".encode()
        self.all: list[Book] = []
        node.ask(b"set %b 0 0 1\r\n0\r\n" % self.counter)

    def open(self) -> Book:
        """Return that of one more client."""
        self.all.append(Book())
        return self.all[-1]

    @property
    def keys(self) -> list[bytes]:
        """What was stored under."""
        return [key for book in self.all for key in book.ledger.acknowledged]

    @property
    def acknowledged(self) -> int:
        """How much was granted, counted and stored."""
        return sum(len(book.granted) + len(book.counts) + book.ledger.writes for book in self.all)

    def twice(self) -> list[str]:
        """Return, in words, what was given to two."""
        found: list[str] = []
        for one, other in itertools.combinations(self.all, 2):
            both = sorted(one.granted & other.granted)
            found += [f"{name.decode()} was granted twice" for name in both]
        counts = sorted(count for book in self.all for count in book.counts)
        found += [
            f"{self.counter.decode()}: {count} was given twice"
            for count, after in itertools.pairwise(counts)
            if count == after
        ]
        return found

    def lost(self, node: Node) -> list[str]:
        """Return, in words, what was acknowledged, and is not there."""
        locks = [name for book in self.all for name in sorted(book.granted)]
        held = read(node, [*locks, *self.keys, self.counter])
        found = [f"{name.decode()} is gone" for name in locks if name not in held]
        for book in self.all:
            found += book.ledger.wrong(held)
        most = max((count for book in self.all for count in book.counts), default=0)
        if int(held.get(self.counter, b"0")) < most:
            found.append(f"{self.counter.decode()}: {held.get(self.counter)!r} instead of {most}")
        return found


class Taker(threading.Thread):
    """A client of one node."""

    def __init__(
        self, node: Door, place: int, number: int, series: str, rng: random.Random, books: Books
    ) -> None:
        """Take part in a `series`: `number` of those at one node; they stand at `place`s."""
        super().__init__(daemon=True)
        self.node = node
        self.place = place
        self.waits: list[Wait] = []
        self.refusals = 0
        self.over = False
        self._since_s: float | None = None
        self._stream: Talk | None = None
        book = books.open()
        self._clients: list[Client] = [
            locker(f"{series}:lock{number}".encode(), book.granted),
            counter(books.counter, book.counts),
            writer(book.ledger, f"{series}:n{place}c{number}", rng, keys=KEYS, value_bytes=40),
        ]

    def run(self) -> None:
        answers: list[bytes | None] = [None] * len(self._clients)
        for turn in itertools.cycle(range(len(self._clients))):
            if self.over:
                break
            wanted = self._clients[turn].send(answers[turn])
            assert not isinstance(wanted, Pause)
            answers[turn] = self._ask(wanted.data)
            time.sleep(PAUSE_S)
        if self._since_s is not None:
            self.waits.append(Wait(self._since_s, time.monotonic(), served=False))
        if self._stream is not None:
            self._stream.close()

    def _ask(self, request: bytes) -> bytes | None:
        if self._since_s is None:
            self._since_s = time.monotonic()
        try:
            if self._stream is None:
                self._stream = self.node.visit(ANSWER_S).enter(ANSWER_S)
            self._stream.sendall(request)
            answer = self._stream.line()
        except (OSError, TrialError):
            answer = b""
        if not answer:
            if self._stream is not None:
                self._stream.close()
                self._stream = None
            time.sleep(AGAIN_S)
            return None
        if answer.startswith(ERRORS):
            self.refusals += 1
            time.sleep(AGAIN_S)
            return answer
        self.waits.append(Wait(self._since_s, time.monotonic()))
        self._since_s = None
        return answer


class Takers:
    """Some clients at each of some nodes, and what became of what they asked. A context manager."""

    def __init__(self, nodes: Sequence[Node], series: str, rng: random.Random, each: int = 2):
        self.books = Books(nodes[0], series)
        self.all = [
            Taker(node, place, number, series, rng, self.books)
            for place, node in enumerate(nodes)
            for number in range(each)
        ]

    def __enter__(self) -> Self:
        for taker in self.all:
            taker.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self.end()

    def end(self) -> None:
        """Have them ask no more."""
        for taker in self.all:
            taker.over = True
        for taker in self.all:
            taker.join(2 * ANSWER_S)

    def waits(self, place: int, since_s: float, till_s: float) -> list[Wait]:
        """Return those of one node's clients that reach into some time, as seen at its end."""
        return [
            wait if wait.till_s <= till_s else Wait(wait.since_s, till_s)
            for taker in self.all
            if taker.place == place
            for wait in taker.waits
            if wait.till_s > since_s and wait.since_s < till_s
        ]
