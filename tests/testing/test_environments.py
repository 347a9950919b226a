"""The fake beside what tests run in: threads, asyncio, trio, forked children, gevent, processes."""

from __future__ import annotations

import asyncio
import gc
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import trio

from pymcd.testing import Call, MemcachedPair, MemcachedServer

from ..interpreters import needs, needs_certificates
from .helpers import RawClient, nothing_left, raw

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ROOT = Path(__file__).parents[2]


def test_threads() -> None:
    def work(number: int) -> None:
        with raw(server) as client:
            for turn in range(50):
                assert client.ask(b"incr shared 1\r\n").strip().isdigit()
                server.put(f"own{number}", b"%d" % turn)
                assert server.get(f"own{number}") is not None

    with MemcachedServer() as server:
        server.put("shared", b"0")
        threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        shared = server.get("shared")
        assert shared is not None
        assert shared.value == b"400"
        assert len(server.calls) == 400


def test_asyncio() -> None:
    async def work(number: int) -> bytes:
        reader, writer = await asyncio.open_connection(*server.address)
        writer.write(b"set k%d 0 60 1\r\nx\r\nget k%d\r\n" % (number, number))
        answer = await reader.readuntil(b"END\r\n")
        writer.close()
        await writer.wait_closed()
        return answer

    async def main() -> None:
        answers = await asyncio.gather(*(work(number) for number in range(20)))
        assert all(answer.startswith(b"STORED\r\nVALUE k") for answer in answers)
        # The controls block the event loop for a moment, no longer.
        server.advance(61)
        assert server.items() == {}

    with MemcachedServer() as server:
        asyncio.run(main())


async def test_trio() -> None:
    with MemcachedServer() as server:
        async with await trio.open_tcp_stream(*server.address) as stream:
            await stream.send_all(b"set a 0 60 1\r\nx\r\n")
            assert await stream.receive_some() == b"STORED\r\n"
            server.advance(61)
            await stream.send_all(b"get a\r\n")
            assert await stream.receive_some() == b"END\r\n"


def test_a_thread_waits_for_what_another_does() -> None:
    with MemcachedServer() as server, raw(server) as client:
        waiting = threading.Event()
        found: list[Call] = []

        def wait() -> None:
            waiting.set()
            found.extend(server.wait_for("set", "b", timeout=60))

        thread = threading.Thread(target=wait)
        thread.start()
        waiting.wait()
        client.ask(b"set a 0 0 1\r\nx\r\n")
        assert not found
        client.ask(b"set b 0 0 1\r\nx\r\n")
        thread.join()
        assert [str(call) for call in found] == ["set b"]
        with pytest.raises(TimeoutError, match="2 of delete 'c', of which there were 0"):
            server.wait_for("delete", "c", count=2, timeout=0)


async def wait_in_a_loop(server: MemcachedServer, *, sleep: Callable[[float], Any]) -> None:
    with pytest.raises(RuntimeError, match=r"await server\.wait_for_async\("):
        server.wait_for("set", timeout=60)
    with raw(server) as client:
        client.send(b"set a 0 0 1\r\nx\r\n")
        assert [str(call) for call in await server.wait_for_async("set", "a")] == ["set a"]
    with pytest.raises(TimeoutError, match="1 of delete 'c', of which there were 0"):
        await server.wait_for_async("delete", "c", timeout=0)
    with pytest.raises(ValueError, match="count=0"):
        await server.wait_for_async("get", count=0)
    # Others have their turn meanwhile.
    await sleep(0)


def test_waiting_in_an_event_loop_of_asyncio() -> None:
    async def visit() -> None:
        reader, writer = await asyncio.open_connection(*server.address)
        writer.write(b"get b\r\n")
        await reader.readline()
        writer.close()
        await writer.wait_closed()

    async def main() -> None:
        await wait_in_a_loop(server, sleep=asyncio.sleep)
        waiting = [asyncio.create_task(server.wait_for_async("get", count=5)) for _ in range(50)]
        await asyncio.gather(*(visit() for _ in range(5)))
        assert all(len(calls) == 5 for calls in await asyncio.gather(*waiting))
        endless = asyncio.create_task(server.wait_for_async("delete", timeout=60))
        await asyncio.sleep(0)
        endless.cancel()
        with pytest.raises(asyncio.CancelledError):
            await endless
        async with MemcachedServer() as another:
            assert another.items() == {}
        with pytest.raises(RuntimeError, match="not running"):
            another.items()

    with MemcachedServer() as server:
        asyncio.run(main(), debug=True)


