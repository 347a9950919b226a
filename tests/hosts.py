"""What a test lends to a `Service`, or to a `Node`, in the place of a host."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from pymcd.replication.node import Host as NodeHost
from pymcd.service import Host, Reception

if TYPE_CHECKING:
    from pymcd.service import Service


def make_host(**changes: Any) -> Host:
    """Return a host on which nothing ever happens; a delay is over at once."""
    host = Host(
        event_loop="none",
        pid=1,
        cpu_s=lambda: (0.0, 0.0),
        log_line=lambda line: None,
        shutdown=lambda graceful: None,
        call_later=lambda delay_s, call: call(),
        do_aside=lambda work, done: done(work()),
        wake_maintainer=lambda: None,
        authenticator=None,
        tls=None,
        reception=Reception(),
    )
    return replace(host, **changes)


def lend(service: Service, **changes: Any) -> None:
    """Change what the host of a service is."""
    service.host = replace(service.host, **changes)


def make_node_host(**changes: Any) -> NodeHost:
    """Return a host on which a node makes no difference."""
    host = NodeHost(
        wake=lambda: None,
        ready=lambda: None,
        drop_stale=lambda: None,
        view_changed=lambda: None,
        log=lambda line: None,
        suspended_s=lambda: 0.0,
    )
    return replace(host, **changes)
