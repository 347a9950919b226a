"""Django's sessions in a memcached or a pair: what becomes of them, by configuration."""

from __future__ import annotations

from conformance.pair.ways import WAYS
from conformance.sessions.wsgi import kind_maker

CONFIGURATION_VARIABLE = "SESSIONS_DJANGO"
MODULES = ("django", "pymemcache", "pylibmc")

_kind = kind_maker(
    "django", "conformance.sessions.django_app.site:application", CONFIGURATION_VARIABLE, MODULES
)

KINDS = (
    _kind("pymemcache repeating"),
    _kind("pylibmc repeating"),
    _kind("pylibmc repeating sasl", way=WAYS["sasl"]),
    _kind("pymemcache repeating two", two_addresses=True),
    _kind("pylibmc repeating two", two_addresses=True),
    _kind("pymemcache repeating cached_db"),
    _kind("pymemcache", recommended=False),
    _kind("pymemcache two", recommended=False, two_addresses=True),
    _kind("pymemcache repeating, Django's engine", recommended=False),
    _kind("pymemcache ignore_exc", recommended=False),
    _kind("pymemcache strict", recommended=False),
    _kind("pymemcache cached_db", recommended=False),
    _kind("pylibmc", recommended=False),
    _kind("pylibmc two", recommended=False, two_addresses=True),
)
