"""Real clients: one script of operations for each, with the same results on both servers."""

from __future__ import annotations

from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

    from .conftest import Servers
    from .servers import Server

FAR_S = 100_000
LARGE = "x" * 100_000


def _attempt(operation: Callable[[], Any]) -> Any:
    """Return the result, or the name of the error."""
    try:
        return operation()
    except Exception as error:
        return type(error).__name__


def _pymemcache(server: Server) -> list[Any]:
    from pymemcache.client.base import Client, PooledClient
    from pymemcache.client.hash import HashClient

    clients = (
        Client(("127.0.0.1", server.port), default_noreply=False),
        Client(("127.0.0.1", server.port), default_noreply=True),
        PooledClient(("127.0.0.1", server.port), max_pool_size=3),
        HashClient([("127.0.0.1", server.port)], default_noreply=False),
    )
    return [result for client in clients for result in _pymemcache_script(client)]


def _pymemcache_script(client: Any) -> list[Any]:
    client.flush_all(noreply=False)
    uniques: dict[str, Any] = {}

    def unique(key: str) -> Any:
        value, uniques[key] = client.gets(key)
        return value

    steps: list[Callable[[], Any]] = [
        lambda: client.set("a", "1"),
        lambda: client.get("a"),
        lambda: client.add("a", "2", noreply=False),
        lambda: client.replace("a", "3", noreply=False),
        lambda: client.append("a", "4", noreply=False),
        lambda: client.prepend("a", "5", noreply=False),
        lambda: client.incr("a", 7, noreply=False),
        lambda: client.decr("a", 500, noreply=False),
        lambda: client.incr("none", 7, noreply=False),
        lambda: unique("a"),
        lambda: client.cas("a", "6", uniques["a"], noreply=False),
        lambda: client.cas("a", "7", uniques["a"], noreply=False),
        lambda: client.cas("none", "7", b"1", noreply=False),
        lambda: client.touch("a", FAR_S, noreply=False),
        lambda: client.touch("none", FAR_S, noreply=False),
        lambda: client.set_many({f"m{i}": str(i) for i in range(50)}),
        lambda: client.get_many([f"m{i}" for i in range(60)]),
        lambda: sorted(client.gets_many(["m1", "m2", "none"])),
        lambda: client.delete_many(["m1", "m2", "none"]),
        lambda: client.delete("a", noreply=False),
        lambda: client.delete("a", noreply=False),
        lambda: client.set("large", LARGE, noreply=False),
        lambda: len(client.get("large")),
        lambda: client.set("gone", "x", expire=-1, noreply=False),
        lambda: client.get("gone", "default"),
        lambda: client.set("big", "x" * 2_000_000, noreply=False),
        lambda: client.set("a" * 251, "x", noreply=False),
        lambda: client.incr("large", 1, noreply=False),
        lambda: client.version(),
        lambda: client.get("a"),
        lambda: client.flush_all(noreply=False),
        lambda: client.quit(),
    ]
    results = [_attempt(step) for step in steps]
    client.close()
    return results


def _pylibmc(server: Server) -> list[Any]:
    import pylibmc

    return [
        result
        for behaviors in ({"cas": True}, {"cas": True, "tcp_nodelay": True, "no_block": True})
        for result in _pylibmc_script(
            pylibmc.Client([f"127.0.0.1:{server.port}"], behaviors=behaviors)
        )
    ]


