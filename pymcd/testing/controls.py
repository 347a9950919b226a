"""What a test can ask of a fake and do to it, wherever the fake runs.

`Controls` is the part that the fakes have in common. It translates what tests write into calls of
`engine.Engine` by name, and says what is wrong with what they write. How such a call gets there,
into another thread or process or just so, is `_ask`.
"""

from __future__ import annotations

import itertools
import os
import re
from collections.abc import Callable, ItemsView, Iterator, KeysView, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final, TypeVar, overload

from ..limits import UINT32_MAX
from .actions import Action
from .checks import by_name, duration, is_number, is_whole
from .faults import Criteria, Fault, FaultBuilder, Origin, Rule
from .findings import Finding, caller, tell
from .record import AskedCalls, CallLog
from .requests import Commands, as_commands
from .skipping import is_cut_short
from .wanted import Expected, Key, Wanted, as_keys, good_key


@dataclass(frozen=True, slots=True)
class Item:
    """One item, as it was when it was asked for, or as `load` shall store it.

    >>> from pymcd.testing import MemcachedServer
    >>> with MemcachedServer() as server:
    ...     server.put("a", b"1", flags=2)
    ...     item = server.get("a")
    >>> item.key, item.value, item.flags, item.expires
    (b'a', b'1', 2, 0)
    """

    key: bytes
    value: bytes
    #: What the client stored beside the value.
    flags: int = 0
    #: In seconds of Unix time on the server's clock; 0: never.
    expires: int = 0
    #: The cas unique: another one after each change.
    cas: int = 0
    #: In seconds of Unix time on the server's clock.
    last_access: int = 0


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The items of a server, and how far its clock was advanced; `restore` takes it.

    >>> from pymcd.testing import MemcachedServer
    >>> with MemcachedServer() as server:
    ...     server.load({"a": b"1", "b": b"2"})
    ...     server.snapshot()
    <Snapshot: 2 items>
    """

    #: Items with their marks.
    kept: tuple[tuple[Item, int], ...]
    advanced_s: float

    def __repr__(self) -> str:
        return f"<Snapshot: {len(self.kept)} items>"


_Other = TypeVar("_Other")
#: Of what `load` takes: a dict of str is not one of "str | bytes" to a type checker.
KeyT = TypeVar("KeyT", bound=str | bytes)


# `Any`, as to type checkers a str can be in a dict of those alone.
class Items(dict[Any, Item]):
    """Living items by key. A key may be asked for as str or bytes; they come as bytes.

    >>> from pymcd.testing import MemcachedServer
    >>> with MemcachedServer() as server:
    ...     server.put("user:1", b"ada")
    ...     items = server.items()
    >>> "user:1" in items, b"user:1" in items, "user:2" in items
    (True, True, False)
    >>> items["user:1"].value, list(items), list(items.keys())
    (b'ada', [b'user:1'], [b'user:1'])
    >>> [(key, item.value) for key, item in items.items()]
    [(b'user:1', b'ada')]
    """

    def __iter__(self) -> Iterator[bytes]:
        return super().__iter__()

    def keys(self) -> KeysView[bytes]:  # type: ignore[override]  # it is just that
        """Return the keys, as bytes."""
        return super().keys()

    def items(self) -> ItemsView[bytes, Item]:  # type: ignore[override]
        """Return keys, as bytes, and items."""
        return super().items()

    def __contains__(self, key: object) -> bool:
        return super().__contains__(key.encode() if isinstance(key, str) else key)

    def __getitem__(self, key: str | bytes) -> Item:
        return super().__getitem__(key.encode() if isinstance(key, str) else key)

    @overload
    def get(self, key: str | bytes, default: None = None, /) -> Item | None: ...
    @overload
    def get(self, key: str | bytes, default: Item | _Other, /) -> Item | _Other: ...
    def get(self, key: str | bytes, default: Any = None, /) -> Any:
        """Return the item of a key, or something else.

        >>> with MemcachedServer() as server:
        ...     server.put("user:1", b"ada")
        ...     server.items().get("user:1").value
        ...     server.items().get("user:2", "nobody")
        b'ada'
        'nobody'
        """
        return super().get(key.encode() if isinstance(key, str) else key, default)


#: Of faults, of all servers: one that a server does not know has ended there.
_numbers: Final = itertools.count(1)


class FaultOwner:
    """What can be told to go wrong: a server, or both of a pair."""

    def __init__(self) -> None:
        #: Those that were not told yet what to do.
        self._builders: list[FaultBuilder] = []
        self._clearings = 0  #: how often all faults were ended together

    def _until_cleared(self) -> Callable[[], bool]:
        """Return what says whether all faults that there are now were ended together."""
        clearings = self._clearings
        return lambda: self._clearings != clearings

    def _add_fault(self, rule: Rule) -> Fault:
        """Have a fault happen from now on."""
        raise NotImplementedError

    @by_name
    def fault(
        self,
        *,
        command: Commands | None = None,
        key: Key | None = None,
        connection: int | None = None,
        times: int | None = None,
        probability: float = 1.0,
        seed: int = 0,
        skip: int = 0,
        after: float | timedelta = 0,
        required: bool = True,
    ) -> FaultBuilder:
        """Choose the calls to which something shall happen; the `FaultBuilder` says what.

        Calls of that command (or of one of several) on that key, written as for `CallLog.of`, by
        that client (counted from 1); not the first `skip` of them, and none before so many seconds
        of the server's clock (`after`); then `times` of them; each with that probability, by a
        generator that starts from `seed`. What is left out does not matter. If it has happened less
        than `times` times when the test is over, `verify()` fails, unless `required=False`.

        >>> with MemcachedServer() as server:
        ...     client = Client(server.address)
        ...     with server.fault(command="get", key="a").drop():
        ...         try:
        ...             client.get("a")
        ...         except Exception as error:
        ...             print(type(error).__name__)
        ...     client.get("a")
        ...     client.close()
        MemcacheUnexpectedCloseError
        """
        criteria = Criteria(
            as_commands(command),
            as_keys(key),
            connection,
            times,
            probability,
            seed,
            required,
            skip,
            good_after(after),
        )
        said = {
            "command": command,
            "key": key,
            "connection": connection,
            "times": times,
            "probability": None if probability == 1 else probability,
            "seed": seed or None,
            "skip": skip or None,
            "after": after or None,
        }
        words = ", ".join(f"{name}={_say(word)}" for name, word in said.items() if word is not None)

        def add(action: Action, origin: Origin) -> Fault:
            return self._add_fault(Rule(next(_numbers), criteria, action, origin))

        def told(builder: FaultBuilder) -> None:
            if builder in self._builders:
                self._builders.remove(builder)

        builder = FaultBuilder(Origin(f"fault({words})", caller()), add, told)
        self._builders.append(builder)
        return builder

    def _take_findings(self) -> list[Finding]:
        """Return what is wrong with the test so far, and was not told yet."""
        raise NotImplementedError

    def _take_untold(self) -> list[Finding]:
        builders, self._builders = self._builders, []
        return [
            Finding(
                f"{builder.origin} was not told what to do: write what, as in"
                f" {builder.origin.text}.drop()",
                builder.origin.place,
                harmless=True,
            )
            for builder in builders
        ]


class Controls(FaultOwner):
    """The controls that do not depend on where the fake runs."""

    @property
    def _is_running(self) -> bool:
        """Whether it is, as far as that is known: it may be a test's that is over."""
        return False

    def _ask(self, name: str, *arguments: Any) -> Any:
        """Have the engine execute the method of that name."""
        raise NotImplementedError

    @property
    def now(self) -> float:
        """The server's time, in seconds of Unix time: real, plus what `advance` added.

        >>> with MemcachedServer(clock="frozen") as server:
        ...     before = server.now
        ...     server.advance(60)
        ...     round(server.now - before)
        60
        """
        return float(self._ask("now"))

    def items(self) -> Items:
        """Return all living items by key, asked for as str or bytes; nothing changes by that.

        >>> with MemcachedServer() as server:
        ...     server.put("a", b"1")
        ...     {key: item.value for key, item in server.items().items()}
        ...     "a" in server.items()
        {b'a': b'1'}
        True
        """
        return Items(self._ask("items"))

    def get(self, key: str | bytes) -> Item | None:
        """Return one living item, or None. It counts in no statistic and moves nothing.

        >>> with MemcachedServer() as server:
        ...     server.get("a") is None
        True
        """
        item: Item | None = self._ask("get", good_key(key))
        return item

    def __contains__(self, key: str | bytes) -> bool:
        """Return whether a living item is there; no use of it.

        >>> with MemcachedServer() as server:
        ...     server.put("a", b"1")
        ...     "a" in server, b"b" in server
        (True, False)
        """
        return self.get(key) is not None

    def __len__(self) -> int:
        """Return how many living items there are.

        >>> with MemcachedServer() as server:
        ...     server.put("a", b"1")
        ...     len(server)
        1
        """
        return len(self.items())

    def __bool__(self) -> bool:
        """Return True, with no items, too."""
        return True

    def snapshot(self) -> Snapshot:
        """Return all living items, and how far the clock is, for `restore`.

        >>> with MemcachedServer() as server:
        ...     server.put("a", b"1", ttl=60)
        ...     before = server.snapshot()
        ...     server.advance(61)
        ...     server.put("b", b"2")
        ...     server.restore(before)
        ...     list(server.items())
        [b'a']
        """
        snapshot: Snapshot = self._ask("snapshot")
        return snapshot

    def evict(self, key: str | bytes) -> bool:
        """Evict an item, as the server does when it needs the memory; False: it is not there.

        >>> with MemcachedServer() as server:
        ...     server.put("a", b"1")
        ...     server.evict("a"), server.evict("a"), server.stats()["evictions"]
        (True, False, '1')
        """
        return bool(self._ask("evict", good_key(key)))

    @property
    def connections(self) -> int:
        """How many clients are connected.

        >>> with MemcachedServer() as server:
        ...     server.connections
        0
        """
        return int(self._ask("connections"))

    @property
    def log(self) -> list[str]:
        """The last lines of the server's log; `options=["-vv"]` makes it say more.

        >>> with MemcachedServer() as server:
        ...     server.log
        []
        """
        lines: list[str] = self._ask("log")
        return lines

    @property
    def calls(self) -> CallLog:
        """What clients said so far; also when the server has stopped.

        >>> with MemcachedServer() as server:
        ...     client = Client(server.address)
        ...     values = client.get_many(["a", "b"])
        ...     client.close()
        >>> call = server.calls[0]
        >>> call.command, call.keys, call.reply
        ('get', (b'a', b'b'), b'END\\r\\n')
        """
        return CallLog(AskedCalls(self._ask_record))

    def _ask_record(self, name: str, *arguments: Any) -> Any:
        """Have the server's `CallRecord` execute the method of that name."""
        return self._ask(f"script.record.{name}", *arguments)

    # -- what goes wrong -----------------------------------------------------------------------

    def verify(self) -> None:
        """Raise `VerifyError` if the test has not tested what it says; all that is wrong together.

        That is an exception, a failed assert or a wrong type out of a function given to a fault,
        and a fault that happened less than `times` times. Warned of are a fault without an action,
        and one on a key that no command asked for. Each is told once. The fixtures do this at their
        end, and so does a `with` block that no exception has left.

        >>> with MemcachedServer() as server:
        ...     fault = server.fault(command="get", times=1).drop()
        ...     try:
        ...         server.verify()
        ...     except AssertionError as error:
        ...         print(type(error).__name__)
        VerifyError
        """
        __tracebackhide__ = True
        found = self._take_findings()
        if not is_cut_short():
            tell(found)

    def _take_findings(self) -> list[Finding]:
        """Return what is wrong with the test so far, and was not told yet."""
        found: list[Finding] = self._ask("script.take_findings")
        return found + self._take_untold()

    def _armed(self) -> list[str]:
        """Return the faults that may happen, one line each."""
        armed: list[str] = self._ask("script.faults.armed")
        return armed

    def refuse_connections(self) -> Fault:
        """Refuse new connections; clients that are connected stay.

        >>> import socket
        >>> with MemcachedServer() as server:
        ...     with server.refuse_connections():
        ...         try:
        ...             socket.create_connection(server.address)
        ...         except ConnectionRefusedError:
        ...             print("refused")
        ...     socket.create_connection(server.address).close()
        refused
        """
        number = next(_numbers)
        self._ask("server.refuse", number)
        return self._fault(number, "server.accept_again", "refuse_connections()")

    def pause(self) -> None:
        """Answer nobody from now on; connections are accepted, and what is sent is kept.

        >>> with MemcachedServer() as server:
        ...     server.pause()
        ...     server.resume()
        """
        self._ask("pause")

    def resume(self) -> None:
        """Go on after `pause()`, with what came meanwhile.

        >>> with MemcachedServer() as server:
        ...     server.pause()
        ...     server.resume()
        """
        self._ask("resume")

    def _add_fault(self, rule: Rule) -> Fault:
        self._ask("script.faults.add", rule.number, rule.criteria, rule.action, rule.origin)
        return self._fault(rule.number, "script.remove_fault", str(rule.origin))

    def _fault(self, number: int, remove: str, text: str) -> Fault:
        """Return the handle of a fault that the method `remove` ends."""
        return Fault(
            lambda: self._ask(remove, number),
            lambda: self._ask("script.faults.met", number),
            text,
            self._until_cleared(),
        )


