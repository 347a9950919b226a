"""`python -m pymcd.testing -- COMMAND`: a server for as long as a command runs."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[2]
TOOL = [sys.executable, "-m", "pymcd.testing"]

SHOW = """
import json, os, socket
place = os.environ["MEMCACHED_HOST"], int(os.environ["MEMCACHED_PORT"])
with socket.create_connection(place) as s:
    s.sendall(b"version\\r\\n")
    print(json.dumps([s.recv(100).decode(), os.environ["MEMCACHED_ADDRESS"], os.environ["MINE"]]))
raise SystemExit(3)
"""
#: Ends by itself when it is told to; or hears that it is told.
WAIT = """
import signal, sys
signal.signal(signal.SIGINT, signal.SIG_DFL)
signal.signal(signal.SIGUSR1, lambda *told: sys.exit(7))
print("ready", flush=True)
signal.pause()
"""


def run(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*TOOL, *words],
        cwd=ROOT,
        env={"MINE": "kept", "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_command_finds_the_server_and_its_exit_code_is_ours() -> None:
    done = run("--", sys.executable, "-c", SHOW)
    assert (done.returncode, done.stderr) == (3, "")
    version, address, mine = json.loads(done.stdout)
    assert (version, mine) == ("VERSION 1.6.45\r\n", "kept")
    host, _, port = address.partition(":")
    with pytest.raises(ConnectionRefusedError):  # it is gone, too
        socket.create_connection((host, int(port)))


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGUSR1, 7), (signal.SIGTERM, 128 + 15), (signal.SIGINT, 128 + 2)]
)
def test_signals_are_passed_on(number: signal.Signals, code: int) -> None:
    running = subprocess.Popen(
        [*TOOL, "--", sys.executable, "-c", WAIT],
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        # Whoever runs these tests in the background has his children ignore it.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    assert running.stdout is not None
    assert running.stdout.readline() == b"ready\n"
    running.send_signal(number)
    _, said = running.communicate()
    assert (running.returncode, said) == (code, b"")


def test_an_interrupt_before_there_is_a_command_is_no_traceback(tmp_path: Path) -> None:
    # In the place of what takes longest to import.
    (tmp_path / "trio.py").write_text("print('begun', flush=True); import time; time.sleep(60)")
    running = subprocess.Popen(
        [*TOOL, "--", "true"],
        cwd=ROOT,
        env={"PATH": "/usr/bin:/bin", "PYTHONPATH": str(tmp_path)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    assert running.stdout is not None
    assert running.stdout.readline() == b"begun\n"
    running.send_signal(signal.SIGINT)
    _, said = running.communicate()
    assert (running.returncode, said) == (-signal.SIGINT, b"")


WRONG: list[tuple[str, list[str], int, str]] = [
    ("not there", ["--", "no-such-command"], 127, "no-such-command: command not found"),
    ("no program", ["--", "/etc/passwd"], 126, "/etc/passwd: Permission denied"),
    ("no command", ["--"], 64, "no command to run; write it after --"),
    ("no dashes", ["npm", "test"], 64, "what is 'npm'? The command to run comes after --"),
    ("unknown option", ["--prot=1", "--", "true"], 64, "what is '--prot=1'?"),
    ("port of letters", ["--port=x", "--", "true"], 64, "invalid int value: 'x'"),
    ("high port", ["--port=80000", "--", "true"], 64, "--port=80000: a port is a number up to"),
    ("odd size", ["-I", "1x", "--", "true"], 64, "--max-item-size='1x': write bytes"),
    ("what to write", ["-I", "1x", "--", "true"], 64, 'or --max-item-size="2m"'),
    ("little memory", ["-m", "1", "--", "true"], 64, "write --memory-limit=2 or more"),
    ("no address", ["--host=192.0.2.1", "--", "true"], 71, "cannot listen on 192.0.2.1:0"),
    ("which address", ["--host=192.0.2.1", "--", "true"], 71, 'write --host="127.0.0.1"'),
]


@pytest.mark.parametrize(("words", "code", "said"), [w[1:] for w in WRONG],
                         ids=[w[0] for w in WRONG])  # fmt: skip
def test_what_is_wrong_is_told_in_one_line(words: list[str], code: int, said: str) -> None:
    done = run(*words)
    assert done.returncode == code, done.stderr
    assert done.stderr.startswith("python -m pymcd.testing: ")
    assert said in done.stderr
    assert done.stderr.count("\n") == 1


def test_a_port_that_is_taken() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        done = run(f"--port={taken.getsockname()[1]}", "--", "true")
    assert done.returncode == 71
    assert "Address already in use; leave --port out" in done.stderr


def test_help() -> None:
    done = run("--help")
    assert done.returncode == 0
    assert "MEMCACHED_ADDRESS" in done.stdout
    assert max(map(len, done.stdout.splitlines())) <= 80
