"""How long clients wait for other nodes: once the acknowledgement time-out, whatever their node is.

Then they are answered, or, by a node that lacks something and may not go on by itself, parted from.
"""

from __future__ import annotations

import pytest

from tests.replication.helpers import ACK_TIMEOUT_S, Group, Guest, Host, Wire, make_group

#: A step comes that late at most, beside the word for which a client waits before he is forwarded.
LATE_S = 0.003
SET = b"set k 0 0 1\r\n2\r\n"
GET = b"get k\r\n"
HIT = b"VALUE k 0 1\r\n1\r\nEND\r\n"
PARTED = b"parted"


def wait(guest: Guest, limit_s: float = 2.0) -> tuple[bytes, float]:
    """Return what a client hears, and when."""
    group = guest.host.group
    began = group.clock.monotonic()
    while group.clock.monotonic() - began < limit_s:
        group.advance(0.001)
        heard = guest.take() or (PARTED if guest.connection.closing else b"")
        if heard:
            return heard, group.clock.monotonic() - began
    return b"", limit_s


def pair() -> Group:
    group = make_group()
    assert Guest(group["a"]).ask(b"set k 0 0 1\r\n1\r\n") == b"STORED\r\n"
    group.warm()
    return group


FAILURES = ["a is not heard", "b is not heard", "neither is heard", "the other freezes", "it dies"]


def fail(group: Group, asked: Host, failure: str) -> None:
    (other,) = (host for host in group.hosts.values() if host is not asked)
    if failure == "the other freezes":
        other.frozen = True
    elif failure == "it dies":
        other.stop()
    else:
        heard_not = {"a": [group["a"]], "b": [group["b"]]}.get(
            failure[0], list(group.hosts.values())
        )
        group.wire("a", "b").stall(*heard_not)


@pytest.mark.parametrize("request_", [SET, GET], ids=["set", "get"])
@pytest.mark.parametrize("busy", [False, True], ids=["", "the other busy"])
@pytest.mark.parametrize("idle_s", [0.002, 0.05, 0.5, 5.3], ids=str)
@pytest.mark.parametrize("failure", FAILURES)
@pytest.mark.parametrize("name", "ab")
def test_in_sync(name, failure, idle_s, busy, request_):
    group = pair()
    asked = group[name]
    group.advance(idle_s)
    fail(group, asked, failure)
    if busy:
        Guest(group["b" if name == "a" else "a"]).feed(GET)
    guest = Guest(asked)
    guest.feed(request_)
    group.settle()
    heard, waited_s = (guest.take(), 0.0)
    if not heard:
        heard, waited_s = wait(guest)
    # What the other one had said before may have come just then: he asked a moment later.
    assert waited_s <= ACK_TIMEOUT_S + ACK_TIMEOUT_S / 4 + LATE_S
    assert heard in (b"STORED\r\n", HIT, PARTED)
    if heard == PARTED:
        assert asked.node.role == "joining"  # the other one is heard, and has gone on


@pytest.mark.parametrize("first_s", [0.05, 0.06, 0.07], ids=str)
@pytest.mark.parametrize("failure", ["b is not heard", "neither is heard", "the other freezes"])
def test_what_is_sent_late_is_asked_then(failure, first_s):
    """While other commands were on their way it was not: what is answered meanwhile is no answer.

    Who took it for one waited once more for a coordinator that does not hear him.
    """
    group = pair()
    a, b = group["a"], group["b"]
    wire = group.wire("a", "b")
    wire.stall(a)
    first, second = Guest(b), Guest(b)
    first.feed(SET)
    group.advance(0.001)
    asked_at = group.clock.monotonic()
    second.feed(SET)  # waits for the answer to the first
    group.advance(first_s)
    assert not first.take()
    wire.stall(b)
    wire.carry()
    fail(group, b, failure)
    b.turn()
    assert first.take() == b"STORED\r\n"
    assert b.node.gate.forwards
    assert not b.node.gate.unsent_forwards
    assert b.peer("a").lease.echoed > asked_at
    heard, waited_s = wait(second)
    assert heard in (b"STORED\r\n", PARTED)
    assert waited_s <= ACK_TIMEOUT_S + LATE_S


