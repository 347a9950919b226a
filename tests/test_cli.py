"""The command line: memcached's options, words and exit codes.

The rows of `REFUSED` are those of memcached 1.6.45; where memcached would take a bad word for
zero, or crash, the row is in `REFUSED_BY_US`.
"""

from __future__ import annotations

import dataclasses
import importlib
import importlib.metadata
import os
import re
import subprocess
import sys
import types
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import pymcd.server
from pymcd import cli, tools
from pymcd.options import EXTENDED, OPTIONS, SECTIONS
from pymcd.server import daemon
from pymcd.startup import Signals
from pymcd.tools import TOOLS
from pymcd.tools import help as tool_help

if TYPE_CHECKING:
    from pymcd.config import Settings

MIB = 1 << 20


class FakeProcess:
    """Stands for `pymcd.server.process` and remembers what it was asked to serve."""

    def __init__(self) -> None:
        self.served: list[Settings] = []
        self.exit_code = 0

    def run(self, settings: Settings, signals: Signals) -> int:
        self.served.append(settings)
        return self.exit_code


@pytest.fixture(autouse=True)
def serving(monkeypatch: pytest.MonkeyPatch) -> FakeProcess:
    """Start nothing, as nobody in particular, in an empty environment."""
    fake = FakeProcess()
    module = types.ModuleType("pymcd.server.process")
    module.run = fake.run  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "pymcd.server.process", module)
    monkeypatch.setattr(pymcd.server, "process", module, raising=False)
    monkeypatch.setattr(daemon, "runs_as_root", lambda: False)
    monkeypatch.setattr(sys, "argv", ["pymcd"])
    for name in list(os.environ):
        if name.startswith("PYMCD_") or name in ("INVOCATION_ID", "NOTIFY_SOCKET"):
            monkeypatch.delenv(name)
    return fake


def changed(settings: Settings) -> dict[str, Any]:
    """Return what is not as by default."""
    return {
        field.name: getattr(settings, field.name)
        for field in dataclasses.fields(settings)
        if getattr(settings, field.name) != field.default
    }


# Arguments -> what differs from the defaults.
ACCEPTED: list[tuple[str, dict[str, Any]]] = [
    ("", {}),
    ("-p 0", {"port": 0}),
    ("-p -1", {"port": -1}),
    ("--port=0", {"port": 0}),
    ("--port 0", {"port": 0}),
    ("--por=0", {"port": 0}),
    ("-U 5", {"udp_port": 5, "port": 5}),
    ("-U 5 -p 6", {"udp_port": 5, "port": 6}),
    ("-U 5 -p 11211", {"udp_port": 5}),
    ("-U -1", {"udp_port": -1, "port": -1}),
    ("-U 0", {}),
    ("-s /tmp/x", {"unix_socket": "/tmp/x"}),
    ("-a 777", {"unix_mask": 0o777}),
    ("-a 0666", {"unix_mask": 0o666}),
    ("-A", {"enable_shutdown": True}),
    ("-l 127.0.0.1", {"listen": ("127.0.0.1",)}),
    ("-l a -l b", {"listen": ("a", "b")}),
    ("-l a,b;c", {"listen": ("a", "b", "c")}),
    ("-l a -l a", {"listen": ("a",)}),
    ("-l 10.0.0.10 -l 10.0.0.1", {"listen": ("10.0.0.10", "10.0.0.1")}),
    ("-d -P /tmp/pid", {"daemon": True, "pidfile": "/tmp/pid"}),
    ("-u nobody", {"user": "nobody"}),
    ("-r", {"enable_coredumps": True}),
    ("-k", {"lock_memory": True}),
    ("-L", {}),
    ("-t 65", {"threads": 65}),
    ("-N 4", {"num_napi_ids": 4}),
    ("-v", {"verbose": 1}),
    ("-vvv", {"verbose": 3}),
    ("--verbose --verbose=7", {"verbose": 2}),
    ("-m 128", {"memory_limit_bytes": 128 * MIB}),
    ("-m128", {"memory_limit_bytes": 128 * MIB}),
    ("-m 128m", {"memory_limit_bytes": 128 * MIB}),
    ("-m 128MB", {"memory_limit_bytes": 128 * MIB}),
    ("-M", {"disable_evictions": True}),
    ("-c 512x", {"conn_limit": 512}),
    ("-c 2 -c 3", {"conn_limit": 3}),
    ("-b 0", {"listen_backlog": 0}),
    ("-b -1", {"listen_backlog": -1}),
    ("-f 1.0001", {"slab_growth_factor": 1.0001}),
    ("-f 2", {"slab_growth_factor": 2.0}),
    ("-n 72", {"slab_min_size_bytes": 72}),
    ("-R 5", {"reqs_per_event": 5}),
    ("-C", {"disable_cas": True}),
    ("-B ascii", {"protocol": "ascii"}),
    ("-B binary", {"protocol": "binary"}),
    ("-B auto", {}),
    ("-D xy", {"prefix_delimiter": "x", "detail_enabled": True}),
    ("-D:", {"detail_enabled": True}),
    ("-F -X -W", {"disable_flush_all": True, "disable_dumping": True, "disable_watch": True}),
    ("-e /tmp/m", {"memory_file": "/tmp/m"}),
    ("-I 2m", {"item_size_max_bytes": 2 * MIB}),
    ("-I 512K", {"item_size_max_bytes": 512 << 10}),
    ("-I 1536k", {"item_size_max_bytes": 1536 << 10}),
    ("-I 2097152", {"item_size_max_bytes": 2 * MIB}),
    ("-I 1k -o slab_chunk_max=1", {"item_size_max_bytes": 1024, "slab_chunk_max_bytes": 1024}),
    ("-I 33m -m 70", {"item_size_max_bytes": 33 * MIB, "memory_limit_bytes": 70 * MIB}),
    # How words are split.
    ("-dvvp11212", {"daemon": True, "verbose": 2, "port": 11212}),
    ("-vp 11212", {"verbose": 1, "port": 11212}),
    ("--memory-l 65", {"memory_limit_bytes": 65 * MIB}),
    ("--unix-s /tmp/x", {"unix_socket": "/tmp/x"}),
    # Words that belong to no option are passed over; of first ones those that scripts have there.
    ("64 -p 0 words", {"port": 0}),
    ("64m -p 0", {"port": 0}),
    ("memcached -p 0", {"port": 0}),
    ("/usr/bin/memcached -p 0", {"port": 0}),
    ("-p 0 replicaton", {"port": 0}),
    ("serve replicaton -p 0", {"port": 0}),
    ("- -p 0", {"port": 0}),
    ("-- -t 0", {}),
    # A cut name that fits one of memcached's options means that, though ours fits as well.
    ("--co 5", {"conn_limit": 5}),
    ("--lo", {"lock_memory": True}),
    # Ours.
    ("--log-file /tmp/l", {"log_file": "/tmp/l"}),
    ("--log-fo json", {"log_format": "json"}),
    ("--shutdown-timeout 2.5", {"shutdown_timeout_s": 2.5}),
    ("--peer localhost", {"peers": ("localhost:11212",)}),
    ("--peer localhost:5,::1 --peer [::1]:6", {"peers": ("localhost:5", "[::1]:11212", "[::1]:6")}),
    ("--peer localhost,localhost:11212", {"peers": ("localhost:11212",)}),
    (
        "--peer localhost --replication-port 7",
        {"peers": ("localhost:7",), "replication_port": 7},
    ),
    (
        "--peer localhost --replication-port -1",
        {"peers": ("localhost:11212",), "replication_port": -1},
    ),
    ("--replication-listen ::1,127.0.0.1:0", {"replication_listen": ("::1", "127.0.0.1:0")}),
    (
        "--peer ::1 --replication-ack strict --replication-ack-timeout .5 --replication-queue 2k"
        " --replication-backlog 1G --node-id a --cluster-id b --sync-timeout 0 --tombstone-ttl 60",
        {
            "peers": ("[::1]:11212",),
            "replication_ack": "strict",
            "replication_ack_timeout_s": 0.5,
            "replication_queue": 2048,
            "replication_backlog_bytes": 1 << 30,
            "node_id": "a",
            "cluster_id": "b",
            "sync_timeout_s": 0.0,
            "tombstone_ttl_s": 60.0,
        },
    ),
    (
        "--peer localhost:5,127.0.0.1:6 --couchbase *:0 --couchbase-name me"
        " --couchbase-peer a --couchbase-peer b:7:8",
        {
            "peers": ("localhost:5", "127.0.0.1:6"),
            "couchbase": "*:0",
            "couchbase_name": "me",
            "couchbase_peers": ("a", "b:7:8"),
        },
    ),
    # With -x, -X and -q are repcached's.
    (
        "-X 11300 -vx localhost -q 500",
        {
            "peers": ("localhost:11300",),
            "verbose": 1,
            "replication_port": 11300,
            "replication_queue": 500,
        },
    ),
    ("-x ::1 --disable-dumping", {"peers": ("[::1]:11212",), "disable_dumping": True}),
    ("--peer ::1 -X", {"peers": ("[::1]:11212",), "disable_dumping": True}),
    ("-p 7 -- -x", {"port": 7}),
    ("serve -p 0", {"port": 0}),
    ("serve serve", {}),
]

