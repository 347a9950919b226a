"""Options of Python's two memcached clients with which an application survives the loss of a node.

They make an error come soon, and the next attempt reach a server that lives. The next attempt is
the application's: neither client repeats a command that failed where there is one address. What
does that is in `django_app.caches` and `flask_app.clients`.

ONE is for one address, in front of a pair: behind it another node answers, and the address must
never be given up. TWO is for the addresses of both nodes: an error leads to the other one for
DEAD_S, then the first one is tried again. A server that was frozen for less than half a second
may still execute what it was asked meanwhile, so nobody should be less patient than that.
"""

from __future__ import annotations

from typing import Any

DEAD_S = 5

#: Of Client and PooledClient, too.
PYMEMCACHE_PLAIN: dict[str, Any] = {"connect_timeout": 1, "timeout": 5, "no_delay": True}
PYMEMCACHE_ONE: dict[str, Any] = {
    **PYMEMCACHE_PLAIN,
    # HashClient answers None, as if there were nothing, for `retry_timeout` after an error; and
    # after `retry_attempts` it gives a server up for `dead_timeout`.
    "retry_timeout": 0,
    "retry_attempts": 1_000_000_000,
}
PYMEMCACHE_TWO: dict[str, Any] = {
    "connect_timeout": 0.5,
    "timeout": 0.5,
    "no_delay": True,
    "retry_attempts": 0,
    "dead_timeout": DEAD_S,
}

#: `behaviors`. The first two times are in milliseconds, the others in microseconds and seconds.
PYLIBMC_ONE: dict[str, Any] = {"tcp_nodelay": True, "connect_timeout": 1000}
PYLIBMC_TWO: dict[str, Any] = {
    "tcp_nodelay": True,
    "connect_timeout": 500,
    "_poll_timeout": 500,
    "receive_timeout": 500_000,
    "send_timeout": 500_000,
    "ketama": True,
    "remove_failed": 1,
    "retry_timeout": 1,
    "dead_timeout": DEAD_S,
}
