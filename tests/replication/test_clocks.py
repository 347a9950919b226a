"""Clocks that are wrong: what is written, and when it ends, does not depend on them."""

from __future__ import annotations

from math import inf

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pymcd.replication.clocks import (
    LOOK_MAX_S,
    SLEW_RATE,
    STEP_MIN_S,
    VersionClock,
    decode_times,
    encode_times,
)
from pymcd.replication.frames import FrameError
from pymcd.replication.link import ADVICE
from pymcd.replication.versions import CLOCK_SKEW_MAX_S, seconds_of
from tests.replication.helpers import Group, Guest, Host, SkewedClock, Wire, address_of, make_group

from ..clocks import ManualClock

STEPS_S = [2.0, -2.0, 20.0, -20.0, 300.0, -300.0, 3600.0, -3600.0, 1e9, -1e9]
#: How long a wall clock is wrong; the last one: for good.
FOR_S = [0.2, 1.0, 10.0, inf]
STORED = b"STORED\r\n"
IN_SYNC = ["coordinator", "follower"]


def wrong(host: Host, step_s: float, for_s: float) -> None:
    """Have a host's wall clock show something else for a while."""
    host.clock.skew_s += step_s
    host.group.advance(min(for_s, 3.0))
    if for_s < inf:
        host.group.advance(for_s - min(for_s, 3.0))
        host.clock.skew_s -= step_s


def roles(group: Group) -> list[str]:
    return [str(host.node.role) for host in group.hosts.values()]


def left_s(host: Host, key: bytes) -> float:
    """Return for how long a key still lives at a host; 0: it is not there."""
    host.service.tick()
    item = host.cache.linked(key)
    if item is None or host.cache.is_dead(item):
        return 0.0
    return float(item.expires_at - host.cache.seconds_of(host.clock.monotonic()))


class TestVersionClock:
    def make(self) -> tuple[SkewedClock, ManualClock, VersionClock]:
        base = ManualClock()
        clock = SkewedClock(base)
        return clock, base, VersionClock(clock)

    def test_it_shows_what_the_wall_clock_showed_at_the_start(self):
        clock, base, versions = self.make()
        base.advance(7.0)
        assert versions.now() == clock.realtime()
        assert versions.steps == 0

    @given(st.lists(st.tuples(st.floats(-1e9, 1e9), st.floats(0.0, 100.0)), max_size=30))
    def test_it_runs_as_the_monotonic_clock_does_whatever_the_wall_clock_does(self, steps):
        clock, base, versions = self.make()
        begin_s = versions.now() - clock.monotonic()
        passed_s = 0.0
        for step_s, then_s in steps:
            clock.skew_s += step_s
            versions.look()
            base.advance(then_s)
            passed_s += then_s
            versions.look()
            ahead_s = versions.now() - clock.monotonic() - begin_s
            assert abs(ahead_s) <= passed_s * SLEW_RATE + 1e-5

    def test_it_follows_a_clock_that_was_set_right_over_the_days(self):
        clock, base, versions = self.make()
        clock.skew_s = 20.0
        for _ in range(24 * 60):
            base.advance(60.0)
            versions.look()
        assert abs(versions.now() - clock.realtime()) < 1e-3

    def test_who_does_not_look_for_long_does_not_leap(self):
        clock, base, versions = self.make()
        base.advance(1e6)
        clock.skew_s = 3600.0
        versions.look()
        assert versions.now() - (clock.realtime() - 3600.0) <= LOOK_MAX_S * SLEW_RATE + 1e-5

    @pytest.mark.parametrize("step_s", [2 * STEP_MIN_S, -2 * STEP_MIN_S, 3600.0])
    def test_each_step_is_told_once(self, step_s):
        clock, base, versions = self.make()
        assert versions.look() == 0.0
        clock.skew_s += step_s
        assert versions.look() == pytest.approx(step_s)
        base.advance(1.0)
        assert versions.look() == 0.0
        assert versions.steps == 1

    def test_what_a_clock_drifts_is_no_step(self):
        clock, base, versions = self.make()
        for _ in range(100):
            base.advance(1.0)
            clock.skew_s += STEP_MIN_S / 2
            assert versions.look() == 0.0

    def test_who_stood_still_between_two_clocks_has_seen_no_step(self):
        clock, base, versions = self.make()
        realtime = clock.realtime

        def stand_still() -> float:
            shown_s = realtime()
            base.advance(5.0)
            return shown_s

        clock.realtime = stand_still  # type: ignore[method-assign]
        assert versions.look() == 0.0
        assert versions.steps == 0

    def test_who_is_ahead_is_kept_up_with(self):
        clock, _, versions = self.make()
        versions.keep_up(clock.realtime() + 5.0)
        versions.keep_up(clock.realtime() - 5.0)
        assert versions.now() == pytest.approx(clock.realtime() + 5.0)
        versions.take_over(clock.realtime() - 500.0)
        assert versions.now() == pytest.approx(clock.realtime() - 500.0)


