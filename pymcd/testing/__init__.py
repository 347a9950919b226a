"""The server as a fake for tests: started in a millisecond, with a clock, faults and a call log.

It is the same server, never a second implementation: only its host differs. `MemcachedServer` runs
it in a thread for any kind of test, `MemcachedPair` runs two that replicate, `serve` runs one in
the event loop of a trio test. The fixtures for pytest are in `plugin`.

The names are imported when first used: pytest loads the plugin, and with it this module, in every
run, also in those that want none of it. Nor does `dir` know them before: freezegun looks at
whatever `dir` names, in every module that there is.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .asynchronous import AsyncMemcachedServer, serve
    from .calls import Call
    from .controls import Item, Items, Snapshot
    from .faults import Fault, FaultBuilder
    from .findings import ClockWarning, FaultWarning, VerifyError
    from .pair import MemcachedPair
    from .record import CallLog
    from .server import MemcachedServer

__all__ = [
    "AsyncMemcachedServer",
    "Call",
    "CallLog",
    "ClockWarning",
    "Fault",
    "FaultBuilder",
    "FaultWarning",
    "Item",
    "Items",
    "MemcachedPair",
    "MemcachedServer",
    "Snapshot",
    "VerifyError",
    "serve",
]

_HOMES = {
    "AsyncMemcachedServer": "asynchronous",
    "Call": "calls",
    "CallLog": "record",
    "Fault": "faults",
    "FaultBuilder": "faults",
    "ClockWarning": "findings",
    "FaultWarning": "findings",
    "Item": "controls",
    "Items": "controls",
    "MemcachedPair": "pair",
    "MemcachedServer": "server",
    "Snapshot": "controls",
    "VerifyError": "findings",
    "serve": "asynchronous",
}


def __getattr__(name: str) -> object:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(f".{home}", __name__), name)
    return value
