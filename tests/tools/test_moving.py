"""`pymcd dump` and `pymcd load`: items to a file and back, and how far it came if that fails."""

from __future__ import annotations

import os
import re
import sys
from math import inf
from typing import TYPE_CHECKING, Any

import pytest

from pymcd import cli
from pymcd.auth import Authenticator, decode_text_users
from pymcd.moving.dumpfile import HEAD, Record, encode_end, encode_record
from pymcd.tools import load
from pymcd.tools.progress import progress
from tests.protocol.helpers import Client, make_service

from ..hosts import lend
from .serving import SmallServer

if TYPE_CHECKING:
    from pymcd.service import Service

    from .serving import Answer

ITEMS = b"set a 5 0 3\r\nfoo\r\nms AAE= 2 b T1000\r\n\r\n\r\nset c 0 0 0\r\n\r\n"


class Served(SmallServer):
    """A pymcd that ends the connection instead of giving more than so many answers in all."""

    def __init__(self, *before: bytes, answers: float = inf, **settings: Any) -> None:
        self.service: Service = make_service(**settings)
        client = Client(self.service)
        for request in before:
            client.send(request)
        self.answers = answers
        super().__init__(self._connect)

    def _connect(self) -> Answer:
        client = Client(self.service)

        def answer(data: bytes) -> bytes | None:
            self.answers -= 1
            return client.send(data) if self.answers >= 0 else None

        return answer

    def items(self) -> dict[bytes, tuple[bytes, int, int]]:
        return {
            item.key: (item.value, item.client_flags, item.expires_at)
            for item in self.service.cache.items()
        }


@pytest.fixture
def stdin(monkeypatch):
    """Return what has the next bytes be read from standard input."""

    read, write = os.pipe()

    def put(data: bytes) -> None:
        with open(write, "wb") as pipe:
            pipe.write(data)

    with open(read) as file:
        monkeypatch.setattr(sys, "stdin", file)
        yield put


def dump_of(*keys: bytes, size: int = 1) -> list[bytes]:
    """Return the pieces of a dump of such items."""
    records = [encode_record(Record(key, b"x" * size, 0, 0)) for key in keys]
    return [HEAD, *records, encode_end(len(keys))]


def test_there_and_back(tmp_path, capsys):
    path = tmp_path / "items"
    with Served(ITEMS) as source:
        assert cli.main(["dump", source.address, str(path)]) == 0
    assert capsys.readouterr() == (
        f"dumped 3 items, 0.0 MB, from {source.address} to {path}\n",
        "",
    )
    assert path.stat().st_mode & 0o777 == 0o600
    assert os.listdir(tmp_path) == ["items"]
    with Served(b"set c 0 0 1\r\nx\r\n") as target:
        assert cli.main(["load", str(path), target.address]) == 0
        assert capsys.readouterr() == (
            f"loaded into {target.address}: 2 stored, 1 there already\n",
            "",
        )
        items = target.items()
        assert items[b"c"][0] == b"x"
        assert cli.main(["load", "--overwrite", str(path), target.address]) == 0
        assert capsys.readouterr().out == f"loaded into {target.address}: 3 stored\n"
    found, expected = target.items(), source.items()
    assert {key: each[:2] for key, each in found.items()} == {
        key: each[:2] for key, each in expected.items()
    }
    assert abs(found[b"\0\1"][2] - expected[b"\0\1"][2]) <= 2


def test_standard_input_and_output(stdin, capfdbinary, monkeypatch):
    with Served(ITEMS) as source:
        assert cli.main(["dump", source.address, "-"]) == 0
    said = capfdbinary.readouterr()
    assert said.out.startswith(HEAD)
    assert said.err == b"dumped 3 items, 0.0 MB, from %b\n" % source.address.encode()
    stdin(said.out)
    with Served() as target:
        assert cli.main(["load", "-", target.address]) == 0
    assert len(target.items()) == 3


def lock(served: Served) -> None:
    """Have a server know one user."""
    users = decode_text_users(b"alice:secret\n")
    lend(served.service, authenticator=Authenticator(lambda: users, make_nonce=str, secret=b"s"))


