"""Talks with a server as its client: what is sent, and how what comes back is read.

A *talk* is a generator: it yields what to send, which may be nothing, and is sent what came; what
it returns is the result. Whoever has a socket drives it. `TalkError` tells why there is no result.
"""

from __future__ import annotations

import binascii
import re
from io import BytesIO
from typing import TYPE_CHECKING, Final, NamedTuple, TypeVar

from .. import limits

if TYPE_CHECKING:
    from collections.abc import Generator

    Result = TypeVar("Result")
    #: Yields what to send, is sent what came (empty: the connection has ended).
    Talk = Generator[bytes, bytes, Result]

_LINE_END: Final = b"\r\n"
#: No line that answers is longer, but for what is no answer.
_LINE_MAX_BYTES: Final = 4096
#: No value is longer. # memcached: -I
_VALUE_MAX_BYTES: Final = 1 << 30
#: What no word of a text command may hold.
_find_unspeakable: Final = re.compile(rb"[\x00-\x20\x7f]").search
#: A key in base64 must not be longer than a key either.
_BASE64_KEY_MAX_BYTES: Final = limits.KEY_MAX_BYTES // 4 * 3


class TalkError(Exception):
    """A server that does not do what it is asked for, and why, in a few words."""


class ClosedError(TalkError):
    """A server that closed the connection."""

    def __init__(self, more: str = "") -> None:
        super().__init__(f"closed the connection{more}")


class BusyError(TalkError):
    """A server that would do it a little later."""


def is_plain(key: bytes) -> bool:
    """Return whether a key can be said as it is in a text command."""
    return not _find_unspeakable(key)


def is_speakable(key: bytes) -> bool:
    """Return whether a key can be said in a meta command, in base64 at worst."""
    return is_plain(key) or len(key) <= _BASE64_KEY_MAX_BYTES


def key_words(key: bytes) -> tuple[bytes, bytes]:
    """Return a key as a meta command says it, and the flag that it then needs."""
    # protocol.txt, "Meta Commands", b
    if _find_unspeakable(key):
        return binascii.b2a_base64(key, newline=False), b" b"
    return key, b""


class Input:
    """What came and was not read yet."""

    def __init__(self) -> None:
        self.data = b""
        self.at = 0

    def line(self) -> Talk[bytes]:
        """Read a line, without its end."""
        while (end := self.data.find(b"\n", self.at)) < 0:
            if len(self.data) - self.at > _LINE_MAX_BYTES:
                raise TalkError("answers something that cannot be understood")
            yield from self._more()
        line = self.data[self.at : end]
        self.at = end + 1
        return line.removesuffix(b"\r")

    def block(self, size: int) -> Talk[bytes]:
        """Read so many bytes, and the end of the line behind them."""
        if size > _VALUE_MAX_BYTES:
            raise TalkError("answers something that cannot be understood")
        begin = self.at
        self.at = end = begin + size + 2
        if end > len(self.data):
            return (yield from self._arriving_block(size, begin))
        if self.data[end - 2 : end] != _LINE_END:
            raise TalkError("answers something that cannot be understood")
        return self.data[begin : end - 2]

    def _arriving_block(self, size: int, begin: int) -> Talk[bytes]:
        """Read a block of which something is still to come.

        What gathers becomes the value, without a copy: of a large one that would take long.
        """
        gathered = BytesIO()
        gathered.write(self.data[begin : begin + size])
        behind = self.data[begin + size :]
        while (missing := size - gathered.tell()) or len(behind) < len(_LINE_END):
            piece = yield b""
            if not piece:
                raise ClosedError
            gathered.write(piece[:missing])
            behind += piece[missing:]
        self.data, self.at = behind, len(_LINE_END)
        if not behind.startswith(_LINE_END):
            raise TalkError("answers something that cannot be understood")
        return gathered.getvalue()

    def _more(self, send: bytes = b"") -> Talk[None]:
        data = yield send
        if not data:
            raise ClosedError
        self.data = self.data[self.at :] + data
        self.at = 0

    def ask(self, question: bytes) -> Talk[bytes]:
        """Send a question; read the first line of the answer."""
        yield from self._more(question)
        return (yield from self.line())


class Door(NamedTuple):
    """How we come in where not everybody may, and what a person is told who has to say it."""

    login: bytes  #: name, a blank, password; empty: none
    login_option: str
    tls_option: str


def greet(door: Door) -> Talk[None]:
    """Find out whether a server speaks text, and log in if there must be a login."""
    came = Input()
    try:
        line = yield from came.ask(b"version\r\n")
    except ClosedError:
        more = f": it may want TLS ({door.tls_option}), or speak the binary protocol alone"
        raise ClosedError(more) from None
    if b"unauthenticated" in line and door.login:
        # protocol.txt, "Authentication". Where nobody need log in, this would store an item.
        line = yield from came.ask(b"set login 0 0 %d\r\n%b\r\n" % (len(door.login), door.login))
        if line != b"STORED":
            raise TalkError("refuses the login")
    elif b"unauthenticated" in line:
        raise TalkError(f"wants a login ({door.login_option})")
    elif not line.startswith((b"VERSION", b"ERROR")):  # the latter: it hides its version
        raise refusal(line)


def refusal(line: bytes) -> TalkError:
    """Return what a line means that is no answer."""
    if line.startswith(b"BUSY"):
        return BusyError("is busy with another listing of its keys")
    if b"unauthenticated" in line:
        return TalkError("wants a login")
    if line.startswith(b"\x15\x03"):
        return TalkError("wants TLS")
    if line.startswith((b"ERROR metadump not allowed", b"CLIENT_ERROR lru crawler disabled")):
        return TalkError("does not list its keys (it runs with -X or without its LRU crawler)")
    words = line[:60].decode("ascii", "replace")
    return TalkError(f"refuses: {words}" if words.isprintable() else "is no memcached")
