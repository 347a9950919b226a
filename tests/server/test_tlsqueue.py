"""OpenSSL's queue of errors: what one client has done is not told of another."""

from __future__ import annotations

import ssl
import sys
from typing import TYPE_CHECKING

import pytest

from pymcd.server.tlsqueue import ForgettingObject, keep_apart

from .authority import HOST, shared_authority

if TYPE_CHECKING:
    from collections.abc import Callable


def server_context() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(shared_authority().chain_file, shared_authority().key_file)
    return context


class Pair:
    """Both ends of a connection, without a socket, after their handshake."""

    def __init__(self) -> None:
        bios = [ssl.MemoryBIO() for _ in range(2)]
        contexts = server_context(), shared_authority().client()
        for context in contexts:
            context.sslobject_class = ForgettingObject
        self.to_server, self.to_client = bios
        self.server = contexts[0].wrap_bio(self.to_server, self.to_client, server_side=True)
        self.client = contexts[1].wrap_bio(self.to_client, self.to_server, server_hostname=HOST)
        for _ in range(2):
            for end in (self.client, self.server):
                try:
                    end.do_handshake()
                except ssl.SSLWantReadError:
                    pass

    def spoil(self) -> None:
        """Have the server receive what the client has not sent."""
        self.client.write(b"hello")
        sealed = self.to_server.read()
        self.to_server.write(sealed[:-1] + bytes([sealed[-1] ^ 1]))


ENDS: dict[str, Callable[[Pair], object]] = {
    "read": lambda pair: pair.server.read(100),
    "unwrap": lambda pair: pair.server.unwrap(),
}


@pytest.mark.parametrize("end", ENDS)
def test_another_has_nothing_to_read_yet(end: str) -> None:
    bad, good = Pair(), Pair()
    good.client.write(b"hello")
    assert good.server.read(100) == b"hello"
    bad.spoil()
    with pytest.raises(ssl.SSLError, match=r"."):
        ENDS[end](bad)
    with pytest.raises(ssl.SSLWantReadError):
        good.server.read(100)
    good.client.write(b"again")
    into = bytearray(100)
    good.server.read(100, into)
    assert into[:5] == b"again"


def test_a_handshake_that_fails_harms_nobody() -> None:
    good = Pair()
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    context = server_context()
    context.sslobject_class = ForgettingObject
    stranger = context.wrap_bio(incoming, outgoing, server_side=True)
    incoming.write(b"get a\r\n" * 10)
    with pytest.raises(ssl.SSLError, match=r"."):
        stranger.do_handshake()
    with pytest.raises(ssl.SSLWantReadError):
        good.server.read(100)


def test_only_a_python_that_forgets_nothing_has_to_be_told(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, kind in (("cpython", ssl.SSLObject), ("pypy", ForgettingObject)):
        monkeypatch.setattr(sys.implementation, "name", name)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        assert keep_apart(context).sslobject_class is kind
