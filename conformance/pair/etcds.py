"""A pair whose third vote is kept by a real etcd, Debian's `etcd-server`, of three members.

As with a witness, nodes and members are on hosts of their own, and the trials are the same; only
that an etcd outlives one of its members, and then takes its time to elect another leader. Where
there is no etcd, or no root, the trial says so and gives no figures.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import tempfile
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from conformance.trial import until

from . import namespaces
from .thirds import DISK
from .votes import failures, partitions

if TYPE_CHECKING:
    import ssl
    from collections.abc import Iterable, Sequence
    from typing import Self

    from conformance.tls import Identity
    from conformance.trial import Run

    from .namespaces import Network

PROGRAM = shutil.which("etcd", path=os.defpath + ":/usr/bin:/usr/local/bin")
CLIENT_PORT: Final = 2379
PEER_PORT: Final = 2380
#: Of the three of an etcd, by number of their hosts.
MEMBERS: Final = (2, 3, 4)
_STATUS: Final = "/v3/maintenance/status"


class Member:
    """One process of an etcd."""

    def __init__(
        self,
        name: str,
        folder: Path,
        *,
        clients: Sequence[str],
        peers: str,
        cluster: str,
        prefix: Sequence[str] = (),
        tls: Identity | None = None,
    ) -> None:
        """`clients` are the addresses that it listens on for those; we ask at the last.

        `tls`: with this certificate, and clients show one that its authority has signed.
        """
        self.asked_at = clients[-1]
        self.asked_at_first = clients[0]
        self._scheme = "http" if tls is None else "https"
        self._context: ssl.SSLContext | None = None
        secured: Sequence[str] = ()
        if tls is not None:
            self._context = tls.client()
            self._context.load_cert_chain(tls.chain_file, tls.key_file)
            secured = (
                "--cert-file", tls.chain_file, "--key-file", tls.key_file,
                "--client-cert-auth", "--trusted-ca-file", tls.ca_file,
            )  # fmt: skip
        urls = ",".join(f"{self._scheme}://{address}" for address in clients)
        self._log = folder / f"{name}.log"
        self._command = [
            *prefix, str(PROGRAM), "--name", name, "--data-dir", str(folder / name),
            "--listen-client-urls", urls, "--advertise-client-urls", urls,
            "--listen-peer-urls", f"http://{peers}",
            "--initial-advertise-peer-urls", f"http://{peers}",
            "--initial-cluster", cluster, "--initial-cluster-state", "new",
            "--logger", "zap", *secured,
        ]  # fmt: skip
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                self._command, stdout=log, stderr=log, cwd="/", start_new_session=True
            )

    def signal(self, number: int) -> None:
        assert self._process is not None
        os.kill(self._process.pid, number)

    def pids(self) -> Iterable[int]:
        process = self._process
        return () if process is None else (process.pid,)

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def log(self) -> str:
        return self._log.read_text(errors="replace")

    def post(self, path: str, token: str = "", **said: Any) -> dict[str, Any]:
        """Return what it answers; raise OSError."""
        # A certificate is for a name, and etcd takes none to listen on.
        host = (
            self.asked_at
            if self._context is None
            else f"localhost:{self.asked_at.rpartition(':')[2]}"
        )
        request = urllib.request.Request(
            f"{self._scheme}://{host}{path}", json.dumps(said).encode(), method="POST"
        )
        if token:
            request.add_header("Authorization", token)
        with urllib.request.urlopen(request, timeout=2.0, context=self._context) as answer:
            result: dict[str, Any] = json.load(answer)
        return result

    def leads(self) -> bool:
        """Whether it is the leader, as far as it knows."""
        try:
            status = self.post(_STATUS)
        except OSError:
            return False
        return bool(status.get("leader")) and status["leader"] == status["header"]["member_id"]

    def knows_leader(self) -> bool:
        try:
            return bool(self.post(_STATUS).get("leader", "0") != "0")
        except OSError:
            return False


class Etcd:
    """All members of one etcd. A context manager."""

    outlives = True

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="conformance-", dir=DISK)
        self.members: list[Member] = []
        self._failing: Member | None = None

    @classmethod
    def on_loopback(cls, ports: Sequence[tuple[int, int]], *, tls: Identity | None = None) -> Self:
        """Return an etcd with these ports, for clients and for each other."""
        self = cls()
        cluster = ",".join(f"m{n}=http://127.0.0.1:{port}" for n, (_, port) in enumerate(ports))
        for number, (client_port, peer_port) in enumerate(ports):
            member = Member(
                f"m{number}",
                Path(self._folder.name),
                clients=[f"127.0.0.1:{client_port}"],
                peers=f"127.0.0.1:{peer_port}",
                cluster=cluster,
                tls=tls,
            )
            self.members.append(member)
        return self

    @classmethod
    def on_hosts(cls, network: Network) -> Self:
        """Return an etcd whose members are on the last hosts of a network."""
        self = cls()
        links = {index: network.address(index, "link") for index in MEMBERS}
        cluster = ",".join(f"m{n}=http://{link}:{PEER_PORT}" for n, link in links.items())
        for index, link in links.items():
            member = Member(
                f"m{index}",
                Path(self._folder.name),
                clients=[
                    f"{address}:{CLIENT_PORT}"
                    for address in (link, network.address(index, "client"))
                ],
                peers=f"{link}:{PEER_PORT}",
                cluster=cluster,
                prefix=("ip", "netns", "exec", network.hosts[index]),
            )
            self.members.append(member)
        return self

    def __enter__(self) -> Self:
        for member in self.members:
            member.start()
        try:
            self.wait()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *exc: object) -> None:
        for member in self.members:
            member.kill()
        self._folder.cleanup()

    def wait(self) -> None:
        """Wait until all members know who leads."""
        until("the etcd", lambda: all(member.knows_leader() for member in self.members))

    def leader(self) -> Member:
        found: list[Member] = []

        def look() -> bool:
            found[:] = [member for member in self.members if member.leads()]
            return len(found) == 1

        until("a leader of the etcd", look)
        return found[0]

    # -- as a third --------------------------------------------------------------------------------

    def switches(self) -> Sequence[str]:
        """Return what nodes are started with."""
        return ("--witness", "etcd://" + ",".join(member.asked_at_first for member in self.members))

    def kill(self) -> None:
        """End the one that leads."""
        self._failing = self.leader()
        self._failing.kill()

    def start(self) -> None:
        """Start that again, and wait until all is well."""
        assert self._failing is not None
        self._failing.start()
        self._failing = None
        self.wait()

    def signal(self, number: int) -> None:
        """Send a signal to the one that leads, or to whom one was sent before."""
        if number == signal.SIGCONT:
            assert self._failing is not None
            self._failing.signal(number)
            self._failing = None
        else:
            self._failing = self.leader()
            self._failing.signal(number)

    def pids(self) -> Iterable[int]:
        """Return the processes that run."""
        return [pid for member in self.members for pid in member.pids()]

    def log(self) -> str:
        """Return what all of them said so far, as an etcd does: much."""
        lines = [member.log().splitlines()[-3:] for member in self.members]
        return "\n".join(line[:300] for each in lines for line in each)


def why_not() -> str:
    """Say why there can be no etcd on hosts of its own; nothing if there can."""
    return "no `etcd` here (etcd-server)" if PROGRAM is None else namespaces.why_not()


def etcd_cuts(run: Run) -> None:
    """As `witness-cuts`, with the vote in an etcd, whose leader dies at about that time."""
    if PROGRAM is None:
        run.problem(f"skipped: {why_not()}")
        return
    partitions(run, _etcd_of, len(MEMBERS), beheads=True)


def etcd_failures(run: Run) -> None:
    """As `witness-failures`, with the vote in an etcd, of which its leader fails."""
    if PROGRAM is None:
        run.problem(f"skipped: {why_not()}")
        return
    failures(run, _etcd_of, len(MEMBERS))


def _etcd_of(network: Network, _secret_file: str) -> Etcd:
    return Etcd.on_hosts(network)
