"""The tool `pymcd size SESSIONS BYTES`: how much memory so many sessions need.

An eviction is a logout, so this is what it takes that nobody is evicted. `-m` follows from the slab
classes: an item takes a whole chunk, a class whole pages. Sizes that are spread are taken to be so
evenly; how many sessions fall into each class is then a matter of chance, which is tried out. What
the process takes is what Python needs for as many items: more than `-m`, if they are small.
"""

from __future__ import annotations

import getopt
import math
import random
import re
from collections import Counter
from typing import TYPE_CHECKING, Final, NamedTuple

from ..config import Settings
from ..exits import EXIT_USAGE
from ..limits import (
    ITEM_CAS_BYTES,
    ITEM_CLIENT_FLAGS_BYTES,
    ITEM_HEADER_BYTES,
    ITEM_KEY_END_BYTES,
    ITEM_VALUE_END_BYTES,
    KEY_MAX_BYTES,
    MEBIBYTE,
)
from ..store.cache import RESIDENT_CLIENT_FLAGS_BYTES, RESIDENT_OVERHEAD_BYTES
from ..store.expiry import RESIDENT_STATE_BYTES
from ..store.slabs import Slabs
from .telling import complain, tell

if TYPE_CHECKING:
    from ..store.item import SlabClass

USAGE: Final = "usage: pymcd size [--key BYTES] SESSIONS BYTES|LOW-HIGH"
KEY_BYTES: Final = 32
HELP: Final = f"""\
{USAGE}

Tells which -m, and how much memory, a server needs that holds so many sessions,
or other items, and evicts none. BYTES is how large the values are: all alike,
and spread from half of that to twice as much, which needs more. With LOW-HIGH
they are spread from LOW to HIGH. Numbers may have a suffix k or m.

  --key BYTES     how long the keys are (default {KEY_BYTES})"""

SESSIONS_MAX: Final = 10**10
#: No larger value fits with the default of -I.
BYTES_MAX: Final = 1 << 30
#: So many sizes stand for all that are spread.
_SIZES: Final = 4000
#: What is spread falls into the classes by chance: the most that it took in so many tries.
_TRIES: Final = 1000
#: What the process takes without any item, and what may lie unused between items.
PROCESS_BYTES: Final = 40 * MEBIBYTE
_UNUSED: Final = 1.05


class Need(NamedTuple):
    """What a server needs, in megabytes."""

    limit_mb: int  #: -m
    process_mb: int


def size(words: list[str]) -> int:
    """Tell how much memory sessions need; return the exit code."""
    try:
        options, names = getopt.gnu_getopt(words, "h", ["help", "key="])
        given = dict(options)
        if "-h" in given or "--help" in given:
            tell(HELP)
            return 0
        if len(names) != 2:
            raise ValueError("how many sessions, and of what size?")
        sessions = _number(names[0], 1000, SESSIONS_MAX)
        low, dash, high = names[1].partition("-")
        lowest = _number(low, 1024, BYTES_MAX)
        highest = _number(high, 1024, BYTES_MAX) if dash else lowest
        if highest < lowest:
            raise ValueError(f"{names[1]}: the smaller one comes first")
        key_bytes = _number(given.get("--key", str(KEY_BYTES)), 1, KEY_MAX_BYTES)
    except (getopt.GetoptError, ValueError) as error:
        complain(f"pymcd size: {error}\n{USAGE}")
        return EXIT_USAGE
    spreads = [(lowest, highest)] if dash else [(lowest, lowest), (lowest // 2, 2 * lowest)]
    rows = [("", "-m", "process")]
    for each in spreads:
        need = need_of(sessions, *each, key_bytes=key_bytes)
        name = "all alike" if each[0] == each[1] else f"spread from {each[0]:,} to {each[1]:,}"
        rows.append((name, f"{need.limit_mb:,}", f"{need.process_mb:,} MB"))
    width = max(len(row[0]) for row in rows)
    values = f"{lowest:,} to {highest:,}" if dash else f"{lowest:,}"
    tell(f"{sessions:,} sessions of {values} bytes, with keys of {key_bytes}")
    for name, limit, process in rows:
        tell(f"  {name:{width}}  {limit:>8}  {process:>10}".rstrip())
    backlog_mb = Settings().replication_backlog_bytes // MEBIBYTE
    tell(f"Each node of a pair needs all of that, and {backlog_mb} MB more.")
    return 0


def _number(text: str, unit: int, most: int) -> int:
    found = re.fullmatch(r"([0-9]{1,12})([kKmM]?)", text)
    number = int(found[1]) * unit ** (" km".index(found[2].lower() or " ")) if found else 0
    if not 0 < number <= most:
        raise ValueError(f"{text}: a number from 1 to {most:,} is needed")
    return number


def _pages(kinds: Counter[tuple[SlabClass, ...]], items: int) -> int:
    """Return how many pages items need; `kinds`: the chunks of an item, and how often that is so.

    Each class has whole pages, so how full the last one is counts as well in a small server.
    """
    choose = random.Random(0)
    most = 0
    for _ in range(_TRIES if len(kinds) > 1 else 1):
        chunks: Counter[SlabClass] = Counter()
        left, weight = items, kinds.total()
        for classes, share in kinds.items():
            probability = share / weight
            spread = math.sqrt(left * probability * (1 - probability))
            number = min(left, max(0, round(choose.gauss(left * probability, spread))))
            for slab_class in classes:
                chunks[slab_class] += number
            left, weight = left - number, weight - share
        each = (math.ceil(number / one.chunks_per_page) for one, number in chunks.items())
        most = max(most, sum(each))
    return most


def need_of(sessions: int, lowest: int, highest: int, *, key_bytes: int = KEY_BYTES) -> Need:
    """Return what so many sessions need, whose sizes are spread evenly from lowest to highest."""
    number = min(_SIZES, highest - lowest + 1)
    step = (highest - lowest) / max(1, number - 1)
    values = [round(lowest + step * each) for each in range(number)]
    head_bytes = (
        ITEM_HEADER_BYTES + key_bytes + ITEM_KEY_END_BYTES + ITEM_CAS_BYTES
        + ITEM_CLIENT_FLAGS_BYTES
    )  # fmt: skip
    # Larger values than -I allows by default are asked about with a larger one in mind.
    largest_bytes = head_bytes + highest + ITEM_VALUE_END_BYTES
    item_size = math.ceil(largest_bytes / MEBIBYTE) * MEBIBYTE
    slabs = Slabs(Settings(item_size_max_bytes=item_size, memory_limit_bytes=4 * item_size))
    kinds: Counter[tuple[SlabClass, ...]] = Counter()
    for value in values:
        data_bytes = value + ITEM_VALUE_END_BYTES
        item_bytes = head_bytes + data_bytes
        if item_bytes > slabs.chunk_max_bytes:
            kinds[tuple(slabs.chunk_classes(head_bytes, data_bytes))] += 1
        else:
            slab_class = slabs.class_for(item_bytes)
            assert slab_class is not None
            kinds[slab_class,] += 1
    # One more than there are: while a session is written again it is there twice.
    pages = _pages(kinds, sessions + 1)
    resident_bytes = (
        RESIDENT_OVERHEAD_BYTES + RESIDENT_CLIENT_FLAGS_BYTES + RESIDENT_STATE_BYTES
        + key_bytes + sum(values) / number
    )  # fmt: skip
    process_bytes = PROCESS_BYTES + sessions * resident_bytes * _UNUSED
    limit_mb = max(pages, 2 * math.ceil(item_size / MEBIBYTE))
    return Need(limit_mb, math.ceil(process_bytes / MEBIBYTE))
