"""The classic text commands on items, and the table of all text commands.  # protocol.txt

Each handler decodes its words, makes one call on the cache and encodes the answer. Commands
about the server itself are in admin.py. `answer_plain` is the short form for the two requests that
are most of all traffic.
"""

from __future__ import annotations

import re
from functools import lru_cache
from itertools import islice, takewhile
from typing import TYPE_CHECKING, Final

from .. import limits
from ..store.item import Item
from ..store.status import Status, StoreMode
from .admin import ADMIN_VERBS
from .framing import refuse_value
from .meta import META_VERBS
from .meta import answer_plain as answer_plain_meta
from .retrieval import postpone, shorten
from .tokens import (
    BAD_DELTA,
    BAD_EXPTIME,
    BAD_FORMAT,
    BAD_KEY,
    CRLF,
    NO_MEMORY,
    NO_MEMORY_READING,
    NO_MEMORY_STORING,
    NON_NUMERIC,
    TOO_LARGE,
    WORD_BYTE,
    Texts,
    decode_i32,
    decode_loose_i32,
    decode_loose_u32,
    decode_u64,
    is_silenced,
)
from .verbs import READS, WRITES, Verb, all_keys, keys_behind_exptime, one_key

if TYPE_CHECKING:
    from ..replication.gate import Gate
    from .connection import Connection
    from .verbs import type_Header

STORED: Final = b"STORED\r\n"
STORE_REPLY: Final = {
    Status.STORED: STORED,
    Status.NOT_STORED: b"NOT_STORED\r\n",
    Status.EXISTS: b"EXISTS\r\n",
    Status.NOT_FOUND: b"NOT_FOUND\r\n",
    Status.TOO_LARGE: TOO_LARGE,
    Status.NO_MEMORY: NO_MEMORY_STORING,
    Status.NO_MEMORY_READING: NO_MEMORY_READING,
}
ARITHMETIC_REPLY: Final = {
    Status.NOT_FOUND: b"NOT_FOUND\r\n",
    Status.NON_NUMERIC: NON_NUMERIC,
    Status.NO_MEMORY: NO_MEMORY,
}

_STORED = Status.STORED


#: In an answer of several values, larger ones are pieces of their own.
_LIGHT_VALUE_BYTES: Final = limits.LIGHT_VALUE_BYTES  # one look-up less
_LIGHT_REPLY_BYTES: Final = limits.LIGHT_VALUE_BYTES + limits.REPLY_LINE_MAX_BYTES
#: What the values of so few keys weigh, if they are light, need not be known exactly.
_JOINED_KEYS_MAX: Final = 22


@lru_cache(maxsize=4096)
def value_suffix(client_flags: int, length: int) -> bytes:
    """Return what follows the key in a VALUE line."""
    return b" %d %d\r\n" % (client_flags, length)


_DIGITS: Final = Texts(b"%d")
#: As `value_suffix` says it, where there are no client flags.
_SUFFIXES: Final = Texts(b" 0 %d\r\n")


# -- retrieval ---------------------------------------------------------------------------------


def _get(connection: Connection, tokens: list[bytes]) -> None:
    # protocol.txt, "Retrieval command": get <key>*
    # Hot path: bench/ "get16".
    if len(tokens) != 2 or connection.retrieval is not None:
        _retrieve(connection, tokens)
        return
    key = tokens[1]
    if len(key) > limits.KEY_MAX_BYTES:
        connection.reply(BAD_KEY)
        return
    item = connection.cache.get(key)
    if item is None:
        connection.reply(b"END\r\n")
        return
    value = item.value
    if len(value) > limits.LIGHT_VALUE_BYTES:
        connection.weight += len(value)
        if len(value) > limits.LENT_VALUE_BYTES:
            connection.lent.append((item, value))
    connection.pieces += (
        b"VALUE %b %d %d\r\n" % (key, item.client_flags, len(value)),
        value,
        b"\r\nEND\r\n",
    )


def _gat(connection: Connection, tokens: list[bytes]) -> None:
    # protocol.txt, "Get And Touch": gat <exptime> <key>*
    if len(tokens) < 3:
        connection.reply(BAD_FORMAT)
        return
    exptime = decode_i32(tokens[1])
    if exptime is None:
        connection.reply(BAD_EXPTIME)
        return
    _retrieve(connection, tokens, 2, connection.cache.expiry.expires_at(exptime))


