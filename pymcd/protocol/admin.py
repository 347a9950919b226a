"""Commands about the server itself: version, quit, flush_all, stats, lru, slabs, watch ...

Each handler decodes its words, changes one setting of the cache, its crawler, its rebalancer or
the service, and answers. memcached is not consistent here: some commands know `noreply`, some
count their words exactly, some ignore what is too much. Each does here as it does there.
"""

from __future__ import annotations

import re
from itertools import chain
from typing import TYPE_CHECKING, Final

from .. import limits
from ..clock import OffsetClock
from ..store.cache import TABLES
from ..store.rebalancer import Reassign
from . import reports
from .recorder import FETCHERS, WATCHABLE, uri_encode
from .tokens import BAD_EXPTIME, BAD_FORMAT, CRLF, ERROR, OK, decode_i32, decode_u32
from .verbs import LOCAL, WRITES, Verb, no_keys

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator

    from ..service import Service
    from ..store import Cache
    from .connection import Connection

    _Report = Callable[[Connection, list[bytes]], bytes | None]

_MEMLIMIT_MIN_MB: Final = 8
_MEMLIMIT_MAX_MB: Final = 1_000_000_000
_LRU_PCT_SUM_MAX: Final = 80
_CRAWLER_SLEEP_MAX_US: Final = 1_000_000
#: Class ids that crawls and dumps accept. # memcached: MAX_NUMBER_OF_SLAB_CLASSES
_CLASS_ID_END: Final = 64
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

#: What C's strtod reads, followed by the end or a blank; and so for strtoll.
_DOUBLE: Final = re.compile(
    rb"\s*+([+-]?+)(?:(0x(?:[\da-f]++\.?+[\da-f]*+|\.[\da-f]++)(?:p[+-]?+\d++)?+)"
    rb"|((?:\d++\.?+\d*+|\.\d++)(?:e[+-]?+\d++)?+|inf(?:inity)?+|nan))(?:\s.*)?",
    re.IGNORECASE | re.DOTALL,
)
_INTEGER: Final = re.compile(rb"\s*+([+-]?+\d{1,19}+)(?:\s.*)?", re.DOTALL)


def _decode_double(token: bytes) -> float | None:
    """Read a floating-point number as C does. # memcached: safe_strtod"""
    match = _DOUBLE.fullmatch(token)
    if match is None:
        return None
    sign, hexadecimal, decimal = match.groups()
    try:
        number = float.fromhex(hexadecimal.decode()) if hexadecimal else float(decimal)
    except OverflowError:
        return None
    if number == float("inf") and b"n" not in (decimal or b"").lower():
        return None  # too large
    return -number if sign == b"-" else number


def _answer(connection: Connection, tokens: list[bytes], reply: bytes) -> None:
    """Reply, unless the last word asks for silence."""
    if tokens[-1] != b"noreply":
        connection.reply(reply)


def _is_first(connection: Connection) -> bool:
    """Return whether a command came as the first one of what was received together."""
    return connection.buffer.find(b"\n") + 1 == connection.position


# -- the connection and the process ------------------------------------------------------------


def _version(connection: Connection, tokens: list[bytes]) -> None:
    connection.reply(b"VERSION %b\r\n" % limits.MEMCACHED_VERSION.encode())


def _quit(connection: Connection, tokens: list[bytes]) -> None:
    connection.close()


def _shutdown(connection: Connection, tokens: list[bytes]) -> None:
    # protocol.txt, "Shutdown": shutdown [graceful]
    if not connection.service.settings.enable_shutdown:
        connection.reply(b"ERROR: shutdown not enabled\r\n")
        return
    if len(tokens) > 1 and tokens[1:] != [b"graceful"]:
        connection.reply(b"CLIENT_ERROR invalid shutdown mode\r\n")
        return
    # The original closes without sending what is still to be sent.
    connection.pieces.clear()
    connection.close("shutdown")
    connection.service.host.shutdown(len(tokens) > 1)


