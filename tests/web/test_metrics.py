"""What is measured: the table, the text, and that both have all that there is."""

from __future__ import annotations

import re
import shutil
import subprocess
from typing import TYPE_CHECKING, Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from pymcd.config import Settings
from pymcd.moving.filling import Outcome, Stage
from pymcd.readiness import State, readiness_of
from pymcd.server.lag import Lag
from pymcd.service import Service
from pymcd.store.status import StoreMode
from pymcd.web.metrics import (
    LAG_BOUNDS_S,
    LINES_OF_A_PART,
    METRICS,
    Instance,
    Report,
    Sample,
    escaped,
    text_of,
)
from pymcd.web.pages import Pages

from ..clocks import ManualClock
from ..hosts import make_host
from ..replication.helpers import Group, Guest, make_group

if TYPE_CHECKING:
    from pymcd.replication.node import Node

NAMES = {metric.name for metric in METRICS}

#: All names of memcached_exporter 0.15, but for external storage and the proxy.
EXPORTERS = """
up uptime_seconds time_seconds version process_user_cpu_seconds_total
process_system_cpu_seconds_total read_bytes_total written_bytes_total current_connections
max_connections connections_total connections_rejected_total connections_yielded_total
connections_listener_disabled_total current_bytes limit_bytes commands_total current_items
items_total items_evicted_total items_reclaimed_total item_too_large_total item_no_memory_total
direct_reclaims_total lru_crawler_enabled lru_crawler_sleep lru_crawler_to_crawl
lru_crawler_maintainer_thread lru_crawler_hot_percent lru_crawler_warm_percent
lru_crawler_hot_max_factor lru_crawler_warm_max_factor lru_crawler_starts_total
lru_crawler_reclaimed_total lru_crawler_items_checked_total lru_crawler_moves_to_cold_total
lru_crawler_moves_to_warm_total lru_crawler_moves_within_lru_total malloced_bytes
slab_current_items slab_items_age_seconds slab_items_crawler_reclaimed_total
slab_items_evicted_total slab_items_evicted_nonzero_total slab_items_evicted_time_seconds
slab_items_evicted_unfetched_total slab_items_expired_unfetched_total slab_items_outofmemory_total
slab_items_reclaimed_total slab_items_tailrepairs_total slab_items_moves_to_cold
slab_items_moves_to_warm slab_items_moves_within_lru slab_hot_items slab_warm_items slab_cold_items
slab_temporary_items slab_hot_age_seconds slab_warm_age_seconds slab_lru_hits_total
slab_chunk_size_bytes slab_chunks_per_page slab_current_pages slab_current_chunks slab_chunks_used
slab_chunks_free slab_chunks_free_end slab_mem_requested_bytes slab_commands_total
accepting_connections
"""

#: Rows of `stats replication` that are no numbers, or that others say.
UNMEASURED = {
    "state",
    "node_id",
    "pymcd_version",
    "coordinator",
    "ready",
    "draining",
    "ack_mode",
    "memory_limit",  # memcached_limit_bytes
    "evictions",  # memcached_items_evicted_total
    "last_refusal",
    "witness",
    "witness_error",
}
UNMEASURED_OF_A_PEER = {
    "node_id",
    "pymcd_version",
    "protocol_version",
    "address",
    "state",
    "last_error",
    "acked_sequence",  # as lag
}


class Tls:
    """What a host says that speaks TLS."""

    def rows(self) -> list[tuple[str, int]]:
        return [("ssl_handshake_errors", 1), ("time_since_server_cert_refresh", 2)]

    def refresh(self) -> str:
        return ""

    def reset_counters(self) -> None:
        """Nothing is counted."""


class Fills:
    """What a host says that fills itself."""

    def __init__(self, state: Stage = Stage.FILLING) -> None:
        self._state = state

    def rows(self) -> list[tuple[str, Any]]:
        counts = [(each.name.lower(), number) for number, each in enumerate(Outcome)]
        return [("state", self._state), ("listed", 9), *counts, ("not_found", 8)]


def scrape(service: Service, node: Node | None = None) -> str:
    """Return the text of a server."""

    def measure() -> dict[str, Any]:
        lag = Lag(ManualClock())
        return {"memory_shortages": 0, "resident_bytes": 5, **lag.rows()}

    pages = Pages(service, lambda: readiness_of(node, draining=False), measure)
    return b"".join(parts_of(pages)).decode()


def parts_of(pages: Pages) -> list[bytes]:
    """Return the text in its parts."""
    body = pages.find("/metrics").body
    assert not isinstance(body, bytes)
    return list(body)


