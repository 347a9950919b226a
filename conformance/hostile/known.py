"""Attacks that once held a server up, or filled its memory."""

from __future__ import annotations

import atexit
import os
import random
import socket
import tempfile
from functools import cache
from pathlib import Path

from conformance.pair.ways import PASSWORD, USER, WAYS
from conformance.trial import TrialError
from pymcd.auth import encode_hashed

from .rows import row
from .scene import Endings, Scene, exchange

MEGABYTE = 1_000_000


# -- words that are matched ----------------------------------------------------------------------


@row()
def lru_tune(scene: Scene) -> None:
    """`lru tune` with a number of 6 KB that is none."""
    scene.ask(scene.connect(), b"lru tune 20 20 1 " + b"1" * 6000 + b"x\r\n", b"\r\n")


@row()
def lru_tune_16k(scene: Scene) -> None:
    """The same in 16 KB, and in other places of the line."""
    for words in (b"20 20 1 %bx", b"20 20 %bx 2", b"20 %bx 1 2", b"%bx 20 1 2", b"20 20 1.%bx 2"):
        line = b"lru tune " + words % (b"1" * scene.times(16_000)) + b"\r\n"
        scene.ask(scene.connect(), line, b"\r\n")


@row()
def automove_ratio(scene: Scene) -> None:
    """`slabs automove ratio` with a number of 16 KB that is none."""
    for form in (b"%bx", b"0.%bx", b"%b.x", b"%b 1x"):
        digits = form % (b"1" * scene.times(16_000))
        scene.ask(scene.connect(), b"slabs automove ratio " + digits + b"\r\n", b"\r\n")


# -- long answers to short commands --------------------------------------------------------------


def value_of_4000(scene: Scene) -> None:
    scene.store("k", b"v" * 4000)


def value_of_1(scene: Scene) -> None:
    scene.store("k", b"v")


def value_of_1m(scene: Scene) -> None:
    scene.store("k", b"v" * MEGABYTE)


