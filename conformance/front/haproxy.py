"""A real HAProxy in front of a pair, with the configuration that docs/front.md tells users.

Of the documented text only the addresses are replaced, so that what is copied from there is what is
tested here. A second file adds a socket to ask HAProxy what it thinks of the nodes.
"""

from __future__ import annotations

import csv
import re
import shutil
import socket
import subprocess
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Self

from conformance.pair.ways import in_text
from conformance.trial import TrialError, free_port, until
from tests.papers.blocks import DOCS, block

if TYPE_CHECKING:
    from collections.abc import Sequence

    from conformance.pair.ways import Way

PAGE = DOCS / "front.md"
PROGRAM = shutil.which("haproxy", path="/usr/sbin:/usr/local/sbin:/usr/bin:/usr/local/bin")


#: What a check says and hears.
ASKS = re.compile(r" +tcp-check send.*\n +tcp-check expect .*\n")
#: What leaves clients where they are when the first node returns.
STAYS = re.compile(r"^ +stick.*\n", re.MULTILINE)


def why_not() -> str:
    """Say why there can be no HAProxy here; nothing if there can."""
    return "" if PROGRAM else "no haproxy installed (Debian: apt-get install haproxy)"


def documented() -> str:
    """Return the configuration as users find it: who went to the other node stays there."""
    return block(PAGE, "HAProxy", "/etc/haproxy/haproxy.cfg")


def active_active(text: str) -> str:
    """Return the configuration changed as the page says, so that both nodes are used."""
    return _not_staying(text).replace(" backup\n", "\n")


def led_back(text: str) -> str:
    """Return the configuration changed as the page says, so that clients are led back."""
    (told,) = re.findall(r"`(on-marked-up .*?)`", PAGE.read_text())
    return re.sub(r"^( +server cache-1 .*)$", rf"\1 {told}", _not_staying(text), flags=re.MULTILINE)


def checked(text: str, way: Way) -> str:
    """Return the configuration changed as the page says, so that checks come in as clients do."""
    page = PAGE.read_text()
    if way.tls:
        (told,) = re.findall(r"`(default-server check-ssl .*?)`", page)
        text = text.replace("    option tcp-check\n", f"    option tcp-check\n    {told}\n")
    if way.login is in_text:
        (told,) = re.findall(r"`(tcp-check expect string CLIENT_ERROR)`", page)
        text = text.replace("tcp-check expect string VERSION", told)
    elif way.login is not None:
        _, in_binary = ASKS.findall(page)
        text = ASKS.sub(in_binary, text)
    return text


def by_readyz(text: str, http_ports: Sequence[int]) -> str:
    """Return the configuration changed as the page says, so that /readyz is asked.

    Here nodes are on one host, so each has a port of its own for that.
    """
    (told,) = re.findall(r"```haproxy\n( +option httpchk .*?)```", PAGE.read_text(), re.DOTALL)
    told, count = re.subn(r"^ +default-server check port \d+\n", "", told, flags=re.MULTILINE)
    if count != 1:
        raise TrialError(f"{PAGE.name} does not say at which port /readyz is asked")
    text = ASKS.sub("", text).replace("    option tcp-check\n", told)
    for number, port in enumerate(http_ports, 1):
        text = re.sub(
            rf"^( +server cache-{number} \S+)", rf"\1 port {port}", text, flags=re.MULTILINE
        )
    return text


def _not_staying(text: str) -> str:
    return STAYS.sub("", text)


class Backend(NamedTuple):
    """What HAProxy thinks of a node."""

    up: bool
    #: Connections of clients that lead there now.
    connections: int
    #: How its last check ended, `L7OK`; `INI` before the first one.
    check: str


