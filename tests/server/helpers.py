"""How the server tests run a server: in the test's own event loop, on free ports of loopback."""

from __future__ import annotations

import os
import socket
from contextlib import asynccontextmanager, closing, contextmanager
from functools import partial
from math import inf
from typing import TYPE_CHECKING, Any

import trio
import trio.testing

from pymcd.config import Settings
from pymcd.server.listening import Endpoint, open_internet_endpoints
from pymcd.server.serving import Server

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

#: Only a server that hangs gets there.
PATIENCE_S = 100_000  # of a clock that jumps, or until pytest gives up


class TrioClock:
    """The event loop's clock, which pytest-trio's `autojump_clock` moves."""

    def monotonic(self) -> float:
        return trio.current_time()

    def realtime(self) -> float:
        return 1_700_000_000 + trio.current_time()


class Loopback:
    """Waits until what was sent over loopback before has arrived.

    The kernel delivers it when it finds the time, and that may be after the sender has gone on: as
    on a machine that has much else to send. A datagram that goes the same way comes behind.
    """

    #: Behind a segment go what answers it and what answers that, and then somebody hears of it.
    _TRIPS = 3

    def __init__(self) -> None:
        self._probe = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._probe.bind(("127.0.0.1", 0))
        self._probe.connect(self._probe.getsockname())

    def settle(self) -> None:
        for _ in range(self._TRIPS):
            self._probe.send(b"probe")
            self._probe.recv(16)

    def close(self) -> None:
        self._probe.close()


@contextmanager
def one_loopback() -> Iterator[Loopback]:
    """Lend a loopback, and stay on one CPU: each has its own queue of what is to be delivered."""
    with closing(Loopback()) as loopback:
        if not hasattr(os, "sched_setaffinity"):
            yield loopback
            return
        before = os.sched_getaffinity(0)
        os.sched_setaffinity(0, {sorted(before)[os.getpid() % len(before)]})
        try:
            yield loopback
        finally:
            os.sched_setaffinity(0, before)


class ClockStands(trio.abc.Instrument):
    """A clock that jumps stands while a thread works or the kernel delivers.

    To wait for that takes no time of its own. Else the clock jumps as far as the machine lets it,
    until whoever asked a thread, or waits for bytes that were sent, has lost patience.
    """

    def __init__(self, clock: trio.testing.MockClock, loopback: Loopback) -> None:
        self._clock = clock
        self._loopback = loopback

    def after_task_step(self, task: object) -> None:
        threshold = inf if trio.testing.active_thread_count() else 0
        if threshold != self._clock.autojump_threshold:
            self._clock.autojump_threshold = threshold

    def before_io_wait(self, timeout: float) -> None:
        if timeout == 0 and not trio.lowlevel.current_statistics().tasks_runnable:
            self._loopback.settle()


@contextmanager
def clock_stands() -> Iterator[None]:
    """Have pytest-trio's `autojump_clock` not jump while there is something to wait for."""
    clock = trio.lowlevel.current_clock()
    if not isinstance(clock, trio.testing.MockClock):
        yield
        return
    with one_loopback() as loopback:
        instrument = ClockStands(clock, loopback)
        trio.lowlevel.add_instrument(instrument)
        try:
            yield
        finally:
            trio.lowlevel.remove_instrument(instrument)


class Memory:
    """A log that is kept instead of written."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.failures: list[BaseException] = []
        self.reopened = 0

    def line(self, message: str) -> None:
        self.lines.append(message)

    warning = line

    def failure(self, message: str, error: BaseException) -> None:
        self.lines.append(message)
        self.failures.append(error)

    def flush(self) -> bool:
        return True

    def reopen(self) -> None:
        self.reopened += 1


class Running(Server):
    """A server with what a test wants to know of it."""

    def __init__(self, settings: Settings, **options: Any) -> None:
        self.memory = Memory()
        super().__init__(settings, log=self.memory, **options)  # type: ignore[arg-type]
        self.endpoints: list[Endpoint] = []
        self.streams: list[trio.SocketStream] = []
        self.finished = trio.Event()

    @property
    def port(self) -> int:
        port: int = self.endpoints[0].sock.getsockname()[1]
        return port

    async def connect(self) -> trio.SocketStream:
        """Return a new client's stream, which is closed when the test is over, at the latest."""
        endpoint = self.endpoints[0]
        if endpoint.path is not None:
            stream = await trio.open_unix_socket(endpoint.path)
        else:
            stream = await trio.open_tcp_stream("127.0.0.1", self.port)
        self.streams.append(stream)
        return stream


@asynccontextmanager
async def serving(
    *,
    endpoints: list[Endpoint] | None = None,
    use_hub: bool = True,
    clock: Any = None,
    heap: Any = None,
    notifier: Any = None,
    fill_login: bytes = b"",
    **settings: Any,
) -> AsyncIterator[Running]:
    """Run a server while the block does; at its end the server is stopped at once."""
    values = {"port": -1, "listen": ("127.0.0.1",), **settings}
    server = Running(
        Settings(**values),
        use_hub=use_hub,
        clock=clock,
        heap=heap,
        notifier=notifier,
        fill_login=fill_login,
    )
    server.endpoints = open_internet_endpoints(server.settings) if endpoints is None else endpoints
    started = trio.Event()

    async def run() -> None:
        await server.serve(server.endpoints, started=started.set)
        server.finished.set()

    with trio.fail_after(PATIENCE_S), clock_stands():
        async with trio.open_nursery() as nursery:
            nursery.start_soon(run)
            await started.wait()
            try:
                yield server
            finally:
                server.stop()
                server.stop()
                await server.finished.wait()
                for stream in server.streams:
                    stream.socket.close()
    assert server.finished.is_set()


async def ask(stream: trio.abc.Stream, request: bytes, *, end: bytes = b"\r\n") -> bytes:
    """Send a request and return the answer, which ends in `end`."""
    await stream.send_all(request)
    return await read_until(stream, end)


async def read_until(stream: trio.abc.Stream, end: bytes) -> bytes:
    """Return what arrives up to and including `end`, or up to the end of the stream."""
    answer = b""
    while not answer.endswith(end):
        data = await stream.receive_some(65536)
        if not data:
            break
        answer += data
    return answer


read_all = partial(read_until, end=b"\0never\0")
