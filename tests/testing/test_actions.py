"""What a fault may do, in each protocol; one after the other; and from when on."""

from __future__ import annotations

import re
import struct
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from pymcd.testing import Call, MemcachedPair, MemcachedServer, VerifyError, serve
from pymcd.testing.actions import (
    bandwidth,
    chunks,
    delay,
    drop,
    garbage,
    look,
    miss,
    ok,
    out_of_memory,
    reply,
    reset,
    sequence,
    server_error,
    stall,
    truncate,
    uniform,
)
from tests.testing.helpers import HEADER, RawClient, raw

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pymcd.testing import Fault


@pytest.fixture
def server() -> Iterator[MemcachedServer]:
    with MemcachedServer(clock="frozen") as running:
        yield running


def ask(client: RawClient) -> bytes:
    return client.ask(b"get a\r\n")


# -- one after the other -----------------------------------------------------------------------


def test_a_sequence(server: MemcachedServer) -> None:
    fault = server.fault(command="get").sequence(server_error("1"), ok, reply(b"3\r\n"), ok())
    with raw(server) as client:
        heard = [ask(client) for _ in range(6)]
    assert heard == [
        b"SERVER_ERROR 1\r\n",
        b"END\r\n",
        b"3\r\n",
        b"END\r\n",
        b"END\r\n",
        b"END\r\n",
    ]
    assert fault.met == 4


def test_a_sequence_that_goes_round(server: MemcachedServer) -> None:
    fault = server.fault(times=5).sequence(server_error("1"), ok)
    with raw(server) as client:
        heard = [ask(client)[:3] for _ in range(7)]
    assert heard == [b"SER", b"END", b"SER", b"END", b"SER", b"END", b"END"]
    assert fault.met == 5


def test_a_sequence_that_was_not_done(server: MemcachedServer) -> None:
    server.fault(command="get").sequence(ok, reset, delay(1))
    with raw(server) as client:
        ask(client)
    with pytest.raises(
        VerifyError, match=r"sequence\(ok\(\), reset\(\), delay\(1\)\)(?s:.)* 1 of 3"
    ):
        server.verify()


def test_a_sequence_of_what_holds_and_what_closes(server: MemcachedServer) -> None:
    server.fault(command="get").sequence(reset, delay(10), ok)
    with raw(server) as client:
        client.send(b"get a\r\n")
        with pytest.raises(ConnectionResetError):
            client.read()
    with raw(server) as client:
        client.send(b"get a\r\n")
        server.wait_for("get", count=2)
        server.advance(10)
        assert client.read() == b"END\r\n"
        assert ask(client) == b"END\r\n"


@pytest.mark.parametrize("step", [5, "reset", None, b"END\r\n", lambda: 5])
def test_what_is_no_step(server: MemcachedServer, step: Any) -> None:
    with pytest.raises(TypeError, match=r"pymcd\.testing\.actions"):
        server.fault().sequence(ok, step)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: sequence(), "write what shall happen"),
        (lambda: sequence(sequence(ok)), "write all steps in one"),
        (lambda: uniform(2, 1), "lower first"),
        (lambda: uniform(-1, 1), "lower first"),
        (lambda: delay(-1), "0 or more"),
        (lambda: server_error(""), "a few words"),
        (lambda: server_error("a\r\nb"), "a few words"),
        (lambda: chunks(0), "1 or more"),
        (lambda: bandwidth(0), "1 or more"),
        (lambda: truncate(True), "0 or more"),
        (lambda: garbage(0), "1 or more"),
    ],
)
def test_a_wrong_argument(make: Callable[[], object], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        make()


def test_wrong_kinds_of_arguments() -> None:
    with pytest.raises(TypeError, match=r"a number of seconds, as in delay\(5\)"):
        delay("1")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="a function"):
        look(b"END\r\n")  # type: ignore[arg-type]


# -- which one, and when -----------------------------------------------------------------------


