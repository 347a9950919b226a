"""Run a client's program against both servers and compare what it says."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from .. import narrow
from ..servers import Server
from .catalog import ROOT

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .catalog import Client
    from .setups import Files

PROGRAM_TIMEOUT_S = 120


@dataclass(slots=True)
class Outcome:
    """What one program said of one server."""

    #: Name of a check: "ok", or "not ok" and why.
    checks: dict[str, str] = field(default_factory=dict)
    #: Name of an observation: what was seen.
    sights: dict[str, str] = field(default_factory=dict)
    #: Anything else it printed, and its exit code if that was not 0.
    noise: list[str] = field(default_factory=list)

    @property
    def passed(self) -> int:
        return sum(each == "ok" for each in self.checks.values())

    def failures(self) -> list[str]:
        """Return a line for each failed check."""
        failed = [f"{name}: {said}" for name, said in self.checks.items() if said != "ok"]
        return failed + [each for each in self.noise if each.startswith("exit ")]


def parse(text: str, code: int, port: int) -> Outcome:
    """Read a program's lines. The server's port is told as PORT: it differs from run to run."""
    outcome = Outcome()
    for line in re.sub(rf"\b{port}\b", "PORT", text).splitlines():
        kind, _, rest = line.partition(" ")
        if kind == "not" and rest.startswith("ok "):
            name, why = _split(rest[3:])
            outcome.checks[name] = f"not ok: {why}"
        elif kind == "ok":
            if outcome.checks.setdefault(rest, "ok") != "ok":
                outcome.noise.append(f"told twice: {rest}")
        elif kind == "saw":
            name, what = _split(rest)
            outcome.sights[name] = what
        elif line.strip():
            outcome.noise.append(line)
    if code:
        outcome.noise.append(f"exit {code}")
    return outcome


def _split(text: str) -> tuple[str, str]:
    """Split NAME: WHAT, where a name may begin with the name of a pass: `binary: NAME: WHAT`."""
    head, _, what = text.partition(": ")
    if " " not in head and ": " in what:
        name, _, what = what.partition(": ")
        return f"{head}: {name}", what
    return head, what


def run(client: Client, server: Server, setup: str, files: Files) -> Outcome:
    """Run a client's program against one server."""
    environment = os.environ | client.environment() | files.client_environment(setup, server.port)
    try:
        done = subprocess.run(
            client.command(),
            cwd=ROOT,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            timeout=PROGRAM_TIMEOUT_S,
            check=False,
        )
    except subprocess.TimeoutExpired as expired:
        said = expired.output or b""
        text = said if isinstance(said, str) else said.decode(errors="replace")
        return parse(text + "\nended: it took too long\n", 124, server.port)
    return parse(done.stdout, done.returncode, server.port)


def why_not(setup: str, files: Files) -> str:
    """Say why there can be no such setup here; nothing if there can."""
    if setup == "sasl" and not files.has_sasl_users:
        return "no saslpasswd2: install sasl2-bin and libsasl2-modules"
    return narrow.why_not() if setup == "narrow" else ""


def run_on(command: Sequence[str], client: Client, setup: str, files: Files) -> Outcome:
    """Run a client's program against a server of its own."""
    if setup == "narrow":
        with narrow.narrow() as there, Server([*there, *command], files.switches(setup)) as server:
            moved = replace(client, command=lambda: [*there, *client.command()])
            before = _connections(there, server)
            outcome = run(moved, server, setup, files)
            # A client that gets out of step, and knows it, makes a new one.
            outcome.sights["connections"] = str(_connections(there, server) - before)
            return outcome
    with Server(command, files.switches(setup), files.server_environment(setup)) as server:
        return run(client, server, setup, files)


def _connections(there: Sequence[str], server: Server) -> int:
    """Return how many connections were made to a server in a network namespace."""
    code = f"import socket; s = socket.create_connection(('127.0.0.1', {server.port})); "
    code += "s.sendall(b'stats\\r\\nquit\\r\\n'); print(s.makefile().read())"
    said = subprocess.check_output([*there, sys.executable, "-c", code], text=True)
    found = re.search(r"total_connections (\d+)", said)
    assert found is not None
    return int(found[1])


def differences(real: Outcome, ours: Outcome) -> list[str]:
    """Return a line for each check and sight that is not the same on both servers."""
    found = []
    for kind, theirs, mine in (
        ("check", real.checks, ours.checks),
        ("saw", real.sights, ours.sights),
    ):
        for name in [*theirs, *(each for each in mine if each not in theirs)]:
            left, right = theirs.get(name, "nothing"), mine.get(name, "nothing")
            if left != right:
                found.append(f"{kind} {name!r}: memcached {left!r}, pymcd {right!r}")
    if real.noise != ours.noise:
        found.append(f"also printed: memcached {real.noise}, pymcd {ours.noise}")
    return found
