"""Requests that come when they come, whether or not those before them were answered.

A closed load, of clients that wait for each answer, asks less of a server that is slow for a moment
and so does not see most of what that moment costs. Here requests are due at random moments, so many
a second, and how long one took is counted from when it was due, though it may have had to wait for
a connection. One process asks for all of them and never sleeps: it has a CPU of its own, the server
another one, and no waking of a client is in the figures.

`half_load` is the usual mix at half of what the server under test can do; `soak` the same for ten
minutes, of values of 64 B to 512 KB, keys by Zipf's law, in a cache that is too small for them.
"""

from __future__ import annotations

import gc
import random
import select
import time
from bisect import bisect
from collections import deque
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import accumulate, cycle
from typing import TYPE_CHECKING, Protocol, Self

from .clients import TEXT, Clients, Member
from .contenders import REPLY_TIMEOUT_S, BenchError
from .loads import KEY, placed, quantile
from .report import Row

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Iterator, Sequence

    from .contenders import Contender, Server
    from .runs import Bench

SEED = 1
CONNECTIONS = 16
CAPACITY_S = 1.0
HALF_LOAD_S = 10.0
SOAK_S = 600.0
SOAK_PARTS = 10
SOAK_MEMORY_MB = 512
SOAK_KEYS = 20_000  #: with 58 KB on average, twice the memory
SOAK_SETS_SHARE = 0.1
VALUE_BYTES = (64, 512 << 10)
RECEIVE_BYTES = 1 << 20


class Asker(Protocol):
    """A connection that has one request out at a time."""

    def ask(self) -> None: ...

    def receive(self) -> bool:
        """Take what came; True: that completed the right answer."""


class Pace:
    """Requests at random moments, over some connections."""

    def __init__(self, server: Server, asker: Callable[[socket.socket], Asker]) -> None:
        self._server = server
        self._open = ExitStack()
        self._poller = self._open.enter_context(select.epoll())
        self._askers: dict[int, Asker] = {}
        self._rng = random.Random(SEED)
        for _ in range(CONNECTIONS):
            connection = self._open.enter_context(server.connect())
            connection.setblocking(False)
            self._askers[connection.fileno()] = asker(connection)
            self._poller.register(connection, select.EPOLLIN)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self._open.close()

    def run(self, seconds: float, per_s: float) -> list[float]:
        """Ask so often, at random moments, for so long; how long each took, sorted."""
        gap, clock = self._rng.expovariate, time.perf_counter
        poll, askers = self._poller.poll, self._askers
        idle = deque(askers)
        due_s: dict[int, float] = {}
        taken_s: list[float] = []
        now_s = clock()
        end_s = now_s + seconds
        next_s = now_s + gap(per_s)
        answered_s = now_s
        gc.disable()
        try:
            while next_s < end_s or due_s:
                now_s = clock()
                while idle and next_s <= now_s and next_s < end_s:
                    number = idle.popleft()
                    due_s[number] = next_s
                    askers[number].ask()
                    next_s += gap(per_s)
                for number, _ in poll(0):
                    if askers[number].receive():
                        answered_s = clock()
                        taken_s.append(answered_s - due_s.pop(number))
                        idle.append(number)
                if due_s and now_s - answered_s > REPLY_TIMEOUT_S:
                    raise BenchError(f"{self._server.name} does not answer")
        except ConnectionError as error:
            raise BenchError(f"{self._server.name}: {error}") from None
        finally:
            gc.enable()
        return sorted(taken_s)

    def capacity(self) -> float:
        """Tell how many requests a second are answered where each connection asks at once."""
        askers, clock = self._askers, time.perf_counter
        answers = 0
        deadline_s = clock() + CAPACITY_S
        for asker in askers.values():
            asker.ask()
        out = len(askers)
        while out:
            for number, _ in self._poller.poll(REPLY_TIMEOUT_S):
                if askers[number].receive():
                    if clock() < deadline_s:
                        answers += 1
                        askers[number].ask()
                    else:
                        out -= 1
        return answers / CAPACITY_S


def _quantile_rows(scenario: str, bars: dict[float, float | None]) -> dict[float, Row]:
    return {
        share: Row(scenario, f"p{share * 100:g} at half load", "us", bar=bar)
        for share, bar in bars.items()
    }


