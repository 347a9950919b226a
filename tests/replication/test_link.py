"""A link: who is let in, who is not and hears why, and that nothing a stranger sends does harm."""

from __future__ import annotations

import hashlib
import hmac
import json
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pymcd.replication import frames
from pymcd.replication.frames import PROTOCOL_VERSION, PROTOCOL_VERSION_MIN, Kind
from pymcd.replication.link import ADVICE, Link
from pymcd.replication.membership import PEERS_MAX, STRANGERS_MAX
from pymcd.replication.node import HANDSHAKE_S
from pymcd.replication.versions import CLOCK_SKEW_MAX_S
from tests.protocol.requests import CUTS, cut
from tests.replication.helpers import SECRET, Group, Guest, Host, make_group


def lone_host(**settings: Any) -> Host:
    """A server that waits for its peer."""
    return Group("a", peers=("127.0.0.1:1",), **settings)["a"]


def take(link: Link) -> bytes:
    return b"".join(link.take_output())


def said(data: bytes | memoryview) -> list[tuple[int, dict[str, Any]]]:
    """Take apart what was said in a handshake: kinds, and fields."""
    data = bytes(data)
    messages = []
    position = 0
    while (frame := frames.split_frame(data, position, 1 << 20)) is not None:
        body, position = frame
        messages.append((body[0], json.loads(body[1:])))
    assert position == len(data)
    return messages


def message(kind: int, fields: object) -> bytes:
    return frames.encode_frame(bytes([kind]) + json.dumps(fields).encode())


class Stranger:
    """Somebody on the other end, who knows how it is done."""

    def __init__(self, host: Host, *, calls: bool = True, **hello: Any) -> None:
        self.host = host
        self.calls = calls
        dialled = None if calls else "127.0.0.1:1"
        self.link = host.node.membership.open_link(dialled=dialled, address="192.0.2.1:7")
        self.theirs = take(self.link)
        self.hello: dict[str, Any] = {
            "magic": "pymcd-replication",
            "version": 1,
            "version_max": PROTOCOL_VERSION,
            "cluster": host.settings.cluster_id,
            "node": "s",
            "incarnation": "0123",
            "nonce": "4567",
            "clock": host.clock.realtime(),
            "tag": 9,
            "dialled": calls,
            "release": "0.1.0",
            "member": "data",
            "seeks": "data",
            "item_size_max": 1 << 20,
            "memory_limit": 64 << 20,
            "data": "kept",
            "time": host.clock.monotonic(),
            "wall": 0.0,
            "latest": 0,
            "ack_timeout_ms": 80,
            "manners": {"-M": "no"},
            "votes": False,
        } | hello
        self.body = bytes([Kind.HELLO]) + json.dumps(self.hello).encode()

    def say_hello(self) -> None:
        self.link.receive(frames.encode_frame(self.body))

    def proof(self, *, calls: bool | None = None, role_calls: bool | None = None) -> str:
        """Return the proof of who knows the secret. Written down here once more, on purpose.

        `calls`: of the side that calls; `role_calls`: as which it poses.
        """
        calls = self.calls if calls is None else calls
        role_calls = calls if role_calls is None else role_calls
        bodies = [self.body, self.theirs[frames.PREFIX_BYTES :]]
        if calls != self.calls:
            bodies.reverse()
        digests = [hashlib.sha256(body).digest() for body in bodies]
        role = b"dialled" if role_calls else b"accepted"
        return hmac.new(SECRET, b"\0".join([role, *digests]), hashlib.sha256).hexdigest()

    def prove(self, proof: object) -> None:
        self.link.receive(message(Kind.PROOF, {"proof": proof}))

    def enter(self) -> None:
        """Do all that is to be done, in the right order."""
        self.say_hello()
        self.prove(self.proof())

    @property
    def is_in(self) -> bool:
        return self.link.proven and not self.link.closed

    def answers(self) -> list[tuple[int, dict[str, Any]]]:
        return said(take(self.link))


# -- who is let in -----------------------------------------------------------------------------


