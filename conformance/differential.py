"""Send the same random commands to two servers and compare every byte of their answers.

A *run* starts both servers, and is a list of batches (see `generators`) that follow from one seed.
After each batch a sentinel is sent in the same breath; when its answer has arrived, all answers
have. A server that closes ends its answer that way, and then both are connected to again.

When an answer differs, the run is made smaller: batches, then commands, are left out as long as
fresh servers still disagree. What remains is printed as Python literals, with both answers.
"""

from __future__ import annotations

import random
import select
import time
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Self

from .generators import Batch, Memory, Protocol
from .servers import Server

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Iterable, Sequence

ANSWER_TIMEOUT_S = 5.0
RECEIVE_BYTES = 1 << 20
# What surely fits into the socket buffers of both sides, so that sending cannot wait for reading.
EAGER_BYTES = 32 << 10
SHRINK_TRIALS_MAX = 120
SILENCE = b"<no more answer>"
DEAD = b"<the server is gone>"


class GeneratorError(Exception):
    """The reference did not answer the sentinel, so nothing was learned about the subject."""


class ReferenceDied(Exception):
    """The reference crashed. That happens to memcached, and is not the subject's to explain."""


@dataclass(slots=True)
class Difference:
    """Two answers that are not the same, with what led to them."""

    batches: list[Batch]
    expected: bytes
    got: bytes
    seed: str = ""

    def __str__(self) -> str:
        lines = [f"seed: {self.seed}", "sent, one batch after the other:"]
        for batch in self.batches:
            note = f"   # cuts at {batch.cuts}" if batch.cuts else ""
            lines += [f"    [{note}", *(f"      {_literal(each)}," for each in batch.commands)]
            lines += [f"      {_literal(batch.padding)},"] if batch.padding else []
            lines += ["    ]"]
        at = next(
            (i for i, (a, b) in enumerate(zip(self.expected, self.got, strict=False)) if a != b),
            min(len(self.expected), len(self.got)),
        )
        lines += [
            f"the last answers differ from byte {at} on:",
            f"    reference: {_literal(self.expected, at)}",
            f"    subject:   {_literal(self.got, at)}",
        ]
        return "\n".join(lines)


