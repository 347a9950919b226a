"""A certificate authority for tests, made anew in each run: keys, certificates and their files.

By the package trustme, or by the command openssl: where an interpreter cannot have the first, such
as PyPy, what is tested is the same.
"""

from __future__ import annotations

import atexit
import datetime as dt
import ssl
import subprocess
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import pytest

from pymcd.server.tlsqueue import keep_apart
from pymcd.testing import openssl

from ..interpreters import HAS_TRUSTME, needs_certificates

if TYPE_CHECKING:
    from collections.abc import Iterable

HOST = "localhost"
EXPIRED = dt.datetime(2020, 1, 1, tzinfo=dt.UTC)
PASSWORD = b"secret"

if HAS_TRUSTME:
    import trustme
    from cryptography.hazmat.primitives import serialization


@dataclass(frozen=True, slots=True)
class Leaf:
    """A certificate and its key, in PEM."""

    key_pem: bytes
    chain_pem: bytes


class _Trustme:
    """Makes certificates by trustme."""

    def __init__(self) -> None:
        self._ca = trustme.CA()
        self.certificate = self._ca.cert_pem.bytes()

    def issue(self, name: str, kind: str, expired: bool) -> Leaf:
        key_type = trustme.KeyType["ECDSA" if kind == "EC" else kind]
        not_after = EXPIRED if expired else None
        made = self._ca.issue_cert(name, key_type=key_type, not_after=not_after)
        chain = b"".join(pem.bytes() for pem in made.cert_chain_pems)
        return Leaf(made.private_key_pem.bytes(), chain)


class _Openssl:
    """Makes certificates by the command."""

    def __init__(self) -> None:
        self._ca = openssl.Authority()
        self.certificate = self._ca.certificate

    def issue(self, name: str, kind: str, expired: bool) -> Leaf:
        days = {"days": 0} if expired else {}
        return Leaf(*self._ca.issue(name, kind=kind, **days))


class Authority:
    """One authority, a server certificate of its own, and the files that `-o ssl_*` names."""

    def __init__(self, folder: Path) -> None:
        # Not at the head: what needs no certificate is tested where there can be none.
        if needs_certificates.args[0]:
            pytest.skip(needs_certificates.kwargs["reason"])
        self._maker = _Trustme() if HAS_TRUSTME else _Openssl()
        self.folder = folder
        self.ca_file = str(folder / "ca.pem")
        Path(self.ca_file).write_bytes(self._maker.certificate)
        self.chain_file = str(folder / "chain.pem")
        self.key_file = str(folder / "key.pem")
        self.issue()

    def leaf(self, name: str, *, kind: str = "EC", expired: bool = False) -> Leaf:
        """Return a new certificate for a host or a person; its key is of kind EC or RSA."""
        return self._maker.issue(name, kind, expired)

    def issue(self, kind: str = "EC") -> None:
        """Write a new certificate and key for the server, in place of those before."""
        leaf = self.leaf(HOST, kind=kind)
        self.key_pem, self.chain_pem = leaf.key_pem, leaf.chain_pem
        Path(self.key_file).write_bytes(leaf.key_pem)
        Path(self.chain_file).write_bytes(leaf.chain_pem)

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
        certificate: Leaf | None = None,
        version: ssl.TLSVersion | None = None,
    ) -> ssl.SSLContext:
        """Return the context of a client that trusts this authority."""
        # It is in the same thread as the server.
        context = keep_apart(ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT))
        context.load_verify_locations(self.ca_file)
        if certificate is not None:
            with TemporaryDirectory(prefix="authority-") as folder:
                both = Path(folder, "both.pem")
                both.write_bytes(certificate.key_pem + certificate.chain_pem)
                context.load_cert_chain(both)
        if version is not None:
            context.minimum_version = context.maximum_version = version
        return context


def written(key_pem: bytes, encoding: str, form: str, *, encrypted: bool = False) -> bytes:
    """Return a key in PEM or DER, and as PKCS8 or TraditionalOpenSSL; PASSWORD opens it."""
    if HAS_TRUSTME:
        key = serialization.load_pem_private_key(key_pem, None)
        return key.private_bytes(
            getattr(serialization.Encoding, encoding),
            getattr(serialization.PrivateFormat, form),
            serialization.BestAvailableEncryption(PASSWORD)
            if encrypted
            else serialization.NoEncryption(),
        )
    words = ["openssl", "pkey" if form == "TraditionalOpenSSL" else "pkcs8", "-outform", encoding]
    words += ["-traditional"] if form == "TraditionalOpenSSL" else ["-topk8"]
    if encrypted:
        words += ["-passout", f"pass:{PASSWORD.decode()}"]
    elif form == "PKCS8":
        words += ["-nocrypt"]
    return subprocess.run(words, input=key_pem, capture_output=True, check=True).stdout


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
