"""A peer gone mad after it has proven itself: what it says lies at the edges of what can be said.

Two good nodes are linked with it. Whatever it says, nothing raises, their statistics are numbers,
and when it is gone they are one again, by themselves, and store what they are given.
"""

from __future__ import annotations

import json
from dataclasses import fields
from math import isfinite
from typing import Any, Final

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pymcd.replication import frames, records
from pymcd.replication.frames import Kind
from pymcd.replication.messages import Hello, Join, Message, Received, Status, View, Welcome
from pymcd.replication.roles import ALONE, Role
from pymcd.replication.versions import STEP, epoch_limit, version_at
from tests.replication.helpers import Group, Guest, Host, Wire, address_of, make_group

from ..clocks import ManualClock

NUMBERS: Final = st.one_of(
    st.sampled_from([0, 1, 4095, 4096, 2**31, 2**32 - 1, 2**32, 2**52, 2**62, 2**63 - 1]),
    st.integers(0, 2**63 - 1),
)
WIDE: Final = NUMBERS | st.sampled_from([2**63, 2**64 - 1])
#: What is given out about now.
VERSIONS: Final = WIDE | st.integers(0, 3).map(
    lambda later: version_at(ManualClock().realtime() + 20, 7) + later * STEP
)
TIMES: Final = st.one_of(
    st.sampled_from([0.0, -0.0, 1e-308, 1e12, -1e12, 1e308, -1e308, 1.7e9]),
    st.floats(),
)
NAMES: Final = st.lists(st.sampled_from(["a", "b", "m", "-", "x" * 255]), max_size=3, unique=True)
KEYS: Final = st.lists(st.binary(min_size=1, max_size=250) | st.just(b"k"), max_size=3)
PORTIONS: Final = st.builds(Received, NUMBERS, NUMBERS)
SECONDS: Final = st.floats(-1e12, 1e12)

MESSAGES: Final[st.SearchStrategy[Message]] = st.one_of(
    st.builds(
        Status,
        word=st.sampled_from(["", "ask", "answer"]),
        role=st.sampled_from(Role),
        epoch=NUMBERS,
        members=NAMES,
        coordinator=st.sampled_from(["a", "b", "m", "-"]),
        welcoming=st.booleans(),
        channel=st.none() | PORTIONS,
        left=PORTIONS,
        clock=SECONDS,
        version=NUMBERS,
        alone_s=SECONDS,
    ),
    st.builds(
        Join,
        wants=KEYS,
        all=st.booleans(),
        leads=st.booleans(),
        left=NUMBERS,
        pending=st.lists(NUMBERS, max_size=3),
        replace=NUMBERS,
    ),
    st.builds(
        Welcome,
        wants=KEYS,
        all=st.booleans(),
        done=st.dictionaries(NUMBERS, st.binary(max_size=9), max_size=2),
        replace=NUMBERS,
    ),
    st.builds(View, epoch=NUMBERS, members=NAMES),
)
COMMANDS: Final = st.sampled_from(
    [
        b"watch fetchers\r\n", b"lru_crawler metadump all\r\n", b"lru_crawler mgdump all\r\n",
        b"shutdown\r\n", b"shutdown graceful\r\n", b"quit\r\n", b"stats\r\n", b"stats items\r\n",
        b"cache_memlimit 1\r\n", b"lru mode flat\r\n", b"slabs automove 1\r\n", b"debugtime w1\r\n",
        b"verbosity 9\r\n", b"refresh_certs\r\n", b"set k 0 0 1\r\nx\r\n", b"get k\r\n" * 300,
        b"flush_all 99999999\r\n", b"set h 0 0 999999999\r\n", b"set", b"\x80" * 24,
        b"ms k 1 E18446744073709551615\r\nx\r\n", b"touch k -1\r\n", b"incr k 18446744073709551615",
        b"\x80\x07" + bytes(22), b"\x80\x10" + bytes(22), b"gat 9999999999 k\r\n",
    ]
)  # fmt: skip


def state_of(marks: int, flags: int, cas: int, version: int, end: int) -> bytes:
    return records.pack_state(records.STATE, marks, 1, flags, cas, version, end, 1) + b"kx"


