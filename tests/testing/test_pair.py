"""`MemcachedPair`: two servers that replicate, and what can happen to them."""

from __future__ import annotations

import re
import socket
import ssl
from typing import TYPE_CHECKING, Any

import pytest

from pymcd.testing import MemcachedPair, MemcachedServer, VerifyError

from ..interpreters import needs_certificates
from .helpers import RawClient, nothing_left, raw

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@pytest.fixture
def pair() -> Iterator[MemcachedPair]:
    with MemcachedPair() as running:
        yield running


def value(server: MemcachedServer, key: bytes) -> bytes | None:
    item = server.get(key)
    return None if item is None else item.value


@pytest.mark.slow
def test_nothing_is_left_of_pairs() -> None:
    with MemcachedPair():
        pass  # what is opened once and for all
    with nothing_left():
        for _ in range(5):
            with MemcachedPair() as pair, raw(pair.a) as client:
                assert client.ask(b"set a 0 0 1\r\nx\r\n") == b"STORED\r\n"
        with MemcachedPair() as pair, pair.partition(), pair.delay_link(1):
            pair.a.pause()
            pair.kill("b")
        pair.stop()


def test_they_behave_as_one_server(pair: MemcachedPair) -> None:
    with raw(pair.a) as a, raw(pair.b) as b:
        for number, (one, other) in enumerate([(a, b), (b, a)] * 10):
            key = b"k%d" % number
            assert one.ask(b"add %b 0 0 1\r\n1\r\n" % key) == b"STORED\r\n"
            assert other.ask(b"add %b 0 0 1\r\n1\r\n" % key) == b"NOT_STORED\r\n"
            assert other.ask(b"incr %b 1\r\n" % key) == b"2\r\n"
            assert one.ask(b"get %b\r\n" % key, b"END\r\n") == b"VALUE %b 0 1\r\n2\r\nEND\r\n" % key
        assert [call.command for call in pair.a.calls[:5]] == ["add", "get", "add", "incr", "add"]
        assert all(call.reply for call in (*pair.a.calls, *pair.b.calls))
        # Replies of the one that forwards are noted as they were sent.
        incr = pair.b.calls.of("incr")[0]
        assert incr.reply == b"2\r\n"


def test_put_evict_and_reset(pair: MemcachedPair) -> None:
    for server, other in ((pair.a, pair.b), (pair.b, pair.a)):
        server.put("a", b"1", flags=3, ttl=100)
        pair.wait_in_sync()
        item = other.get("a")
        assert item is not None
        assert (item.value, item.flags) == (b"1", 3)
        # Eviction stays where it happened.
        assert server.evict("a")
        assert value(other, b"a") == b"1"
        server.put("a", b"2")
        server.reset()
        pair.wait_in_sync()
        assert pair.a.items() == pair.b.items() == {}


def test_load_and_restore_are_for_both(pair: MemcachedPair) -> None:
    pair.a.load({"a": b"1", "b": b"2"})
    assert "a" in pair.b
    before = pair.b.snapshot()
    pair.a.put("a", b"3")
    pair.a.put("c", b"3")
    pair.b.restore(before)
    pair.wait_in_sync()
    for server in (pair.a, pair.b):
        assert {key: item.value for key, item in server.items().items()} == {b"a": b"1", b"b": b"2"}


