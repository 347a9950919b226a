"""meta-memcache: nothing but meta commands, with their leases, recaching and staleness."""

from __future__ import annotations

import logging
from functools import partial
from typing import Any

from meta_memcache import (
    CacheClient,
    Key,
    ServerAddress,
    SetMode,
    connection_pool_factory_builder,
)
from meta_memcache.configuration import LeasePolicy, RecachePolicy, StalePolicy
from meta_memcache.errors import MemcacheError
from meta_memcache.protocol import MA_MODE_DEC, Miss, RequestFlags, Success, Value

from ..checks import FAR_S, HOST, PORT, SIZES, TOO_LARGE_BYTES, Checks, payload


def basics(t: Checks, client: Any) -> None:
    t.call("get none", lambda: client.get("a"), None)
    t.call("set", lambda: client.set("a", "1", FAR_S), True)
    t.call("get", lambda: client.get("a"), "1")
    t.call("add there", lambda: client.set("a", "2", FAR_S, set_mode=SetMode.ADD), False)
    t.call("add", lambda: client.set("b", "2", FAR_S, set_mode=SetMode.ADD), True)
    t.call("replace", lambda: client.set("a", "3", FAR_S, set_mode=SetMode.REPLACE), True)
    t.call("replace none", lambda: client.set("z", "3", FAR_S, set_mode=SetMode.REPLACE), False)
    t.call("append", lambda: client.set("a", "4", FAR_S, set_mode=SetMode.APPEND), True)
    t.call("prepend", lambda: client.set("a", "5", FAR_S, set_mode=SetMode.PREPEND), True)
    t.call("append none", lambda: client.set("z", "4", FAR_S, set_mode=SetMode.APPEND), False)
    t.call("joined", lambda: client.get("a"), "534")
    t.call("refill there", lambda: client.refill("a", "x", FAR_S), False)
    t.call("refill", lambda: client.refill("r", "x", FAR_S), True)
    t.call("touch", lambda: client.touch("a", FAR_S), True)
    t.call("touch none", lambda: client.touch("none", FAR_S), False)
    t.call("get and touch", lambda: client.get("a", touch_ttl=FAR_S), "534")
    t.call("quiet set", lambda: client.set("q", "1", FAR_S, no_reply=True), True)
    t.call("after quiet set", lambda: client.get("q"), "1")
    t.call("delete", lambda: client.delete("a"), True)
    t.call("delete none", lambda: client.delete("a"), False)
    t.call("invalidate none", lambda: client.invalidate("a"), True)
    t.call("quiet delete", lambda: client.delete("q", no_reply=True), True)
    t.call("after quiet delete", lambda: client.get("q"), None)
    for size in SIZES:
        value = payload(size)
        t.call(f"set {size} bytes", partial(client.set, "v", value, FAR_S), True)
        t.call(f"get {size} bytes", lambda: client.get("v"), value)
    thing = {"a": [1, (2, "ü")], "b": None}
    t.call("pickled", lambda: client.set("o", thing, FAR_S), True)
    t.call("unpickled", lambda: client.get("o"), thing)
    t.call("long key", lambda: client.set("k" * 400, "1", FAR_S), True)
    t.call("get of long key", lambda: client.get("k" * 400), "1")
    t.call("key with blanks", lambda: client.set("a b\r\n", "1", FAR_S), True)
    t.call("get of key with blanks", lambda: client.get("a b\r\n"), "1")
    t.call("wide key", lambda: client.set("schlüssel", "1", FAR_S), True)
    t.call("get of wide key", lambda: client.get("schlüssel"), "1")
    t.call("typed", lambda: client.get_typed("o", dict), thing)


def bulk(t: Checks, client: Any) -> None:
    keys = [f"m{i}" for i in range(300)]
    t.equal("sets", all(client.set(key, key, FAR_S) for key in keys), True)
    got = client.multi_get([*keys, "none"])
    expected = {Key(key): key for key in keys} | {Key("none"): None}
    t.equal("multi_get", got, expected)
    wide = client.multi_get([*keys[:3], "schlüssel", "a b\r\n", "k" * 400])
    t.equal("multi_get of odd keys", list(wide.values()), [*keys[:3], "1", "1", "1"])
    uniques = client.multi_get_cas(keys[:5])
    t.equal("multi_get_cas", len({unique for _, unique in uniques.values()}), 5)


def cas(t: Checks, client: Any) -> None:
    unique = client.set_cas("c", "1", FAR_S)
    t.call("get_cas", lambda: client.get_cas("c"), ("1", unique))
    t.call("get_cas none", lambda: client.get_cas("none")[0], None)
    t.call("cas", lambda: client.set("c", "2", FAR_S, cas_token=unique), True)
    t.call("cas too late", lambda: client.set("c", "3", FAR_S, cas_token=unique), False)
    t.call("cas none", lambda: client.set("none", "3", FAR_S, cas_token=unique), False)
    t.call("delete with an old cas", lambda: client.delete("c", cas_token=unique), False)
    fresh = client.get_cas("c")[1]
    t.call("delete with its cas", lambda: client.delete("c", cas_token=fresh), True)


