"""A witness: it holds no data, and its vote decides which of two nodes goes on.

All that it knows is its own life and the roll that it backs, a few hundred bytes; see `ballot` for
what it says to whom. Nodes call it, over the same links that they have with each other, and it
calls nobody. Nothing here is on the way of a write.

What it promised must outlive it. Kept on disk that is so; else it begins a new life with each
start, and in that it has no vote until the nodes have taken it into their view. When its disk takes
nothing more it promises nothing, and tells the nodes before they need it.

The host gives bytes to `Link.receive`, sends what `take_output` gives, and calls `step`.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Final

from .. import __version__
from .ballot import DISK, NO, YES, Ballot
from .frames import (
    HEAD_BYTES,
    FrameError,
    Kind,
    decode_head,
    decode_json,
    encode_json,
    encode_message,
)
from .lease import Lease
from .link import ADVICE, NONCE_BYTES, Link
from .messages import Grant, Hello, Roll, Vote
from .versions import TAG_BITS

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..clock import Clock

#: Nodes that it knows of, and connections that have not proven themselves.
CALLERS_MAX: Final = 64
STRANGERS_MAX: Final = 64
FRAME_MAX_BYTES: Final = 64 << 10
HANDSHAKE_S: Final = 2.0
#: Nodes say something every second.
SILENCE_S: Final = 6.0
COMPLAIN_EVERY_S: Final = 60.0
STEP_S: Final = 0.5
#: It writes what it keeps anew, to see whether it could keep a promise.
TRY_DISK_EVERY_S: Final = 20.0


@dataclass(frozen=True, slots=True)
class Memory:
    """What a witness must not forget."""

    life: str
    backs: Roll | None = None
    cluster: str = ""  #: to whose nodes it was promised; empty: nobody knows

    def encode(self) -> bytes:
        """Return it as what is written to a file."""
        backs = None if self.backs is None else self.backs.as_json()
        whose = {"cluster_id": self.cluster} if self.cluster else {}
        return encode_json({"life": self.life, "backs": backs, **whose}) + b"\n"

    @classmethod
    def decode(cls, data: bytes) -> Memory:
        """Return what a file says; raise ValueError."""
        try:
            said = decode_json(data)
            life, backs, cluster = said.get("life"), said.get("backs"), said.get("cluster_id", "")
            if not isinstance(life, str) or not life:
                raise ValueError("no life")
            if not isinstance(cluster, str):
                raise ValueError("no cluster")
            return cls(life, None if backs is None else Roll.read(backs), cluster)
        except FrameError as error:
            raise ValueError(str(error)) from None


class Caller:
    """A node that has proven itself."""

    def __init__(self, node_id: str, hello: Hello, link: Link) -> None:
        self.node_id = node_id
        self.life = hello.incarnation
        self.link = link
        self.lease = Lease()


class Witness:
    """The core of `pymcd witness`. See the module."""

    def __init__(
        self,
        clock: Clock,
        *,
        node_id: str,
        cluster_id: str,
        secret: bytes | None,
        memory: Memory,
        keep: Callable[[Memory], None] = lambda memory: None,
        log: Callable[[str], None],
        entropy: Callable[[int], bytes],
    ) -> None:
        """`keep` writes to disk what must not be forgotten, or raises OSError."""
        self.clock = clock
        self.node_id = node_id
        self.secret = secret
        self.other_secrets: tuple[bytes, ...] = ()
        self.frame_max_bytes = FRAME_MAX_BYTES
        self._cluster_id = cluster_id
        self._entropy = entropy
        self._log = log
        self._keep = keep
        self.ballot = Ballot(node_id, memory.life, memory.backs, self._remember)
        self.links: list[Link] = []
        self.callers: dict[str, Caller] = {}
        self._complaints: dict[str, float] = {}
        self._trouble = ""  #: DISK, if it takes nothing
        self._try_disk_at = clock.monotonic() + TRY_DISK_EVERY_S

    def _remember(self, roll: Roll | None) -> None:
        try:
            self._keep(Memory(self.ballot.life, roll, self._cluster_id))
        except OSError as error:
            self._complain("disk", f"cannot keep a promise, and makes none: {error.strerror}")
            self._note_trouble(DISK)
            raise
        self._note_trouble("")

    def _note_trouble(self, trouble: str) -> None:
        """Tell the nodes if they may count on our vote no more, or do so again."""
        if trouble == self._trouble:
            return
        self._trouble = trouble
        if not trouble:
            self._log("it keeps what it promises again")
        for caller in self.callers.values():
            self._tell(caller)

    def _tell(self, caller: Caller) -> None:
        """Say what nobody asked: what we back, and whether we could promise anything."""
        self._say(caller, Kind.GRANT, Grant(0, self._trouble, self.ballot.backs).encode())

    # -- links ---------------------------------------------------------------------------------

    def open_link(self, address: str) -> Link:
        """Return the core of a new connection."""
        hello = Hello(
            cluster=self._cluster_id,
            node=self.node_id,
            incarnation=self.ballot.life,
            nonce=self._entropy(NONCE_BYTES).hex(),
            clock=self.clock.realtime(),
            tag=0,
            dialled=False,
            release=__version__,
            member="witness",
        )
        link = Link(self, hello, dialled=None, address=address, opened_at=self.clock.monotonic())
        self.links.append(link)
        return link

    def may_accept(self) -> bool:
        """Return whether there is room for one more stranger."""
        return sum(not link.proven for link in self.links) < STRANGERS_MAX

    def clocks_agree(self, theirs: Hello) -> bool:
        """Return True: it dates nothing."""
        return True

    def is_mine(self, nonce: str) -> bool:
        """Return False: it calls nobody, so not itself."""
        return False

    def is_myself(self, dialled: str) -> None:
        """Never: see `is_mine`."""

    def link_up(self, link: Link, hello: Hello) -> None:
        """Meet a node that has proven itself."""
        before = self.callers.pop(hello.node, None)
        if before is None and len(self.callers) >= CALLERS_MAX:
            link.close("busy")
            return
        if before is not None:
            before.link.close("busy")  # who calls again has lost that link
        if before is None or before.life != hello.incarnation:
            self._log(f"{hello.node} at {link.address} calls")
        caller = self.callers[hello.node] = Caller(hello.node, hello, link)
        caller.lease.heard_at = self.clock.monotonic()
        link.admit(partial(self._receive, caller))
        self._tell(caller)

    def link_down(self, link: Link, reason: str) -> None:
        """Take note that a link is gone."""
        if link in self.links:
            self.links.remove(link)
        for node_id, caller in list(self.callers.items()):
            if caller.link is link:
                del self.callers[node_id]
                self._log(f"{node_id} is gone ({reason or 'disconnected'})")

    def use_secrets(self, first: bytes, *others: bytes) -> None:
        """Prove ourselves by the first, and let in who knows any of them; who is in stays."""
        self.secret = first
        self.other_secrets = others

    def note_wrong_proof(self) -> None:
        """It is said as a refusal."""

    def note_refusal(self, link: Link, reason: str) -> None:
        """Log that one side did not want the other."""
        if reason not in ("self", "busy"):
            self._complain(reason, f"refused {link.address}: {ADVICE[reason]}")

    def note_bad_frame(self, link: Link, what: str) -> None:
        """Log what cannot be understood."""
        self._complain("frame", f"{link.address} sent {what}; the link is closed")

    def _complain(self, about: str, line: str) -> None:
        now = self.clock.monotonic()
        if now >= self._complaints.get(about, now):
            self._complaints[about] = now + COMPLAIN_EVERY_S
            self._log(line)

    # -- what nodes say ------------------------------------------------------------------------

    def _receive(self, caller: Caller, body: bytes) -> None:
        kind, time, echo, *_ = decode_head(body)
        now = self.clock.monotonic()
        caller.lease.heard(now, time, echo)
        if kind == Kind.VOTE:
            grant = self._vote(caller, Vote.decode(body[HEAD_BYTES:]))
            self._say(caller, Kind.GRANT, grant.encode())
        elif kind == Kind.PING:
            self._say(caller, Kind.ACK)

    def _vote(self, caller: Caller, vote: Vote) -> Grant:
        """Answer a node's question, if that is about itself."""
        ballot, roll, before = self.ballot, vote.roll, self.ballot.backs
        if (roll.coordinator, roll.data.get(caller.node_id)) != (caller.node_id, caller.life):
            grant = Grant(roll.epoch, NO, before)
        else:
            grant = ballot.register(vote)
        if grant.word == YES and roll != before:
            self._log(describe(roll))
        elif grant.word == NO:
            self._complain(f"no to {caller.node_id}", f"no to {caller.node_id}: {self.standing}")
        return grant

    @property
    def standing(self) -> str:
        """What it backs, in words."""
        backs = self.ballot.backs
        return "it backs nobody yet" if backs is None else describe(backs)

    def _say(self, caller: Caller, kind: Kind, payload: bytes = b"") -> None:
        lease = caller.lease
        now = self.clock.monotonic()
        caller.link.output += encode_message(kind, now, lease.their_time, 0, 0, 0, payload)

    # -- time ----------------------------------------------------------------------------------

    def step(self) -> float:
        """Close what is of no use, try the disk; return in how many seconds to call again."""
        now = self.clock.monotonic()
        if self._trouble or now >= self._try_disk_at:
            self._try_disk_at = now + TRY_DISK_EVERY_S
            with suppress(OSError):
                self._remember(self.ballot.backs)
        for link in list(self.links):
            if not link.proven and now - link.opened_at >= HANDSHAKE_S:
                link.close("handshake")
        for caller in list(self.callers.values()):
            if now - caller.lease.heard_at >= SILENCE_S:
                caller.link.close("silent")
        return STEP_S

    def check(self) -> None:
        """Raise AssertionError unless all that is known here fits together. For tests."""
        self.ballot.check()
        assert self.ballot.poll is None, "a witness that wants something"
        for node_id, caller in self.callers.items():
            assert caller.node_id == node_id, "a caller by another name"
            assert caller.link in self.links, "a caller whose link is closed"


def describe(roll: Roll) -> str:
    """Return a view in words for a log."""
    others = sorted(each for each in roll.data if each != roll.coordinator)
    with_them = f", with {' and '.join(others)}" if others else ", alone"
    return f"{roll.coordinator} decides{with_them} (epoch {roll.epoch >> TAG_BITS})"
