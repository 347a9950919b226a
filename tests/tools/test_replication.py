"""`pymcd replication`: what a person reads, and what a program does."""

from __future__ import annotations

import io
import json
import pty
import re
import socket
import sys
import termios
import time
from pathlib import Path

import pytest

import pymcd
from pymcd import cli
from pymcd.protocol import Executor
from pymcd.replication.node import Node
from pymcd.replication.peer import Peer
from pymcd.tools import replication as tool
from pymcd.tools.asking import Access
from pymcd.tools.replication import (
    Answer,
    as_data,
    as_text,
    exit_code,
    obstacles,
    problems,
    wait_for,
)
from tests.protocol.helpers import Client, make_service

from ..hosts import make_node_host
from .serving import SmallServer

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
    "pymcd_version": "0.1.0",
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
        "pymcd_version": "0.1.0",
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
NODE     ADDRESS         STATE    ROLE         BEHIND   VERSION
cache-1  10.0.0.5:11211  in sync  coordinates  nothing  0.1.0
cache-2  10.0.0.6:11211  in sync  follows      nothing  0.1.0

In sync. Writes are answered when the other nodes have them.

If either node died now, you would lose nothing that was acknowledged.""",
    ),
    (
        "one of two is asked",
        [SECOND],
        0,
        """\
NODE     ADDRESS         STATE    ROLE         BEHIND   VERSION
cache-2  10.0.0.6:11211  in sync  follows      -        0.1.0
cache-1  (10.0.0.5)      in sync  coordinates  nothing  0.1.0

In sync. Writes are answered when the other nodes have them.

If cache-2 died now, you would lose nothing that was acknowledged.""",
    ),
    (
        "one died",
        [FIRST_ALONE, SECOND_DEAD],
        1,
        """\
NODE     ADDRESS         STATE                 ROLE         BEHIND  VERSION
cache-1  10.0.0.5:11211  alone for 3 min 12 s  coordinates  -       0.1.0
?        10.0.0.6:11211  no answer             -            -       -

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
NODE     ADDRESS         STATE                 ROLE         BEHIND  VERSION
cache-1  10.0.0.5:11211  alone for 3 min 12 s  coordinates  -       0.1.0
cache-2  (10.0.0.6)      not in sync           -            -       0.1.0

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
NODE     ADDRESS         STATE                 ROLE         BEHIND  VERSION
cache-1  10.0.0.5:11211  alone for 3 min 12 s  coordinates  -       0.1.0
cache-2  10.0.0.6:11211  alone for 1 d 3 h     coordinates  -       0.1.0

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
NODE     ADDRESS         STATE             ROLE         BEHIND  VERSION
cache-1  10.0.0.5:11211  alone for 500 ms  coordinates  -       0.1.0
cache-2  (10.0.0.6)      not in sync       -            -       0.1.0

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
NODE     ADDRESS         STATE                 ROLE         BEHIND  VERSION
cache-1  10.0.0.5:11211  alone for 3 min 12 s  coordinates  -       0.1.0
cache-2  10.0.0.6:11211  catching up           -            -       0.1.0

Not in sync:
  cache-1 is linked with cache-2, which is catching up.

If either node died now, you would lose nothing that was acknowledged.""",
    ),
    (
        "secrets differ",
        [Answer("10.0.0.5:11211", rows(**ALONE, ack_mode="strict", last_refusal="secret"))],
        1,
        """\
NODE     ADDRESS         STATE                 ROLE         BEHIND  VERSION
cache-1  10.0.0.5:11211  alone for 3 min 12 s  coordinates  -       0.1.0

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
NODE     ADDRESS         STATE    ROLE         BEHIND            VERSION
cache-1  10.0.0.5:11211  in sync  coordinates  nothing           0.1.0
cache-2  10.0.0.6:11211  in sync  follows      37 changes, 4 ms  0.1.0

In sync. Writes are answered at once, and reach the others a moment later.

If cache-1 died now, you would lose what it acknowledged in the last moments, now 37 writes.
If cache-2 died now, you would lose nothing that was acknowledged.""",
    ),
    (
        "no peers",
        [Answer("10.0.0.9:11211", {"state": "off"})],
        1,
        """\
NODE            ADDRESS         STATE           ROLE  BEHIND  VERSION
10.0.0.9:11211  10.0.0.9:11211  not replicated  -     -       -

Not in sync:
  10.0.0.9:11211 does not replicate: it was started without --peer.""",
    ),
    (
        "nobody answers",
        [Answer("10.0.0.5:11211", {}, "no answer within 3 s")],
        2,
        """\
