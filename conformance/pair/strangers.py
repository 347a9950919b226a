"""Who has no business at the replication port, and peers that do not fit each other."""

from __future__ import annotations

import contextlib
import os
import re
import socket
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

from conformance.servers import PYMCD
from conformance.tls import Identity, shared_identity
from conformance.trial import TrialError, until

from .load import Ledger, Load, read, writer
from .nodes import FAKETIME, Node, Pair

if TYPE_CHECKING:
    import ssl
    from collections.abc import Iterator, Sequence

    from conformance.trial import Run

HALF_OPEN = 200
ANSWER_MAX_BYTES = 4096
DESCRIPTORS_MAX = 100
SECRET = b"nobody knows this but the two"


@contextlib.contextmanager
def secrets(*values: bytes) -> Iterator[list[str]]:
    """Files with secrets, readable by the user that nodes run as."""
    with tempfile.TemporaryDirectory(prefix="conformance-") as folder:
        Path(folder).chmod(0o755)
        paths = []
        for number, value in enumerate(values):
            path = Path(folder, f"secret{number}")
            path.write_bytes(value + b"\n")
            path.chmod(0o600)
            if os.geteuid() == 0:
                import pwd

                os.chown(path, pwd.getpwnam("nobody").pw_uid, -1)
            paths.append(str(path))
        yield paths


def _dial(node: Node) -> socket.socket:
    stream = socket.create_connection((node.host, node.replication_port), timeout=10.0)
    stream.settimeout(10.0)
    return stream


def _say(node: Node, data: bytes) -> bytes:
    """Say something at the replication port; return all that is answered before it hangs up."""
    answer = b""
    try:
        with _dial(node) as stream:
            stream.sendall(data)
            while True:
                more = stream.recv(1 << 16)
                if not more:
                    return answer
                answer += more
    except TimeoutError:
        raise TrialError(f"a stranger who said {data[:40]!r} is not hung up on") from None
    except OSError:
        return answer  # reset: hung up on all the same


def strangers(run: Run) -> None:
    """Wrong or no secret, a replayed handshake, garbage, half-open connections, while it works."""
    with (
        secrets(SECRET, b"quite another") as (ours, other),
        Pair(("--replication-secret-file", ours)) as pair,
    ):
        pair.wait_in_sync()
        pair.nodes[0].ask(b"set precious 0 0 6\r\nitem-x\r\n")
        before = [node.rows() for node in pair.nodes]
        ledger = Ledger()
        load = Load(pair.nodes)
        rng = run.rng()
        for index in range(2):
            for client in range(4):
                name = f"s{index}{client}"
                load.add(writer(ledger, name, rng, pause_s=0.002), index)
        answers: list[bytes] = []
        held: list[socket.socket] = []
        times: dict[str, float] = {}

        def half_open() -> None:
            for number in range(run.count(HALF_OPEN)):
                with contextlib.suppress(OSError):
                    stream = _dial(pair.nodes[number % 2])
                    stream.sendall(bytes(number % 3))
                    held.append(stream)
            times["descriptors"] = max(node.descriptors() for node in pair.nodes)

        load.at(0.3, half_open)
        load.run(run.count(30) / 10)
        if not times:  # a slow machine, and the load was over before they came
            half_open()
        for node in pair.nodes:
            for way in ("forth", "back"):
                for ends in ((0, 1), (1, 0)):
                    answers += [_say(node, pair.recorded(*ends)[way])]
            answers += [_say(node, rng.randbytes(rng.randrange(1, 3000))) for _ in range(50)]
            answers += [_say(node, b"\xff" * 100_000), _say(node, b"get precious\r\n" * 20)]
        impostors = _impostors(pair, other)
        after = [node.rows() for node in pair.nodes]
        _judge_strangers(run, before, after, answers, impostors)
        run.figure(
            "descriptors of a node, strangers included", times["descriptors"], DESCRIPTORS_MAX
        )
        lost = ledger.wrong(read(pair.nodes[0], list(ledger.acknowledged)))
        run.figure("writes lost meanwhile", len(lost), 0, of=f"{ledger.writes:,}")
        run.figure("the peer gets in past more of them after", _crowd(pair, held), unit="s")
        for stream in held:
            stream.close()


