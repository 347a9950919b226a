"""What is said of a run's end: `tests.replication.checkers`, on caches made by hand."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from pymcd.store import StoreMode
from tests.replication import checkers
from tests.store.helpers import make_cache


class Box(SimpleNamespace):
    __hash__ = object.__hash__  # type: ignore[assignment]  # as a host of a world


def make_host(name, keys, *, evicted=()):
    cache = make_cache()
    for key in keys:
        cache.store(StoreMode.SET, key, b"value")
    return Box(
        name=name, evicted=set(evicted), service=SimpleNamespace(cache=cache), seconds_left=float
    )


@pytest.mark.parametrize(
    ("names", "holding", "evicted", "found"),
    [
        ("ab", "ab", "", 0),
        ("ab", "a", "", 1),
        ("ab", "a", "a", 1),  # it has it again: that is no reason for the other one
        ("ab", "a", "b", 0),
        ("abc", "abc", "", 0),
        ("abc", "ab", "", 1),
        ("abc", "ab", "ab", 1),
        ("abc", "ab", "c", 0),
        ("abc", "a", "", 2),
        ("abc", "a", "b", 0),  # c was brought in sync by b, which had no room for it
        ("abc", "a", "a", 2),
    ],
)
def test_a_key_is_missing_where_there_was_no_room(names, holding, evicted, found):
    hosts = [
        make_host(name, [b"k"] * (name in holding), evicted=[b"k"] * (name in evicted))
        for name in names
    ]
    assert len(checkers.check_converged(hosts)) == found
