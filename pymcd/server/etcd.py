"""HTTP with the members of an etcd, by h11: carries what `replication.etcd` asks, and no more.

A connection stays open for the next request. What is asked while another request is under way
goes over a connection of its own, so that a member that has to wait, for an election of theirs,
say, keeps nothing back that could be answered meanwhile. The core bounds how many there are.

A connection that has been idle may have been closed by the other side: what is posted over it and
meets its end is posted once more over a new one. That may do it twice, which makes no difference.
"""

from __future__ import annotations

import os
import ssl
from functools import partial
from typing import TYPE_CHECKING, Final

import h11
import trio

from .. import __version__
from ..addresses import split_address
from ..exits import EXIT_USAGE, ConfigError
from ..replication.etcd import REQUESTS_MAX
from .certificates import reason_of
from .peering import why_unreachable
from .tlsqueue import keep_apart

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..etcdurl import EtcdUrl
    from ..replication.etcd import Request

RECEIVE_BYTES: Final = 16 << 10
#: An answer holds one value of some hundred bytes.
ANSWER_MAX_BYTES: Final = 256 << 10
#: Kept open to one member, for the next requests.
IDLE_MAX: Final = 2
_PASSWORD_MAX_BYTES: Final = 4096
_HEADERS: Final = [
    (b"Content-Type", b"application/json"),
    (b"User-Agent", f"pymcd/{__version__}".encode()),
]


class Access:
    """What it takes to be let in: the files that the URL names. Read again on SIGHUP."""

    def __init__(self, url: EtcdUrl) -> None:
        """Raise `ConfigError` if a file is of no use."""
        self.url = url
        # A daemon changes its directory.
        self._files = {name: os.path.abspath(path) for name, path in url.files.items()}
        self.login, self.context = self._load()

    @property
    def connections_max(self) -> int:
        """To all members, at the same time."""
        return (REQUESTS_MAX + IDLE_MAX) * len(self.url.endpoints)

    def refresh(self) -> str:
        """Read the files again, in a thread perhaps; if one is of no use, keep what there was.

        Return what is wrong, or nothing.
        """
        try:
            self.login, self.context = self._load()
        except ConfigError as error:
            return error.message
        return ""

    def _load(self) -> tuple[tuple[str, str] | None, ssl.SSLContext | None]:
        return self._load_login(), self._load_context() if self.url.tls else None

    def _load_login(self) -> tuple[str, str] | None:
        url, path = self.url, self._files.get("password-file")
        if url.user is None:
            return None
        if path is None:
            assert url.password is not None
            return url.user, url.password
        try:
            with open(path, "rb") as file:
                password = file.read(_PASSWORD_MAX_BYTES).splitlines()[0].decode()
        except OSError as error:
            raise _refusal(path, reason_of(error)) from None
        except IndexError:
            raise _refusal(path, "it is empty") from None
        except UnicodeDecodeError:
            raise _refusal(path, "it is no text") from None
        return url.user, password

    def _load_context(self) -> ssl.SSLContext:
        context = keep_apart(ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT))
        path = self._files.get("cacert")
        try:
            if path is None:
                context.load_default_certs()
            else:
                context.load_verify_locations(path)
            path = self._files.get("cert")
            if path is not None:
                # Who has a password for the key cannot be asked.
                context.load_cert_chain(path, self._files["key"], lambda: "")
        except OSError as error:
            assert path is not None
            raise _refusal(path, reason_of(error)) from None
        return context


def _refusal(path: str, reason: str) -> ConfigError:
    return ConfigError(f"ERROR: --witness: cannot use {path}: {reason}", EXIT_USAGE)


