"""Kubernetes' part in a rolling restart, simulated: pods come and go, and hosts learn of it late.

Real are the nodes, their clients, and what a probe asks. Simulated is who acts on it: the kubelet
that probes and ends pods, the controller of the StatefulSet that takes one pod after the other, and
the hosts of clients, whose proxies learn which pods are ready. What is documented (`pymcd.yaml`)
says how many pods there are, how often they are probed, and what they are started with.

Each proxy is told of all changes in their order, each after a while of its own; until then it leads
clients where there may be nobody any more. A pod that comes again has another address.
"""

from __future__ import annotations

import signal
import time
import urllib.error
import urllib.request
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self

from conformance.clock import now_s
from conformance.pair.nodes import Pair
from conformance.pair.ways import begin, dial
from conformance.servers import ROOT
from conformance.trial import TrialError, free_port

if TYPE_CHECKING:
    import random
    from collections.abc import Callable, Sequence

    from conformance.pair.ways import Talk

MANIFESTS = ROOT / "docs" / "deploy" / "kubernetes" / "pymcd.yaml"
#: Between what the API server knows and what a host's proxy does, at most.
PROPAGATION_S = 2.0
#: Between the deletion of a pod and its SIGTERM, and its end and its next start, at most.
KUBELET_S = 0.5
LOOK_S = 0.02
PATIENCE_S = 60.0
#: Options that say where a pod listens, or what its host has for it.
_ELSEWHERE = ("--memory-limit", "--http", "--replication-secret-file")


@dataclass(frozen=True, slots=True)
class Manifest:
    """What is documented of a pod."""

    replicas: int
    options: tuple[str, ...]
    probe_s: float
    failures: int
    grace_s: float

    @classmethod
    def documented(cls) -> Manifest:
        import yaml

        documents: list[Any] = list(yaml.safe_load_all(MANIFESTS.read_text()))
        (found,) = (each["spec"] for each in documents if each["kind"] == "StatefulSet")
        pod = found["template"]["spec"]
        (container,) = pod["containers"]
        probe = container["readinessProbe"]
        return cls(
            found["replicas"],
            tuple(each for each in container["args"] if not each.startswith(_ELSEWHERE)),
            probe["periodSeconds"],
            probe["failureThreshold"],
            pod["terminationGracePeriodSeconds"],
        )


