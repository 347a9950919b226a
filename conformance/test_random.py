"""The same random commands to pymcd and to memcached: every byte of the answers is the same.

Two machines share one generator. The seeded one is quick and sends most of the commands; the one of
hypothesis sends fewer, but knows best how to make a failing conversation small. The long run by
hand is `python -m conformance.fuzz`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule, run_state_machine_as_test

from .accepted import PENDING_PROTOCOLS
from .differential import Difference, run
from .fuzz import PROTOCOLS, VARIANTS, login_files, pair_of

if TYPE_CHECKING:
    import random

    from .generators import Batch

# How the commands of a run are spread over the variants.
SHARES = {"default": 0.6, "no-cas": 0.1, "no-modern": 0.1, "large-items": 0.1, "login": 0.1}
RUN_COMMANDS_MAX = 10_000
COMPARED = [
    pytest.param(each, marks=pytest.mark.xfail(run=False, reason="not built yet"))
    if each in PENDING_PROTOCOLS
    else each
    for each in PROTOCOLS
]
MACHINE_EXAMPLES = 60
MACHINE_STEPS = 25


def test_every_variant_has_its_share() -> None:
    assert SHARES.keys() == VARIANTS.keys()
    assert sum(SHARES.values()) == pytest.approx(1)


@pytest.mark.timeout(0)
@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("protocol", COMPARED)
def test_random_commands(
    protocol: str,
    variant: str,
    followed: tuple[str, ...],
    subject: tuple[str, ...],
    pytestconfig: pytest.Config,
) -> None:
    if (protocol, variant) == ("binary", "login") and not login_files().has_sasl_users:
        pytest.skip("no saslpasswd2: install sasl2-bin and libsasl2-modules")
    rest = int(pytestconfig.getoption("--commands") * SHARES[variant])
    seed = pytestconfig.getoption("--seed")
    number = 0
    while rest > 0:
        each = f"{seed}/{number}/{variant}"
        pair = pair_of(variant, followed, subject, protocol)
        result = run(pair, each, min(rest, RUN_COMMANDS_MAX))
        if result.difference is not None:
            pytest.fail(str(result.difference), pytrace=False)
        rest -= max(result.commands, 1)
        number += 1


@pytest.mark.timeout(600)  # Making a failure small takes many conversations.
@pytest.mark.parametrize("protocol", COMPARED)
def test_state_machine(protocol: str, followed: tuple[str, ...], subject: tuple[str, ...]) -> None:
    pair = pair_of("default", followed, subject, protocol)

    class Machine(RuleBasedStateMachine):
        """Both servers, emptied; each rule is one batch."""

        sent: ClassVar[list[Batch]] = []

        @initialize()
        def empty(self) -> None:
            self.sent.clear()
            pair.reset()

        @rule(rng=st.randoms(use_true_random=False))
        def say(self, rng: random.Random) -> None:
            batch = pair.protocol.batch(rng)
            self.sent.append(batch)
            answers = pair.compare(batch)
            assert answers is None, str(Difference(self.sent, *answers))

    with pair:
        run_state_machine_as_test(
            Machine,
            settings=settings(
                max_examples=MACHINE_EXAMPLES,
                stateful_step_count=MACHINE_STEPS,
                deadline=None,
                database=None,
                derandomize=True,
                suppress_health_check=list(HealthCheck),
            ),
        )
