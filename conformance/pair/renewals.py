"""What is renewed while clients are served: the secret of the pair, and the release of its nodes.

Clients write to both nodes all the while. One node after the other is renewed and started again, as
an operator does it: told to stop, started, and the next one not before both are in sync. What was
acknowledged must be there at the end, and all that clients may notice are closed connections.
"""

from __future__ import annotations

import io
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from conformance.servers import PYMCD, ROOT
from conformance.trial import TrialError

from .load import Ledger, Load, read, writer
from .nodes import Pair

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from conformance.trial import Run

CLIENTS_PER_NODE = 4
#: There are other things to do with the CPUs meanwhile: a node must start.
PAUSE_S = 0.002
LOOK_S = 0.05
PATIENCE_S = 120.0
PREVIOUS = "tests/replication/previous.zip"


def _run(run: Run, pair: Pair, script: Iterator[Callable[[], bool]]) -> None:
    """Have clients write while a script goes on, which says what it waits for each time."""
    ledger = Ledger()
    rng = run.rng()
    load = Load(lambda: pair.nodes)
    for index in range(pair.count):
        for number in range(CLIENTS_PER_NODE):
            client = writer(ledger, f"n{index}c{number}", rng, pause_s=PAUSE_S)
            load.add(client, index, roams=True)
    reached = next(script, None)

    def look() -> None:
        nonlocal reached
        if reached is not None and reached():
            reached = next(script, None)
        if reached is None:
            load.stop()
        else:
            load.at(LOOK_S, look)

    load.at(LOOK_S, look)
    load.run(PATIENCE_S)
    if reached is not None:
        raise TrialError(f"it did not come to its end\n{pair.report()}")
    pair.wait_in_sync()
    lines = []
    for index, node in enumerate(pair.nodes):
        wrong = ledger.wrong(read(node, list(ledger.acknowledged)))
        lines += [f"node{index}: {line}" for line in wrong]
    run.figure("acknowledged writes lost", len(lines), 0, of=f"{ledger.writes:,}")
    run.problem(*lines)
    run.figure("answers that are errors", sum(load.errors.values()), 0)
    run.problem(*(f"answered {answer!r} {count} times" for answer, count in load.errors.items()))
    run.figure("connections closed", load.lost)


def _begin_anew(pair: Pair, index: int) -> Iterator[Callable[[], bool]]:
    """Have a node hand over and end, and come again; then both are in sync."""
    node = pair.nodes[index]
    node.signal(signal.SIGTERM)
    yield lambda: not node.running
    pair.restart(index)
    yield pair.in_sync


# -- the secret ----------------------------------------------------------------------------------


def rotation(run: Run) -> None:
    """The secret is replaced in the steps of docs/replication.md, a node at a time, under load."""
    old, new = ("the old secret: " + "o" * 32, "the new secret: " + "n" * 32)
    for _ in range(run.times(1)):
        with tempfile.TemporaryDirectory(prefix="conformance-") as folder:
            paths = [Path(folder, f"secret{index}") for index in range(2)]
            Path(folder).chmod(0o755)
            for path in paths:
                write_secrets(path, old)
            own: dict[int, Sequence[str]] = {
                index: ("--replication-secret-file", str(path)) for index, path in enumerate(paths)
            }
            with Pair(own=own, settled=True) as pair:
                pair.wait_in_sync()
                _run(run, pair, _rotate(pair, paths, old, new))
                refused = 0
                for node in pair.nodes:
                    refused += node.log().count("secrets differ")
                    refused += int(node.rows()["authentication_failures"])
                run.figure("links refused", refused, 0)


def write_secrets(path: Path, *lines: str) -> None:
    """Write a secret file that nodes may read."""
    path.write_text("".join(f"{line}\n" for line in lines))
    path.chmod(0o600)
    if os.geteuid() == 0:
        shutil.chown(path, "nobody")


def _rotate(pair: Pair, paths: list[Path], old: str, new: str) -> Iterator[Callable[[], bool]]:
    for lines in ((old, new), (new, old), (new,)):
        for index, path in enumerate(paths):
            write_secrets(path, *lines)
            pair.nodes[index].signal(signal.SIGHUP)
            yield pair.in_sync
            # A secret is asked for when a link is opened: so one is, in each of the states.
            other = 1 - index
            yield from _begin_anew(pair, other)
    # What is of no use changes nothing.
    write_secrets(paths[0])
    pair.nodes[0].signal(signal.SIGHUP)
    yield lambda: "the secrets in use stay" in pair.nodes[0].log()
    yield from _begin_anew(pair, 1)


# -- the release ---------------------------------------------------------------------------------


def upgrade(run: Run) -> None:
    """From the release before to today's and back, a node at a time, under load."""
    with tempfile.TemporaryDirectory(prefix="conformance-") as folder:
        Path(folder).chmod(0o755)
        before = _release_before(folder)
        for _ in range(run.times(1)):
            with Pair(commands=dict.fromkeys(range(2), before), settled=True) as pair:
                pair.wait_in_sync()
                _run(run, pair, _upgrade(pair, before))


def _upgrade(pair: Pair, before: tuple[str, ...]) -> Iterator[Callable[[], bool]]:
    for command in (PYMCD, before):
        for index in range(pair.count):
            pair.commands[index] = command
            yield from _begin_anew(pair, index)


def _release_before(folder: str) -> tuple[str, ...]:
    """Return what runs the release that nodes of today must understand.

    That is what was there when its copy for the simulation was made.
    """
    try:
        made_by = _git("log", "-1", "--format=%H", "--", PREVIOUS).decode().strip()
        archive = _git("archive", f"{made_by}^", "pymcd")
    except (OSError, subprocess.CalledProcessError) as error:
        raise TrialError(f"no sources of the release before: {error}") from None
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        tar.extractall(folder, filter="data")
    start = (
        f"import runpy, sys; sys.path.insert(0, {folder!r});"
        "runpy.run_module('pymcd', run_name='__main__', alter_sys=True)"
    )
    return (sys.executable, "-c", start)


def _git(*words: str) -> bytes:
    return subprocess.run(
        ("git", "-C", str(ROOT), *words), check=True, stdout=subprocess.PIPE
    ).stdout
