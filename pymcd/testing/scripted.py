"""Connections that note what clients say, and to which faults happen.

An `Actor` stands in the place of a connection's runner (as the tracer of `-vv` does) and lets the
runner behind it execute one command at a time; so it sees each command whole before it is executed,
and its reply before it is sent. The server knows nothing of it: one that is no fake has the runner
itself there.

Where a command waits, for a fault or for other servers, its connection executes nothing more.
"""

from __future__ import annotations

import itertools
import os
import socket
import struct
from contextlib import contextmanager, suppress
from dataclasses import fields
from math import inf
from typing import TYPE_CHECKING, Any, Final

from ..protocol import Connection, PairedConnection
from ..protocol.binary import NO_MEMORY, encode_error
from ..protocol.framing import refuse_value
from ..protocol.tokens import split_line
from .calls import Call, shorten
from .faults import FaultTable, Picked
from .findings import ClockWarning, Finding
from .moments import Moments
from .record import CallRecord
from .requests import INCOMPLETE, STORING, Request, RequestReader, would_be_said

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ..protocol.connection import Runner
    from ..store import Cache
    from .actions import Action
    from .clocks import FakeClock
    from .findings import Place

#: Of memcached's error texts; more is cut off.
_ERROR_MAX_BYTES: Final = 200
#: Couchbase's number for an error of the server itself; memcached has none.
_INTERNAL_ERROR: Final = 0x84
#: Close without sending what is left: the other side sees a reset.
_LINGER_RESET: Final = struct.pack("ii", 1, 0)
_HOLDING: Final = ("delay", "stall")
#: What is sent by and by.
_SLOW: Final = ("chunks", "bandwidth")
_PARTS_A_SECOND: Final = 50
_STOOD_STILL: Final = (
    'time.time() showed no number for a while, so clock="host" stood still; where a mock is in its'
    ' place, write what that returns, as in patch("time.time", return_value=1e9)'
)
#: Of calls of all servers.
_order: Final = itertools.count(1)


class Script:
    """What a fake adds to one server: the log of calls, faults, and clients that are held."""

    def __init__(self, clock: FakeClock) -> None:
        self.clock = clock
        self.record = CallRecord()
        self.faults = FaultTable(clock.monotonic)
        self.paused = False
        self.executing = False  #: a command, right now
        self.attach(lambda line: None, wake=lambda: None, look=lambda: None)
        self._moments = Moments(clock)
        self.advanced_at: Place | None = None  #: the test's line that did so last
        self._findings: list[Finding] = []
        self._reader: RequestReader | None = None
        self._actors: dict[int, Actor] = {}
        self._numbers = itertools.count(1)

    def attach(
        self,
        log_line: Callable[[str], None],
        wake: Callable[[], None],
        look: Callable[[], None],
    ) -> None:
        """Be that of a server.

        `log_line` writes a line of its log; `wake` has it call `release_due` at once; `look` has
        it see what time it is.
        """
        self.log_line = self.faults.log_line = log_line
        self.wake = wake
        self.look = look

    def detach(self) -> None:
        """Know nothing of a server that is no more."""
        self.attach(lambda line: None, wake=lambda: None, look=lambda: None)
        self._actors.clear()
        if self._reader is not None:
            self._reader.fall_apart()
            self._reader = None

    def take_on(self, connection: Connection) -> None:
        """Stand between a new connection and its runner."""
        actor = Actor(self, connection, next(self._numbers))
        self._actors[connection.id] = actor
        connection.runner = actor

    def reader(self, connection: Connection) -> RequestReader:
        """Return what reads requests of our clients."""
        if self._reader is None:
            self._reader = RequestReader(connection.service)
        return self._reader

    def let_go(self, connection: Connection) -> None:
        """Forget a connection that is gone."""
        actor = self._actors.pop(connection.id, None)
        if actor is not None:
            connection.runner = actor.runner  # without this cycle it is freed at once

    def remove_fault(self, number: int) -> int:
        """End a fault; whom it held goes on. Returns how many calls it was done to."""
        met = self.faults.remove(number)
        for actor in list(self._actors.values()):
            if actor.is_held_by(number):
                actor.release()
        return met

    def take_findings(self) -> list[Finding]:
        """Return what is wrong with the test so far, and was not told yet."""
        found, self._findings = self._findings, []
        if self.clock.take_stood_still():
            found.append(Finding(_STOOD_STILL, None, harmless=True, category=ClockWarning))
        return found + self.faults.take_findings(self.record.snapshot(), self.record.forgotten())

    def check_end(self, call: Call) -> None:
        """Say so if an item does not end when its program has meant; with a test, once."""
        text = self._moments.see(call)
        if text is None:
            return
        self.log_line(text)
        if not self._findings:
            self._findings.append(
                Finding(text, self.advanced_at, harmless=True, category=ClockWarning)
            )

    @property
    def busy(self) -> bool:
        """Whether a command that was held is still to be executed or answered."""
        return any(actor.busy for actor in self._actors.values())

    def clear_faults(self) -> None:
        """End all faults and the pause."""
        self.faults.clear()
        self.paused = False
        for actor in list(self._actors.values()):
            actor.release()

    def pause(self) -> None:
        """Execute nothing from now on."""
        self.paused = True

    def resume(self) -> None:
        """Go on with what came meanwhile."""
        self.paused = False
        for actor in list(self._actors.values()):
            actor.connection.wake()

    def release_due(self) -> float:
        """Go on with commands that were delayed long enough; return when the next one is due."""
        now = self.clock.waited()
        wait_s = inf
        for actor in list(self._actors.values()):
            if actor.held_until <= now:
                actor.go_on()
            elif actor.held_until < inf:
                wait_s = min(wait_s, actor.held_until - now)
        return inf if self.clock.frozen else wait_s


