"""A peer that is refused, or unlike, and values that take long to send: nobody is to lose by it."""

from __future__ import annotations

import signal
import tempfile
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

from conformance.trial import until

from .load import Ledger, Load, read, store, writer
from .nodes import Pair
from .renewals import write_secrets

if TYPE_CHECKING:
    from conformance.trial import Run

    from .nodes import Node

MIB: Final = 1 << 20
SESSIONS: Final = 200
SYNC_TIMEOUT_S: Final = 2
#: A node that was to serve after `--sync-timeout` would have done so by then.
LATER_S: Final = SYNC_TIMEOUT_S + 2.0
SECRET: Final = "the secret: " + "s" * 32
OTHER: Final = "quite another: " + "o" * 32
#: What a node starts with so that its peer refuses it.
REFUSALS: Final = ("secret", "cluster", "node_id", "tls")


def refused(run: Run) -> None:
    """A node is started anew with what its peer refuses: it serves nobody until that is mended."""
    open_early = lost = silent = 0
    for number in run.numbers(len(REFUSALS)):
        reason = REFUSALS[number % len(REFUSALS)]
        with tempfile.TemporaryDirectory(prefix="conformance-") as folder:
            Path(folder).chmod(0o755)
            paths = [Path(folder, f"secret{place}") for place in range(2)]
            usual = ("--sync-timeout", str(SYNC_TIMEOUT_S))
            for path in paths:
                write_secrets(path, SECRET)
            own = {
                place: (*usual, "--replication-secret-file", str(path))
                for place, path in enumerate(paths)
            }
            with Pair(own=dict(own), settled=True) as pair:
                pair.wait_in_sync()
                keys = [b"session:%d" % n for n in range(SESSIONS)]
                store(pair.nodes[0], [b"set %b 0 0 1\r\nx\r\n" % key for key in keys])
                pair.nodes[1].kill()
                _misfit(pair, paths[1], reason)
                pair.restart(1)
                time.sleep(LATER_S)
                open_early += pair.nodes[1].accepts()
                said = pair.nodes[1].log().count("no client is served, as this node has nothing")
                silent += said != 1
                run.say(f"{reason}: {pair.nodes[1].log().splitlines()[-1:]}")
                lost += SESSIONS - len(read(pair.nodes[0], keys))
                if reason == "secret":
                    write_secrets(paths[1], SECRET)
                    pair.nodes[1].signal(signal.SIGHUP)
                else:
                    pair.own[1] = own[1]
                    pair.nodes[1].kill()
                    pair.restart(1)
                pair.wait_in_sync()
                for node in pair.nodes:
                    lost += SESSIONS - len(read(node, keys))
                pair.nodes[1].kill()
                _misfit(pair, paths[1], reason)
                pair.own[1] = (*pair.own[1], "--force-empty")
                pair.restart(1)
                until("a person said so", pair.nodes[1].accepts)
    run.figure("nodes that let clients in with nothing", open_early, 0)
    run.figure("nodes that do not say once why not", silent, 0)
    run.figure("items lost", lost, 0)


def _misfit(pair: Pair, secret_file: Path, reason: str) -> None:
    """Have the second node be started with what its peer refuses."""
    more: dict[str, tuple[str, ...]] = {
        "cluster": ("--cluster-id", "other"),
        "node_id": ("--node-id", "node0"),
        "tls": ("--replication-tls", *_identity()),
    }
    if reason == "secret":
        write_secrets(secret_file, OTHER)
    pair.own[1] = (*pair.own[1], *more.get(reason, ()))


def _identity() -> tuple[str, ...]:
    from conformance.tls import shared_identity

    identity = shared_identity()
    return (
        "-o",
        f"ssl_chain_cert={identity.chain_file},ssl_key={identity.key_file}"
        f",ssl_ca_cert={identity.ca_file}",
    )


# -- unequal sizes -------------------------------------------------------------------------------

#: By node, `-I` in KiB and `-m` in MiB.
SIZES: Final = (
    ((1024, 64), (4096, 256)),
    ((4096, 256), (1024, 256)),
    ((512, 256), (2048, 64)),
    ((9 * 1024, 128), (16 * 1024, 512)),
    ((16 * 1024, 256), (9 * 1024, 512)),
)
#: Of values, in bytes: below and above each of the limits, and of that for large items.
VALUES_BYTES: Final = (
    100, 15_000, 17_000, 500_000, 530_000, 1_000_000, 1 * MIB, 1_100_000, 2_000_000, 2_200_000,
    3_900_000, 4_300_000, 8 * MIB, 9_300_000, 10 * MIB,
)  # fmt: skip


