"""A few servers tied back to back: no sockets, no chance, time stands still until it is moved.

`Group` is the world of the unit tests (that of the simulation, with all that can go wrong at any
time, is `world`). Everything that can happen at once happens in `settle`; `advance` lets time pass.
`Guest` is a client of one of the servers.
"""

from __future__ import annotations

import errno
import os
import random
from contextlib import contextmanager
from itertools import combinations
from typing import TYPE_CHECKING, Any, Final

from pymcd.config import Settings
from pymcd.replication import frames, records
from pymcd.replication.witness import Memory, Witness
from pymcd.store.item import WIN_SENT

from ..clocks import ManualClock
from ..hosts import make_host, make_node_host
from .etcds import URL, Courier, EtcdHost
from .releases import TODAY, Release

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from pymcd.protocol import PairedConnection
    from pymcd.replication.link import Link
    from pymcd.replication.node import Node
    from pymcd.replication.peer import Peer
    from pymcd.service import Service

ACK_TIMEOUT_S: Final = 0.08
#: As `server.peering` has it.
STEP_AGAIN_S: Final = 0.02
SECRET: Final = b"open sesame"


def address_of(name: str) -> str:
    """Return where a server is configured to be."""
    return f"127.0.0.1:{20000 + sum(name.encode())}"


class SkewedClock:
    """A clock whose wall time is off."""

    def __init__(self, clock: ManualClock) -> None:
        self._clock = clock
        self.skew_s = 0.0

    def monotonic(self) -> float:
        return self._clock.monotonic()

    def realtime(self) -> float:
        return self._clock.realtime() + self.skew_s


class Host:
    """One server: a node, and what a driver does for it."""

    def __init__(
        self,
        group: Group,
        name: str,
        *,
        secret: bytes | None = SECRET,
        skew_s: float = 0.0,
        release: Release = TODAY,
        **settings: Any,
    ) -> None:
        self.group = group
        self.release = release
        self.name = name
        self.life = 0
        self.frozen = False
        self.alive = False
        self.secret = secret
        self.clock = SkewedClock(group.clock)
        self.clock.skew_s = skew_s
        self.settings = Settings(replication_listen=("127.0.0.1",), **settings)
        self.lines: list[str] = []
        self.start()

    def start(self) -> None:
        """Start, with nothing in it."""
        self.life += 1
        self.alive = True
        self.lines = []
        self.guests: list[Guest] = []
        self.woken = True
        self.step_at = self.group.clock.monotonic()
        self.ready_calls = 0
        self.hasty = 0
        self.view_changed: Callable[[], None] = lambda: None
        self.service: Service = self.release.service(self.settings, self.clock, make_host())
        self.cache = self.service.cache
        self.node: Node = self.release.node(
            self.cache,
            self.settings,
            self.clock,
            make_node_host(
                wake=self._wake,
                ready=self._ready,
                view_changed=lambda: self.view_changed(),
                log=self.lines.append,
                etcd=self.group.courier_of(self.name),
            ),
            node_id=self.name,
            secret=self.secret,
            entropy=random.Random(f"{self.name} {self.life}").randbytes,
            execute=self.release.executor(self.service),
        )
        self.service.gate = self.node.gate
        self.changes = self.node.changes
        self.node.start()

    def accept(self, address: str) -> Link:
        """Return our end of a connection that somebody else made."""
        return self.node.membership.open_link(dialled=None, address=address)

    def stop(self) -> None:
        """Be gone, and all that was here; the others learn so from their sockets."""
        self.alive = False
        for wire in list(self.group.wires):
            if self in wire.hosts:
                wire.cut()

    def _wake(self) -> None:
        self.woken = True

    def _ready(self) -> None:
        self.ready_calls += 1

    def peer(self, other: str) -> Peer:
        return self.node.view.peers[other]

    @property
    def rows(self) -> dict[str, Any]:
        return dict(self.node.rows())

    def step(self) -> None:
        self.woken = False
        delay_s = STEP_AGAIN_S
        with self._on_error():
            delay_s = self.node.step()
        self.step_at = self.group.clock.monotonic() + delay_s
        # One that is woken without end keeps a processor busy.
        self.hasty = self.hasty + 1 if delay_s < 0.001 else 0
        assert self.hasty < 10, "a node that cannot wait"

    def turn(self) -> bool:
        """Do what is to be done; False: nothing was."""
        if not self.alive or self.frozen:
            return False
        self.service.tick()
        busy = False
        if self.woken:
            busy = True
            self.step()
        for guest in self.guests:
            if guest.woken:
                busy = True
                guest.pump()
        with self._on_error():
            self.node.gate.send_batch()
        return busy

    @contextmanager
    def _on_error(self) -> Iterator[None]:
        """Go on without memory, as a server does, if that is what is tried."""
        try:
            yield
        except MemoryError:
            if not self.group.closes_on_error:
                raise

    def values(self) -> dict[bytes, bytes]:
        """Return what is alive here."""
        return {item.key: item.value for item in self.cache.items() if not self.cache.is_dead(item)}

    def state(self) -> dict[bytes, tuple[Any, ...]]:
        """Return all that a server must share with the others of each living item."""
        begin = self.cache.seconds_of(0.0)
        return {
            item.key: (
                item.value,
                item.client_flags,
                item.expires_at and item.expires_at - begin,
                item.cas_unique,
                self.changes.version_of(item),
                item.stale,
                bool(item.access & WIN_SENT),
            )
            for item in self.cache.items()
            if not self.cache.is_dead(item)
        }


