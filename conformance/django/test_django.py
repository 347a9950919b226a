"""Django's tests of its memcached caches pass on pymcd where they pass on a real memcached."""

from __future__ import annotations

import importlib.util

import pytest

from ..servers import Server
from . import suite

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module", autouse=True)
def _fetched() -> None:
    for module in suite.MODULES:
        if importlib.util.find_spec(module) is None:
            pytest.skip(f"needs {module}: pip install -e '.[conformance]'")
    if not (suite.tests_folder() / "runtests.py").exists():
        pytest.skip("Django's tests are not fetched: python -m conformance.django")


@pytest.fixture(scope="module")
def on_pymcd() -> dict[str, str]:
    return suite.run()


@pytest.mark.parametrize("case", suite.CASES)
def test_djangos_tests_pass(case, on_pymcd):
    outcomes = {test: word for test, word in on_pymcd.items() if test.startswith(case)}
    assert len(outcomes) > 50
    assert set(outcomes.values()) <= {"ok", "skipped"}


def test_they_end_as_on_a_real_memcached(on_pymcd, reference):
    with Server(reference) as server:
        on_memcached = suite.run(f"127.0.0.1:{server.port}")
    assert on_pymcd == on_memcached
