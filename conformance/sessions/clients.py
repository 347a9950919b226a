"""What Python's two memcached clients need so that an application survives the loss of a node.

Neither repeats a command that failed where there is one address. So applications do: what failed
for want of a connection is asked again, every PAUSE_S, for PATIENCE_S. The options are those which
make an error come soon, and the next attempt reach a server that lives.

ONE is for one address, in front of a pair: behind it another node answers, and the address must
never be given up. TWO is for the addresses of both nodes: an error leads to the other one for
DEAD_S, then the first one is tried again.
"""

from __future__ import annotations

from typing import Any

import pylibmc
from pymemcache.exceptions import MemcacheError, MemcacheUnexpectedCloseError

PATIENCE_S = 10.0
PAUSE_S = 0.1
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

#: Errors of pylibmc that would come again: what was asked is refused.
_PYLIBMC_REFUSALS = (
    pylibmc.BadKeyProvided,
    pylibmc.ClientError,
    pylibmc.NotFound,
    pylibmc.NotSupportedError,
    pylibmc.ProtocolError,
    pylibmc.ServerError,
    pylibmc.TooBig,
)


def lost_by_pymemcache(error: Exception) -> bool:
    """Say whether an error speaks of a connection that was lost, or could not be made."""
    # MemcacheError itself is what HashClient raises when it has given up all servers for a while.
    lost = isinstance(error, (OSError, MemcacheUnexpectedCloseError))
    return lost or type(error) is MemcacheError


def lost_by_pylibmc(error: Exception) -> bool:
    """Say whether an error speaks of a connection that was lost, or could not be made."""
    return isinstance(error, pylibmc.Error) and not isinstance(error, _PYLIBMC_REFUSALS)
