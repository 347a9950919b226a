"""OpenSSL's queue of errors: it belongs to the thread, and so to all of a server's clients.

Whoever has nothing to read yet is told so only while the queue is empty. Of what is left in it by
one client, OpenSSL thinks that it has happened to the next. CPython empties it whenever it raises
an error; PyPy (8.0) does not, and one client with a spoilt record would take others with it.
"""

from __future__ import annotations

import ssl
import sys
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Callable

_ENDED: Final = ssl.MemoryBIO()
_ENDED.write_eof()


def forget_errors() -> None:
    """Empty the queue of this thread."""
    try:
        _ENDED.write(b"x")
    except ssl.SSLError:
        pass  # of its own making, and with it gone: nothing else that is public empties the queue


def _forgetting(method: Callable[..., Any]) -> Callable[..., Any]:
    def call(*arguments: Any) -> Any:
        try:
            return method(*arguments)
        except ssl.SSLWantReadError:
            raise  # the queue was empty
        except ssl.SSLError:
            forget_errors()
            raise

    return call


class ForgettingObject(ssl.SSLObject):
    """TLS without a socket, which keeps its errors to itself."""

    do_handshake = _forgetting(ssl.SSLObject.do_handshake)
    read = _forgetting(ssl.SSLObject.read)
    write = _forgetting(ssl.SSLObject.write)
    unwrap = _forgetting(ssl.SSLObject.unwrap)


def keep_apart(context: ssl.SSLContext) -> ssl.SSLContext:
    """Return the context, made such that no error of one connection is told of another."""
    if sys.implementation.name == "pypy":
        context.sslobject_class = ForgettingObject
    return context
