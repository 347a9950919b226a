"""An etcd as a register: what is asked of it, and what its answers mean; troubles one by one."""

from __future__ import annotations

import json
import random
from base64 import b64encode
from functools import partial
from math import inf
from typing import Any, NamedTuple

import pytest

from pymcd.replication.ballot import NO, YES, Ballot
from pymcd.replication.etcd import (
    AGAIN_MAX_S,
    AGAIN_S,
    GIVE_UP_S,
    LOGIN_EVERY_S,
    NAME,
    PROBE_EVERY_S,
    REQUESTS_MAX,
    Entry,
    EtcdRegister,
)
from pymcd.replication.messages import Grant, Roll, Vote
from pymcd.replication.witness import Memory

from ..clocks import ManualClock
from .etcds import KEY, MEMBERS, Courier, Etcd, EtcdHost, error_of
from .helpers import Group, address_of
from .test_ballot import Voter, World, explore, wander

RANGE, TXN, LOGIN = "/v3/kv/range", "/v3/kv/txn", "/v3/auth/authenticate"


def roll(epoch: int, members: str, life: str = "", coordinator: str = "") -> Roll:
    """Return a view of these, in lives of the same name, perhaps with the etcd in that life."""
    data = {name: name.upper() for name in members}
    return Roll(epoch, coordinator or members[0], data, {NAME: life} if life else {})


class Desk:
    """One node's register, and all that it is told."""

    def __init__(
        self,
        etcd: Etcd | None = None,
        *,
        members: tuple[str, ...] = MEMBERS,
        name: str = "a",
        login: tuple[str, str] | None = None,
        cluster_id: str = "pymcd",
        clock: ManualClock | None = None,
    ) -> None:
        self.etcd = etcd or Etcd()
        self.clock = clock or ManualClock()
        self.courier = Courier(self.etcd, login)
        self.everybody = frozenset("ab")
        self.grants: list[Grant] = []
        self.lines: list[str] = []
        self.wanted: Vote | None = None
        self._said: set[str] = set()
        self.register = EtcdRegister(
            members,
            KEY,
            cluster_id,
            clock=self.clock,
            courier=self.courier,
            entropy=random.Random(name).randbytes,
            node_id=name[0],
            everybody=lambda: self.everybody,
            is_wanted=lambda vote: vote == self.wanted,
            answered=self.grants.append,
            complain=self._complain,
        )

    def _complain(self, about: str, line: str) -> None:
        if about not in self._said:
            self._said.add(about)
            self.lines.append(line)

    def settle(self) -> None:
        for _ in range(100):
            if not self.courier.carry():
                return
        raise AssertionError("never comes to rest")

    def step(self, seconds: float = 0.0) -> None:
        """Let time pass, with all that happens then."""
        end = self.clock.monotonic() + seconds
        while True:
            self.register.step(self.clock.monotonic())
            self.settle()
            left = end - self.clock.monotonic()
            if left <= 0:
                return
            self.clock.advance(min(left, 0.05))

    @property
    def told(self) -> list[Grant]:
        """What it was told, without what several members said."""
        return [
            one
            for one, before in zip(self.grants, [None, *self.grants[:-1]], strict=True)
            if one != before
        ]

    def ask(self, vote: Vote) -> Grant | None:
        """Return what is answered at once."""
        self.clock.advance(AGAIN_S)
        self.wanted = vote
        self.grants.clear()
        self.register.ask(vote)
        self.settle()
        return self.grants[-1] if self.grants else None


def linked(**more: Any) -> Desk:
    """Return a node's register that is linked."""
    desk = Desk(**more)
    desk.step()
    assert desk.register.linked
    return desk


