"""Settings: everything that is decided before the server starts, in one frozen value.

Owns the names, units, defaults and limits of all settings, and memcached's words for what is wrong
with them. It does not know where a value came from: `draft` makes one `Settings` of the command
line, the environment and configuration files; a test may build one directly. What can
change while the server runs (verbosity, memory limit, LRU tunables, the crawler) starts here and
then lives in the object that uses it.

Defaults are those of memcached 1.6.45, whose `stats settings` also named most of the fields.
Whatever a rule compares with another setting is checked last, as memcached does, with exit code 64.
A value which is wrong in itself has the exit code of its rule: memcached's for what memcached has,
mostly 1, and 64 for what is ours.
"""

from __future__ import annotations

import dataclasses
import itertools
import re
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, get_args

from . import limits
from .addresses import PORT_MAX, Address, AddressError, split_address
from .etcdurl import FORM, EtcdUrl, decode_etcd_url, is_url, without_password
from .exits import EXIT_FAILURE, EXIT_OS_ERROR, EXIT_USAGE, ConfigError, Field
from .limits import KIBIBYTE, MEBIBYTE

if TYPE_CHECKING:
    from collections.abc import Callable
    from ipaddress import IPv4Address, IPv6Address

ITEM_SIZE_MAX_LOWEST_BYTES = KIBIBYTE
ITEM_SIZE_MAX_HIGHEST_BYTES = 1 << 30
# The option is in kilobytes. A chunk must hold more than the headers of an item in pieces.
SLAB_CHUNK_MAX_LOWEST_BYTES = 512
LRU_PCT_SUM_MAX = 80
LISTENER_TAG_MAX_BYTES = 8
ANY_PORT = -1
INFINITY = float("inf")
# A delayed answer keeps a connection.
LOGIN_FAILURE_DELAY_MAX_S = 60

CLIENT_PORT = 11211
REPLICATION_PORT = 11212  # repcached's
COUCHBASE_PORT = 8091  # where clients of Couchbase look
HTTP_PORT = 11222
# With `--http`: load balancers look every second or so.
HTTP_DRAIN_DELAY_S = 2.0
PEERS_MAX = 15
NODE_NAME_MAX_CHARACTERS = 64
# Nobody waits longer for an answer, so nobody can mean more; and who waits less, never sleeps.
REPLICATION_ACK_TIMEOUT_MIN_S = 0.001
REPLICATION_ACK_TIMEOUT_MAX_S = 60

Protocol = Literal["auto", "ascii", "binary"]
# As memcached shows them, where `-B` says auto.
PROTOCOL_NAMES: dict[Protocol, str] = {
    "auto": "auto-negotiate",
    "ascii": "ascii",
    "binary": "binary",
}
HashAlgorithm = Literal["jenkins", "murmur3", "xxh3"]
MemoryAccounting = Literal["memcached", "resident"]
LogFormat = Literal["text", "json"]
ReplicationAck = Literal["async", "semi", "strict"]
# "tls" is as the settings say, "btls" never asks for a client certificate, "mtls" demands one.
Tls = Literal["tls", "btls", "mtls"]


