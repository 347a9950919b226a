"""What replication costs: a pair beside the same server alone, and how far one node lags.

The loads are memcaslap's and go to one node. Where nothing else is said that is the coordinator;
the rows "at the follower" forward every change. In these rows the columns of the table are
the pair and the server alone, not memcached. Generator, both nodes and nothing else have to share
the CPUs, so with two of them a pair cannot be as fast as on machines of its own.
"""

from __future__ import annotations

import dataclasses
import random
import subprocess
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from .contenders import HOST, BenchError, Contender, Server, free_port
from .loads import SETTLE_S, Load, latencies, quantile, requests
from .report import CpuRows, Row
from .scenarios import FEW_ITEMS, KIB, ROOMY_MB, SEED, Scenario

if TYPE_CHECKING:
    import socket
    from collections.abc import Iterator

    from .loads import Request
    from .runs import Bench, Pressure

IN_SYNC_TIMEOUT_S = 10.0
POLL_S = 0.005


def _rows(server: Server, report: bytes) -> dict[str, str]:
    with server.connect() as connection:
        connection.sendall(report + b"\r\n")
        answer = b""
        while not answer.endswith((b"END\r\n", b"ERROR\r\n")):
            answer += connection.recv(65536)
    lines = (line.split(" ", 2) for line in answer.decode().splitlines())
    return {words[1]: words[2] for words in lines if len(words) == 3}


class PairServer(Server):
    """Two nodes in sync, seen as one server: `port` is that of the node which is loaded."""

    def __init__(self, contender: Contender, *options: str, at: str = "coordinator") -> None:
        # Not the parent's: the processes are those of the two nodes.
        if not contender.is_pymcd:
            raise BenchError(f"{contender.name} does not replicate")
        ports = [free_port(), free_port()]

        def start(index: int) -> Server:
            return contender.start(
                *("--replication-port", str(ports[index])),
                *("--peer", f"{HOST}:{ports[1 - index]}"),
                *("--node-id", f"node{index}"),
                *options,
                memory_limit_mb=ROOMY_MB,
            )

        # Neither is ready without the other.
        with ThreadPoolExecutor(2) as pool:
            self.nodes = list(pool.map(start, range(2)))
        self.name = f"{contender.name} pair"
        try:
            roles = self._roles_in_sync()
        except BaseException:
            self.stop()
            raise
        self.loaded = self.nodes[roles.index(at)]
        self.other = self.nodes[1 - roles.index(at)]
        self.port = self.loaded.port
        self.warm_up_s = self.loaded.warm_up_s
        self.pids = self.loaded.pids + self.other.pids

    def _roles_in_sync(self) -> list[str]:
        deadline_s = time.perf_counter() + IN_SYNC_TIMEOUT_S
        while True:
            reports = [_rows(node, b"stats replication") for node in self.nodes]
            if all(rows.get("state") == "in_sync" for rows in reports):
                return [rows["role"] for rows in reports]
            if time.perf_counter() > deadline_s:
                raise BenchError(f"the pair is not in sync: {reports}")
            time.sleep(POLL_S)

    def stop(self) -> None:
        for node in self.nodes:
            node.stop()

    def check(self) -> None:
        """Refuse figures of a pair that was not in sync all the time."""
        for node in self.nodes:
            rows = _rows(node, b"stats replication")
            if rows.get("state") != "in_sync" or rows.get("degraded_count") != "0":
                raise BenchError(
                    f"{node.name} fell out of sync: {rows.get('state')}, degraded"
                    f" {rows.get('degraded_count')} times"
                )

    def connect(self) -> socket.socket:
        return self.loaded.connect()

    def pin(self, cpu: int) -> None:
        """Pin the loaded node to this CPU; the other one goes where the kernel likes."""
        self.loaded.pin(cpu)

    def stats(self) -> dict[str, int]:
        """The counters of the loaded node; sets wherever they were executed."""
        counters, other = (node.stats() for node in (self.loaded, self.other))
        counters["cmd_set"] = max(counters["cmd_set"], other["cmd_set"])
        return counters


def _alone(bench: Bench) -> Bench:
    """The same bench, with the subject by itself as the reference."""
    return dataclasses.replace(bench, reference=dataclasses.replace(bench.subject, label="alone"))


def paired_load(
    bench: Bench,
    scenario: str,
    *,
    load: Load,
    bar: float | None = None,
    cpu_bars: tuple[float, float] | None = None,
    ack: str = "semi",
    at: str = "coordinator",
) -> list[Row]:
    """Requests a second of a pair beside those of the server alone; CPU of each node.

    With two CPUs for two nodes and a generator the former measure the scheduler as well. `cpu_bars`
    are of the loaded node and of the other one.
    """
    bench = _alone(bench)
    place = "" if at == "coordinator" else f", at the {at}"
    throughput = Row(
        scenario, f"requests per second, {ack}{place}: pair, alone", "/s", bar=bar, at_least=True
    )
    loaded_bar, other_bar = cpu_bars or (None, None)
    other = "follower" if at == "coordinator" else "coordinator"
    nodes = [
        CpuRows(scenario, f"CPU of the {at} per request: pair, alone", loaded_bar),
        CpuRows(scenario, f"CPU of the {other} per request: pair, alone", other_bar),
    ]

    @contextmanager
    def press(contender: Contender) -> Iterator[Pressure]:
        if contender is bench.subject:
            with PairServer(contender, "--replication-ack", ack, at=at) as pair:
                with load.on(pair) as pressure:
                    yield pressure
                pair.check()
        else:
            with (
                contender.start(memory_limit_mb=ROOMY_MB) as server,
                load.on(server) as pressure,
            ):
                yield pressure

    for ours, theirs in bench.steady(press):
        throughput.add(ours.operations_per_s, theirs.operations_per_s)
        for rows, cpu in zip(nodes, ours.cpus, strict=True):
            rows.add(dataclasses.replace(ours, cpus=(cpu,)), theirs)
    return [throughput, *(row for rows in nodes for row in rows.rows)]


