"""Where tests live: event loops, threads, forks, gevent; and that servers share nothing."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import re
import socket
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest

from pymcd.testing import MemcachedServer, serve

from ..interpreters import needs, needs_certificates
from .document import PAGES
from .running import RUN_TIMEOUT_S, counts, run_pytest

if TYPE_CHECKING:
    from collections.abc import Callable

ROUNDS = 50
CLIENTS = 8
END_TIMEOUT_S = 60


def ask(address: tuple[str, int], *requests: bytes) -> bytes:
    """Return the last answer to requests of one connection; each has an answer of one line."""
    with socket.create_connection(address) as client, client.makefile("rb") as answers:
        answer = b""
        for request in requests:
            client.sendall(request)
            answer = answers.readline()
        return answer


def value_of(server: MemcachedServer, key: str) -> bytes | None:
    item = server.get(key)
    return None if item is None else item.value


def test_many_clients_of_one_event_loop_while_time_moves():
    async def visit(server: MemcachedServer) -> None:
        reader, writer = await asyncio.open_connection(*server.address)
        for _ in range(ROUNDS):
            writer.write(b"incr visits 1\r\n")
            assert (await reader.readline())[:-2].isdigit()
        writer.close()
        await writer.wait_closed()

    async def program(server: MemcachedServer) -> None:
        async with asyncio.TaskGroup() as tasks:
            for _ in range(CLIENTS):
                tasks.create_task(visit(server))
            for _ in range(ROUNDS):
                server.advance(1)
                await asyncio.sleep(0)

    with MemcachedServer() as server:
        server.put("visits", b"0", ttl=ROUNDS * 100)
        asyncio.run(program(server))
        assert value_of(server, "visits") == b"%d" % (ROUNDS * CLIENTS)


def test_threads_ask_and_control_at_once():
    def work(number: int) -> None:
        for round_ in range(ROUNDS):
            server.put(f"{number}:{round_}", b"x")
            assert ask(server.address, b"incr visits 1\r\n")[:-2].isdigit()
            assert server.get(f"{number}:{round_}") is not None

    with MemcachedServer() as server:
        server.put("visits", b"0")
        with ThreadPoolExecutor(CLIENTS) as pool:
            list(pool.map(work, range(CLIENTS)))
        assert value_of(server, "visits") == b"%d" % (ROUNDS * CLIENTS)
        assert len(server.items()) == ROUNDS * CLIENTS + 1
        assert len(server.calls.of("incr")) == ROUNDS * CLIENTS


def test_servers_of_one_process_share_nothing():
    with MemcachedServer() as one, MemcachedServer(clock="frozen") as other:
        one.put("key", b"1", ttl=60)
        other.put("key", b"2", ttl=60)
        one.advance(61)
        with one.fault().drop():
            ask(other.address, b"add key 0 0 1\r\n3\r\n")
        one.reset()
        assert one.get("key") is None
        assert value_of(other, "key") == b"2"
        assert [len(server.calls) for server in (one, other)] == [0, 1]
        assert [server.stats()["cmd_set"] for server in (one, other)] == ["0", "1"]


def test_servers_of_one_trio_program_share_nothing():
    async def program() -> None:
        async with serve() as one, serve() as other:
            await one.put("key", b"1")
            assert other.get("key") is None
            await one.advance(10)
            assert one.now - other.now >= 9

    import trio

    trio.run(program)


def in_a_forked_child(function: Callable[[], object]) -> str:
    """Return what a forked child says of a call: its result, or the kind of error."""
    # Forking with threads around is what this is about, and what newer Pythons warn of.
    parent_end, child_end = multiprocessing.Pipe()
    pid = os.fork()
    if pid == 0:
        try:
            child_end.send(repr(function()))
        except BaseException as error:
            child_end.send(f"{type(error).__name__}: {error}")
        finally:
            os._exit(0)
    try:
        assert parent_end.poll(END_TIMEOUT_S)
        said: str = parent_end.recv()
        return said
    finally:
        os.waitpid(pid, 0)
        parent_end.close()
        child_end.close()


FORKED: dict[str, Callable[[MemcachedServer], Any]] = {
    "get": lambda server: server.get("key"),
    "put": lambda server: server.put("key", b"2"),
    "advance": lambda server: server.advance(1),
    "calls": lambda server: list(server.calls),
    "wait_for": lambda server: server.wait_for("get"),
    "restart": lambda server: server.restart(),
    "drop_connections": lambda server: server.drop_connections(),
}


@pytest.fixture(scope="module", params=[False, True], ids=["thread", "process"])
def shared_server(request):
    with MemcachedServer(process=request.param) as server:
        yield server


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
@pytest.mark.parametrize("name", FORKED)
def test_a_forked_child_is_told_that_the_server_is_its_parents(shared_server, name):
    said = in_a_forked_child(lambda: FORKED[name](shared_server))
    assert said.startswith("RuntimeError")
    assert "only the parent can control it" in said


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_what_a_forked_child_stops_goes_on(shared_server):
    shared_server.put("key", b"1")
    assert in_a_forked_child(shared_server.stop) == "None"
    assert value_of(shared_server, "key") == b"1"
    address = shared_server.address
    assert in_a_forked_child(lambda: ask(address, b"incr key 1\r\n")) == repr(b"2\r\n")


@needs_certificates
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_forked_child_deletes_no_file_of_the_server(tmp_path):
    path = str(tmp_path / "socket")
    with MemcachedServer(tls=True) as secret, MemcachedServer(unix_socket=path) as local:
        files = [secret.tls_ca_file, path]
        in_a_forked_child(secret.stop)
        in_a_forked_child(local.stop)
        assert [os.path.exists(file) for file in files] == [True, True]
    assert [os.path.exists(file) for file in files] == [False, False]


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_forked_child_may_have_a_server_of_its_own(shared_server):
    def own() -> bytes:
        with MemcachedServer() as server:
            server.put("key", b"5")
            return ask(server.address, b"incr key 1\r\n")

    assert in_a_forked_child(own) == repr(b"6\r\n")


def test_a_pool_of_processes_is_its_client():
    with MemcachedServer() as server:
        server.put("visits", b"0")
        with multiprocessing.get_context("spawn").Pool(2) as pool:
            found = pool.starmap(ask, [(server.address, b"incr visits 1\r\n")] * 4)
        assert sorted(found) == [b"1\r\n", b"2\r\n", b"3\r\n", b"4\r\n"]


GEVENT = """
from gevent import monkey
monkey.patch_all()
import gevent
from pymcd.testing import MemcachedServer
from pymemcache.client.base import Client