@pytest.mark.slow
@pytest.mark.parametrize("clock", ["real", "frozen"])
def test_reset_is_as_good_as_new(clock: Any) -> None:
    with MemcachedPair(clock=clock) as pair, raw(pair.b) as client:
        then = pair.now
        for turn in range(3):
            client.ask(b"set a 0 0 1\r\nx\r\n")
            client.ask(b"flush_all 50\r\n")
            pair.advance(1000)
            pair.a.fault().reply(b"ERROR\r\n")
            pair.fault(command="get").drop()
            pair.b.refuse_connections()
            pair.partition()
            if turn:
                pair.kill("a")
            if turn == 2:
                pair.a._start()  # whose clock begins in what will be the future
            pair.reset()
            assert 0 <= pair.now - then < 60
            assert pair.a.items() == pair.b.items() == {}
            assert list(pair.calls) == list(pair.a.calls) == []
            assert pair.a.stats()["cmd_set"] == pair.b.stats()["cmd_set"] == "0"
            with raw(pair.a) as other:
                assert other.ask(b"set a 0 %d 1\r\nx\r\n" % (pair.now + 60)) == b"STORED\r\n"
                client.ask(b"set b 0 100 1\r\nx\r\n")
                pair.advance(58)
                assert other.ask(b"get a\r\n", b"END\r\n") == b"VALUE a 0 1\r\nx\r\nEND\r\n"
                pair.advance(5)
                assert client.ask(b"get a\r\n") == other.ask(b"get a\r\n") == b"END\r\n"
                assert other.ask(b"get b\r\n", b"END\r\n") == b"VALUE b 0 1\r\nx\r\nEND\r\n"


def test_reset_of_one_sets_the_clock_of_both_back() -> None:
    with MemcachedPair(clock="frozen") as pair:
        then = pair.now
        for one, other in ((pair.a, pair.b), (pair.b, pair.a)):
            one.put("a", b"1")
            other.advance(1000)
            with raw(other) as client:
                client.ask(b"version\r\n")
            one.reset()
            assert pair.a.now == pair.b.now == then
            assert pair.a.items() == pair.b.items() == {}
            assert other.calls
            one.put("a", b"1", ttl=60)
            assert "a" in other
            other.advance(61)
            assert "a" not in one
            pair.reset()


def test_calls_of_both_come_in_their_order(pair: MemcachedPair) -> None:
    with raw(pair.a) as a, raw(pair.b) as b:
        for number, client in enumerate((a, b, b, a, b, a)):
            client.ask(b"get k%d\r\n" % number)
    assert [call.key for call in pair.calls] == [b"k%d" % number for number in range(6)]
    assert pair.calls[-1].key == b"k5"
    assert len(pair.calls) == 6
    pair.calls.assert_called_once("get", "k3")
    pair.kill("a")
    assert len(pair.calls) == 6
    pair.calls.clear()
    assert len(pair.b.calls) == 0


@pytest.mark.slow
def test_a_fault_of_both_happens_so_often_in_all(pair: MemcachedPair) -> None:
    with raw(pair.a) as a, raw(pair.b) as b:
        fault = pair.fault(command="get", times=2).reply(b"SERVER_ERROR busy\r\n")
        answers = [client.ask(b"get k\r\n") for client in (a, b, a, b)]
        assert answers == [b"SERVER_ERROR busy\r\n"] * 2 + [b"END\r\n"] * 2
        assert fault.met == 2
        with pair.fault(command="get").reply(b"SERVER_ERROR\r\n") as fault:
            pair.kill("a")
            pair.restart("a")
            with raw(pair.a) as again:
                assert again.ask(b"get k\r\n") == b.ask(b"get k\r\n") == b"SERVER_ERROR\r\n"
        assert b.ask(b"get k\r\n") == b"END\r\n"
        assert fault.met == 2
        pair.fault(command="set", times=1).drop()
        with pytest.raises(VerifyError, match="never happened"):
            pair.verify()


@pytest.mark.parametrize("clock", ["real", "frozen"])
def test_one_clock(clock: Any) -> None:
    with MemcachedPair(clock=clock) as pair, raw(pair.a) as a, raw(pair.b) as b:
        a.ask(b"set a 0 60 1\r\n1\r\n")
        b.ask(b"set b 0 60 1\r\n2\r\n")
        assert abs(pair.a.now - pair.b.now) < 10
        pair.advance(58)
        for client in (a, b):
            assert client.ask(b"get a\r\n", b"END\r\n") == b"VALUE a 0 1\r\n1\r\nEND\r\n"
        pair.advance(3)
        for client in (a, b):
            assert client.ask(b"get a b\r\n") == b"END\r\n"
        # No lease ended by that.
        assert a.ask(b"set a 0 60 1\r\n1\r\n") == b"STORED\r\n"
        pair.wait_in_sync()
        pair.b.advance(61)
        assert value(pair.a, b"a") is None


