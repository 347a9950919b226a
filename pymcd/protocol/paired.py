"""A client of a server that is one of several: its commands may have to go elsewhere, or wait.

`PairedConnection` is a `Connection` that asks the gate, which stands before the cache in a group.
Is this the node that decides? Then commands are executed as ever, and the reply waits until the
others hold what they changed, or what they read and is still on its way. Is it not? Then what would
change something is cut out whole and forwarded, as the client sent it, and what only reads is
answered here. May nothing be answered yet? Then it all waits. Meanwhile nothing more is executed
for that client; everybody else goes on.

How: in place of the tables of commands, tables with the same commands in wrappers, chosen by the
effect that stands in each row. They note what is executed, or collect it instead; so one forward
carries as many commands as came together. Commands about this very server are executed here, after
what came before them is answered.
"""

from __future__ import annotations

from copy import copy
from dataclasses import replace
from io import BytesIO
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from .. import limits
from .binary import (
    COMMANDS,
    DELETEQ,
    REQUEST_MAGIC,
    RESPONSE_MAGIC,
    Request,
    encode_error,
    encode_pieces,
    encode_request,
)
from .connection import JOINED_WEIGHT_MAX, Connection, Tables
from .retrieval import are_short, give_up, postpone, shorten
from .text import STORED, answer_plain
from .verbs import FIRST_KEYS, LOCAL, READS, WRITES, Command, Effect, Verb

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..replication.gate import Gate
    from ..replication.waiting import Commands, Reply
    from ..service import Service
    from .verbs import type_Effect, type_Header

_MAGIC: Final = bytes([REQUEST_MAGIC])
_RESPONSE: Final = bytes([RESPONSE_MAGIC])
_END: Final = b"END\r\n"


# -- commands in wrappers ----------------------------------------------------------------------

NOT_REPLICATED: Final = (
    b"SERVER_ERROR not replicated: no peer acknowledges (--replication-ack strict)\r\n"
)
NO_QUORUM: Final = b"SERVER_ERROR no quorum: too few of the nodes and the witness are there\r\n"
#: memcached's number for a temporary failure.
_NOT_REPLICATED: Final = 0x86
_NOT_REPLICATED_TEXT: Final = b"Not replicated: no peer"
_NO_QUORUM_TEXT: Final = b"No quorum"


class _Form(NamedTuple):
    """What differs by protocol, for one command: words, or a request."""

    encode: Callable[[Any], tuple[bytes, ...]]  #: as a client would send it, in pieces
    keys: Callable[[Any], list[bytes]]
    #: Have what is forwarded in one run be answered by no more than one run's replies.
    limit: Callable[[PairedConnection, Any], None]
    postpone: Callable[[PairedConnection, Any], None]  #: until what came before it is answered
    refuse: Callable[[PairedConnection, Any], None]  #: to change anything


def _wrap(
    execute: Callable[..., None], effect: type_Effect, form: _Form, *, tells: bool = False
) -> Callable[..., None]:
    """Return what takes the place of a command's handler.

    `tells`: by the answer others see whether this server is of use, such as a load balancer.
    """
    encode, keys, limit, postpone, refuse = form

    def read(connection: PairedConnection, command: Any) -> None:
        gate = connection.gate
        if connection.following:
            if not (
                connection.batch
                or gate.stance.remote
                or (gate.unstable and gate.is_unstable(keys(command)))
            ):
                execute(connection, command)
            elif not gate.stance.refusing:
                limit(connection, command)
                connection.batch += encode(command)
            elif keys(command):
                refuse(connection, command)
            else:  # it only says that all before it was answered: to wait for that must not be vain
                execute(connection, command)
        elif gate.unheld and gate.is_unheld(keys(command)):
            refuse(connection, command)
        else:
            execute(connection, command)  # which may leave some of its keys for later
            connection.batch += encode(command)

    def write(connection: PairedConnection, command: Any) -> None:
        if connection.gate.stance.refusing:
            refuse(connection, command)
            return
        if connection.following:
            limit(connection, command)
        else:
            execute(connection, command)
        connection.batch += encode(command)

    def stay(connection: PairedConnection, command: Any) -> None:
        stance = connection.gate.stance
        if connection.has_unanswered:
            postpone(connection, command)
        elif tells and stance.remote and stance.refusing:
            refuse(connection, command)
        else:
            execute(connection, command)
            connection.end_batch()

    handlers = {READS: read, WRITES: write, LOCAL: stay}
    if isinstance(effect, Effect):
        return handlers[effect]

    def look(connection: PairedConnection, command: Any) -> None:
        if connection.following or connection.gate.stance.refusing:
            handlers[effect(connection.cache, command)](connection, command)
        else:  # it is executed here, whatever it does
            read(connection, command)

    return look


