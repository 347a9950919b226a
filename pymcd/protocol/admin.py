"""Commands about the server itself: version, quit, flush_all, stats, lru, slabs, watch ...

Each handler decodes its words, changes one setting of the cache, its crawler, its rebalancer or
the service, and answers. memcached is not consistent here: some commands are known behind blanks
and know `noreply`, some count their words exactly, some ignore what is too much, and what a word
behind the first may be shortened to depends on what else it might be. Each does as it does there.
"""

from __future__ import annotations

import math
import re
import sys
from itertools import chain
from typing import TYPE_CHECKING, Final, NamedTuple

from .. import limits
from ..clock import OffsetClock
from ..store.cache import TABLES
from ..store.rebalancer import Reassign
from . import reports
from .metaflags import KEY_AS_BASE64, encode_key
from .recorder import FETCHERS, WATCHABLE, uri_encode
from .tokens import (
    BAD_EXPTIME,
    BAD_FORMAT,
    CRLF,
    ERROR,
    OK,
    decode_i32,
    decode_i64,
    decode_loose_u32,
    decode_u32,
    is_silenced,
    split_line,
)
from .verbs import LOCAL, WRITES, Verb, no_keys

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator

    from ..service import Service
    from ..store import Cache, Item
    from .connection import Connection
    from .verbs import Effect

    _Report = Callable[[Connection, list[bytes]], bytes | None]

_MEMLIMIT_MIN_MB: Final = 8
_MEMLIMIT_MAX_MB: Final = 1_000_000_000
_LRU_PCT_SUM_MAX: Final = 80
_CRAWLER_SLEEP_MAX_US: Final = 1_000_000
#: Class ids that crawls and dumps accept. # memcached: MAX_NUMBER_OF_SLAB_CLASSES
_CLASS_ID_END: Final = 64
#: Of a list of class ids no more is read.
_CLASS_IDS_MAX_BYTES: Final = 511
_AUTOMOVE_WINDOW_MIN_S: Final = 3
_AUTOMOVE_WINDOW_MAX_S: Final = 1800
#: Items that a dump looks at for one piece of its answer; a driver takes some pieces a turn.
_DUMP_SLICE_ITEMS: Final = 100
#: A crawl that is in the way is finished at once if there are no more items than this.
_CRAWL_AT_ONCE_ITEMS: Final = 1000

_BAD_CLASS: Final = b"BADCLASS invalid class id\r\n"
_NOT_STARTED: Final = b"NOTSTARTED no items to crawl\r\n"
_CRAWLER_DISABLED: Final = b"CLIENT_ERROR lru crawler disabled\r\n"
_REASSIGN_REPLY: Final = {
    Reassign.OK: OK,
    Reassign.RUNNING: b"BUSY currently processing reassign request\r\n",
    Reassign.BADCLASS: b"BADCLASS invalid src or dst class id\r\n",
    Reassign.NOSPARE: b"NOSPARE source class has no spare pages\r\n",
    Reassign.SAME: b"SAME src and dst class are identical\r\n",
}

#: What C's strtod reads, followed by the end or a blank. Each part takes all that it can at once,
#: so that no word is looked at twice.
_DOUBLE: Final = re.compile(
    rb"\s*+([+-]?+)(?:(0[xX](?:[0-9a-fA-F]++\.?+[0-9a-fA-F]*+|\.[0-9a-fA-F]++)(?:[pP][+-]?+\d++)?)"
    rb"|((?:\d++\.?+\d*+|\.\d++)(?:[eE][+-]?+\d++)?)|(inf(?:inity)?|nan(?:\(\w*+\))?))"
    rb"(?:[\s\0].*)?",
    re.IGNORECASE | re.DOTALL,
)
_DOUBLE_MAX_BYTES: Final = 31


def _decode_double(token: bytes) -> float | None:
    """Read a floating-point number as C does. # memcached: mc_toktod, safe_strtod"""
    match = _DOUBLE.fullmatch(token) if len(token) <= _DOUBLE_MAX_BYTES else None
    if match is None:
        return None
    sign, hexadecimal, decimal, word = (each and each.lower() for each in match.groups())
    if word:
        number = math.inf if word[:1] == b"i" else math.nan
    else:
        try:
            number = float.fromhex(hexadecimal.decode()) if hexadecimal else float(decimal)
        except OverflowError:
            return None
        digits = hexadecimal[2:].partition(b"p")[0] if hexadecimal else decimal.partition(b"e")[0]
        if math.isinf(number) or (number < sys.float_info.min and digits.strip(b"0.")):
            return None  # too large, or too small
    return -number if sign == b"-" else number


