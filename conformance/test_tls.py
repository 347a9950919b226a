"""TLS: the conversations of the transcripts again, and what only TLS has."""

from __future__ import annotations

import re
import socket
import ssl
import struct
from typing import TYPE_CHECKING

import pytest

from .accepted import CRASHES, PENDING, accepted_for, named
from .conftest import Servers
from .conversation import encode, hold, recorded
from .servers import FOLLOWED, Server, StartError
from .test_transcripts import CASES
from .tls import HOST, Identity, Stream, TlsServer, shared_identity
from .transcripts import Packets

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .transcripts import Case

TIMEOUT_S = 20.0
#: Topics that are not of TCP; and one of what closes a connection: memcached may do that with a
#: client's farewell unread, and then the system takes back what it answered.
NOT_OVER_TLS = ("udp", "binary")
TLS_CASES = [
    case
    for case in CASES
    if case.topic not in NOT_OVER_TLS
    and "-s" not in case.switches
    and not any(isinstance(step, Packets) for step in case.steps)
]


class TlsServers(Servers):
    """Running servers which speak TLS."""

    make = TlsServer

    def expand(self, switches: tuple[str, ...]) -> tuple[str, ...]:  # type: ignore[override]
        return (*super().expand(switches), *shared_identity().switches())


@pytest.fixture(scope="module")
def tls_servers() -> Iterator[TlsServers]:
    kept = TlsServers()
    try:
        yield kept
    finally:
        kept.stop()


@pytest.mark.parametrize("case", TLS_CASES, ids=lambda case: f"{case} {' '.join(case.switches)}")
def test_transcript(
    case: Case,
    tls_servers: TlsServers,
    subject: tuple[str, ...],
    reference_or_none: tuple[str, ...] | None,
    reference_version: str,
    request: pytest.FixtureRequest,
) -> None:
    if named(case, PENDING):
        request.applymarker(pytest.mark.xfail(reason="not built yet", strict=True))
    got = hold(tls_servers.get(subject, case.switches, fresh=case.fresh), case)
    if reference_or_none is not None and reference_version == FOLLOWED and not named(case, CRASHES):
        real = hold(tls_servers.get(reference_or_none, case.switches, fresh=case.fresh), case)
        expected = [encode(each) for each in real]
    else:
        known: dict = recorded(case.topic)["answers"]  # type: ignore[assignment]
        expected = known[f"{case} {' '.join(case.switches)}".strip()]
    row = accepted_for(case)
    for number, answer in enumerate(got):
        if row is not None and number in row.answers:
            assert answer == row.answers[number], row.reason
        else:
            assert encode(answer) == expected[number]


def _ask(stream: Stream | socket.socket, request: bytes, ending: bytes = b"\r\n") -> bytes:
    stream.sendall(request)
    answer = b""
    while not answer.endswith(ending):
        chunk = stream.recv(65536)
        if not chunk:
            return answer + b"<closed>"
        answer += chunk
    return answer


def _secured(port: int, context: ssl.SSLContext) -> Stream:
    return Stream(socket.create_connection(("127.0.0.1", port), timeout=TIMEOUT_S), context)


def _server(command: tuple[str, ...], identity: Identity, *switches: str) -> Server:
    return Server(command, (*identity.switches(), *switches))


def _rows(stream: Stream, report: bytes) -> dict[str, str]:
    lines = _ask(stream, report + b"\r\n", b"END\r\n").decode().splitlines()
    return dict(line.split(" ", 2)[1:] for line in lines if line.startswith("STAT "))


def test_settings(reference: tuple[str, ...], subject: tuple[str, ...]) -> None:
    identity = Identity()
    switches = [
        "-o",
        f"ssl_ca_cert={identity.ca_file},ssl_verify_mode=1,ssl_wbuf_size=64",
        "-o",
        "ssl_session_cache,ssl_min_version=3,ssl_ciphers=ECDHE+AESGCM",
    ]
    seen = []
    for command in (reference, subject):
        with (
            _server(command, identity, *switches) as server,
            _secured(server.port, identity.client()) as stream,
        ):
            rows = _rows(stream, b"stats settings")
        seen.append({name: value for name, value in rows.items() if name.startswith("ssl_")})
    assert seen[1] == seen[0]
    assert len(seen[1]) == 11


