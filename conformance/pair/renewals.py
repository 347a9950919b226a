"""What is renewed while clients are served: the secret, the release, and who takes part.

Clients of all nodes write, count and take locks all the while. One node after the other is renewed
and started again, as an operator does it: told to stop, started, and the next one not before all
are in sync. What was acknowledged must be there at the end, nothing may have been given to two, and
all that clients may notice are closed connections.
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
import threading
import time
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

from conformance.clock import now_s
from conformance.servers import PYMCD, ROOT
from conformance.trial import PATIENCE_S, TrialError

from .care import Keeper
from .load import Load, Pause, differing, read_items, writer
from .nodes import Pair
from .takers import Books, counter, locker

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from conformance.trial import Run

    from .load import Client

WRITERS_PER_NODE = 4
#: There are other things to do with the CPUs meanwhile: a node must start.
PAUSE_S = 0.002
LOOK_S = 0.05
LOOK_TIMEOUT_S = 0.5
LASTS_S = 300.0
#: Who is not answered for so long when all is well again never will be.
HUNG_S = 10.0
PREVIOUS = "tests/replication/previous.zip"


def _paced(client: Client) -> Client:
    """Have a client pause after each answer."""
    answer = None
    while True:
        answer = yield client.send(answer)
        yield Pause(PAUSE_S)


def _run(run: Run, pair: Pair, script: Callable[[], None]) -> None:
    """Have clients write, count and take locks while a script goes on in a thread of its own."""
    rng = run.rng()
    books = Books(pair.nodes[0], "renewal")
    load = Load(lambda: pair.nodes)
    for index in range(pair.count):
        for number in range(WRITERS_PER_NODE):
            client = writer(books.open().ledger, f"n{index}c{number}", rng, pause_s=PAUSE_S)
            load.add(client, index, roams=True)
        book = books.open()
        load.add(_paced(locker(b"renewal:lock", book.granted)), index, roams=True)
        load.add(_paced(counter(books.counter, book.counts)), index, roams=True)
    failed: list[Exception] = []

    def play() -> None:
        try:
            script()
        except Exception as error:
            failed.append(error)

    playing = threading.Thread(target=play)
    hung = 0

    def look() -> None:
        if playing.is_alive():
            load.at(LOOK_S, look)
        else:
            load.stop()
            load.at(HUNG_S, give_up)

    def give_up() -> None:
        nonlocal hung
        hung = -load.lost
        load.give_up(0.0)
        hung += load.lost

    load.at(LOOK_S, look)
    playing.start()
    try:
        load.run(LASTS_S)
    finally:
        playing.join()
    if failed:
        raise TrialError(f"{failed[0]}\n{pair.report()}")
    nodes = [node for node in pair.nodes if node.running]
    twice = books.twice()
    run.figure("locks granted, counts given twice", len(twice), 0, of=f"{books.acknowledged:,}")
    lost = [f"{node.address}: {line}" for node in nodes for line in books.lost(node)]
    run.figure("acknowledged and lost", len(lost), 0, of=f"{books.acknowledged:,}")
    one, *others = (read_items(node, books.keys) for node in nodes)
    differ = [f"{key.decode()} differs" for other in others for key in differing(one, other)]
    run.figure("keys that differ in the end", len(differ), 0)
    run.problem(*twice, *lost, *differ)
    run.figure("answers that are errors", sum(load.errors.values()), 0)
    run.problem(*(f"answered {what!r} {count} times" for what, count in load.errors.items()))
    run.figure("clients never answered", hung, 0)
    run.figure("connections closed", load.lost)
    served_s = sorted(timing.answered_s for timing in load.timings if not timing.failed)
    outage_s = max((after - before for before, after in pairwise(served_s)), default=0.0)
    run.figure("longest time in which nobody was served", outage_s * 1e3, unit="ms")


def _await(what: str, reached: Callable[[], bool]) -> None:
    """Wait as `until` does; but whoever is looked at has clients to serve, so look less often."""
    started_s = now_s()
    while not reached():
        if now_s() - started_s > PATIENCE_S:
            raise TrialError(f"waited {PATIENCE_S:g} s in vain: {what}")
        time.sleep(LOOK_S)


def _await_sync(pair: Pair, without: int | None = None) -> None:
    """Wait until `pymcd replication` would say of all nodes that the next one may go."""

    def reached() -> bool:
        if not pair.in_sync(LOOK_TIMEOUT_S, without):
            return False
        for index, node in enumerate(pair.nodes):
            rows = {} if index == without else node.rows(timeout_s=LOOK_TIMEOUT_S)
            if rows.get("witness_link") == "down":
                return False
        return True

    _await("all in sync", reached)


def _end(pair: Pair, index: int) -> None:
    """Have a node hand over and end."""
    node = pair.nodes[index]
    node.signal(signal.SIGTERM)
    _await(f"node{index} ends", lambda: not node.running)


def _begin_anew(pair: Pair, index: int, without: int | None = None) -> None:
    """Have a node hand over and end, and come again; then all are in sync."""
    _end(pair, index)
    pair.restart(index)
    _await_sync(pair, without)


# -- the secret ----------------------------------------------------------------------------------


def rotation(run: Run) -> None:
    """The secret is replaced in the steps of docs/operate.md, a node at a time, under load."""
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
                _run(run, pair, partial(_rotate, pair, paths, old, new))
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


def _rotate(pair: Pair, paths: list[Path], old: str, new: str) -> None:
    for lines in ((old, new), (new, old), (new,)):
        for index, path in enumerate(paths):
            write_secrets(path, *lines)
            pair.nodes[index].signal(signal.SIGHUP)
            _await_sync(pair)
            # A secret is asked for when a link is opened: so one is, in each of the states.
            _begin_anew(pair, 1 - index)
    # What is of no use changes nothing.
    write_secrets(paths[0])
    pair.nodes[0].signal(signal.SIGHUP)
    _await("it says so", lambda: "the secrets in use stay" in pair.nodes[0].log())
    _begin_anew(pair, 1)


# -- the release ---------------------------------------------------------------------------------


def upgrade(run: Run) -> None:
    """From the release before to today's and back, a node at a time, under load."""
    _upgrade(run, 2)


