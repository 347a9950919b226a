"""Commands about the server itself, as tables of request and reply.

Recorded from memcached 1.6.45.
"""

from __future__ import annotations

import dataclasses
import re
from typing import TYPE_CHECKING, Any, cast

import pytest

from pymcd.store import Status
from pymcd.store.item import KEY_BINARY
from pymcd.store.status import StoreMode
from tests.protocol.helpers import Client, converse, make_service

from ..clocks import ManualClock
from ..hosts import lend

if TYPE_CHECKING:
    from pymcd.replication.gate import Gate
    from pymcd.service import Service

BAD_FORMAT = b"CLIENT_ERROR bad command line format\r\n"
BAD_CLASS = b"BADCLASS invalid class id\r\n"
ERROR = b"ERROR\r\n"
OK = b"OK\r\n"

CASES = [
    # verbosity
    (b"verbosity", BAD_FORMAT),
    (b"verbosity 1", OK),
    (b"verbosity x", BAD_FORMAT),
    (b"verbosity -1", BAD_FORMAT),
    (b"verbosity noreply", b""),
    (b"verbosity 1 2", OK),
    (b"verbosity 1 noreply", b""),
    (b"verbosity 1 2 3", OK),
    (b"  verbosity 1", OK),
    (b"verbosity +1", BAD_FORMAT),
    (b"verbosity x y noreply", b""),
    # version, quit, shutdown
    (b"version", b"VERSION 1.6.45\r\n"),
    (b"version noreply", b"VERSION 1.6.45\r\n"),
    (b"quit", b""),
    (b"quit x", b""),
    (b"shutdown", b"SERVER_ERROR: shutdown not enabled\r\n"),
    (b"shutdown graceful", b"SERVER_ERROR: shutdown not enabled\r\n"),
    (b" shutdown x noreply", b""),
    # flush_all
    (b"flush_all", OK),
    (b"flush_all 0", OK),
    (b"flush_all -1", OK),
    (b"flush_all 10", OK),
    (b"flush_all abc", b"CLIENT_ERROR invalid exptime argument\r\n"),
    (b"flush_all noreply", b""),
    (b"flush_all 0 noreply", b""),
    (b"flush_all abc noreply", b""),
    (b"flush_all noreply noreply", b""),
    (b"flush_all 0 0", OK),
    (b"flush_all 1 2 3", OK),
    (b" flush_all", OK),
    (b"flush_all 1 2 3 noreply", b""),
    # cache_memlimit
    (b"cache_memlimit", ERROR),
    (b"cache_memlimit x", ERROR),
    (b"cache_memlimit -1", ERROR),
    (b"cache_memlimit 5", b"MEMLIMIT_TOO_SMALL cannot set maxbytes to less than 8m\r\n"),
    (b"cache_memlimit 64", OK),
    (b"cache_memlimit 64 x", OK),
    (b"cache_memlimit 64 noreply", b""),
    (b"cache_memlimit noreply", b""),
    (b"cache_memlimit 64 1 2", OK),
    (
        b"cache_memlimit 1000000001",
        b"MEMLIMIT_ADJUST_FAILED input value is megabytes not bytes\r\n",
    ),
    # lru
    (b"lru", ERROR),
    (b"lru x", ERROR),
    (b"lru noreply", b""),
    (b"lru tune", ERROR),
    (b"lru tune 10 25 0.1 2.0", OK),
    (b"lru tune 10 25 1e-1 0x1p1", OK),
    (b"lru tune 10 25 nan inf", OK),
    (b"lru tune 10 25 .5 2.", OK),
    (b"lru tune 20 25 0.1\t 2", OK),
    (b"lru tune 10 10 0.5 2 7 8", OK),
    (b"lru tune 10 10 0.5 2 noreply", b""),
    (b"lru tune 10 25 1x 2", ERROR),
    (b"lru tune 10 10 x 2", ERROR),
    (b"lru tune 10 10 1e999 2", ERROR),
    (b"lru tune 10 10 0x1p99999 2", ERROR),
    (b"lru tune 10 10 0 2", b"ERROR hot/warm age factors must be greater than 0\r\n"),
    (b"lru tune 10 10 1 -2", b"ERROR hot/warm age factors must be greater than 0\r\n"),
    (b"lru tune 50 40 0.1 2", b"ERROR hot and warm pcts must not exceed 80\r\n"),
    (b"lru mode", ERROR),
    (b"lru mode flat", OK),
    (b"lru mode segmented", OK),
    (b"lru mode x", ERROR),
    (b"lru temp_ttl", ERROR),
    (b"lru temp_ttl x", ERROR),
    (b"lru temp_ttl -1", OK),
    (b"lru temp_ttl 61", OK),
    # lru_crawler
    (b"lru_crawler", ERROR),
    (b"lru_crawler crawl", ERROR),
    (b"lru_crawler crawl all", OK),
    (b"lru_crawler crawl 1", OK),
    (b"lru_crawler crawl 1,,2,63", OK),
    (b"lru_crawler crawl 0", BAD_CLASS),
    (b"lru_crawler crawl 64", BAD_CLASS),
    (b"lru_crawler crawl x", BAD_CLASS),
    (b"lru_crawler crawl hash", b"ERROR an unknown error happened\r\n"),
    (b"lru_crawler crawl ,", b"NOTSTARTED no items to crawl\r\n"),
    (b"lru_crawler crawl 1 2", ERROR),
    (b"lru_crawler tocrawl", ERROR),
    (b"lru_crawler tocrawl x", BAD_FORMAT),
    (b"lru_crawler tocrawl -1", BAD_FORMAT),
    (b"lru_crawler tocrawl 5", OK),
    (b"lru_crawler sleep", ERROR),
    (b"lru_crawler sleep x", BAD_FORMAT),
    (b"lru_crawler sleep 1000001", b"CLIENT_ERROR sleep must be one second or less\r\n"),
    (b"lru_crawler sleep 100", OK),
    (b"lru_crawler sleep 1 noreply", b""),
    (b"lru_crawler sl 1", OK),
    (b"lru_crawler tocrawlx 1", ERROR),
    (b"lru_crawler enable", b"ERROR failed to start lru crawler thread\r\n"),
    (b"lru_crawler disable", OK),
    (b"lru_crawler foo", ERROR),
    (b"lru_crawler foo bar", ERROR),
    (b"lru_crawler metadump", ERROR),
    (b"lru_crawler metadump all", b"OK\r\nEND\r\n"),
    (b"lru_crawler metadump hash", b"OK\r\nEND\r\n"),
    (b"lru_crawler metadump 1", b"OK\r\nEND\r\n"),
    (b"lru_crawler metadump +1,\t2", b"OK\r\nEND\r\n"),
    (b"lru_crawler m 4294967297", b"OK\r\nEND\r\n"),
    (b"lru_crawler metadump " + b"1," * 256 + b"x", b"OK\r\nEND\r\n"),
    (b"lru_crawler metadump noreply", b""),
    (b"lru_crawler mgdump all", b"OK\r\nEN\r\n"),
    (b"lru_crawler mgdump 64", BAD_CLASS),
    (b"lru_crawler metadump 64", BAD_CLASS),
    (b"lru_crawler metadump x", BAD_CLASS),
    (b"lru_crawler metadump ,", b"NOTSTARTED no items to crawl\r\n"),
    (b"lru_crawler metadump all 5", ERROR),
    # slabs
    (b"slabs", ERROR),
    (b"slabs reassign", ERROR),
    (b"slabs reassign 1 2", b"NOSPARE source class has no spare pages\r\n"),
    (b"slabs reassign 0 1", b"NOSPARE source class has no spare pages\r\n"),
    (b"slabs reassign 1 0", b"NOSPARE source class has no spare pages\r\n"),
    (b"slabs reassign 39 1", b"NOSPARE source class has no spare pages\r\n"),
    (b"slabs reassign 1 1", b"SAME src and dst class are identical\r\n"),
    (b"slabs reassign 0 0", b"SAME src and dst class are identical\r\n"),
    (b"slabs reassign x 1", BAD_FORMAT),
    (b"slabs reassign -1 1", b"BADCLASS invalid src or dst class id\r\n"),
    (b"slabs reassign 40 1", b"BADCLASS invalid src or dst class id\r\n"),
    (b"slabs reassign 1 -1", b"BADCLASS invalid src or dst class id\r\n"),
    (b"slabs automove", ERROR),
    (b"slabs automove 0", OK),
    (b"slabs automove 1", OK),
    (b"slabs automove 2", OK),
    (b"slabs automove 3", ERROR),
    (b"slabs automove x", BAD_FORMAT),
    (b"slabs automove noreply", b""),
    (b"slabs automove 1 noreply", b""),
    (b"slabs automove 1 2 3", OK),
    (b"slabs automove ratio", ERROR),
    (b"slabs automove ratio 0.5", OK),
    (b"slabs automove ratio x", ERROR),
    (b"slabs foo 1 2", ERROR),
    # watch
    (b"watch", OK),
    (b"watch fetchers mutations evictions connevents sysevents rawcmds deletions", OK),
    (b"watch foo", ERROR),
    (b"watch fetchers foo", ERROR),
    (b"watch noreply", ERROR),
    (b"watch f" + b" f" * 21 + b" x", OK),
    (b" watch", ERROR),
    # stats
    (b"stats bogus", ERROR),
    (b"stats noreply", ERROR),
    (b"stats items", b"END\r\n"),
    (b"stats slabs", b"STAT active_slabs 0\r\nSTAT total_malloced 0\r\nEND\r\n"),
    (b"stats sizes", b"STAT sizes_status disabled\r\nEND\r\n"),
    (b"stats sizes_enable", ERROR),
    (b"stats sizes_disable", ERROR),
    (b"stats siz", ERROR),
    (b"stats r", b"RESET\r\n"),
    (b"stats p", b"END\r\n"),
    (b" stats", ERROR),
    (b"stats reset", b"RESET\r\n"),
    (b"stats reset foo", b"RESET\r\n"),
    (b"stats reset\0foo", b"RESET\r\n"),
    (b"stats r\0foo", ERROR),
    (b"stats \0", ERROR),
    (b"stats items\0", ERROR),
    (b"stats detail on\0x", OK),
    (b"slabs automove\0x 1", OK),
    (b"lru mode\0 flat\0x", OK),
    (b"lru_crawler sleep\0 100", OK),
    (b"watch fetchers\0x", OK),
    (b"stats extstore", b"END\r\n"),
    (b"stats proxy", b"END\r\n"),
    (b"stats proxyfuncs", b"END\r\n"),
    (b"stats proxybe", b"END\r\n"),
    (b"stats detail", b"CLIENT_ERROR usage: stats detail on|off|dump\r\n"),
    (b"stats detail foo", b"CLIENT_ERROR usage: stats detail on|off|dump\r\n"),
    (b"stats detail on", OK),
    (b"stats detail on x", OK),
    (b"stats detail off", OK),
    (b"stats detail dump", b"END\r\n"),
    (b"stats cachedump", b"CLIENT_ERROR bad command line\r\n"),
    (b"stats cachedump 1", b"CLIENT_ERROR bad command line\r\n"),
    (b"stats cachedump x 1", BAD_FORMAT),
    (b"stats cachedump 64 1", b"CLIENT_ERROR Illegal slab id\r\n"),
    (b"stats cachedump 63 0", b"END\r\n"),
    (b"stats cachedump 0 0", b"END\r\n"),
    (b"stats cachedump 1 0 x y", b"END\r\n"),
    # the others
    (b"debugtime 5", ERROR),
    (b"refresh_certs", b"Error TLS not enabled\r\n"),
]


