"""What must hold after a simulated run, whatever went wrong in it.

The checkers know what clients saw, what each node said of its role at each moment, and what lay
in the caches at the end. They do not know how replication works. Each returns what it found
wrong, in words; nothing means that all is well.

Time is divided by what the promises say. In an *era* there is one group of nodes in sync, or one
node alone: everything in it must look like one server. An era ends when nodes serve apart from
each other (a partition), or when the only one that had the latest data dies. Between eras the
later write wins; what an era begins with is unknown to the checkers, but what they can conclude.
"""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass, replace
from itertools import pairwise
from math import inf
from types import MappingProxyType
from typing import TYPE_CHECKING, Final, NamedTuple

from pymcd.store.item import WIN_SENT

from .linearizability import ABSENT, UNKNOWN, Operation, by_key, search

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from pymcd.replication.messages import Roll

    from .world import Host, Observation

#: Cas uniques that clients chose are smaller.
CHOSEN_CAS_MAX: Final = 1 << 20
#: Clocks run this much apart at most, beside their skew.
DRIFT_TOLERANCE: Final = 0.99
#: A witness is asked, and asked again with a token, and answers each time. So is another node.
VOTE_TRIPS: Final = 4
#: An etcd is read, and then set; each way takes as long as two words between nodes.
ETCD_TRIPS: Final = 8
#: A witness is dialled first, and both prove themselves, where the link was dead unnoticed.
ANEW_TRIPS: Final = 9
#: Of three, who goes along is told who has the votes, asks to join that one, and is welcomed.
JOIN_TRIPS: Final = 3
#: Who can be reached again is asked, and goes on, within that.
ASKED_AGAIN_S: Final = 0.3
_CHANGING: Final = frozenset({"set", "add", "replace", "cas", "append", "prepend", "incr", "decr"})
_STORING: Final = frozenset({"set", "add", "replace", "cas"})
_LOOKING: Final = frozenset({"get", "mg"})
_ACTING: Final = frozenset({"alone", "coordinator"})
_IN_VIEW: Final = frozenset({"coordinator", "follower"})
#: Who has left in order begins anew.
_GONE: Final = frozenset({"dead", "starting"})
#: When something was so, of no host.
_NEVER: Final[Mapping[str, list[tuple[float, float]]]] = MappingProxyType({})


class Era(NamedTuple):
    """A time in which all must look like one server."""

    start: float
    end: float


@dataclass
class Eras:
    """How a run divides."""

    eras: list[Era]
    #: When data died that nobody else had.
    deaths: list[float]
    splits: int
    #: Seconds in which all nodes were in sync.
    in_sync_s: float
    #: Nodes served apart at some time; between eras, perhaps: then none ended by that.
    divided: bool = False


class Timeline:
    """What all nodes were, at each moment of a change."""

    def __init__(self, hosts: Sequence[Host]) -> None:
        self.names = [host.name for host in hosts]
        changes = [
            (each.at, number, host.name, each)
            for host in hosts
            for number, each in enumerate(host.history)
        ]
        changes.sort(key=lambda change: change[:3])
        self.moments: list[float] = []
        self.states: list[dict[str, Observation]] = []
        state: dict[str, Observation] = {}
        for at, _, name, each in changes:
            state = {**state, name: each}
            self.moments.append(at)
            self.states.append(state)

    def at(self, time: float) -> dict[str, Observation]:
        """Return what the nodes were at a time."""
        index = bisect_right(self.moments, time) - 1
        return self.states[index] if index >= 0 else {}


def role_at(history: Sequence[Observation], time: float) -> str:
    """Return what a node was at a time."""
    return next((each.role for each in reversed(history) if each.at <= time), "dead")


def group_of(name: str, state: dict[str, Observation]) -> set[str]:
    """Return a node and those that it is in sync with, by its own account and theirs."""
    mine = state[name]
    if mine.role not in _IN_VIEW:
        return {name}
    group = {name}
    for other in mine.partners:
        seen = state.get(other)
        if seen is not None and seen.role in _IN_VIEW and name in seen.partners:
            group.add(other)
    return group


def apart(state: dict[str, Observation]) -> bool:
    """Return whether several nodes decide, and none of them asks any other.

    Or would decide: who follows one that is gone has what they had, and has not noticed yet.
    """
    acting = [
        {name, *(each.partners if each.role == "coordinator" else ())}
        for name, each in state.items()
        if each.role in _ACTING and each.ready
    ]
    if acting:
        acting += [
            {name, *each.partners}
            for name, each in state.items()
            if each.role == "follower"
            and (leader := state.get(each.coordinator)) is not None
            and name not in leader.partners
        ]
    return any(
        first.isdisjoint(second)
        for index, first in enumerate(acting)
        for second in acting[index + 1 :]
    )


