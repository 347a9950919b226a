"""The options: their names, letters and help, and what their words do to a `Draft`.

Owns the table of all options, and the names of `-o`. Does not know where the words come from
(`sources`) nor how they were split (`arguments`). What a setting may be is for `config` to say,
which is not loaded here: who only wants the help would wait for it.

Numbers are read as memcached reads them, by C's rules: leading digits count and what follows them
does not (`-c 512x` is 512). Where memcached would take a word without any digit for zero and serve
nothing (`-p abc`), or wrap a negative number, we refuse: nobody means that.
"""

from __future__ import annotations

import math
import re
from itertools import chain
from typing import TYPE_CHECKING, NamedTuple

from .exits import EXIT_USAGE, ConfigError
from .limits import INT32_MAX, KIBIBYTE, MEBIBYTE, SLAB_PAGE_BYTES, UINT32_MAX
from .spelling import did_you_mean

if TYPE_CHECKING:
    from collections.abc import Callable

    from .draft import Draft

    Apply = Callable[["Draft", str], None]
    ApplyExtended = Callable[["Draft", str | None], None]
    Row = Callable[[str], ApplyExtended]


# How words are read. What cannot be read is a `ValueError`, with what to add to its message.

_INTEGER = re.compile(r"\s*+([+-]?[0-9]++)")
_DECIMAL = re.compile(r"\s*+([+-]?(?:[0-9]++\.?[0-9]*+|\.[0-9]++)(?:[eE][+-]?[0-9]++)?)")
_MEGABYTES = re.compile(r"\s*+([+-]?[0-9]++)\s*+(?:[mM][bB]?)?\s*+$")
_WHOLE_INTEGER = re.compile(r"\s*+([+-]?[0-9]++)(?:\s.*)?$", re.DOTALL)


def _integer(text: str) -> int:
    found = _INTEGER.match(text)
    if not found:
        raise ValueError
    # No setting has more digits; longer ones would only cost time.
    return int(found[1][:20])


def _whole_integer(text: str) -> int:
    """Read a number that must be the whole word. # memcached: safe_strtol"""
    found = _WHOLE_INTEGER.match(text)
    if not found:
        raise ValueError
    return int(found[1][:20])


def _integer_or_zero(text: str) -> int:
    return _integer(text) if _INTEGER.match(text) else 0


def _integer_not_zero(text: str) -> int:
    """Make of zero, which stands for "not set" in `Settings`, a value that is refused."""
    return _integer_or_zero(text) or -1


def _decimal_or_zero(text: str) -> float:
    found = _DECIMAL.match(text)
    return float(found[1]) if found else 0.0


def _whole(unit: int = 1) -> Callable[[str], int]:
    """Read a number that must be the whole word, as memcached's safe_strtoul does."""

    def read(text: str) -> int:
        number = _whole_integer(text) * unit
        if not 0 <= number <= UINT32_MAX:
            raise ValueError
        return number

    return read


def _kilobytes(text: str) -> int:
    return _whole_integer(text) * KIBIBYTE


def _octal(text: str) -> int:
    found = re.match(r"\s*+([0-7]{1,8})", text)
    if not found:
        raise ValueError
    return int(found[1], 8)


def _memory_limit(text: str) -> int:
    # memcached would take `2g` for 2 MB.
    found = _MEGABYTES.match(text)
    megabytes = int(found[1][:20]) if found else INT32_MAX + 1
    if megabytes > INT32_MAX:
        raise ValueError(": not a number of megabytes")
    return megabytes * MEBIBYTE


def _item_size(text: str) -> int:
    unit = {"k": KIBIBYTE, "m": MEBIBYTE}.get(text[-1:].lower(), 1)
    return _integer_or_zero(text) * unit


def _size(text: str) -> int:
    """Read a size of ours: all of the word counts, with suffix k, m or g."""
    found = re.fullmatch(r"([0-9]{1,15})([kmgKMG]?)[bB]?", text)
    if not found:
        return -1  # which no size may be
    return int(found[1]) << {"": 0, "k": 10, "m": 20, "g": 30}[found[2].lower()]