@pytest.mark.parametrize("victim", ["a", "b"])
@pytest.mark.slow
def test_no_acknowledged_write_is_lost_when_one_is_killed(pair: MemcachedPair, victim: str) -> None:
    dying, staying = (pair.a, pair.b) if victim == "a" else (pair.b, pair.a)
    with raw(dying) as client, raw(staying) as other:
        for number in range(50):
            assert client.ask(b"set k%d 0 0 1\r\nx\r\n" % number) == b"STORED\r\n"
        address = dying.address
        pair.kill(victim)
        assert client.read() == b""
        with pytest.raises(ConnectionRefusedError):
            RawClient(address)
        for number in range(50):
            assert other.ask(b"get k%d\r\n" % number, b"END\r\n").startswith(b"VALUE")
        assert other.ask(b"set after 0 0 1\r\ny\r\n") == b"STORED\r\n"
        pair.restart(victim)
        assert dying.address == address
        pair.wait_in_sync()
        assert value(dying, b"after") == b"y"
        assert len(dying.items()) == 51


@pytest.mark.parametrize("process", [False, pytest.param(True, marks=pytest.mark.slow)])
@pytest.mark.parametrize("again", ["restart", "reset"])
def test_both_may_be_dead_at_once(process: bool, again: str) -> None:
    with MemcachedPair(process=process) as pair:
        pair.a.put("k", b"1")
        pair.kill("a")
        pair.kill("b")
        if again == "reset":
            pair.reset()
        else:
            pair.restart("b")
            pair.restart("a")
        pair.wait_in_sync()
        with raw(pair.a) as a, raw(pair.b) as b:
            assert a.ask(b"set k 0 0 1\r\n2\r\n") == b"STORED\r\n"
            assert b.ask(b"get k\r\n", b"END\r\n") == b"VALUE k 0 1\r\n2\r\nEND\r\n"
        assert len(pair.a) == 1


def cas_unique(client: RawClient) -> int:
    """Return that of k, which is its version; 0: there is none."""
    words = client.ask(b"gets k\r\n", b"END\r\n").split()
    return int(words[4]) if words[0] == b"VALUE" else 0


@pytest.mark.slow
def test_after_a_partition_the_later_write_stands(pair: MemcachedPair) -> None:
    with raw(pair.a) as a, raw(pair.b) as b:
        a.ask(b"set gone 0 0 1\r\nx\r\n")
        with pair.partition() as partition:
            assert a.ask(b"set k 0 0 1\r\na\r\n") == b"STORED\r\n"
            assert b.ask(b"get k\r\n") == b"END\r\n"
            # Of two in the same millisecond either may be the later one.
            version = cas_unique(a)
            while cas_unique(b) <= version:
                assert b.ask(b"set k 0 0 1\r\nb\r\n") == b"STORED\r\n"
            assert b.ask(b"delete gone\r\n") == b"DELETED\r\n"
            with pytest.raises(TimeoutError, match="partition"):
                pair.wait_in_sync(timeout=0.01)
            assert partition.active
        pair.wait_in_sync()
        for client in (a, b):
            assert client.ask(b"get k gone\r\n", b"END\r\n") == b"VALUE k 0 1\r\nb\r\nEND\r\n"


def test_a_slow_link_is_waited_for(pair: MemcachedPair) -> None:
    with raw(pair.a) as a, raw(pair.b) as b, pair.delay_link(0.005):
        for client, other in ((a, b), (b, a)):
            assert client.ask(b"set k 0 0 1\r\na\r\n") == b"STORED\r\n"
            assert other.ask(b"get k\r\n", b"END\r\n") == b"VALUE k 0 1\r\na\r\nEND\r\n"


