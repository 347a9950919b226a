"""What a test wants of a server: the arguments of all constructors, their defaults and checks.

Each field is an argument. `taking` and `method_taking` have a function take the fields of a plan
for its arguments, with their names, types and defaults, and hand it the plan. What each is for is
said where users look, at `MemcachedServer`.
"""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from functools import partial, wraps
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, TypeVar

from ..spelling import did_you_mean

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

CLOCKS = ("real", "frozen", "host")
PROTOCOLS = ("auto", "ascii", "binary")

Arguments = ParamSpec("Arguments")
Given = TypeVar("Given")
Owner = TypeVar("Owner")
Result = TypeVar("Result")


@dataclass(frozen=True, kw_only=True)
class PairPlan:
    """How both servers of a pair shall be.

    Raises `ValueError` or `TypeError` with what to write instead.
    """

    memory_limit: int = 64
    max_item_size: int = 1 << 20
    clock: str = "real"
    options: Sequence[str] = ()

    def __post_init__(self) -> None:
        if self.clock not in CLOCKS:
            raise ValueError(f'clock={self.clock!r}: write "real", "frozen" or "host"')
        if isinstance(self.options, str):
            words = self.options.split()
            raise TypeError(f"options={self.options!r}: write a list of words, {words!r}")
        if not isinstance(self.memory_limit, int) or self.memory_limit < 1:
            raise ValueError(f"memory_limit={self.memory_limit!r}: it is in whole megabytes, as -m")
        self._set("options", tuple(self.options))

    def _set(self, name: str, value: object) -> None:
        # Frozen: only before anybody has seen it.
        object.__setattr__(self, name, value)


@dataclass(frozen=True, kw_only=True)
class Plan(PairPlan):
    """How a fake shall be."""

    host: str = "127.0.0.1"
    port: int = 0
    unix_socket: str | None = None
    protocol: str = "auto"
    users: Mapping[str, str] | None = None
    tls: bool | tuple[str, str] | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.protocol not in PROTOCOLS:
            raise ValueError(f"protocol={self.protocol!r}: write one of {', '.join(PROTOCOLS)}")
        if self.users is not None:
            if not self.users:
                raise ValueError('users={}: nobody could log in; write users={"name": "password"}')
            self._set("users", dict(self.users))
        tls = self.tls
        if not isinstance(tls, bool | None) and not (isinstance(tls, tuple) and len(tls) == 2):
            raise ValueError(f'tls={tls!r}: write tls=True, or tls=("chain.pem", "key.pem")')

    def check_process(self) -> None:
        """Raise `ValueError` for what cannot be in a process of its own."""
        if self.clock == "host":
            raise ValueError(
                'clock="host" follows time.time() of this process, which a server in a process of'
                ' its own cannot see: write clock="frozen", and move it with advance()'
            )


@dataclass(frozen=True, kw_only=True)
class ServerPlan(Plan):
    """How a `MemcachedServer` shall be."""

    process: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.process:
            self.check_process()


@dataclass(frozen=True, kw_only=True)
class ServePlan(Plan):
    """How the server of `serve` shall be."""

    sockets: bool = False


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
    fields = inspect.signature(plan).parameters

    @wraps(function)
    def call(*owner: Any, **arguments: Any) -> Any:
        for name in arguments:
            if name not in fields:
                hint = did_you_mean(name, fields)
                raise TypeError(
                    f"{function.__qualname__}() got an unexpected keyword argument {name!r}{hint}"
                )
        return function(*owner, plan(**arguments))

    derived: Any = call
    derived.__signature__ = own.replace(parameters=[*before, *fields.values()])
    return call
