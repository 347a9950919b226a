"""Servers that speak TLS, and a client's side of it that can say "no more" and go on listening.

A `TlsServer` listens like any other, with a certificate made for this run. The streams that its
`connect` returns have the few methods of a socket that conversations use; `shutdown` ends what we
send with TLS's own farewell, as `SSLSocket` cannot do without losing what is still to be read.
"""

from __future__ import annotations

import atexit
import contextlib
import socket
import ssl
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Self

import trustme

from .servers import Server

HOST = "localhost"
RECEIVE_BYTES = 1 << 16


class Identity:
    """A server's certificate, in files that whoever the server becomes may read."""

    def __init__(self) -> None:
        self._folder = TemporaryDirectory(prefix="conformance-", ignore_cleanup_errors=True)
        atexit.register(self._folder.cleanup)
        folder = Path(self._folder.name)
        folder.chmod(0o755)
        self.ca = trustme.CA()
        self.ca_file = str(folder / "ca.pem")
        self.ca.cert_pem.write_to_path(self.ca_file)
        self.chain_file = str(folder / "chain.pem")
        self.key_file = str(folder / "key.pem")
        self.issue()

    def issue(self) -> None:
        """Write a new certificate in place of the old."""
        certificate = self.ca.issue_cert(HOST)
        chain = b"".join(pem.bytes() for pem in certificate.cert_chain_pems)
        Path(self.chain_file).write_bytes(chain)
        Path(self.key_file).write_bytes(certificate.private_key_pem.bytes())

    def switches(self) -> tuple[str, ...]:
        """Return what has a server use it."""
        return ("-Z", "-o", f"ssl_chain_cert={self.chain_file},ssl_key={self.key_file}")

    def client(self, certificate: trustme.LeafCert | None = None, **limits: Any) -> ssl.SSLContext:
        """Return the context of a client that trusts it; `limits` are attributes to set."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.load_verify_locations(self.ca_file)
        if certificate is not None:
            certificate.configure_cert(context)
        for name, value in limits.items():
            setattr(context, name, value)
        return context


shared_identity = cache(Identity)


class Stream:
    """A connected client."""

    def __init__(self, sock: socket.socket, context: ssl.SSLContext) -> None:
        self._sock = sock
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self.tls = context.wrap_bio(self._incoming, self._outgoing, server_hostname=HOST)
        try:
            self._shake_hands()
        except BaseException:
            sock.close()
            raise

    def _shake_hands(self) -> None:
        while True:
            try:
                self.tls.do_handshake()
            except ssl.SSLWantReadError:
                self._flush()
                if not self._receive():
                    raise ConnectionError("the server closed during the handshake") from None
            else:
                self._flush()
                return

    def _flush(self) -> None:
        self._sock.sendall(self._outgoing.read())

    def _receive(self) -> bool:
        data = self._sock.recv(RECEIVE_BYTES)
        self._incoming.write(data)
        return bool(data)

    def sendall(self, data: bytes) -> None:
        if data:
            self.tls.write(data)
            self._flush()

    def recv(self, limit: int) -> bytes:
        """Return what comes; nothing once the server has ended the session, or cut it."""
        while True:
            try:
                return self.tls.read(limit)
            except ssl.SSLZeroReturnError:
                return b""
            except ssl.SSLWantReadError:
                # A server that has closed takes no more, but what it said can still be read.
                with contextlib.suppress(BrokenPipeError):
                    self._flush()
                if not self._receive():
                    return b""

    def shutdown(self, how: int) -> None:
        """Say that nothing more will come."""
        assert how == socket.SHUT_WR
        try:
            self.tls.unwrap()
        except ssl.SSLWantReadError:
            pass  # its own farewell is read behind its answers
        self._flush()

    def close(self) -> None:
        self._sock.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()


class TlsServer(Server):
    """A server whose switches have it speak TLS with the shared certificate."""

    def connect(self, timeout_s: float = 30.0) -> Any:  # in the place of a socket
        context = shared_identity().client()
        return Stream(super().connect(timeout_s), context)