@pytest.mark.parametrize(("request_", "reply"), CASES, ids=[case[0].decode() for case in CASES])
def test_reply(request_, reply):
    assert converse(request_ + b"\r\n") == reply


RESTRICTED = [
    ({"disable_flush_all": True}, b"flush_all", b"CLIENT_ERROR flush_all not allowed\r\n"),
    ({"disable_flush_all": True}, b"flush_all noreply", b""),
    ({"disable_flush_all": True}, b"flush_all abc", b"CLIENT_ERROR flush_all not allowed\r\n"),
    ({"disable_watch": True}, b"watch", b"CLIENT_ERROR watch commands not allowed\r\n"),
    (
        {"disable_dumping": True},
        b"lru_crawler metadump all",
        b"ERROR metadump not allowed\r\n",
    ),
    (
        {"disable_dumping": True},
        b"stats detail on",
        b"CLIENT_ERROR stats detail not allowed\r\n",
    ),
    ({"disable_dumping": True}, b"stats detail", b"CLIENT_ERROR stats detail not allowed\r\n"),
    (
        {"disable_dumping": True},
        b"stats cachedump",
        b"CLIENT_ERROR stats cachedump not allowed\r\n",
    ),
    ({"lru_crawler": False}, b"lru_crawler crawl 1", b"CLIENT_ERROR lru crawler disabled\r\n"),
    (
        {"lru_crawler": False},
        b"lru_crawler metadump all",
        b"CLIENT_ERROR lru crawler disabled\r\n",
    ),
    ({"lru_crawler": False}, b"lru_crawler enable", OK),
    ({"lru_maintainer": False}, b"lru mode flat", ERROR),
    ({"lru_maintainer": False}, b"lru temp_ttl 5", ERROR),
    ({"lru_maintainer": False}, b"lru tune 10 25 0.1 2.0", OK),
    (
        {"slab_reassign": False},
        b"slabs reassign 1 2",
        b"CLIENT_ERROR slab reassignment disabled\r\n",
    ),
    ({"enable_shutdown": True}, b"shutdown x", b"CLIENT_ERROR invalid shutdown mode\r\n"),
    ({"enable_shutdown": True}, b"shutdown noreply", b""),
    (
        {"enable_shutdown": True},
        b"shutdown graceful x",
        b"CLIENT_ERROR invalid shutdown mode\r\n",
    ),
    ({"debug_commands": True}, b"debugtime", ERROR),
    ({"debug_commands": True}, b"debugtime x", ERROR),
    ({"debug_commands": True}, b"debugtime p", OK),
    ({"debug_commands": True}, b"debugtime r", OK),
    ({"debug_commands": True}, b"debugtime -5", OK),
]


