"""How many bytecodes a request takes, by function: what can be measured however busy a machine is.

    python -m tests.counts                 the counts, beside those that are kept
    python -m tests.counts get16 -n 30     and the functions that take most
    python -m tests.counts --write         keep them, after a change that is worth it

Time is measured by `bench/`, on a quiet machine. A count says less (a bytecode may call anything),
but it says it exactly: who adds a call or a branch to the hot path sees it here. The same clients
ask for the same in each run, through the hub and real sockets, and no time passes. What is kept is
of one minor version of CPython, as each has bytecodes of its own.
"""

from __future__ import annotations

import argparse
import json
import select
import socket
import sys
from collections import Counter
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from pymcd.config import Settings
from pymcd.protocol import Connection, PairedConnection
from pymcd.service import Service
from pymcd.store import Status, StoreMode

from .clocks import ManualClock
from .hosts import make_host
from .replication.helpers import make_group

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import CodeType, FrameType

HERE: Final = Path(__file__).parent
KEPT: Final = HERE / "counts.json"
PACKAGE: Final = str(HERE.parent / "pymcd") + "/"
#: More than that is too much.
GROWTH_MAX: Final = 0.05
CLIENTS: Final = 16
TURNS: Final = 10
VALUE: Final = b"v" * 1024
KEYS: Final = [b"key_%04d" % number for number in range(CLIENTS * 20)]

#: Bytecodes executed, by function as `module:qualified name`.
Counts = Counter[str]


@contextmanager
def counting(into: Counts) -> Iterator[None]:
    """Count what is executed of the package within."""
    codes: Counter[CodeType] = Counter()

    def trace(frame: FrameType, event: str, _: Any) -> Any:
        if event == "call":
            if not frame.f_code.co_filename.startswith(PACKAGE):
                return None
            frame.f_trace_opcodes, frame.f_trace_lines = True, False
        elif event == "opcode":
            codes[frame.f_code] += 1
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        yield
    finally:
        sys.settrace(before)
        for code, number in codes.items():
            into[f"{code.co_filename.removeprefix(PACKAGE)}:{code.co_qualname}"] += number


def count_alone(request_of: Callable[[int], bytes]) -> Counts:
    """Count a request of each of some clients of a server that is alone."""
    return _count(Service(Settings(), ManualClock(), make_host()), Connection, request_of)


def count_pair(request_of: Callable[[int], bytes]) -> Counts:
    """Count a request of each of some clients of who coordinates a pair, at both nodes."""
    group = make_group()
    return _count(group["a"].service, PairedConnection, request_of, settle=group.settle)


def _count(
    service: Service,
    connection_type: type[Connection],
    request_of: Callable[[int], bytes],
    *,
    settle: Callable[[], None] = lambda: None,
) -> Counts:
    """Count what is asked by clients who are all ready in the same turn of the hub.

    They ask for the same three times, of which the last one counts: an item that was not asked for
    before is moved when it is, twice. `settle` is called after each turn.
    """
    from pymcd.server.hub import Hub

    hub = Hub(service, monotonic=lambda: 0.0)
    callers: list[socket.socket] = []
    counts: Counts = Counter()

    def turn(first: int) -> None:
        for number, caller in enumerate(callers):
            caller.sendall(request_of(first + number))
        hub.serve_ready(1)
        settle()
        for caller in callers:
            assert caller.recv(1 << 20)

    try:
        for _ in range(CLIENTS):
            ours, theirs = socket.socketpair()
            ours.setblocking(False)
            theirs.setblocking(False)
            callers.append(theirs)
            hub.adopt(ours, connection_type(service, connection_id=ours.fileno()))
        for key in KEYS:
            assert service.cache.store(StoreMode.SET, key, VALUE, 0, 0) is Status.STORED
        settle()
        for number in [*range(TURNS)] * 2:
            turn(number * CLIENTS)
        with counting(Counter()):  # CPython 3.12 tells of no bytecodes the first time
            turn(0)
        with counting(counts):
            for number in range(TURNS):
                turn(number * CLIENTS)
    finally:
        hub.close_all()
        for caller in callers:
            caller.close()
    return counts


