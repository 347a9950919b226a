"""Clients for Flask-Session, by configuration; those named "repeating" survive the loss of a node.

Flask-Session hands a user whose session cannot be found a new one, and lets errors become errors.
So a client must tell one from the other, and repeat what failed for want of a connection: behind
the same address, or the other of two, a node answers that has everything. All threads of a worker
share the client, so it must bear that.
"""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any

import pylibmc
from cachelib import MemcachedCache
from pymemcache import HashClient, PooledClient
from pymemcache.client.retrying import RetryingClient
from pymemcache.exceptions import MemcacheError, MemcacheUnexpectedCloseError

from conformance.sessions.clients import (
    PYLIBMC_ONE,
    PYLIBMC_TWO,
    PYMEMCACHE_PLAIN,
    PYMEMCACHE_TWO,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

PATIENCE_S = 10.0
PAUSE_S = 0.1
POOL = 16


def repeating_pymemcache(address: str) -> RetryingClient:
    """Return a client of one address, without code of one's own."""
    client = PooledClient(address, default_noreply=False, **PYMEMCACHE_PLAIN)
    return RetryingClient(
        client,
        attempts=int(PATIENCE_S / PAUSE_S),
        retry_delay=PAUSE_S,
        retry_for=(OSError, MemcacheUnexpectedCloseError),
    )


def repeating_two_pymemcache(addresses: Sequence[str]) -> RetryingClient:
    """Return a client that goes to the other address for some seconds after an error at one."""
    return RetryingClient(
        HashClient(addresses, default_noreply=False, **PYMEMCACHE_TWO),
        attempts=int(PATIENCE_S / PAUSE_S),
        retry_delay=PAUSE_S,
        # MemcacheError alone: for that HashClient raises it when it has given up both.
        retry_for=(OSError, MemcacheError),
    )


class PerThread(threading.local):
    """A client for each thread: the books that HashClient keeps of its servers are for one.

    Args:
        make: makes a client.
    """

    def __init__(self, make: Callable[[], Any]) -> None:
        self._client = make()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._client, name)


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


class RepeatingPylibmc(PooledPylibmc):
    """The same, repeating for PATIENCE_S what failed for want of a connection."""

    def _do(self, act: Callable[[Any], Any]) -> Any:
        ends_s = time.monotonic() + PATIENCE_S
        while True:
            with self._pool.reserve(block=True) as client:
                try:
                    return act(client)
                except (pylibmc.TooBig, pylibmc.ServerError):
                    raise  # refused, and not for want of a connection
                except pylibmc.Error:
                    if time.monotonic() > ends_s:
                        raise
                    client.disconnect_all()
            time.sleep(PAUSE_S)

    def get(self, key: str, default: Any = None) -> Any:
        # libmemcached takes some ends of connections for a miss (awesomized/libmemcached#67); its
        # next command says that the server has failed.
        def twice(client: Any) -> Any:
            found = client.get(key)
            return client.get(key, default) if found is None else found

        return self._do(twice)


def _flask(client: Any) -> dict[str, Any]:
    return {"SESSION_TYPE": "memcached", "SESSION_MEMCACHED": client}


def _cachelib(client: Any) -> dict[str, Any]:
    return {"SESSION_TYPE": "cachelib", "SESSION_CACHELIB": MemcachedCache(client)}


#: Of the addresses make what belongs into the application's configuration.
CONFIGURATIONS: dict[str, Callable[[list[str]], dict[str, Any]]] = {
    "pymemcache repeating": lambda at: _flask(repeating_pymemcache(*at)),
    "pylibmc repeating": lambda at: _flask(RepeatingPylibmc(at, PYLIBMC_ONE)),
    "cachelib repeating": lambda at: _cachelib(RepeatingPylibmc(at, PYLIBMC_ONE)),
    "pymemcache repeating two": lambda at: _flask(PerThread(lambda: repeating_two_pymemcache(at))),
    "pylibmc repeating two": lambda at: _flask(RepeatingPylibmc(at, PYLIBMC_TWO)),
    "pymemcache": lambda at: _flask(PooledClient(*at, default_noreply=False)),
    "pymemcache noreply": lambda at: _flask(PooledClient(*at)),
    "pylibmc": lambda at: _flask(PooledPylibmc(at, {})),
    "cachelib": _cachelib,
}
