"""Writers through a client that spreads keys: what was acknowledged, and who waited how long.

Each writer is a thread with a client and keys of its own. It sets, deletes and reads at random;
what it reads must be what was acknowledged. Lost ones must not be written over: a key whose last
write nobody knows the outcome of, or that was not found, is read before it is written again.
"""

from __future__ import annotations

import random
import re
import threading
import time
from collections import Counter
from typing import TYPE_CHECKING, NamedTuple, Self

from conformance.clock import now_s
from conformance.pair.load import Ledger
from conformance.trial import TrialError, until

from .clients import Failed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from .clients import Client, Make

WRITERS = 6
KEYS_OF_EACH = 100
VALUE_BYTES = 200
READS, DELETES = 0.3, 0.05
PAUSE_S = 0.003


class Timing(NamedTuple):
    """One request to a shard: when it began, how long it took, why it failed."""

    shard: int
    at_s: float
    taken_s: float
    error: str


class Writer:
    """One thread's client, keys and ledger."""

    def __init__(self, name: str, client: Client, rng: random.Random) -> None:
        self.name = name
        self.keys = [b"%s:%d" % (name.encode(), number) for number in range(KEYS_OF_EACH)]
        self.ledger = Ledger()
        self.timings: list[Timing] = []
        #: What was read and is not what was acknowledged, each as a line.
        self.wrong: list[str] = []
        #: Times that something was not found, and was there when it was asked for again.
        self.false_misses = 0
        self.homes: dict[bytes, int] = {}
        self._client = client
        self._rng = rng
        self._number = 0
        self._unsure: set[bytes] = set()
        self._missed: set[bytes] = set()

    def fill(self) -> None:
        """Store every key; a failure is an error here."""
        for key in self.keys:
            self._set(key)

    def act(self) -> None:
        """Make one request, at random."""
        key = self._rng.choice(self.keys)
        dice = self._rng.random()
        started_s = now_s()
        error = ""
        try:
            if key in self._unsure or dice < READS:
                self._read(key)
            elif dice < READS + DELETES:
                self._delete(key)
            else:
                self._set(key)
        except Failed as failed:
            error = str(failed)
        self.timings.append(Timing(self.homes[key], started_s, now_s() - started_s, error))

    def _set(self, key: bytes) -> None:
        self._number += 1
        value = (b"%s/%d/" % (self.name.encode(), self._number)).ljust(VALUE_BYTES, b".")
        self._write(key, value, lambda: self._client.set(key, value))

    def _delete(self, key: bytes) -> None:
        self._write(key, None, lambda: self._client.delete(key))

    def _write(self, key: bytes, value: bytes | None, write: Callable[[], None]) -> None:
        self.ledger.sending(key, value)
        self._unsure.add(key)
        write()
        self._unsure.remove(key)
        self.ledger.answered(key, value)

    def _read(self, key: bytes) -> None:
        found = self._client.get(key)
        line = self._difference(key, found)
        if line and found is None and key not in self._missed:
            # It may be there nevertheless, which the next one tells who asks.
            self._missed.add(key)
            self._unsure.add(key)
            return
        if line:
            self.wrong.append(f"read {line}")
            # Told once. What is there now is what is looked for from now on.
            self.ledger.acknowledged[key] = found
        elif key in self._missed:
            self.false_misses += 1
        self._missed.discard(key)
        self._unsure.discard(key)

    def _difference(self, key: bytes, found: bytes | None) -> str:
        expected = self.ledger.acknowledged[key]
        if found == expected or found in self.ledger.open[key]:
            return ""
        return f"{key.decode()}: {_short(found)} instead of {_short(expected)}"

    def missing(self, shard: int, held: dict[bytes, bytes]) -> list[str]:
        """Compare with what a node of this shard holds; a line for each write that is lost."""
        keys = (key for key in self.ledger.acknowledged if self.homes[key] == shard)
        return [line for key in keys if (line := self._difference(key, held.get(key)))]

    def close(self) -> None:
        self._client.close()

    def answered_since(self, shard: int, since_s: float) -> bool:
        """Say whether this shard has answered something that was asked after a moment."""
        for each in reversed(self.timings):
            if each.at_s < since_s:
                return False
            if each.shard == shard and not each.error:
                return True
        return False


def _short(value: bytes | None) -> str:
    return "nothing" if value is None else value[:24].decode(errors="replace").rstrip(".")


class Load:
    """All writers. A context manager: they work from entry to exit."""

    def __init__(self, make: Make, rng: random.Random, name: str = "w") -> None:
        self.writers = [
            Writer(f"{name}{number}", make(), random.Random(rng.random()))
            for number in range(WRITERS)
        ]
        self._stopping = threading.Event()
        self._broken: list[BaseException] = []
        self._threads = [
            threading.Thread(target=self._work, args=(writer,), name=writer.name)
            for writer in self.writers
        ]

    def fill(self, homes: Callable[[Sequence[bytes]], dict[bytes, int]]) -> None:
        """Store every key, and learn from `homes` where each is."""
        for writer in self.writers:
            writer.fill()
        found = homes(self.keys)
        for writer in self.writers:
            writer.homes = found

    @property
    def keys(self) -> list[bytes]:
        return [key for writer in self.writers for key in writer.keys]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._stopping.set()
        for thread in self._threads:
            thread.join()
        for writer in self.writers:
            writer.close()
        if self._broken and exc[0] is None:
            raise self._broken[0]

    def _work(self, writer: Writer) -> None:
        try:
            while not self._stopping.is_set():
                writer.act()
                time.sleep(PAUSE_S)
        except BaseException as error:
            self._broken.append(error)

    def wait_answered(self, shard: int, since_s: float) -> None:
        """Wait until all who have keys there were answered by a shard, asked after a moment."""
        concerned = [each for each in self.writers if shard in {each.homes[k] for k in each.keys}]

        def reached() -> bool:
            if self._broken:
                raise TrialError(f"a writer broke: {self._broken[0]!r}")
            return all(writer.answered_since(shard, since_s) for writer in concerned)

        until(f"shard {shard} answers everybody", reached)

    @property
    def homes(self) -> dict[bytes, int]:
        return self.writers[0].homes

    # -- what came of it -----------------------------------------------------------------------

    @property
    def writes(self) -> int:
        return sum(writer.ledger.writes for writer in self.writers)

    @property
    def wrong(self) -> list[str]:
        return [line for writer in self.writers for line in writer.wrong]

    @property
    def false_misses(self) -> int:
        return sum(writer.false_misses for writer in self.writers)

    def missing(self, shard: int, held: dict[bytes, bytes]) -> list[str]:
        return [line for writer in self.writers for line in writer.missing(shard, held)]

    def timings(self, shards: Iterable[int]) -> list[Timing]:
        chosen = set(shards)
        return [each for writer in self.writers for each in writer.timings if each.shard in chosen]

    def outage_s(self, shard: int) -> float:
        """Return the longest that one writer was without an answer of this shard.

        That is from a request, which was answered late or failed, to the end of the first one
        that did not fail.
        """
        longest = 0.0
        for writer in self.writers:
            since_s: float | None = None
            for each in writer.timings:
                if each.shard != shard:
                    continue
                since_s = each.at_s if since_s is None else since_s
                if not each.error:
                    longest = max(longest, each.at_s + each.taken_s - since_s)
                    since_s = None
        return longest


def errors(timings: Iterable[Timing]) -> Counter[str]:
    """Count what failed by its text, without the keys in it."""
    return Counter(re.sub(r"_?get\(\S+\)", "_get", each.error) for each in timings if each.error)
