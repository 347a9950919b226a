"""What the payloads of CHANGES and FORWARD are made of. Encodes and decodes; nothing else.

Changes are records of resulting state, never operations: to apply one twice is harmless.
Times travel as Unix seconds: what remains of them would mean something else on arrival.
"""

from __future__ import annotations

import struct
from enum import IntEnum
from typing import TYPE_CHECKING, Any, Final

from .frames import FrameError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from .waiting import Commands, Reply

    #: Returns the value of a number, of that length.
    TakeValue = Callable[[int, int], bytes]


class Record(IntEnum):
    """What a record in CHANGES says."""

    STATE = 1
    GONE = 2
    FLUSH = 3
    FLUSH_DUE = 4
    RESULT = 5
    BATCH = 6  #: of three nodes and more: which batch this is, and which all have
    EXECUTED = 7  #: ... and what it answers to whom; or what was answered before
    LARGE = 8  #: a state whose value travels by itself
    FLUSH_AT = 9  #: a flush that is to come, or none any more, and since when
    ALTERED = 10  #: what became of a large item in sync, whose value stays, or grows
    WANTED = 11  #: a key to be told of anew
    RESULT_PIECES = 12  #: as RESULT, in pieces, some of which travel by themselves
    EXECUTED_PIECES = 13  #: likewise


#: Kind, marks, key length, client flags, cas unique, version, Unix end (0: never), value length.
_STATE: Final = struct.Struct("!BBBIQQQI")
#: Kind, key length, version.
_GONE: Final = struct.Struct("!BBQ")
#: Kind, version. Or: kind, Unix seconds.
_FLUSH: Final = struct.Struct("!BQ")
#: Kind, version, Unix seconds.
_FLUSH_AT: Final = struct.Struct("!BQQ")
#: Kind, request, reply length.
_RESULT: Final = struct.Struct("!BQI")
#: Kind, batch, batch that all have.
_BATCH: Final = struct.Struct("!BQQ")
#: Behind the head of a state, and the key: version that is altered, pieces appended, prepended.
_ALTERED: Final = struct.Struct("!QII")
#: Kind, key length.
_WANTED: Final = struct.Struct("!BB")
#: Kind, length of node id, request, reply length.
_EXECUTED: Final = struct.Struct("!BBQI")
#: Request, protocol and form, length.
_FORWARD: Final = struct.Struct("!QBI")
_BINARY: Final = 1
#: The commands are in pieces, some of which travel by themselves.
_PIECES: Final = 2
#: Number of a value that travels by itself, 0: what follows is the piece; and its length.
_PIECE: Final = struct.Struct("!QI")
#: Of a value, behind the key.
_NUMBER: Final = struct.Struct("!Q")

# Of the hot path: states are packed and unpacked where they are needed.
STATE: Final = 1
STATE_BYTES: Final = _STATE.size
pack_state: Final = _STATE.pack
unpack_state: Final = _STATE.unpack_from


def encode_gone(key: bytes, version: int) -> bytes:
    """Return the record of a deletion."""
    return _GONE.pack(Record.GONE, len(key), version) + key


def encode_flush(version: int) -> bytes:
    """Return the record of a flush: everything older is dead."""
    return _FLUSH.pack(Record.FLUSH, version)


def encode_flush_due(version: int, unix_s: int) -> bytes:
    """Return the record of a flush that is to come; 0: none is. The version is that of the word."""
    return _FLUSH_AT.pack(Record.FLUSH_AT, version, unix_s)


def for_first_version(pieces: list[bytes]) -> list[bytes]:
    """Return records as who speaks the first version of the protocol knows them.

    Flushes are before anything else, and only what begins a record tells what it is.
    """
    at = 1 if pieces[0][0] == Record.FLUSH else 0
    if len(pieces) == at or pieces[at][0] != Record.FLUSH_AT:
        return pieces
    _, _, unix_s = _FLUSH_AT.unpack(pieces[at])
    return [*pieces[:at], _FLUSH.pack(Record.FLUSH_DUE, unix_s), *pieces[at + 1 :]]


def encode_result(request: int, reply: bytes) -> bytes:
    """Return the record of the reply to forwarded commands."""
    return _RESULT.pack(Record.RESULT, request, len(reply)) + reply


def encode_result_pieces(request: int, pieces: bytes) -> bytes:
    """Return the record of a reply that is made of what `encode_piece` gives."""
    return _RESULT.pack(Record.RESULT_PIECES, request, len(pieces)) + pieces


