"""What is said of a run's end: `tests.replication.checkers`, on caches made by hand."""

from __future__ import annotations

import sys
from dataclasses import replace
from itertools import count
from math import inf
from types import SimpleNamespace
from typing import Any

import pytest

from pymcd.config import Settings
from pymcd.replication.peer import Peer
from pymcd.replication.roles import Role
from pymcd.store import StoreMode
from tests.replication import checkers, simulation_troubles
from tests.replication.helpers import Guest, make_group
from tests.replication.linearizability import Operation, Outcome, judge
from tests.replication.releases import TODAY, previous
from tests.replication.simulation import Simulation
from tests.replication.simulation_clients import (
    Client,
    Pending,
    Speech,
    _parse_nothing,
    see_error,
)
from tests.replication.watch import Reach, Watch
from tests.replication.world import Observation, Wire, World, constants
from tests.store.helpers import make_cache

WITH_A_PEER = Settings(peers=("127.0.0.1:11311",))
COMMAND = b"set k 0 0 1\r\n1\r\n"


class Box(SimpleNamespace):
    __hash__ = object.__hash__  # type: ignore[assignment]  # as a host of a world


def make_host(name, keys, *, evicted=()):
    cache = make_cache()
    for key in keys:
        cache.store(StoreMode.SET, key, b"value")
    return Box(
        name=name, evicted=set(evicted), service=SimpleNamespace(cache=cache), seconds_left=float
    )


@pytest.mark.parametrize(
    ("names", "holding", "evicted", "found"),
    [
        ("ab", "ab", "", 0),
        ("ab", "a", "", 1),
        ("ab", "a", "a", 1),  # it has it again: that is no reason for the other one
        ("ab", "a", "b", 0),
        ("abc", "abc", "", 0),
        ("abc", "ab", "", 1),
        ("abc", "ab", "ab", 1),
        ("abc", "ab", "c", 0),
        ("abc", "a", "", 2),
        ("abc", "a", "b", 0),  # c was brought in sync by b, which had no room for it
        ("abc", "a", "a", 2),
    ],
)
def test_a_key_is_missing_where_there_was_no_room(names, holding, evicted, found):
    hosts = [
        make_host(name, [b"k"] * (name in holding), evicted=[b"k"] * (name in evicted))
        for name in names
    ]
    assert len(checkers.check_converged(hosts)) == found


@pytest.mark.parametrize(("late_s", "found"), [(0.0, 1), (0.2, 1), (0.5, 0)])
def test_an_end_is_known_as_exactly_as_words_are_in_time(late_s, found):
    hosts = [make_host(name, [b"k"]) for name in "ab"]
    for host, left_s in zip(hosts, (98.7, 100.0), strict=True):
        assert host.service.cache.touch(b"k", 1000) is not None
        host.seconds_left = lambda expires_at, left_s=left_s: left_s
    assert len(checkers.check_converged(hosts, late_s)) == found


@pytest.mark.parametrize("windows", [0, 1, 3, 10])
def test_a_value_takes_as_many_round_trips_as_there_are_windows_in_it(windows):
    """So where that is more than one, no bound of time-outs holds for who waits: nobody is lost."""
    small: dict[str, int] = {"PART_BYTES": 200, "PARTS_WINDOW_BYTES": 2000}
    with constants(small):
        group = make_group()
        group.warm()
        follower, wire = group["b"], group.wire("a", "b")
        guest = Guest(follower)
        length = windows * 2000 or 10
        guest.feed(b"set k 0 0 %d\r\n%b\r\n" % (length, bytes(length)))
        rounds = 0
        while not guest.replies:
            rounds += 1
            for sender in ("b", "a"):
                group[sender].turn()
                wire.stall(*[host for host in wire.hosts if host is not group[sender]])
                wire.carry()
        assert guest.take() == b"STORED\r\n"
        assert rounds == 1 if not windows else rounds > windows


@pytest.mark.parametrize(
    ("partners", "leader", "is_apart"),
    [
        ("a", "dead", True),  # c has what a had at last, and b has not
        ("ab", "dead", False),  # it will join b
        ("a", "coordinator", True),
        ("ab", "coordinator", True),
    ],
)
def test_who_goes_on_while_another_one_has_more_is_apart(partners, leader, is_apart):
    state = {
        "a": Observation(
            1.0, 1, leader, 5, "a", ("c",) if leader == "coordinator" else (), ready=True
        ),
        "b": Observation(2.0, 1, "alone", 6, "b", (), ready=True),
        "c": Observation(0.5, 1, "follower", 5, "a", tuple(partners), ready=True),
    }
    assert checkers.apart(state) is is_apart


def test_when_a_host_did_not_reach_most_of_its_view():
    def seen(at: float, role: str, *partners: str) -> Observation:
        return Observation(at, 1, role, 1, "a", partners, ready=True)

    a: Any = Box(name="a", history=[seen(0.0, "coordinator", "b", "c")])
    all_, one, none = frozenset("bc"), frozenset("c"), frozenset("")
    moments = [0.0, 1.0, 2.0, 3.0, 4.0]
    states = [{"a": each} for each in (all_, one, none, one, none)]
    asked_again_s = checkers.ASKED_AGAIN_S
    # One of three may be gone, and nobody waits for it.
    assert checkers.outvoted(a, moments, states, 9.0, [a]) == [
        (2.0, 3.0 + asked_again_s), (4.0, 9.0 + asked_again_s)
    ]  # fmt: skip
    a.history.append(seen(2.5, "coordinator", "b"))  # of two none
    assert checkers.outvoted(a, moments, states, 9.0, [a]) == [(2.0, 9.0 + asked_again_s)]
    a.history.append(seen(2.6, "alone"))
    assert checkers.outvoted(a, moments, states, 9.0, [a]) == [(2.0, 2.6 + asked_again_s)]


def test_who_follows_does_not_know_yet_that_it_is_one_of_two():
    """Its coordinator has gone on without the third, by the vote of that one."""
    a: Any = Box(name="a", history=[])
    b: Any = Box(name="b", history=[])
    for at, partners in ((0.0, ("b", "c")), (2.0, ("b",))):
        a.history.append(Observation(at, 1, "coordinator", 1, "a", partners, ready=True))
    b.history.append(Observation(0.0, 1, "follower", 1, "a", ("a", "c"), ready=True))
    moments, states = [0.0, 1.0], [{"b": frozenset("ac")}, {"b": frozenset("c")}]
    lasts = [(2.0, 9.0 + checkers.ASKED_AGAIN_S)]
    assert checkers.outvoted(b, moments, states, 9.0, [a, b]) == lasts
    assert checkers.outvoted(b, moments, [states[0]] * 2, 9.0, [a, b]) == []
    a.history.pop()  # it has not: then c decides with b
    assert checkers.outvoted(b, moments, states, 9.0, [a, b]) == []
    b.history.append(Observation(1.5, 1, "follower", 2, "c", ("c",), ready=True))
    assert checkers.outvoted(b, moments, states, 9.0, [a, b]) == []