def _verbosity(connection: Connection, tokens: list[bytes]) -> None:
    # protocol.txt, "verbosity": verbosity <level> [noreply]
    if len(tokens) not in (2, 3):
        connection.reply(ERROR)
        return
    level = decode_u32(tokens[1])
    if level is None:
        _answer(connection, tokens, BAD_FORMAT)
        return
    service = connection.service
    was_traced = service.verbosity > 1
    service.set_verbosity(min(level, limits.VERBOSITY_MAX))
    _answer(connection, tokens, OK)
    if service.verbosity > 1 and not was_traced and tokens[-1] != b"noreply":
        # The first reply that is logged; replies to what follows are traced.
        service.host.log_line(f">{connection.id} OK")


def _debugtime(connection: Connection, tokens: list[bytes]) -> None:
    # memcached: process_debugtime_command, in its debug build only
    service = connection.service
    clock = service.clock
    if not service.settings.debug_commands or len(tokens) < 2:
        connection.reply(ERROR)
        return
    assert isinstance(clock, OffsetClock)
    if tokens[1] == b"p":
        clock.pause()
    elif tokens[1] == b"r":
        clock.resume()
    else:
        match = _INTEGER.fullmatch(tokens[1])
        if match is None:
            connection.reply(ERROR)
            return
        clock.advance(int(match[1]))
    service.cache.tick()
    connection.reply(OK)


def _refresh_certs(connection: Connection, tokens: list[bytes]) -> None:
    # protocol.txt, "Refresh certificates"
    connection.fill_run()
    tls = connection.service.host.tls
    if tls is None:
        connection.reply(b"Error TLS not enabled\r\n")
        return

    def done(problem: str) -> None:
        if problem:
            connection.reply(problem.encode() + CRLF)
        else:
            _answer(connection, tokens, OK)

    connection.do_aside(tls.refresh, done)


# -- memory and the LRU ------------------------------------------------------------------------


def _flush_all(connection: Connection, tokens: list[bytes]) -> None:
    # protocol.txt, "flush_all": flush_all [exptime] [noreply]
    count = len(tokens)
    if count > 3:
        connection.reply(ERROR)
        return
    service = connection.service
    at_once = count == (2 if tokens[-1] == b"noreply" else 1)
    exptime = 0 if at_once else decode_i32(tokens[1])
    if service.settings.disable_flush_all:
        reply = b"CLIENT_ERROR flush_all not allowed\r\n"
    elif exptime is None:
        reply = BAD_EXPTIME
    else:
        service.cache.flush(exptime)
        service.maintainer.wake()
        _answer(connection, tokens, OK)
        return
    service.cache.counters.flush_cmds += 1  # refused ones count, too
    _answer(connection, tokens, reply)


def _cache_memlimit(connection: Connection, tokens: list[bytes]) -> None:
    # protocol.txt, "cache_memlimit": cache_memlimit <megabytes> [noreply]
    connection.fill_run()
    if len(tokens) not in (2, 3):
        connection.reply(ERROR)
        return
    service = connection.service
    limit_mb = decode_u32(tokens[1])
    if limit_mb is None:
        reply = ERROR
    elif limit_mb < _MEMLIMIT_MIN_MB:
        reply = b"MEMLIMIT_TOO_SMALL cannot set maxbytes to less than 8m\r\n"
    elif limit_mb > _MEMLIMIT_MAX_MB:
        reply = b"MEMLIMIT_ADJUST_FAILED input value is megabytes not bytes\r\n"
    else:
        service.rebalancer.set_limit(limit_mb << 20)
        service.maintainer.wake()
        if service.verbosity > 0:
            service.host.log_line(f"maxbytes adjusted to {limit_mb}m")
        reply = OK
    _answer(connection, tokens, reply)


def _lru(connection: Connection, tokens: list[bytes]) -> None:
    # protocol.txt, "LRU Tuning": lru <tune|mode|temp_ttl> <option list>
    if len(tokens) < 2:
        connection.reply(ERROR)
        return
    service = connection.service
    maintained = service.settings.lru_maintainer
    if tokens[1] == b"tune" and len(tokens) >= 6:
        reply = _tune(service, tokens)
    elif tokens[1] == b"mode" and len(tokens) >= 3 and maintained:
        reply = _set_mode(service, tokens[2])
    elif tokens[1] == b"temp_ttl" and len(tokens) >= 3 and maintained:
        reply = _set_temporary_ttl(service, tokens[2])
    else:
        reply = ERROR
    _answer(connection, tokens, reply)


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


