"""A certificate authority for tests, made anew in each run: keys, certificates and their files."""

from __future__ import annotations

import atexit
import ssl
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterable

    import trustme

HOST = "localhost"


class Authority:
    """One authority, a server certificate of its own, and the files that `-o ssl_*` names."""

    def __init__(self, folder: Path) -> None:
        # Not at the head: what needs no certificate is tested where there can be none.
        made_by = pytest.importorskip("trustme", reason="needs trustme to make certificates")
        self.ca = made_by.CA()
        self.folder = folder
        self.ca_file = str(folder / "ca.pem")
        self.ca.cert_pem.write_to_path(self.ca_file)
        self.chain_file = str(folder / "chain.pem")
        self.key_file = str(folder / "key.pem")
        self.issue()

    def issue(self) -> None:
        """Write a new certificate and key for the server, in place of those before."""
        certificate = self.ca.issue_cert(HOST)
        self.key_pem = certificate.private_key_pem.bytes()
        Path(self.key_file).write_bytes(self.key_pem)
        self.chain_pem = b"".join(blob.bytes() for blob in certificate.cert_chain_pems)
        Path(self.chain_file).write_bytes(self.chain_pem)

    def spoil_key(self) -> None:
        """Leave something in the key's file that is no key."""
        Path(self.key_file).write_bytes(b"no key")

    def settings(self, **others: Any) -> dict[str, Any]:
        """Return settings of a server with this certificate."""
        files = {"ssl_chain_cert": self.chain_file, "ssl_key": self.key_file}
        return {"enable_ssl": True, **files, **others}

    def client(
        self,
        *,
        certificate: trustme.LeafCert | None = None,
        version: ssl.TLSVersion | None = None,
    ) -> ssl.SSLContext:
        """Return the context of a client that trusts this authority."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.load_verify_locations(self.ca_file)
        if certificate is not None:
            certificate.configure_cert(context)
        if version is not None:
            context.minimum_version = context.maximum_version = version
        return context


def new_authority() -> Authority:
    """Return an authority whose files last until the process ends."""
    folder = TemporaryDirectory(prefix="authority-")
    atexit.register(folder.cleanup)
    return Authority(Path(folder.name))


shared_authority = cache(new_authority)


class Wire:
    """A TLS client without a socket, to be tied to a server's TLS without one."""

    def __init__(self, context: ssl.SSLContext, session: ssl.SSLSession | None = None) -> None:
        self.incoming = ssl.MemoryBIO()
        self.outgoing = ssl.MemoryBIO()
        self.tls = context.wrap_bio(
            self.incoming, self.outgoing, server_hostname=HOST, session=session
        )

    def shake_hands(self) -> bool:
        """Take the next step of the handshake; True: it was the last."""
        try:
            self.tls.do_handshake()
        except ssl.SSLWantReadError:
            return False
        return True

    def seal(self, *pieces: bytes) -> bytes:
        """Return what to send for these pieces, a record each at least."""
        for piece in pieces:
            self.tls.write(piece)
        return self.outgoing.read()

    def open(self, sealed: Iterable[bytes]) -> bytes:
        """Return what can be read of what came."""
        for part in sealed:
            self.incoming.write(part)
        answer = b""
        try:
            while data := self.tls.read(65536):
                answer += data
        except (ssl.SSLWantReadError, ssl.SSLZeroReturnError):
            pass
        return answer
