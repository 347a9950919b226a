"""Values that are refused by their header: what is said of them, which is nothing before their end.

With `item_size_max_bytes=REFUSED_ITEM_MAX` the large ones are too large.
"""

from __future__ import annotations

from typing import NamedTuple

from pymcd import limits

from . import binary_client as binary

REFUSED_ITEM_MAX = 1 << 14
SIZE = 20_000
TOO_LARGE = b"SERVER_ERROR object too large for cache\r\n"
BAD_TOKEN = b"CLIENT_ERROR bad token in command line format\r\n"
BAD_FORMAT = b"CLIENT_ERROR bad command line format\r\n"


class Refused(NamedTuple):
    """A request whose value is refused; `rest` is what comes behind the header."""

    name: str
    head: bytes
    rest: bytes
    reply: bytes
    #: A request that is answered at once, and the answer.
    behind: tuple[bytes, bytes] = (b"mn\r\n", b"MN\r\n")

    @property
    def cuts(self) -> list[int]:
        """Where such a request may be cut: everywhere it matters, and its last byte is missing."""
        head, whole = len(self.head), len(self.head) + len(self.rest)
        return sorted({head - 1, head, head + 1, (head + whole) // 2, whole - 2, whole - 1})


def _text(head: bytes, reply: bytes, *, size: int = SIZE) -> Refused:
    # What is thrown away may look like commands.
    block = (b"get k\r\n" * (size // 7 + 1))[:size]
    return Refused(head.decode(), head + b"\r\n", block + b"\r\n", reply)


def _binary(opcode: int, name: str, *, cas: int = 0) -> Refused:
    extras = b"" if name.startswith(("append", "prepend")) else bytes(8)
    whole = binary.request(opcode, b"k", extras, bytes(SIZE), cas=cas)
    return Refused(
        name,
        whole[:-SIZE],
        whole[-SIZE:],
        _binary_error(opcode, 3, b"Too large."),
        (binary.request(binary.NOOP), _binary_error(binary.NOOP, 0, b"")),
    )


def _binary_error(opcode: int, status: int, text: bytes) -> bytes:
    head = (0x81, opcode, 0, 0, 0, status, len(text), binary.OPAQUE, 0)
    return binary.HEADER.pack(*head) + text


def _unknown(opcode: int, name: str) -> Refused:
    # As many bytes as the body has, but from behind extras and key.
    head = binary.request(opcode, b"key", b"", body_bytes=SIZE)
    rest = bytes(SIZE) if opcode == 0x60 else bytes(SIZE - 3)
    return Refused(
        name,
        head,
        rest,
        _binary_error(opcode, 0x81, b"Unknown command"),
        (binary.request(binary.NOOP), _binary_error(binary.NOOP, 0, b"")),
    )


_STORING = [b"set", b"add", b"replace", b"append", b"prepend"]
_QUIET = b" noreply"

REFUSED: list[Refused] = [
    *(_text(verb + b" k 0 0 %d" % SIZE, TOO_LARGE) for verb in _STORING),
    *(_text(verb + b" k 0 0 %d noreply" % SIZE, b"") for verb in _STORING),
    _text(b"cas k 0 0 %d 1" % SIZE, TOO_LARGE),
    _text(b"cas k 0 0 %d 1 noreply" % SIZE, b""),
    _text(b"set k x 0 10", BAD_FORMAT, size=10),
    _text(b"set k x 0 10 noreply", b"", size=10),
    _text(b"add k 0 x 10", BAD_FORMAT, size=10),
    _text(b"append " + b"k" * (limits.KEY_MAX_BYTES + 1) + b" 0 0 10", BAD_FORMAT, size=10),
    _text(b"cas k 0 0 10 x", BAD_FORMAT, size=10),
    _text(b"cas k 0 0 10", BAD_FORMAT, size=10),
    *(_text(b"ms k %d" % SIZE + mode, TOO_LARGE)
      for mode in (b"", b" MS", b" ME", b" MA", b" MP", b" MR", b" q", b" Oabc k", b" I C1")),
    _text(b"ms k %d MZ" % SIZE, b"CLIENT_ERROR invalid mode for ms M token\r\n"),
    _text(b"ms k 10 MZ q", b"CLIENT_ERROR invalid mode for ms M token\r\n", size=10),
    _text(b"ms k 10 Tx", BAD_TOKEN, size=10),
    _text(b"ms k 10 Tx q", BAD_TOKEN, size=10),
    _text(b"ms k 10 Cx", BAD_TOKEN, size=10),
    _text(b"ms k 10 Fx", BAD_FORMAT, size=10),
    _text(b"ms k 0 Tx", BAD_TOKEN, size=0),
    _text(b"ms k 10 T0 T0", b"CLIENT_ERROR duplicate flag\r\n", size=10),
    _text(b"ms k 10 w", b"CLIENT_ERROR invalid flag\r\n", size=10),
    _text(b"ms " + b"k" * (limits.KEY_MAX_BYTES + 1) + b" 10", BAD_FORMAT, size=10),
    _text(b"ms k 10" + b" q" * 30, b"CLIENT_ERROR options flags are too long\r\n", size=10),
    _text(b"ms !!! 10 b", b"CLIENT_ERROR error decoding key\r\n", size=10),
    _text(b"ms k 10 O" + b"o" * 40, b"CLIENT_ERROR opaque token too long\r\n", size=10),
    *(_binary(opcode, name) for opcode, name in (
        (binary.SET, "SET"), (binary.ADD, "ADD"), (binary.REPLACE, "REPLACE"),
        (binary.SETQ, "SETQ"), (binary.ADDQ, "ADDQ"), (binary.REPLACEQ, "REPLACEQ"),
        (binary.APPEND, "append"), (binary.PREPEND, "prepend"),
        (binary.APPENDQ, "appendq"), (binary.PREPENDQ, "prependq"))),
    _binary(binary.SET, "SET of a cas unique", cas=5),
    _unknown(0x60, "an unknown opcode"),
    _unknown(binary.SASL_AUTH, "a login that nobody asked for"),
]  # fmt: skip
IDS = [each.name.replace("k" * limits.KEY_MAX_BYTES, "kkk") for each in REFUSED]
#: For drivers, which know nothing of forms: one of each protocol.
SOME_REFUSED = [
    next(each for each in REFUSED if each.name.startswith(name))
    for name in ("set", "append", "ms k 10 MZ", "SETQ", "an unknown")
]
