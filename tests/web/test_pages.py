"""What can be asked by HTTP. The client is h11, but for what h11 never says."""

from __future__ import annotations

import json
from itertools import pairwise

import h11
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pymcd.config import Settings
from pymcd.readiness import STATES, Readiness, State, readiness_of
from pymcd.service import Service
from pymcd.web.asking import PageConversation
from pymcd.web.conversation import REQUEST_MAX_BYTES
from pymcd.web.pages import PAGES, Pages

from ..clocks import ManualClock
from ..hosts import make_host
from ..replication.helpers import make_group


def pages(state: State = State.SINGLE) -> Pages:
    service = Service(Settings(), ManualClock(), make_host())
    return Pages(service, lambda: Readiness(STATES[state][0], state, "so it is"))


def hear(conversation: PageConversation, data: bytes) -> bytes:
    """Return all that is answered."""
    answer = conversation.receive(data)
    while conversation.asked or conversation.more:
        answer += conversation.go_on()
    return answer


class Talk:
    """A conversation, and what its client understands."""

    def __init__(self, of: Pages | None = None) -> None:
        self.conversation = PageConversation(of or pages())
        self.client = h11.Connection(h11.CLIENT)

    def ask(self, path: str, *headers: tuple[str, str], method: str = "GET") -> tuple[int, bytes]:
        request = h11.Request(method=method, target=path, headers=[("Host", "a"), *headers])
        data = (self.client.send(request) or b"") + (self.client.send(h11.EndOfMessage()) or b"")
        self.client.receive_data(hear(self.conversation, data))
        response = self.client.next_event()
        assert isinstance(response, h11.Response)
        self.headers = dict(response.headers)
        body = b""
        while isinstance(event := self.client.next_event(), h11.Data):
            body += bytes(event.data)
        if self.client.our_state is self.client.their_state is h11.DONE:
            self.client.start_next_cycle()
        return response.status_code, body


# -- pages -------------------------------------------------------------------------------------


def test_who_is_asked_lives():
    assert Talk().ask("/healthz") == (200, b"ok\n")


@pytest.mark.parametrize("state", State)
def test_whether_clients_may_come(state):
    talk = Talk(pages(state))
    expected = 200 if STATES[state][0] else 503
    assert talk.ask("/readyz") == (expected, f"{state}: so it is\n".encode())
    assert talk.ask("/healthz")[0] == 200  # it lives all the same


def test_the_rows_of_replication():
    a = make_group()["a"]
    talk = Talk(Pages(a.service, lambda: readiness_of(a.node, draining=False)))
    status, body = talk.ask("/replication")
    assert status == 200
    assert talk.headers[b"content-type"] == b"application/json"
    assert json.loads(body) == dict(a.node.rows())
    assert list(json.loads(body)) == [name for name, _ in a.node.rows()]


def test_a_server_without_peers_has_none():
    assert json.loads(Talk().ask("/replication")[1]) == {"state": "off"}


def test_metrics_say_in_which_form_they_are():
    talk = Talk()
    status, body = talk.ask("/metrics")
    assert status == 200
    assert talk.headers[b"content-type"] == b"text/plain; version=0.0.4; charset=utf-8"
    assert b"\nmemcached_up 1\n" in body
    assert int(talk.headers[b"content-length"]) == len(body)


@pytest.mark.parametrize("path", ["/", "/metrics/x", "/healthz?verbose", "http://a:1/healthz", "*"])
def test_other_paths(path):
    status, body = Talk().ask(path)
    if "healthz" in path:
        assert status == 200
    else:
        assert status == 404
        assert body.decode().splitlines()[1:] == list(PAGES)


# -- HTTP --------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", [*PAGES, "/nothing"])
def test_a_head_is_what_get_would_say_without_the_body(path):
    talk = Talk()
    status, body = talk.ask(path)
    length = talk.headers[b"content-length"]
    assert talk.ask(path, method="HEAD") == (status, b"")
    assert abs(int(talk.headers[b"content-length"]) - int(length)) <= 20  # numbers grow
    assert len(body) == int(length)
    assert talk.ask("/healthz") == (200, b"ok\n")


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "PATCH"])
def test_nothing_can_be_done_here(method):
    talk = Talk()
    assert talk.ask("/metrics", ("Content-Length", "0"), method=method) == (405, b"")
    assert talk.headers[b"allow"] == b"GET, HEAD"
    assert talk.ask("/healthz") == (200, b"ok\n")