RECORDS: Final = st.one_of(
    st.builds(state_of, st.integers(0, 255), st.integers(0, 2**32 - 1), VERSIONS, VERSIONS, WIDE),
    st.builds(records.encode_gone, st.binary(max_size=255), VERSIONS),
    st.builds(records.encode_flush, VERSIONS),
    st.builds(records.encode_flush_due, VERSIONS, WIDE),
    st.builds(records.encode_result, WIDE, st.binary(max_size=9)),
    st.builds(records.encode_batch, WIDE, WIDE),
    st.builds(records.encode_executed, st.sampled_from("abm"), WIDE, st.binary(max_size=9)),
)
CHANGES: Final = st.lists(RECORDS, max_size=4).map(b"".join)
FORWARDS: Final = st.lists(
    st.builds(records.encode_forward, WIDE, st.sampled_from(["text", "binary"]), COMMANDS),
    max_size=4,
).map(b"".join)
EMPTY: Final = st.sampled_from(
    [Kind.SYNCED, Kind.PROPOSE, Kind.ACCEPT, Kind.ACK, Kind.PING, Kind.PART]
)
SAID: Final[st.SearchStrategy[tuple[int, bytes]]] = st.one_of(
    MESSAGES.map(lambda message: (message.kind, message.encode())),
    CHANGES.map(lambda payload: (Kind.CHANGES, payload)),
    FORWARDS.map(lambda payload: (Kind.FORWARD, payload)),
    EMPTY.map(lambda kind: (kind, b"")),
    st.tuples(st.integers(0, 40), st.binary(max_size=20)),
)
#: What it says, and the head before that.
LINES: Final = st.tuples(
    SAID,
    st.sampled_from(["now", "before"]) | TIMES,
    st.sampled_from(["now", "before"]) | TIMES,
    st.sampled_from(["channel", "channel", "new"]) | WIDE,
    st.sampled_from(["next", "next", "none"]) | WIDE,
    st.sampled_from(["all"]) | WIDE,
)


#: How it comes to have a channel: it asks the coordinator for one, and has all that there is.
JOINS: Final = (
    (
        (
            Kind.JOIN,
            Join(wants=[], all=True, leads=False, left=0, pending=[], replace=0).encode(),
        ),
        "now", "now", 0, "none", 0,
    ),
)  # fmt: skip
#: ... and it is in the view.
FOLLOWS: Final = (
    *JOINS,
    ((Kind.SYNCED, b""), "now", "now", "channel", "next", "all"),
    ((Kind.ACCEPT, b""), "now", "now", "channel", "next", "all"),
)


