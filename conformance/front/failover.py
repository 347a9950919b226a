"""HAProxy in front of a pair, as documented: what clients notice when nodes die, freeze, return."""

from __future__ import annotations

import signal
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

from conformance.clock import now_s
from conformance.pair import namespaces
from conformance.pair.load import store
from conformance.pair.nodes import Pair
from conformance.pair.ways import Address
from conformance.trial import TrialError

from .haproxy import HAProxy, active_active, checked, documented, led_back
from .hosts import CLIENT_PORT, Hosts
from .watch import CALM_S, FROZEN_S, Watch, tell

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from conformance.trial import Run


ITEMS = 5_000
ITEM_BYTES = 1024
#: Longer than what the page lets connections of a former HAProxy live.
RELOADED_S = 2.0

#: Another configuration to try, which speaks of the documented addresses.
configuration_file: Path | None = None

#: Those in which clients can come by way of HAProxy, which passes on what they say.
WAYS = ("text", "binary", "meta", "login", "sasl", "scram", "tls", "tls-login", "tls-sasl")

NAMES = ("the first node", "the second node")


def _text() -> str:
    text = configuration_file.read_text() if configuration_file else documented()
    return checked(text, Pair.usual_way)


def _door(proxy: HAProxy) -> Address:
    return Address(proxy.port, way=Pair.usual_way)


@contextmanager
def _front(
    changed: Callable[[str], str] = led_back,
) -> Iterator[tuple[Pair, HAProxy]]:
    """Run a pair in sync, and a HAProxy in front of it that knows so."""
    with Pair(wired=False, settled=True) as pair:
        pair.wait_in_sync()
        ports = [node.port for node in pair.nodes]
        with HAProxy(ports, changed(_text())) as proxy:
            yield pair, proxy


def _fill(pair: Pair, count: int) -> dict[bytes, bytes]:
    """Store items that stay as they are; return them."""
    items = {
        b"fixed%d" % number: (b"value %d " % number).ljust(ITEM_BYTES, b".")
        for number in range(count)
    }
    requests = [b"set %b 0 0 %d\r\n%b\r\n" % (key, ITEM_BYTES, items[key]) for key in items]
    store(pair.nodes[0], requests)
    return items


def _calm(pair: Pair, proxy: HAProxy) -> None:
    """Wait until everything is well again, and clients have had time to notice."""
    pair.wait_in_sync()
    proxy.wait_up()
    time.sleep(CALM_S)


def _returns(run: Run, pair: Pair, proxy: HAProxy, index: int) -> tuple[int, float]:
    """Let a killed node come back; count looks that found it serving clients too early."""
    started_s = now_s()
    node = pair.restart(index)
    early = 0
    while True:
        # In this order: who is in sync now may not have been so a moment ago, but stays so.
        connections = proxy.backends()[index].connections
        if node.rows().get("state") == "in_sync":
            break
        early += connections > 0
        if now_s() - started_s > 30.0:
            raise TrialError(f"it does not come back\n{pair.report()}")
    taken_s = now_s() - started_s
    _calm(pair, proxy)
    run.say(f"back after {taken_s:.2f} s")
    return early, taken_s


def _kills(run: Run, what: str, *, both: bool, times: int) -> None:
    early = 0
    returns: list[float] = []
    watches: dict[int, list[Watch]] = {0: [], 1: []}
    with _front(active_active if both else led_back) as (pair, proxy):
        fixed = _fill(pair, run.count(ITEMS))
        for number in range(2 * times):
            victim = number % 2
            with Watch([_door(proxy)], run.rng(number), fixed=fixed) as watch:
                time.sleep(CALM_S)
                watch.fault()
                pair.nodes[victim].kill()
                time.sleep(2 * CALM_S)
                looks, taken_s = _returns(run, pair, proxy, victim)
            watch.compare(pair.nodes)
            watches[victim].append(watch)
            early += looks
            returns.append(taken_s)
    for victim, noticed in watches.items():
        tell(run, f"{what}, {NAMES[victim]} killed", noticed)
    run.figure(f"{what}: looks that found clients at a node before it was in sync", early, 0)
    run.spread(f"{what}: the killed node, from its start to in sync", returns, "s", 1)


def _freezes(run: Run, what: str, *, both: bool, times: int) -> None:
    watches: dict[int, list[Watch]] = {0: [], 1: []}
    with _front(active_active if both else led_back) as (pair, proxy):
        for number in range(2 * times):
            victim = number % 2
            with Watch([_door(proxy)], run.rng(number)) as watch:
                time.sleep(CALM_S)
                watch.fault()
                pair.nodes[victim].signal(signal.SIGSTOP)
                time.sleep(max(1.5, FROZEN_S * run.scale))
                pair.nodes[victim].signal(signal.SIGCONT)
                _calm(pair, proxy)
            watch.compare(pair.nodes)
            watches[victim].append(watch)
    for victim, noticed in watches.items():
        tell(run, f"{what}, {NAMES[victim]} frozen", noticed)


