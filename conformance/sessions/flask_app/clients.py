"""Clients for Flask-Session, by configuration; those named "repeating" survive the loss of a node.

Those are the files of docs/sessions.md.

Flask-Session hands a user whose session cannot be found a new one, and lets errors become errors.
So a client must tell one from the other, and repeat what failed for want of a connection: behind
the same address, or the other of two, a node answers that has everything. All threads of a worker
share the client, so it must bear that.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pylibmc
from cachelib import MemcachedCache
from pymemcache import PooledClient

from conformance.sessions import copied
from conformance.sessions.clients import PYLIBMC_TWO

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

POOL = 16


class PooledPylibmc:
    """pylibmc's client for many threads, with what Flask-Session wants of one."""

    def __init__(self, addresses: Sequence[str], behaviors: dict[str, Any]) -> None:
        self._pool = pylibmc.ClientPool(pylibmc.Client(addresses, behaviors=behaviors), POOL)

    def _do(self, act: Callable[[Any], Any]) -> Any:
        with self._pool.reserve(block=True) as client:
            return act(client)

    def get(self, key: str, default: Any = None) -> Any:
        return self._do(lambda client: client.get(key, default))

    def set(self, key: str, value: Any, expires_s: int = 0) -> Any:
        return self._do(lambda client: client.set(key, value, expires_s))

    def delete(self, key: str) -> Any:
        return self._do(lambda client: client.delete(key))


def _copied(file: str, at: list[str]) -> Any:
    """Return the client that a file of the page makes, of these addresses."""
    return copied.executed("Flask", file, at)["SESSION_MEMCACHED"]


def _repeating_pylibmc() -> Any:
    """Return the page's class; its client of an address that nobody asks does nothing."""
    return copied.executed("Flask", "config_pylibmc.py", [copied.ADDRESS])["RepeatingPylibmc"]


def _flask(client: Any) -> dict[str, Any]:
    return {"SESSION_TYPE": "memcached", "SESSION_MEMCACHED": client}


def _cachelib(client: Any) -> dict[str, Any]:
    return {"SESSION_TYPE": "cachelib", "SESSION_CACHELIB": MemcachedCache(client)}


#: Of the addresses make what belongs into the application's configuration.
CONFIGURATIONS: dict[str, Callable[[list[str]], dict[str, Any]]] = {
    "pymemcache repeating": lambda at: _flask(_copied("config_pymemcache.py", at)),
    "pylibmc repeating": lambda at: _flask(_copied("config_pylibmc.py", at)),
    "cachelib repeating": lambda at: _cachelib(_copied("config_pylibmc.py", at)),
    "pymemcache repeating two": lambda at: _flask(_copied("config_two.py", at)),
    "pylibmc repeating two": lambda at: _flask(_repeating_pylibmc()(at, PYLIBMC_TWO)),
    "pymemcache": lambda at: _flask(PooledClient(*at, default_noreply=False)),
    "pymemcache noreply": lambda at: _flask(PooledClient(*at)),
    "pylibmc": lambda at: _flask(PooledPylibmc(at, {})),
    "cachelib": _cachelib,
}
