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

#: Which show in none of the first forty worlds or so: a trouble or a world by hand is missing. Some
#: show later, or when the core has changed. A row goes with what makes it show at once.
UNSEEN = {
    "who starts anew votes as if it were the same",
    "a read waits for the first batch",
    "an older link takes the place of a later one",
    "what is still to be sent counts as asked",
    "after a change of versions alone all may be read",
    "a new life has what the former one had",
    "all that a peer has deleted makes room among our deletions",
    "an eviction travels as a deletion",
    "nobody's data keeps an empty node from serving",
    "two at once bring in sync who follows neither",
    "two that were linked before they began by different times stay so",
    "what is evicted during a first copy leaves no trace",
    "what is in doubt is forgotten before anybody has told what is in its place",
    "what is taken back makes room among our deletions",
    "what may have been deleted is dropped, and who is in sync is not told",
    "what was executed for others is forgotten with the link, and executed again",
    "who asks for votes asks on when the one that it missed is there again",
    "who departs knew all that there was",
    "who is behind is not owed flushes",
    "who is brought in sync has all that it was told meanwhile, and all before",
    "who is deposed executes again what the other one has seen",
    "who leaves executes for others",
    "who starts keeps a part of a copy that nobody takes",
    "who stood still for long goes on at once",
}
#: In so many worlds these are looked for.
_UNSEEN_WITHIN = 5


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
    report = mutant.hunt(_UNSEEN_WITHIN if mutant.name in UNSEEN else None)
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
