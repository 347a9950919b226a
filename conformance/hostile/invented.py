"""Attacks that look for other ways around each rule: long turns, memory under way, slow readers."""

from __future__ import annotations

import contextlib
import os
import random
import socket
import ssl
import struct
import threading
import time

from conformance.pair.ways import PASSWORD, USER, WAYS, client_context
from conformance.tls import HOST
from pymcd.auth import encode_hashed

from .known import (
    MEGABYTE,
    binary,
    folder,
    small_items,
    value_of_1,
    value_of_1m,
    value_of_4000,
    values_of_1m,
)
from .rows import row
from .scene import LOOPBACK, Endings, Scene, exchange, never

#: Little of everything that is held for a client who does not read.
_SMALL_WINDOW_BYTES = 4096


@row()
def nothing(scene: Scene) -> None:
    """No attack: what the probe sees of the machine."""
    scene.hold(3.0)


# -- many commands at once -----------------------------------------------------------------------


def _pipelines(scene: Scene, clients: int, commands: bytes, ending: bytes, times: int) -> None:
    """Have many clients say much at once, and read all answers."""
    orders = [(stream, commands) for stream in scene.connect_many(clients)]
    exchange(orders, lambda _: Endings(ending, times))


@row(prepare=value_of_4000)
def meta_pipelines(scene: Scene) -> None:
    """40 clients with 5,000 `mg` of 4,000 bytes each, and `mn`."""
    commands = b"mg k s v f t c k Oabc q\r\n" * scene.times(5000) + b"mn\r\n"
    _pipelines(scene, 40, commands, b"MN\r\n", 1)


@row(prepare=value_of_4000)
def binary_pipelines(scene: Scene) -> None:
    """40 clients with 5,000 GETKQ of 4,000 bytes each, and NOOP."""
    last = binary(0x0A)
    commands = binary(0x0D, b"k") * scene.times(5000) + last[:12] + b"last" + last[16:]
    _pipelines(scene, 40, commands, b"last", 1)


@row(prepare=value_of_1m)
def binary_unread(scene: Scene) -> None:
    """200 clients with 20 GETKQ of 1 MB each, who read nothing."""
    commands = binary(0x0D, b"k") * 20 + binary(0x0A)
    exchange([(each, commands) for each in scene.connect_many(scene.times(200))], None)
    scene.hold(2.0)


@row(prepare=value_of_4000)
def small_unread(scene: Scene) -> None:
    """900 clients with 9,000 gets of 4,000 bytes each, who read nothing."""
    streams = scene.connect_many(scene.times(900))
    exchange([(each, b"get k\r\n" * 9000) for each in streams], None)
    scene.hold(2.0)


@row(prepare=value_of_1m)
def half_closed(scene: Scene) -> None:
    """200 clients who have said that no more will come, and read nothing."""
    for stream in scene.connect_many(scene.times(200)):
        stream.sendall(b"get k k k k k k k k k k k k k k k k\r\n" * 10)
        stream.shutdown(socket.SHUT_WR)
    scene.hold(2.0)


@row(prepare=value_of_1, switches=("-R", "2147483647"))
def no_command_budget(scene: Scene) -> None:
    """40 clients with 20,000 gets each, where a client may have as many as it likes in a turn."""
    _pipelines(scene, 40, b"get k\r\n" * scene.times(20_000), b"END\r\n", scene.times(20_000))


@row(prepare=value_of_1)
def noreply_pipelines(scene: Scene) -> None:
    """40 clients with 20,000 commands each that answer nothing."""
    commands = b"set k 0 0 1 noreply\r\nx\r\ntouch k 100 noreply\r\nincr n 1 noreply\r\n"
    commands += b"delete z noreply\r\nappend z 0 0 1 noreply\r\ny\r\n"
    _pipelines(scene, 40, commands * scene.times(4000) + b"mn\r\n", b"MN\r\n", 1)


@row(prepare=small_items)
def touch_storm(scene: Scene) -> None:
    """20 clients who touch 60,000 items, again and again."""
    count = scene.times(20_000)
    rng = random.Random(1)
    commands = b"".join(
        b"touch key:%06d %d noreply\r\n" % (rng.randrange(60_000), rng.randrange(1, 9999))
        for _ in range(count)
    )
    _pipelines(scene, 20, commands + b"mn\r\n", b"MN\r\n", 1)


