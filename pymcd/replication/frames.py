"""The form of everything that two nodes say to each other. Encodes and decodes; nothing else.

A frame is its length, a checksum and a body; the length is checked before anything is kept.
Before both sides have proven themselves the body is one byte of kind and JSON, small. Afterwards
a fixed head comes before the rest: our time and the last time of the other side that we have
seen (leases rest on that), the epoch of the channel, the number of this message in it, and the
number up to which the other side's messages are applied here.

Changes are records of resulting state, never operations: to apply one twice is harmless.
Times travel as Unix seconds: what remains of them would mean something else on arrival.
"""

from __future__ import annotations

import json
import struct
from enum import IntEnum
from typing import TYPE_CHECKING, Any, Final
from zlib import crc32

if TYPE_CHECKING:
    from collections.abc import Iterator

PROTOCOL_VERSION: Final = 1
MAGIC: Final = "pymcd-replication"

#: Length of what follows, checksum of what follows that.
_PREFIX: Final = struct.Struct("!II")
PREFIX_BYTES: Final = _PREFIX.size
#: Kind, our time, their time, epoch, number, acknowledged.
_HEAD: Final = struct.Struct("!BddQQQ")
HEAD_BYTES: Final = _HEAD.size
#: What a stranger may send in one frame.
STRANGER_FRAME_MAX_BYTES: Final = 4096
#: What a peer may, beyond the largest item.
FRAME_MAX_BYTES: Final = 16 << 20
#: Payloads that are larger travel in parts, as a turn of many clients may change much ...
PART_BYTES: Final = 4 << 20
#: ... but not without end.
PARTS_MAX_BYTES: Final = 1 << 30


class Kind(IntEnum):
    """What a frame is for."""

    HELLO = 1  #: who I am, and a nonce
    PROOF = 2  #: that I know the secret
    REFUSAL = 3  #: why I close
    STATUS = 4  #: my role, my epoch, what I received from you
    JOIN = 5  #: I want to be brought in sync with you
    WELCOME = 6  #: here is the channel for that
    CHANGES = 7  #: records
    SYNCED = 8  #: you have now all that I had
    PROPOSE = 9  #: let us be one; stop deciding
    ACCEPT = 10  #: I have stopped; you decide
    VIEW = 11  #: we are one
    FORWARD = 12  #: commands that you are to execute for my clients
    ACK = 13  #: nothing but the head
    PING = 14  #: nothing but the head, and answer at once
    PART = 15  #: of the payload of the next message that is something else


class Record(IntEnum):
    """What a record in CHANGES says."""

    STATE = 1
    GONE = 2
    FLUSH = 3
    FLUSH_DUE = 4
    RESULT = 5
    BATCH = 6  #: of three nodes and more: which batch this is, and which all have
    EXECUTED = 7  #: ... and what it answers to whom


class FrameError(Exception):
    """What arrived is no frame of ours; the link cannot go on."""


#: Kind, marks, key length, client flags, cas unique, version, Unix end (0: never), value length.
_STATE: Final = struct.Struct("!BBBIQQQI")
#: Kind, key length, version.
_GONE: Final = struct.Struct("!BBQ")
#: Kind, version. Or: kind, Unix seconds.
_FLUSH: Final = struct.Struct("!BQ")
#: Kind, request, reply length.
_RESULT: Final = struct.Struct("!BQI")
#: Kind, batch, batch that all have.
_BATCH: Final = struct.Struct("!BQQ")
#: Kind, length of node id, request, reply length.
_EXECUTED: Final = struct.Struct("!BBQI")
#: Request, binary protocol or not, length.
_FORWARD: Final = struct.Struct("!QBI")

# Of the hot path: states are packed and unpacked where they are needed.
STATE: Final = 1
STATE_BYTES: Final = _STATE.size
pack_state: Final = _STATE.pack
unpack_state: Final = _STATE.unpack_from


def encode_frame(body: bytes) -> bytes:
    """Return a frame for a body."""
    return _PREFIX.pack(len(body) + 4, crc32(body)) + body


def encode_message(
    kind: Kind, time: float, echo: float, epoch: int, number: int, ack: int, payload: bytes = b""
) -> list[bytes]:
    """Return a frame with a head, in pieces: the payload may be large."""
    head = _HEAD.pack(kind, time, echo, epoch, number, ack)
    checksum = crc32(payload, crc32(head))
    return [_PREFIX.pack(len(head) + len(payload) + 4, checksum) + head, payload]


def decode_head(body: bytes) -> tuple[int, float, float, int, int, int]:
    """Return kind, their time, our time as they saw it, epoch, number, acknowledged."""
    if len(body) < HEAD_BYTES:
        raise FrameError("a message without a head")
    head: tuple[int, float, float, int, int, int] = _HEAD.unpack_from(body)
    return head


def split_frame(buffer: bytes, position: int, limit_bytes: int) -> tuple[bytes, int] | None:
    """Return the next body and where it ends; None: more bytes are needed.

    Raises FrameError for a length over the limit, before anything is gathered, and for a wrong
    checksum.
    """
    if len(buffer) < position + PREFIX_BYTES:
        return None
    length, checksum = _PREFIX.unpack_from(buffer, position)
    if not 5 <= length <= limit_bytes:
        raise FrameError(f"a frame of {length} bytes")
    end = position + 4 + length
    if len(buffer) < end:
        return None
    body = buffer[position + PREFIX_BYTES : end]
    if crc32(body) != checksum:
        raise FrameError("a frame with a wrong checksum")
    return body, end