def counters(t: Checks, client: Any) -> None:
    t.call("none", lambda: client.delta("n", 1), False)
    t.call("made", lambda: client.delta_initialize_and_get("n", 5, 10, FAR_S), 10)
    t.call("up", lambda: client.delta_and_get("n", 5), 15)
    t.call("down", lambda: client.delta_and_get("n", -4), 11)
    t.call("below zero", lambda: client.delta_and_get("n", -40), 0)
    t.call("no value", lambda: client.delta("n", 3), True)
    t.call("initialize there", lambda: client.delta_initialize("n", 3, 100, FAR_S), True)
    t.call("refresh", lambda: client.delta_and_get("n", 1, refresh_ttl=FAR_S), 7)
    t.call("quiet", lambda: client.delta("n", 1, no_reply=True), True)
    t.call("read", lambda: client.get("n"), "8 ")
    unique = client.get_cas("n")[1]
    t.call("with cas", lambda: client.delta("n", 1, cas_token=unique), True)
    t.call("cas too late", lambda: client.delta("n", 1, cas_token=unique), False)
    client.set("text", "abc", FAR_S)
    t.fails("text", lambda: client.delta("text", 1), MemcacheError)
    t.call("usable after a fault", lambda: client.get("text"), "abc")


def herd(t: Checks, client: Any) -> None:
    """Of several that miss, find old or find stale, one alone is to make the value."""
    lease = LeasePolicy(ttl=100, miss_retries=1, miss_retry_wait=0.0, miss_max_retry_wait=0.0)
    t.call("lease won", lambda: client.get_or_lease("lease", lease), None)
    t.call("lease taken", lambda: client.get_or_lease("lease", lease), None)
    t.call("lease filled", lambda: client.set("lease", "1", FAR_S), True)
    t.call("lease read", lambda: client.get_or_lease("lease", lease), "1")
    client.set("old", "1", 50)
    recache = RecachePolicy(ttl=100)
    t.call("recache won", lambda: client.get("old", recache_policy=recache), None)
    t.call("recache lost", lambda: client.get("old", recache_policy=recache), "1")
    client.set("young", "1", 500)
    t.call("no recache yet", lambda: client.get("young", recache_policy=recache), "1")
    stale = StalePolicy(mark_stale_on_deletion_ttl=100)
    client.set("stale", "1", FAR_S)
    unique = client.get_cas("stale")[1]
    t.call("made stale", lambda: client.delete("stale", stale_policy=stale), True)
    t.call("stale won", lambda: client.get("stale"), None)
    t.call("stale lost", lambda: client.get("stale"), "1")
    t.call("old cas", lambda: client.set("stale", "2", FAR_S, cas_token=unique), False)
    late = StalePolicy(mark_stale_on_cas_mismatch=True)
    fresh = client.get_cas("stale")[1]
    client.delete("stale", stale_policy=stale)
    t.saw("late cas", lambda: client.set("stale", "3", 50, cas_token=fresh, stale_policy=late))
    t.saw("after late cas", lambda: client.get("stale"))


def flags(t: Checks, client: Any) -> None:
    """The commands themselves with every flag."""
    key = Key("flags")
    client.set("flags", "value", FAR_S)
    every = RequestFlags(
        return_client_flag=True,
        return_cas_token=True,
        return_value=True,
        return_ttl=True,
        return_size=True,
        return_last_access=True,
        return_fetched=True,
        return_key=True,
        opaque=b"opaque1",
    )
    got = client.meta_get(key, every)
    t.equal("value", isinstance(got, Value) and got.value, "value")
    found = got.flags
    t.equal("size", (found.size, found.opaque, found.fetched), (5, b"opaque1", False))
    t.equal("ttl", FAR_S - 5 < found.ttl <= FAR_S, True)
    t.equal("fetched", client.meta_get(key, every).flags.fetched, True)
    no_bump = RequestFlags(no_update_lru=True, return_ttl=True)
    t.equal("no value", isinstance(client.meta_get(key, no_bump), Success), True)
    miss = client.meta_get(Key("none"), every)
    t.equal("miss", isinstance(miss, Miss), True)
    vivify = RequestFlags(return_value=True, vivify_on_miss_ttl=30, return_ttl=True)
    won = client.meta_get(Key("vivid"), vivify)
    t.equal("vivified", (won.flags.win, len(won.value), won.flags.ttl), (True, 0, -1))
    t.equal("vivified before", client.meta_get(Key("vivid"), vivify).flags.win, False)
    count = RequestFlags(
        return_value=True, ma_initial_value=9, ma_delta_value=2, vivify_on_miss_ttl=30
    )
    t.equal("created", client.meta_arithmetic(Key("number"), count).value, "9")
    down = RequestFlags(return_value=True, ma_delta_value=2, mode=MA_MODE_DEC)
    t.equal("counted down", client.meta_arithmetic(Key("number"), down).value, "7")
    client_flag = RequestFlags(cache_ttl=FAR_S, client_flag=16)
    client.meta_set(Key("number"), b"5", client_flag)
    t.equal("client flag", client.meta_get(Key("number"), every).flags.client_flag, 16)


def main() -> None:
    logging.disable()  # The client logs what the server refuses.
    pools = connection_pool_factory_builder(
        connection_timeout=20,
        recv_timeout=20,
        read_buffer_size=1 << 20,  # It copies what it has whenever that is full.
    )
    client: Any = CacheClient.cache_client_from_servers(
        servers=[ServerAddress(HOST, PORT)], connection_pool_factory_fn=pools
    )
    basics(Checks("basics"), client)
    bulk(Checks("bulk"), client)
    cas(Checks("cas"), client)
    counters(Checks("counters"), client)
    herd(Checks("herd"), client)
    flags(Checks("flags"), client)
    client.set("large", "old", FAR_S)
    t = Checks("large")
    t.saw("set", lambda: client.set("large", payload(TOO_LARGE_BYTES), FAR_S))
    t.call("old value gone", lambda: client.get("large"), None)


main()
