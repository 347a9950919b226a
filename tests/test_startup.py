"""What a process does first of all: signals are heard, descriptors 0 to 2 are open."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from pymcd.startup import PYPY_COLLECTOR, WANTED, Signals, restart_with_short_collections

if TYPE_CHECKING:
    from collections.abc import Iterator

ENDING = [number for number in WANTED if number != signal.SIGHUP]


@pytest.fixture
def signals() -> Iterator[Signals]:
    signals = Signals()
    signals.hear()
    yield signals
    signals.release()


def send(number: int) -> None:
    os.kill(os.getpid(), number)


@pytest.mark.parametrize("number", ENDING)
def test_whoever_has_nothing_to_put_away_ends_at_once(number, signals, monkeypatch):
    codes: list[int] = []
    monkeypatch.setattr(os, "_exit", codes.append)
    send(number)
    send(signal.SIGHUP)
    assert codes == [0]


def test_signals_wait_for_who_takes_them(signals):
    told: list[str] = []
    signals.keep()
    send(signal.SIGHUP)
    signals.attach(lambda: told.append("attached"))
    assert told == ["attached"]
    send(signal.SIGTERM)
    assert told == ["attached", "attached"]
    assert signals.take() == [signal.SIGHUP, signal.SIGTERM]
    assert signals.take() == []
    send(signal.SIGTERM)
    signals.keep()  # which forgets none
    assert signals.take() == [signal.SIGTERM]


def test_nobody_is_told_of_nothing(signals):
    signals.keep()
    signals.attach(pytest.fail)


def test_who_ends_by_itself_hears_nothing_more(signals):
    signals.keep()
    signals.ignore()
    for number in WANTED:
        send(number)
    assert signals.take() == []


def test_released_signals_do_what_they_did():
    before = [signal.getsignal(number) for number in WANTED]
    signals = Signals()
    signals.hear()
    signals.hear()
    assert [signal.getsignal(number) for number in WANTED] != before
    signals.release()
    assert [signal.getsignal(number) for number in WANTED] == before


def run(program: str, *words: str, closed: str = "") -> subprocess.CompletedProcess[str]:
    """Run a Python program; `closed` are the descriptors of 0, 1 and 2 which it has not."""
    shell = 'exec "$@"' + "".join(f" {fd}>&-" for fd in closed)
    return subprocess.run(
        ["sh", "-c", shell, "sh", sys.executable, "-c", program, *words],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )


@pytest.mark.parametrize("number", ENDING)
def test_signals_are_heard_before_anything_is_loaded(number):
    # What takes long to load: as if a signal came meanwhile.
    program = (
        "import os, sys\n"
        "before = set(sys.modules)\n"
        "import pymcd.__main__ as command\n"
        "late = {'pymcd.cli', 'typing', 'trio', 'click'} & (set(sys.modules) - before)\n"
        "assert not late, late\n"
        "class Slow:\n"
        "    def find_spec(self, name, *_):\n"
        f"        if name == 'pymcd.cli': os.kill(os.getpid(), {int(number)})\n"
        "sys.meta_path.insert(0, Slow())\n"
        "sys.argv[1:] = ['-V']\n"
        "command.main()\n"
        "print('it went on')\n"
    )
    done = run(program)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.parametrize("closed", ["", "0", "1", "2", "01", "02", "12", "012"])
def test_closed_standard_descriptors_are_opened(closed, tmp_path):
    program = (
        "import os, sys\n"
        "from pymcd.startup import open_standard_descriptors\n"
        "open_standard_descriptors()\n"
        "open_standard_descriptors()\n"
        "print('out'); print('err', file=sys.stderr); sys.stdout.flush()\n"
        "null = os.stat(os.devnull).st_rdev\n"
        "opened = ''.join(str(fd) for fd in range(3)\n"
        "                 if os.fstat(fd).st_rdev == null and os.get_inheritable(fd))\n"
        "first = open(os.devnull).fileno()\n"
        "streams = [stream.fileno() for stream in (sys.stdin, sys.stdout, sys.stderr)]\n"
        "open(sys.argv[1], 'w').write(repr((opened, first > 2, streams)))\n"
    )
    path = tmp_path / "report"
    done = run(program, str(path), closed=closed)
    assert done.returncode == 0, done.stderr
    opened, is_above, streams = eval(path.read_text())
    assert set(closed) <= set(opened)
    assert is_above
    assert streams == [0, 1, 2]
    assert done.stdout == ("" if "1" in closed else "out\n")
    assert done.stderr == ("" if "2" in closed else "err\n")


@pytest.mark.slow
@pytest.mark.parametrize("closed", ["02", "012"])
def test_a_child_of_tests_needs_no_standard_descriptors(closed, tmp_path):
    program = (
        "import sys\n"
        "from pymcd.testing import MemcachedServer\n"
        "if __name__ == '__main__':\n"
        "    with MemcachedServer(process=True) as server:\n"
        "        server.put('k', b'v')\n"
        "        open(sys.argv[1], 'wb').write(server.items()[b'k'].value)\n"
    )
    path = tmp_path / "report"
    done = run(program, str(path), closed=closed)
    assert path.exists(), done
    assert (done.returncode, path.read_bytes()) == (0, b"v")


def test_stderr_becomes_our_own_and_stays_what_it_is_for_others() -> None:
    program = (
        "import os\n"
        "from pymcd.startup import own_stderr\n"
        "shared = os.dup(2)\n"
        "own_stderr()\n"
        "print(os.get_blocking(2), os.get_blocking(shared), os.get_inheritable(2))\n"
        "os.write(2, b'x')\n"
    )
    done = run(program)
    assert (done.stdout, done.stderr) == ("False True True\n", "x")


@pytest.mark.slow
def test_what_is_wrong_is_said_to_nobody_rather_than_waited_for():
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    with contextlib.suppress(BlockingIOError):
        while True:
            os.write(writer, bytes(4096))
    os.set_blocking(writer, True)
    command = [sys.executable, "-m", "pymcd", "--bogus"]
    assert subprocess.run(command, stderr=writer, timeout=60, check=False).returncode == 1
    os.close(writer)
    os.close(reader)


# -- PyPy's collector --------------------------------------------------------------------------


@pytest.fixture
def restarts(monkeypatch) -> list[tuple]:
    """Stand for PyPy, whose collector nobody has said anything to; what would be executed."""
    monkeypatch.setattr(sys.implementation, "name", "pypy")
    for name in PYPY_COLLECTOR:
        monkeypatch.delenv(name, raising=False)
    return []


def restart(restarts: list[tuple]) -> None:
    restart_with_short_collections(lambda *arguments: restarts.append(arguments))


def test_on_pypy_the_same_command_is_started_with_short_collections(restarts, monkeypatch):
    monkeypatch.setattr(sys, "orig_argv", ["pypy3", "-m", "pymcd", "-p", "0"])
    restart(restarts)
    ((program, words, environment),) = restarts
    assert (program, words) == (sys.executable, ["pypy3", "-m", "pymcd", "-p", "0"])
    assert environment == os.environ | PYPY_COLLECTOR


@pytest.mark.parametrize("name", PYPY_COLLECTOR)
def test_whoever_has_said_how_pypy_collects_is_left_alone(name, restarts, monkeypatch):
    monkeypatch.setenv(name, "16MB")
    restart(restarts)
    assert restarts == []


def test_a_restart_ends_with_the_first(restarts, monkeypatch):
    for name, value in PYPY_COLLECTOR.items():
        monkeypatch.setenv(name, value)
    restart(restarts)
    assert restarts == []


def test_other_interpreters_are_not_started_again(restarts, monkeypatch):
    monkeypatch.setattr(sys.implementation, "name", "cpython")
    restart(restarts)
    assert restarts == []


def test_who_cannot_be_started_again_goes_on(restarts):
    def fail(*arguments: object) -> None:
        raise FileNotFoundError

    restart_with_short_collections(fail)
