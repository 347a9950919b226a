"""A real HAProxy in front of a pair, with the configuration that docs/replication.md tells users.

Of the documented text only the addresses are replaced, so that what is copied from there is what is
tested here.
"""

from __future__ import annotations

import re
import shutil
import socket
import subprocess
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Self

from conformance.servers import ROOT
from conformance.trial import TrialError, free_port, until

if TYPE_CHECKING:
    from collections.abc import Sequence

PAGE = ROOT / "docs" / "replication.md"
PROGRAM = shutil.which("haproxy", path="/usr/sbin:/usr/local/sbin:/usr/bin:/usr/local/bin")


def why_not() -> str:
    """Say why there can be no HAProxy here; nothing if there can."""
    return "" if PROGRAM else "no haproxy installed (Debian: apt-get install haproxy)"


def documented() -> str:
    """Return the configuration as users find it."""
    found = re.search(r"\*\*HAProxy:\*\*\n\n```\n(.*?)```", PAGE.read_text(), re.DOTALL)
    if found is None:
        raise TrialError(f"{PAGE.name} has no block of HAProxy's configuration")
    return found.group(1)


def active_active(text: str) -> str:
    """Return the configuration changed as the page says, so that both nodes are used."""
    return text.replace(" on-marked-up shutdown-backup-sessions", "").replace(" backup\n", "\n")


@dataclass(slots=True)
class HAProxy:
    """A running HAProxy. A context manager; `stop` and `start` restart it at the same port.

    Args:
        nodes: ports of the two nodes on 127.0.0.1, the one that is used first in front.
        text: configuration, with the documented addresses.
    """

    nodes: Sequence[int]
    text: str = field(default_factory=documented)
    port: int = 0
    _process: subprocess.Popen[bytes] | None = None
    _folder: tempfile.TemporaryDirectory[str] | None = None

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def configuration(self) -> str:
        first, second = self.nodes
        replaced = self.text
        for documented_address, port in (
            ("10.0.0.4:11211", self.port),
            ("10.0.0.5:11211", first),
            ("10.0.0.6:11211", second),
        ):
            if documented_address not in replaced:
                raise TrialError(f"{PAGE.name} no longer speaks of {documented_address}")
            replaced = replaced.replace(documented_address, f"127.0.0.1:{port}")
        return replaced

    def start(self) -> Self:
        if reason := why_not():
            raise TrialError(reason)
        assert PROGRAM is not None
        self.port = self.port or free_port()
        self._folder = tempfile.TemporaryDirectory(prefix="conformance-")
        file = Path(self._folder.name) / "haproxy.cfg"
        file.write_text(self.configuration())
        log = Path(self._folder.name) / "log"
        with log.open("wb") as sink:
            self._process = subprocess.Popen(
                [PROGRAM, "-db", "-f", str(file)],
                stdin=subprocess.DEVNULL,
                stdout=sink,
                stderr=sink,
                start_new_session=True,
            )
        until("haproxy listens", self._listens)
        return self

    def _listens(self) -> bool:
        assert self._process is not None
        assert self._folder is not None
        if self._process.poll() is not None:
            raise TrialError(f"haproxy ended: {(Path(self._folder.name) / 'log').read_text()}")
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    def stop(self) -> None:
        """End the process. Does nothing the second time."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None
        if self._folder is not None:
            self._folder.cleanup()
            self._folder = None

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *exc: object) -> None:
        self.stop()
