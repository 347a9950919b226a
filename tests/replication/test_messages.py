"""Messages: each kind comes back as it was said, and nothing else is taken for one."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pymcd.replication.frames import PROTOCOL_VERSION, PROTOCOL_VERSION_MIN, FrameError
from pymcd.replication.messages import (
    Grant,
    Hello,
    Join,
    Message,
    Received,
    Roll,
    Status,
    View,
    Vote,
    Welcome,
)
from pymcd.replication.roles import FOLLOWER, Data, Role

#: One of each, with something in every field.
EXAMPLES: list[Message] = [
    Hello(
        cluster="",
        node="a",
        incarnation="01",
        nonce="23",
        clock=1.5,
        tag=7,
        dialled=True,
        release="1.2.3",
        member="data",
        seeks="witness",
        item_size_max=1 << 20,
        memory_limit=64 << 20,
        data=Data.NEW,
        time=77.5,
        wall=1_700_000_000.5,
        latest=12,
        ack_timeout_ms=80,
        manners={"-M": "no"},
    ),
    Status(
        word="ask",
        role=FOLLOWER,
        epoch=5,
        members=["a", "b"],
        coordinator="b",
        welcoming=True,
        channel=Received(4, 9),
        left=Received(3, 8),
        clock=1_700_000_000.5,
        version=12,
        alone_s=0.25,
        why="a version from the future",
    ),
    Join(wants=[b"k", b"\xff\0"], all=False, leads=True, left=4, pending=[1, 2], replace=6),
    Welcome(wants=[b"k"], all=True, done={3: b"STORED\r\n"}, replace=0),
    View(epoch=8, members=["a", "b"]),
    Vote(
        base=Roll(8, "a", {"a": "01", "b": "02"}, {"w": "03"}), roll=Roll(9, "a", {"a": "01"}, {})
    ),
    Grant(epoch=9, word="no", backs=Roll(9, "b", {"b": "02"}, {"w": "03"}), token=5),
]
IDS = [type(example).__name__ for example in EXAMPLES]
FIELDS = [
    (example, name) for example in EXAMPLES for name in example.as_json() if name != "channel"
]
FIELD_IDS = [f"{type(example).__name__}.{name}" for example, name in FIELDS]

#: What the release before does not say.
NEW = {"Hello.version_max", "Hello.release", "Hello.member"}
NEW |= {"Hello.item_size_max", "Hello.memory_limit", "Hello.data"}
NEW |= {"Hello.wall", "Hello.time", "Hello.latest", "Status.why"}
NEW |= {"Hello.ack_timeout_ms", "Hello.manners"}
NEW |= {"Join.empty", "Hello.seeks", "Vote.token", "Grant.token", "Hello.votes", "View.voted"}

NUMBER = [-1, 2**63, 1.0, "1", True, None]
TEXT = [5, None, ["a"], False]
NODE = [*TEXT, "", "two words", "two\nlines", "\ud800", "x" * 256]
SECONDS = [1e308, -1e13, "1", None, True, float("inf"), float("nan"), 10**400, [1.0]]
FLAG = [0, 1, "true", None, []]
KEYS = [[""], ["x" * 251], "abc", {"a": 1}, [5], ["\u0100"], [["a"]], None, 5]
NAMES = [
    ["a", "a"],
    [str(number) for number in range(65)],
    "ab",
    {"a": 1},
    *([each] for each in NODE),
    None,
    5,
]
ROLL: dict[str, Any] = {"epoch": 1, "coordinator": "a", "data": {"a": "1"}, "witness": {}}
NO_ROLLS: list[dict[str, Any]] = [
    {"epoch": -1}, {"epoch": "1"}, {"coordinator": ""}, {"coordinator": None}, {"data": []},
    {"data": {"a": 1}}, {"data": {"": "1"}}, {"data": "a"}, {"witness": None},
    {"witness": {"two words": "1"}}, {"witness": ["w"]},
]  # fmt: skip
ROLLS = [0, "", [], {}, False, *(ROLL | wrong for wrong in NO_ROLLS)]
RECEIVED = [0, "", [], {}, False, {"epoch": 1}, {"epoch": -1, "received": 0}, "x", [1, 2]]
#: Message and field -> what else must not stand there.
REFUSED: dict[str, list[Any]] = {
    "Hello.cluster": TEXT,
    "Hello.node": NODE,
    "Hello.incarnation": TEXT,
    "Hello.nonce": TEXT,
    "Hello.clock": [1, "1.0", None, True, 10**400],
    "Hello.tag": [-1, 4096, 1.0, "1", True, None],
    "Hello.time": SECONDS,
    "Hello.wall": SECONDS,
    "Hello.latest": NUMBER,
    "Hello.dialled": FLAG,
    "Hello.release": [*TEXT, "", "two words", "\u0100", "x" * 65],
    "Hello.member": [*TEXT, "", "two words", "\u0100", "x" * 65],
    "Hello.seeks": [*TEXT, "", "two words", "\u0100", "x" * 65],
    "Hello.item_size_max": NUMBER,
    "Hello.memory_limit": NUMBER,
    "Hello.ack_timeout_ms": [*NUMBER, 60_001],
    "Hello.manners": [[], "x", None, 5, {"": "x"}, {"x": ""}, {"x": 1}, {"two words": "x"}],
    "Hello.votes": FLAG,
    "View.voted": FLAG,
    "Join.empty": FLAG,
    "Hello.data": [],  # whatever else is said there, is read as the most that could be meant
    "Status.word": TEXT,
    "Status.role": ["", "leader", 1, None, [], {}],
    "Status.epoch": NUMBER,
    "Status.members": NAMES,
    "Status.coordinator": NODE,
    "Status.welcoming": FLAG,
    "Status.channel": RECEIVED,
    "Status.left": [*RECEIVED, None],
    "Status.clock": SECONDS,
    "Status.version": NUMBER,
    "Status.alone_s": SECONDS,
    "Status.why": [*TEXT, "two\nlines", "\u00e9", "x" * 201],
    "Join.wants": KEYS,
    "Join.all": FLAG,
    "Join.leads": FLAG,
    "Join.left": NUMBER,
    "Join.pending": ["12", {"1": 2}, *([each] for each in NUMBER), None, 5],
    "Join.replace": NUMBER,
    "Welcome.wants": KEYS,
    "Welcome.all": FLAG,
    "Welcome.done": [
        [["1", "x"]], "x", None, 5, {"x": ""}, {"-1": ""}, {"": ""}, {str(2**63): ""},
        {"9" * 5000: ""}, {"1": 5}, {"1": None}, {"1": ["x"]}, {"1": "\u0100"},
    ],
    "Welcome.replace": NUMBER,
    "View.epoch": NUMBER,
    "View.members": NAMES,
    "Vote.base": ROLLS,
    "Vote.roll": [*ROLLS, None],
    "Grant.epoch": NUMBER,
    "Grant.word": TEXT,
    "Grant.backs": ROLLS,
    "Vote.token": NUMBER,
    "Grant.token": NUMBER,
}  # fmt: skip
WRONG = [
    pytest.param(example, name, value, id=f"{type(example).__name__}.{name}={value!r:.20}")
    for example in EXAMPLES
    for name in example.as_json()
    for value in REFUSED.get(f"{type(example).__name__}.{name}", ())
]

NUMBERS = st.integers(0, 2**63 - 1)
FLOATS = st.floats(-1e12, 1e12)
NODE_IDS = st.from_regex(r"[!-~]{1,255}", fullmatch=True)
WORDS = st.from_regex(r"[!-~]{1,64}", fullmatch=True)
KEY_LISTS = st.lists(st.binary(min_size=1, max_size=250), max_size=4)
LIVES = st.dictionaries(NODE_IDS, st.text(), max_size=3)
ROLLS_SAID = st.builds(Roll, NUMBERS, NODE_IDS, LIVES, LIVES)
RECEIVEDS = st.builds(Received, NUMBERS, NUMBERS)
MEMBERS = st.lists(NODE_IDS, max_size=4, unique=True)
MESSAGES: st.SearchStrategy[Message] = st.one_of(
    st.builds(Hello, st.text(), NODE_IDS, st.text(), st.text(), FLOATS, st.integers(0, 4095),
              st.booleans(), WORDS, WORDS, WORDS, NUMBERS, NUMBERS, st.sampled_from(Data),
              FLOATS, FLOATS, NUMBERS,
              st.integers(0, 60_000), st.dictionaries(WORDS, WORDS, max_size=3)),
    st.builds(Status, st.text(), st.sampled_from(Role), NUMBERS, MEMBERS,
              NODE_IDS, st.booleans(), st.none() | RECEIVEDS, RECEIVEDS, FLOATS, NUMBERS, FLOATS),
    st.builds(Join, KEY_LISTS, st.booleans(), st.booleans(), NUMBERS,
              st.lists(NUMBERS, max_size=4), NUMBERS),
    st.builds(Welcome, KEY_LISTS, st.booleans(),
              st.dictionaries(NUMBERS, st.binary(max_size=99), max_size=4), NUMBERS),
    st.builds(View, NUMBERS, MEMBERS),
    st.builds(Vote, st.none() | ROLLS_SAID, ROLLS_SAID, NUMBERS),
    st.builds(Grant, NUMBERS, st.text(), st.none() | ROLLS_SAID, NUMBERS),
)  # fmt: skip
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.floats()
    | st.integers()
    | st.just(10**400)
    | st.text()
    | st.sampled_from(["1", "a", "alone"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["epoch", "received", "1", ""]), inner, max_size=3)
    ),
    max_leaves=4,
)


def encode(fields: object) -> bytes:
    return json.dumps(fields).encode()


def decoded(kind: type[Message], payload: bytes) -> Message | str:
    """Return the message that a payload is, or why it is none."""
    try:
        return kind.decode(payload)
    except FrameError as error:
        return str(error)


def refused(kind: type[Message], payload: bytes) -> None:
    """See that a payload is none of that kind, and that it is said of which."""
    with pytest.raises(FrameError, match=f"a {kind.kind.name} without what belongs into it"):
        kind.decode(payload)


class TestWhatIsSaid:
    @pytest.mark.parametrize("example", EXAMPLES, ids=IDS)
    def test_it_comes_back(self, example):
        assert type(example).decode(example.encode()) == example

    @given(MESSAGES)
    def test_whatever_it_says(self, message: Message):
        payload = message.encode()
        assert type(message).decode(payload) == message
        assert type(message).decode(payload).encode() == payload

    def test_who_has_no_channel_says_so(self):
        status = EXAMPLES[1].as_json() | {"channel": None}
        assert Status.read(status).channel is None

    @pytest.mark.parametrize("example", EXAMPLES, ids=IDS)
    def test_what_later_ones_may_add_is_not_read(self, example):
        payload = encode(example.as_json() | {"more": [1]})
        assert type(example).decode(payload) == example

    def test_a_hello_says_in_which_language_it_is(self):
        hello = EXAMPLES[0].as_json()
        assert Hello.foreign(hello) is None
        assert Hello.foreign(hello | {"magic": "repcached"}) == "magic"
        assert Hello.foreign({}) == "magic"
        assert Hello.foreign(hello | {"version": 3}) == "version"

    @pytest.mark.parametrize(
        ("lowest", "highest", "shared"),
        [
            (1, 1, 1), (1, 2, 2), (1, 9, 2), (2, 2, 2), (2, 9, 2), (0, 1, 1), (-5, 2, 2),
            (3, 9, 0), (0, 0, 0), (2, 1, 0), (1, None, 0), ("1", 2, 0), (True, 2, 0), (1, 2.0, 0),
        ],
    )  # fmt: skip
    def test_the_latest_language_that_both_speak(self, lowest, highest, shared):
        hello = EXAMPLES[0].as_json() | {"version": lowest, "version_max": highest}
        assert (hello["version"], PROTOCOL_VERSION_MIN, PROTOCOL_VERSION) == (lowest, 1, 2)
        assert Hello.shared_version(hello) == shared
        assert Hello.foreign(hello) == (None if shared else "version")

    def test_who_says_one_language_speaks_no_other(self):
        hello = EXAMPLES[0].as_json()
        del hello["version_max"]
        assert Hello.shared_version(hello) == 1

    def test_what_earlier_ones_do_not_say_has_a_default(self):
        said = EXAMPLES[0].as_json()
        for name in NEW:
            said.pop(name.removeprefix("Hello."), None)
        hello = Hello.read(said)
        assert (hello.release, hello.member) == ("-", "data")
        assert (hello.item_size_max, hello.memory_limit) == (0, 0)
        assert (hello.time, hello.wall, hello.latest) == (0.0, 0.0, 0)
        assert hello.data is Data.KEPT

    @pytest.mark.parametrize("word", [None, 5, "", "more", ["nothing"]])
    def test_who_does_not_say_that_he_has_nothing_may_have_it_all(self, word):
        assert Hello.read(EXAMPLES[0].as_json() | {"data": word}).data is Data.KEPT


class TestWhatIsRefused:
    @pytest.mark.parametrize(("example", "name"), FIELDS, ids=FIELD_IDS)
    def test_a_field_that_is_missing(self, example, name):
        said = example.as_json()
        del said[name]
        if name in ("magic", "version") and isinstance(example, Hello):
            assert Hello.foreign(said) == name
        elif f"{type(example).__name__}.{name}" in NEW:
            assert type(decoded(type(example), encode(said))) is type(example)
        else:
            refused(type(example), encode(said))

    @pytest.mark.parametrize(("example", "name", "value"), WRONG)
    def test_a_field_of_another_type_or_out_of_range(self, example, name, value):
        refused(type(example), encode(example.as_json() | {name: value}))

    def test_each_field_was_tried(self):
        names = {f"{type(one).__name__}.{name}" for one in EXAMPLES for name in one.as_json()}
        assert set(REFUSED) == names - {"Hello.magic", "Hello.version", "Hello.version_max"}

    @given(st.sampled_from(EXAMPLES), st.data())
    def test_anything_at_all_in_a_field_is_taken_or_refused(self, example: Message, data):
        said = example.as_json()
        for name in data.draw(st.sets(st.sampled_from(sorted(said)), min_size=1)):
            said[name] = data.draw(JSON)
        message = decoded(type(example), encode(said))
        if isinstance(message, str):
            assert message == f"a {example.kind.name} without what belongs into it"
        else:
            assert type(message).decode(message.encode()) == message

    @given(
        st.sampled_from(EXAMPLES),
        st.binary(max_size=60) | JSON.map(encode) | st.just(b"[" * 100_000),
    )
    def test_anything_at_all_instead_of_it(self, example: Message, payload: bytes):
        with pytest.raises(FrameError):
            type(example).decode(payload)
