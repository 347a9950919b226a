"""Password files, and strangers who stay too long."""

from __future__ import annotations

import os
import struct
import threading
import time
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing

from pymcd import auth
from pymcd.config import Settings
from pymcd.exits import ConfigError
from pymcd.server import credentials
from pymcd.server.credentials import PeerSecrets, SaslUsers, TextUsers, sasl_authenticator
from pymcd.server.serving import Server

from ..protocol import binary_client
from .helpers import Memory, TrioClock, ask, read_all, serving

#: More than is read at once.
VALUE_BYTES = 300_000


def test_sasl_users_are_read_each_time(tmp_path):
    path = tmp_path / "users"
    said: list[str] = []
    users = SaslUsers(str(path), said.append)
    assert not users.read()
    assert not users.read()
    path.write_bytes(b"a:b\n")
    assert users.read().find(b"a")
    path.write_bytes(b"c:d\n")
    assert users.read().find(b"c")
    assert not users.read().find(b"a")
    path.unlink()
    assert not users.read()
    missing = f"cannot read the password file {path}: No such file or directory"
    assert said == [missing, missing]


def test_text_users_are_kept_when_the_new_file_is_of_no_use(tmp_path):
    path = tmp_path / "users"
    said: list[str] = []
    path.write_bytes(b"a:b\n")
    users = TextUsers(str(path), said.append)
    path.write_bytes(b"c:d\n")
    assert users.read().find(b"a")
    assert not users.read().find(b"c")
    users.reload()
    assert users.read().find(b"c")
    assert not users.read().find(b"a")
    path.write_bytes(b"secretive\n")
    users.reload()
    path.write_bytes(b"")
    users.reload()
    path.unlink()
    users.reload()
    path.mkdir()
    users.reload()
    assert users.read().find(b"c")
    malformed = f"Authfile [{path}] has a malformed entry. Should be 'user:password'"
    unreadable = f"Could not open authfile [{path}] for reading, error"
    assert said == [
        f"{problem}; the users in use stay"
        for problem in (
            malformed,
            malformed,
            f"{unreadable} No such file or directory",
            f"{unreadable} Is a directory",
        )
    ]


LONG, LONGER, SHORT = b"0123456789abcdef", b"0123456789abcdefg", b"word"


@pytest.mark.parametrize(
    ("content", "secrets"),
    [
        (LONG, [LONG]),
        (b" " + LONG + b"\t\r\n", [LONG]),
        (LONG + b"\n" + LONGER + b"\n", [LONG, LONGER]),
        (b"\n\n" + LONG + b"\r\n \n\t" + LONGER + b" ", [LONG, LONGER]),
        (b"two words of\ttext\n" + LONG, [b"two words of\ttext", LONG]),
        ("ein W\u00f6rtchen\n".encode() + LONG, ["ein W\u00f6rtchen".encode(), LONG]),
        # What chance made has line ends anywhere.
        (bytes(range(128, 160)) + b"\n\x01", [bytes(range(128, 160)) + b"\n\x01"]),
        (LONG + b"\n\0", [LONG + b"\n\0"]),
    ],
)
def test_lines_are_secrets(content, secrets, tmp_path):
    path = tmp_path / "secret"
    path.write_bytes(content)
    assert PeerSecrets(str(path), lambda line: None).secrets == secrets


def test_secrets_are_kept_when_the_new_file_is_of_no_use(tmp_path, monkeypatch):
    path = tmp_path / "secret"
    said: list[str] = []
    path.write_bytes(LONG)
    path.chmod(0o600)
    monkeypatch.chdir(tmp_path)
    secrets = PeerSecrets("secret", said.append)
    monkeypatch.chdir("/")
    path.write_bytes(LONGER + b"\n" + LONG)
    assert secrets.secrets == [LONG]
    secrets.reload()
    assert secrets.secrets == [LONGER, LONG]
    assert said == []
    for content in (b"", b"\n \n", b"x" * 5000, b"0123456789abcdef\n" * 9):
        path.write_bytes(content)
        secrets.reload()
    path.unlink()
    secrets.reload()
    path.mkdir()
    secrets.reload()
    assert secrets.secrets == [LONGER, LONG]
    assert said == [
        f"{problem}; the secrets in use stay"
        for problem in (
            f"Secret file [{path}] is empty",
            f"Secret file [{path}] is empty",
            f"Secret file [{path}] is longer than 4096 bytes",
            f"Secret file [{path}] has more than 8 lines",
            f"Could not open secret file [{path}]: No such file or directory",
            f"Could not open secret file [{path}]: Is a directory",
        )
    ]
    path.rmdir()
    path.write_bytes(SHORT)
    path.chmod(0o600)
    secrets.reload()
    assert secrets.secrets == [SHORT]
    assert said[6:] == [
        f"warning: secret in [{path}] is short enough to be guessed: use 16 bytes or more"
    ]
    with pytest.raises(ConfigError):
        PeerSecrets(str(tmp_path / "none"), said.append)