class Connection:
    """One connection to a member."""

    def __init__(self, sock: trio.SocketStream, stream: trio.abc.Stream, host: str) -> None:
        """`stream` is that of the socket, or what speaks TLS over it."""
        self._sock = sock
        self._stream = stream
        self._host = host.encode()
        self._http = h11.Connection(h11.CLIENT)
        self.heard = False  #: anything, since the last request

    async def post(self, path: str, body: bytes, token: str) -> tuple[int, bytes]:
        """Return the status and the body of the answer; raise as `EtcdCourier._carry` knows."""
        http = self._http
        self.heard = False
        headers = [*_HEADERS, (b"Host", self._host), (b"Content-Length", b"%d" % len(body))]
        if token:
            headers.append((b"Authorization", token.encode()))
        request = h11.Request(method=b"POST", target=path.encode(), headers=headers)
        data = b"".join(http.send(each) or b"" for each in (request, h11.Data(body)))
        await self._stream.send_all(data + (http.send(h11.EndOfMessage()) or b""))
        status, pieces, size = 0, [], 0
        while True:
            event = http.next_event()
            if event is h11.NEED_DATA:
                received = bytes(await self._stream.receive_some(RECEIVE_BYTES))
                self.heard = self.heard or bool(received)
                if not received and http.their_state is h11.SEND_RESPONSE:
                    raise h11.RemoteProtocolError("it closed the connection")
                http.receive_data(received)
            elif isinstance(event, h11.Response):
                status = event.status_code
            elif isinstance(event, h11.Data):
                pieces.append(bytes(event.data))
                size += len(event.data)
                if size > ANSWER_MAX_BYTES:
                    raise h11.RemoteProtocolError("its answer is too long")
            elif isinstance(event, h11.EndOfMessage):
                return status, b"".join(pieces)
            elif isinstance(event, h11.ConnectionClosed) or event is h11.PAUSED:
                raise h11.RemoteProtocolError("the connection was closed")

    def is_reusable(self) -> bool:
        """Return whether another request may follow."""
        if self._http.states != {h11.CLIENT: h11.DONE, h11.SERVER: h11.DONE}:
            return False
        self._http.start_next_cycle()
        return True

    def abandon(self) -> None:
        """Part without further words, and without waiting."""
        self._sock.socket.close()


class EtcdCourier:
    """Carries requests to all members of one etcd. `run` has to run for that.

    `deliver` is given what tells the core what came of a request.
    """

    def __init__(
        self,
        access: Access,
        *,
        deliver: Callable[[Callable[[], None]], None],
        on_error: Callable[[Exception], None],
    ) -> None:
        self._access = access
        self._deliver = deliver
        self._on_error = on_error
        self._early: list[Request] = []  #: asked before `run`
        self._nursery: trio.Nursery | None = None
        self._scopes: dict[Request, trio.CancelScope] = {}  #: of what is under way
        self._idle: dict[str, list[Connection]] = {}

    @property
    def login(self) -> tuple[str, str] | None:
        """User and password, if there is to be a login."""
        return self._access.login

    def post(self, request: Request) -> None:
        """Begin to carry a request."""
        if self._nursery is None:
            self._early.append(request)
            return
        self._scopes[request] = trio.CancelScope()
        self._nursery.start_soon(self._carry, request)

    def give_up(self, request: Request) -> None:
        """Nobody waits for that any more."""
        scope = self._scopes.get(request)
        if scope is not None:
            scope.cancel()
        elif request in self._early:
            self._early.remove(request)

    async def run(self) -> None:
        """Carry what there is, until cancelled."""
        try:
            async with trio.open_nursery() as nursery:
                self._nursery = nursery
                early, self._early = self._early, []
                for request in early:
                    self.post(request)
                await trio.sleep_forever()
        finally:
            self._nursery = None
            for connections in self._idle.values():
                for connection in connections:
                    connection.abandon()
            self._idle.clear()

    async def _carry(self, request: Request) -> None:
        reason = ""
        status, body = 0, b""
        try:
            with self._scopes[request] as scope:
                status, body = await self._exchange(request)
        except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
            cause = error.__cause__
            reason = reason_of(cause) if isinstance(cause, OSError) else "the connection was lost"
        except h11.ProtocolError as error:
            reason = f"does not answer in HTTP: {error}"
        except (OSError, UnicodeError) as error:
            reason = why_unreachable(error)
        except Exception as error:
            self._on_error(error)
            reason = "a fault in this server"
        finally:
            del self._scopes[request]
        if scope.cancelled_caught:
            return
        if reason:
            self._deliver(partial(request.owner.failed, request, reason))
        else:
            self._deliver(partial(request.owner.answered, request, status, body))

    async def _exchange(self, request: Request) -> tuple[int, bytes]:
        name = request.member.name
        idle = self._idle.setdefault(name, [])
        while True:
            waited = bool(idle)
            connection = idle.pop() if idle else await self._connect(name)
            kept = False
            try:
                answer = await connection.post(request.path, request.body, request.token)
                kept = len(idle) < IDLE_MAX and connection.is_reusable()
                if kept:
                    idle.append(connection)
                return answer
            except (trio.BrokenResourceError, h11.ProtocolError):
                if not waited or connection.heard:
                    raise
            finally:
                if not kept:
                    connection.abandon()

    async def _connect(self, name: str) -> Connection:
        host, port = split_address(name)
        assert port is not None  # the URL has it
        sock = await trio.open_tcp_stream(host, port)
        context = self._access.context
        if context is None:
            return Connection(sock, sock, name)
        secured = trio.SSLStream(sock, context, server_hostname=host, https_compatible=True)
        return Connection(sock, secured, name)
