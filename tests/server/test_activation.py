"""Sockets that a service manager opened: whose they are, what they may be, and never for a pair."""

from __future__ import annotations

import os
import select
import signal
import socket
import subprocess
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest

from pymcd.config import Settings
from pymcd.exits import EXIT_USAGE, ConfigError
from pymcd.server.activation import adopt, handed_over
from pymcd.server.listening import close_all, open_internet_endpoints

from .helpers import ask, serving
from .test_process import PATIENCE_S, USER, VERSION
from .test_process import ask as ask_process

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

OURS = str(os.getpid())
TLS: dict[str, Any] = {"enable_ssl": True, "ssl_chain_cert": "chain", "ssl_key": "key"}


# -- whose they are ------------------------------------------------------------------------------

ENVIRONMENTS = [
    ("none", {}, range(0)),
    ("ours", {"LISTEN_FDS": "2", "LISTEN_PID": OURS}, range(3, 5)),
    ("another process's", {"LISTEN_FDS": "1", "LISTEN_PID": "1"}, range(0)),
    ("nobody's", {"LISTEN_FDS": "1"}, range(0)),
    ("no number", {"LISTEN_FDS": "some", "LISTEN_PID": OURS}, range(0)),
]


@pytest.mark.parametrize(
    ("environment", "descriptors"),
    [row[1:] for row in ENVIRONMENTS],
    ids=[row[0] for row in ENVIRONMENTS],
)
def test_whose_sockets_they_are(environment: dict[str, str], descriptors: range) -> None:
    assert handed_over(environment) == descriptors


# -- what they may be ----------------------------------------------------------------------------


def listener(family: int = socket.AF_INET, kind: int = socket.SOCK_STREAM) -> socket.socket:
    """Return a socket as a service manager opens it."""
    sock = socket.socket(family, kind)
    if family != socket.AF_UNIX:
        sock.bind(("127.0.0.1" if family == socket.AF_INET else "::1", 0))
    if kind == socket.SOCK_STREAM:
        sock.listen()
    return sock


def range_of(sock: socket.socket) -> range:
    """Give a socket away."""
    fd = sock.detach()
    return range(fd, fd + 1)


def refusal(descriptors: range, **settings: Any) -> str:
    with pytest.raises(ConfigError) as error:
        adopt(Settings(**settings), descriptors, print)
    assert error.value.exit_code == EXIT_USAGE
    assert "\n" not in error.value.message
    return error.value.message


@pytest.mark.parametrize(
    ("kind", "transport", "tls"),
    [(socket.SOCK_STREAM, "tcp", "tls"), (socket.SOCK_DGRAM, "udp", None)],
)
def test_ports_are_like_those_that_we_open(kind: int, transport: str, tls: str | None) -> None:
    (endpoint,) = adopt(Settings(**TLS), range_of(listener(kind=kind)), print)
    assert (endpoint.transport, endpoint.tls) == (transport, tls)
    assert endpoint.address.startswith(f"{transport}:127.0.0.1:")
    assert not endpoint.sock.getblocking()
    assert not endpoint.sock.get_inheritable()
    if transport == "tcp":
        assert endpoint.sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        assert endpoint.sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
    endpoint.close()


def test_the_file_of_a_unix_socket_stays(tmp_path: Path) -> None:
    path = tmp_path / "socket"
    sock = socket.socket(socket.AF_UNIX)
    sock.bind(str(path))
    sock.listen()
    (endpoint,) = adopt(Settings(**TLS), range_of(sock), print)
    assert (endpoint.transport, endpoint.tls, endpoint.address) == ("local", None, f"unix:{path}")
    endpoint.close()
    assert path.exists()


def test_they_take_the_place_of_ports() -> None:
    settings = Settings(port=-1, udp_port=-1)
    endpoints = open_internet_endpoints(settings, adopt(settings, range_of(listener()), print))
    assert [endpoint.transport for endpoint in endpoints] == ["tcp"]
    close_all(endpoints)


