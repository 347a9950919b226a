"""The log: lines, whole, to where they belong."""

from __future__ import annotations

import errno
import json
import os
import socket
import sys
from typing import TYPE_CHECKING

import pytest

from pymcd.exits import ConfigError
from pymcd.server.log import CLOSE_PATIENCE_S, KEPT_MAX_BYTES, Log, _Output

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


NOW = "2023-11-14T22:13:20.250+00:00"


def now() -> float:
    return 1_700_000_000.25


def fault() -> ZeroDivisionError:
    try:
        1 / 0  # noqa: B018
    except ZeroDivisionError as error:
        return error
    raise AssertionError


def test_text_goes_to_stderr(capfd: pytest.CaptureFixture[str]) -> None:
    log = Log(realtime=now)
    log.line("<24 get \udcff\xe9")
    log.warning("careful")
    log.failure("a fault", fault())
    got = capfd.readouterr().err.splitlines()
    assert got[:3] == ["<24 get \\udcff\xe9", "careful", "a fault"]
    assert got[3] == "Traceback (most recent call last):"
    assert got[-1] == "ZeroDivisionError: division by zero"


def test_json_is_one_object_a_line(tmp_path: Path) -> None:
    path = tmp_path / "log"
    log = Log(path=str(path), line_format="json", realtime=now)
    log.line('a "b"\nc')
    log.failure("a fault", fault())
    log.close()
    first, second = (json.loads(line) for line in path.read_text().splitlines())
    assert first == {
        "time": NOW,
        "level": "info",
        "message": 'a "b"\nc',
    }
    assert second["level"] == "error"
    assert "ZeroDivisionError" in second["traceback"]


def test_a_rotated_file_is_opened_again(tmp_path: Path) -> None:
    path = tmp_path / "log"
    log = Log(path=str(path), realtime=now)
    log.line("one")
    path.rename(tmp_path / "log.1")
    log.line("two")
    log.reopen()
    log.line("three")
    log.close()
    assert (tmp_path / "log.1").read_text() == f"{NOW} one\n{NOW} two\n"
    assert path.read_text() == f"{NOW} three\n"


def test_a_file_that_cannot_be_opened_again_is_kept(tmp_path: Path) -> None:
    directory = tmp_path / "logs"
    directory.mkdir()
    log = Log(path=str(directory / "log"), realtime=now)
    directory.rename(tmp_path / "moved")
    log.reopen()
    log.close()
    got = (tmp_path / "moved" / "log").read_text()
    assert got == f'{NOW} Failed to open "{directory}/log": No such file or directory\n'


def test_a_file_that_cannot_be_opened(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"Failed to open .*: No such file or directory") as error:
        Log(path=str(tmp_path / "no" / "log"), realtime=now)
    assert error.value.exit_code == 71