def visit(server):
    client = Client(server.address, no_delay=True, default_noreply=False)
    visits = [client.incr("visits", 1) for _ in range(20)]
    client.close()
    return visits

with MemcachedServer(clock="frozen") as server:  # in a process of its own by itself
    assert any("process" in line for line in server.log), server.log
    server.put("visits", b"0")
    greenlets = [gevent.spawn(visit, server) for _ in range(8)]
    with server.fault(command="incr", times=3).delay(5):
        while server.calls.of("incr")[:3] == []:
            gevent.sleep(0)
        server.wait_for("incr", count=3)
        server.advance(6)
        gevent.joinall(greenlets, raise_error=True)
    seen = sorted(number for greenlet in greenlets for number in greenlet.value)
    assert seen == list(range(1, 161)), seen
    server.restart(keep_items=True)
    assert server.get("visits").value == b"160"
print("done")
"""


@pytest.mark.slow
def test_gevent_after_monkey_patching():
    for module in ("gevent", "pymemcache"):
        pytest.importorskip(module, reason=needs(module))
    done = subprocess.run(
        [sys.executable, "-W", "error::ResourceWarning", "-c", GEVENT],
        capture_output=True,
        text=True,
        timeout=END_TIMEOUT_S,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "done\n", "")


def test_a_test_that_fails_leaves_nothing():
    def left() -> tuple[set[str], int]:
        return set(os.listdir("/proc/self/fd")), threading.active_count()

    def fail() -> None:
        with MemcachedServer() as server, socket.create_connection(server.address) as client:
            server.fault().stall()
            client.sendall(b"version\r\n")
            server.wait_for("version")
            server.pause()
            raise ZeroDivisionError

    if not os.path.exists("/proc/self/fd"):
        pytest.skip("needs /proc to count descriptors")
    MemcachedServer().start().stop()
    before = left()
    for _ in range(5):
        with pytest.raises(ZeroDivisionError):
            fail()
    assert left() == before


@pytest.mark.slow
@pytest.mark.timeout(RUN_TIMEOUT_S)
def test_pytest_socket_lets_a_server_of_tests_be(tmp_path):
    """With the line of docs/testing-recipes.md, and nobody else."""
    pytest.importorskip("pytest_socket", reason=needs("pytest-socket"))
    (line,) = re.findall(r"```ini\n(addopts = .*)\n```", PAGES[-1].read_text("utf-8"))
    (tmp_path / "pytest.ini").write_text(f"[pytest]\n{line}\n")
    (tmp_path / "test_it.py").write_text(SHUT_IN)
    assert counts(run_pytest(tmp_path))["passed"] == 2


SHUT_IN = """
import socket

import pymemcache
import pytest
import pytest_socket


@pytest.mark.parametrize("local", [False, True])
def test_client(local, memcached_server_factory, tmp_path):
    path = str(tmp_path / "socket") if local else None
    server = memcached_server_factory(unix_socket=path)
    client = pymemcache.Client(path or server.address, default_noreply=False)
    assert client.set("a", "1")
    client.close()
    with pytest.raises(pytest_socket.SocketConnectBlockedError):
        socket.create_connection(("192.0.2.1", 80), timeout=1)
"""
