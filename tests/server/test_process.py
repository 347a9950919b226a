"""The process around a server: start, files, background, privileges, signals, exit codes.

Real processes, so each waits for something that the server does (a log line, the parent's exit, a
reply), never for time to pass.
"""

from __future__ import annotations

import contextlib
import os
import pty
import pwd
import resource
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import types
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
import trio

from pymcd import __version__
from pymcd.config import Settings
from pymcd.exits import ConfigError
from pymcd.readiness import Readiness, State
from pymcd.server import daemon
from pymcd.server import process as server_process
from pymcd.server.daemon import connections_beside_links
from pymcd.server.introduction import introduction
from pymcd.server.log import Log
from pymcd.startup import Signals
from pymcd.web.pages import PAGES

if TYPE_CHECKING:
    from collections.abc import Iterator

COMMAND = [sys.executable, "-m", "pymcd"]
IS_ROOT = os.geteuid() == 0
USER = ["-u", "nobody"] if IS_ROOT else []
VERSION = b"VERSION 1.6.45\r\n"
PATIENCE_S = 30

pytestmark = pytest.mark.slow


@pytest.fixture
def folder() -> Iterator[Path]:
    """Give a directory in which whoever the server becomes may write, with a short path."""
    path = Path(tempfile.mkdtemp())
    path.chmod(0o777)
    yield path
    shutil.rmtree(path)


def ask(address: str | tuple[str, int], request: bytes = b"version\r\n") -> bytes:
    """Send one request on a connection of its own and return the first part of the reply."""
    family = socket.AF_UNIX if isinstance(address, str) else socket.AF_INET
    with socket.socket(family) as sock:
        sock.settimeout(PATIENCE_S)
        sock.connect(address)
        sock.sendall(request)
        return sock.recv(65536)


@contextmanager
def started(*arguments: str, **environment: str) -> Iterator[subprocess.Popen[str]]:
    """Run a server in the foreground, until it says that it listens."""
    process = subprocess.Popen(
        [*COMMAND, *USER, "-vv", *arguments],
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, **environment},
    )
    try:
        assert process.stderr is not None
        for line in process.stderr:
            if "server listening" in line:
                break
        else:
            raise AssertionError("it did not start")
        yield process
    finally:
        if process.poll() is None:
            process.kill()
        process.communicate(timeout=PATIENCE_S)


def finish(process: subprocess.Popen[str], number: signal.Signals) -> tuple[int, str]:
    """Send a signal; return the exit code and the last line of the log."""
    process.send_signal(number)
    log = rest_of_log(process)
    return process.returncode, log.splitlines()[-1]


def rest_of_log(process: subprocess.Popen[str]) -> str:
    """Return what a server that is about to end still says, or has said and we have not read.

    Not `communicate`: that knows nothing of what lies in the buffer of `process.stderr`.
    """
    assert process.stderr is not None
    log = process.stderr.read()
    process.wait(PATIENCE_S)
    return log


