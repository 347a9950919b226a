"""A program that uses a bucket through couchbase-client, and what it told."""

from __future__ import annotations

import subprocess
import tempfile
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Self

from conformance.trial import TrialError, until

from .install import CLIENTS

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

QUICK = ("-Xmx128m", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-Xshare:auto")
#: Else it first looks for 5 s at each address for a port that it does not find.
USUAL = {"cbclient.disableCarrierBootstrap": True}
DEFAULT_BUCKET = "default"


class Request(NamedTuple):
    """One request: what it stored, or found, and when; times are those of time.monotonic."""

    what: str
    key: str
    number: int
    outcome: str
    began_s: float
    ended_s: float

    @property
    def taken_s(self) -> float:
        return self.ended_s - self.began_s


class Worker:
    """A running program. A context manager: at its end it finishes what it is at.

    Args:
        addresses: as memcachedNodes has them, `http://host:port/pools`.
        version: of the client.
        properties: Java's system properties.
    """

    def __init__(
        self,
        addresses: Sequence[str],
        version: str,
        *,
        bucket: str = DEFAULT_BUCKET,
        password: str = "",
        threads: int = 8,
        timeout_ms: int = 1000,
        properties: Mapping[str, object] = USUAL,
    ) -> None:
        if reason := CLIENTS[version].why_not():
            raise TrialError(reason)
        java = ["java", *QUICK, *(f"-D{k}={str(v).lower()}" for k, v in properties.items())]
        program = [
            "-cp",
            CLIENTS[version].class_path,
            "Worker",
            ",".join(addresses),
            bucket,
            password,
        ]
        self._command = [*java, *program, str(threads), str(timeout_ms)]
        self._process: subprocess.Popen[bytes] | None = None
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        #: How long the client took to be ready.
        self.ready_s = 0.0
        self._counted_bytes = self._answered = 0

    def __enter__(self) -> Self:
        self._folder = tempfile.TemporaryDirectory(prefix="conformance-")
        out, log = self._file("out"), self._file("log")
        with out.open("wb") as told, log.open("wb") as said:
            self._process = subprocess.Popen(
                self._command,
                stdin=subprocess.PIPE,
                stdout=told,
                stderr=said,
                start_new_session=True,
            )
        try:
            until("the client is ready", self._ready)
        except BaseException:
            self.__exit__()
            raise
        return self

    def _file(self, name: str) -> Path:
        assert self._folder is not None
        return Path(self._folder.name) / name

    def _ready(self) -> bool:
        assert self._process is not None
        first = self._file("out").read_text().partition("\n")[0].split()
        if first and first[0] == "ready":
            self.ready_s = int(first[1]) / 1e9
            return True
        if self._process.poll() is not None:
            raise TrialError(f"the client cannot start: {' '.join(first)}\n{self.log()[-2000:]}")
        return False

    def answered(self) -> int:
        """Return how many requests were answered so far."""
        with self._file("out").open("rb") as told:
            told.seek(self._counted_bytes)
            lines, _, _ = told.read().rpartition(b"\n")
        self._counted_bytes += len(lines)
        self._answered += lines.count(b" ok ")
        return self._answered

    def go_on(self, requests: int = 200) -> None:
        """Wait until so many more requests are answered."""
        reached = self.answered() + requests
        until("clients go on", lambda: self.answered() >= reached)

    def finish(self) -> list[Request]:
        """End the work; return what was done."""
        assert self._process is not None
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(timeout=60)
        return self.requests()

    def requests(self) -> list[Request]:
        """Return what was done so far."""
        lines = self._file("out").read_text().splitlines(keepends=True)
        requests = []
        for line in lines[1:]:
            if line.endswith("\n"):
                what, key, number, outcome, began, ended = line.split()
                requests.append(
                    Request(what, key, int(number), outcome, int(began) / 1e9, int(ended) / 1e9)
                )
        return requests

    def log(self) -> str:
        return self._file("log").read_text(errors="replace")

    def __exit__(self, *exc: object) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            if self._process.stdin is not None:
                self._process.stdin.close()
        if self._folder is not None:
            self._folder.cleanup()
            self._folder = None


class Outcome:
    """What the requests of a worker come to."""

    def __init__(self, requests: Sequence[Request]) -> None:
        self.requests = requests
        self.failed = [each for each in requests if each.outcome != "ok"]
        self.errors = Counter(f"{each.what} {each.outcome}" for each in self.failed)

    def stale(self) -> list[str]:
        """Return the reads that did not find what was acknowledged before, or found what never
        was."""
        wrong = []
        least: dict[str, int] = {}
        most: dict[str, int] = {}
        for each in self.requests:
            if each.what == "set":
                most[each.key] = each.number
                if each.outcome == "ok":
                    least[each.key] = each.number
            elif each.outcome == "ok":
                low, high = least.get(each.key, -1), most.get(each.key, -1)
                if not low <= each.number <= high:
                    wrong.append(f"{each.key}: found {each.number}, not {low}..{high}")
        return wrong

    def acknowledged(self) -> dict[str, int]:
        """Return by key the last number that was acknowledged."""
        return {
            each.key: each.number
            for each in self.requests
            if each.what == "set" and each.outcome == "ok"
        }

    def longest_outage_s(self) -> float:
        """Return how long one thread went at most without an answer."""
        longest = 0.0
        since: dict[str, float] = {}
        for each in self.requests:
            thread = each.key.partition("-")[0]
            began_s = since.setdefault(thread, each.began_s)
            if each.outcome == "ok":
                longest = max(longest, each.ended_s - began_s)
                del since[thread]
        return longest
