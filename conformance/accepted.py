"""Differences from memcached that are meant to be: one table, with the reason for each.

`ACCEPTED` names a case (`topic: name`, shell patterns allowed) of the transcripts, and the answer
that pymcd gives instead. Such a case must give exactly that answer: when it begins to answer as
memcached does, its row has to go. `OLDER` names the cases in which an installed memcached, older
than the one that is followed, answers otherwise. `OUTSIDE` has what is no conversation. `EXPLAINED`
lists what the random commands stay away from, because there memcached itself answers the same bytes
in more than one way.
"""

from __future__ import annotations

import fnmatch
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

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
        "meta: base64: forgotten of a key that is not text",
        "memcached shows the raw bytes, line ends and all, of a key that came as base64",
        {0: b"HD kdHdvIHdvcmRz b W\r\nHD\r\nHD kdHdvIHdvcmRz b\r\nHD kdHdvIHdvcmRz b\r\n"},
    ),
]

#: What no transcript shows, with what memcached does and why it is otherwise here.
OUTSIDE = (
    (
        "`-m 64k`, `-m 2g`",
        "memcached takes the number for megabytes; who writes a unit means another size",
    ),
    ("`-Y` with more than eight users", "memcached has room for eight"),
    (
        "`-c`",
        "memcached counts file descriptors, those of its listeners and its log, too; here clients",
    ),
    (
        "SIGTERM while a value is arriving",
        "memcached drops it; here it may arrive, for --shutdown-timeout at most",
    ),
    (
        "UDP: several commands in one datagram",
        "memcached numbers the answers to each on its own, so that a client takes two for one",
    ),
)

# What is not built yet. Such a case has to fail: once it passes, its row has to go.
PENDING: tuple[str, ...] = ()
#: Protocols whose random commands do not get memcached's answers yet.
PENDING_PROTOCOLS: tuple[str, ...] = ()

#: What crashes memcached now and then: not asked again; the record is of a time when it did not.
CRASHES = ("watching: ms, too large*",)