def test_a_file_is_read_once_for_each_change(tmp_path, monkeypatch):
    path = tmp_path / "users"
    now_ns = time.time_ns() + 10**9
    reads: list[str] = []

    def read(path: str) -> bytes:
        reads.append(path)
        return Path(path).read_bytes()

    monkeypatch.setattr(credentials, "_contents", read)
    users = SaslUsers(str(path), lambda line: None, lambda: now_ns)
    for number in range(3):
        path.write_bytes(b"a:%d\n" % number)
        os.utime(path, ns=(number, number))
        for _ in range(5):
            assert users.read().find(b"a")[0].passwords == (b"%d" % number,)
        assert len(reads) == number + 1


def test_a_file_is_read_before_anybody_logs_in(tmp_path, monkeypatch):
    # A long one takes its time, and the first client would hold up all others.
    path = tmp_path / "users"
    path.write_bytes(b"a:b\n")
    os.utime(path, ns=(1, 1))
    reads: list[str] = []

    def read(path: str) -> bytes:
        reads.append(path)
        return Path(path).read_bytes()

    monkeypatch.setattr(credentials, "_contents", read)
    said: list[str] = []
    authenticator = credentials.sasl_authenticator(
        said.append, {"MEMCACHED_SASL_PWDB": str(path), "SASL_CONF_PATH": str(tmp_path)}
    )
    assert reads.count(str(path)) == 1
    assert authenticator.check(b"a", b"b")
    assert not said


def test_a_change_within_a_tick_is_seen(tmp_path):
    # The file's times and its size stay, as they do where its clock stands.
    path = tmp_path / "users"
    path.write_bytes(b"a:b\n")
    status = path.stat()
    users = SaslUsers(str(path), lambda line: None, lambda: status.st_ctime_ns)
    assert users.read().find(b"a")
    path.write_bytes(b"c:d\n")
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert users._state is None
    assert users.read().find(b"c")


def test_an_empty_sasl_file_lets_nobody_in_and_is_told(tmp_path):
    path = tmp_path / "users"
    said: list[str] = []
    users = SaslUsers(str(path), said.append)
    path.write_bytes(b"a:b\n")
    users.read()
    path.write_bytes(b"")
    assert not users.read()
    assert said == [f"the password file {path} names no user: nobody can log in"]


@pytest.mark.parametrize("data", [None, b"no entry\n", b""])
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
        noop = binary_client.request(binary_client.NOOP)
        assert (await ask(friend, noop, end=bytes(8)))[:2] == b"\x81\x0a"
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


def text_login(password: bytes) -> bytes:
    return b"set x 0 0 %d\r\na %b\r\n" % (len(password) + 2, password)


LOGINS = {
    "sasl": (login, binary_client.store(0x01, b"k", b"x" * VALUE_BYTES), b"failure.", b"\x81\x01"),
    "text": (
        text_login,
        b"set k 0 0 %d\r\n%b\r\n" % (VALUE_BYTES, b"x" * VALUE_BYTES),
        b"failure\r\n",
        b"STORED\r\nSTORED\r\n",
    ),
}


@pytest.mark.parametrize("use_hub", [True, False])
@pytest.mark.parametrize("way", LOGINS)
async def test_looks_at_hashed_passwords_are_had_in_one_thread(tmp_path, monkeypatch, way, use_hub):
    make, behind, failure, end = LOGINS[way]
    path = tmp_path / "users"
    path.write_bytes(b"a:" + auth.encode_hashed(b"b", b"0123456789abcdef") + b"\n")
    monkeypatch.setenv("MEMCACHED_SASL_PWDB", str(path))
    settings: dict[str, Any] = {"auth_file": str(path), "protocol": "ascii"}
    if way == "sasl":
        settings = {"enable_sasl": True, "protocol": "binary"}
    derive_keys, busy, threads = auth.derive_keys, [0], set()

    def watch(*arguments):
        threads.add(threading.current_thread() is threading.main_thread())
        busy[0] += 1
        try:
            assert busy[0] == 1
            return derive_keys(*arguments)
        finally:
            busy[0] -= 1

    monkeypatch.setattr(auth, "derive_keys", watch)
    async with serving(use_hub=use_hub, **settings) as server, trio.open_nursery() as nursery:

        async def try_it(password: bytes, more: bytes, end: bytes) -> None:
            stream = await server.connect()
            answer = b""
            async with trio.open_nursery() as sending:
                # More than is read at once, behind what is being looked at.
                sending.start_soon(stream.send_all, make(password) + more)
                while end not in answer:
                    answer += await stream.receive_some(65536)

        for _ in range(3):
            nursery.start_soon(try_it, b"wrong", b"", failure)
            nursery.start_soon(try_it, b"b", behind, end)
    assert threads == {False}


async def test_work_that_fails_costs_one_connection(tmp_path, monkeypatch):
    path = tmp_path / "users"
    path.write_bytes(b"a:" + auth.encode_hashed(b"b", b"0123456789abcdef") + b"\n")

    def fail(*arguments):
        raise MemoryError

    monkeypatch.setattr(auth, "derive_keys", fail)
    async with serving(auth_file=str(path), protocol="ascii") as server:
        stream = await server.connect()
        assert await ask(stream, text_login(b"b")) == b""
        assert (
            await ask(await server.connect(), b"get k\r\n") == b"CLIENT_ERROR unauthenticated\r\n"
        )
