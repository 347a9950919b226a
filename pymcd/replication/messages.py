"""What the rarer messages say, as typed values: HELLO, STATUS, JOIN, WELCOME, VIEW, VOTE and GRANT.

On the wire each is a JSON object. The type of a field says how it stands there; whatever is
missing, of another type or out of range is found here: `decode` raises FrameError, and who is
handed a message can rely on all of it. What a later release says beyond that is not read; what an
earlier one does not say yet has a default.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Final, NamedTuple, Self, get_type_hints

from ..limits import KEY_MAX_BYTES
from . import frames
from .frames import FrameError, Kind, decode_text, encode_text
from .roles import Data, Role
from .versions import TAG_MASK

if TYPE_CHECKING:
    from collections.abc import Callable


#: More nodes than any group has.
MEMBERS_MAX: Final = 64
#: Some thirty thousand years.
SECONDS_MAX: Final = 1e12


class Codec(NamedTuple):
    """How a field stands in JSON. `decode` may raise as `Message.read` says."""

    decode: Callable[[Any], Any]
    encode: Callable[[Any], Any] = lambda value: value


def _only(good: Callable[[Any], object]) -> Codec:
    """Return what lets a value pass as it is, if it is good."""

    def decode(value: Any) -> Any:
        if not good(value):
            raise TypeError
        return value

    return Codec(decode)


def _number_below(bound: int) -> Codec:
    return _only(lambda value: type(value) is int and 0 <= value < bound)


def _list_of(codec: Codec) -> Codec:
    values_of = _only(lambda values: type(values) is list).decode
    return Codec(
        lambda values: [codec.decode(value) for value in values_of(values)],
        lambda values: [codec.encode(value) for value in values],
    )


def _few(codec: Codec) -> Codec:
    """Return what lets a list pass if it is short, and says nothing twice."""
    decode = _list_of(codec).decode

    def decode_few(values: Any) -> Any:
        if len(values) > MEMBERS_MAX or len({*values}) < len(values):
            raise TypeError
        return decode(values)

    return Codec(decode_few, _list_of(codec).encode)


def _decode_key(text: str) -> bytes:
    key = decode_text(text)
    if not 0 < len(key) <= KEY_MAX_BYTES:
        raise ValueError
    return key


#: What fits into a message's head or a record.
_NUMBER: Final = _number_below(1 << 63)
#: It stands in logs and statistics.
_NODE_ID: Final = _only(re.compile(r"[!-~]{1,255}", re.ASCII).fullmatch)
_TEXT: Final = _only(lambda value: type(value) is str)

_WORD: Final = re.compile(r"[!-~]{1,64}", re.ASCII)


def _are_words(words: Any) -> bool:
    return all(_WORD.fullmatch(key) and _WORD.fullmatch(word) for key, word in words.items())


Text = Annotated[str, _TEXT]
Word = Annotated[str, _only(_WORD.fullmatch)]
Words = Annotated[dict[str, str], _only(lambda words: _are_words(words))]
NodeId = Annotated[str, _NODE_ID]
NodeIds = Annotated[list[str], _few(_NODE_ID)]
Flag = Annotated[bool, _only(lambda value: type(value) is bool)]
Number = Annotated[int, _NUMBER]
Numbers = Annotated[list[int], _list_of(_NUMBER)]
#: It stands in logs and statistics, too.
Reason = Annotated[str, _only(re.compile(r"[ -~]{0,200}", re.ASCII).fullmatch)]
#: What is far away in time, in either direction, is nonsense: sums of it must be numbers.
Seconds = Annotated[
    float,
    _only(lambda value: type(value) in (int, float) and -SECONDS_MAX <= value <= SECONDS_MAX),
]
Keys = Annotated[list[bytes], _list_of(Codec(_decode_key, encode_text))]
Incarnations = Annotated[
    dict[str, str],
    Codec(
        lambda lives: {
            _NODE_ID.decode(node_id): _TEXT.decode(life) for node_id, life in lives.items()
        }
    ),
]
Replies = Annotated[
    dict[int, bytes],
    Codec(
        lambda replies: {
            _NUMBER.decode(int(number)): decode_text(reply) for number, reply in replies.items()
        },
        lambda replies: {str(number): encode_text(reply) for number, reply in replies.items()},
    ),
]


class Message:
    """What a payload of one kind says."""

    __slots__ = ()
    kind: ClassVar[Kind]

    @classmethod
    @cache
    def _codecs(cls) -> list[tuple[str, Codec]]:
        hints = get_type_hints(cls, include_extras=True).items()
        return [(name, hint.__metadata__[0]) for name, hint in hints if name != "kind"]

    @classmethod
    def decode(cls, payload: bytes) -> Self:
        """Return what a payload says; raise FrameError."""
        return cls.read(frames.decode_json(payload))

    @classmethod
    def read(cls, said: Any) -> Self:
        """Return what a JSON object says; raise FrameError."""
        try:
            fields = {
                name: codec.decode(said[name]) for name, codec in cls._codecs() if name in said
            }
            return cls(**fields)
        except (FrameError, KeyError, TypeError, ValueError, AttributeError, OverflowError):
            raise FrameError(f"a {cls.kind.name} without what belongs into it") from None

    def as_json(self) -> dict[str, Any]:
        """Return the JSON object that says this."""
        return {name: codec.encode(getattr(self, name)) for name, codec in self._codecs()}

    def encode(self) -> bytes:
        """Return the payload that says this."""
        return frames.encode_json(self.as_json())


@dataclass(frozen=True, slots=True)
class Hello(Message):
    """Who says this, and a nonce: the first message on a link, from either side.

    It says in which language it is, too: `version` is the oldest that its sender speaks, since who
    speaks nothing but the first asks for exactly that; `version_max` the latest. Both are proven
    with the rest, so nobody between can have two agree on less than they could.
    """

    kind = Kind.HELLO

    cluster: Text
    node: NodeId
    incarnation: Text  #: changes when a node starts again without its data
    nonce: Text
    #: Unix time by which its items end; of who does not say his latest version, for those.
    clock: Annotated[float, _only(lambda value: type(value) is float)]
    tag: Annotated[int, _number_below(TAG_MASK + 1)]  #: marks the versions that the node gives out
    dialled: Flag
    release: Word = "-"  #: of pymcd
    member: Word = "data"  #: as what it takes part
    seeks: Word = "data"  #: as what whoever is called is to take part
    item_size_max: Number = 0  #: in bytes of key and value together; 0: it does not say
    memory_limit: Number = 0  #: in bytes; 0: none, or it does not say
    data: Annotated[Data, Codec(Data.read)] = Data.KEPT  #: who refuses it goes by that
    time: Seconds = 0.0  #: on its monotonic clock; 0: it does not say
    wall: Seconds = 0.0  #: Unix time by its wall clock; 0: it does not say
    latest: Number = 0  #: a version of this moment, or what it has seen; 0: it does not say
    ack_timeout_ms: Annotated[int, _number_below(60_001)] = 0  #: 0: it does not say
    manners: Words = field(default_factory=dict)  #: see `likeness`
    votes: Flag = False  #: it goes on with votes only, if all others do

    @staticmethod
    def foreign(said: dict[str, Any]) -> str | None:
        """Return "magic" or "version" if what is said does not mean to others what it does here."""
        if said.get("magic") != frames.MAGIC:
            return "magic"
        return None if Hello.shared_version(said) else "version"

    @staticmethod
    def shared_version(said: dict[str, Any]) -> int:
        """Return the latest version of the protocol that its sender speaks, and we; 0: none."""
        lowest = said.get("version")
        highest = said.get("version_max", lowest)
        if type(lowest) is not int or type(highest) is not int:
            return 0
        shared = min(highest, frames.PROTOCOL_VERSION)
        return shared if shared >= max(lowest, frames.PROTOCOL_VERSION_MIN) else 0

    def as_json(self) -> dict[str, Any]:
        """Return the JSON object that says this, and in which language."""
        language = {
            "magic": frames.MAGIC,
            "version": frames.PROTOCOL_VERSION_MIN,
            "version_max": frames.PROTOCOL_VERSION,
        }
        return {**language, **Message.as_json(self)}


@dataclass(frozen=True, slots=True)
class Received(Message):
    """How far somebody got in a channel; part of a STATUS."""

    kind = Kind.STATUS

    epoch: Number
    received: Number


_RECEIVED: Final = Codec(Received.read, Received.as_json)
_MAYBE_RECEIVED: Final = Codec(
    lambda value: None if value is None else Received.read(value),
    lambda value: None if value is None else value.as_json(),
)


@dataclass(frozen=True, slots=True)
class Status(Message):
    """What a node is, and what it has of the channel with whoever hears this."""

    kind = Kind.STATUS

    word: Text  #: "ask" demands an answer, with the word "answer"; "again": you may join; else ""
    role: Annotated[Role, Codec(Role)]
    epoch: Number
    members: NodeIds
    coordinator: NodeId
    welcoming: Flag  #: clients that are told of it by others may come to it
    channel: Annotated[Received | None, _MAYBE_RECEIVED]
    left: Annotated[Received, _RECEIVED]  #: of the channel that it gave up last
    clock: Seconds  #: Unix time by which its items end
    version: Number  #: of this moment, or the latest that it has given out or seen
    alone_s: Seconds  #: since it decided last to go on without somebody
    why: Reason = ""  #: it gave that channel up: it could not take what came over it


@dataclass(frozen=True, slots=True)
class Join(Message):
    """A node asks one that leads to bring it in sync."""

    kind = Kind.JOIN

    wants: Keys  #: what it gave up
    all: Flag  #: it needs everything
    leads: Flag
    left: Number  #: epoch of the channel that it gave up last
    pending: Numbers  #: requests that it forwarded and that nobody answered
    replace: Number  #: what we do not confirm, up to that version, it drops; 0: merge
    empty: Flag = False  #: it has no item of before


@dataclass(frozen=True, slots=True)
class Welcome(Message):
    """The answer to JOIN: the first message of the channel that it opens."""

    kind = Kind.WELCOME

    wants: Keys
    all: Flag
    done: Replies  #: to requests that were forwarded before
    replace: Number


@dataclass(frozen=True, slots=True)
class View(Message):
    """Who is in sync with whoever says this, itself first."""

    kind = Kind.VIEW

    epoch: Number
    members: NodeIds
    voted: Flag = False  #: it came about by votes


@dataclass(frozen=True, slots=True)
class Roll(Message):
    """Who is in a view, each in which life, and who decides: what is voted on."""

    kind = Kind.VOTE

    epoch: Number
    coordinator: NodeId
    data: Incarnations  #: of the nodes that hold all data
    witness: Incarnations  #: of one witness, or of none


_ROLL: Final = Codec(Roll.read, Roll.as_json)
_MAYBE_ROLL: Final = Codec(
    lambda value: None if value is None else Roll.read(value),
    lambda value: None if value is None else value.as_json(),
)


@dataclass(frozen=True, slots=True)
class Vote(Message):
    """May this be the next view? It is asked by who would decide in it."""

    kind = Kind.VOTE

    base: Annotated[Roll | None, _MAYBE_ROLL]  #: the view before; None: there was none
    roll: Annotated[Roll, _ROLL]
    token: Number = 0  #: of the answer that said to ask again


@dataclass(frozen=True, slots=True)
class Grant(Message):
    """The answer to a VOTE, or what a voter says of itself on a new link."""

    kind = Kind.GRANT

    epoch: Number  #: that was asked for; 0: nobody asked
    #: "yes", "no", or "again": ask once more, I am to see that you hear me; "over": I ask no more.
    word: Text
    backs: Annotated[Roll | None, _MAYBE_ROLL]
    token: Number = 0  #: to ask again with
