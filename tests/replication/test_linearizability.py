"""The judge of histories: good ones pass, each kind of bad one is caught."""

from __future__ import annotations

import random

import pytest

from tests.replication.linearizability import (
    ABSENT,
    UNKNOWN,
    Operation,
    Outcome,
    Present,
    State,
    judge,
    search,
    step,
)

OK = Outcome("ok")
MISS = Outcome("not_found")
NOT_STORED = Outcome("not_stored")
EXISTS = Outcome("exists")


def op(verb: str, start: float, end: float | None, outcome: Outcome | None = OK, **more):
    return Operation(b"k", verb, start, end, outcome if end is not None else None, **more)


def hit(value: bytes, cas: int | None = None, marks: str | None = None) -> Outcome:
    return Outcome("ok", value, 0, cas, marks)


GOOD = [
    ("nothing at all", []),
    ("a miss at first", [op("get", 0, 1, MISS)]),
    ("a set is read", [op("set", 0, 1, value=b"a"), op("get", 2, 3, hit(b"a"))]),
    (
        "during a set, both are right",
        [
            op("set", 0, 1, value=b"a"),
            op("set", 2, 9, value=b"b"),
            op("get", 3, 4, hit(b"a")),
            op("get", 5, 6, hit(b"b")),
        ],
    ),
    (
        "an open set may have happened",
        [op("set", 0, None, value=b"a"), op("get", 5, 6, hit(b"a"))],
    ),
    ("an open set may not have happened", [op("set", 0, None, value=b"a"), op("get", 5, 6, MISS)]),
    (
        "an open set may happen late",
        [
            op("set", 0, None, value=b"a"),
            op("get", 5, 6, MISS),
            op("get", 7, 8, hit(b"a")),
        ],
    ),
    (
        "one of two adds wins",
        [
            op("add", 0, 5, value=b"a"),
            op("add", 0, 5, NOT_STORED, value=b"b"),
            op("get", 6, 7, hit(b"a")),
        ],
    ),
    (
        "two adds win, with a delete between",
        [
            op("add", 0, 5, value=b"a"),
            op("delete", 0, 5),
            op("add", 0, 5, value=b"b"),
        ],
    ),
    (
        "cas wins once",
        [
            op("set", 0, 1, value=b"a"),
            op("get", 2, 3, hit(b"a", 7)),
            op("cas", 4, 6, value=b"b", compare=7),
            op("cas", 4, 6, EXISTS, value=b"c", compare=7),
            op("get", 7, 8, hit(b"b", 9)),
        ],
    ),
    (
        "counting",
        [
            op("set", 0, 1, value=b"9"),
            op("incr", 2, 5, hit(b"10"), delta=1),
            op("incr", 2, 5, hit(b"12"), delta=2),
            op("decr", 6, 7, hit(b"7"), delta=5),
            op("get", 8, 9, hit(b"7 ")),
            op("incr", 8, 9, hit(b"8"), delta=1),
        ],
    ),
    (
        "counting from an initial value",
        [
            op("incr", 0, 4, hit(b"5"), delta=1, value=b"5"),
            op("incr", 0, 4, hit(b"6"), delta=1, value=b"5"),
        ],
    ),
    (
        "there is no room for an append",
        [
            op("set", 0, 1, value=bytes(600)),
            op("append", 2, 3, NOT_STORED, value=bytes(500), room=1000),
            op("get", 4, 5, hit(bytes(600))),
        ],
    ),
    (
        "there is hardly room for an append",
        [
            op("set", 0, 1, value=bytes(500)),
            op("append", 2, 3, value=bytes(450), room=1000),
            op("append", 4, 5, NOT_STORED, value=bytes(40), room=1000),
            op("get", 6, 7, hit(bytes(950))),
        ],
    ),
    *(
        (
            f"there was hardly room for an append that nobody answered, {name}",
            [
                op("set", 0, 1, value=bytes(500)),
                op("get", 2, 3, hit(bytes(500), 7)),
                op("append", 4, None, value=bytes(450), room=1000, session="c1"),
                op("cas", 5, 6, outcome, value=b"b", compare=7, session="c1"),
                op("get", 7, 8, hit(value)),
            ],
        )
        for name, outcome, value in (("yes", EXISTS, bytes(950)), ("no", OK, b"b"))
    ),
    (
        "append and prepend",
        [
            op("append", 0, 1, NOT_STORED, value=b"x"),
            op("set", 2, 3, value=b"a"),
            op("append", 4, 6, value=b"b"),
            op("prepend", 4, 6, value=b"c"),
            op("get", 7, 8, hit(b"cab")),
        ],
    ),
    (
        "stale: one wins",
        [
            op("set", 0, 1, value=b"a"),
            op("invalidate", 2, 3),
            op("mg", 4, 6, hit(b"a", marks="XZ")),
            op("mg", 4, 6, hit(b"a", marks="WX")),
            op("set", 7, 8, value=b"b"),
            op("mg", 9, 10, hit(b"b", marks="")),
        ],
    ),
    (
        "a flush that finds nothing may also come later",
        [op("set", 0, 9, value=b"a"), op("flush", 1, 8), op("get", 10, 11, MISS)],
    ),
    (
        "one vivifies",
        [
            op("mv", 0, 5, hit(b"", marks="W")),
            op("mv", 0, 5, hit(b"", marks="Z")),
            op("get", 6, 7, hit(b"")),
        ],
    ),
    (
        "silent commands come before what their session says next",
        [
            op("set", 0, None, value=b"a", session=1),
            op("get", 0.1, 1, hit(b"a"), session=1),
            op("set", 2, None, value=b"b", session=2),
            op("get", 3, 4, hit(b"a"), session=3),
        ],
    ),
    (
        "a flush deletes",
        [op("set", 0, 1, value=b"a"), op("flush", 2, 4), op("get", 3, 5, MISS)],
    ),
]