def begins_with_nothing(before: dict[str, Observation], state: dict[str, Observation]) -> bool:
    """Return whether a node begins to serve though another has data, which was not to be found."""
    for name, each in state.items():
        was = before.get(name)
        is_new = was is None or not was.ready or was.life != each.life
        if each.role == "alone" and is_new:
            return any(
                other.ready and other.role != "dead"
                for other_name, other in state.items()
                if other_name != name
            )
    return False


def united(state: dict[str, Observation], names: list[str]) -> bool:
    """Return whether all nodes are one group, and what was done apart is merged.

    That one of them dies is not enough: what it had sent may still be on its way.
    """
    return len(state) == len(names) and len(group_of(names[0], state)) == len(names)


class _Twins:
    """Of two nodes that acknowledge nothing alone: who still has what both had."""

    def __init__(self) -> None:
        self._lives: dict[str, int] = {}  #: when they were last one, if they ever were

    def look(self, state: dict[str, Observation]) -> None:
        """Take note of who is there."""
        if len(state) == 2 and all(len(group_of(name, state)) == 2 for name in state):
            self._lives = {name: each.life for name, each in state.items()}

    def has_heir(self, name: str, state: dict[str, Observation]) -> bool:
        """Return whether all that a node had, when it died, the other one has as well."""
        return state[name].life == self._lives.get(name) and any(
            each.role not in ("dead", "starting") and each.life == self._lives.get(other)
            for other, each in state.items()
            if other != name
        )


def divide(timeline: Timeline, end: float, *, voting: bool = False, strict: bool = False) -> Eras:
    """Divide a run into eras. Where there are votes, no partition ends one: P8.

    `strict`: two nodes, each of which changes nothing alone: it dies, and the other has it all.
    """
    eras: list[Era] = []
    deaths: list[float] = []
    splits = 0
    divided = False
    start: float | None = 0.0
    in_sync_s = 0.0
    before: dict[str, Observation] = {}
    twins = _Twins()
    for index, (at, state) in enumerate(zip(timeline.moments, timeline.states, strict=True)):
        next_at = timeline.moments[index + 1] if index + 1 < len(timeline.moments) else end
        if len(state) == len(timeline.names) and all(
            len(group_of(name, state)) == len(timeline.names) for name in state
        ):
            in_sync_s += next_at - at
        for name, each in state.items():
            was = before.get(name)
            if each.role in _GONE and was is not None and was.role not in _GONE and was.ready:
                heirs = group_of(name, before) - {name}
                if not any(state[heir].role in _IN_VIEW for heir in heirs) and not (
                    strict and twins.has_heir(name, state)
                ):
                    # What it alone had is gone; who serves next has something else.
                    deaths.append(at)
                    if start is not None:
                        eras.append(Era(start, at))
                        start = None
        apart_now = (apart(state) and not voting) or begins_with_nothing(before, state)
        divided = divided or apart_now
        if start is not None and apart_now:
            eras.append(Era(start, at))
            start = None
            splits += 1
        elif start is None and united(state, timeline.names):
            start = at
        before = state
        twins.look(state)
    if start is not None:
        eras.append(Era(start, end))
    return Eras(eras, deaths, splits, in_sync_s, divided)


# -- what clients saw --------------------------------------------------------------------------


def _seen_from(era: Era, operations: Iterable[Operation]) -> list[Operation]:
    """Return what an era's order must explain: what crosses its borders may have happened."""
    result = []
    for operation in operations:
        if operation.invoked_at >= era.end:
            continue
        returned_at = operation.returned_at
        if returned_at is not None and returned_at < era.start:
            continue
        if operation.invoked_at < era.start:
            # It may have happened before, or will. Commands of a client that has gone may still
            # be executed, long afterwards.
            outcome = operation.outcome if operation.verb in _LOOKING else None
            # What was read tells the cas unique that others may know since, if it was then.
            result.append(replace(operation, outcome=outcome, returned_at=None, session=None))
        elif returned_at is not None and returned_at >= era.end:
            result.append(replace(operation, outcome=None, returned_at=None))
        else:
            result.append(operation)
    return result


def check_linearizable(
    history: list[Operation], eras: Eras, *, lossy: bool, undecided: list[bytes]
) -> list[str]:
    """Each era must look like one server, key by key."""
    found = []
    keys = by_key(operation for operation in history if not operation.key.startswith(b"m"))
    for number, era in enumerate(eras.eras):
        for key, operations in keys.items():
            seen = _seen_from(era, operations)
            if not any(operation.outcome is not None for operation in seen):
                continue
            first = ABSENT if number == 0 and era.start == 0.0 else UNKNOWN
            verdict = search(seen, initial=first, lossy=lossy)
            if not verdict.decided:
                undecided.append(key)
            elif not verdict.linearizable:
                found.append(
                    f"{key.decode()}: not as one server, {era.start:.6f}..{era.end:.6f}\n"
                    + verdict.explain()
                )
    return found