NODE  ADDRESS         STATE      ROLE  BEHIND  VERSION
?     10.0.0.5:11211  no answer  -     -       -

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
        "pymcd_version": None,
        "may_stop": False,
        "would_lose_writes": None,
        "would_lose_since": None,
        "stats": {},
    }
    assert as_data([FIRST, SECOND], NOW)["in_sync"] is True


def test_servers_of_two_groups():
    other = Answer("10.0.0.9:11211", rows(SEES_SECOND, node_id="x", coordinator="x"))
    assert "These servers belong to different groups." in as_text([FIRST, other], NOW)
    assert exit_code([FIRST, other]) == 1


@pytest.mark.parametrize(
    ("answers", "words"),
    [
        (
            [
                Answer("10.0.0.5:11211", rows(SEES_SECOND, evictions="0")),
                Answer(
                    "10.0.0.6:11211",
                    rows(SEES_FIRST, node_id="cache-2", role="follower", evictions="1234"),
                ),
            ],
            "If cache-1 died now, you would lose nothing that was acknowledged, but up to 1,234"
            " items that cache-2 has evicted.",
        ),
        (
            [
                Answer(
                    "10.0.0.5:11211", rows({**SEES_SECOND, "memory_limit": "64"}, memory_limit="0")
                )
            ],
            "If cache-1 died now, you would lose nothing that was acknowledged, but what cache-2,"
            " whose -m is smaller, may have evicted.",
        ),
    ],
)
def test_what_a_node_has_evicted_is_lost_with_the_other(answers, words):
    assert exit_code(answers) == 0
    assert words in " ".join(as_text(answers, NOW).split())


def test_how_far_a_copy_is():
    peer = {
        **SEES_SECOND, "in_sync": "no", "state": "sending_full", "copied_items": "15200",
        "copied_of": "120000", "copies_broken": "2",
    }  # fmt: skip
    (answer,) = [Answer("10.0.0.5:11211", rows(peer, **ALONE))]
    text = " ".join(as_text([answer], NOW).split())
    assert (
        "cache-1 is sending all items to cache-2: 15,200 of 120,000, after 2 copies that broke off."
    ) in text


def test_a_link_that_is_too_slow_is_named():
    peer = {**SEES_SECOND, "in_sync": "no", "state": "idle", "answer_ms": "71.2"}
    peer |= {"last_heard_ms": "3000"}
    (answer,) = [Answer("10.0.0.5:11211", rows(peer, ack_timeout_ms="80", **ALONE))]
    text = " ".join(as_text([answer], NOW).split())
    assert "answers took 71 ms, and --replication-ack-timeout is 80 ms" in text


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
        "NODE     ADDRESS         STATE    ROLE         BEHIND   VERSION",
        "cache-2  10.0.0.6:11211  in sync  follows      -        0.1.0",
        "cache-1  (10.0.0.5)      in sync  coordinates  nothing  0.1.0",
        "cache-3  (10.0.0.7)      linked   -            -        0.1.0",
        "",
    ]
    assert exit_code([second]) == 0


def test_nodes_of_different_releases():
    newer = Answer("10.0.0.5:11211", rows(SEES_SECOND, pymcd_version="0.2.0"))
    versions = [line.split()[-1] for line in as_text([newer], NOW).splitlines()[:3]]
    assert versions == ["VERSION", "0.2.0", "0.1.0"]
    assert as_data([newer], NOW)["nodes"][0]["pymcd_version"] == "0.2.0"


# Rows of both nodes, what is said of that, and whether it matters to who only wants to know.
NOT_YET: list[tuple[dict[str, str], str, bool]] = [
    ({"draining": "yes"}, "cache-1 is about to stop.", True),
    ({"ready": "no"}, "cache-1 is in sync, but does not let clients in yet.", True),
    (
        {"witness": "w", "witness_link": "up", "voters": "cache-1,cache-2,w", "may_fail": "w"},
        "The others would not have the votes without cache-1 and cache-2.",
        False,
    ),
]


@pytest.mark.parametrize(("found", "said", "matters"), NOT_YET)
def test_when_no_node_should_be_stopped(found, said, matters):
    answers = [Answer("10.0.0.5:11211", rows(SEES_SECOND, **found)), SECOND]
    assert said in obstacles(answers)
    assert (said in problems(answers)) == matters
    assert exit_code(answers) == matters
    assert exit_code(answers, to_stop=True) == 1
    assert [node["may_stop"] for node in as_data(answers, NOW)["nodes"]] == [False, False]


