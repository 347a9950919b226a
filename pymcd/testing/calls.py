"""`Call`: one command that a client sent."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from .requests import names_of

_KEYS_SHOWN: Final = 3
_SHOWN_BYTES: Final = 40
#: What an error says is longer than what a value begins with.
_REPLY_SHOWN_BYTES: Final = 100


@dataclass(slots=True, repr=False)
class Call:
    """One command that a client sent.

    >>> from pymcd.testing import Call
    >>> call = Call("gets", (b"a", b"b"), connection=1)
    >>> call.command, call.key, call.keys
    ('gets', b'a', (b'a', b'b'))
    """

    #: In lower case, in every protocol: `getq` and `getk` of the binary one are `get`, too.
    command: str
    #: All keys; as the server stores them, where a meta command has one in base64.
    keys: tuple[bytes, ...] = ()
    #: What the client wants to have back to know the answer by, or None.
    opaque: bytes | None = None
    #: What is to be stored, or None.
    value: bytes | None = None
    #: What the client stores beside the value, or None.
    client_flags: int | None = None
    #: The expiration as it was sent: in seconds, in Unix time, -1; None: the command has none.
    ttl: int | None = None
    #: The client asked for no answer: by `noreply`, a quiet opcode, or the flag q.
    noreply: bool = False
    #: What was sent back: b"" after `noreply`; None: nothing yet, or never.
    reply: bytes | None = None
    #: Which client, counted from 1 in the order in which they came.
    connection: int = 0
    #: When, in seconds of Unix time on the server's clock.
    at: float = 0.0
    #: Among the calls of all servers of a process.
    order: int = field(default=0, compare=False)
    #: Under which it is found: its own and those of its family; if empty, those of the command.
    names: frozenset[str] = field(default=frozenset(), compare=False)

    def __post_init__(self) -> None:
        self.names = self.names or names_of(self.command)

    @property
    def key(self) -> bytes | None:
        """The first key, or None for a command without.

        >>> Call("get", (b"a", b"b")).key, Call("version").key
        (b'a', None)
        """
        return self.keys[0] if self.keys else None

    def __str__(self) -> str:
        return " ".join([self.command, *(key.decode("utf-8", "replace") for key in self.keys)])

    def brief(self) -> str:
        """Return what it was and what was answered, in a line.

        >>> Call("set", (b"a",), value=b"x" * 1000, ttl=60, noreply=True).brief()
        "set a ttl=60 value=b'xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx'... (1000 bytes) noreply"
        """
        keys = [key.decode("utf-8", "replace") for key in self.keys[:_KEYS_SHOWN]]
        if len(self.keys) > _KEYS_SHOWN:
            keys.append(f"... ({len(self.keys)} keys)")
        words = [self.command, *keys]
        if self.ttl is not None:
            words.append(f"ttl={self.ttl}")
        if self.client_flags:
            words.append(f"flags={self.client_flags}")
        if self.value is not None:
            words.append(f"value={shorten(self.value)}")
        if self.noreply:
            words.append("noreply")
        elif self.reply is None:
            words.append("(not answered)")
        if self.reply:
            words.append(f"-> {shorten(self.reply, _REPLY_SHOWN_BYTES)}")
        return " ".join(words)

    def __repr__(self) -> str:
        return f"<Call {self.brief()}>"


def count_calls(number: int) -> str:
    """Return so many calls in words."""
    return "1 call" if number == 1 else f"{number} calls"


def shorten(value: object, most_bytes: int = _SHOWN_BYTES) -> str:
    """Return a value in a few characters."""
    if isinstance(value, bytes) and len(value) > most_bytes:
        return f"{value[:most_bytes]!r}... ({len(value)} bytes)"
    return repr(value)