def all_lost_at(timeline: Timeline) -> list[float]:
    """Return the times from which on nobody knew what was before: not even what time it was."""
    times = []
    before = False
    for at, state in zip(timeline.moments, timeline.states, strict=True):
        anybody = any(each.ready and each.role != "dead" for each in state.values())
        if before and not anybody:
            times.append(at)
        before = anybody
    return times


def check_cas_uniques(
    history: list[Operation], hosts: Sequence[Host], lost_at: Sequence[float] = ()
) -> list[str]:
    """A cas unique belongs to one key with one value, for ever.

    `lost_at`: when all was lost, and wall clocks have been set back since, perhaps: of what was
    given out before nobody can know.
    """
    found = []
    eras: dict[int, dict[int, tuple[bytes, bytes | None]]] = {}

    def note(cas: int, key: bytes, value: bytes | None, where: object, at: float) -> None:
        if cas < CHOSEN_CAS_MAX:
            return
        known = eras.setdefault(bisect_right(lost_at, at), {})
        before = known.get(cas)
        if before is not None and (
            before[0] != key or (None not in (before[1], value) and before[1] != value)
        ):
            found.append(f"cas unique {cas}: {before} and {(key, value)}: {where}")
        if before is None or before[1] is None:
            known[cas] = (key, value)

    for operation in history:
        outcome = operation.outcome
        if outcome is None or outcome.status != "ok" or not outcome.cas:
            continue
        value: bytes | None = None
        if operation.verb in ("get", "mg", "mv"):
            value = outcome.value
        elif operation.verb in _STORING:
            value = operation.value
        at = operation.returned_at or operation.invoked_at
        note(outcome.cas, operation.key, value, operation, at)
    for host in hosts:
        if host.service is not None:
            for item in host.service.cache.items():
                note(item.cas_unique, item.key, item.value, host, inf)
    return found


def check_locks(history: list[Operation], eras: Eras) -> list[str]:
    """A key that is only ever added has one winner in each era, but for flushes."""
    found = []
    for key, operations in by_key(history).items():
        if key != b"lock0":
            continue
        # What is too large takes what was there with it, in meta commands.
        flushes = sum(operation.verb in ("flush", "delete") for operation in operations)
        for era in eras.eras:
            winners = [
                operation
                for operation in operations
                if operation.verb == "add"
                and operation.outcome is not None
                and operation.outcome.status == "ok"
                and operation.returned_at is not None
                and era.start <= operation.invoked_at
                and operation.returned_at < era.end
            ]
            if len(winners) > 1 + flushes:
                lines = "\n".join(f"    {winner}" for winner in winners)
                found.append(f"{key.decode()}: {len(winners)} winners\n{lines}")
    return found


def _renews(operation: Operation) -> bool:
    outcome = operation.outcome
    return (
        operation.verb in ("touch", "invalidate")
        or "touches" in operation.notes
        or (operation.verb == "mg" and (outcome is None or "W" in (outcome.marks or "")))
    )