def kill(run: Run) -> None:
    """kill -9 of the node that HAProxy uses, and of the other; both return empty."""
    _kills(run, "one node used", both=False, times=run.times(3))


def freeze(run: Run) -> None:
    """SIGSTOP for 8 s of the node that HAProxy uses, and of the other."""
    _freezes(run, "one node used", both=False, times=run.times(2))


def both(run: Run) -> None:
    """HAProxy uses both nodes at a time: kill -9 and SIGSTOP of either."""
    _kills(run, "both nodes used", both=True, times=run.times(3))
    _freezes(run, "both nodes used", both=True, times=run.times(1))


def stay(run: Run) -> None:
    """Clients stay at the node that they went to: kill -9 and SIGSTOP of the one in use."""
    killed: list[Watch] = []
    froze: list[Watch] = []
    elsewhere = 0
    with _front(str) as (pair, proxy):
        for number in range(2 * run.times(2)):
            # As the nodes take turns: who comes back is not in use.
            victim = number % 2
            with Watch([_door(proxy)], run.rng(number)) as watch:
                time.sleep(CALM_S)
                elsewhere += proxy.backends()[1 - victim].connections
                watch.fault()
                if number % 4 < 2:
                    pair.nodes[victim].kill()
                    time.sleep(2 * CALM_S)
                    pair.restart(victim)
                else:
                    pair.nodes[victim].signal(signal.SIGSTOP)
                    time.sleep(max(1.5, FROZEN_S * run.scale))
                    pair.nodes[victim].signal(signal.SIGCONT)
                _calm(pair, proxy)
            watch.compare(pair.nodes)
            (killed if number % 4 < 2 else froze).append(watch)
    tell(run, "the node in use killed", killed)
    if froze:
        tell(run, "the node in use frozen", froze)
    run.figure("clients at the other node meanwhile", elsewhere, 0)


def proxy(run: Run) -> None:
    """HAProxy itself is killed and started again, or reloaded; then a node dies or freezes."""
    watches: dict[str, list[Watch]] = {
        "HAProxy killed and started": [],
        "HAProxy reloaded": [],
        "the first node killed after a reload": [],
        "the first node frozen after a reload": [],
    }
    for number in range(run.times(2)):
        with _front() as (pair, front):
            for what, noticed in watches.items():
                with Watch([_door(front)], run.rng(number)) as watch:
                    time.sleep(CALM_S)
                    watch.fault()
                    _disturb(run, what, pair, front, watch)
                    _calm(pair, front)
                watch.compare(pair.nodes)
                noticed.append(watch)
    for what, noticed in watches.items():
        tell(run, what, noticed)


def _disturb(run: Run, what: str, pair: Pair, front: HAProxy, watch: Watch) -> None:
    if what == "HAProxy killed and started":
        front.stop()
        front.start()
        return
    front.reload()
    # The former process keeps its connections for as long as it is let.
    time.sleep(RELOADED_S)
    if what == "HAProxy reloaded":
        return
    watch.fault()
    if "killed" in what:
        pair.nodes[0].kill()
        time.sleep(2 * CALM_S)
        pair.restart(0)
    else:
        pair.nodes[0].signal(signal.SIGSTOP)
        time.sleep(max(3.0, FROZEN_S * run.scale))
        pair.nodes[0].signal(signal.SIGCONT)


def vanish(run: Run) -> None:
    """HAProxy before two hosts of their own: the one that it uses vanishes without a word."""
    if reason := namespaces.why_not():
        run.problem(f"skipped: {reason}")
        return
    watches: dict[int, list[Watch]] = {0: [], 1: []}
    with Hosts(Pair.experiment) as site:
        addresses = [f"{node.host}:{CLIENT_PORT}" for node in site.nodes]
        with HAProxy(addresses, _text()) as front:
            for number in range(2 * run.times(2)):
                victim = number % 2
                with Watch([_door(front)], run.rng(number)) as watch:
                    time.sleep(CALM_S)
                    watch.fault()
                    site.vanish(victim)
                    time.sleep(4 * CALM_S)
                    site.come_back(victim)
                    site.wait_in_sync()
                    front.wait_up()
                    time.sleep(CALM_S)
                watch.compare(site.nodes)
                watches[victim].append(watch)
    for victim, noticed in watches.items():
        tell(run, f"the host of {NAMES[victim]} vanished", noticed)