@pytest.mark.parametrize("name", "ab")
def test_a_new_link_is_no_answer_yet(name):
    """Who it leads to has been proven, and has not been asked anything over it."""
    group = pair()
    asked, (other,) = group[name], (host for host in group.hosts.values() if host.name != name)
    group.advance(0.002)
    group.wire("a", "b").cut()
    guest = Guest(asked)
    guest.feed(SET)
    group.advance(ACK_TIMEOUT_S - 0.01)
    wire = Wire(other, asked)
    while not all(link.proven for link in wire.links):
        wire.carry()
    wire.stall()
    assert asked.node.role.in_sync
    heard, waited_s = wait(guest)
    assert heard == b"STORED\r\n"
    assert waited_s <= 0.01 + LATE_S


def joining(group: Group, caught_up: bool) -> Host:
    """Have the second server be away for a moment, and begin to join the first one again."""
    a, b = group.hosts.values()
    for _ in range(3):  # it is not taken back at once
        b.frozen = True
        Guest(a).feed(SET)
        group.advance(0.2)
        assert a.node.role == "alone"
        b.frozen = False
        group.advance(0.1 if _ == 2 else 6.0)
    assert (a.node.role, b.node.role) == ("alone", "joining")
    if not caught_up:
        group.wire("a", "b").cut()
        wire = Wire(a, b)
        while b.peer("a").link is None:
            wire.carry()
            b.turn()
    return b


@pytest.mark.parametrize("caught_up", [True, False], ids=["caught up", "not yet taken in"])
@pytest.mark.parametrize("failure", FAILURES)
def test_who_joins(failure, caught_up):
    group = pair()
    b = joining(group, caught_up)
    guests = [Guest(b), Guest(b)]
    assert guests[0].ask(GET) == b"VALUE k 0 1\r\n2\r\nEND\r\n" or not caught_up
    fail(group, b, failure)
    for guest, request in zip(guests, (GET, SET), strict=True):
        guest.feed(request)
    group.settle()
    for guest in guests:
        if not guest.take():
            heard, waited_s = wait(guest)
            assert waited_s <= ACK_TIMEOUT_S + LATE_S
            assert heard == PARTED


def test_who_comes_later_does_not_wait_and_when_the_other_answers_all_is_well():
    group = pair()
    b = joining(group, caught_up=True)
    group["a"].frozen = True
    first = Guest(b)
    first.feed(GET)
    assert wait(first)[0] == PARTED
    for request in (GET, SET, b"version\r\n"):
        guest = Guest(b)
        guest.feed(request)
        heard, waited_s = wait(guest)
        assert heard == PARTED
        assert waited_s <= 0.02 + LATE_S
    assert [line for line in b.lines if "a does not answer, and this node is not in sync" in line]
    group["a"].frozen = False
    group.advance(0.2)
    assert Guest(b).ask(GET) == b"VALUE k 0 1\r\n2\r\nEND\r\n"
    group.advance(10)
    assert sorted(host.node.role for host in group.hosts.values()) == ["coordinator", "follower"]
    group.check_equal()


@pytest.mark.parametrize("name", "ab")
def test_who_was_left_behind_and_finds_nobody(name):
    """It looks for the others for long; its clients do not wait for that."""
    group = pair()
    asked = group[name]
    group.wire("a", "b").stall()
    asked.frozen = True
    group.advance(10)
    asked.frozen = False
    group.advance(0.1)
    for _ in range(3):
        guest = Guest(asked)
        guest.feed(GET)
        heard, waited_s = wait(guest)
        assert heard == PARTED
        assert waited_s <= ACK_TIMEOUT_S + LATE_S


