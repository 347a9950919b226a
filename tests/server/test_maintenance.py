"""Chores, and the collector that must never stop the server for long."""

from __future__ import annotations

import gc
from math import inf

import pytest
import trio
import trio.testing

from pymcd.server import maintenance
from pymcd.server.maintenance import RETRY_AFTER_S, Chore, run_chores
from pymcd.server.memory import keep_on

from ..interpreters import of_cpython
from .helpers import TrioClock, ask, serving


async def test_a_chore_is_done_when_it_says_so(autojump_clock: trio.testing.MockClock) -> None:
    delays = iter([0.0, 5.0, 60.0, inf])
    times: list[float] = []

    def step() -> float:
        times.append(trio.current_time())
        return next(delays)

    begin = trio.current_time()
    with trio.move_on_after(1000):
        await Chore(step).run(lambda error: None)
    assert [time - begin for time in times] == [0, 0, 5, 65]


async def test_a_chore_can_be_woken(autojump_clock: trio.testing.MockClock) -> None:
    chore = Chore(lambda: inf)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(chore.run, lambda error: None)
        await trio.sleep(100)
        assert chore.turns == 1
        chore.wake()
        await trio.sleep(100)
        assert chore.turns == 2
        nursery.cancel_scope.cancel()


async def test_one_task_does_many_each_when_it_is_due(
    autojump_clock: trio.testing.MockClock,
) -> None:
    often = Chore(lambda: 10.0)
    seldom = Chore(lambda: 35.0)

    def step() -> float:
        if resting.turns == 2:
            seldom.wake()
        return inf

    resting = Chore(step)
    chores = [resting, often, seldom]
    async with trio.open_nursery() as nursery:
        nursery.start_soon(run_chores, chores, lambda error: None)
        await trio.sleep(101)
        assert [chore.turns for chore in chores] == [1, 11, 3]
        resting.rouse()
        often.rouse()  # waits for a time
        await trio.sleep(1)
        assert [chore.turns for chore in chores] == [2, 11, 4]
        nursery.cancel_scope.cancel()


async def test_an_error_that_cannot_be_told_costs_no_chore() -> None:
    def step() -> float:
        if chore.turns == 1:
            raise MemoryError
        nursery.cancel_scope.cancel()
        return inf

    def tell(error: Exception) -> None:
        raise error

    chore = Chore(step)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(keep_on, lambda: run_chores([chore], tell), lambda error: None)
    assert chore.turns == 2


async def test_a_chore_that_wakes_itself_lets_others_run() -> None:
    async with trio.open_nursery() as nursery:

        def step() -> float:
            chore.wake()
            return inf

        chore = Chore(step)
        nursery.start_soon(chore.run, lambda error: None)
        for _ in range(10):
            await trio.lowlevel.checkpoint()
        assert 3 < chore.turns < 20
        nursery.cancel_scope.cancel()


async def test_a_chore_that_raises_is_tried_again(autojump_clock: trio.testing.MockClock) -> None:
    errors: list[Exception] = []

    def step() -> float:
        raise ValueError("a bug")

    with trio.move_on_after(2.5 * RETRY_AFTER_S):
        await Chore(step).run(errors.append)
    assert [str(error) for error in errors] == ["a bug"] * 3


async def test_an_idle_server_goes_to_rest(autojump_clock: trio.testing.MockClock) -> None:
    async with (
        serving(endpoints=[], clock=TrioClock(), use_hub=False) as server,
        trio.open_nursery() as nursery,
    ):
        ours, theirs = trio.testing.memory_stream_pair()
        nursery.start_soon(server.serve_stream, theirs)
        assert await ask(ours, b"set a 0 0 1\r\nx\r\n") == b"STORED\r\n"
        await trio.sleep(60)
        before = [chore.turns for chore in server.chores]
        await trio.sleep(3600)
        assert [chore.turns for chore in server.chores] == before
        await ours.aclose()


async def test_what_has_expired_is_reclaimed_unasked(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with (
        serving(endpoints=[], clock=TrioClock(), use_hub=False) as server,
        trio.open_nursery() as nursery,
    ):
        ours, theirs = trio.testing.memory_stream_pair()
        nursery.start_soon(server.serve_stream, theirs)
        for number in range(10):
            request = b"set key%d 0 5 1\r\nx\r\n" % number
            assert await ask(ours, request) == b"STORED\r\n"
        await trio.sleep(4)
        assert server.service.cache.item_count == 10
        await trio.sleep(5)
        assert server.service.cache.item_count == 0
        await ours.aclose()


@pytest.fixture
def collector() -> object:
    """Leave the collector of the test process as it was."""
    threshold = gc.get_threshold()
    yield gc
    gc.unfreeze()
    gc.set_threshold(*threshold)


@of_cpython("a collector of generations, which can be told when to work")
def test_collections_are_short_for_ever(collector: object) -> None:
    maintenance.tame_collector()
    examined: list[int] = []

    def note(phase: str, info: dict[str, int]) -> None:
        if phase == "start":
            examined.append(info["generation"])

    gc.callbacks.append(note)
    try:
        # More than ten times what used to bring on a collection of the middle generation.
        kept = [[number] for number in range(40 * maintenance.YOUNG_OBJECTS)]
    finally:
        gc.callbacks.remove(note)
    assert len(kept) == 40 * maintenance.YOUNG_OBJECTS
    assert examined
    assert set(examined) == {0}
    frozen = gc.get_freeze_count()
    maintenance.freeze_survivors()
    assert gc.get_freeze_count() >= frozen + 39 * maintenance.YOUNG_OBJECTS