async def test_waiting_in_an_event_loop_of_trio() -> None:
    async with MemcachedServer() as server:
        await wait_in_a_loop(server, sleep=trio.sleep)
        with trio.move_on_after(0.01) as scope:
            await server.wait_for_async("delete", timeout=60)
        assert scope.cancelled_caught
        async with trio.open_nursery() as nursery:
            nursery.start_soon(partial(server.wait_for_async, "get", count=2))
            for _ in range(2):
                async with await trio.open_tcp_stream(*server.address) as stream:
                    await stream.send_all(b"get b\r\n")
    with pytest.raises(RuntimeError, match="not running"):
        server.items()


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_waiting_under_anyio(backend: str) -> None:
    anyio = pytest.importorskip("anyio")

    async def main() -> None:
        async with MemcachedServer() as server, anyio.create_task_group() as tasks:
            tasks.start_soon(partial(server.wait_for_async, "get", count=2))
            await wait_in_a_loop(server, sleep=anyio.sleep)
            for _ in range(2):
                async with await anyio.connect_tcp(*server.address) as stream:
                    await stream.send(b"get b\r\n")

    anyio.run(main, backend=backend)


def test_threads_that_wait_for_nothing_end() -> None:
    async def main() -> None:
        endless = asyncio.create_task(server.wait_for_async("delete", timeout=600))
        await asyncio.sleep(0)
        endless.cancel()
        await asyncio.gather(endless, return_exceptions=True)

    with MemcachedServer() as server:
        before = set(threading.enumerate())
        asyncio.run(main())
        for thread in set(threading.enumerate()) - before:
            thread.join(30)
            assert not thread.is_alive()


def test_stopping_ends_those_who_wait_for_the_server() -> None:
    server = MemcachedServer().start()
    server.stop()
    with pytest.raises(RuntimeError, match="not running"):
        server.items()


# -- forked children ---------------------------------------------------------------------------

pytestmark_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")


def in_child(work: Any) -> int:
    """Run a function in a forked child; return its exit status."""
    child = os.fork()
    if child == 0:
        status = 1
        try:
            work()
            status = 0
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


@pytestmark_fork
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_child_is_a_client() -> None:
    def work() -> None:
        with raw(server) as client:
            assert client.ask(b"set child 0 0 1\r\nx\r\n") == b"STORED\r\n"
        try:
            server.items()
        except RuntimeError as error:
            assert "parent" in str(error)  # noqa: PT017 - this is not pytest's process
        else:
            raise AssertionError
        server.stop()  # what the end of a `with` block would do

    with MemcachedServer() as server:
        assert in_child(work) == 0
        assert server.get("child") is not None
        with raw(server) as client:
            assert client.ask(b"version\r\n") == b"VERSION 1.6.45\r\n"


@pytestmark_fork
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_child_keeps_no_socket_of_the_server() -> None:
    reading, writing = os.pipe()
    with MemcachedServer() as server, raw(server) as client:
        client.ask(b"version\r\n")
        address = server.address
        child = os.fork()
        if child == 0:
            os.read(reading, 1)  # until the parent has looked
            os._exit(server._port._sock is not None)
        try:
            assert server.drop_connections() == 1
            assert client.read() == b""
            server.stop()
            with pytest.raises(ConnectionRefusedError):
                RawClient(address)
        finally:
            os.write(writing, b"x")
            _, status = os.waitpid(child, 0)
            os.close(reading)
            os.close(writing)
    assert status == 0


@needs_certificates
@pytestmark_fork
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_child_deletes_no_certificates() -> None:
    with MemcachedServer(tls=True) as server:
        path = server.tls_ca_file
        assert in_child(server.stop) == 0
        assert os.path.exists(path)
    assert not os.path.exists(path)


def _get_in_process(address: tuple[str, int]) -> None:
    client = RawClient(address)
    client.ask(b"set child 0 0 1\r\nx\r\n")
    client.close()


@pytest.mark.slow
def test_a_spawned_child_is_a_client() -> None:
    with MemcachedServer() as server:
        process = multiprocessing.get_context("spawn").Process(
            target=_get_in_process, args=(server.address,)
        )
        process.start()
        process.join()
        assert server.get("child") is not None


# -- a process of its own ----------------------------------------------------------------------