def check_final(
    history: list[Operation],
    eras: Eras,
    hosts: Sequence[Host],
    *,
    skew_spread_s: float,
    lossy: bool,
    protected_only: bool = False,
) -> list[str]:
    """Nothing that was replaced or deleted comes back, and nothing vanishes by itself.

    Across partitions, too: of two writes the later one wins, wherever it was. Which was later is
    certain for one process of a server, and else if the clocks cannot disagree on it.
    `protected_only`: what others did not get in time may be lost.
    """
    found = []
    last_death = max(eras.deaths, default=-1.0)
    service = hosts[0].service
    assert service is not None
    changes_at = {host.name: [each.at for each in host.history] for host in hosts}

    histories = {host.name: host.history for host in hosts}

    def in_view(operation: Operation) -> bool:
        """Whether its node was in sync with others, the first among them, when it answered."""
        at = operation.returned_at or operation.invoked_at
        index = bisect_right(changes_at[operation.node], at) - 1
        then = histories[operation.node][index]
        return (
            then.role in _IN_VIEW
            and hosts[0].name in (operation.node, *then.partners)
            and "gave_up" not in operation.notes
        )

    def later(second: Operation, first: Operation) -> bool:
        """Whether the second certainly has a later version than the first."""
        if first.returned_at is None:
            return False
        gap_s = second.invoked_at - first.returned_at
        if (
            second.node == first.node
            and second.notes["life"] == first.notes["life"]
            # What was forwarded when the node took over may have happened on both sides.
            and not any(
                first.invoked_at <= at <= first.returned_at for at in changes_at[first.node]
            )
        ):
            return gap_s > 0
        return gap_s > skew_spread_s + 0.05

    for key, operations in by_key(history).items():
        if key.startswith(b"m"):
            continue
        sure = [
            operation
            for operation in operations
            if operation.outcome is not None
            and operation.outcome.status == "ok"
            and operation.invoked_at > last_death
        ]
        item = service.cache.inspect(key)
        if item is not None:
            value = item.value
            makers = [
                operation
                for operation in operations
                if operation.verb in _STORING and operation.value == value
            ]
            if key.startswith(b"k") and not makers:
                if not any(op.verb in ("append", "prepend") for op in operations):
                    found.append(f"{key.decode()}: {value!r} from nowhere")
                continue
            if len(makers) != 1 or key.startswith(b"n"):
                continue
            (maker,) = makers
            # Whoever touches an item, or wins it, writes it anew.
            touches = [operation for operation in operations if _renews(operation)]
            undone = [
                operation
                for operation in sure
                if (operation.verb in _STORING or operation.verb in ("delete", "flush"))
                and operation is not maker
                and all(later(operation, before) for before in (maker, *touches))
            ]
            if undone:
                found.append(f"{key.decode()}: came back:\n    {maker}\n    {undone[-1]}")
        elif not lossy:
            # One that found nothing removes what others have, as well.
            removals = [op for op in operations if op.verb in ("delete", "flush", "invalidate")]
            makers = [operation for operation in operations if operation.verb in _CHANGING]
            for maker in sure:
                if maker.verb not in _CHANGING:
                    continue
                if protected_only and not in_view(maker):
                    continue
                if protected_only and not all(
                    in_view(other) or (other.returned_at or maker.invoked_at) < maker.invoked_at
                    for other in makers
                ):
                    continue  # a later one may have been evicted where it was all alone
                if not any(not later(maker, removal) for removal in removals):
                    found.append(f"{key.decode()}: is lost: {maker}")
                    break
    return found


def see_delays(history: list[Operation], eras: Eras, slack_s: float) -> list[Operation]:
    """Return a history in which a flush that was to come later may have come then, or never.

    One that was called off by another flush did not come, if there was one server all the time.
    `slack_s`: by how much it may come too early, as clocks show whole seconds, or differ.
    """
    flushes = [each for each in history if each.verb == "flush"]
    undivided = len(eras.eras) == 1 and not eras.splits and not eras.deaths
    result = []
    for operation in history:
        delay_s = operation.notes.get("delay", 0)
        if not isinstance(delay_s, int) or delay_s <= 1:
            result.append(operation)
            continue
        earliest = operation.invoked_at + max(0.0, delay_s - slack_s)
        if (
            undivided
            and operation.returned_at is not None
            and any(
                operation.returned_at < other.invoked_at
                and other.returned_at is not None
                and other.returned_at < earliest
                and other.outcome is not None
                for other in flushes
                if other.key == operation.key
            )
        ):
            continue
        result.append(
            replace(operation, invoked_at=earliest, returned_at=None, outcome=None, session=None)
        )
    return result


#: By so much an end may be off: a node keeps whole seconds, and so does who copies it there and
#: back.
END_TOLERANCE_S: Final = 2.0


def check_mortal(history: list[Operation], eras: Eras, nodes: int) -> list[str]:
    """What was stored for a while is not seen for longer, and while all is one server not less."""
    found = []
    # memcached counts whole seconds: what is to live for two of them lives for more than one.
    early_s = 1.0 + END_TOLERANCE_S + (nodes - 2)
    late_s = END_TOLERANCE_S + (nodes - 2)
    for key, operations in by_key(history).items():
        if not key.startswith(b"m"):
            continue
        makers = [each for each in operations if "exptime" in each.notes and _was_done(each)]
        flushes = [each for each in operations if each.verb == "flush"]
        # What is too large to be stored deletes.
        deletions = [each for each in operations if each.verb == "delete"]
        by_value = {each.value: each for each in makers if each.value}
        for operation in operations:
            outcome = operation.outcome
            if outcome is None or operation.returned_at is None:
                continue
            if operation.verb in ("get", "mg") and outcome.status == "ok" and outcome.value:
                maker = by_value.get(outcome.value)
                if maker is None:
                    found.append(f"from nowhere: {operation}")
                    continue
                if maker.returned_at is None:
                    continue  # who knows when that was executed
                touches = [
                    each
                    for each in makers
                    if not each.value and each.invoked_at < operation.returned_at
                ]
                ends = [_end_of(each) for each in (maker, *touches)]
                if operation.invoked_at > max(ends) + late_s:
                    found.append(f"lives on after {max(ends):.3f}: {maker}\n    {operation}")
            elif outcome.status == "not_found" or (
                operation.verb == "add" and outcome.status == "ok"
            ):
                if any(each.invoked_at < operation.returned_at for each in flushes):
                    continue
                before = [
                    each
                    for each in makers
                    if each.value
                    and each is not operation
                    and each.outcome is not None
                    and each.returned_at is not None
                    and each.returned_at < operation.invoked_at
                ]
                if not before:
                    continue
                last = max(before, key=lambda each: each.invoked_at)
                if any(
                    each.invoked_at < operation.returned_at
                    and (each.returned_at is None or each.returned_at >= last.invoked_at)
                    for each in deletions
                ):
                    continue
                if not any(
                    era.start <= last.invoked_at and operation.returned_at < era.end
                    for era in eras.eras
                ):
                    continue
                later = [
                    each
                    for each in makers
                    if each is not operation
                    and each.invoked_at < operation.returned_at
                    and (each.returned_at is None or each.returned_at >= last.invoked_at)
                ]
                end = min(each.invoked_at + each.notes["exptime"] for each in later)  # type: ignore[operator]
                if operation.returned_at < end - early_s:
                    found.append(f"died before {end:.3f}: {last}\n    {operation}")
    return found


