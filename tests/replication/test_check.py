"""`check()` notices: for each thing that always holds, a node in which exactly that was broken.

What always holds is written down once, as the assertions of the `check` methods; a row here is the
words of one of them, a scene in which all is well, and what is changed in it by hand.
"""

from __future__ import annotations

import ast
import inspect
import textwrap
from collections import deque
from math import inf
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from pymcd.replication.channel import Channel
from pymcd.replication.commits import Commits
from pymcd.replication.gate import Gate, Staging, Unstable
from pymcd.replication.node import Node
from pymcd.replication.peer import Peer, Phase
from pymcd.replication.roles import ALONE, COORDINATOR, FOLLOWER, JOINING, STARTING, Data
from pymcd.replication.values import Staged, Values
from pymcd.replication.versions import FOREVER
from pymcd.replication.view import View
from pymcd.replication.waiting import Forward, Nobody
from tests.replication.helpers import Group, Guest, Host, Wire, make_group

if TYPE_CHECKING:
    from collections.abc import Callable


class Scene(SimpleNamespace):
    """A node, the parts of it by name, and the first of its peers."""

    def __init__(self, host: Host) -> None:
        node = host.node
        super().__init__(
            host=host,
            node=node,
            view=node.view,
            stance=node.view.stance,
            gate=node.gate,
            commits=node.gate.commits,
            changes=node.changes,
            membership=node.membership,
        )
        for peer in node.view.peers.values():
            self.peer = peer
            self.channel = peer.channel
            self.resync = peer.resync
            self.executed = peer.executed
            break


# -- scenes in which all is well ---------------------------------------------------------------


def starting() -> Scene:
    return Scene(Group()["a"])


def alone() -> Scene:
    group = Group("a")
    group.advance(0.1)
    return Scene(group["a"])


def parted() -> Scene:
    """Alone: the one that it was in sync with is gone."""
    group = make_group()
    group["b"].stop()
    group.advance(1)
    return Scene(group["a"])


def refusing() -> Scene:
    """Alone, by strict rules: a change that was refused is shown to nobody."""
    group = make_group(replication_ack="strict")
    group.warm()
    group.wire("a", "b").cut()
    Guest(group["a"]).feed(b"set k 0 0 1\r\n1\r\n")
    group.advance(1)
    assert group["a"].node.gate.unheld
    return Scene(group["a"])


def coordinator() -> Scene:
    return Scene(make_group()["a"])


def held() -> Scene:
    """Three clients wait for as many batches."""
    group = make_group()
    group.warm()
    group.wire("a", "b").stall()
    for _ in range(3):
        assert Guest(group["a"]).ask(b"set k 0 0 1\r\n1\r\n") == b""
    return Scene(group["a"])


def three() -> Scene:
    """A coordinator of two."""
    return Scene(make_group("abc")["a"])


def follower() -> Scene:
    return Scene(make_group()["b"])


def hosting() -> Scene:
    """Alone: another node has just come, which it brings in sync."""
    group = make_group()
    group["b"].stop()
    group.advance(1)
    group["b"].start()
    wire = Wire(group["b"], group["a"])
    while group["a"].peer("b").phase is not Phase.HOSTING:
        wire.carry()
        group["b"].turn()
        group["a"].turn()
    return Scene(group["a"])


def accepted() -> Scene:
    """Starting: it has accepted that another node decides."""
    group = make_group()
    group["b"].stop()
    group.advance(1)
    group["b"].start()
    wire = Wire(group["b"], group["a"])
    while not group["b"].node.view.peers or group["b"].peer("a").phase is not Phase.ACCEPTED:
        wire.carry()
        group["a"].turn()
        group["b"].turn()
    return Scene(group["b"])


def joining() -> Scene:
    """The coordinator is gone; who is to go on has not been heard yet."""
    group = make_group("abc", votes=False)
    group.wire("b", "c").stall()
    group["a"].stop()
    group.advance(0.1)
    return Scene(group["c"])