class Listener(NamedTuple):
    """One address to listen on. `host` None is every interface; `tls` None is no TLS."""

    host: str | None
    port: int
    tls: Tls | None
    protocol: Protocol
    tag: str = ""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """How one server shall run. Raises `ConfigError` when the values do not go together."""

    # Where to listen. A port of -1 is any free port, 0 none; a Unix socket turns TCP and UDP off.
    port: int = CLIENT_PORT
    udp_port: int = 0
    unix_socket: str | None = None
    unix_mask: int = 0o700
    listen: tuple[str, ...] = ()
    listen_backlog: int = 1024

    # The process.
    daemon: bool = False
    pidfile: str | None = None
    user: str | None = None
    enable_coredumps: bool = False
    lock_memory: bool = False
    threads: int = 4  # reported only: there is one event loop
    num_napi_ids: int = 0
    verbose: int = 0
    log_file: str | None = None
    log_format: LogFormat = "text"
    drain_delay_s: float | None = None  # see `drain_s`
    shutdown_timeout_s: float = 10.0

    # Memory.
    memory_limit_bytes: int = 64 * MEBIBYTE
    memory_accounting: MemoryAccounting = "memcached"
    disable_evictions: bool = False
    item_size_max_bytes: int = MEBIBYTE
    slab_growth_factor: float = 1.25
    slab_min_size_bytes: int = 48
    slab_chunk_max_bytes: int = 512 * KIBIBYTE
    slab_sizes: tuple[int, ...] | None = None
    slab_reassign: bool = True
    slab_automove: int = 1
    slab_automove_ratio: float = 0.8
    slab_automove_window_s: int = 10
    slab_automove_freeratio: float = 0.01
    hashpower_init: int = 0
    hash_algorithm: HashAlgorithm = "murmur3"
    memory_file: str | None = None

    # LRU. `temporary_ttl_s` is None when there is no temporary LRU.
    lru_segmented: bool = True
    lru_maintainer: bool = True
    lru_crawler: bool = True
    lru_crawler_sleep_us: int = 100
    lru_crawler_tocrawl: int = 0
    hot_lru_pct: int = 20
    warm_lru_pct: int = 40
    hot_max_factor: float = 0.2
    warm_max_factor: float = 2.0
    temporary_ttl_s: int | None = None
    tail_repair_time_s: int = 0
    track_sizes: bool = False

    # Connections and commands.
    conn_limit: int = 1024
    maxconns_fast: bool = True
    idle_timeout_s: int = 0
    reqs_per_event: int = 20
    protocol: Protocol = "auto"
    disable_cas: bool = False
    enable_shutdown: bool = False
    disable_flush_all: bool = False
    disable_dumping: bool = False
    disable_watch: bool = False
    debug_commands: bool = False
    prefix_delimiter: str = ":"
    detail_enabled: bool = False
    watcher_logbuf_size_bytes: int = 256 * KIBIBYTE
    worker_logbuf_size_bytes: int = 64 * KIBIBYTE
    read_buf_mem_limit_bytes: int = 0

    # Who may come in.
    enable_sasl: bool = False
    auth_file: str | None = None
    login_failure_delay_s: float = 0.0
    login_timeout_s: float = limits.LOGIN_TIMEOUT_S  # 0: no limit
    enable_ssl: bool = False
    ssl_chain_cert: str | None = None
    ssl_key: str | None = None
    ssl_keyformat: int = 1  # OpenSSL's number: 1 is PEM
    ssl_verify_mode: int = 0  # as `-o ssl_verify_mode`: none, request, require, once
    ssl_ciphers: str | None = None
    ssl_ca_cert: str | None = None
    ssl_wbuf_size_bytes: int = 16 * KIBIBYTE
    ssl_session_cache: bool = False
    ssl_kernel_tls: bool = False
    ssl_min_version: int = 2  # as `-o ssl_min_version`: TLS 1.0, 1.1, 1.2, 1.3

    # The pair. Peers are kept as `host:port`, `[v6]:port`; one without a port has our own.
    peers: tuple[str, ...] = ()
    replication_listen: tuple[str, ...] = ()  # empty: see `replication_listeners`
    replication_port: int = REPLICATION_PORT
    replication_secret_file: str | None = None
    replication_tls: bool = False  # with the `ssl_*` files; clients need no TLS for that
    replication_ack: ReplicationAck = "semi"
    replication_ack_timeout_s: float = 0.08  # session managers give up at 0.1
    replication_queue: int = 1 << 16  # changed keys that wait for the peer
    replication_backlog_bytes: int = 64 * MEBIBYTE
    node_id: str | None = None
    cluster_id: str = "pymcd"
    sync_timeout_s: float = 30.0
    force_empty: bool = False  # begin with nothing though a peer is known to have data
    witness: str | None = None  # where the third vote is to be had; a URL is an etcd's
    quorum_timeout_s: float = 1.0  # clients wait so long for it, before they get errors
    tombstone_ttl_s: float = 3600.0

    # Where a running server is whose items are to be taken over.
    fill_from: str | None = None
    fill_from_login_file: str | None = None
    fill_from_tls: bool = False
    fill_from_ca_file: str | None = None  # who vouches for that server; means TLS

    # The bucket that clients of Couchbase see. `couchbase` is where it is asked for; None: nowhere.
    couchbase: str | None = None
    couchbase_name: str | None = None  # of this node, as those clients call it
    couchbase_peers: tuple[str, ...] = ()  # in the order of `peers`; empty: as we are ourselves

    # Where this server is asked by HTTP how it does; None: nowhere.
    http: str | None = None

    @property
    def replicated(self) -> bool:
        """Whether this server is, or may become, one of several that replicate."""
        return bool(self.peers or self.replication_listen)

    def peer_addresses(self) -> list[Address]:
        """Return where to dial, in the order given."""
        return [_parse_address(peer, self.replication_port, "peers") for peer in self.peers]

    @property
    def etcd(self) -> EtcdUrl | None:
        """Where the third vote is to be had, if that is an etcd."""
        if self.witness is None or not is_url(self.witness):
            return None
        try:
            return decode_etcd_url(self.witness)
        except ValueError as error:
            text = without_password(self.witness)
            message = (
                f"ERROR: Invalid witness {text}: {error}; {_ADDRESSES['witness'][1]} is possible."
            )
            raise ConfigError(message, EXIT_USAGE, ("witness",)) from None

    def witness_address(self) -> Address:
        """Return where to dial the witness, which there is, and is no etcd."""
        assert self.witness is not None
        return _parse_address(self.witness, self.replication_port, "witness")

    def fill_source(self) -> Address | None:
        """Return whose items are to be taken over, if anybody's are."""
        if self.fill_from is None:
            return None
        return _parse_address(self.fill_from, CLIENT_PORT, "fill_from")

    @property
    def fills_by_tls(self) -> bool:
        """Whether TLS is spoken with the server whose items are to be taken over."""
        is_wanted = self.fill_from_tls or self.fill_from_ca_file is not None
        return self.fill_from is not None and is_wanted

    @property
    def needs_certificates(self) -> bool:
        """Whether TLS is spoken with anybody but an etcd."""
        return self.enable_ssl or self.replication_tls or self.fills_by_tls

    def replication_listeners(self) -> list[Address]:
        """Return where peers may dial us; a port of -1 is any free one.

        Where nothing was said, that follows from the peers: loopback for peers on this host,
        every interface for others.
        """
        port = self.replication_port
        if self.replication_listen:
            return [
                _parse_address(address, port, "replication_listen")
                for address in self.replication_listen
            ]
        hosts = [address.host for address in self.peer_addresses()]
        if not all(map(is_loopback, hosts)):
            return [Address(None, port)]
        listeners = [Address("127.0.0.1", port)] if hosts else []
        if any(host and ":" in host for host in hosts):
            listeners.append(Address("::1", port))
        return listeners

    def couchbase_listener(self) -> Address | None:
        """Return where clients of Couchbase ask; a port of -1 is any free one."""
        if self.couchbase is None:
            return None
        return _parse_address(self.couchbase, COUCHBASE_PORT, "couchbase")

    def http_listener(self) -> Address | None:
        """Return where to be asked by HTTP; a port of -1 is any free one."""
        return None if self.http is None else _parse_address(self.http, HTTP_PORT, "http")

    @property
    def drain_s(self) -> float:
        """How long to go on when told to stop, and say so, before clients are turned away."""
        if self.drain_delay_s is not None:
            return self.drain_delay_s
        return 0.0 if self.http is None else HTTP_DRAIN_DELAY_S

    def couchbase_host(self) -> str | None:
        """Return the name of this node for clients of Couchbase; None: that of this host."""
        listener = self.couchbase_listener()
        host = self.couchbase_name or (listener and listener.host)
        return None if host in ("0.0.0.0", None) else host

    def couchbase_sites(self, port: int, http_port: int) -> dict[str, tuple[str, int, int]]:
        """Return by peer where clients of Couchbase find it: host, port, and that of its bucket.

        Where nothing was said, its ports are ours, which are given.
        """
        if self.couchbase_peers:
            sites = [_parse_site(text, port, http_port) for text in self.couchbase_peers]
        else:
            sites = [(str(peer.host), port, http_port) for peer in self.peer_addresses()]
        return dict(zip(self.peers, sites, strict=True))

    def listeners(self, port: int) -> list[Listener]:
        """Return where to listen; `port` is for addresses that name none."""
        if not self.listen:
            whole = Listener(None, port, "tls" if self.enable_ssl else None, self.protocol)
            return [whole]
        return [_parse_listener(address, port, self) for address in self.listen]

    @property
    def inter(self) -> str | None:
        """The interfaces as `stats settings` shows them: joined by commas, None for all."""
        return ",".join(self.listen) or None

    @property
    def num_threads_per_udp(self) -> int:
        """What `stats settings` shows: one where there are several interfaces."""
        return 1 if "," in (self.inter or "") else self.threads

    def __post_init__(self) -> None:
        for name in _FIELD_RULES:
            check_field(name, getattr(self, name))
        _check_sizes(self)
        _check_slab_sizes(self)
        _check_combinations(self)
        self.listeners(self.port)
        self.http_listener()
        self.fill_source()
        if self.replicated:
            _check_replication(self)
            # Frozen, so that only this moment may bring the names into one form.
            peers = dict.fromkeys(map(str, self.peer_addresses()))
            object.__setattr__(self, "peers", tuple(peers))
            if self.witness is not None and self.etcd is None:
                object.__setattr__(self, "witness", str(self.witness_address()))
        if self.couchbase is not None:
            _check_couchbase(self)


