"""What other systems and interpreters lack: tried here, where it is hidden for a while.

`.ci/run` runs all tests of the fake once more without epoll (see `tests/without_epoll`).
"""

from __future__ import annotations

import gc
import os
import socket
import subprocess
import sys
from math import inf
from pathlib import Path

import pytest

from pymcd.protocol import Connection
from pymcd.server import maintenance
from pymcd.server.hub import HUB_AVAILABLE
from pymcd.testing import MemcachedServer
from pymcd.testing.scripted import reset_on_close

from .helpers import nothing_left, raw

ROOT = Path(__file__).parents[2]

takes_a_hub = pytest.mark.skipif(not HUB_AVAILABLE, reason="there is no epoll here")


def run(program: str, **environment: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
        timeout=60,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


# -- systems without epoll ---------------------------------------------------------------------

WITHOUT_EPOLL = """
import os, select, socket
assert not hasattr(select, "epoll") and not hasattr(os, "eventfd")
from pymcd.testing import MemcachedPair, MemcachedServer
with MemcachedServer() as server:
    assert server._host.engine.server.hub is None
    for number in range(20):
        with socket.create_connection(server.address) as client:
            client.sendall(b"set a 0 0 1 noreply\\r\\n%d\\r\\n" % (number % 10) + b"incr n 1 noreply\\r\\n" * 50)
            assert server.get("a").value == b"%d" % (number % 10)
            assert len(server.calls) == 51 * (number + 1)
        assert server.connections == 0
with MemcachedPair() as pair, socket.create_connection(pair.a.address) as client:
    client.sendall(b"set a 0 0 1 noreply\\r\\nx\\r\\n")
    assert pair.a.get("a").value == pair.b.get("a").value == b"x"
print("good")
"""  # noqa: E501


@pytest.mark.slow
def test_without_epoll_what_was_sent_before_is_done_before() -> None:
    path = os.pathsep.join(filter(None, ["tests/without_epoll", os.environ.get("PYTHONPATH")]))
    assert run(WITHOUT_EPOLL, PYTHONPATH=path) == "good\n"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
def test_a_reset_of_one_who_has_gone_may_be_refused() -> None:
    """As on macOS, which knows no options of a connection that is over."""
    one, other = socket.socketpair()
    with MemcachedServer() as server, one, other:
        service = server._host.engine.server.service  # type: ignore[union-attr]
        connection = Connection(service, connection_id=one.fileno())
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(socket.socket, "setsockopt", _refuse)
            reset_on_close(connection)


def _refuse(*arguments: object) -> None:
    raise OSError(22, "Invalid argument")


# -- interpreters ------------------------------------------------------------------------------


@takes_a_hub
def test_without_eventfd_the_hub_is_woken_by_a_pipe(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on PyPy."""
    monkeypatch.delattr(os, "eventfd", raising=False)
    with MemcachedServer():
        pass
    with nothing_left(), MemcachedServer() as server, raw(server) as client:
        hub = server._host.engine.server.hub  # type: ignore[union-attr]
        assert hub is not None
        assert hub._alarm != hub._bell
        for _ in range(5):
            server.fault(command="get", times=1).delay(0.001)
            assert client.ask(b"get a\r\n") == b"END\r\n"
        for _ in range(20_000):  # more than a pipe holds
            hub._ring()
        assert client.ask(b"get a\r\n") == b"END\r\n"
        server.pause()
        client.send(b"get a\r\n")
        server.resume()
        assert client.read() == b"END\r\n"


def test_without_gc_freeze_the_collector_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    threshold = getattr(gc, "get_threshold", lambda: None)  # which PyPy lacks as well
    before = threshold()
    monkeypatch.delattr(gc, "freeze", raising=False)
    maintenance.tame_collector()
    assert maintenance.freeze_survivors() == inf
    assert threshold() == before


def test_what_items_really_take_is_known_of_one_interpreter(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    server = MemcachedServer(options=["-o", "memory_accounting=resident"])
    monkeypatch.setattr(sys.implementation, "name", "pypy")
    with pytest.raises(ValueError, match=r"in CPython, and this is pypy; leave it out"):
        server.start()
    with MemcachedServer() as other:
        assert int(other.stats()["hash_bytes"]) >= 0


# -- files that are none -----------------------------------------------------------------------


@pytest.mark.parametrize("arguments", [{}, {"process": True}, {"tls": True}])
def test_a_server_is_not_started_in_a_file_system_that_is_none(arguments: dict[str, bool]) -> None:
    patcher = pytest.importorskip("pyfakefs.fake_filesystem_unittest").Patcher
    with patcher(), pytest.raises(RuntimeError, match=r"process=True\).*memcached_server, fs"):
        MemcachedServer(**arguments).start()  # type: ignore[arg-type]


def test_one_that_was_started_before_in_a_process_goes_on() -> None:
    patcher = pytest.importorskip("pyfakefs.fake_filesystem_unittest").Patcher
    with MemcachedServer(process=True) as server, patcher(), raw(server) as client:
        assert client.ask(b"set a 0 60 1\r\nx\r\n") == b"STORED\r\n"
        server.advance(61)
        assert client.ask(b"get a\r\n") == b"END\r\n"
        assert len(server.calls) == 2


# -- Windows -----------------------------------------------------------------------------------

ON_WINDOWS = """
import os, select, signal, socket, sys, time
import asyncio, subprocess, tempfile, pytest, trio  # which look for themselves what there is
for module in ("resource", "fcntl", "pwd", "grp", "termios"):
    sys.modules[module] = None
for place, names in (
    (os, ("fork", "register_at_fork", "eventfd", "sched_yield", "geteuid", "getuid", "O_NONBLOCK")),
    (select, ("epoll", "poll")),
    (signal, ("SIGHUP", "SIGUSR1")),
    (socket, ("AF_UNIX", "socketpair")),
    (time, ("clock_gettime", "CLOCK_MONOTONIC")),
):
    for name in names:
        delattr(place, name)
sys.platform = "win32"

import pymcd.testing
from pymcd.testing import *
import pymcd.testing.plugin
from pymcd.testing.clocks import monotonic, realtime
assert monotonic() <= monotonic() and realtime() > 1_700_000_000
for server in (MemcachedServer(), MemcachedServer(process=True), MemcachedPair()):
    server.stop()
    try:
        server.start()
    except RuntimeError as error:
        assert "--memcached-server" in str(error), error
    else:
        raise AssertionError(server)
import pymcd.testing.external
print("good")
"""


@pytest.mark.slow
def test_on_windows_all_can_be_imported_and_says_what_to_do() -> None:
    assert run(ON_WINDOWS) == "good\n"
