"""Counters of the store, named as `stats` names them."""

from __future__ import annotations


class Counters:
    """What the store and the protocols count beside the slab classes; all zeroed together."""

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
        for name in self.__slots__:
            setattr(self, name, 0)
