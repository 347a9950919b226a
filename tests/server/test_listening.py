"""Where a server listens, and what it says when it cannot."""

from __future__ import annotations

import os
import select
import signal
import socket
import threading
from typing import TYPE_CHECKING, Any

import pytest

from pymcd.config import Settings
from pymcd.exits import EXIT_OS_ERROR, ConfigError
from pymcd.server.listening import (
    Endpoint,
    close_all,
    open_internet_endpoints,
    open_unix_endpoint,
)

from .helpers import one_loopback

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def taken_port() -> Iterator[int]:
    """Give a TCP port of 127.0.0.1 that somebody else listens on."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        sock.listen()
        yield sock.getsockname()[1]


def opened(**settings: Any) -> list[Endpoint]:
    endpoints = open_internet_endpoints(Settings(**settings))
    close_all(endpoints)
    return endpoints


def refused(**settings: Any) -> str:
    with pytest.raises(ConfigError) as error:
        opened(**settings)
    assert error.value.exit_code == EXIT_OS_ERROR
    return error.value.message


def test_all_interfaces_by_default() -> None:
    endpoints = open_internet_endpoints(Settings(port=-1))
    families = {endpoint.sock.family for endpoint in endpoints}
    assert socket.AF_INET in families
    assert families <= {socket.AF_INET, socket.AF_INET6}
    assert all(endpoint.sock.getsockname()[1] > 0 for endpoint in endpoints)
    close_all(endpoints)


def test_signals_are_obeyed_while_a_name_is_looked_up(monkeypatch: pytest.MonkeyPatch) -> None:
    silent = threading.Event()

    def look_up(host: bytes, port: int, **how: Any) -> list[Any]:
        if how["flags"] & socket.AI_NUMERICHOST:
            raise socket.gaierror
        os.kill(os.getpid(), signal.SIGUSR2)
        silent.wait()
        return []

    class Told(BaseException):
        """As KeyboardInterrupt, which may come while the thread is being started."""

    def obey(*_: object) -> None:
        raise Told

    before = signal.signal(signal.SIGUSR2, obey)
    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    try:
        with pytest.raises(Told):
            open_internet_endpoints(Settings(listen=("nowhere.example",)))
    finally:
        signal.signal(signal.SIGUSR2, before)
        silent.set()


def test_an_endpoint_is_closed_once(tmp_path: Path) -> None:
    path = tmp_path / "socket"
    endpoint = open_unix_endpoint(Settings(unix_socket=str(path)), str(path))
    endpoint.close()
    path.touch()  # another server's, which may have the number of ours
    endpoint._replace(inode=path.stat().st_ino).close()
    assert path.exists()


def test_several_interfaces_with_their_own_ports(taken_port: int) -> None:
    endpoints = opened(
        port=-1,
        listen=("127.0.0.1", "127.0.0.1:0", f"127.0.0.2:{taken_port}"),
    )
    assert [endpoint.address.rpartition(":")[0] for endpoint in endpoints] == [
        "tcp:127.0.0.1",
        "tcp:127.0.0.1",
        "tcp:127.0.0.2",
    ]
    assert endpoints[2].address.endswith(f":{taken_port}")


def test_tcp_and_udp() -> None:
    endpoints = opened(port=-1, udp_port=-1, listen=("127.0.0.1",))
    assert [endpoint.transport for endpoint in endpoints] == ["tcp", "udp"]
    assert endpoints[1].address.startswith("udp:127.0.0.1:")


def test_ipv6() -> None:
    if not socket.has_ipv6:
        pytest.skip("no IPv6")
    try:
        endpoints = opened(port=-1, listen=("[::1]",))
    except ConfigError:
        pytest.skip("no IPv6 on loopback")
    assert endpoints[0].address.startswith("tcp6:[::1]:")


def test_each_listener_may_have_its_protocol() -> None:
    endpoints = opened(port=-1, listen=("127.0.0.1", "proto[ascii]:127.0.0.1:0"))
    assert [endpoint.protocol for endpoint in endpoints] == ["auto", "ascii"]


@pytest.mark.parametrize("settings", [{"port": 0}, {"unix_socket": "/nowhere", "port": 1}])
def test_no_port_at_all(settings: dict[str, Any]) -> None:
    assert opened(**settings) == []


def test_socket_options() -> None:
    (endpoint,) = open_internet_endpoints(Settings(port=-1, listen=("127.0.0.1",)))
    sock = endpoint.sock
    with socket.create_connection(sock.getsockname()):
        select.select([sock], [], [])  # who has connected may still be under way
        accepted, _ = sock.accept()
        with accepted:
            for level, option in (
                (socket.IPPROTO_TCP, socket.TCP_NODELAY),
                (socket.SOL_SOCKET, socket.SO_KEEPALIVE),
            ):
                assert accepted.getsockopt(level, option) == 1
    assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR) == 1
    endpoint.close()


def test_a_taken_port(taken_port: int) -> None:
    assert refused(port=taken_port, listen=("127.0.0.1",)) == (
        "failed to listen on one of interface(s) 127.0.0.1: Address already in use"
    )
    # One family is enough to refuse: half a server would surprise.
    assert refused(port=taken_port) == (
        f"failed to listen on TCP port {taken_port}: Address already in use"
    )


def test_a_taken_udp_port() -> None:
    with socket.socket(type=socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        port = sock.getsockname()[1]
        assert refused(port=0, udp_port=port) == (
            f"failed to listen on UDP port {port}: Address already in use"
        )


def test_what_was_opened_is_closed_when_the_next_fails(taken_port: int) -> None:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        free_port = sock.getsockname()[1]
    listen = (f"127.0.0.1:{free_port}", f"127.0.0.1:{taken_port}")
    refused(port=-1, listen=listen)
    assert len(opened(port=-1, listen=listen[:1])) == 1


@pytest.mark.parametrize(
    ("host", "reason"),
    [
        ("192.0.2.1", "Cannot assign requested address"),
        ("a..b", "Name or service not known"),
    ],
)
def test_an_address_that_is_not_ours(host: str, reason: str) -> None:
    assert refused(port=-1, listen=(host,)) == (
        f"failed to listen on one of interface(s) {host}: {reason}"
    )


def test_unix_socket_file_of_another_kind_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("precious")
    with pytest.raises(ConfigError) as error:
        open_unix_endpoint(Settings(unix_socket=str(path)), str(path))
    assert error.value.message == (
        f"failed to listen on UNIX socket: {path}: Address already in use"
    )
    assert path.read_text() == "precious"


@pytest.mark.parametrize(
    ("name", "reason"),
    [("no/such/directory", "No such file or directory"), ("x" * 200, "AF_UNIX path too long")],
)
def test_unix_socket_that_cannot_be(tmp_path: Path, name: str, reason: str) -> None:
    path = str(tmp_path / name)
    with pytest.raises(ConfigError) as error:
        open_unix_endpoint(Settings(unix_socket=path), path)
    assert error.value.message == f"failed to listen on UNIX socket: {path}: {reason}"
    assert error.value.exit_code == EXIT_OS_ERROR


def test_a_successors_socket_file_is_not_removed(tmp_path: Path) -> None:
    path = str(tmp_path / "socket")
    settings = Settings(unix_socket=path)
    old = open_unix_endpoint(settings, path)
    # Made before the old file goes, so that the two cannot have the same inode.
    spare = open_unix_endpoint(settings, path + "2")
    (tmp_path / "socket2").replace(path)
    old.close()
    assert (tmp_path / "socket").is_socket()
    spare.close()
    assert (tmp_path / "socket").is_socket()


# -- a server that replicates ------------------------------------------------------------------

GROUP: dict[str, Any] = {"listen": ("127.0.0.1",), "replication_listen": ("127.0.0.1:0",)}


def connects(endpoint: Endpoint) -> bool:
    try:
        with socket.create_connection(endpoint.sock.getsockname()):
            return True
    except ConnectionRefusedError:
        return False


def test_the_port_for_clients_is_taken_but_does_not_listen() -> None:
    settings = Settings(port=-1, udp_port=-1, **GROUP)
    endpoints = open_internet_endpoints(settings)
    for_clients, datagrams, for_peers = endpoints
    assert [each.transport for each in endpoints] == ["tcp", "udp", "replication"]
    assert for_peers.address.startswith("replication:127.0.0.1:")
    assert connects(for_peers)
    assert not connects(for_clients)
    for_clients.listen(settings)
    assert connects(for_clients)
    # What was asked while nobody was ready is not answered later, when nobody waits for it.
    with socket.socket(type=socket.SOCK_DGRAM) as sock, one_loopback() as loopback:
        sock.sendto(b"early", datagrams.sock.getsockname())
        sock.sendto(b"bird", datagrams.sock.getsockname())
        loopback.settle()
        datagrams.listen(settings)
        with pytest.raises(BlockingIOError):
            datagrams.sock.recv(100)
        sock.sendto(b"now", datagrams.sock.getsockname())
        loopback.settle()
        assert datagrams.sock.recv(100) == b"now"
    close_all(endpoints)


def test_a_taken_port_is_found_at_the_start(taken_port: int) -> None:
    assert refused(port=taken_port, **GROUP) == (
        "failed to listen on one of interface(s) 127.0.0.1: Address already in use"
    )


def test_a_port_that_is_lost_meanwhile_is_found_in_the_end() -> None:
    # Neither listens, so the system lets both have it.
    (first, *others) = open_internet_endpoints(Settings(port=-1, **GROUP))
    settings = Settings(port=first.sock.getsockname()[1], **GROUP)
    (second, *more) = open_internet_endpoints(settings)
    first.listen(settings)
    with pytest.raises(ConfigError) as error:
        second.listen(settings)
    assert error.value.exit_code == EXIT_OS_ERROR
    assert error.value.message == (f"failed to listen on {second.address}: Address already in use")
    close_all([first, second, *others, *more])


def test_a_taken_replication_port(taken_port: int) -> None:
    assert refused(port=0, replication_listen=(f"127.0.0.1:{taken_port}",)) == (
        f"failed to listen on replication port {taken_port} of 127.0.0.1: Address already in use"
    )


def test_a_unix_socket_of_a_replicated_server_listens_later(tmp_path: Path) -> None:
    path = str(tmp_path / "socket")
    settings = Settings(unix_socket=path, **GROUP)
    (for_peers,) = open_internet_endpoints(settings)
    assert for_peers.transport == "replication"
    endpoint = open_unix_endpoint(settings, path)
    with socket.socket(socket.AF_UNIX) as sock:
        with pytest.raises(ConnectionRefusedError):
            sock.connect(path)
        endpoint.listen(settings)
        sock.connect(path)
    close_all([endpoint, for_peers])
