"""The meta commands: mn mg ms md ma me.  # protocol.txt, "Meta Commands"

What their flags mean to an item, and what is answered, in the order in which it was asked; what a
flag is, how it is worded, and what of an item it asks for is in metaflags.py.

Followed is memcached 1.6.45, byte for byte; where that departs from protocol.txt, so do we.
"""

from __future__ import annotations

import binascii
import re
from functools import lru_cache
from typing import TYPE_CHECKING, Final

from .. import limits
from ..store.item import ACTIVE, FETCHED, KEY_BINARY, STALE, WIN_SENT, key_marks
from ..store.status import Status, StoreMode
from .framing import refuse_value
from .metaflags import (
    ASK_CAS,
    ASK_KEY,
    ASK_SIZE,
    ASK_TTL,
    BAD_ARITHMETIC_MODE,
    BAD_FLAGS,
    BAD_STORE_MODE,
    FLAGS,
    FLAGS_TOO_LONG,
    KEPT_MAX_BYTES,
    KEY_AS_BASE64,
    OPAQUE,
    OPAQUE_TOO_LONG,
    RECACHE,
    TOUCH,
    VIVIFY,
    WORDS_MAX,
    MetaFlags,
    decode_flags,
    decode_key,
    encode_key,
    may_be_flag,
    ttl,
)
from .tokens import (
    BAD_FORMAT,
    CRLF,
    NO_MEMORY,
    NO_MEMORY_READING,
    NO_MEMORY_STORING,
    NON_NUMERIC,
    TOO_LARGE,
    WORD_BYTE,
    Texts,
    decode_i32,
)
from .verbs import READS, WRITES, Effect, Verb, no_keys

if TYPE_CHECKING:
    from ..store import Cache, Item
    from .connection import Connection
    from .verbs import type_Header, type_Keys

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
_JOINING: Final = (StoreMode.APPEND, StoreMode.PREPEND)
_STALE_OR_WIN_SENT: Final = STALE | WIN_SENT
#: What answers mg, where only the value is asked for.
_VALUE_LINES: Final = Texts(b"VA %d\r\n")


def _line(flags: MetaFlags, key: bytes, code: bytes) -> bytes:
    """Return an answer that needs no item: opaque and key, where asked for."""
    for letter, word in flags.steps:
        if letter == OPAQUE:
            code += b" " + word
        elif letter == ASK_KEY:
            code += b" k" + encode_key(key, as_base64=flags.key_binary)
    return code + CRLF


def _stored_line(flags: MetaFlags, key: bytes, code: bytes, cas_unique: int, size: int) -> bytes:
    """Return the answer to ms: as `_line`, and cas unique and size of the value."""
    for letter, word in flags.steps:
        if letter == OPAQUE:
            code += b" " + word
        elif letter == ASK_KEY:
            code += b" k" + encode_key(key, as_base64=flags.key_binary)
        elif letter == ASK_CAS:
            code += b" c%d" % cas_unique
        elif letter == ASK_SIZE:
            code += b" s%d" % size
    return code + CRLF


def _decode_key_and_flags(tokens: list[bytes], first_flag: int) -> tuple[bytes, MetaFlags, bytes]:
    """Return key, flags, and what is wrong with them, or nothing."""
    # memcached: process_request, _meta_flag_preparse
    key = tokens[1]
    flags = decode_flags(tuple(tokens[first_flag : limits.TOKENS_MAX]))
    if flags.malformed or len(key) > limits.KEY_MAX_BYTES:
        return key, flags, BAD_FORMAT
    if len(tokens) > WORDS_MAX:
        return key, flags, FLAGS_TOO_LONG
    if flags.key_binary:
        decoded = decode_key(key)
        if decoded is None:
            return key, flags, flags.decode_error
        key = decoded
    return key, flags, flags.error


_NO_FLAGS: Final = decode_flags(())


# -- mn, me ------------------------------------------------------------------------------------


def _mn(connection: Connection, tokens: list[bytes]) -> None:
    # protocol.txt, "Meta No-Op"
    connection.reply(b"MN\r\n")


