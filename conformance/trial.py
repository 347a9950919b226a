"""Trials: what is done to real processes for a while gives figures, each beside its bar.

`main` is the command of every suite of trials: `python -m conformance.pair` and its like. A trial
is a function that takes a `Run` and tells it figures; what it starts, it ends.
"""

from __future__ import annotations

import argparse
import os
import random
import socket
import subprocess
import sys
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from .clock import now_s, standstill_s
from .servers import POLL_INTERVAL_S, StartError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

SHOWN_LINES = 8
PATIENCE_S = 30.0


class TrialError(Exception):
    """What should have happened did not, within PATIENCE_S or at all."""


def until(what: str, reached: Callable[[], bool], patience_s: float = PATIENCE_S) -> float:
    """Wait until `reached()`; return how many seconds that took."""
    started_s = now_s()
    while not reached():
        if now_s() - started_s > patience_s:
            raise TrialError(f"waited {patience_s:g} s in vain: {what}")
        time.sleep(POLL_INTERVAL_S)
    return now_s() - started_s


#: Below those which Linux gives to outgoing connections (net.ipv4.ip_local_port_range).
OWN_PORTS = range(15000, 32000)


def free_port() -> int:
    """Return a port of 127.0.0.1 that nobody has, nor is given while its owner restarts."""
    while True:
        port = random.SystemRandom().choice(OWN_PORTS)
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                continue
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port


def quantile(values: Sequence[float], share: float) -> float:
    """The value which this share of all do not exceed; 0 of none."""
    ordered = sorted(values)
    return ordered[min(int(len(ordered) * share), len(ordered) - 1)] if ordered else 0.0


@dataclass(slots=True)
class Figure:
    """One figure; `bar` is the most that passes, or the least where `at_least`."""

    what: str
    value: float
    bar: float | None = None
    unit: str = ""
    at_least: bool = False
    of: str = ""
    # A bar in time says nothing where other processes have the CPUs.
    timed: bool = False

    @property
    def passes(self) -> bool:
        if self.bar is None:
            return True
        return self.value >= self.bar if self.at_least else self.value <= self.bar

    def __str__(self) -> str:
        unit = f" {self.unit}" if self.unit else ""
        number = f"{self.value:,.3g}" if self.value != int(self.value) else f"{int(self.value):,}"
        text = f"{self.what}: {number}{unit}{' of ' + self.of if self.of else ''}"
        if self.bar is None:
            return text
        sign = ">=" if self.at_least else "<="
        return f"{text}   [{sign} {self.bar:g}{unit}] {'pass' if self.passes else 'FALLS SHORT'}"


@dataclass(slots=True)
class Run:
    """The circumstances of a trial: how often, how long, at random from which seed.

    `scale` shortens what a trial does, for a quick look: 1 is what the bars speak of.
    """

    trials: int = 0
    seed: int = 1
    scale: float = 1.0
    verbose: bool = False
    #: Of several runs that together are one: the number of the first trial.
    first: int = 0
    #: In which circumstances of several, before the name of each figure.
    where: str = ""
    figures: list[Figure] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    _started_s: float = field(default_factory=now_s)

    def rng(self, number: int = 0) -> random.Random:
        return random.Random(f"{self.seed}/{number}")

    def times(self, usual: int) -> int:
        return self.trials or max(1, round(usual * self.scale))

    def numbers(self, usual: int) -> range:
        """Return the numbers of the trials to be done."""
        return range(self.first, self.first + self.times(usual))

    def count(self, usual: int) -> int:
        return max(1, round(usual * self.scale))

    def say(self, text: str) -> None:
        """Tell how far the trial is."""
        if self.verbose:
            print(f"[{now_s() - self._started_s:6.1f} s] {text}", file=sys.stderr)

    def problem(self, *lines: str, most: int = SHOWN_LINES) -> None:
        """Keep what explains a figure that falls short."""
        self.problems += lines[:most]
        if len(lines) > most:
            self.problems.append(f"... and {len(lines) - most} more")

    def figure(
        self,
        what: str,
        value: float,
        bar: float | None = None,
        unit: str = "",
        *,
        at_least: bool = False,
        of: str = "",
        timed: bool = False,
    ) -> None:
        what = self.where + what
        self.figures.append(Figure(what, value, bar, unit, at_least, of, timed))
        self.say(str(self.figures[-1]))

    def spread(self, what: str, values: list[float], unit: str, scale: float = 1e3) -> None:
        """Give the median and the greatest of several values, for information."""
        if values:
            self.figure(f"{what}, median", quantile(values, 0.5) * scale, unit=unit)
            self.figure(f"{what}, longest", max(values) * scale, unit=unit)

    @property
    def passes(self) -> bool:
        return all(figure.passes for figure in self.figures)


def check(trial: Callable[[Run], None], trials: int = 0, scale: float = 1.0) -> None:
    """Run a trial in a test: raise AssertionError if a figure falls short, times excepted."""
    run = Run(trials=trials, scale=scale)
    trial(run)
    short = [str(figure) for figure in run.figures if not figure.passes and not figure.timed]
    assert short == [], "\n".join([*short, *run.problems])


def main(
    prog: str,
    description: str,
    trials: Mapping[str, Callable[[Run], None]],
    add_options: Callable[[argparse.ArgumentParser], None] = lambda _: None,
    take_options: Callable[[argparse.Namespace], None] = lambda _: None,
) -> int:
    """Run the trials that the command line names, all by default; return the exit code.

    Prints each trial's figures. 1: a figure fell short, or a trial could not be finished.
    """
    names = "\n".join(f"  {name:<16} {(act.__doc__ or '').strip()}" for name, act in trials.items())
    parser = argparse.ArgumentParser(
        prog=f"python -m {prog}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        description=description,
        epilog=f"trials:\n{names}",
    )
    parser.add_argument("name", nargs="*", metavar="NAME", help="default: all")
    parser.add_argument("--trials", type=int, default=0, metavar="N", help="how often")
    parser.add_argument(
        "--first", type=int, default=0, metavar="N", help="go on where a run of N trials ended"
    )
    parser.add_argument(
        "--seed", type=int, default=1, metavar="S", help="of what is left to chance"
    )
    parser.add_argument("--scale", type=float, default=1.0, metavar="X", help="0.1: a tenth of all")
    parser.add_argument("-v", "--verbose", action="store_true", help="tell what happens")
    add_options(parser)
    options = parser.parse_args()
    take_options(options)
    if unknown := [name for name in options.name if name not in trials]:
        parser.error(f"no trial named {', '.join(unknown)}")
    failed = 0
    for name in options.name or trials:
        run = Run(options.trials, options.seed, options.scale, options.verbose, options.first)
        failed += not _try(name, trials[name], run)
    return 1 if failed else 0


def _try(name: str, trial: Callable[[Run], None], run: Run) -> bool:
    """Run one trial and print what it gave; say whether it passes."""
    started_s, stood_still_s = now_s(), standstill_s()
    busy = os.getloadavg()[0]
    finished = True
    try:
        trial(run)
    except (TrialError, StartError, OSError, subprocess.SubprocessError) as error:
        finished = False
        run.problem(*f"gave up: {type(error).__name__}: {error}".splitlines(), most=200)
    print(f"{name}  ({now_s() - started_s:.0f} s, load before {busy:.1f})")
    for figure in run.figures:
        print(f"  {figure}")
    if standstill_s() > stood_still_s:
        print(f"  (the machine stood still for {standstill_s() - stood_still_s:.0f} s of that)")
    for line in run.problems:
        print(f"  ! {line}")
    sys.stdout.flush()
    return finished and run.passes
