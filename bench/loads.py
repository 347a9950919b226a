"""Ways to put work on a server: memcaslap, a blocking client, a filler.

memcaslap (libmemcached-tools, written in C) makes the loads of which CPU and throughput are
measured. It runs until it is stopped, and what is measured are windows cut from its middle, two
readings of the server's `stats` and CPU time each; between them it stands still. So neither its
start nor its first sets count, and operations are what the server itself counted, keys for
multi-gets. Every window is checked: gets must be hits, the bytes sent must be as many as the values
weigh, sets must have the share asked for and nothing may be evicted; else the figure is refused.

memcaslap's ways, found by trying: without -o every set stores a new key, and a memcached that only
ever grows spends most of a 16 KB set on page faults, twice as much in one run as in the next. So
nine sets of ten overwrite, as sessions do, and the tenth lets the working set grow. Gets ask for
keys of a sliding window of `-w` keys per connection, and `-w` wants a suffix (at least 1k).

The blocking client and the filler are Python. The client's own time is part of the latencies of
both sides alike, so ratios come out nearer to 1 than a client in C would see them. More than on
either server a latency depends on where the scheduler puts the two processes: on one CPU a request
may take 8 us, on two 50 us, most of it the waking of an idle CPU (worse in a virtual machine). Left
alone the scheduler chooses differently from run to run, so both are pinned: to one CPU, where
nothing hides the server's work, or to two, which is nearer to a client on another machine.
"""

from __future__ import annotations

import gc
import os
import shutil
import signal
import socket
import struct
import subprocess
import tempfile
import time
from contextlib import contextmanager
from dataclasses import dataclass
from functools import reduce
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from .contenders import HOST, BenchError, Cpu, CpuWait, Server, generators

if TYPE_CHECKING:
    import random
    from collections.abc import Callable, Iterator, Mapping

    Request = tuple[bytes, int]  # the bytes to send, the length of the right answer

GENERATOR = "memcaslap"
WARM_UP_OPERATIONS = 5000
WARM_UP_TIMEOUT_S = 15.0
SETTLE_S = 0.3
RESUME_S = 0.05
COUNTERS = ("cmd_get", "cmd_set", "get_hits", "evictions", "bytes_read", "bytes_written")
FILL_CHUNK_KEYS = 500
PAUSE_CHUNK_KEYS = 100
KEY = b"key:%016d"  # 20 bytes
RECEIVE_TIMEOUT = struct.pack("ll", 10, 0)  # a struct timeval: 10 s


