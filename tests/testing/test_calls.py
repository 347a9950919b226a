"""What tests can say of calls: what they were, by which words they are found, what is kept."""

from __future__ import annotations

import re
import struct
from typing import TYPE_CHECKING, Any

import pytest

from pymcd.testing import Call, MemcachedServer
from pymcd.testing.record import CALLS_MAX_BYTES, CallLog, CallRecord
from pymcd.testing.requests import COMMANDS, as_commands
from pymcd.testing.wanted import Wanted

from .helpers import HEADER, raw

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@pytest.fixture
def server() -> Iterator[MemcachedServer]:
    with MemcachedServer() as running:
        yield running


def binary(opcode: int, key: bytes, extras: bytes = b"", value: bytes = b"", cas: int = 0) -> bytes:
    body = extras + key + value
    head = (0x80, opcode, len(key), len(extras), 0, len(body), b"mine", cas)
    return HEADER.pack(*head) + body


#: Request, value, client flags, ttl, noreply; and by which names it is found, besides its own.
ATTRIBUTES: list[tuple[bytes, bytes | None, int | None, int | None, bool, set[str]]] = [
    (b"set a 5 300 1\r\nx\r\n", b"x", 5, 300, False, {"writes"}),
    (b"set a 0 -1 1 noreply\r\nx\r\n", b"x", 0, -1, True, {"writes"}),
    (b"add a 0 1900000000 0\r\n\r\n", b"", 0, 1900000000, False, {"writes"}),
    (b"cas a 0 0 1 7\r\nx\r\n", b"x", 0, 0, False, {"writes"}),
    (b"set a 0 0 9999999\r\n", None, 0, 0, False, {"writes"}),
    (b"get a\r\n", None, None, None, False, {"reads"}),
    (b"gets a b\r\n", None, None, None, False, {"get", "reads"}),
    (b"gat 60 a\r\n", None, None, 60, False, {"get", "touch", "reads", "writes"}),
    (b"gats -1 a\r\n", None, None, -1, False, {"get", "touch", "reads", "writes"}),
    (b"touch a 60 noreply\r\n", None, None, 60, True, {"writes"}),
    (b"delete a noreply\r\n", None, None, None, True, {"writes"}),
    (b"incr a 1\r\n", None, None, None, False, {"writes"}),
    (b"flush_all 10\r\n", None, None, None, False, {"writes"}),
    (b"version\r\n", None, None, None, False, set()),
    (b"mn\r\n", None, None, None, False, set()),
    (b"mn q\r\n", None, None, None, False, set()),
    (b"mg a v q\r\n", None, None, None, True, {"get", "reads"}),
    (b"mg a v T30\r\n", None, None, 30, False, {"get", "touch", "reads", "writes"}),
    (b"mg a v N30\r\n", None, None, None, False, {"get", "reads", "writes"}),
    (b"me a\r\n", None, None, None, False, {"reads"}),
    (b"ms a 1 T300 F5\r\nx\r\n", b"x", 5, 300, False, {"set", "writes"}),
    (b"ms a 1 T-1 ME q\r\nx\r\n", b"x", 0, -1, True, {"add", "writes"}),
    (b"ms a 1 MA\r\nx\r\n", b"x", 0, None, False, {"append", "writes"}),
    (b"ms a 1 C7\r\nx\r\n", b"x", 0, None, False, {"cas", "writes"}),
    (b"md a q\r\n", None, None, None, True, {"delete", "writes"}),
    (b"ma a T9\r\n", None, None, 9, False, {"incr", "writes"}),
    (b"ma a MD\r\n", None, None, None, False, {"decr", "writes"}),
    (binary(0x01, b"a", struct.pack(">II", 5, 300), b"x"), b"x", 5, 300, False, {"writes"}),
    (binary(0x11, b"a", bytes(8), b""), b"", 0, 0, True, {"writes"}),
    (binary(0x01, b"a", bytes(8), b"x", cas=7), b"x", 0, 0, False, {"cas", "writes"}),
    (binary(0x0E, b"a", b"", b"x"), b"x", None, None, False, {"writes"}),
    (binary(0x09, b"a"), None, None, None, True, {"reads"}),
    (binary(0x1C, b"a", struct.pack(">I", 60)), None, None, 60, False, {"writes"}),
    (binary(0x1D, b"a", struct.pack(">I", 60)), None, None, 60, False,
     {"get", "touch", "reads", "writes"}),
    (binary(0x05, b"a", struct.pack(">QQI", 1, 0, 60)), None, None, 60, False, {"writes"}),
    (binary(0x05, b"a", struct.pack(">QQI", 1, 0, 0xFFFFFFFF)), None, None, None, False,
     {"writes"}),
]  # fmt: skip