def _was_done(operation: Operation) -> bool:
    """Return whether an operation changed something, for all that is known."""
    return operation.outcome is None or operation.outcome.status == "ok"


def _end_of(operation: Operation) -> float:
    """Return until when what an operation gave a time to live may be seen."""
    exptime = operation.notes["exptime"]
    assert isinstance(exptime, int)
    return inf if operation.returned_at is None else operation.returned_at + exptime


# -- what lies in the caches -------------------------------------------------------------------


def photograph(host: Host, *, mortal: bool = False) -> dict[bytes, tuple[object, ...]]:
    assert host.service is not None
    cache = host.service.cache
    return {
        item.key: (
            item.value,
            item.client_flags,
            item.expires_at and host.seconds_left(item.expires_at),
            item.cas_unique,
            item.stale,
            bool(item.access & WIN_SENT),
        )
        for item in cache.items()
        if not cache.is_dead(item) and (mortal or not item.key.startswith(b"m"))
    }


def differ(
    here: tuple[object, ...] | None, there: tuple[object, ...] | None, tolerance_s: float
) -> bool:
    """Return whether two nodes hold something else under a key, as `photograph` shows it."""
    if here is None or there is None:
        return here is not there
    return (
        here[:2] + here[3:] != there[:2] + there[3:]
        or abs(here[2] - there[2]) > tolerance_s  # type: ignore[operator]
        or (here[2] == 0) != (there[2] == 0)
    )


def check_converged(hosts: Sequence[Host], late_words_s: float = 0.0) -> list[str]:
    """All nodes hold the same items, but for what one of them had no room for.

    Nor has who was brought in sync by that one. Of the other's clock each knows by its words alone:
    where all that it says is late, by so much, nothing tells that from a clock that is as far
    behind, and what ends by it is off by as much.
    """
    found = []
    # Whole seconds are all that a node keeps: what came by way of another may be two of them off.
    tolerance_s = len(hosts) - 1 + 0.01 + late_words_s
    first, *others = hosts
    photographs = {host: photograph(host) for host in hosts}
    mine = photographs[first]
    for host in others:
        theirs = photographs[host]
        for key in sorted(mine.keys() | theirs.keys()):
            here, there = mine.get(key), theirs.get(key)
            if differ(here, there, tolerance_s) and not (
                (here is None or there is None)
                and any(key in each.evicted and key not in photographs[each] for each in hosts)
            ):
                found.append(f"{key.decode()}: {first.name} has {here}, {host.name} has {there}")
    return found


def check_structures(hosts: Sequence[Host]) -> list[str]:
    """What each node keeps agrees with itself, and is within its bounds."""
    found = []
    for host in hosts:
        if host.service is None:
            continue
        try:
            host.service.cache.check()
            host.node.changes.check()
        except AssertionError as error:
            found.append(f"{host.name}: {error!r}")
    return found


# -- how nodes behave --------------------------------------------------------------------------