@pytest.mark.parametrize(
    ("late_s", "is_reached"), [((0.0, 0.0), True), ((0.01, 0.02), True), ((0.02, 0.02), False)]
)
def test_who_answers_too_late_is_not_reached(late_s, is_reached):
    """Words of a late handshake, say: that link may be the one that stays."""
    world = World(0)
    a, b = (Box(name=name, alive=True, frozen=False, life=1, world=world) for name in "ab")
    for host in (a, b):
        host.node = Box(role="follower")
        host.waking_s, host.last_word_of = 0.0, lambda end: 0.0
    wire = Wire(world, a, b)  # type: ignore[arg-type]
    for end, each in zip(wire.ends, late_s, strict=True):
        end.link = Box(proven=True)  # type: ignore[assignment]
        end.late_s = each
        end.send(b"word")
    reach = Reach(world, [a, b], in_time_s=0.04)  # type: ignore[list-item]
    reach.look()
    for end in wire.ends:
        end.late_s = 0.0
    world.now = 0.005
    reach.look()  # what is said now comes behind that
    world.now = 0.05
    reach.look()
    expected = [frozenset("b")] if is_reached else [frozenset(), frozenset("b")]
    assert [state["a"] for state in reach.states] == expected


@pytest.mark.parametrize(
    ("role", "been", "has_vote"),
    [
        ("follower", "follower", True),
        ("starting", "starting", False),  # it is new, and the one that had a vote is dead
        ("starting", "follower", True),  # it leaves
    ],
)
def test_who_reaches_neither_the_other_node_nor_the_witness(role, been, has_vote):
    world = World(0)
    a, b, w = (Box(name=name, alive=True, frozen=False, life=2, world=world) for name in "abw")
    for host in (a, b, w):
        host.waking_s, host.last_word_of = 0.0, lambda end: 0.0
    a.node, b.node, w.node = Box(role="alone"), Box(role=role), Box()
    b.history = [Box(life=1, role="follower"), Box(life=2, role=been)]
    for other in (b, w):
        for end in Wire(world, a, other).ends:  # type: ignore[arg-type]
            end.link = Box(proven=True)  # type: ignore[assignment]
    reach = Reach(world, [a, b], 1.0, w)  # type: ignore[list-item, arg-type]
    reach.look()
    world.now = 1.0
    world.block("w", "a")
    reach.look()
    world.now = 2.0
    b.frozen = True
    reach.look()
    world.now = 3.0
    world.unblock("w", "a")
    reach.look()
    since = 2.0 if has_vote else 1.0
    lonely = checkers.lonely(a, reach.moments, reach.states, 9.0)  # type: ignore[arg-type]
    assert (lonely[0][0], lonely[-1][1]) == (since, 3.0)


def test_who_is_led_by_one_that_lacks_votes_waits_as_well():
    host: Any = Box(name="c", history=[])
    for at, role, leader in ((0.0, "follower", "a"), (2.0, "joining", "b"), (4.0, "alone", "c")):
        host.history.append(Observation(at, 1, role, 1, leader, (), ready=True))
    outvoted = {"a": [(1.0, 3.0)], "b": [(0.0, 1.0), (3.0, 9.0)], "c": [(0.0, 9.0)]}

    def found(*reached: str) -> list[tuple[float, float]]:
        moments = [0.0, 1.5, 3.5]
        states = [{"c": frozenset(names)} for names in reached]
        return checkers.led_by_outvoted(host, outvoted, moments[: len(states)], states, 9.0)

    assert found("ab") == [(1.0, 2.0), (3.0, 4.0)]
    assert found("ab", "a") == [(1.0, 1.5), (1.5, 2.0)]
    # Whom it does not reach it goes on without: that one may as well be dead, and reach nobody.
    assert found("ab", "", "b") == [(1.0, 1.5), (3.5, 4.0)]
    assert found("", "b", "a") == [(3.0, 3.5)]
    assert found("") == []


@pytest.mark.parametrize(
    ("reached", "role", "is_refused"),
    [
        ({"c": "b", "b": "c"}, "follower", False),  # nobody else is in touch with it
        ({"c": "ab", "b": "c"}, "follower", True),
        ({"c": "ab", "b": "ac"}, "follower", False),  # that it does not see the other is no matter
        ({"c": "ab", "b": ""}, "follower", True),  # and has no vote but its own
        ({"c": "ab", "b": "c"}, "joining", False),  # it parts from its clients
        ({"c": "ab", "b": "c"}, "coordinator", False),  # the others let it go on with the third
        ({"c": "ab", "b": "c"}, "alone", False),
    ],
)
def test_who_misses_its_coordinator_is_refused_by_who_does_not(reached, role, is_refused):
    """`reached`: by c, which follows both others' coordinator a as well, and by b."""
    b: Any = Box(name="b", history=[seen(0.0, "starting"), seen(1.0, role, "ac")])
    all_ = {"a": frozenset("bc"), "b": frozenset("ac"), "c": frozenset("ab")}
    now = {name: frozenset(names) for name, names in reached.items()}
    now["a"] = frozenset(name for name, names in now.items() if "a" in names)
    states = [now, all_, now, all_]
    found = checkers.refused(b, [0.0, 2.0, 3.0, 4.0], states, 9.0)
    assert found == ([(1.0, 2.0), (3.0, 4.0)] if is_refused else [])


@pytest.mark.parametrize(
    ("refused", "found"),
    [
        ({}, 1),
        ({"a": [(0.0, 9.0)]}, 0),
        ({"b": [(0.0, 9.0)]}, 1),
        ({"a": [(1.1, 1.3)]}, 1),  # the rest is too long
        ({"a": [(1.1, 1.3), (1.3, 1.5), (1.9, 9.0)]}, 1),
        ({"a": [(1.1, 1.3), (1.3, 1.6), (1.7, 9.0)]}, 0),
        ({"a": [(0.0, 1.0), (2.0, 9.0)]}, 1),
    ],
)
def test_a_wait_is_as_much_longer_as_votes_were_refused(refused, found):
    a: Any = Box(name="a", history=[seen(0, "follower", "b")])
    roles = frozenset({"follower"})
    said = checkers.check_patience([waits(1.0, 2.0)], [a], 0.26, {}, roles, (), 4, refused)
    assert len(said) == found


@pytest.mark.parametrize(
    ("reached", "found"),
    [
        (["a", "ab", "b", ""], [(3.0, 3.5)]),
        (["ab", "a", "", ""], [(3.0, 2.0)]),  # it was gone when it had our consent
        (["ab", "", "b", "b"], []),  # and is back by then
        (["ab", "b", "b", "b"], []),
        (["a", "", "", ""], []),  # it was never there
    ],
)
def test_who_turns_to_another_one_may_lose_that_one_as_well(reached, found):
    c: Any = Box(name="c", history=[])
    for at, role, leader in ((0.0, "follower", "a"), (3.0, "joining", "b"), (5.0, "alone", "c")):
        c.history.append(Observation(at, 1, role, 1, leader, (), ready=True))
    states = [{"c": frozenset(names)} for names in [*reached, "b", ""]]
    assert checkers.lost_again(c, [0.0, 2.0, 2.5, 3.5, 5.0, 6.0], states, 9.0) == found
    c.history[1] = c.history[1]._replace(coordinator="a")  # that is one failure
    assert checkers.lost_again(c, [0.0, 2.0, 2.5, 3.5, 5.0, 6.0], states, 9.0) == []


