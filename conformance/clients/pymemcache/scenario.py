"""pymemcache: its four kinds of client, over plain TCP and TLS."""

from __future__ import annotations

import ssl
from functools import partial
from typing import Any

from pymemcache import serde
from pymemcache.client.base import Client, PooledClient
from pymemcache.client.hash import HashClient
from pymemcache.client.retrying import RetryingClient
from pymemcache.exceptions import (
    MemcacheClientError,
    MemcacheIllegalInputError,
    MemcacheServerError,
)

from ..checks import (
    CA_FILE,
    FAR_S,
    HOST,
    PORT,
    SETUP,
    SIZES,
    TOO_LARGE_BYTES,
    Checks,
    names,
    narrow,
    payload,
)

SERVER = (HOST, PORT)


def basics(t: Checks, client: Any) -> None:
    """Every operation that all kinds of client have."""
    client.flush_all(noreply=False)
    t.call("get none", lambda: client.get("a"), None)
    t.call("get default", lambda: client.get("a", "d"), "d")
    t.call("set", lambda: client.set("a", "1", noreply=False), True)
    t.call("get", lambda: client.get("a"), b"1")
    t.call("add there", lambda: client.add("a", "2", noreply=False), False)
    t.call("add", lambda: client.add("b", "2", noreply=False), True)
    t.call("replace", lambda: client.replace("a", "3", noreply=False), True)
    t.call("replace none", lambda: client.replace("none", "3", noreply=False), False)
    t.call("append", lambda: client.append("a", "4", noreply=False), True)
    t.call("prepend", lambda: client.prepend("a", "5", noreply=False), True)
    t.call("append none", lambda: client.append("none", "4", noreply=False), False)
    t.call("prepend none", lambda: client.prepend("none", "4", noreply=False), False)
    t.call("joined", lambda: client.get("a"), b"534")
    t.call("incr", lambda: client.incr("a", 7, noreply=False), 541)
    t.call("decr", lambda: client.decr("a", 500, noreply=False), 41)
    t.call("decr keeps the width", lambda: client.get("a"), b"41 ")
    t.call("decr below zero", lambda: client.decr("a", 500, noreply=False), 0)
    t.call("incr none", lambda: client.incr("none", 1, noreply=False), None)
    t.call("decr none", lambda: client.decr("none", 1, noreply=False), None)
    t.call("set the largest", lambda: client.set("n", str(2**64 - 1), noreply=False), True)
    t.call("incr wraps", lambda: client.incr("n", 3, noreply=False), 2)
    t.call("touch", lambda: client.touch("b", FAR_S, noreply=False), True)
    t.call("touch none", lambda: client.touch("none", FAR_S, noreply=False), False)
    t.call("touch to the past", lambda: client.touch("b", -1, noreply=False), True)
    t.call("touched away", lambda: client.get("b"), None)
    t.call("born expired", lambda: client.set("gone", "x", expire=-1, noreply=False), True)
    t.call("expired", lambda: client.get("gone"), None)
    t.call("expired by date", lambda: client.set("gone", "x", 2_592_001, noreply=False), True)
    t.call("long expired", lambda: client.get("gone"), None)
    t.call("delete", lambda: client.delete("a", noreply=False), True)
    t.call("delete none", lambda: client.delete("a", noreply=False), False)
    t.call("set_many", lambda: client.set_many({f"m{i}": str(i) for i in range(500)}), [])
    many = {f"m{i}": str(i).encode() for i in range(500)}
    t.call("get_many", lambda: client.get_many([f"m{i}" for i in range(510)]), many)
    t.call("get_many of nothing", lambda: client.get_many([]), {})
    t.call("delete_many", lambda: client.delete_many(["m1", "m2", "none"], noreply=False), True)
    t.call("deleted many", lambda: client.get_many(["m1", "m2", "m3"]), {"m3": b"3"})
    cas(t, client)
    for size in SIZES:
        value = payload(size)
        t.call(f"set {size} bytes", partial(client.set, "v", value, noreply=False), True)
        t.call(f"get {size} bytes", lambda: client.get("v"), value)
    key = "k" * 250
    t.call("longest key", lambda: client.set(key, "x", noreply=False), True)
    t.call("get of longest key", lambda: client.get(key), b"x")


def cas(t: Checks, client: Any) -> None:
    t.call("set for cas", lambda: client.set("c", "1", noreply=False), True)
    value, unique = client.gets("c")
    t.equal("gets", value, b"1")
    t.call("gets none", lambda: client.gets("none")[0], None)
    t.call("gets_many", lambda: client.gets_many(["c", "none"]), {"c": (b"1", unique)})
    t.call("cas", lambda: client.cas("c", "2", unique, noreply=False), True)
    t.call("cas too late", lambda: client.cas("c", "3", unique, noreply=False), False)
    t.call("cas none", lambda: client.cas("none", "3", unique, noreply=False), None)
    t.call("cas result", lambda: client.get("c"), b"2")


