"""The outer form of everything that two nodes say to each other. Encodes and decodes; no more.

A frame is its length, a checksum and a body; the length is checked before anything is kept.
Before both sides have proven themselves the body is one byte of kind and JSON, small. Afterwards
a fixed head comes before the rest: our time and the last time of the other side that we have
seen (leases rest on that), the epoch of the channel, the number of this message in it, and the
number up to which the other side's messages are applied here.

What CHANGES and FORWARD carry is in `records`, what the rarer messages say in `messages`.
"""

from __future__ import annotations

import json
import struct
from enum import IntEnum
from typing import Any, Final
from zlib import crc32

#: The oldest and the latest version of the protocol that this release speaks: a link uses the
#: latest that both sides do. What came with a version may be said to who speaks it or a later one:
#: 1 was the first; with 2 a HELLO says what its sender speaks, and which release it is, a PING what
#: its clocks show, a STATUS why a channel was given up; there are votes, and large values travel by
#: themselves.
PROTOCOL_VERSION_MIN: Final = 1
PROTOCOL_VERSION: Final = 2
MAGIC: Final = "pymcd-replication"

#: Length of what follows, checksum of what follows that.
_PREFIX: Final = struct.Struct("!II")
PREFIX_BYTES: Final = _PREFIX.size
#: Kind, our time, their time, epoch, number, acknowledged.
_HEAD: Final = struct.Struct("!BddQQQ")
HEAD_BYTES: Final = _HEAD.size
#: Of a frame with a head, before its payload.
FRAME_BYTES: Final = PREFIX_BYTES + HEAD_BYTES
#: What a stranger may send in one frame.
STRANGER_FRAME_MAX_BYTES: Final = 4096
#: What a peer may, beyond the largest item.
FRAME_MAX_BYTES: Final = 16 << 20
#: Payloads that are larger travel in parts, and so do values, ahead of the record that speaks of
#: them: a step that does something with all of it would take too long ...
PART_BYTES: Final = 256 << 10
#: ... of which so much is on its way at a time, so that each is acknowledged within moments ...
PARTS_WINDOW_BYTES: Final = 1 << 20
#: ... but not without end: the largest item, and what is said around it.
PARTS_MAX_BYTES: Final = (1 << 30) + (16 << 20)


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
    PING = 14  #: what my clocks show; answer at once
    PART = 15  #: of the payload of the next message that is something else
    VOTE = 16  #: may this be the next view?
    GRANT = 17  #: it may, or may not; and what I back
    VALUE = 18  #: a piece of a value of which a later message speaks


class FrameError(Exception):
    """What arrived is no frame of ours; the link cannot go on."""


def encode_frame(body: bytes) -> bytes:
    """Return a frame for a body."""
    return _PREFIX.pack(len(body) + 4, crc32(body)) + body


def encode_message(
    kind: int,
    time: float,
    echo: float,
    epoch: int,
    number: int,
    ack: int,
    payload: bytes | memoryview = b"",
    lead: bytes = b"",
) -> list[bytes | memoryview]:
    """Return a frame with a head, in pieces: the payload, behind its `lead`, may be large."""
    head = _HEAD.pack(kind, time, echo, epoch, number, ack)
    if lead:
        head += lead
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
        # Of bytes it would guess the encoding, and load what decodes that.
        fields = json.loads(payload.decode())
    except (ValueError, RecursionError):
        raise FrameError("not JSON") from None
    if not isinstance(fields, dict):
        raise FrameError("not a JSON object")
    return fields


def encode_text(data: bytes) -> str:
    """Return bytes in a form that JSON can hold."""
    return data.decode("latin-1")


def decode_text(text: str) -> bytes:
    """Return what `encode_text` was given."""
    return text.encode("latin-1")
