"""Redis and Valkey, which a user might choose instead, with the same operations.

Their columns stand where memcached's do. They keep nothing on disk here and evict as a cache does.
The clients are those of `clients`, which write and read their protocol as they do memcached's.
"""

from __future__ import annotations

import shutil
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

from .clients import REDIS, TEXT, Clients
from .contenders import HOST, BenchError, Contender, Server, free_port
from .report import CpuRows, Row

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .runs import Bench, Pressure

#: Ours, and the words for them in INFO.
COUNTERS = {
    "cmd_get": ("keyspace_hits", "keyspace_misses"),
    "get_hits": ("keyspace_hits",),
    "evictions": ("evicted_keys",),
    "bytes_read": ("total_net_input_bytes",),
    "bytes_written": ("total_net_output_bytes",),
}


def counters_of(info: str) -> dict[str, int]:
    """Say in memcached's words what INFO tells."""
    words = dict(line.split(":", 1) for line in info.splitlines() if ":" in line)
    stats = {ours: sum(int(words[each]) for each in theirs) for ours, theirs in COUNTERS.items()}
    _, _, calls = words.get("cmdstat_set", "calls=0,").partition("calls=")
    return stats | {"cmd_set": int(calls.partition(",")[0])}


class RedisServer(Server):
    """A running Redis or Valkey."""

    def stats(self) -> dict[str, int]:
        self._control.sendall(b"INFO everything\r\n")
        reply = bytearray()
        while b"\r\n" not in reply:
            reply += self._control.recv(65536)
        head, _, rest = bytes(reply).partition(b"\r\n")
        while len(rest) < int(head[1:]) + 2:
            rest += self._control.recv(65536)
        return counters_of(rest.decode())


def start(program: str) -> RedisServer:
    """Start it on a free port, as a cache.

    Raises:
        BenchError: it is not installed, or does not start.
    """
    if shutil.which(program) is None:
        raise BenchError(f"{program} is not installed (a package of Debian's with that name)")
    port = free_port()
    command = [program, "--port", str(port), "--bind", HOST, "--save", "", "--appendonly", "no"]
    command += ["--maxmemory", "1gb", "--maxmemory-policy", "allkeys-lru"]
    return RedisServer(program, command, port, {})


def beside_peer(bench: Bench, scenario: str, *, program: str, set_share: float) -> list[Row]:
    """CPU per request and throughput beside such a server."""
    bench = replace(bench, reference=Contender(program, (program,)))
    cpu = CpuRows(scenario, f"CPU per request: pymcd, {program}")
    throughput = Row(scenario, f"requests per second: pymcd, {program}", "/s", at_least=True)

    @contextmanager
    def press(contender: Contender) -> Iterator[Pressure]:
        is_peer = contender is bench.reference
        clients = Clients(REDIS if is_peer else TEXT, set_share=set_share)
        with (
            start(program) if is_peer else contender.start() as server,
            clients.on(server) as pressure,
        ):
            yield pressure

    for ours, theirs in bench.steady(press):
        cpu.add(ours, theirs)
        throughput.add(ours.operations_per_s, theirs.operations_per_s)
    return [*cpu.rows, throughput]
