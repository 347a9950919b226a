"""All that is measured, for Prometheus: one table, and the text that it reads.

A metric has its values from rows of a report, by name: those of `stats` and its kin, which say
what they mean, and a few that the server itself tells (`SERVER`). The names that begin with
`memcached_` are those of memcached_exporter, so that dashboards and alerts made for that one go on;
all others begin with `pymcd_`. Names, types and labels are an interface: they change with a major
release only.

The text is made in parts of some dozen lines, so that whoever asks for it has others wait for one
of them at most. Nothing here depends on the number of items or of clients.

# Prometheus: exposition formats, "Text-based format", version 0.0.4
"""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple

from ..readiness import State

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

CONTENT_TYPE: Final = b"text/plain; version=0.0.4; charset=utf-8"
#: In one part of the text: some tenths of a millisecond.
LINES_OF_A_PART: Final = 200

#: Upper bounds, in seconds, for how late the event loop was.
LAG_BOUNDS_S: Final = (0.001, 0.005, 0.025, 0.1, 0.5, 2.5)

Kind = Literal["counter", "gauge", "histogram", "untyped"]
#: Rows by name.
Rows = dict[str, Any]


class Report(StrEnum):
    """Where rows are from; the values are what docs call it."""

    STATS = "stats"
    SETTINGS = "stats settings"
    ITEMS = "stats items"  #: once for each class
    SLABS = "stats slabs"  #: likewise
    POOL = "stats slabs, of all classes"
    REPLICATION = "stats replication"
    PEER = "stats replication, of each peer"
    FILL = "stats fill"
    SERVER = "the server"


class Instance(NamedTuple):
    """What one report says of one thing; of a slab class or a peer its label tells which."""

    rows: Rows
    label: str = ""


_WORDS: Final = {"yes": 1, "no": 0, "up": 1, "down": 0}


def _as_it_is(value: Any) -> Any:
    return value


def _word(value: str) -> int:
    return _WORDS[value]


def _count(value: str) -> int:
    """Return how many words there are, with commas between them; "-" is none."""
    return 0 if value == "-" else value.count(",") + 1


def _decides(role: str) -> int:
    return int(role in ("alone", "coordinator"))


def _is_under_way(state: str) -> int:
    return int(state in ("listing", "filling"))


def _is_short(state: str) -> int:
    return int(state == "short")


class Sample(NamedTuple):
    """One value of a metric: the sum of these rows, or less those that begin with a minus."""

    rows: tuple[str, ...]
    labels: str = ""  #: as they stand in the text; what is in braces is a row
    scale: float = 1
    suffix: str = ""  #: of the metric's name
    read: Callable[[Any], Any] = _as_it_is  #: makes a number of a row, or the text of one

    def value(self, rows: Rows) -> str | None:
        """Return the value as it stands in the text; None: there is none."""
        if len(self.rows) == 1 and self.scale == 1:
            value = rows.get(self.rows[0])
            return None if value is None else str(self.read(value))
        total = 0.0
        for row in self.rows:
            value = rows.get(row.removeprefix("-"))
            if value is None:
                return None
            total += -self.read(value) if row.startswith("-") else self.read(value)
        return f"{total * self.scale:.12g}"


class Metric(NamedTuple):
    """One metric. Of rows that are not there it has no values."""

    name: str
    kind: Kind
    help: str
    report: Report
    samples: tuple[Sample, ...]

    @property
    def rows(self) -> list[str]:
        """The names of all rows that it is made from, each once."""
        return list(dict.fromkeys(row.lstrip("-") for each in self.samples for row in each.rows))


def _gauge(name: str, help_text: str, report: Report, row: str, scale: float = 1) -> Metric:
    return Metric(name, "gauge", help_text, report, (Sample((row,), scale=scale),))


def _counter(name: str, help_text: str, report: Report, row: str, scale: float = 1) -> Metric:
    assert name.endswith("_total")
    return Metric(name, "counter", help_text, report, (Sample((row,), scale=scale),))