class TestHandshake:
    @pytest.mark.parametrize("secret", [SECRET, None])
    def test_two_that_know_the_secret_meet(self, secret):
        group = Group("ab", secret=secret)
        wire = group.link("a", "b")
        for name, other, link in zip("ab", "ba", wire.links, strict=True):
            assert not link.closed
            assert link.proven
            assert group[name].node.membership.peer_of(link) is group[name].peer(other)
            assert group[name].peer(other).link is link
            assert group[name].rows["last_refusal"] == "-"

    @pytest.mark.parametrize("calls", [True, False])
    def test_whoever_proves_to_know_the_secret_is_let_in(self, calls):
        stranger = Stranger(lone_host(), calls=calls)
        stranger.enter()
        assert stranger.is_in
        assert stranger.host.peer("s").link is stranger.link

    @pytest.mark.parametrize("calls", [True, False])
    def test_whoever_knows_one_of_several_secrets_is_let_in(self, calls, monkeypatch):
        compared: list[bytes] = []

        def compare(one: bytes, other: bytes) -> bool:
            compared.append(other)
            return one == other

        monkeypatch.setattr(hmac, "compare_digest", compare)
        for secrets in [(SECRET, b"b", b"c"), (b"a", SECRET, b"c"), (b"a", b"b", SECRET)]:
            compared.clear()
            host = lone_host()
            host.node.membership.use_secrets(*secrets)
            stranger = Stranger(host, calls=calls)
            stranger.enter()
            assert stranger.is_in
            # Which one it was is not to be told from how long it took.
            assert len(set(compared)) == 3
        host = lone_host()
        host.node.membership.use_secrets(b"a", b"b", b"c")
        stranger = Stranger(host, calls=calls)
        stranger.enter()
        assert stranger.link.closed
        assert host.rows["authentication_failures"] == 1

    @pytest.mark.parametrize(("a", "b"), [("a", "b"), ("b", "a")])
    def test_a_secret_is_replaced_in_steps(self, a, b):
        """In each state that the steps lead through, one node at a time, the two meet."""
        old, new = b"the old one", b"the new one"
        steps = [(old,), (old, new), (new, old), (new,)]
        states = [pair for step, then in pairwise(steps) for pair in ((step, step), (then, step))]
        for mine, theirs in [*states, (steps[-1], steps[-1])]:
            group = Group("ab")
            group[a].node.membership.use_secrets(*mine)
            group[b].node.membership.use_secrets(*theirs)
            assert all(link.proven for link in group.link("a", "b").links), (mine, theirs)

    def test_what_is_linked_stays_when_the_secret_changes(self):
        group = Group("ab")
        wire = group.link("a", "b")
        for name in "ab":
            group[name].node.membership.use_secrets(b"another one")
        group.settle()
        assert all(link.proven and not link.closed for link in wire.links)

    def test_who_was_called_proves_itself_last(self):
        """Else a stranger could take the proof home and try secrets on it."""
        stranger = Stranger(lone_host())
        assert [kind for kind, _ in said(stranger.theirs)] == [Kind.HELLO]
        stranger.say_hello()
        assert stranger.answers() == []
        stranger.prove(stranger.proof())
        answer = stranger.link.take_output()[0]
        assert said(answer) == [(Kind.PROOF, {"proof": stranger.proof(calls=False)})]

    def test_nor_does_who_calls_say_anything_to_what_is_no_peer(self):
        stranger = Stranger(lone_host(), calls=False, magic="HTTP/1.1 200 OK")
        stranger.say_hello()
        assert stranger.answers() == [(Kind.REFUSAL, {"reason": "magic", "data": "nothing"})]

    @pytest.mark.parametrize("answer", [b"HTTP/1.1 400 Bad Request\r\n\r\n", b""])
    def test_calling_what_is_no_replication_port_is_said_so(self, answer):
        host = lone_host()
        link = host.node.membership.open_link(dialled="127.0.0.1:11211")
        link.receive(answer)
        host.group.clock.advance(HANDSHAKE_S)
        host.node.step()
        assert link.closed
        assert host.rows["last_refusal"] == "magic"
        assert len([line for line in host.lines if "is not a replication port" in line]) == 1

    def test_a_hello_tells_nothing_that_must_be_secret(self):
        stranger = Stranger(lone_host())
        assert SECRET not in stranger.theirs
        ((_, hello),) = said(stranger.theirs)
        assert set(hello) == set(stranger.hello)
        other = Stranger(stranger.host)
        assert said(other.theirs)[0][1]["nonce"] != hello["nonce"]

    @given(CUTS)
    def test_it_may_come_in_any_pieces(self, cuts):
        stranger = Stranger(lone_host())
        stream = frames.encode_frame(stranger.body)
        stream += message(Kind.PROOF, {"proof": stranger.proof()})
        for piece in cut(stream, cuts):
            stranger.link.receive(piece)
        assert stranger.is_in


