"""Django's memcached caches, made to repeat what failed because a connection was lost.

Neither of the two client libraries does so by itself where there is one address, and Django's
sessions take any error for "no such session". With `LOCATION` one address in front of a pair, or
both of its nodes, the repeated command reaches the node that is left.

Not repeated are `incr`, `decr` and the forms for many keys: sessions do not use them, and counting
twice would be wrong. An `add` whose answer was lost finds its own item when it is repeated, and
answers False: to a new session that is one more attempt, to a lock a wait until it expires.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import pylibmc
from django.core.cache.backends.memcached import PyLibMCCache, PyMemcacheCache
from pymemcache.exceptions import MemcacheUnexpectedCloseError

if TYPE_CHECKING:
    from collections.abc import Callable

PATIENCE_S = 10.0
PAUSE_S = 0.1


class _Repeating:
    """Repeats for PATIENCE_S what raises one of `lost`; then the error stays one."""

    lost: tuple[type[Exception], ...]
    _cache: Any

    def _repeat(self, operation: Callable[..., Any], *given: Any, **named: Any) -> Any:
        ends_s = time.monotonic() + PATIENCE_S
        while True:
            try:
                return operation(*given, **named)
            except self.lost:
                if time.monotonic() > ends_s:
                    raise
                self._cache.disconnect_all()
                time.sleep(PAUSE_S)

    def get(self, *given: Any, **named: Any) -> Any:
        return self._repeat(super().get, *given, **named)  # type: ignore[misc]  # of a mixin

    def add(self, *given: Any, **named: Any) -> Any:
        return self._repeat(super().add, *given, **named)  # type: ignore[misc]

    def set(self, *given: Any, **named: Any) -> Any:
        return self._repeat(super().set, *given, **named)  # type: ignore[misc]

    def touch(self, *given: Any, **named: Any) -> Any:
        return self._repeat(super().touch, *given, **named)  # type: ignore[misc]

    def delete(self, *given: Any, **named: Any) -> Any:
        return self._repeat(super().delete, *given, **named)  # type: ignore[misc]


class RepeatingPyMemcacheCache(_Repeating, PyMemcacheCache):  # type: ignore[misc]
    lost = (OSError, MemcacheUnexpectedCloseError)


class RepeatingPyLibMCCache(_Repeating, PyLibMCCache):  # type: ignore[misc]
    lost = (pylibmc.Error,)