@pytest.mark.parametrize(
    ("start", "end", "found"),
    [
        (1.0, 1.33, 0),
        (1.0, 1.35, 1),  # once for each of them
        (1.11, 1.38, 1),  # he has waited for the second one only
        (1.15, 1.5, 1),
        (1.0, 1.13, 0),
        (0.83, 1.12, 1),  # for the first one
        (0.85, 1.12, 0),
    ],
)
def test_who_has_waited_for_one_and_then_for_another_has_waited_twice(start, end, found):
    a: Any = Box(name="a", history=[seen(0, "follower", "b"), seen(1.1, "joining", "c")])
    roles = frozenset({"follower", "joining"})
    lost = {"a": [(1.1, 1.105)]}
    history = [waits(start, end)]
    said = checkers.check_patience(history, [a], 0.26, {}, roles, (), 4, {}, lost, 0.08)
    assert len(said) == found
    if start < 1.1 and end > 1.27:  # without the second, it is one wait
        for other in ({}, {"b": lost["a"]}, {"a": [(0.5, 0.6)]}):
            said = checkers.check_patience(history, [a], 0.26, {}, roles, (), 4, {}, other, 0.08)
            assert len(said) == 1


def test_who_needs_a_vote_waits_for_its_words_where_they_are_late():
    waits = Operation(b"k", "get", 1.0, 1.5, node="a")
    host: Any = Box(
        name="a", history=[Observation(0.0, 1, "follower", 1, "b", ("b", "c"), ready=True)]
    )
    for late, found in (
        ([], 1),
        ([(1.4, 2.0, 0.1)], 0),
        ([(1.6, 2.0, 0.1)], 1),
        ([(0.0, 0.9, 0.1)], 1),
        ([(0.0, 1.0, 0.04)], 1),
        ([(0.0, 1.0, 0.04), (1.5, 2.0, 0.04)], 0),
    ):
        roles = frozenset({"follower"})
        said = checkers.check_patience([waits], [host], 0.25, {}, roles, late, checkers.VOTE_TRIPS)
        assert len(said) == found, late


def test_when_others_had_gone_on_without_a_host():
    def seen(at: float, role: str, *partners: str) -> Observation:
        return Observation(at, 1, role, 1, "a", partners, ready=True)

    a: Any = Box(name="a", history=[seen(0.0, "coordinator", "b"), seen(2.0, "alone")])
    a.history.append(seen(3.0, "coordinator", "b"))
    b: Any = Box(name="b", history=[seen(0.0, "follower", "a"), seen(2.5, "joining", "a")])
    assert checkers.without(b, [a, b], 9.0) == [(2.0, 2.5)]  # then it knows
    assert checkers.without(a, [a, b], 9.0) == []
    a.history[2] = seen(2.2, "dead")
    assert checkers.without(b, [a, b], 9.0) == [(2.0, 2.5)]  # whose vote it still needs
    del b.history[1:]
    assert checkers.without(b, [a, b], 9.0) == [(2.0, 9.0)]
    backed: Any = [
        (at, names and Box(data=dict.fromkeys(names)))
        for at, names in ((0.0, "ab"), (1.5, "a"), (2.0, None), (3.0, "b"))
    ]
    assert checkers.without(b, [], 9.0, backed) == [(1.5, 9.0)]  # if a lives to hear that
    # Who wakes says at once that it is behind, and is in the view that it was in, for all it knows.
    b.history.append(seen(2.5, "joining", "a")._replace(in_view=True))
    assert checkers.without(b, [a, b], 9.0) == [(2.0, 9.0)]
    b.history.append(seen(4.0, "joining", "a"))
    assert checkers.without(b, [a, b], 9.0) == [(2.0, 4.0)]
    b.history[2:] = [b.history[1]._replace(at=5.0, epoch=2)]
    assert checkers.without(b, [a, b], 9.0) == [(2.0, 5.0)]  # in a later one
    del b.history[0]
    b.history[0] = b.history[0]._replace(at=0.0)
    assert checkers.without(b, [a, b], 9.0) == [(2.0, 5.0)]
    b.history = [seen(0.0, "joining")]
    assert checkers.without(b, [a, b], 9.0, backed) == []  # it has known all the time


@pytest.mark.parametrize("more", [{"witness"}, {"witness", "etcd"}])
def test_what_a_witness_backs_is_noted(more):
    simulation = Simulation(0, nodes=2, more=frozenset(more))
    witness, world = simulation.witness, simulation.world
    assert witness is not None
    for host in [*simulation.hosts, witness]:
        host.start()
    world.run(3.0)
    backed = [backs and sorted(backs.data) for _, backs in witness.backed]
    assert (backed[0], backed[-1]) == (None, ["a", "b"])
    assert [at for at, _ in witness.backed] == sorted({at for at, _ in witness.backed})
    b = simulation.hosts[1]
    b.stop(silent=False)
    world.run(4.0)
    at, backs = witness.backed[-1]
    assert backs is not None
    assert list(backs.data) == ["a"]
    assert 3.0 < at < 3.5


def waits(start, end, node="a"):
    """Return what a client asked and was answered then."""
    operation = Operation(b"k0", "set", start, end, Outcome("ok", None), b"1")
    operation.node = node
    return operation


@pytest.mark.parametrize(
    ("slow", "trips", "found"),
    [
        ([], 8, 1),
        ([(1.5, 1.6, 0.05)], 8, 0),
        ([(1.5, 1.6, 0.05)], 4, 1),
        ([(0.5, 1.6, 0.02), (1.1, 1.2, 0.05)], 4, 0),
        ([(0.0, 0.9, 0.05)], 8, 1),  # before
    ],
)
def test_who_votes_is_as_far_away_as_the_network_makes_it(slow, trips, found):
    a: Any = Box(name="a", history=[seen(0, "coordinator", "b")])
    history = [waits(1.0, 1.5)]
    roles = frozenset({"coordinator"})
    assert len(checkers.check_patience(history, [a], 0.26, {}, roles, slow, trips)) == found


@pytest.mark.parametrize(("refused", "found"), [(0, 1), (1, 1), (2, 0)])
def test_values_that_are_refused_are_deleted_one_after_the_other(refused, found):
    """Each takes a way there and a way back, and the rest of the run waits for that."""
    a: Any = Box(name="a", history=[seen(0, "coordinator", "b")])
    history = [waits(1.0, 1.5)]
    history[0].notes["refused"] = refused
    roles, slow = frozenset({"coordinator"}), [(1.1, 1.2, 0.05)]
    assert len(checkers.check_patience(history, [a], 0.26, {}, roles, slow, 2)) == found


@pytest.mark.parametrize(
    ("ahead", "slow_s", "found"), [(0, 0.05, 1), (2, 0.05, 1), (3, 0.05, 0), (3, 0.0, 1)]
)
def test_what_is_said_at_once_is_done_one_after_the_other(ahead, slow_s, found):
    """Seed 101171: five at once, over a network that was 60 ms slow, and no node was lost."""
    a: Any = Box(name="a", history=[seen(0, "follower", "b")])
    history = [waits(1.0, 1.5)]
    history[0].notes["ahead"] = ahead
    roles, slow = frozenset({"follower"}), [(1.1, 1.2, slow_s)]
    assert len(checkers.check_patience(history, [a], 0.26, {}, roles, slow)) == found


