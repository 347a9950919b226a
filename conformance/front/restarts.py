"""Rolling restarts of a pair whose clients know both nodes, done as docs/operate.md has it.

A client leaves a node alone for a while when that was away. A loop that restarts the other node
within this time finds clients that have no node left; so the loop waits, and here is tried whether
it does so for long enough: what then costs a client, of each library with its documented lines.
"""

from __future__ import annotations

import re
import signal
import subprocess
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from conformance.clock import now_s
from conformance.pair.nodes import Pair
from conformance.pair.ways import TEXT
from conformance.servers import PYMCD
from conformance.trial import TrialError, until
from tests.papers.blocks import DOCS, blocks

from .addresses import AWAY_S, CALLERS, LIBRARIES, Caller, addressed
from .watch import CALM_S

if TYPE_CHECKING:
    from collections.abc import Sequence

    from conformance.trial import Run

    from .addresses import Library

PAGE = DOCS / "operate.md"
#: How long a node and its peer may take to be in sync again, for `pymcd replication --wait`.
PATIENCE_S = 60


def documented_pause_s() -> int:
    """Return how long the documented loop waits after a node is back."""
    for each in blocks(PAGE):
        if "--wait" in each.text and (found := re.search(r"sleep (\d+)", each.text)):
            return int(found[1])
    raise TrialError(f"{PAGE.name} has no loop with --wait and sleep")


def restarts(run: Run) -> None:
    """Clients that know both nodes, while these are restarted one after the other."""
    for name, library in LIBRARIES.items():
        if reason := library.why_not():
            run.problem(f"{name}: skipped: {reason}")
        elif library.documented:
            _notice(run, name, library)


def _notice(run: Run, name: str, library: Library) -> None:
    pause_s = documented_pause_s()
    with Pair(wired=False, settled=True, way=TEXT) as pair, ExitStack() as stack:
        pair.wait_in_sync()
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="conformance-")))
        lines = addressed(library.lines(), [node.port for node in pair.nodes])
        command = library.command(lines, folder)
        callers = [
            Caller(f"caller{number}", command, lines, run.rng(number)) for number in range(CALLERS)
        ]
        spans: list[tuple[float, float]] = []
        with ExitStack() as running:
            for caller in callers:
                running.callback(caller.stop)
                caller.start()
            time.sleep(CALM_S)
            for _ in range(run.times(1)):
                for index in range(len(pair.nodes)):
                    since_s = now_s()
                    _restart(pair, index)
                    time.sleep(pause_s)
                    spans.append((since_s, now_s()))
            time.sleep(AWAY_S)
        _tell(run, name, callers, pair, spans)


def _restart(pair: Pair, index: int) -> None:
    """Do with one node what the loop does."""
    node = pair.nodes[index]
    node.signal(signal.SIGTERM)
    until(f"node{index} ends", lambda: not node.running)
    pair.restart(index)
    waiting = [*PYMCD, "replication", f"--wait={PATIENCE_S}"]
    done = subprocess.run(
        [*waiting, *(each.address for each in pair.nodes)],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise TrialError(done.stdout)


def _tell(
    run: Run,
    name: str,
    callers: Sequence[Caller],
    pair: Pair,
    spans: Sequence[tuple[float, float]],
) -> None:
    for caller in callers:
        if caller.broken is not None:
            raise TrialError(f"{name}: {caller.broken}")
    lost = [line for caller in callers for line in caller.lost(pair)]
    stale = [line for caller in callers for line in caller.stale]
    run.figure(
        f"{name}: acknowledged writes lost", len(lost), 0, of=f"{sum(c.writes for c in callers):,}"
    )
    answers = sum(len(caller.answered_s) for caller in callers)
    run.figure(f"{name}: stale answers, false misses", len(stale), 0, of=f"{answers:,}")
    failed = [
        sum(since_s <= at_s < until_s for at_s, _ in caller.failed)
        for caller in callers
        for since_s, until_s in spans
    ]
    run.figure(f"{name}: calls of one client that failed at one restart, at most", max(failed))
    outages_s = [caller.outage_s(*span) for caller in callers for span in spans]
    run.figure(f"{name}: longest outage", max(outages_s), unit="s")
    late = sum(at_s >= spans[-1][1] for caller in callers for at_s, _ in caller.failed)
    run.figure(f"{name}: calls that failed after the pause", late, 0)
    run.problem(*(f"{name}: lost: {line}" for line in lost))
    run.problem(*(f"{name}: stale: {line}" for line in stale))
    kinds = sorted({text for caller in callers for _, text in caller.failed})
    run.say(f"{name}: {kinds[:8]}")
