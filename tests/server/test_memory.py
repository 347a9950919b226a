"""What a server does where it gets no more memory: it goes on."""

from __future__ import annotations

import os
import resource
import socket
import subprocess
import sys
from contextlib import suppress
from functools import partial
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
import trio
import trio.testing

from pymcd.config import Settings
from pymcd.protocol import Connection
from pymcd.replication.changes import Changes
from pymcd.server import hub as hub_module
from pymcd.server import memory as module
from pymcd.server.memory import MARGIN_BYTES, Memory, address_space_left, is_shortage, keep_on
from pymcd.store import Cache, StoreMode

from ..clocks import ManualClock
from .helpers import ask, serving
from .test_pair import synced_pair, until

if TYPE_CHECKING:
    from collections.abc import Callable

HAS_EPOLL = sys.platform == "linux"
DRIVERS = [
    pytest.param(True, marks=pytest.mark.skipif(not HAS_EPOLL, reason="needs epoll"), id="hub"),
    pytest.param(False, id="streams"),
]
MISS = b"END\r\n"


class Failing:
    """Raises in the place of a function, so many times."""

    def __init__(self, function: Any, times: int) -> None:
        self.function = function
        self.times = times

    def __call__(self, *arguments: Any) -> Any:
        if self.times:
            self.times -= 1
            raise MemoryError
        return self.function(*arguments)

    def __get__(self, instance: Any, owner: Any = None) -> Any:
        return self if instance is None else partial(self, instance)


def fail(
    monkeypatch: pytest.MonkeyPatch, target: Any, name: str, times: int = 1
) -> Callable[[], bool]:
    """Have a function raise; return what tells if it has."""
    failing = Failing(getattr(target, name), times)
    monkeypatch.setattr(target, name, failing)
    return lambda: not failing.times


# -- the spare, and room for items -------------------------------------------------------------


@pytest.mark.skipif(not os.path.exists("/proc/self/statm"), reason="needs Linux's /proc")
def test_the_spare_is_not_touched():
    """Nor that of the next server, in a process that has many of them."""

    def resident_bytes() -> int:
        with open("/proc/self/statm") as file:
            return int(file.read().split()[1]) * resource.getpagesize()

    for _ in range(5):
        Memory(lambda: None)
    before = resident_bytes()
    memories = [Memory(lambda: None) for _ in range(4)]
    assert resident_bytes() - before < module.SPARE_BYTES
    assert len(memories) == 4