def half_load(bench: Bench, scenario: str) -> list[Row]:
    """How long requests take at half of those a second that the subject can answer."""
    rows = _quantile_rows(scenario, {0.5: None, 0.99: None, 0.999: 2.0})
    rate = Row(scenario, "requests per second", "/s")
    seconds = HALF_LOAD_S / 5 if bench.quick else HALF_LOAD_S
    clients = Clients(TEXT)
    script = clients.script()
    # Each connection begins at another place, the same for both sides.
    starts = cycle(range(0, len(script), len(script) // CONNECTIONS))

    def asker(connection: socket.socket) -> Asker:
        start = next(starts)
        return Member(connection, cycle(script[start:] + script[:start]))

    with ExitStack() as running:
        paces = {}
        for contender in (bench.subject, bench.reference):
            server = running.enter_context(contender.start())
            clients.preload(server)
            paces[id(contender)] = server, running.enter_context(Pace(server, asker))
        server, pace = paces[id(bench.subject)]
        with placed(server, together=False):
            pace.run(server.warm_up_s, 1000.0)
            per_s = pace.capacity() / 2

        def measure(contender: Contender) -> list[float]:
            server, pace = paces[id(contender)]
            with placed(server, together=False):
                return pace.run(seconds, per_s)

        for ours, theirs in bench.paired(measure):
            for share, row in rows.items():
                row.add(quantile(ours, share) * 1e6, quantile(theirs, share) * 1e6)
            rate.add(len(ours) / seconds, len(theirs) / seconds)
    return [*rows.values(), rate]


# -- ten minutes ---------------------------------------------------------------------------------

_VALUE = bytes(range(32, 127)) * (VALUE_BYTES[1] // 95 + 1)


class Shopper:
    """A client that asks for a key, and stores a value of some other size where there is none.

    Of all requests some are sets of keys that may be there. A value is the beginning of one long
    text, so that it can be told whether it is right.
    """

    def __init__(
        self, connection: socket.socket, keys: Iterator[bytes], rng: random.Random
    ) -> None:
        self._connection = connection
        self._keys = keys
        self._rng = rng
        self._came = bytearray()
        self._key = b""
        self._sets = False
        self.hits = self.misses = 0

    def ask(self) -> None:
        self._key = next(self._keys)
        if self._rng.random() < SOAK_SETS_SHARE:
            self._store()
        else:
            self._sets = False
            self._send(b"get %b\r\n" % self._key)

    def _store(self) -> None:
        self._sets = True
        least, most = VALUE_BYTES
        size = int(least * (most / least) ** self._rng.random())
        head = b"set %b 0 0 %d\r\n" % (self._key, size)
        self._send(b"%b%b\r\n" % (head, _VALUE[:size]))

    def _send(self, request: bytes) -> None:
        self._connection.setblocking(True)
        self._connection.sendall(request)
        self._connection.setblocking(False)

    def receive(self) -> bool:
        came = self._came
        data = self._connection.recv(RECEIVE_BYTES)
        if not data:
            raise ConnectionError("closed the connection")
        came += data
        if self._sets:
            return self._is_done(b"STORED\r\n")
        if came[:1] != b"V":
            if self._is_done(b"END\r\n"):
                self.misses += 1
                self._store()
            return False
        head, _, rest = came.partition(b"\r\n")
        size = int(head.rpartition(b" ")[2]) if rest else VALUE_BYTES[1]
        if len(came) < len(head) + 2 + size + 7:
            return False
        self.hits += 1
        return self._is_done(b"VALUE %b 0 %d\r\n%b\r\nEND\r\n" % (self._key, size, _VALUE[:size]))

    def _is_done(self, wanted: bytes) -> bool:
        if self._came == wanted:
            self._came.clear()
            return True
        if not wanted.startswith(self._came):
            raise BenchError(f"wrong answer {bytes(self._came[:60])!r}, not {wanted[:60]!r}")
        return False


def zipf_keys(rng: random.Random) -> Iterator[bytes]:
    """An endless choice of keys, the n-th of them as often as 1 / n says."""
    weights = list(accumulate(1 / n for n in range(1, SOAK_KEYS + 1)))
    while True:
        yield KEY % bisect(weights, rng.random() * weights[-1])


@dataclass
class Part:
    """A tenth of a soak: how long requests took, sorted, and the memory at its end."""

    taken_s: list[float]
    rss_bytes: int


def soak(bench: Bench, scenario: str) -> list[Row]:
    """Ten minutes at half load: whether the last minute is like the second one."""
    part_s = (SOAK_S / 20 if bench.quick else SOAK_S) / SOAK_PARTS
    drift = [
        Row(scenario, f"{what}, last part over second", "x", compare="own", bar=1.05)
        for what in ("RSS", "p99")
    ]
    rows = _quantile_rows(scenario, {0.5: None, 0.99: None, 0.999: None})
    rss = Row(scenario, "RSS at the end", "MB")
    hits = Row(scenario, "share of gets that hit", "%")
    rate = Row(scenario, "requests per second", "/s")
    per_s = 0.0

    def measure(contender: Contender) -> tuple[list[Part], float]:
        nonlocal per_s
        rng = random.Random(SEED)
        keys = zipf_keys(rng)
        shoppers: list[Shopper] = []

        def asker(connection: socket.socket) -> Asker:
            shoppers.append(Shopper(connection, keys, rng))
            return shoppers[-1]

        options = ("-I", "1m")
        with (
            contender.start(*options, memory_limit_mb=SOAK_MEMORY_MB) as server,
            placed(server, together=False),
            Pace(server, asker) as pace,
        ):
            if not per_s:
                pace.capacity()
                per_s = pace.capacity() / 2
            while not server.stats()["evictions"]:
                pace.capacity()
            parts = []
            for number in range(SOAK_PARTS):
                parts.append(Part(pace.run(part_s, per_s), server.rss_bytes()))
                bench.progress.step(f"{contender}: {number + 1}/{SOAK_PARTS}")
            found = sum(shopper.hits for shopper in shoppers)
            asked = found + sum(shopper.misses for shopper in shoppers)
            return parts, found / asked

    # The subject comes first, as it says what half load is.
    for (ours, our_hits), (theirs, their_hits) in bench.paired(measure, pairs=1):
        for row, drifted in zip(drift, (_rss_drift, _p99_drift), strict=True):
            row.add(drifted(ours), drifted(theirs))
        own, other = (sorted(s for part in parts for s in part.taken_s) for parts in (ours, theirs))
        for share, row in rows.items():
            row.add(quantile(own, share) * 1e6, quantile(other, share) * 1e6)
        rss.add(ours[-1].rss_bytes / (1 << 20), theirs[-1].rss_bytes / (1 << 20))
        hits.add(our_hits * 100, their_hits * 100)
        rate.add(len(own) / part_s / SOAK_PARTS, len(other) / part_s / SOAK_PARTS)
    return [*drift, *rows.values(), rss, hits, rate]


def _rss_drift(parts: Sequence[Part]) -> float:
    return parts[-1].rss_bytes / parts[1].rss_bytes


def _p99_drift(parts: Sequence[Part]) -> float:
    return quantile(parts[-1].taken_s, 0.99) / quantile(parts[1].taken_s, 0.99)
