"""What users write, for type checkers: `mypy --strict` and pyright find nothing to say about it.

It is not run. `tests/testing/test_types.py` and `.ci/run` have it checked.
"""

from __future__ import annotations

import re
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pymcd.testing import (
    AsyncMemcachedServer,
    Call,
    CallLog,
    Fault,
    Item,
    MemcachedPair,
    MemcachedServer,
    Snapshot,
    serve,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


def look(*things: object) -> None:
    """Use what was declared."""


@pytest.fixture
def server() -> Iterator[MemcachedServer]:
    with MemcachedServer(
        memory_limit=64, max_item_size="2m", clock="frozen", users={"ada": "secret"}
    ) as running:
        yield running


@pytest.mark.memcached(max_item_size="2m", clock="host", process=False)
def test_fixtures(
    memcached_server: MemcachedServer,
    memcached_pair: MemcachedPair,
    memcached_server_factory: Callable[..., MemcachedServer],
) -> None:
    more: MemcachedServer = memcached_server_factory(protocol="ascii", tls=True)
    host: str = more.host
    address: tuple[str, int] = memcached_server.address
    path: str | None = MemcachedServer(unix_socket=Path("socket")).unix_socket
    memcached_pair.kill("a")
    memcached_pair.restart("a")
    memcached_pair.reset()
    calls: CallLog = memcached_pair.calls
    look(host, address, path, calls)


def test_state(server: MemcachedServer) -> None:
    server.put("user:1", b"ada", flags=1, ttl=60)
    server.load({"a": b"1", "b": Item(b"b", b"2", flags=5)})
    server.load(server.items())
    before: Snapshot = server.snapshot()
    server.advance(timedelta(minutes=1))
    server.advance(61.5)
    server.restore(before)
    item: Item | None = server.get(b"user:1")
    if item is not None:
        value: bytes = item.value
        look(value, item.flags)
    assert "a" in server
    assert len(server) == 1
    assert server.items()["a"].value == b"1"
    rows: dict[str, str] = server.stats("settings")
    assert rows
    server.reset()


def test_faults(server: MemcachedServer, memcached_pair: MemcachedPair) -> None:
    def answer(call: Call) -> bytes:
        return b"VALUE %b 0 1\r\n1\r\nEND\r\n" % (call.key or b"")

    with server.fault(command="get", key="user:*", times=2).reset() as fault:
        met: int = fault.met
    with server.fault(command=["get", "gets"], key=re.compile(r"user:\d+")).reply(answer):
        pass
    gone: Fault = memcached_pair.fault(command="writes", required=False).drop(executed=True)
    gone.remove()
    with server.refuse_connections(), memcached_pair.partition():
        pass
    assert met == 0


def test_calls(server: MemcachedServer) -> None:
    found: list[Call] = server.wait_for("set", "a", count=2, timeout=1)
    call: Call = server.calls[-1]
    some: list[Call] = server.calls[1:]
    one: Call = server.calls.assert_called_once("set", "a", ttl=300)
    server.calls.assert_not_called("reads", lambda key: key.startswith(b"user:"))
    look(found, call.reply, some, one.value)


async def test_asyncio() -> None:
    async with MemcachedServer() as server, MemcachedPair() as pair:
        found: list[Call] = await server.wait_for_async("get", "a")
        look(found, pair.now)


async def test_trio() -> None:
    async with serve(sockets=True, clock="real") as server:
        await server.advance(60)
        await use(server)


async def use(server: AsyncMemcachedServer) -> None:
    async with server.connect() as stream:
        await stream.send_all(b"version\r\n")
    await server.put("a", b"1")