def _odd(name: str, help_text: str, report: Report, row: str) -> Metric:
    """Return a counter whose name does not say so."""
    return Metric(name, "untyped", help_text, report, (Sample((row,)),))


def _read(
    name: str, help_text: str, report: Report, row: str, read: Callable[[str], int]
) -> Metric:
    return Metric(name, "gauge", help_text, report, (Sample((row,), read=read),))


def _commands(*names: str) -> list[Sample]:
    return [
        Sample((f"{name}_{rows}",), f'command="{name}",status="{status}"')
        for name in names
        for rows, status in (("hits", "hit"), ("misses", "miss"))
    ]


_HOT_TO_TEMPORARY: Final = (
    ("hot", "hot"),
    ("warm", "warm"),
    ("cold", "cold"),
    ("temp", "temporary"),
)
_STATS, _ITEMS, _SLABS, _SETTINGS = Report.STATS, Report.ITEMS, Report.SLABS, Report.SETTINGS
_GROUP, _PEER, _SERVER = Report.REPLICATION, Report.PEER, Report.SERVER

# Names of memcached_exporter, in its order.
_MEMCACHEDS: Final = (
    _gauge("memcached_up", "1: the server answers.", _SERVER, "up"),
    _gauge("memcached_uptime_seconds", "Time since the start.", _STATS, "uptime"),
    _gauge("memcached_time_seconds", "Unix time by the server's wall clock.", _STATS, "time"),
    Metric(
        "memcached_version",
        "gauge",
        "1; the label is the release of memcached that is followed.",
        _SERVER,
        (Sample(("up",), 'version="{version}"'),),
    ),
    _counter(
        "memcached_process_user_cpu_seconds_total",
        "CPU time that the process has taken for itself.",
        _STATS,
        "rusage_user",
    ),
    _counter(
        "memcached_process_system_cpu_seconds_total",
        "CPU time that the system has taken for the process.",
        _STATS,
        "rusage_system",
    ),
    _counter("memcached_read_bytes_total", "Bytes read from clients.", _STATS, "bytes_read"),
    _counter("memcached_written_bytes_total", "Bytes sent to clients.", _STATS, "bytes_written"),
    _gauge(
        "memcached_current_connections",
        "Clients that are connected now.",
        _STATS,
        "curr_connections",
    ),
    _gauge(
        "memcached_max_connections", "Clients that may be connected (-c).", _SETTINGS, "maxconns"
    ),
    _counter(
        "memcached_connections_total", "Clients that have connected.", _STATS, "total_connections"
    ),
    _counter(
        "memcached_connections_rejected_total",
        "Clients that were turned away as there were too many.",
        _STATS,
        "rejected_connections",
    ),
    _counter(
        "memcached_connections_yielded_total",
        "How often a client with more to do had to wait for others.",
        _STATS,
        "conn_yields",
    ),
    _counter(
        "memcached_connections_listener_disabled_total",
        "How often clients had to wait to be let in as there were too many.",
        _STATS,
        "listen_disabled_num",
    ),
    _gauge("memcached_current_bytes", "Memory of the items, as counted.", _STATS, "bytes"),
    _gauge("memcached_limit_bytes", "Memory for items (-m).", _STATS, "limit_maxbytes"),
    Metric(
        "memcached_commands_total",
        "counter",
        "Commands by what came of them.",
        _STATS,
        (
            *_commands("get", "delete", "incr", "decr", "cas", "touch"),
            Sample(("cas_badval",), 'command="cas",status="badval"'),
            Sample(("cmd_flush",), 'command="flush",status="hit"'),
            # A cas is a set as well.
            Sample(
                ("cmd_set", "-cas_misses", "-cas_hits", "-cas_badval"),
                'command="set",status="hit"',
            ),
        ),
    ),
    _gauge("memcached_current_items", "Items that are stored now.", _STATS, "curr_items"),
    _counter("memcached_items_total", "Items that were stored.", _STATS, "total_items"),
    _counter(
        "memcached_items_evicted_total",
        "Items that were alive and had to go for others.",
        _STATS,
        "evictions",
    ),
    _counter(
        "memcached_items_reclaimed_total",
        "Items stored in the place of one that had expired.",
        _STATS,
        "reclaimed",
    ),
    _counter(
        "memcached_item_too_large_total",
        "Values that were refused as larger than -I.",
        _STATS,
        "store_too_large",
    ),
    _counter(
        "memcached_item_no_memory_total",
        "Values that were refused for want of memory.",
        _STATS,
        "store_no_memory",
    ),
    _read(
        "memcached_lru_crawler_enabled",
        "1: expired items are looked for.",
        _SETTINGS,
        "lru_crawler",
        _word,
    ),
    _gauge(
        "memcached_lru_crawler_sleep",
        "Microseconds between two items.",
        _SETTINGS,
        "lru_crawler_sleep",
    ),
    _gauge(
        "memcached_lru_crawler_to_crawl",
        "Most items looked at in a class and run; 0: all.",
        _SETTINGS,
        "lru_crawler_tocrawl",
    ),
    _read(
        "memcached_lru_crawler_maintainer_thread",
        "1: segments are kept in order.",
        _SETTINGS,
        "lru_maintainer_thread",
        _word,
    ),
    _gauge(
        "memcached_lru_crawler_hot_percent",
        "Memory for the hot segment.",
        _SETTINGS,
        "hot_lru_pct",
    ),
    _gauge(
        "memcached_lru_crawler_warm_percent",
        "Memory for the warm segment.",
        _SETTINGS,
        "warm_lru_pct",
    ),
    _gauge(
        "memcached_lru_crawler_hot_max_factor",
        "Idle items leave hot after so many times cold's age.",
        _SETTINGS,
        "hot_max_factor",
    ),
    _gauge(
        "memcached_lru_crawler_warm_max_factor",
        "Idle items leave warm after so many times cold's age.",
        _SETTINGS,
        "warm_max_factor",
    ),
    _counter(
        "memcached_lru_crawler_starts_total",
        "How often the search for expired items began.",
        _STATS,
        "lru_crawler_starts",
    ),
    _counter(
        "memcached_direct_reclaims_total",
        "How often a client's command had to make room itself.",
        _STATS,
        "direct_reclaims",
    ),
    _counter(
        "memcached_lru_crawler_reclaimed_total",
        "Expired items that the search has found.",
        _STATS,
        "crawler_reclaimed",
    ),
    _counter(
        "memcached_lru_crawler_items_checked_total",
        "Items that the search has looked at.",
        _STATS,
        "crawler_items_checked",
    ),
    _counter(
        "memcached_lru_crawler_moves_to_cold_total",
        "Items moved from hot or warm to cold.",
        _STATS,
        "moves_to_cold",
    ),
    _counter(
        "memcached_lru_crawler_moves_to_warm_total",
        "Items moved from cold to warm.",
        _STATS,
        "moves_to_warm",
    ),
    _counter(
        "memcached_lru_crawler_moves_within_lru_total",
        "Items moved to the head of hot or warm.",
        _STATS,
        "moves_within_lru",
    ),
    _gauge("memcached_malloced_bytes", "Memory in pages.", Report.POOL, "total_malloced"),
    _gauge(
        "memcached_accepting_connections",
        "1: new clients are let in.",
        _STATS,
        "accepting_conns",
    ),
    # Of each slab class.
    _gauge("memcached_slab_current_items", "Items of the class.", _ITEMS, "number"),
    _gauge(
        "memcached_slab_items_age_seconds",
        "Since the oldest item of cold was last used.",
        _ITEMS,
        "age",
    ),
    Metric(
        "memcached_slab_lru_hits_total",
        "counter",
        "Hits by segment.",
        _ITEMS,
        tuple(Sample((f"hits_to_{row}",), f'lru="{name}"') for row, name in _HOT_TO_TEMPORARY),
    ),
    _counter(
        "memcached_slab_items_crawler_reclaimed_total",
        "Expired items that the search has found.",
        _ITEMS,
        "crawler_reclaimed",
    ),
    _counter("memcached_slab_items_evicted_total", "Items evicted.", _ITEMS, "evicted"),
    _counter(
        "memcached_slab_items_evicted_nonzero_total",
        "Items evicted that had a time to live.",
        _ITEMS,
        "evicted_nonzero",
    ),
    _gauge(
        "memcached_slab_items_evicted_time_seconds",
        "How long the item evicted last had not been used.",
        _ITEMS,
        "evicted_time",
    ),
    _counter(
        "memcached_slab_items_evicted_unfetched_total",
        "Items evicted that nobody had read.",
        _ITEMS,
        "evicted_unfetched",
    ),
    _counter(
        "memcached_slab_items_expired_unfetched_total",
        "Items expired that nobody had read.",
        _ITEMS,
        "expired_unfetched",
    ),
    _counter(
        "memcached_slab_items_outofmemory_total",
        "Items that were refused for want of memory.",
        _ITEMS,
        "outofmemory",
    ),
    _counter(
        "memcached_slab_items_reclaimed_total",
        "Items stored in the place of one that had expired.",
        _ITEMS,
        "reclaimed",
    ),
    _counter("memcached_slab_items_tailrepairs_total", "Always 0.", _ITEMS, "tailrepairs"),
    _odd(
        "memcached_slab_items_moves_to_cold",
        "Items moved from hot or warm to cold.",
        _ITEMS,
        "moves_to_cold",
    ),
    _odd(
        "memcached_slab_items_moves_to_warm",
        "Items moved from cold to warm.",
        _ITEMS,
        "moves_to_warm",
    ),
    _odd(
        "memcached_slab_items_moves_within_lru",
        "Items moved to the head of hot or warm.",
        _ITEMS,
        "moves_within_lru",
    ),
    *(
        _gauge(f"memcached_slab_{name}_items", f"Items in {row}.", _ITEMS, f"number_{row}")
        for row, name in _HOT_TO_TEMPORARY
    ),
    _gauge(
        "memcached_slab_hot_age_seconds",
        "Since the oldest item of hot was last used.",
        _ITEMS,
        "age_hot",
    ),
    _gauge(
        "memcached_slab_warm_age_seconds",
        "Since the oldest item of warm was last used.",
        _ITEMS,
        "age_warm",
    ),
    _gauge("memcached_slab_mem_requested_bytes", "Memory of the items.", _ITEMS, "mem_requested"),
    _gauge("memcached_slab_chunk_size_bytes", "Size of a chunk.", _SLABS, "chunk_size"),
    _gauge("memcached_slab_chunks_per_page", "Chunks in a page.", _SLABS, "chunks_per_page"),
    _gauge("memcached_slab_current_pages", "Pages of the class.", _SLABS, "total_pages"),
    _gauge("memcached_slab_current_chunks", "Chunks of the class.", _SLABS, "total_chunks"),
    _gauge("memcached_slab_chunks_used", "Chunks in use.", _SLABS, "used_chunks"),
    _gauge("memcached_slab_chunks_free", "Chunks that are free.", _SLABS, "free_chunks"),
    _gauge("memcached_slab_chunks_free_end", "Always 0.", _SLABS, "free_chunks_end"),
    Metric(
        "memcached_slab_commands_total",
        "counter",
        "Commands by what came of them.",
        _SLABS,
        (
            *(
                Sample((f"{name}_hits",), f'command="{name}",status="hit"')
                for name in ("get", "delete", "incr", "decr", "cas", "touch")
            ),
            Sample(("cas_badval",), 'command="cas",status="badval"'),
            Sample(("cmd_set", "-cas_hits", "-cas_badval"), 'command="set",status="hit"'),
        ),
    ),
)