def check_patience(
    history: list[Operation],
    hosts: Sequence[Host],
    bound_s: float,
    excused: dict[str, list[tuple[float, float]]],
    promising: frozenset[str],
    slow: Sequence[tuple[float, float, float]] = (),
    trips: int = 0,
    refused: Mapping[str, list[tuple[float, float]]] = _NEVER,
    lost_again: Mapping[str, list[tuple[float, float]]] = _NEVER,
    again_s: float = 0.0,
) -> list[str]:
    """No client waits for long because of the peer, while its node is in one of some roles.

    `excused`: when a host was slow of itself. `slow`: when the network was, and by how much. A vote
    takes so many `trips`; a follower has a value that is refused deleted before it goes on with
    what the same client said with it, and does what a client said at once one after the other, each
    with a way there and a way back. `refused`: when a host could not have the votes; of a wait that
    does not count, and the rest does. `lost_again`: see there; who has waited since before both has
    waited for the second one as well, for `again_s`.
    """
    found = []
    histories = {host.name: host.history for host in hosts}
    for operation, begin, end in _waits(history):
        if end - begin <= bound_s:
            continue
        values, ahead = operation.notes.get("refused", 0), operation.notes.get("ahead", 0)
        assert isinstance(values, int)
        assert isinstance(ahead, int)
        late_s = (trips + 2 * values + 2 * ahead) * sum(
            extra_s for start, stop, extra_s in slow if start <= end and stop >= begin
        )
        late_s += sum(
            max(0.0, min(stop, end) - max(start, begin))
            for start, stop in refused.get(operation.node, ())
        )
        late_s += max(
            (
                min(again_s, end - lost_at)
                for turned_at, lost_at in lost_again.get(operation.node, ())
                if begin < turned_at <= end and begin < lost_at <= end
            ),
            default=0.0,
        )
        if end - begin <= bound_s + late_s:
            continue
        if any(start <= end and stop >= begin for start, stop in excused.get(operation.node, [])):
            continue
        if roles_in(histories[operation.node], begin, end) <= promising:
            found.append(f"waited {end - begin:.3f} s: {operation}")
    return found


def _waits(history: list[Operation]) -> Iterator[tuple[Operation, float, float]]:
    """Yield for whom a client waited, since when, and until when he was answered, or gave up.

    What a server reads later than what the same client has said before, it executes when that is
    answered: so each has a round trip of its own. What is not answered is waited for as well, by
    what the client says next: its server knows when it was done, and since when nothing kept it
    from that but the client, who read nothing.
    """
    answered_at: dict[object, float] = {}
    silent: dict[object, list[tuple[float, float]]] = {}
    for operation in history:
        notes, begin, end = operation.notes, operation.invoked_at, operation.returned_at
        said_at, session = begin, notes.get("said_on", operation.session)
        if "read_later" in notes:
            begin = max(begin, answered_at.get(notes["read_later"], begin))
        for before, until in silent.get(session, ()):
            if before < said_at:  # else they are read together, unless told otherwise
                begin = max(begin, until)
        if end is not None:
            answered_at[session] = end
        elif isinstance(done_at := notes.get("done_at"), float):
            answered_at[session] = end = done_at
            silent.setdefault(session, []).append((said_at, done_at))
        elif isinstance(gave_up_at := notes.get("gave_up"), float):
            end = gave_up_at
        if end is not None and isinstance(hindered_at := notes.get("hindered_at"), float):
            end = min(end, hindered_at)
        if end is not None and "blocked" not in notes:
            yield operation, begin, end


def complement(times: Iterable[tuple[float, float]], end: float) -> list[tuple[float, float]]:
    """Return what is left of the time from 0 to an end."""
    result = []
    at = 0.0
    for start, stop in sorted(times):
        if start > at:
            result.append((at, min(start, end)))
        at = max(at, stop)
    return [*result, (at, end)] if at < end else result


def check_touch(
    history: list[Operation],
    hosts: Sequence[Host],
    bound_s: float,
    together: dict[str, list[tuple[float, float]]],
    promising: frozenset[str],
) -> list[str]:
    """Where nodes vote: no client waits for votes while his node and the others are in touch.

    `together`: by node, when it was, and nothing else went wrong.
    """
    found = []
    histories = {host.name: host.history for host in hosts}
    for operation, begin, end in _waits(history):
        if end - begin <= bound_s:
            continue
        waited_s = max(
            (min(stop, end) - max(start, begin) for start, stop in together[operation.node]),
            default=0.0,
        )
        if waited_s > bound_s and roles_in(histories[operation.node], begin, end) <= promising:
            found.append(f"waited {waited_s:.3f} s, in touch with all: {operation}")
    return found


def roles_in(history: Sequence[Observation], start: float, end: float) -> set[str]:
    """Return all that a node was in a time."""
    first = bisect_right([each.at for each in history], start) - 1
    return {each.role for each in history[max(first, 0) :] if each.at <= end}