@pytest.mark.slow
def test_a_paused_server_is_replaced_and_finds_out(pair: MemcachedPair) -> None:
    for server, other in ((pair.a, pair.b), (pair.b, pair.a)):
        with raw(server) as frozen, raw(other) as client:
            client.ask(b"set k 0 0 1\r\n1\r\n")
            server.pause()
            frozen.send(b"get k\r\n")
            assert client.ask(b"set k 0 0 1\r\n2\r\n") == b"STORED\r\n"
            server.resume()
            # It does not answer with what it had; on a slow machine it may have stood still for so
            # long that it parts from who asked before.
            assert frozen.read(b"END\r\n") in (b"VALUE k 0 1\r\n2\r\nEND\r\n", b"")
            pair.wait_in_sync()
        with raw(server) as again:
            assert again.ask(b"get k\r\n", b"END\r\n") == b"VALUE k 0 1\r\n2\r\nEND\r\n"


def test_calls_are_noted_whatever_is_logged(pair: MemcachedPair) -> None:
    for server in (pair.a, pair.b):
        with raw(server) as client, raw(server) as other:
            client.ask(b"set a 0 0 1\r\nx\r\n")
            for _ in range(2):
                other.ask(b"verbosity 2\r\n")
                client.ask(b"verbosity 2\r\n")
            before = len(server.calls)
            client.ask(b"set a 0 0 1\r\ny\r\n")
            client.ask(b"get a\r\n", b"END\r\n")
            assert [(call.command, call.reply) for call in server.calls[before:]] == [
                ("set", b"STORED\r\n"),
                ("get", b"VALUE a 0 1\r\ny\r\nEND\r\n"),
            ]


def test_faults_of_one_server(pair: MemcachedPair) -> None:
    pair.b.put("a", b"1")
    for server, other in ((pair.a, pair.b), (pair.b, pair.a)):
        with raw(server) as client, raw(other) as undisturbed:
            with server.fault(command="set").out_of_memory():
                assert client.ask(b"set a 0 0 1\r\nx\r\n").startswith(b"SERVER_ERROR out of mem")
            with server.fault(command="get").truncate(5), raw(server) as cut:
                assert cut.ask(b"get a\r\n") == b"VALUE"
            with server.fault(command="set").drop(executed=True), raw(server) as dropped:
                assert dropped.ask(b"set d 0 0 1\r\nx\r\n") == b""
            assert undisturbed.ask(b"get d\r\n", b"END\r\n") == b"VALUE d 0 1\r\nx\r\nEND\r\n"
            with server.fault(command="set").garbage():
                client.ask(b"set a 0 0 1\r\nx\r\n")
                assert len(server.calls[-1].reply or b"") == 66
            with server.fault(key="slow").stall() as stalled:
                client.send(b"set slow 0 0 1\r\nx\r\n")
                server.wait_for("set", "slow")
                assert undisturbed.ask(b"get slow\r\n") == b"END\r\n"
                stalled.remove()
            assert client.read() == b"STORED\r\n"
            assert undisturbed.ask(b"delete slow\r\n") == b"DELETED\r\n"


def test_what_clients_sent_before_is_done_before(pair: MemcachedPair) -> None:
    """Nothing waits for these commands, on either server: there will be no reply."""
    with raw(pair.a) as a, raw(pair.b) as b:
        for number in range(50):
            for client in (a, b):
                client.send(b"set k 0 0 2 noreply\r\n%02d\r\n" % number)
                assert value(pair.a, b"k") == value(pair.b, b"k") == b"%02d" % number
                client.send(b"delete k noreply\r\n")
                assert pair.a.items() == pair.b.items() == {}


def test_options_are_for_both() -> None:
    with MemcachedPair(options=["--replication-ack", "strict"]) as pair:
        pair.kill("b")
        with raw(pair.a) as client:
            assert client.ask(b"set a 0 0 1\r\nx\r\n").startswith(b"SERVER_ERROR")