@pytest.mark.parametrize(("request_", "value", "flags", "ttl", "noreply", "names"), ATTRIBUTES)
def test_what_a_call_was(
    server: MemcachedServer,
    request_: bytes,
    value: bytes | None,
    flags: int | None,
    ttl: int | None,
    noreply: bool,
    names: set[str],
) -> None:
    with raw(server) as client:
        client.send(request_)
        (call,) = server.wait_for()
        assert (call.value, call.client_flags, call.ttl, call.noreply) == (
            value, flags, ttl, noreply,
        )  # fmt: skip
        found = {name for name in COMMANDS if Wanted(as_commands(name)).fits(call)}
        assert found == {call.command, *names} | ({f"={call.command}"} & COMMANDS)


def test_a_call_made_by_hand_is_found_by_its_family() -> None:
    assert Wanted.of("get", "a").fits(Call("gets", (b"a",)))
    assert not Wanted.of("=get", "a").fits(Call("gets", (b"a",)))
    assert Wanted.of("reads", None).fits(Call("mg", (b"a",)))


KEYS: list[tuple[Any, list[str]]] = [
    ("user:1", ["user:1"]),
    (b"user:1", ["user:1"]),
    ("user:*", ["user:1", "user:22"]),
    (b"user:?", ["user:1"]),
    ("*", ["user:1", "user:22", "page?x=[1]"]),
    ("page?x=[1]", ["page?x=[1]"]),
    (re.compile(r"user:\d\d"), ["user:22"]),
    (re.compile(rb"user:\d"), ["user:1"]),
    (lambda key: key.endswith(b"2"), ["user:22"]),
]


@pytest.mark.parametrize(("key", "fitting"), KEYS)
def test_keys_are_meant_by_patterns(server: MemcachedServer, key: Any, fitting: list[str]) -> None:
    hit = server.fault(key=key).reply(b"X\r\n")
    with raw(server) as client:
        for each in ("user:1", "user:22", "page?x=[1]"):
            expected = b"X\r\n" if each in fitting else b"END\r\n"
            assert client.ask(b"get %b\r\n" % each.encode()) == expected
    assert hit.met == len(fitting)
    assert [call.keys[0].decode() for call in server.calls.of("get", key)] == fitting
    assert len(server.wait_for("get", key)) == len(fitting)
    assert server.calls.assert_called("get", key, count=len(fitting))


def test_a_function_of_a_key_that_fails_is_told(server: MemcachedServer) -> None:
    server.fault(key=lambda key: key[1000]).drop()
    with raw(server) as client:
        assert client.ask(b"get a\r\n") == b"END\r\n"
    with pytest.raises(AssertionError, match="IndexError"):
        server.verify()


@pytest.mark.parametrize(
    ("key", "error", "words"),
    [
        ("", ValueError, "1 to 250"),
        ("a" * 251, ValueError, "1 to 250"),
        (5, TypeError, "a key is a str or bytes"),
    ],
)
def test_a_key_that_cannot_be(
    server: MemcachedServer, key: Any, error: type[Exception], words: str
) -> None:
    for use in (server.calls.of, server.wait_for, server.calls.assert_not_called):
        with pytest.raises(error, match=words):
            use("get", key)
    with pytest.raises(error, match=words):
        server.fault(key=key)


LOG = CallLog(
    CallRecord(
        [
            Call("get", (b"a",), reply=b"END\r\n"),
            Call("set", (b"a",), value=b"1", ttl=60, client_flags=0, reply=b"STORED\r\n"),
            Call("set", (b"b",), value=b"2" * 100, ttl=0, client_flags=1, noreply=True, reply=b""),
        ]
    )
)


def test_asserting_what_was() -> None:
    assert len(LOG.assert_called()) == 3
    assert [call.key for call in LOG.assert_called("set", count=2)] == [b"a", b"b"]
    assert LOG.assert_called_once("set", "a", ttl=60, value="1").command == "set"
    assert LOG.assert_called_once("writes", noreply=True, client_flags=1).key == b"b"
    LOG.assert_called_once(ttl=None)
    LOG.assert_not_called("delete")
    LOG.assert_not_called("set", "a", ttl=300)


