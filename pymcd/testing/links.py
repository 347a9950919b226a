"""What can happen to the links of one node of a pair: cut, slow, or as if the node was frozen.

It stands between the sockets of the group and the core, in this node alone. What is delayed waits
here, in order; a link that closes takes it along.
"""

from __future__ import annotations

from collections import deque
from math import inf
from typing import TYPE_CHECKING

import trio

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..replication.link import Link
    from ..server.peering import Peering


class Links:
    """The links of one node."""

    def __init__(self) -> None:
        self._peering: Peering | None = None
        self._nursery: trio.Nursery | None = None
        self._cuts = 0
        self._delay_s = 0.0
        self._paused = False
        self._changed = trio.Event()
        #: What came, when it may be heard, and by whom.
        self._late: deque[tuple[float, Callable[[bytes], None], bytes]] = deque()

    def attach(self, peering: Peering, nursery: trio.Nursery) -> None:
        """Stand between these sockets and their node."""
        self._peering = peering
        self._nursery = nursery
        node = peering.node
        open_link, should_dial, may_accept = node.open_link, node.should_dial, node.may_accept

        def open_slow_link(*, dialled: str | None, address: str = "") -> Link:
            link = open_link(dialled=dialled, address=address)
            receive = link.receive

            def receive_later(data: bytes) -> None:
                if self._paused or self._delay_s or self._late:
                    self._late.append((trio.current_time() + self._delay_s, receive, data))
                    self._change()
                else:
                    receive(data)

            take_output = link.take_output

            def take_output_later() -> list[bytes]:
                return [] if self._paused else take_output()

            link.receive = receive_later  # type: ignore[method-assign]
            link.take_output = take_output_later  # type: ignore[method-assign]
            return link

        step = node.step

        def step_later() -> float:
            return inf if self._paused else step()

        node.step = step_later  # type: ignore[method-assign]
        node.open_link = open_slow_link  # type: ignore[method-assign]
        node.should_dial = lambda peer: not self._cuts and should_dial(peer)  # type: ignore[method-assign]
        node.may_accept = lambda: not self._cuts and may_accept()  # type: ignore[method-assign]
        nursery.start_soon(self._deliver)

    def cut(self) -> None:
        """Close all links and open none, until mended as often."""
        self._cuts += 1
        if self._peering is not None:
            self._peering.close_all()

    def mend(self) -> None:
        """Undo one cut."""
        self._cuts = max(0, self._cuts - 1)
        peering = self._peering
        if peering is not None and not self._cuts:
            # Whoever would look again in a second does so now.
            peering._lost.set()
            peering._lost = trio.Event()

    def delay(self, seconds: float) -> None:
        """Have everything arrive so much later; 0: no more."""
        self._delay_s = seconds
        self._change()

    def pause(self) -> None:
        """Hear, say and notice nothing from now on, as if the process was stopped."""
        self._paused = True

    def resume(self) -> None:
        """Hear what came meanwhile, and go on."""
        self._paused = False
        self._change()
        if self._peering is not None:
            self._peering.stepping.wake()

    def clear(self) -> None:
        """Be as at the start."""
        self._delay_s = 0.0
        self.resume()
        if self._cuts:
            self._cuts = 1
            self.mend()

    def _change(self) -> None:
        self._changed.set()

    async def _deliver(self) -> None:
        """Let the node hear what is late, when its time has come."""
        while True:
            self._changed = trio.Event()
            while self._late and not self._paused:
                due = self._late[0][0]
                if self._delay_s and due > trio.current_time():
                    break
                _, receive, data = self._late.popleft()
                receive(data)
                assert self._peering is not None
                self._peering.send_turn()
            deadline = self._late[0][0] if self._late and not self._paused else inf
            with trio.move_on_at(deadline):
                await self._changed.wait()
