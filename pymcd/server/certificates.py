"""TLS certificates and keys: read from the files that `-o ssl_*` names, made into contexts.

Loading makes new contexts, and only when all is well do they take the place of the old: a client
that is connected keeps the certificate it saw, and a broken file changes nothing. (memcached loads
into the context in use, and is left with half of it when the second file is bad.) What cannot be
used is told in one line that names the file and the reason, never anything of its contents.

Ciphers are OpenSSL's own choice, as in memcached, not Python's narrower one: old clients count. As
there, sessions are resumed from tickets whether or not `ssl_session_cache` is given. The names of
acceptable authorities, which memcached sends along when it asks for a client certificate, cannot
be sent from Python: clients that have several certificates must be told which to use.
"""

from __future__ import annotations

import base64
import os
import ssl
import warnings
from typing import TYPE_CHECKING, Final

from ..exits import EXIT_USAGE, ConfigError
from . import tlserrors
from .files import state_of
from .tlsqueue import keep_apart

if TYPE_CHECKING:
    from ..config import Settings
    from .files import State

_PEM: Final = 1  #: of `ssl_keyformat`
_DER: Final = 2
#: Names of `TLSVersion`, by `ssl_min_version`.
_VERSIONS: Final = ("TLSv1", "TLSv1_1", "TLSv1_2", "TLSv1_3")
#: By `ssl_verify_mode`: none, request, require, once. The last says when to ask again, and nobody
#: is asked again, since renegotiation is refused.
_VERIFY_MODES: Final = (ssl.CERT_NONE, ssl.CERT_OPTIONAL, ssl.CERT_REQUIRED, ssl.CERT_REQUIRED)
#: Nobody's key is longer.
_KEY_MAX_BYTES: Final = 1 << 20


class _EncryptedKeyError(Exception):
    """The key wants a password, and there is nobody to ask."""


class Certificates:
    """The contexts of a server's TLS listeners, of its links to other nodes, and of a fill."""

    def __init__(self, settings: Settings) -> None:
        """Load everything; raise `ConfigError`."""
        self._settings = settings
        # A daemon changes its directory.
        self._folder = os.getcwd()
        #: By the kind of a listener, by which end of a link this is, or what for we call others.
        self._loaded = self._state()
        self._problem: ConfigError | None = None  #: with what was tried last
        self._contexts = self._load()

    def context(self, name: str) -> ssl.SSLContext:
        """Return the context for a new client of such a listener, a new link, or a new call."""
        return self._contexts[name]

    def refresh(self) -> str:
        """Do what `reload` does; return what is wrong, or nothing."""
        try:
            self.reload()
        except ConfigError as error:
            return error.message
        return ""

    def reload(self) -> None:
        """Load everything again, if it has changed; may be called in a thread.

        If that fails, raise `ConfigError`, each time, and keep what there was. A bundle of
        authorities takes a quarter of a second.
        """
        state = self._state()
        if state is None or state != self._loaded:
            self._loaded = state
            try:
                self._contexts = self._load()
                self._problem = None
            except ConfigError as problem:
                self._problem = problem
        if self._problem is not None:
            raise ConfigError(self._problem.message, self._problem.exit_code)

    def _state(self) -> State | None:
        settings = self._settings
        files = (
            settings.ssl_chain_cert,
            settings.ssl_key,
            settings.ssl_ca_cert,
            settings.fill_from_ca_file,
        )
        return state_of(*(self._path(name) for name in files if name is not None))

    def _load(self) -> dict[str, ssl.SSLContext]:
        contexts: dict[str, ssl.SSLContext] = {}
        if self._settings.enable_ssl:
            verify_mode = _VERIFY_MODES[self._settings.ssl_verify_mode]
            contexts["tls"] = self._context(verify_mode)
            contexts["btls"] = self._context(ssl.CERT_NONE)
            contexts["mtls"] = self._context(ssl.CERT_REQUIRED)
        if self._settings.replication_tls:
            contexts["accepts"] = accepts = self._context(ssl.CERT_REQUIRED)
            contexts["dials"] = dials = self._context(ssl.CERT_REQUIRED, ssl.PROTOCOL_TLS_CLIENT)
            # Both ends are ours; the oldest OpenSSL that Python takes knows it.
            accepts.minimum_version = dials.minimum_version = ssl.TLSVersion.TLSv1_3
            accepts.num_tickets = 0  # links are few and last
        if self._settings.fills_by_tls:
            contexts["fills"] = self._filling_context()
        return contexts

    def _context(
        self, verify_mode: ssl.VerifyMode, protocol: int = ssl.PROTOCOL_TLS_SERVER
    ) -> ssl.SSLContext:
        # memcached: ssl_init, load_server_certificates
        settings = self._settings
        context = self._bare_context(protocol)
        context.check_hostname = False  # of a peer, see `wire`; clients have none
        self._load_key(context)
        if settings.ssl_ca_cert is not None and verify_mode is not ssl.CERT_NONE:
            self._load_authorities(context, "CA certificate", settings.ssl_ca_cert)
        context.verify_mode = verify_mode
        self._choose_ciphers(context)
        return context

    def _filling_context(self) -> ssl.SSLContext:
        """Return the context of a client of another server, which has to prove its name."""
        settings = self._settings
        context = self._bare_context(ssl.PROTOCOL_TLS_CLIENT)
        if settings.ssl_chain_cert is not None:  # it may want to see ours
            self._load_key(context)
        if settings.fill_from_ca_file is None:
            context.load_default_certs()
        else:
            self._load_authorities(context, "CA certificate", settings.fill_from_ca_file)
        self._choose_ciphers(context)
        return context

    def _bare_context(self, protocol: int) -> ssl.SSLContext:
        context = keep_apart(ssl.SSLContext(protocol))
        with warnings.catch_warnings():
            # Who asks for TLS 1.0 has been told by others.
            warnings.simplefilter("ignore", DeprecationWarning)
            context.minimum_version = ssl.TLSVersion[_VERSIONS[self._settings.ssl_min_version]]
        context.options |= ssl.OP_NO_RENEGOTIATION
        return context

    def _choose_ciphers(self, context: ssl.SSLContext) -> None:
        ciphers = self._settings.ssl_ciphers
        try:
            context.set_ciphers(ciphers or "DEFAULT")
        except ssl.SSLError:
            raise ConfigError(
                f"Error setting the provided cipher(s): {ciphers}", EXIT_USAGE
            ) from None

    def _load_key(self, context: ssl.SSLContext) -> None:
        """Load the certificate chain and its private key."""
        settings = self._settings
        chain = settings.ssl_chain_cert
        if chain is None:
            raise _refusal("certificate chain", "(null)", "no file was given")
        # Finds what is not PEM, so that the key is to blame for what goes wrong below.
        self._load_authorities(ssl.SSLContext(context.protocol), "certificate chain", chain)
        # memcached's help says that the key may be part of the chain file, but it looks there
        # only if it is named twice.
        key = settings.ssl_key or chain
        chain_path, key_path = self._path(chain), self._path(key)
        try:
            if settings.ssl_keyformat == _DER and settings.ssl_key is not None:
                _load_der(context, chain_path, key_path)
            elif settings.ssl_keyformat in (_PEM, _DER):
                context.load_cert_chain(chain_path, key_path, password=_no_password)
            else:
                raise _refusal("key", key, "bad ssl filetype")
        except _EncryptedKeyError:
            raise _refusal("key", key, "it is encrypted") from None
        except OSError as error:
            if getattr(error, "reason", None) in ("EE_KEY_TOO_SMALL", "CA_MD_TOO_WEAK"):
                raise _refusal("certificate chain", chain, reason_of(error)) from None
            raise _refusal("key", key, reason_of(error)) from None

    def _load_authorities(self, context: ssl.SSLContext, what: str, path: str) -> None:
        """Load who may sign the certificates of others."""
        try:
            context.load_verify_locations(self._path(path))
        except OSError as error:
            raise _refusal(what, path, reason_of(error)) from None

    def _path(self, name: str) -> str:
        return os.path.join(self._folder, name)