def test_when_any_node_may_be_stopped():
    votes = {"voters": "cache-1,cache-2,w", "may_fail": "cache-1,cache-2,w"}
    for found in ({}, {"ready": "yes", "draining": "no"}, votes):
        answers = [Answer("10.0.0.5:11211", rows(SEES_SECOND, **found)), SECOND]
        assert obstacles(answers) == []
        assert exit_code(answers, to_stop=True) == 0
        assert [node["may_stop"] for node in as_data(answers, NOW)["nodes"]] == [True, True]


class Time:
    """Passes when somebody sleeps."""

    def __init__(self) -> None:
        self.now = 100.0

    def sleep(self, seconds: float) -> None:
        self.now += seconds


@pytest.mark.parametrize(
    ("found", "shown", "waited_s"),
    [
        ([[FIRST, SECOND]], [""], 0.0),
        (
            [[FIRST_ALONE, SECOND_DEAD], [FIRST_ALONE, SECOND_DEAD], [FIRST, SECOND]],
            [
                *["waiting: 10.0.0.6:11211 does not answer (connection refused): it is not running,"
                  " or has not got its items from its peer yet."] * 2,
                "",
            ],
            2 * tool.WAIT_STEP_S,
        ),
    ],
)  # fmt: skip
def test_it_is_asked_until_all_are_in_sync(found, shown, waited_s):
    clock, left = Time(), list(found)
    said: list[str] = []
    got = wait_for(
        lambda: left.pop(0), 60.0, show=said.append, now=lambda: clock.now, sleep=clock.sleep
    )
    assert (got, left, said) == ([FIRST, SECOND], [], shown)
    assert clock.now - 100.0 == waited_s


def test_it_is_asked_until_the_time_is_up():
    clock, asked_at = Time(), []

    def ask() -> list[Answer]:
        asked_at.append(clock.now)
        return [FIRST_ALONE]

    got = wait_for(ask, 1.1, show=lambda words: None, now=lambda: clock.now, sleep=clock.sleep)
    assert got == [FIRST_ALONE]
    assert asked_at == pytest.approx([100.0, 100.25, 100.5, 100.75, 101.0, 101.1])


def test_a_report_is_as_wide_as_the_terminal(monkeypatch):
    leader, terminal = pty.openpty()
    termios.tcsetwinsize(terminal, (24, 60))
    with open(leader, "rb") as screen, open(terminal, "w") as stdout:
        monkeypatch.setattr(sys, "stdout", stdout)
        assert cli.main(["replication", f"127.0.0.1:{free_port()}"]) == 2
        lines = [screen.readline().decode().rstrip() for _ in range(6)]
    assert lines[3] == "Not in sync:"
    assert [len(line) <= 60 for line in lines[4:]] == [True, True]


@pytest.mark.parametrize(("columns", "shown"), [(20, 19), (0, 79), (200, 95)])
def test_what_is_waited_for_is_shown_in_one_line(columns, shown, monkeypatch):
    leader, terminal = pty.openpty()
    termios.tcsetwinsize(terminal, (24, columns))
    with open(leader, "rb", buffering=0) as screen, open(terminal, "w") as stderr:
        monkeypatch.setattr(sys, "stderr", stderr)
        tool._show_in_place("w" * 100)
        assert screen.read(4096) == b"\r\x1b[K" + b"w" * shown


@pytest.fixture
def real_rows() -> dict[str, str]:
    """Return what a real node says that has met another one."""
    service = make_service(peers=("localhost:1",))
    node = Node(
        service.cache,
        service.settings,
        service.clock,
        make_node_host(),
        node_id="cache-1",
        secret=b"s",
        entropy=bytes,
        execute=Executor(service),
    )
    node.view.peers["cache-2"] = peer = Peer("cache-2")
    peer.lease.heard_at = service.clock.monotonic()
    client = Client(service)  # what it asks is local, so it need not be one of a pair's
    service.gate = node.gate
    report = client.send(b"stats replication\r\n").decode().split("\r\n")
    return dict(line.split(" ")[1:] for line in report[:-2])


def test_the_rows_read_are_those_that_a_node_writes(real_rows):
    invented = FIRST.rows.keys() | FIRST_ALONE.rows.keys()
    assert invented <= real_rows.keys()
    assert real_rows["node_id"] == "cache-1"
    assert "starting" in as_text([Answer("10.0.0.5:11211", real_rows)], NOW)