def _pylibmc_script(client: Any) -> list[Any]:
    client.flush_all()
    uniques: dict[str, Any] = {}

    def unique(key: str) -> Any:
        value, uniques[key] = client.gets(key)
        return value

    steps: list[Callable[[], Any]] = [
        lambda: client.set("a", 1),
        lambda: client.get("a"),
        lambda: client.add("a", 2),
        lambda: client.add("b", 2),
        lambda: client.replace("a", 3),
        lambda: client.replace("none", 3),
        lambda: client.set("text", "abc"),
        lambda: client.append("text", "def"),
        lambda: client.prepend("text", "xyz"),
        lambda: client.get("text"),
        lambda: client.incr("a", 5),
        lambda: client.decr("a", 2),
        lambda: client.incr("none"),
        lambda: unique("a"),
        lambda: client.cas("a", 6, uniques["a"]),
        lambda: client.cas("a", 7, uniques["a"]),
        lambda: client.touch("a", FAR_S),
        lambda: client.touch("none", FAR_S),
        lambda: client.set_multi({f"m{i}": i for i in range(100)}),
        lambda: client.get_multi([f"m{i}" for i in range(110)]),
        lambda: client.delete_multi(["m1", "m2"]),
        lambda: client.delete("a"),
        lambda: client.delete("a"),
        lambda: client.set("large", LARGE),
        lambda: len(client.get("large")),
        lambda: client.set("big", "x" * 2_000_000),
        lambda: client.set("packed", "x" * 2_000_000, min_compress_len=1),
        lambda: len(client.get("packed")),
        lambda: client.set("object", {"a": [1, 2, (3, "ü")]}),
        lambda: client.get("object"),
        lambda: len(client.get_stats()) == 1,
        lambda: client.flush_all(),
        lambda: client.get("object"),
        lambda: client.disconnect_all(),
    ]
    return [_attempt(step) for step in steps]


def _python_memcached(server: Server) -> list[Any]:
    import memcache

    client = memcache.Client([f"127.0.0.1:{server.port}"], cache_cas=True)
    steps: list[Callable[[], Any]] = [
        lambda: client.set("a", 1),
        lambda: client.get("a"),
        lambda: client.add("a", 2),
        lambda: client.add("b", 2),
        lambda: client.replace("a", 3),
        lambda: client.set("text", "abc"),
        lambda: client.append("text", "def"),
        lambda: client.prepend("text", "xyz"),
        lambda: client.get("text"),
        lambda: client.incr("a", 5),
        lambda: client.decr("a", 500),
        lambda: client.incr("none"),
        lambda: client.gets("a"),
        lambda: client.cas("a", 6),
        lambda: client.cas("a", 7),
        lambda: client.touch("a", FAR_S),
        lambda: client.touch("none", FAR_S),
        lambda: client.set_multi({f"m{i}": i for i in range(100)}),
        lambda: client.get_multi([f"m{i}" for i in range(110)]),
        lambda: client.delete_multi(["m1", "m2", "none"]),
        lambda: client.delete("a"),
        lambda: client.delete("a"),
        lambda: client.set("large", LARGE),
        lambda: len(client.get("large")),
        lambda: client.set("packed", "x" * 2_000_000, min_compress_len=1),
        lambda: len(client.get("packed")),
        lambda: client.set("object", {"a": [1, 2, (3, "ü")]}),
        lambda: client.get("object"),
        lambda: [len(client.get_stats()), len(client.get_slab_stats())],
        lambda: len(client.get_stats("settings")),
        lambda: client.flush_all(),
        lambda: client.get("object"),
    ]
    results = [_attempt(step) for step in steps]
    client.disconnect_all()
    return results


CLIENTS = {
    "pymemcache": _pymemcache,
    "pylibmc": _pylibmc,
    "python-memcached": _python_memcached,
}
MODULES = {"pymemcache": "pymemcache", "pylibmc": "pylibmc", "python-memcached": "memcache"}


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")
@pytest.mark.parametrize("name", CLIENTS)
def test_client(
    name: str, servers: Servers, reference: tuple[str, ...], subject: tuple[str, ...]
) -> None:
    pytest.importorskip(MODULES[name])
    real, ours = (
        CLIENTS[name](servers.get(command, (), fresh=True)) for command in (reference, subject)
    )
    print(f"{name} {version(name)}: {len(real)} results")
    assert ours == real
