"""What a fill brings from a memcached, and how long clients wait meanwhile.

A server that fills itself and one that does not are measured in turn, each with the same clients
and a probe. All are processes of their own. Where that is allowed they have realtime priority: so
others on the machine take little from the ratio, and source and target have a processor each, as if
they were on two machines.
"""

from __future__ import annotations

import contextlib
import os
import random
import re
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from conformance.hostile.measure import Probing, reading
from conformance.hostile.scene import Scene
from conformance.servers import PYMCD, Server, find_memcached
from conformance.trial import TrialError, quantile, until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from conformance.hostile.measure import Seen
    from conformance.trial import Run

ITEMS = 500_000
MEMORY = ("-m", "1024")
ROUNDS = 5
MEASURED_S = 4.0
#: Beside the probe's 1,000.
REQUESTS_PER_S = 700
BATCH = 1_000
#: By how much longer a client may wait, and by how much an item may end earlier or later.
P99_MAX = 2.0
ENDS_MAX_S = 1.0
PATIENCE_S = 1_000.0
PRIORITY = 1
LOAD = Path(__file__).with_name("load.py")


class Item(NamedTuple):
    """What a server tells of an item."""

    value: bytes
    client_flags: int
    unix_end: float  #: 0: never


def _prefer(pid: int) -> None:
    """Have a process run before all others, where that is allowed."""
    with contextlib.suppress(OSError):
        for task in Path(f"/proc/{pid}/task").iterdir():
            os.sched_setscheduler(int(task.name), os.SCHED_FIFO, os.sched_param(PRIORITY))


def _key(number: int) -> bytes:
    return b"key%06d" % number


def _put_items(server: Server, items: int) -> None:
    """Store items of several sizes, flags and ends."""
    choose = random.Random(5)
    with server.connect() as stream:
        for begin in range(0, items, BATCH):
            pieces = []
            for number in range(begin, min(begin + BATCH, items)):
                value = b"v%d%b" % (number, b"x" * choose.randrange(200))
                flags = choose.choice((0, 1, 2**32 - 1))
                ttl = choose.choice((0, 3600, 86400, 2592000))
                head = (_key(number), len(value), ttl, flags, value)
                pieces.append(b"ms %b %d q T%d F%d\r\n%b\r\n" % head)
            stream.sendall(b"".join([*pieces, b"mn\r\n"]))
            if stream.recv(100) != b"MN\r\n":
                raise TrialError("the source does not store")


def _items_of(server: Server, items: int) -> dict[bytes, Item]:
    """Return what of them a server has."""
    found = {}
    with server.connect() as stream, stream.makefile("rb") as lines:
        for begin in range(0, items, BATCH):
            keys = [_key(number) for number in range(begin, min(begin + BATCH, items))]
            asked = b"".join([b"mg %b t f v k q\r\n" % key for key in keys])
            stream.sendall(asked + b"mn\r\n")
            while (line := lines.readline()) != b"MN\r\n":
                words = line.split()
                flags = {word[:1]: word[1:] for word in words[2:]}
                value = lines.read(int(words[1]) + 2)[:-2]
                ttl = int(flags[b"t"])
                end = 0.0 if ttl < 0 else time.time() + ttl
                found[flags[b"k"]] = Item(value, int(flags[b"f"]), end)
    return found


@contextlib.contextmanager
def _asked(server: Server) -> Iterator[None]:
    """Have clients ask a server."""
    command = [sys.executable, "-I", str(LOAD), str(server.port), str(REQUESTS_PER_S)]
    with subprocess.Popen(command) as load:
        _prefer(load.pid)
        try:
            yield
        finally:
            load.kill()


def _probed(server: Server, seconds: float) -> Seen:
    with Probing(reading(Scene(server, server.port))) as probing:
        time.sleep(seconds)
    assert probing.seen is not None
    return probing.seen


def _is_said(server: Server, words: str) -> bool:
    return f": {words}" in server.log()


def _items(server: Server) -> int:
    """Return how many items a server has."""
    with server.connect() as stream:
        stream.sendall(b"stats\r\n")
        answer = b""
        while not answer.endswith(b"END\r\n"):
            answer += stream.recv(1 << 16)
    found = re.search(rb"curr_items (\d+)", answer)
    assert found is not None
    return int(found[1])


def _tell(run: Run, pairs: list[tuple[Seen, Seen]], what: str) -> None:
    """Give the waits of the probe, without and with what a fill does."""
    for share in (0.5, 0.99):
        for number, where in enumerate(("without a fill", what)):
            waits_s = [pair[number].quantile_s(share) for pair in pairs]
            run.figure(f"p{share * 100:g} {where}", quantile(waits_s, 0.5) * 1e3, unit="ms")
    times = [filling.quantile_s(0.99) / alone.quantile_s(0.99) for alone, filling in pairs]
    run.figure(f"p99 {what}, times that", quantile(times, 0.5), P99_MAX, timed=True)
    run.say(f"p99 {what}, in each round: " + ", ".join(f"{each:.2f}" for each in times))


def fill(run: Run) -> None:
    """500,000 items of a memcached: what comes over, and how long clients wait meanwhile."""
    reference = find_memcached()
    if reference is None:
        raise TrialError("there is no memcached (python -m conformance.memcached)")
    items, seconds = run.count(ITEMS), MEASURED_S * run.scale
    listing: list[tuple[Seen, Seen]] = []
    filling: list[tuple[Seen, Seen]] = []
    rates = []
    with Server(reference, MEMORY) as source:
        _put_items(source, items)
        _prefer(source.pid)
        for _ in range(run.times(ROUNDS)):
            with Server(PYMCD, MEMORY) as server, _asked(server):
                _prefer(server.pid)
                alone = _probed(server, seconds)
            with Server(PYMCD, (*MEMORY, "--fill-from", source.address)) as server, _asked(server):
                _prefer(server.pid)
                listing.append((alone, _probed(server, seconds)))
                until("the fill begins", partial(_is_said, server, "begins"), PATIENCE_S)
                before = _items(server)
                filling.append((alone, _probed(server, seconds)))
                rates.append((_items(server) - before) / seconds)
        _tell(run, listing, "while keys are listed")
        _tell(run, filling, "while filling")
        run.figure("items a second", quantile(rates, 0.5))
        _fill_whole(run, source, items)


def _fill_whole(run: Run, source: Server, items: int) -> None:
    """Let a fill come to its end, and compare all."""
    with Server(PYMCD, (*MEMORY, "--fill-from", source.address)) as server:
        took_s = until("the fill ends", partial(_is_said, server, "done"), PATIENCE_S)
        expected, found = _items_of(source, items), _items_of(server, items)
        both = [(expected[key], found[key]) for key in expected.keys() & found.keys()]
        run.figure("items that are missing, or too many", len(expected.keys() ^ found.keys()), 0)
        wrong = sum(
            there[:2] != here[:2] or bool(there[2]) != bool(here[2]) for there, here in both
        )
        run.figure("values, flags that are wrong", wrong, 0)
        off_s = max(abs(there.unix_end - here.unix_end) for there, here in both)
        # A second that ticks between the two questions is neither's fault.
        run.figure("ends that are off, at most", off_s, ENDS_MAX_S + 1, "s")
        run.figure("a fill without clients takes", took_s, unit="s")
