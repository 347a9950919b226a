"""The reports of `stats`: the same keys in the same order, of the same kind, and equal counters."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from .conftest import Servers
    from .servers import Server

# Values that tell of the process, the machine or the moment, and so differ between two servers.
OF_THE_PROCESS = frozenset(
    [
        "pid",
        "uptime",
        "time",
        "libevent",
        "pointer_size",
        "rusage_user",
        "rusage_system",
        "curr_connections",
        "total_connections",
        "connection_structures",
        "response_obj_oom",
        "response_obj_count",
        "response_obj_bytes",
        "read_buf_count",
        "read_buf_bytes",
        "read_buf_bytes_free",
        "read_buf_oom",
        "reserved_fds",
        "bytes_read",
        "bytes_written",
        "conn_yields",
        "lru_maintainer_juggles",
        "lru_crawler_starts",
        "lru_crawler_running",
        "hash_power_level",
        "hash_bytes",
        "hash_is_expanding",
        "malloc_fails",
        "log_worker_dropped",
        "log_worker_written",
        "log_watcher_skipped",
        "log_watcher_sent",
        "log_watchers",
        "unexpected_napi_ids",
        "round_robin_fallback",
        "crawler_items_checked",
        "crawler_reclaimed",
        "moves_to_cold",
        "moves_to_warm",
        "moves_within_lru",
        "lru_bumps_dropped",
        "number_hot",
        "number_warm",
        "number_cold",
        "age",
        "age_hot",
        "age_warm",
        "lrutail_reflocked",
        "hits_to_hot",
        "hits_to_warm",
        "hits_to_cold",
        "hits_to_temp",
    ]
)
# `stats settings`: how a thing is done, rather than what is done.
OF_THE_PROGRAM = frozenset(["hash_algorithm", "tail_repair_time"])

STORE = b"set k%d 7 %d %d\r\n%s\r\n"
SCRIPT = (
    b"".join(
        STORE % (i, 0, size, b"x" * size) for i, size in enumerate((1, 100, 1000, 5000, 20000))
    )
    + b"add k0 0 0 1\r\nx\r\nadd new 0 0 1\r\n5\r\nreplace none 0 0 1\r\nx\r\n"
    b"append k1 0 0 3\r\nabc\r\n"
    + b"prepend none 0 0 1\r\nx\r\nget k0 k1 none\r\ngets k2\r\nget none\r\nincr new 1\r\n"
    b"decr new 2\r\n"
    + b"incr none 1\r\ndecr none 1\r\ntouch k0 0\r\ntouch none 0\r\ngat 0 k0 none\r\n"
    + b"cas k0 0 0 1 99999\r\ny\r\ncas none 0 0 1 1\r\ny\r\ndelete k3\r\ndelete none\r\n"
    + STORE % (9, -1, 1, b"x")
    + b"get k9\r\nset big 0 0 2000000\r\n"
    + b"x" * 2000000
    + b"\r\n"
    + b"set k0 0 0 1\r\nzz\r\nbogus\r\nverbosity 0\r\n"
)
FLUSH = b"flush_all\r\nget k0\r\nset after 0 0 1\r\na\r\nget after\r\n"
REPORTS = (b"", b" settings", b" items", b" slabs")


def _ask(server: Server, request: bytes) -> bytes:
    with server.connect() as stream:
        stream.sendall(request + b"quit\r\n")
        answer = bytearray()
        while chunk := stream.recv(1 << 20):
            answer += chunk
    return bytes(answer)


def _report(server: Server, name: bytes) -> dict[str, str]:
    lines = _ask(server, b"stats%s\r\n" % name).decode().split("\r\n")
    assert lines[-2:] == ["END", ""]
    rows = [line.split(" ", 2) for line in lines[:-2]]
    assert all(row[0] == "STAT" and len(row) == 3 for row in rows)
    return {row[1]: row[2] for row in rows}


def _kind(value: str) -> str:
    if re.fullmatch(r"-?\d+", value):
        return "integer"
    return "seconds.microseconds" if re.fullmatch(r"\d+\.\d{6}", value) else "word"


def _plain(key: str) -> str:
    return key.rpartition(":")[2]


def _differences(ours: dict[str, str], real: dict[str, str]) -> dict[str, tuple[str, str]]:
    """Return what differs: the subject's value, then memcached's."""
    return {
        key: (ours.get(key, "missing"), real.get(key, "missing"))
        for key in sorted(ours.keys() | real.keys())
        if ours.get(key) != real.get(key)
    }


@pytest.fixture
def pair(
    servers: Servers, reference: tuple[str, ...], subject: tuple[str, ...]
) -> tuple[Server, Server]:
    """A fresh reference and a fresh subject to which the same was said."""
    both = (
        servers.get(reference, ("-t", "4"), fresh=True),
        servers.get(subject, ("-t", "4"), fresh=True),
    )
    answers = [
        re.sub(rb"VALUE (\S+ \d+ \d+) \d+", rb"VALUE \1 *", _ask(each, SCRIPT)) for each in both
    ]
    assert answers[1] == answers[0]
    return both


@pytest.mark.parametrize("name", REPORTS, ids=lambda name: f"stats{name.decode()}")
def test_keys_and_kinds(pair: tuple[Server, Server], name: bytes) -> None:
    real, ours = (_report(server, name) for server in pair)
    assert list(ours) == list(real)
    # malloc_fails and others may be missing in one build: order is compared above, kinds here.
    assert {key: _kind(ours[key]) for key in ours if _plain(key) != "libevent"} == {
        key: _kind(real[key]) for key in real if _plain(key) != "libevent"
    }


@pytest.mark.parametrize("name", REPORTS, ids=lambda name: f"stats{name.decode()}")
def test_counters_agree(pair: tuple[Server, Server], name: bytes) -> None:
    left_out = OF_THE_PROCESS | OF_THE_PROGRAM
    real, ours = (
        {key: value for key, value in _report(server, name).items() if _plain(key) not in left_out}
        for server in pair
    )
    assert _differences(ours, real) == {}


def test_counters_agree_after_a_flush(pair: tuple[Server, Server]) -> None:
    answers = [_ask(server, FLUSH) for server in pair]
    assert answers[1] == answers[0]
    keys = (
        "cmd_flush",
        "get_flushed",
        "get_hits",
        "get_misses",
        "total_items",
        "cmd_get",
        "cmd_set",
    )
    real, ours = ({key: _report(server, b"")[key] for key in keys} for server in pair)
    assert _differences(ours, real) == {}


def test_reset(pair: tuple[Server, Server]) -> None:
    answers = [_ask(server, b"stats reset\r\n") for server in pair]
    assert answers[1] == answers[0] == b"RESET\r\n"
    keys = (
        "cmd_get",
        "cmd_set",
        "get_hits",
        "total_items",
        "curr_items",
        "evictions",
        "bytes",
        "store_too_large",
        "delete_hits",
        "incr_hits",
        "touch_hits",
        "cas_misses",
        "cas_badval",
    )
    real, ours = ({key: _report(server, b"")[key] for key in keys} for server in pair)
    assert _differences(ours, real) == {}


def test_the_general_report_fits_into_collectd(servers: Servers, subject: tuple[str, ...]) -> None:
    # collectd reads it into 4096 bytes, and loses `bytes` and `curr_items` at its end otherwise.
    server = servers.get(subject, ("-t", "4"), fresh=True)
    _ask(server, SCRIPT)
    assert len(_ask(server, b"stats\r\n")) < 4096


@pytest.mark.parametrize(
    "switches",
    [
        "-m 128 -c 50 -f 1.5 -n 64 -I 2m",
        "-M -C -F -X -W -A",
        "-o no_modern",
        "-o hot_lru_pct=30,warm_lru_pct=30,idle_timeout=60,temporary_ttl=61,track_sizes",
        "-o slab_automove=2,lru_crawler_sleep=200,lru_crawler_tocrawl=7,no_maxconns_fast",
        "-R 5 -b 77 -D / -B ascii",
        "-a 755 -k -r -t 8 -N 2 -B auto -U 0 -vv",
        "-m 128 -f 1.05 -n 10 -I 512k -o hashpower=20,hash_algorithm=xxh3,no_hashexpand",
        "-o no_slab_reassign,no_lru_crawler,no_lru_maintainer,hash_algorithm=jenkins",
        "-o slab_chunk_max=16,slab_automove_window=5,slab_automove_ratio=0.5,tail_repair_time=100",
        "-o slab_automove_freeratio=0.1,slab_sizes=100-200-300",
        "-o hot_max_factor=0.5,warm_max_factor=3,read_buf_mem_limit=16,resp_obj_mem_limit=16",
        "-o watcher_logbuf_size=128,worker_logbuf_size=32,inline_ascii_resp,no_inline_ascii_resp",
        "-o modern,drop_privileges,no_drop_privileges",
        "-o ssl_chain_cert=x,ssl_key=y,ssl_min_version=2,ssl_wbuf_size=8,ssl_verify_mode=1",
    ],
)
def test_settings_follow_the_switches(
    servers: Servers, reference: tuple[str, ...], subject: tuple[str, ...], switches: str
) -> None:
    real, ours = (
        _report(servers.get(command, tuple(switches.split()), fresh=True), b" settings")
        for command in (reference, subject)
    )
    assert _differences(ours, real) == {}


def test_connections(
    servers: Servers, reference: tuple[str, ...], subject: tuple[str, ...]
) -> None:
    seen = []
    for command in (reference, subject):
        text = _ask(servers.get(command, (), fresh=True), b"stats conns\r\n")
        text = re.sub(rb"(?<=127.0.0.1:)\d+|(?<=secs_since_last_cmd )\d+", b"*", text)
        assert text.endswith(b"\r\nEND\r\n")
        # By descriptor; which comes first is the server's affair.
        blocks: dict[bytes, list[bytes]] = {}
        for line in text.splitlines()[:-1]:
            number, _, rest = line.removeprefix(b"STAT ").partition(b":")
            blocks.setdefault(number, []).append(rest)
        seen.append(sorted(blocks.values()))
    assert seen[1] == seen[0]
