"""What -vv shows of conversations, against what memcached 1.6.45 wrote for the same bytes."""

from __future__ import annotations

import pytest

from pymcd.protocol.trace import reply_lines

from ..hosts import lend
from .helpers import Client

CONVERSATION = (
    b"get a b\r\nset a 0 0 1\r\nx\r\nget a\r\ngets a a\r\nbogus\r\nverbosity\r\n"
    b"set b 0 0 1 noreply\r\nx\r\nincr a 1\r\nversion\r\ndelete a\r\n"
    b"stats slabs\r\nmn\r\nmg a v\r\nms a 1\r\nx\r\nmg a v k\r\nmd a\r\nmg\r\n"
)
LOG = """\
23: Client using the ascii protocol
<23 get a b
>23 END
<23 set a 0 0 1
>23 STORED
<23 get a
>23 sending key a
>23 END
<23 gets a a
>23 sending key a
>23 sending key a
>23 END
<23 bogus
>23 ERROR
<23 verbosity
>23 CLIENT_ERROR bad command line format
<23 set b 0 0 1 noreply
<23 incr a 1
<23 version
>23 VERSION 1.6.45
<23 delete a
<23 stats slabs
<23 mn
>23 MN
<23 mg a v
<23 ms a 1
<23 mg a v k
<23 md a
<23 mg
>23 CLIENT_ERROR bad command line format
"""


def traced(data: bytes, step: int, reqs_per_event: int = 20) -> tuple[bytes, str, int]:
    """Return reply, log and yields of a conversation sent in steps."""
    client = Client(verbose=2, reqs_per_event=reqs_per_event)
    lines: list[str] = []
    lend(client.service, log_line=lines.append)
    reply = client.send(data, step=step)
    log = "".join(f"{line}\n" for line in lines)
    yields = client.service.counters.conn_yields
    return reply, log.replace(str(client.connection.id), "23"), yields


def test_each_reply_stands_behind_its_command() -> None:
    untraced = Client().send(CONVERSATION)
    for step in (len(CONVERSATION), 1, 7):
        reply, log, _ = traced(CONVERSATION, step)
        assert reply == untraced
        assert log == LOG


def test_the_answer_to_more_verbosity_is_logged_already() -> None:
    client = Client()
    lines: list[str] = []
    lend(client.service, log_line=lines.append)
    words = [b"get a", b"verbosity 1", b"verbosity 2", b"get b", b"verbosity 2", b"verbosity 0"]
    for word in [*words, b"get c", b"verbosity 2 noreply", b"get d"]:
        client.send(word + b"\r\n")
    assert [line.replace(str(client.connection.id), "23") for line in lines] == [
        ">23 OK",
        *("<23 get b", ">23 END"),
        *("<23 verbosity 2", ">23 OK"),
        "<23 verbosity 0",
        *("<23 get d", ">23 END"),
    ]


def test_yields_are_counted_as_without() -> None:
    pipeline = b"version\r\n" * 10
    client = Client(reqs_per_event=4)
    untraced = client.send(pipeline)
    reply, log, yields = traced(pipeline, len(pipeline), reqs_per_event=4)
    assert reply == untraced
    assert yields == client.service.counters.conn_yields
    assert log.count("<23 version") == 10


def test_a_value_is_never_shown() -> None:
    _, log, _ = traced(b"set a 0 0 8\r\nSECRET\r\n\r\nget a\r\nmg a v\r\n", 1000)
    assert "SECRET" not in log


@pytest.mark.parametrize(
    ("words", "reply", "told"),
    [
        (b"set k 0 0 1", b"STORED", True),
        (b"cas k 0 0 1 1", b"NOT_FOUND", True),
        (b"set k 0 0 1", b"CLIENT_ERROR bad data chunk", True),
        (b"set k 0 0 x", b"CLIENT_ERROR bad command line format", True),
        (b"set k 0 0", b"CLIENT_ERROR bad command line format", True),
        (b"set k x 0 1", b"CLIENT_ERROR bad command line format", False),
        (b"set " + b"k" * 251 + b" 0 0 1", b"CLIENT_ERROR bad command line format", False),
        (b"set k 0 0 2000000", b"SERVER_ERROR object too large for cache", False),
        (b"delete k", b"DELETED", False),
        (b"delete", b"CLIENT_ERROR bad command line format", True),
        (b"delete " + b"k" * 251, b"CLIENT_ERROR bad command line format", False),
        (b"touch k x", b"CLIENT_ERROR invalid exptime argument", False),
        (b"incr none 1", b"NOT_FOUND", False),
        (b"mg k v v", b"CLIENT_ERROR duplicate flag", False),
        (b"ms k 1", b"CLIENT_ERROR bad data chunk", True),
        (b"ms k 1", b"HD", False),
        (b"mn", b"MN", True),
        (b"me k", b"EN", True),
        (b"me k", b"ME k exp=-1 la=0 cas=2 fetch=no cls=1 size=64", False),
        (b"get k", b"END", True),
        (b"stats extstore", b"END", False),
        (b"stats bogus", b"ERROR", True),
        (b"get " + b"k" * 251, b"CLIENT_ERROR bad command line format", True),
        (b"watch fetchers", b"OK", False),
        (b"lru_crawler metadump all", b"OK", False),
        (b"lru_crawler enable", b"OK", True),
        (b"watch bogus", b"ERROR", True),
        (b"refresh_certs", b"Error TLS not enabled", False),
        (b"verbosity 2", b"OK", True),
    ],
)
def test_what_is_logged_of_a_reply(words: bytes, reply: bytes, told: bool) -> None:
    assert reply_lines(reply + b"\r\n", words.split()) == [reply] * told
    # A key that is too long is answered with an empty line more.
    assert reply_lines(reply + b"\r\n\r\n", words.split()) == [reply] * told


def test_a_run_ends_with_a_long_command_as_without():
    client = Client()
    client.send(b"verbosity 2\r\n")
    connection = client.connection
    connection.receive_data(b"stats\r\n" * 3 + b"mn\r\n")
    assert [connection.run() for _ in range(4)] == [True, True, True, False]
    assert client.service.counters.conn_yields == 0