CLASSIC = {
    "slab_reassign": False,
    "slab_automove": 0,
    "maxconns_fast": False,
    "lru_segmented": False,
    "lru_crawler": False,
    "lru_maintainer": False,
    "hash_algorithm": "jenkins",
}

EXTENDED_ACCEPTED: list[tuple[str, dict[str, Any]]] = [
    ("", {}),
    ("modern", {}),
    ("modern,", {}),
    ("modern=5", {}),
    ("maxconns_fast", {}),
    ("no_maxconns_fast", {"maxconns_fast": False}),
    ("no_maxconns_fast,maxconns_fast", {}),
    ("hot_lru_pct=40", {"hot_lru_pct": 40}),
    ("warm_lru_pct=60", {"warm_lru_pct": 60}),
    ("hot_max_factor=.5", {"hot_max_factor": 0.5}),
    ("warm_max_factor=1e1", {"warm_max_factor": 10.0}),
    ("temporary_ttl=0", {"temporary_ttl_s": 0}),
    ("temporary_ttl=60,no_lru_maintainer,lru_maintainer", {"temporary_ttl_s": 60}),
    ("idle_timeout=7", {"idle_timeout_s": 7}),
    ("idle_timeout=-1", {}),
    ("slab_chunk_max=16", {"slab_chunk_max_bytes": 16384}),
    ("slab_chunk_max=1024", {"slab_chunk_max_bytes": MIB}),
    ("slab_sizes=100-200-300", {"slab_sizes": (100, 200, 300)}),
    ("track_sizes", {"track_sizes": True}),
    ("no_lru_crawler", {"lru_crawler": False}),
    ("no_lru_crawler,lru_crawler=yes", {}),
    ("lru_crawler_sleep=0", {"lru_crawler_sleep_us": 0}),
    ("lru_crawler_tocrawl=4294967295", {"lru_crawler_tocrawl": 4294967295}),
    ("no_lru_maintainer", {"lru_maintainer": False, "lru_segmented": False}),
    ("no_slab_reassign", {"slab_reassign": False}),
    ("no_slab_reassign,slab_reassign", {}),
    ("slab_automove=2", {"slab_automove": 2}),
    ("no_slab_automove", {"slab_automove": 0}),
    ("no_slab_automove,slab_automove", {}),
    ("slab_automove_ratio=1", {"slab_automove_ratio": 1.0}),
    ("slab_automove_window=3", {"slab_automove_window_s": 3}),
    ("watcher_logbuf_size=1", {"watcher_logbuf_size_bytes": 1024}),
    ("worker_logbuf_size=1", {"worker_logbuf_size_bytes": 1024}),
    ("ssl_chain_cert=/c,ssl_key=/k", {"ssl_chain_cert": "/c", "ssl_key": "/k"}),
    ("ssl_ciphers=A:B,ssl_ca_cert=/a", {"ssl_ciphers": "A:B", "ssl_ca_cert": "/a"}),
    ("ssl_keyformat=2,ssl_verify_mode=3", {"ssl_keyformat": 2, "ssl_verify_mode": 3}),
    ("ssl_wbuf_size=32,ssl_min_version=3", {"ssl_wbuf_size_bytes": 32768, "ssl_min_version": 3}),
    ("ssl_session_cache,ssl_kernel_tls", {"ssl_session_cache": True, "ssl_kernel_tls": True}),
    ("no_modern", {**CLASSIC, "slab_chunk_max_bytes": MIB}),
    ("modern,no_modern,modern", {**CLASSIC, "slab_chunk_max_bytes": MIB}),
    ("slab_chunk_max=16,no_modern", {**CLASSIC, "slab_chunk_max_bytes": 16384}),
    ("no_modern,slab_chunk_max=16", {**CLASSIC, "slab_chunk_max_bytes": 16384}),
    ("no_chunked_items", {"slab_chunk_max_bytes": MIB}),
    ("slab_chunk_max=16,no_chunked_items", {"slab_chunk_max_bytes": MIB}),
    ("memory_accounting=resident", {"memory_accounting": "resident"}),
    ("debug_commands", {"debug_commands": True}),
    ("hashpower=12", {"hashpower_init": 12}),
    ("tail_repair_time=10", {"tail_repair_time_s": 10}),
    ("hash_algorithm=xxh3", {"hash_algorithm": "xxh3"}),
    ("read_buf_mem_limit=2", {"read_buf_mem_limit_bytes": 2 * MIB}),
    ("slab_automove_freeratio=0.5", {"slab_automove_freeratio": 0.5}),
    ("no_hashexpand=3,inline_ascii_resp,no_inline_ascii_resp,resp_obj_mem_limit", {}),
    ("drop_privileges,no_drop_privileges,relaxed_privileges,sock_cookie_id=3", {}),
]


