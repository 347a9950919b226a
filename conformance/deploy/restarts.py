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

from conformance.front.haproxy import HAProxy, documented
from conformance.front.watch import CALM_S, Watch, tell
from conformance.pair.nodes import Pair
from conformance.pair.ways import Address
from conformance.servers import ROOT
from conformance.trial import free_port, until

from .cluster import Cluster, is_ready

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from conformance.trial import Run

COMPOSED = ROOT / "docs" / "deploy" / "container" / "haproxy.cfg"
HTTP_PORT = "11222"
#: Restarts of both nodes, one after the other.
TIMES = 20


def by_readyz(text: str, http_ports: list[int]) -> str:
    """Return the configuration of composed containers, for nodes of one host with these ports."""
    text = re.sub(r"^resolvers .*?\n\n", "", text, flags=re.DOTALL | re.MULTILINE)
    text = re.sub(r".*resolvers docker.*\n", "", text)
    text = text.replace("bind :11211", "bind 10.0.0.4:11211")
    for number, port in enumerate(http_ports):
        was = f"server cache-{number + 1} cache-{number + 1}:11211"
        assert was in text
        now = f"server cache-{number + 1} 10.0.0.{number + 5}:11211 port {port}"
        text = text.replace(was, now)
    assert f" port {HTTP_PORT} " in text
    return text.replace(f" port {HTTP_PORT} ", " ")


@contextmanager
def _behind_haproxy(*, readyz: bool) -> Iterator[tuple[Pair, HAProxy, list[int]]]:
    http_ports = [free_port(), free_port()]
    own: dict[int, Sequence[str]] = {}
    if readyz:
        own = {index: ("--http", f"127.0.0.1:{port}") for index, port in enumerate(http_ports)}
    text = by_readyz(COMPOSED.read_text(), http_ports) if readyz else documented()
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
    """The same by GET /readyz, with the configuration of composed containers."""
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
