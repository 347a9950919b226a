"""HTTP with a client of a bucket. The client is h11, too, but for what h11 would not say."""

from __future__ import annotations

import json
from base64 import b64encode
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import h11
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pymcd.auth import Authenticator, Exchange, Users, encode_hashed
from pymcd.couchbase.conversation import SEPARATOR, Conversation
from pymcd.couchbase.documents import Site, View
from pymcd.web.conversation import REQUEST_MAX_BYTES

if TYPE_CHECKING:
    from collections.abc import Callable

A = Site("a", 11211, 8091)
B = Site("b", 11221, 8092)
BOTH = View(A, (B,), B, (A, B))
ALONE = View(A, (), A, (A, B))
STREAM = "/pools/default/bucketsStreaming/default"


class Talk:
    """A conversation, and what its client understands."""

    def __init__(self, **options: Any) -> None:
        self.view: View | None = BOTH
        self.conversation = Conversation(lambda: self.view, **options)
        self.client = h11.Connection(h11.CLIENT)

    def get(self, path: str, *headers: tuple[str, str], method: str = "GET") -> tuple[int, bytes]:
        """Make a request; return status and body."""
        all_headers = [("Host", "a"), *headers]
        data = self.client.send(h11.Request(method=method, target=path, headers=all_headers))
        assert data is not None
        end = self.client.send(h11.EndOfMessage())
        self.client.receive_data(hear(self.conversation, data + (end or b"")))
        response = self.client.next_event()
        assert isinstance(response, h11.Response)
        self.headers = dict(response.headers)
        body = b""
        while isinstance(event := self.client.next_event(), h11.Data):
            body += bytes(event.data)
        if self.client.our_state is self.client.their_state is h11.DONE:
            self.client.start_next_cycle()
        return response.status_code, body

    def json(self, path: str, *headers: tuple[str, str]) -> Any:
        status, body = self.get(path, *headers)
        assert status == 200
        assert self.headers[b"content-type"] == b"application/json"
        return json.loads(body)


def basic(name: str, password: str) -> tuple[str, str]:
    return "Authorization", "Basic " + b64encode(f"{name}:{password}".encode()).decode()


def hear(conversation: Conversation, data: bytes) -> bytes:
    """Return all that is answered."""
    answer = conversation.receive(data)
    while conversation.more or conversation.work is not None:
        if conversation.work is not None:
            answer += conversation.resume(conversation.work())
        else:
            answer += conversation.go_on()
    return answer


USERS = Users([(b"sessions", b"secret"), (b"carts", b"s:e:c")])
HASHED = Users([(b"sessions", encode_hashed(b"secret", bytes(16), 1)), (b"carts", b"s:e:c")])


def checking(users: Users) -> Callable[[bytes, bytes], Exchange]:
    return Authenticator(lambda: users, make_nonce=str, secret=b"s").begin_check


both_ways = pytest.mark.parametrize("users", [USERS, HASHED], ids=["plain", "hashed"])


def test_a_client_finds_its_bucket_over_one_connection():
    talk = Talk()
    pools = talk.json("/pools")
    pool = talk.json(pools["pools"][0]["uri"])
    (bucket,) = talk.json(pool["buckets"]["uri"])
    assert bucket["name"] == "default"
    assert talk.json(bucket["uri"]) == bucket
    assert talk.conversation.waiting
    assert not talk.conversation.closing


@pytest.mark.parametrize("path", ["/pools/", "/pools?uuid=7", "http://a:8091/pools"])
def test_the_same_path_in_other_words(path):
    assert Talk().json(path)["pools"]


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/pool",
        "/pools/default/buckets/other",
        "/pools/default/bucketsStreaming/other",
        "*",
        "http://[",
    ],
)
def test_what_is_not_there(path):
    talk = Talk()
    assert talk.get(path) == (404, b"")
    assert talk.json("/pools")


def test_other_methods():
    talk = Talk()
    assert talk.get("/pools", ("Content-Length", "0"), method="POST") == (405, b"")
    assert talk.headers[b"allow"] == b"GET"
    assert talk.get("/pools", method="HEAD") == (405, b"")
    assert talk.json("/pools")


