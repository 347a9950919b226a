"""Ask a server for a report, as a client does: by text or binary, with TLS and a login if need be.

Text comes first; a server that closes the connection without a word may speak binary alone (`-B
binary`, `-S`), and is asked that way. Knows of the protocols just this one question.
"""

from __future__ import annotations

import getpass
import os
import socket
import ssl
import struct
import sys
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final, NamedTuple

from ..addresses import AddressError, join_address, split_address

if TYPE_CHECKING:
    from collections.abc import Iterator

DEFAULT_PORT: Final = 11211
TIMEOUT_S: Final = 3.0
REPLY_MAX_BYTES: Final = 1 << 20

_UNIX: Final = "unix:"
_UNAUTHENTICATED: Final = b"CLIENT_ERROR unauthenticated"

# protocol-binary.txt: the header of requests and responses, two opcodes, what STAT ends with
_HEADER: Final = struct.Struct(">BBHBBHIIQ")
_REQUEST_MAGIC: Final = 0x80
_STAT: Final = 0x10
_SASL_AUTH: Final = 0x21
_AUTH_ERROR: Final = 0x20


class AskError(Exception):
    """A server that did not tell, and why, in a few words."""


class _SilentlyClosedError(Exception):
    """A server that closed the connection as the answer."""


class Access(NamedTuple):
    """What it takes to be let in."""

    tls: ssl.SSLContext | None = None
    user: str = ""
    password: str = ""


#: Of tools that ask a server, for `access_of`.
ACCESS_OPTIONS: Final = ("tls", "ca-file=", "cert=", "key=", "user=")
ACCESS_HELP: Final = """\
  --tls           speak TLS; the server's certificate must be trusted here ...
  --ca-file FILE  ... or be signed by this authority
  --cert FILE     certificate to show, PEM
  --key FILE      its key, if that is in another file
  --user NAME     log in; the password is asked for, or read from standard input"""


def access_of(options: dict[str, str]) -> Access:
    """Return what options say, with the password of a user, which is asked for.

    Raises `OSError` for a file that cannot be used.
    """
    files = [options.get(name) for name in ("--ca-file", "--cert", "--key")]
    wants_tls = "--tls" in options or any(files)
    context = tls_context(*files) if wants_tls else None
    user = options.get("--user", "")
    password = ""
    if user:
        is_asked = sys.stdin.isatty()
        line = getpass.getpass(f"Password of {user}: ") if is_asked else sys.stdin.readline()
        password = line.rstrip("\r\n")
    return Access(context, user, password)


class Place(NamedTuple):
    """Where a server is: a host and a port, or, where that is 0, the path of a Unix socket."""

    host: str
    port: int

    def __str__(self) -> str:
        return join_address(self.host, self.port) if self.port else self.host


def parse_address(text: str) -> Place:
    """Take the address of a server apart; raise `AddressError` with what is wrong.

    What holds a slash is the path of a Unix socket; `unix:` may stand before it, as in
    `stats conns`.
    """
    path = text.removeprefix(_UNIX)
    if "/" in path:
        return Place(path, 0)
    try:
        host, port = split_address(text)
    except AddressError as error:
        raise AddressError(f"no address: {text}: {error}") from None
    if not host:
        raise AddressError(f"no address: {text or 'an empty word'}")
    if port == 0:
        raise AddressError(f"no address: {text}: a server's port cannot be 0")
    return Place(host, DEFAULT_PORT if port is None else port)


def tls_context(ca_file: str | None, cert_file: str | None, key_file: str | None) -> ssl.SSLContext:
    """Return what verifies a server, and shows a certificate to one that wants to see it.

    Raises `OSError` for a file that cannot be used.
    """
    try:
        context = ssl.create_default_context(cafile=ca_file)
        if cert_file is not None:
            context.load_cert_chain(cert_file, key_file)
    except OSError as error:
        if error.errno and not error.strerror:  # PyPy's ssl gives nothing but the number
            error.strerror = os.strerror(error.errno)
        raise
    return context


def ask_report(host: str, port: int, name: str, access: Access) -> dict[str, str]:
    """Return the rows of `stats NAME`, or raise `AskError`. Port 0: `host` is a path."""
    until = time.monotonic() + TIMEOUT_S
    with in_words():
        try:
            with connected(host, port, access) as stream:
                return _ask_text(stream, name, access, until)
        except _SilentlyClosedError:
            with connected(host, port, access) as stream:
                return _ask_binary(stream, name, access, until)


@contextmanager
def in_words() -> Iterator[None]:
    """Make of what goes wrong with a connection an `AskError`."""
    try:
        yield
    except _SilentlyClosedError:
        raise AskError("closed the connection") from None
    except TimeoutError:
        raise AskError(f"no answer within {TIMEOUT_S:.0f} s") from None
    except ssl.SSLCertVerificationError as error:
        raise AskError(f"its certificate is not trusted: {error.verify_message}") from None
    except ssl.SSLError as error:
        reason = (error.reason or "no TLS there").lower().replace("_", " ")
        raise AskError(f"TLS failed: {reason}") from None
    except OSError as error:
        raise AskError((error.strerror or str(error)).lower()) from None


