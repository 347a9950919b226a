"""The documents of a bucket, and what couchbase-client demands of them."""

from __future__ import annotations

import json

import pytest

from pymcd.couchbase import documents
from pymcd.couchbase.documents import Site, View

A = Site("a", 11211, 8091)
B = Site("b", 11221, 8092)
C, D, E = Site("c", 1, 2), Site("d", 1, 2), Site("e", 1, 2)


def view(*present: Site, herald: Site | None = None, sites: tuple[Site, ...] = (A, B)) -> View:
    return View(present[0], present[1:], herald or present[-1], sites)


MAPS = [
    ("in sync", view(A, B), ["a:11211", "b:11221"], [[0, 1]], 1),
    ("the other one leads", view(B, A), ["b:11221", "a:11211"], [[0, 1]], 1),
    ("alone", view(A), ["a:11211"], [[0, -1]], 1),
    ("one node", view(A, sites=(A,)), ["a:11211"], [[0]], 0),
    ("three, one down", view(A, B, sites=(A, B, C)), ["a:11211", "b:11221"], [[0, 1, -1]], 2),
    (
        "more than a map has room for",
        view(A, B, C, D, E, sites=(A, B, C, D, E)),
        ["a:11211", "b:11221", "c:1", "d:1"],
        [[0, 1, 2, 3]],
        3,
    ),
]


@pytest.mark.parametrize(("what", "present", "servers", "chains", "replicas"), MAPS)
def test_the_map_names_who_is_in_sync(what, present, servers, chains, replicas):
    got = documents.bucket("default", present)["vBucketServerMap"]
    assert got == {
        "hashAlgorithm": "CRC",
        "numReplicas": replicas,
        "serverList": servers,
        "vBucketMap": chains,
    }


def test_places_to_ask_are_all_nodes():
    # The client forgets those that the last map did not name.
    nodes = documents.bucket("default", view(B))["nodes"]
    assert [(each["hostname"], each["status"]) for each in nodes] == [
        ("a:8091", "unhealthy"),
        ("b:8092", "healthy"),
    ]
    assert nodes[1]["ports"] == {"direct": 11221, "proxy": 11221}


def test_the_stream_is_that_of_the_herald():
    got = documents.bucket("my sessions", view(A, B))
    assert got["streamingUri"] == "http://b:8092/pools/default/bucketsStreaming/my%20sessions"
    assert got["uri"] == "/pools/default/buckets/my%20sessions"


def test_from_the_first_document_to_the_bucket():
    (pool,) = documents.pools()["pools"]
    assert (pool["name"], pool["uri"]) == ("default", documents.POOL_PATH)
    assert documents.pool(view(A))["buckets"]["uri"] == documents.BUCKETS_PATH


def test_no_revision():
    # Clients since 1.4.1 pass over a map with a revision that is not larger than the last one's,
    # whichever node it came from.
    assert "rev" not in documents.bucket("default", view(A, B))


def test_documents_are_json():
    document = documents.bucket("default", view(A, B))
    assert json.loads(documents.encode(document)) == document