@pytest.mark.parametrize("cached", [False, True])
def test_statistics(reference: tuple[str, ...], subject: tuple[str, ...], cached: bool) -> None:
    identity = Identity()
    seen = []
    for command in (reference, subject):
        switches = ("-o", "ssl_session_cache") if cached else ()
        with (
            _server(command, identity, *switches) as server,
            _secured(server.port, identity.client()) as stream,
        ):
            rows = _rows(stream, b"stats")
        # memcached begins to count its seconds at 62.
        assert int(rows.pop("time_since_server_cert_refresh")) < 100
        seen.append([(name, rows[name]) for name in rows if name.startswith("ssl_")])
    assert seen[1] == seen[0]
    assert bool(dict(seen[1]).get("ssl_new_sessions")) is cached


#: What a client says behind its TCP connection, or its handshake, and how it goes.
ENDS = {
    "gone": (False, b"", False),
    "cut off": (False, b"", True),
    "no TLS": (False, b"get k\r\n", False),
    "gone later": (True, b"", False),
    "cut off later": (True, b"", True),
    "garbage later": (True, b"\x17\x03\x03\x00\x20" + b"x" * 32, False),
}


@pytest.mark.parametrize("end", ENDS)
def test_what_watchers_are_told(
    followed: tuple[str, ...], subject: tuple[str, ...], end: str
) -> None:
    introduced, said, cut = ENDS[end]
    identity = Identity()
    seen = []
    for command in (followed, subject):
        with (
            _server(command, identity, "-t", "1") as server,
            _secured(server.port, identity.client()) as watcher,
        ):
            assert _ask(watcher, b"watch connevents\r\n") == b"OK\r\n"
            with socket.create_connection((HOST, server.port), TIMEOUT_S) as client:
                # What comes with the connection memcached looks at earlier than what follows.
                told = _ask(watcher, b"", b"\n")
                if introduced:
                    secured = identity.client().wrap_socket(client, server_hostname=HOST)
                    secured.sendall(b"version\r\n")
                    secured.recv(100)
                    client = socket.socket(fileno=secured.detach())
                client.sendall(said)
                if cut:
                    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                if not said:
                    client.close()
                while b"type=conn_close" not in told:
                    told += _ask(watcher, b"", b"\n")
                client.close()
            seen.append(re.sub(rb"(ts|gid|rport|c?fd)=[\d.]+", b"", told))
    assert seen[1] == seen[0]


@pytest.mark.parametrize("mode", [0, 1, 2, 3])
@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_client_certificates(
    reference: tuple[str, ...], subject: tuple[str, ...], mode: int, version: ssl.TLSVersion
) -> None:
    identity, stranger = Identity(), Identity()
    seen = []
    for command in (reference, subject):
        verify = ("-o", f"ssl_verify_mode={mode},ssl_ca_cert={identity.ca_file}")
        with _server(command, identity, *verify) as server:
            answers = []
            for issuer in (None, identity, stranger):
                certificate = issuer.ca.issue_cert("someone@example.org") if issuer else None
                context = identity.client(
                    certificate, minimum_version=version, maximum_version=version
                )
                try:
                    with _secured(server.port, context) as stream:
                        answers.append(_ask(stream, b"version\r\n"))
                except (ssl.SSLError, ConnectionError):
                    answers.append(b"refused")
        seen.append([b"refused" if each == b"<closed>" else each for each in answers])
    assert seen[1] == seen[0]


@pytest.mark.parametrize(
    ("least", "version", "welcome"),
    [
        (2, ssl.TLSVersion.TLSv1_2, True),
        (2, ssl.TLSVersion.TLSv1_3, True),
        (3, ssl.TLSVersion.TLSv1_2, False),
        (3, ssl.TLSVersion.TLSv1_3, True),
    ],
)
def test_least_version(
    reference: tuple[str, ...],
    subject: tuple[str, ...],
    least: int,
    version: ssl.TLSVersion,
    welcome: bool,
) -> None:
    identity = Identity()
    context = identity.client(minimum_version=version, maximum_version=version)
    for command in (reference, subject):
        with _server(command, identity, "-o", f"ssl_min_version={least}") as server:
            try:
                with _secured(server.port, context) as stream:
                    assert _ask(stream, b"version\r\n").startswith(b"VERSION")
                    assert welcome
            except (ssl.SSLError, ConnectionError):
                assert not welcome