def _replication_port(text: str) -> int:
    if not re.fullmatch(r"-?[0-9]{1,9}", text):
        from .config import REPLICATION_PORT_RULE  # only who is mistaken waits for it

        raise ValueError(f": {REPLICATION_PORT_RULE}")
    return int(text)


def _seconds(text: str) -> float:
    # No setting allows -1.
    return float(text) if _DECIMAL.fullmatch(text) else -1.0


def _idle_timeout(text: str) -> int:
    # memcached: conn_timeout_thread. What is negative is longer than any time.
    return max(0, _integer(text))


def _hashpower(text: str) -> int:
    number = _integer_or_zero(text)
    if number == 0:
        raise ConfigError("Initial hashtable multiplier of 0 is too low")
    return number


def _slab_sizes(text: str) -> tuple[int, ...]:
    # What is no number is a size of 0, which is out of range.
    return tuple(
        int(word[:20]) if word.isascii() and word.isdigit() else 0
        for word in text.split("-")
        if word
    )


def _ratio(text: str) -> float:
    number = float(text) if _DECIMAL.fullmatch(text) else math.nan
    if not math.isfinite(number):
        raise ValueError
    return number


def _text(text: str) -> str | None:
    """An empty word is as good as none."""
    return text or None


def _same(text: str) -> str:
    return text


# What options do.


def _store(name: str, read: Callable[[str], object], what: str = "") -> Apply:
    """Note a word; `what` it is called where it cannot be read."""

    def apply(draft: Draft, text: str) -> None:
        try:
            value = read(text)
        except ValueError as error:
            raise ConfigError(f"ERROR: Invalid {what} {text}{error}.", EXIT_USAGE) from None
        draft.set(name, value)

    return apply


def _switch(name: str) -> Apply:
    return lambda draft, text: draft.set(name, True)


def _lock_memory(draft: Draft, text: str) -> None:
    draft.set("lock_memory", True)
    draft.notice("-k has no effect here")


def _verbose(draft: Draft, text: str) -> None:
    draft.set("verbose", draft.get("verbose") + 1)


def _addresses(name: str, separators: str = ",") -> Apply:
    """Gather addresses from several options and lists, each once."""

    def apply(draft: Draft, text: str) -> None:
        words = [word.strip() for word in re.split(f"[{separators}]", text)]
        # As in memcached, a comma too many is nothing; where there is nothing else, it is refused.
        words = list(filter(None, words)) or [""]
        draft.set(name, tuple(dict.fromkeys([*draft.get(name), *words])))

    return apply


def _prefix_delimiter(draft: Draft, text: str) -> None:
    draft.set("prefix_delimiter", text[:1])
    draft.set("detail_enabled", True)


def _napi_ids(draft: Draft, text: str) -> None:
    draft.set("num_napi_ids", _integer_not_zero(text))
    draft.notice("-N has no effect here")


def _threads(draft: Draft, text: str) -> None:
    draft.set("threads", _integer_or_zero(text))
    threads = draft.get("threads")
    # memcached 1.6.45 says something from 65 on: that there are too many.
    said = f"-t {threads} has no effect: a server uses one core; for more start several"
    draft.warn("-t", said if threads > 1 else "")


def _memory_file(draft: Draft, text: str) -> None:
    draft.set("memory_file", _text(text))
    draft.warn("-e", "-e has no effect here: the cache starts empty" if text else "")


def _extended(draft: Draft, text: str) -> None:
    """Apply the names of one `-o`, in order, split as getsubopt(3) does."""
    rest = text
    while rest:
        word, _, rest = rest.partition(",")
        name, equals, value = word.partition("=")
        apply = EXTENDED.get(name)
        if apply is None:
            for prefix, what in REFUSED_PREFIXES.items():
                if name.startswith(prefix):
                    raise ConfigError(f'Illegal suboption "{word}": there is no {what} here')
            meant = did_you_mean(name, EXTENDED)
            raise ConfigError(f'Illegal suboption "{word}"{meant}')
        apply(draft, value if equals else None)