@pytest.mark.parametrize(
    ("check", "words"),
    [
        (
            lambda: LOG.assert_called("set", "a", ttl=300),
            "no call of set 'a' ttl=300; there were:\n"
            "  set a ttl=60 value=b'1' -> b'STORED\\r\\n'  (ttl is 60)\n"
            "  set b ttl=0 flags=1 value=b'2222222222222222222222222222222222222222'... (100 bytes)"
            " noreply  (key, ttl is 0)\n"
            "  get a -> b'END\\r\\n'  (command, ttl is None)",
        ),
        (lambda: LOG.assert_called("set", count=3), "2 calls, not 3 of set; there were:\n"),
        (lambda: LOG.assert_called_once("set"), "2 calls, not 1 of set; there were:\n"),
        (lambda: LOG.assert_called_once("delete"), "no call of delete; there were:\n"),
        (
            lambda: LOG.assert_not_called("set", "a"),
            "1 call of set 'a':\n  set a ttl=60 value=b'1' -> b'STORED\\r\\n'",
        ),
        (lambda: CallLog(CallRecord()).assert_called("get"), "no call of get; there were no calls"),
    ],
)
def test_asserting_what_was_not_names_what_comes_nearest(check: Any, words: str) -> None:
    with pytest.raises(AssertionError) as raised:
        check()
    assert str(raised.value).startswith(words)
    # pytest shows the line of the test.
    assert [entry.name for entry in raised.traceback.filter(raised)][-1] == "<lambda>"


def test_asserting_wrongly() -> None:
    with pytest.raises(TypeError, match="a call has no 'tll'"):
        LOG.assert_called("set", tll=3)  # type: ignore[call-arg]
    with pytest.raises(ValueError, match="assert_not_called"):
        LOG.assert_called("set", count=0)


def test_calls_are_shown_short() -> None:
    call = Call("get", tuple(b"%d" % number for number in range(100)), reply=b"x" * 1000)
    assert repr(call) == f"<Call get 0 1 2 ... (100 keys) -> {b'x' * 100!r}... (1000 bytes)>"
    assert repr(Call("version")) == "<Call version (not answered)>"


# -- what is kept ------------------------------------------------------------------------------


@pytest.mark.parametrize("process", [False, True])
def test_the_log_is_bounded_and_says_what_it_forgot(process: bool) -> None:
    size = 1 << 20
    with MemcachedServer(process=process, max_item_size=2 << 20) as server, raw(server) as client:
        server.put("a", bytes(size - 1000))
        for _ in range(20):
            client.ask(b"get a\r\n", b"END\r\n")
        calls = server.calls
        assert calls.forgotten
        assert len(calls) + calls.forgotten == 20
        assert sum(len(call.reply or b"") for call in calls) <= CALLS_MAX_BYTES
        with pytest.raises(AssertionError, match=rf"{calls.forgotten} older ones are forgotten"):
            calls.assert_called("set")
        client.ask(b"get b\r\n")
        checks: list[Callable[[], object]] = [
            lambda: calls.assert_not_called("set"),
            lambda: calls.assert_called("get", "b", count=1),
            lambda: calls.assert_called_once("get", "b"),
        ]
        for check in checks:
            with pytest.raises(AssertionError, match=rf"{calls.forgotten} older ones are for"):
                check()
        assert calls.assert_called("get", "b")
        server.stop()
        assert server.calls.forgotten == calls.forgotten
        assert len(server.calls) + calls.forgotten == 21


def test_the_newest_call_is_kept_however_large_it_is() -> None:
    record = CallRecord()
    for number in range(3):
        call = Call("set", (b"%d" % number,), value=bytes(CALLS_MAX_BYTES))
        record.add(call)
        record.answered(call, b"STORED\r\n")
    (call,) = record.snapshot()
    assert (call.key, record.forgotten()) == (b"2", 2)
    record.clear()
    assert (record.count(), record.forgotten()) == (0, 0)


def test_small_calls_are_bounded_too() -> None:
    record = CallRecord()
    tracemalloc = pytest.importorskip("tracemalloc", reason="PyPy has none")
    tracemalloc.start()
    for number in range(100_000):
        call = Call("get", (b"%020d" % number,))
        record.add(call)
        record.answered(call, b"END\r\n%d" % number)
    held_bytes, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert held_bytes < CALLS_MAX_BYTES
    assert record.count() + record.forgotten() == 100_000
    assert record.count() > 20_000


@pytest.mark.parametrize("process", [False, True])
def test_one_call_is_looked_at_without_all_others(process: bool) -> None:
    with MemcachedServer(process=process) as server, raw(server) as client:
        client.ask(b"get a\r\n")
        client.ask(b"get b\r\n")
        log = server.calls
        asked: list[str] = []
        ask = server._ask_record
        log._source._ask = lambda *words: (asked.append(words[0]), ask(*words))[1]  # type: ignore[attr-defined,func-returns-value]
        assert (log[-1].key, log[0].key, len(log)) == (b"b", b"a", 2)
        assert [call.key for call in log[1:]] == [b"b"]
        assert asked == ["at", "at", "count", "at"]
        with pytest.raises(IndexError):
            log[2]


def test_a_log_goes_on_when_its_server_has_stopped() -> None:
    with MemcachedServer() as server, raw(server) as client:
        log = server.calls
        client.ask(b"get a\r\n")
        server.stop()
        assert [str(call) for call in log] == ["get a"]
        assert log == server.calls