def test_who_has_to_log_in_does(tmp_path, stdin, capsys):
    path = tmp_path / "items"
    path.write_bytes(b"".join(dump_of(b"a")))
    with Served(auth_file="users", protocol="ascii") as target:
        lock(target)
        assert cli.main(["load", str(path), target.address]) == 1
        assert capsys.readouterr().err == (
            f"pymcd load: {target.address}: wants a login (--user); nothing was loaded\n"
        )
        stdin(b"secret\nwrong\n")
        assert cli.main(["load", "--user", "alice", str(path), target.address]) == 0
        assert target.items().keys() == {b"a"}
        assert cli.main(["dump", "--user", "alice", target.address, str(path)]) == 1
    assert capsys.readouterr().err == (
        f"pymcd dump: {target.address} refuses the login; nothing is written\n"
    )


def test_standard_output_that_is_full(capfd, monkeypatch):
    with Served(ITEMS) as source, open("/dev/full", "w") as full:
        monkeypatch.setattr("sys.stdout", full)
        assert cli.main(["dump", source.address, "-"]) == 1
        monkeypatch.undo()
        os.dup2(os.open(os.devnull, os.O_WRONLY), full.fileno())  # for what it holds back
    assert capfd.readouterr().err == (
        "pymcd dump: standard output: No space left on device, after 3 of 3 items\n"
    )


def test_what_is_no_file_is_written_to(capsys):
    with Served(ITEMS) as source:
        assert cli.main(["dump", source.address, "/dev/null"]) == 0
    assert not os.path.isfile("/dev/null")


