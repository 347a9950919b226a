"""What is free within the heap of the C library goes back to the system, a little at a time."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from math import inf

import pytest
import trio

from pymcd.clock import SystemClock
from pymcd.server import heap as module
from pymcd.server.heap import (
    BLOCK_SIZES,
    BLOCKS_PER_STEP,
    MORE_BYTES,
    MORE_PART,
    REST_PER_BLOCK_S,
    SETTLE_S,
    Heap,
    glibc,
)
from pymcd.startup import PYPY_COLLECTOR

from .helpers import ask, serving

PAGE = 4096


class Library:
    """A heap with so many holes of a block's size, and so many smaller ones."""

    def __init__(self, holes: int = 0, small: int = 0) -> None:
        self.holes = holes
        self.small = small
        self.end = 1 << 30
        self.taken: dict[int, int] = {}
        self.given: list[tuple[int, int]] = []
        self.calls = 0
        self.grows = True
        self.broken = False

    def malloc(self, size: int) -> int | None:
        self.calls += 1
        if self.holes:
            self.holes -= 1
        elif self.small and size == min(BLOCK_SIZES):
            self.small -= 1
        elif self.grows:
            self.end += 2 * size
        else:
            return None
        block = 16 + self.calls * (max(BLOCK_SIZES) + 16)
        self.taken[block] = size
        return block

    def free(self, block: int) -> None:
        self.calls += 1
        del self.taken[block]

    def sbrk(self, more: int) -> int:
        assert more == 0
        if self.broken:
            raise MemoryError
        return self.end

    def madvise(self, start: int, size: int, advice: int) -> int:
        assert start % PAGE == size % PAGE == 0
        block = next(reversed(self.taken))
        assert block <= start <= start + size <= block + self.taken[block]
        assert size > self.taken[block] - 2 * PAGE
        self.given.append((start, size))
        return 0


class Process:
    """How much memory it has."""

    def __init__(self) -> None:
        self.resident = 50 * MORE_BYTES

    def __call__(self) -> int:
        return self.resident


def heap_of(library: Library) -> tuple[Heap, Process, list[bool]]:
    process, woken = Process(), []
    heap = Heap(library, process)
    heap.wake = lambda: woken.append(True)
    assert heap.step() == inf
    return heap, process, woken


def finish(heap: Heap, library: Library) -> None:
    """Let it settle and work until it sleeps; no step does much."""
    assert heap.step() == SETTLE_S
    for _ in range(1000):
        before = library.calls
        delay_s = heap.step()
        assert library.calls - before <= 2 * BLOCKS_PER_STEP
        if delay_s == inf:
            assert not library.taken
            return
    raise AssertionError("it never sleeps")


def test_holes_are_given_back_when_clients_have_left():
    library = Library(1000)
    heap, process, woken = heap_of(library)
    heap.left()
    heap.left()
    assert woken == [True]
    process.resident *= 2
    finish(heap, library)
    assert len(library.given) == 1000
    # So they are of those who leave next.
    library.holes = 500
    heap.left()
    assert woken == [True, True]
    finish(heap, library)
    assert len(library.given) == 1500


def test_small_holes_are_given_back_after_large_ones():
    library = Library(100, 200)
    heap, process, _ = heap_of(library)
    process.resident *= 2
    heap.left()
    finish(heap, library)
    large, small = BLOCK_SIZES
    assert all(size > large - 2 * PAGE for _, size in library.given[:100])
    assert all(small - 2 * PAGE < size < small for _, size in library.given[100:])
    assert len(library.given) == 300


def test_who_leaves_meanwhile_is_not_forgotten():
    library = Library(1000)
    heap, process, _ = heap_of(library)
    process.resident *= 2
    heap.left()
    assert heap.step() == SETTLE_S
    heap.left()  # is dealt with as well
    assert heap.step() == 0.0
    heap.left()
    while (delay_s := heap.step()) == 0.0:
        pass
    assert delay_s == 1002 * REST_PER_BLOCK_S
    library.holes = 10
    finish(heap, library)
    assert len(library.given) == 1010