def test_what_went_on_is_found_at_once():
    """If it hears us: who has waited for it almost too long is answered then."""
    group = pair()
    a, b = group["a"], group["b"]
    wire = group.wire("a", "b")
    group.advance(0.3)
    wire.stall(a)
    Guest(b).feed(b"set k 0 0 1\r\n3\r\n")
    group.advance(0.02)
    guest = Guest(a)
    guest.feed(b"append k 0 0 1\r\n4\r\n")
    group.advance(ACK_TIMEOUT_S - 0.01)
    assert (a.node.role, b.node.role) == ("joining", "alone")
    wire.resume()
    heard, waited_s = wait(guest)
    assert heard == b"STORED\r\n"
    assert waited_s <= 0.01
    assert b.values() == {b"k": b"34"}


@pytest.mark.parametrize("failure", ["freezes", "dies", "is cut off"])
@pytest.mark.parametrize("asked", "abc")
@pytest.mark.parametrize("lost", "abc")
def test_of_three(lost, asked, failure):
    """Who is to go on may not have noticed yet that it is: it is asked by who has."""
    if lost == asked:
        return
    group = make_group("abc")
    Guest(group["a"]).ask(b"set k 0 0 1\r\n1\r\n")
    group.warm()
    if failure == "dies":
        group[lost].stop()
    else:
        for wire in group.wires:
            if group[lost] in wire.hosts:
                wire.stall()
        group[lost].frozen = failure == "freezes"
    guest = Guest(group[asked])
    guest.feed(SET)
    heard, waited_s = wait(guest)
    assert heard == b"STORED\r\n"
    assert waited_s <= 2 * ACK_TIMEOUT_S + 0.02 + LATE_S


@pytest.mark.parametrize("said", ["", "that it leads"])
def test_of_three_who_has_our_vote_has_waited_for_who_is_lost(said):
    """It goes on at once. If it dies at that, our clients wait once more, and not twice."""
    group = make_group("abc")
    Guest(group["a"]).ask(b"set k 0 0 1\r\n1\r\n")
    group.warm()
    a, b, c = group.hosts.values()

    def look() -> None:
        status = c.peer("b").status
        if c.node.role == "joining" and (not said or (status and status.role.leads)):
            b.frozen = True
            group.wire("b", "c").stall()

    group.advance(0.002)
    c.view_changed = look
    a.frozen = True
    guest = Guest(c)
    guest.feed(SET)
    heard, waited_s = wait(guest)
    assert b.frozen
    assert heard == PARTED
    # It was told that the one that is lost does not answer, and had its own word of that.
    assert waited_s <= 2 * ACK_TIMEOUT_S + ACK_TIMEOUT_S / 4 + 0.02 + LATE_S


#: What a float cannot tell apart.
SAME_S = 1e-6


class SlowWire(Wire):
    """One over which all that is sent arrives a while later."""

    def __init__(self, caller: Host, callee: Host, late_s: float) -> None:
        self.late_s = late_s
        self.under_way: tuple[list[tuple[float, bytes]], list[tuple[float, bytes]]] = ([], [])
        super().__init__(caller, callee)

    def carry(self) -> bool:
        now, busy = self.group.clock.monotonic(), False
        for sender, link in enumerate(self.links):
            under_way, other = self.under_way[sender], self.links[1 - sender]
            under_way += [(now + self.late_s, bytes(piece)) for piece in link.take_output()]
            while under_way and under_way[0][0] <= now + SAME_S:
                busy = True
                other.receive(under_way.pop(0)[1])
            if link.closed:
                self._end(other)
                return True
        return busy


def wait_while_links_flap(
    guest: Guest, caller: Host, callee: Host, late_s: float, lives_s: float, pause_s: float
) -> tuple[bytes, float]:
    """Return what a client hears, and when, while links come up and are cut again and again."""
    group = guest.host.group
    clock = group.clock
    began = clock.monotonic()
    turns_at, wire = began + pause_s, None
    while clock.monotonic() - began < 2.0:
        is_due = clock.monotonic() + SAME_S >= turns_at
        if wire is not None and wire not in group.wires:
            turns_at, wire = clock.monotonic() + pause_s, None  # one of the two has closed it
        elif is_due and wire is None:
            turns_at, wire = clock.monotonic() + lives_s, SlowWire(caller, callee, late_s)
        elif is_due and wire is not None:
            wire.cut()
            turns_at, wire = clock.monotonic() + pause_s, None
        group.advance(0.001)
        heard = guest.take() or (PARTED if guest.connection.closing else b"")
        if heard:
            return heard, clock.monotonic() - began
    return b"", 2.0