class World:
    """Two good nodes, and a third that has the secret and its own mind."""

    def __init__(self) -> None:
        self.group = Group("ab", enable_shutdown=True)
        self.group["b"].clock.skew_s = 7.0
        self.group.link("a", "b")
        self.group.advance(0.5)
        assert Guest(self.group["a"]).ask(b"set k 0 0 1\r\n1\r\n") == b"STORED\r\n"

    def meet(self, name: str) -> tuple[Host, Wire]:
        """Have the mad one be linked with a good one, by an honest handshake."""
        mad = self.group.hosts.get("m") or self.group.add("m", peers=(address_of("z"),))
        wire = Wire(mad, self.group[name])
        for _ in range(2):
            wire.carry()
        return mad, wire

    def say(self, name: str, lines: list[Any]) -> None:
        """Have a good one hear that; its answers are lost on who is mad."""
        good = self.group[name]
        _, wire = self.meet(name)
        wire.stall()
        link = wire.links[1]
        assert link.proven
        peer = good.peer("m")
        for (kind, payload), time, echo, epoch, number, ack in lines:
            channel = peer.channel
            now = self.group.clock.monotonic()
            moments = {"now": now, "before": now - 1.0}
            said_epoch = {
                "channel": 0 if channel is None else channel.epoch,
                "new": good.node.view.highest_epoch + 4096,
            }.get(epoch, epoch)
            numbers = {"next": 1 if channel is None else channel.received + 1, "none": 0}
            frame = frames.encode_message(
                kind,
                moments.get(time, time),
                moments.get(echo, echo),
                said_epoch,
                numbers.get(number, number),
                0 if channel is None else channel.sent if ack == "all" else ack,
                payload,
            )
            link.receive(b"".join(frame))
            self.look(good)
            self.group.settle()
        if not link.closed:
            link.disconnected()
        self.group.wires[:] = [each for each in self.group.wires if each is not wire]

    def look(self, host: Host) -> None:
        """Have all that is known fit together, and be told."""
        host.node.check()
        for name, value in host.node.rows():
            assert not isinstance(value, float) or isfinite(value), name
            assert str(value), name
        guest = Guest(host)
        answer = guest.ask(b"stats replication\r\nstats\r\n")
        host.service.disconnected(host.guests.pop().connection)
        assert host.node.role != "alone" or answer.endswith(b"END\r\n")

    def recover(self) -> None:
        """See that the good ones are one again, and work."""
        group = self.group
        mad = group.hosts.pop("m", None)
        if mad is not None:
            mad.stop()
        self.come_in_sync()
        self.look_at_work()
        # What it left here can be passed on, too.
        group["b"].stop()
        group.advance(0.5)
        group["b"].start()
        self.come_in_sync()
        self.look_at_work()

    def come_in_sync(self) -> None:
        group = self.group
        for _ in range(80):
            if not any(set(wire.hosts) == {group["a"], group["b"]} for wire in group.wires):
                group.link("a", "b")
            group.advance(0.5)
            if all(host.node.role.in_sync for host in group.hosts.values()):
                break
        else:
            raise AssertionError([host.lines[-5:] for host in group.hosts.values()])

    def look_at_work(self) -> None:
        group = self.group
        for host, value in zip(group.hosts.values(), (b"1", b"2"), strict=True):
            assert Guest(host).ask(b"set new 0 0 1\r\n" + value + b"\r\n") == b"STORED\r\n"
            for each in group.hosts.values():
                answer = Guest(each).ask(b"get new\r\n")
                assert answer == b"VALUE new 0 1\r\n" + value + b"\r\nEND\r\n"
        group.check()