def _get_line(scene: Scene, size: int) -> None:
    line = b"get " + b"k " * (scene.times(size) // 2 - 4) + b"\r\n"
    scene.ask(scene.connect(), line, b"END\r\n")


@row(prepare=value_of_4000)
def get_200k(scene: Scene) -> None:
    """One `get` of 200 KB, of a value of 4,000 bytes."""
    _get_line(scene, 200_000)


@row(prepare=value_of_4000)
def get_2m(scene: Scene) -> None:
    """One `get` of 2 MB, of a value of 4,000 bytes: the answer has 4 GB."""
    _get_line(scene, 2_000_000)


@row(prepare=value_of_1)
def get_8m(scene: Scene) -> None:
    """One `get` of 8 MB, of a value of one byte."""
    _get_line(scene, 8_000_000)


@row(prepare=value_of_1m)
def unread(scene: Scene) -> None:
    """200 clients that each get 1 MB 20 times, in 140 bytes, and read nothing."""
    exchange([(each, b"get k\r\n" * 20) for each in scene.connect_many(scene.times(200))], None)
    scene.hold(3.0)


@row(prepare=value_of_1m, tls=True)
def unread_tls(scene: Scene) -> None:
    """The same over TLS."""
    for _ in range(scene.times(200)):
        scene.connect_tls().sendall(b"get k\r\n" * 20)
    scene.hold(3.0)


def values_of_1m(scene: Scene) -> None:
    for number in range(40):
        scene.store(f"k{number}", b"v" * MEGABYTE)


@row(prepare=values_of_1m)
def overwritten(scene: Scene) -> None:
    """40 clients that each get 40 values of 1 MB and read nothing; the values are overwritten."""
    line = b"".join(b"get k%d\r\n" % number for number in range(40))
    for client in range(scene.times(40)):
        exchange([(scene.connect(), line)], None, silence_s=0.1)
        for number in range(client % 4, 40, 4):
            scene.store(f"k{number}", b"%c" % (97 + client % 26) * MEGABYTE)
    scene.hold(2.0)


# -- values that do not end ----------------------------------------------------------------------


def _arrive(scene: Scene) -> None:
    streams = scene.connect_many(scene.times(1000))
    piece = b"v" * 900_000
    orders = [
        (stream, b"set k%d 0 0 1000000\r\n%b" % (number, piece))
        for number, stream in enumerate(streams)
    ]
    exchange(orders, None)
    scene.hold(2.0)


@row()
def arriving(scene: Scene) -> None:
    """1,000 clients that each send most of a value of 1 MB."""
    _arrive(scene)


@row(own=("-o", "memory_accounting=resident"), resident=True)
def arriving_resident(scene: Scene) -> None:
    """The same where memory is accounted for as it is taken."""
    _arrive(scene)


# -- reports -------------------------------------------------------------------------------------


def small_items(scene: Scene) -> None:
    count = scene.times(60_000)
    scene.store_many(b"set key:%06d 0 0 10 noreply\r\n0123456789\r\n" % n for n in range(count))


def _slab_class(scene: Scene) -> bytes:
    """Return the class in which all items are."""
    with socket.create_connection(("127.0.0.1", scene.port)) as stream:
        stream.sendall(b"stats items\r\n")
        answer = b""
        while not answer.endswith(b"END\r\n"):
            answer += stream.recv(1 << 16)
    words = answer.split(b":")
    if len(words) < 2:
        raise TrialError(f"no items: {answer!r}")
    return words[1]


@row(prepare=small_items)
def cachedump(scene: Scene) -> None:
    """50 clients with 20 pipelined `stats cachedump` each, of 60,000 items."""
    line = b"stats cachedump %b 0\r\n" % _slab_class(scene) * 20
    streams = scene.connect_many(scene.times(50))
    exchange([(each, line) for each in streams], lambda _: Endings(b"END\r\n", 20))


# -- numbers -------------------------------------------------------------------------------------


def _digits(scene: Scene) -> None:
    scene.store("k", b"1" * 400_000)


@row(prepare=_digits)
def incr_digits(scene: Scene) -> None:
    """20 pipelined `incr` of a value of 400 KB of digits."""
    scene.ask(scene.connect(), b"incr k 1\r\n" * 20, b"\r\n", 20)


# -- logins --------------------------------------------------------------------------------------


@cache
def folder() -> Path:
    """Return a folder for files that servers read, also when they have given up root."""
    made = tempfile.TemporaryDirectory(prefix="conformance-", ignore_cleanup_errors=True)
    atexit.register(made.cleanup)
    path = Path(made.name)
    path.chmod(0o755)
    return path


@cache
def _users(count: int) -> dict[str, str]:
    """Return variables that name a file with so many users, and us."""
    path = folder() / f"users{count}"
    lines = [b"%b:%b" % (USER.encode(), PASSWORD.encode())]
    lines += [
        b"user%d:%b" % (number, encode_hashed(b"password", b"0123456789abcdef", 1))
        for number in range(count)
    ]
    path.write_bytes(b"\n".join(lines) + b"\n")
    path.chmod(0o644)
    return {"MEMCACHED_SASL_PWDB": str(path)}


def binary(opcode: int, key: bytes = b"", value: bytes = b"", extras: bytes = b"") -> bytes:
    """Return one request of the binary protocol."""
    head = bytes([0x80, opcode]) + len(key).to_bytes(2) + bytes([len(extras)]) + bytes(3)
    head += (len(extras) + len(key) + len(value)).to_bytes(4) + bytes(12)
    return head + extras + key + value


def _list_mechanisms(scene: Scene) -> None:
    # The last request is answered by its opaque alone, wherever the answers before it end.
    last = binary(0x0B)
    last = last[:12] + b"last" + last[16:]
    scene.ask(scene.connect(), binary(0x20) * 40 + last, b"last")


@row(way=WAYS["sasl"], environment=lambda: _users(1000))
def sasl_list_1000(scene: Scene) -> None:
    """40 pipelined SASL_LIST of a stranger; the file has 1,000 hashed users."""
    _list_mechanisms(scene)


@row(way=WAYS["sasl"], environment=lambda: _users(10_000))
def sasl_list_10000(scene: Scene) -> None:
    """The same with 10,000 users."""
    _list_mechanisms(scene)


# -- certificates --------------------------------------------------------------------------------


@row(tls=True)
def refresh_certs(scene: Scene) -> None:
    """20 pipelined `refresh_certs`."""
    scene.ask(scene.connect(), b"refresh_certs\r\n" * 20, b"\r\n", 20)


SYSTEM_AUTHORITIES = "/etc/ssl/certs/ca-certificates.crt"


@row(
    tls=True,
    switches=("-o", f"ssl_verify_mode=1,ssl_ca_cert={SYSTEM_AUTHORITIES}")
    if os.path.exists(SYSTEM_AUTHORITIES)
    else (),
)
def refresh_certs_of_system(scene: Scene) -> None:
    """The same with all authorities that the system knows."""
    scene.ask(scene.connect(), b"refresh_certs\r\n" * 20, b"\r\n", 20)


# -- a bucket ------------------------------------------------------------------------------------

_GET = b"GET /pools/default/buckets HTTP/1.1\r\nHost: localhost\r\n\r\n"
_STREAM = _GET.replace(b"/buckets", b"/bucketsStreaming/default")


def _ask_bucket(scene: Scene, clients: int) -> None:
    streams = [scene.dial(scene.bucket_port) for _ in range(clients)]
    count = 16_384 // len(_GET)
    exchange([(each, _GET * count) for each in streams], lambda _: Endings(b"HTTP/1.1 200", count))


@row(bucket=True, on_memcached=False)
def bucket_gets(scene: Scene) -> None:
    """16 KB of pipelined GETs at the port of a bucket."""
    _ask_bucket(scene, 1)


@row(bucket=True, on_memcached=False)
def bucket_gets_of_20(scene: Scene) -> None:
    """20 clients who do that."""
    _ask_bucket(scene, 20)


@row(bucket=True, on_memcached=False)
def bucket_streams(scene: Scene) -> None:
    """256 streams from one host: a client from another one is served all the same."""
    streams = [scene.dial(scene.bucket_port) for _ in range(256)]
    exchange([(each, _STREAM) for each in streams], lambda _: Endings(b"HTTP/1.1 200"), 5.0)
    served = False
    with socket.socket() as stranger:
        stranger.bind(("127.0.0.2", 0))
        stranger.settimeout(5.0)
        try:
            stranger.connect(("127.0.0.1", scene.bucket_port))
            stranger.sendall(_GET)
            served = stranger.recv(12) == b"HTTP/1.1 200"
        except OSError:
            pass
    scene.counts.append(("clients of another host not served", int(not served), 0))


# -- large values --------------------------------------------------------------------------------


def value_of_100m(scene: Scene) -> None:
    scene.store("k", b"v" * scene.times(100 * MEGABYTE))


@row(prepare=value_of_100m, switches=("-I", "128m"), memory_mb=1024)
def append_100m(scene: Scene) -> None:
    """`append` and `prepend` to a value of 100 MB."""
    stream = scene.connect()
    for verb in (b"append", b"prepend") * 3:
        scene.ask(stream, verb + b" k 0 0 1\r\nx\r\n", b"\r\n")


@row(switches=("-I", "64m"), memory_mb=1024, stores=True)
def values_of_8m(scene: Scene) -> None:
    """Values of 8, 16 and 40 MB, stored and read."""
    stream = scene.connect()
    for number in range(scene.times(12)):
        size = (8, 16, 40)[number % 3] * MEGABYTE
        scene.ask(stream, b"set k%d 0 0 %d\r\n%b\r\n" % (number, size, b"v" * size), b"\r\n")
        scene.ask(stream, b"get k%d\r\n" % number, b"END\r\n")


# -- what items really take ----------------------------------------------------------------------


@row(own=("-o", "memory_accounting=resident"), resident=True, stores=True)
def tiny_items(scene: Scene) -> None:
    """Tiny items with flags and times of their own, until the memory is full."""
    rng = random.Random(1)
    scene.store_many(
        b"set %x %d %d 1 noreply\r\nx\r\n"
        % (number, rng.randrange(1 << 32), rng.randrange(3600, 2_000_000))
        for number in range(scene.times(900_000))
    )