def _admin_verb(effect: Effect, answer: Callable[[Connection, list[bytes]], bytes | None]) -> Verb:
    """Return a command that memcached looks up by its first word, wherever that stands, and that
    says nothing, whatever it would have said, if the last word is `noreply`.
    """

    def handle(connection: Connection, tokens: list[bytes]) -> None:
        reply = answer(connection, tokens)
        if reply is not None and not is_silenced(tokens):
            connection.reply(reply)

    return Verb(effect, no_keys, handle, noreply=1, indented=True)


def _spelt(word: bytes, words: tuple[bytes, ...]) -> bytes:
    """Return the first of the words that is meant, as memcached compares them; b"": none is.

    One that begins so, or one behind which a NUL stands, whatever comes then. # C: strncmp
    """
    return next(
        (each for each in words if each.startswith(word) or word.startswith(each + b"\0")), b""
    )


def _is_first(connection: Connection, tokens: list[bytes]) -> bool:
    """Return whether nothing that was received together with a command is answered before it."""
    *before, line, _ = connection.buffer[: connection.position].split(b"\n")
    if before and before[-1].startswith((b"mn\r", b"mn ")):
        return True  # what mn answers is sent at once
    # Of a value that came in pieces, and was wrong, the line may have no more than the end.
    return not before and split_line(line.removesuffix(b"\r")) == tokens


# -- the connection and the process ------------------------------------------------------------


def _version(connection: Connection, tokens: list[bytes]) -> None:
    connection.reply(b"VERSION %b\r\n" % limits.MEMCACHED_VERSION.encode())


def _quit(connection: Connection, tokens: list[bytes]) -> None:
    connection.close()


def _shutdown(connection: Connection, tokens: list[bytes]) -> bytes | None:
    # protocol.txt, "Shutdown": shutdown [graceful]
    if not connection.service.settings.enable_shutdown:
        return b"SERVER_ERROR: shutdown not enabled\r\n"
    if len(tokens) > 1 and (len(tokens) > 2 or not _spelt(tokens[1], (b"graceful",))):
        return b"CLIENT_ERROR invalid shutdown mode\r\n"
    # The original closes without sending what is still to be sent.
    connection.pieces.clear()
    connection.close("shutdown")
    connection.service.host.shutdown(len(tokens) > 1)
    return None


def _verbosity(connection: Connection, tokens: list[bytes]) -> bytes:
    # protocol.txt, "verbosity": verbosity <level> [noreply]
    level = decode_u32(tokens[1]) if len(tokens) > 1 else None
    if level is None:
        return BAD_FORMAT
    service = connection.service
    was_traced = service.verbosity > 1
    service.set_verbosity(min(level, limits.VERBOSITY_MAX))
    if service.verbosity > 1 and not was_traced and not is_silenced(tokens):
        # The first reply that is logged; replies to what follows are traced.
        service.host.log_line(f">{connection.id} OK")
    return OK


def _debugtime(connection: Connection, tokens: list[bytes]) -> bytes:
    # memcached: process_debugtime_command, in its debug build only
    service = connection.service
    clock = service.clock
    if not service.settings.debug_commands or len(tokens) < 2:
        return ERROR
    assert isinstance(clock, OffsetClock)
    if tokens[1] == b"p":
        clock.pause()
    elif tokens[1] == b"r":
        clock.resume()
    else:
        seconds = decode_i64(tokens[1])
        if seconds is None:
            return ERROR
        clock.advance(seconds)
    service.cache.tick()
    return OK


def _refresh_certs(connection: Connection, tokens: list[bytes]) -> bytes | None:
    # protocol.txt, "Refresh certificates"
    connection.fill_run()
    tls = connection.service.host.tls
    if tls is None:
        connection.reply(b"Error TLS not enabled\r\n")  # even after noreply
        return None

    def done(problem: str) -> None:
        if problem:
            connection.reply(problem.encode() + CRLF)
        elif not is_silenced(tokens):
            connection.reply(OK)

    connection.do_aside(tls.refresh, done)
    return None


# -- memory and the LRU ------------------------------------------------------------------------


