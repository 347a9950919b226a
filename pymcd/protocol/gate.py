"""What connections ask of the member of a group that stands behind the cache, and are told.

A leaf; the members themselves are in another layer, which knows no protocol.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from ..clock import Clock


class Waiter(Protocol):
    """A connection whose commands wait."""

    @property
    def held_request(self) -> bytes: ...
    @property
    def held_protocol(self) -> str: ...
    def released(self) -> None: ...
    def answered(self, reply: bytes) -> None: ...
    def resumed(self) -> None: ...
    def abandoned(self) -> None: ...


class Stance(Protocol):
    """What the member's role means to single commands."""

    @property
    def leading(self) -> bool: ...  #: changes are made here
    @property
    def remote(self) -> bool: ...  #: everything is forwarded, reads too
    @property
    def protecting(self) -> bool: ...  #: replies wait for acknowledgement
    @property
    def refusing(self) -> bool: ...  #: nothing may be changed at all


class Commits(Protocol):
    """Whose replies wait for acknowledgement."""

    watermark: int  #: items with a later cas unique are not acknowledged
    holding: list[Waiter]  #: for what was changed in this turn

    def begin_batch(self) -> None: ...


class Gate(Protocol):
    """The part of the member that decides about single commands."""

    open_until: float  #: nothing may be executed later, on the monotonic clock

    @property
    def clock(self) -> Clock: ...
    @property
    def stance(self) -> Stance: ...
    @property
    def commits(self) -> Commits: ...
    @property
    def unacked(self) -> bool: ...
    def hold(self, waiter: Waiter) -> None: ...
    def forward(self, waiter: Waiter, protocol: str, commands: bytes) -> None: ...
    def wait_open(self, waiter: Waiter) -> None: ...
    def tick(self) -> None: ...
    def rows(self) -> list[tuple[str, str | int | float]]: ...
