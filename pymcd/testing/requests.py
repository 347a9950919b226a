"""Where the next command in a connection's buffer ends, and what it is about.

The log and the faults need a name, keys and an end, before a command is executed. So the protocols
read it, on a connection of their own whose handlers only take notes: what is one command here is
one to the server. What is not whole, or not clear, is left to the server.

Who asks for no answer gets none, or not each: `would_be_said` knows the rules of each protocol.
"""

from __future__ import annotations

import difflib
import struct
from collections.abc import Iterable
from copy import copy
from dataclasses import replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple, get_args

from .. import limits
from ..protocol import Connection
from ..protocol.binary import HEADER_BYTES, KEY_NOT_FOUND, OK, RESPONSE_MAGIC
from ..protocol.framing import run_text
from ..protocol.login import login_bytes, run_login
from ..protocol.meta import ARITHMETIC_MODES, META_VERBS, STORE_MODES
from ..protocol.metaflags import decode_flags
from ..protocol.text import VERBS
from ..protocol.tokens import (
    decode_i32,
    decode_loose_i32,
    decode_loose_u32,
    is_silenced,
    split_line,
)
from ..protocol.trace import Tracer
from ..protocol.verbs import LOCAL, WRITES, Command, Verb
from ..service import Service
from ..store.status import StoreMode
from .freeing import take_apart

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..protocol.binary import Request as BinaryRequest
    from ..protocol.connection import Runner
    from ..protocol.metaflags import MetaFlags
    from ..protocol.verbs import type_Header
    from ..store.cache import Counters

#: Every name that a call may have, if the client speaks the protocol; and families of them: what
#: reads items, what writes them. With `=` in front: that very word, in any protocol.
CommandName = Literal[
    "add", "append", "cache_memlimit", "cas", "debugtime", "decr", "delete", "flush_all", "gat",
    "gats", "get", "gets", "incr", "lru", "lru_crawler", "ma", "md", "me", "mg", "mn", "ms", "noop",
    "prepend", "quit", "refresh_certs", "replace", "sasl_auth", "sasl_list", "sasl_step", "set",
    "shutdown", "slabs", "stats", "touch", "verbosity", "version", "watch",
    "reads", "writes",
    "=add", "=append", "=cas", "=decr", "=delete", "=get", "=incr", "=prepend", "=replace", "=set",
    "=touch",
]  # fmt: skip
Commands = CommandName | Iterable[CommandName]

COMMANDS: Final = frozenset(get_args(CommandName))
#: What a command is, too, besides its own name: whoever asks for `get` means what any client does
#: to read an item.
_FAMILIES: Final[dict[str, tuple[str, ...]]] = {
    "get": ("reads",),
    "gets": ("get", "reads"),
    "gat": ("get", "touch", "reads", "writes"),
    "gats": ("get", "touch", "reads", "writes"),
    "mg": ("get", "reads"),
    "me": ("reads",),
    "ms": ("writes",),  # what else depends on its mode
    "md": ("delete", "writes"),
    "ma": ("writes",),
    **dict.fromkeys(
        ("set", "add", "replace", "append", "prepend", "cas", "delete", "incr", "decr", "touch"),
        ("writes",),
    ),
    "flush_all": ("writes",),
}
#: Of whose quiet forms, in the binary protocol, misses are not answered; of others, successes.
_READING_QUIETLY: Final = ("get", "gat")
#: Those that always need memory.
STORING: Final = frozenset(word.decode() for word, verb in VERBS.items() if verb.store)


@lru_cache(maxsize=1024)
def names_of(command: str, *more: str) -> frozenset[str]:
    """Return all names under which a call is found."""
    return frozenset((command, f"={command}", *_FAMILIES.get(command, ()), *more))


def as_commands(command: Commands | None) -> frozenset[str] | None:
    """Return the names of one command or several; raise `ValueError` for an unknown one."""
    if command is None:
        return None
    several = isinstance(command, Iterable) and not isinstance(command, bytes)
    names: list[str] = [command] if isinstance(command, str) else [*command] if several else []
    if not names:
        raise TypeError(f'command={command!r}: write a name or several, as in command="get"')
    for name in names:
        if name in COMMANDS:
            continue
        lowered = name.lower() if isinstance(name, str) else ""
        near = [lowered] if lowered in COMMANDS else difflib.get_close_matches(lowered, COMMANDS, 1)
        hint = f"; did you mean {near[0]!r}?" if near else "."
        known = " ".join(sorted(name for name in COMMANDS if name[0] != "="))
        raise ValueError(f"there is no command {name!r}{hint} The commands are: {known}")
    return frozenset(names)


