"""A test that has not tested what it says does not pass."""

from __future__ import annotations

import re
import warnings
from typing import TYPE_CHECKING, Any

import pytest
import trio

from pymcd.testing import Call, FaultWarning, MemcachedPair, MemcachedServer, VerifyError, serve
from pymcd.testing.actions import ok, reset, sequence

from .helpers import RawClient, raw

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@pytest.fixture(scope="module")
def child() -> Iterator[MemcachedServer]:
    """One in a process of its own, which takes a moment to start."""
    server = MemcachedServer(process=True)
    yield server
    server.stop()


@pytest.fixture(params=["thread", "process"])
def server(request: pytest.FixtureRequest) -> Iterator[MemcachedServer]:
    """A server whose findings are those of each test."""
    if request.param == "thread":
        with MemcachedServer() as running:
            yield running
        return
    running = request.getfixturevalue("child")
    if not running._host:
        running.start()
    running.reset()
    yield running
    running.verify()


def fail(call: Call) -> bytes:
    raise ZeroDivisionError(f"for {call}")


def compare(call: Call) -> bytes:
    assert call.key == b"another"
    return b"END\r\n"


def no_key(key: bytes) -> bool:
    raise ZeroDivisionError(f"for {key!r}")


def answer_nothing(call: Call) -> Any:
    """Forget to return."""


def answer_text(call: Call) -> Any:
    return "END\r\n"


def skip(call: Call) -> bytes:
    pytest.skip("no more of this")


def interrupt(call: Call) -> bytes:
    raise KeyboardInterrupt("as if somebody had")


def leave(call: Call) -> bytes:
    raise SystemExit(3)


class Odd(Exception):
    """One that no other process can have."""

    def __init__(self, first: int, second: int) -> None:
        super().__init__(f"{first} {second}")


def raise_odd(call: Call) -> bytes:
    raise Odd(1, 2)


def ask_text(client: RawClient) -> str:
    return client.ask(b"get a\r\n").decode()


def ask_meta(client: RawClient) -> str:
    return client.ask(b"mg a v\r\n").decode()


def ask_binary(client: RawClient) -> str:
    status, body = client.ask_binary(0x00, b"a")
    assert status == 0x84
    return f"SERVER_ERROR {body.decode()}\r\n"


FUNCTIONS: list[tuple[Callable[[Call], bytes], str, type[BaseException]]] = [
    (fail, "ZeroDivisionError: for {command} a", ZeroDivisionError),
    (compare, "AssertionError: assert b'a' == b'another'", AssertionError),
    (answer_nothing, "TypeError: it returned None; return bytes", TypeError),
    (answer_text, "TypeError: it returned 'END\\r\\n'; return bytes", TypeError),
    (skip, "Skipped: no more of this", pytest.skip.Exception),
    (raise_odd, "Odd: 1 2", Exception),
    (interrupt, "KeyboardInterrupt: as if somebody had", KeyboardInterrupt),
    (leave, "SystemExit: 3", SystemExit),
]


@pytest.mark.parametrize("ask", [ask_text, ask_meta, ask_binary])
@pytest.mark.parametrize(("function", "words", "kind"), FUNCTIONS)
def test_a_function_that_fails_fails_the_client_and_the_test(
    server: MemcachedServer,
    function: Callable[[Call], bytes],
    words: str,
    kind: type[BaseException],
    ask: Callable[[RawClient], str],
) -> None:
    words = words.format(command="mg" if ask is ask_meta else "get")
    if server._plan.process:
        # Another process has no pytest that explains an assert, or whose exceptions travel.
        words, _, _ = words.partition(": assert")
        kind = BaseException
    server.fault(key="a").reply(function)
    with raw(server) as client:
        said = ask(client)
        assert said.startswith("SERVER_ERROR ")
        assert words in said
    assert [words in line and function.__name__ in line for line in server.log] == [True]
    with pytest.raises(VerifyError) as raised:
        server.verify()
    assert words in str(raised.value)
    assert "test_verify.py" in str(raised.value)
    assert isinstance(raised.value.__cause__, kind)
    server.verify()  # told once


def test_a_failure_that_nobody_waited_for_is_told(server: MemcachedServer) -> None:
    server.fault(command="set").reply(fail)
    with raw(server) as client:
        client.send(b"set a 0 0 1 noreply\r\n1\r\n")
        assert client.ask(b"get a\r\n") == b"END\r\n"
    with pytest.raises(VerifyError, match="ZeroDivisionError: for set a"):
        server.verify()