def _line(tokens: list[bytes]) -> bytes:
    return b" ".join(tokens) + b"\r\n"


def _encode_line(tokens: list[bytes]) -> tuple[bytes, ...]:
    # Hot path: bench/ "pairread16".
    return (b" ".join(tokens) + b"\r\n",)


def _postpone_line(connection: PairedConnection, tokens: list[bytes]) -> None:
    connection.buffer = _line(tokens) + connection.buffer[connection.position :]
    connection.position = 0
    connection.waiting = True  # ends this run; at its end it becomes clear what for


def _weigh(connection: PairedConnection, keys: list[bytes]) -> int:
    """Return how many keys may be forwarded, by what their values weigh here, and note that."""
    for number, key in enumerate(keys, 1):
        item = connection.cache.linked(key)
        if item is not None and len(item.value) > limits.LIGHT_VALUE_BYTES:
            connection.weight += len(item.value)
            if connection.weight >= limits.RUN_REPLY_BYTES:
                return number
    return len(keys)


def _refusal(connection: PairedConnection) -> bytes:
    """Return why nothing may be changed, or nothing be done at all."""
    return NO_QUORUM if connection.gate.stance.remote else NOT_REPLICATED


def _wrap_verb(verb: Verb, *, tells: bool) -> Verb:
    def refuse(connection: PairedConnection, tokens: list[bytes]) -> None:
        give_up(connection)
        if not verb.is_quiet(tokens):
            connection.reply(_refusal(connection))

    def limit(connection: PairedConnection, tokens: list[bytes]) -> None:
        first = FIRST_KEYS.get(verb.keys)
        if first is not None:
            shorten(connection, tokens, first)
        keys = verb.keys(tokens)
        number = _weigh(connection, keys)
        if number < len(keys) and first is not None and are_short(tokens):
            postpone(connection, tokens, first, keys[number:])

    if verb.handler is not None:
        form = _Form(_encode_line, verb.keys, limit, _postpone_line, refuse)
        return replace(verb, handler=_wrap(verb.handler, verb.effect, form, tells=tells))
    read, keep = verb.decode, verb.store
    assert read is not None
    assert keep is not None
    assert verb.effect is WRITES

    def decode(connection: PairedConnection, tokens: list[bytes]) -> type_Header | None:
        said = len(connection.pieces)
        header = read(connection, tokens)
        if header is not None:
            connection.request_line = _line(tokens)
        else:
            connection.keep_place(said)
        return header

    def store(connection: PairedConnection, header: type_Header, block: bytes) -> None:
        if connection.gate.stance.refusing:
            if header[1] is not True:
                connection.reply(_refusal(connection))
            return
        connection.batch += (connection.request_line, block, b"\r\n")
        if not connection.following:
            keep(connection, header, block)

    return replace(verb, decode=decode, store=store)


def _postpone_request(connection: PairedConnection, request: Request) -> None:
    connection.position -= len(encode_request(request))
    connection.waiting = True


def _binary_refusal(connection: PairedConnection, opcode: int, opaque: bytes) -> bytes:
    text = _NO_QUORUM_TEXT if connection.gate.stance.remote else _NOT_REPLICATED_TEXT
    return encode_error(opcode, _NOT_REPLICATED, opaque, text)


def _refuse_request(connection: PairedConnection, request: Request) -> None:
    connection.reply(_binary_refusal(connection, request.command.opcode, request.opaque))


def _limit_request(connection: PairedConnection, request: Request) -> None:
    _weigh(connection, [request.key])