def test_each_of_those_takes_a_way_there_and_a_way_back():
    """Of a follower, in a pair that is in sync all the time; not only the sum is that long."""
    simulation, _, (follows,) = in_sync(2)
    world = simulation.world
    world.latency_s = slow_s = 0.03
    heard: list[tuple[float, bytes]] = []
    visit = follows.connect(lambda data: heard.append((world.now, data)))
    words = b"set k 0 0 1\r\n1\r\n", b"get k\r\n", b"delete k\r\n", b"get k\r\n"
    began = world.now
    follows.post(visit, visit.feed, b"".join(words), [], life=follows.life)
    world.run(began + 1.0)
    said = b"".join(data for _, data in heard)
    assert said == b"STORED\r\nVALUE k 0 1\r\n1\r\nEND\r\nDELETED\r\nEND\r\n"
    assert heard[-1][0] - began > 2 * 2 * slow_s
    assert follows.history[-1].role == "follower"


@pytest.mark.parametrize(
    ("read_later", "found"), [([], 1), ([1], 1), ([2], 0), ([1, 2], 0), ([1, 2, 3], 0)]
)
def test_what_is_read_later_waits_its_turn(read_later, found):
    """The third of three that one client said at once, 0.02 s after the second was answered."""
    a: Any = Box(name="a", history=[seen(0, "coordinator", "b")])
    history = [waits(1.0, end) for end in (1.1, 1.25, 1.27, 1.28)]
    history[3].invoked_at = 1.2
    for each in history:
        each.session = "c1"
    for number in read_later:
        history[number].notes["read_later"] = "c1"
    roles = frozenset({"coordinator"})
    assert len(checkers.check_patience(history, [a], 0.26, {}, roles)) == found
    late = [waits(1.0, 1.1), waits(1.0, 1.5)]
    late[1].notes["read_later"] = late[0].session = "c1"
    assert len(checkers.check_patience(late, [a], 0.26, {}, roles)) == 1


@pytest.mark.parametrize(
    ("said_at", "done_at", "answered_at", "found"),
    [
        (1.0, 1.2, 1.4, 0),  # each within the bound
        (1.0, None, 1.4, 1),  # nobody knows of it
        (1.0, 1.2, 1.5, 1),
        (1.0, 1.3, 1.5, 1),  # nobody hears of it, but it has waited for too long
        (1.0, 1.06, 1.4, 1),  # it was done before
        (1.1, 1.2, 1.4, 1),  # at once with what is answered
        (1.1, 1.3, 1.4, 1),
    ],
)
@pytest.mark.parametrize("may_have_failed", [False, True])
def test_what_is_said_behind_what_is_not_answered_waits_its_turn(
    said_at, done_at, answered_at, found, may_have_failed
):
    a: Any = Box(name="a", history=[seen(0, "follower", "b")])
    silent, _ = history = [waits(said_at, None), waits(1.1, answered_at)]
    for each in history:
        each.notes["said_on"] = each.session = "c1"
    if done_at is not None:
        silent.notes["done_at"] = done_at
    if may_have_failed:
        silent.session = None
    roles = frozenset({"follower"})
    assert len(checkers.check_patience(history, [a], 0.26, {}, roles)) == found
    if not found:
        silent.notes["said_on"] = "c2"
        assert len(checkers.check_patience(history, [a], 0.26, {}, roles)) == 1


@pytest.mark.parametrize("fast", [False, True])
@pytest.mark.parametrize("role", ["coordinator", "follower"])
def test_a_server_knows_when_what_it_does_not_answer_is_done(role, fast):
    """Not before others have it; and until then nothing is done that is said behind it."""
    simulation, leads, (follows,) = in_sync(2)
    world = simulation.world
    host = leads if role == "coordinator" else follows
    while (visit := host.connect(lambda data: None))._fast is not fast:
        pass
    silent = [waits(world.now, None) for _ in range(3)]
    for each in silent:
        words = b"set k 0 0 1 noreply\r\n1\r\n"
        host.post(visit, visit.feed, words, [each], life=host.life)
    for pair in ("ab", "ba"):
        world.block(*pair)
    began = world.now
    world.run(began + 0.02)
    assert not any("done_at" in each.notes for each in silent)
    for pair in ("ab", "ba"):
        world.unblock(*pair)
    world.run(began + 0.5)
    done_at = [each.notes["done_at"] for each in silent]
    assert began + 0.02 < done_at[0] < done_at[1] < done_at[2] < began + 0.2


@pytest.mark.parametrize("fast", [False, True])
@pytest.mark.parametrize("apart_s", [0.0, 0.03])
def test_whose_client_reads_nothing_has_waited_for_others_until_it_could_go_on(fast, apart_s):
    """Seed 14178: who has no answer to wait for says more, and reads nothing from then on."""
    simulation, _, (follows,) = in_sync(2)
    world = simulation.world
    while (visit := follows.connect(lambda data: None))._fast is not fast:
        pass
    for pair in ("ab", "ba") if apart_s else ():
        world.block(*pair)
        world.after(apart_s, world.unblock, *pair)
    began = world.now
    silent = [waits(began, None) for _ in range(2)]
    for each in silent:
        each.notes["said_on"] = each.session = "c1"
        words = b"delete k noreply\r\n"
        follows.post(visit, visit.feed, words, [each], life=follows.life)
    world.run(began + 0.0005)
    assert not any("done_at" in each.notes for each in silent)
    visit.blocked_until = began + 0.3
    world.run(began + 0.5)
    assert silent[1].notes["done_at"] > began + 0.3
    a: Any = Box(name="a", history=[seen(0, "follower", "b")])
    for bound_s, found in ((apart_s + 0.02, 0), (apart_s / 2, 2)):
        if bound_s:
            roles = frozenset({"follower"})
            assert len(checkers.check_patience(silent, [a], bound_s, {}, roles)) == found


def test_what_is_not_answered_is_handed_on_with_the_read_that_ends_it():
    def answer(buffer: bytes, operations: list[Operation]) -> int:
        return len(buffer)

    batch = [
        Pending(b"a" * length, [waits(1.0, None)], parse)
        for length, parse in ((10, answer), (5, _parse_nothing), (7, answer), (3, _parse_nothing))
    ]
    said = Client._silent(batch)
    assert [end for end, _ in said] == [15, 25]
    assert [each for _, operations in said for each in operations] == [
        batch[1].operations[0], batch[3].operations[0]
    ]  # fmt: skip


def test_a_follower_executes_what_it_reads_later_one_after_the_other():
    """However fast each of them is: so where a round trip is long it is that many of them."""
    group = make_group()
    group.warm()
    wire, follower = group.wire("a", "b"), group["b"]
    rounds = []
    for reads in ([COMMAND * 4], [COMMAND] * 4):
        guest = Guest(follower)
        guest.feed(*reads)
        rounds.append(0)
        while guest.replies.count(b"STORED") < 4:
            rounds[-1] += 1
            for sender in ("b", "a"):
                group[sender].turn()
                wire.stall(*[host for host in wire.hosts if host is not group[sender]])
                wire.carry()
                group[sender].turn()
        wire.resume()
        group.settle()
    assert rounds[0] < 3
    assert rounds[1] >= 4


