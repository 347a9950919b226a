"""The result as a picture. Knows rows only; the one module that needs matplotlib.

Left what is compared with memcached, as a multiple of it; right what has a bar of its own, as a
share of that bar. A mark shows each bar.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import matplotlib as mpl

mpl.use("Agg")  # before pyplot looks for a display

import matplotlib.pyplot as plt

from .report import number

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from matplotlib.axes import Axes

    from .report import Row

WITHIN = "#3b7ea1"
SHORT = "#c8553d"
NO_BAR = "#b5b8bd"
INK = "#2b2d33"
ROW_INCHES = 0.34
MOST_SHOWN = 3.0  # longer bars are cut and say so


def draw(rows: Sequence[Row], machine: dict[str, str], subject: str, path: Path) -> None:
    """Write the picture; the format follows the file's suffix."""
    compared = [row for row in rows if row.compare == "ratio"]
    own = [row for row in rows if row.compare == "own" and row.bar is not None]
    panels = [panel for panel in (compared, own) if panel]
    heights = [len(panel) for panel in panels]
    figure, axes = plt.subplots(
        len(panels),
        1,
        figsize=(9.5, sum(heights) * ROW_INCHES + 1.0 * len(panels) + 0.9),
        gridspec_kw={"height_ratios": heights},
        squeeze=False,
        layout="constrained",
    )
    for axis, panel in zip(axes[:, 0], panels, strict=True):
        if panel is compared:
            _panel(axis, panel, [row.value for row in panel], [row.bar for row in panel])
            axis.axvline(1, color=INK, linewidth=1)
            axis.set_title(f"{subject} as a multiple of memcached (1 = equal, | = bar)", **TITLE)
        else:
            shares = [row.value / row.bar for row in panel if row.bar]
            _panel(axis, panel, shares, [1.0] * len(panel))
            axis.set_title(f"{subject} as a share of its bar (|)", **TITLE)
    figure.suptitle(
        f"{machine['machine']}; {machine['python']}; {machine['reference']}; {machine['date']}",
        fontsize=8,
        color="#6a6d75",
        x=0.01,
        ha="left",
    )
    figure.savefig(path, dpi=150)
    plt.close(figure)


PAPER = {"facecolor": "white", "edgecolor": "none", "pad": 0.5}
TITLE = {"loc": "left", "fontsize": 11, "color": INK, "fontweight": "bold"}


def _panel(
    axis: Axes, rows: Sequence[Row], lengths: Sequence[float], bars: Sequence[float | None]
) -> None:
    colours = {None: NO_BAR, True: WITHIN, False: SHORT}
    places = range(len(rows))
    axis.barh(
        places,
        [min(length, MOST_SHOWN) for length in lengths],
        height=0.62,
        color=[colours[row.passes] for row in rows],
    )
    for place, (row, length, bar) in enumerate(zip(rows, lengths, bars, strict=True)):
        if bar is not None:
            axis.plot([bar, bar], [place - 0.42, place + 0.42], color=INK, linewidth=2.2)
        if row.compare == "ratio":
            text = f"{row.value:.2f}"
            if bar is not None:
                text += f"  ({'at least' if row.at_least else 'at most'} {bar:g})"
        else:
            text = f"{number(row.value)} {row.unit}  (at most {row.bar:g})"
        if length > MOST_SHOWN:
            text = f"> {text}"
        end = max(min(length, MOST_SHOWN), bar or 0)
        if row.compare == "ratio" and abs(end - 1) < 0.05:
            end = 1.0  # do not print over the line at 1
        axis.text(end + 0.03, place, text, va="center", fontsize=8.5, color=INK, bbox=PAPER)
    axis.set_yticks(list(places), [f"{row.scenario}: {row.what}" for row in rows], fontsize=8.5)
    axis.set_ylim(len(rows) - 0.4, -0.6)
    axis.set_xlim(0, max(min(max(lengths), MOST_SHOWN), *(bar or 0 for bar in bars)) + 0.75)
    axis.tick_params(axis="y", length=0)
    axis.tick_params(axis="x", labelsize=8)
    axis.xaxis.grid(visible=True, color="#e6e7ea")
    axis.set_axisbelow(True)
    for side in ("top", "right", "left"):
        axis.spines[side].set_visible(False)