def _keys_of_request(request: Request) -> list[bytes]:
    return [request.key] if request.key else []


_BINARY: Final = _Form(
    encode_pieces, _keys_of_request, _limit_request, _postpone_request, _refuse_request
)


def _wrap_command(command: Command) -> Command:
    check = command.check

    def check_value(connection: PairedConnection, request: Request, value_bytes: int) -> bool:
        said = len(connection.pieces)
        assert check is not None
        if check(connection, request, value_bytes):
            return True
        connection.keep_place(said)
        return False

    wrapped = copy(command)
    tells = command.name == "version"
    wrapped.handler = _wrap(command.handler, command.effect, _BINARY, tells=tells)
    wrapped.check = None if check is None else check_value
    wrapped.plain = False
    return wrapped


def _wrap_tables(tables: Tables) -> Tables:
    verbs = {
        word: _wrap_verb(verb, tells=word == b"version") for word, verb in tables.verbs.items()
    }
    return Tables(verbs, *([_wrap_command(each) for each in table] for table in tables[1:]))


# -- the connection ----------------------------------------------------------------------------


class _Deletion:
    """Waits for a deletion in place of a client whose new value was refused.

    What is answered to that is not for the client, unless that nothing may be changed.
    """

    __slots__ = ("_connection", "held_request")
    held_protocol = "binary"  # which has words for any key

    def __init__(self, connection: PairedConnection, key: bytes) -> None:
        self._connection = connection
        self.held_request = encode_request(Request(COMMANDS[DELETEQ], key, b"", bytes(4), 0, b""))

    def released(self) -> None:
        self._connection.released()

    def answered(self, reply: Reply) -> None:
        if not isinstance(reply, bytes):
            self.abandoned()  # nobody knows what came of it
            return
        if int.from_bytes(reply[6:8], "big") == _NOT_REPLICATED:
            self._connection.refuse_deletion()
        self._connection.released()

    def abandoned(self) -> None:
        self._connection.abandoned()

    def resumed(self) -> None:
        """Nothing of it waits for that."""

    def staged(self) -> None:
        """Nor for that."""


