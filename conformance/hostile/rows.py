"""The table of attacks: each a function of a scene, and how the server is set up for it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from conformance.pair.ways import TEXT, Way

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from .scene import Scene

    Act = Callable[[Scene], None]

#: Of every server, unless a row says something else.
MEMORY_MB = 64


@dataclass(frozen=True, slots=True)
class Row:
    """One attack.

    Args:
        act: the attack itself; `prepare` what the server holds before.
        switches: of either server; `own` of ours alone.
        environment: variables of the server.
        memory_mb: what `-m` says.
        resident: whether ours accounts for what it really takes.
        stores: whether what it stores stays, so that nothing can be said of what was left.
        tls: whether there is a port for TLS; the other one is plain all the same.
        bucket: whether ours has a port for clients of Couchbase; memcached has none.
        http: whether ours has a port to be asked by HTTP how it does.
        log_unread: whether what the server logs goes to a pipe that nobody reads.
        only_pair: whether one server alone has nothing to show.
    """

    act: Act
    prepare: Act | None = None
    switches: Sequence[str] = ()
    own: Sequence[str] = ()
    environment: Callable[[], dict[str, str]] = dict
    memory_mb: int = MEMORY_MB
    resident: bool = False
    stores: bool = False
    way: Way = field(default=TEXT)
    tls: bool = False
    bucket: bool = False
    http: bool = False
    log_unread: bool = False
    on_memcached: bool = True
    only_pair: bool = False

    @property
    def name(self) -> str:
        return self.act.__name__.replace("_", "-")


ROWS: dict[str, Row] = {}


def row(**words: object) -> Callable[[Act], Act]:
    """Have a function be an attack of the table, named after it."""

    def enter(act: Act) -> Act:
        new = Row(act, **words)  # type: ignore[arg-type]
        assert new.name not in ROWS, new.name
        ROWS[new.name] = new
        return act

    return enter