class TestKey:
    def test_who_finds_none_makes_one(self):
        desk = Desk()
        register = desk.register
        assert (register.linked, register.node_id, register.life) == (False, "", "")
        desk.step()
        assert register.linked
        assert register.trouble == ""
        said = desk.etcd.get()
        assert said == {
            "cluster": "pymcd",
            "etcd": str(desk.etcd.cluster_id),
            "life": register.life,
            "backs": None,
        }
        assert (register.node_id, len(register.life), register.backs) == (NAME, 32, None)
        assert desk.grants[:1] == [Grant(0, "", None)]
        assert desk.lines == []

    def test_two_who_find_none_agree(self):
        etcd = Etcd()
        desks = [Desk(etcd, name=name) for name in "ab"]
        for desk in desks:
            desk.register.step(0.0)
        for _ in range(10):
            for desk in desks:
                desk.courier.carry()
        assert desks[0].register.life == desks[1].register.life != ""

    def test_it_is_what_a_witness_keeps(self):
        entry = Entry("pymcd", "5", Memory("life", roll(16, "ab", "life")))
        assert Entry.decode(entry.encode()) == entry
        assert Memory.decode(entry.encode()) == entry.memory

    @pytest.mark.parametrize(
        "value",
        [
            b"",
            b"{",
            b"[]",
            b"{}",
            b"\xff",
            b'{"life":"x"}',
            b'{"life":"x","cluster":5,"etcd":"5"}',
            b'{"life":"x","cluster":"pymcd"}',
            b'{"life":"","cluster":"pymcd","etcd":"5"}',
            b'{"life":"x","cluster":"pymcd","etcd":"5","backs":{"epoch":5}}',
        ],
    )
    def test_what_is_not_ours_is_let_alone(self, value):
        desk = Desk()
        desk.etcd.put(value)
        desk.step(3.0)
        assert not desk.register.linked
        assert desk.register.trouble == f"key {KEY} holds what is not ours"
        assert desk.lines == [f"replication: etcd has no vote: {desk.register.trouble}"]
        assert desk.etcd.keys[KEY][0] == value
        desk.etcd.delete()
        desk.step(1.0)
        assert desk.register.linked

    def test_another_cluster_has_it(self):
        desk = Desk(cluster_id="other")
        linked(etcd=desk.etcd)
        desk.step(2.0)
        assert desk.register.trouble == f"key {KEY} is that of the cluster pymcd"
        assert not desk.register.linked

    def test_who_deletes_it_takes_the_vote(self):
        desk = linked()
        life = desk.register.life
        first = roll(16, "ab", life)
        assert desk.ask(Vote(first, first)) == Grant(16, YES, first)
        desk.etcd.delete()
        desk.step(1.1)
        assert desk.register.linked
        assert desk.register.life not in ("", life)
        assert desk.register.backs is None
        assert desk.told == [Grant(16, YES, first), Grant(0, "", None)]
        (line,) = desk.lines
        assert line.endswith(
            "etcd has lost its key: it has a vote again when the nodes have taken it in"
        )

    @pytest.mark.parametrize("how", ["another etcd", "less behind it"])
    def test_a_copy_has_no_memory(self, how):
        desk = linked()
        life = desk.register.life
        before = desk.etcd.keys.copy()
        first = roll(16, "ab", life)
        desk.ask(Vote(first, first))
        desk.etcd.keys = before
        if how == "another etcd":
            desk.etcd.cluster_id += 1
        else:
            desk.etcd.revision = 2
        desk.step(1.1)
        assert desk.register.linked
        assert desk.register.life != life
        assert desk.register.backs is None
        assert desk.etcd.get()["etcd"] == str(desk.etcd.cluster_id)
        assert any("was restored from a copy" in line for line in desk.lines)

    def test_two_groups_with_one_key(self):
        """Who came last has it; the other says so, and takes it back no more."""
        etcd = Etcd()
        ours, theirs = linked(etcd=etcd), linked(etcd=etcd, name="c")
        theirs.everybody = frozenset("cd")
        first = roll(16, "ab", ours.register.life)
        assert ours.ask(Vote(first, first)) == Grant(16, YES, first)
        other = roll(4096, "cd", ours.register.life)
        theirs.step(1.1)
        assert theirs.register.linked
        assert theirs.ask(Vote(other, other)) == Grant(4096, YES, other)
        ours.step(3.0)
        assert not ours.register.linked
        assert ours.register.trouble == (
            f"key {KEY} is used by c and d: give each group a --cluster-id of its own; if those"
            " are gone, delete the key"
        )
        assert len(ours.lines) == 1
        assert ours.ask(Vote(first, roll(8192, "ab", ours.register.life))) is None
        theirs.step(3.0)
        assert theirs.register.linked
        etcd.delete()
        ours.step(1.0)
        assert ours.register.linked

    def test_who_was_once_with_us_is_no_stranger(self):
        """Nor is whoever we do not know as long as there is a peer that we have not met."""
        etcd = Etcd()
        ours, theirs = linked(etcd=etcd), linked(etcd=etcd, name="b")
        life = ours.register.life
        for ours.everybody in (frozenset(), frozenset("ax")):
            both, other = roll(16, "ab", life), roll(32, "b", life)
            theirs.ask(Vote(both, both))
            ours.step(1.1)
            theirs.ask(Vote(both, other))
            ours.step(1.1)
            assert ours.register.linked
            assert ours.register.backs == other
            etcd.delete()
            for desk in (ours, theirs):
                desk.step(1.1)
            life = ours.register.life
        ours.everybody = frozenset()
        for epoch, members in ((16, "ab"), (32, "bc"), (48, "c"), (64, "d")):
            told = roll(epoch, members, life)
            theirs.ask(Vote(told, told))
        ours.step(1.1)
        assert ours.register.linked