#: What is different in the other one, and why it is refused.
REFUSALS: list[tuple[str, dict[str, Any]]] = [
    ("secret", {"secret": b"open sesame!"}),
    ("secret", {"secret": None}),
    ("cluster", {"cluster_id": "other"}),
]


class TestRefusals:
    @pytest.mark.parametrize("caller", "ab")
    @pytest.mark.parametrize(("reason", "difference"), REFUSALS)
    def test_both_sides_learn_why(self, reason, difference, caller):
        group = Group("a", peers=("127.0.0.1:20098",))
        group.add("b", **{"peers": ("127.0.0.1:20097",), **difference})
        wire = group.link(caller, "ba"["ab".index(caller)])
        for host, link in zip(wire.hosts, wire.links, strict=True):
            assert link.closed
            assert not link.proven
            assert host.node.membership.links == []
            assert host.rows["last_refusal"] == reason
            assert host.rows["handshake_failures"] == 1
            assert host.rows["authentication_failures"] <= (reason == "secret")
            (line,) = host.lines
            assert line.endswith(ADVICE[reason])
            assert "replication with 127.0.0.1:2009" in line or f"with {caller}:5" in line
        failures = [host.rows["authentication_failures"] for host in wire.hosts]
        assert sum(failures) == (reason == "secret")

    def test_the_same_node_id(self):
        group = Group("ab")
        group["b"].node.view.node_id = "a"
        wire = group.link("a", "b")
        for host, link in zip(wire.hosts, wire.links, strict=True):
            assert link.closed
            assert host.rows["last_refusal"] == "node_id"
            assert host.lines[0].endswith(ADVICE["node_id"])

    @pytest.mark.parametrize("calls", [True, False])
    @pytest.mark.parametrize(
        ("reason", "hello"),
        [
            ("magic", {"magic": "memcached"}),
            ("magic", {"magic": None}),
            ("version", {"version": -1, "version_max": 0}),
            ("version", {"version": PROTOCOL_VERSION + 1}),
            ("version", {"version": PROTOCOL_VERSION + 1, "version_max": PROTOCOL_VERSION + 2}),
            ("version", {"version": 0, "version_max": PROTOCOL_VERSION_MIN - 1}),
            ("version", {"version": 2, "version_max": 1}),
            ("version", {"version": "1"}),
            ("version", {"version": True}),
            ("version", {"version": 1.0}),
            ("version", {"version": None, "version_max": 1}),
            ("version", {"version_max": "1"}),
            ("version", {"version_max": None}),
            ("version", {"version": 10**400, "version_max": 10**400}),
            ("cluster", {"cluster": "other"}),
            ("node_id", {"node": "a"}),
            ("clock", {"clock": 0.0}),
            ("clock", {"clock": float("inf")}),
            ("clock", {"wall": 1.0, "clock": 1.0}),
            ("clock", {"latest": (1 << 63) - 1, "data": "nothing"}),
            ("clock", {"latest": (1 << 63) - 1}),
            ("clock", {"clock": float("nan")}),
        ],
    )
    def test_whoever_says_something_else_is_told(self, reason, hello, calls):
        stranger = Stranger(lone_host(), calls=calls, **hello)
        stranger.say_hello()
        assert stranger.answers() == [(Kind.REFUSAL, {"reason": reason, "data": "nothing"})]
        assert stranger.link.closed
        assert stranger.host.rows["last_refusal"] == reason
        assert stranger.host.rows["handshake_failures"] == 1

    @pytest.mark.parametrize("skew_s", [CLOCK_SKEW_MAX_S - 1, 1 - CLOCK_SKEW_MAX_S])
    def test_clocks_may_differ_a_little(self, skew_s):
        group = Group("a", peers=("127.0.0.1:20098",))
        group.add("b", peers=("127.0.0.1:20097",), skew_s=skew_s)
        group.link("a", "b")
        assert group["a"].rows["peer_0:clock_skew_ms"] == skew_s * 1000
        assert group["b"].rows["peer_0:clock_skew_ms"] == -skew_s * 1000

    @pytest.mark.parametrize("calls", [True, False])
    @pytest.mark.parametrize(
        "hello",
        [
            {"node": 1}, {"node": "x" * 256}, {"node": ""}, {"node": "two words"},
            {"node": "two\r\nlines"}, {"cluster": None}, {"incarnation": 5}, {"nonce": None},
            {"clock": 1}, {"clock": "now"}, {"tag": 1.0}, {"tag": -1}, {"tag": 4096},
            {"tag": True}, {"dialled": 1}, {"release": 1}, {"release": "two words"},
            {"release": "x" * 65}, {"member": ""}, {"item_size_max": -1}, {"memory_limit": 1.0},
            {"ack_timeout_ms": 60_001}, {"manners": {"-M": "y" * 65}},
        ],
    )  # fmt: skip
    def test_a_hello_must_be_complete(self, hello, calls):
        stranger = Stranger(lone_host(), calls=calls, **hello)
        stranger.say_hello()
        assert stranger.link.closed
        assert not stranger.answers()
        expected = "a HELLO without what belongs into it" if calls else ADVICE["magic"]
        assert expected in stranger.host.lines[0]

    @pytest.mark.parametrize("missing", ["cluster", "node", "incarnation", "clock", "tag"])
    def test_nothing_may_be_missing(self, missing):
        stranger = Stranger(lone_host())
        del stranger.hello[missing]
        stranger.body = bytes([Kind.HELLO]) + json.dumps(stranger.hello).encode()
        stranger.say_hello()
        assert stranger.link.closed

    @pytest.mark.parametrize("calls", [True, False])
    def test_one_side_calls_and_the_other_does_not(self, calls):
        stranger = Stranger(lone_host(), calls=calls, dialled=not calls)
        stranger.say_hello()
        assert stranger.link.closed

    @pytest.mark.parametrize("calls", [True, False])
    @pytest.mark.parametrize("proof", ["", "0" * 64, "\ud800", None, 5, [], {}])
    def test_a_wrong_proof(self, proof, calls):
        stranger = Stranger(lone_host(), calls=calls)
        stranger.say_hello()
        take(stranger.link)
        stranger.prove(proof)
        assert stranger.link.closed
        assert stranger.answers() == [(Kind.REFUSAL, {"reason": "secret", "data": "nothing"})]
        assert stranger.host.rows["authentication_failures"] == 1

    @pytest.mark.parametrize("calls", [True, False])
    def test_the_proof_of_the_other_role_does_not_count(self, calls):
        stranger = Stranger(lone_host(), calls=calls)
        stranger.say_hello()
        stranger.prove(stranger.proof(role_calls=not calls))
        assert not stranger.is_in

    def test_nothing_in_a_hello_can_be_changed_on_the_way(self):
        stranger = Stranger(lone_host())
        proof = stranger.proof()
        stranger.body = stranger.body.replace(b'"tag": 9', b'"tag": 8')
        stranger.say_hello()
        stranger.prove(proof)
        assert not stranger.is_in

    def test_a_recorded_handshake_opens_nothing(self):
        group = make_group()
        recorded = b"".join(group.wire("a", "b").sent[0])
        link = group["b"].node.membership.open_link(dialled=None, address="192.0.2.1:7")
        link.receive(recorded)
        assert link.closed
        assert group["b"].rows["authentication_failures"] == 1
        assert group["a"].node.role.in_sync
        assert Guest(group["b"]).ask(b"set a 0 0 1\r\n1\r\n") == b"STORED\r\n"
        group.advance(5)
        assert group["b"].node.role.in_sync

    def test_each_reason_comes_with_advice(self):
        assert set(ADVICE) >= {"secret", "version", "cluster", "clock", "node_id"}
        assert all(ADVICE.values())

    def test_a_log_line_a_minute(self):
        host = lone_host()
        for _ in range(5):
            Stranger(host, cluster="other").say_hello()
            Stranger(host, version=99).say_hello()
        assert len(host.lines) == 2
        host.group.clock.advance(59)
        Stranger(host, cluster="other").say_hello()
        assert len(host.lines) == 2
        host.group.clock.advance(2)
        Stranger(host, cluster="other").say_hello()
        assert len(host.lines) == 3
        assert host.rows["handshake_failures"] == 12

    @pytest.mark.parametrize(
        ("fields", "reason"),
        [
            ({"reason": "secret"}, "secret"),
            ({"reason": "cluster"}, "cluster"),
            ({"reason": "what?"}, "frame"),
            ({"reason": ["secret"]}, "frame"),
            ({}, "frame"),
        ],
    )
    def test_what_the_other_side_says_is_noted(self, fields, reason):
        stranger = Stranger(lone_host())
        stranger.link.receive(message(Kind.REFUSAL, fields))
        assert stranger.link.closed
        assert not stranger.answers()
        assert stranger.host.rows["last_refusal"] == reason
        assert stranger.host.rows["authentication_failures"] == 0


