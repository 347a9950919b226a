"""The tool `pymcd dump ADDRESS FILE`: the items of a server, into a file.

The keys are listed first, then the items are fetched, those used last at the end: loaded again,
they are the last to be evicted. The file appears under its name when it is whole.
"""

from __future__ import annotations

import contextlib
import getopt
import os
import stat
import sys
import time
from functools import partial
from typing import TYPE_CHECKING, BinaryIO, Final

from ..exits import EXIT_FAILURE, EXIT_USAGE
from ..moving.counting import items_in_words
from ..moving.dumpfile import HEAD, Record, encode_end, encode_record
from ..moving.plan import Plan
from ..moving.source import NEVER, can_be_fetched, fetch, list_keys
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
from .visiting import Visit, patiently

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ..moving.source import Listing
    from .asking import Access, Place

USAGE: Final = "usage: pymcd dump [--tls] [--user NAME] ADDRESS FILE"
HELP: Final = f"""\
{USAGE}

Writes the items of a server to FILE, with their client flags and ends, for
pymcd load. The server may be a pymcd or any memcached; it goes on serving. FILE
may be - for standard output. An ADDRESS is HOST, HOST:PORT (default port
{DEFAULT_PORT}), [V6]:PORT, or the path of a Unix socket.

{ACCESS_HELP}

Exit code: 0 all is written, 1 not so."""

#: Items fetched at a time, and how large they may be together.
BATCH_ITEMS: Final = 200
BATCH_BYTES: Final = 1 << 20
#: What the list of keys may take.
KEYS_MAX_BYTES: Final = 4 << 30
FILE_MODE: Final = 0o600  # there may be sessions in it
PART: Final = ".part"


def dump(words: list[str]) -> int:
    """Write the items of a server to a file; return the exit code."""
    try:
        given, names = getopt.gnu_getopt(words, "h", ["help", *ACCESS_OPTIONS])
        options = dict(given)
        if "-h" in options or "--help" in options:
            tell(HELP)
            return 0
        if len(names) != 2:
            raise ValueError("a server and a file are needed")
        place = parse_address(names[0])
        access = access_of(options)
    except (getopt.GetoptError, ValueError) as error:
        complain(f"pymcd dump: {error}\n{USAGE}")
        return EXIT_USAGE
    except OSError as error:
        complain(f"pymcd dump: {error.filename or 'certificate'}: {error.strerror}")
        return EXIT_USAGE
    return _Dump(place, access, names[1]).run()


class _Dump:
    """What is written, and how far that came."""

    def __init__(self, place: Place, access: Access, path: str) -> None:
        self._visit: Callable[[], Visit] = partial(Visit, place, access)
        self._name = str(place)
        self._path = path
        self._part = ""  #: where it is written until it is whole
        self._plan = Plan(KEYS_MAX_BYTES, newest_first=False)
        self._items = 0
        self._bytes = 0
        self._unspeakable = 0

    def run(self) -> int:
        try:
            listing = patiently(self._list)
            with self._visit() as visit, self._opened() as file:
                self._write(visit, listing, file)
        except AskError as error:
            return self._fail(f"{self._name} {_as_verb(error)}")
        except OSError as error:
            where = "standard output" if self._path == "-" else self._part or self._path
            return self._fail(f"{where}: {error.strerror}")
        except KeyboardInterrupt:
            return self._fail("interrupted")
        return self._conclude(listing)

    def _list(self) -> Listing:
        self._plan = Plan(KEYS_MAX_BYTES, newest_first=False)
        with self._visit() as visit:
            return visit.talk(list_keys(self._plan, time.time))

    @contextlib.contextmanager
    def _opened(self) -> Iterator[BinaryIO]:
        """Open the file; give it its name when all is in it."""
        if self._path == "-":
            yield sys.stdout.buffer
            sys.stdout.buffer.flush()
            return
        path = os.path.realpath(self._path)
        if os.path.exists(path) and not stat.S_ISREG(os.stat(path).st_mode):
            with open(path, "wb") as file:  # a pipe, a device
                yield file
            return
        part = path + PART
        descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, FILE_MODE)
        with open(descriptor, "wb") as file:
            self._part = part
            yield file
            file.flush()
            os.fsync(descriptor)
        os.replace(part, path)

    def _write(self, visit: Visit, listing: Listing, file: BinaryIO) -> None:
        file.write(HEAD)
        with progress("dumping", self._plan.count, counted=True) as advance:
            while wanted := self._plan.take(BATCH_ITEMS, BATCH_BYTES):
                items = visit.talk(fetch(wanted, listing, time.time))
                now = time.time()
                for key, value, client_flags, ttl, unix_end in items:
                    end = 0 if ttl == NEVER else unix_end or int(now + ttl)
                    self._bytes += file.write(encode_record(Record(key, value, client_flags, end)))
                self._items += len(items)
                self._unspeakable += sum(not can_be_fetched(each.key, listing) for each in wanted)
                advance(len(wanted))
        file.write(encode_end(self._items))

    def _fail(self, why: str) -> int:
        how_far = "; nothing is written"
        if self._items:
            how_far = f", after {self._items:,} of {items_in_words(self._plan.count)}"
            if self._part:
                how_far += f"; those are in {self._part}, for pymcd load --partial"
        elif self._part:
            with contextlib.suppress(OSError):
                os.unlink(self._part)
        complain(f"pymcd dump: {why}{how_far}")
        return EXIT_FAILURE

    def _conclude(self, listing: Listing) -> int:
        where = "" if self._path == "-" else f" to {self._path}"
        said = (
            f"dumped {items_in_words(self._items)}, {_size(self._bytes)}, from {self._name}{where}"
        )
        (complain if self._path == "-" else tell)(said)
        code = 0
        if self._unspeakable:
            complain(f"{self._unspeakable:,} are left out: no text command can say their keys")
            code = EXIT_FAILURE
        missing = listing.has - self._plan.count
        if missing > 0 or self._plan.left_out:
            complain(
                f"{max(missing, self._plan.left_out):,} are left out: this server lists no more of"
                " its keys than 2 MB for each slab class"
            )
            code = EXIT_FAILURE
        return code


def _as_verb(error: AskError) -> str:
    """Return what a server does, to be put behind its name."""
    text = str(error)
    first = text.split(" ", 1)[0]
    return text if first in ("refuses", "closed", "wants", "is", "does", "answers") else f"({text})"


def _size(number: int) -> str:
    return f"{number / (1 << 20):,.1f} MB"
