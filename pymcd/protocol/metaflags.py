"""The flags of the meta commands: one row each, and how they are decoded.

A row says how its flag is read, what an mg does to items because of it, and what of an item it asks
for; all else that is known of a flag is in the handlers of the commands that it changes (meta.py).
The flags of a command are decoded once, into a `MetaFlags`, which is kept for the next command with
the same words: clients use few combinations. What needs the key or the time of the request is not
in there. Here, too, are keys in base64.
# protocol.txt, "Meta Commands"; memcached: _meta_flag_preparse
"""

from __future__ import annotations

import binascii
from dataclasses import KW_ONLY, dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Final

from .. import limits
from ..store.item import FETCHED, KEY_BINARY, UNSPEAKABLE
from .tokens import BAD_FORMAT, CRLF, decode_i32, decode_u32, decode_u64
from .verbs import READS, WRITES

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..store import Item
    from .verbs import Effect

#: Command and key count among the words.
WORDS_MAX: Final = 20
OPAQUE_MAX_BYTES: Final = 32  #: the letter included
#: Flags that are longer are decoded anew each time: clients must not fill our memory with them.
KEPT_MAX_BYTES: Final = 128

BAD_TOKEN: Final = b"CLIENT_ERROR bad token in command line format\r\n"
BAD_KEY: Final = b"CLIENT_ERROR error decoding key\r\n"
DUPLICATE_FLAG: Final = b"CLIENT_ERROR duplicate flag\r\n"
INVALID_FLAG: Final = b"CLIENT_ERROR invalid flag\r\n"
#: What ma says, whatever is wrong with key and flags.
BAD_FLAGS: Final = b"CLIENT_ERROR invalid or duplicate flag\r\n"
FLAGS_TOO_LONG: Final = b"CLIENT_ERROR options flags are too long\r\n"
OPAQUE_TOO_LONG: Final = b"CLIENT_ERROR opaque token too long\r\n"
BAD_STORE_MODE: Final = b"CLIENT_ERROR invalid mode for ms M token\r\n"
BAD_ARITHMETIC_MODE: Final = b"CLIENT_ERROR invalid mode for ma M token\r\n"
BAD_INITIAL: Final = b"CLIENT_ERROR invalid numeric initial value\r\n"
BAD_DELTA: Final = b"CLIENT_ERROR invalid numeric delta value\r\n"

# The letters that handlers look at when the command is executed.
ASK_CAS, ASK_KEY, ASK_SIZE, ASK_TTL, OPAQUE, TOUCH, VIVIFY, RECACHE = b"ckstOTNR"

KEY_AS_BASE64: Final = KEY_BINARY | UNSPEAKABLE


@dataclass(slots=True, eq=False)
class Flag:
    """One flag.

    `effect` is that of an mg which has it; the others write whatever their flags. `alters` names
    those of mg (`g`) and ms (`s`) that do not go their usual, short way with it. `sets` is the
    attribute of `MetaFlags` that becomes what `decode` makes of the word behind the letter, which
    is refused with `complaint` if that is None; without `decode` it becomes True. `asks` returns,
    of an item at that time, what answers mg; and what is so answered, and else is `in_order`, is
    done in the order of the words.
    """

    effect: Effect
    alters: str
    _: KW_ONLY
    sets: str = ""
    decode: Callable[[bytes], int | None] | None = None
    complaint: bytes = BAD_TOKEN
    asks: Callable[[Item, int], int | bytes] | None = None
    form: bytes = b" %c%d"
    in_order: bool = False


def ttl(expires_at: int, now: int) -> int:
    """Return what answers `t`."""
    # An item may have been made to end before now; the original shows that unsigned.
    return (expires_at - now) & limits.UINT32_MAX if expires_at else -1


def _decode_mode(token: bytes) -> int:
    """Return the first letter, as the original looks no further; without one what follows."""
    return token[0] if token else ord(" ")


def _is_too_long(opaque: bytes) -> bool:
    return len(opaque) >= OPAQUE_MAX_BYTES


def _key_of(item: Item, now: int) -> bytes:
    return encode_key(item.key, as_base64=item.access & KEY_AS_BASE64)


#: By the letter.
FLAGS: Final[dict[int, Flag]] = {
    ord("b"): Flag(READS, "s", sets="key_binary"),
    ord("c"): Flag(READS, "", asks=lambda item, now: item.cas_unique),
    ord("f"): Flag(READS, "", asks=lambda item, now: item.client_flags),
    # What was before its own access.
    ord("h"): Flag(READS, "g", asks=lambda item, now: 1 if item.access & FETCHED else 0),
    ord("k"): Flag(READS, "", asks=_key_of, form=b" %c%b"),
    ord("l"): Flag(READS, "g", asks=lambda item, now: now - item.last_access),
    ord("q"): Flag(READS, "", sets="quiet"),
    ord("s"): Flag(READS, "", asks=lambda item, now: len(item.value)),
    ord("t"): Flag(READS, "", asks=lambda item, now: ttl(item.state[1], now)),
    ord("u"): Flag(READS, "g", sets="no_bump"),
    ord("v"): Flag(READS, "", sets="value"),
    ord("x"): Flag(READS, "", sets="remove_value"),
    ord("C"): Flag(READS, "s", sets="cas_compare", decode=decode_u64),
    ord("D"): Flag(READS, "", sets="delta", decode=decode_u64, complaint=BAD_DELTA),
    # Of what mg creates.
    ord("E"): Flag(WRITES, "s", sets="new_cas", decode=decode_u64),
    # The original forgets to say which flag is wrong.
    ord("F"): Flag(READS, "", sets="client_flags", decode=decode_u32, complaint=b""),
    ord("I"): Flag(READS, "s", sets="stale"),
    ord("J"): Flag(READS, "", sets="initial", decode=decode_u64, complaint=BAD_INITIAL),
    ord("L"): Flag(READS, ""),  # of proxies, as is the next one
    ord("P"): Flag(READS, ""),
    ord("M"): Flag(READS, "s", sets="mode", decode=_decode_mode),
    ord("N"): Flag(WRITES, "g", sets="vivify_exptime", decode=decode_i32, in_order=True),
    ord("O"): Flag(READS, "", sets="opaque_too_long", decode=_is_too_long, in_order=True),
    ord("R"): Flag(WRITES, "g", sets="recache_exptime", decode=decode_i32, in_order=True),
    ord("T"): Flag(WRITES, "g", sets="touch_exptime", decode=decode_i32, in_order=True),
}