def test_the_connection_lives_on(server: MemcachedServer) -> None:
    server.fault(times=1).reply(fail)
    with raw(server) as client:
        assert ask_text(client).startswith("SERVER_ERROR ZeroDivisionError")
        assert ask_text(client) == "END\r\n"
    server.stop()
    with pytest.raises(VerifyError):
        server.verify()


def test_what_is_wrong_is_told_together(server: MemcachedServer) -> None:
    server.fault(command="get", times=1).reply(fail)
    server.fault(command="set", times=2).reset()
    server.fault(command="incr")
    with raw(server) as client:
        ask_text(client)
    with pytest.raises(VerifyError) as raised:
        server.verify()
    first, second, third = re.split(r"\n(?=\d\.)", str(raised.value))
    assert first.startswith("1. fault(command='get', times=1).reply(fail) at ")
    assert second.startswith("2. fault(command='set', times=2).reset() at ")
    assert "never happened; write required=False" in second
    assert "get a" in second
    assert third.startswith("3. fault(command='incr') at ")


def test_errors_of_several_calls_are_the_cause(server: MemcachedServer) -> None:
    server.fault(command="get").reply(fail)
    with raw(server) as client:
        ask_text(client)
        client.ask(b"get b\r\n")
    with pytest.raises(VerifyError) as raised:
        server.verify()
    assert isinstance(raised.value.__cause__, BaseExceptionGroup)


def test_the_same_failure_of_many_calls_is_told_once(server: MemcachedServer) -> None:
    server.fault(command="get").reply(answer_nothing)
    with raw(server) as client:
        for key in b"abc":
            client.ask(b"get %c\r\n" % key)
    with pytest.raises(VerifyError) as raised:
        server.verify()
    assert "failed for get a, and for 2 more: TypeError: it ret" in str(raised.value)
    assert str(raised.value).count("TypeError") == 1
    assert isinstance(raised.value.__cause__, TypeError)


def test_so_many_different_failures_are_told(server: MemcachedServer) -> None:
    server.fault(command="get").reply(fail)
    with raw(server) as client:
        for number in range(100):
            client.ask(b"get key%d\r\n" % number)
    with pytest.raises(VerifyError) as raised:
        server.verify()
    assert str(raised.value).count("ZeroDivisionError") == 20


def test_a_function_of_a_key_that_fails_is_told_once(server: MemcachedServer) -> None:
    server.fault(key=no_key, times=1).drop()
    with raw(server) as client:
        assert ask_text(client) == "END\r\n"
    with pytest.raises(VerifyError) as raised:
        server.verify()
    first, second = re.split(r"\n(?=\d\.)", str(raised.value))
    assert "the function failed for get a" in first
    assert "never happened" in second  # and not that nobody asked for that key


def skip_key(key: bytes) -> bool:
    pytest.skip("no such key")


def test_a_function_of_a_key_may_fail_as_pytest_does(server: MemcachedServer) -> None:
    server.fault(key=skip_key, times=1).drop()
    with raw(server) as client:
        assert ask_text(client) == "END\r\n"
    with pytest.raises(VerifyError) as raised:
        server.verify()
    assert "the function failed for get a: Skipped: no such key" in str(raised.value)
    assert "there were: get a" in str(raised.value)
    assert len(server) == 0  # it still runs


def odd_key(key: bytes) -> bool:
    raise Odd(1, 2)


@pytest.mark.parametrize(("key", "words"), [(skip_key, "no such key"), (odd_key, "1 2")])
def test_a_function_of_a_key_that_fails_while_it_is_waited_for(
    server: MemcachedServer, key: Callable[[bytes], bool], words: str
) -> None:
    with raw(server) as client:
        assert ask_text(client) == "END\r\n"
    with pytest.raises(BaseException, match=words):
        server.wait_for("get", key)
    assert len(server) == 0  # it still runs


def return_coroutine(call: Call) -> Any:
    return wait(call)


async def wait(call: Call) -> bytes:
    return b"END\r\n"


def return_sequence(call: Call) -> Any:
    return sequence(reset, ok)


@pytest.mark.parametrize(
    ("act", "words"),
    [
        (lambda fault: fault.look(return_coroutine), "write def"),
        (lambda fault: fault.reply(return_coroutine), "it returned <coroutine"),
        (lambda fault: fault.reply(return_sequence), "it returned sequence(reset(), ok())"),
    ],
)
def test_what_a_function_may_not_return(
    server: MemcachedServer, act: Callable[[Any], Any], words: str
) -> None:
    act(server.fault(command="get"))
    with raw(server) as client:
        ask_text(client)
    with pytest.raises(VerifyError, match=re.escape(words)):
        server.verify()


