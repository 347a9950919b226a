"""A memcached that runs somewhere else, in the shape of `MemcachedServer`, for the fixtures.

It does what any memcached can be asked over its text protocol. A test that wants more of it, a
clock that moves or a fault, is skipped with the reason; and so is one that wants more servers than
there are, for the items of one would be those of the other.
"""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING, Any, Final, NoReturn, Self

import pytest

from ..addresses import AddressError, split_address
from ..limits import EXPTIME_RELATIVE_MAX_S
from .controls import Item, KeyT, good_item, good_items, too_large
from .server import MemcachedServer
from .wanted import good_key

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from .faults import Fault, FaultBuilder
    from .findings import Finding
    from .record import CallLog

_OPTION: Final = "--memcached-server"
_TIMEOUT_S: Final = 5.0
_TOO_LARGE: Final = b"SERVER_ERROR object too large for cache\r\n"


class Addresses:
    """The servers of `--memcached-server` that are for this process; each is for one at a time."""

    def __init__(self, words: Sequence[str]) -> None:
        """Take them as they are written; raise `ValueError` for what is no address."""
        self._free = [_split(word) for word in dict.fromkeys(words)]
        self._all = len(self._free)

    def server(self) -> ExternalServer:
        """Return one that nobody uses, until it is stopped; skip the test where there is none."""
        if not self._all:
            pytest.skip(f"this worker stands in for one that crashed; {_OPTION} names none for it")
        if not self._free:
            servers = "one server" if self._all == 1 else f"{self._all} servers"
            more = ",".join(["HOST:PORT"] * (self._all + 1))
            pytest.skip(
                f"{_OPTION} names {servers} for this process, in use already, and two in one place"
                f" would empty each other; write {_OPTION}={more}"
            )
        return ExternalServer(self._free)


def _split(word: str) -> tuple[str, int]:
    try:
        host, port = split_address(word)
    except AddressError as error:
        raise ValueError(f"{word!r} is no HOST:PORT: {error}") from None
    if not (host and port):
        raise ValueError(f"{word!r} is no HOST:PORT")
    return host, port


class ExternalServer(MemcachedServer):
    """One server of `--memcached-server`; until it is stopped it is not among the free ones."""

    def __init__(self, free: list[tuple[str, int]]) -> None:
        self._free = free
        self._taken: tuple[str, int] | None = free.pop(0)
        super().__init__(host=self._taken[0], port=self._taken[1])

    def start(self) -> Self:
        """Empty it."""
        try:
            self.reset()
        except BaseException:
            self.stop()
            raise
        return self

    def stop(self) -> None:
        """Leave it as it is."""
        taken, self._taken = self._taken, None
        if taken is not None:
            self._free.insert(0, taken)

    def __repr__(self) -> str:
        return f"<ExternalServer at {self.url}>"

    @property
    def port(self) -> int:
        """The port that it listens on."""
        return self._port_number

    # -- what any memcached can do -------------------------------------------------------------

    def reset(self) -> None:
        """Remove all items and zero the statistics."""
        self._say(b"flush_all\r\n")
        self._say(b"stats reset\r\n")

    def get(self, key: str | bytes) -> Item | None:
        """Return one item; it does not count as a use, but in the statistics."""
        encoded = good_key(key)
        head, _, rest = self._say(b"mg %b s f t c l v\r\n" % encoded).partition(b"\r\n")
        words = head.split()
        if words[0] != b"VA":
            return None
        flags = {word[:1]: int(word[1:]) for word in words[2:]}
        now = int(self.stats()["time"])
        return Item(
            key=encoded,
            value=rest[: int(words[1])],
            flags=flags[b"f"],
            expires=now + flags[b"t"] if flags[b"t"] >= 0 else 0,
            cas=flags[b"c"],
            last_access=now - flags[b"l"],
        )

    def put(self, key: str | bytes, value: bytes, *, flags: int = 0, ttl: int = 0) -> None:
        """Store an item; it counts as a set."""
        encoded, value, flags, ttl = good_item(key, value, flags, ttl)
        if ttl > EXPTIME_RELATIVE_MAX_S:
            ttl += int(self.stats()["time"])
        self._store(Item(encoded, value, flags, ttl))

    def load(self, items: Mapping[KeyT, bytes | Item]) -> None:
        """Store many items; each counts as a set."""
        for item in good_items(items):
            self._store(item)

    def _store(self, item: Item) -> None:
        """Store an item that `expires` at what a `set` has there."""
        head = b"set %b %d %d %d\r\n" % (item.key, item.flags, item.expires, len(item.value))
        reply = self._say(head + item.value + b"\r\n")
        if reply == _TOO_LARGE:
            raise ValueError(too_large(item.key, item.value))
        if reply != b"STORED\r\n":
            raise RuntimeError(f"the item {item.key!r} was not stored: {reply.decode().rstrip()}")

    def stats(self, name: str = "") -> dict[str, str]:
        """Return a report."""
        reply = self._say(f"stats {name}".rstrip().encode() + b"\r\n").decode()
        rows = [line.split(" ", 2) for line in reply.split("\r\n")]
        return {row[1]: row[2] for row in rows if row[0] == "STAT"}

    @property
    def connections(self) -> int:
        """How many clients are connected, less the one that asks, and memcached's own."""
        return max(0, int(self.stats()["curr_connections"]) - 1)

    def _say(self, command: bytes) -> bytes:
        """Send a command and return the reply."""
        try:
            sock = socket.create_connection(self.address, _TIMEOUT_S)
        except OSError as error:
            reason = error.strerror or error
            raise RuntimeError(f"nobody answers at {self.url}: {reason}") from None
        with sock:
            # The second one shows where the answer to the first has ended.
            sock.sendall(command + b"mn\r\n")
            reply = b""
            while not reply.endswith(b"MN\r\n"):
                data = sock.recv(1 << 16)
                if not data:
                    raise RuntimeError(f"{self.url} closed the connection")
                reply += data
        return reply.removesuffix(b"MN\r\n")

    def _take_findings(self) -> list[Finding]:
        return []  # nothing happens to it

    # -- what only the fake can do -------------------------------------------------------------

    def _ask(self, name: str, *arguments: Any) -> NoReturn:
        _skip(name)

    def fault(self, **criteria: Any) -> FaultBuilder:
        """Skip the test."""
        _skip("fault")

    def refuse_connections(self) -> Fault:
        """Skip the test."""
        _skip("refuse_connections")

    def restart(self, *, keep_items: bool = False) -> None:
        """Skip the test."""
        _skip("restart")

    def wait_for(self, *criteria: Any, **how: Any) -> NoReturn:
        """Skip the test."""
        _skip("wait_for")

    async def wait_for_async(self, *criteria: Any, **how: Any) -> NoReturn:
        """Skip the test."""
        _skip("wait_for_async")

    @property
    def calls(self) -> CallLog:
        """Skip the test."""
        _skip("calls")

    @property
    def log(self) -> NoReturn:
        """Skip the test."""
        _skip("log")


def _skip(name: str) -> NoReturn:
    pytest.skip(f"{name} is beyond a real memcached ({_OPTION})")
