"""One connection to another node: the handshake, then frames in and out.

Both sides begin with HELLO: who they are, and a nonce. Then each proves that it knows the secret,
by an HMAC over its role and both HELLOs, byte for byte, so that nothing in them can be changed,
replayed, or sent back to where it came from. The side that was called proves itself last: a
stranger learns nothing that it could take home. With mutual TLS below, the secret may be missing.
While a secret is replaced there are several: a node proves itself by the first, and takes each.

Nothing that a stranger sends raises or costs more than `STRANGER_FRAME_MAX_BYTES` of memory.
The host feeds `receive`, sends what `take_output` gives, and closes when `closed` is set. What a
proven peer says goes to whoever the link belongs to.
"""

from __future__ import annotations

import hashlib
import hmac
from math import inf
from typing import TYPE_CHECKING, Any, Final, Protocol

from . import frames
from .frames import FrameError, Kind
from .messages import Hello
from .roles import Data
from .versions import CLOCK_SKEW_MAX_S

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..clock import Clock

NONCE_BYTES: Final = 32
#: With what a record of TLS may begin. # RFC 8446, 5.1
_TLS_RECORDS: Final = (20, 21, 22, 23)

#: Why a link was refused -> what to do about it.
ADVICE: Final = {
    "secret": "the secrets differ: give both nodes the same --replication-secret-file",
    "version": "we share no version of the replication protocol with the peer: upgrade the older",
    "magic": "what answers there is not a replication port of pymcd: check --peer",
    "cluster": "the peer belongs to another group: check --peer, or give both one --cluster-id",
    "clock": f"the clocks are more than {CLOCK_SKEW_MAX_S:.0f} s apart: set them, e.g. by NTP",
    "node_id": "the peer has the same node id: give each its own --node-id",
    "member": "a witness was called as a node, or a node as a witness: check --peer and --witness",
    "self": "that is this node itself",
    "frame": "the peer sent what is no frame",
    "tls": "both nodes need --replication-tls, and certificates that the other trusts",
    "busy": "another link to that peer is in use",
}


class Owner(Protocol):
    """To whom a link belongs."""

    clock: Clock
    secret: bytes | None
    other_secrets: tuple[bytes, ...]
    frame_max_bytes: int

    def is_mine(self, nonce: str) -> bool:
        """Return whether we said that nonce to somebody who called us."""

    def clocks_agree(self, hello: Hello) -> bool:
        """Return whether what we and a peer write may be put in order by our clocks."""

    def is_myself(self, dialled: str) -> None:
        """Take note that a configured peer is this node."""

    def link_up(self, link: Link, hello: Hello) -> None:
        """Meet a peer that has proven itself: `admit` the link, or close it."""

    def link_down(self, link: Link, reason: str) -> None:
        """Take note that a link is gone."""

    def note_wrong_proof(self) -> None:
        """Count who does not know the secret."""

    def note_refusal(self, link: Link, reason: str) -> None:
        """Count and log that one side did not want the other."""

    def note_bad_frame(self, link: Link, what: str) -> None:
        """Log what cannot be understood."""


def _wait_for_the_host() -> None:
    """Stand in: the host looks at the output when it is called back."""


