"""HTTP with one client: bytes in, bytes out, by h11.

One request is answered at a time, as each takes up to a millisecond: whoever has the sockets lets
others have their turn in between. What a login takes longer is `work`, to be done elsewhere.

A client asks for documents, on one connection or on several, and last for the stream of its bucket:
an answer without an end, in which each new map follows when there is one. On the wire a map is a
chunk, and behind it, as a chunk of its own, stand four line ends: couchbase-client looks for that
chunk, not for the bytes.

The one module that uses h11, which is an extra.
"""

from __future__ import annotations

from base64 import b64decode
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import unquote, urlsplit

import h11

from . import documents
from .documents import BUCKETS_PATH, DEFAULT_BUCKET, POOL_PATH, POOLS_PATH, STREAMING_PATH

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..auth import Exchange, Work
    from .documents import View

#: A request, with its headers. Those of couchbase-client have some hundred bytes; h11 takes 1 ms
#: and more for each thousand.
REQUEST_MAX_BYTES: Final = 4 << 10
SEPARATOR: Final = b"\n\n\n\n"

_SERVER: Final = (b"Server", b"pymcd")
#: Maps are of the moment.
_HEADERS: Final = [_SERVER, (b"Content-Type", b"application/json"), (b"Cache-Control", b"no-cache")]


class Conversation:
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
        self._view = view
        self._begin_check = begin_check
        self._http = h11.Connection(h11.SERVER, max_incomplete_event_size=REQUEST_MAX_BYTES)
        #: The client has perhaps asked for more already: call `go_on` when that is sent.
        self.more = False
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
        #: Nothing more is to be said: close, once everything is sent.
        self.closing = False

    @property
    def waiting(self) -> bool:
        """Whether the client has yet to ask for something."""
        return self.streaming is None and not self.closing

    def receive(self, data: bytes) -> bytes:
        """Take what the client sent, b"" at its end; return what to answer now."""
        if self.closing:
            return b""
        if self.streaming is not None:
            # What a client says while it listens means nothing, and is not kept.
            self.closing = not data
            return b""
        try:
            self._http.receive_data(data)
        except h11.RemoteProtocolError as error:
            return self._end(error)
        return self.go_on()

    def go_on(self) -> bytes:
        """Return the answer to the next request, if that has come."""
        self.more = False
        while self.waiting:
            try:
                event = self._http.next_event()
            except h11.RemoteProtocolError as error:
                return self._end(error)
            if event is h11.NEED_DATA or event is h11.PAUSED:
                break
            if isinstance(event, h11.Request):
                return self._take(event)
            if isinstance(event, h11.EndOfMessage):
                # It has been answered, and neither side wanted that to be the end.
                self._http.start_next_cycle()
            elif isinstance(event, h11.ConnectionClosed):
                self.closing = True
        return b""

    def resume(self, result: Any) -> bytes:
        """Go on with what came of `work`; return what to answer."""
        assert self._looked_at is not None
        exchange, name, request = self._looked_at
        self.work = self._looked_at = None
        return self._look(exchange, name, request, result)

    def _end(self, error: h11.RemoteProtocolError) -> bytes:
        self.closing = True
        return self._refusal(error.error_status_hint)

    def publish(self) -> bytes:
        """Return the present map for the stream; ends it where there is none.

        The first one is not to follow the request at once: see `server.couchbase`.
        """
        assert self.streaming is not None
        self.told = self._view()
        if self.told is None:
            return self.end()
        document = documents.encode(documents.bucket(self.streaming, self.told))
        return self._send(h11.Data(document)) + self._send(h11.Data(SEPARATOR))

    def end(self) -> bytes:
        """Return what ends the stream; the client comes again, here or elsewhere."""
        self.closing = True
        return self._send(h11.EndOfMessage())

    # -- requests ------------------------------------------------------------------------------

    def _take(self, request: h11.Request) -> bytes:
        """Answer a request, unless it must be looked at first who makes it."""
        if request.method != b"GET":
            self.more = True
            return self._say(HTTPStatus.METHOD_NOT_ALLOWED, (b"Allow", b"GET"))
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
        self.more = True
        if name is None:
            # One guess for each connection.
            self.refused = True
            challenge = (b"WWW-Authenticate", b'Basic realm="bucket"')
            return self._say(HTTPStatus.UNAUTHORIZED, challenge, (b"Connection", b"close"))
        view = self._view()
        if view is None:
            return self._say(HTTPStatus.SERVICE_UNAVAILABLE)
        if _path(request.target) == f"{STREAMING_PATH}/{name}":
            self.streaming = name
            # A chunked answer: its length is not known.
            return self._send(h11.Response(status_code=200, headers=_HEADERS))
        found: dict[str, Callable[[], Any]] = {
            POOLS_PATH: documents.pools,
            POOL_PATH: lambda: documents.pool(view),
            BUCKETS_PATH: lambda: [documents.bucket(name, view)],
            f"{BUCKETS_PATH}/{name}": lambda: documents.bucket(name, view),
        }
        make = found.get(_path(request.target))
        if make is None:
            return self._say(HTTPStatus.NOT_FOUND)
        return self._say(HTTPStatus.OK, body=documents.encode(make()))

    def _say(self, status: HTTPStatus, *headers: tuple[bytes, bytes], body: bytes = b"") -> bytes:
        length = (b"Content-Length", b"%d" % len(body))
        response = h11.Response(
            status_code=status.value,
            reason=status.phrase.encode(),
            headers=[*_HEADERS, *headers, length],
        )
        parts = [response, h11.Data(body)] if body else [response]
        answer = b"".join(self._send(part) for part in [*parts, h11.EndOfMessage()])
        if self._http.our_state is h11.MUST_CLOSE:
            self.closing = True
        return answer

    def _refusal(self, status: int) -> bytes:
        """Return the answer to what is no HTTP, if anything has to be answered."""
        if self._http.our_state not in (h11.IDLE, h11.SEND_RESPONSE):
            return b""
        return self._say(HTTPStatus(status))

    def _send(self, event: Any) -> bytes:
        return self._http.send(event) or b""


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


def _path(target: bytes) -> str:
    """Return what a request asks for. The stream is asked for with the whole address."""
    try:
        path = urlsplit(target.decode("latin-1")).path
    except ValueError:
        return ""
    return unquote(path, errors="replace").rstrip("/")