def test_a_client_that_asks_for_one_thing():
    talk = Talk()
    assert talk.json("/pools", ("Connection", "close"))
    assert talk.conversation.closing
    assert talk.conversation.receive(b"GET /pools HTTP/1.1\r\nHost: a\r\n\r\n") == b""


def test_a_server_that_is_not_to_be_used_says_so():
    talk = Talk()
    talk.view = None
    assert talk.get("/pools") == (503, b"")
    assert talk.get(STREAM) == (503, b"")
    assert talk.conversation.streaming is None


# -- the stream --------------------------------------------------------------------------------


def chunks(data: bytes) -> list[bytes]:
    """Take a chunked body apart; the last chunk is b"" if it was there."""
    found = []
    while data:
        size, _, data = data.partition(b"\r\n")
        length = int(size, 16)
        found.append(data[:length])
        assert data[length : length + 2] == b"\r\n"
        data = data[length + 2 :]
    return found


def begin_stream(talk: Talk, target: str = STREAM) -> list[bytes]:
    request = f"GET {target} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
    answer = talk.conversation.receive(request.encode())
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 ")
    assert b"transfer-encoding: chunked" in head.lower()
    # Not in the same breath: the client might miss it.
    assert body == b""
    assert talk.conversation.told is None
    return chunks(talk.conversation.publish())


@pytest.mark.parametrize("target", [STREAM, f"http://b:8092{STREAM}"])
def test_a_stream_begins_with_the_map_and_the_separator_as_chunks_of_their_own(target):
    talk = Talk()
    document, separator = begin_stream(talk, target)
    assert json.loads(document)["vBucketServerMap"]["serverList"] == ["a:11211", "b:11221"]
    assert separator == SEPARATOR == b"\n\n\n\n"
    assert talk.conversation.streaming == "default"
    assert talk.conversation.told == BOTH
    assert not talk.conversation.closing


def test_a_stream_goes_on_with_each_map():
    talk = Talk()
    begin_stream(talk)
    talk.view = ALONE
    document, separator = chunks(talk.conversation.publish())
    assert json.loads(document)["vBucketServerMap"]["serverList"] == ["a:11211"]
    assert separator == SEPARATOR
    assert talk.conversation.told == ALONE


def test_a_stream_ends():
    talk = Talk()
    begin_stream(talk)
    assert chunks(talk.conversation.end()) == [b""]
    assert talk.conversation.closing


def test_a_stream_ends_when_there_is_no_map():
    talk = Talk()
    begin_stream(talk)
    talk.view = None
    assert chunks(talk.conversation.publish()) == [b""]
    assert talk.conversation.closing


def test_what_a_streaming_client_says_is_passed_over():
    talk = Talk()
    begin_stream(talk)
    for _ in range(100):
        assert talk.conversation.receive(b"GET /pools HTTP/1.1\r\n" * 1000) == b""
    assert not talk.conversation.closing
    assert talk.conversation._http.trailing_data[0] == b""
    assert talk.conversation.receive(b"") == b""
    assert talk.conversation.closing


def test_what_follows_the_stream_in_one_piece_is_passed_over():
    talk = Talk()
    request = f"GET {STREAM} HTTP/1.1\r\nHost: a\r\n\r\n".encode()
    answer = hear(talk.conversation, request + b"GET /pools HTTP/1.1\r\nHost: a\r\n\r\n")
    assert answer.count(b"HTTP/1.1") == 1


# -- logins ------------------------------------------------------------------------------------


@both_ways
def test_who_logs_in_has_a_bucket_by_that_name(users):
    talk = Talk(begin_check=checking(users))
    (bucket,) = talk.json("/pools/default/buckets", basic("sessions", "secret"))
    assert bucket["name"] == "sessions"
    (bucket,) = talk.json("/pools/default/buckets", basic("carts", "s:e:c"))
    assert bucket["name"] == "carts"
    assert talk.get("/pools/default/buckets/sessions", basic("carts", "s:e:c"))[0] == 404


REFUSED = [
    (),
    (basic("sessions", "wrong"),),
    (basic("default", ""),),
    (("Authorization", "Basic"),),
    (("Authorization", "Basic !"),),
    (("Authorization", "Basic c2Vzc2lvbnM="),),  # no colon
    (("Authorization", "Bearer secret"),),
]