def test_the_documentation_names_every_row(real_rows):
    text = (Path(pymcd.__file__).parent.parent / "docs" / "operate.md").read_text()
    table = text[text.index("| row | meaning |") :]
    table = table[: table.index("\n\n")]
    documented = set(re.findall(r"`([a-z_]+)`", table.replace("peer_0:", "")))
    assert {name.replace("peer_0:", "") for name in real_rows} <= documented


# -- asking ------------------------------------------------------------------------------------


def encoded(found: dict[str, str]) -> bytes:
    return (
        "".join(f"STAT {name} {value}\r\n" for name, value in found.items()).encode() + b"END\r\n"
    )


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
    return port


def server(answer: Answer) -> SmallServer:
    reply = encoded(answer.rows)
    return SmallServer(lambda: lambda data: reply)


def test_a_pair_is_asked(capsys):
    with server(FIRST) as first, server(SECOND) as second:
        words = ["replication", first.address, second.address, first.address]
        assert cli.main(words) == 0
    out, err = capsys.readouterr()
    assert (out.count("in sync"), err) == (2, "")
    assert f"cache-2  {second.address}" in out


def test_it_waits(capsys, monkeypatch):
    waited: list[float] = []

    def wait(ask, wait_s, show):
        waited.append(wait_s)
        return ask()

    monkeypatch.setattr(tool, "wait_for", wait)
    with server(FIRST) as first:
        for words in (["--wait"], ["--wait=2.5"], ["--wait=0"], []):
            assert cli.main(["replication", first.address, *words]) == 0
    assert waited == [60.0, 2.5]
    assert cli.main(["replication", "--wait", first.address]) == 2
    assert "does not answer (connection refused)" in capsys.readouterr().out


@pytest.mark.parametrize("before", ["", "unix:"])
def test_a_unix_socket_is_asked(before, capsys, tmp_path):
    path = str(tmp_path / "cache.sock")
    reply = encoded(FIRST.rows)
    with SmallServer(lambda: lambda data: reply, path=path):
        assert cli.main(["replication", f"{before}{path}"]) == 0
    assert f"\ncache-1  {path}  in sync" in capsys.readouterr().out
    assert cli.main(["replication", path]) == 2
    assert f"{path} does not answer (connection refused)" in " ".join(
        capsys.readouterr().out.split()
    )
    assert cli.main(["replication", "/nonexistent/cache.sock"]) == 2
    assert "does not answer (no such file or directory)" in capsys.readouterr().out


def test_a_node_is_forgotten(capsys):
    heard = []

    def reply(data: bytes) -> bytes:
        heard.append(data.split())
        return b"STAT forgotten cache-3\r\nEND\r\n"

    with SmallServer(lambda: reply) as first:
        assert tool.replication(["forget", "cache-3", first.address]) == 0
    assert heard == [[b"stats", b"replication", b"forget", b"cache-3"]]
    assert capsys.readouterr().out == f"{first.address} has forgotten cache-3.\n"
    with server(Answer("", {"not_forgotten": "it_is_in_use"})) as first:
        assert tool.replication(["forget", "cache-3", first.address]) == 1
    assert "has not forgotten cache-3: it is in use." in capsys.readouterr().out
    assert tool.replication(["forget", "cache-3", first.address]) == 2
    assert "does not answer" in capsys.readouterr().out


def test_json(capsys):
    with server(FIRST) as first:
        assert cli.main(["replication", first.address, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["nodes"][0]["stats"] == FIRST.rows


def test_nobody_is_there(capsys):
    assert cli.main(["replication", f"127.0.0.1:{free_port()}"]) == 2
    assert "does not answer (connection refused)" in capsys.readouterr().out


def test_a_password_is_read_but_only_for_a_user(monkeypatch, capsys):
    asked: list[Access] = []

    def ask(host: str, port: int, name: str, access: Access) -> dict[str, str]:
        asked.append(access)
        return FIRST.rows

    monkeypatch.setattr(tool, "ask_report", ask)
    monkeypatch.setattr(sys, "stdin", io.StringIO("top secret\n"))
    assert cli.main(["replication", "a"]) == 0
    assert cli.main(["replication", "--user", "alice", "a"]) == 0
    assert asked == [Access(), Access(None, "alice", "top secret")]
    assert "secret" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "error"),
    [
        ([], f"no address\n{tool.USAGE}"),
        (["--bogus"], f"option --bogus not recognized\n{tool.USAGE}"),
        ([""], f"no address: an empty word\n{tool.USAGE}"),
        (["a:x"], f"no address: a:x: 'x' is no port number\n{tool.USAGE}"),
        (["forget"], f"forget whom?\n{tool.USAGE}"),
        (["forget", ""], f"forget whom?\n{tool.USAGE}"),
        (["forget", "two words", "a"], f"forget whom?\n{tool.USAGE}"),
        (["forget", "a"], f"no address\n{tool.USAGE}"),
        (["--ca-file", "/nonexistent", "a"], "certificate: No such file or directory"),
        (["--wait=soon", "a"], f"--wait=soon: no number of seconds\n{tool.USAGE}"),
        (["--wait=-1", "a"], f"--wait=-1: no number of seconds\n{tool.USAGE}"),
    ],
)
def test_wrong_words(words, error, capsys):
    assert cli.main(["replication", *words]) == 64
    assert capsys.readouterr() == ("", f"pymcd replication: {error}\n")