class TestOneself:
    def test_who_is_configured_as_its_own_peer_notices(self):
        group = Group("a", peers=("127.0.0.1:1",))
        host = group["a"]
        callee = host.node.membership.open_link(dialled=None, address="127.0.0.1:5")
        caller = host.node.membership.open_link(dialled="127.0.0.1:1")
        hellos = take(callee), take(caller)
        callee.receive(hellos[1])
        caller.receive(hellos[0])
        assert caller.closed
        assert callee.closed
        assert not host.node.membership.should_dial("127.0.0.1:1")
        assert host.rows["last_refusal"] == "-"
        # And so there is nobody to wait for.
        assert host.node.ready
        assert host.rows["degraded"] == "no"

    def test_in_any_order(self):
        host = lone_host()
        callee = host.node.membership.open_link(dialled=None, address="127.0.0.1:5")
        caller = host.node.membership.open_link(dialled="127.0.0.1:1")
        hellos = take(callee), take(caller)
        caller.receive(hellos[0])
        callee.receive(hellos[1])
        assert not host.node.membership.should_dial("127.0.0.1:1")

    @pytest.mark.parametrize("forged", [False, True])
    def test_what_comes_back_to_where_it_came_from_is_no_proof_of_that(self, forged):
        """Whoever answers there could have us think that we have no peer, and serve misses."""
        host = lone_host()
        link = host.node.membership.open_link(dialled="127.0.0.1:1")
        hello = take(link)
        if forged:
            ((_, fields),) = said(hello)
            hello = message(Kind.HELLO, fields | {"dialled": False, "nonce": "77"})
        link.receive(hello)
        assert link.closed
        assert host.node.membership.should_dial("127.0.0.1:1")
        assert not host.node.ready

    def test_our_own_proof_is_no_proof(self):
        """A stranger that is called has us prove ourselves on a second link, in vain."""
        group = Group("ab")
        first = Stranger(group["a"], calls=False)
        first.say_hello()
        ((_, fields),) = first.answers()
        second = Stranger(group["a"], calls=True)
        second.say_hello()
        second.prove(fields["proof"])
        assert not second.is_in


