"""Clients of the simulated servers: what they ask for, how they read the answers, what they do
when none comes.

A `Client` speaks the text, meta or binary protocol over one connection at a time, and writes an
`Operation` for everything that it does. When its server is gone, or does not answer in time, the
operation stays open and the client goes on at another server, in a new session.
"""

from __future__ import annotations

import struct
from collections import deque
from dataclasses import replace
from itertools import accumulate
from typing import TYPE_CHECKING, Final

from .linearizability import ITEM_HEAD_MAX_BYTES, Operation, Outcome

if TYPE_CHECKING:
    import random
    from collections import Counter
    from collections.abc import Callable

    from .world import Host, Visit, World

_HEADER: Final = struct.Struct(">BBHBBHIIQ")
#: How often what is said deletes, in worlds where much is deleted.
DELETING: Final = 0.3
#: What ends later than any run.
LONG_S: Final = 5000
#: The same in Unix time, where wall clocks jump ahead again and again.
LONG_UNTIL_S: Final = 1_802_000_000
STATUS: Final = {
    b"STORED": "ok",
    b"DELETED": "ok",
    b"TOUCHED": "ok",
    b"OK": "ok",
    b"HD": "ok",
    b"NOT_STORED": "not_stored",
    b"NS": "not_stored",
    b"EXISTS": "exists",
    b"EX": "exists",
    b"NOT_FOUND": "not_found",
    b"NF": "not_found",
    b"EN": "not_found",
}


#: What is said where a value is refused, and what was there is deleted.
_REFUSALS: Final = (b"too large", b"out of memory")


class Garbled(Exception):
    """A server said what no server says."""


class Pending:
    """A command on its way: its bytes, and how its answer is read."""

    __slots__ = ("operations", "parse", "quiet", "request")

    def __init__(
        self,
        request: bytes,
        operations: list[Operation],
        parse: Callable[[bytes, list[Operation]], int],
        *,
        quiet: bool = False,
    ) -> None:
        self.request = request
        self.operations = operations
        #: Takes the buffer, sets outcomes, returns how many bytes it used; 0: not all is there.
        self.parse = parse
        self.quiet = quiet

    def anew(self) -> Pending:
        """Return the same to be said once more: what was said before may have happened, too."""
        operations = [replace(each, notes=dict(each.notes)) for each in self.operations]
        return Pending(self.request, operations, self.parse, quiet=self.quiet)


# -- text --------------------------------------------------------------------------------------


def _line(buffer: bytes) -> bytes | None:
    end = buffer.find(b"\r\n")
    return None if end < 0 else buffer[:end]


def _parse_line(buffer: bytes, operations: list[Operation]) -> int:
    line = _line(buffer)
    if line is None:
        return 0
    outcome = None
    if line in STATUS:
        outcome = Outcome(STATUS[line])
    elif line.isdigit():
        outcome = Outcome("ok", line)
    elif line.startswith(b"CLIENT_ERROR cannot increment"):
        outcome = Outcome("non_numeric")
    elif not line.startswith(b"SERVER_ERROR"):
        raise Garbled(f"{operations[0].verb}: {line!r}")
    for operation in operations:
        operation.outcome = outcome
        if outcome is None:
            operation.notes["error"] = line
    return len(line) + 2


def _parse_values(buffer: bytes, operations: list[Operation]) -> int:
    """Read VALUE lines up to END; what is not among them is not found."""
    position = 0
    found: dict[bytes, Outcome] = {}
    while True:
        end = buffer.find(b"\r\n", position)
        if end < 0:
            return 0
        line = buffer[position:end]
        if line == b"END":
            break
        words = line.split(b" ")
        if words[0] == b"SERVER_ERROR":
            for operation in operations:
                operation.notes["error"] = line
            return end + 2
        if words[0] != b"VALUE":
            raise Garbled(f"get: {line!r}")
        start = end + 2
        position = start + int(words[3]) + 2
        if len(buffer) < position:
            return 0
        cas = int(words[4]) if len(words) > 4 else None
        value = buffer[start : position - 2]
        if buffer[position - 2 : position] != b"\r\n":
            raise Garbled("get: a block without its end")
        found[words[1]] = Outcome("ok", value, int(words[2]), cas)
    for operation in operations:
        outcome = found.pop(operation.key, None) or Outcome("not_found")
        if operation.verb == "touch":
            outcome = Outcome(outcome.status)
        operation.outcome = outcome
    if found and not any(operation.verb == "touch" for operation in operations):
        raise Garbled(f"get: nobody asked for {list(found)}")
    return end + 2


