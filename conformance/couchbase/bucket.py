"""Pairs with --couchbase, and what they tell their clients."""

from __future__ import annotations

import json
import urllib.request
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from conformance.pair.nodes import Node, Pair
from conformance.trial import free_port, until

if TYPE_CHECKING:
    from typing import Self

HOST = "127.0.0.1"


@dataclass(slots=True)
class BucketPair(Pair):
    """Two nodes, or one, that clients find by their bucket: they come back at the same ports."""

    wired: bool = False
    settled: bool = True
    _http_ports: list[int] = field(default_factory=list)

    def _set_up(self) -> Self:
        self._http_ports = [free_port() for _ in range(self.count)]
        # Explicit: slots make a new class, which the bare super() does not know.
        return Pair._set_up(self)

    def _make(self, index: int) -> Node:
        node = Pair._make(self, index)
        switches = ["--couchbase", f"{HOST}:{self._http_ports[index]}"]
        if self.count == 1:
            switches += ["--replication-listen", HOST]  # a group of one, as a node knows it
        for other in range(self.count):
            if other != index:
                ports = f"{self._client_ports[other]}:{self._http_ports[other]}"
                switches += ["--couchbase-peer", f"{HOST}:{ports}"]
        node.switches = [*node.switches, *switches]
        return node

    @property
    def addresses(self) -> list[str]:
        """As memcachedNodes has them."""
        return [f"http://{HOST}:{port}/pools" for port in self._http_ports]

    def bucket(self, index: int) -> dict[str, Any]:
        """Return what a node says of its bucket."""
        url = f"http://{HOST}:{self._http_ports[index]}/pools/default/buckets"
        with urllib.request.urlopen(url, timeout=5) as answer:
            found: dict[str, Any] = json.load(answer)[0]
        return found

    def servers(self, index: int) -> list[int]:
        """Return the nodes in the map of a node, the master first; none if it does not answer."""
        try:
            bucket = self.bucket(index)
        except OSError:
            return []
        servers = bucket["vBucketServerMap"]["serverList"]
        return [self._client_ports.index(int(each.rpartition(":")[2])) for each in servers]

    def herald(self, index: int = 0) -> int:
        """Return whom a node names as the one to hear of changes from: not the master."""
        port = self.bucket(index)["streamingUri"].split("/")[2].rpartition(":")[2]
        return self._http_ports.index(int(port))

    def wait_in_map(self) -> None:
        """Wait until all nodes are in sync, and every map names all of them."""
        if self.count > 1:
            self.wait_in_sync()
        everybody = sorted(range(self.count))
        until(
            "all maps name all nodes",
            lambda: all(sorted(self.servers(index)) == everybody for index in everybody),
        )