def without(
    host: Host,
    hosts: Sequence[Host],
    end: float,
    backed: Sequence[tuple[float, Roll | None]] = (),
) -> list[tuple[float, float]]:
    """Return when others had gone on without a host, or could have, and it did not know.

    With votes, its clients wait for its turn, though the others may all be dead by then. As soon as
    it knows it joins the others, or waits. `backed`: by a witness, since when; who asked for that
    may have died before it heard of it.
    """
    found = []
    gone_on = [
        (each.at, {other.name, *each.partners})
        for other in hosts
        if other is not host
        for each in other.history
        if each.role in _ACTING
    ]
    asked = [(at, {*roll.data}) for at, roll in backed if roll is not None]
    for at, names in [*gone_on, *asked]:
        was = _seen_at(host.history, at)
        if host.name not in names and was is not None and _counts_itself_in(was):
            known = next(
                (
                    seen.at
                    for seen in host.history
                    if seen.at > at and not (_counts_itself_in(seen) and seen.epoch == was.epoch)
                ),
                end,
            )
            found.append((at, known))
    return found


def _counts_itself_in(seen: Observation) -> bool:
    """Return whether a node was in a view, be it that it was behind, and said that it was joining.

    Then it serves nobody, and forwards nothing: it is to hear of the others first.
    """
    return seen.role in _IN_VIEW or seen.in_view


def outvoted(
    host: Host,
    moments: Sequence[float],
    states: Sequence[dict[str, frozenset[str]]],
    end: float,
    hosts: Sequence[Host],
) -> list[tuple[float, float]]:
    """Return when a host did not reach most of the view that it was in: its clients wait for that.

    `states`: whom each host reached, from those moments on. Which view it is who leads knows first:
    others may have to do without who follows in it, and never hears of that.
    """
    histories = {each.name: each.history for each in (host, *hosts)}
    changes_at = [each.at for history in histories.values() for each in history]
    found = []
    since: float | None = None
    view: set[str] = set()
    for moment in sorted({*moments, *changes_at, end}):
        seen = _seen_at(host.history, moment)
        if seen is not None and seen.role in (*_ACTING, *_IN_VIEW):
            led = _seen_at(histories.get(seen.coordinator, ()), moment)
            if led is not None and led.role == "coordinator" and host.name in led.partners:
                view = {led.coordinator, *led.partners}
            else:
                view = {host.name, *seen.partners}
        reached = states[max(bisect_right(moments, moment) - 1, 0)][host.name]
        if 2 * len(view & {host.name, *reached}) <= len(view) and moment < end:
            since = moment if since is None else since
        elif since is not None:
            found.append((since, moment + ASKED_AGAIN_S))
            since = None
    return found


def _seen_at(history: Sequence[Observation], time: float) -> Observation | None:
    """Return what a node was at a time."""
    index = bisect_right([each.at for each in history], time) - 1
    return history[index] if index >= 0 else None


def _as_time_goes(
    host: Host, moments: Sequence[float], states: Sequence[dict[str, frozenset[str]]], end: float
) -> Iterator[tuple[float, float, Observation, dict[str, frozenset[str]]]]:
    """Yield from when to when a host was what, and whom each host reached then."""
    changes_at = [each.at for each in host.history]
    for start, stop in pairwise(sorted({*moments, *changes_at, end})):
        index = bisect_right(changes_at, start) - 1
        if index >= 0:
            reached = states[max(bisect_right(moments, start) - 1, 0)]
            yield start, stop, host.history[index], reached


def led_by_outvoted(
    host: Host,
    outvoted_s: dict[str, list[tuple[float, float]]],
    moments: Sequence[float],
    states: Sequence[dict[str, frozenset[str]]],
    end: float,
) -> list[tuple[float, float]]:
    """Return when the one that decides for a host, or that it joins, is outvoted: it waits, too.

    Who does not reach that one, as it is dead, say, goes on without it.
    """
    return [
        (max(start, begin), min(stop, until))
        for begin, until, seen, reached in _as_time_goes(host, moments, states, end)
        if seen.role in ("follower", "joining") and seen.coordinator in reached[host.name]
        for start, stop in outvoted_s.get(seen.coordinator, ())
        if start < until and stop > begin
    ]


def lonely(
    host: Host, moments: Sequence[float], states: Sequence[dict[str, frozenset[str]]], end: float
) -> list[tuple[float, float]]:
    """Return when one of a pair with a witness reached neither the other one nor the witness."""
    ends = [*moments[1:], end]
    return [
        (start, stop)
        for start, stop, state in zip(moments, ends, states, strict=True)
        if not state[host.name]
    ]


def refused(
    host: Host, moments: Sequence[float], states: Sequence[dict[str, frozenset[str]]], end: float
) -> list[tuple[float, float]]:
    """Return when a host missed the one that it follows, and those whose votes it needs did not.

    Nobody who is in touch with his coordinator consents to another's wish. `states`: whom each host
    reached, from those moments on.
    """
    found = []
    for start, stop, seen, reached in _as_time_goes(host, moments, states, end):
        mine = reached[host.name]
        votes = {each for each in mine & {*seen.partners} if seen.coordinator not in reached[each]}
        if (
            seen.role == "follower"
            and seen.coordinator not in mine
            # Of its view there are itself and its partners.
            and 2 * (1 + len(votes)) <= 1 + len(seen.partners)
        ):
            found.append((start, stop))
    return found


