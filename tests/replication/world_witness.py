"""A host with a witness in the simulated world: it is called, and has neither data nor clients."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from pymcd.replication.witness import Memory, Witness

from .world import Host, HostClock, Observation, World

if TYPE_CHECKING:
    from collections.abc import Callable

    from pymcd.config import Settings
    from pymcd.replication.link import Link
    from pymcd.replication.messages import Roll

NAME: Final = "w"
ADDRESS: Final = f"{NAME}:11212"


class _Nothing:
    """What a host has of a server with data, for one without."""

    has_news = False

    def tick(self) -> None:
        """There is no cache."""

    def send_batch(self) -> None:
        """There are no changes."""


class _Node:
    """A witness in the place of a node."""

    ready = False
    gate = _Nothing()

    def __init__(self, witness: Witness) -> None:
        self.witness = witness
        self.membership = self
        self.step = witness.step
        self.check = witness.check
        self.may_accept = witness.may_accept

    def open_link(self, *, dialled: str | None, address: str) -> Link:
        assert dialled is None
        return self.witness.open_link(address)

    def peer_of(self, link: Link) -> Any:
        callers = self.witness.callers.values()
        return next((caller for caller in callers if caller.link is link), None)


class WitnessHost(Host):
    """A machine with a witness."""

    def __init__(
        self, world: World, settings: Settings, clock: HostClock, *, secret: bytes, disk: bool
    ) -> None:
        """`disk`: what it promised outlives its process."""
        super().__init__(world, NAME, settings, clock, dials=[], secret=secret, memory_pages=None)
        self._disk: Memory | None = None
        self._has_disk = disk
        #: When it began to back what.
        self.backed: list[tuple[float, Roll | None]] = []

    def start(self) -> None:
        """Start a witness, with what is on its disk."""
        world = self.world
        self.life += 1
        self.alive = True
        self.frozen = self.leaving = False
        self.heard_at.clear()
        self._keep([])
        self._inbox.clear()
        self._busy_until = world.now
        memory = self._disk if self._has_disk else None
        witness = Witness(
            self.clock,
            node_id=self.name,
            cluster_id=self.settings.cluster_id,
            secret=self.secret,
            memory=memory or Memory(world.random.randbytes(16).hex()),
            keep=self._remember,
            log=self._say,
            entropy=world.random.randbytes,
        )
        nothing: Any = _Nothing()
        node: Any = _Node(witness)
        self.service, self.node = nothing, node
        self._step_at = self._timer_at = float("inf")
        self._node_woken = True
        world.tell(self.name, f"starts, life {self.life}")
        self.stir()

    def _remember(self, memory: Memory) -> None:
        self._disk = memory

    def _note(self) -> None:
        role = "witness" if self.alive else "dead"
        now = Observation(self.world.now, self.life, role, 0, "-", (), ready=False)
        if not self.history or self.history[-1][1:] != now[1:]:
            self.history.append(now)
        if self.alive:
            witness: Witness = self.node.witness  # type: ignore[attr-defined]
            note_backed(self.backed, now.at, witness.ballot.backs)


def note_backed(backed: list[tuple[float, Roll | None]], at: float, backs: Roll | None) -> None:
    """Take note of what a witness backs, if it is something else than before."""
    if not backed or backed[-1][1] != backs:
        backed.append((at, backs))


def isolate(world: World, name: str, *others: str) -> Callable[[], None]:
    """Let nothing pass between a host and others; return what undoes that."""
    pairs = [pair for other in others for pair in ((name, other), (other, name))]
    for pair in pairs:
        world.block(*pair)

    def undo() -> None:
        for pair in pairs:
            world.unblock(*pair)

    return undo
