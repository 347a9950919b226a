"""keepalived on both hosts of a pair, as documented: what clients of the moving address notice."""

from __future__ import annotations

import signal
import time
from typing import TYPE_CHECKING

from conformance.pair.nodes import Pair
from conformance.pair.ways import Address

from .hosts import CLIENT_PORT
from .keepalived import ADDRESS, MovingAddress, why_not
from .watch import CALM_S, FROZEN_S, Watch, tell

if TYPE_CHECKING:
    from collections.abc import Callable

    from conformance.trial import Run

#: What session managers wait for an answer, by default. Who waits for one when the address moves
#: away is told nothing: there is nobody to tell him.
PATIENCE_S = 1.0
#: Longer than the address takes to move.
AWAY_S = 3.0
#: The check comes once a second and takes 0.3 s at a node that hangs; then the other host must take
#: over; and who asked right before still waits for PATIENCE_S.
GRACE_S = 1.5 + PATIENCE_S


def _killed(site: MovingAddress, index: int, _: float) -> Callable[[], None]:
    site.nodes[index].kill()
    time.sleep(AWAY_S)
    return lambda: site.restart(index)


def _frozen(site: MovingAddress, index: int, scale: float) -> Callable[[], None]:
    site.nodes[index].signal(signal.SIGSTOP)
    time.sleep(max(AWAY_S, FROZEN_S * scale))
    return lambda: site.nodes[index].signal(signal.SIGCONT)


def _cut_off(site: MovingAddress, index: int, _: float) -> Callable[[], None]:
    site.network.pull(index, "client")
    time.sleep(AWAY_S)
    return lambda: site.network.plug(index, "client")


def _vanished(site: MovingAddress, index: int, _: float) -> Callable[[], None]:
    site.vanish(index)
    time.sleep(AWAY_S)
    return lambda: site.come_back(index)


#: What happens to the host that has the address; each returns how to undo it.
FAULTS = {
    "its node killed": _killed,
    "its node frozen": _frozen,
    "cut off from the clients": _cut_off,
    "the host vanished": _vanished,
}


def keepalived(run: Run) -> None:
    """What has the address dies, freezes, is cut off, vanishes, and comes back."""
    if reason := why_not():
        run.problem(f"skipped: {reason}")
        return
    watches: dict[str, list[Watch]] = {what: [] for what in FAULTS}
    moved_back = 0
    with MovingAddress(Pair.experiment) as site:
        for number in range(run.times(2)):
            for what, fault in FAULTS.items():
                holder = site.wait_held()
                door = Address(CLIENT_PORT, ADDRESS)
                with Watch([door], run.rng(number), patience_s=PATIENCE_S) as watch:
                    time.sleep(CALM_S)
                    watch.fault()
                    undo = fault(site, holder, run.scale)
                    undo()
                    site.wait_held(1 - holder)
                    site.wait_in_sync()
                    time.sleep(2 * CALM_S)
                moved_back += site.holder() == holder
                watch.compare(site.nodes)
                watches[what].append(watch)
                run.say(f"{what}: {watch.connections_lost} connections lost")
    for what, noticed in watches.items():
        tell(run, what, noticed, grace_s=GRACE_S)
    run.figure("the address moved back on a return", moved_back, 0)