def sizes(run: Run) -> None:
    """Nodes with unequal `-I` and `-m`: what one stores the other has, what it refuses neither."""
    tried = unsaid = evicted = 0
    apart: list[str] = []
    for number in run.numbers(len(SIZES)):
        own = {
            place: ("-I", f"{item_kib}k", "-m", str(memory_mib))
            for place, (item_kib, memory_mib) in enumerate(SIZES[number % len(SIZES)])
        }
        with Pair(own=dict(own)) as pair:
            pair.wait_in_sync()
            unsaid += sum(node.rows().get("peer_0:differs") != "-I" for node in pair.nodes)
            rng = run.rng(number)
            for place in (0, 1):
                for verb in ("set", "ms", "append"):
                    for size in rng.sample(VALUES_BYTES, len(VALUES_BYTES)):
                        tried += 1
                        if not _agree(pair, place, verb, size):
                            apart.append(f"{own}: {verb} of {size:,} at node{place}")
            # The smaller one away: it comes again, and must be able to hold all that there is.
            (first_kib, _), (second_kib, _) = SIZES[number % len(SIZES)]
            small = 0 if first_kib < second_kib else 1
            pair.nodes[small].kill()
            pair.wait_alone(1 - small)
            for size in VALUES_BYTES:
                _say(pair.nodes[1 - small], "set", b"away%d" % size, size)
            pair.restart(small)
            pair.wait_in_sync()
            for size in VALUES_BYTES:
                held = [len(read(node, [b"away%d" % size])) for node in pair.nodes]
                tried += 1
                if held[0] != held[1]:
                    apart.append(f"{own}: set of {size:,} while node{small} was away: {held}")
            evicted += sum(int(node.rows()["evictions"]) for node in pair.nodes)
    run.figure("values that one node has and the other has not", len(apart), 0, of=f"{tried}")
    run.problem(*apart)
    run.figure("evictions", evicted, 0)
    run.figure("nodes that do not say that -I differs", unsaid, 0)


def _agree(pair: Pair, place: int, verb: str, size: int) -> bool:
    """Store something at a node; return whether both then have what was answered."""
    key = b"size%d" % size
    node = pair.nodes[place]
    node.ask(b"delete %b\r\n" % key)
    stored = _say(node, verb, key, size)
    lengths = {
        len(value)
        for each in pair.nodes
        for value in (read(each, [key]).get(key, b""),)
        # What could not be appended leaves the item as it was.
    }
    return lengths == ({size} if stored else {1 if verb == "append" else 0})


def _say(node: Node, verb: str, key: bytes, size: int) -> bool:
    """Store something; return whether it was."""
    value = b"v" * size
    if verb == "ms":
        return node.ask(b"ms %b %d\r\n%b\r\n" % (key, size, value)).startswith(b"HD")
    if verb == "append":
        node.ask(b"set %b 0 0 1\r\nv\r\n" % key)
        value = value[1:]
    return node.ask(b"%b %b 0 0 %d\r\n%b\r\n" % (verb.encode(), key, len(value), value)) == (
        b"STORED\r\n"
    )


# -- large values --------------------------------------------------------------------------------

LARGE_BYTES: Final = 8 * MIB
CLIENTS_PER_NODE: Final = 4
ACK_TIMEOUT_MS: Final = 80


def large(run: Run) -> None:
    """Values of 8 MB stored on both nodes under load: the pair stays one; then a node is killed."""
    for number in run.numbers(2):
        with Pair(("-I", "16m", "-m", "512")) as pair:
            pair.wait_in_sync()
            _load_large(run, pair, number)


def _load_large(run: Run, pair: Pair, number: int) -> None:
    rng = run.rng(number)
    ledger = Ledger()
    stored: dict[bytes, bytes] = {}
    alone_before = sum(node.times_alone() for node in pair.nodes)
    load = Load(lambda: pair.nodes)
    for place in range(pair.count):
        for client in range(CLIENTS_PER_NODE):
            name = f"l{place}{client}"
            load.add(writer(ledger, name, rng, pause_s=0.002), place, roams=True)
    threads = [
        threading.Thread(target=_store_large, args=(node, place, run.count(8), stored))
        for place, node in enumerate(pair.nodes)
    ]
    for thread in threads:
        thread.start()

    def look() -> None:
        if any(thread.is_alive() for thread in threads):
            load.at(0.1, look)
        else:
            load.stop()

    load.at(0.1, look)
    load.run(60.0)
    for thread in threads:
        thread.join()
    partings = sum(node.times_alone() for node in pair.nodes) - alone_before
    victim = rng.randrange(2)
    pair.nodes[victim].kill()
    pair.wait_alone(1 - victim)
    survivor = pair.nodes[1 - victim]
    lost = ledger.wrong(read(survivor, list(ledger.acknowledged)))
    for key, value in stored.items():
        if read(survivor, [key]).get(key) != value:
            lost.append(f"{key.decode()} is gone")
    run.figure("times the pair parted", partings, 0, timed=True)
    run.figure("lost", len(lost), 0, of=f"{len(stored)} large ones and {ledger.writes:,}")
    run.problem(*lost)
    longest_ms = max((each.taken_s for each in load.timings), default=0) * 1e3
    run.figure("longest wait of others", longest_ms, ACK_TIMEOUT_MS, "ms", timed=True)


def _store_large(node: Node, place: int, count: int, stored: dict[bytes, bytes]) -> None:
    for number in range(count):
        key = b"large:%d:%d" % (place, number)
        value = (b"%d/%d/" % (place, number)).ljust(LARGE_BYTES, b"%d" % number)
        if node.ask(b"set %b 0 0 %d\r\n%b\r\n" % (key, len(value), value)) == b"STORED\r\n":
            stored[key] = value
