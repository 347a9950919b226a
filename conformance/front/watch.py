"""Clients that know one address, and what they notice.

Each writer owns one key, as a session has one owner, and goes on with it whatever happens: it reads
it back, writes it anew, sometimes deletes it. Readers look at the keys of others by connections of
their own, which may lead to the other node. Of every key is known what was sent, in order, and how
much of that was acknowledged; so an answer is stale if it is older than what was acknowledged
before it was asked for.
"""

from __future__ import annotations

import itertools
import threading
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from conformance.clock import now_s
from conformance.pair.load import Load, Pause, Request, read
from conformance.trial import quantile

if TYPE_CHECKING:
    import random
    from collections.abc import Iterator, Mapping, Sequence
    from typing import Self

    from conformance.pair.load import Client, Door
    from conformance.pair.nodes import Node
    from conformance.trial import Run

#: What a session manager waits for an answer to a `set`.
LATE_S = 0.1
#: How long after a fault answers may be late.
GRACE_S = 1.0
VALUE_BYTES = 200

#: Before and after what happens to the servers.
CALM_S = 0.5
FROZEN_S = 8
GIVE_UP_EVERY_S = 0.02

_crowds = itertools.count()


@dataclass(slots=True)
class History:
    """What was sent for one key, in order; `acknowledged` is the latest that was answered."""

    sent: list[bytes | None] = field(default_factory=lambda: [None])
    acknowledged: int = 0
    #: Sent and never answered; nobody knows what became of it.
    given_up: set[int] = field(default_factory=set)

    def judge(self, found: bytes | None, since: int) -> str:
        """Say what is wrong with a value that was asked for when `since` was acknowledged."""
        if found in self.sent[since:]:
            return ""
        wanted = f"not write {since} or a later one"
        if found is None:
            return f"nothing, {wanted}"
        if found not in self.sent:
            return f"{found.rstrip(b'.')!r}, which nobody wrote"
        number = self.sent.index(found)
        given_up = ", which had been given up" if number in self.given_up else ""
        return f"write {number}{given_up}, {wanted}"