class Link:
    """One connection, from the first byte to the last."""

    def __init__(
        self, owner: Owner, hello: Hello, *, dialled: str | None, address: str, opened_at: float
    ) -> None:
        """`hello` is ours; `dialled` the configured peer that we called, None: we were called."""
        self._owner = owner
        self.dialled = dialled
        self.address = address
        self.opened_at = opened_at
        self.output: list[bytes | memoryview] = []
        #: The host may set it to what sends `output` at once.
        self.push: Callable[[], None] = _wait_for_the_host
        self.closed = False
        self.version = 0  #: of the protocol, once the other side has said what it speaks
        #: What the other side says that it has, proven or not; None: it has not said a word.
        self.their_data: Data | None = None
        self.their_incarnation = ""
        self.greeted_at = -inf  #: when the other side's HELLO came, on our monotonic clock
        self._deliver: Callable[[bytes], None] | None = None  #: messages of a proven peer
        self._chunks: list[bytes] = []
        self._have = 0
        self._need = 1
        self._limit_bytes = frames.STRANGER_FRAME_MAX_BYTES
        self.hello = hello  #: ours
        self._mine_body = bytes([Kind.HELLO]) + hello.encode()
        self._theirs: Hello | None = None
        self._theirs_body = b""
        self.output.append(frames.encode_frame(self._mine_body))

    @property
    def proven(self) -> bool:
        """Whether it is known who is at the other end."""
        return self._deliver is not None

    @property
    def called_a_stranger(self) -> bool:
        """Whether we called, and nothing that a node would say was the answer so far."""
        return self.dialled is not None and self._theirs is None

    def admit(self, deliver: Callable[[bytes], None]) -> None:
        """Have what the peer says delivered."""
        self._deliver = deliver

    def take_output(self) -> list[bytes | memoryview]:
        """Return what is to be sent, in pieces."""
        output, self.output = self.output, []
        return output

    def tls_failed(self, data: bytes, said: str | None) -> bytes:
        """Take note that TLS does not come about; return what to say to who does not speak it.

        `data`: what came last; `said`: what the handshake told of the data of who was called.
        """
        if not self.proven and data:
            if data[0] in _TLS_RECORDS:
                self.their_data = Data.read(said)
            elif data[frames.PREFIX_BYTES : frames.PREFIX_BYTES + 1] == bytes([Kind.HELLO]):
                if self.dialled is None:
                    return self._refusal("tls")
                self._overhear(data)
            if self.dialled is not None and self.their_data is not None:
                self._refused("tls")
        return b""

    def _overhear(self, data: bytes) -> None:
        """Learn from a HELLO that came in plain, where TLS was expected, what its sender has."""
        try:
            frame = frames.split_frame(data, 0, self._limit_bytes)
            if frame is not None:
                self._note_data(frames.decode_json(frame[0][1:]))
        except FrameError:
            pass

    def disconnected(self) -> None:
        """Take note that the connection is gone."""
        self.closed = True
        self._owner.link_down(self, "")

    def close(self, reason: str = "") -> None:
        """Have the host close, after what there is to send."""
        if not self.closed:
            self.closed = True
            self._owner.link_down(self, reason)

    def receive(self, data: bytes) -> None:
        """Take what arrived, and do what it says."""
        # Hot path: bench/ "pair16".
        if self.closed:
            return
        self._chunks.append(data)
        self._have += len(data)
        if self._have < self._need:
            return
        buffer = data if len(self._chunks) == 1 else b"".join(self._chunks)
        position = 0
        try:
            while not self.closed:
                frame = frames.split_frame(buffer, position, self._limit_bytes)
                if frame is None:
                    break
                body, position = frame
                if self._deliver is not None:
                    self._deliver(body)
                else:
                    self._shake(body)
        except FrameError as error:
            self._chunks.clear()
            self._owner.note_bad_frame(self, str(error))
            self.close("frame")
            return
        rest = buffer[position:]
        self._chunks = [rest] if rest else []
        self._have = len(rest)
        # A length that is here was found to be within its limit.
        self._need = max(frames.PREFIX_BYTES, frames.frame_bytes(rest) if rest[7:] else 0)

    # -- the handshake -------------------------------------------------------------------------

    def _shake(self, body: bytes) -> None:
        kind = body[0]
        fields = frames.decode_json(body[1:])
        if kind == Kind.REFUSAL:
            reason = fields.get("reason")
            if "data" in fields:
                self.their_data = Data.read(fields["data"])
            self._refused(reason if isinstance(reason, str) and reason in ADVICE else "frame")
        elif kind == Kind.HELLO and self._theirs is None:
            self._hello_arrived(fields, body)
        elif kind == Kind.PROOF and self._theirs is not None:
            self._proof_arrived(fields, self._theirs)
        else:
            raise FrameError("a message out of turn")

    def _hello_arrived(self, fields: dict[str, Any], body: bytes) -> None:
        self._note_data(fields)
        refusal = Hello.foreign(fields)
        if refusal is None:
            theirs = Hello.read(fields)
            refusal = self._why_not(theirs)
        if refusal is not None:
            self._refuse(refusal)
            return
        self._theirs, self._theirs_body = theirs, body
        self.version = Hello.shared_version(fields)
        self.greeted_at = self._owner.clock.monotonic()
        if self.dialled is not None:
            self._prove()

    def _note_data(self, hello: dict[str, Any]) -> None:
        """See what the other side has, even if nothing else it says can be understood."""
        if hello.get("magic") == frames.MAGIC:
            self.their_data = Data.read(hello.get("data"))
            self.their_incarnation = str(hello.get("incarnation"))

    def _why_not(self, theirs: Hello) -> str | None:
        """Return why we want nothing of who says that; None: there is no reason."""
        mine = self.hello
        if theirs.incarnation == mine.incarnation:
            # Not so if somebody only sends back what we said: then there may be a peer after all.
            if self.dialled is not None and self._owner.is_mine(theirs.nonce):
                self._owner.is_myself(self.dialled)
            return "self"
        if theirs.cluster != mine.cluster:
            return "cluster"
        if theirs.node == mine.node:
            return "node_id"
        if theirs.dialled == mine.dialled:
            raise FrameError("a HELLO of the wrong side")
        caller, called = (mine, theirs) if mine.dialled else (theirs, mine)
        if caller.seeks != called.member:
            return "member"
        if called.member == "witness":
            return None  # it dates nothing
        return None if self._owner.clocks_agree(theirs) else "clock"

    def _proof(self, secret: bytes | None, *, dialled: bool) -> str:
        """Return the proof that a side must give, if that is the secret."""
        bodies = [self._mine_body, self._theirs_body]
        if dialled != self.hello.dialled:
            bodies.reverse()
        role = b"dialled" if dialled else b"accepted"
        text = b"\0".join((role, *(hashlib.sha256(body).digest() for body in bodies)))
        return hmac.new(secret or b"", text, hashlib.sha256).hexdigest()

    def _say(self, kind: Kind, **fields: str) -> None:
        self.output.append(_frame(kind, fields))

    def _prove(self) -> None:
        self._say(Kind.PROOF, proof=self._proof(self._owner.secret, dialled=self.hello.dialled))

    def _proof_arrived(self, fields: dict[str, Any], theirs: Hello) -> None:
        proof = fields.get("proof")
        if not isinstance(proof, str) or not self._is_right(proof.encode("utf-8", "replace")):
            self._owner.note_wrong_proof()
            self._refuse("secret")
            return
        if self.dialled is None:
            self._prove()
        self._limit_bytes = self._owner.frame_max_bytes
        self._owner.link_up(self, theirs)

    def _is_right(self, proof: bytes) -> bool:
        """Return whether a proof is that of one of the secrets."""
        owner = self._owner
        expected = [
            self._proof(secret, dialled=not self.hello.dialled).encode()
            for secret in (owner.secret, *owner.other_secrets)
        ]
        # Each is compared: how long that takes must not tell which one it was.
        return sum(hmac.compare_digest(proof, each) for each in expected) > 0

    def _refusal(self, reason: str) -> bytes:
        """Return what to say to who is refused, before or after anything else."""
        return _frame(Kind.REFUSAL, {"reason": reason, "data": self.hello.data})

    def _refuse(self, reason: str) -> None:
        self.output.append(self._refusal(reason))
        self._refused(reason)

    def _refused(self, reason: str) -> None:
        self._owner.note_refusal(self, reason)
        self.close(reason)


def _frame(kind: Kind, fields: dict[str, str]) -> bytes:
    """Return a frame of the handshake."""
    return frames.encode_frame(bytes([kind]) + frames.encode_json(fields))