@pytest.mark.parametrize(
    ("together", "role", "found"),
    [
        ([(0.0, 9.0)], "coordinator", 1),
        ([(1.1, 1.4)], "coordinator", 1),
        ([(1.3, 9.0)], "coordinator", 0),
        ([(0.0, 1.2), (1.3, 1.4)], "coordinator", 0),
        ([], "coordinator", 0),
        ([(0.0, 9.0)], "waiting", 0),  # it answers with an error
    ],
)
def test_nobody_waits_for_votes_while_all_are_in_touch(together, role, found):
    a: Any = Box(name="a", history=[seen(0, role, "b")])
    roles = frozenset({"coordinator"})
    history = [waits(1.0, 1.5), waits(2.0, 2.1)]
    assert len(checkers.check_touch(history, [a], 0.26, {"a": together}, roles)) == found


def test_what_is_left_of_the_time():
    assert checkers.complement([], 9.0) == [(0.0, 9.0)]
    assert checkers.complement([(3.0, 4.0), (1.0, 2.0), (1.5, 1.8)], 9.0) == [
        (0.0, 1.0),
        (2.0, 3.0),
        (4.0, 9.0),
    ]
    assert checkers.complement([(0.0, 5.0), (8.0, 99.0)], 9.0) == [(5.0, 8.0)]


# -- times to live -----------------------------------------------------------------------------

ONE_SERVER = checkers.Eras([checkers.Era(0.0, 100.0)], deaths=[], splits=0, in_sync_s=100.0)
DIVIDED = checkers.Eras(
    [checkers.Era(0.0, 12.0), checkers.Era(13.0, 100.0)],
    deaths=[],
    splits=1,
    in_sync_s=99.0,
    divided=True,
)


def said(verb, at, status="ok", *, value=b"", exptime=None, delay=None, key=b"m0", took_s=0.1):
    """Return what a client said and was answered; no status: it was not."""
    found = value if verb == "get" else None
    operation = Operation(
        key,
        verb,
        at,
        at + took_s if status else None,
        Outcome(status, found) if status else None,
        b"" if verb == "get" else value,
    )
    if exptime is not None:
        operation.notes["exptime"] = exptime
    if delay is not None:
        operation.notes["delay"] = delay
    return operation


SET = said("set", 10.0, value=b"1", exptime=10)


@pytest.mark.parametrize(
    ("name", "others", "eras", "found"),
    [
        ("it lives", [said("get", 15.0, value=b"1")], ONE_SERVER, 0),
        ("for as long as it may", [said("get", 22.0, value=b"1")], ONE_SERVER, 0),
        ("for longer", [said("get", 22.3, value=b"1")], ONE_SERVER, 1),
        ("for longer on another side", [said("get", 22.3, value=b"1")], DIVIDED, 1),
        ("it ends too early", [said("get", 16.0, "not_found")], ONE_SERVER, 1),
        ("it ends in time", [said("get", 17.0, "not_found")], ONE_SERVER, 0),
        ("it is not there on another side", [said("get", 16.0, "not_found")], DIVIDED, 0),
        ("a lock is granted again", [said("add", 15.0, value=b"2", exptime=9)], ONE_SERVER, 1),
        ("after it has ended", [said("add", 17.5, value=b"2", exptime=9)], ONE_SERVER, 0),
        ("it is flushed", [said("flush", 11.0), said("get", 12.0, "not_found")], ONE_SERVER, 0),
        (
            "its end is moved on",
            [said("touch", 15.0, exptime=20), said("get", 30.0, value=b"1")],
            ONE_SERVER,
            0,
        ),
        (
            "its end comes nearer",
            [said("touch", 11.0, exptime=1), said("get", 14.0, "not_found")],
            ONE_SERVER,
            0,
        ),
        (
            "it is perhaps replaced by something short",
            [said("set", 11.0, None, value=b"2", exptime=1), said("get", 14.0, "not_found")],
            ONE_SERVER,
            0,
        ),
        (
            "it is perhaps deleted, by a value that is too large",
            [said("delete", 11.0, None), said("get", 14.0, "not_found")],
            ONE_SERVER,
            0,
        ),
        (
            "it was deleted before",
            [said("delete", 8.0), said("get", 14.0, "not_found")],
            ONE_SERVER,
            1,
        ),
        ("it comes from nowhere", [said("get", 15.0, value=b"other")], ONE_SERVER, 1),
    ],
)
def test_what_is_stored_for_a_while_lives_for_so_long(name, others, eras, found):
    assert len(checkers.check_mortal([SET, *others], eras, 2)) == found


def test_a_flush_to_come_may_come_then_or_never():
    (flush,) = checkers.see_delays([said("flush", 10.0, delay=5)], ONE_SERVER, 1.5)
    assert (flush.invoked_at, flush.returned_at, flush.outcome) == (13.5, None, None)


@pytest.mark.parametrize(
    ("other", "eras", "left"),
    [
        (said("flush", 11.0), ONE_SERVER, 1),  # called off
        (said("flush", 11.0, None), ONE_SERVER, 2),  # perhaps
        (said("flush", 14.0), ONE_SERVER, 2),  # too late
        (said("flush", 11.0), DIVIDED, 2),  # elsewhere
        (said("flush", 9.0), ONE_SERVER, 2),
    ],
)
def test_a_flush_to_come_may_be_called_off(other, eras, left):
    assert len(checkers.see_delays([said("flush", 10.0, delay=5), other], eras, 1.5)) == left


def in_sync(nodes: int) -> tuple[Simulation, Any, list[Any]]:
    """Return a world, who decides there, and who follows it."""
    simulation = Simulation(0, nodes=nodes)
    for host in simulation.hosts:
        host.start()
    while not simulation._at_rest():
        simulation.world.run(simulation.world.now + 0.25)
        assert simulation.world.now < 5.0
    followers = [host for host in simulation.hosts if host.node.role == "follower"]
    (leads,) = {*simulation.hosts}.difference(followers)
    return simulation, leads, followers


def test_a_node_that_is_said_to_have_an_answer_knows_that_it_has():
    """Seed 10999: it was linked again 6 ms ago, and nobody had heard more of it than who it is."""
    simulation, leads, (follows,) = in_sync(2)
    world = simulation.world
    world.latency_s, world.splitting = 0.02, 1.0
    ahead_s = []

    def compare(host: Any) -> None:
        for (name, _), answered_at in host.answered_at.items():
            known_at = host.node.view.peers[name].lease.heard_us_at - host.clock.monotonic()
            ahead_s.append(answered_at - (world.now + host.clock.world_seconds(known_at)))

    world.observe = compare
    for _ in range(5):
        follows.wire_to(leads.name).cut()
        world.run(world.now + 0.3)
    assert len(ahead_s) > 50
    assert max(ahead_s) < 1e-6
    assert all(host.node.role.in_sync for host in simulation.hosts)


def lose_unnoticed(wire: Wire) -> None:
    wire.cut(silent=True)


def be_late(wire: Wire) -> None:
    wire.ends[0].late_s = 1.0


def have_said_late(wire: Wire) -> None:
    """What is said from now on comes behind that."""
    be_late(wire)
    wire.ends[0].send(b"word")
    wire.ends[0].late_s = 0.0


def be_slow(wire: Wire) -> None:
    wire.ends[0].late_s = 0.01


@pytest.mark.parametrize("nodes", [2, 3])
@pytest.mark.parametrize(
    ("happens", "rests"),
    [(lose_unnoticed, False), (be_late, False), (have_said_late, False), (be_slow, True)],
)
def test_who_is_about_to_be_lost_is_not_at_rest(nodes, happens, rests):
    """Though all of them say still that they are in sync."""
    simulation, leads, followers = in_sync(nodes)
    for host in followers:
        for one, other in ((leads, host), (host, leads)):
            assert one.wire_to(other.name) is leads.wire_to(host.name)
    happens(leads.wire_to(followers[-1].name))
    assert all(len(host.node.view.members) == nodes for host in simulation.hosts)
    assert simulation._at_rest() is rests


