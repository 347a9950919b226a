"""Pairs with --couchbase, and what they tell their clients."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from conformance.pair.nodes import Pair
from conformance.pair.ways import PASSWORD, USER, bucket_at
from conformance.trial import until

HOST = "127.0.0.1"


@dataclass(slots=True)
class BucketPair(Pair):
    """Two nodes, or one, that clients find by their bucket: they come back at the same ports."""

    wired: bool = False
    has_bucket: bool = True

    @property
    def login(self) -> tuple[str, str]:
        """The bucket's name and password."""
        return ("default", "") if self.way.login is None else (USER, PASSWORD)

    @property
    def addresses(self) -> list[str]:
        """As memcachedNodes has them."""
        return [f"http://{HOST}:{port}/pools" for port in self._bucket_ports]

    def bucket(self, index: int) -> dict[str, Any]:
        """Return what a node says of its bucket."""
        return bucket_at(self._bucket_ports[index], self.way, 5.0)

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
        return self._bucket_ports.index(int(port))

    def wait_in_map(self) -> None:
        """Wait until all nodes are in sync, and every map names all of them."""
        if self.count > 1:
            self.wait_in_sync()
        everybody = sorted(range(self.count))
        until(
            "all maps name all nodes",
            lambda: all(sorted(self.servers(index)) == everybody for index in everybody),
        )