def lost_again(
    host: Host, moments: Sequence[float], states: Sequence[dict[str, frozenset[str]]], end: float
) -> list[tuple[float, float]]:
    """Return when a host turned from one that decided to another, and when it lost that one, too.

    It may have done so before: who has its consent may be gone when that arrives. These are two
    failures, and nobody could know of the second while he waited for the first. `states`: whom each
    host reached, from those moments on.
    """
    found = []
    lost_at: dict[str, float] = {}
    leader, turned_at = "", -inf
    before: frozenset[str] = frozenset()
    for start, _, seen, reached in _as_time_goes(host, moments, states, end):
        mine = reached[host.name]
        lost_at.update(dict.fromkeys(before - mine, start))
        before = mine
        follows = seen.coordinator if seen.role in ("follower", "joining") else ""
        if follows != leader:
            turned_at = start if leader and follows else -inf
            leader = follows
        if turned_at > -inf and leader not in mine and leader in lost_at:
            found.append((turned_at, lost_at[leader]))
            turned_at = -inf
    return found


def are_linked(hosts: Sequence[Host], in_time_s: float) -> bool:
    """Return whether each who follows hears who decides in time, and is heard by it.

    Else one that they count as in sync is about to be lost, and they do not know it yet.
    """
    wires = [
        wire
        for leads in hosts
        for other in hosts
        if leads.node.role == "coordinator" and other is not leads
        for wire in (leads.wire_to(other.name), other.wire_to(leads.name))
    ]
    return all(wire and not wire.dead and wire.late_s < in_time_s for wire in wires)


def is_under_way(hosts: Sequence[Host]) -> bool:
    """Return whether a node has told another one something, and does not know that it has it."""
    return any(
        peer.channel is not None and peer.channel.unacked
        for host in hosts
        for peer in host.node.view.peers.values()
    )


def check_statistics(hosts: Sequence[Host], eras: Eras) -> list[str]:
    """What each node says of itself is so, now that all are in sync and nothing happens.

    Nobody can have changed on two sides what there was one side of: unless one went on alone, and
    died, and the other one heard that only when it had gone on alone, too, or, of three, from one
    that was being brought in sync by the one that died. And who was degraded is told by the roles
    that it had.
    """
    found = []
    for host in hosts:
        rows = dict(host.node.rows())
        wrong = {}
        expected: dict[str, object] = {"state": "in_sync", "degraded": "no", "queue_items": 0}
        # Two who follow may not have met since one of them started: it has no row then.
        for number in range(len(host.node.view.peers)):
            expected[f"peer_{number}:lag_items"] = 0
            expected[f"peer_{number}:unacked_bytes"] = 0
        wrong = {name: rows[name] for name, value in expected.items() if rows[name] != value}
        if host.node.role == "coordinator":
            wrong.update(
                (name, value)
                for name, value in rows.items()
                if name.endswith(":in_sync") and value != "yes"
            )
        one_sided = not (eras.divided or host.heard_the_dead or _side_died(hosts))
        # Who has started anew does not know what those had who were away then.
        if one_sided and rows["conflicts"] and host.life == 1:
            wrong["conflicts"] = rows["conflicts"]
        degraded_s = _degraded_s(host)
        if abs(float(rows["degraded_seconds"]) - degraded_s) > 0.1 + 0.01 * degraded_s:
            wrong["degraded_seconds"] = f"{rows['degraded_seconds']}, not {degraded_s:.3f}"
        if wrong:
            found.append(f"{host.name} says at the end: {wrong}")
    return found


def _side_died(hosts: Sequence[Host]) -> bool:
    """Return whether one had gone on without another, and died: a third may have of both."""
    return len(hosts) > 2 and any(
        left is not gone
        and each.role in _ACTING
        and each.life < gone.life
        and left.name not in each.partners
        and role_at(left.history, each.at) in _IN_VIEW
        for left in hosts
        for gone in hosts
        for each in gone.history
    )


def _degraded_s(host: Host) -> float:
    """Return for how long a host was in sync with nobody in this life, by its roles."""
    if not host.settings.peers:
        return 0.0  # it is meant to be alone, for all that it was told
    seconds = 0.0
    ends = [each.at for each in host.history[1:]] + [host.world.now]
    for each, end in zip(host.history, ends, strict=True):
        if each.life == host.life and each.ready and not each.in_view:
            seconds += end - each.at
    return seconds
