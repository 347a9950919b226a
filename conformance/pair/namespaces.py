"""Two hosts, as far as one machine can be two: network namespaces, a switch, cables to pull.

What a proxy cannot do happens here: a host that vanishes with its connections and sends no reset,
retransmissions and back-off of real TCP, addresses that are not the loopback's. Needs root and
`ip` (iproute2); where either is missing the trial says so and gives no figures.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING

from conformance.clock import now_s
from conformance.servers import PYMCD, Server
from conformance.trial import TrialError, quantile, until

from .load import Ledger, Load, differing, read, read_items, writer
from .nodes import Node, Pair
from .strangers import SECRET, secrets

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path
    from typing import Self

    from conformance.trial import Run

#: Of the addresses set aside for measurements like this (RFC 2544); no other run has the same.
NETWORK = f"198.18.{os.getpid() % 250}"
REPLICATION_PORT = 11212
CLIENTS_PER_NODE = 4


def why_not() -> str:
    """Say why there can be no namespaces here; nothing if there can."""
    if os.geteuid() != 0:
        return "not root"
    if shutil.which("ip") is None:
        return "no `ip` here (iproute2)"
    name = f"pymcd{os.getpid()}t"
    for words in (f"netns add {name}", f"-n {name} link add br0 type bridge"):
        done = subprocess.run(["ip", *words.split()], capture_output=True, text=True, check=False)
        if done.returncode:
            subprocess.run(["ip", "netns", "del", name], capture_output=True, check=False)
            return done.stderr.strip() or f"ip {words} failed"
    subprocess.run(["ip", "netns", "del", name], capture_output=True, check=False)
    return ""


def _ip(words: str) -> None:
    subprocess.run(["ip", *words.split()], check=True, capture_output=True)


def _ether(index: int) -> str:
    """Return the hardware address of a host on the cable to the other hosts."""
    return f"02:00:00:00:00:{index + 1:02x}"


#: Nobody has it: what is sent there is lost without a word.
NOWHERE = "02:00:00:00:ff:ff"


class Network:
    """A switch, hosts on it, and us on it as well. A context manager that removes it all."""

    def __init__(self, count: int = 2) -> None:
        mark = f"{os.getpid() % 100000}"
        self.switch = f"pymcd{mark}s"
        self.hosts = [f"pymcd{mark}h{index}" for index in range(count)]
        self.outside = f"pm{mark}o"

    def __enter__(self) -> Self:
        try:
            _ip(f"netns add {self.switch}")
            for name in ("links", "clients"):
                _ip(f"-n {self.switch} link add {name} type bridge")
                _ip(f"-n {self.switch} link set {name} up")
            _ip(f"link add {self.outside} type veth peer name out netns {self.switch}")
            _ip(f"-n {self.switch} link set out master clients up")
            _ip(f"addr add {NETWORK}.100/25 dev {self.outside}")
            _ip(f"link set {self.outside} up")
            for index, host in enumerate(self.hosts):
                _ip(f"netns add {host}")
                _ip(f"-n {host} link set lo up")
                # Two cables for each host: one to the other host, one to the clients.
                for cable, bridge in (("link", "links"), ("client", "clients")):
                    port = f"{cable}{index}"
                    other_end = f"peer name {port} netns {self.switch}"
                    _ip(f"-n {host} link add {bridge} type veth {other_end}")
                    _ip(f"-n {self.switch} link set {port} master {bridge} up")
                    _ip(f"-n {host} addr add {self.address(index, cable)}/25 dev {bridge}")
                    if cable == "link":
                        _ip(f"-n {host} link set {bridge} address {_ether(index)}")
                    _ip(f"-n {host} link set {bridge} up")
        except subprocess.CalledProcessError:
            self.remove()
            raise
        return self

    def __exit__(self, *exc: object) -> None:
        self.remove()

    def remove(self) -> None:
        for words in (
            f"link del {self.outside}",
            *(f"netns del {name}" for name in (*self.hosts, self.switch)),
        ):
            subprocess.run(["ip", *words.split()], capture_output=True, check=False)

    def address(self, index: int, cable: str) -> str:
        return f"{NETWORK}.{(129 if cable == 'link' else 1) + index}"

    def pull(self, index: int, cable: str = "link") -> None:
        """Pull a cable at the switch: the host sees no carrier, nothing comes or goes."""
        _ip(f"-n {self.switch} link set {cable}{index} down")

    def plug(self, index: int, cable: str = "link") -> None:
        _ip(f"-n {self.switch} link set {cable}{index} up")

    def lose(self, *ways: tuple[int, int]) -> None:
        """Lose from now on what hosts send to others on the way between them: (from, to), ..."""
        self._lead(dict.fromkeys(ways, NOWHERE))

    def find(self, *ways: tuple[int, int]) -> None:
        """Lose it no more."""
        self._lead({way: _ether(way[1]) for way in ways})

    def _lead(self, ways: dict[tuple[int, int], str]) -> None:
        """Have what hosts send to others go to a hardware address; all at the same time."""
        tables: dict[int, list[str]] = {}
        for (source, sink), ether in ways.items():
            place = f"{self.address(sink, 'link')} lladdr {ether} nud permanent dev links"
            tables.setdefault(source, []).append(f"neigh replace {place}\n")
        running = [
            (subprocess.Popen(["ip", "-n", self.hosts[source], "-batch", "-"], stdin=-1), table)
            for source, table in tables.items()
        ]
        for process, table in running:
            process.communicate("".join(table).encode())
            if process.returncode:
                raise TrialError("ip neigh: see above")


@dataclass(slots=True)
class Host(Node):
    """A node on a host of its own."""

    def _listening(self, ports: Path) -> bool:
        if not Server._listening(self, ports):
            return False
        # The first is that of the loopback, which every server here gets.
        self.port = int(re.findall(r"TCP INET: (\d+)", ports.read_text())[-1])
        return True


def start_host(network: Network, index: int, secret_file: str, more: Sequence[str] = ()) -> Host:
    """Start a node on a host; the other node is, or will be, on the other of the first two."""
    command = ("ip", "netns", "exec", network.hosts[index], *PYMCD)
    switches = ["-l", network.address(index, "client"), "--node-id", f"host{index}"]
    switches += ["--replication-listen", network.address(index, "link")]
    switches += ["--replication-port", str(REPLICATION_PORT)]
    switches += ["--peer", f"{network.address(1 - index, 'link')}:{REPLICATION_PORT}"]
    switches += ["--replication-secret-file", secret_file, *more]
    way = Pair.usual_way
    switches += way.switches()
    host = Host(
        command, switches, way.environment(), host=network.address(index, "client"), way=way
    )
    host.start()
    return host


def stop_all(hosts: list[Host]) -> None:
    for host in hosts:
        host.stop()


def wait_in_sync(hosts: list[Host]) -> None:
    try:
        until("in sync", lambda: all(host.rows().get("state") == "in_sync" for host in hosts))
    except TrialError as error:
        said = "\n".join(f"{host.rows()}\n{host.log()}" for host in hosts)
        raise TrialError(f"{error}\n{said}") from None


def namespaces(run: Run) -> None:
    """Hosts of their own: the cable between them pulled; a host that vanishes without a word."""
    if reason := why_not():
        run.problem(f"skipped: {reason}")
        return
    if Pair.usual_way.unix or Pair.usual_way.bucket:
        run.problem(f"skipped: {Pair.usual_way.name} does not lead to another host")
        return
    with secrets(SECRET) as (secret_file,), Network() as network, ExitStack() as running:
        hosts = [start_host(network, index, secret_file) for index in range(2)]
        running.callback(stop_all, hosts)
        for number in range(run.times(4)):
            wait_in_sync(hosts)
            _pulled(run, network, hosts, number)
            wait_in_sync(hosts)
            _vanished(run, network, hosts, number)
            gone = number % 2
            network.plug(gone, "client")
            network.plug(gone)
            hosts[gone].stop()
            hosts[gone] = start_host(network, gone, secret_file)


def _load(run: Run, hosts: list[Host], number: int, *, roams: bool = False) -> tuple[Load, Ledger]:
    ledger = Ledger()
    load = Load(hosts)
    rng = run.rng(number)
    for index in range(2):
        for client in range(CLIENTS_PER_NODE):
            name = f"r{number}n{index}c{client}"
            load.add(writer(ledger, name, rng, pause_s=0.001), index, roams=roams)
    return load, ledger


def _pulled(run: Run, network: Network, hosts: list[Host], number: int) -> None:
    load, ledger = _load(run, hosts, number)
    away_s = run.count(20) / 10
    load.at(0.3, lambda: network.pull(number % 2))
    load.at(0.3 + away_s, lambda: network.plug(number % 2))
    load.run(0.5 + away_s)
    plugged_s = now_s() - 0.2
    wait_in_sync(hosts)
    name = f"cable pulled for {away_s:g} s"
    run.figure(f"{name}: in sync again after", now_s() - plugged_s, unit="s")
    taken = [each.taken_s for each in load.timings]
    run.figure(f"{name}: p99", quantile(taken, 0.99) * 1e3, 100, "ms", timed=True)
    run.figure(f"{name}: longest wait", max(taken) * 1e3, unit="ms")
    keys = list(ledger.acknowledged)
    one, other = (read_items(host, keys) for host in hosts)
    run.figure(f"{name}: keys that differ", len(differing(one, other)), 0, of=f"{len(keys):,}")
    lines = ledger.wrong({key: item.value for key, item in one.items()})
    run.figure(f"{name}: acknowledged writes lost", len(lines), 0, of=f"{ledger.writes:,}")
    run.problem(*lines)


def _vanished(run: Run, network: Network, hosts: list[Host], number: int) -> None:
    """All cables of a host are pulled, then it is killed: the other hears nothing of it."""
    gone = number % 2
    load, ledger = _load(run, hosts, number + 1000)

    def vanish() -> None:
        network.pull(gone, "client")
        network.pull(gone)
        hosts[gone].kill()

    def give_up() -> None:
        load.abandon(gone)

    load.at(0.4, vanish)
    load.at(1.2, give_up)
    load.run(1.0)
    survivor = hosts[1 - gone]
    lines = ledger.wrong(read(survivor, list(ledger.acknowledged)))
    run.figure("host vanished: acknowledged writes lost", len(lines), 0, of=f"{ledger.writes:,}")
    run.problem(*lines)
    taken = [each.taken_s for each in load.timings if each.server != gone]
    run.figure(
        "host vanished: p99 of the other", quantile(taken, 0.99) * 1e3, 100, "ms", timed=True
    )
    run.figure("host vanished: longest wait at the other", max(taken) * 1e3, unit="ms")