@pytest.fixture(scope="module")
def elsewhere() -> Iterator[MemcachedServer]:
    with MemcachedServer(process=True, clock="frozen") as server:
        yield server


@pytest.mark.slow
def test_a_server_in_a_process_can_do_the_same(elsewhere: MemcachedServer) -> None:
    elsewhere.reset()
    with raw(elsewhere) as client:
        assert client.ask(b"set a 0 60 1\r\nx\r\n") == b"STORED\r\n"
        item = elsewhere.get("a")
        assert item is not None
        assert item.value == b"x"
        assert [str(call) for call in elsewhere.wait_for("set")] == ["set a"]
        elsewhere.advance(61)
        assert elsewhere.items() == {}
        with elsewhere.fault(command="get").reply(b"SERVER_ERROR busy\r\n") as fault:
            assert client.ask(b"get a\r\n") == b"SERVER_ERROR busy\r\n"
            assert fault.met == 1
        assert client.ask(b"get a\r\n") == b"END\r\n"
        elsewhere.put("a", b"1")
        address = elsewhere.address
        elsewhere.restart(keep_items=True)
        assert client.read() == b""
        assert elsewhere.address == address
        assert list(elsewhere.items()) == [b"a"]
        assert elsewhere.stats()["curr_items"] == "1"
        assert [str(call) for call in elsewhere.calls] == ["set a", "get a", "get a"]
        elsewhere.calls.clear()
        assert len(elsewhere.calls) == 0


@pytest.mark.slow
def test_errors_come_from_the_process(elsewhere: MemcachedServer) -> None:
    with pytest.raises(ValueError, match="too large"):
        elsewhere.put("a", bytes(2 << 20))
    with pytest.raises(ValueError, match="another process can import"):
        elsewhere.fault().reply(lambda call: b"")
    with pytest.raises(TimeoutError):
        elsewhere.wait_for("delete", timeout=0.01)
    with pytest.raises(ValueError, match="port="):
        MemcachedServer(process=True, options=["-p", "1"]).start()


@pytest.mark.slow
def test_nothing_is_left_of_a_process() -> None:
    with nothing_left():
        server = MemcachedServer(process=True).start()
        address = server.address
        with raw(server) as client:
            client.ask(b"get a\r\n")
        server.stop()
        server.stop()
        with pytest.raises(ConnectionRefusedError):
            RawClient(address)
        assert [str(call) for call in server.calls] == ["get a"]


@pytest.mark.slow
def test_a_process_that_dies_is_noticed() -> None:
    with MemcachedServer(process=True) as server:
        child: Any = server._host
        child._child.kill()
        child._child.wait()
        with pytest.raises(RuntimeError, match="has ended"):
            server.items()


@pytest.mark.slow
def test_a_process_is_there_while_the_tests_are_interrupted() -> None:
    with MemcachedServer(process=True) as server:
        child: Any = server._host
        os.kill(child._child.pid, signal.SIGINT)  # as a terminal does, to all of the group
        server.put("a", b"1")
        assert len(server) == 1
        server.stop()
        assert child._child.returncode == 0


@pytest.mark.slow
def test_an_answer_that_nobody_waited_for_is_not_taken_for_another_one() -> None:
    def time_out(*_: object) -> None:
        raise TimeoutError("of the test")

    def ask_until_then(server: MemcachedServer) -> None:
        while True:
            server.stats()

    with MemcachedServer(process=True) as server:
        handler = signal.signal(signal.SIGALRM, time_out)
        try:
            signal.setitimer(signal.ITIMER_REAL, 0.05)
            with pytest.raises(TimeoutError, match="of the test"):
                ask_until_then(server)
        finally:
            signal.signal(signal.SIGALRM, handler)
        with pytest.raises(RuntimeError, match="has ended"):
            server.items()


