"""`pymcd replication`: what a person reads, what a script reads, and which servers do not tell."""

from __future__ import annotations

import json
import socket
import threading
import time
from typing import TYPE_CHECKING

import pytest

from pymcd import cli
from pymcd.tools import replication as tool
from pymcd.tools.replication import Answer, as_data, as_text, exit_code

if TYPE_CHECKING:
    from collections.abc import Callable

NOW = 1_800_000_000.0  # 2027-01-15, 08:00 in Greenwich

SEES_SECOND = {
    "node_id": "cache-2",
    "address": "10.0.0.6:11212",
    "link": "up",
    "in_sync": "yes",
    "state": "in_sync",
    "lag_items": "0",
    "lag_ms": "0",
    "last_heard_ms": "3",
    "last_error": "-",
}
SEES_FIRST = {**SEES_SECOND, "node_id": "cache-1", "address": "10.0.0.5:11212"}
LOST = {
    "link": "down",
    "in_sync": "no",
    "state": "down",
    "lag_items": "1300",
    "last_heard_ms": "192500",
    "last_error": "the_link_is_down",
}


@pytest.fixture(autouse=True)
def greenwich(monkeypatch):
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


def rows(*peers: dict[str, str], **others: str) -> dict[str, str]:
    """Return rows of `stats replication`: of the first node of a pair in sync, if not said."""
    found = {
        "state": "in_sync",
        "role": "coordinator",
        "node_id": "cache-1",
        "epoch": "3",
        "coordinator": "cache-1",
        "ack_mode": "semi",
        "degraded": "no",
        "degraded_now_seconds": "0",
        "unprotected_now": "0",
        "last_refusal": "-",
        **others,
    }
    for number, peer in enumerate(peers):
        found |= {f"peer_{number}:{name}": value for name, value in peer.items()}
    return found


ALONE = {
    "state": "alone",
    "role": "alone",
    "degraded": "yes",
    "degraded_now_seconds": "192.5",
    "unprotected_now": "1234",
}
FIRST = Answer("10.0.0.5:11211", rows(SEES_SECOND))
SECOND = Answer("10.0.0.6:11211", rows(SEES_FIRST, node_id="cache-2", role="follower"))
FIRST_ALONE = Answer("10.0.0.5:11211", rows({**SEES_SECOND, **LOST}, **ALONE))
SECOND_DEAD = Answer("10.0.0.6:11211", {}, "connection refused")

