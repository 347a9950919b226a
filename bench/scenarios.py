"""What is measured, and the bars: the table `SCENARIOS`.

A scenario is a function that takes a `Bench` (see `runs`) and returns rows. Most are a `Load` for
memcaslap and a few words. A load for another protocol is one more line with `generator_options` or
a `Dialect`, another kind of server one more `Contender`.
"""

from __future__ import annotations

import os
import random
import resource
import ssl
import subprocess
import time
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from .clients import APPLICATION, META, TEXT, WIDE_META, Clients
from .contenders import BenchError
from .loads import (
    KEY,
    SETTLE_S,
    Load,
    Pauses,
    fill,
    fill_watching,
    latencies,
    quantile,
    requests,
)
from .paced import half_load, soak
from .peers import beside_peer
from .report import Bars, CpuRows, Row
from .tls_load import tls_load

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from .contenders import Contender, Server
    from .runs import Bench, Pressure

KIB = 1 << 10
MIB = 1 << 20
SEED = 1
ROOMY_MB = 4096  # nothing may be evicted where that is not the question
FEW_ITEMS = 10_000
GROWTH_LIMIT_MB = 128
GROWTH_TIMES = 4
IDLE_CONNECTIONS = 1000
IDLE_S = 10.0


@dataclass(frozen=True, slots=True)
class Scenario:
    """A name for the command line, one line of help, and what to do."""

    name: str
    about: str
    measure: Callable[[Bench, str], list[Row]]


def steady_load(
    bench: Bench,
    scenario: str,
    *,
    load: Load | Clients,
    cpu_bars: Bars | None = None,
    throughput_bar: float | None = None,
) -> list[Row]:
    """CPU per operation and throughput under a load that a generator keeps up."""
    operation = "request" if load.keys_per_get == 1 else "key"
    cpu_bar = cpu_bars.of(bench.subject.runtime) if cpu_bars else None
    cpu = CpuRows(scenario, f"CPU per {operation}", cpu_bar)
    throughput = Row(scenario, f"{operation}s per second", "/s", bar=throughput_bar, at_least=True)

    @contextmanager
    def press(contender: Contender) -> Iterator[Pressure]:
        options = load.server_options
        with (
            contender.start(*options, memory_limit_mb=ROOMY_MB) as server,
            load.on(server) as pressure,
        ):
            yield pressure

    for ours, theirs in bench.steady(press):
        cpu.add(ours, theirs)
        throughput.add(ours.operations_per_s, theirs.operations_per_s)
    return [*cpu.rows, throughput]


def one_client(bench: Bench, scenario: str) -> list[Row]:
    """Latency of one client that waits for each answer, 90 % gets of 1 KB."""
    rows = []
    count = 5_000 if bench.quick else 20_000
    mix = requests(FEW_ITEMS, KIB, 0.1, random.Random(SEED))
    with ExitStack() as running:
        # Both run throughout, one of them idle; short blocks in turn see the same machine.
        servers: dict[int, Server] = {}
        for contender in (bench.subject, bench.reference):
            server = running.enter_context(contender.start())
            fill(server, FEW_ITEMS, KIB)
            servers[id(contender)] = server
        for together, where in ((True, "same CPU"), (False, "another CPU")):
            p50 = Row(scenario, f"p50, client on {where}", "us", bar=1.25)
            p99 = Row(scenario, f"p99, client on {where}", "us", bar=1.5)

            def measure(contender: Contender, together: bool = together) -> list[float]:
                server = servers[id(contender)]
                return latencies(server, mix, count, together=together)

            for ours, theirs in bench.paired(measure):
                p50.add(quantile(ours, 0.5) * 1e6, quantile(theirs, 0.5) * 1e6)
                p99.add(quantile(ours, 0.99) * 1e6, quantile(theirs, 0.99) * 1e6)
            rows += [p50, p99]
    return rows


def memory_per_item(bench: Bench, scenario: str, *, value_bytes: int, bar: float) -> list[Row]:
    """Resident memory per item, less what the empty server holds."""
    rows = []
    for items in (100_000,) if bench.quick else (300_000, 1_000_000):

        def measure(contender: Contender, items: int = items) -> float:
            with contender.start(memory_limit_mb=ROOMY_MB) as server:
                empty_bytes = server.rss_bytes()
                fill(server, items, value_bytes, partial(bench.progress.share, "filled"))
                held = server.stats()["curr_items"]
                if held != items:
                    raise BenchError(f"{contender.name} holds {held} of {items} items")
                return (server.rss_bytes() - empty_bytes) / items

        row = Row(scenario, f"RSS per item, {items:,} items", "bytes", bar=bar)
        # Memory is the same every time.
        for ours, theirs in bench.paired(measure, pairs=1):
            row.add(ours, theirs)
        rows.append(row)
    return rows