@pytest.mark.slow
def test_a_pair_in_a_process_can_do_the_same() -> None:
    with nothing_left(), MemcachedPair(process=True, clock="frozen") as pair:
        then = pair.now
        with raw(pair.a) as a, raw(pair.b) as b:
            assert a.ask(b"set a 0 60 1\r\nx\r\n") == b"STORED\r\n"
            assert b.ask(b"get a\r\n", b"END\r\n") == b"VALUE a 0 1\r\nx\r\nEND\r\n"
            fault = pair.fault(command="get", times=2).reply(b"SERVER_ERROR busy\r\n")
            answers = [client.ask(b"get a\r\n") for client in (a, b, a)]
            assert answers[:2] == [b"SERVER_ERROR busy\r\n"] * 2
            assert fault.met == 2
            assert [str(call) for call in pair.calls] == ["set a", *["get a"] * 4]
            with pair.partition():
                pair.a.put("cut", b"1")
                assert "cut" not in pair.b
            pair.wait_in_sync()
            pair.advance(61)
            assert set(pair.b.items()) == {b"cut"}
            address = pair.a.address
            pair.kill("a")
            assert a.read() == b""
            assert len(pair.a.calls) == 3
            pair.b.put("b", b"1")
            pair.restart("a")
            assert pair.a.address == address
            assert "b" in pair.a
            pair.kill("b")
            pair.reset()
            assert pair.now == then
            assert pair.a.items() == pair.b.items() == {}


# -- gevent ------------------------------------------------------------------------------------

GEVENT = """
from gevent import monkey
monkey.patch_all()
import gevent, socket
from pymcd.testing import MemcachedPair, MemcachedServer
with MemcachedPair() as pair:
    pair.a.put("a", b"1")
    assert "a" in pair.b

def ask(request, end=b"\\r\\n"):
    with socket.create_connection(server.address) as client:
        client.sendall(request)
        answer = b""
        while not answer.endswith(end):
            answer += client.recv(100)
        return answer

with MemcachedServer() as server:
    (line,) = server.log
    assert line.startswith("gevent has replaced threads and sockets"), line
    server.put("a", b"1", ttl=60)
    server.restart(keep_items=True)
    assert server.get("a").value == b"1"
    waiting = gevent.spawn(server.wait_for, "set", count=20, timeout=60)
    answers = [gevent.spawn(ask, b"set k%d 0 60 1\\r\\nx\\r\\n" % number) for number in range(20)]
    gevent.joinall(answers, raise_error=True)
    assert all(answer.value == b"STORED\\r\\n" for answer in answers)
    assert len(waiting.get()) == 20
    server.advance(61)
    assert server.items() == {}
print("good")
"""


@pytest.mark.skipif(find_spec("gevent") is None, reason=needs("gevent"))
@pytest.mark.slow
def test_gevent() -> None:
    done = subprocess.run(
        [sys.executable, "-c", GEVENT],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
    )
    assert (done.stdout, done.returncode) == ("good\n", 0), done.stderr


# -- subinterpreters ---------------------------------------------------------------------------

IN_A_SUBINTERPRETER = """
import socket
from pymcd.testing import MemcachedPair, MemcachedServer
with MemcachedServer() as server:
    (line,) = server.log
    assert line.endswith("this server runs in a process of its own, as with process=True"), line
    with socket.create_connection(server.address) as client:
        client.sendall(b"get a\\r\\n")
        server.wait_for("get", "a")
with MemcachedPair() as pair:
    pair.a.put("a", b"1")
    assert "a" in pair.b
"""
OUTSIDE = """
import sys
from concurrent import interpreters
inside = interpreters.create()
inside.exec(f"import sys; sys.path[:] = {sys.path}")
inside.exec(sys.argv[1])
inside.close()
print("good")
"""


@pytest.mark.skipif(sys.version_info < (3, 14), reason="Python 3.14 has them")
@pytest.mark.slow
def test_a_subinterpreter() -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", OUTSIDE, IN_A_SUBINTERPRETER],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
    )
    assert (done.stdout, done.returncode) == ("good\n", 0), done.stderr
    assert done.stderr == ""


def test_where_no_thread_can_be_had_nothing_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    with pytest.raises(RuntimeError, match="can't start new thread"):
        MemcachedServer().start()
    gc.collect()  # what was left open would warn


# -- costs -------------------------------------------------------------------------------------


def test_a_server_that_comes_and_goes_takes_few_calls() -> None:
    """Of functions, in all threads: 4,600 of them were 8 ms of CPU."""
    calls = 0

    def count(frame: object, event: str, argument: object) -> None:
        nonlocal calls
        calls += event == "call"

    counts = []
    for _ in range(5):
        calls = 0
        threading.setprofile(count)
        sys.setprofile(count)
        try:
            with MemcachedServer() as server, raw(server) as client:
                client.ask(b"version\r\n")
        finally:
            sys.setprofile(None)
            threading.setprofile(None)
        counts.append(calls)
    assert sorted(counts)[2] < 5000, counts