def _say(word: object) -> str:
    """Return how a test has written something, about."""
    if isinstance(word, re.Pattern):
        return f"re.compile({word.pattern!r})"
    return getattr(word, "__name__", None) or repr(word)


def check_parent(process: int) -> None:
    """Raise `RuntimeError` in another process than that one, which started a server."""
    if os.getpid() != process:
        raise RuntimeError(
            "this server belongs to the process that started it; a forked child can be its client,"
            " and only the parent can control it"
        )


def good_item(
    key: str | bytes,
    value: bytes,
    flags: int,
    ttl: float,
    *,
    call: str = "put()",
    end: str = "ttl",
) -> tuple[bytes, bytes, int, int]:
    """Return what `put` was given, or say what is wrong with it."""
    encoded = good_key(key)
    if not isinstance(value, bytes):
        raise TypeError(
            f"{call} stores bytes as a client would send them, and the value of {key!r} is"
            f" {type(value).__name__}; write value.encode(), or store it with your client"
        )
    if not is_whole(flags) or not 0 <= flags <= UINT32_MAX:
        raise ValueError(f"flags={flags!r}: they are a number of 32 bits, as in flags=1")
    if not is_number(ttl):
        raise TypeError(f"{end}={ttl!r}: write whole seconds, as in {end}=60; 0 is for ever")
    if not abs(ttl) <= UINT32_MAX or ttl != int(ttl):
        raise ValueError(
            f"{end}={ttl!r}: memcached knows whole seconds, up to {UINT32_MAX}; 0 is for ever"
        )
    return encoded, value, flags, int(ttl)


