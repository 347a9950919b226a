"""The command line of the benchmark: `python -m bench [options] [scenario ...]`."""

from __future__ import annotations

import argparse
import json
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from .contenders import BenchError, Contender
from .pair import PAIR_SCENARIOS
from .report import Failure, Progress, describe_machine, table
from .scenarios import SCENARIOS, Bench

if TYPE_CHECKING:
    from .report import Row


def parser() -> argparse.ArgumentParser:
    names, paired = (
        "\n".join(f"  {scenario.name:<13} {scenario.about}" for scenario in scenarios)
        for scenarios in (SCENARIOS, PAIR_SCENARIOS)
    )
    parser = argparse.ArgumentParser(
        prog="python -m bench",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        description="Compare pymcd's cost with a real memcached's, both on this machine.",
        epilog=f"scenarios (default: all of these):\n{names}\n\n"
        f"a pair beside the subject alone, in the columns of subject and reference:\n{paired}\n\n"
        "Needs memcached and memcaslap (Debian: memcached, libmemcached-tools). Ratios are\n"
        "medians of pairs of runs. --subject memcached shows how far apart two equal servers come.",
    )
    parser.add_argument("scenario", nargs="*", metavar="SCENARIO", help="what to measure")
    parser.add_argument(
        "--subject",
        default="pymcd",
        metavar="COMMAND",
        help="the server under test (default: this checkout's pymcd)",
    )
    parser.add_argument(
        "--reference",
        default="memcached",
        metavar="COMMAND",
        help="what it is compared with (default: memcached)",
    )
    parser.add_argument("--pairs", type=int, default=5, metavar="N", help="default: 5")
    parser.add_argument("--quick", action="store_true", help="short runs, fewer items")
    parser.add_argument(
        "--wait",
        type=float,
        default=0.0,
        metavar="S",
        help="before each run wait up to S seconds for other processes to fall quiet, and measure"
        " disturbed pairs again, as often as there are pairs",
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures")
    parser.add_argument("--plot", type=Path, metavar="FILE", help="draw the ratios (PNG or SVG)")
    return parser


def main() -> int:
    options = parser().parse_args()
    known = {scenario.name: scenario for scenario in [*SCENARIOS, *PAIR_SCENARIOS]}
    unknown = [name for name in options.scenario if name not in known]
    if unknown:
        print(f"bench: no scenario named {', '.join(unknown)}; see --help", file=sys.stderr)
        return 2
    if options.pairs < 1:
        print("bench: --pairs wants at least 1", file=sys.stderr)
        return 2
    if options.plot:
        try:
            from .plot import draw
        except ModuleNotFoundError:
            print("bench: --plot needs matplotlib: pip install -e '.[bench]'", file=sys.stderr)
            return 2
    chosen = [known[name] for name in options.scenario] or SCENARIOS
    # Stop the servers and show what there is, however this ends.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    rows: list[Row] = []
    failures: list[Failure] = []
    progress = Progress(len(chosen))
    try:
        subject, reference = map(Contender.parse, (options.subject, options.reference))
        machine = describe_machine(subject, reference)
    except BenchError as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
    bench = Bench(subject, reference, options.pairs, options.quick, progress, options.wait)
    scenario = chosen[0]
    try:
        for scenario in chosen:
            progress.scenario(scenario.name)
            bench.others_share()
            try:
                measured = scenario.measure(bench, scenario.name)
                others_share = bench.others_share()
                for row in measured:
                    row.others_share = others_share
                rows += measured
            except (BenchError, OSError) as error:
                # OSError: the server died under the load.
                failures.append(Failure(scenario.name, str(error)))
    except KeyboardInterrupt:
        failures.append(Failure(scenario.name, "interrupted"))
    finally:
        progress.finish()

    for name, value in machine.items():
        print(f"{name:<12} {value}")
    runs = f"medians of {options.pairs} pairs" if options.pairs > 1 else "one pair"
    print(f"{'runs':<12} {runs}{', quick' if options.quick else ''}\n")
    if rows:
        print(table(rows, subject.name))
    for failure in failures:
        print(f"\n{failure.scenario}: not measured: {failure.why}")
    if options.json:
        result = {
            "machine": machine,
            "pairs": options.pairs,
            "quick": options.quick,
            "rows": [row.as_dict() for row in rows],
            "failures": [{"scenario": failed.scenario, "why": failed.why} for failed in failures],
        }
        options.json.write_text(json.dumps(result, indent=1) + "\n")
    if options.plot and rows:
        draw(rows, machine, subject.name, options.plot)
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
