"""The servers that are compared, and what the kernel and the servers say about themselves.

A `Contender` is a command line that behaves like memcached's; `start()` gives a `Server`, a running
one on a port of its own. CPU and memory come from /proc (Linux only), counters from the protocol's
own `stats`. Knows neither loads nor scenarios. A server that consists of several processes (a
replicating pair) fits in by giving `Server` more than one process id.
"""

from __future__ import annotations

import os
import random
import shlex
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, NamedTuple, Self

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

HOST = "127.0.0.1"
START_TIMEOUT_S = 60.0  # the machine may be busy
STOP_TIMEOUT_S = 5.0
REPLY_TIMEOUT_S = 60.0
CONNECT_RETRY_S = 0.0005
COMPILER_WARM_UP_S = 10.0
TICKS_PER_S = os.sysconf("SC_CLK_TCK")
CHECKOUT = Path(__file__).resolve().parent.parent


class BenchError(Exception):
    """A measurement that could not be made, or that would not mean what it claims."""


def free_port() -> int:
    """Find a port that nobody is given by the system before our server takes it.

    Those that the system gives out are for sockets that name none: a server of somebody's test, or
    our own connection, which would reach itself.
    """
    first_given = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    while True:
        port = random.randrange(min(20_000, first_given // 2), first_given)
        with socket.socket() as probe:
            try:
                probe.bind((HOST, port))
            except OSError:
                continue
            return port


class Cpu(NamedTuple):
    """CPU time, in seconds."""

    user_s: float
    system_s: float

    @property
    def together_s(self) -> float:
        return self.user_s + self.system_s

    def since(self, before: Cpu) -> Cpu:
        """Return what was used since an earlier reading."""
        return Cpu(self.user_s - before.user_s, self.system_s - before.system_s)

    def plus(self, other: Cpu) -> Cpu:
        return Cpu(self.user_s + other.user_s, self.system_s + other.system_s)


def cpu_of(pid: int) -> Cpu:
    """Return the time of a process so far, all its threads that still run.

    All of it is good to a nanosecond; which part is the user's, to a hundredth of a second.
    """
    # The second field is the command in parentheses and may hold blanks.
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    together_ns = 0
    for thread in os.listdir(f"/proc/{pid}/task"):
        with suppress(FileNotFoundError, ProcessLookupError):  # it has ended
            times = Path(f"/proc/{pid}/task/{thread}/schedstat").read_text()
            together_ns += int(times.split()[0])
    user_s = int(fields[11]) / TICKS_PER_S
    return Cpu(user_s, together_ns / 1e9 - user_s)


#: Load generators that nobody has waited for: their time is no stranger's.
generators: set[int] = set()


def cpu_of_others() -> float:
    """User plus system time of all processes but this one, its children and servers, so far.

    With it goes what the host of a virtual machine has taken from it.
    """
    user, nice, system, _, _, irq, softirq, stolen = map(
        int, Path("/proc/stat").read_text().split(maxsplit=9)[1:9]
    )
    # The loopback's network is made in interrupts, counted for the interrupted process as well.
    machine_s = (user + nice + system + irq + softirq + stolen) / TICKS_PER_S
    # A child's time is in os.times() once it was waited for.
    running = [cpu for server in Server.running for cpu in server.cpus()]
    running += map(cpu_of, generators)
    running_s = sum(cpu.together_s for cpu in running)
    return machine_s - sum(os.times()[:4]) - running_s


@dataclass(frozen=True, slots=True)
class Contender:
    """A command that starts a memcached or something like it."""

    name: str
    command: tuple[str, ...]
    environment: tuple[tuple[str, str], ...] = ()  #: what it needs beside that of this process
    label: str = ""  #: what tells it from others of that name
    runtime: str = ""  #: where it is known which Python it runs on, as "CPython 3.14"

    def __str__(self) -> str:
        return self.label or self.name

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read what a user gave: `pymcd`, or a command as for a shell, with its options."""
        if text == "pymcd":
            return cls("pymcd", (sys.executable, "-m", "pymcd"))
        words = tuple(shlex.split(text))
        if not words:
            raise BenchError("an empty command is no server")
        return cls("pymcd" if "pymcd" in text else Path(words[0]).name, words)

    @property
    def is_pymcd(self) -> bool:
        return self.name == "pymcd"

    def version(self) -> str:
        try:
            done = subprocess.run(
                [*self.command, "-V"],
                capture_output=True,
                text=True,
                timeout=10,
                cwd=CHECKOUT,
                env=os.environ | dict(self.environment),
            )
        except OSError as error:
            raise BenchError(f"cannot run {self.command[0]}: {error.strerror}") from error
        return done.stdout.strip() or f"unknown (exit code {done.returncode})"

    def labelled(self) -> Contender:
        """Return it with a name that tells its version, unless it has one."""
        return self if self.label else replace(self, label=self.version())

    def start(self, *options: str, memory_limit_mb: int = 1024) -> Server:
        """Start on a free port of the loopback; returns when a connection succeeded."""
        port = free_port()
        command = [*self.command, "-p", str(port), "-l", HOST, "-U", "0", "-t", "1"]
        command += ["-m", str(memory_limit_mb), *options]
        if os.geteuid() == 0:
            command += ["-u", "nobody"]
        server = Server(str(self), command, port, dict(self.environment))
        if self.runtime.startswith("PyPy"):
            server.warm_up_s = COMPILER_WARM_UP_S
        return server


class Server:
    """A running server; a context manager that stops it."""

    running: ClassVar[set[Server]] = set()
    warm_up_s = 0.0  #: how long a load has to be there before it is steady

    def __init__(
        self, name: str, command: Sequence[str], port: int, environment: Mapping[str, str]
    ) -> None:
        self.name = name
        self.port = port
        self._log = tempfile.TemporaryFile()  # noqa: SIM115  (closed by stop)
        started = time.perf_counter()
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=self._log,
            cwd=CHECKOUT,
            env=os.environ | dict(environment),
        )
        self.pids: tuple[int, ...] = (self._process.pid,)
        try:
            self._control = self._connect_when_listening(started)
        except BaseException:
            self.stop()
            raise
        self.start_s = time.perf_counter() - started
        Server.running.add(self)

    def _connect_when_listening(self, started: float) -> socket.socket:
        while True:
            try:
                return self.connect()
            except OSError:
                if self._process.poll() is not None:
                    raise BenchError(f"{self.name} did not start: {self._said()}") from None
                if time.perf_counter() - started > START_TIMEOUT_S:
                    raise BenchError(f"{self.name} does not listen: {self._said()}") from None
                time.sleep(CONNECT_RETRY_S)

    def _said(self) -> str:
        self._log.seek(0)
        lines = self._log.read().decode(errors="replace").strip().splitlines()
        return lines[-1] if lines else f"exit code {self._process.poll()}, no message"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.stop()

    def stop(self) -> None:
        Server.running.discard(self)
        if self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(STOP_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        if hasattr(self, "_control"):
            self._control.close()
        self._log.close()

    def connect(self) -> socket.socket:
        connection = socket.create_connection((HOST, self.port), timeout=REPLY_TIMEOUT_S)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return connection

    def pin(self, cpu: int) -> None:
        """Let all threads run on this CPU only."""
        for pid in self.pids:
            for thread in os.listdir(f"/proc/{pid}/task"):
                os.sched_setaffinity(int(thread), {cpu})

    def stats(self) -> dict[str, int]:
        """Ask for the general statistics; only the whole numbers among them."""
        self._control.sendall(b"stats\r\n")
        reply = bytearray()
        while not reply.endswith(b"END\r\n"):
            data = self._control.recv(65536)
            if not data:
                raise BenchError(f"{self.name} closed the connection: {self._said()}")
            reply += data
            if reply.startswith(b"ERROR"):
                raise BenchError(f"{self.name} does not answer stats")
        rows = (line.split() for line in reply.decode().splitlines())
        return {row[1]: int(row[2]) for row in rows if len(row) == 3 and row[2].isdigit()}

    def cpus(self) -> list[Cpu]:
        """Return the time that each process used so far."""
        return [cpu_of(pid) for pid in self.pids]

    def wakeups(self) -> int:
        """Return how often its threads have slept until something came."""
        slept = 0
        for pid in self.pids:
            for status in Path(f"/proc/{pid}/task").glob("*/status"):
                slept += int(
                    status.read_text().partition("\nvoluntary_ctxt_switches:")[2].split()[0]
                )
        return slept

    def rss_bytes(self) -> int:
        return sum(self._memory(pid, "VmRSS") for pid in self.pids)

    def rss_peak_bytes(self) -> int:
        return sum(self._memory(pid, "VmHWM") for pid in self.pids)

    @staticmethod
    def _memory(pid: int, field: str) -> int:
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            name, _, value = line.partition(":")
            if name == field:
                return int(value.split()[0]) * 1024
        raise BenchError(f"/proc/{pid}/status has no {field}")


class CpuWait:
    """How long the threads of some processes were ready to run but had no CPU, in seconds.

    Tells a pause of the server from a pause of the machine.
    """

    def __init__(self, *pids: int | str) -> None:
        self._files = [
            os.open(f"/proc/{pid}/task/{thread}/schedstat", os.O_RDONLY)
            for pid in pids
            for thread in os.listdir(f"/proc/{pid}/task")
        ]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        for file in self._files:
            os.close(file)

    def read(self) -> float:
        total_ns = 0
        for file in self._files:
            total_ns += int(os.pread(file, 100, 0).split()[1])
        return total_ns / 1e9