#: What a node is in a scene.
ROLES = {
    starting: STARTING,
    alone: ALONE,
    parted: ALONE,
    coordinator: COORDINATOR,
    held: COORDINATOR,
    three: COORDINATOR,
    follower: FOLLOWER,
    hosting: ALONE,
    accepted: STARTING,
    joining: JOINING,
}

# -- what is broken in them --------------------------------------------------------------------


def put(**values: Any) -> Callable[[Scene], None]:
    """Return what sets attributes, `part__name` each; a value may depend on the scene."""

    def change(scene: Scene) -> None:
        for name, value in values.items():
            *path, last = name.split("__")
            part: Any = scene
            for step in path:
                part = getattr(part, step)
            setattr(part, last, value(scene) if inspect.isfunction(value) else value)

    return change


def add_peer(phase: Phase) -> Callable[[Scene], None]:
    """Return what has a node know one more, that it is so far with."""

    def change(scene: Scene) -> None:
        peer = scene.view.peers["x"] = Peer("x")
        peer.open_channel(0, Phase.HOSTING)
        assert peer.channel is not None
        peer.channel.flowing = False
        peer.resync.mode = "sending_full"
        peer.phase = phase

    return change


def leader_besides(scene: Scene) -> Peer:
    """Return a leader that is not among the peers."""
    peer = Peer(scene.peer.node_id)
    peer.phase = Phase.LEADER
    return peer


FORWARD = Forward(1, "text", b"get k\r\n", Nobody(), 0.0)

