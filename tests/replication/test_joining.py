"""Two nodes that find each other again, message by message."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

from pymcd.clock import ManualClock
from pymcd.config import Settings
from pymcd.protocol.paired import Executor
from pymcd.protocol.service import Service
from pymcd.replication.node import Node

if TYPE_CHECKING:
    from pymcd.replication.link import Link


class Two:
    """Two nodes and the link between them; nothing passes unless it is told to."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        self.nodes: list[Node] = []
        self.executors: list[Executor] = []
        for index in range(2):
            settings = Settings(peers=(f"127.0.0.1:{1 - index + 1}",))
            service = Service(settings, self.clock)
            executor = Executor(service)
            node = Node(
                service.cache,
                settings,
                self.clock,
                node_id=f"node{index}",
                secret=None,
                entropy=random.Random(index).randbytes,
                execute=executor,
                log=lambda line: None,
            )
            service.gate = node.gate
            self.nodes.append(node)
            self.executors.append(executor)
        self.links: list[Link] = []
        for node in self.nodes:
            node.start()
        self.connect()
        self.run(1.0)
        assert self.roles() == ["coordinator", "follower"]

    def connect(self) -> None:
        """Make a new link, dialled by the first."""
        self.links = [
            self.nodes[0].open_link(dialled="127.0.0.1:2"),
            self.nodes[1].open_link(dialled=None),
        ]

    def cut(self) -> None:
        for link in self.links:
            link.disconnected()
        self.links = []

    def step(self, seconds: float) -> None:
        """Let time pass in small steps, without a word between them."""
        for _ in range(round(seconds / 0.01)):
            self.clock.advance(0.01)
            for node in self.nodes:
                node.step()

    def deliver(self, source: int) -> bool:
        """Let one node hear what the other has said; False: that was nothing."""
        said = b"".join(self.links[source].take_output()) if self.links else b""
        if said:
            self.links[1 - source].receive(said)
            self.nodes[1 - source].flush()
        return bool(said)

    def run(self, seconds: float) -> None:
        """Let time pass while everything that is said is heard at once."""
        for _ in range(round(seconds / 0.01)):
            self.step(0.01)
            while any([self.deliver(0), self.deliver(1)]):
                pass

    def roles(self) -> list[str]:
        return [node.role for node in self.nodes]


def test_follower_went_on_and_both_want_to_join_each_other():
    # The coordinator had nothing to do and noticed nothing. When the link is there again, it
    # still calls itself coordinator, and the follower asks it, as it belongs to the larger view;
    # then it learns that it was deposed, and asks the follower.
    two = Two()
    two.cut()
    for _ in range(20):
        two.clock.advance(0.01)
        two.nodes[1].step()
    assert two.roles() == ["coordinator", "alone"]
    two.connect()
    two.run(5.0)
    assert sorted(two.roles()) == ["coordinator", "follower"]
