"""A load over TLS, which memcaslap cannot make: many connections, one request at a time each.

The generator is Python and takes about as long for a request as memcached does, so the throughput
of the faster server may be the generator's, and that ratio flatters the slower one. CPU per
request does not depend on the generator: a server that is limited by its CPU has the inverse of
that ratio in throughput, so 2.5x is where 0.4x would be. Both are shown.

Certificates are made anew with trustme (extra `test`). Counters and CPU time are asked for over a
listener without TLS, so that asking is the same as in the other scenarios.
"""

from __future__ import annotations

import os
import random
import select
import socket
import ssl
import tempfile
import time
from dataclasses import dataclass
from itertools import cycle, islice
from pathlib import Path
from typing import TYPE_CHECKING

from .contenders import HOST, BenchError, Contender, Server, free_port
from .loads import Window, fill, requests
from .report import Row

if TYPE_CHECKING:
    from .loads import Request
    from .scenarios import Bench

KEYS = 1000
VALUE_BYTES = 1024
SET_SHARE = 0.1
PREPARED_REQUESTS = 20_000
WARM_UP_S = 0.3
TIMEOUT_S = 10.0
RECEIVE_BYTES = 65536
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
    return Server(contender.name, command, port)


def connect(port: int, context: ssl.SSLContext) -> ssl.SSLSocket:
    plain = socket.create_connection((HOST, port), timeout=TIMEOUT_S)
    plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    secured = context.wrap_socket(plain, server_hostname="localhost")
    secured.setblocking(False)
    return secured


def keep_busy(connections: list[ssl.SSLSocket], mix: list[Request], seconds: float) -> int:
    """Have each connection ask again as soon as it is answered; return how many were answered."""
    upcoming = cycle(mix)
    answered = 0
    poll = select.epoll()
    by_fd = {connection.fileno(): connection for connection in connections}
    missing_bytes: dict[int, int] = {}
    for fd, connection in by_fd.items():
        poll.register(fd, select.EPOLLIN)
        request, missing_bytes[fd] = next(upcoming)
        connection.send(request)
    deadline_s = time.perf_counter() + seconds
    while missing_bytes:
        is_over = time.perf_counter() > deadline_s
        ready = poll.poll(TIMEOUT_S)
        if not ready:
            raise BenchError("a request was not answered in time")
        for fd, _ in ready:
            connection = by_fd[fd]
            try:
                data = connection.recv(RECEIVE_BYTES)
            except ssl.SSLWantReadError:
                continue  # tickets, or half a record
            if not data:
                raise BenchError("the server closed a connection")
            missing_bytes[fd] -= len(data)
            if missing_bytes[fd] > 0:
                continue
            if missing_bytes[fd] < 0 or not data.endswith((b"END\r\n", b"STORED\r\n")):
                raise BenchError(f"a wrong answer, which ends in {data[-60:]!r}")
            answered += 1
            if is_over:
                del missing_bytes[fd]
            else:
                request, missing_bytes[fd] = next(upcoming)
                connection.send(request)
    poll.close()
    return answered


def run_tls_load(
    contender: Contender, identity: Identity, connections: int, window_s: float
) -> Window:
    """Load a fresh server and measure a window of the steady state."""
    tls_port = free_port()
    mix = list(islice(requests(KEYS, VALUE_BYTES, SET_SHARE, random.Random(1)), PREPARED_REQUESTS))
    with start(contender, identity, tls_port) as server:
        fill(server, KEYS, VALUE_BYTES)
        clients = [connect(tls_port, identity.context) for _ in range(connections)]
        try:
            keep_busy(clients, mix, WARM_UP_S)
            before, cpu_s, seconds = server.stats(), -server.cpu_s(), -time.perf_counter()
            operations = keep_busy(clients, mix, window_s)
            seconds += time.perf_counter()
            cpu_s += server.cpu_s()
            after = server.stats()
        finally:
            for client in clients:
                client.close()
    done = {name: after[name] - before[name] for name in ("cmd_get", "cmd_set", "get_misses")}
    if done["cmd_get"] + done["cmd_set"] != operations or done["get_misses"]:
        raise BenchError(f"{contender.name} counts {done}, the clients {operations}")
    return Window(seconds, operations, cpu_s)


def tls_load(
    bench: Bench,
    scenario: str,
    *,
    connections: int,
    version: ssl.TLSVersion,
    cpu_bar: float | None = None,
    throughput_bar: float | None = None,
) -> list[Row]:
    """CPU per request and throughput over TLS."""
    cpu = Row(scenario, "CPU per request", "us", bar=cpu_bar)
    throughput = Row(scenario, "requests per second", "/s", bar=throughput_bar, at_least=True)
    with tempfile.TemporaryDirectory() as folder:
        identity = make_identity(Path(folder), version)

        def measure(contender: Contender) -> Window:
            return run_tls_load(contender, identity, connections, 1.0 if bench.quick else 3.0)

        for ours, theirs in bench.paired(measure):
            cpu.add(ours.cpu_per_operation_us, theirs.cpu_per_operation_us)
            throughput.add(ours.operations_per_s, theirs.operations_per_s)
    return [cpu, throughput]
