"""Differences from memcached that are meant to be: one table, with the reason for each.

`ACCEPTED` names a case (`topic: name`, shell patterns allowed) of the transcripts, and the answer
that pymcd gives instead. Such a case must give exactly that answer: when it begins to answer as
memcached does, its row has to go. `EXPLAINED` lists what the random commands stay away from,
because there memcached itself answers the same bytes in more than one way.
"""

from __future__ import annotations

import fnmatch
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .transcripts import Case


@dataclass(frozen=True, slots=True)
class Accepted:
    """A case with answers of our own: the answers by number of their step."""

    case: str
    reason: str
    answers: dict[int, bytes]


ACCEPTED = [
    Accepted(
        "errors: extstore",
        "storage on disk is not built in; memcached without it answers the same",
        {0: b"ERROR\r\nERROR\r\nERROR\r\n"},
    ),
    Accepted(
        "meta: later flags: E",
        "the cas unique that an item is to get, from a later version; 1.6.18 refuses the flag",
        {0: b"HD c<unique:0>\r\nVA 1 c<unique:0>\r\n1\r\n"},
    ),
    Accepted(
        "meta: later flags: x",
        "md x leaves an item without a value, in later versions; 1.6.18 refuses the flag",
        {0: b"HD\r\nHD\r\nVA 0 f0\r\n\r\n"},
    ),
    Accepted(
        "meta: base64: forgotten of a key that is not text",
        "memcached shows the raw bytes, line ends and all, of a key that came as base64",
        {0: b"HD kdHdvIHdvcmRz b W\r\nHD\r\nHD kdHdvIHdvcmRz b\r\nHD kdHdvIHdvcmRz b\r\n"},
    ),
    Accepted(
        "watching: Append, too large (fetchers mutations)",
        "memcached tells of values refused, but not of this one",
        {
            1: b"ts=~ gid=~ type=item_store key=k status=too_large cmd=append ttl=0 clsid=0 cfd=~"
            b" size=0\n"
        },
    ),
    *(
        Accepted(
            f"watching: {name} (deletions)",
            "watch deletions came with a later version, of which these are the answers",
            {1: b"".join(b"ts=~ gid=~ type=deleted key=k %b\n" % line for line in told)},
        )
        for name, told in (
            ("delete", (b"cmd=delete clsid=1 size=3",)),
            ("delete, noreply", (b"cmd=delete clsid=1 size=3",)),
            ("delete, expired", ()),
            ("Delete", ()),
            ("DeleteQ", ()),
            ("md", (b"cmd=md clsid=1 size=3",)),
            ("md, quiet", (b"cmd=md clsid=1 size=3",)),
            ("md, base64", (b"cmd=md clsid=1 size=3",)),
            ("md, cas", ()),
            ("md, stale", ()),
            ("Delete, cas", ()),
            ("md, no value", (b"cmd=md clsid=1 size=0",)),
            ("set, over another", ()),
        )
    ),
    Accepted(
        "watching: md, no value (fetchers mutations)",
        "md x came with a later version, of which this is the answer",
        {
            1: b"ts=~ gid=~ type=item_get key=k status=found clsid=1 cfd=~ size=3\n" * 2
            + b"ts=~ gid=~ type=item_store key=k status=stored cmd=set ttl=0 clsid=1 cfd=~ size=0\n"
        },
    ),
]

# What is not built yet. Such a case has to fail: once it passes, its row has to go.
PENDING: dict[str, str] = {}

EXPLAINED = (
    (
        "binary: a wrong magic behind other requests",
        "memcached closes at once and drops the answers that it has not sent yet",
    ),
    (
        "SASL: a step that fails, then another step with the right password",
        "memcached lets PLAIN go on; here a failed login begins with SASL_AUTH again",
    ),
    (
        "SASL: logins of more than 4096 bytes",
        "refused before they arrive, as memcached does above half a megabyte",
    ),
    (
        "SASL: `user` against `user:password`",
        "memcached's library adds this host's name to one without `@`; here both lines are right",
    ),
    (
        "-Y: a value of more than 4096 bytes",
        "memcached waits for it without a bound; here the connection is closed",
    ),
    (
        "`get` of a key over 250 bytes in a pipeline",
        "memcached drops the answers to earlier commands that it has not sent yet",
    ),
    (
        "`get k`, then `decr k` in one pipeline",
        "memcached pads with a blank only if no unsent answer, and no thread, refers to the item",
    ),
    (
        "`incr` on a number of 2**63 or more",
        "memcached looks for `-` beyond the value's end, in what the memory held before",
    ),
    (
        "`incr` on a value of white space only",
        "memcached reads on behind the value, in what the memory held before",
    ),
    (
        "lines over 2048 bytes that arrive in pieces",
        "whether memcached closes depends on how much of the line one read returned",
    ),
    (
        "`flush_all`, then `flush_all N`",
        "memcached forgets the first; items which nobody looked at meanwhile come back",
    ),
    (
        "values of which the last chunk holds only the line end (near 512 KB)",
        "memcached 1.6.18 crashes now and then",
    ),
    ("`-I 16k -o slab_chunk_max=8`", "memcached 1.6.18 crashes"),
    ("a binary set, add or replace that is too large, watched", "memcached 1.6.18 crashes"),
)


def pending_for(case: Case) -> str:
    """Return what has to be built before this case can pass, or nothing."""
    found = (text for name, text in PENDING.items() if fnmatch.fnmatchcase(str(case), name))
    return next(found, "")


def accepted_for(case: Case) -> Accepted | None:
    """Return the row for a case."""
    return next((row for row in ACCEPTED if fnmatch.fnmatchcase(str(case), row.case)), None)
