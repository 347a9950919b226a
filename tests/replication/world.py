"""A small world for servers that replicate: virtual time, clocks, wires, hosts.

Everything happens on one seeded scheduler. Nothing here knows a promise or a fault by name: the
world only offers what can go wrong (a pair of hosts that cannot reach each other, a link that is
cut, a host that stands still, a process that is gone), and `simulation` makes use of it. What is
observed of a node is written down by its `Host`, for `checkers`.

* Wires are TCP: each direction delivers all bytes in order, in pieces of any size, late; or the
  connection ends, at once for one side and perhaps much later for the other.
* A host works in turns, like the hub: all that has come is handled in any order across
  connections, then the node is flushed and what it has to say is sent. A frozen host handles
  nothing while everything piles up; its clocks go on.
"""

from __future__ import annotations

import random
import sys
from collections import deque
from contextlib import contextmanager, nullcontext
from heapq import heappop, heappush
from itertools import chain
from typing import TYPE_CHECKING, Any, Final, NamedTuple
from zlib import crc32

import pymcd.store.cache

from ..hosts import make_host, make_node_host
from .releases import TODAY, Release
from .shortage import shortage
from .work import Work

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from contextlib import AbstractContextManager

    from pymcd.auth import Authenticator
    from pymcd.config import Settings
    from pymcd.protocol import PairedConnection
    from pymcd.replication.gate import Gate
    from pymcd.replication.link import Link
    from pymcd.replication.node import Node
    from pymcd.replication.peer import Peer
    from pymcd.service import Service
    from pymcd.store.slabs import Slabs

    from .linearizability import Operation

#: Unix time at the beginning of the world.
BEGIN_S: Final = 1_800_000_000.0
#: A dial that is not answered is given up after a part of this.
DIAL_TIMEOUT_S: Final = 1.0
BACKOFF_MIN_S: Final = 0.05
BACKOFF_MAX_S: Final = 2.0
#: How often a host looks whether somebody is to be dialled.
DIAL_LOOK_S: Final = 0.01
#: As `server.peering` has it.
STEP_AGAIN_S: Final = 0.02
#: A word that was said so long before another one is late.
LATE_S: Final = 0.02
#: How often who leaves asks whether the others have everything.
LEAVE_AGAIN_S: Final = 0.005
#: Who is hindered by nobody leaves within two acknowledgement time-outs, and this.
LEAVE_S: Final = 0.1
#: A host's own work takes this long at most, unless it is slow.
TURN_S: Final = 0.0003
_EVER: Final = float("inf")
_ENOUGH: Final = nullcontext()
#: Of what is said on a wire so many pieces are overheard, and on so many wires.
_OVERHEARD_PIECES: Final = 4
_OVERHEARD_WIRES: Final = 30


class OutOfMemory(MemoryError):
    """What a host has in the place of a system that is short of memory."""


@contextmanager
def constants(values: dict[str, int]) -> Iterator[None]:
    """Let constants of the replication core, by name, have other values for a while."""
    replaced = []
    for name, value in values.items():
        modules = [
            module
            for path, module in sys.modules.items()
            if path.startswith("pymcd.replication.") and name in module.__dict__
        ]
        assert modules, f"no constant {name}"
        for module in modules:
            replaced.append((module, name, getattr(module, name)))
            setattr(module, name, value)
    try:
        yield
    finally:
        for module, name, before in replaced:
            setattr(module, name, before)


def independent_of_hash_seed() -> None:
    """Have caches spread keys over their tables in the same way in every process."""
    pymcd.store.cache.hash = crc32  # type: ignore[attr-defined]


def _end_of_run() -> None:
    """Stand in the queue where a run ends, behind all that happens at that time."""