def _crowd(pair: Pair, held: list[socket.socket]) -> float:
    """Let a peer return while strangers take every place there is, again and again."""

    def crowd() -> None:
        for node in pair.nodes:
            for _ in range(20):
                with contextlib.suppress(OSError):
                    held.append(_dial(node))

    pair.nodes[1].kill()
    crowd()
    pair.restart(1)

    def in_sync() -> bool:
        crowd()
        return pair.in_sync(timeout_s=1.0)

    return until("in sync among strangers", in_sync)


def _impostors(pair: Pair, wrong_secret: str) -> int:
    """Have servers dial with a wrong secret and with none; return what they got hold of."""
    got = 0
    for options in (("--replication-secret-file", wrong_secret), ()):
        peer = f"127.0.0.1:{pair.nodes[0].replication_port}"
        switches = ["--peer", peer, "--replication-port", "-1", "--node-id", "impostor"]
        # It hears that the other has data: it would wait for ever.
        switches += [*options, "--sync-timeout", "1", "--force-empty"]
        with Node(PYMCD, switches) as impostor:
            until("the impostor gives up", impostor.accepts)
            got += b"item-x" in impostor.ask(b"get precious\r\n", b"END\r\n")
            impostor.ask(b"set precious 0 0 4\r\nevil\r\n")
            impostor.ask(b"flush_all\r\n")
        got += b"item-x" not in pair.nodes[0].ask(b"get precious\r\n", b"END\r\n")
    return got


def _judge_strangers(
    run: Run,
    before: list[dict[str, str]],
    after: list[dict[str, str]],
    answers: Sequence[bytes],
    impostors: int,
) -> None:
    run.figure("strangers that were told something", sum(b"item-x" in a for a in answers), 0)
    longest = max(map(len, answers))
    run.figure("the most a stranger was told", longest, ANSWER_MAX_BYTES, "bytes")
    run.figure("impostors that read or wrote", impostors, 0)

    def grew(name: str) -> int:
        return sum(int(b[name]) - int(a[name]) for a, b in zip(before, after, strict=True))

    run.figure("reconnects of the pair's link", grew("reconnects"), 0)
    # Nor may they cost so much that a node waits in vain for the other; where CPUs are scarce, it
    # may all the same.
    run.figure("times degraded", grew("degraded_count"), 0, timed=True)
    run.figure("writes acknowledged by one alone", grew("unprotected_writes"), 0, timed=True)
    refused = grew("authentication_failures") + grew("handshake_failures")
    run.figure("refusals that were counted", refused, 1, at_least=True)


def _say_over_tls(node: Node, context: ssl.SSLContext) -> bytes:
    """Shake hands as a client; return what is said to us, farewells of TLS aside."""
    context.check_hostname = False
    answer = b""
    try:
        with _dial(node) as plain, context.wrap_socket(plain) as stream:
            while more := stream.recv(1 << 16):
                answer += more
    except TimeoutError:
        raise TrialError("a stranger without a certificate is not hung up on") from None
    except OSError:
        pass  # an alert, or a reset: refused
    return answer