def _flush_all(connection: Connection, tokens: list[bytes]) -> bytes:
    # protocol.txt, "flush_all": flush_all [exptime] [noreply]
    service = connection.service
    at_once = len(tokens) == (2 if is_silenced(tokens) else 1)
    exptime = 0 if at_once else decode_i32(tokens[1])
    if service.settings.disable_flush_all:
        reply = b"CLIENT_ERROR flush_all not allowed\r\n"
    elif exptime is None:
        reply = BAD_EXPTIME
    else:
        service.cache.flush(exptime)
        service.maintainer.wake()
        return OK
    service.cache.counters.flush_cmds += 1  # refused ones count, too
    return reply


def _cache_memlimit(connection: Connection, tokens: list[bytes]) -> bytes:
    # protocol.txt, "cache_memlimit": cache_memlimit <megabytes> [noreply]
    connection.fill_run()
    service = connection.service
    limit_mb = decode_u32(tokens[1]) if len(tokens) > 1 else None
    if limit_mb is None:
        return ERROR
    if limit_mb < _MEMLIMIT_MIN_MB:
        return b"MEMLIMIT_TOO_SMALL cannot set maxbytes to less than 8m\r\n"
    if limit_mb > _MEMLIMIT_MAX_MB:
        return b"MEMLIMIT_ADJUST_FAILED input value is megabytes not bytes\r\n"
    service.rebalancer.set_limit(limit_mb << 20)
    service.maintainer.wake()
    if service.verbosity > 0:
        service.host.log_line(f"maxbytes adjusted to {limit_mb}m")
    return OK


def _lru(connection: Connection, tokens: list[bytes]) -> bytes:
    # protocol.txt, "LRU Tuning": lru <tune|mode|temp_ttl> <option list>
    service = connection.service
    count = len(tokens)
    known: tuple[bytes, ...] = (b"tune",) if count >= 6 else ()
    if count >= 3 and service.settings.lru_maintainer:
        known += (b"mode", b"temp_ttl")
    what = _spelt(tokens[1], known) if count > 1 else b""
    if what == b"tune":
        return _tune(service, tokens)
    if what == b"mode":
        return _set_mode(service, tokens[2])
    if what == b"temp_ttl":
        return _set_temporary_ttl(service, tokens[2])
    return ERROR


def _tune(service: Service, tokens: list[bytes]) -> bytes:
    hot_pct = decode_u32(tokens[2])
    warm_pct = decode_u32(tokens[3])
    hot_factor = _decode_double(tokens[4])
    warm_factor = _decode_double(tokens[5])
    if hot_pct is None or warm_pct is None or hot_factor is None or warm_factor is None:
        return ERROR
    if (hot_pct + warm_pct) & limits.UINT32_MAX > _LRU_PCT_SUM_MAX:
        return b"ERROR hot and warm pcts must not exceed 80\r\n"
    if hot_factor <= 0 or warm_factor <= 0:
        return b"ERROR hot/warm age factors must be greater than 0\r\n"
    service.cache.lru.tune(hot_pct, warm_pct, hot_factor, warm_factor)
    return OK


def _set_mode(service: Service, word: bytes) -> bytes:
    mode = _spelt(word, (b"flat", b"segmented"))
    if not mode:
        return ERROR
    service.cache.set_segmented(mode == b"segmented")
    return OK


def _set_temporary_ttl(service: Service, token: bytes) -> bytes:
    ttl_s = decode_i32(token)
    if ttl_s is None:
        return ERROR
    service.cache.set_temporary_ttl(None if ttl_s < 0 else ttl_s)
    return OK


def _slabs(connection: Connection, tokens: list[bytes]) -> bytes:
    # protocol.txt, "Slabs Reassign", "Slabs Automove"
    connection.fill_run()
    count = len(tokens)
    if count == 4 and _spelt(tokens[1], (b"reassign",)):
        return _reassign(connection.service, tokens)
    if count >= 3 and _spelt(tokens[1], (b"automove",)):
        return _automove(connection.service, tokens)
    return ERROR


def _reassign(service: Service, tokens: list[bytes]) -> bytes:
    if not service.rebalancer.enabled:
        return b"CLIENT_ERROR slab reassignment disabled\r\n"
    source = decode_i32(tokens[2])
    destination = decode_i32(tokens[3])
    if source is None or destination is None:
        return BAD_FORMAT
    result = service.rebalancer.reassign(source, destination)
    service.maintainer.wake()
    return _REASSIGN_REPLY[result]