def set_of(key: bytes) -> bytes:
    """Return a set of the text protocol."""
    return b"set %b 0 0 %d\r\n%b\r\n" % (key, len(VALUE), VALUE)


def _key(number: int) -> bytes:
    return KEYS[number % len(KEYS)]


def _get(number: int) -> bytes:
    return b"get %b\r\n" % _key(number)


def _set(number: int) -> bytes:
    return set_of(_key(number))


def _get_20(number: int) -> bytes:
    return b"get %b\r\n" % b" ".join(_key(number + more) for more in range(20))


def _binary_get(number: int) -> bytes:
    key = _key(number)
    return b"\x80\0\0%c" % len(key) + bytes(7) + b"%c" % len(key) + bytes(12) + key


def _meta_get(number: int) -> bytes:
    return b"mg %b v f t\r\n" % _key(number)


def _meta_set(number: int) -> bytes:
    return b"ms %b %d T0 F0\r\n%b\r\n" % (_key(number), len(VALUE), VALUE)


#: What is counted, by name.
LOADS: Final[dict[str, Callable[[], Counts]]] = {
    "get16": lambda: count_alone(_get),
    "set16": lambda: count_alone(_set),
    "multiget": lambda: count_alone(_get_20),
    "binary16": lambda: count_alone(_binary_get),
    "meta get": lambda: count_alone(_meta_get),
    "meta set": lambda: count_alone(_meta_set),
    "pair16": lambda: count_pair(_set),
    "pairread16": lambda: count_pair(_get),
}

CAN_COUNT: Final = hasattr(select, "epoll") and sys.implementation.name == "cpython"


def count(load: str) -> dict[str, float]:
    """Return how many bytecodes a request takes in each function."""
    counts = LOADS[load]()
    return {name: counts[name] / (TURNS * CLIENTS) for name in sorted(counts)}


def version() -> str:
    """Return by what name the counts of this interpreter are kept."""
    return f"{sys.version_info.major}.{sys.version_info.minor}"


def kept() -> dict[str, dict[str, float]]:
    """Return what is kept for this interpreter, by load and function; nothing: {}."""
    everything: dict[str, dict[str, dict[str, float]]] = json.loads(KEPT.read_text())
    return everything.get(version(), {})


def grown(before: dict[str, float], now: dict[str, float]) -> list[str]:
    """Return what to say of a load that takes too much more than before, nothing if it does not."""
    old, new = sum(before.values()), sum(now.values())
    if new <= old * (1 + GROWTH_MAX):
        return []
    names = sorted({*before, *now})
    names.sort(key=lambda name: before.get(name, 0) - now.get(name, 0))
    lines = [f"{new:.1f} bytecodes a request, where it were {old:.1f}:"]
    for name in names:
        more = now.get(name, 0) - before.get(name, 0)
        if more > 0:
            lines.append(f"  {more:+8.1f}  {name}")
    return lines


def write(loads: list[str]) -> None:
    """Keep what these loads take now."""
    everything = json.loads(KEPT.read_text()) if KEPT.exists() else {}
    mine = everything.setdefault(version(), {})
    for load in loads:
        mine[load] = {name: round(number, 2) for name, number in count(load).items()}
    KEPT.write_text(json.dumps(everything, indent=1, sort_keys=True) + "\n")


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.counts", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("load", nargs="*", choices=[[], *LOADS], metavar="LOAD")
    parser.add_argument("-n", type=int, default=0, metavar="N", help="show N functions of each")
    parser.add_argument("--write", action="store_true", help="keep these counts")
    options = parser.parse_args()
    loads = options.load or list(LOADS)
    if not CAN_COUNT:
        sys.stderr.write("counts: this takes CPython, and Linux for its epoll\n")
        return 1
    before = kept()
    for load in loads:
        now = count(load)
        old = sum(before.get(load, {}).values())
        change = f"{sum(now.values()) / old - 1:+7.1%}" if old else "    new"
        sys.stdout.write(f"{load:<12} {sum(now.values()):8.1f} {change}\n")
        for name in sorted(now, key=lambda each: -now[each])[: options.n]:
            sys.stdout.write(f"{now[name]:21.1f}  {name}\n")
    if options.write:
        write(loads)
    return 0


if __name__ == "__main__":
    sys.exit(main())
