"""Start, kill, freeze and restart nodes; the pair with its wires as one thing to experiment on.

Every node listens on ports that the operating system chose and writes them to its port file. The
wires exist before the nodes: each node's `--peer` is a wire, and the wire learns where it leads
when the peer has told its port. So a node may come back at another port, as at another address.

What a client should see is looked at through the clients' port alone; `stats replication` says
when to go on.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self, TypeVar

from conformance.servers import PYMCD, Server
from conformance.trial import PATIENCE_S, TrialError, free_port, until

from .ways import MAP_TIMEOUT_S, TEXT, Talk, Way, begin, bucket_at, dial, dial_unix, master_of
from .wire import DIRECTIONS, Direction, Wires

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Sequence

ATTEMPTS = 4
FAKETIME = shutil.which("faketime")


T = TypeVar("T")


def resident_bytes(pid: int) -> int:
    """Return how much memory a process has."""
    found = re.search(r"VmRSS:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    assert found is not None
    return int(found.group(1)) << 10


@dataclass(slots=True)
class Node(Server):
    """One node of a pair."""

    replication_port: int = 0
    host: str = "127.0.0.1"
    way: Way = TEXT
    bucket_port: int = 0
    #: Where the latest map of its bucket leads.
    _master: tuple[str, int] = ("127.0.0.1", 0)

    def _listening(self, ports: Path) -> bool:
        if self.unix_socket:
            # It tells no ports then, and lets clients in when it is in sync, or alone.
            try:
                dial(self.host, self.replication_port, 1.0).close()
            except OSError:
                return False
            return True
        # Explicit: slots make a new class, which the bare super() does not know.
        if not Server._listening(self, ports):
            return False
        said = ports.read_text()
        found = re.search(r"REPLICATION INET: (\d+)", said)
        self.replication_port = int(found.group(1)) if found else 0
        return bool(found)

    def accepts(self) -> bool:
        """Say whether clients are let in: a node listens only when it is ready."""
        try:
            self._dial(1.0).close()
        except OSError:
            return False
        return True

    def _dial(self, timeout_s: float) -> socket.socket:
        if self.unix_socket:
            return dial_unix(self.unix_socket, timeout_s)
        return dial(self.host, self.port, timeout_s)

    def connect(self, timeout_s: float = PATIENCE_S) -> Any:  # in the place of a socket
        """Return a connection to this very node, on which a client has come in."""
        return Talk(self._dial(timeout_s), self.way).enter(timeout_s)

    def visit(self, timeout_s: float) -> Talk:
        """Return the connection that a client of this node makes; nothing is waited for on it."""
        if not self.way.bucket:
            return begin(self._dial(timeout_s), self.way)
        try:
            self._master = master_of(bucket_at(self.bucket_port, self.way, MAP_TIMEOUT_S))
        except TimeoutError:
            pass  # it stands still: clients go where the map led that they have
        return begin(dial(*self._master, timeout_s), self.way)

    def ask(self, request: bytes, ending: bytes = b"\r\n", timeout_s: float = PATIENCE_S) -> bytes:
        """Send one request on a connection of its own and return the answer."""
        with self.connect(timeout_s) as stream:
            stream.sendall(request)
            answer = bytearray()
            while not answer.endswith((ending, b"ERROR\r\n")):
                data = stream.recv(1 << 20)
                if not data:
                    raise TrialError(f"closed after {bytes(answer[-80:])!r}")
                answer += data
        return bytes(answer)

    def rows(
        self, report: bytes = b" replication", timeout_s: float = PATIENCE_S
    ) -> dict[str, str]:
        """Return a report of `stats`; nothing while clients are not let in."""
        try:
            answer = self.ask(b"stats" + report + b"\r\n", b"END\r\n", timeout_s)
        except (OSError, TrialError):
            return {}
        split = (line.split(" ", 2) for line in answer.decode().splitlines()[:-1])
        return {words[1]: words[2] for words in split if len(words) == 3}

    def descriptors(self) -> int:
        return len(os.listdir(f"/proc/{self.pid}/fd"))

    def times_alone(self) -> int:
        """Say how often the node has gone on without the others, also after its death."""
        return self.log().count("serving alone")

    def kill(self) -> None:
        """End the process as a power cut would, as far as a process can."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()


