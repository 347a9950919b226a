"""An etcd in the simulated world, in the place of a witness: one host, asked by requests.

What is asked arrives late, twice, or not at all, and an answer likewise; who gave a request up has
not taken it back. A host that stands still answers all of it later: as an etcd does that elects.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from pymcd.replication.witness import Memory

from .etcds import KEY, Etcd
from .world_witness import note_backed

if TYPE_CHECKING:
    from collections.abc import Callable

    from pymcd.replication.etcd import Request
    from pymcd.replication.messages import Roll

    from .world import Host, World

NAME: Final = "w"
URL: Final = f"etcd://{NAME}"
#: What cannot pass is tried again so often, as TCP does, and not for ever.
_AGAIN_S: Final = 0.02
_LAST_TRY_S: Final = 10.0
_TWICE: Final = 0.05
#: Chance that the key is gone when it starts again.
_FORGETS: Final = 0.15


class EtcdHost:
    """A machine with an etcd, with the words of `world_witness.WitnessHost`."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.name = NAME
        self.etcd = Etcd()
        self.alive = self.frozen = self.silent = False
        #: As of a witness.
        self.backed: list[tuple[float, Roll | None]] = []

    def start(self) -> None:
        """Be there, with all that it knew, or nearly so."""
        self.alive, self.frozen = True, False
        if KEY in self.etcd.keys and self.world.draw() < _FORGETS:
            self.etcd.delete()
            self.world.tell(NAME, "has lost the key")
        self.world.tell(NAME, "starts")

    def stop(self, *, silent: bool = False) -> None:
        """Be gone; `silent`: nobody is told."""
        self.alive, self.silent = False, silent
        self.world.tell(NAME, "is killed" + (" silently" if silent else ""))

    def freeze(self) -> None:
        """Answer nothing for a while."""
        self.frozen = True

    def thaw(self) -> None:
        """Go on."""
        self.frozen = False

    def note(self) -> None:
        """Look at what it backs."""
        backs = Memory.decode(self.etcd.keys[KEY][0]).backs if KEY in self.etcd.keys else None
        note_backed(self.backed, self.world.now, backs)

    def courier_for(self, host: Host) -> Courier:
        """Return what carries the requests of a node that starts."""
        return Courier(self, host)


class Courier:
    """Carries the requests of one life of a node."""

    login = None

    def __init__(self, there: EtcdHost, host: Host) -> None:
        self.there = there
        self.world = there.world
        self.host = host
        self.life = host.life

    def post(self, request: Request) -> None:
        world = self.world
        until = world.now + _LAST_TRY_S
        for _ in range(1 + (world.draw() < _TWICE)):
            self._pass(self.host.name, NAME, until, lambda: self._arrive(request))

    def give_up(self, request: Request) -> None:
        """It may have been done, and may be done yet."""

    def _pass(self, sender: str, receiver: str, until: float, arrive: Callable[[], None]) -> None:
        """Have something arrive as soon as it can."""
        world = self.world

        def attempt() -> None:
            if not world.blocked(sender, receiver) and not self.there.frozen:
                arrive()
            elif world.now < until:
                world.after(_AGAIN_S * (1 + world.draw()), attempt)

        world.after(2 * world.delay(), attempt)

    def _arrive(self, request: Request) -> None:
        there, until = self.there, self.world.now + _LAST_TRY_S
        if there.alive:
            answer = there.etcd.answer(request.path, request.body)
            there.note()

            def tell() -> None:
                request.owner.answered(request, *answer)

        elif there.silent:
            return
        else:

            def tell() -> None:
                request.owner.failed(request, "Connection refused")

        self._pass(NAME, self.host.name, until, lambda: self._post(tell))

    def _post(self, tell: Callable[[], None]) -> None:
        node: Any = self.host.node

        def hear() -> None:
            tell()
            node.check()

        # Requests need not be answered in order.
        self.host.post(tell, hear, life=self.life)
