"""What was measured, and its form as a table, as JSON and as lines of progress.

A `Row` holds one figure of both sides for each pair of runs. What is held against the bar is the
median over the pairs: of the ratios, or of the server's own figures where the bar is absolute.
"""

from __future__ import annotations

import os
import platform
import shutil
import sys
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .contenders import Contender
    from .loads import Window


DISTURBED_SHARE = 0.05


@dataclass(frozen=True, slots=True)
class Bars:
    """What a figure may be at most, by the Python that the server runs on.

    Nothing is asked of PyPy where `pypy` is not said. Of other versions of CPython it is what is
    asked of the next one that is older.
    """

    cpython311: float
    cpython314: float
    pypy: float | None = None

    def of(self, runtime: str) -> float | None:
        """Return the bar of a Python, as "CPython 3.12"; of an unknown one that of 3.11."""
        name, _, version = runtime.partition(" ")
        if name == "PyPy":
            return self.pypy
        newer = version and tuple(map(int, version.split("."))) >= (3, 14)
        return self.cpython314 if newer else self.cpython311


@dataclass(slots=True)
class Row:
    """One line of the result.

    `compare` is "ratio" where server / memcached meets the bar, "own" where the server's figure
    does. `at_least` turns the bar round. Without a bar the row is for information.
    """

    scenario: str
    what: str
    unit: str
    compare: Literal["ratio", "own"] = "ratio"
    bar: float | None = None
    at_least: bool = False
    subject: list[float] = field(default_factory=list)
    reference: list[float] = field(default_factory=list)
    others_share: float = 0.0  # of all CPUs, used by other processes meanwhile
    subject_name: str = ""  #: what was measured, as "pymcd on CPython 3.13.5"

    def add(self, subject: float, reference: float) -> None:
        self.subject.append(subject)
        self.reference.append(reference)

    @property
    def ratios(self) -> list[float]:
        return [mine / theirs for mine, theirs in zip(self.subject, self.reference, strict=True)]

    @property
    def value(self) -> float:
        return median(self.ratios if self.compare == "ratio" else self.subject)

    @property
    def passes(self) -> bool | None:
        if self.bar is None:
            return None
        return self.value >= self.bar if self.at_least else self.value <= self.bar

    def as_dict(self) -> dict[str, Any]:
        derived = {"value": self.value, "ratios": self.ratios, "passes": self.passes}
        return asdict(self) | derived


class CpuRows:
    """CPU per operation: all of it, what of it the server and what the kernel took.

    Beside it how many there are between two times that the server sleeps, as waking up is dear: two
    results that differ in this are of different loads.
    """

    def __init__(self, scenario: str, what: str, bar: float | None = None) -> None:
        self.rows = [
            Row(scenario, what, "us", bar=bar),
            Row(scenario, "user part of it", "us"),
            Row(scenario, "system part of it", "us"),
            Row(scenario, "requests between sleeps", ""),
        ]

    def add(self, ours: Window, theirs: Window) -> None:
        together, user, system, awake = self.rows
        together.add(ours.cpu_per_operation_us, theirs.cpu_per_operation_us)
        user.add(ours.user_per_operation_us, theirs.user_per_operation_us)
        system.add(ours.system_per_operation_us, theirs.system_per_operation_us)
        awake.add(ours.operations_per_wakeup, theirs.operations_per_wakeup)


@dataclass(frozen=True, slots=True)
class Failure:
    """A scenario that gave no figures, and why."""

    subject: str
    scenario: str
    why: str


def describe_machine(subjects: Sequence[Contender], reference: Contender) -> dict[str, str]:
    """Name what the figures depend on; a figure without these says little."""
    model = "unknown processor"
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            model = line.partition(":")[2].strip()
            break
    load_1_min = os.getloadavg()[0]
    return {
        "machine": f"{os.cpu_count()} x {model}, {platform.system()} {platform.release()}",
        "load before": f"{load_1_min:.2f}" + (" (others are busy)" if load_1_min > 0.5 else ""),
        **{str(subject): subject.version() for subject in subjects},
        "reference": f"{reference.version()} -t 1",
        "date": time.strftime("%Y-%m-%d"),
    }


def number(value: float) -> str:
    """Three significant digits, without exponents, thousands with commas."""
    if value == 0 or abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.{1 if abs(value) >= 10 else 2 if abs(value) >= 1 else 3}f}"


def table(rows: Sequence[Row], subject: str, reference: str = "memcached") -> str:
    """Lay the rows of one subject out as text."""
    if subject == reference:
        subject = "itself"
    lines = [["", "what", subject, reference, "unit", "ratio", "spread", "bar", ""]]
    shown = ""
    for row in rows:
        ratios = row.ratios
        spread = f"{min(ratios):.2f}-{max(ratios):.2f}" if len(ratios) > 1 else ""
        bar = ""
        if row.bar is not None:
            suffix = "x" if row.compare == "ratio" else f" {row.unit}"
            bar = f"{'>=' if row.at_least else '<='} {row.bar:g}{suffix}"
        lines.append(
            [
                row.scenario if row.scenario != shown else "",
                row.what,
                number(median(row.subject)),
                number(median(row.reference)),
                row.unit,
                f"{median(ratios):.2f}",
                spread,
                bar,
                " ".join(
                    (
                        {None: "", True: "pass", False: "FALLS SHORT"}[row.passes],
                        f"(others: {row.others_share:.0%} of the CPUs)"
                        if row.others_share > DISTURBED_SHARE and row.scenario != shown
                        else "",
                    )
                ),
            ]
        )
        shown = row.scenario
    return lay_out(lines, to_the_right={2, 3, 5})


def lay_out(lines: Sequence[Sequence[str]], *, to_the_right: set[int]) -> str:
    """Lay cells out in columns, the first line as a heading."""
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]

    def lay(line: Sequence[str]) -> str:
        cells = [
            cell.rjust(width) if column in to_the_right else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(line, widths, strict=True))
        ]
        return "  ".join(cells).rstrip()

    head, *rest = lines
    return "\n".join([lay(head), "-" * (sum(widths) + 2 * len(widths) - 2), *map(lay, rest)])


class Progress:
    """One line on stderr, rewritten on a terminal; a line per run elsewhere."""

    def __init__(self, scenarios: int) -> None:
        self._scenarios = scenarios
        self._index = 0
        self._name = ""
        self._step = ""
        self._rewrite = sys.stderr.isatty()
        self._started_s = time.monotonic()
        self._shown_s = 0.0

    def scenario(self, name: str) -> None:
        self._index += 1
        self._name = name

    def step(self, text: str) -> None:
        """Begin a run; always shown."""
        self._step = text
        self._show("")

    def note(self, text: str) -> None:
        """Say something in passing; only on a terminal."""
        if self._rewrite:
            self._step = text
            self._show("")

    def share(self, text: str, done: float) -> None:
        """Say how far a run has come; only on a terminal, and cheap to call often."""
        if self._rewrite and time.monotonic() - self._shown_s > 0.1:
            self._show(f"{text} {done:.0%}")

    def _show(self, detail: str) -> None:
        self._shown_s = time.monotonic()
        passed_s = self._shown_s - self._started_s
        place = f"{self._index}/{self._scenarios}"
        line = f"[{place} {passed_s:4.0f} s] {self._name}, {self._step} {detail}".rstrip()
        if self._rewrite:
            columns = shutil.get_terminal_size().columns
            print(f"\r\x1b[K{line[: columns - 1]}", end="", file=sys.stderr, flush=True)
        else:
            print(line, file=sys.stderr, flush=True)

    def finish(self) -> None:
        if self._rewrite:
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)
