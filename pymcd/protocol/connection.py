"""`Connection`: one client, without its socket.

The driver feeds `receive_data` and calls `run`, which executes commands and appends the
replies, in pieces, to `pieces`; values are referenced there, not copied. The driver takes the
pieces, sends them, and does not call `run` again before they are sent: a client that does not
read thereby stops its own commands. Which protocol is spoken is decided by the first byte.

`source` is for answers longer than memory should hold (metadump): an iterator from which the
driver takes more once everything before is sent; no command runs meanwhile.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, Protocol

from .framing import run_text
from .text import VERBS

if TYPE_CHECKING:
    from .framing import Verb
    from .service import Service


class Runner(Protocol):
    """Executes buffered commands of one protocol, `budget` at most; True: there may be more."""

    def __call__(self, connection: Connection, budget: int, /) -> bool: ...


def _no_wake() -> None:
    """Stand in until a driver says how it is woken."""


class Connection:
    """The state of one client. Created by a driver, which sets what is known of the peer."""

    __slots__ = (
        "address",
        "awaited",
        "awaited_bytes",
        "awaited_chunks",
        "buffer",
        "cache",
        "close_reason",
        "closing",
        "id",
        "last_command_at",
        "listen_address",
        "pieces",
        "position",
        "reply",
        "runner",
        "service",
        "source",
        "swallow_bytes",
        "transport",
        "verbs",
        "wake",
        "watching",
    )

    def __init__(
        self,
        service: Service,
        *,
        connection_id: int = 0,
        address: str = "",
        listen_address: str = "",
        transport: str = "tcp",
    ) -> None:
        self.service = service
        self.cache = service.cache
        self.id = connection_id
        self.address = address  #: as `stats conns` shows it
        self.listen_address = listen_address
        self.transport = transport  #: "tcp", "udp" or "local"
        self.verbs: dict[bytes, Verb] = VERBS
        self.runner: Runner = negotiate
        self.buffer = b""  #: received; commands before `position` are done
        self.position = 0
        #: A storage command whose value is on its way: verb, decoded header; and the pieces.
        self.awaited: tuple[Verb, tuple[Any, ...]] | None = None
        self.awaited_bytes = 0
        self.awaited_chunks: list[bytes] = []
        self.swallow_bytes = 0  #: of a value that was refused, still to be thrown away
        self.pieces: list[bytes] = []
        self.reply: Callable[[bytes], None] = self.pieces.append
        self.source: Iterator[bytes] | None = None
        self.wake: Callable[[], None] = _no_wake  #: tells the driver that pieces appeared
        self.closing = False
        self.close_reason = "normal"
        self.watching = False  #: turned into a stream of log lines by `watch`
        self.last_command_at = service.cache.now

    def receive_data(self, data: bytes) -> None:
        """Take what arrived; nothing is executed."""
        if self.awaited is not None:
            self.awaited_chunks.append(data)
            self.awaited_bytes -= len(data)
        elif self.position == len(self.buffer):
            self.buffer = data
            self.position = 0
        else:
            self.buffer = self.buffer[self.position :] + data
            self.position = 0

    def run(self) -> bool:
        """Execute what is complete, `-R` commands at most; True: call again, more may be there.

        Replies are appended to `pieces`. After `closing` nothing more is executed.
        """
        if self.closing or self.source is not None or self.watching:
            return False
        return self.runner(self, self.service.reqs_per_event)

    def close(self, reason: str = "normal") -> None:
        """Have the driver close, once what was replied is sent."""
        self.closing = True
        self.close_reason = reason


def negotiate(connection: Connection, budget: int, /) -> bool:
    """Choose the protocol by the first byte, then run it."""
    if not connection.buffer:
        return False
    connection.runner = run_text
    return run_text(connection, budget)
