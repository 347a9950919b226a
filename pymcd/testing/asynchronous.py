"""`serve`: a server in the event loop of a trio test, on memory streams or on real sockets."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import timedelta
from operator import attrgetter
from typing import Any

import trio

from .calls import Call
from .certificates import Certificates
from .clocks import FakeClock, realtime
from .controls import (
    Controls,
    Item,
    KeyT,
    Snapshot,
    good_count,
    good_item,
    good_items,
    good_report,
    good_seconds,
    good_snapshot,
    too_few,
)
from .findings import Finding, caller, tell
from .plan import ServePlan, taking
from .ports import Port
from .requests import Commands
from .sections import register
from .surroundings import check_system
from .wanted import Key, Wanted


class _TrioClock:
    """The event loop's clock, so that trio's `MockClock` moves this server's time, too."""

    def __init__(self) -> None:
        self._offset_s = realtime() - trio.current_time()

    def monotonic(self) -> float:
        return trio.current_time()

    def realtime(self) -> float:
        return trio.current_time() + self._offset_s


class AsyncMemcachedServer(Controls):
    """A server in this event loop; `serve` makes one. What may have to wait is asynchronous.

    >>> import trio
    >>> from pymcd.testing import serve
    >>> async def main():
    ...     async with serve() as server, server.connect() as stream:
    ...         await server.put("a", b"1", ttl=60)
    ...         await server.advance(61)
    ...         print(server.get("a"))
    ...         await stream.send_all(b"get a\\r\\n")
    ...         (call,) = await server.wait_for("get", "a")
    ...         print(call, call.reply, bytes(await stream.receive_some()))
    ...         print((await server.stats())["get_misses"])
    ...         print(await server.drop_connections())
    ...         await server.load({"b": b"2"})
    ...         before = server.snapshot()
    ...         await server.reset()
    ...         await server.restore(before)
    ...         print("b" in server)
    ...         print(server.calls)
    >>> trio.run(main)
    None
    get a b'END\\r\\n' b'END\\r\\n'
    1
    1
    True
    <CallLog: no calls>
    """

    def __init__(
        self,
        engine: Any,
        nursery: trio.Nursery,
        address: tuple[str, int] | None,
        certificates: Certificates | None = None,
    ) -> None:
        super().__init__()
        self._certificates = certificates
        self._engine = engine
        self._nursery = nursery
        self._address = address
        self._called = trio.Event()
        engine.script.record.on_change = self._note_call
        register(self)

    def __repr__(self) -> str:
        return f"<AsyncMemcachedServer {self._address or 'in memory'}>"

    def _note_call(self) -> None:
        self._called.set()
        self._called = trio.Event()

    def _ask(self, name: str, *arguments: Any) -> Any:
        self._engine.take_in()
        return attrgetter(name)(self._engine)(*arguments)

    @property
    def address(self) -> tuple[str, int]:
        """Host and port, of a server with `sockets=True`.

        >>> async def main():
        ...     async with serve(sockets=True) as server:
        ...         return server.address[0]
        >>> trio.run(main)
        '127.0.0.1'
        """
        if self._address is None:
            raise RuntimeError(
                "this server has no port: connect() gives a stream to it;"
                " write serve(sockets=True) for one that has"
            )
        return self._address

    @property
    def tls_ca_file(self) -> str:
        """With `tls=True`: the file with the authority that clients of the port must trust.

        >>> async def main():
        ...     async with serve(sockets=True, tls=True) as server:
        ...         return server.tls_ca_file.rpartition(".")[2]
        >>> trio.run(main)
        'pem'
        """
        if self._certificates is None:
            raise RuntimeError("there is no authority: write serve(sockets=True, tls=True)")
        return self._certificates.ca_file

    def connect(self) -> trio.abc.Stream:
        """Return a new client's stream, in memory."""
        from trio.testing import memory_stream_pair

        client, server = memory_stream_pair()
        self._nursery.start_soon(self._engine.serve_stream, server)
        return client

    async def advance(self, seconds: float | timedelta) -> None:
        """Let time pass on the server's clock, as `MemcachedServer.advance` does."""
        await self._ask("advance", good_seconds(seconds), caller())

    async def put(self, key: str | bytes, value: bytes, *, flags: int = 0, ttl: int = 0) -> None:
        """Store an item, as `MemcachedServer.put` does."""
        await self._ask("put", *good_item(key, value, flags, ttl))

    async def load(self, items: Mapping[KeyT, bytes | Item]) -> None:
        """Store many items, as `MemcachedServer.load` does."""
        await self._ask("load", good_items(items))

    async def restore(self, snapshot: Snapshot) -> None:
        """Have the items of a snapshot, as `MemcachedServer.restore` does."""
        await self._ask("restore", good_snapshot(snapshot))

    async def reset(self) -> None:
        """Be as after the start, as `MemcachedServer.reset` does."""
        self._clearings += 1
        await self._ask("reset")

    async def stats(self, name: str = "") -> dict[str, str]:
        """Return a report, as `MemcachedServer.stats` does."""
        rows: dict[str, str] = await self._ask("stats", good_report(name))
        return rows

    async def drop_connections(self) -> int:
        """Close all clients' connections; return how many there were."""
        return int(await self._ask("drop_connections"))

    async def wait_for(
        self,
        command: Commands | None = None,
        key: Key | None = None,
        *,
        count: int = 1,
        timeout: float = 5.0,  # noqa: ASYNC109 - as everywhere else in this package
    ) -> list[Call]:
        """Return the calls of a command and key as soon as there are `count`."""
        good_count(count, timeout)
        wanted = Wanted.of(command, key)
        with trio.move_on_after(timeout):
            while True:
                found = wanted.among(self._engine.script.record.snapshot())
                if len(found) >= count:
                    return found
                await self._called.wait()
        raise too_few(self.calls, wanted, count, timeout)


