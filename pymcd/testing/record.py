"""The calls of a server: `CallRecord` is where it notes them, `CallLog` what tests look at.

A log is the same wherever the server runs, and when it has stopped; it asks for what is looked at,
and for nothing more.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Final, Protocol, Unpack, overload

from .calls import Call, count_calls
from .checks import is_whole
from .requests import Commands
from .wanted import Attributes, Expected, Key, Wanted

#: Of the calls that a server notes: keys, values, replies, and the rest of each.
CALLS_MAX_BYTES: Final = 16 << 20
_CALL_BYTES: Final = 400
_KEY_BYTES: Final = 48
#: Named in messages.
_CALLS_SHOWN: Final = 10


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

    def __init__(self, source: CallSource) -> None:
        self._source = source

    @property
    def forgotten(self) -> int:
        """How many of the oldest calls are no longer here, as all together were too large.

        >>> with MemcachedServer() as server:
        ...     server.calls.forgotten
        0
        """
        return self._source.forgotten()

    def of(self, command: Commands | None = None, key: Key | None = None) -> list[Call]:
        """Return the calls of a command (or of one of several), and of a key.

        "get" finds gets, gat and mg, too, as "set" or "delete" find what the meta protocol has for
        them; "=get" is that very word. "reads" and "writes" are all commands that do so. In a key
        `*` stands for anything and `?` for one byte; it may be a compiled regular expression of all
        of the key, or a function of its bytes.

        >>> with MemcachedServer() as server:
        ...     client = Client(server.address, default_noreply=False)
        ...     values = client.gets("user:1"), client.set("a", "1")
        ...     [str(call) for call in server.calls.of("get", "user:*")]
        ...     len(server.calls.of(["get", "set"], "a")), len(server.calls.of("=get"))
        ...     client.close()
        ['gets user:1']
        (1, 0)
        """
        return Wanted.of(command, key).among(self._source.snapshot())

    def assert_called(
        self,
        command: Commands | None = None,
        key: Key | None = None,
        *,
        count: int | None = None,
        **attributes: Unpack[Attributes],
    ) -> list[Call]:
        """Return the calls that are all that; `AssertionError` if there are none, or not `count`.

        That is also raised if `count` cannot be known, as some are forgotten.

        Beside command and key, as `of` takes them, a call has a value, client_flags, ttl, noreply,
        reply and connection.

        >>> with MemcachedServer() as server:
        ...     client = Client(server.address, default_noreply=False)
        ...     stored = client.set("a", "1", expire=60)
        ...     calls = server.calls.assert_called("set", "a", value="1", ttl=60)
        ...     client.close()
        """
        __tracebackhide__ = True
        if count is not None and (not is_whole(count) or count < 1):
            raise ValueError(
                f"count={count!r}: it is 1 or more; write assert_not_called() for none"
            )
        return self._assert(Expected.of(Wanted.of(command, key), attributes), count)

    def assert_called_once(
        self,
        command: Commands | None = None,
        key: Key | None = None,
        **attributes: Unpack[Attributes],
    ) -> Call:
        """Return the one call that is all that; `AssertionError` if there is none, or another.

        That is also raised if it cannot be known, as some are forgotten.

        >>> with MemcachedServer() as server:
        ...     client = Client(server.address, default_noreply=False)
        ...     stored = client.set("a", "1", expire=60)
        ...     call = server.calls.assert_called_once("writes")
        ...     client.close()
        >>> call.key, call.value, call.ttl
        (b'a', b'1', 60)
        """
        __tracebackhide__ = True
        expected = Expected.of(Wanted.of(command, key), attributes)
        (call,) = self._assert(expected, 1)
        return call

    def assert_not_called(
        self,
        command: Commands | None = None,
        key: Key | None = None,
        **attributes: Unpack[Attributes],
    ) -> None:
        """Raise `AssertionError` if there is a call that is all that, or if some are forgotten.

        >>> with MemcachedServer() as server:
        ...     client = Client(server.address, default_noreply=False)
        ...     value = client.get("a")
        ...     server.calls.assert_not_called("writes")
        ...     client.close()
        """
        __tracebackhide__ = True
        expected = Expected.of(Wanted.of(command, key), attributes)
        calls = self._source.snapshot()
        found = expected.among(calls)
        if found:
            shown = "\n".join(f"  {call.brief()}" for call in found[:_CALLS_SHOWN])
            raise AssertionError(f"{count_calls(len(found))} of {expected}:\n{shown}")
        self._check_all_known(expected)

    def _assert(self, expected: Expected, count: int | None) -> list[Call]:
        __tracebackhide__ = True
        calls = self._source.snapshot()
        found = expected.among(calls)
        if not found or (count is not None and len(found) != count):
            wanted = "" if count is None else f", not {count}"
            number = f"{count_calls(len(found))}{wanted}" if found else "no call"
            raise AssertionError(
                f"{number} of {expected}; {expected.nearest(calls, self.forgotten)}"
            )
        if count is not None:
            self._check_all_known(expected)
        return found

    def _check_all_known(self, expected: Expected) -> None:
        """Raise `AssertionError` if there may be more than are here."""
        __tracebackhide__ = True
        if forgotten := self.forgotten:
            raise AssertionError(
                f"nobody knows of all calls of {expected}: {forgotten} older ones are forgotten;"
                " write calls.clear() where those before do not matter any more"
            )

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
        self._source.clear()

    @overload
    def __getitem__(self, index: int) -> Call: ...
    @overload
    def __getitem__(self, index: slice) -> list[Call]: ...
    def __getitem__(self, index: int | slice) -> Call | list[Call]:
        found: Call | list[Call] = self._source.at(index)
        return found

    def __len__(self) -> int:
        return self._source.count()

    def __iter__(self) -> Iterator[Call]:
        return iter(self._source.snapshot())

    def __eq__(self, other: object) -> bool:
        return list(self) == list(other) if isinstance(other, Sequence) else NotImplemented

    __hash__ = None  # type: ignore[assignment]  # it changes

    def __repr__(self) -> str:
        return f"<CallLog: {describe(self._source.snapshot())}>"


class CallSource(Protocol):
    """Where a `CallLog` has its calls from."""

    def snapshot(self) -> list[Call]:
        """Return all that there are."""

    def at(self, index: Any) -> Any:
        """Return one of them, or a slice."""

    def count(self) -> int:
        """Return how many there are."""

    def forgotten(self) -> int:
        """Return how many there were before those."""

    def clear(self) -> None:
        """Forget all so far."""


class AskedCalls:
    """The calls that a server has noted, which is asked for them, or for one of them."""

    def __init__(self, ask: Callable[..., Any]) -> None:
        """`ask` calls the method of that name of its `CallRecord`."""
        self._ask = ask

    def snapshot(self) -> list[Call]:
        calls: list[Call] = self._ask("snapshot")
        return calls

    def at(self, index: Any) -> Any:
        return self._ask("at", index)

    def count(self) -> int:
        return int(self._ask("count"))

    def forgotten(self) -> int:
        return int(self._ask("forgotten"))

    def clear(self) -> None:
        self._ask("clear")


class CallRecord:
    """Where a server notes its calls. Written by its event loop, read by any thread.

    It holds `CALLS_MAX_BYTES` of them; when there are more, the oldest are forgotten.
    """

    def __init__(self, calls: Iterable[Call] = (), forgotten: int = 0) -> None:
        self._calls = list(calls)
        self._forgotten = forgotten
        self._bytes = 0
        self._changed = threading.Condition()
        #: Called in the event loop after calls were added or answered.
        self.on_change: Callable[[], None] = lambda: None

    def __reduce__(self) -> tuple[type[CallRecord], tuple[list[Call], int]]:
        # On its way out of another process.
        return CallRecord, (self._calls, self._forgotten)

    def add(self, call: Call) -> None:
        """Note a call; tell nobody yet."""
        self._calls.append(call)
        self._hold(_weigh(call))

    def answered(self, call: Call, reply: bytes) -> None:
        """Note what was sent back, and tell those who wait."""
        call.reply = reply
        self._hold(len(reply))
        self.tell()

    def _hold(self, more_bytes: int) -> None:
        self._bytes += more_bytes
        if self._bytes <= CALLS_MAX_BYTES:
            return
        # The newest one stays however large it is.
        kept = kept_bytes = 0
        for call in reversed(self._calls):
            kept_bytes += _weigh(call)
            if kept and kept_bytes > CALLS_MAX_BYTES * 3 // 4:
                break
            kept += 1
            self._bytes = kept_bytes
        self._forgotten += len(self._calls) - kept
        self._calls = self._calls[-kept:]  # others may be looking at what there was

    def tell(self) -> None:
        """Wake those who wait for calls."""
        with self._changed:
            self._changed.notify_all()
        self.on_change()

    def snapshot(self) -> list[Call]:
        """Return a list of the calls so far."""
        return self._calls[:]

    def at(self, index: Any) -> Any:
        """Return one of them, or a slice."""
        return self._calls[index]

    def count(self) -> int:
        """Return how many there are."""
        return len(self._calls)

    def forgotten(self) -> int:
        """Return how many there were before those."""
        return self._forgotten

    def clear(self) -> None:
        """Forget the calls so far."""
        self._calls = []
        self._bytes = self._forgotten = 0

    def wait(self, wanted: Wanted, count: int, timeout_s: float) -> list[Call] | None:
        """Return the matching calls when there are `count`; None: that took too long."""
        found: list[Call] = []

        def enough() -> bool:
            found[:] = wanted.among(self._calls)
            return len(found) >= count

        with self._changed:
            return found if self._changed.wait_for(enough, timeout_s) else None


def _weigh(call: Call) -> int:
    """Return what a call takes of memory, about."""
    return _CALL_BYTES + sum(map(len, call.keys)) + len(call.value or b"") + len(call.reply or b"")


def describe(calls: Sequence[Call]) -> str:
    """Return the last calls in a few words."""
    words = ", ".join(str(call) for call in calls[-_CALLS_SHOWN:])
    if len(calls) > _CALLS_SHOWN:
        return f"{count_calls(len(calls))}, the last ones: {words}"
    return words or "no calls"