@dataclass(slots=True, eq=False)
class MetaFlags:
    """The flags of one command, decoded. Shared: never changed after `decode_flags`."""

    #: A word cannot be a flag at all: the line is no command. # mcmc: _mcmc_tokenize_meta
    malformed: bool = False
    #: What is wrong with the flags; and the same if the key turns out not to be base64.
    error: bytes = b""
    decode_error: bytes = b""
    key_binary: bool = False  #: b
    value: bool = False  #: v
    quiet: bool = False  #: q
    no_bump: bool = False  #: u
    stale: bool = False  #: I
    remove_value: bool = False  #: x
    vivify_exptime: int | None = None  #: N
    touch_exptime: int | None = None  #: T
    recache_exptime: int | None = None  #: R
    client_flags: int = 0  #: F
    cas_compare: int | None = None  #: C
    new_cas: int | None = None  #: E
    mode: int = 0  #: the letter behind M
    initial: int = 0  #: J
    delta: int = 1  #: D
    opaque_too_long: bool = False
    #: What is answered, or done, in the order asked: the letter, and the whole word.
    steps: tuple[tuple[int, bytes], ...] = ()
    #: Whether that order matters: mg changes the item between two answers, or asks for what
    #: was before its own access; or whether it answers the value depends on the item.
    ordered: bool = False
    effect: Effect = READS  #: of mg, as far as its flags tell
    late_bump: bool = False  #: mg looks at the item before that counts as an access
    #: Otherwise: the answer of mg to a hit, and what is to be filled in behind the size.
    template: bytes = b""
    asks: tuple[Callable[[Item, int], int | bytes], ...] = ()
    only_value: bool = False  #: ... where that is nothing
    #: ms stores whatever is there, under the key as it came, with the next cas unique.
    plain_set: bool = False


def may_be_flag(word: bytes) -> bool:
    """Return whether a word begins as flags do, known or not: with something near a letter."""
    return b"A" <= word[:1] <= b"z" or b"0" <= word[:1] <= b"9"


def decode_flags(words: tuple[bytes, ...]) -> MetaFlags:
    """Decode the flags of a command."""
    if sum(map(len, words)) > KEPT_MAX_BYTES:
        return _decode(words)
    return _decode_and_keep(words)


def _decode(words: tuple[bytes, ...]) -> MetaFlags:
    # memcached: _meta_flag_preparse. As there the last error is the one told, but a repeated or
    # unknown flag ends it.
    flags = MetaFlags()
    flags.malformed = not all(map(may_be_flag, words))
    error = decode_error = b""
    faulty = False
    rows: dict[int, Flag] = {}
    steps = []
    for word in words:
        letter = word[0]
        row = FLAGS.get(letter)
        if row is None or letter in rows:
            flags.error = flags.decode_error = DUPLICATE_FLAG if letter in rows else INVALID_FLAG
            return flags
        rows[letter] = row
        if row.in_order or row.asks is not None:
            steps.append((letter, word))
        if letter == _BASE64:
            decode_error = BAD_KEY
        value = True if row.decode is None else row.decode(word[1:])
        if value is None:
            faulty = True
            if row.complaint:
                error = row.complaint
                decode_error = error if flags.key_binary else b""
        elif row.sets:
            setattr(flags, row.sets, value)
    if faulty:
        flags.error = error or BAD_FORMAT
    flags.decode_error = decode_error
    flags.steps = tuple(steps)
    altered = {command for row in rows.values() for command in row.alters}
    flags.late_bump = "g" in altered
    flags.ordered = flags.late_bump or flags.opaque_too_long or flags.cas_compare is not None
    flags.plain_set = "s" not in altered and not flags.opaque_too_long
    if any(row.effect is WRITES for row in rows.values()):
        flags.effect = WRITES
    if not flags.ordered:
        _make_template(flags)
    return flags


_decode_and_keep: Final = lru_cache(maxsize=1024)(_decode)
_BASE64: Final = ord("b")


def _make_template(flags: MetaFlags) -> None:
    template = b"VA %d" if flags.value else b"HD"
    asks = []
    for letter, word in flags.steps:
        row = FLAGS[letter]
        if row.asks is None:
            template += b" " + word.replace(b"%", b"%%")
        else:
            template += row.form.replace(b"%c", b"%c" % letter)
            asks.append(row.asks)
    flags.template = template + CRLF
    flags.asks = tuple(asks)
    flags.only_value = flags.value and not flags.steps


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
