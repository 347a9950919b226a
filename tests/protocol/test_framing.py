"""Where text commands begin and end, however the stream is cut; and that everything has a bound."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given

from pymcd import limits
from pymcd.protocol.arrival import Segmented
from pymcd.protocol.binary import run_binary
from pymcd.protocol.text import VERBS
from pymcd.protocol.verbs import LOCAL, Verb, no_keys
from tests.protocol.helpers import Client, converse
from tests.protocol.refused import IDS, REFUSED, REFUSED_ITEM_MAX
from tests.protocol.requests import CUTS, GARBAGE, SMALL_ITEMS, TEXT, cut
from tests.store.helpers import photograph

from ..hosts import lend

if TYPE_CHECKING:
    from pymcd.protocol import Connection

BAD_FORMAT = b"CLIENT_ERROR bad command line format\r\n"
BIG = b"x" * 100_000
ENDLESS_KEYS = b" k" * (limits.GET_LINE_MAX_BYTES // 2 + 99_999)


def unfinished_bytes(connection: Connection) -> int:
    """Return how much a connection keeps of commands that are not complete."""
    if connection.line is not None:
        return connection.line.tell()
    return len(connection.buffer) - connection.position + connection.arrived.tell()


CASES: list[tuple[str, bytes, bytes]] = [
    ("a line ends in CRLF", b"get a\r\n", b"END\r\n"),
    ("or in a bare LF", b"get a\nget b\n", b"END\r\nEND\r\n"),
    ("a CR before the CR is part of the word", b"version\r\r\n", b"ERROR\r\n"),
    ("what is shorter than any command", b"\r\nx\r\nmn\n\n", BAD_FORMAT * 4),
    ("CRs alone are a word", b"\r\r\r\n", b"ERROR\r\n"),
    ("blanks behind words", b"get   a  \r\n", b"END\r\n"),
    ("blanks before a command", b" get a\r\n", b"ERROR\r\n"),
    ("but before some they do no harm", b"  verbosity   1  \r\n", b"OK\r\n"),
    ("only blanks", b"    \r\n", b"ERROR\r\n"),
    (
        "a NUL is part of a word",
        b"set a\0b 0 0 0\r\n\r\nget a\r\nget a\0b\r\n",
        b"STORED\r\nEND\r\nVALUE a\0b 0 0\r\n\r\nEND\r\n",
    ),
    ("silence is kept even here", b"bogus a noreply\r\n", b""),
    ("a NUL at the start", b"\0get a\r\n", b"ERROR\r\n"),
    (
        "a block may hold anything",
        b"set a 0 0 9\r\nget b\r\n\0\n\r\nget a\r\n",
        b"STORED\r\nVALUE a 0 9\r\nget b\r\n\0\n\r\nEND\r\n",
    ),
    ("a block, large", b"set a 0 0 100000\r\n%b\r\n" % BIG, b"STORED\r\n"),
    (
        "a block which does not end in CRLF: what is behind its length is read as commands",
        b"set a 0 0 3\r\nabcdefget a\r\n",
        b"CLIENT_ERROR bad data chunk\r\nERROR\r\n",
    ),
    (
        "the same, silent",
        b"set a 0 0 3 noreply\r\nabcde\r\nversion\r\n",
        BAD_FORMAT + b"VERSION 1.6.45\r\n",
    ),
    (
        "a block which ends in a bare LF",
        b"set a 0 0 3\r\nabc\nversion\r\nversion\r\n",
        b"CLIENT_ERROR bad data chunk\r\nERROR\r\nVERSION 1.6.45\r\n",
    ),
    (
        "a block of a refused header is read as a command",
        b"set a 0 0 b\r\nversion\r\n",
        b"CLIENT_ERROR bad command line format\r\nVERSION 1.6.45\r\n",
    ),
    (
        "if its length is known, it is thrown away",
        b"set a b 0 7\r\nversion\r\nmn\r\n",
        b"CLIENT_ERROR bad command line format\r\nMN\r\n",
    ),
    (
        "a block that is too large is thrown away",
        b"set a 0 0 2000000\r\n%b\r\nversion\r\n" % (b"\r\n" * 1_000_000),
        b"SERVER_ERROR object too large for cache\r\nVERSION 1.6.45\r\n",
    ),
    (
        "the same, silent",
        b"set a 0 0 2000000 noreply\r\n%b\r\nversion\r\n" % bytes(2_000_000),
        b"VERSION 1.6.45\r\n",
    ),
    ("a browser", b"GET /index.html HTTP/1.1\r\nHost: a\r\n\r\n", b""),
    ("another one", b"POST / HTTP/1.0\r\n", b""),
    ("yet another", b"G HTTP/1.1\r\n", b""),
    ("no browser", b"HTTP/1.1\r\nget HTTP/1.1\r\n", b"ERROR\r\nEND\r\n"),
    ("quit ends the conversation", b"quit\r\nget a\r\n", b""),
]  # fmt: skip


def test_a_browser_is_an_error():
    client = Client()
    client.send(b"GET / HTTP/1.1\r\n")
    assert (client.connection.closing, client.connection.close_reason) == (True, "error")


@pytest.mark.parametrize(("request_", "reply"), [c[1:] for c in CASES], ids=[c[0] for c in CASES])
def test_reply(request_, reply):
    if len(request_) < 5000:
        assert converse(request_) == reply
    else:
        for step in (0, 4096, 65536, len(request_) - 1):
            assert Client().send(request_, step=step) == reply


@pytest.mark.parametrize(
    ("name", "data", "closes"),
    [
        ("a line without end", b"x" * (limits.LINE_MAX_BYTES + 1), True),
        ("a line of just the limit", b"x" * limits.LINE_MAX_BYTES, False),
        ("a get may be long", b"get " + b"k" * 200 + b" k" * 100_000, False),
        ("a gets, too", b"  gets" + b" k" * 100_000, False),
        ("a gat may not", b"gat 0" + b" k" * 2000, True),
        ("nor one that begins late", b" " * 101 + b"get" + b" k" * 2000, True),
        ("nor blanks only", b" " * 3000, True),
        (
            "nor one without any end",
            b"get" + b" k" * (limits.GET_LINE_MAX_BYTES // 2 + 99_999),
            True,
        ),
    ],
)
def test_a_line_that_does_not_end(name, data, closes):
    client = Client()
    assert client.send(data, step=limits.RECEIVE_BYTES) == b""
    assert client.connection.closing is closes
    assert client.connection.close_reason == ("error" if closes else "normal")


@pytest.mark.parametrize(
    ("line", "closes"),
    [
        (b"gat 0" + b" k" * 8188 + b"\r\n", False),
        (b"gat 0" + b" k" * 8189 + b"\r\n", True),
        (b"verbosity " + b"x" * 17_000 + b"\r\n", True),
        (b" " * 101 + b"get" + b" k" * 9000 + b"\r\n", True),
        (b"get" + b" k" * 9000 + b"\n", False),
        (b"gets" + b" k" * 30_000 + b"\r\n", False),
    ],
)
def test_a_line_that_does_not_fit_in_memcacheds_buffer(line, closes):
    client = Client()
    reply = client.send(b"mn\r\n" + line + b"mn\r\n", step=len(line) + 8)
    assert client.connection.closing is closes
    assert reply == (b"MN\r\n" if closes else b"MN\r\nEND\r\nMN\r\n")


def test_a_long_get_is_answered():
    client = Client()
    client.send(b"set k 0 0 1\r\nv\r\n")
    reply = client.send(b"get" + b" k" * 10_000 + b"\r\n", step=limits.RECEIVE_BYTES)
    assert reply == b"VALUE k 0 1\r\nv\r\n" * 10_000 + b"END\r\n"


def test_a_command_takes_part_only_when_it_is_whole():
    client = Client()
    client.send(b"set a 0 0 5\r\nhel")
    assert client.service.cache.item_count == 0
    assert client.connection.awaited is not None
    assert client.send(b"lo\r") == b""
    assert client.send(b"\n") == b"STORED\r\n"
    assert client.connection.awaited is None


def test_the_end_counts_from_the_command_line():
    """As in memcached: a slow sender does not prolong the life of its value."""
    client = Client()
    clock = client.service.clock
    client.send(b"set a 0 10 1\r\n")
    clock.advance(9)  # type: ignore[attr-defined]
    assert client.send(b"v\r\nget a\r\n") == b"STORED\r\nVALUE a 0 1\r\nv\r\nEND\r\n"
    clock.advance(1)  # type: ignore[attr-defined]
    assert client.send(b"get a\r\n") == b"END\r\n"


@pytest.mark.parametrize("case", REFUSED, ids=IDS)
def test_a_refused_value_is_answered_when_all_of_it_is_there(case):
    whole = case.head + case.rest
    behind, answer = case.behind
    for cut_at in case.cuts:
        client = Client(item_size_max_bytes=REFUSED_ITEM_MAX, slab_chunk_max_bytes=1 << 13)
        said = client.send(whole[:cut_at], step=7_000)
        assert said == b"", f"before the last {len(whole) - cut_at} bytes"
        assert not client.connection.buffer or cut_at < len(case.head), "it keeps nothing"
        assert client.send(whole[cut_at:] + behind) == case.reply + answer
        assert client.connection.awaited is None
        assert not client.connection.swallow_bytes
        assert client.connection.buffer == b""


class TestFairness:
    def test_a_turn_is_bounded(self):
        client = Client(reqs_per_event=3)
        connection = client.connection
        connection.receive_data(b"version\r\n" * 7)
        assert [connection.run(), connection.run(), connection.run()] == [True, True, False]
        assert len(connection.pieces) == 7
        assert client.service.counters.conn_yields == 2

    def test_bad_commands_count_as_well(self):
        client = Client(reqs_per_event=2)
        client.connection.receive_data(b"x\r\n" * 3)
        assert client.connection.run()
        assert len(client.connection.pieces) == 2

    def test_a_yield_is_counted_only_if_something_is_left(self):
        client = Client(reqs_per_event=2)
        assert client.send(b"version\r\nversion\r\n") == b"VERSION 1.6.45\r\n" * 2
        assert client.service.counters.conn_yields == 0


def test_commands_are_logged_when_asked():
    client = Client(verbose=2)
    lines: list[str] = []
    lend(client.service, log_line=lines.append)
    client.send(b"set a 0 0 1\r\nv\r\nget \xff\r\n")
    assert lines == [
        "10: Client using the ascii protocol",
        "<10 set a 0 0 1",
        ">10 STORED",
        "<10 get \xff",
        ">10 END",
    ]


def test_a_command_may_change_the_table_of_verbs():
    """What follows in the same buffer is already looked up in the other one."""
    client = Client()

    def leave(connection: Connection, tokens: list[bytes]) -> None:
        connection.verbs = VERBS

    client.connection.verbs = {b"leave": Verb(LOCAL, no_keys, leave)}
    assert client.send(b"version\r\nleave\r\nversion\r\nleave\r\n") == (
        b"ERROR\r\nVERSION 1.6.45\r\nERROR\r\n"
    )


GEOMETRIES: list[dict[str, Any]] = [
    {},
    {"reqs_per_event": 1},
    {"disable_cas": True},
    {"verbose": 2},
    {"detail_enabled": True},
]


def outcome(service: Any) -> dict[str, Any]:
    counters = replace(service.counters, conn_yields=0)  # depends on how much came at once
    return photograph(service.cache) | {"others": counters}


@pytest.mark.slow
@pytest.mark.parametrize("geometry", GEOMETRIES, ids=str)
@given(commands=TEXT, cuts=CUTS)
def test_any_split_gives_the_same_replies_and_the_same_store(geometry, commands, cuts):
    stream = b"".join(commands)
    whole, pieces = (Client(**SMALL_ITEMS, **geometry) for _ in range(2))
    for client in (whole, pieces):
        lend(client.service, log_line=lambda line: None)
    replies = whole.send(stream) if stream else b""
    in_pieces = b"".join(pieces.send(piece) for piece in cut(stream, cuts))
    assert in_pieces == replies
    assert outcome(pieces.service) == outcome(whole.service)
    assert pieces.connection.closing == whole.connection.closing
    whole.service.cache.check()


@pytest.mark.slow
@given(garbage=GARBAGE, cuts=CUTS)
def test_any_bytes_raise_nothing_and_keep_little(garbage, cuts):
    client = Client(item_size_max_bytes=1 << 18, slab_chunk_max_bytes=1 << 16)
    connection = client.connection
    for piece in cut(garbage, cuts):
        client.send(piece)
        if connection.closing or connection.watching:
            break
        if connection.awaited is not None:
            bound = 1 << 18
        elif connection.buffer.lstrip(b" ").startswith((b"get ", b"gets ")):
            bound = limits.GET_LINE_MAX_BYTES
        elif connection.runner is run_binary:
            bound = limits.READ_BUFFER_BYTES
        else:
            bound = limits.LINE_MAX_BYTES
        assert unfinished_bytes(connection) <= bound + len(piece)
    client.service.cache.check()


def test_a_value_that_drips_in_costs_no_more_than_its_size():
    client = Client()
    connection = client.connection
    client.send(b"set a 0 0 100000\r\n")
    for _ in range(40_000):
        client.send(b"xy")
    assert isinstance(connection.arrived, Segmented)
    assert len(connection.arrived._segments) == 1
    assert client.send(b"z" * 20_000 + b"\r\n") == b"STORED\r\n"
    item = client.service.cache.get(b"a")
    assert item is not None
    assert item.value == b"xy" * 40_000 + b"z" * 20_000


def test_a_client_that_rests_keeps_no_buffer():
    client = Client()
    client.send(b"set a 0 0 50000\r\n" + bytes(50_000) + b"\r\n", step=20_000)
    assert client.connection.buffer == b""
    client.send(b"version\r\nget")
    assert unfinished_bytes(client.connection) == len(b"get")
