"""The binary protocol: header, opcodes, quiet forms, status codes.  # protocol-binary.txt

A `Command` says of one opcode what a request must look like (extras, key, value), and which
handler executes it; a table has one for each of the 256 opcodes: `COMMANDS` where nobody logs in,
`STRANGER_COMMANDS` and `MEMBER_COMMANDS` before and after a login. `run_binary` cuts requests
out of the buffer by their headers and checks them; a handler always sees a whole request.
`answer_plain` is its short form for the two requests that are most of all traffic.

Where memcached departs from its document, this follows memcached: an unknown opcode with a body
throws away as many bytes as the body has, but from behind extras and key, and what follows a
request that is longer than it should be (STAT, TOUCH, GAT) is read as the next one. Nothing is
answered before extras and key are there, and a client whose extras and key fit in no buffer of
memcached's is not answered at all.

Counted, unlike there: values refused because of their size or for want of memory.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING, Any, Final

from .. import limits
from ..store.item import Item, key_marks
from ..store.status import Status, StoreMode
from . import reports
from .framing import await_value, refuse_value, swallow, take_value
from .verbs import (
    INVALID,
    LOCAL,
    NEXT_REQUEST,
    NO_VALUE,
    READS,
    VALUE,
    WRITES,
    Command,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ..store import Cache
    from .connection import Connection
    from .verbs import Effect

    _Handler = Callable[["Connection", "Request"], None]

REQUEST_MAGIC: Final = 0x80
RESPONSE_MAGIC: Final = 0x81
HEADER_BYTES: Final = 24

#: magic, opcode, key length, extras length, (data type, virtual bucket), body length, opaque, cas
_REQUEST: Final = struct.Struct(">BBHB3xI4sQ")
_unpack_request: Final = _REQUEST.unpack_from
#: ... with the extras of a set: client flags, expiration.
_unpack_set: Final = struct.Struct(">BBHB3xI4sQII").unpack_from
_SET_EXTRAS_BYTES: Final = 8
_SET_REQUEST_BYTES: Final = HEADER_BYTES + _SET_EXTRAS_BYTES
#: magic, opcode, key length, extras length, (data type), status, body length, opaque, cas
_RESPONSE: Final = struct.Struct(">BBHBxHI4sQ")
_pack_response: Final = _RESPONSE.pack
#: ... with four bytes of extras: the client flags.
_pack_response_flags: Final = struct.Struct(">BBHBxHI4sQI").pack
#: Expiration and so on, as extras have them.
_U32: Final = struct.Struct(">I")
_U64: Final = struct.Struct(">Q")
_STORE_EXTRAS: Final = struct.Struct(">II")
_ARITHMETIC_EXTRAS: Final = struct.Struct(">QQI")
#: ... with the signs that the log gives them.
_SHOWN_EXTRAS: Final = struct.Struct(">qQi")

# protocol-binary.txt, 3.2 "Response Status"
OK: Final = 0x00
KEY_NOT_FOUND: Final = 0x01
KEY_EXISTS: Final = 0x02
TOO_LARGE: Final = 0x03
NOT_STORED: Final = 0x05
NON_NUMERIC: Final = 0x06
AUTH_ERROR: Final = 0x20
AUTH_CONTINUE: Final = 0x21
UNKNOWN_COMMAND: Final = 0x81
NO_MEMORY: Final = 0x82

ERROR_TEXTS: Final = {
    KEY_NOT_FOUND: b"Not found",
    KEY_EXISTS: b"Data exists for key.",
    TOO_LARGE: b"Too large.",
    INVALID: b"Invalid arguments",
    NOT_STORED: b"Not stored.",
    NON_NUMERIC: b"Non-numeric server-side value for incr or decr",
    AUTH_ERROR: b"Auth failure.",
    AUTH_CONTINUE: b"",  # the challenge is the text
    UNKNOWN_COMMAND: b"Unknown command",
    NO_MEMORY: b"Out of memory",
}

_FORGET: Final = b"replication forget "
_NO_MEMORY_READING: Final = b"Out of memory during read"

DELETEQ: Final = 0x14
_GET: Final = 0x00
_SET_OPCODE: Final = 0x01
_VERSION: Final = 0x0B
_STAT: Final = 0x10
_SASL_LIST, _SASL_AUTH, _SASL_STEP = 0x20, 0x21, 0x22
_SASL_STEPS: Final = {_SASL_AUTH: "sasl_auth", _SASL_STEP: "sasl_step"}

#: An expiration that forbids incr and decr to create. # protocol-binary.txt, 4.5
_DO_NOT_CREATE: Final = limits.UINT32_MAX
#: Whatever is longer closes the connection. # memcached: try_read_command_binary
_BODY_MAX_BYTES: Final = 1 << 30
#: A longer name of a mechanism is an error. # memcached: MAX_SASL_MECH_LEN
_MECHANISM_MAX_BYTES: Final = 32

#: A reply with a larger value is sent in several chunks.
_JOINED_VALUE_MAX_BYTES: Final = limits.REPLY_CHUNK_BYTES - limits.REPLY_LINE_MAX_BYTES

_STORED: Final = Status.STORED
_SET: Final = StoreMode.SET


@dataclass(slots=True, eq=False)
class Request:
    """One request, whole; the value may still be on its way."""

    command: Command
    key: bytes
    extras: bytes
    opaque: bytes  #: sent back as it came
    cas: int
    value: bytes


def encode_request(request: Request) -> bytes:
    """Return a request as a client would send it."""
    return b"".join(encode_pieces(request))


def encode_pieces(request: Request) -> tuple[bytes, bytes]:
    """Return a request as a client would send it, but for its value, and that."""
    key, extras, value = request.key, request.extras, request.value
    head = _REQUEST.pack(
        REQUEST_MAGIC,
        request.command.opcode,
        len(key),
        len(extras),
        len(extras) + len(key) + len(value),
        request.opaque,
        request.cas,
    )
    return head + extras + key, value


# -- the command loop --------------------------------------------------------------------------


def holds_request(connection: Connection) -> bool:
    """Return whether the buffer holds a request that could be executed, or whose value could."""
    buffer, position = connection.buffer, connection.position
    if len(buffer) < position + HEADER_BYTES:
        return False
    _, _, key_bytes, extras_bytes, _, _, _ = _unpack_request(buffer, position)
    return len(buffer) >= position + HEADER_BYTES + int(extras_bytes) + int(key_bytes)


def run_binary(connection: Connection, budget: int, /) -> bool:
    """Execute buffered binary requests. True: the budget ended first."""
    # Hot path: bench/ with `memcaslap -B`.
    if connection.awaited is not None and not _finish_value(connection):
        return False
    if connection.swallow_bytes and not swallow(connection):
        return False
    buffer = connection.buffer
    position = connection.position
    cache = connection.cache
    commands = connection.commands
    trace = connection.service.verbosity > 1
    while budget:
        extras_at = position + HEADER_BYTES
        if len(buffer) < extras_at:
            connection.position = position
            return False
        magic, opcode, key_bytes, extras_bytes, body_bytes, opaque, cas = _unpack_request(
            buffer, position
        )
        key_at = extras_at + extras_bytes
        value_at = key_at + key_bytes
        if magic != REQUEST_MAGIC:
            connection.position = position
            if trace:
                _log_header(connection, buffer[position:extras_at])
            connection.close("error", f"Invalid magic:  {magic:x}")
            return False
        if len(buffer) < value_at:
            connection.position = position
            if len(buffer) - position >= limits.READ_BUFFER_BYTES:
                connection.close()
            return False
        if trace:
            _log_header(connection, buffer[position:extras_at])
        command = commands[opcode]
        value_bytes = body_bytes - extras_bytes - key_bytes
        if (
            extras_bytes not in command.extras
            or not command.key_min <= key_bytes <= command.key_max
            or value_bytes < 0
            or (value_bytes and command.value == NO_VALUE)
            or body_bytes > _BODY_MAX_BYTES
        ):
            connection.position = position
            if value_at - position > limits.READ_BUFFER_BYTES:
                connection.close()
            else:
                _refuse(connection, command, opaque, value_bytes, body_bytes)
            return False
        budget -= 1
        request = Request(
            command, buffer[key_at:value_at], buffer[extras_at:key_at], opaque, cas, b""
        )
        if trace:
            words = _request_words(connection, request, value_bytes)
            if words:
                connection.service.host.log_line(words)
        if cache.listener is not None:
            connection.service.recorder.begin(connection, command.name)
        position = value_at
        if command.value == VALUE:
            check = command.check
            if check is not None and not check(connection, request, value_bytes):
                connection.position = position
                if not swallow(connection):
                    return False
                position = connection.position
                continue
            position += value_bytes
            if len(buffer) < position:
                connection.position = value_at
                refusal = encode_error(opcode, NO_MEMORY, opaque, _NO_MEMORY_READING)
                await_value(connection, command, request, value_bytes, refusal)
                return False
            request.value = buffer[value_at:position]
        if command.plain:
            command.handler(connection, request)
            if connection.weight < limits.RUN_REPLY_BYTES:
                continue
            connection.position = position
            return connection.has_more
        connection.position = position
        command.handler(connection, request)
        if (
            connection.closing
            or connection.source is not None
            or connection.delayed
            or connection.waiting
        ):
            return False
        commands = connection.commands
        if command.ends_run and position < len(buffer):
            return True
        if connection.weight >= limits.RUN_REPLY_BYTES:
            return connection.has_more
    connection.position = position
    if position < len(buffer):
        connection.service.counters.conn_yields += 1
        return True
    return False


def answer_plain(connection: Connection, data: bytes) -> bytes | None:
    """Answer one whole get, or one whole set without cas; None: as in text.py."""
    # Hot path: bench/ with `memcaslap -B`.
    if len(data) < HEADER_BYTES:
        return None
    if data[1] == _GET:
        magic, _, key_bytes, extras_bytes, body_bytes, opaque, _ = _unpack_request(data)
        if (
            len(data) != HEADER_BYTES + key_bytes
            or body_bytes != key_bytes
            or not 0 < key_bytes <= limits.KEY_MAX_BYTES
            or extras_bytes
            or magic != REQUEST_MAGIC
        ):
            return None
        item = connection.cache.get(data[HEADER_BYTES:])
        if item is None:
            return encode_error(_GET, KEY_NOT_FOUND, opaque)
        value = item.value
        head = _pack_response_flags(
            RESPONSE_MAGIC,
            _GET,
            0,
            4,
            OK,
            4 + len(value),
            opaque,
            item.cas_unique,
            0 if type(item) is Item else item.client_flags,  # text.py
        )
        if len(value) <= _JOINED_VALUE_MAX_BYTES:
            return head + value
        connection.pieces += (head, value)
        connection.lent.append((item, value))
        return None
    if data[1] != _SET_OPCODE or len(data) < _SET_REQUEST_BYTES:
        return None
    magic, _, key_bytes, extras_bytes, body_bytes, opaque, cas, client_flags, exptime = _unpack_set(
        data
    )
    value_at = _SET_REQUEST_BYTES + key_bytes
    if (
        cas
        or not 0 < key_bytes <= limits.KEY_MAX_BYTES
        or len(data) != HEADER_BYTES + body_bytes
        or len(data) < value_at
        or extras_bytes != _SET_EXTRAS_BYTES
        or magic != REQUEST_MAGIC
    ):
        return None
    key = data[_SET_REQUEST_BYTES:value_at]
    expires_at = connection.expires_at(exptime) if exptime else 0
    cache = connection.cache
    if key_marks(key) or not cache.set(key, data[value_at:], expires_at, client_flags):
        return None
    return _pack_response(RESPONSE_MAGIC, _SET_OPCODE, 0, 0, OK, 0, opaque, cache.cas_unique)


def _finish_value(connection: Connection) -> bool:
    """Execute the awaited request if its value has arrived; False: no more can be done now."""
    if connection.awaited_bytes:
        return False
    command, request, value = take_value(connection)
    request.value = value
    if connection.cache.listener is not None:
        connection.service.recorder.begin(connection, command.name)
    command.handler(connection, request)
    return not (connection.closing or connection.delayed or connection.waiting)


def _refuse(
    connection: Connection, command: Command, opaque: bytes, value_bytes: int, body_bytes: int
) -> None:
    # memcached: dispatch_bin_command, handle_binary_protocol_error
    opcode, status, words = command.opcode, command.refusal, ""
    if value_bytes < 0:
        status = UNKNOWN_COMMAND
    elif body_bytes > _BODY_MAX_BYTES:
        status = INVALID
    elif status == INVALID:
        words = f"Protocol error (opcode {opcode:02x}), close connection {connection.id}"
    connection.refuse(encode_error(opcode, status, opaque))
    connection.close("error", words)


# -- replies -----------------------------------------------------------------------------------


def _reply(connection: Connection, request: Request, body: bytes = b"", cas: int = 0) -> None:
    """Answer with success, unless the request is a quiet one."""
    command = request.command
    if not command.quiet:
        connection.reply(
            _pack_response(RESPONSE_MAGIC, command.opcode, 0, 0, OK, len(body), request.opaque, cas)
            + body
        )


def _fail(connection: Connection, request: Request, status: int, text: bytes = b"") -> None:
    """Answer with another status than success: quiet requests, too, want to know."""
    connection.reply(encode_error(request.command.opcode, status, request.opaque, text))


def _refuse_value(connection: Connection, request: Request, status: int, length: int) -> None:
    """Have so many bytes thrown away, then answer as `_fail` does."""
    refuse_value(connection, length, encode_error(request.command.opcode, status, request.opaque))


def encode_error(
    opcode: int, status: int, opaque: bytes, text: bytes = b"", key_bytes: int = 0
) -> bytes:
    """Return the reply to a request that failed; `text` instead of what the status says."""
    text = text or ERROR_TEXTS[status]
    return _pack_response(RESPONSE_MAGIC, opcode, key_bytes, 0, status, len(text), opaque, 0) + text


# -- retrieval ---------------------------------------------------------------------------------


def _get(connection: Connection, request: Request) -> None:
    # protocol-binary.txt, 4.2 "Get ...", 4.11 "Touch, GAT and GATQ"
    cache = connection.cache
    command = request.command
    key = request.key
    if command.touches:
        item = cache.touch(key, cache.expiry.expires_at(*_U32.unpack(request.extras)))
    else:
        item = cache.get(key)
    shown_key = key if command.with_key else b""
    key_bytes = len(shown_key)
    if item is None:
        if not command.quiet:
            connection.reply(
                encode_error(command.opcode, KEY_NOT_FOUND, request.opaque, shown_key, key_bytes)
            )
        return
    shown_value = item.value if command.with_value else b""
    if len(shown_value) > limits.LIGHT_VALUE_BYTES:
        connection.weight += len(shown_value)
        if len(shown_value) > limits.LENT_VALUE_BYTES:
            connection.lent.append((item, shown_value))
    connection.pieces += (
        _pack_response_flags(
            RESPONSE_MAGIC,
            command.opcode,
            key_bytes,
            4,
            OK,
            4 + key_bytes + len(shown_value),
            request.opaque,
            item.cas_unique,
            item.client_flags,
        )
        + shown_key,
        shown_value,
    )


# -- storage -----------------------------------------------------------------------------------


def _check_value(connection: Connection, request: Request, value_bytes: int) -> bool:
    # memcached: process_bin_update, process_bin_append_prepend
    client_flags = _STORE_EXTRAS.unpack(request.extras)[0] if request.extras else 0
    if connection.cache.admit(request.command.mode, request.key, value_bytes, client_flags):
        return True
    _refuse_value(connection, request, TOO_LARGE, value_bytes)
    if request.command.mode is _SET:
        connection.drop(request.key)
    return False


def _store(connection: Connection, request: Request) -> None:
    # protocol-binary.txt, 4.3 "Set, Add, Replace", 4.9 "Append, Prepend"
    cache = connection.cache
    key = request.key
    value = request.value
    mode = request.command.mode
    client_flags = expires_at = 0
    cas_compare = request.cas if cache.use_cas else 0
    if request.extras:
        client_flags, exptime = _STORE_EXTRAS.unpack(request.extras)
        if exptime:
            expires_at = cache.expiry.expires_at(exptime)
        if cas_compare:  # whichever of the three it is
            mode = StoreMode.CAS
    # Hot path: bench/ with `memcaslap -B`.
    if mode is _SET and cache.set(key, value, expires_at, client_flags):
        status = _STORED
    else:
        status = cache.store(mode, key, value, client_flags, expires_at, cas_compare)
    if status is _STORED:
        _mark_key(cache, key)
        _reply(connection, request, b"", cache.cas_unique)
    elif status is Status.NO_MEMORY:
        _fail(connection, request, NO_MEMORY, b"Out of memory allocating item")
    elif status is Status.NO_MEMORY_READING:
        _fail(connection, request, NO_MEMORY, _NO_MEMORY_READING)
    else:
        _fail(connection, request, _store_error(mode, status))


def _mark_key(cache: Cache, key: bytes) -> None:
    """Have the text protocol see that it cannot name this item, if that is so."""
    marks = key_marks(key)
    if marks:
        item = cache.inspect(key)
        if item is not None:  # it may have been stored expired
            cache.mark(item, marks)


def _store_error(mode: StoreMode, status: Status) -> int:
    # memcached: complete_update_bin
    if status is Status.TOO_LARGE:
        return TOO_LARGE
    if status is Status.EXISTS or mode is StoreMode.ADD:
        return KEY_EXISTS
    if status is Status.NOT_FOUND or mode is StoreMode.REPLACE:
        return KEY_NOT_FOUND
    return NOT_STORED


# -- the other commands on items ---------------------------------------------------------------


def _delete(connection: Connection, request: Request) -> None:
    # protocol-binary.txt, 4.4 "Delete"
    status = connection.cache.delete(request.key, request.cas)
    if status is _STORED:
        _reply(connection, request)
    else:
        error = KEY_EXISTS if status is Status.EXISTS else KEY_NOT_FOUND
        _fail(connection, request, error)


def _arithmetic(connection: Connection, request: Request) -> None:
    # protocol-binary.txt, 4.5 "Increment, Decrement"
    cache = connection.cache
    key = request.key
    delta, initial, exptime = _ARITHMETIC_EXTRAS.unpack(request.extras)
    item = cache.peek(key)
    if item is None and exptime != _DO_NOT_CREATE:
        text = b"Out of memory allocating new item"
        expires_at = cache.expiry.expires_at(exptime)
        item = cache.create(key, b"%d" % initial, expires_at=expires_at, mode=StoreMode.ADD)
        status, number = (Status.NO_MEMORY if item is None else _STORED), initial
    else:
        text = b"Out of memory incrementing value"
        status, number = cache.increment(
            item, delta, decrement=request.command.decrement, cas_compare=request.cas
        )
    if status is _STORED:
        _mark_key(cache, key)
        _reply(connection, request, _U64.pack(number), cache.cas_unique)
    elif status is Status.NO_MEMORY:
        _fail(connection, request, NO_MEMORY, text)
    else:
        _fail(connection, request, _ARITHMETIC_ERRORS[status])


_ARITHMETIC_ERRORS: Final = {
    Status.NOT_FOUND: KEY_NOT_FOUND,
    Status.NON_NUMERIC: NON_NUMERIC,
    Status.EXISTS: KEY_EXISTS,
}


# -- the server and the connection -------------------------------------------------------------


def _version(connection: Connection, request: Request) -> None:
    _reply(connection, request, limits.MEMCACHED_VERSION.encode())


def _noop(connection: Connection, request: Request) -> None:
    _reply(connection, request)


def _quit(connection: Connection, request: Request) -> None:
    _reply(connection, request)
    connection.close()


def _flush(connection: Connection, request: Request) -> None:
    # protocol-binary.txt, 4.8 "Flush"
    service = connection.service
    if service.settings.disable_flush_all:
        _fail(connection, request, AUTH_ERROR)
        return
    service.cache.flush(*_U32.unpack(request.extras) if request.extras else (0,))
    service.maintainer.wake()
    _reply(connection, request)


def _unknown(connection: Connection, request: Request) -> None:
    _fail(connection, request, UNKNOWN_COMMAND)


def _refuse_unknown(connection: Connection, request: Request, value_bytes: int) -> bool:
    body_bytes = len(request.extras) + len(request.key) + value_bytes
    _refuse_value(connection, request, UNKNOWN_COMMAND, body_bytes)
    return False


def _refuse_login(connection: Connection, request: Request, value_bytes: int) -> bool:
    _refuse_value(connection, request, UNKNOWN_COMMAND, value_bytes)
    return False


# -- statistics --------------------------------------------------------------------------------


def _stat(connection: Connection, request: Request) -> None:
    # protocol-binary.txt, 4.10 "Stat"; memcached: process_bin_stat. Some words are found by
    # their beginning.
    connection.fill_run()
    service = connection.service
    key = request.key
    opaque = request.opaque
    end = _stat_row(opaque, b"", b"")
    if not key:
        reply = _stat_rows(opaque, reports.general(service)) + end
    elif key.startswith(b"reset"):
        service.reset_counters()
        reply = end
    elif key.startswith(b"settings"):
        reply = _stat_rows(opaque, reports.settings_in_force(service)) + end
    elif key.startswith(b"detail") and service.settings.disable_dumping:
        _fail(connection, request, KEY_NOT_FOUND)
        return
    elif key.startswith(b"detail dump"):
        connection.answer_from(_detail_dump(opaque, reports.prefixes(service)))
        return
    elif key.startswith((b"detail on", b"detail off")):
        service.recorder.set_detail(key.startswith(b"detail on"))
        reply = end
    elif key == b"sizes":
        encoded = (_stat_rows(opaque, rows) for rows in reports.sizes(service))
        connection.answer_from(chain(encoded, (end,)))
        return
    elif key.startswith(_FORGET):
        rows = reports.forget_node(service, key.removeprefix(_FORGET).decode("latin-1"))
        reply = _stat_rows(opaque, rows) + end
    elif key in reports.BY_WORD:
        reply = _stat_rows(opaque, reports.BY_WORD[key](service)) + end
    else:
        _fail(connection, request, KEY_NOT_FOUND)
        return
    connection.reply(reply)


def _detail_dump(opaque: bytes, parts: Iterator[bytes]) -> Iterator[bytes]:
    """Yield all parts as the value of one row, whose length comes first."""
    name = b"detailed"
    gathered = []
    for part in parts:
        gathered.append(part)
        yield b""
    body_bytes = len(name) + sum(map(len, gathered))
    yield _pack_response(RESPONSE_MAGIC, _STAT, len(name), 0, OK, body_bytes, opaque, 0) + name
    yield from gathered
    yield _stat_row(opaque, b"", b"")


def _stat_rows(opaque: bytes, rows: list[reports.Row]) -> bytes:
    return b"".join([_stat_row(opaque, name.encode(), str(value).encode()) for name, value in rows])


def _stat_row(opaque: bytes, name: bytes, value: bytes) -> bytes:
    body = name + value
    return _pack_response(RESPONSE_MAGIC, _STAT, len(name), 0, OK, len(body), opaque, 0) + body


# -- authentication ----------------------------------------------------------------------------


def _list_mechanisms(connection: Connection, request: Request) -> None:
    # protocol-binary.txt, "SASL List Mechanisms". Whoever asks is a stranger from then on.
    connection.fill_run()
    connection.become_stranger()
    authenticator = connection.service.host.authenticator
    assert authenticator is not None
    _reply(connection, request, " ".join(authenticator.mechanisms()).encode())


def _check_login(connection: Connection, request: Request, value_bytes: int) -> bool:
    # memcached: process_bin_sasl_auth
    if len(request.key) > _MECHANISM_MAX_BYTES:
        status = INVALID
    elif value_bytes > limits.LOGIN_MAX_BYTES:
        status = NO_MEMORY
    else:
        return True
    _refuse_value(connection, request, status, value_bytes)
    return False


def _login(connection: Connection, request: Request) -> None:
    # protocol-binary.txt, "SASL Authenticate"; memcached: process_bin_complete_sasl_auth.
    # The mechanism is chosen once; a step's is not looked at.
    connection.fill_run()
    connection.become_stranger()
    authenticator = connection.service.host.authenticator
    assert authenticator is not None
    mechanism = request.key.partition(b"\0")[0].decode("latin-1").upper()
    exchange = connection.exchange
    begins = request.command.opcode == _SASL_AUTH
    if begins:
        exchange = authenticator.begin(mechanism)
    connection.exchange = None
    # Cyrus SASL: behind a success the next exchange fails, once, unless it has not yet begun.
    if connection.login_spent and not (begins and mechanism == "PLAIN" and not request.value):
        exchange = None
        connection.login_spent = not begins

    def done(challenge: bytes | None) -> None:
        if challenge is not None:
            connection.exchange = exchange
            _fail(connection, request, AUTH_CONTINUE, challenge)
            return
        counters = connection.service.counters
        counters.auth_cmds += 1
        if exchange is not None and exchange.succeeded:
            connection.login_spent = True
            connection.become_member()
            _reply(connection, request, b"Authenticated")
        else:
            counters.auth_errors += 1
            failure = encode_error(request.command.opcode, AUTH_ERROR, request.opaque)
            connection.refuse_login(failure)

    if exchange is None:
        done(None)
    else:
        connection.log_in(exchange, request.value, done)


# -- the tables --------------------------------------------------------------------------------


def _table(*, with_login: bool) -> list[Command]:
    """Return the commands of who has logged in, or of a server that asks for no login."""
    table = [
        Command(
            opcode,
            f"0x{opcode:02x}",
            LOCAL,
            _unknown,
            extras=range(256),
            key_max=limits.KEY_MAX_BYTES,
            value=VALUE,
            check=_refuse_unknown,
            plain=False,
        )
        for opcode in range(256)
    ]

    def add(opcode: int, name: str, effect: Effect, handler: _Handler, **form: Any) -> None:
        table[opcode] = Command(opcode, name, effect, handler, **form)

    def add_pair(
        opcode: int, quiet_opcode: int, name: str, effect: Effect, handler: _Handler, **form: Any
    ) -> None:
        add(opcode, name, effect, handler, **form)
        add(quiet_opcode, name, effect, handler, quiet=True, **form)

    with_key = {"key_min": 1, "key_max": limits.KEY_MAX_BYTES}
    getting = {**with_key, "logged": "<{id} GET {key}"}
    add_pair(0x00, 0x09, "get", READS, _get, **getting)
    add_pair(0x0C, 0x0D, "get", READS, _get, **getting, with_key=True)
    touching = {**with_key, "extras": (4,), "value": NEXT_REQUEST, "touches": True}
    touching["logged"] = "<{id} TOUCH {key}"
    add(0x1C, "touch", WRITES, _get, **touching, with_value=False)
    add_pair(0x1D, 0x1E, "gat", WRITES, _get, **touching)
    add_pair(0x23, 0x24, "gat", WRITES, _get, **touching, with_key=True)

    storing = {**with_key, "value": VALUE, "check": _check_value}
    for opcode, quiet_opcode, mode in (
        (0x01, 0x11, StoreMode.SET),
        (0x02, 0x12, StoreMode.ADD),
        (0x03, 0x13, StoreMode.REPLACE),
        (0x0E, 0x19, StoreMode.APPEND),
        (0x0F, 0x1A, StoreMode.PREPEND),
    ):
        extras, logged = (0,), "Value len is {bytes}"
        if opcode < 0x0E:
            extras, logged = (8,), f"<{{id}} {mode.name} {{key}} {logged}"
        form = {**storing, "extras": extras, "mode": mode, "logged": logged}
        add_pair(opcode, quiet_opcode, mode.name.lower(), WRITES, _store, **form)

    add_pair(0x04, 0x14, "delete", WRITES, _delete, **with_key, logged="Deleting {key}")
    counting = {**with_key, "extras": (20,), "logged": "incr {key} {0}, {1}, {2}"}
    add_pair(0x05, 0x15, "incr", WRITES, _arithmetic, **counting)
    add_pair(0x06, 0x16, "decr", WRITES, _arithmetic, **counting, decrement=True)

    add_pair(0x07, 0x17, "quit", LOCAL, _quit, plain=False)
    add_pair(0x08, 0x18, "flush_all", WRITES, _flush, extras=(0, 4))
    add(0x0A, "noop", READS, _noop)
    add(_VERSION, "version", LOCAL, _version)
    asking = {"key_max": limits.KEY_MAX_BYTES, "value": NEXT_REQUEST, "logged": "<{id} STATS {key}"}
    add(_STAT, "stats", LOCAL, _stat, **asking, plain=False)

    listing, login, form = _unknown, _unknown, {"value": VALUE, "check": _refuse_login}
    if with_login:
        listing, login = _list_mechanisms, _login
        form = {"value": VALUE, "check": _check_login, "ends_run": True}
    add(_SASL_LIST, "sasl_list", LOCAL, listing, plain=False)
    for opcode, name in _SASL_STEPS.items():
        add(opcode, name, LOCAL, login, **with_key, **form, plain=False)
    return table


COMMANDS: Final = _table(with_login=False)
MEMBER_COMMANDS: Final = _table(with_login=True)
STRANGER_COMMANDS: Final = [
    command
    if command.opcode in (_VERSION, _SASL_LIST, *_SASL_STEPS)
    # Whatever the form: no key is short enough.
    else Command(command.opcode, command.name, LOCAL, _unknown, key_max=-1, refusal=AUTH_ERROR)
    for command in MEMBER_COMMANDS
]


# -- the log of -vv ----------------------------------------------------------------------------


def _log_header(connection: Connection, header: bytes) -> None:
    connection.service.host.log_line(f"<{connection.id} Read binary protocol data:")
    for line in _dump(header):
        connection.service.host.log_line(f"<{connection.id}  {line}")


def _dump(header: bytes) -> list[str]:
    return [
        " " + "".join(f" 0x{byte:02x}" for byte in header[start : start + 4])
        for start in range(0, HEADER_BYTES, 4)
    ]


def _request_words(connection: Connection, request: Request, value_bytes: int) -> str:
    """Return what memcached logs of a request besides its header; often nothing."""
    numbers = ()
    if len(request.extras) == _SHOWN_EXTRAS.size:
        numbers = _SHOWN_EXTRAS.unpack(request.extras)
    key = request.key.decode("latin-1")
    return request.command.logged.format(*numbers, id=connection.id, key=key, bytes=value_bytes)


def reply_lines(reply: bytes) -> list[str]:
    """Return what memcached logs of the replies to one request."""
    lines: list[str] = []
    position = 0
    while position + HEADER_BYTES <= len(reply):
        header = reply[position : position + HEADER_BYTES]
        opcode = header[1]
        status, body_bytes = struct.unpack_from(">HI", header, 6)
        position += HEADER_BYTES + body_bytes
        if status == OK:
            if opcode == _STAT:  # rows are not logged
                continue
            if COMMANDS[opcode].handler is _get:  # the unique is filled in later there
                header = header[:-8] + bytes(8)
        elif status != AUTH_CONTINUE:
            text = reply[position - body_bytes : position]
            lines.append("Writing an error: " + text.decode("latin-1"))
        lines += ["Writing bin response:", *_dump(header)]
    return lines
