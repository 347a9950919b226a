"""Logging in: SASL in the binary protocol, `set` in the text protocol."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import pytest
import scramp
from hypothesis import given
from hypothesis import strategies as st

from pymcd import limits
from pymcd.auth import Authenticator, Users, decode_sasl_users, encode_hashed
from pymcd.store import StoreMode

from ..clocks import ManualClock
from ..hosts import lend
from .binary_client import (
    GET,
    NOOP,
    SASL_AUTH,
    SASL_LIST,
    SASL_STEP,
    SET,
    STAT,
    VERSION,
    Reply,
    ask,
    decode,
    error,
    request,
    store,
)
from .helpers import Client, make_service

if TYPE_CHECKING:
    from pymcd.service import Service

INVALID, AUTH_ERROR, AUTH_CONTINUE, UNKNOWN, NO_MEMORY = 0x04, 0x20, 0x21, 0x81, 0x82
OK_REPLY = Reply(SASL_AUTH, 0, value=b"Authenticated")
FAILED = error(SASL_AUTH, AUTH_ERROR)
MISS = error(GET, 1)
GET_K = request(GET, b"k")
LIST = request(SASL_LIST)


def demand_login(service: Service, data: bytes = b"alice:secret\n") -> Service:
    numbers = itertools.count(1)

    def read_users() -> Users:
        return decode_sasl_users(data)

    authenticator = Authenticator(
        read_users, make_nonce=lambda: f"nonce{next(numbers)}", secret=b"s"
    )
    lend(service, authenticator=authenticator)
    return service


def stranger(**settings) -> Client:
    return Client(demand_login(make_service(enable_sasl=True, protocol="binary", **settings)))


def plain(password: bytes, opcode: int = SASL_AUTH) -> bytes:
    return request(opcode, b"PLAIN", b"", b"\0alice\0" + password)


def counted(client: Client) -> tuple[int, int]:
    counters = client.service.counters
    return counters.auth_cmds, counters.auth_errors


# -- SASL --------------------------------------------------------------------------------------

#: What one connection says, and what it is answered. The last reply may be the end.
CONVERSATIONS = [
    ("version", [request(VERSION)], [Reply(VERSION, 0, value=b"1.6.45")], False),
    ("right", [plain(b"secret"), GET_K], [OK_REPLY, MISS], False),
    ("wrong", [plain(b"wrong")], [FAILED], False),
    ("wrong, right", [plain(b"wrong"), plain(b"secret"), GET_K], [FAILED, OK_REPLY, MISS], False),
    ("revoked", [plain(b"secret"), plain(b"x"), GET_K], [OK_REPLY, FAILED, error(GET, 0x20)], True),
    # What Cyrus SASL makes of a login behind another one.
    (
        "twice",
        [plain(b"secret"), plain(b"secret"), GET_K],
        [OK_REPLY, FAILED, error(GET, 0x20)],
        True,
    ),
    ("thrice", [plain(b"secret")] * 3 + [GET_K], [OK_REPLY, FAILED, OK_REPLY, MISS], False),
    (
        "twice, the second time in two steps",
        [plain(b"secret"), request(SASL_AUTH, b"PLAIN"), plain(b"secret", SASL_STEP), GET_K],
        [OK_REPLY, Reply(SASL_AUTH, 0x21), error(SASL_STEP, 0x20), error(GET, 0x20)],
        True,
    ),
    (
        "twice, the second time begun anew",
        [plain(b"secret"), request(SASL_AUTH, b"PLAIN"), *[plain(b"secret")] * 2, GET_K],
        [OK_REPLY, Reply(SASL_AUTH, 0x21), FAILED, OK_REPLY, MISS],
        False,
    ),
    (
        "a challenge behind a login",
        [plain(b"secret"), request(SASL_AUTH, b"CRAM-MD5"), plain(b"secret"), GET_K],
        [OK_REPLY, FAILED, OK_REPLY, MISS],
        False,
    ),
    (
        "a mechanism unknown behind a login",
        [plain(b"secret"), request(SASL_AUTH, b"NOPE", b"", b"x"), plain(b"secret"), GET_K],
        [OK_REPLY, FAILED, OK_REPLY, MISS],
        False,
    ),
    (
        "a step behind a login",
        [plain(b"secret"), plain(b"secret", SASL_STEP), plain(b"secret"), GET_K],
        [OK_REPLY, error(SASL_STEP, 0x20), FAILED, error(GET, 0x20)],
        True,
    ),
    (
        "empty, then a step",
        [request(SASL_AUTH, b"PLAIN"), plain(b"secret", SASL_STEP), GET_K],
        [Reply(SASL_AUTH, 0x21), Reply(SASL_STEP, 0, value=b"Authenticated"), MISS],
        False,
    ),
    (
        "a step after the end",
        [plain(b"secret"), plain(b"secret", SASL_STEP), GET_K],
        [OK_REPLY, error(SASL_STEP, 0x20), error(GET, 0x20)],
        True,
    ),
    ("a step first", [plain(b"secret", SASL_STEP)], [error(SASL_STEP, 0x20)], False),
    (
        "a mechanism unknown",
        [request(SASL_AUTH, b"NOPE", b"", b"\0alice\0secret")],
        [FAILED],
        False,
    ),
    (
        "in small letters, and a NUL",
        [request(SASL_AUTH, b"plain\0x", b"", b"\0alice\0secret"), GET_K],
        [OK_REPLY, MISS],
        False,
    ),
    (
        "a mechanism too long",
        [request(SASL_AUTH, b"P" * 33, b"", b"value"), request(VERSION)],
        [error(SASL_AUTH, INVALID), Reply(VERSION, 0, value=b"1.6.45")],
        False,
    ),
    (
        "too much",
        [request(SASL_AUTH, b"PLAIN", b"", b"x" * 5000), request(VERSION)],
        [error(SASL_AUTH, NO_MEMORY), Reply(VERSION, 0, value=b"1.6.45")],
        False,
    ),
    ("a get first", [GET_K], [error(GET, AUTH_ERROR)], True),
    ("a set first", [store(SET, b"k", b"v")], [error(SET, AUTH_ERROR)], True),
    ("statistics first", [request(STAT)], [error(STAT, AUTH_ERROR)], True),
    ("what is unknown first", [request(0x99)], [error(0x99, AUTH_ERROR)], True),
    ("a wrong form first", [request(GET)], [error(GET, AUTH_ERROR)], True),
    ("a long key first", [request(GET, b"k" * 300)], [error(GET, AUTH_ERROR)], True),
    ("a lying form", [request(GET, b"k", body_bytes=0)], [error(GET, UNKNOWN)], True),
    ("a version of a wrong form", [request(VERSION, b"k")], [error(VERSION, INVALID)], True),
    ("a list of a wrong form", [request(SASL_LIST, b"k")], [error(SASL_LIST, INVALID)], True),
    ("a login with extras", [request(SASL_AUTH, b"P", b"e")], [error(SASL_AUTH, INVALID)], True),
    ("text", [b"get k\r\n" * 4], [], True),
]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "said", "heard", "closes"), CONVERSATIONS, ids=[c[0] for c in CONVERSATIONS]
)
@pytest.mark.parametrize("step", [0, 1])
def test_sasl(name, said, heard, closes, step):
    client = stranger()
    assert decode(client.send(b"".join(said), step=step)) == heard
    assert client.connection.closing is closes
    assert not client.service.cache.item_count


def test_mechanisms_are_listed_and_whoever_asks_is_a_stranger():
    client = stranger()
    names = b"SCRAM-SHA-512 SCRAM-SHA-256 SCRAM-SHA-1 CRAM-MD5 PLAIN"
    assert ask(LIST, client=client) == [Reply(SASL_LIST, 0, value=names)]
    assert ask(plain(b"secret"), LIST, GET_K, client=client)[2] == error(GET, AUTH_ERROR)


def test_logins_are_counted():
    client = stranger()
    ask(
        plain(b"wrong"),
        request(SASL_AUTH, b"PLAIN"),
        plain(b"secret", SASL_STEP),
        plain(b"x", SASL_STEP),
        LIST,
        client=client,
    )
    assert counted(client) == (3, 2)


def test_scram_over_the_wire():
    client = stranger()
    scram = scramp.ScramClient(["SCRAM-SHA-256"], "alice", "secret")

    def say(opcode: int, message: str) -> Reply:
        asked = request(opcode, b"SCRAM-SHA-256", b"", message.encode())
        return ask(asked, client=client)[0]

    first = say(SASL_AUTH, scram.get_client_first())
    assert first.status == AUTH_CONTINUE
    scram.set_server_first(first.value.decode())
    final = say(SASL_STEP, scram.get_client_final())
    assert final.status == AUTH_CONTINUE
    scram.set_server_final(final.value.decode())
    assert ask(GET_K, client=Client(client.service)) == [error(GET, AUTH_ERROR)]
    assert say(SASL_STEP, "") == Reply(SASL_STEP, 0, value=b"Authenticated")
    assert ask(GET_K, client=client) == [MISS]


def test_whoever_is_in_is_served_fast():
    client = stranger()
    client.send(request(VERSION))
    assert not client.connection.answer_plain
    client.send(plain(b"secret"))
    assert client.connection.answer_plain
    client.send(LIST)
    assert not client.connection.answer_plain


def test_a_stranger_keeps_little():
    client = stranger()
    # Nobody's key is that long: it is not waited for to the end.
    client.send(request(GET, b"k" * 65535)[:16383])
    assert not client.connection.closing
    client.send(b"k")
    assert client.connection.closing
    assert not client.take()


@given(
    st.lists(
        st.one_of(
            st.binary(max_size=40),
            st.sampled_from(
                [case[1][0] for case in CONVERSATIONS if case[1] != [plain(b"secret")]]
            ),
        ),
        max_size=8,
    )
)
def test_any_bytes_let_no_stranger_in(pieces):
    client = stranger()
    client.service.cache.store(StoreMode.SET, b"k", b"treasure")
    demand_login(client.service, b"")
    for piece in pieces:
        if not client.connection.closing and piece:
            assert b"treasure" not in client.send(piece)
            assert len(client.connection.buffer) < 2 * limits.LOGIN_MAX_BYTES
    assert client.service.cache.item_count == 1


# -- text --------------------------------------------------------------------------------------

UNAUTHENTICATED = b"CLIENT_ERROR unauthenticated\r\n"
TOO_LONG = b"CLIENT_ERROR auth token too long\r\n"
FAILURE = b"CLIENT_ERROR authentication failure\r\n"
RIGHT = b"set x 0 0 12\r\nalice secret\r\n"
WRONG = b"set x 0 0 11\r\nalice wrong\r\n"

TEXT = [
    ("right", RIGHT, b"STORED\r\n"),
    ("right, with what follows", RIGHT + b"get k\r\n", b"STORED\r\nEND\r\n"),
    ("words behind", b"set x 0 0 12 9 z\r\nalice secret\r\n", b"STORED\r\n"),
    ("blanks in the line", b"set  x 0 0  12 \r\nalice secret\r\n", b"STORED\r\n"),
    ("a longer word", b"setx x 0 0 12\r\nalice secret\r\n", b"STORED\r\n"),
    ("two carriage returns", b"set x 0 0 12\r\r\nalice secret\r\n", b"STORED\r\n"),
    ("a bare line feed", b"set x 0 0 12x\nalice secret\r\n", b"STORED\r\n"),
    ("digits", b"set x 0 0 00000000012\r\nalice secret\r\n", b"STORED\r\n"),
    ("a third word", b"set x 0 0 14\r\nalice secret x\r\n", FAILURE),
    ("a blank in front", b"set x 0 0 13\r\n alice secret\r\n", FAILURE),
    ("two blanks", b"set x 0 0 13\r\nalice  secret\r\n", FAILURE),
    ("a blank only", b"set x 0 0 1\r\n \r\n", FAILURE),
    ("wrong", WRONG, FAILURE),
    ("wrong, right", WRONG + RIGHT + b"get k\r\n", FAILURE + b"STORED\r\nEND\r\n"),
    ("one word", b"set x 0 0 5\r\nalice\r\n", b"CLIENT_ERROR bad authentication token format\r\n"),
    (
        "another end",
        b"set x 0 0 11\r\nalice secret\r\n",
        b"CLIENT_ERROR bad command line termination\r\n",
    ),
    ("a get", b"get k\r\n", UNAUTHENTICATED),
    ("an empty line, which is not looked at", b"\r\n", b""),
    ("blanks", b"     \r\n", UNAUTHENTICATED),
    ("six bytes", b"abcde\r\n", UNAUTHENTICATED),
    ("noreply", b"set x 0 0 11 noreply\r\nalice wrong\r\n", FAILURE),
    ("few words", b"set x 0 0\r\n", UNAUTHENTICATED),
    ("no number", b"set x 0 0 x\r\n", UNAUTHENTICATED),
    *((f"not a number: {word!r}", b"set x 0 0 %b\r\n" % word, UNAUTHENTICATED) for word in (
        b"+7", b"-7", b"\t7", b"7\t", b"7\0", b"7.0", b"000000000007", b"4294967296", b"7\r8")),
    ("too long", b"set x 0 0 16385\r\nget k\r\n", TOO_LONG + UNAUTHENTICATED),
    ("far too long", b"set x 0 0 4294967295\r\n", TOO_LONG),
    ("a blank before set", b" set x 0 0 12\r\nalice secret\r\n", UNAUTHENTICATED * 2),
    ("add", b"add x 0 0 12\r\nalice secret\r\n", UNAUTHENTICATED * 2),
    ("a browser", b"GET / HTTP/1.1\r\n", UNAUTHENTICATED),
    ("half of it", b"set x 0 0 12\r\nalice sec", b""),
    ("long", b"set x 0 0 16382\r\nalice " + b"x" * 16376 + b"\r\n", FAILURE),
]  # fmt: skip


def text_stranger(**settings) -> Client:
    return Client(demand_login(make_service(auth_file="users", protocol="ascii", **settings)))


@pytest.mark.parametrize(("name", "said", "heard"), TEXT, ids=[c[0] for c in TEXT])
@pytest.mark.parametrize("step", [0, 1])
def test_text(name, said, heard, step):
    client = text_stranger()
    assert client.send(said, step=step) == heard
    assert not client.connection.closing
    assert not client.service.cache.item_count


def test_text_logins_are_counted():
    client = text_stranger()
    client.send(b"get k\r\n" + WRONG + RIGHT)
    assert counted(client) == (2, 1)
    assert client.connection.stranger_since is None


CLOSING = [
    ("no line", b"x" * 2049),
    ("five bytes", b"quit\r\n"),
    ("a bare line feed", b"abcde\n"),
    ("nothing", b"\r\nget k\r\n"),
    ("set", b"set\r\n"),
    ("the binary protocol", request(NOOP)),
]


@pytest.mark.parametrize(("name", "said"), CLOSING, ids=[case[0] for case in CLOSING])
@pytest.mark.parametrize("step", [0, 1])
def test_what_is_no_line_ends_the_connection(name, said, step):
    client = text_stranger()
    assert client.send(said, step=step) == b""
    assert client.connection.closing
    assert client.connection.close_reason == "error"


def test_a_value_that_fits_in_no_buffer_ends_the_connection():
    client = text_stranger()
    assert client.send(b"set x 0 0 16383\r\n" + b"x" * 16383) == b""
    assert not client.connection.closing
    assert client.send(b"x") == b""
    assert (client.connection.closing, client.connection.close_reason) == (True, "normal")


def test_the_budget_ends_a_turn_of_strangers_too():
    client = text_stranger(reqs_per_event=2)
    assert client.send(b"get k\r\n" * 5 + RIGHT + b"get k\r\n" * 5) == (
        UNAUTHENTICATED * 5 + b"STORED\r\n" + b"END\r\n" * 5
    )


def test_a_traced_login():
    lines: list[str] = []
    client = text_stranger(verbose=2)
    lend(client.service, log_line=lines.append)
    assert client.send(RIGHT + b"get k\r\n") == b"STORED\r\nEND\r\n"
    assert not any("secret" in line for line in lines)


# -- the delay after a failure -----------------------------------------------------------------


def test_a_failure_may_be_answered_late():
    calls: list = []
    for client, wrong, behind, replies in (
        (
            stranger(login_failure_delay_s=2.0),
            plain(b"wrong"),
            request(VERSION),
            lambda data: decode(data) == [FAILED, Reply(VERSION, 0, value=b"1.6.45")],
        ),
        (
            text_stranger(login_failure_delay_s=2.0),
            WRONG,
            b"foo x\r\n",
            lambda data: data == FAILURE + UNAUTHENTICATED,
        ),
    ):
        lend(client.service, call_later=lambda delay_s, call: calls.append((delay_s, call)))
        assert client.send(wrong + behind) == b""
        assert client.receive() == b""
        [(delay_s, call)] = calls
        assert delay_s == 2.0
        calls.clear()
        call()
        assert replies(client.take() + client.receive())


def test_who_talks_on_while_waiting_is_closed():
    client = stranger(login_failure_delay_s=2.0)
    calls: list = []
    lend(client.service, call_later=lambda delay_s, call: calls.append(call))
    client.send(plain(b"wrong"))
    client.send(request(NOOP) * 200)
    assert client.connection.closing
    calls[0]()
    assert client.take() == b""


# -- a look at a password that takes long ------------------------------------------------------

HASHED = b"alice:%b\n" % encode_hashed(b"secret", b"0123456789abcdef", 2)


def lookers() -> list[tuple[Client, bytes, bytes, bytes]]:
    """Return clients of either protocol, a right login, a wrong one, and what is said behind it."""
    sasl = Client(demand_login(make_service(enable_sasl=True, protocol="binary"), HASHED))
    text = Client(demand_login(make_service(auth_file="users", protocol="ascii"), HASHED))
    return [
        (sasl, plain(b"secret"), plain(b"wrong"), store(SET, b"k", b"x" * 10_000) + GET_K),
        (text, RIGHT, WRONG, b"set k 0 0 10000\r\n" + b"x" * 10_000 + b"\r\nget k\r\n"),
    ]


def put_aside(client: Client) -> list:
    works: list = []
    lend(client.service, do_aside=lambda work, done: works.append((work, done)))
    return works


@pytest.mark.parametrize("which", [0, 1], ids=["sasl", "text"])
def test_a_look_that_takes_long_is_had_aside(which):
    client, right, wrong, behind = lookers()[which]
    suspended: list[bool] = []
    woken: list[bool] = []
    client.connection.suspend = lambda: suspended.append(True)
    client.connection.wake = lambda: woken.append(True)
    works = put_aside(client)
    assert client.send(wrong) == b""
    work, done = works.pop()
    assert len(suspended) == 1
    assert not woken
    done(work())
    assert len(woken) == 1
    assert counted(client) == (1, 1)
    assert client.receive()
    # What stands behind it waits, however much that is, and is executed then.
    assert client.send(right + behind) == b""
    assert client.receive() == b""
    work, done = works.pop()
    done(work())
    answer = client.receive()
    assert b"x" * 10_000 in answer
    assert counted(client) == (2, 1)
    assert not client.connection.closing


@pytest.mark.parametrize("which", [0, 1], ids=["sasl", "text"])
def test_who_has_gone_meanwhile_is_not_let_in(which):
    client, right, _, _ = lookers()[which]
    works = put_aside(client)
    client.send(right)
    client.connection.close("error")
    work, done = works.pop()
    done(work())
    assert client.take() == b""
    assert client.connection.stranger_since is not None


@pytest.mark.parametrize("which", [0, 1], ids=["sasl", "text"])
def test_where_work_fails_the_connection_ends(which):
    client, right, _, _ = lookers()[which]
    works = put_aside(client)
    client.send(right)
    _, done = works.pop()
    done(None)
    assert client.connection.closing
    assert client.receive() == b""
    assert client.connection.stranger_since is not None


def test_strangers_since_when():
    clock = ManualClock()
    service = demand_login(make_service(clock, enable_sasl=True, protocol="binary"))
    client = Client(service)
    began = client.connection.stranger_since
    assert began == service.cache.now
    clock.advance(5)
    service.tick()
    ask(plain(b"wrong"), client=client)
    assert client.connection.stranger_since == began
    ask(plain(b"secret"), client=client)
    assert client.connection.stranger_since is None
    ask(LIST, client=client)
    assert client.connection.stranger_since == service.cache.now