def test_two_who_follow_need_not_hear_each_other():
    simulation, _, (one, other) = in_sync(3)
    lose_unnoticed(one.wire_to(other.name))
    assert simulation._at_rest()


@pytest.mark.parametrize("after_s", [0.0, 0.1, 0.3, 0.6])
def test_the_end_is_there_when_it_lasts(after_s):
    """Whoever is lost while all others come to rest is waited for."""
    simulation, leads, followers = in_sync(3)
    host = followers[0]
    wire = leads.wire_to(host.name)
    simulation.world.after(after_s, lose_unnoticed, wire)
    simulation._settle()
    assert wire.dead
    assert simulation._at_rest()
    assert leads.wire_to(host.name) is not wire
    assert not simulation.report.found


def test_who_is_lost_while_all_is_read_is_waited_for():
    simulation, leads, followers = in_sync(3)
    wire = leads.wire_to(followers[0].name)
    lose_unnoticed(wire)
    simulation._let_arrive()
    assert leads.wire_to(followers[0].name) is not wire
    assert simulation._at_rest()
    assert not simulation.report.found


@pytest.mark.parametrize("number", range(10))
def test_no_words_are_late_any_more_when_all_is_healed(number):
    """Nor are they lost: what was to happen later does not."""
    simulation = Simulation(number, more=frozenset({"late_handshake"}), nodes=3)
    for host in simulation.hosts:
        host.start()
    world = simulation.world
    world.run(1.0)
    simulation_troubles.late_handshake(simulation)
    wires = [wire for wire in world.wires if any(end.late_s for end in wire.ends)]
    assert wires
    simulation.ending = True
    simulation._heal()
    assert not any(end.late_s for wire in wires for end in wire.ends)
    lost = []
    for wire in wires:
        wire.cut = lambda **how: lost.append(how)  # type: ignore[method-assign]
    world.run(world.now + 10.0)
    assert not lost


@pytest.mark.parametrize(
    ("frozen_s", "takes_s", "found"), [(0.0, 0.25, 0), (0.0, 0.4, 1), (0.15, 0.4, 0), (0.1, 0.6, 1)]
)
def test_who_stands_still_cannot_leave(monkeypatch, frozen_s, takes_s, found):
    host = Simulation(0, nodes=2).hosts[0]
    world = host.world
    host.start()
    monkeypatch.setattr(host.node, "leave", lambda: world.now >= takes_s)
    gone: list[float] = []
    host.leave(9.0, lambda: gone.append(world.now))
    world.run(0.2)
    if frozen_s:
        host.freeze()
        world.at(0.2 + frozen_s, host.thaw)
    world.run(1.0)
    assert len(host.complaints) == found
    assert gone


def test_what_is_too_large_for_one_is_refused_before_it_is_met():
    """What another one stored before lies there alone: that is said, and no fault."""
    for seed in count():
        hosts = Simulation(seed, more=frozenset({"item_sizes"}), nodes=3).hosts
        small, middle, large = sorted(hosts, key=lambda host: host.settings.item_size_max_bytes)
        sizes = [host.settings.item_size_max_bytes for host in (small, middle, large)]
        if len(set(sizes)) == 3:
            break
    large.start()
    node, slabs = large.node, large.node.cache.slabs
    hello = node.membership.open_link(dialled=None).hello
    for met, size in ((middle, sizes[1]), (small, sizes[0])):
        assert slabs.item_size_max_bytes == sizes[0]
        peer = node.view.peers[met.name] = Peer(met.name)
        peer.hello = replace(hello, item_size_max=size - node.cache.overhead_bytes)
        node.membership.be_alike()
    assert slabs.item_size_max_bytes == sizes[0]
    peer.hello = replace(hello, item_size_max=sizes[2])
    node.membership.be_alike()
    assert slabs.item_size_max_bytes == sizes[1]


# -- what is refused -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "verb"),
    [
        (b"SERVER_ERROR object too large for cache", "delete"),
        (b"SERVER_ERROR out of memory storing object", "delete"),
        (b"Out of memory allocating item", "delete"),
        (b"SERVER_ERROR not replicated: no peer acknowledges", "cas"),
        (b"SERVER_ERROR no quorum: too few of the nodes are there", "cas"),
    ],
)
def test_who_is_refused_for_want_of_room_has_perhaps_deleted_what_was_there(error, verb):
    """Who is refused because nobody acknowledges has perhaps stored it, however large it is."""
    operation = Operation(b"k", "cas", 1.0, value=b"x" * 1000, compare=5, session="c1.1")
    operation.notes["error"] = error
    see_error(operation)
    assert (operation.verb, operation.session) == (verb, None)
    assert operation.compare == (5 if verb == "cas" else 0)


# -- statistics --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("life", "changed", "found"),
    [
        (1, {}, 0),
        (2, {}, 0),
        (2, {"state": "joining"}, 1),
        (2, {"degraded": "yes"}, 1),
        (2, {"peer_0:lag_items": 3}, 1),
        (2, {"peer_0:in_sync": "no"}, 1),
        (1, {"conflicts": 1}, 1),
        (2, {"conflicts": 1}, 0),
        (2, {"degraded_seconds": 1.0}, 1),
        (2, {"degraded_seconds": 3.0}, 1),  # to stand still for a moment is no separation
        (2, {"degraded_seconds": 4.0}, 0),
    ],
)
def test_statistics_tell_the_truth(life, changed, found):
    rows = {
        "state": "in_sync",
        "degraded": "no",
        "queue_items": 0,
        "conflicts": 0,
        "degraded_seconds": 4.0,
        "peer_0:lag_items": 0,
        "peer_0:unacked_bytes": 0,
        "peer_0:in_sync": "yes",
        **changed,
    }
    history = [
        Box(at=1.0, life=life - 1, ready=True, role="alone", in_view=False),  # of a former life
        Box(at=2.0, life=life, ready=False, role="starting", in_view=False),
        Box(at=3.0, life=life, ready=True, role="alone", in_view=False),
        Box(at=6.0, life=life, ready=True, role="coordinator", in_view=True),
        Box(at=6.5, life=life, ready=True, role="joining", in_view=True),
        Box(at=7.0, life=life, ready=True, role="waiting", in_view=False),
        Box(at=8.0, life=life, ready=True, role="follower", in_view=True),
    ]
    host: Any = Box(
        name="a",
        life=life,
        history=history,
        heard_the_dead=False,
        settings=WITH_A_PEER,
        world=Box(now=9.0),
        node=Box(role="coordinator", rows=lambda: rows.items(), view=Box(peers=["b"])),
    )
    assert len(checkers.check_statistics([host, host], ONE_SERVER)) == 2 * found
    of_two_sides = 0 if "conflicts" in changed else 2 * found
    assert len(checkers.check_statistics([host, host], DIVIDED)) == of_two_sides
    host.heard_the_dead = True
    assert len(checkers.check_statistics([host, host], ONE_SERVER)) == of_two_sides
    host.heard_the_dead = False
    of_three = 3 * found
    assert len(checkers.check_statistics([host, host, host], ONE_SERVER)) == of_three
    host.node.view.peers.append("c")  # which it had not met yet
    rows |= {name.replace("peer_0", "peer_1"): value for name, value in rows.items()}
    assert len(checkers.check_statistics([host, host, host], ONE_SERVER)) == of_three


