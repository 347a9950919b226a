"""Each way of breaking the core is caught: checkers, and `Node.check`, see what they look for."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.replication.mutants import CHECKED, MUTANTS
from tests.replication.simulation import run

if TYPE_CHECKING:
    from collections.abc import Sequence

    from _pytest.mark import ParameterSet

    from tests.replication.mutants import Mutant

pytestmark = pytest.mark.slow

#: Which no world shows yet of those that are looked through. A row goes with that.
UNSEEN = {
    "what a peer has that refuses is not heard",
    "what is taken back makes room among our deletions",
    "who just started is believed to do so for ever",
    "who stands still looks for others meanwhile",
    "who starts keeps a part of a copy that nobody takes",
}


def params(mutants: Sequence[Mutant]) -> list[ParameterSet]:
    return [
        pytest.param(
            mutant,
            id=mutant.name,
            marks=[pytest.mark.xfail(strict=True)] if mutant.name in UNSEEN else [],
        )
        for mutant in mutants
    ]


@pytest.mark.parametrize("mutant", params(MUTANTS))
def test_a_broken_promise_is_noticed(mutant):
    report = mutant.hunt()
    assert report is not None, "no checker noticed"


@pytest.mark.parametrize("mutant", params(CHECKED))
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