def added_latency(bench: Bench, scenario: str) -> list[Row]:
    """What a set of one client takes longer in a pair."""
    bench = _alone(bench)
    count = 3_000 if bench.quick else 10_000
    rows = []
    for at in ("coordinator", "follower"):
        taken = Row(scenario, f"p50 of a set at the {at}: pair, alone", "us")
        added = Row(scenario, "added to it", "ms", compare="own", bar=0.3)
        mix = requests(FEW_ITEMS, KIB, 1.0, random.Random(SEED))

        def measure(
            contender: Contender, at: str = at, mix: Iterator[Request] = mix
        ) -> list[float]:
            if contender is bench.subject:
                with PairServer(contender, at=at) as pair:
                    return latencies(pair, mix, count, together=False)
            with contender.start() as server:
                return latencies(server, mix, count, together=False)

        for ours, theirs in bench.paired(measure):
            pair_s, alone_s = quantile(ours, 0.5), quantile(theirs, 0.5)
            taken.add(pair_s * 1e6, alone_s * 1e6)
            added.add((pair_s - alone_s) * 1e3, 1.0)
        rows += [taken, added]
    return rows


def lag(bench: Bench, scenario: str) -> list[Row]:
    """From sending a set to one node until the other one shows it."""
    times = 200 if bench.quick else 1000
    rows = []
    for ack in ("semi", "async"):
        idle = Row(scenario, f"lag p99, {ack}, idle", "ms", compare="own", bar=5.0)
        busy = Row(scenario, f"lag p99, {ack}, 16 connections", "ms", compare="own", bar=100.0)
        for number in range(bench.pairs):
            bench.progress.step(f"{ack}, run {number + 1}/{bench.pairs}")
            with PairServer(bench.subject, "--replication-ack", ack) as pair:
                idle.add(quantile(_lags(pair, times), 0.99) * 1e3, 1.0)
                busy.add(quantile(_lags_under_load(pair, times), 0.99) * 1e3, 1.0)
                pair.check()
        rows += [idle, busy]
    return rows


def _lags(pair: PairServer, times: int) -> list[float]:
    lags = []
    with pair.loaded.connect() as writer, pair.other.connect() as reader:
        for number in range(times):
            value = b"%d" % number
            started_s = time.perf_counter()
            writer.sendall(b"set lag 0 0 %d\r\n%b\r\n" % (len(value), value))
            wanted = b"VA %d\r\n%b\r\n" % (len(value), value)
            while True:
                reader.sendall(b"mg lag v\r\n")
                answer = reader.recv(4096)
                if answer == wanted:
                    break
                if time.perf_counter() - started_s > IN_SYNC_TIMEOUT_S:
                    raise BenchError(f"the other node does not show a set: {answer!r}")
            lags.append(time.perf_counter() - started_s)
            writer.recv(4096)
    return sorted(lags)


def _lags_under_load(pair: PairServer, times: int) -> list[float]:
    load = Load(16, 1.0, KIB)
    with tempfile.TemporaryDirectory() as folder:
        config = Path(folder, "load")
        config.write_text(load.config())
        generator = subprocess.Popen(
            load.command(pair.port, str(config)),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            time.sleep(SETTLE_S)
            lags = _lags(pair, times)
            if generator.poll() is not None:
                raise BenchError("the load generator stopped early")
            return lags
        finally:
            generator.kill()
            generator.wait()


_SETS_16 = Load(16, 1.0, KIB)

PAIR_SCENARIOS = [
    Scenario(
        "pair16",
        "a pair beside the server alone: 16 connections, sets of 1 KB",
        partial(paired_load, load=_SETS_16, bar=0.6, cpu_bars=(1.5, 0.9)),
    ),
    Scenario(
        "pair64",
        "the same, 64 connections",
        partial(paired_load, load=Load(64, 1.0, KIB), bar=0.8, cpu_bars=(1.5, 0.9)),
    ),
    Scenario(
        "pairread16",
        "the same, 16 connections, 90 % gets",
        partial(paired_load, load=Load(16, 0.1, KIB), bar=0.85),
    ),
    Scenario(
        "pairasync16",
        "sets of 16 connections, --replication-ack async",
        partial(paired_load, load=_SETS_16, bar=0.65, ack="async"),
    ),
    Scenario(
        "pairforward16",
        "sets of 16 connections at the follower",
        partial(paired_load, load=_SETS_16, at="follower"),
    ),
    Scenario(
        "pairforward64",
        "the same, 64 connections",
        partial(paired_load, load=Load(64, 1.0, KIB), at="follower"),
    ),
    Scenario("pairlatency", "one client: what a set takes longer in a pair", added_latency),
    Scenario("pairlag", "how long until the other node shows a set", lag),
]
