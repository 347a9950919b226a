"""Each way of breaking the core is caught: checkers, and `Node.check`, see what they look for."""

from __future__ import annotations

from operator import attrgetter

import pytest

from tests.replication.mutants import CHECKED, MUTANTS
from tests.replication.simulation import run

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("mutant", MUTANTS, ids=attrgetter("name"))
def test_a_broken_promise_is_noticed(mutant):
    report = mutant.hunt()
    assert report is not None, "no checker noticed"


@pytest.mark.parametrize("mutant", CHECKED, ids=attrgetter("name"))
def test_a_node_that_does_not_fit_together_is_noticed(mutant):
    report = mutant.hunt()
    assert report is not None, "check() did not notice"


def test_a_mutant_leaves_nothing_behind():
    mutants = [*MUTANTS, *CHECKED]
    before = [[owner.__dict__.get(name) for owner, name, _ in mutant.changes] for mutant in mutants]
    for mutant in mutants:
        with mutant.applied():
            pass
    after = [[owner.__dict__.get(name) for owner, name, _ in mutant.changes] for mutant in mutants]
    assert after == before
    assert run(0).found == []