@pytest.mark.parametrize("name", ["stop", "restart"])
def test_stopping_from_inside_is_told(name: str) -> None:
    with MemcachedServer() as server:
        end: Any = getattr(server, name)
        server.fault(command="get").reply(lambda call: end())
        with raw(server) as client:
            assert "cannot be called inside" in ask_text(client)
            assert client.ask(b"version\r\n").startswith(b"VERSION")
        with pytest.raises(VerifyError, match=rf"{name}\(\) waits for the server"):
            server.verify()


def test_the_log_is_there_when_the_server_has_stopped(server: MemcachedServer) -> None:
    server.fault(command="get").reply(answer_nothing)
    use_up(server)
    (line,) = server.log
    server.stop()
    assert server.log == [line]
    with pytest.raises(VerifyError):
        server.verify()


def use_up(server: MemcachedServer) -> None:
    with raw(server) as client:
        client.ask(b"get a\r\n")


def arm(
    times: int, then: Callable[[MemcachedServer], object] = lambda server: None
) -> Callable[[MemcachedServer], object]:
    """Return what makes a fault that must happen so many times, and does something."""

    def use(server: MemcachedServer) -> None:
        server.fault(command="get", times=times).reply(b"END\r\n")
        then(server)

    return use


UNUSED: list[tuple[str, Callable[[MemcachedServer], object], str]] = [
    ("never", arm(1), "never happened"),
    ("once", arm(2, use_up), "happened 1 of 2 times"),
    ("removed", lambda s: s.fault(times=1).drop().remove(), "never happened"),
    ("reset", arm(1, MemcachedServer.reset), "never happened"),
    ("restarted", arm(1, MemcachedServer.restart), "never happened"),
    ("stopped", arm(1, MemcachedServer.stop), "never happened"),
]
USED: list[tuple[str, Callable[[MemcachedServer], object]]] = [
    ("used", arm(1, use_up)),
    ("any number", lambda s: s.fault(command="get").drop()),
    ("not required", lambda s: s.fault(command="get", times=1, required=False).drop()),
]


@pytest.mark.parametrize(("use", "words"), [w[1:] for w in UNUSED], ids=[w[0] for w in UNUSED])
def test_a_fault_must_happen(
    server: MemcachedServer, use: Callable[[MemcachedServer], object], words: str
) -> None:
    use(server)
    with pytest.raises(VerifyError, match=words):
        server.verify()
    server.verify()


@pytest.mark.parametrize("use", [w[1] for w in USED], ids=[w[0] for w in USED])
def test_a_fault_that_is_all_right(
    server: MemcachedServer, use: Callable[[MemcachedServer], object]
) -> None:
    use(server)
    server.verify()


@pytest.mark.parametrize(
    ("use", "words"),
    [
        (lambda s: s.fault(command="get"), "was not told what to do"),
        (lambda s: s.fault(key="b").drop(), "(?s)no command asked for that key; .* get a"),
        (lambda s: s.fault(key="b", times=1, required=False).drop(), "no command asked"),
    ],
    ids=["no action", "no such key", "not required"],
)
def test_what_is_only_odd_is_warned_of(
    server: MemcachedServer, use: Callable[[MemcachedServer], object], words: str
) -> None:
    use(server)
    use_up(server)
    with pytest.warns(FaultWarning, match=words) as caught:
        server.verify()
    assert [(each.filename, len(caught)) for each in caught] == [(__file__, 1)]
    with warnings.catch_warnings(action="error"):
        server.verify()


def unended(call: Call) -> bytes:
    return b"SERVER_ERROR busy"


@pytest.mark.parametrize("reply", [b"SERVER_ERROR busy", unended], ids=["bytes", "function"])
def test_a_reply_without_an_end_is_warned_of(server: MemcachedServer, reply: Any) -> None:
    server.fault(command=["reads", "writes"]).reply(reply)
    with raw(server) as client:
        for request in (b"get a\r\n", b"mg a v\r\n", b"delete a\r\n"):
            client.ask(request, b"busy")
        client.send(b"delete a noreply\r\n")
    with pytest.warns(FaultWarning, match=r"write b'SERVER_ERROR busy\\r\\n'") as caught:
        server.verify()
    assert [each.filename for each in caught] == [__file__]