@taking(ServePlan)
@asynccontextmanager
async def serve(plan: ServePlan) -> AsyncIterator[AsyncMemcachedServer]:
    """Run a server in this event loop while the block does.

    `connect()` gives a client's stream in memory. With `sockets=True` it listens as well. All else
    is as with `MemcachedServer`. Its time is trio's, so `MockClock` and `autojump_clock` move it.

    >>> import trio
    >>> from pymcd.testing import serve
    >>> async def main():
    ...     async with serve(sockets=True) as server:
    ...         stream = await trio.open_tcp_stream(*server.address)
    ...         await stream.send_all(b"version\\r\\n")
    ...         answer = await stream.receive_some()
    ...         await stream.aclose()
    ...         return bytes(answer)
    >>> trio.run(main)
    b'VERSION 1.6.45\\r\\n'
    """
    check_system()
    from .engine import Engine

    clock = FakeClock(plan.clock, _TrioClock())
    on_port = plan.sockets and plan.unix_socket is None
    sockets = plan.sockets or plan.unix_socket is not None
    reserved = Port(plan.host, plan.port) if on_port else None
    certificates: Certificates | None = None
    try:
        if plan.tls is True:
            certificates = Certificates(plan.host)
            plan = certificates.add_to(plan)
        engine = Engine(plan, clock=clock, port=reserved, sockets=sockets)
        started = trio.Event()
        failure: BaseException | None = None
        findings: list[Finding] = []
        async with trio.open_nursery() as nursery:
            nursery.start_soon(engine.run, started.set)
            await started.wait()
            address = None if reserved is None else (plan.host, reserved.number)
            server = AsyncMemcachedServer(engine, nursery, address, certificates)
            try:
                yield server
                findings = server._take_findings()
            except BaseException as error:
                failure = error  # which the nursery would wrap into a group
            nursery.cancel_scope.cancel()
        if failure is not None:
            raise failure
        tell(findings)
    finally:
        if reserved is not None:
            reserved.close()
        if certificates is not None:
            certificates.remove()
