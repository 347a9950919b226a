"""What a service manager hears: which words, when, and nothing at all without being asked."""

from __future__ import annotations

import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from math import inf
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import trio

from pymcd.readiness import STATES, Readiness, State
from pymcd.server.notify import ALIVE_MIN_S, CHANGING_S, PATIENCE_S, RETRY_S, SETTLED_S, Notifier

from ..clocks import ManualClock
from .helpers import serving
from .test_pair import open_endpoints
from .test_process import PATIENCE_S as PROCESS_S
from .test_process import USER

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

EXTEND = f"EXTEND_TIMEOUT_USEC={round(PATIENCE_S * 1e6)}"


async def until(reached: Callable[[], bool]) -> None:
    """Let the server go on until something has happened."""
    while not reached():
        await trio.lowlevel.checkpoint()


class Manager:
    """A service manager that notes what it is told, unless `error` is to be raised."""

    def __init__(self) -> None:
        self.heard: list[str] = []
        self.warned: list[str] = []
        self.error: OSError | None = None

    def hear(self, words: bytes) -> None:
        if self.error is not None:
            raise self.error
        self.heard.append(words.decode())

    def take(self) -> list[str]:
        heard, self.heard = self.heard, []
        return heard


def is_in(state: State, reason: str = "why") -> Readiness:
    return Readiness(STATES[state][0], state, reason)


@pytest.fixture
def manager() -> Manager:
    return Manager()


@pytest.fixture
def notifier(manager: Manager) -> Notifier:
    return Notifier(manager.hear, manager.warned.append)


# -- states ------------------------------------------------------------------------------------

#: The states that a server goes through, and what is said at each.
LIVES = [
    (
        "alone for ever",
        [
            (State.SINGLE, ["READY=1\nSTATUS=single: why"], inf),
            (State.SINGLE, [], inf),
            (State.DRAINING, [f"STOPPING=1\n{EXTEND}\nSTATUS=draining: why"], CHANGING_S),
            (State.DRAINING, [EXTEND], CHANGING_S),
        ],
    ),
    (
        "a node that copies",
        [
            (State.STARTING, [f"{EXTEND}\nSTATUS=starting: why"], CHANGING_S),
            (State.STARTING, [EXTEND], CHANGING_S),
            (State.IN_SYNC, ["READY=1\nSTATUS=in sync: why"], SETTLED_S),
            (State.IN_SYNC, [], SETTLED_S),
            (State.ALONE, ["STATUS=alone: why"], SETTLED_S),
        ],
    ),
    (
        "a node that is left behind stays ready",
        [
            (State.IN_SYNC, ["READY=1\nSTATUS=in sync: why"], SETTLED_S),
            (State.JOINING, ["STATUS=joining: why"], CHANGING_S),
            (State.IN_SYNC, ["STATUS=in sync: why"], SETTLED_S),
            (State.NO_MAJORITY, ["STATUS=no majority: why"], SETTLED_S),
        ],
    ),
    (
        "a node that waits for a person to decide",
        [
            (State.STARTING, [f"{EXTEND}\nSTATUS=starting: why"], CHANGING_S),
            (State.REFUSED, [f"{EXTEND}\nSTATUS=refused: why"], CHANGING_S),
            (State.REFUSED, [EXTEND], CHANGING_S),
        ],
    ),
    (
        "told to stop before it had begun",
        [
            (State.STARTING, [f"{EXTEND}\nSTATUS=starting: why"], CHANGING_S),
            (State.DRAINING, [f"STOPPING=1\n{EXTEND}\nSTATUS=draining: why"], CHANGING_S),
        ],
    ),
]


@pytest.mark.parametrize("life", [life for _, life in LIVES], ids=[name for name, _ in LIVES])
def test_what_is_said_when(
    life: list[tuple[State, list[str], float]], manager: Manager, notifier: Notifier
) -> None:
    for state, words, look_s in life:
        assert notifier.step(is_in(state)) == look_s
        assert manager.take() == words


def test_each_state_is_known(manager: Manager, notifier: Notifier) -> None:
    for state in State:
        notifier.step(is_in(state))
        assert f"STATUS={state.replace('_', ' ')}: why" in manager.take()[0].split("\n")


def test_how_far_a_copy_is_is_told_while_it_goes_on(manager: Manager, notifier: Notifier) -> None:
    for percent in (10, 20):
        notifier.step(is_in(State.STARTING, f"{percent} %"))
        assert manager.take() == [f"{EXTEND}\nSTATUS=starting: {percent} %"]


# -- the watchdog ------------------------------------------------------------------------------