# The names of `-o`. A row is a function that makes of its name what the name does.


def _on(field: str = "", value: object = True) -> Row:
    """Set what the name says, or the field."""
    return lambda name: lambda draft, text: draft.set(field or name.removeprefix("no_"), value)


def _many(**values: object) -> Row:
    def apply(draft: Draft, text: str | None) -> None:
        for name, value in values.items():
            draft.set(name, value)

    return lambda name: apply


def _argument(
    read: Callable[[str], object],
    field: str = "",
    *,
    missing: str = "Missing {} argument",
    wrong: str = "could not parse argument to {}",
) -> Row:
    """Note the word that goes with the name."""

    def row(name: str) -> ApplyExtended:
        def apply(draft: Draft, text: str | None) -> None:
            if text is None:
                raise ConfigError(missing.format(name))
            try:
                value = read(text)
            except ValueError:
                raise ConfigError(wrong.format(name)) from None
            draft.set(field or name, value)

        return apply

    return row


def _slab_automove(name: str) -> ApplyExtended:
    apply = _argument(_integer)(name)
    return lambda draft, text: apply(draft, "1" if text is None else text)


def _slab_chunk_max(name: str) -> ApplyExtended:
    def apply(draft: Draft, text: str | None) -> None:
        # In bytes until memcached 1.6.18, whose help said kilobytes already.
        _argument(_kilobytes, "slab_chunk_max_bytes")(name)(draft, text)
        draft.slab_chunk_max_given = True

    return apply


def _no_modern(name: str) -> ApplyExtended:
    def apply(draft: Draft, text: str | None) -> None:
        if not draft.slab_chunk_max_given:
            draft.set("slab_chunk_max_bytes", SLAB_PAGE_BYTES)
        _many(
            slab_reassign=False,
            slab_automove=0,
            maxconns_fast=False,
            lru_segmented=False,
            lru_crawler=False,
            lru_maintainer=False,
            hash_algorithm="jenkins",
        )(name)(draft, text)

    return apply


def _noted(row: Row) -> Row:
    """Check and remember a value, which `stats settings` shows, but which changes nothing."""

    def noted(name: str) -> ApplyExtended:
        def apply(draft: Draft, text: str | None) -> None:
            row(name)(draft, text)
            draft.notice(f"-o {name} has no effect here")

        return apply

    return noted


_NOTHING: Row = lambda name: lambda draft, text: None  # noqa: E731 - the others are functions
_NUMERIC = "Missing numeric argument for {}"
_VALUE = "Missing {} value"

REFUSED_PREFIXES = {"ext_": "external storage", "proxy_": "proxy"}