def encode_batch(ticket: int, stable: int) -> bytes:
    """Return the record that says which batch this is, and which every follower has."""
    return _BATCH.pack(Record.BATCH, ticket, stable)


def encode_executed(node_id: str, request: int, reply: bytes) -> bytes:
    """Return the record of a reply that another follower is to get."""
    name = node_id.encode()
    return _EXECUTED.pack(Record.EXECUTED, len(name), request, len(reply)) + name + reply


def encode_executed_pieces(node_id: str, request: int, pieces: bytes) -> bytes:
    """Return that for a reply that is made of what `encode_piece` gives."""
    return bytes([Record.EXECUTED_PIECES]) + encode_executed(node_id, request, pieces)[1:]


def encode_large(state: bytes) -> bytes:
    """Return the head of a state whose value travels by itself: its number follows the key."""
    return bytes([Record.LARGE]) + state[1:]


def encode_altered(
    state: bytes, key: bytes, version: int, appended: list[bytes], prepended: list[bytes]
) -> bytes:
    """Return the record of an item that was altered since a version: its state, and what grew.

    Of what `encode_piece` gives.
    """
    counts = _ALTERED.pack(version, len(appended), len(prepended))
    return b"".join(
        (bytes([Record.ALTERED]), state[1:], key, counts, *appended, *prepended),
    )


def encode_wanted(key: bytes) -> bytes:
    """Return the record that asks for a key."""
    return _WANTED.pack(Record.WANTED, len(key)) + key


def encode_number(number: int) -> bytes:
    """Return the number of a value that travels by itself."""
    return _NUMBER.pack(number)


def decode_number(payload: bytes, position: int) -> int:
    """Return the number of the value of which a piece begins here. Raises FrameError."""
    try:
        number: int = _NUMBER.unpack_from(payload, position)[0]
    except struct.error:
        raise FrameError("a value without a number") from None
    return number


def decode_records(
    payload: bytes, position: int, take: TakeValue | None = None
) -> list[tuple[Any, ...]]:
    """Return records: (kind, ...) with what they say. Raises FrameError.

    All or none: what is said before something that is not understood is not to be believed either.
    Of a state: key, value, client flags, Unix end or 0, cas unique, version, marks. Of what was
    altered the same, with the length of the value; and which version was, what was appended to it,
    and prepended.
    """
    # Hot path: bench/ "pair16".
    found: list[tuple[Any, ...]] = []
    append = found.append
    end = len(payload)
    try:
        while position < end:
            kind = payload[position]
            if kind == STATE:
                _, marks, key_bytes, client_flags, cas_unique, version, unix_end, value_bytes = (
                    unpack_state(payload, position)
                )
                key_at = position + STATE_BYTES
                value_at = key_at + key_bytes
                position = value_at + value_bytes
                if position > end:
                    raise FrameError("a record that is cut off")
                key, value = payload[key_at:value_at], payload[value_at:position]
                append((STATE, key, value, client_flags, unix_end, cas_unique, version, marks))
            elif kind == Record.GONE:
                _, key_bytes, version = _GONE.unpack_from(payload, position)
                key_at = position + _GONE.size
                position = key_at + key_bytes
                append((kind, payload[key_at:position], version))
            elif kind in (Record.FLUSH, Record.FLUSH_DUE):
                _, number = _FLUSH.unpack_from(payload, position)
                position += _FLUSH.size
                append((kind, number))
            elif kind in (Record.RESULT, Record.RESULT_PIECES):
                _, request, reply_bytes = _RESULT.unpack_from(payload, position)
                reply_at = position + _RESULT.size
                position = reply_at + reply_bytes
                reply: Reply = payload[reply_at:position]
                if kind == Record.RESULT_PIECES:
                    reply = tuple(_decode_pieces(payload[reply_at:position], take))
                append((Record.RESULT, request, reply))
            elif kind == Record.BATCH:
                _, ticket, stable = _BATCH.unpack_from(payload, position)
                position += _BATCH.size
                append((kind, ticket, stable))
            elif kind in (Record.EXECUTED, Record.EXECUTED_PIECES):
                _, name_bytes, request, reply_bytes = _EXECUTED.unpack_from(payload, position)
                name_at = position + _EXECUTED.size
                reply_at = name_at + name_bytes
                position = reply_at + reply_bytes
                name = payload[name_at:reply_at].decode("utf-8", "replace")
                reply = payload[reply_at:position]
                if kind == Record.EXECUTED_PIECES:
                    reply = tuple(_decode_pieces(payload[reply_at:position], take))
                append((Record.EXECUTED, name, request, reply))
            elif kind == Record.FLUSH_AT:
                append(_FLUSH_AT.unpack_from(payload, position))
                position += _FLUSH_AT.size
            elif kind == Record.LARGE and take is not None:
                _, marks, key_bytes, client_flags, cas_unique, version, unix_end, value_bytes = (
                    unpack_state(payload, position)
                )
                key_at = position + STATE_BYTES
                position = key_at + key_bytes
                key = payload[key_at:position]
                value = take(_NUMBER.unpack_from(payload, position)[0], value_bytes)
                position += _NUMBER.size
                append((STATE, key, value, client_flags, unix_end, cas_unique, version, marks))
            elif kind == Record.ALTERED:
                _, marks, key_bytes, client_flags, cas_unique, version, unix_end, value_bytes = (
                    unpack_state(payload, position)
                )
                key_at = position + STATE_BYTES
                position = key_at + key_bytes
                key = payload[key_at:position]
                before, appended, prepended = _ALTERED.unpack_from(payload, position)
                position += _ALTERED.size
                pieces = []
                for _ in range(appended + prepended):
                    piece, position = _decode_piece(payload, position, take)
                    pieces.append(piece)
                about = value_bytes, client_flags, unix_end, cas_unique, version, marks, before
                append((kind, key, *about, pieces[:appended], pieces[appended:]))
            elif kind == Record.WANTED:
                _, key_bytes = _WANTED.unpack_from(payload, position)
                key_at = position + _WANTED.size
                position = key_at + key_bytes
                append((kind, payload[key_at:position]))
            else:
                raise FrameError(f"a record of unknown kind {kind}")
    except struct.error:
        raise FrameError("a record that is cut off") from None
    if position != end:
        raise FrameError("a record that is cut off")
    return found


