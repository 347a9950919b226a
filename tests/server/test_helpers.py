"""What the server tests rely on: a clock that jumps only when there is nothing to wait for."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

import trio
import trio.testing

from .helpers import ClockStands, Loopback

if TYPE_CHECKING:
    import pytest


class LateLoopback(Loopback):
    """A kernel that delivers no sooner than somebody waits for it."""

    def __init__(self) -> None:
        super().__init__()
        self.ours, self._theirs = socket.socketpair()
        self._under_way = [b"late"]

    def settle(self) -> None:
        super().settle()
        while self._under_way:
            self._theirs.sendall(self._under_way.pop())

    def close(self) -> None:
        super().close()
        self.ours.close()
        self._theirs.close()


async def test_the_clock_stands_while_the_kernel_delivers(
    autojump_clock: trio.testing.MockClock, request: pytest.FixtureRequest
) -> None:
    loopback = LateLoopback()
    request.addfinalizer(loopback.close)
    trio.lowlevel.add_instrument(ClockStands(autojump_clock, loopback))
    with trio.fail_after(1):
        await trio.lowlevel.wait_readable(loopback.ours)
    assert trio.current_time() == 0
    await trio.sleep(5)
    assert trio.current_time() == 5