_EXTENDED: dict[str, Row] = {
    "maxconns_fast": _on(),
    "no_maxconns_fast": _on(value=False),
    "hot_lru_pct": _argument(_integer_or_zero),
    "warm_lru_pct": _argument(_integer_or_zero),
    "hot_max_factor": _argument(_decimal_or_zero),
    "warm_max_factor": _argument(_decimal_or_zero),
    "temporary_ttl": _argument(_integer, "temporary_ttl_s"),
    "idle_timeout": _argument(_idle_timeout, "idle_timeout_s", missing=_NUMERIC),
    "slab_chunk_max": _slab_chunk_max,
    "slab_sizes": _argument(_slab_sizes),
    "track_sizes": _on(),
    "lru_crawler": _on(),
    "no_lru_crawler": _on(value=False),
    "lru_crawler_sleep": _argument(_integer_or_zero, "lru_crawler_sleep_us", missing=_VALUE),
    "lru_crawler_tocrawl": _argument(
        _whole(), missing=_VALUE, wrong="lru_crawler_tocrawl takes a numeric 32bit value"
    ),
    "lru_maintainer": _many(lru_maintainer=True, lru_segmented=True),
    "no_lru_maintainer": _many(lru_maintainer=False, lru_segmented=False),
    "slab_reassign": _on(),
    "no_slab_reassign": _on(value=False),
    "slab_automove": _slab_automove,
    "no_slab_automove": _on(value=0),
    "slab_automove_ratio": _argument(_decimal_or_zero),
    "slab_automove_window": _argument(_integer_or_zero, "slab_automove_window_s"),
    "watcher_logbuf_size": _argument(_whole(KIBIBYTE), "watcher_logbuf_size_bytes"),
    "worker_logbuf_size": _argument(_whole(KIBIBYTE), "worker_logbuf_size_bytes"),
    "ssl_chain_cert": _argument(_same),
    "ssl_key": _argument(_same),
    "ssl_keyformat": _argument(_whole()),
    "ssl_verify_mode": _argument(_whole()),
    "ssl_ciphers": _argument(_same),
    "ssl_ca_cert": _argument(_same),
    "ssl_wbuf_size": _argument(_whole(KIBIBYTE), "ssl_wbuf_size_bytes"),
    "ssl_session_cache": _on(),
    "ssl_kernel_tls": _on(),
    "ssl_min_version": _argument(_whole()),
    "modern": _NOTHING,
    "no_modern": _no_modern,
    "no_chunked_items": _on("slab_chunk_max_bytes", SLAB_PAGE_BYTES),
    # Ours.
    "memory_accounting": _argument(_same),
    "debug_commands": _on(),
    # Accepted so that no start script fails.
    "hashpower": _noted(_argument(_hashpower, "hashpower_init", missing=_NUMERIC)),
    "no_hashexpand": _noted(_NOTHING),
    "tail_repair_time": _noted(
        _argument(_integer_not_zero, "tail_repair_time_s", missing=_NUMERIC)
    ),
    "hash_algorithm": _noted(_argument(_same)),
    "inline_ascii_resp": _noted(_NOTHING),
    "no_inline_ascii_resp": _noted(_NOTHING),
    "resp_obj_mem_limit": _noted(_NOTHING),
    "read_buf_mem_limit": _noted(_argument(_whole(MEBIBYTE), "read_buf_mem_limit_bytes")),
    "drop_privileges": _noted(_NOTHING),
    "no_drop_privileges": _noted(_NOTHING),
    "relaxed_privileges": _noted(_NOTHING),
    "sock_cookie_id": _noted(_NOTHING),
    "slab_automove_freeratio": _noted(_argument(_ratio)),
}
EXTENDED: dict[str, ApplyExtended] = {name: row(name) for name, row in _EXTENDED.items()}


#: Before the long name of an option in capitals: the variable that it is read from, too.
ENVIRONMENT_PREFIX = "PYMCD_"


class Option(NamedTuple):
    """One option. `metavar` is empty for a flag.

    An option which `adds_up` may be given several times, each time with several words.
    """

    letter: str
    name: str
    metavar: str
    help: str
    apply: Apply
    adds_up: bool = False

    @property
    def is_flag(self) -> bool:
        """Return whether the option stands alone."""
        return not self.metavar

    @property
    def own(self) -> bool:
        """Return whether memcached does not have the name; it has a letter for each of its own."""
        return self.letter in ("", "D", "x")

    @property
    def is_memcacheds(self) -> bool:
        """Return whether memcached has the option, if only by its letter."""
        return not self.own or self.letter == "D"


# `-h`, `-i` and `-V` answer and end; the command line does that.
_ANSWERED: Apply = lambda draft, text: None  # noqa: E731 - the others are made by functions

_WORDS = re.compile(r"(?:-(.), )?--([a-z-]++)(?:=(.+))?")


def _option(words: str, help_text: str, apply: Apply, *, adds_up: bool = False) -> Option:
    """Return the option with these words, which are written as the help shows them."""
    found = _WORDS.fullmatch(words)
    assert found is not None
    letter, name, metavar = found.groups("")
    return Option(letter, name, metavar, help_text, apply, adds_up)