class Proxy:
    """The service as one host of clients knows it: where its clients connect."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self._known: tuple[int, ...] = ()
        self._news: deque[tuple[float, tuple[int, ...]]] = deque()
        #: Connections that led to nobody.
        self.refused = 0

    def tell(self, ports: tuple[int, ...]) -> None:
        """Let it learn, after a while, which pods are ready now. From another thread, too."""
        at_s = now_s() + self._rng.uniform(0.0, PROPAGATION_S)
        if self._news:
            at_s = max(at_s, self._news[-1][0])
        self._news.append((at_s, ports))

    def know(self, ports: tuple[int, ...]) -> None:
        self._known = ports

    @property
    def is_current(self) -> bool:
        self._learn()
        return not self._news

    def _learn(self) -> None:
        while self._news and self._news[0][0] <= now_s():
            self._known = self._news.popleft()[1]

    def visit(self, timeout_s: float) -> Talk:
        self._learn()
        try:
            if not self._known:
                raise ConnectionRefusedError
            stream = dial("127.0.0.1", self._rng.choice(self._known), timeout_s)
        except OSError:
            self.refused += 1
            raise
        return begin(stream, Pair.usual_way)


@dataclass(slots=True)
class Pod:
    """A node, as its kubelet and the service see it."""

    http_port: int
    ready: bool = False
    ending: bool = False
    failures: int = 0
    probed_s: float = 0.0


@dataclass(slots=True)
class Cluster:
    """A StatefulSet with its service. A context manager."""

    rng: random.Random
    hosts: int = 3
    manifest: Manifest = field(default_factory=Manifest.documented)
    proxies: list[Proxy] = field(default_factory=list)
    #: Pods that did not end by themselves, or not as they should.
    ended_badly: list[str] = field(default_factory=list)
    endings_s: list[float] = field(default_factory=list)
    returns_s: list[float] = field(default_factory=list)
    _pods: list[Pod] = field(default_factory=list)
    _told: tuple[int, ...] = ()
    pair: Pair = field(init=False)

    def __post_init__(self) -> None:
        self._pods = [Pod(free_port()) for _ in range(self.manifest.replicas)]
        own: dict[int, Sequence[str]] = {
            index: ("--http", f"127.0.0.1:{pod.http_port}") for index, pod in enumerate(self._pods)
        }
        self.pair = Pair(options=self.manifest.options, own=own, count=self.manifest.replicas)
        self.proxies = [Proxy(self.rng) for _ in range(self.hosts)]

    def __enter__(self) -> Self:
        self.pair.__enter__()
        try:
            self._wait("all pods are ready", lambda: all(pod.ready for pod in self._pods))
            for proxy in self.proxies:
                proxy.know(self._told)
        except BaseException:
            self.pair.stop()
            raise
        return self

    def __exit__(self, *exc: object) -> None:
        self.pair.stop()

    # -- the controller --------------------------------------------------------------------------

    def restart(self) -> None:
        """Start all pods anew: `kubectl rollout restart`. The last one goes first."""
        for index in reversed(range(len(self._pods))):
            self._end(index)
            self._rest(self.rng.uniform(0.0, KUBELET_S))
            self._begin(index)

    def _end(self, index: int) -> None:
        pod, node = self._pods[index], self.pair.nodes[index]
        pod.ending = True  # from here on it is no endpoint, whatever its probe says
        self._tell()
        self._rest(self.rng.uniform(0.0, KUBELET_S))
        began_s = now_s()
        node.signal(signal.SIGTERM)
        while node.running:
            if now_s() - began_s > self.manifest.grace_s:
                self.ended_badly.append(f"pod {index}: killed after {self.manifest.grace_s:g} s")
                node.kill()
            self._rest(LOOK_S)
        self.endings_s.append(now_s() - began_s)
        if code := node.wait():
            self.ended_badly.append(f"pod {index}: exit code {code}\n{node.log()[-500:]}")

    def _begin(self, index: int) -> None:
        pod = self._pods[index]
        began_s = now_s()
        self.pair.restart(index)
        pod.ready, pod.ending, pod.failures = False, False, 0
        self._wait(f"pod {index} is ready", lambda: pod.ready)
        self.returns_s.append(now_s() - began_s)

    def settle(self) -> None:
        """Wait until all hosts know how it is."""
        self._wait("all hosts know", lambda: all(proxy.is_current for proxy in self.proxies))

    # -- kubelets --------------------------------------------------------------------------------

    def _rest(self, seconds: float) -> None:
        """Let time pass, in which pods are probed."""
        ends_s = now_s() + seconds
        while True:
            self._probe()
            left_s = ends_s - now_s()
            if left_s <= 0:
                return
            time.sleep(min(left_s, LOOK_S))

    def _wait(self, what: str, reached: Callable[[], bool]) -> None:
        began_s = now_s()
        while not reached():
            if now_s() - began_s > PATIENCE_S:
                raise TrialError(f"waited {PATIENCE_S:g} s in vain: {what}\n{self.pair.report()}")
            self._rest(LOOK_S)

    def _probe(self) -> None:
        for pod, node in zip(self._pods, self.pair.nodes, strict=True):
            if pod.ending or not node.running or now_s() - pod.probed_s < self.manifest.probe_s:
                continue
            pod.probed_s = now_s()
            if is_ready(pod.http_port):
                pod.ready, pod.failures = True, 0
            else:
                pod.failures += 1
                pod.ready = pod.ready and pod.failures < self.manifest.failures
        self._tell()

    def _tell(self) -> None:
        ports = tuple(
            node.port
            for pod, node in zip(self._pods, self.pair.nodes, strict=True)
            if pod.ready and not pod.ending
        )
        if ports != self._told:
            self._told = ports
            for proxy in self.proxies:
                proxy.tell(ports)


def is_ready(http_port: int) -> bool:
    """Return whether a pod's readiness probe succeeds."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{http_port}/readyz", timeout=1) as answer:
            return bool(answer.status == 200)
    except (OSError, urllib.error.HTTPError):
        return False