@needs_certificates
def test_a_pair_with_tls() -> None:
    with MemcachedPair(tls=True) as pair:
        context = ssl.create_default_context(cafile=pair.tls_ca_file)
        for server, request, answer in (
            (pair.a, b"set a 0 0 1\r\nx\r\n", b"STORED\r\n"),
            (pair.b, b"get a\r\n", b"VALUE a 0 1\r\nx\r\nEND\r\n"),
        ):
            with (
                socket.create_connection(server.address) as sock,
                context.wrap_socket(sock, server_hostname="localhost") as client,
            ):
                client.sendall(request)
                assert client.recv(100) == answer
        pair.kill("a")
        pair.restart("a")
        pair.wait_in_sync()
        assert value(pair.a, b"a") == b"x"


def test_a_pair_with_users() -> None:
    with MemcachedPair(users={"ada": "secret"}, protocol="ascii", max_item_size="2k") as pair:
        pair.a.put("a", b"1")
        for server in (pair.a, pair.b):
            with raw(server) as client:
                assert client.ask(b"get a\r\n") == b"CLIENT_ERROR unauthenticated\r\n"
                assert client.ask(b"set x 0 0 10\r\nada secret\r\n") == b"STORED\r\n"
                assert client.ask(b"get a\r\n", b"END\r\n") == b"VALUE a 0 1\r\n1\r\nEND\r\n"
            assert server.stats("settings")["item_size_max"] == "2048"


WRONG: list[tuple[Callable[[MemcachedPair], Any], type[Exception], str]] = [
    (lambda pair: pair.start(), RuntimeError, "runs already"),
    (lambda pair: pair.kill("c"), ValueError, '"a" or "b"'),
    (lambda pair: pair.restart("A"), ValueError, '"a" or "b"'),
    (lambda pair: pair.advance(-1), ValueError, "forward"),
    (lambda pair: pair.delay_link(-1), ValueError, "0 or more"),
    (lambda pair: pair.delay_link(float("inf")), ValueError, "partition()"),
]


@pytest.mark.parametrize(("use", "error", "words"), WRONG)
def test_wrong_use_says_what_to_write(
    pair: MemcachedPair, use: Callable[[MemcachedPair], Any], error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=re.escape(words)):
        use(pair)


def test_what_takes_two_says_how_to_have_two(pair: MemcachedPair) -> None:
    pair.kill("b")
    for use in (pair.wait_in_sync, pair.partition, lambda: pair.delay_link(0.1)):
        with pytest.raises(RuntimeError, match=re.escape('restart("b")')):
            use()
    with pytest.raises(RuntimeError, match="not running"):
        pair.kill("b")


def test_a_pair_that_does_not_run_says_so() -> None:
    pair = MemcachedPair()
    uses: list[Callable[[], Any]] = [
        lambda: pair.advance(1),
        lambda: pair.restart("a"),
        lambda: pair.partition(),
        lambda: pair.a.items(),
        lambda: pair.now,
    ]
    for use in uses:
        with pytest.raises(RuntimeError, match=r"restart\(|with Memcached"):
            use()


@pytest.mark.parametrize("keys", [65, 3000])
def test_a_get_of_many_keys_is_one_call(pair: MemcachedPair, keys: int) -> None:
    reply = b"VALUE k 0 1\r\nv\r\n" * keys + b"END\r\n"
    line = b"get" + b" k" * keys + b"\r\n"
    for server in (pair.a, pair.b):
        with raw(server) as client:
            client.ask(b"set k 0 0 1\r\nv\r\n")
            before = len(server.calls)
            assert client.ask(line, end=b"END\r\n") == reply
            assert client.ask(b"set k 0 0 1\r\nv\r\n" + line, end=b"END\r\n").endswith(reply)
            assert client.ask(b"version\r\n") == b"VERSION 1.6.45\r\n"
            commands = [call.command for call in server.calls[before:]]
            assert commands == ["get", "set", "get", "version"]
