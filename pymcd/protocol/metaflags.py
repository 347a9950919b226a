"""The flags of the meta commands: what may be asked, and how it is worded.

The flags of a command are decoded once, into a `MetaFlags`, which is kept for the next command with
the same words: clients use few combinations. What needs the key or the time of the request is not
in there. Here, too, are keys in base64. Nothing in here knows items.
# protocol.txt, "Meta Commands"; memcached: _meta_flag_preparse
"""

from __future__ import annotations

import binascii
from functools import lru_cache
from typing import TYPE_CHECKING, Final

from .tokens import BAD_FORMAT, CRLF, decode_i32, decode_u32, decode_u64

if TYPE_CHECKING:
    from collections.abc import Callable

#: Command and key count among the words, as does the end of the line in the original.
WORDS_MAX: Final = 19
OPAQUE_MAX_BYTES: Final = 32  #: the letter included
#: Flags that are longer are decoded anew each time: clients must not fill our memory with them.
KEPT_MAX_BYTES: Final = 128

BAD_TOKEN: Final = b"CLIENT_ERROR bad token in command line format\r\n"
BAD_KEY: Final = b"CLIENT_ERROR error decoding key\r\n"
DUPLICATE_FLAG: Final = b"CLIENT_ERROR duplicate flag\r\n"
INVALID_FLAG: Final = b"CLIENT_ERROR invalid flag\r\n"
#: What md and ma say, whatever is wrong with the flags.
BAD_FLAGS: Final = b"CLIENT_ERROR invalid or duplicate flag\r\n"
GET_FLAGS_TOO_LONG: Final = b"CLIENT_ERROR options flags are too long\r\n"
FLAGS_TOO_LONG: Final = b"CLIENT_ERROR options flags too long\r\n"
OPAQUE_TOO_LONG: Final = b"CLIENT_ERROR opaque token too long\r\n"
BAD_MODE_LENGTH: Final = b"CLIENT_ERROR incorrect length for M token\r\n"
BAD_STORE_MODE: Final = b"CLIENT_ERROR invalid mode for ms M token\r\n"
BAD_ARITHMETIC_MODE: Final = b"CLIENT_ERROR invalid mode for ma M token\r\n"
BAD_INITIAL: Final = b"CLIENT_ERROR invalid numeric initial value\r\n"
BAD_DELTA: Final = b"CLIENT_ERROR invalid numeric delta value\r\n"

# The letters that are looked at again when the command is executed: those that ask for an answer,
# and those that are done in the order asked.
ASK_CAS, ASK_FLAGS, ASK_HIT, ASK_KEY, ASK_ACCESS = b"cfhkl"
ASK_SIZE, ASK_TTL, OPAQUE = b"stO"
TOUCH, VIVIFY, RECACHE = b"TNR"


class MetaFlags:
    """The flags of one command, decoded. Shared: never changed after `decode_flags`."""

    __slots__ = (
        "answers",
        "cas_compare",
        "changes",
        "client_flags",
        "decode_error",
        "delta",
        "error",
        "initial",
        "key_binary",
        "late_bump",
        "mode",
        "new_cas",
        "no_bump",
        "opaque_too_long",
        "ordered",
        "plain_set",
        "quiet",
        "recache_exptime",
        "remove_value",
        "stale",
        "steps",
        "template",
        "touch_exptime",
        "value",
        "vivify_exptime",
    )

    def __init__(self) -> None:
        #: What is wrong with the flags; and the same if the key turns out not to be base64.
        self.error = self.decode_error = b""
        self.key_binary = False  #: b
        self.value = False  #: v
        self.quiet = False  #: q
        self.no_bump = False  #: u
        self.stale = False  #: I
        self.remove_value = False  #: x
        self.vivify_exptime: int | None = None  #: N
        self.touch_exptime: int | None = None  #: T
        self.recache_exptime: int | None = None  #: R
        self.client_flags = 0  #: F
        self.cas_compare: int | None = None  #: C
        self.new_cas = 0  #: E; 0: the next one in turn
        self.mode = 0  #: the letter behind M
        self.initial = 0  #: J
        self.delta = 1  #: D
        self.opaque_too_long = False
        #: What is answered, or done, in the order asked: the letter, and the whole word.
        self.steps: tuple[tuple[int, bytes], ...] = ()
        #: Whether that order matters: mg changes the item between two answers, or asks for what
        #: was before its own access.
        self.ordered = False
        self.changes = False  #: mg changes the item, or makes one
        self.late_bump = False  #: mg looks at the item before that counts as an access
        #: Otherwise: the answer of mg to a hit, and the letters of what is to be filled in.
        self.template = b""
        self.answers = b""
        #: ms stores whatever is there, under the key as it came, with the next cas unique.
        self.plain_set = False


