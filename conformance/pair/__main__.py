"""Run trials and print their figures: `python -m conformance.pair NAME ... [--trials N]`."""

from __future__ import annotations

import argparse
import os
import shlex
import sys

from conformance.servers import StartError

from . import histories, lags, locks, losses, namespaces, partitions, resources, strangers
from .clock import now_s, standstill_s
from .nodes import Pair, TrialError
from .trial import Run

TRIALS = {
    "kill": losses.kill,
    "cutkill": losses.cutkill,
    "refill": losses.refill,
    "locks": locks.locks,
    "linear": histories.linear,
    "partition": partitions.partition,
    "deletes": partitions.deletes,
    "freeze": partitions.freeze,
    "lag": lags.lag,
    "strangers": strangers.strangers,
    "tls": strangers.tls,
    "badinput": strangers.badinput,
    "evictions": resources.evictions,
    "memory": resources.memory,
    "three": resources.three,
    "namespaces": namespaces.namespaces,
}


def main() -> int:
    names = "\n".join(f"  {name:<11} {(act.__doc__ or '').strip()}" for name, act in TRIALS.items())
    parser = argparse.ArgumentParser(
        prog="python -m conformance.pair",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        description="Try real pairs: processes, sockets, kills, a bad network between them.",
        epilog=f"trials:\n{names}",
    )
    parser.add_argument("name", nargs="*", metavar="NAME", help="default: all")
    parser.add_argument("--trials", type=int, default=0, metavar="N", help="how often")
    parser.add_argument(
        "--seed", type=int, default=1, metavar="S", help="of what is left to chance"
    )
    parser.add_argument("--scale", type=float, default=1.0, metavar="X", help="0.1: a tenth of all")
    parser.add_argument("-v", "--verbose", action="store_true", help="tell what happens")
    parser.add_argument(
        "--experiment",
        default="",
        metavar="OPTIONS",
        help="more options for all nodes: with '--replication-ack async', what is lost?",
    )
    options = parser.parse_args()
    Pair.experiment = shlex.split(options.experiment)
    if unknown := [name for name in options.name if name not in TRIALS]:
        parser.error(f"no trial named {', '.join(unknown)}")
    failed = 0
    for name in options.name or TRIALS:
        run = Run(options.trials, options.seed, options.scale, options.verbose)
        started_s, stood_still_s = now_s(), standstill_s()
        busy = os.getloadavg()[0]
        try:
            TRIALS[name](run)
        except (TrialError, StartError, OSError) as error:
            failed += 1
            run.problem(*f"gave up: {type(error).__name__}: {error}".splitlines(), most=200)
        failed += not run.passes
        print(f"{name}  ({now_s() - started_s:.0f} s, load before {busy:.1f})")
        for figure in run.figures:
            print(f"  {figure}")
        if standstill_s() > stood_still_s:
            print(f"  (the machine stood still for {standstill_s() - stood_still_s:.0f} s of that)")
        for line in run.problems:
            print(f"  ! {line}")
        sys.stdout.flush()
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
