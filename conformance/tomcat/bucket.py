"""Two Tomcats that find a pair by its bucket (`memcachedNodes="http://..."`), with nothing between.

The session manager uses couchbase-client here, which streams the map of the bucket from one of the
nodes (docs/couchbase.md). The Tomcats know both nodes from their configuration, so each can start
while one of them is down.
"""

from __future__ import annotations

import contextlib
import functools
import signal
import time
from typing import TYPE_CHECKING

from conformance.couchbase.bucket import BucketPair

from .managers import access, non_sticky, sticky
from .pair import Stage, Watch, as_trial, frozen
from .process import KRYO, Tomcat, started

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from conformance.trial import Run

    Manager = Callable[[str], Mapping[str, object]]

#: The bucket of those who do not log in; the manager has no default for it.
BUCKET = {"username": "default", "memcachedProtocol": "binary", "transcoderFactoryClass": KRYO}
STICKY = functools.partial(sticky, **BUCKET)
NON_STICKY = functools.partial(non_sticky, locking="all", **BUCKET)

#: Else each Tomcat first looks for 5 s at each node for a port of Couchbase's own.
PROPERTIES = {"cbclient.disableCarrierBootstrap": "true"}
#: Streams follow the herald after a second.
CALM_S = 1.5


class _NothingBetween:
    """In the place of a load balancer: who has to know that nodes are back is the clients."""

    def __init__(self, pair: BucketPair) -> None:
        self._pair = pair

    def wait_up(self) -> None:
        self._pair.wait_in_map()
        time.sleep(CALM_S)


@contextlib.contextmanager
def stage(manager: Manager) -> Iterator[tuple[Stage, BucketPair]]:
    with BucketPair(("-m", "256")) as pair:
        pair.wait_in_map()
        attributes = {**manager(" ".join(pair.addresses)), **access(pair.way)}
        routes = ("t1", "t2") if attributes["sticky"] else ("", "")
        tomcats = [Tomcat(attributes, route, properties=PROPERTIES) for route in routes]
        with started(*tomcats):
            # Of HAProxy, a stage needs no more than to wait for it.
            yield Stage(pair, _NothingBetween(pair), tomcats), pair  # type: ignore[arg-type]


def kills(run: Run, manager: Manager, what: str) -> None:
    """kill -9 of the node in use and of the other, their empty return; users at work."""
    with stage(manager) as (on, pair):
        watch = Watch(run, on)
        with watch.crowd:
            watch.work(60)
            for number in range(run.times(2)):
                for role in ("other", "master"):
                    other = pair.herald()
                    victim = 1 - other if role == "master" else other
                    run.say(f"{what} {number}: the {role} dies, node{victim}")
                    pair.nodes[victim].kill()
                    watch.work(200)
                    on.back(victim)
                    watch.work(100)
        watch.tell(what)


def restarts(run: Run, manager: Manager, what: str) -> None:
    """SIGTERM to whichever node is in use, its empty return; users at work."""
    with stage(manager) as (on, pair):
        watch = Watch(run, on)
        with watch.crowd:
            watch.work(60)
            for _ in range(2 * run.times(2)):
                victim = 1 - pair.herald()
                pair.nodes[victim].signal(signal.SIGTERM)
                pair.nodes[victim].wait()
                watch.work(100)
                on.back(victim)
                watch.work(60)
        watch.tell(what)


def freeze(run: Run, manager: Manager, what: str) -> None:
    """Each node stands still for 8 s and goes on, first the one that is not in use."""
    with stage(manager) as (on, pair):
        watch = Watch(run, on)
        with watch.crowd:
            watch.work(60)
            for role in ("other", "master"):
                other = pair.herald()
                with frozen(run, pair, 1 - other if role == "master" else other):
                    watch.work(60)
                on.proxy.wait_up()
                watch.work(60)
        watch.tell(what)


TRIALS: dict[str, Callable[[Run], None]] = {
    "bucket-sticky": as_trial(kills, STICKY, "bucket, sticky"),
    "bucket": as_trial(kills, NON_STICKY, "bucket, non-sticky"),
    "bucket-restarts": as_trial(restarts, NON_STICKY, "bucket, non-sticky"),
    "bucket-freeze-sticky": as_trial(freeze, STICKY, "bucket, sticky"),
    "bucket-freeze": as_trial(freeze, NON_STICKY, "bucket, non-sticky"),
}
