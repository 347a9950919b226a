"""Ways in which clients come to the nodes: the protocol, a login, TLS, a Unix socket, a bucket.

What a user varies, each trial can vary: `Pair.way` says how its nodes listen and how its clients
come in. `Talk` is the connection of one client, and the only place where there is a handshake or a
login; a connection that is made anew goes through both again.
"""

from __future__ import annotations

import atexit
import base64
import json
import socket
import ssl
import tempfile
import urllib.request
from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, Self

from conformance.tls import HOST, shared_identity
from conformance.trial import TrialError

from .tongues import HEADER, Binary, Meta, Text, Tongue, encode_request

RECEIVE_BYTES = 1 << 18
#: All clients of a trial wait meanwhile.
MAP_TIMEOUT_S = 0.2
USER = "trials"
PASSWORD = "not-a-secret"

#: Yields what to say, is sent the answer; at its end the client is in.
Login = Generator[bytes, bytes, None]


@cache
def _folder() -> Path:
    """Return a folder with a file that knows our user, and one that allows no SASL but PLAIN."""
    folder = tempfile.TemporaryDirectory(prefix="conformance-", ignore_cleanup_errors=True)
    atexit.register(folder.cleanup)
    path = Path(folder.name)
    (path / "users").write_text(f"{USER}:{PASSWORD}\n")
    (path / "plain.conf").write_text("mech_list: plain\n")
    # The user that nodes run as reads them.
    path.chmod(0o755)
    for each in path.iterdir():
        each.chmod(0o644)
    return path


@cache
def client_context() -> ssl.SSLContext:
    return shared_identity().client()


# -- logins --------------------------------------------------------------------------------------

SASL_AUTH, SASL_STEP = 0x21, 0x22
AUTH_CONTINUE = 0x21


def _sasl(opcode: int, mechanism: str, message: bytes) -> Generator[bytes, bytes, bytes]:
    answer = yield encode_request(opcode, mechanism.encode(), value=message)
    status = HEADER.unpack_from(answer)[5]
    if status not in (0, AUTH_CONTINUE):
        raise TrialError(f"{mechanism}: refused with {status:#x} {answer[24:]!r}")
    return answer[HEADER.size :]


def plain() -> Login:
    yield from _sasl(SASL_AUTH, "PLAIN", f"\0{USER}\0{PASSWORD}".encode())


def scram() -> Login:
    import scramp  # an extra

    client = scramp.ScramClient(["SCRAM-SHA-256"], USER, PASSWORD)
    name = client.mechanism_name
    answer = yield from _sasl(SASL_AUTH, name, client.get_client_first().encode())
    client.set_server_first(answer.decode())
    answer = yield from _sasl(SASL_STEP, name, client.get_client_final().encode())
    client.set_server_final(answer.decode())
    yield from _sasl(SASL_STEP, name, b"")


def in_text() -> Login:
    value = f"{USER} {PASSWORD}".encode()
    answer = yield b"set login 0 0 %d\r\n%b\r\n" % (len(value), value)
    if answer != b"STORED\r\n":
        raise TrialError(f"-Y: refused with {answer!r}")


# -- ways ----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Way:
    """How nodes listen for clients, and how these come in."""

    name: str
    tongue: Callable[[], Tongue] = Text
    login: Callable[[], Login] | None = None
    tls: bool = False
    unix: bool = False
    bucket: bool = False  #: a bucket's map says to which node, and that is the coordinator

    def switches(self) -> list[str]:
        """Return what a node is started with."""
        switches = []
        if self.login is in_text:
            switches += ["-Y", str(_folder() / "users")]
        elif self.login is not None:
            switches.append("-S")
        if self.tls:
            switches += shared_identity().switches()
        if self.unix:
            switches += ["-s", "{folder}/socket"]
        return switches

    def environment(self) -> dict[str, str]:
        if self.login in (None, in_text):
            return {}
        found = {"MEMCACHED_SASL_PWDB": str(_folder() / "users")}
        if self.login is plain:
            found["SASL_CONF_PATH"] = str(_folder() / "plain.conf")
        return found


TEXT = Way("text")
WAYS = {
    way.name: way
    for way in (
        TEXT,
        Way("binary", Binary),
        Way("meta", Meta),
        Way("login", login=in_text),
        Way("meta-login", Meta, in_text),
        Way("sasl", Binary, plain),
        Way("scram", Binary, scram),
        Way("tls", tls=True),
        Way("tls-login", login=in_text, tls=True),
        Way("tls-sasl", Binary, plain, tls=True),
        Way("unix", unix=True),
        Way("unix-sasl", Binary, plain, unix=True),
        Way("bucket", Binary, plain, bucket=True),
    )
}


