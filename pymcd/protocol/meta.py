"""The meta commands: mn mg ms md ma me.  # protocol.txt, "Meta Commands"

The flags of a command are decoded once, into a `MetaFlags`, and kept for the next command with
the same flags: clients use few combinations. What needs the key or the time of the request is not
in there. Flags are answered in the order in which they were asked.

Followed is memcached 1.6.18, byte for byte; where that departs from protocol.txt, so do we. Of the
later flags it rejects, `E` (the cas unique that the item is to get) and `x` of md (drop the value,
keep the item) are understood.
"""

from __future__ import annotations

import binascii
from functools import lru_cache
from typing import TYPE_CHECKING, Final

from .. import limits
from ..store.item import ACTIVE, FETCHED, KEY_BINARY, STALE, UNSPEAKABLE, WIN_SENT, key_marks
from ..store.status import Status, StoreMode
from .framing import Verb
from .tokens import (
    BAD_FORMAT,
    CRLF,
    ERROR,
    NO_MEMORY,
    NO_MEMORY_READING,
    NO_MEMORY_STORING,
    NON_NUMERIC,
    TOO_LARGE,
    decode_i32,
    decode_u32,
    decode_u64,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..store import Cache, Item
    from .connection import Connection
    from .framing import type_Header

#: Command and key count among the words, as does the end of the line in the original.
WORDS_MAX: Final = 19
OPAQUE_MAX_BYTES: Final = 32  #: the letter included

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
NO_MEMORY_CREATING: Final = b"SERVER_ERROR Out of memory allocating new item\r\n"

STORE_CODES: Final = {
    Status.STORED: b"HD",
    Status.NOT_STORED: b"NS",
    Status.EXISTS: b"EX",
    Status.NOT_FOUND: b"NF",
}
STORE_MODES: Final = {
    0: StoreMode.SET,
    ord("S"): StoreMode.SET,
    ord("E"): StoreMode.ADD,
    ord("A"): StoreMode.APPEND,
    ord("P"): StoreMode.PREPEND,
    ord("R"): StoreMode.REPLACE,
}
#: Whether the mode means to decrement.
ARITHMETIC_MODES: Final = {
    0: False,
    ord("I"): False,
    ord("+"): False,
    ord("D"): True,
    ord("-"): True,
}

_STORED = Status.STORED
_SET, _CAS = StoreMode.SET, StoreMode.CAS
_STALE_OR_WIN_SENT: Final = STALE | WIN_SENT
_KEY_AS_BASE64: Final = KEY_BINARY | UNSPEAKABLE

# The letters that are looked at more than once.
_A_CAS, _A_FLAGS, _A_HIT, _A_KEY, _A_ACCESS = b"cfhkl"
_A_SIZE, _A_TTL, _AN_OPAQUE = b"stO"
_TOUCH, _VIVIFY, _RECACHE = b"TNR"


class MetaFlags:
    """The flags of one command, decoded. Shared: never changed after `decode_flags`."""

    __slots__ = (
        "answers",
        "cas_compare",
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
        self.late_bump = False  #: mg looks at the item before that counts as an access
        #: Otherwise: the answer of mg to a hit, and the letters of what is to be filled in.
        self.template = b""
        self.answers = b""
        #: ms with nothing but T, or nothing at all.
        self.plain_set = False


@lru_cache(maxsize=1024)
def decode_flags(words: tuple[bytes, ...]) -> MetaFlags:
    """Decode the flags of a command. # memcached: _meta_flag_preparse

    As in the original the last error is the one told, but a repeated or unknown flag ends it.
    """
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
        elif letter == _AN_OPAQUE:
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
    flags.ordered = flags.late_bump or flags.no_bump or flags.opaque_too_long
    flags.plain_set = seen <= _PLAIN_SET_LETTERS
    if not flags.ordered:
        _make_template(flags)
    return flags


_BASE64, _MODE = b"bM"
_PLAIN_SET_LETTERS: Final = frozenset(b"TPL")
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
        if letter == _AN_OPAQUE:
            template += b" " + word.replace(b"%", b"%%")
        else:
            template += b" %c%%b" % letter if letter == _A_KEY else b" %c%%d" % letter
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


def _ttl(item: Item, now: int) -> int:
    # An item may have been made to end before now; the original shows that unsigned.
    return (item.expires_at - now) & limits.UINT32_MAX if item.expires_at else -1


def _echo(flags: MetaFlags, key: bytes) -> bytes:
    """Return the opaque and the key, where asked for: all that answers when nothing is there."""
    echoed = b""
    for letter, word in flags.steps:
        if letter == _AN_OPAQUE:
            echoed += b" " + word
        elif letter == _A_KEY:
            echoed += b" k" + encode_key(key, as_base64=flags.key_binary)
    return echoed


# -- mn, me ------------------------------------------------------------------------------------


def _mn(connection: Connection, tokens: list[bytes]) -> None:
    # protocol.txt, "Meta No-Op"
    connection.reply(b"MN\r\n")


def _me(connection: Connection, tokens: list[bytes]) -> None:
    # protocol.txt, "Meta Debug": me <key> [b]
    key: bytes | None = tokens[1] if len(tokens) > 1 else None
    if key is not None and len(key) > limits.KEY_MAX_BYTES:
        key = None
    if key is not None and len(tokens) > 2 and tokens[2] == b"b":
        key = decode_key(key)
    if key is None:
        connection.reply(BAD_FORMAT)
        return
    cache = connection.cache
    item = cache.peek(key)
    if connection.service.recorder is not None:
        connection.service.recorder.fetched(connection, key, item)
    cache.counters.meta_cmds += 1
    if item is None:
        connection.reply(b"EN\r\n")
        return
    if item.access & _KEY_AS_BASE64:
        key = binascii.b2a_base64(key, newline=False)
    assert item.segment is not None
    connection.reply(
        b"ME %b exp=%d la=%d cas=%d fetch=%b cls=%d size=%d\r\n"
        % (
            key,
            # The wrong way round, as in memcached 1.6.18.
            cache.now - item.expires_at if item.expires_at else -1,
            cache.now - item.last_access,
            item.cas_unique,
            b"yes" if item.access & FETCHED else b"no",
            item.segment.slab_class.id,
            cache.size_of(item),
        )
    )


# -- mg ----------------------------------------------------------------------------------------


def _mg(connection: Connection, tokens: list[bytes]) -> None:
    # protocol.txt, "Meta Get": mg <key> <flags>*
    # Hot path: bench/ "mg16".
    count = len(tokens)
    if count < 2:
        connection.reply(ERROR)
        return
    key = tokens[1]
    if len(key) > limits.KEY_MAX_BYTES:
        connection.reply(BAD_FORMAT)
        return
    if count > WORDS_MAX:
        connection.reply(GET_FLAGS_TOO_LONG)
        return
    flags = decode_flags(tuple(tokens[2:]))
    if flags.key_binary:
        decoded = decode_key(key)
        if decoded is None:
            connection.reply(flags.decode_error)
            return
        key = decoded
    if flags.error:
        connection.reply(flags.error)
        return
    if flags.ordered:
        _mg_ordered(connection, key, flags)
        return
    cache = connection.cache
    item = cache.get(key)
    if connection.service.recorder is not None:
        connection.service.recorder.fetched(connection, key, item)
    if item is None:
        if not flags.quiet:
            connection.reply(b"EN%b\r\n" % _echo(flags, key) if flags.steps else b"EN\r\n")
        return
    values: list[int | bytes] = []
    for letter in flags.answers:
        if letter == _A_SIZE:
            values.append(len(item.value))
        elif letter == _A_FLAGS:
            values.append(item.client_flags)
        elif letter == _A_CAS:
            values.append(item.cas_unique)
        elif letter == _A_KEY:
            values.append(encode_key(key, as_base64=item.access & _KEY_AS_BASE64))
        else:
            values.append(_ttl(item, cache.now))
    line = flags.template % tuple(values)
    if item.access & _STALE_OR_WIN_SENT:
        line = b"%b%b\r\n" % (line[:-2], _win(cache, item, won=False))
    if flags.value:
        connection.pieces += (line, item.value, CRLF)
    else:
        connection.reply(line)


def _mg_ordered(connection: Connection, key: bytes, flags: MetaFlags) -> None:
    """Do what changes the item, or asks for its state before, flag by flag."""
    cache = connection.cache
    expiry = cache.expiry
    item = cache.peek(key)
    if connection.service.recorder is not None:
        connection.service.recorder.fetched(connection, key, item)
    if item is not None and not flags.no_bump and not flags.late_bump:
        _bump(cache, item)
    created = False
    if item is None and flags.vivify_exptime is not None:
        item = cache.create(key, b"")
        if item is not None:
            created = True
            _mark_key(cache, item, flags)
            cache.set_cas_unique(item, flags.new_cas)
    if item is None:
        if flags.touch_exptime is not None:
            cache.counters.touch_cmds += 1
            cache.counters.touch_misses += 1
        else:
            cache.counters.get_misses += 1
        if flags.opaque_too_long:
            connection.reply(OPAQUE_TOO_LONG)
        elif not flags.quiet:
            connection.reply(b"EN%b\r\n" % _echo(flags, key))
        return
    won = False
    line = b"VA %d" % len(item.value) if flags.value else b"HD"
    for letter, word in flags.steps:
        if letter == _TOUCH:
            assert flags.touch_exptime is not None
            cache.set_expires_at(item, expiry.expires_at(flags.touch_exptime))
        elif letter == _VIVIFY:
            if created:
                assert flags.vivify_exptime is not None
                cache.set_expires_at(item, expiry.expires_at(flags.vivify_exptime))
                won = True
        elif letter == _RECACHE:
            assert flags.recache_exptime is not None
            if (
                not item.access & WIN_SENT
                and not created
                and 0 < item.expires_at < expiry.expires_at(flags.recache_exptime)
            ):
                won = True
        elif letter == _AN_OPAQUE:
            if flags.opaque_too_long:
                connection.reply(OPAQUE_TOO_LONG)
                return
            line += b" " + word
        elif letter == _A_KEY:
            line += b" k" + encode_key(key, as_base64=item.access & _KEY_AS_BASE64)
        else:
            line += b" %c%d" % (letter, _answer(cache, item, letter))
    if won or item.access & _STALE_OR_WIN_SENT:
        line += _win(cache, item, won=won)
    if flags.late_bump and not flags.no_bump:
        _bump(cache, item)
    assert item.segment is not None
    if flags.touch_exptime is not None:
        cache.counters.touch_cmds += 1
        item.segment.slab_class.touch_hits += 1
    else:
        item.segment.hits += 1
    if flags.value:
        connection.pieces += (line + CRLF, item.value, CRLF)
    else:
        connection.reply(line + CRLF)


def _answer(cache: Cache, item: Item, letter: int) -> int:
    """Return the number that answers a flag."""
    if letter == _A_SIZE:
        return len(item.value)
    if letter == _A_FLAGS:
        return item.client_flags
    if letter == _A_CAS:
        return item.cas_unique
    if letter == _A_HIT:
        return 1 if item.access & FETCHED else 0
    if letter == _A_ACCESS:
        return cache.now - item.last_access
    return _ttl(item, cache.now)


def _win(cache: Cache, item: Item, *, won: bool) -> bytes:
    """Return the flags that are answered without being asked for; at most one client wins."""
    answer = b" Z" if item.access & WIN_SENT else b""
    if item.access & STALE:
        answer += b" X"
        won = won or not item.access & WIN_SENT
    if won:
        answer += b" W"
        cache.mark(item, WIN_SENT)
    return answer


def _bump(cache: Cache, item: Item) -> None:
    if not item.access & ACTIVE:
        cache.bump(item)


def _mark_key(cache: Cache, item: Item, flags: MetaFlags) -> None:
    """Take note that text cannot say the key of a new item."""
    if flags.key_binary:
        marks = key_marks(item.key)
        if marks:
            cache.mark(item, marks)


# -- ms ----------------------------------------------------------------------------------------


def _decode_ms(connection: Connection, tokens: list[bytes]) -> type_Header | None:
    # protocol.txt, "Meta Set": ms <key> <datalen> <flags>*
    # Hot path: bench/ "ms16".
    count = len(tokens)
    if count < 2:
        connection.reply(ERROR)
        return None
    key = tokens[1]
    if len(key) > limits.KEY_MAX_BYTES or count == 2:
        connection.reply(BAD_FORMAT)
        return None
    if count > WORDS_MAX:
        connection.reply(FLAGS_TOO_LONG)
        return None
    length = decode_i32(tokens[2])
    if length is None or not 0 <= length <= limits.INT32_MAX - 2:
        connection.reply(BAD_FORMAT)
        return None
    # From here on errors swallow the block.
    flags = decode_flags(tuple(tokens[3:]))
    error = flags.error
    if flags.key_binary:
        decoded = decode_key(key)
        if decoded is None:
            error = flags.decode_error
        else:
            key = decoded
    mode = STORE_MODES.get(flags.mode)
    if not error:
        if mode is None:
            error = BAD_STORE_MODE
        elif flags.opaque_too_long:
            error = OPAQUE_TOO_LONG
        else:
            if flags.cas_compare is not None and mode in (StoreMode.SET, StoreMode.REPLACE):
                mode = _CAS
            cache = connection.cache
            if cache.fits(key, length, flags.client_flags):
                exptime = flags.touch_exptime
                expires_at = cache.expiry.expires_at(exptime) if exptime else 0
                # Whatever is wrong with the block is told, quiet or not.
                return length, False, key, flags, mode, expires_at
            error = TOO_LARGE
            # In all modes the old value goes.
            cache.refuse_too_large(_SET, key)
            recorder = connection.service.recorder
            if recorder is not None:
                recorder.refused(connection, key, mode, Status.TOO_LARGE)
    connection.reply(error)
    connection.swallow_bytes = length + 2
    return None


def _ms(connection: Connection, header: type_Header, block: bytes) -> None:
    # Hot path: bench/ "ms16".
    key: bytes
    flags: MetaFlags
    _, _, key, flags, mode, expires_at = header
    cache = connection.cache
    recorder = connection.service.recorder
    if flags.plain_set and recorder is None and cache.set(key, block, expires_at):
        connection.reply(b"HD\r\n")
        return
    # Without cas uniques the original has nowhere to note what was demanded.
    cas_compare = (cache.use_cas and flags.cas_compare) or 0
    if flags.stale and mode is _CAS:
        status = cache.store_stale(key, block, flags.client_flags, expires_at, cas_compare)
    else:
        status = cache.store(mode, key, block, flags.client_flags, expires_at, cas_compare)
    if recorder is not None:
        recorder.stored(connection, key, mode, status, len(block), expires_at)
    cas_unique = 0
    if status is _STORED:
        if flags.key_binary or flags.new_cas:
            item = cache.inspect(key)
            if item is not None:
                cache.set_cas_unique(item, flags.new_cas)
                marks = key_marks(key)
                if flags.key_binary and mode not in (StoreMode.APPEND, StoreMode.PREPEND):
                    # Appending makes a new item, which forgets this.
                    marks |= KEY_BINARY
                cache.mark(item, marks)
        cas_unique = (cache.use_cas and flags.new_cas) or cache.cas_unique
        if flags.quiet:
            return
    elif status is Status.NO_MEMORY:
        # As for a value that is too large.
        item = cache.peek(key)
        if item is not None:
            cache.unlink(item)
        connection.reply(NO_MEMORY_STORING)
        return
    elif status is Status.NO_MEMORY_READING:
        connection.reply(NO_MEMORY_READING)
        return
    line = STORE_CODES[status]
    for letter, word in flags.steps:
        if letter == _AN_OPAQUE:
            line += b" " + word
        elif letter == _A_KEY:
            line += b" k" + encode_key(key, as_base64=flags.key_binary)
        elif letter == _A_CAS:
            line += b" c%d" % cas_unique
    connection.reply(line + CRLF)


# -- md ----------------------------------------------------------------------------------------


def _decode_others(connection: Connection, tokens: list[bytes]) -> tuple[bytes, MetaFlags] | None:
    """Decode what md and ma have in common; None: it is wrong, and that has been replied."""
    count = len(tokens)
    if count < 2:
        connection.reply(ERROR)
        return None
    key = tokens[1]
    if len(key) > limits.KEY_MAX_BYTES:
        connection.reply(BAD_FORMAT)
        return None
    if count > WORDS_MAX:
        connection.reply(FLAGS_TOO_LONG)
        return None
    flags = decode_flags(tuple(tokens[2:]))
    decoded = decode_key(key) if flags.key_binary else key
    if flags.error or decoded is None:
        connection.reply(BAD_FLAGS)
        return None
    return decoded, flags


def _md(connection: Connection, tokens: list[bytes]) -> None:
    # protocol.txt, "Meta Delete": md <key> <flags>*
    command = _decode_others(connection, tokens)
    if command is None:
        return
    key, flags = command
    if flags.opaque_too_long:
        connection.reply(OPAQUE_TOO_LONG)
        return
    cache = connection.cache
    item = cache.peek(key)
    code = b"HD"
    if item is None:
        cache.counters.delete_misses += 1
        code = b"NF"
    elif flags.cas_compare is not None and flags.cas_compare != item.cas_unique:
        cache.counters.delete_misses += 1
        code = b"EX"
    elif not _delete(connection, item, flags):
        connection.reply(NO_MEMORY)
        return
    elif flags.quiet:
        return
    connection.reply(code + _echo(flags, key) + CRLF)


def _delete(connection: Connection, item: Item, flags: MetaFlags) -> bool:
    """Delete an item, or make it stale, or empty; False: there is no memory."""
    cache = connection.cache
    recorder = connection.service.recorder
    if not flags.stale and recorder is not None:
        recorder.deleting(connection, item.key, "md")
    if flags.remove_value:
        # Everything but the cas unique is new.
        cas_unique = item.cas_unique
        emptied = cache.create(item.key, b"", flags.client_flags)
        if emptied is None:
            return False
        item = emptied
        _mark_key(cache, item, flags)
        cache.set_cas_unique(item, flags.new_cas or cas_unique)
        cache.set_expires_at(item, cache.expiry.expires_at(flags.touch_exptime or 0))
    if flags.stale:
        if flags.touch_exptime is not None:
            cache.set_expires_at(item, cache.expiry.expires_at(flags.touch_exptime))
        cache.invalidate(item)
        cache.set_cas_unique(item, flags.new_cas)
    elif flags.remove_value:
        assert item.segment is not None
        item.segment.slab_class.delete_hits += 1
    else:
        cache.delete(item.key)
    return True


# -- ma ----------------------------------------------------------------------------------------


def _ma(connection: Connection, tokens: list[bytes]) -> None:
    # protocol.txt, "Meta Arithmetic": ma <key> <flags>*
    command = _decode_others(connection, tokens)
    if command is None:
        return
    key, flags = command
    decrement = ARITHMETIC_MODES.get(flags.mode)
    if decrement is None:
        connection.reply(BAD_ARITHMETIC_MODE)
        return
    cache = connection.cache
    item = cache.peek(key)
    created = False
    # The original answers from the item it had before a longer number needed a new one: what it
    # then sets is lost. # memcached: do_add_delta
    touchable = True
    if item is None and flags.vivify_exptime is not None:
        number = flags.initial
        item = cache.create(key, b"%d" % number)
        if item is None:
            connection.reply(NO_MEMORY_CREATING)
            return
        created = True
        _mark_key(cache, item, flags)
        recorder = connection.service.recorder
        if recorder is not None:
            recorder.stored(connection, key, StoreMode.ADD, _STORED, len(item.value), 0)
    else:
        status, number = cache.increment(
            key, flags.delta, decrement=decrement, cas_compare=flags.cas_compare or 0
        )
        if status is not _STORED:
            if status is Status.NON_NUMERIC:
                connection.reply(NON_NUMERIC)
            elif status is Status.NO_MEMORY:
                connection.reply(NO_MEMORY)
            elif flags.opaque_too_long:
                connection.reply(OPAQUE_TOO_LONG)
            else:
                connection.reply(STORE_CODES[status] + _echo(flags, key) + CRLF)
            return
        before, item = item, cache.inspect(key)
        assert item is not None
        touchable = item is before
    cache.set_cas_unique(item, flags.new_cas)
    _answer_ma(connection, key, item, flags, number, created=created, touchable=touchable)


def _answer_ma(
    connection: Connection,
    key: bytes,
    item: Item,
    flags: MetaFlags,
    number: int,
    *,
    created: bool,
    touchable: bool,
) -> None:
    """Do and answer, flag by flag, what follows a successful calculation."""
    cache = connection.cache
    expires_at = item.expires_at
    text = b"%d" % number
    line = b"VA %d" % len(text) if flags.value else b"HD"
    for letter, word in flags.steps:
        if letter == _TOUCH:
            assert flags.touch_exptime is not None
            expires_at = cache.expiry.expires_at(flags.touch_exptime)
        elif letter == _VIVIFY:
            if created:
                assert flags.vivify_exptime is not None
                expires_at = cache.expiry.expires_at(flags.vivify_exptime)
        elif letter == _AN_OPAQUE:
            if flags.opaque_too_long:
                break
            line += b" " + word
        elif letter == _A_KEY:
            line += b" k" + encode_key(key, as_base64=flags.key_binary)
        elif letter == _A_CAS:
            line += b" c%d" % item.cas_unique
        elif letter == _A_TTL:
            ttl = (expires_at - cache.now) & limits.UINT32_MAX if expires_at else -1
            line += b" t%d" % ttl
    if touchable and expires_at != item.expires_at:
        cache.set_expires_at(item, expires_at)
    if flags.opaque_too_long:
        connection.reply(OPAQUE_TOO_LONG)
    elif not flags.quiet or created:
        # A created item is answered even so, as in the original.
        connection.reply(b"%b\r\n%b\r\n" % (line, text) if flags.value else line + CRLF)


META_VERBS: Final[dict[bytes, Verb]] = {
    b"mn": Verb(_mn),
    b"me": Verb(_me),
    b"mg": Verb(_mg),
    b"ms": Verb(decode=_decode_ms, store=_ms),
    b"md": Verb(_md),
    b"ma": Verb(_ma),
}