def upgrade_three(run: Run) -> None:
    """The same with three nodes, of which those of before have no vote."""
    _upgrade(run, 3)


def _upgrade(run: Run, count: int) -> None:
    with tempfile.TemporaryDirectory(prefix="conformance-") as folder:
        Path(folder).chmod(0o755)
        before = _release_before(folder)
        for number in run.numbers(1):
            order = run.rng(number).sample(range(count), count)
            commands: dict[int, Sequence[str]] = dict.fromkeys(range(count), before)
            with Pair(commands=commands, count=count, settled=True) as pair:
                pair.wait_in_sync()
                _run(run, pair, partial(_there_and_back, pair, order, before))


def _there_and_back(pair: Pair, order: Sequence[int], before: Sequence[str]) -> None:
    for command in (PYMCD, before):
        for index in order:
            pair.commands[index] = command
            _begin_anew(pair, index)


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
        # Pythons before 3.11.4, as that of Debian 12, know no filters.
        tar.extraction_filter = getattr(tarfile, "data_filter", None)
        tar.extractall(folder)
    start = (
        f"import runpy, sys; sys.path.insert(0, {folder!r});"
        "runpy.run_module('pymcd', run_name='__main__', alter_sys=True)"
    )
    return (sys.executable, "-c", start)


def _git(*words: str) -> bytes:
    return subprocess.run(
        ("git", "-C", str(ROOT), *words), check=True, stdout=subprocess.PIPE
    ).stdout


# -- who takes part ------------------------------------------------------------------------------


def members(run: Run) -> None:
    """A witness, and then a third node, is added to a pair and taken away, under load."""
    where = run.where
    for _ in range(run.times(1)):
        for what, script in (("witness", _add_witness), ("third node", _add_third)):
            named: dict[int, Sequence[int]] = {0: (1,), 1: (0,)}
            with Pair(count=3, named=named, absent=(2,), settled=True) as pair, Keeper() as keeper:
                pair.wait_in_sync(without=2)
                run.where = f"{where}{what}: "
                _run(run, pair, partial(script, pair, keeper))
        run.where = where


def _add_witness(pair: Pair, keeper: Keeper) -> None:
    pair.named[2] = ()
    _roll(pair, dict.fromkeys(range(2), keeper.switch), without=2)
    _await("anyone may fail", lambda: _may_fail(pair, 0) == 3 == _may_fail(pair, 1))
    _fail(pair, 1, without=2)
    _await("anyone may fail again", lambda: _may_fail(pair, 0) == 3 == _may_fail(pair, 1))
    _roll(pair, dict.fromkeys(range(2), ()), without=2)


def _roll(pair: Pair, own: dict[int, Sequence[str]], without: int) -> None:
    for index, switches in own.items():
        pair.own[index] = switches
        _begin_anew(pair, index, without)


def _may_fail(pair: Pair, index: int) -> int:
    """Return how many may fail, one at a time, as far as a node knows."""
    names = pair.nodes[index].rows(timeout_s=LOOK_TIMEOUT_S).get("may_fail", "-")
    return 0 if names == "-" else len(names.split(","))


def _fail(pair: Pair, victim: int, without: int | None = None) -> None:
    """Kill a node: others go on; then it comes again."""
    pair.nodes[victim].kill()
    time.sleep(0.5)
    survivor = pair.nodes[0 if victim else 1]
    # Who has not the votes answers this with an error.
    _await("others go on", lambda: survivor.rows(timeout_s=LOOK_TIMEOUT_S) != {})
    pair.restart(victim)
    _await_sync(pair, without)


def _add_third(pair: Pair, _keeper: Keeper) -> None:
    pair.restart(2)
    _await_sync(pair)
    for index in range(2):
        pair.named.pop(index)
        _begin_anew(pair, index)
    _await("anyone may fail", lambda: all(_may_fail(pair, index) == 3 for index in range(3)))
    for victim in range(3):
        _fail(pair, victim)
        _await("anyone may fail again", lambda: all(_may_fail(pair, i) == 3 for i in range(3)))
    _end(pair, 2)
    for index in range(2):
        pair.named[index] = (1 - index,)
        _begin_anew(pair, index, without=2)