REPLICATION_PORT_RULE = f"1 to {PORT_MAX} is possible, and {ANY_PORT} for any free one"
_NAME_RULE = (
    f"1 to {NODE_NAME_MAX_CHARACTERS} printable ASCII characters without blanks are possible"
)
_SITE_RULE = "these clients need a host name or an IPv4 address"


class _Rule(NamedTuple):
    """Whether a value is right, and what to say where it is not, with the value in its place."""

    is_right: Callable[[Any], bool]
    message: str | Callable[[Any], str]
    exit_code: int = EXIT_FAILURE


def _one_of(kind: Any, message: str, exit_code: int = EXIT_FAILURE) -> _Rule:
    """Return the rule for the words of a `Literal`."""
    words = get_args(kind)
    return _Rule(lambda v: v in words, f"{message} ({', '.join(words)})", exit_code)


def _int32(least: int, message: str) -> _Rule:
    """Return the rule for what is an int in memcached, where a larger number is often negative."""
    return _Rule(lambda v: least <= v <= limits.INT32_MAX, message)


def _seconds(what: str) -> _Rule:
    message = f"The time to {what} must be a number of seconds, not negative"
    return _Rule(lambda v: 0 <= v < INFINITY, message, EXIT_USAGE)


def _is_site_host(host: str) -> bool:
    """Return whether a host can stand in a map; couchbase-client looks for colons there."""
    return re.fullmatch(r"[A-Za-z0-9_.-]{1,253}", host) is not None


