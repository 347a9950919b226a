"""Group commit: replies are held until all who are to hold a batch have acknowledged it.

The commands of a turn make one *batch*, which gets a *ticket* when it is sent. A reply is *held*
until every holder has acknowledged its ticket, then *released*. The *watermark* tells readers what
everybody holds: who reads an item with a later cas unique waits like its writer, so that nobody
sees what could still be lost.

A holder is whatever acknowledges batches; a follower is one kind.
"""

from __future__ import annotations

from collections import deque
from contextlib import suppress
from typing import TYPE_CHECKING, Final, Protocol

from .versions import FOREVER

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .waiting import Waiter

#: After a batch with versions that are no cas uniques: of no item is it known that it is readable.
NOTHING: Final = -1


class Holder(Protocol):
    """Who acknowledges batches."""

    acked_ticket: int  #: of the latest batch that it has


class Commits:
    """The batches of one node, and whose replies wait for them."""

    def __init__(self) -> None:
        self.ticket = 1  #: of the batch that is being gathered
        self.holding: list[Waiter] = []  #: whose replies wait for the batch that is being gathered
        self.held: deque[tuple[int, list[Waiter]]] = deque()  #: for those that were sent
        #: Items with a later cas unique are not held by all yet. FOREVER: everything is.
        self.watermark = FOREVER
        self._acked_version = 0  #: the latest version when last everything was held by all

    @property
    def all_acked(self) -> bool:
        """Whether everything that was sent is held by all."""
        return self.watermark is FOREVER

    def begin_batch(self, *, ordinary: bool = True) -> None:
        """Take note that something was changed that holders have not got.

        Not `ordinary` is a change after which a cas unique does not tell whether an item is newer.
        """
        # Hot path: bench/ "pair16".
        if not ordinary:
            self.watermark = NOTHING
        elif self.watermark is FOREVER:
            self.watermark = self._acked_version

    def hold(self, waiter: Waiter, *, changed: bool) -> None:
        """Release a waiter when all that was executed so far is acknowledged.

        `changed`: something of that is in the batch that is being gathered.
        """
        last = self.ticket - 1
        if changed or not self.held:
            if not self.holding:
                self.begin_batch()
            self.holding.append(waiter)
        elif self.held[-1][0] == last:
            self.held[-1][1].append(waiter)
        else:  # nobody has waited for that one so far
            self.held.append((last, [waiter]))

    def close_batch(self) -> int:
        """Begin the next batch; return the ticket of this one."""
        # Hot path: bench/ "pair16".
        ticket = self.ticket
        self.ticket = ticket + 1
        if self.holding:
            self.held.append((ticket, self.holding))
            self.holding = []
        return ticket

    def hold_for_the_last(self) -> None:
        """Let wait for the batch before whoever waits for one in which nothing has changed."""
        self.held.append((self.ticket - 1, self.holding))
        self.holding = []

    def catch_up(self, version: int) -> None:
        """Take note that all holders begin with everything up to a version."""
        if self.watermark is FOREVER:
            self._acked_version = version

    def give_up(self) -> None:
        """Wait for nobody: what is not acknowledged is taken back."""
        self.watermark = FOREVER

    def hide_from(self, version: int) -> None:
        """Take note that what is as new as a version, or newer, is perhaps not held by all."""
        self.watermark = min(self.watermark, version - 1)

    def advance(self, holders: Sequence[Holder], *, version: int, latest: int | None) -> None:
        """Release who waits for nothing more. No holders: nobody is waited for.

        `version` is the latest that the batch just acknowledged may contain, `latest` the latest of
        all; None: more has changed that was not sent yet.
        """
        # Hot path: bench/ "pair16".
        ticket = min([holder.acked_ticket for holder in holders]) if holders else self.ticket
        if ticket >= self.ticket - 1 and latest is not None:
            self._acked_version = latest
            self.watermark = FOREVER
            ticket = self.ticket  # nor need who has changed nothing wait for the next batch
        elif self.watermark >= 0 and version > self.watermark and len(holders) == 1:
            self.watermark = version
        self.release(ticket)

    def release(self, ticket: int) -> None:
        """Release who waits for batches up to that one."""
        # Hot path: bench/ "pair16".
        held = self.held
        while held and held[0][0] <= ticket:
            self._let_go(held.popleft()[1])
        if ticket >= self.ticket and self.holding:
            holding, self.holding = self.holding, []
            self._let_go(holding)

    @staticmethod
    def _let_go(waiters: list[Waiter]) -> None:
        """Release all of these, whatever goes wrong with one of them."""
        # Hot path: bench/ "pair16".
        failure: Exception | None = None
        for waiter in waiters:
            try:
                waiter.released()
            except Exception as error:
                failure = error
                with suppress(Exception):
                    waiter.abandoned()
        if failure is not None:
            raise failure

    def take_held(self) -> list[Waiter]:
        """Return all whose replies are held, and hold them no more."""
        return [waiter for _, waiter in self.take_tickets()]

    def take_tickets(self) -> list[tuple[int, Waiter]]:
        """Do so; return for which batch each waits."""
        batches = [*self.held, (self.ticket, self.holding)]
        self.held.clear()
        self.holding = []
        return [(ticket, waiter) for ticket, waiters in batches for waiter in waiters]

    def check(self) -> None:
        """Raise AssertionError unless everybody waits for something. For tests."""
        before = 0
        for ticket, waiters in self.held:
            assert before <= ticket, "tickets out of order"
            assert waiters, "a batch is held for nobody"
            before = ticket
        assert before < self.ticket, "held for a batch that was not sent"
        if self.watermark is FOREVER:
            assert not before, "held, though all is acknowledged"
            assert not self.holding, "waits, though all is acknowledged"