@pytest.mark.parametrize(
    ("leads_with", "life", "is_two_sides"),
    [
        ("c", 2, True),  # what it had changed c may have of it, and tell
        ("c", 1, False),
        ("ac", 2, False),
    ],
)
def test_what_a_third_one_has_of_a_side_that_died_may_be_changed_on_both(
    leads_with, life, is_two_sides
):
    """It has what b had, which died alone; and a, who is behind, goes on when b has nothing."""
    rows = {"state": "in_sync", "degraded": "no", "queue_items": 0, "conflicts": 1}
    rows |= {"degraded_seconds": 9.0}
    node = Box(role="follower", rows=rows.items, view=Box(peers=[]))
    a, b, c = [
        Box(name=name, life=1, history=[], heard_the_dead=False, world=Box(now=9.0), node=node)
        for name in "abc"
    ]
    for host in (a, b, c):
        host.settings = WITH_A_PEER
    a.history = c.history = [seen(0.0, "follower", "bc")]
    b.history = [seen(0.0, "coordinator", "ac"), seen(2.0, "coordinator", leads_with)]
    b.life = life
    said = checkers.check_statistics([a, c], ONE_SERVER)  # type: ignore[list-item]
    assert len(said) == 2  # of two neither could have heard of another side
    said = checkers.check_statistics([a, c, b], ONE_SERVER)  # type: ignore[list-item]
    wrong = sum("conflicts" in line for line in said)
    assert wrong == (0 if is_two_sides else 3 if b.life == 1 else 2)  # in another life nobody knows


# -- cas uniques -------------------------------------------------------------------------------


def stored(value, at, cas):
    operation = said("set", at, value=value, key=b"k0")
    operation.outcome = Outcome("ok", cas=cas)
    return operation


def test_while_something_is_under_way_statistics_tell_of_that():
    group = make_group()
    group.warm()
    hosts: Any = list(group.hosts.values())
    wire = group.wire("a", "b")
    wire.stall(group["b"])
    Guest(group["a"]).feed(COMMAND)
    group.settle()
    assert checkers.is_under_way(hosts)
    assert group["a"].rows["peer_0:lag_items"] == 1
    wire.resume()
    group.settle()
    assert not checkers.is_under_way(hosts)
    assert group["a"].rows["peer_0:lag_items"] == 0


@pytest.mark.parametrize(
    ("looks", "found"),
    [
        ([(1, 1, "alone"), (5, 1, "alone")], 0),
        ([(1, 1, "alone"), (5, 1, "alone"), (7, 1, "alone")], 1),
        ([(1, 1, "alone"), (5, 1, "both"), (7, 1, "alone")], 0),
        ([(1, 1, "alone"), (5, 1, "neither"), (7, 1, "alone")], 0),
        ([(1, 1, "alone"), (5, 1, "unmet"), (7, 1, "alone")], 0),
        ([(1, 1, "alone"), (5, 1, "alone"), (7, 1, "behind")], 0),  # and says that it was left
        ([(1, 1, "alone"), (7, 2, "alone")], 0),
        ([(1, 1, "alone"), (5, 2, "unmet"), (7, 2, "alone")], 0),  # as one that starts is at first
        ([(1, 1, "alone"), (5, 2, "unmet"), (7, 3, "alone"), (13, 3, "alone")], 1),
        # Who stood still listens anew: what the other one said meanwhile it has not heard yet.
        ([(1, 1, "alone"), (5, 1, "stood still"), (7, 1, "alone")], 0),
        ([(1, 1, "alone"), (5, 1, "stood still"), (7, 1, "alone"), (11, 1, "alone")], 1),
        ([(1, 1, "alone"), (5, 1, "dozed"), (7, 1, "alone")], 1),
    ],
)
def test_a_node_is_mistaken_for_long_in_one_life_only(looks, found):
    """What it said before it was started anew, or before it met the other one, is another matter.

    In each look: when, the node's life, and by whose account it is in sync with the other one.
    """
    there: Any = Box(name="b", alive=True, frozen=False)
    host: Any = Box(name="a", froze_at=-inf, thawed_at=-inf, settings=WITH_A_PEER)
    world: Any = Box(hosts={"a": host, "b": there})
    watch = Watch(world, [host], {"statistics"}, 0)
    said: list[str] = []
    for at, life, by in looks:
        world.now = host.waking_s = float(at)
        host.life = life
        if by == "stood still":
            by, host.froze_at, host.thawed_at = "alone", at - 0.3, at
        elif by == "dozed":
            by, host.froze_at, host.thawed_at = "alone", at - 0.2, at
        in_view = Box(in_view=by in ("alone", "both", "behind"))
        standing = Role.JOINING if by == "behind" else Role.COORDINATOR
        host.node = Box(degradation=Box(since=None), ready=True, role="coordinator")
        host.node.standing = standing
        host.node.view = Box(peers={} if by == "unmet" else {"b": in_view})
        there.node = Box(view=Box(peers={"a": Box(in_view=by == "both")}))
        watch.look(host, said)
    assert len(said) == found


@pytest.mark.parametrize(
    ("tag", "seen_at", "found"),
    [
        (5, "", 1),
        (6, "", 0),  # the version of another one
        (5, "b", 0),  # its former life's: b has heard of it, and tells
    ],
)
def test_who_follows_does_not_flush(tag, seen_at, found):
    version = 1 << 50 | 5
    hosts: list[Any] = [
        Box(name=name, life=1, alive=True, node=Box(changes=Box(barrier=0, tag=0))) for name in "ab"
    ]
    world: Any = Box(now=1.0)
    watch = Watch(world, hosts, {"followers"}, 0)
    said: list[str] = []
    host, other = hosts
    for each in hosts:
        each.service = None
        each.node.view = Box(role=Role.COORDINATOR, epoch=1)
    if seen_at:
        hosts["ab".index(seen_at)].node.changes.barrier = version
    watch.look(other, said)
    host.node.view.role = Role.FOLLOWER
    host.node.changes.tag = tag
    host.node.changes.barrier = 0
    watch.look(host, said)
    world.now = 2.0
    host.node.changes.barrier = version
    watch.look(host, said)
    assert len(said) == found


@pytest.mark.parametrize(
    ("reason", "found"),
    [
        ("in sync with b; this node coordinates", 0),
        ("waiting for 127.0.0.1:20098", 1),
        ("in sync with b\nthis node coordinates", 1),
        ("", 1),
    ],
)
def test_a_node_in_sync_says_so_in_one_line(monkeypatch, reason, found):
    monkeypatch.setattr("tests.replication.watch.reason_of", lambda node: reason)
    host: Any = Box(name="a", release=TODAY, node=Box(standing=Role.COORDINATOR))
    said: list[str] = []
    world: Any = Box(now=1.0)
    Watch(world, [host], {"reasons"}, 0).look(host, said)
    assert len(said) == found


@pytest.mark.parametrize(("lost_at", "found"), [([], 1), ([2.0], 0), ([0.5], 1), ([4.0], 1)])
def test_a_cas_unique_is_given_once_while_anybody_remembers(lost_at, found):
    history = [stored(b"1", 1.0, 1 << 40), stored(b"2", 3.0, 1 << 40)]
    assert len(checkers.check_cas_uniques(history, [], lost_at)) == found


