"""Words of the text protocols: how they are cut, how numbers are read, how errors are worded.

memcached reads numbers with the C library and so accepts what that accepts: blanks in front, a
sign, a tab behind. The short functions take the usual case, plain digits, and leave the rest
to `_strtol`, which follows C to the letter.
"""

from __future__ import annotations

from typing import Final

from .. import limits

CRLF: Final = b"\r\n"
ERROR: Final = b"ERROR\r\n"
BAD_FORMAT: Final = b"CLIENT_ERROR bad command line format\r\n"
BAD_CHUNK: Final = b"CLIENT_ERROR bad data chunk\r\n"
BAD_EXPTIME: Final = b"CLIENT_ERROR invalid exptime argument\r\n"
BAD_DELTA: Final = b"CLIENT_ERROR invalid numeric delta argument\r\n"
NON_NUMERIC: Final = b"CLIENT_ERROR cannot increment or decrement non-numeric value\r\n"
TOO_LARGE: Final = b"SERVER_ERROR object too large for cache\r\n"
NO_MEMORY_STORING: Final = b"SERVER_ERROR out of memory storing object\r\n"
NO_MEMORY_READING: Final = b"SERVER_ERROR Out of memory during read\r\n"
NO_MEMORY_REQUEST: Final = b"SERVER_ERROR out of memory reading request\r\n"
NO_MEMORY: Final = b"SERVER_ERROR out of memory\r\n"
OK: Final = b"OK\r\n"

_C_SPACE: Final = b" \t\n\v\f\r"
_INT64_MIN: Final = -(1 << 63)
_INT64_MAX: Final = (1 << 63) - 1


def split_line(line: bytes) -> list[bytes]:
    """Cut a command line into words, as memcached does: at blanks only, NUL ends the line."""
    if b"\0" in line:
        line = line[: line.index(b"\0")]
    return [token for token in line.split(b" ") if token]


def _strtol(token: bytes) -> int | None:
    """Return the number of any size that the C library would see; None: no number."""
    text = token.lstrip(_C_SPACE)
    sign = -1 if text[:1] == b"-" else 1
    if text[:1] in (b"-", b"+"):
        text = text[1:]
    length = len(text) - len(text.lstrip(b"0123456789"))
    rest = text[length : length + 1]
    if length == 0 or (rest and rest not in _C_SPACE):
        return None
    digits = text[:length].lstrip(b"0")
    # Python refuses to read very long numbers; C has long overflowed by then.
    return sign * int(digits[:40] or b"0")


def decode_i32(token: bytes) -> int | None:
    """Read a signed number; beyond 32 bits it wraps, beyond 64 it is none. # safe_strtol"""
    if len(token) < 10 and token.isdigit():
        return int(token)
    number = _strtol(token)
    if number is None or not _INT64_MIN <= number <= _INT64_MAX:
        return None
    number &= limits.UINT32_MAX
    return number - (1 << 32) if number > limits.INT32_MAX else number


def decode_u64(token: bytes) -> int | None:
    """Read an unsigned 64-bit number. A small negative number wraps twice. # safe_strtoull"""
    if len(token) < 19 and token.isdigit():
        return int(token)
    number = _strtol(token)
    if number is None or abs(number) > limits.UINT64_MAX:
        return None
    wrapped = number & limits.UINT64_MAX
    # C negates what it read; the original refuses that only where the result looks negative.
    return None if wrapped > _INT64_MAX and b"-" in token else wrapped


def decode_u32(token: bytes) -> int | None:
    """Read an unsigned number and keep its low 32 bits. # memcached: safe_strtoul"""
    if len(token) < 10 and token.isdigit():
        return int(token)
    number = decode_u64(token)
    return None if number is None else number & limits.UINT32_MAX