def decode_flags(words: tuple[bytes, ...]) -> MetaFlags:
    """Decode the flags of a command."""
    if sum(map(len, words)) > KEPT_MAX_BYTES:
        return _decode(words)
    return _decode_and_keep(words)


def _decode(words: tuple[bytes, ...]) -> MetaFlags:
    # memcached: _meta_flag_preparse. As there the last error is the one told, but a repeated or
    # unknown flag ends it.
    flags = MetaFlags()
    error = decode_error = b""
    faulty = False
    seen = set()
    steps = []
    for word in words:
        letter = word[0]
        wrong: bytes | None = b""
        if letter >= 127 or letter in seen:
            flags.error = flags.decode_error = DUPLICATE_FLAG
            return flags
        seen.add(letter)
        if letter in b"cfhklstOTNR":
            steps.append((letter, word))
        if letter in _SWITCHES:
            setattr(flags, _SWITCHES[letter], True)
            if letter == _BASE64:
                decode_error = BAD_KEY
        elif letter in _NUMBERS:
            name, decode, complaint = _NUMBERS[letter]
            number = decode(word[1:])
            if number is None:
                wrong = complaint
            else:
                setattr(flags, name, number)
        elif letter == _MODE:
            if len(word) == 2:
                flags.mode = word[1]
            else:
                wrong = BAD_MODE_LENGTH
        elif letter == OPAQUE:
            flags.opaque_too_long = len(word) > OPAQUE_MAX_BYTES
        elif letter not in b"cfhklstPL":
            flags.error = flags.decode_error = INVALID_FLAG
            return flags
        if wrong is None:  # the original forgets to say which flag it is
            faulty = True
        elif wrong:
            faulty = True
            error = wrong
            decode_error = wrong if flags.key_binary else b""
    if faulty:
        flags.error = error or BAD_FORMAT
    flags.decode_error = decode_error
    flags.steps = tuple(steps)
    flags.late_bump = not seen.isdisjoint(b"hlNTR")
    flags.changes = not seen.isdisjoint(b"TNRE")
    flags.ordered = flags.late_bump or flags.no_bump or flags.opaque_too_long
    flags.plain_set = not flags.opaque_too_long and seen.isdisjoint(b"bCEIM")
    if not flags.ordered:
        _make_template(flags)
    return flags


_decode_and_keep: Final = lru_cache(maxsize=1024)(_decode)

_BASE64, _MODE = b"bM"
_SWITCHES: Final = {
    ord("b"): "key_binary",
    ord("v"): "value",
    ord("q"): "quiet",
    ord("u"): "no_bump",
    ord("I"): "stale",
    ord("x"): "remove_value",
}
_NUMBERS: Final[dict[int, tuple[str, Callable[[bytes], int | None], bytes | None]]] = {
    ord("N"): ("vivify_exptime", decode_i32, BAD_TOKEN),
    ord("T"): ("touch_exptime", decode_i32, BAD_TOKEN),
    ord("R"): ("recache_exptime", decode_i32, BAD_TOKEN),
    ord("F"): ("client_flags", decode_u32, None),
    ord("C"): ("cas_compare", decode_u64, BAD_TOKEN),
    ord("E"): ("new_cas", decode_u64, BAD_TOKEN),
    ord("J"): ("initial", decode_u64, BAD_INITIAL),
    ord("D"): ("delta", decode_u64, BAD_DELTA),
}


def _make_template(flags: MetaFlags) -> None:
    template = b"VA %d" if flags.value else b"HD"
    answers = b"s" if flags.value else b""
    for letter, word in flags.steps:
        if letter == OPAQUE:
            template += b" " + word.replace(b"%", b"%%")
        else:
            template += b" %c%%b" % letter if letter == ASK_KEY else b" %c%%d" % letter
            answers += b"%c" % letter
    flags.template = template + CRLF
    flags.answers = answers


def decode_key(word: bytes) -> bytes | None:
    """Decode a key that came as base64. # memcached: base64_decode

    Characters that do not belong there are skipped, and what follows a padded group is ignored.
    """
    digits = word.translate(None, _NOT_BASE64)
    if not digits or len(digits) % 4:
        return None
    padding = digits.find(b"=")
    if padding < 0:
        return binascii.a2b_base64(digits)
    # The group that holds the first padding is the last one; `=` counts as a digit of value 0.
    start = padding // 4 * 4
    group = digits[start : start + 4]
    padded = group.count(b"=")
    if padded > 2:
        return None
    last = binascii.a2b_base64(group.replace(b"=", b"A"))
    return binascii.a2b_base64(digits[:start]) + last[: 3 - padded]


_BASE64_DIGITS: Final = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/="
_NOT_BASE64: Final = bytes(byte for byte in range(256) if byte not in _BASE64_DIGITS)


def encode_key(key: bytes, *, as_base64: int) -> bytes:
    """Return a key as the answer to `k`, without the letter."""
    if as_base64:
        return binascii.b2a_base64(key, newline=False) + b" b"
    return key
