"""What an attack is given: a server to connect to, and the means to say much to it.

All streams that a scene has opened are closed when the attack is over; then the server has to be as
it was.
"""

from __future__ import annotations

import contextlib
import selectors
import socket
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from conformance.pair.ways import TEXT, Way, client_context
from conformance.tls import HOST
from conformance.trial import TrialError

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Iterable

    from conformance.servers import Server

#: How long the longest of all is waited for.
PATIENCE_S = 120.0
#: Nothing has come or gone for so long: it will not.
SILENCE_S = 3.0
RECEIVE_BYTES = 1 << 20
LOOPBACK = "127.0.0.1"

#: Words of an attack to a figure of its own: what, how many, how many at most.
Count = tuple[str, int, int]


@dataclass(slots=True)
class Scene:
    """One server under one attack."""

    server: Server
    port: int
    tls_port: int = 0
    bucket_port: int = 0
    http_port: int = 0
    udp_port: int = 0
    replication_port: int = 0
    way: Way = TEXT
    #: 1 is what the table speaks of; less is for a quick look.
    scale: float = 1.0
    #: Whether it is ours: what memcached does not have need not be tried there.
    is_pymcd: bool = True
    counts: list[Count] = field(default_factory=list)
    _streams: list[socket.socket] = field(default_factory=list)

    def times(self, usual: int) -> int:
        return max(1, round(usual * self.scale))

    def hold(self, seconds: float) -> None:
        """Do nothing, and let it be seen what that does."""
        time.sleep(max(0.1, seconds * min(1.0, self.scale)))

    # -- streams ---------------------------------------------------------------------------------

    def dial(self, port: int) -> socket.socket:
        stream = socket.create_connection((LOOPBACK, port), timeout=PATIENCE_S)
        stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._streams.append(stream)
        return stream

    def connect(self) -> socket.socket:
        """Return a plain stream that has not logged in."""
        return self.dial(self.port)

    def connect_many(self, count: int) -> list[socket.socket]:
        return [self.connect() for _ in range(count)]

    def connect_tls(self) -> ssl.SSLSocket:
        stream = client_context().wrap_socket(self.dial(self.tls_port), server_hostname=HOST)
        self._streams[-1] = stream
        return stream

    def close(self) -> None:
        while self._streams:
            self._streams.pop().close()

    # -- talk ------------------------------------------------------------------------------------

    def ask(self, stream: socket.socket, request: bytes, ending: bytes, times: int = 1) -> None:
        """Say something and read until the answer has ended so many times, or there is no more."""
        exchange([(stream, request)], lambda _: Endings(ending, times))

    def store(self, key: str, value: bytes, flags: int = 0) -> None:
        """Store an item, and wait until it is."""
        with socket.create_connection((LOOPBACK, self.port), timeout=PATIENCE_S) as stream:
            if self.way.tongue is not TEXT.tongue or self.way.login is not None:
                raise TrialError("stored by plain text alone")
            stream.sendall(b"set %b %d 0 %d\r\n%b\r\n" % (key.encode(), flags, len(value), value))
            answer = stream.recv(100)
        if answer != b"STORED\r\n":
            raise TrialError(f"set {key}: {answer!r}")

    def store_many(self, items: Iterable[bytes], batch: int = 2000) -> None:
        """Send commands that answer nothing, and wait until they are done."""
        with socket.create_connection((LOOPBACK, self.port), timeout=PATIENCE_S) as stream:
            pending: list[bytes] = []
            for item in items:
                pending.append(item)
                if len(pending) == batch:
                    self._done(stream, b"".join(pending))
                    pending.clear()
            self._done(stream, b"".join(pending))

    @staticmethod
    def _done(stream: socket.socket, commands: bytes) -> None:
        stream.sendall(commands + b"mn\r\n")
        answer = b""
        while not answer.endswith(b"MN\r\n"):
            data = stream.recv(1 << 16)
            if not data:
                raise TrialError(f"closed after {answer[-80:]!r}")
            answer += data


class Endings:
    """Counts how often an answer has ended; says when that is often enough."""

    def __init__(self, ending: bytes, times: int = 1) -> None:
        self._ending, self._left = ending, times
        self._tail = b""

    def __call__(self, data: memoryview) -> bool:
        text = self._tail + data.tobytes()
        self._left -= text.count(self._ending)
        # What is counted must not be counted again.
        keep = len(self._ending) - 1
        self._tail = text[max(text.rfind(self._ending) + len(self._ending), len(text) - keep) :]
        return self._left <= 0


def never(data: memoryview) -> bool:
    """Read on until there is no more."""
    return False


def exchange(
    orders: list[tuple[socket.socket, bytes]],
    heard: Callable[[socket.socket], Callable[[memoryview], bool]] | None,
    patience_s: float = PATIENCE_S,
    silence_s: float | None = None,
) -> int:
    """Say to each stream what is for it, all at once; return how many bytes were not taken.

    `heard` makes what is told each piece of an answer, and says when that was all; None: nothing
    is read, and who is not listened to any more has been told enough after a silence.
    """
    if silence_s is None:
        silence_s = SILENCE_S if heard is None else patience_s
    unsent = {stream: memoryview(data) for stream, data in orders}
    whole = {} if heard is None else {stream: heard(stream) for stream in unsent}
    buffer = memoryview(bytearray(RECEIVE_BYTES))
    deadline_s = time.monotonic() + patience_s
    with selectors.DefaultSelector() as selector:
        for stream in unsent:
            stream.setblocking(False)
            wanted = selectors.EVENT_WRITE | (selectors.EVENT_READ if whole else 0)
            selector.register(stream, wanted)
        while selector.get_map() and time.monotonic() < deadline_s:
            ready = selector.select(silence_s)
            if not ready:
                break
            for key, events in ready:
                assert isinstance(key.fileobj, socket.socket)
                stream = key.fileobj
                try:
                    if events & selectors.EVENT_WRITE:
                        left = unsent[stream][stream.send(unsent[stream][:RECEIVE_BYTES]) :]
                        unsent[stream] = left
                        if not left and not whole:
                            selector.unregister(stream)
                            continue
                        if not left:
                            selector.modify(stream, selectors.EVENT_READ)
                    if events & selectors.EVENT_READ:
                        count = stream.recv_into(buffer)
                        if not count or whole[stream](buffer[:count]):
                            selector.unregister(stream)
                except (BlockingIOError, InterruptedError):
                    continue
                except OSError:
                    with contextlib.suppress(KeyError):
                        selector.unregister(stream)
    return sum(map(len, unsent.values()))