def tls(run: Run) -> None:
    """Links over TLS: strangers without a certificate or with another's; a kill under load."""
    ours, others = shared_identity(), Identity()
    files = f"ssl_chain_cert={ours.chain_file},ssl_key={ours.key_file},ssl_ca_cert={ours.ca_file}"
    with Pair(("--replication-tls", "-o", files)) as pair:
        run.figure("TLS: in sync after", pair.wait_in_sync(), unit="s")
        before = [node.rows() for node in pair.nodes]
        answers = []
        for node in pair.nodes:
            answers += [_say(node, data) for data in (b"\0" * 100, b"get k\r\n" * 20)]
            answers.append(_say_over_tls(node, ours.client()))
            answers.append(_say_over_tls(node, ours.client(others.ca.issue_cert("node1"))))
        told = sum(len(answer) for answer in answers[2::4] + answers[3::4])
        run.figure("TLS: bytes told to who has no certificate of ours", told, 0)
        after = [node.rows() for node in pair.nodes]
        reconnects = [
            int(b["reconnects"]) - int(a["reconnects"]) for a, b in zip(before, after, strict=True)
        ]
        run.figure("TLS: reconnects of the pair's link", sum(reconnects), 0)
        ledger = Ledger()
        load = Load(lambda: pair.nodes)
        for index in range(2):
            for client in range(4):
                load.add(writer(ledger, f"t{index}{client}", run.rng()), index, roams=True)
        load.at(0.3, pair.nodes[0].kill)
        load.run(0.6)
        lost = ledger.wrong(read(pair.nodes[1], list(ledger.acknowledged)))
        run.figure("TLS: writes lost by a kill", len(lost), 0, of=f"{ledger.writes:,}")


# -- peers that do not fit -----------------------------------------------------------------------

OTHER_VERSION = (
    "import pymcd.replication.frames as frames, sys;"
    "frames.PROTOCOL_VERSION_MIN = frames.PROTOCOL_VERSION = 99;"
    "from pymcd.cli import main; sys.argv[0] = 'pymcd'; main()"
)
SETTLE_S = 4.0


def badinput(run: Run) -> None:
    """Different secrets, versions, cluster ids, clocks: one line a minute, clients are served."""
    with secrets(SECRET, b"quite another") as (ours, other):
        cases: dict[str, tuple[str, Pair]] = {
            "secret": (
                "secret",
                Pair(
                    own={
                        0: ("--replication-secret-file", ours),
                        1: ("--replication-secret-file", other),
                    }
                ),
            ),
            "one secret": ("secret", Pair(own={0: ("--replication-secret-file", ours)})),
            "cluster": ("cluster", Pair(own={0: ("--cluster-id", "a"), 1: ("--cluster-id", "b")})),
            "version": (
                "version",
                Pair(commands={1: (sys.executable, "-c", OTHER_VERSION)}),
            ),
        }
        if FAKETIME:
            # Only the wall clock: what faketime does to the monotonic one no machine does. Who
            # began with the other would have taken over its time.
            cases["clock"] = (
                "clock",
                Pair(
                    apart=True,
                    commands={1: (FAKETIME, "-f", "+1h", sys.executable, "-m", "pymcd")},
                    environments={1: {"FAKETIME_DONT_FAKE_MONOTONIC": "1"}},
                ),
            )
        else:
            run.say("no faketime here: clocks are not tried")
        for name, (word, pair) in cases.items():
            # Both begin with nothing: each must have heard so before the other serves.
            pair.options = ("-v", "--sync-timeout", "3")
            with pair:
                _unfit(run, pair, name, word)


def _unfit(run: Run, pair: Pair, name: str, word: str) -> None:
    for index, node in enumerate(pair.nodes):
        until(f"{name}: node{index} serves clients", node.accepts)
        if node.ask(b"set k 0 0 1\r\nx\r\n") != b"STORED\r\n":
            raise TrialError(f"{name}: node{index} does not store")
    if pair.apart:
        pair.heal()
    time.sleep(SETTLE_S * min(run.scale, 1.0))
    for index, node in enumerate(pair.nodes):
        lines = [line for line in node.log().splitlines() if word in line.lower()]
        # The time of day aside, is it the same line?
        same = Counter(re.sub(r"\d+", "N", line) for line in lines)
        most = max(same.values(), default=0)
        run.figure(
            f"{name}: lines in the log of node{index} that say so", len(lines), 1, at_least=True
        )
        run.figure(f"{name}: the same line within a minute, node{index}", most, 1)
        refusal = node.rows().get("last_refusal", "-")
        run.figure(
            f"{name}: node{index}'s statistics show it", refusal not in ("", "-"), 1, at_least=True
        )
        run.say(f"node{index}: last_refusal {refusal}; {lines[0] if lines else 'silent'}")
        if not lines:
            run.problem(f"{name}: node{index} logged {node.log()[-400:]!r}")
