"""Settings: defaults, limits and contradictions, whoever builds them."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from pymcd.addresses import Address
from pymcd.config import ANY_PORT, Listener, Settings, check_field, is_loopback
from pymcd.exits import ConfigError

MIB = 1 << 20

# What `stats settings` of memcached 1.6.45 shows when it is started without options.
DEFAULTS: dict[str, Any] = {
    "memory_limit_bytes": 67108864,
    "conn_limit": 1024,
    "port": 11211,
    "udp_port": 0,
    "inter": None,
    "verbose": 0,
    "disable_evictions": False,
    "unix_socket": None,
    "unix_mask": 0o700,
    "enable_shutdown": False,
    "slab_growth_factor": 1.25,
    "slab_min_size_bytes": 48,
    "threads": 4,
    "num_threads_per_udp": 4,
    "prefix_delimiter": ":",
    "detail_enabled": False,
    "reqs_per_event": 20,
    "disable_cas": False,
    "listen_backlog": 1024,
    "protocol": "auto",
    "item_size_max_bytes": 1048576,
    "maxconns_fast": True,
    "hashpower_init": 0,
    "slab_reassign": True,
    "slab_automove": 1,
    "slab_automove_ratio": 0.8,
    "slab_automove_window_s": 10,
    "slab_chunk_max_bytes": 524288,
    "lru_crawler": True,
    "lru_crawler_sleep_us": 100,
    "lru_crawler_tocrawl": 0,
    "tail_repair_time_s": 0,
    "disable_flush_all": False,
    "disable_dumping": False,
    "hash_algorithm": "murmur3",
    "lru_maintainer": True,
    "lru_segmented": True,
    "hot_lru_pct": 20,
    "warm_lru_pct": 40,
    "hot_max_factor": 0.2,
    "warm_max_factor": 2.0,
    "temporary_ttl_s": None,
    "idle_timeout_s": 0,
    "watcher_logbuf_size_bytes": 262144,
    "worker_logbuf_size_bytes": 65536,
    "read_buf_mem_limit_bytes": 0,
    "track_sizes": False,
    "ssl_wbuf_size_bytes": 16384,
    "ssl_min_version": 2,
}


def test_the_defaults_are_memcacheds():
    settings = Settings()
    got = {name: getattr(settings, name) for name in DEFAULTS}
    assert got == DEFAULTS


def test_settings_do_not_change():
    with pytest.raises(dataclasses.FrozenInstanceError):
        Settings().port = 1  # type: ignore[misc]


WRONG_ALONE: list[tuple[str, Any, int, str]] = [
    ("conn_limit", 0, 1, "Maximum connections must be greater than 0"),
    ("threads", -1, 1, "Number of threads must be greater than 0"),
    ("reqs_per_event", 0, 1, "Number of requests per event must be greater than 0"),
    ("slab_min_size_bytes", 0, 1, "Chunk size must be greater than 0"),
    ("slab_growth_factor", 1.0, 1, "Factor must be greater than 1"),
    ("slab_growth_factor", float("inf"), 1, "Factor must be greater than 1"),
    ("slab_growth_factor", float("nan"), 1, "Factor must be greater than 1"),
    ("prefix_delimiter", "", 1, "No delimiter specified"),
    ("prefix_delimiter", "\u20ac", 1, "No delimiter specified"),
    ("prefix_delimiter", "\udcff", 1, "No delimiter specified"),
    ("hot_lru_pct", 0, 1, "hot_lru_pct must be > 1 and < 80"),
    ("warm_lru_pct", 80, 1, "warm_lru_pct must be > 1 and < 80"),
    ("hot_max_factor", 0.0, 1, "hot_max_factor must be > 0"),
    ("warm_max_factor", -1.0, 1, "warm_max_factor must be > 0"),
    *(
        (f"{name}_s", wrong, 1, f"{name} must be 0 to {most} seconds")
        for name, most in (("temporary_ttl", 4294967295), ("idle_timeout", 2147483647))
        for wrong in (-1, most + 1)
    ),
    ("slab_chunk_max_bytes", 0, 1, "slab_chunk_max must be >= 0"),
    *(
        ("slab_chunk_max_bytes", wrong, 1, "slab_chunk_max must be specified in kilobytes.")
        for wrong in (4, MIB + 1)
    ),
    ("slab_automove_window_s", 1 << 63, 1, "slab_automove_window must be > 2 and < 1800"),
    ("hashpower_init", 11, 1, "Initial hashtable multiplier of 11 is too low"),
    ("memory_accounting", "guessed", 1, "Unknown memory_accounting option (memcached, resident)"),
    ("log_format", "xml", 64, "Unknown log format (text, json)"),
    (
        "shutdown_timeout_s",
        float("nan"),
        64,
        "The time to shut down in must be a number of seconds, not negative",
    ),
    (
        "replication_port",
        0,
        64,
        "ERROR: Invalid replication port number 0: 1 to 65535 is possible, and -1 for any free"
        " one.",
    ),
    ("replication_ack", "", 64, "Unknown replication-ack  (async, semi, strict)"),
    *(
        (
            "replication_ack_timeout_s",
            wrong,
            64,
            "The time to wait for a peer's acknowledgement must be 0.001 to 60 seconds",
        )
        for wrong in (0.0, 1e-300, -1.0, 60.5, float("nan"))
    ),
    ("replication_queue", 0, 64, "The replication queue must hold at least 1 change"),
    (
        "replication_backlog_bytes",
        -1,
        64,
        "The replication backlog must be a size such as 64m, or 0 for none",
    ),
    (
        "sync_timeout_s",
        float("inf"),
        64,
        "The time to wait for the first synchronisation must be a number of seconds, not negative",
    ),
    (
        "tombstone_ttl_s",
        0.0,
        64,
        "The time to remember deletions must be a number of seconds above 0",
    ),
    *(
        (
            field,
            wrong,
            64,
            f"Invalid {field.replace('_', ' ')} {wrong!r}:"
            " 1 to 64 printable ASCII characters without blanks are possible",
        )
        for field in ("node_id", "cluster_id")
        for wrong in ("", "a b", "-", "\xe4", "a" * 65)
    ),
    ("peers", ("",), 64, "ERROR: Empty peer."),
    ("replication_listen", ("",), 64, "ERROR: Empty address to listen on for peers."),
    ("port", 65536, 64, "ERROR: Invalid port number 65536."),
    ("udp_port", -2, 64, "ERROR: Invalid port number -2."),
    ("unix_mask", 0o10000, 64, "ERROR: Invalid unix socket mask 10000."),
    ("listen", ("127.0.0.1", ""), 64, "ERROR: Empty address to listen on."),
    (
        "protocol",
        "udp",
        64,
        "Invalid value for binding protocol: udp\n -- should be one of auto, binary, or ascii",
    ),
]


@pytest.mark.parametrize(("name", "value", "exit_code", "message"), WRONG_ALONE)
def test_a_value_which_is_wrong_in_itself_is_refused(name, value, exit_code, message):
    for build in (lambda: check_field(name, value), lambda: Settings(**{name: value})):
        with pytest.raises(ConfigError) as caught:
            build()
        assert (caught.value.exit_code, caught.value.message) == (exit_code, message)


WRONG_TOGETHER: list[tuple[dict[str, Any], str]] = [
    ({"item_size_max_bytes": 1023}, "Item max size cannot be less than 1024 bytes."),
    (
        {"memory_limit_bytes": MIB},
        "Cannot set item size limit higher than 1/2 of memory max.",
    ),
    (
        {"item_size_max_bytes": 1025 * MIB, "memory_limit_bytes": 4096 * MIB},
        "Cannot set item size limit higher than a gigabyte.",
    ),
    (
        {"item_size_max_bytes": 1024},
        "slab_chunk_max (bytes: 524288) cannot be larger than -I (item_size_max 1024)",
    ),
    (
        {"item_size_max_bytes": 1536000},
        "-I (item_size_max: 1536000) must be evenly divisible by slab_chunk_max (bytes: 524288)",
    ),
    (
        {"item_size_max_bytes": 3 << 18, "slab_chunk_max_bytes": 3 << 17},
        "slab_chunk_max (bytes: 393216) must divide evenly into 1048576 (slab_page_size)",
    ),
    (
        {"hot_lru_pct": 41},
        "hot_lru_pct + warm_lru_pct cannot be more than 80% combined",
    ),
    (
        {"temporary_ttl_s": 60, "lru_maintainer": False},
        "temporary_ttl requires lru_maintainer to be enabled",
    ),
    (
        {"enable_sasl": True},
        "ERROR: You cannot allow the ASCII protocol while using SASL.",
    ),
    (
        {"enable_sasl": True, "protocol": "binary", "udp_port": 1},
        "ERROR: Cannot enable UDP while using binary SASL authentication.",
    ),
    (
        {"auth_file": "users", "protocol": "binary"},
        "ERROR: You cannot allow the BINARY protocol while using ascii authentication tokens.",
    ),
    (
        {"auth_file": "users", "protocol": "ascii", "udp_port": 1},
        "Cannot use UDP with ascii authentication enabled (-U 0 to disable)",
    ),
    (
        {"enable_ssl": True, "port": 0},
        "ERROR: You cannot enable SSL without a TCP port.",
    ),
    (
        {"num_napi_ids": 5},
        "Number of napi_ids(5) cannot be greater than number of threads(4)",
    ),
    ({"slab_sizes": ()}, "Missing slab_sizes argument"),
    ({"slab_sizes": (47,)}, "slab size 47 is out of valid range"),
    ({"slab_sizes": (96, 524289)}, "slab size 524289 is out of valid range"),
    (
        {"slab_sizes": (200, 100)},
        "slab size 100 cannot be lower than or equal to a previous class size",
    ),
    (
        {"slab_sizes": (100, 108)},
        "slab size 108 must be at least 8 bytes larger than previous class",
    ),
    ({"slab_sizes": tuple(range(96, 96 + 63 * 16, 16))}, "too many slab classes specified"),
]


@pytest.mark.parametrize(("values", "message"), WRONG_TOGETHER)
def test_values_which_contradict_each_other_are_refused(values, message):
    with pytest.raises(ConfigError) as caught:
        Settings(**values)
    assert (caught.value.exit_code, caught.value.message) == (64, message)


def test_large_items_fit_a_large_memory():
    settings = Settings(item_size_max_bytes=1 << 30, memory_limit_bytes=2 << 30)
    assert settings.item_size_max_bytes == 1 << 30


def test_several_interfaces_leave_one_udp_thread_each():
    settings = Settings(listen=("127.0.0.1", "::1"))
    assert (settings.inter, settings.num_threads_per_udp) == ("127.0.0.1,::1", 1)


LISTENERS = [
    ("127.0.0.1", Listener("127.0.0.1", 11211, None, "auto")),
    ("127.0.0.1:5", Listener("127.0.0.1", 5, None, "auto")),
    ("127.0.0.1:0", Listener("127.0.0.1", ANY_PORT, None, "auto")),
    ("localhost", Listener("localhost", 11211, None, "auto")),
    ("::1", Listener("::1", 11211, None, "auto")),
    ("[::1]", Listener("::1", 11211, None, "auto")),
    ("[::1]:5", Listener("::1", 5, None, "auto")),
    ("*", Listener(None, 11211, None, "auto")),
    ("*:5", Listener(None, 5, None, "auto")),
    ("proto[ascii]:127.0.0.1:5", Listener("127.0.0.1", 5, None, "ascii")),
    ("proto[negotiating]:::1", Listener("::1", 11211, None, "auto")),
    ("tag_blue_:127.0.0.1", Listener("127.0.0.1", 11211, None, "auto", "blue")),
    ("tag[blue]:127.0.0.1", Listener("127.0.0.1", 11211, None, "auto", "blue")),
]


@pytest.mark.parametrize(("address", "listener"), LISTENERS)
def test_an_address_is_taken_apart(address, listener):
    assert Settings(listen=(address,)).listeners(11211) == [listener]


def test_without_an_address_all_interfaces_listen():
    assert Settings().listeners(7) == [Listener(None, 7, None, "auto")]


@pytest.mark.parametrize(
    ("address", "tls"),
    [("::1", "tls"), ("notls:::1", None), ("btls:::1", "btls"), ("mtls:[::1]:5", "mtls")],
)
def test_an_address_says_whether_it_speaks_tls(address, tls):
    (listener,) = Settings(listen=(address,), enable_ssl=True).listeners(11211)
    assert (listener.host, listener.tls) == ("::1", tls)


BAD_ADDRESSES = [
    ("127.0.0.1:abc", 'Invalid port number: "abc"'),
    ("127.0.0.1:65536", 'Invalid port number: "65536"'),
    ("127.0.0.1:-1", 'Invalid port number: "-1"'),
    ("127.0.0.1:", 'Invalid port number: ""'),
    ("[::1]:5x", 'Invalid port number: "5x"'),
    ("[::1]5", 'Invalid IPV6 address: "[::1]5"'),
    ("[::1", 'Invalid IPV6 address: "[::1"'),
    (":5", "Name or service not known"),
    ("notls:127.0.0.1", "'notls' option is valid only when SSL is enabled"),
    ("proto[udp]:127.0.0.1", 'Invalid protocol spec: "udp"'),
    ("proto[ascii", 'Invalid protocol spec: "ascii"'),
    ("tag[123456789]:127.0.0.1", 'Listener tags must be between 1 and 8 characters: "123456789"'),
    ("tag__:127.0.0.1", 'Listener tags must be between 1 and 8 characters: ""'),
    ("tag_x", 'Invalid tag in socket config: "x"'),
    ("tag[x", 'Invalid tag in socket config: "x"'),
]


@pytest.mark.parametrize(("address", "reason"), BAD_ADDRESSES)
def test_a_bad_address_is_refused_like_one_that_cannot_be_bound(address, reason):
    with pytest.raises(ConfigError) as caught:
        Settings(listen=(address,))
    assert caught.value.exit_code == 71
    assert caught.value.message == (f"failed to listen on one of interface(s) {address}: {reason}")


PAIR: dict[str, Any] = {"replication_secret_file": "secret"}

PEERS = [
    ("localhost", "localhost:11212"),
    ("localhost:5", "localhost:5"),
    ("cache-2.example.", "cache-2.example.:11212"),
    ("10.0.0.2", "10.0.0.2:11212"),
    ("::1", "[::1]:11212"),
    ("[::1]", "[::1]:11212"),
    ("[fe80::1%eth0]:5", "[fe80::1%eth0]:5"),
]


@pytest.mark.parametrize(("peer", "expected"), PEERS)
def test_peers_are_brought_into_one_form(peer, expected):
    settings = Settings(peers=(peer, expected), **PAIR)
    assert settings.peers == (expected,)
    assert settings.replicated
    assert [str(address) for address in settings.peer_addresses()] == [expected]


def test_without_peers_nothing_listens_for_them():
    settings = Settings()
    assert not settings.replicated
    assert settings.replication_listeners() == []


# Peers, addresses to listen on, what listens.
REPLICATION_LISTENERS: list[tuple[tuple[str, ...], tuple[str, ...], list[str]]] = [
    (("localhost:5",), (), ["127.0.0.1:11212"]),
    (("127.3.2.1:5",), (), ["127.0.0.1:11212"]),
    (("[::1]:5", "127.0.0.1:5"), (), ["127.0.0.1:11212", "[::1]:11212"]),
    (("localhost:5", "b"), (), ["*:11212"]),
    ((), ("*", "10.0.0.1:5", "127.0.0.1:0"), ["*:11212", "10.0.0.1:5", "127.0.0.1:-1"]),
    (("b",), ("::1",), ["[::1]:11212"]),
]


@pytest.mark.parametrize(("peers", "listen", "expected"), REPLICATION_LISTENERS)
def test_where_peers_may_connect(peers, listen, expected):
    settings = Settings(peers=peers, replication_listen=listen, **PAIR)
    assert [str(address) for address in settings.replication_listeners()] == expected


def test_peers_may_connect_to_any_free_port():
    settings = Settings(peers=("localhost",), replication_port=ANY_PORT)
    assert settings.replication_listeners() == [Address("127.0.0.1", ANY_PORT)]


LOOPBACK = ["localhost", "LocalHost.", "127.0.0.1", "127.255.0.1", "::1", "::ffff:127.0.0.1"]
ELSEWHERE = ["b", "localhost.example", "10.0.0.2", "127.1", "0.0.0.0", "::", "::ffff:10.0.0.1"]


@pytest.mark.parametrize("host", LOOPBACK)
def test_on_this_host_no_secret_is_needed(host):
    assert is_loopback(host)
    assert Settings(peers=(host,), replication_listen=(host,)).replicated


@pytest.mark.parametrize("host", ELSEWHERE)
def test_nothing_leaves_this_host_without_a_secret_or_certificates(host):
    assert not is_loopback(host)
    tls: dict[str, Any] = {"replication_tls": True, "ssl_chain_cert": "c", "ssl_ca_cert": "a"}
    wrongs: list[dict[str, Any]] = [
        {"peers": (host,)},
        {"peers": ("::1",), "replication_listen": (host,)},
    ]
    for wrong in wrongs:
        with pytest.raises(ConfigError) as caught:
            Settings(**wrong)
        assert caught.value.exit_code == 64
        assert "needs --replication-secret-file or --replication-tls: without" in str(caught.value)
        assert Settings(**wrong, **PAIR).replicated
        assert Settings(**wrong, **tls).replicated


BAD_PEERS = [
    ("bad:port:x", "more than one colon is only in an IPv6 address"),
    ("[10.0.0.1:5]:6", "more than one colon is only in an IPv6 address"),
    ("localhost:", "'' is no port number"),
    ("localhost:x", "'x' is no port number"),
    ("localhost:70000", "'70000' is no port number"),
    ("localhost:\xb2", "'\xb2' is no port number"),
    ("localhost:0", "the port of a peer cannot be 0"),
    ("[::1", "an IPv6 address is written [ADDRESS]:PORT"),
    ("[::1]5", "an IPv6 address is written [ADDRESS]:PORT"),
    ("[localhost]:5", "only an IPv6 address stands in brackets"),
    (":5", "'' is no host"),
    ("*", "'*' is no host"),
    ("a b", "'a b' is no host"),
    ("http://a/", "'//a/' is no port number"),
]


@pytest.mark.parametrize(("peer", "reason"), BAD_PEERS)
def test_a_bad_peer_is_refused(peer, reason):
    with pytest.raises(ConfigError) as caught:
        Settings(peers=(peer,), **PAIR)
    assert caught.value.exit_code == 64
    assert caught.value.fields == (("peers", peer),)
    assert caught.value.message == (
        f"ERROR: Invalid peer {peer}: {reason}; HOST, HOST:PORT or [V6]:PORT is possible."
    )


WRONG_PAIRS: list[tuple[dict[str, Any], str]] = [
    (
        {"disable_cas": True},
        "ERROR: Replication needs cas uniques: -C (--disable-cas) cannot go with --peer or"
        " --replication-listen.",
    ),
    (
        {"replication_tls": True},
        "ERROR: --replication-tls needs -o ssl_chain_cert=FILE: the nodes show each other"
        " certificates (ssl_chain_cert, ssl_key) and accept those signed by ssl_ca_cert.",
    ),
    (
        {"replication_tls": True, "ssl_chain_cert": "c"},
        "ERROR: --replication-tls needs -o ssl_ca_cert=FILE: the nodes show each other"
        " certificates (ssl_chain_cert, ssl_key) and accept those signed by ssl_ca_cert.",
    ),
    (
        {"port": 11212},
        "ERROR: Port 11212 cannot be both for clients and for peers: choose another with -p or"
        " --replication-port.",
    ),
    ({"peers": tuple(f"::{n}" for n in range(16))}, "ERROR: There can be at most 15 peers."),
]


@pytest.mark.parametrize(("values", "message"), WRONG_PAIRS)
def test_what_no_pair_can_be_made_of(values, message):
    with pytest.raises(ConfigError) as caught:
        Settings(**{"peers": ("::1",), **values})
    assert (caught.value.exit_code, caught.value.message) == (64, message)


def test_clients_and_peers_may_share_a_port_on_different_addresses():
    Settings(peers=("::1",), port=11212, listen=("10.0.0.1",))
    Settings(peers=("::1",), port=-1, replication_port=-1)
    Settings(peers=("::1",), port=11212, unix_socket="socket")


# The bucket.


def test_nobody_asks_for_a_bucket_unless_told():
    assert Settings().couchbase_listener() is None


BUCKETS: list[tuple[dict[str, Any], Address, str | None]] = [
    ({"couchbase": "*"}, Address(None, 8091), None),
    ({"couchbase": "*:0"}, Address(None, ANY_PORT), None),
    ({"couchbase": "0.0.0.0:91"}, Address("0.0.0.0", 91), None),
    ({"couchbase": "cache-1"}, Address("cache-1", 8091), "cache-1"),
    ({"couchbase": "*", "couchbase_name": "cache-1"}, Address(None, 8091), "cache-1"),
    ({"couchbase": "::1", "couchbase_name": "10.0.0.5"}, Address("::1", 8091), "10.0.0.5"),
]


@pytest.mark.parametrize(("values", "listener", "host"), BUCKETS)
def test_where_a_bucket_is_asked_for_and_how_the_node_is_called(values, listener, host):
    settings = Settings(**values)
    assert (settings.couchbase_listener(), settings.couchbase_host()) == (listener, host)


BUCKET_PEERS: list[tuple[tuple[str, ...], dict[str, tuple[str, int, int]]]] = [
    ((), {"localhost:11212": ("localhost", 1, 2), "127.0.0.1:5": ("127.0.0.1", 1, 2)}),
    (("a", "b:7"), {"localhost:11212": ("a", 1, 2), "127.0.0.1:5": ("b", 7, 2)}),
    (("a:7:8", "b"), {"localhost:11212": ("a", 7, 8), "127.0.0.1:5": ("b", 1, 2)}),
]


@pytest.mark.parametrize(("named", "sites"), BUCKET_PEERS)
def test_where_clients_of_a_bucket_find_the_peers(named, sites):
    settings = Settings(couchbase="*", peers=("localhost", "127.0.0.1:5"), couchbase_peers=named)
    assert settings.couchbase_sites(1, 2) == sites


BAD_BUCKETS: list[tuple[dict[str, Any], str]] = [
    ({"couchbase": "[::1"}, "Invalid address for --couchbase [::1: "),
    ({"couchbase": "::1"}, "--couchbase [::1]:8091 needs --couchbase-name: these clients need a"),
    ({"couchbase": "*", "couchbase_name": "a:1"}, "Invalid name for clients of Couchbase a:1: "),
    ({"couchbase": "*", "couchbase_name": ""}, "Invalid name for clients of Couchbase : "),
    ({"couchbase": "*", "port": 0}, "--couchbase needs a TCP port."),
    ({"couchbase": "*", "unix_socket": "/x"}, "--couchbase needs a TCP port."),
    ({"couchbase": "*", "enable_ssl": True}, "needs a port for the binary protocol without TLS"),
    ({"couchbase": "*", "protocol": "ascii"}, "needs a port for the binary protocol without TLS"),
    ({"couchbase": "*", "couchbase_peers": ("a",)}, "once for each --peer, in the same order"),
    (
        {"couchbase": "*", "peers": ("localhost",), "couchbase_peers": ("a", "b")},
        "once for each --peer, in the same order",
    ),
    ({"couchbase": "*", "peers": ("::1",)}, "Name it with --couchbase-peer."),
    *(
        (
            {"couchbase": "*", "peers": ("localhost",), "couchbase_peers": (wrong,)},
            f"Invalid --couchbase-peer {wrong}: ",
        )
        for wrong in ("a:", "a:0", "a:x", "a:1:65536", "a:1:2:3", "::1")
    ),
]


@pytest.mark.parametrize(("values", "words"), BAD_BUCKETS)
def test_a_bucket_that_its_clients_could_not_use_is_refused(values, words):
    with pytest.raises(ConfigError) as caught:
        Settings(**values)
    assert (words in caught.value.message, caught.value.exit_code) == (True, 64)


def test_a_port_without_tls_is_enough_for_a_bucket():
    settings = Settings(couchbase="*", enable_ssl=True, listen=("localhost", "notls:localhost:5"))
    assert settings.couchbase_listener() == Address(None, 8091)
