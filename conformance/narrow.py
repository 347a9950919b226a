"""A loopback on which values arrive as over Ethernet: a network namespace with an MTU of 1500.

On a host's own loopback a packet holds 64 KB, and what a client has begun to send has mostly
arrived before anybody looks. In the namespace it arrives in pieces, no faster than over a cable,
and a server that answers too early does so while its client is still sending. Needs root, `ip` and
`tc` (iproute2).
"""

from __future__ import annotations

import os
import shutil
import subprocess
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

MTU_BYTES = 1500
RATE = "rate 200mbit burst 32k latency 400ms"


def _run(words: str, *, check: bool = True) -> None:
    subprocess.run(words.split(), capture_output=True, text=True, check=check)


@contextmanager
def narrow() -> Iterator[tuple[str, ...]]:
    """Yield what goes before a command that is to run there; the namespace is gone afterwards."""
    name = f"pymcd{os.getpid()}n"
    _run(f"ip netns add {name}")
    try:
        # Otherwise many packets pass as one all the same.
        _run(f"ip -n {name} link set lo mtu {MTU_BYTES} gso_max_segs 1 up")
        _run(f"tc -n {name} qdisc add dev lo root tbf {RATE}")
        yield ("ip", "netns", "exec", name)
    finally:
        _run(f"ip netns del {name}", check=False)


def why_not() -> str:
    """Say why there can be no such namespace here; nothing if there can."""
    if os.geteuid() != 0:
        return "not root"
    for program in ("ip", "tc"):
        if shutil.which(program) is None:
            return f"no `{program}` here (iproute2)"
    try:
        with narrow():
            return ""
    except subprocess.CalledProcessError as error:
        return str(error.stderr).strip() or "no network namespace here"
