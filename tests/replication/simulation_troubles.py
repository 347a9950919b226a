"""More troubles for the simulation, each drawn from a stream of its own.

Whether a world has one, when it comes and what it is like is decided by `random.Random` of seed and
name: so a world without it is the one that it was, and who adds a trouble changes no other.

`AWAITED` names those that the core does not stand yet, or was not seen to in worlds enough. No
world has them unless they are asked for:

    python -m tests.replication.simulation --seeds 0:100 --with short_tombstones,long_quorum
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from pymcd.replication.peer import Phase
from pymcd.replication.records import STATE, STATE_BYTES, pack_state

from .releases import TODAY
from .world_witness import WitnessHost, isolate

if TYPE_CHECKING:
    import random
    from collections.abc import Callable

    from pymcd.replication.node import Node

    from .simulation import Simulation
    from .world import Host

#: A state whose value is longer than what there is of it.
_CUT_OFF: Final = pack_state(STATE, 0, 2, 0, 1, 1, 0, 9) + b"k0"
#: Of how late words are: so long they are late.
_LATE_TIMES: Final = 5
#: Until a witness that was out of reach is called again, and has answered, at most.
_CALL_AGAIN_S: Final = 3.0
#: How far apart clocks may be for two nodes to link that began apart.
SKEW_THAT_LINKS_S: Final = 50.0


class Trouble(NamedTuple):
    """What goes wrong again and again."""

    do: Callable[[Simulation], None]
    chance: float  #: that a world has it
    every_s: float  #: between two, when they are common


class Condition(NamedTuple):
    """What is so for a whole run."""

    chance: float
    #: Constants of the core that are something else.
    constants: dict[str, int]


def _pick(simulation: Simulation, name: str) -> Host | None:
    """Return a host that is there and awake."""
    hosts = [host for host in simulation.hosts if host.alive and not host.frozen]
    return simulation.stream(name).choice(hosts) if hosts else None


def clock_step(simulation: Simulation) -> None:
    """A wall clock jumps, and back again; at times it stays so, until somebody sets it."""
    random_ = simulation.stream("clock_step")
    host = random_.choice(simulation.hosts)
    step_s = random_.choice((2.0, 20.0, 300.0, 3600.0)) * random_.choice((-1, 1))
    simulation.count("clock_step", f"{host.name} {step_s:+.0f} s")
    host.clock.step(step_s)
    if random_.random() < 0.4:
        return
    simulation.until(random_.uniform(0.05, 2.0), lambda: host.clock.step(-step_s))


def clock_drift(simulation: Simulation) -> None:
    """A wall clock runs too fast or too slowly for a while, and remains as it then is."""
    random_ = simulation.stream("clock_drift")
    host = random_.choice(simulation.hosts)
    rate = random_.choice((0.01, 0.1, 1.0, 4.0)) * random_.choice((-0.5, 1))
    simulation.count("clock_drift", f"{host.name} {rate:+.3f}")
    host.clock.drift(rate)
    simulation.until(random_.uniform(0.2, 3.0), lambda: host.clock.drift(0.0))


def leave(simulation: Simulation) -> None:
    """A process ends in order, as for an update, and is started again soon."""
    random_ = simulation.stream("leave")
    host = _pick(simulation, "leave")
    if host is None or host.leaving:
        return
    simulation.count("leave", host.name)
    _leave(simulation, host, random_)


def _leave(simulation: Simulation, host: Host, random_: random.Random) -> None:
    began = simulation.world.now
    for client in simulation.clients:
        client.sent_away(host)

    def again() -> None:
        simulation.excuse(host, began)
        if not host.alive:
            host.start()

    def gone() -> None:
        if host.alive:
            simulation.die(host, silent=False)
            pause_s = simulation.while_s(random_) * 2
            simulation.until(0.05 if simulation.ending else pause_s, again)

    host.leave(random_.choice((0.1, 1.0)), gone)


def left_behind(simulation: Simulation) -> None:
    """One of three hears nothing more, and the others go on; then the one that decides leaves.

    What it has missed it can learn of the third only.
    """
    random_ = simulation.stream("left_behind")
    world = simulation.world
    if not all(each.alive and not each.frozen for each in simulation.hosts):
        return
    host = next((each for each in simulation.hosts if each.node.role == "coordinator"), None)
    if host is None or host.leaving or len(host.node.view.followers) < 2:
        return
    lonely = random_.choice([each.name for each in simulation.hosts if each is not host])
    pairs = [(each.name, lonely) for each in simulation.hosts if each.name != lonely]
    goes_s = simulation.ack_timeout_s * random_.uniform(2.0, 5.0)
    simulation.block("left_behind", pairs, goes_s + random_.uniform(0.5, 2.0))
    life = host.life

    def go() -> None:
        if host.life == life and host.alive and not (host.frozen or host.leaving):
            _leave(simulation, host, random_)

    world.after(goes_s, go)


def quiet(simulation: Simulation) -> None:
    """No client says anything for a while."""
    random_ = simulation.stream("quiet")
    pause_s = random_.choice((0.3, 1.0, 3.0)) * random_.uniform(0.5, 1.5)
    simulation.count("quiet", f"{pause_s:.1f} s")
    for client in simulation.clients:
        client.pause(pause_s)


def one_way(simulation: Simulation) -> None:
    """Nothing passes in one direction for long, in half of the cases while nobody asks anything."""
    random_ = simulation.stream("one_way")
    lonely = random_.choice(simulation.hosts)
    sends = random_.random() < 0.5
    pairs = [
        (lonely.name, other.name) if sends else (other.name, lonely.name)
        for other in simulation.hosts
        if other is not lonely
    ]
    lasts_s = random_.uniform(1.0, 6.0)
    if random_.random() < 0.5:
        simulation.count("quiet")
        for client in simulation.clients:
            client.pause(random_.uniform(0.1, lasts_s))
    simulation.block("one_way", pairs, lasts_s)


def partial_partition(simulation: Simulation) -> None:
    """Two of three nodes do not reach each other, or one does not reach the other; both reach the
    third."""
    random_ = simulation.stream("partial_partition")
    if len(simulation.hosts) < 3:
        return
    one, other = (host.name for host in random_.sample(simulation.hosts, 2))
    pairs = [(one, other), (other, one)][: random_.choice((1, 2, 2))]
    simulation.block("partial_partition", pairs, simulation.while_s(random_) * 2)


def late_handshake(simulation: Simulation) -> None:
    """A node dials once more though it is linked, and what the one or both say there is late.

    In half of the cases it is started anew meanwhile, so that these are words of a former life; or
    the connection is lost, and nobody is told.
    """
    random_ = simulation.stream("late_handshake")
    host = _pick(simulation, "late_handshake")
    if host is None or not host.dials:
        return
    late_s = random_.choice((0.05, 0.3, 1.0, 2.0)) * random_.uniform(0.5, 1.5)
    simulation.count("late_handshake", f"of {host.name} by {late_s:.2f} s")
    simulation.late_words_s = max(simulation.late_words_s, late_s)
    wire = host.dial_again(random_.choice(host.dials))
    if wire is None:
        return
    for end in random_.sample(wire.ends, random_.choice((1, 2))):
        end.late_s = late_s

    def be_in_time() -> None:
        """End that when HELLO, PROOF, PROOF and a word are said: it may be the link that stays."""
        for end in wire.ends:
            end.late_s = 0.0

    def be_lost() -> None:
        if not simulation.ending:
            wire.cut(silent=True)

    simulation.until(_LATE_TIMES * late_s, be_in_time)
    if random_.random() < 0.3:
        simulation.world.after(random_.uniform(0.0, 2.5 * late_s), be_lost)
    if random_.random() < 0.5:
        began, life = simulation.world.now, host.life

        def undo() -> None:
            simulation.excuse(host, began)
            if not host.alive:
                host.start()

        def die() -> None:
            if host.life == life and host.alive and not simulation.ending:
                simulation.count("kill", host.name)
                simulation.die(host, silent=False)
                simulation.until(random_.uniform(0.0, late_s), undo)

        simulation.world.after(random_.uniform(0.0, 2.5 * late_s), die)


def repeated_handshake(simulation: Simulation) -> None:
    """Somebody who listened says again what a node once said to another."""
    random_ = simulation.stream("repeated_handshake")
    host = _pick(simulation, "repeated_handshake")
    overheard = simulation.world.overheard
    if host is None or not overheard:
        return
    simulation.count("repeated_handshake", host.name)
    words = list(random_.choice(overheard))

    def talk() -> None:
        membership = host.node.membership
        if not membership.may_accept():
            return
        link = membership.open_link(dialled=None, address="repeater")
        for word in words:
            link.receive(word)
        if link.proven:
            simulation.report.found.append("who only repeats what he heard is let in")
        link.take_output()
        link.disconnected()
        host.node.check()

    host.post("repeater", talk, life=host.life)


def out_of_memory(simulation: Simulation) -> None:
    """There is no memory for one of the next records that come from others."""
    random_ = simulation.stream("out_of_memory")
    host = _pick(simulation, "out_of_memory")
    if host is not None:
        simulation.count("out_of_memory", host.name)
        host.run_short(random_.choice((0, 0, 1, 3, 10)))


def cannot_answer(simulation: Simulation) -> None:
    """There is no memory for the reply when commands of another node have been executed."""
    random_ = simulation.stream("cannot_answer")
    host = _pick(simulation, "cannot_answer")
    if host is not None:
        simulation.count("cannot_answer", host.name)
        host.run_short_executing(random_.choice((0, 0, 1, 3, 10)))


def cannot_send(simulation: Simulation) -> None:
    """There is no memory for one of the next messages, at any line that makes it."""
    random_ = simulation.stream("cannot_send")
    host = _pick(simulation, "cannot_send")
    if host is not None:
        simulation.count("cannot_send", host.name)
        host.run_short_sending(int(random_.expovariate(0.05)))


def suspend(simulation: Simulation) -> None:
    """A host stands still for long, as a suspended machine does; its network comes back later."""
    random_ = simulation.stream("suspend")
    host = _pick(simulation, "suspend")
    if host is None:
        return
    lasts_s = random_.uniform(0.5, 3.0) if random_.random() < 0.3 else random_.uniform(3.2, 6.0)
    others = [other.name for other in simulation.hosts if other is not host]
    pairs = [(host.name, other) for other in others] + [(other, host.name) for other in others]
    simulation.block("suspend", pairs, lasts_s + random_.choice((0.0, 0.05, 0.3, 1.0, 3.0)))
    host.freeze()
    began, life = simulation.world.now, host.life

    def thaw() -> None:
        simulation.excuse(host, began)
        if host.life == life:
            host.thaw()

    simulation.until(lasts_s, thaw)


def mute_death(simulation: Simulation) -> None:
    """A host is heard no more, and dies a moment later: what it said meanwhile reached nobody."""
    random_ = simulation.stream("mute_death")
    host = _pick(simulation, "mute_death")
    if host is None or not host.connected:
        return
    others = [other.name for other in simulation.hosts if other is not host]
    back_s = simulation.ack_timeout_s * random_.choice((2.0, 5.0, 20.0))
    simulation.block("mute_death", [(host.name, other) for other in others], back_s)
    life, began = host.life, simulation.world.now

    def die() -> None:
        if host.life == life and host.alive and not simulation.ending:
            host.connected = False
            simulation.die(host, silent=True)

    def undo() -> None:
        simulation.excuse(host, began)
        host.connected = True
        if not host.alive:
            host.start()

    simulation.world.after(simulation.ack_timeout_s * random_.uniform(0.0, 1.0), die)
    simulation.until(back_s, undo)


def mishear(simulation: Simulation) -> None:
    """What has changed at one node is not understood at another one: what is last is no record,
    or not a whole one.
    """
    random_ = simulation.stream("mishear")
    host = _pick(simulation, "mishear")
    if host is not None:
        simulation.count("mishear", host.name)
        host.mishear(random_.choice((b"\xff", bytes([STATE]) + bytes(STATE_BYTES - 2), _CUT_OFF)))


def rotation(simulation: Simulation) -> None:
    """The next step of giving all nodes another secret, at the one that is behind."""
    random_ = simulation.stream("rotation")
    hosts = simulation.hosts
    if isinstance(simulation.witness, WitnessHost):
        return  # which reads its secret once
    step = min(host.rotated for host in hosts)
    host = random_.choice([host for host in hosts if host.rotated == step])
    if not host.alive or host.frozen or any(each.estranged for each in hosts):
        return
    number, way = divmod(step, 3)
    old, new = (b"the secret of the simulation, by number %d" % (number + each) for each in (0, 1))
    if not number:
        old = simulation.secret
    simulation.count("rotation", host.name)
    host.use_secrets(*((old, new), (new, old), (new,))[way])
    host.rotated += 1


def see_saw(simulation: Simulation) -> None:
    """Nothing passes in one direction for about a time-out; from then on, nothing in the other.

    So what was said in the end arrives, with what it prolongs, and no answer to it comes back.
    """
    random_ = simulation.stream("see_saw")
    if not all(host.alive and host.node.role.in_sync for host in simulation.hosts):
        return
    one, *others = random_.sample(simulation.hosts, len(simulation.hosts))
    there = [(one.name, other.name) for other in others]
    back = [(receiver, sender) for sender, receiver in there]
    if random_.random() < 0.5:
        there, back = back, there
    first_s = simulation.ack_timeout_s * random_.uniform(0.5, 1.0)
    then_s = simulation.ack_timeout_s * random_.uniform(1.0, 3.0)
    simulation.block("see_saw", there, first_s)

    def turn() -> None:
        if not simulation.ending:
            simulation.block("see_saw", back, then_s)

    simulation.world.after(first_s, turn)


def second_failure(simulation: Simulation) -> None:
    """Who decides is left behind with what nobody else has; he learns that, and is left once more.

    The one that went on dies just when it is to tell what is there instead.
    """
    random_ = simulation.stream("second_failure")
    world = simulation.world
    host = next(
        (each for each in simulation.hosts if each.alive and each.node.role == "coordinator"), None
    )
    if host is None or host.frozen:
        return
    simulation.count("second_failure", host.name)
    others = [other for other in simulation.hosts if other is not host]
    life, began, gives_up_at = host.life, world.now, world.now + 2.0
    for other in others:
        world.block(host.name, other.name)

    def is_over() -> bool:
        return simulation.ending or host.life != life or world.now > gives_up_at

    def stand_still() -> None:
        if not is_over() and host.alive:
            host.freeze()
            see_them_go_on()

    def see_them_go_on() -> None:
        if any(other.alive and other.node.role.leads for other in others):
            world.after(random_.uniform(0.0, 0.01), thaw)
        elif not is_over():
            world.after(0.002, see_them_go_on)

    def undo() -> None:
        for other in others:
            world.unblock(host.name, other.name)
        simulation.excuse(host, began)
        if host.life == life:
            host.thaw()

    thaw = simulation.until(2.0, undo)
    late_s = random_.choice((0.0, random_.uniform(0.0, 0.002)))
    goes_s = random_.uniform(0.5, 4.0)

    def see_it_doubt() -> None:
        leader = host.node.view.leader
        if host.node.role == "joining" and host.node.changes.in_doubt and leader is not None:
            world.after(late_s, fail, world.hosts[leader.node_id])
        elif not is_over():
            world.after(0.001, see_it_doubt)

    def fail(other: Host) -> None:
        if is_over() or not other.alive:
            return
        simulation.count("kill", other.name)
        simulation.die(other, silent=random_.random() < 0.5)
        fell = world.now

        def start() -> None:
            simulation.excuse(other, fell)
            if not other.alive:
                other.start()

        simulation.until(goes_s, start)

    world.after(simulation.ack_timeout_s * random_.uniform(0.1, 0.8), stand_still)
    see_it_doubt()


def doze(simulation: Simulation) -> None:
    """A host stands still for a moment just when clients wait there for a word of another.

    At times what the others say is late meanwhile.
    """
    random_ = simulation.stream("doze")
    world, host = simulation.world, _pick(simulation, "doze")
    if host is None:
        return
    gives_up_at = world.now + 1.0

    def look() -> None:
        if simulation.ending or not host.alive or host.frozen or world.now > gives_up_at:
            return
        if not host.node.gate.waiting:
            world.after(0.0005, look)
            return
        simulation.count("doze", host.name)
        began, life = world.now, host.life
        lasts_s = simulation.ack_timeout_s * random_.uniform(0.8, 2.5)
        host.freeze()
        if random_.random() < 0.5:
            late_s = simulation.ack_timeout_s * random_.uniform(0.3, 1.5)
            ends = [end for wire in world.wires for end in wire.ends if end.host is not host]
            for end in ends:
                end.late_s += late_s

            def hasten() -> None:
                for end in ends:
                    end.late_s -= late_s

            simulation.until(lasts_s * random_.uniform(0.5, 1.5), hasten)

        def thaw() -> None:
            simulation.excuse(host, began)
            if host.life == life:
                host.thaw()

        simulation.until(lasts_s, thaw)

    look()


def _has(*phases: Phase) -> Callable[[Node], bool]:
    return lambda node: any(peer.phase in phases for peer in node.view.peers.values())


#: What a node may be in the middle of: mostly for a moment only, so that nothing happens to befall
#: anybody then.
_MOMENTS: Final[dict[str, Callable[[Node], bool]]] = {
    "asks to join": _has(Phase.ASKING),
    "brings one in sync": _has(Phase.HOSTING),
    "is brought in sync": _has(Phase.JOINING),
    "proposes": _has(Phase.PROPOSED),
    "has accepted": _has(Phase.ACCEPTED),
    "has one behind": lambda node: any(peer.resync.behind for peer in node.view.peers.values()),
    "drops": lambda node: any(
        peer.resync.dropping is not None for peer in node.view.peers.values()
    ),
    "asks for votes": lambda node: node.voting.ballot.poll is not None,
    "has consented": lambda node: node.voting.promised,
    "loses one": lambda node: node.is_losing,
    "mutes one": lambda node: any(peer.lease.muted_at for peer in node.view.peers.values()),
    "leaves": lambda node: node.gate.retired,
    "joins": lambda node: node.role == "joining",
    "waits": lambda node: node.role == "waiting",
    "is alone": lambda node: node.role == "alone",
    "doubts": lambda node: bool(node.changes.in_doubt),
    "has what others lack": lambda node: bool(node.gate.unstable),
    "doubts what others lack": lambda node: bool(node.gate.unstable_in_doubt),
    "executes again": lambda node: bool(node.gate.redo or node.gate.deferred),
    "forwards": lambda node: bool(node.gate.forwards),
    "stages": lambda node: bool(node.gate.staging),
}


def ambush(simulation: Simulation) -> None:
    """Somebody waits until a node is in the middle of something, and hits; and then perhaps again.

    That node, or the one that decides for it, or anybody: what becomes of it depends on all.
    """
    random_, world = simulation.stream("ambush"), simulation.world
    gives_up_at = world.now + 2.5
    left = random_.choice((1, 2, 2, 3, 4))

    def lie_in_wait() -> None:
        nonlocal left
        left -= 1
        look(random_.choice([*_MOMENTS]))

    def look(moment: str) -> None:
        if simulation.ending or world.now > gives_up_at:
            return
        there = [host for host in simulation.hosts if host.alive and not host.frozen]
        seen = [host for host in there if host.release is TODAY and _MOMENTS[moment](host.node)]
        if not seen:
            world.after(0.001, look, moment)
            return
        host = random_.choice(seen)
        leads = world.hosts.get(host.node.view.coordinator, host)
        hit = random_.choice((host, host, leads, leads, random_.choice(simulation.hosts)))
        simulation.count("ambush", f"as {host.name} {moment}: {hit.name}")
        world.after(random_.choice((0.0, 0.002, 0.02)) * random_.random(), strike, hit)

    def strike(host: Host) -> None:
        if simulation.ending or host not in simulation.hosts:
            return
        random_.choice(_BLOWS)(simulation, host, random_)
        if left:
            world.after(random_.choice((0.0, 0.002, 0.02, 0.1)), lie_in_wait)

    lie_in_wait()


def _killed(simulation: Simulation, host: Host, random_: random.Random) -> None:
    """It is started again, at times at once."""
    if not host.alive:
        return
    simulation.count("kill", host.name)
    simulation.die(host, silent=random_.random() < 0.5)
    fell = simulation.world.now

    def start() -> None:
        simulation.excuse(host, fell)
        if not host.alive:
            host.start()

    simulation.until(random_.choice((0.05, 3.0)) * random_.random(), start)


def _frozen(simulation: Simulation, host: Host, random_: random.Random) -> None:
    if not host.alive or host.frozen:
        return
    simulation.count("freeze", host.name)
    host.freeze()
    began, life = simulation.world.now, host.life

    def thaw() -> None:
        simulation.excuse(host, began)
        if host.life == life:
            host.thaw()

    simulation.until(simulation.while_s(random_), thaw)


def _cut_off(simulation: Simulation, host: Host, random_: random.Random) -> None:
    """From one other or all, in one direction or both."""
    others = [other.name for other in simulation.hosts if other is not host]
    if random_.random() < 0.5:
        others = [random_.choice(others)]
    there, back = ([(host.name, other) for other in others], [(each, host.name) for each in others])
    pairs = random_.choice((there, back, there + back))
    simulation.block("partition", pairs, simulation.while_s(random_))


def _unlinked(simulation: Simulation, host: Host, random_: random.Random) -> None:
    wires = [wire for wire in simulation.world.wires if any(end.host is host for end in wire.ends)]
    if wires:
        silent, late_s = random_.random() < 0.3, random_.choice((0.0, 0.001, 0.05))
        simulation.count("cut_silently" if silent else "cut")
        random_.choice(wires).cut(late_s=late_s, silent=silent)


def _sent_home(simulation: Simulation, host: Host, random_: random.Random) -> None:
    if host.alive and not host.frozen and not host.leaving:
        simulation.count("leave", host.name)
        _leave(simulation, host, random_)


_BLOWS: Final = (_killed, _killed, _frozen, _cut_off, _cut_off, _unlinked, _sent_home)


def _witness_dies(simulation: Simulation, random_: random.Random) -> Callable[[], None] | None:
    witness = simulation.witness
    assert witness is not None
    if not witness.alive:
        return None
    witness.stop(silent=random_.random() < 0.3)
    return lambda: None if witness.alive else witness.start()


def _witness_freezes(simulation: Simulation, random_: random.Random) -> Callable[[], None] | None:
    witness = simulation.witness
    assert witness is not None
    if not witness.alive or witness.frozen:
        return None
    witness.freeze()
    return witness.thaw


def _witness_is_cut_off(simulation: Simulation, random_: random.Random) -> Callable[[], None]:
    names = [host.name for host in simulation.hosts]
    some = random_.sample(names, random_.randrange(1, len(names) + 1))
    return isolate(simulation.world, "w", *some)


def _node_is_cut_off(simulation: Simulation, random_: random.Random) -> Callable[[], None]:
    names = [host.name for host in simulation.hosts]
    lonely = random_.choice(names)
    return isolate(simulation.world, lonely, "w", *(each for each in names if each != lonely))


def _node_is_deaf_or_mute(simulation: Simulation, random_: random.Random) -> Callable[[], None]:
    names = [host.name for host in simulation.hosts]
    lonely, deaf = random_.choice(names), random_.random() < 0.5
    pairs = [
        (other, lonely) if deaf else (lonely, other) for other in [*names, "w"] if other != lonely
    ]
    for pair in pairs:
        simulation.world.block(*pair)

    def undo() -> None:
        for pair in pairs:
            simulation.world.unblock(*pair)

    return undo


_ABOUT_WITNESSES: Final = (
    _witness_dies,
    _witness_freezes,
    _witness_is_cut_off,
    _node_is_cut_off,
    _node_is_cut_off,
    _node_is_deaf_or_mute,
)


def votes(simulation: Simulation) -> None:
    """Something happens to the witness, or to what can be reached by whom."""
    random_ = simulation.stream("votes")
    if simulation.witness is None:
        return
    happens = random_.choice(_ABOUT_WITNESSES)
    began = simulation.world.now
    undo = happens(simulation, random_)
    if undo is None:
        return

    def end() -> None:
        undo()
        simulation.unwitnessed.append((began, simulation.world.now + _CALL_AGAIN_S))

    simulation.count("votes", happens.__name__[1:])
    lasts_s = simulation.while_s(random_) * random_.choice((1, 1, 3))
    simulation.until(lasts_s, end)


def forgotten(simulation: Simulation) -> None:
    """A person says at the other nodes that one which is down will not return; it does, empty."""
    gone = [host for host in simulation.hosts if not host.alive]
    if len(simulation.hosts) > 2 or not gone:
        return
    host = simulation.stream("forgotten").choice(gone)
    life = host.life

    def forget(other: Host) -> None:
        if host.life == life and not host.alive:
            simulation.count("forgotten", f"{host.name} at {other.name}")
            other.node.membership.forget(host.name)
            other.node.check()

    for other in simulation.hosts:
        if other.alive and other.release is TODAY:
            other.post("forget", lambda other=other: forget(other), life=other.life)


def equip(simulation: Simulation) -> None:
    """The next one of nodes that are to have a witness from now on is started anew with it."""
    random_ = simulation.stream("equip")
    host = next((host for host in simulation.hosts if host.settings.witness is None), None)
    if host is None or "equipping" not in simulation.more or simulation.witness is None:
        return
    if not host.alive or host.frozen or host.leaving:
        return
    simulation.count("equip", host.name)

    def equipped() -> None:
        if host.settings.witness is None:
            simulation.equip(host)

    if random_.random() < 0.7:
        _leave(simulation, host, random_)
        simulation.world.after(0.0, equipped)
    else:
        _killed(simulation, host, random_)
        equipped()


TROUBLES: Final = {
    "clock_step": Trouble(clock_step, 0.15, 1.0),
    "clock_drift": Trouble(clock_drift, 0.1, 1.5),
    "leave": Trouble(leave, 0.15, 2.0),
    "left_behind": Trouble(left_behind, 0.15, 1.5),
    "quiet": Trouble(quiet, 0.1, 2.0),
    "one_way": Trouble(one_way, 0.15, 2.0),
    "partial_partition": Trouble(partial_partition, 0.3, 1.5),
    "late_handshake": Trouble(late_handshake, 0.15, 1.0),
    "repeated_handshake": Trouble(repeated_handshake, 0.15, 1.0),
    "out_of_memory": Trouble(out_of_memory, 0.15, 1.0),
    "cannot_answer": Trouble(cannot_answer, 0.15, 0.7),
    "cannot_send": Trouble(cannot_send, 0.15, 0.7),
    "suspend": Trouble(suspend, 0.15, 2.0),
    "mute_death": Trouble(mute_death, 0.15, 1.0),
    "doze": Trouble(doze, 0.15, 0.5),
    "mishear": Trouble(mishear, 0.15, 1.0),
    "rotation": Trouble(rotation, 0.15, 0.5),
    "see_saw": Trouble(see_saw, 0.15, 0.7),
    "second_failure": Trouble(second_failure, 0.15, 1.0),
    "ambush": Trouble(ambush, 0.05, 0.5),
    "votes": Trouble(votes, 1.0, 1.0),
    "forgotten": Trouble(forgotten, 0.15, 0.3),
    "equip": Trouble(equip, 1.0, 1.0),
}

CONDITIONS: Final = {
    #: So that a peer is behind, a resync takes many slices, and a queue overflows.
    "tiny_queues": Condition(0.1, {"QUEUE_BYTES": 200, "WINDOW_BYTES": 150, "SLICE_ITEMS": 2}),
    #: So that most of what is said travels in parts.
    "tiny_parts": Condition(0.1, {"PART_BYTES": 200, "PARTS_WINDOW_BYTES": 2000}),
    #: So that values are in several chunks, and travel in pieces.
    "tiny_chunks": Condition(0.1, {"PART_BYTES": 200, "PARTS_WINDOW_BYTES": 2000}),
    #: A log and tombstones of a few keys, so that both wrap around.
    "tiny_log": Condition(0.1, {}),
    #: Many for the small part of them that is done in one step.
    "many_keys": Condition(
        0.1,
        {
            "SLICE_ITEMS": 2,
            "SLICES_MAX": 2,
            "DROP_ITEMS": 2,
            "EXPIRED_MAX": 3,
            "DISPOSED_MAX": 3,
        },
    ),
    #: Clients say much more, so that they are there still when troubles come.
    "busy": Condition(0.03, {}),
    #: A third of what clients say deletes.
    "deletions": Condition(0.1, {}),
    #: Each get of the text protocol asks for several keys, and for no cas uniques.
    "several": Condition(0.1, {}),
    #: Whoever can chooses the cas unique of what he stores; others read it without one.
    "own_cas": Condition(0.1, {}),
    #: All ask for the same one or two keys all the time, and hosts die while much is under way.
    "hot_keys": Condition(0.15, {}),
    #: Values that are larger than a part, a read and what may be under way.
    "large_values": Condition(0.05, {}),
    #: What clients say arrives in reads of one size, and others' commands come between two.
    "reads": Condition(0.1, {}),
    #: What is acknowledged at once leaves before the turn ends, and whatever becomes of it.
    "pushes": Condition(0.3, {}),
    #: Nodes that do not agree on how large an item may be.
    "item_sizes": Condition(0.1, {}),
    #: `flush_all` with a delay.
    "delayed_flushes": Condition(0.15, {}),
    #: One node waits for others as long as ever, the others perhaps less.
    "unlike_timeouts": Condition(0.1, {}),
    #: Clients are told very soon that there are no votes, or at once.
    "short_quorum": Condition(0.1, {}),
    #: Who finds nobody looks for them for longer than others stay away.
    "long_sync": Condition(0.05, {}),
    #: Deletions are forgotten as soon as all know of them.
    "short_tombstones": Condition(0.05, {}),
    #: Nothing is kept for who is away.
    "no_backlog": Condition(0.05, {}),
    #: Clients wait for votes for long.
    "long_quorum": Condition(0.05, {}),
    #: Who finds nobody hardly looks for them.
    "short_sync": Condition(0.05, {}),
    #: One node refuses what no other one has acknowledged, and the others do not.
    "other_acks": Condition(0.05, {}),
    #: Others are waited for far longer than usual, or less.
    "other_ack_timeout": Condition(0.05, {}),
    #: One of two nodes knows of no other before that one calls.
    "unnamed": Condition(0.05, {}),
    #: Two nodes are to have a witness, and are started anew with it one after the other.
    "equipping": Condition(0.05, {}),
    #: A third host without data, whose vote decides who goes on.
    "witness": Condition(0.1, {}),
    #: In worlds with a witness: that is an etcd.
    "etcd": Condition(0.3, {}),
}

#: What is looked at beside what always is.
CHECKS: Final = {
    "equality": "nodes in sync hold the same while nothing is unacknowledged",
    "mortal": "what is stored for a while lives that long",
    "bounds": "queues, log and tombstones stay within their bounds",
    "followers": "who follows does not flush by itself",
    "steps": "where there are many keys a step is about few of them",
    "statistics": "what `stats replication` says is so",
    "reasons": "of each node a line says why clients may come to it, or may not",
    "one_bound": "in every role nobody waits for longer than once for the peer",
}

#: Not stood yet, or not looked at in enough worlds to say so.
AWAITED: Final = frozenset(
    {
        "equip",
        "equipping",
        "forgotten",
        "long_quorum",
        "no_backlog",
        "other_ack_timeout",
        "other_acks",
        "short_sync",
        "short_tombstones",
        "unnamed",
    }
)


def names() -> set[str]:
    """Return all that `--with` knows."""
    return {*TROUBLES, *CONDITIONS, *CHECKS}
