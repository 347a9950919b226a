"""Tomcats on the bucket of a pair, shortened; how long anything took is not judged."""

from __future__ import annotations

import pytest

from conformance.trial import check

from .bucket import TRIALS
from .install import TOMCAT

needs_tomcat = pytest.mark.skipif(
    bool(TOMCAT.why_not()), reason=TOMCAT.why_not() or "Tomcat is there"
)


@needs_tomcat
@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("name", list(TRIALS))
def test_bucket(name: str) -> None:
    check(TRIALS[name], trials=1, scale=0.5)