class TestTimes:
    def test_they_come_back(self):
        assert decode_times(encode_times(1.5, 7)) == (1.5, 7)

    def test_who_does_not_say_them_yet(self):
        assert decode_times(b"") is None

    @pytest.mark.parametrize("wall_s", [inf, -inf, float("nan"), 1e308])
    def test_what_no_clock_shows(self, wall_s):
        with pytest.raises(FrameError, match="no clock shows"):
            decode_times(encode_times(wall_s, 7))


class TestStepsOfTheWallClock:
    @pytest.mark.parametrize("for_s", FOR_S)
    @pytest.mark.parametrize("step_s", STEPS_S)
    @pytest.mark.parametrize("name", "ab")
    def test_nothing_that_was_acknowledged_is_missing(self, name, step_s, for_s):
        group = make_group()
        guest = Guest(group["a"])
        for number in range(10):
            assert guest.ask(b"set old%d 0 0 1\r\n1\r\n" % number) == STORED
        wrong(group[name], step_s, for_s)
        for number in range(5):
            assert guest.ask(b"delete old%d\r\n" % number) == b"DELETED\r\n"
            assert Guest(group["b"]).ask(b"set new%d 0 0 1\r\n1\r\n" % number) == STORED
        group.advance(1.0)
        assert roles(group) == IN_SYNC
        group.check_equal()
        if for_s < 1.0:
            return  # perhaps nobody has looked at the clock meanwhile
        assert group[name].rows["clock_steps"] >= 1
        assert any("wall clock of this node was set by" in line for line in group[name].lines)

    @pytest.mark.parametrize("step_s", STEPS_S)
    @pytest.mark.parametrize("name", "ab")
    def test_nor_when_something_is_written_meanwhile(self, name, step_s):
        group = make_group()
        guest = Guest(group["a"])
        group[name].clock.skew_s = step_s
        assert guest.ask(b"set k 0 0 1\r\n1\r\nflush_all\r\nset k 0 0 1\r\n2\r\n")[-8:] == STORED
        group.advance(0.2)
        group[name].clock.skew_s = 0.0
        assert guest.ask(b"delete k\r\nset l 0 0 1\r\n1\r\n") == b"DELETED\r\n" + STORED
        group.advance(5.0)
        group.check_equal()
        assert group["b"].values() == {b"l": b"1"}
        group["a"].stop()
        group.advance(1.0)
        group["a"].start()
        group.link("a", "b")
        group.advance(1.0)
        assert group["a"].values() == {b"l": b"1"}

    @pytest.mark.parametrize("step_s", STEPS_S)
    def test_a_link_that_is_lost_meanwhile_comes_again(self, step_s):
        group = make_group()
        wrong(group["a"], step_s, inf)
        assert Guest(group["a"]).ask(b"set k 0 0 1\r\n1\r\n") == STORED
        group.wires[0].cut()
        group.advance(2.0)
        assert Guest(group["a"]).ask(b"set k 0 0 1\r\n2\r\n") == STORED
        group.link("a", "b")
        group.advance(3.0)
        assert sorted(roles(group)) == IN_SYNC
        assert group["b"].values() == {b"k": b"2"}

    @pytest.mark.parametrize("step_s", STEPS_S)
    def test_the_later_write_wins_though_clocks_went_wrong_before(self, step_s):
        group = make_group()
        wrong(group["a"], step_s, inf)
        Guest(group["a"]).ask(b"set k 0 0 1\r\n1\r\nset l 0 0 1\r\n1\r\n")
        group.wires[0].cut()
        group.advance(1.0)
        for at_first, then, key in (("a", "b", b"k"), ("b", "a", b"l")):
            Guest(group[at_first]).ask(b"set %b 0 0 5\r\nfirst\r\n" % key)
            group.advance(1.0)
            Guest(group[then]).ask(b"set %b 0 0 4\r\nthen\r\n" % key)
            group.advance(1.0)
        group.link("a", "b")
        group.advance(15.0)
        group.check_equal()
        assert group["a"].values() == {b"k": b"then", b"l": b"then"}

    @pytest.mark.parametrize("step_s", STEPS_S)
    def test_who_starts_takes_over_the_time_of_who_has_data(self, step_s):
        group = make_group()
        Guest(group["a"]).ask(b"set k 0 0 1\r\n1\r\n")
        group["b"].stop()
        group.advance(1.0)
        group["b"].clock.skew_s = step_s
        group["b"].start()
        group.link("b", "a")
        group.advance(1.0)
        assert roles(group) == IN_SYNC
        # It coordinates in its turn, and what it writes is later than what was there before.
        group["a"].stop()
        group.advance(1.0)
        assert Guest(group["b"]).ask(b"set k 0 0 1\r\n2\r\n") == STORED
        time_s = seconds_of(group["b"].cache.cas_unique)
        assert abs(time_s - group.clock.realtime()) < 1.0
        group["a"].start()
        group.link("b", "a")
        group.advance(1.0)
        group.check_equal()
        assert group["a"].values() == {b"k": b"2"}

    @pytest.mark.parametrize(
        "step_s", [CLOCK_SKEW_MAX_S + 1, -CLOCK_SKEW_MAX_S - 1, 1e4, -1e4, 1e9]
    )
    @pytest.mark.parametrize("caller", "ab")
    def test_two_that_have_both_begun_by_other_clocks_refuse_one_another(self, step_s, caller):
        group = Group("a", peers=(address_of("b"),), sync_timeout_s=1.0)
        group.add("b", peers=(address_of("a"),), sync_timeout_s=1.0, skew_s=step_s)
        group.advance(3.0)
        assert roles(group) == ["alone", "alone"]
        wire = group.link(caller, "ba"["ab".index(caller)])
        for host, link in zip(wire.hosts, wire.links, strict=True):
            assert link.closed
            assert not link.proven
            assert host.rows["last_refusal"] == "clock"
            assert host.rows["handshake_failures"] == 1
            assert host.lines[-1].endswith(ADVICE["clock"])
        # Then somebody sets the clock right; or both are wrong now, alike.
        group["b"].clock.skew_s = 0.0
        for host in group.hosts.values():
            assert Guest(host).ask(b"set %b 0 0 1\r\n1\r\n" % host.name.encode()) == STORED
        group.link("a", "b")
        group.advance(1.0)
        assert sorted(roles(group)) == IN_SYNC
        group.check_equal()
        assert group["a"].values() == {b"a": b"1", b"b": b"1"}

    def test_two_that_begin_by_other_clocks_agree_on_one(self):
        group = Group("a", peers=(address_of("b"),))
        group.add("b", peers=(address_of("a"),), skew_s=5000.0)
        group.link("a", "b")
        group.advance(1.0)
        assert roles(group) == IN_SYNC
        for name in "ab":
            assert Guest(group[name]).ask(b"set %b 0 0 1\r\n1\r\n" % name.encode()) == STORED
        group.advance(1.0)
        group.check_equal()

    @pytest.mark.parametrize("written", [b"", b"a", b"b", b"ab"])
    @pytest.mark.parametrize("step_s", [CLOCK_SKEW_MAX_S + 5, -CLOCK_SKEW_MAX_S - 5, 5e3, -5e3])
    def test_so_do_two_that_were_linked_before_they_began(self, step_s, written):
        group = Group("")
        for name in "ab":
            group.add(
                name,
                peers=(address_of("c"),),  # nobody knows what that one has
                sync_timeout_s=1.0,
                skew_s=step_s if name == "b" else 0.0,
            )
        wire = group.link("a", "b")
        assert roles(group) == ["starting", "starting"]
        wire.stall()
        group.advance(1.5)
        assert roles(group) == ["alone", "alone"]
        for host in group.hosts.values():
            if host.name.encode() in written:
                assert Guest(host).ask(b"set %b 0 0 1\r\n1\r\n" % host.name.encode()) == STORED
        wire.resume()
        group.advance(3.0)
        assert roles(group) == ["alone", "alone"]
        group.link("a", "b")
        assert group["a"].rows["last_refusal"] == group["b"].rows["last_refusal"] == "clock"
        group["b"].clock.skew_s = 0.0
        group.link("b", "a")
        group.advance(1.0)
        assert sorted(roles(group)) == IN_SYNC
        assert Guest(group["a"]).ask(b"set k 0 0 1\r\n1\r\n") == STORED
        assert Guest(group["b"]).ask(b"set k 0 0 1\r\n2\r\n") == STORED
        group.advance(3.0)
        assert sorted(roles(group)) == IN_SYNC
        group.check_equal()
        assert group["a"].values().keys() == {b"k", *(bytes([name]) for name in written)}

    @pytest.mark.parametrize("step_s", [5e3, -5e3])
    def test_who_is_taken_in_goes_by_the_time_of_who_takes_him_in(self, step_s):
        """Of two that have data, and would refuse one another."""
        group = Group("")
        for name, others in ("a", "b"), ("b", "c"), ("c", "a"):
            group.add(
                name,
                peers=tuple(address_of(other) for other in others),
                sync_timeout_s=1.0,
                skew_s=step_s if name == "c" else 0.0,
            )
        a, b = group["a"], group["b"]
        a.stop()
        group.advance(3.0)
        guest = Guest(b)
        for number in range(400):
            assert guest.ask(b"set %d 0 0 10000\r\n%b\r\n" % (number, bytes(10_000))) == STORED
        a.start()
        wire = Wire(a, b)
        while len(a.values()) < 10:
            b.turn()
            wire.carry()
            a.turn()
        wire.stall()
        group.link("a", "c")
        group.advance(0.01)
        assert a.node.role == "starting"
        wire.resume()
        group.settle()
        assert a.node.role == "follower"
        assert abs(a.changes.version_clock.now() - b.changes.version_clock.now()) < 0.1
        group.advance(2.0)
        assert Guest(a).ask(b"set k 0 0 1\r\n1\r\n") == STORED
        assert a.node.role == "follower"
        assert a.state() == b.state()

    @pytest.mark.parametrize("per_s", [0.07, -0.07])
    def test_nor_does_drift_do_any_harm(self, per_s):
        group = make_group()
        for _ in range(100):
            group["b"].clock.skew_s += 10 * per_s
            group.advance(10.0)
        assert Guest(group["b"]).ask(b"set k 0 600 1\r\n1\r\n") == STORED
        assert abs(left_s(group["a"], b"k") - left_s(group["b"], b"k")) <= 1
        group.wires[0].cut()
        group.link("a", "b")
        group.advance(3.0)
        assert roles(group) == IN_SYNC


