"""What one client of a bucket asks for, and is told.

A client asks for documents, on one connection or on several, and last for the stream of its bucket:
an answer without an end, in which each new map follows when there is one. On the wire a map is a
chunk, and behind it, as a chunk of its own, stand four line ends: couchbase-client looks for that
chunk, not for the bytes.

What a login takes longer is `work`, to be done elsewhere.
"""

from __future__ import annotations

from base64 import b64decode
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final

import h11

from ..web.conversation import Conversation as WebConversation
from ..web.conversation import decode_path
from . import documents
from .documents import BUCKETS_PATH, DEFAULT_BUCKET, POOL_PATH, POOLS_PATH, STREAMING_PATH

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..auth import Exchange, Work
    from .documents import View

SEPARATOR: Final = b"\n\n\n\n"


class Conversation(WebConversation):
    """One connection of a client.

    Args:
        view: says what clients are to know now; None: they are not to be served.
        begin_check: begins to find out if that is the password of that user; None: nobody need log
            in, and there is the bucket `default`. Else each user has a bucket by the same name, and
            sees no other.
    """

    def __init__(
        self,
        view: Callable[[], View | None],
        begin_check: Callable[[bytes, bytes], Exchange] | None = None,
    ) -> None:
        super().__init__()
        self._view = view
        self._begin_check = begin_check
        #: To be done, and `resume` told what came of it, before there is an answer.
        self.work: Work | None = None
        #: Who is being looked at, for what request.
        self._looked_at: tuple[Exchange, bytes, h11.Request] | None = None
        #: What the client streams; None: nothing.
        self.streaming: str | None = None
        #: The view that the client was told last by its stream.
        self.told: View | None = None
        #: The client has not proven who it is.
        self.refused = False

    @property
    def waiting(self) -> bool:
        """Whether the client has yet to ask for something."""
        return self.streaming is None and not self.closing

    @property
    def asked(self) -> bool:
        return self.work is not None

    def receive(self, data: bytes) -> bytes:
        if self.streaming is not None and not self.closing:
            # What a client says while it listens means nothing, and is not kept.
            self.closing = not data
            return b""
        return super().receive(data)

    def resume(self, result: Any) -> bytes:
        """Go on with what came of `work`; return what to answer."""
        assert self._looked_at is not None
        exchange, name, request = self._looked_at
        self.work = self._looked_at = None
        return self._look(exchange, name, request, result)

    def publish(self) -> bytes:
        """Return the present map for the stream; ends it where there is none.

        The first one is not to follow the request at once: see `server.couchbase`.
        """
        assert self.streaming is not None
        self.told = self._view()
        if self.told is None:
            return self.end()
        document = documents.encode(documents.bucket(self.streaming, self.told))
        return self.send(h11.Data(document)) + self.send(h11.Data(SEPARATOR))

    def end(self) -> bytes:
        """Return what ends the stream; the client comes again, here or elsewhere."""
        self.closing = True
        return self.send(h11.EndOfMessage())

    # -- requests ------------------------------------------------------------------------------

    def _take(self, request: h11.Request) -> bytes:
        """Answer a request, unless it must be looked at first who makes it."""
        if self._begin_check is None:
            return self._answer(request, DEFAULT_BUCKET)
        login = _login_of(request)
        if login is None:
            return self._answer(request, None)
        return self._look(self._begin_check(*login), login[0], request, b"")

    def _look(self, exchange: Exchange, name: bytes, request: h11.Request, said: Any) -> bytes:
        outcome = exchange.step(said)
        if callable(outcome):
            self.work = outcome
            self._looked_at = (exchange, name, request)
            return b""
        return self._answer(request, _text_of(name) if exchange.succeeded else None)

    def _answer(self, request: h11.Request, name: str | None) -> bytes:
        """Answer who may see the bucket of that name, or none."""
        if name is None:
            # One guess for each connection.
            self.refused = True
            challenge = (b"WWW-Authenticate", b'Basic realm="bucket"')
            return self.say(HTTPStatus.UNAUTHORIZED, challenge, (b"Connection", b"close"))
        view = self._view()
        if view is None:
            return self.say(HTTPStatus.SERVICE_UNAVAILABLE)
        if decode_path(request.target) == f"{STREAMING_PATH}/{name}":
            self.streaming = name
            # A chunked answer: its length is not known.
            self.more = True
            return self.begin(HTTPStatus.OK)
        found: dict[str, Callable[[], Any]] = {
            POOLS_PATH: documents.pools,
            POOL_PATH: lambda: documents.pool(view),
            BUCKETS_PATH: lambda: [documents.bucket(name, view)],
            f"{BUCKETS_PATH}/{name}": lambda: documents.bucket(name, view),
        }
        make = found.get(decode_path(request.target))
        if make is None:
            return self.say(HTTPStatus.NOT_FOUND)
        return self.say(HTTPStatus.OK, body=documents.encode(make()))


def _login_of(request: h11.Request) -> tuple[bytes, bytes] | None:
    """Return the name and the password that a client says first; None: it says none."""
    for header, value in request.headers:
        scheme, _, token = value.partition(b" ")
        if header == b"authorization" and scheme.lower() == b"basic":
            try:
                name, colon, password = b64decode(token, validate=True).partition(b":")
            except ValueError:
                return None
            return (name, password) if colon else None
    return None


def _text_of(name: bytes) -> str | None:
    try:
        return name.decode()
    except UnicodeDecodeError:
        return None
