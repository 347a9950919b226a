"""What a test wants of a server: the arguments of all constructors, their defaults and checks.

Each field is an argument. `taking` and `method_taking` have a function take the fields of a plan
for its arguments, with their names, types and defaults, and hand it the plan. What each is for is
said where users look, at `MemcachedServer`. What is wrong is said when it is written, and not when
a server starts.
"""

from __future__ import annotations

import inspect
import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial, wraps
from typing import Any, Concatenate, Final, Literal, ParamSpec, TypeVar, get_args, get_type_hints

from ..spelling import did_you_mean
from .checks import flag, is_whole

ClockKind = Literal["real", "frozen", "host"]
Protocol = Literal["auto", "ascii", "binary"]
Path = str | os.PathLike[str]
Tls = bool | tuple[Path, Path] | None

Arguments = ParamSpec("Arguments")
Given = TypeVar("Given")
Owner = TypeVar("Owner")
Result = TypeVar("Result")

_PORT_MAX: Final = 65535
_UNITS: Final = {"": 0, "k": 10, "m": 20, "g": 30}
_ITEM_SIZE_MIN: Final = 1 << 10
_ITEM_SIZE_MAX: Final = 1 << 30
#: What the system takes for the path of a socket.
_UNIX_PATH_MAX: Final = 107
_WRITE_TLS: Final = 'write tls=True, or tls=("chain.pem", "key.pem")'
_WRITE_USERS: Final = 'write users={"name": "password"}'


@dataclass(frozen=True, kw_only=True)
class CommonPlan:
    """How a server shall be, or both of a pair.

    Raises `ValueError` or `TypeError` with what to write instead.
    """

    memory_limit: int = 64
    max_item_size: int | str = 1 << 20
    protocol: Protocol = "auto"
    users: Mapping[str, str] | None = None
    tls: Tls = None
    clock: ClockKind = "real"
    options: Sequence[str] = ()

    def __post_init__(self) -> None:
        self._set("options", _options(self.options))
        if not is_whole(self.memory_limit) or self.memory_limit < 1:
            raise ValueError(
                f"memory_limit={self.memory_limit!r}: it is in whole megabytes, as in"
                " memory_limit=64"
            )
        size = _item_size(self.max_item_size)
        self._set("max_item_size", size)
        if 2 * size > self.memory_limit << 20 and not self.options:  # which may say otherwise
            raise ValueError(
                f"memory_limit={self.memory_limit!r}: an item may be as large as half of it, and"
                f" max_item_size is {size} bytes; write"
                f" memory_limit={max(2, -(-size >> 19))} or more, or a smaller max_item_size="
            )
        _choice("protocol", self.protocol, Protocol)
        _choice("clock", self.clock, ClockKind)
        if self.users is not None:
            self._set("users", _users(self.users, self.protocol))
        if isinstance(self.tls, tuple):
            self._set("tls", _certificate(self.tls))
        elif not isinstance(self.tls, bool | None):
            raise TypeError(f"tls={self.tls!r}: {_WRITE_TLS}")

    @property
    def item_size_bytes(self) -> int:
        """`max_item_size` as a number."""
        return int(self.max_item_size)

    def check_process(self) -> None:
        """Raise `ValueError` for what cannot be in a process of its own."""
        if self.clock == "host":
            raise ValueError(
                'clock="host" follows time.time() of this process, which a server in a process of'
                ' its own cannot see: write clock="frozen", and move it with advance()'
            )

    def _set(self, name: str, value: object) -> None:
        # Frozen: only before anybody has seen it.
        object.__setattr__(self, name, value)


@dataclass(frozen=True, kw_only=True)
class PairPlan(CommonPlan):
    """How both servers of a pair shall be."""

    process: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        flag("process", self.process)
        if self.process:
            self.check_process()


@dataclass(frozen=True, kw_only=True)
class Plan(CommonPlan):
    """How a fake shall be."""

    host: str = "127.0.0.1"
    port: int = 0
    unix_socket: Path | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if not isinstance(self.host, str) or not self.host:
            raise _wrong("host", self.host, str, 'write an address, as in host="127.0.0.1"')
        if not is_whole(self.port) or not 0 <= self.port <= _PORT_MAX:
            instead = f"a port is a number up to {_PORT_MAX}; left out it is any free one"
            raise _wrong("port", self.port, int, instead)
        if self.unix_socket is not None:
            self._set("unix_socket", _path("unix_socket", self.unix_socket))
            if self.port:
                raise ValueError(f"port={self.port}: with unix_socket= there is none; leave it out")
            size = len(os.fsencode(self.unix_socket))
            if not 0 < size <= _UNIX_PATH_MAX:
                raise ValueError(
                    f"unix_socket={self.unix_socket!r}: a path of {size} bytes, and systems take"
                    f" 1 to {_UNIX_PATH_MAX}; write a short one"
                )

    @property
    def socket_path(self) -> str | None:
        """`unix_socket` as a str."""
        return None if self.unix_socket is None else os.fspath(self.unix_socket)


@dataclass(frozen=True, kw_only=True)
class ServerPlan(Plan):
    """How a `MemcachedServer` shall be."""

    process: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        flag("process", self.process)
        if self.process:
            self.check_process()


@dataclass(frozen=True, kw_only=True)
class ServePlan(Plan):
    """How the server of `serve` shall be."""

    sockets: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        flag("sockets", self.sockets)


# -- checks ------------------------------------------------------------------------------------


