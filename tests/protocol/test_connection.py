"""One client without its socket: which protocol, and that the fast ways answer like the others."""

from __future__ import annotations

import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pymcd import limits
from pymcd.protocol import Connection
from pymcd.protocol.text import answer_plain
from tests.protocol.helpers import Client, make_service
from tests.protocol.requests import BINARY, CUTS, GARBAGE, SMALL_ITEMS, TEXT, cut
from tests.store.helpers import photograph

from ..clocks import ManualClock
from ..hosts import lend

NOOP = b"\x80\x0a" + bytes(22)
NOOP_REPLY = b"\x81\x0a" + bytes(22)


#: What a driver calls at first, or with TLS; and as soon as the client is known.
WAYS = ["respond", "responder"]


def respond(client: Client, data: bytes, way: str = "responder") -> bytes:
    """Feed `data` as the hub does: the fast path first; return all that was answered."""
    answer = respond_once(client, data, way)
    return client.receive() if answer is None else answer


def respond_once(client: Client, data: bytes, way: str = "responder") -> bytes | None:
    client.service.tick()
    answer: bytes | None = getattr(client.connection, way)(data)
    return answer


@pytest.mark.parametrize(
    ("protocol", "text", "binary"),
    [("auto", True, True), ("ascii", True, False), ("binary", False, True)],
)
def test_the_first_byte_chooses_unless_the_settings_do(protocol, text, binary):
    assert (Client(protocol=protocol).send(b"version\r\n") == b"VERSION 1.6.45\r\n") is text
    assert (Client(protocol=protocol).send(NOOP) == NOOP_REPLY) is binary


def test_a_listener_may_have_its_own_protocol():
    service = make_service(protocol="binary")
    connection = Connection(service, protocol="ascii")
    connection.receive_data(b"version\r\n")
    assert not connection.run()
    assert connection.pieces == [b"VERSION 1.6.45\r\n"]


def test_nothing_received_chooses_nothing():
    client = Client()
    assert client.receive() == b""
    assert client.send(b"version\r\n") == b"VERSION 1.6.45\r\n"


def test_after_closing_nothing_is_executed():
    client = Client()
    assert client.send(b"version\r\nquit\r\nversion\r\n") == b"VERSION 1.6.45\r\n"
    connection = client.connection
    connection.receive_data(b"version\r\n")
    assert not connection.run()
    assert connection.pieces == []
    assert connection.respond(b"version\r\n") is None
    assert connection.pieces == []


def test_while_a_source_lasts_nothing_is_executed():
    client = Client()
    connection = client.connection
    connection.source = iter([b"piece"])
    assert respond_once(client, b"version\r\n") is None
    assert connection.pieces == []
    connection.source = None
    assert client.receive() == b"VERSION 1.6.45\r\n"


def test_who_is_known_is_answered_the_shorter_way():
    client, listening = Client(), Client(verbose=2)
    binary = Client(protocol="binary")
    for each, request in ((client, b"version\r\n"), (listening, b"version\r\n"), (binary, NOOP)):
        assert each.connection.responder == each.connection.respond
        assert respond(each, request)
    assert client.connection.responder == client.connection.respond_text
    assert listening.connection.responder == listening.connection.respond
    assert binary.connection.responder == binary.connection.respond


