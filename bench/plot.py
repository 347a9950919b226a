"""The two pictures of docs/speed.md. Knows results only; the one module that needs matplotlib."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import matplotlib as mpl

mpl.use("Agg")  # before pyplot looks for a display

import matplotlib.pyplot as plt

from .results import LOADS, OURS, SYSTEM, USER, named

if TYPE_CHECKING:
    from pathlib import Path

    from matplotlib.axes import Axes

    from .results import Results

SERVER = "#3b7ea1"
KERNEL = "#b9c4cc"
PYTHONS = ["#9cc3d8", "#3b7ea1", "#1c4a63", "#c8893d"]
INK = "#2b2d33"
TITLE: dict[str, Any] = {"loc": "left", "fontsize": 11, "color": INK, "fontweight": "bold"}
BAR_INCHES = 0.34
PARTS_OF = [("get16", "gets"), ("set16", "sets")]


def draw_microseconds(results: Results, path: Path) -> None:
    """Show what a get and a set cost each server: a bar of two parts."""
    shown = [(scenario, words) for scenario, words in PARTS_OF if results.subjects_of(scenario)]
    if not shown:
        return
    bars = [1 + len(results.subjects_of(scenario)) for scenario, _ in shown]
    figure, axes = plt.subplots(
        len(shown),
        1,
        figsize=(9, sum(bars) * BAR_INCHES + 0.75 * len(shown) + 0.5),
        gridspec_kw={"height_ratios": bars},
        sharex=True,
        squeeze=False,
        layout="constrained",
    )
    for axis, (scenario, words) in zip(axes[:, 0], shown, strict=True):
        subjects = results.subjects_of(scenario)
        names = ["memcached", *subjects]
        user, system = (
            [
                results.theirs(scenario, what) or 0.0,
                *(results.ours(subject, scenario, what) or 0.0 for subject in subjects),
            ]
            for what in (USER, SYSTEM)
        )
        places = range(len(names))
        axis.barh(places, system, color=KERNEL, label="in the kernel: sockets")
        axis.barh(places, user, left=system, color=SERVER, label="in the server itself")
        for place, parts in enumerate(zip(system, user, strict=True)):
            axis.text(sum(parts) + 0.1, place, f"{sum(parts):.1f}", va="center", fontsize=9)
        axis.set_yticks(list(places), names, fontsize=9)
        title = f"Microseconds of CPU for a request, 90 % {words} of 1 KB, 16 connections"
        axis.set_title(title, **TITLE)
        _plain(axis, len(names))
        axis.margins(x=0.08)
    axes[0, 0].legend(loc="upper left", bbox_to_anchor=(1, 1), fontsize=8, frameon=False)
    figure.savefig(path, dpi=130)
    plt.close(figure)


def draw_multiples(results: Results, path: Path) -> None:
    """Show the CPU of each load as a multiple of memcached's, a bar for each Python."""
    subjects = [name for name in results.subjects if name.startswith(OURS)]
    shown = [each for each in LOADS if any(results.row(name, *each[:2]) for name in subjects)]
    if not shown:
        return
    thick = 0.8 / len(subjects)
    figure, axis = plt.subplots(
        figsize=(9, len(shown) * len(subjects) * 0.2 + len(shown) * 0.12 + 1.1),
        layout="constrained",
    )
    for index, (subject, colour) in enumerate(zip(subjects, PYTHONS, strict=False)):
        for place, (scenario, what, _) in enumerate(shown):
            ratio = results.ratio(subject, scenario, what)
            if ratio is None:
                continue
            at = place - 0.4 + (index + 0.5) * thick
            label = named(subject) if place == 0 else None
            axis.barh(at, ratio, height=thick * 0.9, color=colour, label=label)
            axis.text(ratio + 0.02, at, f"{ratio:.2f}", va="center", fontsize=8, color=INK)
    axis.axvline(1, color=INK, linewidth=1.2)
    axis.set_yticks(range(len(shown)), [words for _, _, words in shown], fontsize=9)
    axis.set_title("CPU time of a request, memcached = 1", **TITLE)
    axis.legend(loc="upper left", bbox_to_anchor=(1, 1), fontsize=8, frameon=False)
    _plain(axis, len(shown))
    figure.savefig(path, dpi=130)
    plt.close(figure)


def _plain(axis: Axes, bars: int) -> None:
    axis.set_ylim(bars - 0.4, -0.6)
    axis.tick_params(axis="y", length=0)
    axis.tick_params(axis="x", labelsize=8)
    axis.xaxis.grid(visible=True, color="#e6e7ea")
    axis.set_axisbelow(True)
    for side in ("top", "right", "left"):
        axis.spines[side].set_visible(False)
