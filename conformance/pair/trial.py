"""What a trial gives: figures, each beside its bar."""

from __future__ import annotations

import random
import sys
from dataclasses import dataclass, field

from .clock import now_s
from .load import quantile

SHOWN_LINES = 8


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
    figures: list[Figure] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    _started_s: float = field(default_factory=now_s)

    def rng(self, number: int = 0) -> random.Random:
        return random.Random(f"{self.seed}/{number}")

    def times(self, usual: int) -> int:
        return self.trials or max(1, round(usual * self.scale))

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
