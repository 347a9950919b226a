"""The command loop of the text protocols: where lines and data blocks end, what to swallow.

A `Verb` says whether a data block follows. Its `decode` turns the line into a header, whose
first element is the length of the block, or refuses it, and says how much is to be swallowed;
`store` then gets header and block together, so that a command is executed whole or not at all, and
a line is decoded once however many pieces its block arrives in. How long a line may be is checked
here, the sizes of keys and values by the verbs. What the other protocols do with values that
arrive in pieces or are refused, they do with the functions here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple

from .. import limits
from .retrieval import LONG_LINE_BYTES, begin_long, go_on
from .tokens import BAD_CHUNK, BAD_FORMAT, ERROR, NO_MEMORY_READING, is_silenced, split_line

if TYPE_CHECKING:
    from .connection import Connection
    from .verbs import type_Header

_RUN_REPLY_BYTES: Final = limits.RUN_REPLY_BYTES  # one look-up less
#: What is before the newline of a command, at least: two letters and the carriage return. What is
#: shorter memcached does not look at, be it a word that it knows.
_COMMAND_MIN_BYTES: Final = 3


class Awaited(NamedTuple):
    """A command whose value is on its way, in terms of its runner."""

    command: Any  #: or verb
    request: Any  #: or the decoded header
    refusal: bytes  #: what is said if there is no room for the value after all
    end_bytes: int  #: of what belongs to it behind the value


def run_text(connection: Connection, budget: int, /) -> bool:
    """Execute buffered text commands. True: the budget ended first."""
    # Hot path: bench/ "get16", "set16".
    if connection.awaited is not None and not _finish_block(connection):
        return False
    if connection.swallow_bytes and not swallow(connection):
        return False
    if connection.retrieval is not None:
        return go_on(connection)
    buffer = connection.buffer
    position = connection.position
    cache = connection.cache
    verbs = connection.verbs
    trace = connection.service.verbosity > 1
    while budget:
        end = buffer.find(b"\n", position)
        if end < 0:
            connection.position = position
            if position < len(buffer):
                _check_endless_line(connection)
            return False
        length = end - position
        stop = end - 1 if length > 1 and buffer[end - 1] == 13 else end
        if length > LONG_LINE_BYTES:
            if length >= limits.READ_BUFFER_BYTES and not _is_get(buffer, position):
                connection.close("error")  # as if it had arrived piece by piece
                return False
            if begin_long(connection, position, stop, end + 1):
                return True
        line = buffer[position:stop]
        position = end + 1
        budget -= 1
        if trace:
            connection.service.host.log_line(f"<{connection.id} {line.decode('latin-1')}")
        tokens = line.split(b" ")
        verb = verbs.get(tokens[0])
        if verb is None or length < _COMMAND_MIN_BYTES or not tokens[-1] or b"  " in line:
            tokens = split_line(line)
            verb = verbs.get(tokens[0]) if tokens and length >= _COMMAND_MIN_BYTES else None
            if verb is None or (line[:1] == b" " and not verb.indented):
                connection.position = position
                _refuse_line(connection, length, tokens)
                if connection.closing or connection.waiting:
                    return False
                continue
        if cache.listener is not None:
            connection.service.recorder.begin(connection, tokens[0])
        if verb.decode is None:
            connection.position = position
            verb.handler(connection, tokens)  # type: ignore[misc]
            if connection.weight >= _RUN_REPLY_BYTES or connection.waiting:
                return connection.has_more
            if connection.verbs is not verbs:
                verbs = connection.verbs
            continue
        header = verb.decode(connection, tokens)
        if header is None:
            connection.position = position
            if connection.swallow_bytes:
                if not swallow(connection):
                    return False
                position = connection.position
            if connection.closing or connection.waiting:
                return False
            continue
        stop = position + header[0]
        if len(buffer) < stop + 2:
            connection.position = position
            refusal = b"" if header[1] else NO_MEMORY_READING
            await_value(connection, verb, header, header[0], refusal, end_bytes=2)
            return False
        if buffer[stop : stop + 2] == b"\r\n":
            verb.store(connection, header, buffer[position:stop])  # type: ignore[misc]
        else:
            _bad_block(connection, header)
            if connection.waiting:
                connection.position = stop + 2
                return False
        position = stop + 2
    connection.position = position
    if position < len(buffer):
        connection.service.counters.conn_yields += 1
        return True
    return False


def _finish_block(connection: Connection) -> bool:
    """Execute the awaited storage command if its block has arrived; False: it has not."""
    position = connection.position
    if connection.awaited_bytes or len(connection.buffer) < position + 2:
        return False
    connection.position = position + 2
    terminator = connection.buffer[position : position + 2]
    if connection.cache.listener is not None:
        connection.service.recorder.begin(connection, b"")  # what it is was told already
    verb, header, block = take_value(connection)
    if terminator == b"\r\n":
        verb.store(connection, header, block)
    else:
        _bad_block(connection, header)
    return not connection.waiting


def await_value(
    connection: Connection,
    command: Any,
    request: Any,
    length: int,
    refusal: bytes,
    *,
    end_bytes: int = 0,
) -> None:
    """Gather a value that has not arrived yet: `take_value` returns it when it has.

    `refusal` is the answer if there is no room for so much, in memory: then value and end are
    thrown away.
    """
    buffer, position = connection.buffer, connection.position
    connection.awaited = Awaited(command, request, refusal, end_bytes)
    connection.awaited_bytes = length
    connection.buffer = b""
    connection.position = 0
    connection.receive_data(buffer[position:])
    if connection.swallow_bytes:  # there is no room even for that
        swallow(connection)


def take_value(connection: Connection) -> tuple[Any, Any, bytes]:
    """Return command, request and value of what was awaited, and has arrived."""
    assert connection.awaited is not None
    command, request, _, _ = connection.awaited
    value = connection.arrived.getvalue()
    connection.forget_value()
    return command, request, value


def _bad_block(connection: Connection, header: type_Header) -> None:
    """Answer for a block that does not end in CRLF; what follows it is read as commands."""
    length, quiet, key = header[:3]
    connection.cache.refuse_block(key, length)
    if not quiet:
        connection.refuse(BAD_CHUNK)


def refuse_value(connection: Connection, length: int, reply: bytes) -> None:
    """Have so many bytes thrown away, the next ones, and then this be said; nothing if empty.

    Not before: clients send all of a value before they look for an answer, and some never find
    their way again when it is there before that.
    """
    connection.swallow_bytes = length
    connection.refusal = reply


def swallow(connection: Connection) -> bool:
    """Throw away what is left of a refused value, and answer; False: no more can be done now."""
    if connection.waiting and connection.swallow_bytes:
        return False  # it is not clear yet what to answer
    available = len(connection.buffer) - connection.position
    taken = min(available, connection.swallow_bytes)
    connection.position += taken
    connection.swallow_bytes -= taken
    if connection.swallow_bytes:
        return False
    reply, connection.refusal = connection.refusal, b""
    if reply:
        connection.refuse(reply)
    return not connection.waiting


def _refuse_line(connection: Connection, length: int, tokens: list[bytes]) -> None:
    # memcached: process_command_ascii. A browser must not be a client.
    if length < _COMMAND_MIN_BYTES:
        connection.refuse(BAD_FORMAT)
    elif len(tokens) > 1 and tokens[: limits.TOKENS_MAX][-1].startswith(b"HTTP/"):
        connection.close("error")
    elif not tokens or not is_silenced(tokens):
        connection.refuse(ERROR)


def _check_endless_line(connection: Connection) -> None:
    # memcached: try_read_command_ascii
    length = len(connection.buffer) - connection.position
    if length <= limits.LINE_MAX_BYTES:
        return
    if length > limits.GET_LINE_MAX_BYTES or not _is_get(connection.buffer, connection.position):
        connection.close("error")
    elif connection.line is None:
        connection.gather_line()


def _is_get(buffer: bytes, position: int) -> bool:
    """Return whether a line may be long."""
    start = buffer[position : position + 128]
    words = start.lstrip(b" ")
    return len(start) - len(words) <= 100 and words.startswith((b"get ", b"gets "))
