"""HTTP with one client: bytes in, bytes out, by h11.

One request is answered at a time, as each takes up to a millisecond: whoever has the sockets lets
others have their turn in between. What an answer needs longer for is for who answers to say
(`asked`): the answer is then due, and no more is heard before.

The one module that uses h11, which is an extra.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import unquote, urlsplit

import h11

if TYPE_CHECKING:
    from collections.abc import Iterable

Header = tuple[bytes, bytes]

#: A request, with its headers. Those of usual clients have some hundred bytes; h11 takes 1 ms and
#: more for each thousand.
REQUEST_MAX_BYTES: Final = 4 << 10

#: Pieces of a body passed over in one step, as they may be of one byte each.
_PIECES_PER_STEP: Final = 32

_SERVER: Final = (b"Server", b"pymcd")
#: What is said is of the moment.
_FRESH: Final = (b"Cache-Control", b"no-cache")


class Conversation(ABC):
    """One connection of a client. A subclass knows the answers.

    Args:
        methods: by which something can be asked.
    """

    def __init__(self, methods: Iterable[bytes] = (b"GET",)) -> None:
        self._methods = tuple(methods)
        self._http = h11.Connection(h11.SERVER, max_incomplete_event_size=REQUEST_MAX_BYTES)
        self._is_head = False
        #: The client has perhaps asked for more already: call `go_on` when that is sent.
        self.more = False
        #: Nothing more is to be said: close, once everything is sent.
        self.closing = False

    @property
    def waiting(self) -> bool:
        """Whether the client has yet to ask for something."""
        return not self.closing

    @property
    @abstractmethod
    def asked(self) -> bool:
        """Whether it has asked for something that is not answered yet."""

    @abstractmethod
    def _take(self, request: h11.Request) -> bytes:
        """Answer a request, or return b"" and have `asked` be true."""

    def receive(self, data: bytes) -> bytes:
        """Take what the client sent, b"" at its end; return what to answer now."""
        if self.closing:
            return b""
        try:
            self._http.receive_data(data)
        except h11.RemoteProtocolError as error:
            return self._end(error)
        return self.go_on()

    def go_on(self) -> bytes:
        """Return the answer to the next request, if that has come."""
        self.more = False
        pieces = 0
        while self.waiting:
            try:
                event = self._http.next_event()
            except h11.RemoteProtocolError as error:
                return self._end(error)
            if event is h11.NEED_DATA or event is h11.PAUSED:
                break
            if isinstance(event, h11.Request):
                self._is_head = event.method == b"HEAD"
                if event.method not in self._methods:
                    return self.say(
                        HTTPStatus.METHOD_NOT_ALLOWED, (b"Allow", b", ".join(self._methods))
                    )
                return self._take(event)
            if isinstance(event, h11.Data):
                pieces += 1
                if pieces >= _PIECES_PER_STEP:
                    self.more = True
                    break
            elif isinstance(event, h11.EndOfMessage):
                # It has been answered, and neither side wanted that to be the end.
                self._http.start_next_cycle()
            elif isinstance(event, h11.ConnectionClosed):
                self.closing = True
        return b""

    def say(
        self,
        status: HTTPStatus,
        *headers: Header,
        kind: bytes = b"application/json",
        body: bytes = b"",
    ) -> bytes:
        """Return an answer whose length is known."""
        self.more = True
        length = (b"Content-Length", b"%d" % len(body))
        answer = self.begin(status, *headers, length, kind=kind)
        if body and not self._is_head:
            answer += self.send(h11.Data(body))
        answer += self.send(h11.EndOfMessage())
        if self._http.our_state is h11.MUST_CLOSE:
            self.closing = True
        return answer

    def begin(
        self, status: HTTPStatus, *headers: Header, kind: bytes = b"application/json"
    ) -> bytes:
        """Return the head of an answer."""
        return self.send(
            h11.Response(
                status_code=status.value,
                reason=status.phrase.encode(),
                headers=[_SERVER, (b"Content-Type", kind), _FRESH, *headers],
            )
        )

    def send(self, event: Any) -> bytes:
        """Return the bytes of a part of an answer."""
        return self._http.send(event) or b""

    def _end(self, error: h11.RemoteProtocolError) -> bytes:
        """Return the answer to what is no HTTP, if anything has to be answered."""
        self.closing = True
        if self._http.our_state not in (h11.IDLE, h11.SEND_RESPONSE):
            return b""
        return self.say(HTTPStatus(error.error_status_hint))


def decode_path(target: bytes) -> str:
    """Return what a request asks for, which it may do by the whole address."""
    try:
        path = urlsplit(target.decode("latin-1")).path
    except ValueError:
        return ""
    return unquote(path, errors="replace").rstrip("/")