class World:
    """The scheduler, and who can reach whom."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.draw = self.random.random  #: from 0 to 1; the same stream, found sooner
        self.now = 0.0
        self._events: list[tuple[float, float, Callable[..., Any], tuple[Any, ...]]] = []
        self._count = 0
        self.hosts: dict[str, Host] = {}
        self.wires: list[Wire] = []
        #: (from, to) -> how many faults stand between.
        self._blocks: dict[tuple[str, str], int] = {}
        #: (from, to) -> since when, and until when, nothing passed.
        self.blocked_times: dict[tuple[str, str], list[tuple[float, float]]] = {}
        self.latency_s = 0.0002
        self.jitter_s = 0.0003
        #: Chance that what is sent arrives in several pieces.
        self.splitting = 0.1
        self.window_bytes = 1 << 20
        #: What a host is asked to send at once it does; else all goes at the end of its turn.
        self.pushing = False
        self.verbose = False
        self.trace: list[str] = []
        #: Called after each turn of a host.
        self.observe: Callable[[Host], None] = lambda host: None
        #: How conversations between hosts began, as who listens knows them: of each what the one
        #: side said.
        self.overheard: deque[list[bytes]] = deque(maxlen=_OVERHEARD_WIRES)

    def at(self, time: float, call: Callable[..., Any], *arguments: Any) -> None:
        """Have something happen."""
        self._count += 1
        if time < self.now:
            time = self.now
        heappush(self._events, (time, self._count, call, arguments))

    def after(self, delay_s: float, call: Callable[..., Any], *arguments: Any) -> None:
        """Have something happen later."""
        self._count += 1
        heappush(self._events, (self.now + delay_s, self._count, call, arguments))

    def run(self, until: float) -> None:
        """Let time pass."""
        events = self._events
        heappush(events, (until, _EVER, _end_of_run, ()))
        while True:
            self.now, _, call, arguments = heappop(events)
            if call is _end_of_run:
                return
            call(*arguments)

    def tell(self, who: str, what: str) -> None:
        """Note something for who reads the trace."""
        if self.verbose:
            line = f"{self.now:10.6f} {who:>6}  {what}"
            self.trace.append(line)

    # -- who can reach whom --------------------------------------------------------------------

    def block(self, sender: str, receiver: str) -> None:
        """Let nothing pass in one direction."""
        pair = (sender, receiver)
        self._blocks[pair] = self._blocks.get(pair, 0) + 1
        if self._blocks[pair] == 1:
            self.blocked_times.setdefault(pair, []).append((self.now, _EVER))

    def unblock(self, sender: str, receiver: str) -> None:
        """Undo one `block`; what was held back arrives."""
        pair = (sender, receiver)
        self._blocks[pair] -= 1
        if not self._blocks[pair]:
            del self._blocks[pair]
            self.blocked_times[pair][-1] = (self.blocked_times[pair][-1][0], self.now)
            for wire in list(self.wires):
                for end in wire.ends:
                    if (end.host.name, end.other.host.name) == pair:
                        end.resume()

    def blocked(self, sender: str, receiver: str) -> bool:
        """Return whether nothing passes."""
        return (sender, receiver) in self._blocks

    def delay(self) -> float:
        """Return how long something is under way."""
        return self.latency_s + self.draw() * self.jitter_s


class HostClock:
    """A host's clocks: they run a little fast or slow, and its wall clock is off."""

    def __init__(self, world: World, *, skew_s: float, drift: float) -> None:
        self._world = world
        self._rate = 1.0 + drift
        self._origin_s = world.random.uniform(1e3, 1e6)
        self._skew_s = skew_s
        self._drift = 0.0  #: of the wall clock alone, in seconds each second
        self._drifts_since = 0.0

    def monotonic(self) -> float:
        return self._origin_s + self._world.now * self._rate

    def realtime(self) -> float:
        return BEGIN_S + self.skew_s + self._world.now * self._rate

    @property
    def skew_s(self) -> float:
        """How far the wall clock is ahead of the time of the world."""
        return self._skew_s + self._drift * (self._world.now - self._drifts_since)

    def step(self, seconds: float) -> None:
        """Let the wall clock jump."""
        self._skew_s += seconds

    def drift(self, rate: float) -> None:
        """Let the wall clock run too fast, by so many seconds each second, from now on."""
        self._skew_s = self.skew_s
        self._drift, self._drifts_since = rate, self._world.now

    def world_seconds(self, seconds: float) -> float:
        """Return how long the world takes for so many seconds of this clock."""
        return seconds / self._rate


class End:
    """One end of a wire between two hosts."""

    def __init__(self, wire: Wire, host: Host, life: int) -> None:
        self.wire = wire
        self.host = host
        self.life = life  #: of the process that owns this end
        self.other: End
        self.link: Link | None = None
        self.dialled: str | None = None  #: what our host dialled
        self.gone = False  #: this side knows of the end
        self._last_at = 0.0
        self._held: list[tuple[int, bytes, tuple[float, float, float]]] = []
        self._sent = self._arrived = 0  #: pieces
        #: What has overtaken what was held back, by its number: nothing arrives before that.
        self._early: dict[int, tuple[bytes, tuple[float, float, float]]] = {}
        self.under_way_bytes = 0
        self.last_taken = -_EVER  #: when what was said and handled here last was sent there
        self.late_s = 0.0  #: what is said here is so long under way, beside the usual
        self._late_words = (0.0, -_EVER)  #: what was said is late by so much, until then
        self._said: list[bytes] = []  #: as overheard

    def send(self, data: bytes, *, delay_s: float = 0.0) -> None:
        """Send to the other end."""
        world = self.host.world
        pieces = [data]
        delay_s += self.late_s
        if len(self._said) < _OVERHEARD_PIECES:
            if not self._said:
                world.overheard.append(self._said)
            self._said.append(data)
        if world.draw() < world.splitting:
            cut = world.random.randrange(len(data) + 1)
            pieces = [piece for piece in (data[:cut], data[cut:]) if piece]
        known = self.host.waking_s, self.last_taken, self.host.last_word_of(self.other)
        for piece in pieces:
            self._last_at = max(self._last_at, world.now + delay_s + world.delay())
            self.under_way_bytes += len(piece)
            self._sent += 1
            world.at(self._last_at, self._arrive, self._sent, piece, known)
        if self.late_s:
            self._late_words = self.late_s, self._last_at

    @property
    def words_late_s(self) -> float:
        """By how much it is late what is said here now: it comes behind what was said before."""
        late_s, until = self._late_words
        return max(self.late_s, late_s if self.host.world.now < until else 0.0)

    def _arrive(self, number: int, data: bytes, known: tuple[float, float, float]) -> None:
        if self.wire.dead:
            return
        if self._held or self.host.world.blocked(self.host.name, self.other.host.name):
            self._held.append((number, data, known))
            return
        other, early = self.other, self._early
        early[number] = data, known
        while (after := self._arrived + 1) in early:
            self._arrived = after
            other.host.post(other, other.take, *early.pop(after), life=other.life)

    def take(self, data: bytes, known: tuple[float, float, float]) -> None:
        """Handle bytes that came from the other end; in a turn of our host.

        `known`: when they were sent, and what of ours had been handled there, over this wire and
        over any, each on the sender's clock as a host lives it.
        """
        self.other.under_way_bytes -= len(data)
        if self.gone or self.link is None:
            return
        peer = self.host.node.membership.peer_of(self.link)
        before = None
        if peer is not None:
            before = peer.lease.their_time, getattr(peer, "status", None)
        if self.link.proven:  # else it only tells who is there
            self.last_taken = known[0]
        self.host.hear(self.other, known[0], known[2])
        is_over = not self.other.host.alive or self.other.life != self.other.host.life
        # A witness goes on without nobody.
        if is_over and not getattr(peer, "in_view", True) and self.host.node.role.leads:
            self.host.heard_the_dead = True
        try:
            with self.host.short():
                self.link.receive(data)
        except OutOfMemory:  # as `server.peering` does with what it did not expect
            self.host.log.append((self.host.world.now, "out of memory"))
            self.wire.finish(self)
            self.end()
            return
        self.host.node.check()
        if self.link.proven or (self.dialled is not None and self.link.closed):
            self.host.met.add((self.other.host.name, self.other.life))
        if before is not None and peer is not None and peer.link is self.link:
            if peer.lease.their_time != before[0]:
                # A whole message, over the link that is in use.
                self.host.heard(self.other, known[1])
            is_status = getattr(peer, "status", None) is not before[1]
            self.host.note_words(self.other, known[0], is_status=is_status)
        if self.other.under_way_bytes <= self.host.world.window_bytes:
            self.other.host.post(self.other, None, life=self.other.life)

    def resume(self) -> None:
        """Deliver what was held back."""
        held, self._held = self._held, []
        for number, data, known in held:
            self._last_at = max(self._last_at, self.host.world.now + self.host.world.delay())
            self.host.world.at(self._last_at, self._arrive, number, data, known)

    def lose(self, delay_s: float) -> None:
        """Have this side learn that the connection is gone."""
        self.host.world.after(delay_s, self._post_loss)

    def _post_loss(self) -> None:
        self.host.post(self, self.end, life=self.life)

    def end(self) -> None:
        """Handle the end of the connection; in a turn of our host."""
        if not self.gone:
            self.gone = True
            if self.link is not None:
                self.link.disconnected()
                self.host.node.check()
            self.host.forget(self)


