"""A connection that is watched says, byte for byte, what one that is not would say."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

from hypothesis import given
from hypothesis import strategies as st

from pymcd.config import Settings
from pymcd.protocol import Connection
from pymcd.service import Service
from pymcd.testing.clocks import FakeClock
from pymcd.testing.scripted import Script

from ..clocks import ManualClock
from ..hosts import make_host

if TYPE_CHECKING:
    from collections.abc import Callable

KEYS = [b"a", b"b", b"counter", b"k" * 250, b"k" * 251]
keys = st.sampled_from(KEYS)
values = st.one_of(st.sampled_from([b"", b"1", b"12", b"x" * 5000]), st.binary(max_size=20))
quiet = st.sampled_from([b"", b" noreply"])


def storing(verb: bytes, key: bytes, value: bytes, end: bytes) -> bytes:
    cas = b" 1" if verb.startswith(b"cas") else b""
    word, _, noreply = verb.partition(b" ")
    line = b"%b %b 3 0 %d%b %b" % (word, key, len(value), cas, noreply)
    return line.rstrip() + b"\r\n" + value + end


def binary(opcode: int, key: bytes, extras: bytes, value: bytes) -> bytes:
    body = extras + key + value
    head = (0x80, opcode, len(key), len(extras), 0, 0, len(body), b"mine", 0)
    return struct.pack(">BBHBBHI4sQ", *head) + body


text_commands = st.one_of(
    st.builds(
        storing,
        st.sampled_from([b"set", b"add", b"append", b"cas", b"replace noreply", b"set noreply"]),
        keys,
        values,
        st.sampled_from([b"\r\n", b"\r\n", b"\r\n", b"xx"]),
    ),
    st.builds(lambda found: b"get " + b" ".join(found) + b"\r\n", st.lists(keys, min_size=1)),
    st.builds(lambda key: b"gets %b\n" % key, keys),
    st.builds(lambda key, flags: b"mg %b %b\r\n" % (key, flags), keys, st.sampled_from(
        [b"v", b"s v f O1 k", b"q v", b"N30 v t"]
    )),
    st.builds(
        lambda key, value: b"ms %b %d T0 O5 q\r\n%b\r\n" % (key, len(value), value), keys, values
    ),
    st.builds(lambda key, noreply: b"incr %b 1%b\r\n" % (key, noreply), keys, quiet),
    st.builds(lambda key, noreply: b"delete %b%b\r\n" % (key, noreply), keys, quiet),
    st.sampled_from(
        [b"mn\r\n", b"version\r\n", b"\r\n", b"bogus\r\n", b"set a\r\n", b"set a 0 0 x\r\n",
         b"set a 0 0 -1\r\n", b"flush_all noreply\r\n", b"verbosity 0\r\n",
         b"lru_crawler metadump all\r\n",
         b"set a 0 0 2000000\r\n" + bytes(3000), b"quit\r\n"]
    ),
)  # fmt: skip
binary_commands = st.builds(
    binary,
    st.sampled_from([0x00, 0x01, 0x02, 0x04, 0x05, 0x09, 0x0A, 0x0B, 0x0C, 0x0D, 0x11, 0x1C, 0x77]),
    st.sampled_from([b"", *KEYS]),
    st.sampled_from([b"", bytes(4), bytes(8), bytes(20)]),
    st.sampled_from([b"", b"1", b"x" * 5000]),
)
conversations = st.one_of(
    st.lists(text_commands, max_size=12),
    st.lists(binary_commands, max_size=12),
    st.lists(st.binary(max_size=40), max_size=5),
)


def converse(pieces: list[bytes], connect: Callable[[Service], Connection]) -> tuple[bytes, bool]:
    """Feed a connection as the general driver does; return what it said, and whether it ended."""
    service = Service(Settings(), FakeClock("frozen", ManualClock()), make_host())
    connection = connect(service)
    service.connected(connection)
    said: list[bytes | memoryview] = []
    for data in pieces:
        if connection.closing:
            break
        service.tick()
        connection.receive_data(data)
        while True:
            more = connection.run() or connection.source is not None
            while (chunk := connection.next_chunk()) is not None:
                said.append(chunk)
            if not (more or connection.pieces):
                break
    return b"".join(said), connection.closing


def watched(service: Service) -> Connection:
    connection = Connection(service)
    assert isinstance(service.clock, FakeClock)
    script = Script(service.clock)
    script.take_on(connection)
    return connection


@given(conversations, st.lists(st.integers(min_value=1, max_value=6000), min_size=1, max_size=8))
def test_replies_are_the_same_however_requests_arrive(
    requests: list[bytes], sizes: list[int]
) -> None:
    data = b"".join(requests)
    pieces = []
    position = turn = 0
    while position < len(data):
        size = sizes[turn % len(sizes)]
        pieces.append(data[position : position + size])
        position += size
        turn += 1
    assert converse(pieces, watched) == converse(pieces, Connection)