def test_nobody_remembers_what_was_before_all_were_dead():
    """A wall clock that was set back meanwhile gives out the same versions again."""
    group = make_group()
    uniques = []
    for _ in range(2):
        guest = Guest(group["a"])
        guest.ask(b"set k 0 0 1\r\n1\r\n")
        uniques.append(int(guest.ask(b"gets k\r\n").split()[4]))
        for host in group.hosts.values():
            host.stop()
            host.clock.skew_s -= 300.0
        for host in group.hosts.values():
            host.start()
        group.link("a", "b")
        group.advance(1.0)
    assert uniques[1] < uniques[0]
    history = {"a": [seen(0, "alone"), seen(1, "dead"), seen(3, "alone")],
               "b": [seen(0, "starting"), seen(2, "alone"), seen(2.5, "dead")]}  # fmt: skip
    hosts: Any = [Box(name=name, history=each) for name, each in history.items()]
    assert checkers.all_lost_at(checkers.Timeline(hosts)) == [1, 2.5]


# -- eras --------------------------------------------------------------------------------------


def seen(at, role, partners="", life=1):
    """Return what a node is from then on."""
    ready = role not in ("dead", "starting")
    return Observation(at, life, role, 1, "a", tuple(partners), ready=ready)


def eras_of(history, *, strict):
    hosts: Any = [Box(name=name, history=each) for name, each in history.items()]
    return checkers.divide(checkers.Timeline(hosts), 10.0, strict=strict)


def test_what_a_node_was_when_it_stood_still():
    history = [seen(1, "starting"), seen(2, "alone"), seen(3, "coordinator")]
    roles = [checkers.role_at(history, time) for time in (0.5, 1, 2.5, 3, 9)]
    assert roles == ["dead", "starting", "alone", "coordinator", "coordinator"]


DEPOSED = {
    "a": [seen(0, "coordinator", "b"), seen(3, "joining"), seen(4, "alone")],
    "b": [seen(0, "follower", "a"), seen(1, "joining"), seen(2.5, "alone"), seen(3.5, "dead")],
}


def test_who_changes_nothing_alone_takes_nothing_with_it():
    """In `strict` what the one had, the other one has; else the other one has less."""
    joined = {**DEPOSED, "a": [seen(0, "coordinator", "b"), seen(2, "joining"), seen(4, "alone")]}
    assert eras_of(joined, strict=True).deaths == []
    assert eras_of(joined, strict=False).deaths == [3.5]


def test_who_leaves_has_nothing_any_more():
    """Before it is dead another one may serve what that one has."""
    left = [seen(0, "coordinator", "b"), seen(2, "alone"), seen(3, "starting"), seen(5, "dead")]
    joining = [seen(0, "follower", "a"), seen(2, "joining"), seen(4, "alone")]
    assert eras_of({"a": left, "b": joining}, strict=False).deaths == [3]
    follower = [seen(0, "follower", "a"), seen(4, "alone")]
    leaving = [seen(0, "coordinator", "b"), seen(3, "starting"), seen(5, "dead")]
    assert eras_of({"a": leaving, "b": follower}, strict=False).deaths == []


def test_but_who_has_begun_anew_has_nothing():
    history = {**DEPOSED, "a": [seen(0, "coordinator", "b"), seen(2, "joining", life=2)]}
    assert eras_of(history, strict=True).deaths == [3.5]


@pytest.mark.parametrize(
    ("read_at", "seen_cas", "compare", "found"),
    [
        (0.5, 7, 7, 0),  # before the era or in it: so others know the cas unique
        (0.5, 7, 8, 1),
        (1.2, 7, 7, 0),
        (1.2, 8, 7, 1),
        (1.5, 7, 7, 0),
        (0.5, None, 7, 1),
    ],
)
def test_what_was_read_when_an_era_began_tells_what_others_may_know(
    read_at, seen_cas, compare, found
):
    history = [
        operation("add", 1.1, 1.3, Outcome("ok"), b"v1."),
        operation("get", read_at, 1.6, Outcome("ok", b"v1.", 0, seen_cas)),
        operation("get", 0.1, 1.05, Outcome("not_found")),
        operation("cas", 1.7, 1.8, Outcome("ok"), b"v2.", compare=compare),
    ]
    eras = checkers.Eras([checkers.Era(1.0, 9.0)], [], 0, 9.0)
    said = checkers.check_linearizable(history, eras, lossy=False, undecided=[])
    assert len(said) == found


def operation(verb, start, end, outcome, value=b"", **more):
    return Operation(b"k0", verb, start, end, outcome, value, **more)


@pytest.mark.parametrize("apart", [True, False])
def test_nodes_may_serve_apart_after_an_era(apart):
    """It ended by a death: no other one ends when they do. Yet both may change what there is."""
    anew = [seen(2, "starting", life=2), seen(3, "alone" if apart else "joining", life=2)]
    history = {
        "a": [seen(0, "coordinator", "b"), seen(2.5, "alone")],
        "b": [seen(0, "follower", "a"), seen(1, "alone"), seen(1.5, "dead"), *anew],
    }
    eras = eras_of(history, strict=False)
    assert (eras.deaths, eras.splits, eras.divided) == ([1.5], 0, apart)


def test_what_is_read_once_more_at_the_end_was_perhaps_read_before():
    """Who reads what is out of date wins it, though he never hears so."""
    world = World(0)
    answers = [b"", b"VA 1 f0 c7 Z X\r\n1\r\n"]
    host: Any = Box(name="a", alive=True, connected=True, life=1, post=lambda *about, life: None)

    def connect(send: Any) -> Any:
        world.after(0.1, lambda: send(answers.pop(0)))
        return Box(host=host, life=1, blocked_until=0.0, end=None, feed=None)

    host.connect = connect
    history = [
        operation("set", 0.0, 0.0, Outcome("ok"), b"1"),
        operation("invalidate", 0.0, 0.0, Outcome("ok")),
    ]
    speech = Speech(world.random, keys=1, flushing=0.0, mortal_random=world.random)
    reader = Client(
        world, "final", speech, "meta", [host], history,
        timeout_s=1.0, think_s=0.001, loyal=1.0,
    )  # fmt: skip
    commands: list[Pending] = speech.read_all("meta")[:1]
    reader.recite(host, commands)
    world.run(5.0)
    assert reader.idle
    said = [(each.session, each.outcome is None) for each in history[2:]]
    assert said == [("final.1", True), ("final.2", False)]
    assert not judge(history)


@pytest.mark.parametrize(("is_late", "of_today", "found"), [(0, 1, 0), (1, 1, 1), (1, 0, 0)])
def test_late_words_are_told_apart_since_this_release(is_late, of_today, found):
    """A world in which all three were of the release before failed by them."""
    (host, *_) = Simulation(0).hosts
    host.release = TODAY if of_today else previous()
    says: Any = Box(host=Box(name="b"), life=1)
    host.note_words(says, 2.0, is_status=False)
    host.note_words(says, 1.0 if is_late else 3.0, is_status=True)
    assert len(host.complaints) == found
    lease = sys.modules[previous().node.__module__.replace(".node", ".lease")].Lease()
    assert not hasattr(lease, "is_late")
