"""Rolling restarts, once each: what is right must hold."""

from __future__ import annotations

import random

import pytest

from conformance.front import haproxy
from conformance.trial import check

from . import cluster, restarts
from .cluster import Manifest, Proxy

NEEDS_HAPROXY = pytest.mark.skipif(bool(haproxy.why_not()), reason=haproxy.why_not())


@pytest.mark.slow
@NEEDS_HAPROXY
def test_behind_haproxy_by_tcp_check() -> None:
    check(restarts.tcp_check, 1)


@pytest.mark.slow
@NEEDS_HAPROXY
def test_behind_haproxy_by_readyz() -> None:
    check(restarts.readyz, 1)


@pytest.mark.slow
def test_in_a_cluster() -> None:
    check(restarts.statefulset, 1)


def test_a_proxy_learns_of_changes_in_their_order(monkeypatch: pytest.MonkeyPatch) -> None:
    for seed in range(20):
        times_s = iter([0.0, 0.1, 0.2])
        monkeypatch.setattr(cluster, "now_s", lambda times_s=times_s: next(times_s, 1.0))
        proxy = Proxy(random.Random(seed))
        for ports in ((1,), (1, 2), (2,)):
            proxy.tell(ports)
        at_s = [when_s for when_s, _ in proxy._news]
        assert at_s == sorted(at_s)
        monkeypatch.setattr(cluster, "now_s", lambda: 100.0)
        assert proxy.is_current
        assert proxy._known == (2,)


def test_what_is_documented_of_a_pod() -> None:
    manifest = Manifest.documented()
    assert manifest.replicas == 2
    assert "--drain-delay=5" in manifest.options
    assert (manifest.probe_s, manifest.failures, manifest.grace_s) == (1, 1, 30)
