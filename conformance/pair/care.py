"""What is done to a witness by those who look after it, and what the pair makes of that.

Started anew with and without its file, pointed at the wrong one, given no room on its disk, started
twice, stopped for long, its clock set, mistaken for something else, forgotten, added, taken away.
Each time the nodes do what docs/operate.md says; while both are there their clients notice
nothing.
"""

from __future__ import annotations

import shutil
import signal
import subprocess
import tempfile
import time
from contextlib import ExitStack, contextmanager
from functools import partial
from math import inf
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self

from conformance.servers import PYMCD, ROOT
from conformance.trial import TrialError, free_port, until

from .clocks import Clocks, library
from .nodes import Node, Pair
from .probe import Probe
from .strangers import secrets
from .takers import Takers, Wait, longest, unexplained_s
from .thirds import DISK
from .votes import BAR_MS, LAST_WORDS_S

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from conformance.trial import Run

EXIT_S: Final = 10.0
#: After it was given up: `--scale 150` is ten minutes.
LONG_S: Final = 4.0
#: Who had no CPU for half of `--replication-ack-timeout` may have been given up for that.
HICCUP_S: Final = 0.04
BEFORE_S: Final = 0.2
ATTEMPTS: Final = 4


class Keeper:
    """A witness on this host, with its file. A context manager."""

    def __init__(self, *words: str, port: int = 0, state: str | None = "state") -> None:
        """`state`: the name of its file, in a folder of its own; None: it has none."""
        self._temporary = tempfile.TemporaryDirectory(prefix="conformance-", dir=DISK)
        self.folder = Path(self._temporary.name)
        self.folder.chmod(0o777)
        self.port = port or free_port()
        self.words = [*words]
        self.state = None if state is None else self.folder / state
        self.environment: dict[str, str] = {}
        self.process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self.kill()
        self._temporary.cleanup()

    @property
    def switch(self) -> tuple[str, str]:
        """What a node is started with."""
        return "--witness", f"127.0.0.1:{self.port}"

    def start(self) -> None:
        command = [*PYMCD, "witness", "-u", "nobody", f"--listen=127.0.0.1:{self.port}"]
        if self.state is not None:
            command.append(f"--state={self.state}")
        environment = {"PATH": "/usr/bin:/bin", "PYTHONPATH": str(ROOT)} | self.environment
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                [*command, *self.words],
                stderr=log,
                cwd="/",
                env=environment,
                # Linux wakes who is stopped in a group of processes that nobody controls any more.
                start_new_session=True,
            )

    def kill(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None

    def signal(self, number: int) -> None:
        assert self.process is not None
        self.process.send_signal(number)

    def refuses(self) -> str:
        """Start it, which it does not want; return what it says."""
        self.start()
        assert self.process is not None
        try:
            code = self.process.wait(EXIT_S)
        except subprocess.TimeoutExpired:
            return "it starts"
        finally:
            self.kill()
        return self.log().splitlines()[-1] if code else "it ends as if all were well"

    def pids(self) -> tuple[int, ...]:
        process = self.process
        return () if process is None else (process.pid,)

    def log(self) -> str:
        return (self.folder / "log").read_text(errors="replace")


class Scene:
    """A pair, its clients, and what went wrong in one case."""

    def __init__(self, run: Run, pair: Pair, takers: Takers, probe: Probe) -> None:
        self.run = run
        self.pair = pair
        self.takers = takers
        self.probe = probe
        self.wrong: list[str] = []
        self.disturbed: list[str] = []  #: what the machine did, and not they
        self.kept = True  #: nothing may be lost
        self.said: list[str] = []  #: by all of them, for a person
        self.worst = Wait(0.0, 0.0)

    # -- what must be --------------------------------------------------------------------------

    def ready(self, *, third: bool = True) -> None:
        """Wait until both nodes are in sync; `third`: and the witness is theirs."""

        def reached() -> bool:
            rows = [node.rows() for node in self.pair.nodes]
            return self.pair.in_sync() and (
                not third or all(each.get("may_fail", "").count(",") == 2 for each in rows)
            )

        self.until("in sync" + (", and anyone may fail" if third else ""), reached)
        now_s = time.monotonic()
        for place in range(self.pair.count):
            self.until(f"an answer of node{place}", partial(self._has_answered, place, now_s))

    def _has_answered(self, place: int, since_s: float) -> bool:
        waits = self.takers.waits(place, since_s, inf)
        return any(wait.served and wait.till_s > since_s for wait in waits)

    def until(self, what: str, reached: Callable[[], bool]) -> None:
        try:
            until(what, reached)
        except TrialError as error:
            raise TrialError(f"{error}\n{self.pair.report()}") from None

    def served(self, place: int, since_s: float, till_s: float) -> None:
        """See that a node has answered all the time, and soon.

        Where one of them had no CPU for so long that they parted, that is nobody's fault; and while
        the witness is away, clients wait for a second then.
        """
        wait = longest(self.takers.waits(place, since_s, till_s))
        if wait.served and unexplained_s(wait, self.probe) * 1e3 <= BAR_MS:
            self.worst = longest((self.worst, wait))
            return
        busy_s = self.probe.late_s(wait.since_s, wait.till_s)
        hiccup_s = self.probe.late_s(wait.since_s - BEFORE_S, wait.since_s + BEFORE_S)
        (self.wrong if hiccup_s < HICCUP_S else self.disturbed).append(
            f"node{place}: waited {wait.took_s:.3f} s"
            f" (the machine was busy {busy_s:.3f} s, {hiccup_s:.3f} s as it began)"
        )

    def unserved(self, place: int, since_s: float, till_s: float) -> None:
        """See that a node has answered nothing."""
        for wait in self.takers.waits(place, since_s + LAST_WORDS_S, till_s):
            answered_s = wait.till_s - self.probe.late_s(since_s, wait.till_s)
            if wait.served and since_s + LAST_WORDS_S < answered_s and wait.till_s < till_s:
                self.wrong.append(f"node{place} answered {answered_s - since_s:.3f} s after")

    def expect(self, what: str, *, so: bool) -> None:
        if not so:
            self.wrong.append(what)

    # -- what happens --------------------------------------------------------------------------

    def during(self, act: Callable[[], object] = lambda: None, lasts_s: float = 0.6) -> None:
        """Do something of which the clients of both nodes are to notice nothing."""
        began_s = time.monotonic()
        act()
        time.sleep(lasts_s)
        self.end(began_s, served=(0, 1))

    def lose(self, victim: int, *, served: bool = True, lasts_s: float = 0.6) -> None:
        """Kill a node; `served`: the other goes on, or else it serves nobody."""
        began_s = time.monotonic()
        self.pair.nodes[victim].kill()
        time.sleep(lasts_s)
        if served:
            self.end(began_s, served=(1 - victim,))
        else:
            self.end(began_s, unserved=(1 - victim,))

    def renew(self, place: int) -> None:
        """Start a node anew as an operator does: told to stop, it hands over."""
        node = self.pair.nodes[place]
        node.signal(signal.SIGTERM)
        self.until("it ends", lambda: not node.running)
        self.pair.restart(place)

    def refused(self, reason: str) -> bool:
        """Whether both nodes say so of their witness."""
        return all(node.rows().get("witness_error") == reason for node in self.pair.nodes)

    def end(self, began_s: float, served: Sequence[int] = (), unserved: Sequence[int] = ()) -> None:
        """Judge who has answered since then."""
        till_s = time.monotonic()
        for place in served:
            self.until(f"an answer of node{place}", partial(self._has_answered, place, till_s))
            self.served(place, began_s, till_s)
        for place in unserved:
            self.unserved(place, began_s, till_s)


# -- the cases -----------------------------------------------------------------------------------


def _with_file(scene: Scene, keeper: Keeper) -> None:
    """Killed and started again with its file: it has its vote as before."""
    scene.during(keeper.kill)
    scene.during(keeper.start)
    scene.ready()
    scene.lose(0)


def _without_file(scene: Scene, keeper: Keeper) -> None:
    """Killed, its file removed, started again: the nodes take it in, and it has a vote."""
    assert keeper.state is not None
    scene.during(keeper.kill)
    keeper.state.unlink()
    scene.during(keeper.start)
    scene.ready()
    scene.lose(1)


def _anew_beside_one_node(scene: Scene, keeper: Keeper) -> None:
    """Anew without its file while one node is gone: the other, which goes on, takes it in."""
    assert keeper.state is not None
    scene.lose(0)
    began_s = time.monotonic()
    keeper.kill()
    before = len(keeper.log())
    keeper.state.unlink()
    keeper.start()
    scene.until("it is taken in", lambda: "node1 decides, alone" in keeper.log()[before:])
    scene.end(began_s, served=(1,))


def _away_and_back(scene: Scene, keeper: Keeper) -> None:
    """Away when a node fails: nobody serves until it is back, with its file."""
    keeper.kill()
    time.sleep(0.5)
    scene.lose(0, served=False, lasts_s=2.0)
    scene.expect("node1 does not wait", so=scene.pair.states()[1] in ("-", "waiting"))
    keeper.start()
    scene.until("node1 serves", lambda: scene.pair.nodes[1].rows().get("state") == "alone")


def _away_and_forgetful(scene: Scene, keeper: Keeper) -> None:
    """The same without its file: it has no vote, so nobody serves until the other node is back."""
    assert keeper.state is not None
    keeper.kill()
    time.sleep(0.5)
    scene.lose(1, served=False, lasts_s=1.5)
    keeper.state.unlink()
    began_s = time.monotonic()
    keeper.start()
    time.sleep(2.0)
    scene.end(began_s, unserved=(0,))


def _damaged_file(scene: Scene, keeper: Keeper) -> None:
    """Its file damaged, unreadable, a folder, of another cluster, in use: it does not start."""
    assert keeper.state is not None
    other = Keeper("--cluster-id=other", state=None)
    other.state = keeper.state

    def refuse(witness: Keeper, words: str) -> None:
        said = witness.refuses()
        scene.expect(f"{said}, not: {words}", so=words in said)

    refuse(other, "is in use by another witness")
    keeper.kill()
    was = keeper.state.read_bytes()
    refuse(other, "is of the witness of another cluster")
    for damage in (b"", b"{", was[: len(was) // 2], b"\0" * len(was), b'{"life":1}\n', was * 2):
        keeper.state.write_bytes(damage)
        refuse(keeper, "is not what a witness writes")
    keeper.state.write_bytes(was)
    keeper.state.chmod(0)
    shutil.chown(keeper.state, "root")
    refuse(keeper, "Could not read")
    keeper.state.unlink()
    keeper.state.mkdir()
    refuse(keeper, "Could not read")
    keeper.state.rmdir()
    keeper.state.write_bytes(was)
    shutil.chown(keeper.state, "nobody")
    scene.during(keeper.start)
    scene.ready()
    scene.lose(0)


def _disk_full(scene: Scene, keeper: Keeper) -> None:
    """No room on its disk: it promises nothing, and all know so before; with room it does."""
    assert keeper.state is not None
    filler = keeper.state.with_name("filler")
    filler.write_bytes(b"")
    with filler.open("ab", buffering=0) as file:
        try:
            while True:
                file.write(b"x" * 512)
        except OSError:
            pass
    scene.until(
        "nobody counts on it",
        lambda: not any("node" in node.rows().get("may_fail", "node") for node in scene.pair.nodes),
    )
    scene.during()
    scene.lose(0, served=False, lasts_s=1.5)
    scene.expect("it does not say so", so="cannot keep a promise" in keeper.log())
    filler.unlink()
    scene.until("node1 serves", lambda: scene.pair.nodes[1].rows().get("state") == "alone")


def _stopped_for_long(scene: Scene, keeper: Keeper) -> None:
    """Stopped for so long that it is given up; a node is lost meanwhile; then it goes on."""
    began_s = time.monotonic()
    keeper.signal(signal.SIGSTOP)
    scene.until(
        "it is given up",
        lambda: all(node.rows().get("witness_link") == "down" for node in scene.pair.nodes),
    )
    time.sleep(scene.run.scale * LONG_S)
    scene.end(began_s, served=(0, 1))
    scene.lose(0, served=False, lasts_s=1.5)
    keeper.signal(signal.SIGCONT)
    scene.until("node1 serves", lambda: scene.pair.nodes[1].rows().get("state") == "alone")


def _clock_set(scene: Scene, keeper: Keeper) -> None:
    """Its wall clock an hour ahead, then a day behind, while it runs and as it starts."""
    place = library()
    if place is None:
        return
    folder = keeper.folder / "clocks"
    folder.mkdir()
    clocks = Clocks(str(folder), 1)
    keeper.environment = clocks.environment(0, place)
    keeper.kill()
    clocks.set(0, 3600.0)
    scene.during(keeper.start)
    scene.ready()
    scene.lose(0)
    scene.pair.restart(0)
    scene.ready()
    scene.during(lambda: clocks.set(0, -86400.0))
    scene.ready()
    scene.lose(1)


def _two_by_one_name(scene: Scene, keeper: Keeper) -> None:
    """Each node has a witness of its own, both by one name: none has a vote for both."""
    with Keeper(*keeper.words) as other:
        for place in range(2):
            scene.pair.own[place] = (keeper if place else other).switch
            scene.renew(place)
            scene.ready(third=False)
        time.sleep(1.0)
        began_s = time.monotonic()
        scene.pair.part()
        time.sleep(1.5)
        served = [
            [
                wait
                for wait in scene.takers.waits(place, began_s, time.monotonic())
                if wait.served and wait.till_s > began_s + 2 * BAR_MS / 1e3
            ]
            for place in range(2)
        ]
        scene.expect("both serve, and do not see each other", so=not all(served))
        scene.pair.heal()
        scene.ready(third=False)


def _mistaken(scene: Scene, keeper: Keeper) -> None:
    """A data node, and a witness of others, in its place: said by reason, and never a vote."""
    keeper.kill()
    scene.during()
    with secrets(b"a secret of others") as (secret,):
        cases: list[tuple[str, Any]] = [
            ("cluster", Keeper("--cluster-id=other", port=keeper.port)),
            (
                "secret",
                Keeper(f"--replication-secret-file={secret}", port=keeper.port),
            ),
            (
                "member",
                Node(
                    PYMCD,
                    ["--replication-listen", "127.0.0.1", "--replication-port", str(keeper.port)],
                ),
            ),
        ]
        for reason, impostor in cases:
            began_s = time.monotonic()
            with impostor:
                scene.until(f"witness_error {reason}", partial(scene.refused, reason))
                time.sleep(1.0)
            scene.end(began_s, served=(0, 1))
            for node in scene.pair.nodes:
                said = [line for line in node.log().splitlines() if str(keeper.port) in line]
                refused = [line for line in said if "refused" in line]
                scene.expect(f"{reason}: said {len(refused)} times", so=len(refused) >= 1)
        with cases[-1][1]:
            scene.lose(0, served=False, lasts_s=1.5)


def _rolled_without_it(scene: Scene, keeper: Keeper) -> None:
    """Both nodes started anew, one after the other, while it is away: nothing is lost."""
    keeper.kill()
    time.sleep(0.5)
    _roll(scene, third=False)
    keeper.start()
    scene.ready()
    scene.lose(0)


def _taken_away(scene: Scene, keeper: Keeper) -> None:
    """Taken away by a rolling restart: nothing is lost, and then the pair is one without it."""
    for place in range(2):
        scene.pair.own[place] = ()
    _roll(scene, third=False)
    keeper.kill()
    scene.lose(0)


def _added(scene: Scene, keeper: Keeper) -> None:
    """Added by a rolling restart to a pair that had none: nothing is lost, and it has its vote."""
    for place in range(2):
        scene.pair.own[place] = keeper.switch
    _roll(scene, third=False)
    scene.ready()
    scene.lose(1)


def _all_anew(scene: Scene, keeper: Keeper) -> None:
    """All three killed at once, as by the loss of power, and started: they begin with nothing."""
    scene.kept = False
    keeper.kill()
    for node in scene.pair.nodes:
        node.kill()
    for place in range(2):
        scene.pair.restart(place)
    keeper.start()
    scene.ready()
    scene.lose(0)


def _one_anew(scene: Scene, keeper: Keeper) -> None:
    """The last to serve started anew while the other node is down: nobody serves before both do."""
    assert keeper.state is not None
    scene.kept = False
    scene.pair.own[1] = (*keeper.switch, "--sync-timeout", "1")
    for forgets in (False, True):
        scene.lose(0)
        scene.pair.nodes[1].kill()
        if forgets:
            # So is the very first start: a node and the witness do not begin by themselves.
            keeper.kill()
            keeper.state.unlink()
            keeper.start()
        scene.pair.restart(1)
        scene.until(
            "it says why it waits",
            lambda: "each node must consent that could have data" in scene.pair.nodes[1].log(),
        )
        time.sleep(1.0)
        scene.expect("it lets clients in", so=not scene.pair.nodes[1].accepts())
        scene.pair.restart(0)
        scene.ready()
    scene.pair.nodes[0].kill()
    scene.pair.nodes[1].kill()
    scene.pair.own[1] = (*scene.pair.own[1], "--force-empty")
    scene.pair.restart(1)
    scene.until("a person said so", scene.pair.nodes[1].accepts)


def _roll(scene: Scene, *, third: bool) -> None:
    """Start both nodes anew as an operator does; the one that stays serves all the time."""
    for place in range(2):
        began_s = time.monotonic()
        scene.renew(place)
        scene.ready(third=third)
        scene.end(began_s, served=(1 - place,))


CASES: Final[dict[str, Callable[[Scene, Keeper], None]]] = {
    "started again with its file": _with_file,
    "started again without its file": _without_file,
    "anew while a node is gone": _anew_beside_one_node,
    "away when a node fails": _away_and_back,
    "away when a node fails, then without its file": _away_and_forgetful,
    "its file is damaged": _damaged_file,
    "its disk is full": _disk_full,
    "stopped for long": _stopped_for_long,
    "its clock is set": _clock_set,
    "two by one name": _two_by_one_name,
    "something else in its place": _mistaken,
    "both nodes anew while it is away": _rolled_without_it,
    "all three anew": _all_anew,
    "one node anew while the other is down": _one_anew,
    "taken away": _taken_away,
    "added": _added,
}


@contextmanager
def _small_disk(keeper: Keeper) -> Iterator[None]:
    """Have a witness keep its file on a disk of some kilobytes. Needs root."""
    with tempfile.TemporaryDirectory(prefix="conformance-") as place:
        mount = ["mount", "-t", "tmpfs", "-o", "size=16k,mode=777", "none", place]
        subprocess.run(mount, check=True, capture_output=True)
        Path(place).chmod(0o777)
        keeper.state = Path(place, "state")
        try:
            yield
        finally:
            subprocess.run(["umount", place], check=True, capture_output=True)


def witness_care(run: Run) -> None:
    """What is done to a witness by those who look after it; clients at both nodes all the time."""
    names = list(CASES)
    wrong = acknowledged = attempts = 0
    worst = Wait(0.0, 0.0)
    for number in run.numbers(len(names)):
        name = names[number % len(names)]
        for _ in range(ATTEMPTS):
            scene = _play(run, name, number)
            attempts += 1
            if scene.wrong or not scene.disturbed:
                break
            run.say(f"{name}: once more: {'; '.join(scene.disturbed)}")
        else:
            scene.wrong += scene.disturbed
        wrong += bool(scene.wrong)
        worst = longest((worst, scene.worst))
        acknowledged += scene.takers.books.acknowledged
        run.say(f"{name}: {'; '.join(scene.wrong) or 'well'}, {scene.worst.took_s:.3f} s")
        run.problem(*(f"{name}: {line}" for line in scene.wrong))
        if scene.wrong:
            run.problem(*scene.said, most=60)
    run.figure("cases that went wrong", wrong, 0, of=f"{run.times(len(names))}")
    run.figure("played", attempts)
    run.figure("granted, counted and stored in them", acknowledged)
    run.figure("longest wait of who serves", worst.took_s * 1e3, unit="ms")


def _play(run: Run, name: str, number: int) -> Scene:
    with ExitStack() as running:
        keeper = Keeper()
        if name == "its disk is full":
            running.enter_context(_small_disk(keeper))
        running.enter_context(keeper)
        switch = () if name == "added" else keeper.switch
        # Each process between the nodes is one more that may get no CPU.
        wired = name == "two by one name"
        pair = Pair(settled=True, wired=wired, own=dict.fromkeys(range(2), switch))
        running.enter_context(pair)
        pair.wait_in_sync()
        probe = running.enter_context(Probe(lambda: [*keeper.pids(), *pair.pids()]))
        takers = Takers(pair.nodes, f"care{number}", run.rng(number))
        scene = Scene(run, pair, takers, probe)
        with takers:
            if switch:
                scene.ready()
            time.sleep(0.3)
            try:
                CASES[name](scene, keeper)
                for place in range(2):
                    if not pair.nodes[place].running:
                        pair.restart(place)
                scene.ready(third=False)
            except TrialError as error:
                scene.wrong += str(error).splitlines()
                scene.kept = False
        if scene.kept:
            scene.wrong += takers.books.twice()
            for node in pair.nodes:
                scene.wrong += takers.books.lost(node)
        for place, node in enumerate(pair.nodes):
            rows = node.rows()
            names = ("state", "role", "epoch", "voters", "may_fail", "witness_error")
            scene.said.append(f"-- node{place}: " + ", ".join(f"{x} {rows.get(x)}" for x in names))
            scene.said += node.log().splitlines()[-14:]
        scene.said += ["-- the witness:", *keeper.log().splitlines()[-14:]]
    return scene