@pytest.mark.parametrize(("settings", "request_", "reply"), RESTRICTED)
def test_reply_with_settings(settings, request_, reply):
    assert converse(request_ + b"\r\n", **settings) == reply


@pytest.mark.parametrize(
    ("request_", "graceful"),
    [(b"shutdown", False), (b"shutdown graceful", True), (b"shutdown g", True)],
)
def test_shutdown_closes_and_tells_the_host(request_, graceful):
    client = Client(enable_shutdown=True)
    told: list[bool] = []
    lend(client.service, shutdown=told.append)
    assert client.send(request_ + b"\r\n") == b""
    assert told == [graceful]
    assert client.connection.closing
    assert client.connection.close_reason == "shutdown"


def test_verbosity_is_bounded():
    client = Client()
    client.send(b"verbosity 7\r\n")
    assert client.service.verbosity == 2


def test_debugtime_moves_the_clock():
    client = Client(debug_commands=True)
    client.send(b"set a 0 10 1\r\n1\r\n")
    assert client.send(b"debugtime 11\r\nget a\r\n") == b"OK\r\nEND\r\n"


class FakeTls:
    """TLS whose certificates are good, or not."""

    def __init__(self, problem: str) -> None:
        self.problem = problem
        self.handshake_errors = 3

    def rows(self) -> list[tuple[str, int]]:
        return [("ssl_handshake_errors", self.handshake_errors)]

    def refresh(self) -> str:
        return self.problem

    def reset_counters(self) -> None:
        self.handshake_errors = 0