def test_the_first_one_happens_until_it_is_used_up(server: MemcachedServer) -> None:
    server.fault(times=2).reply(b"1\r\n")
    server.fault(times=1).reply(b"2\r\n")
    server.fault().reply(b"3\r\n")
    with raw(server) as client:
        assert [ask(client) for _ in range(4)] == [b"1\r\n", b"1\r\n", b"2\r\n", b"3\r\n"]


def test_the_first_ones_are_skipped(server: MemcachedServer) -> None:
    fault = server.fault(command="get", skip=2, times=1).reply(b"X\r\n")
    with raw(server) as client:
        client.ask(b"version\r\n")
        assert [ask(client) for _ in range(4)] == [b"END\r\n", b"END\r\n", b"X\r\n", b"END\r\n"]
    assert fault.met == 1


@pytest.mark.parametrize("after", [60, timedelta(minutes=1)])
def test_a_fault_that_begins_later(server: MemcachedServer, after: float | timedelta) -> None:
    server.fault(command="get", after=after).reply(b"X\r\n")
    with raw(server) as client:
        assert ask(client) == b"END\r\n"
        server.advance(59)
        assert ask(client) == b"END\r\n"
        server.advance(1)
        assert ask(client) == b"X\r\n"


@pytest.mark.parametrize(
    ("criteria", "words"),
    [
        ({"skip": -1}, "skip=-1"),
        ({"skip": 0.5}, "skip=0.5"),
        ({"after": -1}, "after=-1"),
        ({"after": "1"}, "after='1'"),
    ],
)
def test_wrong_criteria(server: MemcachedServer, criteria: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        server.fault(**criteria)


# -- functions ---------------------------------------------------------------------------------


def test_a_function_chooses_what_happens(server: MemcachedServer) -> None:
    actions: dict[bytes, Any] = {
        b"ok": ok, b"made": ok(), b"busy": server_error("busy"), b"bytes": b"X\r\n", b"miss": miss,
    }  # fmt: skip

    def choose(call: Call) -> Any:
        return actions[call.key or b""]

    for key in actions:
        server.put(key, b"1")
    server.fault(command="get").reply(choose)
    with raw(server) as client:
        heard = {key: client.ask(b"get %b\r\nmn\r\n" % key, b"MN\r\n")[:-4] for key in actions}
    assert heard == {
        b"ok": b"VALUE ok 0 1\r\n1\r\nEND\r\n",
        b"made": b"VALUE made 0 1\r\n1\r\nEND\r\n",
        b"busy": b"SERVER_ERROR busy\r\n",
        b"bytes": b"X\r\n",
        b"miss": b"END\r\n",
    }


def test_a_function_has_a_client_wait(server: MemcachedServer) -> None:
    server.fault(command="get").reply(lambda call: delay(5))
    with raw(server) as client:
        client.send(b"get a\r\n")
        (call,) = server.wait_for("get")
        assert call.reply is None
        server.advance(5)
        assert client.read() == b"END\r\n"


def test_who_looks_sees_each_call_and_changes_none(server: MemcachedServer) -> None:
    seen: list[tuple[str, str]] = []
    server.fault(times=2).look(lambda call: seen.append(("first", str(call))))
    server.fault(command="get").look(lambda call: seen.append(("second", str(call))))
    server.fault(command="get", skip=1).reply(b"X\r\n")
    with raw(server) as client:
        assert [ask(client) for _ in range(3)] == [b"END\r\n", b"X\r\n", b"X\r\n"]
    both = [("first", "get a"), ("second", "get a")]
    assert seen == [*both, *both, ("second", "get a")]


def test_who_looks_and_fails_is_told(server: MemcachedServer) -> None:
    def check(call: Call) -> None:
        assert call.ttl == 300

    server.fault(command="set").look(check)
    with raw(server) as client:
        assert client.ask(b"set a 0 60 1\r\nx\r\n") == b"STORED\r\n"
    with pytest.raises(VerifyError, match="assert 60 == 300"):
        server.verify()


# -- errors and misses, in each protocol -------------------------------------------------------


def binary(opcode: int, key: bytes = b"", extras: bytes = b"", value: bytes = b"") -> bytes:
    body = extras + key + value
    return HEADER.pack(0x80, opcode, len(key), len(extras), 0, len(body), b"mine", 0) + body


def answer(opcode: int, status: int, body: bytes = b"", key_bytes: int = 0) -> bytes:
    head = (0x81, opcode, key_bytes, 0, 0, status, len(body), b"mine", 0)
    return struct.pack(">BBHBBHI4sQ", *head) + body


ERRORS = [
    (b"get a\r\n", b"SERVER_ERROR busy\r\n"),
    (b"set a 0 0 1\r\nx\r\n", b"SERVER_ERROR busy\r\n"),
    (b"mg a v\r\n", b"SERVER_ERROR busy\r\n"),
    (b"ms a 1\r\nx\r\n", b"SERVER_ERROR busy\r\n"),
    (b"stats\r\n", b"SERVER_ERROR busy\r\n"),
    (b"delete a noreply\r\n", b""),
    (b"mg a v q\r\n", b"SERVER_ERROR busy\r\n"),
    (binary(0x00, b"a"), answer(0x00, 0x84, b"busy")),
    (binary(0x01, b"a", bytes(8), b"x"), answer(0x01, 0x84, b"busy")),
    (binary(0x11, b"a", bytes(8), b"x"), answer(0x11, 0x84, b"busy")),
    (binary(0x09, b"a"), answer(0x09, 0x84, b"busy")),
]
NOT_FOUND = b"Not found"
#: With what the item of the key is afterwards; None: as it was.
MISSES: list[tuple[bytes, bytes, bytes | None]] = [
    (b"get a\r\n", b"END\r\n", None),
    (b"gets a b\r\n", b"END\r\n", None),
    (b"get a" + b" a" * 3000 + b"\r\n", b"END\r\n", None),
    (b"gat 60 a\r\n", b"END\r\n", None),
    (b"touch a 60\r\n", b"NOT_FOUND\r\n", None),
    (b"delete a\r\n", b"NOT_FOUND\r\n", None),
    (b"delete a noreply\r\n", b"", None),
    (b"incr a 1\r\n", b"NOT_FOUND\r\n", None),
    (b"decr a 1\r\n", b"NOT_FOUND\r\n", None),
    (b"append a 0 0 1\r\nx\r\n", b"NOT_STORED\r\n", None),
    (b"replace a 0 0 1\r\nx\r\n", b"NOT_STORED\r\n", None),
    (b"cas a 0 0 1 1\r\nx\r\n", b"NOT_FOUND\r\n", None),
    (b"add a 0 0 1\r\nx\r\n", b"STORED\r\n", b"x"),
    (b"set a 0 0 1\r\nx\r\n", b"STORED\r\n", b"x"),
    (b"mg a v k Oxy\r\n", b"EN ka Oxy\r\n", None),
    (b"mg a v q\r\n", b"", None),
    (b"mg a v N60\r\n", b"VA 0 W\r\n\r\n", b""),
    (b"md a\r\n", b"NF\r\n", None),
    (b"ma a\r\n", b"NF\r\n", None),
    (b"ma a N0 J7 v\r\n", b"VA 1\r\n7\r\n", b"7"),
    (b"ms a 1 ME\r\nx\r\n", b"HD\r\n", b"x"),
    (b"ms a 1 MR\r\nx\r\n", b"NS\r\n", None),
    (b"me a\r\n", b"EN\r\n", None),
    (b"version\r\n", b"VERSION 1.6.45\r\n", None),
    (binary(0x00, b"a"), answer(0x00, 0x01, NOT_FOUND), None),
    (binary(0x0C, b"a"), answer(0x0C, 0x01, b"a", 1), None),
    (binary(0x09, b"a"), b"", None),
    (binary(0x04, b"a"), answer(0x04, 0x01, NOT_FOUND), None),
    (binary(0x1C, b"a", bytes(4)), answer(0x1C, 0x01, NOT_FOUND), None),
    (binary(0x03, b"a", bytes(8), b"x"), answer(0x03, 0x01, NOT_FOUND), None),
    (binary(0x0E, b"a", b"", b"x"), answer(0x0E, 0x05, b"Not stored."), None),
    (
        binary(0x05, b"a", struct.pack(">QQI", 1, 0, 0xFFFFFFFF)),
        answer(0x05, 0x01, NOT_FOUND),
        None,
    ),
]


def heard_of(client: RawClient, request: bytes) -> bytes:
    """Return what a client hears of one request."""
    is_binary = request[:1] == b"\x80"
    following, end = (binary(0x0A), answer(0x0A, 0)) if is_binary else (b"mn\r\n", b"MN\r\n")
    return client.ask(request + following, end).removesuffix(end)


@pytest.mark.parametrize(("request_", "expected"), ERRORS)
def test_a_server_error(server: MemcachedServer, request_: bytes, expected: bytes) -> None:
    server.put("a", b"1")
    server.fault(connection=1, times=1).server_error("busy")
    with raw(server) as client:
        assert heard_of(client, request_) == expected
    item = server.get("a")
    assert item is not None
    assert item.value == b"1"


@pytest.mark.parametrize(("request_", "expected", "stored"), MISSES)
def test_a_miss(
    server: MemcachedServer, request_: bytes, expected: bytes, stored: bytes | None
) -> None:
    server.put("a", b"1")
    before = server.get("a")
    server.fault(connection=1, times=1).miss()
    with raw(server) as client:
        assert heard_of(client, request_) == expected
        item = server.get("a")
        assert item is not None
        if stored is None:
            assert item == before
        else:
            assert item.value == stored
    with raw(server) as another:  # it is over
        assert heard_of(another, b"mg a\r\n").startswith(b"HD")
    assert server.items().keys() == {b"a"}


def test_a_miss_is_counted(server: MemcachedServer) -> None:
    server.put("a", b"1")
    with raw(server) as client, server.fault(key="a").miss():
        for request in (b"get a\r\n", b"delete a\r\n", b"incr a 1\r\n", b"touch a 1\r\n"):
            client.ask(request)
    stats = server.stats()
    names = ("get_misses", "delete_misses", "incr_misses", "touch_misses", "get_hits")
    assert [stats[name] for name in names] == ["1", "1", "1", "1", "0"]


MANY = {b"%c" % key: b"%d" % number for number, key in enumerate(b"abcdef")}


@pytest.mark.parametrize(
    ("request_", "key", "found"),
    [
        (b"get a b c", "b", b"ac"),
        (b"get  a  b  c ", "b", b"ac"),
        (b"gets a b c", "b", b"ac"),
        (b"gat 90 a b c", "b", b"ac"),
        (b"gats 90 a b c", "b", b"ac"),
        (b"get a b c d", re.compile("[bc]"), b"ad"),
        (b"get a b b a", "b", b"aa"),
        (b"get a b c", "*", b""),
        (b"get a x b", "x", b"ab"),
        (b"get a b", None, b""),
    ],
)
def test_of_a_get_of_many_keys_only_those_that_are_meant_are_missed(
    server: MemcachedServer, request_: bytes, key: Any, found: bytes
) -> None:
    server.load(MANY)
    with raw(server) as client:
        with server.fault(key=key, connection=1, times=1).miss():
            said = client.ask(request_ + b"\r\nmn\r\n", b"MN\r\n")
        assert b"".join(re.findall(rb"VALUE (.) ", said)) == found
        assert said.endswith(b"END\r\nMN\r\n")
        assert server.calls[0].keys == tuple(request_.split()[-len(server.calls[0].keys) :])
        assert server.calls[0].reply == said.removesuffix(b"MN\r\n")
        assert client.ask(b"get a\r\n", b"END\r\n").startswith(b"VALUE")
    assert len(server) == len(MANY)
    asked = len(server.calls[0].keys)
    stats = server.stats()
    touching = request_.startswith(b"ga")
    assert int(stats["touch_hits" if touching else "get_misses"]) == (
        len(found) if touching else asked - len(found)
    )
    if touching:
        assert [bool(item.expires) for item in server.items().values()].count(True) == len(found)


def test_of_a_get_of_very_many_keys_one_is_missed(server: MemcachedServer) -> None:
    keys = [b"key:%05d" % number for number in range(2000)]
    server.load(dict.fromkeys(keys, b"x"))
    with raw(server) as client, server.fault(key="key:01000").miss():
        said = client.ask(b"get " + b" ".join(keys) + b"\r\nmn\r\n", b"MN\r\n")
    assert re.findall(rb"VALUE (\S+) ", said) == [key for key in keys if key != b"key:01000"]


def test_a_function_of_the_key_that_fails_for_the_next_one() -> None:
    server = MemcachedServer().start()
    server.load(MANY)

    def only_a(key: bytes) -> bool:
        if key != b"a":
            raise ZeroDivisionError
        return True

    server.fault(key=only_a).miss()
    with raw(server) as client:
        assert client.ask(b"get a b\r\n", b"END\r\n").count(b"VALUE") == 2
    with pytest.raises(VerifyError, match="ZeroDivisionError"):
        server.verify()
    server.stop()


def test_a_step_that_looks(server: MemcachedServer) -> None:
    seen: list[Call] = []
    server.fault(command="get", times=1).sequence(look(seen.append))
    server.fault(command="get", times=1).reply(lambda call: look(seen.append))
    with raw(server) as client:
        for _ in range(2):
            assert client.ask(b"get a\r\n") == b"END\r\n"
    assert [str(call) for call in seen] == ["get a", "get a"]


def test_of_a_pair() -> None:
    with MemcachedPair() as pair:
        pair.a.put("a", b"1")
        for node in (pair.a, pair.b):
            with raw(node) as client:
                for arm, expected in (
                    (lambda fault: fault.miss(), b"END\r\n"),
                    (lambda fault: fault.server_error(), b"SERVER_ERROR busy\r\n"),
                    (lambda fault: fault.chunks(1), b"VALUE a 0 1\r\n1\r\nEND\r\n"),
                    (lambda fault: fault.bandwidth(1000), b"VALUE a 0 1\r\n1\r\nEND\r\n"),
                ):
                    with arm(node.fault(command="get", times=1)):
                        assert heard_of(client, b"get a\r\n") == expected
                with node.fault(command="set", times=1).chunks(3):
                    assert heard_of(client, b"set a 0 0 1\r\n1\r\n") == b"STORED\r\n"


# -- by and by ---------------------------------------------------------------------------------


def test_delays_by_chance_are_the_same_each_time(server: MemcachedServer) -> None:
    def waits(arm: Callable[[], Fault]) -> list[float]:
        found = []
        with arm(), raw(server) as client:
            for _ in range(5):
                began = server.now
                client.send(b"get a\r\n")
                server.wait_for("get", count=1)
                while server.calls[-1].reply is None:
                    server.advance(0.001)
                client.read()
                found.append(server.now - began)
                server.calls.clear()
        return found

    one = waits(lambda: server.fault().delay(uniform(0.01, 0.05), seed=1))
    assert one == pytest.approx(
        waits(lambda: server.fault().delay(uniform(0.01, 0.05), seed=1)), abs=0.003
    )
    assert one != pytest.approx(
        waits(lambda: server.fault().delay(uniform(0.01, 0.05), seed=2)), abs=0.003
    )
    assert all(0.009 <= each <= 0.053 for each in one)
    assert len({round(each, 3) for each in one}) > 1


def test_a_choice_of_seconds_that_cannot_be_is_told(server: MemcachedServer) -> None:
    server.fault().delay(lambda random: -1.0)
    with raw(server) as client:
        assert ask(client) == b"END\r\n"
    with pytest.raises(VerifyError, match="0 or more"):
        server.verify()


def test_chunks_come_one_by_one(server: MemcachedServer) -> None:
    """As a driver sees it, since a client's system may join them again."""

    async def program() -> list[bytes]:
        async with serve() as fake:
            await fake.put("a", b"1")
            fake.fault(command="get").chunks(5)
            stream = fake.connect()
            await stream.send_all(b"mn\r\nget a\r\nmn\r\n")
            found: list[bytes] = []
            while not b"".join(found).endswith(b"END\r\nMN\r\n"):
                await trio.testing.wait_all_tasks_blocked()
                found.append(bytes(await stream.receive_some()))
            return found

    import trio.testing

    assert b"".join(trio.run(program)) == b"MN\r\nVALUE a 0 1\r\n1\r\nEND\r\nMN\r\n"
    with raw(server) as client:
        server.put("a", bytes(1000))
        with server.fault(command="get").chunks(7):
            heard = client.ask(b"get a\r\nget a\r\nmn\r\n", b"MN\r\n")
    assert heard == (b"VALUE a 0 1000\r\n" + bytes(1000) + b"\r\nEND\r\n") * 2 + b"MN\r\n"


def test_parts_are_written_by_themselves(server: MemcachedServer) -> None:
    from pymcd.config import Settings
    from pymcd.protocol import Connection
    from pymcd.service import Service
    from pymcd.testing.clocks import FakeClock
    from pymcd.testing.faults import Criteria, Origin, Rule
    from pymcd.testing.findings import Place
    from pymcd.testing.scripted import Script
    from tests.hosts import make_host

    clock = FakeClock("frozen")
    script = Script(clock)
    connection = Connection(Service(Settings(), clock, make_host()))
    script.take_on(connection)
    script.faults.install(Rule(1, Criteria(), chunks(4), Origin("", Place("", 0))))
    connection.receive_data(b"version\r\n")
    parts = []
    while connection.run() or connection.pieces:
        while (chunk := connection.next_chunk()) is not None:
            parts.append(bytes(chunk))
    assert parts == [b"VERS", b"ION ", b"1.6.", b"45\r\n"]


def test_bandwidth_goes_by_the_clock(server: MemcachedServer) -> None:
    server.put("a", bytes(100))
    fault = server.fault(command="get").bandwidth(10)
    with raw(server) as client:
        client.send(b"get a\r\nmn\r\n")
        server.wait_for("get")
        whole = b"VALUE a 0 100\r\n" + bytes(100) + b"\r\nEND\r\n"
        server.advance(1)
        assert client.sock.recv(1000) == whole[:10]
        server.advance(2.5)
        assert client.sock.recv(1000) == whole[10:35]
        fault.remove()  # and nothing keeps it back
        assert client.read(b"MN\r\n") == whole[35:] + b"MN\r\n"
    assert server.calls[0].reply == whole


def test_bandwidth_of_real_time() -> None:
    with MemcachedServer() as server, raw(server) as client:
        server.fault().bandwidth(100_000)
        assert client.ask(b"version\r\n") == b"VERSION 1.6.45\r\n"
        server.reset()
        server.fault().bandwidth(1)
        client.send(b"version\r\n")
        server.wait_for("version")
        server.reset()  # lets it go
        assert client.read() == b"VERSION 1.6.45\r\n"


def test_a_client_that_leaves_meanwhile(server: MemcachedServer) -> None:
    server.fault(connection=1).bandwidth(1)
    with raw(server) as client:
        client.send(b"version\r\n")
        server.wait_for("version")
    while server.connections:
        pass
    server.advance(100)
    with raw(server) as client:
        assert client.ask(b"version\r\n") == b"VERSION 1.6.45\r\n"


def test_all_actions_can_be_steps(server: MemcachedServer) -> None:
    steps = [ok, drop, reset, stall, miss, out_of_memory, garbage, server_error]
    made = sequence(*steps, truncate(1), chunks(1), bandwidth(1), delay(1), reply(b""))
    assert len(made.steps) == 13
