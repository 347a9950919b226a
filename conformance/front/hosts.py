"""Two hosts of a pair: network namespaces with a node each, which listens on all addresses."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Self

from conformance.pair.namespaces import REPLICATION_PORT, Host, Network
from conformance.pair.nodes import Pair
from conformance.pair.strangers import SECRET, secrets
from conformance.servers import PYMCD
from conformance.trial import until

if TYPE_CHECKING:
    from collections.abc import Sequence

    from conformance.pair.ways import Way

CLIENT_PORT = 11211


@dataclass(slots=True)
class Hosts:
    """Two hosts on a switch, with us on it as well. A context manager; in sync when entered."""

    #: More options for both nodes.
    options: Sequence[str] = ()
    way: Way = field(default_factory=lambda: Pair.usual_way)
    network: Network = field(default_factory=Network)
    nodes: list[Host] = field(default_factory=list)
    _secret_file: str = ""
    _stack: ExitStack = field(default_factory=ExitStack)

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            self._set_up(stack)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *exc: object) -> None:
        self._stack.close()

    def _set_up(self, stack: ExitStack) -> None:
        (self._secret_file,) = stack.enter_context(secrets(SECRET))
        stack.enter_context(self.network)
        for index in range(2):
            self.nodes.append(self._make(index))
            stack.callback(self.nodes[index].stop)
            self.nodes[index].start()
        self.wait_in_sync()

    def _make(self, index: int) -> Host:
        command = ("ip", "netns", "exec", self.network.hosts[index], *PYMCD)
        link, other = (self.network.address(each, "link") for each in (index, 1 - index))
        switches = ["-p", str(CLIENT_PORT), "--node-id", f"host{index}", *self.options]
        switches += ["--replication-listen", link, "--replication-port", str(REPLICATION_PORT)]
        switches += ["--peer", f"{other}:{REPLICATION_PORT}"]
        switches += ["--replication-secret-file", self._secret_file, *self.way.switches()]
        return Host(
            command,
            switches,
            self.way.environment(),
            host=self.network.address(index, "client"),
            listen=(),
            way=self.way,
        )

    def vanish(self, index: int) -> None:
        """Take a host away without a word: its cables are pulled, then its node is killed."""
        self.network.pull(index, "client")
        self.network.pull(index)
        self.nodes[index].kill()

    def come_back(self, index: int) -> None:
        self.network.plug(index, "client")
        self.network.plug(index)
        self.restart(index)

    def restart(self, index: int) -> None:
        """Let a node come back, empty."""
        self.nodes[index].stop()
        self.nodes[index].start()

    def wait_in_sync(self) -> None:
        until(
            "hosts in sync",
            lambda: all(node.rows().get("state") == "in_sync" for node in self.nodes),
        )