def memory_growth(
    bench: Bench, scenario: str, *, value_bytes: int, own_options: tuple[str, ...] = ()
) -> list[Row]:
    """Peak of resident memory over the empty server's, after four times the limit was written."""
    limit_bytes = GROWTH_LIMIT_MB * MIB
    items = int((1.5 if bench.quick else GROWTH_TIMES) * limit_bytes / value_bytes)
    what = "RSS growth / limit" + (", resident" if own_options else "")
    row = Row(scenario, what, "x", compare="own", bar=1.25)

    def measure(contender: Contender) -> float:
        options = own_options if contender.is_pymcd else ()
        with contender.start(*options, memory_limit_mb=GROWTH_LIMIT_MB) as server:
            empty_bytes = server.rss_bytes()
            fill(server, items, value_bytes, partial(bench.progress.share, "written"))
            if not server.stats()["evictions"]:
                raise BenchError(f"{contender.name} evicted nothing: the limit was not reached")
            return (server.rss_peak_bytes() - empty_bytes) / limit_bytes

    for ours, theirs in bench.paired(measure, pairs=1):
        row.add(ours, theirs)
    return [row]


def scale(bench: Bench, scenario: str) -> list[Row]:
    """Latency with many items over latency with few, each side against itself."""
    many = 100_000 if bench.quick else 3_000_000
    count = 5_000 if bench.quick else 20_000
    p50 = Row(scenario, f"p50, {many:,} / {FEW_ITEMS:,} items", "x", compare="own", bar=1.3)
    p999 = Row(scenario, "p99.9, the same", "x", compare="own", bar=3.0)
    rng = random.Random(SEED)
    mixes = [requests(items, 100, 0.1, rng) for items in (FEW_ITEMS, many)]
    with ExitStack() as running:
        servers: dict[int, list[Server]] = {}
        for contender in (bench.subject, bench.reference):
            bench.progress.step(f"filling {contender}")
            servers[id(contender)] = []
            for items in (FEW_ITEMS, many):
                server = running.enter_context(contender.start(memory_limit_mb=ROOMY_MB))
                fill(server, items, 100, partial(bench.progress.share, "filled"))
                servers[id(contender)].append(server)

        def measure(contender: Contender) -> tuple[float, float]:
            few, more = (
                latencies(server, mix, count, together=True)
                for server, mix in zip(servers[id(contender)], mixes, strict=True)
            )
            at_p50, at_p999 = (quantile(more, q) / quantile(few, q) for q in (0.5, 0.999))
            return at_p50, at_p999

        for ours, theirs in bench.paired(measure):
            p50.add(ours[0], theirs[0])
            p999.add(ours[1], theirs[1])
    return [p50, p999]


def pauses(bench: Bench, scenario: str) -> list[Row]:
    """The longest silence of a server that is filled without a break."""
    items = 300_000 if bench.quick else 3_000_000
    longest = Row(scenario, f"longest, filling to {items:,}", "ms", compare="own", bar=20.0)
    own = Row(scenario, "the same, less waits for a CPU", "ms", compare="own")

    def measure(contender: Contender) -> Pauses:
        with contender.start(memory_limit_mb=ROOMY_MB) as server:
            return fill_watching(server, items, 100, partial(bench.progress.share, "filled"))

    for ours, theirs in bench.paired(measure, pairs=1):
        longest.add(ours.longest_s * 1e3, theirs.longest_s * 1e3)
        own.add(ours.longest_own_s * 1e3, theirs.longest_own_s * 1e3)
    return [longest, own]


def idle_connections(bench: Bench, scenario: str) -> list[Row]:
    """What connections cost that have asked once and are silent since."""
    seconds = IDLE_S / 5 if bench.quick else IDLE_S
    cpu = Row(scenario, "CPU, of one core", "%", compare="own", bar=0.3)
    memory = Row(scenario, "memory per connection", "bytes", compare="own", bar=6 * KIB)
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))

    def measure(contender: Contender) -> tuple[float, float]:
        with (
            contender.start("-c", str(2 * IDLE_CONNECTIONS)) as server,
            ExitStack() as connections,
        ):
            fill(server, 1, KIB)
            empty_bytes = server.rss_bytes()
            for _ in range(IDLE_CONNECTIONS):
                connection = connections.enter_context(server.connect())
                connection.sendall(b"get %b\r\n" % (KEY % 0))
                if not connection.recv(4096).startswith(b"VALUE"):
                    raise BenchError(f"{contender} does not serve {IDLE_CONNECTIONS} connections")
            time.sleep(SETTLE_S)
            before = [cpu.together_s for cpu in server.cpus()]
            time.sleep(seconds)
            used_s = sum(cpu.together_s for cpu in server.cpus()) - sum(before)
            grown_bytes = server.rss_bytes() - empty_bytes
            return used_s / seconds, grown_bytes / IDLE_CONNECTIONS

    for ours, theirs in bench.paired(measure, pairs=1):
        cpu.add(ours[0] * 100, theirs[0] * 100)
        memory.add(ours[1], theirs[1])
    return [cpu, memory]


