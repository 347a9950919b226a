"""Settings under which Django's tests run: both of its memcached caches, on one server.

The server is the one that the environment names; without one, this starts one of `pymcd.testing`.
Only the process of the tests imports this module.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from .suite import ADDRESS_VARIABLE

if TYPE_CHECKING:
    from pymcd.testing import MemcachedServer

SERVER: MemcachedServer | None = None
if ADDRESS_VARIABLE in os.environ:
    _LOCATION = os.environ[ADDRESS_VARIABLE]
else:
    from pymcd.testing import MemcachedServer

    SERVER = MemcachedServer().start()
    _LOCATION = SERVER.url

CACHES = {
    "default": {
        "BACKEND": "django.core.cache.backends.memcached.PyMemcacheCache",
        "LOCATION": _LOCATION,
    },
    "pylibmc": {
        "BACKEND": "django.core.cache.backends.memcached.PyLibMCCache",
        "LOCATION": _LOCATION,
    },
}
DATABASES = {
    "default": {"ENGINE": "django.db.backends.sqlite3"},
    "other": {"ENGINE": "django.db.backends.sqlite3"},
}
SECRET_KEY = "of tests"
DEFAULT_AUTO_FIELD = "django.db.models.AutoField"
USE_TZ = False
TEST_RUNNER = "conformance.django.recording.Runner"
