"""A pair with a witness, each on a host of its own: who takes locks, and who waits for how long."""

from __future__ import annotations

import os
import signal
import subprocess
import tempfile
import threading
import time
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from conformance.clock import now_s
from conformance.servers import PYMCD
from conformance.trial import TrialError, until

from .load import read
from .namespaces import (
    REPLICATION_PORT,
    Host,
    Network,
    start_host,
    stop_all,
    wait_in_sync,
    why_not,
)
from .strangers import SECRET, secrets

if TYPE_CHECKING:
    from typing import Self

    from conformance.trial import Run

WITNESS: Final = 2
#: The majority's side answers within this.
BAR_MS: Final = 200
ANSWER_S: Final = 5.0


class Witness:
    """A witness on the third host, with what it keeps. A context manager."""

    def __init__(self, network: Network, secret_file: str) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="conformance-")
        Path(self._folder.name).chmod(0o777)
        self._command = [
            "ip", "netns", "exec", network.hosts[WITNESS], *PYMCD, "witness", "-u", "nobody",
            f"--listen={network.address(WITNESS, 'link')}:{REPLICATION_PORT}",
            f"--replication-secret-file={secret_file}", f"--state={self._folder.name}/state",
        ]  # fmt: skip
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self.kill()
        self._folder.cleanup()

    def start(self) -> None:
        with open(f"{self._folder.name}/log", "ab") as log:
            self._process = subprocess.Popen(self._command, stderr=log, cwd="/")

    def signal(self, number: int) -> None:
        assert self._process is not None
        os.kill(self._process.pid, number)

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None


class Taken(NamedTuple):
    """What one side was answered when it asked for a lock."""

    name: bytes
    granted: bool
    asked_s: float
    waited_s: float


class Taker(threading.Thread):
    """Asks one side for one lock after the other; others do so at the same time."""

    def __init__(self, host: Host, series: str) -> None:
        super().__init__(daemon=True)
        self.host = host
        self.series = series
        self.taken: list[Taken] = []
        self.over = False

    def run(self) -> None:
        stream = None
        number = 0
        while not self.over:
            name = b"%b:%d" % (self.series.encode(), number)
            asked_s = now_s()
            try:
                if stream is None:
                    stream = self.host.visit(ANSWER_S).enter(ANSWER_S)
                stream.sendall(b"add %b 0 0 1\r\nx\r\n" % name)
                answer = stream.line()
            except (OSError, TrialError):
                answer = b""
            if not answer:
                if stream is not None:
                    stream.close()
                stream = None
                time.sleep(0.01)
                continue  # nobody knows whether it was granted: it counts for none
            self.taken.append(Taken(name, answer == b"STORED\r\n", asked_s, now_s() - asked_s))
            number += 1
            time.sleep(0.002)
        if stream is not None:
            stream.close()


def _ready(hosts: list[Host]) -> None:
    wait_in_sync(hosts)
    until(
        "anyone may fail",
        lambda: all(host.rows().get("may_fail", "").count(",") == 2 for host in hosts),
    )


def witness(run: Run) -> None:
    """Partitions with a witness, locks taken on both sides; each of the three killed and frozen."""
    if reason := why_not():
        run.problem(f"skipped: {reason}")
        return
    with (
        secrets(SECRET) as (secret_file,),
        Network(3) as network,
        Witness(network, secret_file) as third,
        ExitStack() as running,
    ):
        address = f"{network.address(WITNESS, 'link')}:{REPLICATION_PORT}"
        more = ("--witness", address)
        hosts = [start_host(network, index, secret_file, more) for index in range(2)]
        running.callback(stop_all, hosts)
        _partitions(run, network, hosts)
        _failures(run, network, hosts, third, secret_file, more)


def _partitions(run: Run, network: Network, hosts: list[Host]) -> None:
    twice = lost = granted = 0
    longest_s = 0.0
    for number in range(run.times(10)):
        _ready(hosts)
        cut = number % 2
        takers = [Taker(host, f"lock{number}") for host in hosts]
        for taker in takers:
            taker.start()
        time.sleep(0.2)
        network.pull(cut)
        time.sleep(0.6)
        network.plug(cut)
        time.sleep(0.3)
        for taker in takers:
            taker.over = True
        for taker in takers:
            taker.join(2 * ANSWER_S)
        won = [{each.name for each in taker.taken if each.granted} for taker in takers]
        both = won[0] & won[1]
        twice += len(both)
        granted += len(won[0] | won[1])
        run.problem(*(f"{name.decode()} was granted twice" for name in sorted(both)))
        waited_s = max(each.waited_s for each in takers[1 - cut].taken)
        longest_s = max(longest_s, waited_s)
        _ready(hosts)
        names = sorted(won[0] | won[1])
        for host in hosts:
            gone = [name for name in names if name not in read(host, names)]
            lost += len(gone)
            run.problem(*(f"{name.decode()} is gone" for name in gone))
        run.say(f"partition {number}: {len(names)} locks, the majority waited {waited_s:.3f} s")
    run.figure("partition: locks granted twice", twice, 0, of=f"{granted:,}")
    run.figure("partition: acknowledged locks lost", lost, 0)
    run.figure("partition: longest wait of the majority", longest_s * 1e3, BAR_MS, "ms", timed=True)


def _failures(
    run: Run,
    network: Network,
    hosts: list[Host],
    third: Witness,
    secret_file: str,
    more: tuple[str, ...],
) -> None:
    """Kill or freeze each of the three in turn, while the others are asked."""
    waits: dict[str, float] = {}
    for number in range(run.times(6)):
        _ready(hosts)
        who, freezes = number % 3, number // 3 % 2 == 1
        takers = [Taker(host, f"one{number}") for host in hosts]
        for taker in takers:
            taker.start()
        time.sleep(0.2)
        target = third if who == WITNESS else hosts[who]
        if freezes:
            target.signal(signal.SIGSTOP)
        else:
            target.kill()
        time.sleep(1.0)
        for taker in takers:
            taker.over = True
        for index, taker in enumerate(takers):
            if index != who:
                taker.join(2 * ANSWER_S)
                name = (
                    f"{'witness' if who == WITNESS else 'node'} {'frozen' if freezes else 'killed'}"
                )
                waited_s = max(each.waited_s for each in taker.taken)
                waits[name] = max(waits.get(name, 0.0), waited_s)
                late_s = now_s() - taker.taken[-1].asked_s
                if late_s > 1.0:
                    run.problem(f"{name}: the service stopped {late_s:.1f} s before the end")
        if freezes:
            target.signal(signal.SIGCONT)
        elif isinstance(target, Witness):
            target.start()
        else:
            target.stop()
            hosts[who] = start_host(network, who, secret_file, more)
        for taker in takers:
            taker.join(2 * ANSWER_S)
    for name, waited_s in sorted(waits.items()):
        run.figure(f"{name}: longest wait elsewhere", waited_s * 1e3, BAR_MS, "ms", timed=True)
