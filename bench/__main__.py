"""The command line: `python -m bench [options] [scenario ...]`, `compare`, `page`."""

from __future__ import annotations

import argparse
import json
import signal
import sys
from dataclasses import asdict
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING

from conformance.servers import find_memcached

from .compare import main as compare
from .contenders import BenchError, Contender
from .interpreters import find, usual
from .page import main as page
from .pair import PAIR_SCENARIOS
from .report import Failure, Progress, describe_machine, table
from .runs import Bench
from .scenarios import OTHER_SCENARIOS, SCENARIOS

if TYPE_CHECKING:
    from .report import Row
    from .scenarios import Scenario


def parser() -> argparse.ArgumentParser:
    names, others, paired = (
        "\n".join(f"  {scenario.name:<13} {scenario.about}" for scenario in scenarios)
        for scenarios in (SCENARIOS, OTHER_SCENARIOS, PAIR_SCENARIOS)
    )
    parser = argparse.ArgumentParser(
        prog="python -m bench",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        description="Compare pymcd's cost with a real memcached's, both on this machine.",
        epilog=f"scenarios (default: all of these):\n{names}\n\n"
        f"only when asked for:\n{others}\n\n"
        f"a pair beside the subject alone, in the columns of subject and reference:\n{paired}\n\n"
        "Needs memcached and memcaslap (Debian: memcached, libmemcached-tools). Ratios are\n"
        "medians of pairs of runs; --subject memcached shows how far apart two equal servers are.\n"
        "python -m bench compare OLD NEW: two results of --json beside each other.\n"
        "python -m bench page RESULT...: docs/speed.md from results of --json.",
    )
    parser.add_argument("scenario", nargs="*", metavar="SCENARIO", help="what to measure")
    parser.add_argument(
        "--python",
        action="append",
        metavar="PATH",
        help="run this checkout's pymcd on this interpreter; may be said several times (default:"
        " /usr/bin/python3; `python -m bench.interpreters` fetches others)",
    )
    parser.add_argument(
        "--subject", metavar="COMMAND", help="another server under test, with its options"
    )
    parser.add_argument(
        "--beside",
        action="append",
        default=[],
        metavar="COMMAND",
        help="compare this server, too; may be said several times",
    )
    parser.add_argument(
        "--reference",
        metavar="COMMAND",
        help="what they are compared with (default: the memcached that `python -m"
        " conformance.memcached` fetches, or else the one installed)",
    )
    parser.add_argument("--pairs", type=int, default=5, metavar="N", help="default: 5")
    parser.add_argument("--quick", action="store_true", help="short runs, fewer items")
    parser.add_argument(
        "--window",
        type=float,
        metavar="S",
        help="measure a steady load for so long (default: 3, quick 1); more and shorter windows"
        " bear more of what other processes do",
    )
    parser.add_argument(
        "--wait",
        type=float,
        default=0.0,
        metavar="S",
        help="before each run wait up to S seconds for other processes to fall quiet, and measure"
        " pairs again that they, or the host, disturbed, as often as there are pairs",
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures")
    return parser


def contenders(options: argparse.Namespace) -> tuple[list[Contender], Contender]:
    """Return who is measured, and what they are compared with.

    Raises:
        BenchError: one of them cannot be run.
    """
    if options.subject and options.python:
        raise BenchError("--python is for this checkout's pymcd, --subject for another server")
    if options.subject:
        subjects = [Contender.parse(options.subject)]
    elif options.python:
        subjects = [find(path).contender() for path in options.python]
    else:
        subjects = [usual().contender()]
    subjects += map(Contender.parse, options.beside)
    if options.reference:
        reference = Contender.parse(options.reference)
    else:
        reference = Contender("memcached", find_memcached() or ("memcached",))
    return [subject.labelled() for subject in subjects], reference


def main() -> int:
    if sys.argv[1:2] == ["compare"]:
        return compare(sys.argv[2:])
    if sys.argv[1:2] == ["page"]:
        return page(sys.argv[2:])
    options = parser().parse_args()
    known = {
        scenario.name: scenario for scenario in [*SCENARIOS, *OTHER_SCENARIOS, *PAIR_SCENARIOS]
    }
    unknown = [name for name in options.scenario if name not in known]
    if unknown:
        print(f"bench: no scenario named {', '.join(unknown)}; see --help", file=sys.stderr)
        return 2
    if options.pairs < 1:
        print("bench: --pairs wants at least 1", file=sys.stderr)
        return 2
    if options.window is not None and not options.window > 0:
        print("bench: --window wants seconds, more than 0", file=sys.stderr)
        return 2
    chosen = [known[name] for name in options.scenario] or SCENARIOS
    # Stop the servers and show what there is, however this ends.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        subjects, reference = contenders(options)
        machine = describe_machine(subjects, reference)
    except BenchError as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
    progress = Progress(len(chosen) * len(subjects))
    window_s = options.window or (1.0 if options.quick else 3.0)
    benches = [
        Bench(subject, reference, options.pairs, options.quick, progress, window_s, options.wait)
        for subject in subjects
    ]
    rows, failures = measure(chosen, benches)
    progress.finish()

    width = max(12, *map(len, machine))
    for name, value in machine.items():
        print(f"{name:<{width}} {value}")
    runs = f"medians of {options.pairs} pairs" if options.pairs > 1 else "one pair"
    print(f"{'runs':<{width}} {runs}{', quick' if options.quick else ''}")
    for name in map(str, subjects):
        if mine := [row for row in rows if row.subject_name == name]:
            print(f"\n{table(mine, name)}")
    for failure in failures:
        print(f"\n{failure.subject}: {failure.scenario}: not measured: {failure.why}")
    if options.json:
        result = {
            "machine": machine,
            "pairs": options.pairs,
            "quick": options.quick,
            "window_s": window_s,
            "rows": [row.as_dict() for row in rows],
            "failures": [asdict(failure) for failure in failures],
        }
        options.json.write_text(json.dumps(result, indent=1) + "\n")
    return 1 if failures else 0


def measure(scenarios: list[Scenario], benches: list[Bench]) -> tuple[list[Row], list[Failure]]:
    """Measure each scenario with each subject; whoever interrupts has what there is by then."""
    rows: list[Row] = []
    failures: list[Failure] = []
    for scenario, bench in product(scenarios, benches):
        subject = str(bench.subject)
        bench.progress.scenario(f"{scenario.name}, {subject}" if benches[1:] else scenario.name)
        try:
            measured = scenario.measure(bench, scenario.name)
            others_share = bench.others_share()
            for row in measured:
                row.others_share = others_share
                row.subject_name = subject
            rows += measured
        except (BenchError, OSError) as error:
            # OSError: the server died under the load.
            failures.append(Failure(subject, scenario.name, str(error)))
            bench.others_share()
        except KeyboardInterrupt:
            failures.append(Failure(subject, scenario.name, "interrupted"))
            break
    return rows, failures


if __name__ == "__main__":
    sys.exit(main())