@pytest.mark.parametrize(("line", "expected"), ACCEPTED)
def test_what_is_accepted(line, expected, serving):
    assert cli.main(line.split()) == 0
    assert changed(serving.served[0]) == expected


@pytest.mark.parametrize(("names", "expected"), EXTENDED_ACCEPTED)
def test_what_is_accepted_after_o(names, expected, serving):
    assert cli.main(["-o", names]) == 0
    assert changed(serving.served[0]) == expected


def test_a_large_item_limit_undoes_the_chunk_size_of_no_modern(serving):
    assert cli.main(["-o", "no_modern", "-I", "2m"]) == 0
    assert changed(serving.served[0]) == {**CLASSIC, "item_size_max_bytes": 2 * MIB}


def test_later_o_switches_parts_of_no_modern_back_on(serving):
    assert cli.main(["-o", "no_modern", "-v", "-o", "lru_maintainer,slab_reassign"]) == 0
    kept = {k: v for k, v in CLASSIC.items() if k not in ("lru_segmented", "slab_reassign")}
    del kept["lru_maintainer"]
    expected = {**kept, "slab_chunk_max_bytes": MIB, "verbose": 1}
    assert changed(serving.served[0]) == expected


def test_logins_choose_the_protocol(serving, tmp_path):
    users = tmp_path / "users"
    users.write_text("a:b\n")
    assert cli.main(["-S"]) == 0
    assert cli.main(["-Y", str(users)]) == 0
    assert [settings.protocol for settings in serving.served] == ["binary", "ascii"]