@pytest.mark.parametrize("way", WAYS)
class TestRespond:
    def test_one_get(self, way):
        client = Client()
        client.send(b"set a 7 0 5\r\nhello\r\n")
        assert respond_once(client, b"get a\r\n", way) == b"VALUE a 7 5\r\nhello\r\nEND\r\n"
        assert respond_once(client, b"get b\r\n", way) == b"END\r\n"

    def test_one_set(self, way):
        client = Client()
        client.send(b"set a 0 0 5\r\nhello\r\n")  # takes a page
        assert respond_once(client, b"set b 0 0 5\r\nhello\r\n", way) == b"STORED\r\n"
        assert respond_once(client, b"set a 0 -1 2\r\nhi\r\n", way) == b"STORED\r\n"
        assert client.send(b"get a b\r\n") == b"VALUE b 0 5\r\nhello\r\nEND\r\n"

    def test_nothing_to_say(self, way):
        assert respond_once(Client(), b"set a 0 0 1 noreply\r\nv\r\n", way) == b""
        assert respond_once(Client(), b"get", way) == b""

    def test_what_needs_several_turns_is_left_to_the_driver(self, way):
        client = Client(reqs_per_event=2)
        client.send(b"version\r\n")
        assert respond_once(client, b"version\r\n" * 3, way) is None
        assert len(client.connection.pieces) == 2
        assert client.receive() == b"VERSION 1.6.45\r\n" * 3

    def test_so_is_a_long_answer(self, way):
        client = Client()
        client.send(b"set a 0 0 1\r\nv\r\n")
        request = b"get" + b" a" * 100 + b"\r\n"
        assert respond_once(client, request, way) is None
        assert client.take() == b"VALUE a 0 1\r\nv\r\n" * limits.RUN_KEYS_MAX
        rest = b"VALUE a 0 1\r\nv\r\n" * (100 - limits.RUN_KEYS_MAX)
        assert client.receive() == rest + b"END\r\n"

    def test_so_is_a_large_value(self, way):
        client = Client()
        value = b"x" * 300_000
        client.send(b"set a 0 0 300000\r\n%b\r\n" % value)
        assert respond_once(client, b"get a\r\n", way) is None
        assert client.take() == b"VALUE a 0 300000\r\n%b\r\nEND\r\n" % value

    def test_so_is_the_end(self, way):
        client = Client()
        client.send(b"version\r\n")
        assert respond_once(client, b"quit\r\n", way) is None
        assert client.connection.closing

    @pytest.mark.parametrize("settings", [{"verbose": 2}, {"detail_enabled": True}])
    def test_who_listens_to_single_commands_hears_all(self, way, settings):
        client = Client(**settings)
        lines: list[str] = []
        lend(client.service, log_line=lines.append)
        client.send(b"set a:b 0 0 1\r\nv\r\n")
        for _ in range(2):
            assert respond_once(client, b"get a:b\r\n", way) == b"VALUE a:b 0 1\r\nv\r\nEND\r\n"
        if "verbose" in settings:
            assert lines.count("<10 get a:b") == 2
        else:
            assert b"PREFIX a get 2 hit 2 set 1 del 0" in client.send(b"stats detail dump\r\n")


GEOMETRIES: list[dict[str, Any]] = [
    {},
    {"reqs_per_event": 1},
    {"disable_cas": True},
    {"lru_segmented": False},
    {"temporary_ttl_s": 10},
    {"protocol": "binary"},
]


@pytest.mark.slow
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("geometry", GEOMETRIES, ids=str)
@given(data=st.data(), cuts=CUTS)
def test_respond_answers_as_receiving_and_running_do(geometry, way, data, cuts):
    """Whole commands, as they mostly come, and pieces of them."""
    requests = data.draw(BINARY if geometry.get("protocol") == "binary" else TEXT)
    for pieces in (requests, cut(b"".join(requests), cuts)):
        slow, fast = (Client(**SMALL_ITEMS, **geometry) for _ in range(2))
        for piece in pieces:
            if slow.connection.closing:
                break
            assert respond(fast, piece, way) == slow.send(piece)
            assert photograph(fast.service.cache) == photograph(slow.service.cache)
            assert fast.service.counters == slow.service.counters
            assert fast.connection.answer_plain == slow.connection.answer_plain
            assert fast.connection.closing == slow.connection.closing
        fast.service.cache.check()


@pytest.mark.slow
@given(garbage=GARBAGE, cuts=CUTS)
def test_respond_survives_any_bytes(garbage, cuts):
    slow, fast = Client(**SMALL_ITEMS), Client(**SMALL_ITEMS)
    for piece in cut(garbage, cuts):
        if slow.connection.closing:
            break
        assert respond(fast, piece) == slow.send(piece)
    assert photograph(fast.service.cache) == photograph(slow.service.cache)
    assert fast.service.counters == slow.service.counters


#: A set of ten bytes whose value is still to come; commands without end behind it.
AWAITING = [
    (b"set a 0 0 10\r\n", b"0123456789\r\n", b"version\r\n", b"STORED\r\n"),
    (
        b"\x80\x01\0\x01\x08\0\0\0\0\0\0\x13" + bytes(12) + bytes(8) + b"a",
        b"0123456789",
        NOOP,
        b"\x81\x01" + bytes(21) + b"\x01",
    ),
]


