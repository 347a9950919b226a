"""PHP's own sessions, kept by php-memcached, in the configurations that its users choose from.

The application is `index.php`; what is particular to a configuration are PHP's settings. Each
worker is PHP's own web server with several processes: like those of php-fpm they stay, and with
them the connections of `memcached.sess_persistent`.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from conformance.clients.catalog import output_of
from conformance.pair import ways
from conformance.sessions import copied
from conformance.sessions.app import Kind

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from conformance.sessions.app import Setting

APPLICATION = Path(__file__).resolve().parent / "index.php"
PROCESSES = 4

#: What every configuration has. A lock that nobody releases, as its owner died or could not reach
#: the server, ends after LOCK_EXPIRE_S: that is how long those wait who had a request in flight
#: when a node died. Left at 0, it ends with max_execution_time, and never where that is 0 as well.
#: A request waits for a lock for up to 15 s, longer than a lock can be left behind.
LOCK_EXPIRE_S = 10
COMMON = {
    "memcached.sess_locking": "1",
    "memcached.sess_lock_expire": str(LOCK_EXPIRE_S),
    "memcached.sess_lock_wait_min": "10",
    "memcached.sess_lock_wait_max": "50",
    "memcached.sess_lock_retries": "300",
    # Errors go to the log; the application tells them as well.
    "display_errors": "0",
    "log_errors": "0",
}


def why_not() -> str:
    """Say what is missing here; nothing if PHP sessions can be tried."""
    if shutil.which("php") is None:
        return "no php installed (Debian: apt-get install php-cli php-memcached)"
    if not output_of("php", "-r", "echo phpversion('memcached');"):
        return "PHP has no memcached extension (Debian: apt-get install php-memcached)"
    return ""


def _command(settings: Mapping[str, str]) -> Callable[[Setting], Sequence[str]]:
    def command(setting: Setting) -> list[str]:
        all_settings = {
            "session.save_handler": "memcached",
            "session.save_path": ",".join(setting.addresses),
            "session.gc_maxlifetime": str(setting.lifetime_s),
            **COMMON,
            **settings,
        }
        options = [
            word for name, value in all_settings.items() for word in ("-d", f"{name}={value}")
        ]
        return ["php", *options, "-S", f"127.0.0.1:{setting.port}", str(APPLICATION)]

    return command


def kind(
    name: str,
    settings: Mapping[str, str],
    *,
    minding: bool = True,
    recommended: bool = True,
    two_addresses: bool = False,
    way: ways.Way = ways.TEXT,
) -> Kind:
    """Return PHP with these settings; `minding`: the application looks at PHP's warnings."""
    environment = {
        "PHP_CLI_SERVER_WORKERS": str(PROCESSES),
        "SESSIONS_COPIED": copied.text("PHP", "session.php"),
    }
    if not minding:
        environment["MIND_WARNINGS"] = "0"
    return Kind(
        name,
        _command(settings),
        why_not,
        environment,
        locking=settings.get("memcached.sess_locking") != "0",
        recommended=recommended,
        two_addresses=two_addresses,
        way=way,
    )


BINARY = {"memcached.sess_binary_protocol": "1"}
TEXT = {"memcached.sess_binary_protocol": "0"}
STRICT = {"session.use_strict_mode": "1"}
UNLOCKED = {"memcached.sess_locking": "0"}
SASL = {
    "memcached.sess_sasl_username": ways.USER,
    "memcached.sess_sasl_password": ways.PASSWORD,
}
#: Both nodes are known to PHP, which writes to both and reads from the one that is left. One that
#: stands still holds everybody up, 5 s for each command. Never together with sess_persistent:
#: libmemcached then leaves answers of the second server unread, and takes them for those of the
#: next request, on memcached as well.
REPLICAS = {
    "memcached.sess_number_of_replicas": "1",
    "memcached.sess_remove_failed_servers": "1",
    "memcached.sess_server_failure_limit": "1",
}

KINDS = (
    kind("php", BINARY),
    kind("php-text", TEXT),
    kind("php-strict", BINARY | STRICT),
    kind("php-persistent", BINARY | {"memcached.sess_persistent": "1"}),
    kind("php-unlocked", BINARY | UNLOCKED),
    kind("php-sasl", BINARY | SASL, way=ways.WAYS["sasl"]),
    kind("php-unminded", BINARY, minding=False, recommended=False),
    kind("php-strict-unminded", BINARY | STRICT, minding=False, recommended=False),
    # Without locks: those are asked for at one address only, so that nobody gets them there.
    kind("php-two", BINARY | REPLICAS | UNLOCKED, two_addresses=True, recommended=False),
    kind("php-two-locked", BINARY | REPLICAS, two_addresses=True, recommended=False),
)
