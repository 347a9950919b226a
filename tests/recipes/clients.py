"""Three client libraries behind one pair of methods, so that each can meet the same faults.

`get` and `set` raise what the library raises: that is what the tests are about.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Protocol

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

    from pymcd.testing import MemcachedServer

#: Longer than any answer takes, however busy the machine.
PATIENT_S = 30.0


class Client(Protocol):
    """What the tests use of a client library."""

    def get(self, key: str) -> bytes | None: ...
    def set(self, key: str, value: bytes) -> None: ...
    def close(self) -> None: ...


class Pymemcache:
    """pymemcache, which speaks the text protocol."""

    def __init__(self, server: MemcachedServer, timeout_s: float) -> None:
        from pymemcache.client.base import Client

        self._client = Client(server.address, connect_timeout=PATIENT_S, timeout=timeout_s)

    def get(self, key: str) -> bytes | None:
        value: bytes | None = self._client.get(key)
        return value

    def set(self, key: str, value: bytes) -> None:
        assert self._client.set(key, value, noreply=False)

    def close(self) -> None:
        self._client.close()


class Pylibmc:
    """pylibmc, which is libmemcached in C; here with the text protocol."""

    def __init__(self, server: MemcachedServer, timeout_s: float) -> None:
        import pylibmc

        # libmemcached waits for a socket with poll(), for so many milliseconds.
        behaviors = {"_poll_timeout": int(timeout_s * 1000), "connect_timeout": 30_000}
        self._client = pylibmc.Client([server.url], binary=False, behaviors=behaviors)

    def get(self, key: str) -> bytes | None:
        value: bytes | None = self._client.get(key)
        return value

    def set(self, key: str, value: bytes) -> None:
        assert self._client.set(key, value)

    def close(self) -> None:
        self._client.disconnect_all()


class Aiomcache:
    """aiomcache, in an event loop that runs while a request does."""

    def __init__(self, server: MemcachedServer, timeout_s: float) -> None:
        import aiomcache

        self._timeout_s = timeout_s
        self._loop = asyncio.new_event_loop()
        self._client = aiomcache.Client(server.host, server.port, pool_size=1)

    def _run(self, request: Any) -> Any:
        return self._loop.run_until_complete(asyncio.wait_for(request, self._timeout_s))

    def get(self, key: str) -> bytes | None:
        value: bytes | None = self._run(self._client.get(key.encode()))
        return value

    def set(self, key: str, value: bytes) -> None:
        assert self._run(self._client.set(key.encode(), value))

    def close(self) -> None:
        self._loop.run_until_complete(self._client.close())
        # Closed transports tell their protocols in the next turn of the loop.
        self._loop.run_until_complete(asyncio.sleep(0))
        self._loop.close()


CLIENTS: dict[str, Callable[[MemcachedServer, float], Client]] = {
    "pymemcache": Pymemcache,
    "pylibmc": Pylibmc,
    "aiomcache": Aiomcache,
}


def connect(name: str, server: MemcachedServer, timeout_s: float = PATIENT_S) -> Client:
    """Return a client of the named library; skip the test where that is not installed."""
    pytest.importorskip(name, reason=f"needs {name}: pip install -e '.[recipes]'")
    return CLIENTS[name](server, timeout_s)
