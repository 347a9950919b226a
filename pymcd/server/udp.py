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
from typing import TYPE_CHECKING, Any, Final

import trio

from .. import limits

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable

    from ..protocol import Connection
    from ..service import Service
    from .listening import Endpoint

_HEADER: Final = struct.Struct("!HHHH")
_PAYLOAD_BYTES: Final = limits.UDP_MAX_PAYLOAD_BYTES - limits.UDP_HEADER_BYTES
_DATAGRAMS_MAX: Final = 0xFFFF
#: The largest datagram there is.
_RECEIVE_BYTES: Final = 65536
#: Datagrams answered before other tasks have their turn.
_DATAGRAMS_PER_TURN: Final = 32
#: Requests that wait for other servers; there are no more before one of them is answered.
_WAITING_MAX: Final = 1000


def frame_reply(request_id: int, reply: bytes) -> list[bytes]:
    """Cut a reply into numbered datagrams, at most _DATAGRAMS_MAX."""
    count = -(-len(reply) // _PAYLOAD_BYTES)
    return [
        _HEADER.pack(request_id, number, count, 0)
        + reply[number * _PAYLOAD_BYTES : (number + 1) * _PAYLOAD_BYTES]
        for number in range(count)
    ]


class Request:
    """One datagram's commands, and what they have answered so far."""

    def __init__(self, connection: Connection, request_id: int) -> None:
        self.connection = connection
        self._request_id = request_id
        self._reply: list[bytes] = []
        self.woken: trio.Event  #: there is more to do; a new one with each `advance`

    def advance(self) -> bool:
        """Execute what can be; False: something is to be waited for first, see `woken`."""
        connection = self.connection
        self.woken = trio.Event()
        connection.wake = self.woken.set
        while True:
            more = connection.run()
            if connection.waiting or connection.aside:
                return False
            self._reply += connection.pieces
            connection.pieces.clear()
            if not more:
                break
        connection.closing = True
        connection.source = None
        connection.forget_input()
        return True

    def datagrams(self) -> list[bytes]:
        """Return what to send back, once all is executed."""
        service = self.connection.service
        if self.connection.watching:
            service.disconnected(self.connection)
            return []
        reply = self._reply
        if sum(map(len, reply)) > _DATAGRAMS_MAX * _PAYLOAD_BYTES:
            reply = [b"SERVER_ERROR the reply is too large for UDP: ask for less, or use TCP\r\n"]
        datagrams = frame_reply(self._request_id, b"".join(reply))
        service.counters.bytes_written += sum(map(len, datagrams))
        return datagrams


def read_datagram(
    service: Service, endpoint: Endpoint, datagram: bytes, connect: Callable[..., Connection]
) -> Request | None:
    """Return the request that a datagram is, not executed; None: it is none."""
    if len(datagram) <= limits.UDP_HEADER_BYTES:
        return None
    request_id, _, count, _ = _HEADER.unpack_from(datagram)
    if count != 1:
        return None
    connection = connect(
        connection_id=endpoint.sock.fileno(), address=endpoint.address, transport="udp"
    )
    service.tick()
    service.counters.bytes_read += len(datagram)
    connection.receive_data(datagram[limits.UDP_HEADER_BYTES :])
    return Request(connection, request_id)


async def serve_datagrams(
    service: Service,
    endpoint: Endpoint,
    on_error: Callable[[Exception], None],
    *,
    connect: Callable[..., Connection],
    send_turn: Callable[[], None],
) -> None:
    """Answer datagrams until cancelled. A bug of ours loses one request, and is reported.

    `send_turn` is called after commands were executed, so that the peers hear of it.
    """
    sock = endpoint.sock
    room = trio.Semaphore(_WAITING_MAX)

    async def answer_later(request: Request, sender: Any) -> None:
        """Answer a request that waits for other servers."""
        try:
            while True:
                await request.woken.wait()
                if request.advance():
                    break
                send_turn()
            replies = request.datagrams()
        except Exception as error:
            on_error(error)
            return
        finally:
            room.release()
        for reply in replies:
            await _send(sock, reply, sender)

    async with trio.open_nursery() as nursery:
        while True:
            await trio.lowlevel.wait_readable(sock)
            for _ in range(_DATAGRAMS_PER_TURN):
                if not room.value:
                    await room.acquire()
                    room.release()
                try:
                    datagram, sender = sock.recvfrom(_RECEIVE_BYTES)
                except OSError:
                    break  # nothing left, or an error of an earlier reply come home
                try:
                    request = read_datagram(service, endpoint, datagram, connect)
                    if request is None:
                        continue
                    is_done = request.advance()
                    send_turn()
                    replies = request.datagrams() if is_done else []
                except Exception as error:
                    on_error(error)
                    continue
                if not is_done:
                    room.acquire_nowait()
                    nursery.start_soon(answer_later, request, sender)
                for reply in replies:
                    await _send(sock, reply, sender)


async def _send(sock: socket.socket, datagram: bytes, receiver: Any) -> None:
    """Send one datagram, waiting until there is room for it; one that cannot be sent is lost.

    `receiver` is as `recvfrom` gave it, which differs by address family.
    """
    while True:
        try:
            sock.sendto(datagram, receiver)
            return
        except BlockingIOError:
            await trio.lowlevel.wait_writable(sock)
        except OSError:
            return