# Arguments, exit code, standard error. The words are those of memcached 1.6.45.
REFUSED: list[tuple[str, int, str]] = [
    ("--bogus", 1, "pymcd: unrecognized option '--bogus'"),
    ("-q", 1, "pymcd: invalid option -- 'q'"),
    ("-vq", 1, "pymcd: invalid option -- 'q'"),
    ("-p", 1, "pymcd: option requires an argument -- 'p'"),
    ("--port", 1, "pymcd: option '--port' requires an argument"),
    (
        "--p 3",
        1,
        "pymcd: option '--p' is ambiguous; possibilities: '--port' '--pidfile' '--protocol'",
    ),
    (
        "--mem 64",
        1,
        "pymcd: option '--mem' is ambiguous; possibilities: '--memory-limit' '--memory-file'",
    ),
    ("--daemon=x", 1, "pymcd: option '--daemon' doesn't allow an argument"),
    ("-t 0", 1, "Number of threads must be greater than 0"),
    ("-t abc", 1, "Number of threads must be greater than 0"),
    ("-t -1", 1, "Number of threads must be greater than 0"),
    ("-t 0 -t 4", 1, "Number of threads must be greater than 0"),
    ("-t 0 -c 0", 1, "Number of threads must be greater than 0"),
    ("-c 0 -t 0", 1, "Maximum connections must be greater than 0"),
    ("-c -5", 1, "Maximum connections must be greater than 0"),
    ("-c abc", 1, "Maximum connections must be greater than 0"),
    ("-n 0", 1, "Chunk size must be greater than 0"),
    ("-n abc", 1, "Chunk size must be greater than 0"),
    ("-f 1", 1, "Factor must be greater than 1"),
    ("-f abc", 1, "Factor must be greater than 1"),
    ("-R 0", 1, "Number of requests per event must be greater than 0"),
    ("-N 0", 1, "Maximum number of NAPI IDs must be greater than 0"),
    ("-N 5", 64, "Number of napi_ids(5) cannot be greater than number of threads(4)"),
    (
        "-B foo",
        64,
        "Invalid value for binding protocol: foo\n -- should be one of auto, binary, or ascii",
    ),
    ("-p 99999", 64, "ERROR: Invalid port number 99999."),
    ("-U 99999", 64, "ERROR: Invalid port number 99999."),
    ("-I 1023", 64, "Item max size cannot be less than 1024 bytes."),
    ("-I 2g", 64, "Item max size cannot be less than 1024 bytes."),
    ("-I abc", 64, "Item max size cannot be less than 1024 bytes."),
    (
        "-I 1k",
        64,
        "slab_chunk_max (bytes: 524288) cannot be larger than -I (item_size_max 1024)",
    ),
    ("-I 1025m -m 4096", 64, "Cannot set item size limit higher than a gigabyte."),
    ("-I 33m", 64, "Cannot set item size limit higher than 1/2 of memory max."),
    (
        "-I 1500k",
        64,
        "-I (item_size_max: 1536000) must be evenly divisible by slab_chunk_max (bytes: 524288)",
    ),
    (
        "-I 512k -o no_modern",
        64,
        "slab_chunk_max (bytes: 1048576) cannot be larger than -I (item_size_max 524288)",
    ),
    (
        "-o no_chunked_items -I 512k",
        64,
        "slab_chunk_max (bytes: 1048576) cannot be larger than -I (item_size_max 524288)",
    ),
    ("-m 0", 64, "Cannot set item size limit higher than 1/2 of memory max."),
    ("-m 1", 64, "Cannot set item size limit higher than 1/2 of memory max."),
    ("-S -B ascii", 64, "ERROR: You cannot allow the ASCII protocol while using SASL."),
    ("-S -B auto", 64, "ERROR: You cannot allow the ASCII protocol while using SASL."),
    ("-S -U 1 -p 0", 64, "ERROR: Cannot enable UDP while using binary SASL authentication."),
    (
        "-Y /x -B binary",
        64,
        "ERROR: You cannot allow the BINARY protocol while using ascii authentication tokens.",
    ),
    ("-Z -p 0", 64, "ERROR: You cannot enable SSL without a TCP port."),
    ("-o foo", 1, 'Illegal suboption "foo"'),
    ("-o foo=bar,x", 1, 'Illegal suboption "foo=bar"'),
    ("-o ,", 1, 'Illegal suboption ""'),
    ("-o modern,,modern", 1, 'Illegal suboption ""'),
    ("-o hot_lru_pct", 1, "Missing hot_lru_pct argument"),
    ("-o hot_lru_pct=", 1, "hot_lru_pct must be > 1 and < 80"),
    ("-o hot_lru_pct=0", 1, "hot_lru_pct must be > 1 and < 80"),
    ("-o hot_lru_pct=80", 1, "hot_lru_pct must be > 1 and < 80"),
    ("-o hot_lru_pct=41", 64, "hot_lru_pct + warm_lru_pct cannot be more than 80% combined"),
    ("-o warm_lru_pct", 1, "Missing warm_lru_pct argument"),
    ("-o warm_lru_pct=0", 1, "warm_lru_pct must be > 1 and < 80"),
    ("-o hot_max_factor", 1, "Missing hot_max_factor argument"),
    ("-o hot_max_factor=0", 1, "hot_max_factor must be > 0"),
    ("-o warm_max_factor", 1, "Missing warm_max_factor argument"),
    ("-o warm_max_factor=abc", 1, "warm_max_factor must be > 0"),
    ("-o temporary_ttl", 1, "Missing temporary_ttl argument"),
    (
        "-o temporary_ttl=60,no_lru_maintainer",
        64,
        "temporary_ttl requires lru_maintainer to be enabled",
    ),
    ("-o idle_timeout", 1, "Missing numeric argument for idle_timeout"),
    ("-o hashpower", 1, "Missing numeric argument for hashpower"),
    ("-o hashpower=0", 1, "Initial hashtable multiplier of 0 is too low"),
    ("-o hashpower=5", 1, "Initial hashtable multiplier of 5 is too low"),
    (
        "-o hashpower=33",
        1,
        "Initial hashtable multiplier of 33 is too high\n"
        'Choose a value based on "STAT hash_power_level" from a running instance',
    ),
    ("-o slab_automove=3", 1, "slab_automove must be between 0 and 2"),
    ("-o slab_automove=-1", 1, "slab_automove must be between 0 and 2"),
    ("-o slab_automove_ratio", 1, "Missing slab_automove_ratio argument"),
    ("-o slab_automove_ratio=0", 1, "slab_automove_ratio must be > 0 and < 1"),
    ("-o slab_automove_ratio=1.1", 1, "slab_automove_ratio must be > 0 and < 1"),
    ("-o slab_automove_window", 1, "Missing slab_automove_window argument"),
    ("-o slab_automove_window=2", 1, "slab_automove_window must be > 2 and < 1800"),
    ("-o slab_automove_window=1801", 1, "slab_automove_window must be > 2 and < 1800"),
    ("-c 2147483648", 1, "Maximum connections must be greater than 0"),
    ("-o slab_automove_freeratio=1e309", 1, "could not parse argument to slab_automove_freeratio"),
    ("-o tail_repair_time", 1, "Missing numeric argument for tail_repair_time"),
    ("-o tail_repair_time=9", 1, "Cannot set tail_repair_time to less than 10 seconds"),
    ("-o tail_repair_time=0", 1, "Cannot set tail_repair_time to less than 10 seconds"),
    ("-o hash_algorithm", 1, "Missing hash_algorithm argument"),
    ("-o hash_algorithm=foo", 1, "Unknown hash_algorithm option (jenkins, murmur3, xxh3)"),
    ("-o lru_crawler_sleep", 1, "Missing lru_crawler_sleep value"),
    ("-o lru_crawler_sleep=1000001", 1, "LRU crawler sleep must be between 0 and 1 second"),
    ("-o lru_crawler_sleep=-1", 1, "LRU crawler sleep must be between 0 and 1 second"),
    ("-o lru_crawler_tocrawl", 1, "Missing lru_crawler_tocrawl value"),
    ("-o lru_crawler_tocrawl=abc", 1, "lru_crawler_tocrawl takes a numeric 32bit value"),
    ("-o lru_crawler_tocrawl=-1", 1, "lru_crawler_tocrawl takes a numeric 32bit value"),
    ("-o watcher_logbuf_size", 1, "Missing watcher_logbuf_size argument"),
    ("-o watcher_logbuf_size=abc", 1, "could not parse argument to watcher_logbuf_size"),
    ("-o worker_logbuf_size", 1, "Missing worker_logbuf_size argument"),
    ("-o worker_logbuf_size=abc", 1, "could not parse argument to worker_logbuf_size"),
    (
        "-o slab_sizes=100-101",
        64,
        "slab size 101 must be at least 8 bytes larger than previous class",
    ),
    (
        "-o slab_sizes=200-100",
        64,
        "slab size 100 cannot be lower than or equal to a previous class size",
    ),
    ("-o slab_sizes=abc", 64, "slab size 0 is out of valid range"),
    ("-o slab_sizes=96-1048577", 64, "slab size 1048577 is out of valid range"),
    (
        "-o slab_chunk_max=300",
        64,
        "-I (item_size_max: 1048576) must be evenly divisible by slab_chunk_max (bytes: 307200)",
    ),
    ("-o slab_chunk_max=0", 1, "slab_chunk_max must be >= 0"),
    ("-o slab_chunk_max=-1", 1, "slab_chunk_max must be >= 0"),
    ("-o slab_chunk_max=16384", 1, "slab_chunk_max must be specified in kilobytes."),
    ("-o slab_chunk_max=4k", 1, "could not parse argument to slab_chunk_max"),
    ("-o ssl_chain_cert", 1, "Missing ssl_chain_cert argument"),
    ("-o ssl_key", 1, "Missing ssl_key argument"),
    ("-o ssl_keyformat", 1, "Missing ssl_keyformat argument"),
    ("-o ssl_keyformat=abc", 1, "could not parse argument to ssl_keyformat"),
    ("-o ssl_verify_mode", 1, "Missing ssl_verify_mode argument"),
    ("-o ssl_verify_mode=4", 1, "Invalid ssl_verify_mode. Use help to see valid options."),
    ("-o ssl_verify_mode=abc", 1, "could not parse argument to ssl_verify_mode"),
    ("-o ssl_ciphers", 1, "Missing ssl_ciphers argument"),
    ("-o ssl_ca_cert", 1, "Missing ssl_ca_cert argument"),
    ("-o ssl_wbuf_size", 1, "Missing ssl_wbuf_size argument"),
    ("-o ssl_wbuf_size=abc", 1, "could not parse argument to ssl_wbuf_size"),
    ("-o ssl_min_version", 1, "Missing ssl_min_version argument"),
    ("-o ssl_min_version=4", 1, "Invalid ssl_min_version. Use help to see valid options."),
    ("-o ssl_min_version=abc", 1, "could not parse argument to ssl_min_version"),
    ("-o read_buf_mem_limit", 1, "Missing read_buf_mem_limit argument"),
    ("-o read_buf_mem_limit=abc", 1, "could not parse argument to read_buf_mem_limit"),
    ("-o slab_automove_freeratio", 1, "Missing slab_automove_freeratio argument"),
    ("-o slab_automove_freeratio=abc", 1, "could not parse argument to slab_automove_freeratio"),
    ("-t 0 -h", 1, "Number of threads must be greater than 0"),
]