#: How late all is over such a link, and how long that lives. In some of them only one side learns
#: that the other one is who it says; in some what is there is said, and what was lost is sent
#: again, but does not arrive.
LATE_AND_LIVES_S = [
    (0.0, 0.05),
    (0.005, 0.02),
    (0.01, 0.03),
    (0.01, 0.04),
    (0.012, 0.04),
    (0.012, 0.05),
    (0.015, 0.05),
    (0.02, 0.06),
    (0.02, 0.08),
    (0.03, 0.1),
    (0.05, 0.2),
]
#: The same, and how long there is no link then.
FLAPS = [(*each, pause_s) for each in LATE_AND_LIVES_S for pause_s in (0.001, 0.02)]
#: The longest that anybody waits for another node.
BOUND_S = 2 * ACK_TIMEOUT_S + 0.1


@pytest.mark.parametrize("request_", [SET, GET], ids=["set", "get"])
@pytest.mark.parametrize("dials", ["ab", "ba"])
@pytest.mark.parametrize("asked", "ab")
def test_links_that_do_not_last(asked, dials, request_):
    """Each proves who is there, and begins the time anew: but not again and again."""
    for late_s, lives_s, pause_s in FLAPS:
        group = pair()
        group.advance(0.002)
        group.wire("a", "b").cut()
        if request_ == GET:
            Guest(group["a" if asked == "b" else "b"]).feed(SET)
        guest = Guest(group[asked])
        guest.feed(request_)
        caller, callee = (group[name] for name in dials)
        heard, waited_s = guest.take(), 0.0
        if not heard:
            heard, waited_s = wait_while_links_flap(guest, caller, callee, late_s, lives_s, pause_s)
        assert waited_s <= BOUND_S, (late_s, lives_s, pause_s)
        assert heard
        group.check()


@pytest.mark.parametrize("dials", ["ab", "ba"])
def test_links_that_do_not_last_to_who_joins(dials):
    for late_s, lives_s, pause_s in FLAPS:
        group = pair()
        b = joining(group, caught_up=True)
        group.wire("a", "b").cut()
        guest = Guest(b)
        guest.feed(SET)
        caller, callee = (group[name] for name in dials)
        heard, waited_s = wait_while_links_flap(guest, caller, callee, late_s, lives_s, pause_s)
        assert waited_s <= BOUND_S, (late_s, lives_s, pause_s)
        assert heard
        group.check()


@pytest.mark.parametrize("dials", ["ab", "ba", "ac", "ca", "bc", "cb"])
@pytest.mark.parametrize("asked", "abc")
def test_links_of_three_that_do_not_last(asked, dials):
    """The third reaches both. So a follower gets no vote to go on; it asks for that so long."""
    outvoted = asked != "a" and {*dials} == {"a", asked}
    for late_s, lives_s, pause_s in FLAPS:
        group = make_group("abc")
        assert Guest(group["a"]).ask(b"set k 0 0 1\r\n1\r\n") == b"STORED\r\n"
        group.warm()
        group.advance(0.002)
        caller, callee = (group[name] for name in dials)
        group.wire(*dials).cut()
        guest = Guest(group[asked])
        guest.feed(SET)
        heard, waited_s = wait_while_links_flap(guest, caller, callee, late_s, lives_s, pause_s)
        # It may learn only then that the other two went on, and then waits as one that joins.
        bound_s = BOUND_S + (1.0 + 2 * ACK_TIMEOUT_S if outvoted else 0.0)
        assert waited_s <= bound_s, (late_s, lives_s, pause_s)
        assert heard
        group.check()