@pytest.mark.parametrize(("header", "value", "command", "reply"), AWAITING, ids=["text", "binary"])
@pytest.mark.parametrize("ahead", [0, 1, 5])
def test_a_driver_may_read_ahead_of_what_is_run(header, value, command, reply, ahead):
    many = command * 1000
    client = Client()
    assert client.send(header) == b""
    client.connection.receive_data(value[:-1])
    client.connection.receive_data(value[-1:])
    for _ in range(ahead):
        client.connection.receive_data(many)
    answer = client.receive()
    assert answer[: len(reply)] == reply
    assert answer[len(reply) :] == Client().send(many) * ahead
    item = client.service.cache.inspect(b"a")
    assert item is not None
    assert item.value == b"0123456789"


@pytest.mark.parametrize("run_after", range(4))
def test_a_long_line_behind_commands_that_were_not_run_yet(run_after):
    client = Client()
    client.send(b"version\r\n")
    pieces = [b"version\r\n" * 500, b"get" + b" k" * 2000, b" k" * 2000, b"\r\nversion\r\n"]
    answer = b""
    for number, piece in enumerate(pieces):
        client.connection.receive_data(piece)
        if number == run_after:
            answer = client.receive()
    assert answer + client.receive() == (b"VERSION 1.6.45\r\n" * 500 + b"END\r\nVERSION 1.6.45\r\n")


def test_a_long_get_may_drip():
    # A get may name any number of keys; its line must not be copied whole for every piece.
    client = Client()
    client.send(b"set last 0 0 1\r\nx\r\n")
    client.send(b"get " + b"k" * 200 + b" " * (limits.LINE_MAX_BYTES))
    connection = client.connection
    for _ in range(1000):
        before = connection.buffer
        assert client.send(b"key ") == b""
        assert connection.buffer is before
    assert client.send(b"last\r\n") == b"VALUE last 0 1\r\nx\r\nEND\r\n"
    assert connection.line is None
    assert client.send(b"get last\r\n") == b"VALUE last 0 1\r\nx\r\nEND\r\n"