def _retrieve(
    connection: Connection, tokens: list[bytes], first: int = 1, expires_at: int | None = None
) -> None:
    """Answer for the keys from word `first` on; touch them when `expires_at` is given."""
    if len(tokens) < 2:
        connection.reply(BAD_FORMAT)
        return
    # Hot path: bench/ "multiget".
    if len(tokens) > _JOINED_KEYS_MAX:
        shorten(connection, tokens, first)
    with_cas = tokens[0] in (b"gets", b"gats")
    cache = connection.cache
    pieces = connection.pieces
    begin = len(pieces)
    get = cache.get
    keys = iter(tokens[first:])
    refused = max(map(len, tokens)) > limits.KEY_MAX_BYTES
    if refused:
        # memcached drops what it had gathered for this command. # process_get_command_err
        keys = takewhile(lambda key: len(key) <= limits.KEY_MAX_BYTES, tokens[first:])
        keys = islice(keys, limits.RUN_KEYS_MAX)
    weight = 0
    for key in keys:
        item: Item | None = get(key) if expires_at is None else cache.touch(key, expires_at)
        if item is None:
            continue
        value = item.value
        size = len(value)
        if with_cas:
            suffix = b" %d %d %d\r\n" % (item.client_flags, size, item.cas_unique)
        else:
            suffix = value_suffix(item.client_flags, size)
        if size <= _LIGHT_VALUE_BYTES:
            pieces.append(b"".join((b"VALUE ", key, suffix, value, b"\r\n")))
            continue
        pieces += (b"VALUE ", key, suffix, value, b"\r\n")
        weight += size
        if size > limits.LENT_VALUE_BYTES:
            connection.lent.append((item, value))
        if weight >= limits.RUN_REPLY_BYTES:
            rest = list(keys)
            if rest and not refused:
                postpone(connection, tokens, first, rest)
            break
    if refused:
        del pieces[begin:]
        silent = len(tokens[first]) > limits.KEY_MAX_BYTES and is_silenced(tokens)
        connection.reply(CRLF if silent else BAD_KEY)
        connection.fill_run()
        return
    if len(tokens) > _JOINED_KEYS_MAX:
        weight = sum(map(len, pieces[begin:]))
    else:
        weight += _LIGHT_REPLY_BYTES * len(tokens)
    connection.weight += weight
    if connection.retrieval is None:
        pieces.append(b"END\r\n")


# -- storage -----------------------------------------------------------------------------------


def _decode_store(
    connection: Connection, tokens: list[bytes], mode: StoreMode
) -> type_Header | None:
    # protocol.txt, "Storage commands":
    # <command> <key> <flags> <exptime> <bytes> [cas unique] [noreply]
    # Hot path: bench/ "set16".
    length = decode_i32(tokens[4]) if len(tokens) > 4 else None
    if length is None or not 0 <= length <= limits.INT32_MAX - 2:
        # Nobody knows where a block would end: it is read as commands.
        connection.reply(BAD_FORMAT)
        return None
    quiet = is_silenced(tokens)
    key = tokens[1]
    client_flags = decode_loose_u32(tokens, 2)
    exptime = decode_loose_i32(tokens, 3)
    cas_compare: int | None = 0
    if mode is StoreMode.CAS:
        cas_compare = decode_u64(tokens[5]) if len(tokens) > 5 else None
    if (
        len(key) > limits.KEY_MAX_BYTES
        or client_flags is None
        or exptime is None
        or cas_compare is None
    ):
        refuse_value(connection, length + 2, b"" if quiet else BAD_FORMAT)
        return None
    cache = connection.cache
    if not cache.admit(mode, key, length, client_flags):
        refuse_value(connection, length + 2, b"" if quiet else TOO_LARGE)
        if mode is StoreMode.SET:
            connection.drop(key)
        return None
    expires_at = cache.expiry.expires_at(exptime) if exptime else 0
    return length, quiet, key, client_flags, expires_at, cas_compare


def _store(connection: Connection, header: type_Header, block: bytes, mode: StoreMode) -> None:
    _, quiet, key, client_flags, expires_at, cas_compare = header
    status = connection.cache.store(mode, key, block, client_flags, expires_at, cas_compare)
    if not quiet:
        connection.reply(STORE_REPLY[status])


def _storage_verb(mode: StoreMode) -> Verb:
    def decode(connection: Connection, tokens: list[bytes]) -> type_Header | None:
        return _decode_store(connection, tokens, mode)

    def store(connection: Connection, header: type_Header, block: bytes) -> None:
        _store(connection, header, block, mode)

    return Verb(WRITES, one_key, decode=decode, store=store)


# -- the others --------------------------------------------------------------------------------


