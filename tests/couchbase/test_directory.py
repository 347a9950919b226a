"""Who is in the map: what a node's role and its links make of it."""

from __future__ import annotations

from itertools import combinations

from pymcd.couchbase.directory import Directory
from pymcd.couchbase.documents import Site, View
from tests.replication.helpers import Group, Guest, address_of, make_group

SITES = {name: Site(f"host-{name}", 11211, 8091) for name in "abc"}
A, B, C = SITES.values()


def directories(group: Group) -> dict[str, Directory]:
    names = list(group.hosts)
    for host in group.hosts.values():
        host.node.announce_welcome(True)
    group.settle()
    return {
        name: Directory(
            SITES[name],
            {address_of(other): SITES[other] for other in names if other != name},
            group[name].node.view,
        )
        for name in names
    }


def test_a_server_without_peers():
    directory = Directory(A, {})
    assert directory.view() == View(A, (), A, (A,))


def test_in_sync_the_coordinator_is_the_master_and_the_other_one_the_herald():
    group = make_group("ab")
    expected = View(A, (B,), B, (A, B))
    assert {name: each.view() for name, each in directories(group).items()} == {
        "a": expected,
        "b": expected,
    }


def test_who_starts_is_in_no_map():
    group = Group("ab")
    assert [each.view() for each in directories(group).values()] == [None, None]


def test_a_lost_link_makes_a_follower_the_master_for_as_long_as_nobody_knows():
    group = make_group("ab")
    here = directories(group)["b"]
    group.wire("a", "b").cut()
    assert group["b"].node.role == "follower"
    assert here.view() == View(B, (A,), B, (A, B))
    group.link("b", "a")
    assert here.view() == View(A, (B,), B, (A, B))


def test_who_goes_on_alone_is_alone_in_the_map():
    group = make_group("ab")
    here = directories(group)
    group["a"].stop()
    group.advance(0.2)
    assert group["b"].node.role == "alone"
    assert here["b"].view() == View(B, (), B, (A, B))


def test_a_follower_that_dies_leaves_the_map():
    group = make_group("ab")
    here = directories(group)
    group["b"].stop()
    # At once: clients that streamed from it come here, and must not be sent back.
    assert (group["a"].node.role, here["a"].view()) == ("coordinator", View(A, (), A, (A, B)))
    group.advance(0.2)
    assert (group["a"].node.role, here["a"].view()) == ("alone", View(A, (), A, (A, B)))


def test_who_comes_back_is_in_the_map_when_it_says_that_clients_may_come():
    group = make_group("ab")
    here = directories(group)
    group["a"].stop()
    group.advance(0.2)
    group["a"].start()
    seen: list[View | None] = []

    def look() -> None:
        view = here["b"].view()
        if not seen or seen[-1] != view:
            seen.append(view)
            if view is not None and A in view.replicas:
                assert group["a"].node.ready

    group["b"].view_changed = look
    group.link("a", "b")
    group.advance(1.0)
    assert (group["a"].node.role, here["b"].view()) == ("follower", View(B, (), B, (A, B)))
    group["a"].node.announce_welcome(True)
    group.settle()
    assert seen == [View(B, (), B, (A, B)), View(B, (A,), A, (A, B))]
    assert directories(group)["a"].view() == seen[-1]


def test_who_was_deposed_names_the_other_one_alone():
    group = make_group("ab")
    here = directories(group)
    wire = group.wire("a", "b")
    group["a"].frozen = True
    Guest(group["b"]).ask(b"incr n 1\r\n")
    group.advance(0.5)
    wire.stall(group["b"])
    group["a"].frozen = False
    wire.resume()
    roles = set()
    for _ in range(100):
        group["a"].turn()
        wire.carry()
        role = group["a"].node.role
        roles.add(role)
        if role == "joining":
            assert here["a"].view() == View(B, (), B, (A, B))
    assert "joining" in roles


def test_a_coordinator_that_will_leave_has_its_clients_go_to_the_other():
    group = make_group("ab")
    here = directories(group)
    group["a"].node.announce_welcome(False)
    group.settle()
    assert here["b"].view() == View(B, (A,), B, (A, B))
    # It does not leave before they have gone.
    assert [host.node.role for host in group.hosts.values()] == ["coordinator", "follower"]
    assert Guest(group["b"]).ask(b"set k 0 0 1\r\nx\r\n") == b"STORED\r\n"


def test_who_leaves_is_not_to_be_asked():
    group = make_group("ab")
    here = directories(group)
    assert group["a"].node.leave()
    assert here["a"].view() is None
    group.settle()
    assert here["b"].view() == View(B, (), B, (A, B))


def test_of_three_all_are_in_the_map():
    group = make_group("abc")
    for callee, caller in combinations(group.hosts, 2):
        group.link(caller, callee)  # that it is one link too many is noticed when they have met
    group.advance(1.0)
    here = directories(group)
    assert {each.view() for each in here.values()} == {View(A, (B, C), B, (A, B, C))}
    group["b"].stop()
    group.advance(0.2)
    assert here["a"].view() == View(A, (C,), C, (A, B, C))


def test_of_two_the_other_one_is_known_though_only_it_has_dialled():
    group = make_group("ab")
    dialled = [host for host in group.hosts.values() if not host.node.view.who]
    assert [host.name for host in dialled] == ["b"]
    assert directories(group)["b"].view() == View(A, (B,), B, (A, B))


def test_a_peer_that_nobody_can_place_is_not_in_the_map():
    group = make_group("ab")
    assert Directory(A, {}, group["a"].node.view).view() == View(A, (), A, (A,))
    assert Directory(B, {}, group["b"].node.view).view() == View(B, (), B, (B,))


def test_every_change_is_told():
    """`on_view` is called whenever the view is another one than at the last call."""
    group = make_group("ab")
    here = directories(group)
    told = {name: each.view() for name, each in here.items()}

    def teller(name: str) -> None:
        told[name] = here[name].view()

    for name in "ab":
        group[name].view_changed = lambda name=name: teller(name)  # type: ignore[misc]

    def check() -> None:
        assert told == {name: each.view() for name, each in here.items()}

    group.wire("a", "b").cut()
    check()
    group.link("b", "a")
    check()
    group.wire("a", "b").cut()
    for _ in range(100):
        group.advance(0.01)
        check()
    group.link("a", "b")
    for _ in range(300):
        group.advance(0.01)
        check()
    assert {host.node.role for host in group.hosts.values()} == {"coordinator", "follower"}
    assert group["a"].node.leave() or group["b"].node.leave()
    check()
    group.settle()
    check()
