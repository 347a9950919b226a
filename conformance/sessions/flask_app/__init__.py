"""Flask-Session on a memcached or a pair: what becomes of its sessions, by configuration."""

from __future__ import annotations

from conformance.sessions.wsgi import kind_maker

CONFIGURATION_VARIABLE = "SESSIONS_FLASK"
MODULES = ("flask", "flask_session", "cachelib", "msgspec", "pymemcache", "pylibmc")

_kind = kind_maker(
    "flask", "conformance.sessions.flask_app.site:application", CONFIGURATION_VARIABLE, MODULES
)

KINDS = (
    _kind("pymemcache repeating"),
    _kind("pylibmc repeating"),
    _kind("cachelib repeating"),
    _kind("pymemcache repeating two", two_addresses=True),
    _kind("pylibmc repeating two", two_addresses=True),
    _kind("pymemcache", recommended=False),
    _kind("pymemcache noreply", recommended=False),
    _kind("pylibmc", recommended=False),
    _kind("cachelib", recommended=False),
)