class Request(NamedTuple):
    """One whole request, from outside."""

    command: str
    keys: tuple[bytes, ...]
    opaque: bytes | None
    end: int = -1  #: where it ends in the buffer
    binary: bool = False
    swallow_bytes: int = 0  #: of a refused value that are still to come
    opcode: int = 0  #: of a binary one
    value: bytes | None = None  #: that is to be stored, if it is not refused
    client_flags: int | None = None
    ttl: int | None = None  #: as it was sent
    quiet: bool = False  #: not all that could be answered is to be
    names: frozenset[str] = frozenset()  #: under which it is found


#: There is more of it to come.
INCOMPLETE: Final = Request("", (), None)

#: What a quiet meta command is not told. # protocol.txt, "Meta Commands", the flag q
_META_UNSAID: Final = {"mg": (b"EN",), "ms": (b"HD",), "md": (b"HD",), "ma": (b"HD", b"VA")}
_QUIET_META: Final = tuple(word.encode() for word in _META_UNSAID)
_STATUS_AT: Final = 6  #: in the header of a binary reply
#: Where text commands have an expiration, but for those that store.
_TTL_AT: Final = {b"gat": 1, b"gats": 1, b"touch": 2}
_STORE_EXTRAS: Final = struct.Struct(">II")
_TTL_EXTRAS: Final = struct.Struct(">I")
_ARITHMETIC_EXTRAS: Final = struct.Struct(">16xI")
_DO_NOT_CREATE: Final = limits.UINT32_MAX  #: is no expiration


def would_be_said(request: Request, reply: bytes) -> bool:
    """Return whether the protocol has a client hear that reply to its request."""
    if not request.quiet:
        return True
    if request.binary:
        if len(reply) < HEADER_BYTES or reply[0] != RESPONSE_MAGIC:
            return False
        status = int.from_bytes(reply[_STATUS_AT : _STATUS_AT + 2], "big")
        return status != (KEY_NOT_FOUND if request.command in _READING_QUIETLY else OK)
    unsaid = _META_UNSAID.get(request.command)
    return unsaid is not None and not reply.startswith(unsaid)


class Missed(NamedTuple):
    """What comes of a request where there are no items."""

    reply: bytes
    stores: bool
    counted: Counters


class _Lazy(dict[int, Command]):
    """By opcode, made when first asked for: most never are."""

    def __init__(self, make: Callable[[int], Command]) -> None:
        super().__init__()
        self._make = make

    def __missing__(self, opcode: int) -> Command:
        command = self[opcode] = self._make(opcode)
        return command


class RequestReader:
    """Reads what clients of one service send, by a service like it, in which there is nothing."""

    def __init__(self, service: Service) -> None:
        self._service = Service(service.settings, service.clock, service.host)
        self._service.verbosity = 0
        self._noted: Request | None = None
        tables = Connection.tables
        self._verbs = {word: self._note_verb(verb) for word, verb in tables.verbs.items()}
        commands = tables.members if service.host.authenticator else tables.commands
        self._commands: Any = _Lazy(lambda opcode: self._note_command(commands[opcode]))

    def fall_apart(self) -> None:
        """Be freed at once; this is of no use any more."""
        take_apart(self._service)
        vars(self).clear()

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
        if reader.retrieval is not None:  # so long a get is not cut into words at once
            end += reader.retrieval.line_bytes + reader.retrieval.skip_bytes
            words = split_line(buffer[position:end].rstrip(b"\r\n"))
            self._noted = _read_line(VERBS[words[0]], words)
        if self._noted is None and reader.runner is run_text and end > position:
            words = split_line(buffer[position:end].rstrip(b"\r\n"))
            if words:  # which are no command
                name = _name(words)
                self._noted = Request(
                    name, (), None, quiet=is_silenced(words), names=names_of(name)
                )
        if self._noted is None:
            return None
        return self._noted._replace(end=end, swallow_bytes=reader.swallow_bytes)

    def answer_without_items(self, runner: Runner, request: Request, data: bytes) -> Missed:
        """Return what a server without any items answers, and whether it then has some."""
        if isinstance(runner, Tracer):
            runner = runner.runner
        cache = self._service.cache
        self._service.tick()
        client = Connection(self._service, trusted=True)
        client.runner = runner
        client.receive_data(data)
        more = True
        while more or client.retrieval is not None:
            more = runner(client, 1)
        counted = cache.counters
        cache.reset_counters()
        stores = cache.item_count > 0
        if stores:
            cache.clear()
        return Missed(b"".join(client.pieces), stores, counted)

    def _note_verb(self, verb: Verb) -> Verb:
        decode = verb.decode

        def note(connection: Connection, tokens: list[bytes]) -> None:
            self._noted = _read_line(verb, tokens)

        if decode is None:
            return replace(verb, handler=note)

        def note_and_decode(connection: Connection, tokens: list[bytes]) -> type_Header | None:
            note(connection, tokens)
            return decode(connection, tokens)

        def note_value(connection: Connection, header: type_Header, block: bytes) -> None:
            assert self._noted is not None
            self._noted = self._noted._replace(value=block)

        return replace(verb, decode=note_and_decode, store=note_value)

    def _note_command(self, command: Command) -> Command:
        check = command.check

        def note(connection: Connection, request: BinaryRequest) -> None:
            self._noted = _read_request(request)

        def note_and_check(
            connection: Connection, request: BinaryRequest, value_bytes: int
        ) -> bool:
            note(connection, request)
            assert self._noted is not None
            self._noted = self._noted._replace(value=None)  # it may be refused
            return check is None or check(connection, request, value_bytes)

        noting = copy(command)
        noting.handler, noting.check = note, note_and_check
        return noting


