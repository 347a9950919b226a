"""Clients: many connections in one thread, and a ledger of what was acknowledged.

A client is a generator: it yields a `Request` and is sent the answer, or None where the connection
was lost and nobody knows what became of it. A client that lost its server goes on at the next one
of its list, as the clients that users have do. `Load` runs many of them on one epoll object and
calls what a trial has in mind at the times it asked for, between two answers.
"""

from __future__ import annotations

import heapq
import select
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple, Protocol

from conformance.clock import now_s
from conformance.trial import TrialError

if TYPE_CHECKING:
    import random

    from .nodes import Node
    from .ways import Talk

RETRY_S = 0.005
CONNECT_TIMEOUT_S = 5.0
RECEIVE_BYTES = 1 << 18
ERRORS = (b"ERROR", b"CLIENT_ERROR", b"SERVER_ERROR")


class Request(NamedTuple):
    data: bytes
    ending: bytes = b"\r\n"


class Pause(NamedTuple):
    seconds: float


Client = Generator[Request | Pause, bytes | None, None]


class Door(Protocol):
    """Where clients connect: a node, or what leads to one."""

    def visit(self, timeout_s: float) -> Talk:
        """Return a client's new connection, which does not block."""


class Timing(NamedTuple):
    """One answered request."""

    client: int
    server: int
    sent_s: float
    answered_s: float
    failed: bool = False  #: the answer is an error

    @property
    def taken_s(self) -> float:
        return self.answered_s - self.sent_s


@dataclass(slots=True, eq=False)
class Session:
    number: int
    client: Client
    at: int
    roams: bool
    stream: Talk | None = None
    request: Request | None = None
    answer: bytearray = field(default_factory=bytearray)
    sent_s: float = 0.0
    done: bool = False


