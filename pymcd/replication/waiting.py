"""Who waits in a group of servers, and for what: clients' connections, and what stands for them."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

#: Of what others executed for one peer so many replies are remembered at least, and as many as this
#: memory has room for: each client of the peer may wait for one.
REMEMBERED_MIN: Final = 256
REMEMBERED_BYTES: Final = 8 << 20
#: What a reply takes beside its bytes.
REMEMBERED_EACH_BYTES: Final = 256


#: Whole commands; in pieces where any of them is large. And the replies to them.
Commands = bytes | tuple[bytes, ...]
Reply = bytes | tuple[bytes, ...]
#: In place of a reply: something went wrong while commands were executed. They may have been, and
#: must not be once more; whoever asked is parted from.
UNKNOWN: Final[Reply] = ()


def bytes_of(said: Commands | Reply) -> int:
    """Return how long commands are, or replies."""
    return len(said) if isinstance(said, bytes) else sum(map(len, said))


class Waiter(Protocol):
    """A connection whose commands wait. Called from within the core: it must not call back."""

    @property
    def held_request(self) -> Commands:
        """The commands, whole; empty: they cannot be executed again."""
        ...

    @property
    def held_protocol(self) -> str:
        """Of the commands: "text" or "binary"."""
        ...

    def released(self) -> None:
        """What was executed may be answered."""

    def answered(self, reply: Reply) -> None:
        """This is the reply to what was forwarded, or executed again."""

    def resumed(self) -> None:
        """Try again what could not be executed yet."""

    def abandoned(self) -> None:
        """End, unanswered: nothing of what waits will be executed."""

    def staged(self) -> None:
        """Go on: the others have the value, or nobody has to have it."""


class Nobody:
    """Stands for who does not wait for the reply."""

    held_request = b""
    held_protocol = ""

    def released(self) -> None:
        """Nobody asked."""

    def answered(self, reply: Reply) -> None:
        """Nobody asked."""

    def resumed(self) -> None:
        """Nobody asked."""

    def abandoned(self) -> None:
        """Nobody asked."""

    def staged(self) -> None:
        """Nobody asked."""


@dataclass(slots=True)
class Forward:
    """Commands that another node is to execute for a client of ours."""

    number: int
    protocol: str
    commands: Commands
    waiter: Waiter
    #: When they were asked for; as soon as they are sent, when that was first done: what the other
    #: one has heard of us before says nothing of them.
    since: float
    #: They were executed here before, and that may stand yet.
    in_doubt: bool = False
    sent: bool = False


class Executed:
    """Requests that were executed here for one peer, until it knows the results: only once each."""

    def __init__(self) -> None:
        self.results: list[tuple[int, Reply]] = []  #: number and reply, to be sent
        self.replies: dict[int, Reply] = {}  #: ... that it perhaps has not got
        self.executing: set[int] = set()  #: the reply waits for the other followers
        self.sending = False  #: there is a channel to send results on
        #: It will ask again on that channel for what it asked before, up to that number, and
        #: perhaps has it: what it acknowledges may overtake that. 0: no more.
        self.repeats_up_to = 0
        #: Of those that others have sent, in order: number and bytes. Some may be gone.
        self._remembered: deque[tuple[int, int]] = deque()
        self._remembered_bytes = 0

    def finish(self, number: int, reply: Reply) -> None:
        """Have a result sent, now that it may be."""
        # The peer may have left meanwhile, or have come again and be asking for it a second time.
        self.replies[number] = reply
        self.executing.discard(number)
        if self.sending:
            self.results.append((number, reply))

    def amend(self, number: int, reply: Reply) -> None:
        """Put the reply in place of what was to be sent last."""
        self.replies[number] = reply
        if self.sending:
            self.results[-1] = number, reply

    def remember(self, number: int, reply: Reply) -> None:
        """Keep the result of what another node executed for the peer: it may turn to us instead."""
        self.replies[number] = reply
        remembered = self._remembered
        remembered.append((number, REMEMBERED_EACH_BYTES + bytes_of(reply)))
        self._remembered_bytes += remembered[-1][1]
        while len(remembered) > REMEMBERED_MIN and self._remembered_bytes > REMEMBERED_BYTES:
            oldest, freed_bytes = remembered.popleft()
            self._remembered_bytes -= freed_bytes
            self.replies.pop(oldest, None)

    def heard(self, results: Iterable[tuple[int, Reply]]) -> None:
        """Forget what the peer has, but for what it is about to repeat."""
        for number, _ in results:
            if number > self.repeats_up_to:
                self.replies.pop(number, None)

    def take_results(self) -> list[tuple[int, Reply]]:
        """Take what is to be sent."""
        results, self.results = self.results, []
        return results

    def begin(self) -> None:
        """There is a new channel."""
        self.repeats_up_to = 0
        self.results.clear()
        self.sending = True

    def end(self, unacked: Iterable[list[tuple[int, Reply]] | None]) -> None:
        """The channel is given up: remember what was perhaps not received."""
        for results in unacked:
            self.replies.update(results or ())
        self.replies.update(self.results)
        self.results.clear()
        self.sending = False


class Postponed(Nobody):
    """A forwarded request, waiting for the lease of who is to execute it."""

    __slots__ = ("_again", "_executed", "_failed", "_number")

    def __init__(
        self,
        executed: Executed,
        number: int,
        again: Callable[[], None],
        failed: Callable[[Exception], None],
    ) -> None:
        self._executed = executed
        self._number = number
        self._again = again
        self._failed = failed

    def resumed(self) -> None:
        self._executed.executing.discard(self._number)
        try:
            self._again()
        except Exception as error:
            self._failed(error)


class Result(Nobody):
    """The reply to a forwarded request, waiting for the other followers."""

    __slots__ = ("_executed", "_number", "reply")

    def __init__(self, executed: Executed, number: int, reply: Reply = UNKNOWN) -> None:
        self._executed = executed
        self._number = number
        self.reply = reply

    def released(self) -> None:
        self._executed.finish(self._number, self.reply)

    def abandoned(self) -> None:
        self.released()  # it was executed, and must not be once more