class TestVote:
    def test_by_the_rules(self):
        desk = linked()
        life = desk.register.life
        first = roll(16, "ab", life)
        assert desk.ask(Vote(first, first)) == Grant(16, YES, first)
        assert desk.register.backs == first
        alone = roll(32, "a", life)
        assert desk.ask(Vote(first, alone)) == Grant(32, YES, alone)
        other = roll(33, "b", life)
        assert desk.ask(Vote(first, other)) == Grant(33, NO, alone)
        assert Memory.decode(desk.etcd.keys[KEY][0]) == Memory(life, alone)

    def test_one_of_two_who_ask_at_once(self):
        etcd = Etcd()
        one, two = linked(etcd=etcd), linked(etcd=etcd, name="b")
        first = roll(16, "ab", one.register.life)
        one.ask(Vote(first, first))
        rolls = [roll(32, "a", one.register.life), roll(33, "b", one.register.life)]
        for desk, wanted in zip((one, two), rolls, strict=True):
            desk.clock.advance(AGAIN_S)
            desk.wanted = Vote(first, wanted)
            desk.grants.clear()
            desk.register.ask(desk.wanted)
        for _ in range(10):  # both read before one of them sets
            for desk in (one, two):
                desk.courier.carry()
        assert one.grants[-1] == Grant(32, YES, rolls[0])
        assert two.grants[-1] == Grant(33, NO, rolls[0])

    def test_what_is_wanted_no_more_is_not_set(self):
        desk = linked()
        first = roll(16, "ab", desk.register.life)
        desk.register.ask(Vote(first, first))
        desk.settle()
        assert desk.etcd.get()["backs"] is None

    def test_what_was_read_before_is_no_answer(self):
        """Only who hears after he began to ask may set the key."""
        desk = linked()
        first = roll(16, "ab", desk.register.life)
        desk.ask(Vote(first, first))
        desk.courier.deaf = True
        desk.ask(Vote(first, roll(32, "a", desk.register.life)))
        assert desk.etcd.get()["backs"]["epoch"] == 16
        assert desk.grants == []

    def test_a_lost_answer_is_found_again(self):
        desk = linked(members=MEMBERS[:1])
        first = roll(16, "ab", desk.register.life)
        desk.wanted = Vote(first, first)
        desk.register.ask(desk.wanted)
        desk.courier.carry()  # it is read
        desk.courier.deaf = True
        desk.settle()  # and set, which nobody learns
        assert desk.etcd.get()["backs"]["epoch"] == 16
        desk.courier.deaf = False
        assert desk.ask(desk.wanted) == Grant(16, YES, first)

    def test_the_others_answer_where_one_does_not(self):
        desk = linked()
        first = roll(16, "ab", desk.register.life)
        desk.courier.silent.add(MEMBERS[0])
        desk.courier.down.add(MEMBERS[1])
        assert desk.ask(Vote(first, first)) == Grant(16, YES, first)
        desk.step(4.0)
        assert desk.register.linked
        assert desk.register.trouble == (
            f"{MEMBERS[0]}: does not answer in time; {MEMBERS[1]}: Connection refused"
        )
        assert desk.lines == [
            f"replication: etcd at {MEMBERS[1]}: Connection refused",
            f"replication: etcd at {MEMBERS[0]}: does not answer in time",
        ]

    def test_what_comes_late_is_known_by_its_revision(self):
        desk = linked()
        before = desk.etcd.answer(RANGE, json.dumps({"key": _key()}).encode())
        first = roll(16, "ab", desk.register.life)
        desk.courier.silent.add(MEMBERS[0])
        desk.ask(Vote(first, first))
        (late, *_) = desk.courier.requests
        late.owner.answered(late, *before)
        assert desk.register.backs == first
        assert desk.register.life == desk.etcd.get()["life"]

    def test_requests_are_bounded(self):
        desk = linked()
        first = roll(16, "ab", desk.register.life)
        desk.courier.silent.update(MEMBERS)
        desk.grants.clear()
        desk.wanted = Vote(first, first)
        for _ in range(100):
            desk.clock.advance(AGAIN_S / 4)
            desk.register.ask(desk.wanted)
            assert all(len(each.requests) <= REQUESTS_MAX for each in desk.register.members)
        assert len(desk.courier.requests) <= REQUESTS_MAX * len(MEMBERS)
        # The same is asked a few times a second, and what is given up counts no more.
        assert len(desk.courier.given_up) < 100
        late = desk.courier.given_up[0]
        late.owner.answered(late, *desk.etcd.answer(RANGE, late.body))
        assert not desk.grants

    def go_on_asking(self, desk: Desk, vote: Vote, seconds: float, answers_in_s: float = inf):
        """As a node does that lacks a vote."""
        desk.wanted = vote
        for _ in range(round(seconds / 0.05)):
            desk.clock.advance(0.05)
            desk.register.step(desk.clock.monotonic())
            desk.register.ask(vote)
            for request in list(desk.courier.requests):
                if desk.clock.monotonic() - request.asked_at >= answers_in_s:
                    desk.courier.requests.remove(request)
                    answer = desk.etcd.answer(request.path, request.body)
                    request.owner.answered(request, *answer)

    def test_that_it_is_silent_is_seen_while_it_is_asked_for_its_vote(self):
        desk = linked(members=MEMBERS[:1])
        first = roll(16, "ab", desk.register.life)
        desk.courier.silent.update(MEMBERS)
        self.go_on_asking(desk, Vote(first, first), GIVE_UP_S + 3 * AGAIN_S)
        assert not desk.register.linked
        assert desk.register.trouble == f"{MEMBERS[0]}: does not answer in time"
        desk.courier.silent.clear()
        desk.courier.requests.clear()
        self.go_on_asking(desk, Vote(first, first), AGAIN_MAX_S + 0.1, answers_in_s=0.0)
        assert desk.grants[-1] == Grant(16, YES, first)

    @pytest.mark.parametrize("takes_s", [0.2, 0.5, 1.0, 1.4])
    def test_it_may_take_its_time(self, takes_s):
        """Each request that is given up for a later one would be lost, and so the vote."""
        desk = linked(members=MEMBERS[:1])
        first = roll(16, "ab", desk.register.life)
        self.go_on_asking(desk, Vote(first, first), 4 * takes_s, takes_s)
        assert desk.grants[-1] == Grant(16, YES, first)
        assert desk.register.linked

    def test_it_is_told_as_soon_as_it_can_be_asked(self):
        desk = linked()
        desk.courier.down.update(MEMBERS)
        desk.step(1.5)
        assert not desk.register.linked
        desk.grants.clear()
        desk.courier.down.clear()
        desk.step(1.0)
        assert desk.grants == [Grant(0, "", None)]