class WitnessHost:
    """A witness, and what a driver does for it."""

    def __init__(self, group: Group, name: str = "w") -> None:
        self.group = group
        self.name = name
        self.frozen = False
        self.alive = False
        self.lives = 0
        self.disk: Memory | None = None
        self.is_full = False  #: the disk is
        self.start()

    def start(self, *, remembers: bool = False) -> None:
        """Start anew, with what is on the disk or with nothing."""
        self.lives += 1
        self.alive = True
        self.lines: list[str] = []
        self.step_at = self.group.clock.monotonic()
        memory = self.disk if remembers else None
        self.witness = Witness(
            self.group.clock,
            node_id=self.name,
            cluster_id="pymcd",
            secret=SECRET,
            memory=memory or Memory(f"{self.name}{self.lives}"),
            keep=self._keep,
            log=self.lines.append,
            entropy=random.Random(f"{self.name} {self.lives}").randbytes,
        )

    def _keep(self, memory: Memory) -> None:
        if self.is_full:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        self.disk = memory

    def freeze(self) -> None:
        """Stand still."""
        self.frozen = True

    def stop(self) -> None:
        """Be gone; the nodes learn so from their sockets."""
        self.alive = False
        for wire in list(self.group.wires):
            if wire.hosts[1].name == self.name:
                wire.cut()

    def accept(self, address: str) -> Link:
        return self.witness.open_link(address)

    def step(self) -> None:
        self.step_at = self.group.clock.monotonic() + self.witness.step()

    def turn(self) -> bool:
        return False


class Wire:
    """A connection between two servers. What is sent arrives at once, unless it is held back."""

    def __init__(self, caller: Host, callee: Any) -> None:
        """`callee`: a `Host` or a `WitnessHost`."""
        self.group = caller.group
        self.hosts: tuple[Host, Host] = (caller, callee)
        self.links = (
            caller.node.membership.open_link(dialled=address_of(callee.name)),
            callee.accept(f"{caller.name}:5"),
        )
        #: Under way, by who sent it.
        self.queues: tuple[list[bytes], list[bytes]] = ([], [])
        #: From whom nothing arrives.
        self.stalled: set[Any] = set()
        #: All that was sent, for those who listen.
        self.sent: tuple[list[bytes], list[bytes]] = ([], [])
        self.group.wires.append(self)

    def stall(self, *senders: Any) -> None:
        """Hold back what these send; nobody named: what both do."""
        self.stalled = set(senders or self.hosts)

    def resume(self) -> None:
        self.stalled.clear()

    def carry(self) -> bool:
        """Deliver; False: there was nothing."""
        busy = False
        for sender in (0, 1):
            link, other = self.links[sender], self.links[1 - sender]
            output = [bytes(piece) for piece in link.take_output()]
            self.queues[sender].extend(output)
            self.sent[sender].extend(output)
            receiver = self.hosts[1 - sender]
            if self.hosts[sender] in self.stalled or receiver.frozen:
                continue
            if self.queues[sender]:
                busy = True
                data = b"".join(self.queues[sender])
                self.queues[sender].clear()
                try:
                    other.receive(data)
                except MemoryError:
                    if not self.group.closes_on_error:
                        raise
                    self.cut()
                    return True
            if link.closed and not self.hosts[sender].frozen:
                self._end(other)
                return True
        return busy

    def _end(self, other: Link) -> None:
        if self in self.group.wires:
            self.group.wires.remove(self)
        if not other.closed:
            other.disconnected()

    def cut(self) -> None:
        """Lose the connection, and what is under way."""
        self.group.wires.remove(self)
        for host, link in zip(self.hosts, self.links, strict=True):
            if host.alive:
                link.disconnected()