def good_items(items: Mapping[Any, bytes | Item]) -> list[Item]:
    """Return what `load` was given, or say what is wrong with it."""
    if not isinstance(items, Mapping):
        raise TypeError(
            f"load() takes a dict of keys and values, not {type(items).__name__};"
            ' write load({"a": b"1"})'
        )
    good = []
    for key, value in items.items():
        written = value if isinstance(value, Item) else Item(b"", value)
        encoded, data, flags, expires = good_item(
            key, written.value, written.flags, written.expires, call="load()", end="expires"
        )
        good.append(Item(encoded, data, flags, expires))
    return good


def too_large(key: bytes, value: bytes) -> str:
    """Return what to say of an item that a server does not take."""
    return (
        f"the item {key!r} of {len(value)} bytes is too large for this server;"
        " start it with a larger max_item_size="
    )


def good_snapshot(snapshot: Snapshot) -> Snapshot:
    """Return what `restore` was given, or say what is wrong with it."""
    if not isinstance(snapshot, Snapshot):
        raise TypeError(
            f"restore() takes what snapshot() has returned, not {type(snapshot).__name__};"
            " load() stores a dict"
        )
    return snapshot


def good_seconds(seconds: float | timedelta) -> float:
    """Return how far to move the clock, or say why that cannot be."""
    if isinstance(seconds, timedelta):
        seconds = seconds.total_seconds()
    if not is_number(seconds):
        raise TypeError(
            f"advance({seconds!r}): write a number of seconds, as in advance(60), or a timedelta"
        )
    if not 0 <= seconds < float("inf"):
        raise ValueError(
            f"advance({seconds!r}): time only goes forward, by 0 seconds or more;"
            " reset() sets the clock back and removes all items"
        )
    return seconds