def test_refresh_certs_asks_the_host():
    client = Client()
    lend(client.service, tls=FakeTls(""))
    assert client.send(b"refresh_certs\r\n") == OK
    lend(client.service, tls=FakeTls("no such file"))
    assert client.send(b"refresh_certs\r\n") == b"no such file\r\n"


def test_what_follows_refresh_certs_waits_for_it():
    client = Client()
    works: list = []
    lend(client.service, tls=FakeTls(""), do_aside=lambda work, done: works.append((work, done)))
    assert client.send(b"refresh_certs\r\nrefresh_certs noreply\r\nversion\r\n") == b""
    for heard in (OK, b""):
        [(work, done)] = works
        works.clear()
        done(work())
        assert client.take() == heard
        answer = client.receive()
        assert answer == (b"" if works else b"VERSION 1.6.45\r\n")


def test_stats_asks_the_host():
    client = Client()
    assert "ssl_handshake_errors" not in stats(client)
    lend(client.service, tls=FakeTls(""), pid=77, cpu_s=lambda: (1.5, 0.25), event_loop="none")
    client.service.counters.listen_disabled = 4
    values = stats(client)
    assert values["ssl_handshake_errors"] == "3"
    assert (values["pid"], values["libevent"]) == ("77", "none")
    assert (values["rusage_user"], values["rusage_system"]) == ("1.500000", "0.250000")
    assert values["listen_disabled_num"] == "4"
    client.send(b"stats reset\r\n")
    values = stats(client)
    assert values["ssl_handshake_errors"] == values["listen_disabled_num"] == "0"


# -- flush_all -----------------------------------------------------------------------------------


def test_flush_all_counts_also_what_it_refuses():
    client = Client()
    client.send(b"flush_all\r\nflush_all abc\r\nflush_all noreply noreply\r\nflush_all 1 2 3\r\n")
    assert stat(client, "cmd_flush") == "4"


def test_flush_all_later():
    clock = ManualClock()
    client = Client(make_service(clock))
    client.send(b"set a 0 0 1\r\n1\r\n")
    assert client.send(b"flush_all 10\r\nget a\r\n") == b"OK\r\nVALUE a 0 1\r\n1\r\nEND\r\n"
    clock.advance(10)
    assert client.send(b"get a\r\n") == b"END\r\n"


@pytest.mark.parametrize("when", [b"", b" 100"])
def test_flush_all_takes_no_cas_unique(when):
    client = Client()
    reply = client.send(b"flush_all%b\r\nset a 0 0 1\r\n1\r\ngets a\r\n" % when)
    assert reply == b"OK\r\nSTORED\r\nVALUE a 0 1 1\r\n1\r\nEND\r\n"


# -- stats ---------------------------------------------------------------------------------------


def words(text: str) -> list[str]:
    return text.split()


GENERAL = words(
    """
    pid uptime time version libevent pointer_size rusage_user rusage_system max_connections
    curr_connections total_connections rejected_connections connection_structures
    response_obj_oom response_obj_count response_obj_bytes read_buf_count read_buf_bytes
    read_buf_bytes_free read_buf_oom reserved_fds cmd_get cmd_set cmd_flush cmd_touch
    cmd_meta get_hits get_misses get_expired get_flushed delete_misses delete_hits
    incr_misses incr_hits decr_misses decr_hits cas_misses cas_hits cas_badval touch_hits
    touch_misses store_too_large store_no_memory auth_cmds auth_errors bytes_read
    bytes_written limit_maxbytes accepting_conns listen_disabled_num
    time_in_listen_disabled_us threads conn_yields hash_power_level hash_bytes
    hash_is_expanding slab_reassign_rescues slab_reassign_chunk_rescues
    slab_reassign_inline_reclaim slab_reassign_busy_items slab_reassign_busy_deletes
    slab_reassign_busy_nomem slab_reassign_last_busy_status slab_reassign_running slabs_moved
    lru_crawler_running
    lru_crawler_starts lru_maintainer_juggles malloc_fails log_worker_dropped
    log_worker_written log_watcher_skipped log_watcher_sent log_watchers unexpected_napi_ids
    round_robin_fallback bytes curr_items total_items slab_global_page_pool
    expired_unfetched evicted_unfetched evicted_active evictions reclaimed crawler_reclaimed
    crawler_items_checked lrutail_reflocked moves_to_cold moves_to_warm moves_within_lru
    direct_reclaims lru_bumps_dropped
    """
)