def test_what_has_no_effect_is_told() -> None:
    warnings: list[str] = []
    settings = Settings(listen=("127.0.0.1",), unix_socket="/tmp/socket")
    close_all(adopt(settings, range_of(listener()), warnings.append))
    assert warnings == [
        "warning: -l has no effect: LISTEN_FDS brings the sockets",
        "warning: -s has no effect: LISTEN_FDS brings the sockets",
    ]


def test_a_node_of_a_pair_is_refused() -> None:
    with listener() as sock:
        message = refusal(range(sock.fileno(), sock.fileno() + 1), peers=("127.0.0.1",))
    assert message.startswith("ERROR: LISTEN_FDS: a node of a pair must refuse clients")
    assert message.endswith("disable the .socket unit, or leave out --peer.")


def test_what_is_no_listener_is_refused(tmp_path: Path) -> None:
    with (tmp_path / "file").open("w") as file:
        assert "is no socket" in refusal(range(file.fileno(), file.fileno() + 1))
    ours, theirs = socket.socketpair()
    with ours, theirs:  # as of Accept=yes
        message = refusal(range(ours.fileno(), ours.fileno() + 1))
    assert message == (
        f"ERROR: LISTEN_FDS: descriptor {ours.fileno()} is not a listening TCP or Unix socket"
        " (Accept=no), or a UDP socket."
    ).replace("-1", message.split()[3])


def test_a_bucket_needs_a_port(tmp_path: Path) -> None:
    sock = socket.socket(socket.AF_UNIX)
    sock.bind(str(tmp_path / "socket"))
    sock.listen()
    assert "--couchbase needs a TCP socket" in refusal(range_of(sock), couchbase="127.0.0.1:8091")


# -- served --------------------------------------------------------------------------------------


@pytest.mark.parametrize("use_hub", [True, False])
async def test_clients_are_served(use_hub: bool) -> None:
    endpoints = adopt(Settings(), range_of(listener()), print)
    async with serving(endpoints=endpoints, use_hub=use_hub) as server:
        assert await ask(await server.connect(), b"version\r\n") == VERSION


#: Hands over a descriptor as systemd does: as the third one, to the process that it becomes.
HAND_OVER = (
    "import os, sys; os.dup2(int(sys.argv[1]), 3);"
    " os.environ.update(LISTEN_FDS='1', LISTEN_PID=str(os.getpid()));"
    " os.execv(sys.executable, [sys.executable, '-m', 'pymcd', *sys.argv[2:]])"
)


@contextmanager
def process_with(sock: socket.socket, *words: str) -> Iterator[subprocess.Popen[str]]:
    """Start a server with a socket; this process has it, too, as systemd does."""
    process = subprocess.Popen(
        [sys.executable, "-c", HAND_OVER, str(sock.fileno()), *USER, *words],
        pass_fds=[sock.fileno()],
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate(timeout=PATIENCE_S)


@pytest.mark.slow
def test_clients_wait_while_a_process_is_started_anew() -> None:
    with listener() as sock:
        address = sock.getsockname()
        for _ in range(2):
            with process_with(sock) as process:
                assert ask_process(address) == VERSION
                process.send_signal(signal.SIGTERM)
                assert process.wait(PATIENCE_S) == 0
            with socket.create_connection(address) as client:  # nobody is there, and it waits
                assert not select.select([client], [], [], 0)[0]


@pytest.mark.slow
def test_a_process_that_is_one_of_a_pair_does_not_start() -> None:
    with listener() as sock, process_with(sock, "--peer", "127.0.0.1:1") as process:
        _, said = process.communicate(timeout=PATIENCE_S)
        assert process.returncode == EXIT_USAGE
        assert said.startswith("ERROR: LISTEN_FDS: a node of a pair must refuse clients until")
        assert said.count("\n") == 1
