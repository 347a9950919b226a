"""Each public call, with None, a wrong type, out of range and empty: what is said of it.

It names the argument and says what to write. Those of the constructors are in `test_server`.
"""

from __future__ import annotations

import asyncio
import gc
import inspect
import re
import threading
import typing
import warnings
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
import trio

import pymcd.testing
from pymcd.testing import Item, MemcachedPair, MemcachedServer, serve

from .test_examples import MEMBERS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

NAN, ENDLESS = float("nan"), float("inf")
#: What takes a command and a key.
ASKING = (
    "wait_for",
    *(
        f"calls.{name}"
        for name in ("of", "assert_called", "assert_called_once", "assert_not_called")
    ),
)
KEYED = ("get", "evict", "__contains__")

Row = tuple[str, tuple[Any, ...], dict[str, Any], str]


async def wait(argument: object) -> None:
    """Do what no function given to a fault can."""


class Waiting:
    async def __call__(self, argument: object) -> None: ...


def each(*wrong: Any) -> tuple[Any, ...]:
    return wrong


#: Method, arguments, and what is said.
WRONG: list[Row] = [
    *(("advance", (wrong,), {}, "as in advance(60)") for wrong in each("1", None, b"1", [], True)),
    *(
        ("advance", (wrong,), {}, "time only goes forward")
        for wrong in each(-1, NAN, ENDLESS, timedelta(seconds=-1))
    ),
    *((name, (None,), {}, "a key is a str or bytes, not None") for name in KEYED),
    *((name, (1,), {}, "a key is a str or bytes, not int: 1") for name in KEYED),
    *((name, ("",), {}, "a key has 1 to 250 bytes") for name in KEYED),
    *((name, ("é" * 126,), {}, "a key has 1 to 250 bytes") for name in KEYED),
    *(("put", ("a", wrong), {}, "write value.encode()") for wrong in each("x", None, 1, ["x"])),
    *(("put", ("a", b""), {"flags": wrong}, f"flags={wrong!r}: ") for wrong in each("1", None, -1)),
    *(
        ("put", ("a", b""), {"ttl": wrong}, "as in ttl=60")
        for wrong in each("60", None, timedelta(1))
    ),
    *(("put", ("a", b""), {"ttl": wrong}, f"ttl={wrong!r}: ") for wrong in each(0.5, NAN, ENDLESS)),
    ("put", ("a", b"", 60), {}, "without a name: write flags=60 or ttl=60"),
    *(("load", (wrong,), {}, 'write load({"a": b"1"})') for wrong in each(None, [], "a", 1)),
    ("load", ({"a": "1"},), {}, "load() stores bytes"),
    ("load", ({"a": "1"},), {}, "the value of 'a' is str; write value.encode()"),
    ("load", ({"a": Item(b"a", b"", expires=1 << 40)},), {}, "expires=1099511627776: "),
    ("load", ({"a": Item(b"a", b"", flags=-1)},), {}, "flags=-1: "),
    ("load", ({"": b"1"},), {}, "a key has 1 to 250 bytes"),
    *(
        ("restore", (wrong,), {}, "takes what snapshot() has returned")
        for wrong in each(None, {}, 1)
    ),
    *(("stats", (wrong,), {}, 'as in stats("items")') for wrong in each(None, 1, b"items", "a\nb")),
    ("stats", ("nonsense",), {}, "stats('nonsense')"),
    *(
        ("restart", (), {"keep_items": wrong}, "write keep_items=True")
        for wrong in each(None, 1, "no")
    ),
    ("restart", (True,), {}, "without a name: write keep_items=True"),
    *(
        (name, (wrong,), {}, f"command={wrong!r}: write a name or several")
        for name in ASKING
        for wrong in each(5, b"get", [], ())
    ),
    *((name, ("gte",), {}, "did you mean") for name in ASKING),
    *((name, ("get", 5), {}, "str or bytes") for name in ASKING),
    *(
        ("wait_for", ("get",), {"count": wrong}, f"count={wrong!r}: ")
        for wrong in each(0, "1", None, 1.5, True)
    ),
    *(
        ("wait_for", ("get",), {"timeout": wrong}, f"timeout={wrong!r}: ")
        for wrong in each(-1, NAN, "1", None)
    ),
    ("wait_for", ("get", "a", 1), {}, "without a name: write count=1"),
    ("fault", ("get",), {}, "without a name: write command='get'"),
    *(("fault", (), {"command": wrong}, f"command={wrong!r}: ") for wrong in each(5, b"get", [])),
    ("fault", (), {"command": "gett"}, "did you mean 'get'"),
    ("fault", (), {"key": ""}, "a key has 1 to 250 bytes"),
    ("fault", (), {"key": 5}, "str or bytes"),
    *(
        ("fault", (), {"times": wrong}, f"times={wrong!r}: ")
        for wrong in each(0, -1, "1", 1.5, True)
    ),
    *(("fault", (), {"connection": wrong}, "connection=") for wrong in each(0, "1", 1.5, True)),
    *(
        ("fault", (), {"probability": wrong}, "probability=")
        for wrong in each(0, 2, "x", None, NAN)
    ),
    *(("fault", (), {"seed": wrong}, f"seed={wrong!r}: ") for wrong in each("x", None, [], 1.5)),
    *(("fault", (), {"required": wrong}, "write required=True") for wrong in each("no", None, 0)),
    (
        "fault",
        (),
        {"commands": "get"},
        "fault() has no argument 'commands'; did you mean command=?",
    ),
    ("fault", (), {"after_s": 1}, "did you mean after=?"),
    ("fault", (), {"x": 1}, "fault() has no argument 'x'; it has command, key, connection, "),
    ("fault", (), {"key": wait}, "key=wait: it is called inside the server"),
    *(
        (f"calls.{name}", ("get",), {attribute: wrong}, f"{attribute}={wrong!r}: no call has such")
        for name in ("assert_called", "assert_called_once", "assert_not_called")
        for attribute, wrong in each(
            ("ttl", "60"),
            ("ttl", 60.0),
            ("ttl", timedelta(seconds=60)),
            ("value", 5),
            ("value", ["x"]),
            ("reply", 5),
            ("client_flags", "1"),
            ("client_flags", True),
            ("noreply", "yes"),
            ("noreply", None),
            ("connection", "1"),
            ("connection", None),
        )
    ),
    ("calls.assert_called", ("get",), {"expire": 60}, "a call has no 'expire' to look at"),
    ("calls.assert_called", ("get",), {"count": "2"}, "count='2': "),
    ("calls.assert_called", ("get",), {"count": True}, "count=True: "),
]

