"""Clients that know both nodes of a pair, with nothing in front of it.

Whichever node a key leads to, both hold it; so a client that gives up a dead node for a while finds
everything at the other one. What each library needs for that is a few lines in docs/front.md,
which are what runs here: each client is a process that is told by lines what to do.
"""

from __future__ import annotations

import itertools
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from conformance.clients.catalog import home, output_of
from conformance.clock import now_s
from conformance.pair.load import read
from conformance.pair.nodes import Pair
from conformance.pair.ways import TEXT
from conformance.servers import STOP_TIMEOUT_S
from conformance.trial import TrialError
from tests.papers.blocks import block

from .haproxy import PAGE
from .watch import CALM_S, FROZEN_S, VALUE_BYTES, History

if TYPE_CHECKING:
    import random
    from collections.abc import Callable, Sequence

    from conformance.trial import Run

HERE = Path(__file__).resolve().parent
PROGRAMS = HERE / "programs"
CALLERS = 3
PAUSE_S = 0.01
#: Longer than the documented times for which a client leaves a node alone.
AWAY_S = 8.0
JAVA = ("java", "-Xmx128m", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC")


def documented(file: str) -> str:
    """Return the file that the page has for a client."""
    return block(PAGE, "Clients that know both nodes", file)


def addressed(lines: str, ports: Sequence[int]) -> str:
    """Return lines with other addresses than the documented ones."""
    for number, port in zip((5, 6), ports, strict=True):
        replaced = lines.replace(f"10.0.0.{number}:11211", f"127.0.0.1:{port}")
        replaced = replaced.replace(f'"10.0.0.{number}", 11211', f'"127.0.0.1", {port}')
        if replaced == lines:
            raise TrialError(f"no address of node {number} in:\n{lines}")
        lines = replaced
    return lines


def _python(_: str, __: Path) -> list[str]:
    return [sys.executable, str(PROGRAMS / "python.py")]


def _no_python(package: str) -> Callable[[], str]:
    def why_not() -> str:
        found = output_of(sys.executable, "-c", f"import {package}; print('there')")
        return "" if found else f"no {package} (pip install {package})"

    return why_not


def _php(_: str, __: Path) -> list[str]:
    return ["php", str(PROGRAMS / "php.php")]


def _no_php() -> str:
    if output_of("php", "-r", "echo phpversion('memcached');"):
        return ""
    return "no PHP with memcached (Debian: apt-get install php-cli php-memcached)"


def _jars() -> Path:
    return home() / "java" / "spymemcached"


def _java(lines: str, folder: Path) -> list[str]:
    sources = [folder / "Program.java"]
    if "class Cache" in lines:
        sources.append(folder / "Cache.java")
        sources[1].write_text(lines)
        lines = "MemcachedClient cache = Cache.connect();"
    sources[0].write_text((PROGRAMS / "Program.java").read_text().replace("/* LINES */", lines))
    jars = f"{_jars()}/*"
    subprocess.run(["javac", "-nowarn", "-cp", jars, "-d", folder, *sources], check=True)
    return [*JAVA, "-cp", f"{folder}:{jars}", "Program"]


def _no_java() -> str:
    if not shutil.which("javac"):
        return "no javac (Debian: apt-get install default-jdk-headless)"
    if not list(_jars().glob("spymemcached-*.jar")):
        return "no spymemcached (python -m conformance.clients.install java)"
    return ""


@dataclass(frozen=True, slots=True)
class Library:
    """A client library, and how to run it with lines that make a client."""

    lines: Callable[[], str]
    why_not: Callable[[], str]
    #: Returns the command, given the lines and a folder to make things in.
    command: Callable[[str, Path], list[str]]
    #: Whether the lines are those that we recommend.
    documented: bool = True


PYMEMCACHE_BARE = """
from pymemcache.client.hash import HashClient
cache = HashClient(
    ["10.0.0.5:11211", "10.0.0.6:11211"], default_noreply=False, connect_timeout=0.5, timeout=0.5
)
"""
PYLIBMC_BARE = """
import pylibmc
cache = pylibmc.Client(
    ["10.0.0.5:11211", "10.0.0.6:11211"],
    behaviors={"ketama": True, "remove_failed": 1, "receive_timeout": 500_000},
)
"""
SPYMEMCACHED_BARE = """
MemcachedClient cache = new MemcachedClient(
    AddrUtil.getAddresses("10.0.0.5:11211 10.0.0.6:11211"));
"""

#: What an application does with its settings; its keys are to be found by others.
DJANGO_USED = """
from django.conf import settings
from django.core.cache import cache as configured
settings.configure(
    CACHES={"default": CACHES["default"] | {"KEY_FUNCTION": lambda key, prefix, version: key}}
)
class cache:
    get, delete = configured.get, configured.delete
    @staticmethod
    def set(key, value):
        configured.set(key, value)
        return True
"""

LIBRARIES = {
    "pymemcache": Library(
        lambda: documented("cache_pymemcache.py"), _no_python("pymemcache"), _python
    ),
    "pylibmc": Library(lambda: documented("cache_pylibmc.py"), _no_python("pylibmc"), _python),
    "Django": Library(
        lambda: documented("settings.py") + DJANGO_USED, _no_python("django"), _python
    ),
    "php-memcached": Library(lambda: documented("cache.php"), _no_php, _php),
    "spymemcached": Library(lambda: documented("Cache.java"), _no_java, _java),
    "pymemcache without retry_attempts": Library(
        lambda: PYMEMCACHE_BARE, _no_python("pymemcache"), _python, documented=False
    ),
    "pylibmc without dead_timeout": Library(
        lambda: PYLIBMC_BARE, _no_python("pylibmc"), _python, documented=False
    ),
    "spymemcached as it comes": Library(
        lambda: SPYMEMCACHED_BARE, _no_java, _java, documented=False
    ),
}


@dataclass(slots=True)
class Caller:
    """One client process, and a thread that has it read and write a few keys of its own."""

    name: str
    command: list[str]
    lines: str
    rng: random.Random
    histories: dict[str, History] = field(default_factory=dict)
    writes: int = 0
    #: When calls succeeded.
    answered_s: list[float] = field(default_factory=list)
    #: When calls failed, and what they said.
    failed: list[tuple[float, str]] = field(default_factory=list)
    stale: list[str] = field(default_factory=list)
    broken: Exception | None = None
    _process: subprocess.Popen[str] | None = None
    _thread: threading.Thread | None = None
    _stopping: threading.Event = field(default_factory=threading.Event)

    def start(self) -> None:
        self.histories = {f"{self.name}:{number}": History() for number in range(8)}
        self._process = subprocess.Popen(
            self.command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            bufsize=1,
            env=os.environ | {"LINES": self.lines},
        )
        self._thread = threading.Thread(target=self._live, name=self.name)
        if (said := self._read()) != "ready":
            raise TrialError(f"{self.name}: {said}")
        self._thread.start()

    def stop(self) -> None:
        """Finish the call that is being made, and end the process."""
        assert self._process is not None
        self._stopping.set()
        if self._thread is not None and self._thread.ident is not None:
            self._thread.join()
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        try:
            self._process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()

    def _read(self) -> str:
        assert self._process is not None
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise TrialError(f"{self.name} ended")
        return line.rstrip("\n")

    def _call(self, verb: str, key: str, value: str = "-") -> str | None:
        """Make a call; None: it failed."""
        assert self._process is not None
        assert self._process.stdin is not None
        self._process.stdin.write(f"{verb} {key} {value}\n")
        answer = self._read()
        if answer.startswith("error"):
            self.failed.append((now_s(), answer))
            return None
        self.answered_s.append(now_s())
        return answer

    def _live(self) -> None:
        try:
            while not self._stopping.wait(PAUSE_S):
                self._act(self.rng.choice(list(self.histories)))
        except (OSError, TrialError) as error:
            self.broken = error

    def _act(self, key: str) -> None:
        history = self.histories[key]
        dice = self.rng.random()
        if dice < 0.5:
            answer = self._call("get", key)
            if answer is not None:
                found = None if answer == "none" else answer.removeprefix("value ").encode()
                if wrong := history.judge(found, history.acknowledged):
                    self.stale.append(f"{key}: {wrong}")
            return
        number = len(history.sent)
        if dice < 0.55:
            history.sent.append(None)
            answer = self._call("delete", key)
        else:
            value = f"{key}/{number}/".ljust(VALUE_BYTES, ".")
            history.sent.append(value.encode())
            answer = self._call("set", key, value)
        if answer is None:
            history.given_up.add(number)
        else:
            history.acknowledged = number
            self.writes += 1

    def lost(self, pair: Pair) -> list[str]:
        """Compare what both nodes hold at the end with what was acknowledged."""
        lines = []
        for index, node in enumerate(pair.nodes):
            held = read(node, [key.encode() for key in self.histories])
            for key, history in self.histories.items():
                if wrong := history.judge(held.get(key.encode()), history.acknowledged):
                    lines.append(f"{key} at node{index}: {wrong}")
        return lines

    def outage_s(self, since_s: float, until_s: float) -> float:
        """Return how long no call succeeded at most, in a part of the time."""
        within = [at_s for at_s in self.answered_s if since_s <= at_s < until_s]
        ends = [since_s, *within, until_s]
        return max(later - earlier for earlier, later in itertools.pairwise(ends))


def addresses(run: Run) -> None:
    """Clients that know both nodes, in four languages: one node killed, the other frozen."""
    for name, library in LIBRARIES.items():
        if reason := library.why_not():
            run.problem(f"{name}: skipped: {reason}")
        else:
            _survives(run, name, library)


def _survives(run: Run, name: str, library: Library) -> None:
    with Pair(wired=False, settled=True, way=TEXT) as pair, ExitStack() as stack:
        pair.wait_in_sync()
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="conformance-")))
        lines = addressed(library.lines(), [node.port for node in pair.nodes])
        command = library.command(lines, folder)
        callers = [
            Caller(f"caller{number}", command, lines, run.rng(number)) for number in range(CALLERS)
        ]
        with ExitStack() as running:
            for caller in callers:
                running.callback(caller.stop)
                caller.start()
            time.sleep(2 * CALM_S)
            asked = [int(node.rows(b"")["cmd_get"]) for node in pair.nodes]
            what = f"{name}: calls that the less used node got before"
            run.figure(what, min(asked), 1, at_least=True)
            killed_s = now_s()
            pair.nodes[0].kill()
            time.sleep(AWAY_S)
            pair.restart(0)
            pair.wait_in_sync()
            time.sleep(AWAY_S)
            frozen_s = now_s()
            pair.nodes[1].signal(signal.SIGSTOP)
            time.sleep(FROZEN_S)
            pair.nodes[1].signal(signal.SIGCONT)
            pair.wait_in_sync()
            time.sleep(AWAY_S)
            over_s = now_s()
        _tell(run, name, library, callers, pair, (killed_s, frozen_s, over_s))