@settings(max_examples=40, suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(st.sampled_from([(), JOINS, FOLLOWS]), st.lists(LINES, max_size=6), st.sampled_from("ab"))
def test_the_good_ones_survive(before, lines, name):
    world = World()
    world.say(name, [*before, *lines])
    world.recover()


def test_nobody_gives_batches_to_who_decides():
    world = World()
    batch = (Kind.CHANGES, records.encode_batch(2**40, 2**40))
    world.say("a", [*FOLLOWS, (batch, "now", "now", "channel", "next", "all")])
    assert "sent a batch, though we decide" in world.group["a"].lines[-1]
    world.recover()


class TestEpochs:
    def status(self, epoch: int) -> bytes:
        return Status(
            word="", role=ALONE, epoch=epoch, members=["m"], coordinator="m", welcoming=False,
            channel=None, left=Received(0, 0), clock=1.7e9, version=0, alone_s=0.0,
        ).encode()  # fmt: skip

    @pytest.mark.parametrize("name", "ab")
    @pytest.mark.parametrize("epoch", [2**63 - 1, 2**62, "last"])
    def test_the_last_of_them_splits_nobody(self, epoch, name):
        world = World()
        clock = world.group[name].clock
        if epoch == "last":
            epoch = epoch_limit(clock.realtime() + 120)
        line = ((Kind.STATUS, self.status(epoch)), "now", "before", 0, 0, 0)
        world.say(name, [line])
        world.recover()
        for host in world.group.hosts.values():
            assert host.node.view.highest_epoch < 2**53


def test_a_clock_without_end_breaks_no_statistics():
    world = World()
    status = json.loads(TestEpochs().status(5))
    for clock in (1e308, -1e308, 1e12):
        payload = json.dumps(status | {"clock": clock}).encode()
        world.say("a", [((Kind.STATUS, payload), "now", "before", 0, 0, 0)])
    world.recover()


def test_an_end_that_no_clock_can_tell_is_not_passed_on():
    world = World()
    status = json.loads(TestEpochs().status(5))
    realtime = world.group["a"].clock.realtime()
    version = version_at(realtime + 20, 7)
    for end in (2**64 - 1, 2**62 + 1, 2**62):
        payload = json.dumps(status | {"clock": realtime + 50}).encode()
        world.say(
            "a",
            [
                ((Kind.STATUS, payload), "now", "before", 0, 0, 0),
                *FOLLOWS,
                (
                    (Kind.CHANGES, state_of(0, 0, version, version, end)),
                    "now", "now", "channel", "next", "all",
                ),
            ],
        )  # fmt: skip
    world.recover()


def test_each_field_of_a_hello_may_be_at_its_edge():
    edges: dict[str, list[Any]] = {
        "item_size_max": [1, 2**63 - 1],
        "memory_limit": [2**63 - 1],
        "ack_timeout_ms": [1, 60_000],
        "manners": [{"-M": "x" * 64}, {}],
        "release": ["x" * 64],
        "member": ["x" * 64],
        "tag": [0, 4095],
        "data": ["nothing", "?"],
    }
    assert set(edges) <= {field.name for field in fields(Hello)}
    for name, values in edges.items():
        for value in values:
            world = World()
            mad, wire = world.meet("a")
            a = world.group["a"]
            hello = a.peer("m").hello
            assert hello is not None
            object.__setattr__(hello, name, value)
            a.node.membership._compare(a.peer("m"), hello, hello)
            world.look(a)
            assert Guest(a).ask(b"set k 0 0 1\r\n1\r\n") in (b"STORED\r\n", b"")
            wire.cut()
            if name == "ack_timeout_ms":
                world.group.advance(value / 1000)  # so it was set up, then
            world.recover()
            mad.stop()


class TestAMessageIsTakenWholeOrNotAtAll:
    """Who decides goes mad in the middle of a message; somebody here waits for its word."""

    def say(self, group: Group, kind: Kind, payload: bytes) -> None:
        """Have the one who follows hear that of its coordinator."""
        channel = group["a"].peer("b").channel
        assert channel is not None
        message = frames.encode_message(kind, 1.0, 0.0, channel.epoch, channel.sent + 1, 0, payload)
        group.wire("a", "b").links[1].receive(b"".join(message))

    @pytest.mark.parametrize("executed", [False, True])
    @pytest.mark.parametrize(
        ("cut_bytes", "more"),
        [
            (1, b""),
            (4, b""),
            (8, b""),
            (0, b"\xff"),
            (0, bytes([records.Record.GONE])),
            (0, b"\x05"),
        ],
    )
    def test_no_client_is_answered_in_part(self, cut_bytes, more, *, executed):
        group = make_group()
        group.warm()
        group.wire("a", "b").stall()
        guest = Guest(group["b"])
        guest.feed(b"set k 0 0 1\r\n1\r\n")
        group.settle()
        (request,) = group["b"].node.gate.forwards
        result = records.encode_result(request, b"STORED\r\n")
        if executed:
            result = records.encode_executed("b", request, b"STORED\r\n")
        self.say(group, Kind.CHANGES, result[: len(result) - cut_bytes] + more)
        assert "cannot take what a sends" in "".join(group["b"].lines)
        assert guest.take() == b""
        assert list(group["b"].node.gate.forwards) == [request]
        group.advance(0.5)
        group["b"].node.check()

    def test_nor_is_another_key_gone_than_the_one_that_was_not_named_whole(self):
        group = make_group()
        group.warm()
        assert Guest(group["a"]).ask(b"set k 0 0 1\r\n1\r\n") == b"STORED\r\n"
        gone = records.encode_gone(b"key", group["a"].changes.latest() + STEP)
        self.say(group, Kind.CHANGES, gone[:-2])
        assert "a record that is cut off" in "".join(group["b"].lines)
        assert group["b"].values() == {b"k": b"1"}

    def test_nor_is_anything_executed_for_it(self):
        group = make_group()
        group.warm()
        channel = group["b"].peer("a").channel
        assert channel is not None
        forward = records.encode_forward(7, "text", b"set k 0 0 1\r\n1\r\n")
        message = frames.encode_message(
            Kind.FORWARD, 1.0, 0.0, channel.epoch, channel.sent + 1, 0, forward + forward[:-1]
        )
        group.wire("a", "b").links[0].receive(b"".join(message))
        assert "a request that is cut off" in "".join(group["a"].lines)
        assert group["a"].values() == {}
