"""Clients in Python, for what memcaslap does not say: meta, TLS, sets as applications send them.

One thread keeps some connections busy, each with one request at a time, all requests built before
the load begins. Every answer is compared, byte by byte, with the right one.

What the load generator does to the figures. A server finds the more requests at each wake-up the
faster the generator is, and each then costs it less; pymcd, whose wake-ups cost more, gains most.
So all answers that are there are taken before the next requests are sent, close together, which
comes near to memcaslap: `text16` is the mix of `get16` made here, and shows the difference. CPU per
request is the server's own. Throughput is a different matter: where these clients need more CPU
than memcached, they and not memcached set its pace, and the ratio of throughput flatters pymcd.
What it would be under clients that are never in the way is the inverse of the ratio of CPU; a
scenario with a bar on throughput shows both.
"""

from __future__ import annotations

import gc
import random
import select
import ssl
import time
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import cycle, islice
from typing import TYPE_CHECKING, Self

from .contenders import REPLY_TIMEOUT_S, BenchError
from .loads import KEY, Meter, Window

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Iterator

    from .contenders import Server

    Connect = Callable[[], socket.socket]
    Exchange = tuple[bytes, bytes]  # a request and the right answer

WARM_UP_S = 0.5
PRELOAD_CHUNK_KEYS = 50
RECEIVE_BYTES = 64 << 10
SEED = 1
CLIENT_FLAGS = 16
EXPTIME_S = 300


@dataclass(frozen=True, slots=True)
class Dialect:
    """How a client stores a value and how it asks for it."""

    store: Callable[[bytes, bytes], Exchange]
    fetch: Callable[[bytes, bytes], Exchange]


def _text_set(key: bytes, value: bytes) -> Exchange:
    return b"set %b 0 0 %d\r\n%b\r\n" % (key, len(value), value), b"STORED\r\n"


def _text_get(key: bytes, value: bytes) -> Exchange:
    return b"get %b\r\n" % key, b"VALUE %b 0 %d\r\n%b\r\nEND\r\n" % (key, len(value), value)


def _application_set(key: bytes, value: bytes) -> Exchange:
    head = b"set %b %d %d %d\r\n" % (key, CLIENT_FLAGS, EXPTIME_S, len(value))
    return b"%b%b\r\n" % (head, value), b"STORED\r\n"


def _application_get(key: bytes, value: bytes) -> Exchange:
    head = b"VALUE %b %d %d\r\n" % (key, CLIENT_FLAGS, len(value))
    return b"get %b\r\n" % key, b"%b%b\r\nEND\r\n" % (head, value)


def _meta_set(key: bytes, value: bytes) -> Exchange:
    return b"ms %b %d\r\n%b\r\n" % (key, len(value), value), b"HD\r\n"


def _meta_get(key: bytes, value: bytes) -> Exchange:
    return b"mg %b v\r\n" % key, b"VA %d\r\n%b\r\n" % (len(value), value)


def _wide_meta_set(key: bytes, value: bytes) -> Exchange:
    head = b"ms %b %d T%d F%d\r\n" % (key, len(value), EXPTIME_S, CLIENT_FLAGS)
    return b"%b%b\r\n" % (head, value), b"HD\r\n"


def _wide_meta_get(key: bytes, value: bytes) -> Exchange:
    head = b"VA %d k%b f%d s%d\r\n" % (len(value), key, CLIENT_FLAGS, len(value))
    return b"mg %b k f s v\r\n" % key, b"%b%b\r\n" % (head, value)


#: The classic commands at their plainest.
TEXT = Dialect(_text_set, _text_get)
#: The same with client flags and a time to live, as libraries send them for objects and sessions.
APPLICATION = Dialect(_application_set, _application_get)
META = Dialect(_meta_set, _meta_get)
#: Meta commands with several flags each.
WIDE_META = Dialect(_wide_meta_set, _wide_meta_get)