def _is_name(name: str) -> bool:
    """Return whether statistics and log lines can show a name as one word; "-" means none."""
    return (
        1 <= len(name) <= NODE_NAME_MAX_CHARACTERS
        and all("!" <= character <= "~" for character in name)
        and name != "-"
    )


def _hashpower_error(value: int) -> str:
    if value < 12:
        return f"Initial hashtable multiplier of {value} is too low"
    return (
        f"Initial hashtable multiplier of {value} is too high\n"
        'Choose a value based on "STAT hash_power_level" from a running instance'
    )


_PORT = _Rule(lambda v: ANY_PORT <= v <= PORT_MAX, "ERROR: Invalid port number {}.", EXIT_USAGE)
# What is wrong with a field whatever the others are.
_FIELD_RULES: dict[str, _Rule] = {
    "port": _PORT,
    "udp_port": _PORT,
    "unix_mask": _Rule(
        lambda v: 0 <= v <= 0o7777, "ERROR: Invalid unix socket mask {:o}.", EXIT_USAGE
    ),
    "listen": _Rule(all, "ERROR: Empty address to listen on.", EXIT_USAGE),
    "protocol": _Rule(
        lambda v: v in get_args(Protocol),
        "Invalid value for binding protocol: {}\n -- should be one of auto, binary, or ascii",
        EXIT_USAGE,
    ),
    "conn_limit": _int32(1, "Maximum connections must be greater than 0"),
    "threads": _int32(1, "Number of threads must be greater than 0"),
    "num_napi_ids": _int32(0, "Maximum number of NAPI IDs must be greater than 0"),
    "reqs_per_event": _int32(1, "Number of requests per event must be greater than 0"),
    "prefix_delimiter": _Rule(lambda v: len(v) == 1 and v.isascii(), "No delimiter specified"),
    "slab_min_size_bytes": _int32(1, "Chunk size must be greater than 0"),
    "slab_chunk_max_bytes": _Rule(
        lambda v: SLAB_CHUNK_MAX_LOWEST_BYTES <= v <= limits.SLAB_PAGE_BYTES,
        lambda v: (
            "slab_chunk_max must be specified in kilobytes."
            if v > 0
            else "slab_chunk_max must be >= 0"
        ),
    ),
    "slab_growth_factor": _Rule(lambda v: 1.0 < v < INFINITY, "Factor must be greater than 1"),
    "slab_automove": _Rule(lambda v: 0 <= v <= 2, "slab_automove must be between 0 and 2"),
    "slab_automove_ratio": _Rule(lambda v: 0 < v <= 1, "slab_automove_ratio must be > 0 and < 1"),
    "slab_automove_window_s": _Rule(
        lambda v: 2 < v <= 1800, "slab_automove_window must be > 2 and < 1800"
    ),
    "hashpower_init": _Rule(lambda v: v == 0 or 12 <= v <= 32, _hashpower_error),
    "hash_algorithm": _one_of(HashAlgorithm, "Unknown hash_algorithm option"),
    "tail_repair_time_s": _Rule(
        lambda v: v == 0 or 10 <= v <= limits.INT32_MAX,
        "Cannot set tail_repair_time to less than 10 seconds",
    ),
    "lru_crawler_sleep_us": _Rule(
        lambda v: 0 <= v <= 1_000_000, "LRU crawler sleep must be between 0 and 1 second"
    ),
    "lru_crawler_tocrawl": _Rule(
        lambda v: 0 <= v <= limits.UINT32_MAX, "lru_crawler_tocrawl takes a numeric 32bit value"
    ),
    "hot_lru_pct": _Rule(lambda v: 1 <= v < 80, "hot_lru_pct must be > 1 and < 80"),
    "warm_lru_pct": _Rule(lambda v: 1 <= v < 80, "warm_lru_pct must be > 1 and < 80"),
    "hot_max_factor": _Rule(lambda v: 0 < v < INFINITY, "hot_max_factor must be > 0"),
    "warm_max_factor": _Rule(lambda v: 0 < v < INFINITY, "warm_max_factor must be > 0"),
    "temporary_ttl_s": _Rule(
        lambda v: v is None or 0 <= v <= limits.UINT32_MAX,
        f"temporary_ttl must be 0 to {limits.UINT32_MAX} seconds",
    ),
    "idle_timeout_s": _int32(0, f"idle_timeout must be 0 to {limits.INT32_MAX} seconds"),
    "watcher_logbuf_size_bytes": _Rule(
        lambda v: v > 0, "watcher_logbuf_size must be greater than 0"
    ),
    "worker_logbuf_size_bytes": _Rule(lambda v: v > 0, "worker_logbuf_size must be greater than 0"),
    "ssl_verify_mode": _Rule(
        lambda v: 0 <= v <= 3, "Invalid ssl_verify_mode. Use help to see valid options."
    ),
    "ssl_min_version": _Rule(
        lambda v: 0 <= v <= 3, "Invalid ssl_min_version. Use help to see valid options."
    ),
    "memory_accounting": _one_of(MemoryAccounting, "Unknown memory_accounting option"),
    "login_failure_delay_s": _Rule(
        lambda v: 0 <= v <= LOGIN_FAILURE_DELAY_MAX_S,
        f"The delay after a failed login must be 0 to {LOGIN_FAILURE_DELAY_MAX_S} seconds",
        EXIT_USAGE,
    ),
    "login_timeout_s": _seconds("log in"),
    "log_format": _one_of(LogFormat, "Unknown log format", EXIT_USAGE),
    "drain_delay_s": _seconds("drain")._replace(is_right=lambda v: v is None or 0 <= v < INFINITY),
    "shutdown_timeout_s": _seconds("shut down in"),
    "peers": _Rule(all, "ERROR: Empty peer.", EXIT_USAGE),
    "witness": _Rule(lambda v: v != "", "ERROR: Empty witness.", EXIT_USAGE),
    "quorum_timeout_s": _seconds("wait for votes"),
    "replication_listen": _Rule(all, "ERROR: Empty address to listen on for peers.", EXIT_USAGE),
    "replication_port": _Rule(
        lambda v: v == ANY_PORT or 1 <= v <= PORT_MAX,
        f"ERROR: Invalid replication port number {{}}: {REPLICATION_PORT_RULE}.",
        EXIT_USAGE,
    ),
    "replication_ack": _one_of(ReplicationAck, "Unknown replication-ack {}", EXIT_USAGE),
    "replication_ack_timeout_s": _Rule(
        lambda v: REPLICATION_ACK_TIMEOUT_MIN_S <= v <= REPLICATION_ACK_TIMEOUT_MAX_S,
        "The time to wait for a peer's acknowledgement must be"
        f" {REPLICATION_ACK_TIMEOUT_MIN_S} to {REPLICATION_ACK_TIMEOUT_MAX_S} seconds",
        EXIT_USAGE,
    ),
    "replication_queue": _Rule(
        lambda v: 1 <= v <= limits.INT32_MAX,
        "The replication queue must hold at least 1 change",
        EXIT_USAGE,
    ),
    "replication_backlog_bytes": _Rule(
        lambda v: 0 <= v <= 1 << 40,
        "The replication backlog must be a size such as 64m, or 0 for none",
        EXIT_USAGE,
    ),
    "node_id": _Rule(
        lambda v: v is None or _is_name(v), f"Invalid node id {{!r}}: {_NAME_RULE}", EXIT_USAGE
    ),
    "cluster_id": _Rule(_is_name, f"Invalid cluster id {{!r}}: {_NAME_RULE}", EXIT_USAGE),
    "sync_timeout_s": _seconds("wait for the first synchronisation"),
    "tombstone_ttl_s": _Rule(
        lambda v: 0 < v < INFINITY,
        "The time to remember deletions must be a number of seconds above 0",
        EXIT_USAGE,
    ),
    "couchbase_name": _Rule(
        lambda v: v is None or _is_site_host(v),
        f"ERROR: Invalid name for clients of Couchbase {{}}: {_SITE_RULE}.",
        EXIT_USAGE,
    ),
}


