"""A real twemproxy (Debian's nutcracker) in front of shards, as docs/capacity.md configures it."""

from __future__ import annotations

import shutil
import socket
import subprocess
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Self

from conformance.trial import TrialError, free_port, until

from . import page

if TYPE_CHECKING:
    from collections.abc import Sequence

PROGRAM = shutil.which("nutcracker", path="/usr/sbin:/usr/local/sbin:/usr/bin:/usr/local/bin")


def why_not() -> str:
    """Say why there can be no twemproxy here; nothing if there can."""
    return "" if PROGRAM else "no twemproxy installed (Debian: apt-get install nutcracker)"


def documented() -> str:
    return page.block("yaml", "auto_eject_hosts")


@dataclass(slots=True)
class Twemproxy:
    """A running twemproxy. A context manager.

    Args:
        addresses: of the shards.
        text: configuration, with the documented addresses.
    """

    addresses: Sequence[str]
    text: str = field(default_factory=documented)
    port: int = 0
    _process: subprocess.Popen[bytes] | None = None
    _folder: tempfile.TemporaryDirectory[str] | None = None

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def start(self) -> Self:
        if reason := why_not():
            raise TrialError(reason)
        assert PROGRAM is not None
        self.port = free_port()
        self._folder = tempfile.TemporaryDirectory(prefix="conformance-")
        folder = Path(self._folder.name)
        file = folder / "nutcracker.yml"
        text = page.addressed(self.text, self.addresses)
        file.write_text(page.changed(text, (page.PROXY, self.address)))
        own = ("-o", str(folder / "log"), "-p", str(folder / "pid"))
        statistics = ("-a", "127.0.0.1", "-s", str(free_port()))
        self._process = subprocess.Popen(
            [PROGRAM, "-c", str(file), *own, *statistics],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        until("twemproxy listens", self._listens)
        return self

    def _listens(self) -> bool:
        assert self._process is not None
        assert self._folder is not None
        if self._process.poll() is not None:
            raise TrialError(f"twemproxy ended: {(Path(self._folder.name) / 'log').read_text()}")
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