def _key() -> str:
    return b64encode(KEY.encode()).decode()


class TestTroubles:
    @pytest.mark.parametrize(
        ("status", "body", "said"),
        [
            (*error_of(14, "etcdserver: no leader"), "etcdserver: no leader"),
            (*error_of(14, "etcdserver: request timed out"), "etcdserver: request timed out"),
            (
                *error_of(11, "etcdserver: mvcc: required revision has been compacted", 400),
                "etcdserver: mvcc: required revision has been compacted",
            ),
            (503, b'{"code":14,"message":"so say later ones","details":[]}', "so say later ones"),
            (500, b'{"error":5}', "answers with status 500"),
            (404, b"404 page not found\n", "answers what is not JSON, with status 404"),
            (200, b"<html>", "answers what is not JSON, with status 200"),
            (200, b"", "answers what is not JSON, with status 200"),
            (200, b"[1]", "answers what is not JSON, with status 200"),
            (200, b"{}", "answers what no etcd does"),
            (200, b'{"header":{"cluster_id":"x","revision":"5"}}', "answers what no etcd does"),
            (200, b'{"header":{"cluster_id":"5","revision":-5}}', "answers what no etcd does"),
            (
                200,
                b'{"header":{"cluster_id":"5","revision":"5"},"kvs":[{"value":"@@","mod_revision":"5"}]}',
                "answers what no etcd does",
            ),
            (
                200,
                b'{"header":{"cluster_id":"5","revision":"5"},"succeeded":true}',
                "answers what no etcd does",
            ),
            (500, b'{"error":"two\\nlines \\u00e9"}', "two?lines ?"),
        ],
    )  # fmt: skip
    def test_what_no_member_should_answer(self, status, body, said):
        desk = linked(members=MEMBERS[:1])
        first = roll(16, "ab", desk.register.life)
        desk.ask(Vote(first, first))
        desk.etcd.fault = lambda path, body_: (status, body)
        desk.step(3.0)
        assert not desk.register.linked
        assert desk.register.trouble == f"{MEMBERS[0]}: {said}"
        assert desk.lines == [f"replication: etcd at {MEMBERS[0]}: {said}"]
        assert desk.ask(Vote(first, roll(32, "a", desk.register.life))) is None
        desk.etcd.fault = lambda path, body_: None
        desk.step(1.0)
        assert desk.register.linked
        assert desk.register.trouble == ""

    def test_a_member_of_another_etcd(self):
        desk = linked()
        other = Etcd(cluster_id=5)
        desk.courier.etcd = other
        (member, *_) = desk.register.members
        desk.courier.silent.update(MEMBERS[1:])
        desk.step(1.1)
        assert member.fault == "belongs to another etcd than the others"
        assert other.keys == {}
        assert desk.register.linked

    def test_an_etcd_that_was_built_anew(self):
        desk = linked()
        life = desk.register.life
        desk.courier.etcd = Etcd(cluster_id=5)
        desk.courier.down.update(MEMBERS)
        desk.step(1.1)
        desk.courier.down.clear()
        desk.step(1.1)
        assert desk.register.linked
        assert desk.register.life != life

    @pytest.mark.parametrize("fault", ["may not write", "is full"])
    def test_who_cannot_be_set_has_no_vote(self, fault):
        """Though it can be read."""
        etcd = Etcd(users={"u": "p"})
        desk = linked(etcd=etcd, login=("u", "p"))
        full = error_of(8, "etcdserver: mvcc: database space exceeded", 429)
        if fault == "may not write":
            etcd.readers.add("u")
        else:
            etcd.fault = lambda path, said: full if path == TXN else None
        first = roll(16, "ab", desk.register.life)
        assert desk.ask(Vote(first, first)) is None
        desk.step(5.0)
        assert not desk.register.linked
        words = "permission denied" if fault == "may not write" else "database space exceeded"
        assert words in desk.register.trouble
        etcd.readers.clear()
        etcd.fault = lambda path, said: None
        desk.step(1.0)
        assert desk.register.linked

    def test_that_it_can_be_set_is_tried_now_and_then(self):
        desk = linked()
        desk.step(1.0)
        revision = desk.etcd.revision
        desk.etcd.asked.clear()
        desk.step(2 * PROBE_EVERY_S + 3.0)
        assert desk.etcd.asked.count(TXN) == 2 * len(MEMBERS)
        assert desk.etcd.revision == revision


