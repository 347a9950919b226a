"""Who waits in a group of servers, and for what: clients' connections, and what stands for them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from .peer import Peer


class Waiter(Protocol):
    """A connection whose commands wait. Called from within the core: it must not call back."""

    @property
    def held_request(self) -> bytes:
        """The commands, whole; empty: they cannot be executed again."""
        ...

    @property
    def held_protocol(self) -> str:
        """Of the commands: "text" or "binary"."""
        ...

    def released(self) -> None:
        """What was executed may be answered."""

    def answered(self, reply: bytes) -> None:
        """This is the reply to what was forwarded, or executed again."""

    def resumed(self) -> None:
        """Try again what could not be executed yet."""

    def abandoned(self) -> None:
        """End, unanswered: nothing of what waits will be executed."""


class Nobody:
    """Stands for who does not wait for the reply."""

    held_request = b""
    held_protocol = ""

    def released(self) -> None:
        """Nobody asked."""

    def answered(self, reply: bytes) -> None:
        """Nobody asked."""

    def resumed(self) -> None:
        """Nobody asked."""

    def abandoned(self) -> None:
        """Nobody asked."""


class Result(Nobody):
    """The reply to a forwarded request, waiting for the other followers."""

    __slots__ = ("number", "peer", "reply")

    def __init__(self, peer: Peer, number: int, reply: bytes) -> None:
        self.peer = peer
        self.number = number
        self.reply = reply

    def released(self) -> None:
        self.peer.executing.discard(self.number)
        # It may have left meanwhile, or have come again and be asking for it a second time.
        self.peer.executed[self.number] = self.reply
        if self.peer.channel is not None:
            self.peer.results.append((self.number, self.reply))

    def abandoned(self) -> None:
        self.released()  # it was executed, and must not be once more


class Answer(Nobody):
    """The reply to commands that were executed again, waiting for the followers."""

    __slots__ = ("reply", "waiter")

    def __init__(self, waiter: Waiter, reply: bytes, protocol: str, commands: bytes) -> None:
        self.waiter = waiter
        self.reply = reply
        self.held_protocol = protocol
        self.held_request = commands

    def released(self) -> None:
        self.waiter.answered(self.reply)

    def answered(self, reply: bytes) -> None:
        self.waiter.answered(reply)

    def abandoned(self) -> None:
        self.waiter.abandoned()


class Forward:
    """Commands that another node is to execute for a client of ours."""

    __slots__ = ("commands", "number", "protocol", "since", "waiter")

    def __init__(
        self, number: int, protocol: str, commands: bytes, waiter: Waiter, since: float
    ) -> None:
        self.number = number
        self.protocol = protocol
        self.commands = commands
        self.waiter = waiter
        self.since = since