_OURS: Final = (
    Metric(
        "pymcd_build_info",
        "gauge",
        "1; the labels are the releases of pymcd and of Python.",
        _SERVER,
        (Sample(("up",), 'version="{release}",python="{python}"'),),
    ),
    _gauge("pymcd_ready", "1: clients may come, as /readyz says.", _SERVER, "ready"),
    Metric(
        "pymcd_state",
        "gauge",
        "1: the server is in that state, as /readyz says.",
        _SERVER,
        tuple(Sample((f"state_{state}",), f'state="{state}"') for state in State),
    ),
    _gauge(
        "pymcd_resident_memory_bytes",
        "Memory that the process has.",
        _SERVER,
        "resident_bytes",
    ),
    _gauge(
        "pymcd_under_way_bytes",
        "Memory for what clients are sending and have yet to take.",
        _SERVER,
        "under_way_bytes",
    ),
    _counter(
        "pymcd_memory_shortages_total",
        "How often the system had no memory.",
        _SERVER,
        "memory_shortages",
    ),
    Metric(
        "pymcd_loop_lag_seconds",
        "histogram",
        "How late the event loop came to what was due, looked at while somebody asks for metrics.",
        _SERVER,
        (
            *(
                Sample((f"loop_lag_le_{bound}",), f'le="{bound}"', suffix="_bucket")
                for bound in (*LAG_BOUNDS_S, "+Inf")
            ),
            Sample(("loop_lag_sum",), suffix="_sum"),
            Sample(("loop_lag_le_+Inf",), suffix="_count"),
        ),
    ),
    _counter(
        "pymcd_loop_stalls_total",
        "How often the event loop stood still for 0.25 s or more.",
        _SERVER,
        "loop_stalls",
    ),
    _counter(
        "pymcd_loop_stalled_seconds_total",
        "For how long it did so.",
        _SERVER,
        "loop_stalled_s",
    ),
    _counter("pymcd_auth_commands_total", "Logins that were tried.", _STATS, "auth_cmds"),
    _counter("pymcd_auth_errors_total", "Logins that failed.", _STATS, "auth_errors"),
    _counter(
        "pymcd_tls_handshake_errors_total",
        "TLS handshakes of clients that failed.",
        _STATS,
        "ssl_handshake_errors",
    ),
    _gauge(
        "pymcd_tls_certificate_age_seconds",
        "Since certificates were read last.",
        _STATS,
        "time_since_server_cert_refresh",
    ),
    _counter(
        "pymcd_idle_kicks_total",
        "Clients that were closed as they were idle.",
        _STATS,
        "idle_kicks",
    ),
    _counter(
        "pymcd_listen_disabled_seconds_total",
        "For how long clients had to wait to be let in.",
        _STATS,
        "time_in_listen_disabled_us",
        1e-6,
    ),
    # The group.
    _read(
        "pymcd_replication_coordinates",
        "1: this node orders the writes.",
        _GROUP,
        "role",
        _decides,
    ),
    _gauge(
        "pymcd_replication_epoch",
        "How often the part of the coordinator has changed hands.",
        _GROUP,
        "epoch",
    ),
    _read(
        "pymcd_replication_degraded",
        "1: there should be a peer, and nobody else is in sync.",
        _GROUP,
        "degraded",
        _word,
    ),
    _counter(
        "pymcd_replication_peers_lost_total",
        "How often a peer was lost.",
        _GROUP,
        "degraded_count",
    ),
    _counter(
        "pymcd_replication_degraded_seconds_total",
        "For how long nobody else was in sync.",
        _GROUP,
        "degraded_seconds",
    ),
    _gauge(
        "pymcd_replication_degraded_now_seconds",
        "For how long nobody else has been in sync now.",
        _GROUP,
        "degraded_now_seconds",
    ),
    _counter(
        "pymcd_replication_unprotected_writes_total",
        "Changed keys that were acknowledged while nobody else had them.",
        _GROUP,
        "unprotected_writes",
    ),
    _gauge(
        "pymcd_replication_unprotected_now",
        "Those of the present time alone.",
        _GROUP,
        "unprotected_now",
    ),
    _gauge(
        "pymcd_replication_ack_timeout_seconds",
        "How long clients may wait for a peer (--replication-ack-timeout).",
        _GROUP,
        "ack_timeout_ms",
        1e-3,
    ),
    _counter(
        "pymcd_replication_changes_total", "Number of the last change here.", _GROUP, "sequence"
    ),
    _gauge(
        "pymcd_replication_queue_items",
        "Changes that wait to be sent to a slow peer.",
        _GROUP,
        "queue_items",
    ),
    _gauge(
        "pymcd_replication_queue_bytes",
        "Sent to peers and not acknowledged.",
        _GROUP,
        "queue_bytes",
    ),
    _gauge(
        "pymcd_replication_backlog_items",
        "Changes remembered for a peer that is away.",
        _GROUP,
        "backlog_items",
    ),
    _gauge(
        "pymcd_replication_backlog_bytes",
        "Their memory, and that of remembered deletions.",
        _GROUP,
        "backlog_bytes",
    ),
    _gauge("pymcd_replication_tombstones", "Deletions remembered.", _GROUP, "tombstones"),
    _counter(
        "pymcd_replication_conflicts_total",
        "Keys that both sides of a partition had changed.",
        _GROUP,
        "conflicts",
    ),
    _counter(
        "pymcd_replication_clock_steps_total",
        "How often the wall clock was set.",
        _GROUP,
        "clock_steps",
    ),
    _counter(
        "pymcd_replication_stale_frames_total",
        "Messages of former times that were dropped.",
        _GROUP,
        "stale_frames",
    ),
    _counter(
        "pymcd_replication_forwards_sent_total",
        "Requests handed to the coordinator.",
        _GROUP,
        "forwards_sent",
    ),
    _counter(
        "pymcd_replication_forwards_executed_total",
        "Requests executed for other nodes.",
        _GROUP,
        "forwards_executed",
    ),
    _counter(
        "pymcd_replication_full_resyncs_total",
        "Copies of everything that were sent.",
        _GROUP,
        "full_resyncs",
    ),
    _counter(
        "pymcd_replication_partial_resyncs_total",
        "Copies sent of what a peer had missed.",
        _GROUP,
        "partial_resyncs",
    ),
    _counter(
        "pymcd_replication_reconnects_total", "Links that were made again.", _GROUP, "reconnects"
    ),
    _counter(
        "pymcd_replication_authentication_failures_total",
        "Links that a wrong secret was tried on.",
        _GROUP,
        "authentication_failures",
    ),
    _counter(
        "pymcd_replication_handshake_failures_total",
        "Links that came to nothing.",
        _GROUP,
        "handshake_failures",
    ),
    _read(
        "pymcd_witness_up",
        "1: the witness is linked, and can promise something.",
        _GROUP,
        "witness_link",
        _word,
    ),
    _read(
        "pymcd_replication_voters",
        "Those who make up the view that is voted on.",
        _GROUP,
        "voters",
        _count,
    ),
    _read(
        "pymcd_replication_may_fail",
        "Those of them any one of whom may fail now, and the others go on.",
        _GROUP,
        "may_fail",
        _count,
    ),
    # Each peer.
    _read("pymcd_peer_up", "1: there is a link to it.", _PEER, "link", _word),
    _read("pymcd_peer_in_sync", "1: it is in sync with this node.", _PEER, "in_sync", _word),
    _gauge("pymcd_peer_lag_items", "Changes that it has yet to acknowledge.", _PEER, "lag_items"),
    _gauge(
        "pymcd_peer_lag_seconds",
        "How long the oldest of them has been under way.",
        _PEER,
        "lag_ms",
        1e-3,
    ),
    _gauge(
        "pymcd_peer_unacked_bytes",
        "Sent to it and not acknowledged.",
        _PEER,
        "unacked_bytes",
    ),
    _gauge(
        "pymcd_peer_answer_seconds",
        "How long its acknowledgements took of late.",
        _PEER,
        "answer_ms",
        1e-3,
    ),
    _gauge(
        "pymcd_peer_last_heard_seconds",
        "Since it was last heard.",
        _PEER,
        "last_heard_ms",
        1e-3,
    ),
    _gauge(
        "pymcd_peer_clock_skew_seconds",
        "Its wall clock against ours.",
        _PEER,
        "clock_skew_ms",
        1e-3,
    ),
    _gauge(
        "pymcd_peer_copied_items",
        "Of the copy that is being sent to it, what it was sent.",
        _PEER,
        "copied_items",
    ),
    _gauge("pymcd_peer_copy_items", "The whole of that copy.", _PEER, "copied_of"),
    _gauge(
        "pymcd_peer_copies_broken",
        "Copies that broke off since it was in sync.",
        _PEER,
        "copies_broken",
    ),
    _gauge(
        "pymcd_peer_limit_bytes",
        "Its memory for items (-m).",
        _PEER,
        "memory_limit",
    ),
    _read(
        "pymcd_peer_differs",
        "Options that are not the same there.",
        _PEER,
        "differs",
        _count,
    ),
    # What another server has.
    _read(
        "pymcd_fill_running",
        "1: items of another server are being taken over.",
        Report.FILL,
        "state",
        _is_under_way,
    ),
    _read(
        "pymcd_fill_short",
        "1: that did not come to its end; perhaps not everything is here.",
        Report.FILL,
        "state",
        _is_short,
    ),
    _gauge(
        "pymcd_fill_listed_items", "Items that the other server has listed.", Report.FILL, "listed"
    ),
    Metric(
        "pymcd_fill_items_total",
        "counter",
        "Items of that list by what became of them.",
        Report.FILL,
        tuple(
            Sample((row,), f'outcome="{row}"')
            for row in ("filled", "there", "gone", "over", "too_large", "no_room", "not_found")
        ),
    ),
)

