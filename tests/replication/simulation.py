"""Whole runs of a group of servers in a bad world, each from one number.

`run(seed)` draws a world, its troubles and its clients from the seed, lets them go at each other
for a few virtual seconds, heals everything, and has the checkers judge. The same seed is the same
run, to the bit.

    python -m tests.replication.simulation --seeds 0:2000 --jobs 2
    python -m tests.replication.simulation --seed 1234 -v

`--with NAME,NAME` adds troubles, conditions and checks to every world, those of here or of
`simulation_troubles`, and `--nodes 3` a third node. What a seed is replayed with must be what it
was found with.
"""

from __future__ import annotations

import argparse
import gc
import multiprocessing
import random
import sys
import time
import traceback
from collections import Counter
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from math import inf
from typing import TYPE_CHECKING, Any, Final

from pymcd.auth import Authenticator, Users
from pymcd.config import Settings
from pymcd.replication import frames
from pymcd.replication.lease import SILENCE_S

from . import checkers, simulation_troubles, world_etcd, world_witness
from .releases import TODAY
from .simulation_clients import PASSWORD, USER, Client, Garbled, Login, Speech
from .watch import Reach, Watch
from .world import (
    Host,
    HostClock,
    Observation,
    OutOfMemory,
    World,
    constants,
    independent_of_hash_seed,
)
from .world_etcd import EtcdHost
from .world_witness import WitnessHost

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from .linearizability import Operation
    from .world import Wire

SECRET: Final = b"the secret of the simulation"
#: Troubles that come again and again, with the seconds between two of them when they are common.
TROUBLES: Final = {
    "cut": 1.0,  #: a link is lost; one side may learn it later than the other
    "cut_silently": 2.0,  #: a link is lost, and nobody is told
    "delay": 1.0,  #: the network is slow for a while
    "stall": 1.0,  #: nothing passes in one direction for a while
    "partition": 1.5,  #: nothing passes in either direction for a while
    "freeze": 1.5,  #: a process stands still for a while
    "slow_node": 1.5,  #: a process does everything slowly for a while
    "kill": 2.0,  #: kill -9, started again soon, empty
    "host_death": 2.0,  #: first its links fail, a moment later the process is gone
    "stranger": 2.0,  #: somebody sends garbage, or what he overheard, to the replication port
}
#: The same in worlds that have it at all, one of so many.
ESTRANGED_WORLDS: Final = 12
ESTRANGE_EVERY_S: Final = (
    3.0  #: a process is killed, and comes back with another secret for a while
)
#: What is so, or not, for a whole run.
CONDITIONS: Final = (
    "three_nodes",
    "one_dials",
    "skew",
    "skew_beyond",
    "small_memory",
    "slow_clients",
    "small_backlog",
    "small_queue",
    "small_window",
    "many_pieces",
    "far_apart",
    "flushing",
    "async",
    "strict",
)
#: Of these a world has one, or none: how its clients have to log in.
LOGINS: Final = ("sasl", "text_login")
#: What is done and said about that, counted.
LOGIN_TROUBLES: Final = (
    "logins",
    "relogins",  #: by somebody who is in
    "strangers_again",  #: who asks for the ways to log in has to do so anew
    "failed_logins",
    "commands_of_strangers",  #: said before the login; nobody may have executed them
)
#: What may be asked for: this, and what `simulation_troubles` has.
NAMES: Final = frozenset(
    {*TROUBLES, "estrange", *CONDITIONS, *LOGINS, *simulation_troubles.names()}
)
_MORE_CONDITIONS: Final = simulation_troubles.CONDITIONS
_AWAITED: Final = simulation_troubles.AWAITED
#: Everything comes to rest within this, after all troubles have ended.
SETTLE_S: Final = 25.0
#: What a client may wait beyond the time-outs, because of its own network and host.
PATIENCE_S: Final = 0.1
#: So many times as much is said in a busy world.
BUSY: Final = 4
#: Clocks drift, and a turn takes its time.
LEASE_TOLERANCE_S: Final = 0.001


@dataclass
class Report:
    """What became of one run."""

    seed: int
    found: list[str] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)
    #: Keys whose search was given up.
    undecided: list[bytes] = field(default_factory=list)
    in_sync_s: float = 0.0
    virtual_s: float = 0.0
    waits: list[float] = field(default_factory=list)
    trace: list[str] = field(default_factory=list)


