"""The log: lines, whole, to where they belong."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING

import pytest

from pymcd.config import ConfigError
from pymcd.server.log import Log

if TYPE_CHECKING:
    from pathlib import Path


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
        "time": "2023-11-14T22:13:20.250+00:00",
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
    assert (tmp_path / "log.1").read_text() == "one\ntwo\n"
    assert path.read_text() == "three\n"


def test_a_file_that_cannot_be_opened_again_is_kept(tmp_path: Path) -> None:
    directory = tmp_path / "logs"
    directory.mkdir()
    log = Log(path=str(directory / "log"), realtime=now)
    directory.rename(tmp_path / "moved")
    log.reopen()
    log.close()
    got = (tmp_path / "moved" / "log").read_text()
    assert got == f'Failed to open "{directory}/log": No such file or directory\n'


def test_a_file_that_cannot_be_opened(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"Failed to open .*: No such file or directory") as error:
        Log(path=str(tmp_path / "no" / "log"), realtime=now)
    assert error.value.exit_code == 71


def test_a_broken_pipe_stops_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    log = Log(realtime=now)
    monkeypatch.setattr(log, "_fd", writer)
    log.line("nobody reads this")
    os.close(writer)
