"""The same operations through the three protocols leave the same store behind.

`Speaker` is what a client can do whatever it speaks; three subclasses put it into words. A random
conversation is held three times, by one speaker alone on a server each, and once more on a fourth
server where they take turns. All stores must be the same to the last cas unique, and all answers
must mean the same.
"""

from __future__ import annotations

import re
import struct
from abc import ABC, abstractmethod
from base64 import b64encode
from typing import TYPE_CHECKING, Any, NamedTuple

from hypothesis import given
from hypothesis import strategies as st

from pymcd.store import StoreMode
from pymcd.store.item import ACTIVE
from tests.protocol import binary_client as binary
from tests.protocol.helpers import Client, make_service

from ..clocks import ManualClock

if TYPE_CHECKING:
    from pymcd.service import Service

SET, ADD, REPLACE, APPEND, PREPEND, CAS = StoreMode

WORDS = {mode: mode.name.lower().encode() for mode in StoreMode}
OPCODES = {
    SET: binary.SET, ADD: binary.ADD, REPLACE: binary.REPLACE, APPEND: binary.APPEND,
    PREPEND: binary.PREPEND, CAS: binary.SET,
}  # fmt: skip
META_MODES = {SET: b"MS", ADD: b"ME", REPLACE: b"MR", APPEND: b"MA", PREPEND: b"MP", CAS: b"MS"}


class Found(NamedTuple):
    """What a client gets to see of an item."""

    value: bytes
    client_flags: int
    cas_unique: int


class Speaker(ABC):
    """A client; every method returns what the answer means."""

    def __init__(self, service: Service) -> None:
        self.client = Client(service)

    def send(self, request: bytes) -> bytes:
        return self.client.send(request)

    @abstractmethod
    def store(
        self, mode: StoreMode, key: bytes, value: bytes, flags: int, exptime: int, cas: int
    ) -> bool: ...

    @abstractmethod
    def delete(self, key: bytes) -> bool: ...

    @abstractmethod
    def get(self, key: bytes) -> Found | None: ...

    @abstractmethod
    def touch(self, key: bytes, exptime: int) -> bool: ...

    @abstractmethod
    def get_and_touch(self, key: bytes, exptime: int) -> Found | None: ...

    @abstractmethod
    def count(self, key: bytes, delta: int, decrement: bool) -> int | None:
        """Return the new number; None: there is no item, or it is no number."""

    @abstractmethod
    def flush(self, delay_s: int) -> bool: ...


class Text(Speaker):
    def store(self, mode, key, value, flags, exptime, cas):
        unique = b" %d" % cas if mode is CAS else b""
        line = b"%b %b %d %d %d%b" % (WORDS[mode], key, flags, exptime, len(value), unique)
        return self.send(b"%b\r\n%b\r\n" % (line, value)) == b"STORED\r\n"

    def delete(self, key):
        return self.send(b"delete %b\r\n" % key) == b"DELETED\r\n"

    def get(self, key):
        return self._found(self.send(b"gets %b\r\n" % key))

    def touch(self, key, exptime):
        return self.send(b"touch %b %d\r\n" % (key, exptime)) == b"TOUCHED\r\n"

    def get_and_touch(self, key, exptime):
        return self._found(self.send(b"gats %d %b\r\n" % (exptime, key)))

    def _found(self, reply):
        if reply == b"END\r\n":
            return None
        found = re.fullmatch(rb"VALUE \S+ (\d+) (\d+) (\d+)\r\n(.*)\r\nEND\r\n", reply, re.DOTALL)
        assert found is not None
        flags, length, cas, value = found.groups()
        assert int(length) == len(value)
        return Found(value, int(flags), int(cas))

    def count(self, key, delta, decrement):
        reply = self.send(b"%b %b %d\r\n" % (b"decr" if decrement else b"incr", key, delta))
        return int(reply) if reply[:1].isdigit() else None

    def flush(self, delay_s):
        return self.send(b"flush_all %d\r\n" % delay_s) == b"OK\r\n"


