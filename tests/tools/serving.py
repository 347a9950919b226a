"""A server on a thread for tools that ask one: it says what a function makes of what it hears."""

from __future__ import annotations

import socket
import threading
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable

    Answer = Callable[[bytes], bytes | None]


class SmallServer:
    """Serves one client at a time: what `answer_of()` returns answers what it sends.

    None closes the connection, and `closes` has the first answer be the last. `path`: of a Unix
    socket.
    """

    def __init__(
        self,
        answer_of: Callable[[], Answer],
        tls: ssl.SSLContext | None = None,
        *,
        closes: bool = False,
        path: str = "",
    ) -> None:
        self._answer_of = answer_of
        self._tls = tls
        self._closes = closes
        if path:
            self._listener = socket.socket(socket.AF_UNIX)
            self._listener.bind(path)
            self._listener.listen()
            self.port, self.address = 0, path
        else:
            self._listener = socket.create_server(("127.0.0.1", 0))
            self.port = self._listener.getsockname()[1]
            self.address = f"127.0.0.1:{self.port}"
        self._thread = threading.Thread(target=self._serve)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)  # wakes the thread
        self._thread.join()
        self._listener.close()

    def _serve(self) -> None:
        while True:
            try:
                stream, _ = self._listener.accept()
            except OSError:
                return
            with stream:
                try:
                    self._talk(stream)
                except OSError:
                    pass  # the client has gone, or does not want us

    def _talk(self, stream: socket.socket) -> None:
        if self._tls is not None:
            stream = self._tls.wrap_socket(stream, server_side=True)
        with stream:
            answer = self._answer_of()
            while data := stream.recv(1 << 16):
                said = answer(data)
                if said is None:
                    break
                stream.sendall(said)
                if self._closes:
                    break
