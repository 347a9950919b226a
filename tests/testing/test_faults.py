"""Each fault, as a real client meets it; and that a fault is over when it is over."""

from __future__ import annotations

import socket
import sys
import threading
from typing import TYPE_CHECKING, Any

import pytest

from pymcd.testing import Call, Fault, MemcachedServer

from ..interpreters import needs
from .helpers import RawClient, raw

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

pymemcache = pytest.importorskip("pymemcache")
exceptions = pytest.importorskip("pymemcache.exceptions")

SHORT_S = 0.05
LONG_S = 30.0


@pytest.fixture
def server() -> Iterator[MemcachedServer]:
    with MemcachedServer(clock="frozen") as running:
        yield running


@pytest.fixture
def client(server: MemcachedServer) -> Iterator[Any]:
    """A client that waits as long as it takes."""
    connected = pymemcache.Client(server.address, timeout=LONG_S, default_noreply=False)
    yield connected
    connected.close()


@pytest.fixture
def hasty(server: MemcachedServer) -> Iterator[Any]:
    """A client that gives up soon. For answers that never come, and for these alone."""
    connected = pymemcache.Client(
        server.address, timeout=SHORT_S, connect_timeout=LONG_S, default_noreply=False
    )
    yield connected
    connected.close()


def gone(server: MemcachedServer, staying: int = 0) -> None:
    """Wait until the server has seen that clients went."""
    while server.connections > staying:
        pass


class Background:
    """A call in a thread, and what becomes of it."""

    def __init__(self, call: Callable[..., Any], *arguments: Any) -> None:
        self._outcome: list[Any] = []
        self._thread = threading.Thread(
            target=lambda: self._outcome.append(call(*arguments)), daemon=True
        )
        self._thread.start()

    @property
    def done(self) -> bool:
        return bool(self._outcome)

    def result(self) -> Any:
        self._thread.join(LONG_S)
        return self._outcome[0]


# -- one by one --------------------------------------------------------------------------------


def test_delay_ends_with_the_clock(server: MemcachedServer, client: Any) -> None:
    server.put("a", b"1")
    server.fault(command="get").delay(10)
    background = Background(client.get, "a")
    (call,) = server.wait_for("get", "a")
    server.advance(9)
    assert call.reply is None
    assert not background.done
    server.advance(1)
    assert background.result() == b"1"


def test_delay_is_longer_than_a_client_waits(
    server: MemcachedServer, client: Any, hasty: Any
) -> None:
    with server.fault(command="set", times=1).delay(10):
        with pytest.raises(socket.timeout):
            hasty.set("a", "1")
        # It goes, and its command with it.
        gone(server)
        server.advance(20)
        assert client.get("a") is None
        assert client.set("a", "1") is True


def test_delay_of_real_time() -> None:
    with MemcachedServer() as server, raw(server) as client:
        with server.fault(command="get").delay(0.001):
            assert client.ask(b"get a\r\n") == b"END\r\n"
        with server.fault(command="get").delay(1000):
            client.send(b"get a\r\n")
            server.wait_for("get", count=2)
            server.advance(1000)
            assert client.read() == b"END\r\n"


def test_delay_keeps_the_order_and_spares_others(server: MemcachedServer) -> None:
    with raw(server) as held, raw(server) as free:
        server.fault(key="slow").delay(5)
        held.send(b"set a 0 0 1\r\n1\r\nget slow\r\nset a 0 0 1\r\n2\r\n")
        server.wait_for("get", "slow")
        assert held.read() == b"STORED\r\n"
        assert free.ask(b"get a\r\n", b"END\r\n") == b"VALUE a 0 1\r\n1\r\nEND\r\n"
        server.advance(5)
        assert held.read(b"STORED\r\n") == b"END\r\nSTORED\r\n"


def test_stall_lasts_as_long_as_the_fault(server: MemcachedServer, client: Any, hasty: Any) -> None:
    server.put("a", b"1")
    with server.fault(command="get").stall():
        with pytest.raises(socket.timeout):
            hasty.get("a")
        server.advance(10_000)
        with pytest.raises(socket.timeout):
            hasty.get("a")
    assert client.get("a") == b"1"


def test_stalled_clients_go_on_when_it_is_removed(server: MemcachedServer, client: Any) -> None:
    server.put("a", b"1")
    fault = server.fault(command="get").stall()
    background = Background(client.get, "a")
    server.wait_for("get")
    fault.remove()
    assert background.result() == b"1"
    assert fault.met == 1
    assert not fault.active