@dataclass(slots=True)
class HAProxy:
    """A running HAProxy. A context manager; `stop` and `start` restart it at the same port.

    Args:
        nodes: ports of the two nodes on 127.0.0.1, the one that is used first in front; or
            `host:port`.
        text: configuration, with the documented addresses.
    """

    nodes: Sequence[int | str]
    text: str = field(default_factory=documented)
    port: int = 0
    _process: subprocess.Popen[bytes] | None = None
    #: Those which were replaced by `reload`.
    _former: list[subprocess.Popen[bytes]] = field(default_factory=list)
    _folder: tempfile.TemporaryDirectory[str] | None = None

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def configuration(self) -> str:
        first, second = (
            f"127.0.0.1:{node}" if isinstance(node, int) else node for node in self.nodes
        )
        replaced = self.text
        for documented_address, address in (
            ("10.0.0.4:11211", self.address),
            ("10.0.0.5:11211", first),
            ("10.0.0.6:11211", second),
        ):
            if documented_address not in replaced:
                raise TrialError(f"{PAGE.name} no longer speaks of {documented_address}")
            replaced = replaced.replace(documented_address, address)
        return replaced

    def start(self) -> Self:
        """Start it; return when it listens and has checked both nodes."""
        if reason := why_not():
            raise TrialError(reason)
        try:
            self._start()
        except BaseException:
            self.stop()
            raise
        return self

    def _start(self) -> None:
        self.port = self.port or free_port()
        self._folder = tempfile.TemporaryDirectory(prefix="conformance-")
        self._path("haproxy.cfg").write_text(self.configuration())
        self._path("socket.cfg").write_text(
            f"global\n    stats socket {self._path('socket')} level admin expose-fd listeners\n"
        )
        self._run()
        until("haproxy listens", self._listens)
        self._wait_checked()

    def _path(self, name: str) -> Path:
        assert self._folder is not None
        return Path(self._folder.name) / name

    def _run(self, *more: str) -> None:
        assert PROGRAM is not None
        files = ("-f", str(self._path("haproxy.cfg")), "-f", str(self._path("socket.cfg")))
        with self._path("log").open("ab") as sink:
            self._process = subprocess.Popen(
                [PROGRAM, "-db", *files, *more],
                stdin=subprocess.DEVNULL,
                stdout=sink,
                stderr=sink,
                start_new_session=True,
            )

    def _listens(self) -> bool:
        assert self._process is not None
        if self._process.poll() is not None:
            raise TrialError(f"haproxy ended: {self.log()}")
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    def _wait_checked(self) -> None:
        until("haproxy has checked", self._has_checked)

    def _has_checked(self) -> bool:
        try:
            return all(each.check != "INI" for each in self.backends())
        except OSError:
            return False  # it takes questions a moment after clients

    def log(self) -> str:
        """Return what it printed since its start."""
        return self._path("log").read_text(errors="replace")

    def _ask(self, question: str) -> str:
        with socket.socket(socket.AF_UNIX) as stream:
            stream.settimeout(10.0)
            stream.connect(str(self._path("socket")))
            stream.sendall(question.encode() + b"\n")
            answer = b""
            while data := stream.recv(1 << 16):
                answer += data
        return answer.decode(errors="replace")  # it shows what a check heard

    def backends(self) -> list[Backend]:
        """Return what it thinks of the nodes, in the order of `nodes`."""
        rows = csv.DictReader(self._ask("show stat").removeprefix("# ").splitlines())
        return [
            Backend(
                row["status"].startswith("UP"),
                int(row["scur"]),
                row["check_status"].removeprefix("* "),
            )
            for row in rows
            if row["svname"] not in ("FRONTEND", "BACKEND")
        ]

    def wait_up(self) -> None:
        """Wait until it holds both nodes to be well."""
        until("haproxy: both nodes up", lambda: all(each.up for each in self.backends()))

    def reload(self) -> None:
        """Replace the process, as `systemctl reload` does: the former one keeps its connections."""
        assert self._process is not None
        former = self._process
        self._former.append(former)
        self._run("-x", str(self._path("socket")), "-sf", str(former.pid))
        own = f"\nPid: {self._process.pid}\n"
        until("the new haproxy answers", lambda: own in self._ask("show info"))
        self._wait_checked()

    def stop(self) -> None:
        """End the process. Does nothing the second time."""
        if self._process is not None:
            self._former.append(self._process)
            self._process = None
        for process in self._former:
            process.kill()
            process.wait()
        self._former.clear()
        if self._folder is not None:
            self._folder.cleanup()
            self._folder = None

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *exc: object) -> None:
        self.stop()