def _delete(connection: Connection, tokens: list[bytes]) -> None:
    # protocol.txt, "Deletion": delete <key> [noreply]
    if len(tokens) < 2:
        connection.reply(BAD_FORMAT)
        return
    if len(tokens[1]) > limits.KEY_MAX_BYTES:
        answer = BAD_FORMAT
    else:
        status = connection.cache.delete(tokens[1])
        answer = b"DELETED\r\n" if status is _STORED else b"NOT_FOUND\r\n"
    if not is_silenced(tokens):
        connection.reply(answer)


def _arithmetic(connection: Connection, tokens: list[bytes]) -> None:
    # protocol.txt, "Increment/Decrement": incr <key> <value> [noreply]
    if len(tokens) < 3:
        connection.reply(BAD_FORMAT)
        return
    delta = decode_u64(tokens[2])
    if len(tokens[1]) > limits.KEY_MAX_BYTES:
        answer = BAD_FORMAT
    elif delta is None:
        answer = BAD_DELTA
    else:
        cache = connection.cache
        item = cache.peek(tokens[1])
        status, number = cache.increment(item, delta, decrement=tokens[0] == b"decr")
        answer = b"%d\r\n" % number if status is _STORED else ARITHMETIC_REPLY[status]
    if not is_silenced(tokens):
        connection.reply(answer)


def _touch(connection: Connection, tokens: list[bytes]) -> None:
    # protocol.txt, "Touch": touch <key> <exptime> [noreply]
    if len(tokens) < 3:
        connection.reply(BAD_FORMAT)
        return
    exptime = decode_i32(tokens[2])
    cache = connection.cache
    if len(tokens[1]) > limits.KEY_MAX_BYTES:
        answer = BAD_FORMAT
    elif exptime is None:
        answer = BAD_EXPTIME
    else:
        item = cache.touch(tokens[1], cache.expiry.expires_at(exptime))
        answer = b"NOT_FOUND\r\n" if item is None else b"TOUCHED\r\n"
    if not is_silenced(tokens):
        connection.reply(answer)


# -- the usual, fast ---------------------------------------------------------------------------

#: A whole set without noreply, as clients send it. What does not match is not wrong.
_PLAIN_SET: Final = re.compile(
    rb"set (%b{1,%d}+) "
    rb"(\d{1,9}+) (\d{1,9}+) (\d{1,9}+)\r\n(.*)\r\n" % (WORD_BYTE, limits.KEY_MAX_BYTES),
    re.DOTALL,
).fullmatch
#: A reply with a larger value is sent in several chunks.
_JOINED_VALUE_MAX_BYTES: Final = limits.REPLY_CHUNK_BYTES - limits.REPLY_LINE_MAX_BYTES
#: The same of as many values as one run looks up.
_JOINED_VALUES_MAX_BYTES: Final = (
    limits.REPLY_CHUNK_BYTES - limits.RUN_KEYS_MAX * limits.REPLY_LINE_MAX_BYTES
)


def answer_plain(connection: Connection, data: bytes, gate: Gate | None = None) -> bytes | None:
    """Answer one whole get of a key that hits or of several, one whole set without noreply, ms, mg.

    None: what is to be sent is in `pieces`, since it is large; or, if these are empty as before,
    nothing was done, and the general path has to look closer. With the gate of a pair only what
    that allows is answered here, in one piece; empty: it is to be executed elsewhere.
    """
    # Hot path: bench/ "get16", "set16", "pair16".
    verb = data[:4]
    if verb == b"get ":
        if data[-2:] == b"\r\n" and (gate is None or not gate.stance.remote):
            key = data[4:-2]
            item = connection.cache.hit(key)
            if item is None:
                if b" " in key:
                    return _answer_several(connection, key, gate)
            elif gate is None or item.cas_unique <= gate.commits.watermark:
                value = item.value
                size = len(value)
                suffix = (
                    _SUFFIXES[size] if type(item) is Item else value_suffix(item.client_flags, size)
                )
                if size <= _JOINED_VALUE_MAX_BYTES:
                    return b"".join((b"VALUE ", key, suffix, value, b"\r\nEND\r\n"))
                connection.pieces += (b"VALUE ", key, suffix, value, b"\r\nEND\r\n")
                connection.lent.append((item, value))
    elif verb == b"set ":
        plain_set = _PLAIN_SET(data)
        if plain_set is not None:
            key, flags, exptime, length, value = plain_set.groups()
            if _DIGITS[len(value)] != length:
                return None
            if gate is not None:
                stance = gate.stance
                if stance.refusing or not stance.leading:
                    fits = not stance.refusing and connection.cache.fits(
                        key, len(value), int(flags)
                    )
                    return b"" if fits else None
            if connection.cache.set(
                key,
                value,
                0 if exptime == b"0" else connection.expires_at(int(exptime)),
                0 if flags == b"0" else int(flags),
            ):
                return STORED
    elif gate is None and verb[:1] == b"m":
        return answer_plain_meta(connection, data)
    return None