@dataclass(slots=True)
class Pair:
    """Two nodes, or more, each of which dials all others through a wire. A context manager.

    Args:
        options: of every node; `own` of one.
        count: how many nodes.
        wired: whether the links go through the wires, which cost some time.
        settled: whether a node comes back at the port where its clients know it.
        way: how clients come in.
        apart: whether the nodes begin without reaching one another, until `heal`.
        named: which others a node names as its peers, where not all.
        absent: nodes that are not started at first.
        has_bucket: whether clients find the nodes by a bucket's map; they are settled then.
        commands: what starts a node, where that is not pymcd's command.
        environments: variables of a node.
    """

    #: Of all pairs, whatever a trial says: what does it show then?
    experiment: ClassVar[Sequence[str]] = ()
    #: How clients come to all of them, unless a trial says something else.
    usual_way: ClassVar[Way] = TEXT

    options: Sequence[str] = ()
    own: dict[int, Sequence[str]] = field(default_factory=dict)
    count: int = 2
    wired: bool = True
    settled: bool = False
    apart: bool = False
    named: dict[int, Sequence[int]] = field(default_factory=dict)
    absent: Sequence[int] = ()
    has_bucket: bool = False
    way: Way = field(default_factory=lambda: Pair.usual_way)
    commands: dict[int, Sequence[str]] = field(default_factory=dict)
    environments: dict[int, dict[str, str]] = field(default_factory=dict)
    nodes: list[Node] = field(default_factory=list)
    _wires: Wires | None = None
    # (who dials, whom): number and port of the wire
    _links: dict[tuple[int, int], tuple[int, int]] = field(default_factory=dict)
    _ports: list[int] = field(default_factory=list)
    _client_ports: list[int] = field(default_factory=list)
    _bucket_ports: list[int] = field(default_factory=list)

    def __enter__(self) -> Self:
        try:
            return self._set_up()
        except BaseException:
            self.stop()
            raise

    def _set_up(self) -> Self:
        if self.has_bucket or self.way.bucket:
            self.has_bucket = self.settled = True
            self._bucket_ports = [free_port() for _ in range(self.count)]
        if self.settled:
            self._client_ports = [free_port() for _ in range(self.count)]
        if not self.wired or self.way.unix:
            self._ports = [free_port() for _ in range(self.count)]
        if not self.wired:
            self._begin()
            return self
        self._wires = Wires()
        for dialler in range(self.count):
            for other in range(self.count):
                if dialler != other:
                    self._links[dialler, other] = self._wires.open()
        if self.apart:
            self.part(how="reset")
        self._begin()
        return self

    def _begin(self) -> None:
        for index in range(self.count):
            self.nodes.append(self._make(index))
            if index not in self.absent:
                self._start(index)

    def __exit__(self, *exc: object) -> None:
        self.stop()

    def stop(self) -> None:
        for node in self.nodes:
            with contextlib.suppress(ProcessLookupError):
                if node.running:
                    node.signal(signal.SIGCONT)
            node.stop()
        if self._wires is not None:
            self._wires.close()

    # -- nodes ---------------------------------------------------------------------------------

    def _make(self, index: int) -> Node:
        peers: list[str] = []
        for (dialler, other), (_, port) in self._links.items():
            if dialler == index and other in self.named.get(index, range(self.count)):
                peers += ["--peer", f"127.0.0.1:{port}"]
        own_port = self._ports[index] if self._ports else -1
        if not self.wired:
            for port in self._ports:
                if port != own_port:
                    peers += ["--peer", f"127.0.0.1:{port}"]
        switches = ["--replication-port", str(own_port), "--node-id", f"node{index}", *peers]
        if self.settled and not self.way.unix:
            switches += ["-p", str(self._client_ports[index])]
        if self.has_bucket:
            switches += self._bucket_switches(index)
        switches += self.way.switches()
        switches += [*self.options, *self.own.get(index, ()), *self.experiment]
        environment = self.way.environment() | self.environments.get(index, {})
        node = Node(self.commands.get(index, PYMCD), switches, environment, way=self.way)
        if self._ports:
            node.replication_port = own_port
        if self.has_bucket:
            node.bucket_port = self._bucket_ports[index]
        return node

    def _bucket_switches(self, index: int) -> list[str]:
        switches = ["--couchbase", f"127.0.0.1:{self._bucket_ports[index]}"]
        if self.count == 1:
            switches += ["--replication-listen", "127.0.0.1"]  # a group of one, as a node knows it
        for other in range(self.count):
            if other != index:
                ports = f"{self._client_ports[other]}:{self._bucket_ports[other]}"
                switches += ["--couchbase-peer", f"127.0.0.1:{ports}"]
        return switches

    def _start(self, index: int) -> None:
        node = self.nodes[index].start()
        for (_, other), (wire, _) in self._links.items():
            if other == index:
                self.order("target", wire, port=node.replication_port)

    def restart(self, index: int) -> Node:
        """Let a killed node come back, empty; return it when its process listens for its peer."""
        self.nodes[index].stop()
        self.nodes[index] = self._make(index)
        self._start(index)
        return self.nodes[index]

    def in_sync(self, timeout_s: float = PATIENCE_S, without: int | None = None) -> bool:
        """Say whether all nodes are in sync, under one that holds all others to be in sync.

        `without` leaves one node out.
        """
        leaders = set()
        followers = 0
        nodes = [node for index, node in enumerate(self.nodes) if index != without]
        for node in nodes:
            rows = node.rows(timeout_s=timeout_s)
            if rows.get("state") != "in_sync":
                return False
            leaders.add(rows["coordinator"])
            if rows["role"] == "coordinator":
                followers = sum(rows[name] == "yes" for name in rows if name.endswith(":in_sync"))
        return len(leaders) == 1 and followers == len(nodes) - 1

    def wait_in_sync(self, patience_s: float = PATIENCE_S, without: int | None = None) -> float:
        try:
            return until("in sync", lambda: self.in_sync(without=without), patience_s)
        except TrialError as error:
            raise TrialError(f"{error}\n{self.report()}") from None

    def wait_alone(self, index: int) -> None:
        """Wait until a node has given the others up."""
        node = self.nodes[index]
        until(f"node{index} alone", lambda: node.rows().get("state") == "alone")

    def undisturbed(self, act: Callable[[int], T]) -> T | None:
        """Do something while all are in sync; None: at each attempt a node went on by itself.

        So they do when they get no CPU, and what is atomic in sync is not promised then; whom the
        other gave up closes his clients' connections. `act` is given the number of the attempt.
        """
        for attempt in range(ATTEMPTS):
            self.wait_in_sync()
            before = [node.times_alone() for node in self.nodes]
            broken = None
            try:
                result = act(attempt)
            except (TrialError, OSError) as error:
                broken = error
            if before == [node.times_alone() for node in self.nodes] and self.in_sync():
                if broken is not None:
                    raise broken
                return result
        return None

    def pids(self) -> list[int]:
        """Return the processes of the nodes that have one, and that of the wires."""
        wires = () if self._wires is None else (self._wires.pid,)
        return [*wires, *(pid for node in self.nodes for pid in node.pids())]

    def states(self) -> list[str]:
        return [node.rows().get("state", "-") for node in self.nodes]

    def report(self) -> str:
        """What the nodes say about themselves, for a person."""
        lines: list[str] = []
        for index, node in enumerate(self.nodes):
            lines.append(f"-- node{index}, {'running' if node.running else 'ended'}")
            lines += [f"{name} {value}" for name, value in node.rows(timeout_s=2.0).items()]
            lines += node.log().splitlines()[-12:]
        return "\n".join(lines)

    def coordinator(self) -> int:
        """Return the index of the node that coordinates, as node 0 sees it."""
        for index, node in enumerate(self.nodes):
            if node.rows().get("role") == "coordinator":
                return index
        raise TrialError(f"nobody coordinates\n{self.report()}")

    # -- wires ---------------------------------------------------------------------------------

    def order(self, do: str, wire: int, **words: object) -> dict[str, object]:
        assert self._wires is not None
        return self._wires.order(do, wire=wire, **words)

    def _ways(
        self, source: int | None = None, sink: int | None = None
    ) -> list[tuple[int, Direction]]:
        """All (wire, direction) that carry bytes from `source` to `sink`; None: from, to any."""
        found: list[tuple[int, Direction]] = []
        for (dialler, other), (wire, _) in self._links.items():
            for way in DIRECTIONS:
                ends = (dialler, other) if way == "forth" else (other, dialler)
                if source in (None, ends[0]) and sink in (None, ends[1]):
                    found.append((wire, way))
        return found

    def _between(self, node: int | None) -> list[int]:
        return [wire for ends, (wire, _) in self._links.items() if node is None or node in ends]

    def delay(self, seconds: float) -> None:
        """Delay what the nodes tell each other by so much each way."""
        for wire, way in self._ways():
            self.order("delay", wire, way=way, seconds=seconds)

    def limit(self, bytes_s: float) -> None:
        for wire, way in self._ways():
            self.order("rate", wire, way=way, bytes_s=bytes_s)

    def stall(self, source: int | None = None, sink: int | None = None) -> None:
        """Let nothing pass from `source` to `sink`, both ways by default; nothing is lost."""
        for wire, way in self._ways(source, sink):
            self.order("stall", wire, way=way)

    def flow(self) -> None:
        for wire, way in self._ways():
            self.order("flow", wire, way=way)

    def halve(self) -> None:
        """Deliver half of the next bytes that pass, then reset."""
        for wire, way in self._ways():
            self.order("halve", wire, way=way)

    def cut(self, *, reset: bool = True) -> None:
        """End the links as they are; the nodes may dial anew."""
        for wire in self._between(None):
            self.order("cut", wire, reset=reset)

    def part(self, *, how: str = "silent", node: int | None = None) -> None:
        """Separate the nodes (or one from the others) until `heal`.

        silent: packets vanish, what dials waits; reset: connections are reset, as are new ones.
        """
        for wire in self._between(node):
            if how == "reset":
                self.order("refuse", wire)
                self.order("cut", wire, reset=True)
            else:
                self.order("down", wire)
                for way in DIRECTIONS:
                    self.order("stall", wire, way=way)

    def heal(self, *, lose: bool = True) -> None:
        """Join what was parted. `lose`: connections of before are reset, else they go on."""
        for wire in self._between(None):
            if lose:
                self.order("cut", wire, reset=True)
            for way in DIRECTIONS:
                self.order("flow", wire, way=way)
            self.order("up", wire)

    def recorded(self, dialler: int, other: int) -> dict[str, bytes]:
        """The first bytes of the latest connection of a wire, each way."""
        answer = self.order("recorded", self._links[dialler, other][0])
        return {way: bytes.fromhex(str(data)) for way, data in answer.items()}

    def passed_bytes(self) -> int:
        total = 0
        for wire in self._between(None):
            answer = self.order("passed", wire)
            total += sum(int(str(answer[way])) for way in DIRECTIONS)
        return total