REFUSED_BY_US: list[tuple[str, int, str]] = [
    ("-t 4294967297", 1, "Number of threads must be greater than 0"),
    ("-p abc", 64, "ERROR: Invalid port number abc."),
    ("-p -5", 64, "ERROR: Invalid port number -5."),
    ("-U abc", 64, "ERROR: Invalid port number abc."),
    ("-U 99999 -p 0", 64, "ERROR: Invalid port number 99999."),
    ("-a 999", 64, "ERROR: Invalid unix socket mask 999."),
    ("-a 70000000", 64, "ERROR: Invalid unix socket mask 70000000."),
    ("-b abc", 64, "ERROR: Invalid listen backlog abc."),
    ("-m abc", 64, "ERROR: Invalid memory limit abc: not a number of megabytes."),
    ("-m 2g", 64, "ERROR: Invalid memory limit 2g: not a number of megabytes."),
    ("-m -1", 64, "Cannot set item size limit higher than 1/2 of memory max."),
    ("-n -1", 1, "Chunk size must be greater than 0"),
    ("-R -1", 1, "Number of requests per event must be greater than 0"),
    ("-l ,,", 64, "ERROR: Empty address to listen on."),
    ("-o temporary_ttl=abc", 1, "could not parse argument to temporary_ttl"),
    ("-o idle_timeout=abc", 1, "could not parse argument to idle_timeout"),
    ("-o slab_automove=abc", 1, "could not parse argument to slab_automove"),
    ("-o slab_chunk_max", 1, "Missing slab_chunk_max argument"),
    ("-o slab_chunk_max=abc", 1, "could not parse argument to slab_chunk_max"),
    ("-o slab_sizes", 1, "Missing slab_sizes argument"),
    ("-o slab_sizes=", 64, "Missing slab_sizes argument"),
    ("-o lru_crawler_tocrawl=4294967296", 1, "lru_crawler_tocrawl takes a numeric 32bit value"),
    ("-o memory_accounting", 1, "Missing memory_accounting argument"),
    ("-o memory_accounting=x", 1, "Unknown memory_accounting option (memcached, resident)"),
    (
        "-o ext_path=/x:1",
        1,
        'Illegal suboption "ext_path=/x:1": there is no external storage here',
    ),
    ("-o proxy_config=x", 1, 'Illegal suboption "proxy_config=x": there is no proxy here'),
    (
        "--log- 1",
        1,
        "pymcd: option '--log-' is ambiguous; possibilities: '--log-file' '--log-format'",
    ),
    ("--log-format xml", 64, "--log-format: Unknown log format (text, json)"),
    (
        "--shutdown-timeout soon",
        64,
        "--shutdown-timeout: The time to shut down in must be a number of seconds, not negative",
    ),
    ("--peer ,", 64, "--peer: ERROR: Empty peer."),
    (
        "--peer localhost --peer-x 1",
        1,
        "pymcd: unrecognized option '--peer-x'; did you mean --peer?",
    ),
    ("-o hot_lru_prc=30", 1, 'Illegal suboption "hot_lru_prc=30"; did you mean hot_lru_pct?'),
    (
        "--couchbase :8091",
        64,
        "--couchbase: ERROR: Invalid address for --couchbase :8091: '' is no host;"
        " HOST, HOST:PORT, * or *:PORT is possible.",
    ),
    ("-x localhost -X", 1, "pymcd: option requires an argument -- 'X'"),
    (
        "-x localhost -X x",
        64,
        "-X: ERROR: Invalid replication port number x: 1 to 65535 is possible, and -1 for any free"
        " one.",
    ),
    ("--peer ::1 -q 5", 1, "pymcd: invalid option -- 'q'"),
    (
        "--replication-port 0",
        64,
        "--replication-port: ERROR: Invalid replication port number 0: 1 to 65535 is possible, and"
        " -1 for any free one.",
    ),
    (
        "--replication-queue 5x",
        64,
        "--replication-queue: The replication queue must hold at least 1 change",
    ),
    (
        "--peer ::1 --replication-ack maybe",
        64,
        "--replication-ack: Unknown replication-ack maybe (async, semi, strict)",
    ),
    (
        "--peer ::1 --replication-secret-file /nonexistent",
        1,
        "Could not open secret file [/nonexistent]: No such file or directory",
    ),
    (
        "--fill-from a --fill-from-login-file /nonexistent",
        1,
        "Could not open login file [/nonexistent]: No such file or directory",
    ),
    (
        "-Y /nonexistent",
        1,
        "Could not open authfile [/nonexistent] for reading, error No such file or directory",
    ),
    (
        "--config /nonexistent",
        1,
        "Could not open config file [/nonexistent]: No such file or directory",
    ),
]