@row(prepare=small_items)
def gat_of_many(scene: Scene) -> None:
    """`gat` and `gats` of 10,000 keys in a line."""
    keys = b" ".join(b"key:%06d" % number for number in range(scene.times(10_000)))
    for verb in (b"gat 100 ", b"gats 100 ", b"gets "):
        scene.ask(scene.connect(), verb + keys + b"\r\n", b"\r\n")
    scene.hold(0.5)


@row(prepare=small_items)
def gets_of_many(scene: Scene) -> None:
    """20 clients with one `gets` of 20,000 keys in a line each."""
    keys = b" ".join(b"key:%06d" % number for number in range(scene.times(20_000)))
    _pipelines(scene, 20, b"gets " + keys + b"\r\n", b"END\r\n", 1)


# -- lines and values that come slowly, or not at all --------------------------------------------


@row()
def endless_lines(scene: Scene) -> None:
    """200 clients with a `get` of 7 MB each that does not end."""
    line = b"get " + b"k" * 200
    line += b" kkkkkkk" * (7 * MEGABYTE // 8)
    exchange([(each, line) for each in scene.connect_many(scene.times(200))], None)
    scene.hold(2.0)


@row(prepare=value_of_1)
def dripping_line(scene: Scene) -> None:
    """A `get` of 4 MB that comes in pieces of 1,000 bytes."""
    stream = scene.connect()
    stream.sendall(b"get")
    piece = b" k" * 500
    for _ in range(scene.times(4000)):
        stream.sendall(piece)
    scene.ask(stream, b"\r\n", b"END\r\n")


@row()
def dripping_values(scene: Scene) -> None:
    """100 clients whose values of 500 KB come in pieces of 100 bytes."""
    streams = scene.connect_many(scene.times(100))
    for number, stream in enumerate(streams):
        stream.sendall(b"set d%d 0 0 500000\r\n" % number)
    for _ in range(scene.times(500)):
        for stream in streams:
            stream.sendall(b"v" * 100)


@row()
def wrong_ends(scene: Scene) -> None:
    """20 clients with 20 values of 500 KB each that end wrong; then they are commands."""
    value = b"get k\r\n" * 71_000
    request = b"set k 0 0 %d\r\n%bxx\r\n" % (len(value) - 5, value)
    streams = scene.connect_many(scene.times(20))
    exchange([(each, request * 20) for each in streams], lambda _: never, silence_s=2.0)


@row()
def too_large(scene: Scene) -> None:
    """50 clients with 20 values of 2 MB each, which are too large."""
    request = b"set k 0 0 2000000\r\n" + b"v" * 2_000_000 + b"\r\n"
    streams = scene.connect_many(scene.times(50))
    exchange([(each, request * 20) for each in streams], lambda _: Endings(b"\r\n", 20))


@row()
def ms_invalid(scene: Scene) -> None:
    """40 clients with 5,000 `ms` each of which something is wrong."""
    wrong = b"".join(
        b"ms %b\r\nxx\r\n" % words
        for words in (
            b"k S2",
            b"k 2 Mx",
            b"k 2 Fx",
            b"k 2 T-",
            b"k 2 b",
            b"k 2 Ox" + b"y" * 40,
            b"k -2",
            b"k 2 I I",
            b"k " + b"9" * 30,
            b"k 2 " + b"q " * 500,
        )
    )
    streams = scene.connect_many(40)
    commands = wrong * scene.times(500)
    exchange([(each, commands) for each in streams], lambda _: never, silence_s=1.0)


@row()
def meta_base64(scene: Scene) -> None:
    """40 clients with 10,000 `mg` each of keys in base64, right and wrong."""
    right = b"mg " + b"QUFB" * 60 + b" b k v\r\n"
    wrong = b"mg " + b"QUF*" * 60 + b" b k v\r\n" + b"mg Q b v\r\n"
    commands = (right + wrong) * scene.times(3000) + b"mn\r\n"
    _pipelines(scene, 40, commands, b"MN\r\n", 1)


@row()
def begun_values(scene: Scene) -> None:
    """1,000 clients who each begin a value with 60 KB, and stop."""
    piece = b"v" * 60_000
    for number, stream in enumerate(scene.connect_many(scene.times(1000))):
        stream.sendall(b"set k%d 0 0 500000\r\n%b" % (number, piece))
    scene.hold(2.0)


@row()
def binary_bodies(scene: Scene) -> None:
    """500 clients who announce a body of 1 MB to commands that have none, and send most of it."""
    requests = [
        bytes([0x80, opcode]) + bytes(6) + MEGABYTE.to_bytes(4) + bytes(12) + b"v" * 900_000
        for opcode in (0x00, 0x04, 0x0A, 0x10, 0x1C, 0x50, 0xFF)
    ]
    streams = scene.connect_many(scene.times(500))
    orders = [(each, requests[number % len(requests)]) for number, each in enumerate(streams)]
    exchange(orders, None)
    scene.hold(1.0)


# -- reports -------------------------------------------------------------------------------------


@row(prepare=small_items)
def metadump_unread(scene: Scene) -> None:
    """100 clients who ask for a dump of all 60,000 items and read nothing."""
    streams = scene.connect_many(scene.times(100))
    for command in (b"lru_crawler metadump all\r\n", b"lru_crawler mgdump all\r\n"):
        exchange([(each, command) for each in streams[::2]], None, silence_s=1.0)
        exchange([(each, command) for each in streams[1::2]], None, silence_s=1.0)
    scene.hold(2.0)


@row(prepare=small_items)
def stats_pipelines(scene: Scene) -> None:
    """20 clients with 500 reports each of every kind."""
    reports = b"".join(
        b"stats%b\r\n" % each
        for each in (b"", b" settings", b" slabs", b" items", b" sizes", b" conns", b" detail dump")
    )
    count = scene.times(70)
    _pipelines(scene, 20, reports * count, b"END\r\n", 5 * count)


@row()
def stats_of_connections(scene: Scene) -> None:
    """900 connections, and 20 clients with 20 `stats conns` each."""
    scene.connect_many(scene.times(900))
    _pipelines(scene, 20, b"stats conns\r\n" * 20, b"END\r\n", 20)


def _prefixes(scene: Scene) -> None:
    scene.store_many([b"stats detail on\r\n"])
    scene.store_many(
        b"set p%x:k 0 0 1 noreply\r\nx\r\n" % number for number in range(scene.times(60_000))
    )


@row(prepare=_prefixes)
def detail_dump(scene: Scene) -> None:
    """20 clients with 5 `stats detail dump` each of 60,000 prefixes."""
    _pipelines(scene, 20, b"stats detail dump\r\n" * 5, b"END\r\n", 5)


@row()
def slow_watchers(scene: Scene) -> None:
    """50 clients who watch everything and read nothing, while 10 others store and get."""
    for stream in scene.connect_many(scene.times(50)):
        stream.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _SMALL_WINDOW_BYTES)
        stream.sendall(b"watch fetchers mutations evictions connevents deletions\r\n")
    key = b"k" * 200
    commands = b"set %b 0 0 1 noreply\r\nx\r\nget %b\r\nmg %b v\r\n" % (key, key, key)
    count = scene.times(4000)
    _pipelines(scene, 10, commands * count, b"END\r\n", count)