def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the command until the process that was started has exited."""
    return subprocess.run(
        [*COMMAND, *USER, *arguments],
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        env={**os.environ, **environment},
    )


@pytest.mark.parametrize(
    ("number", "last_words"),
    [
        (signal.SIGTERM, "Exiting normally"),
        (signal.SIGINT, "Exiting normally"),
        (signal.SIGUSR1, "Gracefully stopping"),
    ],
)
def test_signals_end_it_with_success(folder: Path, number: signal.Signals, last_words: str) -> None:
    path = folder / "socket"
    pid_file = folder / "pid"
    with started("-s", str(path), "-P", str(pid_file)) as process:
        assert ask(str(path)) == VERSION
        assert pid_file.read_text() == f"{process.pid}\n"
        assert finish(process, number) == (0, last_words)
    assert list(folder.iterdir()) == []


def test_a_second_signal_ends_it_at_once(folder: Path) -> None:
    path = folder / "socket"
    arguments = ("-s", str(path), "--shutdown-timeout", "1000")
    with started(*arguments) as process, socket.socket(socket.AF_UNIX) as client:
        client.settimeout(PATIENCE_S)
        client.connect(str(path))
        client.sendall(b"version\r\nset a 0 0 5\r\nab")
        assert client.recv(100) == VERSION
        process.send_signal(signal.SIGTERM)
        # It goes on for this client, but listens no more.
        while path.exists():
            assert process.poll() is None
        assert finish(process, signal.SIGTERM) == (0, "Exiting normally")
        assert client.recv(100) == b""


def get(port: int, path: str) -> tuple[int, bytes]:
    """Ask by HTTP; return status and body."""
    request = f"GET {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
    answer = b""
    with socket.create_connection(("127.0.0.1", port), PATIENCE_S) as sock:
        sock.sendall(request.encode())
        while data := sock.recv(65536):
            answer += data
    head, _, body = answer.partition(b"\r\n\r\n")
    return int(head.split()[1]), body


def test_who_is_to_end_says_so_and_serves_until_the_second_signal(folder: Path) -> None:
    path, (port,) = folder / "socket", free_ports(1)
    where = ("--http", f"127.0.0.1:{port}", "--drain-delay", "1000")
    with started("-s", str(path), *where) as process:
        assert get(port, "/readyz") == (200, b"single: there are no peers\n")
        process.send_signal(signal.SIGTERM)
        while get(port, "/readyz") != (503, b"draining: it is about to stop\n"):
            assert process.poll() is None
        assert ask(str(path)) == VERSION
        assert finish(process, signal.SIGTERM) == (0, "Exiting normally")


def test_a_log_that_nobody_reads_stops_nothing(folder: Path) -> None:
    path = folder / "socket"
    requests = b"get %b\r\n" % (b"k" * 200) * 200
    with started("-s", str(path)) as process, socket.socket(socket.AF_UNIX) as client:
        client.settimeout(PATIENCE_S)
        client.connect(str(path))
        # More than the pipe holds, and the server keeps.
        for _ in range(30):
            client.sendall(requests)
            answer = b""
            while len(answer) < 200 * len(b"END\r\n"):
                answer += client.recv(65536)
        process.send_signal(signal.SIGTERM)
        process.wait(PATIENCE_S)
        log = rest_of_log(process)
    assert process.returncode == 0
    assert 0 < len(log) < 6000 * 200
    assert list(folder.iterdir()) == []


def connect_at_once(path: Path, process: subprocess.Popen[str]) -> socket.socket:
    """Connect in the moment in which the system lets us."""
    while True:
        sock = socket.socket(socket.AF_UNIX)
        sock.settimeout(PATIENCE_S)
        try:
            sock.connect(str(path))
        except OSError:
            sock.close()
            assert process.poll() is None
            os.sched_yield()
        else:
            return sock


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
def test_signals_as_soon_as_somebody_connects_end_it_properly(
    folder: Path, number: signal.Signals
) -> None:
    path = folder / "socket"
    command = [*COMMAND, *USER, "-s", str(path), "-P", str(folder / "pid")]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        client = connect_at_once(path, process)
        process.send_signal(signal.SIGHUP)
        process.send_signal(number)
        process.send_signal(number)
        log = rest_of_log(process)
        client.close()
    assert (process.returncode, log.replace("Gracefully stopping\n", "")) == (0, "")
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize("daemon", [[], ["-d"]])
def test_without_standard_descriptors_it_serves(folder: Path, daemon: list[str]) -> None:
    path, pid_file = folder / "socket", folder / "pid"
    command = [*COMMAND, *USER, "-vv", "-s", str(path), "-P", str(pid_file), *daemon]
    shell = ["sh", "-c", 'exec "$@" <&- >&- 2>&-', "sh"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    with subprocess.Popen([*shell, *command], env=environment) as process:
        while not pid_file.exists():
            assert process.poll() in (None, 0)
        assert ask(str(path)) == VERSION
        end(int(pid_file.read_text()))
    assert process.returncode == 0
    assert list(folder.iterdir()) == []


def test_process_1_of_a_namespace_hears_signals(folder: Path) -> None:
    path = folder / "socket"
    unshare = ["unshare", "--pid", "--fork", "--kill-child"]
    if (
        shutil.which("unshare") is None
        or subprocess.run([*unshare, "true"], check=False).returncode
    ):
        pytest.skip("needs to be allowed a namespace")
    with subprocess.Popen([*unshare, *COMMAND, *USER, "-s", str(path)]) as process:
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
        while not (child := children.read_text()):
            assert process.poll() is None
        # What is not caught is not even sent to it.
        status = Path(f"/proc/{child.strip()}/status")
        wanted = 1 << signal.SIGTERM - 1
        while not int(status.read_text().split("SigCgt:\t")[1].split()[0], 16) & wanted:
            assert process.poll() is None
            os.sched_yield()
        os.kill(int(child), signal.SIGTERM)
    assert process.returncode == 0
    assert list(folder.iterdir()) == []


@contextmanager
def in_background(folder: Path, *arguments: str, **environment: str) -> Iterator[int]:
    """Run a daemon in `folder`, where its pid file is; give its pid once its parent has exited."""
    pid_file = folder / "pid"
    try:
        process = subprocess.run(
            [*COMMAND, *USER, "-d", "-P", "pid", *arguments],
            capture_output=True,
            text=True,
            timeout=PATIENCE_S,
            cwd=folder,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), **environment},
        )
        assert (process.returncode, process.stdout, process.stderr) == (0, "", "")
        yield int(pid_file.read_text())
    finally:
        # Even when nothing else worked: no daemon is left behind.
        if pid_file.exists():
            end(int(pid_file.read_text()))
    assert not pid_file.exists()


def end(pid: int) -> None:
    """Stop a daemon and wait until it is gone."""
    waiter = os.pidfd_open(pid)
    try:
        os.kill(pid, signal.SIGTERM)
        select.select([waiter], [], [], PATIENCE_S)
    finally:
        os.close(waiter)


def test_hangup_opens_the_log_again(folder: Path) -> None:
    path, log = folder / "socket", folder / "log"
    with in_background(folder, "-s", "socket", "-vv", "--log-file", "log") as pid:
        log.rename(folder / "log.1")
        os.kill(pid, signal.SIGHUP)
        while not log.exists():
            assert ask(str(path)) == VERSION
    assert "server listening" in (folder / "log.1").read_text()
    assert "Exiting normally" in log.read_text()


def test_a_daemon_listens_when_its_parent_exits(folder: Path) -> None:
    # Relative names mean where it was started, not the root, where a daemon goes.
    arguments = ("-p", "-1", "-U", "-1", "-l", "127.0.0.1")
    with in_background(folder, *arguments, MEMCACHED_PORT_FILENAME="ports") as pid:
        tcp, udp = (folder / "ports").read_text().splitlines()
        assert tcp.startswith("TCP INET: ")
        assert udp.startswith("UDP INET: ")
        address = ("127.0.0.1", int(tcp.split()[-1]))
        assert ask(address) == VERSION
        assert f"STAT pid {pid}\r\n".encode() in ask(address, b"stats\r\n")
        assert os.getsid(pid) == pid
        assert Path(f"/proc/{pid}/cwd").readlink() == Path("/")


def test_a_daemon_that_cannot_start_says_so_where_it_was_started(folder: Path) -> None:
    path = folder / "no" / "socket"
    process = run("-d", "-s", str(path))
    assert process.returncode == 71
    assert process.stderr == (
        f"failed to listen on UNIX socket: {path}: No such file or directory\n"
    )


@pytest.mark.parametrize("daemon", [[], ["-d"]])
def test_a_taken_port_is_one_line(daemon: list[str]) -> None:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        sock.listen()
        port = sock.getsockname()[1]
        process = run(*daemon, "-p", str(port))
    assert process.returncode == 71
    assert process.stderr == f"failed to listen on TCP port {port}: Address already in use\n"


@pytest.mark.parametrize(
    "words", [("-o", "slab_chunk_max=1"), ("-f", "1.0000001", "-n", "1", "-R", "2147483647")]
)
def test_the_edges_of_numbers_are_served_and_left_at_once(
    words: tuple[str, ...], folder: Path
) -> None:
    path = folder / "socket"
    with started("-s", str(path), *words) as process:
        value = bytes(700_000)
        assert ask(str(path), b"set a 0 0 700000\r\n%b\r\n" % value) == b"STORED\r\n"
        assert ask(str(path), b"get a\r\n").startswith(b"VALUE a 0 700000\r\n")
        assert finish(process, signal.SIGTERM) == (0, "Exiting normally")


def test_too_many_connections_for_the_system() -> None:
    process = run("-c", "2000000000", "-p", "-1")
    assert process.returncode == 71
    assert process.stderr == (
        "failed to set rlimit for open files."
        " Try starting as root or requesting smaller maxconns value.\n"
    )


def test_files_that_cannot_be_written_stop_nothing(folder: Path) -> None:
    path = folder / "socket"
    with started("-s", str(path), "-P", str(folder / "no" / "pid")) as process:
        assert ask(str(path)) == VERSION
        process.send_signal(signal.SIGTERM)
        log = rest_of_log(process)
    assert process.returncode == 0
    assert f'Failed to open "{folder}/no/pid.tmp": No such file or directory' in log


def test_a_file_of_ours_is_no_link_to_another(folder: Path) -> None:
    victim = folder / "victim"
    victim.write_text("precious")
    log = Log(realtime=lambda: 0.0)
    for suffix, write in [
        (".tmp", lambda path: daemon.write_pid_file(path, log)),
        (".lck", lambda path: daemon.write_port_file(path, [], log)),
    ]:
        for link in (folder / f"file{suffix}", folder / "file"):
            link.unlink(missing_ok=True)
            link.symlink_to(victim)
        write(str(folder / "file"))
        assert victim.read_text() == "precious"
        assert not (folder / "file").is_symlink()
        assert (folder / "file").stat().st_mode & 0o7777 == 0o644
        assert sorted(each.name for each in folder.iterdir()) == ["file", "victim"]
    assert (folder / "file").read_text() == ""


def test_no_draft_stays_of_a_file_that_cannot_be(
    folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (folder / "pid").mkdir()
    daemon.write_pid_file(str(folder / "pid"), Log(realtime=lambda: 0.0))
    assert [each.name for each in folder.iterdir()] == ["pid"]
    assert capfd.readouterr().err == (
        f'Failed to rename "{folder}/pid.tmp" to "{folder}/pid": Is a directory\n'
    )


def test_the_pid_file_of_another_is_left_alone(folder: Path) -> None:
    path = folder / "pid"
    daemon.remove_pid_file(str(path))
    for content in ("", "x", "1\n", "1" * 100):
        path.write_text(content)
        daemon.remove_pid_file(str(path))
        assert path.read_text() == content
    path.write_text(f"{os.getpid()}\n")
    daemon.remove_pid_file(str(path))
    assert not path.exists()
    os.mkfifo(path)
    daemon.remove_pid_file(str(path))


@pytest.mark.skipif(not IS_ROOT, reason="needs root")
def test_privileges_are_dropped(folder: Path) -> None:
    path = folder / "socket"
    nobody = pwd.getpwnam("nobody")
    with started("-s", str(path)) as process:
        status = Path(f"/proc/{process.pid}/status").read_text()
        fields = dict(line.split(":", 1) for line in status.splitlines())
        assert fields["Uid"].split() == [str(nobody.pw_uid)] * 4
        assert fields["Gid"].split() == [str(nobody.pw_gid)] * 4
        assert fields["Groups"].split() == []
        assert path.stat().st_uid == nobody.pw_uid
        assert finish(process, signal.SIGTERM)[0] == 0


@pytest.mark.skipif(not IS_ROOT, reason="needs root")
def test_a_socket_path_without_permission_is_one_line(folder: Path) -> None:
    folder.chmod(0o700)
    process = run("-s", str(folder / "socket"))
    assert process.returncode == 71
    assert process.stderr == (
        f"failed to listen on UNIX socket: {folder}/socket: Permission denied\n"
    )


@pytest.mark.skipif(not IS_ROOT, reason="needs root")
def test_everything_is_imported_before_privileges_drop(folder: Path) -> None:
    # An installation that only root can read: nothing may be missing afterwards.
    package = folder / "private" / "pymcd"
    shutil.copytree(Path(__file__).parents[2] / "pymcd", package)
    package.parent.chmod(0o700)
    path, (port,) = folder / "socket", free_ports(1)
    arguments = ("-s", str(path), "--http", f"127.0.0.1:{port}", "--drain-delay", "0")
    with started(*arguments, PYTHONPATH=str(package.parent)) as process:
        requests = b"stats\r\nstats settings\r\nstats items\r\nlru_crawler metadump all\r\n"
        assert ask(str(path), requests).startswith(b"STAT pid ")
        assert ask(str(path)) == VERSION
        for page in PAGES:
            assert get(port, page)[0] == 200
        assert get(port, "/nothing")[0] == 404
        process.send_signal(signal.SIGTERM)
        log = rest_of_log(process)
    assert process.returncode == 0
    assert "Traceback" not in log


@pytest.mark.skipif(not IS_ROOT, reason="needs root")
def test_a_pair_needs_no_module_after_privileges_drop(folder: Path) -> None:
    package = folder / "private" / "pymcd"
    shutil.copytree(Path(__file__).parents[2] / "pymcd", package)
    package.parent.chmod(0o700)
    (folder / "secret").write_text("not for everybody")
    (folder / "secret").chmod(0o600)
    common = ["--replication-secret-file", str(folder / "secret"), "-vv"]
    ports = free_ports(2)
    with contextlib.ExitStack() as stack:
        processes = [
            stack.enter_context(
                started(
                    *("-s", str(folder / name), *common, "--replication-port", str(port)),
                    *("--node-id", name, "--peer", f"localhost:{other}"),
                    PYTHONPATH=str(package.parent),
                )
            )
            for name, port, other in zip("ab", ports, reversed(ports), strict=True)
        ]
        logs = [read_log_until(process, "listening (auto") for process in processes]
        assert ask(str(folder / "a"), b"set k 0 0 1\r\nx\r\n") == b"STORED\r\n"
        assert ask(str(folder / "b"), b"get k\r\n") == b"VALUE k 0 1\r\nx\r\nEND\r\n"
        for process, log in zip(processes, logs, strict=True):
            process.send_signal(signal.SIGTERM)
            assert "Traceback" not in log + rest_of_log(process)
            assert process.returncode == 0


def test_a_port_that_is_lost_meanwhile_is_one_line() -> None:
    # Between two servers that both wait to listen at the same port, the first who may has it.
    port, replication_port, nobody = map(str, free_ports(3))
    group = ("--replication-listen", "127.0.0.1", "--replication-port", replication_port)
    peer = ("--peer", f"127.0.0.1:{nobody}", "--sync-timeout", "2")
    with (
        started("-l", "127.0.0.1", "-p", port, *group, *peer) as process,
        socket.socket() as faster,
    ):
        faster.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        faster.bind(("127.0.0.1", int(port)))
        faster.listen()
        log = rest_of_log(process)
    assert process.returncode == 71
    assert log.splitlines()[-1].startswith("failed to listen on")
    assert log.count("failed to listen on") == 1


def free_ports(number: int) -> list[int]:
    """Return ports that nobody listens on now."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(number)]
        for sock in sockets:
            sock.bind(("127.0.0.1", 0))
        return [sock.getsockname()[1] for sock in sockets]