def test_drop(server: MemcachedServer, client: Any) -> None:
    with server.fault(command="set", times=1).drop():
        with pytest.raises(exceptions.MemcacheUnexpectedCloseError):
            client.set("a", "1")
        assert server.get("a") is None
    with server.fault(command="set", times=1).drop(executed=True):
        with pytest.raises(exceptions.MemcacheUnexpectedCloseError):
            client.set("a", "1")
        assert server.get("a") is not None


def test_reset(server: MemcachedServer, client: Any) -> None:
    with server.fault(command="set", times=1).reset():
        with pytest.raises(ConnectionResetError):
            client.set("a", "1")
        assert server.get("a") is None
    with server.fault(command="set", times=1).reset(executed=True):
        with pytest.raises(ConnectionResetError):
            client.set("a", "1")
        assert server.get("a") is not None


def test_reply(server: MemcachedServer, client: Any) -> None:
    with (
        server.fault(command="set").reply(b"SERVER_ERROR out to lunch\r\n"),
        pytest.raises(exceptions.MemcacheServerError, match="out to lunch"),
    ):
        client.set("a", "1")
    assert server.get("a") is None
    assert server.calls[-1].reply == b"SERVER_ERROR out to lunch\r\n"


def test_reply_of_a_function(server: MemcachedServer, client: Any) -> None:
    def shout(call: Call) -> bytes:
        assert call.key is not None
        return b"VALUE %b 0 %d\r\n%b\r\nEND\r\n" % (call.key, len(call.key), call.key.upper())

    with server.fault(command="get").reply(shout):
        assert client.get("echo") == b"ECHO"


def test_truncate(server: MemcachedServer, client: Any) -> None:
    server.put("a", b"1234567890")
    for size in (0, 5, 20):
        with server.fault(command="get").truncate(size):
            with pytest.raises(exceptions.MemcacheUnexpectedCloseError):
                client.get("a")
            assert len(server.calls[-1].reply or b"") == size
    with raw(server) as bytes_client, server.fault().truncate(3):
        assert bytes_client.ask(b"version\r\n") == b"VER"


def test_garbage(server: MemcachedServer, client: Any) -> None:
    replies: list[bytes] = []
    for _ in range(2):
        with (
            server.fault(command="get", seed=7).garbage(),
            pytest.raises(exceptions.MemcacheError),
        ):
            client.get("a")
        replies.append(server.calls[-1].reply or b"")
        client.close()
    assert replies[0] == replies[1]
    assert len(replies[0]) == 66
    with server.fault(command="get", seed=8).garbage(100), raw(server) as bytes_client:
        bytes_client.ask(b"get a\r\n")
        assert len(server.calls[-1].reply or b"") == 102


def test_out_of_memory(server: MemcachedServer, client: Any) -> None:
    server.put("a", b"old")
    with server.fault().out_of_memory() as fault:
        for name in ("set", "add", "append"):
            with pytest.raises(exceptions.MemcacheServerError, match="out of memory"):
                getattr(client, name)("b", "1")
        with pytest.raises(exceptions.MemcacheServerError, match="out of memory"):
            client.get("a")
        # As in a real one: what could not be stored does not leave the old value there.
        with pytest.raises(exceptions.MemcacheServerError, match="out of memory"):
            client.set("a", "1")
        assert fault.met == 5
    assert server.items() == {}
    assert int(server.stats()["store_no_memory"]) == 4
    assert client.set("a", "1") is True


def test_out_of_memory_of_the_binary_protocol(server: MemcachedServer) -> None:
    with raw(server) as client:
        with server.fault().out_of_memory():
            assert client.ask_binary(0x01, b"a", bytes(8), b"x")[0] == 0x82
            assert client.ask_binary(0x00, b"a")[0] == 0x82
        assert client.ask_binary(0x01, b"a", bytes(8), b"x")[0] == 0


def test_refuse_connections(server: MemcachedServer, client: Any) -> None:
    client.set("a", "1")
    with server.refuse_connections(), server.refuse_connections() as inner:
        with pytest.raises(ConnectionRefusedError):
            pymemcache.Client(server.address).get("a")
        assert client.get("a") == b"1"
        inner.remove()
        with pytest.raises(ConnectionRefusedError):
            pymemcache.Client(server.address).get("a")
    with raw(server) as another:
        assert another.ask(b"get a\r\n", b"END\r\n") == b"VALUE a 0 1\r\n1\r\nEND\r\n"


def test_refuse_again_and_again(server: MemcachedServer) -> None:
    for _ in range(20):
        with server.refuse_connections(), pytest.raises(ConnectionRefusedError):
            RawClient(server.address)
        with raw(server) as client:
            assert client.ask(b"version\r\n") == b"VERSION 1.6.45\r\n"