def _me(connection: Connection, tokens: list[bytes]) -> None:
    # protocol.txt, "Meta Debug": me <key> [b]
    key = _key_of_me(tokens) if len(tokens) > 1 else None
    flags = tokens[2 : limits.TOKENS_MAX]
    if key is None or len(tokens[1]) > limits.KEY_MAX_BYTES or not all(map(may_be_flag, flags)):
        connection.reply(BAD_FORMAT)
        return
    cache = connection.cache
    item = cache.peek(key)
    connection.service.counters.meta_cmds += 1
    if item is None:
        connection.reply(b"EN\r\n")
        return
    if item.access & KEY_AS_BASE64:
        key = binascii.b2a_base64(key, newline=False)
    assert item.segment is not None
    connection.reply(
        b"ME %b exp=%d la=%d cas=%d fetch=%b cls=%d size=%d\r\n"
        % (
            key,
            item.expires_at - cache.now if item.expires_at else -1,
            cache.now - item.last_access,
            item.cas_unique,
            b"yes" if item.access & FETCHED else b"no",
            item.segment.slab_class.id,
            cache.size_of(item),
        )
    )


def _key_of_me(tokens: list[bytes]) -> bytes | None:
    """Return the key; None: it is not base64, though it is said to be."""
    # memcached: process_meta_command. It looks at the flag only if there is another word behind.
    as_base64 = len(tokens) > 3 and tokens[2] == b"b"
    return decode_key(tokens[1]) if as_base64 else tokens[1]


# -- mg ----------------------------------------------------------------------------------------


def _mg(connection: Connection, tokens: list[bytes]) -> None:
    # protocol.txt, "Meta Get": mg <key> <flags>*
    # Hot path: bench/ "mg16".
    if len(tokens) < 2:
        connection.reply(BAD_FORMAT)
        return
    key, flags, error = _decode_key_and_flags(tokens, 2)
    if error:
        connection.reply(error)
        return
    if flags.ordered:
        _mg_ordered(connection, key, flags)
        return
    cache = connection.cache
    item = cache.get(key)
    if item is None:
        if not flags.quiet:
            connection.reply(_line(flags, key, b"EN") if flags.steps else b"EN\r\n")
        return
    _answer_mg(connection, item, _plain_answer(cache, item, flags), with_value=flags.value)


def _answer_mg(connection: Connection, item: Item, line: bytes, *, with_value: bool) -> None:
    if not with_value:
        connection.reply(line)
        return
    value = item.value
    if len(value) > limits.LIGHT_VALUE_BYTES:
        connection.weight += len(value)
        if len(value) > limits.LENT_VALUE_BYTES:
            connection.lent.append((item, value))
    connection.pieces += (line, value, CRLF)


def _plain_answer(cache: Cache, item: Item, flags: MetaFlags) -> bytes:
    """Return the line that answers a hit, where the order of the flags does not matter."""
    if flags.only_value:
        line = _VALUE_LINES[len(item.value)]
    else:
        values: list[int | bytes] = [len(item.value)] if flags.value else []
        now = cache.now
        for ask in flags.asks:
            values.append(ask(item, now))  # noqa: PERF401  # faster for few: bench/ "metaflags16"
        line = flags.template % tuple(values)
    if item.state[2] & _STALE_OR_WIN_SENT:
        line = b"%b%b\r\n" % (line[:-2], _win(cache, item, won=False))
    return line