def _automove(service: Service, tokens: list[bytes]) -> bytes:
    what = _spelt(tokens[2], (b"ratio", b"freeratio", b"window"))
    rebalancer = service.rebalancer
    if what == b"window":
        window_s = decode_u32(tokens[3]) if len(tokens) > 3 else None
        if window_s is None:
            return BAD_FORMAT
        if not _AUTOMOVE_WINDOW_MIN_S <= window_s <= _AUTOMOVE_WINDOW_MAX_S:
            return b"CLIENT_ERROR automove window too low or too high\r\n"
        rebalancer.set_automove_window(window_s)
        return OK
    if what:
        ratio = _decode_double(tokens[3]) if len(tokens) > 3 else None
        if ratio is None:
            return ERROR
        if what == b"ratio":
            rebalancer.set_automove_ratio(ratio)
        else:
            rebalancer.automove_freeratio = ratio
        return OK
    level = decode_u32(tokens[2])
    if level is None:
        return BAD_FORMAT
    if level > 2:
        return ERROR
    rebalancer.automove = level
    service.maintainer.wake()
    return OK


# -- the crawler -------------------------------------------------------------------------------


def _lru_crawler(connection: Connection, tokens: list[bytes]) -> bytes | None:
    # protocol.txt, "LRU_Crawler"
    connection.fill_run()
    count = len(tokens)
    if count == 3:
        what = _spelt(tokens[1], tuple(_CRAWLER_VALUES))
        if what:
            return _CRAWLER_VALUES[what](connection, tokens)
    elif count == 2:
        what = _spelt(tokens[1], (b"enable", b"disable"))
        if what:
            return _switch_crawler(connection.service, on=what == b"enable")
    return ERROR


def _switch_crawler(service: Service, *, on: bool) -> bytes:
    if on and service.crawler.enabled:
        return b"ERROR failed to start lru crawler thread\r\n"
    service.crawler.switch(on)
    service.maintainer.wake()
    return OK


def _crawl(connection: Connection, tokens: list[bytes]) -> bytes:
    service = connection.service
    crawler = service.crawler
    if not crawler.enabled:
        return _CRAWLER_DISABLED
    if tokens[2].partition(b"\0")[0] == b"hash":  # walks the hash table, which only a dump can
        return b"ERROR an unknown error happened\r\n"
    class_ids = _decode_class_ids(tokens[2])
    if class_ids == _NO_CLASS:
        return _BAD_CLASS
    if crawler.running and service.cache.item_count <= _CRAWL_AT_ONCE_ITEMS:
        while crawler.step():
            pass
    if crawler.running:
        return b"BUSY currently processing crawler request\r\n"
    if class_ids is not None and not class_ids:
        return _NOT_STARTED
    crawler.start(class_ids, limit=crawler.tocrawl)
    service.maintainer.wake()
    return OK


#: Stands for a list of classes that cannot be.
_NO_CLASS: Final = frozenset((-1,))


def _decode_class_ids(word: bytes) -> frozenset[int] | None:
    """Read `all` (None), or class ids joined by commas; _NO_CLASS: one of them is invalid."""
    # memcached copies the word to a buffer, and reads it with the C library.
    word = word[:_CLASS_IDS_MAX_BYTES].partition(b"\0")[0]
    if word == b"all":
        return None
    class_ids = set()
    for token in word.split(b","):
        if token:
            class_id = decode_loose_u32([token], 0)
            if class_id is None or not 1 <= class_id < _CLASS_ID_END:
                return _NO_CLASS
            class_ids.add(class_id)
    return frozenset(class_ids)


def _metadump(connection: Connection, tokens: list[bytes]) -> bytes | None:
    # protocol.txt, "LRU_Crawler": lru_crawler metadump <classid,classid,classid|all|hash>
    return _dump(connection, tokens, b"metadump", b"metadump not allowed", _METADUMP)


def _mgdump(connection: Connection, tokens: list[bytes]) -> bytes | None:
    # protocol.txt, "LRU_Crawler": lru_crawler mgdump <classid,classid,classid|all|hash>
    return _dump(connection, tokens, b"mgdump", b"key dump not allowed", _MGDUMP)


def _dump(
    connection: Connection, tokens: list[bytes], name: bytes, forbidden: bytes, form: _DumpForm
) -> bytes | None:
    service = connection.service
    if not service.crawler.enabled:
        return _CRAWLER_DISABLED
    if service.settings.disable_dumping:
        return b"ERROR %b\r\n" % forbidden
    if not _is_first(connection, tokens):
        return b"ERROR cannot pipeline other commands before %b\r\n" % name
    word = tokens[2]
    class_ids = None if word.partition(b"\0")[0] == b"hash" else _decode_class_ids(word)
    if class_ids == _NO_CLASS:
        return _BAD_CLASS
    if class_ids is not None and not class_ids:
        return _NOT_STARTED
    if connection.transport == "udp":
        return None  # its sender's address may be forged
    connection.answer_from(_dump_lines(service, class_ids, form))
    return OK


