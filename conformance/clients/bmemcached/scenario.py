"""python-binary-memcached: the binary protocol from Python, with SASL and TLS."""

from __future__ import annotations

import ssl
import warnings
from functools import partial
from typing import Any

import bmemcached
from bmemcached.exceptions import MemcachedException

from ..checks import (
    ADDRESS,
    CA_FILE,
    FAR_S,
    PASSWORD,
    SETUP,
    SIZES,
    TOO_LARGE_BYTES,
    USER,
    WRONG_PASSWORD,
    Checks,
    names,
    payload,
)


def basics(t: Checks, client: Any) -> None:
    t.call("flush", client.flush_all, True)
    t.call("get none", lambda: client.get("a"), None)
    t.call("get default", lambda: client.get("a", "d"), "d")
    t.call("set", lambda: client.set("a", "1"), True)
    t.call("get", lambda: client.get("a"), "1")
    t.call("add there", lambda: client.add("a", "2"), False)
    t.call("add", lambda: client.add("b", "2"), True)
    t.call("replace", lambda: client.replace("a", "3"), True)
    t.call("replace none", lambda: client.replace("none", "3"), False)
    t.call("incr makes", lambda: client.incr("n", 5, default=10), 10)
    t.call("incr", lambda: client.incr("n", 5), 15)
    t.call("decr", lambda: client.decr("n", 4), 11)
    t.call("decr below zero", lambda: client.decr("n", 40), 0)
    t.call("decr makes", lambda: client.decr("n2", 4, default=7), 7)
    t.call("incr far", lambda: client.incr("n", 2**63), 2**63)
    t.fails("incr text", lambda: (client.set("t", "abc"), client.incr("t", 1)), MemcachedException)
    t.call("usable after a fault", lambda: client.get("a"), "3")
    t.call("set with time", lambda: client.set("b", "2", time=FAR_S), True)
    t.call("born expired", lambda: client.set("gone", "x", time=2_592_001), True)
    t.call("expired", lambda: client.get("gone"), None)
    t.call("expiry is unsigned", lambda: client.set("late", "x", time=2**32 - 1), True)
    t.call("not expired", lambda: client.get("late"), "x")
    t.call("delete", lambda: client.delete("a"), True)
    t.call("delete none", lambda: client.delete("a"), True)
    t.call("set_multi", lambda: client.set_multi({f"m{i}": i for i in range(500)}), [])
    many = {f"m{i}": i for i in range(500)}
    t.call("get_multi", lambda: client.get_multi([f"m{i}" for i in range(510)]), many)
    t.call("delete_multi", lambda: client.delete_multi(["m1", "m2"]), True)
    t.call("deleted many", lambda: client.get_multi(["m1", "m2", "m3"]), {"m3": 3})
    for size in SIZES:
        value = payload(size)
        t.call(f"set {size} bytes", partial(client.set, "v", value, compress_level=0), True)
        t.call(f"get {size} bytes", lambda: client.get("v"), value)
    thing = {"a": [1, (2, "ü")], "b": None, "c": 2**70}
    t.call("pickled", lambda: client.set("o", thing, compress_level=9), True)
    t.call("unpickled", lambda: client.get("o"), thing)
    t.call("compressed", lambda: client.set("z", "x" * TOO_LARGE_BYTES, compress_level=9), True)
    t.call("decompressed", lambda: len(client.get("z")), TOO_LARGE_BYTES)
    key = "k" * 250
    t.call("longest key", lambda: (client.set(key, 1), client.get(key)), (True, 1))


def too_large(t: Checks, client: Any) -> None:
    client.set("large", "old")
    large = payload(TOO_LARGE_BYTES)
    t.saw("set", lambda: client.set("large", large, compress_level=0))
    t.call("old value gone", lambda: client.get("large"), None)
    t.saw("long key", lambda: client.set("k" * 251, 1))


def cas(t: Checks, client: Any) -> None:
    t.call("set", lambda: client.set("c", "1"), True)
    value, unique = client.gets("c")
    t.equal("gets", value, "1")
    t.call("gets none", lambda: client.gets("none"), (None, None))
    t.call("cas", lambda: client.cas("c", "2", unique), True)
    t.call("cas too late", lambda: client.cas("c", "3", unique), False)
    t.call("cas none", lambda: client.cas("none", "3", unique), False)
    t.call("cas result", lambda: client.get("c"), "2")
    done, fresh = client.set("c", "4", get_cas=True)
    t.equal("set tells its cas", (done, fresh == client.gets("c")[1]), (True, True))
    t.call("delete with an old cas", lambda: client.delete("c", cas=unique), False)
    t.call("delete with its cas", lambda: client.delete("c", cas=fresh), True)
    t.call("set_multi_cas", lambda: len(client.set_multi_cas({"x": "1", "y": "2"})), 2)
    t.call(
        "get_multi with cas", lambda: sorted(client.get_multi(["x", "y"], get_cas=True)), list("xy")
    )


def main() -> None:
    warnings.simplefilter("ignore")
    options: dict[str, Any] = {"socket_timeout": 20}
    if SETUP == "tls":
        options["tls_context"] = ssl.create_default_context(cafile=CA_FILE)
        options["tls_context"].check_hostname = False
    if SETUP == "sasl":
        options |= {"username": USER, "password": PASSWORD}
        t = Checks("login")
        wrong = bmemcached.Client([ADDRESS], USER, WRONG_PASSWORD)
        t.fails("wrong password", lambda: wrong.set("a", 1), Exception)
        stranger = bmemcached.Client([ADDRESS], "nobody", PASSWORD)
        t.fails("unknown user", lambda: stranger.set("a", 1), Exception)
        nobody = bmemcached.Client([ADDRESS])
        t.saw("no login", lambda: nobody.set("a", 1))
        t.saw("no login, get", lambda: nobody.get("a"))
    for name, kind in (
        ("replicating", bmemcached.ReplicatingClient),
        ("distributed", bmemcached.DistributedClient),
    ):
        client = kind([ADDRESS], **options)
        basics(Checks(name), client)
        cas(Checks(name + "-cas"), client)
        too_large(Checks(name + "-large"), client)
        client.disconnect_all()
    t = Checks("stats")
    client = bmemcached.Client([ADDRESS], **options)
    t.saw("keys", lambda: names(client.stats()[ADDRESS]))
    for report in ("settings", "items", "slabs", "sizes"):
        rows = client.stats(report)[ADDRESS]
        t.saw(report, partial(names, rows))
    raw = bmemcached.Client([ADDRESS], raw_data=True, **options)
    Checks("raw").call(
        "value", lambda: (raw.set("r", b"\x00\r\n"), raw.get("r")), (True, b"\x00\r\n")
    )


main()
