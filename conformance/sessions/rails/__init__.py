"""Sessions of Rack and Rails in memcached, by dalli, in the configurations that users choose from.

The application is `app.ru`, on puma with several threads a worker.
"""

from __future__ import annotations

import functools
import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from conformance.clients.catalog import output_of
from conformance.sessions import copied
from conformance.sessions.app import Kind

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from conformance.sessions.app import Setting

APPLICATION = Path(__file__).resolve().parent / "app.ru"
THREADS = 8

#: Dalli leaves a server alone for 30 s once it could not connect twice; behind a load balancer the
#: next connection leads to the other node, and a second is enough.
SOON = {"down_retry_delay": 1}
AS_SHIPPED: Mapping[str, object] = {}

PACKAGES = "Debian: apt-get install puma ruby-dalli ruby-connection-pool ruby-railties"


def _missing(*libraries: str) -> str:
    if shutil.which("puma") is None:
        return f"no puma installed ({PACKAGES})"
    required = "; ".join(f"require '{each}'" for each in libraries)
    if output_of("ruby", "-e", f"{required}; print 1") != "1":
        return f"Ruby cannot load {', '.join(libraries)} ({PACKAGES})"
    return ""


def _command(setting: Setting) -> Sequence[str]:
    address = f"tcp://127.0.0.1:{setting.port}"
    return [
        "puma",
        "-q",
        "-e",
        "production",
        "-t",
        f"{THREADS}:{THREADS}",
        "-b",
        address,
        str(APPLICATION),
    ]


def _kind(
    name: str,
    store: str,
    *,
    loud: bool = True,
    recommended: bool = True,
    two_addresses: bool = False,
    options: Mapping[str, object] = SOON,
) -> Kind:
    libraries = ["dalli", "rack/session/dalli"]
    if store != "rack":
        libraries.append("action_controller/railtie")
    environment = {
        "SESSIONS_STORE": store,
        "SESSIONS_LOUD": str(int(loud)),
        "SESSIONS_COPIED": copied.text("Rack and Rails", "loud_sessions.rb"),
        "DALLI_OPTIONS": json.dumps(dict(options)),
    }
    return Kind(
        name,
        _command,
        functools.partial(_missing, *libraries),
        environment,
        recommended=recommended,
        two_addresses=two_addresses,
    )


KINDS = (
    _kind("rack", "rack"),
    _kind("rails", "rails"),
    _kind("rails-cache", "cache"),
    # Here as well: a node that came back must be known before the other one dies.
    _kind("rack-two", "rack", two_addresses=True),
    _kind("rails-two", "rails", two_addresses=True),
    _kind("rack-silent", "rack", loud=False, recommended=False),
    _kind("rack-as-shipped", "rack", loud=False, recommended=False, options=AS_SHIPPED),
    _kind("rails-as-shipped", "rails", loud=False, recommended=False, options=AS_SHIPPED),
)