class _DumpForm(NamedTuple):
    """How a dump tells of an item, and what it ends in."""

    line: Callable[[Cache, Item], bytes]
    end: bytes


def _metadump_line(cache: Cache, item: Item) -> bytes:
    expiry = cache.expiry
    assert item.segment is not None
    return (
        f"key={uri_encode(item.key)} "
        f"exp={expiry.unix_time(item.expires_at) if item.expires_at else -1} "
        f"la={expiry.unix_time(item.last_access)} cas={item.cas_unique} "
        f"fetch={'yes' if item.fetched else 'no'} cls={item.segment.slab_class.id} "
        f"size={cache.size_of(item)} flags={item.client_flags} \n"
    ).encode()


def _mgdump_line(cache: Cache, item: Item) -> bytes:
    return b"mg %b\r\n" % encode_key(item.key, as_base64=item.access & KEY_AS_BASE64)


_METADUMP: Final = _DumpForm(_metadump_line, b"END\r\n")
_MGDUMP: Final = _DumpForm(_mgdump_line, b"EN\r\n")


def _dump_lines(
    service: Service, class_ids: Collection[int] | None, form: _DumpForm
) -> Iterator[bytes]:
    """Yield the lines of all living items, in slices of bounded work. Some may be empty."""
    cache = service.cache
    lines: list[bytes] = []
    looked_at = 0
    for number in range(TABLES):
        for key in cache.table_keys(number):
            looked_at += 1
            if looked_at % _DUMP_SLICE_ITEMS == 0:
                item = None  # who does not take what there is holds no value
                yield b"".join(lines)
                lines.clear()
            item = cache.linked(key)
            segment = None if item is None else item.segment
            if item is None or segment is None or cache.is_dead(item):
                continue
            if class_ids is None or segment.slab_class.id in class_ids:
                lines.append(form.line(cache, item))
    item = None
    yield b"".join(lines) + form.end


def _tocrawl(connection: Connection, tokens: list[bytes]) -> bytes:
    tocrawl = decode_u32(tokens[2])
    if tocrawl is None:
        return BAD_FORMAT
    connection.service.crawler.tocrawl = tocrawl
    return OK


def _sleep(connection: Connection, tokens: list[bytes]) -> bytes:
    sleep_us = decode_u32(tokens[2])
    if sleep_us is None:
        return BAD_FORMAT
    if sleep_us > _CRAWLER_SLEEP_MAX_US:
        return b"CLIENT_ERROR sleep must be one second or less\r\n"
    connection.service.crawler.sleep_us = sleep_us
    return OK


_CRAWLER_VALUES: Final[dict[bytes, Callable[[Connection, list[bytes]], bytes | None]]] = {
    b"crawl": _crawl,
    b"metadump": _metadump,
    b"mgdump": _mgdump,
    b"tocrawl": _tocrawl,
    b"sleep": _sleep,
}


# -- watch -------------------------------------------------------------------------------------


def _watch(connection: Connection, tokens: list[bytes]) -> None:
    # protocol.txt, "Watchers": watch <fetchers|mutations|evictions|...>
    connection.fill_run()
    service = connection.service
    words = [_spelt(word, tuple(WATCHABLE)) for word in tokens[1 : limits.TOKENS_MAX]]
    events = 0 if words else FETCHERS
    for word in words:
        events |= WATCHABLE.get(word, 0)
    if service.settings.disable_watch:
        reply = b"CLIENT_ERROR watch commands not allowed\r\n"
    elif not _is_first(connection, tokens):
        reply = b"ERROR cannot pipeline other commands before watch\r\n"
    elif not all(words):
        reply = ERROR
    elif not service.recorder.add_watcher(connection, events):
        reply = b"WATCHER_TOO_MANY log watcher limit reached\r\n"
    else:
        reply = OK
    connection.reply(reply)


# -- stats -------------------------------------------------------------------------------------


def _stats(connection: Connection, tokens: list[bytes]) -> None:
    # protocol.txt, "General-purpose statistics" and the sections behind it
    connection.fill_run()
    word = tokens[1] if len(tokens) > 1 else b""
    report = _REPORTS.get(word)
    if report is None:
        report = _REPORTS.get(_spelt(word, _ABBREVIATED_REPORTS) or word)
    reply = ERROR if report is None else report(connection, tokens)
    if reply is not None:
        connection.reply(reply)


