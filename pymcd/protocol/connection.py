"""`Connection`: one client, without its socket.

The driver feeds `receive_data` and calls `run`, which executes commands and appends the
replies, in pieces, to `pieces`; values are referenced there, not copied. The driver takes the
pieces by `next_chunk`, sends them, and does not call `run` again before they are sent: a client
that does not read thereby stops its own commands. A driver in a hurry calls `respond` instead,
which often returns the reply at once.

A *run* is bounded: in commands, and in what these answer. Nothing here looks at a clock. What
larger values and reports weigh is noted in `weight`, and one that is `RUN_REPLY_BYTES` or more ends
the run; so what a client makes us hold for it is that, and one value.

What is said is read by a `Runner`, the command loop of one protocol: chosen by the first byte, or
by the settings; one for logins, a tracer, or that of a fake may come before it. What may be said is
in the `Tables` of the kind of connection; a login changes from one of them to another.

`source` is for answers longer than memory should hold (metadump): an iterator from which the
driver takes more once everything before is sent; no command runs meanwhile.
"""

from __future__ import annotations

from io import BytesIO
from typing import TYPE_CHECKING, Any, ClassVar, Final, NamedTuple, Protocol

from .. import limits
from . import binary
from .binary import REQUEST_MAGIC, run_binary
from .framing import refuse_value, run_text
from .login import run_login
from .text import VERBS, answer_plain
from .text import respond as respond_text
from .tokens import NO_MEMORY_REQUEST
from .underway import Holder

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from ..auth import Exchange
    from ..service import Service
    from ..store import Item
    from .arrival import Segmented
    from .framing import Awaited
    from .retrieval import Retrieval
    from .verbs import Command, Verb

    _Answerer = Callable[["Connection", bytes], "bytes | None"]

#: What weighs more is sent in chunks. Beside that there is what was too light to be counted.
JOINED_WEIGHT_MAX: Final = limits.REPLY_CHUNK_BYTES - limits.RUN_COMMANDS_MAX * (
    limits.LIGHT_VALUE_BYTES + limits.REPLY_LINE_MAX_BYTES
)
assert JOINED_WEIGHT_MAX < limits.LENT_VALUE_BYTES
#: What has arrived of a value that nobody awaits.
_NOTHING: Final = BytesIO()


class Runner(Protocol):
    """Executes buffered commands of one protocol, `budget` at most; True: there may be more."""

    def __call__(self, connection: Connection, budget: int, /) -> bool: ...


class Tables(NamedTuple):
    """The commands of one kind of connection. A login chooses among these and no others."""

    verbs: dict[bytes, Verb]
    commands: Sequence[Command]  #: of the binary protocol, where nobody logs in
    members: Sequence[Command]  #: after a login
    strangers: Sequence[Command]  #: before


def no_wake() -> None:
    """Stand in while no driver says how it is woken."""


