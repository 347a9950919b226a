"""How long until the other node shows what one node was told."""

from __future__ import annotations

from typing import TYPE_CHECKING

from conformance.clock import now_s
from conformance.trial import quantile

from .load import Load, Request
from .locks import Blocking
from .nodes import Pair

if TYPE_CHECKING:
    from conformance.trial import Run

    from .load import Client


def lag(run: Run) -> None:
    """From sending a set to one node until the other shows it, idle and under load."""
    for mode in ("semi", "async"):
        with Pair(("--replication-ack", mode), wired=False) as pair:
            pair.wait_in_sync()
            for source, sink in ((0, 1), (1, 0)):
                lags = _lags(pair, source, sink, run.times(300))
                run.figure(
                    f"{mode}, idle, node{source} to node{sink}: lag p99",
                    quantile(lags, 0.99) * 1e3,
                    5,
                    "ms",
                    timed=True,
                )
            _lag_under_load(run, pair, mode)


def _lags(pair: Pair, source: int, sink: int, times: int) -> list[float]:
    writer, reader = Blocking(pair.nodes[source]), Blocking(pair.nodes[sink])
    lags = []
    for number in range(times):
        value = b"%d" % number
        started_s = now_s()
        writer.send(b"set lag 0 0 %d\r\n%b\r\n" % (len(value), value))
        while True:
            reader.send(b"mg lag v\r\n")
            if reader.line().startswith(b"VA") and reader.line() == value + b"\r\n":
                break
        lags.append(now_s() - started_s)
        writer.line()
    writer.close()
    reader.close()
    return lags


def _lag_under_load(run: Run, pair: Pair, mode: str) -> None:
    lags: list[float] = []
    state = {"value": 0, "sent_s": 0.0, "seen": True}

    def probe_writer() -> Client:
        while True:
            state["value"] += 1
            state["sent_s"] = now_s()
            state["seen"] = False
            text = b"%d" % int(state["value"])
            yield Request(b"set probe 0 0 %d\r\n%b\r\n" % (len(text), text))
            while not state["seen"]:
                yield Request(b"version\r\n")

    def probe_reader() -> Client:
        while True:
            answer = yield Request(b"get probe\r\n", b"END\r\n")
            if answer is None or state["seen"]:
                continue
            lines = answer.split(b"\r\n")
            if lines[0].startswith(b"VALUE") and lines[1] == b"%d" % int(state["value"]):
                lags.append(now_s() - float(state["sent_s"]))
                state["seen"] = True

    def busy(name: bytes) -> Client:
        value = b"x" * 1024
        while True:
            for number in range(1000):
                yield Request(b"set %b:%d 0 0 1024\r\n%b\r\n" % (name, number, value))

    load = Load(pair.nodes)
    load.add(probe_writer(), 0)
    load.add(probe_reader(), 1)
    for client in range(16):
        load.add(busy(b"busy%d" % client), client % 2)
    load.run(run.count(5))
    if lags:
        p99_s = quantile(lags, 0.99)
        run.figure(
            f"{mode}, under load: lag p99", p99_s * 1e3, 100, "ms", of=f"{len(lags)}", timed=True
        )