def test_other_replies_are_not_warned_of(server: MemcachedServer) -> None:
    with raw(server) as client:
        for reply in (b"", b"END\r\n", b"VALUE a 0 1\r\n1\r\nEND\r\n", b"OK\n"):
            with server.fault(command="get").reply(reply):
                client.ask(b"get a\r\nmn\r\n", b"MN\r\n")
    with (
        raw(server) as client,
        server.fault(command="get").reply(b"\x81" + bytes(11) + b"mine" + bytes(8)),
    ):
        client.ask_binary(0x00, b"a")
    server.verify()


def test_a_key_that_was_asked_by_another_command(server: MemcachedServer) -> None:
    server.fault(command="set", key="a").drop()
    use_up(server)
    with warnings.catch_warnings(action="error"):
        server.verify()


def test_a_block_ends_with_it() -> None:
    with pytest.raises(VerifyError), MemcachedServer() as server:
        server.fault(times=1).drop()
    with pytest.raises(VerifyError), MemcachedPair() as pair:
        pair.b.fault(times=1).drop()


def fail_in(fake: MemcachedServer | MemcachedPair, server: MemcachedServer) -> None:
    with fake:
        server.fault(times=1).drop()
        raise ZeroDivisionError


def test_the_failure_of_the_test_comes_first() -> None:
    alone, pair = MemcachedServer(), MemcachedPair()
    with pytest.raises(ZeroDivisionError):
        fail_in(alone, alone)
    with pytest.raises(ZeroDivisionError):
        fail_in(pair, pair.b)


def test_what_was_told_in_the_block_is_not_told_at_its_end() -> None:
    with MemcachedServer() as server:
        server.fault(times=1).drop()
        with pytest.raises(VerifyError):
            server.verify()


@pytest.mark.parametrize("sockets", [False, True])
def test_a_server_of_trio(sockets: bool) -> None:
    async def program() -> None:
        async with serve(sockets=sockets) as server:
            server.fault(command="get", times=1).reply(compare)
            stream = server.connect()
            await stream.send_all(b"get a\r\n")
            assert b"SERVER_ERROR AssertionError" in await stream.receive_some()

    with pytest.raises(VerifyError) as raised:
        trio.run(program)
    assert isinstance(raised.value.__cause__, AssertionError)


def test_a_server_of_trio_whose_test_fails() -> None:
    async def program() -> None:
        async with serve() as server:
            server.fault(times=1).drop()
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        trio.run(program)


def test_who_interrupts_a_trio_program_ends_it() -> None:
    async def program() -> None:
        async with serve() as server:
            server.fault(command="get").reply(interrupt)
            stream = server.connect()
            await stream.send_all(b"get a\r\n")
            await trio.sleep_forever()

    with pytest.raises((KeyboardInterrupt, BaseExceptionGroup)) as raised:
        trio.run(program)
    error: BaseException = raised.value
    while isinstance(error, BaseExceptionGroup):
        (error,) = error.exceptions
    assert isinstance(error, KeyboardInterrupt)


def test_a_node_that_was_killed() -> None:
    with MemcachedPair() as pair:
        killed = pair.a.fault(times=1).drop()
        pair.kill("a")
        pair.restart("a")
        alive = pair.a.fault(command="get").reply(b"END\r\n")
        use_up(pair.a)
        killed.remove()  # it is not the first of the new server
        use_up(pair.a)
        assert (killed.met, alive.met) == (0, 2)
        with pytest.raises(VerifyError, match="never happened"):
            pair.verify()


def test_how_often_a_fault_happened_is_known_for_ever(server: MemcachedServer) -> None:
    fault = server.fault(command="get").reply(b"END\r\n")
    use_up(server)
    assert fault.active
    server.reset()
    assert fault.met == 1
    assert not fault.active
    fault = server.fault(command="get").reply(b"END\r\n")
    use_up(server)
    server.restart()
    use_up(server)
    assert fault.met == 2
    assert fault.active
    server.stop()
    assert fault.met == 2
    assert not fault.active
    server.start()
    use_up(server)
    assert fault.met == 2
    fault.remove()
    assert fault.met == 2


def test_keys_of_items_are_text_or_bytes(server: MemcachedServer) -> None:
    server.put("user:1", b"ada")
    items = server.items()
    assert "user:1" in items
    assert b"user:1" in items
    assert "user:2" not in items
    assert 1 not in items
    assert items["user:1"] is items[b"user:1"]
    assert items.get("user:1") is items[b"user:1"]
    assert items.get("user:2") is None
    with pytest.raises(KeyError):
        items["user:2"]
    server.reset()
    assert server.items() == {}