def connected(host: str, port: int, access: Access) -> socket.socket:
    """Return a connection, on which nothing takes longer than `TIMEOUT_S`. Use `in_words`."""
    if not port:
        return _connected_here(host)
    stream = socket.create_connection((host, port), TIMEOUT_S)
    if access.tls is None:
        return stream
    try:
        return access.tls.wrap_socket(stream, server_hostname=host)
    except BaseException:
        stream.close()
        raise


def _connected_here(path: str) -> socket.socket:
    """Connect to a Unix socket, where nobody speaks TLS."""
    stream = socket.socket(socket.AF_UNIX)
    try:
        stream.settimeout(TIMEOUT_S)
        stream.connect(path)
    except BaseException:
        stream.close()
        raise
    return stream


def _receive(stream: socket.socket, until: float, most_bytes: int = 1 << 16) -> bytes:
    stream.settimeout(max(0.001, until - time.monotonic()))
    try:
        return stream.recv(most_bytes)
    except ConnectionResetError:
        return b""


# -- text --------------------------------------------------------------------------------------


def _ask_text(stream: socket.socket, name: str, access: Access, until: float) -> dict[str, str]:
    # Blanks at the end mean nothing, but a server of binary alone reads a whole header first.
    question = f"stats {name}".encode().ljust(_HEADER.size) + b"\r\n"
    stream.sendall(question)
    reply = _read_text(stream, until)
    if access.user and reply.startswith(_UNAUTHENTICATED):
        # protocol.txt, "Authentication". Where nobody need log in, this would store an item.
        token = f"{access.user} {access.password}".encode(errors="surrogateescape")
        stream.sendall(b"set login 0 0 %d\r\n%b\r\n" % (len(token), token))
        if not _read_text(stream, until).startswith(b"STORED"):
            raise AskError("refuses the login")
        stream.sendall(question)
        reply = _read_text(stream, until)
    return _decode_text(reply)


def _read_text(stream: socket.socket, until: float) -> bytes:
    """Read an answer up to its last line."""
    reply = b""
    while len(reply) < REPLY_MAX_BYTES:
        data = _receive(stream, until)
        if not data and not reply:
            raise _SilentlyClosedError
        reply += data
        is_report = reply.startswith(b"STAT ")
        if not data or reply.endswith(b"END\r\n" if is_report else b"\n"):
            break
        if reply[:1] in (b"\x15", b"\x81"):  # an alert of TLS; a binary reply
            break
    return reply


def _decode_text(reply: bytes) -> dict[str, str]:
    if reply.startswith(_UNAUTHENTICATED):
        raise AskError("wants a login (--user)")
    if reply.startswith(b"\x15\x03"):
        raise AskError("wants TLS (--tls)")
    if reply.startswith(b"\x81"):
        raise _SilentlyClosedError
    if reply.startswith(b"STAT ") and not reply.endswith(b"\r\nEND\r\n"):
        raise AskError("broke off in the middle of its answer")
    lines = reply.decode(errors="replace").split("\r\n")
    rows = [line.split(" ", 2)[1:] for line in lines if line.startswith("STAT ")]
    if not rows:
        raise AskError("is no pymcd, or too old: it does not know this report")
    return {row[0]: row[1] for row in rows if len(row) == 2}


# -- binary ------------------------------------------------------------------------------------


def _ask_binary(stream: socket.socket, name: str, access: Access, until: float) -> dict[str, str]:
    if access.user:
        token = f"\0{access.user}\0{access.password}".encode(errors="surrogateescape")
        stream.sendall(_request(_SASL_AUTH, b"PLAIN", token))
        status, _, _ = _read_binary(stream, until)
        if status == _AUTH_ERROR:
            raise AskError("refuses the login")
    stream.sendall(_request(_STAT, name.encode()))
    rows: dict[str, str] = {}
    while True:
        status, key, value = _read_binary(stream, until)
        if status == _AUTH_ERROR:
            raise AskError("wants a login (--user)")
        if status != 0:
            raise AskError("is no pymcd, or too old: it does not know this report")
        if not key:
            return rows
        rows[key.decode(errors="replace")] = value.decode(errors="replace")


def _request(opcode: int, key: bytes, value: bytes = b"") -> bytes:
    head = _HEADER.pack(_REQUEST_MAGIC, opcode, len(key), 0, 0, 0, len(key) + len(value), 0, 0)
    return head + key + value


def _read_binary(stream: socket.socket, until: float) -> tuple[int, bytes, bytes]:
    """Return status, key and value of a response."""
    head = _receive_exactly(stream, until, _HEADER.size)
    _, _, key_bytes, extras_bytes, _, status, body_bytes, _, _ = _HEADER.unpack(head)
    if body_bytes > REPLY_MAX_BYTES:
        raise AskError("answers something that cannot be understood")
    body = _receive_exactly(stream, until, body_bytes)[extras_bytes:]
    return status, body[:key_bytes], body[key_bytes:]


def _receive_exactly(stream: socket.socket, until: float, count: int) -> bytes:
    data = b""
    while len(data) < count:
        piece = _receive(stream, until, count - len(data))
        if not piece:
            raise _SilentlyClosedError
        data += piece
    return data
