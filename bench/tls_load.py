"""The clients of `clients`, over TLS, which memcaslap does not speak.

These clients take about as long for a request as memcached does, so the ratio of throughput
flatters the slower server. A server that is limited by its CPU has the inverse of the ratio of CPU
per request in throughput: 2.5x is where 0.4x would be. Both are shown.

Certificates are made anew with trustme (extra `test`). Keys are stored, counters and CPU time asked
for over a listener without TLS, so that this is the same as in the other scenarios.
"""

from __future__ import annotations

import os
import socket
import ssl
import tempfile
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from .contenders import HOST, REPLY_TIMEOUT_S, BenchError, Contender, Server, free_port
from .report import CpuRows, Row

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .clients import Clients
    from .runs import Bench, Pressure

MEMORY_LIMIT_MB = 1024


@dataclass(frozen=True, slots=True)
class Identity:
    """The files of a server's certificate, and a client's context that trusts it."""

    chain_file: Path
    key_file: Path
    context: ssl.SSLContext


def make_identity(folder: Path, version: ssl.TLSVersion) -> Identity:
    try:
        import trustme
    except ModuleNotFoundError:
        raise BenchError("certificates want trustme: pip install -e '.[test]'") from None
    authority = trustme.CA()
    certificate = authority.issue_cert("localhost", HOST)
    identity = Identity(
        folder / "chain.pem", folder / "key.pem", ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    )
    identity.chain_file.write_bytes(b"".join(pem.bytes() for pem in certificate.cert_chain_pems))
    certificate.private_key_pem.write_to_path(str(identity.key_file))
    # The server may give up root before it reads them again.
    folder.chmod(0o755)
    identity.key_file.chmod(0o644)
    authority.configure_trust(identity.context)
    identity.context.maximum_version = version
    return identity


def start(contender: Contender, identity: Identity, tls_port: int) -> Server:
    """Start a server with TLS on that port, and the plain one of the `Server` for questions."""
    port = free_port()
    command = [*contender.command, "-Z", "-p", str(tls_port), "-U", "0", "-t", "1"]
    command += ["-l", f"{HOST},notls:{HOST}:{port}", "-m", str(MEMORY_LIMIT_MB)]
    command += ["-o", f"ssl_chain_cert={identity.chain_file},ssl_key={identity.key_file}"]
    if os.geteuid() == 0:
        command += ["-u", "nobody"]
    return Server(str(contender), command, port, dict(contender.environment))


def connect(port: int, context: ssl.SSLContext) -> ssl.SSLSocket:
    plain = socket.create_connection((HOST, port), timeout=REPLY_TIMEOUT_S)
    plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return context.wrap_socket(plain, server_hostname="localhost")


def tls_load(
    bench: Bench,
    scenario: str,
    *,
    load: Clients,
    version: ssl.TLSVersion,
    cpu_bar: float | None = None,
    throughput_bar: float | None = None,
) -> list[Row]:
    """CPU per request and throughput over TLS."""
    cpu = CpuRows(scenario, "CPU per request", cpu_bar)
    throughput = Row(scenario, "requests per second", "/s", bar=throughput_bar, at_least=True)
    with tempfile.TemporaryDirectory() as folder:
        identity = make_identity(Path(folder), version)

        @contextmanager
        def press(contender: Contender) -> Iterator[Pressure]:
            tls_port = free_port()
            secured = partial(connect, tls_port, identity.context)
            with (
                start(contender, identity, tls_port) as server,
                load.on(server, secured) as pressure,
            ):
                yield pressure

        for ours, theirs in bench.steady(press):
            cpu.add(ours, theirs)
            throughput.add(ours.operations_per_s, theirs.operations_per_s)
    return [*cpu.rows, throughput]
