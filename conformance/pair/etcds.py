"""A pair whose third vote is kept by a real etcd, Debian's `etcd-server`, of three members.

As with a witness, nodes and members are on hosts of their own: a node is cut off while both sides
take locks, and now and then the etcd's leader dies at about that time; each of all is killed and
frozen. Where there is no etcd, or no root, the trial says so and gives no figures.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import tempfile
import time
import urllib.request
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from conformance.clock import now_s
from conformance.trial import TrialError, until

from . import namespaces
from .load import read
from .namespaces import Host, Network, start_host, stop_all, wait_in_sync
from .strangers import SECRET, secrets
from .votes import ANSWER_S, BAR_MS, Taker

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Self

    from conformance.trial import Run

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
    ) -> None:
        """`clients` are the addresses that it listens on for those; we ask at the last."""
        self.asked_at = clients[-1]
        urls = ",".join(f"http://{address}" for address in clients)
        self._log = folder / f"{name}.log"
        self._command = [
            *prefix, str(PROGRAM), "--name", name, "--data-dir", str(folder / name),
            "--listen-client-urls", urls, "--advertise-client-urls", urls,
            "--listen-peer-urls", f"http://{peers}",
            "--initial-advertise-peer-urls", f"http://{peers}",
            "--initial-cluster", cluster, "--initial-cluster-state", "new",
            "--logger", "zap",
        ]  # fmt: skip
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(self._command, stdout=log, stderr=log, cwd="/")

    def signal(self, number: int) -> None:
        assert self._process is not None
        os.kill(self._process.pid, number)

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def post(self, path: str, **said: Any) -> dict[str, Any]:
        """Return what it answers; raise OSError."""
        request = urllib.request.Request(
            f"http://{self.asked_at}{path}", json.dumps(said).encode(), method="POST"
        )
        with urllib.request.urlopen(request, timeout=2.0) as answer:
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

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="conformance-")
        self.members: list[Member] = []

    @classmethod
    def on_loopback(cls, ports: Sequence[tuple[int, int]]) -> Self:
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


def why_not() -> str:
    """Say why there can be no etcd on hosts of its own; nothing if there can."""
    return "no `etcd` here (etcd-server)" if PROGRAM is None else namespaces.why_not()


def _ready(hosts: list[Host], etcd: Etcd) -> None:
    etcd.wait()
    wait_in_sync(hosts)

    def anyone_may_fail() -> bool:
        rows = [host.rows() for host in hosts]
        return all(each.get("may_fail", "").count(",") == 2 for each in rows) and all(
            each.get("witness_error") == "-" for each in rows
        )

    try:
        until("anyone may fail", anyone_may_fail)
    except TrialError as error:
        raise TrialError(f"{error}\n" + "\n".join(host.log() for host in hosts)) from None


def etcd(run: Run) -> None:
    """Partitions with the vote in an etcd, whose leader dies meanwhile; each of all killed."""
    if reason := why_not():
        run.problem(f"skipped: {reason}")
        return
    with (
        secrets(SECRET) as (secret_file,),
        Network(5) as network,
        Etcd.on_hosts(network) as register,
        ExitStack() as running,
    ):
        at = ",".join(f"{network.address(index, 'link')}:{CLIENT_PORT}" for index in MEMBERS)
        more = ("--witness", f"etcd://{at}")
        hosts = [start_host(network, index, secret_file, more) for index in range(2)]
        running.callback(stop_all, hosts)
        _partitions(run, network, hosts, register)
        _failures(run, network, hosts, register, secret_file, more)


def _partitions(run: Run, network: Network, hosts: list[Host], etcd: Etcd) -> None:
    twice = lost = granted = 0
    longest_s = {False: 0.0, True: 0.0}
    for number in range(run.times(10)):
        _ready(hosts, etcd)
        cut, beheads = number % 2, number % 4 > 1
        leader = etcd.leader() if beheads else None
        takers = [Taker(host, f"lock{number}") for host in hosts]
        for taker in takers:
            taker.start()
        time.sleep(0.2)
        later_s = run.rng(number).uniform(-0.15, 0.15)
        if leader is not None and later_s < 0:
            leader.kill()
            time.sleep(-later_s)
        network.pull(cut)
        if leader is not None and later_s >= 0:
            time.sleep(later_s)
            leader.kill()
        time.sleep(0.6 if leader is None else 3.0)
        network.plug(cut)
        time.sleep(0.3)
        for taker in takers:
            taker.over = True
        for taker in takers:
            taker.join(2 * ANSWER_S)
        if leader is not None:
            leader.start()
        won = [{each.name for each in taker.taken if each.granted} for taker in takers]
        both = won[0] & won[1]
        twice += len(both)
        granted += len(won[0] | won[1])
        run.problem(*(f"{name.decode()} was granted twice" for name in sorted(both)))
        waited_s = max(each.waited_s for each in takers[1 - cut].taken)
        longest_s[beheads] = max(longest_s[beheads], waited_s)
        _ready(hosts, etcd)
        names = sorted(won[0] | won[1])
        for host in hosts:
            held = read(host, names)
            gone = [name for name in names if name not in held]
            lost += len(gone)
            run.problem(*(f"{name.decode()} is gone" for name in gone))
        run.say(
            f"partition {number}{', leader killed' if beheads else ''}: {len(names)} locks,"
            f" the majority waited {waited_s:.3f} s"
        )
    run.figure("partition: locks granted twice", twice, 0, of=f"{granted:,}")
    run.figure("partition: acknowledged locks lost", lost, 0)
    name = "partition: longest wait of the majority"
    run.figure(name, longest_s[False] * 1e3, BAR_MS, "ms", timed=True)
    run.figure(f"{name}, the etcd's leader killed", longest_s[True] * 1e3, unit="ms")


def _failures(
    run: Run,
    network: Network,
    hosts: list[Host],
    etcd: Etcd,
    secret_file: str,
    more: tuple[str, ...],
) -> None:
    """Kill or freeze a node or a member of the etcd in turn, while the others are asked."""
    waits: dict[str, float] = {}
    for number in range(run.times(8)):
        _ready(hosts, etcd)
        who, freezes = number % 4, number // 4 % 2 == 1
        takers = [Taker(host, f"one{number}") for host in hosts]
        leader = etcd.leader()
        targets: dict[int, tuple[str, Host | Member]] = {
            0: ("node", hosts[0]),
            1: ("node", hosts[1]),
            2: ("leader of the etcd", leader),
            3: ("member of the etcd", next(each for each in etcd.members if each is not leader)),
        }
        name, target = targets[who]
        name = f"{name} {'frozen' if freezes else 'killed'}"
        for taker in takers:
            taker.start()
        time.sleep(0.2)
        if freezes:
            target.signal(signal.SIGSTOP)
        else:
            target.kill()
        time.sleep(1.0)
        for taker in takers:
            taker.over = True
        for taker in takers:
            if taker.host is target:
                continue
            taker.join(2 * ANSWER_S)
            waits[name] = max(waits.get(name, 0.0), max(each.waited_s for each in taker.taken))
            late_s = now_s() - taker.taken[-1].asked_s
            if late_s > 1.0:
                run.problem(f"{name}: the service stopped {late_s:.1f} s before the end")
        if freezes:
            target.signal(signal.SIGCONT)
        elif isinstance(target, Member):
            target.start()
        else:
            with contextlib.suppress(OSError):
                target.stop()
            hosts[who] = start_host(network, who, secret_file, more)
        for taker in takers:
            taker.join(2 * ANSWER_S)
    for name, waited_s in sorted(waits.items()):
        run.figure(f"{name}: longest wait elsewhere", waited_s * 1e3, BAR_MS, "ms", timed=True)