#: What is said, where all was well, and what was done.
BROKEN: list[tuple[str, Callable[[], Scene], Callable[[Scene], None]]] = [
    # Channel: what was sent and is not acknowledged.
    ("the last message is not kept", held, put(channel__sent=lambda s: s.channel.sent + 1)),
    ("a message is missing", held,
     put(channel__unacked=lambda s: deque([s.channel.unacked[0], s.channel.unacked[2]]))),
    ("a message is not counted", held, put(channel__unacked_bytes=0)),
    ("a message is counted that is not there", coordinator, put(channel__unacked_bytes=1)),
    ("a channel flows that is broken off", coordinator, put(channel__broken="MemoryError")),
    ("a part is not counted", coordinator, put(channel___parts_bytes=1)),
    # Values: what has arrived of large ones, and what is kept.
    ("a piece is not counted", coordinator, put(channel__values___arrived_bytes=1)),
    ("a value is kept for no request", coordinator, put(channel__values___kept={1: b"x"})),
    ("a piece of no value goes ahead", coordinator, lambda s: s.channel.values.ahead.append(  # type: ignore[union-attr]
        (Staged(1, b"x"), memoryview(b"x"), True))),
    # Commits: who waits for which batch.
    ("tickets out of order", held, put(commits__held=lambda s: deque(reversed(s.commits.held)))),
    ("a batch is held for nobody", held, lambda s: s.commits.held[0][1].clear()),
    ("held for a batch that was not sent", held,
     put(commits__ticket=lambda s: s.commits.ticket - 1)),
    ("held, though all is acknowledged", held, put(commits__watermark=FOREVER)),
    ("waits, though all is acknowledged", coordinator, put(commits__holding=[Nobody()])),
    # Peer: its phase, and what goes with it.
    ("in the view by its phase or not", coordinator, put(peer__in_view=False)),
    ("results go where no channel is", coordinator, put(executed__sending=False)),
    ("a phase with a channel, without one", parted, put(peer__phase=Phase.HOSTING)),
    ("asked without a link", parted, put(peer__phase=Phase.ASKING)),
    ("a resync without a channel", parted, put(resync__mode="sending_full")),
    ("results without a channel", parted, put(executed__results=[(1, b"")])),
    ("a phase without a channel, with one", coordinator,
     put(peer__phase=Phase.APART, peer__in_view=False)),
    ("a channel flows over no link", coordinator, put(peer__link=None)),
    ("a channel without a resync", coordinator, put(resync__mode="idle")),
    ("to be one with who has not got all", coordinator, put(resync__sent_all=False)),
    ("to be one with who has not told all", coordinator, put(resync__got_all=False)),
    ("it still confirms what it told", coordinator, put(resync__confirmed=set())),
    ("in the view, but never in sync", coordinator, put(peer__known=False)),
    ("in sync, and said to be not", coordinator, put(resync__mode="sending_partial")),
    ("not in sync, and said to be", hosting, put(resync__mode="in_sync")),
    # View: the role, and who is in sync.
    ("a node that starts has data", coordinator, put(view__data=Data.NOTHING)),
    ("leading without the role", coordinator, put(stance__leading=False)),
    ("leading without the role", follower, put(stance__leading=True)),
    ("remote without the role", joining, put(stance__remote=False)),
    ("protecting without the role", coordinator, put(stance__protecting=False)),
    ("refusing without the role", alone, put(stance__refusing=True)),
    ("an epoch that was never heard of", coordinator, put(view__highest_epoch=0)),
    ("a coordinator without followers", coordinator, put(view__followers=[])),
    ("members are others than the coordinator and its followers", coordinator,
     put(view__members=["a"])),
    ("followers of no coordinator", follower, put(view__followers=lambda s: [s.peer])),
    ("a leader of who leads", coordinator, put(view__leader=lambda s: s.peer)),
    ("coordinated by another, though we lead", alone, put(view__coordinator="b")),
    ("a follower of nobody", follower, put(view__leader=None)),
    ("a follower of who does not lead it", follower, put(peer__phase=Phase.JOINING)),
    ("coordinated by another than the leader", follower, put(view__coordinator="b")),
    ("a follower in no view", follower, put(view__members=["a"])),
    ("joining nobody", joining, put(view__leader=None)),
    ("alone with others", alone, put(view__members=["a", "b"])),
    ("a follower that was not counted", three,
     put(view__followers=lambda s: s.view.followers[:1], view__members=["a", "b"])),
    ("led by another than the leader", follower, put(view__leader=leader_besides)),
    ("another than the leader has our word", accepted, put(view__leader=None)),
    ("hosted by who does not lead", starting, add_peer(Phase.HOSTING)),
    ("in touch with two, though neither hears of the other", follower, add_peer(Phase.JOINING)),
    ("others are in the view than should be", coordinator, put(view__peers={})),
    # Gate: who waits, and what may be executed and read.
    ("unsent changes may be read", coordinator, put(changes__fresh={b"k": None})),
    ("what is still to be written may be read", coordinator,
     put(commits__watermark=lambda s: s.node.cache.cas_unique + 1)),
    ("behind, though replies wait for it", coordinator, put(resync__behind={b"k": None})),
    ("acknowledged before it was sent", coordinator,
     put(peer__acked_ticket=lambda s: s.commits.ticket)),
    ("waits for what all have", held, put(peer__acked_ticket=lambda s: s.commits.ticket - 1)),
    ("waits for acknowledgement without need", alone,
     put(commits__holding=[Nobody()], commits__watermark=0)),
    ("readers are stopped without need", alone, put(commits__watermark=0)),
    ("refused without need", alone, put(gate__unheld={b"k": None}, commits__watermark=0)),
    ("what nobody else holds may be read", refusing, put(commits__watermark=FOREVER)),
    ("forwarded, though we decide", alone, put(gate__forwards={1: FORWARD})),
    ("to be forwarded, though we decide", alone, put(gate__unsent_forwards=[FORWARD])),
    ("led by another still, though we decide", alone,
     put(gate__unstable=deque([Unstable(Peer("b"), 1, {b"k": 1}, [])]))),
    ("to be executed here, though another one decides", follower,
     put(gate__deferred=deque([FORWARD]))),
    ("in sync before all was executed", coordinator, put(gate__deferred=deque([FORWARD]))),
    ("what others have not got may be read", follower,
     put(gate__unstable=deque([Unstable(Peer("b"), 1, {b"k": 1}, [])]))),
    ("to be executed again, though it is clear where", follower, put(gate__redo=[(1, Nobody())])),
    ("in doubt, though it is clear who decides", alone, put(changes__in_doubt={b"k": None})),
    ("in doubt, though it is clear who decides", follower,
     put(gate__unstable_in_doubt=deque([Unstable(Peer("b"), 1, {b"k": 1}, [])]))),
    ("in doubt, though it is clear who decides", coordinator,
     put(gate___results_in_doubt=[Nobody()])),
    ("waits since when", coordinator,
     put(gate__waiting=deque([(2.0, Nobody()), (1.0, Nobody())]))),
    ("waits, though all have the value", coordinator, lambda s: s.gate.staging.append(
        Staging(Nobody(), b"", 0.0, []))),
    ("a value goes to who is not there", parted, lambda s: s.gate.staging.append(
        Staging(Nobody(), b"", 0.0, [s.peer]))),
    ("waits for what does not go", coordinator, lambda s: s.gate.staging.append(
        Staging(Nobody(), b"", 0.0, [s.peer]))),
    ("executing, and nobody waits", coordinator, put(executed__executing={1})),
    ("open longer than others know", coordinator, put(gate__open_until=inf)),
    ("open longer than others know", follower, put(gate__open_until=inf)),
    ("open before it is ready", starting, put(gate__open_until=inf)),
    ("closed without a lease", alone, put(gate__open_until=0.0)),
    ("closed without a lease", joining, put(gate__open_until=0.0)),
    ("unheard, and yet in sync or alone", follower, put(gate__unheard_since=1.0)),
    ("unheard, and yet in sync or alone", alone, put(gate__unheard_since=1.0)),
    # Node: what is known of all of these together.
    ("serving before it is ready", follower, put(node__ready=False)),
    ("degraded in sync", coordinator, put(node__degradation__since=0.0)),
    ("a peer by another name", parted, put(peer__node_id="x")),
    ("a link that is closed", coordinator, put(membership__links=[])),
    ("a change that never was, acknowledged", coordinator,
     put(peer__acked_sequence=lambda s: s.changes.sequence + 1)),
    ("deletions are not kept for who may come", starting, put(changes__tombstones__shared=True)),
    ("deletions are not kept for who left", parted, put(changes__tombstones__shared=True)),
    ("ends leave no trace", parted, put(changes__departed_version=FOREVER)),
    ("ends leave no trace for who may come", starting, put(changes__departed_version=FOREVER)),
    ("configured as a node that nobody knows", coordinator, put(view__who={"x:1": "x"})),
]  # fmt: skip