SETTINGS = words(
    """
    maxbytes maxconns tcpport udpport inter verbosity oldest evictions domain_socket umask
    shutdown_command growth_factor chunk_size num_threads num_threads_per_udp
    stat_key_prefix detail_enabled reqs_per_event cas_enabled tcp_backlog binding_protocol
    auth_enabled_sasl auth_enabled_ascii item_size_max maxconns_fast hashpower_init
    slab_reassign slab_automove slab_automove_ratio slab_automove_window slab_chunk_max
    lru_crawler lru_crawler_sleep lru_crawler_tocrawl tail_repair_time flush_enabled
    dump_enabled hash_algorithm lru_maintainer_thread lru_segmented hot_lru_pct warm_lru_pct
    hot_max_factor warm_max_factor temp_lru temporary_ttl idle_timeout watcher_logbuf_size
    worker_logbuf_size read_buf_mem_limit track_sizes inline_ascii_response ext_item_size
    ext_item_age ext_low_ttl ext_recache_rate ext_wbuf_size ext_compact_under ext_drop_under
    ext_max_sleep ext_max_frag slab_automove_freeratio ext_drop_unread ssl_enabled
    ssl_chain_cert ssl_key ssl_verify_mode ssl_keyformat ssl_ciphers ssl_ca_cert
    ssl_wbuf_size ssl_session_cache ssl_kernel_tls ssl_min_version proxy_enabled
    proxy_uring_enabled num_napi_ids memory_file client_flags_size
    """
)


def stats(client: Client, report: str = "") -> dict[str, str]:
    lines = client.send(f"stats {report}\r\n".encode()).decode().split("\r\n")
    assert lines[-2:] == ["END", ""]
    assert all(re.fullmatch(r"STAT \S+ \S+", line) for line in lines[:-2])
    return dict(line.split(" ")[1:] for line in lines[:-2])


def stat(client: Client, name: str) -> str:
    return stats(client)[name]


def test_general_names():
    client = Client()
    assert list(stats(client)) == GENERAL
    assert len(GENERAL) == 93


def fill_counters(service: Service) -> None:
    """Have counted very much."""
    for counters in (service.cache.counters, service.counters):
        for field in dataclasses.fields(counters):
            setattr(counters, field.name, 2**63)


def test_general_fits_a_small_buffer():
    service = make_service()
    fill_counters(service)
    assert len(Client(service).send(b"stats\r\n")) < 4096


class FakeGate:
    """A member of a group, as reports see it, in its most talkative state."""

    def rows(self) -> list[tuple[str, str | int | float]]:
        return [("state", "in_sync"), ("queue_items", 24), ("peer_0:lag_ms", 0.5)]


def test_general_says_what_repcached_says():
    client = Client(replication_queue=1024)
    client.service.gate = cast("Gate", FakeGate())
    rows = stats(client)
    assert list(rows) == [*GENERAL, "replication", "repcached_version", "repcached_qi_free"]
    assert list(rows.values())[-3:] == ["MASTER", "2.3.1", "1000"]


def test_general_fits_a_small_buffer_even_when_replicated():
    client = Client(replication_queue=2**31 - 1, idle_timeout_s=5)
    service = client.service
    service.gate = cast("Gate", FakeGate())
    fill_counters(service)
    assert len(client.send(b"stats\r\n")) < 4096


def test_replication():
    client = Client()
    assert client.send(b"stats replication\r\n") == b"STAT state off\r\nEND\r\n"
    client.service.gate = cast("Gate", FakeGate())
    assert client.send(b"stats replication\r\n") == (
        b"STAT state in_sync\r\nSTAT queue_items 24\r\nSTAT peer_0:lag_ms 0.500\r\nEND\r\n"
    )


class FakeFilling:
    def rows(self) -> list[tuple[str, Any]]:
        return [("state", "filling"), ("filled", 5)]


def test_fill():
    client = Client()
    assert client.send(b"stats fill\r\n") == b"STAT state off\r\nEND\r\n"
    client.service.filling = FakeFilling()
    assert client.send(b"stats fill\r\n") == (b"STAT state filling\r\nSTAT filled 5\r\nEND\r\n")


def test_general_without_the_optional_parts():
    client = Client(
        maxconns_fast=False, slab_reassign=False, lru_crawler=False, lru_maintainer=False
    )
    missing = set(GENERAL) - set(stats(client))
    assert len(missing) == 19
    assert {"rejected_connections", "slabs_moved", "lru_crawler_starts"} < missing


def test_idle_kicks_come_with_an_idle_timeout():
    assert "idle_kicks" in stats(Client(idle_timeout_s=5))


def test_rusage_has_six_decimals():
    values = stats(Client())
    assert re.fullmatch(r"\d+\.\d{6}", values["rusage_user"])
    assert re.fullmatch(r"\d+\.\d{6}", values["rusage_system"])


