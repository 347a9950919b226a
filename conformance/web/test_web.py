"""A server that is asked how it does, shortened: what is right must hold; times are not judged."""

from __future__ import annotations

import pytest

from conformance.trial import TrialError, check

from .__main__ import TRIALS
from .scrapes import cpu_s, value


@pytest.mark.parametrize("name", TRIALS)
def test_trial(name: str) -> None:
    check(TRIALS[name], scale=0.01)


def test_values_are_found() -> None:
    text = "a_b 1\nmemcached_process_user_cpu_seconds_total 1.5\na 2\n"
    text += "memcached_process_system_cpu_seconds_total 0.25\n"
    assert value(text, "a") == 2
    assert cpu_s(text) == 1.75
    with pytest.raises(TrialError):
        value(text, "b")