class TestLogin:
    def test_it_comes_first(self):
        etcd = Etcd(users={"u": "p"})
        desk = linked(etcd=etcd, login=("u", "p"))
        assert etcd.asked[: len(MEMBERS)] == [LOGIN] * len(MEMBERS)
        assert len(etcd.tokens) == len(MEMBERS)
        first = roll(16, "ab", desk.register.life)
        assert desk.ask(Vote(first, first)) == Grant(16, YES, first)
        desk.step(5.0)
        assert len(etcd.tokens) == len(MEMBERS)

    @pytest.mark.parametrize(
        ("login", "said"),
        [
            (None, "etcdserver: user name is empty"),
            (("u", "x"), "etcdserver: authentication failed, invalid user ID or password"),
            (("x", "p"), "etcdserver: authentication failed, invalid user ID or password"),
        ],
    )
    def test_a_refusal_is_said(self, login, said):
        desk = Desk(Etcd(users={"u": "p"}), login=login, members=MEMBERS[:1])
        desk.step(3.0)
        assert not desk.register.linked
        assert desk.register.trouble == f"{MEMBERS[0]}: {said}"
        assert len(desk.lines) == 1
        assert desk.etcd.asked.count(LOGIN) == (login is not None)
        if login is not None:
            desk.courier.login = ("u", "p")
            desk.step(LOGIN_EVERY_S)
            assert desk.register.linked

    @pytest.mark.parametrize(
        "refusal",
        [
            (16, "etcdserver: invalid auth token", 401),
            (3, "etcdserver: revision of auth store is old", 400),
            (3, "etcdserver: user name is empty", 400),
        ],
    )
    def test_who_is_forgotten_logs_in_again(self, refusal):
        etcd = Etcd(users={"u": "p"})
        desk = linked(etcd=etcd, login=("u", "p"))
        old = set(etcd.tokens)
        etcd.fault = lambda path, said: (
            error_of(*refusal) if path != LOGIN and len(etcd.tokens) == len(old) else None
        )
        first = roll(16, "ab", desk.register.life)
        assert desk.ask(Vote(first, first)) == Grant(16, YES, first)
        assert desk.register.linked
        assert desk.lines == []

    def test_whose_tokens_are_good_for_nothing_is_not_asked_without_end(self):
        etcd = Etcd(users={"u": "p"})
        etcd.fault = lambda path, said: (
            error_of(16, "etcdserver: invalid auth token", 401) if path != LOGIN else None
        )
        desk = Desk(etcd, login=("u", "p"), members=MEMBERS[:1])
        desk.step(2.0)
        assert desk.register.trouble == f"{MEMBERS[0]}: etcdserver: invalid auth token"
        assert len(etcd.asked) < 10

    def test_a_login_that_was_lost_is_tried_again_soon(self):
        desk = Desk(Etcd(users={"u": "p"}), login=("u", "p"))
        desk.courier.silent.update(MEMBERS)
        desk.step(0.9)
        desk.courier.silent.clear()
        desk.courier.deaf = True
        desk.step(0.9)
        desk.courier.deaf = False
        desk.step(1.5)
        assert desk.register.linked

    def test_where_nobody_logs_in_a_user_is_as_good_as_none(self):
        desk = linked(login=("u", "p"))
        desk.step(3.0)
        assert desk.etcd.asked.count(LOGIN) == len(MEMBERS)

    def test_logins_that_are_asked_for_later(self):
        desk = linked(login=("u", "p"))
        desk.etcd.users["u"] = "p"
        desk.step(1.1)
        assert desk.register.linked
        assert desk.lines == []

    @pytest.mark.parametrize("body", [b"{}", b'{"token":5}', b'{"token":"two words"}'])
    def test_a_login_without_a_token(self, body):
        desk = Desk(login=("u", "p"), members=MEMBERS[:1])
        desk.etcd.fault = lambda path, said: (200, body) if path == LOGIN else None
        desk.step(1.0)
        assert desk.register.trouble == f"{MEMBERS[0]}: answers a login without a token"