def _read_line(verb: Verb, tokens: list[bytes]) -> Request:
    """Return what a line of text is about."""
    word = tokens[0]
    opaque = client_flags = ttl = None
    name = _name(tokens)
    names = names_of(name)
    if word in META_VERBS:
        flags = decode_flags(tuple(tokens[3 if word == b"ms" else 2 :]))
        opaque = next((word[1:] for word in tokens[2:] if word[:1] == b"O"), None)
        client_flags = flags.client_flags if word == b"ms" else None
        ttl = flags.touch_exptime
        quiet = flags.quiet and word in _QUIET_META
        names = names_of(name, *_meant(name, flags))
    elif verb.decode is not None:
        quiet = is_silenced(tokens)
        if len(tokens) > 4:
            client_flags = decode_loose_u32(tokens, 2)
            ttl = decode_loose_i32(tokens, 3)
    else:
        quiet = verb.is_quiet(tokens)
        at = _TTL_AT.get(word, len(tokens))
        ttl = decode_i32(tokens[at]) if at < len(tokens) else None
    return Request(
        name,
        tuple(verb.keys(tokens)),
        opaque,
        client_flags=client_flags,
        ttl=ttl,
        quiet=quiet,
        names=names,
    )


def _meant(name: str, flags: MetaFlags) -> list[str]:
    """Return what a meta command amounts to because of its flags."""
    if name == "ms":
        mode = STORE_MODES.get(flags.mode, StoreMode.SET)
        if flags.cas_compare is not None and mode in (StoreMode.SET, StoreMode.REPLACE):
            mode = StoreMode.CAS
        return [mode.name.lower()]
    if name == "ma":
        return ["decr" if ARITHMETIC_MODES.get(flags.mode) else "incr"]
    if name == "mg" and flags.effect is WRITES:
        return ["writes"] if flags.touch_exptime is None else ["touch", "writes"]
    return []


def _read_request(request: BinaryRequest) -> Request:
    """Return what a binary request is about."""
    command, extras = request.command, request.extras
    stores = command.name in STORING
    client_flags = ttl = None
    if command.touches:
        (ttl,) = _TTL_EXTRAS.unpack(extras)
    elif stores and extras:
        client_flags, ttl = _STORE_EXTRAS.unpack(extras)
    elif command.name in ("incr", "decr"):
        (ttl,) = _ARITHMETIC_EXTRAS.unpack(extras)
        ttl = None if ttl == _DO_NOT_CREATE else ttl
    return Request(
        command.name,
        () if not request.key or command.effect is LOCAL else (request.key,),
        request.opaque,
        binary=True,
        opcode=command.opcode,
        value=request.value if stores else None,
        client_flags=client_flags,
        ttl=ttl,
        quiet=command.quiet,
        names=names_of(command.name, *(["cas"] if stores and request.cas else [])),
    )


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
    name = _name(words)
    return Request(name, keys, None, end, names=names_of(name))


def _name(words: list[bytes]) -> str:
    return words[0].decode("utf-8", "replace")