class _Rest:
    """What is left of a reply that is sent by and by."""

    def __init__(self, picked: Picked, reply: bytes, now: float) -> None:
        self.picked = picked
        self.left = reply
        self.hurries = False  #: nothing keeps it back any more
        self._since = now
        self._sent = 0

    def take(self, now: float) -> bytes:
        """Return the part that is due."""
        size = self.picked.action.size
        if self.hurries:
            size = len(self.left)
        elif self.picked.action.kind == "bandwidth":
            # A little more, as time is no whole number.
            size = max(0, int(size * (now - self._since) + 1e-6) - self._sent)
        part, self.left = self.left[:size], self.left[size:]
        self._sent += len(part)
        return part

    def due_at(self) -> float:
        """Return when there is the next part: some of a second's, or a byte."""
        bytes_s = self.picked.action.size
        size = min(len(self.left), max(1, bytes_s // _PARTS_A_SECOND))
        return self._since + (self._sent + size) / bytes_s


class Actor:
    """The runner of one connection of a fake."""

    def __init__(self, script: Script, connection: Connection, number: int) -> None:
        self.connection = connection
        self._picked: Picked | None = None  #: what happens to that call
        self._rest: _Rest | None = None  #: of its reply, which is sent by and by
        self.held_until = -inf  #: on the server's clock; nothing is executed before
        self._script = script
        self.runner: Runner = connection.runner
        self._number = number
        self._last_command_at = connection.last_command_at
        self._request = INCOMPLETE
        self._call: Call | None = None  #: being executed, or waiting for that
        self._executing = False
        self._begin = 0  #: of its reply, in the pieces

    def __call__(self, connection: Connection, budget: int, /) -> bool:
        """Execute `budget` commands at most; True: there may be more."""
        script = self._script
        if script.clock.follows:
            # It was told the time of whoever came last, and may have been silent for too long.
            connection.last_command_at = self._last_command_at
            script.look()
            if connection.closing:
                return False
            connection.last_command_at = self._last_command_at = connection.cache.now
        more = True
        script.executing = True
        try:
            # Of a pair's connection one at a time, as its replies come later.
            for _ in range(1 if isinstance(connection, PairedConnection) else max(1, budget)):
                more = self._step(connection)
                if (
                    not more
                    or connection.closing
                    or connection.source is not None
                    or connection.watching
                    or connection.delayed
                    or self._rest is not None  # each part is sent by itself
                ):
                    break
        finally:
            script.executing = False
        return more and not connection.closing

    @property
    def busy(self) -> bool:
        """Whether a command has come that was not answered yet."""
        return self._call is not None or self._rest is not None

    @property
    def has_rest(self) -> bool:
        """Whether there is more of a reply to be sent."""
        return self._rest is not None

    def is_held_by(self, number: int) -> bool:
        """Return whether a fault of that number keeps its client waiting."""
        picked = self._picked if self._rest is None else self._rest.picked
        return picked is not None and picked.rule.number == number

    def release(self) -> None:
        """Hold the connection no longer; what is left of a reply is sent at once."""
        if self._rest is not None:
            self._rest.hurries = True
        self.go_on()

    def go_on(self) -> None:
        """Execute, or send, what was due only now."""
        if self.held_until > -inf:
            self.held_until = -inf
            self.connection.wake()

    # -- one command ---------------------------------------------------------------------------

    def _step(self, connection: Connection) -> bool:
        """Execute the next command, if it is there; False: no more can be done now."""
        script = self._script
        if script.paused or self.held_until > -inf:
            return False
        if self._rest is not None:
            return self._send_part(connection, self._rest)
        if self._executing and connection.swallow_bytes:
            # The value that came with it is refused: there is an answer when it is all here.
            self._begin = len(connection.pieces)
            more = self._run(connection, budget=0)
            if not isinstance(connection, PairedConnection):
                self.settle(connection)
            return more and not connection.swallow_bytes
        if connection.retrieval is not None:  # the rest of a get of many keys
            more = self._run(connection)
            return more or connection.retrieval is not None
        if self._call is None:
            if connection.awaited is not None or connection.swallow_bytes:
                return self._run(connection)
            buffer, position = connection.buffer, connection.position
            request = script.reader(connection).read(self.runner, buffer, position)
            if request is None:
                return self._run(connection)
            if request is INCOMPLETE:
                return False
            self._accept(request)
            if self.held_until > -inf:
                return False
        self._execute(connection, self._request)
        if not isinstance(connection, PairedConnection):
            while connection.retrieval is not None:  # so that all of a reply is at hand
                self._run(connection)
            self.settle(connection)
        return (
            connection.retrieval is not None
            or connection.position < len(connection.buffer)
            or self._rest is not None
        )

    def _accept(self, request: Request) -> None:
        script = self._script
        self._request = request
        call = self._call = Call(
            request.command,
            request.keys,
            request.opaque,
            value=request.value,
            client_flags=request.client_flags,
            ttl=request.ttl,
            noreply=request.quiet,
            names=request.names,
            connection=self._number,
            at=script.clock.realtime(),
            order=next(_order),
        )
        script.record.add(call)
        script.check_end(call)
        picked = self._picked = script.faults.pick(call)
        if picked is not None and picked.action.kind in _HOLDING:
            self.held_until = inf
            seconds = picked.action.seconds
            if picked.action.kind == "delay":
                assert not callable(seconds)
                self.held_until = script.clock.waited() + seconds
            script.wake()
            script.record.tell()

    def _execute(self, connection: Connection, request: Request) -> None:
        self._executing = True
        self._begin = len(connection.pieces)
        action = None if self._picked is None else self._picked.action
        said = None if action is None else self._said_instead(connection, request, action)
        if said is None:
            if action is None or action.kind != "out_of_memory":
                self._run(connection)
                return
            with no_memory(connection.cache):
                self._run(connection)
            return
        connection.position = request.end
        if not would_be_said(request, said):
            said = b""
        assert self._picked is not None
        if said and not request.binary and not said.endswith(b"\n"):
            whole = shorten(said + b"\r\n", _ERROR_MAX_BYTES)
            words = f"a client waits for the end of that line; write {whole}"
            self._script.faults.doubt(self._picked.rule, words)
        if request.swallow_bytes:
            refuse_value(connection, request.swallow_bytes, said)
        elif said:
            connection.reply(said)

    def _said_instead(
        self, connection: Connection, request: Request, action: Action
    ) -> bytes | None:
        """Return what is answered instead of executing a request; None: it is to be executed."""
        match action.kind:
            case "drop" | "reset":
                return None if action.executed else b""
            case "reply":
                return bytes(action.reply)
            case "server_error":
                return encode_failure(request, _INTERNAL_ERROR, action.reply)
            case "miss":
                return self._miss(connection, request)
            case "out_of_memory":
                # Of a pair, another server may have to execute it.
                if request.command in STORING and not isinstance(connection, PairedConnection):
                    return None
                words = b"" if request.binary else b"out of memory"
                return encode_failure(request, NO_MEMORY, words)
        return None

    def _miss(self, connection: Connection, request: Request) -> bytes | None:
        """Return what is answered where no item is; None: something is stored, by executing it."""
        if not request.keys or request.swallow_bytes:
            return None
        assert self._picked is not None
        data = connection.buffer[connection.position : request.end]
        keys = self._picked.keys
        if len(keys) < len(request.keys):  # a get of several: it finds the other ones
            words = split_line(data.rstrip(b"\r\n"))
            head = words[: len(words) - len(request.keys)]
            others = [key for key in request.keys if key not in keys]
            data = _line(*head, *keys)
            connection.buffer = _line(*head, *others) + connection.buffer[request.end :]
            connection.position = 0
        reader = self._script.reader(connection)
        missed = reader.answer_without_items(self.runner, request, data)
        cache = connection.cache
        if not missed.stores:
            counters = cache.counters
            for each in fields(counters):
                more = getattr(missed.counted, each.name)
                setattr(counters, each.name, getattr(counters, each.name) + more)
            return missed.reply if len(keys) == len(request.keys) else None
        # Of a pair it is not for this server to have something go.
        for key in () if isinstance(connection, PairedConnection) else keys:
            item = cache.linked(key)
            if item is not None:
                cache.unlink(item)
        return None

    def _run(self, connection: Connection, *, budget: int = 1) -> bool:
        """Have the real runner do one command."""
        # Choosing the protocol replaces the runner of the connection: let it, and step in again.
        counters = connection.service.counters
        yields = counters.conn_yields
        connection.runner = self.runner
        try:
            more = self.runner(connection, budget)
        finally:
            self.runner = connection.runner
            connection.runner = self
        # Stopping between commands was ours, not the client's doing.
        counters.conn_yields = yields
        return more

    def settle(self, connection: Connection) -> None:
        """Take note of a reply that is complete, and do to it what the fault wants."""
        call = self._call
        if call is None or not self._executing or connection.swallow_bytes:
            return
        if connection.retrieval is not None:
            return
        self._call = None
        self._executing = False
        picked, self._picked = self._picked, None
        pieces = connection.pieces
        begin = self._begin
        if picked is not None:
            rule, action, _ = picked
            if action.kind == "truncate":
                pieces[begin:] = [b"".join(pieces[begin:])[: action.size]]
                self._close(connection)
            elif action.kind == "garbage":
                if any(pieces[begin:]) or connection.source is not None:
                    pieces[begin:] = [rule.random.randbytes(action.size) + b"\r\n"]
                connection.source = None
            elif action.kind in ("drop", "reset"):
                del pieces[begin:]
                if action.kind == "reset":
                    reset_on_close(connection)
                self._close(connection)
        reply = b"".join(pieces[begin:])
        self._script.record.answered(call, reply)
        if picked is not None and picked.action.kind in _SLOW and reply and not connection.closing:
            del pieces[begin:]
            self._rest = _Rest(picked, reply, self._script.clock.waited())
            connection.wake()

    def _send_part(self, connection: Connection, rest: _Rest) -> bool:
        """Send what is due of a reply; False: nothing more can be done now."""
        now = self._script.clock.waited()
        part = rest.take(now)
        if part:
            connection.reply(part)
            connection.fill_run()
        if not rest.left:
            self._rest = None
            return connection.position < len(connection.buffer)
        if rest.hurries or rest.picked.action.kind == "chunks":
            connection.wake()
            return True
        self.held_until = rest.due_at()
        self._script.wake()
        return False

    @staticmethod
    def _close(connection: Connection) -> None:
        connection.source = None
        connection.close()


class ScriptedPairedConnection(PairedConnection):
    """A client of a fake that replicates: its replies may have to wait."""

    def run(self) -> bool:
        more = super().run()
        if not self.waiting:
            more = self._settle() or more
        return more

    def released(self) -> None:
        more = self._settle()
        super().released()
        if more:
            self.wake()

    def _settle(self) -> bool:
        """Take note of a reply; True: it is not sent yet."""
        runner: Any = self.runner
        if not isinstance(runner, Actor):
            return False
        had_rest = runner.has_rest
        runner.settle(self)
        return runner.has_rest and not had_rest


def _line(*words: bytes) -> bytes:
    return b" ".join(words) + b"\r\n"


def encode_failure(request: Request, status: int, text: bytes) -> bytes:
    """Return how a server says in the client's protocol that it failed."""
    text = b" ".join(text.split())[:_ERROR_MAX_BYTES]
    if request.binary:
        return encode_error(request.opcode, status, request.opaque or b"", text)
    return b"SERVER_ERROR %b\r\n" % text


def reset_on_close(connection: Connection) -> None:
    """Have the system reset a client's connection when it is closed. Streams just end."""
    if connection.id <= 0 or connection.transport == "udp":
        return
    # Where the client has gone already, some systems know of no options any more.
    with socket.socket(fileno=os.dup(connection.id)) as sock, suppress(OSError):
        # An option of the connection, not of this name for it.
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_RESET)


@contextmanager
def no_memory(cache: Cache) -> Iterator[None]:
    """Have the cache find no memory for any item."""

    def allocate(slab_class: Any, *sizes: int) -> None:
        slab_class.outofmemory += 1

    bypassed: Any = cache
    bypassed.set = lambda *item, **flags: False
    bypassed._allocate = allocate
    try:
        yield
    finally:
        del bypassed.set, bypassed._allocate