def single(**settings: Any) -> Service:
    """Return a server that has seen everything."""
    values = {"temporary_ttl_s": 60, "idle_timeout_s": 5, **settings}
    service = Service(Settings(**values), ManualClock(), make_host(tls=Tls()))
    service.cache.store(StoreMode.SET, b"secret-key", b"secret-value")
    service.filling = Fills()
    return service


def group() -> Group:
    """Return two nodes and a witness in sync, the first of which was asked something."""
    found = make_group(witness=True)
    found.advance(1)
    Guest(found["a"]).ask(b"set secret-key 0 0 12\r\nsecret-value\r\n")
    return found


def values(text: str) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    """Return what Prometheus reads there."""
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def of(text: str, name: str, **labels: str) -> float:
    return values(text)[name, tuple(sorted(labels.items()))]


# -- the table ---------------------------------------------------------------------------------


def test_the_names_of_memcached_exporter_are_all_there():
    ours = {name for name in NAMES if not name.startswith("pymcd_")}
    assert ours == {f"memcached_{name}" for name in EXPORTERS.split()}


@pytest.mark.parametrize("metric", METRICS, ids=[metric.name for metric in METRICS])
def test_each_metric_is_said_as_prometheus_wants_it(metric):
    assert re.fullmatch(r"(memcached|pymcd)_[a-z][a-z_]*", metric.name)
    assert [each.name for each in METRICS].count(metric.name) == 1
    assert (metric.kind == "counter") == metric.name.endswith("_total")
    assert metric.help.endswith(".")
    assert metric.samples
    assert len({(each.labels, each.suffix) for each in metric.samples}) == len(metric.samples)


def test_no_row_is_misspelt():
    """Each sample has a value on one server or the other."""
    a = group()["a"]
    text = scrape(single()) + scrape(a.service, a.node)
    for metric in METRICS:
        for sample in metric.samples:
            labels = re.sub(r"\\\{\w+\\\}", '[^"]+', re.escape(sample.labels))
            line = f"^{metric.name}{sample.suffix}(\\{{.*{labels}\\}})? "
            found = re.search(line, text, re.MULTILINE)
            assert found, (metric.name, sample)


def test_no_row_of_the_group_is_forgotten():
    rows = [name for name, _ in group()["a"].node.rows()]
    measured = {
        report: {row for metric in METRICS if metric.report is report for row in metric.rows}
        for report in Report
    }
    of_group = {name for name in rows if ":" not in name}
    assert of_group - UNMEASURED == measured[Report.REPLICATION]
    of_peers = {name.partition(":")[2] for name in rows if ":" in name}
    assert of_peers - UNMEASURED_OF_A_PEER == measured[Report.PEER]


def test_each_state_has_its_value():
    text = scrape(single())
    assert {state: of(text, "pymcd_state", state=state) for state in State} == {
        state: float(state is State.SINGLE) for state in State
    }
    assert of(text, "pymcd_ready") == 1


# -- the text ----------------------------------------------------------------------------------


def test_a_single_server():
    service = single()
    service.cache.get(b"secret-key")
    service.cache.get(b"nothing")
    text = scrape(service)
    assert of(text, "memcached_up") == 1
    assert of(text, "memcached_version", version="1.6.45") == 1
    assert of(text, "memcached_current_items") == 1
    assert of(text, "memcached_commands_total", command="get", status="hit") == 1
    assert of(text, "memcached_commands_total", command="get", status="miss") == 1
    assert of(text, "memcached_commands_total", command="set", status="hit") == 1
    assert of(text, "memcached_slab_current_items", slab="1") == 1
    assert of(text, "memcached_slab_commands_total", slab="1", command="set", status="hit") == 1
    assert of(text, "memcached_malloced_bytes") == 1 << 20
    assert of(text, "memcached_lru_crawler_enabled") == 1
    assert "pymcd_replication" not in text
    assert "pymcd_peer" not in text


@pytest.mark.parametrize("state", Stage)
def test_a_fill(state):
    service = single()
    service.filling = Fills(state)
    text = scrape(service)
    assert of(text, "pymcd_fill_running") == state.under_way
    assert of(text, "pymcd_fill_short") == (state is Stage.SHORT)
    assert of(text, "pymcd_fill_listed_items") == 9
    assert {
        outcome: of(text, "pymcd_fill_items_total", outcome=outcome)
        for outcome in (*(each.name.lower() for each in Outcome), "not_found")
    } == {
        "filled": 0,
        "there": 1,
        "gone": 2,
        "over": 3,
        "too_large": 4,
        "no_room": 5,
        "not_found": 8,
    }
    service.filling = None
    assert "pymcd_fill" not in scrape(service)


