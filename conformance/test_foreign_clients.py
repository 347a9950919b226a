"""Client libraries of many languages: what passes on memcached passes on pymcd, in the same way.

`python -m conformance.clients.install` fetches them; one that is missing is skipped.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from .clients import runner
from .clients.catalog import CLIENTS, Client
from .clients.setups import Files

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = [pytest.mark.clients, pytest.mark.slow, pytest.mark.timeout(300)]

CASES = [
    pytest.param(client, setup, id=f"{client.name}-{setup}")
    for client in CLIENTS
    for setup in client.setups
]


@pytest.fixture(scope="module")
def files() -> Iterator[Files]:
    with Files() as made:
        yield made


@pytest.mark.parametrize(("client", "setup"), CASES)
def test_client(
    client: Client,
    setup: str,
    files: Files,
    reference: tuple[str, ...],
    subject: tuple[str, ...],
) -> None:
    version = client.version()
    if version is None:
        pytest.skip(
            f"{client.name} or its runtime is not installed: python -m conformance.clients.install"
        )
    if reason := runner.why_not(setup, files):
        pytest.skip(reason)
    real = runner.run_on(reference, client, setup, files)
    if real.failures():  # Now and then a client loses count by itself, which tells nothing.
        real = runner.run_on(reference, client, setup, files)
    ours = runner.run_on(subject, client, setup, files)
    print(f"{client.name} {version}: {real.passed} of {len(real.checks)} pass on memcached")
    assert runner.differences(real, ours) == []
    assert real.passed > 0
