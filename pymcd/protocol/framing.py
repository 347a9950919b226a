"""The command loop of the text protocols: where lines and data blocks end, what to swallow.

A `Verb` says whether a data block follows. Its `decode` turns the line into a header, whose
first element is the length of the block, or refuses it, and says how much is to be swallowed;
`store` then gets header and block together, so that a command is executed whole or not at all, and
a line is decoded once however many pieces its block arrives in. How long a line may be is checked
here, the sizes of keys and values by the verbs. What the other protocols do with values that
arrive in pieces or are refused, they do with the functions here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .. import limits
from .tokens import BAD_CHUNK, ERROR, split_line

if TYPE_CHECKING:
    from .connection import Connection
    from .verbs import type_Header


def run_text(connection: Connection, budget: int, /) -> bool:
    """Execute buffered text commands. True: the budget ended first."""
    # Hot path: bench/ "get16", "set16".
    if connection.awaited is not None and not _finish_block(connection):
        return False
    if connection.swallow_bytes and not swallow(connection):
        return False
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
        stop = end - 1 if end - position > 1 and buffer[end - 1] == 13 else end
        line = buffer[position:stop]
        position = end + 1
        budget -= 1
        if trace:
            connection.service.host.log_line(f"<{connection.id} {line.decode('latin-1')}")
        tokens = line.split(b" ")
        verb = verbs.get(tokens[0])
        if verb is None or not tokens[-1] or b"  " in line or b"\0" in line:
            tokens = split_line(line)
            verb = verbs.get(tokens[0]) if tokens else None
            if verb is None:
                connection.position = position
                _unknown(connection, tokens)
                if connection.closing or connection.waiting:
                    return False
                continue
        if cache.listener is not None:
            connection.service.recorder.begin(connection, tokens[0])
        if verb.decode is None:
            connection.position = position
            verb.handler(connection, tokens)  # type: ignore[misc]
            if (
                connection.closing
                or connection.source is not None
                or connection.watching
                or connection.waiting
                or connection.delayed
            ):
                return False
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
            connection.awaited = (verb, header)
            connection.awaited_chunks = [buffer[position:]]
            connection.awaited_bytes = stop + 2 - len(buffer)
            connection.buffer = b""
            connection.position = 0
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
    if connection.awaited_bytes > 0:
        return False
    assert connection.awaited is not None
    verb, header = connection.awaited
    if connection.cache.listener is not None:
        connection.service.recorder.begin(connection, b"")  # what it is was told already
    block, terminator = take_awaited(connection, end_bytes=2)
    if terminator == b"\r\n":
        verb.store(connection, header, block)
    else:
        _bad_block(connection, header)
    return not connection.waiting


def take_awaited(connection: Connection, *, end_bytes: int) -> tuple[bytes, bytes]:
    """Return what was awaited and has arrived, its last bytes apart; what is behind comes next."""
    chunks = connection.awaited_chunks
    last = chunks[-1]
    position = len(last) + connection.awaited_bytes
    if position < end_bytes:  # the end is itself in two pieces, or there are pieces behind it
        position -= len(last)
        last = b"".join(chunks)
        chunks = [last]
        position += len(last)
    chunks[-1] = last[: position - end_bytes]
    connection.awaited = None
    connection.awaited_chunks = []
    connection.buffer = last
    connection.position = position
    return b"".join(chunks), last[position - end_bytes : position]


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
    available = len(connection.buffer) - connection.position
    taken = min(available, connection.swallow_bytes)
    connection.position += taken
    connection.swallow_bytes -= taken
    if connection.swallow_bytes:
        return False
    reply = connection.refusal
    if reply:
        connection.refusal = b""
        connection.refuse(reply)
    return not connection.waiting


def _unknown(connection: Connection, tokens: list[bytes]) -> None:
    # memcached: process_command_ascii. A browser must not be a client.
    if tokens and tokens[: limits.TOKENS_MAX - 1][-1].startswith(b"HTTP/") and len(tokens[0]) > 1:
        connection.close("error")
    else:
        connection.refuse(ERROR)


def _check_endless_line(connection: Connection) -> None:
    # memcached: try_read_command_ascii
    length = len(connection.buffer) - connection.position
    if length <= limits.LINE_MAX_BYTES:
        return
    start = connection.buffer[connection.position : connection.position + 128]
    blanks = len(start) - len(start.lstrip(b" "))
    if (
        blanks > 100
        or not start.lstrip(b" ").startswith((b"get ", b"gets "))
        or length > limits.GET_LINE_MAX_BYTES
    ):
        connection.close("error")
