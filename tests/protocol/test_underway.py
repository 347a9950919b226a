"""Memory under way: what is counted, what fits, and who gives way when it does not."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from pymcd.protocol.underway import STALLED_S, Holder, UnderWay
from tests.protocol.helpers import make_service

if TYPE_CHECKING:
    from pymcd.service import Service

MEBIBYTE = 1 << 20


class Taker(Holder):
    """Takes note of what it is told."""

    def __init__(self, name: str = "") -> None:
        super().__init__()
        self.name = name
        self.gave_up = False

    def give_up(self) -> None:
        assert not self.held_bytes
        self.gave_up = True


def make(**settings: Any) -> tuple[Service, UnderWay]:
    service = make_service(**settings)
    return service, service.under_way


def pass_time(service: Service, seconds: float) -> None:
    service.clock.advance(seconds)  # type: ignore[attr-defined]
    service.tick()


def test_what_is_held_is_counted():
    _, under_way = make()
    one, two = Taker(), Taker()
    for holder, held, total in ((one, 10, 10), (two, 5, 15), (one, 30, 35), (one, 1, 6)):
        assert under_way.charge(holder, held)
        assert under_way.held_bytes == total
        under_way.check()
    under_way.release(one)
    under_way.release(one)
    assert under_way.held_bytes == 5
    under_way.release(two)
    under_way.release(Taker())
    assert under_way.held_bytes == 0
    under_way.check()


@pytest.mark.parametrize(
    ("memory", "item_max", "limit", "one"),
    [
        (64, 1, 32, 8),
        (1024, 1, 512, 128),
        (64, 32, 32, 32),  # a value alone can always arrive
        (2, 1, 1, 1),
    ],
)
def test_the_bound_follows_the_memory(memory, item_max, limit, one):
    _, under_way = make(
        memory_limit_bytes=memory * MEBIBYTE, item_size_max_bytes=item_max * MEBIBYTE
    )
    assert under_way.limit_bytes == limit * MEBIBYTE
    assert under_way.holder_max_bytes == one * MEBIBYTE


def test_the_bound_follows_the_memory_while_it_is_changed():
    service, under_way = make()
    taker = Taker()
    assert under_way.charge(taker, 8 * MEBIBYTE)
    service.rebalancer.set_limit(8 * MEBIBYTE)
    assert under_way.limit_bytes == 4 * MEBIBYTE
    assert not under_way.charge(taker, 8 * MEBIBYTE + 1)
    assert under_way.charge(taker, 8 * MEBIBYTE - 1), "less is always possible"


def test_one_may_not_take_it_all():
    _, under_way = make()
    taker = Taker()
    assert under_way.charge(taker, under_way.holder_max_bytes)
    assert not under_way.charge(taker, under_way.holder_max_bytes + 1)
    assert taker.held_bytes == under_way.held_bytes == under_way.holder_max_bytes


def test_a_newcomer_is_refused_while_all_others_get_on():
    service, under_way = make()
    takers = [Taker() for _ in range(32)]
    assert all(under_way.charge(taker, MEBIBYTE) for taker in takers)
    pass_time(service, STALLED_S - 1)
    newcomer = Taker()
    assert not under_way.charge(newcomer, 1)
    assert under_way.held_bytes == 32 * MEBIBYTE
    assert not any(taker.gave_up for taker in [*takers, newcomer])


def test_who_stands_still_longest_gives_way_and_no_more_than_need_be():
    service, under_way = make()
    takers = [Taker(str(number)) for number in range(32)]
    for taker in takers:
        under_way.charge(taker, MEBIBYTE // 2)
    for taker in takers[:2]:  # get on, if not for long
        pass_time(service, 1)
        under_way.charge(taker, MEBIBYTE)
    for taker in takers[2:]:
        under_way.charge(taker, MEBIBYTE // 2 + MEBIBYTE // 16)  # not enough to get on
    pass_time(service, STALLED_S)
    newcomers = [Taker() for _ in range(16)]
    assert all(under_way.charge(newcomer, MEBIBYTE) for newcomer in newcomers)
    under_way.check()
    gone = [taker for taker in takers if taker.gave_up]
    assert gone == takers[2:8]
    assert under_way.given_up == 6
    assert under_way.held_bytes + MEBIBYTE * 9 // 16 > under_way.limit_bytes


def test_who_takes_its_reply_gets_on():
    service, under_way = make()
    reader, sleeper = Taker(), Taker()
    under_way.charge(reader, 8 * MEBIBYTE)
    under_way.charge(sleeper, 8 * MEBIBYTE)
    pass_time(service, STALLED_S)
    under_way.charge(reader, 4 * MEBIBYTE)
    assert all(under_way.charge(Taker(), 7 * MEBIBYTE) for _ in range(3))
    assert (reader.gave_up, sleeper.gave_up) == (False, True)


def test_who_asks_for_more_is_not_told_to_give_up():
    service, under_way = make()
    taker = Taker()
    under_way.charge(taker, MEBIBYTE)
    for _ in range(4):
        under_way.charge(Taker(), 31 * MEBIBYTE // 4)
    pass_time(service, STALLED_S)
    assert under_way.charge(taker, 2 * MEBIBYTE)
    assert not taker.gave_up


class Model(RuleBasedStateMachine):
    """Whatever is charged and released: the sum is right, and within the bound."""

    def __init__(self) -> None:
        super().__init__()
        self.service, self.under_way = make()
        self.takers = [Taker() for _ in range(12)]
        self.held = dict.fromkeys(self.takers, 0)

    @rule(number=st.integers(0, 11), held=st.integers(0, 9 << 20))
    def charge(self, number, held):
        taker = self.takers[number]
        if self.under_way.charge(taker, held):
            self.held[taker] = held
        assert not taker.gave_up
        for other in self.takers:
            if other.gave_up:
                other.gave_up = False
                self.held[other] = 0

    @rule(number=st.integers(0, 11))
    def release(self, number):
        self.under_way.release(self.takers[number])
        self.held[self.takers[number]] = 0

    @rule(seconds=st.integers(1, 3))
    def wait(self, seconds):
        pass_time(self.service, seconds)

    @invariant()
    def agrees(self):
        self.under_way.check()
        assert {taker: taker.held_bytes for taker in self.takers} == self.held
        assert self.under_way.held_bytes == sum(self.held.values())
        assert self.under_way.held_bytes <= self.under_way.limit_bytes


TestModel = Model.TestCase