def test_general_counts():
    client = Client()
    client.send(
        b"set a 0 0 1\r\n1\r\nget a\r\nget b\r\ngat 0 a\r\ngat 0 b\r\ntouch a 0\r\ndelete b\r\n"
        b"incr a 1\r\nincr b 1\r\ndecr a 1\r\ncas a 0 0 1 99\r\n1\r\ncas b 0 0 1 1\r\n1\r\n"
        b"delete a\r\nset c 0 -1 1\r\n1\r\nget c\r\n"
    )
    values = stats(client)
    expected = {
        "cmd_get": 3,
        "get_hits": 1,
        "get_misses": 2,
        "get_expired": 1,
        "cmd_set": 4,
        "cmd_touch": 3,
        "touch_hits": 2,
        "touch_misses": 1,
        "delete_hits": 1,
        "delete_misses": 1,
        "incr_hits": 1,
        "incr_misses": 1,
        "decr_hits": 1,
        "cas_badval": 1,
        "cas_misses": 1,
        "curr_items": 0,
        "total_items": 2,
        "bytes": 0,
    }
    assert {name: int(values[name]) for name in expected} == expected


def test_settings_names():
    assert list(stats(Client(), "settings")) == SETTINGS
    assert len(SETTINGS) == 79


def test_settings_follow_what_is_changed():
    client = Client()
    client.send(
        b"verbosity 1\r\ncache_memlimit 128\r\nlru tune 10 25 0.5 3\r\nlru mode flat\r\n"
        b"lru temp_ttl 9\r\nlru_crawler sleep 7\r\nlru_crawler tocrawl 8\r\n"
        b"slabs automove 2\r\nslabs automove ratio 0.5\r\nstats detail on\r\n"
        b"slabs automove window 60\r\nslabs automove freeratio 0.05\r\nlru_crawler disable\r\n"
    )
    values = stats(client, "settings")
    expected = {
        "verbosity": "1",
        "maxbytes": str(128 << 20),
        "hot_lru_pct": "10",
        "warm_lru_pct": "25",
        "hot_max_factor": "0.50",
        "warm_max_factor": "3.00",
        "lru_segmented": "no",
        "temp_lru": "yes",
        "temporary_ttl": "9",
        "lru_crawler_sleep": "7",
        "lru_crawler_tocrawl": "8",
        "slab_automove": "2",
        "slab_automove_ratio": "0.50",
        "detail_enabled": "yes",
        "slab_automove_window": "60",
        "slab_automove_freeratio": "0.050",
        "lru_crawler": "no",
    }
    assert {name: values[name] for name in expected} == expected


def test_temporary_ttl_is_shown_after_it_was_turned_off():
    client = Client()
    client.send(b"lru temp_ttl 9\r\nlru temp_ttl -1\r\n")
    values = stats(client, "settings")
    assert (values["temp_lru"], values["temporary_ttl"]) == ("no", "9")


ITEMS = words(
    """
    number number_hot number_warm number_cold age_hot age_warm age mem_requested evicted
    evicted_nonzero evicted_time outofmemory tailrepairs reclaimed expired_unfetched
    evicted_unfetched evicted_active crawler_reclaimed crawler_items_checked
    lrutail_reflocked moves_to_cold moves_to_warm moves_within_lru direct_reclaims
    hits_to_hot hits_to_warm hits_to_cold hits_to_temp
    """
)


def test_items():
    client = Client()
    client.send(b"set a 0 0 1\r\n1\r\nset b 0 0 100\r\n%b\r\nget a\r\n" % (b"x" * 100))
    values = stats(client, "items")
    assert list(values) == [f"items:{number}:{name}" for number in (1, 4) for name in ITEMS]
    assert values["items:1:number"] == "1"
    assert values["items:1:hits_to_hot"] == "1"
    assert values["items:4:mem_requested"] == "160"


def test_items_with_temporary_lru():
    client = Client(temporary_ttl_s=60)
    client.send(b"set a 0 10 1\r\n1\r\n")
    assert stats(client, "items")["items:1:number_temp"] == "1"


def test_items_without_maintainer():
    client = Client(lru_maintainer=False)
    client.send(b"set a 0 0 1\r\n1\r\n")
    values = stats(client, "items")
    assert "items:1:number_hot" not in values
    assert "items:1:evicted_unfetched" in values


def test_slabs():
    client = Client()
    client.send(b"set a 0 0 1\r\n1\r\nget a\r\n")
    assert client.send(b"stats slabs\r\n") == (
        b"STAT 1:chunk_size 96\r\nSTAT 1:chunks_per_page 10922\r\nSTAT 1:total_pages 1\r\n"
        b"STAT 1:total_chunks 10922\r\nSTAT 1:used_chunks 1\r\nSTAT 1:free_chunks 10921\r\n"
        b"STAT 1:free_chunks_end 0\r\nSTAT 1:get_hits 1\r\nSTAT 1:cmd_set 1\r\n"
        b"STAT 1:delete_hits 0\r\nSTAT 1:incr_hits 0\r\nSTAT 1:decr_hits 0\r\n"
        b"STAT 1:cas_hits 0\r\nSTAT 1:cas_badval 0\r\nSTAT 1:touch_hits 0\r\n"
        b"STAT active_slabs 1\r\nSTAT total_malloced 1048576\r\nEND\r\n"
    )


