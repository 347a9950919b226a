"""Which calls are meant: the words for commands, patterns of keys, and what else a call must have.

A test says it with strings and functions; `Wanted` and `Expected` are what comes of that, wherever
they are looked at: in the server for faults, beside the test for what was called.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, TypedDict

from ..limits import KEY_MAX_BYTES
from .calls import shorten
from .checks import is_whole, not_asynchronous
from .requests import as_commands

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from .calls import Call
    from .requests import Commands

#: A key; or with `*` and `?` what many are like; or a compiled expression of all of it; or a
#: function of it.
Key = str | bytes | re.Pattern[str] | re.Pattern[bytes] | Callable[[bytes], object]

_CALLS_SHOWN: Final = 10


def good_key(key: str | bytes) -> bytes:
    """Return a key as the server has it; raise `ValueError` if no server could."""
    if isinstance(key, str):
        key = key.encode()
    if not isinstance(key, bytes):
        raise TypeError(f"a key is a str or bytes, not {type(key).__name__}: {key!r}")
    if not 0 < len(key) <= KEY_MAX_BYTES:
        raise ValueError(f"a key has 1 to {KEY_MAX_BYTES} bytes, this has {len(key)}: {key!r}")
    return key


class Keys:
    """Those keys that a test means by one word for them."""

    def __init__(self, written: Key) -> None:
        self.written = written
        self._exact: bytes | None = None
        self._fits: Callable[[bytes], object]
        if isinstance(written, re.Pattern):
            self._pattern: re.Pattern[Any] | None = written
        elif isinstance(written, str | bytes):
            self._exact = good_key(written)
            self._pattern = _glob(self._exact)
        elif callable(written):
            not_asynchronous(f"key={getattr(written, '__name__', written)}", written)
            self._pattern = None
        else:
            raise TypeError(
                f"key={written!r}: a key is a str or bytes (* stands for anything, ? for one byte),"
                " or a compiled regular expression, or a function of the key"
            )

    def fit(self, key: bytes) -> bool:
        """Return whether a key is one of them."""
        pattern = self._pattern
        if pattern is not None:
            text = key.decode(errors="replace") if isinstance(pattern.pattern, str) else key
            return pattern.fullmatch(text) is not None
        if self._exact is not None:
            return key == self._exact
        assert callable(self.written)
        return bool(self.written(key))

    def __repr__(self) -> str:
        if isinstance(self.written, re.Pattern):
            return f"/{self.written.pattern!r}/"
        return getattr(self.written, "__name__", None) or repr(self.written)


def _glob(key: bytes) -> re.Pattern[bytes] | None:
    """Return what stands for a key with wildcards; None: it has none."""
    if b"*" not in key and b"?" not in key:
        return None
    words = re.split(rb"([*?])", key)
    stand_for = {b"*": b".*", b"?": b"."}
    return re.compile(b"".join(stand_for.get(word) or re.escape(word) for word in words), re.DOTALL)


def as_keys(key: Key | None) -> Keys | None:
    """Return what a test means by a key; None: any, and also none."""
    return None if key is None else Keys(key)


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which calls are meant: of these commands, on such a key; None: any."""

    commands: frozenset[str] | None = None
    key: Keys | None = None

    @classmethod
    def of(cls, command: Commands | None, key: Key | None) -> Wanted:
        """Return what a test has written."""
        return cls(as_commands(command), as_keys(key))

    def fits(self, call: Call) -> bool:
        """Return whether a call is meant."""
        return self.is_of(call) and self.is_about(call)

    def is_of(self, call: Call) -> bool:
        """Return whether a call is of such a command, whatever the key."""
        return self.commands is None or not self.commands.isdisjoint(call.names)

    def is_about(self, call: Call) -> bool:
        """Return whether a call is on such a key, whatever the command."""
        return self.key is None or any(self.key.fit(key) for key in call.keys)

    def meant_by(self, call: Call) -> tuple[bytes, ...]:
        """Return the keys of a call that are such."""
        return tuple(key for key in call.keys if self.key is None or self.key.fit(key))

    def among(self, calls: Iterable[Call]) -> list[Call]:
        """Return those that are meant."""
        return [call for call in calls if self.fits(call)]

    def __str__(self) -> str:
        words = [] if self.commands is None else [" or ".join(sorted(self.commands))]
        if self.key is not None:
            words.append(repr(self.key))
        return " ".join(words) or "any command"