def test_help(capsys):
    assert cli.main(["replication", "--help"]) == 0
    assert capsys.readouterr().out.startswith(tool.USAGE)


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0, "0 ms"), (0.5, "500 ms"), (1, "1 s"), (59, "59 s"), (60, "1 min"), (3660, "1 h 1 min"),
     (86400 * 2, "2 d"), (90000, "1 d 1 h")],
)  # fmt: skip
def test_durations(seconds, words):
    assert tool._duration(seconds) == words


@pytest.mark.parametrize(
    ("link", "error", "said", "code"),
    [
        ("up", "-", "", 0),
        (
            "up",
            "e1:2379:_Connection_refused",
            "cache-1 can have the vote of the witness, but: e1:2379: Connection refused.",
            0,
        ),
        (
            "down",
            "e1:2379:_etcdserver:_no_leader",
            "cache-1 cannot have the vote of the witness: e1:2379: etcdserver: no leader.",
            1,
        ),
    ],
)
def test_what_is_wrong_with_an_etcd(link, error, said, code):
    votes = {
        "witness": "etcd",
        "witness_link": link,
        "witness_error": error,
        "voters": "cache-1,cache-2,etcd",
        "may_fail": "cache-1,cache-2,etcd" if link == "up" else "etcd",
    }
    answers = [Answer("10.0.0.5:11211", rows(SEES_SECOND, **votes)), SECOND]
    text = " ".join(as_text(answers, NOW).split())
    assert said in text
    assert ("witness" in text) == bool(said)
    assert exit_code(answers) == code


GONE = {**LOST, "lag_items": "0"}
SEES_THIRD = {**SEES_SECOND, "node_id": "cache-3", "address": "10.0.0.7:11212"}
WAITS = {
    "state": "waiting",
    "role": "waiting",
    "coordinator": "-",
    "degraded": "yes",
    "voters": "cache-1,cache-2,cache-3",
    "may_fail": "-",
}


def waiting(name: str, *peers: dict[str, str], **others: str) -> Answer:
    return Answer(name, rows(*peers, **{**WAITS, "node_id": name, **others}))


THIRD_DEAD = Answer("10.0.0.7:11211", {}, "connection refused")


@pytest.mark.parametrize(
    ("answers", "words"),
    [
        (
            [waiting("cache-1", {**SEES_SECOND, **GONE}, {**SEES_THIRD, **GONE})],
            "If cache-1 died now, you would lose all items unless cache-2 and cache-3 still have"
            " them.",
        ),
        (
            [
                waiting("cache-1", {**SEES_SECOND, **GONE}, SEES_THIRD, voters="cache-1,cache-2"),
                waiting("cache-3", SEES_FIRST, {**SEES_SECOND, **GONE}),
                SECOND_DEAD,
            ],
            "If cache-1 died now, you would lose what the others do not have of its items unless"
            " cache-2 still has them. If cache-3 died now, you would lose nothing that was"
            " acknowledged.",
        ),
        (
            [
                waiting("cache-1", {**SEES_SECOND, "in_sync": "no"}, {**SEES_THIRD, **GONE}),
                waiting("cache-2", {**SEES_FIRST, "in_sync": "no"}, {**SEES_THIRD, **GONE}),
                THIRD_DEAD,
            ],
            "If cache-1 died now, you would lose nothing that was acknowledged.",
        ),
        (
            [
                waiting("cache-3", {**SEES_FIRST, **GONE}, {**SEES_SECOND, **GONE}),
                FIRST,
                SECOND,
            ],
            "If any one node died now, you would lose nothing that was acknowledged.",
        ),
    ],
)
def test_what_a_node_has_that_waits(answers, words):
    assert words in " ".join(as_text(answers, NOW).split())