def test_the_watchdog_is_fed_twice_in_its_time(manager: Manager) -> None:
    notifier = Notifier(manager.hear, manager.warned.append, watchdog_s=6.0)
    assert notifier.step(is_in(State.SINGLE)) == 3.0
    assert manager.take() == ["READY=1\nSTATUS=single: why\nWATCHDOG=1"]
    assert notifier.step(is_in(State.SINGLE)) == 3.0
    assert manager.take() == ["WATCHDOG=1"]


WATCHDOGS = [
    ("not asked for", {}, inf),
    ("ours", {"WATCHDOG_USEC": "3000000", "WATCHDOG_PID": str(os.getpid())}, 1.5),
    ("whoever's", {"WATCHDOG_USEC": "3000000"}, 1.5),
    ("another process's", {"WATCHDOG_USEC": "3000000", "WATCHDOG_PID": "1"}, inf),
    ("zero", {"WATCHDOG_USEC": "0"}, inf),
    ("no number", {"WATCHDOG_USEC": "soon"}, inf),
    ("a digit that is no number", {"WATCHDOG_USEC": "\N{SUPERSCRIPT TWO}"}, inf),
    ("sooner than an event loop can say", {"WATCHDOG_USEC": "1"}, ALIVE_MIN_S),
]


# -- reloading ---------------------------------------------------------------------------------


def test_a_reload_is_told_with_its_time(manager: Manager, notifier: Notifier) -> None:
    notifier.step(is_in(State.SINGLE))
    manager.take()
    before_us = time.monotonic_ns() // 1000
    notifier.reloading()
    (words,) = manager.take()
    first, _, at = words.partition("\nMONOTONIC_USEC=")
    assert first == "RELOADING=1"
    assert before_us <= int(at) <= time.monotonic_ns() // 1000
    notifier.reloaded()
    assert manager.take() == ["READY=1"]


@pytest.mark.parametrize("state", [State.STARTING, State.DRAINING])
def test_who_is_not_up_is_not_reloading(state: State, manager: Manager, notifier: Notifier) -> None:
    notifier.step(is_in(state))
    manager.take()
    notifier.reloading()
    notifier.reloaded()
    assert manager.take() == []


# -- a manager that does not listen --------------------------------------------------------------


def test_what_could_not_be_said_is_said_later(manager: Manager, notifier: Notifier) -> None:
    manager.error = BlockingIOError()
    assert notifier.step(is_in(State.STARTING)) == RETRY_S
    for _ in range(100):
        assert notifier.step(is_in(State.SINGLE)) == RETRY_S
    manager.error = None
    notifier.step(is_in(State.SINGLE))
    assert manager.take() == [f"{EXTEND}\nSTATUS=starting: why", "READY=1\nSTATUS=single: why"]
    assert manager.warned == []


def test_who_is_not_there_is_complained_of_once(manager: Manager, notifier: Notifier) -> None:
    manager.error = FileNotFoundError(2, "No such file or directory")
    assert notifier.step(is_in(State.SINGLE)) == inf
    notifier.step(is_in(State.DRAINING))
    assert manager.warned == ["NOTIFY_SOCKET: nobody can be told: No such file or directory"]


# -- real sockets --------------------------------------------------------------------------------


@pytest.fixture
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as name:
        yield Path(name)


@pytest.mark.parametrize("kind", ["path", "abstract"])
def test_the_socket_is_the_one_that_was_named(kind: str, folder: Path) -> None:
    path = f"{folder}/notify"
    name = "@" + path if kind == "abstract" else path
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind("\0" + path if kind == "abstract" else path)
        notifier = Notifier.from_environment({"NOTIFY_SOCKET": name}, print)
        notifier.step(is_in(State.SINGLE))
        notifier.close()
        assert select.select([sock], [], [], 10)[0]
        assert sock.recv(4096) == b"READY=1\nSTATUS=single: why"


@pytest.mark.parametrize("name", ["vsock:2:1234", "nowhere", "/" + "x" * 200])
def test_a_socket_that_cannot_be_is_one_line(name: str, manager: Manager) -> None:
    notifier = Notifier.from_environment({"NOTIFY_SOCKET": name}, manager.warned.append)
    notifier.step(is_in(State.SINGLE))
    notifier.close()
    (line,) = manager.warned
    assert line.startswith("NOTIFY_SOCKET: nobody can be told: ")


