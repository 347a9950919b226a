"""Commands about the server itself: version, quit, verbosity, flush_all, stats and others."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from .. import limits
from .framing import Verb

if TYPE_CHECKING:
    from .connection import Connection


def _version(connection: Connection, tokens: list[bytes]) -> None:
    connection.reply(b"VERSION %b\r\n" % limits.MEMCACHED_VERSION.encode())


def _quit(connection: Connection, tokens: list[bytes]) -> None:
    connection.close()


ADMIN_VERBS: Final[dict[bytes, Verb]] = {
    b"version": Verb(_version),
    b"quit": Verb(_quit),
}