def _mg_ordered(connection: Connection, key: bytes, flags: MetaFlags) -> None:
    """Do what changes the item, or asks for its state before, flag by flag."""
    cache = connection.cache
    expiry = cache.expiry
    item = cache.peek(key)
    if item is not None and not flags.no_bump and not flags.late_bump:
        _bump(cache, item)
    created = False
    if item is None and flags.vivify_exptime is not None:
        item = cache.create(key, b"")
        if item is not None:
            created = True
            _mark_key(cache, item, flags)
            if flags.new_cas is not None:
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
            connection.reply(_line(flags, key, b"EN"))
        return
    won = False
    # Who says which value he has is not sent that one again.
    with_value = flags.value and flags.cas_compare != item.cas_unique
    line = b"VA %d" % len(item.value) if with_value else b"HD"
    for letter, word in flags.steps:
        if letter == TOUCH:
            assert flags.touch_exptime is not None
            cache.set_expires_at(item, expiry.expires_at(flags.touch_exptime))
        elif letter == VIVIFY:
            if created:
                assert flags.vivify_exptime is not None
                cache.set_expires_at(item, expiry.expires_at(flags.vivify_exptime))
                won = True
        elif letter == RECACHE:
            assert flags.recache_exptime is not None
            if (
                not item.access & WIN_SENT
                and not created
                and 0 < item.expires_at < expiry.expires_at(flags.recache_exptime)
            ):
                won = True
        elif letter == OPAQUE:
            if flags.opaque_too_long:
                connection.reply(OPAQUE_TOO_LONG)
                return
            line += b" " + word
        else:
            row = FLAGS[letter]
            assert row.asks is not None
            line += row.form % (letter, row.asks(item, cache.now))
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
    _answer_mg(connection, item, line + CRLF, with_value=with_value)


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
    length = decode_i32(tokens[2]) if len(tokens) > 2 else None
    if length is None or not 0 <= length <= limits.INT32_MAX - 2:
        connection.reply(BAD_FORMAT)
        return None
    key, flags, error = _decode_key_and_flags(tokens, 3)
    if flags.malformed:
        connection.reply(error)
        return None
    # From here on errors swallow the block.
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
            if cache.admit(mode, key, length, flags.client_flags):
                exptime = flags.vivify_exptime if _vivifies(flags, mode) else flags.touch_exptime
                expires_at = cache.expiry.expires_at(exptime) if exptime else 0
                # Whatever is wrong with the block is told, quiet or not.
                return length, False, key, flags, mode, expires_at
            refuse_value(connection, length + 2, TOO_LARGE)
            connection.drop(key)  # in all modes
            return None
    refuse_value(connection, length + 2, error)
    return None


def _vivifies(flags: MetaFlags, mode: StoreMode) -> bool:
    """Return whether a value is stored if there is none to which it could be joined."""
    return flags.vivify_exptime is not None and mode in _JOINING


def _ms(connection: Connection, header: type_Header, block: bytes) -> None:
    key: bytes
    flags: MetaFlags
    _, _, key, flags, mode, expires_at = header
    cache = connection.cache
    # Hot path: bench/ "ms16".
    if flags.plain_set and cache.set(key, block, expires_at, flags.client_flags):
        if not flags.quiet:
            connection.reply(_stored_line(flags, key, b"HD", cache.cas_unique, len(block)))
        return
    # Without cas uniques the original has nowhere to note what was demanded.
    cas_compare = (cache.use_cas and flags.cas_compare) or 0
    vivify = _vivifies(flags, mode)
    joined = mode in _JOINING and cache.inspect(key) is not None
    latest = cache.cas_unique
    if flags.stale and mode is _CAS:
        status = cache.store_stale(key, block, flags.client_flags, expires_at, cas_compare)
    else:
        status = cache.store(
            mode, key, block, flags.client_flags, expires_at, cas_compare, vivify=vivify
        )
    if flags.new_cas:
        cache.untake_cas_uniques(latest)
    cas_unique = 0
    size = len(block)
    if status is _STORED:
        item = cache.inspect(key)
        if item is not None:
            if flags.new_cas:
                cache.set_cas_unique(item, flags.new_cas)
            if flags.key_binary:
                # Joining makes a new item, which forgets how its key came.
                cache.mark(item, key_marks(key) | (0 if joined else KEY_BINARY))
            size = len(item.value)
        cas_unique = (cache.use_cas and flags.new_cas) or cache.cas_unique
        if flags.quiet:
            return
    elif status is Status.NO_MEMORY:
        _drop_old(cache, mode, key)
        connection.reply(NO_MEMORY_STORING)
        return
    elif status is Status.NO_MEMORY_READING:
        connection.reply(NO_MEMORY_READING)
        return
    connection.reply(_stored_line(flags, key, STORE_CODES[status], cas_unique, size))


def _drop_old(cache: Cache, mode: StoreMode, key: bytes) -> None:
    """Have the old value go, in all modes, where there is no room for the new one."""
    if mode is not _SET:  # else it went already
        cache.drop(key)


# -- md ----------------------------------------------------------------------------------------