class Attributes(TypedDict, total=False):
    """What a call may be expected to have, besides command and key."""

    value: str | bytes | None
    client_flags: int | None
    ttl: int | None
    noreply: bool
    reply: str | bytes | None
    connection: int


_BYTES: Final = {"value", "reply"}
_WHOLE: Final = {"client_flags", "ttl", "connection"}


def _check_attribute(name: str, value: object) -> None:
    """Say what is wrong with what no call could have: it is not as it was meant."""
    if name in _BYTES:
        good, instead = isinstance(value, bytes), f'{name}=b"..." or {name}="..."'
    elif name in _WHOLE:
        good, instead = is_whole(value), f"a whole number, as in {name}=1"
    else:
        good, instead = isinstance(value, bool), f"{name}=True or {name}=False"
    if not good and (value is not None or name in ("noreply", "connection")):
        raise TypeError(f"{name}={value!r}: no call has such a one; write {instead}")


@dataclass(frozen=True, slots=True)
class Expected:
    """What a call must be: of a command, on a key, and with these attributes."""

    wanted: Wanted
    attributes: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, wanted: Wanted, attributes: Attributes) -> Expected:
        """Return what a test has written."""
        given: dict[str, Any] = {**attributes}
        for name in given.keys() - Attributes.__annotations__.keys():
            known = ", ".join(Attributes.__annotations__)
            raise TypeError(f"a call has no {name!r} to look at; it has command, key, {known}")
        for name in given.keys() & _BYTES:
            if isinstance(given[name], str):
                given[name] = given[name].encode()
        for name, value in given.items():
            _check_attribute(name, value)
        return cls(wanted, given)

    def lacks(self, call: Call) -> list[str]:
        """Return in what a call is not what is expected."""
        wrong = []
        if not self.wanted.is_of(call):
            wrong.append("command")
        if not self.wanted.is_about(call):
            wrong.append("key")
        for name, expected in self.attributes.items():
            got = getattr(call, name)
            if got != expected:
                wrong.append(f"{name} is {shorten(got)}")
        return wrong

    def among(self, calls: Iterable[Call]) -> list[Call]:
        """Return those that are expected."""
        return [call for call in calls if not self.lacks(call)]

    def nearest(self, calls: Sequence[Call], forgotten: int) -> str:
        """Return, in a line each, those that come nearest, and what is wrong with them."""
        if not calls:
            return "there were no calls" + _forgotten(forgotten)
        # A call of another command and another key is far away; of equals the last one is nearer.
        ranked = sorted(
            enumerate(calls), key=lambda each: (_distance(self.lacks(each[1])), -each[0])
        )[:_CALLS_SHOWN]
        lines = [
            f"  {call.brief()}" + (f"  ({', '.join(wrong)})" if (wrong := self.lacks(call)) else "")
            for _, call in ranked
        ]
        more = f", of {len(calls)} the nearest" if len(calls) > len(lines) else ""
        return f"there were{more}:{_forgotten(forgotten)}\n" + "\n".join(lines)

    def __str__(self) -> str:
        words = [f"{name}={shorten(value)}" for name, value in self.attributes.items()]
        return " ".join([str(self.wanted), *words])


def _distance(wrong: list[str]) -> int:
    return sum(10 if each in ("command", "key") else 1 for each in wrong)


def _forgotten(number: int) -> str:
    return f" ({number} older ones are forgotten)" if number else ""