_LISTENING = (
    _option(
        "-p, --port=NUM",
        "TCP port (default 11211); 0 for none, -1 for any free one",
        _store("port", _integer, "port number"),
    ),
    _option(
        "-U, --udp-port=NUM",
        "UDP port (default 0, none); -1 for any free one",
        _store("udp_port", _integer, "port number"),
    ),
    _option(
        "-s, --unix-socket=FILE", "Unix socket; turns TCP and UDP off", _store("unix_socket", _text)
    ),
    _option(
        "-a, --unix-mask=MASK",
        "access to the Unix socket, octal (default 700)",
        _store("unix_mask", _octal, "unix socket mask"),
    ),
    _option(
        "-l, --listen=ADDRESS",
        "address to listen on: HOST, HOST:PORT or [V6]:PORT, several"
        " with commas or repeated (default all); with TLS, 'notls:' before it leaves it plain",
        _addresses("listen", ";,"),
        adds_up=True,
    ),
    _option(
        "-b, --listen-backlog=NUM",
        "connections that may wait to be accepted (default 1024)",
        _store("listen_backlog", _integer, "listen backlog"),
    ),
)

_PROCESS = (
    _option("-d, --daemon", "run in the background", _switch("daemon")),
    _option(
        "-P, --pidfile=FILE", "write the process id to FILE, with -d", _store("pidfile", _text)
    ),
    _option(
        "-u, --user=USER", "user to become, needed when started by root", _store("user", _text)
    ),
    _option("-r, --enable-coredumps", "raise the limit on core files", _switch("enable_coredumps")),
    _option("-k, --lock-memory", "accepted, has no effect", _lock_memory),
    _option(
        "-L, --enable-largepages",
        "accepted, has no effect",
        lambda draft, text: draft.notice("-L has no effect here"),
    ),
    _option("-t, --threads=NUM", "accepted and reported (default 4), has no effect", _threads),
    _option("-N, --napi-ids=NUM", "accepted, has no effect", _napi_ids),
    _option(
        "-v, --verbose",
        "say more: -v errors and warnings, -vv also commands and replies,"
        " -vvv also changes of state",
        _verbose,
    ),
)

_MEMORY = (
    _option(
        "-m, --memory-limit=MB",
        "memory for items in megabytes (default 64)",
        _store("memory_limit_bytes", _memory_limit, "memory limit"),
    ),
    _option(
        "-M, --disable-evictions",
        "answer with an error when memory is full",
        _switch("disable_evictions"),
    ),
    _option(
        "-I, --max-item-size=SIZE",
        "largest item, with suffix k or m (default 1m, from 1k to 1024m, at most half of -m)",
        _store("item_size_max_bytes", _item_size),
    ),
    _option(
        "-f, --slab-growth-factor=FACTOR",
        "growth of chunk sizes (default 1.25)",
        _store("slab_growth_factor", _decimal_or_zero),
    ),
    _option(
        "-n, --slab-min-size=BYTES",
        "least space for key, value and flags (default 48)",
        _store("slab_min_size_bytes", _integer_or_zero),
    ),
    _option("-e, --memory-file=FILE", "accepted, has no effect", _memory_file),
)

_COMMANDS = (
    _option(
        "-c, --conn-limit=NUM",
        "most connections at a time (default 1024)",
        _store("conn_limit", _integer_or_zero),
    ),
    _option(
        "-R, --max-reqs-per-event=NUM",
        "requests that one connection may make in a turn (default 20)",
        _store("reqs_per_event", _integer_or_zero),
    ),
    _option("-C, --disable-cas", "keep no cas unique", _switch("disable_cas")),
    _option(
        "-B, --protocol=NAME", "auto, ascii or binary (default auto)", _store("protocol", _same)
    ),
    _option(
        "-D, --prefix-delimiter=CHAR",
        "character that ends a key's prefix (default ':'); turns statistics by prefix on",
        _prefix_delimiter,
    ),
    _option("-A, --enable-shutdown", "allow the shutdown command", _switch("enable_shutdown")),
    _option(
        "-F, --disable-flush-all", "refuse the flush_all command", _switch("disable_flush_all")
    ),
    _option(
        "-X, --disable-dumping",
        "refuse stats cachedump, stats detail and lru_crawler metadump",
        _switch("disable_dumping"),
    ),
    _option("-W, --disable-watch", "refuse the watch command", _switch("disable_watch")),
)