def test_a_process_without_stderr_has_no_log(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    # The number may be that of a client.
    monkeypatch.setattr(sys, "stderr", None)
    log = Log(realtime=now)
    log.line("not for a client")
    log.close()
    assert capfd.readouterr().err == ""


class Reader:
    """Both ends of something that a log is written to, read only when asked."""

    def __init__(self, kind: str) -> None:
        if kind == "socket":
            reader, writer = socket.socketpair()
            self.reader, self.writer = reader.detach(), writer.detach()
        else:
            self.reader, self.writer = os.pipe()
        os.set_blocking(self.writer, kind != "own pipe")
        os.set_blocking(self.reader, False)
        self.log = Log(realtime=now)
        self.log._out = _Output(self.writer)

    def read(self) -> bytes:
        """Return what has come since."""
        data = b""
        try:
            while piece := os.read(self.reader, 1 << 20):
                data += piece
        except BlockingIOError:
            pass
        return data

    def read_all(self, data: bytes = b"") -> list[str]:
        """Read while the log writes what it kept; return the lines, those of `data` first."""
        data += self.read()
        while not self.log.flush():
            data += self.read()
        return (data + self.read()).decode().splitlines()


@pytest.fixture(params=["shared pipe", "own pipe", "socket"])
def reader(request: pytest.FixtureRequest) -> Iterator[Reader]:
    reader = Reader(request.param)
    yield reader
    os.close(reader.reader)
    reader.log.close()


def fill(log: Log, lines: int, width: int = 1000) -> None:
    for number in range(lines):
        log.line(f"{number} ".ljust(width, "."))


def test_nobody_waits_for_who_reads_the_log(reader: Reader) -> None:
    lines = 3_000
    calls: list[int] = []
    reader.log.on_kept = lambda: calls.append(1)
    fill(reader.log, lines)
    assert calls
    got = reader.read_all()
    # What was kept is whole and in order; the rest is counted.
    kept = len(got) - 1
    assert [int(line.split()[0]) for line in got[:-1]] == list(range(kept))
    assert {len(line) for line in got[:-1]} == {1000}
    assert KEPT_MAX_BYTES < kept * 1001 < KEPT_MAX_BYTES + (1 << 20)
    assert got[-1] == f"{lines - kept} lines of this log were dropped: it could not be written"
    # It is as if nothing had happened.
    reader.log.line("again")
    assert reader.read() == b"again\n"


def test_what_is_kept_goes_before_the_next_line(reader: Reader) -> None:
    fill(reader.log, 300)
    before = reader.read()
    reader.log.line("next")
    lines = [line.split()[0] for line in reader.read_all(before)]
    assert lines == [*map(str, range(300)), "next"]


@pytest.mark.parametrize("width", [4095, 4096, 4097, 100_000, KEPT_MAX_BYTES, 3 << 20])
def test_a_line_of_any_length_is_whole_or_dropped(reader: Reader, width: int) -> None:
    for _ in range(3):
        fill(reader.log, 4, width)
    got = reader.read_all()
    assert {len(line) for line in got[:-1]} <= {width}
    assert len(got[-1]) == width or "dropped" in got[-1]
    assert len(reader.log._kept) == 0


def test_a_log_that_is_closed_does_not_wait_for_ever(
    reader: Reader, monkeypatch: pytest.MonkeyPatch
) -> None:
    waited: list[float] = []
    monkeypatch.setattr(_Output, "wait", lambda output, timeout_s: waited.append(timeout_s))
    fill(reader.log, 2_000)
    waited.clear()
    reader.log.close()
    assert 0 < max(waited) <= CLOSE_PATIENCE_S
    assert len(waited) <= 2


def test_who_no_longer_reads_stops_nothing() -> None:
    for kind in ("shared pipe", "own pipe", "socket"):
        reader = Reader(kind)
        os.close(reader.reader)
        fill(reader.log, 2_000)
        assert not reader.log.flush()
        assert len(reader.log._kept) <= KEPT_MAX_BYTES
        reader.log.close()


def test_a_full_disk_stops_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "log"
    log = Log(path=str(path), realtime=now)
    log.line("first")
    write = os.write
    room = 10

    def write_some(fd: int, data: bytes) -> int:
        nonlocal room
        if not room:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        taken = write(fd, data[:room])
        room -= taken
        return taken

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", write_some)
        fill(log, 2_000)
        assert not log.flush()
    assert path.stat().st_size == len(NOW) + 7 + 10
    log.line("last")
    log.close()
    lines = path.read_text().splitlines()
    # None is torn, though the disk was full in the middle of one.
    assert {len(line) for line in lines[1:-2]} == {len(NOW) + 1001}
    dropped = 2_000 - len(lines[1:-2])
    said = f"{NOW} {dropped} lines of this log were dropped: it could not be written"
    assert lines[-2:] == [said, f"{NOW} last"]


def test_a_disk_that_stays_full_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    log = Log(path="/dev/full", realtime=now)
    log.line("never")
    assert not log.flush()
    monkeypatch.setattr(_Output, "wait", lambda output, timeout_s: False)
    log.close()


def test_a_pipe_that_nobody_reads_is_no_log(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "log")
    with pytest.raises(ConfigError, match="Failed to open"):
        Log(path=str(tmp_path / "log"), realtime=now)


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_root_follows_no_link_of_another_user(tmp_path: Path) -> None:
    victim, link = tmp_path / "victim", tmp_path / "log"
    victim.write_text("precious\n")
    link.symlink_to(victim)
    os.lchown(link, 65534, 65534)
    with pytest.raises(ConfigError, match="Too many levels of symbolic links"):
        Log(path=str(link), realtime=now)
    assert victim.read_text() == "precious\n"
    os.lchown(link, 0, 0)
    log = Log(path=str(link), realtime=now)
    log.line("one")
    log.give_to(65534, 65534)
    log.close()
    assert victim.read_text() == f"precious\n{NOW} one\n"
    assert victim.stat().st_uid == 0


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_a_new_file_belongs_to_who_takes_over(tmp_path: Path) -> None:
    path = tmp_path / "log"
    for owner in (65534, 0):
        log = Log(path=str(path), realtime=now)
        log.give_to(65534, 65534)
        log.close()
        assert path.stat().st_uid == owner
        path.unlink(missing_ok=True)
        if owner:
            path.touch()  # as one that was there before