def _md(connection: Connection, tokens: list[bytes]) -> None:
    # protocol.txt, "Meta Delete": md <key> <flags>*
    if len(tokens) < 2:
        connection.reply(BAD_FORMAT)
        return
    key, flags, error = _decode_key_and_flags(tokens, 2)
    if error:
        connection.reply(error)
        return
    if flags.opaque_too_long:
        connection.reply(OPAQUE_TOO_LONG)
        return
    cache = connection.cache
    item = cache.peek(key)
    code = b"HD"
    if item is None:
        cache.miss_delete(key)
        code = b"NF"
    elif flags.cas_compare is not None and flags.cas_compare != item.cas_unique:
        cache.counters.delete_misses += 1
        code = b"EX"
    elif not _delete(connection, item, flags):
        connection.reply(NO_MEMORY)
        return
    elif flags.quiet:
        return
    connection.reply(_line(flags, key, code))


def _delete(connection: Connection, item: Item, flags: MetaFlags) -> bool:
    """Delete an item, or make it stale, or empty; False: there is no memory."""
    cache = connection.cache
    if flags.remove_value:
        # Everything but the cas unique is new.
        cas_unique = item.cas_unique
        expires_at = cache.expiry.expires_at(flags.touch_exptime or 0)
        emptied = cache.create(item.key, b"", flags.client_flags, expires_at, mode=_SET)
        if emptied is None:
            return False
        item = emptied
        _mark_key(cache, item, flags)
        cache.set_cas_unique(item, cas_unique if flags.new_cas is None else flags.new_cas)
    if flags.stale:
        if flags.touch_exptime is not None:
            cache.set_expires_at(item, cache.expiry.expires_at(flags.touch_exptime))
        cache.invalidate(item)
        if flags.new_cas is not None:
            cache.set_cas_unique(item, flags.new_cas)
    else:
        cache.hit_delete(item)
        if not flags.remove_value:
            cache.remove(item)
    return True


# -- ma ----------------------------------------------------------------------------------------


def _ma(connection: Connection, tokens: list[bytes]) -> None:
    # protocol.txt, "Meta Arithmetic": ma <key> <flags>*
    if len(tokens) < 2:
        connection.reply(BAD_FORMAT)
        return
    key, flags, error = _decode_key_and_flags(tokens, 2)
    if error:
        connection.reply(error if flags.malformed else BAD_FLAGS)
        return
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
        item = cache.create(key, b"%d" % number, mode=StoreMode.ADD)
        if item is None:
            connection.reply(b"SERVER_ERROR Out of memory allocating new item\r\n")
            return
        created = True
        _mark_key(cache, item, flags)
    else:
        status, number = cache.increment(
            item, flags.delta, decrement=decrement, cas_compare=flags.cas_compare or 0
        )
        if status is not _STORED:
            if status is Status.NON_NUMERIC:
                connection.reply(NON_NUMERIC)
            elif status is Status.NO_MEMORY:
                connection.reply(NO_MEMORY)
            elif flags.opaque_too_long:
                connection.reply(OPAQUE_TOO_LONG)
            else:
                connection.reply(_line(flags, key, STORE_CODES[status]))
            return
        before, item = item, cache.inspect(key)
        assert item is not None
        touchable = item is before
    if flags.new_cas is not None and touchable:
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
    cas_unique = item.cas_unique
    if flags.new_cas is not None and cache.use_cas:
        cas_unique = flags.new_cas  # whether the item has got it or not
    expires_at = item.expires_at
    text = b"%d" % number
    line = b"VA %d" % len(text) if flags.value else b"HD"
    for letter, word in flags.steps:
        if letter == TOUCH:
            assert flags.touch_exptime is not None
            expires_at = cache.expiry.expires_at(flags.touch_exptime)
        elif letter == VIVIFY:
            if created:
                assert flags.vivify_exptime is not None
                expires_at = cache.expiry.expires_at(flags.vivify_exptime)
        elif letter == OPAQUE:
            if flags.opaque_too_long:
                break
            line += b" " + word
        elif letter == ASK_KEY:
            line += b" k" + encode_key(key, as_base64=flags.key_binary)
        elif letter == ASK_CAS:
            line += b" c%d" % cas_unique
        elif letter == ASK_TTL:
            line += b" t%d" % ttl(expires_at, cache.now)
    if touchable and expires_at != item.expires_at:
        cache.set_expires_at(item, expires_at)
    if flags.opaque_too_long:
        connection.reply(OPAQUE_TOO_LONG)
    elif not flags.quiet:
        connection.reply(b"%b\r\n%b\r\n" % (line, text) if flags.value else line + CRLF)


# -- the usual, fast ---------------------------------------------------------------------------

