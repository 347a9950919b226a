"""The JSON documents of a bucket: where its servers are, and which of them a client is to use.

The bucket is of the kind with a map from parts of the keys ("vbuckets") to servers. Every node of
a group has all items, so there is a single vbucket, and its master is the coordinator: what
clients send there is forwarded nowhere, and all of them use the same node, even while the nodes
do not see each other. A bucket of the kind "memcached" would have clients spread keys over all
servers, and stay with a server that hangs until they hear of it; here they leave it.

Who hangs or has vanished cannot tell its clients so. So the map names another node than the master
as the one to hear of changes from (`View.herald`), by an absolute `streamingUri`.

The client keeps as places to ask (`nodes`) those that the last map named: all nodes are, also those
which are down. What it talks to (`serverList`) is in sync.

Rules that the client has: `name`, `streamingUri` and for each node `hostname` and `ports` with
`direct` and `proxy` must be there; the number of vbuckets is a power of two, that of replicas at
most 3; a replica that is missing is -1. A `rev`, where there is one, must grow: there is none, as
the nodes do not count together.
"""

from __future__ import annotations

import json
from typing import Any, Final, NamedTuple
from urllib.parse import quote

POOLS_PATH: Final = "/pools"
POOL_PATH: Final = "/pools/default"
BUCKETS_PATH: Final = "/pools/default/buckets"
STREAMING_PATH: Final = "/pools/default/bucketsStreaming"

#: More the client refuses.
REPLICAS_MAX: Final = 3
#: Those who log in name their bucket by that; all others use this one.
DEFAULT_BUCKET: Final = "default"


class Site(NamedTuple):
    """A node, as clients reach it."""

    host: str
    port: int  #: of memcached's binary protocol
    http_port: int

    @property
    def server(self) -> str:
        return f"{self.host}:{self.port}"

    @property
    def http(self) -> str:
        return f"{self.host}:{self.http_port}"


class View(NamedTuple):
    """What clients are to know at the moment."""

    master: Site
    #: The others that have everything.
    replicas: tuple[Site, ...]
    #: Of whom to hear of changes.
    herald: Site
    #: All nodes, whether they are there or not.
    sites: tuple[Site, ...]


def pools() -> Any:
    """Return what is at POOLS_PATH."""
    return {
        "pools": [{"name": "default", "uri": POOL_PATH, "streamingUri": "/poolsStreaming/default"}],
        "isAdminCreds": False,
    }


def pool(view: View) -> Any:
    """Return what is at POOL_PATH."""
    return {"name": "default", "nodes": _nodes(view), "buckets": {"uri": BUCKETS_PATH}}


def bucket(name: str, view: View) -> Any:
    """Return a bucket with its map."""
    servers = [view.master, *view.replicas[:REPLICAS_MAX]]
    # A bucket has as many replicas as it should have, whether they are there or not.
    replicas = min(len(view.sites) - 1, REPLICAS_MAX)
    chain = [*range(len(servers)), *[-1] * (replicas + 1 - len(servers))]
    where = quote(name, safe="")
    return {
        "name": name,
        "bucketType": "membase",
        "authType": "sasl",
        "nodeLocator": "vbucket",
        "uri": f"{BUCKETS_PATH}/{where}",
        "streamingUri": f"http://{view.herald.http}{STREAMING_PATH}/{where}",
        "nodes": _nodes(view),
        "replicaNumber": replicas,
        "vBucketServerMap": {
            "hashAlgorithm": "CRC",
            "numReplicas": replicas,
            "serverList": [site.server for site in servers],
            "vBucketMap": [chain],
        },
    }


def _nodes(view: View) -> Any:
    present = {view.master, *view.replicas}
    return [
        {
            "hostname": site.http,
            "status": "healthy" if site in present else "unhealthy",
            "ports": {"direct": site.port, "proxy": site.port},
        }
        for site in view.sites
    ]


def encode(document: Any) -> bytes:
    """Return a document as it is sent."""
    return json.dumps(document, separators=(",", ":")).encode()