@pytest.mark.parametrize("scene", ROLES)
def test_where_all_is_well_nothing_is_said(scene):
    made = scene()
    made.node.check()
    assert made.node.role is ROLES[scene]


@pytest.mark.parametrize(
    ("words", "scene", "change"), BROKEN, ids=[f"{row[0]} - {row[1].__name__}" for row in BROKEN]
)
def test_what_is_broken_is_said(words, scene, change):
    made = scene()
    change(made)
    with pytest.raises(AssertionError) as raised:
        made.node.check()
    assert str(raised.value).partition("\n")[0] == words  # pytest has more to say


def assertions(owner: type) -> list[str]:
    """Return what the assertions of a class's `check` say."""
    tree = ast.parse(textwrap.dedent(inspect.getsource(owner.check)))  # type: ignore[attr-defined]
    found = [each for each in ast.walk(tree) if isinstance(each, ast.Assert)]
    assert all(isinstance(each.msg, ast.Constant) for each in found)
    return [each.msg.value for each in found]  # type: ignore[union-attr]


def test_each_assertion_can_fail():
    written = [words for owner in (Channel, Values, Commits, Peer, View, Gate, Node)
               for words in assertions(owner)]  # fmt: skip
    assert set(written) == {row[0] for row in BROKEN}
    assert len(written) == len(set(written)) >= 60
