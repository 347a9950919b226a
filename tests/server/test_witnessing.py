"""The process of a witness: it answers nodes, keeps what it promised, and obeys signals."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from pymcd import cli
from pymcd.exits import ConfigError
from pymcd.replication.messages import Roll
from pymcd.replication.witness import Memory
from pymcd.server.witnessing import lock_memory, read_memory, write_memory

from ..replication.helpers import SECRET, Group

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from pymcd.replication.voting import WitnessLink

PATIENCE_S = 20
BACKS = Roll(4097, "a", {"a": "1", "b": "2"}, {"w": "3"})


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


@contextmanager
def running(folder: Path, *words: str) -> Iterator[tuple[int, subprocess.Popen[str]]]:
    """Run a witness as a process, with the secret of the tests."""
    secret = folder / "secret"
    secret.write_bytes(SECRET)
    secret.chmod(0o600)
    port = free_port()
    me = ["-u", "root"] if os.geteuid() == 0 else []
    process = subprocess.Popen(
        [sys.executable, "-m", "pymcd", "witness", "--listen", f"127.0.0.1:{port}", *me,
         f"--replication-secret-file={secret}", *words],
        stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stderr is not None
    try:
        yield port, process
    finally:
        process.kill()
        process.communicate()


def call(port: int) -> WitnessLink:
    """Have a node call; return the witness as it sees it."""
    node = Group("ab", witness=True)["a"].node
    witness = node.voting.witness
    assert witness is not None
    end = time.monotonic() + PATIENCE_S
    while True:
        try:
            sock = socket.create_connection(("127.0.0.1", port), timeout=1)
            break
        except OSError:
            assert time.monotonic() < end
            time.sleep(0.05)
    link = node.membership.open_link(dialled=witness.address)
    with sock:
        while not link.closed and not (witness.linked and witness.lease.their_time):
            assert time.monotonic() < end
            for piece in link.take_output():
                sock.sendall(piece)
            link.receive(sock.recv(4096))
    return witness


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="needs /proc")
class TestProcess:
    def test_it_answers_a_node(self, tmp_path):
        with running(tmp_path, "--node-id=x") as (port, process):
            witness = call(port)
            assert (witness.node_id, witness.linked, witness.backs) == ("x", True, None)
            process.send_signal(signal.SIGTERM)
            assert process.wait(PATIENCE_S) == 0

    def test_what_is_on_the_disk_comes_back(self, tmp_path):
        state = tmp_path / "state"
        write_memory(str(state), Memory("a life", BACKS))
        for _ in range(2):
            with running(tmp_path, f"--state={state}") as (port, _):
                witness = call(port)
                assert (witness.life, witness.backs) == ("a life", BACKS)
                with running(tmp_path, f"--state={state}") as (_, other):
                    assert other.wait(PATIENCE_S) != 0

    def test_without_one_each_start_is_a_new_life(self, tmp_path):
        lives = set()
        for _ in range(2):
            with running(tmp_path) as (port, _):
                lives.add(call(port).life)
        assert len(lives) == 2

    def test_a_damaged_file_is_no_beginning(self, tmp_path):
        state = tmp_path / "state"
        state.write_text("{")
        with running(tmp_path, f"--state={state}") as (_, process):
            assert process.wait(PATIENCE_S) != 0
            assert process.stderr is not None
            assert "is not what a witness writes" in process.stderr.read()


class TestMemory:
    def test_it_is_written_whole(self, tmp_path):
        path = tmp_path / "state"
        for memory in (Memory("1"), Memory("1", BACKS)):
            write_memory(str(path), memory)
            assert read_memory(str(path), "pymcd") == memory
            assert [each.name for each in tmp_path.iterdir()] == ["state"]
            assert path.stat().st_mode & 0o777 == 0o600

    def test_there_may_be_none(self, tmp_path):
        assert read_memory(str(tmp_path / "state"), "pymcd") is None

    def test_what_cannot_be_read_is_said(self, tmp_path):
        with pytest.raises(ConfigError, match="Could not read state file"):
            read_memory(str(tmp_path), "pymcd")

    @pytest.mark.parametrize("cluster", ["a", ""], ids=["ours", "of nobody knows whom"])
    def test_promises_to_other_nodes_are_not_ours(self, tmp_path, cluster):
        path = str(tmp_path / "state")
        memory = Memory("1", BACKS, cluster)
        write_memory(path, memory)
        assert read_memory(path, "a") == memory
        if cluster:
            with pytest.raises(ConfigError, match=r"of another cluster \[a\]"):
                read_memory(path, "b")

    def test_one_witness_has_it_at_a_time(self, tmp_path):
        path = str(tmp_path / "state")
        lock = lock_memory(path)
        with pytest.raises(ConfigError, match="in use by another witness"):
            lock_memory(path)
        os.close(lock)
        os.close(lock_memory(path))

    def test_where_nothing_can_be_written_there_is_no_lock(self, tmp_path):
        with pytest.raises(ConfigError, match="Could not write state file"):
            lock_memory(str(tmp_path / "nowhere" / "state"))

    def test_what_is_written_in_part_is_no_promise(self, tmp_path, monkeypatch):
        path = tmp_path / "state"
        write_memory(str(path), Memory("1"))
        monkeypatch.setattr(os, "write", lambda fd, data: len(data) - 1)
        with pytest.raises(OSError, match="No space left"):
            write_memory(str(path), Memory("1", BACKS))
        assert read_memory(str(path), "pymcd") == Memory("1")


class TestWords:
    @pytest.mark.parametrize(
        ("words", "said"),
        [
            (["-m", "64"], "--memory-limit is not for a witness"),
            (["--peer=x"], "--peer is not for a witness"),
            (["--listen"], "--listen needs a word"),
            (["--state="], "--state needs a word"),
            (["--listen=*"], "needs --replication-secret-file or --replication-tls"),
            (["--replication-secret-file=/nowhere"], "Could not open secret file"),
            (["--nonsense"], "unrecognized option"),
        ],
    )
    def test_what_is_refused(self, words, said, capsys):
        assert cli.main(["witness", *words]) != 0
        out, err = capsys.readouterr()
        assert out == ""
        assert err.startswith("pymcd witness: ")
        assert said in err

    def test_help(self, capsys):
        assert cli.main(["witness", "--help"]) == 0
        assert capsys.readouterr().out.startswith("usage: pymcd witness")