_LOGINS = (
    _option("-S, --enable-sasl", "demand a SASL login (binary protocol)", _switch("enable_sasl")),
    _option(
        "-Y, --auth-file=FILE",
        "demand a login (text protocol); FILE has lines user:password",
        _store("auth_file", _text),
    ),
    _option(
        "--login-timeout=SECONDS",
        "close connections that have not logged in by then (default 60, 0: never)",
        _store("login_timeout_s", _seconds),
    ),
    _option(
        "--login-failure-delay=SECONDS",
        "answer a failed login only after this time (default 0)",
        _store("login_failure_delay_s", _seconds),
    ),
    _option("-Z, --enable-ssl", "speak TLS", _switch("enable_ssl")),
)

_PAIR = (
    _option(
        "-x, --peer=HOST[:PORT]",
        "replicate with the server at this address, several with commas or repeated; its port is"
        " that of --replication-port if none is named. With -x, as in repcached, -X PORT means"
        " --replication-port, and -q NUM --replication-queue",
        _addresses("peers"),
        adds_up=True,
    ),
    _option(
        "--replication-listen=ADDRESS",
        "address where peers connect: HOST, HOST:PORT, [V6]:PORT or * for all, several with commas"
        " or repeated (default loopback if all peers are on this host, otherwise all)",
        _addresses("replication_listen"),
        adds_up=True,
    ),
    _option(
        "--replication-port=NUM",
        "port where peers connect (default 11212); -1 for any free one",
        _store("replication_port", _replication_port, "replication port number"),
    ),
    _option(
        "--replication-secret-file=FILE",
        "file with the secret that all nodes share, read again on SIGHUP: of several lines the"
        " first is used, each is accepted; this or --replication-tls is needed as soon as a peer is"
        " not on this host",
        _store("replication_secret_file", _text),
    ),
    _option(
        "--replication-tls",
        "speak TLS with peers, with certificates on both sides: -o ssl_chain_cert, ssl_key,"
        " ssl_ca_cert",
        _switch("replication_tls"),
    ),
    _option(
        "--replication-ack=MODE",
        "when a write is answered: async at once, semi when the peer has it, or alone if the peer"
        " is gone, strict only when the peer has it (default semi)",
        _store("replication_ack", _same),
    ),
    _option(
        "--replication-ack-timeout=SECONDS",
        "how long to wait for a peer before going on without it (default 0.08)",
        _store("replication_ack_timeout_s", _seconds),
    ),
    _option(
        "--replication-queue=NUM",
        "changes that may wait for a peer, with suffix k or m (default 64k)",
        _store("replication_queue", _size),
    ),
    _option(
        "--replication-backlog=SIZE",
        "memory for recent changes, which spare a peer that was away a full copy, with suffix k,"
        " m or g (default 64m)",
        _store("replication_backlog_bytes", _size),
    ),
    _option(
        "--node-id=NAME",
        "name of this server among its peers (default its host name and replication port)",
        _store("node_id", _text),
    ),
    _option(
        "--cluster-id=NAME",
        "name of the group; servers of another group are not linked with (default pymcd)",
        _store("cluster_id", _same),
    ),
    _option(
        "--sync-timeout=SECONDS",
        "serve clients after this time at the latest if no peer is found at the start (default 30)",
        _store("sync_timeout_s", _seconds),
    ),
    _option(
        "--force-empty",
        "with --sync-timeout: serve even if a peer that was heard has data, but cannot be linked",
        _switch("force_empty"),
    ),
    _option(
        "--witness=HOST[:PORT]",
        "the third vote, see pymcd witness: without more than half of the votes nobody goes on; the"
        " same on all nodes. An etcd can have it, too:"
        " etcd://[USER@]HOST[:PORT][,HOST...][/PREFIX][?NAME=FILE&...], or etcds:// with TLS; files"
        " are cacert, cert, key and password-file; needs the extra etcd",
        _store("witness", _text),
    ),
    _option(
        "--quorum-timeout=SECONDS",
        "where there are votes: answer with errors when they have not been there for so long"
        " (default 1)",
        _store("quorum_timeout_s", _seconds),
    ),
    _option(
        "--tombstone-ttl=SECONDS",
        "how long deletions are remembered, and longer while a peer is away (default 3600)",
        _store("tombstone_ttl_s", _seconds),
    ),
)

