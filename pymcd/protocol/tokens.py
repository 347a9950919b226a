"""Words of the text protocols: how they are cut, how numbers are read, how errors are worded.

Numbers are digits, with a minus where they are signed, and no longer than a number of that size
gets. In one place memcached still asks the C library and so accepts what that accepts: blanks in
front, a sign, a tab behind. There, too, the usual case is taken by a short way.
"""

from __future__ import annotations

from typing import Final

from .. import limits

CRLF: Final = b"\r\n"
ERROR: Final = b"ERROR\r\n"
BAD_FORMAT: Final = b"CLIENT_ERROR bad command line format\r\n"
#: What retrievals say of a key that is too long: the original ends that line twice.
BAD_KEY: Final = BAD_FORMAT + CRLF
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

#: The bytes of a word, as a pattern: all but blank, CR and LF. What is excluded by name, as in
#: `[^ \r\n]`, is matched at half the speed.
WORD_BYTE: Final = rb"[\x00-\x09\x0b-\x0c\x0e-\x1f!-\xff]"

_C_SPACE: Final = b" \t\n\v\f\r"
_INT32_MIN: Final = -(1 << 31)
_INT64_MIN: Final = -(1 << 63)
_INT64_MAX: Final = (1 << 63) - 1
#: Longer words are no numbers, whatever zeros they begin with. # mcmc: MCMC_TOKTO32_MAX
_NUMBER_32_MAX_BYTES: Final = 11
_NUMBER_64_MAX_BYTES: Final = 22

_TEXTS_KEPT_MAX: Final = 4096


class Texts(dict[int, bytes]):
    """What is said of lengths, in that form. Most come again and again: that is faster."""

    def __init__(self, form: bytes) -> None:
        super().__init__()
        self._form = form

    def __missing__(self, length: int) -> bytes:
        if len(self) >= _TEXTS_KEPT_MAX:
            self.clear()
        text = self[length] = self._form % length
        return text


def split_line(line: bytes) -> list[bytes]:
    """Cut a command line into words: at blanks only."""
    return [token for token in line.split(b" ") if token]


def is_silenced(tokens: list[bytes]) -> bool:
    """Return whether the last word that memcached sees is `noreply`."""
    last = tokens[-1] if len(tokens) <= limits.TOKENS_MAX else tokens[limits.TOKENS_MAX - 1]
    return last == b"noreply"


def decode_i32(token: bytes) -> int | None:
    """Read a signed number of 32 bits; a sign alone is zero. # mcmc: mcmc_tokto32"""
    if len(token) < 10 and token.isdigit():
        return int(token)
    number = _decode_signed(token, _NUMBER_32_MAX_BYTES)
    return number if number is not None and _INT32_MIN <= number <= limits.INT32_MAX else None


def decode_i64(token: bytes) -> int | None:
    """Read a signed number of 64 bits; a sign alone is zero. # mcmc: mcmc_tokto64"""
    number = _decode_signed(token, _NUMBER_64_MAX_BYTES)
    return number if number is not None and _INT64_MIN <= number <= _INT64_MAX else None


def _decode_signed(token: bytes, max_bytes: int) -> int | None:
    if not token or len(token) > max_bytes:
        return None
    if token[:1] != b"-":
        return int(token) if token.isdigit() else None
    digits = token[1:] or b"0"
    return -int(digits) if digits.isdigit() else None


def decode_u64(token: bytes) -> int | None:
    """Read an unsigned number of 64 bits. # mcmc: mcmc_toktou64"""
    if len(token) > _NUMBER_64_MAX_BYTES or not token.isdigit():
        return None
    number = int(token)
    return number if number <= limits.UINT64_MAX else None


def decode_u32(token: bytes) -> int | None:
    """Read an unsigned number of 32 bits. # mcmc: mcmc_toktou32"""
    if len(token) > _NUMBER_32_MAX_BYTES or not token.isdigit():
        return None
    number = int(token)
    return number if number <= limits.UINT32_MAX else None


# Two words of the storage commands memcached still reads with the C library.


def _strtol(tokens: list[bytes], place: int) -> int | None:
    """Return the number of any size that the C library would see there; None: no number."""
    text = tokens[place].lstrip(_C_SPACE)
    if not text:  # the C library looks for it in the next word
        return _strtol(tokens, place + 1) if place + 1 < len(tokens) else None
    sign = -1 if text[:1] == b"-" else 1
    if text[:1] in (b"-", b"+"):
        text = text[1:]
    length = len(text) - len(text.lstrip(b"0123456789"))
    rest = text[length : length + 1]
    if length == 0 or (rest and rest not in _C_SPACE + b"\0"):
        return None
    digits = text[:length].lstrip(b"0")
    # Python refuses to read very long numbers; C has long overflowed by then.
    return sign * int(digits[:40] or b"0")


def decode_loose_u32(tokens: list[bytes], place: int) -> int | None:
    """Read an unsigned number; of a larger one the low 32 bits. # memcached: safe_strtoflags"""
    token = tokens[place]
    if len(token) < 10 and token.isdigit():
        return int(token)
    number = _strtol(tokens, place)
    if number is None or abs(number) > limits.UINT64_MAX:
        return None
    wrapped = number & limits.UINT64_MAX
    # C negates what it read; the original refuses that only where the result looks negative.
    if wrapped > _INT64_MAX and number < 0:
        return None
    return wrapped & limits.UINT32_MAX


def decode_loose_i32(tokens: list[bytes], place: int) -> int | None:
    """Read a signed number; beyond 32 bits it wraps, beyond 64 it is none. # safe_strtol"""
    token = tokens[place]
    if len(token) < 10 and token.isdigit():
        return int(token)
    number = _strtol(tokens, place)
    if number is None or not _INT64_MIN <= number <= _INT64_MAX:
        return None
    number &= limits.UINT32_MAX
    return number - (1 << 32) if number > limits.INT32_MAX else number
