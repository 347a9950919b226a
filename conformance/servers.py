"""Start and stop servers: pymcd, memcached, or any other program that takes memcached's switches.

Every server listens on a port which the operating system chose (`-p -1`) and tells it through
MEMCACHED_PORT_FILENAME. Servers are ended by process id, and wait to be ended: nothing is left.
A reference inside a Debian tree (made by debootstrap) runs with that tree's own loader and
libraries, so that another release's memcached can be asked on this one. The one that is followed
lies in such a tree (`python -m conformance.memcached` makes it); only without it an installed one,
which may be older, is the reference.
"""

from __future__ import annotations

import contextlib
import functools
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Self

from conformance.clients.catalog import home
from conformance.trees import command_of
from pymcd.limits import MEMCACHED_VERSION

if TYPE_CHECKING:
    from collections.abc import Sequence

#: The version of memcached that pymcd follows.
FOLLOWED = MEMCACHED_VERSION

ROOT = Path(__file__).resolve().parent.parent
START_TIMEOUT_S = 20.0
STOP_TIMEOUT_S = 10.0
POLL_INTERVAL_S = 0.002

PYMCD = (sys.executable, "-m", "pymcd")
#: Of servers whose times are measured.
PRIORITY = -15


class StartError(Exception):
    """The server ended, or did not say where it listens, within START_TIMEOUT_S."""


def followed_folder() -> Path:
    """Return where the tree with the memcached that is followed is kept: where clients are."""
    return home() / f"memcached-{FOLLOWED}"


def find_memcached() -> tuple[str, ...] | None:
    """Return the command of the memcached that is followed, or else of the one installed."""
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        command = reference_command(str(followed_folder()))
        if version_of(command) == FOLLOWED:
            return command
    path = shutil.which("memcached", path=os.defpath + ":/usr/sbin:/usr/bin:/usr/local/bin")
    return (path,) if path else None


def reference_command(path: str) -> tuple[str, ...]:
    """Return the command which runs the memcached at `path`, a program or a debootstrap folder."""
    place = Path(path).resolve()
    if place.is_dir():
        place = place / "usr" / "bin" / "memcached"
    if not place.is_file():
        raise FileNotFoundError(f"no memcached at {place}")
    return command_of(place)


@functools.cache
def version_of(command: tuple[str, ...]) -> str:
    """Return what the program's -V prints as its version."""
    done = subprocess.run(
        [*command, "-V"], capture_output=True, text=True, timeout=START_TIMEOUT_S, check=False
    )
    found = re.search(r"\d+\.\d+\S*", done.stdout)
    return found.group() if found else done.stdout.strip()


def favour(pid: int, priority: int = PRIORITY) -> None:
    """Have a process get a CPU before others do, where that is allowed; or as before."""
    with contextlib.suppress(OSError):
        for task in Path(f"/proc/{pid}/task").iterdir():
            os.setpriority(os.PRIO_PROCESS, int(task.name), priority)
    with contextlib.suppress(OSError):
        # Processes of one session may count as one for the scheduler: then that has a priority.
        Path(f"/proc/{pid}/autogroup").write_text(str(priority))


