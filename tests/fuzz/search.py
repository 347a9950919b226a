"""`python -m tests.fuzz.search [SUBJECT ...]`: search by mutations, with a stall detector.

Needs no other program. Inputs are made of the corpus, of the transcripts of `conformance` and of
what was answered in a new way; each goes to a server as its driver tells it. A crash is: an
exception, replies that are not of the protocol, structures that do not fit together, and an input
of which one call takes more than STALL_S of CPU, twice in a row. A number is a seed: the same one
makes the same inputs. What was found is printed, as Python, and kept in a file if one is named.
"""

from __future__ import annotations

import argparse
import gc
import hashlib
import random
import re
import sys
import time
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from .mutations import Mutator
from .subjects import SUBJECTS, Peers, Watch

if TYPE_CHECKING:
    from collections.abc import Callable

    from .subjects import Subject

HERE: Final = Path(__file__).parent
STALL_S: Final = 0.005
#: A subject is made anew after so many inputs.
LIVES: Final = 5_000
#: Objects are looked at only between inputs, after so many.
COLLECT_EVERY: Final = 500
SHOWN_BYTES: Final = 400

_DIGITS: Final = re.compile(rb"\d+")
HTTP: Final = (
    b"GET /pools HTTP/1.1\r\nHost: a\r\n\r\n",
    b"GET /pools/default/buckets HTTP/1.1\r\nHost: a\r\nAuthorization: Basic YTpi\r\n\r\n",
    b"GET http://a/pools/default/bucketsStreaming/default HTTP/1.1\r\nHost: a\r\n\r\n",
    b"POST /pools HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc",
    b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
)
CALLS: Final = (
    b'\xff\x01{"magic":"pymcd-replication","version":1,"cluster":"pymcd","node":"s",'
    b'"incarnation":"0123","nonce":"4567","clock":1000000,"tag":9,"dialled":true}',
    b'\xff\x02{"proof":"00"}',
    b'\xff\x03{"reason":"secret"}',
    b"\0\0\0\x05\0\0\0\0x",
)


def words() -> list[bytes]:
    """Return the words of libFuzzer's dictionary."""
    found = re.findall(r'^"(.*)"$', (HERE / "words.dict").read_text(), re.MULTILINE)
    return [word.encode().decode("unicode_escape").encode("latin-1") for word in found]


def _corpus(*folders: str) -> list[bytes]:
    return [
        each.read_bytes()
        for folder in folders
        for each in sorted((HERE / "corpus" / folder).iterdir())
    ]


def _transcripts() -> list[bytes]:
    """Return what clients say in the transcripts of `conformance`, where that is at hand."""
    try:
        from conformance import transcripts
        from conformance.test_transcripts import CASES
    except ImportError:
        return []
    found = []
    for case in CASES:
        for step in case.steps:
            if isinstance(step, transcripts.Pieces):
                found.append(b"".join(step.pieces))
            elif isinstance(step, bytes):
                found.append(step)
            else:
                found.append(getattr(step, "request", b""))
    return [each for each in found if each]


def _login(key: bytes, value: bytes) -> bytes:
    head = b"\x80\x21" + len(key).to_bytes(2) + bytes(4) + (len(key) + len(value)).to_bytes(4)
    return head + bytes(12) + key + value


def seeds(name: str) -> list[bytes]:
    """Return what the search of a subject begins with."""
    if name == "bucket":
        return list(HTTP)
    if name == "http":
        return [each.replace(b"/pools", b"/metrics") for each in HTTP]
    if name == "callers":
        return list(CALLS)
    if name in ("peers", "decoders"):
        bodies = Peers().bodies
        return bodies if name == "peers" else [each[41:] for each in bodies] + bodies
    said = [*_corpus("text", "meta", "binary"), *_transcripts()]
    binary = [each for each in said if each[:1] == b"\x80"]
    text = [each for each in said if each[:1] != b"\x80"]
    if name == "sasl":
        logins = [(b"PLAIN", b"\0ann\0open"), (b"PLAIN", b"\0bob\0sesame"), (b"CRAM-MD5", b"")]
        return [*binary, *(_login(*each) for each in logins)]
    if name == "login":
        return [*text, b"set a 0 0 8\r\nann open\r\n", b"set a 0 0 10\r\nbob sesame\r\n"]
    return binary if name == "binary" else text