class Wire:
    """A connection between two hosts."""

    def __init__(self, world: World, caller: Host, callee: Host) -> None:
        self.world = world
        self.dead = False  #: nothing arrives any more
        self.cut_at = _EVER
        first, second = End(self, caller, caller.life), End(self, callee, callee.life)
        first.other, second.other = second, first
        self.ends = (first, second)
        world.wires.append(self)

    @property
    def late_s(self) -> float:
        """How much longer than usual an answer takes."""
        return sum(end.words_late_s for end in self.ends)

    def cut(self, *, late_s: float = 0.0, silent: bool = False) -> None:
        """End the connection, with whatever is under way lost.

        One side learns so at once, the other one `late_s` later; `silent`: nobody does.
        """
        if self.dead:
            return
        self.dead = True
        self.cut_at = self.world.now
        self.world.wires.remove(self)
        if not silent:
            ends = list(self.ends)
            self.world.random.shuffle(ends)
            ends[0].lose(0.0)
            ends[1].lose(late_s)

    def finish(self, closer: End) -> None:
        """End the connection in order: what was sent before arrives first."""
        if self.dead:
            return
        other = closer.other

        def arrive() -> None:
            if self.world.blocked(closer.host.name, other.host.name):
                self.world.after(0.05, arrive)
            elif not self.dead:
                other.lose(0.0)
                self.dead = True
                self.world.wires.remove(self)

        self.world.at(max(closer._last_at, self.world.now + self.world.delay()), arrive)


class Observation(NamedTuple):
    """What a node was, from a moment on."""

    at: float
    life: int
    role: str
    epoch: int
    coordinator: str
    partners: tuple[str, ...]  #: in sync with it
    ready: bool
    in_view: bool = False  #: it is in sync with others, whether it may serve yet or not