def encode_forward(request: int, protocol: str, commands: bytes) -> bytes:
    """Return commands for another node to execute."""
    return _FORWARD.pack(request, protocol == "binary", len(commands)) + commands


def encode_forward_pieces(request: int, protocol: str, pieces: bytes) -> bytes:
    """Return commands for another node to execute, made of what `encode_piece` gives."""
    form = _PIECES | (protocol == "binary")
    return _FORWARD.pack(request, form, len(pieces)) + pieces


def encode_piece(piece: bytes, number: int = 0) -> bytes:
    """Return a piece of commands; or that it is the value of that number, which travels alone."""
    return _PIECE.pack(number, len(piece)) + (b"" if number else piece)


def decode_forwards(
    payload: bytes, position: int, take: TakeValue | None = None
) -> list[tuple[int, str, Commands]]:
    """Return requests, each with protocol and commands: all or none. Raises FrameError."""
    # Hot path: bench/ "pair16".
    found: list[tuple[int, str, Commands]] = []
    end = len(payload)
    while position < end:
        if position + _FORWARD.size > end:
            raise FrameError("a request that is cut off")
        request, form, length = _FORWARD.unpack_from(payload, position)
        position += _FORWARD.size
        if position + length > end:
            raise FrameError("a request that is cut off")
        commands: Commands = payload[position : position + length]
        if form > _BINARY:
            commands = tuple(_decode_pieces(payload[position : position + length], take))
        found.append((request, "binary" if form & _BINARY else "text", commands))
        position += length
    return found


def _decode_pieces(payload: bytes, take: TakeValue | None) -> Iterator[bytes]:
    position, end = 0, len(payload)
    while position < end:
        piece, position = _decode_piece(payload, position, take)
        yield piece


def _decode_piece(payload: bytes, position: int, take: TakeValue | None) -> tuple[bytes, int]:
    """Return a piece, and where it ends. Raises FrameError."""
    if position + _PIECE.size > len(payload):
        raise FrameError("a piece that is cut off")
    number, length = _PIECE.unpack_from(payload, position)
    position += _PIECE.size
    if number:
        if take is None:
            raise FrameError("a value that never came")
        return take(number, length), position
    if position + length > len(payload):
        raise FrameError("a piece that is cut off")
    return payload[position : position + length], position + length
