"""Group commit: whose reply is released when, and what may be read meanwhile."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from pymcd.replication.commits import NOTHING, Commits
from pymcd.replication.versions import FOREVER
from pymcd.replication.waiting import Nobody


class Client(Nobody):
    """Who waits for a reply."""

    def __init__(self, ticket: int = 0, latest: int = 0) -> None:
        self.ticket = ticket  #: of the batch that it must wait for
        self.latest = latest or ticket  #: of the one that it may be put to
        self.is_released = False

    def released(self) -> None:
        assert not self.is_released
        self.is_released = True


@dataclass
class Holder:
    """Who acknowledges batches."""

    acked_ticket: int = 0


def send(commits: Commits, version: int, *, ordinary: bool = True) -> int:
    """Send a batch with items up to a version."""
    ticket = commits.close_batch()
    commits.begin_batch(ordinary=ordinary)
    return ticket


class TestHolders:
    @pytest.mark.parametrize("count", [1, 2, 3])
    def test_a_reply_is_held_until_all_have_the_batch(self, count):
        commits, client = Commits(), Client()
        holders = [Holder() for _ in range(count)]
        commits.hold(client, changed=True)
        ticket = send(commits, 10)
        for holder in holders:
            commits.advance(holders, version=10, latest=10)
            assert not client.is_released
            holder.acked_ticket = ticket
        commits.advance(holders, version=10, latest=10)
        assert client.is_released
        assert commits.all_acked

    def test_where_nobody_is_to_hold_it_nobody_waits(self):
        commits, first, second = Commits(), Client(), Client()
        commits.hold(first, changed=True)
        send(commits, 10)
        commits.hold(second, changed=True)
        commits.advance((), version=10, latest=10)
        assert first.is_released
        assert second.is_released
        assert commits.all_acked

    def test_one_that_is_gone_is_not_waited_for(self):
        commits, client = Commits(), Client()
        quick, slow = Holder(), Holder()
        commits.hold(client, changed=True)
        quick.acked_ticket = send(commits, 10)
        commits.advance([quick, slow], version=10, latest=10)
        assert not client.is_released
        commits.advance([quick], version=10, latest=10)
        assert client.is_released

    def test_each_waits_for_his_own_batch(self):
        commits, holder = Commits(), Holder()
        clients = [Client() for _ in range(3)]
        for client in clients:
            commits.hold(client, changed=True)
            send(commits, 10)
        for count in range(4):
            holder.acked_ticket = count
            commits.advance([holder], version=10, latest=10)
            assert [client.is_released for client in clients] == [
                number < count for number in range(3)
            ]


class TestReaders:
    """Who reads what is on its way waits like its writer."""

    def test_for_the_last_batch_though_it_changes_nothing(self):
        commits, holder, writer, reader = Commits(), Holder(), Client(), Client()
        commits.hold(writer, changed=True)
        ticket = send(commits, 10)
        commits.hold(reader, changed=False)
        holder.acked_ticket = ticket
        commits.advance([holder], version=10, latest=10)
        assert reader.is_released

    def test_and_not_for_an_earlier_one(self):
        commits, holder, reader = Commits(), Holder(), Client()
        for _ in range(2):
            commits.hold(Client(), changed=True)
            send(commits, 10)
        commits.hold(reader, changed=False)
        holder.acked_ticket = 1
        commits.advance([holder], version=10, latest=10)
        assert not reader.is_released
        holder.acked_ticket = 2
        commits.advance([holder], version=10, latest=10)
        assert reader.is_released

    def test_nor_where_somebody_waits_for_that_one_only(self):
        commits, holder, reader = Commits(), Holder(), Client()
        commits.hold(Client(), changed=True)
        send(commits, 10)
        ticket = send(commits, 20)  # what another node asked for
        commits.hold(reader, changed=False)
        holder.acked_ticket = ticket - 1
        commits.advance([holder], version=10, latest=20)
        assert not reader.is_released
        holder.acked_ticket = ticket
        commits.advance([holder], version=20, latest=20)
        assert reader.is_released

    def test_if_nobody_waits_for_that_one_too(self):
        commits, holder, reader = Commits(), Holder(), Client()
        ticket = send(commits, 10)
        commits.hold(reader, changed=False)
        commits.advance([holder], version=0, latest=10)
        assert not reader.is_released
        holder.acked_ticket = ticket
        commits.advance([holder], version=10, latest=10)
        assert reader.is_released

    def test_not_for_what_is_gathered_after_them(self):
        commits, holder, reader, writer = Commits(), Holder(), Client(), Client()
        ticket = send(commits, 10)
        commits.hold(reader, changed=False)
        commits.hold_for_the_last()
        commits.hold(writer, changed=True)
        holder.acked_ticket = ticket
        commits.advance([holder], version=10, latest=None)
        assert reader.is_released
        assert not writer.is_released


class TestWatermark:
    def test_what_was_held_by_all_before_may_be_read(self):
        commits, holder = Commits(), Holder()
        commits.catch_up(10)
        send(commits, 12)
        assert commits.watermark == 10
        send(commits, 14)
        assert commits.watermark == 10
        holder.acked_ticket = 1
        commits.advance([holder], version=12, latest=14)
        assert commits.watermark == 12
        holder.acked_ticket = 2
        commits.advance([holder], version=14, latest=14)
        assert commits.watermark == FOREVER
        send(commits, 16)
        assert commits.watermark == 14

    def test_of_several_it_is_not_known_which_has_what(self):
        commits = Commits()
        first, second = Holder(), Holder()
        commits.catch_up(10)
        send(commits, 12)
        send(commits, 14)
        first.acked_ticket, second.acked_ticket = 2, 1
        commits.advance([first, second], version=14, latest=14)
        assert commits.watermark == 10

    def test_of_what_is_not_sent_yet_nothing_may_be_read(self):
        commits, holder = Commits(), Holder()
        commits.catch_up(10)
        holder.acked_ticket = send(commits, 12)
        commits.hold(Client(), changed=True)
        commits.advance([holder], version=12, latest=None)
        assert commits.watermark == 12

    def test_while_cas_uniques_do_not_tell_nothing_is_known(self):
        commits, holder = Commits(), Holder()
        commits.catch_up(10)
        send(commits, 12, ordinary=False)
        assert commits.watermark == NOTHING < 0
        holder.acked_ticket = send(commits, 14) - 1
        commits.advance([holder], version=12, latest=14)
        assert commits.watermark == NOTHING
        holder.acked_ticket += 1
        commits.advance([holder], version=14, latest=14)
        assert commits.all_acked

    def test_who_begins_with_everything_does_not_undo_that_others_wait(self):
        commits = Commits()
        commits.catch_up(10)
        send(commits, 12)
        commits.catch_up(12)
        assert commits.watermark == 10


class TestTakingBack:
    def test_all_who_wait_are_given_in_order(self):
        commits = Commits()
        clients = [Client() for _ in range(4)]
        commits.hold(clients[0], changed=True)
        commits.hold(clients[1], changed=True)
        send(commits, 10)
        commits.hold(clients[2], changed=False)
        commits.hold(clients[3], changed=True)
        assert commits.take_held() == clients
        assert commits.take_held() == []
        commits.check()

    def test_then_nobody_is_waited_for(self):
        commits = Commits()
        send(commits, 10)
        commits.give_up()
        assert commits.all_acked


@dataclass
class Write:
    """An item that was changed."""

    cas_unique: int
    ticket: int  #: of its batch


@dataclass
class ModelHolder(Holder):
    sent: list[int] = field(default_factory=list)  #: what is on its way to it


class CommitsMachine(RuleBasedStateMachine):
    """A coordinator as it is seen by its clients, beside a list of what it wrote.

    Of this model's writes and clients each knows its batch, and of each holder is known which it
    has: nothing else is needed to say who may be answered.
    """

    def __init__(self) -> None:
        super().__init__()
        self.commits = Commits()
        self.version = 1
        self.pending = False
        self.ordinary = True
        self.writes: list[Write] = []
        self.clients: list[Client] = []
        self.holders = [ModelHolder()]
        self.versions = {0: 0}  #: of each batch
        self.commits.catch_up(self.version)

    @property
    def acked(self) -> int:
        """The batch up to which all have everything."""
        last = self.commits.ticket - 1
        return min([holder.acked_ticket for holder in self.holders], default=last)

    def advance(self, version: int = 0) -> None:
        latest = None if self.pending else self.version
        self.commits.advance(self.holders, version=version, latest=latest)
        for client in self.clients:
            # Who waits for a batch that all have is released, and nobody before that.
            assert client.is_released or client.latest > self.acked
            assert not client.is_released or not self.holders or client.ticket <= self.acked
        self.clients = [client for client in self.clients if not client.is_released]

    @rule(ordinary=st.booleans(), waits=st.booleans())
    def write(self, ordinary: bool, waits: bool) -> None:
        """Change something, for a client or for another node."""
        self.version += 1
        cas_unique = self.version
        if not ordinary:  # a client chose it
            cas_unique = self.version // 2
            self.ordinary = False
        self.pending = True
        self.writes.append(Write(cas_unique, self.commits.ticket))
        if waits:
            client = Client(self.commits.ticket)
            self.clients.append(client)
            self.commits.hold(client, changed=True)
        self.commits.begin_batch(ordinary=ordinary)

    @precondition(lambda self: self.pending or not self.commits.all_acked)
    @rule()
    def read(self) -> None:
        """Read what is not acknowledged by all."""
        gathered = self.commits.ticket
        ticket = gathered if self.pending else gathered - 1
        client = Client(ticket, ticket if self.commits.held else gathered)
        self.clients.append(client)
        self.commits.hold(client, changed=self.pending)

    @rule()
    def send(self) -> None:
        """End a turn."""
        if self.pending:
            self.pending = False
            ticket = self.commits.close_batch()
            self.versions[ticket] = self.version
            for holder in self.holders:
                holder.sent.append(ticket)
            if self.holders:
                self.commits.begin_batch(ordinary=self.ordinary)
            self.ordinary = True
            if not self.holders:
                self.advance()
        elif self.commits.holding:
            self.commits.hold_for_the_last()
            self.advance()

    @precondition(lambda self: any(holder.sent for holder in self.holders))
    @rule(data=st.data())
    def acknowledge(self, data) -> None:
        holder = data.draw(st.sampled_from([each for each in self.holders if each.sent]))
        count = data.draw(st.integers(1, len(holder.sent)))
        holder.acked_ticket = holder.sent[count - 1]
        del holder.sent[:count]
        self.advance(self.versions[holder.acked_ticket])

    @precondition(lambda self: len(self.holders) > 1 or not self.pending)
    @rule(data=st.data())
    def lose(self, data) -> None:
        """Go on without one."""
        if self.holders:
            self.holders.remove(data.draw(st.sampled_from(self.holders)))
            self.advance()

    @precondition(lambda self: not self.pending and len(self.holders) < 3)
    @rule()
    def take_in(self) -> None:
        """One more is in sync: it has everything that was changed so far."""
        self.holders.append(ModelHolder(acked_ticket=self.commits.ticket - 1))
        self.commits.catch_up(self.version)

    @invariant()
    def nobody_is_answered_too_soon(self) -> None:
        for client in self.clients:
            assert not client.is_released

    @invariant()
    def what_may_be_read_is_held_by_all(self) -> None:
        if self.holders:
            for write in self.writes:
                if write.ticket > self.acked:
                    assert write.cas_unique > self.commits.watermark
        self.writes = [write for write in self.writes if write.ticket > self.acked]

    @invariant()
    def it_fits_together(self) -> None:
        self.commits.check()


TestCommits = CommitsMachine.TestCase


@given(st.lists(st.integers(0, 12), max_size=8))
def test_a_ticket_is_released_once_in_order(acks: list[int]):
    commits, holder = Commits(), Holder()
    order: list[int] = []

    class Ordered(Client):
        def released(self) -> None:
            super().released()
            order.append(self.ticket)

    for ticket in range(1, 9):
        commits.hold(Ordered(ticket), changed=True)
        commits.close_batch()
    for ack in acks:
        holder.acked_ticket = max(holder.acked_ticket, min(ack, 8))
        commits.advance([holder], version=0, latest=None)
        assert order == list(range(1, holder.acked_ticket + 1))
