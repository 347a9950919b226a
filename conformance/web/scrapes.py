"""What it costs to be asked for all metrics, by as many items and clients as a server may have.

The CPU that the server takes for each scrape is told by the server itself, in the metrics. It is
all that a scrape costs: to read it, to make the text, to send it. What a server takes that is left
alone, as it looks after its items, is taken off. How long another client waits meanwhile says
whether the text is made in one piece.
"""

from __future__ import annotations

import re
import socket
import subprocess
import threading
import time
from contextlib import ExitStack
from typing import TYPE_CHECKING

from conformance.clock import now_s
from conformance.deploy.install import program
from conformance.servers import PYMCD, Server
from conformance.trial import TrialError, free_port, quantile

if TYPE_CHECKING:
    from conformance.trial import Run

ITEMS = 1_000_000
CLIENTS = 1_000
MEMORY_MB = 4096
SCRAPES = 40
#: Of these the median counts.
ROUNDS = 5
#: Of the event loop, for one scrape.
COST_MAX_MS = 2.0
#: Of different sizes, so that many slab classes are in use.
VALUE_BYTES = (1, 100, 250, 600, 1500, 4000)
BATCH = 2_000
TIMEOUT_S = 30.0

REQUEST = (
    b"GET /metrics HTTP/1.1\r\nHost: cache-1:11222\r\nUser-Agent: Prometheus/2.42.0\r\n"
    b"Accept: application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1"
    b";q=0.75,text/plain;version=0.0.4;q=0.5,*/*;q=0.1\r\nAccept-Encoding: gzip\r\n"
    b"X-Prometheus-Scrape-Timeout-Seconds: 10\r\n\r\n"
)


class Asker:
    """Prometheus, on a connection that it keeps."""

    def __init__(self, port: int) -> None:
        self._stream = socket.create_connection(("127.0.0.1", port), TIMEOUT_S)

    def scrape(self) -> str:
        """Return all metrics."""
        self._stream.sendall(REQUEST)
        answer = b""
        while True:
            data = self._stream.recv(1 << 20)
            if not data:
                raise TrialError(f"closed after {answer[:80]!r}")
            answer += data
            head, end, body = answer.partition(b"\r\n\r\n")
            found = re.search(rb"Content-Length: (\d+)", head)
            if end and found and len(body) == int(found[1]):
                if not head.startswith(b"HTTP/1.1 200"):
                    raise TrialError(f"answered {head!r}")
                return body.decode()

    def close(self) -> None:
        self._stream.close()


def value(text: str, name: str) -> float:
    """Return a metric without labels."""
    found = re.search(rf"^{name} (\S+)$", text, re.MULTILINE)
    if found is None:
        raise TrialError(f"no {name}")
    return float(found[1])


def cpu_s(text: str) -> float:
    """Return how much CPU the server has taken."""
    names = ("user", "system")
    return sum(value(text, f"memcached_process_{name}_cpu_seconds_total") for name in names)


def _fill(server: Server, items: int) -> None:
    with socket.create_connection(("127.0.0.1", server.port), TIMEOUT_S) as stream:
        for begin in range(0, items, BATCH):
            commands = []
            for number in range(begin, min(begin + BATCH, items)):
                size = VALUE_BYTES[number % len(VALUE_BYTES)] if number % 50 == 0 else 1
                commands.append(
                    b"set key:%07d 0 0 %d noreply\r\n%b\r\n" % (number, size, b"v" * size)
                )
            stream.sendall(b"".join(commands) + b"mn\r\n")
            if stream.recv(100) != b"MN\r\n":
                raise TrialError("not stored")


def scrape(run: Run) -> None:
    """1,000,000 items, 1,000 clients: the CPU of a scrape, and how long another client waits."""
    items, clients = run.count(ITEMS), run.count(CLIENTS)
    port = free_port()
    switches = ("-m", str(MEMORY_MB), "-c", str(CLIENTS + 100), "--http", f"127.0.0.1:{port}")
    with ExitStack() as stack:
        server = stack.enter_context(Server(PYMCD, (*switches, "--drain-delay", "0")))
        _fill(server, items)
        for _ in range(clients):
            where = ("127.0.0.1", server.port)
            stack.enter_context(socket.create_connection(where, TIMEOUT_S))
        asker = Asker(port)
        stack.callback(asker.close)
        text = asker.scrape()
        run.figure("items", value(text, "memcached_current_items"), items, at_least=True)
        run.figure("clients", value(text, "memcached_current_connections"), clients, at_least=True)
        measured = [_measure(asker) for _ in range(ROUNDS)]
        cost_ms = quantile([cost_s for cost_s, _ in measured], 0.5) * 1e3
        run.figure("CPU of the server for a scrape", cost_ms, COST_MAX_MS, "ms", timed=True)
        run.spread("a scrape takes", [each for _, took_s in measured for each in took_s], "ms")
        run.figure("bytes of a scrape", len(text))
        waits_s = _waits_s(server, asker)
        run.figure("another client waits meanwhile, p50", quantile(waits_s, 0.5) * 1e3, unit="ms")
        run.figure("another client waits meanwhile, p99", quantile(waits_s, 0.99) * 1e3, unit="ms")
    _check_by_promtool(run, text)


def _measure(asker: Asker) -> tuple[float, list[float]]:
    """Return the CPU of one scrape of many, and how long each took."""
    took_s: list[float] = []
    text = asker.scrape()
    before_s = cpu_s(text)
    for _ in range(SCRAPES):
        began_s = now_s()
        text = asker.scrape()
        took_s.append(now_s() - began_s)
    scraped_s = cpu_s(text) - before_s
    time.sleep(sum(took_s))
    idle_s = cpu_s(asker.scrape()) - cpu_s(text)  # and of one scrape
    return (scraped_s - idle_s) / (SCRAPES - 1), took_s


def _waits_s(server: Server, asker: Asker) -> list[float]:
    """Return how long another client waits for its answers while there are scrapes."""
    ended = threading.Event()
    waits: list[float] = []

    def ask() -> None:
        with socket.create_connection(("127.0.0.1", server.port), TIMEOUT_S) as stream:
            stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            while not ended.is_set():
                began_s = now_s()
                stream.sendall(b"mn\r\n")
                stream.recv(100)
                waits.append(now_s() - began_s)

    thread = threading.Thread(target=ask)
    thread.start()
    try:
        for _ in range(SCRAPES):
            asker.scrape()
    finally:
        ended.set()
        thread.join()
    return waits


def _check_by_promtool(run: Run, text: str) -> None:
    promtool = program("promtool")
    if promtool is None:
        run.problem("promtool is not here: `python -m conformance.deploy.install` fetches it")
        return
    done = subprocess.run(
        [promtool, "check", "metrics"], input=text, capture_output=True, text=True, check=False
    )
    complaints = (done.stdout + done.stderr).splitlines()
    run.figure("complaints of promtool", len(complaints) or done.returncode, 0)
    run.problem(*complaints)
