"""Where the next command in a connection's buffer ends, and what it is about.

Knows the outer form of requests and no more: the log and the faults need a name, keys and an end.
Whether the request is right, and what it means, is the server's business; what does not look like
a whole request from here is left to it, too.
"""

from __future__ import annotations

import difflib
import struct
from typing import TYPE_CHECKING, Final, NamedTuple

from .. import limits
from ..protocol.binary import HEADER_BYTES, REQUEST_MAGIC
from ..protocol.metaflags import OPAQUE, decode_flags, decode_key
from ..protocol.text import VERBS

if TYPE_CHECKING:
    from collections.abc import Iterable

#: magic, opcode, key length, extras length, (data type, virtual bucket), body length, opaque, cas
_HEADER: Final = struct.Struct(">BBHB3xI4sQ")
#: A request may be longer than its value: a line, a header, a key.
_HEAD_MAX_BYTES: Final = 4096

#: Verbs that a block follows, and the word of the line that has its length.
_LENGTH_WORD: Final = {
    **dict.fromkeys((b"set", b"add", b"replace", b"append", b"prepend", b"cas"), 4),
    b"ms": 2,
}
#: Verbs with any number of keys, and the first of them.
_FIRST_KEY: Final = {
    **dict.fromkeys((b"get", b"gets", b"bget"), 1),
    **dict.fromkeys((b"gat", b"gats"), 2),
}
_ONE_KEY: Final = frozenset(
    (b"set", b"add", b"replace", b"append", b"prepend", b"cas", b"delete", b"incr", b"decr",
     b"touch", b"mg", b"ms", b"md", b"ma", b"me")
)  # fmt: skip
_META: Final = frozenset((b"mg", b"ms", b"md", b"ma", b"me"))

# protocol-binary.txt, 3.3 "Command Opcodes"; the quiet forms and those with the key are the same.
_OPCODES: Final = {
    "get": (0x00, 0x09, 0x0C, 0x0D),
    "set": (0x01, 0x11),
    "add": (0x02, 0x12),
    "replace": (0x03, 0x13),
    "delete": (0x04, 0x14),
    "incr": (0x05, 0x15),
    "decr": (0x06, 0x16),
    "quit": (0x07, 0x17),
    "flush_all": (0x08, 0x18),
    "noop": (0x0A,),
    "version": (0x0B,),
    "append": (0x0E, 0x19),
    "prepend": (0x0F, 0x1A),
    "stats": (0x10,),
    "verbosity": (0x1B,),
    "touch": (0x1C,),
    "gat": (0x1D, 0x1E, 0x23, 0x24),
    "sasl_list": (0x20,),
    "sasl_auth": (0x21,),
    "sasl_step": (0x22,),
}
_BY_OPCODE: Final = {opcode: name for name, opcodes in _OPCODES.items() for opcode in opcodes}

#: Every name that a call may have, if the client speaks the protocol.
COMMANDS: Final = frozenset({*(verb.decode() for verb in VERBS), *_OPCODES})
#: Those that always need memory.
STORING: Final = frozenset(("set", "add", "replace", "append", "prepend", "cas", "ms"))


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


#: There is more of it to come.
INCOMPLETE: Final = Request("", (), None, -1, binary=False)


def read_request(buffer: bytes, position: int, value_max_bytes: int) -> Request | None:
    """Return the request that begins there; None: it is not clear what that is."""
    if position >= len(buffer):
        return None
    if buffer[position] == REQUEST_MAGIC:
        return _read_binary(buffer, position, value_max_bytes)
    line_end = buffer.find(b"\n", position)
    if line_end < 0:
        return None
    words = buffer[position:line_end].split()
    if not words:
        return None
    verb = words[0]
    end = line_end + 1
    length_word = _LENGTH_WORD.get(verb, 0)
    if 0 < length_word < len(words):
        try:
            length = int(words[length_word])
        except ValueError:
            length = -1
        # Behind a key that is too long the server expects no block.
        if 0 <= length <= value_max_bytes and len(words[1]) <= limits.KEY_MAX_BYTES:
            end += length + 2
            if len(buffer) < end:
                return INCOMPLETE
    opaque: bytes | None = None
    keys: tuple[bytes, ...] = ()
    if verb in _FIRST_KEY:
        keys = tuple(words[_FIRST_KEY[verb] :])
    elif verb in _ONE_KEY:
        keys = tuple(words[1:2])
        if verb in _META:
            # Of ms the length comes before the flags; me knows nothing but this one.
            flags = decode_flags(tuple(words[3 if verb == b"ms" else 2 :]))
            opaque = next((word[1:] for letter, word in flags.steps if letter == OPAQUE), None)
            if flags.key_binary:
                keys = tuple(decode_key(key) or key for key in keys)
    return Request(verb.decode("utf-8", "replace"), keys, opaque, end, binary=False)


def _read_binary(buffer: bytes, position: int, value_max_bytes: int) -> Request | None:
    if len(buffer) < position + HEADER_BYTES:
        return None
    _, opcode, key_bytes, extras_bytes, body_bytes, opaque, _ = _HEADER.unpack_from(
        buffer, position
    )
    if body_bytes > value_max_bytes + _HEAD_MAX_BYTES:
        return None
    end = position + HEADER_BYTES + body_bytes
    if len(buffer) < end:
        return INCOMPLETE
    key_at = position + HEADER_BYTES + extras_bytes
    key = buffer[key_at : key_at + key_bytes]
    name = _BY_OPCODE.get(opcode, f"0x{opcode:02x}")
    has_key = key and name not in ("stats", "sasl_auth", "sasl_step")
    return Request(name, (key,) if has_key else (), opaque, end, binary=True)
