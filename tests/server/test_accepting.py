"""The one accept loop: who gets in, who waits, and what a system without descriptors is given."""

from __future__ import annotations

import errno
import os
import socket
import sys
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest
import trio
import trio.testing

from pymcd.clock import SystemClock
from pymcd.config import Settings
from pymcd.server.accepting import ACCEPTS_PER_TURN, RETRY_S, Acceptor
from pymcd.server.hub import Hub
from pymcd.server.listening import Endpoint
from pymcd.service import Service

from ..hosts import make_host
from .helpers import clock_stands, one_loopback

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

WAITERS = [
    pytest.param(
        True,
        marks=pytest.mark.skipif(sys.platform != "linux", reason="needs epoll"),
        id="hub waits",
    ),
    pytest.param(False, id="trio waits"),
]


class Door:
    """A listening socket whose `accept` fails as told, and what came of those who knocked."""

    def __init__(self) -> None:
        self.sock = socket.create_server(("127.0.0.1", 0))
        self.sock.setblocking(False)
        self.failures: list[OSError] = []
        self.accepted: list[socket.socket] = []
        self.moved = trio.Event()
        self.errors: list[Exception] = []
        self.callers: list[socket.socket] = []

    @property
    def endpoint(self) -> Endpoint:
        return Endpoint(self, "tcp", "", "auto")  # type: ignore[arg-type]

    def fileno(self) -> int:
        return self.sock.fileno()

    def accept(self) -> Any:
        if self.failures:
            self._tell()
            raise self.failures.pop(0)
        return self.sock.accept()

    def knock(self, number: int = 1) -> None:
        address = self.sock.getsockname()
        with one_loopback() as loopback:
            self.callers += [socket.create_connection(address) for _ in range(number)]
            loopback.settle()

    def welcome(self, sock: socket.socket, address: object) -> None:
        assert not sock.getblocking()
        assert address in [caller.getsockname() for caller in self.callers]
        self.accepted.append(sock)
        self._tell()

    def _tell(self) -> None:
        self.moved.set()
        self.moved = trio.Event()

    async def until(self, accepted: int) -> None:
        """Wait until so many were welcome."""
        while len(self.accepted) < accepted:
            await self.moved.wait()

    def close(self) -> None:
        for sock in (*self.accepted, *self.callers, self.sock):
            sock.close()


@pytest.fixture
def door() -> Iterator[Door]:
    door = Door()
    yield door
    door.close()


@asynccontextmanager
async def accepting(door: Door, use_hub: bool, **options: Any) -> AsyncIterator[None]:
    """Run the loop as long as the block does."""
    hub = Hub(Service(Settings(), SystemClock(), make_host())) if use_hub else None
    options.setdefault("welcome", door.welcome)
    acceptor = Acceptor(door.endpoint, on_error=door.errors.append, hub=hub, **options)
    try:
        with trio.fail_after(1000), clock_stands():
            async with trio.open_nursery() as nursery:
                if hub is not None:
                    hub.linger_s = 0.0
                    nursery.start_soon(hub.run)
                nursery.start_soon(acceptor.run)
                yield
                nursery.cancel_scope.cancel()
    finally:
        if hub is not None:
            assert not hub._watched
            hub.close_all()


@pytest.mark.parametrize("use_hub", WAITERS)
async def test_whoever_comes_is_welcome(door: Door, use_hub: bool) -> None:
    door.knock(2)
    async with accepting(door, use_hub):
        await door.until(2)
        door.knock()
        await door.until(3)
    door.knock()
    await trio.testing.wait_all_tasks_blocked()
    assert len(door.accepted) == 3


@pytest.mark.parametrize("use_hub", WAITERS)
@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM])
async def test_without_descriptors_it_tries_again_later(
    door: Door, use_hub: bool, number: int, autojump_clock: trio.testing.MockClock
) -> None:
    door.failures = [OSError(number, os.strerror(number))] * 3
    door.knock()
    async with accepting(door, use_hub):
        await door.until(1)
        # Three times it waited, and did not just ask again.
        assert trio.current_time() >= 2.9 * RETRY_S
    assert not door.errors


async def test_it_tries_again_at_once_when_somebody_has_gone(
    door: Door, autojump_clock: trio.testing.MockClock
) -> None:
    gone = trio.Event()
    door.failures = [OSError(errno.EMFILE, "")]
    door.knock()
    async with accepting(door, use_hub=False, wait_for_room=lambda: gone.wait()):
        await door.moved.wait()
        since = trio.current_time()
        gone.set()
        await door.until(1)
        assert trio.current_time() == since


@pytest.mark.parametrize("use_hub", WAITERS)
async def test_who_has_gone_again_disturbs_nobody(door: Door, use_hub: bool) -> None:
    door.failures = [ConnectionAbortedError(), OSError(errno.EPROTO, "")]
    door.knock()
    async with accepting(door, use_hub):
        await door.until(1)
    assert not door.errors


@pytest.mark.parametrize("use_hub", WAITERS)
async def test_while_it_is_full_they_wait_in_the_backlog(
    door: Door, use_hub: bool, autojump_clock: trio.testing.MockClock
) -> None:
    room = trio.Event()
    seats = 2
    door.knock(4)

    async def wait_for_room() -> None:
        nonlocal room
        await room.wait()
        room = trio.Event()

    async with accepting(
        door,
        use_hub,
        is_full=lambda: len(door.accepted) >= seats,
        wait_for_room=wait_for_room,
    ):
        await door.until(2)
        await trio.sleep(100 * RETRY_S)  # no look without a reason
        assert len(door.accepted) == 2
        seats = 3
        room.set()
        await door.until(3)
        await trio.sleep(100 * RETRY_S)
        assert len(door.accepted) == 3


def test_a_turn_is_bounded(door: Door) -> None:
    door.knock(ACCEPTS_PER_TURN + 1)
    acceptor = Acceptor(door.endpoint, door.welcome, door.errors.append)
    assert acceptor.accept_some()
    assert len(door.accepted) == ACCEPTS_PER_TURN
    assert acceptor.accept_some()
    assert len(door.accepted) == ACCEPTS_PER_TURN + 1
    assert acceptor.accept_some()


@pytest.mark.parametrize("use_hub", WAITERS)
async def test_others_have_their_turn_in_a_rush(door: Door, use_hub: bool) -> None:
    door.knock(3 * ACCEPTS_PER_TURN)
    turns = 0
    turn_of: list[int] = []  # each was welcome in

    def welcome(sock: socket.socket, address: object) -> None:
        turn_of.append(turns)
        door.welcome(sock, address)

    async with accepting(door, use_hub, welcome=welcome):
        while len(door.accepted) < 3 * ACCEPTS_PER_TURN:
            await trio.lowlevel.checkpoint()
            turns += 1
    if not use_hub:  # which has its own ways to leave time for others
        assert turn_of[0] < turn_of[-1]


@pytest.mark.parametrize("use_hub", WAITERS)
async def test_a_welcome_that_fails_costs_one_connection(door: Door, use_hub: bool) -> None:
    bug, gone = ZeroDivisionError("a bug"), ConnectionResetError()
    failures: list[Exception] = [bug, gone]

    def welcome(sock: socket.socket, address: object) -> None:
        if failures:
            raise failures.pop(0)
        door.welcome(sock, address)

    door.knock(3)
    async with accepting(door, use_hub, welcome=welcome):
        await door.until(1)
    assert door.errors == [bug]
    for caller in door.callers[:2]:
        assert caller.recv(1) == b""
