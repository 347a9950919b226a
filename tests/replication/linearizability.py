"""Whether what clients saw can be explained by one server: a Wing and Gong search, key by key.

A history is linearizable when every operation can be given one moment between its call and its
return so that a single memcached, executing them in that order, would have answered the same.
Keys are independent of each other, so each is searched by itself.

An operation that was never answered stays open: it may have happened at any time after its call,
or never. So does a command that asks for no answer, but for one thing: what the same session says
later comes after it.

`Operation` is what was done, `Outcome` what was answered; `judge` takes any number of them, of
any keys. The search remembers which (operations done, state) it has been in, which makes it
cheap for histories with few clients at a time. Who is in the same state with less of what need not
happen can do all that the other one can: so open operations are not tried in all combinations. The
rare history that is too much all the same is given up, and said so.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

#: States that one search visits at most.
VISITS_MAX: Final = 200_000
#: So many operations are tried next in the time of one visit: there are more where many were never
#: answered, and each may still have happened.
CANDIDATES_PER_VISIT: Final = 16
#: So many ways to have come to the same state are looked at in the time of one visit.
KNOWN_PER_VISIT: Final = 20
#: What of an item's size is not its value, at most.
ITEM_HEAD_MAX_BYTES: Final = 400
_NEVER: Final = float("inf")
_UINT64: Final = 1 << 64


def _short(value: bytes) -> str:
    return repr(value)[1:] if len(value) < 30 else f"{value[:20]!r}.. ({len(value)})"


class Outcome(NamedTuple):
    """What was answered. `None` in a field: the answer did not say."""

    #: "ok"; "not_stored"; "exists" (the cas unique is another); "not_found"; "non_numeric".
    status: str
    value: bytes | None = None  #: of a hit, or the number that an incr or decr came to
    flags: int | None = None
    cas: int | None = None
    #: Of a meta get: those of the letters W, X and Z that were returned, in this order.
    marks: str | None = None


@dataclass(slots=True)
class Operation:
    """One command on one key, as its client saw it."""

    key: bytes
    #: set add replace append prepend cas incr decr delete touch get mg mv invalidate flush;
    #: mg is a meta get, mv one that vivifies.
    verb: str
    invoked_at: float
    returned_at: float | None = None  #: None: it was not answered
    #: None: open, or silent by its own wish. Of what is open: so it was if it happened.
    outcome: Outcome | None = None
    value: bytes = b""  #: to be stored; of an incr or decr: what to start with, if not empty
    flags: int = 0
    compare: int = 0  #: cas unique to be met, where not 0
    delta: int = 0
    room: int = 0  #: what append and prepend come to may be that large at most; 0: any size
    #: The commands of one session happen in the order of their calls.
    session: object = None
    #: Where it was said, and further remarks, for reports alone.
    node: str = ""
    notes: dict[str, object] = field(default_factory=dict)

    def __str__(self) -> str:
        end = "      open" if self.returned_at is None else f"{self.returned_at:10.6f}"
        words = [self.verb, self.key.decode("latin-1")]
        if self.value:
            words.append(_short(self.value))
        if self.verb in ("incr", "decr"):
            words.append(str(self.delta))
        if self.compare:
            words.append(f"C{self.compare}")
        said = "?"
        if self.outcome is not None:
            said = self.outcome.status
            if self.outcome.value is not None:
                said += f" {_short(self.outcome.value)}"
            if self.outcome.cas is not None:
                said += f" c{self.outcome.cas}"
            if self.outcome.marks:
                said += f" {self.outcome.marks}"
        where = f"{self.session!s:>6}@{self.node}"
        return f"{self.invoked_at:10.6f} .. {end} {where}: {' '.join(words)} -> {said}"


class Present(NamedTuple):
    """An item. `cas` None: no client has seen it yet."""

    value: bytes
    flags: int
    cas: int | None
    stale: bool = False
    won: bool = False


class Unknown(NamedTuple):
    """Anything at all: how a key is when what was done before is not known."""

    nothing: None = None


State = Present | Unknown | None
#: The last of some operations, by its index, and those before it.
_Path = tuple[int, Any] | None

#: There is no such item.
ABSENT: Final = None
UNKNOWN: Final = Unknown()


def number_of(value: bytes) -> int | None:
    """Read a value as incr does; clients here store plain digits, which decr pads with blanks."""
    digits = value.rstrip(b" ")
    return int(digits) if digits.isdigit() else None


def _stored(operation: Operation, value: bytes, flags: int) -> Present:
    cas = None if operation.outcome is None else operation.outcome.cas
    return Present(value, flags, cas)


def _store(state: Present | None, operation: Operation) -> tuple[str, State]:
    """Return how a server in `state` answers a storage command, and its state thereafter."""
    verb = operation.verb
    if verb == "add":
        if state is not None:
            return "not_stored", state
    elif verb == "cas":
        if state is None:
            return "not_found", None
        if state.cas != operation.compare:
            return "exists", state
    elif verb != "set":
        if state is None:
            return "not_stored", None
        if verb != "replace":
            value = operation.value
            joined = state.value + value if verb == "append" else value + state.value
            if operation.room and len(joined) > operation.room - ITEM_HEAD_MAX_BYTES:
                is_too_large = len(joined) > operation.room or (
                    operation.outcome is not None and operation.outcome.status == "not_stored"
                )
                if is_too_large:
                    return "not_stored", state
                if operation.outcome is None:
                    return "ok", UNKNOWN  # nobody heard whether there was room
            return "ok", _stored(operation, joined, state.flags)
    return "ok", _stored(operation, operation.value, operation.flags)


def _count(state: Present | None, operation: Operation) -> tuple[str, State]:
    if state is None:
        if not operation.value:
            return "not_found", None
        return "ok", _stored(operation, operation.value, operation.flags)
    before = number_of(state.value)
    if before is None:
        return "non_numeric", state
    if operation.verb == "incr":
        number = (before + operation.delta) % _UINT64
    else:
        number = max(0, before - operation.delta)
    text = (b"%d" % number).ljust(len(state.value))
    return "ok", state._replace(value=text, cas=_stored(operation, b"", 0).cas)


def _compare_and(
    change: Callable[[Present], State],
) -> Callable[[Present | None, Operation], tuple[str, State]]:
    def act(state: Present | None, operation: Operation) -> tuple[str, State]:
        if state is None:
            return "not_found", None
        if operation.compare and state.cas != operation.compare:
            return "exists", state
        return "ok", change(state)

    return act


#: Verb -> (state, operation) -> (status, state thereafter).
_ACTIONS: Final[dict[str, Callable[[Present | None, Operation], tuple[str, State]]]] = {
    **dict.fromkeys(("set", "add", "replace", "append", "prepend", "cas"), _store),
    "incr": _count,
    "decr": _count,
    "delete": _compare_and(lambda state: None),
    "invalidate": _compare_and(lambda state: state._replace(cas=None, stale=True, won=False)),
    "touch": _compare_and(lambda state: state),
    "flush": lambda state, operation: ("ok", None),
}
_READS: Final = frozenset({"get", "mg", "mv"})


def _read(state: Present | None, operation: Operation) -> tuple[bool, State]:
    """Return whether the answer fits the state, and the state thereafter."""
    outcome = operation.outcome
    marks = ""
    if state is None:
        if operation.verb != "mv":
            return outcome is None or outcome.status == "not_found", None
        state = Present(b"", 0, None, won=True)
        marks = "W"
    elif operation.verb != "get":
        if state.won:
            marks = "XZ" if state.stale else "Z"
        elif state.stale:
            marks = "WX"
            state = state._replace(won=True)
    if outcome is None:
        return True, state
    if (
        outcome.status != "ok"
        or (outcome.value is not None and outcome.value != state.value)
        or (outcome.flags is not None and outcome.flags != state.flags)
        or (outcome.marks is not None and outcome.marks != marks)
    ):
        return False, state
    if outcome.cas is not None and outcome.cas != state.cas:
        if state.cas is not None:
            return False, state
        state = state._replace(cas=outcome.cas)
    return True, state


def _step_unknown(operation: Operation) -> State:
    """Return the state after an operation on a key of which nothing was known: any answer fits."""
    verb, outcome = operation.verb, operation.outcome
    if verb == "flush":
        return None
    if verb in _READS:
        if outcome is None or (outcome.status == "ok" and outcome.value is None):
            return UNKNOWN
        if outcome.status == "not_found":
            return UNKNOWN if verb == "mv" else None
        if verb == "get" or outcome.flags is None:
            return UNKNOWN  # whether it is stale, a plain get does not say
        marks = outcome.marks or ""
        assert outcome.value is not None
        return Present(
            outcome.value, outcome.flags, outcome.cas, "X" in marks, "W" in marks or "Z" in marks
        )
    if outcome is None:
        if verb == "set":
            return Present(operation.value, operation.flags, None)
        return None if verb == "delete" and not operation.compare else UNKNOWN
    if outcome.status == "not_found":
        return None
    if outcome.status == "not_stored":
        return None if verb != "add" and not operation.room else UNKNOWN
    if outcome.status == "ok":
        if verb in ("set", "add", "replace", "cas"):
            return _stored(operation, operation.value, operation.flags)
        if verb == "delete":
            return None
    return UNKNOWN


def _creates(operation: Operation) -> bool:
    """Return whether an operation does something else where there is nothing."""
    return operation.verb == "add" or (
        operation.verb in ("incr", "decr") and operation.value != b""
    )


def step(state: State, operation: Operation, *, lossy: bool = False) -> tuple[bool, State]:
    """Execute one operation: whether it can have been answered so in `state`, and what comes after.

    `lossy`: any item may be missing anywhere at any time, as where memory is short.
    """
    outcome = operation.outcome
    if isinstance(state, Unknown):
        if lossy and outcome is not None and outcome.status in ("not_found", "not_stored"):
            return True, state
        return True, _step_unknown(operation)
    if operation.verb in _READS:
        fits, after = _read(state, operation)
    else:
        status, after = _ACTIONS[operation.verb](state, operation)
        fits = outcome is None or outcome.status == status
        if fits and outcome is not None and operation.verb in ("incr", "decr"):
            fits = (
                status != "ok"
                or outcome.value is None
                or (
                    isinstance(after, Present)
                    and number_of(after.value) == number_of(outcome.value)
                )
            )
    if lossy and outcome is None and isinstance(state, Present) and _creates(operation):
        return True, UNKNOWN  # there may have been nothing, and so it was stored anew
    if fits or not lossy:
        return fits, after
    assert outcome is not None
    if outcome.status in ("not_found", "not_stored") and operation.verb != "add":
        return True, state
    return step(None, operation) if outcome.status == "ok" else (False, state)


class Verdict(NamedTuple):
    """What the search of one key came to."""

    linearizable: bool
    decided: bool = True
    #: The longest order that was found, and the operations that do not fit behind it.
    order: tuple[Operation, ...] = ()
    state: State = None
    stuck: tuple[Operation, ...] = ()

    def explain(self) -> str:
        """Return, for a person, how far the search came."""
        lines = ["  explained so far, in this order:"]
        lines += [f"    {operation}" for operation in self.order[-12:]]
        lines.append(f"  state then: {self.state}")
        lines.append("  none of these fits next:")
        lines += [f"    {operation}" for operation in self.stuck]
        return "\n".join(lines)


def _changes_nothing(operation: Operation) -> bool:
    """Return whether an operation with that outcome changes nothing, in no state.

    A meta get does, when it wins; then it changed the state in which that was found out.
    """
    outcome = operation.outcome
    return outcome is not None and (
        outcome.status != "ok" or operation.verb in _READS or operation.verb == "touch"
    )


def search(
    operations: Sequence[Operation],
    *,
    initial: State = ABSENT,
    lossy: bool = False,
    thrifty: bool = True,
) -> Verdict:
    """Look for an order that explains all operations on one key.

    `thrifty`: what was begun with less of what need not happen is left to that. It may come last,
    though it is what explains all: so whatever is not decided is looked at without, too.
    """
    # What was not answered and leaves no trace may as well not have happened.
    idle = {"get", "touch"}
    if not any(each.verb in ("invalidate", "mv") for each in operations):
        idle.add("mg")
    operations = [
        operation
        for operation in sorted(operations, key=lambda each: each.invoked_at)
        if operation.outcome is not None or operation.verb not in idle
    ]
    count = len(operations)
    ends = [_NEVER if each.returned_at is None else each.returned_at for each in operations]
    must = 0
    before = [0] * count  #: what the same session did earlier
    last: dict[object, int] = {}
    for index, operation in enumerate(operations):
        if operation.returned_at is not None:
            must |= 1 << index
        if operation.session is not None:
            if operation.session in last:
                before[index] = 1 << last[operation.session]
            last[operation.session] = index
    #: What need not happen, and nothing of the same session waits for.
    spare = ~must & (1 << count) - 1 if thrifty else 0
    for earlier in before:
        spare &= ~earlier
    best: tuple[int, _Path, State] = (-1, None, initial)
    #: Of what is spare as little as possible was done: the rest may still happen, or never.
    seen: dict[tuple[int, State], list[int]] = {(0, initial): [0]}
    stack: list[tuple[int, State, _Path]] = [(0, initial, None)]
    visits = 0
    while stack:
        done, state, path = stack.pop()
        if done & must == must:
            return Verdict(True)
        visits += 1
        if visits > VISITS_MAX:
            if thrifty:
                return search(operations, initial=initial, lossy=lossy, thrifty=False)
            return Verdict(False, decided=False)
        deadline = _NEVER
        candidates = []
        lowest = ((done + 1) & ~done).bit_length() - 1  # all before it are done
        for index in range(lowest, count):
            if done >> index & 1:
                continue
            if operations[index].invoked_at > deadline:
                break
            candidates.append(index)
            deadline = min(deadline, ends[index])
        # The one that ended first is tried first: it comes last on the stack.
        candidates.sort(key=lambda index: ends[index], reverse=True)
        visits += len(candidates) // CANDIDATES_PER_VISIT
        following: list[tuple[int, State, _Path]] = []
        for index in candidates:
            operation = operations[index]
            if operation.invoked_at > deadline or before[index] & ~done:
                continue
            fits, after = step(state, operation, lossy=lossy)
            if not fits:
                continue
            node: tuple[int, State, _Path] = (done | 1 << index, after, (index, path))
            if after == state and state is not UNKNOWN and _changes_nothing(operation):
                if not must >> index & 1:
                    continue  # it may as well never happen
                following = [node]  # it may as well happen now
                break
            following.append(node)
        for node in following:
            used = node[0] & spare
            known = seen.setdefault((node[0] & ~spare, node[1]), [])
            visits += len(known) // KNOWN_PER_VISIT
            if all(each & ~used for each in known):
                known.append(used)
                stack.append(node)
        reached = (done & must).bit_count()
        if reached > best[0]:
            best = (reached, path, state)
    _, path, state = best
    indices = _unwind(path)
    chosen = set(indices)
    rest = [index for index in range(count) if index not in chosen and must >> index & 1]
    deadline = min((ends[index] for index in rest), default=_NEVER)
    return Verdict(
        False,
        order=tuple(operations[index] for index in indices),
        state=state,
        stuck=tuple(operations[i] for i in rest if operations[i].invoked_at <= deadline),
    )


def _unwind(path: _Path) -> list[int]:
    indices = []
    while path is not None:
        indices.append(path[0])
        path = path[1]
    return indices[::-1]


def by_key(operations: Iterable[Operation]) -> dict[bytes, list[Operation]]:
    """Sort operations by their keys."""
    result: dict[bytes, list[Operation]] = {}
    for operation in operations:
        result.setdefault(operation.key, []).append(operation)
    return result


def judge(
    operations: Iterable[Operation], *, initial: State = ABSENT, lossy: bool = False
) -> dict[bytes, Verdict]:
    """Return the verdict on each key that is not linearizable, or could not be decided."""
    verdicts = {
        key: search(history, initial=initial, lossy=lossy)
        for key, history in by_key(operations).items()
    }
    return {key: verdict for key, verdict in verdicts.items() if not verdict.linearizable}