def test_refuse_a_server_that_has_only_begun() -> None:
    for _ in range(50):
        with MemcachedServer() as server:
            with server.refuse_connections(), pytest.raises(ConnectionRefusedError):
                RawClient(server.address)
            with raw(server) as client:
                assert client.ask(b"version\r\n") == b"VERSION 1.6.45\r\n"


def test_drop_connections(server: MemcachedServer, client: Any) -> None:
    client.set("a", "1")
    with raw(server) as another, raw(server) as stalled:
        another.ask(b"version\r\n")
        server.fault(key="b").stall()
        stalled.send(b"get b\r\n")
        server.wait_for("get", "b")
        assert server.connections == 3
        assert server.drop_connections() == 3
        assert another.read() == stalled.read() == b""
    assert server.connections == 0
    with pytest.raises((exceptions.MemcacheUnexpectedCloseError, OSError)):
        client.get("a")
    assert client.get("a") == b"1"


def test_pause_and_resume(server: MemcachedServer, client: Any, hasty: Any) -> None:
    client.set("a", "1")
    server.pause()
    with pytest.raises(socket.timeout):
        hasty.get("a")
    background = Background(client.get, "a")
    assert server.items() != {}
    server.resume()
    assert background.result() == b"1"


# -- which calls -------------------------------------------------------------------------------


def test_a_fault_is_for_the_calls_that_were_chosen(server: MemcachedServer) -> None:
    with raw(server) as one, raw(server) as two:
        for each in (one, two):
            each.ask(b"version\r\n")
        fault = server.fault(command=["get", "mg"], key="a", connection=2, times=2).reply(b"X\r\n")
        assert one.ask(b"get a\r\n") == b"END\r\n"
        assert two.ask(b"get b\r\n") == b"END\r\n"
        assert two.ask(b"delete a\r\n") == b"NOT_FOUND\r\n"
        assert two.ask(b"get b a\r\n") == b"X\r\n"
        assert two.ask(b"mg a v\r\n") == b"X\r\n"
        assert two.ask(b"mg a v\r\n") == b"EN\r\n"
        assert fault.met == 2


def test_the_fault_made_first_happens(server: MemcachedServer) -> None:
    with raw(server) as client:
        first = server.fault().reply(b"1\r\n")
        with server.fault().reply(b"2\r\n"):
            assert client.ask(b"get a\r\n") == b"1\r\n"
            first.remove()
            assert client.ask(b"get a\r\n") == b"2\r\n"
        assert client.ask(b"get a\r\n") == b"END\r\n"


def test_chance_is_the_same_in_every_run(server: MemcachedServer) -> None:
    def outcomes(seed: int) -> list[bytes]:
        with (
            raw(server) as client,
            server.fault(command="get", probability=0.3, seed=seed).reply(b"X\r\n"),
        ):
            return [client.ask(b"get a\r\n") for _ in range(100)]

    first = outcomes(1)
    assert first == outcomes(1)
    assert first != outcomes(2)
    assert 10 < first.count(b"X\r\n") < 50


def test_a_fault_that_is_removed_twice_or_late_is_harmless() -> None:
    with MemcachedServer() as server:
        fault: Fault = server.fault().drop()
        fault.remove()
        fault.remove()
        assert fault.met == 0
        late = server.fault(command="set").drop()
        of_refusal = server.refuse_connections()
    late.remove()
    of_refusal.remove()
    with server, raw(server) as client:
        with server.fault().reply(b"X\r\n"):
            late.remove()
            assert client.ask(b"get a\r\n") == b"X\r\n"
        assert client.ask(b"get a\r\n") == b"END\r\n"


@pytest.mark.parametrize("protocol", ["text", "binary"])
def test_faults_of_binary_clients(server: MemcachedServer, protocol: str) -> None:
    pylibmc = pytest.importorskip("pylibmc", reason=needs("pylibmc"))
    # Without any behaviors pylibmc 1.6 has Python 3.13 tell of errors that it ignores.
    client = pylibmc.Client([server.url], binary=protocol == "binary", behaviors={})
    client["a"] = 1
    incr = server.fault(command="incr", times=1)
    library = sys.modules["_pylibmc"].libmemcached_version
    # Of this in the binary protocol libmemcached 1.1 asserts that it cannot be: the process ends.
    assertive = protocol == "binary" and library.startswith("1.1.")
    for make, error in (
        (incr.server_error if assertive else incr.out_of_memory, pylibmc.Error),
        (incr.drop, pylibmc.ConnectionError),
        (incr.reset, pylibmc.ConnectionError),
        (incr.garbage, pylibmc.Error),
    ):
        with make() as fault:
            with pytest.raises(error):
                client.incr("a")
            assert fault.met == 1
        client.disconnect_all()
    # What was answered with garbage was executed.
    assert client.incr("a") == 3
    client.disconnect_all()