# A first word that is neither an option nor a tool: a slip, which must not start a server.
UNKNOWN_WORDS: list[tuple[str, int, str]] = [
    (f"{word} -p 0", 64, f"pymcd: neither an option nor a tool: {word}{more}")
    for word, more in [
        ("replicaton", "; did you mean replication?"),
        ("Replication", "; did you mean replication?"),
        ("servr", "; did you mean serve?"),
        ("hlep", "; did you mean help?"),
        ("start", "; see pymcd --help"),
        ("127.0.0.1:11211", "; see pymcd --help"),
        ("64mb", "; see pymcd --help"),
        ("/run/cache.sock", "; see pymcd --help"),
    ]
]


@pytest.mark.parametrize(("line", "exit_code", "message"), REFUSED + REFUSED_BY_US + UNKNOWN_WORDS)
def test_what_is_refused(line, exit_code, message, serving, capsys):
    got = cli.main(line.split())
    out, err = capsys.readouterr()
    # What getopt does not know memcached sees as an argument of that name.
    more = 'Illegal argument "?"\n' if message.startswith("pymcd: ") and exit_code == 1 else ""
    assert (got, out, err) == (exit_code, "", f"{message}\n{more}")
    assert serving.served == []


def test_an_empty_first_word_is_of_a_variable_that_is_not_set(serving):
    assert cli.main(["", "-p", "0"]) == 0
    assert changed(serving.served[0]) == {"port": 0}


def test_an_empty_word_is_no_delimiter(capsys):
    assert cli.main(["-D", ""]) == 1
    assert capsys.readouterr().err == "No delimiter specified\n"


def test_an_empty_address_does_not_mean_all_interfaces(capsys):
    assert cli.main(["-l", ""]) == 64
    assert capsys.readouterr().err == "ERROR: Empty address to listen on.\n"


@pytest.mark.parametrize(
    ("user", "exit_code", "message"),
    [
        (None, 64, "can't run as root without the -u switch\n"),
        ("", 64, "can't run as root without the -u switch\n"),
        ("no such user", 67, "can't find the user no such user to switch to\n"),
        ("root", 0, ""),
    ],
)
def test_root_must_say_whom_to_become(user, exit_code, message, monkeypatch, capsys):
    monkeypatch.setattr(daemon, "runs_as_root", lambda: True)
    words = [] if user is None else ["-u", user]
    assert cli.main(words) == exit_code
    assert capsys.readouterr().err == message


def test_others_need_no_user(serving):
    assert cli.main(["-u", "no such user"]) == 0
    assert len(serving.served) == 1


def test_the_exit_code_is_the_servers(serving):
    serving.exit_code = 71
    assert cli.main([]) == 71


def test_what_has_no_effect_is_said_once_and_only_to_who_asks(capsys):
    words = ["-k", "-N", "1", "-o", "no_hashexpand,no_hashexpand,hashpower=20"]
    assert cli.main(words) == 0
    assert capsys.readouterr().err == ""
    assert cli.main([*words, "-v"]) == 0
    assert capsys.readouterr().err == (
        "warning: -k has no effect here\n"
        "warning: -N has no effect here\n"
        "warning: -o no_hashexpand has no effect here\n"
        "warning: -o hashpower has no effect here\n"
    )


def test_a_cache_that_is_not_kept_is_said_to_everybody(capsys):
    assert cli.main(["-e", "/tmp/x", "-e", "/tmp/y"]) == 0
    assert capsys.readouterr().err == "warning: -e has no effect here: the cache starts empty\n"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["-t", "1"], ""),
        (["-t", "4", "-t", "1"], ""),
        (
            ["-t", "1", "-t", "2"],
            "warning: -t 2 has no effect: a server uses one core; for more start several\n",
        ),
    ],
)
def test_threads_that_do_nothing_are_said_to_everybody(words, said, capsys):
    assert cli.main(words) == 0
    assert capsys.readouterr().err == said


def test_variables_of_others_are_said_to_who_asks(capsys, tmp_path):
    path = tmp_path / "sysconfig"
    path.write_text("PORT=5\nTZ=UTC\n")
    assert cli.main(["--config", str(path)]) == 0
    assert capsys.readouterr().err == ""
    assert cli.main(["-v", "--config", str(path)]) == 0
    said = f"warning: {path}:2: TZ is none of PORT, USER, MAXCONN, CACHESIZE, OPTIONS\n"
    assert capsys.readouterr().err == said