def test_others_may_have_the_heap_grow_meanwhile():
    library = Library(1000)
    heap, process, _ = heap_of(library)
    process.resident *= 2
    heap.left()
    assert heap.step() == SETTLE_S
    while heap.step() == 0.0:
        library.end += PAGE
    assert len(library.given) == 1000


def test_nothing_is_done_where_there_is_little():
    library = Library(1000)
    heap, process, _ = heap_of(library)
    process.resident += 50 * MORE_BYTES // MORE_PART
    heap.left()
    finish(heap, library)
    assert library.calls == 0
    # More than the least there was is more.
    process.resident -= 30 * MORE_BYTES
    heap.left()
    finish(heap, library)
    process.resident += 40 * MORE_BYTES
    heap.left()
    finish(heap, library)
    assert len(library.given) == 1000


def test_where_all_is_items_little_is_done():
    library = Library()
    heap, process, _ = heap_of(library)
    process.resident *= 2
    heap.left()
    finish(heap, library)
    assert (library.calls, library.given) == (4, [])


@pytest.mark.parametrize("grows", [True, False])
def test_it_ends_without_holes_and_without_memory(grows):
    library = Library(100)
    library.grows = grows
    heap, process, _ = heap_of(library)
    process.resident *= 2
    heap.left()
    finish(heap, library)
    assert len(library.given) == 100


def test_it_ends_where_no_end_is_seen():
    # Another allocator in the place of glibc's does not move the end of the heap.
    library = Library(1 << 30)
    heap, process, _ = heap_of(library)
    process.resident *= 2
    heap.left()
    finish(heap, library)
    assert len(library.given) == sum(process.resident // size for size in BLOCK_SIZES)


def test_what_was_broken_off_is_freed():
    library = Library(1000)
    heap, process, _ = heap_of(library)
    process.resident *= 2
    heap.left()
    assert heap.step() == SETTLE_S
    assert heap.step() == 0.0
    library.broken = True
    with pytest.raises(MemoryError):
        heap.step()
    library.broken = False
    assert library.taken
    while heap.step() == 0.0:
        pass
    assert not library.taken


@pytest.mark.parametrize("use_hub", [True, False], ids=["hub", "streams"])
async def test_a_server_tells_who_left(use_hub, monkeypatch):
    monkeypatch.setattr(module, "SETTLE_S", 0.0)
    library, process = Library(100), Process()
    heap = Heap(library, process)
    async with serving(use_hub=use_hub, heap=heap, clock=SystemClock()) as server:
        stream = await server.connect()
        assert await ask(stream, b"mn\r\n") == b"MN\r\n"
        process.resident *= 2
        stream.socket.close()
        while not (library.given and not library.taken):
            await trio.lowlevel.checkpoint()
    assert len(library.given) == 100


@pytest.mark.skipif(glibc() is None, reason="needs glibc")
def test_memory_really_goes_back():
    program = """
        import gc
        from pymcd.server.heap import SETTLE_S, Heap, glibc, resident_bytes

        heap = Heap(glibc())
        heap.step()
        before = resident_bytes()
        values = [bytes([number % 255 + 1]) * 3000 for number in range(10_000)]
        kept = values[::200] + values[-1:]
        del values
        gc.collect()  # where nothing is freed at once
        held = resident_bytes()
        heap.left()
        assert heap.step() == SETTLE_S
        steps = 0
        while heap.step() == 0.0:
            steps += 1
        after = resident_bytes()
        print((held - before) >> 20, (after - before) >> 20, steps)
        assert all(value == value[:1] * 3000 for value in kept)
    """
    ran = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)],
        check=True,
        stdout=subprocess.PIPE,
        env=os.environ | PYPY_COLLECTOR,  # as a server has it
    )
    held, after, steps = map(int, ran.stdout.split())
    assert held > 25
    assert after < 10
    assert steps > 3


def test_where_the_system_does_not_tell_how_much_the_process_has_its_heap_is_left_alone(
    tmp_path, monkeypatch
):
    """As in a root folder without /proc."""
    monkeypatch.setattr(module, "_STATM", str(tmp_path / "statm"))
    assert glibc() is None