REPORTS: list[tuple[str, list[Answer], int, str]] = [
    (
        "in sync",
        [FIRST, SECOND],
        0,
        """\
NODE     ADDRESS         STATE    ROLE         BEHIND
cache-1  10.0.0.5:11211  in sync  coordinates  nothing
cache-2  10.0.0.6:11211  in sync  follows      nothing

In sync. Writes are answered when the other nodes have them.

If either node died now, you would lose nothing that was acknowledged.""",
    ),
    (
        "one of two is asked",
        [SECOND],
        0,
        """\
NODE     ADDRESS         STATE    ROLE         BEHIND
cache-2  10.0.0.6:11211  in sync  follows      -
cache-1  (10.0.0.5)      in sync  coordinates  nothing

In sync. Writes are answered when the other nodes have them.

If cache-2 died now, you would lose nothing that was acknowledged.""",
    ),
    (
        "one died",
        [FIRST_ALONE, SECOND_DEAD],
        1,
        """\
NODE     ADDRESS         STATE                 ROLE         BEHIND
cache-1  10.0.0.5:11211  alone for 3 min 12 s  coordinates  -
?        10.0.0.6:11211  no answer             -            -

Not in sync:
  10.0.0.6:11211 does not answer (connection refused): it is not running, or has not got its
    items from its peer yet.
  cache-1 has no link to cache-2, last heard 3 min 12 s ago.

If cache-1 died now, you would lose 1,234 writes that it acknowledged alone since 07:56, and all
  other items unless cache-2 still has them.""",
    ),
    (
        "frozen",
        [
            Answer(
                "10.0.0.5:11211",
                rows({**SEES_SECOND, **LOST, "link": "up", "state": "idle"}, **ALONE),
            ),
        ],
        1,
        """\
NODE     ADDRESS         STATE                 ROLE         BEHIND
cache-1  10.0.0.5:11211  alone for 3 min 12 s  coordinates  -
cache-2  (10.0.0.6)      not in sync           -            -

Not in sync:
  cache-1 gets no answer from cache-2, last heard 3 min 12 s ago.

If cache-1 died now, you would lose 1,234 writes that it acknowledged alone since 07:56, and all
  other items unless cache-2 still has them.""",
    ),
    (
        "separated",
        [
            FIRST_ALONE,
            Answer(
                "10.0.0.6:11211",
                rows(
                    {**SEES_FIRST, **LOST, "last_heard_ms": "100000000"},
                    **{**ALONE, "degraded_now_seconds": "100000", "unprotected_now": "1"},
                    node_id="cache-2",
                ),
            ),
        ],
        1,
        """\
NODE     ADDRESS         STATE                 ROLE         BEHIND
cache-1  10.0.0.5:11211  alone for 3 min 12 s  coordinates  -
cache-2  10.0.0.6:11211  alone for 1 d 3 h     coordinates  -

Not in sync:
  cache-1 and cache-2 do not see each other, and each serves alone. Of what is written on both,
    the later write will stay.
  cache-1 has no link to cache-2, last heard 3 min 12 s ago.
  cache-2 has no link to cache-1, last heard 1 d 3 h ago.

If cache-1 died now, you would lose 1,234 writes that it acknowledged alone since 07:56.
If cache-2 died now, you would lose 1 write that it acknowledged alone since 2027-01-14 04:13.""",
    ),
    (
        "the peer is being filled",
        [
            Answer(
                "10.0.0.5:11211",
                rows(
                    {**SEES_SECOND, "in_sync": "no", "state": "sending_full"},
                    **{**ALONE, "unprotected_now": "0", "degraded_now_seconds": "0.5"},
                ),
            ),
        ],
        1,
        """\
NODE     ADDRESS         STATE             ROLE         BEHIND
cache-1  10.0.0.5:11211  alone for 500 ms  coordinates  -
cache-2  (10.0.0.6)      not in sync       -            -

Not in sync:
  cache-1 is sending all items to cache-2.

If cache-1 died now, you would lose all items unless cache-2 still has them.""",
    ),
    (
        "catching up",
        [
            Answer(
                "10.0.0.5:11211",
                rows({**SEES_SECOND, "in_sync": "no"}, **{**ALONE, "unprotected_now": "0"}),
            ),
            Answer(
                "10.0.0.6:11211",
                rows(
                    {**SEES_FIRST, "in_sync": "no"}, node_id="cache-2", role="none", state="joining"
                ),
            ),
        ],
        1,
        """\
NODE     ADDRESS         STATE                 ROLE         BEHIND
cache-1  10.0.0.5:11211  alone for 3 min 12 s  coordinates  -
cache-2  10.0.0.6:11211  catching up           -            -

Not in sync:
  cache-1 is linked with cache-2, which is catching up.

If either node died now, you would lose nothing that was acknowledged.""",
    ),
    (
        "secrets differ",
        [Answer("10.0.0.5:11211", rows(**ALONE, ack_mode="strict", last_refusal="secret"))],
        1,
        """\
NODE     ADDRESS         STATE                 ROLE         BEHIND
cache-1  10.0.0.5:11211  alone for 3 min 12 s  coordinates  -

Not in sync:
  cache-1 refuses writes until another node is in sync (strict).
  At cache-1 a link was refused: the secrets differ: give both nodes the same
    --replication-secret-file.

If cache-1 died now, you would lose all items.""",
    ),
    (
        "async",
        [
            Answer(
                "10.0.0.5:11211",
                rows({**SEES_SECOND, "lag_items": "37", "lag_ms": "4.2"}, ack_mode="async"),
            ),
            SECOND,
        ],
        0,
        """\
NODE     ADDRESS         STATE    ROLE         BEHIND
cache-1  10.0.0.5:11211  in sync  coordinates  nothing
cache-2  10.0.0.6:11211  in sync  follows      37 changes, 4 ms

In sync. Writes are answered at once, and reach the others a moment later.

If cache-1 died now, you would lose what it acknowledged in the last moments, now 37 writes.
If cache-2 died now, you would lose nothing that was acknowledged.""",
    ),
    (
        "no peers",
        [Answer("10.0.0.9:11211", {"state": "off"})],
        1,
        """\
NODE            ADDRESS         STATE           ROLE  BEHIND
10.0.0.9:11211  10.0.0.9:11211  not replicated  -     -

Not in sync:
  10.0.0.9:11211 does not replicate: it was started without --peer.""",
    ),
    (
        "nobody answers",
        [Answer("10.0.0.5:11211", {}, "no answer within 3 s")],
        2,
        """\
NODE  ADDRESS         STATE      ROLE  BEHIND
?     10.0.0.5:11211  no answer  -     -

Not in sync:
  10.0.0.5:11211 does not answer (no answer within 3 s).""",
    ),
]


