"""UDP: one datagram is one request, and its reply is as many datagrams as it needs.

Each datagram begins with eight bytes: request id, sequence number, number of datagrams, reserved,
16 bits each. A request must be whole in one datagram, and complete: what is cut off is dropped, as
the sender will ask again. # protocol.txt, "UDP protocol"

memcached 1.6 numbers the reply to each command and each key on its own, so that `get a b` comes
as two replies with the same request id. Here, as the document says, one request has one reply.
`watch` and metadump are not served: a datagram is not a subscription, and its sender's address may
be forged. Nor may a small question make a large answer: that is bounded by the size of an item.

A datagram whose commands are not done after one run, or whose answer is long, is left to a task,
and such tasks go on one after the other: a *lane*, as the hub has them. What such requests hold
counts as memory under way; where there is no room one is lost, with what it was to execute still.
"""

from __future__ import annotations

import struct
from collections import deque
from typing import TYPE_CHECKING, Any, Final

import trio

from .. import limits
from ..protocol.underway import Holder

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Iterator, Sequence

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
#: Datagrams thrown away at once, at most: far more than a socket keeps.
_DROPPED_MAX: Final = 1 << 16
#: Requests that are under way; there are no more before one of them is answered. Each has a task,
#: of whose memory not all goes back to the system.
_WAITING_MAX: Final = 128
_TOO_LARGE: Final = b"SERVER_ERROR the reply is too large for UDP: ask for less, or use TCP\r\n"


def frame_reply(request_id: int, reply: Sequence[bytes]) -> Iterator[bytes]:
    """Cut a reply, given in pieces, into numbered datagrams, at most _DATAGRAMS_MAX."""
    views = deque([memoryview(piece) for piece in reply])
    count = -(-sum(map(len, reply)) // _PAYLOAD_BYTES)
    for number in range(count):
        parts: list[bytes | memoryview] = [_HEADER.pack(request_id, number, count, 0)]
        room = _PAYLOAD_BYTES
        while room and views:
            view = views.popleft()
            parts.append(view[:room])
            if len(view) > room:
                views.appendleft(view[room:])
            room -= min(room, len(view))
        yield b"".join(parts)


class Request(Holder):
    """One datagram's commands, and what they have answered so far."""

    __slots__ = ("_reply", "_request_id", "_room_bytes", "connection", "lost", "woken")

    def __init__(self, connection: Connection, request_id: int) -> None:
        super().__init__()
        self.connection = connection
        self.lost = False  #: there was no room for it
        self._request_id = request_id
        self._reply: list[bytes] = []
        self._room_bytes = min(
            connection.service.settings.item_size_max_bytes + limits.RUN_REPLY_BYTES,
            _DATAGRAMS_MAX * _PAYLOAD_BYTES,
        )
        self.woken: trio.Event  #: there is more to do; a new one with each `advance`

    def advance(self) -> bool:
        """Execute a part of what is left; False: there will be more, see `woken`."""
        connection = self.connection
        if self.lost:
            return True
        self.woken = trio.Event()
        connection.wake = self.woken.set
        source = connection.source
        if source is None:
            more = connection.run()
            if connection.waiting or connection.aside:
                return False
            self._take(connection.pieces)
            connection.pieces.clear()
        else:
            part = next(source, None)
            if part is None:
                connection.source = None
            self._take([part or b""])
            more = True  # commands may be waiting behind it
        if more or connection.source is not None:
            self.woken.set()
            return False
        connection.closing = True
        connection.forget_input()
        return True

    def keep(self) -> None:
        """Count what is held from now on; without room for that the request is lost."""
        connection = self.connection
        held_bytes = len(connection.buffer) + sum(map(len, self._reply))
        if not self.lost and not connection.service.under_way.charge(self, held_bytes):
            self.give_up()

    def give_up(self) -> None:
        """Answer nothing, and execute no more: others need the memory."""
        connection = self.connection
        self.lost = True
        self._reply.clear()
        connection.pieces.clear()
        connection.source = None
        connection.closing = True
        connection.forget_input()
        self.end()
        self.woken.set()

    def end(self) -> None:
        """Hold nothing any more."""
        self.connection.service.under_way.release(self)

    def _take(self, pieces: list[bytes]) -> None:
        """Keep an answer, unless that is too much; what is to be executed, is all the same."""
        self._room_bytes -= sum(map(len, pieces))
        if self._room_bytes >= 0:
            self._reply += pieces
        else:
            self._reply = [_TOO_LARGE]

    def datagrams(self) -> Iterator[bytes]:
        """Yield what to send back, once all is executed."""
        service = self.connection.service
        if self.connection.watching:
            service.disconnected(self.connection)
            return
        for datagram in frame_reply(self._request_id, self._reply):
            if self.lost:
                return
            service.counters.bytes_written += len(datagram)
            yield datagram

    @property
    def is_short(self) -> bool:
        """Whether the answer has but a few datagrams."""
        return sum(map(len, self._reply)) <= _DATAGRAMS_PER_TURN * _PAYLOAD_BYTES


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


def drop_datagrams(sock: socket.socket) -> None:
    """Throw away what has arrived and was not read yet."""
    for _ in range(_DROPPED_MAX):
        try:
            sock.recv(1)
        except BlockingIOError:
            return
        except OSError:
            continue  # an error of an earlier reply come home


async def serve_datagrams(
    service: Service,
    endpoint: Endpoint,
    on_error: Callable[[Exception], None],
    *,
    connect: Callable[..., Connection],
    send_turn: Callable[[], None],
    left: Callable[[], None],
) -> None:
    """Answer datagrams until cancelled. A bug of ours loses one request, and is reported.

    `send_turn` is called after commands were executed, so that the peers hear of it; `left` when
    one is gone that has held memory.
    """
    sock = endpoint.sock
    room = trio.Semaphore(_WAITING_MAX)
    lane = trio.Lock()

    async def answer_later(request: Request, sender: Any, is_done: bool) -> None:
        """Answer a request that takes long, or waits for other servers."""
        try:
            while not is_done:
                await request.woken.wait()
                async with lane:
                    await trio.lowlevel.checkpoint()
                is_done = request.advance()
                request.keep()
                send_turn()
            for number, reply in enumerate(request.datagrams()):
                if number % _DATAGRAMS_PER_TURN == 0:
                    async with lane:
                        await trio.lowlevel.checkpoint()
                await _send(sock, reply, sender)
        except Exception as error:
            on_error(error)
        finally:
            request.end()
            room.release()
            left()

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
                    if is_done and request.is_short:
                        for reply in request.datagrams():
                            await _send(sock, reply, sender)
                        continue
                except Exception as error:
                    on_error(error)
                    continue
                request.keep()
                room.acquire_nowait()
                nursery.start_soon(answer_later, request, sender, is_done)
                break  # it was more than others have asked for: everybody has a turn


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
