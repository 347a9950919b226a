"""What later versions of memcached do in another way than 1.6.18, which pymcd follows.

When the reference is another version, this is hidden from the answers of both servers, so that
what remains is worth a look. README.md has the same in words. Learned from 1.6.38.
"""

from __future__ import annotations

import fnmatch
import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .generators import Memory, Protocol
    from .transcripts import Case

FOLLOWED = "1.6.18"

_STATISTICS = (
    rb"proxy_enabled|proxy_uring_enabled|client_flags_size"
    rb"|slab_reassign_evictions_nomem|slab_reassign_busy_nomem"
)
#: What an answer may hold, and what is put in its place.
_HIDDEN = [
    (re.compile(rb"(VERSION |\A|[^ -~])1\.6\.\d\d(?![\d.])"), rb"\g<1>1.6.x"),
    # ms tells the size, if asked.
    (re.compile(rb"(?m)^((?:HD|NS|NF|EX)(?: [^\r\n]*?)?) s\d+(?=[ \r])"), rb"\1"),
    # The rest of the time is no longer negative.
    (re.compile(rb"(?m)^(ME [^\r\n]* exp=)-?[\w~]+"), rb"\1*"),
    # metadump tells the client flags.
    (re.compile(rb"(?m)^(key=[^\n]* size=\d+) flags=\d+$"), rb"\1"),
    (re.compile(rb"STAT (?:" + _STATISTICS + rb") [^\r\n]*\r\n"), b""),
    # As the generator of the binary protocol shows them.
    (re.compile(rb"stat (?:" + _STATISTICS + rb")(?=stat |\x81|\Z)"), b""),
]
#: Words of commands that are gone, and unknown ones of the same length.
_GONE = [(b"sizes_enable", b"sizes_xxxxxx"), (b"sizes_disable", b"sizes_xxxxxxx")]

#: Cases of the transcripts that only tell of the version followed, and why.
_SKIPPED = {
    "admin: slabs": "`slabs reassign -1 1` crashes 1.6.38",
    "admin: stats words": "stats sizes_enable and sizes_disable are gone",
    "admin: stats sizes*": "stats sizes_enable and sizes_disable are gone",
    "effects: Stat sizes": "stats sizes_enable and sizes_disable are gone",
    "effects: temp_ttl, Increment": "cas uniques begin with another number",
    "effects: lru_crawler enable": "metadump after a crawl begins with OK",
    "watching: get, flushed*": "the crawler may be quicker",
    "watching: [DRS]*, cas that fits*": "cas uniques begin with another number",
    "watching: by prefix, binary": "cas uniques begin with another number",
    "watching: by prefix, text": "what follows a bad block is another error",
    "watching: ms, too large*": "it crashes 1.6.45 now and then",
}


def hide(answer: bytes) -> bytes:
    """Return an answer without what the version decides."""
    for pattern, replacement in _HIDDEN:
        answer = pattern.sub(replacement, answer)
    return answer


def skipped_for(case: Case) -> str:
    """Return why a case cannot be compared, or nothing."""
    return next((why for name, why in _SKIPPED.items() if fnmatch.fnmatchcase(str(case), name)), "")


class Newer:
    """A protocol, less what the version decides."""

    def __init__(self, protocol: Protocol) -> None:
        self._protocol = protocol
        self.name = protocol.name
        self.opening = protocol.opening
        self.reference_opening = protocol.reference_opening
        self.batch = protocol.batch
        self.sentinel = protocol.sentinel

    def substitute(self, request: bytes, memory: Memory) -> bytes:
        request = self._protocol.substitute(request, memory)
        for word, other in _GONE:
            request = request.replace(word, other)
        return request

    def normalise(self, reply: bytes, memory: Memory) -> bytes:
        return hide(self._protocol.normalise(reply, memory))