class Guest:
    """A client, and the driver of its connection: the hub in small, or (`fast=False`) streams."""

    def __init__(self, host: Host, *, fast: bool = True) -> None:
        self.host = host
        make: type[PairedConnection] = host.release.connection
        self.connection = make(host.service, connection_id=len(host.guests) + 1)
        self.connection.wake = self._wake
        self.woken = False
        self.suspended = False
        self.replies = b""
        self.unread: list[bytes] = []
        self.fast = fast
        if fast:
            self.connection.suspend = self._suspend
            self.connection.deliver = self._deliver
        host.service.connected(self.connection)
        host.guests.append(self)

    def _wake(self) -> None:
        self.woken = True

    def _suspend(self) -> None:
        self.suspended = True

    def _deliver(self, reply: bytes) -> None:
        self.suspended = False
        self.replies += reply
        self.woken = True

    def feed(self, *pieces: bytes) -> None:
        """Send, and do not wait."""
        self.unread += pieces
        if not self.suspended:
            self.pump()

    def ask(self, *pieces: bytes) -> bytes:
        """Send; return what is answered without time passing."""
        self.feed(*pieces)
        self.host.group.settle()
        return self.take()

    def take(self) -> bytes:
        """Return what was answered since."""
        replies, self.replies = self.replies, b""
        return replies

    def pump(self) -> None:
        """Execute what there is."""
        self.woken = self.suspended = False
        connection = self.connection
        for _ in range(10_000):
            more = connection.run() or connection.source is not None
            while (chunk := connection.next_chunk()) is not None:
                self.replies += chunk
                more = True
            if more:
                continue
            if not self.unread or connection.waiting or connection.closing:
                return
            data = self.unread.pop(0)
            self.host.service.tick()
            if self.fast:
                self.replies += connection.respond(data) or b""
            else:
                connection.receive_data(data)
        raise AssertionError("a connection that never comes to rest")