@pytest.mark.parametrize(
    ("content", "mode", "exit_code", "message"),
    [
        (b"s" * 16 + b"\n", 0o600, 0, ""),
        (b"s" * 16, 0o640, 0, ""),
        (
            b"s" * 16,
            0o644,
            0,
            "warning: secret file [{}] can be read by everyone here: chmod o-r it",
        ),
        (
            b"s" * 15,
            0o600,
            0,
            "warning: secret in [{}] is short enough to be guessed: use 16 bytes or more",
        ),
        (b" \r\n", 0o600, 1, "Secret file [{}] is empty"),
        (b"s" * 16 + b"\r\n\n " + b"t" * 16, 0o600, 0, ""),
        (
            b"s" * 16 + b"\nshort\n",
            0o600,
            0,
            "warning: secret in [{}] is short enough to be guessed: use 16 bytes or more",
        ),
        (b"\xff\x80" * 8 + b"\nshort\r", 0o600, 0, ""),
        (b"0123456789abcdef\n" * 9, 0o600, 1, "Secret file [{}] has more than 8 lines"),
        (b"s" * 4097, 0o600, 1, "Secret file [{}] is longer than 4096 bytes"),
    ],
)
def test_the_secret_of_the_pair(content, mode, exit_code, message, serving, tmp_path, capsys):
    path = tmp_path / "secret"
    path.write_bytes(content)
    path.chmod(mode)
    assert cli.main(["-x", "10.0.0.2", "--replication-secret-file", str(path)]) == exit_code
    assert capsys.readouterr().err == (message.format(path) + "\n" if message else "")
    assert len(serving.served) == (exit_code == 0)


@pytest.mark.parametrize(
    ("content", "mode", "exit_code", "message"),
    [
        (b"alice:pa:ss word\n", 0o600, 0, ""),
        (b"\r\nalice:x\r\nbob:y\r\n", 0o640, 0, ""),
        (b"a:b", 0o644, 0, "warning: login file [{}] can be read by everyone here: chmod o-r it"),
        (b"", 0o600, 1, "Login file [{}] has no line user:password"),
        (b"secretive\n", 0o600, 1, "Login file [{}] has no line user:password"),
        (b":b\n", 0o600, 1, "Login file [{}] has no line user:password"),
        (b"a:\n", 0o600, 1, "Login file [{}] has no line user:password"),
        (b"a b:c\n", 0o600, 1, "Login file [{}] has a user with a blank, who cannot log in"),
        (b"s" * 4097, 0o600, 1, "Login file [{}] is longer than 4096 bytes"),
    ],
)
def test_the_login_of_a_fill(content, mode, exit_code, message, serving, tmp_path, capsys):
    path = tmp_path / "login"
    path.write_bytes(content)
    path.chmod(mode)
    assert cli.main(["--fill-from", "old", "--fill-from-login-file", str(path)]) == exit_code
    assert capsys.readouterr().err == (message.format(path) + "\n" if message else "")
    assert len(serving.served) == (exit_code == 0)


def test_what_only_a_fill_needs_has_no_effect_without_one(capsys):
    assert cli.main(["-v", "--fill-from-tls"]) == 0
    assert capsys.readouterr().err == "warning: --fill-from-tls has no effect without --fill-from\n"


def test_a_variable_of_no_option_is_said_to_everybody(monkeypatch, capsys, serving):
    monkeypatch.setenv("PYMCD_MEMROY_LIMIT", "512")
    assert cli.main(["-t", "0"]) == 1
    assert cli.main([]) == 0
    assert capsys.readouterr().err == (
        "Number of threads must be greater than 0\n"
        "warning: PYMCD_MEMROY_LIMIT belongs to no option; did you mean PYMCD_MEMORY_LIMIT?\n"
    )
    assert changed(serving.served[0]) == {}


def test_what_only_a_pair_needs_has_no_effect_without_a_peer(capsys):
    assert cli.main(["-v", "--replication-ack", "strict"]) == 0
    assert capsys.readouterr().err == "warning: --replication-ack has no effect without --peer\n"


def test_what_only_a_bucket_needs_has_no_effect_without_one(capsys):
    assert cli.main(["-v", "--couchbase-name", "me"]) == 0
    assert (
        capsys.readouterr().err == "warning: --couchbase-name has no effect without --couchbase\n"
    )


def test_a_wrapper_named_debug_has_the_debug_commands(monkeypatch, serving):
    monkeypatch.setattr(sys, "argv", ["/usr/bin/memcached-debug"])
    assert cli.main([]) == 0
    assert changed(serving.served[0]) == {"debug_commands": True}


def test_a_file_and_the_environment_are_read(monkeypatch, serving, tmp_path):
    first, second = tmp_path / "first", tmp_path / "second"
    first.write_text("-p 1\n-c 5\n")
    second.write_text("port = 2")
    monkeypatch.setenv("PYMCD_THREADS", "7")
    assert cli.main(["--config", str(first), "-p", "3"]) == 0
    monkeypatch.setenv("PYMCD_CONFIG", str(second))
    assert cli.main([]) == 0
    # Of several files the last one named counts.
    assert cli.main(["--config", str(second), "--config", str(first)]) == 0
    assert [changed(settings) for settings in serving.served] == [
        {"port": 3, "conn_limit": 5, "threads": 7},
        {"port": 2, "threads": 7},
        {"port": 1, "conn_limit": 5, "threads": 7},
    ]


def test_an_interrupt_before_the_server_takes_charge(serving, monkeypatch):
    def interrupted(settings: Settings) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(cli, "check_start", interrupted)
    assert cli.main([]) == 1


# What answers and ends.


@pytest.mark.parametrize("words", [["-h"], ["--help"], ["-vh", "-t", "0"], ["-I1", "-h"], ["help"]])
def test_help(words, capsys):
    assert cli.main(words) == 0
    out, err = capsys.readouterr()
    assert out.startswith("pymcd 0.1.0\nUsage: pymcd [OPTION]... ")
    assert err == ""
    titles = re.findall(r"^(\S.*):$", out, re.MULTILINE)
    assert titles == [*SECTIONS, "Names for -o", "Tools"]
    for option in OPTIONS:
        assert f"--{option.name}" in out
    for word in ("unix-socket", "enable-ssl", "sasl", *TOOLS):
        assert word in out
    for word in ("ext_path", "proxy_config", "memcached 1."):
        assert word not in out