@pytest.mark.parametrize("disable_cas", [False, True])
def test_sizes(disable_cas):
    client = Client(track_sizes=True, disable_cas=disable_cas)
    client.send(b"set a 0 0 1\r\n1\r\nset b 0 0 120\r\n%b\r\n" % (b"x" * 120))
    assert client.send(b"stats sizes\r\n") == b"STAT 64 1\r\nSTAT 192 1\r\nEND\r\n"
    client.send(b"delete b\r\n")
    assert client.send(b"stats sizes\r\n") == b"STAT 64 1\r\nEND\r\n"


def test_sizes_of_many_items_come_in_slices():
    client = Client(track_sizes=True)
    cache = client.service.cache
    for number in range(2500):
        assert cache.store(StoreMode.SET, b"k%04d" % number, b"") == Status.STORED
    client.connection.receive_data(b"stats sizes\r\n")
    client.connection.run()
    assert client.connection.source is not None
    assert client.receive() == b"STAT 64 2500\r\nEND\r\n"


def test_conns():
    service = make_service()
    service.host.reception.listening[3] = "tcp:127.0.0.1:11211"
    service.host.reception.listening[4] = "udp:127.0.0.1:11211"
    idle, asker, reader, watcher = (Client(service) for _ in range(4))
    reader.send(b"set a 0 0 5\r\n")
    watcher.send(b"watch\r\n")
    values = stats(asker, "conns")
    assert list(values)[:7] == [
        "3:addr",
        "3:state",
        "3:secs_since_last_cmd",
        "4:UDP",
        "4:addr",
        "4:state",
        "4:secs_since_last_cmd",
    ]
    assert values["3:state"] == "conn_listening"
    assert values["10:listen_addr"] == "tcp:127.0.0.1:11211"
    assert values["10:addr"] == "tcp:127.0.0.1:40010"
    states = {number: values[f"{number}:state"] for number in (10, 11, 12, 13)}
    assert states == {10: "conn_new_cmd", 11: "conn_parse_cmd", 12: "conn_nread", 13: "conn_watch"}
    idle.send(b"get a")
    assert stats(asker, "conns")["10:state"] == "conn_read"
    idle.connection.swallow_bytes = 1
    assert stats(asker, "conns")["10:state"] == "conn_swallow"
    idle.connection.swallow_bytes = 0
    idle.connection.reply(b"unsent")
    assert stats(asker, "conns")["10:state"] == "conn_mwrite"
    idle.connection.close()
    assert stats(asker, "conns")["10:state"] == "conn_closing"
    service.disconnected(idle.connection)
    assert "10:addr" not in stats(asker, "conns")


def test_reset():
    client = Client()
    client.send(b"set a 0 0 1\r\n1\r\nget a\r\nget b\r\nlru_crawler crawl all\r\n")
    client.send(b"stats detail on\r\nget a:b\r\nstats reset\r\n")
    values = stats(client)
    for name in ("cmd_get", "cmd_set", "get_hits", "total_items", "total_connections"):
        assert values[name] == "0", name
    assert values["curr_items"] == "1"
    assert client.send(b"stats detail dump\r\n") == b"END\r\n"


def test_cachedump():
    clock = ManualClock()
    client = Client(make_service(clock, lru_segmented=False))
    client.send(b"set a 0 0 1\r\n1\r\nset b 0 100 2\r\n22\r\n")
    assert client.send(b"stats cachedump 1 0\r\n") == (
        b"ITEM b [2 b; 1700000100 s]\r\nITEM a [1 b; 0 s]\r\nEND\r\n"
    )
    assert client.send(b"stats cachedump 1 1\r\n") == b"ITEM b [2 b; 1700000100 s]\r\nEND\r\n"


def test_cachedump_leaves_binary_keys_out():
    client = Client(lru_segmented=False)
    client.send(b"set a 0 0 1\r\n1\r\nset b 0 0 1\r\n1\r\n")
    cache = client.service.cache
    item = cache.inspect(b"a")
    assert item is not None
    cache.mark(item, KEY_BINARY)
    assert client.send(b"stats cachedump 1 0\r\n") == b"ITEM b [1 b; 0 s]\r\nEND\r\n"


def test_cachedump_is_bounded():
    client = Client(lru_segmented=False)
    for number in range(9000):
        client.service.cache.store(StoreMode.SET, b"%0240d" % number, b"")
    reply = client.send(b"stats cachedump 6 0\r\n")
    assert 2 << 20 > len(reply) > (2 << 20) - 300
    assert reply.endswith(b"]\r\nEND\r\n")


# -- metadump ------------------------------------------------------------------------------------


def test_metadump():
    client = Client()
    client.send(b"set a:b 0 0 1\r\n1\r\nset cc 5 100 1\r\n1\r\nset gone 0 -1 1\r\n1\r\nget cc\r\n")
    lines = client.send(b"lru_crawler metadump all\r\n")
    assert lines.startswith(b"OK\r\n")
    assert lines.endswith(b"\nEND\r\n")
    assert sorted(lines.split(b"\n")[1:-2]) == [
        b"key=a%3Ab exp=-1 la=1700000000 cas=1 fetch=no cls=1 size=63 flags=0 ",
        b"key=cc exp=1700000100 la=1700000000 cas=2 fetch=yes cls=1 size=66 flags=5 ",
    ]


