"""When a node that has nothing begins to serve, and whose data keeps it from that."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from pymcd.replication import frames
from pymcd.replication.frames import Kind
from pymcd.replication.link import ADVICE
from tests.replication.helpers import SECRET, Group, Guest, Host, Wire, address_of, make_group

SYNC_TIMEOUT_S = 5.0
HELD = "replication: no client is served, as this node has nothing: "


def group_of(*, force_empty: bool = False, **different: Any) -> Group:
    """Return a, which serves alone and has data, and b, which starts, and is different."""
    group = Group("")
    common = {"sync_timeout_s": SYNC_TIMEOUT_S}
    a = group.add("a", peers=(address_of("b"),), **common)
    group.advance(SYNC_TIMEOUT_S + 1)
    assert a.node.role == "alone"
    assert Guest(a).ask(b"set k 0 0 1\r\nx\r\n") == b"STORED\r\n"
    settings: dict[str, Any] = {"peers": (address_of("a"),), "force_empty": force_empty}
    group.add("b", **{**settings, **common, **different})
    return group


def dial_for(group: Group, seconds: float, caller: str = "b", callee: str = "a") -> None:
    """Let time pass while one dials the other again and again."""
    for _ in range(round(seconds * 2)):
        if group[caller].node.membership.should_dial(address_of(callee)):
            Wire(group[caller], group[callee])
        group.advance(0.5)


def lines_of(host: Host, begin: str = HELD) -> list[str]:
    return [line.removeprefix(begin) for line in host.lines if line.startswith(begin)]


#: Why a link is refused -> what is different in the one that starts.
DIFFERENCES: dict[str, dict[str, Any]] = {
    "secret": {"secret": b"another"},
    "no secret": {"secret": None},
    "cluster": {"cluster_id": "another"},
}
differences = pytest.mark.parametrize("how", DIFFERENCES)


class TestRefused:
    @differences
    def test_who_is_refused_by_a_peer_with_data_does_not_serve(self, how):
        group = group_of(**DIFFERENCES[how])
        dial_for(group, 10 * SYNC_TIMEOUT_S)
        b = group["b"]
        assert b.node.role == "starting"
        assert not b.node.ready
        (line, *more) = lines_of(b)
        reason = ADVICE[how.removeprefix("no ")]
        assert line.startswith(f"{address_of('a')} has data, and there is no link to it: {reason}")
        assert "--force-empty" in line
        assert not more  # within a minute

    def test_it_says_so_each_minute(self):
        group = group_of(secret=b"another")
        dial_for(group, SYNC_TIMEOUT_S + 180)
        assert len(lines_of(group["b"])) in (3, 4)

    @differences
    def test_a_person_may_decide_otherwise(self, how):
        group = group_of(force_empty=True, **DIFFERENCES[how])
        dial_for(group, SYNC_TIMEOUT_S - 1)
        assert group["b"].node.role == "starting"
        dial_for(group, 2)
        assert group["b"].node.role == "alone"

    def test_or_mend_what_is_wrong(self):
        group = group_of(secret=b"another")
        dial_for(group, 3 * SYNC_TIMEOUT_S)
        b = group["b"]
        b.node.membership.secret = SECRET
        dial_for(group, 2)
        assert b.node.role == "follower"
        assert b.values() == {b"k": b"x"}

    def test_silence_afterwards_changes_nothing(self):
        group = group_of(secret=b"another")
        dial_for(group, 1)
        group["a"].stop()
        group.advance(20 * SYNC_TIMEOUT_S)
        assert group["b"].node.role == "starting"

    def test_but_what_comes_back_with_nothing_holds_nobody(self):
        group = group_of(secret=b"another")
        dial_for(group, 2 * SYNC_TIMEOUT_S)
        group["a"].stop()
        group["a"].start()
        dial_for(group, 1)
        assert group["b"].node.role == "alone"

    @differences
    def test_two_that_began_with_nothing_both_serve(self, how):
        """Though one begins first, and has what was written there meanwhile."""
        group = Group("")
        for name, other in ("ab", "ba"):
            settings = {"peers": (address_of(other),), "sync_timeout_s": SYNC_TIMEOUT_S}
            group.add(name, **{**settings, **(DIFFERENCES[how] if name == "b" else {})})
            dial_for(group, 1, name, other) if name == "b" else group.advance(1)
        for _ in range(20):
            dial_for(group, 0.5, "a", "b")
            dial_for(group, 0.5, "b", "a")
        for host in group.hosts.values():
            assert host.node.role == "alone"
            assert lines_of(host, "replication: serving alone: there is no other node with data")
            assert [line for line in host.lines if "refused" in line]


class TestWhoseWordCounts:
    def test_not_that_of_who_calls(self):
        group = group_of(secret=b"another")
        dial_for(group, 3 * SYNC_TIMEOUT_S, "a", "b")
        assert group["b"].node.role == "alone"

    @pytest.mark.parametrize(
        ("hello", "held"),
        [
            ({"magic": frames.MAGIC, "version": 99}, True),  # of a release that says nothing else
            ({"magic": frames.MAGIC, "version": 99, "data": "kept"}, True),
            ({"magic": frames.MAGIC, "version": 99, "data": "new"}, True),
            ({"magic": frames.MAGIC, "version": 99, "data": "nothing"}, False),
            ({"magic": frames.MAGIC, "version": 1}, True),
            ({"magic": "memcached", "version": 1, "data": "kept"}, False),
        ],
    )
    def test_of_whatever_release(self, hello, held):
        host = Group("a", peers=("127.0.0.1:1",), sync_timeout_s=1.0)["a"]
        link = host.node.membership.open_link(dialled="127.0.0.1:1")
        link.receive(frames.encode_frame(bytes([Kind.HELLO]) + frames.encode_json(hello)))
        assert link.closed
        host.group.advance(2.5)
        assert host.node.role == ("starting" if held else "alone")

    @pytest.mark.parametrize("end", ["cut", "silent"])
    def test_a_handshake_that_comes_to_nothing_tells_as_much(self, end):
        group = group_of()
        wire = Wire(group["b"], group["a"])
        wire.links[1].take_output()
        hello = group["a"].node.membership.open_link(dialled=None).take_output()[0]
        wire.links[0].receive(bytes(hello))
        wire.stall()
        if end == "cut":
            wire.cut()
        group.advance(2 * SYNC_TIMEOUT_S)
        assert group["b"].node.role == "starting"
        (line,) = lines_of(group["b"])
        assert "the handshake was cut short" in line

    @pytest.mark.parametrize("answer", [b"", b"HTTP/1.1 400 Bad Request\r\n\r\n", b"ERROR\r\n"])
    def test_not_that_of_something_else(self, answer):
        host = Group("a", peers=("127.0.0.1:1",), sync_timeout_s=1.0)["a"]
        for _ in range(6):
            link = host.node.membership.open_link(dialled="127.0.0.1:1")
            link.receive(answer)
            host.group.advance(0.5)
            link.disconnected()
        assert host.node.role == "alone"

    def test_what_a_node_says_of_itself(self):
        group = make_group()
        assert [host.node.view.data for host in group.hosts.values()] == ["kept", "kept"]
        group["a"].stop()
        group.advance(1)
        assert group["b"].node.role == "alone"
        assert group["b"].node.view.data == "kept"
        lone = Group("a", peers=("127.0.0.1:1",), sync_timeout_s=1.0)["a"]
        assert lone.node.view.data == "nothing"
        lone.group.advance(1.5)
        assert lone.node.view.data == "new"


class TestFirstWords:
    """A peer that has proven itself has said in its HELLO what it has, if nothing else since."""

    def linked(self, group: Group) -> Wire:
        """Have b link to a, of which nothing arrives but the handshake."""
        a, b = group["a"], group["b"]
        wire = Wire(b, a)
        wire.stall(a)
        while "a" not in b.node.view.peers or b.peer("a").link is None:
            wire.carry()
            wire.links[0].receive(wire.queues[1].pop(0))
        return wire

    @pytest.mark.parametrize("end", ["cut", "silent"])
    def test_who_has_data_holds_us_though_its_link_is_lost(self, end):
        group = group_of()
        wire = self.linked(group)
        if end == "cut":
            wire.cut()
        group.advance(2 * SYNC_TIMEOUT_S)
        b = group["b"]
        assert b.peer("a").link is None
        assert b.node.role == "starting"
        assert lines_of(b)[0].startswith("a has data, and there is no link to it")
        group.link("b", "a")
        group.advance(1)
        assert b.node.role == "follower"
        assert b.values() == {b"k": b"x"}

    def test_so_it_does_if_it_had_none_on_a_link_before(self):
        group = Group("")
        for name, other, timeout_s in ("a", "b", 1.0), ("b", "a", SYNC_TIMEOUT_S):
            group.add(name, peers=(address_of(other),), sync_timeout_s=timeout_s)
        a, b = group["a"], group["b"]
        wire = self.linked(group)
        wire.links[0].receive(b"".join(wire.queues[1]))
        wire.queues[1].clear()
        wire.cut()
        status = b.peer("a").status
        assert status is not None
        assert status.role == "starting"
        group.advance(2)
        assert a.node.role == "alone"
        assert Guest(a).ask(b"set k 0 0 1\r\nx\r\n") == b"STORED\r\n"
        self.linked(group).cut()
        group.advance(2 * SYNC_TIMEOUT_S)
        assert b.node.role == "starting"
        group.link("b", "a")
        group.advance(1)
        assert b.node.role == "follower"

    def test_but_not_if_it_comes_back_with_nothing(self):
        group = group_of()
        self.linked(group).cut()
        group["a"].stop()
        group.advance(2 * SYNC_TIMEOUT_S)
        assert group["b"].node.role == "starting"
        group["a"].start()
        self.linked(group).cut()
        group.advance(SYNC_TIMEOUT_S + 1)
        assert group["b"].node.role == "alone"


class TestBrokenCopies:
    def broken(self, **settings: Any) -> Group:
        """Return a, which has much, and b, whose copy of it breaks off in the middle."""
        group = group_of(**settings)
        guest = Guest(group["a"])
        for number in range(400):
            value = b"x" * 10_000
            assert guest.ask(b"set %d 0 0 10000\r\n%s\r\n" % (number, value)) == b"STORED\r\n"
        wire = Wire(group["b"], group["a"])
        while len(group["b"].values()) < 10:
            group["a"].turn()
            wire.carry()
            group["b"].turn()
        wire.cut()
        assert group["b"].node.role == "starting"
        assert len(group["b"].values()) < 400
        return group

    def test_who_has_a_part_waits_for_the_rest(self):
        group = self.broken()
        group.advance(20 * SYNC_TIMEOUT_S)
        b = group["b"]
        assert b.node.role == "starting"
        assert "a has data, and there is no link to it. To have it" in lines_of(b)[0]
        group.link("b", "a")
        group.advance(1)
        assert b.node.role == "follower"
        assert len(b.values()) == 401
        group.check_equal()

    def test_a_person_may_decide_otherwise(self):
        group = self.broken(force_empty=True)
        group.advance(SYNC_TIMEOUT_S + 1)
        assert group["b"].node.role == "alone"

    def test_if_the_rest_is_lost_the_part_is_all_there_is(self):
        group = self.broken()
        group["a"].stop()
        group.advance(2 * SYNC_TIMEOUT_S)
        group["a"].start()
        group.link("b", "a")
        group.advance(1)
        assert sorted(host.node.role for host in group.hosts.values()) == [
            "coordinator",
            "follower",
        ]
        group.check_equal()

    @pytest.mark.parametrize("step_s", [50.0, -50.0, 5e3, -5e3])
    def test_but_no_part_is_left_of_a_time_that_is_far_ahead(self, step_s):
        """It would win over what is written now, and who leads does not take it."""
        group = self.broken()
        a, b = group["a"], group["b"]
        part = b.values()
        a.stop()
        a.clock.skew_s = step_s
        a.start()
        group.link("a", "b")
        group.advance(1)
        assert Guest(a).ask(b"set 0 0 0 3\r\nnew\r\n") == b"STORED\r\n"
        group.advance(1)
        assert [a.node.role, b.node.role] == ["coordinator", "follower"]
        group.check_equal()
        assert b.values() == {**(part if step_s > -5e3 else {}), b"0": b"new"}
        assert Guest(b).ask(b"set 1 0 0 3\r\nnew\r\n") == b"STORED\r\n"
        group.check_equal()

    def test_so_it_is_if_another_node_has_taken_the_place_of_that_one(self):
        """As containers do, whose names are new each time."""
        group = self.broken()
        group["a"].stop()
        address = address_of("a")
        new = group.add("c", peers=(address_of("b"),), sync_timeout_s=SYNC_TIMEOUT_S)
        wire = Wire(group["b"], new)
        wire.links[0].dialled = address
        group.advance(2 * SYNC_TIMEOUT_S)
        assert {group[name].node.role for name in "bc"} == {"coordinator", "follower"}

    def test_and_if_it_is_refused_then(self):
        group = self.broken()
        group["a"].node.membership.secret = b"another"
        dial_for(group, 5 * SYNC_TIMEOUT_S)
        assert group["b"].node.role == "starting"


class TestAllBegin:
    """Who just started has begun since, perhaps, and its word of that is not here yet."""

    def three(self, **settings: Any) -> Group:
        """Return a, b and c, none of which has met another; b may soon serve alone.

        It was told of c alone, so that it needs no vote for that.
        """
        group = Group("")
        for name, others in ("a", "bc"), ("b", "c"), ("c", "ab"):
            peers = tuple(map(address_of, others))
            sync_timeout_s = 1.0 if name == "b" else SYNC_TIMEOUT_S
            group.add(name, peers=peers, **{"sync_timeout_s": sync_timeout_s, **settings})
        return group

    def test_who_said_so_long_ago_is_asked_before_it_counts(self):
        group = self.three()
        wire = group.link("a", "b")
        wire.stall()
        group.advance(1.5)
        assert group["b"].node.role == "alone"
        assert Guest(group["b"]).ask(b"set k 0 0 1\r\nx\r\n") == b"STORED\r\n"
        group.link("a", "c")
        group.advance(1.0)
        assert group["a"].node.role == "starting"
        wire.resume()
        group.advance(1.5)
        assert group["b"].node.role == "coordinator"
        assert group["a"].values() == {b"k": b"x"}

    def test_nor_does_what_it_said_on_a_link_before(self):
        group = self.three()
        group.link("a", "b").cut()
        group.advance(1.5)
        wire = Wire(group["a"], group["b"])
        wire.stall(group["b"])
        while group["a"].peer("b").link is None:
            wire.carry()
            wire.links[0].receive(wire.queues[1].pop(0))
        assert group["b"].node.role == "alone"
        group.link("a", "c")
        assert group["a"].node.role == "starting"
        wire.resume()
        group.advance(1.0)
        assert group["b"].node.role == "coordinator"

    def test_nor_what_was_said_before_the_clock_stood_still(self):
        group = self.three(sync_timeout_s=SYNC_TIMEOUT_S)
        wire = group.link("a", "b")
        group.advance(0.1)
        wire.stall()
        a = group["a"]
        a.node.host = replace(a.node.host, suspended_s=lambda: 600.0)
        a.step()
        group.link("a", "c")
        group.advance(0.2)
        assert a.node.role == "starting"
        wire.resume()
        group.advance(0.5)
        assert a.node.role == "coordinator"

    @pytest.mark.parametrize("later_s", [0.1, 0.6, 2.2, 4.7])
    def test_those_that_come_one_by_one_begin_at_once(self, later_s):
        group = self.three(sync_timeout_s=SYNC_TIMEOUT_S)
        group.link("a", "b")
        group.advance(later_s)
        assert group["a"].node.role == "starting"
        group.link("a", "c")
        group.advance(0.2)
        assert group["a"].node.role == "coordinator"

    def test_who_is_out_of_date_asks_as_well(self):
        """It does not know best if one of them has begun since."""

        def start(host: Host) -> None:
            host.start()
            host.node.voting._of_many = False  # else none would have begun alone

        group = Group("abc", sync_timeout_s=SYNC_TIMEOUT_S)
        a, b, c = group.hosts.values()
        for host in a, b, c:
            start(host)
        group.link_all()
        group.advance(0.5)
        a.frozen = True
        group.advance(10)
        a.frozen = False
        group.advance(0.01)
        assert a.node.role == "joining"
        b.stop()
        c.stop()
        start(b)
        wire = group.link("a", "b")
        wire.stall()
        c.settings = replace(c.settings, sync_timeout_s=1.0)
        start(c)
        group.advance(1.5)
        group.link("b", "c")
        group.advance(0.5)
        assert b.node.role == "follower"
        c.stop()
        group.advance(0.5)
        assert b.node.role == "alone"
        start(c)
        group.link("a", "c")
        group.advance(0.5)
        assert a.node.role == "joining"
        wire.resume()
        group.advance(1.0)
        assert (a.node.view.coordinator, b.node.role) == ("b", "coordinator")


class TestStandingStill:
    """Who stands still looks for nobody meanwhile."""

    def lone(self) -> Host:
        """Return one that has looked for a second."""
        host = Group("a", peers=("127.0.0.1:1",), sync_timeout_s=SYNC_TIMEOUT_S)["a"]
        host.group.advance(1.0)
        return host

    @pytest.mark.parametrize(
        ("stands_s", "looks_s"),
        [(0.1, 3.9), (0.5, 4.0), (2.5, 4.0), (3.5, 5.0), (600.0, 5.0)],
    )
    @pytest.mark.parametrize("suspended", [False, True])
    def test_that_time_does_not_count(self, stands_s, looks_s, suspended):
        host = self.lone()
        if suspended:
            if stands_s < 0.25:
                looks_s = 4.0
            host.node.host = replace(host.node.host, suspended_s=lambda: stands_s)
        else:
            host.frozen = True
            host.group.advance(stands_s)
            host.frozen = False
        host.group.advance(looks_s - 0.3)
        assert host.node.role == "starting"
        host.group.advance(0.5 if not suspended else 0.5 + min(stands_s, 1.0))
        assert host.node.role == "alone"

    def test_one_that_is_short_of_processors_begins_all_the_same(self):
        host = self.lone()
        for _ in range(10):
            host.frozen = True
            host.group.advance(0.4)
            host.frozen = False
            host.group.advance(0.6)
        host.group.advance(1.0)
        assert host.node.role == "alone"


def test_who_is_out_of_date_and_refused_does_not_serve_either():
    """The secret was changed while it slept."""
    group = make_group(sync_timeout_s=SYNC_TIMEOUT_S)
    a, b = group["a"], group["b"]
    a.frozen = True
    Guest(b).ask(b"set k 0 0 1\r\n1\r\n")
    group.advance(600)
    assert b.node.role == "alone"
    a.frozen = False
    a.node.membership.secret = b"another"
    group.advance(0.5)
    assert a.node.role == "joining"
    assert not group.wires
    dial_for(group, 10 * SYNC_TIMEOUT_S, "a", "b")
    assert a.node.role == "joining"
    assert [line for line in a.lines if "no client is served, as this node has what is out" in line]
    a.node.membership.secret = SECRET
    dial_for(group, 15, "a", "b")
    assert a.node.role == "follower"
    assert a.values() == {b"k": b"1"}