def check_field(name: str, value: Any) -> None:
    """Raise `ConfigError` if `value` cannot be the setting `name`, whatever the others are.

    `Any`, since each field has a type of its own.
    """
    rule = _FIELD_RULES.get(name)
    if rule is not None and not rule.is_right(value):
        say = rule.message.format if isinstance(rule.message, str) else rule.message
        raise ConfigError(say(value), rule.exit_code)


def _clash(message: str, *fields: Field) -> ConfigError:
    return ConfigError(message, EXIT_USAGE, fields)


def _check_sizes(settings: Settings) -> None:
    """Refuse an item limit, memory limit and chunk size which do not fit each other."""
    s = settings
    item, memory, chunk = "item_size_max_bytes", "memory_limit_bytes", "slab_chunk_max_bytes"
    if s.num_napi_ids > s.threads:
        raise _clash(
            f"Number of napi_ids({s.num_napi_ids}) cannot be greater than"
            f" number of threads({s.threads})",
            "num_napi_ids",
            "threads",
        )
    if s.item_size_max_bytes < ITEM_SIZE_MAX_LOWEST_BYTES:
        raise _clash("Item max size cannot be less than 1024 bytes.", item)
    if s.item_size_max_bytes > s.memory_limit_bytes // 2:
        raise _clash("Cannot set item size limit higher than 1/2 of memory max.", item, memory)
    if s.item_size_max_bytes > ITEM_SIZE_MAX_HIGHEST_BYTES:
        raise _clash("Cannot set item size limit higher than a gigabyte.", item)
    if s.slab_chunk_max_bytes > s.item_size_max_bytes:
        raise _clash(
            f"slab_chunk_max (bytes: {s.slab_chunk_max_bytes}) cannot be larger than"
            f" -I (item_size_max {s.item_size_max_bytes})",
            chunk,
            item,
        )
    if s.item_size_max_bytes % s.slab_chunk_max_bytes:
        raise _clash(
            f"-I (item_size_max: {s.item_size_max_bytes}) must be evenly divisible by"
            f" slab_chunk_max (bytes: {s.slab_chunk_max_bytes})",
            item,
            chunk,
        )
    if limits.SLAB_PAGE_BYTES % s.slab_chunk_max_bytes:
        raise _clash(
            f"slab_chunk_max (bytes: {s.slab_chunk_max_bytes}) must divide evenly into"
            f" {limits.SLAB_PAGE_BYTES} (slab_page_size)",
            chunk,
        )