def startup(bench: Bench, scenario: str) -> list[Row]:
    """From exec to the first connection accepted, less what a bare interpreter takes."""
    over = Row(scenario, "listening, less bare Python", "ms", compare="own", bar=250.0)

    def bare_python_s(contender: Contender) -> float:
        command = [*contender.command[: contender.command.index("-m")], "-c", "pass"]
        started_s = time.perf_counter()
        subprocess.run(command, env=os.environ | dict(contender.environment), check=True)
        return time.perf_counter() - started_s

    def measure(contender: Contender) -> float:
        is_python = contender.is_pymcd and "-m" in contender.command
        interpreter_s = bare_python_s(contender) if is_python else 0.0
        with contender.start() as server:
            return server.start_s - interpreter_s

    with bench.subject.start():
        pass  # so that byte code is written and files are cached
    for ours, theirs in bench.paired(measure, pairs=bench.pairs * 2):
        over.add(ours * 1e3, theirs * 1e3)
    return [over]


SCENARIOS = [
    Scenario(
        "get16",
        "16 connections, 90 % gets, 1 KB values",
        partial(
            steady_load,
            load=Load(16, 0.1, KIB),
            cpu_bars=Bars(1.25, 1.15, pypy=1.0),
            throughput_bar=0.75,
        ),
    ),
    Scenario(
        "get128",
        "128 connections, 90 % gets, 1 KB values",
        partial(
            steady_load, load=Load(128, 0.1, KIB), cpu_bars=Bars(1.35, 1.2), throughput_bar=0.7
        ),
    ),
    Scenario(
        "set16",
        "16 connections, 90 % sets, 1 KB values",
        partial(steady_load, load=Load(16, 0.9, KIB), cpu_bars=Bars(1.4, 1.25, pypy=1.2)),
    ),
    Scenario(
        "big16",
        "16 connections, 30 % sets, 16 KB values",
        partial(steady_load, load=Load(16, 0.3, 16 * KIB), cpu_bars=Bars(1.25, 1.2)),
    ),
    Scenario(
        "multiget",
        "16 connections, gets of 20 keys, 1 KB values",
        partial(steady_load, load=Load(16, 0.1, KIB, keys_per_get=20), cpu_bars=Bars(1.6, 1.4)),
    ),
    Scenario(
        "binary16",
        "16 connections, 90 % gets, 1 KB values, binary protocol",
        partial(
            steady_load,
            load=Load(16, 0.1, KIB, generator_options=("-B",)),
            cpu_bars=Bars(1.45, 1.3),
        ),
    ),
    Scenario(
        "step16",
        "get16 by clients that ask all at once",
        partial(steady_load, load=Clients(TEXT, in_step=True)),
    ),
    Scenario(
        "stepset16",
        "set16 by the same",
        partial(steady_load, load=Clients(TEXT, set_share=0.9, in_step=True)),
    ),
    Scenario(
        "text16",
        "get16 by the load generator of the next ones",
        partial(steady_load, load=Clients(TEXT)),
    ),
    Scenario(
        "meta16",
        "16 connections, 90 % mg, 10 % ms, 1 KB values",
        partial(steady_load, load=Clients(META), cpu_bars=Bars(1.45, 1.3)),
    ),
    Scenario(
        "metaflags16",
        "the same, several flags each",
        partial(steady_load, load=Clients(WIDE_META)),
    ),
    Scenario(
        "flags16",
        "16 connections, 90 % gets, sets with client flags and a time to live",
        partial(steady_load, load=Clients(APPLICATION)),
    ),
    Scenario(
        "tls16",
        "16 connections over TLS 1.3, 90 % gets, 1 KB values",
        partial(
            tls_load,
            load=Clients(TEXT),
            version=ssl.TLSVersion.TLSv1_3,
            cpu_bar=2.5,
            throughput_bar=0.4,
        ),
    ),
    Scenario("half", "how long requests take at half load", half_load),
    Scenario("one", "one client that waits for each answer", one_client),
    Scenario("rss1k", "memory per item, 1 KB", partial(memory_per_item, value_bytes=KIB, bar=1.08)),
    Scenario(
        "rss100", "memory per item, 100 B", partial(memory_per_item, value_bytes=100, bar=1.7)
    ),
    Scenario(
        "growth1k",
        f"memory after {GROWTH_TIMES} x -m {GROWTH_LIMIT_MB} of 1 KB values",
        partial(memory_growth, value_bytes=KIB),
    ),
    Scenario(
        "growth100",
        "the same, 100 B values, -o memory_accounting=resident",
        partial(memory_growth, value_bytes=100, own_options=("-o", "memory_accounting=resident")),
    ),
    Scenario("scale", "latency with 3,000,000 items against 10,000", scale),
    Scenario("pauses", "longest silence on the way to 3,000,000 items", pauses),
    Scenario("idle1000", f"{IDLE_CONNECTIONS:,} connections that are silent", idle_connections),
    Scenario("startup", "time to listen", startup),
]

#: Those that are only measured when asked for.
OTHER_SCENARIOS = [
    Scenario(
        "redis16",
        "text16 beside redis-server, in the columns of memcached",
        partial(beside_peer, program="redis-server", set_share=0.1),
    ),
    Scenario(
        "redisset16",
        "the same, 90 % sets",
        partial(beside_peer, program="redis-server", set_share=0.9),
    ),
    Scenario("soak", "ten minutes at half load, values of 64 B to 512 KB", soak),
]