@row(prepare=small_items)
def verbosity(scene: Scene) -> None:
    """A client who has everything logged, and 20 who give cause for it."""
    scene.ask(scene.connect(), b"verbosity 2\r\n", b"OK\r\n")
    count = scene.times(2000)
    _pipelines(scene, 20, b"get key:000001\r\n" * count, b"END\r\n", count)


@row(prepare=small_items)
def settings_storm(scene: Scene) -> None:
    """10 clients with 10,000 commands each that change how items are kept, or counted."""
    changes = b"lru mode flat\r\nlru mode segmented\r\nlru temp_ttl 10\r\nlru temp_ttl -1\r\n"
    changes += (
        b"lru tune 10 60 0.1 2.0\r\nstats sizes_enable\r\nstats sizes_disable\r\nstats reset\r\n"
    )
    changes += b"stats detail on\r\nstats detail off\r\nslabs automove 0\r\nslabs automove 1\r\n"
    _pipelines(scene, 10, changes * scene.times(800) + b"mn\r\n", b"MN\r\n", 1)


# -- memory moves --------------------------------------------------------------------------------


def _many_items(scene: Scene) -> None:
    count = scene.times(400_000)
    scene.store_many(b"set %x 0 0 1 noreply\r\nx\r\n" % number for number in range(count))


