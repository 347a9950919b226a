"""What can happen to the links of one node of a pair: cut, slow, or as if the node was frozen.

It stands between the sockets of the group and the core, in this node alone. What is delayed waits
here, in order; a link that closes takes it along.
"""

from __future__ import annotations

from collections import deque
from math import inf
from typing import TYPE_CHECKING

import trio

from ..server.wire import Network

if TYPE_CHECKING:
    from ..replication.link import Link
    from ..server.peering import Peering


class Links(Network):
    """The links of one node."""

    def __init__(self) -> None:
        self._peering: Peering | None = None
        self._cuts = 0
        self._delay_s = 0.0
        self._changed = trio.Event()
        #: What came, by whom it is to be heard, and when.
        self._late: deque[tuple[float, Link, bytes]] = deque()

    def attach(self, peering: Peering, nursery: trio.Nursery) -> None:
        """Stand between these sockets and their node."""
        self._peering = peering
        nursery.start_soon(self._deliver_late)

    def deliver(self, link: Link, data: bytes) -> None:
        """Let a link take in what arrived; not yet, if the links are slow or the node is paused."""
        if self.paused or self._delay_s or self._late:
            self._late.append((trio.current_time() + self._delay_s, link, data))
            self._changed.set()
        else:
            link.receive(data)

    def cut_all(self) -> None:
        """Close all links and open none, until mended as often."""
        self._cuts += 1
        self.cut = True
        if self._peering is not None:
            self._peering.close_all()

    def mend(self) -> None:
        """Undo one cut."""
        self._cuts = max(0, self._cuts - 1)
        self.cut = self._cuts > 0
        if self._peering is not None and not self.cut:
            self._peering.look_again()

    def delay(self, seconds: float) -> None:
        """Have everything arrive so much later; 0: no more."""
        self._delay_s = seconds
        self._changed.set()

    def pause(self) -> None:
        """Hear, say and notice nothing from now on, as if the process was stopped."""
        self.paused = True

    def resume(self) -> None:
        """Hear what came meanwhile, and go on."""
        self.paused = False
        self._changed.set()
        if self._peering is not None:
            self._peering.stepping.wake()

    def clear(self) -> None:
        """Be as at the start."""
        self._delay_s = 0.0
        self.resume()
        if self._cuts:
            self._cuts = 1
            self.mend()

    async def _deliver_late(self) -> None:
        """Let the node hear what is late, when its time has come."""
        while True:
            self._changed = trio.Event()
            while self._late and not self.paused:
                due = self._late[0][0]
                if self._delay_s and due > trio.current_time():
                    break
                _, link, data = self._late.popleft()
                link.receive(data)
                assert self._peering is not None
                self._peering.send_turn()
            deadline = self._late[0][0] if self._late and not self.paused else inf
            with trio.move_on_at(deadline):
                await self._changed.wait()
