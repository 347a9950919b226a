"""aiomcache: text protocol from asyncio, over a pool of connections."""

from __future__ import annotations

import asyncio
import ssl
from functools import partial
from typing import Any

import aiomcache
from aiomcache.exceptions import ClientException

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
    payload,
)


async def basics(t: Checks, client: aiomcache.Client) -> None:
    await client.flush_all()
    await t.acall("get none", client.get(b"a"), None)
    await t.acall("get default", client.get(b"a", b"d"), b"d")
    await t.acall("set", client.set(b"a", b"1"), True)
    await t.acall("get", client.get(b"a"), b"1")
    await t.acall("add there", client.add(b"a", b"2"), False)
    await t.acall("add", client.add(b"b", b"2"), True)
    await t.acall("replace", client.replace(b"a", b"3"), True)
    await t.acall("replace none", client.replace(b"none", b"3"), False)
    await t.acall("append", client.append(b"a", b"4"), True)
    await t.acall("prepend", client.prepend(b"a", b"5"), True)
    await t.acall("append none", client.append(b"none", b"5"), False)
    await t.acall("joined", client.get(b"a"), b"534")
    await t.acall("incr", client.incr(b"a", 7), 541)
    await t.acall("decr", client.decr(b"a", 40), 501)
    await t.acall("decr below zero", client.decr(b"a", 4000), 0)
    await t.afails("incr none", client.incr(b"none"), ClientException)
    await t.acall("touch", client.touch(b"b", FAR_S), True)
    await t.acall("touch none", client.touch(b"none", FAR_S), False)
    await t.acall("touch to the past", client.touch(b"b", -1), True)
    await t.acall("touched away", client.get(b"b"), None)
    await t.acall("born expired", client.set(b"gone", b"x", exptime=2_592_001), True)
    await t.acall("expired", client.get(b"gone"), None)
    await t.acall("set text", client.set(b"text", b"abc"), True)
    await t.afails("incr text", client.incr(b"text"), ClientException)
    await t.acall("usable after a fault", client.get(b"text"), b"abc")
    value, unique = await client.gets(b"text")
    t.equal("gets", value, b"abc")
    assert unique is not None
    await t.acall("cas", client.cas(b"text", b"2", unique), True)
    await t.acall("cas too late", client.cas(b"text", b"3", unique), False)
    await t.acall("cas none", client.cas(b"none", b"3", unique), False)
    await t.acall("gets none", client.gets(b"none"), (None, None))
    await t.acall("delete", client.delete(b"text"), True)
    await t.acall("delete none", client.delete(b"text"), False)
    for size in SIZES[1:]:
        value = payload(size)
        await t.acall(f"set {size} bytes", client.set(b"v", value), True)
        await t.acall(f"get {size} bytes", client.get(b"v"), value)
    await t.acall("blank", client.set(b"v", b""), True)
    await t.acall("get blank", client.get(b"v"), b"")
    await t.acall("longest key", client.set(b"k" * 250, b"1"), True)
    await t.afails("long key", client.set(b"k" * 251, b"1"), ClientException)


async def crowd(t: Checks, client: aiomcache.Client) -> None:
    """Many tasks share a pool of eight connections."""
    done = await asyncio.gather(*(client.set(b"m%d" % i, b"%d" % i) for i in range(500)))
    t.equal("sets", all(done), True)
    got = await client.multi_get(*(b"m%d" % i for i in range(500)))
    t.equal("multi_get", list(got), [b"%d" % i for i in range(500)])
    each = await asyncio.gather(*(client.get(b"m%d" % i) for i in range(500)))
    t.equal("gets", each, [b"%d" % i for i in range(500)])
    await client.set(b"count", b"0")
    await asyncio.gather(*(client.incr(b"count") for _ in range(400)))
    await t.acall("counted", client.get(b"count"), b"400")
    added = await asyncio.gather(*(client.add(b"once", b"%d" % i) for i in range(50)))
    t.equal("one add won", sum(added), 1)


async def flags(t: Checks, pool: dict[str, Any]) -> None:
    async def load(value: bytes, flag: int) -> Any:
        return int(value) if flag == 3 else value

    async def dump(value: Any) -> tuple[bytes, int]:
        return b"%d" % value, 3

    client: Any = aiomcache.FlagClient(
        HOST, PORT, get_flag_handler=load, set_flag_handler=dump, **pool
    )
    await t.acall("set", client.set(b"i", 5), True)
    await t.acall("get", client.get(b"i"), 5)
    await client.close()


async def main() -> None:
    pool: dict[str, Any] = {"pool_size": 8, "pool_minsize": 2}
    if SETUP == "tls":
        pool["conn_args"] = {"ssl": ssl.create_default_context(cafile=CA_FILE)}
    client = aiomcache.Client(HOST, PORT, **pool)
    await basics(Checks("basics"), client)
    await crowd(Checks("crowd"), client)
    await flags(Checks("flags"), pool)
    t = Checks("administration")
    version = await client.version()
    t.saw("version", lambda: version)
    for report in (b"", b"settings", b"items", b"slabs"):
        rows = await client.stats(*filter(None, (report,)))
        t.saw(f"stats {report.decode()}", partial(names, rows))
    await client.set(b"large", b"old")
    await t.afails("too large", client.set(b"large", payload(TOO_LARGE_BYTES)), ClientException)
    await t.acall("old value gone", client.get(b"large"), None)
    await client.close()


asyncio.run(main())