def too_few(calls: CallLog, wanted: Wanted, count: int, timeout_s: float) -> TimeoutError:
    """Return what to raise when calls that were waited for did not come."""
    there = list(calls)
    found = len(wanted.among(there))
    near = Expected(wanted).nearest(there, calls.forgotten)
    return TimeoutError(
        f"waited {timeout_s:g} s for {count} of {wanted}, of which there were {found}; {near}"
    )


def good_after(after: float | timedelta) -> float:
    """Return after how many seconds a fault begins, or say why that cannot be."""
    seconds = after.total_seconds() if isinstance(after, timedelta) else after
    if not is_number(seconds) or not 0 <= seconds < float("inf"):
        raise ValueError(f"after={after!r}: it is how many seconds go well before, 0 or more")
    return float(seconds)


def good_count(count: int, timeout: float) -> None:
    """Say what is wrong with what `wait_for` was given."""
    if not is_whole(count) or count < 1:
        raise ValueError(f"count={count!r}: wait_for() waits for 1 call or more")
    duration("timeout", timeout)


def good_report(name: str) -> str:
    """Return which report `stats` was asked for, or say what is wrong with that."""
    if not isinstance(name, str) or not name.isprintable():
        raise TypeError(f'stats({name!r}): write the name of a report, as in stats("items")')
    return name
