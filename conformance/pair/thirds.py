"""Two nodes and what has the third vote, each on a host of its own.

What votes can be of any kind: a trial is written for a `Third`, and each kind passes the same.
"""

from __future__ import annotations

import os
import signal
import subprocess
import tempfile
from contextlib import ExitStack
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Final, Protocol, Self

from conformance.servers import PYMCD
from conformance.trial import TrialError, until

from .namespaces import REPLICATION_PORT, Host, Network, start_host
from .strangers import SECRET, secrets

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

#: The places of nodes; the third comes behind them.
NODES: Final = 2
THIRD: Final = 2
LOG_LINES: Final = 14
#: Where to keep what has to be on a disk: in memory, if that is possible. Others use the disk, too,
#: and fsync(2) waits for them; Linux does not tell whose time that is.
DISK: Final = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None


class Third(Protocol):
    """What has the third vote. A context manager that starts it, and ends it."""

    outlives: bool  #: that any one of its processes fails, though it takes its time then

    def __enter__(self) -> Self: ...

    def __exit__(self, *exc: object) -> None: ...

    def switches(self) -> Sequence[str]:
        """Return what nodes are started with."""
        ...

    def start(self) -> None:
        """Start again what was killed."""

    def kill(self) -> None:
        """End it, or of several members the one that leads."""

    def signal(self, number: int) -> None:
        """Send a signal to what `kill` would end, or has stopped before."""

    def log(self) -> str:
        """Return what it said so far."""
        ...

    def pids(self) -> Iterable[int]:
        """Return its processes that run."""
        ...


class Witness:
    """A `pymcd witness` on the third host, with what it keeps."""

    HOSTS = 1
    outlives = False

    def __init__(self, network: Network, secret_file: str) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="conformance-", dir=DISK)
        Path(self._folder.name).chmod(0o777)
        self._address = f"{network.address(THIRD, 'link')}:{REPLICATION_PORT}"
        self._command = [
            "ip", "netns", "exec", network.hosts[THIRD], *PYMCD, "witness", "-u", "nobody",
            f"--listen={self._address}", f"--replication-secret-file={secret_file}",
            f"--state={self._folder.name}/state",
        ]  # fmt: skip
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self.kill()
        self._folder.cleanup()

    def switches(self) -> Sequence[str]:
        return ("--witness", self._address)

    def start(self) -> None:
        with open(f"{self._folder.name}/log", "ab") as log:
            self._process = subprocess.Popen(
                self._command, stderr=log, cwd="/", start_new_session=True
            )

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def signal(self, number: int) -> None:
        assert self._process is not None
        os.kill(self._process.pid, number)

    def log(self) -> str:
        return Path(self._folder.name, "log").read_text(errors="replace")

    def pids(self) -> Iterable[int]:
        process = self._process
        return () if process is None else (process.pid,)


class Group:
    """Two nodes and a third. A context manager.

    Args:
        kind: makes the third, given the network and the file with the secret of the group.
        hosts: on how many it stands.
    """

    def __init__(self, kind: Callable[[Network, str], Third] = Witness, hosts: int = 1) -> None:
        self._kind = kind
        self._running = ExitStack()
        self.network = Network(NODES + hosts)
        self.third_places = range(THIRD, THIRD + hosts)
        self.nodes: list[Host] = []

    def __enter__(self) -> Self:
        with self._running as running:
            (self._secret_file,) = running.enter_context(secrets(SECRET))
            running.enter_context(self.network)
            self.third = running.enter_context(self._kind(self.network, self._secret_file))
            running.callback(self._stop)
            for place in range(NODES):
                self.nodes.append(self._start(place))
            self._running = running.pop_all()
        return self

    def __exit__(self, *exc: object) -> None:
        self._running.close()

    def _start(self, place: int) -> Host:
        return start_host(self.network, place, self._secret_file, self.third.switches())

    def _stop(self) -> None:
        for node in self.nodes:
            node.stop()

    # -- what happens to them ------------------------------------------------------------------

    def kill(self, place: int) -> None:
        """End one of the three as a power cut would."""
        if place == THIRD:
            self.third.kill()
        else:
            self.nodes[place].kill()

    def freeze(self, place: int) -> None:
        """Have one of the three stand still."""
        self._signal(place, signal.SIGSTOP)

    def thaw(self, place: int) -> None:
        """Have it go on."""
        self._signal(place, signal.SIGCONT)

    def _signal(self, place: int, number: int) -> None:
        if place == THIRD:
            self.third.signal(number)
        else:
            self.nodes[place].signal(number)

    def restart(self, place: int) -> None:
        """Start one of the three again after it was killed."""
        if place == THIRD:
            self.third.start()
        else:
            self.nodes[place].stop()
            self.nodes[place] = self._start(place)

    def pids(self) -> list[int]:
        """Return the processes that run."""
        return [*chain.from_iterable(node.pids() for node in self.nodes), *self.third.pids()]

    # -- what there is to be seen --------------------------------------------------------------

    def ready(self) -> float:
        """Wait until both nodes are in sync and anyone may fail; return how long that took."""
        try:
            return until("in sync, and anyone may fail", self._is_ready)
        except TrialError as error:
            raise TrialError(f"{error}\n" + "\n".join(self.report())) from None

    def _is_ready(self) -> bool:
        for node in self.nodes:
            rows = node.rows()
            if rows.get("state") != "in_sync" or rows.get("may_fail", "").count(",") != NODES:
                return False
        return True

    def coordinator(self) -> int:
        """Return the place of the node that decides."""
        for place, node in enumerate(self.nodes):
            if node.rows().get("role") == "coordinator":
                return place
        raise TrialError("\n".join(["nobody coordinates", *self.report()]))

    def report(self) -> list[str]:
        """What they say of themselves, for a person."""
        lines: list[str] = []
        for place, node in enumerate(self.nodes):
            rows = node.rows(timeout_s=1.0)
            names = ("state", "role", "epoch", "voters", "may_fail", "witness_link")
            lines.append(f"-- host{place}: " + ", ".join(f"{x} {rows.get(x)}" for x in names))
            lines += node.log().splitlines()[-LOG_LINES:]
        return [*lines, "-- the third:", *self.third.log().splitlines()[-LOG_LINES:]]