BAD = [
    ("a value from nowhere", [op("get", 0, 1, hit(b"a"))]),
    ("a lost write", [op("set", 0, 1, value=b"a"), op("get", 2, 3, MISS)]),
    (
        "a stale read",
        [
            op("set", 0, 1, value=b"a"),
            op("set", 2, 3, value=b"b"),
            op("get", 4, 5, hit(b"a")),
        ],
    ),
    (
        "back in time",
        [
            op("set", 0, 1, value=b"a"),
            op("set", 2, 9, value=b"b"),
            op("get", 3, 4, hit(b"b")),
            op("get", 5, 6, hit(b"a")),
        ],
    ),
    (
        "read before it was written",
        [op("get", 0, 1, hit(b"a")), op("set", 2, 3, value=b"a")],
    ),
    ("two adds win", [op("add", 0, 5, value=b"a"), op("add", 0, 5, value=b"b")]),
    ("no add wins", [op("add", 0, 5, NOT_STORED, value=b"a")]),
    (
        "a deleted item comes back",
        [
            op("set", 0, 1, value=b"a"),
            op("delete", 2, 3),
            op("get", 4, 5, hit(b"a")),
        ],
    ),
    (
        "a flushed item comes back",
        [op("set", 0, 1, value=b"a"), op("flush", 2, 3), op("get", 4, 5, hit(b"a"))],
    ),
    (
        "cas wins twice",
        [
            op("set", 0, 1, value=b"a"),
            op("get", 2, 3, hit(b"a", 7)),
            op("cas", 4, 6, value=b"b", compare=7),
            op("cas", 4, 6, value=b"c", compare=7),
        ],
    ),
    (
        "one value, two cas uniques",
        [
            op("set", 0, 1, value=b"a"),
            op("get", 2, 3, hit(b"a", 7)),
            op("get", 4, 5, hit(b"a", 8)),
        ],
    ),
    (
        "an increment is lost",
        [
            op("set", 0, 1, value=b"1"),
            op("incr", 2, 5, hit(b"2"), delta=1),
            op("incr", 2, 5, hit(b"2"), delta=1),
        ],
    ),
    (
        "an append is lost",
        [
            op("set", 0, 1, value=b"a"),
            op("append", 2, 3, value=b"b"),
            op("append", 2, 3, value=b"c"),
            op("get", 4, 5, hit(b"ac")),
        ],
    ),
    (
        "an append for which there is no room",
        [
            op("set", 0, 1, value=bytes(600)),
            op("append", 2, 3, value=bytes(500), room=1000),
        ],
    ),
    (
        "an append is refused, though there is room",
        [
            op("set", 0, 1, value=bytes(100)),
            op("append", 2, 3, NOT_STORED, value=bytes(100), room=1000),
        ],
    ),
    (
        "an append happens twice",
        [
            op("set", 0, 1, value=b"a"),
            op("append", 2, 3, value=b"b"),
            op("get", 4, 5, hit(b"abb")),
        ],
    ),
    (
        "two win the recache",
        [
            op("set", 0, 1, value=b"a"),
            op("invalidate", 2, 3),
            op("mg", 4, 6, hit(b"a", marks="WX")),
            op("mg", 4, 6, hit(b"a", marks="WX")),
        ],
    ),
    (
        "two vivify",
        [op("mv", 0, 5, hit(b"", marks="W")), op("mv", 0, 5, hit(b"", marks="W"))],
    ),
    (
        "an open operation cannot happen before its call",
        [op("get", 0, 1, hit(b"a")), op("set", 2, None, value=b"a")],
    ),
    (
        "the order within a session is turned round",
        [
            op("set", 0, 4, value=b"a", session=1),
            op("set", 0, 4, value=b"b", session=1),
            op("get", 5, 6, hit(b"a")),
        ],
    ),
    (
        "other client flags",
        [op("set", 0, 1, value=b"a", flags=3), op("get", 2, 3, hit(b"a"))],
    ),
]


