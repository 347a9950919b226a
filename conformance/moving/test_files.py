"""By a file, and by `--fill-from`: what comes over is what there was."""

from __future__ import annotations

import random
import re
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import unquote_to_bytes

import pytest

from conformance.servers import Server
from conformance.tls import HOST, TlsServer, shared_identity

if TYPE_CHECKING:
    import socket
    from pathlib import Path

NUMBER = 5000
#: Two clocks tick once a second each; a file knows whole seconds as well.
FILL_S, FILE_S = 1, 2

_LISTED = re.compile(rb"key=(\S+) exp=(-?\d+) ")
_FLAGS = re.compile(rb"VA \d+ f(\d+)")


class Item(NamedTuple):
    """What a server tells of an item."""

    value: bytes
    client_flags: int
    unix_end: int


def read_line(stream: socket.socket, buffer: bytearray) -> bytes:
    while (end := buffer.find(b"\n")) < 0:
        data = stream.recv(1 << 16)
        assert data, "the connection was closed"
        buffer += data
    line = bytes(buffer[: end + 1])
    del buffer[: end + 1]
    return line


def items_of(server: Server) -> dict[bytes, Item]:
    """Return all items, as a metadump and mg tell of them."""
    found: dict[bytes, Item] = {}
    ends: dict[bytes, int] = {}
    with server.connect() as stream:
        buffer = bytearray()
        stream.sendall(b"lru_crawler metadump all\r\n")
        while not (line := read_line(stream, buffer)).startswith(b"END"):
            listed = _LISTED.match(line)
            if listed is not None:
                ends[unquote_to_bytes(listed[1])] = int(listed[2])
    with server.connect() as stream:
        buffer = bytearray()
        for name, end in ends.items():
            key = b"AAEgAg== b" if name == b"\0\1 \2" else name
            stream.sendall(b"mg %b f v\r\n" % key)
            line = read_line(stream, buffer)
            flags = _FLAGS.match(line)
            assert flags is not None, line
            size = int(line.split()[1])
            while len(buffer) < size + 2:
                buffer += stream.recv(1 << 16)
            found[name] = Item(bytes(buffer[:size]), int(flags[1]), end)
            del buffer[: size + 2]
    return found


def put_items(server: Server) -> None:
    """Store items of many kinds."""
    choose = random.Random(1)
    pieces = [b"ms AAEgAg== 2 b F7\r\n\r\n\r\n"]
    for number in range(NUMBER):
        value = choose.randbytes(choose.choice([0, 10, 300, 2000]))
        exptime = choose.choice([0, 500, 86400, 2592000, int(time.time()) + 5_000_000])
        flags = choose.choice([0, 1, 2**32 - 1])
        head = b"set session:%d %d %d %d noreply\r\n" % (number, flags, exptime, len(value))
        pieces += [head, value, b"\r\n"]
    large = choose.randbytes(900_000)
    server.tell(b"".join([*pieces, b"set large 3 0 900000\r\n", large, b"\r\n"]))


def unlike(found: dict[bytes, Item], expected: dict[bytes, Item], most_s: int) -> list[bytes]:
    """Return the keys of which something is not as it should be."""
    wrong = []
    for key in found.keys() | expected.keys():
        here, there = found.get(key), expected.get(key)
        if (
            here is None
            or there is None
            or here[:2] != there[:2]
            or (here.unix_end == -1) != (there.unix_end == -1)
            or abs(here.unix_end - there.unix_end) > most_s
        ):
            wrong.append(key)
    return wrong


def run(*words: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "pymcd", *words], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


class Locked(TlsServer):
    """A server that wants TLS and a login."""

    def connect(self, timeout_s: float = 30.0) -> Any:
        stream = super().connect(timeout_s)
        stream.sendall(b"set login 0 0 10\r\nada secret\r\n")
        assert stream.recv(100) == b"STORED\r\n"
        return stream


@pytest.mark.parametrize("source", ["memcached", "pymcd"])
def test_a_server_that_wants_tls_and_a_login_is_filled_from(
    source, reference, subject, tmp_path: Path
):
    users = tmp_path / "users"
    users.write_text("ada:secret\n")
    # nobody has to get there; how deep it is depends on whether pytest has several processes.
    for folder in (tmp_path, *tmp_path.parents):
        if folder.stat().st_mode & 0o005 != 0o005:
            folder.chmod(0o755)
    identity = shared_identity()
    wants = (*identity.switches(), "-Y", str(users))
    with Locked(reference if source == "memcached" else subject, wants) as old:
        put_items(old)
        expected = items_of(old)
        has = ("--fill-from-login-file", str(users), "--fill-from-ca-file", identity.ca_file)
        with Server(subject, ["--fill-from", f"{HOST}:{old.port}", *has]) as new:
            until = time.monotonic() + 60
            while "done: " not in new.log():
                assert time.monotonic() < until, new.log()
                time.sleep(0.05)
            assert unlike(items_of(new), expected, FILL_S) == []


def test_by_files_to_pymcd_and_back(reference, subject, tmp_path: Path):
    with Server(reference) as old, Server(subject) as new, Server(reference) as back:
        put_items(old)
        expected = items_of(old)
        assert len(expected) == NUMBER + 2
        first, second = str(tmp_path / "first"), str(tmp_path / "second")
        run("dump", old.address, first)
        assert f"{NUMBER + 2:,} stored" in run("load", first, new.address)
        assert unlike(items_of(new), expected, FILE_S) == []
        run("dump", new.address, second)
        assert f"{NUMBER + 2:,} stored" in run("load", second, back.address)
        assert unlike(items_of(back), expected, 2 * FILE_S) == []
        assert f"{NUMBER + 2:,} there already" in run("load", second, back.address)


@pytest.mark.parametrize("source", ["memcached", "pymcd"])
def test_a_new_server_fills_itself(source, reference, subject):
    with Server(reference if source == "memcached" else subject) as old:
        put_items(old)
        expected = items_of(old)
        with Server(subject, ["--fill-from", old.address]) as new:
            changed = {b"session:%d" % number for number in range(200)}
            pieces = [b"set %b 5 0 3\r\nnew\r\n" % key for key in sorted(changed)[::2]]
            pieces += [b"delete %b\r\n" % key for key in sorted(changed)[1::2]]
            new.tell(b"".join(pieces))
            until = time.monotonic() + 60
            while "done: " not in new.log():
                assert time.monotonic() < until, new.log()
                time.sleep(0.05)
            found = items_of(new)
            for number, key in enumerate(sorted(changed)):
                item = found.pop(key, None)
                assert item == (None if number % 2 else Item(b"new", 5, -1))
                del expected[key]
            assert unlike(found, expected, FILL_S) == []