#: Method of what `fault()` returns, arguments, and what is said.
WRONG_FAULTS: list[Row] = [
    *(("delay", (wrong,), {}, "as in delay(5)") for wrong in each("1", None, True)),
    *(("delay", (wrong,), {}, f"delay({wrong!r}): ") for wrong in each(-1, NAN, ENDLESS)),
    *(("reply", (wrong,), {}, 'write b"SERVER_ERROR') for wrong in each("END", None, 5)),
    *(
        ("truncate", (wrong,), {}, "truncate() takes how many bytes")
        for wrong in each(-1, "1", None)
    ),
    *(("garbage", (wrong,), {}, "garbage() takes how many bytes") for wrong in each(0, "1", None)),
    *(("chunks", (wrong,), {}, "chunks() takes how many bytes") for wrong in each(0, "1", None)),
    *(("bandwidth", (wrong,), {}, "bandwidth() takes bytes") for wrong in each(0, 0.5, None)),
    *(
        ("server_error", (wrong,), {}, 'as in server_error("busy")')
        for wrong in each("", b"busy", None, "two\nlines")
    ),
    *(
        ("sequence", (wrong,), {}, "take it from pymcd.testing.actions")
        for wrong in each(b"END\r\n", None, 5)
    ),
    ("sequence", (), {}, "as in sequence(reset, delay(1), ok)"),
    *(("look", (wrong,), {}, "look() takes a function") for wrong in each(b"END\r\n", None)),
    *(
        (name, (wrong,), {}, "it is called inside the server, which waits for nothing; write def")
        for name in ("reply", "look", "delay")
        for wrong in each(wait, Waiting())
    ),
    ("__enter__", (), {}, "was not told what to do: write `with server.fault("),
    *(
        (name, (), {"executed": wrong}, "write executed=True")
        for name in ("drop", "reset")
        for wrong in each("no", None, 1)
    ),
]

WRONG_PAIRS: list[Row] = [
    *(("kill", (wrong,), {}, 'write "a" or "b"') for wrong in each("c", None, 0, "")),
    *(("restart", (wrong,), {}, 'write "a" or "b"') for wrong in each("A", None)),
    *(("advance", (wrong,), {}, "advance(") for wrong in each("1", None, -1, NAN)),
    *(("delay_link", (wrong,), {}, "as in delay_link(0.05)") for wrong in each("1", None)),
    *(("delay_link", (wrong,), {}, "partition()") for wrong in each(-1, NAN, ENDLESS)),
    *(("wait_in_sync", (wrong,), {}, f"timeout={wrong!r}: ") for wrong in each("1", None, -1)),
]


@pytest.fixture(scope="module")
def server() -> Iterator[MemcachedServer]:
    with MemcachedServer() as running:
        yield running


@pytest.fixture(scope="module")
def pair() -> Iterator[MemcachedPair]:
    with MemcachedPair() as running:
        yield running