@pytest.mark.parametrize(("name", "history"), GOOD, ids=[name for name, _ in GOOD])
def test_what_one_server_could_say_is_accepted(name, history):
    assert judge(history) == {}
    assert judge(history[::-1]) == {}


@pytest.mark.parametrize(("name", "history"), BAD, ids=[name for name, _ in BAD])
def test_what_no_single_server_could_say_is_refused(name, history):
    verdict = judge(history)[b"k"]
    assert verdict.decided
    assert verdict.explain()


def test_what_is_explained_is_as_much_as_can_be():
    """Though another beginning, of less use, came to an end that is as dead."""
    history = [
        op("set", 0, None, value=b"a"),
        op("add", 1, 2, value=b"b"),
        op("get", 3, 4, hit(b"b")),
        op("set", 3, None, value=b"a"),
        op("get", 5, 6, hit(b"c")),
    ]
    verdict = judge(history)[b"k"]
    assert [each.verb for each in verdict.order if each.outcome] == ["add", "get"]
    assert verdict.stuck == (history[4],)


@pytest.mark.parametrize(("name", "history"), GOOD, ids=[name for name, _ in GOOD])
def test_a_key_of_unknown_past_accepts_no_less(name, history):
    assert judge(history, initial=UNKNOWN) == {}


def test_a_key_of_unknown_past_is_known_after_the_first_sure_thing():
    read = op("mg", 0, 1, hit(b"a", 5, ""))
    assert judge([read, op("mg", 2, 3, hit(b"b", 6, ""))], initial=UNKNOWN)
    assert judge([op("set", 0, 1, value=b"a"), op("get", 2, 3, MISS)], initial=UNKNOWN)
    assert judge([op("delete", 0, 1), op("get", 2, 3, hit(b"a"))], initial=UNKNOWN)


def test_where_memory_is_short_a_miss_is_no_fault_but_a_stale_hit_is():
    lost = [op("set", 0, 1, value=b"a"), op("get", 2, 3, MISS), op("get", 4, 5, hit(b"a"))]
    assert judge(lost)
    assert judge(lost, lossy=True) == {}
    added = [op("set", 0, 1, value=b"a"), op("add", 2, 3, value=b"b"), op("get", 4, 5, hit(b"b"))]
    assert judge(added, lossy=True) == {}
    stale = [op("set", 0, 1, value=b"a"), op("set", 2, 3, value=b"b"), op("get", 4, 5, hit(b"a"))]
    assert judge(stale, lossy=True)


def test_where_memory_is_short_what_was_not_answered_may_have_stored_anew():
    """Without an answer it is not known whether there was anything: `add ... noreply`."""
    before = op("set", 0, 1, value=b"a")
    added = [before, op("add", 2, None, value=b"b"), op("get", 4, 5, hit(b"b"))]
    assert judge(added)
    assert judge(added, lossy=True) == {}
    seen = [*added, op("mg", 6, 7, hit(b"b", 6, ""))]
    assert judge([*seen, op("get", 8, 9, hit(b"a"))], lossy=True)
    kept = [before, op("add", 2, None, value=b"b"), op("get", 4, 5, hit(b"a"))]
    assert judge(kept, lossy=True) == {}
    counted = [before, op("incr", 2, None, value=b"7", delta=1), op("get", 4, 5, hit(b"7"))]
    assert judge(counted)
    assert judge(counted, lossy=True) == {}
    only = [before, op("incr", 2, None, delta=1), op("get", 4, 5, hit(b"7"))]
    assert judge(only, lossy=True)