class Visit:
    """The server's side of one client's connection: what a driver does, in small."""

    def __init__(self, host: Host, number: int, send: Callable[[bytes], None]) -> None:
        assert host.service is not None
        self.host = host
        self.life = host.life
        make: type[PairedConnection] = host.release.connection
        self.connection = make(host.service, connection_id=number, address=f"tcp:client:{number}")
        self.connection.wake = self.wake
        self._send = send
        self.closed = False
        self.lost = False
        #: The client reads nothing until then.
        self.blocked_until = 0.0
        self._unread: deque[tuple[bytes, Sequence[Operation]]] = deque()
        self._reading: list[Operation] = []  #: silent ones that were read, and are not done yet
        self._suspended = False
        #: Whether to be driven as the hub does it, or as the driver for any stream does.
        self._fast = host.world.random.random() < 0.5
        if self._fast:
            self.connection.suspend = self._suspend
            self.connection.deliver = self._deliver
        host.service.connected(self.connection)

    def _suspend(self) -> None:
        self._suspended = True

    def _deliver(self, reply: bytes) -> None:
        """Send a reply that was held back. Called from within the core."""
        self._suspended = False
        if reply and not self.closed:
            self._send(reply)
        self._note_done()
        if self._unread:
            self.wake()

    def _note_done(self) -> None:
        """Note when what was read is done, of which no client is told that."""
        if self._reading and not self._suspended and not self.connection.waiting:
            for operation in self._reading:
                operation.notes["done_at"] = self.host.world.now
            self._reading = []

    def _note_hindered(self) -> None:
        """Note since when it is the client that keeps from being done what nobody is told of."""
        if not self.connection.waiting:
            for operation in chain(self._reading, *(silent for _, silent in self._unread)):
                operation.notes.setdefault("hindered_at", self.host.world.now)

    def wake(self) -> None:
        """Look again, soon: there is something to be sent. Called from within the core."""
        self.host.woken[self] = None
        self.host.stir()

    def feed(self, data: bytes, silent: Sequence[Operation] = ()) -> None:
        """Take what the client sent; in a turn of the host. `silent`: to what is no reply."""
        if self.closed or self.connection.closing:
            return
        self._unread.append((data, silent))
        if not self._suspended:
            self.pump(only_this=len(self._unread) == 1)

    def pump(self, *, only_this: bool = False) -> None:
        """Execute what there is, and send what can be sent. `only_this`: what was just read."""
        if self.closed:
            return
        world = self.host.world
        if world.now < self.blocked_until:
            self._note_hindered()
            world.at(self.blocked_until, self._unblock)
            return
        self._suspended = False  # a wake says so
        connection = self.connection
        for _ in range(1000 + len(self._unread)):
            # Before there is anything to be executed nobody is to be asked whether that may be.
            more = False if only_this else connection.run() or connection.source is not None
            only_this = False
            while (chunk := connection.next_chunk()) is not None:
                self._send(bytes(chunk))
                more = True
            if not more:
                self._note_done()
                if not self._unread or connection.waiting or connection.closing:
                    break
                data, silent = self._unread.popleft()
                self._reading += silent
                connection.last_command_at = connection.cache.now
                if self._fast:
                    reply = connection.respond(data)
                    if reply:
                        self._send(reply)
                else:
                    connection.receive_data(data)
        else:
            raise AssertionError("a connection that never comes to rest")
        if connection.closing and not connection.pieces:
            self.end()

    def _unblock(self) -> None:
        if not self.closed:
            self.host.post(self, self.pump, life=self.life)

    def end(self) -> None:
        """The client is gone, or to be sent away."""
        if not self.closed:
            self.closed = True
            self.connection.closing = True
            if self.host.service is not None and self.host.life == self.life:
                self.host.service.disconnected(self.connection)
            if not self.lost:
                self._send(b"")


