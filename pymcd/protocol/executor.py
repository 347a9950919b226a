"""`Executor` executes what other nodes forward, through connections of its own.

One for each protocol. They are plain ones: where commands are executed was decided by whoever has
an executor, and it is the gate's business when their replies may be told. Only where nothing may be
changed they are those of a pair, which know how each command is refused.

Nobody forwards commands about one server, to `shutdown` or `watch` it, or to be sent what no one
asked for here without end. A peer gone mad may: such commands are unknown to these connections, and
what is answered to one forward is bounded.
"""

from __future__ import annotations

from copy import copy
from dataclasses import replace
from io import BytesIO
from typing import TYPE_CHECKING, Any, Final

from .. import limits
from .binary import UNKNOWN_COMMAND, encode_error
from .connection import Connection, Tables
from .paired import PairedConnection
from .tokens import ERROR
from .verbs import LOCAL

if TYPE_CHECKING:
    from ..replication.waiting import Commands, Reply
    from ..service import Service
    from .binary import Request
    from .verbs import Command, Verb

#: Replies to one forward, beyond some of the largest items: nobody who is well asks for as much.
REPLIES_MAX_BYTES: Final = 16 << 20
ITEMS_MAX: Final = 4
#: A reply that is larger stays in pieces: each of these travels by itself.
_PIECE_BYTES: Final = 256 << 10


def _unknown_verb(connection: Connection, tokens: list[bytes]) -> None:
    connection.reply(ERROR)


def _unknown_command(connection: Connection, request: Request) -> None:
    opcode, opaque = request.command.opcode, request.opaque
    connection.reply(encode_error(opcode, UNKNOWN_COMMAND, opaque))


def _common_verb(verb: Verb) -> Verb:
    return replace(verb, handler=_unknown_verb) if verb.effect is LOCAL else verb


def _common_command(command: Command) -> Command:
    if command.effect is LOCAL:
        command = copy(command)
        command.handler = _unknown_command
    return command


def _common(tables: Tables) -> Tables:
    """Return the commands that are about the items which several servers share."""
    verbs = {word: _common_verb(verb) for word, verb in tables.verbs.items()}
    return Tables(verbs, *([_common_command(each) for each in table] for table in tables[1:]))


class Proxy(Connection):
    """Executes what other nodes forward."""

    tables = _common(Connection.tables)


class RefusingProxy(PairedConnection):
    """Answers that, where nothing may be changed."""

    tables = _common(PairedConnection.tables)


def _joined(pieces: list[bytes]) -> Reply:
    """Return a reply as one, or in a few pieces if it is large: large values are not copied."""
    if sum(map(len, pieces)) < _PIECE_BYTES:
        return b"".join(pieces)
    joined: list[bytes] = []
    small: list[bytes] = []
    small_bytes = 0
    for piece in pieces:
        if len(piece) >= _PIECE_BYTES or small_bytes >= _PIECE_BYTES:
            joined.append(b"".join(small))
            small.clear()
            small_bytes = 0
        if len(piece) >= _PIECE_BYTES:
            joined.append(piece)
        else:
            small.append(piece)
            small_bytes += len(piece)
    joined.append(b"".join(small))
    return tuple(filter(None, joined))


class Executor:
    """Executes whole commands that came from another node, and returns the replies."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._proxies: dict[str, Connection] = {}

    def __call__(self, protocol: str, commands: Commands) -> Reply:
        # Hot path: bench/ "pair16".
        service = self._service
        refusing = service.gate is not None and service.gate.stance.refusing
        proxy = None if refusing else self._proxies.get(protocol)
        if proxy is None:
            # One of a pair's answers each command as it must be while nothing may be changed.
            proxy = (RefusingProxy if refusing else Proxy)(
                service,
                connection_id=-1,
                address="peer",
                protocol="binary" if protocol == "binary" else "ascii",
                trusted=True,  # whoever forwarded has seen to it that there was a login
            )
            if not refusing:
                proxy.run()
                self._proxies[protocol] = proxy
        try:
            return self._run(proxy, commands, protocol)
        except BaseException:
            # What it has not executed must not be taken for a part of what comes next.
            self._proxies.pop(protocol, None)
            raise

    def _run(self, proxy: Connection, commands: Commands, protocol: str) -> Reply:
        # Hot path: bench/ "pair16".
        rest: tuple[bytes, ...] = ()
        if not isinstance(commands, bytes):
            commands, *rest = commands  # type: ignore[assignment]
        reply = proxy.respond(commands)
        if reply is not None and proxy.answer_plain is not None and not rest:
            return reply
        pieces: list[Any] = [reply or b""]
        self._go_on(proxy, pieces)
        for piece in rest:
            if len(piece) == proxy.awaited_bytes and len(piece) > limits.RECEIVE_BYTES:
                # The value itself: a large one is not copied, it becomes that of the item.
                proxy.arrived = BytesIO(piece)
                proxy.awaited_bytes = 0
            else:
                pieces.append(proxy.respond(piece) or b"")
            self._go_on(proxy, pieces)
        if proxy.buffer or proxy.awaited is not None or proxy.swallow_bytes or proxy.closing:
            proxy.forget_input()
            self._proxies.pop(protocol, None)  # what comes next shall not suffer for that
        return _joined(pieces)

    @staticmethod
    def _go_on(proxy: Connection, pieces: list[Any]) -> None:
        """Execute all that can be, and take the replies."""
        item_size_max_bytes = proxy.service.settings.item_size_max_bytes
        left_bytes = REPLIES_MAX_BYTES + ITEMS_MAX * item_size_max_bytes
        while True:
            more = proxy.run()
            pieces += proxy.pieces
            left_bytes -= sum(map(len, proxy.pieces))
            if left_bytes < 0:
                proxy.closing = True
                more = False
            proxy.pieces.clear()
            proxy.lent.clear()
            if not more:
                break