class Watch:
    """A crowd behind one address, at work from entry to exit. Afterwards: what did it notice?

    Args:
        doors: where the clients connect; one, or one for each node.
        rng: what the clients do.
        fixed: items that are there and are not written to: readers look at them, too.
        patience_s: for how long clients wait for an answer before they connect anew; None: for
            as long as the connection is there.
    """

    def __init__(
        self,
        doors: Sequence[Door],
        rng: random.Random,
        *,
        writers: int = 8,
        readers: int = 4,
        fixed: Mapping[bytes, bytes] | None = None,
        pause_s: float = 0.004,
        patience_s: float | None = None,
    ) -> None:
        self._load = Load(doors)
        crowd = next(_crowds)  # keys of its own, as there may have been others before
        self._histories = {b"crowd%d:%d" % (crowd, n): History() for n in range(writers)}
        self._fixed = {
            key: History([None, value], acknowledged=1) for key, value in (fixed or {}).items()
        }
        self._rng = rng
        self._pause_s = pause_s
        self._patience_s = patience_s
        self.writes = 0
        #: When something was done to the servers.
        self.faults_s: list[float] = []
        #: Answers that nobody should have got, each as a line.
        self.stale: list[str] = []
        #: What was acknowledged and is not there at the end, each as a line.
        self.lost: list[str] = []
        for number, key in enumerate(self._histories):
            self._load.add(self._writer(key), number % len(doors))
        for number in range(readers):
            self._load.add(self._reader(), number % len(doors))
        self._broken: Exception | None = None
        self._thread = threading.Thread(target=self._run, name="watch")

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: object, *exc: object) -> None:
        self._load.stop()
        self._thread.join()
        if self._broken is not None and kind is None:
            raise self._broken

    def _run(self) -> None:
        self._give_up()
        try:
            self._load.run()
        except Exception as error:
            self._broken = error

    def _give_up(self) -> None:
        """Now, and again in a moment, end the waiting of those who have no patience left."""
        if self._patience_s is not None:
            self._load.give_up(self._patience_s)
            self._load.at(GIVE_UP_EVERY_S, self._give_up)

    def fault(self) -> None:
        """Note that something is being done to the servers now, which clients may notice."""
        self.faults_s.append(now_s())

    # -- clients -------------------------------------------------------------------------------

    def _writer(self, key: bytes) -> Client:
        history = self._histories[key]
        while True:
            yield Pause(self._pause_s)
            if self._rng.random() < 0.3:
                yield from self._look(key)
                continue
            number = len(history.sent)
            if self._rng.random() < 0.1:
                history.sent.append(None)
                answer = yield Request(b"delete %b\r\n" % key)
                done = answer in (b"DELETED\r\n", b"NOT_FOUND\r\n")
            else:
                value = (b"%b/%d/" % (key, number)).ljust(VALUE_BYTES, b".")
                history.sent.append(value)
                answer = yield Request(b"set %b 0 0 %d\r\n%b\r\n" % (key, len(value), value))
                done = answer == b"STORED\r\n"
            if done:
                history.acknowledged = number
                self.writes += 1
            else:
                history.given_up.add(number)

    def _reader(self) -> Client:
        keys = [*self._histories, *self._fixed]
        while True:
            yield Pause(self._pause_s)
            yield from self._look(self._rng.choice(keys))

    def _look(self, key: bytes) -> Client:
        history = self._history(key)
        since = history.acknowledged
        answer = yield Request(b"get %b\r\n" % key, b"END\r\n")
        if answer is None or b"ERROR" in answer.split(b"\r\n", 1)[0]:
            return
        found = None if answer == b"END\r\n" else answer.split(b"\r\n", 2)[1]
        if wrong := history.judge(found, since):
            self.stale.append(f"{key.decode()}: {wrong}")

    def _history(self, key: bytes) -> History:
        return self._histories.get(key) or self._fixed[key]

    # -- what came of it -----------------------------------------------------------------------

    def compare(self, nodes: Sequence[Node]) -> None:
        """After the end: see whether the nodes hold what was acknowledged."""
        for number, node in enumerate(nodes):
            keys = [*self._histories, *self._fixed]
            held = read(node, keys)
            for key in keys:
                history = self._history(key)
                if wrong := history.judge(held.get(key), history.acknowledged):
                    self.lost.append(f"{key.decode()} at node{number}: {wrong}")

    @property
    def answers(self) -> int:
        return len(self._load.timings)

    @property
    def connections_lost(self) -> int:
        return self._load.lost

    @property
    def errors(self) -> dict[bytes, int]:
        """Lines of error that were answered, and how often."""
        return self._load.errors

    def _gaps(self) -> Iterator[tuple[int, float, float]]:
        """Each time between two answers: of which client, since when, until when."""
        before: dict[int, float] = {}
        for each in self._load.timings:
            if each.client in before:
                yield each.client, before[each.client], each.answered_s
            before[each.client] = each.answered_s

    def outages_s(self) -> list[float]:
        """Return for each client how long it went without an answer at most."""
        longest: dict[int, float] = {}
        for client, since_s, until_s in self._gaps():
            longest[client] = max(longest.get(client, 0.0), until_s - since_s)
        return list(longest.values())

    def late(self, grace_s: float) -> list[str]:
        """Answers that took too long, but for those that came soon after a fault."""
        lines = []
        for client, since_s, until_s in self._gaps():
            if until_s - since_s <= LATE_S + self._pause_s:
                continue
            after_s = min((until_s - at_s for at_s in self.faults_s if at_s <= until_s), default=-1)
            if not 0 <= after_s <= grace_s:
                text = f"client {client}: {until_s - since_s:.3f} s until {after_s:.3f} s after"
                lines.append(text)
        return lines


def tell(run: Run, what: str, watches: Sequence[Watch], grace_s: float = GRACE_S) -> None:
    """Give the figures of what was noticed, one time or several.

    Answers may be late for `grace_s` after a fault.
    """
    lost = [line for watch in watches for line in watch.lost]
    writes = sum(watch.writes for watch in watches)
    run.figure(f"{what}: acknowledged writes lost", len(lost), 0, of=f"{writes:,}")
    stale = [line for watch in watches for line in watch.stale]
    answers = sum(watch.answers for watch in watches)
    run.figure(f"{what}: stale answers", len(stale), 0, of=f"{answers:,}")
    errors = sum((Counter(watch.errors) for watch in watches), Counter())
    run.figure(f"{what}: errors answered", errors.total(), 0)
    outages = [each for watch in watches for each in watch.outages_s()]
    clients = f"{len(outages)} clients"
    connections = sum(watch.connections_lost for watch in watches)
    run.figure(f"{what}: connections lost", connections, of=clients)
    run.figure(f"{what}: longest outage", max(outages, default=0.0), unit="s")
    run.figure(f"{what}: outage, median", quantile(outages, 0.5), unit="s")
    late = [line for watch in watches for line in watch.late(grace_s)]
    run.figure(f"{what}: late answers after the first {grace_s:g} s", len(late), 0, timed=True)
    run.problem(*(f"{what}: lost: {line}" for line in lost))
    run.problem(*(f"{what}: stale: {line}" for line in stale))
    run.problem(*(f"{what}: {number} x {text!r}" for text, number in errors.items()))
    run.problem(*(f"{what}: late: {line}" for line in late))