def test_mgdump():
    client = Client()
    client.send(b"set a 0 0 1\r\n1\r\nms YiBj 1 b\r\n1\r\nset gone 0 -1 1\r\n1\r\n")
    begin, *lines, end, rest = client.send(b"lru_crawler mgdump all\r\n").split(b"\r\n")
    assert (begin, sorted(lines), end, rest) == (b"OK", [b"mg YiBj b", b"mg a"], b"EN", b"")


def test_metadump_of_some_classes():
    client = Client()
    client.send(b"set a 0 0 1\r\n1\r\nset b 0 0 100\r\n%b\r\n" % (b"x" * 100))
    assert b"key=b" not in client.send(b"lru_crawler metadump 1,2\r\n")
    assert b"key=a" not in client.send(b"lru_crawler metadump 4\r\n")


def test_metadump_in_slices_sees_each_item_once():
    client = Client()
    for number in range(3000):
        client.service.cache.store(StoreMode.SET, b"k%d" % number, b"")
    client.connection.receive_data(b"lru_crawler metadump hash\r\nversion\r\n")
    client.connection.run()
    assert client.connection.source is not None
    pieces = list(client.connection.source)
    client.connection.source = None
    assert len(pieces) == 31
    assert len(set(b"".join(pieces).split(b"\n"))) == 3000 + 2
    assert client.receive() == b"OK\r\nVERSION 1.6.45\r\n"


def test_nothing_runs_while_a_dump_is_on_its_way():
    client = Client()
    client.connection.receive_data(b"lru_crawler metadump all\r\nset a 0 0 1\r\n1\r\n")
    assert not client.connection.run()
    assert not client.connection.run()
    assert client.service.cache.item_count == 0


@pytest.mark.parametrize("before", [b"version\r\n", b"set n 0 0 1 noreply\r\n1\r\n"])
def test_metadump_and_watch_must_come_first(before):
    client = Client()
    assert client.send(before + b"lru_crawler metadump all\r\n").endswith(
        b"ERROR cannot pipeline other commands before metadump\r\n"
    )
    assert client.send(before + b"watch\r\n").endswith(
        b"ERROR cannot pipeline other commands before watch\r\n"
    )
    assert not client.connection.watching


@pytest.mark.parametrize("before", [b"mn\r\n", b"version\r\nmn\r\n", b"mn x\r\n"])
def test_what_mn_answers_is_out_before_that(before):
    dumped = Client().send(before + b"lru_crawler metadump all\r\n")
    assert dumped.endswith(b"MN\r\nOK\r\nEND\r\n")
    assert Client().send(before + b"watch\r\n").endswith(b"MN\r\nOK\r\n")


# -- the crawler and the rebalancer --------------------------------------------------------------


def test_crawl_is_carried_out_by_the_maintainer():
    client = Client()
    woken: list[bool] = []
    client.service.maintainer.wake = lambda: woken.append(True)
    client.send(b"set a 0 -1 1\r\n1\r\n")
    client.send(b"lru_crawler crawl 1\r\n")
    assert woken
    assert stat(client, "lru_crawler_running") == "1"
    while client.service.crawler.running:
        client.service.maintainer.step()
    assert stat(client, "lru_crawler_running") == "0"
    assert stat(client, "crawler_reclaimed") == "1"
    assert stat(client, "curr_items") == "0"


def test_a_small_crawl_is_never_in_the_way():
    client = Client()
    client.send(b"set a 0 -1 1\r\n1\r\n")
    assert client.send(b"lru_crawler crawl all\r\nlru_crawler crawl all\r\n") == OK + OK
    assert client.service.cache.item_count == 0
    assert client.service.crawler.starts == 2


def test_crawl_while_a_large_one_runs():
    client = Client()
    for number in range(1500):
        client.service.cache.store(StoreMode.SET, b"k%d" % number, b"")
    assert client.send(b"lru_crawler crawl all\r\n") == OK
    busy = b"BUSY currently processing crawler request\r\n"
    assert client.send(b"lru_crawler crawl all\r\n") == busy
    assert client.send(b"lru_crawler disable\r\n") == OK
    assert not client.service.crawler.running


def test_reassign_is_carried_out_by_the_maintainer():
    client = Client()
    cache = client.service.cache
    for number in range(2000):
        cache.store(StoreMode.SET, b"k%d" % number, b"x" * 1000)
    busy = [each for each in cache.slabs if each.pages > 1]
    assert len(busy) == 1
    source = busy[0].id
    assert busy[0].pages == 3
    assert client.send(b"slabs reassign %d 1\r\n" % source) == OK
    assert client.send(b"slabs reassign %d 1\r\n" % source) == (
        b"BUSY currently processing reassign request\r\n"
    )
    assert stat(client, "slab_reassign_running") == "1"
    while client.service.rebalancer.step():
        pass
    assert stat(client, "slabs_moved") == "1"
    assert cache.slabs.classes[0].pages == 1
    assert busy[0].pages == 2
    assert cache.item_count == 2 * 885  # two full pages
    cache.check()