@pytest.mark.parametrize("other", ["etcd://e1/other", address_of("w")])
def test_nodes_with_another_key_or_kind_of_witness_say_so(other):
    group = Group("ab", etcd=EtcdHost())
    group.add("b", peers=(address_of("a"),), witness=other)
    group.link("a", "b")
    for host in group.hosts.values():
        assert sum("--witness" in line for line in host.lines) == 1


# -- all that can happen -----------------------------------------------------------------------


class EtcdState(NamedTuple):
    """As `State`; and what is to be set, each if the key is still of a revision."""

    voters: tuple[Voter, ...]
    votes: frozenset[tuple[int, float]]
    grants: frozenset[tuple[str, str, str, int, float]]
    restarts_left: int
    sets: frozenset[tuple[int, int]] = frozenset()
    revision: int = 1

    def __hash__(self) -> int:
        return hash(repr(self))


class EtcdWorld(World):
    """The third voter is an etcd: whoever asks reads it, decides for it, and sets it later."""

    beginning: Any

    def __init__(self, names: str, *, asks: int, restarts: int, compares: bool = True) -> None:
        super().__init__(names, asks=asks, restarts=restarts)
        self.compares = compares
        self.beginning = EtcdState(*self.beginning)

    def answers(self, state: Any, name: str, voter: Voter) -> list[Any]:
        if name != "w":
            return super().answers(state, name, voter)
        result = []
        for number, _ in state.votes:
            after = self.ballot_of(name, voter)
            if after.register(self.said[number], heard=True).word != YES:
                continue
            if after.backs != voter.backs:
                result.append(state._replace(sets=state.sets | {(number, state.revision)}))
            else:
                result.append(self.granted(state, number, voter.life))
        for number, revision in state.sets:
            if revision == state.revision or not self.compares:
                after = self.ballot_of(name, voter)
                after.backs = self.said[number].roll
                voters = self.note(state, name, after, 0)
                done = state._replace(voters=voters, revision=state.revision + self.compares)
                result += [done, self.granted(done, number, voter.life)]
        return result

    def granted(self, state: Any, number: int, life: str) -> Any:
        grant = (self.said[number].roll.coordinator, "w", life, number, 0.0)
        return state._replace(grants=state.grants | {grant})

    def steps(self, state: Any) -> list[Any]:
        index = self.names.index("w")
        result: list[Any] = super().steps(state)
        for position, after in enumerate(result):
            if after.voters[index].life != state.voters[index].life:  # the key was lost
                result[position] = after._replace(revision=state.revision + 1)
        return result


