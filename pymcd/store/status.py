"""The words in which the store answers and is asked: what all three protocols share."""

from __future__ import annotations

from enum import IntEnum


class Status(IntEnum):
    """The outcome of an operation. An IntEnum: hashing a plain Enum member runs Python code."""

    STORED = 0
    NOT_STORED = 1
    EXISTS = 2  #: the cas unique did not match
    NOT_FOUND = 3
    TOO_LARGE = 4
    NO_MEMORY = 5
    NON_NUMERIC = 6
    NO_MEMORY_READING = 7  #: for the further chunks of a large value; the old one stays


class StoreMode(IntEnum):
    """The storage commands. The numbers are ours."""

    SET = 0
    ADD = 1
    REPLACE = 2
    APPEND = 3
    PREPEND = 4
    CAS = 5


class Lookup(IntEnum):
    """What a look-up met. # memcached: do_item_get, was_found"""

    NOT_FOUND = 0
    FOUND = 1
    FLUSHED = 2
    EXPIRED = 3