def read_log_until(process: subprocess.Popen[str], words: str) -> str:
    """Return what a server says, up to a line with these words."""
    assert process.stderr is not None
    log = ""
    for line in process.stderr:
        log += line
        if words in line:
            return log
    raise AssertionError(log)


@pytest.mark.parametrize(
    ("descriptors", "clients"), [(resource.RLIM_INFINITY, 1024), (4096, 1024), (1024, 960), (50, 1)]
)
def test_a_full_server_has_descriptors_for_its_peers(
    descriptors: int, clients: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda kind: (descriptors, descriptors))
    assert connections_beside_links(1024) == clients


INFINITY = resource.RLIM_INFINITY


@pytest.mark.parametrize(
    ("limits", "may_raise", "conn_limit", "expected"),
    [
        ((1024, 4096), False, 100, (1024, 4096)),  # enough as it is
        ((INFINITY, INFINITY), False, 100, (INFINITY, INFINITY)),
        ((1024, 4096), False, 1024, (1088, 4096)),
        ((1024, INFINITY), False, 5000, (5064, INFINITY)),
        ((1024, 1024), True, 1024, (1088, 1088)),
        # Not all that we would like, but never less than there was.
        ((1024, 1024), False, 1024, (1024, 1024)),
        ((64, 64), False, 5, (64, 64)),
        ((1024, 1050), False, 1000, (1050, 1050)),
        ((24, 24), False, 1, (24, 24)),
        ((1024, 1024), False, 1025, None),
        ((1024, 1030), False, 2000, None),
        ((23, 23), False, 1, None),
    ],
)
def test_the_limit_of_descriptors(
    limits: tuple[int, int],
    may_raise: bool,
    conn_limit: int,
    expected: tuple[int, int] | None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = limits

    def set_limit(kind: int, new: tuple[int, int]) -> None:
        nonlocal now
        if new[1] > now[1] != INFINITY and not may_raise:
            raise ValueError("not allowed to raise maximum limit")
        now = new

    monkeypatch.setattr(resource, "getrlimit", lambda kind: now)
    monkeypatch.setattr(resource, "setrlimit", set_limit)
    if expected is None:
        with pytest.raises(ConfigError, match="failed to set rlimit for open files"):
            daemon.raise_descriptor_limit(conn_limit)
        assert now == limits
    else:
        daemon.raise_descriptor_limit(conn_limit)
        assert now == expected


def endpoint(address: str, transport: str = "tcp", tls: str | None = None) -> Any:
    return SimpleNamespace(address=address, transport=transport, tls=tls)


EVERYWHERE = [endpoint("tcp:0.0.0.0:11211"), endpoint("tcp6:[::]:11211")]
HERE = [endpoint("tcp:127.0.0.1:5")]

# Settings, endpoints, of what a node says why it is not ready, and what is said of all that.
INTRODUCTIONS: list[tuple[dict[str, Any], list[Any], str, str]] = [
    ({}, EVERYWHERE, "", "*:11211; 64 MB for items"),
    ({"memory_limit_bytes": 1 << 30}, HERE, "", "127.0.0.1:5; 1024 MB for items"),
    ({}, [endpoint("unix:/run/x:y", "local")], "", "/run/x:y; 64 MB for items"),
    (
        {},
        [*HERE, endpoint("udp:127.0.0.1:5", "udp"), endpoint("tcp6:[::1]:6", tls="tls")],
        "",
        "127.0.0.1:5, 127.0.0.1:5 (UDP), [::1]:6 (TLS); 64 MB for items",
    ),
    (
        {"peers": ("cache-2",)},
        [*EVERYWHERE, endpoint("replication:0.0.0.0:11212", "replication")],
        "waiting for cache-2:11212",
        "*:11211; 64 MB for items; peer cache-2:11212; waiting for cache-2:11212",
    ),
    (
        {"peers": ("b", "c:5"), "replication_secret_file": "s"},
        HERE,
        "",
        "127.0.0.1:5; 64 MB for items; peers b:11212, c:5",
    ),
    ({"port": 0}, [], "", "nowhere; 64 MB for items"),
    (
        {"http": "*"},
        [*HERE, endpoint("http:0.0.0.0:6", "http"), endpoint("http6:[::]:6", "http")],
        "",
        "127.0.0.1:5; 64 MB for items; HTTP at *:6",
    ),
]


@pytest.mark.parametrize(("found", "endpoints", "reason", "words"), INTRODUCTIONS)
def test_what_it_says_of_itself(
    found: dict[str, Any], endpoints: list[Any], reason: str, words: str
) -> None:
    found = {"replication_secret_file": "s"} | found if found.get("peers") else found
    readiness = Readiness(not reason, State.STARTING if reason else State.SINGLE, reason)
    said = introduction(Settings(**found), endpoints, readiness)
    assert said == f"pymcd {__version__} at {words}"


WATCHED = ["--http", "127.0.0.1:0", "--drain-delay", "0"]


@pytest.mark.parametrize(("verbose", "lines"), [([], 0), (["-v"], 1), (WATCHED, 1)])
def test_it_says_so_to_who_asks(folder: Path, verbose: list[str], lines: int) -> None:
    path, pid_file = folder / "socket", folder / "pid"
    process = subprocess.Popen(
        [*COMMAND, *USER, "-s", str(path), "-P", str(pid_file), *verbose],
        stderr=subprocess.PIPE,
        text=True,
    )
    with process:
        while not pid_file.exists():
            assert process.poll() is None
        process.terminate()
        log = rest_of_log(process)
    assert log.count(f"pymcd {__version__} at {path}; 64 MB for items") == lines


def test_it_says_so_on_a_terminal(folder: Path) -> None:
    leader, terminal = pty.openpty()
    command = [*COMMAND, *USER, "-s", str(folder / "socket")]
    with subprocess.Popen(command, stderr=terminal) as process:
        os.close(terminal)
        with open(leader, "rb", buffering=0) as screen:
            said = b""
            while not said.endswith(b"\n"):
                said += screen.read(4096)
            process.terminate()
    assert process.returncode == 0
    assert said.decode() == f"pymcd {__version__} at {folder}/socket; 64 MB for items\r\n"


def test_the_order_of_a_start(monkeypatch: pytest.MonkeyPatch) -> None:
    """What needs root comes first, what belongs to the user last, and files when all is ready."""
    steps: list[str] = []

    def note(place: object, name: str, result: object = None) -> None:
        def step(*arguments: object, **named: object) -> object:
            steps.append(name)
            return result

        monkeypatch.setattr(place, name, step)

    def serve(task: object, *arguments: object) -> None:
        ready = next(each for each in arguments if isinstance(each, types.FunctionType))
        steps.append("serve")
        ready()

    unix_endpoint = SimpleNamespace(
        transport="local", address="unix:socket", tls=None, close=lambda: steps.append("close")
    )
    note(server_process, "Certificates", object())
    secrets = SimpleNamespace(secrets=[b"s" * 32], reload=lambda: None)
    note(server_process, "PeerSecrets", secrets)
    note(daemon, "allow_core_dumps")
    note(daemon, "raise_descriptor_limit")
    note(server_process, "open_internet_endpoints", [])
    note(daemon, "drop_privileges")
    note(daemon, "detach", lambda exit_code: steps.append(f"tell the parent {exit_code}"))
    note(server_process, "open_unix_endpoint", unix_endpoint)
    note(server_process, "tame_collector")
    monkeypatch.setattr(trio, "run", serve)
    note(daemon, "write_pid_file")
    note(daemon, "remove_pid_file")
    settings = Settings(
        enable_coredumps=True,
        daemon=True,
        unix_socket="socket",
        pidfile="pid",
        peers=("127.0.0.1:1",),
        replication_secret_file="secret",
        replication_tls=True,
        ssl_chain_cert="chain",
        ssl_key="key",
        ssl_ca_cert="authority",
    )
    assert server_process.run(settings, Signals()) == 0
    assert steps == [
        "Certificates",
        "PeerSecrets",
        "allow_core_dumps",
        "raise_descriptor_limit",
        "open_internet_endpoints",
        "drop_privileges",
        "detach",
        "open_unix_endpoint",
        "tame_collector",
        "serve",
        "write_pid_file",
        "tell the parent 0",
        "close",
        "remove_pid_file",
    ]