@pytest.mark.parametrize(
    ("environment", "look_s"),
    [row[1:] for row in WATCHDOGS],
    ids=[row[0] for row in WATCHDOGS],
)
def test_whose_watchdog_it_is(environment: dict[str, str], look_s: float, folder: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(f"{folder}/notify")
        named = {"NOTIFY_SOCKET": f"{folder}/notify", **environment}
        notifier = Notifier.from_environment(named, print)
        assert notifier.step(is_in(State.SINGLE)) == look_s
        notifier.close()


# -- a server that is watched ----------------------------------------------------------------------


async def test_a_server_says_how_it_is(manager: Manager, notifier: Notifier) -> None:
    async with serving(notifier=notifier) as server:
        await until(lambda: bool(manager.heard))
        assert manager.take() == ["READY=1\nSTATUS=single: there are no peers"]
        server.reload()
        reloading, ready = manager.take()
        assert reloading.startswith("RELOADING=1\nMONOTONIC_USEC=")
        assert ready == "READY=1"
        # Somebody is in the middle of a value, so it takes its time.
        stream = await server.connect()
        await stream.send_all(b"set a 0 0 10\r\n")
        await until(lambda: bool(server.service.connections))
        server.stop()
        await until(lambda: bool(manager.heard))
        assert manager.heard[0].startswith(f"STOPPING=1\n{EXTEND}\nSTATUS=draining: ")


async def test_a_reload_ends_when_all_has_been_read(manager: Manager, notifier: Notifier) -> None:
    read = threading.Event()
    async with serving(notifier=notifier) as server:
        await until(lambda: bool(manager.heard))
        manager.take()
        server.reload_hooks.append(lambda: server._reread(read.wait, lambda result: None))
        server.reload()
        (reloading,) = manager.take()
        assert reloading.startswith("RELOADING=1\n")
        read.set()
        await until(lambda: bool(manager.heard))
        assert manager.take() == ["READY=1"]


async def test_who_lost_its_port_was_never_ready(manager: Manager, notifier: Notifier) -> None:
    (endpoints, _) = open_endpoints()
    settings: dict[str, Any] = {"replication_listen": ("127.0.0.1:0",), "clock": ManualClock()}

    async def serve() -> None:
        async with serving(endpoints=endpoints, notifier=notifier, **settings) as server:
            await server.finished.wait()

    with socket.socket() as faster:
        faster.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        faster.bind(endpoints[0].sock.getsockname())
        faster.listen()
        with pytest.raises(ExceptionGroup):
            await serve()
    assert not any("READY=1" in words.split("\n") for words in manager.heard)
    assert any("STOPPING=1" in words.split("\n") for words in manager.heard)


async def test_nobody_is_told_without_being_asked() -> None:
    async with serving() as server:
        assert server.readiness_hooks == []
    assert "pymcd.server.notify" not in imported_by("pymcd.server.process")
    assert "pymcd.server.activation" not in imported_by("pymcd.server.process")


def imported_by(module: str) -> list[str]:
    code = f"import sys, {module}; print(*sys.modules)"
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout.split()


@pytest.mark.slow
def test_a_process_tells_its_life(folder: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(f"{folder}/notify")
        folder.chmod(0o777)
        (folder / "notify").chmod(0o777)
        sock.settimeout(PROCESS_S)
        environment = {"NOTIFY_SOCKET": f"{folder}/notify", "WATCHDOG_USEC": "1000000"}
        process = subprocess.Popen(
            [sys.executable, "-m", "pymcd", *USER, "-p", "-1", "-l", "127.0.0.1"],
            env={**os.environ, **environment},
        )
        try:
            assert hear(sock, "READY=1") == [
                "READY=1", "STATUS=single: there are no peers", "WATCHDOG=1",
            ]  # fmt: skip
            assert hear(sock, "WATCHDOG=1") == ["WATCHDOG=1"]
            process.send_signal(signal.SIGHUP)
            assert hear(sock, "RELOADING=1")[1].startswith("MONOTONIC_USEC=")
            assert hear(sock, "READY=1") == ["READY=1"]
            process.send_signal(signal.SIGTERM)
            assert hear(sock, "STOPPING=1")[:2] == ["STOPPING=1", EXTEND]
            assert process.wait(PROCESS_S) == 0
        finally:
            process.kill()
            process.wait()


@pytest.mark.slow
def test_who_is_watched_is_to_stay_in_the_foreground(folder: Path) -> None:
    folder.chmod(0o777)
    pid_file = folder / "pid"
    words = [*USER, "-d", "-P", str(pid_file), "-p", "-1", "-l", "127.0.0.1"]
    done = subprocess.run(
        [sys.executable, "-m", "pymcd", *words],
        env={**os.environ, "NOTIFY_SOCKET": f"{folder}/notify"},
        stderr=subprocess.PIPE,
        text=True,
        timeout=PROCESS_S,
        check=True,
    )
    os.kill(int(pid_file.read_text()), signal.SIGKILL)
    assert "NOTIFY_SOCKET is set" in done.stderr
    assert "leave out -d" in done.stderr


def hear(sock: socket.socket, word: str) -> list[str]:
    """Return the lines of the next datagram that begins so."""
    while True:
        lines = sock.recv(4096).decode().split("\n")
        if lines[0] == word:
            return lines