class Talk:
    """One client's connection: text goes in and comes out, whatever is spoken on the way.

    Nothing is waited for unless the socket blocks: what is said before the client is in goes out
    when it is.
    """

    def __init__(self, stream: socket.socket, way: Way = TEXT) -> None:
        self._stream = stream
        self._tongue = way.tongue()
        self._login = None if way.login is None else way.login()
        self._shaken = not way.tls
        self._begun = False
        self._unsent = b""
        self._answer = b""  #: to what was said for the login; more may come
        self._text = b""  #: not taken yet
        if way.tls:
            self._stream = client_context().wrap_socket(
                stream, server_hostname=HOST, do_handshake_on_connect=False
            )

    def enter(self, timeout_s: float) -> Self:
        """Wait until the client is in."""
        self._stream.settimeout(timeout_s)
        try:
            self._begin()
            while self._login is not None:
                self._text += self._hear(self._receive())
        except BaseException:
            self.close()
            raise
        return self

    def _begin(self) -> None:
        if not self._shaken:
            assert isinstance(self._stream, ssl.SSLSocket)
            try:
                self._stream.do_handshake()
            except ssl.SSLWantReadError:
                raise BlockingIOError from None
            self._shaken = True
        if not self._begun:
            self._begun = True
            if self._login is not None:
                self._stream.sendall(next(self._login))
            else:
                self._send_all()

    def _send_all(self) -> None:
        data, self._unsent = self._unsent, b""
        if data:
            self._stream.sendall(data)

    def sendall(self, text: bytes) -> None:
        self._unsent += self._tongue.encode(text)
        if not self._begun:
            try:
                self._begin()
            except BlockingIOError:
                return
        if self._login is None:
            self._send_all()

    def recv(self, limit: int = RECEIVE_BYTES) -> bytes:
        """Return answers as they come; nothing: it is closed."""
        while True:
            if self._text:
                text, self._text = self._text[:limit], self._text[limit:]
                return text
            self._begin()
            data = self._receive()
            if not data:
                return b""
            self._text = self._hear(data)

    def _receive(self) -> bytes:
        data = b""
        while True:
            try:
                data += self._stream.recv(RECEIVE_BYTES)
            except ssl.SSLWantReadError:
                if not data:
                    raise BlockingIOError from None
                return data
            # What was decrypted does not wake an epoll object.
            if not isinstance(self._stream, ssl.SSLSocket) or not self._stream.pending():
                return data

    def _hear(self, data: bytes) -> bytes:
        if self._login is None:
            return self._tongue.decode(data)
        if not data:
            raise ConnectionResetError("closed before the login")
        self._answer += data
        while used := self._tongue.whole(self._answer):
            answer, self._answer = self._answer[:used], self._answer[used:]
            try:
                self._stream.sendall(self._login.send(answer))
            except StopIteration:
                self._login = None
                self._send_all()
                return self._tongue.decode(self._answer)
        return b""

    def line(self) -> bytes:
        """Return the next line, or as much of it as came before the end."""
        while b"\n" not in self._text:
            more = self._more()
            if not more:
                break
        end = self._text.find(b"\n") + 1 or len(self._text)
        line, self._text = self._text[:end], self._text[end:]
        return line

    def read(self, size: int) -> bytes:
        while len(self._text) < size and self._more():
            pass
        data, self._text = self._text[:size], self._text[size:]
        return data

    def _more(self) -> bool:
        text, self._text = self._text, b""
        more = self.recv()
        self._text = text + more
        return bool(more)

    def settimeout(self, seconds: float | None) -> None:
        self._stream.settimeout(seconds)

    def fileno(self) -> int:
        return self._stream.fileno()

    def close(self) -> None:
        self._stream.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


@dataclass(slots=True)
class Address:
    """What leads to a node: a port of its own, or of what stands before it."""

    port: int
    host: str = "127.0.0.1"
    way: Way = field(default=TEXT)

    def visit(self, timeout_s: float) -> Talk:
        """Return a client's new connection, which has yet to come in and does not block."""
        return begin(dial(self.host, self.port, timeout_s), self.way)


def dial(host: str, port: int, timeout_s: float) -> socket.socket:
    stream = socket.create_connection((host, port), timeout=timeout_s)
    stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return stream


def dial_unix(path: str, timeout_s: float) -> socket.socket:
    stream = socket.socket(socket.AF_UNIX)
    stream.settimeout(timeout_s)
    try:
        stream.connect(path)
    except OSError:
        stream.close()
        raise
    return stream


def begin(stream: socket.socket, way: Way) -> Talk:
    stream.setblocking(False)
    return Talk(stream, way)


def bucket_at(http_port: int, way: Way, timeout_s: float) -> dict[str, Any]:
    """Return what a node says of its bucket. Raises OSError if it says nothing."""
    request = urllib.request.Request(f"http://127.0.0.1:{http_port}/pools/default/buckets")
    if way.login is not None:
        name = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
        request.add_header("Authorization", f"Basic {name}")
    with urllib.request.urlopen(request, timeout=timeout_s) as answer:
        found: dict[str, Any] = json.load(answer)[0]
    return found


def master_of(bucket: dict[str, Any]) -> tuple[str, int]:
    """Return where a bucket's map sends its clients."""
    servers = bucket["vBucketServerMap"]
    host, _, port = servers["serverList"][servers["vBucketMap"][0][0]].rpartition(":")
    return host, int(port)