@dataclass(frozen=True, slots=True)
class Clients:
    """A mix of gets and sets that clients in Python keep up."""

    dialect: Dialect
    connections: int = 16
    set_share: float = 0.1
    value_bytes: int = 1 << 10
    keys: int = 10_000
    server_options: tuple[str, ...] = ()

    @property
    def keys_per_get(self) -> int:
        """Say what an operation is, as `Load` does."""
        return 1

    def preload(self, server: Server) -> None:
        """Store all keys, so that every get is a hit."""
        value = b"v" * self.value_bytes
        with server.connect() as connection:
            keys = (KEY % number for number in range(self.keys))
            while chunk := [
                self.dialect.store(key, value) for key in islice(keys, PRELOAD_CHUNK_KEYS)
            ]:
                connection.sendall(b"".join([request for request, _ in chunk]))
                wanted = b"".join([answer for _, answer in chunk])
                answers = b""
                while len(answers) < len(wanted):
                    data = connection.recv(RECEIVE_BYTES)
                    answers += data
                    if not data or not wanted.startswith(answers):
                        raise BenchError(f"{server.name} answered {answers[-60:]!r} to sets")

    def script(self) -> list[Exchange]:
        """Return each key once, in random order, to be stored or asked for."""
        rng = random.Random(SEED)
        value = b"v" * self.value_bytes
        numbers = rng.sample(range(self.keys), self.keys)
        stored = round(self.keys * self.set_share)
        ways = [self.dialect.store] * stored + [self.dialect.fetch] * (self.keys - stored)
        rng.shuffle(ways)
        return [way(KEY % number, value) for way, number in zip(ways, numbers, strict=True)]

    def run(self, server: Server, window_s: float, connect: Connect | None = None) -> Window:
        """Load the server and measure a window of the steady state.

        `connect` opens the clients' connections; without it they are the server's plain ones.
        """
        self.preload(server)
        connect = connect or server.connect
        with Crowd(server, connect, self.script(), self.connections) as crowd:
            crowd.drive(WARM_UP_S)
            meter = Meter(server)
            crowd.answers = 0
            crowd.drive(window_s)
            answers = crowd.answers
            window = meter.window(self.set_share, self.value_bytes)
        # Counted by two: an answer that is on its way may be missing on one side.
        if abs(window.operations - answers) > self.connections:
            raise BenchError(f"{server.name} counted {window.operations}, clients {answers}")
        return window


class Crowd:
    """Connections that each wait for one answer, then send the next request."""

    def __init__(
        self, server: Server, connect: Connect, script: list[Exchange], connections: int
    ) -> None:
        self._server = server
        self.answers = 0
        self._open = ExitStack()
        self._poller = self._open.enter_context(select.epoll())
        self._members: dict[int, Member] = {}
        for index in range(connections):
            connection = self._open.enter_context(connect())
            connection.setblocking(False)
            start = index * len(script) // connections
            requests = cycle(script[start:] + script[:start])
            self._members[connection.fileno()] = Member(connection, requests)
            self._poller.register(connection, select.EPOLLIN)

    def __enter__(self) -> Self:
        for member in self._members.values():
            member.ask()
        return self

    def __exit__(self, *exc: object) -> None:
        self._open.close()

    def drive(self, seconds: float) -> None:
        """Keep all connections busy for so long; each still has a request out afterwards."""
        members, poll, clock = self._members, self._poller.poll, time.perf_counter
        deadline_s = clock() + seconds
        gc.disable()
        try:
            while clock() < deadline_s:
                ready = poll(REPLY_TIMEOUT_S)
                if not ready:
                    raise BenchError(f"{self._server.name} does not answer")
                answered = [members[fd] for fd, _ in ready if members[fd].receive()]
                for member in answered:
                    member.ask()
                self.answers += len(answered)
        except ConnectionError as error:
            raise BenchError(f"{self._server.name}: {error}") from None
        finally:
            gc.enable()


class Member:
    """One connection, its requests, and what came so far of the answer."""

    __slots__ = ("_came", "_receive", "_requests", "_send", "_wanted")

    def __init__(self, connection: socket.socket, requests: Iterator[Exchange]) -> None:
        self._receive = connection.recv
        self._send = connection.send
        self._requests = requests
        self._wanted = b""
        self._came = b""

    def ask(self) -> None:
        request, self._wanted = next(self._requests)
        # One request at a time always fits into the kernel's buffer.
        if self._send(request) != len(request):
            raise BenchError("the kernel took half a request")

    def receive(self) -> bool:
        """Take what came; True: that completed the right answer."""
        try:
            data = self._receive(RECEIVE_BYTES)
        except ssl.SSLWantReadError:
            return False  # half a record, or a ticket
        if not data:
            raise ConnectionError("closed the connection")
        if self._came:
            data = self._came + data
        if data == self._wanted:
            self._came = b""
            return True
        if not self._wanted.startswith(data):
            raise BenchError(f"wrong answer {data[:60]!r}, not {self._wanted[:60]!r}")
        self._came = data
        return False
