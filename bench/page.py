"""The page docs/speed.md from results of `--json`: `python -m bench page RESULT...`.

Fills in what stands between `<!-- bench: NAME -->` and `<!-- bench end -->`, and draws the pictures
beside it. Where results say nothing of a table it stays as it is, which is said. Of a figure that
several results have the last one counts.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

from .contenders import CHECKOUT
from .report import number
from .results import ALL, LOADS, SYSTEM, USER, Results, named

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

PAGE = CHECKOUT / "docs" / "speed.md"
BLOCK = re.compile(r"(<!-- bench: (\w+) -->\n).*?(<!-- bench end -->)", re.DOTALL)

TIMES = [
    ("one", "p50, client on same CPU", "one client that waits for each answer, median"),
    ("one", "p99, client on same CPU", "the same, of 100 the slowest"),
    ("half", "p50 at half load", "at half load, median"),
    ("half", "p99 at half load", "at half load, of 100 the slowest"),
    ("half", "p99.9 at half load", "at half load, of 1,000 the slowest"),
]
MEMORY = [
    ("rss1k", "RSS per item, 1,000,000 items", "an item of 1 KB"),
    ("rss100", "RSS per item, 1,000,000 items", "an item of 100 bytes"),
    ("idle1000", "memory per connection", "a silent connection"),
]
PAIRS = [
    ("pair16", "16 connections, sets"),
    ("pair64", "64 connections, sets"),
    ("pairread16", "16 connections, 90 % gets"),
    ("pairasync16", "16 connections, sets, `async`"),
    ("pairforward16", "16 connections, sets at the follower"),
]
PEERS = [
    ("redis16", "CPU per request: pymcd, redis-server", "16 connections, 90 % gets, 1 KB"),
    ("redisset16", "CPU per request: pymcd, redis-server", "16 connections, 90 % sets, 1 KB"),
]
SOAK = [
    ("p99 at half load", "of 100 requests the slowest", "us"),
    ("p99.9 at half load", "of 1,000 requests the slowest", "us"),
    ("RSS at the end", "resident memory at the end", "MB"),
    ("RSS, last part over second", "memory, last minute over second", "x"),
    ("p99, last part over second", "p99, last minute over second", "x"),
]


def _times(ratio: float | None) -> str:
    return "" if ratio is None else f"{ratio:.2f}x"


def _figure(value: float | None, unit: str = "") -> str:
    return "" if value is None else f"{number(value)} {unit}".rstrip()


def _lay(head: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    rows = [head, ["---"] * len(head), *lines]
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)


def _compared(
    results: Results,
    what: str,
    wanted: Sequence[tuple[str, str, str]],
    unit: str,
    beside: str = "memcached",
) -> str:
    """Lay out another server's figures, and what each of ours is of them."""
    present = [each for each in wanted if results.theirs(each[0], each[1]) is not None]
    subjects = [
        name for name in results.subjects if any(results.row(name, *e[:2]) for e in present)
    ]
    if not present:
        return ""
    lines = [
        [words, _figure(results.theirs(scenario, row), unit)]
        + [_times(results.ratio(subject, scenario, row)) for subject in subjects]
        for scenario, row, words in present
    ]
    return _lay([what, beside, *map(named, subjects)], lines)


def machine(results: Results) -> str:
    """Say where the figures are from."""
    about = results.machine
    return (
        f"Measured {about['date']} on {about['machine']}, beside {about['reference']};"
        f" medians of {results.pairs} pairs of runs.\n"
    )


def parts(results: Results) -> str:
    """Say where the microseconds of a get go, theirs first."""
    scenario = "get16"
    subjects = results.subjects_of(scenario)
    if not subjects:
        return ""
    figures = [_figure(results.theirs(scenario, what)) for what in (USER, SYSTEM, ALL)]
    lines = [["memcached", *figures, "1"]]
    for subject in subjects:
        figures = [_figure(results.ours(subject, scenario, what)) for what in (USER, SYSTEM, ALL)]
        lines.append([subject, *figures, _times(results.ratio(subject, scenario, ALL))])
    return _lay(["", "server", "kernel", "together", "of memcached's"], lines)


