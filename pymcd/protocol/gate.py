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


class Changes(Protocol):
    """What has changed and was not sent yet."""

    @property
    def pending(self) -> bool: ...


class Gate(Protocol):
    """The part of the member that decides about single commands."""

    @property
    def clock(self) -> Clock: ...
    @property
    def changes(self) -> Changes: ...

    open_until: float  #: nothing may be executed later, on the monotonic clock
    leading: bool  #: changes are made here
    remote: bool  #: everything is forwarded, reads too
    protecting: bool  #: replies wait for acknowledgement
    refusing: bool  #: nothing may be changed at all
    settled: int  #: items with a later cas unique are not acknowledged
    holding: list[Waiter]  #: for what was changed in this turn

    @property
    def unsettled(self) -> bool: ...
    def begin_batch(self) -> None: ...
    def hold(self, waiter: Waiter) -> None: ...
    def forward(self, waiter: Waiter, protocol: str, commands: bytes) -> None: ...
    def wait_open(self, waiter: Waiter) -> None: ...
    def tick(self) -> None: ...
    def rows(self) -> list[tuple[str, str | int | float]]: ...