def test_the_spare_goes_and_comes_back(monkeypatch):
    woken: list[bool] = []
    memory = Memory(lambda: woken.append(True))
    assert memory.recover() == float("inf")
    memory.meet_shortage()
    memory.meet_shortage()
    assert (memory.shortages, len(woken)) == (2, 1)
    monkeypatch.setattr(module, "SPARE_BYTES", sys.maxsize // 2)
    assert memory.recover() == module.RECOVER_AFTER_S
    monkeypatch.setattr(module, "SPARE_BYTES", 10)
    assert memory.recover() == float("inf")
    memory.meet_shortage()
    assert len(woken) == 2


def test_items_are_evicted_where_little_is_left():
    left = [MARGIN_BYTES]
    memory = Memory(lambda: None, lambda: left[0])
    cache = Cache(Settings(), ManualClock())
    cache.slabs.has_room = memory.has_room
    for number in range(3000):
        cache.store(StoreMode.SET, b"%d" % number, bytes(1000))
    assert cache.item_count == 3000
    left[0] -= 1
    for number in range(3000, 9000):
        cache.store(StoreMode.SET, b"%d" % number, bytes(1000))
        assert cache.inspect(b"%d" % number) is not None
    assert 3000 <= cache.item_count < 4000
    # A kind of item that is not there yet has a page all the same, as over `-m`.
    cache.store(StoreMode.SET, b"other", bytes(5000))
    assert cache.inspect(b"other") is not None
    cache.check()


def test_who_cannot_look_has_no_room():
    def left() -> int:
        raise OSError

    assert not Memory(lambda: None, left).has_room()
    assert Memory(lambda: None).has_room()


@pytest.mark.skipif(not HAS_EPOLL, reason="needs /proc")
def test_what_is_left(monkeypatch):
    limits = {resource.RLIMIT_AS: resource.RLIM_INFINITY, resource.RLIMIT_DATA: -1}
    monkeypatch.setattr(resource, "getrlimit", lambda which: (limits[which], 0))
    assert address_space_left() is None
    limits[resource.RLIMIT_AS] = 1 << 40
    left = address_space_left()
    assert left is not None
    assert 0 < (1 << 40) - left() < 1 << 38
    limits[resource.RLIMIT_DATA] = 1 << 39
    left = address_space_left()
    assert left is not None
    assert 0 < (1 << 39) - left() < 1 << 38


async def test_what_serves_is_kept_on():
    errors: list[Exception] = []
    outcomes = iter(
        [MemoryError(), ExceptionGroup("", [MemoryError(), ExceptionGroup("", [MemoryError()])])]
    )

    async def run() -> None:
        for error in outcomes:
            raise error

    await keep_on(run, errors.append)
    assert len(errors) == 2
    assert all(map(is_shortage, errors))

    async def broken() -> None:
        raise ExceptionGroup("", [MemoryError(), ValueError()])

    with pytest.raises(ExceptionGroup):
        await keep_on(broken, errors.append)


# -- a server ----------------------------------------------------------------------------------


@pytest.mark.parametrize("use_hub", DRIVERS)
@pytest.mark.parametrize("times", [1, 3])
@pytest.mark.parametrize(
    ("target", "name"),
    [
        (Connection, "receive_data"),
        (Connection, "run"),
        (Connection, "next_chunk"),
        (Cache, "tick"),
        (Cache, "store"),
    ],
)
async def test_commands_that_meet_the_end_of_memory(monkeypatch, use_hub, times, target, name):
    async with serving(use_hub=use_hub) as server:
        resting = await server.connect()
        assert await ask(resting, b"get k\r\n") == MISS
        await trio.testing.wait_all_tasks_blocked()
        is_over = fail(monkeypatch, target, name, times)
        while not is_over():
            stream = await server.connect()
            # More than a turn's commands, so that every part of the drivers has something to do.
            await stream.send_all(b"get a b\r\nset k 0 0 1 noreply\r\n1\r\n" * 20)
            try:
                while await stream.receive_some() and not is_over():
                    pass
            except trio.BrokenResourceError:
                pass
        assert await ask(await server.connect(), b"get k2\r\n") == MISS
        assert await ask(resting, b"get k2\r\n") == MISS
        assert server.memory.lines == ["out of memory: clients are closed, the server goes on"]
        assert not server.memory.failures


@pytest.mark.skipif(not HAS_EPOLL, reason="needs epoll")
@pytest.mark.parametrize("name", ["read", "write"])
async def test_reads_and_writes_that_meet_the_end_of_memory(monkeypatch, name):
    async with serving() as server:
        resting, stream = await server.connect(), await server.connect()
        for client in (resting, stream):
            assert await ask(client, b"get k\r\n") == MISS
        own_os = SimpleNamespace(**vars(os))  # trio's stays
        monkeypatch.setattr(hub_module, "os", own_os)
        is_over = fail(monkeypatch, own_os, name)
        # Nothing was taken, so it is read again.
        if name == "read":
            assert await ask(stream, b"get k\r\n") == MISS
        else:
            await stream.send_all(b"get k\r\n")
        await until(is_over)
        assert await ask(resting, b"get k\r\n") == MISS


@pytest.mark.parametrize("use_hub", DRIVERS)
async def test_accepting_that_meets_the_end_of_memory(monkeypatch, use_hub):
    async with serving(use_hub=use_hub) as server:
        is_over = fail(monkeypatch, socket.socket, "accept")
        assert await ask(await server.connect(), b"get k\r\n") == MISS
        assert is_over()
        is_over = fail(monkeypatch, server, "_admit")
        with suppress(trio.BrokenResourceError):  # the end may be there before it can ask
            assert await ask(await server.connect(), b"get k\r\n") == b""
        assert is_over()
        assert await ask(await server.connect(), b"get k\r\n") == MISS


@pytest.mark.parametrize("use_hub", DRIVERS)
async def test_a_peer_that_meets_the_end_of_memory_gives_up_its_link(monkeypatch, use_hub):
    # What it could not apply it must not acknowledge; linked again, it is brought in sync.
    async with synced_pair(use_hub=use_hub) as (a, b):
        assert b.peering is not None
        (wire,) = b.peering._wires
        is_over = fail(monkeypatch, Changes, "apply_states")
        await (await a.connect()).send_all(b"set k 0 0 1\r\n1\r\n")
        await until(is_over)
        await until(lambda: wire.closed)
        assert b.service.cache.inspect(b"k") is None


@pytest.mark.slow
@pytest.mark.skipif(not HAS_EPOLL, reason="needs /proc")
@pytest.mark.parametrize("value_bytes", [10, 30_000])
def test_a_process_of_bounded_size_lives(value_bytes: int) -> None:
    limit_bytes = 120 << 20
    listener = socket.create_server(("127.0.0.1", 0))
    port = listener.getsockname()[1]
    listener.close()
    with subprocess.Popen(
        [sys.executable, "-m", "pymcd", "-l", "127.0.0.1", "-p", str(port), "-m", "4096", "-u",
         "root"],
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (limit_bytes, limit_bytes)),
    ) as process:  # fmt: skip
        try:
            with _connect(port, process) as client:
                number = evictions = 0
                while evictions < 1000 and number * value_bytes < limit_bytes:
                    batch = [
                        b"set %d 0 0 %d noreply\r\n%b\r\n"
                        % (index, value_bytes, bytes(value_bytes))
                        for index in range(number, number + max(10, 200_000 // value_bytes))
                    ]
                    number += len(batch)
                    client.sendall(b"".join(batch) + b"stats\r\n")
                    answer = b""
                    while not answer.endswith(b"END\r\n"):
                        answer += client.recv(65536)
                    evictions = int(answer.partition(b"STAT evictions ")[2].split()[0])
                assert evictions >= 1000
            assert process.poll() is None
        finally:
            process.terminate()
    assert process.returncode == 0


def _connect(port: int, process: subprocess.Popen[bytes]) -> socket.socket:
    while process.poll() is None:
        try:
            return socket.create_connection(("127.0.0.1", port))
        except ConnectionRefusedError:
            os.sched_yield()
    raise AssertionError
