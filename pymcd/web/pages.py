"""What can be asked by HTTP: four pages, the long one made in parts.

`/healthz` says that the event loop turns, by being answered. `/readyz` says whether clients may
come, `/metrics` all that is measured, `/replication` the rows of `stats replication`. No page ever
has a key or a value of an item.
"""

from __future__ import annotations

import json
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from .. import __version__, limits
from ..protocol import reports
from ..readiness import STATES
from .metrics import CONTENT_TYPE, Instance, Report, Rows, escaped, text_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from ..readiness import Readiness
    from ..service import Service

_TEXT: Final = b"text/plain; charset=utf-8"
_JSON: Final = b"application/json"
#: Slab classes looked at in one part.
_CLASSES_OF_A_PART: Final = 8


class Page(NamedTuple):
    """An answer, or how it is made: some parts may be empty, so that others have their turn."""

    status: HTTPStatus
    kind: bytes
    body: bytes | Iterator[bytes]


class Pages:
    """The pages of one server. `measure` returns what it measures beyond all reports."""

    def __init__(
        self,
        service: Service,
        readiness: Callable[[], Readiness],
        measure: Callable[[], Rows] = dict,
    ) -> None:
        self._service = service
        self._readiness = readiness
        self._measure = measure

    def find(self, path: str) -> Page:
        """Return the page at a path."""
        make = PAGES.get(path)
        if make is None:
            there = "".join(f"{each}\n" for each in PAGES)
            return Page(HTTPStatus.NOT_FOUND, _TEXT, f"Not here. There are:\n{there}".encode())
        return make(self)

    def _health(self) -> Page:
        return Page(HTTPStatus.OK, _TEXT, b"ok\n")

    def _ready(self) -> Page:
        ready, state, reason = self._readiness()
        status = HTTPStatus.OK if ready else HTTPStatus.SERVICE_UNAVAILABLE
        return Page(status, _TEXT, f"{state}: {reason}\n".encode())

    def _replication(self) -> Page:
        gate = self._service.gate
        rows: dict[str, Any] = {"state": "off"} if gate is None else dict(gate.rows())
        return Page(HTTPStatus.OK, _JSON, json.dumps(rows, indent=1).encode() + b"\n")

    def _metrics(self) -> Page:
        return Page(HTTPStatus.OK, CONTENT_TYPE, self._metrics_parts())

    def _metrics_parts(self) -> Iterator[bytes]:
        service = self._service
        cache, gate = service.cache, service.gate
        cache.tick()
        found: dict[Report, list[Instance]] = {report: [] for report in Report}
        found[Report.SERVER].append(Instance(self._of_server()))
        found[Report.STATS].append(Instance(dict(reports.general(service))))
        found[Report.POOL].append(Instance({"total_malloced": cache.slabs.malloced_bytes}))
        yield b""  # others have their turn
        found[Report.SETTINGS].append(Instance(dict(reports.settings_in_force(service))))
        if gate is not None:
            of_group, *of_peers = _by_peer(gate.rows())
            found[Report.REPLICATION].append(Instance(of_group))
            for rows in of_peers:
                label = f'peer="{escaped(rows["node_id"])}"'
                found[Report.PEER].append(Instance(rows, label))
        if service.filling is not None:
            found[Report.FILL].append(Instance(dict(service.filling.rows())))
        yield b""
        for slab_class in cache.slabs:
            if not slab_class.pages:
                continue
            label = f'slab="{slab_class.id}"'
            found[Report.ITEMS].append(Instance(dict(reports.items_of(service, slab_class)), label))
            found[Report.SLABS].append(Instance(dict(reports.slabs_of(slab_class)), label))
            if len(found[Report.SLABS]) % _CLASSES_OF_A_PART == 0:
                yield b""
        yield from text_of(found)

    def _of_server(self) -> Rows:
        service = self._service
        ready, state, _ = self._readiness()
        return {
            "up": 1,
            "version": limits.MEMCACHED_VERSION,
            "release": __version__,
            "python": service.host.event_loop.removeprefix("python-"),
            "ready": int(ready),
            **{f"state_{each}": int(each is state) for each in STATES},
            "under_way_bytes": service.under_way.held_bytes,
            **self._measure(),
        }


PAGES: Final[dict[str, Callable[[Pages], Page]]] = {
    "/healthz": Pages._health,
    "/readyz": Pages._ready,
    "/metrics": Pages._metrics,
    "/replication": Pages._replication,
}


def _by_peer(rows: Iterable[tuple[str, Any]]) -> list[Rows]:
    """Return rows of `stats replication` apart: those of the group, then of each peer."""
    found: dict[str, Rows] = {"": {}}
    for name, value in rows:
        prefix, colon, rest = name.partition(":")
        if colon:
            found.setdefault(prefix, {})[rest] = value
        else:
            found[""][name] = value
    return list(found.values())
