"""pylibmc: libmemcached's own protocol code, text and binary, blocking and not."""

from __future__ import annotations

from functools import partial
from typing import Any

import pylibmc

from ..checks import (
    ADDRESS,
    FAR_S,
    PASSWORD,
    SETUP,
    SIZES,
    TOO_LARGE_BYTES,
    USER,
    WRONG_PASSWORD,
    Checks,
    names,
    narrow,
    payload,
)


def basics(t: Checks, client: Any, *, binary: bool) -> None:
    client.flush_all()
    t.call("get none", lambda: client.get("a"), None)
    t.call("set", lambda: client.set("a", 1), True)
    t.call("get", lambda: client.get("a"), 1)
    t.call("add there", lambda: client.add("a", 2), False)
    t.call("add", lambda: client.add("b", 2), True)
    t.call("replace", lambda: client.replace("a", 3), True)
    # libmemcached tells this in two ways, by protocol.
    t.saw("replace none", lambda: client.replace("none", 3))
    t.call("text", lambda: client.set("text", "abc"), True)
    t.call("append", lambda: client.append("text", "def"), True)
    t.call("prepend", lambda: client.prepend("text", "xyz"), True)
    t.call("append none", lambda: client.append("none", "x"), False)
    t.call("joined", lambda: client.get("text"), "xyzabcdef")
    t.call("incr", lambda: client.incr("a", 5), 8)
    t.call("decr", lambda: client.decr("a", 2), 6)
    t.call("decr below zero", lambda: client.decr("a", 20), 0)
    t.fails("incr none", lambda: client.incr("none"), pylibmc.NotFound)
    t.fails("decr none", lambda: client.decr("none"), pylibmc.NotFound)
    if not binary:  # There libmemcached is out of step from then on.
        t.saw("incr text", lambda: client.incr("text"))
        t.call("usable after a fault", lambda: client.get("text"), "xyzabcdef")
    if not binary:  # There libmemcached waits 5 s before it looks for the answer.
        t.call("touch", lambda: client.touch("b", FAR_S), True)
        t.call("touch none", lambda: client.touch("none", FAR_S), False)
    t.call("born expired", lambda: client.set("gone", 1, time=2_592_001), True)
    t.call("expired", lambda: client.get("gone"), None)
    t.call("delete", lambda: client.delete("a"), True)
    t.call("delete none", lambda: client.delete("a"), False)
    t.call("set_multi", lambda: client.set_multi({f"m{i}": i for i in range(500)}), [])
    many = {f"m{i}": i for i in range(500)}
    t.call("get_multi", lambda: client.get_multi([f"m{i}" for i in range(510)]), many)
    t.call("get_multi, prefixed", lambda: client.get_multi(["1", "2"], "m"), {"1": 1, "2": 2})
    t.call("add_multi", lambda: client.add_multi({"m1": 5, "n1": 6}), ["m1"])
    t.call("incr_multi", lambda: client.incr_multi(["m1", "m2"], delta=10), None)
    t.call("after incr_multi", lambda: client.get_multi(["m1", "m2"]), {"m1": 11, "m2": 12})
    t.call("delete_multi", lambda: client.delete_multi(["m1", "m2"]), True)
    t.call("after delete_multi", lambda: client.get_multi(["m1", "m2", "m3"]), {"m3": 3})
    for size in SIZES:
        value = payload(size)
        t.call(f"set {size} bytes", partial(client.set, "v", value), True)
        t.call(f"get {size} bytes", lambda: client.get("v"), value)
    large = payload(TOO_LARGE_BYTES)
    client.set("large", "old")
    t.saw("too large", lambda: client.set("large", large))
    t.call("old value gone", lambda: client.get("large"), None)
    t.call("usable after too large", lambda: client.get("m3"), 3)
    t.call("compressed", lambda: client.set("z", b"x" * TOO_LARGE_BYTES, min_compress_len=1), True)
    t.call("decompressed", lambda: len(client.get("z")), TOO_LARGE_BYTES)
    thing = {"a": [1, (2, "ü")], "b": None}
    t.call("pickled", lambda: client.set("o", thing), True)
    t.call("unpickled", lambda: client.get("o"), thing)
    t.call("contains", lambda: "o" in client, True)
    t.call("contains none", lambda: "none" in client, False)
    key = "k" * 250
    t.call("longest key", lambda: (client.set(key, 1), client.get(key)), (True, 1))
    t.saw("empty key", lambda: client.get(""))
    if binary:
        t.call("key with blanks", lambda: (client.set("a b", 1), client.get("a b")), (True, 1))


def cas(t: Checks, client: Any) -> None:
    t.call("set", lambda: client.set("c", "1"), True)
    value, unique = client.gets("c")
    t.equal("gets", value, "1")
    t.call("gets none", lambda: client.gets("none"), (None, None))
    t.call("cas", lambda: client.cas("c", "2", unique), True)
    t.call("cas too late", lambda: client.cas("c", "3", unique), False)
    t.fails("cas none", lambda: client.cas("none", "3", unique), pylibmc.NotFound)
    t.call("cas result", lambda: client.get("c"), "2")


def statistics(t: Checks, client: Any) -> None:
    t.call("stats", lambda: len(client.get_stats()), 1)
    t.saw("keys", lambda: names(client.get_stats()[0][1]))
    t.saw("settings", lambda: names(client.get_stats("settings")[0][1]))
    t.saw("items", lambda: names(client.get_stats("items")[0][1]))


def main() -> None:
    options: dict[str, Any] = {}
    if SETUP == "sasl":
        options = {"binary": True, "username": USER, "password": PASSWORD}
        t = Checks("login")
        wrong = pylibmc.Client([ADDRESS], binary=True, username=USER, password=WRONG_PASSWORD)
        t.fails("wrong password", lambda: wrong.set("a", 1), pylibmc.Error)
        nobody = pylibmc.Client([ADDRESS], binary=True)
        t.fails("no login", lambda: nobody.set("a", 1), pylibmc.Error)
    for binary in (False, True) if SETUP == "narrow" else ():
        for no_block in (False, True):
            name = ("binary" if binary else "text") + ("-no-block" if no_block else "")
            behaviors = {"no_block": no_block}
            client = pylibmc.Client([ADDRESS], binary=binary, behaviors=behaviors)
            narrow(Checks(name), client.set, client.get)
    for binary in () if SETUP == "narrow" else (False, True):
        if SETUP == "sasl" and not binary:
            continue
        options["binary"] = binary
        name = "binary" if binary else "text"
        for more, behaviors in (
            ("", {"cas": True}),
            ("-no-block", {"cas": True, "no_block": True, "tcp_nodelay": True}),
            ("-ketama", {"cas": True, "ketama": True} | ({} if binary else {"verify_keys": True})),
        ):
            client = pylibmc.Client([ADDRESS], **options, behaviors=behaviors)
            basics(Checks(name + more), client, binary=binary)
            cas(Checks(f"{name}{more}-cas"), client)
            client.disconnect_all()
        client = pylibmc.Client([ADDRESS], **options)
        statistics(Checks(name + "-stats"), client)
        pool = pylibmc.ThreadMappedPool(client)
        with pool.reserve() as borrowed:
            Checks(name).call("pool", partial(borrowed.set, "p", 1), True)
        pool.relinquish()


main()
