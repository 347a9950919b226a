"""emcache: text protocol from asyncio, with batches, text authentication and TLS."""

from __future__ import annotations

import asyncio
import logging
from functools import partial
from typing import Any

import emcache

from ..checks import (
    CA_FILE,
    FAR_S,
    HOST,
    PASSWORD,
    PORT,
    SETUP,
    SIZES,
    TOO_LARGE_BYTES,
    USER,
    WRONG_PASSWORD,
    Checks,
    names,
    payload,
)

NODE = emcache.MemcachedHostAddress(HOST, PORT)


async def value_of(item: Any) -> Any:
    found = await item
    return None if found is None else found.value


async def basics(t: Checks, client: Any) -> None:
    not_stored = emcache.NotStoredStorageCommandError
    not_found = emcache.NotFoundCommandError
    await client.flush_all(NODE)
    await t.acall("get none", client.get(b"a"), None)
    await t.acall("set", client.set(b"a", b"1", flags=7), None)
    item = await client.get(b"a", return_flags=True)
    t.equal("get", (item.value, item.flags), (b"1", 7))
    await t.afails("add there", client.add(b"a", b"2"), not_stored)
    await t.acall("add", client.add(b"b", b"2"), None)
    await t.acall("replace", client.replace(b"a", b"3"), None)
    await t.afails("replace none", client.replace(b"none", b"3"), not_stored)
    await t.acall("append", client.append(b"a", b"4"), None)
    await t.acall("prepend", client.prepend(b"a", b"5"), None)
    await t.afails("append none", client.append(b"none", b"4"), not_stored)
    await t.acall("joined", value_of(client.get(b"a")), b"534")
    await t.acall("increment", client.increment(b"a", 7), 541)
    await t.acall("decrement", client.decrement(b"a", 40), 501)
    await t.acall("decrement below zero", client.decrement(b"a", 4000), 0)
    await t.afails("increment none", client.increment(b"none", 1), not_found)
    await t.acall("touch", client.touch(b"b", FAR_S), None)
    await t.afails("touch none", client.touch(b"none", FAR_S), not_found)
    await t.acall("gat", value_of(client.gat(FAR_S, b"b")), b"2")
    await t.acall("gat none", client.gat(FAR_S, b"none"), None)
    item = await client.gats(FAR_S, b"b")
    t.equal("gats", item.cas == (await client.gets(b"b")).cas, True)
    await t.acall("gat to the past", value_of(client.gat(-1, b"b")), b"2")
    await t.acall("gone by gat", client.get(b"b"), None)
    await t.acall("born expired", client.set(b"gone", b"x", exptime=-1), None)
    await t.acall("expired", client.get(b"gone"), None)
    item = await client.gets(b"a")
    await t.acall("cas", client.cas(b"a", b"c", item.cas), None)
    await t.afails("cas too late", client.cas(b"a", b"d", item.cas), not_stored)
    await t.afails("cas none", client.cas(b"none", b"d", item.cas), emcache.StorageCommandError)
    await t.acall("delete", client.delete(b"a"), None)
    await t.afails("delete none", client.delete(b"a"), not_found)
    for size in SIZES:
        value = payload(size)
        await t.acall(f"set {size} bytes", client.set(b"v", value), None)
        await t.acall(f"get {size} bytes", value_of(client.get(b"v")), value)
    await t.acall("longest key", client.set(b"k" * 250, b"1"), None)


async def bulk(t: Checks, client: Any) -> None:
    keys = [b"m%d" % i for i in range(300)]
    await asyncio.gather(*(client.set(key, key) for key in keys))
    found = await client.get_many([*keys, b"none"])
    t.equal("get_many", {key: item.value for key, item in found.items()}, {k: k for k in keys})
    found = await client.gets_many(keys[:5])
    t.equal("gets_many", len({item.cas for item in found.values()}), 5)
    found = await client.gat_many(FAR_S, keys[:5])
    t.equal("gat_many", sorted(found), sorted(keys[:5]))
    found = await client.gats_many(FAR_S, keys[:5])
    t.equal("gats_many", len({item.cas for item in found.values()}), 5)
    each = await asyncio.gather(*(client.get(key) for key in keys))
    t.equal("gets at once", [item.value for item in each], keys)
    for key in keys[:50]:
        await client.set(key, b"quiet", noreply=True)
        await client.append(key, b"!", noreply=True)
    # One connection: answers that came although none was asked for would be out of step.
    t.equal("noreply", (await client.get(keys[49])).value, b"quiet!")


def options_of(setup: str) -> dict[str, Any]:
    options: dict[str, Any] = {"timeout": 20.0, "max_connections": 1}
    if setup == "tls":
        options |= {"ssl": True, "ssl_verify": True, "ssl_extra_ca": CA_FILE}
    if setup == "auth":
        options |= {"username": USER, "password": PASSWORD}
    return options


async def main() -> None:
    options = options_of(SETUP)
    if SETUP == "auth":
        await logins()
    for name, more in (("single", {}), ("batching", {"autobatching": True})):
        client = await emcache.create_client([NODE], **(options | more))
        await basics(Checks(name), client)
        await bulk(Checks(name + "-bulk"), client)
        await client.close()
    t = Checks("administration")
    client = await emcache.create_client([NODE], **options)
    version = await client.version(NODE)
    t.saw("version", lambda: version)
    for report in ((), ("settings",), ("items",), ("slabs",)):
        rows = await client.stats(NODE, *report)
        t.saw(f"stats {' '.join(report)}", partial(names, rows))
    await t.acall("verbosity", client.verbosity(NODE, 0), None)
    await t.acall("cache_memlimit", client.cache_memlimit(NODE, 128), None)
    await client.set(b"large", b"old")
    await t.afails("too large", client.set(b"large", payload(TOO_LARGE_BYTES)), Exception)
    await t.acall("old value gone", client.get(b"large"), None)
    await client.close()


async def logins() -> None:
    t = Checks("login")
    for name, user, password in (
        ("wrong password", USER, WRONG_PASSWORD),
        ("unknown user", "nobody", PASSWORD),
    ):
        client = await emcache.create_client(
            [NODE], timeout=1.0, max_connections=1, username=user, password=password
        )
        await t.afails(name, client.get(b"a"), Exception)
        await client.close()


logging.disable()  # It logs refused logins.
asyncio.run(main())