def _set_mode(service: Service, mode: bytes) -> bytes:
    if mode not in (b"flat", b"segmented"):
        return ERROR
    service.cache.set_segmented(mode == b"segmented")
    return OK


def _set_temporary_ttl(service: Service, token: bytes) -> bytes:
    ttl_s = decode_i32(token)
    if ttl_s is None:
        return ERROR
    service.cache.set_temporary_ttl(None if ttl_s < 0 else ttl_s)
    return OK


def _slabs(connection: Connection, tokens: list[bytes]) -> None:
    # protocol.txt, "Slabs Reassign", "Slabs Automove"
    connection.fill_run()
    if len(tokens) == 4 and tokens[1] == b"reassign":
        connection.reply(_reassign(connection.service, tokens))
    elif len(tokens) >= 3 and tokens[1] == b"automove":
        _answer(connection, tokens, _automove(connection.service, tokens))
    else:
        connection.reply(ERROR)


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
    if tokens[2] == b"ratio":
        ratio = _decode_double(tokens[3]) if len(tokens) > 3 else None
        if ratio is None:
            return ERROR
        service.rebalancer.set_automove_ratio(ratio)
        return OK
    level = decode_u32(tokens[2])
    if level is None:
        return BAD_FORMAT
    if level > 2:
        return ERROR
    service.rebalancer.automove = level
    service.maintainer.wake()
    return OK


# -- the crawler -------------------------------------------------------------------------------


def _lru_crawler(connection: Connection, tokens: list[bytes]) -> None:
    # protocol.txt, "LRU_Crawler"
    connection.fill_run()
    count = len(tokens)
    word = tokens[1] if count > 1 else b""
    reply: bytes | None = ERROR
    if count == 3 and word in _CRAWLER_VALUES:
        reply = _CRAWLER_VALUES[word](connection, tokens[2])
    elif count == 2 and word in (b"enable", b"disable"):
        reply = _switch_crawler(connection.service, on=word == b"enable")
    if reply is not None:
        connection.reply(reply)


def _switch_crawler(service: Service, *, on: bool) -> bytes:
    if on and service.crawler.enabled:
        return b"ERROR failed to start lru crawler thread\r\n"
    service.crawler.switch(on)
    service.maintainer.wake()
    return OK


def _crawl(connection: Connection, word: bytes) -> bytes:
    service = connection.service
    crawler = service.crawler
    if not crawler.enabled:
        return _CRAWLER_DISABLED
    if word == b"hash":  # walks the hash table, which only a dump can
        return b"ERROR an unknown error happened\r\n"
    class_ids = _decode_class_ids(word)
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
    if word == b"all":
        return None
    class_ids = set()
    for token in word.split(b","):
        if token:
            class_id = decode_u32(token)
            if class_id is None or not 1 <= class_id < _CLASS_ID_END:
                return _NO_CLASS
            class_ids.add(class_id)
    return frozenset(class_ids)


def _metadump(connection: Connection, word: bytes) -> bytes | None:
    # protocol.txt, "LRU_Crawler": lru_crawler metadump <classid,classid,classid|all|hash>
    service = connection.service
    if not service.crawler.enabled:
        return _CRAWLER_DISABLED
    if service.settings.disable_dumping:
        return b"ERROR metadump not allowed\r\n"
    if not _is_first(connection):
        return b"ERROR cannot pipeline other commands before metadump\r\n"
    class_ids = None if word == b"hash" else _decode_class_ids(word)
    if class_ids == _NO_CLASS:
        return _BAD_CLASS
    if class_ids is not None and not class_ids:
        return _NOT_STARTED
    if connection.transport == "udp":
        return None  # its sender's address may be forged
    connection.answer_from(_dump_lines(service, class_ids))
    return None


def _dump_lines(service: Service, class_ids: Collection[int] | None) -> Iterator[bytes]:
    """Yield the lines of all living items, in slices of bounded work. Some may be empty."""
    lines: list[str] = []
    looked_at = 0
    for number in range(TABLES):
        for key in service.cache.table_keys(number):
            looked_at += 1
            if looked_at % _DUMP_SLICE_ITEMS == 0:
                yield "".join(lines).encode()
                lines.clear()
            lines.append(_dump_line(service.cache, key, class_ids))
    yield "".join(lines).encode() + b"END\r\n"


