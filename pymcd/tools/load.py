"""The tool `pymcd load FILE ADDRESS`: the items of a dump, into a server.

What is there already stays, unless told otherwise, as clients may have written it since. A file is
looked through before anything is stored; what comes by standard input cannot be.
"""

from __future__ import annotations

import getopt
import os
import stat
import sys
import time
from collections import Counter
from contextlib import nullcontext
from typing import TYPE_CHECKING, BinaryIO, Final

from ..exits import EXIT_FAILURE, EXIT_USAGE
from ..moving.counting import items_in_words
from ..moving.dumpfile import DumpError, DumpReader
from ..moving.target import Outcome, store
from .asking import (
    ACCESS_HELP,
    ACCESS_OPTIONS,
    DEFAULT_PORT,
    AskError,
    access_of,
    parse_address,
)
from .progress import progress
from .telling import complain, tell
from .visiting import Visit

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..moving.dumpfile import Record
    from .asking import Access, Place

USAGE: Final = """\
usage: pymcd load [--overwrite] [--partial] [--skip N] [--tls] [--user NAME]
                  FILE ADDRESS"""
HELP: Final = f"""\
{USAGE}

Stores the items of a file that pymcd dump wrote, with their client flags and
ends. The server may be a pymcd or a memcached from 1.6 on. FILE may be - for
standard input. What the server has already stays as it is. An ADDRESS is HOST,
HOST:PORT (default port {DEFAULT_PORT}), [V6]:PORT, or the path of a Unix socket.

  --overwrite     store all, whatever the server has
  --partial       take what is whole of a file that was cut off or damaged
  --skip N        begin after N items: go on where it stopped
{ACCESS_HELP}

Exit code: 0 all that has not ended is there, 1 not so."""

#: Items stored at a time, and how large they may be together before the last of them.
BATCH_ITEMS: Final = 200
BATCH_BYTES: Final = 1 << 20
_READ_BYTES: Final = 256 << 10
#: What is none of the server's fault, nor ours.
_HARMLESS: Final = (Outcome.STORED, Outcome.THERE, Outcome.OVER)


def load(words: list[str]) -> int:
    """Store the items of a file in a server; return the exit code."""
    try:
        given, names = getopt.gnu_getopt(
            words, "h", ["help", "overwrite", "partial", "skip=", *ACCESS_OPTIONS]
        )
        options = dict(given)
        if "-h" in options or "--help" in options:
            tell(HELP)
            return 0
        if len(names) != 2:
            raise ValueError("a file and a server are needed")
        skip = options.get("--skip", "0")
        if not (skip.isascii() and skip.isdigit() and len(skip) < 20):
            raise ValueError(f"--skip {skip}: not a number of items")
        place = parse_address(names[1])
        if names[0] == "-" and "--user" in options and not sys.stdin.isatty():
            raise ValueError("with --user, standard input is for the password: name a file")
        access = access_of(options)
    except (getopt.GetoptError, ValueError) as error:
        complain(f"pymcd load: {error}\n{USAGE}")
        return EXIT_USAGE
    except OSError as error:
        complain(f"pymcd load: {error.filename or 'certificate'}: {error.strerror}")
        return EXIT_USAGE
    one = _Load(place, access, skip=int(skip), overwrite="--overwrite" in options)
    return one.run(names[0], partial="--partial" in options)


class _Load:
    """What is stored, and how far that came."""

    def __init__(self, place: Place, access: Access, *, skip: int, overwrite: bool) -> None:
        self._where = (place, access)
        self._name = str(place)
        self._skip = skip
        self._overwrite = overwrite
        self._whole = 0  #: items that were found to be whole before any was stored
        self._done = 0  #: items of the file that are done with, those skipped as well
        self._outcomes: Counter[Outcome] = Counter()

    def run(self, path: str, *, partial: bool) -> int:
        name = "standard input" if path == "-" else path
        try:
            with nullcontext(sys.stdin.buffer) if path == "-" else open(path, "rb") as file:
                size = 0
                if stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                    size = os.fstat(file.fileno()).st_size
                    if not partial:
                        self._look_through(file)
                        if self._whole < self._skip:
                            return self._skips_all(name, self._whole)
                with (
                    Visit(*self._where) as visit,
                    progress("loading", size, counted=False) as advance,
                ):
                    self._store_all(visit, file, advance)
        except DumpError as error:
            if not partial or not self._done:
                return self._fail(f"{name}: {error}", whole=False)
            complain(f"pymcd load: {name}: {error}; what is before that was taken")
        except AskError as error:
            return self._fail(f"{self._name}: {error}", whole=True)
        except OSError as error:
            return self._fail(f"{name}: {error.strerror}", whole=True)
        except KeyboardInterrupt:
            return self._fail("interrupted", whole=True)
        return self._conclude() if self._done >= self._skip else self._skips_all(name, self._done)

    def _skips_all(self, name: str, items: int) -> int:
        there = f"it has {items_in_words(items)}, and --skip {self._skip} goes beyond that"
        return self._fail(f"{name}: {there}", whole=True)

    def _look_through(self, file: BinaryIO) -> None:
        """Read a whole file; raise `DumpError` if it is not whole."""
        reader = DumpReader()
        try:
            while data := file.read(_READ_BYTES):
                for _ in reader.receive(data):
                    pass
            reader.finish()
        finally:
            self._whole = reader.items
        file.seek(0)

    def _store_all(self, visit: Visit, file: BinaryIO, advance: Callable[[int], None]) -> None:
        reader = DumpReader()
        batch: list[Record] = []
        batch_bytes = 0
        try:
            while data := file.read(_READ_BYTES):
                for record in reader.receive(data):
                    if reader.items <= self._skip:
                        self._done += 1
                        continue
                    batch.append(record)
                    batch_bytes += len(record.value)
                    if len(batch) >= BATCH_ITEMS or batch_bytes >= BATCH_BYTES:
                        ready, batch, batch_bytes = batch, [], 0
                        self._store(visit, ready)
                advance(len(data))
            reader.finish()
        except DumpError:
            self._store(visit, batch)  # which was whole
            raise
        self._store(visit, batch)

    def _store(self, visit: Visit, batch: list[Record]) -> None:
        outcomes: list[Outcome] = []
        try:
            if batch:
                visit.talk(store(batch, time.time(), outcomes, overwrite=self._overwrite))
        finally:
            self._outcomes.update(outcomes)
            self._done += len(outcomes)

    def _fail(self, why: str, *, whole: bool) -> int:
        how_far = "; nothing was loaded"
        if self._done > self._skip:
            verb = "is" if self._done == 1 else "are"
            how_far = f"; {items_in_words(self._done)} {verb} done ({self._counts()})"
            if whole:
                how_far += f": go on with --skip {self._done}"
        elif self._whole and not whole:
            how_far += "; --partial takes what is whole"
        complain(f"pymcd load: {why}{how_far}")
        return EXIT_FAILURE

    def _counts(self) -> str:
        counts = self._outcomes
        return ", ".join(
            f"{counts[each]:,} {each}" for each in Outcome if counts[each] or each is Outcome.STORED
        )

    def _conclude(self) -> int:
        tell(f"loaded into {self._name}: {self._counts()}")
        return 0 if all(each in _HARMLESS for each in self._outcomes) else EXIT_FAILURE
