"""What each command is, and what it does to items: one row a command, in one table a protocol.

What has to know about commands from outside is derived from these rows: whether a client of a pair
has one executed here or elsewhere (paired.py), what the log and the faults of the fake call it and
where its keys are (testing/requests.py), what `-vv` shows of it. So in a row nothing has a default
that would be wrong where it was forgotten: to forget the effect of a command is a TypeError.

Below all others: handlers are handed in by the modules with the tables (text, admin, meta, binary),
and it is theirs to say for which kind of connection they are.
"""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass
from enum import Enum
from typing import TYPE_CHECKING, Any, Final

from ..store.status import StoreMode
from .tokens import is_silenced

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ..store import Cache

type_Header = tuple[Any, ...]


class Effect(Enum):
    """What a command does to the items that several servers share."""

    READS = "reads"  #: changes none; also: its reply says that all before it was answered
    WRITES = "writes"  #: may change some
    LOCAL = "local"  #: is not about them, but about this very server or connection


READS, WRITES, LOCAL = Effect

if TYPE_CHECKING:
    type_Keys = Callable[[list[bytes]], list[bytes]]
    type_Effect = Effect | Callable[[Cache, list[bytes]], Effect]

# -- text --------------------------------------------------------------------------------------

# Which words of a line are keys.


def no_keys(tokens: list[bytes]) -> list[bytes]:
    return []


def one_key(tokens: list[bytes]) -> list[bytes]:
    return tokens[1:2]


def all_keys(tokens: list[bytes]) -> list[bytes]:
    return tokens[1:]


def keys_behind_exptime(tokens: list[bytes]) -> list[bytes]:
    return tokens[2:]


#: From which word on all are keys, any number of them.
FIRST_KEYS: Final[dict[Any, int]] = {all_keys: 1, keys_behind_exptime: 2}


@dataclass(slots=True, eq=False)
class Verb:
    """One command of a text protocol.

    Its effect may depend on its words, and on what they name. Without `decode` the handler is
    called with the words of the line; from word `noreply` on (0: never) the last one may be just
    that. With it, `decode` is, and returns either (length of the block, quiet, key, ...) or None
    when it has replied itself, or refused the block; and `store` is once the block is there. An
    `indented` command is known behind blanks, too.
    """

    effect: type_Effect
    keys: type_Keys
    handler: Callable[[Any, list[bytes]], None] | None = None
    _: KW_ONLY
    noreply: int = 0
    indented: bool = False
    decode: Callable[[Any, list[bytes]], type_Header | None] | None = None
    store: Callable[[Any, type_Header, bytes], None] | None = None

    def is_quiet(self, tokens: list[bytes]) -> bool:
        """Return whether a line asks for no answer."""
        return 0 < self.noreply < len(tokens) and is_silenced(tokens)


# -- binary ------------------------------------------------------------------------------------

# What to make of a body that goes on behind extras and key.
NO_VALUE: Final = 0  #: it must not
VALUE: Final = 1  #: the handler wants it
NEXT_REQUEST: Final = 2  #: leave it: it is read as the next request

INVALID: Final = 0x04  #: protocol-binary.txt, 3.2 "Response Status"


@dataclass(slots=True, eq=False)
class Command:
    """What one opcode means: its effect, the form of its request, and the handler.

    The quiet forms of a command, and those with the key, have its name. `extras` are the lengths
    allowed, `key_min` and `key_max` bound the key's. A request of another form is answered with
    `refusal`, and the connection closed. A `plain` handler changes nothing that the command loop
    has at hand: it neither closes, nor swaps tables, nor answers from a source. What is behind one
    that `ends_run` is executed apart from it: other servers may answer that anew, but not a login.
    `logged` is what `-vv` shows besides the header.
    """

    opcode: int
    name: str
    effect: Effect
    handler: Callable[[Any, Any], None]
    _: KW_ONLY
    extras: Sequence[int] = (0,)
    key_min: int = 0
    key_max: int = 0
    value: int = NO_VALUE
    #: Looks at a request before its value has arrived; False: that is refused.
    check: Callable[[Any, Any, int], bool] | None = None
    refusal: int = INVALID
    ends_run: bool = False
    logged: str = ""
    plain: bool = True
    quiet: bool = False
    mode: StoreMode = StoreMode.SET
    decrement: bool = False
    touches: bool = False
    with_key: bool = False
    with_value: bool = True
