"""One attack on one server after the other, and what the probe and the memory say of each.

memcached has one thread that serves, as we have. Servers run at a higher priority than hostile
clients where that is allowed, so that what is measured is the server and not who else has the CPUs;
what it waited for a CPU all the same is taken off its stalls.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial, wraps
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Self

from conformance.pair.nodes import Pair, resident_bytes
from conformance.pair.ways import PASSWORD, TEXT, USER, Way, in_text
from conformance.servers import PYMCD, Server, favour, find_memcached, version_of
from conformance.trial import TrialError, free_port, quantile

from .known import binary
from .probe import LONG_S
from .scene import LOOPBACK, Scene

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from conformance.trial import Run

    from .rows import Row

MIB = 1 << 20
PROBE = Path(__file__).with_name("probe.py")
#: Nobody notices a stall of so long, and a machine with others on it makes some.
STALL_MAX_S = 0.020
#: What a server may take beyond what it holds: of `-m`, and in all.
MEMORY_FACTOR = 1.5
RESIDENT_FACTOR = 1.0
MEMORY_MORE_MB = 16
#: Of what it had before, how much it may have when the clients have left.
LEFT_FACTOR = 1.25
LEFT_PATIENCE_S = 5.0
IDLE_S = 0.5
INTERVAL_S = 0.001
NEWCOMERS_S = 0.025
#: Of each node's log, what tells why a pair parted.
LOG_LINES = 5
#: Half of what a peer is waited for by default.
CPU_WAIT_MAX_S = 0.04
ATTEMPTS = 3


@dataclass(slots=True)
class Circumstances:
    """What the command line says of all rows."""

    reference: tuple[str, ...] | None = field(default_factory=find_memcached)
    alone: bool = True
    pair: bool = True


# -- the probe -----------------------------------------------------------------------------------


@dataclass(slots=True)
class Seen:
    """What a probe saw."""

    taken_s: list[float]
    late_s: float
    long: list[tuple[float, float, float]]
    lost: int
    realtime: bool

    @property
    def longest_s(self) -> float:
        return max(self.taken_s, default=0.0)

    @property
    def stall_s(self) -> float:
        """The longest answer, without what its server waited for a CPU."""
        # What is not told one by one is shorter than that.
        short = [each for each in self.taken_s if each <= LONG_S]
        return max([*short, *(taken_s - waited_s for _, taken_s, waited_s in self.long)])

    @property
    def waited_s(self) -> float:
        """The longest that the server waited for a CPU while it was asked."""
        return max((waited_s for _, _, waited_s in self.long), default=0.0)

    def quantile_s(self, share: float) -> float:
        """As if it had asked every millisecond, whether or not there was an answer."""
        spread = []
        for taken_s in self.taken_s:
            while taken_s > 0:
                spread.append(taken_s)
                taken_s -= 0.001
        return quantile(spread, share)


def _schedule_of(pid: int) -> str:
    """Return where the kernel tells of the thread that serves, if it does."""
    found = f"/proc/{pid}/task/{pid}/schedstat"
    for task in sorted(Path(f"/proc/{pid}/task").iterdir()):
        if "worker" in (task / "comm").read_text():
            found = str(task / "schedstat")
    return found if os.path.exists(found) else ""


def _login(way: Way) -> tuple[bytes, bytes]:
    """Return what a client says to come in, and how the answer ends; none: by its length."""
    if way.login is None:
        return b"", b""
    if way.login is in_text:
        value = f"{USER} {PASSWORD}".encode()
        return b"set login 0 0 %d\r\n%b\r\n" % (len(value), value), b"\r\n"
    return binary(0x21, b"PLAIN", f"\0{USER}\0{PASSWORD}".encode()), b""


def reading(scene: Scene) -> dict[str, object]:
    """Return the orders of a probe that gets."""
    greeting, _ = _login(scene.way)
    if scene.way.tongue is TEXT.tongue:
        return _order(scene.server, scene.port, greeting, b"get probe\r\n", b"\r\n")
    # A stranger may ask for the version, and memcached need not know our users.
    return _order(scene.server, scene.port, b"", binary(0x0B), b"")


def coming(scene: Scene) -> dict[str, object]:
    """Return the orders of a probe that comes anew for each request."""
    return reading(scene) | {"comes": True, "interval_s": NEWCOMERS_S}


def writing(server: Server, port: int, way: Way) -> dict[str, object]:
    """Return the orders of a probe that sets."""
    greeting, _ = _login(way)
    if way.tongue is TEXT.tongue:
        return _order(server, port, greeting, b"set probe 0 0 1\r\nx\r\n", b"\r\n")
    return _order(server, port, greeting, binary(0x01, b"probe", b"x", bytes(8)), b"")


def _order(
    server: Server, port: int, greeting: bytes, request: bytes, ending: bytes
) -> dict[str, object]:
    return {
        "host": LOOPBACK,
        "port": port,
        "greeting": greeting.hex(),
        "request": request.hex(),
        "ending": ending.hex(),
        "schedule": _schedule_of(server.pid),
        "interval_s": INTERVAL_S,
        "comes": False,
    }


class Probing:
    """A probe at work. A context manager, after which there is `seen`."""

    def __init__(self, order: dict[str, object]) -> None:
        self._order = order
        self.seen: Seen | None = None

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(
            [sys.executable, "-I", str(PROBE)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(self._order).encode() + b"\n")
        self._process.stdin.flush()
        if self._process.stdout.readline() != b"ready\n":
            self._process.kill()
            self._process.wait()
            raise TrialError("the probe was not answered")
        return self

    def __exit__(self, *exc: object) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.send_signal(signal.SIGTERM)
        text = self._process.stdout.read()
        self._process.wait()
        self._process.stdin.close()
        self._process.stdout.close()
        found = json.loads(text)
        if found.pop("failed"):
            raise TrialError(f"the probe ended: {text[-200:]!r}")
        self.seen = Seen(**found)


def probed(scene: Scene, act: Callable[[], None]) -> Seen:
    """Do something beside a probe."""
    with Probing(reading(scene)) as probing:
        act()
    assert probing.seen is not None
    return probing.seen


# -- memory --------------------------------------------------------------------------------------


def forget_peak(pid: int) -> None:
    """Have the kernel note the most memory of a process anew."""
    Path(f"/proc/{pid}/clear_refs").write_text("5")


def peak_bytes(pid: int) -> int:
    """Return the most memory that a process had since then."""
    found = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    assert found is not None
    return int(found.group(1)) << 10


# -- servers -------------------------------------------------------------------------------------


@dataclass(slots=True)
class Found:
    """What one attack on one server gave."""

    idle: Seen
    busy: Seen
    newcomer: Seen
    idle_bytes: int
    before_bytes: int
    peak_bytes: int
    after_bytes: int
    took_s: float
    problem: str
    scene: Scene

    @property
    def over_idle_mb(self) -> float:
        return (self.peak_bytes - self.idle_bytes) / MIB


def _switches(row: Row, *, ours: bool) -> list[str]:
    switches = ["-m", str(row.memory_mb), *row.switches]
    return [*switches, *(row.own if ours else ("-t", "1"))]


@contextlib.contextmanager
def _unread_log() -> Iterator[tuple[str, ...]]:
    """Yield what goes before a command, so that it logs into a pipe that nobody reads."""
    with tempfile.TemporaryDirectory(prefix="conformance-") as path:
        Path(path).chmod(0o755)
        pipe = os.path.join(path, "log")
        os.mkfifo(pipe)
        reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
        try:
            yield ("sh", "-c", 'exec "$@" 2>"$0"', pipe)
        finally:
            os.close(reader)


def _command(row: Row, command: Sequence[str], running: ExitStack) -> Sequence[str]:
    return (*running.enter_context(_unread_log()), *command) if row.log_unread else command


class Listening(NamedTuple):
    """Ports of one server, and what has it listen there; 0: it has none, or any free one."""

    plain: int
    tls: int
    http: int
    switches: list[str]


def _listening(row: Row) -> Listening:
    switches: list[str] = []
    plain = tls = http = 0
    if row.tls:
        from conformance.tls import shared_identity

        plain, tls = free_port(), free_port()
        switches += shared_identity().switches()
        switches += ["-l", f"notls:{LOOPBACK}:{plain}", "-l", f"{LOOPBACK}:{tls}"]
    if row.http:
        http = free_port()
        switches += ["--http", f"{LOOPBACK}:{http}"]
    return Listening(plain, tls, http, switches)


def _scene(run: Run, row: Row, server: Server, listening: Listening, *, ours: bool) -> Scene:
    port = listening.plain or server.port
    scene = Scene(server, port, listening.tls, way=row.way, scale=run.scale, is_pymcd=ours)
    scene.udp_port, scene.http_port = server.udp_port, listening.http
    return scene


def _alone(run: Run, row: Row, command: Sequence[str], *, ours: bool, running: ExitStack) -> Scene:
    listening = _listening(row)
    switches = [*listening.switches, *row.way.switches(), *_switches(row, ours=ours)]
    bucket = 0
    if row.bucket:
        bucket = free_port()
        switches += ["--couchbase", f"{LOOPBACK}:{bucket}", "--replication-listen", LOOPBACK]
        switches += ["--replication-port", "-1"]
    environment = row.way.environment() | row.environment()
    server = Server(_command(row, command, running), switches, environment)
    running.enter_context(server)
    favour(server.pid)
    scene = _scene(run, row, server, listening, ours=ours)
    scene.bucket_port = bucket
    return scene


def _attack(run: Run, row: Row, scene: Scene) -> Found:
    pid = scene.server.pid
    idle = probed(scene, lambda: scene.hold(IDLE_S))
    idle_bytes = resident_bytes(pid)
    if row.prepare is not None:
        row.prepare(scene)
        time.sleep(0.2)
    before_bytes = resident_bytes(pid)
    forget_peak(pid)
    problem = ""
    began_s = time.monotonic()

    def act() -> None:
        nonlocal problem
        time.sleep(0.1)
        try:
            row.act(scene)
        except (OSError, TrialError) as error:
            problem = f"{type(error).__name__}: {error}"
        scene.close()
        time.sleep(0.3)

    with Probing(coming(scene)) as newcomer:
        busy = probed(scene, act)
    assert newcomer.seen is not None
    took_s = time.monotonic() - began_s
    peak = peak_bytes(pid)
    deadline_s = time.monotonic() + LEFT_PATIENCE_S
    while (after := resident_bytes(pid)) > before_bytes * LEFT_FACTOR:
        if time.monotonic() > deadline_s:
            break
        time.sleep(0.1)
    greatest = sorted(busy.long, key=lambda each: -each[1])[:5]
    told = ", ".join(f"{_ms(taken_s):g} ms at {at_s:.2f} s" for at_s, taken_s, _ in greatest)
    run.say(f"{scene.server.command[-1]}: {took_s:.1f} s; longest {told or 'below 5 ms'}")
    return Found(
        idle, busy, newcomer.seen, idle_bytes, before_bytes, peak, after, took_s, problem, scene
    )


def _tell(run: Run, row: Row, name: str, found: list[Found], stall_max_s: float | None) -> None:
    """Give the figures of one server; with bars where there is one for its stalls."""
    judged = stall_max_s is not None
    ms = partial(run.figure, unit="ms", timed=True)
    ms(f"{name}: longest of the idle server", _ms(max(each.idle.longest_s for each in found)))
    stalls = [_ms(each.busy.stall_s) for each in found]
    what = f"{name}: longest stall"
    ms(what, quantile(stalls, 0.5), _ms(stall_max_s) if stall_max_s is not None else None)
    if len(found) > 1:
        ms(f"{what}, least of {len(found)}", min(stalls))
        ms(f"{what}, greatest of {len(found)}", max(stalls))
    with_waits = max(_ms(each.busy.longest_s) for each in found)
    if with_waits > max(stalls) + 5:
        ms(f"{what}, with what it waited for a CPU", with_waits)
    ms(f"{name}: p99.9", max(_ms(each.busy.quantile_s(0.999)) for each in found))
    ms(f"{name}: longest wait of a newcomer", max(_ms(each.newcomer.stall_s) for each in found))
    factor = RESIDENT_FACTOR if row.resident else MEMORY_FACTOR
    run.figure(
        f"{name}: memory over idle",
        max(round(each.over_idle_mb, 1) for each in found),
        factor * row.memory_mb + MEMORY_MORE_MB if judged else None,
        "MiB",
    )
    if not row.stores:
        left = max(found, key=lambda each: each.after_bytes / each.before_bytes)
        run.figure(
            f"{name}: memory when they have left",
            round(left.after_bytes / MIB, 1),
            round(left.before_bytes / MIB * LEFT_FACTOR, 1) if judged else None,
            "MiB",
            of=f"{left.before_bytes / MIB:.1f} before",
        )
    lost = sum(each.busy.lost for each in found)
    run.figure(f"{name}: connections of others lost", lost, 0 if judged else None)
    for each in found:
        for what, count, most in each.scene.counts:
            run.figure(f"{name}: {what}", count, most if judged else None)
        if each.problem:
            run.problem(f"{name}: {each.problem}")


def _ms(seconds: float) -> float:
    milliseconds = seconds * 1e3
    return round(milliseconds, 1 if milliseconds < 100 else None)


def measure(run: Run, row: Row, circumstances: Circumstances) -> None:
    """Do one row: on memcached, on ours alone, on either node of a pair."""
    stall_max_s = STALL_MAX_S
    times = max(1, run.trials)
    if row.on_memcached and circumstances.reference is not None:
        found = []
        for _ in range(times):
            with ExitStack() as running:
                scene = _alone(run, row, circumstances.reference, ours=False, running=running)
                found.append(_attack(run, row, scene))
        _tell(run, row, f"memcached {version_of(circumstances.reference)}", found, None)
        stall_max_s = max(stall_max_s, quantile([each.busy.stall_s for each in found], 0.5))
    if circumstances.alone and not row.only_pair:
        found = []
        for _ in range(times):
            with ExitStack() as running:
                scene = _alone(run, row, PYMCD, ours=True, running=running)
                found.append(_attack(run, row, scene))
                if not scene.server.answers():
                    raise TrialError(f"it is gone\n{scene.server.log()}")
        _tell(run, row, "pymcd", found, stall_max_s)
    if circumstances.pair:
        for role in ("coordinator", "follower"):
            _one_of_a_pair(run, row, role)


def _one_of_a_pair(run: Run, row: Row, role: str) -> None:
    """Attack a node of a pair, while somebody writes to the other one.

    Once more, if the pair parted, and a node had no CPU for about as long as a peer is waited for.
    """
    for _ in range(ATTEMPTS):
        found = _attack_pair(run, row, role)
        if not found.degradations or found.waited_s < CPU_WAIT_MAX_S:
            break
        run.say(f"parted {found.degradations} times, but waited {_ms(found.waited_s)} ms for a CPU")
    name = f"pair, {role} attacked"
    attack = found.attack
    run.figure(f"{name}: degradations", found.degradations, 0)
    if found.degradations:
        for lines in found.logs:
            run.problem(*lines)
    run.figure(f"{name}: longest stall", _ms(attack.busy.stall_s), unit="ms")
    run.figure(f"{name}: longest write on the other node", _ms(found.beside.longest_s), unit="ms")
    run.figure(f"{name}: longest wait of a node for a CPU", _ms(found.waited_s), unit="ms")
    run.figure(f"{name}: memory over idle", round(attack.over_idle_mb, 1), unit="MiB")
    if attack.problem:
        run.problem(f"{name}: {attack.problem}")


@dataclass(slots=True)
class FoundPair:
    """What one attack on a node of a pair gave."""

    attack: Found
    beside: Seen  #: of who writes on the other node
    degradations: int
    logs: list[list[str]]

    @property
    def waited_s(self) -> float:
        """The longest that a node waited for a CPU."""
        seen = (self.attack.busy, self.attack.newcomer, self.beside)
        return max(each.waited_s for each in seen)


def _attack_pair(run: Run, row: Row, role: str) -> FoundPair:
    listening = [_listening(row) for _ in range(2)]
    with ExitStack() as running:
        pair = Pair(
            _switches(row, ours=True),
            own={index: each.switches for index, each in enumerate(listening)},
            wired=False,
            has_bucket=row.bucket,
            way=row.way,
            commands={index: _command(row, PYMCD, running) for index in range(2)},
            environments=dict.fromkeys(range(2), row.environment()),
        )
        running.enter_context(pair)
        for node, ports in zip(pair.nodes, listening, strict=True):
            node.port = ports.plain or node.port
            favour(node.pid)
        pair.wait_in_sync()
        leader = pair.coordinator()
        index = leader if role == "coordinator" else 1 - leader
        node, other = pair.nodes[index], pair.nodes[1 - index]
        scene = _scene(run, row, node, listening[index], ours=True)
        scene.bucket_port = node.bucket_port
        scene.replication_port = node.replication_port
        before = _degradations(pair)
        with Probing(writing(other, other.port, row.way)) as beside:
            found = _attack(run, row, scene)
        pair.wait_in_sync()
        count = _degradations(pair) - before
        logs = [each.log().splitlines()[-LOG_LINES:] for each in pair.nodes]
    assert beside.seen is not None
    return FoundPair(found, beside.seen, count, logs)


def _degradations(pair: Pair) -> int:
    return sum(int(node.rows()["degraded_count"]) for node in pair.nodes)


def trials(rows: dict[str, Row], circumstances: Circumstances) -> dict[str, Callable[[Run], None]]:
    """Return what measures each row."""

    def trial(row: Row) -> Callable[[Run], None]:
        @wraps(row.act)
        def act(run: Run) -> None:
            measure(run, row, circumstances)

        return act

    return {name: trial(each) for name, each in rows.items()}
