"""`pymcd passwd`: what it writes, what it refuses, and that it shows no password."""

from __future__ import annotations

import getpass
import io
import sys

import pytest

from pymcd import cli
from pymcd.auth import Authenticator, decode_sasl_users, decode_text_users


@pytest.fixture
def say(monkeypatch):
    """Return what makes the next words be read from standard input."""

    def say(text: str) -> None:
        monkeypatch.setattr(sys, "stdin", io.StringIO(text))

    return say


def lets_in(path, name: bytes, password: bytes, decode=decode_sasl_users) -> bool:
    users = decode(path.read_bytes())
    return Authenticator(lambda: users, make_nonce=str, secret=b"").check(name, password)


def test_a_new_file(tmp_path, say, capsys):
    path = tmp_path / "users"
    say("top secret\n")
    assert cli.main(["passwd", str(path), "alice"]) == 0
    assert lets_in(path, b"alice", b"top secret")
    assert not lets_in(path, b"alice", b"top")
    assert lets_in(path, b"alice", b"top secret", decode_text_users)
    assert path.stat().st_mode & 0o777 == 0o600
    assert capsys.readouterr() == ("", "")
    assert b"secret" not in path.read_bytes()


def test_a_line_is_replaced_in_its_place(tmp_path, say):
    path = tmp_path / "users"
    path.write_bytes(b"a:1\nb:2\nc:3")
    path.chmod(0o640)
    say("new\n")
    assert cli.main(["passwd", "--iterations", "5000", str(path), "b"]) == 0
    lines = path.read_bytes().split(b"\n")
    assert (lines[0], lines[2], lines[3]) == (b"a:1", b"c:3", b"")
    assert lines[1].startswith(b"b:$scram$5000$")
    assert path.stat().st_mode & 0o777 == 0o640
    assert [each.name for each in tmp_path.iterdir()] == ["users"]
    say("other\n")
    assert cli.main(["passwd", str(path), "d"]) == 0
    assert lets_in(path, b"d", b"other")
    assert lets_in(path, b"b", b"new")


def test_a_terminal_is_asked_twice(tmp_path, monkeypatch, capsys):
    path = tmp_path / "users"
    answers = iter(["one", "one", "one", "two"])
    monkeypatch.setattr(sys, "stdin", type("Terminal", (), {"isatty": lambda self: True})())
    monkeypatch.setattr(getpass, "getpass", lambda prompt: next(answers))
    assert cli.main(["passwd", str(path), "alice"]) == 0
    before = path.read_bytes()
    assert cli.main(["passwd", str(path), "alice"]) == 1
    assert path.read_bytes() == before
    assert capsys.readouterr().err == "pymcd passwd: the passwords differ\n"


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        ([], 64, "usage: pymcd passwd [--iterations N] FILE USER"),
        (["file"], 64, "usage: pymcd passwd [--iterations N] FILE USER"),
        (["file", "a", "b"], 64, "usage: pymcd passwd [--iterations N] FILE USER"),
        (["--help", "a"], 64, "usage: pymcd passwd [--iterations N] FILE USER"),
        (["--iterations", "1", "file", "a"], 64, "iterations must be 4096 to 1000000"),
        (["--iterations", "x", "file", "a"], 64, "iterations must be 4096 to 1000000"),
        (["file", ""], 64, "a user's name holds no colon and no control characters"),
        (["file", "a:b"], 64, "a user's name holds no colon and no control characters"),
        (["file", "a\n"], 64, "a user's name holds no colon and no control characters"),
        (["file", "a"], 1, "a password must not be empty, nor hold NUL"),
    ],
)
def test_what_is_refused(words, code, message, say, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    say("\n")
    assert cli.main(["passwd", *words]) == code
    assert capsys.readouterr().err == f"pymcd passwd: {message}\n"
    assert not list(tmp_path.iterdir())


def test_a_file_that_cannot_be_written(tmp_path, say, capsys):
    say("secret\n")
    path = tmp_path / "none" / "users"
    assert cli.main(["passwd", str(path), "a"]) == 1
    error = capsys.readouterr().err
    assert error.startswith(f"pymcd passwd: {path}.")
    assert error.endswith(": No such file or directory\n")
    assert "secret" not in error


def test_a_failure_leaves_the_file(tmp_path, say, monkeypatch):
    path = tmp_path / "users"
    path.write_bytes(b"a:1\n")

    def fail(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr("os.replace", fail)
    say("secret\n")
    assert cli.main(["passwd", str(path), "b"]) == 1
    assert [each.read_bytes() for each in tmp_path.iterdir()] == [b"a:1\n"]