@dataclass(slots=True)
class Server:
    """One running server. Use it as a context manager, or call `stop`."""

    command: Sequence[str]
    switches: Sequence[str] = ()
    environment: dict[str, str] = field(default_factory=dict)
    port: int = 0
    udp_port: int = 0
    unix_socket: str = ""
    #: Where it listens unless the switches say otherwise.
    listen: Sequence[str] = ("-l", "127.0.0.1", "-p", "-1")
    _process: subprocess.Popen[bytes] | None = None
    _folder: tempfile.TemporaryDirectory[str] | None = None
    _log: Path | None = None

    def start(self) -> Self:
        """Start the program and return when it accepts connections."""
        # The server may give up root before it writes here, so the folder is open to all.
        self._folder = tempfile.TemporaryDirectory(
            prefix="conformance-", ignore_cleanup_errors=True
        )
        folder = Path(self._folder.name)
        folder.chmod(0o777)
        ports = folder / "ports"
        self._log = folder / "log"
        arguments = [each.replace("{folder}", str(folder)) for each in self.switches]
        if "-s" in arguments:
            self.unix_socket = arguments[arguments.index("-s") + 1]
        else:
            arguments = [*self.listen, *arguments]
        if os.geteuid() == 0 and "-u" not in arguments:
            arguments = ["-u", "nobody", *arguments]
        environment = os.environ | self.environment | {"MEMCACHED_PORT_FILENAME": str(ports)}
        environment["PYTHONPATH"] = os.pathsep.join(
            filter(None, (str(ROOT), os.environ.get("PYTHONPATH", "")))
        )
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [*self.command, *arguments],
                env=environment,
                cwd="/",
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        deadline = time.monotonic() + START_TIMEOUT_S
        while not (self._listening(ports)):
            if self._process.poll() is not None:
                text = self.log()
                code = self._process.returncode
                self.stop()
                raise StartError(f"{' '.join([*self.command, *arguments])}: exit {code}\n{text}")
            if time.monotonic() > deadline:
                text = self.log()
                self.stop()
                raise StartError(f"{' '.join([*self.command, *arguments])}: not listening\n{text}")
            time.sleep(POLL_INTERVAL_S)
        return self

    def _listening(self, ports: Path) -> bool:
        if self.unix_socket:
            with socket.socket(socket.AF_UNIX) as probe:
                return probe.connect_ex(self.unix_socket) == 0
        if not ports.exists():
            return False
        said = ports.read_text()
        self.port = int(found.group(1)) if (found := re.search(r"TCP INET: (\d+)", said)) else 0
        self.udp_port = int(found.group(1)) if (found := re.search(r"UDP INET: (\d+)", said)) else 0
        return True

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def pids(self) -> tuple[int, ...]:
        """Return its process, from any thread; nothing if there is none."""
        process = self._process
        return () if process is None else (process.pid,)

    @property
    def address(self) -> str:
        """What clients and tools take: host:port, or the path of the Unix socket."""
        return self.unix_socket or f"127.0.0.1:{self.port}"

    def log(self) -> str:
        """Return what the server printed so far."""
        return self._log.read_text(errors="replace") if self._log and self._log.exists() else ""

    def connect(self, timeout_s: float = 30.0) -> socket.socket:
        """Return a new connected stream socket."""
        if self.unix_socket:
            stream = socket.socket(socket.AF_UNIX)
            stream.settimeout(timeout_s)
            stream.connect(self.unix_socket)
            return stream
        stream = socket.create_connection(("127.0.0.1", self.port), timeout=timeout_s)
        stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return stream

    def tell(self, commands: bytes) -> None:
        """Have the server execute text commands, whatever it answers."""
        with self.connect() as stream:
            stream.sendall(commands + b"quit\r\n")
            while stream.recv(4096):
                pass

    def wait(self) -> int:
        """Wait for a server which was told to stop in another way, and return its exit code."""
        assert self._process is not None
        return self._process.wait(STOP_TIMEOUT_S)

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def answers(self) -> bool:
        """Say whether the server still accepts connections."""
        try:
            self.connect(START_TIMEOUT_S).close()
        except OSError:
            return False
        return True

    def signal(self, number: int) -> None:
        """Send a signal to the server's process."""
        assert self._process is not None
        self._process.send_signal(number)

    def stop(self) -> None:
        """End the process and remove its files. Does nothing the second time.

        By SIGKILL: memcached takes up to a second to end at a SIGTERM, and how the subject ends
        then is a test of its own (`signal` and `wait`).
        """
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                self._process.kill()
            self._process.wait()
            self._process = None
        if self._folder is not None:
            self._folder.cleanup()
            self._folder = None

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *exc_info: object) -> None:
        self.stop()