def _dump_line(cache: Cache, key: bytes, class_ids: Collection[int] | None) -> str:
    """Return the line of one item, if it is alive and in one of these classes; else nothing."""
    item = cache.linked(key)
    segment = None if item is None else item.segment
    if item is None or segment is None or cache.is_dead(item):
        return ""
    class_id = segment.slab_class.id
    if class_ids is not None and class_id not in class_ids:
        return ""
    expiry = cache.expiry
    return (
        f"key={uri_encode(item.key)} "
        f"exp={expiry.unix_time(item.expires_at) if item.expires_at else -1} "
        f"la={expiry.unix_time(item.last_access)} cas={item.cas_unique} "
        f"fetch={'yes' if item.fetched else 'no'} cls={class_id} "
        f"size={cache.size_of(item)}\n"
    )


def _tocrawl(connection: Connection, word: bytes) -> bytes:
    tocrawl = decode_u32(word)
    if tocrawl is None:
        return BAD_FORMAT
    connection.service.crawler.tocrawl = tocrawl
    return OK


def _sleep(connection: Connection, word: bytes) -> bytes:
    sleep_us = decode_u32(word)
    if sleep_us is None:
        return BAD_FORMAT
    if sleep_us > _CRAWLER_SLEEP_MAX_US:
        return b"CLIENT_ERROR sleep must be one second or less\r\n"
    connection.service.crawler.sleep_us = sleep_us
    return OK


_CRAWLER_VALUES: Final[dict[bytes, Callable[[Connection, bytes], bytes | None]]] = {
    b"crawl": _crawl,
    b"metadump": _metadump,
    b"tocrawl": _tocrawl,
    b"sleep": _sleep,
}


# -- watch -------------------------------------------------------------------------------------


def _watch(connection: Connection, tokens: list[bytes]) -> None:
    # protocol.txt, "Watchers": watch <fetchers|mutations|evictions|...>
    connection.fill_run()
    service = connection.service
    events = 0
    for word in tokens[1:]:
        events |= WATCHABLE.get(word, 0)
    if service.settings.disable_watch:
        reply = b"CLIENT_ERROR watch commands not allowed\r\n"
    elif not _is_first(connection):
        reply = b"ERROR cannot pipeline other commands before watch\r\n"
    elif any(word not in WATCHABLE for word in tokens[1:]):
        reply = ERROR
    elif not service.recorder.add_watcher(connection, events if len(tokens) > 1 else FETCHERS):
        reply = b"WATCHER_TOO_MANY log watcher limit reached\r\n"
    else:
        reply = OK
    _answer(connection, tokens, reply)


# -- stats -------------------------------------------------------------------------------------


def _stats(connection: Connection, tokens: list[bytes]) -> None:
    # protocol.txt, "General-purpose statistics" and the sections behind it
    connection.fill_run()
    report = _REPORTS.get(tokens[1] if len(tokens) > 1 else b"")
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
    word = tokens[2] if len(tokens) > 2 else b""
    if word == b"dump":
        connection.answer_from(reports.prefixes(service))
        return None
    if word not in (b"on", b"off"):
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
    # The original reports on external storage and its proxy; there is none.
    **dict.fromkeys((b"extstore", b"proxy", b"proxyfuncs", b"proxybe"), _rows_of(lambda _: [])),
}

ADMIN_VERBS: Final[dict[bytes, Verb]] = {
    b"version": Verb(LOCAL, no_keys, _version),
    b"quit": Verb(LOCAL, no_keys, _quit),
    b"shutdown": Verb(LOCAL, no_keys, _shutdown),
    b"verbosity": Verb(LOCAL, no_keys, _verbosity),
    b"debugtime": Verb(LOCAL, no_keys, _debugtime),
    b"refresh_certs": Verb(LOCAL, no_keys, _refresh_certs),
    b"flush_all": Verb(WRITES, no_keys, _flush_all, noreply=1),
    b"cache_memlimit": Verb(LOCAL, no_keys, _cache_memlimit),
    b"lru": Verb(LOCAL, no_keys, _lru),
    b"slabs": Verb(LOCAL, no_keys, _slabs),
    b"lru_crawler": Verb(LOCAL, no_keys, _lru_crawler),
    b"watch": Verb(LOCAL, no_keys, _watch),
    b"stats": Verb(LOCAL, no_keys, _stats),
}