@pytest.mark.parametrize("restarts", [0, pytest.param(1, marks=pytest.mark.slow)])
def test_whatever_is_set_late_twice_or_by_two_at_once(restarts):
    assert explore(EtcdWorld("abw", asks=1, restarts=restarts), 100_000) > 100


@pytest.mark.slow
def test_longer_stories():
    views = sum(wander(EtcdWorld("abw", asks=5, restarts=1), seed, 60) for seed in range(60))
    assert views > 90  # of which 60 are the first


def test_that_the_revision_is_compared_is_needed():
    world = EtcdWorld("abw", asks=1, restarts=0, compares=False)
    world.checks = False
    with pytest.raises(AssertionError, match="go on"):
        explore(world, 20_000)


class Chaos:
    """Two nodes that do not see each other, a real register each, and one etcd behind bad lines.

    Requests are executed late, twice or not at all; their answers come late or are lost. Each node
    wants to go on alone, again and again, with the vote of the etcd.
    """

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)
        self.clock = ManualClock()
        self.etcd = Etcd()
        self.desks = {
            name: Desk(self.etcd, name=f"{name}{seed}", clock=self.clock, members=MEMBERS[:2])
            for name in "ab"
        }
        for desk in self.desks.values():
            desk.step()
            desk.step(1.1)
        self.life = self.desks["a"].register.life
        self.base = roll(16, "ab", self.life)
        self.desks["a"].ask(Vote(self.base, self.base))
        self.ballots = {name: Ballot(name, name.upper(), self.base) for name in "ab"}
        for name, ballot in self.ballots.items():
            ballot.came_about = True
            register = self.desks[name].register
            register._is_wanted = partial(self.is_wanted, name)
            register._answered = partial(self.answered, name)
        self.epoch = 16
        self.under_way: list[Any] = []  #: requests, given up or not
        self.answers: list[Any] = []
        self.gone_on: list[Roll] = []

    def is_wanted(self, name: str, vote: Vote) -> bool:
        poll = self.ballots[name].poll
        return poll is not None and poll.vote == vote

    def answered(self, name: str, grant: Grant) -> None:
        ballot, register = self.ballots[name], self.desks[name].register
        if ballot.poll is not None and grant.epoch == ballot.poll.vote.roll.epoch:
            ballot.poll.answered(register.node_id, register.life, grant)
            if (gone_on := ballot.conclude()) is not None:
                self.gone_on.append(gone_on)

    def ask(self, name: str) -> None:
        ballot, register = self.ballots[name], self.desks[name].register
        if self.gone_on and self.gone_on[-1].coordinator == name:
            return
        if ballot.poll is None or self.chance.random() < 0.1:
            self.epoch += 16
            epoch = self.epoch + "ab".index(name)
            ballot.ask(roll(epoch, name, register.life), frozenset())
        assert ballot.poll is not None
        if register.linked:
            register.ask(ballot.poll.vote)

    def gather(self) -> None:
        for desk in self.desks.values():
            self.under_way += desk.courier.requests
            desk.courier.requests.clear()

    def step(self) -> None:
        chance, kind = self.chance, self.chance.random()
        name = chance.choice("ab")
        if kind < 0.2:
            self.ask(name)
        elif kind < 0.6 and self.under_way:
            late = chance.random() < 0.3
            request = chance.choice(self.under_way if late else self.under_way[-3:])
            if chance.random() < 0.7:
                self.under_way.remove(request)  # else it comes once more
            self.answers.append((request, self.etcd.answer(request.path, request.body)))
        elif kind < 0.85 and self.answers:
            late = chance.random() < 0.3
            request, answer = self.answers.pop(chance.randrange(len(self.answers)) if late else -1)
            if chance.random() < 0.8:
                request.owner.answered(request, *answer)
        elif 0.85 < kind < 0.87 and self.under_way:
            request = chance.choice(self.under_way)
            request.owner.failed(request, "Connection reset by peer")
        elif 0.87 < kind < 0.871 and KEY in self.etcd.keys:
            self.etcd.delete()
        else:
            self.clock.advance(chance.choice((0.01, 0.05, 0.2)))
            self.desks[name].register.step(self.clock.monotonic())
        self.gather()

    def check(self) -> None:
        assert len({each.coordinator for each in self.gone_on}) <= 1, self.gone_on


@pytest.mark.slow
def test_with_bad_lines_one_goes_on_at_most():
    gone_on = 0
    for seed in range(100):
        chaos = Chaos(seed)
        for _ in range(400):
            chaos.step()
            chaos.check()
        gone_on += len(chaos.gone_on)
    assert gone_on > 50


@pytest.mark.slow
def test_a_register_that_does_not_compare_would_be_found(monkeypatch):
    monkeypatch.setattr(Etcd, "compare", staticmethod(lambda wanted, found: wanted >= 0))
    with pytest.raises(AssertionError):
        test_with_bad_lines_one_goes_on_at_most()