class Connection(Holder):
    """The state of one client. Created by a driver, which sets what is known of the peer.

    It is the holder of what the client has sent and is not executed yet, as far as that is more
    than one read brings.
    """

    #: Nothing is executed or sent now: other servers are to be heard first. # paired.py
    waiting: bool = False
    tables: ClassVar = Tables(
        VERBS, binary.COMMANDS, binary.MEMBER_COMMANDS, binary.STRANGER_COMMANDS
    )
    #: The short way of the binary protocol, if there is one.
    answer_plain_binary: ClassVar[_Answerer | None] = staticmethod(binary.answer_plain)
    #: `respond`, for the text protocol.
    respond_text = respond_text

    __slots__ = (
        "address",
        "answer_plain",
        "arrived",
        "aside",
        "awaited",
        "awaited_bytes",
        "buffer",
        "cache",
        "close_reason",
        "closing",
        "commands",
        "commands_left",
        "delayed",
        "exchange",
        "expires_at",
        "id",
        "last_command_at",
        "last_words",
        "lent",
        "line",
        "listen_address",
        "login_spent",
        "pieces",
        "position",
        "refusal",
        "reply",
        "retrieval",
        "runner",
        "service",
        "source",
        "stranger_since",
        "suspend",
        "swallow_bytes",
        "transport",
        "verbs",
        "wake",
        "watching",
        "weight",
    )

    def __init__(
        self,
        service: Service,
        *,
        connection_id: int = 0,
        address: str = "",
        listen_address: str = "",
        transport: str = "tcp",
        protocol: str | None = None,
        trusted: bool = False,
    ) -> None:
        """`trusted`: it is one of our own, whatever logins are asked of others."""
        # A client of a server that replicates must not pass the gate by.
        assert trusted or service.gate is None or self.tables is not Connection.tables
        super().__init__()
        self.service = service
        self.cache = service.cache
        self.expires_at = service.cache.expiry.expires_at
        self.id = connection_id
        self.address = address  #: as `stats conns` shows it
        self.listen_address = listen_address
        self.transport = transport  #: "tcp", "udp" or "local"
        self.verbs: dict[bytes, Verb] = self.tables.verbs
        self.commands: Sequence[Command] = self.tables.commands
        self.runner: Runner = RUNNERS[protocol or service.settings.protocol]
        #: When it became known that there has been no login; None: none is needed any more.
        self.stranger_since: int | None = None
        self.exchange: Exchange | None = None  #: a login of several steps, under way
        self.login_spent = False  #: a login succeeded, and the next one is to fail for that
        self.aside = False  #: something is done aside for this client, and no more is read of it
        self.delayed = False  #: so it is, or the answer to a failed login is being delayed
        if service.host.authenticator is not None and not trusted:
            self.stranger_since = service.cache.now
            if service.settings.enable_sasl:
                self.commands = self.tables.strangers
                self.runner = run_binary
            else:
                self.runner = run_login
        self.buffer = b""  #: received; commands before `position` are done
        self.position = 0
        #: A command whose value is on its way, how much of that is missing, and what is there.
        self.awaited: Awaited | None = None
        self.awaited_bytes = 0
        self.arrived: Segmented | BytesIO = _NOTHING
        #: Nothing is half done: answers the next data, if they are one whole command, and usual.
        self.answer_plain: _Answerer | None = None
        #: The rest of a get of many keys, which comes before what is in the buffer.
        self.retrieval: Retrieval | None = None
        #: A line without end as yet that is longer than most: all of it, `buffer` has the start.
        self.line: Segmented | None = None
        self.swallow_bytes = 0  #: of a value that was refused, still to be thrown away
        self.refusal = b""  #: what is said then
        self.pieces: list[bytes] = []
        self.reply: Callable[[bytes], None] = self.pieces.append
        #: Of what `pieces` hold, as far as it is not light, in bytes.
        self.weight = 0
        #: Large values in `pieces`, each with the item that had it.
        self.lent: list[tuple[Item, bytes]] = []
        self.source: Iterator[bytes] | None = None
        self.wake: Callable[[], None] = no_wake  #: tells the driver that pieces appeared
        #: Tells the driver not to read from this client until it is woken.
        self.suspend: Callable[[], object] = no_wake
        self.commands_left = 0  #: of those that `-R` allows; 0: all
        self.closing = False
        self.close_reason = "normal"
        self.last_words = ""  #: for the log, behind the replies
        self.watching = False  #: turned into a stream of log lines by `watch`
        self.last_command_at = service.cache.now

    def receive_data(self, data: bytes) -> None:
        """Take what arrived; nothing is executed."""
        if self.awaited_bytes:
            self._receive_value(data)
        elif self.position == len(self.buffer):
            self.buffer = data
            self.position = 0
        elif self.line is not None:
            self._extend_line(self.line, data)
        else:
            self.buffer = self.buffer[self.position :] + data
            self.position = 0

    def _receive_value(self, data: bytes) -> None:
        """Take more of the awaited value, and perhaps of what is behind it."""
        missing_bytes = self.awaited_bytes
        more_bytes = min(len(data), missing_bytes)
        if self.arrived is _NOTHING:
            self.arrived = self.service.segments.room_for(missing_bytes)
        try:
            if self.service.under_way.charge(self, self.arrived.tell() + more_bytes):
                self.arrived.write(data if more_bytes == len(data) else data[:more_bytes])
                self.awaited_bytes = missing_bytes - more_bytes
            else:
                self.give_up()
        except MemoryError:
            self.give_up()
        if self.awaited is None:
            self.receive_data(data)
        elif more_bytes < len(data):
            self.buffer = data[more_bytes:]
            self.position = 0

    def give_up(self) -> None:
        """Drop what was not executed yet: a value is refused, anything else ends all."""
        if self.awaited is not None:
            _, _, refusal, end_bytes = self.awaited
            refuse_value(self, self.awaited_bytes + end_bytes, refusal)
            self.forget_value()
        else:
            self.forget_input()
            self.close()
            self.wake()

    def _count_line(self) -> None:
        """Count what there is of a command that is not whole, if that is more than most are."""
        if self.awaited is not None or self.closing or self.waiting:
            return
        left_bytes = len(self.buffer) - self.position if self.line is None else self.line.tell()
        if left_bytes <= limits.LINE_MAX_BYTES:
            self.service.under_way.release(self)
        elif not self.service.under_way.charge(self, left_bytes):
            # memcached: try_read_network
            self.refuse(NO_MEMORY_REQUEST)
            self.forget_input()
            self.close()

    def forget_value(self) -> None:
        """Await no value any more, and keep nothing of it."""
        self.awaited = None
        self.awaited_bytes = 0
        if self.arrived is not _NOTHING:
            self.arrived.close()
            self.arrived = _NOTHING
        self.service.under_way.release(self)

    def forget_input(self) -> None:
        """Keep nothing of what was received."""
        self.forget_value()
        self.buffer = b""
        self.position = 0
        if self.line is not None:
            self.line.close()
            self.line = None

    def gather_line(self) -> None:
        """Have more of an endless line come to what there is without a copy of all for each piece.

        In memory like that of values: there may be as many, as long.
        """
        line = self.service.segments.room()
        try:
            line.write(self.buffer[self.position :])
        except MemoryError:
            line.close()
            return
        self.line = line
        self.buffer = self.buffer[self.position : self.position + limits.LINE_MAX_BYTES + 1]
        self.position = 0

    def _extend_line(self, line: Segmented, data: bytes) -> None:
        """Take more of it, up to its end or what is too much."""
        try:
            line.write(data)
        except MemoryError:
            self.forget_input()
            self.close("error")
            return
        if b"\n" in data or line.tell() > limits.GET_LINE_MAX_BYTES:
            self.buffer = line.getvalue()
            self.position = 0
            line.close()
            self.line = None

    def respond(self, data: bytes) -> bytes | None:
        """Take what arrived and return what to send: `receive_data` and `run` in one.

        The requests that are most of all traffic are answered by `answer_plain`, each protocol's
        own; everything else takes the general path. None: the driver must look closer, as replies
        are left in `pieces`, or there is more to be done.
        """
        # Hot path: bench/ "get16", "set16".
        self.last_command_at = self.cache.now
        answer = self.answer_plain
        if answer is not None and self.service.plain:
            reply = answer(self, data)
            if reply is not None or self.pieces:
                return reply
        return self.execute(data)

    def execute(self, data: bytes) -> bytes | None:
        """Do what `respond` does, by the general path."""
        self.receive_data(data)
        more = self.run()
        pieces = self.pieces
        if (
            more
            or self.weight > JOINED_WEIGHT_MAX
            or (
                self.answer_plain is None
                and (self.closing or self.source is not None or self.watching)
            )
        ):
            return None
        reply = b"".join(pieces)
        pieces.clear()
        return reply

    @property
    def responder(self) -> Callable[[bytes], bytes | None]:
        """`respond`, or what does the same in less time, as this client is known by now."""
        if self.answer_plain is answer_plain and type(self).respond is Connection.respond:
            return self.respond_text
        return self.respond

    def run(self) -> bool:
        """Execute what is complete, a bounded part of it; True: call again, more may be there.

        Replies are appended to `pieces`. After `closing` nothing more is executed.
        """
        self.answer_plain = None
        self.weight = 0
        if self.lent:
            self.lent.clear()
        if self.closing or self.source is not None:
            return False
        if self.watching:  # what a watcher says is not kept, let alone executed
            self.buffer = b""
            self.position = 0
            return False
        if self.delayed:
            if len(self.buffer) - self.position > limits.LOGIN_MAX_BYTES and not self.aside:
                self.close("error")
            return False
        budget = self.service.reqs_per_event
        if budget <= limits.RUN_COMMANDS_MAX:
            more = self.runner(self, budget)
        else:
            more = self._run_part(budget)
        if (
            self.position == len(self.buffer)
            and self.awaited is None
            and not self.closing
            and self.source is None
            and not self.watching
            and self.retrieval is None
        ):
            self.buffer = b""  # a client that rests keeps no memory
            self.position = 0
            if self.held_bytes:
                self.service.under_way.release(self)
            if self.swallow_bytes:
                pass
            elif self.runner is run_text:
                self.answer_plain = answer_plain
            elif self.runner is run_binary and self.commands is not self.tables.strangers:
                self.answer_plain = type(self).answer_plain_binary
        elif not more and (
            self.held_bytes or len(self.buffer) - self.position > limits.LINE_MAX_BYTES
        ):
            self._count_line()
        return more

    def _run_part(self, budget: int) -> bool:
        """Execute as many commands as one run may have, where `-R` allows for more."""
        counters = self.service.counters
        yields = counters.conn_yields
        left = self.commands_left or budget
        part = min(left, limits.RUN_COMMANDS_MAX)
        more = self.runner(self, part)
        self.commands_left = 0
        if counters.conn_yields > yields:  # the part was used up
            self.commands_left = left - part
            if self.commands_left:
                counters.conn_yields = yields
        return more

    @property
    def silent(self) -> bool:
        """The client has said nothing yet; not known where the protocol is a given one."""
        return self.runner is negotiate and not self.buffer

    def become_stranger(self) -> None:
        """Have this client log in, whoever it was."""
        if self.stranger_since is None:
            self.stranger_since = self.cache.now
        self.commands = self.tables.strangers

    def become_member(self) -> None:
        """Take note of a login."""
        self.stranger_since = None
        self.commands = self.tables.members

    def refuse(self, reply: bytes) -> None:
        """Answer what is no command, or a command that is not whole."""
        self.reply(reply)

    def drop(self, key: bytes) -> None:
        """Have the old value go of a key, as a new one was refused and is to be thrown away."""
        self.cache.drop(key)

    def log_in(self, exchange: Exchange, said: Any, done: Callable[[bytes | None], None]) -> None:
        """Have an exchange take what the client said, and tell `done` what `Exchange.step` returns.

        Work that there is for it is done aside.
        """
        outcome = exchange.step(said)
        if callable(outcome):
            self.do_aside(outcome, lambda result: self.log_in(exchange, result, done))
        else:
            done(outcome)

    def do_aside(self, work: Callable[[], Any], done: Callable[[Any], None]) -> None:
        """Have work done while others are served, and `done` told what came of it.

        Nothing more of this client is read or executed meanwhile. It is closed if the work fails.
        """

        def go_on(result: Any) -> None:
            self.delayed = self.aside = False
            if self.closing:
                return
            try:
                if result is None:
                    self.close("error")
                else:
                    done(result)
            except Exception:
                self.close("error")
                raise
            finally:
                self.wake()

        self.delayed = self.aside = True
        self.fill_run()
        self.suspend()
        self.service.host.do_aside(work, go_on)

    def refuse_login(self, reply: bytes) -> None:
        """Answer a failed login, after the delay there is to be; nothing is executed before."""
        delay_s = self.service.settings.login_failure_delay_s
        if not delay_s:
            self.reply(reply)
            return

        def answer() -> None:
            self.delayed = False
            if not self.closing:
                self.reply(reply)
                self.wake()

        self.delayed = True
        self.fill_run()
        self.service.host.call_later(delay_s, answer)

    @property
    def has_more(self) -> bool:
        """Whether there is something left that the next run may execute."""
        if self.closing or self.source is not None or self.watching or self.waiting or self.delayed:
            return False
        return self.retrieval is not None or self.position < len(self.buffer)

    def fill_run(self) -> None:
        """Have the run end with the command that is executed now: it was a long one."""
        self.weight += limits.RUN_REPLY_BYTES

    def answer_from(self, source: Iterator[bytes]) -> None:
        """Have a command answered piece by piece; what comes behind it waits."""
        self.source = source
        self.fill_run()

    def next_chunk(
        self,
        most_bytes: int = limits.REPLY_CHUNK_BYTES,
        most_uncopied_bytes: int = limits.REPLY_CHUNK_BYTES,
    ) -> bytes | memoryview | None:
        """Take the next part of what is to be sent; None: there is nothing now.

        At most so many bytes, but a part of a source comes whole. Pieces are joined, but what is a
        chunk by itself, or a part of a larger piece, is not copied. When all pieces are gone the
        source is asked, and forgotten when it has ended.
        """
        pieces = self.pieces
        if not pieces:
            chunk = None if self.source is None else next(self.source, None)
            if chunk is None:
                self.source = None
            return chunk
        if len(pieces[0]) > most_bytes:
            large = memoryview(pieces[0])
            cut = min(most_uncopied_bytes, len(large) - 1)
            pieces[0] = large[cut:]  # type: ignore[call-overload]  # can be joined like bytes
            return large[:cut]
        room = most_bytes
        end = 0
        for piece in pieces:
            if len(piece) > room:
                break
            room -= len(piece)
            end += 1
        taken: list[bytes | memoryview] = [*pieces[:end]]
        if room and end < len(pieces):
            large = memoryview(pieces[end])
            taken.append(large[:room])
            pieces[end] = large[room:]  # type: ignore[call-overload]  # can be joined like bytes
        del pieces[:end]
        if pieces:
            return taken[0] if len(taken) == 1 else b"".join(taken)
        self.lent.clear()
        return bytes(taken[0]) if len(taken) == 1 else b"".join(taken)  # no view: it holds all

    def unread_bytes(self, unsent_bytes: int) -> int:
        """Return what this client takes of memory as long as it does not read.

        With what was taken already and is unsent. What is an item still costs nothing.
        """
        lent = freed = 0
        for item, value in self.lent:
            if item.value is value and item.linked:
                lent += len(value)
            else:
                freed += len(value)
        pending = unsent_bytes + sum(map(len, self.pieces)) - lent - freed
        # What has arrived of a value or a line is counted by itself.
        return max(0, pending) + freed + max(0, len(self.buffer) - self.held_bytes)

    def close(self, reason: str = "normal", words: str = "") -> None:
        """Have the driver close, once what was replied is sent; with `words` for the log of -v."""
        self.fill_run()
        self.closing = True
        self.close_reason = reason
        self.last_words = words


def negotiate(connection: Connection, budget: int, /) -> bool:
    """Choose the protocol by the first byte, then run it."""
    if not connection.buffer:
        return False
    runner: Runner = run_binary if connection.buffer[0] == REQUEST_MAGIC else run_text
    connection.runner = runner
    return runner(connection, budget)


#: By the words of `-B`.
RUNNERS: Final[dict[str, Runner]] = {
    "auto": negotiate,
    "ascii": run_text,
    "binary": run_binary,
}
