"""A server that a tool has a longer talk with, as its client: for those that move items.

Blocking sockets, one talk at a time. What goes wrong is an `AskError`, in words to be put behind
the server's address.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final, Self, TypeVar

from ..moving.talk import BusyError, Door, TalkError, greet
from .asking import AskError, connected, in_words

if TYPE_CHECKING:
    import types
    from collections.abc import Callable

    from ..moving.talk import Talk
    from .asking import Access, Place

    Result = TypeVar("Result")

#: For how long a server that is busy is asked again, and how often.
BUSY_S: Final = 30.0
_BUSY_RETRY_S: Final = 0.5
_RECEIVE_BYTES: Final = 256 << 10


class Visit:
    """A connection to a server, by which talks are held one after the other."""

    def __init__(self, place: Place, access: Access) -> None:
        """Connect, and log in if that is wanted; raise `AskError`."""
        with in_words():
            self._stream = connected(*place, access)
        try:
            self.talk(greet(_door_of(access)))
        except BaseException:
            self._stream.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: types.TracebackType | None,
    ) -> None:
        self._stream.close()

    def talk(self, talk: Talk[Result]) -> Result:
        """Hold a talk and return its result, or raise `AskError`."""
        try:
            with in_words():
                try:
                    to_send = next(talk)
                    while True:
                        if to_send:
                            self._stream.sendall(to_send)
                        to_send = talk.send(self._receive())
                except StopIteration as end:
                    result: Result = end.value
                    return result
        except TalkError as error:
            raise AskError(str(error)) from error

    def _receive(self) -> bytes:
        try:
            return self._stream.recv(_RECEIVE_BYTES)
        except ConnectionResetError:
            return b""


def patiently(visit: Callable[[], Result]) -> Result:
    """Return what a visit brings, made again while the server is busy."""
    until = time.monotonic() + BUSY_S
    while True:
        try:
            return visit()
        except AskError as error:
            if not isinstance(error.__cause__, BusyError) or time.monotonic() >= until:
                raise
        time.sleep(_BUSY_RETRY_S)


def _door_of(access: Access) -> Door:
    login = f"{access.user} {access.password}" if access.user else ""
    return Door(login.encode(errors="surrogateescape"), login_option="--user", tls_option="--tls")
