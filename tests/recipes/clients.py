"""Six clients, of five libraries, behind one pair of methods, so that each meets the same faults.

`get` and `set` return and raise what the library does: that is what the tests are about.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Protocol

import pytest

from ..interpreters import needs

if TYPE_CHECKING:
    from collections.abc import Callable

    from pymcd.testing import MemcachedServer

#: Longer than any answer takes, however busy the machine.
PATIENT_S = 30.0


class Client(Protocol):
    """What the tests use of a client library."""

    def get(self, key: str) -> bytes | None: ...
    def set(self, key: str, value: bytes) -> bool: ...
    def close(self) -> None: ...


class Pymemcache:
    """pymemcache, which speaks the text protocol."""

    def __init__(self, server: MemcachedServer, timeout_s: float) -> None:
        from pymemcache.client.base import Client

        self._client = Client(server.address, connect_timeout=PATIENT_S, timeout=timeout_s)

    def get(self, key: str) -> bytes | None:
        value: bytes | None = self._client.get(key)
        return value

    def set(self, key: str, value: bytes) -> bool:
        return bool(self._client.set(key, value, noreply=False))

    def close(self) -> None:
        self._client.close()


class Pylibmc:
    """pylibmc, which is libmemcached in C; here with the text protocol."""

    binary = False

    def __init__(self, server: MemcachedServer, timeout_s: float) -> None:
        import pylibmc

        self._client = pylibmc.Client(
            [server.url], binary=self.binary, behaviors={"connect_timeout": 30_000}
        )
        self.give_up_after(timeout_s)

    def give_up_after(self, timeout_s: float) -> None:
        # libmemcached waits for a socket with poll(), for so many milliseconds.
        self._client.behaviors = {"_poll_timeout": int(timeout_s * 1000)}

    def get(self, key: str) -> bytes | None:
        value: bytes | None = self._client.get(key)
        return value

    def set(self, key: str, value: bytes) -> bool:
        return bool(self._client.set(key, value))

    def close(self) -> None:
        self._client.disconnect_all()


class PylibmcBinary(Pylibmc):
    """The same with the binary protocol."""

    binary = True


class PythonMemcached:
    """python-memcached, which takes what fails for a miss."""

    def __init__(self, server: MemcachedServer, timeout_s: float) -> None:
        import memcache

        self._client = memcache.Client([server.url], socket_timeout=timeout_s, dead_retry=0)

    def get(self, key: str) -> bytes | None:
        value: bytes | None = self._client.get(key)
        return value

    def set(self, key: str, value: bytes) -> bool:
        return bool(self._client.set(key, value))

    def close(self) -> None:
        self._client.disconnect_all()


class Bmemcached:
    """python-binary-memcached, which speaks the binary protocol."""

    def __init__(self, server: MemcachedServer, timeout_s: float) -> None:
        import bmemcached

        self._client = bmemcached.Client((server.url,), socket_timeout=timeout_s)

    def get(self, key: str) -> bytes | None:
        value: bytes | str | None = self._client.get(key)
        return value.encode() if isinstance(value, str) else value

    def set(self, key: str, value: bytes) -> bool:
        return bool(self._client.set(key, value))

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

    def set(self, key: str, value: bytes) -> bool:
        return bool(self._run(self._client.set(key.encode(), value)))

    def close(self) -> None:
        self._loop.run_until_complete(self._client.close())
        # Closed transports tell their protocols in the next turn of the loop.
        self._loop.run_until_complete(asyncio.sleep(0))
        self._loop.close()


CLIENTS: dict[str, Callable[[MemcachedServer, float], Client]] = {
    "pymemcache": Pymemcache,
    "pylibmc": Pylibmc,
    "aiomcache": Aiomcache,
    "pylibmc binary": PylibmcBinary,
    "python-memcached": PythonMemcached,
    "bmemcached": Bmemcached,
}
#: Where the name of the client is not that of the module.
_MODULES = {"pylibmc binary": "pylibmc", "python-memcached": "memcache"}


def connect(name: str, server: MemcachedServer, timeout_s: float = PATIENT_S) -> Client:
    """Return a client of the named library; skip the test where that is not installed."""
    module = _MODULES.get(name, name)
    pytest.importorskip(module, reason=needs(module))
    return CLIENTS[name](server, timeout_s)