def check(thing: object, row: Row) -> None:
    name, arguments, named, words = row
    for part in name.split("."):
        thing = getattr(thing, part)
    call: Any = thing
    with pytest.raises((TypeError, ValueError), match=re.escape(words)):
        call(*arguments, **named)


def word_of(argument: object) -> str:
    """Name an argument the same in each process: not by where it is in memory."""
    if callable(argument):
        return getattr(argument, "__name__", type(argument).__name__)
    return repr(argument)


def shown(row: Row) -> str:
    name, arguments, named, _ = row
    words = [*map(word_of, arguments), *(f"{word}={word_of(it)}" for word, it in named.items())]
    return f"{name}({', '.join(words)})"[:60]


@pytest.mark.parametrize("row", WRONG, ids=shown)
def test_a_server(server: MemcachedServer, row: Row) -> None:
    check(server, row)


@pytest.mark.parametrize("row", WRONG_FAULTS, ids=shown)
def test_a_fault(server: MemcachedServer, row: Row) -> None:
    check(server.fault(required=False), row)


@pytest.mark.parametrize("row", WRONG_PAIRS, ids=shown)
def test_a_pair(pair: MemcachedPair, row: Row) -> None:
    check(pair, row)


async def test_a_server_of_trio() -> None:
    """It says what the other one does."""
    async with serve() as server:
        for name, arguments, named, words in WRONG:
            if name in ("advance", "put", "load", "restore", "stats", "wait_for") and (
                "without a name" not in words
            ):
                with pytest.raises((TypeError, ValueError), match=re.escape(words)):
                    await getattr(server, name)(*arguments, **named)


def test_every_method_is_tried() -> None:
    """Whatever takes an argument has a row."""
    tried = {name.rpartition(".")[2] for name, *_ in [*WRONG, *WRONG_FAULTS, *WRONG_PAIRS]}
    untried = []
    for name, member in MEMBERS.items():
        if inspect.isfunction(member) and not isinstance(member, property):
            takes = [each for each in inspect.signature(member).parameters if each != "self"]
            if takes and name.rpartition(".")[2] not in tried and not name[0].islower():
                untried.append(name)
    assert untried == sorted(set(untried) & NOT_TRIED)


#: Their arguments are looked at as those of `wait_for`; or nothing can be wrong with them.
NOT_TRIED = {"MemcachedServer.wait_for_async"}


# -- types -------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", MEMBERS)
def test_types_are_there_for_whoever_asks(name: str) -> None:
    member: Any = MEMBERS[name]
    function: Any = member.fget if isinstance(member, property) else member
    if inspect.isclass(function):
        typing.get_type_hints(function)
        function = function.__init__
    # Of a class without one it is that of `object`, which is one in Python only on PyPy.
    if inspect.isfunction(inspect.unwrap(function)) and function.__module__ is not None:
        assert "return" in typing.get_type_hints(function)


def test_types_of_arguments_are_literal() -> None:
    hints = typing.get_type_hints(MemcachedServer.__init__)
    assert typing.get_args(hints["clock"]) == ("real", "frozen", "host")
    assert typing.get_args(hints["protocol"]) == ("auto", "ascii", "binary")
    assert hints["port"] is int


# -- servers that nobody stopped ---------------------------------------------------------------


@pytest.mark.parametrize("process", [False, True])
def test_a_server_that_nobody_stopped_ends_and_says_so(tmp_path: Path, process: bool) -> None:
    path = tmp_path / "socket"
    before = threading.active_count()

    def start() -> None:
        _kept = MemcachedServer(unix_socket=path, process=process).start()
        assert path.exists()

    with pytest.warns(ResourceWarning, match=r"was never stopped; write `with MemcachedServer"):
        _forget_all_of(start)
    assert not path.exists()
    assert threading.active_count() == before


def test_a_server_that_was_stopped_says_nothing() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        _forget_all_of(lambda: MemcachedServer().start().stop())


def _forget_all_of(function: Callable[[], None]) -> None:
    """Call it, and have all end that it leaves."""
    function()
    for _ in range(3):  # where objects do not die by reference count, and finalizers go in order
        gc.collect()


# -- event loops -------------------------------------------------------------------------------


def test_waiting_would_stop_the_event_loop(server: MemcachedServer) -> None:
    async def wait() -> None:
        server.wait_for("get")

    for run in (lambda: asyncio.run(wait()), lambda: trio.run(wait)):
        with pytest.raises(RuntimeError, match=r"write `await server\.wait_for_async\(\.\.\.\)`"):
            run()


def test_all_public_names_are_there() -> None:
    assert all(hasattr(pymcd.testing, name) for name in pymcd.testing.__all__)