def _check_slab_sizes(settings: Settings) -> None:
    """Refuse a list of slab classes which memcached would not take."""
    last = 0
    sizes = settings.slab_sizes
    if sizes is None:
        return
    if not sizes:
        raise _clash("Missing slab_sizes argument", "slab_sizes")
    for size in sizes:
        if not settings.slab_min_size_bytes <= size <= settings.slab_chunk_max_bytes:
            raise _clash(f"slab size {size} is out of valid range", "slab_sizes")
        if size <= last:
            raise _clash(
                f"slab size {size} cannot be lower than or equal to a previous class size",
                "slab_sizes",
            )
        if size <= last + limits.SLAB_CHUNK_ALIGN_BYTES:
            raise _clash(
                f"slab size {size} must be at least {limits.SLAB_CHUNK_ALIGN_BYTES} bytes larger"
                " than previous class",
                "slab_sizes",
            )
        last = size
    if len(sizes) >= limits.SLAB_CLASSES_MAX:
        raise _clash("too many slab classes specified", "slab_sizes")


def _check_combinations(settings: Settings) -> None:
    """Refuse settings which contradict each other."""
    s = settings
    if s.hot_lru_pct + s.warm_lru_pct > LRU_PCT_SUM_MAX:
        raise _clash(
            f"hot_lru_pct + warm_lru_pct cannot be more than {LRU_PCT_SUM_MAX}% combined",
            "hot_lru_pct",
            "warm_lru_pct",
        )
    if s.temporary_ttl_s is not None and not s.lru_maintainer:
        raise _clash(
            "temporary_ttl requires lru_maintainer to be enabled",
            "temporary_ttl_s",
            "lru_maintainer",
        )
    if s.enable_sasl and s.protocol != "binary":
        raise _clash(
            "ERROR: You cannot allow the ASCII protocol while using SASL.",
            "enable_sasl",
            "protocol",
        )
    if s.enable_sasl and s.udp_port != 0:
        raise _clash(
            "ERROR: Cannot enable UDP while using binary SASL authentication.",
            "enable_sasl",
            "udp_port",
        )
    if s.auth_file is not None and s.protocol != "ascii":
        raise _clash(
            "ERROR: You cannot allow the BINARY protocol while using ascii authentication tokens.",
            "auth_file",
            "protocol",
        )
    if s.auth_file is not None and s.udp_port != 0:
        raise _clash(
            "Cannot use UDP with ascii authentication enabled (-U 0 to disable)",
            "auth_file",
            "udp_port",
        )
    if s.enable_ssl and s.port == 0:
        raise _clash("ERROR: You cannot enable SSL without a TCP port.", "enable_ssl", "port")


def _check_replication(settings: Settings) -> None:
    """Refuse a pair that could not keep its promises, or whose link any stranger could use."""
    s = settings
    addresses = s.peer_addresses()
    if len(set(addresses)) > PEERS_MAX:
        raise _clash(f"ERROR: There can be at most {PEERS_MAX} peers.", "peers")
    if s.disable_cas:
        raise _clash(
            "ERROR: Replication needs cas uniques: -C (--disable-cas) cannot go with --peer or"
            " --replication-listen.",
            "disable_cas",
            "peers" if s.peers else "replication_listen",
        )
    if s.replication_tls:
        for name in ("ssl_chain_cert", "ssl_ca_cert"):
            if not getattr(s, name):
                raise _clash(
                    f"ERROR: --replication-tls needs -o {name}=FILE: the nodes show each other"
                    " certificates (ssl_chain_cert, ssl_key) and accept those signed by"
                    " ssl_ca_cert.",
                    "replication_tls",
                    name,
                )
    for word, peer in zip(s.peers, addresses, strict=True):
        _check_reach(s, f"replication with {peer.host}", peer, ("peers", word))
        if s.couchbase is not None and not s.couchbase_peers:
            _check_site_host(str(peer.host), ("peers", word))
    if s.witness is not None:
        witness = s.witness_address() if s.etcd is None else None
        if witness is not None:
            _check_reach(s, f"a witness at {witness.host}", witness, ("witness", s.witness))
        if not s.peers or witness in addresses:
            raise _clash(
                "ERROR: A witness is for two nodes at least, and is none of them: give the other"
                " node with --peer, and the witness another address.",
                "witness",
                "peers",
            )
    listeners = s.replication_listeners()
    # Without words these listen no wider than the peers are.
    for word, here in zip(s.replication_listen, listeners, strict=False):
        _check_reach(s, f"listening for peers on {here}", here, ("replication_listen", word))
    if s.unix_socket is None:
        _check_ports(s, listeners)


