"""`Executor` executes what other nodes forward, through connections of its own.

One for each protocol. They are plain ones: where commands are executed was decided by whoever has
an executor, and it is the gate's business when their replies may be told. Only where nothing may be
changed they are those of a pair, which know how each command is refused.
"""

from __future__ import annotations

from io import BytesIO
from typing import TYPE_CHECKING

from .. import limits
from .binary import COMMANDS, DELETEQ, Request, encode_request
from .connection import Connection
from .paired import PairedConnection

if TYPE_CHECKING:
    from ..replication.waiting import Commands
    from ..service import Service


class Executor:
    """Executes whole commands that came from another node, and returns the replies."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._proxies: dict[str, Connection] = {}

    def __call__(self, protocol: str, commands: Commands) -> bytes:
        # Hot path: bench/ "pair16".
        service = self._service
        refusing = service.gate is not None and service.gate.stance.refusing
        proxy = None if refusing else self._proxies.get(protocol)
        if proxy is None:
            # One of a pair's answers each command as it must be while nothing may be changed.
            proxy = (PairedConnection if refusing else Connection)(
                service,
                connection_id=-1,
                address="peer",
                protocol="binary" if protocol == "binary" else "ascii",
                trusted=True,  # whoever forwarded has seen to it that there was a login
            )
            if not refusing:
                proxy.run()
                self._proxies[protocol] = proxy
        rest: tuple[bytes, ...] = ()
        if not isinstance(commands, bytes):
            commands, *rest = commands  # type: ignore[assignment]
        reply = proxy.respond(commands)
        if reply is not None and proxy.answer_plain is not None and not rest:
            return reply
        pieces = [reply or b""]
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
        return b"".join(pieces)

    @staticmethod
    def _go_on(proxy: Connection, pieces: list[bytes]) -> None:
        """Execute all that can be, and take the replies."""
        while True:
            more = proxy.run()
            pieces += proxy.pieces
            proxy.pieces.clear()
            proxy.lent.clear()
            if not more:
                break

    def deletion(self, key: bytes) -> tuple[str, bytes]:
        """Return protocol and request that delete a key, any key, and are not answered."""
        request = Request(COMMANDS[DELETEQ], key, b"", bytes(4), 0, b"")
        return "binary", encode_request(request)