@pytest.mark.parametrize("headers", REFUSED)
@pytest.mark.parametrize("path", ["/pools", "/", "/pools/default/bucketsStreaming/sessions"])
@both_ways
def test_nobody_else_learns_anything(headers, path, users):
    talk = Talk(begin_check=checking(users))
    assert talk.get(path, *headers) == (401, b"")
    assert talk.headers[b"www-authenticate"].startswith(b"Basic ")
    assert talk.conversation.streaming is None
    assert talk.conversation.refused
    assert talk.conversation.closing


def test_a_name_that_is_no_text():
    talk = Talk(begin_check=checking(Users([(b"\xff", b"x")])))
    token = b64encode(b"\xff:x").decode()
    assert talk.get("/pools", ("Authorization", f"Basic {token}")) == (401, b"")


def test_without_logins_a_header_means_nothing():
    # The client sends its bucket's name with every request, the default one's, too.
    talk = Talk()
    assert talk.json("/pools/default/buckets", basic("default", ""))[0]["name"] == "default"
    assert talk.json("/pools/default/buckets", basic("sessions", "x"))[0]["name"] == "default"


# -- what is no HTTP ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"version\r\n\r\n", b"400"),
        (b"\x80" * 24 + b"\r\n\r\n", b"400"),
        (b"GET /pools HTTP/1.1\r\n\r\n", b"400"),  # no Host
        (b"GET /pools HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", b"400"),
        (b"GET /" + b"x" * REQUEST_MAX_BYTES, b"431"),
    ],
)
def test_strangers_are_told_and_left(data, status):
    conversation = Conversation(lambda: BOTH)
    answer = conversation.receive(data)
    assert answer.split()[1] == status
    assert conversation.closing
    assert conversation.receive(data) == b""


def test_what_goes_wrong_behind_an_answer_gets_none():
    conversation = Conversation(lambda: BOTH)
    request = b"GET /pools HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
    assert conversation.receive(request).startswith(b"HTTP/1.1 200 ")
    assert conversation.receive(b"no number\r\n") == b""
    assert conversation.closing


def test_a_body_is_passed_over():
    talk = Talk()
    request = b"GET /pools HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\n"
    assert talk.conversation.receive(request).startswith(b"HTTP/1.1 200 ")
    assert talk.conversation.receive(b"12345") == b""
    assert talk.json("/pools")


def test_the_end_of_a_client():
    for data in (b"", b"GET /po"):
        conversation = Conversation(lambda: BOTH)
        conversation.receive(data) if data else None
        conversation.receive(b"")
        assert conversation.closing


PIPELINE = b"".join(
    b"GET %b HTTP/1.1\r\nHost: a\r\n\r\n" % path
    for path in (b"/pools", b"/nowhere", b"/pools/default", STREAM.encode())
)


@given(st.lists(st.integers(0, len(PIPELINE))))
def test_any_split_gives_the_same_answer(cuts):
    whole = hear(Conversation(lambda: BOTH), PIPELINE)
    conversation = Conversation(lambda: BOTH)
    edges = [0, *sorted(cuts), len(PIPELINE)]
    pieces = [PIPELINE[a:b] for a, b in pairwise(edges) if a < b]
    assert b"".join(hear(conversation, piece) for piece in pieces) == whole


def test_one_request_is_answered_at_a_time():
    conversation = Conversation(lambda: BOTH)
    answers = [conversation.receive(PIPELINE)]
    while conversation.more:
        answers.append(conversation.go_on())
    assert [answer.count(b"HTTP/1.1 ") for answer in answers if answer] == [1, 1, 1, 1]


def test_one_password_is_looked_at_in_a_request():
    looked_at = []

    def begin_check(name: bytes, password: bytes) -> Exchange:
        looked_at.append(name)
        return checking(USERS)(name, password)

    talk = Talk(begin_check=begin_check)
    headers = [basic("sessions", "no"), basic("carts", "s:e:c")]
    assert talk.get("/pools", *headers) == (401, b"")
    assert looked_at == [b"sessions"]


@given(st.lists(st.binary(min_size=1, max_size=300), max_size=8))
def test_no_bytes_raise_anything(pieces):
    conversation = Conversation(lambda: BOTH, checking(USERS))
    for piece in pieces:
        hear(conversation, piece)
    assert conversation.streaming is None