def reason_of(error: OSError) -> str:
    """Return in a few words what is wrong: with a file, or with what OpenSSL was given."""
    if not isinstance(error, ssl.SSLError):
        # Not by its words: PyPy's ssl gives nothing but the number.
        return os.strerror(error.errno) if error.errno else str(error)
    name = _name_of(error)
    if not name:
        return "no PEM data of that kind"
    reason = name.lower().replace("_", " ")
    if isinstance(error, ssl.SSLCertVerificationError) and error.verify_message:
        reason = f"{reason}: {error.verify_message}"
    return reason


def _name_of(error: ssl.SSLError) -> str:
    """Return the name of the reason; "" if there is none but that a part of OpenSSL failed."""
    if error.reason:
        return error.reason
    # OpenSSL has the words for those, too, that are younger than the Python's list of names.
    # "[SSL] some words (_ssl.c:1006)"
    _, _, words = str(error.args[-1]).partition("] ")
    text, _, _ = words.partition(" (_ssl.c")
    return "" if text.endswith(" lib") else text.upper().replace(" ", "_")


def error_string(error: ssl.SSLError) -> str:
    """Return what OpenSSL itself would print of an error."""
    name = _name_of(error)
    library = tlserrors.LIBRARIES.get(error.library or "", tlserrors.UNKNOWN)
    reason = tlserrors.REASONS.get(name, tlserrors.UNKNOWN) if library else tlserrors.UNKNOWN
    text = name.lower().replace("_", " ")
    return f"error:{library << 23 | reason:08X}:{error.library} routines::{text}"


def _refusal(what: str, path: str, reason: str) -> ConfigError:
    return ConfigError(f"Error loading the {what}: {path} : {reason}", EXIT_USAGE)


def _no_password() -> str:
    raise _EncryptedKeyError


def _load_der(context: ssl.SSLContext, chain_path: str, key_path: str) -> None:
    """Load a key in DER, which Python takes only as PEM and only from a file.

    The file is one in memory, so that no second copy of the key reaches a disk.
    """
    with open(key_path, "rb") as file:
        key = file.read(_KEY_MAX_BYTES)
    lines = base64.encodebytes(key)
    label = _der_label(key)
    fd = os.memfd_create("key")
    try:
        os.write(fd, b"-----BEGIN %s-----\n%s-----END %s-----\n" % (label, lines, label))
        context.load_cert_chain(chain_path, f"/proc/self/fd/{fd}", password=_no_password)
    finally:
        os.close(fd)


def _der_label(key: bytes) -> bytes:
    """Return what PEM calls a key of this form, told by what follows its version number.

    A sequence begins in each form with the version, a number of one byte; then comes the key itself
    in a string (RFC 5915), the modulus (RFC 8017) or the name of an algorithm (RFC 5208).
    """
    body = key[2 + (key[1] & 0x7F) :] if len(key) > 1 and key[1] & 0x80 else key[2:]
    if body[:1] == b"\x30":
        return b"ENCRYPTED PRIVATE KEY"
    return {b"\x04": b"EC PRIVATE KEY", b"\x02": b"RSA PRIVATE KEY"}.get(body[3:4], b"PRIVATE KEY")