_MOVING = (
    _option(
        "--fill-from=HOST[:PORT]",
        "take over the items of a running memcached or pymcd, those used last first, while clients"
        " are served; to be left out at the next start (default port 11211)",
        _store("fill_from", _text),
    ),
    _option(
        "--fill-from-login-file=FILE",
        "file with the login that it wants, a line user:password as for -Y",
        _store("fill_from_login_file", _text),
    ),
    _option(
        "--fill-from-tls",
        "speak TLS with it; its certificate must be for HOST and be trusted here, and that of -o"
        " ssl_chain_cert is shown to it",
        _switch("fill_from_tls"),
    ),
    _option(
        "--fill-from-ca-file=FILE",
        "speak TLS with it; its certificate must be signed by this authority",
        _store("fill_from_ca_file", _text),
    ),
)

_BUCKET = (
    _option(
        "--couchbase=ADDRESS",
        "serve clients of Couchbase, too: address where they ask for their bucket, HOST, HOST:PORT,"
        " * or *:PORT (default port 8091); needs the extra couchbase",
        _store("couchbase", _text),
    ),
    _option(
        "--couchbase-name=HOST",
        "this host as those clients call it (default the HOST of --couchbase, or else the system's"
        " name)",
        _store("couchbase_name", _text),
    ),
    _option(
        "--couchbase-peer=HOST[:PORT[:HTTP_PORT]]",
        "the peer as those clients call it, its port for clients and that of its --couchbase; for"
        " each --peer one, in the same order (default the host of --peer, and our own ports)",
        _addresses("couchbase_peers"),
        adds_up=True,
    ),
)

_CONFIGURATION = (
    _option(
        "-o, --extended=NAMES",
        "further settings, with commas or repeated; see below",
        _extended,
        adds_up=True,
    ),
    _option(
        "--config=FILE",
        "read options from FILE: TOML with long names as keys, or options"
        " one a line as in memcached.conf",
        _ANSWERED,
    ),
    _option(
        "--log-file=FILE",
        "write the log to FILE (default standard error)",
        _store("log_file", _text),
    ),
    _option("--log-format=FORMAT", "text or json (default text)", _store("log_format", _same)),
)

_WATCHING = (
    _option(
        "--http=ADDRESS",
        "answer /healthz, /readyz, /metrics and /replication by HTTP: HOST, HOST:PORT, [V6]:PORT, *"
        " or *:PORT (default port 11222); whoever reaches it may ask; needs the extra http",
        _store("http", _text),
    ),
    _option(
        "--drain-delay=SECONDS",
        "when told to stop, first go on for that time while /readyz says that no client may come"
        " (default 2 with --http, else 0)",
        _store("drain_delay_s", _seconds),
    ),
    _option(
        "--shutdown-timeout=SECONDS",
        "then, time to finish requests in hand (default 10)",
        _store("shutdown_timeout_s", _seconds),
    ),
)