class Load:
    """Clients that run at the same time.

    Args:
        nodes: asked anew at each connection, so a restarted node is found at its new port.
    """

    def __init__(self, nodes: Sequence[Door] | Callable[[], Sequence[Door]]) -> None:
        self._nodes = nodes if callable(nodes) else lambda: nodes
        self._epoll = select.epoll()
        self._sessions: list[Session] = []
        self._by_fd: dict[int, Session] = {}
        self._timers: list[tuple[float, int, Callable[[], None]]] = []
        self._timer_number = 0
        self.timings: list[Timing] = []
        self.errors: dict[bytes, int] = {}
        self.lost = 0
        self.stopping = False
        self._running = False

    def add(self, client: Client, server: int, *, roams: bool = False) -> None:
        """Add a client of the node with this index; `roams`: it goes elsewhere when that ends."""
        session = Session(len(self._sessions), client, server, roams)
        self._sessions.append(session)
        if self._running:
            self._advance(session)

    def at(self, delay_s: float, action: Callable[[], None]) -> None:
        """Have something done so many seconds from now, between two answers."""
        self._timer_number += 1
        heapq.heappush(self._timers, (now_s() + delay_s, self._timer_number, action))

    def run(self, seconds: float = float("inf"), *, drain_s: float = 30.0) -> None:
        """Run all clients for a time, or until all have ended; what was asked is waited for."""
        self._running = True
        for session in list(self._sessions):
            self._advance(session)
        ends_s = now_s() + seconds
        while not all(session.done for session in self._sessions):
            now = now_s()
            if now >= ends_s:
                if self.stopping:
                    waiting = [each.number for each in self._sessions if not each.done]
                    raise TrialError(f"no answer within {drain_s:g} s for clients {waiting}")
                self.stopping = True
                ends_s = now + drain_s
                for session in self._sessions:
                    if session.request is None or session.stream is None:
                        self._finish(session)
                continue
            while self._timers and self._timers[0][0] <= now:
                heapq.heappop(self._timers)[2]()
                now = now_s()
            due_s = min(ends_s, self._timers[0][0] if self._timers else ends_s)
            wait_s = min(max(due_s - now, 0.0), 1.0)
            for descriptor, _ in self._epoll.poll(wait_s):
                found = self._by_fd.get(descriptor)
                if found is not None:
                    self._receive(found)
        self.close()

    def close(self) -> None:
        for session in self._sessions:
            self._finish(session)
        self._epoll.close()

    def stop(self) -> None:
        """To be called from an action or a client: no client starts another request."""
        self.at(0.0, self._stop)

    def _stop(self) -> None:
        self.stopping = True
        for session in self._sessions:
            if session.request is None or session.stream is None:
                self._finish(session)

    def abandon(self, server: int) -> None:
        """To be called from an action: wait no longer for what this server was asked."""
        for session in self._sessions:
            if session.at == server:
                self._finish(session)

    def give_up(self, patience_s: float) -> None:
        """To be called from an action: whoever has waited for so long drops his connection."""
        now = now_s()
        for session in self._sessions:
            waits = session.request is not None and session.stream is not None
            if waits and now - session.sent_s > patience_s:
                self._lose(session)

    # -- one client ----------------------------------------------------------------------------

    def _advance(self, session: Session, answer: bytes | None = None) -> None:
        if session.done:
            return
        try:
            wanted = session.client.send(answer)
        except StopIteration:
            self._finish(session)
            return
        if self.stopping:
            self._finish(session)
        elif isinstance(wanted, Pause):
            session.request = None
            self.at(wanted.seconds, lambda: self._advance(session))
        else:
            session.request = wanted
            self._send(session)

    def _send(self, session: Session) -> None:
        if session.done or session.request is None:
            return
        if session.stream is None and not self._connect(session):
            if self.stopping:
                self._finish(session)
            else:
                self.at(RETRY_S, lambda: self._send(session))
            return
        assert session.stream is not None
        session.answer.clear()
        session.sent_s = now_s()
        try:
            # Requests are far smaller than a socket's buffer.
            session.stream.sendall(session.request.data)
        except OSError:
            self._lose(session)

    def _connect(self, session: Session) -> bool:
        nodes = self._nodes()
        for _ in nodes if session.roams else (0,):
            try:
                stream = nodes[session.at].visit(CONNECT_TIMEOUT_S)
            except OSError:
                if session.roams:
                    session.at = (session.at + 1) % len(nodes)
                continue
            session.stream = stream
            self._epoll.register(stream.fileno(), select.EPOLLIN)
            self._by_fd[stream.fileno()] = session
            return True
        return False

    def _receive(self, session: Session) -> None:
        assert session.stream is not None
        try:
            data = session.stream.recv(RECEIVE_BYTES)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._lose(session)
            return
        session.answer += data
        request = session.request
        if request is None:
            raise TrialError(f"unasked: {data[:80]!r}")
        answer = bytes(session.answer)
        failed = answer.startswith(ERRORS)
        if not answer.endswith(b"\r\n" if failed else request.ending):
            return
        if failed:
            self.errors[answer] = self.errors.get(answer, 0) + 1
        self.timings.append(Timing(session.number, session.at, session.sent_s, now_s(), failed))
        session.request = None
        self._advance(session, answer)

    def _lose(self, session: Session) -> None:
        self.lost += 1
        self._disconnect(session)
        if session.roams:
            session.at = (session.at + 1) % len(self._nodes())
        # Who pauses has asked nothing: the end of his pause goes on with a new connection.
        if session.request is not None:
            self._advance(session, None)

    def _disconnect(self, session: Session) -> None:
        if session.stream is not None:
            descriptor = session.stream.fileno()
            del self._by_fd[descriptor]
            self._epoll.unregister(descriptor)
            session.stream.close()
            session.stream = None

    def _finish(self, session: Session) -> None:
        session.done = True
        self._disconnect(session)
        session.client.close()


# -- the ledger ----------------------------------------------------------------------------------


class Ledger:
    """What was written and what of it was acknowledged, by key. Each key has one writer."""

    def __init__(self) -> None:
        self.acknowledged: dict[bytes, bytes | None] = {}
        # Values that may be there as well: sent later, and nobody knows what became of them.
        self.open: dict[bytes, list[bytes | None]] = {}
        self.writes = 0

    def sending(self, key: bytes, value: bytes | None) -> None:
        self.open.setdefault(key, []).append(value)

    def answered(self, key: bytes, value: bytes | None) -> None:
        self.acknowledged[key] = value
        self.open[key] = []
        self.writes += 1

    def refused(self, key: bytes) -> None:
        self.open[key].pop()

    def wrong(self, held: dict[bytes, bytes]) -> list[str]:
        """Compare with what a server holds; one line for each acknowledged write that is lost."""
        lines: list[str] = []
        for key, value in self.acknowledged.items():
            found = held.get(key)
            if found != value and found not in self.open[key]:
                lines.append(f"{key.decode()}: {_short(found)} instead of {_short(value)}")
        return lines