def _check_reach(settings: Settings, what: str, address: Address, field: Field) -> None:
    """Refuse a link with another host on which nobody has to prove who it is."""
    s = settings
    if s.replication_secret_file is None and not s.replication_tls and not is_loopback(address[0]):
        raise _clash(
            f"ERROR: {what} needs --replication-secret-file or --replication-tls: without one of"
            " them, whoever reaches the replication port could read and change all items. Give"
            " every node a file with the same secret (head -c 32 /dev/urandom | base64 > FILE).",
            field,
        )


def _check_ports(settings: Settings, replication: list[Address]) -> None:
    """Refuse a port that is both for clients and for peers."""
    s = settings
    # An address that names no port has 0 here, and the port of -p or --replication-port.
    clients = zip(s.listen or ("",), s.listeners(0), strict=True)
    peers = zip(s.replication_listen or ("",) * len(replication), replication, strict=True)
    for (word, client), (peer_word, peer) in itertools.product(clients, peers):
        port = client.port or s.port
        if port == peer.port > 0 and (None in (client.host, peer.host) or client.host == peer.host):
            own = client.port > 0
            peer_own = bool(peer_word and split_address(peer_word)[1])
            raise _clash(
                f"ERROR: Port {port} cannot be both for clients and for peers: choose another with"
                f" {'-l' if own else '-p'} or"
                f" {'--replication-listen' if peer_own else '--replication-port'}.",
                ("listen", word) if own else "port",
                ("replication_listen", peer_word) if peer_own else "replication_port",
            )


def _check_couchbase(settings: Settings) -> None:
    """Refuse a bucket that its clients could not use."""
    s = settings
    listener = s.couchbase_listener()
    assert listener is not None
    if s.unix_socket is not None or not s.port:
        cause = "port" if s.unix_socket is None else "unix_socket"
        raise _clash("ERROR: --couchbase needs a TCP port.", "couchbase", cause)
    if not any(each.tls is None and each.protocol != "ascii" for each in s.listeners(s.port)):
        raise _clash(
            "ERROR: --couchbase needs a port for the binary protocol without TLS: its clients speak"
            " nothing else.",
            "couchbase",
            "enable_ssl",
            "protocol",
        )
    host = s.couchbase_host()
    if host is not None and not _is_site_host(host):
        raise _clash(
            f"ERROR: --couchbase {listener} needs --couchbase-name: {_SITE_RULE}.",
            "couchbase",
            "couchbase_name",
        )
    if len(s.couchbase_peers) not in (0, len(s.peers)):
        raise _clash(
            "ERROR: --couchbase-peer is to be given once for each --peer, in the same order.",
            "couchbase_peers",
            "peers",
        )
    s.couchbase_sites(s.port, listener.port)


def _parse_site(text: str, port: int, http_port: int) -> tuple[str, int, int]:
    """Take `HOST[:PORT[:HTTP_PORT]]` apart."""
    host, *ports = text.split(":")
    numbers = [port, http_port]
    for index, word in enumerate(ports):
        if index < 2 and word.isascii() and word.isdigit() and 0 < int(word[:9]) <= PORT_MAX:
            numbers[index] = int(word)
        else:
            raise _clash(
                f"ERROR: Invalid --couchbase-peer {text}: HOST, HOST:PORT or HOST:PORT:HTTP_PORT is"
                " possible.",
                ("couchbase_peers", text),
            )
    _check_site_host(host, ("couchbase_peers", text))
    return host, numbers[0], numbers[1]


def _check_site_host(host: str, field: Field) -> None:
    if not _is_site_host(host):
        raise _clash(
            f"ERROR: Clients of Couchbase cannot use {host!r}: {_SITE_RULE}. Name it with"
            " --couchbase-peer.",
            field,
        )


def is_loopback(host: str | None) -> bool:
    """Return whether an address surely never leaves this host; other names than localhost may."""
    if host is None:
        return False
    if host.lower().rstrip(".") == "localhost":
        return True
    address = _ip_address(host)
    address = getattr(address, "ipv4_mapped", None) or address
    return address is not None and address.is_loopback