@row(prepare=_many_items)
def flush_storm(scene: Scene) -> None:
    """20 clients who flush 400,000 items 2,000 times each."""
    count = scene.times(2000)
    commands = b"flush_all\r\nset k 0 0 1\r\nx\r\nget k\r\n"
    _pipelines(scene, 20, commands * count, b"OK\r\n", count)
    scene.hold(3.0)


@row(prepare=_many_items)
def less_memory(scene: Scene) -> None:
    """`cache_memlimit` to an eighth of what is held, and back, 20 times."""
    stream = scene.connect()
    for _ in range(scene.times(20)):
        scene.ask(stream, b"cache_memlimit 8\r\ncache_memlimit 64\r\n", b"\r\n", 2)
    scene.ask(stream, b"cache_memlimit 8\r\n", b"\r\n")
    scene.hold(3.0)


@row(prepare=_many_items, stores=True)
def large_among_small(scene: Scene) -> None:
    """Values of 1 MB into memory that is full of tiny ones."""
    request = b"".join(
        b"set big%d 0 0 1000000\r\n%b\r\n" % (number, b"v" * MEGABYTE) for number in range(40)
    )
    scene.ask(scene.connect(), request, b"\r\n", 40)
    scene.hold(1.0)


@row(prepare=_many_items)
def reassign(scene: Scene) -> None:
    """10 clients with 1,000 `slabs reassign` each, and automove at its most eager."""
    commands = b"slabs automove 2\r\n" + b"slabs reassign -1 12\r\nslabs reassign 1 13\r\n" * 500
    _pipelines(scene, 10, commands, b"\r\n", 1001)
    scene.hold(2.0)


@row(prepare=_many_items)
def crawls(scene: Scene) -> None:
    """20 clients with 200 orders each for the crawler, of 400,000 items."""
    commands = b"lru_crawler crawl all\r\nlru_crawler tocrawl 0\r\nlru_crawler sleep 0\r\n"
    commands += b"lru_crawler disable\r\nlru_crawler enable\r\n"
    _pipelines(scene, 20, commands * 40, b"\r\n", 200)
    scene.hold(2.0)


def _ending_items(scene: Scene) -> None:
    count = scene.times(300_000)
    scene.store_many(b"set %x 0 2 1 noreply\r\nx\r\n" % number for number in range(count))


@row(prepare=_ending_items)
def all_end_at_once(scene: Scene) -> None:
    """300,000 items end in the same second."""
    scene.hold(6.0)