def _stats_reset(connection: Connection, tokens: list[bytes]) -> bytes:
    connection.service.reset_counters()
    return b"RESET\r\n"


def _stats_detail(connection: Connection, tokens: list[bytes]) -> bytes | None:
    service = connection.service
    if service.settings.disable_dumping:
        return b"CLIENT_ERROR stats detail not allowed\r\n"
    word = _spelt(tokens[2], (b"on", b"off", b"dump")) if len(tokens) > 2 else b""
    if word == b"dump":
        connection.answer_from(reports.prefixes(service))
        return None
    if not word:
        return b"CLIENT_ERROR usage: stats detail on|off|dump\r\n"
    service.recorder.set_detail(word == b"on")
    return OK


def _stats_cachedump(connection: Connection, tokens: list[bytes]) -> bytes | None:
    service = connection.service
    if service.settings.disable_dumping:
        return b"CLIENT_ERROR stats cachedump not allowed\r\n"
    if len(tokens) < 4:
        return b"CLIENT_ERROR bad command line\r\n"
    class_id = decode_u32(tokens[2])
    limit = decode_u32(tokens[3])
    if class_id is None or limit is None:
        return BAD_FORMAT
    if class_id >= _CLASS_ID_END:
        return b"CLIENT_ERROR Illegal slab id\r\n"
    connection.answer_from(reports.cachedump(service.cache, class_id, limit))
    return None


def _stats_replication(connection: Connection, tokens: list[bytes]) -> bytes:
    service = connection.service
    if len(tokens) > 3 and tokens[2] == b"forget":
        return reports.encode_rows(reports.forget_node(service, tokens[3].decode("latin-1")))
    return reports.encode_rows(reports.replication(service))


def _stats_sizes(connection: Connection, tokens: list[bytes]) -> None:
    _answer_in_parts(connection, reports.sizes(connection.service))


def _stats_conns(connection: Connection, tokens: list[bytes]) -> None:
    _answer_in_parts(connection, reports.connections(connection.service, connection))


def _answer_in_parts(connection: Connection, parts: Iterator[list[reports.Row]]) -> None:
    encoded = (reports.encode_rows(rows, end=b"") for rows in parts)
    connection.answer_from(chain(encoded, (b"END\r\n",)))


def _rows_of(report: Callable[[Service], list[reports.Row]]) -> _Report:
    def reply(connection: Connection, tokens: list[bytes]) -> bytes:
        return reports.encode_rows(report(connection.service))

    return reply


_REPORTS: Final[dict[bytes, _Report]] = {
    b"": _rows_of(reports.general),
    b"reset": _stats_reset,
    b"detail": _stats_detail,
    b"cachedump": _stats_cachedump,
    b"conns": _stats_conns,
    b"sizes": _stats_sizes,
    b"settings": _rows_of(reports.settings_in_force),
    **{word: _rows_of(report) for word, report in reports.BY_WORD.items()},
    b"replication": _stats_replication,
    # The original reports on external storage and its proxy; there is none.
    **dict.fromkeys((b"extstore", b"proxy", b"proxyfuncs", b"proxybe"), _rows_of(lambda _: [])),
}
#: Those that may be shortened, in the order in which they are compared; the rest must be whole.
_ABBREVIATED_REPORTS: Final = (
    b"reset",
    b"detail",
    b"settings",
    b"cachedump",
    b"conns",
    b"extstore",
    b"proxy",
    b"proxyfuncs",
    b"proxybe",
)

ADMIN_VERBS: Final[dict[bytes, Verb]] = {
    b"version": Verb(LOCAL, no_keys, _version),
    b"quit": Verb(LOCAL, no_keys, _quit),
    b"watch": Verb(LOCAL, no_keys, _watch),
    b"stats": Verb(LOCAL, no_keys, _stats),
    b"shutdown": _admin_verb(LOCAL, _shutdown),
    b"verbosity": _admin_verb(LOCAL, _verbosity),
    b"debugtime": _admin_verb(LOCAL, _debugtime),
    b"refresh_certs": _admin_verb(LOCAL, _refresh_certs),
    b"flush_all": _admin_verb(WRITES, _flush_all),
    b"cache_memlimit": _admin_verb(LOCAL, _cache_memlimit),
    b"lru": _admin_verb(LOCAL, _lru),
    b"slabs": _admin_verb(LOCAL, _slabs),
    b"lru_crawler": _admin_verb(LOCAL, _lru_crawler),
}