def _tell(
    run: Run,
    name: str,
    library: Library,
    callers: Sequence[Caller],
    pair: Pair,
    times_s: tuple[float, float, float],
) -> None:
    for caller in callers:
        if caller.broken is not None:
            raise TrialError(f"{name}: {caller.broken}")
    bar = 0 if library.documented else None
    lost = [line for caller in callers for line in caller.lost(pair)]
    stale = [line for caller in callers for line in caller.stale]
    writes = sum(caller.writes for caller in callers)
    answers = sum(len(caller.answered_s) for caller in callers)
    run.figure(f"{name}: acknowledged writes lost", len(lost), bar, of=f"{writes:,}")
    run.figure(f"{name}: stale answers, false misses", len(stale), bar, of=f"{answers:,}")
    killed_s, frozen_s, over_s = times_s
    for what, since_s, until_s in (
        ("one node killed", killed_s, frozen_s),
        ("one node frozen", frozen_s, over_s),
    ):
        failed = [sum(since_s <= at_s < until_s for at_s, _ in caller.failed) for caller in callers]
        run.figure(f"{name}, {what}: calls of one client that failed, at most", max(failed))
        outage_s = max(caller.outage_s(since_s, until_s) for caller in callers)
        run.figure(f"{name}, {what}: longest outage", outage_s, unit="s")
    late = sum(at_s >= over_s - 2 for caller in callers for at_s, _ in caller.failed)
    run.figure(f"{name}: calls that failed in the last 2 s", late, bar)
    if library.documented:
        run.problem(*(f"{name}: lost: {line}" for line in lost))
        run.problem(*(f"{name}: stale: {line}" for line in stale))
    kinds = sorted({text for caller in callers for _, text in caller.failed})
    run.say(f"{name}: {kinds[:8]}")
