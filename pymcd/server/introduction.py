"""The line at the start, by which who starts a server sees whether that is what he wanted."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .. import __version__
from ..limits import MEBIBYTE

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from ..config import Settings
    from ..readiness import Readiness
    from .listening import Endpoint


def introduction(settings: Settings, endpoints: Sequence[Endpoint], readiness: Readiness) -> str:
    """Return where it is, its memory, its peers, and what it waits for."""
    words = [", ".join(_addresses_of(endpoints, "tcp", "udp", "local")) or "nowhere"]
    words.append(f"{settings.memory_limit_bytes // MEBIBYTE} MB for items")
    if settings.peers:
        words.append(f"{'peers' if settings.peers[1:] else 'peer'} {', '.join(settings.peers)}")
    if settings.http is not None:
        words.append(f"HTTP at {', '.join(_addresses_of(endpoints, 'http'))}")
    more = "" if readiness.ready else f"; {readiness.reason}"
    return f"pymcd {__version__} at {'; '.join(words)}{more}"


def _addresses_of(endpoints: Iterable[Endpoint], *transports: str) -> list[str]:
    """Return where others find us, each once: every interface is so of both families."""
    found = []
    for endpoint in endpoints:
        if endpoint.transport in transports:
            address = endpoint.address.partition(":")[2]
            for everywhere in ("0.0.0.0:", "[::]:"):
                if address.startswith(everywhere):
                    address = f"*:{address.removeprefix(everywhere)}"
            kinds = ["UDP"] * (endpoint.transport == "udp") + ["TLS"] * (endpoint.tls is not None)
            found.append(f"{address} ({', '.join(kinds)})" if kinds else address)
    return list(dict.fromkeys(found))
