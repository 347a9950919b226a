"""Rolling restarts of a pair while clients read and write: what do they notice?

Behind HAProxy, which finds out by the port of clients or by /readyz whom to lead them to, and in a
cluster. Nothing acknowledged may be lost, no answer wrong, and clients may notice nothing but that
a connection was closed.
"""

from __future__ import annotations

import re
import signal
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

from conformance.front.haproxy import ASKS, PAGE, HAProxy, documented
from conformance.front.watch import CALM_S, Watch, tell
from conformance.pair.nodes import Pair
from conformance.pair.ways import Address
from conformance.trial import free_port, until
from tests.papers.blocks import blocks

from .cluster import Cluster, is_ready

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from conformance.trial import Run

#: Restarts of both nodes, one after the other.
TIMES = 20


def by_readyz(text: str) -> str:
    """Return the configuration changed as the page says, so that /readyz is asked."""
    (told,) = (each.text for each in blocks(PAGE) if "httpchk" in each.text)
    asks = re.compile(r"( +option tcp-check\n)" + ASKS.pattern)
    assert asks.search(text)
    return asks.sub(told, text)


def on_one_host(text: str, http_ports: list[int]) -> str:
    """Return the configuration for nodes that share a host: each is asked at a port of its own."""
    text = re.sub(r"^ +default-server check port \d+\n", "", text, flags=re.MULTILINE)
    for number, port in enumerate(http_ports):
        server = re.compile(rf"^( +server cache-{number + 1} \S+)", re.MULTILINE)
        text = server.sub(rf"\1 port {port}", text)
    return text


@contextmanager
def _behind_haproxy(*, readyz: bool) -> Iterator[tuple[Pair, HAProxy, list[int]]]:
    http_ports = [free_port(), free_port()]
    own: dict[int, Sequence[str]] = {}
    if readyz:
        own = {index: ("--http", f"127.0.0.1:{port}") for index, port in enumerate(http_ports)}
    text = on_one_host(by_readyz(documented()), http_ports) if readyz else documented()
    with Pair(wired=False, settled=True, own=own) as pair:
        pair.wait_in_sync()
        with HAProxy([node.port for node in pair.nodes], text) as proxy:
            yield pair, proxy, http_ports if readyz else []


def _through_haproxy(run: Run, what: str, *, readyz: bool) -> None:
    watches: list[Watch] = []
    codes: list[int] = []
    with _behind_haproxy(readyz=readyz) as (pair, proxy, http_ports):
        for number in run.numbers(TIMES):
            door = Address(proxy.port, way=Pair.usual_way)
            with Watch([door], run.rng(number)) as watch:
                for index in (0, 1):
                    time.sleep(CALM_S)
                    watch.fault()
                    node = pair.nodes[index]
                    node.signal(signal.SIGTERM)
                    codes.append(node.wait())
                    pair.restart(index)
                    # What an operator waits for before the other one goes.
                    pair.wait_in_sync()
                    proxy.wait_up()
                    if readyz:
                        until("readyz", lambda port=http_ports[index]: is_ready(port))  # type: ignore[misc]
            watch.compare(pair.nodes)
            watches.append(watch)
            run.say(f"{number}: {watch.connections_lost} connections lost")
    tell(run, what, watches)
    run.figure(f"{what}: nodes that ended badly", sum(code != 0 for code in codes), 0)


def tcp_check(run: Run) -> None:
    """Both nodes are started anew, one after the other, behind HAProxy by tcp-check."""
    _through_haproxy(run, "tcp-check", readyz=False)


def readyz(run: Run) -> None:
    """The same by GET /readyz."""
    _through_haproxy(run, "readyz", readyz=True)


def statefulset(run: Run) -> None:
    """A StatefulSet's rolling restart: clients of three hosts, which learn late who is ready."""
    watches: list[Watch] = []
    with Cluster(run.rng()) as cluster:
        for number in run.numbers(TIMES):
            with Watch(cluster.proxies, run.rng(number)) as watch:
                time.sleep(CALM_S)
                watch.fault()
                cluster.restart()
                cluster.settle()
                time.sleep(CALM_S)
            watch.compare(cluster.pair.nodes)
            watches.append(watch)
            run.say(f"{number}: {watch.connections_lost} connections lost")
    tell(run, "StatefulSet", watches, grace_s=60.0)
    refused = sum(proxy.refused for proxy in cluster.proxies)
    run.figure("StatefulSet: connections that led to nobody", refused, 0)
    run.figure("StatefulSet: pods that ended badly", len(cluster.ended_badly), 0)
    run.problem(*cluster.ended_badly)
    run.spread("StatefulSet: a pod ends after", cluster.endings_s, "s", 1)
    run.spread("StatefulSet: a pod is ready again after", cluster.returns_s, "s", 1)
