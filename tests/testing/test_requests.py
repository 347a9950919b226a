"""What the log and the faults make of a client's bytes."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pymcd.auth import Authenticator, Users
from pymcd.config import Settings
from pymcd.protocol import Connection
from pymcd.protocol.binary import run_binary
from pymcd.protocol.connection import Runner, negotiate
from pymcd.protocol.framing import run_text
from pymcd.protocol.login import run_login
from pymcd.protocol.text import VERBS
from pymcd.protocol.tokens import BAD_FORMAT, ERROR
from pymcd.service import Service
from pymcd.testing.requests import INCOMPLETE, Request, RequestReader, as_commands
from tests.hosts import make_host
from tests.protocol.requests import BINARY, COMMANDS, KEYS, NUMBERS, SMALL_ITEMS, TEXT

from ..clocks import ManualClock

if TYPE_CHECKING:
    from collections.abc import Callable

    from pymcd.store import Cache

SETTINGS = Settings(**SMALL_ITEMS)
#: Of which lines are made that are commands now and then.
WORDS = st.one_of(
    st.sampled_from([*VERBS, b"noreply", b"b", b"bb", b"b b", b"k", b"q", b"Oxy", b"T3", b"YWI=",
                     b"YW=b", b"YWI", b"a\0b", b"\ta", b"a\r", b"", b" ", b"MI", b"M", b"I"]),
    KEYS,
    NUMBERS,
)  # fmt: skip
ENDS = [b"\r\n", b"\n", b"\r\n1\r\n", b"\r\n\r\n", b"\r\r\n", b"\0\r\n", b" \r\n", b"\t\n"]


def binary(opcode: int, key: bytes = b"", extras: bytes = b"", value: bytes = b"") -> bytes:
    body = extras + key + value
    head = struct.pack(
        ">BBHBBHI4sQ", 0x80, opcode, len(key), len(extras), 0, 0, len(body), b"mine", 0
    )
    return head + body


#: Request, command, keys, opaque.
CASES: list[tuple[bytes, str, tuple[bytes, ...], bytes | None]] = [
    (b"get a\r\n", "get", (b"a",), None),
    (b"get a\n", "get", (b"a",), None),
    (b"gets  a b c\r\n", "gets", (b"a", b"b", b"c"), None),
    (b"gat 10 a b\r\n", "gat", (b"a", b"b"), None),
    (b"get" + b" abc" * 1500 + b"\r\n", "get", (b"abc",) * 1500, None),
    (b"gets" + b"  abc" * 1500 + b" \n", "gets", (b"abc",) * 1500, None),
    (b"set a 0 0 3\r\nabc\r\n", "set", (b"a",), None),
    (b"set a 0 0 3 noreply\r\nabc\r\n", "set", (b"a",), None),
    (b"cas a 0 0 3 7\r\nabc\r\n", "cas", (b"a",), None),
    (b"append a 0 0 0\r\n\r\n", "append", (b"a",), None),
    (b"incr a 1\r\n", "incr", (b"a",), None),
    (b"touch a 1\r\n", "touch", (b"a",), None),
    (b"delete a\r\n", "delete", (b"a",), None),
    (b"mg a v Oabc t\r\n", "mg", (b"a",), b"abc"),
    (b"mg YWI= b v\r\n", "mg", (b"ab",), None),
    (b"mg YW=b bb v\r\n", "mg", (b"a`",), None),
    (b"mg YWI b v\r\n", "mg", (b"YWI",), None),
    (b"ms YWI= 1 b\r\nx\r\n", "ms", (b"ab",), None),
    (b"ms a 3 T0 Oxyz\r\nabc\r\n", "ms", (b"a",), b"xyz"),
    (b"mn\r\n", "mn", (), None),
    (b"stats items\r\n", "stats", (), None),
    (b"flush_all 0 noreply\r\n", "flush_all", (), None),
    (b"what is this\r\n", "what", (), None),
    (b"set a 0 0 x\r\n", "set", (b"a",), None),
    (b"set a 0 0 -1\r\n", "set", (b"a",), None),
    (binary(0x00, b"a"), "get", (b"a",), b"mine"),
    (binary(0x0D, b"a"), "get", (b"a",), b"mine"),
    (binary(0x11, b"a", bytes(8), b"abc"), "set", (b"a",), b"mine"),
    (binary(0x05, b"a", bytes(20)), "incr", (b"a",), b"mine"),
    (binary(0x0A), "noop", (), b"mine"),
    (binary(0x10, b"items"), "stats", (), b"mine"),
    (binary(0x21, b"PLAIN", value=b"\0a\0b"), "sasl_auth", (), b"mine"),
    (binary(0x77), "0x77", (), b"mine"),
]


def make_reader(**changes: Any) -> RequestReader:
    return RequestReader(Service(SETTINGS, ManualClock(), make_host(**changes)))


#: Of a server with logins, SASL ones are whole when their values are there.
READER = make_reader(authenticator=Authenticator(Users, make_nonce=lambda: "nonce", secret=b"s"))


def read(data: bytes, position: int = 0, runner: Runner = negotiate) -> Request | None:
    return READER.read(runner, data, position)


@pytest.mark.parametrize(("data", "command", "keys", "opaque"), CASES)
def test_a_request_is_read(
    data: bytes, command: str, keys: tuple[bytes, ...], opaque: bytes | None
) -> None:
    runner: Runner = run_binary if data[:1] == b"\x80" else run_text
    for before in (b"", b"mn\r\n"):
        for behind in (b"", b"get x\r\n"):
            request = read(before + data + behind, len(before), runner)
            assert request is not None
            assert request[:3] == (command, keys, opaque)
            assert request.end == len(before + data)
            assert request.swallow_bytes == 0
    for end in range(0, len(data), 1 + len(data) // 200):
        part = read(data[:end])
        assert part is None or part is INCOMPLETE


@pytest.mark.parametrize(
    "data",
    [b"", b"\r\n", b"get a", b"\x80", binary(0x01, value=bytes(10_000))[:100], b"    \r\n",
     binary(0x01, b"a", bytes(7), b"x"), binary(0x00)],
)  # fmt: skip
def test_what_is_not_clear_is_left_to_the_server(data: bytes) -> None:
    assert read(data) is None


@pytest.mark.parametrize("there", [0, 1, 1999, 2002, 2010])
@pytest.mark.parametrize(
    ("head", "rest"),
    [(b"set a 0 0 2000\r\n", 2002), (b"ms a 2000\r\n", 2002), (b"ms a 3 M\r\n", 5),
     (binary(0x01, b"a", bytes(8), bytes(2000))[:-2000], 2000)],
)  # fmt: skip
def test_a_refused_value_belongs_to_its_request(head: bytes, rest: int, there: int) -> None:
    request = read(head + bytes(there))
    assert request is not None
    assert request.end == len(head) + min(there, rest)
    assert request.swallow_bytes == rest - min(there, rest)


#: What a stranger sends, and how much of it is one request.
LOGINS = [
    (b"set x 0 0 5\r\na b c\r\nget k\r\n", "set", (b"x",), 20),
    (b"set x y z 5\r\na b c\r\n", "set", (b"x",), 20),
    (b"set x 0 0 99999\r\nabc\r\n", "set", (b"x",), 17),
    (b"get k\r\nget k\r\n", "get", (b"k",), 7),
    (b"nonsense\r\n", "nonsense", (), 10),
]


@pytest.mark.parametrize(("data", "command", "keys", "end"), LOGINS)
def test_logins_in_text(data: bytes, command: str, keys: tuple[bytes, ...], end: int) -> None:
    request = read(data, runner=run_login)
    assert request is not None
    assert request[:3] == (command, keys, None)
    assert request.end == end
    for whole in range(end):
        part = read(data[:whole], runner=run_login)
        assert part is None or part is INCOMPLETE


def spy(cache: Cache) -> list[bytes]:
    """Return the list of keys that a cache is asked for from now on."""
    asked: list[bytes] = []

    def spied(method: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **more: Any) -> Any:
            asked.append(next(each for each in arguments if isinstance(each, bytes)))
            return method(*arguments, **more)

        return call

    for name in ("get", "hit", "peek", "touch", "set", "store", "store_stale", "create", "delete",
                 "inspect", "miss_delete", "drop"):  # fmt: skip
        setattr(cache, name, spied(getattr(cache, name)))
    return asked


STREAMS = st.one_of(
    TEXT.map(b"".join),
    BINARY.map(b"".join),
    st.lists(st.one_of(COMMANDS, st.binary(max_size=20)), max_size=6).map(b"".join),
    st.lists(
        st.lists(WORDS, max_size=7).map(b" ".join).flatmap(
            lambda line: st.sampled_from([line + end for end in ENDS])
        ),
        max_size=6,
    ).map(b"".join),
)  # fmt: skip


@given(STREAMS, st.sampled_from([negotiate, run_text, run_binary]))
def test_what_is_read_is_what_is_executed(stream: bytes, runner: Runner) -> None:
    """Command by command, the server's own loop goes as far, and asks for no other keys."""
    service = Service(SETTINGS, ManualClock(), make_host())
    reader = RequestReader(service)
    asked = spy(service.cache)
    client = Connection(service)
    client.runner = runner
    client.receive_data(stream)
    while True:
        runner, buffer, position = client.runner, client.buffer, client.position
        request = reader.read(runner, buffer, position)
        said = len(client.pieces)
        asked.clear()
        more = client.runner(client, 1)
        if request is INCOMPLETE:
            assert client.awaited is not None
        elif request is not None and not client.closing:
            assert len(client.buffer) - client.position == len(buffer) - request.end
            assert client.swallow_bytes == request.swallow_bytes
            assert client.awaited is None
        elif request is None and not client.closing:
            # Nothing, or a line of blanks.
            assert client.position == position or client.pieces[said:] in ([ERROR], [BAD_FORMAT])
        assert not asked or (request is not None and set(asked) <= set(request.keys))
        if not more or client.closing:
            break


def test_names_of_commands() -> None:
    assert as_commands(None) is None
    assert as_commands("get") == frozenset({"get"})
    assert as_commands(("get", "noop", "mg")) == frozenset({"get", "noop", "mg"})
    with pytest.raises(ValueError, match="did you mean 'delete'"):
        as_commands(["get", "delet"])  # type: ignore[list-item]
