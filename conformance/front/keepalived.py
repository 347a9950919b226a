"""A real keepalived on each of two hosts: the address of the clients moves between the nodes.

The hosts are network namespaces (see conformance.pair.namespaces). The configuration and the check
script are those of docs/front.md, of which only the address, the interface and the script's
place are replaced.
"""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Self

from conformance.pair import namespaces
from conformance.pair.ways import TEXT, Way
from conformance.servers import STOP_TIMEOUT_S
from conformance.trial import TrialError, until
from tests.papers.blocks import block

from .haproxy import PAGE
from .hosts import Hosts

if TYPE_CHECKING:
    from contextlib import ExitStack

PROGRAM = shutil.which("keepalived", path="/usr/sbin:/usr/local/sbin:/usr/bin:/usr/local/bin")
INTERFACE = "clients"
ADDRESS = f"{namespaces.NETWORK}.50"


def why_not() -> str:
    """Say why there can be no keepalived here; nothing if there can."""
    if not PROGRAM:
        return "no keepalived installed (Debian: apt-get install keepalived)"
    return namespaces.why_not()


def documented() -> tuple[str, str]:
    """Return the configuration and the check script as users find them."""
    return (
        block(PAGE, "keepalived", "/etc/keepalived/keepalived.conf"),
        block(PAGE, "keepalived", "/usr/local/bin/pymcd-answers"),
    )


@dataclass(slots=True)
class Keepalived:
    """One running keepalived, on one host. A context manager."""

    host: str
    _process: subprocess.Popen[bytes] | None = None
    _folder: tempfile.TemporaryDirectory[str] | None = None

    def start(self) -> Self:
        assert PROGRAM is not None
        self._folder = tempfile.TemporaryDirectory(prefix="conformance-")
        folder = Path(self._folder.name)
        folder.chmod(0o755)
        configuration, text = documented()
        script = folder / "pymcd-answers"
        script.write_text(text)
        script.chmod(0o755)
        for documented_words, words in (
            ("/usr/local/bin/pymcd-answers", str(script)),
            ("interface eth0", f"interface {INTERFACE}"),
            ("10.0.0.4/24", f"{ADDRESS}/25"),
        ):
            if documented_words not in configuration:
                raise TrialError(f"{PAGE.name} no longer speaks of {documented_words}")
            configuration = configuration.replace(documented_words, words)
        file = folder / "keepalived.conf"
        file.write_text(configuration)
        pids = [f"--{name}={folder / name}" for name in ("pid", "vrrp_pid")]
        command = ["ip", "netns", "exec", self.host, PROGRAM, "-f", str(file), "-n", "-l", "-P"]
        with (folder / "log").open("wb") as log:
            self._process = subprocess.Popen(
                [*command, *pids],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        return self

    def log(self) -> str:
        """Return what it printed since its start."""
        assert self._folder is not None
        return (Path(self._folder.name) / "log").read_text(errors="replace")

    def stop(self) -> None:
        """End it and its child, which takes the address away. Does nothing the second time."""
        if self._process is not None:
            self._process.terminate()
            self._process.wait(STOP_TIMEOUT_S)
            self._process = None
        if self._folder is not None:
            self._folder.cleanup()
            self._folder = None

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *exc: object) -> None:
        self.stop()


@dataclass(slots=True)
class MovingAddress(Hosts):
    """Two hosts with a keepalived each. A context manager."""

    way: Way = TEXT  #: as the documented check has it
    keepers: list[Keepalived] = field(default_factory=list)

    def _set_up(self, stack: ExitStack) -> None:
        # Explicit: slots make a new class, which the bare super() does not know.
        Hosts._set_up(self, stack)
        self.keepers += [stack.enter_context(Keepalived(host)) for host in self.network.hosts]
        self.wait_held()

    def holder(self) -> int | None:
        """Return the host that has the address; None: nobody, or both."""
        having = [
            index
            for index, host in enumerate(self.network.hosts)
            if f" {ADDRESS}/" in _output(f"-n {host} -4 -o addr show dev {INTERFACE}")
        ]
        return having[0] if len(having) == 1 else None

    def wait_held(self, index: int | None = None) -> int:
        """Wait until one host has the address, or this one has it; return who."""
        wanted = (0, 1) if index is None else (index,)
        try:
            until("the address is somewhere", lambda: self.holder() in wanted)
        except TrialError as error:
            raise TrialError(f"{error}\n{self.report()}") from None
        holder = self.holder()
        assert holder is not None
        return holder

    def report(self) -> str:
        """What the keepers said, for a person."""
        return "\n".join(keeper.log() for keeper in self.keepers)


def _output(words: str) -> str:
    done = subprocess.run(["ip", *words.split()], capture_output=True, text=True, check=True)
    return done.stdout
