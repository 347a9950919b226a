"""Run trials and print their figures: `python -m conformance.pair NAME ... [--way WAY]`."""

from __future__ import annotations

import sys

from . import (
    care,
    clocks,
    etcds,
    histories,
    lags,
    locks,
    losses,
    misfits,
    namespaces,
    partitions,
    renewals,
    resources,
    strangers,
    votes,
)
from .command import main
from .ways import WAYS

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
    "refused": misfits.refused,
    "sizes": misfits.sizes,
    "large": misfits.large,
    "rotation": renewals.rotation,
    "upgrade": renewals.upgrade,
    "upgrade-three": renewals.upgrade_three,
    "members": renewals.members,
    "evictions": resources.evictions,
    "memory": resources.memory,
    "three": resources.three,
    "clocks": clocks.clocks,
    "namespaces": namespaces.namespaces,
    "witness-cuts": votes.witness_cuts,
    "witness-failures": votes.witness_failures,
    "witness-care": care.witness_care,
    "etcd-cuts": etcds.etcd_cuts,
    "etcd-failures": etcds.etcd_failures,
}


if __name__ == "__main__":
    sys.exit(
        main(
            "conformance.pair",
            "Try real pairs: processes, sockets, kills, a bad network between them.",
            TRIALS,
            ways=list(WAYS),
        )
    )
