"""What the simulation does not reach is named, and is there."""

from __future__ import annotations

import pytest

from tests.replication.reached import CORE, UNREACHED, statements


@pytest.mark.parametrize("module", UNREACHED)
def test_each_function_that_is_named_is_there(module):
    functions = {each.function for each in statements(CORE / module)}
    assert UNREACHED[module].keys() - functions == set()


def test_each_statement_is_found_once():
    for path in CORE.glob("*.py"):
        places = [(each.first, each.text) for each in statements(path)]
        assert len(places) == len({*places}) or path.name == "__init__.py"