class PairedConnection(Connection):
    """The state of one client, of a server that replicates."""

    tables = _wrap_tables(Connection.tables)
    answer_plain_binary = None

    __slots__ = (
        "admitted",
        "batch",
        "deliver",
        "dropping",
        "following",
        "gate",
        "held_reply",
        "held_request",
        "kept",
        "monotonic",
        "request_line",
        "staged_value",
        "tail",
        "waiting",
    )

    def __init__(self, service: Service, **known: Any) -> None:
        super().__init__(service, **known)
        assert service.gate is not None
        self.gate: Gate = service.gate
        self.monotonic = self.gate.clock.monotonic
        #: Nothing is executed, and what was is not answered, until the gate calls back.
        self.waiting = False
        #: What waits now may be executed, however long that word was on its way.
        self.admitted = False
        self.following = False  #: what changes something is collected, not executed
        self.batch: list[bytes] = []  #: commands executed, or collected, in this run
        self.held_request: Commands = b""  #: the same, while the reply is held
        self.held_reply: bytes | None = None  #: the reply, if it is not in `pieces`
        #: How many replies stay when the commands in `batch` are executed elsewhere after all.
        self.kept = 0
        self.tail: list[bytes] = []  #: replies that come after those that are waited for
        self.request_line = b""
        #: A key whose old value is to go, after what came before, as a new one was refused.
        self.dropping: bytes | None = None
        self.staged_value: bytes | None = None  #: that others have, before it is stored
        #: Sends a reply and goes on reading; None: wake the driver instead.
        self.deliver: Callable[[bytes], None] | None = None

    # -- the fast path -------------------------------------------------------------------------

    def respond(self, data: bytes) -> bytes | None:
        """Take what arrived and return what to send, as in `Connection`."""
        # Hot path: bench/ "pair16".
        gate = self.gate
        self.last_command_at = self.cache.now
        if (
            self.answer_plain is not None
            and not self.waiting
            and self.service.plain
            and self.monotonic() < gate.open_until
        ):
            reply = answer_plain(self, data, gate)
            if reply is STORED and gate.stance.protecting:
                # The driver need not stop reading: a client that sends more before it is answered
                # is rare, and met below.
                self.waiting = True
                self.held_request = data
                self.held_reply = reply
                commits = gate.commits
                if not commits.holding:
                    commits.begin_batch()
                commits.holding.append(self)
                return b""
            if reply:
                return reply
            if reply is not None:
                self._wait(data)
                gate.forward(self, "text", data)
                return b""
            if self.pieces:
                return None
        self.receive_data(data)
        if self.waiting:
            self.suspend()
            return b""
        more = self.run()
        if self.waiting:
            return b""
        if (
            more
            or self.closing
            or self.source is not None
            or self.watching
            or self.weight > JOINED_WEIGHT_MAX
        ):
            return None
        reply = b"".join(self.pieces)
        self.pieces.clear()
        return reply

    def run(self) -> bool:
        """Execute what is complete, as in `Connection`; what has to wait, waits."""
        if self.waiting or self.closing:
            return False
        gate = self.gate
        if self.monotonic() >= gate.open_until and not self.admitted:
            if self.pieces:
                return True  # what is answered for good is sent first: that needs no lease
            if not self.has_more and self.dropping is None and self.awaited is None:
                return False  # nor does who has nothing to be executed
            self._wait(b"")
            gate.wait_open(self)
            return False
        self.admitted = False
        self.following = not gate.stance.leading
        self.kept = len(self.pieces)  # not all may have been sent, and all of it is final
        if self.dropping is not None:
            self._delete(self.dropping)
            if self.waiting:
                return False
        gathered = self.awaited is not None
        if gathered and self._stages():
            return False
        more = super().run()
        batch = self.batch
        if batch:
            # A value that came in many reads may be large: that is not copied.
            commands: Commands = tuple(batch) if gathered else b"".join(batch)
            batch.clear()
            if self.following:
                self.kept = len(self.pieces)
                self._wait(commands)
                gate.forward(self, self.held_protocol, commands)
            elif gate.stance.protecting and gate.unacked:
                self._wait(commands)
                gate.hold(self)
        if self.dropping is not None and not self.held_request:
            self.kept = len(self.pieces)
            self._delete(self.dropping)
        return more and not self.waiting

    def drop(self, key: bytes) -> None:
        """Have the old value go where that is decided, before anything is said of the new one."""
        stance = self.gate.stance
        if stance.refusing:
            self.refuse_deletion()
        elif stance.leading and not stance.protecting:
            super().drop(key)
        else:
            self.dropping = key

    def _delete(self, key: bytes) -> None:
        """Do so; wait until the others know it."""
        gate = self.gate
        self.dropping = None
        self.waiting = False
        if gate.stance.refusing:
            self.refuse_deletion()
            return
        deletion = _Deletion(self, key)
        if self.following:
            self._wait(b"")
            gate.forward(deletion, deletion.held_protocol, deletion.held_request)
            return
        super().drop(key)
        if gate.stance.protecting and gate.unacked:
            self._wait(b"")
            gate.hold(deletion)

    def refuse_deletion(self) -> None:
        """Answer a value that is refused as one that may not be stored: the old one stays."""
        refusal = self.refusal
        if refusal[:1] == _RESPONSE:
            self.refusal = _binary_refusal(self, refusal[1], refusal[12:16])
        elif refusal:
            self.refusal = _refusal(self)

    def _stages(self) -> bool:
        """Have others get the awaited value, if it is a large one; return whether that goes on."""
        arrived = self.arrived
        if self.awaited_bytes or arrived.tell() <= self.cache.slabs.chunk_max_bytes:
            return False
        value = arrived.getvalue()
        if not self.gate.stage(self, value):
            return False
        arrived.close()
        self.arrived = BytesIO(value)  # so that it stays the same object
        self.staged_value = value
        self.waiting = True
        self.suspend()
        return True

    def forget_value(self) -> None:
        """Await no value any more, and keep nothing of it."""
        if self.staged_value is not None:
            self.gate.unstage(self.staged_value)
            self.staged_value = None
            if self.waiting:
                self.staged()
        super().forget_value()

    @property
    def held_protocol(self) -> str:
        """In which protocol the held commands are."""
        request = self.held_request
        first = request if isinstance(request, bytes) else request[0]
        return "binary" if first[:1] == _MAGIC else "text"

    # -- waiting -------------------------------------------------------------------------------

    def _wait(self, commands: Commands) -> None:
        self.waiting = True
        self.held_request = commands
        size = len(commands) if isinstance(commands, bytes) else sum(map(len, commands))
        if size > limits.LINE_MAX_BYTES and self.awaited is None:
            # It has arrived, so there is no refusing it: at worst it is not counted.
            self.service.under_way.charge(self, size)
        self.suspend()

    def give_up(self) -> None:
        """Drop what is not whole yet; what waits may have been executed elsewhere."""
        if self.awaited is not None or not self.waiting:
            super().give_up()

    def next_chunk(
        self,
        most_bytes: int = limits.REPLY_CHUNK_BYTES,
        most_uncopied_bytes: int = limits.REPLY_CHUNK_BYTES,
    ) -> bytes | memoryview | None:
        """Take the next part of what is to be sent; nothing while it waits."""
        return None if self.waiting else super().next_chunk(most_bytes, most_uncopied_bytes)

    def released(self) -> None:
        """What was executed may be answered."""
        # Hot path: bench/ "pair16".
        self.waiting = False
        self.held_request = b""
        if self.held_bytes and self.awaited is None:
            self.service.under_way.release(self)
        reply = self.held_reply
        if reply is not None:
            self.held_reply = None
            if self.deliver is not None and self.position == len(self.buffer):
                self.deliver(reply)
                return
            self.pieces.append(reply)
        if self.tail:
            self.pieces += self.tail
            self.tail.clear()
        if (
            self.deliver is not None
            and self.position == len(self.buffer)
            and self.dropping is None
            and self.source is None
            and self.retrieval is None
            and not self.closing
            and not self.weight > JOINED_WEIGHT_MAX
        ):
            reply = b"".join(self.pieces)
            self.pieces.clear()
            self.deliver(reply)
        else:
            self.wake()

    def answered(self, reply: Reply) -> None:
        """Take the reply of the node that executed our commands."""
        self.held_reply = None
        del self.pieces[self.kept :]
        self.kept = 0
        self.lent.clear()
        if isinstance(reply, bytes):
            pieces: tuple[bytes, ...] = (reply,)
        elif reply:
            pieces = reply
        else:
            self.abandoned()  # nobody knows what came of it
            return
        if self.retrieval is not None and self.retrieval.begun:
            if pieces[-1].endswith(_END):
                pieces = (*pieces[:-1], pieces[-1][: -len(_END)])  # more keys follow
            else:
                give_up(self)
        for piece in pieces:
            if piece:
                self.pieces.append(piece)
                self.weight += len(piece)
        self.released()

    def resumed(self) -> None:
        """Execute what had to wait for word from others: there is, later than it was asked."""
        self.waiting = False
        self.admitted = True
        self.wake()

    def staged(self) -> None:
        """Go on: the others have the value, or nobody has to have it."""
        self.waiting = False
        self.wake()

    def abandoned(self) -> None:
        """Close without an answer: the client may have turned to another server long ago."""
        self.waiting = False
        self.held_request = b""
        self.held_reply = None
        self.pieces.clear()
        self.tail.clear()
        self.close()
        self.wake()

    def refuse(self, reply: bytes) -> None:
        said = len(self.pieces)
        self.reply(reply)
        self.keep_place(said)

    def keep_place(self, said: int) -> None:
        """Have what was said since then follow the replies to what came before it."""
        if self.has_unanswered:
            self.tail += self.pieces[said:]
            del self.pieces[said:]
            self.waiting = True  # ends this run
        else:
            self.end_batch()

    def end_batch(self) -> None:
        """Take note that all replies so far are final."""
        self.batch.clear()
        self.kept = len(self.pieces)

    @property
    def has_unanswered(self) -> bool:
        """Whether commands of this run may have to wait before they are answered."""
        return self.dropping is not None or (
            bool(self.batch)
            and (self.following or (self.gate.stance.protecting and self.gate.unacked))
        )