class Simulation:
    """One run."""

    def __init__(
        self,
        seed: int,
        *,
        more: frozenset[str] = frozenset(),
        nodes: int | None = None,
        verbose: bool = False,
    ) -> None:
        """`more`: of `NAMES`, what this world has in any case."""
        independent_of_hash_seed()
        self.seed = seed
        self._streams: dict[str, random.Random] = {}
        self._nodes = nodes
        self.world = World(seed)
        self.world.verbose = verbose
        self.random = self.world.random
        #: A stream of its own: who has to log in decides nothing else of what a world begins with.
        self._login_random = self.stream("logins")
        self.report = Report(seed)
        self.more = self._draw_more(more)
        self.history: list[Operation] = []
        self.conditions = self._draw_conditions()
        self.ending = False
        self._open_troubles: list[Callable[[], None]] = []
        self.excused: dict[str, list[tuple[float, float]]] = {}
        #: When perhaps not all who vote were within reach, though nothing else went wrong.
        self.unwitnessed: list[tuple[float, float]] = []
        #: When the network was slower than usual, and by how much.
        self.slow: list[tuple[float, float, float]] = []
        #: By how much all words of a new link were late, at most.
        self.late_words_s = 0.0
        #: By host and other: when it began to be linked by that, or not to be.
        self._linked: dict[tuple[str, str], list[tuple[float, Wire | None]]] = {}
        self.witness: WitnessHost | EtcdHost | None = None
        self.hosts = self._build_hosts()
        self.lossy = "small_memory" in self.conditions
        keys = 8 if self.lossy else self.random.randrange(2, 7)
        self.speech = Speech(
            self.random,
            keys=5 * keys if "many_keys" in self.more else keys,
            flushing=0.01 if "flushing" in self.conditions else 0.0,
            mortal_random=self.stream("mortal"),
        )
        if self.lossy:
            self.speech.filled = 1.0
            self.speech.value_bytes = (150_000, 170_000)  # five of these fill a slab page
        elif self.random.random() < 0.2:
            self.speech.value_bytes = (10, 5_000)
        self._speak_more()
        self.clients = self._build_clients()
        self.overheard: list[bytes] = []
        witness = self.witness if isinstance(self.witness, WitnessHost) else None
        self.reach = Reach(self.world, self.hosts, self._in_time_s, witness)
        self.watch = Watch(self.world, self.hosts, self.more, self._most_at_once())
        if {"many_keys", "steps"} <= self.more and not self.lossy:
            for host in self.hosts:
                host.counted = self._most_at_once()
        self.world.observe = self._observe

    secret: Final = SECRET

    @property
    def _in_time_s(self) -> float:
        """Who takes so much longer than usual to answer may be given up."""
        return self.ack_timeout_s / 2

    @property
    def voting(self) -> bool:
        """Whether nobody goes on without votes."""
        equipped = self.witness is not None and "equipping" not in self.more
        return equipped or len(self.hosts) > 2

    def stream(self, name: str) -> random.Random:
        """Return the source of chance for one thing, which no other depends on."""
        if name not in self._streams:
            self._streams[name] = random.Random(f"{self.seed}/{name}")
        return self._streams[name]

    # -- the cast ------------------------------------------------------------------------------

    def _draw_more(self, wanted: frozenset[str]) -> set[str]:
        """Return what of `simulation_troubles` this world has, and whatever it is to have."""
        more = set(wanted)
        chances = {
            name: each.chance
            for table in (simulation_troubles.TROUBLES, _MORE_CONDITIONS)
            for name, each in table.items()
        }
        for name, chance in chances.items():
            # Drawn in any case: what is wanted comes as it does in a world that has it by chance.
            if self.stream(name).random() < chance and name not in _AWAITED:
                more.add(name)
        more.update(name for name in simulation_troubles.CHECKS if name not in _AWAITED)
        if more & {"large_values", "hot_keys"}:  # these would be under way for seconds
            more -= {"tiny_parts", "tiny_chunks"}
        for name in sorted(more & _MORE_CONDITIONS.keys()):
            self.report.counts[name] += 1
        return more

    def _speak_more(self) -> None:
        """Have clients say what conditions of `simulation_troubles` ask for."""
        speech, more = self.speech, self.more
        if self.lossy:
            return
        if "large_values" in more:
            speech.filled, speech.value_bytes = 0.1, (60_000, 1_000_000)
        elif more & {"item_sizes", "tiny_chunks"}:
            speech.filled, speech.value_bytes = 0.5, (10, 5_000)
        if "item_sizes" in more:
            speech.item_bytes = min(host.settings.item_size_max_bytes for host in self.hosts)
        if "hot_keys" in more:
            del speech.keys[self.stream("hot_keys").choice((1, 1, 2)) :]
            speech.own_cas = 0.5
        if "deletions" in more:
            speech.deleting_random = self.stream("deletions")
        if "several" in more:
            speech.several_random = self.stream("several")
        if "own_cas" in more:
            speech.own_cas = 1.0
        if "delayed_flushes" in more:
            speech.flushing = max(speech.flushing, 0.02)
            speech.delayed_random = self.stream("delayed_flushes")

    def _most_at_once(self) -> int:
        """Return how many bytes of changes all clients together can ask for at once."""
        return len(self.clients) * 7 * (self.speech.value_bytes_max + 150)

    @property
    def _is_large(self) -> bool:
        """Whether a value may take several round trips to the other side, whoever waits for it."""
        largest_bytes = self.speech.value_bytes_max
        return "large_values" in self.more or largest_bytes > frames.PARTS_WINDOW_BYTES

    def _draw_conditions(self) -> set[str]:
        chances = dict.fromkeys(CONDITIONS, 0.12)
        chances.update(skew=0.4, small_memory=0.06, skew_beyond=0.02, flushing=0.3, many_pieces=0.2)
        chances.update({"async": 0.04, "strict": 0.04})
        conditions = {name for name, chance in chances.items() if self.random.random() < chance}
        asked = self.more.intersection(CONDITIONS)
        conditions |= asked
        if "async" in conditions:
            conditions.discard("async" if "strict" in asked else "strict")
        if self._nodes is not None:
            conditions.discard("three_nodes")
            if self._nodes == 3:
                conditions.add("three_nodes")
        if "witness" in self.more or "three_nodes" in conditions:
            conditions.discard("skew_beyond")  # who never links cannot begin
        logins = self.more.intersection(LOGINS)
        if self._login_random.random() < 0.5:
            logins = logins or {self._login_random.choice(LOGINS)}
        conditions |= logins
        for name in sorted(conditions):
            self.report.counts[name] += 1
        return conditions

    def _build_hosts(self) -> list[Host]:
        random_, conditions, world = self.random, self.conditions, self.world
        names = ["a", "b", "c"] if "three_nodes" in conditions else ["a", "b"]
        if "far_apart" in conditions:
            world.latency_s, world.jitter_s = 0.004, 0.003
        world.pushing = "pushes" in self.more
        if "many_pieces" in conditions:
            world.splitting = 0.9
        if "small_window" in conditions:
            world.window_bytes = 3_000
        self.ack_timeout_s = random_.choice((0.08, 0.08, 0.08, 0.2))
        if "other_ack_timeout" in self.more:
            self.ack_timeout_s = self.stream("other_ack_timeout").choice((0.03, 0.5, 1.0, 5.0))
        hosts = []
        access = self._access()
        for number, name in enumerate(names):
            dials = [f"{other}:11212" for other in names if other != name]
            peers = tuple(dials)
            if "unnamed" in self.more and len(names) == 2 and "witness" not in self.more:
                if number:
                    peers, dials = (), []
            elif "one_dials" in conditions:  # as with a firewall between
                dials = [f"{other}:11212" for other in names[:number]]
            skew_s = 0.0
            if "skew" in conditions:
                skew_s = random_.uniform(-5.0, 5.0)
            if "skew_beyond" in conditions and number:
                skew_s = 100.0
            settings = Settings(
                peers=tuple(f"127.0.0.1:{11300 + ord(each[0])}" for each in peers),
                replication_listen=("127.0.0.1:11212",),
                replication_ack=self._ack_mode(number),
                replication_queue=(
                    8 if "small_queue" in conditions or "tiny_queues" in self.more else 1 << 16
                ),
                replication_backlog_bytes=(
                    0
                    if "no_backlog" in self.more
                    else 1200
                    if "tiny_log" in self.more
                    else 4000
                    if "small_backlog" in conditions
                    else 1 << 20
                ),
                **self._item_size(),
                **self._timeouts(number, len(names), sync_timeout_s=random_.choice((1.0, 3.0))),
                memory_limit_bytes=64 << 20,
                **access,
            )
            object.__setattr__(settings, "peers", peers)
            hosts.append(
                Host(
                    world,
                    name,
                    settings,
                    HostClock(world, skew_s=skew_s, drift=random_.uniform(-1e-4, 1e-4)),
                    dials=dials,
                    secret=SECRET,
                    memory_pages=1 if "small_memory" in conditions and number else None,
                    authenticator=self._authenticator() if access else None,
                )
            )
        if "witness" in self.more:
            self.witness = self._build_witness(hosts)
        return hosts

    def _timeouts(self, number: int, nodes: int, *, sync_timeout_s: float) -> dict[str, Any]:
        """Return the settings of a server by which it waits for others."""
        timeouts = {
            "replication_ack_timeout_s": self.ack_timeout_s,
            "sync_timeout_s": sync_timeout_s,
        }
        if "unlike_timeouts" in self.more:
            unlike = random.Random(f"{self.seed}/unlike_timeouts")  # the same for each server
            shares = [1.0, *(unlike.choice((0.25, 0.5, 1.0)) for _ in range(nodes - 1))]
            unlike.shuffle(shares)
            timeouts["replication_ack_timeout_s"] *= shares[number]
        if "short_tombstones" in self.more:
            ttl = random.Random(f"{self.seed}/short_tombstones")
            timeouts["tombstone_ttl_s"] = ttl.choice((0.001, 0.1, 1.0))
        if "long_quorum" in self.more:
            timeouts["quorum_timeout_s"] = 4.0
        if "short_sync" in self.more:
            short = random.Random(f"{self.seed}/short_sync")
            timeouts["sync_timeout_s"] = short.choice((0.0, 0.1, 0.3))
        if "short_quorum" in self.more:
            short = random.Random(f"{self.seed}/short_quorum")
            timeouts["quorum_timeout_s"] = short.choice((0.0, 0.1, 0.3))
        if "long_sync" in self.more:
            timeouts["sync_timeout_s"] = 10.0
        return timeouts

    def _ack_mode(self, number: int) -> Any:
        """Return how a server waits for others before it answers."""
        other = random.Random(f"{self.seed}/other_acks").randrange(2)
        if "other_acks" in self.more and number == other:
            return "strict" if self._ack == "semi" else "semi"
        return self._ack

    @property
    def _ack(self) -> str:
        modes = [mode for mode in ("async", "strict") if mode in self.conditions]
        return modes[0] if modes else "semi"

    def _build_witness(self, hosts: list[Host]) -> WitnessHost | EtcdHost:
        """Return a witness of these."""
        if "equipping" not in self.more:
            for host in hosts:
                self.equip(host)
        if "etcd" in self.more:
            etcd = EtcdHost(self.world)
            for host in hosts:
                host.courier_for = etcd.courier_for
            return etcd
        random_ = self.stream("witness")
        return WitnessHost(
            self.world,
            Settings(replication_listen=("127.0.0.1:11212",)),
            HostClock(self.world, skew_s=random_.uniform(-1e6, 1e6), drift=0.0),
            secret=SECRET,
            disk=random_.random() < 0.5,
        )

    def equip(self, host: Host) -> None:
        """Have a server know of the witness from its next start on."""
        if "etcd" in self.more:
            object.__setattr__(host.settings, "witness", world_etcd.URL)
            return
        object.__setattr__(host.settings, "witness", world_witness.ADDRESS)
        host.dials.append(world_witness.ADDRESS)

    def _item_size(self) -> dict[str, Any]:
        """Return the settings of a server by which it may differ from others in what it stores."""
        if "item_sizes" not in self.more or "small_memory" in self.conditions:
            return {"slab_chunk_max_bytes": 1 << 10} if "tiny_chunks" in self.more else {}
        size = self.stream("item_sizes").choice((2 << 10, 4 << 10, 1 << 20))
        return {"item_size_max_bytes": size, "slab_chunk_max_bytes": min(size // 2, 512 << 10)}

    def _access(self) -> dict[str, Any]:
        """Return the settings of servers that ask for a login, in worlds where they do."""
        if self.conditions.isdisjoint(LOGINS):
            return {}
        delay_s = self._login_random.choice((0.0, 0.03))
        if "sasl" in self.conditions:
            return {
                "enable_sasl": True, "protocol": "binary", "login_failure_delay_s": delay_s,
            }  # fmt: skip
        return {"auth_file": "users", "protocol": "ascii", "login_failure_delay_s": delay_s}

    def _authenticator(self) -> Authenticator:
        users = Users([(USER, PASSWORD)])
        return Authenticator(lambda: users, make_nonce=lambda: "", secret=b"")

    def _protocol(self, chosen: str) -> str:
        """Return what a client can speak that would speak `chosen` where nobody logs in."""
        if "sasl" in self.conditions:
            return "binary"
        if "text_login" in self.conditions and chosen == "binary":
            return self._login_random.choice(("text", "meta"))
        return chosen

    def _login(self) -> Login | None:
        for way in self.conditions.intersection(LOGINS):
            return Login(way, self._login_random, self.report.counts)
        return None

    def _build_clients(self) -> list[Client]:
        random_ = self.random
        clients = []
        for number in range(random_.randrange(3, 7)):
            hosts = list(self.hosts)
            random_.shuffle(hosts)
            client = Client(
                self.world,
                f"c{number}",
                self.speech,
                self._protocol(
                    random_.choice(("text", "text", "meta", "binary"))
                    if "own_cas" not in self.more
                    else ("meta", "text")[number % 2]
                ),
                hosts,
                self.history,
                timeout_s=random_.choice((0.5, 1.0)),
                think_s=random_.choice((0.01, 0.03, 0.1)),
                loyal=random_.choice((1.0, 0.9, 0.5)),
                login=self._login(),
            )
            if "slow_clients" in self.conditions:
                client.slow = 0.1
            if "hot_keys" in self.more:
                client.think_s = 0.004
            if "reads" in self.more:
                client.read_bytes = self.stream("reads").choice((50, 500, 1 << 16))
                if self.lossy or "large_values" in self.more:
                    client.read_bytes = 1 << 16
            clients.append(client)
        return clients

    # -- what happens --------------------------------------------------------------------------

    def run(self) -> Report:
        """Let it all happen, then judge."""
        values: dict[str, int] = {}
        for name in sorted(self.more & _MORE_CONDITIONS.keys()):
            if not self.lossy:  # its values are too large for that
                values.update(_MORE_CONDITIONS[name].constants)
        with constants(values):
            return self._run()

    def _run(self) -> Report:
        world, random_ = self.world, self.random
        for host in self.hosts:
            world.after(random_.random() * 0.2, host.start)
        if len(self.hosts) > 2 or isinstance(self.witness, WitnessHost):
            self.reach.look()
        if self.witness is not None:
            world.after(self.stream("witness").random() * 0.2, self.witness.start)
        if self.voting:
            world.run(1.5)  # nobody begins alone: let them find each other
        troubles = [name for name in TROUBLES if random_.random() < 0.3 or name in self.more]
        for name in troubles:
            self._schedule(name, TROUBLES[name] * random_.choice((0.5, 1.0, 2.0)))
        chance = random.Random(f"{self.seed}/estrange").randrange(ESTRANGED_WORLDS)
        if chance == 0 or "estrange" in self.more:
            self._schedule("estrange", ESTRANGE_EVERY_S)
        for name, trouble in simulation_troubles.TROUBLES.items():
            if name in self.more:
                self._schedule_more(name, trouble.every_s * self.stream(name).choice((0.5, 1.0)))
        if "hot_keys" in self.more:
            hot = self.stream("hot_keys")
            for name in hot.sample(("host_death", "freeze", "stall", "delay"), 2):
                self._schedule(name, 0.7)
            self._schedule_more("mute_death", 1.0)
            if hot.random() < 0.5:
                world.latency_s, world.jitter_s = 0.004, 0.003
        budget = random_.randrange(100, 260) * (BUSY if "busy" in self.more else 1)
        for client in self.clients:
            client.go(budget // len(self.clients))
        if random_.random() < 0.7:
            world.run(2.0)  # in most runs the beginning is not all
        self._play()
        self.ending = True
        self._heal()
        self._settle()
        self._recite()
        self._let_arrive()
        self._judge()
        report = self.report
        report.virtual_s = world.now
        report.trace = world.trace
        return report

    def _play(self) -> None:
        end = self.world.now + self.random.uniform(2.0, 6.0)
        while self.world.now < end and not all(client.idle for client in self.clients):
            self.world.run(min(end, self.world.now + 0.5))

    def _schedule(self, name: str, every_s: float) -> None:
        self.world.after(self.random.expovariate(1.0) * every_s, self._trouble, name, every_s)

    def _schedule_more(self, name: str, every_s: float) -> None:
        delay_s = self.stream(name).expovariate(1.0) * every_s
        self.world.after(delay_s, self._trouble_of_more, name, every_s)

    def _trouble_of_more(self, name: str, every_s: float) -> None:
        if not self.ending:
            simulation_troubles.TROUBLES[name].do(self)
            self._schedule_more(name, every_s)

    def _skew_spread_s(self) -> float:
        """Return how far apart the clocks were by which processes began: what they do later is not
        seen in what is written.
        """
        skews = [skew_s for host in self.hosts for skew_s in host.skews_s]
        return max(skews) - min(skews)

    def block(self, name: str, pairs: list[tuple[str, str]], lasts_s: float) -> None:
        """Let nothing pass between these, each in one direction, for a while."""
        self.count(name, " ".join(f"{sender} to {receiver}" for sender, receiver in pairs))
        for pair in pairs:
            self.world.block(*pair)

        def undo() -> None:
            for pair in pairs:
                self.world.unblock(*pair)

        self.until(lasts_s, undo)

    def _trouble(self, name: str, every_s: float) -> None:
        if self.ending:
            return
        getattr(self, f"_{name}")()
        self._schedule(name, every_s)

    def count(self, name: str, what: object = "") -> None:
        """Take note of a trouble that happens."""
        self.report.counts[name] += 1
        self.world.tell("fault", f"{name} {what}")

    def until(self, delay_s: float, undo: Callable[[], None]) -> Callable[[], None]:
        """Have a trouble end after a while, or when all is healed; return what ends it before."""
        done = False

        def once() -> None:
            nonlocal done
            if not done:
                done = True
                undo()

        self._open_troubles.append(once)
        if delay_s != inf:
            self.world.after(delay_s, once)
        return once

    def while_s(self, random_: random.Random) -> float:
        """Return how long a trouble lasts: about as long as time-outs, or very short, or long."""
        scale = random_.choice((0.1, 0.5, 1.0, 1.0, 2.0, 10.0, 20.0))
        return self.ack_timeout_s * scale * random_.uniform(0.5, 1.5)

    def _cut(self) -> None:
        if self.world.wires:
            self.count("cut")
            late_s = self.random.choice((0.0, 0.001, 0.05, 0.5))
            self.random.choice(self.world.wires).cut(late_s=late_s)

    def _cut_silently(self) -> None:
        if self.world.wires:
            self.count("cut_silently")
            self.random.choice(self.world.wires).cut(silent=True)

    def _delay(self) -> None:
        self.count("delay")
        world = self.world
        extra_s = self.ack_timeout_s * self.random.choice((0.1, 0.3, 0.6, 1.2))
        world.latency_s += extra_s
        began = world.now

        def undo() -> None:
            world.latency_s -= extra_s
            self.slow.append((began, world.now + extra_s, extra_s))

        self.until(self.while_s(self.random) * 2, undo)

    def _stall(self) -> None:
        # Of three nodes one is cut off from both others; see `partial_partition`.
        lonely = self.random.choice(self.hosts)
        sends = self.random.random() < 0.5
        pairs = [
            (lonely.name, other.name) if sends else (other.name, lonely.name)
            for other in self.hosts
            if other is not lonely
        ]
        self.block("stall", pairs, self.while_s(self.random))

    def _partition(self) -> None:
        lonely = self.random.choice(self.hosts)
        others = [host for host in self.hosts if host is not lonely]
        self.count("partition", f"{lonely.name} from {others}")
        for other in others:
            self.world.block(lonely.name, other.name)
            self.world.block(other.name, lonely.name)

        def undo() -> None:
            for other in others:
                self.world.unblock(lonely.name, other.name)
                self.world.unblock(other.name, lonely.name)

        self.until(self.while_s(self.random) * 2, undo)

    def _freeze(self) -> None:
        host = self.random.choice(self.hosts)
        if not host.alive or host.frozen:
            return
        self.count("freeze", host.name)
        host.freeze()
        began = self.world.now

        def undo() -> None:
            self.excuse(host, began)
            host.thaw()

        self.until(self.while_s(self.random) * 2, undo)

    def excuse(self, host: Host, began: float) -> None:
        """Note that a host was slow of itself."""
        self.excused.setdefault(host.name, []).append((began, self.world.now + 0.05))

    def _slow_node(self) -> None:
        host = self.random.choice(self.hosts)
        if host.slow_s:
            return
        self.count("slow_node", host.name)
        host.slow_s = self.random.choice((0.003, 0.02, 0.06, 0.15))
        began = self.world.now

        def undo() -> None:
            host.slow_s = 0.0
            for each in self.hosts:
                self.excuse(each, began)

        self.until(self.while_s(self.random) * 4, undo)

    def die(self, host: Host, *, silent: bool) -> None:
        """Let a process die, or its host with it."""
        if not host.alive:
            return
        host.stop(silent=silent)
        for client in self.clients:
            client.server_died(host, silent=silent)

    def _spare(self) -> Host | None:
        """Return a living host to be killed."""
        host = self.random.choice(self.hosts)
        return host if host.alive else None

    def _kill(self) -> None:
        host = self._spare()
        if host is None:
            return
        self.count("kill", host.name)
        began = self.world.now
        self.die(host, silent=False)

        def undo() -> None:
            self.excuse(host, began)
            if not host.alive:
                host.start()

        self.until(self.while_s(self.random) * 2, undo)

    def _estrange(self) -> None:
        host = self._spare()
        if host is None or host.estranged:
            return
        self.count("estrange", host.name)
        began = self.world.now
        self.die(host, silent=False)
        before, host.secret, host.estranged = host.secret, b"another one", True
        host.start()

        def undo() -> None:
            self.die(host, silent=False)
            host.secret, host.estranged = before, False
            self.excuse(host, began)
            host.start()

        self.until(self.random.uniform(0.5, 5.0), undo)

    def _host_death(self) -> None:
        host = self._spare()
        if host is None or not host.connected:
            return
        self.count("host_death", host.name)
        began = self.world.now
        others = [other for other in self.hosts if other is not host]
        tell_first = self.random.random() < 0.5
        if tell_first:  # its links are reset, as a switch or a kernel going down may do
            for wire in list(self.world.wires):
                if any(end.host is host for end in wire.ends):
                    wire.cut(late_s=0.01)
        for other in others:
            self.world.block(host.name, other.name)
            self.world.block(other.name, host.name)
        life = host.life

        def die() -> None:
            if host.life == life:
                host.connected = False
                self.die(host, silent=True)

        def undo() -> None:
            for other in others:
                self.world.unblock(host.name, other.name)
                self.world.unblock(other.name, host.name)
            self.excuse(host, began)
            if host.life == life:
                die()
            host.connected = True
            if not host.alive:
                host.start()

        delay_s = self.ack_timeout_s * self.random.uniform(0.0, 1.0)
        self.world.after(delay_s, die)
        self.until(delay_s + self.while_s(self.random) * 2, undo)

    def _stranger(self) -> None:
        """Somebody without the secret, who may have listened, talks to a replication port."""
        host = self.random.choice(self.hosts)
        if not host.alive or host.frozen:
            return
        self.count("stranger", host.name)
        kind = self.random.randrange(3)
        if kind == 0:
            words = self.random.randbytes(self.random.randrange(1, 300))
        elif kind == 1 and self.overheard:
            words = self.random.choice(self.overheard)
        else:
            words = b""

        def talk() -> None:
            if not host.node.membership.may_accept():
                return
            link = host.node.membership.open_link(dialled=None, address="stranger")
            said = b"".join(link.take_output())
            self.overheard.append(said)
            if words:
                link.receive(words)
            if len(self.overheard) > 20:
                del self.overheard[0]
            if any(piece for piece in link.take_output() if b"VALUE" in piece):
                self.report.found.append("a stranger reads")
            if self.random.random() < 0.5:
                link.disconnected()

        host.post("stranger", talk, life=host.life)

    # -- the end -------------------------------------------------------------------------------

    def _heal(self) -> None:
        for undo in self._open_troubles:
            undo()
        for host in self.hosts:
            if abs(host.clock.skew_s) > simulation_troubles.SKEW_THAT_LINKS_S / 2:
                host.clock.step(-host.clock.skew_s)  # somebody sets it right
        for each in (*self.hosts, *([self.witness] if self.witness is not None else [])):
            if not each.alive:
                each.start()

    def _at_rest(self) -> bool:
        if not all(client.idle for client in self.clients):
            return False
        if any(host.leaving or _is_parting(host) for host in self.hosts):
            return False
        state = checkers.Timeline(self.hosts).at(self.world.now)
        return (
            all(host.node.ready for host in self.hosts)
            and all(
                len(checkers.group_of(host.name, state)) == len(self.hosts) for host in self.hosts
            )
            and checkers.are_linked(self.hosts, self._in_time_s)
        )

    def _settle(self) -> None:
        """Let all be in sync, and stay so."""
        world = self.world
        for client in self.clients:
            client.left = min(client.left, 5)
        end = world.now + SETTLE_S
        while world.now < end:
            world.run(world.now + 0.25)
            if self._at_rest():
                world.run(world.now + 0.5)
                if self._at_rest():
                    return
        roles = {host.name: host.history[-1] for host in self.hosts}
        busy = [client.name for client in self.clients if not client.idle]
        self.report.found.append(f"does not come to rest: {roles}, clients {busy}")

    def _recite(self) -> None:
        """Read every key from every node."""
        if self.report.found:
            return
        reader = Client(
            self.world, "final", self.speech, self._protocol("meta"), self.hosts, self.history,
            timeout_s=1.0, think_s=0.001, loyal=1.0, login=self._login(),
        )  # fmt: skip
        for host in self.hosts:
            if "skew_beyond" in self.conditions and not host.node.ready:
                continue
            reader.recite(host, self.speech.read_all(reader.protocol))
            end = self.world.now + 5.0
            while not reader.idle and self.world.now < end:
                self.world.run(self.world.now + 0.1)
            if not reader.idle:
                self.report.found.append(f"{host.name} does not answer at the end")
                return

    def _let_arrive(self) -> None:
        """Wait for what is under way: an item may have ended just now, or a vote been told.

        Or a node been lost meanwhile, for want of memory: then it is to come back.
        """
        if not self.report.found and not self._at_rest():
            self._settle()
        end = self.world.now + 1.0
        while self.world.now < end and checkers.is_under_way(self.hosts):
            self.world.run(self.world.now + 0.01)

    def _judge(self) -> None:
        report = self.report
        hosts, history = self.hosts, self.history
        timeline = checkers.Timeline(hosts)
        voting = self.voting
        modes = {host.settings.replication_ack for host in hosts}
        strict = modes == {"strict"} and len(hosts) == 2
        eras = checkers.divide(timeline, self.world.now + 1.0, voting=voting, strict=strict)
        report.in_sync_s = eras.in_sync_s
        counts = report.counts
        counts["splits"] += eras.splits
        counts["data_deaths"] += len(eras.deaths)
        counts["operations"] += len(history)
        counts["answered"] += sum(each.returned_at is not None for each in history)
        counts["refusals"] += sum(client.refusals for client in self.clients)
        counts["timeouts"] += sum(client.timeouts for client in self.clients)
        for host in hosts:
            node = host.node
            rows = dict(node.rows())
            for name in (
                "full_resyncs",
                "partial_resyncs",
                "forwards_sent",
                "stale_frames",
                "reconnects",
                "degraded_count",
                "unprotected_writes",
            ):
                counts[name] += int(rows[name])
            counts["conflicts"] += node.changes.conflicts
            counts["evictions"] += len(host.evicted)
            counts["messages_not_made"] += host.sent_short
        report.waits = [
            each.returned_at - each.invoked_at for each in history if each.returned_at is not None
        ]
        self.eras = eras
        found = report.found
        for host in hosts:
            found += host.complaints[:3]
        asked, history = history, checkers.see_delays(history, eras, 1.5)
        for each in history:
            if each.outcome is None and "too_large" in each.notes:
                each.verb, each.compare = "delete", 0  # all that came of it, if anything
        if "strict" in modes or voting:
            for each in history:
                if each.outcome is None:
                    each.session = None  # it may have been refused, and nobody told
        promising = "async" not in modes
        if promising:
            found += checkers.check_linearizable(
                history, eras, lossy=self.lossy, undecided=report.undecided
            )
            if not self.lossy:
                found += checkers.check_locks(history, eras)
            # Without room for tombstones a resync replaces what was written apart; where there are
            # votes, nothing is, but what one has evicted that decides is replaced as well.
            forgetful = self.more & {"tiny_log", "no_backlog"} or "small_backlog" in self.conditions
            replaces = bool(forgetful) and (self.lossy or not voting)
            found += checkers.check_final(
                history,
                eras,
                hosts,
                skew_spread_s=self._skew_spread_s(),
                # What the first node has room for it keeps, whatever the others evict.
                lossy=replaces or (self.lossy and hosts[0].life > 1),
                protected_only=self.lossy,
            )
        three = len(hosts) > 2
        mixed = self.witness is not None and not voting
        if promising and "strict" not in modes and (voting or not three) and not mixed:
            # Word from the other, then its acknowledgement of what was sent before, then of this:
            # each within time-out and lease.
            bound_s = 3 * 1.75 * self.ack_timeout_s + PATIENCE_S
            roles = frozenset({"alone", "coordinator", "follower"})
            if "one_bound" in self.more and not self._is_large:
                bound_s = 2 * self.ack_timeout_s + PATIENCE_S
                roles |= {"joining"}
            excused = {
                host.name: [*self.excused.get(host.name, []), *self.unwitnessed] for host in hosts
            }
            if voting:
                backed = self.witness.backed if self.witness is not None else []
                for host in hosts:
                    excused[host.name] += checkers.without(host, hosts, self.world.now, backed)
            refused, again = {}, {}
            if three:
                reach = self.reach.moments, self.reach.states, self.world.now
                alone = {host.name: checkers.outvoted(host, *reach, hosts) for host in hosts}
                for host in hosts:
                    excused[host.name] += alone[host.name]
                    excused[host.name] += checkers.led_by_outvoted(host, alone, *reach)
                    refused[host.name] = checkers.refused(host, *reach)
                    again[host.name] = checkers.lost_again(host, *reach)
            elif isinstance(self.witness, WitnessHost):
                reach = self.reach.moments, self.reach.states, self.world.now
                refused = {host.name: checkers.lonely(host, *reach) for host in hosts}
            trips = self._vote_trips()
            found += checkers.check_patience(
                asked, hosts, bound_s, excused, roles, self.slow, trips, refused, again,
                self.ack_timeout_s,
            )  # fmt: skip
            if voting and "large_values" not in self.more:
                # Who has not the votes does not wait for them for ever.
                bound_s += hosts[0].settings.quorum_timeout_s
                roles |= {"joining", "waiting"}
                found += checkers.check_patience(
                    asked, hosts, bound_s, self.excused, roles, self.slow if three else [], trips
                )
                bound_s = 2 * self.ack_timeout_s + PATIENCE_S
                roles -= {"waiting"}
                # A value in many parts, a few at a time, keeps others waiting by as many trips.
                if not (self._is_large and "far_apart" in self.conditions):
                    found += checkers.check_touch(asked, hosts, bound_s, self._together(), roles)
        if promising and "mortal" in self.more and not self.lossy:
            found += checkers.check_mortal(history, eras, len(hosts))
        if "statistics" in self.more and self._at_rest():
            found += checkers.check_statistics(hosts, eras)
        if not report.found:
            found += checkers.check_converged(hosts, self.late_words_s)
        lost_at = []
        if self.more & {"clock_step", "clock_drift"}:  # else time goes on from one life to the next
            lost_at = checkers.all_lost_at(timeline)
        found += checkers.check_cas_uniques(history, hosts, lost_at)
        found += checkers.check_structures(hosts)

    def _vote_trips(self) -> int:
        """Return how many times something is under way until a vote is had, and known."""
        joins = checkers.JOIN_TRIPS if len(self.hosts) > 2 else 0
        if self.witness is None:
            return checkers.VOTE_TRIPS + joins if self.voting else 0
        if isinstance(self.witness, EtcdHost):
            return checkers.ETCD_TRIPS + joins
        unnoticed = self.report.counts["cut_silently"] or self.report.counts["late_handshake"]
        return (checkers.ANEW_TRIPS if unnoticed else checkers.VOTE_TRIPS) + joins

    def _together(self) -> dict[str, list[tuple[float, float]]]:
        """Return for each host when it was in touch with all others, and nothing went wrong."""
        end, names = self.world.now, [host.name for host in self.hosts]
        wrong = [(start, stop) for start, stop, _ in self.slow]
        wrong += [each for times in self.excused.values() for each in times]
        for (sender, receiver), times in self.world.blocked_times.items():
            if sender in names and receiver in names:
                wrong += times
        result = {}
        for name in names:
            apart = list(wrong)
            for pair, changes in self._linked.items():
                if name in pair or len(names) > 2:  # two others may need each other's vote
                    ends = [*(at for at, _ in changes[1:]), end]
                    apart.append((0.0, changes[0][0]))
                    apart += [
                        (at if wire is None else max(at, wire.cut_at), until)
                        for (at, wire), until in zip(changes, ends, strict=True)
                        if wire is None or wire.cut_at < until
                    ]
            result[name] = checkers.complement(apart, end)
        return result

    def _note_links(self, host: Host) -> None:
        """Write down whom a host is linked to."""
        for other in self.hosts:
            if other is not host:
                wire = host.wire_to(other.name)
                if wire is not None and wire.late_s >= self._in_time_s:
                    wire = None
                changes = self._linked.setdefault((host.name, other.name), [])
                if not changes or changes[-1][1] is not wire:
                    changes.append((self.world.now, wire))

    def _observe(self, host: Host) -> None:
        """Look at a host after each of its turns."""
        if host is self.witness:
            return
        if self.voting:
            self._note_links(host)
        self.watch.look(host, self.report.found)
        if host.node.role == "follower":
            self._check_word_of_who_left(host)
        if len(host.history) < 2 or host.history[-1].at != self.world.now:
            return
        was, now = host.history[-2], host.history[-1]
        if now.role == "alone" and (was.role == "starting" or was.life != now.life):
            self._check_beginning(host)
        if now.role == "alone" and was.role != "alone" and was.life == now.life:
            self._check_waking(host)
        if was.role not in ("coordinator", "follower") or was.life != now.life:
            return
        self._check_leases(host, was, now)
        if self.voting:
            return  # who has asked for votes goes on when it has them, whoever is back by then
        # A follower depends on its coordinator; of the others it does not hear.
        lost = was.partners if was.role == "coordinator" else (was.coordinator,)
        for name in lost:
            if name in now.partners or now.role not in ("alone", "coordinator"):
                continue
            if host.misheard_at > self.world.now - self.ack_timeout_s or getattr(
                host.node.view.peers[name], "left_why", ""
            ).startswith(OutOfMemory.__name__):
                continue  # something could not be told or taken: it has waited for a lease
            other = self.world.hosts[name]
            if not other.alive or not other.history:
                continue
            theirs = other.history[-1]
            if theirs.role not in ("coordinator", "follower") or host.name not in theirs.partners:
                continue
            who = (name, other.life)
            silence_s = host.waking_s - host.heard_at.get(who, 0.0)
            unanswered_s = host.waking_s - host.answered_at.get(who, 0.0)
            if silence_s < self.ack_timeout_s * 0.5 and unanswered_s < self.ack_timeout_s * 0.5:
                self.report.found.append(
                    f"{self.world.now:.6f}: {host.name} acts without {name}, from which it"
                    f" heard {silence_s:.3f} s ago, and had an answer {unanswered_s:.3f} s ago"
                )

    def _check_leases(self, host: Host, was: Observation, now: Observation) -> None:
        """Nobody acts without another one that may still answer by itself."""
        for name in was.partners:
            other = self.world.hosts[name]
            if name in now.partners or now.role not in ("alone", "coordinator") or not other.alive:
                continue
            view, until = other.node.view, other.node.gate.open_until
            left_s = other.clock.world_seconds(until - other.clock.monotonic())
            if (
                view.role in ("coordinator", "follower")
                and host.name in view.members
                and view.epoch == was.epoch
                and left_s > LEASE_TOLERANCE_S
            ):
                self.report.found.append(
                    f"{self.world.now:.6f}: {host.name} acts without {name}, which answers by"
                    f" itself for {left_s:.3f} s"
                )

    def _check_word_of_who_left(self, host: Host) -> None:
        """Who has left has said no word since by which who followed it answers still."""
        node = host.node
        left = self.world.hosts[node.view.coordinator]
        if not left.alive or not (host.release is TODAY is left.release):
            return
        if left.node.role != "starting" or left.node._left_at == inf:
            return  # it is there; or begins anew, whatever it was about to do
        left_s = left.clock.world_seconds(left.clock.monotonic() - left.node._left_at)
        until_s = host.clock.world_seconds(node.gate.open_until - host.clock.monotonic())
        lease_s = host.clock.world_seconds(node.patience.lease_s)
        if left_s + until_s > lease_s + LEASE_TOLERANCE_S:
            self.report.found.append(
                f"{self.world.now:.6f}: {host.name} answers by itself for {until_s:.3f} s, and"
                f" {left.name} has left {left_s:.3f} s ago"
            )

    def _check_waking(self, host: Host) -> None:
        """Who stood still for long serves alone only if nobody went on meanwhile, or he heard."""
        if (
            host.thawed_at - host.froze_at <= SILENCE_S + 0.1
            or host.froze_at < host.started_at
            or self.world.now - host.thawed_at > 0.9 * host.settings.sync_timeout_s
            # Who served alone before lacks no more than it did then.
            or checkers.role_at(host.history, host.froze_at) == "alone"
        ):
            return
        for other in self.hosts:
            if other is host or not other.alive or other.frozen or not other.history:
                continue
            last = other.history[-1]
            went_on = last.ready and last.role in ("alone", "coordinator")
            heard_at = host.heard_at.get((other.name, other.life), -inf)
            if (
                went_on
                and host.froze_at < last.at < host.thawed_at
                and (host.waking_s - heard_at > self.world.now - host.thawed_at)
            ):
                self.report.found.append(
                    f"{self.world.now:.6f}: {host.name} stood still until {host.thawed_at:.3f}, and"
                    f" serves alone though {other.name} has gone on at {last.at:.3f}"
                )

    def _check_beginning(self, host: Host) -> None:
        """A node without data begins to serve only if nobody who has data is to be found."""
        for other in self.hosts if host.settings.peers else ():
            if other is host or not other.alive or not other.node.ready or other.leaving:
                continue
            ready_at = next(
                each.at for each in other.history if each.ready and each.life == other.life
            )
            if ready_at < host.started_at and (other.name, other.life) in host.met:
                self.report.found.append(
                    f"{self.world.now:.6f}: {host.name} begins with nothing, though {other.name},"
                    " which it has met, has data"
                )
            if ready_at > self.world.now - 0.5:
                continue  # it has not had any for long
            heard_at = host.heard_at.get((other.name, other.life), -1e9)
            waited_s = self.world.now - host.started_at
            silence_s = host.waking_s - heard_at
            if waited_s < 0.9 * host.settings.sync_timeout_s or silence_s < self.ack_timeout_s / 2:
                self.report.found.append(
                    f"{self.world.now:.6f}: {host.name} begins with nothing after {waited_s:.3f} s,"
                    f" though {other.name}, heard {silence_s:.3f} s ago, has data"
                )


def _is_parting(host: Host) -> bool:
    """Return whether a host gives up a peer of its view as soon as that one's lease has ended."""
    peers = host.node.view.peers.values() if host.alive else ()
    return any(getattr(peer.channel, "broken", "") for peer in peers)  # others know no such thing


def run(
    seed: int,
    *,
    more: frozenset[str] = frozenset(),
    nodes: int | None = None,
    verbose: bool = False,
) -> Report:
    """Run one seed. See `Simulation`."""
    with _collected_at_the_end():
        return _run(Simulation(seed, more=more, nodes=nodes, verbose=verbose))


@contextmanager
def _collected_at_the_end() -> Iterator[None]:
    """Search for garbage when all is over, and only in what was made meanwhile.

    A run takes little memory; to search again and again takes a quarter of its time.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    gc.freeze()
    try:
        yield
    finally:
        gc.collect()
        gc.unfreeze()
        if was_enabled:
            gc.enable()


def _run(simulation: Simulation) -> Report:
    try:
        return simulation.run()
    except (AssertionError, Garbled, ArithmeticError, LookupError, TypeError, ValueError,
            AttributeError) as error:  # fmt: skip
        report = simulation.report
        report.found.append(f"{error!r}\n{traceback.format_exc()}")
        report.trace = simulation.world.trace
        return report


def run_many(seeds: Iterable[int], jobs: int = 1, **options: Any) -> Iterable[Report]:
    """Run many seeds; their reports come in any order."""
    run_one = partial(run, **options)
    if jobs <= 1:
        yield from map(run_one, seeds)
        return
    with multiprocessing.get_context("spawn").Pool(jobs) as pool:
        yield from pool.imap_unordered(run_one, seeds, chunksize=10)


def summarise(reports: list[Report]) -> dict[str, Any]:
    """Return the sums over many runs."""
    counts: Counter[str] = Counter()
    runs_with: Counter[str] = Counter()
    for report in reports:
        counts.update(report.counts)
        runs_with.update(name for name, count in report.counts.items() if count)
    waits = sorted(wait for report in reports for wait in report.waits)
    return {
        "runs": len(reports),
        "failing": sorted(report.seed for report in reports if report.found),
        "undecided": sorted(report.seed for report in reports if report.undecided),
        "in_sync_s": round(sum(report.in_sync_s for report in reports)),
        "virtual_s": round(sum(report.virtual_s for report in reports)),
        "wait_p50_p99_max": [
            round(waits[min(len(waits) - 1, int(len(waits) * part))], 4)
            for part in (0.5, 0.99, 1.0)
        ]
        if waits
        else [],
        **dict(sorted(counts.items())),
    }


def main(arguments: list[str] | None = None) -> int:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", default="0:100", help="first and last but one, as A:B")
    parser.add_argument("--seed", type=int, help="one seed, with what it finds")
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--with", dest="more", default="", help="NAME,NAME: see NAMES")
    parser.add_argument("--nodes", type=int, choices=(2, 3), help="else some worlds have three")
    parser.add_argument("-v", "--verbose", action="store_true", help="with the trace of --seed")
    options = parser.parse_args(arguments)
    write = sys.stdout.write
    more = frozenset(filter(None, options.more.split(",")))
    if unknown := more - NAMES:
        parser.error(f"no {', '.join(sorted(unknown))}; {', '.join(sorted(NAMES))}")
    if options.seed is not None:
        report = run(options.seed, more=more, nodes=options.nodes, verbose=options.verbose)
        write("\n".join([*report.trace, *report.found]) + "\n")
        write(f"{dict(sorted(report.counts.items()))}\n")
        return bool(report.found)
    first, _, last = options.seeds.partition(":")
    begin = time.monotonic()
    reports = []
    seeds = range(int(first), int(last))
    for report in run_many(seeds, options.jobs, more=more, nodes=options.nodes):
        reports.append(report)
        if report.found:
            first_line = report.found[0].splitlines()[0][:150]
            write(f"seed {report.seed}: {len(report.found)}: {first_line}\n")
            sys.stdout.flush()
    for name, value in summarise(reports).items():
        write(f"{name:20} {value}\n")
    write(f"{'seconds':20} {time.monotonic() - begin:.1f}\n")
    return any(report.found for report in reports)


if __name__ == "__main__":
    sys.exit(main())