class Group:
    """Servers that replicate."""

    def __init__(
        self,
        names: Iterable[str] = "ab",
        *,
        witness: bool = False,
        etcd: EtcdHost | None = None,
        votes: bool = True,
        **settings: Any,
    ) -> None:
        """`witness`: there is one; or an `etcd` is.

        `votes`: False: each knows of one other, so that three do not vote.
        """
        self.clock = ManualClock()
        self.wires: list[Wire] = []
        #: What goes wrong with a message ends its link, as a server does it, and not the test.
        self.closes_on_error = False
        self.hosts: dict[str, Host] = {}
        self.witness: WitnessHost | None = None
        if witness:
            self.witness = WitnessHost(self)
            settings["witness"] = address_of("w")
        self.etcd = etcd
        if etcd is not None:
            settings.setdefault("witness", URL)
        names = list(names)
        for name in names:
            others = names[names.index(name) + 1 :] + names[: names.index(name)]
            peers = tuple(map(address_of, others if votes else others[:1]))
            self.add(name, **{"peers": peers, **settings})

    def __getitem__(self, name: str) -> Host:
        return self.hosts[name]

    def add(self, name: str, **settings: Any) -> Host:
        """Add a server that has just started."""
        host = self.hosts[name] = Host(self, name, **settings)
        return host

    def courier_of(self, name: str) -> Courier | None:
        """Return what carries questions to the etcd, if there is one."""
        return None if self.etcd is None else self.etcd.courier_of(name)

    def link(self, caller: str, callee: str) -> Wire:
        """Have one server dial another."""
        wire = Wire(self[caller], self[callee])
        self.settle()
        return wire

    def link_all(self) -> None:
        for caller in self.hosts if self.witness is not None else ():
            self.link_witness(caller)
        for caller, callee in combinations(self.hosts, 2):
            self.link(caller, callee)

    def link_witness(self, caller: str) -> Wire:
        """Have a server dial the witness."""
        assert self.witness is not None
        wire = Wire(self[caller], self.witness)
        self.settle()
        return wire

    @property
    def everybody(self) -> list[Host | WitnessHost]:
        """All who take part, the witness, too."""
        return [*self.hosts.values(), *([] if self.witness is None else [self.witness])]

    def wire(self, one: str, other: str) -> Wire:
        """Return the connection between two servers."""
        hosts = {each for each in self.everybody if each.name in (one, other)}
        (wire,) = (wire for wire in self.wires if set(wire.hosts) == hosts)
        return wire

    def settle(self) -> None:
        """Let happen all that happens without time passing."""
        for _ in range(10_000):
            busy = [host.turn() for host in self.hosts.values()]
            busy += [wire.carry() for wire in list(self.wires)]
            if self.etcd is not None:
                for name, courier in self.etcd.couriers.items():
                    if self.hosts[name].alive and not self.hosts[name].frozen:
                        busy.append(courier.carry())
            if not any(busy):
                return
        raise AssertionError("servers that never come to rest")

    def advance(self, seconds: float) -> None:
        """Let time pass; servers wake up when they want to."""
        self.settle()
        clock = self.clock
        end = clock.monotonic() + seconds
        for _ in range(100_000):
            due = [host.step_at for host in self.everybody if host.alive and not host.frozen]
            now = clock.monotonic()
            # A little later at least: what is due when may be off by what a float cannot tell.
            then = max(now + 1e-6, min([end, *due]))
            clock.advance(then - now)
            if then >= end and not any(at <= then for at in due):
                break
            for host in self.everybody:
                if host.alive and not host.frozen and host.step_at <= then:
                    host.step()
            self.settle()
        else:
            raise AssertionError("servers that cannot wait")
        self.settle()

    def warm(self) -> None:
        """Have everybody's lease renewed, as clients that ask for something do."""
        for host in self.hosts.values():
            Guest(host).ask(b"mn\r\n")
            host.service.disconnected(host.guests.pop().connection)

    def check(self) -> None:
        """Raise AssertionError unless what each server knows fits together."""
        for host in self.hosts.values():
            if host.alive:
                host.cache.check()
                host.changes.check()
                host.node.check()

    def check_equal(self) -> None:
        """Raise AssertionError unless all servers hold the same; ends may differ by a second."""
        self.check()
        first, *others = [host.state() for host in self.hosts.values() if host.alive]
        for other in others:
            ends = {key: (first[key][2], state[2]) for key, state in other.items() if key in first}
            assert all(abs(one - another) <= 1 for one, another in ends.values())
            assert without_ends(other) == without_ends(first)


def without_ends(state: dict[bytes, tuple[Any, ...]]) -> dict[bytes, tuple[Any, ...]]:
    """Return the states of items, but of their ends only whether there is one."""
    return {key: (*each[:2], each[2] > 0, *each[3:]) for key, each in state.items()}


def make_group(
    names: Iterable[str] = "ab",
    *,
    witness: bool = False,
    etcd: EtcdHost | None = None,
    votes: bool = True,
    **settings: Any,
) -> Group:
    """Return servers that are in sync; the first one coordinates."""
    group = Group(names, witness=witness, etcd=etcd, votes=votes, **settings)
    group.link_all()
    group.advance(0.5)
    names = list(group.hosts)
    assert group[names[0]].node.role == ("coordinator" if names[1:] else "alone")
    assert {group[name].node.role for name in names[1:]} <= {"follower"}
    return group


def encode_state(
    key: bytes,
    value: bytes = b"",
    client_flags: int = 0,
    unix_end: int = 0,
    cas_unique: int = 0,
    version: int = 0,
    marks: int = 0,
) -> bytes:
    """Return the record of an item."""
    head = records.pack_state(
        records.STATE, marks, len(key), client_flags, cas_unique, version, unix_end, len(value)
    )
    return head + key + value


def decode_sent(pieces: Iterable[bytes | memoryview]) -> list[tuple[int, bytes]]:
    """Return kind and payload of all messages that a peer has sent, the handshake left out."""
    data = b"".join(pieces)
    messages = []
    position = 0
    while (frame := frames.split_frame(data, position, 1 << 30)) is not None:
        body, position = frame
        if body[0] > frames.Kind.REFUSAL:
            messages.append((frames.decode_head(body)[0], body[frames.HEAD_BYTES :]))
    return messages
