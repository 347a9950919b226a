"""Which keys come first, and what is left out where memory ends."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pymcd.moving.plan import Listed, Plan

KEYS = st.lists(st.tuples(st.binary(min_size=1, max_size=250), st.integers(0, 20)), max_size=60)


def listed(key: bytes, size: int = 100, end: int = 0) -> Listed:
    return Listed(key, size, end)


def all_of(plan: Plan) -> list[Listed]:
    taken: list[Listed] = []
    while more := plan.take(7, 1 << 20):
        taken += more
    return taken


@pytest.mark.parametrize(("newest_first", "order"), [(True, b"cab"), (False, b"bac")])
def test_the_order_is_that_of_use(newest_first, order):
    plan = Plan(1 << 20, newest_first=newest_first)
    for key, age in ((b"a", 5), (b"b", 3), (b"c", 9)):
        plan.add(listed(key, end=7), age)
    assert plan.count == 3
    assert all_of(plan) == [listed(bytes([key]), end=7) for key in order]
    assert plan.take(1, 1) == []


@given(KEYS)
def test_nothing_is_forgotten_where_there_is_memory(keys):
    plan = Plan(1 << 20, newest_first=True)
    for key, age in keys:
        plan.add(listed(key, age), age)
    taken = all_of(plan)
    assert Counter(taken) == Counter(listed(key, age) for key, age in keys)
    assert [each.size_bytes for each in taken] == sorted((age for _, age in keys), reverse=True)
    assert (plan.count, plan.left_out) == (len(keys), 0)


@given(KEYS, st.integers(0, 2000))
def test_what_was_not_used_for_longest_is_left_out(keys, most_bytes):
    plan = Plan(most_bytes, newest_first=True)
    for key, age in sorted(keys, key=lambda each: each[1]):
        plan.add(listed(key, age), age)
    taken = all_of(plan)
    assert plan.count == len(taken)
    assert plan.count + plan.left_out == len(keys)
    assert sum(len(each.key) for each in taken) <= most_bytes
    left = Counter(age for _, age in keys) - Counter(each.size_bytes for each in taken)
    if taken and left:
        assert max(left) <= min(each.size_bytes for each in taken)


def test_items_are_taken_by_number_and_by_size_but_one_at_least():
    plan = Plan(1 << 20, newest_first=True)
    for size in (10, 10, 10, 500, 10, 1 << 40):
        plan.add(listed(b"k", size), 1)
    sizes = []
    while taken := plan.take(2, 100):
        sizes.append([each.size_bytes for each in taken])
    assert sizes == [[10, 10], [10], [500], [10], [2**32 - 1]]