class Crash(NamedTuple):
    """What was found."""

    where: str
    pieces: list[bytes]
    what: str

    def __str__(self) -> str:
        shown = repr(self.pieces)
        if len(shown) > SHOWN_BYTES:
            shown = f"{shown[:SHOWN_BYTES]}... ({sum(map(len, self.pieces))} bytes)"
        return f"{self.where}: {shown}\n{self.what}"


class Search:
    """The search of one subject."""

    def __init__(
        self,
        name: str,
        seed: int,
        make: Callable[[], Subject] | None = None,
        clock: Callable[[], float] = time.thread_time,
    ) -> None:
        """`clock`: by which calls are timed; one that stands still finds no stalls."""
        self.name = name
        self._make = make or SUBJECTS[name]
        self._clock = clock
        self.subject = self._make()
        rng = random.Random(f"{name}/{seed}")
        self._mutator = Mutator(
            rng, seeds(name), words(), binary=name in ("binary", "sasl", "peers")
        )
        self._seen: set[bytes] = set()
        self._lives = LIVES
        self.inputs = 0
        self.calls = 0
        self.longest_s = 0.0
        self.longest_twice_s = 0.0
        self._began_s = time.monotonic()
        self.crashes: list[Crash] = []

    def step(self) -> None:
        """Try one input."""
        self.inputs += 1
        self._lives -= 1
        if not self._lives:
            self._lives = LIVES
            self.subject.renew()
        if self.inputs % COLLECT_EVERY == 0:
            gc.collect()
        data = self._mutator.make()
        pieces = self._mutator.pieces(data)
        if not pieces:
            return  # nobody is told of nothing
        watch = Watch(self._clock)
        try:
            answer = self.subject.hear(pieces, watch)
            self.calls += watch.calls
            self.longest_s = max(self.longest_s, watch.longest_s)
            if watch.longest_s > STALL_S:
                self._again(pieces, watch)
        except Exception:
            self._crash(pieces, traceback.format_exc(limit=-6))
            self.subject = self._make()
            return
        told = _DIGITS.sub(b"#", answer[:300])
        sign = hashlib.blake2b(told, digest_size=8).digest()
        if sign not in self._seen:
            self._seen.add(sign)
            self._mutator.learn(data)

    def _again(self, pieces: list[bytes], first: Watch) -> None:
        """Try once more an input that took long."""
        gc.collect()
        second = Watch(self._clock)
        self.subject.hear(pieces, second)
        slower_s = min(first.longest_s, second.longest_s)
        self.longest_twice_s = max(self.longest_twice_s, slower_s)
        if slower_s > STALL_S:
            self._crash(pieces, f"a call took {slower_s * 1e3:.1f} ms of CPU, twice in a row\n")

    def report(self, seed: int) -> str:
        taken_s = time.monotonic() - self._began_s
        return (
            f"{self.name}, seed {seed}: {self.inputs:,} inputs, "
            f"{self.inputs / taken_s:,.0f} a second, {self.calls:,} calls, "
            f"{len(self.crashes)} crashes; "
            f"longest call {self.longest_s * 1e3:.1f} ms, twice {self.longest_twice_s * 1e3:.1f} ms"
        )

    def _crash(self, pieces: list[bytes], what: str) -> None:
        self.crashes.append(Crash(f"{self.name}, input {self.inputs}", pieces, what))


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz.search", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="SUBJECT", help=", ".join(SUBJECTS))
    parser.add_argument("--inputs", type=int, default=100_000, help="of each subject")
    parser.add_argument("--seconds", type=float, default=float("inf"), help="and no longer, in all")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--kept", help="a file to which crashes are added")
    options = parser.parse_args()
    if unknown := [name for name in options.names if name not in SUBJECTS]:
        parser.error(f"no such subject: {', '.join(unknown)}")
    gc.disable()
    gc.freeze()  # what is there so far need not be looked at
    names = options.names or list(SUBJECTS)
    began_s = time.monotonic()
    crashes = 0
    for number, name in enumerate(names):
        search = Search(name, options.seed)
        end_s = began_s + options.seconds * (number + 1) / len(names)
        while search.inputs < options.inputs and time.monotonic() < end_s:
            before = len(search.crashes)
            search.step()
            for crash in search.crashes[before:]:
                _say(str(crash))
                if options.kept:
                    with Path(options.kept).open("a") as kept:
                        kept.write(f"{crash.where}: {crash.pieces!r}\n{crash.what}\n")
        crashes += len(search.crashes)
        _say(search.report(options.seed))
    return 1 if crashes else 0


if __name__ == "__main__":
    sys.exit(main())