def test_keys_are_judged_apart():
    history = [
        Operation(b"x", "set", 0, 1, OK, value=b"a"),
        Operation(b"y", "get", 2, 3, MISS),
        Operation(b"x", "get", 2, 3, MISS),
    ]
    assert list(judge(history)) == [b"x"]


def test_a_search_that_takes_too_long_says_so(monkeypatch):
    monkeypatch.setattr("tests.replication.linearizability.VISITS_MAX", 50)
    history = [op("append", 0, 100, value=b"%d" % n) for n in range(12)]
    history += [op("set", 0, 1, value=b"a"), op("get", 101, 102, hit(b"b"))]
    assert not search(history).decided


@pytest.mark.parametrize("verb", ["set", "add", "cas"])
def test_what_was_not_answered_is_not_tried_in_every_order(verb):
    """What is stored over it takes away all trace: so there are no more cases than values."""
    history = [op("set", 0, 1, Outcome("ok", cas=7), value=b"a")]
    history += [op(verb, 2 + n, None, value=b"%d" % n, compare=7) for n in range(30)]
    history += [op("delete", 40 + n, None) for n in range(3)]
    found = [*history, op("get", 101, 102, hit(b"3")), op("get", 103, 104, hit(b"a"))]
    assert search(found[:-1]).linearizable
    verdict = search(found)
    assert verdict.decided
    assert not verdict.linearizable


def test_what_was_not_answered_comes_before_what_its_session_says_later():
    """So it has happened by then, though nobody needs it: here it is in the way."""
    silent = op("set", 2, None, value=b"b", session="s")
    later = op("get", 4, 5, MISS, session="s")
    assert not search([silent, later]).linearizable
    assert search([silent, op("get", 4, 5, MISS, session="t")]).linearizable


VERBS = ["set", "set", "add", "replace", "append", "cas", "delete", "get", "get", "mg", "incr"]
VERBS += ["invalidate"]


def _random_history(seed: int, *, count: int) -> list[Operation]:
    """Several clients of one true server: linearizable by construction."""
    random_ = random.Random(seed)
    state: State = ABSENT
    operations = []
    now = 0.0
    cas = 0
    for number in range(count):
        now += random_.random()
        verb = random_.choice(VERBS)
        operation = Operation(b"k", verb, now - random_.expovariate(1.0), now, OK)
        operation.value = b"" if verb == "incr" else b"%d" % number
        operation.delta = 1
        if verb == "cas":
            operation.compare = max(1, cas - random_.randrange(2))
        operation.outcome = None
        before = state
        _, state = step(state, operation)
        # What it would have said: try all answers until one fits.
        if verb in ("get", "mg"):
            operation.outcome = MISS
            if isinstance(state, Present):
                assert isinstance(before, Present)
                if state.cas is None:
                    cas += 1
                    state = state._replace(cas=cas)
                marks = None
                if verb == "mg":
                    marks = ["", "Z", "WX", "XZ"][2 * before.stale + before.won]
                operation.outcome = Outcome("ok", state.value, state.flags, state.cas, marks)
        else:
            for status in ("ok", "not_stored", "exists", "not_found", "non_numeric"):
                operation.outcome = Outcome(status)
                if step(before, operation)[0]:
                    break
        operation.returned_at = now + random_.expovariate(1.0)
        if random_.random() < 0.1 and verb not in ("get", "mg"):
            operation.returned_at = operation.outcome = None
        operations.append(operation)
    return operations


@pytest.mark.parametrize("seed", range(40))
def test_random_histories_of_one_server_are_accepted(seed):
    assert judge(_random_history(seed, count=40)) == {}


def test_random_histories_with_one_answer_changed_are_mostly_refused():
    refused = 0
    for seed in range(40):
        history = _random_history(seed, count=40)
        hits = [each for each in history if each.outcome and each.outcome.value is not None]
        changed = hits[-1]
        assert changed.outcome is not None
        changed.outcome = changed.outcome._replace(value=b"from nowhere")
        refused += bool(judge(history))
    assert refused == 40


@pytest.mark.parametrize("seed", [101, 219, 422])
def test_what_thrift_does_not_find_soon_is_looked_for_without(seed, monkeypatch):
    monkeypatch.setattr("tests.replication.linearizability.VISITS_MAX", 100)
    random_ = random.Random(seed)
    history = _random_history(seed, count=30)
    for each in history:
        if random_.random() < 0.4 and each.verb not in ("get", "mg"):
            each.outcome = each.returned_at = None
    assert search(history).linearizable