def frame_bytes(buffer: bytes) -> int:
    """Return how long the frame that begins here is, prefix included."""
    return 4 + int.from_bytes(buffer[:4], "big")


def encode_json(fields: dict[str, Any]) -> bytes:
    """Return the payload of a message that is not on the hot path."""
    return json.dumps(fields, separators=(",", ":"), sort_keys=True).encode()


def decode_json(payload: bytes) -> dict[str, Any]:
    """Return what `encode_json` was given; raises FrameError."""
    try:
        fields = json.loads(payload)
    except (ValueError, RecursionError):
        raise FrameError("not JSON") from None
    if not isinstance(fields, dict):
        raise FrameError("not a JSON object")
    return fields


def decode_number(value: object) -> int:
    """Return a number of a JSON object, if it is one and fits into a message's head or a record."""
    if type(value) is not int or not 0 <= value < 1 << 63:
        raise FrameError("a number out of range")
    return value


def encode_text(data: bytes) -> str:
    """Return bytes in a form that JSON can hold."""
    return data.decode("latin-1")


def decode_text(text: str) -> bytes:
    """Return what `encode_text` was given."""
    return text.encode("latin-1")


def encode_gone(key: bytes, version: int) -> bytes:
    """Return the record of a deletion."""
    return _GONE.pack(Record.GONE, len(key), version) + key


def encode_flush(version: int) -> bytes:
    """Return the record of a flush: everything older is dead."""
    return _FLUSH.pack(Record.FLUSH, version)


def encode_flush_due(unix_s: int) -> bytes:
    """Return the record of a flush that is to come; 0: none is."""
    return _FLUSH.pack(Record.FLUSH_DUE, unix_s)


def encode_result(request: int, reply: bytes) -> bytes:
    """Return the record of the reply to forwarded commands."""
    return _RESULT.pack(Record.RESULT, request, len(reply)) + reply


def encode_batch(ticket: int, settled: int) -> bytes:
    """Return the record that says which batch this is, and which every follower has."""
    return _BATCH.pack(Record.BATCH, ticket, settled)


def encode_executed(node_id: str, request: int, reply: bytes) -> bytes:
    """Return the record of a reply that another follower is to get."""
    name = node_id.encode()
    return _EXECUTED.pack(Record.EXECUTED, len(name), request, len(reply)) + name + reply


def decode_records(payload: bytes, position: int) -> Iterator[tuple[Any, ...]]:
    """Yield records: (kind, ...) with what they say. Raises FrameError.

    Of a state: key, value, client flags, Unix end or 0, cas unique, version, marks.
    """
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
                yield (
                    STATE,
                    payload[key_at:value_at],
                    payload[value_at:position],
                    client_flags,
                    unix_end,
                    cas_unique,
                    version,
                    marks,
                )
            elif kind == Record.GONE:
                _, key_bytes, version = _GONE.unpack_from(payload, position)
                key_at = position + _GONE.size
                position = key_at + key_bytes
                yield kind, payload[key_at:position], version
            elif kind in (Record.FLUSH, Record.FLUSH_DUE):
                _, number = _FLUSH.unpack_from(payload, position)
                position += _FLUSH.size
                yield kind, number
            elif kind == Record.RESULT:
                _, request, reply_bytes = _RESULT.unpack_from(payload, position)
                reply_at = position + _RESULT.size
                position = reply_at + reply_bytes
                yield kind, request, payload[reply_at:position]
            elif kind == Record.BATCH:
                _, ticket, settled = _BATCH.unpack_from(payload, position)
                position += _BATCH.size
                yield kind, ticket, settled
            elif kind == Record.EXECUTED:
                _, name_bytes, request, reply_bytes = _EXECUTED.unpack_from(payload, position)
                name_at = position + _EXECUTED.size
                reply_at = name_at + name_bytes
                position = reply_at + reply_bytes
                name = payload[name_at:reply_at].decode("utf-8", "replace")
                yield kind, name, request, payload[reply_at:position]
            else:
                raise FrameError(f"a record of unknown kind {kind}")
    except struct.error:
        raise FrameError("a record that is cut off") from None
    if position != end:
        raise FrameError("a record that is cut off")


def encode_forward(request: int, protocol: str, commands: bytes) -> bytes:
    """Return commands for another node to execute."""
    return _FORWARD.pack(request, protocol == "binary", len(commands)) + commands


def decode_forwards(payload: bytes, position: int) -> Iterator[tuple[int, str, bytes]]:
    """Yield request, protocol and commands. Raises FrameError."""
    end = len(payload)
    while position < end:
        if position + _FORWARD.size > end:
            raise FrameError("a request that is cut off")
        request, binary, length = _FORWARD.unpack_from(payload, position)
        position += _FORWARD.size
        if position + length > end:
            raise FrameError("a request that is cut off")
        yield request, "binary" if binary else "text", payload[position : position + length]
        position += length