def _ip_address(host: str) -> IPv4Address | IPv6Address | None:
    import ipaddress  # only who replicates needs it

    try:
        return ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return None


# Settings that are addresses: what they are called, and what they may look like.
_ADDRESSES = {
    "peers": ("peer", "HOST, HOST:PORT or [V6]:PORT"),
    "witness": ("witness", f"HOST, HOST:PORT, [V6]:PORT or {FORM}"),
    "fill_from": ("server to fill from", "HOST, HOST:PORT or [V6]:PORT"),
    "replication_listen": ("replication address", "HOST, HOST:PORT, [V6]:PORT or *"),
    "couchbase": ("address for --couchbase", "HOST, HOST:PORT, * or *:PORT"),
    "http": ("address for --http", "HOST, HOST:PORT, [V6]:PORT, * or *:PORT"),
}


def _parse_address(text: str, default_port: int, field: str) -> Address:
    """Take `HOST[:PORT]`, `[V6]:PORT` or `V6` apart; who listens may say `*` and port 0."""
    what, possible = _ADDRESSES[field]
    listens = "*" in possible

    def refusal(reason: str) -> ConfigError:
        message = f"ERROR: Invalid {what} {text}: {reason}; {possible} is possible."
        return ConfigError(message, EXIT_USAGE, ((field, text),))

    try:
        host, port = split_address(text)
    except AddressError as error:
        raise refusal(str(error)) from None
    if text.startswith("[") and ":" not in host:
        raise refusal("only an IPv6 address stands in brackets")
    if port is None:
        port = default_port
        if port == ANY_PORT and not listens:
            port = REPLICATION_PORT
    elif port == 0:
        if not listens:
            raise refusal(f"the port of a {what} cannot be 0")
        port = ANY_PORT
    if host == "*" and listens:
        return Address(None, port)
    if ":" in host and _ip_address(host) is None:
        raise refusal("more than one colon is only in an IPv6 address")
    if field == "http" and host.isdigit():
        raise refusal("a port alone is no address")
    if not host or not all("!" <= each <= "~" for each in host) or any(c in host for c in "*/,;"):
        raise refusal(f"{host!r} is no host")
    return Address(host, port)


# memcached writes `negotiating` here for what `-B` calls auto.
_LISTENER_PROTOCOLS: dict[str, Protocol] = {
    "ascii": "ascii",
    "binary": "binary",
    "negotiating": "auto",
    "auto": "auto",
}

_TLS_PREFIXES: dict[str, Tls | None] = {"notls": None, "btls": "btls", "mtls": "mtls"}


def _parse_listener(address: str, default_port: int, settings: Settings) -> Listener:
    """Take one address of `-l` apart: `[notls:][proto[ascii]:][tag[name]:]host[:port]`.

    `tag_name_:` is the same tag, without what a shell would expand.

    # memcached: server_sockets, which answers a bad address with exit code 71.
    """
    rest = address
    tls: Tls | None = "tls" if settings.enable_ssl else None
    for prefix, wanted in _TLS_PREFIXES.items():
        if rest.startswith(prefix + ":"):
            if not settings.enable_ssl:
                raise _listen_error(f"'{prefix}' option is valid only when SSL is enabled", address)
            tls = wanted
            rest = rest[len(prefix) + 1 :]
            break
    protocol = settings.protocol
    if rest.startswith("proto["):
        name, closed, rest = rest[len("proto[") :].partition("]")
        if not closed or name not in _LISTENER_PROTOCOLS:
            raise _listen_error(f'Invalid protocol spec: "{name}"', address)
        protocol = _LISTENER_PROTOCOLS[name]
        rest = rest.removeprefix(":")
    tag = ""
    if rest.startswith(("tag[", "tag_")):
        end = "]" if rest[len("tag")] == "[" else "_"
        tag, closed, rest = rest[len("tag[") :].partition(end)
        if not closed:
            raise _listen_error(f'Invalid tag in socket config: "{tag}"', address)
        if not (1 <= len(tag) <= LISTENER_TAG_MAX_BYTES and tag.isascii()):
            raise _listen_error(
                f'Listener tags must be between 1 and 8 characters: "{tag}"', address
            )
        rest = rest.removeprefix(":")
    try:
        host, port = split_address(rest)
    except AddressError as error:
        reason = f'Invalid IPV6 address: "{rest}"'
        if error.port is not None:
            reason = f'Invalid port number: "{error.port}"'
        raise _listen_error(reason, address) from None
    if not host:
        raise _listen_error("Name or service not known", address)
    # A port that is written as zero is any free one.
    port = default_port if port is None else port or ANY_PORT
    return Listener(None if host == "*" else host, port, tls, protocol, tag)


def _listen_error(reason: str, address: str) -> ConfigError:
    message = f"failed to listen on one of interface(s) {address}: {reason}"
    return ConfigError(message, EXIT_OS_ERROR, (("listen", address),))