def test_a_source_that_goes_leaves_what_it_gave(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("pymcd.tools.dump.BATCH_ITEMS", 1)
    path = tmp_path / "items"
    with Served(ITEMS, answers=5) as source:
        assert cli.main(["dump", source.address, str(path)]) == 1
    part = f"{path}.part"
    assert capsys.readouterr() == (
        "",
        f"pymcd dump: {source.address} closed the connection, after 1 of 3 items;"
        f" those are in {part}, for pymcd load --partial\n",
    )
    assert os.listdir(tmp_path) == ["items.part"]
    with Served() as target:
        assert cli.main(["load", part, target.address]) == 1
        assert capsys.readouterr().err == (
            f"pymcd load: {part}: it was cut off after 1 item; nothing was loaded;"
            " --partial takes what is whole\n"
        )
        assert target.items() == {}
        assert cli.main(["load", "--partial", part, target.address]) == 0
        assert capsys.readouterr() == (
            f"loaded into {target.address}: 1 stored\n",
            f"pymcd load: {part}: it was cut off after 1 item; what is before that was taken\n",
        )
        assert len(target.items()) == 1


def test_a_source_that_gives_nothing_leaves_nothing(tmp_path, capsys):
    path = tmp_path / "items"
    path.write_bytes(b"what was there before")
    with Served(disable_dumping=True) as source:
        assert cli.main(["dump", source.address, str(path)]) == 1
    assert capsys.readouterr().err == (
        f"pymcd dump: {source.address} does not list its keys (it runs with -X or without its LRU"
        " crawler); nothing is written\n"
    )
    assert path.read_bytes() == b"what was there before"
    assert os.listdir(tmp_path) == ["items"]


def test_where_nobody_answers(tmp_path, capsys):
    with Served() as gone:
        pass
    assert cli.main(["dump", gone.address, str(tmp_path / "items")]) == 1
    assert cli.main(["load", str(tmp_path / "no"), gone.address]) == 1
    (tmp_path / "items").write_bytes(b"".join(dump_of(b"a")))
    assert cli.main(["load", str(tmp_path / "items"), gone.address]) == 1
    assert capsys.readouterr().err.splitlines() == [
        f"pymcd dump: {gone.address} (connection refused); nothing is written",
        f"pymcd load: {tmp_path}/no: No such file or directory; nothing was loaded",
        f"pymcd load: {gone.address}: connection refused; nothing was loaded",
    ]


def test_where_nothing_can_be_written(tmp_path, capsys):
    with Served(ITEMS) as source:
        assert cli.main(["dump", source.address, str(tmp_path / "no" / "items")]) == 1
    assert capsys.readouterr().err == (
        f"pymcd dump: {tmp_path}/no/items: No such file or directory; nothing is written\n"
    )


def test_a_server_that_is_busy_is_asked_again(tmp_path, monkeypatch, capsys):
    waited: list[float] = []
    monkeypatch.setattr("pymcd.tools.visiting.time.sleep", waited.append)
    version = b"VERSION 1.6.18\r\n"
    answers = [
        (version, version, b"BUSY currently processing crawler request\r\n"),
        (version, version, b"END\r\n"),
        (version,),
    ]

    def connect():
        said = iter(answers.pop(0))
        return lambda data: next(said)

    with SmallServer(connect) as source:
        assert cli.main(["dump", source.address, str(tmp_path / "items")]) == 0
    assert waited == [0.5]
    assert capsys.readouterr().out.startswith("dumped 0 items")


def test_a_target_that_stops_is_gone_on_with(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(load, "BATCH_ITEMS", 2)
    path = tmp_path / "items"
    path.write_bytes(b"".join(dump_of(b"a", b"b", b"c", b"d", b"e")))
    with Served(answers=2) as target:
        assert cli.main(["load", str(path), target.address]) == 1
        assert capsys.readouterr().err == (
            f"pymcd load: {target.address}: closed the connection; 2 items are done (2 stored):"
            " go on with --skip 2\n"
        )
    with Served() as target:
        assert cli.main(["load", "--skip", "2", str(path), target.address]) == 0
    assert target.items().keys() == {b"c", b"d", b"e"}


@pytest.mark.parametrize("partial", [False, True])
def test_there_must_be_as_much_as_is_skipped(tmp_path, capsys, partial):
    path = tmp_path / "items"
    path.write_bytes(b"".join(dump_of(b"a", b"b"))[: -1 if partial else None])
    words = ["load", *(["--partial"] if partial else []), str(path)]
    with Served() as target:
        assert cli.main([*words, target.address, "--skip", "2"]) == 0
        assert capsys.readouterr().out == f"loaded into {target.address}: 0 stored\n"
        assert cli.main([*words, target.address, "--skip", "3"]) == 1
    assert capsys.readouterr().err.splitlines()[-1] == (
        f"pymcd load: {path}: it has 2 items, and --skip 3 goes beyond that; nothing was loaded"
    )


def test_standard_input_must_have_as_much_as_is_skipped(stdin, capsys):
    stdin(b"".join(dump_of(b"a")))
    with Served() as target:
        assert cli.main(["load", "-", target.address, "--skip", "7"]) == 1
    assert capsys.readouterr() == (
        "",
        "pymcd load: standard input: it has 1 item, and --skip 7 goes beyond that;"
        " nothing was loaded\n",
    )


def test_one_item_is_told_of_as_one(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(load, "BATCH_ITEMS", 1)
    path = tmp_path / "items"
    path.write_bytes(b"".join(dump_of(b"a", b"b")))
    with Served(answers=2) as target:
        assert cli.main(["load", str(path), target.address]) == 1
    assert "; 1 item is done (1 stored): go on with --skip 1\n" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("length", "counted"), [(500_000_000, True), (64 << 40, False)], ids=["dump", "load"]
)
def test_progress_stays_within_80_columns(length, counted, monkeypatch, capsys):
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    with progress("loading", length, counted=counted) as advance:
        advance(length // 2)
        advance(length - length // 2)
    lines = re.sub(r"\x1b\[\S*?[a-zA-Z]", "", capsys.readouterr().err).splitlines()
    assert max(map(len, lines)) < 80
    assert "50%" in "".join(lines) or "250000000/500000000" in "".join(lines)


@pytest.mark.parametrize("tool", ["dump", "load"])
def test_a_server_that_closes_at_once_may_speak_otherwise(tool, tmp_path, capsys):
    path = tmp_path / "items"
    path.write_bytes(b"".join(dump_of(b"a")))
    with Served(answers=0) as server:
        names = [server.address, "-"] if tool == "dump" else [str(path), server.address]
        assert cli.main([tool, *names]) == 1
    said = "closed the connection: it may want TLS (--tls), or speak the binary protocol alone"
    assert said in capsys.readouterr().err


def test_a_target_that_is_full_says_so(tmp_path, capsys):
    path = tmp_path / "items"
    keys = [b"%d" % number for number in range(3000)]
    path.write_bytes(b"".join(dump_of(*keys, size=1000)))
    with Served(disable_evictions=True, memory_limit_bytes=2 << 20) as target:
        assert cli.main(["load", str(path), target.address]) == 1
    done = len(target.items())
    assert capsys.readouterr().err == (
        f"pymcd load: {target.address}: refuses: SERVER_ERROR out of memory storing object;"
        f" {done:,} items are done ({done:,} stored): go on with --skip {done}\n"
    )


def test_what_cannot_be_stored_is_counted(tmp_path, capsys):
    path = tmp_path / "items"
    over = encode_record(Record(b"over", b"", 0, 1))
    large = encode_record(Record(b"large", b"x" * (1 << 20), 0, 0))
    odd = encode_record(Record(b" " * 250, b"x", 0, 0))
    path.write_bytes(b"".join([HEAD, over, large, odd, *dump_of(b"a")[1:2], encode_end(4)]))
    with Served() as target:
        assert cli.main(["load", str(path), target.address]) == 1
    assert capsys.readouterr().out == (
        f"loaded into {target.address}: 1 stored, 1 at their end already, 1 too large for the"
        " target, 1 with keys that text cannot say\n"
    )


def test_what_is_damaged_comes_by_standard_input_as_far_as_it_is_whole(stdin, capsys):
    pieces = dump_of(b"a", b"b", b"c")
    stdin(b"".join(pieces[:3]) + pieces[3].replace(b"item", b"time"))
    with Served() as target:
        assert cli.main(["load", "-", target.address]) == 1
    assert capsys.readouterr().err == (
        "pymcd load: standard input: it is damaged after 2 items: no item begins there;"
        " 2 items are done (2 stored)\n"
    )
    assert target.items().keys() == {b"a", b"b"}


@pytest.mark.parametrize(
    "data", [b"", b"add a 0 0 1\r\nx\r\n", HEAD.replace(b"1", b"2")], ids=["empty", "none", "newer"]
)
def test_what_is_no_dump_is_not_loaded(tmp_path, data, capsys):
    path = tmp_path / "items"
    path.write_bytes(data)
    with Served() as target:
        for more in ([], ["--partial"]):
            assert cli.main(["load", *more, str(path), target.address]) == 1
            line = capsys.readouterr().err
            assert line.startswith(f"pymcd load: {path}: it is ")
            assert line.endswith("; nothing was loaded\n")
            assert line.count("\n") == 1
        assert target.items() == {}


@pytest.mark.parametrize("tool", ["dump", "load"])
@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "a server and a file are needed|a file and a server are needed"),
        (["a", "b", "c"], "a server and a file are needed|a file and a server are needed"),
        (["--bogus", "a", "b"], "option --bogus not recognized"),
        (["host:0", "host:0"], "no address: host:0: a server's port cannot be 0"),
    ],
)
def test_wrong_words(tool, words, message, capsys):
    assert cli.main([tool, *words]) == 64
    first, usage, *_ = capsys.readouterr().err.splitlines()
    assert first in [f"pymcd {tool}: {each}" for each in message.split("|")]
    assert usage.startswith(f"usage: pymcd {tool} ")


def test_wrong_words_of_load(tmp_path, stdin, capsys):
    assert cli.main(["load", "--skip", "x", "a", "b"]) == 64
    stdin(b"secret\n")
    assert cli.main(["load", "--user", "a", "-", "b"]) == 64
    assert cli.main(["load", "--ca-file", str(tmp_path / "no"), "a", "b"]) == 64
    lines = [each for each in capsys.readouterr().err.splitlines() if each.startswith("pymcd")]
    assert lines == [
        "pymcd load: --skip x: not a number of items",
        "pymcd load: with --user, standard input is for the password: name a file",
        "pymcd load: certificate: No such file or directory",
    ]


@pytest.mark.parametrize("tool", ["dump", "load"])
def test_help(tool, capsys):
    assert cli.main([tool, "--help"]) == 0
    said = capsys.readouterr().out
    assert said.startswith(f"usage: pymcd {tool} ")
    assert all(len(line) <= 100 for line in said.splitlines())