@pytest.mark.parametrize(
    ("name", "answers", "code", "text"), REPORTS, ids=[report[0] for report in REPORTS]
)
def test_what_a_person_reads(name, answers, code, text):
    assert as_text(answers, NOW) == text
    assert exit_code(answers) == code


def test_what_a_program_reads():
    data = as_data([FIRST_ALONE, SECOND_DEAD], NOW)
    assert json.loads(json.dumps(data)) == data
    assert (data["in_sync"], data["coordinators"]) == (False, ["cache-1"])
    assert len(data["problems"]) == 2
    first, second = data["nodes"]
    assert (first["would_lose_writes"], first["would_lose_since"]) == (1234, NOW - 192.5)
    assert first["stats"]["peer_0:last_error"] == "the_link_is_down"
    assert second == {
        "address": "10.0.0.6:11211",
        "error": "connection refused",
        "node_id": None,
        "state": None,
        "role": None,
        "would_lose_writes": None,
        "would_lose_since": None,
        "stats": {},
    }
    assert as_data([FIRST, SECOND], NOW)["in_sync"] is True


def test_servers_of_two_groups():
    other = Answer("10.0.0.9:11211", rows(SEES_SECOND, node_id="x", coordinator="x"))
    assert "These servers belong to different groups." in as_text([FIRST, other], NOW)
    assert exit_code([FIRST, other]) == 1


def test_three_nodes_of_which_one_is_gone():
    lost = {**SEES_SECOND, **LOST, "node_id": "cache-3"}
    first = Answer("10.0.0.5:11211", rows(SEES_SECOND, lost, degraded="yes"))
    second = Answer("10.0.0.6:11211", rows(SEES_FIRST, lost, node_id="cache-2", role="follower"))
    text = as_text([first, second], NOW)
    assert "\n  cache-1 has no link to cache-3, last heard 3 min 12 s ago.\n\n" in text
    assert "If either node died now, you would lose nothing that was acknowledged." in text
    assert exit_code([first, second]) == 1


def test_a_follower_does_not_know_whether_another_one_is_in_sync():
    third = {**SEES_SECOND, "node_id": "cache-3", "address": "10.0.0.7:11212", "in_sync": "no"}
    second = Answer("10.0.0.6:11211", rows(SEES_FIRST, third, node_id="cache-2", role="follower"))
    assert as_text([second], NOW).splitlines()[:5] == [
        "NODE     ADDRESS         STATE    ROLE         BEHIND",
        "cache-2  10.0.0.6:11211  in sync  follows      -",
        "cache-1  (10.0.0.5)      in sync  coordinates  nothing",
        "cache-3  (10.0.0.7)      linked   -            -",
        "",
    ]
    assert exit_code([second]) == 0


