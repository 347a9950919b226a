"""Random commands to servers that want a login: before one, after wrong ones, after a right one.

`LoginProtocol` says what another generator says, after a login that it adds. What a client says
before that is exchanged one by one, each answer read before more is sent: in a pipeline memcached
forgets the answers to lines of a stranger that it has not sent yet.

With SASL (`-S`) only the binary protocol is spoken, so nothing can be told to memcached that takes
chance out of it: it runs without the threads that its modern options bring. Which mechanisms a
server has is its own affair. Only PLAIN is tried, and what is no mechanism: what others answer
differs each time.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from . import Batch, Memory
from .binary import SASL_AUTH, SASL_LIST_MECHS, SASL_STEP, VERSION, request

if TYPE_CHECKING:
    import random

    from . import Protocol

USER, PASSWORD = b"foo", b"bar"
OTHER_KEYS = (b"login", b"k", b"L" * 250)
WRONG_WORDS = (
    b"foo baz", b"foo", b"foo ", b" bar", b"bar foo", b"foo  bar", b"foo bar ", b"foo barx", b"x",
    b"foo:bar", b"FOO bar", b"foo\0bar", b"foo bar\r\nx", b"nobody bar", b" ", b"foo b", b"fo bar",
)  # fmt: skip
LINES = (
    b"get k\r\n", b"version\r\n", b"set\r\n", b"set k\r\n", b"set k 0 0\r\n", b"set k 0 0 x\r\n",
    b"set k 0 0 -1\r\n", b"mn\r\n", b"stats\r\n", b"delete k\r\n", b"foo\r\n",
    b"mg k v\r\n", b"verbosity 0\r\n", b"flush_all\r\n",
)  # fmt: skip
#: What PLAIN may say: another identity, user and password, a NUL before each but the first.
WRONG_PLAIN = (
    b"\0foo\0baz", b"\0foo\0", b"\0\0bar", b"\0nobody\0bar", b"\0foo", b"foo", b"\0foo\0bar\0",
    b"\0foo\0barx", b"\0FOO\0bar", b"\0", b"\0\0", b"\0foo\0bar\0x",
)  # fmt: skip
NO_MECHANISMS = (b"", b"NONE", b"plain2", b"X" * 20, b"PLAI")


def _is_sasl(command: bytes) -> bool:
    return command[:1] == b"\x80" and command[1] in (SASL_LIST_MECHS, SASL_AUTH, SASL_STEP)


class LoginProtocol:
    """Generator of what another one says, and of logins; see `Protocol` for its duties."""

    def __init__(self, inner: Protocol) -> None:
        self.inner = inner
        self.name = inner.name
        self._sasl = inner.name == "binary"
        self.login: tuple[bytes, ...] = (self._right(None),)

    # What the runner calls.

    def opening(self) -> bytes:
        return self.inner.opening()

    def reference_opening(self) -> bytes:
        return b"" if self._sasl else self.login[0] + self.inner.reference_opening()

    def sentinel(self, number: int) -> tuple[bytes, bytes]:
        return self.inner.sentinel(number)

    def substitute(self, request: bytes, memory: Memory) -> bytes:
        return self.inner.substitute(request, memory)

    def normalise(self, reply: bytes, memory: Memory) -> bytes:
        return self.inner.normalise(reply, memory)

    def is_answer(self, reply: bytes) -> bool:
        return self.inner.is_answer(reply)

    def batch(self, rng: random.Random) -> Batch:
        kind = rng.random()
        if kind < 0.15:
            said = [self._said(rng) for _ in range(rng.randrange(4))]
            return Batch([self._last(rng)], closes=True, fresh=True, greetings=said)
        batch = self.inner.batch(rng)
        if self._sasl and not batch.closes:
            # A login that fails ends one that did not: the next command, the connection, and what
            # was not read by then takes answers with it.
            batch.commands = [each for each in batch.commands if not _is_sasl(each)]
            batch.commands = batch.commands or [request(VERSION)]
        batch.fresh = kind < 0.3
        batch.greetings = [self._said(rng) for _ in range(rng.choice((0, 0, 1, 3)))]
        batch.greetings.append(self._right(rng))
        if self._sasl and kind > 0.9 and not batch.closes:
            # Logins of who is logged in: a wrong one ends that.
            again = self._right(rng) if rng.random() < 0.7 else self._said(rng)
            batch.commands.insert(0, again + self._right(rng))
        return batch

    # What is said.

    def _right(self, rng: random.Random | None) -> bytes:
        if not self._sasl:
            key = b"login" if rng is None else rng.choice(OTHER_KEYS)
            flags = b"0" if rng is None else rng.choice((b"0", b"7", b"4294967295"))
            words = b"%b %b" % (USER, PASSWORD)
            return b"set %b %b 0 %d\r\n%b\r\n" % (key, flags, len(words), words)
        identity = b"" if rng is None else rng.choice((b"", b"", USER))
        return request(SASL_AUTH, b"PLAIN", b"", b"%b\0%b\0%b" % (identity, USER, PASSWORD))

    def _said(self, rng: random.Random) -> bytes:
        """Return something by which nobody is let in, nor thrown out."""
        if not self._sasl:
            words = rng.choice(WRONG_WORDS)
            length = len(words)
            if rng.random() < 0.3:
                return rng.choice(LINES)
            return b"set %b 0 0 %d\r\n%b\r\n" % (rng.choice(OTHER_KEYS), length, words)
        opaque = rng.randbytes(4)
        kind = rng.random()
        if kind < 0.15:
            return request(VERSION, opaque=opaque)
        if kind < 0.3:
            return request(SASL_AUTH, rng.choice(NO_MECHANISMS), b"", b"\0foo\0bar", opaque=opaque)
        if kind < 0.45:
            step = rng.choice(WRONG_PLAIN)
            return request(SASL_STEP, b"PLAIN", b"", step, opaque=opaque)
        return request(SASL_AUTH, b"PLAIN", b"", rng.choice(WRONG_PLAIN), opaque=opaque)

    def _last(self, rng: random.Random) -> bytes:
        """Return what a stranger is thrown out for, or the last thing that he says."""
        if not self._sasl:
            return rng.choice((b"quit\r\n", b" \r\n", b"x" * 2049, b"y" * 20_000))
        batch = self.inner.batch(rng)
        while not batch.commands[0].startswith(b"\x80") or batch.commands[0][1] in (
            VERSION,
            SASL_AUTH,
            SASL_STEP,
            SASL_LIST_MECHS,
        ):
            batch = self.inner.batch(rng)
        return batch.commands[0]