def _literal(text: bytes, around: int = 0, width: int = 600) -> str:
    """Return the bytes as a literal, cut to `width` bytes that lie around a place."""
    start = max(0, around - width // 2)
    end = start + width
    cut = text[start:end]
    before = f"({start} bytes) " if start else ""
    after = f" ({len(text) - end} bytes more)" if len(text) > end else ""
    return f"{before}{cut!r}{after}"


class Conversation:
    """One server, one connection to it, and what it told us."""

    def __init__(self, server: Server, protocol: Protocol) -> None:
        self.server = server
        self.protocol = protocol
        self.memory = Memory()
        self.stream: socket.socket | None = None
        self._reply = bytearray()
        self._ending: bytes | None = None
        self._greeted = b""  #: what was answered to greetings

    def begin(self, batch: Batch, number: int) -> None:
        """Send a batch; what is too large to be sent blindly is answered to as well."""
        if batch.fresh:
            self.close()
        self._greeted = b""
        if self.stream is None:
            try:
                self.stream = self.server.connect(ANSWER_TIMEOUT_S)
            except ConnectionError:
                return  # It is dead, and `finish` will say so.
            if not all(map(self._greet, batch.greetings)):
                self.close()
                return
        payload = self.protocol.substitute(b"".join(batch.commands), self.memory) + batch.padding
        ending: bytes | None = None
        if not batch.closes:
            request, ending = self.protocol.sentinel(number)
            payload += request
        self._reply.clear()
        self._ending = ending
        try:
            if len(payload) > EAGER_BYTES:
                self._pump(payload)
                return
            start = 0
            for share in batch.cuts:
                end = int(share * len(payload))
                if end > start:
                    self.stream.sendall(payload[start:end])
                    start = end
            self.stream.sendall(payload[start:])
        except (BrokenPipeError, ConnectionResetError):
            pass  # The answer will say so.

    def _greet(self, greeting: bytes) -> bool:
        """Say something, and hear the answer; return whether there was one."""
        assert self.stream is not None
        reply = b""
        try:
            self.stream.sendall(greeting)
            while not self.protocol.is_answer(reply):
                chunk = self.stream.recv(RECEIVE_BYTES)
                if not chunk:
                    self._greeted += reply + b"<closed>"
                    return False
                reply += chunk
        except (ConnectionError, TimeoutError) as error:
            self._greeted += reply + (SILENCE if isinstance(error, TimeoutError) else b"<closed>")
            return False
        self._greeted += reply
        return True

    def _pump(self, payload: bytes) -> None:
        assert self.stream is not None
        poller = select.poll()
        poller.register(self.stream, select.POLLIN | select.POLLOUT)
        rest = memoryview(payload)
        while rest:
            for _, events in poller.poll(ANSWER_TIMEOUT_S * 1000):
                if events & select.POLLIN:
                    chunk = self.stream.recv(RECEIVE_BYTES)
                    if not chunk:
                        return
                    self._reply += chunk
                elif events & select.POLLOUT:
                    rest = rest[self.stream.send(rest[: 64 << 10]) :]
                else:
                    return

    def finish(self) -> bytes:
        """Return the normalised answer to the batch, with a mark where the server closed."""
        if self.stream is None:
            return self._greeted or DEAD
        reply = self._reply
        ending = self._ending
        outcome = b""
        try:
            while ending is None or not reply.endswith(ending):
                chunk = self.stream.recv(RECEIVE_BYTES)
                if not chunk:
                    outcome = b"<closed>"
                    break
                reply += chunk
        except ConnectionResetError:
            outcome = b"<closed>"
        except TimeoutError:
            outcome = SILENCE
        if outcome:
            self.close()
        return self._greeted + self.protocol.normalise(bytes(reply), self.memory) + outcome

    def close(self) -> None:
        if self.stream is not None:
            self.stream.close()
            self.stream = None


@dataclass(slots=True)
class Pair:
    """A reference and a subject, started together, told the same, compared."""

    reference: Sequence[str]
    subject: Sequence[str]
    protocol: Protocol
    switches: Sequence[str] = ()
    # The subject is a memcached, too, so that it needs what takes chance out of the reference.
    twins: bool = False
    environment: dict[str, str] = field(default_factory=dict)
    _stack: ExitStack = field(default_factory=ExitStack)
    _talks: list[Conversation] = field(default_factory=list)
    _number: int = 0

    def __enter__(self) -> Self:
        try:
            for command in (self.reference, self.subject):
                server = Server(command, self.switches, self.environment)
                self._stack.enter_context(server)
                talk = Conversation(server, self.protocol)
                self._stack.callback(talk.close)
                self._talks.append(talk)
            self.reset()
        except BaseException:
            self._stack.close()
            raise
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._stack.close()
        self._talks.clear()

    @property
    def servers(self) -> list[Server]:
        return [talk.server for talk in self._talks]

    def reset(self) -> None:
        """Bring both servers back to the known state, and forget what they told."""
        for talk in self._talks:
            talk.close()
            told = self.protocol.reference_opening()
            if told and (self.twins or talk is self._talks[0]):
                talk.server.tell(told)
            opening = Batch([self.protocol.opening()], greetings=[*self.protocol.login])
            talk.begin(opening, 0)
        for talk in self._talks:
            talk.finish()
            talk.memory = Memory()

    def compare(self, batch: Batch) -> tuple[bytes, bytes] | None:
        """Send a batch to both; return both answers if they differ."""
        self._number += 1
        for talk in self._talks:
            talk.begin(batch, self._number)
        expected, got = (talk.finish() for talk in self._talks)
        if expected != got and not self._talks[0].server.answers():
            raise ReferenceDied(str(batch)[:2000])
        if expected.endswith(SILENCE):
            raise GeneratorError(f"the reference gave up: {expected!r}\n{batch}")
        closed = [talk.stream is None for talk in self._talks]
        if any(closed):
            for talk in self._talks:
                talk.close()
        return None if expected == got else (expected, got)


@dataclass(slots=True)
class Result:
    """How a run went."""

    commands: int = 0
    seconds: float = 0.0
    difference: Difference | None = None
    # What made the reference crash, after which nothing can be compared.
    reference_died: str = ""


def run(
    pair: Pair,
    seed: str,
    commands: int,
    *,
    shrink: bool = True,
    progress: Callable[[int], None] | None = None,
) -> Result:
    """Send about this many random commands, which follow from the seed, to a fresh pair."""
    rng = random.Random(seed)
    done: list[Batch] = []
    result = Result()
    began = time.monotonic()
    with pair:
        while result.commands < commands:
            batch = pair.protocol.batch(rng)
            done.append(batch)
            result.commands += len(batch.commands)
            try:
                answers = pair.compare(batch)
            except ReferenceDied as died:
                result.reference_died = str(died)
                break
            if progress is not None:
                progress(len(batch.commands))
            if answers is not None:
                result.difference = Difference(done, *answers, seed)
                break
    result.seconds = time.monotonic() - began
    if result.difference is not None and shrink:
        result.difference = _shrink(pair, result.difference)
    return result


def replay(pair: Pair, batches: Iterable[Batch]) -> Difference | None:
    """Send these batches to a fresh pair; return the first difference."""
    done = []
    with pair:
        for batch in batches:
            done.append(batch)
            answers = pair.compare(batch)
            if answers is not None:
                return Difference(done, *answers)
    return None


def _shrink(pair: Pair, found: Difference) -> Difference:
    """Leave out batches, then commands, while the servers still disagree."""
    trials = 0

    def attempt(batches: list[Batch]) -> bool:
        nonlocal found, trials
        trials += 1
        try:
            smaller = replay(pair, batches)
        except (GeneratorError, ReferenceDied):
            return False
        if smaller is None:
            return False
        found = replace(smaller, seed=found.seed)
        return True

    count = 1
    while count < len(found.batches) and not attempt(found.batches[-count:]):
        count *= 4
    attempt([replace(each, cuts=()) for each in found.batches])
    for units in (_batches_of, _commands_of):
        size = max(1, len(units(found.batches)) // 2)
        while size and trials < SHRINK_TRIALS_MAX:
            at = 0
            while at < len(parts := units(found.batches)) and trials < SHRINK_TRIALS_MAX:
                rest = parts[:at] + parts[at + size :]
                if not rest or not attempt(_joined(rest)):
                    at += size
            size //= 2
    return found


def _batches_of(batches: list[Batch]) -> list[tuple[int, Batch]]:
    return list(enumerate(batches))


def _commands_of(batches: list[Batch]) -> list[tuple[int, Batch]]:
    """Return batches of one command each, with the number of the batch they belong to."""
    return [
        (number, replace(batch, commands=[command]))
        for number, batch in enumerate(batches)
        # What ends in the server closing says nothing without that.
        for command in (batch.commands if not batch.closes else [b"".join(batch.commands)])
    ]


def _joined(parts: list[tuple[int, Batch]]) -> list[Batch]:
    """Put parts of the same batch together again."""
    joined: dict[int, Batch] = {}
    for number, part in parts:
        if number in joined:
            joined[number].commands.extend(part.commands)
        else:
            joined[number] = replace(part, commands=list(part.commands))
    return list(joined.values())
