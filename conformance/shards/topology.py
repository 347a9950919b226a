"""The shards: pairs, each behind an HAProxy of its own; or single servers, to see them fail."""

from __future__ import annotations

import contextlib
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar, Self

from conformance.front.haproxy import HAProxy, documented, led_back
from conformance.pair.load import read
from conformance.pair.nodes import Node, Pair
from conformance.servers import PYMCD, Server, find_memcached
from conformance.trial import TrialError, free_port, until

if TYPE_CHECKING:
    from collections.abc import Sequence

#: While a server that is alone is away.
GONE_S = 0.3


class Shard:
    """Some nodes that have the same keys, behind one address."""

    @property
    def address(self) -> str:
        raise NotImplementedError

    @property
    def nodes(self) -> Sequence[Node]:
        raise NotImplementedError

    def wait_ready(self) -> None:
        """Wait until all nodes serve, and have what there is to have."""
        raise NotImplementedError

    def lose(self, node: int) -> None:
        """Have a node die, as by a power cut."""
        raise NotImplementedError

    def bring_back(self, node: int) -> None:
        """Start a node that died again, empty."""
        raise NotImplementedError


@dataclass(slots=True)
class PairShard(Shard):
    """A pair behind HAProxy, which leads to the first node while that is healthy."""

    pair: Pair
    front: HAProxy

    @property
    def address(self) -> str:
        return self.front.address

    @property
    def nodes(self) -> Sequence[Node]:
        return self.pair.nodes

    def wait_ready(self) -> None:
        self.pair.wait_in_sync()

    def lose(self, node: int) -> None:
        self.nodes[node].kill()

    def bring_back(self, node: int) -> None:
        self.pair.restart(node)


@dataclass(slots=True)
class SingleShard(Shard):
    """One server alone, which comes back empty at the same port."""

    command: Sequence[str]
    port: int = field(default_factory=free_port)
    _server: _Alone | None = None

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def nodes(self) -> Sequence[Node]:
        assert self._server is not None
        return [self._server]

    def start(self) -> None:
        self._server = _Alone(self.command, ("-p", str(self.port)))
        self._server.start()

    def stop(self) -> None:
        if self._server is not None:
            self._server.stop()

    def wait_ready(self) -> None:
        until("a single server answers", self.nodes[0].accepts)

    def lose(self, node: int) -> None:
        del node
        self.stop()
        time.sleep(GONE_S)
        self.start()

    def bring_back(self, node: int) -> None:
        """It is back already: without it there is nobody to answer."""


class _Alone(Node):
    """A node that has no peer, and no port for one."""

    _listening = Server._listening


@dataclass(slots=True)
class Shards:
    """Three shards, or as many as are asked for. A context manager."""

    #: Instead of pairs, whatever a trial says: a server alone, `pymcd` or `memcached`.
    single: ClassVar[str] = ""

    count: int = 3
    shards: list[Shard] = field(default_factory=list)
    _stack: contextlib.ExitStack = field(default_factory=contextlib.ExitStack)

    def __enter__(self) -> Self:
        with contextlib.ExitStack() as stack:
            for _ in range(self.count):
                self.shards.append(_single(stack) if self.single else _pair(stack))
            self.wait_ready()
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *exc: object) -> None:
        self._stack.close()

    @property
    def addresses(self) -> list[str]:
        return [shard.address for shard in self.shards]

    def wait_ready(self) -> None:
        for shard in self.shards:
            shard.wait_ready()

    def held(self, keys: Sequence[bytes]) -> list[list[dict[bytes, bytes]]]:
        """Return what each node of each shard has."""
        return [[read(node, keys) for node in shard.nodes] for shard in self.shards]

    def homes(self, keys: Sequence[bytes]) -> dict[bytes, int]:
        """Return which shard has each key, all of which must be there, once."""
        homes: dict[bytes, int] = {}
        for number, shard in enumerate(self.shards):
            for key in read(shard.nodes[0], keys):
                if key in homes:
                    raise TrialError(f"{key.decode()} is on two shards")
                homes[key] = number
        if missing := len(keys) - len(homes):
            raise TrialError(f"{missing} of {len(keys)} keys are on no shard")
        return homes


def _pair(stack: contextlib.ExitStack) -> PairShard:
    pair = stack.enter_context(Pair(wired=False, settled=True))
    # First: HAProxy would not ask again for a second who refused it.
    pair.wait_in_sync()
    front = stack.enter_context(HAProxy([node.port for node in pair.nodes], led_back(documented())))
    return PairShard(pair, front)


def _single(stack: contextlib.ExitStack) -> SingleShard:
    command = find_memcached() if Shards.single == "memcached" else PYMCD
    if command is None:
        raise TrialError("no memcached installed (Debian: apt-get install memcached)")
    shard = SingleShard(command)
    stack.callback(shard.stop)
    shard.start()
    return shard