#: What an older memcached does otherwise, with the cases in which it answers in another way.
OLDER_VERSION = "1.6.18"
OLDER: dict[str, tuple[str, ...]] = {
    "text logins are words, as commands are": (
        "auth: lines too short",
        "auth: lines not looked at",
        "auth: blanks in the line",
        "auth: other words and ends",
        "auth: lengths",
        "auth: blanks in the words",
    ),
    "a binary request may announce more than a gibibyte": ("binary: more than a gibibyte",),
    "`watch` knows no `deletions`": ("watching: * (deletions)",),
    "cas uniques begin with 1, and a command that stores nothing takes none": (
        "effects: temp_ttl, Increment",
        "watching: by prefix, binary",
        "watching: Set, cas that fits (*)",
        "watching: Replace, cas that fits (*)",
    ),
    "the crawler is not asked by `flush_all`": ("watching: get, flushed (fetchers mutations)",),
    "words behind a command may not be shortened, and some are not known yet": (
        "admin: shortened words",
        "admin: slabs automove, window and freeratio",
        "admin: mgdump, nothing there",
    ),
    "blanks may stand before every command, a NUL ends the line, lines may be short": (
        "errors: shorter than any command",
        "errors: blanks before a command",
        "errors: a NUL is part of a word",
    ),
    "`noreply` is known to fewer commands": (
        "errors: silence of what is no command",
        "errors: silence of words that are wrong",
    ),
    "mg answers the value to who has it, append creates nothing": (
        "meta: get: C of what is there",
        "meta: set: append and prepend that create",
    ),
    "meta flags `E`, and `x` of md, are refused": (
        "meta: later flags: E0",
        "meta: later flags: E, and a flush",
        "meta: later flags: E",
        "meta: later flags: x",
        "watching: md, no value (fetchers mutations)",
    ),
    "`stats sizes_enable` and `sizes_disable` are there": (
        "effects: Stat sizes",
        "binary: stats",
        "admin: stats words",
        "admin: stats sizes",
    ),
    "`lru_crawler metadump` begins without OK, and its lines are without flags": (
        "effects: lru_crawler enable",
        "admin: metadump, nothing there",
        "admin: metadump of a class",
        "admin: metadump, bad words",
        "admin: metadump of one item",
        "admin: metadump of an odd key",
        "admin: metadump leaves out what is past",
    ),
    "time that remains is negative in `me`": (
        "meta: base64: a key that is not text",
        "meta: debug",
    ),
    "`ms` shows no size": ("meta: set: answers",),
    "meta flags and their tokens are looked at less closely, or for other faults first": (
        "meta: mn",
        "meta: set: bare newlines",
        "meta: set: unknown modes",
        "meta: set: bad block",
        "meta: set: length",
        "meta: set: but not these",
        "meta: cas: no numbers",
        "meta: count: modes",
        "meta: count: quiet",
        "meta: too few words",
        "meta: long keys",
        "meta: too many flags",
        "meta: wrong flags",
        "meta: what cannot be a flag",
        "meta: of a mode the first letter counts",
        "meta: base64: broken",
        "meta: debug: words",
    ),
    "numbers may have signs, and lengths more than 32 bits": (
        "storage: lengths over 32 bits",
        "storage: a length with a sign or zeros",
        "storage: a tab ends a number",
        "storage: a NUL ends the line",
        "cas: bad uniques",
        "arithmetic: deltas with signs and zeros",
    ),
    "`bget` is there": ("retrieval: bget",),
    "words that are too many are refused": (
        "storage: too many words",
        "deletion: delete with another time",
        "deletion: delete with a time and noreply",
        "deletion: delete with words",
        "deletion: delete and word counts",
        "deletion: flush_all and bad words",
    ),
    "a line that is not one of memcached's commands is ERROR, whatever is wrong with it": (
        "storage: the block must end in CRLF",
        "storage: block too long",
        "storage: bad block keeps the old value",
        "storage: extra blanks",
        "storage: too few words",
        "storage: negative length with noreply",
        "storage: lengths that are no numbers",
        "storage: bad flags",
        "storage: flags over 64 bits",
        "storage: bad exptime",
        "storage: exptime over its limits",
        "retrieval: no key",
        "retrieval: a key of 251 bytes",
        "retrieval: a key of 251 bytes after a hit",
        "retrieval: gets with a key of 251 bytes",
        "retrieval: gat without keys",
        "retrieval: touch and bad words",
        "cas: word counts",
        "cas: a bad block",
        "arithmetic: word counts",
        "noreply: errors of the header are silent",
        "noreply: errors of the words are not",
        "noreply: a bad block is silent",
        "pipelining: errors between",
        "errors: unknown words",
        "errors: one letter",
        "errors: empty lines",
        "errors: control characters",
        "errors: more words than one goes through",
        "errors: verbs that need a switch",
        "errors: a key over its limit",
        "errors: the block of a refused header is read as commands",
        "limits: a far too large block is swallowed",
        "admin: verbosity",
        "admin: cache_memlimit",
        "admin: lru_crawler settings",
        "switches: -A: words",
        "auth: other commands",
        "udp: an error",
        "watching: by prefix, text",
    ),
}

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
        "-Y: lines in a pipeline, before a login",
        "memcached forgets the answers to earlier lines that it has not sent yet",
    ),
    (
        "TLS: what is wrong in the first words",
        "memcached counts and tells it in two ways, by whether they came with the connection",
    ),
    (
        "`stats detail dump`: prefixes whose names begin like others",
        "memcached confuses those of which the hash has the same low byte",
    ),
    (
        "`ms` with `E`, refused for its block, or since its opaque is too long",
        "memcached 1.6.45 gives that cas unique to what the connection stores next",
    ),
    (
        "`get` of a key over 250 bytes in a pipeline",
        "memcached drops the answers to earlier commands that it has not sent yet",
    ),
    (
        "`watch` behind other commands in a pipeline",
        "memcached refuses it, if it has not sent all answers before: each 20 commands it does",
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
        "memcached crashes now and then",
    ),
    ("`-I 16k -o slab_chunk_max=8`", "memcached crashes"),
    ("a binary set, add or replace that is too large, watched", "memcached crashes"),
)


def named(case: Case, names: Iterable[str]) -> bool:
    """Say whether one of these names, which may be shell patterns, is the case's."""
    return any(fnmatch.fnmatchcase(str(case), name) for name in names)


def accepted_for(case: Case) -> Accepted | None:
    """Return the row for a case."""
    return next((row for row in ACCEPTED if named(case, [row.case])), None)


def older_for(case: Case) -> str:
    """Return what an older memcached does otherwise in this case, or nothing."""
    return next((what for what, names in OLDER.items() if named(case, names)), "")
