"""Tools ask servers of every kind: text, binary, TLS, logins, and what is no server at all."""

from __future__ import annotations

import re
import socket
import ssl
from typing import TYPE_CHECKING, Any

import pytest

from pymcd.auth import Authenticator, decode_sasl_users, decode_text_users
from pymcd.tools.asking import Access, AskError, ask_report, parse_address, tls_context
from tests.protocol.helpers import Client, make_service
from tests.server.authority import Authority, new_authority

from ..hosts import lend
from .serving import SmallServer

if TYPE_CHECKING:
    from collections.abc import Callable

STATE_OFF = {"state": "off"}


def pymcd(**settings: Any) -> Callable[[], Callable[[bytes], bytes | None]]:
    """Return what makes clients of one real server, which knows a user where it asks for one."""
    service = make_service(**settings)
    if service.settings.enable_sasl or service.settings.auth_file:
        decode = decode_text_users if service.settings.auth_file else decode_sasl_users
        users = decode(b"alice:secret\n")
        lend(service, authenticator=Authenticator(lambda: users, make_nonce=str, secret=b"s"))

    def connect() -> Callable[[bytes], bytes | None]:
        client = Client(service)
        return lambda data: client.send(data) or (None if client.connection.closing else b"")

    return connect


def says(*answers: bytes | None) -> Callable[[], Callable[[bytes], bytes | None]]:
    """Return what says the same whatever it hears, connection by connection; None: it closes."""
    left = list(answers)

    def connect() -> Callable[[bytes], bytes | None]:
        answer = left.pop(0)
        return lambda data: answer

    return connect


@pytest.mark.parametrize(
    ("settings", "access"),
    [
        ({}, Access()),
        ({"protocol": "ascii"}, Access()),
        ({"protocol": "binary"}, Access()),
        ({"auth_file": "users", "protocol": "ascii"}, Access(None, "alice", "secret")),
        ({"enable_sasl": True, "protocol": "binary"}, Access(None, "alice", "secret")),
        # A login that nobody asks for.
        ({}, Access(None, "alice", "x")),
    ],
)
def test_servers_that_tell(settings, access):
    with SmallServer(pymcd(**settings)) as server:
        assert ask_report("127.0.0.1", server.port, "replication", access) == STATE_OFF


def test_another_report():
    with SmallServer(pymcd()) as server:
        rows = ask_report("127.0.0.1", server.port, "settings", Access())
    assert rows["maxconns"] == "1024"


REFUSALS = [
    (pymcd(auth_file="users", protocol="ascii"), Access(), "wants a login (--user)"),
    (pymcd(enable_sasl=True, protocol="binary"), Access(), "wants a login (--user)"),
    (
        pymcd(auth_file="users", protocol="ascii"),
        Access(None, "alice", "wrong"),
        "refuses the login",
    ),
    (
        pymcd(enable_sasl=True, protocol="binary"),
        Access(None, "alice", "wrong"),
        "refuses the login",
    ),
    (says(b"ERROR\r\n"), Access(), "is no pymcd, or too old: it does not know this report"),
    (
        says(b"\x81", b"\x81\x10\0\0\0\0\0\1" + bytes(16)),
        Access(),
        "is no pymcd, or too old: it does not know this report",
    ),
    (
        says(b"HTTP/1.1 400 Bad Request\r\n\r\n"),
        Access(),
        "is no pymcd, or too old: it does not know this report",
    ),
    (says(b"\x15\x03\x03\0\x02\x02\x46"), Access(), "wants TLS (--tls)"),
    (says(None, None), Access(), "closed the connection"),
    (says(None, b"\x81" * 24), Access(), "answers something that cannot be understood"),
]


@pytest.mark.parametrize(("answer_of", "access", "words"), REFUSALS)
def test_servers_that_do_not_tell(answer_of, access, words):
    with SmallServer(answer_of) as server, pytest.raises(AskError) as caught:
        ask_report("127.0.0.1", server.port, "replication", access)
    assert str(caught.value) == words


def test_half_an_answer():
    answer_of = says(b"STAT state in_s")
    with SmallServer(answer_of, closes=True) as server, pytest.raises(AskError) as caught:
        ask_report("127.0.0.1", server.port, "replication", Access())
    assert str(caught.value) == "broke off in the middle of its answer"


def test_nobody_is_there():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with pytest.raises(AskError, match=r"^connection refused$"):
        ask_report("127.0.0.1", port, "replication", Access())


@pytest.fixture(scope="module")
def authority() -> Authority:
    return new_authority()


def test_tls(authority):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(authority.chain_file, authority.key_file)
    trusting = Access(tls_context(authority.ca_file, None, None))
    with SmallServer(pymcd(), context) as server:
        assert ask_report("localhost", server.port, "replication", trusting) == STATE_OFF
        with pytest.raises(AskError, match="its certificate is not trusted"):
            ask_report(
                "localhost", server.port, "replication", Access(tls_context(None, None, None))
            )
    with SmallServer(pymcd()) as server, pytest.raises(AskError, match=r"^TLS failed: "):
        ask_report("localhost", server.port, "replication", trusting)


def test_tls_with_a_certificate_of_our_own(authority):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(authority.chain_file, authority.key_file)
    context.load_verify_locations(authority.ca_file)
    context.verify_mode = ssl.CERT_REQUIRED
    ours = tls_context(authority.ca_file, authority.chain_file, authority.key_file)
    with SmallServer(pymcd(), context) as server:
        assert ask_report("localhost", server.port, "replication", Access(ours)) == STATE_OFF


def test_files_that_cannot_be_used(tmp_path):
    with pytest.raises(FileNotFoundError):
        tls_context(str(tmp_path / "none"), None, None)


def test_addresses():
    words = ["a", "a:5", "::1", "[::1]", "[::1]:5", "./x", "/x:5", "unix:/x"]
    got = [parse_address(word) for word in words]
    assert got == [
        ("a", 11211), ("a", 5), ("::1", 11211), ("::1", 11211), ("::1", 5),
        ("./x", 0), ("/x:5", 0), ("/x", 0),
    ]  # fmt: skip
    assert [str(place) for place in got[3:7]] == ["[::1]:11211", "[::1]:5", "./x", "/x:5"]


@pytest.mark.parametrize("word", ["", ":5", "a:x", "a:0", "a:65536", "[::1]:x"])
def test_no_addresses(word):
    with pytest.raises(ValueError, match=f"^no address: {re.escape(word) or 'an empty word'}"):
        parse_address(word)
