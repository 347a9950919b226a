"""What a server is asked for its keys and its items, and how its answers are read.

Keys come from `lru_crawler metadump`, as its walk of the hash table, which misses no item, or where
that is not known (before 1.5.6) by slab class. Items then come by `mg`, with what is left of their
time, so that clocks need not agree; the server is asked not to count that as use where it can.
Before 1.6 there is no `mg`, or an experimental one: items come by `get`, and when they end is in
the list.

Servers before 1.4.31, and with them repcached 2, list keys with `stats cachedump` alone: at most
2 MB of lines for each slab class, those used last, without a way to ask for more. Their items come
by `get`, and when they end is in the list. repcached 1.2 is of that kind.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final, NamedTuple
from urllib.parse import unquote_to_bytes

from .plan import Listed
from .talk import Input, is_plain, is_speakable, key_words, refusal

if TYPE_CHECKING:
    from collections.abc import Callable

    from .plan import Plan
    from .talk import Talk


#: A line of a metadump, from the beginning up to what all versions have.
_LISTED: Final = re.compile(
    rb"key=(\S++) exp=(-?+\d++) la=(-?+\d++) cas=\d++ fetch=\w++ cls=\d++ size=(\d++)"
).match
_DUMPED: Final = re.compile(rb"ITEM (\S++) \[(\d++) b; (\d++) s\]").fullmatch
_VERSION: Final = re.compile(rb"VERSION \D*+(\d{1,9})\.(\d{1,9})").match
_CLASS: Final = re.compile(rb"STAT items:(\d++):number ").match
_FACT: Final = re.compile(rb"STAT (time|uptime|curr_items) (\d++)").fullmatch
_META_VALUE: Final = re.compile(rb"VA (\d++)(.*+)").fullmatch
_VALUE: Final = re.compile(rb"VALUE (\S++) (\d++) (\d++)").fullmatch

METADUMPS: Final = (b"lru_crawler metadump hash\r\n", b"lru_crawler metadump all\r\n")
#: From which version on items come by `mg`.
_META_VERSION: Final = (1, 6)
#: Two clocks that are no further apart, ticks included, are taken to be the same.
CLOCKS_AGREE_S: Final = 3.0
#: An item that never ends, as `mg` says it.
NEVER: Final = -1


class Fetched(NamedTuple):
    """An item as it is elsewhere."""

    key: bytes
    value: bytes
    client_flags: int
    ttl: int  #: seconds that it has left; NEVER: it does not end
    #: When it ends, in Unix seconds, where the other clock agrees with ours; 0: go by `ttl`.
    unix_end: int = 0


class Listing(NamedTuple):
    """How the keys of a server were listed, and so how its items are to be fetched."""

    meta: bool
    #: Items that it has, where it may have listed fewer.
    has: int = 0
    #: By how much its clock is behind ours.
    behind_s: float = 0.0
    #: By its clock, no item that ends does so before that.
    started: int = 0


def list_keys(plan: Plan, now: Callable[[], float]) -> Talk[Listing]:
    """Gather the keys of a server. On a connection of its own: some close it then."""
    came = Input()
    listing = Listing(meta=True)
    if not (yield from _has_meta(came)):
        listing = yield from _ask_for_clock(came, now)
    for question in METADUMPS:
        line = yield from came.ask(question)
        if line.startswith(b"OK"):
            line = yield from came.line()
        if line == b"END" or line.startswith(b"key="):
            yield from _read_listing(plan, came, line)
            return listing._replace(has=0)  # all are listed
        if not line.startswith((b"ERROR", b"BADCLASS", b"NOTSTARTED")) or b"allowed" in line:
            raise refusal(line)
        if line.startswith(b"NOTSTARTED"):
            return listing._replace(has=0)  # nothing is there
    if listing.meta:
        listing = yield from _ask_for_clock(came, now)
    yield from _list_old_keys(plan, came)
    return listing


def _has_meta(came: Input) -> Talk[bool]:
    """Ask whether a server has the meta commands as they are today; one that hides its age has."""
    line = yield from came.ask(b"version\r\n")
    if not line.startswith((b"VERSION", b"ERROR")):
        raise refusal(line)
    found = _VERSION(line)
    return found is None or (int(found[1]), int(found[2])) >= _META_VERSION


def _read_listing(plan: Plan, came: Input, line: bytes) -> Talk[None]:
    """Read the lines of a metadump, of which the first is given."""
    while line != b"END":
        _note(plan, line)
        # Most lines come many at a time.
        stop = came.data.rfind(b"\n") + 1
        lines = came.data[came.at : stop].split(b"\n")
        came.at = max(stop, came.at)
        for line in lines[:-1]:
            if line.startswith(b"END"):
                return
            _note(plan, line)
        line = yield from came.line()


def _note(plan: Plan, line: bytes) -> None:
    """Note the key of a line of a metadump."""
    found = _LISTED(line)
    if found is None:
        raise refusal(line)
    word, end, last_access, size = found.groups()
    key = unquote_to_bytes(word) if b"%" in word else word
    plan.add(Listed(key, int(size), max(0, int(end))), int(last_access))


def _ask_for_clock(came: Input, now: Callable[[], float]) -> Talk[Listing]:
    """Ask for what tells when items end that do not come by `mg`."""
    facts = {b"time": 0, b"uptime": 0, b"curr_items": 0}
    line = yield from came.ask(b"stats\r\n")
    behind_s = now()
    while line != b"END":
        if not line.startswith(b"STAT "):
            raise refusal(line)
        fact = _FACT(line)
        if fact is not None:
            facts[fact[1]] = int(fact[2])
        line = yield from came.line()
    behind_s -= facts[b"time"]
    started = facts[b"time"] - facts[b"uptime"]
    return Listing(meta=False, has=facts[b"curr_items"], behind_s=behind_s, started=started)


def _list_old_keys(plan: Plan, came: Input) -> Talk[None]:
    """Gather keys from a server that has no metadump."""
    classes = []
    line = yield from came.ask(b"stats items\r\n")
    while line != b"END":
        if not line.startswith(b"STAT "):
            raise refusal(line)
        found = _CLASS(line)
        if found is not None:
            classes.append(int(found[1]))
        line = yield from came.line()
    for class_id in classes:
        # The one used last comes first; when that was is not told.
        age = 0
        line = yield from came.ask(b"stats cachedump %d 0\r\n" % class_id)
        while line != b"END":
            dumped = _DUMPED(line)
            if dumped is None:
                raise refusal(line)
            key, size, end = dumped.groups()
            age -= 1
            plan.add(Listed(key, int(size), int(end)), age // _AGE_KEYS)
            line = yield from came.line()


def can_be_fetched(key: bytes, listing: Listing) -> bool:
    """Return whether there is a command that can say a key to the server of that list."""
    return is_speakable(key) if listing.meta else is_plain(key)


#: Keys of one slab class that count as used in the same second, where it is not known when.
_AGE_KEYS: Final = 100


def fetch(wanted: list[Listed], listing: Listing, now: Callable[[], float]) -> Talk[list[Fetched]]:
    """Return those of some items that live."""
    if listing.meta:
        return (yield from _fetch_by_meta(wanted, now))
    return (yield from _fetch_by_get(wanted, listing, now))


def _fetch_by_meta(wanted: list[Listed], now: Callable[[], float]) -> Talk[list[Fetched]]:
    came = Input()
    fetched: list[Fetched] = []
    asked = [each.key for each in wanted if is_speakable(each.key)]
    ends = {each.key: each.unix_end for each in wanted}
    # Without use being counted: what is read last is not what was used last.
    question = b"".join([b"mg %b%b u f t v\r\n" % key_words(key) for key in asked])
    for number, key in enumerate(asked):
        line = yield from (came.ask(question) if not number else came.line())
        if line.startswith(b"EN"):
            continue
        found = _META_VALUE(line)
        if found is None:
            raise refusal(line)
        value = yield from came.block(int(found[1]))
        flags = {word[:1]: word[1:] for word in found[2].split()}
        # An item that was invalidated is for one client to make anew.
        if b"X" not in flags:
            ttl = int(flags[b"t"])
            end = ends[key]
            # A clock that ticks once a second, and late at times, says less than the end itself.
            agrees = ttl != NEVER and end and abs(end - now() - ttl) <= CLOCKS_AGREE_S
            fetched.append(Fetched(key, value, int(flags[b"f"]), ttl, end if agrees else 0))
    return fetched


def _fetch_by_get(
    wanted: list[Listed], listing: Listing, now: Callable[[], float]
) -> Talk[list[Fetched]]:
    came = Input()
    fetched: list[Fetched] = []
    ends = {each.key: each.unix_end for each in wanted if is_plain(each.key)}
    if not ends:
        return fetched
    line = yield from came.ask(b"get %b\r\n" % b" ".join(ends))
    there = now() - listing.behind_s
    while line != b"END":
        found = _VALUE(line)
        if found is None:
            raise refusal(line)
        value = yield from came.block(int(found[3]))
        ttl = _old_ttl(ends.get(found[1], 0), listing, there)
        if ttl is not None:
            fetched.append(Fetched(found[1], value, int(found[2]), ttl))
        line = yield from came.line()
    return fetched


def _old_ttl(end: int, listing: Listing, now: float) -> int | None:
    """Return what an item has left by a server's clock; None: nothing."""
    # memcached 1.4: item_cachedump shows one that never ends as ending when the server started.
    if end <= listing.started + 2:
        return NEVER
    ttl = round(end - now)
    return ttl if ttl > 0 else None
