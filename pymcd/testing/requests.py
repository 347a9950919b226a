"""Where the next command in a connection's buffer ends, and what it is about.

The log and the faults need a name, keys and an end, before a command is executed. So the protocols
read it, on a connection of their own whose handlers only take notes: what is one command here is
one to the server. What is not whole, or not clear, is left to the server.
"""

from __future__ import annotations

import difflib
from copy import copy
from dataclasses import replace
from typing import TYPE_CHECKING, Final, NamedTuple

from .. import limits
from ..protocol import Connection
from ..protocol.binary import run_binary
from ..protocol.framing import run_text
from ..protocol.login import login_bytes, run_login
from ..protocol.meta import META_VERBS
from ..protocol.text import VERBS
from ..protocol.tokens import split_line
from ..protocol.trace import Tracer
from ..protocol.verbs import LOCAL, Command, Verb
from ..service import Service

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ..protocol.binary import Request as BinaryRequest
    from ..protocol.connection import Runner
    from ..protocol.verbs import type_Header

#: Every name that a call may have, if the client speaks the protocol.
COMMANDS: Final = frozenset(
    (
        *(word.decode() for word in VERBS),
        *(each.name for each in Connection.tables.members if not each.name.startswith("0x")),
    )
)
#: Those that always need memory.
STORING: Final = frozenset(word.decode() for word, verb in VERBS.items() if verb.store)


def as_commands(command: str | Iterable[str] | None) -> frozenset[str] | None:
    """Return the names of one command or several; raise `ValueError` for an unknown one."""
    if command is None:
        return None
    names = [command] if isinstance(command, str) else list(command)
    for name in names:
        if name in COMMANDS:
            continue
        lowered = name.lower() if isinstance(name, str) else ""
        near = [lowered] if lowered in COMMANDS else difflib.get_close_matches(lowered, COMMANDS, 1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        known = " ".join(sorted(COMMANDS))
        raise ValueError(f"there is no command {name!r}{hint} The commands are: {known}")
    return frozenset(names)


class Request(NamedTuple):
    """One whole request, from outside."""

    command: str
    keys: tuple[bytes, ...]
    opaque: bytes | None
    end: int  #: where it ends in the buffer
    binary: bool
    swallow_bytes: int = 0  #: of a refused value that are still to come


#: There is more of it to come.
INCOMPLETE: Final = Request("", (), None, -1, binary=False)


class RequestReader:
    """Reads what clients of one service send, by a service like it, in which there is nothing."""

    def __init__(self, service: Service) -> None:
        self._service = Service(service.settings, service.clock, service.host)
        self._service.verbosity = 0
        self._noted: tuple[str, tuple[bytes, ...], bytes | None] | None = None
        tables = Connection.tables
        self._verbs = {word: self._note_verb(verb) for word, verb in tables.verbs.items()}
        commands = tables.members if service.host.authenticator else tables.commands
        self._commands = [self._note_command(command) for command in commands]

    def read(self, runner: Runner, buffer: bytes, position: int) -> Request | None:
        """Return the request that begins there; None: there is none, or it is not clear which."""
        if isinstance(runner, Tracer):
            runner = runner.runner
        if runner is run_login:
            return _read_login(buffer, position)
        reader = Connection(self._service, trusted=True)
        reader.verbs, reader.commands = self._verbs, self._commands
        reader.buffer, reader.position, reader.runner = buffer, position, runner
        self._noted = None
        runner(reader, 1)
        if reader.awaited is not None:
            reader.forget_value()
            return INCOMPLETE
        end = reader.position
        if self._noted is None and reader.runner is run_text and end > position:
            words = split_line(buffer[position:end].rstrip(b"\r\n"))
            if words:  # which are no command
                self._noted = _name(words), (), None
        if self._noted is None:
            return None
        binary = reader.runner is run_binary
        return Request(*self._noted, end, binary=binary, swallow_bytes=reader.swallow_bytes)

    def _note_verb(self, verb: Verb) -> Verb:
        decode = verb.decode

        def note(connection: Connection, tokens: list[bytes]) -> None:
            opaque = None
            if tokens[0] in META_VERBS:
                opaque = next((word[1:] for word in tokens[2:] if word[:1] == b"O"), None)
            self._noted = _name(tokens), tuple(verb.keys(tokens)), opaque

        if decode is None:
            return replace(verb, handler=note)

        def note_and_decode(connection: Connection, tokens: list[bytes]) -> type_Header | None:
            note(connection, tokens)
            return decode(connection, tokens)

        return replace(verb, decode=note_and_decode, store=_execute_nothing)

    def _note_command(self, command: Command) -> Command:
        check = command.check

        def note(connection: Connection, request: BinaryRequest) -> None:
            keys = () if not request.key or command.effect is LOCAL else (request.key,)
            self._noted = command.name, keys, request.opaque

        def note_and_check(
            connection: Connection, request: BinaryRequest, value_bytes: int
        ) -> bool:
            note(connection, request)
            return check is None or check(connection, request, value_bytes)

        noting = copy(command)
        noting.handler, noting.check = note, note_and_check
        return noting


def _execute_nothing(connection: Connection, header: type_Header, block: bytes) -> None:
    """Take the place of what stores."""


def _read_login(buffer: bytes, position: int) -> Request | None:
    line_end = buffer.find(b"\n", position)
    line = buffer[position : max(position, line_end)]
    words = split_line(line)
    if not words:
        return None
    length = login_bytes(line)
    end = line_end + 1
    if length is not None and length <= limits.READ_BUFFER_BYTES:
        end += length + 2
        if len(buffer) < end:
            return INCOMPLETE
    words[-1] = words[-1].rstrip(b"\r")
    verb = VERBS.get(words[0])
    keys = () if verb is None else tuple(verb.keys(words))
    return Request(_name(words), keys, None, end, binary=False)


def _name(words: list[bytes]) -> str:
    return words[0].decode("utf-8", "replace")