class TestTimesToLive:
    @pytest.mark.parametrize("step_s", STEPS_S)
    @pytest.mark.parametrize("name", "ab")
    @pytest.mark.parametrize("later_s", [0.0, 0.3, 5.0])
    def test_a_lock_lives_as_long_on_both_nodes(self, name, step_s, later_s):
        group = make_group()
        group.advance(0.7)
        assert Guest(group["a"]).ask(b"add before 0 10 1\r\n1\r\n") == STORED
        group[name].clock.skew_s += step_s
        group.advance(later_s)
        for number, host in enumerate(group.hosts.values()):
            assert Guest(host).ask(b"add lock%d 0 10 1\r\n1\r\n" % number) == STORED
        for host in group.hosts.values():
            assert 9.0 - later_s <= left_s(host, b"before") <= 11.0 - later_s
            assert 9.0 <= left_s(host, b"lock0") <= 11.0
            assert 9.0 <= left_s(host, b"lock1") <= 11.0

    @pytest.mark.parametrize("step_s", STEPS_S)
    def test_so_it_does_on_who_is_brought_in_sync(self, step_s):
        group = make_group()
        group["b"].stop()
        Guest(group["a"]).ask(b"set k 0 100 1\r\n1\r\n")
        group.advance(5.0)
        group["a"].clock.skew_s = step_s
        group["b"].start()
        group.link("a", "b")
        group.advance(1.0)
        assert abs(left_s(group["b"], b"k") - left_s(group["a"], b"k")) <= 1.0

    @pytest.mark.parametrize("step_s", STEPS_S)
    @pytest.mark.parametrize("name", "ab")
    def test_a_delayed_flush_comes_when_it_is_due(self, name, step_s):
        group = make_group()
        guest = Guest(group["a"])
        guest.ask(b"set k 0 0 1\r\n1\r\nflush_all 10\r\n")
        group[name].clock.skew_s += step_s
        group.advance(8.5)
        assert [len(host.values()) for host in group.hosts.values()] == [1, 1]
        group.advance(2.5)
        assert [len(host.values()) for host in group.hosts.values()] == [0, 0]
        assert guest.ask(b"set k 0 0 1\r\n1\r\nflush_all 10\r\n")[:8] == STORED
        group["a"].stop()
        group.advance(8.5)
        assert len(group["b"].values()) == 1
        group.advance(2.5)
        assert group["b"].values() == {}


class TestSkew:
    @pytest.mark.parametrize("step_s", STEPS_S[:-2])
    @pytest.mark.parametrize("name", "ab")
    @pytest.mark.parametrize("busy", [False, True])
    def test_a_step_shows_on_both_within_two_seconds(self, name, step_s, busy):
        group = make_group()
        group.advance(0.3)
        group[name].clock.skew_s = step_s
        for _ in range(20):
            if busy:
                Guest(group["a"]).ask(b"set k 0 0 1\r\n1\r\n")
            group.advance(0.1)
        ahead_ms = round(step_s * 1000) * (1 if name == "b" else -1)
        assert group["a"].rows["peer_0:clock_skew_ms"] == ahead_ms
        assert group["b"].rows["peer_0:clock_skew_ms"] == -ahead_ms
        told = any("set them, e.g. by NTP" in line for line in group["a"].lines)
        assert told == (abs(step_s) > CLOCK_SKEW_MAX_S)