@pytest.mark.parametrize("width", [80, 132])
def test_the_help_fits_the_terminal(width, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", str(width))
    assert cli.main(["-h"]) == 0
    assert max(map(len, capsys.readouterr().out.splitlines())) <= min(width, 100)


def test_the_help_of_a_tool(capsys):
    for name in TOOLS:
        told = set()
        for words in ([name, "-h"], [name, "--help"], ["help", name]):
            assert cli.main(words) == 0
            out, err = capsys.readouterr()
            assert (out.startswith(f"usage: pymcd {name}"), err) == (True, "")
            assert max(map(len, out.splitlines())) <= 80
            told.add(out)
        assert len(told) == 1


def test_help_for_what_is_no_tool(capsys):
    assert cli.main(["help", "passwrd"]) == 64
    assert cli.main(["help", "nonsense"]) == 64
    assert cli.main(["help", "passwd", "witness"]) == 64
    assert capsys.readouterr().err == (
        "pymcd help: no tool is named passwrd; did you mean passwd?\n"
        "pymcd help: no tool is named nonsense; see pymcd --help\n"
        f"pymcd help: more than one word\n{tool_help.USAGE}\n"
    )


@pytest.mark.parametrize("words", ["-h", "-V", "-i", "help --man", "completion bash", "size 9 9"])
def test_an_answer_that_the_disk_has_no_room_for(words):
    command = [sys.executable, "-m", "pymcd", *words.split()]
    with open("/dev/full", "w") as full:
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True)
    assert (done.returncode, done.stderr) == (
        1,
        "pymcd: standard output: No space left on device\n",
    )


def test_every_tool_is_a_module():
    folder = Path(tools.__file__).parent
    assert list(TOOLS) == sorted(TOOLS)
    for name, what in TOOLS.items():
        module = importlib.import_module(f"pymcd.tools.{name}")
        assert callable(getattr(module, name))
        assert module.HELP.splitlines()[0].startswith(f"usage: pymcd {name}")
        assert 0 < len(what) <= 80
        assert not what.endswith(".")
    # A module with a help is a tool.
    assert set(TOOLS) == {path.stem for path in folder.glob("*.py") if "\nHELP" in path.read_text()}


@pytest.mark.parametrize("words", [["-V"], ["--version"], ["-V", "--bogus"], ["serve", "-V"]])
def test_version(words, capsys):
    assert cli.main(words) == 0
    assert capsys.readouterr() == ("pymcd 0.1.0\n", "")


def test_license(capsys):
    assert cli.main(["-i"]) == 0
    out, err = capsys.readouterr()
    assert out.startswith("pymcd 0.1.0\n\n")
    assert "Redistribution and use in source and binary forms" in out
    assert err == ""


def test_license_without_an_installed_package(capsys, monkeypatch):
    def missing(name: str) -> None:
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "distribution", missing)
    test_license(capsys)


#: What takes longer to load than an interpreter takes to start, or leads to what does.
SLOW = {
    *("asyncio", "click", "dataclasses", "difflib", "importlib.metadata", "inspect", "ipaddress"),
    *("pathlib", "shlex", "shutil", "socket", "ssl", "tomllib", "trio"),
    *("pymcd.config", "pymcd.server", "pymcd.sources", "pymcd.store"),
}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "exit_code", "needed"),
    [
        ("-h", 0, []),
        ("--help", 0, []),
        ("help", 0, []),
        ("-V", 0, []),
        ("--vers", 0, []),
        ("replicaton", 64, ["difflib"]),
        ("--prot", 1, []),
        ("--prt=1", 1, ["difflib"]),
    ],
)
def test_answers_wait_for_nothing_that_takes_long_to_load(words, exit_code, needed):
    program = (
        "import sys\n"
        "before = set(sys.modules)\n"
        "from pymcd.__main__ import main\n"
        f"sys.argv[1:] = {words.split()!r}\n"
        "code = main()\n"
        f"print(code, *sorted({SLOW!r} & set(sys.modules) - before))\n"
    )
    done = subprocess.run([sys.executable, "-I", "-c", program], capture_output=True, text=True)
    assert done.stdout.splitlines()[-1].split() == [str(exit_code), *needed], done.stderr


def test_the_module_is_the_command():
    done = subprocess.run(
        [sys.executable, "-m", "pymcd", "-t", "0"], capture_output=True, text=True
    )
    expected = (1, "", "Number of threads must be greater than 0\n")
    assert (done.returncode, done.stdout, done.stderr) == expected


# The tables themselves.


def test_no_letter_is_taken_by_an_own_option():
    memcacheds = set("pUsalbdPurkLtNvmMIfnecRCBDAFXWSYZohiV")
    assert {o.letter for o in OPTIONS} == {"", "x"} | memcacheds
    # -D is memcached's; only its long name is ours.
    assert {o.letter for o in OPTIONS if o.own} == {"", "D", "x"}


def test_memcacheds_letters_are_all_there():
    letters = "".join(sorted(o.letter for o in OPTIONS))
    assert letters == "".join(sorted("aAZpsUmMckhiVrvdluPfntDLRCbBISFXWYeoN" + "x"))


def test_every_row_after_o_is_in_the_table():
    tried = {word.partition("=")[0] for names, _ in EXTENDED_ACCEPTED for word in names.split(",")}
    assert tried - {""} == set(EXTENDED)


@pytest.mark.parametrize(
    ("words", "restarted"),
    [([], 1), (["-p", "0"], 1), (["serve"], 1), (["-V"], 0), (["-h"], 0), (["-p", "x"], 1)],
)
def test_only_what_serves_is_started_again_for_short_collections(words, restarted, monkeypatch):
    times: list[None] = []
    monkeypatch.setattr(cli, "own_stderr", lambda: None)
    monkeypatch.setattr(cli, "restart_with_short_collections", lambda: times.append(None))
    cli.main(words, Signals())
    assert len(times) == restarted
    cli.main(words)  # in a process that is not ours
    assert len(times) == restarted