def test_a_cas_is_no_set_beside():
    service = single()
    item = service.cache.get(b"secret-key")
    assert item is not None
    service.cache.store(StoreMode.CAS, b"secret-key", b"new", cas_compare=item.cas_unique)
    text = scrape(service)
    assert of(text, "memcached_commands_total", command="cas", status="hit") == 1
    assert of(text, "memcached_commands_total", command="set", status="hit") == 1


def test_a_node_of_a_group():
    both = group()
    text = scrape(both["a"].service, both["a"].node)
    assert of(text, "pymcd_replication_coordinates") == 1
    assert of(text, "pymcd_replication_degraded") == 0
    assert of(text, "pymcd_replication_ack_timeout_seconds") == 0.08
    assert of(text, "pymcd_replication_voters") == 3
    assert of(text, "pymcd_replication_may_fail") == 3
    assert of(text, "pymcd_witness_up") == 1
    assert of(text, "pymcd_peer_up", peer="b") == of(text, "pymcd_peer_in_sync", peer="b") == 1
    assert of(text, "pymcd_peer_differs", peer="b") == 0
    assert of(scrape(both["b"].service, both["b"].node), "pymcd_replication_coordinates") == 0
    both["b"].stop()
    both.advance(2)
    text = scrape(both["a"].service, both["a"].node)
    assert of(text, "pymcd_replication_degraded") == 1
    assert of(text, "pymcd_replication_degraded_now_seconds") > 1
    assert of(text, "pymcd_peer_up", peer="b") == 0
    assert of(text, "pymcd_peer_last_heard_seconds", peer="b") > 1
    assert of(text, "pymcd_replication_may_fail") == 1


def test_nobody_learns_a_key_or_a_value():
    a = group()["a"]
    for text in (scrape(single()), scrape(a.service, a.node)):
        assert "secret-" not in text


def test_a_name_may_hold_what_means_something_in_a_label():
    assert escaped('a"b\\c\nd') == r"a\"b\\c\nd"
    (text,) = text_of({Report.PEER: [Instance({"link": "up"}, f'peer="{escaped(chr(34))}"')]})
    assert of(text.decode(), "pymcd_peer_up", peer='"') == 1


def test_no_two_are_one_family_to_who_leaves_away_the_ending():
    # OpenMetrics has the family of a counter without `_total`: a gauge of that name would be lost.
    families = [name.removesuffix("_total") for name in NAMES]
    assert sorted(families) == sorted(set(families))


def test_each_family_stands_together_once():
    text = scrape(single())
    names = re.findall(r"^# TYPE (\S+)", text, re.MULTILINE)
    assert names == [metric.name for metric in METRICS if metric.name in names]
    assert re.findall(r"^# HELP (\S+)", text, re.MULTILINE) == names


def test_a_part_is_small_whatever_there_is():
    service = single(memory_limit_bytes=256 << 20)
    for size in service.cache.slabs.sizes:
        service.cache.store(StoreMode.SET, b"k%d" % size, bytes(max(0, size - 90)))
    assert sum(1 for each in service.cache.slabs if each.item_count) > 30
    pages = Pages(service, lambda: readiness_of(None, draining=False))
    parts = parts_of(pages)
    most = max(len(metric.samples) for metric in METRICS) + 2
    assert max(part.count(b"\n") for part in parts) < LINES_OF_A_PART + most
    assert sum(1 for part in parts if not part) >= 5  # others have their turn while it looks


def test_lags_are_a_histogram():
    text = scrape(single())
    bounds = re.findall(r'pymcd_loop_lag_seconds_bucket{le="(.*)"} 0', text)
    assert bounds == [*map(str, LAG_BOUNDS_S), "+Inf"]


@pytest.mark.parametrize(
    ("sample", "rows", "value"),
    [
        (Sample(("a",)), {"a": 5}, "5"),
        (Sample(("a",)), {"a": "0.20"}, "0.20"),
        (Sample(("a",), read=len), {"a": "yes"}, "3"),
        (Sample(("a",)), {"a": 1 << 64}, "18446744073709551616"),
        (Sample(("a",)), {}, None),
        (Sample(("a",), scale=1e-6), {"a": 123456}, "0.123456"),
        (Sample(("a", "-b")), {"a": 5, "b": 2}, "3"),
        (Sample(("a", "-b")), {"a": 5}, None),
    ],
)
def test_values(sample, rows, value):
    assert sample.value(rows) == value


@pytest.mark.skipif(not shutil.which("promtool"), reason="needs promtool (Debian: prometheus)")
def test_promtool_finds_nothing():
    a = group()["a"]
    for text in (scrape(single()), scrape(a.service, a.node)):
        done = subprocess.run(
            ["promtool", "check", "metrics"],
            input=text,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
