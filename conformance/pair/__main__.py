"""Run trials and print their figures: `python -m conformance.pair NAME ... [--way WAY]`."""

from __future__ import annotations

import sys

from . import (
    clocks,
    etcds,
    histories,
    lags,
    locks,
    losses,
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
    "rotation": renewals.rotation,
    "upgrade": renewals.upgrade,
    "evictions": resources.evictions,
    "memory": resources.memory,
    "three": resources.three,
    "clocks": clocks.clocks,
    "namespaces": namespaces.namespaces,
    "witness": votes.witness,
    "etcd": etcds.etcd,
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
