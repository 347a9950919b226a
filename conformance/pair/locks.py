"""Commands that must be atomic across the nodes: concurrent add, incr and cas."""

from __future__ import annotations

from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

from conformance.trial import PATIENCE_S, TrialError

from .load import Load, Request
from .nodes import Pair

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from conformance.trial import Run

    from .load import Client
    from .nodes import Node

    Contest = Callable[[str], "Outcomes"]

CLIENTS_PER_NODE = 8
#: How often something was tried, and how often it went wrong in each of two ways.
Outcomes = tuple[int, int, int]
LINK_DELAYS_S = (0.0, 0.002)


class Blocking:
    """One connection that sends first and reads later, so that two can ask at the same time."""

    def __init__(self, node: Node) -> None:
        self._stream = node.visit(PATIENCE_S).enter(PATIENCE_S)

    def send(self, request: bytes) -> None:
        self._stream.sendall(request)

    def line(self) -> bytes:
        answer = self._stream.line()
        if not answer:
            raise TrialError("the connection was closed")
        return answer

    def gets(self, key: bytes) -> int:
        """Return the item's cas unique."""
        self.send(b"gets %b\r\n" % key)
        unique = 0
        while (line := self.line()) != b"END\r\n":
            if line.startswith(b"VALUE"):
                unique = int(line.split()[4])
        return unique

    def close(self) -> None:
        self._stream.close()


def race(connections: Sequence[Blocking], request: bytes) -> list[bytes]:
    """Send the same on all connections, then read what each is answered."""
    for connection in connections:
        connection.send(request)
    return [connection.line() for connection in connections]


@contextmanager
def connected(nodes: Sequence[Node]) -> Iterator[list[Blocking]]:
    """Connect to each of these nodes; to one that is there twice, twice."""
    with ExitStack() as open_connections:
        connections = []
        for node in nodes:
            connections.append(Blocking(node))
            open_connections.callback(connections[-1].close)
        yield connections


def adds(nodes: Sequence[Node], rounds: int, name: str) -> tuple[int, int]:
    """Concurrent adds of one key: rounds with several winners, rounds with none."""
    double = none = 0
    with connected(nodes) as connections:
        for number in range(rounds):
            # Who is asked first changes.
            first = number % len(connections)
            order = [*connections[first:], *connections[:first]]
            answers = race(order, b"add %b:%d 0 60 1\r\nx\r\n" % (name.encode(), number))
            won = answers.count(b"STORED\r\n")
            double += won > 1
            none += won == 0
    return double, none


def cas_wins(nodes: Sequence[Node], rounds: int, name: str) -> tuple[int, int]:
    """Concurrent cas of one item with the same unique: rounds won twice, rounds won by none."""
    key = name.encode()
    double = none = 0
    with connected(nodes) as connections:
        connections[0].send(b"set %b 0 0 1\r\n0\r\n" % key)
        connections[0].line()
        for _ in range(rounds):
            unique = connections[0].gets(key)
            answers = race(connections, b"cas %b 0 0 1 %d\r\nx\r\n" % (key, unique))
            won = answers.count(b"STORED\r\n")
            double += won > 1
            none += won == 0
    return double, none


def _counting(key: bytes, times: int, counts: list[int]) -> Client:
    for _ in range(times):
        answer = yield Request(b"incr %b 1\r\n" % key)
        if answer is not None and answer[:1].isdigit():
            counts.append(int(answer))


def incr_lost(pair: Pair, each: int, name: str) -> tuple[int, int, int]:
    """Concurrent incr from all nodes: increments done, lost, and answers seen twice."""
    key = name.encode()
    pair.nodes[0].ask(b"set %b 0 0 1\r\n0\r\n" % key)
    counts: list[int] = []
    load = Load(pair.nodes)
    for index in range(pair.count):
        for _ in range(CLIENTS_PER_NODE):
            load.add(_counting(key, each, counts), index)
    load.run()
    done = pair.count * CLIENTS_PER_NODE * each
    totals = [int(node.ask(b"incr %b 0\r\n" % key)) for node in pair.nodes]
    return done, done - min(totals), len(counts) - len(set(counts))


def locks(run: Run) -> None:
    """Concurrent add, incr and cas on both nodes, at no delay of the link and at 2 ms."""
    rounds = run.times(1000)
    with Pair() as pair:
        for delay_s in LINK_DELAYS_S:
            pair.delay(delay_s)
            contend(
                run, pair, [*pair.nodes, *pair.nodes], rounds, f"link delay {delay_s * 1e3:g} ms"
            )


def contend(run: Run, pair: Pair, nodes: Sequence[Node], rounds: int, where: str) -> None:
    """Ask for the same at once, by a connection to each of these, with what must be atomic."""
    contests: dict[str, Contest] = {
        "add": lambda name: (rounds, *adds(nodes, rounds, name)),
        "cas": lambda name: (rounds, *cas_wins(nodes, rounds, name)),
        "incr": lambda name: incr_lost(pair, max(rounds // 8, 1), name),
    }
    said = {
        "add": ("add won more than once", "add won by nobody"),
        "cas": ("cas won more than once", "cas won by nobody"),
        "incr": ("incr lost", "the same count given twice"),
    }
    for verb, contest in contests.items():
        name = f"{verb}{where.replace(' ', '')}"

        def attempt(number: int, contest: Contest = contest, name: str = name) -> Outcomes:
            return contest(f"{name}:{number}")

        figures = pair.undisturbed(attempt)
        if figures is None:
            run.problem(f"{where}, {verb}: the nodes do not stay in sync here")
            continue
        for what, count in zip(said[verb], figures[1:], strict=True):
            run.figure(f"{where}: {what}", count, 0, of=f"{figures[0]:,}")