@row(prepare=value_of_1m)
def append_storm(scene: Scene) -> None:
    """20 clients who append a byte to a value of 1 MB 200 times each."""
    count = scene.times(200)
    commands = b"append k 0 0 1\r\nx\r\nprepend k 0 0 1\r\nx\r\n" * (count // 2 or 1)
    _pipelines(scene, 20, commands, b"\r\n", 2 * (count // 2 or 1))


@row(stores=True)
def fragmenting(scene: Scene) -> None:
    """Values of one size until the memory is full, most of them deleted, then those of another."""
    rng = random.Random(1)
    for turn, size in enumerate((100, 700, 3000, 450, 12_000, 200, 1500)):
        value = b"v" * size
        count = scene.times(60_000_000) // (size + 100)
        scene.store_many(
            (
                b"set %d:%d 0 0 %d noreply\r\n%b\r\n" % (turn, number, size, value)
                for number in range(count)
            ),
            batch=200,
        )
        scene.store_many(
            b"delete %d:%d noreply\r\n" % (turn, number)
            for number in range(count)
            if rng.random() < 0.9
        )


@row()
def deletions(scene: Scene) -> None:
    """400,000 keys that are stored and deleted, each once."""
    scene.store_many(
        b"set passing:%d 0 0 1 noreply\r\nx\r\ndelete passing:%d noreply\r\n" % (number, number)
        for number in range(scene.times(400_000))
    )


@row(prepare=values_of_1m)
def large_writes(scene: Scene) -> None:
    """40 clients who overwrite values of 1 MB, 20 times each."""
    request = b"set k%d 0 0 1000000\r\n" + b"v" * MEGABYTE + b"\r\n"
    orders = [
        (each, (request % (number % 10)) * scene.times(20))
        for number, each in enumerate(scene.connect_many(40))
    ]
    exchange(orders, lambda _: Endings(b"\r\n", scene.times(20)))


# -- connections ---------------------------------------------------------------------------------


@row()
def come_and_go(scene: Scene) -> None:
    """5,000 clients who come, ask and go; another 5,000 who come and are reset."""
    for number in range(scene.times(10_000)):
        with socket.create_connection((LOOPBACK, scene.port)) as stream:
            if number % 2:
                stream.sendall(b"version\r\n")
                stream.recv(100)
            else:
                stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


@row(switches=("-c", "100"))
def too_many(scene: Scene) -> None:
    """5,000 clients where 100 are let in."""
    scene.connect_many(90)
    for _ in range(scene.times(5000)):
        with socket.create_connection((LOOPBACK, scene.port)) as stream:
            stream.settimeout(1.0)
            with contextlib.suppress(OSError):
                stream.sendall(b"get k\r\n")
                stream.recv(100)


@row(tls=True)
def tls_handshakes(scene: Scene) -> None:
    """200 handshakes, one after the other, each of a new session."""
    context = client_context()
    for _ in range(scene.times(200)):
        with socket.create_connection((LOOPBACK, scene.tls_port)) as plain:
            context.wrap_socket(plain, server_hostname=HOST).close()


@row(tls=True)
def tls_handshakes_at_once(scene: Scene) -> None:
    """100 handshakes of which all first messages come in the same moment."""
    halves = []
    for _ in range(scene.times(100)):
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        tls = client_context().wrap_bio(incoming, outgoing, server_hostname=HOST)
        with contextlib.suppress(ssl.SSLWantReadError):
            tls.do_handshake()
        halves.append((scene.dial(scene.tls_port), outgoing.read()))
    exchange(halves, lambda _: lambda data: True)


@row(tls=True)
def tls_half_handshakes(scene: Scene) -> None:
    """500 clients who send half of a first message, and garbage, and no more."""
    for number in range(scene.times(500)):
        stream = scene.dial(scene.tls_port)
        stream.sendall(b"\x16\x03\x01\x40\x00\x01\x00\x3f" + os.urandom(100 + number))
    for _ in range(scene.times(500)):
        with contextlib.suppress(OSError):
            scene.dial(scene.tls_port).sendall(os.urandom(100))
    scene.hold(2.0)


@row(tls=True, prepare=value_of_1)
def tls_small_records(scene: Scene) -> None:
    """10 clients over TLS who say 5,000 commands a byte to a record."""
    streams = [scene.connect_tls() for _ in range(10)]
    for _ in range(scene.times(700)):
        for stream in streams:
            for byte in b"get k\r\n":
                stream.send(bytes([byte]))


# -- logins --------------------------------------------------------------------------------------


@row(way=WAYS["sasl"])
def half_logins(scene: Scene) -> None:
    """900 strangers with half a login each."""
    whole = binary(0x21, b"PLAIN", b"\0" + b"u" * 3000 + b"\0p")
    for stream in scene.connect_many(scene.times(900)):
        stream.sendall(whole[:-10])
    scene.hold(2.0)


def _hashed_users() -> dict[str, str]:
    path = folder() / "hashed"
    hashed = encode_hashed(b"password", b"0123456789abcdef")
    path.write_bytes(b"%b:%b\nhashed:%b\n" % (USER.encode(), PASSWORD.encode(), hashed))
    path.chmod(0o644)
    return {"MEMCACHED_SASL_PWDB": str(path)}


@row(way=WAYS["sasl"], environment=_hashed_users)
def wrong_passwords(scene: Scene) -> None:
    """20 strangers with 100 pipelined wrong passwords each, of a hashed user."""
    count = scene.times(100)
    commands = b"".join(binary(0x21, b"PLAIN", b"\0hashed\0wrong%d" % n) for n in range(count))
    exchange(
        [(each, commands) for each in scene.connect_many(20)],
        lambda _: Endings(b"\x81\x21", count),
        patience_s=30.0,
    )


@row(way=WAYS["login"])
def wrong_text_logins(scene: Scene) -> None:
    """20 strangers with 500 pipelined wrong logins each."""
    value = b"nobody knows"
    commands = b"set login 0 0 %d\r\n%b\r\n" % (len(value), value) * scene.times(500)
    orders = [(each, commands) for each in scene.connect_many(20)]
    exchange(orders, lambda _: never, silence_s=1.0)


# -- datagrams -----------------------------------------------------------------------------------


@row(prepare=value_of_1m, switches=("-U", "-1"))
def datagrams(scene: Scene) -> None:
    """100 datagrams that get 1 MB 80 times each; the answers are not read."""
    request = b"\0\1\0\0\0\1\0\0" + b"get k\r\n" * 79
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.connect((LOOPBACK, scene.udp_port))
        for _ in range(scene.times(100)):
            with contextlib.suppress(ConnectionRefusedError):
                sock.send(request)
        scene.hold(3.0)


@row(prepare=small_items, switches=("-U", "-1"))
def reports_in_datagrams(scene: Scene) -> None:
    """400 datagrams that ask for every report, for dumps, and to watch."""
    wanted = (
        b"stats\r\n",
        b"stats cachedump 2 0\r\n",
        b"lru_crawler metadump all\r\n",
        b"watch\r\n",
        b"stats settings\r\n" * 80,
        b"stats items\r\n" * 100,
        b"get " + b"key:000001 " * 120 + b"\r\n",
        b"lru_crawler mgdump all\r\n",
        b"set k 0 0 1000\r\n" + b"v" * 900,
        b"\x80\x10" + bytes(22),
    )
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.connect((LOOPBACK, scene.udp_port))
        for number in range(scene.times(400)):
            with contextlib.suppress(ConnectionRefusedError):
                sock.send(b"\0\1\0\0\0\1\0\0" + wanted[number % len(wanted)])
        scene.hold(3.0)


# -- the log -------------------------------------------------------------------------------------


@row(prepare=value_of_1, switches=("-vv",), log_unread=True)
def log_unread(scene: Scene) -> None:
    """10 clients with 5,000 commands each, where each is logged into a pipe that nobody reads."""
    count = scene.times(5000)
    streams = scene.connect_many(10)
    exchange(
        [(each, b"get k\r\n" * count) for each in streams],
        lambda _: Endings(b"END\r\n", count),
        patience_s=20.0,
    )


# -- other ports ---------------------------------------------------------------------------------


@row(only_pair=True, on_memcached=False)
def replication_strangers(scene: Scene) -> None:
    """300 strangers at the port of the peers: garbage, long frames that do not come, silence."""
    for number in range(scene.times(300)):
        stream = scene.dial(scene.replication_port)
        with contextlib.suppress(OSError):
            stream.sendall((b"", os.urandom(5000), b"\x7f\xff\xff\xff" * 500)[number % 3])
    scene.hold(2.0)


@row(bucket=True, on_memcached=False)
def bucket_slow(scene: Scene) -> None:
    """300 clients at the port of a bucket who send their request a byte at a time."""
    streams = []
    for _ in range(scene.times(300)):
        with contextlib.suppress(OSError):
            streams.append(scene.dial(scene.bucket_port))
    for byte in b"GET /pools/default/buckets HTTP/1.1\r\nX: ":
        for stream in streams:
            with contextlib.suppress(OSError):
                stream.send(bytes([byte]))
    for stream in streams:
        with contextlib.suppress(OSError):
            stream.sendall(b"y" * 10_000)
    scene.hold(1.0)


@row(bucket=True, on_memcached=False)
def bucket_unread(scene: Scene) -> None:
    """100 clients at the port of a bucket with 16 KB of GETs each, who read nothing."""
    request = b"GET /pools/default/buckets HTTP/1.1\r\nHost: localhost\r\n\r\n" * 300
    streams = [scene.dial(scene.bucket_port) for _ in range(scene.times(100))]
    exchange([(each, request) for each in streams], None, silence_s=1.0)
    scene.hold(1.0)


# -- who asks how the server does ----------------------------------------------------------------

_METRICS = b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n"


def _ask_all(scene: Scene, clients: int, said: bytes, silence_s: float = 1.0) -> None:
    """Have many say something at the port for HTTP, who read nothing; all others are answered."""
    orders = []
    for _ in range(scene.times(clients)):
        with contextlib.suppress(OSError):
            orders.append((scene.dial(scene.http_port), said))
    exchange(orders, None, silence_s=silence_s)
    scene.hold(1.0)
    _see_that_it_answers(scene)


def _see_that_it_answers(scene: Scene) -> None:
    """Count whether a client of another host is answered."""
    answered = False
    with socket.socket() as other:
        other.bind(("127.0.0.2", 0))
        other.settimeout(10.0)
        with contextlib.suppress(OSError):
            other.connect((LOOPBACK, scene.http_port))
            other.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
            answered = other.recv(12) == b"HTTP/1.1 200"
    scene.counts.append(("questions of another host not answered", int(not answered), 0))


@row(http=True, on_memcached=False)
def http_garbage(scene: Scene) -> None:
    """200 clients with 64 KB of noise each at the port for HTTP."""
    _ask_all(scene, 200, random.Random(1).randbytes(64 << 10))


@row(http=True, on_memcached=False)
def http_headers(scene: Scene) -> None:
    """100 clients with a megabyte of headers each."""
    _ask_all(scene, 100, b"GET / HTTP/1.1\r\n" + b"X-Long: yes\r\n" * (MEGABYTE // 13))


@row(http=True, on_memcached=False)
def http_slow(scene: Scene) -> None:
    """300 clients who send their request a byte at a time."""
    streams = []
    for _ in range(scene.times(300)):
        with contextlib.suppress(OSError):
            streams.append(scene.dial(scene.http_port))
    for byte in b"GET /metrics HTTP/1.1\r\nX: ":
        for stream in streams:
            with contextlib.suppress(OSError):
                stream.send(bytes([byte]))
    scene.hold(1.0)
    _see_that_it_answers(scene)


@row(http=True, on_memcached=False)
def http_unread(scene: Scene) -> None:
    """100 clients who ask for all metrics 300 times each, and read nothing."""
    _ask_all(scene, 100, _METRICS * 300)


@row(http=True, on_memcached=False, prepare=small_items)
def http_scrapes(scene: Scene) -> None:
    """30 clients who ask for all metrics again and again."""
    streams = [scene.dial(scene.http_port) for _ in range(30)]
    count = scene.times(40)
    orders = [(each, _METRICS * count) for each in streams]
    exchange(orders, lambda _: Endings(b"HTTP/1.1 200", count), patience_s=30.0)
    _see_that_it_answers(scene)


# -- values through a pair -----------------------------------------------------------------------


@row(only_pair=True, on_memcached=False, switches=("-I", "32m"), memory_mb=512, stores=True)
def large_from_both(scene: Scene) -> None:
    """Three clients with values of 8 to 30 MB at once, stored, appended to, read."""

    def store(number: int) -> None:
        stream = scene.connect()
        for turn in range(scene.times(4)):
            size = (8, 16, 30)[number] * MEGABYTE - turn
            value = b"v" * size
            scene.ask(stream, b"set big%d 0 0 %d\r\n%b\r\n" % (number, size, value), b"\r\n")
            scene.ask(stream, b"append big%d 0 0 1\r\nx\r\n" % number, b"\r\n")
            scene.ask(stream, b"get big%d\r\n" % number, b"END\r\n")

    threads = [threading.Thread(target=store, args=(number,)) for number in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    time.sleep(0.5)
