"""What clients said: `Call`, the log of calls, and waiting for one.

`CallRecord` is where the server notes; `CallLog` is what tests look at, wherever the server runs.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, overload

from .requests import as_commands

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

#: When there are more, the older half is forgotten.
CALLS_MAX: Final = 100_000
#: Named in the message when the calls that were waited for did not come.
_CALLS_SHOWN: Final = 10


@dataclass(slots=True)
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
    order: int = field(default=0, repr=False, compare=False)

    @property
    def key(self) -> bytes | None:
        """The first key, or None for a command without.

        >>> Call("get", (b"a", b"b")).key, Call("version").key
        (b'a', None)
        """
        return self.keys[0] if self.keys else None

    def __str__(self) -> str:
        return " ".join([self.command, *(key.decode("utf-8", "replace") for key in self.keys)])


def as_key(key: str | bytes | None) -> bytes | None:
    """Return a key as the server has it; a str is encoded as UTF-8."""
    if key is None or isinstance(key, bytes):
        return key
    if isinstance(key, str):
        return key.encode()
    raise TypeError(f"a key is a str or bytes, not {type(key).__name__}: {key!r}")


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which calls are meant: of these commands, on that key; None: any."""

    commands: frozenset[str] | None = None
    key: bytes | None = None

    @classmethod
    def of(cls, command: str | Iterable[str] | None, key: str | bytes | None) -> Wanted:
        """Return what a test has written."""
        return cls(as_commands(command), as_key(key))

    def fits(self, call: Call) -> bool:
        """Return whether a call is meant."""
        return (self.commands is None or call.command in self.commands) and self.is_about(call)

    def is_about(self, call: Call) -> bool:
        """Return whether a call is on that key, whatever the command."""
        return self.key is None or self.key in call.keys

    def among(self, calls: Iterable[Call]) -> list[Call]:
        """Return those that are meant."""
        return [call for call in calls if self.fits(call)]


class CallLog(Sequence[Call]):
    """The calls so far, oldest first: a sequence of `Call`.

    >>> from pymcd.testing import MemcachedServer
    >>> from pymemcache import Client
    >>> with MemcachedServer() as server:
    ...     client = Client(server.address)
    ...     client.set("a", "1", noreply=False)
    ...     [str(call) for call in server.calls]
    ...     server.calls[-1].reply
    ...     server.calls.of("get")
    ...     client.close()
    True
    ['set a']
    b'STORED\\r\\n'
    []
    """

    def __init__(
        self, snapshot: Callable[[], list[Call]], clear: Callable[[], None] = lambda: None
    ) -> None:
        self._snapshot = snapshot
        self._clear = clear

    def of(
        self, command: str | Iterable[str] | None = None, key: str | bytes | None = None
    ) -> list[Call]:
        """Return the calls of a command (or of one of several), and of a key.

        >>> with MemcachedServer() as server:
        ...     client = Client(server.address, default_noreply=False)
        ...     values = client.get("a"), client.set("a", "1")
        ...     [str(call) for call in server.calls.of("set")]
        ...     len(server.calls.of(["get", "set"], "a"))
        ...     client.close()
        ['set a']
        2
        """
        return Wanted.of(command, key).among(self._snapshot())

    def clear(self) -> None:
        """Forget all calls so far.

        >>> with MemcachedServer() as server:
        ...     client = Client(server.address, default_noreply=False)
        ...     value = client.get("a")
        ...     server.calls.clear()
        ...     len(server.calls)
        ...     client.close()
        0
        """
        self._clear()

    @overload
    def __getitem__(self, index: int) -> Call: ...
    @overload
    def __getitem__(self, index: slice) -> list[Call]: ...
    def __getitem__(self, index: int | slice) -> Call | list[Call]:
        return self._snapshot()[index]

    def __len__(self) -> int:
        return len(self._snapshot())

    def __iter__(self) -> Iterator[Call]:
        return iter(self._snapshot())

    def __eq__(self, other: object) -> bool:
        return list(self) == list(other) if isinstance(other, Sequence) else NotImplemented

    __hash__ = None  # type: ignore[assignment]  # it changes

    def __repr__(self) -> str:
        return f"<CallLog: {describe(self._snapshot())}>"


class CallRecord:
    """Where a server notes its calls. Written by its event loop, read by any thread."""

    def __init__(self) -> None:
        self._calls: list[Call] = []
        self._changed = threading.Condition()
        #: Called in the event loop after calls were added or answered.
        self.on_change: Callable[[], None] = lambda: None

    def add(self, call: Call) -> None:
        """Note a call; tell nobody yet."""
        if len(self._calls) >= CALLS_MAX:
            self._calls = self._calls[CALLS_MAX // 2 :]
        self._calls.append(call)

    def tell(self) -> None:
        """Wake those who wait for calls."""
        with self._changed:
            self._changed.notify_all()
        self.on_change()

    def snapshot(self) -> list[Call]:
        """Return a list of the calls so far."""
        return self._calls[:]

    def clear(self) -> None:
        """Forget the calls so far."""
        self._calls = []

    def wait(self, wanted: Wanted, count: int, timeout_s: float) -> list[Call] | None:
        """Return the matching calls when there are `count`; None: that took too long."""
        found: list[Call] = []

        def enough() -> bool:
            found[:] = wanted.among(self._calls)
            return len(found) >= count

        with self._changed:
            return found if self._changed.wait_for(enough, timeout_s) else None


def describe(calls: Sequence[Call]) -> str:
    """Return the last calls in a few words."""
    words = ", ".join(str(call) for call in calls[-_CALLS_SHOWN:])
    if len(calls) > _CALLS_SHOWN:
        return f"{len(calls)} calls, the last ones: {words}"
    return words or "no calls"