def faults(t: Checks, client: Client) -> None:
    """What the server refuses, and that the connection goes on being of use."""
    client.set("text", "abc", noreply=False)
    t.fails("incr text", lambda: client.incr("text", 1, noreply=False), MemcacheClientError)
    t.call("usable", lambda: client.get("text"), b"abc")
    large = payload(TOO_LARGE_BYTES)
    client.set("large", "old", noreply=False)
    t.fails("too large", lambda: client.set("large", large, noreply=False), MemcacheServerError)
    t.call("old value gone", lambda: client.get("large"), None)
    t.fails("long key", lambda: client.get("k" * 251), MemcacheIllegalInputError)
    t.fails("verbosity", lambda: client.raw_command("verbosity x"), MemcacheClientError)
    t.fails("bad touch", lambda: client.raw_command("touch a b"), MemcacheClientError)
    t.saw("unknown", lambda: client.raw_command("nonsense"))
    t.saw("empty", lambda: client.raw_command(""))
    t.call("usable still", lambda: client.get("text"), b"abc")


def administration(t: Checks, client: Client) -> None:
    t.saw("version", client.version)
    for report in ((), ("settings",), ("items",), ("slabs",), ("sizes",)):
        rows = client.stats(*report)
        t.saw(f"stats {' '.join(report)}", partial(names, rows))
    t.saw("stats conns", lambda: len(client.stats("conns")) > 3)
    t.call("cache_memlimit", lambda: client.cache_memlimit(128), True)
    t.call("limit", lambda: client.stats("settings")[b"maxbytes"], 128 << 20)
    t.call("meta no-op", lambda: client.raw_command("mn"), b"MN")
    t.call("meta set", lambda: client.raw_command("ms meta 2\r\nhi"), b"HD")
    t.call("meta get", lambda: client.raw_command("mg meta s v", "hi\r\n"), b"VA 2 s2\r\n")
    t.call("delayed flush", lambda: client.flush_all(delay=1000, noreply=False), True)
    t.call("not flushed yet", lambda: client.get("meta"), b"hi")
    t.call("flush after", lambda: client.flush_all(noreply=False), True)


def quiet(t: Checks, client: Client) -> None:
    """Nothing is answered; what follows on the same connection is in step."""
    for i in range(200):
        client.set(f"q{i}", str(i), noreply=True)
    client.add("q0", "x", noreply=True)
    client.incr("q1", 5, noreply=True)
    client.delete("q2", noreply=True)
    client.append("q3", "x", noreply=True)
    client.touch("q4", -1, noreply=True)
    client.replace("q5", "r", noreply=True)
    got = client.get_many(["q0", "q1", "q2", "q3", "q4", "q5", "q199"])
    expected = {"q0": b"0", "q1": b"6", "q3": b"3x", "q5": b"r", "q199": b"199"}
    t.equal("results", got, expected)


def main() -> None:
    options: dict[str, Any] = {"timeout": 20, "connect_timeout": 20}
    if SETUP == "tls":
        options["tls_context"] = ssl.create_default_context(cafile=CA_FILE)
    if SETUP == "narrow":
        for name, unanswered in (("answered", False), ("noreply", True)):
            client = Client(SERVER, default_noreply=unanswered, **options)
            narrow(Checks(name), client.set, client.get)
        return
    client = Client(SERVER, no_delay=True, **options)
    basics(Checks("client"), client)
    faults(Checks("faults"), client)
    quiet(Checks("noreply"), client)
    administration(Checks("administration"), client)
    client.quit()
    basics(Checks("pooled"), PooledClient(SERVER, max_pool_size=3, **options))
    basics(Checks("hash"), HashClient([SERVER], use_pooling=True, **options))
    basics(Checks("retrying"), RetryingClient(Client(SERVER, **options), attempts=2))
    t = Checks("serde")
    packed = Client(SERVER, serde=serde.compressed_serde, default_noreply=False, **options)
    thing = {"a": [1, 2.5, None], "text": "ü" * 2000, "bytes": b"\x00\r\n"}
    t.call("set", lambda: packed.set("thing", thing), True)
    t.call("get", lambda: packed.get("thing"), thing)
    t.call("int", lambda: (packed.set("i", 5), packed.get("i")), (True, 5))
    prefixed = Client(SERVER, key_prefix=b"p:", default_noreply=False, **options)
    t.call("prefixed", lambda: (prefixed.set("i", "6"), prefixed.get("i")), (True, b"6"))
    t.call("unprefixed", lambda: packed.get("i"), 5)
    wide = Client(SERVER, allow_unicode_keys=True, default_noreply=False, **options)
    t.call("wide key", lambda: (wide.set("schlüssel", "7"), wide.get("schlüssel")), (True, b"7"))


main()