# -- what a stranger may do --------------------------------------------------------------------


def bounded(link: Link, piece: bytes) -> bool:
    """Whether a link keeps no more than one frame and what came last."""
    kept = sum(map(len, link._chunks))
    return kept <= frames.STRANGER_FRAME_MAX_BYTES + 4 + len(piece)


WORDS = st.sampled_from(
    [
        message(Kind.HELLO, {}),
        message(Kind.HELLO, {"magic": "pymcd-replication", "version": 1}),
        message(Kind.HELLO, Stranger(lone_host()).hello),
        message(Kind.PROOF, {"proof": "00"}),
        message(Kind.REFUSAL, {"reason": "busy"}),
        message(77, {}),
        frames.encode_frame(b"\x01[]"),
        frames.encode_frame(b"\x01" + b"[" * 4000),
        frames.encode_frame(b"\x01" + b'{"a":' * 800),
        b"\0\0\x0f\xff",
        b"get a\r\n",
        b"GET / HTTP/1.1\r\n\r\n",
    ]
)


class TestGarbage:
    @given(st.lists(st.one_of(st.binary(max_size=200), WORDS), max_size=8), CUTS, st.booleans())
    def test_it_does_no_harm(self, pieces, cuts, calls):
        stranger = Stranger(lone_host(), calls=calls)
        link = stranger.link
        for piece in cut(b"".join(pieces), cuts):
            link.receive(piece)
            assert bounded(link, piece)
        assert not link.proven
        assert sum(map(len, link.output)) < 1000
        assert link.closed == (link not in stranger.host.node.membership.links)
        assert stranger.host.node.view.peers == {}
        assert len(stranger.host.lines) <= 2

    @pytest.mark.parametrize(
        "data",
        [
            (frames.STRANGER_FRAME_MAX_BYTES + 1).to_bytes(4, "big") + bytes(4),
            b"\xff\xff\xff\xff" + bytes(4),
            bytes(8),
            frames.encode_frame(b"\x01{}")[:-1] + b"x",
            b"GET / HTTP/1.1\r\n",
        ],
    )
    def test_what_is_no_frame_ends_it_at_once(self, data):
        stranger = Stranger(lone_host())
        stranger.link.receive(data)
        assert stranger.link.closed
        assert stranger.host.lines[0].startswith("replication: 192.0.2.1:7 sent a frame")
        assert stranger.host.rows["handshake_failures"] == 1

    @pytest.mark.parametrize(
        "data",
        [
            message(Kind.PROOF, {"proof": ""}),
            message(Kind.CHANGES, {}),
            message(Kind.STATUS, {}),
            frames.encode_frame(b"\0{}"),
        ],
    )
    def test_so_does_what_is_out_of_turn(self, data):
        stranger = Stranger(lone_host())
        stranger.link.receive(data)
        assert stranger.link.closed

    def test_nobody_says_hello_twice(self):
        stranger = Stranger(lone_host())
        stranger.say_hello()
        stranger.say_hello()
        assert stranger.link.closed

    def test_after_the_end_nothing_is_heard(self):
        stranger = Stranger(lone_host())
        stranger.link.receive(bytes(8))
        stranger.enter()
        assert not stranger.is_in
        assert stranger.host.node.view.peers == {}

    @given(st.integers(1, 50))
    def test_what_drips_in_costs_no_more_than_a_frame(self, step):
        link = Stranger(lone_host()).link
        frame = frames.encode_frame(bytes(frames.STRANGER_FRAME_MAX_BYTES - 4))
        for at in range(0, len(frame), step):
            link.receive(frame[at : at + step])
            assert bounded(link, frame[:step])
        assert link.closed

    def test_a_peer_may_send_more_than_a_stranger(self):
        group = make_group(item_size_max_bytes=1 << 20)
        guest = Guest(group["b"])
        assert guest.ask(b"set a 0 0 1000000\r\n", bytes(1_000_000), b"\r\n") == b"STORED\r\n"
        group.check_equal()

    def test_but_not_without_end(self):
        group = make_group()
        link = group.wire("a", "b").links[0]
        link.receive((group["a"].node.membership.frame_max_bytes + 1).to_bytes(4, "big") + bytes(4))
        assert link.closed


