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

How many requests a server finds at a wake-up swings between one and all, with the speed of both
sides and with what else the machine does, and the CPU of a request by half with it. Clients "in
step" leave that to nothing: they share the server's CPU, neither interrupts the other, and all of
them ask before the server has its turn. It is the load with the fewest wake-ups that there is, so
what it says of a ratio is one end.
"""

from __future__ import annotations

import gc
import os
import random
import select
import ssl
import time
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from itertools import cycle, islice
from typing import TYPE_CHECKING, Self

from .contenders import REPLY_TIMEOUT_S, BenchError
from .loads import KEY, RESUME_S, Meter, Window, placed

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


def _redis_set(key: bytes, value: bytes) -> Exchange:
    words = (len(key), key, len(value), value)
    return b"*3\r\n$3\r\nSET\r\n$%d\r\n%b\r\n$%d\r\n%b\r\n" % words, b"+OK\r\n"


def _redis_get(key: bytes, value: bytes) -> Exchange:
    request = b"*2\r\n$3\r\nGET\r\n$%d\r\n%b\r\n" % (len(key), key)
    return request, b"$%d\r\n%b\r\n" % (len(value), value)


#: The classic commands at their plainest.
TEXT = Dialect(_text_set, _text_get)
#: The same with client flags and a time to live, as libraries send them for objects and sessions.
APPLICATION = Dialect(_application_set, _application_get)
META = Dialect(_meta_set, _meta_get)
#: Of Redis, for servers that a user might choose instead.
REDIS = Dialect(_redis_set, _redis_get)
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
    in_step: bool = False  #: all ask at once, when all have their answers, on the server's CPU

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

    @contextmanager
    def on(self, server: Server, connect: Connect | None = None) -> Iterator[_Driven]:
        """Load the server; the clients stand still but for what is measured.

        `connect` opens the clients' connections; without it they are the server's plain ones.
        """
        self.preload(server)
        connect = connect or server.connect
        with Crowd(server, connect, self.script(), self.connections, self.in_step) as crowd:
            crowd.drive(max(WARM_UP_S, server.warm_up_s))
            yield _Driven(self, server, crowd)


@contextmanager
def taking_turns(server: Server) -> Iterator[None]:
    """Have the server and this process share a CPU, each until it has nothing more to do."""
    threads = [int(each) for pid in server.pids for each in os.listdir(f"/proc/{pid}/task")]
    with placed(server, together=True):
        for thread in (0, *threads):
            os.sched_setscheduler(thread, os.SCHED_BATCH, os.sched_param(0))
        try:
            yield
        finally:
            for thread in (0, *threads):
                os.sched_setscheduler(thread, os.SCHED_OTHER, os.sched_param(0))


class _Driven:
    """Clients of one server, driven for as long as it is measured."""

    def __init__(self, clients: Clients, server: Server, crowd: Crowd) -> None:
        self._clients = clients
        self._server = server
        self._crowd = crowd

    def measure(self, seconds: float) -> Window:
        crowd, server = self._crowd, self._server
        with taking_turns(server) if self._clients.in_step else nullcontext():
            crowd.drive(RESUME_S)
            meter = Meter(server)
            crowd.answers = 0
            crowd.drive(seconds)
            window = meter.window(self._clients.set_share, self._clients.value_bytes)
        # Counted by two: an answer that is on its way may be missing on one side.
        if abs(window.operations - crowd.answers) > self._clients.connections:
            counted = f"counted {window.operations}, clients {crowd.answers}"
            raise BenchError(f"{server.name} {counted}")
        return window


class Crowd:
    """Connections that each wait for one answer, then send the next request."""

    def __init__(
        self,
        server: Server,
        connect: Connect,
        script: list[Exchange],
        connections: int,
        in_step: bool = False,
    ) -> None:
        self._server = server
        self._least = connections if in_step else 1
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
        deadline_s = time.perf_counter() + seconds
        with _undisturbed(self._server):
            while time.perf_counter() < deadline_s:
                self._go_on()

    def _go_on(self) -> None:
        members = self._members
        answered: list[Member] = []
        while len(answered) < self._least:
            ready = self._poller.poll(REPLY_TIMEOUT_S)
            if not ready:
                raise BenchError(f"{self._server.name} does not answer")
            answered += [members[fd] for fd, _ in ready if members[fd].receive()]
        for member in answered:
            member.ask()
        self.answers += len(answered)


@contextmanager
def _undisturbed(server: Server) -> Iterator[None]:
    gc.disable()
    try:
        yield
    except ConnectionError as error:
        raise BenchError(f"{server.name}: {error}") from None
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