def _parse_meta(buffer: bytes, operations: list[Operation]) -> int:
    line = _line(buffer)
    if line is None:
        return 0
    words = line.split(b" ")
    size = len(line) + 2
    value: bytes | None = None
    if words[0] == b"VA":
        value = buffer[size : size + int(words[1])]
        size += len(value) + 2
        if len(buffer) < size:
            return 0
        status, rest = "ok", words[2:]
    elif words[0] in STATUS:
        status, rest = STATUS[words[0]], words[1:]
    elif words[0] == b"CLIENT_ERROR" and b"non-numeric" in line:
        status, rest = "non_numeric", []
    elif words[0] == b"SERVER_ERROR":
        for operation in operations:
            operation.notes["error"] = line
        return size
    else:
        raise Garbled(f"{operations[0].verb}: {line!r}")
    (operation,) = operations
    cas = flags = marks = None
    if status == "ok":
        for word in rest:
            if word[:1] == b"c":
                cas = int(word[1:])
            elif word[:1] == b"f":
                flags = int(word[1:])
        if operation.verb in ("mg", "mv"):
            marks = "".join(sorted(word.decode() for word in rest if word in (b"W", b"X", b"Z")))
    if operation.verb == "invalidate":
        cas = None
    operation.outcome = Outcome(status, value, flags, cas, marks)
    return size


# -- binary ------------------------------------------------------------------------------------

_BINARY_STATUS: Final = {0: "ok", 1: "not_found", 2: "exists", 5: "not_stored", 6: "non_numeric"}


def _parse_binary(buffer: bytes, operations: list[Operation]) -> int:
    if len(buffer) < 24:
        return 0
    head: tuple[int, ...] = _HEADER.unpack_from(buffer)
    magic, opcode, key_bytes, extras_bytes, _, code, size, _, cas = head
    if magic != 0x81:
        raise Garbled(f"magic {magic}")
    if len(buffer) < 24 + size:
        return 0
    (operation,) = operations
    extras = buffer[24 : 24 + extras_bytes]
    value = buffer[24 + extras_bytes + key_bytes : 24 + size]
    verb = operation.verb
    status = _BINARY_STATUS.get(code)
    if status is None:
        operation.notes["error"] = value
        return 24 + size
    if verb == "add" and status == "exists":
        status = "not_stored"
    if verb == "replace" and status == "not_found":
        status = "not_stored"
    outcome = Outcome(status)
    if status == "ok":
        if verb == "get":
            outcome = Outcome(status, value, int.from_bytes(extras, "big"), cas)
        elif verb in ("incr", "decr"):
            number = int.from_bytes(value, "big")
            outcome = Outcome(status, b"%d" % number, None, cas)
        elif verb not in ("delete", "touch", "flush") and opcode not in (0x0E, 0x0F):
            outcome = Outcome(status, None, None, cas)
    for each in operations:
        each.outcome = outcome
    return 24 + size


def _binary(
    opcode: int, key: bytes, extras: bytes = b"", value: bytes = b"", *, cas: int = 0, mark: int = 0
) -> bytes:
    size = len(extras) + len(key) + len(value)
    head = _HEADER.pack(0x80, opcode, len(key), len(extras), 0, 0, size, mark, cas)
    return head + extras + key + value


# -- what to say -------------------------------------------------------------------------------