class TestStrangers:
    def test_who_says_nothing_is_sent_away(self):
        group = make_group()
        stranger = Stranger(group["a"])
        stranger.say_hello()
        group.advance(HANDSHAKE_S - 0.1)
        assert not stranger.link.closed
        group.advance(1.2)
        assert stranger.link.closed
        assert group["a"].node.role.in_sync

    def test_they_are_bounded_in_number(self):
        group = make_group()
        host = group["a"]
        strangers = []
        while host.node.membership.may_accept():
            strangers.append(Stranger(host))
        assert len(strangers) == STRANGERS_MAX
        strangers[3].link.disconnected()
        assert host.node.membership.may_accept()
        assert host.rows["handshake_failures"] == 1

    def test_they_do_not_disturb_those_who_are_in(self):
        group = make_group()
        for _ in range(STRANGERS_MAX):
            Stranger(group["a"]).link.receive(b"\0\0\x0f")
        guests = Guest(group["a"]), Guest(group["b"])
        assert guests[0].ask(b"set a 0 0 1\r\n1\r\n") == b"STORED\r\n"
        assert guests[1].ask(b"get a\r\n") == b"VALUE a 0 1\r\n1\r\nEND\r\n"


class TestPeers:
    def test_there_are_only_so_many(self):
        host = lone_host()
        strangers = [Stranger(host, node=f"s{number}", tag=number) for number in range(PEERS_MAX)]
        for stranger in strangers:
            stranger.enter()
        assert all(stranger.is_in for stranger in strangers)
        one_more = Stranger(host, node="x")
        one_more.enter()
        assert not one_more.is_in
        assert len(host.node.view.peers) == PEERS_MAX
        strangers[4].link.disconnected()
        one_more = Stranger(host, node="x")
        one_more.enter()
        assert one_more.is_in
        assert "s4" not in host.node.view.peers
        assert len(host.node.view.peers) == PEERS_MAX