class Meta(Speaker):
    def store(self, mode, key, value, flags, exptime, cas):
        words = [b"ms", key, b"%d" % len(value), b"F%d" % flags, b"T%d" % exptime, META_MODES[mode]]
        if mode is CAS:
            words.append(b"C%d" % cas)
        return self.send(b"%b\r\n%b\r\n" % (self._line(words), value)) == b"HD\r\n"

    def _line(self, words):
        return b" ".join(words)

    def delete(self, key):
        return self.send(self._line([b"md", key]) + b"\r\n") == b"HD\r\n"

    def get(self, key):
        return self._fetch([b"mg", key, b"v", b"f", b"c"])

    def touch(self, key, exptime):
        return self.send(self._line([b"mg", key, b"T%d" % exptime]) + b"\r\n") == b"HD\r\n"

    def get_and_touch(self, key, exptime):
        return self._fetch([b"mg", key, b"v", b"f", b"c", b"T%d" % exptime])

    def _fetch(self, words):
        reply = self.send(self._line(words) + b"\r\n")
        if reply == b"EN\r\n":
            return None
        found = re.fullmatch(rb"VA (\d+) f(\d+) c(\d+)\r\n(.*)\r\n", reply, re.DOTALL)
        assert found is not None
        length, flags, cas, value = found.groups()
        assert int(length) == len(value)
        return Found(value, int(flags), int(cas))

    def count(self, key, delta, decrement):
        mode = b"MD" if decrement else b"MI"
        reply = self.send(self._line([b"ma", key, b"v", b"D%d" % delta, mode]) + b"\r\n")
        return int(reply.split(b"\r\n")[1]) if reply.startswith(b"VA ") else None

    def flush(self, delay_s):
        return self.send(b"flush_all %d\r\n" % delay_s) == b"OK\r\n"


class MetaInBase64(Meta):
    def _line(self, words):
        return b" ".join([words[0], b64encode(words[1]), *words[2:], b"b"])


class Binary(Speaker):
    def ask(self, request):
        (reply,) = binary.decode(self.send(request))
        return reply

    def store(self, mode, key, value, flags, exptime, cas):
        if mode in (APPEND, PREPEND):
            request = binary.request(OPCODES[mode], key, value=value)
        else:
            request = binary.store(OPCODES[mode], key, value, flags=flags, exptime=exptime, cas=cas)
        return self.ask(request).status == 0

    def delete(self, key):
        return self.ask(binary.request(binary.DELETE, key)).status == 0

    def get(self, key):
        return self._found(self.ask(binary.request(binary.GET, key)))

    def touch(self, key, exptime):
        return self.ask(binary.touch(binary.TOUCH, key, exptime)).status == 0

    def get_and_touch(self, key, exptime):
        return self._found(self.ask(binary.touch(binary.GAT, key, exptime)))

    def _found(self, reply):
        if reply.status:
            return None
        return Found(reply.value, struct.unpack(">I", reply.extras)[0], reply.cas)

    def count(self, key, delta, decrement):
        opcode = binary.DECREMENT if decrement else binary.INCREMENT
        reply = self.ask(binary.count(opcode, key, delta, exptime=0xFFFFFFFF))
        return None if reply.status else struct.unpack(">Q", reply.value)[0]

    def flush(self, delay_s):
        return self.ask(binary.request(binary.FLUSH, extras=struct.pack(">I", delay_s))).status == 0


SPEAKERS: list[type[Speaker]] = [Text, Meta, MetaInBase64, Binary]