def loads(results: Results) -> str:
    """Compare the CPU time of each load."""
    return _compared(results, "CPU time of a request", LOADS, "us")


def times(results: Results) -> str:
    """Compare how long answers take."""
    return _compared(results, "time to an answer", TIMES, "us")


def memory(results: Results) -> str:
    """Compare what items and connections take."""
    return _compared(results, "resident memory", MEMORY, "bytes")


def peers(results: Results) -> str:
    """Compare the CPU time of a request with that of Redis."""
    return _compared(results, "CPU time of a request", PEERS, "us", beside="Redis")


def pairs(results: Results) -> str:
    """Compare a pair with the server alone."""
    lines = []
    for subject in results.subjects:
        for scenario, words in PAIRS:
            found = {
                what.partition(" per ")[0].partition(":")[0]: row
                for what, row in results.of(subject, scenario).items()
            }
            rate = found.get("requests")
            if rate is None:
                continue
            nodes = [found.get(f"CPU of the {role}") for role in ("coordinator", "follower")]
            lines.append(
                [
                    words if len(results.subjects) == 1 else f"{words}, {named(subject)}",
                    _figure(median(rate["subject"])),
                    _figure(median(rate["reference"])),
                    _times(median(rate["ratios"])),
                    *(_times(median(node["ratios"])) if node else "" for node in nodes),
                ]
            )
    head = ["load", "pair, per second", "alone", "", "CPU of the coordinator", "of the follower"]
    return _lay(head, lines) if lines else ""


def soak(results: Results) -> str:
    """Say what ten minutes gave."""
    subjects = results.subjects_of("soak")
    if not subjects:
        return ""
    lines = [
        [words, _figure(results.theirs("soak", what), unit)]
        + [_figure(results.ours(subject, "soak", what), unit) for subject in subjects]
        for what, words, unit in SOAK
    ]
    return _lay(["ten minutes", "memcached", *map(named, subjects)], lines)


BLOCKS: dict[str, Callable[[Results], str]] = {
    maker.__name__: maker for maker in (machine, parts, loads, times, memory, peers, pairs, soak)
}


def fill(page: str, results: Results) -> tuple[str, list[str]]:
    """Return the page with the figures, and the blocks that nothing was said of."""
    silent = []

    def made(match: re.Match[str]) -> str:
        name = match[2]
        if name not in BLOCKS:
            raise ValueError(f"no table is named {name}: {', '.join(BLOCKS)}")
        table = BLOCKS[name](results)
        if not table:
            silent.append(name)
            return match[0]
        return f"{match[1]}{table}{match[3]}"

    return BLOCK.sub(made, page), silent


def main(words: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m bench page", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("result", nargs="+", type=Path, help="written by --json")
    parser.add_argument("--page", type=Path, default=PAGE, help="default: docs/speed.md")
    options = parser.parse_args(words)
    try:
        from .plot import draw_microseconds, draw_multiples
    except ModuleNotFoundError:
        print("bench: pictures need matplotlib: pip install -e '.[bench]'", file=sys.stderr)
        return 2
    try:
        results = Results([json.loads(path.read_text()) for path in options.result])
        page, silent = fill(options.page.read_text(), results)
    except OSError as error:
        print(f"bench: {error.filename}: {error.strerror}", file=sys.stderr)
        return 2
    except (KeyError, TypeError, ValueError) as error:
        print(f"bench: not a result of --json, or no such page: {error}", file=sys.stderr)
        return 2
    options.page.write_text(page)
    draw_microseconds(results, options.page.with_name("speed-parts.png"))
    draw_multiples(results, options.page.with_name("speed-loads.png"))
    for name in silent:
        print(f"bench: {name}: not in these results, left as it was", file=sys.stderr)
    return 0
