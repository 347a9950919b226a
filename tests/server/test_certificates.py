"""Certificates and keys: what is loaded, what is refused in which words, what a reload changes."""

from __future__ import annotations

import os
import ssl
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pymcd.config import Settings
from pymcd.exits import EXIT_USAGE, ConfigError
from pymcd.server import tlserrors
from pymcd.server.certificates import Certificates, error_string, reason_of

from .authority import Authority, Wire, new_authority, written

if TYPE_CHECKING:
    from collections.abc import Callable

JUNK = b"this is not a certificate, but secret\n"


@pytest.fixture
def authority() -> Authority:
    return new_authority()


def load(authority: Authority, **settings: object) -> Certificates:
    return Certificates(Settings(**authority.settings(**settings)))


def shown_to(certificates: Certificates, client: ssl.SSLContext) -> bytes | None:
    """Return the certificate that a client is shown."""
    wire = Wire(client)
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    server = certificates.context("tls").wrap_bio(incoming, outgoing, server_side=True)
    while not wire.shake_hands():
        incoming.write(wire.outgoing.read())
        try:
            server.do_handshake()
        except ssl.SSLWantReadError:
            pass
        wire.incoming.write(outgoing.read())
    return wire.tls.getpeercert(binary_form=True)


def _write(name: str, content: Callable[[Authority], bytes]) -> Callable[[Authority], str]:
    def write(authority: Authority) -> str:
        path = authority.folder / name
        path.write_bytes(content(authority))
        return str(path)

    return write


def _encrypted(encoding: str) -> Callable[[Authority], bytes]:
    def content(authority: Authority) -> bytes:
        return written(authority.key_pem, encoding, "PKCS8", encrypted=True)

    return content


junk = _write("junk.pem", lambda authority: JUNK)
empty = _write("empty.pem", lambda authority: b"")
cut_off = _write("cut.pem", lambda authority: authority.chain_pem[:300])
cut_key = _write("cut.key", lambda authority: authority.key_pem[:100])
foreign = _write("foreign.pem", lambda authority: new_authority().key_pem)
encrypted = _write("encrypted.pem", _encrypted("PEM"))
encrypted_der = _write("encrypted.der", _encrypted("DER"))

# Settings (a function makes the file it names), and what is said; `~` stands for the folder.
REFUSED = [
    ({"ssl_chain_cert": None}, "the certificate chain: (null) : no file was given"),
    (
        {"ssl_chain_cert": "/nonexistent"},
        "the certificate chain: /nonexistent : No such file or directory",
    ),
    ({"ssl_chain_cert": "/"}, "the certificate chain: / : Is a directory"),
    (
        {"ssl_chain_cert": junk},
        "the certificate chain: ~/junk.pem : no certificate or crl found",
    ),
    (
        {"ssl_chain_cert": empty},
        "the certificate chain: ~/empty.pem : no certificate or crl found",
    ),
    ({"ssl_chain_cert": cut_off}, "the certificate chain: ~/cut.pem : no PEM data of that kind"),
    ({"ssl_key": None}, "the key: ~/chain.pem : no PEM data of that kind"),
    ({"ssl_key": "/nonexistent"}, "the key: /nonexistent : No such file or directory"),
    ({"ssl_key": "/"}, "the key: / : Is a directory"),
    ({"ssl_key": junk}, "the key: ~/junk.pem : no PEM data of that kind"),
    ({"ssl_key": cut_key}, "the key: ~/cut.key : no PEM data of that kind"),
    ({"ssl_key": foreign}, "the key: ~/foreign.pem : key values mismatch"),
    ({"ssl_key": encrypted}, "the key: ~/encrypted.pem : it is encrypted"),
    (
        {"ssl_key": encrypted_der, "ssl_keyformat": 2},
        "the key: ~/encrypted.der : it is encrypted",
    ),
    ({"ssl_key": junk, "ssl_keyformat": 2}, "the key: ~/junk.pem : no PEM data of that kind"),
    ({"ssl_key": empty, "ssl_keyformat": 2}, "the key: ~/empty.pem : no PEM data of that kind"),
    ({"ssl_keyformat": 7}, "the key: ~/key.pem : bad ssl filetype"),
    (
        {"ssl_ca_cert": "/nonexistent", "ssl_verify_mode": 1},
        "the CA certificate: /nonexistent : No such file or directory",
    ),
    (
        {"ssl_ca_cert": junk},
        "the CA certificate: ~/junk.pem : no certificate or crl found",
    ),
]


@pytest.mark.parametrize(("settings", "message"), REFUSED, ids=[row[1] for row in REFUSED])
def test_what_is_refused(authority: Authority, settings: dict, message: str) -> None:
    made = {name: each(authority) if callable(each) else each for name, each in settings.items()}
    with pytest.raises(ConfigError) as caught:
        load(authority, **made)
    message = message.replace("~", str(authority.folder))
    assert (caught.value.message, caught.value.exit_code) == (
        f"Error loading {message}",
        EXIT_USAGE,
    )


def test_unknown_ciphers_are_refused(authority: Authority) -> None:
    with pytest.raises(ConfigError) as caught:
        load(authority, ssl_ciphers="NONSENSE")
    assert caught.value.message == "Error setting the provided cipher(s): NONSENSE"
    assert caught.value.exit_code == EXIT_USAGE


def test_the_key_may_be_in_the_chain_file(authority: Authority) -> None:
    both = authority.folder / "both.pem"
    both.write_bytes(authority.key_pem + authority.chain_pem)
    certificates = load(authority, ssl_chain_cert=str(both), ssl_key=None)
    shown = shown_to(certificates, authority.client())
    assert shown == ssl.PEM_cert_to_DER_cert(authority.chain_pem.decode())