def test_a_value_in_pieces_is_one_call(server: MemcachedServer) -> None:
    value = bytes(range(256)) * 2000
    with raw(server) as client:
        fault = server.fault(command="set", times=1).reply(b"BUSY\r\n")
        request = b"set a 0 0 %d\r\n%b\r\n" % (len(value), value)
        for start in range(0, len(request), 100_000):
            client.send(request[start : start + 100_000])
        assert client.read() == b"BUSY\r\n"
        assert fault.met == 1
        assert client.ask(request) == b"STORED\r\n"
        assert [str(call) for call in server.calls] == ["set a", "set a"]


def test_what_is_no_request_is_answered_as_ever(server: MemcachedServer) -> None:
    with raw(server) as client:
        assert client.ask(b"\r\n") == b"CLIENT_ERROR bad command line format\r\n"
        assert client.ask(b"bogus a\r\n") == b"ERROR\r\n"
        assert client.ask(b"set a 0 0\r\n") == b"CLIENT_ERROR bad command line format\r\n"
        assert client.ask(b"set a 0 0 x\r\n") == b"CLIENT_ERROR bad command line format\r\n"
        too_large = b"set a 0 0 9999999\r\n" + bytes(9_999_999) + b"\r\nversion\r\n"
        expected = b"SERVER_ERROR object too large for cache\r\n"
        assert client.ask(too_large, b"1.6.45\r\n") == expected + b"VERSION 1.6.45\r\n"
        client.send(bytes(3000))
        assert client.read() == b""


@pytest.mark.parametrize("keys", [64, 65, 3000])
def test_a_get_of_many_keys_is_one_call(server: MemcachedServer, keys: int) -> None:
    """Though it is executed in parts."""
    reply = b"VALUE k 0 1\r\nv\r\n" * keys + b"END\r\n"
    line = b"get" + b" k" * keys + b"\r\n"
    with raw(server) as client:
        client.ask(b"set k 0 0 1\r\nv\r\n")
        assert client.ask(line, end=b"END\r\n") == reply
        assert client.ask(line + b"version\r\n", end=b"1.6.45\r\n").startswith(reply + b"VERSION")
        with server.fault(command="get", times=1).truncate(100):
            client.send(line)
            assert client.read(end=b"the server closes before") == reply[:100]
    assert [call.command for call in server.calls] == ["set", "get", "get", "version", "get"]
    assert [call.reply for call in server.calls.of("get")] == [reply, reply, reply[:100]]


def test_a_fault_of_a_get_of_many_keys(server: MemcachedServer) -> None:
    line = b"get" + b" k" * 5000 + b"\r\n"
    with raw(server) as client, server.fault(key="k", times=1).reply(b"X\r\n") as fault:
        assert client.ask(line + b"version\r\n", end=b"1.6.45\r\n") == b"X\r\nVERSION 1.6.45\r\n"
        assert fault.met == 1
    assert server.calls[0].keys == (b"k",) * 5000


def test_a_function_that_does_not_return_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    gate = threading.Event()
    asked = threading.Event()

    def wait(call: Call) -> bytes:
        asked.set()
        gate.wait(LONG_S)
        return b"END\r\n"

    with MemcachedServer() as server, raw(server) as client:
        server.fault(command="get").reply(wait)
        client.send(b"get a\r\n")
        assert asked.wait(LONG_S)
        try:
            with monkeypatch.context() as hurried:
                hurried.setattr("pymcd.testing.host._PATIENCE_S", SHORT_S)
                with pytest.raises(RuntimeError, match="the function has not returned") as raised:
                    len(server)
            assert "fault(command='get').reply(wait) at" in str(raised.value)
        finally:
            gate.set()
        assert len(server) == 0


def test_a_function_that_does_not_return_does_not_hold_the_tests(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    gate = threading.Event()
    asked = threading.Event()

    def wait(call: Call) -> bytes:
        asked.set()
        gate.wait(LONG_S)
        return b"END\r\n"

    server = MemcachedServer().start()
    host: Any = server._host
    with raw(server) as client:
        server.fault(command="get").reply(wait)
        client.send(b"get a\r\n")
        assert asked.wait(LONG_S)
        try:
            monkeypatch.setattr("pymcd.testing.host._PATIENCE_S", SHORT_S)
            with pytest.raises(RuntimeError, match=r"reply\(wait\) at .* has not returned"):
                server.stop()
        finally:
            gate.set()
            host._thread.join(LONG_S)
    assert not host._thread.is_alive()
