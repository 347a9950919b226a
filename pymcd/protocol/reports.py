"""The reports behind `stats`: rows of name and value, in memcached 1.6.45's order.

Each function takes what it reports on and returns rows; how rows become bytes is the protocol's
business, so that text and binary share them. Names and order are an interface: tools read them
by name, some by position, and one of them into a buffer of 4096 bytes, so that the general
report must stay below. Numbers that describe the insides of a C program (buffers, reserved
descriptors) are 0 here; the hash table is described by what our tables take.

What is counted above the store is declared here, beside its rows (`ServiceCounters`).
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any, Final

from .. import limits
from ..config import PROTOCOL_NAMES
from ..store.cache import TABLES
from ..store.item import KEY_BINARY, SEGMENT_NAMES

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ..service import Service
    from ..store import Cache
    from ..store.item import Segment, SlabClass
    from .connection import Connection

#: Values are numbers or words without blanks; `str` of them is what is sent.
Row = tuple[str, Any]

#: The repcached whose rows in `stats` are reproduced.
REPCACHED_VERSION: Final = "2.3.1"

#: Width of the classes of `stats sizes`. # memcached: item_stats_sizes
SIZES_BUCKET_BYTES: Final = 32
#: Items counted for `stats sizes` in one slice; a driver takes some slices a turn.
_SIZES_SLICE_ITEMS: Final = 200
#: What other long reports show in one part.
_LINES_OF_A_PART: Final = 200
_CONNECTIONS_OF_A_PART: Final = 50

_SSL_VERSIONS: Final = ("tlsv1.0", "tlsv1.1", "tlsv1.2", "tlsv1.3")


@dataclass(slots=True)
class ServiceCounters:
    """What is counted above the store; `stats reset` replaces the whole object."""

    auth_cmds: int = 0
    auth_errors: int = 0
    bytes_read: int = 0
    bytes_written: int = 0
    conn_yields: int = 0
    idle_kicks: int = 0
    listen_disabled: int = 0
    listen_disabled_us: int = 0
    meta_cmds: int = 0
    rejected_connections: int = 0
    total_connections: int = 0


def encode_rows(rows: list[Row], *, end: bytes = b"END\r\n") -> bytes:
    """Return rows as a text reply."""
    return "".join([f"STAT {name} {value}\r\n" for name, value in rows]).encode() + end


def _yes(value: object) -> str:
    return "yes" if value else "no"


def _nothing(names: str) -> list[Row]:
    """Return rows of what there is none of here."""
    return [(name, 0) for name in names.split()]


def _counted(owner: SlabClass | ServiceCounters, names: str) -> list[Row]:
    """Return rows of what one class, or the service, has or has counted under these names."""
    return [(name, getattr(owner, name)) for name in names.split()]


def general(service: Service) -> list[Row]:
    """Return the rows of `stats`. # memcached: server_stats, get_stats, item_stats_totals"""
    settings = service.settings
    cache = service.cache
    counters = cache.counters
    others = service.counters
    classes = cache.slabs.classes
    host = service.host
    user_s, system_s = host.cpu_s()
    hash_bytes = cache.tables_bytes

    def total(name: str) -> int:
        return sum(getattr(each, name) for each in classes)

    def counted(names: str) -> list[Row]:
        """Return rows of what is counted under these names: for all items, or for each class."""
        return [
            (name, getattr(counters, name) if hasattr(counters, name) else total(name))
            for name in names.split()
        ]

    rows: list[Row] = [
        ("pid", host.pid),
        ("uptime", max(0, cache.now - cache.started)),
        ("time", int(service.clock.realtime())),
        ("version", limits.MEMCACHED_VERSION),
        ("libevent", host.event_loop),
        ("pointer_size", 64),
        ("rusage_user", f"{user_s:.6f}"),
        ("rusage_system", f"{system_s:.6f}"),
        ("max_connections", settings.conn_limit),
        ("curr_connections", len(service.connections)),
        ("total_connections", others.total_connections),
    ]
    if settings.maxconns_fast:
        rows.append(("rejected_connections", others.rejected_connections))
    rows += [
        ("connection_structures", service.connections_peak),
        *_nothing("response_obj_oom response_obj_count response_obj_bytes read_buf_count"),
        *_nothing("read_buf_bytes read_buf_bytes_free read_buf_oom reserved_fds"),
        ("cmd_get", total("get_hits") + counters.get_misses),
        ("cmd_set", total("set_cmds")),
        ("cmd_flush", counters.flush_cmds),
        ("cmd_touch", counters.touch_cmds),
        ("cmd_meta", others.meta_cmds),
        *counted("get_hits get_misses get_expired get_flushed delete_misses delete_hits"),
        *counted("incr_misses incr_hits decr_misses decr_hits cas_misses cas_hits cas_badval"),
        *counted("touch_hits touch_misses store_too_large store_no_memory"),
        *_counted(others, "auth_cmds auth_errors"),
    ]
    if settings.idle_timeout_s:
        rows.append(("idle_kicks", others.idle_kicks))
    rows += [
        *_counted(others, "bytes_read bytes_written"),
        ("limit_maxbytes", cache.slabs.limit_bytes),
        ("accepting_conns", int(host.reception.accepting)),
        ("listen_disabled_num", others.listen_disabled),
        ("time_in_listen_disabled_us", others.listen_disabled_us),
        ("threads", settings.threads),
        ("conn_yields", others.conn_yields),
        ("hash_power_level", (hash_bytes // 8).bit_length() - 1),
        ("hash_bytes", hash_bytes),
        ("hash_is_expanding", 0),
    ]
    rebalancer = service.rebalancer
    if settings.slab_reassign:
        rows += [
            ("slab_reassign_rescues", rebalancer.rescues),
            ("slab_reassign_chunk_rescues", rebalancer.chunk_rescues),
            ("slab_reassign_inline_reclaim", rebalancer.inline_reclaim),
            ("slab_reassign_busy_items", rebalancer.busy_items),
            ("slab_reassign_busy_deletes", 0),
            ("slab_reassign_busy_nomem", rebalancer.busy_nomem),
            ("slab_reassign_last_busy_status", rebalancer.last_busy_status),
            ("slab_reassign_running", int(rebalancer.running)),
            ("slabs_moved", cache.slabs.moved_pages),
        ]
    if service.crawler.enabled:
        rows += [
            ("lru_crawler_running", int(service.crawler.running)),
            ("lru_crawler_starts", service.crawler.starts),
        ]
    if settings.lru_maintainer:
        rows.append(("lru_maintainer_juggles", service.maintainer.juggles))
    recorder = service.recorder
    rows += [
        *_nothing("malloc_fails log_worker_dropped"),
        ("log_worker_written", recorder.lines_written),
        ("log_watcher_skipped", recorder.lines_skipped),
        ("log_watcher_sent", recorder.lines_sent),
        ("log_watchers", len(recorder.watchers)),
        *(() if host.tls is None else host.tls.rows()),
        *_nothing("unexpected_napi_ids round_robin_fallback"),
        ("bytes", cache.item_bytes),
        ("curr_items", cache.item_count),
        ("total_items", cache.total_items),
        ("slab_global_page_pool", cache.slabs.free_pages),
        *counted("expired_unfetched evicted_unfetched"),
    ]
    if settings.lru_maintainer:
        rows += counted("evicted_active")
    rows += [
        ("evictions", total("evicted")),
        *counted("reclaimed crawler_reclaimed crawler_items_checked"),
        ("lrutail_reflocked", 0),
    ]
    if settings.lru_maintainer:
        rows += counted("moves_to_cold moves_to_warm moves_within_lru direct_reclaims")
        rows.append(("lru_bumps_dropped", 0))
    gate = service.gate
    if gate is not None:
        # What repcached says here. All else is in `stats replication`: this report has no room.
        waiting = dict(gate.rows()).get("queue_items", 0)
        rows += [
            ("replication", "MASTER"),
            ("repcached_version", REPCACHED_VERSION),
            ("repcached_qi_free", max(0, settings.replication_queue - int(waiting))),
        ]
    return rows


def forget_node(service: Service, node_id: str) -> list[Row]:
    """Have a group forget a node that will not return; say whether it has."""
    gate = service.gate
    refusal = "replication is off" if gate is None else gate.forget(node_id)
    return [("not_forgotten" if refusal else "forgotten", (refusal or node_id).replace(" ", "_"))]


def replication(service: Service) -> list[Row]:
    """Return the rows of `stats replication`. Values are words without blanks."""
    if service.gate is None:
        return [("state", "off")]
    return [
        (name, f"{value:.3f}" if isinstance(value, float) else value)
        for name, value in service.gate.rows()
    ]


def fill(service: Service) -> list[Row]:
    """Return the rows of `stats fill`. Values are words without blanks."""
    return [("state", "off")] if service.filling is None else service.filling.rows()


def settings_in_force(service: Service) -> list[Row]:
    """Return the rows of `stats settings`. # memcached: process_stat_settings"""
    settings = service.settings
    cache = service.cache
    lru = cache.lru
    crawler = service.crawler
    rebalancer = service.rebalancer
    return [
        ("maxbytes", cache.slabs.limit_bytes),
        ("maxconns", settings.conn_limit),
        ("tcpport", settings.port),
        ("udpport", settings.udp_port),
        ("inter", settings.inter or "NULL"),
        ("verbosity", service.verbosity),
        ("oldest", cache.horizon.oldest_live),
        ("evictions", "off" if settings.disable_evictions else "on"),
        ("domain_socket", settings.unix_socket or "NULL"),
        ("umask", f"{settings.unix_mask:o}"),
        ("shutdown_command", _yes(settings.enable_shutdown)),
        ("growth_factor", f"{settings.slab_growth_factor:.2f}"),
        ("chunk_size", settings.slab_min_size_bytes),
        ("num_threads", settings.threads),
        ("num_threads_per_udp", settings.num_threads_per_udp),
        ("stat_key_prefix", settings.prefix_delimiter),
        ("detail_enabled", _yes(service.recorder.detail)),
        ("reqs_per_event", settings.reqs_per_event),
        ("cas_enabled", _yes(cache.use_cas)),
        ("tcp_backlog", settings.listen_backlog),
        ("binding_protocol", PROTOCOL_NAMES[settings.protocol]),
        ("auth_enabled_sasl", _yes(settings.enable_sasl)),
        ("auth_enabled_ascii", settings.auth_file or "no"),
        ("item_size_max", settings.item_size_max_bytes),
        ("maxconns_fast", _yes(settings.maxconns_fast)),
        ("hashpower_init", settings.hashpower_init),
        ("slab_reassign", _yes(settings.slab_reassign)),
        ("slab_automove", rebalancer.automove),
        ("slab_automove_ratio", f"{rebalancer.automove_ratio:.2f}"),
        ("slab_automove_window", rebalancer.automove_window_s),
        ("slab_chunk_max", settings.slab_chunk_max_bytes),
        ("lru_crawler", _yes(crawler.enabled)),
        ("lru_crawler_sleep", crawler.sleep_us),
        ("lru_crawler_tocrawl", crawler.tocrawl),
        ("tail_repair_time", settings.tail_repair_time_s),
        ("flush_enabled", _yes(not settings.disable_flush_all)),
        ("dump_enabled", _yes(not settings.disable_dumping)),
        ("hash_algorithm", settings.hash_algorithm),
        ("lru_maintainer_thread", _yes(settings.lru_maintainer)),
        ("lru_segmented", _yes(lru.segmented)),
        ("hot_lru_pct", lru.hot_pct),
        ("warm_lru_pct", lru.warm_pct),
        ("hot_max_factor", f"{lru.hot_max_factor:.2f}"),
        ("warm_max_factor", f"{lru.warm_max_factor:.2f}"),
        ("temp_lru", _yes(cache.temporary_lru)),
        ("temporary_ttl", cache.temporary_ttl_s),
        ("idle_timeout", settings.idle_timeout_s),
        ("watcher_logbuf_size", settings.watcher_logbuf_size_bytes),
        ("worker_logbuf_size", settings.worker_logbuf_size_bytes),
        ("read_buf_mem_limit", settings.read_buf_mem_limit_bytes),
        ("track_sizes", _yes(settings.track_sizes)),
        ("inline_ascii_response", "no"),
        # External storage, which is not offered: what the original shows when it is off.
        ("ext_item_size", 512),
        ("ext_item_age", limits.UINT32_MAX),
        ("ext_low_ttl", 0),
        ("ext_recache_rate", 2000),
        ("ext_wbuf_size", 4 << 20),
        *_nothing("ext_compact_under ext_drop_under"),
        ("ext_max_sleep", 1_000_000),
        ("ext_max_frag", "0.80"),
        ("slab_automove_freeratio", f"{rebalancer.automove_freeratio:.3f}"),
        ("ext_drop_unread", "no"),
        ("ssl_enabled", _yes(settings.enable_ssl)),
        ("ssl_chain_cert", settings.ssl_chain_cert or "(null)"),
        ("ssl_key", settings.ssl_key or "(null)"),
        ("ssl_verify_mode", settings.ssl_verify_mode),
        ("ssl_keyformat", settings.ssl_keyformat),
        ("ssl_ciphers", settings.ssl_ciphers or "NULL"),
        ("ssl_ca_cert", settings.ssl_ca_cert or "NULL"),
        ("ssl_wbuf_size", settings.ssl_wbuf_size_bytes),
        ("ssl_session_cache", _yes(settings.ssl_session_cache)),
        ("ssl_kernel_tls", _yes(settings.ssl_kernel_tls)),
        ("ssl_min_version", _SSL_VERSIONS[settings.ssl_min_version]),
        # The proxy, which is not offered either.
        ("proxy_enabled", "no"),
        ("proxy_uring_enabled", "no"),
        ("num_napi_ids", settings.num_napi_ids),
        ("memory_file", settings.memory_file or "(null)"),
        ("client_flags_size", limits.ITEM_CLIENT_FLAGS_BYTES),
    ]


def items(service: Service) -> list[Row]:
    """Return the rows of `stats items`: of each class that holds any. # memcached: item_stats"""
    return [
        (f"items:{slab_class.id}:{name}", value)
        for slab_class in service.cache.slabs
        for name, value in items_of(service, slab_class)
    ]


def items_of(service: Service, slab_class: SlabClass) -> list[Row]:
    """Return what `stats items` shows of one class; nothing if it holds none."""
    cache = service.cache
    maintained = service.settings.lru_maintainer
    number = slab_class.item_count
    if number == 0:
        return []
    ages_s = [
        cache.now - segment.tail.last_access if segment.tail is not None else 0
        for segment in slab_class.segments
    ]
    rows: list[Row] = [("number", number)]
    if maintained:
        shown = SEGMENT_NAMES if cache.temporary_lru else SEGMENT_NAMES[:3]
        rows += [(f"number_{name}", getattr(slab_class, name).count) for name in shown]
        rows += [("age_hot", ages_s[0]), ("age_warm", ages_s[1])]
    rows += [
        ("age", ages_s[2]),
        ("mem_requested", sum(segment.bytes for segment in slab_class.segments)),
        *_counted(slab_class, "evicted evicted_nonzero"),
        ("evicted_time", slab_class.evicted_time_s),
        *_counted(slab_class, "outofmemory"),
        ("tailrepairs", 0),
        *_counted(slab_class, "reclaimed expired_unfetched evicted_unfetched"),
    ]
    if maintained:
        rows += _counted(slab_class, "evicted_active")
    rows += [
        *_counted(slab_class, "crawler_reclaimed crawler_items_checked"),
        ("lrutail_reflocked", 0),
    ]
    if maintained:
        rows += [
            *_counted(slab_class, "moves_to_cold moves_to_warm moves_within_lru"),
            *_counted(slab_class, "direct_reclaims"),
            *((f"hits_to_{name}", getattr(slab_class, name).hits) for name in SEGMENT_NAMES),
        ]
    return rows


def slabs(service: Service) -> list[Row]:
    """Return the rows of `stats slabs`: of each class with pages. # memcached: slabs_stats"""
    rows: list[Row] = []
    active = 0
    for slab_class in service.cache.slabs:
        of_class = slabs_of(slab_class)
        active += bool(of_class)
        rows += [(f"{slab_class.id}:{name}", value) for name, value in of_class]
    rows.append(("active_slabs", active))
    rows.append(("total_malloced", service.cache.slabs.malloced_bytes))
    return rows


def slabs_of(slab_class: SlabClass) -> list[Row]:
    """Return what `stats slabs` shows of one class; nothing if it has no pages."""
    if not slab_class.pages:
        return []
    return [
        ("chunk_size", slab_class.chunk_size_bytes),
        ("chunks_per_page", slab_class.chunks_per_page),
        ("total_pages", slab_class.pages),
        *_counted(slab_class, "total_chunks used_chunks free_chunks"),
        ("free_chunks_end", 0),
        *_counted(slab_class, "get_hits"),
        ("cmd_set", slab_class.set_cmds),
        *_counted(slab_class, "delete_hits incr_hits decr_hits cas_hits cas_badval touch_hits"),
    ]


def sizes(service: Service) -> Iterator[list[Row]]:
    """Yield the rows of `stats sizes` in parts, and nothing after each slice of work before that.

    memcached keeps a histogram up to date at each store; here the items are counted when
    somebody asks.
    # memcached: item_stats_sizes
    """
    cache = service.cache
    if not service.settings.track_sizes:
        yield [("sizes_status", "disabled")]
        return
    bucket_max = service.settings.item_size_max_bytes // SIZES_BUCKET_BYTES
    buckets: dict[int, int] = {}
    counted = 0
    for number in range(TABLES):
        for key in cache.table_keys(number):
            bucket = _size_bucket(cache, key)
            if bucket <= bucket_max:
                buckets[bucket] = buckets.get(bucket, 0) + 1
            counted += 1
            if counted % _SIZES_SLICE_ITEMS == 0:
                yield []
    buckets.pop(0, None)
    found = iter(sorted(buckets.items()))
    while part := list(islice(found, _LINES_OF_A_PART)):
        yield [(str(bucket * SIZES_BUCKET_BYTES), count) for bucket, count in part]


def _size_bucket(cache: Cache, key: bytes) -> int:
    """Return in which bucket an item is to be counted; 0: it is gone."""
    item = cache.linked(key)
    if item is None:
        return 0
    return -(-cache.size_of(item) // SIZES_BUCKET_BYTES)


def connections(service: Service, asker: Connection) -> Iterator[list[Row]]:
    """Yield the rows of `stats conns`, by descriptor, in parts. # memcached: process_stats_conns"""
    cache = service.cache
    listening = service.host.reception.listening
    numbers = sorted({*listening, *service.connections})
    for start in range(0, len(numbers), _CONNECTIONS_OF_A_PART):
        rows: list[Row] = []
        for number in numbers[start : start + _CONNECTIONS_OF_A_PART]:
            connection = service.connections.get(number)
            address = listening.get(number)
            if connection is not None:
                rows += [
                    (f"{number}:addr", connection.address),
                    (f"{number}:listen_addr", connection.listen_address),
                    (f"{number}:state", _state(connection, asker)),
                    (f"{number}:secs_since_last_cmd", cache.now - connection.last_command_at),
                ]
            elif address is not None:
                udp = address.startswith("udp")
                if udp:
                    rows.append((f"{number}:UDP", "UDP"))
                rows += [
                    (f"{number}:addr", address),
                    (f"{number}:state", "conn_read" if udp else "conn_listening"),
                    (f"{number}:secs_since_last_cmd", max(0, cache.now - cache.started)),
                ]
        yield rows


def _state(connection: Connection, asker: Connection) -> str:
    if connection is asker:
        return "conn_parse_cmd"
    if connection.watching or connection.source is not None:
        return "conn_watch"
    if connection.closing:
        return "conn_closing"
    if connection.awaited is not None:
        return "conn_nread"
    if connection.swallow_bytes:
        return "conn_swallow"
    if connection.pieces:
        return "conn_mwrite"
    return "conn_new_cmd" if connection.silent else "conn_read"


def prefixes(service: Service) -> Iterator[bytes]:
    """Yield what `stats detail dump` answers, in parts. # memcached: stats_prefix_dump"""
    known = service.recorder.prefixes
    names = iter(list(known))
    while part := list(islice(names, _LINES_OF_A_PART)):
        yield b"".join(
            [
                b"PREFIX %b get %d hit %d set %d del %d\r\n"
                % (name, prefix.gets, prefix.hits, prefix.sets, prefix.deletes)
                for name in part
                if (prefix := known.get(name)) is not None  # else they were reset
            ]
        )
    yield b"END\r\n"


def cachedump(cache: Cache, class_id: int, limit: int) -> Iterator[bytes]:
    """Yield the newest `limit` items (0: all) in a class's COLD segment, up to 2 MB, in parts.

    # memcached: item_cachedump
    """
    slab_class = cache.slabs.by_id(class_id)
    passed: list[bytes] | None = None if slab_class is None else []
    left = limit or -1
    room_bytes = limits.CACHEDUMP_MAX_BYTES - len(b"END\r\n\0")
    while passed is not None:
        assert slab_class is not None
        lines, passed = _cachedump_part(cache, slab_class.cold, passed, left, room_bytes)
        left -= len(lines)
        part = b"".join(lines)
        room_bytes -= len(part)
        yield part
    yield b"END\r\n"


def _cachedump_part(
    cache: Cache, cold: Segment, passed: list[bytes], left: int, room_bytes: int
) -> tuple[list[bytes], list[bytes] | None]:
    """Return the next lines, and the keys of the items looked at; None: that was all.

    Where to go on is told by keys, as to hold an item would hold its value: behind the last one
    of those that is still there.
    """
    item = cold.head
    while passed:
        last = cache.linked(passed.pop())
        if last is not None and last.segment is cold:
            item = last.next
            break
        item = None
    lines: list[bytes] = []
    looked_at: list[bytes] = []
    while item is not None and len(looked_at) < _LINES_OF_A_PART:
        looked_at.append(item.key)
        if not item.access & KEY_BINARY:
            ends_at = cache.expiry.unix_time(item.expires_at) if item.expires_at else 0
            line = b"ITEM %b [%d b; %d s]\r\n" % (item.key, len(item.value), ends_at)
            room_bytes -= len(line)
            if room_bytes < 0:
                return lines, None
            lines.append(line)
            if len(lines) == left:
                return lines, None
        item = item.next
    return lines, None if item is None else looked_at


#: What both protocols report on under the same word.
BY_WORD: Final = {
    b"items": items,
    b"slabs": slabs,
    b"replication": replication,
    b"fill": fill,
}
