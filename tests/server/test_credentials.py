"""Password files, and strangers who stay too long."""

from __future__ import annotations

import struct

import pytest
import trio
import trio.testing

from pymcd.config import ConfigError, Settings
from pymcd.server import credentials
from pymcd.server.credentials import SaslUsers, TextUsers, sasl_authenticator
from pymcd.server.serving import Server

from .helpers import Memory, TrioClock, ask, read_all, serving


def test_sasl_users_are_read_each_time(tmp_path):
    path = tmp_path / "users"
    said: list[str] = []
    users = SaslUsers(str(path), said.append)
    assert users.read() == users.read() == []
    path.write_bytes(b"a:b\n")
    assert [user.name for user in users.read()] == [b"a"]
    path.write_bytes(b"c:d\n")
    assert [user.name for user in users.read()] == [b"c"]
    path.unlink()
    assert users.read() == []
    missing = f"cannot read the password file {path}: No such file or directory"
    assert said == [missing, missing]


def test_text_users_are_kept_when_the_new_file_is_of_no_use(tmp_path):
    path = tmp_path / "users"
    said: list[str] = []
    path.write_bytes(b"a:b\n")
    users = TextUsers(str(path), said.append)
    path.write_bytes(b"c:d\n")
    assert [user.name for user in users.read()] == [b"a"]
    users.reload()
    assert [user.name for user in users.read()] == [b"c"]
    path.write_bytes(b"secretive\n")
    users.reload()
    path.unlink()
    users.reload()
    assert [user.name for user in users.read()] == [b"c"]
    assert said == [
        f"Authfile [{path}] has a malformed entry. Should be 'user:password'",
        f"Could not open authfile [{path}] for reading, error No such file or directory",
    ]


@pytest.mark.parametrize("data", [None, b"no entry\n"])
def test_a_server_does_not_start_without_its_text_users(tmp_path, data):
    path = tmp_path / "users"
    if data is not None:
        path.write_bytes(data)
    settings = Settings(auth_file=str(path), protocol="ascii")
    with pytest.raises(ConfigError, match=str(path)):
        Server(settings, log=Memory())  # type: ignore[arg-type]


def test_mechanisms_are_configured_by_file_or_folder(tmp_path, monkeypatch):
    users = tmp_path / "users"
    users.write_bytes(b"a:b\n")
    (tmp_path / "memcached.conf").write_text("mech_list: plain cram-md5\n")
    said: list[str] = []

    def mechanisms(**environment: str) -> list[str]:
        environment["MEMCACHED_SASL_PWDB"] = str(users)
        return sasl_authenticator(said.append, environment).mechanisms()

    assert mechanisms(SASL_CONF_PATH=str(tmp_path)) == ["PLAIN", "CRAM-MD5"]
    assert mechanisms(SASL_CONF_PATH=str(tmp_path / "memcached.conf")) == ["PLAIN", "CRAM-MD5"]
    assert len(mechanisms(SASL_CONF_PATH=str(tmp_path / "none"))) == 5
    monkeypatch.setattr(credentials, "CONFIGURATION_PLACES", (str(tmp_path),))
    assert mechanisms() == ["PLAIN", "CRAM-MD5"]
    assert said == []


def test_without_a_password_file_nobody_can_log_in():
    said: list[str] = []
    authenticator = sasl_authenticator(said.append, {})
    assert said == ["warning: MEMCACHED_SASL_PWDB names no password file: nobody can log in"]
    assert not authenticator.check(b"", b"")


@pytest.mark.parametrize("use_hub", [True, False])
async def test_text_login_and_reload(tmp_path, use_hub):
    path = tmp_path / "users"
    path.write_bytes(b"a:b\n")
    async with serving(auth_file=str(path), protocol="ascii", use_hub=use_hub) as server:
        one, two = await server.connect(), await server.connect()
        assert await ask(one, b"get k\r\n") == b"CLIENT_ERROR unauthenticated\r\n"
        assert await ask(one, b"set x 0 0 3\r\na b\r\nget k\r\n", end=b"END\r\n") == (
            b"STORED\r\nEND\r\n"
        )
        path.write_bytes(b"c:d\n")
        server.reload()
        failure = b"CLIENT_ERROR authentication failure\r\n"
        assert await ask(two, b"set x 0 0 3\r\na b\r\n") == failure
        assert await ask(two, b"set x 0 0 3\r\nc d\r\n") == b"STORED\r\n"
        assert await ask(one, b"get k\r\n") == b"END\r\n"


def login(password: bytes) -> bytes:
    body = b"PLAIN\0a\0" + password
    return struct.pack(">BBHIIIQ", 0x80, 0x21, 5, 0, len(body), 0, 0) + body


@pytest.mark.parametrize("use_hub", [True, False])
async def test_strangers_are_closed(tmp_path, use_hub, monkeypatch, autojump_clock):
    path = tmp_path / "users"
    path.write_bytes(b"a:b\n")
    monkeypatch.setenv("MEMCACHED_SASL_PWDB", str(path))
    async with serving(
        enable_sasl=True,
        protocol="binary",
        login_timeout_s=30,
        use_hub=use_hub,
        clock=TrioClock(),
    ) as server:
        stranger, friend = await server.connect(), await server.connect()
        assert (await ask(friend, login(b"b"), end=b"Authenticated"))[6:8] == b"\0\0"
        assert (await ask(stranger, login(b"x"), end=b"failure."))[6:8] == b"\0\x20"
        began = trio.current_time()
        assert await read_all(stranger) == b""
        assert 29 <= trio.current_time() - began <= 33
        await trio.sleep(100)
        assert (await ask(friend, login(b"b"), end=b"Authenticated"))[6:8] == b"\0\0"
        late = await server.connect()
        began = trio.current_time()
        assert await read_all(late) == b""
        assert 29 <= trio.current_time() - began <= 62


async def test_a_failure_is_answered_late(tmp_path, monkeypatch, autojump_clock):
    path = tmp_path / "users"
    path.write_bytes(b"a:b\n")
    monkeypatch.setenv("MEMCACHED_SASL_PWDB", str(path))
    async with serving(
        enable_sasl=True, protocol="binary", login_failure_delay_s=5, clock=TrioClock()
    ) as server:
        stream = await server.connect()
        began = trio.current_time()
        answer = await ask(stream, login(b"x") + login(b"b"), end=b"Authenticated")
        assert b"Auth failure." in answer
        assert trio.current_time() - began == pytest.approx(5)