def _short(value: bytes | None) -> str:
    return "nothing" if value is None else value[:24].decode(errors="replace")


def writer(
    ledger: Ledger,
    name: str,
    rng: random.Random,
    *,
    keys: int = 50,
    value_bytes: int = 200,
    deletes: float = 0.05,
    pause_s: float = 0.0,
) -> Client:
    """Overwrite, sometimes delete, keys of its own for ever; every value is new.

    Who lost the connection goes on with other keys: what was lost must not be written over.
    """
    number = life = 0
    while True:
        number += 1
        key = b"%s:%d:%d" % (name.encode(), life, rng.randrange(keys))
        value: bytes | None = None
        if rng.random() >= deletes:
            value = (b"%s/%d/" % (name.encode(), number)).ljust(value_bytes, b".")
        ledger.sending(key, value)
        if value is None:
            answer = yield Request(b"delete %b\r\n" % key)
            life += answer is None
            if answer in (b"DELETED\r\n", b"NOT_FOUND\r\n"):
                ledger.answered(key, None)
        else:
            answer = yield Request(b"set %b 0 0 %d\r\n%b\r\n" % (key, len(value), value))
            life += answer is None
            if answer == b"STORED\r\n":
                ledger.answered(key, value)
        # An error other than a lost connection leaves the outcome open as well.
        if pause_s:
            yield Pause(pause_s)


# -- reading -------------------------------------------------------------------------------------

READ_KEYS = 100


class Item(NamedTuple):
    value: bytes
    client_flags: int
    cas_unique: int
    ttl: int  # -1: never ends


def read(node: Node, keys: Sequence[bytes]) -> dict[bytes, bytes]:
    """Get the values of many keys; what is missing there is missing in the answer."""
    return {key: item.value for key, item in read_items(node, keys).items()}


def read_items(node: Node, keys: Sequence[bytes]) -> dict[bytes, Item]:
    """Get items with everything that both nodes have to agree on."""
    items: dict[bytes, Item] = {}
    with node.connect() as stream:
        for first in range(0, len(keys), READ_KEYS):
            batch = keys[first : first + READ_KEYS]
            stream.sendall(b"".join([b"mg %b v f c t\r\n" % key for key in batch]))
            for key in batch:
                line = stream.line()
                if line == b"EN\r\n":
                    continue
                words = line.split()
                if not words or words[0] != b"VA":
                    raise TrialError(f"mg {key!r}: {line!r}")
                value = stream.read(int(words[1]) + 2)[:-2]
                flags = {word[:1]: int(word[1:]) for word in words[2:]}
                items[key] = Item(value, flags[b"f"], flags[b"c"], flags[b"t"])
    return items


def differing(one: dict[bytes, Item], other: dict[bytes, Item], ttl_s: int = 1) -> list[bytes]:
    """Keys that two nodes do not hold alike; times to live may differ by `ttl_s`."""
    found = []
    for key in one.keys() | other.keys():
        a, b = one.get(key), other.get(key)
        if a is None or b is None or a[:3] != b[:3] or abs(a.ttl - b.ttl) > ttl_s:
            found.append(key)
    return sorted(found)


def store(node: Node, requests: Sequence[bytes], batch: int = 200) -> None:
    """Send storing commands in batches, each of which must be answered with STORED."""
    with node.connect(60.0) as stream:
        for first in range(0, len(requests), batch):
            some = requests[first : first + batch]
            stream.sendall(b"".join(some))
            wanted_bytes = len(b"STORED\r\n") * len(some)
            answer = b""
            while len(answer) < wanted_bytes:
                data = stream.recv(1 << 16)
                if not data:
                    raise TrialError("closed while it was filled")
                answer += data
                if b"ERROR" in answer:
                    break
            if answer != b"STORED\r\n" * len(some):
                raise TrialError(f"answered {answer[:80]!r} to sets")
