"""Requests and replies of the binary protocol, for tests."""

from __future__ import annotations

import struct
from typing import NamedTuple

from pymcd.protocol.binary import ERROR_TEXTS

from .helpers import Client

HEADER = struct.Struct(">BBHBBHI4sQ")

GET, SET, ADD, REPLACE, DELETE, INCREMENT, DECREMENT, QUIT = range(8)
FLUSH, GETQ, NOOP, VERSION, GETK, GETKQ, APPEND, PREPEND = range(8, 16)
STAT, SETQ, ADDQ, REPLACEQ, DELETEQ, INCREMENTQ, DECREMENTQ, QUITQ = range(0x10, 0x18)
FLUSHQ, APPENDQ, PREPENDQ, VERBOSITY, TOUCH, GAT, GATQ = range(0x18, 0x1F)
SASL_LIST, SASL_AUTH, SASL_STEP, GATK, GATKQ = range(0x20, 0x25)

OPAQUE = b"\x01opq"


def request(
    opcode: int,
    key: bytes = b"",
    extras: bytes = b"",
    value: bytes = b"",
    *,
    cas: int = 0,
    opaque: bytes = OPAQUE,
    body_bytes: int | None = None,
) -> bytes:
    """Return one request; `body_bytes` may tell a lie."""
    if body_bytes is None:
        body_bytes = len(extras) + len(key) + len(value)
    head = HEADER.pack(0x80, opcode, len(key), len(extras), 0, 0, body_bytes, opaque, cas)
    return head + extras + key + value


def store(opcode: int, key: bytes, value: bytes, *, flags: int = 0, exptime: int = 0, cas: int = 0):
    return request(opcode, key, struct.pack(">II", flags, exptime), value, cas=cas)


def touch(opcode: int, key: bytes, exptime: int):
    return request(opcode, key, struct.pack(">I", exptime))


def count(opcode: int, key: bytes, delta: int, initial: int = 0, exptime: int = 0, *, cas: int = 0):
    return request(opcode, key, struct.pack(">QQI", delta, initial, exptime), cas=cas)


class Reply(NamedTuple):
    """One reply, without what never varies."""

    opcode: int
    status: int
    extras: bytes = b""
    key: bytes = b""
    value: bytes = b""
    cas: int = 0


def decode(data: bytes, opaque: bytes = OPAQUE) -> list[Reply]:
    """Take replies apart; their opaque must be the one sent."""
    replies = []
    while data:
        magic, opcode, key_bytes, extras_bytes, kind, status, body_bytes, echoed, cas = (
            HEADER.unpack(data[:24])
        )
        assert (magic, kind, echoed) == (0x81, 0, opaque)
        body, data = data[24 : 24 + body_bytes], data[24 + body_bytes :]
        assert len(body) == body_bytes
        key_end = extras_bytes + key_bytes
        replies.append(
            Reply(
                opcode, status, body[:extras_bytes], body[extras_bytes:key_end], body[key_end:], cas
            )
        )
    return replies


def error(opcode: int, status: int, text: bytes | None = None) -> Reply:
    return Reply(opcode, status, value=ERROR_TEXTS[status] if text is None else text)


def ask(*requests: bytes, client: Client | None = None, **settings) -> list[Reply]:
    """Return the replies to all requests, sent in one go."""
    data = b"".join(requests)
    return decode((client or Client(**settings)).send(data)) if data else []
