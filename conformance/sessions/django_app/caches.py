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
from pymemcache.exceptions import MemcacheError, MemcacheUnexpectedCloseError

if TYPE_CHECKING:
    from collections.abc import Callable

PATIENCE_S = 10.0
PAUSE_S = 0.1


class _Repeating:
    """Repeats for PATIENCE_S what failed for want of a connection; then the error stays one."""

    _cache: Any

    def is_lost(self, error: Exception) -> bool:
        """Say whether an error speaks of a connection that was lost, or could not be made."""
        raise NotImplementedError

    def _repeat(self, operation: Callable[..., Any], *given: Any, **named: Any) -> Any:
        ends_s = time.monotonic() + PATIENCE_S
        while True:
            try:
                return operation(*given, **named)
            except Exception as error:
                if not self.is_lost(error) or time.monotonic() > ends_s:
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
    """PyMemcacheCache for one address, or both of a pair."""

    def is_lost(self, error: Exception) -> bool:
        # MemcacheError itself is what comes when all servers have been given up for a while.
        lost = isinstance(error, (OSError, MemcacheUnexpectedCloseError))
        return lost or type(error) is MemcacheError


class RepeatingPyLibMCCache(_Repeating, PyLibMCCache):  # type: ignore[misc]
    """PyLibMCCache, which asks twice before it believes that there is nothing.

    libmemcached, at least up to the 1.0 of pylibmc's wheels, takes some time-outs and ends of
    connections for a miss (awesomized/libmemcached#67); its next command says that the server has
    failed.
    """

    def is_lost(self, error: Exception) -> bool:
        refused = isinstance(error, (pylibmc.TooBig, pylibmc.ServerError))
        return isinstance(error, pylibmc.Error) and not refused

    def get(self, key: str, default: Any = None, version: int | None = None) -> Any:
        nothing = object()
        for _ in range(2):
            found = super().get(key, nothing, version)
            if found is not nothing:
                return found
        return default
