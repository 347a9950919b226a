"""Each way of breaking the core is caught: the checkers see what they look for."""

from __future__ import annotations

import pytest

from tests.replication.mutants import MUTANTS
from tests.replication.simulation import run

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("mutant", MUTANTS, ids=[mutant.name for mutant in MUTANTS])
def test_a_broken_promise_is_noticed(mutant):
    report = mutant.hunt()
    assert report is not None, "no checker noticed"


def test_a_mutant_leaves_nothing_behind():
    before = [[owner.__dict__.get(name) for owner, name, _ in mutant.changes] for mutant in MUTANTS]
    for mutant in MUTANTS:
        with mutant.applied():
            pass
    after = [[owner.__dict__.get(name) for owner, name, _ in mutant.changes] for mutant in MUTANTS]
    assert after == before
    assert run(0).found == []