METRICS: Final[tuple[Metric, ...]] = _MEMCACHEDS + _OURS


def escaped(text: str) -> str:
    """Return a text as it may stand in a label."""
    return text.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")


def text_of(found: Mapping[Report, Sequence[Instance]]) -> Iterator[bytes]:
    """Yield the text of all metrics of which there are rows, in parts."""
    lines: list[str] = []
    for report, head, plan in _PLANS:
        is_new = True
        for rows, label in found.get(report, ()):
            for begin, labels, row, value_of in plan:
                value = rows.get(row) if value_of is None else value_of(rows)
                if value is None:
                    continue
                if is_new:
                    lines += head
                    is_new = False
                if label or labels:
                    comma = "," if label and labels else ""
                    lines.append(f"{begin}{{{label}{comma}{_filled(labels, rows)}}} {value}\n")
                else:
                    lines.append(f"{begin} {value}\n")
            if len(lines) >= LINES_OF_A_PART:
                yield "".join(lines).encode()
                lines.clear()
    yield "".join(lines).encode()


def _filled(labels: str, rows: Rows) -> str:
    """Return labels with rows in the place of their names in braces."""
    if "{" not in labels:
        return labels
    return labels.format_map({name: escaped(str(row)) for name, row in rows.items()})


def _plan(metric: Metric, sample: Sample) -> tuple[str, str, str, Callable[[Rows], Any] | None]:
    """Return how the line of a value begins, and where the value is; None: in a row as it is."""
    (row, *more) = sample.rows
    is_plain = not more and sample.scale == 1 and sample.read is _as_it_is
    return metric.name + sample.suffix, sample.labels, row, None if is_plain else sample.value


#: Of each metric its report, what stands above its values, and of each value how its line begins.
_PLANS: Final = [
    (
        metric.report,
        (f"# HELP {metric.name} {metric.help}\n", f"# TYPE {metric.name} {metric.kind}\n"),
        [_plan(metric, sample) for sample in metric.samples],
    )
    for metric in METRICS
]