def respond(connection: Connection, data: bytes) -> bytes | None:
    """Do what `Connection.respond` does, for who speaks text to a server that is alone.

    It is that and `answer_plain` in one: of what a get takes, calls are a third.
    """
    # Hot path: bench/ "get16", "set16".
    cache = connection.cache
    connection.last_command_at = cache.now
    if connection.answer_plain is not None and connection.service.plain:
        verb = data[:4]
        if verb == b"get ":
            if data[-2:] == b"\r\n":
                key = data[4:-2]
                item = cache.hit(key)
                if item is not None:
                    value = item.value
                    size = len(value)
                    suffix = (
                        _SUFFIXES[size]
                        if type(item) is Item
                        else value_suffix(item.client_flags, size)
                    )
                    if size <= _JOINED_VALUE_MAX_BYTES:
                        return b"".join((b"VALUE ", key, suffix, value, b"\r\nEND\r\n"))
                    connection.pieces += (b"VALUE ", key, suffix, value, b"\r\nEND\r\n")
                    connection.lent.append((item, value))
                    return None
                if b" " in key:
                    reply = _answer_several(connection, key, None)
                    if reply is not None:
                        return reply
        elif verb == b"set ":
            plain_set = _PLAIN_SET(data)
            if plain_set is not None:
                key, flags, exptime, length, value = plain_set.groups()
                if _DIGITS[len(value)] == length and cache.set(
                    key,
                    value,
                    0 if exptime == b"0" else connection.expires_at(int(exptime)),
                    0 if flags == b"0" else int(flags),
                ):
                    return STORED
        elif verb[:1] == b"m":
            reply = answer_plain_meta(connection, data)
            if reply is not None or connection.pieces:
                return reply
    return connection.execute(data)


def _answer_several(connection: Connection, words: bytes, gate: Gate | None) -> bytes | None:
    """Answer a get of several keys if it is usual, and its answer one piece; None: nothing done."""
    # Hot path: bench/ "multiget".
    keys = words.split(b" ")
    if (
        b"\n" in words
        or len(keys) > limits.RUN_KEYS_MAX
        or not all(keys)
        or max(map(len, keys)) > limits.KEY_MAX_BYTES
    ):
        return None
    cache = connection.cache
    items = cache.find_several(keys)
    if items is None:
        return None
    if gate is not None:
        # What is missing was perhaps deleted a moment ago, and is at others still.
        watermark = gate.commits.watermark
        if len(items) < len(keys) or any(item.cas_unique > watermark for item in items):
            return None
    pieces: list[bytes] = []
    weight = 0
    for item in items:
        value = item.value
        size = len(value)
        weight += size
        # An item without client flags finds them in its class, which takes ten times as long.
        suffix = _SUFFIXES[size] if type(item) is Item else value_suffix(item.client_flags, size)
        pieces += (b"VALUE ", item.key, suffix, value, CRLF)
    if weight > _JOINED_VALUES_MAX_BYTES:
        return None
    cache.hit_several(items, len(keys) - len(items))
    pieces.append(b"END\r\n")
    return b"".join(pieces)


# -- the table ---------------------------------------------------------------------------------

VERBS: Final[dict[bytes, Verb]] = {
    b"get": Verb(READS, all_keys, _get),
    b"gets": Verb(READS, all_keys, _retrieve),
    b"gat": Verb(WRITES, keys_behind_exptime, _gat),
    b"gats": Verb(WRITES, keys_behind_exptime, _gat),
    b"set": _storage_verb(StoreMode.SET),
    b"add": _storage_verb(StoreMode.ADD),
    b"replace": _storage_verb(StoreMode.REPLACE),
    b"append": _storage_verb(StoreMode.APPEND),
    b"prepend": _storage_verb(StoreMode.PREPEND),
    b"cas": _storage_verb(StoreMode.CAS),
    b"delete": Verb(WRITES, one_key, _delete, noreply=1),
    b"incr": Verb(WRITES, one_key, _arithmetic, noreply=2),
    b"decr": Verb(WRITES, one_key, _arithmetic, noreply=2),
    b"touch": Verb(WRITES, one_key, _touch, noreply=2),
    **ADMIN_VERBS,
    **META_VERBS,
}
