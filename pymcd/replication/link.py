"""One connection to another node: the handshake, then frames in and out.

Both sides begin with HELLO: who they are, and a nonce. Then each proves that it knows the secret,
by an HMAC over its role and both HELLOs, byte for byte, so that nothing in them can be changed,
replayed, or sent back to where it came from. The side that was called proves itself last: a
stranger learns nothing that it could take home. With mutual TLS below, the secret may be missing.

Nothing that a stranger sends raises or costs more than `STRANGER_FRAME_MAX_BYTES` of memory.
The host feeds `receive`, sends what `take_output` gives, and closes when `closed` is set.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from typing import TYPE_CHECKING, Any, Final

from . import frames
from .frames import FrameError, Kind

if TYPE_CHECKING:
    from collections.abc import Callable

    from .node import Node
    from .peer import Peer

#: How far clocks may be apart: the order of writes on two sides of a partition rests on them.
CLOCK_SKEW_MAX_S: Final = 60.0
_NONCE_BYTES: Final = 32
#: A node id stands in logs and statistics.
_find_node_id: Final = re.compile(r"[!-~]{1,255}", re.ASCII).fullmatch

#: Why a link was refused -> what to do about it.
ADVICE: Final = {
    "secret": "the secrets differ: give both nodes the same --replication-secret-file",
    "version": "the peer speaks another version of the replication protocol: upgrade the older",
    "magic": "what answers there is not a replication port of pymcd: check --peer",
    "cluster": "the peer belongs to another group: check --peer, or give both one --cluster-id",
    "clock": f"the clocks are more than {CLOCK_SKEW_MAX_S:.0f} s apart: set them, e.g. by NTP",
    "node_id": "the peer has the same node id: give each its own --node-id",
    "self": "that is this node itself",
    "frame": "the peer sent what is no frame",
    "busy": "another link to that peer is in use",
}


def _wait_for_the_host() -> None:
    """Stand in: the host looks at the output when it is called back."""


class Link:
    """One connection, from the first byte to the last."""

    def __init__(self, node: Node, dialled: str | None, address: str, opened_at: float) -> None:
        self.node = node
        self.dialled = dialled  #: the configured peer that we called; None: we were called
        self.address = address
        self.opened_at = opened_at
        self.output: list[bytes] = []
        #: The host may set it to what sends `output` at once.
        self.push: Callable[[], None] = _wait_for_the_host
        self.closed = False
        self.peer: Peer | None = None  #: who it is, once that is proven
        self._chunks: list[bytes] = []
        self._have = 0
        self._need = 1
        self._limit_bytes = frames.STRANGER_FRAME_MAX_BYTES
        self._hello: dict[str, Any] = {}
        self._hello_body = b""
        nonce = node.entropy(_NONCE_BYTES).hex()
        if dialled is None:
            node.greetings.append(nonce)
        self._my_hello_body = bytes([Kind.HELLO]) + frames.encode_json(
            {
                "magic": frames.MAGIC,
                "version": frames.PROTOCOL_VERSION,
                "cluster": node.cluster_id,
                "node": node.node_id,
                "incarnation": node.incarnation,
                "nonce": nonce,
                "clock": node.clock.realtime(),
                "tag": node.changes.tag,
                "dialled": dialled is not None,
            }
        )
        self.output.append(frames.encode_frame(self._my_hello_body))

    @property
    def called_a_stranger(self) -> bool:
        """Whether we called, and nothing that a node would say was the answer so far."""
        return self.dialled is not None and not self._hello

    def take_output(self) -> list[bytes]:
        """Return what is to be sent, in pieces."""
        output, self.output = self.output, []
        return output

    def disconnected(self) -> None:
        """Take note that the connection is gone."""
        self.closed = True
        self.node.membership.link_down(self)

    def close(self, reason: str = "") -> None:
        """Have the host close, after what there is to send."""
        if not self.closed:
            self.closed = True
            self.node.membership.link_down(self, reason)

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
                if self.peer is not None:
                    self.node.membership.receive(self.peer, body)
                else:
                    self._shake(body)
        except FrameError as error:
            self.node.membership.note_bad_frame(self, str(error))
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
            self._refused(reason if isinstance(reason, str) and reason in ADVICE else "frame")
        elif kind == Kind.HELLO and not self._hello:
            self._hello_arrived(fields, body)
        elif kind == Kind.PROOF and self._hello:
            self._proof_arrived(fields)
        else:
            raise FrameError("a message out of turn")

    def _hello_arrived(self, hello: dict[str, Any], body: bytes) -> None:
        if hello.get("magic") != frames.MAGIC:
            self._refuse("magic")
            return
        if hello.get("version") != frames.PROTOCOL_VERSION:
            self._refuse("version")
            return
        types = {"node": str, "cluster": str, "incarnation": str, "nonce": str, "clock": float,
                 "tag": int, "dialled": bool}  # fmt: skip
        if any(type(hello.get(name)) is not wanted for name, wanted in types.items()) or not (
            0 <= hello["tag"] < 4096 and _find_node_id(hello["node"])
        ):
            raise FrameError("a HELLO without what belongs into it")
        if hello["incarnation"] == self.node.incarnation:
            # Not so if somebody only sends back what we said: then there may be a peer after all.
            if self.dialled is not None and hello["nonce"] in self.node.greetings:
                self.node.is_myself(self.dialled)
            self._refuse("self")
        elif hello["cluster"] != self.node.cluster_id:
            self._refuse("cluster")
        elif hello["node"] == self.node.node_id:
            self._refuse("node_id")
        elif hello["dialled"] == (self.dialled is not None):
            raise FrameError("a HELLO of the wrong side")
        elif not abs(hello["clock"] - self.node.clock.realtime()) <= CLOCK_SKEW_MAX_S:  # or NaN
            self._refuse("clock")
        else:
            self._hello = hello
            self._hello_body = body
            if self.dialled is not None:
                self._prove()

    def _proof(self, *, dialled: bool) -> str:
        """Return the proof that a side must give."""
        mine = dialled == (self.dialled is not None)
        first, second = self._my_hello_body, self._hello_body
        if not mine:
            first, second = second, first
        role = b"dialled" if dialled else b"accepted"
        key = self.node.secret or b""
        text = b"\0".join((role, hashlib.sha256(first).digest(), hashlib.sha256(second).digest()))
        return hmac.new(key, text, hashlib.sha256).hexdigest()

    def _prove(self) -> None:
        proof = self._proof(dialled=self.dialled is not None)
        self.output.append(
            frames.encode_frame(bytes([Kind.PROOF]) + frames.encode_json({"proof": proof}))
        )

    def _proof_arrived(self, fields: dict[str, Any]) -> None:
        proof = fields.get("proof")
        expected = self._proof(dialled=self.dialled is None)
        if not isinstance(proof, str) or not hmac.compare_digest(
            proof.encode("utf-8", "replace"), expected.encode()
        ):
            self.node.membership.authentication_failures += 1
            self._refuse("secret")
            return
        if self.dialled is None:
            self._prove()
        self._limit_bytes = self.node.frame_max_bytes
        self.node.membership.link_up(self, self._hello)

    def _refuse(self, reason: str) -> None:
        self.output.append(
            frames.encode_frame(bytes([Kind.REFUSAL]) + frames.encode_json({"reason": reason}))
        )
        self._refused(reason)

    def _refused(self, reason: str) -> None:
        self.node.membership.note_refusal(self, reason)
        self.close(reason)
