"""`Executor` executes what other nodes forward, through connections of its own.

One for each protocol. They are plain ones: where commands are executed was decided by whoever has
an executor, and it is the gate's business when their replies may be told.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .connection import Connection
from .paired import PairedConnection

if TYPE_CHECKING:
    from ..service import Service


class Executor:
    """Executes whole commands that came from another node, and returns the replies."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._proxies: dict[str, Connection] = {}

    def __call__(self, protocol: str, commands: bytes) -> bytes:
        # Hot path: bench/ "pair16".
        gate = self._service.gate
        if gate is not None and gate.refusing:
            return self._refuse(protocol, commands)
        proxy = self._proxies.get(protocol)
        if proxy is None:
            proxy = self._proxies[protocol] = self._connect(protocol)
        reply = proxy.respond(commands)
        if reply is not None and proxy.answer_plain is not None:
            return reply
        pieces = [reply or b""]
        while True:
            more = proxy.run()
            pieces += proxy.pieces
            proxy.pieces.clear()
            if not more:
                break
        if proxy.buffer or proxy.awaited is not None or proxy.swallow_bytes or proxy.closing:
            del self._proxies[protocol]  # what comes next shall not suffer for that
        return b"".join(pieces)

    def _refuse(self, protocol: str, commands: bytes) -> bytes:
        """Answer each command as it must be while nothing may be changed; some want no answer."""
        proxy = PairedConnection(
            self._service,
            connection_id=-1,
            address="peer",
            protocol="binary" if protocol == "binary" else "ascii",
            trusted=True,
        )
        proxy.receive_data(commands)
        while proxy.run():
            pass
        return b"".join(proxy.pieces)

    def _connect(self, protocol: str) -> Connection:
        proxy = Connection(
            self._service,
            connection_id=-1,
            address="peer",
            protocol="binary" if protocol == "binary" else "ascii",
            trusted=True,  # whoever forwarded has seen to it that there was a login
        )
        proxy.run()
        return proxy