class Host:
    """A machine with one server process, or none."""

    def __init__(
        self,
        world: World,
        name: str,
        settings: Settings,
        clock: HostClock,
        *,
        dials: list[str],
        secret: bytes | None,
        memory_pages: int | None,
        authenticator: Authenticator | None = None,
    ) -> None:
        self.world = world
        self.name = name
        self.settings = settings
        self.clock = clock
        self.dials = dials
        self.secret = secret  #: of the next life
        self.estranged = False  #: that is another one than the others have
        self.other_secrets: tuple[bytes, ...] = ()  #: by which others may prove themselves as well
        #: So many steps its secrets are ahead of what they were, see `use_secrets`.
        self.rotated = 0
        self._memory_pages = memory_pages
        self._lent = make_host(authenticator=authenticator, call_later=self._call_later)
        world.hosts[name] = self
        #: Called for each life of the process.
        self.choose_release: Callable[[], Release] = lambda: TODAY
        self.release = TODAY
        #: Called likewise: what carries questions to an etcd, if there is one.
        self.courier_for: Callable[[Host], Any] = lambda host: None

        self.life = 0  #: of the process, by number
        self.alive = False
        self.frozen = False
        self.leaving = False  #: in order
        self.connected = True  #: False: nothing reaches this host
        self.slow_s = 0.0  #: a turn takes so much longer
        self._short_lines: int | None = None  #: of those that send, before memory ends
        self.sent_short = 0  #: so often it did
        self.misheard_at = -_EVER  #: when it last understood more than was said
        self.service: Service | None = None
        self.node: Node
        self.woken: dict[Visit, None] = {}
        self._ends: list[End] = []
        self._dialled: set[str | None] = set()  #: of these ends
        self._inbox: dict[object, deque[tuple[Callable[..., None] | None, tuple[Any, ...]]]] = {}
        self._turn_due = False
        self._busy_until = 0.0
        self._step_at = _EVER
        self._node_woken = False
        self._timer_at = _EVER
        self.visits = 0

        self.history: list[Observation] = []
        self._noted: tuple[Any, ...] = ()  #: of what the last observation was made
        self.log: list[tuple[float, str]] = []
        #: (host, life) -> when something from there was handled here last, before this turn;
        #: on a clock that stands still while this host does.
        self.heard_at: dict[tuple[str, int], float] = {}
        self._heard_now: dict[tuple[str, int], float] = {}
        #: (host, life) -> the latest moment of ours that we know that one to have heard of.
        self.answered_at: dict[tuple[str, int], float] = {}
        #: (host, life) with whom a handshake came to its end in this life, whatever it was.
        self.met: set[tuple[str, int]] = set()
        self._answered_now: dict[tuple[str, int], float] = {}
        #: The same, at once, and whatever wire that one heard it over.
        self._known_to: dict[tuple[str, int], float] = {}
        self._came: dict[tuple[str, int], float] = {}
        self._stood_still_s = 0.0
        #: When it stood still last, from and to.
        self.froze_at = self.thawed_at = -_EVER
        self.started_at = 0.0
        self.skews_s: list[float] = []  #: of the wall clock when each of its processes began
        self.evicted: set[bytes] = set()
        #: (host, life) -> when it said the latest that was heard of it, on its waking clock.
        self._words: dict[tuple[str, int], float] = {}
        #: It heard one that was dead, and that it had gone on without: that one was another side.
        self.heard_the_dead = False
        #: What it did that nobody may do, whatever goes wrong.
        self.complaints: list[str] = []
        #: Bytes that clients ask for at once, if what is done in one step is to be counted.
        self.counted: int | None = None

    def __repr__(self) -> str:
        return f"<Host {self.name}>"

    # -- the process -----------------------------------------------------------------------------

    def start(self) -> None:
        """Start a server, with nothing in it."""
        world = self.world
        self.life += 1
        self.alive = True
        self.frozen = self.leaving = False
        self._short_lines = None
        self.started_at = world.now
        self.skews_s.append(self.clock.skew_s)
        self.heard_at.clear()
        self.answered_at.clear()
        self.met.clear()
        self._words.clear()
        self._known_to.clear()
        self._came.clear()
        self._answered_now.clear()
        self._heard_now.clear()
        self.evicted = set()
        self.release = self.choose_release()
        service: Service = self.release.service(self.settings, self.clock, self._lent)
        self.service = service
        self.woken.clear()
        self._keep([])
        self._inbox.clear()
        self._busy_until = world.now
        on_evict = service.cache.on_evict

        def evicted(item: Any) -> None:
            self.evicted.add(item.key)
            on_evict(item)

        service.cache.on_evict = evicted
        if self._memory_pages is not None:
            service.cache.slabs.limit_bytes = self._memory_pages << 20
        self.node = self.release.node(
            service.cache,
            self.settings,
            self.clock,
            make_node_host(wake=self._wake_node, log=self._say, etcd=self.courier_for(self)),
            node_id=self.name,
            secret=self.secret,
            entropy=world.random.randbytes,
            execute=self.release.executor(service),
        )
        service.gate = self.node.gate
        if self.release is TODAY:
            self._go_by_the_smallest(service.cache.slabs)
            self.use_secrets(self.secret, *self.other_secrets)
            self._watch_leases(self.node.gate)
        if self.counted is not None:
            Work(self.node, self.complain, self.counted)
        self._step_at = self._timer_at = _EVER
        self._node_woken = True
        self.world.tell(self.name, f"starts, life {self.life}")
        self.node.start()
        for target in self.dials:
            world.after(world.random.random() * DIAL_LOOK_S, self._dial, target, self.life, 0.05)
        world.after(world.random.random(), self._housekeeping, self.life)
        self.stir()

    def _go_by_the_smallest(self, slabs: Slabs) -> None:
        """Refuse what is too large for any node, though that one was not met yet.

        What was stored before lies where it was stored, and nowhere else: nobody promises more.
        """
        hosts = self.world.hosts.values()
        smallest = min(host.settings.item_size_max_bytes for host in hosts)
        membership, peers = self.node.membership, self.node.view.peers
        be_alike = membership.be_alike

        def alike() -> None:
            be_alike()
            if len(peers) < len(hosts) - 1:
                slabs.item_size_max_bytes = min(slabs.item_size_max_bytes, smallest)

        membership.be_alike = alike  # type: ignore[method-assign]
        slabs.item_size_max_bytes = smallest

    def stop(self, *, silent: bool = False) -> None:
        """Let the process die, as by kill -9; `silent`: the host with it, and nobody is told."""
        if not self.alive:
            return
        self.world.tell(self.name, "is killed" + (" silently" if silent else ""))
        self.alive = False
        self.frozen = False
        self._inbox.clear()
        self.woken.clear()
        for end in list(self._ends):
            end.gone = True
            if silent:
                end.wire.cut(silent=True)
            else:
                end.wire.finish(end)
        self._keep([])
        for wire in list(self.world.wires):  # not yet accepted
            for end in wire.ends:
                if end.host is self and end.life == self.life and not end.gone:
                    end.gone = True
                    wire.finish(end)
        self._note()
        self.service = None

    @property
    def listening(self) -> bool:
        """Whether clients can connect."""
        return self.alive and self.node.ready and not self.leaving

    def freeze(self) -> None:
        """Let the process stand still, as by SIGSTOP; its clocks go on."""
        self.world.tell(self.name, "freezes")
        self.frozen = True
        self.froze_at = self.world.now

    def thaw(self) -> None:
        """Let it go on."""
        if self.frozen:
            self.world.tell(self.name, "thaws")
            self.frozen = False
            self._stood_still_s += self.world.now - self.froze_at
            self.thawed_at = self.world.now
            self.stir()

    def use_secrets(self, first: bytes | None, *others: bytes) -> None:
        """Have the secrets be these from now on, as when their file is read again."""
        self.secret, self.other_secrets = first, others
        if self.alive and first is not None:
            self.node.membership.use_secrets(first, *others)

    def mishear(self, more: bytes) -> None:
        """Understand more than was said, once, of what a peer says has changed."""
        gate = self.node.gate
        if "changes_arrived" in vars(gate):
            return
        arrived = gate.changes_arrived

        def misheard(peer: Peer, body: bytes) -> None:
            del vars(gate)["changes_arrived"]
            self.world.tell(self.name, f"mishears {peer.node_id}")
            self.misheard_at = self.world.now
            arrived(peer, body + more)

        vars(gate)["changes_arrived"] = misheard

    def leave(self, patience_s: float, gone: Callable[[], None]) -> None:
        """End the process in order, as by SIGTERM: the others are told, and have everything first.

        `gone` is to end it. Who waits for a peer that is not in sync yet does so for that long.
        """
        self.leaving = True
        life, began = self.life, self.world.now
        hindered_at = began

        def ask() -> None:
            nonlocal hindered_at
            now = self.world.now
            patient = now - began < patience_s
            if (self.node.awaited or not self.node.leave()) and patient:
                hindered_at = max(hindered_at, self.thawed_at)
                if self._is_hindered():
                    hindered_at = now
                elif now - hindered_at > 2 * self.node.patience.ack_timeout_s + LEAVE_S:
                    self.complain(f"is about to leave since {hindered_at:.3f}")
                    hindered_at = now
                self.world.after(LEAVE_AGAIN_S, lambda: self.post("leave", ask, life=life))
                return
            # What was said last is sent at the end of this turn.
            self.world.after(LEAVE_AGAIN_S, lambda: gone() if self.life == life else None)

        self.post("leave", ask, life=life)

    def _is_hindered(self) -> bool:
        """Return whether there is a reason for not having left yet."""
        node = self.node
        return (
            node.awaited
            or getattr(getattr(node, "voting", None), "seeking", False)  # others must consent first
            or node.view.ack_mode == "async"
            or any(host.frozen or host.slow_s for host in self.world.hosts.values())
            or any(peer.link and not peer.in_view for peer in node.view.peers.values())
        )

    def run_short(self, records: int) -> None:
        """Have no memory, once, when so many records from others have been applied."""
        assert self.service is not None
        calls = [
            (self.service.cache, "install"),
            (self.node.changes, "apply_gone"),
            (self.node.changes, "apply_flush"),
            (self.node.gate, "execute_for"),
        ]
        left = records

        def limited(call: Callable[..., Any]) -> Callable[..., Any]:
            def apply(*arguments: Any, **more: Any) -> Any:
                nonlocal left
                left -= 1
                if left != -1:
                    return call(*arguments, **more)
                for owner, name in calls:
                    owner.__dict__.pop(name, None)
                self.world.tell(self.name, "has no memory")
                raise OutOfMemory

            return apply

        for owner, name in calls:
            if name not in owner.__dict__:
                owner.__dict__[name] = limited(getattr(owner, name))
        cache = self.service.cache
        overwrite = cache.overwrite

        def overwritten(*arguments: Any) -> bool:
            """Apply a record, be it so that `install` need not."""
            nonlocal left
            if left and "install" in cache.__dict__:
                done = overwrite(*arguments)
                left -= done
                return done
            return False  # `install` tells

        if "overwrite" not in cache.__dict__:
            cache.__dict__["overwrite"] = overwritten

    def run_short_executing(self, commands: int) -> None:
        """Have no memory, once, when so many times commands of others have been executed."""
        gate, left = self.node.gate, commands
        execute = gate._execute

        def limited(protocol: str, commands: Any) -> Any:
            nonlocal left
            left -= 1
            reply = execute(protocol, commands)
            if left == -1:
                gate._execute = execute
                self.world.tell(self.name, "has no memory for a reply")
                raise OutOfMemory
            return reply

        gate._execute = limited

    def run_short_sending(self, lines: int) -> None:
        """Have no memory, once, for one of the next lines that make a message."""
        self._short_lines = lines

    def short(self) -> AbstractContextManager[None]:
        """Do something, perhaps without memory."""
        return _ENOUGH if self._short_lines is None else self._short()

    @contextmanager
    def _short(self) -> Iterator[None]:
        assert self._short_lines is not None
        with shortage(self._short_lines, OutOfMemory()) as happened:
            try:
                yield
            finally:
                if happened:
                    self._short_lines = None
                    self.sent_short += 1
                    self.world.tell(self.name, f"has no memory: {happened[0]}")

    def _say(self, line: str) -> None:
        self.log.append((self.world.now, line))
        self.world.tell(self.name, f"log: {line}")

    def heard(self, end: End, answered_at: float) -> None:
        """Note that something from another host is being handled, and what it had heard of us."""
        who = (end.host.name, end.life)
        self._heard_now[who] = self.waking_s
        self._answered_now[who] = max(answered_at, self.answered_at.get(who, -_EVER))

    def _watch_leases(self, gate: Gate) -> None:
        """See to it that nobody goes on too soon who waits for a lease."""
        wait_open, resume_waiting = gate.wait_open, gate.resume_waiting
        since: dict[Any, float] = {}

        def wait(waiter: Any) -> None:
            since.setdefault(waiter, self.waking_s)
            wait_open(waiter)

        def resume(*up_to: float) -> None:
            before = [waiter for _, waiter in gate.waiting]
            resume_waiting(*up_to)
            for waiter in before[: len(before) - len(gate.waiting)]:
                self._check_lease(since.pop(waiter, -_EVER))

        vars(gate).update(wait_open=wait, resume_waiting=resume)

    def _check_lease(self, since: float) -> None:
        """See whether may be executed now what has waited since then, on the waking clock.

        There is a lease, or each on whom that depends has heard of this server since then.
        """
        if self.clock.monotonic() < self.node.gate.open_until or not self.history:
            return
        then = self.history[-1]
        if then.role != self.node.role or then.epoch != self.node.view.epoch:
            return
        depends_on = {"coordinator": then.partners, "follower": (then.coordinator,)}
        for name in depends_on.get(then.role, ()):
            times = [at for (other, _), at in self._known_to.items() if other == name]
            answered_at = max(times, default=-_EVER)
            if answered_at < since:
                self.complain(
                    f"has no lease, and goes on with what was asked at {since:.6f}: {name} is known"
                    f" to have heard what it said at {answered_at:.6f}"
                )

    def last_word_of(self, end: End) -> float:
        """Return when another host said the latest that came here, on its waking clock."""
        return self._came.get((end.host.name, end.life), -_EVER)

    def hear(self, end: End, said_at: float, heard_of_us: float) -> None:
        """Note that what another host said then comes here, and what it had heard of this one."""
        who = (end.host.name, end.life)
        self._came[who] = max(said_at, self._came.get(who, -_EVER))
        self._known_to[who] = max(heard_of_us, self._known_to.get(who, -_EVER))

    def note_words(self, end: End, said_at: float, *, is_status: bool) -> None:
        """Note that what another host said then is heard; `is_status`: and what it says it is."""
        who = (end.host.name, end.life)
        last = self._words.get(who, -_EVER)
        # Nodes of the last release know of no late words: they go by what came last.
        if is_status and said_at < last - LATE_S and self.release is TODAY:
            self.complain(
                f"goes by what {end.host.name} said at {said_at:.3f}, and has heard it since:"
                f" {last:.3f}"
            )
        self._words[who] = max(said_at, last)

    def complain(self, what: str) -> None:
        """Note what it did that nobody may do."""
        self.complaints.append(f"{self.world.now:.6f}: {self.name}: {what}")

    @property
    def waking_s(self) -> float:
        """Seconds of the world in which this host did not stand still."""
        return self.world.now - self._stood_still_s

    # -- turns -----------------------------------------------------------------------------------

    def post(
        self, channel: object, call: Callable[..., None] | None, *arguments: Any, life: int
    ) -> None:
        """Have something handled in the next turn, after what came before on that channel.

        None: there is room again, and the end of the turn sends.
        """
        if not self.alive or life != self.life:
            return
        queue = self._inbox.get(channel)
        if queue is None:
            queue = self._inbox[channel] = deque()
        queue.append((call, arguments))
        self.stir()

    def stir(self) -> None:
        """Have a turn soon."""
        if not self._turn_due and self.alive and not self.frozen:
            self._turn_due = True
            world = self.world
            begin = max(self._busy_until, world.now)
            world.at(begin + world.draw() * TURN_S, self._turn, self.life)

    def _wake_node(self) -> None:
        self._node_woken = True
        self.stir()

    def _call_later(self, delay_s: float, call: Callable[[], None]) -> None:
        life = self.life
        self.world.after(delay_s, lambda: self.post(call, call, life=life))

    def _timer(self, life: int, at: float) -> None:
        if life == self.life and at == self._timer_at:
            self._timer_at = _EVER
            self.post("timer", self._step_if_due, life=life)

    def _step_if_due(self) -> None:
        if self.world.now >= self._step_at:
            self._step()

    def _step(self) -> None:
        self._node_woken = False
        try:
            with self.short():
                delay_s = self.node.step()
        except OutOfMemory:  # as `server.peering` does with what it did not expect
            delay_s = STEP_AGAIN_S
        self.node.check()
        self._step_at = self.world.now + self.clock.world_seconds(delay_s)

    def _turn(self, life: int) -> None:
        self._turn_due = False
        if life != self.life or not self.alive or self.frozen:
            if self.alive and not self.frozen:
                self.stir()
            return
        world = self.world
        service = self.service
        assert service is not None
        if self.slow_s:
            self._busy_until = world.now + world.random.random() * self.slow_s
        if not self._node_woken and not self.woken and self._is_only_room():
            self._inbox.clear()
            self._send(max(0.0, self._busy_until - world.now))
            return
        service.tick()
        if self._heard_now:
            self.heard_at.update(self._heard_now)
            self._heard_now.clear()
            self.answered_at.update(self._answered_now)
        if self._inbox:
            inbox, self._inbox = self._inbox, {}
            queues = list(inbox.values())
            while len(queues) > 1:
                index = world.random.randrange(len(queues))
                queue = queues[index]
                call, arguments = queue.popleft()
                if not queue:
                    queues[index] = queues[-1]
                    queues.pop()
                if call is not None:
                    call(*arguments)
            for call, arguments in queues[0]:
                if call is not None:
                    call(*arguments)
        woken = self.woken
        for _ in range(100):
            if self._node_woken:
                self._step()
            while woken:
                visit = next(iter(woken))
                del woken[visit]
                visit.pump()
            news = self.node.gate.has_news
            try:
                with self.short():
                    self.node.gate.send_batch()
            except OutOfMemory:
                self._say("out of memory")
            if news:
                self.node.check()
            if not woken and not self._node_woken:
                break
        else:
            raise AssertionError(f"{self.name} never comes to rest")
        self._send(max(0.0, self._busy_until - world.now))
        if self._step_at < self._timer_at:
            self._timer_at = max(self._step_at, world.now)
            world.at(self._timer_at, self._timer, life, self._timer_at)
        self._note()
        world.observe(self)

    def _is_only_room(self) -> bool:
        """Return whether nothing came, but for word that a wire has room: so it is every fourth
        turn, and it need not be like the others.
        """
        if len(self._inbox) != 1:
            return False
        (queue,) = self._inbox.values()
        return all(call is None for call, _ in queue)

    def _send(self, delay_s: float) -> None:
        window_bytes = self.world.window_bytes
        closed = False
        for end in self._ends:
            link = end.link
            assert link is not None
            if link.output and end.under_way_bytes <= window_bytes:
                end.send(b"".join(link.take_output()), delay_s=delay_s)
            if link.closed:
                closed = end.gone = True
                end.wire.finish(end)
        if closed:
            self._keep([end for end in self._ends if not end.gone])

    def _push(self, end: End) -> None:
        """Send what is to be sent, before this turn ends. Called from within the core."""
        if not end.gone and end.link is not None:
            output = end.link.take_output()
            if output and end.under_way_bytes <= self.world.window_bytes:
                end.send(b"".join(output))
            else:
                end.link.output[:0] = output

    def wire_to(self, other: str) -> Wire | None:
        """Return the connection by which a node is linked to us, as far as we know."""
        peer = self.node.view.peers.get(other)
        link = None if peer is None else peer.link
        return next((end.wire for end in self._ends if link and end.link is link), None)

    def forget(self, end: End) -> None:
        """Drop an end that is gone."""
        self._keep([other for other in self._ends if other is not end])

    def _keep(self, ends: list[End]) -> None:
        self._ends = ends
        self._dialled = {end.dialled for end in ends}

    def seconds_left(self, expires_at: int) -> float:
        """Return what remains of an item, not rounded as the server sees it."""
        assert self.service is not None
        cache = self.service.cache
        shown = cache.seconds_of(self.clock.monotonic())
        return expires_at - shown

    def _housekeeping(self, life: int) -> None:
        """Reclaim what is dead, now and then, as the server's own chores do."""
        if life == self.life and self.alive:
            self.post("chores", self._reclaim, life=life)
            self.world.after(1.0, self._housekeeping, life)

    def _reclaim(self) -> None:
        assert self.service is not None
        self.service.maintainer.step()

    def _note(self) -> None:
        node = self.node
        if self.alive:
            # Most of the time there is nothing new, and it is cheap to see that.
            view = node.view
            # Who knows that he was left behind is in no view, whatever the others will say of it.
            # Nodes of the last release do not know.
            is_behind = getattr(node, "is_behind", False)
            role = "joining" if view.role.in_sync and is_behind else view.role
            about = node.ready, view.role.in_sync
            seen = (self.life, role, view.epoch, view.coordinator, view.members, *about)
            if seen == self._noted:
                return
            self._noted = (*seen[:4], list(view.members), *about)
            now = Observation(
                self.world.now,
                self.life,
                role,
                view.epoch,
                view.coordinator,
                tuple(sorted(set(view.members) - {self.name})),
                *about,
            )
        else:
            self._noted = ()
            now = Observation(self.world.now, self.life, "dead", 0, "-", (), ready=False)
        if not self.history or self.history[-1][1:] != now[1:]:
            self.history.append(now)
            self.world.tell(
                self.name,
                f"is {now.role} epoch {now.epoch} of {now.coordinator} with {now.partners}",
            )

    # -- links -----------------------------------------------------------------------------------

    def _dial(self, target: str, life: int, backoff_s: float) -> None:
        """Dial a peer for ever, as the server does."""
        if life != self.life or not self.alive:
            return
        world = self.world
        if self.frozen:
            world.after(DIAL_LOOK_S, self._dial, target, life, backoff_s)
        elif self._has_dialled(target) or not self.node.membership.should_dial(target):
            # A link that is lost is dialled again at once.
            world.after(DIAL_LOOK_S * world.draw(), self._dial, target, life, backoff_s)
        else:
            again_s = min(2 * backoff_s, BACKOFF_MAX_S)
            other = world.hosts[target.partition(":")[0]]
            if world.blocked(self.name, other.name) or world.blocked(other.name, self.name):
                wait_s = DIAL_TIMEOUT_S * world.random.random() + backoff_s
                world.after(wait_s, self._dial, target, life, again_s)
            elif not other.alive:
                wait_s = backoff_s * (1 - world.random.random() / 2)
                world.after(wait_s, self._dial, target, life, again_s)
            else:
                world.after(2 * world.delay(), self._connect, target, life)
                wait_s = backoff_s * (1 - world.random.random() / 2) + DIAL_LOOK_S
                world.after(wait_s, self._dial, target, life, BACKOFF_MIN_S)

    def _has_dialled(self, target: str) -> bool:
        """Return whether there is a link that was dialled, and is not doubted."""
        if target not in self._dialled:
            return False
        # Nodes of the last release doubt nothing.
        if getattr(self.node.membership, "doubted", "") != target:
            return True
        links = [end.link for end in self._ends if end.dialled == target]
        return any(link is None or not link.proven for link in links)

    def dial_again(self, target: str) -> Wire | None:
        """Dial a peer once more; return the connection, if there is anybody."""
        return self._connect(target, self.life)

    def _connect(self, target: str, life: int) -> Wire | None:
        other = self.world.hosts[target.partition(":")[0]]
        if life != self.life or not self.alive or not other.alive:
            return None
        wire = Wire(self.world, self, other)
        caller, callee = wire.ends
        self.post(caller, self._open, caller, target, life=life)
        other.post(callee, other._open, callee, None, life=other.life)
        return wire

    def _open(self, end: End, dialled: str | None) -> None:
        if end.wire.dead or end.gone:
            return
        if dialled is None and not self.node.membership.may_accept():
            end.gone = True
            end.wire.finish(end)
            return
        end.dialled = dialled
        end.link = self.node.membership.open_link(dialled=dialled, address=end.other.host.name)
        if self.world.pushing:
            end.link.push = lambda: self._push(end)
        self.node.check()
        self._keep([*self._ends, end])

    # -- clients -----------------------------------------------------------------------------------

    def connect(self, send: Callable[[bytes], None]) -> Visit | None:
        """Return a client's new connection; None: it is refused."""
        if not self.listening:
            return None
        self.visits += 1
        return Visit(self, self.visits, send)