class Speech:
    """Chooses commands. Values are never the same twice, but for counters."""

    def __init__(
        self,
        random_: random.Random,
        *,
        keys: int,
        flushing: float,
        mortal_random: random.Random,
    ) -> None:
        self.random = random_
        self.keys = [b"k%d" % number for number in range(keys)]
        self.counters = [b"n%d" % number for number in range(max(1, keys // 3))]
        self.locks = [b"lock%d" % number for number in range(max(1, keys // 3))]
        self.mortal = [b"m%d" % number for number in range(2)]
        self.all_keys = [*self.keys, *self.counters, *self.locks]
        self.flushing = flushing
        #: Of their own, so that what is said of other keys does not depend on it.
        self.mortal_random = mortal_random
        self.delayed_random: random.Random | None = None  #: chooses delays of flushes, if there are
        self.deleting_random: random.Random | None = None  #: chooses what is deleted, if much is
        #: Chooses what else a get of the text protocol asks for, if each asks for several keys.
        self.several_random: random.Random | None = None
        self.item_bytes = 1 << 20  #: what no node has room for is larger
        self._last = 0
        self.own_cas = 0.1  #: how often a client of meta commands chooses the cas unique
        self.filled = 0.3  #: how often values are filled up to what length, at least and at most
        self.value_bytes: tuple[int, int] | None = None
        #: (key) -> cas uniques seen, of which cas may use one.
        self.seen: dict[bytes, int] = {}

    @property
    def value_bytes_max(self) -> int:
        """No value is longer when it is stored."""
        return 20 if self.value_bytes is None else self.value_bytes[1]

    def value(self) -> bytes:
        """Return a value that was never used before."""
        self._last += 1
        value = b"v%d." % self._last
        if self.value_bytes is not None and self.random.random() < self.filled:
            value = value.ljust(self.random.randrange(*self.value_bytes), b"x")
        if self.item_bytes - ITEM_HEAD_MAX_BYTES < len(value) <= self.item_bytes:
            value = value.ljust(self.item_bytes + 1, b"x")  # else who knows whether it fits
        return value

    def exptime(self, key: bytes) -> int:
        """Return an expiry: long, absolute, or short for keys that are mortal."""
        if key.startswith(b"m"):
            exptime = self.random.choice((1, 2, 3))
            return exptime if self.mortal_random.random() < 0.5 else exptime * 10
        chance = self.random.random()
        if chance < 0.7:
            return 0
        if chance < 0.9:
            return LONG_S
        return LONG_UNTIL_S

    def command(self, protocol: str) -> Pending:
        """Return something to say."""
        random_ = self.random
        chance = random_.random()
        if chance < self.flushing:
            return self._flush(protocol)
        deleting = self.deleting_random
        if deleting is not None and deleting.random() < DELETING:
            return self._delete(protocol, deleting.choice(self.keys))
        if chance < 0.72:
            return self._about_item(protocol, random_.choice(self.keys))
        if chance < 0.84:
            return self._about_counter(protocol, random_.choice(self.counters))
        if chance < 0.94:
            return self._about_lock(protocol, random_.choice(self.locks))
        return self._about_mortal(protocol, random_.choice(self.mortal))

    def read_all(self, protocol: str) -> list[Pending]:
        """Return reads of every key."""
        return [self._get(protocol, key) for key in self.all_keys]

    def _flush(self, protocol: str) -> Pending:
        operations = [Operation(key, "flush", 0) for key in [*self.all_keys, *self.mortal]]
        delayed, delay_s = self.delayed_random, 0
        if delayed is not None and delayed.random() < 0.6:
            delay_s = delayed.choice((1, 2, 2, 3, 3, 60))
            for operation in operations:
                operation.notes["delay"] = delay_s
        if protocol == "binary":
            extras = struct.pack(">I", delay_s) if delay_s else b""
            return Pending(_binary(0x08, b"", extras), operations, _parse_binary_many)
        words = b" %d" % delay_s if delay_s else b""
        return Pending(b"flush_all%b\r\n" % words, operations, _parse_line)

    def _get(self, protocol: str, key: bytes) -> Pending:
        if protocol == "binary":
            return Pending(_binary(0x00, key), [Operation(key, "get", 0)], _parse_binary)
        if protocol == "meta":
            return Pending(b"mg %b v f c\r\n" % key, [Operation(key, "mg", 0)], _parse_meta)
        word = self.random.choice((b"get", b"gets", b"gets"))
        several = self.several_random
        if several is not None:
            word = b"get"
            keys = list(dict.fromkeys([key, *several.choices(self.keys, k=2)]))
        elif self.random.random() < 0.2:
            keys = list(dict.fromkeys([key, *self.random.choices(self.all_keys, k=2)]))
        else:
            keys = [key]
        operations = [Operation(each, "get", 0) for each in keys]
        return Pending(word + b" " + b" ".join(keys) + b"\r\n", operations, _parse_values)

    def _store(self, protocol: str, verb: str, key: bytes, compare: int = 0) -> Pending:
        value = self.value()
        flags = self.random.choice((0, 0, 0, 7, 0xFFFFFFFF))
        exptime = self.exptime(key)
        joins = verb in ("append", "prepend")
        operation = Operation(
            key, verb, 0, value=value, flags=0 if joins else flags, compare=compare
        )
        if joins and self.value_bytes is not None and self.value_bytes[1] > self.item_bytes // 8:
            operation.room = self.item_bytes
        if key.startswith(b"m"):
            operation.notes["exptime"] = exptime
        # Who is not told whether it was too large does not know whether what was there is gone.
        told = len(value) < self.item_bytes // 2
        if protocol == "binary":
            codes = {"set": 1, "add": 2, "replace": 3, "cas": 1, "append": 14, "prepend": 15}
            extras = b"" if joins else struct.pack(">II", flags, exptime)
            opcode = codes[verb]
            if verb == "set" and self.random.random() < 0.2 and told:
                request = _binary(0x11, key, extras, value) + _binary(0x0A, b"")
                return Pending(request, [operation], _parse_noop, quiet=True)
            request = _binary(opcode, key, extras, value, cas=compare)
            return Pending(request, [operation], _parse_binary)
        if protocol == "meta":
            modes = {"set": b"S", "add": b"E", "replace": b"R", "append": b"A", "prepend": b"P"}
            words = [b"ms", key, b"%d" % len(value), b"c"]
            words += [b"T%d" % exptime, b"F%d" % flags] if not joins else []
            words += [b"C%d" % compare] if verb == "cas" else [b"M" + modes[verb]]
            if verb == "set" and self.random.random() < self.own_cas:
                words.append(b"E%d" % self.random.randrange(1, 1 << 20))
            if self.random.random() < 0.1 and told:
                request = b" ".join([*words, b"q"]) + b"\r\n" + value + b"\r\nmn\r\n"
                return Pending(request, [operation], _parse_quiet_meta, quiet=True)
            request = b" ".join(words) + b"\r\n" + value + b"\r\n"
            return Pending(request, [operation], _parse_meta)
        words = [verb.encode(), key, b"%d" % flags, b"%d" % exptime, b"%d" % len(value)]
        if verb == "cas":
            words.append(b"%d" % compare)
        if self.random.random() < 0.1 and told:
            request = b" ".join([*words, b"noreply"]) + b"\r\n" + value + b"\r\n"
            return Pending(request, [operation], _parse_nothing, quiet=True)
        return Pending(b" ".join(words) + b"\r\n" + value + b"\r\n", [operation], _parse_line)

    def _about_item(self, protocol: str, key: bytes) -> Pending:
        chance = self.random.random()
        if chance < 0.35:
            return self._get(protocol, key)
        if chance < 0.52:
            return self._store(protocol, "set", key)
        if chance < 0.58:
            return self._store(protocol, "add", key)
        if chance < 0.61:
            return self._store(protocol, "replace", key)
        if chance < 0.65:
            return self._store(protocol, self.random.choice(("append", "prepend")), key)
        if chance < 0.80 and key in self.seen:
            return self._store(protocol, "cas", key, self.seen[key])
        if chance < 0.90:
            return self._delete(protocol, key)
        if chance < 0.94:
            return self._touch(protocol, key)
        if chance < 0.97 and protocol == "meta":
            operation = Operation(key, "invalidate", 0)
            return Pending(b"md %b I\r\n" % key, [operation], _parse_meta)
        return self._get(protocol, key)

    def _delete(self, protocol: str, key: bytes) -> Pending:
        operation = Operation(key, "delete", 0)
        compare = self.seen.get(key, 0) if self.random.random() < 0.2 else 0
        if protocol == "binary":
            operation.compare = compare
            return Pending(_binary(0x04, key, cas=compare), [operation], _parse_binary)
        if protocol == "meta":
            operation.compare = compare
            words = b" C%d" % compare if compare else b""
            return Pending(b"md %b%b\r\n" % (key, words), [operation], _parse_meta)
        if self.random.random() < 0.1:
            return Pending(b"delete %b noreply\r\n" % key, [operation], _parse_nothing, quiet=True)
        return Pending(b"delete %b\r\n" % key, [operation], _parse_line)

    def _touch(self, protocol: str, key: bytes) -> Pending:
        exptime = self.exptime(key)
        operation = Operation(key, "touch", 0)
        if key.startswith(b"m"):
            operation.notes["exptime"] = exptime
        if protocol == "binary":
            request = _binary(0x1C, key, struct.pack(">I", exptime))
            return Pending(request, [operation], _parse_binary)
        if protocol == "meta":
            operation.verb = "mg"
            operation.notes["touches"] = True
            return Pending(b"mg %b v f c T%d\r\n" % (key, exptime), [operation], _parse_meta)
        if self.random.random() < 0.5:
            operation.verb = "get"
            operation.notes["touches"] = True
            request = b"gats %d %b\r\n" % (exptime, key)
            return Pending(request, [operation], _parse_values)
        return Pending(b"touch %b %d\r\n" % (key, exptime), [operation], _parse_line)

    def _about_counter(self, protocol: str, key: bytes) -> Pending:
        random_ = self.random
        chance = random_.random()
        if chance < 0.15:
            return self._get(protocol, key)
        if chance < 0.25:
            start = b"%d" % random_.randrange(95, 200)
            operation = Operation(key, "add", 0, value=start)
            if protocol == "binary":
                request = _binary(0x02, key, bytes(8), start)
                return Pending(request, [operation], _parse_binary)
            if protocol == "meta":
                request = b"ms %b %d ME c\r\n%b\r\n" % (key, len(start), start)
                return Pending(request, [operation], _parse_meta)
            request = b"add %b 0 0 %d\r\n%b\r\n" % (key, len(start), start)
            return Pending(request, [operation], _parse_line)
        verb = "incr" if random_.random() < 0.7 else "decr"
        delta = random_.randrange(1, 5)
        operation = Operation(key, verb, 0, delta=delta)
        if protocol == "binary":
            operation.value = b"100"
            extras = struct.pack(">QQI", delta, 100, 0)
            request = _binary(0x05 if verb == "incr" else 0x06, key, extras)
            return Pending(request, [operation], _parse_binary)
        if protocol == "meta":
            operation.value = b"100"
            mode = b"I" if verb == "incr" else b"D"
            request = b"ma %b v c N0 J100 D%d M%b\r\n" % (key, delta, mode)
            return Pending(request, [operation], _parse_meta)
        request = b"%b %b %d\r\n" % (verb.encode(), key, delta)
        return Pending(request, [operation], _parse_line)

    def _about_lock(self, protocol: str, key: bytes) -> Pending:
        """Locks are only ever added, vivified and read: each has one winner, for ever."""
        if key.endswith(b"0") or protocol != "meta":
            if self.random.random() < 0.7 and key.endswith(b"0"):
                return self._store(protocol, "add", key)
            return self._get(protocol, key)
        operation = Operation(key, "mv", 0)
        return Pending(b"mg %b v f c N0\r\n" % key, [operation], _parse_meta)

    def _about_mortal(self, protocol: str, key: bytes) -> Pending:
        chance = self.random.random()
        if chance < 0.5:
            return self._get(protocol, key)
        if chance < 0.9:
            is_lock = protocol == "text" and self.mortal_random.random() < 0.5
            return self._store(protocol, "add" if is_lock else "set", key)
        return self._touch(protocol, key)


def _parse_nothing(buffer: bytes, operations: list[Operation]) -> int:
    raise AssertionError("nobody answers that")


def _parse_binary_many(buffer: bytes, operations: list[Operation]) -> int:
    used = _parse_binary(buffer, operations[:1])
    for operation in operations[1:]:
        operation.outcome = operations[0].outcome
    return used


def _parse_noop(buffer: bytes, operations: list[Operation]) -> int:
    """Read what a quiet binary command and the noop behind it say: an error, perhaps, and that."""
    used = 0
    while len(buffer) >= used + 24:
        head: tuple[int, ...] = _HEADER.unpack_from(buffer, used)
        opcode, size = head[1], head[6]
        used += 24 + size
        if len(buffer) < used:
            return 0
        if opcode == 0x0A:
            if "error" not in operations[0].notes:
                operations[0].outcome = Outcome("ok")
            return used
        operations[0].notes["error"] = buffer[:used]
    return 0


def _parse_quiet_meta(buffer: bytes, operations: list[Operation]) -> int:
    """Read what a quiet meta command and the mn behind it say."""
    line = _line(buffer)
    if line is None:
        return 0
    if line == b"MN":
        operations[0].outcome = Outcome("ok")
        return 4
    used = _parse_meta(buffer, operations)
    if not used or not buffer[used:].startswith(b"MN\r\n"):
        return 0
    return used + 4


# -- logging in --------------------------------------------------------------------------------

USER: Final = b"somebody"
PASSWORD: Final = b"right"
#: What a stranger may not do, each in one packet that has one answer.
_FORBIDDEN_TEXT: Final = (
    b"get k0\r\n",
    b"incr n0 1\r\n",
    b"delete k1\r\n",
    b"flush_all\r\n",
    b"mg k0 v\r\n",
    b"md k1\r\n",
    b"set k0 0 0 5\r\nearly\r\n",  # taken for a login
)
_FORBIDDEN_BINARY: Final = (
    _binary(0x00, b"k0"),
    _binary(0x01, b"k0", bytes(8), b"early"),
    _binary(0x11, b"k1", bytes(8), b"early"),
    _binary(0x02, b"lock0", bytes(8), b"early"),
    _binary(0x04, b"k1"),
    _binary(0x05, b"n0", struct.pack(">QQI", 1, 100, 0)),
    _binary(0x08, b""),
)
_AUTH_ERROR: Final = 0x20


def _answered(*expected: bytes) -> Callable[[bytes, list[Operation]], int]:
    """Return what reads one line that must be one of these."""

    def parse(buffer: bytes, operations: list[Operation]) -> int:
        line = _line(buffer)
        if line is None:
            return 0
        if line not in expected:
            raise Garbled(f"a stranger hears {line!r}, not {expected}")
        return len(line) + 2

    return parse


def _answered_with(code: int) -> Callable[[bytes, list[Operation]], int]:
    """Return what reads one binary answer that must have this status."""

    def parse(buffer: bytes, operations: list[Operation]) -> int:
        if len(buffer) < 24:
            return 0
        head: tuple[int, ...] = _HEADER.unpack_from(buffer)
        if head[5] != code:
            raise Garbled(f"a login, or what needs one, is answered with {head}")
        used = 24 + head[6]
        return used if len(buffer) >= used else 0

    return parse


class Login:
    """What one client says to be let in, and at times what it should not say."""

    def __init__(self, way: str, random_: random.Random, counts: Counter[str]) -> None:
        """`way`: one of `simulation.LOGINS`."""
        self._sasl = way == "sasl"
        self._random = random_
        self._counts = counts
        self._inside = False
        self._spent = False  #: behind a login by SASL the next one fails, once

    def connected(self) -> None:
        """Begin a new connection, as a stranger."""
        self._inside = self._spent = False

    def words(self) -> list[Pending]:
        """Return what is to be said before the next commands; often nothing."""
        chance = self._random.random()
        if self._inside:
            if not self._sasl or chance > 0.08:
                return []
            if chance > 0.04:
                self._counts["relogins"] += 1
                return [self._try(PASSWORD), self._try(PASSWORD)]
            # Whoever asks how to log in is a stranger until he does.
            self._counts["strangers_again"] += 1
            return [Pending(_binary(0x20, b""), [], _answered_with(0)), *self._enter()]
        return self._enter()

    def waits(self) -> bool:
        """Return whether the answer is waited for before anything else is said."""
        return self._random.random() < 0.4

    def _enter(self) -> list[Pending]:
        said = []
        if self._random.random() < 0.2:
            self._counts["commands_of_strangers"] += 1
            said.append(self._forbidden())
        if self._random.random() < 0.2:
            self._counts["failed_logins"] += 1
            said.append(self._try(b"wrong"))
            if self._random.random() < 0.5:
                said.append(self._forbidden())
        if self._spent:
            said.append(self._try(PASSWORD))
        self._counts["logins"] += 1
        self._inside = True
        return [*said, self._try(PASSWORD)]

    def _try(self, password: bytes) -> Pending:
        right = password == PASSWORD
        if self._sasl:
            request = _binary(0x21, b"PLAIN", value=b"\0%b\0%b" % (USER, password))
            right, self._spent = right and not self._spent, right and not self._spent
            return Pending(request, [], _answered_with(0 if right else _AUTH_ERROR))
        value = b"%b %b" % (USER, password)
        request = b"set login 0 0 %d\r\n%b\r\n" % (len(value), value)
        said = b"STORED" if right else b"CLIENT_ERROR authentication failure"
        return Pending(request, [], _answered(said))

    def _forbidden(self) -> Pending:
        if self._sasl:
            request = self._random.choice(_FORBIDDEN_BINARY)
            return Pending(request, [], _answered_with(_AUTH_ERROR))
        request = self._random.choice(_FORBIDDEN_TEXT)
        said = (
            b"CLIENT_ERROR unauthenticated",
            b"CLIENT_ERROR bad authentication token format",
        )
        return Pending(request, [], _answered(said[request.startswith(b"set")]))


def see_error(operation: Operation) -> None:
    """Have an operation be one that did something else, or perhaps nothing, as its answer says."""
    error = operation.notes["error"]
    assert isinstance(error, bytes)
    operation.session = None  # it may not have happened at all
    if operation.value and any(words in error.lower() for words in _REFUSALS):
        # What was there is gone, perhaps, whatever its cas unique.
        operation.verb, operation.compare = "delete", 0


# -- who says it -------------------------------------------------------------------------------


class Client:
    """One user of the servers."""

    def __init__(
        self,
        world: World,
        name: str,
        speech: Speech,
        protocol: str,
        hosts: list[Host],
        history: list[Operation],
        *,
        timeout_s: float,
        think_s: float,
        loyal: float,
        login: Login | None = None,
    ) -> None:
        self.world = world
        self.name = name
        self.random = world.random
        self.speech = speech
        self.protocol = protocol
        self.hosts = hosts
        self.history = history
        self.timeout_s = timeout_s
        self.think_s = think_s
        self.loyal = loyal
        self.login = login
        self.home = hosts[0]
        self.left = 0  #: commands still to be said
        self.final: deque[Pending] = deque()
        self.idle = True
        self.slow = 0.0  #: chance that it reads nothing for a while
        self.read_bytes = 0  #: what it says arrives in reads of so many; 0: as it was said
        self._quiet_until = 0.0

        self._session = 0
        self._visit: Visit | None = None
        self._host = self.home
        self._buffer = b""
        self._pending: deque[Pending] = deque()
        self._token = 0
        self._arrives_at = 0.0
        self._leaves_at = 0.0
        self.timeouts = 0
        self.refusals = 0
        self.losses = 0

    def go(self, commands: int) -> None:
        """Begin to say so many commands."""
        self.left = commands
        self.idle = False
        self.world.after(self.random.random() * self.think_s, self._say)

    def recite(self, host: Host, commands: list[Pending]) -> None:
        """Say these at one host, one after the other."""
        self._leave()
        self.hosts = [host]
        self.home = host
        self.final = deque(commands)
        self.idle = False
        self.world.after(0.0, self._say)

    def pause(self, seconds: float) -> None:
        """Say nothing for a while."""
        self._quiet_until = max(self._quiet_until, self.world.now + seconds)

    def sent_away(self, host: Host) -> None:
        """Have the server end the connection, if it is to that host."""
        visit = self._visit
        if visit is not None and self._host is host:
            host.post(visit, visit.end, life=visit.life)

    def _leave(self) -> None:
        """Give up the connection; what was not answered stays open."""
        visit, self._visit = self._visit, None
        self._pending.clear()
        self._buffer = b""
        self._token += 1
        if visit is not None:
            visit.lost = True
            visit.host.post(visit, visit.end, life=visit.life)

    def _connect(self) -> bool:
        self._session += 1
        session = self._session
        host = self.home
        if len(self.hosts) > 1 and self.random.random() > self.loyal:
            host = self.random.choice(self.hosts)
        others = [other for other in self.hosts if other is not host]
        self.random.shuffle(others)
        for candidate in [host, *others]:
            visit = candidate.connect(lambda data: self._sent(session, data))
            if visit is not None:
                self._visit = visit
                self._host = candidate
                if self.login is not None:
                    self.login.connected()
                return True
        self.refusals += 1
        return False

    def _say(self) -> None:
        """Say the next thing, or the next few."""
        if self.idle or self._pending:
            return
        if self.world.now < self._quiet_until:
            self.world.at(self._quiet_until, self._say)
            return
        if not self.left and not self.final:
            self.idle = True
            self._leave()
            return
        if self._visit is None and not self._connect():
            self.world.after(0.05, self._say)
            return
        visit = self._visit
        assert visit is not None
        random_ = self.random
        batch: list[Pending] = [] if self.login is None else self.login.words()
        if self.final:
            batch.append(self.final[0].anew())
        elif not batch or self.login is None or not self.login.waits():
            count = 1 if random_.random() < 0.8 else random_.randrange(2, 7)
            for _ in range(min(count, self.left)):
                batch.append(self.speech.command(self.protocol))
                self.left -= 1
        if self.slow and random_.random() < self.slow:
            visit.blocked_until = self.world.now + random_.random() * 0.3
        data = b"".join(pending.request for pending in batch)
        if self.world.verbose:
            self.world.tell(self.name, f"says to {self._host.name}: {data[:300]!r}")
        operations = [operation for pending in batch for operation in pending.operations]
        refused = sum(len(operation.value) > self.speech.item_bytes for operation in operations)
        for ahead, pending in enumerate(batch):
            for operation in pending.operations:
                operation.invoked_at = self.world.now
                operation.notes["ahead"] = ahead
                operation.session = f"{self.name}.{self._session}"
                if len(operation.value) > self.speech.item_bytes:
                    operation.notes["too_large"] = True
                if refused:
                    operation.notes["refused"] = refused
                operation.node = self._host.name
                operation.notes["life"] = self._host.life
                operation.notes["said_on"] = operation.session  # whatever becomes of that
                if visit.blocked_until > self.world.now:
                    operation.notes["blocked"] = True
                self.history.append(operation)
            if not pending.quiet or pending.parse is not _parse_nothing:
                self._pending.append(pending)
        cut = random_.randrange(len(data)) if random_.random() < 0.1 else 0
        pieces = [data[:cut], data[cut:]]
        if self.read_bytes:
            size = self.read_bytes
            pieces = [data[start : start + size] for start in range(0, len(data), size)]
        self._note_later_reads(batch, len(pieces[0] or pieces[1]))
        silent = self._silent(batch)
        position = 0
        for piece in pieces:
            if piece:
                position += len(piece)
                whole = []
                while silent and silent[0][0] <= position:
                    whole += silent.popleft()[1]
                self._leaves_at = max(self._leaves_at, self.world.now + random_.random() * 0.0005)
                self.world.at(self._leaves_at, self._reach, visit, piece, whole)
        self._token += 1
        if self._pending:
            self.world.after(self.timeout_s, self._give_up, self._token)
        else:
            self._think()

    @staticmethod
    def _note_later_reads(batch: list[Pending], first_bytes: int) -> None:
        """Note of what is said at once which commands are not all in the first read."""
        position = 0
        for pending in batch:
            position += len(pending.request)
            if position > first_bytes:
                for operation in pending.operations:
                    operation.notes["read_later"] = operation.session

    @staticmethod
    def _silent(batch: list[Pending]) -> deque[tuple[int, list[Operation]]]:
        """Return to which commands of what is said at once is no reply, and where they end."""
        ends = accumulate(len(pending.request) for pending in batch)
        return deque(
            (end, pending.operations)
            for end, pending in zip(ends, batch, strict=True)
            if pending.parse is _parse_nothing
        )

    def _reach(self, visit: Visit, data: bytes, silent: list[Operation]) -> None:
        """Arrive at the host, whether it is awake or not."""
        if visit.host.alive and visit.life == visit.host.life:
            visit.host.post(visit, visit.feed, data, silent, life=visit.life)
        elif visit is self._visit and visit.host.connected:
            self._lost()

    def _sent(self, session: int, data: bytes) -> None:
        """Have what a server sends arrive later."""
        self._arrives_at = max(self._arrives_at, self.world.now + self.random.random() * 0.0005)
        self.world.at(self._arrives_at, self._hear, session, data)

    def _hear(self, session: int, data: bytes) -> None:
        if session != self._session or self._visit is None or not self._host.connected:
            return
        if not data:
            self._lost()
            return
        self._buffer += data
        if self.world.verbose:
            self.world.tell(self.name, f"hears {data[:300]!r}")
        while self._pending and self._buffer:
            pending = self._pending[0]
            used = pending.parse(self._buffer, pending.operations)
            if not used:
                return
            self._buffer = self._buffer[used:]
            self._pending.popleft()
            for operation in pending.operations:
                if "error" in operation.notes:
                    see_error(operation)
                if operation.outcome is not None:
                    operation.returned_at = self.world.now
                    if operation.outcome.cas and operation.verb in ("get", "mg"):
                        self.speech.seen[operation.key] = operation.outcome.cas
                if self.world.verbose:
                    self.world.tell(self.name, str(operation))
        if self._buffer:
            raise Garbled(f"{self.name} hears what it did not ask for: {self._buffer!r}")
        if not self._pending:
            self._token += 1
            if self.final:
                self.final.popleft()
            self._think()

    def _think(self) -> None:
        if not self.final and self.random.random() < 0.02:
            self._leave()
        self.world.after(self.random.expovariate(1.0) * self.think_s, self._say)

    def _give_up(self, token: int) -> None:
        if token == self._token and self._pending:
            self.timeouts += 1
            self.world.tell(self.name, "gives up")
            for pending in self._pending:
                for operation in pending.operations:
                    operation.notes["gave_up"] = self.world.now
            self._leave()
            self._think()

    def _lost(self) -> None:
        """The connection is gone: go on with another, soon."""
        self.losses += 1
        self.world.tell(self.name, "is sent away")
        self._leave()
        self._think()

    def server_died(self, host: Host, *, silent: bool) -> None:
        """Learn that the server's process is gone; not, if the whole host is."""
        if self._visit is not None and self._host is host and not silent:
            self.world.after(self.world.delay(), self._lost_if, self._visit)

    def _lost_if(self, visit: Visit) -> None:
        if self._visit is visit:
            self._lost()
