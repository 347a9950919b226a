"""Counters of the store and of the protocols, named as `stats` names them."""

from __future__ import annotations


class Counters:
    """What is counted beside the slab classes; `stats reset` replaces the whole object."""

    __slots__ = (
        "auth_cmds",
        "auth_errors",
        "bytes_read",
        "bytes_written",
        "cas_misses",
        "conn_yields",
        "decr_misses",
        "delete_misses",
        "flush_cmds",
        "get_expired",
        "get_flushed",
        "get_misses",
        "incr_misses",
        "meta_cmds",
        "store_no_memory",
        "store_too_large",
        "touch_cmds",
        "touch_misses",
    )

    def __init__(self) -> None:
        self.auth_cmds = 0
        self.auth_errors = 0
        self.bytes_read = 0
        self.bytes_written = 0
        self.cas_misses = 0
        self.conn_yields = 0
        self.decr_misses = 0
        self.delete_misses = 0
        self.flush_cmds = 0
        self.get_expired = 0
        self.get_flushed = 0
        self.get_misses = 0
        self.incr_misses = 0
        self.meta_cmds = 0
        self.store_no_memory = 0
        self.store_too_large = 0
        self.touch_cmds = 0
        self.touch_misses = 0
