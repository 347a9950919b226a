"""couchbase-client where values arrive packet by packet: those that are too large end nothing."""

from __future__ import annotations

import subprocess
from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest

from conformance import narrow
from conformance.servers import Server
from conformance.trial import free_port

from .install import CLIENTS, VERSIONS
from .worker import QUICK, USUAL

if TYPE_CHECKING:
    from collections.abc import Sequence

REASON = narrow.why_not() or next((why for each in CLIENTS.values() if (why := each.why_not())), "")
PATIENCE_S = 300


def _said(there: Sequence[str], version: str, port: int) -> list[str]:
    java = ["java", *QUICK, *(f"-D{k}={str(v).lower()}" for k, v in USUAL.items())]
    done = subprocess.run(
        [
            *there,
            *java,
            "-cp",
            CLIENTS[version].class_path,
            "Narrow",
            f"http://127.0.0.1:{port}/pools",
        ],
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout.splitlines()


def _try(version: str, server: Sequence[str], subject: Sequence[str]) -> list[str]:
    """Have the client work with a server that the bucket of `subject` names."""
    with narrow.narrow() as there, ExitStack() as running:
        bucket, clients = free_port(), free_port()
        switches = ["--couchbase", f"*:{bucket}", "-p", str(clients)]
        switches += ["--replication-listen", "127.0.0.1", "--replication-port", "-1"]
        switches += ["--couchbase-name", "127.0.0.1"]
        if server != subject:
            # It has the same port, at an address of its own.
            switches += ["--couchbase-name", "127.0.0.2"]
            other = Server([*there, *server], ("-p", str(clients)), listen=("-l", "127.0.0.2"))
            running.enter_context(other)
        running.enter_context(Server([*there, *subject], switches))
        return _said(there, version, bucket)


@pytest.mark.skipif(bool(REASON), reason=REASON)
@pytest.mark.slow
@pytest.mark.timeout(2 * PATIENCE_S)
@pytest.mark.parametrize("version", VERSIONS)
def test_values_that_are_too_large(
    version: str, subject: tuple[str, ...], reference_or_none: tuple[str, ...] | None
) -> None:
    said = _try(version, subject, subject)
    assert [line for line in said if line.startswith("not ok ")] == []
    assert len(said) == 13
    if reference_or_none is not None:
        assert said == _try(version, reference_or_none, subject)
