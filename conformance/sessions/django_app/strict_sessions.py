"""Sessions in the cache that tell an error from a session that is not there.

Django's own `cache` engine takes every error of the cache for "no such session": the user is given
a new one and is logged out, though his session is safe. With this engine he sees an error once.
"""

from __future__ import annotations

from typing import Any

from django.contrib.sessions.backends import cache
from django.core.cache.backends.base import InvalidCacheKey


class SessionStore(cache.SessionStore):  # type: ignore[misc]  # Django has no annotations
    def load(self) -> dict[str, Any]:
        try:
            found = self._cache.get(self.cache_key)
        except InvalidCacheKey:  # a cookie that somebody made up
            found = None
        if found is None:
            self._session_key = None
            return {}
        return dict(found)