class Server:
    """A service, a clock of its own, and a client for each way to speak to it."""

    def __init__(self, **settings: Any) -> None:
        self.clock = ManualClock()
        self.service = make_service(self.clock, **settings)
        self.speakers = [speaker(self.service) for speaker in SPEAKERS]

    def contents(self) -> dict[bytes, tuple[Any, ...]]:
        """Return all that can be known of the living items, but for how their keys came."""
        self.service.cache.tick()
        self.service.cache.check()
        return {
            item.key: (
                item.value,
                item.client_flags,
                item.expires_at,
                item.cas_unique,
                item.last_access,
                item.fetched,
                bool(item.access & ACTIVE),
                item.segment.kind,
                item.segment.slab_class.id,
            )
            for item in self.service.cache.items()
            if item.segment is not None and not self.service.cache.is_dead(item)
        }

    def counters(self) -> dict[str, str]:
        """Return what was counted, but for what depends on the words, not on their meaning."""
        reply = Text(self.service).send(b"stats\r\n")
        rows = dict(line.decode().split()[1:3] for line in reply.split(b"\r\n")[:-2])
        return {name: rows[name] for name in COUNTED}


COUNTED = [
    "curr_items", "total_items", "bytes", "cmd_get", "cmd_set", "cmd_flush", "cmd_touch",
    "get_hits", "get_misses", "get_expired", "get_flushed", "delete_hits", "delete_misses",
    "incr_hits", "incr_misses", "decr_hits", "decr_misses", "cas_hits", "cas_badval", "cas_misses",
    "touch_hits", "touch_misses", "evictions",
]  # fmt: skip

KEYS = st.sampled_from([b"a", b"b", b"c", b"k" * 180])
VALUES = st.one_of(
    st.sampled_from([b"", b"0", b"9", b"10", b"99", b"x", b"5 ", b"18446744073709551615"]),
    st.binary(max_size=40),
    st.integers(1000, 600_000).map(lambda length: b"v" * length),
)
EXPTIMES = st.sampled_from([0, 0, 0, 1, 5, 100, 2_000_000_000])
STORES = st.tuples(
    st.just("store"),
    st.sampled_from([SET, SET, ADD, REPLACE, APPEND, PREPEND]),
    KEYS,
    VALUES,
    st.sampled_from([0, 0, 1, 0xFFFFFFFF]),
    EXPTIMES,
)
OPERATIONS = st.one_of(
    STORES,
    st.tuples(st.just("cas"), KEYS, VALUES, st.booleans()),
    st.tuples(st.just("get"), KEYS),
    st.tuples(st.just("get"), KEYS),
    st.tuples(st.just("delete"), KEYS),
    st.tuples(st.just("touch"), KEYS, EXPTIMES),
    st.tuples(st.just("get_and_touch"), KEYS, EXPTIMES),
    st.tuples(st.just("count"), KEYS, st.sampled_from([0, 1, 5, 2**64 - 1]), st.booleans()),
    st.tuples(st.just("flush"), st.sampled_from([0, 0, 3])),
    st.tuples(st.just("wait"), st.sampled_from([1, 2, 60])),
)


def perform(server: Server, speaker: Speaker, operation: tuple[Any, ...]) -> object:
    """Do one operation and return what it came to."""
    name, *arguments = operation
    if name == "wait":
        server.clock.advance(arguments[0])
        return None
    if name == "cas":
        key, value, right = arguments
        found = speaker.get(key)
        unique = found.cas_unique if found is not None and right else 2**40
        return speaker.store(CAS, key, value, 0, 0, unique)
    if name == "store":
        return speaker.store(*arguments, 0)  # type: ignore[call-arg]
    return getattr(speaker, name)(*arguments)


@given(st.lists(st.tuples(OPERATIONS, st.integers(0, len(SPEAKERS) - 1)), max_size=40))
def test_the_same_operations_leave_the_same_store(conversation):
    alone = [Server() for _ in SPEAKERS]
    mixed = Server()
    for operation, turn in conversation:
        outcomes = [
            perform(server, server.speakers[number], operation)
            for number, server in enumerate(alone)
        ]
        outcomes.append(perform(mixed, mixed.speakers[turn], operation))
        assert outcomes == outcomes[:1] * len(outcomes), operation
    contents = [server.contents() for server in (*alone, mixed)]
    for each in contents[1:]:
        assert each == contents[0]
    counters = [server.counters() for server in (*alone, mixed)]
    for counted in counters[1:]:
        assert counted == counters[0]