def test_new_certificates(reference: tuple[str, ...], subject: tuple[str, ...]) -> None:
    for command in (reference, subject):
        identity = Identity()
        context = identity.client()
        with _server(command, identity) as server, _secured(server.port, context) as old:
            before = old.tls.getpeercert(binary_form=True)
            identity.issue()
            with _secured(server.port, context) as same:
                assert same.tls.getpeercert(binary_form=True) == before
            assert _ask(old, b"refresh_certs\r\n") == b"OK\r\n"
            with _secured(server.port, context) as new:
                assert new.tls.getpeercert(binary_form=True) != before
            assert _ask(old, b"refresh_certs noreply\r\nversion\r\n").startswith(b"VERSION")
            with open(identity.chain_file, "w") as file:
                file.write("broken")
            answer = _ask(old, b"refresh_certs\r\n")
            wanted = f"Error loading the certificate chain: {identity.chain_file} : "
            assert answer.startswith(wanted.encode())
            assert _ask(old, b"version\r\n").startswith(b"VERSION")


def test_a_plain_listener_beside(reference: tuple[str, ...], subject: tuple[str, ...]) -> None:
    identity = Identity()
    for command in (reference, subject):
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        # The first listener is that of `Server`.
        with (
            _server(command, identity, "-l", f"notls:127.0.0.1:{port}") as server,
            _secured(server.port, identity.client()) as secured,
            socket.create_connection(("127.0.0.1", port), timeout=TIMEOUT_S) as plain,
        ):
            assert _ask(secured, b"set a 0 0 1\r\nx\r\n") == b"STORED\r\n"
            assert _ask(plain, b"get a\r\n", b"END\r\n") == b"VALUE a 0 1\r\nx\r\nEND\r\n"


def test_a_client_without_tls_is_closed(
    reference: tuple[str, ...], subject: tuple[str, ...]
) -> None:
    identity = Identity()
    for command in (reference, subject):
        with _server(command, identity) as server:
            with socket.create_connection(("127.0.0.1", server.port), timeout=TIMEOUT_S) as plain:
                try:
                    assert b"VERSION" not in _ask(plain, b"version\r\n", b"VERSION")
                except ConnectionResetError:
                    pass  # memcached closes with what it had not read
            with _secured(server.port, identity.client()) as stream:
                assert _ask(stream, b"version\r\n").startswith(b"VERSION")


REFUSED = [
    ("-Z", "certificate chain"),
    ("-Z -o ssl_chain_cert=/nonexistent,ssl_key={key}", "certificate chain: /nonexistent"),
    ("-Z -o ssl_chain_cert={chain},ssl_key=/nonexistent", "key: /nonexistent"),
    ("-Z -o ssl_chain_cert={chain},ssl_key={other}", "key: {other}"),
    ("-Z -o ssl_chain_cert={key},ssl_key={key}", "certificate chain: {key}"),
    ("-Z -o ssl_chain_cert={chain},ssl_key={key},ssl_keyformat=7", "key: {key}"),
    (
        "-Z -o ssl_chain_cert={chain},ssl_key={key},ssl_ca_cert=/nonexistent",
        "CA certificate: /nonexistent",
    ),
    ("-Z -o ssl_chain_cert={chain},ssl_key={key},ssl_ca_cert={key}", "CA certificate: {key}"),
]


@pytest.mark.parametrize(("words", "message"), REFUSED, ids=[row[0] for row in REFUSED])
def test_what_is_refused(
    reference: tuple[str, ...], subject: tuple[str, ...], words: str, message: str
) -> None:
    identity, other = Identity(), Identity()
    names = {"chain": identity.chain_file, "key": identity.key_file, "other": other.key_file}
    for command in (reference, subject):
        with pytest.raises(StartError) as caught, Server(command, words.format(**names).split()):
            pass
        said = str(caught.value)
        assert re.search(r": exit 64\n", said)
        assert f"Error loading the {message.format(**names)}" in said


def test_unknown_ciphers_are_refused(reference: tuple[str, ...], subject: tuple[str, ...]) -> None:
    identity = Identity()
    for command in (reference, subject):
        with pytest.raises(StartError, match="exit 64") as caught:
            _server(command, identity, "-o", "ssl_ciphers=NONSENSE").start()
        assert "Error setting the provided cipher(s): NONSENSE" in str(caught.value)
