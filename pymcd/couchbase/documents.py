"""The JSON documents of a bucket: where its servers are, and which of them a client is to use.

There are two kinds of buckets, by Couchbase's own names, and clients treat them differently.

*couchbase*: a map tells for each part of the keys ("vbucket") which server is the master, and which
are replicas. Every node of a group has all items, so there is a single vbucket, and its master is
the coordinator: nothing is forwarded, and all clients use the same node, even while the nodes do
not see each other. What they send to a master that has died waits for the next map.

*memcached*: clients spread keys over all servers by ketama. Where a connection is lost they use
another server at once; with one that hangs they stay until they hear of it.

Who hangs or has vanished cannot tell its clients so. So another node than the master is named as
the one to hear of changes from (`View.herald`), by an absolute `streamingUri`.

A client keeps as places to ask those `nodes` that the last document named. A map lists its servers
apart from them, so there it is all nodes, also those which are down.

Rules that the client has: `name`, `streamingUri` and for each node `hostname` and `ports` with
`direct` and `proxy` must be there; the number of vbuckets is a power of two, that of replicas at
most 3; a replica that is missing is -1. A `rev`, where there is one, must grow: there is none, as
the nodes do not count together.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final, NamedTuple
from urllib.parse import quote

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

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
    return {"name": "default", "nodes": _nodes(view, view.sites), "buckets": {"uri": BUCKETS_PATH}}


def couchbase_bucket(name: str, view: View) -> Any:
    """Return a bucket with a map."""
    servers = [view.master, *view.replicas[:REPLICAS_MAX]]
    # A bucket has as many replicas as it should have, whether they are there or not.
    replicas = min(len(view.sites) - 1, REPLICAS_MAX)
    chain = [*range(len(servers)), *[-1] * (replicas + 1 - len(servers))]
    return _bucket(name, view, view.sites) | {
        "bucketType": "membase",
        "nodeLocator": "vbucket",
        "replicaNumber": replicas,
        "vBucketServerMap": {
            "hashAlgorithm": "CRC",
            "numReplicas": replicas,
            "serverList": [site.server for site in servers],
            "vBucketMap": [chain],
        },
    }


def memcached_bucket(name: str, view: View) -> Any:
    """Return a bucket whose servers share the keys."""
    # The same order on every node.
    present = [site for site in view.sites if site in (view.master, *view.replicas)]
    return _bucket(name, view, present) | {"bucketType": "memcached", "nodeLocator": "ketama"}


#: What makes the document of a bucket, by its kind.
BUCKETS: Final[dict[str, Callable[[str, View], Any]]] = {
    "couchbase": couchbase_bucket,
    "memcached": memcached_bucket,
}


def _bucket(name: str, view: View, nodes: Iterable[Site]) -> dict[str, Any]:
    where = quote(name, safe="")
    return {
        "name": name,
        "authType": "sasl",
        "uri": f"{BUCKETS_PATH}/{where}",
        "streamingUri": f"http://{view.herald.http}{STREAMING_PATH}/{where}",
        "nodes": _nodes(view, nodes),
    }


def _nodes(view: View, sites: Iterable[Site]) -> Any:
    present = {view.master, *view.replicas}
    return [
        {
            "hostname": site.http,
            "status": "healthy" if site in present else "unhealthy",
            "ports": {"direct": site.port, "proxy": site.port},
        }
        for site in sites
    ]


def encode(document: Any) -> bytes:
    """Return a document as it is sent."""
    return json.dumps(document, separators=(",", ":")).encode()