def _choice(name: str, value: object, choices: object) -> None:
    known = get_args(choices)
    if value not in known:
        words = " or ".join(f'{name}="{each}"' for each in known)
        raise ValueError(f"{name}={value!r}: write {words}")


def _wrong(name: str, value: object, kind: type, instead: str) -> Exception:
    error = ValueError if isinstance(value, kind) else TypeError
    return error(f"{name}={value!r}: {instead}")


def _options(options: Sequence[str]) -> tuple[str, ...]:
    instead = 'write a list of words, as in options=["-M", "-o", "idle_timeout=5"]'
    if isinstance(options, str):
        instead = f"write a list of words, {options.split()!r}"
    elif isinstance(options, list | tuple) and all(isinstance(word, str) for word in options):
        if options and not options[0].startswith("-"):
            raise ValueError(f"options={options!r}: {options[0]!r} is no option; {instead}")
        return tuple(options)
    raise TypeError(f"options={options!r}: {instead}")


def _item_size(size: int | str) -> int:
    instead = 'write bytes, as in max_item_size=4096, or max_item_size="2m"'
    found = re.fullmatch(r"([0-9]+)([kmg]?)", size.lower()) if isinstance(size, str) else None
    if found:
        number = int(found[1]) << _UNITS[found[2]]
    elif is_whole(size):
        number = int(size)
    else:
        raise _wrong("max_item_size", size, str, instead)
    if not _ITEM_SIZE_MIN <= number <= _ITEM_SIZE_MAX:
        raise ValueError(f'max_item_size={size!r}: that is 1024 to "1g"; {instead}')
    if number % 1024:
        raise ValueError(
            f"max_item_size={size!r}: write a multiple of 1024, such as"
            f" max_item_size={number - number % 1024}"
        )
    return number


def _users(users: Mapping[str, str], protocol: str) -> dict[str, str]:
    if not isinstance(users, Mapping):
        name, colon, password = users.partition(":") if isinstance(users, str) else ("", "", "")
        instead = f'write users={{"{name}": "{password}"}}' if colon else _WRITE_USERS
        raise TypeError(f"users={users!r}: {instead}")
    if not users:
        raise ValueError(f"users={{}}: nobody could log in; {_WRITE_USERS}")
    for name, password in users.items():
        if not isinstance(name, str) or not isinstance(password, str):
            raise TypeError(f"users={users!r}: both are str; {_WRITE_USERS}")
        spaces = " " if protocol == "ascii" else ""
        if not name or any(letter in name for letter in f"{spaces}\0\r\n"):
            raise ValueError(f"users={users!r}: nobody could log in as {name!r}; {_WRITE_USERS}")
    return dict(users)


def _certificate(tls: tuple[Path, ...]) -> tuple[str, str]:
    import ssl

    if len(tls) != 2:
        raise ValueError(f"tls={tls!r}: {_WRITE_TLS}")
    # Not a generator: PyPy would say that of what it raises it cannot unpack anything.
    chain, key = [_path("tls", path) for path in tls]
    for path in (chain, key):
        try:
            os.stat(path)
        except OSError as error:
            raise ValueError(f"tls={tls!r}: {path}: {error.strerror}; {_WRITE_TLS}") from None
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(chain, key, password=lambda: "")
    except (OSError, ValueError) as error:
        reason = getattr(error, "reason", None) or getattr(error, "strerror", None) or error
        raise ValueError(
            f"tls={tls!r}: that is no certificate chain and its key, in PEM: {reason}"
        ) from None
    return chain, key


def _path(name: str, path: object) -> str:
    if isinstance(path, str | os.PathLike):
        written = os.fspath(path)
        if isinstance(written, str):
            return written
    raise TypeError(f"{name}={path!r}: a path is a str or a pathlib.Path")


# -- how functions take them -------------------------------------------------------------------


def taking(
    plan: Callable[Arguments, Given],
) -> Callable[[Callable[[Given], Result]], Callable[Arguments, Result]]:
    """Have a function take the fields of a plan for its arguments."""
    return partial(_derive, plan)


def method_taking(
    plan: Callable[Arguments, Given],
) -> Callable[[Callable[[Owner, Given], Result]], Callable[Concatenate[Owner, Arguments], Result]]:
    """Have a method take the fields of a plan for its arguments."""
    return partial(_derive, plan)


def _derive(plan: Any, function: Any) -> Any:
    own = inspect.signature(function)
    *before, _ = own.parameters.values()
    types = get_type_hints(plan)
    fields = {
        name: field.replace(annotation=types[name])
        for name, field in inspect.signature(plan).parameters.items()
    }

    @wraps(function)
    def call(*owner: Any, **arguments: Any) -> Any:
        if len(owner) > len(before):
            raise TypeError(
                f"{function.__qualname__}() takes its arguments by name, as in port=0, not"
                f" {owner[len(before)]!r}"
            )
        for name in arguments:
            if name not in fields:
                hint = did_you_mean(name, fields)
                raise TypeError(
                    f"{function.__qualname__}() got an unexpected keyword argument {name!r}{hint}"
                )
        return function(*owner, plan(**arguments))

    derived: Any = call
    derived.__signature__ = own.replace(parameters=[*before, *fields.values()])
    own_types = function.__annotations__
    derived.__annotations__ = {
        **{name: field.annotation for name, field in fields.items()},
        **{name: own_types[name] for name in own_types if name == "return"},
    }
    return call
