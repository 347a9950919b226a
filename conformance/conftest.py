"""Options, and the servers that tests share."""

from __future__ import annotations

import shlex
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from .servers import FOLLOWED, PYMCD, Server, find_memcached, reference_command, version_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

NO_MEMCACHED = "no memcached installed, and none named by --reference"
FETCH = f"python -m conformance.memcached fetches {FOLLOWED}, which is followed"


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("conformance")
    group.addoption("--reference", help="another memcached, or a debootstrap folder with one")
    group.addoption("--subject", help="command of the server to examine; default pymcd")
    group.addoption("--commands", type=int, default=20_000, help="random commands a protocol")
    group.addoption("--seed", default="1", help="of the random commands")
    group.addoption("--record", action="store_true", help="write the reference's answers anew")


def _reference(config: pytest.Config) -> tuple[str, ...] | None:
    named = config.getoption("--reference")
    return reference_command(named) if named else find_memcached()


def pytest_report_header(config: pytest.Config) -> str:
    command = _reference(config)
    if command is None:
        return f"{NO_MEMCACHED}; {FETCH}"
    version = version_of(command)
    return f"reference: memcached {version}" + (f"; {FETCH}" if version != FOLLOWED else "")


@pytest.fixture(scope="session")
def subject(pytestconfig: pytest.Config) -> tuple[str, ...]:
    """The command of the server to examine."""
    named = pytestconfig.getoption("--subject")
    return tuple(shlex.split(named)) if named else PYMCD


@pytest.fixture(scope="session")
def reference_or_none(pytestconfig: pytest.Config) -> tuple[str, ...] | None:
    """The command of a real memcached, if there is one."""
    return _reference(pytestconfig)


@pytest.fixture(scope="session")
def reference(reference_or_none: tuple[str, ...] | None) -> tuple[str, ...]:
    """The command of a real memcached; tests that need one are skipped without."""
    if reference_or_none is None:
        pytest.skip(NO_MEMCACHED)
    return reference_or_none


@pytest.fixture(scope="session")
def reference_version(reference_or_none: tuple[str, ...] | None) -> str:
    return version_of(reference_or_none) if reference_or_none else ""


@pytest.fixture(scope="session")
def followed(reference: tuple[str, ...], reference_version: str) -> tuple[str, ...]:
    """The command of the memcached that is followed; what compares all is skipped with another."""
    if reference_version != FOLLOWED:
        pytest.skip(f"the reference is memcached {reference_version}; {FETCH}")
    return reference


class Servers:
    """Running servers by command and switches; the last few stay up for the next test."""

    KEPT_MAX = 4
    #: What is started.
    make = Server

    def __init__(self) -> None:
        self._running: dict[tuple[tuple[str, ...], tuple[str, ...]], Server] = {}
        # Not under pytest's folder, which is closed to a server that gave up root.
        self._folder = tempfile.TemporaryDirectory(prefix="conformance-")
        folder = Path(self._folder.name)
        folder.chmod(0o755)
        self._auth_file = folder / "users"
        self._auth_file.write_text("foo:bar\nother:secret\n")

    def expand(self, switches: Sequence[str]) -> tuple[str, ...]:
        """Fill in what only this run knows: `{auth_file}`."""
        return tuple(each.replace("{auth_file}", str(self._auth_file)) for each in switches)

    def get(self, command: tuple[str, ...], switches: tuple[str, ...], *, fresh: bool) -> Server:
        """Return a running server, emptied, or a new one."""
        key = (command, switches)
        server = self._running.pop(key, None)
        if server is not None and (fresh or not server.answers()):
            server.stop()
            server = None
        if server is None:
            while len(self._running) >= self.KEPT_MAX:
                self._running.pop(next(iter(self._running))).stop()
            server = self.make(command, self.expand(switches)).start()
        else:
            with server.connect() as stream:
                stream.sendall(b"flush_all\r\nquit\r\n")
                while stream.recv(4096):
                    pass
        self._running[key] = server
        return server

    def stop(self) -> None:
        while self._running:
            self._running.popitem()[1].stop()
        self._folder.cleanup()


@pytest.fixture(scope="session")
def servers() -> Iterator[Servers]:
    """Servers that stay up from test to test."""
    kept = Servers()
    try:
        yield kept
    finally:
        kept.stop()