#: A whole ms. What does not match is not wrong.
_PLAIN_MS: Final = re.compile(
    rb"ms (%b{1,%d}+) (\d{1,9}+)"
    rb"(?: ([^\r\n]{1,%d}+))?\r\n(.*)\r\n" % (WORD_BYTE, limits.KEY_MAX_BYTES, KEPT_MAX_BYTES),
    re.DOTALL,
).fullmatch
#: A reply with a larger value is sent in several chunks.
_JOINED_VALUE_MAX_BYTES: Final = limits.REPLY_CHUNK_BYTES - limits.REPLY_LINE_MAX_BYTES
_PLAIN_MG_MAX_BYTES: Final = limits.KEY_MAX_BYTES + KEPT_MAX_BYTES


@lru_cache(maxsize=1024)
def _plain_flags(text: bytes) -> MetaFlags | None:
    """Decode flags as they stand in a line; None: there is something to be looked at closer."""
    words = text.split()
    if b" ".join(words) != text or len(words) > WORDS_MAX - 3:
        return None
    flags = decode_flags(tuple(words))
    return None if flags.error or flags.key_binary else flags


def answer_plain(connection: Connection, data: bytes) -> bytes | None:
    """Answer one whole mg that hits, or one whole ms that just stores.

    None: what is to be sent is in `pieces`, since it is large; or, if these are empty as before,
    nothing was done, and the general path has to look closer.
    """
    # Hot path: bench/ "mg16", "ms16".
    cache = connection.cache
    flags: MetaFlags | None = _NO_FLAGS
    if data[:3] == b"mg ":
        if len(data) > _PLAIN_MG_MAX_BYTES or data[-2:] != CRLF:
            return None
        key, _, text = data[3:-2].partition(b" ")
        if text:
            flags = _plain_flags(text)
            if flags is None or flags.ordered:
                return None
        # Only an item with a key that text can say is found, so this was such a key.
        item = cache.hit(key)
        if item is None:
            return None
        assert flags is not None
        line = _plain_answer(cache, item, flags)
        if not flags.value:
            return line
        value = item.value
        if len(value) <= _JOINED_VALUE_MAX_BYTES:
            return b"".join((line, value, CRLF))
        connection.pieces += (line, value, CRLF)
        connection.lent.append((item, value))
        return None
    plain = _PLAIN_MS(data)
    if plain is None:
        return None
    key, length, text, value = plain.groups()
    if text:
        flags = _plain_flags(text)
        if flags is None or not flags.plain_set:
            return None
    if len(value) != int(length):
        return None
    assert flags is not None
    exptime = flags.touch_exptime
    expires_at = connection.expires_at(exptime) if exptime else 0
    if not cache.set(key, value, expires_at, flags.client_flags):
        return None
    return b"" if flags.quiet else _stored_line(flags, key, b"HD", cache.cas_unique, len(value))


# -- the table ---------------------------------------------------------------------------------


def _key_before(first_flag: int) -> type_Keys:
    """Return what finds the key of a command whose flags begin at that word."""

    def keys(tokens: list[bytes]) -> list[bytes]:
        if not decode_flags(tuple(tokens[first_flag:])).key_binary:
            return tokens[1:2]
        return [decode_key(token) or token for token in tokens[1:2]]

    return keys


def _me_key(tokens: list[bytes]) -> list[bytes]:
    return [_key_of_me(tokens) or tokens[1]] if len(tokens) > 1 else []


_key: Final = _key_before(2)


def _mg_effect(cache: Cache, tokens: list[bytes]) -> Effect:
    flags = decode_flags(tuple(tokens[2:]))
    if flags.effect is WRITES:
        return WRITES
    (key,) = (_key(tokens) if flags.key_binary else tokens[1:2]) or (b"",)
    item = cache.inspect(key)
    # The first who asks for a stale item is told to fetch it anew: that must be one.
    return WRITES if item is not None and item.stale else READS


META_VERBS: Final[dict[bytes, Verb]] = {
    b"mn": Verb(READS, no_keys, _mn),
    b"me": Verb(READS, _me_key, _me),
    b"mg": Verb(_mg_effect, _key, _mg),
    b"ms": Verb(WRITES, _key_before(3), decode=_decode_ms, store=_ms),
    b"md": Verb(WRITES, _key, _md),
    b"ma": Verb(WRITES, _key, _ma),
}