def test_a_get_without_end_is_bounded():
    client = Client()
    piece = b"key " * 16_000
    client.send(b"get " + piece)
    for _ in range(limits.GET_LINE_MAX_BYTES // len(piece)):
        assert not client.connection.closing
        client.send(piece)
    assert client.connection.closing


@pytest.mark.slow
@pytest.mark.parametrize("protocol", ["ascii", "binary"])
@given(data=st.data(), cuts=CUTS)
def test_what_was_received_in_pieces_may_be_run_at_once(protocol, data, cuts):
    """Receiving only stores: a driver that reads ahead gets the same answers."""
    stream = b"".join(data.draw(BINARY if protocol == "binary" else TEXT))
    whole, ahead = (Client(**SMALL_ITEMS, protocol=protocol) for _ in range(2))
    pieces = cut(stream, cuts)
    expected = whole.send(pieces[0]) if pieces else b""
    answer = ahead.send(pieces[0]) if pieces else b""
    for piece in pieces[1:]:
        ahead.connection.receive_data(piece)
        if not whole.connection.closing:
            expected += whole.send(piece)
    assert answer + ahead.receive() == expected


def test_large_values_are_sent_in_chunks_and_uncopied():
    client = Client()
    value = random.Random(0).randbytes(600_000)
    client.send(b"set big 0 0 600000\r\n%b\r\nset small 0 0 1\r\nx\r\n" % value)
    connection = client.connection
    connection.receive_data(b"get small big\r\n")
    connection.run()
    big = client.service.cache.inspect(b"big")
    assert big is not None
    chunks = []
    while (chunk := connection.next_chunk()) is not None:
        chunks.append(chunk)
    reply = b"VALUE small 0 1\r\nx\r\nVALUE big 0 600000\r\n%b\r\nEND\r\n" % value
    assert b"".join(chunks) == reply
    *full, last = chunks
    assert {len(chunk) for chunk in full} == {limits.REPLY_CHUNK_BYTES}
    assert len(last) <= limits.REPLY_CHUNK_BYTES
    for chunk in chunks[1:-1]:
        assert isinstance(chunk, memoryview)
        assert chunk.obj is big.value


@pytest.mark.parametrize(
    ("words", "number"),
    [
        *(
            (words, number)
            for words in (b"get k", b"gets k k", b"mg k v")
            for number in (1, 19, 50)
        ),
        (b"get" + b" k" * 60, 3),
    ],
)
@pytest.mark.parametrize("size", [0, 1000, 1025, 20_000, 65_536])
@pytest.mark.parametrize("reqs", [1, 20, 2**31 - 1])
def test_neither_a_reply_nor_a_run_is_large(words, size, number, reqs):
    """A run answers a bounded number of bytes, and the value with which it got there."""
    client = Client(reqs_per_event=reqs)
    client.send(b"set k 0 0 %d\r\n%b\r\n" % (size, bytes(size)))
    once = client.send(words + b"\r\n")
    request = (words + b"\r\n") * number
    reply = [client.connection.respond(request) or b""]
    assert len(reply[0]) <= limits.REPLY_CHUNK_BYTES
    more = True
    most = limits.RUN_REPLY_BYTES + limits.RUN_KEYS_MAX * (1500 + size // limits.RUN_KEYS_MAX)
    while more or client.connection.pieces:
        part = client.take()
        assert len(part) <= most
        reply.append(part)
        more = client.connection.run()
    assert b"".join(reply) == once * number
    if reqs >= 20 and number == 50:
        yields = client.service.counters.conn_yields
        assert yields == 0 or reqs == 20, "what ends earlier than -R says is no yield"


#: What is there before, and gets of several keys.
SEVERAL = {
    "all there": (b"get a b c\r\n", True),
    "some": (b"get a x b y\r\n", True),
    "none": (b"get x y\r\n", True),
    "one twice": (b"get a b a\r\n", True),
    "with flags": (b"get flagged a\r\n", True),
    "a value of no bytes": (b"get a empty\r\n", True),
    "as many as one run has": (b"get" + b" a" * limits.RUN_KEYS_MAX + b"\r\n", True),
    "one more": (b"get" + b" a" * (limits.RUN_KEYS_MAX + 1) + b"\r\n", False),
    "more bytes than one piece": (b"get a large large\r\n", False),
    "expired": (b"get a short b\r\n", False),
    "a key that is too long": (b"get a %b\r\n" % (b"k" * 251), False),
    "the longest key": (b"get a %b\r\n" % (b"k" * 250), True),
    "two blanks": (b"get a  b\r\n", False),
    "a blank first": (b"get  a b\r\n", False),
    "a blank at the end": (b"get a b \r\n", False),
    "two commands": (b"get a b\r\nget b c\r\n", False),
    "a newline alone": (b"get a b\n", False),
    "a return in a key": (b"get a\rb a\r\n", True),
    "a NUL in a key": (b"get a\0 b\r\n", True),
    "words that are one key in another protocol": (b"get spoken aloud\r\n", True),
    "no end yet": (b"get a b", False),
}
BEFORE = (
    b"set a 0 0 1\r\n1\r\nset b 0 0 2\r\n22\r\nset c 0 0 3\r\n333\r\nset flagged 7 0 1\r\nf\r\n"
    b"set empty 0 0 0\r\n\r\nset short 0 1 1\r\ns\r\nset large 0 0 30000\r\n%b\r\n"
    b"ms c3Bva2VuIGFsb3Vk 1 b\r\nx\r\n" % (b"l" * 30_000)
)


FLUSHES = {"": b"", "later": b"flush_all 100\r\n", "now": b"flush_all\r\nset a 0 0 1\r\n1\r\n"}


@pytest.mark.parametrize("flush", FLUSHES)
@pytest.mark.parametrize("name", SEVERAL)
def test_several_keys_are_answered_alike_on_either_way(name: str, flush: str):
    request, is_fast = SEVERAL[name]
    clocks = ManualClock(), ManualClock()
    slow, fast = (Client(make_service(clock)) for clock in clocks)
    for client, clock in zip((slow, fast), clocks, strict=True):
        client.send(BEFORE + FLUSHES[flush])
        clock.advance(5)
        client.service.tick()
    for turn in range(3):  # the third one finds all marks set
        answer = answer_plain(fast.connection, request)
        if turn == 0:
            assert (answer is not None) == (is_fast and flush != "now")
        assert (respond(fast, request) if answer is None else answer) == slow.send(request)
        assert photograph(fast.service.cache) == photograph(slow.service.cache)
        assert fast.service.counters == slow.service.counters
    fast.service.cache.check()
