"""How two servers are compared fairly on a machine that others use as well.

What is measured comes in pairs, one of each side, whose order alternates (A B, B A, ...), so that a
machine that warms up or slows down favours nobody; every pair has fresh servers, as where a process
happens to have its memory is worth a few hundredths. A steady load is measured in slices: both
servers are up, and a slice of one follows a slice of the other within a moment. A machine that is
fast in this second and slow in the next is so for both.

Other processes spoil more than they slow down: a server that gets less CPU finds more requests at
each wake-up and does each for less, C and Python not alike. So a round (a slice of each side) in
which others had CPU time, or the host took some, is refused and measured again; where that happens
too often the least disturbed rounds count, and the share that others had is shown.
"""

from __future__ import annotations

import os
import time
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple, Protocol, TypeVar

from .contenders import cpu_of_others
from .report import DISTURBED_SHARE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager

    from .contenders import Contender
    from .loads import Window
    from .report import Progress

T = TypeVar("T")

CPUS = os.cpu_count() or 1
CALM_S = 0.5
SLICE_S = 0.5


class Pressure(Protocol):
    """A load on one server that stands still but for the times that are measured."""

    def measure(self, seconds: float) -> Window: ...


class Disturbance(NamedTuple):
    """How much CPU time others had during how long a time."""

    others_s: float
    seconds: float


def share_of(disturbances: list[Disturbance]) -> float:
    """Tell which share of all CPUs others had in these times."""
    others_s = sum(each.others_s for each in disturbances)
    seconds = sum(each.seconds for each in disturbances)
    # /proc counts in hundredths of a second: of short times it says nothing.
    return max(others_s / seconds / CPUS, 0.0) if seconds > SLICE_S else 0.0


class Round(NamedTuple):
    """A slice of each side, and what others did meanwhile."""

    subject: Window
    reference: Window
    disturbance: Disturbance

    @property
    def others_share(self) -> float:
        return share_of([self.disturbance])


def least_disturbed(rounds: Iterator[Round], wanted: int) -> list[Round]:
    """Take so many rounds that nobody disturbed; of too few of them, and what comes next to them.

    As many may be refused as are wanted.
    """
    kept: list[Round] = []
    calm = 0
    for each in rounds:
        kept.append(each)
        calm += each.others_share <= DISTURBED_SHARE
        if calm == wanted or len(kept) == 2 * wanted:
            break
    return sorted(kept, key=lambda each: each.others_share)[:wanted]


@dataclass(frozen=True, slots=True)
class Bench:
    """Who is compared, and how thoroughly."""

    subject: Contender
    reference: Contender
    pairs: int
    quick: bool
    progress: Progress
    window_s: float  #: of a steady load, in each pair
    wait_s: float = 0.0
    disturbances: list[Disturbance] = field(default_factory=list)

    def steady(
        self, press: Callable[[Contender], AbstractContextManager[Pressure]]
    ) -> Iterator[tuple[Window, Window]]:
        """Measure both sides under a steady load; yields (subject's, reference's) for each pair.

        `press` starts a server with a load on it, and ends both.
        """
        wanted = max(round(self.window_s / SLICE_S), 1)
        for pair in range(self.pairs):
            with ExitStack() as up:
                loads = {}
                for contender in self._order(pair):
                    what = f"pair {pair + 1}/{self.pairs}"
                    self.progress.step(f"{what}: {contender}")
                    loads[id(contender)] = up.enter_context(press(contender))
                self._wait_for_calm(what)
                rounds = least_disturbed(self._rounds(loads), wanted)
            self.disturbances.extend(each.disturbance for each in rounds)
            first, *rest = rounds
            subject, reference = first.subject, first.reference
            for each in rest:
                subject += each.subject
                reference += each.reference
            yield subject, reference

    def _rounds(self, loads: dict[int, Pressure]) -> Iterator[Round]:
        number = 0
        while True:
            others_s, started_s = cpu_of_others(), time.perf_counter()
            windows = {
                id(contender): loads[id(contender)].measure(SLICE_S)
                for contender in self._order(number)
            }
            seconds = time.perf_counter() - started_s
            yield Round(
                windows[id(self.subject)],
                windows[id(self.reference)],
                Disturbance(cpu_of_others() - others_s, seconds),
            )
            number += 1

    def _order(self, number: int) -> list[Contender]:
        return [self.subject, self.reference][:: 1 if number % 2 == 0 else -1]

    def paired(self, measure: Callable[[Contender], T], pairs: int = 0) -> Iterator[tuple[T, T]]:
        """Measure both sides in turn; yields (subject's, reference's) for each pair.

        Who waits for calm has a pair that others disturbed measured again, whatever it gave, as
        often as there are pairs; what was disturbed after that counts.
        """
        pairs = pairs or self.pairs
        repeats = pairs if self.wait_s else 0
        pair = 0
        while pair < pairs:
            order = self._order(pair)
            results = []
            for contender in order:
                what = f"pair {pair + 1}/{pairs}: {contender}"
                self._wait_for_calm(what)
                self.progress.step(what)
                others_s, started_s = cpu_of_others(), time.perf_counter()
                results.append(measure(contender))
                seconds = time.perf_counter() - started_s
                self.disturbances.append(Disturbance(cpu_of_others() - others_s, seconds))
            if repeats and share_of(self.disturbances[-2:]) > DISTURBED_SHARE:
                repeats -= 1
                del self.disturbances[-2:]
                continue
            pair += 1
            subject, reference = results if order[0] is self.subject else results[::-1]
            yield subject, reference

    def others_share(self) -> float:
        """Tell which share of all CPUs strangers had since this was last asked."""
        share = share_of(self.disturbances)
        self.disturbances.clear()
        return share

    def _wait_for_calm(self, what: str) -> None:
        deadline_s = time.perf_counter() + self.wait_s
        while time.perf_counter() < deadline_s:
            others_s = cpu_of_others()
            time.sleep(CALM_S)
            if (cpu_of_others() - others_s) / CALM_S / CPUS < DISTURBED_SHARE:
                return
            self.progress.note(f"{what} waits: others are busy")
