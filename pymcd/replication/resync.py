"""Bringing a peer in sync: what is still to be sent to it, and what it confirms.

Both sides of a channel send each other what the other may lack, from their logs or everything, in
slices, changes of the moment in between; versions make the order irrelevant. What changes while a
peer is *behind* is sent later, as it then is.
"""

from __future__ import annotations

from itertools import filterfalse
from typing import TYPE_CHECKING, Final

from . import records
from .changes import Confirmed

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from .changes import Changes

#: Keys in one message, its bytes, and bytes on their way.
SLICE_ITEMS: Final = 200
SLICE_BYTES: Final = 128 << 10
#: Slices in one step: of tiny items many go in a window.
SLICES_MAX: Final = 5
WINDOW_BYTES: Final = 1 << 20


class Resync:
    """What one peer is still to get, and to give."""

    def __init__(self) -> None:
        self.todo: Iterator[bytes] | None = None  #: keys still to be sent
        self.behind: dict[bytes, None] = {}  #: changed meanwhile, not sent yet
        self.told: list[bytes] = []  #: what the last slice is about
        self.owes_flushes = False  #: nor are flushes
        self.mode = "idle"  #: as `stats replication` shows it
        self.keys_sent = 0
        self.forgotten_before = 0  #: when it first began, as `Tombstones.forgotten`
        #: It is told all that there is, once more or in place of what it lacks, and deletions of
        #: what it may have are forgotten: it would keep that.
        self.is_outrun = False
        self._since = -1  #: it is told what changed after that; -1: all that there is
        self.keys_total = 0  #: as many as there were at the beginning
        self.sent_all = False  #: it was told that it has everything
        self.got_all = False  #: it told us so
        self.replace_up_to = 0  #: what it does not confirm, up to that version, is to be dropped
        self.confirmed: Confirmed | None = None
        #: What it has not confirmed is being dropped; how many items so far.
        self.dropping: Iterator[dict[bytes, int]] | None = None
        self.dropped = 0
        self.proposed = False  #: it proposed to be one meanwhile
        self.both_led = False  #: it joins us, and decided as well until it accepted

    @property
    def under_way(self) -> bool:
        """Whether anything is still to be sent."""
        return self.todo is not None or bool(self.behind) or self.owes_flushes

    @property
    def is_almost_sent(self) -> bool:
        """Whether what is still to be sent is no more than one slice."""
        return self.todo is None and len(self.behind) <= SLICE_ITEMS

    def begin(
        self,
        changes: Changes,
        acked_sequence: int,
        wants: list[bytes],
        *,
        whole: bool,
        acked_version: int = 0,
    ) -> bool:
        """Begin to send what a peer may lack; return whether that is everything.

        It has our log up to a sequence number; -1: that is not known. `acked_version`: up to which
        it knows what was deleted; 0: what was so before this began.
        """
        missed = None if whole or acked_sequence < 0 else changes.since(acked_sequence)
        self._since = -1 if missed is None else acked_sequence
        if self.mode == "idle":
            self.forgotten_before = changes.tombstones.forgotten
        elif missed is None:
            self._note_forgotten(changes, acked_version)
        self.mode = "sending_full" if missed is None else "sending_partial"
        self.todo = _keys_to_send(changes, wants, missed)
        self.keys_sent = 0
        everything = len(changes.tombstones) + changes.cache.item_count
        # It may be fewer, where keys have changed more than once.
        most = everything if missed is None else changes.sequence - acked_sequence
        self.keys_total = len(wants) + min(most, everything)
        return missed is None

    def _note_forgotten(self, changes: Changes, acked_version: int = 0) -> None:
        """See whether deletions were forgotten of what the peer may have."""
        if changes.tombstones.forgotten > max(self.forgotten_before, acked_version):
            self.is_outrun = True

    def next_slice(self, changes: Changes) -> list[bytes]:
        """Take the records of the next keys; none of them may be known any more."""
        pieces: list[bytes] = []
        self.told = []
        if self.owes_flushes:
            self.owes_flushes = False
            pieces += changes.flush_records()
        size = 0
        for _ in range(SLICE_ITEMS):
            key = self._next_key(changes)
            if key is None:
                break
            self.keys_sent += 1
            self.told.append(key)
            record = changes.record_of(key) or self._record_of_forgotten(changes, key)
            pieces += record
            size += sum(map(len, record))
            if size >= SLICE_BYTES:
                break
        return pieces

    def _record_of_forgotten(self, changes: Changes, key: bytes) -> Sequence[bytes]:
        """Return the record of a key that was perhaps deleted, which nobody knows any more.

        It is dropped there like all that was deleted before deletions had to be forgotten.
        """
        forgotten = changes.tombstones.forgotten
        if forgotten <= self.forgotten_before or key in changes.in_doubt:
            return ()
        return (records.encode_gone(key, forgotten),)

    def _next_key(self, changes: Changes) -> bytes | None:
        if self.todo is not None:
            key = next(self.todo, None)
            if key is not None:
                return key
            self.todo = None
            if self._since >= 0 and changes.since(self._since) is None:
                self._note_forgotten(changes)  # as the log was too short
        return self.behind.popitem()[0] if self.behind else None

    def fall_behind(self, keys: Iterable[bytes], most: int) -> bool:
        """Remember what a slow peer is to get later; False: that is too much, begin anew."""
        self.behind.update(dict.fromkeys(keys))
        if len(self.behind) <= most:
            return True
        self.behind.clear()
        return False

    def expect_all(self, replace_up_to: int, in_doubt: Iterable[bytes] = ()) -> None:
        """Have the peer confirm what it holds, so that the rest can be dropped.

        `in_doubt`: what it says nothing of, as it asks for it.
        """
        self.replace_up_to, self.confirmed = replace_up_to, Confirmed()
        for key in in_doubt:
            self.confirmed.add(key)


def _keys_to_send(
    changes: Changes, wants: list[bytes], missed: Iterator[bytes] | None
) -> Iterator[bytes]:
    yield from wants
    rest = changes.keys() if missed is None else missed
    if wants:
        rest = filterfalse({*wants}.__contains__, rest)
    yield from rest
