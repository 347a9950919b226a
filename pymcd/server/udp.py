"""UDP: one datagram is one request, and its reply is as many datagrams as it needs.

Each datagram begins with eight bytes: request id, sequence number, number of datagrams, reserved,
16 bits each. A request must be whole in one datagram, and complete: what is cut off is dropped, as
the sender will ask again. # protocol.txt, "UDP protocol"

memcached 1.6 numbers the reply to each command and each key on its own, so that `get a b` comes
as two replies with the same request id. Here, as the document says, one request has one reply.
What has no end of its own (`watch`, metadump) is not served: a datagram is not a subscription,
and its sender's address may be forged.
"""

from __future__ import annotations

import struct
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import trio

from .. import limits
from ..protocol import Connection

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable

    from ..protocol import Service
    from .listening import Endpoint

_HEADER: Final = struct.Struct("!HHHH")
_PAYLOAD_BYTES: Final = limits.UDP_MAX_PAYLOAD_BYTES - limits.UDP_HEADER_BYTES
_DATAGRAMS_MAX: Final = 0xFFFF
#: The largest datagram there is.
_RECEIVE_BYTES: Final = 65536
#: Datagrams answered before other tasks have their turn.
_DATAGRAMS_PER_TURN: Final = 32


def frame_reply(request_id: int, reply: bytes) -> list[bytes]:
    """Cut a reply into numbered datagrams, at most _DATAGRAMS_MAX."""
    count = -(-len(reply) // _PAYLOAD_BYTES)
    return [
        _HEADER.pack(request_id, number, count, 0)
        + reply[number * _PAYLOAD_BYTES : (number + 1) * _PAYLOAD_BYTES]
        for number in range(count)
    ]


def answer_datagram(
    service: Service,
    endpoint: Endpoint,
    datagram: bytes,
    connect: Callable[..., Connection] | None = None,
) -> list[bytes]:
    """Execute the commands of one datagram and return the datagrams to send back."""
    if len(datagram) <= limits.UDP_HEADER_BYTES:
        return []
    request_id, _, count, _ = _HEADER.unpack_from(datagram)
    if count != 1:
        return []
    connection = (connect or partial(Connection, service))(
        connection_id=endpoint.sock.fileno(),
        address=endpoint.address,
        transport="udp",
    )
    service.tick()
    counters = service.cache.counters
    counters.bytes_read += len(datagram)
    connection.receive_data(datagram[limits.UDP_HEADER_BYTES :])
    reply: list[bytes] = []
    while True:
        more = connection.run()
        reply += connection.pieces
        connection.pieces.clear()
        if not more:
            break
    connection.closing = True
    connection.source = None
    if connection.watching:
        service.disconnected(connection)
        return []
    if sum(map(len, reply)) > _DATAGRAMS_MAX * _PAYLOAD_BYTES:
        reply = [b"SERVER_ERROR the reply is too large for UDP: ask for less, or use TCP\r\n"]
    datagrams = frame_reply(request_id, b"".join(reply))
    counters.bytes_written += sum(map(len, datagrams))
    return datagrams


async def serve_datagrams(
    service: Service,
    endpoint: Endpoint,
    on_error: Callable[[Exception], None],
    *,
    connect: Callable[..., Connection] | None = None,
    flush: Callable[[], None] = lambda: None,
) -> None:
    """Answer datagrams until cancelled. A bug of ours loses one request, and is reported."""
    sock = endpoint.sock
    while True:
        await trio.lowlevel.wait_readable(sock)
        for _ in range(_DATAGRAMS_PER_TURN):
            try:
                datagram, sender = sock.recvfrom(_RECEIVE_BYTES)
            except OSError:
                break  # nothing left, or an error of an earlier reply come home
            try:
                replies = answer_datagram(service, endpoint, datagram, connect)
                flush()
            except Exception as error:
                on_error(error)
                continue
            for reply in replies:
                await _send(sock, reply, sender)


async def _send(sock: socket.socket, datagram: bytes, receiver: Any) -> None:
    """Send one datagram, waiting until there is room for it; one that cannot be sent is lost.

    `receiver` is as `recvfrom` gave it, which differs by address family.
    """
    while True:
        try:
            sock.sendto(datagram, receiver)
        except BlockingIOError:
            await trio.lowlevel.wait_writable(sock)
        except OSError:
            return
        else:
            return
