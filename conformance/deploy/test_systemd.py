"""Our units under a real systemd: when they are active, how they end, what they may do."""

from __future__ import annotations

import os
import re
import signal
import socket
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from conformance.trial import TrialError, free_port, until
from tests.papers.blocks import DOCS, blocks

from .manager import SOURCES, UNITS, Systemd, why_not

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.skipif(bool(why_not()), reason=why_not())

NAMES = ("pymcd", "a", "b", "lonely", "hangs", "refused", "witness", "link-a", "link-b", "nobody")
PORTS = {name: free_port() for name in NAMES}
VERSION = b"VERSION 1.6.45\r\n"
#: A node that finds nobody serves after so long; systemd itself would wait for less.
SYNC_TIMEOUT_S, START_TIMEOUT_S = 9, 6


def configuration(name: str, *more: str) -> str:
    return "\n".join(("-m 64", "-l 127.0.0.1", f"-p {PORTS[name]}", *more, ""))


def node(name: str, other: str) -> str:
    return configuration(
        name,
        f"--node-id {name}",
        f"--replication-port {PORTS[f'link-{name}']}",
        f"--peer 127.0.0.1:{PORTS[f'link-{other}']}",
    )


def logged(*lines: str) -> str:
    """Return what is added to a service, so that we can read what it says."""
    return "\n".join(("[Service]", "StandardError=append:/run/%n.log", *lines, ""))


def witness() -> str:
    text = (UNITS / "pymcd-witness.service").read_text()
    line: str
    (line,) = re.findall(r"^ExecStart=.*$", text, re.MULTILINE)
    return "ExecStart=\n" + line.replace("--listen=*", f"--listen=127.0.0.1:{PORTS['witness']}")


FILES = {
    "/etc/pymcd/pymcd.conf": configuration("pymcd"),
    "/etc/pymcd/a.conf": node("a", "b"),
    "/etc/pymcd/b.conf": node("b", "a"),
    "/etc/pymcd/lonely.conf": configuration(
        "lonely", f"--peer 127.0.0.1:{PORTS['nobody']}", f"--sync-timeout {SYNC_TIMEOUT_S}"
    ),
    "/etc/pymcd/hangs.conf": configuration("hangs"),
    "/etc/pymcd/refused.conf": configuration("refused", "--peer 127.0.0.1"),
    "/etc/pymcd/secret": "a secret of a trial\n",
    "/etc/systemd/system/pymcd@refused.socket": (
        f"[Socket]\nListenStream=127.0.0.1:{PORTS['refused']}\n"
    ),
}
DROPINS = {
    "pymcd.service": logged(),
    "pymcd.socket": f"[Socket]\nListenStream=\nListenStream=127.0.0.1:{PORTS['pymcd']}\n",
    "pymcd@.service": logged(),
    "pymcd@lonely.service": logged(f"TimeoutStartSec={START_TIMEOUT_S}"),
    "pymcd@hangs.service": logged("WatchdogSec=1"),
    "pymcd-witness.service": logged(witness()),
}


@pytest.fixture(scope="module")
def systemd() -> Iterator[Systemd]:
    with Systemd(FILES, DROPINS) as found:
        yield found


@contextmanager
def running(systemd: Systemd, *units: str) -> Iterator[None]:
    """Have units run, which are active when this begins."""
    try:
        systemd.do("start", *units)
        yield
    finally:
        systemd.do("stop", *units)


def ask(name: str, request: bytes = b"version\r\n", end: bytes = b"\r\n") -> bytes:
    with socket.create_connection(("127.0.0.1", PORTS[name]), 10) as client:
        client.settimeout(30)
        client.sendall(request)
        answer = b""
        while not answer.endswith(end):
            data = client.recv(4096)
            if not data:
                raise TrialError(f"closed after {answer!r}")
            answer += data
    return answer


def listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def log(systemd: Systemd, unit: str) -> str:
    return systemd.inside("cat", f"/run/{unit}.log").stdout


def test_a_server_is_active_when_clients_may_come(systemd: Systemd) -> None:
    with running(systemd, "pymcd.service"):
        assert ask("pymcd") == VERSION
        assert systemd.shows("pymcd.service", "StatusText") == "single: there are no peers"
        status = Path(f"/proc/{systemd.pid('pymcd.service')}/status").read_text()
        assert "NoNewPrivs:\t1\n" in status
        assert "Seccomp:\t2\n" in status
        assert "CapBnd:\t0000000000000000\n" in status
        assert "Uid:\t0" not in status
    assert systemd.shows("pymcd.service", "Result") == "success"
    assert systemd.shows("pymcd.service", "ExecMainStatus") == "0"
    assert log(systemd, "pymcd.service") == ""