@dataclass(frozen=True, slots=True)
class Load:
    """A mix of gets and sets that a load generator keeps up.

    `generator_options` leaves room for what only the generator knows, such as `-B` for the binary
    protocol; `server_options` for what the servers need to take part.
    """

    connections: int
    set_share: float
    value_bytes: int
    keys_per_get: int = 1
    key_bytes: int = 24
    overwrite_share: float = 0.9
    generator_options: tuple[str, ...] = ()
    server_options: tuple[str, ...] = ()

    def config(self) -> str:
        """What memcaslap reads with -F: lengths with their share, command 0 set, command 1 get."""
        return (
            f"key\n{self.key_bytes} {self.key_bytes} 1\n"
            f"value\n{self.value_bytes} {self.value_bytes} 1\n"
            f"cmd\n0 {self.set_share}\n1 {1 - self.set_share}\n"
        )

    def command(self, port: int, config: str) -> list[str]:
        command = [GENERATOR, "-s", f"{HOST}:{port}", "-F", config, "-T", "1", "-w", "1k"]
        command += ["-c", str(self.connections), "-o", str(self.overwrite_share), "-t", "1h"]
        if self.keys_per_get > 1:
            command += ["-d", str(self.keys_per_get)]
        return [*command, *self.generator_options]

    @contextmanager
    def on(self, server: Server) -> Iterator[_Memcaslap]:
        """Load the server with memcaslap; it stands still but for what is measured."""
        if shutil.which(GENERATOR) is None:
            raise BenchError(f"{GENERATOR} is not installed (Debian: libmemcached-tools)")
        with tempfile.TemporaryDirectory() as folder:
            config = Path(folder, "load")
            config.write_text(self.config())
            generator = subprocess.Popen(
                self.command(server.port, str(config)),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
            generators.add(generator.pid)
            try:
                _warm_up(server, generator, gets_too=self.set_share < 1)
                pressure = _Memcaslap(self, server, generator)
                pressure.hold()
                yield pressure
            finally:
                generator.kill()
                generator.wait()
                generators.discard(generator.pid)


class _Memcaslap:
    """A memcaslap that stands still and goes on: to start it takes longer than a slice."""

    def __init__(self, load: Load, server: Server, generator: subprocess.Popen[bytes]) -> None:
        self._load = load
        self._server = server
        self._generator = generator

    def hold(self) -> None:
        self._generator.send_signal(signal.SIGSTOP)

    def measure(self, seconds: float) -> Window:
        """Let it go on and measure so long a time of the steady state."""
        self._generator.send_signal(signal.SIGCONT)
        try:
            time.sleep(RESUME_S)
            meter = Meter(self._server)
            time.sleep(seconds)
            if self._generator.poll() is not None:
                raise BenchError(f"{GENERATOR} stopped early on {self._server.name}")
            return meter.window(self._load.set_share, self._load.value_bytes)
        finally:
            self.hold()


@dataclass(frozen=True, slots=True)
class Window:
    """What a server did between two readings, under a steady load."""

    seconds: float
    operations: int
    cpus: tuple[Cpu, ...]  #: of each of its processes
    wakeups: int = 0  #: of all threads

    def __add__(self, other: Window) -> Window:
        return Window(
            self.seconds + other.seconds,
            self.operations + other.operations,
            tuple(map(Cpu.plus, self.cpus, other.cpus)),
            self.wakeups + other.wakeups,
        )

    @property
    def cpu(self) -> Cpu:
        """The time of all its processes."""
        return reduce(Cpu.plus, self.cpus)

    @property
    def cpu_per_operation_us(self) -> float:
        return self.cpu.together_s / self.operations * 1e6

    @property
    def user_per_operation_us(self) -> float:
        return self.cpu.user_s / self.operations * 1e6

    @property
    def system_per_operation_us(self) -> float:
        return self.cpu.system_s / self.operations * 1e6

    @property
    def operations_per_wakeup(self) -> float:
        return self.operations / max(self.wakeups, 1)

    @property
    def operations_per_s(self) -> float:
        return self.operations / self.seconds


class Meter:
    """The first of two readings of a server under a steady load; `window()` takes the second."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._before = server.stats()
        self._cpus = server.cpus()
        self._wakeups = server.wakeups()
        self._at_s = time.perf_counter()

    def window(self, set_share: float, value_bytes: int) -> Window:
        """Measure up to now, and refuse what was not the load that it should have been."""
        after = self._server.stats()
        cpus = tuple(map(Cpu.since, self._server.cpus(), self._cpus))
        seconds = time.perf_counter() - self._at_s
        done = {name: after.get(name, 0) - self._before.get(name, 0) for name in COUNTERS}
        if broken := broken_promises(done, set_share, value_bytes):
            raise BenchError(f"{self._server.name}: not true that {', '.join(broken)}")
        wakeups = self._server.wakeups() - self._wakeups
        return Window(seconds, done["cmd_get"] + done["cmd_set"], cpus, wakeups)


def broken_promises(done: Mapping[str, int], set_share: float, value_bytes: int) -> list[str]:
    """Name what a server's counters say against a load of this mix; nothing, if it was one."""
    gets, sets, hits = done["cmd_get"], done["cmd_set"], done["get_hits"]
    wanted = {
        "gets and sets are counted": (gets > 0 or set_share == 1) and sets > 0,
        "gets are hits": hits >= 0.999 * gets,
        "nothing is evicted": done["evictions"] == 0,
        "answers carry the values": done["bytes_written"] >= 0.99 * hits * value_bytes,
        "requests carry the values": done["bytes_read"] >= 0.99 * sets * value_bytes,
        "sets have their share": abs(sets / max(gets + sets, 1) - set_share) < 0.02,
    }
    return [what for what, holds in wanted.items() if not holds]


def _warm_up(server: Server, generator: subprocess.Popen[bytes], *, gets_too: bool) -> None:
    deadline = time.perf_counter() + WARM_UP_TIMEOUT_S
    while True:
        stats = server.stats()
        # memcaslap's first commands are sets alone, to have something to get.
        gets, sets = stats.get("cmd_get", 0), stats.get("cmd_set", 0)
        if (gets > 0 or not gets_too) and gets + sets > WARM_UP_OPERATIONS:
            break
        if generator.poll() is not None:
            raise BenchError(f"{GENERATOR} does not run against {server.name}")
        if time.perf_counter() > deadline:
            raise BenchError(f"the load does not reach {server.name}")
        time.sleep(0.05)
    time.sleep(max(SETTLE_S, server.warm_up_s))


def fill(
    server: Server, count: int, value_bytes: int, report: Callable[[float], None] = lambda _: None
) -> None:
    """Store `count` keys, pipelined and quiet; returns when the server has done them all."""
    value = b"v" * value_bytes + b"\r\n"
    head = b"set " + KEY + b" 0 0 " + b"%d noreply\r\n" % value_bytes
    with server.connect() as connection:
        for first in range(0, count, FILL_CHUNK_KEYS):
            last = min(first + FILL_CHUNK_KEYS, count)
            connection.sendall(b"".join([head % n + value for n in range(first, last)]))
            report(last / count)
        connection.sendall(b"version\r\n")
        reply = connection.recv(4096)
    if not reply.startswith(b"VERSION"):
        raise BenchError(f"{server.name} answered {reply[:60]!r} to quiet sets")


@dataclass(frozen=True, slots=True)
class Pauses:
    """The longest time without an answer while a server was kept busy."""

    longest_s: float
    # The same, less what server and client spent waiting for a CPU that another process had.
    longest_own_s: float


def fill_watching(
    server: Server, count: int, value_bytes: int, report: Callable[[float], None]
) -> Pauses:
    """Store `count` keys in batches, each answered before the next; find the longest gap."""
    value = b"v" * value_bytes + b"\r\n"
    head = b"set " + KEY + b" 0 0 " + b"%d\r\n" % value_bytes
    wanted_bytes = PAUSE_CHUNK_KEYS * len(b"STORED\r\n")
    longest_s = longest_own_s = 0.0
    with server.connect() as connection, CpuWait(*server.pids) as waits, CpuWait("self") as own:
        gc.disable()
        try:
            for first in range(0, count, PAUSE_CHUNK_KEYS):
                numbers = range(first, first + PAUSE_CHUNK_KEYS)
                batch = b"".join([head % n + value for n in numbers])
                answered_bytes = 0
                waited_s = waits.read() + own.read()
                connection.sendall(batch)
                at_s = time.perf_counter()
                while answered_bytes < wanted_bytes:
                    data = connection.recv(65536)
                    now_s = time.perf_counter()
                    gap_s, at_s = now_s - at_s, now_s
                    answered_bytes += len(data)
                    if not data or b"ERROR" in data:
                        raise BenchError(f"{server.name} answered {data[:60]!r} to sets")
                    if gap_s > longest_s:
                        longest_s = gap_s
                    if gap_s > longest_own_s:
                        waited_in_gap_s = waits.read() + own.read() - waited_s
                        longest_own_s = max(longest_own_s, gap_s - waited_in_gap_s)
                report((first + PAUSE_CHUNK_KEYS) / count)
        finally:
            gc.enable()
    return Pauses(longest_s, longest_own_s)


def requests(
    keys: int, value_bytes: int, set_share: float, rng: random.Random
) -> Iterator[Request]:
    """An endless mix for the blocking client, of random keys among the first `keys`."""
    value = b"v" * value_bytes + b"\r\n"
    get_reply_bytes = (
        len(b"VALUE %b 0 %d\r\n" % (KEY % 0, value_bytes)) + len(value) + len("END\r\n")
    )
    while True:
        key = KEY % rng.randrange(keys)
        if rng.random() < set_share:
            yield b"set %b 0 0 %d\r\n%b" % (key, value_bytes, value), len(b"STORED\r\n")
        else:
            yield b"get %b\r\n" % key, get_reply_bytes


@contextmanager
def placed(server: Server, *, together: bool) -> Iterator[None]:
    """Pin the server and this process to one CPU, or to one each."""
    cpus = sorted(os.sched_getaffinity(0))
    server.pin(cpus[-1])
    os.sched_setaffinity(0, {cpus[-1] if together else cpus[0]})
    try:
        yield
    finally:
        os.sched_setaffinity(0, cpus)


def latencies(server: Server, mix: Iterator[Request], count: int, *, together: bool) -> list[float]:
    """Send `count` requests on one connection, one at a time; seconds of each, sorted.

    `together` puts client and server on one CPU, else they have one each.
    """
    prepared = list(islice(mix, count))
    taken_ns = [0] * count
    clock = time.perf_counter_ns
    with server.connect() as connection, placed(server, together=together):
        # Python's own time-out would cost a poll() per call; the kernel's costs nothing.
        connection.settimeout(None)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, RECEIVE_TIMEOUT)
        send, receive = connection.send, connection.recv
        gc.disable()
        try:
            for index, (request, reply_bytes) in enumerate(prepared):
                started_ns = clock()
                send(request)
                reply = receive(65536)
                while len(reply) < reply_bytes:
                    more = receive(65536)
                    if not more:
                        raise BenchError(f"{server.name} closed the connection")
                    reply += more
                taken_ns[index] = clock() - started_ns
                if len(reply) != reply_bytes:
                    raise BenchError(f"{server.name} answered {reply[:60]!r}")
        except BlockingIOError:
            raise BenchError(f"{server.name} gave no whole answer to {request[:60]!r}") from None
        finally:
            gc.enable()
    return sorted(ns / 1e9 for ns in taken_ns)


def quantile(ordered: list[float], share: float) -> float:
    return ordered[min(int(len(ordered) * share), len(ordered) - 1)]
