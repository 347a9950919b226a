"""Applications under trial: how one is started, with several workers, on a memcached or more.

An application in one configuration is a `Kind`; `App` runs workers of it, each a process with a
port of its own, as web servers behind a balancer are. What a worker must answer is told in
`users`. It finds its settings on the command line that its kind makes, or in the environment:
SESSIONS_ADDRESSES (`host:port`, with commas between several), SESSIONS_LIFETIME_S (after which an
idle session ends) and what the kind has in `environment`.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import subprocess
import tempfile
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Self

from conformance.pair.ways import TEXT, Way
from conformance.servers import ROOT
from conformance.trial import TrialError, free_port, until

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

ADDRESSES_VARIABLE = "SESSIONS_ADDRESSES"
LIFETIME_VARIABLE = "SESSIONS_LIFETIME_S"

LIFETIME_S = 1800
WORKERS = 2


class Setting(NamedTuple):
    """What a worker must know."""

    port: int
    #: `host:port` of the memcached, of what stands in front of a pair, or of both nodes.
    addresses: Sequence[str]
    lifetime_s: int


@dataclass(frozen=True, slots=True)
class Kind:
    """An application in one configuration."""

    #: For figures: the application and what is particular about this configuration.
    name: str
    #: What starts a worker that listens on 127.0.0.1.
    command: Callable[[Setting], Sequence[str]]
    #: Says what is missing here and how to install it; nothing if all is there.
    why_not: Callable[[], str]
    environment: Mapping[str, str] = field(default_factory=dict)
    #: Whether requests of one session take turns, so that none of its counts may be lost.
    locking: bool = False
    #: Whether it is meant to lose nothing. Others are there to show what they lose.
    recommended: bool = True
    #: Whether its users are meant to see no error either.
    silent: bool = False
    #: Whether its sessions are in a database as well.
    durable: bool = False
    #: Whether it is given both nodes of a pair, instead of one address in front of them.
    two_addresses: bool = False
    #: How its clients come to the servers.
    way: Way = TEXT
    #: How long after a node is back its clients may still hold it to be dead.
    settles_s: float = 1.5


@dataclass(slots=True)
class App:
    """Running workers of an application. A context manager."""

    kind: Kind
    addresses: Sequence[str]
    lifetime_s: int = LIFETIME_S
    workers: int = WORKERS
    urls: list[str] = field(default_factory=list)
    _ports: list[int] = field(default_factory=list)
    _processes: list[subprocess.Popen[bytes]] = field(default_factory=list)
    _folder: tempfile.TemporaryDirectory[str] | None = None

    def __enter__(self) -> Self:
        if reason := self.kind.why_not():
            raise TrialError(f"{self.kind.name}: {reason}")
        self._folder = tempfile.TemporaryDirectory(
            prefix="conformance-", ignore_cleanup_errors=True
        )
        try:
            for _ in range(self.workers):
                self._ports.append(free_port())
                self.urls.append(f"http://127.0.0.1:{self._ports[-1]}")
                self._processes.append(self._start(self._ports[-1]))
            self._wait()
        except BaseException:
            self.stop()
            raise
        return self

    def _start(self, port: int) -> subprocess.Popen[bytes]:
        assert self._folder is not None
        setting = Setting(port, self.addresses, self.lifetime_s)
        environment = {
            **os.environ,
            ADDRESSES_VARIABLE: ",".join(self.addresses),
            LIFETIME_VARIABLE: str(self.lifetime_s),
            "SESSIONS_FOLDER": self._folder.name,
            "PYTHONPATH": str(ROOT),
            **self.kind.environment,
        }
        with (Path(self._folder.name) / "log").open("ab") as log:
            return subprocess.Popen(
                list(self.kind.command(setting)),
                env=environment,
                cwd=self._folder.name,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def _wait(self) -> None:
        until(f"{self.kind.name} listens", lambda: all(map(self._listens, self._ports)))

    def _listens(self, port: int) -> bool:
        if any(process.poll() is not None for process in self._processes):
            raise TrialError(f"{self.kind.name}: a worker ended\n{self.log()}")
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", port)) == 0

    def log(self) -> str:
        """Return what the workers printed so far."""
        if self._folder is None:
            return ""
        return (Path(self._folder.name) / "log").read_text(errors="replace")

    def exceptions(self) -> Counter[str]:
        """Return the last lines of Python's tracebacks in the log, and how often each is there."""
        pattern = r"^(?!Exception)[\w.]+(?:Error|Exception|Down|Dead)\b.*"
        return Counter(re.findall(pattern, self.log(), re.MULTILINE))

    def kill(self, index: int) -> None:
        """End a worker, and the processes that it started, by SIGKILL."""
        process = self._processes[index]
        with contextlib.suppress(ProcessLookupError):
            # Its own process group, which it leads.
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()

    def restart(self, index: int) -> None:
        """Start a worker that was killed anew, at the port that it had."""
        self._processes[index] = self._start(self._ports[index])
        self._wait()

    def stop(self) -> None:
        for index in range(len(self._processes)):
            self.kill(index)
        if self._folder is not None:
            self._folder.cleanup()
            self._folder = None

    def __exit__(self, *exc: object) -> None:
        self.stop()