def test_a_client_of_the_first_version_is_answered_and_left():
    answer = hear(conversation := PageConversation(pages()), b"GET /healthz HTTP/1.0\r\n\r\n")
    assert answer.endswith(b"\r\n\r\nok\n")
    assert conversation.closing


def test_a_page_is_made_part_by_part():
    conversation = PageConversation(pages())
    assert conversation.receive(b"GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n") == b""
    steps = 0
    while conversation.asked:
        assert conversation.waiting
        answer = conversation.go_on()
        steps += 1
        assert bool(answer) != conversation.asked
    assert steps >= 3
    assert answer.startswith(b"HTTP/1.1 200 OK\r\n")


HUGE = b"GET /healthz HTTP/1.1\r\nHost: a\r\n" + b"X: y\r\n" * REQUEST_MAX_BYTES


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"version\r\n\r\n", b"400"),
        (b"set k 0 0 1\r\nx\r\n\r\n", b"400"),
        (b"\x80" * 24 + b"\r\n\r\n", b"400"),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(200) + b"\n\n", b"400"),
        (b"GET /healthz HTTP/1.1\r\n\r\n", b"400"),  # no Host
        (b"GET /" + b"x" * REQUEST_MAX_BYTES, b"431"),
        (HUGE, b"431"),
        (b"PRI * HTTP/2.0\r\nHost: a\r\n\r\nSM\r\n\r\n", b"405"),
        (b"GET /healthz HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n", b"400"),
        (b"GET /healthz HTTP/1.1\r\nHost: a\r\nA: b\r\n c: d\r\n\x00: e\r\n\r\n", b"400"),
    ],
)
def test_strangers_are_told_and_left(data, status):
    conversation = PageConversation(pages())
    pieces = [data[:REQUEST_MAX_BYTES], data[REQUEST_MAX_BYTES:]]
    answer = b"".join(hear(conversation, piece) for piece in pieces if piece)
    assert answer.split()[1] == status
    assert conversation.closing
    assert hear(conversation, data) == b""


def test_a_body_is_passed_over_however_large():
    conversation = PageConversation(pages())
    head = b"GET /healthz HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\n"
    assert hear(conversation, head).endswith(b"ok\n")
    for _ in range(100):
        assert hear(conversation, bytes(1000)) == b""
    assert hear(conversation, b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n").endswith(b"ok\n")


def test_a_body_of_many_small_pieces_is_passed_over_in_many_steps():
    conversation = PageConversation(pages())
    head = b"POST /healthz HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
    assert hear(conversation, head).startswith(b"HTTP/1.1 405 ")
    assert conversation.receive(b"1\r\nx\r\n" * 600) == b""
    steps = 1
    while conversation.more:
        assert conversation.go_on() == b""
        steps += 1
    assert steps >= 10
    assert hear(conversation, b"0\r\n\r\nGET /healthz HTTP/1.1\r\nHost: a\r\n\r\n").endswith(
        b"ok\n"
    )


PIPELINE = b"".join(
    b"%b %b HTTP/1.1\r\nHost: a\r\n\r\n" % (method, path)
    for method, path in (
        (b"GET", b"/healthz"),
        (b"HEAD", b"/readyz"),
        (b"GET", b"/nowhere"),
        (b"POST", b"/readyz"),
        (b"GET", b"/replication"),
    )
)


@given(st.lists(st.integers(0, len(PIPELINE))))
def test_any_split_gives_the_same_answers(cuts):
    whole = hear(PageConversation(pages()), PIPELINE)
    assert whole.count(b"HTTP/1.1 ") == 5
    conversation = PageConversation(pages())
    edges = [0, *sorted(cuts), len(PIPELINE)]
    pieces = [PIPELINE[a:b] for a, b in pairwise(edges) if a < b]
    assert b"".join(hear(conversation, piece) for piece in pieces) == whole


@given(st.lists(st.binary(min_size=1, max_size=300), max_size=8))
def test_no_bytes_raise_anything(pieces):
    conversation = PageConversation(pages())
    for piece in pieces:
        hear(conversation, piece)


@given(st.binary(max_size=300), st.integers(0, len(PIPELINE)))
def test_nor_do_they_behind_what_is_right(garbage, cut):
    conversation = PageConversation(pages())
    hear(conversation, PIPELINE[:cut])
    hear(conversation, garbage)
    hear(conversation, b"")
    assert conversation.closing