# -- asking ------------------------------------------------------------------------------------


@pytest.fixture
def server():
    """Return what starts a server that says the same to everybody, and gives its address."""
    listeners: list[socket.socket] = []
    threads: list[threading.Thread] = []

    def start(reply: bytes) -> str:
        listener = socket.create_server(("127.0.0.1", 0))
        listeners.append(listener)

        def serve() -> None:
            client, _ = listener.accept()
            with client:
                assert client.recv(100) == b"stats replication\r\n"
                client.sendall(reply)

        threads.append(threading.Thread(target=serve))
        threads[-1].start()
        return f"127.0.0.1:{listener.getsockname()[1]}"

    yield start
    for thread in threads:
        thread.join()
    for listener in listeners:
        listener.close()


def encoded(found: dict[str, str]) -> bytes:
    return (
        "".join(f"STAT {name} {value}\r\n" for name, value in found.items()).encode() + b"END\r\n"
    )


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
    return port


def test_a_pair_is_asked(server: Callable[[bytes], str], capsys):
    first, second = server(encoded(FIRST.rows)), server(encoded(SECOND.rows))
    assert cli.main(["replication", first, second, first]) == 0
    out, err = capsys.readouterr()
    assert (out.count("in sync"), err) == (2, "")
    assert f"cache-2  {second}" in out


def test_json(server: Callable[[bytes], str], capsys):
    assert cli.main(["replication", "--json", server(encoded(FIRST.rows))]) == 0
    assert json.loads(capsys.readouterr().out)["nodes"][0]["stats"] == FIRST.rows


@pytest.mark.parametrize(
    ("reply", "error"),
    [
        (b"ERROR\r\n", "is no pymcd: it does not know `stats replication`"),
        (b"CLIENT_ERROR unauthenticated\r\n", "wants a login"),
        (b"", "closed the connection: does it want TLS, or a login?"),
        (b"STAT state in_s", "broke off in the middle of its answer"),
        (b"\x15\x03\x03\0\x02\x02\x46", "wants TLS"),
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", "is no pymcd: it does not know `stats replication`"),
    ],
)
def test_a_server_that_does_not_tell(reply, error, server, capsys):
    address = server(reply)
    assert cli.main(["replication", "--json", address]) == 2
    assert json.loads(capsys.readouterr().out)["nodes"][0]["error"] == error


def test_nobody_is_there(capsys):
    assert cli.main(["replication", f"127.0.0.1:{free_port()}"]) == 2
    assert "does not answer (connection refused)" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "error"),
    [
        ([], tool.USAGE),
        (["--bogus"], f"pymcd replication: no address: --bogus\n{tool.USAGE}"),
        ([""], f"pymcd replication: no address: an empty word\n{tool.USAGE}"),
        (["a:x"], "pymcd replication: no port number: x"),
        (["a:0"], "pymcd replication: no port number: 0"),
    ],
)
def test_wrong_words(words, error, capsys):
    assert cli.main(["replication", *words]) == 64
    assert capsys.readouterr() == ("", error + "\n")


def test_help(capsys):
    assert cli.main(["replication", "--help"]) == 0
    assert capsys.readouterr().out.startswith(tool.USAGE)


def test_addresses():
    words = ["a", "a:5", "::1", "[::1]", "[::1]:5"]
    got = [tool.parse_address(word) for word in words]
    assert got == [("a", 11211), ("a", 5), ("::1", 11211), ("::1", 11211), ("::1", 5)]


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0, "0 ms"), (0.5, "500 ms"), (1, "1 s"), (59, "59 s"), (60, "1 min"), (3660, "1 h 1 min"),
     (86400 * 2, "2 d"), (90000, "1 d 1 h")],
)  # fmt: skip
def test_durations(seconds, words):
    assert tool._duration(seconds) == words
