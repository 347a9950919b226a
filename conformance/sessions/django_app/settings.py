"""Settings of the application, and the configurations that are tried; the environment names one.

`CONFIGURATIONS` hold what users of a memcached, or a pair, put into CACHES, and the engine of
sessions. `LOCATION` is added.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from conformance.pair.ways import PASSWORD, USER
from conformance.sessions import copied
from conformance.sessions.app import ADDRESSES_VARIABLE, LIFETIME_VARIABLE
from conformance.sessions.clients import PYLIBMC_ONE, PYLIBMC_TWO, PYMEMCACHE_ONE, PYMEMCACHE_TWO

from . import CONFIGURATION_VARIABLE

_DJANGO = "django.core.cache.backends.memcached"
_ENGINE = "django.contrib.sessions.backends"
#: With sessions that tell an error from nothing.
_STRICT = "sessions_pymemcache"

for _file in ("sessions_pymemcache.py", "sessions_pylibmc.py"):
    copied.install("Django", _file)

CONFIGURATIONS: dict[str, tuple[dict[str, Any], str]] = {
    "pymemcache": ({"BACKEND": f"{_DJANGO}.PyMemcacheCache"}, f"{_ENGINE}.cache"),
    "pymemcache two": ({"BACKEND": f"{_DJANGO}.PyMemcacheCache"}, f"{_ENGINE}.cache"),
    "pymemcache ignore_exc": (
        {"BACKEND": f"{_DJANGO}.PyMemcacheCache", "OPTIONS": {"ignore_exc": True}},
        f"{_ENGINE}.cache",
    ),
    "pymemcache cached_db": ({"BACKEND": f"{_DJANGO}.PyMemcacheCache"}, f"{_ENGINE}.cached_db"),
    "pymemcache strict": (
        {"BACKEND": f"{_DJANGO}.PyMemcacheCache", "OPTIONS": PYMEMCACHE_ONE},
        _STRICT,
    ),
    "pymemcache repeating": (
        {"BACKEND": "sessions_pymemcache.Cache", "OPTIONS": PYMEMCACHE_ONE},
        _STRICT,
    ),
    "pymemcache repeating cached_db": (
        {"BACKEND": "sessions_pymemcache.Cache", "OPTIONS": PYMEMCACHE_ONE},
        f"{_ENGINE}.cached_db",
    ),
    "pymemcache repeating two": (
        {"BACKEND": "sessions_pymemcache.Cache", "OPTIONS": PYMEMCACHE_TWO},
        _STRICT,
    ),
    "pymemcache repeating, Django's engine": (
        {"BACKEND": "sessions_pymemcache.Cache", "OPTIONS": PYMEMCACHE_ONE},
        f"{_ENGINE}.cache",
    ),
    "pylibmc two": ({"BACKEND": f"{_DJANGO}.PyLibMCCache"}, f"{_ENGINE}.cache"),
    "pylibmc": ({"BACKEND": f"{_DJANGO}.PyLibMCCache"}, f"{_ENGINE}.cache"),
    "pylibmc repeating": (
        {"BACKEND": "sessions_pylibmc.Cache", "OPTIONS": {"behaviors": PYLIBMC_ONE}},
        "sessions_pylibmc",
    ),
    "pylibmc repeating sasl": (
        {
            "BACKEND": "sessions_pylibmc.Cache",
            "OPTIONS": {
                "behaviors": PYLIBMC_ONE,
                "binary": True,
                "username": USER,
                "password": PASSWORD,
            },
        },
        "sessions_pylibmc",
    ),
    "pylibmc repeating two": (
        {"BACKEND": "sessions_pylibmc.Cache", "OPTIONS": {"behaviors": PYLIBMC_TWO}},
        "sessions_pylibmc",
    ),
}

_cache, SESSION_ENGINE = CONFIGURATIONS[os.environ[CONFIGURATION_VARIABLE]]
CACHES = {"default": {**_cache, "LOCATION": os.environ[ADDRESSES_VARIABLE].split(",")}}
SESSION_COOKIE_AGE = int(os.environ[LIFETIME_VARIABLE])

INSTALLED_APPS = ["django.contrib.sessions"]
MIDDLEWARE = ["django.contrib.sessions.middleware.SessionMiddleware"]
DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": Path(os.environ["SESSIONS_FOLDER"]) / "sessions.sqlite3",
        "OPTIONS": {"timeout": 30, "transaction_mode": "IMMEDIATE"},
    },
}
ROOT_URLCONF = "conformance.sessions.django_app.views"
WSGI_APPLICATION = "conformance.sessions.django_app.site.application"
SECRET_KEY = "of trials"
ALLOWED_HOSTS = ["127.0.0.1"]
