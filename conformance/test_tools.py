"""The tools that come with memcached and libmemcached work on pymcd as they do on memcached."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from .conftest import Servers
    from .servers import Server

TOOL_PATHS = (
    "/usr/share/memcached/scripts/memcached-tool",
    "/usr/bin/memcached-tool",
    "/usr/local/bin/memcached-tool",
)
TOOL_TIMEOUT_S = 100.0
MEMCASLAP_OPERATIONS = 20_000

ITEMS = b"".join(
    b"set key%d 0 0 %d\r\n%s\r\n" % (number, size, b"x" * size)
    for number, size in enumerate((1, 10, 100, 1000, 1000, 5000))
)


def _program(name: str) -> str:
    found = shutil.which(name)
    if found is None:
        pytest.skip(f"{name} is not installed")
    return found


@pytest.fixture
def memcached_tool() -> str:
    for path in TOOL_PATHS:
        if Path(path).exists():
            _program("perl")
            return path
    pytest.skip("memcached-tool is not installed")


def _run(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command,
        capture_output=True,
        text=True,
        timeout=TOOL_TIMEOUT_S,
        check=False,
        stdin=subprocess.DEVNULL,
    )


def _fill(server: Server) -> None:
    with server.connect() as stream:
        stream.sendall(ITEMS + b"get key0\r\nget none\r\nquit\r\n")
        while stream.recv(65536):
            pass


def _capabilities(server: Server, *options: str) -> dict[str, str]:
    done = _run(_program("memccapable"), "-h", "127.0.0.1", "-p", str(server.port), *options)
    return dict(re.findall(r"^(.+?)\s+\[(pass|FAIL|\w+)\]", done.stdout, re.MULTILINE))


@pytest.mark.parametrize("protocol", ["-a", "-b"])
def test_memccapable(
    protocol: str, servers: Servers, reference: tuple[str, ...], subject: tuple[str, ...]
) -> None:
    real, ours = (
        _capabilities(servers.get(command, (), fresh=True), protocol)
        for command in (reference, subject)
    )
    assert real
    assert [name for name, result in real.items() if result == "pass" != ours.get(name)] == []


def test_memcaslap_verifies_everything(servers: Servers, subject: tuple[str, ...]) -> None:
    server = servers.get(subject, ("-m", "256"), fresh=True)
    done = _run(
        _program("memcaslap"),
        "-s",
        f"127.0.0.1:{server.port}",
        "-T",
        "1",
        "-c",
        "16",
        "-x",
        str(MEMCASLAP_OPERATIONS),
        "-v",
        "1.0",
    )
    figures = dict(re.findall(r"^(\w+): (\d+)$", done.stdout, re.MULTILINE))
    assert int(figures["cmd_get"]) + int(figures["cmd_set"]) >= MEMCASLAP_OPERATIONS
    assert (figures["verify_misses"], figures["verify_failed"]) == ("0", "0")
    assert server.running


def _shape(text: str) -> str:
    """Hide the numbers that tell of the moment, and the spaces that align them."""
    text = re.sub(r"(?m)^#.*$", "#", text)
    return re.sub(r"[ \t]+", " ", text).strip()


@pytest.mark.parametrize("mode", ["display", "sizes", "dump", "keys"])
def test_memcached_tool(
    servers: Servers,
    reference: tuple[str, ...],
    subject: tuple[str, ...],
    memcached_tool: str,
    mode: str,
) -> None:
    outputs = []
    for command in (reference, subject):
        # The maintainer starts crawls of its own, during which a dump is refused.
        server = servers.get(command, ("-o", "no_lru_maintainer,track_sizes"), fresh=True)
        _fill(server)
        done = _run(memcached_tool, f"127.0.0.1:{server.port}", mode)
        assert done.returncode == 0, done.stderr
        lines = _shape(done.stdout).splitlines()
        if mode in ("keys", "dump"):
            # la, cas and the order belong to the server; which keys there are does not. The tool
            # takes the blank from the end of its first line.
            lines = sorted(re.sub(r"(la|cas)=\d+", r"\1=*", line.rstrip()) for line in lines)
        if mode == "display":
            lines = [re.sub(r" \d+s ", " *s ", line) for line in lines]
        outputs.append(lines)
    assert outputs[0]
    assert outputs[1] == outputs[0]


@pytest.mark.parametrize("mode", ["stats", "settings"])
def test_memcached_tool_reports(
    servers: Servers,
    reference: tuple[str, ...],
    subject: tuple[str, ...],
    memcached_tool: str,
    mode: str,
) -> None:
    keys = []
    for command in (reference, subject):
        server = servers.get(command, (), fresh=True)
        _fill(server)
        done = _run(memcached_tool, f"127.0.0.1:{server.port}", mode)
        assert done.returncode == 0, done.stderr
        keys.append([line.split()[0] for line in done.stdout.splitlines()[2:]])
    assert keys[0]
    assert keys[1] == keys[0]


@pytest.mark.parametrize(
    "command",
    [
        "memcstat --servers={address}",
        "memcping --servers={address}",
        "memcflush --servers={address}",
        "memccat --servers={address} key3",
        "memcrm --servers={address} key2 none",
        "memcexist --servers={address} key1",
        "memctouch --servers={address} key1",
        "memcdump --servers={address}",
    ],
    ids=lambda command: command.split()[0],
)
def test_libmemcached_tools(
    servers: Servers, reference: tuple[str, ...], subject: tuple[str, ...], command: str
) -> None:
    name, *arguments = command.split()
    results = []
    for program in (reference, subject):
        server = servers.get(program, ("-o", "no_lru_maintainer"), fresh=True)
        _fill(server)
        done = _run(_program(name), *(each.format(address=server.address) for each in arguments))
        output = sorted(done.stdout.replace(str(server.port), "PORT").splitlines())
        if name == "memcstat":
            output = [re.sub(r":.*", "", line) for line in output]
        results.append((done.returncode, output))
    assert results[1] == results[0]
