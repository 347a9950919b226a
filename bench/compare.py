"""Two results of `python -m bench --json`, beside each other: `python -m bench compare OLD NEW`.

A change counts where the ratios of one run lie all on one side of those of the other; anything less
may be the machine.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from statistics import median
from typing import Any

from .report import lay_out

Key = tuple[str, str, str]


class _Figures:
    """One row of a result: its figures, one for each pair of runs."""

    def __init__(self, row: dict[str, Any]) -> None:
        self.figures: list[float] = row["ratios" if row["compare"] == "ratio" else "subject"]
        self.at_least: bool = row["at_least"]

    def judge(self, new: _Figures) -> str:
        """Return what a newer row says of this one."""
        if min(len(self.figures), len(new.figures)) < 2:
            return "one run says nothing"
        if max(self.figures) < min(new.figures):
            return "better" if self.at_least else "WORSE"
        if max(new.figures) < min(self.figures):
            return "WORSE" if self.at_least else "better"
        return ""


def _read(path: Path) -> dict[Key, _Figures]:
    rows = json.loads(path.read_text())["rows"]
    return {(row["subject_name"], row["scenario"], row["what"]): _Figures(row) for row in rows}


def compare(old: dict[Key, _Figures], new: dict[Key, _Figures]) -> list[list[str]]:
    """Return the lines of a table: what both have, and what they say of it."""
    lines = [["", "", "what", "old", "new", "change", ""]]
    for key in old.keys() & new.keys():
        before, now = old[key], new[key]
        was, is_ = median(before.figures), median(now.figures)
        change = f"{is_ / was - 1:+.1%}" if was else ""
        lines.append([*key, f"{was:.3g}", f"{is_:.3g}", change, before.judge(now)])
    places = {key: place for place, key in enumerate(old)}
    head, *rest = lines
    return [head, *sorted(rest, key=lambda line: places[line[0], line[1], line[2]])]


def main(words: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m bench compare", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("old", type=Path, metavar="OLD", help="written by --json")
    parser.add_argument("new", type=Path, metavar="NEW")
    options = parser.parse_args(words)
    results = []
    for path in (options.old, options.new):
        try:
            results.append(_read(path))
        except OSError as error:
            print(f"bench: {path}: {error.strerror}", file=sys.stderr)
            return 2
        except (ValueError, KeyError, TypeError):
            print(f"bench: {path}: not a result of --json of this version", file=sys.stderr)
            return 2
    lines = compare(*results)
    if len(lines) == 1:
        print("bench: nothing was measured in both, of the same subject", file=sys.stderr)
        return 1
    print(lay_out(lines, to_the_right={3, 4, 5}))
    return 0
