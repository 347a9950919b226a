"""Django's sessions in a memcached or a pair: what becomes of them, by configuration."""

from __future__ import annotations

import importlib.util
import sys

from conformance.sessions.app import Kind, Setting

CONFIGURATION_VARIABLE = "SESSIONS_DJANGO"
MODULES = ("django", "pymemcache", "pylibmc")


def why_not() -> str:
    missing = [name for name in MODULES if importlib.util.find_spec(name) is None]
    return f"not installed: {', '.join(missing)} (pip install -e '.[conformance]')" * bool(missing)


def _command(setting: Setting) -> list[str]:
    application = "conformance.sessions.django_app.site:application"
    return [sys.executable, "-m", "conformance.sessions.wsgi", application, str(setting.port)]


def _kind(configuration: str, *, recommended: bool = True, two_addresses: bool = False) -> Kind:
    return Kind(
        f"django {configuration}",
        _command,
        why_not,
        {CONFIGURATION_VARIABLE: configuration},
        recommended=recommended,
        two_addresses=two_addresses,
    )


KINDS = (
    _kind("pymemcache repeating"),
    _kind("pylibmc repeating"),
    _kind("pymemcache repeating two", two_addresses=True),
    _kind("pymemcache", recommended=False),
    _kind("pymemcache ignore_exc", recommended=False),
    _kind("pymemcache strict", recommended=False),
    _kind("pymemcache cached_db", recommended=False),
    _kind("pylibmc", recommended=False),
)
