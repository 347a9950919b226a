"""The binary protocol: what each opcode answers, and how requests are framed."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pymcd.protocol import reports
from pymcd.protocol.binary import COMMANDS

from ..clocks import ManualClock
from ..hosts import lend
from .binary_client import (
    ADD,
    ADDQ,
    APPEND,
    APPENDQ,
    DECREMENT,
    DELETE,
    DELETEQ,
    FLUSH,
    FLUSHQ,
    GAT,
    GATK,
    GATKQ,
    GATQ,
    GET,
    GETK,
    GETKQ,
    GETQ,
    INCREMENT,
    INCREMENTQ,
    NOOP,
    PREPEND,
    QUIT,
    QUITQ,
    REPLACE,
    REPLACEQ,
    SASL_AUTH,
    SASL_LIST,
    SASL_STEP,
    SET,
    SETQ,
    STAT,
    TOUCH,
    VERBOSITY,
    VERSION,
    Reply,
    ask,
    count,
    decode,
    error,
    request,
    store,
    touch,
)
from .helpers import Client, make_service

NOT_FOUND, EXISTS, TOO_LARGE, INVALID, NOT_STORED, NON_NUMERIC = range(1, 7)
AUTH_ERROR, UNKNOWN, NO_MEMORY = 0x20, 0x81, 0x82
FLAGLESS = bytes(4)
NEVER = 0xFFFFFFFF

u64 = struct.Struct(">Q").pack

SET_K = store(SET, b"k", b"value", flags=5)  # cas unique 1
SET_N = store(SET, b"n", b"10")

#: What was sent before, a request, the reply.
CASES = [
    ("get", [SET_K], request(GET, b"k"), Reply(GET, 0, b"\0\0\0\5", b"", b"value", 1)),
    ("get quiet", [SET_K], request(GETQ, b"k"), Reply(GETQ, 0, b"\0\0\0\5", b"", b"value", 1)),
    ("getk", [SET_K], request(GETK, b"k"), Reply(GETK, 0, b"\0\0\0\5", b"k", b"value", 1)),
    ("getkq", [SET_K], request(GETKQ, b"k"), Reply(GETKQ, 0, b"\0\0\0\5", b"k", b"value", 1)),
    ("get, miss", [], request(GET, b"k"), error(GET, NOT_FOUND)),
    ("getk, miss", [], request(GETK, b"k"), Reply(GETK, NOT_FOUND, key=b"k")),
    ("getq, miss", [], request(GETQ, b"k"), None),
    ("getkq, miss", [], request(GETKQ, b"k"), None),
    ("touch", [SET_K], touch(TOUCH, b"k", 9), Reply(TOUCH, 0, b"\0\0\0\5", cas=1)),
    ("touch, miss", [], touch(TOUCH, b"k", 9), error(TOUCH, NOT_FOUND)),
    ("gat", [SET_K], touch(GAT, b"k", 9), Reply(GAT, 0, b"\0\0\0\5", b"", b"value", 1)),
    ("gat, miss", [], touch(GAT, b"k", 9), error(GAT, NOT_FOUND)),
    ("gatq, miss", [], touch(GATQ, b"k", 9), None),
    ("gatk", [SET_K], touch(GATK, b"k", 9), Reply(GATK, 0, b"\0\0\0\5", b"k", b"value", 1)),
    ("gatk, miss", [], touch(GATK, b"k", 9), Reply(GATK, NOT_FOUND, key=b"k")),
    ("gatkq, miss", [], touch(GATKQ, b"k", 9), None),
    ("set", [], SET_K, Reply(SET, 0, cas=1)),
    ("set quiet", [], store(SETQ, b"k", b"v"), None),
    ("set, cas right", [SET_K], store(SET, b"k", b"v", cas=1), Reply(SET, 0, cas=2)),
    ("set, cas wrong", [SET_K], store(SET, b"k", b"v", cas=7), error(SET, EXISTS)),
    ("set, cas, missing", [], store(SET, b"k", b"v", cas=7), error(SET, NOT_FOUND)),
    ("setq, cas wrong", [SET_K], store(SETQ, b"k", b"v", cas=7), error(SETQ, EXISTS)),
    ("add", [], store(ADD, b"k", b"v"), Reply(ADD, 0, cas=1)),
    ("add, there", [SET_K], store(ADD, b"k", b"v"), error(ADD, EXISTS)),
    ("addq, there", [SET_K], store(ADDQ, b"k", b"v"), error(ADDQ, EXISTS)),
    ("add, cas", [SET_K], store(ADD, b"k", b"v", cas=1), Reply(ADD, 0, cas=2)),
    ("replace", [SET_K], store(REPLACE, b"k", b"v"), Reply(REPLACE, 0, cas=2)),
    ("replace, missing", [], store(REPLACE, b"k", b"v"), error(REPLACE, NOT_FOUND)),
    ("replaceq, missing", [], store(REPLACEQ, b"k", b"v"), error(REPLACEQ, NOT_FOUND)),
    ("append", [SET_K], request(APPEND, b"k", b"", b"!"), Reply(APPEND, 0, cas=2)),
    ("append quiet", [SET_K], request(APPENDQ, b"k", b"", b"!"), None),
    ("append, missing", [], request(APPEND, b"k", b"", b"!"), error(APPEND, NOT_STORED)),
    ("prepend, cas", [SET_K], request(PREPEND, b"k", b"", b"!", cas=1), Reply(PREPEND, 0, cas=2)),
    ("prepend, cas wrong", [SET_K], request(PREPEND, b"k", cas=9), error(PREPEND, EXISTS)),
    ("delete", [SET_K], request(DELETE, b"k"), Reply(DELETE, 0)),
    ("delete quiet", [SET_K], request(DELETEQ, b"k"), None),
    ("delete, missing", [], request(DELETE, b"k"), error(DELETE, NOT_FOUND)),
    ("deleteq, missing", [], request(DELETEQ, b"k"), error(DELETEQ, NOT_FOUND)),
    ("delete, cas", [SET_K], request(DELETE, b"k", cas=1), Reply(DELETE, 0)),
    ("delete, cas wrong", [SET_K], request(DELETE, b"k", cas=2), error(DELETE, EXISTS)),
    ("incr", [SET_N], count(INCREMENT, b"n", 5), Reply(INCREMENT, 0, value=u64(15), cas=2)),
    ("decr", [SET_N], count(DECREMENT, b"n", 50), Reply(DECREMENT, 0, value=u64(0), cas=2)),
    ("incr quiet", [SET_N], count(INCREMENTQ, b"n", 5), None),
    (
        "incr creates", [], count(INCREMENT, b"n", 5, 9), Reply(INCREMENT, 0, value=u64(9), cas=1),
    ),
    ("incr may not create", [], count(INCREMENT, b"n", 5, 9, NEVER), error(INCREMENT, NOT_FOUND)),
    ("incr, no number", [SET_K], count(INCREMENT, b"k", 5), error(INCREMENT, NON_NUMERIC)),
    ("incr, cas wrong", [SET_N], count(INCREMENT, b"n", 5, cas=9), error(INCREMENT, EXISTS)),
    ("flush", [SET_K], request(FLUSH), Reply(FLUSH, 0)),
    ("flush at once", [SET_K], request(FLUSH, b"", bytes(4)), Reply(FLUSH, 0)),
    ("flush quiet", [SET_K], request(FLUSHQ), None),
    ("noop", [], request(NOOP), Reply(NOOP, 0)),
    ("version", [], request(VERSION), Reply(VERSION, 0, value=b"1.6.45")),
    ("verbosity", [], request(VERBOSITY), error(VERBOSITY, UNKNOWN)),
    ("unknown", [], request(0x99, b"", b"", b"body"), error(0x99, UNKNOWN)),
    ("mechanisms", [], request(SASL_LIST), error(SASL_LIST, UNKNOWN)),
    ("login", [], request(SASL_AUTH, b"PLAIN", b"", b"\0a\0b"), error(SASL_AUTH, UNKNOWN)),
    ("login, step", [], request(SASL_STEP, b"PLAIN", b"", b"\0a\0b"), error(SASL_STEP, UNKNOWN)),
    ("stat, unknown", [], request(STAT, b"bogus"), error(STAT, NOT_FOUND)),
    ("stat conns", [], request(STAT, b"conns"), error(STAT, NOT_FOUND)),
    ("stat reset", [], request(STAT, b"reset"), Reply(STAT, 0)),
    ("stat detail on", [], request(STAT, b"detail on"), Reply(STAT, 0)),
    ("stat detail", [], request(STAT, b"detail"), error(STAT, NOT_FOUND)),
]  # fmt: skip


@pytest.mark.parametrize(("name", "before", "asked", "reply"), CASES, ids=[c[0] for c in CASES])
@pytest.mark.parametrize("step", [0, 1, 25])
def test_reply(name, before, asked, reply, step):
    client = Client()
    ask(*before, client=client)
    expected = [] if reply is None else [reply]
    data = client.send(asked + request(NOOP), step=step)
    assert decode(data) == [*expected, Reply(NOOP, 0)]
    client.service.cache.check()


@pytest.mark.parametrize(("name", "before", "asked", "reply"), CASES, ids=[c[0] for c in CASES])
def test_a_request_that_comes_alone_is_answered_the_same(name, before, asked, reply):
    client = Client()
    ask(*before, request(NOOP), client=client)
    client.service.tick()
    assert client.connection.answer_plain
    data = client.connection.respond(asked)
    if data is None:
        data = client.receive()
    assert decode(data) == ([] if reply is None else [reply])
    client.service.cache.check()


# -- what is stored ----------------------------------------------------------------------------


def test_a_counter_that_was_created_lives_as_long_as_asked():
    clock = ManualClock()
    client = Client(make_service(clock))
    assert ask(count(INCREMENT, b"n", 1, 7, 10), client=client)[0].status == 0
    assert ask(request(GET, b"n"), client=client)[0].value == b"7"
    clock.advance(11)
    assert ask(request(GET, b"n"), client=client)[0].status == NOT_FOUND
    counters = client.service.cache.counters
    assert (counters.incr_misses, counters.decr_misses) == (0, 0)


def test_an_expiration_is_unsigned():
    client = Client()
    ask(store(SET, b"k", b"v", exptime=NEVER), client=client)
    assert ask(request(GET, b"k"), client=client)[0].value == b"v"


def test_touch_changes_the_end():
    clock = ManualClock()
    client = Client(make_service(clock))
    ask(SET_K, touch(TOUCH, b"k", 10), client=client)
    clock.advance(11)
    assert ask(request(GET, b"k"), client=client) == [error(GET, NOT_FOUND)]


def test_append_takes_neither_flags_nor_time():
    client = Client()
    ask(SET_K, request(APPEND, b"k", b"", b"!"), client=client)
    assert ask(request(GET, b"k"), client=client)[0][2:5] == (b"\0\0\0\5", b"", b"value!")


def test_without_cas_a_set_ignores_it():
    client = Client(disable_cas=True)
    assert ask(store(SET, b"k", b"v", cas=9), client=client) == [Reply(SET, 0)]
    assert ask(request(DELETE, b"k", cas=9), client=client) == [error(DELETE, EXISTS)]
    assert ask(request(APPEND, b"k", b"", b"w", cas=9), client=client) == [Reply(APPEND, 0)]


@pytest.mark.parametrize("key", [b"a b", b"\n", b"new\nline", b" "])
@pytest.mark.parametrize(
    "made", [store(SET, b"~", b"1"), store(ADD, b"~", b"1", flags=1), count(INCREMENT, b"~", 0, 1)]
)
def test_a_key_that_text_cannot_say_is_not_found_by_text(key, made):
    size = struct.unpack_from(">I", made, 8)[0] + len(key) - 1
    made = made[:2] + struct.pack(">H", len(key)) + made[4:8] + struct.pack(">I", size) + made[12:]
    client = Client()
    client.send(request(NOOP))
    assert decode(client.connection.respond(made.replace(b"~", key)) or b"")[0].status == 0
    ask(request(APPEND, key, b"", b"2"), client=client)
    text = Client(client.service)
    text.send(b"version\r\n")
    for _ in range(3):
        assert b"VALUE" not in (text.connection.respond(b"get " + key + b"\r\n") or b"")
    assert ask(request(GET, key), client=client)[0].value == b"12"


# -- sizes -------------------------------------------------------------------------------------


@pytest.mark.parametrize("opcode", [SET, SETQ])
def test_a_value_too_large_is_thrown_away_and_takes_the_old_one_with_it(opcode):
    client = Client()
    big = store(opcode, b"k", b"x" * (1 << 20))
    assert ask(SET_K, big, request(GET, b"k"), client=client) == [
        Reply(SET, 0, cas=1),
        error(opcode, TOO_LARGE),
        error(GET, NOT_FOUND),
    ]
    assert client.service.cache.counters.store_too_large == 1


def test_other_values_too_large_leave_what_is_there():
    client = Client()
    replies = ask(
        SET_K,
        store(REPLACE, b"k", b"x" * (1 << 20)),
        request(APPEND, b"k", b"", b"x" * (1 << 20)),
        request(APPEND, b"k", b"", b"x" * ((1 << 20) - 62)),
        request(GET, b"k"),
        client=client,
    )
    assert [reply.status for reply in replies] == [0, TOO_LARGE, TOO_LARGE, NOT_STORED, 0]


@pytest.mark.parametrize("opcode", [SET, APPEND, GET, STAT, 0x99])
def test_a_length_beyond_a_gigabyte_closes(opcode):
    for body_bytes, closes in (((1 << 30) + 1, True), (0xFFFFFFFF, True), (1 << 30, False)):
        client = Client()
        extras = bytes(8) if opcode == SET else b""
        huge = request(opcode, b"k", extras, body_bytes=body_bytes)
        if closes:
            assert ask(huge, request(NOOP), client=client) == [error(opcode, INVALID)]
        elif opcode in (SET, APPEND, 0x99):
            assert ask(huge, client=client) == []
            assert client.connection.swallow_bytes >= body_bytes - 9
        else:
            continue
        assert client.connection.closing is closes


def test_a_large_value_arrives_in_pieces():
    client = Client()
    value = bytes(range(256)) * 2000
    assert decode(client.send(store(SET, b"k", value) + request(NOOP), step=1000)) == [
        Reply(SET, 0, cas=1),
        Reply(NOOP, 0),
    ]
    assert ask(request(GET, b"k"), client=client)[0].value == value


def test_no_memory():
    client = Client(memory_limit_bytes=2 << 20, disable_evictions=True)
    replies = []
    for number in range(40):
        replies += ask(store(SET, b"%d" % number, b"x" * 100_000), client=client)
    text = b"Out of memory allocating item"
    assert replies[-1] == error(SET, NO_MEMORY, text)


# -- framing -----------------------------------------------------------------------------------

#: A request that closes the connection, and how it is answered.
CLOSING = [
    ("get without key", request(GET), INVALID),
    ("get with extras", request(GET, b"k", b"e"), INVALID),
    ("get with value", request(GET, b"k", b"", b"v"), INVALID),
    ("set without extras", request(SET, b"k", b"", b"v"), INVALID),
    ("set without key", request(SET, b"", bytes(8), b"v"), INVALID),
    ("delete with extras", request(DELETE, b"k", b"extr"), INVALID),
    ("incr with few extras", request(INCREMENT, b"k", bytes(16)), INVALID),
    ("append with extras", request(APPEND, b"k", bytes(8), b"v"), INVALID),
    ("touch without extras", request(TOUCH, b"k"), INVALID),
    ("noop with key", request(NOOP, b"k"), INVALID),
    ("version with value", request(VERSION, b"", b"", b"v"), INVALID),
    ("flush with key", request(FLUSH, b"k"), INVALID),
    ("flush with odd extras", request(FLUSH, b"", b"abc"), INVALID),
    ("stat with extras", request(STAT, b"", b"abcd"), INVALID),
    ("login without mechanism", request(SASL_AUTH, b"", b"", b"v"), INVALID),
    ("a key too long", request(GET, b"k" * 251), INVALID),
    ("an unknown one with a key too long", request(0x99, b"k" * 251), INVALID),
    ("a body shorter than the key", request(GET, b"key", body_bytes=2), UNKNOWN),
    ("a body shorter than extras", request(0x99, b"", b"extras", body_bytes=1), UNKNOWN),
]


@pytest.mark.parametrize(("name", "asked", "status"), CLOSING, ids=[c[0] for c in CLOSING])
@pytest.mark.parametrize("step", [0, 1])
def test_a_request_of_the_wrong_form_closes(name, asked, status, step):
    client = Client()
    data = client.send(request(NOOP) + asked + request(NOOP), step=step)
    assert decode(data) == [Reply(NOOP, 0), error(asked[1], status)]
    assert client.connection.closing
    assert client.connection.close_reason == "error"


def test_quit():
    client = Client()
    assert ask(request(QUIT), request(NOOP), client=client) == [Reply(QUIT, 0)]
    assert client.connection.closing
    assert client.connection.close_reason == "normal"
    quiet = Client()
    assert ask(request(QUITQ), request(NOOP), client=quiet) == []
    assert quiet.connection.closing


@pytest.mark.parametrize("first", [b"", request(NOOP)])
def test_another_magic_closes_without_a_word(first):
    client = Client(protocol="binary")
    ask(first, client=client) if first else None
    assert client.send(b"get k\r\n" + b"x" * 30) == b""
    assert client.connection.closing


def test_an_unknown_opcode_swallows_as_much_as_its_body():
    # From behind extras and key, as memcached does: conformance, generators/binary.py.
    unknown = request(0x99, b"key", b"extras", b"value") + b"x" * len(b"keyextras")
    assert ask(unknown, request(NOOP)) == [error(0x99, UNKNOWN), Reply(NOOP, 0)]


@pytest.mark.parametrize("asked", [request(STAT, b"reset"), touch(GAT, b"k", 0)])
def test_what_a_body_leaves_is_the_next_request(asked):
    left = request(NOOP)
    size = struct.unpack_from(">I", asked, 8)[0] + len(left)
    asked = asked[:8] + struct.pack(">I", size) + asked[12:]
    assert ask(asked, left)[-1] == Reply(NOOP, 0)
    assert len(ask(asked, left)) == 2


def test_the_budget_ends_a_turn():
    client = Client(reqs_per_event=3)
    assert len(ask(request(NOOP) * 10, client=client)) == 10
    assert client.service.counters.conn_yields == 3


def test_the_first_byte_chooses_unless_the_settings_do():
    assert ask(request(NOOP)) == [Reply(NOOP, 0)]
    assert ask(request(NOOP), protocol="binary") == [Reply(NOOP, 0)]
    assert Client(protocol="ascii").send(request(VERSION) + b"\r\n") == b"ERROR\r\n"


def test_every_opcode_has_its_place():
    assert [command.opcode for command in COMMANDS] == list(range(256))


REQUESTS = st.one_of(
    [st.just(case[2]) for case in CASES]
    + [
        st.builds(
            lambda opcode, flags, exptime, cas, value: store(
                opcode, b"k", value, flags=flags, exptime=exptime, cas=cas
            ),
            st.sampled_from([SET, SETQ, ADD, REPLACE]),
            st.sampled_from([0, 0, 3]),
            st.sampled_from([0, 0, 100, NEVER]),
            st.sampled_from([0, 0, 1, 2]),
            st.sampled_from([b"", b"5", b"x" * 300]),
        ),
        st.sampled_from([SET_K, SET_N, request(GET, b"k"), request(GETKQ, b"n")]),
    ]
)


@given(st.lists(REQUESTS, max_size=12), st.lists(st.integers(1, 80), max_size=30))
def test_any_split_gives_the_same_replies_and_the_same_store(requests, sizes):
    whole, split = Client(), Client()
    data = b"".join(requests)
    expected = whole.send(data) if data else b""
    got = b""
    for size in [*sizes, len(data)]:
        piece, data = data[:size], data[size:]
        if piece:
            split.service.tick()
            reply = split.connection.respond(piece)
            got += split.receive() if reply is None else reply
    assert got == expected
    for client in (whole, split):
        client.service.cache.check()
    stored = [
        [
            (item.key, item.value, item.client_flags, item.expires_at, item.cas_unique)
            for item in items
        ]
        for items in (
            sorted(client.service.cache.items(), key=lambda item: item.key)
            for client in (whole, split)
        )
    ]
    assert stored[0] == stored[1]


@given(
    st.lists(
        st.one_of(
            st.binary(max_size=60),
            st.builds(
                lambda opcode, key, extras, body, rest: (
                    struct.pack(">BBHBBHI", 0x80, opcode, key, extras, 0, 0, body)
                    + bytes(12)
                    + rest
                ),
                st.integers(0, 255),
                st.sampled_from([0, 1, 5, 250, 251, 65535]),
                st.sampled_from([0, 4, 8, 20, 255]),
                st.sampled_from([0, 1, 5, 9, 13, 25, 1 << 20, 0x7FFFFFFF, 0x80000000, NEVER]),
                st.binary(max_size=40),
            ),
        ),
        max_size=10,
    )
)
def test_any_bytes_raise_nothing_and_keep_little(pieces):
    client = Client(protocol="binary")
    for piece in pieces:
        if client.connection.closing:
            break
        client.send(piece) if piece else None
        assert len(client.connection.buffer) <= 1024
    client.service.cache.check()


# -- statistics, recording, the log ------------------------------------------------------------


def stat_names(key: bytes, client: Client) -> list[bytes]:
    replies = ask(request(STAT, key), client=client)
    assert replies[-1] == Reply(STAT, 0)
    return [reply.key for reply in replies[:-1]]


@pytest.mark.parametrize("key", [b"", b"settings", b"items", b"slabs", b"sizes", b"replication"])
def test_reports_have_the_rows_of_the_text_protocol(key):
    client = Client()
    ask(SET_K, client=client)
    names = stat_names(key, client)
    rows = Client(client.service).send(b"stats " + key + b"\r\n").split(b"\r\n")[:-2]
    assert names == [row.split(b" ")[1] for row in rows]


def test_sizes_of_many_items_come_in_their_time(monkeypatch):
    monkeypatch.setattr(reports, "_SIZES_SLICE_ITEMS", 2)
    client = Client(track_sizes=True)
    ask(*(store(SET, b"%d" % number, b"v" * 40) for number in range(9)), client=client)
    replies = ask(request(STAT, b"sizes"), request(NOOP), client=client)
    assert replies == [
        Reply(STAT, 0, key=b"128", value=b"9"),
        Reply(STAT, 0),
        Reply(NOOP, 0),
    ]


@pytest.mark.parametrize("key", [b"detail", b"detail on", b"detail dump", b"detailed"])
def test_prefixes_may_be_forbidden(key):
    client = Client(disable_dumping=True)
    assert ask(request(STAT, key), client=client) == [error(STAT, NOT_FOUND)]


def test_prefixes_are_counted():
    client = Client()
    ask(
        request(STAT, b"detail on"),
        store(SET, b"a:1", b"v"),
        request(GET, b"a:1"),
        touch(GAT, b"a:2", 0),
        request(DELETE, b"a:1"),
        client=client,
    )
    replies = ask(request(STAT, b"detail dump"), client=client)
    assert replies[0].value == b"PREFIX a get 2 hit 1 set 1 del 1\r\nEND\r\n"
    assert ask(request(STAT, b"detail off"), client=client) == [Reply(STAT, 0)]
    assert client.service.cache.listener is None


def test_a_watcher_sees_binary_commands():
    client = Client()
    watcher = Client(client.service)
    watcher.send(b"watch fetchers mutations\r\n")
    ask(SET_K, request(GET, b"k"), request(GET, b"x"), client=client)
    ask(store(SET, b"k", b"x" * (1 << 20)), client=client)
    lines = watcher.take().decode().splitlines()
    assert [line.split(" ", 2)[2].rsplit(" cfd")[0] for line in lines if "get" in line] == [
        "type=item_get key=k status=not_found clsid=0",
        "type=item_get key=k status=found clsid=1",
        "type=item_get key=x status=not_found clsid=0",
        "type=item_get key=k status=found clsid=1",
    ]
    assert [line.split("status=")[1].split()[0] for line in lines if "store" in line] == [
        "stored",
        "too_large",
    ]


def test_flush_can_be_forbidden():
    client = Client(disable_flush_all=True)
    assert ask(SET_K, request(FLUSH), request(GET, b"k"), client=client)[1] == error(
        FLUSH, AUTH_ERROR
    )
    assert client.service.cache.item_count == 1


def test_the_counters_are_those_of_text():
    client = Client()
    ask(
        SET_K,
        request(GET, b"k"),
        request(GETQ, b"x"),
        touch(TOUCH, b"k", 0),
        touch(GAT, b"x", 0),
        request(DELETE, b"x"),
        count(DECREMENT, b"x", 1, 0, NEVER),
        store(SET, b"k", b"v", cas=99),
        request(FLUSH),
        client=client,
    )
    counters = client.service.cache.counters
    assert counters.get_misses == counters.touch_misses == counters.delete_misses == 1
    assert (counters.touch_cmds, counters.decr_misses, counters.flush_cmds) == (2, 1, 1)
    assert sum(each.cas_badval for each in client.service.cache.slabs) == 1


def test_the_log_shows_headers():
    lines: list[str] = []
    service = make_service(verbose=2)
    lend(service, log_line=lines.append)
    client = Client(service)
    client.send(request(GET, b"k"))
    number = client.connection.id
    assert lines[:3] == [
        f"{number}: Client using the binary protocol",
        f"<{number} Read binary protocol data:",
        f"<{number}    0x80 0x00 0x00 0x01",
    ]
    assert f">{number} Writing an error: Not found" in lines
    assert f">{number}   0x81 0x00 0x00 0x00" in lines
    assert service.cache.counters.get_misses == 1


@pytest.mark.parametrize(
    ("said", "words"),
    [
        (request(NOOP) + b"x" * 24, "Invalid magic:  78"),
        (request(GET), "Protocol error (opcode 00), close connection {id}"),
        (request(0x99, b"k" * 251), "Protocol error (opcode 99), close connection {id}"),
        (request(GET, b"k", body_bytes=0), ""),
        (request(GET, b"k", body_bytes=(1 << 30) + 1), ""),
        (request(QUIT), ""),
    ],
)
def test_what_is_wrong_is_logged_behind_the_replies(said, words):
    client = Client(make_service())
    client.send(said)
    assert client.connection.closing
    assert client.connection.last_words == words.format(id=client.connection.id)


@pytest.mark.parametrize("step", [0, 1])
def test_what_is_wrong_waits_for_its_key(step):
    wrong = request(GET, b"k" * 16360)
    client = Client(make_service())
    assert client.send(wrong[:-1], step=step) == b""
    assert not client.connection.closing
    assert decode(client.send(wrong[-1:])) == [error(GET, 4)]
    assert client.connection.closing
    longer = Client(make_service())
    assert longer.send(request(GET, b"k" * 16361), step=step) == b""
    assert longer.connection.closing


def test_what_is_logged_of_replies():
    lines: list[str] = []
    service = make_service(verbose=2)
    lend(service, log_line=lines.append)
    client = Client(service)
    client.send(store(SET, b"k", b"v"))
    lines.clear()
    client.send(request(GET, b"k") + request(STAT, b"items") + request(STAT, b"bogus"))
    number = client.connection.id
    assert [line for line in lines if "  0x" not in line] == [
        f"<{number} Read binary protocol data:",
        f"<{number} GET k",
        f">{number} Writing bin response:",
        f"<{number} Read binary protocol data:",
        f"<{number} STATS items",
        f"<{number} Read binary protocol data:",
        f"<{number} STATS bogus",
        f">{number} Writing an error: Not found",
        f">{number} Writing bin response:",
    ]
    # The unique of what was found is filled in later there.
    found = lines.index(f">{number} Writing bin response:")
    assert lines[found + 5 : found + 7] == [f">{number}   0x00 0x00 0x00 0x00"] * 2
    lines.clear()
    client.send(request(INCREMENT, b"n", struct.pack(">QQI", 1 << 63, 1 << 63, 0xFFFFFFFF)))
    assert "incr n -9223372036854775808, 9223372036854775808, -1" in lines