@pytest.mark.skipif(not hasattr(os, "memfd_create"), reason="keys in DER need Linux")
@pytest.mark.parametrize("form", ["PKCS8", "TraditionalOpenSSL"])
@pytest.mark.parametrize("kind", ["EC", "RSA"])
def test_a_key_in_der(authority: Authority, form: str, kind: str) -> None:
    authority.issue(kind)
    path = authority.folder / "key.der"
    path.write_bytes(written(authority.key_pem, "DER", form))
    certificates = load(authority, ssl_key=str(path), ssl_keyformat=2)
    assert shown_to(certificates, authority.client()) is not None


def test_a_reload_is_for_new_clients(authority: Authority) -> None:
    certificates = load(authority)
    old_context = certificates.context("tls")
    old = shown_to(certificates, authority.client())
    authority.issue()
    assert shown_to(certificates, authority.client()) == old
    certificates.reload()
    new = shown_to(certificates, authority.client())
    assert new != old
    assert certificates.context("tls") is not old_context


NAMELESS = [
    ("[SSL] record layer failure (_ssl.c:1006)", "record layer failure", 313),
    ("[SSL] record layer failure (_ssl.c)", "record layer failure", 313),
    ("[SSL] record layer failure", "record layer failure", 313),
    ("[SSL] what nobody has heard of", "what nobody has heard of", 0),
    ("[SSL] PEM lib (_ssl.c:3874)", "no PEM data of that kind", 0),
    ("unknown error (_ssl.c:3036)", "no PEM data of that kind", 0),
]


@pytest.mark.parametrize(("said", "reason", "number"), NAMELESS, ids=[row[0] for row in NAMELESS])
def test_reasons_that_this_python_has_no_name_for(said: str, reason: str, number: int) -> None:
    error = ssl.SSLError(1, said)
    error.library, error.reason = "SSL", None  # type: ignore[assignment]
    assert reason_of(error) == reason
    assert error_string(error).startswith(f"error:{20 << 23 | number:08X}:SSL routines::")


@pytest.mark.parametrize("which", ["chain_file", "key_file"])
@pytest.mark.parametrize("content", [None, JUNK, b""])
def test_a_broken_file_keeps_what_there_was(
    authority: Authority, which: str, content: bytes | None
) -> None:
    certificates = load(authority)
    old = shown_to(certificates, authority.client())
    authority.issue()
    path = Path(getattr(authority, which))
    path.unlink()
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ConfigError, match=str(path)):
        certificates.reload()
    assert shown_to(certificates, authority.client()) == old


def test_half_of_a_new_pair_keeps_what_there_was(authority: Authority) -> None:
    certificates = load(authority)
    old, old_key = shown_to(certificates, authority.client()), authority.key_pem
    authority.issue()
    Path(authority.key_file).write_bytes(old_key)
    with pytest.raises(ConfigError, match="key values mismatch"):
        certificates.reload()
    assert shown_to(certificates, authority.client()) == old


def test_relative_names_outlive_a_change_of_directory(
    authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(authority.folder)
    certificates = load(authority, ssl_chain_cert="chain.pem", ssl_key="key.pem")
    monkeypatch.chdir("/")
    certificates.reload()


@pytest.mark.parametrize(
    ("mode", "expected"),
    [(0, ssl.CERT_NONE), (1, ssl.CERT_OPTIONAL), (2, ssl.CERT_REQUIRED), (3, ssl.CERT_REQUIRED)],
)
def test_verify_modes(authority: Authority, mode: int, expected: ssl.VerifyMode) -> None:
    certificates = load(authority, ssl_verify_mode=mode, ssl_ca_cert=authority.ca_file)
    assert certificates.context("tls").verify_mode is expected
    assert certificates.context("btls").verify_mode is ssl.CERT_NONE
    assert certificates.context("mtls").verify_mode is ssl.CERT_REQUIRED


VERSIONS = [
    (0, ssl.TLSVersion.TLSv1),
    (1, ssl.TLSVersion.TLSv1_1),
    (2, ssl.TLSVersion.TLSv1_2),
    (3, ssl.TLSVersion.TLSv1_3),
]


@pytest.mark.parametrize(("number", "version"), VERSIONS)
def test_the_least_version(authority: Authority, number: int, version: ssl.TLSVersion) -> None:
    context = load(authority, ssl_min_version=number).context("tls")
    assert context.minimum_version == version
    assert context.options & ssl.OP_NO_RENEGOTIATION


def test_ciphers(authority: Authority) -> None:
    context = load(authority, ssl_ciphers="ECDHE+AESGCM").context("tls")
    names = {cipher["name"] for cipher in context.get_ciphers() if cipher["protocol"] != "TLSv1.3"}
    assert names
    assert all("GCM" in name and name.startswith("ECDHE") for name in names)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("", "Error loading the certificate chain: (null) : no file was given"),
        (
            "-o ssl_chain_cert=/nonexistent,ssl_key=/nonexistent",
            "Error loading the certificate chain: /nonexistent : No such file or directory",
        ),
    ],
)
def test_a_server_does_not_start_without(words: str, message: str) -> None:
    user = ["-u", "nobody"] if os.geteuid() == 0 else []
    done = subprocess.run(
        [sys.executable, "-m", "pymcd", "-Z", "-p", "-1", "-l", "127.0.0.1", *user, *words.split()],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.returncode, done.stdout, done.stderr) == (EXIT_USAGE, "", message + "\n")


def test_the_numbers_of_errors_are_openssls() -> None:
    # Some versions of Python know them.
    known: dict[str, tuple[int, int]] = getattr(import_module("_ssl"), "err_names_to_codes", {})
    for name, number in tlserrors.REASONS.items():
        assert known.get(name, (20, number)) == (20, number)
    assert tlserrors.LIBRARIES == {"SSL": 20}