def test_a_reload_is_over_when_all_is_read(systemd: Systemd) -> None:
    with running(systemd, "pymcd.service"):
        systemd.do("reload", "pymcd.service")
        assert systemd.shows("pymcd.service", "SubState") == "running"
        assert ask("pymcd") == VERSION


@pytest.mark.slow
def test_nodes_are_active_when_they_have_what_others_have(systemd: Systemd) -> None:
    nodes = ("pymcd@a.service", "pymcd@b.service")
    with running(systemd, *nodes):
        assert ask("a", b"set key 0 0 5\r\nvalue\r\n") == b"STORED\r\n"
        for _ in range(2):
            for name, unit in zip("ab", nodes, strict=True):
                systemd.do("restart", unit)
                assert ask(name, b"get key\r\n", b"END\r\n").split() == (
                    b"VALUE key 0 5 value END".split()
                )
                status = systemd.shows(unit, "StatusText")
                assert status.startswith("in sync: "), status
    for unit in nodes:
        assert systemd.shows(unit, "Result") == "success"


@pytest.mark.slow
def test_who_waits_for_its_peer_has_the_time_for_it(systemd: Systemd) -> None:
    unit = "pymcd@lonely.service"
    systemd.do("start", "--no-block", unit)
    until("it says that it waits", lambda: systemd.shows(unit, "StatusText") != "")
    assert systemd.shows(unit, "StatusText").startswith("starting: ")
    assert systemd.shows(unit, "ActiveState") == "activating"
    with running(systemd, unit):
        assert ask("lonely") == VERSION
        assert systemd.shows(unit, "NRestarts") == "0"
        assert systemd.shows(unit, "StatusText").startswith("alone: ")


@pytest.mark.slow
def test_who_hangs_is_started_anew_and_says_where(systemd: Systemd) -> None:
    unit = "pymcd@hangs.service"
    with running(systemd, unit):
        os.kill(systemd.pid(unit), signal.SIGSTOP)
        until("it is started anew", lambda: systemd.shows(unit, "NRestarts") == "1")
        until("it is active", lambda: systemd.shows(unit, "ActiveState") == "active")
        assert ask("hangs") == VERSION
    assert "Fatal Python error: Aborted" in log(systemd, unit)


@pytest.mark.slow
def test_clients_of_a_socket_wait_for_the_server(systemd: Systemd) -> None:
    with running(systemd, "pymcd.socket"):
        for _ in range(2):
            assert systemd.shows("pymcd.service", "ActiveState") == "inactive"
            assert ask("pymcd") == VERSION
            assert systemd.shows("pymcd.service", "ActiveState") == "active"
            systemd.do("stop", "pymcd.service")


def test_a_node_with_a_socket_is_refused_and_not_tried_again(systemd: Systemd) -> None:
    unit = "pymcd@refused.service"
    with running(systemd, "pymcd@refused.socket"):
        assert systemd.ask("start", unit).returncode != 0
        assert systemd.shows(unit, "ActiveState") == "failed"
        assert systemd.shows(unit, "ExecMainStatus") == "64"
        assert systemd.shows(unit, "NRestarts") == "0"
    assert log(systemd, unit).startswith("ERROR: LISTEN_FDS: a node of a pair must refuse")


def test_a_witness_keeps_its_promises_in_its_folder(systemd: Systemd) -> None:
    unit = "pymcd-witness.service"
    with running(systemd, unit):
        until("it listens", lambda: listens(PORTS["witness"]))
        assert systemd.inside("stat", "-c", "%U %a", "/var/lib/pymcd").stdout == "pymcd 750\n"
    assert systemd.shows(unit, "Result") == "success"


def test_what_the_page_says_installs_it() -> None:
    commands, *_ = (each for each in blocks(DOCS / "deploy.md") if each.section == "systemd")
    with Systemd(installed=False) as systemd:
        done = systemd.inside("bash", "-e", "-c", f"cd {SOURCES}\n{commands.text}")
        assert done.returncode == 0, done.stderr
        assert 'Status: "single: there are no peers"' in done.stdout
        for port, request, answer in (
            (11211, r"version\r\n", "VERSION 1.6.45"),
            (11222, r"GET /readyz HTTP/1.0\r\n\r\n", "HTTP/1.1 200 OK"),
        ):
            talk = f"exec 3<>/dev/tcp/127.0.0.1/{port}; printf '{request}' >&3; head -1 <&3"
            assert systemd.inside("bash", "-c", talk).stdout.strip() == answer
        assert systemd.ask("is-enabled", "pymcd").stdout == "enabled\n"
