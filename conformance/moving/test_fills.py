"""A fill, shortened: what is right must hold; times are not judged."""

from __future__ import annotations

import pytest

from conformance.trial import check

from .__main__ import TRIALS


@pytest.mark.parametrize("name", TRIALS)
def test_trial(reference: tuple[str, ...], name: str) -> None:
    check(TRIALS[name], trials=1, scale=0.01)