_ANSWERS = (
    _option("-h, --help", "print this help and exit", _ANSWERED),
    _option("-i, --license", "print the licence and exit", _ANSWERED),
    _option("-V, --version", "print the version and exit", _ANSWERED),
)

#: All options, under the headings of the help, in its order.
SECTIONS: dict[str, tuple[Option, ...]] = {
    "Where to listen": _LISTENING,
    "The process": _PROCESS,
    "Memory": _MEMORY,
    "Connections and commands": _COMMANDS,
    "Logins and TLS": _LOGINS,
    "The pair": _PAIR,
    "Moving in": _MOVING,
    "Couchbase's bucket": _BUCKET,
    "Configuration and log": _CONFIGURATION,
    "Health, metrics and the end": _WATCHING,
    "What answers and ends": _ANSWERS,
}
OPTIONS: tuple[Option, ...] = tuple(chain.from_iterable(SECTIONS.values()))

BY_NAME = {option.name: option for option in OPTIONS}
BY_LETTER = {option.letter: option for option in OPTIONS if option.letter}

# What these letters mean beside `-x`, as in repcached. memcached's -X is then to be written out.
REPCACHED_LETTERS = {"X": BY_NAME["replication-port"], "q": BY_NAME["replication-queue"]}

EXTENDED_HELP: dict[str, str] = {
    "[no_]maxconns_fast": "refuse connections over -c at once (default on)",
    "idle_timeout=S": "close connections idle for S seconds (default 0, never)",
    "hot_lru_pct=N": "percent of memory for the hot segment (default 20)",
    "warm_lru_pct=N": "percent of memory for the warm segment (default 40)",
    "hot_max_factor=F": "idle items leave hot after F times cold's age (default 0.2)",
    "warm_max_factor=F": "idle items leave warm after F times cold's age (default 2.0)",
    "temporary_ttl=S": "items that live at most S seconds are not evicted",
    "[no_]lru_maintainer": "keep the segments in order in the background (default on)",
    "[no_]lru_crawler": "look for expired items in the background (default on)",
    "lru_crawler_sleep=US": "microseconds between two items (default 100)",
    "lru_crawler_tocrawl=N": "most items looked at per class and run (default 0, all)",
    "[no_]slab_reassign": "let pages change their class (default on)",
    "[no_]slab_automove[=N]": "move pages by themselves: 0, 1 or 2 (default 1)",
    "slab_automove_ratio=F": "how unlike the ages may be (default 0.8)",
    "slab_automove_window=N": "seconds that are looked at (default 10)",
    "slab_chunk_max=KB": "largest chunk; greater items are chained (default 512)",
    "slab_sizes=A-B-C": "sizes of the slab classes",
    "no_chunked_items": "chunks of up to 1 MB",
    "track_sizes": "fill 'stats sizes'",
    "watcher_logbuf_size=KB": "buffer of one watcher (default 256)",
    "worker_logbuf_size=KB": "buffer before the watchers (default 64)",
    "modern, no_modern": "defaults of this, of the previous generation (1.4)",
    "memory_accounting=NAME": "memcached: charge items as memcached does (default);"
    " resident: charge what they cost here",
    "debug_commands": "allow debugtime",
    "ssl_chain_cert=FILE": "certificate chain, PEM",
    "ssl_key=FILE": "private key, if it is not in ssl_chain_cert",
    "ssl_ca_cert=FILE": "who may sign client certificates, PEM",
    "ssl_verify_mode=N": "client certificates: 0 none, 1 request, 2 require, 3 once (default 0)",
    "ssl_min_version=N": "least TLS version: 0 to 3 for 1.0 to 1.3 (default 2)",
    "ssl_ciphers=LIST": "ciphers to allow",
    "ssl_keyformat=N": "form of ssl_key: 1 PEM, 2 DER (default 1)",
    "ssl_wbuf_size=KB": "most that goes into one TLS record (default 16)",
    "ssl_session_cache": "count new TLS sessions in 'stats'",
}
